"""Compares the stand-in with the HTTP API reference, and with the server's source."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.ragflow import HOME_ID
from tests.services.access import KEY
from tests.standin.direct import Direct

DATASETS = "/api/v1/datasets"
DOCUMENTS = f"{DATASETS}/{HOME_ID}/documents"
CHUNKS = f"{DATASETS}/{HOME_ID}/chunks"


class DirectRagflow(Direct):
    service = "ragflow"
    now = 1_728_897_061.0

    def ask(self, method: str, target: str, body: Any = None, **more: Any) -> Any:
        return json.loads(self.send(method, target, json=body, **more).body)

    def upload(self, *names: str, text: str = "ragflow content") -> Any:
        files = [("file", (name, text.encode())) for name in names]
        return json.loads(self.send("POST", DOCUMENTS, files=files).body)

    def stored(self, *names: str) -> list[str]:
        return [row["id"] for row in self.upload(*names)["data"]]

    def run_of(self, remote_id: str) -> str:
        [row] = self.ask("GET", f"{DOCUMENTS}?ids={remote_id}")["data"]["docs"]
        return str(row["run"])


FORM = {"authorization": f"Bearer {KEY}", "content-type": "multipart/form-data; boundary=x"}


@pytest.fixture
def service() -> DirectRagflow:
    return DirectRagflow()


def test_upload_returns_each_document_and_parses_none(service: DirectRagflow) -> None:
    payload = service.upload("test1.txt", "test2.md")
    assert payload["code"] == 0
    assert [(row["name"], row["run"], row["size"]) for row in payload["data"]] == [
        ("test1.txt", "UNSTART", 15),
        ("test2.md", "UNSTART", 15),
    ]
    assert all(row["dataset_id"] == HOME_ID and len(row["id"]) == 32 for row in payload["data"])


def test_existing_name_gets_a_number_ignoring_case_and_accents(service: DirectRagflow) -> None:
    names = [service.upload(name)["data"][0]["name"] for name in ("a.md", "a.md", "A.md", "á.md", "a(1).md")]
    assert names == ["a.md", "a(1).md", "A(2).md", "á(3).md", "a(4).md"]


def test_invalid_uploads_are_refused(service: DirectRagflow) -> None:
    empty = service.send("POST", DOCUMENTS, headers=FORM, content=b"--x--")
    assert json.loads(empty.body) == {"code": 101, "message": "No file part!"}
    assert service.upload("a.exe")["message"] == "a.exe: This type of file has not been supported yet!"
    assert service.upload("a" * 300 + ".md")["code"] == 101
    assert len(service.app.violations) == 2


def test_document_is_parsed_on_request_and_then_found(service: DirectRagflow) -> None:
    [document_id] = service.stored("a.md")
    question = {"question": "ragflow", "dataset_ids": [HOME_ID]}
    assert service.ask("POST", "/api/v1/retrieval", question)["code"] == 100
    assert service.ask("POST", CHUNKS, {"document_ids": [document_id]}) == {"code": 0}
    assert service.run_of(document_id) == "RUNNING"
    repeated = service.ask("POST", CHUNKS, {"document_ids": [document_id]})
    assert repeated == {"code": 102, "message": "Can't parse document that is currently being processed"}
    assert service.ask("POST", "/api/v1/retrieval", question)["data"]["chunks"] == []
    service.now += 2
    assert service.run_of(document_id) == "DONE"
    [chunk] = service.ask("POST", "/api/v1/retrieval", question)["data"]["chunks"]
    assert (chunk["document_id"], chunk["content"]) == (document_id, "ragflow content")


def test_disabled_document_is_not_found(service: DirectRagflow) -> None:
    [document_id] = service.stored("a.md")
    service.ask("POST", CHUNKS, {"document_ids": [document_id]})
    service.now += 2
    service.app.put_foreign({"disable": document_id})
    question = {"question": "ragflow", "dataset_ids": [HOME_ID]}
    assert service.ask("POST", "/api/v1/retrieval", question)["data"]["chunks"] == []


def test_search_among_unknown_documents_is_refused(service: DirectRagflow) -> None:
    question = {"question": "ragflow", "dataset_ids": [HOME_ID], "document_ids": ["0" * 32]}
    assert service.ask("POST", "/api/v1/retrieval", question)["code"] == 102


def test_list_is_paged_and_filtered_by_ids_name_and_keywords(service: DirectRagflow) -> None:
    ids = service.stored("b.md", "a.md", "ab.md")
    assert [doc["name"] for doc in service.ask("GET", f"{DOCUMENTS}?page_size=2")["data"]["docs"]] == [
        "ab.md",
        "a.md",
    ]
    oldest = service.ask("GET", f"{DOCUMENTS}?page=2&page_size=2&desc=false")["data"]
    assert [doc["name"] for doc in oldest["docs"]] == ["ab.md"] and oldest["total"] == 3
    several = service.ask("GET", f"{DOCUMENTS}?ids={ids[0]}&ids={ids[1]}&ids={'0' * 32}")["data"]
    assert {doc["id"] for doc in several["docs"]} == set(ids[:2]) and several["total"] == 2
    assert service.ask("GET", f"{DOCUMENTS}?keywords=A")["data"]["total"] == 2
    assert service.app.violations == []
    for wrong in ("page_size=101", "name=c.md"):
        assert service.ask("GET", f"{DOCUMENTS}?{wrong}")["code"] == 101


def test_versions_before_0_25_1_ignore_the_id_filter() -> None:
    service = DirectRagflow(ids_filter=False, runs="digits")
    ids = service.stored("a.md", "b.md")
    rows = service.ask("GET", f"{DOCUMENTS}?ids={ids[0]}")["data"]["docs"]
    assert [row["run"] for row in rows] == ["0", "0"]


@pytest.mark.parametrize(("unknown_ids", "remaining"), [("refused", 1), ("reported", 0)])
def test_deletion_with_an_unknown_id(unknown_ids: str, remaining: int) -> None:
    service = DirectRagflow(unknown_ids=unknown_ids)
    [document_id] = service.stored("a.md")
    payload = service.ask("DELETE", DOCUMENTS, {"ids": [document_id, "0" * 32]})
    assert (payload["code"] == 102) is bool(remaining)
    assert service.ask("GET", DOCUMENTS)["data"]["total"] == remaining


@pytest.mark.parametrize(("no_ids", "remaining"), [("refused", 2), ("all", 0)])
@pytest.mark.parametrize("body", [{}, {"ids": []}, {"ids": None}, {"document_ids": ["0" * 32]}], ids=str)
def test_deletion_without_ids_deletes_everything_in_old_versions(
    no_ids: str, remaining: int, body: dict[str, Any]
) -> None:
    service = DirectRagflow(no_ids=no_ids)
    service.stored("a.md", "b.md")
    is_unknown = "document_ids" in body
    assert service.ask("DELETE", DOCUMENTS, body)["code"] == (101 if is_unknown else 102)
    assert service.ask("GET", DOCUMENTS)["data"]["total"] == (2 if is_unknown else remaining)
    assert len(service.app.violations) == 1


def test_dataset_with_a_pipeline_is_started_by_another_call() -> None:
    service = DirectRagflow(pipeline=True)
    [document_id] = service.stored("a.md")
    refused = service.ask("POST", CHUNKS, {"document_ids": [document_id]})
    assert refused["code"] == 101 and "/documents/ingest" in refused["message"]
    request = {"doc_ids": [document_id], "run": "1", "delete": True}
    assert service.ask("POST", "/api/v1/documents/ingest", request) == {"code": 0, "data": True}
    assert service.run_of(document_id) == "RUNNING"


def test_datasets_are_created_listed_changed_and_deleted(service: DirectRagflow) -> None:
    first, second = (service.ask("POST", DATASETS, {"name": "test_1"})["data"] for _ in range(2))
    assert (first["name"], second["name"]) == ("test_1", "test_1(1)")
    assert service.ask("PUT", f"{DATASETS}/{first['id']}", {"description": "d"})["code"] == 0
    [listed] = service.ask("GET", f"{DATASETS}?id={first['id']}")["data"]
    assert (listed["description"], listed["document_count"]) == ("d", 0)
    assert service.ask("DELETE", DATASETS, {"ids": [first["id"]]})["code"] == 0
    missing = service.ask("GET", f"{DATASETS}?id={first['id']}")
    assert missing["code"] == 102 and "lacks permission" in missing["message"]
    assert service.ask("DELETE", DATASETS, {"ids": [first["id"]]})["code"] == 102
    assert service.app.violations == []
    assert service.ask("POST", DATASETS, {"name": ""})["code"] == 101
    assert len(service.app.violations) == 1


def test_wrong_key_and_foreign_dataset_are_reported(service: DirectRagflow) -> None:
    assert service.ask("GET", DATASETS, key="another")["code"] == 401
    payload = service.ask("GET", f"{DATASETS}/{'0' * 32}/documents")
    assert payload == {"code": 102, "message": f"You don't own the dataset {'0' * 32}. "}
    assert service.ask("GET", "/api/v1/nothing")["code"] == 404
