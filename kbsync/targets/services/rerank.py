"""The order of texts for a question, from a service."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from kbsync.errors import Unavailable
from kbsync.targets.services import embedding
from kbsync.targets.services.answers import NonsenseError, order_of
from kbsync.targets.services.dialects import LONGEST_QUESTION, RERANK, ServiceSettings


class RerankService:
    """Orders texts by how well they answer a question."""

    def __init__(
        self, settings: ServiceSettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._dialect = RERANK[settings.dialect]
        self._client = embedding.service_client(settings, "rerank", self._dialect.path, transport)

    @property
    def most_texts(self) -> int:
        """Scores are comparable within one answer only: more texts than this are not asked about."""
        return self._settings.batch or self._dialect.most_texts

    async def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """(index, score) of every text, best first. Beyond `most_texts` they keep their order at the end.

        It comes soon or not at all, since somebody waits. Raises `Unavailable`, `Rejected` or `Halted`.
        """
        asked = [text[: self._dialect.longest] or " " for text in texts[: self.most_texts]]
        if not asked:
            return []
        body = self._dialect.body(self._settings, question[:LONGEST_QUESTION], asked)
        async with self._client.soon("rerank", embedding.SOON):
            answer = await self._client.ask("rerank", "POST", self._dialect.path, json=body)
        try:
            order = order_of(answer.body, len(asked))
        except NonsenseError as error:
            raise Unavailable(f"rerank: {answer.host} answered with {error}", code="nonsense") from None
        return order + [(index, order[-1][1]) for index in range(len(asked), len(texts))]

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()
