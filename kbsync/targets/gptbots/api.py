"""Documents of one request, and its body: files are read and put into base64 while they are sent. Pure.

Questions to the vendor's search and what comes back, as the contract has it. Pure.

The vendor's calls about one knowledge base, each with its path and its answer as a value.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import Base, Body, Outgoing
from kbsync.errors import Halted, Unavailable, Unsure
from kbsync.targets.gptbots import shapes
from kbsync.targets.gptbots.errors import GptbotsCall
from kbsync.targets.gptbots.settings import Cutting, GptbotsSettings, SearchWish
from kbsync.targets.gptbots.shapes import FoundPassage
from kbsync.targets.http.bodies import RequestBody, base64_size, json_with_files
from kbsync.targets.http.client import Client

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


def packed(items: Iterable[UploadItem], most_files: int) -> Iterator[tuple[UploadItem, ...]]:
    """Requests: equally cut, all new or all changed, no name and no document twice, not too large.

    `notes.md` and `notes.md.txt` do not go together: an answer that tells names without their extensions
    would call the second as the first is called in full.
    """
    open_parcels: dict[tuple[Cutting, bool], list[UploadItem]] = {}
    for item in items:
        parcel = open_parcels.setdefault((item.cutting, bool(item.doc_id)), [])
        if parcel and not _has_room(parcel, item, most_files):
            yield tuple(parcel)
            parcel.clear()
        parcel.append(item)
    yield from (tuple(parcel) for parcel in open_parcels.values() if parcel)


def _has_room(parcel: list[UploadItem], item: UploadItem, most_files: int) -> bool:
    is_namesake = any(
        item.file_name in _names(one)
        or one.file_name in _names(item)
        or (item.doc_id and one.doc_id == item.doc_id)
        for one in parcel
    )
    size = sum(one.size for one in parcel) + item.size
    return not is_namesake and len(parcel) < most_files and size <= MOST_BYTES


def _names(item: UploadItem) -> tuple[str, str]:
    """In full, and without its extension."""
    return item.file_name, item.file_name.rpartition(".")[0]


def stream_of(parcel: tuple[UploadItem, ...], base: str) -> RequestBody:
    """The body of the request."""
    first = parcel[0]
    beginning = {"knowledge_base_id": base, **first.cutting.fields(is_update=bool(first.doc_id))}
    pieces: list[bytes | Body] = [_text(beginning)[:-1] + b',"files":[']
    for number, item in enumerate(parcel):
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

OVERLOADED = frozenset({"50000"})
"""The code of an internal error, which may be that of the ranking model."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One request to the search. `prompt` is not empty. `wish.rerank_version` None: not ranked."""

    prompt: str
    wish: SearchWish

    def body(self, base: str) -> dict[str, object]:
        """The JSON of `POST /v1/vector/match`: this base, never `data_ids` beside it, the two are united."""
        wish = self.wish
        told = {
            "embedding_rate": wish.embedding_rate,
            "doc_correlation": wish.doc_correlation,
            "rerank_version": wish.rerank_version,
        }
        body: dict[str, object] = {"prompt": self.prompt, "top_k": MOST_PASSAGES, "group_ids": [base]}
        return body | {key: value for key, value in told.items() if value is not None}

    @property
    def unranked(self) -> SearchRequest:
        """The same without a ranking model."""
        return replace(self, wish=replace(self.wish, rerank_version=None))


def search_request(query: Query, wish: SearchWish) -> SearchRequest | None:
    """As the config wants it, and ranked where the query wants that; None: there is nothing to look for."""
    if not query.text.strip():
        return None
    ranking = wish.rerank_version or (RANKING if query.rerank else None)
    return SearchRequest(query.text, replace(wish, rerank_version=ranking))


def hits_of(found: Sequence[FoundPassage], query: Query) -> list[Hit]:
    """Documents with their passages, best first; all where the selection is not by document."""
    among = frozenset(query.among)
    by_document: dict[str, list[FoundPassage]] = {}
    for one in sorted(found, key=lambda match: -match.score):
        if not among or one.document_id in among:
            by_document.setdefault(one.document_id, []).append(one)
    hits = [
        Hit(key, passages[0].score, tuple(Passage(one.text, score=one.score) for one in passages))
        for key, passages in by_document.items()
    ]
    is_filtered_later = query.selects and not among
    return hits if is_filtered_later else hits[: query.top_k]


T = TypeVar("T")


class GptbotsApi:
    """One knowledge base behind one key. Every call raises `TargetError`."""

    def __init__(self, settings: GptbotsSettings, client: Client) -> None:
        self._settings, self._client = settings, client
        self._base = settings.knowledge_base_id
        self.count: int | None = None
        """Documents of the base, by the last answer that told."""

    async def base(self) -> Base:
        """Look for the base in the list of all. Raises `Halted("knowledge-base-missing")`."""
        found = next((one for one in await self.bases() if one.id == self._base), None)
        if found is None:
            raise self._missing()
        self.count = found.documents
        return Base(self._base, found.documents, self._settings.base_url)

    async def bases(self) -> tuple[shapes.BaseRow, ...]:
        """All of the bot's: the call has no pages, whatever its name."""
        answer = await self._client.ask(GptbotsCall.BASE, "GET", "/v1/bot/knowledge/base/page")
        return _told(GptbotsCall.BASE, shapes.bases_of(answer.body))

    async def make_base(self, name: str, description: str, settings: Mapping[str, object]) -> str:
        """Make a base, sent once; its id. Raises `Unsure` where it may have been made."""
        body = {"name": name, "desc": description, **settings}
        answer = await self._client.post(GptbotsCall.CREATE_BASE, "/v1/bot/knowledge/base/create", json=body)
        made = shapes.made_base_of(answer.body)
        if not made:
            raise Unsure(f"{GptbotsCall.CREATE_BASE}: the vendor's answer has no id", code="no-id")
        return made

    def _missing(self) -> Halted:
        settings = self._settings
        return Halted(
            "knowledge-base-missing",
            f"knowledge base {self._base} is not among those of the bot that this api_key is for, at "
            f"{settings.base_url}; correct knowledge_base_id, api_key or base_url in the config",
            cure=settings.command("retry"),
        )

    async def page(self, number: int, size: int) -> shapes.ListPage:
        """One page of the list, from 1."""
        params = {"knowledge_base_id": self._base, "page": str(number), "page_size": str(size)}
        answer = await self._client.ask(GptbotsCall.LIST, "GET", "/v1/bot/doc/query/page", params=params)
        page = _told(GptbotsCall.LIST, shapes.page_of(answer.body))
        self.count = self.count if page.total is None else page.total
        return page

    async def deliver(self, parcel: tuple[UploadItem, ...]) -> shapes.UploadReceipt:
        """Send documents, once. Raises `Unsure` where they may have been stored."""
        is_update = bool(parcel[0].doc_id)
        op, method, verb = (
            (GptbotsCall.UPDATE, "PUT", "update") if is_update else (GptbotsCall.ADD, "POST", "add")
        )
        path = f"/v1/bot/doc/{parcel[0].cutting.kind}/{verb}"
        answer = await self._client.deliver(op, method, path, partial(stream_of, parcel, self._base))
        receipt = shapes.receipt_of(answer.body)
        if receipt is None:
            raise Unsure(
                f"{op}: the vendor's answer does not say what became of the files", code="no-receipt"
            )
        return receipt

    async def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """`data_status` of those of `ids` that the vendor tells of."""
        query = urlencode([("data_ids", one) for one in ids])  # each by itself, or they are one odd id
        answer = await self._client.ask(GptbotsCall.STATUS, "GET", f"/v1/bot/data/detail/list?{query}")
        return _told(GptbotsCall.STATUS, shapes.states_of(answer.body))

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove documents; the answer tells nothing of any one of them."""
        query = urlencode({"doc": ",".join(ids)}, safe=",")
        await self._client.ask(GptbotsCall.DELETE, "DELETE", f"/v1/bot/doc/batch/delete?{query}")

    async def retry(self) -> int | None:
        """Have every failed document of the bot indexed again, sent once; how many, None: not told."""
        answer = await self._client.post(GptbotsCall.RETRY, "/v1/bot/data/retry/batch", json={})
        return shapes.affected_of(answer.body)

    async def search(self, question: SearchRequest) -> tuple[shapes.FoundPassage, ...]:
        """Search this base."""
        body = question.body(self._base)
        answer = await self._client.ask(GptbotsCall.SEARCH, "POST", "/v1/vector/match", json=body)
        return _told(GptbotsCall.SEARCH, shapes.matches_of(answer.body))


def _told(op: GptbotsCall, value: T | None) -> T:
    if value is None:
        raise Unavailable(f"{op}: the vendor's answer has another shape than it should", code="shape")
    return value
