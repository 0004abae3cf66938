"""Others make a mess of a knowledge base at GPTBots: a person has it verified and repaired, and all is well.

What `verify` has to find is known of each mess. A document with the very mark of an upload of ours is a
second one of its file, and a repair removes it; one with the mark of another kbsync's, or with our name
alone, is somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from kbsync.engine.verify import Verification, repair_request
from kbsync.errors import TargetError
from kbsync.targets.gptbots.config import MARKER_BASE
from kbsync_standin.gptbots.behaviour import GptbotsBehaviour
from kbsync_standin.gptbots.bot import Document
from tests.remote.services import GPTBOTS
from tests.remote.test_adversary import verify
from tests.targets.gptbots.world import GptbotsWorld
from tests.torture.exercise import Broken, Exercise, Tally
from tests.torture.mess import DAY, TURNS, Mess, MessyBase

REPAIRS = 3
"""Within so many of them everything is in order again."""

MOST_REQUESTS = 60
"""Of one verification: pages of the list, twice for what looks wrong, and looks at single documents."""

LISTS: tuple[dict[str, Any], ...] = (
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

USUAL = {name: getattr(GptbotsBehaviour(), name) for name in {name for one in LISTS for name in one}}

TROUBLE: tuple[dict[str, Any], ...] = (
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


@dataclass(slots=True)
class RepairedBase(MessyBase):
    """At GPTBots.

    `wanted`: paths that `verify` has to name, by the kind of what is wrong.
    `unmarked`: documents of ours whose mark others took away, with their files.
    """

    world: GptbotsWorld
    wanted: dict[str, set[str]] = field(default_factory=dict)
    unmarked: dict[str, str] = field(default_factory=dict)

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
        self.world.turn(**self.chance.choice(LISTS))
        self.wanted = {}

    def covered(self) -> set[str]:
        return set(self.found())

    # -- what happens ----------------------------------------------------------------------------------

    def ours(self, path: str) -> Document:
        """The document that a file has."""
        [one] = [one for at, one in self.owned() if at == path]
        return one

    def owned(self) -> Iterator[tuple[str, Document]]:
        """Documents that are not of others, with their files, whatever was done to name and mark."""
        for one in self.world.app._bot.shelf.alive():  # type: ignore[attr-defined]
            if one.id not in self.world.foreign:
                marked = self.world._path_of({"id": one.id, "source_url": one.source_url})
                yield self.unmarked.get(one.id) or marked or one.name, one

    def found(self) -> Mapping[str, Sequence[str]]:
        """SHA-256 of what searches find of each file."""
        found: dict[str, list[str]] = {}
        for path, one in self.owned():
            one.get_on(self.world.clock.wall())
            if one.serving is not None:
                found.setdefault(path, []).append(one.serving.sha256)
        return found

    def text(self, path: str) -> str:
        return (self.world.root / path).read_text()

    def lose(self, path: str) -> Document:
        one = self.ours(path)
        self.world.app.put_foreign({"delete": one.id})
        return one

    def want(self, kind: str, path: str) -> None:
        self.wanted.setdefault(kind, set()).add(path)

    def mark(self, name: str, text: str, source_url: str) -> str:
        """Others upload a document with this address; its id."""
        given = {"name": name, "text": text, "source_url": source_url}
        return str(self.world.app.put_foreign(given)["id"])

    async def delete_ours(self) -> None:
        """Others delete a document of ours."""
        path = self.pick()
        self.lose(path)
        self.want("missing", path)

    async def replace_ours(self) -> None:
        """Others delete a document of ours and upload something else under its name."""
        path = self.pick()
        name = self.lose(path).name
        self.world.foreign.add(self.mark(name, self.new_text(), "https://docs.example/theirs"))
        self.want("missing", path)

    async def make_twin(self) -> None:
        """Others copy a document of ours with its mark: for all that can be told a second one of the file."""
        path = self.pick()
        one = self.ours(path)
        if one.id not in self.unmarked:
            self.mark(one.name, self.text(path), one.source_url)
            self.want("duplicate", path)

    async def make_lookalike(self) -> None:
        """Others have a kbsync of their own, and with it our name, our path, and sometimes our very bytes."""
        path = self.pick()
        name, text = self.ours(path).name, self.chance.choice((self.new_text(), self.text(path)))
        url = f"{MARKER_BASE}/{path}#sha256={sha256(text.encode()).hexdigest()}&u=77777777&r=t600"
        self.world.foreign.add(self.mark(name, text, url))

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

    async def come_late(self) -> None:
        """An upload is done after its answer was lost."""
        self.world.play("late-effect", op="add", args={"after": self.chance.choice((5, 40))})
        self.world.write(f"late{self.number}.md", self.new_text())
        await self.go_over()

    async def edit(self) -> None:
        """A file changes, and no pass has seen it yet."""
        path = self.pick()
        self.world.write(path, self.new_text())
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

    # -- order -----------------------------------------------------------------------------------------

    async def put_in_order(self, told: str) -> None:
        await self.look_in_trouble(self.chance.choice(TROUBLE))
        self.judge_findings(told, await self.look(told))
        for _ in range(REPAIRS):
            await self.repair(told)
        found = await self.look(told, hides=False)
        is_clean = found.ok and found.foreign == len(self.world.foreign)
        self.judge(told, is_well=is_clean, said=found.to_json())

    async def look_in_trouble(self, trouble: Mapping[str, Any]) -> None:
        """It may be put off; nothing is changed by it."""
        before = self.changes()
        self.world.play(**trouble)
        with contextlib.suppress(TargetError):
            await verify(self.world)
        self.world.server.faults.clear()
        assert self.changes() == before

    def changes(self) -> int:
        """Requests that change something."""
        return sum(self.world.asked(op) for op in ("add", "update", "delete"))

    async def look(self, told: str, *, hides: bool = True) -> Verification:
        """What `verify` says, at few requests. `hides`: the list lacks a document that is there."""
        if hides:
            hidden = self.ours(self.chance.choice(sorted(self.steady)))
            self.world.play("left-out", op="list", times=0, args={"name": hidden.name})
        before = self.world.asked()
        found = await verify(self.world)
        self.world.server.faults.clear()
        self.tally.steps += (asked := self.world.asked() - before)
        if asked > MOST_REQUESTS:
            self.tally.violations += 1
            raise Broken(f"{told}: {asked} requests of one verification", self.tally)
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
            self.tally.violations += 1
            raise Broken(
                f"{told}: {overlooked} overlooked, {wrongly} wrongly, {mute} unexplained", self.tally
            )


async def audited(place: Path, chance: random.Random, turns: int = TURNS) -> Tally:
    """So many turns in one world."""
    async with GptbotsWorld(place).serving() as world:
        return await RepairedBase(world, chance, GPTBOTS).live(turns)


def audit(seed: int, place: Path) -> Tally:
    """A round."""
    place.mkdir(exist_ok=True)
    return asyncio.run(audited(place, random.Random(seed)))


EXERCISES: dict[str, Exercise] = {"audit-gptbots": audit}
