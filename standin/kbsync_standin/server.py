"""The stand-in's server: it listens, converses with clients, and plays what goes wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator

import h11

from kbsync_standin.application import Application
from kbsync_standin.control import Control, is_control
from kbsync_standin.exchange import Desk, Exchange
from kbsync_standin.faults import Faults
from kbsync_standin.late import LateWork
from kbsync_standin.messages import Request, Response
from kbsync_standin.outbox import Outbox
from kbsync_standin.requests import Requests
from kbsync_standin.wire import CHUNK_BYTES, Gone, TooLarge, Wire

PATIENCE_SECONDS = 10.0


class Server:
    """Serves one application on one address.

    `port` 0 takes a free one, which is kept when the server is started again. `latency` is seconds added
    to each answer. The application is called in the loop's thread only, one request at a time.
    """

    def __init__(
        self, app: Application, host: str = "127.0.0.1", port: int = 0, latency: float = 0.0
    ) -> None:
        self.app = app
        self.host = host
        self.port = port
        self.faults = Faults(app.kinds)
        self.requests = Requests()
        self._late = LateWork(app.clock)
        self._desk = Desk(app, self.faults, self._late, latency)
        self._control = Control(app, self.faults, self.requests, self._late)
        self.outbox = Outbox(getattr(app, "letters", []), self._late, app.clock)
        self._listener: asyncio.Server | None = None
        self._beside: asyncio.AbstractEventLoop | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address is taken."""
        self._listener = await asyncio.start_server(
            self._welcome, self.host, self.port, limit=CHUNK_BYTES, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break off every connection, hanging ones too, and listen no more. Repeatable."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        listener.close()
        self._late.clear()
        self.outbox.stop()
        for task, writer in self._open.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await listener.wait_closed()

    def advance(self, seconds: float) -> None:
        """Move the stand-in's clock, and do the late work that becomes due."""
        if self._beside is None:
            self._advance(seconds)
        else:
            _wait_in(self._beside, self._advance_there(seconds))

    def _advance(self, seconds: float) -> None:
        self.app.clock.advance(seconds)
        self._late.catch_up()

    async def _advance_there(self, seconds: float) -> None:
        self._advance(seconds)

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Server]:
        """Serve from a thread of its own, for synchronous tests.

        Meanwhile `faults`, `url` and `advance` may be used; the application is better asked by way of
        the control API, since it may be at work.
        """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="standin", daemon=True)
        thread.start()
        try:
            _wait_in(loop, self.start())
            self._beside = loop
            try:
                yield self
            finally:
                self._beside = None
                _wait_in(loop, self.stop())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._listener is None:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._converse(Wire(reader, writer)))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _converse(self, wire: Wire) -> None:
        """Answer one connection's requests until it ends."""
        try:
            while await self._one(wire):
                pass
        except (OSError, Gone):
            pass
        except Exception as error:
            self._desk.broke_down(error)
        finally:
            await wire.close()

    async def _one(self, wire: Wire) -> bool:
        """Answer one request; True when another may follow."""
        try:
            head = await wire.head()
            if head is None:
                return False
            return await (self._steer(wire, head) if is_control(head.path) else self._serve(wire, head))
        except h11.RemoteProtocolError as error:
            await self._refuse(wire, error.error_status_hint, f"this is no HTTP that can be read: {error}")
            return False

    async def _serve(self, wire: Wire, head: Request) -> bool:
        self._late.catch_up()
        entry = self.requests.begin(self._desk.op(head), head.method, head.path)
        exchange = Exchange(self._desk, wire, head, entry)
        try:
            goes_on = await exchange.run()
        finally:
            self.outbox.empty()
            self.requests.end()
        return goes_on and await exchange.stays_open()

    async def _steer(self, wire: Wire, head: Request) -> bool:
        self._late.catch_up()
        try:
            body = await wire.read()
        except TooLarge:
            await self._refuse(wire, 413, "this is too large")
            return False
        response = self._control.answer(head.with_body(body))
        self.outbox.empty()  # what others do is told as well
        await wire.write(*wire.rendered(response, self._desk.date()))
        return wire.goes_on()

    async def _refuse(self, wire: Wire, status: int, sentence: str) -> None:
        refusal = Response.json({"error": sentence}, status).having(connection="close")
        with contextlib.suppress(h11.LocalProtocolError):
            await wire.write(*wire.rendered(refusal, self._desk.date()))


def _wait_in(loop: asyncio.AbstractEventLoop, work: Coroutine[None, None, None]) -> None:
    """Do `work` in another thread's loop and wait for its end. Raises what it raises."""
    asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_SECONDS)
