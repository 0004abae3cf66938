"""The knowledge bases of a bot: listed, and made on a person's order. The vendor has no call for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.accounts.account import Account, Bases, BaseWish
from kbsync.accounts.settings import OfferedSetting, any_text, boolean, parse_settings, shown_settings
from kbsync.contract.target import BaseCard
from kbsync.errors import Rejected, Unsure
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
    no_changes = "knowledge bases of GPTBots are changed and deleted in its console"
    retry_reach = "the whole bot, in all of its knowledge bases, also those of others"

    def fields_of(self, wish: BaseWish) -> dict[str, Any]:
        """Raises `Rejected`."""
        if wish.model is not None:
            raise Rejected("GPTBots chooses the model of a knowledge base by itself; leave --model out")
        fields = parse_settings(wish.settings, SETTINGS, "a new knowledge base")
        if GRAPH_PROMPT in fields and fields.get(GRAPH) is not True:
            reason = f"{GRAPH_PROMPT} goes with {GRAPH}=true; set that, too, or leave it out"
            raise Rejected(reason, code="setting")
        return fields

    async def all(self) -> Sequence[BaseCard]:
        """Every base."""
        return await list_bases(self._client)

    async def look(self, base_id: str) -> BaseCard:
        """One of them, from the list: there is no call for one."""
        found = next((card for card in await self.all() if card.id == base_id), None)
        if found is None:
            raise self.target.no_base(base_id)
        return found

    async def make(self, wish: BaseWish, fields: Mapping[str, Any]) -> BaseCard | None:
        """Sent once. Without a description its name is sent."""
        name = wish.name or ""
        description = (wish.description or "").strip() or name
        body = {"name": name, "desc": description, **fields}
        answer = await self._client.post("create-base", "/v1/bot/knowledge/base/create", json=body)
        base_id = id_of(object_of(answer.body).get("knowledge_base_id"))
        shown = shown_settings(fields, SETTINGS)
        return BaseCard(base_id, name, description, documents=0, settings=shown) if base_id else None

    async def retry_all(self) -> int | None:
        """The vendor's own retry, which takes no ids; sent once."""
        try:
            answer = await self._client.post("retry", "/v1/bot/data/retry/batch", json={})
        except Unsure as error:
            reason = f"{error.reason}; they may be tried again by now, and asking once more does no harm"
            raise Unsure(reason, code=error.code) from error
        return count_of(object_of(answer.body).get("affectCount"))


def account(target: GptbotsTarget) -> Account:
    """The bot of a key."""
    return Account(GptbotsBases(target))
