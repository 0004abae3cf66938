"""Runs one pass on the built-in target in a process that kills itself (SIGKILL) at its n-th boundary.

Usage: python -m tests.crash.driver FOLDER STATE N      (N = 0: never; prints the number of boundaries)
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbsync import logs, once
from kbsync.config.model import DeletionRules, folder_config
from kbsync.index.sqlite.writer import Writer
from kbsync.installation import Installation
from kbsync.state.store import StateStore


class Executioner:
    def __init__(self, stop_at: int) -> None:
        self.stop_at = stop_at
        self.numbers = itertools.count(1)
        self.passed = 0

    def boundary(self, *_: object) -> None:
        self.passed = next(self.numbers)
        if self.passed == self.stop_at:
            os.kill(os.getpid(), signal.SIGKILL)


def watch_index(executioner: Executioner) -> None:
    transaction = Writer._transaction

    @contextlib.contextmanager
    def watched(self: Writer) -> Iterator[int]:
        executioner.boundary()
        with transaction(self) as version:
            yield version
            executioner.boundary()
        executioner.boundary()

    Writer._transaction = watched  # type: ignore[method-assign]


def installation(folder: Path, state: Path, name: str = "docs") -> Installation:
    """Return the installation of `--folder`, but with a short settle time and without holds."""
    config = folder_config(folder)
    never = DeletionRules(hold_fraction=1.0, hold_count=1000)
    mirror = replace(config.mirrors[0], name=name, settle=0.1, deletions=never)
    return Installation(replace(config, mirrors=(mirror,)), state)


def main(folder: str, state: str, stop_at: str) -> None:
    executioner = Executioner(int(stop_at))
    watch_index(executioner)

    def open_store(path: Path, **options: Any) -> StateStore:
        return StateStore(path, on_commit=executioner.boundary, **options)

    once.StateStore = open_store  # type: ignore[misc,assignment]
    Path(state).mkdir(exist_ok=True)
    logs.configure(style="json", level="error")
    end = asyncio.run(once.once(installation(Path(folder), Path(state))))
    assert all(e.complete for e in end.ends.values()), end.ends
    print(executioner.passed)


if __name__ == "__main__":
    main(*sys.argv[1:])
