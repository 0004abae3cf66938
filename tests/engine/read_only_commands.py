"""Reads a `World` in the same way as the read-only commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

from kbsync.engine.explain import PathExplanation, explain_path
from kbsync.engine.plan import NO_CONTEXT, CommandContext, MirrorPlan, plan_mirror
from kbsync.once import run_once
from kbsync.state.read_only import ReadOnlyState, Tx, opened
from tests.engine.world import World, identities
from tests.memory.target import MemoryTarget

T = TypeVar("T")


def open_target(world: World) -> MemoryTarget:
    return world.target_type(world.base, limits=world.limits, clock=world.clock.wall)


@contextmanager
def state_of(world: World) -> Iterator[ReadOnlyState]:
    """Open the state as a read-only command does."""
    with closing(opened(world.state / "state.db")) as state:
        yield state


async def planned(world: World, *, at_work: bool = False) -> MirrorPlan:
    with state_of(world) as state:
        context = CommandContext(identities(world.configured), at_work=at_work)
        return await plan_mirror(world.settings, open_target(world), state, world.clock, context)


def plans_nothing(plan: MirrorPlan) -> bool:
    """Return whether a pass would change nothing."""
    return not (plan.upload or plan.replace or plan.rename or plan.delete or plan.reembed or plan.held)


async def explained(world: World, path: str, context: CommandContext = NO_CONTEXT) -> PathExplanation:
    with state_of(world) as state:

        async def read(work: Callable[[Tx], T]) -> T:
            return state.read(work)

        return await explain_path(
            world.settings, open_target(world), read, world.clock, path, context=context
        )


async def once_for(world: World, seconds: float) -> None:
    """Run a pass and interrupt it after this much of the world's time."""
    async with world.running() as store:
        run = world.make_run(store)
        passing = asyncio.create_task(run_once(run))
        await world.clock.sleep(seconds)
        assert not passing.done()
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)
