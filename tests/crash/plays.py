"""Runs a job on a bench repeatedly, interrupted at one boundary after another, at two, or at random ones."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.crash.benches import BENCHES, jobs_on
from tests.crash.harness import Guillotine
from tests.crash.jobs import Job
from tests.crash.mirror import CrashedMirror
from tests.crash.trial import Turn
from tests.share import boundaries
from tests.torture.exercise import Tally

Play = Callable[[CrashedMirror, Job], Awaitable[Tally]]


def play_job(play: Play, bench: str, job: str, folder: Path) -> Tally:
    """Run one job on a new bench in the new folder `folder`."""

    async def run_job() -> Tally:
        selected = jobs_on(bench)[job]
        async with CrashedMirror(BENCHES[bench](folder)).serving(**selected.settings) as mirror:
            return await play(mirror, selected)

    folder.mkdir()
    return asyncio.run(run_job())


async def cut_everywhere(
    mirror: CrashedMirror, job: Job, numbers: Iterator[int], *, first: Sequence[int] = ()
) -> Tally:
    """Run the job for each boundary in `numbers`, interrupted there, until one is past the last boundary.

    `first`: boundaries of an earlier crash, one for each run in turn, so that `numbers` are those of the
    recovery.
    """
    tally = Tally()
    for turn, number in enumerate(numbers):
        before = [first[number % len(first)]] if first else []
        trial = Turn(mirror, job, turn)
        await trial.run([*before, number])
        tally.add(trial.tally)
        if trial.tally.crashes <= len(before):
            break
    return tally


def cut_part(folder: Path, bench: str, job: str, part: int, *, first: Sequence[int] = ()) -> Tally:
    """Run one part of a job's boundaries on a bench, or of the recovery from a crash."""
    play = partial(cut_everywhere, numbers=boundaries(part), first=first)
    return play_job(play, bench, job, folder / "w")


@dataclass(frozen=True, slots=True)
class Boundary:
    """A boundary that a job reached, and what a crash there would leave on disk and at the target."""

    name: str
    counts: bool
    contents: str


def contents_at_boundaries(folder: Path, bench: str, job: str) -> list[Boundary]:
    """Run a job on a bench without a crash; return its boundaries."""
    reached, lock = list[Boundary](), threading.RLock()

    class Watch(Guillotine):
        def mark(self, name: str, *, is_empty: bool = False) -> None:
            with lock:  # other threads write meanwhile, but report that later
                counted = self.counted
                super().mark(name, is_empty=is_empty)
                reached.append(Boundary(name, self.counted > counted, mirror.contents()))

    async def watch(watched: CrashedMirror, job: Job) -> Tally:
        nonlocal mirror
        mirror = watched
        turn = Turn(watched, job, 0)
        await turn.begin()
        await turn.crash(Watch())
        return turn.tally

    mirror: CrashedMirror
    play_job(watch, bench, job, folder / "w")
    return reached


async def crash_at_random(
    mirror: CrashedMirror, jobs: Sequence[Job], chance: random.Random, turns: int
) -> Tally:
    """Run turns with up to five crashes in a row, at random boundaries."""
    tally = Tally()
    for turn in range(turns):
        trial = Turn(mirror, chance.choice(jobs), turn)
        await trial.run([chance.randint(1, 25) for _ in range(chance.randint(1, 5))])
        tally.add(trial.tally)
    return tally
