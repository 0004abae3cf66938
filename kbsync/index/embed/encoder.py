"""Vectors of one model, whoever makes them: a model on this machine, or a service that the caller brings."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kbsync.errors import Rejected
from kbsync.index.document import Chunk
from kbsync.index.embed import builtin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.index.embed.builtin import BuiltinEmbedder
    from kbsync.index.embed.onnx import OnnxEmbedder

Vectors = Mapping[str, bytes | Rejected]
"""The float16 bytes of vectors by the key of their chunk, or why a chunk can have none."""


class Encoder(Protocol):
    """Makes vectors of one model. `LocalEncoder` is one; those over a service live with their clients."""

    @property
    def model(self) -> str:
        """Names weights and version, without loading them: another name, another recipe."""

    @property
    def takes_pictures(self) -> bool:
        """Pictures have vectors too."""

    @property
    def at_once(self) -> int:
        """So many chunks are one request; more are begun in several."""

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Vectors under way. The result raises `TargetError` where the service itself is to blame."""

    def query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question, of length 1. Raises `TargetError` where a service does not give it."""

    def close(self) -> None:
        """Let go of connections."""


class LocalEncoder:
    """The built-in model, or the user's own in ONNX form; read when the first text needs it."""

    takes_pictures = False
    at_once = sys.maxsize

    def __init__(self, onnx: Path | None = None) -> None:
        """`onnx` is the folder of the user's own model."""
        self._onnx = onnx
        self._name = "" if onnx else builtin.MODEL
        self._model: BuiltinEmbedder | OnnxEmbedder | None = None
        self._loading = threading.Lock()

    @property
    def model(self) -> str:
        """Of the user's own model the name is a digest of its files, read when it is first asked for."""
        if not self._name and self._onnx:
            from kbsync.index.embed.onnx import model_name

            self._name = model_name(self._onnx)
        return self._name

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Vectors that are there when this returns. Raises `UsageError` where the model cannot be read."""
        import numpy as np

        # Half the bytes of float32 in the file.
        vectors = self._loaded().embed([each.embed_text for each in chunks]).astype(np.float16)
        made = Future[Vectors]()
        made.set_result({each.key: row.tobytes() for each, row in zip(chunks, vectors, strict=True)})
        return made

    def query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question, of length 1."""
        return self._loaded().embed_query(text)

    def close(self) -> None:
        """There is nothing to let go of."""

    def _loaded(self) -> BuiltinEmbedder | OnnxEmbedder:
        with self._loading:
            if self._model is None:
                if self._onnx is None:
                    self._model = builtin.shared()
                else:
                    from kbsync.index.embed.onnx import OnnxEmbedder

                    self._model = OnnxEmbedder(self._onnx)
            return self._model
