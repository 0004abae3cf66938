"""Lists, creates, changes and deletes the knowledge bases of an Open WebUI user, identified by the key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from kbsync.accounts.account import BaseRequest, Bases, ManagedAccount
from kbsync.accounts.answering import ModelAnswers
from kbsync.contract.target import BaseCard
from kbsync.errors import Rejected, Unavailable
from kbsync.targets.http.reading import ListPage, require_id
from kbsync.targets.openwebui.shapes import card_of, page_of
from kbsync.targets.openwebui.target import OpenWebuiTarget


class OpenWebuiBases(Bases):
    """The knowledge bases of one user."""

    target: OpenWebuiTarget

    no_models = "Open WebUI uses one model for all knowledge bases, set in its admin panel"
    no_capacity = "Open WebUI has no quota"

    def fields_of(self, request: BaseRequest) -> dict[str, Any]:
        """Return no settings, because models and settings apply to the whole server."""
        if request.model is not None or request.settings:
            raise Rejected(
                "Open WebUI sets models and settings for the whole server, not for each knowledge base",
                code="setting",
            )
        return {}

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """Return one page of the list. The server decides how long it is."""
        read = partial(page_of, read=card_of)
        return await self._client.read("list-bases", "/api/v1/knowledge/", read, params={"page": str(number)})

    async def send_create(self, request: BaseRequest, fields: Mapping[str, Any]) -> BaseCard | None:
        """Send the create request, with only the name and the description."""
        body = {"name": request.name, "description": request.description or ""}
        response = await self._client.post("create-base", "/api/v1/knowledge/create", json=body)
        return card_of(response.body)

    async def update(self, base_id: str, request: BaseRequest) -> None:
        """Change the name or the description.

        The server requires both, so this gets the current ones first.
        """
        self.fields_of(request)
        body, path = request.texts_after(await self.get(base_id)), f"/api/v1/knowledge/{base_id}/update"
        changed = await self._client.read("update-base", path, card_of, json=body)
        require_id("update-base", changed.id, base_id)

    async def delete(self, base_id: str) -> None:
        """Delete a base but not its files, which belong to the users who uploaded them."""
        response = await self._client.request("delete-base", "DELETE", f"/api/v1/knowledge/{base_id}/delete")
        if response.body is not True:
            raise Unavailable("delete-base: the server didn't delete the knowledge base", code="not-deleted")


def account(target: OpenWebuiTarget) -> ManagedAccount:
    """Return the account of the user that an open target's key belongs to."""
    # Without a chat id and a session id, the server stores nothing and responds like OpenAI.
    return ManagedAccount(OpenWebuiBases(target), answers=ModelAnswers(target, "/api/chat/completions"))
