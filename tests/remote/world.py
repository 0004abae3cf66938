"""A folder, a state, the real client and a service's stand-in over TCP, all on one clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, MutableMapping
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
from tests.targets.blocks import target_context


class Tapped(httpx.AsyncHTTPTransport):
    """The real connection to the server, which reports the progress of each request."""

    def __init__(self, world: RemoteWorld) -> None:
        super().__init__(verify=False)  # there is no TLS, and its certificates take long to read
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._world.report_boundary(f"{request.method} start")
        response = await super().handle_async_request(request)
        await response.aread()
        self._world.report_boundary(f"{request.method} answer")
        return response


class Offline(httpx.AsyncBaseTransport):
    """Passes requests to the server without TCP: two thirds of the CPU time."""

    def __init__(self, world: RemoteWorld) -> None:
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not str(request.url).startswith(f"{self._world.server.url}/"):
            raise httpx.ConnectError("nobody listens there", request=request)
        self._world.report_boundary(f"{request.method} start")
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = b"".join([piece async for piece in request.stream])
        answering = asyncio.ensure_future(respond_offline(self._world.server, request, body))
        self._world.answering.add(answering)  # the loop alone wouldn't keep it
        answering.add_done_callback(self._world.answering.discard)
        response = await asyncio.shield(answering)  # the server continues whatever happens to its client
        self._world.report_boundary(f"{request.method} answer")
        return response


class RemoteWorld(World):
    """The engine's world with a server instead of an in-memory base: Zhipu's unless another is named.

    `turn` sets switches of the stand-in; `server.faults` gets faults. `tolerated`: the end of a violation
    that doesn't count here. `is_offline`: requests take no TCP connection, so the server can't break any.
    """

    service: ClassVar[str] = "zhipu"

    def __init__(
        self, tmp_path: Path, *, vectorize: tuple[float, float] = (1.0, 3.0), **settings: Any
    ) -> None:
        super().__init__(tmp_path)
        clock = self.clock  # can be set, unlike the service's clock
        stand_in_clock = StandInClock(lambda: clock.epoch + clock.now)
        self.app = access.stand_in(self.service, 7, vectorize, stand_in_clock)
        self.server = Server(self.app)
        self.target_settings: dict[str, Any] = {"concurrency": 4, **settings}
        self.settings = MirrorSettings("docs", self.root, self.service)
        self.targets: list[Any] = []
        self.at_request: Callable[[str], None] | None = None
        self.guillotine: Guillotine | None = None
        self.is_offline = False
        self.answering: set[asyncio.Task[httpx.Response]] = set()
        self.foreign: set[str] = set()
        self.tolerated: str | None = None

    def config(self) -> Any:
        """Return the target's config block."""
        return access.config(self.app, self.server.url, **self.target_settings)

    def make_target(self, *, read_only: bool = False) -> Any:
        clock = self.clock
        target = access.client(self.service)(
            self.config(),
            target_context(prefix=self.settings.prefix, read_only=read_only),
            wall=clock.wall,
            steady=clock.steady,
            sleep=clock.sleep,
            chance=clock.chance,
            transport=self._transport(),
        )
        self.targets.append(target)
        return target

    def _transport(self) -> httpx.AsyncBaseTransport | None:
        if self.is_offline:
            return Offline(self)
        return Tapped(self) if self.at_request else None

    def report_boundary(self, name: str) -> None:
        """Report the beginning or end of a request."""
        if self.at_request is not None:
            self.at_request(name)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[RemoteWorld]:
        """Run the stand-in, also between passes, like a real service."""
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
        """Yield a separate client while the clock runs; closed at the end."""
        async with self.running(), aclosing(self.make_target(read_only=read_only)) as target:
            yield target

    def is_talking(self) -> bool:
        """Return whether a request is in progress, so that the clock waits for it."""
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

    async def ends_equal(self) -> None:
        await self.once()
        assert self.bytes_by_path(searchable=True) == sha_of_folder(self)

    async def verify(self) -> Verification:
        """Return the result of `kbsync verify`."""
        async with self.running(), aclosing(self.make_target(read_only=True)) as target:
            return await verified(self, target)

    async def repair(self) -> None:
        """Run `verify --repair`, and the pass that carries it out."""
        self.post_request("repair", **repair_request(await self.verify()))
        await self.once()

    @property
    def halted(self) -> str:
        """Why the mirror is halted; "" if it isn't."""
        return "" if self.run.halt is None else self.run.halt.reason

    def violations(self) -> list[str]:
        """Return the requests that broke the service's rules."""
        sentences = list(self.app.violations)
        return (
            sentences
            if self.tolerated is None
            else [sentence for sentence in sentences if not sentence.endswith(self.tolerated)]
        )

    def watch(self, ops: Collection[str], on_request: Callable[[str], None]) -> None:
        """Call `on_request` with the operation after each request of these operations has done its work."""
        respond = self.app.answer

        def watched(request: Request, fault: Fault | None) -> Response:
            response = respond(request, fault)
            if (op := self.app.op(request)) in ops:
                on_request(op)
            return response

        self.app.answer = watched  # type: ignore[method-assign]

    def target_version(self) -> Any:
        self.app.catch_up()
        return len(self.app._journal)

    def tap(self, guillotine: Guillotine | None) -> None:
        self.guillotine = guillotine
        self.at_request = None if guillotine is None else guillotine.boundary

    async def bury(self) -> None:
        """Close the connections of the dead process."""
        for target in self.targets:
            await target.aclose()
        self.targets.clear()

    # -- the service -----------------------------------------------------------------------------------

    def turn(self, **switches: Any) -> None:
        self.app.set_behaviour(switches)

    def play(self, kind: str, **fields: Any) -> None:
        self.server.faults.add(Fault(kind, **fields))

    def plant(self, name: str, text: str, **properties: Any) -> str:
        """Upload a document as another user and return its id. `properties`: others that the service
        keeps.
        """
        planted = str(self.app.put_foreign({"name": name, "text": text, **properties})["id"])
        self.foreign.add(planted)
        return planted

    def lose(self, path: str) -> None:
        """Delete our documents of a path as another user."""
        for document in self.documents_of(path):
            self.app.put_foreign({"delete": str(document["id"])})

    def keeps_foreign(self) -> bool:
        """Return whether other users' documents still exist."""
        return self.foreign <= {str(document["id"]) for document in self.documents()}

    def documents(self) -> list[dict[str, Any]]:
        """Return all current documents of the base."""
        return [document for document in self.app.snapshot()["documents"] if not document.get("deleted")]

    def bytes_by_path(self, *, searchable: bool = False) -> dict[str, list[str]]:
        """Return the SHA-256 of each of our documents, or of the searchable ones, by the path in its name."""
        results: dict[str, list[str]] = {}
        for document in self.documents():
            path = self.path_of(document)
            if path is not None and (not searchable or document["searchable"]):
                results.setdefault(path, []).append(document["sha256"])
        return results

    def documents_of(self, path: str) -> list[dict[str, Any]]:
        """Return our current documents of a path."""
        return [document for document in self.documents() if self.path_of(document) == path]

    def path_of(self, document: dict[str, Any]) -> str | None:
        """Return the path in its name under today's prefix; None for another user's document."""
        if str(document["id"]) in self.foreign:
            return None
        reading = Naming(self.settings.prefix, self.settings.names).read(document["sent_name"])
        return None if reading is None else reading.path

    def effects(self, effect: str) -> list[dict[str, Any]]:
        return [entry for entry in self.app.journal() if entry["effect"] == effect]

    def request_count(self, op: str = "") -> int:
        """Return the number of requests of one kind or in all."""
        by_op = self.server.requests.by_op
        return by_op.get(op, 0) if op else sum(by_op.values())


class _NoLine:
    """The server's end of no connection: a response is whole, or there is none."""

    together = contextlib.nullcontext

    def close(self) -> None:
        """Let the client get no response."""

    async def silence(self, seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return True


async def respond_offline(server: Server, request: httpx.Request, body: bytes) -> httpx.Response:
    """Return a server's response as if it had come over TCP."""
    arriving = [{"type": "http.request", "body": body, "more_body": False}]
    start, pieces = dict[str, Any](), list[bytes]()

    async def receive() -> dict[str, Any]:
        return arriving.pop() if arriving else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            pieces.append(message["body"])

    scope = {
        "type": "http",
        "method": request.method,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "state": {"line": _NoLine()},
    }
    await server._asgi(scope, receive, send)
    if not start:
        raise httpx.RemoteProtocolError("the connection was closed without a response", request=request)
    return httpx.Response(
        start["status"], headers=start["headers"], stream=httpx.ByteStream(b"".join(pieces))
    )


def sha_of_folder(world: World) -> dict[str, list[str]]:
    """Return what `bytes_by_path` must return."""
    return {
        str(path.relative_to(world.root)): [hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in sorted(world.root.rglob("*"))
        if path.is_file()
    }
