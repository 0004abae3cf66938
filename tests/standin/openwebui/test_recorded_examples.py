"""Compares the stand-in with recorded responses of version 0.12.4, and with their side effects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.openwebui import HOME_ID
from tests.standin.direct import Direct

KB = f"/api/v1/knowledge/{HOME_ID}"


class DirectOpenWebui(Direct):
    service = "openwebui"
    now = 1_795_154_829.0

    def ask(self, method: str, target: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        response = self.send(method, target, **({"json": body} | more))
        return response.status, json.loads(response.body) if response.body[:1] in b'{["tfn' else response.body

    def upload(self, name: str, content: bytes, **metadata: Any) -> dict[str, Any]:
        sent = {"metadata": json.dumps({"knowledge_id": HOME_ID, **metadata})}
        status, row = self.ask("POST", "/api/v1/files/", data=sent, files={"file": (name, content)})
        assert status == 200, row
        results: dict[str, Any] = row
        return results

    def status(self, file: str) -> str:
        return str(self.ask("GET", f"/api/v1/files/{file}")[1]["data"]["status"])

    def search(self, words: str) -> list[str]:
        body = {"collection_names": [HOME_ID], "query": words, "k": 5}
        _, matches = self.ask("POST", "/api/v1/retrieval/query/collection", body)
        return [fact["file_id"] for fact in matches["metadatas"][0]]


@pytest.fixture
def webui() -> DirectOpenWebui:
    return DirectOpenWebui()


def test_metadata_of_any_name_is_returned_as_sent(webui: DirectOpenWebui) -> None:
    row = webui.upload("readme.md", b"# Hello", source_id="A-17", tags=["a", "b"])
    sent = {"knowledge_id": HOME_ID, "source_id": "A-17", "tags": ["a", "b"]}
    assert row["meta"]["data"] == sent
    assert webui.ask("GET", f"/api/v1/files/{row['id']}")[1]["meta"]["data"] == sent


def test_upload_is_pending_then_processing_then_listed_with_its_metadata(webui: DirectOpenWebui) -> None:
    row = webui.upload("readme.md", b"# Hello\n\nkbsync mirrors a folder.")
    assert row["data"] == {"status": "pending"}
    assert (row["hash"], row["filename"], row["meta"]["size"]) == (None, "readme.md", 33)
    assert webui.status(row["id"]) == "processing"
    assert webui.ask("GET", f"/api/v1/files/{row['id']}/process/status") == (200, {"status": "processing"})
    webui.now += 2
    assert webui.ask("GET", f"/api/v1/files/{row['id']}/process/status") == (200, {"status": "completed"})
    _, page = webui.ask("GET", f"{KB}/files?page=1&limit=100")
    [listed] = page["items"]
    assert (page["total"], listed["id"], listed["directory_path"]) == (1, row["id"], "")
    assert listed["data"] is None
    assert webui.status(row["id"]) == "completed"


def test_equal_text_is_refused_and_removal_deletes_all_its_passages(webui: DirectOpenWebui) -> None:
    first, second = (webui.upload(name, b"kestrels") for name in ("a.md", "b.md"))
    webui.now += 2  # the server checked both before it stored either
    assert {webui.status(file["id"]) for file in (first, second)} == {"completed"}
    third = webui.upload("c.md", b"kestrels")
    webui.now += 2
    _, row = webui.ask("GET", f"/api/v1/files/{third['id']}")
    assert row["data"]["status"] == "failed"
    assert row["data"]["error"].startswith("Duplicate content detected.")
    webui.ask("POST", f"{KB}/sync/cleanup", {"file_ids": [first["id"]], "dir_ids": []})
    assert webui.search("kestrels") == []
    assert webui.ask("GET", f"{KB}/files")[1]["total"] == 1


def test_file_deleted_while_indexing_leaves_its_passages(webui: DirectOpenWebui) -> None:
    row = webui.upload("a.md", b"kestrels")
    assert webui.ask("DELETE", f"/api/v1/files/{row['id']}") == (
        200,
        {"message": "File deleted successfully"},
    )
    webui.now += 2
    assert webui.search("kestrels") == [row["id"]]
    assert webui.app.violations == ["delete: a.md is being indexed, its passages will stay"]


def test_completed_status_does_not_imply_that_the_base_exists(webui: DirectOpenWebui) -> None:
    row = webui.upload("a.md", b"kestrels", knowledge_id="4e741f2c-6b1d-4f0c-9a53-000000000000")
    webui.now += 2
    assert webui.status(row["id"]) == "completed"
    assert webui.ask("GET", f"{KB}/files")[1]["total"] == 0


def test_errors_have_a_detail_and_wrong_paths_an_html_page(webui: DirectOpenWebui) -> None:
    lost = {"detail": "We could not find what you're looking for :/"}
    assert webui.ask("GET", "/api/v1/knowledge/nope") == (404, lost)
    assert webui.ask("GET", "/api/v1/knowledge/nope/files") == (400, lost)
    assert webui.ask("GET", "/api/v1/files/nope") == (404, lost)
    assert webui.ask("GET", f"{KB}", key="sk-other")[0] == 401
    assert webui.ask("POST", "/api/v1/files") == (405, {"detail": "Method Not Allowed"})
    status, page = webui.ask("GET", "/api/v1/knowledge")
    assert status == 200
    assert page.startswith(b"<!doctype html>")
    assert webui.app.violations == []


def test_invalid_client_requests_are_recorded(webui: DirectOpenWebui) -> None:
    webui.ask("POST", f"{KB}/file/add", {"file": "x"})
    webui.ask("GET", f"{KB}/files?size=100")
    assert len(webui.app.violations) == 2
