"""The knowledge bases of a workspace: listed, shown, made, renamed and deleted on a person's order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kbsync.accounts.account import Account, Bases, BaseWish
from kbsync.accounts.settings import OfferedSetting, choice, parse_settings
from kbsync.contract.target import BaseCard
from kbsync.errors import Halted, NotOffered, Rejected
from kbsync.targets.dify.shapes import dataset_of
from kbsync.targets.dify.target import DifyTarget
from kbsync.targets.http.errors import HttpAnswer
from kbsync.targets.http.reading import ListPage, object_of, page_in, well_formed

SETTINGS: Mapping[str, OfferedSetting] = {
    "indexing_technique": choice("high_quality", "economy"),
    "permission": choice("only_me", "all_team_members"),
}
"""What can be set when a base is made."""

USUAL = {"indexing_technique": "high_quality"}

LONGEST_NAME, LONGEST_WORDS = 40, 400
"""Characters (api/controllers/service_api/dataset/dataset.py)."""


class DifyBases(Bases):
    """Those of the workspace behind one key. Every call raises `TargetError`."""

    target: DifyTarget

    no_models = "the model of a knowledge base is chosen in Dify"
    no_capacity = "Dify does not tell how much space the workspace has; see its console"

    def fields_of(self, wish: BaseWish) -> dict[str, Any]:
        """Raises `Rejected`."""
        if wish.model is not None:
            raise Rejected("the model of a knowledge base is chosen in Dify; leave --model out")
        name, description = (wish.name, LONGEST_NAME), (wish.description, LONGEST_WORDS)
        for what, (words, longest) in {"a name": name, "a description": description}.items():
            if len(words or "") > longest:
                raise Rejected(f"{what} has at most {longest} characters in Dify", code="length")
        return parse_settings(wish.settings, SETTINGS, "a new knowledge base")

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """Those of everybody in the workspace."""
        params = {"page": str(number), "limit": str(size), "include_all": "true"}
        answer = await self._client.ask("bases", "GET", "/datasets", params=params)
        return well_formed("bases", bases_of(answer.body))

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        try:
            answer = await self._ask("base", "GET", base_id)
        except NotOffered as error:
            raise self.target.no_base(base_id) from error
        return well_formed("base", _card(answer.body))

    async def _ask(self, op: str, method: str, base_id: str, json: object = None) -> HttpAnswer:
        """Ask about one base: what is said to be missing is that one, whatever the config names."""
        try:
            return await self._client.ask(op, method, f"/datasets/{quote(base_id, safe='')}", json=json)
        except Halted as error:
            if error.halt == "knowledge-base-missing":
                raise self.target.no_base(base_id) from error
            raise

    async def make(self, wish: BaseWish, fields: Mapping[str, Any]) -> BaseCard | None:
        """By default one that is searched by meaning. Sent once."""
        body = {
            "name": wish.name,
            "description": wish.description or "",
            "indexing_technique": "high_quality",
        }
        return _card((await self._client.post("create-base", "/datasets", json={**body, **fields})).body)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Change name and description. Raises `NotOffered` for settings, which are chosen when it is made."""
        self.fields_of(wish)
        if wish.settings:
            raise NotOffered("settings of a knowledge base are changed in Dify; leave --set out")
        card = await self.look(base_id)
        description = card.description if wish.description is None else wish.description
        body = {"name": wish.name or card.name, "description": description}
        await self._ask("edit-base", "PATCH", base_id, body)

    async def delete(self, base_id: str) -> None:
        """Remove a base with everything in it."""
        await self.look(base_id)
        try:
            await self._ask("delete-base", "DELETE", base_id)
        except Halted as error:
            # It was there a moment ago: an earlier try removed it, whose answer was lost.
            if error.halt != "knowledge-base-missing":
                raise


def bases_of(body: Any) -> ListPage[BaseCard] | None:
    """A page of knowledge bases; None for another shape."""
    fields = object_of(body)
    return page_in(fields.get("data"), fields.get("total"), _card)


def _card(body: Any) -> BaseCard | None:
    return base.card if (base := dataset_of(body)) else None


def account(target: DifyTarget) -> Account:
    """The workspace of a key."""
    return Account(DifyBases(target))
