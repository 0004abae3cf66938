"""The knowledge bases of an account: listed, made, changed and removed on a person's order only."""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.contract.managing import BaseCard, BaseWish, Model, Room
from kbsync.errors import Halted, NotOffered, Rejected, Unsure
from kbsync.targets.http import Client
from kbsync.targets.http.namesakes import check_unused, made_after_all
from kbsync.targets.http.wishes import told_wishes
from kbsync.targets.zhipu import catalogue, wishes
from kbsync.targets.zhipu.api import ask_capacity
from kbsync.targets.zhipu.callbacks import unsaid
from kbsync.targets.zhipu.cards import card_of, cards_of, models_of
from kbsync.targets.zhipu.codes import NotFound, Op
from kbsync.targets.zhipu.ids import number_of, path_part
from kbsync.targets.zhipu.models import MODELS, chosen_model
from kbsync.targets.zhipu.settings import ZhipuSettings

_ADVICE = "the knowledge base may have been made or not: look with {} before another try"


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

    def check_changeable(self) -> None:
        """They are: nothing is raised."""

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected`."""
        wishes.of_base(wish)

    async def models(self) -> Sequence[Model]:
        """As listed; as documented where the installation lists none."""
        try:
            answer = await self._client.ask(Op.MODELS, "GET", "/embedding")
        except (NotFound, NotOffered):
            return MODELS
        return models_of(answer.body) or MODELS

    async def all(self) -> Sequence[BaseCard]:
        """Every base."""
        return await catalogue.everything(self._client, Op.BASES, "/knowledge", cards_of)

    async def look(self, base_id: str) -> BaseCard:
        """One base."""
        try:
            answer = await self._client.ask(Op.BASE, "GET", _path(base_id))
        except Rejected as error:
            raise self._missing(base_id, error.reason) from error
        card = card_of(answer.body, base_id)
        if card is None:
            raise self._missing(base_id, "the vendor answers without any data")
        return card

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make a base whose name is not in use yet. Sent once."""
        name, settings = wish.name or "", wishes.of_base(wish)
        await check_unused(name, self.all, "a knowledge base")
        model = chosen_model(wish.model, await self.models())
        body = {
            "name": name,
            "description": wish.description,
            "embedding_id": number_of(model.id),
            **settings,
        }
        try:
            base_id = await catalogue.make(self._client, Op.CREATE_BASE, "/knowledge", catalogue.given(body))
        except Unsure as error:
            return await made_after_all(
                name, self.all, error, _ADVICE.format(self._settings.pasted("kb list"))
            )
        told = told_wishes(settings, wishes.TOLD_OF_A_BASE)
        return BaseCard(base_id, name, wish.description or "", model.name, 0, 0, told)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Send what changes and nothing else: another model makes all vectors anew."""
        settings = wishes.of_base(wish)
        model = chosen_model(wish.model, await self.models()) if wish.model is not None else None
        body = {
            "name": wish.name,
            "description": wish.description,
            "embedding_id": number_of(model.id) if model is not None else None,
            "callback_url": wish.callback,
            "callback_header": dict(wish.headers) or None,
            **settings,
        }
        with unsaid(wish.headers.values()):
            await self._client.ask(Op.EDIT_BASE, "PUT", _path(base_id), json=catalogue.given(body))

    async def delete(self, base_id: str) -> None:
        """Remove it; one that is gone already is done."""
        await catalogue.remove(self._client, Op.DELETE_BASE, _path(base_id), Op.BASE)

    async def room(self) -> Room | None:
        """The account's space."""
        told = await ask_capacity(self._client)
        if told is None:
            return None
        return Room(told.used, told.total, told.used_words, told.total_words)

    def _missing(self, base_id: str, words: str) -> Halted:
        return Halted(
            "knowledge-base-missing",
            f"there is no knowledge base {base_id} at {self.address} for this api_key: {words}; "
            f"those that are there: {self._settings.pasted('kb list')}",
        )


def _path(base_id: str) -> str:
    return f"/knowledge/{path_part(base_id)}"
