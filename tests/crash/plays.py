"""Runs a job on a bench repeatedly, interrupted at one boundary after another, at two, or at random ones."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.crash.benches import BENCHES, jobs_on
from tests.crash.jobs import Job
from tests.crash.mirror import CrashedMirror
from tests.crash.trial import Turn
from tests.share import boundaries
from tests.torture.exercise import Tally

Play = Callable[[CrashedMirror, Job], Awaitable[Tally]]


def play_job(play: Play, bench: str, job: str, place: Path) -> Tally:
    """Run one job on a new bench in the new folder `place`."""

    async def whole() -> Tally:
        one = jobs_on(bench)[job]
        async with CrashedMirror(BENCHES[bench](place)).serving(**one.settings) as there:
            return await play(there, one)

    place.mkdir()
    return asyncio.run(whole())


async def cut_everywhere(
    mirror: CrashedMirror, job: Job, numbers: Iterator[int], *, after: Sequence[int] = ()
) -> Tally:
    """Run the job for each boundary in `numbers`, interrupted there, until one is past the last boundary.

    `after`: earlier interruptions, so that the boundaries are those of the recovery.
    """
    tally = Tally()
    for turn, number in enumerate(numbers):
        trial = Turn(mirror, job, turn)
        await trial.run([*after, number])
        tally.add(trial.tally)
        if trial.tally.crashes <= len(after):
            break
    return tally


def cut_part(place: Path, bench: str, job: str, part: int, *, after: Sequence[int] = ()) -> Tally:
    """Run one part of a job's boundaries on a bench, or of the recovery from a crash."""
    play = partial(cut_everywhere, numbers=boundaries(part), after=after)
    return play_job(play, bench, job, place / "w")


async def crash_at_random(
    mirror: CrashedMirror, jobs: Sequence[Job], chance: random.Random, turns: int
) -> Tally:
    """Run turns with up to five crashes in a row, at random boundaries."""
    tally = Tally()
    for turn in range(turns):
        trial = Turn(mirror, chance.choice(jobs), turn)
        await trial.run([chance.randint(1, 45) for _ in range(chance.randint(1, 5))])
        tally.add(trial.tally)
    return tally
