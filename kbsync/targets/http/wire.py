"""How the connections are made: trust, proxies, no cookies, nothing followed by itself."""

from __future__ import annotations

import http.cookiejar
import importlib.util
import logging
import ssl
import sys
from functools import cache, partial
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from kbsync import __version__
from kbsync.errors import UsageError
from kbsync.targets.http.endpoint import Endpoint
from kbsync.targets.http.lanes import Lanes

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
