"""Ids as the vendor makes them: snowflakes that carry their creation time."""

from __future__ import annotations

import uuid

EPOCH_MS = 1288834974657
OTHER_EPOCH_MS = 1577836800000
_SEQUENCE_BITS = 12
_WORKER_BITS = 10


class Snowflakes:
    """Numbers that grow, `(n >> 22) + EPOCH_MS` being the millisecond they were made in."""

    def __init__(self, worker: int) -> None:
        """`worker`: 0 to 1023, to tell two vendors apart."""
        self._worker = worker % (1 << _WORKER_BITS)
        self._last_ms = 0
        self._sequence = 0

    def make(self, now_ms: int) -> int:
        """A new number; a millisecond that is used up (or past) lends from the one after the last."""
        if now_ms > self._last_ms:
            self._last_ms, self._sequence = now_ms, 0
        else:
            self._sequence += 1
            if self._sequence >> _SEQUENCE_BITS:
                self._last_ms, self._sequence = self._last_ms + 1, 0
        stamp = (self._last_ms - EPOCH_MS) << (_WORKER_BITS + _SEQUENCE_BITS)
        return stamp | self._worker << _SEQUENCE_BITS | self._sequence


def written(number: int, ordinal: int, form: str) -> str:
    """The id of the document number `ordinal` under the switch `ids`."""
    match form:
        case "short":
            return str(1_000_000 + ordinal)
        case "uuid":
            return str(uuid.UUID(int=number << 64 | ordinal))
        case "other_epoch":
            return str(number - ((OTHER_EPOCH_MS - EPOCH_MS) << (_WORKER_BITS + _SEQUENCE_BITS)))
        case _:
            return str(number)
