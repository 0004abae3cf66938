"""The knowledge bases of a bot: listed, and made on a person's order. The vendor has no call for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kbsync.contract.managing import BaseCard, BaseWish, Capacity, EmbeddingModel
from kbsync.contract.target import Surroundings
from kbsync.errors import Halted, NotOffered, Rejected, Unsure
from kbsync.targets.gptbots.api import list_bases
from kbsync.targets.gptbots.config import GptbotsTargetConfig
from kbsync.targets.http.client import Client
from kbsync.targets.http.managing import (
    OfferedSetting,
    any_text,
    boolean,
    make_once,
    parse_settings,
    shown_settings,
)
from kbsync.targets.http.reading import id_of, object_of

GRAPH, GRAPH_PROMPT = "graph_enable", "kg_ner_extraction_user_prompt"

SETTINGS: Mapping[str, OfferedSetting] = {
    GRAPH: boolean(),
    "access_control_enabled": boolean(),
    GRAPH_PROMPT: any_text(),
}
"""What can be set when a base is made; the vendor never shows it again."""


class GptbotsBases:
    """Those of the bot behind one key. Every call raises `TargetError`."""

    setting = "knowledge_base_id"

    def __init__(self, config: GptbotsTargetConfig, surroundings: Surroundings, client: Client) -> None:
        self.address, self.own = config.base_url, config.knowledge_base_id
        self._surroundings, self._client = surroundings, client

    def check_changeable(self) -> None:
        """Raises `NotOffered`."""
        raise NotOffered("knowledge bases of GPTBots are changed and deleted in its console")

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected`."""
        _fields(wish)

    async def models(self) -> Sequence[EmbeddingModel]:
        """Raises `NotOffered`."""
        raise NotOffered("GPTBots lists no models and chooses that of a knowledge base by itself")

    async def all(self) -> Sequence[BaseCard]:
        """Every base."""
        return await list_bases(self._client)

    async def look(self, base_id: str) -> BaseCard:
        """One of them, from the list: there is no call for one."""
        found = next((card for card in await self.all() if card.id == base_id), None)
        if found is None:
            raise Halted(
                "knowledge-base-missing",
                f"there is no knowledge base {base_id} at {self.address} for this api_key; "
                f"list them with {self._surroundings.pasted('kb list')}",
            )
        return found

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make a base whose name is not in use yet. Sent once; without a description its name is sent."""
        if wish.model is not None:
            raise Rejected("GPTBots chooses the model of a knowledge base by itself; leave --model out")
        name, settings = wish.name or "", _fields(wish)
        description = (wish.description or "").strip() or name

        async def make() -> BaseCard:
            body = {"name": name, "desc": description, **settings}
            answer = await self._client.post("create-base", "/v1/bot/knowledge/base/create", json=body)
            base_id = id_of(object_of(answer.body).get("knowledge_base_id"))
            if base_id is None:
                raise Unsure("create-base: the vendor's answer has no id", code="no-id")
            told = shown_settings(settings, SETTINGS)
            return BaseCard(base_id, name, description, documents=0, settings=told)

        look = self._surroundings.pasted("kb list")
        advice = f"the knowledge base may have been made or not: look with {look} before another try"
        return await make_once(name, "a knowledge base", self.all, make, advice)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Raises `NotOffered`."""
        self.check_changeable()

    async def delete(self, base_id: str) -> None:
        """Raises `NotOffered`."""
        self.check_changeable()

    async def capacity(self) -> Capacity | None:
        """Raises `NotOffered`."""
        raise NotOffered("GPTBots does not tell how much space the account has; see its console")


def _fields(wish: BaseWish) -> dict[str, object]:
    fields = parse_settings(wish.settings, SETTINGS, "a new knowledge base")
    if GRAPH_PROMPT in fields and fields.get(GRAPH) is not True:
        raise Rejected(
            f"{GRAPH_PROMPT} goes with {GRAPH}=true; set that, too, or leave it out", code="setting"
        )
    return fields
