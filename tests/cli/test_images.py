"""`kbsync search` and `kbsync ask` where passages hold pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.vendor import ZhipuPlace, filled_zhipu_place, tidied

PLACEHOLDER = "【示意图序号_1829473032620613632_103】"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZhipuPlace]:
    """A mirrored folder and documents of others; tests leave no fault and no switch behind."""
    files = {
        "badges.txt": f"A badge looks like {PLACEHOLDER} from the front.\n",
        "doors.txt": "A badge opens the east door.\n",
    }
    others = f"A badge of somebody else: {PLACEHOLDER}"
    with filled_zhipu_place(tmp_path_factory.mktemp("pictures"), files, others) as zhipu:
        yield zhipu


@pytest.fixture
def zhipu(shared: ZhipuPlace) -> Iterator[ZhipuPlace]:
    with tidied(shared, not_offered=[]) as zhipu:
        yield zhipu


def hits(zhipu: ZhipuPlace) -> dict[str, dict[str, Any]]:
    ran = zhipu.run("search", "badge", "--json")
    assert ran.code == 0, ran.err
    return {hit["path"]: hit for hit in ran.json["hits"]}


def test_json_has_the_images_of_the_passages_that_name_them(zhipu: ZhipuPlace) -> None:
    before = zhipu.vendor.asked("images")
    found = hits(zhipu)
    [image] = found["badges.txt"]["images"]
    assert image["placeholder"] == PLACEHOLDER
    assert image["url"].startswith(zhipu.vendor.url)
    assert found["badges.txt"]["passages"][0]["images"] == [image]
    assert "images" not in found["doors.txt"]
    assert "images" not in found["doors.txt"]["passages"][0]
    assert zhipu.vendor.asked("images") == before + 1  # neither the other file nor somebody else's


def test_a_person_is_told_how_many_and_sees_no_signature(zhipu: ZhipuPlace) -> None:
    ran = zhipu.run("search", "badge front")
    assert "    1 image; --json tells where\n" in ran.out
    assert "q-sign" not in ran.out + ran.err


def test_paths_alone_need_no_images(zhipu: ZhipuPlace) -> None:
    before = zhipu.vendor.asked("images")
    assert zhipu.run("search", "badge", "--files").code == 0
    assert zhipu.vendor.asked("images") == before


def test_citations_have_their_images_from_the_slices(zhipu: ZhipuPlace) -> None:
    assert zhipu.run("kb", "app", "create", "helpdesk").code == 0
    before = zhipu.vendor.asked("images")
    ran = zhipu.run("ask", "what does a badge look like from the front", "--json")
    assert ran.code == 0, ran.err
    cited = {each["path"]: each["passages"][0] for each in ran.json["citations"]}
    assert [image["placeholder"] for image in cited["badges.txt"]["images"]] == [PLACEHOLDER]
    assert "images" not in cited["doors.txt"]
    assert zhipu.vendor.asked("images") == before


def test_a_signed_address_is_in_nothing_that_is_kept(zhipu: ZhipuPlace, tmp_path: Path) -> None:
    [image] = hits(zhipu)["badges.txt"]["images"]
    signature = image["url"].rpartition("q-signature=")[2].encode()
    kept = [path for path in zhipu.root.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if signature in path.read_bytes()]
