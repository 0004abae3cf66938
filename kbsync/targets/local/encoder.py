"""Vectors on demand: the embedder is loaded when the first text needs it, not when the target is opened."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.errors import Rejected, UsageError
from kbsync.targets.local import embed
from kbsync.targets.local.pieces import Chunk, Embedder
from kbsync.targets.vectors.settings import ServiceSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.targets.local.serving import ServiceEmbedder


class Encoder:
    """Makes vectors with the embedder of `type`: "builtin", "onnx" with the folder `path`, or a `service`."""

    def __init__(self, type: str, path: Path | None = None, service: ServiceSettings | None = None) -> None:
        """Raises `UsageError` for a type that is not known. Loads nothing and asks nobody."""
        if service is None and type not in ("builtin", "onnx"):
            raise UsageError(f"embedding.type: {type!r} is not known here; take builtin or onnx")
        if type == "onnx" and path is None:
            raise UsageError("embedding.path is missing: type onnx needs the folder of the model")
        self._path = path if type == "onnx" else None
        self._service = service
        self._serving: ServiceEmbedder | None = None
        self._embedder: Embedder | None = None
        self._name = service.identity if service else "" if self._path else embed.MODEL
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

    @property
    def takes_pictures(self) -> bool:
        """Pictures have vectors too."""
        return self._service is not None and self._service.takes_pictures

    def of(self, chunks: Sequence[Chunk]) -> Mapping[str, bytes]:
        """The float16 bytes of each chunk's vector, by key. Raises `Rejected` where one cannot be had."""
        made = self.try_of(chunks)
        for vector in made.values():
            if isinstance(vector, Rejected):
                raise vector
        return {key: vector for key, vector in made.items() if isinstance(vector, bytes)}

    def try_of(self, chunks: Sequence[Chunk]) -> Mapping[str, bytes | Rejected]:
        """As `of`, with the reason in the place of a vector that cannot be had."""
        distinct = {chunk.key: chunk for chunk in chunks}
        if self._service is not None:
            return dict(zip(distinct, self._served().try_embed(list(distinct.values())), strict=True))
        return self._made({key: chunk.embed_text for key, chunk in distinct.items()})

    def query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question, at length 1. Raises `TargetError` where a service does not give it."""
        return self._loaded().embed_query(text)

    def close(self) -> None:
        """Let go of the connections to a service."""
        if self._serving is not None:
            self._serving.close()

    def _made(self, texts: Mapping[str, str]) -> Mapping[str, bytes]:
        import numpy as np

        vectors = self._loaded().embed(list(texts.values())).astype(np.float16)
        return {key: vector.tobytes() for key, vector in zip(texts, vectors, strict=True)}

    def _loaded(self) -> Embedder:
        """The embedder, loaded once."""
        if self._service is not None:
            return self._served()
        with self._loading:
            if self._embedder is None:
                self._embedder = self._load()
            return self._embedder

    def _served(self) -> ServiceEmbedder:
        with self._loading:
            if self._serving is None:
                from kbsync.targets.local.serving import ServiceEmbedder

                assert self._service is not None
                self._serving = ServiceEmbedder(self._service)
            return self._serving

    def _load(self) -> Embedder:
        """Read the model's files."""
        if self._path is None:
            return embed.BuiltinEmbedder()
        from kbsync.targets.local.onnx import OnnxEmbedder

        return OnnxEmbedder(self._path)
