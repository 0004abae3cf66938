"""The vector stores of a project: listed, made, changed and removed on a person's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kbsync.contract.managing import BaseCard, BaseWish, Capacity, EmbeddingModel
from kbsync.contract.target import Surroundings
from kbsync.errors import NotOffered, Rejected
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import PAGE_SIZE, object_of, text_of
from kbsync.targets.http.target import make_once
from kbsync.targets.openai.config import OpenaiTargetConfig
from kbsync.targets.openai.shapes import GONE, card_of, mark_in, misshapen, no_store, page_of

DESCRIPTION = "description"
"""The key of a store's metadata that has it."""


class OpenaiBases:
    """Those of the project behind one key. Every call raises `TargetError`."""

    setting = "vector_store_id"

    def __init__(self, config: OpenaiTargetConfig, surroundings: Surroundings, client: Client) -> None:
        self.address, self.own = config.base_url, config.vector_store_id
        self._config, self._surroundings, self._client = config, surroundings, client

    def check_changeable(self) -> None:
        """They are."""

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected`."""
        if wish.model is not None:
            raise Rejected("the service chooses the model of a vector store; leave --model out", code="model")
        if wish.settings:
            raise Rejected(f"a vector store has no setting {min(wish.settings)!r} here", code="setting")
        if wish.callback is not None:
            raise Rejected("the service calls nobody back; leave the callback out", code="callback")

    async def models(self) -> Sequence[EmbeddingModel]:
        """Raises `NotOffered`."""
        raise NotOffered("the service chooses the model of a vector store by itself")

    async def all(self) -> Sequence[BaseCard]:
        """Every store."""
        rows = await self._listed("list-bases", "/vector_stores")
        return [_card(row) for row in rows]

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        return _card(await self._read(base_id))

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make a store whose name is not in use yet; sent once."""
        self.check(wish)
        name, body = wish.name or "", {"name": wish.name, **_metadata(wish, {})}

        async def make() -> BaseCard:
            answer = await self._client.post("create-base", "/vector_stores", json=body)
            made = _card(object_of(answer.body))
            if not made.id:
                raise misshapen(answer)
            return made

        look = self._surroundings.pasted("kb list")
        advice = f"the vector store may have been made or not: look with {look} before another try"
        return await make_once(name, "a vector store", self.all, make, advice)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Another name or description."""
        self.check(wish)
        # All metadata is replaced, and OGX keeps the model of a store in it.
        body = _metadata(wish, object_of((await self._read(base_id)).get("metadata")))
        body |= {} if wish.name is None else {"name": wish.name}
        await self._client.ask("update-base", "POST", f"/vector_stores/{base_id}", json=body)

    async def delete(self, base_id: str) -> None:
        """Remove a store, and the files in it that a kbsync uploaded: the vendor would keep them."""
        rows = await self._listed("list", f"/vector_stores/{base_id}/files")
        ours = [row["id"] for row in rows if mark_in(row) is not None]
        await self._remove(f"/vector_stores/{base_id}", "delete-base")
        for one in ours:
            await self._remove(f"/files/{one}", "files")

    async def capacity(self) -> Capacity | None:
        """Raises `NotOffered`."""
        raise NotOffered("the service does not tell how much space the project has; see its dashboard")

    async def _read(self, base_id: str) -> Mapping[str, Any]:
        try:
            answer = await self._client.ask("base", "GET", f"/vector_stores/{base_id}")
        except Rejected as error:
            if error.code == GONE:
                raise no_store(self._config, base_id) from None
            raise
        return object_of(answer.body)

    async def _remove(self, path: str, op: str) -> None:
        try:
            await self._client.ask(op, "DELETE", path)
        except Rejected as error:
            if error.code != GONE:
                raise

    async def _listed(self, op: str, path: str) -> list[Mapping[str, Any]]:
        rows: dict[str, Mapping[str, Any]] = {}
        params = {"limit": str(PAGE_SIZE), "order": "desc"}
        while True:
            try:
                page = page_of(await self._client.ask(op, "GET", path, params=params))
            except Rejected as error:
                if error.code == GONE:
                    raise no_store(self._config, path.split("/")[2]) from None
                raise
            known = len(rows)
            rows |= {row["id"]: row for row in page.rows}
            if page.after is None or len(rows) == known:
                return list(rows.values())
            params["after"] = page.after


def _metadata(wish: BaseWish, before: Mapping[str, Any]) -> dict[str, Any]:
    if wish.description is None:
        return {}
    return {"metadata": {**before, DESCRIPTION: wish.description}}


def _card(row: Mapping[str, Any]) -> BaseCard:
    return replace(card_of(row), description=text_of(object_of(row.get("metadata")).get(DESCRIPTION)))
