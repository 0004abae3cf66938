"""The vendor's calls about one knowledge base, each with its path, its body and its answer as a value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from kbsync.contract.target import Base, Body, Outgoing
from kbsync.errors import Halted, Unavailable, Unsure
from kbsync.targets.gptbots import shapes
from kbsync.targets.gptbots.config import Cutting, GptbotsTargetConfig
from kbsync.targets.gptbots.errors import GptbotsCall
from kbsync.targets.http.bodies import RequestBody, base64_size, json_with_files
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import ListPage

MOST_FILES = 10
"""Documents in one request: 20 are documented, production refused 20 and took 10."""

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
        is_namesake = any(
            item.file_name in (one.file_name, one.file_name.rpartition(".")[0])
            or one.file_name == item.file_name.rpartition(".")[0]
            or (item.doc_id and one.doc_id == item.doc_id)
            for one in parcel
        )
        is_full = len(parcel) >= most_files or sum(one.size for one in parcel) + item.size > MOST_BYTES
        if parcel and (is_namesake or is_full):
            yield tuple(parcel)
            parcel.clear()
        parcel.append(item)
    yield from (tuple(parcel) for parcel in open_parcels.values() if parcel)


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

T = TypeVar("T")


class GptbotsApi:
    """One knowledge base behind one key. Every call raises `TargetError`."""

    def __init__(self, config: GptbotsTargetConfig, cure: str, client: Client) -> None:
        """`cure`: the command for a halt."""
        self._config, self._cure, self._client = config, cure, client
        self._base = config.knowledge_base_id
        self.count: int | None = None
        """Documents of the base, by the last answer that told."""

    async def base(self) -> Base:
        """Look for the base in the list of all. Raises `Halted("knowledge-base-missing")`."""
        found = next((one for one in await self.bases() if one.id == self._base), None)
        if found is None:
            raise Halted(
                "knowledge-base-missing",
                f"knowledge base {self._base} is not among those of the bot that this api_key is for, at "
                f"{self._config.base_url}; correct knowledge_base_id, api_key or base_url in the config",
                cure=self._cure,
            )
        self.count = found.documents
        return Base(self._base, found.documents, self._config.base_url)

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

    async def page(self, number: int, size: int) -> ListPage[shapes.DocumentRow]:
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

    async def search(self, prompt: str, ranking: str | None) -> tuple[shapes.FoundPassage, ...]:
        """Search this base. `prompt` is not empty; `ranking` names the ranking model, None: not ranked."""
        wish = self._config.search
        told = {
            "embedding_rate": wish.embedding_rate,
            "doc_correlation": wish.doc_correlation,
            "rerank_version": ranking,
        }
        # The base alone, never `data_ids` beside it: the vendor unites the two.
        body: dict[str, object] = {"prompt": prompt, "top_k": MOST_PASSAGES, "group_ids": [self._base]}
        body |= {key: value for key, value in told.items() if value is not None}
        answer = await self._client.ask(GptbotsCall.SEARCH, "POST", "/v1/vector/match", json=body)
        return _told(GptbotsCall.SEARCH, shapes.matches_of(answer.body))


def _told(op: GptbotsCall, value: T | None) -> T:
    if value is None:
        raise Unavailable(f"{op}: the vendor's answer has another shape than it should", code="shape")
    return value
