"""The knowledge bases that the user of a key sees, and may make and delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbsync.accounts.account import Account, Bases, BaseWish
from kbsync.accounts.answering import ModelAnswers
from kbsync.contract.target import BaseCard
from kbsync.errors import Rejected, Unavailable
from kbsync.targets.http.reading import ListPage, well_formed
from kbsync.targets.openwebui.shapes import card_of, page_of
from kbsync.targets.openwebui.target import OpenWebuiTarget


class OpenWebuiBases(Bases):
    """Those of one user. Every call raises `TargetError`."""

    target: OpenWebuiTarget

    no_models = "the model of all knowledge bases is set in the admin panel of Open WebUI"
    no_capacity = "Open WebUI has no quota of its own"

    def fields_of(self, wish: BaseWish) -> dict[str, Any]:
        """None: a base has none of its own. Raises `Rejected`."""
        if wish.model is not None or wish.settings:
            raise Rejected("models and settings of Open WebUI are those of the whole server", code="setting")
        return {}

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """As large as the server likes it."""
        answer = await self._client.ask(
            "list-bases", "GET", "/api/v1/knowledge/", params={"page": str(number)}
        )
        return well_formed("list-bases", page_of(answer.body, card_of))

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        return await self.target.card(base_id)

    async def make(self, wish: BaseWish, fields: Mapping[str, Any]) -> BaseCard | None:
        """Sent once."""
        body = {"name": wish.name, "description": wish.description or ""}
        answer = await self._client.post("create-base", "/api/v1/knowledge/create", json=body)
        return card_of(answer.body)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Change its name and description; both are sent, so what is not wished for is read before."""
        self.fields_of(wish)
        now = await self.look(base_id)
        description = now.description if wish.description is None else wish.description
        body = {"name": wish.name or now.name, "description": description}
        await self._client.ask("update-base", "POST", f"/api/v1/knowledge/{base_id}/update", json=body)

    async def delete(self, base_id: str) -> None:
        """Remove a base; the server keeps its files, which belong to their users."""
        answer = await self._client.ask("delete-base", "DELETE", f"/api/v1/knowledge/{base_id}/delete")
        if answer.body is not True:
            raise Unavailable("delete-base: the server did not delete it", code="not-deleted")


def account(target: OpenWebuiTarget) -> Account:
    """The user of a key."""
    # Without a chat's and a session's id nothing of it is kept there, and the answer comes as at OpenAI.
    return Account(OpenWebuiBases(target), answers=ModelAnswers(target, "/api/chat/completions"))
