"""Others damage a knowledge base while lists shift and lie, and audits repair our documents.

At Zhipu the daemon's audits do it; elsewhere a person verifies and repairs (`repairs.py`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from kbsync.core.names import Naming
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour
from tests.bench.zhipu import ZhipuBench
from tests.engine.auditing import start_audits
from tests.remote.world import RemoteWorld
from tests.torture.exercise import Exercise, Tally
from tests.torture.mess import DAY, MAX_MESS, TURNS, Mess, MessyMirror
from tests.torture.repaired import REPAIRED

AUDITS = 4
"""Within this many audits, a day apart, everything is repaired."""

LOOKS = ("list", "detail", "file", "base", "capacity", "retrieve")
SWEEPS, FOR_EACH, BESIDES = 3, 8, 12
"""The most complete reads of a list; polls for each affected document; polls in addition to these."""

ZHIPU_LISTS: tuple[dict[str, Any], ...] = (
    {},
    {"page_cap": 10},
    {"page_cap": 4, "page_beyond": "repeats"},
    {"page_cap": 10, "unstable_pages": True},
    {"page_cap": 10, "order": "shuffled", "total": "low"},
    {"list_lag": 8.0, "detail_lag": 4.0},
    {"order": "oldest", "total": "missing", "unknown_delete": "ok"},
    {"sparse": "missing"},
    {"deleted_detail": "code"},
    {"deleted_detail": "null", "empty_list": "null"},
)
"""The lists' properties during a turn."""

ZHIPU_TROUBLE: tuple[dict[str, Any], ...] = (
    {"kind": "left-out", "op": "list"},
    {"kind": "duplicates", "op": "list", "args": {"n": 2}},
    {"kind": "list-null", "op": "list"},
    {"kind": "lost-answer", "op": "list"},
    {"kind": "status", "op": "list", "times": 4, "args": {"status": 502}},
    {"kind": "detail-missing", "op": "detail"},
    {"kind": "lost-answer", "op": "detail", "times": 4},
    {"kind": "base-gone", "op": "base"},
)


class AuditedMirror(MessyMirror):
    """A mirror at Zhipu, where the daemon audits. A steady file always has a document that was ready once."""

    late = (5, 40, 400)

    def messes(self) -> Sequence[Mess]:
        return (
            self.delete_ours,
            self.leave_deleted,
            self.make_twin,
            self.copy_name,
            self.take_name,
            self.come_late,
            self.leave,
            self.edit,
        )

    def set_out(self) -> None:
        self.world.turn(**asdict(ZhipuBehaviour(vectorize=(1.0, 3.0))))
        self.world.turn(**self.chance.choice(ZHIPU_LISTS))

    # -- damage --------------------------------------------------------------------------------------------

    async def leave_deleted(self) -> None:
        """Let the service confirm a deletion without carrying it out."""
        self.world.delete(self.pick())
        self.bench.keep_deleted()
        await self.world.once()

    async def make_twin(self) -> None:
        """Upload the same bytes under the same name as another user."""
        path = self.pick()
        self.bench.add_foreign(self.document_of(path).name, self.text(path))

    async def copy_name(self) -> None:
        """Upload something else under our name as another user."""
        self.bench.add_foreign(self.document_of(self.pick()).name, self.new_text())

    async def take_name(self) -> None:
        """Take the name of a file's next version as another user, then change the file."""
        path, text = self.pick(), self.new_text()
        name = Naming("", "tagged").name(path, sha256(text.encode()).hexdigest())
        self.bench.add_foreign(name, self.new_text())
        self.world.write(path, text)
        await self.world.once()

    # -- repair --------------------------------------------------------------------------------------------

    async def put_in_order(self, messes: str) -> None:
        for fault in (self.chance.choice(ZHIPU_TROUBLE), *({} for _ in range(AUDITS))):
            await self.audit(messes, fault)
            await self.world.once()
            self.world.server.faults.clear()
            self.world.clock.now += DAY
        halt = self.world.run.halt
        self.check(messes, is_well=halt is None, evidence=halt)

    async def audit(self, messes: str, fault: Mapping[str, Any]) -> None:
        """Run one audit; it may be put off, and sends few requests either way."""
        async with start_audits(self.world) as auditing:
            before = sum(map(self.world.request_count, LOOKS))
            if fault:
                self.world.play(**fault)
            if fault.get("kind") != "detail-missing":  # missing in both list and detail counts as missing
                # The list always lacks a document that exists.
                name = self.document_of(self.chance.choice(sorted(self.steady))).name
                self.world.play("left-out", op="list", times=0, args={"name": name})
            await auditing.try_once()
        requests_made = sum(map(self.world.request_count, LOOKS)) - before
        self.tally.steps += requests_made
        pages = len(self.world.documents()) // (self.world.app.behaviour.page_cap or 100) + 1
        most = SWEEPS * (pages + 1) + FOR_EACH * MAX_MESS + BESIDES
        if requests_made > most:
            self.blame(f"{messes}: {requests_made} looks instead of {most} at most")


MIRRORS: dict[str, Callable[[Path, random.Random], MessyMirror]] = {
    "zhipu": lambda directory, chance: AuditedMirror(ZhipuBench(RemoteWorld(directory)), chance),
    **REPAIRED,
}


def audit(service: str, seed: int, folder: Path, turns: int = TURNS) -> Tally:
    """Run this many turns of one mirror."""
    folder.mkdir(exist_ok=True)
    return asyncio.run(MIRRORS[service](folder, random.Random(seed)).live(turns))


EXERCISES: dict[str, Exercise] = {
    "audit": partial(audit, "zhipu"),
    **{f"audit-{name}": partial(audit, name) for name in REPAIRED},
}
