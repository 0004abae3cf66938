"""Decides when a path is quiet: pure, with a clock handed in.

Quiet is measured, not believed: the same stamp at two looks one settle apart. The age of a file is a
shortcut only, since its stamps come from clocks that are not ours.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from kbsync.core.model import Stamp

EMPTY_FACTOR = 3
"""An empty file needs this many times the quiet: it is most often one that is about to be filled."""

_SPARE = 64


@dataclass(frozen=True, slots=True)
class QuietFile:
    """A path whose time has come. `forced`: it was never quiet, the longest wait ended."""

    path: str
    stamp: Stamp
    forced: bool


@dataclass(slots=True)
class _Wait:
    """One tracked path: since when, its last stamp and since when that holds, and the heap's entry for it."""

    path: str
    stamp: Stamp
    since: float
    changed: float
    queued: float | None = None


def quiet_time(stamp: Stamp, settle: float) -> float:
    """Seconds without change that a file with this stamp needs."""
    return settle * EMPTY_FACTOR if stamp.size == 0 else settle


def is_old_enough(stamp: Stamp, wall_now: float, settle: float) -> bool:
    """True if the last change lies so far back that no waiting is needed. `wall_now`: epoch seconds.

    A stamp from the future has a negative age: it proves nothing and is never old enough.
    """
    return wall_now - stamp.newest >= quiet_time(stamp, settle)


class Settling:
    """The paths being written now, and when each is worth reading.

    `now` is monotonic seconds and never goes back from one call to the next. Memory is bounded by the
    number of tracked paths, however often they are touched.
    """

    def __init__(self, settle: float, longest: float) -> None:
        """`settle`: seconds of quiet a path needs; `longest`: seconds after which it is due all the same."""
        self._settle = settle
        self._longest = longest
        self._waits: OrderedDict[str, _Wait] = OrderedDict()  # oldest first
        self._heap: list[tuple[float, str]] = []  # may hold entries that no longer count
        self._ripe: OrderedDict[str, _Wait] = OrderedDict()  # in order of due time

    def touch(self, path: str, stamp: Stamp, now: float) -> None:
        """A look at `now` found `stamp`. The first starts the path's clock, a new stamp its quiet time."""
        wait = self._waits.get(path)
        if wait is None:
            self._queue(self._new(path, stamp, now))
        elif stamp != wait.stamp:
            wait.stamp, wait.changed = stamp, now
            self._queue(wait)

    def restart(self, path: str, now: float) -> None:
        """Begin the longest wait and the quiet time anew, as after a forced read that found it being written.

        A path that is not tracked stays so.
        """
        wait = self._waits.get(path)
        if wait is not None:
            stamp = wait.stamp
            self.forget(path)
            self._queue(self._new(path, stamp, now))

    def forget(self, path: str) -> None:
        """Track `path` no longer; unknown paths are no error."""
        self._waits.pop(path, None)
        self._ripe.pop(path, None)
        if len(self._heap) > 2 * len(self._waits) + _SPARE:
            self._sweep()

    def due(self, now: float, limit: int | None = None) -> list[QuietFile]:
        """The paths worth reading at `now`, in order of due time, at most `limit`.

        They stay tracked, and are given again, until `forget`, `restart` or a touch with another stamp.
        """
        while self._heap and self._heap[0][0] <= now:
            self._ripen(*heapq.heappop(self._heap))
        return [self._due(wait, now) for wait in islice(self._ripe.values(), limit)]

    def next_due(self) -> float | None:
        """When the next path is due (monotonic seconds, may lie in the past); None if none is tracked."""
        while self._heap and not self._is_true(*self._heap[0]):
            self._correct(*heapq.heappop(self._heap))
        times = [due_time for due_time, _ in self._heap[:1]]
        times += [self._due_time(wait) for wait in islice(self._ripe.values(), 1)]
        return min(times, default=None)

    def paths(self) -> list[str]:
        """The tracked paths, the longest tracked first."""
        return list(self._waits)

    def stamp(self, path: str) -> Stamp | None:
        """What the last look at `path` found; None if it is not tracked."""
        wait = self._waits.get(path)
        return None if wait is None else wait.stamp

    def since(self, path: str) -> float | None:
        """When the longest wait of `path` began; None if it is not tracked."""
        wait = self._waits.get(path)
        return None if wait is None else wait.since

    def oldest(self, now: float) -> float | None:
        """For how many seconds the longest waiting path has been tracked; None if none is."""
        for wait in self._waits.values():
            return now - wait.since
        return None

    def __len__(self) -> int:
        return len(self._waits)

    def __contains__(self, path: object) -> bool:
        return path in self._waits

    def _new(self, path: str, stamp: Stamp, now: float) -> _Wait:
        wait = self._waits[path] = _Wait(path, stamp, now, now)
        return wait

    def _quiet_at(self, wait: _Wait) -> float:
        return wait.changed + quiet_time(wait.stamp, self._settle)

    def _due_time(self, wait: _Wait) -> float:
        return min(self._quiet_at(wait), wait.since + self._longest)

    def _due(self, wait: _Wait, now: float) -> QuietFile:
        return QuietFile(wait.path, wait.stamp, forced=now < self._quiet_at(wait))

    def _queue(self, wait: _Wait) -> None:
        self._ripe.pop(wait.path, None)
        due_time = self._due_time(wait)
        # An earlier entry is corrected when it comes up: a path written to for hours needs only one.
        if wait.queued is None or due_time < wait.queued:
            wait.queued = due_time
            heapq.heappush(self._heap, (due_time, wait.path))

    def _is_true(self, due_time: float, path: str) -> bool:
        wait = self._waits.get(path)
        return wait is not None and wait.queued == due_time == self._due_time(wait)

    def _correct(self, due_time: float, path: str) -> None:
        wait = self._waits.get(path)
        if wait is not None and wait.queued == due_time:
            wait.queued = None
            self._queue(wait)

    def _ripen(self, due_time: float, path: str) -> None:
        if not self._is_true(due_time, path):
            self._correct(due_time, path)
            return
        wait = self._waits[path]
        wait.queued = None
        last = next(reversed(self._ripe.values()), None)
        self._ripe[path] = wait
        # Only a path touched after its longest wait ended comes late like this.
        if last is not None and due_time < self._due_time(last):
            self._ripe = OrderedDict(sorted(self._ripe.items(), key=lambda item: self._due_time(item[1])))

    def _sweep(self) -> None:
        self._heap = [(wait.queued, path) for path, wait in self._waits.items() if wait.queued is not None]
        heapq.heapify(self._heap)
