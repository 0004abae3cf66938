"""Shared code for tests of watching: a watcher on a temporary folder, and waiting for expected events."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from watchdog.utils import BaseThread

from kbsync.source.hints import Hint, HintKind, ancestors
from kbsync.source.watch import Machine, Watcher

PATIENCE = 60.0


def machine(**changes: object) -> Machine:
    """The real machine, except for `changes`, and without the mounts that this test machine happens to
    have.
    """
    return replace(Machine(mounts=lambda: ()), **changes)  # type: ignore[arg-type]


async def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.002)


class Hearing:
    """A watcher and the hints it gave so far."""

    def __init__(self, root: Path, state_dir: Path, **settings: object) -> None:
        self.calls = 0
        self.wakes = 0
        self.received_hints: list[Hint] = []
        self.watcher = Watcher(root, state_dir, on_hint=self._hinted, on_wake=self._woken, **settings)  # type: ignore[arg-type]

    def _hinted(self) -> None:
        self.calls += 1
        self.received_hints += self.watcher.hints.take(1_000_000)

    def _woken(self) -> None:
        self.wakes += 1

    def covers(self, path: str) -> bool:
        """Return whether some hint is about `path`."""
        above = {path, *ancestors(path)}
        trees = (HintKind.TREE, HintKind.GONE_TREE)
        return any(
            hint.path == path or (hint.kind in trees and hint.path in above) for hint in self.received_hints
        )

    async def hears_of(self, *paths: str) -> None:
        await eventually(lambda: all(self.covers(path) for path in paths))

    async def hears(self, *hints: Hint) -> None:
        await eventually(lambda: set(hints) <= set(self.received_hints))


@contextlib.asynccontextmanager
async def listening(root: Path, state_dir: Path, **settings: object) -> AsyncIterator[Hearing]:
    """A started watcher; afterwards none of its threads and descriptors is left."""
    threads, fds = len(library_threads()), len(inotify_fds())
    hearing = Hearing(root, state_dir, **{"machine": machine(), **settings})
    await hearing.watcher.start()
    try:
        yield hearing
    finally:
        await hearing.watcher.stop()
    await eventually(lambda: len(library_threads()) <= threads)
    await eventually(lambda: len(inotify_fds()) <= fds)


def library_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if isinstance(thread, BaseThread)}


def inotify_fds() -> frozenset[int]:
    """The descriptors of this process that are inotify instances."""
    results: set[int] = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify":
                results.add(int(name))
    return frozenset(results)
