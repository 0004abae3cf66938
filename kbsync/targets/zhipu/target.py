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
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import Endpoint
from kbsync.targets.http.limits import Account
from kbsync.targets.http.target import RemoteTarget
from kbsync.targets.zhipu.api import (
    ALARMING,
    ROOT,
    TOLERANCE,
    Knowledge,
    MirrorJudge,
    Skew,
    ZhipuApi,
    ask_each,
    is_gone,
    keys_of,
)
from kbsync.targets.zhipu.ask import Answering, Asking, Composing, judge_chat
from kbsync.targets.zhipu.errors import SLOW, ZhipuCall
from kbsync.targets.zhipu.formats import described, recipe_of, slicing_of
from kbsync.targets.zhipu.indexing import Mending, Waiting, status_of
from kbsync.targets.zhipu.manage import AccountCallbacks, ZhipuApplications, ZhipuBases
from kbsync.targets.zhipu.paging import SIZE, ZhipuSweep
from kbsync.targets.zhipu.search import Illustrating, Retrieving
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.shapes import (
    Capacity,
    ZhipuDocument,
    ZhipuPage,
    chosen,
    created_of,
    hits_of,
    question_of,
)
from kbsync.targets.zhipu.upload import AccountSpace, Uploading

if TYPE_CHECKING:
    import httpx

__all__ = ["ZhipuSettings", "ZhipuTarget"]

_ENOUGH = 0.8
"""Of the documents that both the list and the base count: counts may be a little off."""

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
        keys = keys_of(settings, wall)
        self._settings = settings
        self._skew = Skew(wall, ALARMING if settings.auth == "key" else TOLERANCE)
        self._steady = steady
        self._chat_judge = MirrorJudge(settings, self._skew, keys, judge_chat)
        client = Client(
            _endpoint(settings),
            target="zhipu",
            headers=keys.headers,
            judge=MirrorJudge(settings, self._skew, keys),
            meter=meter,
            steady=steady,
            wall=wall,
            sleep=sleep,
            chance=chance,
            transport=transport,
            slow_codes=SLOW,
            account=account,
        )
        super().__init__(client)

    def _speak(self) -> None:
        settings = self._settings
        self._api = ZhipuApi(settings, self._client)
        self._knowledge = Knowledge(settings, self._api)
        lacking = self._client.lacking
        self._allowance = AccountSpace(self._capacity, self._steady, settings.command("retry"))
        self._uploading = Uploading(settings, self._api, self._knowledge, self._allowance, lacking)
        self._illustrating = Illustrating(self._api, lacking, settings.concurrency)
        self._waiting = Waiting(self._api, self._knowledge, self._allowance, settings.concurrency)
        self._mending = Mending(self._api, self._knowledge, self._allowance, lacking)
        self._retrieving = Retrieving(self._api, self._knowledge, lacking)
        self._applications = ZhipuApplications(self._client, settings)
        platform = self._client.at(settings.address, self._chat_judge)
        composing = Composing(platform, self._chat_judge, self.search)
        answering = Answering(self._client, settings.knowledge_id)
        self._asking = Asking(self._applications, answering, composing)

    @property
    def bases(self) -> ZhipuBases:
        """The knowledge bases of the account."""
        return ZhipuBases(self._settings, self._client)

    @property
    def applications(self) -> ZhipuApplications:
        """What answers questions in this account."""
        return self._applications

    @property
    def model(self) -> str:
        """It is given passages where the account has no applications."""
        return self._settings.chat_model

    @property
    def callbacks(self) -> AccountCallbacks:
        """The address that the account's events go to."""
        return AccountCallbacks(self._client)

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
        return self._allowance.left

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")` where there is none."""
        return await self._knowledge.look()

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send each document in a request of its own, once; outcomes in the order given."""
        return [self._dated(await self._uploading.put(document)) for document in documents]

    def _dated(self, outcome: PutOutcome) -> PutOutcome:
        if not isinstance(outcome, Accepted):
            return outcome
        return replace(outcome, created=self._skew.ours(created_of(outcome.remote_id)))

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each remote id, in no more requests than there are ids."""
        return await self._waiting.states(tuple(dict.fromkeys(ids)))

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each remote id. "Not found" counts as done where the base answers, and a look agrees."""
        answers = await ask_each(dict.fromkeys(ids), self._api.delete, self._settings.concurrency)
        outcomes: dict[str, DeleteOutcome] = {**answers.given, **answers.refused}
        gone = [remote_id for remote_id, error in answers.refused.items() if is_gone(error)]
        if gone:
            outcomes |= await self._looked_at_again(gone)
        if answers.given:
            self._allowance.freed()
        return outcomes

    async def list(self) -> AsyncIterator[Listed]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        sweep = ZhipuSweep(self._page)
        async with aclosing(sweep.rows()) as rows:
            async for row in rows:
                yield self._listed(row)
        if sweep.is_doubtful:
            await self._vouch_for(sweep.shown)

    async def find(self, name: str) -> Sequence[Listed]:
        """By the list's own filter, of which is not documented how it compares: one page of what it shows."""
        return [self._listed(row) for row in (await self._page(1, SIZE, name)).rows]

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where there is no such call."""
        await self._mending.reembed(remote_id)

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where there is no such call."""
        await self._mending.reslice(remote_id, slicing_of(path, settings))

    async def digest(self, remote_id: str) -> str | None:
        """The SHA-256 of what the vendor stored, read through a fresh signed URL; None where it cannot be."""
        try:
            row = await self._api.detail(remote_id)
            url = row.url if row is not None else ""
            return await self._digest_of(url) if url.startswith(("http://", "https://")) else None
        except Rejected:
            return None

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """A search in this one document finds it. Raises `NotOffered` where there is no search."""
        return await self._retrieving.confirms(remote_id, name)

    @property
    def reranks(self) -> bool:
        """The vendor has a ranking model; it is asked on request."""
        return True

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first. Paths, types and dates are not told to the vendor: with them, all that was found."""
        question = question_of(query, self._settings.recall)
        return chosen(hits_of(await self._retrieving.ranked(question)), query) if question is not None else ()

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits with the pictures that their passages name, as far as they come in time."""
        return await self._illustrating.illustrated(hits)

    async def _capacity(self) -> Capacity | None:
        """Where it is refused, whatever the words, it is not told here."""
        self._client.lacking.check(ZhipuCall.CAPACITY)
        try:
            return await self._api.capacity()
        except Rejected as error:
            raise self._client.lacking.note(
                ZhipuCall.CAPACITY, NotOffered(error.reason, code=error.code)
            ) from error

    async def _page(self, number: int, size: int, word: str = "") -> ZhipuPage:
        try:
            return await self._api.page(number, size, word)
        except Rejected as error:
            await self._knowledge.look()
            raise Unavailable(f"the list cannot be had: {error.reason}", code=error.code) from error

    def _listed(self, row: ZhipuDocument) -> Listed:
        return Listed(
            row.id,
            row.name,
            size=row.size,
            created=self._skew.ours(created_of(row.id)),
            state=status_of(row).state,
            recipe=recipe_of(row),
            addresses=tuple(text for text in (row.name, row.url) if is_address(text)),
        )

    async def _vouch_for(self, shown: int) -> None:
        """A list that is far shorter than the base says would make documents look gone."""
        base = await self._knowledge.look()
        if base.documents is not None and shown < base.documents * _ENOUGH:
            raise Unavailable(
                f"the list shows {shown} of {base.documents} documents of knowledge base {base.id}"
            )

    async def _digest_of(self, url: str) -> str:
        digest = hashlib.sha256()
        async with aclosing(self._api.read(url, self._settings.max_bytes)) as pieces:
            async for piece in pieces:
                digest.update(piece)
        return digest.hexdigest()

    async def _looked_at_again(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """What the vendor calls missing at a DELETE may be there all the same (promise 10)."""
        trouble = await self._trouble()
        if trouble is not None:
            return dict.fromkeys(ids, trouble)
        seen = await ask_each(ids, self._api.detail, self._settings.concurrency)
        there = {one: _STILL_THERE for one, row in seen.given.items() if row is not None}
        unseen = {one: error for one, error in seen.refused.items() if not is_gone(error)}
        return {one: there.get(one) or unseen.get(one) for one in ids}

    async def _trouble(self) -> TargetError | None:
        """None while the base answers."""
        try:
            await self._knowledge.look()
        except TargetError as error:
            return error
        return None


def _endpoint(settings: ZhipuSettings) -> Endpoint:
    return settings.endpoint(settings.address + ROOT)
