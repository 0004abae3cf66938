"""The file that wakes a daemon. A command opens it for writing and closes it, which triggers an event.

This module loads fast, because commands use it.
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
    """Make the daemon that uses `state_dir` check its inbox. Raises OSError.

    This also updates the file's times, for a daemon that can only poll the file.
    """
    fd = open_private(state_dir / WAKE, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


class WakeFile:
    """Calls `on_wake` in the daemon when `wake` causes an event or, without events, when the file's times
    change.
    """

    def __init__(self, state_dir: Path, on_wake: Callable[[], None]) -> None:
        self._file = os.path.join(state_dir, WAKE)
        self._on_wake = on_wake
        self._last_times: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Create the file, so that it belongs to the daemon's user, and record its times."""
        # If it can't be created now, the first command that needs it creates it.
        with contextlib.suppress(OSError):
            os.close(open_private(Path(self._file), os.O_WRONLY | os.O_NOFOLLOW))
        self._last_times = self._times()

    def check(self) -> None:
        """Call `on_wake` if the file has changed since the last check."""
        if self._times() != self._last_times:
            self.touched()

    def touched(self) -> None:
        """Call `on_wake` because the file was touched."""
        self._last_times = self._times()
        self._on_wake()

    def _times(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._file)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns
