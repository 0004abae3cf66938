"""Words to the service manager that started this process, as sd_notify(3) has them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

PATIENCE = 0.5
"""Seconds that a word of weight waits for a manager whose queue is full."""


class ServiceManager:
    """Sends words where `$NOTIFY_SOCKET` says; without one, or where nobody listens, they are lost.

    `watchdog`: seconds between two signs of life that the manager allows, or None (sd_watchdog_enabled(3)).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self.watchdog = _watchdog(environ) if self._address else None

    @property
    def is_heard(self) -> bool:
        """Somebody asked to be told."""
        return self._socket is not None

    def tell(self, *words: str, patience: float = PATIENCE) -> None:
        """Send `NAME=value` words in one datagram; what cannot be sent within `patience` seconds is lost."""
        if self._socket is None:
            return
        self._socket.settimeout(patience)
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(words).encode(), self._address)

    def close(self) -> None:
        """Say no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _address(name: str) -> str:
    """A path, or with `@` a name in the abstract namespace (unix(7))."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _watchdog(environ: Mapping[str, str]) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID") or str(os.getpid())
    if not microseconds.isdecimal() or meant != str(os.getpid()) or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6
