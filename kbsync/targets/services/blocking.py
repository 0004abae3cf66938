"""Blocking clients of embedding and rerank services, which the index calls from its threads.

The HTTP library and asyncio are imported when the first text or query arrives.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from kbsync.errors import Rejected, Unavailable
from kbsync.index.document import Chunk
from kbsync.index.embed import Vectors
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig
from kbsync.targets.services.dialects import EmbeddingItem, identity_of, takes_pictures
from kbsync.threads import LoopThread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.targets.services.clients import EmbeddingService, RerankService


def _closed() -> Unavailable:
    return Unavailable("kbsync is closing the connection", code="closed")


class ServiceEncoder:
    """An `Encoder` that calls an embedding service. Thread-safe."""

    def __init__(self, config: EmbeddingConfig, *, is_first: bool = False) -> None:
        """Set up the encoder without sending a request. `is_first`: see `Endpoint`."""
        self._config, self._is_first = config, is_first
        self.model = identity_of(config)
        self.takes_pictures = takes_pictures(config)
        # None: unknown. Pictures are less similar to a question than any text.
        self.least_cosine = 0.0 if self.takes_pictures else None
        self._created: EmbeddingService | None = None
        self._making = threading.Lock()
        self._loop = LoopThread("kbsync-embedding", _closed)

    @property
    def at_once(self) -> int:
        """Maximum number of chunks in one request."""
        return self._service().most_items

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Connect to the service. Raises `UsageError` if its URL can't be used."""
        return self._loop.begin(_vectors(self._service(), chunks))

    def query(self, text: str) -> NDArray[np.float32]:
        """Return a query's vector, normalized to length 1. Raises `TargetError`."""
        vector = self._loop.run(self._service().embed([EmbeddingItem(text)], is_query=True))[0]
        if isinstance(vector, Rejected):
            raise vector
        return vector

    def close(self) -> None:
        """Close the connections."""
        if self._created is not None:
            self._loop.close(self._created.aclose())

    def _service(self) -> EmbeddingService:
        from kbsync.targets.services.clients import EmbeddingService

        # Created on first use, because it loads the HTTP library; under a lock, because several threads index
        # in parallel.
        with self._making:
            if self._created is None:
                self._created = EmbeddingService(self._config, is_first=self._is_first)
            return self._created


async def _vectors(service: EmbeddingService, chunks: Sequence[Chunk]) -> Vectors:
    import numpy as np

    items = [
        EmbeddingItem(chunk.embed_text)
        if chunk.picture is None
        else EmbeddingItem(picture=chunk.picture.content, media_type=chunk.picture.media_type)
        for chunk in chunks
    ]
    vectors = await service.embed(items)
    # Half precision compares directions equally well and halves the size in the store.
    return {
        chunk.key: vector if isinstance(vector, Rejected) else vector.astype(np.float16).tobytes()
        for chunk, vector in zip(chunks, vectors, strict=True)
    }


class ServiceRanker:
    """Ranks texts with a rerank service. Thread-safe."""

    def __init__(self, config: RerankConfig, *, is_first: bool = False) -> None:
        """Set up the ranker without sending a request. Raises `UsageError` if the URL can't be used."""
        from kbsync.targets.services.clients import RerankService

        self._service: RerankService = RerankService(config, is_first=is_first)
        self._loop = LoopThread("kbsync-rerank", _closed)
        self.model, self.most_texts = identity_of(config), self._service.most_texts

    def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Return (index, score) for every text, best first. Raises `TargetError`."""
        return self._loop.run(self._service.order(question, texts))

    def close(self) -> None:
        """Close the connections."""
        self._loop.close(self._service.aclose())
