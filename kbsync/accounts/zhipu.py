"""Knowledge bases, applications and the callback of an account: changed only when a person asks for it.

Source: the vendor's manual of the knowledge API, 3.3, 3.4, 3.6 and 3.9, and its page on creating a knowledge
base. The calls about callbacks are gone from the vendor's current pages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kbsync.accounts.account import (
    Account,
    ApplicationInfo,
    Applications,
    ApplicationWish,
    Bases,
    BaseWish,
    Callback,
    EmbeddingModel,
    Named,
    create_once,
)
from kbsync.accounts.settings import (
    OfferedSetting,
    any_text,
    boolean,
    choice,
    decimal,
    parse_settings,
    shown_settings,
    whole,
    zero_or_one,
)
from kbsync.accounts.zhipu_answers import ZhipuAnswers
from kbsync.contract.target import BaseCard, Capacity
from kbsync.errors import NotOffered, Rejected, TargetError, Unsure
from kbsync.targets.http.bodies import parsed
from kbsync.targets.http.client import Client
from kbsync.targets.http.errors import HttpAnswer
from kbsync.targets.http.reading import (
    ListPage,
    count_of,
    flag_of,
    id_of,
    integer,
    object_of,
    objects_in,
    text_of,
)
from kbsync.targets.zhipu.errors import NotFound, is_gone
from kbsync.targets.zhipu.shapes import data_of, listed_in, number_of, path_part, rows_of
from kbsync.targets.zhipu.target import ZhipuTarget

MODELS = (
    EmbeddingModel("3", "Embedding-2"),
    EmbeddingModel("11", "Embedding-3"),
    EmbeddingModel("12", "Embedding-3-pro"),
)
"""The models that make vectors, as documented, for installations that do not list them."""

# By name: the ids of models differ between installations.
USUAL_MODEL = "embedding-3"

LONGEST_NAME, LONGEST_DESCRIPTION = 20, 100
"""Characters of an application's."""

# The vendor's default makes an answer of one passage.
RECALL = {
    "slice_config_type": "customized",
    "recall_method": "embedding",
    "rerank_status": 0,
    "slice_count": 8,
}
"""How an application finds passages where nothing else is set."""

_COLORS = choice("blue", "red", "orange", "purple", "sky", "green", "yellow")

TOLD_OF_A_BASE: Mapping[str, OfferedSetting] = {
    "background": _COLORS,
    "icon": choice("question", "book", "seal", "wrench", "tag", "horn", "house"),
    "contextual": zero_or_one(),
}
OF_A_BASE: Mapping[str, OfferedSetting] = {
    **TOLD_OF_A_BASE,
    "embedding_model": choice(*(model.name for model in MODELS)),  # shown as the model itself
}

OF_AN_APPLICATION: Mapping[str, OfferedSetting] = {
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

OF_ITS_RECALL: Mapping[str, OfferedSetting] = {
    "slice_config_type": any_text(),  # the manual names no values; its example has customized
    "slice_count": whole(1, 1000),
    "recall_method": choice("embedding", "keyword", "mixed"),
    "rerank_status": zero_or_one(),
    "rerank_model_name": any_text(),
    "embedding_recall_ratio": whole(0, 100),
    "show_recall_result": boolean(),
    "recall_slice_splicing_method": any_text(),  # such as {{切片内容}}
}
"""What `knowledge_info` has of it."""

_BY_BASE = frozenset({"rerank_index_type_list", "recall_index_type_list"})
"""Lists in `knowledge_info` that have a row for each knowledge base."""

_PLACES = (("{{knowledge}}", "{{知识}}"), ("{{user}}", "{{用户}}"))
_SHORTEST_SECRET = 4  # a shorter beginning is in too many words

T = TypeVar("T", bound=Named)


def _given(body: Mapping[str, object]) -> dict[str, object]:
    """A body without what is not set."""
    return {key: value for key, value in body.items() if value is not None}


async def _page(
    client: Client, op: str, path: str, number: int, size: int, read: Callable[[Mapping[str, Any]], T | None]
) -> ListPage[T]:
    """Of bases or applications."""
    answer = await client.ask(op, "GET", path, params={"page": str(number), "size": str(size)})
    return rows_of(answer.body, read)


async def _create(client: Client, op: str, path: str, body: Mapping[str, object]) -> Mapping[str, object]:
    """What was created, with its id: that comes in an object, as documented, or bare, as in the examples."""
    content = data_of((await client.post(op, path, json=body)).body)
    return {**body, "id": content.get("id") if isinstance(content, dict) else content}


async def _remove(client: Client, op: str, path: str, look: str) -> None:
    """One that is gone already is done, if a `look` agrees: a 404 may be said of what stays (promise 10)."""
    try:
        await client.ask(op, "DELETE", path)
        return
    except Rejected as error:
        if not is_gone(error):
            raise
    try:
        shown = data_of((await client.ask(look, "GET", path)).body)
    except Rejected as error:
        if is_gone(error):
            return
        raise
    if shown:
        raise Unsure("the vendor says that there is no such thing, and still has it", code="still-there")


class ZhipuBases(Bases):
    """The knowledge bases behind one key. Every call raises `TargetError`."""

    target: ZhipuTarget

    def fields_of(self, wish: BaseWish) -> dict[str, Any]:
        """Raises `Rejected` for what is no setting, or contradicts the model."""
        fields = parse_settings(wish.settings, OF_A_BASE, "a knowledge base")
        named = fields.get("embedding_model")
        if named is not None and wish.model is None:
            reason = "embedding_model goes with --model and names the same one; add --model"
            raise Rejected(reason, code="setting")
        model = _model_among(MODELS, wish.model or "")
        if named is not None and model is not None and model.name != named:
            reason = f"embedding_model is {named}, --model is {model.name}; name one of them twice"
            raise Rejected(reason, code="setting")
        return fields

    async def models(self) -> Sequence[EmbeddingModel]:
        """As listed; as documented where the installation lists none."""
        try:
            answer = await self._client.ask("models", "GET", "/embedding")
        except (NotFound, NotOffered):
            return MODELS
        listed = tuple(
            EmbeddingModel(model_id, text_of(item.get("name")), text_of(item.get("description")))
            for item in objects_in(listed_in(answer.body))
            if (model_id := id_of(item.get("id"))) is not None
        )
        return listed or MODELS

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """Of those behind the key."""
        return await _page(self._client, "bases", "/knowledge", number, size, _card)

    async def look(self, base_id: str) -> BaseCard:
        """One base."""
        try:
            answer = await self._client.ask("base", "GET", _base_path(base_id))
        except Rejected as error:
            raise self.target.no_base(base_id, error.reason) from error
        content = object_of(data_of(answer.body))
        card = _card({**content, "id": base_id}) if content else None
        if card is None:
            raise self.target.no_base(base_id, "the vendor answers without any data")
        return card

    async def make(self, wish: BaseWish, fields: Mapping[str, Any]) -> BaseCard | None:
        """Sent once."""
        # Models are asked for here, after the look for namesakes: a taken name costs one request.
        model = _chosen_model(wish.model, await self.models())
        fixed = {"name": wish.name, "description": wish.description, "embedding_id": number_of(model.id)}
        body = _given({**fixed, **fields})
        created = await _create(self._client, "create-base", "/knowledge", body)
        return _card({**created, "embedding_model": model.name, "document_size": 0, "length": 0})

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Send what changes and nothing else: another model makes all vectors again, which costs."""
        settings = self.fields_of(wish)
        model = _chosen_model(wish.model, await self.models()) if wish.model is not None else None
        body = {
            "name": wish.name,
            "description": wish.description,
            "embedding_id": number_of(model.id) if model is not None else None,
            "callback_url": wish.callback,
            "callback_header": dict(wish.headers) or None,
            **settings,
        }
        with _unsaid(wish.headers.values()):
            await self._client.ask("edit-base", "PUT", _base_path(base_id), json=_given(body))

    async def delete(self, base_id: str) -> None:
        """Remove it; one that is gone already is done."""
        await _remove(self._client, "delete-base", _base_path(base_id), "base")

    async def capacity(self) -> Capacity | None:
        """The account's space."""
        return await self.target.capacity()


def _base_path(base_id: str) -> str:
    return f"/knowledge/{path_part(base_id)}"


def _card(item: Mapping[str, Any]) -> BaseCard | None:
    """What has no id is none."""
    base_id = id_of(item.get("id"))
    if base_id is None:
        return None
    model_id = id_of(item.get("embedding_id")) or ""
    known = next((model.name for model in MODELS if model.id == model_id), model_id)
    return BaseCard(
        base_id,
        text_of(item.get("name")),
        text_of(item.get("description")),
        text_of(item.get("embedding_model")) or known,
        count_of(item.get("document_size")),
        count_of(item.get("length")),
        shown_settings(item, TOLD_OF_A_BASE),
        count_of(item.get("word_num")),
    )


def _model_among(models: Sequence[EmbeddingModel], wish: str) -> EmbeddingModel | None:
    """The model of this id or name; None where there is none."""
    wanted = wish.strip().lower()
    return next((model for model in models if wanted in (model.id, model.name.lower())), None)


def _chosen_model(wish: str | None, models: Sequence[EmbeddingModel]) -> EmbeddingModel:
    """The model of this id or name; without a wish the usual one. Raises `Rejected` with those there are."""
    found = _model_among(models, wish or USUAL_MODEL)
    if found is not None:
        return found
    if wish is None and models:
        return models[-1]
    known = ", ".join(f"{model.id} ({model.name})" for model in models) or "none"
    raise Rejected(f"there is no model {wish}; there are: {known}", code="model")


class ZhipuApplications(Applications):
    """What answers questions over knowledge bases, behind one key. Every call raises `TargetError`."""

    def __init__(self, target: ZhipuTarget) -> None:
        _, self._surroundings, self._client = target.access

    async def all(self) -> Sequence[ApplicationInfo]:
        """Every one. Raises `NotOffered`, and for an hour without a request, where there is no such call."""
        with self._client.missing.remembered("applications"):
            try:
                return await super().all()
            except NotFound as error:
                raise NotOffered(error.reason, code=error.code) from error

    async def page(self, number: int, size: int) -> ListPage[ApplicationInfo]:
        """Of those behind the key."""
        return await _page(self._client, "applications", "/application", number, size, _application)

    async def look(self, application_id: str) -> ApplicationInfo:
        """One of them."""
        found = _application({**await self._shown(application_id), "id": application_id})
        assert found is not None
        return found

    async def create(self, wish: ApplicationWish) -> ApplicationInfo:
        """Make one whose name is not in use. Sent once."""
        body = _application_body(wish, {}) | {"desc": wish.description or ""}

        async def create() -> ApplicationInfo | None:
            return _application(await _create(self._client, "create-application", "/application", body))

        command = self._surroundings.pasted("kb app list")
        return await create_once(wish.name or "", "an application", self.all, create, command)

    async def update(self, application_id: str, wish: ApplicationWish) -> None:
        """Send what changes. Bases and how passages are found in them go together, the rest as it is."""
        path, body = _application_path(application_id), _application_body(wish, {})
        if "knowledge_info" in body:  # sent as a whole, so what is there already goes along
            body = _application_body(wish, await self._shown(application_id))
        await self._client.ask("edit-application", "PUT", path, json=body)

    async def delete(self, application_id: str) -> None:
        """Remove it; one that is gone already is done."""
        path = _application_path(application_id)
        await _remove(self._client, "delete-application", path, "application")

    async def _shown(self, application_id: str) -> Mapping[str, Any]:
        """All that the vendor shows of one. Raises `Rejected` where there is none."""
        answer = await self._client.ask("application", "GET", _application_path(application_id))
        content = object_of(data_of(answer.body))
        if not content:
            raise Rejected(f"there is no application {application_id}", code="404")
        return content


def _application_path(application_id: str) -> str:
    return f"/application/{path_part(application_id)}"


def _application_body(wish: ApplicationWish, shown: Mapping[str, Any]) -> dict[str, Any]:
    """As the vendor takes it. Raises `Rejected` for what the vendor's manual forbids.

    `shown`: what there is of it already.
    """
    _check_application(wish)
    fields = parse_settings(wish.settings, {**OF_AN_APPLICATION, **OF_ITS_RECALL}, "an application")
    recall = {key: fields.pop(key) for key in OF_ITS_RECALL if key in fields}
    body = {"name": wish.name, "desc": wish.description, "prompt": wish.prompt, "model": wish.model, **fields}
    bases = (_bases_in(shown) or None) if wish.bases is None and recall else wish.bases
    if bases is not None:
        body["knowledge_ids"] = [number_of(one) for one in bases]
    if recall or bases is not None:
        body["knowledge_info"] = {**_recall(bases, shown), **recall}
    return _given(body)


def _check_application(wish: ApplicationWish) -> None:
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


def _recall(bases: Sequence[str] | None, shown: Mapping[str, Any]) -> dict[str, Any]:
    """How passages are found in `bases`: as before, without what was set for bases that are gone.

    None: they are not known, and only what the vendor showed is sent back.
    """
    recall = {**RECALL, **_given(_shown_recall(shown))}
    if bases is None:
        return recall
    for key in _BY_BASE & recall.keys():
        recall[key] = [row for row in objects_in(recall[key]) if id_of(row.get("knowledge_id")) in bases]
    return {**recall, "knowledge_ids": list(bases)}


def _shown_recall(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = shown.get("knowledge_info")
    return inner if isinstance(inner, dict) else {"slice_count": integer(shown.get("slice_count"))}


def _application(item: Mapping[str, Any]) -> ApplicationInfo | None:
    application_id = id_of(item.get("id"))
    if application_id is None:
        return None
    name, description, prompt, model = (text_of(item.get(key)) for key in ("name", "desc", "prompt", "model"))
    own, recall = shown_settings(item, OF_AN_APPLICATION), shown_settings(_shown_recall(item), OF_ITS_RECALL)
    return ApplicationInfo(application_id, name, description, prompt, model, _bases_in(item), own | recall)


def _bases_in(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The examples have the ids in `knowledge_info` and an empty list where they are documented."""
    lists = [item.get("knowledge_ids"), object_of(item.get("knowledge_info")).get("knowledge_ids")]
    ids = [id_of(one) for each in lists if isinstance(each, list) for one in each]
    return tuple(dict.fromkeys(one for one in ids if one is not None))


class ZhipuCallbacks:
    """The one address that the vendor calls for a whole account. Every call raises `TargetError`."""

    _PATH = "/callback"

    def __init__(self, target: ZhipuTarget) -> None:
        _, _, self._client = target.access

    async def look(self) -> Callback | None:
        """None where none is set: there are no data, no address in them, or words that say so."""
        answer = await _if_set(self._client.ask("callback", "GET", self._PATH))
        content = object_of(data_of(answer.body)) if answer is not None else {}
        url = text_of(content.get("url")).strip()
        if not url:
            return None
        headers = content.get("callback_header")
        if isinstance(headers, str):
            headers = parsed(headers)
        # Names alone: the values are secrets.
        names = tuple(map(str, headers)) if isinstance(headers, dict) else ()
        return Callback(url, names, flag_of(content.get("be_in_use")))

    async def set_url(self, url: str, headers: Mapping[str, str]) -> None:
        """Send the address, and the headers where there are any. No error repeats their values."""
        body = {"url": url, **({"callback_header": dict(headers)} if headers else {})}
        with _unsaid(headers.values()):
            await _if_offered(self._client.ask("set-callback", "PUT", self._PATH, json=body))

    async def remove(self) -> None:
        """None is set from now on; where none was, that is done, if a look agrees."""
        removed = await _if_set(self._client.ask("delete-callback", "DELETE", self._PATH))
        if removed is None and await self.look() is not None:
            raise Unsure("the vendor says that no address is set, and still has one", code="still-there")


async def _if_set(asked: Awaitable[HttpAnswer]) -> HttpAnswer | None:
    """None where words say that there is no such thing."""
    try:
        return await _if_offered(asked)
    except NotFound:
        return None


async def _if_offered(asked: Awaitable[HttpAnswer]) -> HttpAnswer:
    """There is no id in the path: a 404 is about the call."""
    try:
        return await asked
    except NotFound as error:
        if error.code != "404":
            raise
        raise NotOffered(error.reason, code=error.code) from error


@contextlib.contextmanager
def _unsaid(secrets: Collection[str]) -> Iterator[None]:
    """No error that comes out of it repeats one of `secrets`, whatever the vendor echoes."""
    try:
        yield
    except TargetError as error:
        for secret in secrets:
            # Nor a beginning of one, where the vendor's words were cut off.
            for length in range(len(secret), _SHORTEST_SECRET - 1, -1):
                error.reason = error.reason.replace(secret[:length], "***")
        error.args = (error.reason,)
        raise


def account(target: ZhipuTarget) -> Account:
    """The account of a key."""
    answers = ZhipuAnswers(target, ZhipuApplications(target))
    return Account(ZhipuBases(target), ZhipuCallbacks(target), answers)
