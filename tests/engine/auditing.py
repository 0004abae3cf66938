"""Has a world audited as a daemon does it, without waiting for a day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kbsync.engine.audit import AuditResult, BackgroundAudit
from kbsync.engine.plan import CommandContext
from kbsync.engine.verify import Verification, verify_mirror
from tests.engine.read_only_commands import open_target, state_of
from tests.engine.world import World


@asynccontextmanager
async def begun(world: World) -> AsyncIterator[BackgroundAudit]:
    """A mirror at work whose folder was compared, and its audits."""
    async with world.begun() as bound:
        await bound.compared()
        yield bound.auditing


async def audited(world: World) -> AuditResult:
    """One audit, and the pass that does what it asks for."""
    async with begun(world) as auditing:
        outcome = await auditing.audit()
    await world.once()
    return outcome


async def verified(world: World, target: Any = None, *, watched: bool = False) -> Verification:
    """What `kbsync verify` says. `watched`: while a daemon is at work."""
    context = CommandContext(world.configured, at_work=watched)
    with state_of(world) as state:
        return await verify_mirror(world.settings, target or open_target(world), state, world.clock, context)


def paths(verification: Verification) -> dict[str, list[str]]:
    """What was found, without empty lists."""
    kinds = ("missing", "stale", "orphaned", "duplicate")
    return {kind: found for kind in kinds if (found := verification.to_json()[kind])}
