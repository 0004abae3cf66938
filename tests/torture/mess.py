"""A mirror in a base that others use as well, and make a mess of: what is common to all services."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.remote.ordeal import Service
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.torture.exercise import Broken, Tally

FILES, TURNS, MOST_MESS = 30, 4, 4
DAY = 86400.0

Mess = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class MessyBase:
    """One life of the mirror, turn by turn.

    `steady`: files that nobody meddles with in this turn: each is found all the time, and none is sent.
    `sent`: how many uploads there were before the turn.
    """

    world: RemoteWorld
    chance: random.Random
    service: Service
    tally: Tally = field(default_factory=Tally)
    steady: set[str] = field(default_factory=set)
    gaps: set[str] = field(default_factory=set)
    number: int = 0
    sent: int = 0

    # -- what each service has of its own ----------------------------------------------------------------

    def messes(self) -> Sequence[Mess]:
        """What others can do."""
        raise NotImplementedError

    def set_out(self) -> None:
        """How the service is in this turn."""
        raise NotImplementedError

    async def put_in_order(self, told: str) -> None:
        """Until the mess, which is told, is over. Raises `Broken`."""
        raise NotImplementedError

    def found(self) -> Mapping[str, Sequence[str]]:
        """SHA-256 of our documents of each file."""
        raise NotImplementedError

    def covered(self) -> set[str]:
        """Files that have something to find, or had once."""
        return self.service.covered(self.world)

    # -- what happens ----------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look after each request that the service's trials watch whether something is not found."""

        def look(_op: str) -> None:
            self.gaps |= self.steady - self.covered()

        self.world.watch(self.service.watched, look)

    def pick(self) -> str:
        """A file that is not steady any more."""
        path = self.chance.choice(sorted(self.steady))
        self.steady.discard(path)
        return path

    def new_text(self) -> str:
        self.number += 1
        return f"text number {self.number}"

    async def leave(self) -> None:
        """Others delete what is theirs."""
        if self.world.foreign:
            gone = self.chance.choice(sorted(self.world.foreign))
            self.world.foreign.discard(gone)
            self.world.app.put_foreign({"delete": gone})

    # -- a turn ----------------------------------------------------------------------------------------

    async def live(self, turns: int) -> Tally:
        """A first pass, and so many turns."""
        self.world.write_many(FILES)
        await self.world.once()
        self.watch()
        for _ in range(turns):
            await self.turn()
        return self.tally

    async def turn(self) -> None:
        """Mess, and order. Raises `Broken`."""
        self.set_out()
        self.steady, self.sent = set(sha_of_folder(self.world)), len(list(self.service.sent(self.world)))
        done = [self.chance.choice(self.messes()) for _ in range(self.chance.randint(1, MOST_MESS))]
        for mess in done:
            await mess()
            self.world.clock.now += 10
        self.tally.faults += len(done)
        await self.put_in_order(", ".join(mess.__name__ for mess in done))

    def judge(self, told: str, *, is_well: bool, said: object) -> None:
        """Folder and base are equal, and nothing else was touched. Raises `Broken`."""
        there, here = self.found(), sha_of_folder(self.world)
        wrong = sorted(path for path in {*there, *here} if there.get(path) != here.get(path))
        self.tally.lost += sum(path not in there for path in wrong)
        self.tally.duplicated += sum(len(there.get(path, ())) > 1 for path in wrong)
        sent = {digest for _, digest in list(self.service.sent(self.world))[self.sent :]}
        again = {path for path in self.steady if here.get(path, [""])[0] in sent}
        self.tally.duplicated += len(again)
        self.tally.gaps += len(self.gaps)
        self.tally.foreign += not self.world.keeps_foreign()
        statuses = self.world.statuses()
        if wrong or self.tally.broken or not is_well or set(statuses) != {"ready"}:
            what = f"{wrong} differ, {sorted(self.gaps)} were gone, {sorted(again)} were sent again"
            raise Broken(f"{told}: {what}; {statuses} {said}", self.tally)
