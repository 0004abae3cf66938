"""Finds loopback ports that nothing listens on."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def free_address() -> str:
    """Return `127.0.0.1` with a free port."""
    return f"127.0.0.1:{free_port()}"
