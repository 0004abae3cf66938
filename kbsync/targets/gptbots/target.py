"""The knowledge API of GPTBots as a target of the mirror.

The vendor keeps our marker, takes several documents in a request, and changes a document in place under its
id with the old text serving meanwhile. It gives no reasons, so success is what its answers say of each
document, and searchable is what `data_status` says of the version that was sent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from kbsync.contract.mirroring import Base, DeleteOutcome, DocStatus, Listed, Outgoing, PutOutcome
from kbsync.contract.searching import Hit, Query
from kbsync.core.meter import Meter
from kbsync.core.model import Limits
from kbsync.core.names import Naming
from kbsync.errors import Unsure
from kbsync.targets.gptbots import marker
from kbsync.targets.gptbots.api import Api
from kbsync.targets.gptbots.bases import GptbotsBases
from kbsync.targets.gptbots.codes import judge_for
from kbsync.targets.gptbots.deleting import delete_all
from kbsync.targets.gptbots.formats import cutting_of, described
from kbsync.targets.gptbots.putting import Putting
from kbsync.targets.gptbots.searching import OVERLOADED, Question, hits_of, question_of
from kbsync.targets.gptbots.settings import GptbotsSettings
from kbsync.targets.gptbots.sightings import Sightings
from kbsync.targets.gptbots.waiting import Waiting
from kbsync.targets.gptbots.wire import Match, Row
from kbsync.targets.http import Account, Client, Endpoint, RemoteTarget
from kbsync.targets.http.ranking import ranked

if TYPE_CHECKING:
    import httpx

__all__ = ["GptbotsSettings", "GptbotsTarget"]

Sleep = Callable[[float], Awaitable[None]]


class GptbotsTarget(RemoteTarget):
    """One knowledge base. It changes documents in place and can be searched.

    `wall` and `steady` are clocks in seconds, `chance` gives 0..1, `transport` stands in for the network;
    `account` is shared with other mirrors of the same one.
    Raises `UsageError` where the settings cannot be used.
    """

    keeps_old_on_failure = True
    """Its page says that new content is swapped in at the end."""

    retry_reach = "the whole bot, in all of its knowledge bases, whoever put it there"

    def __init__(
        self,
        settings: GptbotsSettings,
        *,
        meter: Meter | None = None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        transport: httpx.AsyncBaseTransport | None = None,
        account: Account | None = None,
    ) -> None:
        self._settings = settings
        self._steady = steady
        client = Client(
            _endpoint(settings),
            target="gptbots",
            headers=lambda: {"Authorization": f"Bearer {settings.api_key}"},
            judge=judge_for(settings.base_url, settings.command("retry")),
            meter=meter,
            steady=steady,
            wall=wall,
            sleep=sleep,
            chance=chance,
            transport=transport,
            slow_codes=frozenset({"429"}),
            account=account,
        )
        super().__init__(client)

    def _speak(self) -> None:
        settings = self._settings
        self._api = Api(settings, self._client)
        self._sightings = Sightings(self._api, settings.source_url_prefix, self._steady)
        self._waiting = Waiting(self._api, self._sightings, self._steady, settings.grace)
        lacking = self._client.lacking
        self._putting = Putting(settings, self._api, self._sightings, self._waiting, lacking)

    @property
    def limits(self) -> Limits:
        """What it takes."""
        return self._settings.limits

    @property
    def bases(self) -> GptbotsBases:
        """The knowledge bases of the bot."""
        return GptbotsBases(self._settings, self._api)

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """How `path` is cut, such as `t600`, `ts1f0c9a3b`, `x600h1` or `q600h1`."""
        return cutting_of(path, settings).recipe

    def describe(self, recipe: str) -> str:
        """The settings that a recipe stands for."""
        return described(recipe)

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")` where there is none."""
        return await self._api.base()

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send documents, several to a request; those that replace one change it in place."""
        return await self._putting.put(documents)

    async def refresh(self, document: Outgoing) -> None:
        """An update with the same address: the vendor fetches it, and swaps it in at the end."""
        await self._putting.refresh(document)

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each remote id, of the version that was sent last."""
        return await self._waiting.states(tuple(dict.fromkeys(ids)))

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each remote id."""
        return await delete_all(self._api, self._waiting, tuple(dict.fromkeys(ids)))

    async def list(self) -> AsyncIterator[Listed]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        async with aclosing(self._sightings.rows()) as rows:
            async for row in rows:
                yield self._listed(row)

    @property
    def reranks(self) -> bool:
        """The vendor has ranking models; one is asked on request, or always where the config names it."""
        return True

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first. Paths, types and dates are not told to the vendor: with them, all that was found."""
        question = question_of(query, self._settings.search)
        return () if question is None else hits_of(await self._found(question), query)

    async def _found(self, question: Question) -> Sequence[Match]:
        if question.wish.rerank_version is None:
            return await self._api.search(question)
        search = self._api.search
        return await ranked(lambda: search(question), lambda: search(question.unranked), OVERLOADED)

    async def retry_all(self) -> int | None:
        """The vendor's own retry, which takes no ids."""
        try:
            return await self._api.retry()
        except Unsure as error:
            reason = f"{error.reason}; they may be tried again by now, and asking once more does no harm"
            raise Unsure(reason, code=error.code) from error

    def _listed(self, row: Row) -> Listed:
        """By its marker; one without is read by its name.

        Under another prefix or address it is no file of this mirror, but may be an upload of it from before.
        """
        prefix = self._settings.prefix
        told = marker.read(self._settings.source_url_prefix, row.source_url)
        if told is None:
            return Listed(row.id, row.name, created=row.created, path=self._path_in_name(row))
        is_here = told.path.startswith(prefix) and told.path != prefix
        return Listed(
            row.id,
            told.path or row.name,
            created=row.created,
            path=told.path.removeprefix(prefix) if is_here else None,
            digest=told.digest,
            upload_id=told.upload_id,
            recipe=told.recipe,
        )

    def _path_in_name(self, row: Row) -> str | None:
        """A document that has another address is not ours, whatever its name."""
        if row.source_url:
            return None
        reading = Naming(self._settings.prefix, "plain").read_mangled(row.name)
        return None if reading is None else reading.path


def _endpoint(settings: GptbotsSettings) -> Endpoint:
    return settings.endpoint(settings.base_url)
