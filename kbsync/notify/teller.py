"""Watches the mirrors of a daemon for what a person should know, and tells it. No mirror waits for this."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from kbsync.config.model import NotifyConfig
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.outcomes import Happened
from kbsync.engine.views.halting import halt_shown
from kbsync.errors import StateError
from kbsync.notify import delivery
from kbsync.notify.delivery import Undelivered
from kbsync.notify.digest import Digest
from kbsync.notify.notice import Mishap, Notice

log = structlog.get_logger("kbsync")

LOOK_EVERY = 2.0
"""Seconds between two looks at the mirrors; a halt that was over before is none to tell of."""

Sleep = Callable[[float], Awaitable[None]]


class Teller:
    """Tells whom the config names. `runs`: the mirrors at work by name, as they come and go.

    `steady` and `wall` are clocks in seconds, `sleep` waits by `steady`.
    """

    def __init__(
        self,
        runs: Mapping[str, MirrorRun],
        *,
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._runs = runs
        self._steady, self._wall, self._sleep = steady, wall, sleep
        self._config: NotifyConfig | None = None
        self._digest = Digest()
        self._silent: set[str] = set()
        self._changed = asyncio.Event()

    def turn_to(self, config: NotifyConfig | None) -> None:
        """Tell as this says, from now on."""
        if config != self._config:
            self._config = config
            self._silent.clear()
            self._changed.set()

    def heard(self, mirror: str, event: Happened) -> None:
        """A document is finished; at work only while somebody is to be told."""
        run = self._runs.get(mirror)
        if self._config is not None and run is not None and event.event == "document.failed":
            cure = run.site.cure(f"retry --mirror {mirror}")
            mishap = Mishap(event.path, event.reason)
            self._digest.failed(mirror, mishap, cure, self._steady(), self._wall())

    async def keep(self) -> None:
        """Look and tell, until cancelled; a command that runs then is ended."""
        while True:
            if self._config is None:
                self._changed.clear()
                await self._changed.wait()
            await self._sleep(LOOK_EVERY)
            try:
                await self.look()
            except Exception:
                if "kbsync" not in self._silent:
                    log.exception(
                        "notify.failed", via="kbsync", detail="an error of kbsync itself; it goes on"
                    )
                self._silent.add("kbsync")

    async def look(self) -> None:
        """See how the mirrors stand, and tell what is due."""
        config = self._config
        if config is None:
            return
        self._digest.keep_only(list(self._runs))
        for name, run in list(self._runs.items()):
            if run.told is not None or run.has_compared:  # before, it is what an earlier process knew
                await self._see(name, run)
        for notice in self._digest.due(self._steady(), config.on):
            well = await self._deliver(config, notice)
            self._digest.told(notice, self._steady(), well=well)

    async def _see(self, name: str, run: MirrorRun) -> None:
        with contextlib.suppress(StateError):  # the log has it
            halt = await run.store.read(lambda tx: halt_shown(tx, run))
            self._digest.halt_seen(name, halt, self._wall())

    async def _deliver(self, config: NotifyConfig, notice: Notice) -> bool:
        """Both ways at once; one that worked is enough."""
        body = delivery.body_of(notice)
        ways: list[tuple[str, Awaitable[None]]] = []
        if config.command is not None:
            ways.append(("command", delivery.run(config.command, body)))
        if config.url is not None:
            ways.append(("url", delivery.post(config.url.reveal(), body)))
        return any(await asyncio.gather(*(self._tried(way, work) for way, work in ways)))

    async def _tried(self, way: str, work: Awaitable[None]) -> bool:
        """Told once, until it works again. No way's trouble is the other's, whatever it is."""
        try:
            await work
        except Exception as error:
            if way not in self._silent:
                log.error("notify.failed", via=way, detail=_said(error))
            self._silent.add(way)
            return False
        if way in self._silent:
            log.info("notify.resumed", via=way)
        self._silent.discard(way)
        return True


def _said(error: Exception) -> str:
    """Of an error that nobody foresaw only its kind: its words may have an address in them."""
    return (
        str(error) if isinstance(error, Undelivered) else f"an error of kbsync itself, {type(error).__name__}"
    )
