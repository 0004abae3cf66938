"""Where to listen: sockets that are bound before anything else depends on them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack

from kbsync.errors import UsageError

BACKLOG = 64


def bound(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, one for each address of `host`; `port` 0 takes a free one for each.

    Raises `UsageError` with the cure where one cannot be had; then none is left open.
    """
    with ExitStack() as opened:
        sockets = [opened.enter_context(_listening(*one)) for one in _addresses(host, port)]
        opened.pop_all()
    return sockets


def _addresses(host: str, port: int) -> Iterator[tuple[int, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(
            f"http.listen: {host} is no name of this machine ({error.strerror or error}); "
            "write an address, such as 127.0.0.1"
        ) from error
    yield from dict.fromkeys((family, address) for family, _, _, _, address in found)


def _listening(family: int, address: tuple[object, ...]) -> socket.socket:
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(_refusal(error, address)) from error
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise UsageError(_refusal(error, address)) from error
    return one


def _refusal(error: OSError, address: tuple[object, ...]) -> str:
    host, port = address[:2]
    shown = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            cure = f"is in use; choose another port, or end the program that ss -ltnp 'sport = :{port}' names"
        case errno.EADDRNOTAVAIL:
            cure = "is no address of this machine; choose one that ip addr shows, or 127.0.0.1"
        case errno.EACCES:
            cure = "may not be used by this user; choose a port from 1024 on"
        case _:
            cure = f"cannot be listened on ({(error.strerror or str(error)).lower()}); choose another"
    return f"http.listen: {shown} {cure}"
