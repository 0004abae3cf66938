"""Services for vectors and ranking, as the index asks them: from threads, which wait for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kbsync.errors import Rejected
from kbsync.targets.local.pieces import Chunk
from kbsync.targets.vectors.embedding import EmbeddingService
from kbsync.targets.vectors.items import Item
from kbsync.targets.vectors.reranking import RerankService
from kbsync.targets.vectors.settings import ServiceSettings
from kbsync.targets.vectors.threaded import OwnLoop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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

        return np.array([_given(each) for each in self._embedded([Item(text) for text in texts])], np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Shape (dimensions,), length 1. Raises `TargetError`."""
        return _given(self._embedded([Item(text)], is_query=True)[0])

    def try_embed(self, chunks: Sequence[Chunk]) -> list[bytes | Rejected]:
        """The float16 bytes of each chunk's vector, or why the service will not give it."""
        made = self._embedded([_item(chunk) for chunk in chunks])
        return [each if isinstance(each, Rejected) else _packed(each) for each in made]

    def close(self) -> None:
        """Let go of the connections."""
        self._loop.close(self._service.aclose())

    def _embedded(
        self, items: Sequence[Item], *, is_query: bool = False
    ) -> Sequence[NDArray[np.float32] | Rejected]:
        return self._loop.run(self._service.embed(items, is_query=is_query))


class ServiceRanker:
    """Orders texts through a service. Safe to use from several threads."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Nobody is asked yet. Raises `UsageError` where the address cannot be used."""
        self._service = RerankService(settings)
        self._loop = OwnLoop("kbsync-rerank")

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


def _item(chunk: Chunk) -> Item:
    if chunk.picture is None:
        return Item(chunk.embed_text)
    return Item(picture=chunk.picture.content, media_type=chunk.picture.media_type)


def _given(vector: NDArray[np.float32] | Rejected) -> NDArray[np.float32]:
    if isinstance(vector, Rejected):
        raise vector
    return vector


def _packed(vector: NDArray[np.float32]) -> bytes:
    import numpy as np

    return vector.astype(np.float16).tobytes()
