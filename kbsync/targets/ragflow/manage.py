"""The datasets of a RAGFlow user, changed when a person asks for it, and the chat assistants that answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.contract.managing import BaseCard, BaseWish
from kbsync.contract.searching import ApplicationInfo
from kbsync.errors import NotOffered, Rejected, Unavailable
from kbsync.targets.http.answering import FixedApplications
from kbsync.targets.http.client import Client
from kbsync.targets.http.managing import OfferedSetting, RemoteBases, any_text, choice, parse_settings
from kbsync.targets.http.reading import ListPage, ListSweep, well_formed
from kbsync.targets.ragflow import shapes

DATASETS = "/api/v1/datasets"

_METHODS = ["naive", "book", "email", "laws", "manual", "one", "paper", "picture", "presentation"]
_METHODS += ["qa", "table", "tag"]
SETTINGS: Mapping[str, OfferedSetting] = {
    "chunk_method": choice(*_METHODS),
    "embedding_model": any_text(),
    "permission": choice("me", "team"),
}
"""What can be set beside name and description."""

LONGEST_NAME = 128


class RagflowBases(RemoteBases):
    """Those behind one key. Every call raises `TargetError`."""

    setting, what = "dataset_id", "dataset"
    no_models = "RAGFlow shows its models in its own settings; choose with --set embedding_model=…"
    no_capacity = "RAGFlow sets no limit to what a user stores"

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected`."""
        _fields(wish)

    async def all(self) -> Sequence[BaseCard]:
        """Every dataset."""
        return [card async for card in ListSweep(self._page).rows()]

    async def _page(self, number: int, size: int) -> ListPage[BaseCard]:
        params = {"page": str(number), "page_size": str(size)}
        answer = await self._client.ask("bases", "GET", DATASETS, params=params)
        return ListPage(shapes.bases_of(answer.body), None)

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        try:
            answer = await self._client.ask("base", "GET", DATASETS, params={"id": base_id})
            found = [card for card in shapes.bases_of(answer.body) if card.id == base_id]
        except NotOffered as error:  # no word of the server's: nothing is said of the dataset
            raise Unavailable(error.reason, code=error.code) from error
        except Rejected as error:
            raise self.missing(base_id, error.reason) from error
        if not found:
            raise self.missing(base_id, "it is not in the list")
        return found[0]

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make a dataset whose name is not in use yet: the server would call it name(1). Sent once."""
        name, fields = wish.name or "", _fields(wish)

        async def make() -> BaseCard | None:
            answer = await self._client.post("create-base", DATASETS, json=fields)
            return next(iter(shapes.bases_of(answer.body)), None)

        return await self.make_once(name, make)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Send what changes. Documents that are there stay as they were parsed."""
        fields = _fields(wish)
        await self.look(base_id)
        await self._client.ask("edit-base", "PUT", f"{DATASETS}/{base_id}", json=fields)

    async def delete(self, base_id: str) -> None:
        """Remove it; one that is gone already is done."""
        try:
            await self._client.ask("delete-base", "DELETE", DATASETS, json={"ids": [base_id]})
        except Rejected:
            if any(card.id == base_id for card in await self.all()):
                raise


@dataclass(frozen=True, slots=True)
class RagflowAssistants(FixedApplications):
    """The chat assistants that a key may ask."""

    why = "chat assistants are made and changed in RAGFlow"
    advice = "make a chat in RAGFlow that has the dataset"
    client: Client

    async def all(self) -> Sequence[ApplicationInfo]:
        """Every one."""
        return [one async for one in ListSweep(self._page).rows()]

    async def _page(self, number: int, size: int) -> ListPage[ApplicationInfo]:
        params = {"page": str(number), "page_size": str(size)}
        answer = await self.client.ask("chats", "GET", "/api/v1/chats", params=params)
        return well_formed("chats", shapes.chats_of(answer.body))


def _fields(wish: BaseWish) -> dict[str, Any]:
    """What is sent. Raises `Rejected`."""
    if wish.model is not None:
        raise Rejected("RAGFlow lists no models here; name one with --set embedding_model=NAME@FACTORY")
    if wish.name is not None and len(wish.name) > LONGEST_NAME:
        raise Rejected(f"a name has {LONGEST_NAME} characters at most", code="name")
    given = {"name": wish.name, "description": wish.description}
    fields = parse_settings(wish.settings, SETTINGS, "a dataset")
    return {key: value for key, value in given.items() if value is not None} | fields
