"""Promise 7, same bytes, no work: of the built-in knowledge base, from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.configure()
    for n in range(3):
        place.write(f"f{n}.md", f"text of {n}")
    return place


def told(place: Place, *words: str) -> dict[str, Any]:
    """What a command that goes well says as JSON."""
    process = place.start(*words, "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    return dict(json.loads(out))


def ids(place: Place) -> dict[str, str]:
    """The document of each file."""
    [mirror] = told(place, "status", "--documents")["mirrors"]
    return {item["path"]: item["document_id"] for item in mirror["items"]}


def test_a_rename_keeps_its_document(place: Place) -> None:
    told(place, "--once")
    before = ids(place)
    (place.docs / "f1.md").rename(place.docs / "moved.md")
    (place.docs / "sub").mkdir()
    (place.docs / "f2.md").rename(place.docs / "sub" / "f2.md")
    ended = told(place, "--once")
    assert (ended["renamed"], ended["uploaded"], ended["deleted"]) == (2, 0, 0)
    kept = {"f0.md": before["f0.md"], "moved.md": before["f1.md"], "sub/f2.md": before["f2.md"]}
    assert ids(place) == kept
    assert told(place, "search", "text of 1")["hits"][0]["path"] == "moved.md"


def test_a_touched_file_keeps_its_document(place: Place) -> None:
    told(place, "--once")
    before = ids(place)
    (place.docs / "f0.md").touch()
    place.write("f1.md", "text of 1")
    ended = told(place, "--once")
    assert (ended["uploaded"], ended["replaced"], ended["renamed"]) == (0, 0, 0)
    assert ids(place) == before
