"""Manages the knowledge bases, the applications and the callback URL of a Zhipu account.

Sources: the service's knowledge API manual, sections 3.3, 3.4, 3.6 and 3.9, and its page on creating a
knowledge base. The service's current documentation no longer lists the callback calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from kbsync.accounts.account import (
    ApplicationInfo,
    ApplicationRequest,
    Applications,
    BaseRequest,
    Bases,
    Callback,
    EmbeddingModel,
    HasName,
    ManagedAccount,
    create_once,
)
from kbsync.accounts.settings import (
    OfferedSetting,
    any_text,
    boolean,
    choice,
    decimal,
    parse_settings,
    settings_as_text,
    whole,
    zero_or_one,
)
from kbsync.accounts.zhipu_answers import ZhipuAnswers
from kbsync.contract.target import BaseCard, Capacity
from kbsync.errors import NotOffered, Rejected, Unsure
from kbsync.targets.http.bodies import parse_json, without_none
from kbsync.targets.http.client import Client
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import Fields, ListPage, id_of, objects_in, path_part, row_reader, value_at
from kbsync.targets.zhipu.errors import NotFound, is_gone
from kbsync.targets.zhipu.shapes import data_of, number_of, rows_of
from kbsync.targets.zhipu.target import ZhipuTarget, base_path

MODELS = (
    EmbeddingModel("3", "Embedding-2"),
    EmbeddingModel("11", "Embedding-3"),
    EmbeddingModel("12", "Embedding-3-pro"),
)
"""The documented embedding models, for installations that don't list theirs."""

# A model's name, because ids of models differ between installations.
DEFAULT_MODEL = "embedding-3"

MAX_NAME_LENGTH, MAX_DESCRIPTION_LENGTH = 20, 100
"""Maximum length of an application's name and description, in characters."""

# With the service's own default, an answer uses only a single passage.
DEFAULT_RECALL = {
    "slice_config_type": "customized",
    "recall_method": "embedding",
    "rerank_status": 0,
    "slice_count": 8,
}
"""An application's default search settings."""

_COLORS = choice("blue", "red", "orange", "purple", "sky", "green", "yellow")

BASE_SETTINGS: Mapping[str, OfferedSetting] = {
    "background": _COLORS,
    "icon": choice("question", "book", "seal", "wrench", "tag", "horn", "house"),
    "contextual": zero_or_one(),
}

APPLICATION_SETTINGS: Mapping[str, OfferedSetting] = {
    "top_p": decimal(lambda number: 0 < number < 1, "a number above 0 and below 1"),
    "temperature": decimal(lambda number: 0 < number <= 1, "a number above 0, at most 1"),
    "max_token": whole(1, 8192),
    "param_desc": choice("strict", "moderate", "flexible", "custom"),
    "icon_color": _COLORS,
    "icon_type": choice(
        *("robot_assist", "robot_navigate", "robot_guardian", "robot_service"),
        *("robot_messenger", "robot_chat", "robot_engineer"),
    ),
}

RECALL_SETTINGS: Mapping[str, OfferedSetting] = {
    "slice_config_type": any_text(),  # the manual lists no values; its example has customized
    "slice_count": whole(1, 1000),
    "recall_method": choice("embedding", "keyword", "mixed"),
    "rerank_status": zero_or_one(),
    "rerank_model_name": any_text(),
    "embedding_recall_ratio": whole(0, 100),
    "show_recall_result": boolean(),
    "recall_slice_splicing_method": any_text(),  # such as {{切片内容}}
}
"""An application's search settings, in `knowledge_info`."""

_LISTS_BY_BASE = frozenset({"rerank_index_type_list", "recall_index_type_list"})
"""Keys in `knowledge_info` whose lists have one row per knowledge base."""

_PLACEHOLDERS = (("{{knowledge}}", "{{知识}}"), ("{{user}}", "{{用户}}"))

T = TypeVar("T", bound=HasName)


async def _page(
    client: Client, op: str, path: str, number: int, size: int, read: Callable[[object], T | None]
) -> ListPage[T]:
    """Return one page of bases or applications."""
    response = await client.request(op, "GET", path, params={"page": str(number), "size": str(size)})
    return rows_of(response.body, read)


async def _create(client: Client, op: str, path: str, body: Mapping[str, object]) -> Fields:
    """Create a resource and return the sent fields with its new id.

    According to the manual, the response is an object; in its examples, the response is just an id.
    """
    content = value_at((await client.post(op, path, json=body)).body, "data")
    return Fields(body, id=content.get("id") if isinstance(content, dict) else content)


async def _remove(client: Client, op: str, path: str, read_op: str) -> None:
    """Delete a resource.

    After a 404, check that the resource really no longer exists, because the service may still have it
    (promise 10).
    """
    try:
        await client.request(op, "DELETE", path)
        return
    except Rejected as error:
        if not is_gone(error):
            raise
    try:
        content = value_at((await client.request(read_op, "GET", path)).body, "data")
    except Rejected as error:
        if is_gone(error):
            return
        raise
    if content:
        raise Unsure("the service says that the resource is missing, but still has it", code="still-there")


class ZhipuBases(Bases):
    """Manages the knowledge bases of one account."""

    target: ZhipuTarget

    def fields_of(self, request: BaseRequest) -> dict[str, Any]:
        """Return the settings of a base, in the service's format."""
        return parse_settings(request.settings, BASE_SETTINGS, "a knowledge base")

    async def models(self) -> Sequence[EmbeddingModel]:
        """Return the models that the service lists, or the documented ones if it lists none."""
        try:
            response = await self._client.request("models", "GET", "/embedding")
        except (NotFound, NotOffered):
            return MODELS
        return rows_of(response.body, _model).rows or MODELS

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """Return one page of the list."""
        return await _page(self._client, "bases", "/knowledge", number, size, _card)

    async def get(self, base_id: str) -> BaseCard:
        """Return one base of the account."""
        card = _card(await self.target.read_base(base_id))
        assert card is not None
        return card

    async def send_create(self, request: BaseRequest, fields: Mapping[str, Any]) -> BaseCard | None:
        """Send the create request, with the default model unless `request` names a different one."""
        # After the check for the name, so that a name in use costs a single request.
        model = _choose_model(request.model, await self.models())
        fixed = {
            "name": request.name,
            "description": request.description,
            "embedding_id": number_of(model.id),
        }
        body = without_none({**fixed, **fields})
        created = await _create(self._client, "create-base", "/knowledge", body)
        return _card(Fields(created, embedding_model=model.name, document_size=0, length=0))

    async def update(self, base_id: str, request: BaseRequest) -> None:
        """Send only what has changed, because setting the model would make the service re-embed all
        documents, which costs money.
        """
        settings = self.fields_of(request)
        model = _choose_model(request.model, await self.models()) if request.model is not None else None
        body = {
            "name": request.name,
            "description": request.description,
            "embedding_id": number_of(model.id) if model is not None else None,
            "callback_url": request.callback,
            "callback_header": dict(request.headers) or None,
            **settings,
        }
        with self._client.redacting(*request.headers.values()):
            await self._client.request("edit-base", "PUT", base_path(base_id), json=without_none(body))

    async def delete(self, base_id: str) -> None:
        """Delete a base. Succeeds even if the base doesn't exist."""
        await _remove(self._client, "delete-base", base_path(base_id), "base")

    async def capacity(self) -> Capacity | None:
        """Return the account's capacity."""
        return await self.target.capacity()


@row_reader
def _model(item: Fields) -> EmbeddingModel:
    return EmbeddingModel(item["id"], item.text("name"), item.text("description"))


@row_reader
def _card(item: Fields) -> BaseCard:
    """Return a base from a row of the service's list."""
    model_id = item.id("embedding_id") or ""
    known = next((model.name for model in MODELS if model.id == model_id), model_id)
    return BaseCard(
        item["id"],
        item.text("name"),
        item.text("description"),
        item.text("embedding_model") or known,
        item.count("document_size"),
        item.count("length"),
        settings_as_text(item, BASE_SETTINGS),
        item.count("word_num"),
    )


def _choose_model(text: str | None, models: Sequence[EmbeddingModel]) -> EmbeddingModel:
    """Return the model with this id or name, or the default model for None.

    Raises `Rejected` with the list of models if there is no such model.
    """
    key = (text or DEFAULT_MODEL).strip().lower()
    for model in models:
        if key in (model.id, model.name.lower()):
            return model
    if text is None and models:
        return models[-1]
    known = ", ".join(f"{model.id} ({model.name})" for model in models) or "none"
    raise Rejected(f"there is no model {text}; available models: {known}", code="model")


class ZhipuApplications(Applications):
    """The applications of one account."""

    def __init__(self, target: ZhipuTarget) -> None:
        _, self._context, self._client = target.access

    async def list_all(self) -> Sequence[ApplicationInfo]:
        """Return every application.

        If the service doesn't offer the call, kbsync doesn't try again for an hour.
        """
        with self._client.missing.remembered("applications"):
            try:
                return await super().list_all()
            except NotFound as error:
                raise NotOffered(error.reason, code=error.code) from error

    async def page(self, number: int, size: int) -> ListPage[ApplicationInfo]:
        """Return one page of the list."""
        return await _page(self._client, "applications", "/application", number, size, _application)

    async def get(self, application_id: str) -> ApplicationInfo:
        """Return one application of the account."""
        application = _application(Fields(await self._read(application_id), id=application_id))
        assert application is not None
        return application

    async def create(self, request: ApplicationRequest) -> ApplicationInfo:
        """Create an application. Raises the same errors as `create_once`."""
        body = _application_body(request, Fields()) | {"desc": request.description or ""}

        async def create() -> ApplicationInfo | None:
            return _application(await _create(self._client, "create-application", "/application", body))

        command = self._context.mirror_command("kb app list")
        return await create_once(request.name or "", "an application", self.list_all, create, command)

    async def update(self, application_id: str, request: ApplicationRequest) -> None:
        """Send only the changed fields, but always the bases together with their search settings."""
        path, body = _application_path(application_id), _application_body(request, Fields())
        if "knowledge_info" in body:  # the service replaces `knowledge_info` as a whole
            body = _application_body(request, await self._read(application_id))
        await self._client.request("edit-application", "PUT", path, json=body)

    async def delete(self, application_id: str) -> None:
        """Delete an application. Succeeds even if the application doesn't exist."""
        path = _application_path(application_id)
        await _remove(self._client, "delete-application", path, "application")

    async def _read(self, application_id: str) -> Fields:
        """Return all fields of an application. Raises `Rejected` if the application doesn't exist."""
        response = await self._client.request("application", "GET", _application_path(application_id))
        content = data_of(response.body)
        if not content:
            raise Rejected(f"there is no application {application_id}", code="404")
        return content


def _application_path(application_id: str) -> str:
    return f"/application/{path_part(application_id)}"


def _application_body(request: ApplicationRequest, present: Fields) -> dict[str, Any]:
    """Return the JSON body of a request.

    Raises `Rejected` for values that the service's manual forbids. `present`: the application's current
    fields.
    """
    if request.name is not None and not 1 <= len(request.name) <= MAX_NAME_LENGTH:
        raise Rejected(f"the name has {len(request.name)} characters; allowed: 1 to {MAX_NAME_LENGTH}")
    if request.description is not None and len(request.description) > MAX_DESCRIPTION_LENGTH:
        length = len(request.description)
        raise Rejected(f"the description has {length} characters; allowed: {MAX_DESCRIPTION_LENGTH}")
    prompt = request.prompt
    if prompt is not None and any(sum(map(prompt.count, forms)) != 1 for forms in _PLACEHOLDERS):
        raise Rejected("the prompt must contain {{knowledge}} and {{user}} once each")
    fields = parse_settings(request.settings, {**APPLICATION_SETTINGS, **RECALL_SETTINGS}, "an application")
    recall = {key: fields.pop(key) for key in RECALL_SETTINGS if key in fields}
    body = {
        "name": request.name,
        "desc": request.description,
        "prompt": prompt,
        "model": request.model,
        **fields,
    }
    bases = (_bases_in(present) or None) if request.bases is None and recall else request.bases
    if bases is not None:
        body["knowledge_ids"] = [number_of(base_id) for base_id in bases]
    if recall or bases is not None:
        body["knowledge_info"] = {**_recall(bases, present), **recall}
    return without_none(body)


def _recall(bases: Sequence[str] | None, present: Fields) -> dict[str, Any]:
    """Return the current search settings, with rows only for these `bases`.

    If `bases` is None, which means unknown, the settings stay unchanged.
    """
    recall = {**DEFAULT_RECALL, **without_none(_recall_in(present))}
    if bases is None:
        return recall
    for key in _LISTS_BY_BASE & recall.keys():
        recall[key] = [row for row in objects_in(recall[key]) if row.id("knowledge_id") in bases]
    return {**recall, "knowledge_ids": list(bases)}


def _recall_in(present: Fields) -> Mapping[str, Any]:
    inner = present.get("knowledge_info")
    return inner if isinstance(inner, dict) else {"slice_count": present.integer("slice_count")}


@row_reader
def _application(item: Fields) -> ApplicationInfo:
    name, description, prompt, model = (item.text(key) for key in ("name", "desc", "prompt", "model"))
    settings, recall = (
        settings_as_text(item, APPLICATION_SETTINGS),
        settings_as_text(_recall_in(item), RECALL_SETTINGS),
    )
    return ApplicationInfo(item["id"], name, description, prompt, model, _bases_in(item), settings | recall)


def _bases_in(item: Fields) -> tuple[str, ...]:
    """Return the ids of an application's bases.

    In the manual's examples, `knowledge_info` contains the ids, and the application's own list is empty.
    """
    lists = [item.get("knowledge_ids"), item.object("knowledge_info").get("knowledge_ids")]
    ids = [id_of(item) for items in lists if isinstance(items, list) for item in items]
    return tuple(dict.fromkeys(base_id for base_id in ids if base_id is not None))


class ZhipuCallbacks:
    """Manages the callback URL of the account."""

    _PATH = "/callback"

    def __init__(self, target: ZhipuTarget) -> None:
        _, _, self._client = target.access

    async def get(self) -> Callback | None:
        """Return the callback URL, or None if the response contains none or says that none is set."""
        response = await _if_set(self._client.request("callback", "GET", self._PATH))
        content = data_of(response.body) if response is not None else Fields()
        url = content.text("url").strip()
        if not url:
            return None
        headers = content.get("callback_header")
        if isinstance(headers, str):
            headers = parse_json(headers)
        # Only the names, as the values are secrets.
        names = tuple(map(str, headers)) if isinstance(headers, dict) else ()
        return Callback(url, names, content.flag("be_in_use"))

    async def set_url(self, url: str, headers: Mapping[str, str]) -> None:
        """Set the callback URL. Errors never contain the headers' values."""
        body = {"url": url, **({"callback_header": dict(headers)} if headers else {})}
        with self._client.redacting(*headers.values()):
            await _if_offered(self._client.request("set-callback", "PUT", self._PATH, json=body))

    async def remove(self) -> None:
        """Remove the callback URL. If the service says that none is set, check that this is true."""
        removed = await _if_set(self._client.request("delete-callback", "DELETE", self._PATH))
        if removed is None and await self.get() is not None:
            raise Unsure(
                "the service says that no callback URL is set, but still has one", code="still-there"
            )


async def _if_set(request: Awaitable[HttpResponse]) -> HttpResponse | None:
    """Await a response. Return None if the response says that no callback URL is set."""
    try:
        return await _if_offered(request)
    except NotFound:
        return None


async def _if_offered(request: Awaitable[HttpResponse]) -> HttpResponse:
    """Await a response.

    Raises `NotOffered` for an HTTP 404. The path contains no id, so a 404 means that the service doesn't
    have the call.
    """
    try:
        return await request
    except NotFound as error:
        if error.code != "404":
            raise
        raise NotOffered(error.reason, code=error.code) from error


def account(target: ZhipuTarget) -> ManagedAccount:
    """Return the account of an open target."""
    answers = ZhipuAnswers(target, ZhipuApplications(target))
    return ManagedAccount(ZhipuBases(target), ZhipuCallbacks(target), answers)
