"""Stops the program at one boundary: a commit of the state, or the start, effect or answer of a request.

From that moment on nothing reaches disk or target any more, as after kill -9. Boundaries are counted, so
that a test can go through all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from kbsync.engine.once import run_once
from kbsync.targets.memory import Crash
from tests.engine.world import World


@dataclass
class Guillotine:
    """Falls at boundary number `at` (from 1), never when None. `passed` names every boundary."""

    at: int | None = None
    passed: list[str] = field(default_factory=list)
    fallen: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def boundary(self, name: str) -> None:
        with self._lock:
            if self.fallen:
                raise Crash(name)
            self.passed.append(name)
            if self.at is not None and len(self.passed) == self.at:
                self.fallen = True
                raise Crash(name)


async def run_until(world: World, guillotine: Guillotine) -> None:
    """A pass that ends at a boundary of state or base, or normally when it is never reached."""
    world.base.at_request = lambda op, phase, _what: guillotine.boundary(f"{op} {phase}")
    try:
        await run_to(world, guillotine)
    finally:
        world.base.at_request = None
        world.base.open_requests = 0


async def run_to(world: World, guillotine: Guillotine) -> None:
    """The same, where the world tells the guillotine itself of requests."""
    world.on_commit = lambda moment: guillotine.boundary(f"commit {moment}")
    try:
        async with world.running() as store:
            run = world.make_run(store)
            passing = asyncio.create_task(run_once(run))
            while not passing.done() and not guillotine.fallen:
                await asyncio.sleep(0.0005)
            parts = run.parts
            if guillotine.fallen:
                passing.cancel()
            with contextlib.suppress(asyncio.CancelledError, Crash, Exception):
                await passing
            if not guillotine.fallen:
                passing.result()
            elif parts is not None:
                await end_tasks([parts.working, *parts.worker._tasks])
    except Crash:
        pass
    finally:
        world.on_commit = None


async def end_tasks(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Nothing of a process goes on after its end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def enumerate_boundaries(
    make: Callable[[], Awaitable[World]],
    prepare: Callable[[World], object],
    check: Callable[[World], None],
    numbers: Iterator[int],
) -> int:
    """Run the pass after `prepare` once for each boundary in `numbers`, crash there, recover, and `check`.

    `make` gives a world whose folder is already mirrored. Returns the number of boundaries, about.
    """
    for number in numbers:
        world = await make()
        prepare(world)
        guillotine = Guillotine(at=number)
        await run_until(world, guillotine)
        world.breaches.clear()  # rows of a cut transaction never reached the disk
        await world.once()
        check(world)
        if not guillotine.fallen:
            return number - 1
    raise AssertionError("the numbers came to an end")
