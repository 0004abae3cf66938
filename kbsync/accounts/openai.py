"""Lists, creates, changes and deletes the vector stores of an OpenAI project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.accounts.account import BaseRequest, Bases, ManagedAccount
from kbsync.accounts.answering import ModelAnswers
from kbsync.contract.target import BaseCard
from kbsync.core.text import printable
from kbsync.errors import Rejected
from kbsync.targets.http.reading import Fields, require_id
from kbsync.targets.openai.api import remove, rows
from kbsync.targets.openai.shapes import is_marked
from kbsync.targets.openai.target import OpenaiTarget

DESCRIPTION = "description"
"""The metadata key that holds a store's description."""


class OpenaiBases(Bases):
    """The vector stores of one project."""

    target: OpenaiTarget

    no_models = "the service chooses the model for a vector store"
    no_capacity = "the service doesn't report how much space the project has; check the service's dashboard"

    def fields_of(self, request: BaseRequest) -> dict[str, Any]:
        """Return no settings, because a store has only a name and a description.

        Raises `Rejected` if `request` has any.
        """
        if request.model is not None or request.settings or request.callback is not None:
            raise Rejected("a vector store has only a name and a description", code="setting")
        return {}

    async def list_all(self) -> Sequence[BaseCard]:
        """Return every store of the project."""
        return [card_of(row) async for row in rows(self._client, "list-bases", "/vector_stores")]

    async def get(self, base_id: str) -> BaseCard:
        """Return one store of the project."""
        return card_of(await self.target.read_store(base_id))

    async def send_create(self, request: BaseRequest, fields: Mapping[str, Any]) -> BaseCard | None:
        """Send the create request, with only the name and the description."""
        response = await self._client.post("create-base", "/vector_stores", json=_fields(request, {}))
        card = card_of(response.fields)
        return card if card.id else None

    async def update(self, base_id: str, request: BaseRequest) -> None:
        """Change the name or the description."""
        self.fields_of(request)
        body = _fields(request, (await self.target.read_store(base_id)).object("metadata"))
        response = await self._client.request("update-base", "POST", f"/vector_stores/{base_id}", json=body)
        require_id("update-base", response.fields.id("id"), base_id)

    async def delete(self, base_id: str) -> None:
        """Delete the files that kbsync uploaded to the store, then the store itself.

        The service wouldn't delete the files. The store goes last, because only its list shows which files
        are ours: after an interruption, the user can run the command again.
        """
        path = f"/vector_stores/{base_id}"
        our_ids = [row["id"] async for row in rows(self._client, "list", f"{path}/files") if is_marked(row)]
        for file_id in our_ids:
            await remove(self._client, "delete-file", f"/files/{file_id}")
        await remove(self._client, "delete-base", path)


def _fields(request: BaseRequest, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON body of a request.

    It repeats the current metadata, because OGX stores a vector store's model there.
    """
    fields: dict[str, Any] = {} if request.name is None else {"name": request.name}
    if request.description is not None:
        fields["metadata"] = {**metadata, DESCRIPTION: request.description}
    return fields


def card_of(row: Fields) -> BaseCard:
    """Return a store as a `BaseCard`."""
    counts = row.object("file_counts")
    name, text = printable(row.text("name")), row.object("metadata").text(DESCRIPTION)
    size, total = row.count("usage_bytes"), counts.count("total")
    return BaseCard(row.text("id"), name, text, documents=total, size=size)


def account(target: OpenaiTarget) -> ManagedAccount:
    """Return the project that an open target uses."""
    return ManagedAccount(OpenaiBases(target), answers=ModelAnswers(target, "/chat/completions"))
