"""Where a target is reached, and how hard it may be asked.

Connections that carry one request at a time each, kept open for the next one.

How the connections are made: trust, proxies, no cookies, nothing followed by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.cookiejar
import importlib.util
import logging
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from kbsync import __version__
from kbsync.errors import UsageError

SLOW_LINE = 50_000
"""Bytes a second that a line is thought to carry at least."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `read` and `write` bound each wait for bytes, `whole` one request from its slot to its answer.

    An upload gets more than `whole`: by its size at a slow line's speed, and what our own limit on
    bytes a second makes it wait.
    """

    connect: float = 10.0
    write: float = 30.0
    read: float = 60.0
    pool: float = 60.0
    whole: float = 120.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A target's address, without trailing slash, and the limits of asking it; 0 means no limit of ours.

    `concurrency`: requests in flight, never more. `is_first`: nobody asked it in the last minute, as far as
    `requests_per_minute` goes. `ca_file`: certificates to trust besides the usual
    ones. `proxy`: None takes `HTTPS_PROXY`, `NO_PROXY` and the like from the environment.
    """

    base_url: str
    concurrency: int = 4
    requests_per_minute: int = 0
    upload_bytes_per_second: int = 0
    is_first: bool = False
    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    timeouts: Timeouts = Timeouts()


@dataclass(frozen=True, slots=True)
class _Idle:
    """A connection that nobody uses, since when by the loop's clock."""

    lane: httpx.AsyncBaseTransport
    since: float


class Lanes(httpx.AsyncBaseTransport):
    """Gives each request a connection of its own; there are as many as requests were in flight at once.

    `make` opens the way to an address. A connection that is unused for `idle` seconds is closed: it would
    stay half open after the server closed its end, for as long as the program runs. One pool for all would
    look at each of its connections several times a request (half of a small request's cost at 16 of them),
    and httpcore 1.0.9 loses a place of a pool when a request is cancelled at a bad moment
    (encode/httpcore#1093); here it is thrown away.
    """

    def __init__(self, make: Callable[[httpx.URL], httpx.AsyncBaseTransport], idle: float) -> None:
        self._make, self._idle = make, idle
        self._free: dict[tuple[str, str, int | None], list[_Idle]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx has it: the answer's head; its stream has to be closed."""
        url = request.url
        free = self._free.setdefault((url.scheme, url.host, url.port), [])
        lane = free.pop().lane if free else self._make(url)
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            await lane.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Held(response.stream, partial(self._give_back, free, lane), lane)
        return response

    async def aclose(self) -> None:
        """Let go of the connections; those in use are closed when their answers are."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        await asyncio.gather(*self._closing)
        for free in self._free.values():
            while free:
                await free.pop().lane.aclose()

    def _give_back(self, free: list[_Idle], lane: httpx.AsyncBaseTransport) -> bool:
        if not self._is_closed:
            loop = asyncio.get_running_loop()
            free.append(_Idle(lane, loop.time()))
            self._sweep = self._sweep or loop.call_later(self._idle, self._sweep_idle)
        return not self._is_closed

    def _sweep_idle(self) -> None:
        """Called by the loop as long as connections are free, and never once none is (promise 4)."""
        loop = asyncio.get_running_loop()
        now, oldest = loop.time(), float("inf")
        for free in self._free.values():
            stale = [one.lane for one in free if one.since + self._idle <= now]
            free[:] = [one for one in free if one.since + self._idle > now]
            oldest = min([oldest, *(one.since for one in free)])
            for lane in stale:
                task = loop.create_task(_close(lane))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        self._sweep = None if oldest == float("inf") else loop.call_at(oldest + self._idle, self._sweep_idle)


async def _close(lane: httpx.AsyncBaseTransport) -> None:
    with contextlib.suppress(Exception):  # nobody waits for it, and what cannot be closed is broken already
        await lane.aclose()


class _Held(httpx.AsyncByteStream):
    """An answer's bytes, with the lane they come by."""

    def __init__(
        self, stream: httpx.AsyncByteStream, give_back: Callable[[], bool], lane: httpx.AsyncBaseTransport
    ) -> None:
        self._stream, self._give_back, self._lane = stream, give_back, lane

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        except BaseException:
            await self._lane.aclose()
            raise
        if not self._give_back():
            await self._lane.aclose()


KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept: less than the 5 s after which common servers close theirs."""

NO_AUTH = httpx.Auth()
"""Keeps httpx from making credentials of a name and password in an address."""

for _name in ("httpx", "httpcore"):  # they log addresses with their queries, and headers
    logging.getLogger(_name).setLevel(logging.WARNING)

if importlib.util.find_spec("sniffio") is None:
    # httpcore 1.0.9 looks for it four times a request, through all of sys.path: a sixth of an upload's CPU
    sys.modules["sniffio"] = None  # type: ignore[assignment]


class _NoJar(http.cookiejar.CookieJar):
    """Keeps nothing."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Leave them."""


def connections(
    endpoint: Endpoint, trust: ssl.SSLContext, transport: httpx.AsyncBaseTransport | None
) -> httpx.AsyncClient:
    """A client that sends no header of ours but `User-Agent`; `transport` stands in for the network."""
    times = endpoint.timeouts
    return httpx.AsyncClient(
        headers={"User-Agent": f"kbsync/{__version__}", "Accept-Encoding": "gzip"},
        cookies=_NoJar(),
        transport=transport or Lanes(partial(_lane, endpoint, trust), KEEP_ALIVE),
        timeout=httpx.Timeout(connect=times.connect, write=times.write, read=times.read, pool=times.pool),
        follow_redirects=False,
        trust_env=False,
    )


def check_proxy(endpoint: Endpoint, trust: ssl.SSLContext) -> None:
    """Raises `UsageError` where the target's proxy, set or of the environment, cannot be used."""
    try:
        _proxy(endpoint, origin(endpoint), trust)
    except httpx.ProxyError as error:
        where = "proxy" if endpoint.proxy else "the proxy of the environment (HTTPS_PROXY and the like)"
        raise UsageError(f"{where} cannot be used: {error}") from None


def proxy_host(endpoint: Endpoint, trust: ssl.SSLContext) -> str:
    """Host and port of the proxy on the way to the target, without its secrets; "" where there is none."""
    proxy = _proxy(endpoint, origin(endpoint), trust)
    return proxy.url.netloc.decode("ascii") if proxy is not None else ""


def _lane(endpoint: Endpoint, trust: ssl.SSLContext, url: httpx.URL) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(
        verify=trust,
        proxy=_proxy(endpoint, url, trust),
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_ALIVE),
    )


def _proxy(endpoint: Endpoint, url: httpx.URL, trust: ssl.SSLContext) -> httpx.Proxy | None:
    """The proxy on the way to `url`. Raises `httpx.ProxyError`, without its name and password."""
    address = endpoint.proxy or _proxy_of_environment(url)
    if not address:
        return None
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or proxy.url.scheme not in ("http", "https") or not proxy.url.host:
        raise httpx.ProxyError("it has to be an address that begins with http:// or https://")
    if proxy.url.scheme == "https":
        proxy.ssl_context = trust
    return proxy


def _proxy_of_environment(url: httpx.URL) -> str | None:
    """As urllib reads `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, and `ALL_PROXY` where they are silent."""
    proxies = getproxies()
    for host in (url.host, url.netloc.decode("ascii")):
        if proxy_bypass(host, proxies):
            return None
    return proxies.get(url.scheme) or proxies.get("all")


def trusted(endpoint: Endpoint) -> ssl.SSLContext:
    """The authorities to trust. Raises `UsageError` where `ca_file` is none."""
    if endpoint.ca_file is None:
        return _usual()
    context = httpx.create_ssl_context()
    try:
        context.load_verify_locations(endpoint.ca_file)
    except (OSError, ssl.SSLError) as error:
        why = "no certificates in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"ca_file {endpoint.ca_file}: {why}") from None
    return context


@cache
def _usual() -> ssl.SSLContext:
    """Reading them takes some 40 ms."""
    return httpx.create_ssl_context()


def origin(endpoint: Endpoint) -> httpx.URL:
    """The base address. Raises `UsageError` where it is none of http or https."""
    try:
        url = httpx.URL(endpoint.base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("base_url is no address that begins with http:// or https://")
    if url.query or url.fragment:
        raise UsageError("base_url has a ? or # in it: give the address up to the path")
    return url


def is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Same scheme, host and port."""
    return _origin(one) == _origin(other)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
