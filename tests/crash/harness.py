"""Stops the program at one boundary: a commit of the state, or the start, effect or response of a request.

From that moment on nothing reaches disk or target any more, as after kill -9. Boundaries are counted, so
that a test can go through all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbsync.engine.mirror import PATIENCE, Mirror
from tests.memory.behaviour import Crash

Work = Callable[[Mirror], Awaitable[Any]]
"""What a process does with its mirror, from beginning to end."""


@dataclass
class Guillotine:
    """Falls at boundary number `at` (from 1), or once the boundaries `upon` were passed in this order.

    Never when neither is given. `passed` names every boundary.
    """

    at: int | None = None
    upon: Sequence[str] = ()
    passed: list[str] = field(default_factory=list)
    fallen: bool = False
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def falls_next(self) -> bool:
        """The program does not pass the next boundary."""
        return not self.fallen and len(self.passed) + 1 == self.at

    def boundary(self, name: str) -> None:
        """The program is at a boundary. Raises `Crash` from the fall on."""
        self.mark(name)
        if self.fallen:
            raise Crash(name)

    def mark(self, name: str) -> None:
        """The other side is at a boundary: it goes on, whatever becomes of the program."""
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
    """An audit as a daemon makes it, and the work that follows from it."""
    async with run.bind() as bound:
        assert bound is not None, run.halt
        await bound.compared()
        await bound.audits.audit()
        while not await bound.worker.is_idle(PATIENCE):
            await run.clock.sleep(1)
