"""Pages that are fetched anew while the program is killed: how that is played, at any service, and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kbsync.core.refreshing import PAUSE
from kbsync.engine.mirror import MirrorRun
from tests.crash.harness import Guillotine
from tests.crash.stage_zhipu import ZhipuStage
from tests.remote.test_links import items, shortcut
from tests.remote.world import RemoteWorld

HOUR, DAY = 3600.0, 86400.0
LINKS = ("faq.url", "prices.url")
MOST_REQUESTS = 200
"""Of all kinds, in one process: it polls what is being fetched every few seconds."""


async def keep_watch(run: MirrorRun, seconds: float) -> None:
    """A daemon's life: the folder is compared, and the worker goes on for so long."""
    try:
        assert await run.begin(), run.halt
        await run.compare()
        await run.clock.sleep(seconds)
    finally:
        await run.end()


CUT_WORK = partial(keep_watch, seconds=1.5 * PAUSE)
"""What is cut: long enough for a request that was cut off before to be made again."""

RECOVERY = partial(keep_watch, seconds=2.5 * PAUSE)
"""The same after two crashes."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a service fetches anew: the request `op`, its `effect` in the journal, which addresses are `found`.

    `address`: of a link, a file where the service takes no pages.
    """

    op: str
    effect: str
    found: Callable[[RemoteWorld], set[str]]
    address: Callable[[str], str]


Edit = Callable[["Turn"], None]


def leave(turn: Turn) -> None:
    """Nobody touches the links."""


def edit(turn: Turn) -> None:
    """A link leads elsewhere now."""
    turn.point("faq.url", f"edited{turn.number}")


def move(turn: Turn) -> None:
    """A link file is called otherwise."""
    turn.stage.world.move("faq.url", "moved/faq.url")


def delete(turn: Turn) -> None:
    """A link goes."""
    turn.stage.world.delete("faq.url")
    turn.lasting.pop("faq.url")


EDITS: Sequence[Edit] = (leave, edit, move, delete)


@dataclass
class Turn:
    """Two pages are due, and the process that has them fetched is killed at one boundary after the other.

    `lasting`: by link the addresses of which one is always found. `edit` is made after the last crash.
    """

    stage: ZhipuStage
    service: Fetched
    number: int
    lasting: dict[str, set[str]] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    crashes: int = 0

    @property
    def world(self) -> RemoteWorld:
        return self.stage.world

    def point(self, path: str, name: str) -> None:
        """Have a link lead to an address."""
        address = self.service.address(name)
        self.world.write(path, shortcut(address))
        self.lasting.setdefault(path, set()).add(address)

    def look(self) -> None:
        """Note which links are not found at this moment."""
        found = self.service.found(self.world)
        self.gaps += [path for path, addresses in self.lasting.items() if not addresses & found]

    def fetches(self) -> int:
        return len(self.world.effects(self.service.effect))

    def addresses(self) -> list[str]:
        """Of all documents of links that are there, searchable or not, and nobody else's."""
        ours = (one for one in self.world.documents() if str(one["id"]) not in self.world.foreign)
        return sorted(one["address"] for one in ours if one["address"])

    async def run(self, cuts: Iterable[int], then: Edit) -> bool:
        """False when the first boundary was never reached."""
        await self.begin()
        fallen = [await self.cut(number) for number in cuts]
        then(self)
        await self.recover(edits=int(then is not leave))
        return fallen[0]

    async def begin(self) -> None:
        """Every link leads where it leads in this turn, and is due."""
        (self.world.root / "moved/faq.url").unlink(missing_ok=True)
        for path in LINKS:
            self.point(path, f"{path.removesuffix('.url')}{self.number}")
        self.world.clock.now += 2 * HOUR  # deletions of earlier turns are not counted any more
        await self.world.once()
        await self.world.once()
        self.world.clock.now += 2 * DAY
        self.look()
        assert not self.gaps
        self.stage.on_effect = self.look
        self.asked, self.fetched = self.world.asked(self.service.op), self.fetches()

    async def cut(self, number: int) -> bool:
        """Crash at this boundary."""
        guillotine, before = Guillotine(at=number), self.world.asked()
        await self.stage.crash(guillotine, CUT_WORK)
        assert self.world.asked() - before <= MOST_REQUESTS
        self.crashes += guillotine.fallen
        self.look()
        return guillotine.fallen

    async def recover(self, edits: int) -> None:
        """Within an hour each page was fetched, asked for once and once more a crash; then not for a day."""
        before = self.world.asked()
        await self.world.doing(RECOVERY)
        await self.world.once()  # a deletion is weighed
        assert self.world.asked() - before <= MOST_REQUESTS
        self.judge(1, edits)
        asked = self.world.asked(self.service.op)
        self.world.clock.now += 20 * HOUR
        await self.world.once()
        assert self.world.asked(self.service.op) == asked, "a page was fetched though none was due"
        self.world.clock.now += 7 * HOUR
        await self.world.once()
        assert self.world.asked(self.service.op) == asked + len(self.lasting)
        self.judge(2, edits)
        self.stage.on_effect = lambda: None

    def judge(self, times: int, edits: int) -> None:
        """One document a link, found all the time, fetched so many times, and not too often.

        The bound: a request for each link and due time, one more a crash, and one for each edited link where
        documents are changed by the same request.
        """
        assert len(self.addresses()) == len(self.lasting)
        assert all(any(one in known for one in self.addresses()) for known in self.lasting.values())
        assert self.gaps == []
        assert self.stage.touched() == 0
        assert self.stage.violations() == []
        assert set(self.world.statuses()) == {"ready"}
        assert {one.reason for one in items(self.world).values()} == {""}
        assert self.world.breaches == []
        wanted = times * len(LINKS)
        assert self.world.asked(self.service.op) - self.asked <= wanted + self.crashes + edits
        assert edits or self.fetches() - self.fetched >= wanted


def set_to_refresh(world: RemoteWorld, every: str) -> None:
    """The config has every link fetched anew so often."""
    settings: dict[str, Any] = {"refresh": every}
    world.plan = replace(
        world.plan, settings=lambda path: settings if path.endswith(".url") else {}, fingerprint=every
    )


async def cut_fetches(
    stage: ZhipuStage, service: Fetched, numbers: Iterable[int], then: Edit, first: int = 0
) -> int:
    """Crashes at each boundary until one is past the last; with `first`, there as well and before."""
    crashes = 0
    async with stage.serving():
        set_to_refresh(stage.world, "1d")
        for count, number in enumerate(numbers):
            turn = Turn(stage, service, count)
            await turn.run([first, number] if first else [number], then)
            crashes += turn.crashes
            if turn.crashes < 1 + bool(first):
                return crashes
    raise AssertionError("the numbers came to an end")


async def cut_always(stage: ZhipuStage, service: Fetched, upon: str, times: int) -> int:
    """A process is killed `upon` each request, again and again, an hour apart: how often it came to one."""
    async with stage.serving():
        set_to_refresh(stage.world, "1d")
        turn = Turn(stage, service, 0)
        await turn.begin()
        fallen = 0
        for _ in range(times):
            guillotine = Guillotine(upon=[upon])
            await stage.crash(guillotine, CUT_WORK)
            fallen += guillotine.fallen
            turn.look()
            stage.world.clock.now += HOUR
        assert turn.gaps == []
        assert stage.world.asked(service.op) - turn.asked <= fallen
        return fallen
