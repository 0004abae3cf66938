"""A mirror in a base that others use and damage: code common to all services."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import NoReturn

from tests.bench.bench import OwnDocument
from tests.bench.zhipu import ZhipuBench
from tests.remote.world import sha_of_folder
from tests.torture.exercise import PromiseBroken, Tally

FILES, TURNS, MOST_MESS = 30, 4, 4
DAY = 86400.0

Mess = Callable[[], Awaitable[None]]


class MessyMirror:
    """One life of a mirror, turn by turn.

    `steady`: files that nobody meddles with in this turn: each is found all the time, and none is sent.
    `sent`: how many uploads there were before the turn. `wanted`: paths that `verify` has to name, by the
    kind of what is wrong. `late`: seconds after which an upload may arrive. `untold`: documents of ours whose
    name or mark others changed, by id, with their files.
    """

    late: Sequence[float]

    def __init__(self, bench: ZhipuBench, chance: random.Random) -> None:
        self.bench, self.world, self.chance = bench, bench.world, chance
        self.tally = Tally()
        self.steady: set[str] = set()
        self.gaps: set[str] = set()
        self.wanted: dict[str, set[str]] = {}
        self.untold: dict[str, str] = {}
        self.number = self.sent = 0

    # -- what each service has of its own ----------------------------------------------------------------

    def messes(self) -> Sequence[Mess]:
        """What others can do."""
        raise NotImplementedError

    def set_out(self) -> None:
        """How the service is in this turn."""
        raise NotImplementedError

    async def put_in_order(self, told: str) -> None:
        """Until the mess, which is told, is over. Raises `PromiseBroken`."""
        raise NotImplementedError

    def found(self) -> Mapping[str, Sequence[str]]:
        """SHA-256 of our documents of each file."""
        return self.bench.documents()

    def covered(self) -> set[str]:
        """Files that have something to find, or had once."""
        return self.bench.searchable()

    def violations(self) -> list[str]:
        """What was done against the rules of the service, or to documents of others."""
        return self.bench.violations()

    async def go_over(self) -> None:
        """A pass, which sees to what was edited."""
        await self.world.once()

    # -- what happens ----------------------------------------------------------------------------------

    def pick(self) -> str:
        """A file that is not steady any more."""
        path = self.chance.choice(sorted(self.steady))
        self.steady.discard(path)
        return path

    def new_text(self) -> str:
        self.number += 1
        return f"text number {self.number}"

    def text(self, path: str) -> str:
        return (self.world.root / path).read_text()

    def owned(self) -> Iterator[tuple[str, OwnDocument]]:
        """Documents of ours with their files."""
        for one in self.bench.ours():
            yield self.untold.get(one.id, one.path), one

    def kept(self, path: str) -> OwnDocument:
        """The document that a file has."""
        return next(one for at, one in self.owned() if at == path)

    def want(self, kind: str, path: str) -> None:
        self.wanted.setdefault(kind, set()).add(path)

    async def delete_ours(self) -> None:
        """Others delete a document of ours."""
        path = self.pick()
        self.bench.take_away(self.kept(path))
        self.want("missing", path)

    async def come_late(self) -> None:
        """An upload is done after its answer was lost, perhaps long after it was given up."""
        path = f"late{self.number}.md"
        self.bench.come_late(path, self.chance.choice(self.late))
        self.world.write(path, self.new_text())
        await self.go_over()

    async def leave(self) -> None:
        """Others delete what is theirs."""
        if self.world.foreign:
            gone = self.chance.choice(sorted(self.world.foreign))
            self.world.foreign.discard(gone)
            self.world.app.put_foreign({"delete": gone})

    async def edit(self) -> None:
        """A file changes, and no pass has seen it yet."""
        path = self.pick()
        self.world.write(path, self.new_text())
        self.want("stale", path)

    # -- a turn ----------------------------------------------------------------------------------------

    async def live(self, turns: int) -> Tally:
        """A first pass, and so many turns."""
        async with self.bench.serving():
            await self.world.mirrored(FILES)
            self.bench.on_change = lambda _: self.look_for_gaps()
            for _ in range(turns):
                await self.turn()
        return self.tally

    def look_for_gaps(self) -> None:
        self.gaps |= self.steady - self.covered()

    async def turn(self) -> None:
        """Mess, and order. Raises `PromiseBroken`."""
        self.set_out()
        self.wanted = {}
        self.steady, self.sent = set(sha_of_folder(self.world)), len(self.bench.sent())
        done = [self.chance.choice(self.messes()) for _ in range(self.chance.randint(1, MOST_MESS))]
        for mess in done:
            await mess()
            self.world.clock.now += 10
        self.tally.faults += len(done)
        await self.put_in_order(", ".join(mess.__name__ for mess in done))

    def blame(self, sentence: str) -> NoReturn:
        """Something is as it must not be."""
        self.tally.violations += 1
        raise PromiseBroken(sentence, self.tally)

    def judge(self, told: str, *, is_well: bool, said: object) -> None:
        """Folder and base are equal, and nothing else was touched. Raises `PromiseBroken`."""
        here = sha_of_folder(self.world)
        wrong = self.tally.compare(here, self.found())
        sent = {digest for _, digest in self.bench.sent()[self.sent :]}
        again = {path for path in self.steady if here.get(path, [""])[0] in sent}
        self.tally.duplicated += len(again)
        self.tally.gaps += len(self.gaps)
        self.tally.foreign += self.bench.touched()
        violations = self.violations()
        self.tally.violations += len(violations)
        statuses = self.world.statuses()
        if self.tally.broken or not is_well or set(statuses) != {"ready"}:
            what = f"{wrong}, {sorted(self.gaps)} were gone, {sorted(again)} were sent again, {violations}"
            raise PromiseBroken(f"{told}: {what}; {statuses} {said}", self.tally)
