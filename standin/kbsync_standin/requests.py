"""What was asked of the server: counts and the last requests."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

LOGGED = 1000


@dataclass(slots=True)
class Logged:
    """One request. `status` is 0 as long as (or where) no answer began; `fault` is the kind played."""

    n: int
    op: str
    method: str
    path: str
    subject: str = ""
    status: int = 0
    fault: str = ""


class Requests:
    """Counts the vendor's requests (those of the control API are no part of it)."""

    def __init__(self) -> None:
        self.total = 0
        self.by_op: Counter[str] = Counter()
        self.in_flight = 0
        self.in_flight_max = 0
        self.log: deque[Logged] = deque(maxlen=LOGGED)
        self._number = 0

    def begin(self, op: str, method: str, path: str) -> Logged:
        """A request's headers have been read: its entry, to be filled in. Numbers are never given twice."""
        self._number += 1
        self.total += 1
        self.by_op[op] += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        entry = Logged(self._number, op, method, path)
        self.log.append(entry)
        return entry

    def end(self) -> None:
        """A request's answer has ended, or its connection has."""
        self.in_flight -= 1

    def clear(self) -> None:
        """Count from nothing; those in flight stay in flight."""
        self.total = 0
        self.by_op.clear()
        self.log.clear()
        self.in_flight_max = self.in_flight

    def snapshot(self) -> dict[str, Any]:
        """The counts and the log, for JSON."""
        return {
            "total": self.total,
            "by_op": dict(self.by_op),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "log": [asdict(entry) for entry in self.log],
        }
