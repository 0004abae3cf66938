"""The vendor's applications: question answering over knowledge bases, made and removed on order only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.contract.answering import Application, ApplicationWish
from kbsync.errors import NotOffered, Rejected, Unsure
from kbsync.targets.http import Client
from kbsync.targets.http.namesakes import check_unused, made_after_all
from kbsync.targets.http.wishes import told_wishes
from kbsync.targets.zhipu import catalogue, wishes
from kbsync.targets.zhipu.cards import objects_of
from kbsync.targets.zhipu.codes import NotFound, Op
from kbsync.targets.zhipu.ids import id_of, number_of, path_part
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.wire import data_of, integer, objects_in, text_of

_ADVICE = "look with {} before another try"
LONGEST_NAME, LONGEST_DESCRIPTION = 20, 100
"""Characters."""

RECALL = {
    "slice_config_type": "customized",
    "recall_method": "embedding",
    "rerank_status": 0,
    "slice_count": 8,
}
"""How passages are found; without it an answer would be made of one passage."""

_BY_BASE = frozenset({"rerank_index_type_list", "recall_index_type_list"})
"""Lists in it that have a row for each knowledge base."""

_PLACES = (("{{knowledge}}", "{{知识}}"), ("{{user}}", "{{用户}}"))


class ZhipuApplications:
    """Those behind one key. Every call raises `TargetError`."""

    def __init__(self, client: Client, settings: ZhipuSettings) -> None:
        self._client, self._settings = client, settings

    async def all(self) -> Sequence[Application]:
        """Every one. Raises `NotOffered`, and for an hour without a request, where there is no such call."""
        self._client.lacking.check(Op.APPLICATIONS)
        try:
            return await catalogue.everything(self._client, Op.APPLICATIONS, "/application", _applications)
        except (NotFound, NotOffered) as error:
            raise self.are_missing(NotOffered(error.reason, code=error.code)) from error

    def are_missing(self, error: NotOffered) -> NotOffered:
        """This account has none that can be asked; `error` is given back."""
        return self._client.lacking.note(Op.APPLICATIONS, error)

    async def look(self, application_id: str) -> Application:
        """One of them."""
        found = _application({**await self._shown(application_id), "id": application_id})
        assert found is not None
        return found

    async def create(self, wish: ApplicationWish) -> Application:
        """Make one whose name is not in use. Sent once."""
        body = _body(wish, {}) | {"desc": wish.description or ""}
        name, settings = wish.name or "", _settings(body)
        await check_unused(name, self.all, "an application")
        try:
            made = await catalogue.make(self._client, Op.CREATE_APPLICATION, "/application", body)
        except Unsure as error:
            return await made_after_all(
                name, self.all, error, _ADVICE.format(self._settings.pasted("kb app list"))
            )
        bases = wish.bases or ()
        return Application(made, name, body["desc"], wish.prompt or "", wish.model or "", bases, settings)

    async def update(self, application_id: str, wish: ApplicationWish) -> None:
        """Send what changes. Bases and how passages are found in them go together, the rest as it is."""
        _check(wish)
        _, recall = wishes.of_application(wish)
        shown = await self._shown(application_id) if wish.bases is not None or recall else {}
        await self._client.ask(Op.EDIT_APPLICATION, "PUT", _path(application_id), json=_body(wish, shown))

    async def delete(self, application_id: str) -> None:
        """Remove it; one that is gone already is done."""
        path = _path(application_id)
        await catalogue.remove(self._client, Op.DELETE_APPLICATION, path, Op.APPLICATION)

    async def _shown(self, application_id: str) -> Mapping[str, Any]:
        """All that the vendor tells of one. Raises `Rejected` where there is none."""
        answer = await self._client.ask(Op.APPLICATION, "GET", _path(application_id))
        content = data_of(answer.body)
        if not isinstance(content, dict) or not content:
            raise Rejected(f"there is no application {application_id}", code="404")
        return content


def _path(application_id: str) -> str:
    return f"/application/{path_part(application_id)}"


def _body(wish: ApplicationWish, shown: Mapping[str, Any]) -> dict[str, Any]:
    """As the vendor takes it. Raises `Rejected` for what the vendor's manual forbids.

    `shown`: what there is of it already.
    """
    _check(wish)
    fields, recall = wishes.of_application(wish)
    body = {"name": wish.name, "desc": wish.description, "prompt": wish.prompt, "model": wish.model, **fields}
    bases = (_bases(shown) or None) if wish.bases is None and recall else wish.bases
    if bases is not None:
        body["knowledge_ids"] = [number_of(one) for one in bases]
    if recall or bases is not None:
        body["knowledge_info"] = {**_recall(bases, shown), **recall}
    return catalogue.given(body)


def _recall(bases: Sequence[str] | None, shown: Mapping[str, Any]) -> dict[str, Any]:
    """How passages are found in `bases`: as before, without what was set for a base that is none of them.

    None: they are not known, and nothing is said of them that the vendor did not say.
    """
    recall = {**RECALL, **catalogue.given(_shown_recall(shown))}
    if bases is None:
        return recall
    kept = {key: _of_bases(bases, value) if key in _BY_BASE else value for key, value in recall.items()}
    return {**kept, "knowledge_ids": list(bases)}


def _shown_recall(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = shown.get("knowledge_info")
    return inner if isinstance(inner, dict) else {"slice_count": integer(shown.get("slice_count"))}


def _of_bases(bases: Sequence[str], rows: Any) -> list[Mapping[str, Any]]:
    return [row for row in objects_in(rows) if id_of(row.get("knowledge_id")) in bases]


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


def _applications(body: Any) -> list[Application]:
    return [one for item in objects_of(body) if (one := _application(item)) is not None]


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
        _settings(item),
    )


def _settings(item: Mapping[str, Any]) -> dict[str, str]:
    """Those that it shows, or that were sent."""
    own = told_wishes(item, wishes.OF_AN_APPLICATION)
    return own | told_wishes(_shown_recall(item), wishes.OF_ITS_RECALL)


def _bases(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The examples have the ids in `knowledge_info` and an empty list where they are documented."""
    inner = item.get("knowledge_info")
    lists = [item.get("knowledge_ids"), inner.get("knowledge_ids") if isinstance(inner, dict) else None]
    ids = [id_of(one) for each in lists if isinstance(each, list) for one in each]
    return tuple(dict.fromkeys(one for one in ids if one is not None))
