"""Tests values sent and read, without any request: markers, recipes, receipts, codes."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.contract.target import Accepted
from kbsync.errors import Halted, Rejected, TargetError, Unsure
from kbsync.targets.gptbots import shapes
from kbsync.targets.gptbots.config import cutting_of, describe_recipe, kind_of, recipe_of
from kbsync.targets.gptbots.shapes import Marker, bases_of, classify_response, page_of, states_of
from kbsync.targets.gptbots.uploads import UploadItem, batches_of, outcomes_of, stream_of
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import seconds_of
from tests.targets.bodies import outgoing

BASE = "https://kbsync.invalid"
DIGEST = hashlib.sha256(b"hello").hexdigest()


@given(st.binary(min_size=1).map(lambda raw: raw.decode("utf-8", "surrogateescape")), st.integers(0, 10**17))
def test_marker_is_ascii_and_round_trips(path: str, number: int) -> None:
    for was in (None, 1_699_843_200):
        written = Marker(path, DIGEST, number, "t600", was)
        url = shapes.write_marker(BASE, written)
        assert url.isascii()
        assert " " not in url
        assert shapes.read_marker(BASE, url) == written


def test_damaged_marker_leaves_the_path_and_a_foreign_address_has_none() -> None:
    url = shapes.write_marker(BASE, Marker("a b.md", DIGEST, 7, "t600"))
    assert shapes.read_marker(BASE, url.partition("#")[0]) == Marker("a b.md")
    assert shapes.read_marker(BASE, url[:-8]) == Marker("a b.md")
    assert shapes.read_marker("https://docs.example", url) == Marker("", DIGEST, 7, "t600")
    assert shapes.read_marker("https://docs.example", url[:-8]) is None
    assert shapes.read_marker(BASE, f"{BASE}/%zz#x") is None
    assert shapes.read_marker(BASE, f"{BASE}/") is None


@pytest.mark.parametrize(
    ("path", "settings", "recipe", "description"),
    [
        ("a.md", {}, "t600", "chunk_token 600"),
        ("a.PDF", {"chunk_token": 100, "header_row": 3}, "t100", "chunk_token 100"),
        ("a.csv", {}, "x600h1", "chunk_token 600, header_row 1"),
        ("a.csv", {"splitter": "\n"}, "x600h1", "chunk_token 600, header_row 1"),
        ("a.csv", {"kind": "qa", "header_row": 2}, "q600h2", "kind qa, chunk_token 600, header_row 2"),
        ("a.md", {"kind": "qa"}, "t600", "chunk_token 600"),
        ("a.md", {"splitter": "\n"}, "ts01ba4719", "splitter 01ba4719"),
    ],
)
def test_recipes(path: str, settings: dict[str, Any], recipe: str, description: str) -> None:
    assert recipe_of(path, settings) == recipe
    assert describe_recipe(recipe) == description
    fields = cutting_of(path, settings)
    assert ("chunk_token" in fields) is not ("splitter" in fields)


def test_only_questions_and_answers_have_a_purpose() -> None:
    questions, table = cutting_of("a.csv", {"kind": "qa"}), cutting_of("a.csv", {})
    assert questions == {"purpose": "QA_FILE", "chunk_token": 600, "header_row": 1}
    assert table == {"chunk_token": 600, "header_row": 1}


def item(name: str, position: int = 0, doc_id: str = "", text: bytes = b"hello") -> UploadItem:
    document = outgoing(name, text, upload_id=position + 1, recipe=recipe_of(name, {}))
    return UploadItem(position, document, kind_of(name, {}), name, f"{BASE}/{name}", doc_id)


STORED = {"doc_id": "7", "doc_name": "a.md"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"doc": [STORED]}, Accepted),
        ({"doc": [STORED], "failed": None}, Accepted),
        ({"doc": [{"doc_id": 7, "doc_name": "a"}], "failed": []}, Accepted),
        ({"doc": [], "failed": ["a.md"]}, Rejected),
        ({"doc": None, "failed": [{"file_name": "a.md"}]}, Rejected),
        ({"doc": [STORED], "failed": ["a.md"]}, Unsure),
        ({"doc": [], "failed": []}, Unsure),
        ({"doc": [{"doc_name": "a.md"}]}, Unsure),
        ({"doc": [STORED, {"doc_id": "8", "doc_name": "a.md"}]}, Unsure),
    ],
)
def test_response_counts_only_for_the_documents_it_mentions(body: Any, expected: type) -> None:
    outcomes = outcomes_of(body, [item("a.md"), item("b.md", 1)])
    assert isinstance(outcomes[0], expected)
    assert isinstance(outcomes[1], Unsure)


@pytest.mark.parametrize(
    ("ids_by_name", "expected"),
    [
        ({"notes.md": "1", "notes.md.txt": "2"}, ["1", "2", None]),
        ({"notes.md": "1"}, ["1", None, None]),
        ({"notes.md": "1", "notes.md.txt": "1"}, [None, None, None]),
        ({"notes": "1"}, [None, None, None]),
        ({"notes.md.txt": "2", "notes.txt": "3", "notes": "1"}, ["1", "2", "3"]),
    ],
)
def test_whole_names_match_first_and_no_id_matches_twice(
    ids_by_name: dict[str, str], expected: list[str | None]
) -> None:
    names = ("notes.md", "notes.md.txt", "notes.txt")
    rows = [{"doc_id": one_id, "doc_name": name} for name, one_id in ids_by_name.items()]
    outcomes = outcomes_of({"doc": rows}, [item(name, position) for position, name in enumerate(names)])
    for position, expected_id in enumerate(expected):
        is_right = (
            outcomes[position] == Accepted(expected_id)
            if expected_id
            else isinstance(outcomes[position], Unsure)
        )
        assert is_right, outcomes[position]


def test_updates_are_matched_by_id() -> None:
    batch = [item("a.md", 0, "7"), item("b.md", 1, "8")]
    body = {"doc": [{"doc_id": "8", "doc_name": "other"}], "failed": ["7"]}
    outcomes = outcomes_of(body, batch)
    assert isinstance(outcomes[0], Rejected)
    assert outcomes[1] == Accepted("8", replaced=True)


def test_response_about_one_document_counts_with_all_its_names() -> None:
    body = {"doc": [{"doc_id": "7", "doc_name": "a (1).md"}], "failed": ["a"]}
    outcomes = outcomes_of(body, [item("a.md")])
    assert isinstance(outcomes[0], Unsure)  # it may be stored, so it must not be sent again


@pytest.mark.parametrize("body", [None, [], {}, {"data": []}, "text", {"failed": None}, {"doc": None}])
def test_response_without_receipts_proves_nothing(body: Any) -> None:
    outcomes = outcomes_of(body, [item("a.md")])
    assert isinstance(outcomes[0], Unsure)


def ten(_: UploadItem) -> int:
    return 10


def test_batches_are_limited_by_number_kind_and_name() -> None:
    items = [item(f"{n}.md", n) for n in range(12)] + [item("1.md", 12), item("t.csv", 13)]
    sizes = sorted(len(batch) for batch in batches_of(items, ten))
    assert sizes == [1, 3, 10]


@pytest.mark.parametrize("chunk", [1, 2, 3, 64])
async def test_body_is_streamed_json_of_the_declared_length(chunk: int) -> None:
    texts = [b"hello", b"", b"ab", "手册".encode() * 9]
    stream = stream_of(tuple(item(f"{n}.md", n, "", text) for n, text in enumerate(texts)), "base")

    async def at_once(_: int) -> None:
        pass

    stream.start(at_once, chunk)
    sent = b"".join([piece async for piece in stream])
    stream.close()
    assert len(sent) == stream.size == int(stream.headers["Content-Length"])
    assert [base64.b64decode(file["file_base64"]) for file in json.loads(sent)["files"]] == texts


def classified(body: Any, status: int = 200, op: str = "add") -> TargetError | None:
    return classify_response(HttpResponse(op, status, {}, body, "", 0.0, "api-sg.gptbots.ai"))


def test_wrong_key_message_names_the_region() -> None:
    error = classified({"code": 40127, "message": ""})
    assert isinstance(error, Halted)
    assert "api-sg.gptbots.ai" in error.reason


@pytest.mark.parametrize("body", [None, 5, "x", {}, {"list": None}, {"list": {"a": 1}}])
def test_malformed_lists_are_rejected_and_not_treated_as_empty(body: Any) -> None:
    assert page_of(body, BASE, "") is None
    assert bases_of(body) is None
    assert states_of(body) is None


@pytest.mark.parametrize("name", ["guides__intro", "guides__intro.md", "guides__intro.MD"])
def test_document_without_a_marker_is_known_by_its_name_with_or_without_the_extension(name: str) -> None:
    """Some versions list the extension only in `format` (the service's page "query document list")."""
    page = page_of({"list": [{"id": "7", "name": name, "format": "md"}]}, BASE, "")
    assert page is not None
    assert (page.rows[0].path or "").lower() == "guides/intro.md"


def test_endlessly_long_number_is_rejected() -> None:
    endless = "9" * 5000
    assert isinstance(classified({"code": endless}), Unsure)
    assert seconds_of(endless) is None
    page = page_of({"list": [{"id": "7", "create_time": endless}], "total": endless}, BASE, "")
    assert page is not None
    assert (page.total, page.rows[0].created) == (None, None)


def test_times_are_seconds_or_milliseconds() -> None:
    assert seconds_of(1_699_843_200) == seconds_of(1_699_843_200_000) == seconds_of("1699843200")
    assert [seconds_of(odd) for odd in (None, True, -1, "soon", float("nan"))] == [None] * 5
