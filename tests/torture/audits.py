"""Others make a mess of a knowledge base, lists shift and lie, and what is ours is put in order.

At Zhipu the daemon's audits do it, at GPTBots a person has it verified and repaired. What `verify` has to
find is known of each mess. A document with the very mark of an upload of ours is a second one of its file,
and a repair removes it; one with the mark of another kbsync's, or our name alone, is somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from kbsync.core.names import Naming
from kbsync.engine.verify import Verification, repair_request
from kbsync.errors import TargetError
from kbsync.targets.gptbots.config import MARKER_BASE
from kbsync_standin.gptbots.behaviour import GptbotsBehaviour
from kbsync_standin.gptbots.bot import Document
from kbsync_standin.zhipu.behaviour import ZhipuBehaviour
from tests.bench.gptbots import GptbotsBench
from tests.bench.zhipu import ZhipuBench
from tests.engine.auditing import begun
from tests.remote.world import RemoteWorld
from tests.targets.gptbots.world import GptbotsWorld
from tests.torture.exercise import Exercise, Tally
from tests.torture.mess import DAY, MOST_MESS, TURNS, Mess, MessyMirror

# -- Zhipu -----------------------------------------------------------------------------------------------

AUDITS = 4
"""Within so many of them, a day apart, everything is in order again."""

LOOKS = ("list", "detail", "file", "base", "capacity", "retrieve")
SWEEPS, FOR_EACH, BESIDES = 3, 8, 12
"""Times that a list is read at most; looks for each document somebody meddled with; looks beside these."""

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
"""What the service's lists are like, a turn long."""

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
    """At Zhipu, where the daemon audits. A steady file always has a document that was ready once."""

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
        self.world.app.behaviour = ZhipuBehaviour(vectorize=(1.0, 3.0))
        self.world.turn(**self.chance.choice(ZHIPU_LISTS))

    # -- what happens ----------------------------------------------------------------------------------

    async def leave_deleted(self) -> None:
        """A deletion that was none."""
        self.world.delete(self.pick())
        self.bench.keep_deleted()
        await self.world.once()

    async def make_twin(self) -> None:
        """Others upload our very bytes under our very name."""
        path = self.pick()
        self.bench.add_foreign(self.kept(path).name, self.text(path))

    async def copy_name(self) -> None:
        """Others upload something else under our name."""
        self.bench.add_foreign(self.kept(self.pick()).name, self.new_text())

    async def take_name(self) -> None:
        """Others have the name that a file's next version would have; then it changes."""
        path, text = self.pick(), self.new_text()
        name = Naming("", "tagged").name(path, sha256(text.encode()).hexdigest())
        self.bench.add_foreign(name, self.new_text())
        self.world.write(path, text)
        await self.world.once()

    # -- order -----------------------------------------------------------------------------------------

    async def put_in_order(self, told: str) -> None:
        for trouble in (self.chance.choice(ZHIPU_TROUBLE), *({} for _ in range(AUDITS))):
            await self.audit(told, trouble)
            await self.world.once()
            self.world.server.faults.clear()
            self.world.clock.now += DAY
        halt = self.world.run.halt
        self.judge(told, is_well=halt is None, said=halt)

    async def audit(self, told: str, trouble: Mapping[str, Any]) -> None:
        """One audit; it may be put off, and asks little either way."""
        async with begun(self.world) as auditing:
            before = sum(map(self.world.asked, LOOKS))
            if trouble:
                self.world.play(**trouble)
            if trouble.get("kind") != "detail-missing":  # missing by list and detail is missing
                # The list lacks a document, however often it is read, and the document is there.
                name = self.kept(self.chance.choice(sorted(self.steady))).name
                self.world.play("left-out", op="list", times=0, args={"name": name})
            await auditing.try_once()
        asked = sum(map(self.world.asked, LOOKS)) - before
        self.tally.steps += asked
        pages = len(self.world.documents()) // (self.world.app.behaviour.page_cap or 100) + 1
        most = SWEEPS * (pages + 1) + FOR_EACH * MOST_MESS + BESIDES
        if asked > most:
            self.blame(f"{told}: {asked} looks instead of {most} at most")


# -- GPTBots ---------------------------------------------------------------------------------------------

CHANGING = ("add", "update", "delete")
REPAIRS = 3
"""Within so many of them everything is in order again."""

MOST_OF_A_LOOK = 60
"""Of one verification: pages of the list, twice for what looks wrong, and looks at single documents."""

GPTBOTS_LISTS: tuple[dict[str, Any], ...] = (
    {},
    {"page_cap": 10},
    {"page_cap": 4, "page_beyond": "repeats"},
    {"page_cap": 10, "order": "shuffled", "total": "zero"},
    {"list_lag": 8.0},
    {"names": "bare", "total": "missing", "times": "ms"},
    {"order": "oldest", "extra_fields": True, "unknown_ids": "refused"},
    {"stale_status": 5.0, "failed": "objects", "total": "string"},
)
"""What the service is like, a turn long."""

USUAL = {name: getattr(GptbotsBehaviour(), name) for name in {name for one in GPTBOTS_LISTS for name in one}}

GPTBOTS_TROUBLE: tuple[dict[str, Any], ...] = (
    {"kind": "left-out", "op": "list"},
    {"kind": "left-out", "op": "status"},
    {"kind": "lost-answer", "op": "list"},
    {"kind": "status", "op": "list", "times": 4, "args": {"status": 502}},
    {"kind": "rate-limited", "op": "status", "times": 2},
    {"kind": "unmarked", "op": "list"},
    {"kind": "unmarked", "op": "list", "args": {"cut": True}},
    {"kind": "shape", "op": "list", "args": {"form": "nulls"}},
)
"""What goes wrong in the first verification of a turn."""


class RepairedMirror(MessyMirror):
    """At GPTBots. `unmarked`: documents of ours whose mark others took away, with their files."""

    late = (5, 40)
    bench: GptbotsBench
    world: GptbotsWorld

    def __init__(self, bench: GptbotsBench, chance: random.Random) -> None:
        super().__init__(bench, chance)
        self.unmarked: dict[str, str] = {}

    def messes(self) -> Sequence[Mess]:
        return (
            self.delete_ours,
            self.replace_ours,
            self.make_twin,
            self.make_lookalike,
            self.mangle_name,
            self.lose_mark,
            self.bring_back,
            self.come_late,
            self.leave,
            self.edit,
        )

    def set_out(self) -> None:
        self.world.turn(**USUAL, vectorize=[1.0, 3.0])
        self.world.turn(**self.chance.choice(GPTBOTS_LISTS))

    def covered(self) -> set[str]:
        return set(self.found())

    # -- what happens ----------------------------------------------------------------------------------

    def ours(self, path: str) -> Document:
        """The document that a file has."""
        [one] = [one for at, one in self.owned() if at == path]
        return one

    def owned(self) -> Iterator[tuple[str, Document]]:
        """Documents that are not of others, with their files, whatever was done to name and mark."""
        for one in self.world.app.bot.storage.alive():
            if one.id not in self.world.foreign:
                marked = self.world.path_of({"source_url": one.source_url})
                yield self.unmarked.get(one.id) or marked or one.name, one

    def found(self) -> Mapping[str, Sequence[str]]:
        """SHA-256 of what searches find of each file."""
        found: dict[str, list[str]] = {}
        for path, one in self.owned():
            one.get_on(self.world.clock.wall())
            if one.serving is not None:
                found.setdefault(path, []).append(one.serving.sha256)
        return found

    async def delete_ours(self) -> None:
        """Others delete a document of ours."""
        self.lose(path := self.pick())
        self.want("missing", path)

    def lose(self, path: str) -> Document:
        one = self.ours(path)
        self.world.app.put_foreign({"delete": one.id})
        return one

    async def replace_ours(self) -> None:
        """Others delete a document of ours and upload something else under its name."""
        path = self.pick()
        name = self.lose(path).name
        self.world.plant(name, self.new_text(), "https://docs.example/theirs")
        self.want("missing", path)

    async def make_twin(self) -> None:
        """Others copy a document of ours with its mark: for all that can be told a second one of the file."""
        path = self.pick()
        one = self.ours(path)
        if one.id not in self.unmarked:
            self.world.foreign.discard(self.world.plant(one.name, self.text(path), one.source_url))
            self.want("duplicate", path)

    async def make_lookalike(self) -> None:
        """Others have a kbsync of their own, and with it our name, our path, and sometimes our very bytes."""
        path = self.pick()
        name, text = self.ours(path).name, self.chance.choice((self.new_text(), self.text(path)))
        url = f"{MARKER_BASE}/{path}#sha256={sha256(text.encode()).hexdigest()}&u=77777777&r=t600"
        self.world.plant(name, text, url)

    async def mangle_name(self) -> None:
        """Others give a document of ours another name; it is told by its mark."""
        one = self.ours(self.chance.choice(sorted(self.steady)))
        one.name = self.chance.choice((f"{one.name} (1)", "notes.md", "说明.md", one.name.upper()))

    async def lose_mark(self) -> None:
        """Others clear the address of a document of ours, or cut it; it is told by its id."""
        path = self.chance.choice(sorted(self.steady))
        one = self.ours(path)
        self.unmarked[one.id] = path
        one.source_url = self.chance.choice(("", one.source_url.partition("#")[0]))

    async def bring_back(self) -> None:
        """Others restore a document that we deleted."""
        path = self.pick()
        one = self.ours(path)
        self.world.delete(path)
        await self.go_over()
        one.deleted_at = None
        self.want("orphaned", path)

    async def go_over(self) -> None:
        """A pass, which sees to what was edited, and where it reads the list to what is back."""
        await self.world.once()
        there = {path for path, _ in self.owned()}
        self.wanted = {
            "missing": self.wanted.get("missing", set()),
            "duplicate": self.wanted.get("duplicate", set()),
            "orphaned": self.wanted.get("orphaned", set()) & there,
        }

    # -- order -----------------------------------------------------------------------------------------

    async def put_in_order(self, told: str) -> None:
        await self.look_in_trouble(self.chance.choice(GPTBOTS_TROUBLE))
        self.judge_findings(told, await self.look(told))
        for _ in range(REPAIRS):
            await self.repair(told)
        found = await self.look(told, hides=False)
        is_clean = found.ok and found.foreign == len(self.world.foreign)
        self.judge(told, is_well=is_clean, said=found.to_json())

    async def look_in_trouble(self, trouble: Mapping[str, Any]) -> None:
        """It may be put off; nothing is changed by it."""
        before = [self.world.asked(op) for op in CHANGING]
        self.world.play(**trouble)
        with contextlib.suppress(TargetError):
            await self.world.verify()
        self.world.server.faults.clear()
        assert [self.world.asked(op) for op in CHANGING] == before

    async def look(self, told: str, *, hides: bool = True) -> Verification:
        """What `verify` says, at few requests. `hides`: the list lacks a document that is there."""
        if hides:
            hidden = self.ours(self.chance.choice(sorted(self.steady)))
            self.world.play("left-out", op="list", times=0, args={"name": hidden.name})
        before = self.world.asked()
        found = await self.world.verify()
        self.world.server.faults.clear()
        self.tally.steps += (asked := self.world.asked() - before)
        if asked > MOST_OF_A_LOOK:
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
        overlooked = {kind: paths - named[kind] for kind, paths in self.wanted.items()}
        wrongly = set.union(*named.values()) & self.steady
        mute = [one.path for findings in lists.values() for one in findings if not one.why]
        if any(overlooked.values()) or wrongly or mute or found.halt is not None:
            self.blame(f"{told}: {overlooked} overlooked, {wrongly} wrongly, {mute} unexplained")


MIRRORS: dict[str, Callable[[Path, random.Random], MessyMirror]] = {
    "zhipu": lambda place, chance: AuditedMirror(ZhipuBench(RemoteWorld(place)), chance),
    "gptbots": lambda place, chance: RepairedMirror(GptbotsBench(GptbotsWorld(place)), chance),
}


def audit(at: str, seed: int, place: Path, turns: int = TURNS) -> Tally:
    """So many turns of one mirror."""
    place.mkdir(exist_ok=True)
    return asyncio.run(MIRRORS[at](place, random.Random(seed)).live(turns))


EXERCISES: dict[str, Exercise] = {
    "audit": partial(audit, "zhipu"),
    "audit-gptbots": partial(audit, "gptbots"),
}
