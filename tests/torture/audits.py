"""Others make a mess of a knowledge base, lists shift and lie, and audits put in order what is ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from kbsync.core.names import Naming
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour
from tests.engine.auditing import begun
from tests.remote.services import ZHIPU
from tests.remote.world import RemoteWorld
from tests.torture.exercise import Broken, Exercise, Tally
from tests.torture.mess import DAY, MOST_MESS, TURNS, Mess, MessyBase

AUDITS = 4
"""Within so many of them, a day apart, everything is in order again."""

LOOKS = ("list", "detail", "file", "base", "capacity", "retrieve")
SWEEPS, FOR_EACH, BESIDES = 3, 8, 12
"""Times that a list is read at most; looks for each document somebody meddled with; looks beside these."""

LISTS: tuple[dict[str, Any], ...] = (
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
"""What the service's lists are like, a turn long."""

TROUBLE: tuple[dict[str, Any], ...] = (
    {"kind": "left-out", "op": "list"},
    {"kind": "duplicates", "op": "list", "args": {"n": 2}},
    {"kind": "list-null", "op": "list"},
    {"kind": "lost-answer", "op": "list"},
    {"kind": "status", "op": "list", "times": 4, "args": {"status": 502}},
    {"kind": "detail-missing", "op": "detail"},
    {"kind": "lost-answer", "op": "detail", "times": 4},
    {"kind": "base-gone", "op": "base"},
)


class AuditedBase(MessyBase):
    """At Zhipu. A steady file always has a document that was ready once."""

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
        self.world.app.behaviour = ZhipuBehaviour(vectorize=(1.0, 3.0))
        self.world.turn(**self.chance.choice(LISTS))

    def found(self) -> Mapping[str, Sequence[str]]:
        return self.world.bytes_by_path()

    # -- what happens ----------------------------------------------------------------------------------

    async def delete_ours(self) -> None:
        """Others delete a document of ours."""
        self.world.lose(self.pick())

    async def leave_deleted(self) -> None:
        """A deletion that was none."""
        self.world.delete(self.pick())
        self.world.play("keeps-document", op="delete")
        await self.world.once()

    async def make_twin(self) -> None:
        """Others upload our very bytes under our very name."""
        path = self.pick()
        [document, *_] = self.world.documents_of(path)
        self.world.plant(document["sent_name"], (self.world.root / path).read_text())

    async def copy_name(self) -> None:
        """Others upload something else under our name."""
        [document, *_] = self.world.documents_of(self.pick())
        self.world.plant(document["sent_name"], self.new_text())

    async def take_name(self) -> None:
        """Others have the name that a file's next version would have; then it changes."""
        path, text = self.pick(), self.new_text()
        name = Naming("", "tagged").name(path, sha256(text.encode()).hexdigest())
        self.world.plant(name, self.new_text())
        self.world.write(path, text)
        await self.world.once()

    async def come_late(self) -> None:
        """An upload is done long after it was given up."""
        self.world.play("late-effect", op="upload", args={"after": self.chance.choice((5, 40, 400))})
        self.world.write(f"late{self.number}.md", self.new_text())
        await self.world.once()

    async def edit(self) -> None:
        """A file changes, and no pass has seen it yet."""
        self.world.write(self.pick(), self.new_text())

    # -- order -----------------------------------------------------------------------------------------

    async def put_in_order(self, told: str) -> None:
        for trouble in (self.chance.choice(TROUBLE), *({} for _ in range(AUDITS))):
            await self.audit(told, trouble)
            await self.world.once()
            self.world.server.faults.clear()
            self.world.clock.now += DAY
        halt = self.world.run.halt
        self.judge(told, is_well=halt is None, said=halt)

    async def audit(self, told: str, trouble: Mapping[str, Any]) -> None:
        """One audit; it may be put off, and asks little either way."""
        async with begun(self.world) as auditing:
            before = self.looks()
            if trouble:
                self.world.play(**trouble)
            if trouble.get("kind") != "detail-missing":  # missing by list and detail is missing
                self.hide(self.chance.choice(sorted(self.steady)))
            await auditing.try_once()
        asked, most = self.looks() - before, self.most_looks()
        self.tally.steps += asked
        if asked > most:
            self.tally.violations += 1
            raise Broken(f"{told}: {asked} looks instead of {most} at most", self.tally)

    def hide(self, path: str) -> None:
        """The list lacks a document, however often it is read, and the document is there."""
        [document] = self.world.documents_of(path)
        self.world.play("left-out", op="list", times=0, args={"name": document["sent_name"]})

    def looks(self) -> int:
        return sum(self.world.asked(op) for op in LOOKS)

    def most_looks(self) -> int:
        """Pages as often as a list is read, and some for each document somebody meddled with."""
        size = self.world.app.behaviour.page_cap or 100
        pages = len(self.world.documents()) // size + 1
        return SWEEPS * (pages + 1) + FOR_EACH * MOST_MESS + BESIDES


async def audited(place: Path, chance: random.Random, turns: int = TURNS) -> Tally:
    """So many turns in one world."""
    async with RemoteWorld(place).serving() as world:
        return await AuditedBase(world, chance, ZHIPU).live(turns)


def audit(seed: int, place: Path) -> Tally:
    """A round."""
    place.mkdir(exist_ok=True)
    return asyncio.run(audited(place, random.Random(seed)))


EXERCISES: dict[str, Exercise] = {"audit": audit}
