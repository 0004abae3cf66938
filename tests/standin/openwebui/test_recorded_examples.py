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
        answer = self.send(method, target, **({"json": body} | more))
        return answer.status, json.loads(answer.body) if answer.body[:1] in b'{["tfn' else answer.body

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
        _, answer = self.ask("POST", "/api/v1/retrieval/query/collection", body)
        return [fact["file_id"] for fact in answer["metadatas"][0]]


@pytest.fixture
def there() -> DirectOpenWebui:
    return DirectOpenWebui()


def test_metadata_of_any_name_is_returned_as_sent(there: DirectOpenWebui) -> None:
    row = there.upload("readme.md", b"# Hello", source_id="A-17", tags=["a", "b"])
    sent = {"knowledge_id": HOME_ID, "source_id": "A-17", "tags": ["a", "b"]}
    assert row["meta"]["data"] == sent
    assert there.ask("GET", f"/api/v1/files/{row['id']}")[1]["meta"]["data"] == sent


def test_upload_is_pending_then_processing_then_listed_with_its_metadata(there: DirectOpenWebui) -> None:
    row = there.upload("readme.md", b"# Hello\n\nkbsync mirrors a folder.")
    assert row["data"] == {"status": "pending"}
    assert (row["hash"], row["filename"], row["meta"]["size"]) == (None, "readme.md", 33)
    assert there.status(row["id"]) == "processing"
    assert there.ask("GET", f"/api/v1/files/{row['id']}/process/status") == (200, {"status": "processing"})
    there.now += 2
    assert there.ask("GET", f"/api/v1/files/{row['id']}/process/status") == (200, {"status": "completed"})
    _, page = there.ask("GET", f"{KB}/files?page=1&limit=100")
    [listed] = page["items"]
    assert (page["total"], listed["id"], listed["directory_path"]) == (1, row["id"], "")
    assert listed["data"] is None
    assert there.status(row["id"]) == "completed"


def test_equal_text_is_refused_and_removal_deletes_all_its_passages(there: DirectOpenWebui) -> None:
    first, second = (there.upload(name, b"kestrels") for name in ("a.md", "b.md"))
    there.now += 2  # the server checked both before it stored either
    assert {there.status(one["id"]) for one in (first, second)} == {"completed"}
    third = there.upload("c.md", b"kestrels")
    there.now += 2
    _, row = there.ask("GET", f"/api/v1/files/{third['id']}")
    assert row["data"]["status"] == "failed"
    assert row["data"]["error"].startswith("Duplicate content detected.")
    there.ask("POST", f"{KB}/sync/cleanup", {"file_ids": [first["id"]], "dir_ids": []})
    assert there.search("kestrels") == []
    assert there.ask("GET", f"{KB}/files")[1]["total"] == 1


def test_file_deleted_while_indexing_leaves_its_passages(there: DirectOpenWebui) -> None:
    row = there.upload("a.md", b"kestrels")
    assert there.ask("DELETE", f"/api/v1/files/{row['id']}") == (
        200,
        {"message": "File deleted successfully"},
    )
    there.now += 2
    assert there.search("kestrels") == [row["id"]]
    assert there.app.violations == ["delete: a.md is being indexed, its passages will stay"]


def test_completed_status_does_not_imply_that_the_base_exists(there: DirectOpenWebui) -> None:
    row = there.upload("a.md", b"kestrels", knowledge_id="4e741f2c-6b1d-4f0c-9a53-000000000000")
    there.now += 2
    assert there.status(row["id"]) == "completed"
    assert there.ask("GET", f"{KB}/files")[1]["total"] == 0


def test_errors_have_a_detail_and_wrong_paths_an_html_page(there: DirectOpenWebui) -> None:
    lost = {"detail": "We could not find what you're looking for :/"}
    assert there.ask("GET", "/api/v1/knowledge/nope") == (404, lost)
    assert there.ask("GET", "/api/v1/knowledge/nope/files") == (400, lost)
    assert there.ask("GET", "/api/v1/files/nope") == (404, lost)
    assert there.ask("GET", f"{KB}", key="sk-other")[0] == 401
    assert there.ask("POST", "/api/v1/files") == (405, {"detail": "Method Not Allowed"})
    status, page = there.ask("GET", "/api/v1/knowledge")
    assert status == 200
    assert page.startswith(b"<!doctype html>")
    assert there.app.violations == []


def test_invalid_client_requests_are_recorded(there: DirectOpenWebui) -> None:
    there.ask("POST", f"{KB}/file/add", {"file": "x"})
    there.ask("GET", f"{KB}/files?size=100")
    assert len(there.app.violations) == 2
