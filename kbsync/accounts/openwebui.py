"""The knowledge bases that the user of a key sees, and may make and delete."""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.accounts.account import Account, Bases, BaseWish
from kbsync.accounts.answering import ModelAnswers
from kbsync.contract.managing import BaseCard
from kbsync.errors import Rejected, Unavailable
from kbsync.targets.http.reading import ListPage, ListSweep, well_formed
from kbsync.targets.openwebui.shapes import card_of, page_of
from kbsync.targets.openwebui.target import OpenWebuiTarget


class OpenWebuiBases(Bases):
    """Those of one user. Every call raises `TargetError`."""

    target: OpenWebuiTarget

    no_models = "the model of all knowledge bases is set in the admin panel of Open WebUI"
    no_capacity = "Open WebUI has no quota of its own"

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected`."""
        if wish.model is not None or wish.settings:
            raise Rejected("models and settings of Open WebUI are those of the whole server", code="setting")

    async def all(self) -> Sequence[BaseCard]:
        """Every base."""

        async def ask(number: int, size: int) -> ListPage[BaseCard]:
            page = {"page": str(number)}
            answer = await self._client.ask("list-bases", "GET", "/api/v1/knowledge/", params=page)
            return well_formed("list-bases", page_of(answer.body, card_of))

        return [card async for card in ListSweep(ask).rows()]

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        return await self.target.card(base_id)

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make a base whose name is not in use yet. Sent once."""
        self.check(wish)
        name = wish.name or ""

        async def make() -> BaseCard | None:
            body = {"name": name, "description": wish.description or ""}
            answer = await self._client.post("create-base", "/api/v1/knowledge/create", json=body)
            return card_of(answer.body)

        return await self._make_once(name, make)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Change its name and description; both are sent, so what is not wished for is read before."""
        self.check(wish)
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
