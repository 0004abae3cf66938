"""What can go wrong with watching, and the alarms that tell of what the watching library keeps to itself.

One observer's life: what the kernel tells of a tree, as hints. Nothing here waits on the event loop.

`start` and `stop` may take seconds and belong in a worker thread.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.utils import BaseThread

from kbsync.source.hints import Hint, HintKind
from kbsync.source.limits import count_watches, inotify_fds

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


_BELL = _Bell()


def attach(alarm: Alarm) -> None:
    """Let `alarm` ring from now on."""
    _BELL.attach(alarm)


def detach(alarm: Alarm) -> None:
    """Let `alarm` ring no more; with the last one the hooks of the process are as they were before."""
    _BELL.detach(alarm)


EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileClosedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]
"""Always asked for: without this filter the kernel also queues every opening, our own reads included."""

_CANARY_EVENTS: list[type[FileSystemEvent]] = [FileClosedEvent]  # the state file lies beside it
_JOIN_SECONDS = 5.0
_TURN_SECONDS = 30.0
_one_start = threading.Lock()  # so that new threads and descriptors can be told apart from those of others

Ignores = Callable[[str], bool]
Post = Callable[[tuple[Hint, ...]], object]


def hints_of(event: FileSystemEvent, root: str, ignores: Ignores) -> tuple[Hint, ...]:
    """What `event` in the tree of `root` (a real path) asks to look at; empty for what changes no content.

    What the library adds for the entries of a directory that moved is covered by the directory's own hints.
    """
    if event.is_synthetic:
        return ()
    hints = _directory_hints(event) if event.is_directory else _file_hints(event)
    within = [Hint(path, kind) for name, kind in hints if (path := _relative(name, root)) is not None]
    return tuple(hint for hint in within if not ignores(hint.path))


def _file_hints(event: FileSystemEvent) -> list[tuple[str, HintKind]]:
    match event:
        case FileMovedEvent():
            return [(_text(event.src_path), HintKind.FILE), (_text(event.dest_path), HintKind.FILE)]
        case FileCreatedEvent() | FileDeletedEvent() | FileModifiedEvent() | FileClosedEvent():
            return [(_text(event.src_path), HintKind.FILE)]
        case _:
            return []


def _directory_hints(event: FileSystemEvent) -> list[tuple[str, HintKind]]:
    match event:
        case DirCreatedEvent():
            return [(_text(event.src_path), HintKind.TREE)]
        case DirDeletedEvent():
            return [(_text(event.src_path), HintKind.GONE_TREE)]
        case DirMovedEvent():
            return [(_text(event.src_path), HintKind.GONE_TREE), (_text(event.dest_path), HintKind.TREE)]
        case _:
            return []


def _text(path: bytes | str) -> str:
    return os.fsdecode(path)


def _relative(path: str, root: str) -> str | None:
    """`path` below `root`; None for the root itself, whose fate is found by its identity, and outside."""
    prefix = root if root.endswith("/") else root + "/"
    return path[len(prefix) :] or None if path.startswith(prefix) else None


class Listener(FileSystemEventHandler):
    """Posts hints from the library's thread. It never raises: an exception would end that thread for good."""

    def __init__(self, root: str, ignores: Ignores, post: Post) -> None:
        self.heard = 0
        self.removed = 0
        self.fault = ""
        self._root = root
        self._ignores = ignores
        self._post = post

    def dispatch(self, event: FileSystemEvent) -> None:
        """Post what `event` hints at; a fault is kept for the watcher to find."""
        self.heard += 1
        self.removed += isinstance(event, DirDeletedEvent)
        try:
            if hints := hints_of(event, self._root, self._ignores):
                self._post(hints)
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"


class NameListener(FileSystemEventHandler):
    """Calls what belongs to a file's name, from the library's thread; never raises."""

    def __init__(self, calls: Mapping[str, Callable[[], object]]) -> None:
        self._calls = calls

    def dispatch(self, event: FileSystemEvent) -> None:
        """Call what belongs to the event's file, if anything does."""
        call = self._calls.get(_text(event.src_path).rpartition("/")[2])
        if call is not None:
            with contextlib.suppress(Exception):  # the loop is closed: the canary will be missed if it is not
                call()


class Observation:
    """One observer on one tree and one canary directory, from start to stop; not to be started twice."""

    def __init__(
        self,
        root: str,
        listener: Listener,
        canary_dir: str,
        canary_listener: NameListener,
        make_observer: Callable[[], BaseObserver],
    ) -> None:
        """`root` must be a real path: directly in a symlinked root nothing would be seen."""
        self.alarm = Alarm()
        self.listener = listener
        self._tree = (listener, root)
        self._canary = (canary_listener, canary_dir)
        self._make_observer = make_observer
        self._observer: BaseObserver | None = None
        self._fds: frozenset[int] = frozenset()
        self._turn = threading.Lock()

    def start(self) -> None:
        """Watch. Raises OSError (28 or 24 at a limit), and then leaves no thread and no descriptor behind."""
        # Each text is unique and holds every watched path: megabytes on stderr about a harmless race.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
        with self._turn:
            attach(self.alarm)
            try:
                with _alone():
                    self._open()
            except BaseException:
                self._close()
                raise

    def stop(self) -> None:
        """End all threads and watches; harmless when never started or stopped before."""
        with self._turn:
            self._close()

    def dead_threads(self) -> list[str]:
        """The names of those threads of the observer that ended by themselves."""
        return [thread.name for thread in self.alarm.threads if not thread.is_alive()]

    def watches(self) -> int | None:
        """How many directories the kernel watches for us, the canary's included; None if it does not say."""
        return count_watches(self._fds) if self._fds else None

    def _open(self) -> None:
        threads, fds = _library_threads(), inotify_fds()
        try:
            self._observer = self._make_observer()
            self._observer.schedule(*self._tree, recursive=True, event_filter=EVENTS, follow_symlink=False)
            self._observer.schedule(*self._canary, event_filter=_CANARY_EVENTS, follow_symlink=False)
            self._observer.start()
        finally:
            self.alarm.threads = _library_threads() - threads
            self._fds = inotify_fds() - fds

    def _close(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            with contextlib.suppress(RuntimeError):  # it was never started
                observer.join(_JOIN_SECONDS)
        detach(self.alarm)
        self.alarm.threads, self._fds = (), frozenset()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    # Not for ever: a start that hangs on a dead mount must not keep the others from starting.
    is_mine = _one_start.acquire(timeout=_TURN_SECONDS)
    try:
        yield
    finally:
        if is_mine:
            _one_start.release()


def _library_threads() -> frozenset[threading.Thread]:
    return frozenset(thread for thread in threading.enumerate() if isinstance(thread, BaseThread))
