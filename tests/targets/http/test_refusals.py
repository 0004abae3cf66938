"""Tests documents that are not sent at all, because the service would refuse them after the upload."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kbsync.contract.target import Limits, Outgoing
from kbsync.targets.http.target import refusal_of
from tests.targets.bodies import BytesBody

FILE = Outgoing(1, "a.md", "a.md", "", 0, 0.0, "1", BytesBody(b""))
LIMITS = Limits(frozenset({"md", "pdf"}), max_bytes=100, max_bytes_by_extension={"pdf": 300})


@pytest.mark.parametrize(
    ("path", "size", "reason"),
    [
        ("a.md", 100, None),
        ("a.md", 0, "the file is empty"),
        ("a.exe", 5, "the service doesn't accept this format; accepted formats: md pdf"),
        ("a.md", 101, "101 bytes, over the limit of 100"),
        ("a.PDF", 301, "301 bytes, over the limit of 300; see max_bytes"),
    ],
)
def test_configured_limit_is_named(path: str, size: int, reason: str | None) -> None:
    refusal = refusal_of(replace(FILE, path=path, size=size), LIMITS, 300)
    assert (refusal.reason if refusal else None) == reason
