"""A crash at every commit, request, effect and answer of every job, in memory and on the embedded target."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.engine import reconcile
from kbsync.source.read import UnreadableFile
from tests.crash.harness import Guillotine, run_until
from tests.crash.house import MEMORY, jobs_on
from tests.crash.plays import cut_one_part, cut_recovery_of_one_part
from tests.engine.world import World
from tests.memory.behaviour import Behaviour
from tests.share import enumerated, in_parts

CASES = [(stage, job) for stage in (*MEMORY, "local") for job in jobs_on(stage)]


@enumerated("stage", "job")
@in_parts
@pytest.mark.parametrize(("stage", "job"), CASES)
def test_a_crash_anywhere_leaves_one_document_a_file(tmp_path: Path, stage: str, job: str, part: int) -> None:
    cut_one_part(tmp_path, stage, job, part)


@enumerated("stage", "job")
@in_parts
@pytest.mark.parametrize(("stage", "job"), CASES)
def test_a_crash_during_the_recovery_from_a_crash(tmp_path: Path, stage: str, job: str, part: int) -> None:
    cut_recovery_of_one_part(tmp_path, stage, job, part)


async def test_a_file_that_is_back_after_a_crash_is_found_all_along(tmp_path: Path) -> None:
    """Unless its document was gone already: its deletion is called off, or waits for another document."""
    was_found, at = list[bool](), 0
    guillotine = Guillotine(1)
    while not at or guillotine.fallen:
        at += 1
        guillotine, place = Guillotine(at), tmp_path / str(at)
        place.mkdir()
        was_found.append(await back_after_a_crash(World(place), guillotine))
    assert was_found[0] and not was_found[-1] and at > 8


async def back_after_a_crash(world: World, guillotine: Guillotine) -> bool:
    """Whether the document was still found when the file was back."""
    world.base.behaviour = Behaviour(indexing_seconds=5.0)
    world.write_many(8)
    await world.once()
    world.delete("f1.md")
    await run_until(world, guillotine)
    was_found = "f1.md" in world.base.shown()
    world.write("f1.md", "text of f1")
    found = list[bool]()
    world.base.observers.append(lambda base: found.append("f1.md" in base.shown()))
    await world.once()
    assert world.served() == world.on_disk()
    assert all(found) or not was_found, guillotine.passed
    return was_found


async def test_a_file_that_is_back_and_cannot_be_read_keeps_its_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.write_many(8)
    await world.once()
    world.delete("f1.md")
    await run_until(world, Guillotine(upon=["delete start"]))
    world.write("f1.md", "text of f1")
    with monkeypatch.context() as reading:
        reading.setattr(reconcile, "digest", lambda *_: UnreadableFile("denied"))
        await world.once()
        assert len(world.served()) == 8
    world.write("f1.md", "another text")
    await world.once()
    assert world.served() == world.on_disk()
