"""Each documented (or captured) exchange, compared by field names and types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.standin.zhipu.vendor import OPEN, START, DirectZhipu

ENVELOPE = {"code": 200, "message": "请求成功", "timestamp": 1}
CAPTURED_ITEM: dict[str, Any] = {
    "id": "2108604259632402432",
    "name": "probe.md",
    "url": "https://cdn",
    "length": 128,
    "min_chunk_size": 1,
    "max_chunk_size": 500,
    "chunk_overlap": 50,
    "knowledge_type": 0,
    "custom_separator": ["\n"],
    "embedding_stat": 2,
    "word_num": 0,
    "parse_image": 0,
}
CORRUPT = {"embedding_code": 10001, "embedding_msg": "知识不可用，文档损坏"}
BASE_ITEM = {
    "id": "1",
    "embedding_id": 11,
    "embedding_model": "Embedding-3",
    "name": "handbook",
    "description": "",
    "background": "blue",
    "icon": "question",
    "contextual": 0,
    "word_num": 0,
    "length": 0,
    "document_size": 0,
}


def same_shape(answer: Any, example: Any, where: str = "answer") -> None:
    assert type(answer) is type(example), where
    if isinstance(example, dict):
        assert answer.keys() == example.keys(), where
        for name, value in example.items():
            same_shape(answer[name], value, f"{where}.{name}")
    if isinstance(example, list):
        assert bool(answer) == bool(example), where
        for index, item in enumerate(answer):
            same_shape(item, example[0], f"{where}[{index}]")


@pytest.fixture(autouse=True)
def no_violations(vendor: DirectZhipu) -> Any:
    yield
    assert vendor.app.violations == []


def test_the_captured_upload_byte_for_byte(vendor: DirectZhipu) -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="knowledge_type"\r\n\r\n1\r\n'
        b'--B\r\nContent-Disposition: form-data; name="files"; filename="probe.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nhello\r\n--B--\r\n"
    )
    kind = {"content-type": "multipart/form-data; boundary=B"}
    path = f"{OPEN}/document/upload_document/{HOME_ID}"
    response = vendor.send(vendor.request("POST", path, body, kind))
    success = {"documentId": "2108605032223117312", "fileName": "probe.txt", "url": "https://cdn"}
    answer = json.loads(response.body)
    example = {"data": {"successInfos": [success], "failedInfos": []}, **ENVELOPE}
    same_shape(answer, example)
    assert (response.status, answer["message"], answer["timestamp"]) == (200, "请求成功", int(START * 1000))
    assert answer["data"]["successInfos"][0]["fileName"] == "probe.txt"
    assert vendor.app.snapshot()["documents"][0]["size"] == 5


def test_an_unsupported_file_stands_in_failed_infos(vendor: DirectZhipu) -> None:
    answer = vendor.upload("probe.exe")
    failed = [{"fileName": "probe.exe", "failReason": "不支持的文档类型"}]
    assert answer["data"] == {"successInfos": [], "failedInfos": failed}
    assert answer["code"] == 200
    assert vendor.effects() == []


def test_list_items_are_as_captured(vendor: DirectZhipu) -> None:
    vendor.put("probe.txt", "x" * 497)
    answer = vendor.json("GET", "/document", knowledge_id=HOME_ID, page=1, size=10)
    same_shape(answer, {"data": {"total": 1, "list": [CAPTURED_ITEM]}, **ENVELOPE})
    item = answer["data"]["list"][0]
    assert (item["length"], item["word_num"], item["embedding_stat"]) == (497, 0, 1)
    assert (item["custom_separator"], item["knowledge_type"]) == (["\n"], 1)


def test_a_failed_item_is_as_captured(vendor: DirectZhipu) -> None:
    vendor.fault("fails")
    ident = vendor.put("probe.md")
    item = vendor.list()["list"][0]
    same_shape(item, CAPTURED_ITEM | {"failInfo": CORRUPT})
    assert item["failInfo"] == CORRUPT
    assert item["embedding_stat"] == 2
    assert item["id"] == ident


def test_md_without_a_type_fails_as_seen_live() -> None:
    vendor = DirectZhipu(strict=False)
    vendor.put("probe.md", "# Title", req_id="1")
    vendor.put("probe.txt", "Title", req_id="2")
    assert [(item["embedding_stat"], item["knowledge_type"]) for item in vendor.list()["list"]] == [
        (1, 0),
        (2, 0),
    ]


def test_detail_is_one_document(vendor: DirectZhipu) -> None:
    ident = vendor.put()
    answer = vendor.json("GET", f"/document/{ident}")
    same_shape(answer, {"data": CAPTURED_ITEM, **ENVELOPE})
    assert answer["data"]["id"] == ident


def test_delete_answers_an_envelope_without_data(vendor: DirectZhipu) -> None:
    ident = vendor.put()
    same_shape(vendor.json("DELETE", f"/document/{ident}"), ENVELOPE)
    assert vendor.list() == {"total": 0, "list": []}
    assert vendor.call("GET", f"/document/{ident}").status == 404
    assert vendor.call("DELETE", f"/document/{ident}").status == 404
    assert vendor.effects() == ["stored", "deleted"]


def test_reembed_is_accepted_and_begins_anew(vendor: DirectZhipu) -> None:
    ident = vendor.put()
    vendor.app.set_behaviour({"vectorize": [5, 5]})
    same_shape(vendor.reembed(ident), ENVELOPE)
    assert vendor.stat(ident) == 0
    assert vendor.search("hello") == []
    vendor.clock.advance(5)
    assert vendor.stat(ident) == 1
    assert vendor.effects() == ["stored", "reembedded"]


def test_reslice_changes_the_slicing_only(vendor: DirectZhipu) -> None:
    ident = vendor.put()
    body = {"knowledge_type": 5, "custom_separator": ["\n\n"], "sentence_size": 500}
    same_shape(vendor.json("PUT", f"/document/{ident}", body), ENVELOPE)
    item = vendor.detail(ident)
    assert (item["knowledge_type"], item["custom_separator"], item["name"]) == (5, ["\n\n"], "probe.txt")
    assert vendor.effects() == ["stored", "resliced"]


def test_retrieve_answers_as_captured(vendor: DirectZhipu) -> None:
    ident = vendor.put("probe.txt", "first things\n\nhow do I print")
    body = {"query": "how do I …", "knowledge_ids": [HOME_ID], "top_k": 3, "recall_method": "mixed"}
    answer = vendor.json("POST", "/knowledge/retrieve", body)
    metadata = {
        "_id": "d572",
        "knowledge_id": "1",
        "know_id": "1",
        "doc_id": "2",
        "doc_name": "probe.txt",
        "doc_url": "https://cdn",
        "doc_type": "txt",
        "index": 0,
    }
    hit = {"id": "d572", "text": "…", "score": 0.34, "medias": [], "metadata": metadata}
    same_shape(answer, {"data": [hit], **ENVELOPE})
    found = answer["data"][0]
    assert (found["text"], found["metadata"]["index"], found["metadata"]["doc_id"]) == (
        "how do I print",
        1,
        ident,
    )
    assert (found["metadata"]["doc_type"], found["metadata"]["doc_name"]) == ("txt", "probe.txt")


def test_an_empty_base_is_found_empty_without_an_error(vendor: DirectZhipu) -> None:
    assert vendor.search("anything") == []


def test_capacity_counts_the_bytes_of_the_account(vendor: DirectZhipu) -> None:
    vendor.put("a.txt", "x" * 300)
    gone = vendor.put("b.txt", "x" * 600)
    vendor.json("DELETE", f"/document/{gone}")
    answer = vendor.json("GET", "/knowledge/capacity")
    sides = {"word_num": 100, "length": 2000}
    same_shape(answer, {"data": {"used": sides, "total": sides}, **ENVELOPE})
    assert answer["data"]["used"] == {"word_num": 100, "length": 300}
    assert answer["data"]["total"]["length"] == 1_000_000_000


def test_bases_are_created_edited_listed_and_deleted(vendor: DirectZhipu) -> None:
    created = vendor.json("POST", "/knowledge", {"embedding_id": 11, "name": "notes", "description": "…"})
    same_shape(created, {"data": {"id": "2108602882139078656"}, **ENVELOPE})
    ident = created["data"]["id"]
    same_shape(vendor.json("PUT", f"/knowledge/{ident}", {"name": "memos", "icon": "book"}), ENVELOPE)
    listed = vendor.json("GET", "/knowledge", page=1, size=10)
    same_shape(listed, {"data": {"list": [BASE_ITEM], "total": 2}, **ENVELOPE})
    assert [base["name"] for base in listed["data"]["list"]] == ["memos", "handbook"]
    detail = vendor.json("GET", f"/knowledge/{ident}")
    same_shape(detail, {"data": BASE_ITEM, **ENVELOPE})
    assert (detail["data"]["icon"], detail["data"]["description"]) == ("book", "…")
    same_shape(vendor.json("DELETE", f"/knowledge/{ident}"), ENVELOPE)
    assert vendor.call("GET", f"/knowledge/{ident}").status == 404
    assert vendor.effects() == ["base-created", "base-edited", "base-deleted"]


def test_models_are_listed(vendor: DirectZhipu) -> None:
    model = {"name": "zhipu_embedding_v1", "description": "zhipu_embedding_v1", "id": 3}
    same_shape(vendor.json("GET", "/embedding"), {"data": {"list": [model], "total": 1}, **ENVELOPE})


def test_document_size_is_the_number_of_documents(vendor: DirectZhipu) -> None:
    vendor.put("a.txt", "12345")
    vendor.put("b.txt", "12345")
    base = vendor.json("GET", f"/knowledge/{HOME_ID}")["data"]
    assert (base["document_size"], base["length"]) == (2, 10)


def test_pages_of_bases_are_one_based(vendor: DirectZhipu) -> None:
    for name in "abc":
        vendor.json("POST", "/knowledge", {"embedding_id": 3, "name": name})
    second = vendor.json("GET", "/knowledge", page=2, size=2)["data"]
    assert ([base["name"] for base in second["list"]], second["total"]) == (["a", "handbook"], 4)


def test_a_deleted_base_takes_its_documents_with_it(vendor: DirectZhipu) -> None:
    ident = vendor.put()
    vendor.json("DELETE", f"/knowledge/{HOME_ID}")
    assert vendor.call("GET", f"/document/{ident}").status == 404
    assert vendor.call("GET", "/document", knowledge_id=HOME_ID).status == 404
    assert vendor.upload_answer("a.txt", b"x").status == 404
    assert vendor.effects() == ["stored", "deleted-with-base", "base-deleted"]


def test_another_model_vectorizes_every_document_anew(vendor: DirectZhipu) -> None:
    first, second = vendor.put("a.txt"), vendor.put("b.txt")
    vendor.app.set_behaviour({"vectorize": [9, 9]})
    vendor.json("PUT", f"/knowledge/{HOME_ID}", {"embedding_id": 12})
    assert [vendor.stat(first), vendor.stat(second)] == [0, 0]
    assert vendor.effects()[-2:] == ["rebuilt", "rebuilt"]
    assert vendor.json("GET", f"/knowledge/{HOME_ID}")["data"]["embedding_model"] == "Embedding-3-pro"


def test_the_signed_address_gives_the_bytes_for_ten_hours_and_differs_at_every_read(
    vendor: DirectZhipu,
) -> None:
    ident = vendor.put("probe.txt", "the bytes")
    first, second = vendor.detail(ident)["url"], vendor.detail(ident)["url"]
    assert first != second
    assert first.startswith(f"http://127.0.0.1:9000/files/{ident}?q-sign-time=1791565590%3B1791601590&")
    assert vendor.read(first).body == b"the bytes"
    vendor.clock.advance(35_999)
    assert vendor.read(first).status == 200
    vendor.clock.advance(1)
    assert vendor.read(first).status == 403
    assert vendor.read(vendor.detail(ident)["url"]).body == b"the bytes"


def test_an_address_signed_for_one_file_opens_no_other(vendor: DirectZhipu) -> None:
    first, second = vendor.put("a.txt"), vendor.put("b.txt")
    url = vendor.detail(first)["url"]
    assert vendor.read(url.replace(first, second)).status == 403
    assert vendor.read(url.replace("1791601590", "1991601590")).status == 403
    vendor.json("DELETE", f"/document/{first}")
    assert vendor.read(url).status == 404


@pytest.mark.parametrize(
    "separator",
    [{"custom_separator": '["\\n\\n", "。"]'}, {"custom_separator": ["\n\n", "。"]}],
    ids=["one JSON field", "repeated fields"],
)
def test_separators_travel_in_any_of_the_known_forms(vendor: DirectZhipu, separator: dict[str, Any]) -> None:
    ident = vendor.put(knowledge_type="5", sentence_size="500", **separator)
    assert vendor.detail(ident)["custom_separator"] == ["\n\n", "。"]


def test_one_separator_travels_as_plain_text(vendor: DirectZhipu) -> None:
    ident = vendor.put(knowledge_type="5", custom_separator="---")
    assert vendor.detail(ident)["custom_separator"] == ["---"]


def test_all_documented_form_fields_are_taken(vendor: DirectZhipu) -> None:
    ident = vendor.put(
        knowledge_type="1",
        parse_image="true",
        callback_url="http://127.0.0.1:1/back",
        callback_header='{"x-secret": "s"}',
        word_num_limit="1000",
        req_id="r-1",
    )
    assert vendor.detail(ident)["parse_image"] == 1


def test_a_limit_of_words_cuts_a_document_short(vendor: DirectZhipu) -> None:
    vendor.put(text="one two three four", knowledge_type="1", word_num_limit="2")
    assert [hit["text"] for hit in vendor.search("one")] == ["one two"]
    assert vendor.search("four") == []


def test_all_documented_search_fields_are_taken(vendor: DirectZhipu) -> None:
    ident = vendor.put()
    found = vendor.search(
        "hello",
        document_ids=[ident],
        top_k=20,
        top_n=100,
        recall_method="embedding",
        recall_ratio=100,
        rerank_status=1,
        rerank_model="rerank",
        fractional_threshold=0.5,
        request_id="r",
    )
    assert [hit["metadata"]["doc_id"] for hit in found] == [ident]
