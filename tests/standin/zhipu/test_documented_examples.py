"""Compares each documented (or captured) exchange by field names and types."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.standin.zhipu.client import OPEN, START, DirectZhipu

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


def same_shape(response: Any, example: Any, path: str = "answer") -> None:
    assert type(response) is type(example), path
    if isinstance(example, dict):
        assert response.keys() == example.keys(), path
        for name, value in example.items():
            same_shape(response[name], value, f"{path}.{name}")
    if isinstance(example, list):
        assert bool(response) == bool(example), path
        for index, item in enumerate(response):
            same_shape(item, example[0], f"{path}[{index}]")


@pytest.fixture(autouse=True)
def no_violations(service: DirectZhipu) -> Any:
    yield
    assert service.app.violations == []


def test_captured_upload_is_reproduced_byte_for_byte(service: DirectZhipu) -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="knowledge_type"\r\n\r\n1\r\n'
        b'--B\r\nContent-Disposition: form-data; name="files"; filename="probe.txt"\r\n'
        b"Content-Type: text/plain\r\n\r\nhello\r\n--B--\r\n"
    )
    kind = {"content-type": "multipart/form-data; boundary=B"}
    path = f"{OPEN}/document/upload_document/{HOME_ID}"
    response = service.send(service.request("POST", path, body, kind))
    success = {"documentId": "2108605032223117312", "fileName": "probe.txt", "url": "https://cdn"}
    payload = json.loads(response.body)
    example = {"data": {"successInfos": [success], "failedInfos": []}, **ENVELOPE}
    same_shape(payload, example)
    assert (response.status, payload["message"], payload["timestamp"]) == (200, "请求成功", int(START * 1000))
    assert payload["data"]["successInfos"][0]["fileName"] == "probe.txt"
    assert service.app.snapshot()["documents"][0]["size"] == 5


def test_unsupported_file_is_listed_in_failed_infos(service: DirectZhipu) -> None:
    payload = service.upload("probe.exe")
    failed = [{"fileName": "probe.exe", "failReason": "不支持的文档类型"}]
    assert payload["data"] == {"successInfos": [], "failedInfos": failed}
    assert payload["code"] == 200
    assert service.effects() == []


METADATA = {
    "_id": "d572",
    "knowledge_id": "1",
    "know_id": "1",
    "doc_id": "2",
    "doc_name": "probe.txt",
    "doc_url": "https://cdn",
    "doc_type": "txt",
    "index": 0,
}
SIDES = {"word_num": 100, "length": 2000}
SEARCH = {"query": "how do I print", "knowledge_ids": [HOME_ID], "top_k": 3, "recall_method": "mixed"}
ALL_OF_SEARCH = {**SEARCH, "top_k": 20, "top_n": 100, "recall_method": "embedding", "recall_ratio": 100}
ALL_OF_SEARCH |= {
    "rerank_status": 1,
    "rerank_model": "rerank",
    "fractional_threshold": 0.5,
    "request_id": "r",
}
HIT = {"id": "d572", "text": "…", "score": 0.34, "medias": [], "metadata": METADATA}
RESLICE = {"knowledge_type": 5, "custom_separator": ["\n\n"], "sentence_size": 500}
NEW_BASE = {"embedding_id": 11, "name": "notes", "description": "…"}
MODEL = {"name": "zhipu_embedding_v1", "description": "zhipu_embedding_v1", "id": 3}

# A call about the only document of a base, and what the manual prints as its `data`; None: no such field.
EXCHANGES: list[tuple[str, str, Any, Any]] = [
    ("GET", "/document/{id}", None, CAPTURED_ITEM),
    ("DELETE", "/document/{id}", None, None),
    ("POST", "/document/embedding/{id}", {}, None),
    ("PUT", "/document/{id}", RESLICE, None),
    ("POST", "/knowledge/retrieve", SEARCH, [HIT]),
    ("POST", "/knowledge/retrieve", ALL_OF_SEARCH, [HIT]),
    ("GET", "/knowledge/capacity", None, {"used": SIDES, "total": SIDES}),
    ("GET", "/knowledge", None, {"list": [BASE_ITEM], "total": 1}),
    ("GET", f"/knowledge/{HOME_ID}", None, BASE_ITEM),
    ("POST", "/knowledge", NEW_BASE, {"id": "2108602882139078656"}),
    ("PUT", f"/knowledge/{HOME_ID}", {"name": "memos", "icon": "book"}, None),
    ("DELETE", f"/knowledge/{HOME_ID}", None, None),
    ("GET", "/embedding", None, {"list": [MODEL], "total": 1}),
]


@pytest.mark.parametrize(("method", "path", "body", "data"), EXCHANGES)
def test_every_response_has_the_shape_of_its_example(
    service: DirectZhipu, method: str, path: str, body: Any, data: Any
) -> None:
    ident = service.put(text="how do I print")
    payload = service.json(method, path.replace("{id}", ident), body)
    same_shape(payload, ENVELOPE if data is None else {"data": data, **ENVELOPE})


def test_response_fields_match_the_manual(service: DirectZhipu) -> None:
    ident = service.put("probe.txt", "first things\n\nhow do I print")
    listed = service.json("GET", "/document", knowledge_id=HOME_ID, page=1, size=10)
    same_shape(listed, {"data": {"total": 1, "list": [CAPTURED_ITEM]}, **ENVELOPE})
    item = listed["data"]["list"][0]
    assert (item["length"], item["word_num"], item["embedding_stat"], item["knowledge_type"]) == (28, 0, 1, 1)
    [hit] = service.search("how do I print", document_ids=[ident])
    assert (hit["text"], hit["metadata"]["index"], hit["metadata"]["doc_id"]) == ("how do I print", 1, ident)
    base = service.json("GET", f"/knowledge/{HOME_ID}")["data"]
    assert (base["document_size"], base["length"]) == (1, 28)
    deleted = service.put("b.txt", "x" * 600)
    service.json("DELETE", f"/document/{deleted}")
    capacity = service.json("GET", "/knowledge/capacity")["data"]
    assert (capacity["used"], capacity["total"]["length"]) == ({"word_num": 9, "length": 28}, 1_000_000_000)
    service.json("PUT", f"/document/{ident}", RESLICE)
    item = service.detail(ident)
    assert (item["knowledge_type"], item["custom_separator"], item["name"]) == (5, ["\n\n"], "probe.txt")
    assert service.effects() == ["stored", "stored", "deleted", "resliced"]


def test_document_being_reindexed_is_not_found(service: DirectZhipu) -> None:
    ident = service.put()
    service.app.set_behaviour({"vectorize": [5, 5]})
    service.reembed(ident)
    assert (service.stat(ident), service.search("hello")) == (0, [])
    service.clock.advance(5)
    assert service.stat(ident) == 1
    assert service.effects() == ["stored", "reembedded"]


def test_base_pages_start_at_one(service: DirectZhipu) -> None:
    for name in "abc":
        service.json("POST", "/knowledge", {"embedding_id": 3, "name": name})
    second = service.json("GET", "/knowledge", page=2, size=2)["data"]
    assert ([base["name"] for base in second["list"]], second["total"]) == (["a", "handbook"], 4)


FORM = {"knowledge_type": "5", "sentence_size": "500", "parse_image": "true", "word_num_limit": "1000"}
FORM |= {"callback_url": "http://127.0.0.1:1/back", "callback_header": '{"x-secret": "s"}', "req_id": "r-1"}


@pytest.mark.parametrize(
    ("separators", "stored"),
    [('["\\n\\n", "。"]', ["\n\n", "。"]), (["\n\n", "。"], ["\n\n", "。"]), ("---", ["---"])],
    ids=["one JSON field", "repeated fields", "plain text"],
)
def test_all_documented_form_fields_are_accepted_and_separators_in_every_known_form(
    service: DirectZhipu, separators: Any, stored: list[str]
) -> None:
    item = service.detail(service.put(custom_separator=separators, **FORM))
    assert (item["custom_separator"], item["parse_image"]) == (stored, 1)


def test_failed_item_matches_the_capture(service: DirectZhipu) -> None:
    service.fault("fails")
    ident = service.put("probe.md")
    item = service.list()["list"][0]
    same_shape(item, CAPTURED_ITEM | {"failInfo": CORRUPT})
    assert item["failInfo"] == CORRUPT
    assert item["embedding_stat"] == 2
    assert item["id"] == ident


def test_deleted_base_deletes_its_documents(service: DirectZhipu) -> None:
    ident = service.put()
    service.json("DELETE", f"/knowledge/{HOME_ID}")
    assert service.call("GET", f"/document/{ident}").status == 404
    assert service.call("GET", "/document", knowledge_id=HOME_ID).status == 404
    assert service.upload_response("a.txt", b"x").status == 404
    assert service.effects() == ["stored", "deleted-with-base"]


def test_new_model_revectorizes_every_document(service: DirectZhipu) -> None:
    first, second = service.put("a.txt"), service.put("b.txt")
    service.app.set_behaviour({"vectorize": [9, 9]})
    service.json("PUT", f"/knowledge/{HOME_ID}", {"embedding_id": 12})
    assert [service.stat(first), service.stat(second)] == [0, 0]
    assert service.effects()[-2:] == ["rebuilt", "rebuilt"]
    assert service.json("GET", f"/knowledge/{HOME_ID}")["data"]["embedding_model"] == "Embedding-3-pro"


def test_signed_address_is_valid_for_ten_hours_and_differs_at_every_read(service: DirectZhipu) -> None:
    ident = service.put("probe.txt", "the bytes")
    first, second = service.detail(ident)["url"], service.detail(ident)["url"]
    assert first != second
    assert first.startswith(f"http://127.0.0.1:9000/files/{ident}?q-sign-time=1791565590%3B1791601590&")
    assert service.read(first).body == b"the bytes"
    service.clock.advance(35_999)
    assert service.read(first).status == 200
    service.clock.advance(1)
    assert service.read(first).status == 403
    assert service.read(service.detail(ident)["url"]).body == b"the bytes"


def test_signed_address_opens_only_its_file(service: DirectZhipu) -> None:
    first, second = service.put("a.txt"), service.put("b.txt")
    url = service.detail(first)["url"]
    assert service.read(url.replace(first, second)).status == 403
    assert service.read(url.replace("1791601590", "1991601590")).status == 403
    service.json("DELETE", f"/document/{first}")
    assert service.read(url).status == 404


def test_word_limit_truncates_a_document(service: DirectZhipu) -> None:
    service.put(text="one two three four", knowledge_type="1", word_num_limit="2")
    assert [hit["text"] for hit in service.search("one")] == ["one two"]
    assert service.search("four") == []
