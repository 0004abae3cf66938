"""Serves health checks.

/healthz reports whether the mirrors' event loop is running. /readyz reports whether each mirror has finished
its first pass and none is halted. Nothing here waits longer than `PATIENCE` for a mirror.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kbsync.dataclass import dataclass
from kbsync.engine.mirror import Mirror
from kbsync.engine.status import FAILING, find_halt, halt_json
from kbsync.errors import StateError
from kbsync.server.metrics import LoopMonitor
from kbsync.server.responses import json_answer
from kbsync.state.mirrors import Halt

PATIENCE = 2.0
FRESH = 1.0
"""Seconds to cache a result, no matter how many clients ask for it."""
UNFINISHED = Halt("first-pass", "the first pass has not finished yet", "")


@dataclass(frozen=True, slots=True)
class MirrorReadiness:
    """A mirror's readiness: whether it is ready and, if not, why."""

    name: str
    obstacle: Halt | None = None

    def to_json(self) -> dict[str, object]:
        """Return the JSON for `/readyz`."""
        why = halt_json(self.obstacle) if self.obstacle else {}
        return {"name": self.name, "ready": not why, **why}


class Readiness:
    """Checks whether a daemon's mirrors are ready. Runs in the mirrors' event loop.

    `runs`: the running mirrors by name.
    """

    def __init__(self, runs: Mapping[str, Mirror]) -> None:
        self._runs = runs
        self._passed: set[Mirror] = set()

    async def check(self) -> tuple[MirrorReadiness, ...]:
        """Check every mirror, in the order of the config. Each check takes constant time."""
        runs, readiness = list(self._runs.values()), list[MirrorReadiness]()
        self._passed.intersection_update(runs)
        for run in runs:
            try:
                obstacle = await run.store.read(partial(find_halt, mirror=run))
                # One full comparison, with all of its work done, is enough. Later changes don't make the
                # mirror unready again.
                is_open = obstacle is None and not run.is_paused and run not in self._passed
                if is_open and run.has_compared and run.bound is not None and await run.bound.is_done():
                    self._passed.add(run)
            except StateError as error:
                obstacle = Halt(FAILING, str(error), "")
            if obstacle is None and not run.is_paused and run not in self._passed:
                obstacle = UNFINISHED
            readiness.append(MirrorReadiness(run.settings.name, obstacle))
        return tuple(readiness)


ReadReadiness = Callable[[], Awaitable[Sequence[MirrorReadiness]]]


class HealthRoutes:
    """The routes of /healthz and /readyz. `read` queries the mirrors' event loop from this thread's loop."""

    def __init__(self, monitor: LoopMonitor, read: ReadReadiness) -> None:
        self._monitor, self._read = monitor, read
        self._check: asyncio.Task[Sequence[MirrorReadiness]] | None = None
        self._checked_at = 0.0

    def routes(self) -> list[Route]:
        """Return the routes for the application."""
        return [Route("/healthz", self.health), Route("/readyz", self.readiness)]

    async def health(self, _request: Request) -> Response:
        """Return 200 while the mirrors' event loop is running, otherwise 503."""
        if self._monitor.is_turning:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"the event loop has been stuck for {self._monitor.silence:.0f} s\n", 503)

    async def readiness(self, _request: Request) -> Response:
        """Return 200 once every mirror has finished its first pass and none is halted.

        Otherwise, return 503 with the mirrors that aren't ready, and why.
        """
        now = time.monotonic()
        # One check serves all requests that arrive while it is running or shortly after.
        if self._check is None or (self._check.done() and now - self._checked_at >= FRESH):
            checking = asyncio.wait_for(self._read(), PATIENCE)
            self._check, self._checked_at = asyncio.create_task(checking), now
        try:
            mirrors = await asyncio.shield(self._check)
        except TimeoutError:
            why = f"the mirrors' event loop did not respond within {PATIENCE:.0f} s"
            return json_answer({"ready": False, "detail": why, "mirrors": []}, 503)
        if not mirrors:
            # The mirrors haven't started yet, or the state can't be opened.
            return json_answer({"ready": False, "detail": "no mirror is running", "mirrors": []}, 503)
        is_ready = not any(mirror.obstacle for mirror in mirrors)
        payload = {"ready": is_ready, "mirrors": [mirror.to_json() for mirror in mirrors]}
        return json_answer(payload, 200 if is_ready else 503)
