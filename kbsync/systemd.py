"""Notifies systemd about the daemon (sd_notify(3)): readiness, reloads, shutdown, counts and pings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from kbsync.dataclass import dataclass
from kbsync.engine.clock import Clock, end_tasks, keep_running, wait_for_any
from kbsync.engine.status import SHOWN, MirrorStatus, disk_halt, halt_words, mirror_status
from kbsync.errors import StateError
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

PATIENCE = 0.5
"""Maximum number of seconds that an important message waits for a service manager with a full queue."""

READY_LATEST = 30.0
"""Maximum number of seconds that READY waits for a mirror, such as one with a slow service."""

MIN_PAUSE, MAX_PAUSE = 1.0, 10.0
"""Minimum and maximum number of seconds between reads of the counts."""


class ServiceManager:
    """Sends messages to `$NOTIFY_SOCKET`. If it isn't set or nobody is listening, the messages are dropped.

    `watchdog`: the maximum time between pings, in seconds, or None (sd_watchdog_enabled(3)).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        # With a leading `@`, the path is a name in the abstract namespace (unix(7)).
        self._address = "\0" + name[1:] if name.startswith("@") else name if name.startswith("/") else ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self.watchdog: float | None = None
        every, pid = environ.get("WATCHDOG_USEC", ""), str(os.getpid())
        is_ours = (environ.get("WATCHDOG_PID") or pid) == pid
        if self._address and is_ours and every.isdecimal() and int(every):
            self.watchdog = int(every) / 1e6

    @property
    def is_present(self) -> bool:
        """Whether there is a service manager that receives messages."""
        return self._socket is not None

    def send(self, *words: str, patience: float = PATIENCE) -> None:
        """Send `NAME=value` assignments in one datagram.

        Drop them if that takes longer than `patience` seconds.
        """
        if self._socket is None:
            return
        self._socket.settimeout(patience)
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(words).encode(), self._address)

    def close(self) -> None:
        """Stop sending messages."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass
class ServiceReports:
    """Reports the daemon's state to the service manager. Without a service manager, this does nothing."""

    manager: ServiceManager
    clock: Clock
    is_ready: bool = False
    is_stopping: bool = False
    complaint: str = ""
    """A message to send before the counts, such as one about a refused config; set it with `complain`."""

    def __post_init__(self) -> None:
        self._news = asyncio.Event()
        self._sent_text = ""

    def send_soon(self) -> None:
        """Send the counts soon, because they have changed."""
        self._news.set()

    def complain(self, complaint: str) -> None:
        """Send this message before the counts soon, or stop sending it if it is empty."""
        self.complaint = complaint
        self.send_soon()

    async def ready_after(self, started: Collection[asyncio.Event]) -> None:
        """Send READY once, when all of these events are set or after `READY_LATEST` seconds."""
        all_started = asyncio.Event()

        async def wait_for_all() -> None:
            for process in started:
                await process.wait()
            all_started.set()

        waiting = asyncio.create_task(wait_for_all())
        try:
            await wait_for_any(self.clock, READY_LATEST, all_started)
        finally:
            waiting.cancel()
        if not self.is_stopping:
            self.is_ready = True
            self.manager.send("READY=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Send RELOADING before and READY after reading a new config.

        Before the first READY, send nothing.
        """
        if not self.is_ready:
            yield
            return
        self.manager.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            if not self.is_stopping:
                self.manager.send("READY=1")

    def stopping(self) -> None:
        """Send STOPPING. After that, send nothing."""
        if not self.is_stopping:
            self.is_stopping = True
            self.manager.send("STOPPING=1", "STATUS=stopping")

    @contextlib.asynccontextmanager
    async def over(self, store: StateStore, names: Callable[[], Sequence[str]]) -> AsyncIterator[None]:
        """Send pings and the counts for the mirrors `names` while the state is open."""
        work: dict[str, Callable[[], Awaitable[None]]] = {}
        if self.manager.is_present:
            work["counts"] = partial(self._report, store, names)
        if self.manager.watchdog is not None:
            work["watchdog"] = partial(self._feed, store, self.manager.watchdog / 2)
        tasks = [asyncio.create_task(keep_running(self.clock, work[name], name)) for name in work]
        try:
            yield
        finally:
            await end_tasks(tasks)

    def alive(self) -> None:
        """Record that the loop is alive."""
        if self.manager.watchdog is not None:
            self.manager.send("WATCHDOG=1", patience=0.0)

    async def _feed(self, store: StateStore, every: float) -> None:
        """Ping as long as the event loop is running and the state's writer responds, even with errors."""
        while True:
            started = self.clock.steady()
            with contextlib.suppress(StateError):
                await store.write(lambda _tx: None)
            self.alive()
            await self.clock.sleep(max(0.0, started + every - self.clock.steady()))

    async def _report(self, store: StateStore, names: Callable[[], Sequence[str]]) -> None:
        def counts(tx: Tx) -> str:
            records = [tx.mirrors.named(name) for name in names()]
            unwritten, now = disk_halt(store.path), self.clock.wall()
            statuses = [
                mirror_status(tx, record, now=now, command_line=str, unwritten=unwritten)
                for record in records
                if record is not None
            ]
            return status_sentence(statuses)

        while True:
            self._news.clear()
            with contextlib.suppress(StateError):
                text = "; ".join(filter(None, (self.complaint, await store.read(counts))))
                if text != self._sent_text and not self.is_stopping:
                    self._sent_text = text
                    self.manager.send(f"STATUS={text}", patience=0.0)
            await self.clock.sleep(MIN_PAUSE)
            await wait_for_any(self.clock, MAX_PAUSE - MIN_PAUSE, self._news)


def status_sentence(mirrors: Sequence[MirrorStatus]) -> str:
    """Return a line such as `120 ready, 1 pending, 2 failed; handbook: key refused`."""
    totals = {status.word: sum(getattr(m.documents, status.word) for m in mirrors) for status in SHOWN}
    counts = [f"{n:,} {word}" for word, n in totals.items() if n or word in ("ready", "pending", "failed")]
    halts = [
        f"{mirror.name}: {halt_words(mirror.halt.reason, mirror.halt.detail)}"
        for mirror in mirrors
        if mirror.halt is not None
    ]
    paused = [f"{mirror.name}: paused" for mirror in mirrors if mirror.pause is not None]
    return "; ".join([", ".join(counts), *halts, *paused])
