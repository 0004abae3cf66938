"""Asking the vendor's search, with its ranking model where that is wanted, and where there is such a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kbsync.errors import NotOffered, Rejected
from kbsync.targets.http.lacking import Lacking
from kbsync.targets.http.ranking import ranked
from kbsync.targets.zhipu.api import Api
from kbsync.targets.zhipu.codes import NotFound, Op
from kbsync.targets.zhipu.knowledge import Knowledge
from kbsync.targets.zhipu.searching import OVERLOADED, Question, question_about
from kbsync.targets.zhipu.wire import Found


class Retrieving:
    """Searches one knowledge base. `lacking` remembers that there is no search."""

    def __init__(self, api: Api, knowledge: Knowledge, lacking: Lacking) -> None:
        self._api, self._knowledge, self._lacking = api, knowledge, lacking

    async def ranked(self, question: Question) -> Sequence[Found]:
        """What is found; in the order of the search itself where the ranking model does not give its own."""
        if not question.rerank:
            return await self._found(question)
        without = replace(question, rerank=False)
        return await ranked(lambda: self._found(question), lambda: self._found(without), OVERLOADED)

    async def confirms(self, remote_id: str, name: str) -> bool:
        """A search in this one document finds it. Raises `NotOffered` where there is no search."""
        self._lacking.check(Op.RETRIEVE)
        try:
            found = await self._api.retrieve(question_about(remote_id, name))
        except NotFound:
            await self._knowledge.look()
            return False
        except NotOffered as error:
            raise await self._no_search(error) from error
        return any(one.doc_id == remote_id for one in found)

    async def _found(self, question: Question) -> Sequence[Found]:
        self._lacking.check(Op.RETRIEVE)
        try:
            return await self._api.retrieve(question)
        except (NotFound, NotOffered) as error:
            raise await self._no_search(error, is_plain=not question.rerank) from error

    async def _no_search(self, error: Rejected, *, is_plain: bool = True) -> NotOffered:
        """Raises `Halted` where it is the base that is missing. Remembered where only the call can be."""
        await self._knowledge.look()
        said = NotOffered(f"this knowledge base offers no search: {error.reason}", code=error.code)
        is_the_call = is_plain and isinstance(error, NotOffered)
        return self._lacking.note(Op.RETRIEVE, said) if is_the_call else said
