"""Rounds of exercises side by side, each in a process of its own that is ended when it hangs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

from tests.torture.exercise import Tally

LONGEST = 900.0
"""Seconds after which a round is taken to hang."""


@dataclass(slots=True)
class Score:
    """What became of all rounds of one exercise."""

    rounds: int = 0
    failed: int = 0
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)

    def add(self, other: Score) -> None:
        """Count the other's rounds as well."""
        self.rounds += other.rounds
        self.failed += other.failed
        self.seconds += other.seconds
        self.tally.add(other.tally)


def rounds(
    names: Sequence[str], seed: int, most: int | None = None, *, often: Mapping[str, int] | None = None
) -> Iterator[tuple[str, int]]:
    """Every exercise in turn with its seed, the first time round with `seed` itself.

    One that is named in `often` is played so many times a turn, each with a seed of its own.
    """
    chance = random.Random(seed)
    seeds = itertools.chain([seed], iter(lambda: chance.getrandbits(32), None))
    repeated = [name for name in names for _ in range((often or {}).get(name, 1) - 1)]
    for one in itertools.islice(seeds, most):
        for name in names:
            yield name, one
        for name in repeated:
            yield name, chance.getrandbits(32)


@dataclass(slots=True)
class Ended:
    """How the process of a round ended; `trouble` is empty when all went well."""

    tally: Tally
    trouble: str
    output: str = ""


def begin_round(name: str, seed: int) -> subprocess.Popen[str]:
    """A round in a session of its own, so that all that it starts can be ended with it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.round", name, str(seed)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def end_of(process: subprocess.Popen[str]) -> Ended:
    """Wait for the end of a round; one that hangs is ended."""
    try:
        output, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        end_session(process)
        output, _ = process.communicate()
        return Ended(Tally(), f"it hung and was ended after {LONGEST:.0f} s", output)
    end_session(process)  # what it left behind
    return read_end(process.returncode, output)


def end_session(process: subprocess.Popen[str]) -> None:
    """Kill the process and all that belongs to it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def read_end(code: int, output: str) -> Ended:
    """What a process said at its end; one that said nothing died."""
    said, _, last = output.rstrip().rpartition("\n")
    try:
        told = json.loads(last)
        return Ended(Tally(**told["tally"]), told["trouble"], said)
    except (ValueError, KeyError, TypeError):
        return Ended(Tally(), f"it ended with {code} and without a tally", output)


class Contest:
    """Plays rounds with so many workers and keeps the scores."""

    def __init__(self, workers: int) -> None:
        self.scores: dict[str, Score] = {}
        self.stopped = False
        self._workers = workers
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def play(self, rounds: Iterator[tuple[str, int]], until: float | None) -> None:
        """Until there are no more, or no longer than `until` (monotonic time; what is begun is finished)."""
        workers = [
            threading.Thread(target=self._work, args=(rounds, until), daemon=True)
            for _ in range(self._workers)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def stop(self) -> None:
        """End what is under way; it counts as nothing."""
        self.stopped = True
        for process in tuple(self._running):
            end_session(process)

    def _work(self, rounds: Iterator[tuple[str, int]], until: float | None) -> None:
        while not self.stopped and (until is None or time.monotonic() < until):
            with self._lock:
                one = next(rounds, None)
            if one is None:
                return
            self._play_one(*one)

    def _play_one(self, name: str, seed: int) -> None:
        began = time.monotonic()
        process = begin_round(name, seed)
        self._running.add(process)
        ended = end_of(process)
        self._running.discard(process)
        with self._lock:
            if self.stopped:
                return
            score = self.scores.setdefault(name, Score())
            score.add(Score(1, bool(ended.trouble), time.monotonic() - began, ended.tally))
            if ended.trouble:
                print(told(name, seed, ended), flush=True)

    @property
    def failed(self) -> int:
        return sum(score.failed for score in self.scores.values())


def told(name: str, seed: int, ended: Ended) -> str:
    """What a person needs to see the same again."""
    again = f"python -m tests.torture --only {name} --seed {seed} --rounds 1"
    last = "\n".join(ended.output.splitlines()[-40:])
    return f"{name}, seed {seed}, failed:\n{last}\n{ended.trouble.rstrip()}\nagain: {again}\n"


def as_table(scores: Mapping[str, Score], seconds: float) -> str:
    """A row for each exercise and one for all; the last time is that of the whole run."""
    whole = Score()
    for score in scores.values():
        whole.add(score)
    whole.seconds = seconds
    rows = [["exercise", "rounds", "failed", *(one.name for one in fields(Tally)), "seconds"]]
    for name, score in (*scores.items(), ("all", whole)):
        counted = (score.rounds, score.failed, *astuple(score.tally))
        rows.append([name, *map(str, counted), f"{score.seconds:.0f}"])
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows)
