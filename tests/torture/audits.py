"""Others make a mess of a knowledge base, lists shift and lie, and audits put in order what is ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from kbsync.core.names import Naming
from kbsync.standin.messages import Request, Response
from kbsync.standin.zhipu.behaviour import Behaviour
from tests.engine.auditing import begun
from tests.remote.services import ZHIPU
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.torture.exercise import Broken, Exercise, Tally

FILES, TURNS, MOST_MESS = 30, 4, 4
AUDITS = 4
"""Within so many of them, a day apart, everything is in order again."""

DAY = 86400.0
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


@dataclass(slots=True)
class Shambles:
    """A mirror in a base that others use as well.

    `steady`: files that nobody meddles with in this turn: each always has a document that was ready once, and
    none is sent. `sent`: how many uploads there were before the turn.
    """

    world: RemoteWorld
    chance: random.Random
    tally: Tally = field(default_factory=Tally)
    steady: set[str] = field(default_factory=set)
    gaps: set[str] = field(default_factory=set)
    number: int = 0
    sent: int = 0

    def watch(self) -> None:
        """Look after each deletion of ours whether something is missing."""
        answer = self.world.app.answer

        def watched(request: Request, fault: Any) -> Response:
            response = answer(request, fault)
            if self.world.app.op(request) == "delete":
                self.gaps |= self.steady - ZHIPU.covered(self.world)
            return response

        self.world.app.answer = watched  # type: ignore[method-assign]

    # -- what happens ----------------------------------------------------------------------------------

    def pick(self) -> str:
        """A file that is not steady any more."""
        path = self.chance.choice(sorted(self.steady))
        self.steady.discard(path)
        return path

    def new_text(self) -> str:
        self.number += 1
        return f"text number {self.number}"

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

    async def leave(self) -> None:
        """Others delete what is theirs."""
        if self.world.foreign:
            gone = self.chance.choice(sorted(self.world.foreign))
            self.world.foreign.discard(gone)
            self.world.app.put_foreign({"delete": gone})

    async def edit(self) -> None:
        """A file changes, and no pass has seen it yet."""
        self.world.write(self.pick(), self.new_text())

    # -- a turn ----------------------------------------------------------------------------------------

    async def turn(self) -> None:
        """Mess, and audits until it is over. Raises `Broken`."""
        self.world.app.behaviour = Behaviour(vectorize=(1.0, 3.0))
        self.world.turn(**self.chance.choice(LISTS))
        self.steady, self.sent = set(sha_of_folder(self.world)), len(list(ZHIPU.sent(self.world)))
        done = [self.chance.choice(MESS) for _ in range(self.chance.randint(1, MOST_MESS))]
        for mess in done:
            await mess(self)
            self.world.clock.now += 10
        self.tally.faults += len(done)
        told = ", ".join(mess.__name__ for mess in done)
        for trouble in (self.chance.choice(TROUBLE), *({} for _ in range(AUDITS))):
            await self.audit(told, trouble)
            await self.world.once()
            self.world.server.faults.clear()
            self.world.clock.now += DAY
        self.judge(told)

    async def audit(self, told: str, trouble: Mapping[str, Any]) -> None:
        """One audit; it may be put off, and asks little either way."""
        async with begun(self.world) as auditing:
            before = self.looks()
            if trouble:
                self.world.play(**trouble)
            if trouble.get("kind") != "detail-missing":  # missing by list and detail is missing
                self.hide(self.chance.choice(sorted(self.steady)))
            await auditing._try()
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

    def judge(self, told: str) -> None:
        """Folder and base are equal, and nothing else was touched."""
        there, here = self.world.bytes_by_path(), sha_of_folder(self.world)
        wrong = sorted(path for path in {*there, *here} if there.get(path) != here.get(path))
        self.tally.lost += sum(path not in there for path in wrong)
        self.tally.duplicated += sum(len(there.get(path, ())) > 1 for path in wrong)
        again = {path for path, _ in list(ZHIPU.sent(self.world))[self.sent :]} & self.steady
        self.tally.duplicated += len(again)
        self.tally.gaps += len(self.gaps)
        self.tally.foreign += not self.world.keeps_foreign()
        halt, statuses = self.world.run.halt, self.world.statuses()
        if wrong or self.tally.broken or halt is not None or set(statuses) != {"ready"}:
            what = f"{wrong} differ, {sorted(self.gaps)} were gone, {sorted(again)} were sent again"
            raise Broken(f"{told}: {what}; {statuses} {halt}", self.tally)


Mess = Callable[[Shambles], Any]
MESS = (
    Shambles.delete_ours,
    Shambles.leave_deleted,
    Shambles.make_twin,
    Shambles.copy_name,
    Shambles.take_name,
    Shambles.come_late,
    Shambles.leave,
    Shambles.edit,
)


async def audited(place: Path, chance: random.Random, turns: int = TURNS) -> Tally:
    """So many turns in one world."""
    async with RemoteWorld(place).serving() as world:
        world.write_many(FILES)
        await world.once()
        one = Shambles(world, chance)
        one.watch()
        for _ in range(turns):
            await one.turn()
        return one.tally


def audit(seed: int, place: Path) -> Tally:
    """A round."""
    place.mkdir(exist_ok=True)
    return asyncio.run(audited(place, random.Random(seed)))


EXERCISES: dict[str, Exercise] = {"audit": audit}
