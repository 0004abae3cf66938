"""Compares the stand-in with examples in the service's reference, OGX's responses, and their restrictions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.openai import HOME_ID
from tests.standin.direct import Direct

FILES = f"/v1/vector_stores/{HOME_ID}/files"


class DirectOpenai(Direct):
    service = "openai"
    now = 1_699_061_776.0

    def ask(self, method: str, target: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        response = self.send(method, target, **({"json": body} | more))
        return response.status, json.loads(response.body)

    def upload(self, name: str = "notes.md", text: str = "The kestrel.", purpose: str = "assistants") -> str:
        form = {"data": {"purpose": purpose}, "files": {"file": (name, text.encode())}}
        status, body = self.ask("POST", "/v1/files", **form)
        assert status == 200, body
        return str(body["id"])

    def attach(self, file_id: str, **fields: Any) -> tuple[int, Any]:
        return self.ask("POST", FILES, {"file_id": file_id, **fields})


@pytest.fixture
def openai() -> DirectOpenai:
    return DirectOpenai()


def test_file_is_returned_as_in_the_reference(openai: DirectOpenai) -> None:
    file_id = openai.upload("salesOverview.pdf")
    _, page = openai.ask("GET", "/v1/files?purpose=assistants")
    [file] = page["data"]
    assert {key: file[key] for key in ("id", "object", "bytes", "created_at", "filename", "purpose")} == {
        "id": file_id,
        "object": "file",
        "bytes": 12,
        "created_at": 1699061776,
        "filename": "salesOverview.pdf",
        "purpose": "assistants",
    }
    assert (page["first_id"], page["last_id"], page["has_more"]) == (file_id, file_id, False)


def test_attached_file_is_in_progress_and_then_completed(openai: DirectOpenai) -> None:
    file_id = openai.upload()
    status, row = openai.attach(file_id, attributes={"path": "a.md"})
    assert status == 200
    assert row["object"] == "vector_store.file" and row["vector_store_id"] == HOME_ID
    assert (row["id"], row["status"], row["last_error"]) == (file_id, "in_progress", None)
    assert openai.ask("POST", f"/v1/vector_stores/{HOME_ID}/search", {"query": "kestrel"})[1]["data"] == []
    openai.now += 2
    assert openai.ask("GET", f"{FILES}/{file_id}")[1]["status"] == "completed"
    _, response = openai.ask("POST", f"/v1/vector_stores/{HOME_ID}/search", {"query": "kestrel"})
    assert response["object"] == "vector_store.search_results.page"
    [hit] = response["data"]
    assert (hit["file_id"], hit["attributes"]) == (file_id, {"path": "a.md"})
    assert hit["content"] == [{"type": "text", "text": "The kestrel."}]


def test_deleted_file_leaves_its_stores_except_at_ogx() -> None:
    for dialect, left_count in (("openai", 0), ("ogx", 1)):
        service = DirectOpenai(dialect=dialect)
        file_id = service.upload()
        service.attach(file_id)
        assert service.ask("DELETE", f"/v1/files/{file_id}")[1] == {
            "id": file_id,
            "object": "file",
            "deleted": True,
        }
        assert len(service.ask("GET", FILES)[1]["data"]) == left_count


def test_pages_continue_after_the_last_id(openai: DirectOpenai) -> None:
    ids = [openai.upload(f"{n}.md") for n in range(5)]
    for document_id in ids:
        openai.attach(document_id)
    observed, after = [], ""
    while True:
        _, page = openai.ask("GET", f"{FILES}?limit=2&order=asc{after}")
        observed += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert observed == ids
    assert openai.ask("GET", f"{FILES}?order=desc")[1]["data"][0]["id"] == ids[-1]


def test_deleted_cursor_is_refused_and_at_ogx_restarts() -> None:
    ogx = DirectOpenai(dialect="ogx")
    ogx.attach(ogx.upload())
    assert len(ogx.ask("GET", f"{FILES}?after=file-gone")[1]["data"]) == 1
    ogx.app.set_behaviour({"dialect": "openai"})
    assert ogx.ask("GET", f"{FILES}?after=file-gone")[0] == 400


def test_filters_select_by_attributes() -> None:
    service = DirectOpenai()
    ids = [service.upload(f"{n}.md") for n in range(3)]
    for n, file_id in enumerate(ids):
        service.attach(file_id, attributes={"file_id": file_id, "n": str(n)})
    service.now += 2

    def search(**filters: Any) -> set[str]:
        body = {"query": "kestrel", "filters": filters}
        return {
            hit["file_id"]
            for hit in service.ask("POST", f"/v1/vector_stores/{HOME_ID}/search", body)[1]["data"]
        }

    assert search(type="eq", key="n", value="1") == {ids[1]}
    assert search(type="in", key="file_id", value=ids[:2]) == set(ids[:2])


def test_equal_texts_share_their_passages_at_ogx() -> None:
    service = DirectOpenai(dialect="ogx")
    first, second = service.upload("a.md"), service.upload("b.md")
    assert service.attach(first)[1]["status"] == service.attach(second)[1]["status"] == "completed"

    def search() -> list[str]:
        body = service.ask("POST", f"/v1/vector_stores/{HOME_ID}/search", {"query": "kestrel"})[1]
        return [hit["attributes"]["file_id"] for hit in body["data"]]

    assert search() == [second, second]
    service.ask("DELETE", f"{FILES}/{first}")
    assert search() == []


def test_names_are_rewritten_at_ogx() -> None:
    ogx = DirectOpenai(dialect="ogx")
    ogx.upload("a/中文 one~two.md")
    assert ogx.ask("GET", "/v1/files")[1]["data"][0]["filename"] == "a____one_two.md"


@pytest.mark.parametrize(("dialect", "unknown"), [("openai", 404), ("ogx", 400)])
def test_missing_object_returns_an_error_object(dialect: str, unknown: int) -> None:
    service = DirectOpenai(dialect=dialect)
    for target in ("/v1/vector_stores/vs_no", "/v1/vector_stores/vs_no/files", f"{FILES}/file-0"):
        status, body = service.ask("GET", target)
        assert status == unknown
        assert body["error"].keys() == {"message", "type", "param", "code"}
    assert service.ask("DELETE", "/v1/files/file-0")[0] == 404


def test_wrong_key_is_refused(openai: DirectOpenai) -> None:
    status, body = openai.ask("GET", FILES, key="sk-other")
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": {f"k{n}": "v" for n in range(17)}},
        {"attributes": {"k": 513 * "x"}},
        {"attributes": {65 * "k": "x"}},
        {"attributes": {"k": ["x"]}},
        {"surprise": 1},
    ],
    ids=["17 keys", "long value", "long key", "list", "unknown field"],
)
def test_undocumented_request_is_a_violation(openai: DirectOpenai, fields: dict[str, Any]) -> None:
    status, _ = openai.attach(openai.upload(), **fields)
    assert status == 400
    assert len(openai.app.violations) == 1


@pytest.mark.parametrize(
    "target", [f"{FILES}?limit=101", f"{FILES}?limit=0", f"{FILES}?order=up", f"{FILES}?page=2"]
)
def test_page_sizes_are_limited(openai: DirectOpenai, target: str) -> None:
    assert openai.ask("GET", target)[0] == 400
    assert openai.app.violations
