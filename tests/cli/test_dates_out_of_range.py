"""Tests that a file dated outside the years that 64 bits of nanoseconds cover is mirrored like any other."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from tests.cli.sandbox import RunResult, Sandbox
from tests.share import long

YEARS = (1600, 2300, 9999)


@pytest.fixture
def dated(sandbox: Sandbox) -> Sandbox:
    for year in YEARS:
        seconds = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
        file = sandbox.write(f"y{year}.md", f"heron {year}\n")
        os.utime(file, ns=(seconds * 10**9,) * 2)
    if (file := sandbox.docs / "y9999.md").stat().st_mtime_ns < 2**63:
        pytest.skip(f"the file system of {file} stores no such dates")
    sandbox.configure()
    return sandbox


@long
def test_file_of_any_date_is_planned_mirrored_and_verified(dated: Sandbox) -> None:
    planned = dated.run("plan", "--json").check_success().json["mirrors"][0]
    assert planned["upload"] == [f"y{year}.md" for year in YEARS]
    dated.once()
    assert dated.run("--once", "--json").check_success().json["uploaded"] == 0
    dated.run("verify").check_success()
    dated.run("explain", "y9999.md").check_success()
    dated.run("history").check_success()


@long
def test_search_clamps_dates_out_of_range(dated: Sandbox) -> None:
    dated.once()
    hits = dated.run("search", "heron", "--json").check_success().json["hits"]
    assert {hit["path"]: hit["modified"][:4] for hit in hits} == {
        "y1600.md": "1677",
        "y2300.md": "2262",
        "y9999.md": "2262",
    }
    later = dated.run("search", "heron", "--after", "2200-01-01", "--json").check_success().json["hits"]
    assert {hit["path"] for hit in later} == {"y2300.md", "y9999.md"}


@long
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_search_accepts_the_first_and_last_dates(sandbox: Sandbox, zone: str) -> None:
    sandbox.mirror({"ice.md": "The walrus lies on the ice."})

    def search(after: str) -> RunResult:
        command = ("search", "walrus", "--after", after, "--files")
        return sandbox.run(*command, env={"TZ": zone}).check_success()

    for first in ("0001-01-01", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00-12:00"):
        assert "ice.md" in search(first).out
    for last in ("9999-12-31", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"):
        result = search(last)
        assert result.out == "" and "no document matches --after 9999-12-" in result.words
