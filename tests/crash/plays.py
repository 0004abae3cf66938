"""Whole plays: a job on a bench again and again, cut at one boundary after the other, twice, or at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from tests.crash.benches import BENCHES, jobs_on
from tests.crash.jobs import Job
from tests.crash.mirror import Mirror
from tests.crash.trial import Turn
from tests.share import ONE_IN, boundaries
from tests.torture.exercise import Tally

FEWEST = 24
"""Boundaries of the shortest job: a few less than it has today, since a commit may be saved."""

FIRST = (2, 5, 8, 11, 14, 17, 20, 23)
"""Boundaries of the first crash, one for each part: from the first look to the last record."""

Play = Callable[[Mirror, Job], Awaitable[Tally]]


def play_job(play: Play, bench: str, job: str, place: Path) -> Tally:
    """One job on a fresh bench in the new folder `place`."""

    async def whole() -> Tally:
        one = jobs_on(bench)[job]
        async with Mirror(BENCHES[bench](place)).serving(**one.settings) as there:
            return await play(there, one)

    place.mkdir()
    return asyncio.run(whole())


async def cut_everywhere(mirror: Mirror, job: Job, numbers: Iterable[int]) -> Tally:
    """A turn of the job for each boundary in `numbers`, cut there, until one is past the last boundary."""
    tally = Tally()
    for turn, number in enumerate(numbers):
        trial = Turn(mirror, job, turn)
        reached = await trial.run([number])
        tally.add(trial.tally)
        if not reached:
            return tally
    raise AssertionError("the numbers came to an end")


async def cut_recovery(mirror: Mirror, job: Job, first: int, numbers: Iterable[int]) -> Tally:
    """Crash at `first`, and during the recovery from that at each of `numbers`."""
    tally = Tally()
    for turn, number in enumerate(numbers):
        trial = Turn(mirror, job, turn)
        await trial.run([first, number])
        tally.add(trial.tally)
        if trial.tally.crashes < 2:
            return tally
    raise AssertionError("the numbers came to an end")


def cut_one_part(place: Path, bench: str, job: str, part: int) -> None:
    """One part of the boundaries that a job has on a bench: no job has fewer than `FEWEST`."""
    numbers = boundaries(part)
    tally = play_job(lambda there, one: cut_everywhere(there, one, numbers), bench, job, place / "w")
    assert tally.crashes >= FEWEST // ONE_IN


def cut_recovery_of_one_part(place: Path, bench: str, job: str, part: int) -> None:
    """The same for the recovery from a first crash, which is another one in each part."""
    numbers = boundaries(part)
    tally = play_job(
        lambda there, one: cut_recovery(there, one, FIRST[part], numbers), bench, job, place / "w"
    )
    assert tally.crashes >= 4


async def crash_at_random(mirror: Mirror, jobs: Sequence[Job], chance: random.Random, turns: int) -> Tally:
    """Turns with up to five crashes in a row, at boundaries that nobody chose."""
    tally = Tally()
    for turn in range(turns):
        trial = Turn(mirror, chance.choice(jobs), turn)
        await trial.run([chance.randint(1, 45) for _ in range(chance.randint(1, 5))])
        tally.add(trial.tally)
    return tally
