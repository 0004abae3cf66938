"""Runs the stand-in's server: listens, and passes requests to the vendor's application."""

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

PATIENCE_SECONDS = 10.0
LOGGED = 1000
MAX_HEAD_BYTES = 64 << 10
NEVER = 1_000_000  # seconds until an idle connection is closed

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Logged:
    """One request. `status` is 0 as long as (or where) no answer began; `fault` is the kind played."""

    n: int
    op: str
    method: str
    path: str
    subject: str = ""
    status: int = 0
    fault: str = ""


class Requests:
    """Records the requests to the vendor: their number, and the latest ones."""

    def __init__(self) -> None:
        self.total = 0
        self.by_op: Counter[str] = Counter()
        self.in_flight = 0
        self.in_flight_max = 0
        self.log: deque[Logged] = deque(maxlen=LOGGED)
        self._number = 0

    def begin(self, op: str, method: str, path: str) -> Logged:
        """A request's headers have been read: its entry, to be filled in. Numbers are never given twice."""
        self._number += 1
        self.total += 1
        self.by_op[op] += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        entry = Logged(self._number, op, method, path)
        self.log.append(entry)
        return entry

    def end(self) -> None:
        """A request's answer has ended, or its connection has."""
        self.in_flight -= 1

    def clear(self) -> None:
        """Reset the counts; requests in flight continue."""
        self.total = 0
        self.by_op.clear()
        self.log.clear()
        self.in_flight_max = self.in_flight

    def snapshot(self) -> dict[str, Any]:
        """The counts and the log, for JSON."""
        return {
            "total": self.total,
            "by_op": dict(self.by_op),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "log": [asdict(entry) for entry in self.log],
        }


class Server:
    """Serves one vendor's side on one address.

    `port` 0 takes a free one, which is kept when the server is started again. `latency` is seconds added
    to each answer. The vendor's side is called in the loop's thread only, one request at a time.
    """

    def __init__(
        self, app: Application[Any, Any], host: str = "127.0.0.1", port: int = 0, latency: float = 0.0
    ) -> None:
        self.app = app
        self.host = host
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
            log_config=None,  # the logging of the process belongs to the tests in it
            proxy_headers=False,
            # An idle connection that is closed is a fault to be asked for, not one that time brings.
            timeout_keep_alive=NEVER,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        self._state = ServerState()
        self._listener: asyncio.Server | None = None
        self._beside: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises `OSError` when the address is taken."""
        loop = asyncio.get_running_loop()
        # Without `uvicorn.Server`, which would take the signals and look at them ten times a second.
        self._listener = await loop.create_server(
            lambda: Conversation(self._config, self._state, loop), self.host, self.port, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break off every connection, hanging ones too, and listen no more. Repeatable."""
        if self._listener is None:
            return
        # First, so that nobody connects while the others are let go.
        listener, self._listener = self._listener, None
        listener.close()
        self.late.clear()
        self.outbox.stop()
        for _ in range(3):
            await asyncio.sleep(0)  # a connection that was being accepted becomes one of those below
        for connection in list(self._state.connections):
            connection.line.abort()  # type: ignore[union-attr]
        for task in self._state.tasks:
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        await listener.wait_closed()
        await asyncio.sleep(0)  # what was broken off lets go of its socket in the loop's next turn

    def advance(self, seconds: float) -> None:
        """Move the stand-in's clock, and do the late work that becomes due."""

        async def advance() -> None:
            self.app.clock.advance(seconds)
            self.late.catch_up()

        if self._beside is not None:
            _wait_in(self._beside, advance())
        else:
            self.app.clock.advance(seconds)
            self.late.catch_up()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Server]:
        """Serve from a thread of its own, for synchronous tests.

        Meanwhile `faults`, `url` and `advance` may be used; the vendor's side is better asked by way of
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

    @cached_property
    def _control(self) -> Asgi:
        """Made when somebody asks for it: most servers of tests never are."""
        return control(self)

    # -- one request

    async def _asgi(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request; uvicorn calls this."""
        line: Line = scope["state"]["line"]
        # Time may have been advanced past work that no timer knew of.
        self.late.catch_up()
        try:
            if is_control(scope["path"]):
                await self._control(scope, receive, send)
                self.outbox.empty()  # what others do is told as well
            else:
                await self._serve(scope, receive, send, line)
        except Gone:
            pass
        except Exception as error:
            self._broke_down(error)
            line.close()

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send, line: Line) -> None:
        head = request_of(scope)
        entry = self.requests.begin(self._asked(lambda: self.app.op(head), ""), head.method, head.path)
        exchange = Exchange(self, line, head, entry, receive, send)
        try:
            await exchange.run()
        finally:
            # Callbacks are due by what the request did, answered or not.
            self.outbox.empty()
            self.requests.end()
        await exchange.stay_open()

    def subject(self, request: Request) -> str:
        """What the request is about."""
        return self._asked(lambda: self.app.subject(request), "")

    def subject_of_beginning(self, request: Request) -> str:
        """What a request is about whose body is cut off; "" where that cannot be made out."""
        try:
            return self.app.subject(request)
        except Exception:
            return ""

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """The vendor's answer, 500 where its side broke down."""
        broken = Response.json({"message": "the stand-in broke down; its terminal says where"}, 500)
        return self._asked(lambda: self.app.answer(request, fault), broken)

    def _asked(self, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        try:
            return question()
        except Exception as error:
            self._broke_down(error)
            return otherwise

    def _broke_down(self, error: Exception) -> None:
        """Show a mistake of the stand-in's own: on the terminal, and among the violations."""
        traceback.print_exception(error, file=sys.stderr)
        self.app.violations.append(f"the stand-in itself broke down: {error!r}")


def _wait_in(loop: asyncio.AbstractEventLoop, work: Coroutine[None, None, None]) -> None:
    """Do `work` in another thread's loop and wait for its end. Raises what it raises."""
    asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_SECONDS)
