"""The stand-in of Zhipu as the other side of the state machine: the real client, TCP, and a clock that jumps.

It cannot rename, so that no call of that name goes wrong; what goes wrong with one instead is the re-embed.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from kbsync.core.names import Naming
from kbsync_standin.faults import Fault
from kbsync_standin.late import Work
from kbsync_standin.messages import Request, Response, StandInClock
from kbsync_standin.server import Server
from kbsync_standin.zhipu import application
from kbsync_standin.zhipu.documents import Entry, ZhipuDocument
from tests.crash.harness import Guillotine
from tests.engine.side import STRANGE, Change, Kept, Listener, Side
from tests.remote.world import BASE, KEY, RemoteWorld


class SteadyWorld(RemoteWorld):
    """The clock of this machine may be set without that of the service."""

    def __init__(self, place: Path, vectorize: tuple[float, float], **settings: Any) -> None:
        super().__init__(place, vectorize=vectorize, **settings)
        clock = self.clock
        self.app = application(KEY, 7, vectorize, StandInClock(lambda: clock.started + clock.now))
        self.server = Server(self.app)


class ZhipuSide(Side):
    """Every request that changes something is followed by a look, answered or not.

    `prefixes`: all that names may begin with; what is left is the path. `ops`: calls that have another name
    here. `kinds`: what goes wrong, as the stand-in plays it. `effects`: the requests that change something,
    as a guillotine knows them.
    """

    world: RemoteWorld
    ops: ClassVar[Mapping[str, str]] = {
        "put": "upload",
        "status": "detail",
        "rename": "reembed",
    }
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        "lost": ("lost-answer", {}),
        "done": ("lost-answer", {}),
        "down": ("rate-limited", {}),
        "refused": ("failed-info", {}),
        "full": ("rate-limited", {"code": 1113}),
    }
    effects: ClassVar[Mapping[str, str]] = {
        "upload": "put",
        "delete": "delete",
        "reembed": "reembed",
        "reslice": "reslice",
    }

    def __init__(self, world: RemoteWorld, on_change: Listener, prefixes: list[str]) -> None:
        self.world = world
        self.on_change = on_change
        self._namings = [
            Naming(one, world.settings.names) for one in sorted({*prefixes}, key=len, reverse=True)
        ]
        self._guillotine: Guillotine | None = None
        self._answer = world.app.answer
        world.app.answer = self._answered  # type: ignore[method-assign]
        self._late = world.server.late
        self._owe = self._late.owe
        self._late.owe = self._owed  # type: ignore[method-assign]
        self._told = 0
        self._touched: list[str] = []

    async def begin(self) -> None:
        await self.world.server.start()

    async def end(self) -> None:
        await self.world.bury()
        await self.world.server.stop()

    def _owed(self, seconds: float, work: Work) -> None:
        """What comes late comes in time: done with the next request, its lag would only begin there."""
        self._owe(seconds, work)
        self.world.clock.ring(seconds, self._late.catch_up)

    # -- what changes there ----------------------------------------------------------------------------

    @property
    def _account(self) -> Any:
        return self.world.app._account

    def _answered(self, request: Request, fault: Fault | None) -> Response:
        """What became searchable by itself is seen before anything goes."""
        effect = self.effects.get(self.world.app.op(request))
        if effect is None:
            return self._answer(request, fault)
        self.on_change(Change("time", ""))
        response = self._answer(request, fault)
        self._tell_new()
        if self._guillotine is not None:
            self._guillotine.mark(f"{effect} effect")
        return response

    def _tell_new(self) -> None:
        for entry in self._new_entries():
            self._tell(entry)

    def _new_entries(self) -> list[Entry]:
        new: list[Entry] = self._account.entries[self._told :]
        self._told += len(new)
        return new

    def _tell(self, entry: Entry) -> None:
        document: ZhipuDocument = self._account.documents[entry.id]
        path = self._path(document)
        if document.is_foreign and not entry.effect.startswith("foreign"):
            self._touched.append(f"a document of somebody else's: {entry.effect} {entry.name}")
        if entry.effect != "stored":
            self.on_change(Change(entry.effect, path))
            return
        fails = any(phase.stat == 2 for phase in document.phases)
        self.on_change(Change("stored", path, document.content.decode(), fails))

    def _path(self, document: ZhipuDocument) -> str:
        """Of the file whose document it is; the name itself where it says nothing."""
        readings = (naming.read(document.sent_name) for naming in self._namings)
        return next((one.path for one in readings if one is not None and one.path), document.sent_name)

    def ours(self) -> list[Kept]:
        there = self._account.documents.values()
        return [self._kept(one) for one in there if one.deleted is None and not one.is_foreign]

    def _kept(self, one: ZhipuDocument) -> Kept:
        """Found once is found, whatever the status says for a moment: searches don't look at it."""
        now = self.world.app.clock.now()
        path = self._path(one)
        is_found = any(phase.stat == 1 and phase.at <= now for phase in one.phases)
        return Kept(one.id, one.sent_name, path, (path, one.content.decode()) if is_found else None)

    # -- what others do --------------------------------------------------------------------------------

    def fault(self, op: str, kind: str) -> None:
        name, args = self.kinds[kind]
        self.world.play(name, op=self.ops.get(op, op), effect=kind != "lost", args=dict(args))

    def play(self, fault: Fault) -> None:
        """One answer goes wrong as only this service can."""
        self.world.server.faults.add(fault)

    def add_foreign(self, name: str) -> None:
        self.world.app.put_foreign({"name": name, "text": STRANGE, "base": BASE})
        self._new_entries()

    def take_away(self, one: Kept) -> None:
        self.world.app.put_foreign({"delete": one.id})
        self._new_entries()

    def arrive(self) -> None:
        owed = self._late._owed
        while owed:
            heapq.heappop(owed)[2]()

    def clock_was_set(self) -> None:
        """The service dates its answers by its own clock as before."""

    def heal(self) -> None:
        self.world.server.faults.clear()

    def violations(self) -> list[str]:
        return [*self.world.violations(), *self._touched]

    def story(self) -> list[str]:
        began = self.world.clock.started
        told = [f"{e.at - began:.1f} {e.effect} {e.name} {e.id}" for e in self._account.entries[-40:]]
        return [*told, repr(self.world.server.faults.all), repr(self.world.app.behaviour)]

    # -- clients ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def target(self) -> AsyncIterator[Any]:
        clock = self.world.clock
        clock.busy, before = self.world._is_talking, clock.busy
        driver = asyncio.create_task(clock.drive())
        target = self.world.make_target()
        try:
            yield target
        finally:
            await self.world.bury()
            driver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await driver
            clock.busy = before

    async def crash(self, guillotine: Guillotine) -> None:
        self._guillotine = guillotine
        try:
            await self.world.crash(guillotine)
        finally:
            self._guillotine = None
