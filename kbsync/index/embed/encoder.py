"""Vectors on demand: the embedder is loaded when the first text needs it, not when the target is opened."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kbsync.errors import Rejected, UsageError
from kbsync.index.document import Chunk, Embedder
from kbsync.index.embed import builtin
from kbsync.targets.services.dialects import ServiceSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.targets.services.blocking import ServiceEmbedder
    from kbsync.targets.services.embedding import Vectors


class Making(Protocol):
    """Vectors under way."""

    def result(self) -> Mapping[str, bytes | Rejected]:
        """The float16 bytes by key, or why there are none. Raises `TargetError` for the service itself."""

    def close(self) -> None:
        """Nobody wants them any more."""


class _Made:
    """Vectors that are there."""

    def __init__(self, vectors: Mapping[str, bytes]) -> None:
        self._vectors = vectors

    def result(self) -> Mapping[str, bytes | Rejected]:
        return self._vectors

    def close(self) -> None:
        pass


class _Asked:
    """Vectors that a service is asked for."""

    def __init__(self, keys: Sequence[str], answer: Future[Vectors]) -> None:
        self._keys, self._answer = keys, answer

    def result(self) -> Mapping[str, bytes | Rejected]:
        from kbsync.targets.services.blocking import packed

        return dict(zip(self._keys, packed(self._answer.result()), strict=True))

    def close(self) -> None:
        self._answer.cancel()


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
        self._name = service.identity if service else "" if self._path else builtin.MODEL
        self._loading = threading.Lock()

    @property
    def model(self) -> str:
        """Names the model, without loading it."""
        if not self._name and self._path:
            from kbsync.index.embed.onnx import model_name

            self._name = model_name(self._path)
        return self._name

    @property
    def takes_pictures(self) -> bool:
        """Pictures have vectors too."""
        return self._service is not None and self._service.takes_pictures

    @property
    def at_once(self) -> int:
        """So many chunks are one request to a service; without one, any number is."""
        return self._served().most_items if self._service is not None else sys.maxsize

    def of(self, chunks: Sequence[Chunk]) -> Mapping[str, bytes]:
        """The float16 bytes of each chunk's vector, by key. Raises `Rejected` where one cannot be had."""
        with closing(self.begin({chunk.key: chunk for chunk in chunks})) as making:
            made = making.result()
        for vector in made.values():
            if isinstance(vector, Rejected):
                raise vector
        return {key: vector for key, vector in made.items() if isinstance(vector, bytes)}

    def begin(self, chunks: Mapping[str, Chunk]) -> Making:
        """As `of`, with the reason in the place of a vector that cannot be had; a service is asked by now."""
        if self._service is not None:
            return _Asked(list(chunks), self._served().begin(list(chunks.values())))
        return _Made(self._made({key: chunk.embed_text for key, chunk in chunks.items()}))

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
                from kbsync.targets.services.blocking import ServiceEmbedder

                assert self._service is not None
                self._serving = ServiceEmbedder(self._service)
            return self._serving

    def _load(self) -> Embedder:
        """Read the model's files."""
        if self._path is None:
            return builtin.builtin()
        from kbsync.index.embed.onnx import OnnxEmbedder

        return OnnxEmbedder(self._path)
