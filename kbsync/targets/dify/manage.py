"""The knowledge bases of a workspace: listed, shown, made, renamed and deleted on a person's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from kbsync.contract.managing import BaseCard, BaseWish, Capacity, EmbeddingModel
from kbsync.contract.target import Surroundings
from kbsync.errors import Halted, NotOffered, Rejected, Unsure
from kbsync.targets.dify.config import DifyTargetConfig
from kbsync.targets.dify.shapes import DifyCall, bases_of, dataset_of, well_formed
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import ListPage, ListSweep
from kbsync.targets.http.target import OfferedSetting, choice, make_once, parse_settings

SETTINGS: Mapping[str, OfferedSetting] = {
    "indexing_technique": choice("high_quality", "economy"),
    "permission": choice("only_me", "all_team_members"),
}
"""What can be set when a base is made."""

LONGEST_NAME, LONGEST_WORDS = 40, 400
"""Characters (api/controllers/service_api/dataset/dataset.py)."""


class DifyBases:
    """Those of the workspace behind one key. Every call raises `TargetError`."""

    setting = "dataset_id"

    def __init__(self, config: DifyTargetConfig, surroundings: Surroundings, client: Client) -> None:
        self.address, self.own = config.base_url, config.dataset_id
        self._surroundings, self._client = surroundings, client

    def check_changeable(self) -> None:
        """They are."""

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected`."""
        if wish.model is not None:
            raise Rejected("the model of a knowledge base is chosen in Dify; leave --model out")
        sizes = {
            "a name": (wish.name, LONGEST_NAME),
            "a description": (wish.description, LONGEST_WORDS),
        }
        for what, (words, longest) in sizes.items():
            if len(words or "") > longest:
                raise Rejected(f"{what} has at most {longest} characters in Dify", code="length")
        parse_settings(wish.settings, SETTINGS, "a new knowledge base")

    async def models(self) -> Sequence[EmbeddingModel]:
        """Raises `NotOffered`."""
        raise NotOffered("the model of a knowledge base is chosen in Dify")

    async def all(self) -> Sequence[BaseCard]:
        """Every base."""
        sweep = ListSweep(self._page)
        return [card async for card in sweep.rows()]

    async def _page(self, number: int, size: int) -> ListPage[BaseCard]:
        params = {"page": str(number), "limit": str(size), "include_all": "true"}
        answer = await self._client.ask(DifyCall.BASES, "GET", "/datasets", params=params)
        return well_formed(DifyCall.BASES, bases_of(answer.body))

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        try:
            answer = await self._client.ask(DifyCall.BASE, "GET", _path(base_id))
        except (NotOffered, Halted) as error:
            if isinstance(error, Halted) and error.halt != "knowledge-base-missing":
                raise
            look = self._surroundings.pasted("kb list")
            where = f"there is no knowledge base {base_id} at {self.address} for this api_key"
            raise Halted("knowledge-base-missing", f"{where}; list them with {look}") from error
        return well_formed(DifyCall.BASE, dataset_of(answer.body)).card

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make a base, by default one that is searched by meaning."""
        self.check(wish)
        name = wish.name or ""
        body = {"name": name, "description": wish.description or "", "indexing_technique": "high_quality"}

        async def make() -> BaseCard:
            settings = parse_settings(wish.settings, SETTINGS, "a new knowledge base")
            answer = await self._client.post(DifyCall.CREATE_BASE, "/datasets", json={**body, **settings})
            dataset = dataset_of(answer.body)
            if dataset is None:
                raise Unsure("create-base: the answer names no knowledge base", code="no-id")
            return dataset.card

        look = self._surroundings.pasted("kb list")
        advice = f"the knowledge base may have been made or not: look with {look} before another try"
        return await make_once(name, "a knowledge base", self.all, make, advice)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Change name and description. Raises `NotOffered` for settings, which are chosen when it is made."""
        self.check(wish)
        if wish.settings:
            raise NotOffered("settings of a knowledge base are changed in Dify; leave --set out")
        card = await self.look(base_id)
        body = {"name": wish.name or card.name, "description": wish.description or card.description}
        await self._client.ask(DifyCall.EDIT_BASE, "PATCH", _path(base_id), json=body)

    async def delete(self, base_id: str) -> None:
        """Remove a base with everything in it."""
        await self.look(base_id)
        await self._client.ask(DifyCall.DELETE_BASE, "DELETE", _path(base_id))

    async def capacity(self) -> Capacity | None:
        """Raises `NotOffered`."""
        raise NotOffered("Dify does not tell how much space the workspace has; see its console")


def _path(base_id: str) -> str:
    return f"/datasets/{quote(base_id, safe='')}"
