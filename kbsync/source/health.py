"""What can go wrong with watching, and the alarms that tell of what the watching library keeps to itself."""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

FREE_FAILURES = 3
FAILURE_COUNTS = 600.0
"""Seconds for which a failure is remembered, and the longest pause after one."""

_LOGGER = "watchdog"

ThreadHook = Callable[[threading.ExceptHookArgs], object]


class TroubleKind(enum.Enum):
    """What went wrong. While one of the first three lasts, nothing may be deleted."""

    ROOT_MISSING = "root-missing"
    ROOT_UNREADABLE = "root-unreadable"
    ROOT_SILENT = "root-silent"  # the file system does not answer
    ROOT_CHANGED = "root-changed"  # another folder lies there now
    OVERFLOW = "overflow"
    THREAD_DIED = "thread-died"
    CANARY_SILENT = "canary-silent"
    WATCHES_MISSING = "watches-missing"
    EVENT_FAILED = "event-failed"


@dataclass(frozen=True, slots=True)
class Trouble:
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


class Alarm:
    """What happened in the threads of one observer; set by any thread, read by the watcher."""

    def __init__(self) -> None:
        self.threads: Collection[threading.Thread] = ()
        self.overflowed = False
        self.crash = ""


class _Bell(logging.Handler):
    """Rings the alarms: one for the process, since log handlers and the thread hook belong to all of it.

    The library tells of an overflow by a log record only, and of a dead reader thread only by
    `threading.excepthook`. Its own log lines go no further: what they mean is said by a `Trouble`.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._alarms: tuple[Alarm, ...] = ()
        self._guard = threading.Lock()

    def attach(self, alarm: Alarm) -> None:
        with self._guard:
            if not self._alarms:
                self._install()
            self._alarms = (*self._alarms, alarm)

    def detach(self, alarm: Alarm) -> None:
        with self._guard:
            if alarm not in self._alarms:
                return
            self._alarms = tuple(other for other in self._alarms if other is not alarm)
            if not self._alarms:
                self._remove()

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" not in record.getMessage().lower():
            return
        thread = threading.current_thread()
        owners = [alarm for alarm in self._alarms if thread in alarm.threads]
        # A thread nobody owns yet belongs to an observer that is just starting: a needless restart of the
        # others is cheaper than lost events.
        for alarm in owners or self._alarms:
            alarm.overflowed = True

    def _install(self) -> None:
        logger = logging.getLogger(_LOGGER)
        self._level, self._propagate = logger.level, logger.propagate
        # A quieter level set on the root logger would keep the overflow record from being made.
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.addHandler(self)
        self._earlier_hook = threading.excepthook
        self._hook = threading.excepthook = self._hook_before(self._earlier_hook)

    def _remove(self) -> None:
        logger = logging.getLogger(_LOGGER)
        logger.removeHandler(self)
        logger.propagate = self._propagate
        logger.setLevel(self._level)
        if threading.excepthook is self._hook:
            threading.excepthook = self._earlier_hook

    def _hook_before(self, earlier: ThreadHook) -> ThreadHook:
        def tell(args: threading.ExceptHookArgs) -> None:
            self._ring(args)
            earlier(args)

        return tell

    def _ring(self, args: threading.ExceptHookArgs) -> None:
        for alarm in self._alarms:
            if args.thread is not None and args.thread in alarm.threads:
                alarm.crash = f"{args.exc_type.__name__}: {args.exc_value}"


class Patience:
    """How long to wait after a failure: not at all at first, then ever longer."""

    def __init__(self) -> None:
        self._failures = 0
        self._last = float("-inf")

    def pause_after_failure(self, now: float) -> float:
        """Seconds to wait before the next try, given that one failed at `now` (monotonic seconds)."""
        self._failures = self._failures + 1 if now - self._last < FAILURE_COUNTS else 1
        self._last = now
        return 0.0 if self._failures <= FREE_FAILURES else min(FAILURE_COUNTS, 2.0**self._failures)


_BELL = _Bell()


def attach(alarm: Alarm) -> None:
    """Let `alarm` ring from now on."""
    _BELL.attach(alarm)


def detach(alarm: Alarm) -> None:
    """Let `alarm` ring no more; with the last one the hooks of the process are as they were before."""
    _BELL.detach(alarm)
