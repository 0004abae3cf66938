"""Tests values sent and read, without any request: marks, paths, matches, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.config.model import MirrorConfig
from kbsync.errors import Unavailable, Unsure
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import require_shape
from kbsync.targets.http.rules import READY
from kbsync.targets.openwebui import shapes
from kbsync.targets.openwebui.config import OpenWebuiTargetConfig
from tests.share import long
from tests.targets.blocks import block

DIGEST = "a" * 64
BLOCK = block(
    OpenWebuiTargetConfig, base_url="http://127.0.0.1:8080", api_key="sk-for-tests", knowledge_id="base"
)


def row(path: str, folder: str | None = "", name: str = "", **fields: Any) -> dict[str, Any]:
    """Return the list's row of a file that was sent for `path`."""
    sent = shapes.metadata_of(7, "1", path, DIGEST, "base")
    location = {} if folder is None else {"directory_path": folder}
    meta = {"size": 3, "file_hash": DIGEST, "data": sent}
    base_fields = {
        "id": "f1",
        "filename": name or shapes.safe(path.rpartition("/")[2]),
        "created_at": 1_795_154_829,
    }
    return {**base_fields, "meta": meta, **location, **fields}


PATHS = st.binary(min_size=1).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@long
@given(PATHS)
def test_mark_is_ascii_and_round_trips_with_its_path(path: str) -> None:
    sent = shapes.metadata_of(7, "1", path, DIGEST, "base")
    assert json.dumps(sent).isascii()
    file = shapes.file_of(row(path, shapes.safe_folder(path)))
    assert file is not None
    assert (file.mark, file.path, file.digest, file.created) == ((7, "1", path), path, DIGEST, 1_795_154_829)


@pytest.mark.parametrize(
    ("marked_path", "folder", "name", "path"),
    [
        ("guides/a.md", "guides", "a.md", "guides/a.md"),
        ("guides/a.md", None, "a.md", "guides/a.md"),  # the response has no folder
        ("guides/a.md", "other", "a.md", "other/a.md"),  # moved there
        ("guides/a.md", "", "b.md", "b.md"),
        ('say "so".md', "", "say _so_.md", 'say "so".md'),
    ],
)
def test_path_comes_from_the_mark_until_somebody_moves_or_renames_the_file(
    marked_path: str, folder: str | None, name: str, path: str
) -> None:
    file = shapes.file_of(row(marked_path, folder, name))
    assert file is not None
    assert file.path == path


def test_row_under_another_prefix_has_no_path_of_ours() -> None:
    file = shapes.file_of(row("handbook/a.md", "handbook"))
    assert file is not None
    assert file.listed("handbook/", READY).path == "a.md"
    other = file.listed("manuals/", READY)
    assert (other.path, other.name, other.upload_id, other.digest) == (None, "handbook/a.md", 7, DIGEST)


def test_mark_with_a_lone_surrogate_is_rejected() -> None:
    row_fields = row("a.md")
    row_fields["meta"]["data"][shapes.MARK] = "7 1 a\ud800.md"
    file = shapes.file_of(row_fields)
    assert file is not None
    assert (file.mark, file.path) == (None, "a.md")


@pytest.mark.parametrize(("adopt", "conflicts"), [("name", [("mirrors", 0, "adopt")]), ("content", [])])
def test_config_that_would_claim_foreign_names_is_refused(
    adopt: str, conflicts: list[tuple[str | int, ...]]
) -> None:
    mirror = MirrorConfig("docs", Path("/srv/docs"), target=BLOCK, adopt=adopt)  # type: ignore[arg-type]
    assert [conflict.loc for conflict in BLOCK.conflicts(mirror, ("mirrors", 0, "target"))] == conflicts


@pytest.mark.parametrize("digest", ["", "abc", "A" * 64, None, 5])
def test_invalid_hash_proves_nothing(digest: object) -> None:
    """Any uploader may send any text as a file's hash."""
    row_fields = row("a.md")
    row_fields["meta"]["file_hash"] = digest
    file = shapes.file_of(row_fields)
    assert file is not None
    assert file.digest is None


@pytest.mark.parametrize("body", [None, [], {}, {"items": None, "total": 1}, {"items": []}, "text"])
def test_malformed_list_is_not_read_as_an_empty_one(body: Any) -> None:
    assert shapes.page_of(body, shapes.file_of) is None
    with pytest.raises(Unavailable):
        require_shape("list", shapes.page_of(body, shapes.file_of))


def test_matches_need_three_lists_of_equal_length() -> None:
    facts = [{"file_id": "f1"}, {"name": "a stranger's"}]
    body = {"documents": [["one", "two"]], "metadatas": [facts], "distances": [[0.8, 0.2]]}
    assert [(file_id, passage.text) for file_id, passage in shapes.matches_of(body) or ()] == [("f1", "one")]
    assert shapes.matches_of({**body, "distances": [[0.8]]}) is None
    assert shapes.matches_of({"documents": [[]], "metadatas": [[]], "distances": [[]]}) == ()


def test_html_with_status_200_is_no_success_and_the_message_names_the_key() -> None:
    error = shapes.classify_response(
        response("upload", 200, None, "<!doctype html><title>Open WebUI</title>")
    )
    assert isinstance(error, Unsure)
    assert "base_url" in error.reason
    assert shapes.classify_response(response("status", 200, {"id": "f1"})) is None


def response(op: str, status: int, body: Any, text: str = "") -> HttpResponse:
    return HttpResponse(op, status, {}, body, text or json.dumps(body), 0.0)
