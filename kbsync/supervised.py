"""What the service manager is told of a daemon: ready, reloading, stopping, its state, signs of life."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from kbsync.engine.clock import Clock, rest
from kbsync.engine.lasting import keep_up
from kbsync.engine.status import SHOWN, MirrorStatus, mirror_status
from kbsync.errors import StateError
from kbsync.sdnotify import Notifier
from kbsync.state.store import Store, Tx

READY_LATEST = 30.0
"""Seconds after which a mirror that still begins, such as one whose service is slow, holds nobody back."""

CALM, LONGEST_SILENCE = 1.0, 10.0
"""Seconds at least and at most between two looks at the counts."""


@dataclass
class Supervised:
    """Speaks for one daemon. What it says is lost where no manager listens."""

    notifier: Notifier
    clock: Clock
    is_ready: bool = False
    is_stopping: bool = False
    complaint: str = ""
    """Put before the counts, until it is taken away."""

    def __post_init__(self) -> None:
        self._news = asyncio.Event()
        self._said = ""

    def nudge(self) -> None:
        """Something happened that the counts tell of."""
        self._news.set()

    async def ready_after(self, begun: Collection[asyncio.Event]) -> None:
        """READY, once, when all of these are set, or after `READY_LATEST` seconds."""
        all_begun = asyncio.Event()
        waiting = asyncio.create_task(_all_set(begun))
        waiting.add_done_callback(lambda _: all_begun.set())
        try:
            await rest(self.clock, READY_LATEST, all_begun)
        finally:
            waiting.cancel()
        if not self.is_stopping:
            self.is_ready = True
            self.notifier.tell("READY=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Around the reading of a new config; before READY there is nothing to tell."""
        if not self.is_ready:
            yield
            return
        self.notifier.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            if not self.is_stopping:
                self.notifier.tell("READY=1")

    def stopping(self) -> None:
        """STOPPING; nothing is told after it."""
        if not self.is_stopping:
            self.is_stopping = True
            self.notifier.tell("STOPPING=1", "STATUS=stopping")

    @contextlib.asynccontextmanager
    async def over(self, store: Store, names: Callable[[], Sequence[str]]) -> AsyncIterator[None]:
        """While the state is open: signs of life, and the counts of the mirrors called `names`."""
        tasks = []
        if self.notifier.is_heard:
            tasks.append(self._kept("counts", partial(self._report, store, names)))
        if self.notifier.watchdog is not None:
            tasks.append(self._kept("watchdog", partial(self._feed, store, self.notifier.watchdog / 2)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _kept(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(keep_up(self.clock, work, name))

    def alive(self) -> None:
        """A sign of life of the loop."""
        if self.notifier.watchdog is not None:
            self.notifier.tell("WATCHDOG=1", patience=0.0)

    async def _feed(self, store: Store, every: float) -> None:
        """The loop turns, since this runs; the writer lives when it answers, be it that the disk is full."""
        while True:
            began = self.clock.steady()
            with contextlib.suppress(StateError):
                await store.write(lambda _tx: None)
            self.alive()
            await self.clock.sleep(max(0.0, began + every - self.clock.steady()))

    async def _report(self, store: Store, names: Callable[[], Sequence[str]]) -> None:
        while True:
            self._news.clear()
            with contextlib.suppress(StateError):
                self._say(await store.read(lambda tx: sentence(_statuses(tx, names()))))
            await self.clock.sleep(CALM)
            await rest(self.clock, LONGEST_SILENCE - CALM, self._news)

    def _say(self, counts: str) -> None:
        text = "; ".join(filter(None, (self.complaint, counts)))
        if text != self._said and not self.is_stopping:
            self._said = text
            self.notifier.tell(f"STATUS={text}", patience=0.0)


async def _all_set(events: Collection[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _statuses(tx: Tx, names: Collection[str]) -> list[MirrorStatus]:
    found = [tx.mirrors.named(name) for name in names]
    return [mirror_status(tx, record, now=0.0, cure=str) for record in found if record is not None]


def sentence(mirrors: Sequence[MirrorStatus]) -> str:
    """Such as `120 ready, 1 pending, 2 failed; handbook: credentials`, on one line."""
    totals = {status.word: sum(getattr(m.documents, status.word) for m in mirrors) for status in SHOWN}
    counts = [f"{n:,} {word}" for word, n in totals.items() if n or word in ("ready", "pending", "failed")]
    halts = [f"{mirror.name}: {mirror.halt.reason}" for mirror in mirrors if mirror.halt is not None]
    return "; ".join([", ".join(counts), *halts])
