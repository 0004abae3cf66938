"""The file that wakes a daemon: a command opens it for writing and closes it, which makes an event.

Cheap to load, since commands need `wake`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from kbsync.permissions import open_private

WAKE = "wake"
"""The file in the state directory that commands touch to reach a running daemon."""


def wake(state_dir: Path) -> None:
    """Make the daemon that works on `state_dir` look at its inbox. Raises OSError.

    The times are set as well, for a daemon that only looks at the file now and then.
    """
    fd = open_private(state_dir / WAKE, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


class WakeFile:
    """The daemon's end of `wake`: its event or, where there is none, its changed times call `on_wake`."""

    def __init__(self, state_dir: Path, on_wake: Callable[[], None]) -> None:
        self._file = os.path.join(state_dir, WAKE)
        self._on_wake = on_wake
        self._seen: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Make the file, so that it belongs to the daemon's user, and take its times as seen."""
        # Where it cannot be made now, the first command that needs it makes it.
        with contextlib.suppress(OSError):
            os.close(open_private(Path(self._file), os.O_WRONLY | os.O_NOFOLLOW))
        self._seen = self._times()

    def look(self) -> None:
        """Call `on_wake` if the file changed since it was last looked at."""
        if self._times() != self._seen:
            self.touched()

    def touched(self) -> None:
        """The file was touched: call `on_wake`."""
        self._seen = self._times()
        self._on_wake()

    def _times(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
