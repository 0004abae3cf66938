"""Crashes at every commit, request, effect and response of every job, on every bench."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from kbsync.engine import reconcile
from kbsync.source.read import UnreadableFile
from tests.crash.benches import BENCHES, SERVICES, jobs_on
from tests.crash.harness import Guillotine
from tests.crash.plays import contents_at_boundaries, crash_at_random, cut_part, play_job
from tests.engine.world import World
from tests.memory.behaviour import Behaviour
from tests.share import ONE_IN, enumerated, in_parts, long

# A killed process would close its connections; here the process continues.
OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CASES = [
    pytest.param(bench, job, marks=[OPEN] if bench in SERVICES else [])
    for bench in BENCHES
    for job in jobs_on(bench)
]

FEWEST = 8
"""The boundaries of the shortest job: slightly fewer than today, since a commit may become unnecessary."""

FIRST = tuple(range(1, FEWEST + 1))
"""The boundaries of the first crash, used in turn: from the first check to the last record."""


@enumerated("bench")
@in_parts
@pytest.mark.parametrize(("bench", "job"), CASES)
def test_crash_anywhere_leaves_one_document_per_file(tmp_path: Path, bench: str, job: str, part: int) -> None:
    assert cut_part(tmp_path, bench, job, part).crashes >= FEWEST // ONE_IN


@enumerated()
@in_parts
@pytest.mark.parametrize(("bench", "job"), CASES)
def test_crash_during_recovery_from_a_crash(tmp_path: Path, bench: str, job: str, part: int) -> None:
    assert cut_part(tmp_path, bench, job, part, first=FIRST).crashes >= 3  # twice, then once


@enumerated("bench")
@pytest.mark.parametrize(("bench", "job"), CASES)
def test_uncounted_boundary_leaves_what_the_one_before_it_left(tmp_path: Path, bench: str, job: str) -> None:
    """So the enumerations above needn't visit it."""
    reached = contents_at_boundaries(tmp_path, bench, job)
    counted = [boundary for boundary in reached if boundary.counts]
    assert len(counted) >= FEWEST
    for before, after in itertools.pairwise(reached):
        assert after.counts or after.contents == before.contents, (before.name, after.name)
    assert len({boundary.contents for boundary in counted}) > 4  # so the contents are really read


@long
@OPEN
@pytest.mark.parametrize("seed", range(3))
def test_repeated_crashes_leave_one_document_per_file(tmp_path: Path, seed: int) -> None:
    chance, jobs = random.Random(seed), [job for job in jobs_on("zhipu").values() if not job.settings]
    tally = play_job(
        lambda mirror, _: crash_at_random(mirror, jobs, chance, 4), "zhipu", "create", tmp_path / "w"
    )
    assert tally.crashes >= 4


@long
async def test_restored_file_is_searchable_throughout_after_a_crash(tmp_path: Path) -> None:
    """Unless its document was gone already: its deletion is cancelled, or waits for another document."""
    was_found, boundary = list[bool](), 0
    guillotine = Guillotine(1)
    while not boundary or guillotine.fallen:
        boundary += 1
        guillotine, folder = Guillotine(boundary), tmp_path / str(boundary)
        folder.mkdir()
        was_found.append(await back_after_a_crash(World(folder), guillotine))
    assert was_found[0] and not was_found[-1] and boundary > 8


async def back_after_a_crash(world: World, guillotine: Guillotine) -> bool:
    """Return whether the document was still searchable when the file returned."""
    world.base.behaviour = Behaviour(indexing_seconds=5.0)
    await world.mirrored(8)
    world.delete("f1.md")
    await world.crash(guillotine)
    was_found = "f1.md" in world.base.searchable_texts()
    world.write("f1.md", "text of f1")
    results = list[bool]()
    world.base.observers.append(lambda base: results.append("f1.md" in base.searchable_texts()))
    await world.once()
    assert world.searchable_texts() == world.on_disk()
    assert all(results) or not was_found, guillotine.passed
    return was_found


async def test_restored_unreadable_file_keeps_its_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    await world.mirrored(8)
    world.delete("f1.md")
    await world.crash(Guillotine(upon=["delete start"]))
    world.write("f1.md", "text of f1")
    with monkeypatch.context() as reading:
        reading.setattr(reconcile, "digest", lambda *_: UnreadableFile("denied"))
        await world.once()
        assert len(world.searchable_texts()) == 8
    await world.mirrored({"f1.md": "another text"})
    assert world.searchable_texts() == world.on_disk()
