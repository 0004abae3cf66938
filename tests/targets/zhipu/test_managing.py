"""Tests the management of applications and callback URLs: sent, read, and never repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync.accounts.account import ApplicationRequest, Callback, account_of
from kbsync.accounts.zhipu import DEFAULT_RECALL
from kbsync.contract.target import Outgoing
from kbsync.errors import Rejected
from tests.targets.blocks import target_context
from tests.targets.zhipu.scripted import (
    FIRST_ID,
    ScriptedService,
    document,
    failed,
    ok,
    row,
    settings,
    snowflake,
    stored,
    target,
)

OLD, NEW = snowflake(1_700_000_000), snowflake(1_700_000_001)
TUNED = {
    "slice_config_type": "customized",
    "recall_method": "mixed",
    "rerank_status": 1,
    "rerank_model_name": "rerank-pro",
    "slice_count": 15,
    "embedding_recall_ratio": 60,
    "recall_slice_splicing_method": "{{切片内容}}",
}


def rows(*bases: str) -> list[dict[str, Any]]:
    return [{"knowledge_id": base, "index_type_id": "0"} for base in bases]


def service(**fields: Any) -> ScriptedService:
    application = {
        "id": FIRST_ID,
        "name": "desk",
        "prompt": "{{知识}}{{用户}}",
        "knowledge_ids": [int(OLD)],
        **fields,
    }
    return ScriptedService(application=[ok(application)], edit_application=[ok()])


async def changed(service: ScriptedService, **changes: Any) -> Any:
    await account_of(target(service)).answers.applications.update(FIRST_ID, ApplicationRequest(**changes))
    return service.body("edit_application")


async def test_creating_bases_keeps_recall_and_ranking_as_set_by_a_person() -> None:
    body = await changed(service(knowledge_info={**TUNED, "knowledge_ids": [OLD]}), bases=(NEW,))
    assert body == {"knowledge_ids": [int(NEW)], "knowledge_info": {**TUNED, "knowledge_ids": [NEW]}}


@pytest.mark.parametrize("key", ["rerank_index_type_list", "recall_index_type_list"])
async def test_settings_of_a_base_are_deleted_with_it(key: str) -> None:
    scripted = service(knowledge_info={**TUNED, key: rows(OLD, NEW)})
    assert (await changed(scripted, bases=(NEW,)))["knowledge_info"][key] == rows(NEW)


@pytest.mark.parametrize(
    ("fields", "kept_settings"),
    [
        ({}, {}),
        ({"slice_count": 5}, {"slice_count": 5}),
        ({"slice_count": "many"}, {}),
        ({"knowledge_info": None, "slice_count": 5}, {"slice_count": 5}),
        ({"knowledge_info": {"recall_method": "keyword", "slice_count": None}}, {"recall_method": "keyword"}),
    ],
)
async def test_settings_the_service_does_not_show_get_their_defaults(
    fields: Any, kept_settings: dict[str, Any]
) -> None:
    body = await changed(service(**fields), bases=(NEW,))
    assert body["knowledge_info"] == {**DEFAULT_RECALL, **kept_settings, "knowledge_ids": [NEW]}


async def test_changing_one_recall_setting_sends_all_of_them_and_the_bases() -> None:
    scripted = service(knowledge_info={**TUNED, "rerank_index_type_list": rows(OLD)})
    body = await changed(scripted, settings={"slice_count": "3", "rerank_status": "false"})
    recall = {**TUNED, "rerank_index_type_list": rows(OLD), "slice_count": 3, "rerank_status": 0}
    assert body == {"knowledge_ids": [int(OLD)], "knowledge_info": {**recall, "knowledge_ids": [OLD]}}


async def test_hidden_bases_are_not_removed() -> None:
    scripted = service(knowledge_ids=None, knowledge_info={**TUNED, "rerank_index_type_list": rows(OLD)})
    body = await changed(scripted, settings={"slice_count": "3"})
    merged = {**TUNED, "rerank_index_type_list": rows(OLD), "slice_count": 3}
    assert body == {"knowledge_info": merged}


async def test_missing_application_is_not_changed() -> None:
    scripted = ScriptedService(application=[ok(None)], edit_application=[ok()])
    with pytest.raises(Rejected, match="there is no application"):
        await changed(scripted, bases=(NEW,))
    assert scripted.counts["edit_application"] == 0


URL = "https://events.example.org/kb"
SECRET = "s3cr3t-of-the-header"


# ---- the account's callback URL


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"url": URL, "callback_header": {"X-Token": SECRET}, "be_in_use": 1},
            Callback(URL, ("X-Token",), True),
        ),
        ({"url": URL, "callback_header": f'{{"X-Token": "{SECRET}"}}'}, Callback(URL, ("X-Token",))),
        ({"url": URL, "callback_header": SECRET, "be_in_use": 0}, Callback(URL, in_use=False)),
        ({"url": URL, "callback_header": None, "be_in_use": "1"}, Callback(URL)),
        ({"url": " ", "callback_header": {}, "be_in_use": 0}, None),
        ({"url": None}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
async def test_callback_settings_are_parsed_in_every_form(data: Any, expected: Callback | None) -> None:
    callback = await account_of(target(ScriptedService(callback=[ok(data)]))).callbacks.get()
    assert callback == expected
    assert SECRET not in repr(callback)


async def test_missing_callback_is_recognized_by_its_message() -> None:
    missing = failed(400, "回调地址不存在")
    callbacks = account_of(target(ScriptedService(callback=[missing], delete_callback=[missing]))).callbacks
    assert await callbacks.get() is None
    await callbacks.remove()


@pytest.mark.parametrize("echo", [SECRET, f"{'x' * 80} {SECRET}", SECRET * 20])
async def test_no_error_repeats_a_header(echo: str) -> None:
    service = ScriptedService(set_callback=[failed(1214, f"callback_header {echo}")])
    with pytest.raises(Rejected) as caught:
        await account_of(target(service)).callbacks.set_url(URL, {"X-Token": SECRET})
    assert SECRET[:4] not in caught.value.reason + str(caught.value)
    assert "1214" in str(caught.value)


# ---- a mirror's address, sent with every request that makes the service index


PATH_SECRET = "5ec4e7" * 6
OUR_URL = f"https://kb.example/callback/{PATH_SECRET}"


def field(service: ScriptedService, name: str) -> bool:
    return f'name="{name}"'.encode() in service.requests[-1].content


async def test_gateway_in_front_of_the_listener_gets_its_header() -> None:
    header = {"Authorization": "Bearer of-the-gateway"}
    fields = {"callback_url": OUR_URL, "callback_header": header}
    service = ScriptedService(upload=[stored()], reembed=[ok()], reslice=[ok()], detail=[ok(row())])
    zhipu = target(service, callback_url=OUR_URL, callback_authorization=header["Authorization"])
    await zhipu.put([document()])
    assert field(service, "callback_url")
    assert field(service, "callback_header")
    assert json.dumps(header, separators=(",", ":")).encode() in service.requests[-1].content
    await zhipu.reembed(FIRST_ID)
    assert service.body("reembed") == fields
    await zhipu.reslice(FIRST_ID, "a.md", {})
    assert service.body("reslice") == {"knowledge_type": 1, **fields}
    assert header["Authorization"] not in repr(settings(callback_authorization=header["Authorization"]))


async def test_secret_is_in_no_message_and_no_repr() -> None:
    assert PATH_SECRET not in repr(target_context(callback_url=OUR_URL))
    service = ScriptedService(
        upload=[failed(1214, f"callback_url {OUR_URL} is not reachable, {PATH_SECRET}")]
    )
    sent: Outgoing = document()
    [outcome] = await target(service, callback_url=OUR_URL).put([sent])
    assert isinstance(outcome, Rejected)
    assert PATH_SECRET not in outcome.reason + str(outcome)


@pytest.mark.parametrize(
    ("header", "echo"),
    [
        ("Bearer of-the-gateway", "of-the-gateway"),
        ("Bearer of-the-gateway", "bearer of-the-gateway"),
        ("of-the-gateway", "of-the-gateway"),
        ('Token token="of-the-gateway", user="us"', "token of-the-gateway"),
        ("Basic of-the-gateway==", "of-the-gateway"),
    ],
)
async def test_no_part_of_the_gateway_header_is_repeated(header: str, echo: str) -> None:
    service = ScriptedService(upload=[failed(1214, f"Bearer of {echo} is refused: {header}")])
    [outcome] = await target(service, callback_url=OUR_URL, callback_authorization=header).put([document()])
    assert isinstance(outcome, Rejected)
    assert "of-the-gateway" not in outcome.reason + str(outcome)
    assert "Bearer of" in outcome.reason
