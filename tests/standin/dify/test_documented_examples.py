"""Compares the stand-in with Dify's documents and source (commits: docs/targets/dify.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.dify import HOME_ID
from kbsync_standin.faults import Fault
from kbsync_standin.messages import Response
from tests.standin.direct import Direct

ROOT = f"/v1/datasets/{HOME_ID}"
NOBODY = "2d0a1b1f-0000-4000-8000-000000000000"


class DirectDify(Direct):
    service = "dify"

    def ask(self, method: str, target: str, body: Any = None, **more: Any) -> Response:
        return self.send(method, target, json=body, **more)

    def json(self, method: str, target: str, body: Any = None, **more: Any) -> Any:
        return json.loads(self.ask(method, target, body, **more).body)

    def upload(self, name: str, text: str = "Hello", fault: Fault | None = None, **data: Any) -> Response:
        form = {"data": {"data": json.dumps(data)}, "files": {"file": (name, text.encode())}}
        return self.send("POST", f"{ROOT}/document/create-by-file", fault=fault, **form)

    def add(self, name: str, text: str = "Hello", fault: Fault | None = None, **data: Any) -> Any:
        return json.loads(self.upload(name, text, fault, **{"duplicate": False, **data}).body)["document"]


def error(response: Response) -> tuple[int, str, str]:
    body = json.loads(response.body)
    assert body["status"] == response.status
    return response.status, body["code"], body["message"]


def test_uploaded_document_has_a_batch_and_is_queued() -> None:
    payload = json.loads(DirectDify().upload("guide.md", duplicate=False).body)
    document = payload["document"]
    assert payload["batch"].startswith("1699843200")
    fields = {key: document[key] for key in ("name", "data_source_type", "indexing_status", "display_status")}
    assert fields == {
        "name": "guide.md",
        "data_source_type": "upload_file",
        "indexing_status": "waiting",
        "display_status": "queuing",
    }
    assert (document["created_at"], document["enabled"], document["archived"]) == (1_699_843_200, True, False)


@pytest.fixture
def dify() -> DirectDify:
    return DirectDify()


def test_document_becomes_available_and_searchable(dify: DirectDify) -> None:
    document = dify.add("guide.md", "The badge is at the east door")
    request = {"query": "badge"}
    dify.now += 1
    assert dify.json("GET", f"{ROOT}/documents/{document['id']}")["indexing_status"] == "indexing"
    assert dify.json("POST", f"{ROOT}/retrieve", request)["records"] == []
    dify.now += 1
    assert dify.json("GET", f"{ROOT}/documents/{document['id']}")["display_status"] == "available"
    [record] = dify.json("POST", f"{ROOT}/retrieve", request)["records"]
    assert (record["segment"]["document_id"], record["segment"]["document"]["name"]) == (
        document["id"],
        "guide.md",
    )


def test_existing_name_is_replaced_in_place_with_a_gap_unless_duplicates_are_refused(
    dify: DirectDify,
) -> None:
    document = dify.add("guide.md", "old words")
    dify.now += 2
    replaced = json.loads(dify.upload("guide.md", "new words").body)["document"]
    assert replaced["id"] == document["id"]
    assert dify.json("POST", f"{ROOT}/retrieve", {"query": "words"})["records"] == []
    assert dify.add("guide.md", "third words")["id"] != document["id"]


def test_list_is_newest_first_and_reports_more_after_a_full_last_page(dify: DirectDify) -> None:
    for number in range(4):
        dify.now += 1
        dify.add(f"{number}.md")
    page = dify.json("GET", f"{ROOT}/documents?page=2&limit=2")
    assert [row["name"] for row in page["data"]] == ["1.md", "0.md"]
    assert (page["total"], page["has_more"], page["limit"], page["page"]) == (4, True, 2, 2)
    beyond = dify.json("GET", f"{ROOT}/documents?page=3&limit=2")
    assert (beyond["data"], beyond["has_more"]) == ([], False)
    assert page["data"][0]["data_source_detail_dict"]["upload_file"]["size"] == len("Hello")


def test_keyword_treats_underscores_as_wildcards(dify: DirectDify) -> None:
    for name in ("a_b.md", "axb.md", "c.md"):
        dify.add(name)
    result = dify.json("GET", f"{ROOT}/documents?keyword=a_b")["data"]
    assert {row["name"] for row in result} == {"a_b.md", "axb.md"}


def test_file_bytes_are_behind_a_signed_address_without_a_key() -> None:
    dify = DirectDify(files_url="missing")
    document = dify.add("guide.md", "Hello")
    fields = dify.json("GET", f"{ROOT}/documents/{document['id']}/upload-file")
    assert (fields["name"], fields["size"], fields["extension"]) == ("guide.md", 5, "md")
    assert fields["url"].startswith("/files/")
    assert dify.ask("GET", fields["url"]).body == b"Hello"
    assert error(dify.ask("GET", fields["url"].replace("sign=", "sign=0")))[0] == 404
    assert "the key was sent to the address of a file" in dify.app.violations


@pytest.mark.parametrize(("form", "expected"), [("204", (204, b"")), ("number", (200, b"204"))])
def test_delete_response_depends_on_the_version(form: str, expected: tuple[int, bytes]) -> None:
    dify = DirectDify(deleted=form)
    where = f"{ROOT}/documents/{dify.add('guide.md')['id']}"
    response = dify.ask("DELETE", where)
    assert (response.status, response.body) == expected
    assert error(dify.ask("DELETE", where)) == (404, "not_found", "Document Not Exists.")
    assert error(dify.ask("GET", where)) == (404, "not_found", "Document not found.")


def test_archived_document_is_neither_deleted_nor_found(dify: DirectDify) -> None:
    document = dify.add("guide.md", fault=Fault("hidden", args={"archived": True}))
    dify.now += 2
    row = dify.json("GET", f"{ROOT}/documents/{document['id']}")
    assert (row["indexing_status"], row["archived"], row["display_status"]) == ("completed", True, "archived")
    assert error(dify.ask("DELETE", f"{ROOT}/documents/{document['id']}"))[:2] == (
        403,
        "archived_document_immutable",
    )
    assert dify.json("POST", f"{ROOT}/retrieve", {"query": "Hello"})["records"] == []


def test_some_versions_refuse_deletion_while_indexing() -> None:
    dify = DirectDify(indexing_deletion="refused")
    where = f"{ROOT}/documents/{dify.add('guide.md')['id']}"
    assert error(dify.ask("DELETE", where))[:2] == (400, "document_indexing")
    dify.now += 2
    assert dify.ask("DELETE", where).status == 204


def test_base_without_settings_asks_for_them_one_by_one() -> None:
    dify = DirectDify(fresh=True)
    assert error(dify.upload("guide.md")) == (400, "invalid_param", "indexing_technique is required.")
    fields = {"indexing_technique": "economy"}
    assert error(dify.upload("guide.md", **fields)) == (400, "invalid_param", "process_rule is required.")
    assert dify.upload("guide.md", **fields, process_rule={"mode": "automatic"}).status == 200
    assert dify.upload("other.md").status == 200
    assert dify.json("GET", ROOT)["indexing_technique"] == "economy"


@pytest.mark.parametrize("name", ["tool.exe", "mail.eml", "guide.md"])
def test_unsupported_format_and_size_are_refused_without_a_message(name: str) -> None:
    dify = DirectDify(max_bytes=4)
    assert error(dify.upload(name)) == (400, "invalid_param", "")
    assert DirectDify(unstructured=True).upload("mail.eml").status == 200


def test_different_document_form_is_refused() -> None:
    dify = DirectDify(doc_form="hierarchical_model")
    dify.add("guide.md")
    words = "doc_form is different from the dataset doc_form."
    assert error(dify.upload("other.md")) == (400, "invalid_param", words)
    assert dify.upload("other.md", doc_form=dify.json("GET", ROOT)["doc_form"]).status == 200


def test_name_over_200_characters_is_cut_before_its_first_dot() -> None:
    assert DirectDify().add(f"1.2 {'n' * 200}.MD")["name"] == "1.md"


def test_unknown_keys_and_unknown_bases_have_different_errors(dify: DirectDify) -> None:
    assert error(dify.ask("GET", ROOT, key="app-1")) == (401, "unauthorized", "Access token is invalid")
    missing = (404, "not_found", "Dataset not found.")
    assert error(dify.ask("GET", f"/v1/datasets/{NOBODY}/documents")) == missing
    assert error(dify.ask("GET", "/v2/datasets"))[1:] == (
        "not_found",
        "The requested URL was not found on the server.",
    )


def test_bases_are_created_once_per_name_listed_and_deleted(dify: DirectDify) -> None:
    created = dify.json("POST", "/v1/datasets", {"name": "Guides", "indexing_technique": "economy"})
    assert (created["provider"], created["document_count"], created["doc_form"]) == ("vendor", 0, None)
    assert error(dify.ask("POST", "/v1/datasets", {"name": "Guides"}))[:2] == (409, "dataset_name_duplicate")
    where = f"/v1/datasets/{created['id']}"
    listed = dify.json("GET", "/v1/datasets?page=1&limit=100&include_all=true")
    assert [base["name"] for base in listed["data"]] == ["Guides", "Handbook"]
    assert dify.ask("DELETE", where).status == 204
    assert error(dify.ask("GET", where))[2] == "Dataset not found."
    assert dify.app.violations == []


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda dify: dify.upload("a/b.md"), "not a file name"),
        (lambda dify: dify.upload("a.md", marker="ours"), "the field marker is not documented"),
        (lambda dify: dify.ask("GET", f"{ROOT}/documents?limit=101"), "limit is '101'"),
        (lambda dify: dify.ask("GET", f"{ROOT}/documents?size=20"), "parameter size is not documented"),
        (lambda dify: dify.ask("POST", f"{ROOT}/retrieve", {"query": "n" * 251}), "exceed 250"),
        (
            lambda dify: dify.ask(
                "POST", f"{ROOT}/retrieve", {"query": "n", "retrieval_model": {"top_k": 3}}
            ),
            "search_method is missing",
        ),
        (lambda dify: dify.ask("POST", "/v1/datasets", {"name": "n" * 41}), "name is"),
    ],
)
def test_invalid_requests_are_refused_and_recorded(dify: DirectDify, ask: Any, message: str) -> None:
    assert error(ask(dify))[:2] == (400, "invalid_param")
    [violation] = dify.app.violations
    assert message in violation


def test_metadata_uses_the_fields_of_the_base(dify: DirectDify) -> None:
    response = dify.ask("POST", f"{ROOT}/metadata", {"type": "string", "name": "author"})
    field = json.loads(response.body)
    assert (response.status, field["name"], field["type"]) == (201, "author", "string")
    assert dify.json("GET", ROOT)["doc_metadata"] == [field]
    repeated = dify.ask("POST", f"{ROOT}/metadata", {"type": "number", "name": "author"})
    assert error(repeated) == (400, "invalid_param", "Metadata name already exists.")
    first, second = dify.add("a.md"), dify.add("b.md")
    values = [{"id": field["id"], "name": "author", "value": "Ann"}]
    change = {"document_id": first["id"], "metadata_list": values, "partial_update": True}
    request = {"operation_data": [change, {**change, "document_id": second["id"]}]}
    assert dify.json("POST", f"{ROOT}/documents/metadata", request) == {"result": "success"}
    result = dify.json("GET", f"{ROOT}/documents/{second['id']}")["doc_metadata"]
    assert result == [{**field, "value": "Ann"}]
    request = {"operation_data": [{**change, "document_id": NOBODY}]}
    missing = dify.ask("POST", f"{ROOT}/documents/metadata", request)
    assert error(missing) == (400, "invalid_param", "Document not found.")
    assert dify.app.violations == []


@pytest.mark.parametrize(
    "change",
    [
        {"metadata_list": []},
        {"metadata_list": [{"id": "no-such", "name": "author", "value": "Ann"}]},
        {"metadata_list": [{"name": "author", "value": ["Ann"]}]},
        {"more": 1},
    ],
)
def test_malformed_metadata_is_a_violation(dify: DirectDify, change: dict[str, Any]) -> None:
    response = dify.json("POST", f"{ROOT}/metadata", {"type": "string", "name": "author"})
    values = [{"id": response["id"], "name": "author", "value": "Ann"}]
    operation = {"document_id": dify.add("a.md")["id"], "metadata_list": values, **change}
    dify.ask("POST", f"{ROOT}/documents/metadata", {"operation_data": [operation]})
    assert len(dify.app.violations) == 1
