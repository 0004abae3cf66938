"""Services for vectors and ranking, as the index asks them: from threads, which wait for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from kbsync.errors import Rejected
from kbsync.index.document import Chunk
from kbsync.targets.services.dialects import EmbeddingItem, ServiceSettings
from kbsync.targets.services.embedding import EmbeddingService, OwnLoop
from kbsync.targets.services.rerank import RerankService

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.targets.services.embedding import Vectors


class ServiceEmbedder:
    """`Embedder` over a service. Safe to use from several threads."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Nobody is asked yet. Raises `UsageError` where the address cannot be used."""
        self._settings = settings
        self._service = EmbeddingService(settings)
        self._loop = OwnLoop("kbsync-embedding")

    @property
    def model(self) -> str:
        """Names dialect, model and length."""
        return self._settings.identity

    @property
    def dimensions(self) -> int:
        """Length of a vector; asked of the service where nothing tells it."""
        return self._loop.run(self._service.dimensions())

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), dimensions), rows of length 1. Raises `TargetError`."""
        import numpy as np

        made = self._loop.run(self._service.embed([EmbeddingItem(text) for text in texts]))
        return np.array([_given(each) for each in made], np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Shape (dimensions,), length 1. Raises `TargetError`."""
        return _given(self._loop.run(self._service.embed([EmbeddingItem(text)], is_query=True))[0])

    @property
    def most_items(self) -> int:
        """More are not sent in one request."""
        return self._service.most_items

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """A vector for each chunk is asked for, or why the service will not give it; `packed` takes them."""
        return self._loop.begin(self._service.embed([_item(chunk) for chunk in chunks]))

    def close(self) -> None:
        """Let go of the connections."""
        self._loop.close(self._service.aclose())


class ServiceRanker:
    """Orders texts through a service. Safe to use from several threads."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Nobody is asked yet. Raises `UsageError` where the address cannot be used."""
        self._service = RerankService(settings)
        self._loop = OwnLoop("kbsync-rerank")
        self.model = settings.identity

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


def _item(chunk: Chunk) -> EmbeddingItem:
    if chunk.picture is None:
        return EmbeddingItem(chunk.embed_text)
    return EmbeddingItem(picture=chunk.picture.content, media_type=chunk.picture.media_type)


def _given(vector: NDArray[np.float32] | Rejected) -> NDArray[np.float32]:
    if isinstance(vector, Rejected):
        raise vector
    return vector


def packed(vectors: Vectors) -> list[bytes | Rejected]:
    """Their float16 bytes."""
    import numpy as np

    return [each if isinstance(each, Rejected) else each.astype(np.float16).tobytes() for each in vectors]
