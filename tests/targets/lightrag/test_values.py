"""Tests values read from the server, without any request: errors, rows, ids, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.target import DocState
from kbsync.errors import Unsure
from kbsync.targets.http.bodies import parse_json
from kbsync.targets.http.reading import require_document
from kbsync.targets.lightrag import shapes
from tests.config.reading import problems, with_settings


@pytest.mark.parametrize(
    "body", [{}, [], None, {"status": "success"}, {"status": "failure", "track_id": "u"}]
)
def test_upload_without_a_receipt_is_unsure(body: Any) -> None:
    with pytest.raises(Unsure):
        require_document("upload", shapes.receipt_in(body))


def listed(**fields: Any) -> shapes.Row:
    """Return the only row of a page."""
    page = shapes.page_of({"documents": [{"id": "doc-1"} | fields], "pagination": {"total_count": 1}})
    assert page is not None
    return page.rows[0]


WORDS = {
    "pending": DocState.INDEXING,
    "parsing": DocState.INDEXING,
    "analyzing": DocState.INDEXING,
    "processing": DocState.INDEXING,
    "preprocessed": DocState.INDEXING,
    "processed": DocState.READY,
    "failed": DocState.FAILED,
    "PROCESSED": DocState.UNKNOWN,
    "": DocState.UNKNOWN,
}


@pytest.mark.parametrize("status", [*WORDS, None, 3, True])
def test_only_the_servers_status_words_set_a_state(status: Any) -> None:
    state = listed(file_path="a.md", status=status).status.state
    assert state is (WORDS[status] if isinstance(status, str) else DocState.UNKNOWN)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-23T06:15:59+00:00", 1_795_414_559.0),
        ("2026-11-23T06:15:59", 1_795_414_559.0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times_are_utc_unless_stated_otherwise(text: Any, seconds: float | None) -> None:
    assert listed(created_at=text).created == seconds


def test_id_is_derived_from_the_name() -> None:
    assert shapes.document_id("readme.md") == "doc-0730bb7c2e8f9ea2438b52e419dd86c9"


def test_non_unicode_name_uses_the_id_reported_by_the_server() -> None:
    name = parse_json(r'"\ud800.md"')
    row = listed(id=f"doc-{'a' * 32}", file_path=name)
    assert (row.id, row.name) == (row.server_id, name)


@pytest.mark.parametrize(
    ("settings", "key"),
    [("", ""), ("names: plain", "mirrors[0].names"), (f"prefix: {'x' * 150}", "mirrors[0].prefix")],
)
def test_name_style_must_prove_the_content_and_leave_room_for_a_path(
    tmp_path: Path, settings: str, key: str
) -> None:
    errors = problems(tmp_path, with_settings(f"{settings}\ntarget: {{type: lightrag, api_key: k}}"))
    assert [error.key for error in errors] == ([key] if key else [])
