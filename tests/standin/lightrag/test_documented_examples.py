"""Compares the stand-in with requests and responses recorded at LightRAG 1.5.7, and with its refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.faults import Fault
from tests.services.access import KEY
from tests.standin.direct import Direct

UPLOAD, LIST, DELETE = "/documents/upload", "/documents/paginated", "/documents/delete_document"
README = b"# Hello\n\nKbsync mirrors a folder into a knowledge base."
README_ID = "doc-0730bb7c2e8f9ea2438b52e419dd86c9"


class DirectLightrag(Direct):
    service = "lightrag"

    def ask(
        self, method: str, path: str, body: Any = None, fault: Fault | None = None, **headers: str
    ) -> tuple[int, Any]:
        content = {"content" if isinstance(body, bytes) else "json": body}
        response = self.send(method, path, headers=headers or {"x-api-key": KEY}, fault=fault, **content)
        return response.status, json.loads(response.body)

    def upload(self, name: str, content: bytes = README, fault: Fault | None = None) -> tuple[int, Any]:
        files = {"file": (name, content)}
        response = self.send("POST", UPLOAD, headers={"x-api-key": KEY}, fault=fault, files=files)
        return response.status, json.loads(response.body)

    def rows(self) -> list[Any]:
        _, body = self.ask("POST", LIST, {"page": 1, "page_size": 10})
        return list(body["documents"])


def test_key_is_required_in_its_own_header() -> None:
    server, counts = DirectLightrag(), "/documents/status_counts"
    assert server.ask("GET", counts, accept="*/*") == (403, {"detail": "API Key required"})
    assert server.ask("GET", counts, **{"x-api-key": "other"}) == (403, {"detail": "Invalid API Key"})
    assert server.ask("GET", counts, authorization=f"Bearer {KEY}") == (401, {"detail": "Invalid token"})


def test_empty_server_counts_nothing() -> None:
    status, body = DirectLightrag().ask("GET", "/documents/status_counts")
    words = ("pending", "parsing", "analyzing", "processing", "preprocessed", "processed", "failed", "all")
    assert (status, body) == (200, {"status_counts": dict.fromkeys(words, 0)})


@pytest.fixture
def server() -> DirectLightrag:
    return DirectLightrag()


def test_file_is_accepted_and_processed_under_an_id_derived_from_its_name(server: DirectLightrag) -> None:
    status, body = server.upload("readme.md")
    assert (status, body["status"]) == (200, "success")
    assert body["message"].startswith("File 'readme.md' uploaded successfully.")
    [row] = server.rows()
    assert (row["id"], row["file_path"], row["status"]) == (README_ID, "readme.md", "pending")
    assert row["track_id"] == body["track_id"]
    server.now += 2
    assert [row["status"] for row in server.rows()] == ["processed"]


def test_same_text_under_another_name_fails_and_stays_in_the_list(server: DirectLightrag) -> None:
    server.upload("readme.md")
    server.upload("copy.md")
    [copy] = [row for row in server.rows() if row["file_path"] == "copy.md"]
    assert copy["status"] == "failed"
    assert copy["error_msg"].startswith("Identical content already exists under another filename.")
    assert copy["metadata"]["duplicate_kind"] == "content_hash"
    assert copy["metadata"]["original_doc_id"] == README_ID


def test_name_is_accepted_once(server: DirectLightrag) -> None:
    server.upload("readme.md")
    server.now += 2
    status, body = server.upload("readme.md", b"another text")
    assert status == 409
    assert body["detail"].startswith(
        "Document storage already contains 'readme.md' (Status: processed). Delete the existing record"
    )


def test_deletion_waits_for_indexing_and_uploads_wait_for_deletion() -> None:
    server = DirectLightrag(deleting=1.0)
    server.upload("readme.md")
    request = {"doc_ids": [README_ID], "delete_file": True}
    busy = {"status": "busy", "message": "Pipeline is busy with another operation.", "doc_id": README_ID}
    assert server.ask("DELETE", DELETE, request) == (200, busy)
    server.now += 2
    status, body = server.ask("DELETE", DELETE, request)
    assert (status, body["status"]) == (200, "deletion_started")
    assert server.ask("DELETE", DELETE, request) == (200, busy)
    status, body = server.upload("g.md", b"uploaded during delete")
    assert status == 409
    assert body["detail"].startswith("Pipeline is clearing or deleting documents.")
    assert server.ask("GET", "/documents/pipeline_status")[1]["busy"] is True
    server.now += 1
    _, done = server.ask("GET", "/documents/pipeline_status")
    assert (done["busy"], done["latest_message"]) == (False, "Deletion completed: 1 successful, 0 failed")
    assert server.rows() == []


def test_deleting_an_unknown_document_starts_and_fails(server: DirectLightrag) -> None:
    assert server.ask("DELETE", DELETE, {"doc_ids": ["doc-nope"]})[1]["status"] == "deletion_started"
    server.now += 1
    message = server.ask("GET", "/documents/pipeline_status")[1]["latest_message"]
    assert message == "Deletion completed: 0 successful, 1 failed"


def test_search_finds_passages_with_their_files(server: DirectLightrag) -> None:
    server.upload("readme.md")
    question = {"query": "kbsync folder", "mode": "naive"}
    _, nothing = server.ask("POST", "/query/data", question)
    assert (nothing["status"], nothing["metadata"]["failure_reason"]) == ("failure", "no_results")
    server.now += 2
    _, response = server.ask("POST", "/query/data", question)
    chunk = {"reference_id": "1", "content": README.decode(), "file_path": "readme.md"}
    assert response["status"] == "success"
    assert response["data"]["chunks"] == [{**chunk, "chunk_id": f"{README_ID}-chunk-000"}]
    assert response["data"]["references"] == [{"reference_id": "1", "file_path": "readme.md"}]


def test_file_without_text_fails(server: DirectLightrag) -> None:
    server.upload("empty.md", b" \n")
    server.now += 2
    [row] = server.rows()
    assert (row["status"], row["error_msg"]) == ("failed", "File contains no content or only whitespace")


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("sub/dir.md", "Unsafe filename detected"),
        ("C:x.md", "Unsafe filename detected"),
        (" x.md", "Invalid filename"),
        ("bad.exe", "Unsupported file type."),
    ],
)
def test_invalid_names_are_refused(server: DirectLightrag, name: str, detail: str) -> None:
    status, body = server.upload(name)
    assert status == 400
    assert body["detail"].startswith(detail)
    assert len(server.app.violations) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LIST, {"page": 1, "page_size": 5}),
        (LIST, {"page_size": 201}),
        (LIST, {"sort_field": "name"}),
        (LIST, {"nonsense": 1}),
        ("/query/data", {"mode": "naive"}),
        ("/query/data", {"query": "kestrel", "chunk_top_k": 1001}),
    ],
)
def test_out_of_range_fields_are_refused(server: DirectLightrag, path: str, body: Any) -> None:
    assert server.ask("POST", path, body)[0] == 422
    assert len(server.app.violations) == 1


def test_too_many_waiting_documents_are_refused_temporarily() -> None:
    server = DirectLightrag(most_at_once=1)
    server.upload("readme.md")
    assert server.upload("other.md", b"another text")[0] == 429
    server.now += 2
    assert server.upload("other.md", b"another text")[0] == 200
