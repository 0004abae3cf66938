"""Lists and creates the knowledge bases of a GPTBots bot.

The service has no calls for changing or deleting them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.accounts.account import BaseRequest, Bases, ManagedAccount
from kbsync.accounts.settings import OfferedSetting, any_text, boolean, parse_settings, settings_as_text
from kbsync.contract.target import BaseCard
from kbsync.errors import Rejected, Unsure
from kbsync.targets.gptbots.target import GptbotsTarget

GRAPH, GRAPH_PROMPT = "graph_enable", "kg_ner_extraction_user_prompt"

SETTINGS: Mapping[str, OfferedSetting] = {
    GRAPH: boolean(),
    "access_control_enabled": boolean(),
    GRAPH_PROMPT: any_text(),
}
"""Settings for a new base. The service never returns them."""


class GptbotsBases(Bases):
    """The knowledge bases of one bot."""

    target: GptbotsTarget

    no_models = "GPTBots chooses the model for each knowledge base and doesn't list its models"
    no_capacity = "GPTBots doesn't report how much space the account has; check the GPTBots console"
    no_changes = "change and delete knowledge bases in the GPTBots console"
    retry_reach = "the whole bot, across all its knowledge bases, including other people's documents"

    def fields_of(self, request: BaseRequest) -> dict[str, Any]:
        """Return the settings of a new base, in the service's format."""
        if request.model is not None:
            raise Rejected("omit --model; GPTBots chooses the knowledge base's model")
        fields = parse_settings(request.settings, SETTINGS, "a new knowledge base")
        if GRAPH_PROMPT in fields and fields.get(GRAPH) is not True:
            reason = f"{GRAPH_PROMPT} needs {GRAPH}=true; set both or neither"
            raise Rejected(reason, code="setting")
        return fields

    async def list_all(self) -> Sequence[BaseCard]:
        """Return every base of the bot."""
        return await self.target.cards()

    async def send_create(self, request: BaseRequest, fields: Mapping[str, Any]) -> BaseCard | None:
        """Send the create request.

        The service requires a description; if there is none, this sends the name instead.
        """
        name = request.name or ""
        description = (request.description or "").strip() or name
        body = {"name": name, "desc": description, **fields}
        response = await self._client.post("create-base", "/v1/bot/knowledge/base/create", json=body)
        base_id = response.fields.id("knowledge_base_id")
        settings = settings_as_text(fields, SETTINGS)
        return BaseCard(base_id, name, description, documents=0, settings=settings) if base_id else None

    async def retry_all(self) -> int | None:
        """Start the service's own retry, which always covers all failed documents."""
        try:
            response = await self._client.post("retry", "/v1/bot/data/retry/batch", json={})
        except Unsure as error:
            reason = (
                f"{error.reason}, but the service may have started the retry; it's safe to run this "
                "command again"
            )
            raise Unsure(reason, code=error.code) from error
        return response.fields.count("affectCount")


def account(target: GptbotsTarget) -> ManagedAccount:
    """Return the bot that an open target's key belongs to."""
    return ManagedAccount(GptbotsBases(target))
