"""What one pass waits for: the files that were being written when its scan ended, and nothing later.

Without it files that come and go would be waited for in turns, without end, since each of them is a new one
whenever it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable

from kbsync.core.settle import Settling


class Snapshot:
    """The files of one pass that are not quiet yet.

    A file is waited for once: until it is taken, vanishes, or was being written for the longest wait. One
    that changed behind the pass's back is waited for a second time, and then belongs to the next pass.
    """

    def __init__(self, settling: Settling, now: float) -> None:
        """`now`: the moment when the scan ended, steady seconds."""
        self._settling = settling
        self._since = {path: settling.since(path) for path in settling.paths()}
        self._second_time: set[str] = set()
        self.missed_until = now
        """What was missed later than this came and went while the pass was under way."""

    def __bool__(self) -> bool:
        """Files are waited for."""
        return bool(self._since)

    def inodes(self) -> set[int]:
        """Of the files that are waited for."""
        stamps = (self._settling.stamp(path) for path in self._since)
        return {stamp.ino for stamp in stamps if stamp is not None}

    def admit(self, paths: Iterable[str]) -> set[str]:
        """Of files that changed, or are back, those that this pass still takes care of."""
        admitted = set(paths) - self._second_time
        self._second_time |= admitted
        return admitted

    def looked_at(self, paths: Iterable[str], now: float) -> None:
        """What `admit` gave was looked at: wait for what is being written, and be sure of what is missed."""
        self._since |= {path: self._settling.since(path) for path in paths if path in self._settling}
        self.missed_until = now

    def update(self, now: float) -> None:
        """A round of looks at quiet files ended.

        Another start of the wait than ours means that the file was taken, vanished and came back, or was
        found being written when the longest wait was over.
        """
        if self._since:
            self.missed_until = now
        self._since = {
            path: since for path, since in self._since.items() if self._settling.since(path) == since
        }
