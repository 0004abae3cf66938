"""The vendor's applications: question answering over knowledge bases, made and removed on order only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.contract import Application, ApplicationWish
from kbsync.errors import NameTaken, Rejected, Unsure
from kbsync.targets.http import Client
from kbsync.targets.zhipu.cards import created_id
from kbsync.targets.zhipu.codes import Op
from kbsync.targets.zhipu.ids import id_of, path_part
from kbsync.targets.zhipu.knowledge import is_gone
from kbsync.targets.zhipu.wire import data_of, objects_in, text_of

_PAGE, _MOST_PAGES = 100, 1000
LONGEST_NAME, LONGEST_DESCRIPTION = 20, 100
"""Characters."""

RECALL = {
    "slice_config_type": "customized",
    "recall_method": "embedding",
    "rerank_status": 0,
    "slice_count": 8,
}
"""How passages are found; without it an answer would be made of one passage."""

_PLACES = (("{{knowledge}}", "{{知识}}"), ("{{user}}", "{{用户}}"))


class ZhipuApplications:
    """Those behind one key. Every call raises `TargetError`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def all(self) -> Sequence[Application]:
        """Every one; pages are read until one has nothing new."""
        found: dict[str, Application] = {}
        for number in range(1, _MOST_PAGES):
            params = {"page": str(number), "size": str(_PAGE)}
            answer = await self._client.ask(Op.APPLICATIONS, "GET", "/application", params=params)
            fresh = {one.id: one for one in _listed(answer.body) if one.id not in found}
            if not fresh:
                break
            found |= fresh
        return tuple(found.values())

    async def look(self, application_id: str) -> Application:
        """One of them."""
        path = f"/application/{path_part(application_id)}"
        answer = await self._client.ask(Op.APPLICATION, "GET", path)
        content = data_of(answer.body)
        if not isinstance(content, dict) or not content:
            raise Rejected(f"there is no application {application_id}", code="404")
        found = _application({**content, "id": application_id})
        assert found is not None
        return found

    async def create(self, wish: ApplicationWish) -> Application:
        """Make one whose name is not in use. Sent once."""
        body = _body(wish) | {"desc": wish.description or ""}
        name = wish.name or ""
        if namesakes := await self._named(name):
            raise NameTaken(f"there is an application {name!r} already: {namesakes[0].id}", code="name")
        try:
            answer = await self._client.post(Op.CREATE_APPLICATION, "/application", json=body)
        except Unsure as error:
            return await self._found_after(error, name)
        made = created_id(answer.body)
        if made is None:
            return await self._found_after(Unsure("the vendor's answer has no id", code="no-id"), name)
        bases = wish.bases or ()
        return Application(made, name, body["desc"], wish.prompt or "", wish.model or "", bases)

    async def update(self, application_id: str, wish: ApplicationWish) -> None:
        """Send what changes and nothing else."""
        path = f"/application/{path_part(application_id)}"
        await self._client.ask(Op.EDIT_APPLICATION, "PUT", path, json=_body(wish))

    async def delete(self, application_id: str) -> None:
        """Remove it; one that is gone already is done."""
        path = f"/application/{path_part(application_id)}"
        try:
            await self._client.ask(Op.DELETE_APPLICATION, "DELETE", path)
        except Rejected as error:
            if not is_gone(error):
                raise

    async def _named(self, name: str) -> list[Application]:
        return [one for one in await self.all() if one.name == name]

    async def _found_after(self, error: Unsure, name: str) -> Application:
        """There was none of this name before: one that is there now was made by the lost request."""
        made = await self._named(name)
        if len(made) != 1:
            raise Unsure(f"{error.reason}; look with kbsync kb app list before another try", code=error.code)
        return made[0]


def _body(wish: ApplicationWish) -> dict[str, Any]:
    """As the vendor takes it. Raises `Rejected` for what the vendor's manual forbids."""
    _check(wish)
    body = {"name": wish.name, "desc": wish.description, "prompt": wish.prompt, "model": wish.model}
    if wish.bases is not None:
        ids = [int(one) if one.isdecimal() else one for one in wish.bases]
        body |= {"knowledge_ids": ids, "knowledge_info": {**RECALL, "knowledge_ids": list(wish.bases)}}  # type: ignore[dict-item]
    return {key: value for key, value in body.items() if value is not None}


def _check(wish: ApplicationWish) -> None:
    if wish.name is not None and not 1 <= len(wish.name) <= LONGEST_NAME:
        raise Rejected(f"the name has {len(wish.name)} characters; the vendor takes 1 to {LONGEST_NAME}")
    if wish.description is not None and len(wish.description) > LONGEST_DESCRIPTION:
        raise Rejected(
            f"the description has {len(wish.description)} characters; the vendor takes {LONGEST_DESCRIPTION}"
        )
    if wish.prompt is not None and any(
        sum(wish.prompt.count(form) for form in forms) != 1 for forms in _PLACES
    ):
        raise Rejected("the prompt has to hold {{knowledge}} and {{user}}, each once")


def _listed(body: Any) -> list[Application]:
    content = data_of(body)
    items = objects_in(content.get("list") if isinstance(content, dict) else content)
    return [one for item in items if (one := _application(item)) is not None]


def _application(item: Mapping[str, Any]) -> Application | None:
    application_id = id_of(item.get("id"))
    if application_id is None:
        return None
    return Application(
        application_id,
        text_of(item.get("name")),
        text_of(item.get("desc")),
        text_of(item.get("prompt")),
        text_of(item.get("model")),
        _bases(item),
    )


def _bases(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The examples have the ids in `knowledge_info` and an empty list where they are documented."""
    inner = item.get("knowledge_info")
    lists = [item.get("knowledge_ids"), inner.get("knowledge_ids") if isinstance(inner, dict) else None]
    ids = [id_of(one) for each in lists if isinstance(each, list) for one in each]
    return tuple(dict.fromkeys(one for one in ids if one is not None))
