"""The server over streamable HTTP, and who may reach it.

A page in a browser must not reach it: one that names this machine by a name of its own (DNS rebinding) is
known by its `Host`, any other by its `Origin`. Who is on another machine needs the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kbsync.cli.commands.mcp.surrogates import mend_surrogates
from kbsync.config.kinds import Address, RefusedValue, Whereabouts
from kbsync.config.model import Config, HttpConfig
from kbsync.config.secrets import Secret
from kbsync.config.target import is_loopback
from kbsync.errors import UsageError
from kbsync.server.auth import host_of, shows_token
from kbsync.server.listener import LARGEST_HEAD, MOST_CONNECTIONS, TimeoutProtocol, bind_sockets

PATH = "/mcp"
TOKEN = "KBSYNC_MCP_TOKEN"  # noqa: S105 (the name of a variable)
LARGEST_BODY = 256 * 1024
BODY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class McpEndpoint:
    """Where to listen, and what to show there. `token`: the one of now; None where there is none."""

    http: HttpConfig
    token: Callable[[], Secret | None]

    @property
    def url(self) -> str:
        """What a client is given."""
        return f"http://{self.http.listen}{PATH}"

    @property
    def is_reached_by_others(self) -> bool:
        """Other machines can ask, and then only with a token."""
        return not is_loopback(self.http.host)


def endpoint_at(address: str, config: Callable[[], Config], environ: Mapping[str, str]) -> McpEndpoint:
    """Where `address` says. Its token is that of the environment, else that of the `http` of `config`.

    `config` gives the one of now: a token that is no longer in it lets nobody in. Raises `UsageError`:
    no address, a bad token, or none where other machines can ask.
    """
    try:
        listen = Address("host:port").read(address, Whereabouts(Path(), None))
    except RefusedValue as error:
        raise UsageError(f"--http: {error}") from error
    given = environ.get(TOKEN)
    if given is not None and re.fullmatch(r"[\x21-\x7e]{16,}", given) is None:
        raise UsageError(f"${TOKEN} is no token: write at least 16 characters without spaces")

    def token() -> Secret | None:
        http = config().http
        return Secret(given) if given is not None else None if http is None else http.token

    endpoint = McpEndpoint(HttpConfig(listen), token)
    if token() is None and endpoint.is_reached_by_others:
        raise UsageError(
            f"--http {listen} can be reached from other machines, which need a token: put one into "
            f"${TOKEN} or into http.token of the config, or listen on 127.0.0.1"
        )
    return endpoint


class AccessCheck:
    """Lets requests in, and no others. One per connection: a client that sends nothing more holds none."""

    def __init__(self, app: ASGIApp, endpoint: McpEndpoint) -> None:
        self._app, self._endpoint = app, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and end of the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message["headers"] if pair[0].lower() != b"connection"]
                message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        answer = self._refused(scope)
        if answer is None:
            body = await _read_body(receive)
            if isinstance(body, bytes):
                await self._app(scope, _replay(body, receive), send_and_close)
                return
            answer = body
        if answer is not None:
            await answer(scope, receive, send_and_close)

    def _refused(self, scope: Scope) -> ASGIApp | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin, token = headers.get("host", ""), headers.get("origin"), self._endpoint.token()
        needs_token = token is not None or self._endpoint.is_reached_by_others
        # Who knows the token may come by any name.
        if not needs_token and not is_loopback(host_of(host)):
            return _refusal(403, "this server answers to names of this machine only")
        if origin is not None:
            named = origin.partition("://")[2]
            if named != host and not is_loopback(host_of(named)):
                return _refusal(403, "the request comes from a page of another site")
        shown = headers.get("authorization", "")
        if needs_token and (token is None or not shows_token(shown, token)):
            return PlainTextResponse(
                f"a token is needed: ${TOKEN}, or http.token in the config\n",
                401,
                {"www-authenticate": 'Bearer realm="kbsync"'},
            )
        # Nothing is ever sent unasked, so a stream that waits for that would only hold a connection.
        if scope["path"] == PATH and scope["method"] != "POST":
            return PlainTextResponse("only POST is answered\n", 405, {"allow": "POST"})
        return None


async def _read_body(receive: Receive) -> bytes | ASGIApp | None:
    """The whole body, the answer to one that is too large or too slow, or None where the client has gone."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    return _refusal(413, f"a request may have {LARGEST_BODY // 1024} KiB")
                if not message.get("more_body", False):
                    return mend_surrogates(body.decode("utf-8", "replace")).encode()
    except TimeoutError:
        return _refusal(408, f"the request was not sent within {BODY_SECONDS:.0f} s")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives this body; after that only the end of the connection can come."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _refusal(code: int, why: str) -> PlainTextResponse:
    return PlainTextResponse(f"{why}\n", code)


class _Server(uvicorn.Server):
    """Leaves signals to the command."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Captures none."""
        return contextlib.nullcontext()


def listening(endpoint: McpEndpoint) -> Sequence[socket.socket]:
    """The sockets to answer on. Raises `UsageError`."""
    try:
        return bind_sockets(endpoint.http.host, endpoint.http.port)
    except UsageError as error:
        raise UsageError(str(error).replace("http.listen", "--http", 1)) from error


async def answer_http(server: Server[Any], endpoint: McpEndpoint, sockets: Sequence[socket.socket]) -> None:
    """Answer until cancelled."""
    # No sessions: nothing is kept for a client that never comes back, and none can be taken over.
    app = server.streamable_http_app(
        streamable_http_path=PATH, stateless_http=True, max_request_body_size=LARGEST_BODY, host=""
    )
    uvicorn_server = _Server(
        uvicorn.Config(
            AccessCheck(app, endpoint),
            http=TimeoutProtocol,
            ws="none",
            loop="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=LARGEST_HEAD,
        )
    )
    await uvicorn_server.serve(list(sockets))
