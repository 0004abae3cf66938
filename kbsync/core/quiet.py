"""Decides when a path is quiet, using the times that the caller passes in. This module does no I/O.

A path is quiet if two checks, `settle` seconds apart, find the same stamp (promise 8). A file's age serves
only as a shortcut, because file timestamps come from other clocks.
"""

from __future__ import annotations

from kbsync.core.model import Stamp
from kbsync.dataclass import dataclass

EMPTY_FACTOR = 3
"""An empty file must stay unchanged for this many times the quiet time, because it is usually about to be
written.
"""


@dataclass(frozen=True, slots=True)
class DueFile:
    """A path that is due, with its stamp at the last check.

    `is_quiet`: whether the stamp has stayed the same for the settle time. `is_overdue`: whether the maximum
    wait is over.
    """

    path: str
    stamp: Stamp
    is_quiet: bool
    is_overdue: bool


@dataclass(slots=True)
class _Wait:
    """A tracked path: when tracking began, its last stamp, and when it becomes quiet and due."""

    stamp: Stamp
    since: float
    quiet_at: float = 0.0
    due_at: float = 0.0


def quiet_time(stamp: Stamp, settle: float) -> float:
    """Return the number of seconds for which a file with this stamp must stay unchanged."""
    return settle * EMPTY_FACTOR if stamp.size == 0 else settle


def is_old_enough(stamp: Stamp, wall_now: float, settle: float) -> bool:
    """Return whether the last change is so old that there is no need to wait.

    `wall_now`: in epoch seconds. A stamp from the future has a negative age, so it is never old enough.
    """
    return wall_now - stamp.newest >= quiet_time(stamp, settle)


class Settling:
    """The paths that are being written, and when each must be read.

    `now` is in monotonic seconds, and never decreases from one call to the next.
    """

    def __init__(self, settle: float, longest: float) -> None:
        """Start without tracked paths.

        `settle`: how many seconds a path must be quiet. `longest`: the number of seconds after which a path
        is due even if it isn't quiet.
        """
        self._settle = settle
        self._longest = longest
        self._waits: dict[str, _Wait] = {}  # ordered by the start of tracking

    def touch(self, path: str, stamp: Stamp, now: float) -> None:
        """Record that a check at `now` returned `stamp`.

        The first check starts the path's maximum wait. Each new stamp restarts its quiet time.
        """
        wait = self._waits.get(path)
        if wait is None:
            wait = self._waits[path] = _Wait(stamp, since=now)
        elif stamp == wait.stamp:
            return  # still quiet
        wait.stamp = stamp
        wait.quiet_at = now + quiet_time(stamp, self._settle)
        # A log that never stops growing is due too; the reader ensures that its bytes are consistent.
        wait.due_at = min(wait.quiet_at, wait.since + self._longest)

    def restart(self, path: str, now: float) -> None:
        """Restart both waits, for example after a forced read during which the file was being written.

        A path that isn't tracked stays untracked.
        """
        wait = self._waits.pop(path, None)
        if wait is not None:
            self.touch(path, wait.stamp, now)

    def forget(self, path: str) -> None:
        """Stop tracking `path`. Unknown paths are ignored."""
        self._waits.pop(path, None)

    def due(self, now: float, limit: int | None = None) -> list[DueFile]:
        """Return at most `limit` paths to read at `now`: quiet ones first, then in the order of tracking.

        The paths stay tracked and due until `forget`, `restart` or a `touch` with a different stamp.
        """
        quiet, overdue = list[DueFile](), list[DueFile]()
        # Iterating over 100,000 young files takes milliseconds, and `limit` quiet ones end it early.
        for path, wait in self._waits.items():
            if wait.due_at <= now:
                due_file = DueFile(path, wait.stamp, wait.quiet_at <= now, wait.since + self._longest <= now)
                # Files that are written continuously must not block quiet ones.
                (quiet if due_file.is_quiet else overdue).append(due_file)
                if len(quiet) == limit:
                    break
        return [*quiet, *overdue][:limit]

    def next_due(self) -> float | None:
        """Return when the next path is due (monotonic seconds, possibly in the past), or None if no path is
        tracked.
        """
        return min((wait.due_at for wait in self._waits.values()), default=None)

    def paths(self) -> list[str]:
        """Return the tracked paths, the longest tracked first."""
        return list(self._waits)

    def stamp(self, path: str) -> Stamp | None:
        """Return the stamp of `path` at the last check, or None if `path` isn't tracked."""
        wait = self._waits.get(path)
        return None if wait is None else wait.stamp

    def since(self, path: str) -> float | None:
        """Return when the maximum wait of `path` began, or None if `path` isn't tracked."""
        wait = self._waits.get(path)
        return None if wait is None else wait.since

    def __contains__(self, path: object) -> bool:
        return path in self._waits
