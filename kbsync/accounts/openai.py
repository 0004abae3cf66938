"""The vector stores of a project: listed, made, changed and removed on a person's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.accounts.account import Account, Bases, BaseWish
from kbsync.accounts.answering import ModelAnswers
from kbsync.contract.target import BaseCard
from kbsync.core.text import printable
from kbsync.errors import Rejected
from kbsync.targets.http.reading import count_of, object_of, text_of
from kbsync.targets.openai.api import read, remove, rows
from kbsync.targets.openai.shapes import mark_in
from kbsync.targets.openai.target import OpenaiTarget

DESCRIPTION = "description"
"""The key of a store's metadata that holds its description."""


class OpenaiBases(Bases):
    """Those of the project behind one key. Every call raises `TargetError`."""

    target: OpenaiTarget

    no_models = "the service chooses the model of a vector store by itself"
    no_capacity = "the service does not tell how much space the project has; see its dashboard"

    def fields_of(self, wish: BaseWish) -> dict[str, Any]:
        """None: a store takes none. Raises `Rejected`."""
        if wish.model is not None or wish.settings or wish.callback is not None:
            raise Rejected("a vector store takes a name and a description and nothing else", code="setting")
        return {}

    async def all(self) -> Sequence[BaseCard]:
        """Every store."""
        return [card_of(row) async for row in rows(self._client, "list-bases", "/vector_stores")]

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        return card_of(await self._read(base_id))

    async def make(self, wish: BaseWish, fields: Mapping[str, Any]) -> BaseCard | None:
        """Sent once."""
        answer = await self._client.post("create-base", "/vector_stores", json=_fields(wish, {}))
        made = card_of(object_of(answer.body))
        return made if made.id else None

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Another name or description."""
        self.fields_of(wish)
        body = _fields(wish, object_of((await self._read(base_id)).get("metadata")))
        await self._client.ask("update-base", "POST", f"/vector_stores/{base_id}", json=body)

    async def delete(self, base_id: str) -> None:
        """Remove the files in a store that a kbsync uploaded, which the vendor would keep, then the store.

        The store goes last: only its list says which files are ours, also when this is interrupted and a
        person asks for it once more.
        """
        path = f"/vector_stores/{base_id}"
        ours = [row["id"] async for row in rows(self._client, "list", f"{path}/files") if mark_in(row)]
        for one in ours:
            await remove(self._client, "delete-file", f"/files/{one}")
        await remove(self._client, "delete-base", path)

    async def _read(self, base_id: str) -> Mapping[str, Any]:
        if (found := await read(self._client, "base", f"/vector_stores/{base_id}")) is None:
            raise self.target.no_base(base_id)
        return found


def _fields(wish: BaseWish, before: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent for a wish. All metadata is replaced, and OGX keeps the model of a store in it."""
    fields: dict[str, Any] = {} if wish.name is None else {"name": wish.name}
    if wish.description is not None:
        fields["metadata"] = {**before, DESCRIPTION: wish.description}
    return fields


def card_of(row: Mapping[str, Any]) -> BaseCard:
    """A store."""
    counts = object_of(row.get("file_counts"))
    name, text = printable(text_of(row.get("name"))), text_of(object_of(row.get("metadata")).get(DESCRIPTION))
    size, total = count_of(row.get("usage_bytes")), count_of(counts.get("total"))
    return BaseCard(text_of(row.get("id")), name, text, documents=total, size=size)


def account(target: OpenaiTarget) -> Account:
    """The project behind a key."""
    return Account(OpenaiBases(target), answers=ModelAnswers(target, "/chat/completions"))
