"""A file whose events prove that the whole way from the kernel to us works, and the file that wakes a daemon.

Both are opened for writing and closed, which is an event, but nothing is written: the disk stays idle.
This module is cheap to load, since commands need `wake`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from kbsync.permissions import open_private

WAKE = "wake"
"""The file in the state directory that commands touch to reach a running daemon."""

TOUCH_EVERY = 20.0
ANSWER_WITHIN = 2.0
LONGEST_DETOUR = 30.0
"""Seconds for which other events may excuse a missing answer: it can wait behind a long backlog."""


def touch(file: str) -> None:
    """Open `file` for writing and close it, making it (mode 0600) if needed. Raises OSError."""
    os.close(open_private(Path(file), os.O_WRONLY | os.O_NOFOLLOW))


def wake(canary_dir: Path) -> None:
    """Make a daemon whose watcher uses `canary_dir` call its `on_wake`. Raises OSError.

    The times are set as well, for a daemon that only looks at the file now and then.
    """
    fd = open_private(canary_dir / WAKE, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


class LivenessProbe:
    """Asks one observer for a sign of life every `TOUCH_EVERY` seconds.

    `now` is monotonic seconds; `heard` is how many events the observer has given so far.
    """

    def __init__(self, file: str, now: float, sing: Callable[[str], None] = touch) -> None:
        """`file`: an absolute path in a watched directory; `sing` makes an event on it."""
        self.file = file
        self._sing = sing
        self._next = now
        self._asked: float | None = None
        self._deadline = 0.0
        self._heard = 0
        self._was_late = False

    def ask(self, now: float, heard: int) -> None:
        """Make an event on the file if it is time. Raises OSError if that cannot be done."""
        if self._asked is not None or now < self._next:
            return
        self._next = now + TOUCH_EVERY
        self._sing(self.file)
        self._asked, self._deadline, self._heard = now, now + ANSWER_WITHIN, heard

    def answer(self) -> None:
        """The event on the file came."""
        self._asked, self._was_late = None, False

    def is_silent(self, now: float, heard: int) -> bool:
        """True if the event is missing at two looks after its time, and nothing else was heard meanwhile.

        One look is not enough: a machine that was paused wakes with the time over and the event not yet read.
        """
        if self._asked is None:
            return False
        if heard != self._heard and now < self._asked + LONGEST_DETOUR:
            self._heard, self._deadline = heard, now + ANSWER_WITHIN
        if now < self._deadline:
            return False
        was_late, self._was_late = self._was_late, True
        return was_late


class WakeFile:
    """The daemon's end of `wake`: its event or, where there is none, its changed times call `on_wake`."""

    def __init__(self, canary_dir: Path, on_wake: Callable[[], None]) -> None:
        self._file = os.path.join(canary_dir, WAKE)
        self._on_wake = on_wake
        self._seen: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make the file, so that it belongs to the daemon's user, and take its times as seen."""
        with contextlib.suppress(OSError):  # a command will make it
            touch(self._file)
        self._seen = self._times()

    def look(self) -> None:
        """Call `on_wake` if the file changed since it was last looked at."""
        if self._times() != self._seen:
            self.touched()

    def touched(self) -> None:
        """Someone touched the file: call `on_wake`."""
        self._seen = self._times()
        self._on_wake()

    def _times(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
