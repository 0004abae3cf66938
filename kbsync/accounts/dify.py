"""Lists, creates, renames and deletes the knowledge bases of a Dify workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbsync.accounts.account import BaseRequest, Bases, ManagedAccount
from kbsync.accounts.settings import OfferedSetting, choice, parse_settings
from kbsync.contract.target import BaseCard
from kbsync.errors import Halted, NotOffered, Rejected
from kbsync.targets.dify.shapes import dataset_of, is_deleted
from kbsync.targets.dify.target import DifyTarget, base_path
from kbsync.targets.http.reading import ListPage, page_in, require_id, value_at
from kbsync.targets.http.rules import require_parsed

SETTINGS: Mapping[str, OfferedSetting] = {
    "indexing_technique": choice("high_quality", "economy"),
    "permission": choice("only_me", "all_team_members"),
}
"""Settings of a new base."""

MAX_NAME_LENGTH, MAX_DESCRIPTION_LENGTH = 40, 400
"""Maximum length of a name and of a description, in characters
(api/controllers/service_api/dataset/dataset.py)."""


class DifyBases(Bases):
    """The knowledge bases of one workspace."""

    target: DifyTarget

    no_models = "choose a knowledge base's model in Dify"
    no_capacity = "Dify doesn't report how much space the workspace has; check the Dify console"

    def fields_of(self, request: BaseRequest) -> dict[str, Any]:
        """Return the settings of a new base, in the service's format.

        This also validates the name and description.
        """
        if request.model is not None:
            raise Rejected("omit --model and choose the knowledge base's model in Dify")
        name, description = (request.name, MAX_NAME_LENGTH), (request.description, MAX_DESCRIPTION_LENGTH)
        for what, (words, most) in {"a name": name, "a description": description}.items():
            if len(words or "") > most:
                raise Rejected(f"Dify allows {what} of at most {most} characters", code="length")
        return parse_settings(request.settings, SETTINGS, "a new knowledge base")

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """Return one page of the list, which includes the bases of other members."""
        params = {"page": str(number), "limit": str(size), "include_all": "true"}
        return await self._client.read("bases", "/datasets", bases_of, params=params)

    async def send_create(self, request: BaseRequest, fields: Mapping[str, Any]) -> BaseCard | None:
        """Send the create request. By default, the base gets a vector index."""
        body = {
            "name": request.name,
            "description": request.description or "",
            "indexing_technique": "high_quality",
        }
        return _card((await self._client.post("create-base", "/datasets", json={**body, **fields})).body)

    async def update(self, base_id: str, request: BaseRequest) -> None:
        """Change the name or the description.

        Raises `NotOffered` for any settings, because a base gets its settings only when it is created.
        """
        self.fields_of(request)
        if request.settings:
            raise NotOffered("omit --set and change the knowledge base's settings in Dify")
        body = request.texts_after(await self.get(base_id))
        try:
            response = await self._client.request("edit-base", "PATCH", base_path(base_id), json=body)
            require_id("edit-base", response.fields.id("id"), base_id)
        except Halted as error:
            if error.halt != "knowledge-base-missing":
                raise
            raise self.target.no_base(base_id) from error  # somebody deleted it a moment ago

    async def delete(self, base_id: str) -> None:
        """Delete a base with all its documents."""
        await self.get(base_id)
        try:
            response = await self._client.request("delete-base", "DELETE", base_path(base_id))
            require_parsed(response, is_deleted(response) or None)
        except Halted as error:
            # The base existed a moment ago: an earlier attempt deleted it, and the response was lost.
            if error.halt != "knowledge-base-missing":
                raise


def _card(body: Any) -> BaseCard | None:
    return base.card if (base := dataset_of(body)) else None


def bases_of(body: Any) -> ListPage[BaseCard] | None:
    """Parse one page of knowledge bases, or return None if the response has a different shape."""
    return page_in(value_at(body, "data"), value_at(body, "total"), _card)


def account(target: DifyTarget) -> ManagedAccount:
    """Return the workspace that an open target's key belongs to."""
    return ManagedAccount(DifyBases(target))
