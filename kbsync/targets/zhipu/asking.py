"""Questions and who answers them: an application of the account, or a model that is given passages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from kbsync.contract.answering import Answerer, Sources, Turn
from kbsync.errors import NotOffered
from kbsync.targets.zhipu.answering import Answering
from kbsync.targets.zhipu.applications import ZhipuApplications
from kbsync.targets.zhipu.composing import Composing


class Asking:
    """Both ways for one knowledge base."""

    def __init__(self, applications: ZhipuApplications, answering: Answering, composing: Composing) -> None:
        self._applications, self._answering, self._composing = applications, answering, composing

    def answer(
        self, question: str, by: Answerer, *, turns: Sequence[Turn], among: Sequence[str], streamed: bool
    ) -> AsyncIterator[str | Sources]:
        """The pieces, and the sources at the end."""
        if by.model:
            return self._composing.answer(question, by.model, turns=turns, among=among, streamed=streamed)
        return self._by_application(question, by.application, turns, among, streamed)

    async def _by_application(
        self, question: str, application_id: str, turns: Sequence[Turn], among: Sequence[str], streamed: bool
    ) -> AsyncGenerator[str | Sources, None]:
        """Applications that cannot be asked are as good as none, for as long as that is remembered."""
        pieces = self._answering.answer(question, application_id, turns=turns, among=among, streamed=streamed)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
        except NotOffered as error:
            self._applications.are_missing(error)
            raise
