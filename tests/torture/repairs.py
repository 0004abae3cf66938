"""Others damage a knowledge base while lists shift and lie, and a user verifies and repairs it.

What `verify` has to find is known of each mess. A document with the very mark of an upload of ours, or with
its name and bytes where names are the proof, is a second one of its file, and a repair removes it; one with
the mark of another kbsync's, or our name alone, is somebody else's. Where a name tells the bytes, a document
of other bytes with such a name may be a version that a lost state sent: a person is told of it, and it stays.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from kbsync.core.names import Naming
from kbsync.engine.verify import Verification, repair_request
from kbsync.errors import TargetError
from kbsync_standin.faults import Fault
from tests.bench.bench import OwnDocument
from tests.services.rows import ROWS
from tests.torture.mess import DAY, Mess, MessyMirror

REPAIRS = 3
"""Within so many of them everything is in order again."""

TROUBLE = (
    Fault("left-out", "list"),
    Fault("lost-answer", "list"),
    Fault("status", "list", times=4, args={"status": 502}),
)
"""What may go wrong with the first verification of a turn, at every service."""

LOOKS = ("list", "status", "detail", "state", "file")
"""Operations of a service that a verification asks for."""


def text_of(one: OwnDocument) -> str:
    """What searches find of it."""
    assert one.shown is not None
    return one.shown[1]


class RepairedMirror(MessyMirror):
    """At the service `at` of `ROWS`, whose behaviours last a turn each.

    `lists`, `trouble`: what it may be like, and what may go wrong, besides what the row of the service says.
    `hidden`: how many times a list lacks a document that is there; 0: each time. `most`: requests of one
    verification: pages of the list, twice for what looks wrong, and looks at single documents.
    """

    at: ClassVar[str]
    lists: ClassVar[Sequence[dict[str, Any]]] = ()
    trouble: ClassVar[Sequence[Fault]] = ()
    hidden: ClassVar[int] = 0
    most: ClassVar[int] = 60
    late = (5, 40)

    def __init__(self, place: Path, chance: random.Random) -> None:
        row = ROWS[self.at]
        world = row.world(place)
        # Passes that audit would mend what `verify` is to find.
        world.settings = replace(world.settings, names=chance.choice(row.names), deep_rescan=1e9)
        super().__init__(row.bench(world), chance)
        self._lists = [*row.behaviours, *self.lists]
        # Documents of others whose names tell bytes as ours do; those with these bytes, or with a mark.
        self.tagged, self.lookalikes = set[str](), set[str]()
        self._trouble = [*TROUBLE, *(one for one in row.oddities if one.op in LOOKS), *self.trouble]

    def messes(self) -> Sequence[Mess]:
        return (
            self.delete_ours,
            self.replace_ours,
            self.exchange_ours,
            self.make_twin,
            self.make_lookalike,
            self.mangle_name,
            self.bring_back,
            self.take_text,
            self.come_late,
            self.leave,
            self.edit,
        )

    def set_out(self) -> None:
        usual = type(self.world.app.behaviour)()
        names = {name for one in self._lists for name in one}
        self.world.turn(**{name: getattr(usual, name) for name in names})
        self.world.turn(**self.chance.choice(self._lists))

    # -- what is there -----------------------------------------------------------------------------------

    def found(self) -> Mapping[str, Sequence[str]]:
        """SHA-256 of what searches find of each file, "" for a document that they do not find."""
        found: dict[str, list[str]] = {}
        for path, one in self.owned():
            shown = "" if one.shown is None else sha256(one.shown[1].encode()).hexdigest()
            found.setdefault(path, []).append(shown)
        return found

    def covered(self) -> set[str]:
        return {path for path, one in self.owned() if one.shown is not None}

    # -- what each service has of its own ----------------------------------------------------------------

    def plant_copy(self, one: OwnDocument) -> str:
        """Others copy a document of ours with its mark; the id."""
        return self.bench.add_foreign(one.name, text_of(one))

    def plant_replacement(self, one: OwnDocument) -> None:
        """Others upload something else under the name of a document that was ours, without its mark."""
        self.bench.add_foreign(one.name, self.new_text())

    def plant_lookalike(self, path: str, text: str) -> None:
        """Another kbsync uploads a file that has the same path."""
        name = Naming(self.world.settings.prefix).name(path, sha256(text.encode()).hexdigest())
        self.lookalikes.add(self.bench.add_foreign(name, text))

    def expect_marked(self, planted: str, path: str, text: str) -> None:
        """Another kbsync's mark, or another state's: a twin of our file may go, any other text stays."""
        if text == self.text(path):
            self.pass_as_ours(planted)
            self.want("duplicate", path)
        else:
            self.lookalikes.add(planted)

    def id_of(self, remote_id: str | None) -> str:
        """The id of a document at the stand-in."""
        return remote_id or ""

    def stored(self, remote_id: str) -> Any:
        """A document as the stand-in has it, also one that was deleted."""
        raise NotImplementedError

    def give_name(self, one: OwnDocument, name: str) -> None:
        """Others rename a document of ours."""
        self.stored(one.id).name = name

    def undelete(self, one: OwnDocument) -> None:
        """Others restore a document that was deleted, or upload it again as it was."""
        self.pass_as_ours(self.plant_copy(one))

    # -- what happens ------------------------------------------------------------------------------------

    def pass_as_ours(self, planted: str) -> None:
        """Nothing tells it from a document of ours."""
        self.world.foreign.discard(planted)
        if hasattr(stored := self.stored(planted), "is_foreign"):
            stored.is_foreign = False

    async def replace_ours(self) -> None:
        """Others delete a document of ours and upload something else under its name."""
        path = self.pick()
        one = self.kept(path)
        self.bench.take_away(one)
        self.plant_replacement(one)
        self.want("missing", path)

    async def make_twin(self) -> None:
        """Others copy a document of ours with its mark: for all that can be told a second one of the file."""
        path = self.pick()
        one = self.kept(path)
        if one.id not in self.untold:
            self.pass_as_ours(self.plant_copy(one))
            self.want("duplicate", path)

    async def exchange_ours(self) -> None:
        """Others copy a document of ours with its mark, and delete the one that we know."""
        path = self.pick()
        one = self.kept(path)
        if one.id not in self.untold:
            self.pass_as_ours(self.plant_copy(one))
            self.bench.take_away(one)
            self.want("missing", path)

    async def make_lookalike(self) -> None:
        """Others have a kbsync of their own, and with it our path."""
        self.plant_lookalike(self.pick(), self.new_text())

    async def mangle_name(self) -> None:
        """Others give a document of ours another name; it is told by its id, or by its mark."""
        path = self.chance.choice(sorted(self.steady))
        one = self.kept(path)
        self.untold[one.id] = path
        self.give_name(one, self.chance.choice((f"{one.name} (1)", "notes.md", "说明.md", one.name.upper())))

    async def bring_back(self) -> None:
        """Others restore a document that we deleted."""
        path = self.pick()
        one = self.kept(path)
        self.world.delete(path)
        await self.go_over()
        if one.id not in self.untold:
            self.undelete(one)
            self.want("orphaned", path)

    async def take_text(self) -> None:
        """Others have the very text that a file's next version has; then it changes."""
        path, text = self.pick(), self.new_text()
        self.bench.add_foreign(f"theirs{self.number}.md", text)
        self.world.write(path, text)
        self.want("stale", path)

    async def go_over(self) -> None:
        """A pass, which sees to what was edited, and where it reads the list to what is back."""
        await self.world.once()
        there = {path for path, _ in self.owned()}
        self.wanted = {
            "missing": self.wanted.get("missing", set()),
            "duplicate": self.wanted.get("duplicate", set()),
            "orphaned": self.wanted.get("orphaned", set()) & there,
        }

    # -- order -------------------------------------------------------------------------------------------

    async def put_in_order(self, told: str) -> None:
        await self.look_in_trouble(self.chance.choice(self._trouble))
        self.judge_findings(told, await self.look(told))
        for _ in range(REPAIRS):
            await self.repair(told)
        found = await self.look(told, hides=False)
        theirs = self.world.foreign & {str(one["id"]) for one in self.world.documents()}
        left = {self.id_of(one.remote_id) for one in (*found.duplicate, *found.orphaned)}
        is_left_rightly = self.lookalikes & theirs <= left <= (self.lookalikes | self.tagged) & theirs
        is_in_order = not (found.halt or found.missing or found.stale)
        is_well = is_in_order and is_left_rightly and found.foreign == len(theirs - left)
        self.judge(told, is_well=is_well, said=found.to_json())

    def changes(self) -> int:
        """How many requests there were that change something."""
        return sum(map(self.world.asked, self.bench.effects))

    async def look_in_trouble(self, trouble: Fault) -> None:
        """It may be put off; nothing is changed by it."""
        before = self.changes()
        self.world.server.faults.add(trouble)
        with contextlib.suppress(TargetError):
            await self.world.verify()
        self.world.server.faults.clear()
        assert self.changes() == before

    async def look(self, told: str, *, hides: bool = True) -> Verification:
        """What `verify` says, at few requests. `hides`: the list lacks a document that is there."""
        if hides:
            one = self.kept(self.chance.choice(sorted(self.steady)))
            self.world.play("left-out", op="list", times=self.hidden, args={"name": one.name})
        before, changes = self.world.asked(), self.changes()
        found = await self.world.verify()
        self.world.server.faults.clear()
        assert self.changes() == changes
        self.tally.steps += (asked := self.world.asked() - before)
        if asked > self.most:
            self.blame(f"{told}: {asked} requests of one verification")
        return found

    async def repair(self, told: str) -> None:
        """As `verify --repair`, and the pass that carries it out."""
        self.world.tell("repair", **repair_request(await self.look(told)))
        await self.world.once()
        self.world.clock.now += DAY

    def judge_findings(self, told: str, found: Verification) -> None:
        """All that was done to files of ours is found and explained, and nothing of what is steady."""
        lists = {kind: getattr(found, kind) for kind in ("missing", "stale", "orphaned", "duplicate")}
        named = {kind: {one.path for one in findings} for kind, findings in lists.items()}
        ours = {
            one.path
            for findings in lists.values()
            for one in findings
            if self.id_of(one.remote_id) not in self.lookalikes | self.tagged
        }
        overlooked = {kind: paths - named[kind] for kind, paths in self.wanted.items()}
        wrongly = ours & self.steady
        mute = [one.path for findings in lists.values() for one in findings if not one.why]
        if any(overlooked.values()) or wrongly or mute or found.halt is not None:
            self.blame(f"{told}: {overlooked} overlooked, {wrongly} wrongly, {mute} unexplained")
