"""The vendor's calls about one knowledge base, each with its path and its answer as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from kbsync.contract.mirroring import Base
from kbsync.errors import Halted, Unavailable, Unsure
from kbsync.targets.gptbots import wire
from kbsync.targets.gptbots.codes import Op
from kbsync.targets.gptbots.parcels import Item, stream_of
from kbsync.targets.gptbots.searching import Question
from kbsync.targets.gptbots.settings import GptbotsSettings
from kbsync.targets.http import Client

T = TypeVar("T")


class Api:
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

    async def bases(self) -> tuple[wire.KnowledgeBase, ...]:
        """All of the bot's: the call has no pages, whatever its name."""
        answer = await self._client.ask(Op.BASE, "GET", "/v1/bot/knowledge/base/page")
        return _told(Op.BASE, wire.bases_of(answer.body))

    async def make_base(self, name: str, description: str, settings: Mapping[str, object]) -> str:
        """Make a base, sent once; its id. Raises `Unsure` where it may have been made."""
        body = {"name": name, "desc": description, **settings}
        answer = await self._client.post(Op.CREATE_BASE, "/v1/bot/knowledge/base/create", json=body)
        made = wire.made_base_of(answer.body)
        if not made:
            raise Unsure(f"{Op.CREATE_BASE}: the vendor's answer has no id", code="no-id")
        return made

    def _missing(self) -> Halted:
        settings = self._settings
        return Halted(
            "knowledge-base-missing",
            f"knowledge base {self._base} is not among those of the bot that this api_key is for, at "
            f"{settings.base_url}; correct knowledge_base_id, api_key or base_url in the config",
            cure=settings.command("retry"),
        )

    async def page(self, number: int, size: int) -> wire.Page:
        """One page of the list, from 1."""
        params = {"knowledge_base_id": self._base, "page": str(number), "page_size": str(size)}
        answer = await self._client.ask(Op.LIST, "GET", "/v1/bot/doc/query/page", params=params)
        page = _told(Op.LIST, wire.page_of(answer.body))
        self.count = self.count if page.total is None else page.total
        return page

    async def deliver(self, parcel: tuple[Item, ...]) -> wire.Receipt:
        """Send documents, once. Raises `Unsure` where they may have been stored."""
        is_update = bool(parcel[0].doc_id)
        op, method, verb = (Op.UPDATE, "PUT", "update") if is_update else (Op.ADD, "POST", "add")
        path = f"/v1/bot/doc/{parcel[0].cutting.kind}/{verb}"
        answer = await self._client.deliver(op, method, path, stream_of(parcel, self._base))
        receipt = wire.receipt_of(answer.body)
        if receipt is None:
            raise Unsure(
                f"{op}: the vendor's answer does not say what became of the files", code="no-receipt"
            )
        return receipt

    async def states(self, ids: Sequence[str]) -> Mapping[str, str]:
        """`data_status` of those of `ids` that the vendor tells of."""
        query = urlencode([("data_ids", one) for one in ids])  # each by itself, or they are one odd id
        answer = await self._client.ask(Op.STATUS, "GET", f"/v1/bot/data/detail/list?{query}")
        return _told(Op.STATUS, wire.states_of(answer.body))

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove documents; the answer tells nothing of any one of them."""
        query = urlencode({"doc": ",".join(ids)}, safe=",")
        await self._client.ask(Op.DELETE, "DELETE", f"/v1/bot/doc/batch/delete?{query}")

    async def retry(self) -> int | None:
        """Have every failed document of the bot indexed again, sent once; how many, None: not told."""
        answer = await self._client.post(Op.RETRY, "/v1/bot/data/retry/batch", json={})
        return wire.affected_of(answer.body)

    async def search(self, question: Question) -> tuple[wire.Match, ...]:
        """Search this base."""
        body = question.body(self._base)
        answer = await self._client.ask(Op.SEARCH, "POST", "/v1/vector/match", json=body)
        return _told(Op.SEARCH, wire.matches_of(answer.body))


def _told(op: Op, value: T | None) -> T:
    if value is None:
        raise Unavailable(f"{op}: the vendor's answer has another shape than it should", code="shape")
    return value
