"""`kbsync search` and `kbsync ask` where passages hold pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.vendor import Desk, shelf_in, tidied

PLACEHOLDER = "【示意图序号_1829473032620613632_103】"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A mirrored folder and documents of others; tests leave no fault and no switch behind."""
    files = {
        "badges.txt": f"A badge looks like {PLACEHOLDER} from the front.\n",
        "doors.txt": "A badge opens the east door.\n",
    }
    others = f"A badge of somebody else: {PLACEHOLDER}"
    with shelf_in(tmp_path_factory.mktemp("pictures"), files, others) as desk:
        yield desk


@pytest.fixture
def desk(shelf: Desk) -> Iterator[Desk]:
    with tidied(shelf, not_offered=[]) as desk:
        yield desk


def hits(desk: Desk) -> dict[str, dict[str, Any]]:
    ran = desk.run("search", "badge", "--json")
    assert ran.code == 0, ran.err
    return {hit["path"]: hit for hit in ran.json["hits"]}


def test_json_has_the_images_of_the_passages_that_name_them(desk: Desk) -> None:
    before = desk.vendor.asked("images")
    found = hits(desk)
    [image] = found["badges.txt"]["images"]
    assert image["placeholder"] == PLACEHOLDER
    assert image["url"].startswith(desk.vendor.url)
    assert found["badges.txt"]["passages"][0]["images"] == [image]
    assert "images" not in found["doors.txt"]
    assert "images" not in found["doors.txt"]["passages"][0]
    assert desk.vendor.asked("images") == before + 1  # neither the other file nor somebody else's


def test_a_person_is_told_how_many_and_sees_no_signature(desk: Desk) -> None:
    ran = desk.run("search", "badge front")
    assert "    1 image; --json tells where\n" in ran.out
    assert "q-sign" not in ran.out + ran.err


def test_paths_alone_need_no_images(desk: Desk) -> None:
    before = desk.vendor.asked("images")
    assert desk.run("search", "badge", "--files").code == 0
    assert desk.vendor.asked("images") == before


def test_citations_have_their_images_from_the_slices(desk: Desk) -> None:
    assert desk.run("kb", "app", "create", "helpdesk").code == 0
    before = desk.vendor.asked("images")
    ran = desk.run("ask", "what does a badge look like from the front", "--json")
    assert ran.code == 0, ran.err
    cited = {each["path"]: each["passages"][0] for each in ran.json["citations"]}
    assert [image["placeholder"] for image in cited["badges.txt"]["images"]] == [PLACEHOLDER]
    assert "images" not in cited["doors.txt"]
    assert desk.vendor.asked("images") == before


def test_a_signed_address_is_in_nothing_that_is_kept(desk: Desk, tmp_path: Path) -> None:
    [image] = hits(desk)["badges.txt"]["images"]
    signature = image["url"].rpartition("q-signature=")[2].encode()
    kept = [path for path in desk.root.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if signature in path.read_bytes()]
