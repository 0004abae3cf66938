"""Stops the program at one boundary: a commit of the state, or the start, effect or response of a request.

From then on nothing reaches disk or target, as after kill -9. Boundaries are counted, so that a test can
visit all of them.
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


@dataclass
class Guillotine:
    """Falls at boundary number `at` (from 1), or after the boundaries `upon` in this order.

    It never falls if neither is given. `passed` names every boundary.
    """

    at: int | None = None
    upon: Sequence[str] = ()
    passed: list[str] = field(default_factory=list)
    fallen: bool = False
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def falls_next(self) -> bool:
        """Whether the next boundary is the last one."""
        return not self.fallen and len(self.passed) + 1 == self.at

    def boundary(self, name: str) -> None:
        """Report a boundary of the program. Raises `Crash` from the fall on."""
        self.mark(name)
        if self.fallen:
            raise Crash(name)

    def mark(self, name: str) -> None:
        """Report a boundary of the other side, which continues whatever happens to the program."""
        with self._lock:
            if not self.fallen:
                self.passed.append(name)
                self.fallen = len(self.passed) == self.at or self._has_seen(name)

    def _has_seen(self, name: str) -> bool:
        if self._seen < len(self.upon) and name == self.upon[self._seen]:
            self._seen += 1
            return self._seen == len(self.upon)
        return False


async def audit_and_work(run: Mirror) -> None:
    """Run an audit like a daemon's, and the work that follows from it."""
    async with run.bind() as bound:
        assert bound is not None, run.halt
        await bound.compared()
        await bound.audits.audit()
        while not await bound.worker.is_idle(PATIENCE):
            await run.clock.sleep(1)
