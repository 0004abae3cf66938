"""Connects to a service: URL, rate limits, trusted certificates, proxies and connection pool."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import http.cookiejar
import ipaddress
import logging
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import field
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import httpx

from kbsync import __version__
from kbsync.config.target import is_loopback
from kbsync.dataclass import dataclass
from kbsync.errors import UsageError, system_reason

SLOW_LINE = 50_000
"""Assumed minimum speed of a connection, in bytes per second."""

KEEP_ALIVE = 4.0
"""Seconds to keep an idle connection: less than the 5 s after which common servers close theirs."""

NO_AUTH = httpx.Auth()
"""Prevents httpx from using a username and password in a URL as credentials."""

for _name in ("httpx", "httpcore"):  # these libraries log headers, and URLs with their queries
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds.

    `read` and `write` limit each wait for bytes. `whole` limits the time from when a request gets its slot to
    its response. An upload gets additional time, because of its size on a slow connection and because of our
    own byte rate limit.
    """

    connect: float = 10.0
    write: float = 30.0
    read: float = 60.0
    whole: float = 120.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A target's URL, without a trailing slash, and its rate limits; 0 means no limit.

    `concurrency`: the maximum number of requests in flight. `is_first`: for `requests_per_minute`, assume
    that no request was sent in the last minute. `ca_file`: certificates to trust in addition to the usual
    ones. `proxy`: None means to use `HTTPS_PROXY`, `NO_PROXY` and the like from the environment (see
    `is_direct`).
    """

    base_url: str
    concurrency: int = 4
    requests_per_minute: int = 0
    upload_bytes_per_second: int = 0
    is_first: bool = False
    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    timeouts: Timeouts = Timeouts()


def origin(endpoint: Endpoint) -> httpx.URL:
    """Return the base URL. Raises `UsageError` unless it is http or https."""
    try:
        url = httpx.URL(endpoint.base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("base_url must begin with http:// or https://")
    if url.query or url.fragment:
        raise UsageError("base_url has a ? or #; remove it and everything after it")
    return url


def is_same_origin(left_url: httpx.URL, other: httpx.URL) -> bool:
    """Return whether the two URLs have the same scheme, host and port."""
    ports = {"http": 80, "https": 443}
    first, second = ((url.scheme, url.host, url.port or ports.get(url.scheme)) for url in (left_url, other))
    return first == second


def trusted(endpoint: Endpoint) -> ssl.SSLContext:
    """Return the certificate authorities to trust.

    Raises `UsageError` if `ca_file`, or `SSL_CERT_FILE` from the environment, contains none.
    """
    if endpoint.ca_file is None:
        return _usual_authorities()
    context = _read_usual_authorities()
    try:
        context.load_verify_locations(endpoint.ca_file)
    except OSError as error:
        raise UsageError(f"ca_file {endpoint.ca_file}: {_certificate_problem(error)}") from None
    return context


def _read_usual_authorities() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        if file := os.environ.get("SSL_CERT_FILE"):
            problem = f"SSL_CERT_FILE in the environment is {file}: {_certificate_problem(error)}"
            raise UsageError(f"{problem}; correct or unset it") from None
        raise


_usual_authorities = cache(_read_usual_authorities)  # reading them takes about 40 ms


def _certificate_problem(error: OSError) -> str:
    return "no certificates in PEM form" if isinstance(error, ssl.SSLError) else system_reason(error)


class UnusableProxyError(httpx.ProxyError):
    """The environment specifies a proxy that kbsync can't use. `str()` says what to do."""


def proxy_host(endpoint: Endpoint, trust: ssl.SSLContext) -> str:
    """Return the host and port of the proxy for this target, without its secrets, or "" if no proxy is
    needed.

    Raises `UsageError` if the proxy in the config can't be used, or `UnusableProxyError` if the one in the
    environment can't.
    """
    proxy = _proxy(endpoint, origin(endpoint), trust)
    return proxy.url.netloc.decode("ascii") if proxy is not None else ""


def _proxy(endpoint: Endpoint, url: httpx.URL, trust: ssl.SSLContext) -> httpx.Proxy | None:
    """Return the proxy for `url`, from the config or otherwise from the environment.

    Raises the same errors as `proxy_host`.
    """
    variable, address = "", endpoint.proxy
    if not address:
        proxies = getproxies()  # HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY
        key = next((key for key in (url.scheme, "all") if proxies.get(key)), "")
        if not key or is_direct(url, proxies.get("no", "")):
            return None
        variable, address = f"{key.upper()}_PROXY", proxies[key]
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or proxy.url.scheme not in ("http", "https") or not proxy.url.host:
        if not variable:
            raise UsageError("the proxy cannot be used: its URL must begin with http:// or https://")
        is_socks = address.lower().startswith("socks")
        problem = "is set to a SOCKS proxy, which kbsync cannot use" if is_socks else "is not a proxy's URL"
        raise UnusableProxyError(
            f"{variable} {problem}; set proxy in the config to an http or https proxy, or add {url.host} to "
            "NO_PROXY"
        )
    if proxy.url.scheme == "https":
        proxy.ssl_context = trust
    return proxy


def is_direct(url: httpx.URL, no_proxy: str) -> bool:
    """Return whether the environment sets no proxy for `url`, because that is this machine or `no_proxy`
    lists its host.

    Each entry is a name, which includes all names below it (`.corp.example`, `*.corp.example`), an address, a
    range of addresses (`10.0.0.0/8`), or `*`. With a port (`kb:8080`), it applies only to that port. Names
    aren't resolved.
    """
    host, port = url.host.lower().rstrip("."), url.port or {"http": 80, "https": 443}.get(url.scheme)
    if is_loopback(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in re.split(r"[\s,]+", no_proxy.strip().lower()):
        name, entry_port = _host_and_port(entry)
        if not name or entry_port not in ("", str(port)):
            continue
        if name == "*" or ("*" in name and fnmatch.fnmatchcase(host, name)):
            return True
        if address is None:
            domain = name.lstrip("*").strip(".")
            if host == domain or host.endswith(f".{domain}"):
                return True
            continue
        with contextlib.suppress(ValueError):  # a name, not a range
            if address in ipaddress.ip_network(name, strict=False):
                return True
    return False


def _host_and_port(entry: str) -> tuple[str, str]:
    """Split an entry such as `[::1]:80`, `::1`, `10.0.0.0/8` or `kb:8080` into host and port.

    A missing port is "".
    """
    if match := re.fullmatch(r"\[([^\]]*)\](?::([0-9]+))?", entry):
        return match[1], match[2] or ""
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""


class _NoJar(http.cookiejar.CookieJar):
    """A cookie jar that stores nothing, because no service needs cookies."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Ignore the cookies."""


class _Connections(httpx.AsyncBaseTransport):
    """Gives each request its own connection, and keeps it open for the next request to the same origin.

    The gate limits their number (limits.py). A shared httpcore pool checks every connection several times per
    request: a small upload took 1.5 ms of CPU instead of 0.9 with 4 at a time, 2.5 instead of 1.4 with 16. It
    also loses a slot if a request is canceled at a bad moment (encode/httpcore#1093, 1.0.9); here, the
    connection is dropped.
    """

    def __init__(self, endpoint: Endpoint, trust: ssl.SSLContext) -> None:
        self._endpoint, self._trust = endpoint, trust
        self._free: dict[tuple[str, str, int | None], list[httpx.AsyncHTTPTransport]] = {}
        self._freed_at = 0.0
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request, and return the response before its body is read.

        The caller must close the response's stream.
        """
        url = request.url
        free = self._free.setdefault((url.scheme, url.host, url.port), [])
        connection = free.pop() if free else self._open_connection(url)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await connection.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Returning(response.stream, connection, partial(self._give_back, free, connection))
        return response

    async def aclose(self) -> None:
        """Close all connections. Those that are in use are closed when their responses are."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        await asyncio.gather(*self._closing, *map(_close, self._take_idle()))

    def _open_connection(self, url: httpx.URL) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_ALIVE)
        proxy = _proxy(self._endpoint, url, self._trust)
        return httpx.AsyncHTTPTransport(verify=self._trust, proxy=proxy, limits=limits)

    def _give_back(self, free: list[httpx.AsyncHTTPTransport], connection: httpx.AsyncHTTPTransport) -> bool:
        if not self._is_closed:
            loop = asyncio.get_running_loop()
            free.append(connection)
            self._freed_at = loop.time()
            self._sweep = self._sweep or loop.call_later(KEEP_ALIVE, self._close_idle)
        return not self._is_closed

    def _close_idle(self) -> None:
        """Close idle connections after a period of disuse.

        Otherwise, after the server closes its end, they would stay half open for as long as the program runs.
        The event loop calls this only while there is an idle connection (promise 4).
        """
        loop = asyncio.get_running_loop()
        self._sweep = None
        if loop.time() < self._freed_at + KEEP_ALIVE:
            self._sweep = loop.call_at(self._freed_at + KEEP_ALIVE, self._close_idle)
            return
        for connection in self._take_idle():
            task = loop.create_task(_close(connection))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _take_idle(self) -> list[httpx.AsyncHTTPTransport]:
        """Remove and return the idle connections."""
        connections = [connection for free in self._free.values() for connection in free]
        for free in self._free.values():
            free.clear()
        return connections


async def _close(connection: httpx.AsyncHTTPTransport) -> None:
    with contextlib.suppress(Exception):  # a connection that can't be closed is already broken
        await connection.aclose()


class _Returning(httpx.AsyncByteStream):
    """The stream of a response's bytes.

    When closed, it passes its connection to `give_back`, and closes the connection if that returns False.
    """

    def __init__(
        self,
        stream: httpx.AsyncByteStream,
        connection: httpx.AsyncHTTPTransport,
        give_back: Callable[[], bool],
    ) -> None:
        self._stream, self._connection, self._give_back = stream, connection, give_back

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        except BaseException:
            await self._connection.aclose()
            raise
        if not self._give_back():
            await self._connection.aclose()


def connections(
    endpoint: Endpoint, trust: ssl.SSLContext, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    """Return an httpx client whose only default header is our `User-Agent`. `transport` replaces the network.

    The client requests uncompressed bytes, because a compressed response of a few kB can unpack to gigabytes.
    """
    times = endpoint.timeouts
    return httpx.AsyncClient(
        headers={"User-Agent": f"kbsync/{__version__}", "Accept-Encoding": "identity"},
        cookies=_NoJar(),
        transport=transport or _Connections(endpoint, trust),
        timeout=httpx.Timeout(times.read, connect=times.connect, write=times.write),
        follow_redirects=False,  # httpx would take the key along
        trust_env=False,  # proxies are read above; a netrc file must not add credentials
    )
