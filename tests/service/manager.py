"""A service manager's notify socket, which records all messages."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 60.0


class Manager:
    """Listens at `address`, the value of `$NOTIFY_SOCKET`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def until(self, beginning: str) -> str:
        """Return the next message that begins so; fail if none comes."""
        self._socket.settimeout(PATIENCE)
        while True:
            received = self._socket.recv(4096).decode().split("\n")
            self.messages += received
            for message in received:
                if message.startswith(beginning):
                    return message

    def until_status(self, text: str) -> None:
        """Wait until the latest status is `text`; it may have arrived before another message."""
        while [message for message in self.messages if message.startswith("STATUS=")][-1:] != [
            f"STATUS={text}"
        ]:
            self.until("STATUS=")

    def so_far(self) -> list[str]:
        """Return all messages so far, awaited or not."""
        self._socket.setblocking(False)
        try:
            while True:
                self.messages += self._socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return self.messages

    def close(self) -> None:
        self._socket.close()


@contextmanager
def manager_in(folder: Path) -> Iterator[Manager]:
    manager = Manager(str(folder / "notify"))
    try:
        yield manager
    finally:
        manager.close()
