"""A folder, a state, the real client and a service's stand-in over TCP, all on one clock that jumps."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import httpx

from kbsync.core.names import Naming
from kbsync.engine.settings import MirrorSettings
from kbsync.engine.verify import Verification, repair_request
from kbsync.once import PassEnd, run_once
from kbsync.state.store import StateStore
from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response, StandInClock
from kbsync_standin.server import Server
from tests.crash.harness import Guillotine
from tests.engine.auditing import verified
from tests.engine.world import World
from tests.services import access
from tests.targets.blocks import around


class Tapped(httpx.AsyncHTTPTransport):
    """The real way to the server, which tells where each request is."""

    def __init__(self, world: RemoteWorld) -> None:
        super().__init__(verify=False)  # there is no TLS, and its authorities take long to read
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._tell(f"{request.method} start")
        response = await super().handle_async_request(request)
        await response.aread()
        self._tell(f"{request.method} answer")
        return response

    def _tell(self, boundary: str) -> None:
        if self._world.at_request is not None:
            self._world.at_request(boundary)


class RemoteWorld(World):
    """As the engine's world, with a server in place of a base in memory: of Zhipu, if it is no other.

    Switches of the stand-in are set by `turn`; faults are given to `server.faults`. `tolerated`: the end of a
    violation that is none here.
    """

    service: ClassVar[str] = "zhipu"

    def __init__(
        self,
        tmp_path: Path,
        *,
        vectorize: tuple[float, float] = (1.0, 3.0),
        key: str = access.KEY,
        **settings: Any,
    ) -> None:
        super().__init__(tmp_path)
        self.key = key
        clock = self.clock  # may be set, without that of the service
        stand_in_clock = StandInClock(lambda: clock.started + clock.now)
        self.app = access.stand_in(self.service, 7, vectorize, stand_in_clock, key=key)
        self.server = Server(self.app)
        self.target_settings: dict[str, Any] = {"concurrency": 4, **settings}
        self.settings = MirrorSettings("docs", self.root, self.service)
        self.targets: list[Any] = []
        self.at_request: Callable[[str], None] | None = None
        self.guillotine: Guillotine | None = None
        self.foreign: set[str] = set()
        self.tolerated: str | None = None

    def config(self) -> Any:
        """The block of the target."""
        return access.config(self.app, self.server.url, key=self.key, **self.target_settings)

    def make_target(self, *, read_only: bool = False) -> Any:
        clock = self.clock
        target = access.client(self.service)(
            self.config(),
            around(prefix=self.settings.prefix, read_only=read_only),
            wall=clock.wall,
            steady=clock.steady,
            sleep=clock.sleep,
            chance=clock.chance,
            transport=Tapped(self) if self.at_request else None,
        )
        self.targets.append(target)
        return target

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[RemoteWorld]:
        """The stand-in is there; between passes as well, as a vendor is."""
        await self.server.start()
        try:
            yield self
        finally:
            await self.bury()
            await self.server.stop()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StateStore]:
        async with super().running() as store:
            busy = self.clock.busy
            self.clock.busy = lambda: busy() or self.is_talking()
            yield store

    @asynccontextmanager
    async def client(self, *, read_only: bool = False) -> AsyncIterator[Any]:
        """A client of its own while the clock runs; closed at the end."""
        async with self.running(), aclosing(self.make_target(read_only=read_only)) as target:
            yield target

    def is_talking(self) -> bool:
        """Something is on its way, so that the clock waits for it."""
        asking = (target._client.gate.in_flight for target in self.targets)
        return self.server.requests.in_flight > 0 or any(asking)

    async def open_target(self) -> Any:
        return self.make_target()

    async def once(self, **kwargs: Any) -> PassEnd:
        async with self.running() as store:
            end = await run_once(self.make_run(store), **kwargs)
        assert self.breaches == []
        assert self.violations() == [], self.violations()
        return end

    async def verify(self) -> Verification:
        """What `kbsync verify` says."""
        async with self.running(), aclosing(self.make_target(read_only=True)) as target:
            return await verified(self, target)

    async def repair(self) -> None:
        """`verify --repair`, and the pass that carries it out."""
        self.tell("repair", **repair_request(await self.verify()))
        await self.once()

    @property
    def halted(self) -> str:
        """Why the mirror is halted; "" where it is not."""
        return "" if self.run.halt is None else self.run.halt.reason

    def violations(self) -> list[str]:
        """What was done against the vendor's rules."""
        told = list(self.app.violations)
        return told if self.tolerated is None else [one for one in told if not one.endswith(self.tolerated)]

    def watch(self, ops: Collection[str], look: Callable[[str], None]) -> None:
        """`look` is called after each request of these operations has done its work, with the operation."""
        answer = self.app.answer

        def watched(request: Request, fault: Fault | None) -> Response:
            response = answer(request, fault)
            if (op := self.app.op(request)) in ops:
                look(op)
            return response

        self.app.answer = watched  # type: ignore[method-assign]

    def tap(self, guillotine: Guillotine | None) -> None:
        self.guillotine = guillotine
        self.at_request = None if guillotine is None else guillotine.boundary

    async def bury(self) -> None:
        """Connections end with their process."""
        for target in self.targets:
            await target.aclose()
        self.targets.clear()

    # -- the other side --------------------------------------------------------------------------------

    def turn(self, **switches: Any) -> None:
        self.app.set_behaviour(switches)

    def play(self, kind: str, **fields: Any) -> None:
        self.server.faults.add(Fault(kind, **fields))

    def plant(self, name: str, text: str, **more: Any) -> str:
        """Somebody else uploads a document; its id. `more`: what a service keeps besides."""
        planted = str(self.app.put_foreign({"name": name, "text": text, **more})["id"])
        self.foreign.add(planted)
        return planted

    def lose(self, path: str) -> None:
        """Somebody else deletes the documents of ours that a path has."""
        for one in self.documents_of(path):
            self.app.put_foreign({"delete": str(one["id"])})

    def keeps_foreign(self) -> bool:
        """What others put there is still there."""
        return self.foreign <= {str(one["id"]) for one in self.documents()}

    def documents(self) -> list[dict[str, Any]]:
        """What the base holds now, everybody's."""
        return [one for one in self.app.snapshot()["documents"] if not one.get("deleted")]

    def bytes_by_path(self, *, searchable: bool = False) -> dict[str, list[str]]:
        """SHA-256 of every document of ours, or of those that are found, by the path in its name."""
        found: dict[str, list[str]] = {}
        for one in self.documents():
            path = self.path_of(one)
            if path is not None and (not searchable or one["searchable"]):
                found.setdefault(path, []).append(one["sha256"])
        return found

    def documents_of(self, path: str) -> list[dict[str, Any]]:
        """Documents of ours that a path has now."""
        return [one for one in self.documents() if self.path_of(one) == path]

    def path_of(self, document: dict[str, Any]) -> str | None:
        """The path in its name under today's prefix; None for a document of others."""
        if str(document["id"]) in self.foreign:
            return None
        reading = Naming(self.settings.prefix, self.settings.names).read(document["sent_name"])
        return None if reading is None else reading.path

    def effects(self, effect: str) -> list[dict[str, Any]]:
        return [entry for entry in self.app.journal() if entry["effect"] == effect]

    def asked(self, op: str = "") -> int:
        """How many requests there were, of one kind or in all."""
        by_op = self.server.requests.by_op
        return by_op.get(op, 0) if op else sum(by_op.values())


def sha_of_folder(world: World) -> dict[str, list[str]]:
    """What `bytes_by_path` must be."""
    return {
        str(path.relative_to(world.root)): [hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in sorted(world.root.rglob("*"))
        if path.is_file()
    }
