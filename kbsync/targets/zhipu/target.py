"""The knowledge API of Zhipu BigModel as a target of the mirror.

The vendor keeps no marker of ours, takes one document per request, and answers before it has looked into
it. So success is what the body says, searchable is what `embedding_stat` says, and "gone" counts only
while the knowledge base itself still answers to the same key.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kbsync.contract.answering import Answerer, Sources, Turn
from kbsync.contract.searching import Hit, Query
from kbsync.contract.target import Accepted, Base, DeleteOutcome, DocStatus, Listed, Outgoing, PutOutcome
from kbsync.core.links import is_address
from kbsync.core.meter import Meter
from kbsync.core.model import Limits
from kbsync.errors import Rejected, Unavailable, Unsure
from kbsync.targets.http.client import Client, ClockSkew
from kbsync.targets.http.limits import Account
from kbsync.targets.http.listing import PAGE_SIZE, ListSweep
from kbsync.targets.http.target import RemoteTarget
from kbsync.targets.zhipu.api import ALARMING, ROOT, Keys, MirrorJudge, ZhipuApi
from kbsync.targets.zhipu.ask import Asking, judge_chat
from kbsync.targets.zhipu.errors import SLOW, is_gone
from kbsync.targets.zhipu.formats import described, recipe_of, slicing_of
from kbsync.targets.zhipu.indexing import Indexing, status_of
from kbsync.targets.zhipu.manage import AccountCallbacks, ZhipuApplications, ZhipuBases
from kbsync.targets.zhipu.search import Searcher
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.shapes import ZhipuDocument, ZhipuPage, created_of, hits_of, request_for
from kbsync.targets.zhipu.upload import AccountSpace, Uploader

if TYPE_CHECKING:
    import httpx

__all__ = ["ZhipuSettings", "ZhipuTarget"]

_STILL_THERE = Unsure("the vendor says that there is no such document, and still has it", code="still-there")

Sleep = Callable[[float], Awaitable[None]]


class ZhipuTarget(RemoteTarget):
    """One knowledge base. It can be re-embedded, re-sliced, read, searched and asked for confirmation.

    `wall` and `steady` are clocks in seconds, `chance` gives 0..1, `transport` stands in for the network;
    `account` is shared with other mirrors of the same one.
    Raises `UsageError` where the settings cannot be used.
    """

    def __init__(
        self,
        settings: ZhipuSettings,
        *,
        meter: Meter | None = None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        transport: httpx.AsyncBaseTransport | None = None,
        account: Account | None = None,
    ) -> None:
        self._settings, self._steady = settings, steady
        keys, self._skew = Keys(settings, wall), ClockSkew()
        self._chat_judge = MirrorJudge(settings, keys, self._skew, wall, judge_chat)
        client = Client(
            settings.endpoint(settings.base_url + ROOT),
            headers=keys.headers,
            judge=MirrorJudge(settings, keys, self._skew, wall),
            meter=meter,
            steady=steady,
            wall=wall,
            sleep=sleep,
            chance=chance,
            transport=transport,
            slow_codes=SLOW,
            account=account,
            skew=self._skew,
        )
        super().__init__(client)

    def _speak(self) -> None:
        settings = self._settings
        self._api = ZhipuApi(settings, self._client)
        self._space = AccountSpace(self._api.capacity, self._steady, settings.command("retry"))
        self._uploader = Uploader(settings, self._api, self._space)
        self._indexing = Indexing(self._api, self._space)
        self._searcher = Searcher(self._api)
        platform = self._client.at(settings.base_url, self._chat_judge)
        self._asking = Asking(self._client, platform, self._chat_judge, settings.knowledge_id, self.search)

    @property
    def limits(self) -> Limits:
        """What it takes."""
        return self._settings.limits

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """How `path` is sliced, such as `k1`, `k3`, `k5:1f0c9a3b` or `k1:images`."""
        return slicing_of(path, settings).recipe

    def describe(self, recipe: str) -> str:
        """The settings that a recipe stands for."""
        return described(recipe)

    @property
    def bytes_left(self) -> int | None:
        """Of the account's space."""
        return self._space.left

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")` where there is none."""
        return await self._api.base()

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send each document in a request of its own, once; outcomes in the order given."""
        outcomes = []
        for document in documents:
            outcome = await self._uploader.put(document)
            if isinstance(outcome, Accepted):
                outcome = replace(outcome, created=self._created(outcome.remote_id))
            outcomes.append(outcome)
        return outcomes

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each remote id, in no more requests than there are ids."""
        return await self._indexing.states(tuple(dict.fromkeys(ids)))

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each remote id. "Not found" counts as done where a look agrees, and the base answers."""
        answers = await self._api.each(dict.fromkeys(ids), self._api.delete)
        outcomes: dict[str, DeleteOutcome] = {**answers.given, **answers.refused}
        gone = [remote_id for remote_id, error in answers.refused.items() if is_gone(error)]
        if gone:  # what the vendor calls missing at a DELETE may be there all the same (promise 10)
            seen = await self._api.documents(gone)
            outcomes |= {one: _STILL_THERE if found else None for one, found in seen.given.items()}
            outcomes |= seen.refused
        if answers.given:
            self._space.freed()
        return outcomes

    async def list(self) -> AsyncIterator[Listed]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        sweep = ListSweep(self._page)
        async with aclosing(sweep.rows()) as rows:
            async for row in rows:
                yield self._listed(row)
        # A short or empty list does not prove documents gone: the base is the second witness (promise 1).
        if sweep.is_doubtful:
            base = await self._api.base()
            sweep.check(base.documents, base.id)

    async def find(self, name: str) -> Sequence[Listed]:
        """By the list's own filter, of which is not documented how it compares: one page of what it shows."""
        return [self._listed(row) for row in (await self._page(1, PAGE_SIZE, name)).rows]

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where there is no such call."""
        await self._indexing.reembed(remote_id)

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where there is no such call."""
        await self._indexing.reslice(remote_id, slicing_of(path, settings))

    async def digest(self, remote_id: str) -> str | None:
        """The SHA-256 of what the vendor stored, read through a fresh signed URL; None where it cannot be."""
        digest = hashlib.sha256()
        try:
            document = await self._api.document(remote_id)
            if document is None or not document.url.startswith(("http://", "https://")):
                return None
            async with aclosing(self._api.read(document.url)) as pieces:
                async for piece in pieces:
                    digest.update(piece)
        except Rejected:
            return None
        return digest.hexdigest()

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """A search in this one document finds it. Raises `NotOffered` where there is no search."""
        return await self._searcher.confirms(remote_id, name)

    @property
    def reranks(self) -> bool:
        """The vendor has a ranking model; it is asked on request."""
        return True

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first. Paths, types and dates are not told to the vendor: with them, all that was found."""
        request = request_for(query, self._settings.recall)
        if request is None:
            return ()
        hits = hits_of(await self._searcher.found(request))
        return hits if query.selects else hits[: query.top_k]

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits with the pictures that their passages name, as far as they come in time."""
        return await self._searcher.illustrated(hits)

    @property
    def bases(self) -> ZhipuBases:
        """The knowledge bases of the account."""
        return ZhipuBases(self._settings, self._client)

    @property
    def applications(self) -> ZhipuApplications:
        """What answers questions in this account."""
        return ZhipuApplications(self._client, self._settings)

    @property
    def callbacks(self) -> AccountCallbacks:
        """The address that the account's events go to."""
        return AccountCallbacks(self._client)

    @property
    def model(self) -> str:
        """It is given passages where the account has no applications."""
        return self._settings.chat_model

    def answer(
        self,
        question: str,
        by: Answerer,
        *,
        turns: Sequence[Turn] = (),
        among: Sequence[str] = (),
        streamed: bool = True,
    ) -> AsyncIterator[str | Sources]:
        """The answer from this base, piece by piece, and its sources."""
        return self._asking.answer(question, by, turns=turns, among=among, streamed=streamed)

    async def _page(self, number: int, size: int, word: str = "") -> ZhipuPage:
        try:
            return await self._api.page(number, size, word)
        except Rejected as error:  # the base is there: no refusal is an empty list
            raise Unavailable(f"the list cannot be had: {error.reason}", code=error.code) from error

    def _listed(self, row: ZhipuDocument) -> Listed:
        return Listed(
            row.id,
            row.name,
            size=row.size,
            created=self._created(row.id),
            state=status_of(row).state,
            recipe=recipe_of(row),
            addresses=tuple(text for text in (row.name, row.url) if is_address(text)),
        )

    def _created(self, remote_id: str) -> float | None:
        """By our clock; None where the two are far apart: ids may tell another time than answers do."""
        theirs, apart = created_of(remote_id), self._skew.apart or 0.0
        return None if theirs is None or abs(apart) > ALARMING else theirs - apart
