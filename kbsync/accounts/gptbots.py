"""The knowledge bases of a bot: listed, and made on a person's order. The vendor has no call for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kbsync.accounts.account import Account, Bases, BaseWish
from kbsync.accounts.settings import OfferedSetting, any_text, boolean, parse_settings, shown_settings
from kbsync.contract.managing import BaseCard
from kbsync.errors import NotOffered, Rejected, Unsure
from kbsync.targets.gptbots.api import list_bases
from kbsync.targets.gptbots.target import GptbotsTarget
from kbsync.targets.http.reading import count_of, id_of, object_of

GRAPH, GRAPH_PROMPT = "graph_enable", "kg_ner_extraction_user_prompt"

SETTINGS: Mapping[str, OfferedSetting] = {
    GRAPH: boolean(),
    "access_control_enabled": boolean(),
    GRAPH_PROMPT: any_text(),
}
"""What can be set when a base is made; the vendor never shows it again."""


class GptbotsBases(Bases):
    """Those of the bot behind one key. Every call raises `TargetError`."""

    target: GptbotsTarget

    no_models = "GPTBots lists no models and chooses that of a knowledge base by itself"
    no_capacity = "GPTBots does not tell how much space the account has; see its console"
    retry_reach = "the whole bot, in all of its knowledge bases, also those of others"

    def check_changeable(self) -> None:
        """Raises `NotOffered`."""
        raise NotOffered("knowledge bases of GPTBots are changed and deleted in its console")

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected`."""
        _fields(wish)

    async def all(self) -> Sequence[BaseCard]:
        """Every base."""
        return await list_bases(self._client)

    async def look(self, base_id: str) -> BaseCard:
        """One of them, from the list: there is no call for one."""
        found = next((card for card in await self.all() if card.id == base_id), None)
        if found is None:
            raise self.target.no_base(base_id)
        return found

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make a base whose name is not in use yet. Sent once; without a description its name is sent."""
        if wish.model is not None:
            raise Rejected("GPTBots chooses the model of a knowledge base by itself; leave --model out")
        name, settings = wish.name or "", _fields(wish)
        description = (wish.description or "").strip() or name

        async def make() -> BaseCard | None:
            body = {"name": name, "desc": description, **settings}
            answer = await self._client.post("create-base", "/v1/bot/knowledge/base/create", json=body)
            base_id = id_of(object_of(answer.body).get("knowledge_base_id"))
            shown = shown_settings(settings, SETTINGS)
            return BaseCard(base_id, name, description, documents=0, settings=shown) if base_id else None

        return await self._make_once(name, make)

    async def retry_all(self) -> int | None:
        """The vendor's own retry, which takes no ids; sent once."""
        try:
            answer = await self._client.post("retry", "/v1/bot/data/retry/batch", json={})
        except Unsure as error:
            reason = f"{error.reason}; they may be tried again by now, and asking once more does no harm"
            raise Unsure(reason, code=error.code) from error
        return count_of(object_of(answer.body).get("affectCount"))


def _fields(wish: BaseWish) -> dict[str, object]:
    fields = parse_settings(wish.settings, SETTINGS, "a new knowledge base")
    if GRAPH_PROMPT in fields and fields.get(GRAPH) is not True:
        raise Rejected(
            f"{GRAPH_PROMPT} goes with {GRAPH}=true; set that, too, or leave it out", code="setting"
        )
    return fields


def account(target: GptbotsTarget) -> Account:
    """The bot of a key."""
    return Account(GptbotsBases(target))
