"""SIGKILL of the real process at random moments while it mirrors into the stand-in of Zhipu over TCP."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.vendor import LONGEST, Desk, desk_in, digests_in

FILES, KILLS, MOST_RUNS = 60, 7, 12
KEPT = "kept.md"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Answers take 40 ms, the list is 300 ms behind, documents are searchable after 50 to 400 ms."""
    with desk_in(tmp_path, latency=0.04) as desk:
        desk.vendor.turn(vectorize=[0.05, 0.4], list_lag=0.3)
        for n in range(FILES):
            folder = "" if n % 3 else "guides/"
            desk.write(f"{folder}f{n}.md", f"text of f{n}\n")
        desk.write(KEPT, "this file is not touched\n")
        yield desk


def killed(desk: Desk, process: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Kill it somewhere within its work; False when it came to its end before.

    The time it takes to start tells nothing, so the moment counts from its first request, or from its
    first upload, since more can go wrong from there on.
    """
    op = chance.choice(["", "upload", "upload"])
    before = desk.vendor.asked(op)
    deadline = time.monotonic() + LONGEST
    while desk.vendor.asked(op) == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(chance.uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    return process.wait(LONGEST) == -signal.SIGKILL


def write_more(desk: Desk, turn: int) -> None:
    """So that every run has something to send."""
    for n in range(3):
        desk.write(f"new/{turn}-{n}.md", f"new {n} in turn {turn}\n")


def check(desk: Desk, others: dict[str, str]) -> None:
    """One document a file with the right bytes, nothing of others touched, each version stored once."""
    desk.once()
    assert desk.vendor.digests() == digests_in(desk.docs)
    assert {one["stat"] for one in desk.vendor.ours()} == {1}
    assert foreign(desk) == others
    stored = Counter(entry["name"] for entry in desk.vendor.effects("stored"))
    assert [name for name, times in stored.items() if times > 1] == []
    assert desk.vendor.violations() == []
    verified = desk.go("verify", "--json")
    assert (verified.code, verified.json["mirrors"][0]["foreign"]) == (0, len(others))


def plant(desk: Desk) -> dict[str, str]:
    """Documents of others, one of them under the name of a file of ours."""
    for name in ("guide.md", "f1.md"):
        desk.vendor.plant(name, f"somebody's {name}")
    return foreign(desk)


def foreign(desk: Desk) -> dict[str, str]:
    """SHA-256 of others' documents by id."""
    return {one["id"]: one["sha256"] for one in desk.vendor.documents() if one["foreign"]}


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_in_the_first_mirror_each_file_ends_as_one_document(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    others = plant(desk)
    kills = 0
    for turn in range(MOST_RUNS):
        write_more(desk, turn)
        kills += killed(desk, desk.begin("--once"), chance)
        if kills == KILLS:
            break
    assert kills == KILLS
    check(desk, others)
    assert len(desk.vendor.effects("stored")) == len(digests_in(desk.docs))


def edit(desk: Desk, turn: int, chance: random.Random) -> set[str]:
    """Some of everything, each text a new one; the paths that are no more."""
    files = sorted(path for path in desk.docs.rglob("*.md") if path.name != KEPT)
    changed, moved, gone = chance.sample(files, 3)
    changed.write_text(f"changed in turn {turn}\n")
    moved.rename(moved.with_name(f"moved{turn}.md"))
    gone.unlink()
    write_more(desk, turn)
    return {str(path.relative_to(desk.docs)) for path in (moved, gone)}


def searchable(desk: Desk) -> set[str]:
    """Paths of which some version is found at this moment."""
    return {path for path, them in desk.vendor.by_path().items() if any(one["stat"] == 1 for one in them)}


@pytest.mark.parametrize("seed", [3, 4])
def test_killed_while_files_change_each_ends_as_one_document(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    desk.aim("deletions: {hold_fraction: 1.0, hold_count: 1000}")
    desk.once()
    others, lasting = plant(desk), searchable(desk)
    kept = desk.vendor.document(KEPT)["id"]
    kills = 0
    for turn in range(MOST_RUNS):
        lasting -= edit(desk, turn, chance)
        process = desk.begin("-q", *(["--once"] if turn % 2 else []))
        if not turn % 2:  # the daemon also meets changes while it is at work
            time.sleep(chance.uniform(0.2, 0.5))
            desk.write("hot.md", f"hot in turn {turn}\n")
        kills += killed(desk, process, chance)
        assert lasting <= searchable(desk)
        if kills == KILLS:
            break
    assert kills == KILLS
    check(desk, others)
    assert desk.vendor.document(KEPT)["id"] == kept
