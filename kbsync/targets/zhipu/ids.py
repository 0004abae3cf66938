"""Ids of the vendor: opaque strings for us, and snowflakes that tell when they were made. Pure."""

from __future__ import annotations

from urllib.parse import quote

from kbsync.core.digits import number_in

_EPOCH_MS = 1_288_834_974_657
_EARLIEST, _LATEST = 1_420_070_400.0, 4_102_444_800.0  # 2015 and 2100: outside it is no time of a document


def id_of(value: object) -> str | None:
    """An id as a string, from JSON text or a JSON integer; None for everything else.

    A float is none: what has more than 53 bits has lost digits already.
    """
    match value:
        case bool():
            return None
        case int():
            return str(value)
        case str():
            return value.strip() or None
    return None


def number_of(some_id: str) -> int | str:
    """An id as it stands in bodies: a number where it looks like one."""
    number = number_in(some_id)
    return some_id if number is None else number


def created_of(remote_id: str) -> float | None:
    """When an id was made, in seconds since the epoch by the vendor's clock; None for ids of another shape.

    `(id >> 22) + 1288834974657` milliseconds, checked against ids and answer times of the service.
    """
    if not (remote_id.isascii() and remote_id.isdigit() and len(remote_id) <= 20):
        return None
    seconds = ((int(remote_id) >> 22) + _EPOCH_MS) / 1000.0
    return seconds if _EARLIEST <= seconds < _LATEST else None


def path_part(value: str) -> str:
    """An id as one part of a URL path."""
    return quote(value, safe="")
