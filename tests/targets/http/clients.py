"""Clients and documents for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import Endpoint, Timeouts
from kbsync.targets.http.rules import by_status
from tests.targets.bodies import BytesBody

KEY = "Bearer secret-key-0123456789"
PATIENT = Timeouts(connect=5.0, write=5.0, read=5.0, whole=10.0)


async def at_once(_seconds: float) -> None:
    """Sleep without taking time."""


@asynccontextmanager
async def client(base_url: str, **settings: Any) -> AsyncIterator[Client]:
    """Yield a client that never waits and classifies responses by their status."""
    endpoint = {key: settings.pop(key) for key in tuple(settings) if key in Endpoint.__dataclass_fields__}
    endpoint = {"timeouts": PATIENT, **endpoint}
    given = {
        "headers": lambda: {"Authorization": KEY},
        "classify_response": by_status,
        "sleep": at_once,
        "chance": lambda: 1.0,
        **settings,
    }
    created = Client(Endpoint(base_url, **endpoint), **given)
    try:
        yield created
    finally:
        await created.aclose()


class Vanished:
    """A body whose file is missing."""

    size = 10

    def open(self) -> BinaryIO:
        raise FileNotFoundError(2, "No such file or directory")


def part(body: BytesBody | Vanished | None = None, filename: str = "a.txt") -> FilePart:
    return FilePart("files", filename, body or BytesBody(b"some text"))
