"""Stops the program at every boundary of every job on every target, then again during recovery and at
random.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from tests.crash import changes, plays
from tests.crash.benches import BENCHES, MEMORY, jobs_on
from tests.crash.jobs import Job
from tests.crash.kills_local import kill_at_random
from tests.crash.kills_zhipu import kill_while_files_change
from tests.torture.exercise import Exercise, Tally


def from_the_first(first: Sequence[int] = ()) -> plays.Play:
    """Run all boundaries, until the last one was reached; `first` as in `plays.cut_everywhere`."""
    return partial(plays.cut_everywhere, numbers=itertools.count(1), first=first)


def everywhere(benches: Iterable[str], jobs: int) -> Exercise:
    """Return an exercise of all boundaries of some jobs on one of the benches."""

    def exercise(seed: int, folder: Path) -> Tally:
        chance, tally = random.Random(seed), Tally()
        bench = chance.choice(sorted(benches))
        for job in chance.sample(sorted(jobs_on(bench)), jobs):
            tally.add(plays.play_job(from_the_first(), bench, job, folder / job))
        return tally

    return exercise


def during_recovery(seed: int, folder: Path) -> Tally:
    """Crash somewhere in a job, and at all boundaries of its recovery."""
    chance = random.Random(seed)
    bench = chance.choice(sorted(BENCHES))
    job, first = chance.choice(sorted(jobs_on(bench))), chance.randint(2, 26)
    return plays.play_job(from_the_first([first]), bench, job, folder / job)


def at_random(seed: int, folder: Path) -> Tally:
    """Run job after job in one world, each with up to five crashes in a row."""
    chance = random.Random(seed)
    bench = chance.choice([name for name in sorted(BENCHES) if _plain_jobs(name)])
    jobs = _plain_jobs(bench)
    return plays.play_job(
        lambda mirror, _: plays.crash_at_random(mirror, list(jobs.values()), chance, 20),
        bench,
        next(iter(jobs)),
        folder / "world",
    )


def _plain_jobs(bench: str) -> dict[str, Job]:
    """Return the jobs that can follow each other: they need no settings of their own."""
    return {name: job for name, job in jobs_on(bench).items() if not job.settings}


def changed_back(seed: int, folder: Path) -> Tally:
    """Change settings and change them back, with a kill in between."""
    chance, tally = random.Random(seed), Tally()
    for number in range(40):
        change, boundary = chance.choice(changes.EVERY), chance.randint(1, 80)
        tally.crashes += asyncio.run(changes.changed_back(folder / str(number), change, boundary))
        tally.steps += 1
    return tally


EXERCISES: dict[str, Exercise] = {
    "crash-memory": everywhere(MEMORY, 2),
    "crash-local": everywhere(["local"], 2),
    "crash-zhipu": everywhere(["zhipu"], 1),
    "crash-recovery": during_recovery,
    "crash-random": at_random,
    "crash-changed-back": changed_back,
    "kill-local": lambda seed, directory: kill_at_random(seed, directory / "mirror", 12),
    "kill-zhipu": lambda seed, directory: kill_while_files_change(seed, directory, 10),
}
