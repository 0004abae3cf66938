"""Runs the stand-in's server: it listens and passes requests to the service's application."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from kbsync_standin.application import Application
from kbsync_standin.control import Asgi, control, is_control
from kbsync_standin.exchange import Exchange, Gone, Receive, Send, request_of
from kbsync_standin.faults import Fault, Faults
from kbsync_standin.late import LateWork, Outbox
from kbsync_standin.line import Conversation, Line
from kbsync_standin.messages import Request, Response

HOST = "127.0.0.1"
PATIENCE_SECONDS = 10.0
LOGGED = 1000
MAX_HEAD_BYTES = 64 << 10
NEVER = 1_000_000  # seconds until an idle connection is closed

Answer = TypeVar("Answer")


@dataclass(slots=True)
class LogEntry:
    """One request. `status` is 0 until a response begins; `fault` is the kind of the injected fault."""

    n: int
    op: str
    method: str
    path: str
    subject: str = ""
    status: int = 0
    fault: str = ""


class Requests:
    """The log of requests to the service: their number, and the latest ones."""

    def __init__(self) -> None:
        self.total = 0
        self.by_op: Counter[str] = Counter()
        self.in_flight = 0
        self.in_flight_max = 0
        self.log: deque[LogEntry] = deque(maxlen=LOGGED)
        self._number = 0

    def begin(self, op: str, method: str, path: str) -> LogEntry:
        """Log a request whose headers were read, and return its entry to fill in. Numbers are never
        reused.
        """
        self._number += 1
        self.total += 1
        self.by_op[op] += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        entry = LogEntry(self._number, op, method, path)
        self.log.append(entry)
        return entry

    def end(self) -> None:
        """Note that a response or its connection has ended."""
        self.in_flight -= 1

    def clear(self) -> None:
        """Reset the counts; requests in flight continue."""
        self.total = 0
        self.by_op.clear()
        self.log.clear()
        self.in_flight_max = self.in_flight

    def snapshot(self) -> dict[str, Any]:
        """Return the counts and the log as values for JSON."""
        return {
            "total": self.total,
            "by_op": dict(self.by_op),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "log": [asdict(entry) for entry in self.log],
        }


class Server:
    """Serves one service's application on this machine only.

    `port` 0 takes a free port and keeps it after a restart of the server. `latency` is in seconds and delays
    each response. The application is called only in the loop's thread, one request at a time.
    """

    def __init__(self, app: Application[Any, Any], port: int = 0, latency: float = 0.0) -> None:
        self.app = app
        self.host = HOST
        self.port = port
        self.latency = latency
        self.faults = Faults(app.kinds)
        self.requests = Requests()
        self.late = LateWork(app.clock)
        self.outbox = Outbox(app.letters, self.late, app.clock)
        self._config = Config(
            self._asgi,
            http=H11Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,  # the process's logging belongs to its tests
            proxy_headers=False,
            # Closing an idle connection is a fault that a test injects, so no timeout does it.
            timeout_keep_alive=NEVER,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        self._state = ServerState()
        self._listener: asyncio.Server | None = None
        self._other_loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises `OSError` if the address is in use."""
        loop = asyncio.get_running_loop()
        # Don't use `uvicorn.Server`: it takes over signals and checks for them ten times a second.
        self._listener = await loop.create_server(
            lambda: Conversation(self._config, self._state, loop), self.host, self.port, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break off every connection, hanging ones too, and stop listening. May be called twice."""
        if self._listener is None:
            return
        # Stop listening first, so that nobody connects meanwhile.
        listener, self._listener = self._listener, None
        listener.close()
        self.late.clear()
        self.outbox.stop()
        for _ in range(3):
            await asyncio.sleep(0)  # a connection that is being accepted joins those below
        for connection in list(self._state.connections):
            connection.line.abort()  # type: ignore[union-attr]
        for task in self._state.tasks:
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        await listener.wait_closed()
        await asyncio.sleep(0)  # aborted connections release their sockets in the loop's next turn

    def advance(self, seconds: float) -> None:
        """Advance the stand-in's clock and do the delayed work that becomes due."""

        async def advance() -> None:
            self.advance_here(seconds)

        if self._other_loop is not None:
            _wait_in(self._other_loop, advance())
        else:
            self.advance_here(seconds)

    def advance_here(self, seconds: float) -> None:
        """Do so in the loop's own thread."""
        self.app.clock.advance(seconds)
        self.late.catch_up()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Server]:
        """Serve from a separate thread, for synchronous tests.

        Inside, `faults`, `url` and `advance` are safe to use. Reach the application through the control API,
        since it may be handling a request.
        """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="standin", daemon=True)
        thread.start()
        try:
            _wait_in(loop, self.start())
            self._other_loop = loop
            try:
                yield self
            finally:
                self._other_loop = None
                _wait_in(loop, self.stop())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    @cached_property
    def _control(self) -> Asgi:
        """The control API, built on first use: most tests never need it."""
        return control(self)

    # -- one request

    async def _asgi(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request; uvicorn calls this."""
        line: Line = scope["state"]["line"]
        # Time may have passed the due time of work that no timer watches.
        self.late.catch_up()
        try:
            if is_control(scope["path"]):
                await self._control(scope, receive, send)
                self.outbox.empty()  # changes by other users send letters too
            else:
                await self._serve(scope, receive, send, line)
        except Gone:
            pass
        except Exception as error:
            self._report_bug(error)
            line.close()

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send, line: Line) -> None:
        head = request_of(scope)
        entry = self.requests.begin(self._call_app(lambda: self.app.op(head), ""), head.method, head.path)
        exchange = Exchange(self, line, head, entry, receive, send)
        try:
            await exchange.run()
        finally:
            # A request can cause callbacks, whether it got a response or not.
            self.outbox.empty()
            self.requests.end()
        await exchange.stay_open()

    def subject(self, request: Request) -> str:
        """Return the subject of the request."""
        return self._call_app(lambda: self.app.subject(request), "")

    def subject_of_beginning(self, request: Request) -> str:
        """Return the subject of a request with an incomplete body; "" if it isn't known yet."""
        try:
            return self.app.subject(request)
        except Exception:
            return ""

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """Return the application's response, or 500 if the application fails."""
        broken = Response.json({"message": "the stand-in failed; see its terminal"}, 500)
        return self._call_app(lambda: self.app.answer(request, fault), broken)

    def _call_app(self, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        try:
            return question()
        except Exception as error:
            self._report_bug(error)
            return otherwise

    def _report_bug(self, error: Exception) -> None:
        """Report a bug of the stand-in, on the terminal and among the violations."""
        traceback.print_exception(error, file=sys.stderr)
        self.app.violations.append(f"the stand-in itself failed: {error!r}")


def _wait_in(loop: asyncio.AbstractEventLoop, work: Coroutine[None, None, None]) -> None:
    """Run `work` in another thread's loop and wait for it. Raises its exceptions."""
    asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_SECONDS)
