"""Where a target is reached, and how hard it may be asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
