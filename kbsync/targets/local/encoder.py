"""Vectors on demand: the embedder is loaded when the first text needs it, not when the target is opened."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.errors import UsageError
from kbsync.targets.local import embed
from kbsync.targets.local.pieces import Chunk, Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder:
    """Makes vectors with the embedder of `type` ("builtin", or "onnx" with the folder `path`)."""

    def __init__(self, type: str, path: Path | None = None) -> None:
        """Raises `UsageError` for a type that is not known. Loads nothing."""
        if type not in ("builtin", "onnx"):
            raise UsageError(f"embedding.type: {type!r} is not known here; take builtin or onnx")
        if type == "onnx" and path is None:
            raise UsageError("embedding.path is missing: type onnx needs the folder of the model")
        self._path = path if type == "onnx" else None
        self._embedder: Embedder | None = None
        self._name = "" if self._path else embed.MODEL
        self._loading = threading.Lock()

    @property
    def model(self) -> str:
        """Names the model, without loading it."""
        if not self._name and self._path:
            from kbsync.targets.local.onnx import model_name

            self._name = model_name(self._path)
        return self._name

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._loaded().dimensions

    def of(self, chunks: Sequence[Chunk]) -> Mapping[str, bytes]:
        """The float16 bytes of each chunk's vector, by key."""
        import numpy as np

        texts = {chunk.key: chunk.embed_text for chunk in chunks}
        vectors = self._loaded().embed(list(texts.values())).astype(np.float16)
        return {key: vector.tobytes() for key, vector in zip(texts, vectors, strict=True)}

    def query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question, at length 1."""
        return self._loaded().embed_query(text)

    def _loaded(self) -> Embedder:
        """The embedder, loaded once."""
        with self._loading:
            if self._embedder is None:
                self._embedder = self._load()
            return self._embedder

    def _load(self) -> Embedder:
        """Read the model's files."""
        if self._path is None:
            return embed.BuiltinEmbedder()
        from kbsync.targets.local.onnx import OnnxEmbedder

        return OnnxEmbedder(self._path)
