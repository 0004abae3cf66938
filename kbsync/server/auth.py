"""Checks the host and the token of each request to the listener, and sets headers on every response."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kbsync.config.secrets import Secret
from kbsync.config.target import CALLBACK_PATH, is_loopback
from kbsync.server.responses import refusal

API = "/api/"
ASSETS = "/assets/"
ASSISTANTS = "/mcp"

OPEN = ("/healthz", CALLBACK_PATH)
"""Paths that need no token: the health check for load balancers, and paths that are themselves secrets."""

CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The page runs only its own script and connects only to this listener, and names and texts are never treated
as markup."""

_ALWAYS = (
    (b"connection", b"close"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", CONTENT_SECURITY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""One request per connection, so that no leftover bytes can be parsed as another request."""


class AccessControl:
    """Checks each request.

    `token` returns the current token. If that is None, only requests whose Host is this machine are allowed,
    or no requests at all if `needs_token` is set.
    """

    def __init__(
        self, app: ASGIApp, token: Callable[[], Secret | None], *, needs_token: bool = False
    ) -> None:
        self._app, self._token, self._needs_token = app, token, needs_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [pair for pair in message["headers"] if pair[0].lower() not in dict(_ALWAYS)]
                message = {**message, "headers": [*others, *_ALWAYS]}
            await send(message)

        app = self._refused(scope) or self._app
        await app(scope, receive, send_with_headers)

    def _refused(self, scope: Scope) -> ASGIApp | None:
        """Return the response that refuses the request, or None if the request is allowed."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path: str = scope["path"]
        if path.startswith(OPEN):
            return None
        is_api, token, host = path.startswith(API), self._token(), headers.get("host", "")
        # Allow requests from our page or typed by a user. An image on another page could start costly
        # searches.
        if is_api and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return refusal("the request comes from another site", 403)
        # A tool for assistants may have its own page on this machine. No other page may send requests here.
        origin = headers.get("origin") if path == ASSISTANTS else None
        named = "" if origin is None else origin.partition("://")[2]
        if origin is not None and named != host and not is_loopback(host_of(named)):
            return refusal("the request comes from another site's page", 403)
        if token is not None or self._needs_token:
            # The page itself contains no data; it requests what it shows.
            is_shell = path == "/" or path.startswith(ASSETS)
            if is_shell or (token and shows_token(headers.get("authorization", ""), token)):
                return None
            # With `Basic`, a browser would open its own dialog on top of the page.
            is_program = is_api or path == ASSISTANTS
            scheme = 'Bearer realm="kbsync"' if is_program else 'Basic realm="kbsync", charset="UTF-8"'
            why = "send the token, which is http.token in the config, or $KBSYNC_MCP_TOKEN for kbsync mcp\n"
            return PlainTextResponse(why, 401, {"www-authenticate": scheme})
        # A page that poses as this machine (DNS rebinding) sends its own host name.
        if is_loopback(host_of(host)):
            return None
        return PlainTextResponse("the Host header must contain one of this machine's own names\n", 403)


def shows_token(authorization: str, token: Secret) -> bool:
    """Return whether the request includes the token.

    The token may be a bearer token, or the password for any username, which is how browsers send it.
    """
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(value.strip().encode(), token.reveal().encode())


def host_of(authority: str) -> str:
    """Return the host in a `Host` header or in `listen`, without the port and brackets."""
    host, colon, port = authority.rpartition(":")
    return (host if colon and port.isdecimal() else authority).strip("[]").lower()
