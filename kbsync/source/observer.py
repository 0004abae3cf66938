"""Observes a tree: turns the kernel's events into hints, detects lost events, and reads inotify's limits.

Nothing here uses the event loop. Creating, starting and stopping an observer may take seconds, so do that in
a separate thread.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import logging
import os
import resource
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from kbsync.dataclass import dataclass
from kbsync.source.hints import Hint, HintKind, ancestors
from kbsync.source.roots import error_words
from kbsync.source.wake import WAKE

ObserverChoice = Literal["auto", "native", "polling"]
"""A mirror's `observer` setting."""

DESCRIPTORS = 65_536
"""The limit to set for a process that has used up its file descriptors."""

_SYSCTL = Path("/proc/sys/fs/inotify")


@dataclass(frozen=True, slots=True)
class InotifyLimits:
    """The kernel's limits (inotify(7), "/proc interfaces"), or None if they can't be read.

    Both apply to all of the user's processes together.
    """

    watches: int | None = None
    instances: int | None = None


def read_limits(folder: Path = _SYSCTL) -> InotifyLimits:
    """Read the current limits."""

    def number(name: str) -> int | None:
        try:
            return int((folder / name).read_text())
        except (OSError, ValueError):
            return None

    return InotifyLimits(number("max_user_watches"), number("max_user_instances"))


def descriptors_used_up() -> bool:
    """Return whether the process has run out of file descriptors, as opposed to having reached an inotify
    limit.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return len(os.listdir("/proc/self/fd")) + 8 >= soft
    except OSError:
        return True


def limit_fix(name: str, limit: int) -> str:
    """Return the command that raises one inotify limit, now and after reboots."""
    line = f"fs.inotify.{name}={limit}"
    return f"echo {line} | sudo tee /etc/sysctl.d/60-kbsync-{name}.conf && sudo sysctl -w {line}"


def roomy(count: int) -> int:
    """Return a limit with room to grow: the next power of two above twice `count`, at least 524288."""
    return max(524_288, 1 << (2 * count).bit_length())


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The reason why events are missing.

    `fix`: a command to paste, or empty. `is_permanent`: whether retrying is useless.
    """

    why: str
    fix: str = ""
    is_permanent: bool = False


def foreseen_obstacle(
    choice: ObserverChoice, shared: str, directories: int, limits: InotifyLimits
) -> Obstacle | None:
    """Return why events won't work, if that is known in advance.

    `shared` names a file system that doesn't report every change, or is empty. `directories`: the number of
    directories in the folder (0: unknown).
    """
    if choice == "polling":
        return Obstacle("`observer: polling` is set", is_permanent=True)
    if choice == "auto" and shared:
        return Obstacle(f"{shared}; such a file system does not report every change", is_permanent=True)
    if limits.watches is not None and directories >= limits.watches:
        return too_few_watches(limits.watches, directories)
    return None


def too_few_watches(watches: int | None, directories: int) -> Obstacle:
    """Return the obstacle for a folder with more directories than the kernel allows the user to watch."""
    allowed = "too few" if watches is None else f"only {watches}"
    needed = f"this folder's {directories} need more" if directories else "this folder needs more"
    return Obstacle(
        f"the kernel allows {allowed} watched directories per user, across all programs; {needed}",
        limit_fix("max_user_watches", roomy(max(directories, watches or 0))),
    )


def start_obstacle(error: OSError, limits: InotifyLimits, directories: int) -> Obstacle:
    """Return why watching couldn't start."""
    if error.errno == errno.ENOSPC:
        return too_few_watches(limits.watches, directories)
    if error.errno != errno.EMFILE:
        return Obstacle(f"watching could not be started: {error_words(error)}")
    if descriptors_used_up():
        # Raises the limit of the running process: `ulimit` affects only processes that a shell starts later.
        _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_enough = hard_limit == resource.RLIM_INFINITY or hard_limit >= DESCRIPTORS
        return Obstacle(
            "this process has used up its file descriptors",
            f"sudo prlimit --pid {os.getpid()} --nofile={DESCRIPTORS}:{'' if is_enough else DESCRIPTORS}",
        )
    allowed = "" if limits.instances is None else f" ({limits.instances})"
    return Obstacle(
        f"the limit on inotify instances per user{allowed} has been reached",
        limit_fix("max_user_instances", max(1024, 2 * (limits.instances or 0))),
    )


EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileClosedEvent,
    FileAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]
"""The kinds of events to watch for. Without this filter, the kernel also queues an event for every open,
including our own reads (promise 4).
"""

OWN_EVENTS: list[type[FileSystemEvent]] = [FileClosedEvent]
"""In the state directory, the closing of a file is the only event to report, because kbsync writes to the
state file constantly.
"""

Ignores = Callable[[str], bool]
IsUnreadable = Callable[[str], bool]
Post = Callable[[tuple[Hint, ...]], object]

# The library logs even its own shutdown as an error. Important errors become a `WatchProblem`.
logging.getLogger("watchdog").setLevel(logging.CRITICAL)


class ProblemKind(enum.Enum):
    """The kinds of problems with a folder. While one of the first three lasts, nothing may be deleted."""

    ROOT_MISSING = "root-missing"
    ROOT_UNREADABLE = "root-unreadable"
    ROOT_SILENT = "root-silent"  # the file system does not answer
    ROOT_CHANGED = "root-changed"  # another folder has replaced it
    OVERFLOW = "overflow"
    WATCH_LIMIT = "watch-limit"
    THREAD_DIED = "thread-died"
    EVENT_FAILED = "event-failed"


@dataclass(frozen=True, slots=True)
class WatchProblem:
    """A problem, and a sentence that describes it to users."""

    kind: ProblemKind
    text: str

    @property
    def is_of_root(self) -> bool:
        """Return whether the problem is that the folder itself can't currently be checked."""
        return self.kind in (ProblemKind.ROOT_MISSING, ProblemKind.ROOT_UNREADABLE, ProblemKind.ROOT_SILENT)


_EXPECTED = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)
"""Errors for a directory that has vanished or is unreadable. The watch doesn't report them, because scans
notice both.
"""


class KernelReader(InotifyFD):
    """The thread that reads the kernel's events. It records errors that the library only logs or swallows.

    Attributes are set by this thread or by the thread that starts the observer. The watcher reads them.
    """

    def __init__(self) -> None:
        self.overflowed = False
        self.reached_watch_limit = False
        self.saw_unmount = False
        self.refusal = ""
        self.crash = ""
        super().__init__()

    def run(self) -> None:
        """Read events until stopped. An exception ends the thread and is stored as `crash`."""
        try:
            super().run()
        except Exception as error:
            self.crash = f"{type(error).__name__}: {error}"

    def handle_event(self, event: InotifyEvent) -> None:
        """Forward an event unless it is an overflow.

        After an overflow, the library adds every watch again and queues an event for each, so in a large tree
        one overflow causes the next. The watcher starts another observer instead.
        """
        if event.is_queue_overflow:
            self.overflowed = True
        else:
            self.saw_unmount |= bool(event.mask & InotifyConstants.IN_UNMOUNT)
            super().handle_event(event)

    def add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        """Watch a directory. Raises OSError, which the library ignores for all directories but the root."""
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if error.errno == errno.ENOSPC:  # inotify_add_watch(2): max_user_watches
                self.reached_watch_limit = True
            elif error.errno not in _EXPECTED:
                self.refusal = f"the kernel refuses to watch one of the folders: {error_words(error)}"
            raise

    def _add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        """Watch a directory, which may already be watched.

        In that case, the library's own method formats a warning that lists every watched path.
        """
        watch = self._get_or_create_watch(path, mask)
        watch.callbacks[id_] = callback
        return watch.wd


class WatchGroup(InotifyWatchGroup):
    """The watches of one tree.

    The library tracks the path of a watch through the events about moves, which fails in two cases: when such
    an event arrives, other directories may already have its paths; and if two directories are exchanged, the
    second event undoes the effect of the first. So the paths of a move are doubtful until `realign` has
    looked them up.

    A directory that kbsync may not read can't be watched until its permissions change, and the files in one
    that it may not enter can't be read.

    Two watches may have the same path: after `mv b /elsewhere; mv a b`, the kernel still watches both
    directories until `realign` ends the watch on the former.
    """

    def __post_init__(self) -> None:
        """Watch the tree. Raises the same OSError as `KernelReader.add_callback`."""
        self._doubtful_paths: set[bytes] = set()
        self._unreadable_paths: set[bytes] = set()
        self._readable_paths: set[bytes] = set()
        self.retry_unreadable = False
        """Whether `realign` also tries to watch directories that were unreadable, because a change outside
        the tree may have made them readable.
        """
        super().__post_init__()

    @property
    def has_doubts(self) -> bool:
        """Return whether `realign` has anything to do."""
        return bool(self._doubtful_paths or (self.retry_unreadable and self._unreadable_paths))

    def realign(self) -> list[str]:
        """Look up which directories are at or below the doubtful paths, and watch them under these paths.

        Return the directories that weren't watched, were watched under another path, or were unreadable, so
        that their events may be missing. Leave out directories below others.
        """
        with self._lock:
            former_paths = self._active_callbacks_by_watch.copy()
            doubtful_paths, self._doubtful_paths = self._doubtful_paths, set()
            readable_paths, self._readable_paths = self._readable_paths, set()
            retried_paths: set[bytes] = set()
            if self.retry_unreadable:
                self.retry_unreadable = False
                retried_paths, self._unreadable_paths = self._unreadable_paths, set()
            vacated_paths = doubtful_paths - _listed_paths(doubtful_paths)
            vacated_prefixes = tuple(path + b"/" for path in vacated_paths)
            for path in doubtful_paths | retried_paths:
                if self.is_active and not (path + b"/").startswith(vacated_prefixes):
                    self._add_all_callbacks(path)
            readable_paths |= retried_paths - self._unreadable_paths
            self._remove_strays(doubtful_paths, vacated_prefixes)
            watched = self._active_callbacks_by_watch.items()
            corrected_paths = {path for watch, path in watched if former_paths.get(watch) != path}
            paths = set(map(os.fsdecode, (corrected_paths | readable_paths) - {self.path}))
            return sorted(path for path in paths if paths.isdisjoint(ancestors(path)))

    def _remove_strays(self, paths: Iterable[bytes], vacated_prefixes: tuple[bytes, ...]) -> None:
        """End the watches on directories that are no longer at or below these paths.

        No path begins with one of the `vacated_prefixes`, even if a different spelling leads to a directory.
        If such a directory is still in the tree, the event about its new path has yet to arrive, and kbsync
        then watches it again.
        """
        prefixes = tuple(path + b"/" for path in paths)

        def is_stray(watch: WatchDescriptor, path: bytes) -> bool:
            if self._active_callbacks_by_path.get(path) != watch:
                return True
            below = path + b"/"
            return below.startswith(vacated_prefixes) or (
                below.startswith(prefixes) and not os.path.lexists(path)
            )

        watched = self._active_callbacks_by_watch.items()
        self._remove_callbacks([watch for watch, path in watched if is_stray(watch, path)])

    def on_event(self, event: InotifyEvent) -> None:
        """Process the event, and record the path of a moved or newly readable directory as doubtful."""
        # The library may undo a correction that is made before it has processed the event.
        super().on_event(event)
        if not (self.is_recursive and event.is_directory and (event.is_move or event.is_attrib)):
            return
        with self._lock:
            path = self._build_event_source_path(event)
            if path is None:
                return
            if event.is_move:
                self._doubtful_paths.add(path)
            elif not os.access(path, os.R_OK | os.X_OK):
                self._unreadable_paths.add(path)
            elif became_readable := {
                former for former in self._unreadable_paths if (former + b"/").startswith(path + b"/")
            }:
                self._unreadable_paths -= became_readable
                self._doubtful_paths.add(path)
                self._readable_paths.add(path)

    def _add_all_callbacks(self, path: bytes) -> None:
        """Watch the directory at `path`, if there still is one, and all directories below it."""
        # The path may lead through a symlink by now, and so to any other tree.
        if path == self.path or os.path.realpath(path) == path:
            super()._add_all_callbacks(path)

    def _add_callback(self, path: bytes) -> None:
        """Watch one directory. If it is already watched under another path, correct that."""
        try:
            watch = self._inotify_fd.add_callback(path, self.event_mask, self._callback, self._id)
        except OSError:
            # Any other directory may have vanished in the meantime, and scans notice that.
            if path == self.path:
                raise
            return
        # The library returns -1 for a directory that can't be read. The kernel watches one that can't be
        # entered.
        if watch < 0 or not os.path.lexists(path + b"/."):
            self._unreadable_paths.add(path)
        if watch < 0:
            return
        former_path = self._active_callbacks_by_watch.get(watch)
        # A later move of the former path must not move this watch.
        if former_path is not None and self._active_callbacks_by_path.get(former_path) == watch:
            del self._active_callbacks_by_path[former_path]
        self._active_callbacks_by_watch[watch] = path
        self._active_callbacks_by_path[path] = watch

    def _remove_watch_internally(self, wd: WatchDescriptor) -> None:
        """Remove a watch.

        For the second watch on the same path, the library's own method would raise KeyError.
        """
        path = self._active_callbacks_by_watch.pop(wd, b"")
        if self._active_callbacks_by_path.get(path) == wd:
            del self._active_callbacks_by_path[path]


def _listed_paths(paths: Iterable[bytes]) -> set[bytes]:
    """Return the paths that exist in exactly this spelling, or whose parent can't be listed.

    After `mv Docs docs`, some file systems still find the directory by its former name.
    """
    listed_paths: set[bytes] = set()
    names_in: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for path in paths:
        parent, _, name = path.rpartition(b"/")
        names_in[parent].add(name)
    for parent, names in names_in.items():
        with contextlib.suppress(OSError):
            names &= set(os.listdir(parent or b"/"))
        listed_paths |= {parent + b"/" + name for name in names}
    return listed_paths


class TreeEmitter(InotifyEmitter):
    """Reports the events of one tree."""

    def on_thread_start(self) -> None:
        """Watch the tree. Raises the same OSError as `KernelReader.add_callback`."""
        self._inotify = WatchGroup(
            self._inotify_fd,
            os.fsencode(self.watch.path),
            is_recursive=self.watch.is_recursive,
            event_mask=Mask(self.get_event_mask_from_filter() | InotifyConstants.IN_ONLYDIR),
            follow_symlink=self.watch.follow_symlink,
        )

    @property
    def group(self) -> WatchGroup | None:
        """The watches, or None unless the thread is running."""
        watches = self._inotify  # the thread may be ending
        return watches if isinstance(watches, WatchGroup) else None


class TreeObserver(BaseObserver):
    """The threads that watch one tree.

    Raises OSError if the kernel can't provide another inotify instance.
    """

    def __init__(self) -> None:
        self.reader = KernelReader()
        self.reader.start()
        super().__init__(TreeEmitter, inotify_fd=self.reader)

    def on_thread_stop(self) -> None:
        """End the threads and release the watches."""
        super().on_thread_stop()
        self.reader.stop()
        self.reader.join()

    def groups(self) -> list[WatchGroup]:
        """Return the watches of each scheduled tree."""
        groups = [emitter.group for emitter in self.emitters.copy() if isinstance(emitter, TreeEmitter)]
        return [group for group in groups if group is not None]

    def dead_threads(self) -> list[str]:
        """Return the names of the threads that ended unexpectedly."""
        return [thread.name for thread in (self, self.reader, *self.emitters.copy()) if not thread.is_alive()]


def hints_of(
    event: FileSystemEvent, root: str, ignores: Ignores, is_unreadable: IsUnreadable
) -> tuple[Hint, ...]:
    """Return the hints that `event` gives about the tree below `root` (a real path), or none if no content
    changes.

    New permissions matter only for a file that was unreadable, because it may be readable now (promise 7).
    The library's extra events for the entries of a moved directory are ignored, because the hints for the
    directory itself cover them.
    """
    if event.is_synthetic:
        return ()
    match event:
        case FileMovedEvent():
            hints = [(event.src_path, HintKind.FILE), (event.dest_path, HintKind.FILE)]
        case (
            FileCreatedEvent()
            | FileDeletedEvent()
            | FileModifiedEvent()
            | FileClosedEvent()
            | FileAttribEvent()
        ):
            hints = [(event.src_path, HintKind.FILE)]
        case DirCreatedEvent():
            hints = [(event.src_path, HintKind.TREE)]
        case DirDeletedEvent():
            hints = [(event.src_path, HintKind.GONE_TREE)]
        case DirMovedEvent():
            hints = [(event.src_path, HintKind.GONE_TREE), (event.dest_path, HintKind.TREE)]
        case _:
            return ()
    prefix = root if root.endswith("/") else root + "/"
    wanted_hints = []
    for name, kind in hints:
        path = os.fsdecode(name)
        # Changes of the root itself are detected through its identity.
        below = path[len(prefix) :] if path.startswith(prefix) else ""
        is_wanted = not isinstance(event, FileAttribEvent) or is_unreadable(below)
        if below and is_wanted and not ignores(below):
            wanted_hints.append(Hint(below, kind))
    return tuple(wanted_hints)


class TreeEvents(FileSystemEventHandler):
    """Turns events from the library's thread into hints.

    Never raises, because an exception would end that thread.
    """

    def __init__(self, root: str, ignores: Ignores, is_unreadable: IsUnreadable, post: Post) -> None:
        self.event_count = 0
        self.fault = ""
        self._root = root
        self._ignores = ignores
        self._is_unreadable = is_unreadable
        self._post = post

    def dispatch(self, event: FileSystemEvent) -> None:
        """Count `event`, and post its hints."""
        self.event_count += 1
        self.post_hints(event)

    def post_hints(self, event: FileSystemEvent) -> None:
        """Post the hints for `event`, and store any exception in `fault` for the watcher."""
        try:
            if hints := hints_of(event, self._root, self._ignores, self._is_unreadable):
                self._post(hints)
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"


class WakeEvents(FileSystemEventHandler):
    """Calls a function, in the library's thread, for each event on the file `wake`. Never raises."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def dispatch(self, event: FileSystemEvent) -> None:
        """Call the function if the event is about the file `wake`."""
        if os.fsdecode(event.src_path).rpartition("/")[2] == WAKE:
            # The loop may be closed, and an exception would end this thread.
            with contextlib.suppress(Exception):
                self._call()
