"""Finds loopback ports that nothing listens on."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

LOWEST = 10_000


def free_port() -> int:
    """Return a port that was free a moment ago.

    The system gives it to no program that asks for any port, as other tests do at the same time.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        # Not from the shared generator, which tests in other processes may have seeded alike.
        port = random.SystemRandom().randrange(LOWEST, max(end, 2 * LOWEST))
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("", port))
            return port


def free_address() -> str:
    """Return `127.0.0.1` with a free port."""
    return f"127.0.0.1:{free_port()}"
