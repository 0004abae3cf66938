"""Documents to send."""

from __future__ import annotations

from typing import BinaryIO

from kbsync.targets.http.bodies import FilePart
from tests.targets.bodies import BytesBody


class Vanished:
    """A body whose file is gone."""

    size = 10

    def open(self) -> BinaryIO:
        raise FileNotFoundError(2, "No such file or directory")


def part(body: BytesBody | Vanished | None = None, filename: str = "a.txt") -> FilePart:
    return FilePart("files", filename, body or BytesBody(b"some text"))
