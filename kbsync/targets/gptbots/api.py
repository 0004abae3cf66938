"""The vendor's calls about one knowledge base, and finding single documents in its list, which has no filter.

A document is looked for where it was listed before, else by the order of the ids. These look as Mongo makes
them: eight hex digits for the second in which they were made, and a counter in the last six. That is not
documented, so it only chooses which page is asked for next, as long as the pages read so far are in that
order; a document that is not found that way is looked for in the whole list.

The page of a document is remembered, what was said of it for a moment only: others change documents, too, and
a change judged by an older `update_time` would be called searchable too early (promise 10).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlencode

from kbsync.contract.managing import BaseCard
from kbsync.contract.searching import Passage
from kbsync.contract.target import Base, Body, Outgoing
from kbsync.errors import Halted, Rejected, Unavailable, Unsure
from kbsync.targets.gptbots import shapes
from kbsync.targets.gptbots.config import Cutting, GptbotsTargetConfig
from kbsync.targets.gptbots.shapes import MarkedRow
from kbsync.targets.http.bodies import RequestBody, base64_size, json_with_files
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import (
    PAGE_SIZE,
    ListPage,
    ListSweep,
    count_of,
    id_of,
    object_of,
    well_formed,
)

# New documents in one request: 20 are documented, production refused 20 and took 10.
MOST_FILES = 10

MOST_CHANGED = 50
"""Changed texts in one request: 200 are documented. So many are kept ready at a time."""

MOST_BYTES = 16_000_000
"""Of one request with several documents; a single one may have more."""


@dataclass(frozen=True, slots=True)
class UploadItem:
    """One document. `place`: where its outcome belongs. `doc_id`: what it changes; "" for a new one.

    `address`: where the vendor fetches it; "" for one that is sent.
    """

    place: int
    document: Outgoing
    cutting: Cutting
    file_name: str
    source_url: str
    doc_id: str = ""
    address: str = ""

    @property
    def size(self) -> int:
        """Bytes that it has in a request."""
        return base64_size(self.document.size)


class RequestSize:
    """Documents in one request: as many as were taken so far, and the next time twice as many."""

    def __init__(self, most: int) -> None:
        self.now, self._most = min(most, MOST_FILES), most

    def taken(self, count: int) -> None:
        """A request with so many was answered."""
        if count >= self.now:
            self.now = min(self._most, 2 * self.now)

    def refused(self, count: int) -> None:
        """So many were too many, or may have been: what was taken before goes on."""
        self._most = max(1, count // 2)
        self.now = min(self.now, self._most)


def batches_of(
    items: Iterable[UploadItem], most_files: Callable[[UploadItem], int]
) -> Iterator[tuple[UploadItem, ...]]:
    """Requests: equally cut, all new or all changed, no name and no document twice, not too large.

    A document that was refused before goes alone.
    `notes.md` and `notes.md.txt` do not go together: an answer that gives names without their extensions
    would call the second as the first is called in full.
    """
    open_batches: dict[tuple[Cutting, bool], list[UploadItem]] = {}
    for item in items:
        if item.document.is_retry:
            yield (item,)
            continue
        batch = open_batches.setdefault((item.cutting, bool(item.doc_id)), [])
        is_namesake = any(
            item.file_name in (one.file_name, one.file_name.rpartition(".")[0])
            or one.file_name == item.file_name.rpartition(".")[0]
            or (item.doc_id and one.doc_id == item.doc_id)
            for one in batch
        )
        is_full = len(batch) >= most_files(item) or sum(one.size for one in batch) + item.size > MOST_BYTES
        if batch and (is_namesake or is_full):
            yield tuple(batch)
            batch.clear()
        batch.append(item)
    yield from (tuple(batch) for batch in open_batches.values() if batch)


def stream_of(batch: tuple[UploadItem, ...], base: str) -> RequestBody:
    """The body of the request."""
    first = batch[0]
    beginning = {"knowledge_base_id": base, **first.cutting.fields(is_update=bool(first.doc_id))}
    pieces: list[bytes | Body] = [_text(beginning)[:-1] + b',"files":[']
    for number, item in enumerate(batch):
        about: dict[str, Any] = {"doc_id": item.doc_id} if item.doc_id else {}
        about |= {"file_name": item.file_name, "source_url": item.source_url}
        comma = b"," if number else b""
        if item.address:
            pieces.append(comma + _text(about | {"file_url": item.address}))
        else:
            pieces += [comma + _text(about)[:-1] + b',"file_base64":"', item.document.body, b'"}']
    return json_with_files([*pieces, b"]}"])


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


MOST_PASSAGES = 50
"""`top_k` at its most: passages, of which several may be of one document."""

RANKING = "BGE-Rerank"
"""The ranking model where the config names none."""

# An internal error, which may be that of the ranking model.
OVERLOADED = frozenset({"50000"})


class GptbotsApi:
    """One knowledge base behind one key. Every call raises `TargetError`."""

    def __init__(self, config: GptbotsTargetConfig, client: Client) -> None:
        self._config, self._client = config, client
        self._base = config.knowledge_base_id
        self.count: int | None = None
        """Documents of the base, by the last answer that counted them."""

    async def base(self) -> Base:
        """Look for the base in the list of all. Raises `Halted("knowledge-base-missing")`."""
        found = next((one for one in await self.bases() if one.id == self._base), None)
        if found is None:
            raise Halted(
                "knowledge-base-missing",
                f"knowledge base {self._base} is not among those of the bot that this api_key is for, at "
                f"{self._config.base_url}; correct knowledge_base_id, api_key or base_url in the config",
            )
        self.count = found.documents
        return Base(self._base, found.documents, self._config.base_url)

    async def bases(self) -> tuple[BaseCard, ...]:
        """All of the bot's: the call has no pages, whatever its name."""
        answer = await self._client.ask("base", "GET", "/v1/bot/knowledge/base/page")
        return well_formed("base", shapes.bases_of(answer.body))

    async def make_base(self, name: str, description: str, settings: Mapping[str, object]) -> str:
        """Make a base, sent once; its id. Raises `Unsure` where it may have been made."""
        body = {"name": name, "desc": description, **settings}
        answer = await self._client.post("create-base", "/v1/bot/knowledge/base/create", json=body)
        made = id_of(object_of(answer.body).get("knowledge_base_id"))
        if made is None:
            raise Unsure("create-base: the vendor's answer has no id", code="no-id")
        return made

    async def page(self, number: int, size: int) -> ListPage[shapes.MarkedRow]:
        """One page of the list, from 1."""
        params = {"knowledge_base_id": self._base, "page": str(number), "page_size": str(size)}
        answer = await self._client.ask("list", "GET", "/v1/bot/doc/query/page", params=params)
        page = well_formed("list", shapes.page_of(answer.body))
        self.count = self.count if page.total is None else page.total
        return page

    async def deliver(self, batch: tuple[UploadItem, ...]) -> shapes.UploadReceipt:
        """Send documents, once. Raises `Unsure` where they may have been stored."""
        is_update = bool(batch[0].doc_id)
        op, method, verb = ("update", "PUT", "update") if is_update else ("add", "POST", "add")
        path = f"/v1/bot/doc/{batch[0].cutting.kind}/{verb}"  # a kind has routes of its own
        answer = await self._client.deliver(op, method, path, partial(stream_of, batch, self._base))
        receipt = shapes.receipt_of(answer.body)
        if receipt is None:
            raise Unsure(
                f"{op}: the vendor's answer does not say what became of the files", code="no-receipt"
            )
        return receipt

    async def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """`data_status` of those of `ids` that the vendor knows."""
        query = urlencode([("data_ids", one) for one in ids])  # each by itself, or they are one odd id
        answer = await self._client.ask("status", "GET", f"/v1/bot/data/detail/list?{query}")
        return well_formed("status", shapes.states_of(answer.body))

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove documents; the answer says nothing about any one of them."""
        query = urlencode({"doc": ",".join(ids)}, safe=",")
        await self._client.ask("delete", "DELETE", f"/v1/bot/doc/batch/delete?{query}")

    async def retry(self) -> int | None:
        """Have every failed document of the bot indexed again, sent once; how many, None: unknown."""
        answer = await self._client.post("retry", "/v1/bot/data/retry/batch", json={})
        return count_of(object_of(answer.body).get("affectCount"))

    async def search(self, prompt: str, ranking: str | None) -> tuple[tuple[str, Passage], ...]:
        """Search this base. `prompt` is not empty; `ranking` names the ranking model, None: not ranked."""
        wish = self._config.search
        told = {
            "embedding_rate": wish.embedding_rate,
            "doc_correlation": wish.doc_correlation,
            "rerank_version": ranking,
        }
        # The base alone, never `data_ids` beside it: the vendor finds what is in either.
        body: dict[str, object] = {"prompt": prompt, "top_k": MOST_PASSAGES, "group_ids": [self._base]}
        body |= {key: value for key, value in told.items() if value is not None}
        answer = await self._client.ask("search", "POST", "/v1/vector/match", json=body)
        return well_formed("search", shapes.matches_of(answer.body))


SMALLEST_PAGE = 10
"""Rows of a page; the vendor takes 10 to 100, and may give fewer than were asked for."""


def _digits(text: str) -> int:
    """Hex digits as a number; of any other text one that sorts as it does."""
    try:
        return int(text, 16)
    except ValueError:
        return int.from_bytes(text.encode("utf-8", "replace").ljust(40, b"\0")[:40], "big")


_AGES: Sequence[Callable[[str], int]] = (
    _digits,
    lambda remote_id: _digits(remote_id[:8]),
    lambda remote_id: _digits(remote_id[-6:]),
)
"""What may tell older ids from younger ones; only which is the greater counts."""

_Order = Callable[[str], int]


@dataclass(slots=True)
class Lookup:
    """The pages that one look has read so far. `count`: documents of the list, None: not known yet."""

    count: int | None = None
    rows: dict[str, MarkedRow] = field(default_factory=dict)
    _pages: dict[int, Sequence[MarkedRow]] = field(default_factory=dict)

    def take(self, number: int, page: ListPage[MarkedRow]) -> None:
        """A page was read."""
        self.count = self.count if page.total is None else page.total
        self._pages[number] = page.rows
        self.rows |= {row.id: row for row in page.rows}

    def next_page(self, remote_id: str, known: int | None) -> int | None:
        """The page to read next for a document that is on none so far; None: any page is as good.

        `known`: the page it was on before. Of fifty pages, halving asks for five in vain at most.
        """
        if known is not None and known not in self._pages:
            return known
        if self.count is None:
            return 1 if not self._pages else None
        order = self._order()
        if order is None:
            return None
        size = max(map(len, self._pages.values()), default=0) or PAGE_SIZE  # as the server gives them
        low, high, near = 1, -(-self.count // size), {known}
        mine = order(remote_id)
        for number, rows in self._pages.items():
            ages = [order(row.id) for row in rows]
            if not ages or mine < ages[0]:
                high = min(high, number - 1)
            elif mine > ages[-1]:
                low = max(low, number + 1)
            elif mine not in (ages[0], ages[-1]):
                return None
            else:
                near.add(number)  # of one second with what is at its edge
        still = [number for number in range(low, high + 1) if number not in self._pages]
        beside = [number for number in still if not near.isdisjoint({number - 1, number + 1})]
        return beside[0] if beside else still[len(still) // 2] if still else None

    def _order(self) -> _Order | None:
        """What grows along the list and differs most between documents; None: nothing does."""
        ids = [row.id for _, rows in sorted(self._pages.items()) for row in rows]
        fits: list[tuple[int, _Order]] = []
        for age in _AGES:
            for order in (age, lambda one, age=age: -age(one)):
                ages = [order(one) for one in ids]
                if ages == sorted(ages):
                    fits.append((len(set(ages)), order))
        return max(fits, key=lambda fit: fit[0])[1] if fits else None


KEPT = 20_000
"""Documents whose page is remembered."""

FEW = 12
"""Pages that are read for one document in vain; then all of the list is."""

MOMENT = 1.0
"""Seconds in which one page serves several requests of a burst: `update_time` counts whole seconds."""


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """One document of the list. `updated`, `was`, `recipe`: see `Marker`, whole seconds; None: unknown."""

    updated: int | None
    was: int | None
    recipe: str | None

    @property
    def is_through(self) -> bool:
        """The version that wrote the marker is in: no update wrote it, or the document changed since."""
        return self.was is None or (self.updated is not None and self.updated != self.was)


class DocumentList:
    """Reads the list for what is asked for, and remembers on which pages it was."""

    def __init__(self, api: GptbotsApi, marker_base: str, steady: Callable[[], float]) -> None:
        self._api, self._base, self._steady = api, marker_base, steady
        self._places: dict[str, int] = {}
        self._fresh: dict[str, tuple[float, MarkedRow]] = {}
        self._turn = asyncio.Lock()

    async def rows(self) -> AsyncGenerator[MarkedRow, None]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        sweep = ListSweep(self._page)
        async with aclosing(sweep.rows()) as rows:
            async for row in rows:
                yield row
        # A list that is far shorter than the base says would make documents look gone (promise 1).
        if not 0 < sweep.claimed <= sweep.shown:
            base = await self._api.base()
            sweep.check(base.documents, base.id)

    async def _page(self, number: int, size: int = PAGE_SIZE) -> ListPage[MarkedRow]:
        """One page. Raises `TargetError`: a refused list is no document's fault, while the base is there."""
        try:
            page = await self._api.page(number, max(size, SMALLEST_PAGE))
        except Rejected as error:
            await self._api.base()
            raise Unavailable(f"the list cannot be had: {error.reason}", code=error.code) from error
        for row in page.rows:
            if row.id in self._places or len(self._places) < KEPT:
                self._places[row.id] = number
        return page

    async def known(self, ids: Collection[str]) -> Mapping[str, ListedVersion]:
        """As `read`, of documents at which nothing is under way: what was said a moment ago is as good."""
        async with self._turn:  # after waiting, what the last look has read can be used
            now, lookup = self._steady(), Lookup(self._api.count)
            self._fresh = {one: told for one, told in self._fresh.items() if told[0] > now - MOMENT}
            fresh = {one: self._seen(self._fresh[one][1]) for one in ids if one in self._fresh}
            found = await self._read([one for one in ids if one not in fresh], lookup)
            self._fresh |= {row.id: (now, row) for row in lookup.rows.values()}
            return fresh | found

    def changing(self, ids: Iterable[str]) -> None:
        """What was said of these may not hold any more."""
        for one in ids:
            self._fresh.pop(one, None)

    async def read(self, ids: Collection[str]) -> Mapping[str, ListedVersion]:
        """What the list says now of `ids`. Only for an id that is not listed all of it is read."""
        async with self._turn:
            return await self._read(ids, Lookup(self._api.count))

    async def _read(self, ids: Collection[str], lookup: Lookup) -> dict[str, ListedVersion]:
        # Those whose page is known come first: these pages show where others are.
        for one in sorted(ids, key=lambda one: (one not in self._places, self._places.get(one, 0))):
            for _ in range(FEW):
                number = None if one in lookup.rows else lookup.next_page(one, self._places.get(one))
                if number is None:
                    break
                lookup.take(number, await self._page(number))
        found = {one: lookup.rows[one] for one in ids if one in lookup.rows}
        missing = set(ids) - found.keys()
        if missing:
            async with aclosing(self.rows()) as rows:
                async for row in rows:
                    if row.id in missing:
                        found[row.id] = row
                        missing.discard(row.id)
                    if not missing:
                        break
        return {one: self._seen(row) for one, row in found.items()}

    def _seen(self, row: MarkedRow) -> ListedVersion:
        told = shapes.read_marker(self._base, row.source_url)
        updated = None if row.updated is None else int(row.updated)
        return ListedVersion(updated, told.was if told else None, told.recipe if told else None)
