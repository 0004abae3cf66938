"""Whether the events of a folder can be trusted: what can go wrong, and the checks that find it.

Promises 1 and 5 rest on this: while the root cannot be looked at, or is another folder, nothing is deleted.
"""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kbsync.source.blocking import run_detached
from kbsync.source.roots import RootIdentity, error_words, opened_root

LOOK_SECONDS = 5.0

PROBE_EVERY = 20.0
ANSWER_WITHIN = 2.0
LONGEST_DETOUR = 30.0
"""Seconds for which other events may excuse a missing answer: it can wait behind a long backlog."""

FREE_FAILURES = 3
FAILURE_COUNTS = 600.0
"""Seconds for which a failure is remembered, and the longest pause after one."""


class TroubleKind(enum.Enum):
    """What went wrong. While one of the first three lasts, nothing may be deleted."""

    ROOT_MISSING = "root-missing"
    ROOT_UNREADABLE = "root-unreadable"
    ROOT_SILENT = "root-silent"  # the file system does not answer
    ROOT_CHANGED = "root-changed"  # another folder lies there now
    OVERFLOW = "overflow"
    WATCH_LIMIT = "watch-limit"
    THREAD_DIED = "thread-died"
    EVENTS_STOPPED = "events-stopped"
    EVENT_FAILED = "event-failed"


@dataclass(frozen=True, slots=True)
class WatchTrouble:
    """One thing that went wrong, with a sentence for a person."""

    kind: TroubleKind
    text: str

    @property
    def is_of_root(self) -> bool:
        """The folder itself cannot be looked at now."""
        return self.kind in (
            TroubleKind.ROOT_MISSING,
            TroubleKind.ROOT_UNREADABLE,
            TroubleKind.ROOT_SILENT,
        )


class LivenessProbe:
    """Proves that events still arrive: a file of ours is touched now and then, and its event must come.

    `now` is monotonic seconds; `heard` is how many events the observer has given so far.
    """

    def __init__(self, file: str, now: float, touch: Callable[[str], None]) -> None:
        """`file`: an absolute path in a watched directory; `touch` makes an event on it."""
        self.file = file
        self._touch = touch
        self._next = now
        self._asked: float | None = None
        self._deadline = 0.0
        self._heard = 0
        self._was_late = False

    def ask(self, now: float, heard: int) -> None:
        """Touch the file if it is time. Raises OSError if that cannot be done."""
        if self._asked is not None or now < self._next:
            return
        self._next = now + PROBE_EVERY
        self._touch(self.file)
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


def device_and_inode(folder: Path) -> tuple[int, int]:
    """What tells the folder now at this path from another. Raises OSError, also if it may not be read."""
    with opened_root(folder) as fd:
        status = os.fstat(fd)
    return status.st_dev, status.st_ino


class RootCheck:
    """Compares the folder with the one it was: it can vanish or be replaced without any event.

    While `is_local` is set the answer is fetched at once (some microseconds); else from a thread, since a
    dead network mount never answers. At most one question is open.
    """

    def __init__(self, folder: Path, look: Callable[[Path], tuple[int, int]]) -> None:
        self.is_local = False
        self._folder = folder
        self._look = look
        self._asked: asyncio.Task[tuple[int, int]] | None = None

    async def trouble(self, identity: RootIdentity | None) -> WatchTrouble | None:
        """What is wrong with the folder now; None if it can be read and is that of `identity`, if given."""
        folder = self._folder
        try:
            found = await self._answer()
        except FileNotFoundError:
            return WatchTrouble(TroubleKind.ROOT_MISSING, f"{folder} is missing")
        except NotADirectoryError:
            return WatchTrouble(TroubleKind.ROOT_MISSING, f"{folder} is not a folder")
        except TimeoutError:
            return WatchTrouble(TroubleKind.ROOT_SILENT, f"the file system of {folder} does not answer")
        except OSError as error:
            return WatchTrouble(TroubleKind.ROOT_UNREADABLE, f"{folder} cannot be read: {error_words(error)}")
        if identity is None or found == (identity.dev, identity.ino):
            return None
        return WatchTrouble(TroubleKind.ROOT_CHANGED, f"another folder lies at {folder} now")

    def give_up(self) -> None:
        """Wait no longer for an open question."""
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    async def _answer(self) -> tuple[int, int]:
        if self.is_local:
            return self._look(self._folder)
        patience = 0.0 if self._asked else LOOK_SECONDS
        if self._asked is None:
            self._asked = asyncio.create_task(run_detached(lambda: self._look(self._folder)))
            # An answer that comes when nobody waits any more is no error of the program.
            self._asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        asked = self._asked
        await asyncio.wait([asked], timeout=patience)
        if not asked.done():
            raise TimeoutError
        self._asked = None
        return asked.result()


class RestartBackoff:
    """How long to wait after a failure: not at all at first, then ever longer."""

    def __init__(self) -> None:
        self._failures = 0
        self._last = float("-inf")

    def pause_after_failure(self, now: float) -> float:
        """Seconds to wait before the next try, given that one failed at `now` (monotonic seconds)."""
        self._failures = self._failures + 1 if now - self._last < FAILURE_COUNTS else 1
        self._last = now
        return 0.0 if self._failures <= FREE_FAILURES else min(FAILURE_COUNTS, 2.0**self._failures)
