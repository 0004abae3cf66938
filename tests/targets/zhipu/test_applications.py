"""Changing an application: what is not meant to change is sent as it is, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync.contract.searching import ApplicationWish
from kbsync.errors import Rejected
from kbsync.targets.zhipu.manage import OF_ITS_RECALL, RECALL
from tests.targets.zhipu.vendor import FIRST_ID, Vendor, ok, snowflake, target

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


def vendor(**fields: Any) -> Vendor:
    shown = {
        "id": FIRST_ID,
        "name": "desk",
        "prompt": "{{知识}}{{用户}}",
        "knowledge_ids": [int(OLD)],
        **fields,
    }
    return Vendor(application=[ok(shown)], edit_application=[ok()])


async def changed(vendor: Vendor, **wish: Any) -> Any:
    await target(vendor).applications.update(FIRST_ID, ApplicationWish(**wish))
    return vendor.body("edit_application")


async def test_other_bases_leave_recall_and_ranking_as_a_person_set_them() -> None:
    body = await changed(vendor(knowledge_info={**TUNED, "knowledge_ids": [OLD]}), bases=(NEW,))
    assert body == {"knowledge_ids": [int(NEW)], "knowledge_info": {**TUNED, "knowledge_ids": [NEW]}}


@pytest.mark.parametrize("key", ["rerank_index_type_list", "recall_index_type_list"])
async def test_what_was_set_for_a_base_goes_with_it(key: str) -> None:
    known = vendor(knowledge_info={**TUNED, key: rows(OLD, NEW)})
    assert (await changed(known, bases=(NEW,)))["knowledge_info"][key] == rows(NEW)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, {}),
        ({"slice_count": 5}, {"slice_count": 5}),
        ({"slice_count": "many"}, {}),
        ({"knowledge_info": None, "slice_count": 5}, {"slice_count": 5}),
        ({"knowledge_info": {"recall_method": "keyword", "slice_count": None}}, {"recall_method": "keyword"}),
    ],
)
async def test_what_the_vendor_does_not_show_is_as_in_a_new_one(fields: Any, kept: dict[str, Any]) -> None:
    body = await changed(vendor(**fields), bases=(NEW,))
    assert body["knowledge_info"] == {**RECALL, **kept, "knowledge_ids": [NEW]}


async def test_without_other_bases_nothing_of_the_recall_is_sent() -> None:
    known = vendor()
    assert await changed(known, name="help") == {"name": "help"}
    assert known.asked["application"] == 0


async def test_one_setting_of_the_recall_is_sent_with_the_rest_of_it_and_the_bases() -> None:
    known = vendor(knowledge_info={**TUNED, "rerank_index_type_list": rows(OLD)})
    body = await changed(known, settings={"slice_count": "3", "rerank_status": "false"})
    recall = {**TUNED, "rerank_index_type_list": rows(OLD), "slice_count": 3, "rerank_status": 0}
    assert body == {"knowledge_ids": [int(OLD)], "knowledge_info": {**recall, "knowledge_ids": [OLD]}}


async def test_bases_that_are_not_shown_are_not_taken_away() -> None:
    known = vendor(knowledge_ids=None, knowledge_info={**TUNED, "rerank_index_type_list": rows(OLD)})
    body = await changed(known, settings={"slice_count": "3"})
    kept = {**TUNED, "rerank_index_type_list": rows(OLD), "slice_count": 3}
    assert body == {"knowledge_info": kept}


async def test_settings_of_its_own_are_sent_alone() -> None:
    known = vendor()
    assert await changed(known, settings={"temperature": "0.50", "max_token": "12"}) == {
        "temperature": "0.50",
        "max_token": 12,
    }
    assert known.asked["application"] == 0


async def test_settings_are_told_as_they_can_be_given() -> None:
    fields = {"knowledge_info": {**TUNED, "show_recall_result": False}, "top_p": 0.7, "max_token": 1024}
    found = await target(vendor(**fields)).applications.look(FIRST_ID)
    told = {key: str(value) for key, value in TUNED.items() if key in OF_ITS_RECALL}
    assert found.settings == {**told, "show_recall_result": "false", "top_p": "0.7", "max_token": "1024"}
    await changed(known := vendor(**fields), settings=dict(found.settings))
    assert known.body("edit_application")["knowledge_info"]["show_recall_result"] is False


async def test_an_application_that_is_not_there_is_not_changed() -> None:
    known = Vendor(application=[ok(None)], edit_application=[ok()])
    with pytest.raises(Rejected, match="there is no application"):
        await changed(known, bases=(NEW,))
    assert known.asked["edit_application"] == 0
