"""Tests values sent and read, without any request: marks, names, recipes, codes."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.contract.target import DocState
from kbsync.errors import Rejected, Unavailable
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import Fields
from kbsync.targets.openai.shapes import (
    MAX_ATTRIBUTES,
    MAX_VALUE_LENGTH,
    FileNames,
    is_marked,
    page_of,
    path_attributes,
    row_of,
    status_of,
)
from tests.targets.bodies import outgoing

DIGEST = hashlib.sha256(b"hello").hexdigest()


@given(st.binary(min_size=1, max_size=300).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_mark_round_trips_for_any_path(path: str) -> None:
    attributes = path_attributes(path) | {"kbsync": f"{DIGEST} 7 auto"}
    assert all(len(value) <= MAX_VALUE_LENGTH and value.strip() == value for value in attributes.values())
    row = row_of(Fields(attributes=attributes))
    assert (row.path, row.digest, row.upload_id, row.recipe) == (path, DIGEST, 7, "auto")


@pytest.mark.parametrize("path", ["d/" * 2046 + "a.md", "手册/" * 512 + "a.md"], ids=["ascii", "cjk"])
def test_longest_path_fits_into_the_attributes(path: str) -> None:
    attributes = path_attributes(path) | {"kbsync": f"{DIGEST} 7 auto"}
    assert len(attributes) < MAX_ATTRIBUTES
    assert row_of(Fields(attributes=attributes)).path == path


def test_path_that_does_not_fit_is_refused_and_not_truncated() -> None:
    with pytest.raises(Rejected):
        path_attributes("\udcff" * 4096)


@pytest.mark.parametrize(
    "attributes", [None, {}, {"path": "a.md"}, {"kbsync": f"{DIGEST} 1 auto"}, {"kbsync": 5}]
)
def test_document_without_a_complete_mark_is_foreign(attributes: Any) -> None:
    assert not is_marked(Fields(attributes=attributes))


@pytest.mark.parametrize(
    "path",
    [
        "guides/intro.md",
        "手册/退款.md",
        "README.md",
        "x_aaaaaaaabbbbbbbb.md",
        "caf\udce9.md",
        "n" * 252 + ".md",
    ],
)
def test_file_is_recognized_by_name_also_where_names_are_rewritten(path: str) -> None:
    names = FileNames("vs_1", "a-")
    document = outgoing(path)
    name = names.name(document)
    assert name.endswith(".md") and len(name.encode()) < 255
    for display_name in (
        name,
        "".join(letter if letter.isascii() and letter != "~" else "_" for letter in name),
    ):
        row = Fields(filename=display_name, bytes=5)
        assert names.is_ours(row) and names.is_of(document, row)
        assert not names.is_ours(Fields(row, bytes=6))
        assert not FileNames("vs_1", "b-").is_ours(row)
        assert not FileNames("vs_2", "a-").is_ours(row)
        assert not names.is_of(outgoing(path, upload_id=2), row)


def test_foreign_names_are_not_mistaken_for_ours() -> None:
    names = FileNames("vs_1", "")
    for name in ("intro.md", "intro~mfrggzdf.md", "intro~mfrggzdfmfrggzdf.md", "", None):
        assert not names.is_ours(Fields(filename=name, bytes=5))


def response(body: Any, status: int = 200, op: str = "status", text: str = "…") -> HttpResponse:
    return HttpResponse(op, status, {}, body, text, 0.0)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("in_progress", DocState.INDEXING),
        ("completed", DocState.READY),
        ("failed", DocState.FAILED),
        ("cancelled", DocState.FAILED),
        ("COMPLETED", DocState.UNKNOWN),
        (None, DocState.UNKNOWN),
        (["completed"], DocState.UNKNOWN),
    ],
)
def test_only_completed_is_ready(status: Any, state: DocState) -> None:
    assert status_of(Fields(status=status)).state is state


def test_failure_for_lack_of_money_does_not_blame_the_document() -> None:
    error = {"code": "insufficient_quota", "message": "no money"}
    assert status_of(Fields(status="failed", last_error=error)).halt == "quota"
    assert status_of(Fields(status="failed", last_error=None)).reason


@pytest.mark.parametrize(
    "body",
    [
        {},
        None,
        {"data": []},
        {"data": None, "has_more": False},
        {"data": [None], "has_more": False},
        {"data": [], "has_more": True},
        {"data": [{"name": "no id"}], "has_more": False},
    ],
)
def test_list_that_cannot_be_read_completely_is_rejected(body: Any) -> None:
    with pytest.raises(Unavailable):
        page_of(response(body))
