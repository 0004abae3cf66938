"""Watches one folder: yields hints about paths to check, and detects when hints can't be trusted.

Events are hints only (ADR 10). Events may be lost, but the watcher detects that, starts another observer and
requests a full rescan. Without events, it polls at a shorter interval (`rescan_every`). Promises 1 and 5
depend on this: while the root can't be checked, or is another folder, nothing is deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from watchdog.events import DirCreatedEvent

from kbsync.core.model import RootIdentity
from kbsync.dataclass import dataclass
from kbsync.errors import KbsyncError
from kbsync.file_systems import Mount, is_shared, mounts
from kbsync.source.hints import Hint, HintSet
from kbsync.source.observer import (
    EVENTS,
    OWN_EVENTS,
    InotifyLimits,
    ObserverChoice,
    Obstacle,
    ProblemKind,
    TreeEvents,
    TreeObserver,
    WakeEvents,
    WatchProblem,
    foreseen_obstacle,
    read_limits,
    start_obstacle,
    too_few_watches,
)
from kbsync.source.roots import (
    MAX_CHECK_SECONDS,
    UNKNOWN,
    bound,
    error_words,
    identify,
    opened_root,
    select_below,
    shared_below,
    storable_inode,
)
from kbsync.source.wake import WakeFile
from kbsync.threads import start_thread

T = TypeVar("T")

RESCAN = 900.0
POLL_SHORTEST = 10.0
POLL_SHARE = 20.0
"""The pause between polling scans, as a multiple of a scan's duration, so that polling uses at most a
twentieth of a core.
"""
TRY_AGAIN = 600.0
"""Seconds to wait before requesting events again after the system has refused more watches."""
ON_THE_WAY = 2.0
"""Maximum number of seconds that an event takes to arrive; the library delays each by half a second."""

FREE_FAILURES = 3
"""Maximum number of failures after which another observer starts immediately; beyond that, the pauses
grow."""
FAILURE_COUNTS = 600.0
"""Seconds for which a failure is remembered, which is also the maximum pause after a failure."""

_STOP_SECONDS = 15.0
_JOIN_SECONDS = 5.0


async def run_detached(call: Callable[[], T]) -> T:
    """Run `call` in a separate thread, because a dead network mount may block it. Return its result or raise
    its exception.

    If the caller is canceled, the call continues and its result is dropped.
    """
    # Don't use the default executor: when the loop ends, it waits for all of that executor's threads.
    return await asyncio.wrap_future(start_thread(call))


class Mode(enum.StrEnum):
    """Where hints come from: the kernel, or only rescans."""

    NATIVE = "native"
    POLLING = "polling"


@dataclass(frozen=True, slots=True)
class WatchReport:
    """How a folder is watched.

    `why` is a sentence that describes what prevents events, and `fix` is a command. Both are empty in native
    mode.
    """

    mode: Mode
    why: str = ""
    fix: str = ""


def device_and_inode(folder: Path) -> tuple[int, int]:
    """Return the device and inode of the folder that is now at this path.

    Raises OSError, including when the folder exists but can't be read.
    """
    with opened_root(folder) as fd:
        status = os.fstat(fd)
    return status.st_dev, storable_inode(status.st_ino)


@dataclass(frozen=True, slots=True)
class Machine:
    """The system functions needed for watching, which tests replace.

    `clock` returns the time in monotonic seconds.
    """

    clock: Callable[[], float] = time.monotonic
    limits: Callable[[], InotifyLimits] = read_limits
    mounts: Callable[[], Iterable[Mount]] = mounts
    identify: Callable[[Path], RootIdentity] = identify
    root_inode: Callable[[Path], tuple[int, int]] = device_and_inode
    make_observer: Callable[[], TreeObserver] = TreeObserver


@dataclass(frozen=True, slots=True)
class RootSurvey:
    """What is known about a folder before it is watched.

    `mounts` are the mounts below it. `shared` names a file system that doesn't report every change. `bound`
    is the bind mount that contains the folder or is below it. `shared` and `bound` are empty if there is no
    such file system or mount.
    """

    folder: str
    identity: RootIdentity
    mounts: frozenset[Mount]
    shared: str = ""
    bound: str = ""


def survey(root: Path, machine: Machine) -> RootSurvey:
    """Survey `root`, following it if it is a symlink. Raises OSError, RootError or ShortageError."""
    identity = machine.identify(root)
    folder, all_mounts = os.path.realpath(root), tuple(machine.mounts())
    below = frozenset(select_below(folder, all_mounts))
    if is_shared(identity.fs_type):
        return RootSurvey(folder, identity, below, shared=f"it is on {identity.fs_type}")
    if mount := shared_below(folder, below):
        return RootSurvey(folder, identity, below, shared=f"{mount.point} is {mount.fs_type}")
    mount = bound(folder, all_mounts)
    return RootSurvey(folder, identity, below, bound=mount.point if mount else "")


class Watch:
    """An observer's watch on `folder` (a real path) and on the state directory.

    Each instance is opened once and closed once.
    """

    def __init__(
        self,
        folder: str,
        state_dir: str,
        make_observer: Callable[[], TreeObserver],
        *,
        on_hints: Callable[[tuple[Hint, ...]], None],
        on_wake: Callable[[], None],
        ignores: Callable[[str], bool],
        is_unreadable: Callable[[str], bool],
    ) -> None:
        """Prepare the watch.

        This needs a running event loop, in whose thread `on_hints` and `on_wake` are called. `ignores` and
        `is_unreadable` are called in another thread.
        """
        self._folder = folder
        self._state_dir = state_dir
        self._make_observer = make_observer
        post = asyncio.get_running_loop().call_soon_threadsafe
        self._tree = TreeEvents(folder, ignores, is_unreadable, lambda hints: post(on_hints, hints))
        self._wakes = WakeEvents(partial(post, on_wake))
        self._observer: TreeObserver | None = None
        # Held while an observer starts, even if the caller has stopped waiting.
        self._lock = threading.Lock()
        self._scan_began = 0
        self._last_scan_began = -1
        self._was_silent = False

    async def open(self) -> None:
        """Start watching.

        Raises OSError (errno 28 or 24 at a limit) without leaving behind a thread or descriptor.
        """
        await run_detached(self._open)

    async def close(self) -> None:
        """End the watch, even if opening it was interrupted."""
        with contextlib.suppress(TimeoutError):  # its threads are daemon threads, which end with the program
            await asyncio.wait_for(run_detached(self._close), _STOP_SECONDS)

    def _open(self) -> None:
        with self._lock:
            try:
                self._observer = observer = self._make_observer()
                observer.schedule(self._tree, self._folder, recursive=True, event_filter=EVENTS)
                observer.schedule(self._wakes, self._state_dir, event_filter=OWN_EVENTS)
                observer.start()
            except BaseException:
                self._end_observer()
                raise

    def _close(self) -> None:
        with self._lock:
            self._end_observer()

    def _end_observer(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            with contextlib.suppress(RuntimeError):  # the observer never started
                observer.join(_JOIN_SECONDS)

    def problem(self) -> WatchProblem | None:
        """Return the problem with the watch, if any.

        Cheap to call. Checks for the most likely cause first.
        """
        observer = self._observer
        if observer is not None and observer.reader.overflowed:
            kind, words = ProblemKind.OVERFLOW, "more paths changed at once than the kernel can queue"
        elif observer is not None and observer.reader.reached_watch_limit:
            kind, words = (
                ProblemKind.WATCH_LIMIT,
                "the kernel's limit on watched directories has been reached",
            )
        elif observer is not None and (dead := observer.reader.crash or ", ".join(observer.dead_threads())):
            kind, words = ProblemKind.THREAD_DIED, f"a watching thread ended unexpectedly ({dead})"
        elif self._tree.fault:
            kind, words = ProblemKind.EVENT_FAILED, f"an event could not be handled ({self._tree.fault})"
        else:
            return None
        return WatchProblem(kind, f"{self._folder}: {words}")

    async def realign(self) -> None:
        """Correct the watches after directories have been moved or have become readable.

        This hints at every directory whose events may have been missing.
        """
        if self._observer is not None and any(group.has_doubts for group in self._observer.groups()):
            with contextlib.suppress(TimeoutError):  # it goes on in its thread
                await asyncio.wait_for(run_detached(self._realign), MAX_CHECK_SECONDS)

    def _realign(self) -> None:
        with self._lock:
            for group in self._observer.groups() if self._observer else ():
                for path in group.realign():
                    self._tree.post_hints(DirCreatedEvent(path))  # the kernel may not have reported it

    @property
    def saw_unmount(self) -> bool:
        """Return whether a file system that was being watched has been unmounted."""
        return self._observer is not None and self._observer.reader.saw_unmount

    @property
    def refusal(self) -> str:
        """Return why one of the folders isn't watched, or '' if all are."""
        return "" if self._observer is None else self._observer.reader.refusal

    def scan_started(self) -> None:
        """Record that a full scan is starting."""
        self._scan_began = self.event_count

    def scan_ended(self) -> None:
        """Record that the last full scan has finished."""
        for group in self._observer.groups() if self._observer else ():
            group.retry_unreadable = True
        self._was_silent = self._last_scan_began == self._scan_began
        self._last_scan_began = self._scan_began

    @property
    def event_count(self) -> int:
        """Return how many events the folder has caused so far."""
        return self._tree.event_count

    @property
    def is_silent(self) -> bool:
        """Return whether no event has arrived since the start of the second-to-last finished scan."""
        return self._was_silent and self.event_count == self._last_scan_began


class RootCheck:
    """Checks whether the folder is still the same, because it can disappear or be replaced without any event.

    While `is_local` is set, it checks at once (a few microseconds). Otherwise, it checks in a thread, because
    a dead network mount never responds. At most one check runs at a time.
    """

    def __init__(self, folder: Path, stat: Callable[[Path], tuple[int, int]]) -> None:
        self.is_local = False
        self._folder = folder
        self._stat = stat
        self._open_check: asyncio.Task[tuple[int, int]] | None = None

    async def problem(self, identity: RootIdentity | None) -> WatchProblem | None:
        """Return the current problem with the folder.

        Return None if the folder can be read and, if `identity` is given, has that identity.
        """
        folder = self._folder
        try:
            current = await self._check()
        except FileNotFoundError:
            return WatchProblem(ProblemKind.ROOT_MISSING, f"{folder} is missing")
        except NotADirectoryError:
            return WatchProblem(ProblemKind.ROOT_MISSING, f"{folder} is not a folder")
        except TimeoutError:
            return WatchProblem(ProblemKind.ROOT_SILENT, f"the file system of {folder} isn't responding")
        except OSError as error:
            return WatchProblem(ProblemKind.ROOT_UNREADABLE, f"{folder} cannot be read: {error_words(error)}")
        if identity is None or identity.is_at(*current):
            return None
        return WatchProblem(ProblemKind.ROOT_CHANGED, f"{folder} is now a different folder")

    def give_up(self) -> None:
        """Stop waiting for a running check."""
        if self._open_check is not None:
            self._open_check.cancel()
            self._open_check = None

    async def _check(self) -> tuple[int, int]:
        if self.is_local:
            return self._stat(self._folder)
        patience = 0.0 if self._open_check else MAX_CHECK_SECONDS
        if self._open_check is None:
            self._open_check = asyncio.create_task(run_detached(lambda: self._stat(self._folder)))
            # A result that arrives after the wait isn't an error.
            self._open_check.add_done_callback(lambda task: task.cancelled() or task.exception())
        check = self._open_check
        await asyncio.wait([check], timeout=patience)
        if not check.done():
            raise TimeoutError
        self._open_check = None
        return check.result()


class Watcher:
    """The watch on one folder. Call all methods in the event loop's thread, and call `check` every 1 to 2
    seconds.

    To avoid missing changes, use this order: `start`, `scan_started`, the scan, `scan_ended`. After that,
    process hints, and scan again when `rescan_reason` is set, or after `rescan_every` seconds at the latest.
    """

    def __init__(
        self,
        root: Path,
        state_dir: Path,
        *,
        on_hint: Callable[[], None] = lambda: None,
        on_wake: Callable[[], None] = lambda: None,
        ignores: Callable[[str], bool] = lambda _path: False,
        is_unreadable: Callable[[str], bool] = lambda _path: False,
        observer: ObserverChoice = "auto",
        rescan: float = RESCAN,
        machine: Machine | None = None,
    ) -> None:
        """Prepare the watcher.

        `root`: the folder or a symlink to it. `state_dir`: our state directory, which exists and isn't below
        it. `on_hint` (hints arrived) and `on_wake` (a command used `wake`) are called in the event loop's
        thread. `ignores` and `is_unreadable` are called in another thread with a relative path. If `ignores`
        returns True, the hint is dropped. New permissions cause a hint only for a file that `is_unreadable`.
        """
        self.hints = HintSet()
        self.report = WatchReport(Mode.POLLING, f"{root} is not watched yet")
        self._root = root
        self._state_dir = os.path.realpath(state_dir)
        self._on_hint = on_hint
        self._ignores = ignores
        self._is_unreadable = is_unreadable
        self._choice: ObserverChoice = observer
        self._rescan = rescan
        self._machine = machine or Machine()
        self._wake = WakeFile(state_dir, on_wake)
        self._root_check = RootCheck(root, self._machine.root_inode)
        self._failures, self._last_failure = 0, float("-inf")
        self._lock = asyncio.Lock()
        self._started = False
        self._watch: Watch | None = None
        self._watched_identity: RootIdentity | None = None
        """On FAT, the identity with the folder's inode number, which stays the same until the watch ends."""
        self.identity: RootIdentity | None = None
        """The identity of the watched folder; None while the folder can't be checked, during which nothing
        may be deleted.

        After ROOT_CHANGED, this is the identity of the new folder: the caller decides whether that folder may
        replace the old one, as after a mount, or is just an empty mount point.
        """
        self.rescan_reason = ""
        """The reason for a rescan; empty if none is needed."""
        self._scan_seconds = 0.0
        self._directories = 0
        self._folder = ""
        self._mounts: frozenset[Mount] = frozenset()
        self._scanned_mount_points: set[str] = set()
        self._try_at: float | None = None
        self._silent_since: float | None = None
        self._report_with_events = self.report
        """The report of the last watch with events. It is restored if an event arrives while kbsync is
        polling.
        """
        self._events_before = 0

    @property
    def rescan_every(self) -> float:
        """Return the number of seconds after which to scan the folder even if there is no event."""
        if self.report.mode is Mode.NATIVE:
            return self._rescan
        return min(self._rescan, max(POLL_SHORTEST, round(POLL_SHARE * self._scan_seconds)))

    async def start(self, directories: int = 0) -> WatchReport:
        """Start watching. Never raises because of a problem with the folder or the kernel.

        The returned report says whether events are missing, and why. `directories`: how many directories the
        folder had when last scanned (0: unknown).
        """
        async with self._lock:
            await self._close()
            self._directories = directories
            self._started = True
            self._wake.prepare()
            await self._open()
            return self.report

    async def stop(self) -> None:
        """End the watch and its threads, unless it has already ended."""
        async with self._lock:
            self._started = False
            self._root_check.give_up()
            await self._close()

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a file system that always responds, and was still there at the last
        check.
        """
        return self._root_check.is_local

    async def check(self) -> list[WatchProblem]:
        """Check whether hints can be trusted, and fix what can be fixed before returning.

        Problems with the root are reported at every check while they last, other problems only once. This is
        cheap if there are no problems.
        """
        self._wake.check()
        async with self._lock:
            if not self._started:
                return []
            problem = await self._root_check.problem(self._watched_identity or self.identity)
            if problem is not None and problem.is_of_root:
                # A slow file system may still be the same one, with all its watches.
                if self.identity is not None and problem.kind is not ProblemKind.ROOT_SILENT:
                    await self._close()
                    self.identity = None
                    # The folder replacing it may be on a dead network mount.
                    self._root_check.is_local = False
                    self._poll(Obstacle(problem.text, is_permanent=True))
                return [problem]
            if self.identity is None:
                await self._open()
                if self.identity is None:
                    return [WatchProblem(ProblemKind.ROOT_UNREADABLE, self.report.why)]
                self.want_rescan(f"{self._root} is readable again")
                return []
            if problem is None and self._watch is not None:
                problem = self._watch.problem()
            if problem is not None:
                await self._recover(problem)
                return [problem]
            if self._have_mounts_changed():
                # A watch covers neither a disk mounted later nor the folder below an unmounted one.
                await self._close()
                await self._open()
                self._scanned_mount_points.clear()  # the rescan may have to wait for a running scan
                self.want_rescan(f"{self._root}: a disk was mounted or unmounted in this folder")
                return []
            if self._try_at is not None and self._machine.clock() >= self._try_at:
                await self._open()
                if self._watch is not None:
                    self.want_rescan(f"{self._root} is watched again")
            elif self._watch is not None:
                await self._watch.realign()
                await self._check_silence(self._watch)
            return []

    def want_rescan(self, reason: str) -> None:
        """Request a full rescan, for example when a scan couldn't finish."""
        self.rescan_reason = self.rescan_reason or reason

    def scan_started(self) -> None:
        """Record the start of a full scan, which satisfies all rescan requests so far."""
        self.rescan_reason = ""
        self.hints.overflowed = False
        self._scanned_mount_points.clear()
        if self._watch is not None:
            self._watch.scan_started()

    def scan_ended(
        self, directories: int, seconds: float, changes: int = 0, mount_points: Collection[str] = ()
    ) -> None:
        """Record a finished full scan that counted `directories`, including the root.

        `changes`: how many differences it found. If no event reported any of them, events may not be arriving
        at all. `mount_points`: where it found something mounted, relative to the root.
        """
        self._directories = directories
        self.note_mounts(mount_points)
        self._scan_seconds = seconds
        if self._watch is not None:
            self._watch.scan_ended()
            if changes and self._watch.is_silent and self._silent_since is None:
                self._silent_since = self._machine.clock()

    def note_mounts(self, mount_points: Iterable[str]) -> None:
        """Record the mount points that scans have found, relative to the root.

        If nothing is mounted at one of them at the next check, the watcher requests a rescan.
        """
        self._scanned_mount_points.update(mount_points)

    def _receive(self, hints: tuple[Hint, ...]) -> None:
        for hint in hints:
            self.hints.add(hint)
        if self.hints.overflowed:
            self.want_rescan(f"{self._root}: more paths changed at once than kbsync can record individually")
        self._on_hint()

    def _have_mounts_changed(self) -> bool:
        # A disk that is mounted again at once may have the same mount id and device as before.
        if self._watch is not None and self._watch.saw_unmount:
            return True
        try:
            current = frozenset(select_below(self._folder, self._machine.mounts()))
        except OSError:
            return False  # unknown: the next check tries again
        # A disk may have been mounted only while a scan found it.
        points = {mount.point for mount in current}
        scanned = (os.path.join(self._folder, point) for point in self._scanned_mount_points)
        return self._mounts != current or not points.issuperset(scanned)

    async def _check_silence(self, watch: Watch) -> None:
        """Restart the watch if scans find changes without events.

        In `auto` mode, also poll until the next event, or permanently if a folder can't be watched.
        """
        if self.report.mode is Mode.POLLING:
            if watch.event_count > self._events_before and not watch.refusal:
                self.report, self._silent_since = self._report_with_events, None
        elif watch.refusal and self._choice == "auto":
            self._poll_as_well(Obstacle(watch.refusal, is_permanent=True))
        elif not watch.is_silent:
            self._silent_since = None
        elif self._silent_since is not None and self._machine.clock() - self._silent_since >= ON_THE_WAY:
            # Use another observer, because this one may receive nothing even though its threads are running.
            await self._close()
            await self._open()
            missed = "a scan found changes that no event had reported"
            # With `native`, which only uses events, the next scan that finds changes restarts the watch
            # again.
            if self._choice == "auto" and self.report.mode is Mode.NATIVE:
                self._poll_as_well(Obstacle(missed, is_permanent=True))
            self.want_rescan(self.report.why or f"{self._root}: {missed}")

    def _poll_as_well(self, obstacle: Obstacle) -> None:
        """Keep the watch open, and also poll until its next event."""
        self._report_with_events = self.report
        self._events_before = self._watch.event_count if self._watch else 0
        self._poll(obstacle)

    async def _recover(self, problem: WatchProblem) -> None:
        """Start another observer, at once or after a pause, and request a rescan."""
        await self._close()
        now = self._machine.clock()
        if problem.kind is ProblemKind.WATCH_LIMIT:
            # Another observer would reach the same limit. Until it is raised, only scans see everything. The
            # last scan counted too few directories, because some are new.
            self._poll(too_few_watches(self._machine.limits().watches, directories=0))
        else:
            self._failures = self._failures + 1 if now - self._last_failure < FAILURE_COUNTS else 1
            self._last_failure = now
            if self._failures > FREE_FAILURES:
                self._poll(Obstacle(problem.text), min(FAILURE_COUNTS, 2.0**self._failures))
            else:
                await self._open()
        self.want_rescan(problem.text)

    async def _open(self) -> None:
        """Start the watch, or report why that isn't possible.

        `identity` stays None if the folder can't be checked.
        """
        self._try_at = self.identity = None
        try:
            surveying = run_detached(partial(survey, self._root, self._machine))
            surveyed = await asyncio.wait_for(surveying, MAX_CHECK_SECONDS)
        except (OSError, KbsyncError) as error:
            words = "its file system isn't responding" if isinstance(error, TimeoutError) else str(error)
            self._poll(Obstacle(words, is_permanent=True))
            return
        self.identity = surveyed.identity
        self._folder, self._mounts = surveyed.folder, surveyed.mounts
        # A folder outside all listed mounts may be on any file system.
        self._root_check.is_local = not surveyed.shared and surveyed.identity.fs_type != UNKNOWN
        obstacle = foreseen_obstacle(self._choice, surveyed.shared, self._directories, self._machine.limits())
        if obstacle is None:
            # Set this before opening the watch, so that `stop` finds it even if this call is canceled
            # halfway.
            self._watch = watch = Watch(
                surveyed.folder,
                self._state_dir,
                self._machine.make_observer,
                on_hints=self._receive,
                on_wake=self._wake.touched,
                ignores=self._ignores,
                is_unreadable=self._is_unreadable,
            )
            try:
                if self._root_check.is_local and not surveyed.identity.ino:
                    _, ino = self._machine.root_inode(self._root)
                    self._watched_identity = replace(surveyed.identity, ino=ino)
                await watch.open()
                self.report = WatchReport(Mode.NATIVE)
            except OSError as error:
                self._watch = self._watched_identity = None
                obstacle = start_obstacle(error, self._machine.limits(), self._directories)
        if obstacle is not None:
            self._poll(obstacle)
        elif surveyed.bound and self._choice == "auto":
            why = f"{surveyed.bound} is a bind mount, and no event has reported its changes yet"
            self._poll_as_well(Obstacle(why, is_permanent=True))

    def _poll(self, obstacle: Obstacle, pause: float = TRY_AGAIN) -> None:
        self._try_at = None if obstacle.is_permanent else self._machine.clock() + pause
        self.report = WatchReport(Mode.POLLING, f"{self._root} is polled: {obstacle.why}", obstacle.fix)

    async def _close(self) -> None:
        watch, self._watch, self._watched_identity, self._silent_since = self._watch, None, None, None
        if watch is not None:
            await watch.close()
