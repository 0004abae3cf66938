"""The knowledge bases of an account: listed, made, changed and removed on a person's order only.

Making one is not repeatable and names need not be unique, so names are looked at before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kbsync.contract import BaseCard, BaseWish, Model, Room
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, Unsure
from kbsync.targets.http import Client
from kbsync.targets.zhipu.cards import MODELS, card_of, cards_of, chosen_model, created_id, models_of
from kbsync.targets.zhipu.codes import NotFound, Op
from kbsync.targets.zhipu.ids import path_part
from kbsync.targets.zhipu.knowledge import is_gone
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.wire import capacity_of

_PAGE = 100
_MOST_PAGES = 1000


class ZhipuBases:
    """Those behind one key. Every call raises `TargetError`."""

    setting = "knowledge_id"

    def __init__(self, settings: ZhipuSettings, client: Client) -> None:
        self._settings, self._client = settings, client

    @property
    def address(self) -> str:
        """`base_url` in its one form."""
        return self._settings.address

    @property
    def own(self) -> str:
        """The id that the config names."""
        return self._settings.knowledge_id

    async def models(self) -> Sequence[Model]:
        """As listed; as documented where the installation lists none."""
        try:
            answer = await self._client.ask(Op.MODELS, "GET", "/embedding")
        except (NotFound, NotOffered):
            return MODELS
        return models_of(answer.body) or MODELS

    async def all(self) -> Sequence[BaseCard]:
        """Every base. Pages are read until one has nothing new, whatever size they come in."""
        found: dict[str, BaseCard] = {}
        for number in range(1, _MOST_PAGES):
            params = {"page": str(number), "size": str(_PAGE)}
            answer = await self._client.ask(Op.BASES, "GET", "/knowledge", params=params)
            fresh = {card.id: card for card in cards_of(answer.body) if card.id not in found}
            if not fresh:
                break
            found |= fresh
        return tuple(found.values())

    async def look(self, base_id: str) -> BaseCard:
        """One base."""
        try:
            answer = await self._client.ask(Op.BASE, "GET", f"/knowledge/{path_part(base_id)}")
        except Rejected as error:
            raise self._missing(base_id, error.reason) from error
        card = card_of(answer.body, base_id)
        if card is None:
            raise self._missing(base_id, "the vendor answers without any data")
        return card

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make a base whose name is not in use yet. Sent once."""
        name = wish.name or ""
        if namesakes := await self._named(name):
            raise NameTaken(f"there is a knowledge base {name!r} already: {namesakes[0].id}", code="name")
        model = chosen_model(wish.model, await self.models())
        body = {"name": name, "description": wish.description, "embedding_id": _number(model.id)}
        try:
            answer = await self._client.post(Op.CREATE_BASE, "/knowledge", json=_without_none(body))
        except Unsure as error:
            return await self._found_after(error, name)
        base_id = created_id(answer.body)
        if base_id is None:
            return await self._found_after(Unsure("the vendor's answer has no id", code="no-id"), name)
        return BaseCard(base_id, name, wish.description or "", model.name, 0, 0)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Send what changes and nothing else: another model makes all vectors anew."""
        model = chosen_model(wish.model, await self.models()) if wish.model is not None else None
        body = {
            "name": wish.name,
            "description": wish.description,
            "embedding_id": _number(model.id) if model is not None else None,
        }
        path = f"/knowledge/{path_part(base_id)}"
        await self._client.ask(Op.EDIT_BASE, "PUT", path, json=_without_none(body))

    async def delete(self, base_id: str) -> None:
        """Remove it; one that is gone already is done."""
        try:
            await self._client.ask(Op.DELETE_BASE, "DELETE", f"/knowledge/{path_part(base_id)}")
        except Rejected as error:
            if not is_gone(error):
                raise

    async def room(self) -> Room | None:
        """The account's space."""
        answer = await self._client.ask(Op.CAPACITY, "GET", "/knowledge/capacity")
        told = capacity_of(answer.body)
        return Room(told.used, told.total) if told is not None else None

    async def _named(self, name: str) -> list[BaseCard]:
        return [card for card in await self.all() if card.name == name]

    async def _found_after(self, error: Unsure, name: str) -> BaseCard:
        """There was none of this name before: one that is there now was made by the lost request."""
        made = await self._named(name)
        if len(made) != 1:
            raise Unsure(
                f"{error.reason}; the knowledge base may have been made or not: look with kbsync kb list "
                "before another try",
                code=error.code,
            ) from error
        return made[0]

    def _missing(self, base_id: str, words: str) -> Halted:
        return Halted(
            "knowledge-base-missing",
            f"there is no knowledge base {base_id} at {self.address} for this api_key: {words}; "
            f"those that are there: {self._settings.command('kb list')}",
        )


def _number(model_id: str) -> int | str:
    return int(model_id) if model_id.isdecimal() else model_id


def _without_none(body: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in body.items() if value is not None}
