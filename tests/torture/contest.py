"""Runs rounds of exercises in parallel, each in a separate process that is killed if it hangs."""

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
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

from tests.torture.exercise import Tally

LONGEST = 900.0
"""Seconds after which a round counts as hanging."""


@dataclass(slots=True)
class Score:
    """The results of all rounds of one exercise."""

    rounds: int = 0
    failed: int = 0
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)


def rounds(
    names: Sequence[str], seed: int, most: int | None = None, *, often: Mapping[str, int] | None = None
) -> Iterator[tuple[str, int]]:
    """Yield every exercise in turn with its seed, at first `seed` itself.

    An exercise in `often` comes several times a turn, each with another seed.
    """
    chance = random.Random(seed)
    seeds = itertools.chain([seed], iter(lambda: chance.getrandbits(32), None))
    repeated = [name for name in names for _ in range((often or {}).get(name, 1) - 1)]
    for round_seed in itertools.islice(seeds, most):
        for name in names:
            yield name, round_seed
        for name in repeated:
            yield name, chance.getrandbits(32)


def begin_round(name: str, seed: int) -> subprocess.Popen[str]:
    """Start a round in its own session, so that all its processes can be killed together."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.round", name, str(seed)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def end_session(process: subprocess.Popen[str]) -> None:
    """Kill the process and its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_of(process: subprocess.Popen[str]) -> tuple[Tally, str, str]:
    """Return a round's tally, its failure ("" if it passed) and its output. A hanging round is killed."""
    try:
        output, _ = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        end_session(process)
        output, _ = process.communicate()
        return Tally(), f"it hung and was ended after {LONGEST:.0f} s", output
    end_session(process)  # processes it left behind
    output_before, _, last = output.rstrip().rpartition("\n")
    try:
        report = json.loads(last)
        return Tally(**report["tally"]), report["trouble"], output_before
    except (ValueError, KeyError, TypeError):  # a round without a result crashed
        return Tally(), f"it ended with {process.returncode} and without a tally", output


class Contest:
    """Runs rounds with this many workers and keeps the scores."""

    def __init__(self, workers: int) -> None:
        self.scores: defaultdict[str, Score] = defaultdict(Score)
        self.stopped = False
        self._workers = workers
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()

    def play(self, rounds: Iterator[tuple[str, int]], until: float | None) -> None:
        """Run all rounds, but start none after `until` (monotonic time).

        Ctrl-C kills the rounds in progress, which then don't count.
        """
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                list(pool.map(lambda _: self._work(rounds, until), range(self._workers)))
            except KeyboardInterrupt:
                self.stopped = True
                for process in tuple(self._running):
                    end_session(process)

    def _work(self, rounds: Iterator[tuple[str, int]], until: float | None) -> None:
        while not self.stopped and (until is None or time.monotonic() < until):
            with self._lock:
                next_round = next(rounds, None)
            if next_round is None:
                return
            began, process = time.monotonic(), begin_round(*next_round)
            self._running.add(process)
            tally, trouble, output = end_of(process)
            self._running.discard(process)
            with self._lock:
                if self.stopped:
                    return
                score = self.scores[next_round[0]]
                score.rounds += 1
                score.failed += bool(trouble)
                score.seconds += time.monotonic() - began
                score.tally.add(tally)
                if trouble:
                    print(describe_failure(*next_round, trouble, output), flush=True)

    @property
    def failed(self) -> int:
        return sum(score.failed for score in self.scores.values())


def describe_failure(name: str, seed: int, traceback_text: str, output: str) -> str:
    """Return all that a person needs to repeat the failure."""
    command = f"python -m tests.torture --only {name} --seed {seed} --rounds 1"
    last = "\n".join(output.splitlines()[-40:])
    return f"{name}, seed {seed}, failed:\n{last}\n{traceback_text.rstrip()}\nagain: {command}\n"


def as_table(scores: Mapping[str, Score], seconds: float) -> str:
    """Return a row for each exercise and one for all; the last time is the whole run's."""
    total = Score(seconds=seconds)
    for score in scores.values():
        total.rounds, total.failed = total.rounds + score.rounds, total.failed + score.failed
        total.tally.add(score.tally)
    rows = [["exercise", "rounds", "failed", *(field.name for field in fields(Tally)), "seconds"]]
    for name, score in (*scores.items(), ("all", total)):
        counted = (score.rounds, score.failed, *astuple(score.tally))
        rows.append([name, *map(str, counted), f"{score.seconds:.0f}"])
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows)
