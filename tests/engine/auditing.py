"""Runs a daemon's audit of a world, without waiting for a day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from kbsync.engine.audit import AuditResult, RegularAudit
from kbsync.engine.plan import CommandContext
from kbsync.engine.verify import Verification, verify_mirror
from kbsync.state.read_only import Tx
from tests.engine.read_only_commands import open_target, state_of
from tests.engine.world import World, identities


@asynccontextmanager
async def start_audits(world: World) -> AsyncIterator[RegularAudit]:
    """Start a mirror and its audits after the first scan."""
    async with world.start_mirror() as bound:
        await bound.compared()
        yield bound.audits


async def audited(world: World) -> AuditResult:
    """Run one audit, and the pass that carries out its requests."""
    async with start_audits(world) as auditing:
        outcome = await auditing.audit()
    await world.once()
    return outcome


async def verified(world: World, target: Any = None, *, watched: bool = False) -> Verification:
    """Return the result of `kbsync verify`. `watched`: while a daemon runs."""
    context = CommandContext(identities(world.configured), at_work=watched)
    with state_of(world) as state:
        return await verify_mirror(world.settings, target or open_target(world), state, world.clock, context)


def paths(verification: Verification) -> dict[str, list[str]]:
    """Return the paths of all findings, without empty lists."""
    kinds = ("missing", "stale", "orphaned", "duplicate")
    return {kind: result for kind in kinds if (result := verification.to_json()[kind])}


def held_by_another_mirror(tx: Tx, remote_id: str) -> None:
    """Give this document to a mirror that shares the base of `docs` under its own prefix."""
    docs = tx.mirrors.named("docs")
    assert docs is not None and docs.binding is not None
    base, row = tx.mirrors.binding(docs.binding), tx.uploads.at_path(docs.id, docs.binding, "f0.md")[0]
    assert base is not None
    other_mirror = tx.mirrors.add("other", "/srv/other", "memory").id
    binding = tx.mirrors.bind_to(other_mirror, base.target, base.address, base.base, "other/")
    tx.uploads.add(replace(row, mirror=other_mirror, binding=binding, path="x.md", remote_id=remote_id))
