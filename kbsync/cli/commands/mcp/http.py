"""Serves assistants over streamable HTTP, on the daemon's listener and for `kbsync mcp --http`.

`server/auth` checks access first.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kbsync.cli.commands.mcp.command import assistant_app
from kbsync.cli.commands.mcp.invalid_messages import response_to_invalid
from kbsync.config.kinds import Address, RefusedValue
from kbsync.config.model import LISTENER_TOKEN, Config, HttpConfig
from kbsync.config.secrets import Secret
from kbsync.config.target import is_loopback
from kbsync.core.text import replace_surrogates
from kbsync.dataclass import dataclass
from kbsync.engine.clock import run_in_loop
from kbsync.errors import UsageError
from kbsync.search import OpenMirrors
from kbsync.server.auth import ASSISTANTS, AccessControl
from kbsync.server.listener import ServerThread, bind_sockets
from kbsync.server.responses import body_of, json_answer

TOKEN = "KBSYNC_MCP_TOKEN"  # noqa: S105 (the name of a variable)
MAX_BODY_BYTES = 256 * 1024
BODY_SECONDS = 10.0


class AssistantApp:
    """Serves all POST requests in the event loop in which the first one arrives."""

    def __init__(self, server: Server[Any]) -> None:
        # Without sessions: a client that never returns leaves nothing behind, and nobody can hijack one.
        self._manager = StreamableHTTPSessionManager(
            server, stateless=True, max_request_body_size=MAX_BODY_BYTES
        )
        self._is_up = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises `HTTPException`."""
        # The server never pushes messages, so a stream waiting for them would only occupy a connection.
        if scope["method"] != "POST":
            raise HTTPException(405, "only POST is allowed", {"allow": "POST"})
        request = Request(scope, receive)
        body = await body_of(request, MAX_BODY_BYTES, BODY_SECONDS, too_large=413, too_late=408)
        text = replace_surrogates(body.decode("utf-8", "replace"))
        if (invalid := response_to_invalid(text)) is not None:
            await json_answer(invalid.model_dump(exclude_unset=True), 400)(scope, receive, send)
            return
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        await self._is_up.wait()
        messages: list[Message] = [{"type": "http.request", "body": text.encode(), "more_body": False}]

        async def receive_again() -> Message:
            # After the body, only a disconnect can follow.
            return messages.pop() if messages else await receive()

        await self._manager.handle_request(scope, receive_again, send)

    async def _run(self) -> None:
        async with self._manager.run():
            self._is_up.set()
            await asyncio.Event().wait()  # runs until the loop ends


@dataclass(frozen=True, slots=True)
class McpEndpoint:
    """The address that `kbsync mcp` listens on.

    `token`: the token that clients must currently send, or None.
    """

    http: HttpConfig
    token: Callable[[], Secret | None]

    @classmethod
    def at(cls, address: str, config: Callable[[], Config], environ: Mapping[str, str]) -> McpEndpoint:
        """Parse `address`.

        The token comes from the environment or, if it isn't there, from `http` in the config. `config`
        returns the current config, so that a removed token stops working. Raises `UsageError` for an invalid
        address or token, or if other machines would have access without a token.
        """
        try:
            listen = Address("host:port").read(address)
        except RefusedValue as error:
            raise UsageError(f"--http: {error}") from error
        named = environ.get(TOKEN)
        try:
            own_token = None if named is None else LISTENER_TOKEN.read(named)
        except RefusedValue as error:
            raise UsageError(f"${TOKEN}: {error}") from error

        def token() -> Secret | None:
            http = config().http
            return own_token or (None if http is None else http.token)

        endpoint = cls(HttpConfig(listen), token)
        if token() is None and endpoint.is_reached_by_others:
            raise UsageError(
                f"--http {listen} can be reached from other machines, so it needs a token: set ${TOKEN}, "
                "or http.token in the config, or listen on 127.0.0.1"
            )
        http = config().http
        if http is not None and http.listen == listen:
            raise UsageError(f"--http {listen} is http.listen in the config, too; choose another port")
        return endpoint

    @property
    def url(self) -> str:
        """The URL to which clients connect."""
        return f"http://{self.http.listen}{ASSISTANTS}"

    @property
    def is_reached_by_others(self) -> bool:
        """Whether other machines can connect. If they can, a token is required."""
        return not is_loopback(self.http.host)

    def guarded(self, app: ASGIApp) -> AccessControl:
        """Return the application wrapped in the access checks."""
        served = Starlette(routes=[Route(ASSISTANTS, app)])
        return AccessControl(served, self.token, needs_token=self.is_reached_by_others)

    def listen(self) -> Sequence[socket.socket]:
        """Open the sockets. Raises `UsageError`."""
        try:
            return bind_sockets(self.http.host, self.http.port)
        except UsageError as error:
            raise UsageError(str(error).replace("http.listen", "--http", 1)) from error


async def answer_http(
    open_mirrors: OpenMirrors, endpoint: McpEndpoint, sockets: Sequence[socket.socket]
) -> None:
    """Serve requests until canceled."""
    app = assistant_app(open_mirrors, partial(run_in_loop, asyncio.get_running_loop()))
    thread = ServerThread(endpoint.guarded(app), sockets)
    try:
        await asyncio.to_thread(thread.start)
        await asyncio.to_thread(thread.wait)
    finally:
        await asyncio.to_thread(thread.stop)
