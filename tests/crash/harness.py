"""Stops the program at one boundary: a commit of the state, or the start, effect or response of a request.

From then on nothing reaches disk or target, as after kill -9. Boundaries are counted, so that a test can
visit all of them. One that leaves disk and target as the boundary before it did isn't counted: a crash there
has the same result (`test_uncounted_boundary_leaves_what_the_one_before_it_left`).
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbsync.engine.mirror import PATIENCE, Mirror
from tests.memory.behaviour import Crash

Work = Callable[[Mirror], Awaitable[Any]]
"""The work of a process with its mirror, from beginning to end."""


READS = {"GET", "base", "list", "status", "search"}
"""Requests that change nothing."""

BEGINS, ENDS = ("commit before", "index begin"), ("answer", "after")
"""What begins a commit, and the phases in which a commit or request ends."""


@dataclass
class Guillotine:
    """Falls at boundary number `stop_at` (from 1) of those that count, or after the boundaries `upon`.

    It never falls if neither is given. `upon` is in order. `passed` names every boundary, counted or not.
    `version` returns a value that differs after each change at the target, also after those that come late.
    """

    stop_at: int | None = None
    upon: Sequence[str] = ()
    passed: list[str] = field(default_factory=list)
    fallen: bool = False
    counted: int = 0
    version: Callable[[], Any] = lambda: None
    _version: Any = None
    _writing: int = 0
    _matched_count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def falls_next(self) -> bool:
        """Whether the next boundary that counts is the last one."""
        return not self.fallen and self.counted + 1 == self.stop_at

    def boundary(self, name: str, *, is_empty: bool = False) -> None:
        """Report a boundary of the program; `is_empty`: a commit without changes.

        Raises `Crash` from the fall on.
        """
        self.mark(name, is_empty=is_empty)
        if self.fallen:
            raise Crash(name)

    def mark(self, name: str, *, is_empty: bool = False) -> None:
        """Report a boundary of the other side, which continues whatever happens to the program."""
        with self._lock:
            if not self.fallen:
                self.passed.append(name)
                counts = self._counts(name, is_empty)
                self.counted += counts
                self.fallen = (counts and self.counted == self.stop_at) or self._has_seen(name)

    def _counts(self, name: str, is_empty: bool) -> bool:
        """Return whether disk or target may have changed since the boundary before.

        While something else is being written, that may come to its end at any time.
        """
        op, _, phase = name.rpartition(" ")
        before, self._version = self._version, self.version()
        is_write = op not in READS
        self._writing -= is_write and phase in ENDS
        may_change = self._writing > 0 or self._version != before
        self._writing += is_write and (phase == "start" or name in BEGINS)
        return may_change or (is_write and not is_empty and phase in (*ENDS, "effect"))

    def _has_seen(self, name: str) -> bool:
        if self._matched_count < len(self.upon) and name == self.upon[self._matched_count]:
            self._matched_count += 1
            return self._matched_count == len(self.upon)
        return False


async def audit_and_work(run: Mirror) -> None:
    """Run an audit like a daemon's, and the work that follows from it."""
    async with run.bind() as bound:
        assert bound is not None, run.halt
        await bound.compared()
        await bound.audits.audit()
        while not await bound.worker.is_idle(PATIENCE):
            await run.clock.sleep(1)
