"""Embedding and rerank services as the index asks them: from threads that wait for the answer.

The clients, and the HTTP library with them, are loaded when the first text or question needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from kbsync.errors import Rejected
from kbsync.index.document import Chunk
from kbsync.index.embed import Vectors
from kbsync.index.loop_thread import LoopThread
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig
from kbsync.targets.services.dialects import EmbeddingItem, identity_of, takes_pictures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.targets.services.clients import EmbeddingService, RerankService


class ServiceEncoder:
    """`Encoder` over a service. Safe to use from several threads."""

    least_cosine = 0.0

    def __init__(self, config: EmbeddingConfig, *, is_first: bool = False) -> None:
        """No request is sent yet. `is_first`: see `Endpoint`."""
        self._config, self._is_first = config, is_first
        self.model = identity_of(config)
        self.takes_pictures = takes_pictures(config)
        self._made: EmbeddingService | None = None
        self._making = threading.Lock()
        self._loop = LoopThread("kbsync-embedding")

    @property
    def at_once(self) -> int:
        """So many chunks are one request."""
        return self._service().most_items

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """The service is asked by now. Raises `UsageError` where its address cannot be used."""
        return self._loop.begin(_vectors(self._service(), chunks))

    def query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question, of length 1. Raises `TargetError`."""
        vector = self._loop.run(self._service().embed([EmbeddingItem(text)], is_query=True))[0]
        if isinstance(vector, Rejected):
            raise vector
        return vector

    def close(self) -> None:
        """Let go of the connections."""
        if self._made is not None:
            self._loop.close(self._made.aclose())

    def _service(self) -> EmbeddingService:
        from kbsync.targets.services.clients import EmbeddingService

        # Late, because it loads the HTTP library; locked, because several threads index at once.
        with self._making:
            if self._made is None:
                self._made = EmbeddingService(self._config, is_first=self._is_first)
            return self._made


async def _vectors(service: EmbeddingService, chunks: Sequence[Chunk]) -> Vectors:
    import numpy as np

    items = [
        EmbeddingItem(each.embed_text)
        if each.picture is None
        else EmbeddingItem(picture=each.picture.content, media_type=each.picture.media_type)
        for each in chunks
    ]
    made = await service.embed(items)
    # Half precision: as good for comparing directions, and half the size in the store.
    return {
        each.key: vector if isinstance(vector, Rejected) else vector.astype(np.float16).tobytes()
        for each, vector in zip(chunks, made, strict=True)
    }


class ServiceRanker:
    """Orders texts through a service. Safe to use from several threads."""

    def __init__(self, config: RerankConfig, *, is_first: bool = False) -> None:
        """No request is sent yet. Raises `UsageError` where the address cannot be used."""
        from kbsync.targets.services.clients import RerankService

        self._service: RerankService = RerankService(config, is_first=is_first)
        self._loop = LoopThread("kbsync-rerank")
        self.model = identity_of(config)

    @property
    def most_texts(self) -> int:
        """More are not asked about in one question."""
        return self._service.most_texts

    def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """(index, score) of every text, best first. Raises `TargetError`."""
        return self._loop.run(self._service.order(question, texts))

    def close(self) -> None:
        """Let go of the connections."""
        self._loop.close(self._service.aclose())
