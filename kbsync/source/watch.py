"""How a folder is watched, in words and numbers for people.

Looks whether the folder is still the one it was: it can vanish or be replaced without any event.

One open watch: an observer with its canary, and what is wrong with it.

Where a folder is: its real path, its identity, and what is known of the events of its mounts.

Watches one folder: hints where to look, and the knowledge of when hints cannot be trusted.

Events are hints only. The watcher's promise is not that none is lost but that a loss is noticed: then
it starts anew and wants a full rescan. Where events cannot be had it polls: the folder is to be scanned
every `rescan_every` seconds, which is shorter; with no observer, or until the first event of one that is
not trusted before.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import itertools
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver

from kbsync.errors import KbsyncError
from kbsync.source import limits as obstacles
from kbsync.source.blocking import run_detached
from kbsync.source.hints import Hint, HintSet
from kbsync.source.limits import InotifyLimits, ObserverChoice, Obstacle, read_limits
from kbsync.source.mounts import bound, deaf_below, is_deaf, magic_of, name_of
from kbsync.source.observer import (
    Listener,
    NameListener,
    Observation,
    RestartBackoff,
    TroubleKind,
    WatchTrouble,
)
from kbsync.source.roots import UNKNOWN, Mount, RootIdentity, error_words, identify, mounts, opened_root
from kbsync.source.wake import WAKE, LivenessProbe, WakeFile, touch


class Mode(enum.StrEnum):
    """Where hints come from: the kernel, or nowhere but the rescan."""

    NATIVE = "native"
    POLLING = "polling"


@dataclass(frozen=True, slots=True)
class WatchReport:
    """How a folder is watched. `why` is a sentence and `cure` a command, both empty in native mode.

    `directories` is what the caller said, `watches` how many the kernel watches (None: unknown or none),
    `seconds` what starting took, `advice` a warning with its cure or empty.
    """

    folder: str
    mode: Mode
    why: str = ""
    cure: str = ""
    advice: str = ""
    directories: int = 0
    watches: int | None = None
    seconds: float = 0.0


LOOK_SECONDS = 5.0


def device_and_inode(folder: Path) -> tuple[int, int]:
    """What tells the folder now at this path from another. Raises OSError, also if it may not be read."""
    with opened_root(folder) as fd:
        status = os.fstat(fd)
    return status.st_dev, status.st_ino


def trouble_of(folder: Path, error: OSError) -> WatchTrouble:
    """What it means that looking at `folder` failed with `error`."""
    match error:
        case FileNotFoundError():
            return WatchTrouble(TroubleKind.ROOT_MISSING, f"{folder} is missing")
        case NotADirectoryError():
            return WatchTrouble(TroubleKind.ROOT_MISSING, f"{folder} is not a folder")
        case TimeoutError():
            return WatchTrouble(TroubleKind.ROOT_SILENT, f"the file system of {folder} does not answer")
        case _:
            return WatchTrouble(TroubleKind.ROOT_UNREADABLE, f"{folder} cannot be read: {error_words(error)}")


class RootLook:
    """Compares the folder with the one it was, again and again, with at most one question open.

    While `is_local` is set the answer is fetched at once (some microseconds); else from a thread,
    since a dead network mount never answers.
    """

    def __init__(self, folder: Path, look: Callable[[Path], tuple[int, int]]) -> None:
        self.is_local = False
        self._folder = folder
        self._look = look
        self._asked: asyncio.Task[tuple[int, int]] | None = None

    async def trouble(self, identity: RootIdentity | None) -> WatchTrouble | None:
        """What is wrong with the folder now; None if it can be read and is that of `identity`, if given."""
        try:
            found = await self._answer()
        except OSError as error:
            return trouble_of(self._folder, error)
        if identity is None or found == (identity.dev, identity.ino):
            return None
        return WatchTrouble(TroubleKind.ROOT_CHANGED, f"another folder lies at {self._folder} now")

    def give_up(self) -> None:
        """Wait no longer for an open question."""
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def _ask(self) -> asyncio.Task[tuple[int, int]]:
        asked = asyncio.create_task(run_detached(lambda: self._look(self._folder)))
        # An answer that comes when nobody waits any more is no error of the program.
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        return asked

    async def _answer(self) -> tuple[int, int]:
        if self.is_local:
            return self._look(self._folder)
        patience = 0.0 if self._asked else LOOK_SECONDS
        asked = self._asked = self._asked or self._ask()
        await asyncio.wait([asked], timeout=patience)
        if not asked.done():
            raise TimeoutError
        self._asked = None
        return asked.result()


STOP_SECONDS = 15.0
_canary_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Machine:
    """What watching asks of the machine; tests give their own. `clock` is monotonic seconds."""

    clock: Callable[[], float] = time.monotonic
    limits: Callable[[], InotifyLimits] = read_limits
    mounts: Callable[[], Iterable[Mount]] = mounts
    magic: Callable[[Path], int] = magic_of
    identify: Callable[[Path], RootIdentity] = identify
    look: Callable[[Path], tuple[int, int]] = device_and_inode
    make_observer: Callable[[], BaseObserver] = InotifyObserver
    sing: Callable[[str], None] = touch


@dataclass(frozen=True, slots=True)
class Calls:
    """Whom a watch tells: `hints` and `wake` in the loop's thread; `ignores` is asked in another."""

    hints: Callable[[tuple[Hint, ...]], None]
    wake: Callable[[], None]
    ignores: Callable[[str], bool]


class Watch:
    """An observer on `folder` (a real path) and on `canary_dir`; opened once, closed once."""

    def __init__(self, folder: str, canary_dir: str, calls: Calls, machine: Machine) -> None:
        """Needs a running loop."""
        self._folder = folder
        self._machine = machine
        name = f"canary-{next(_canary_numbers)}"
        self._canary_file = Path(canary_dir, name)
        self._canary = LivenessProbe(str(self._canary_file), machine.clock(), machine.sing)
        post = asyncio.get_running_loop().call_soon_threadsafe
        self._listener = Listener(folder, calls.ignores, lambda hints: post(calls.hints, hints))
        names = {name: partial(post, self._canary.answer), WAKE: partial(post, calls.wake)}
        self._scan_began = 0
        self._last_scan_began = -1
        self._was_silent = False
        self._observation = Observation(
            folder, self._listener, canary_dir, NameListener(names), machine.make_observer
        )

    async def open(self) -> None:
        """Watch. Raises OSError; then nothing is left behind."""
        await run_detached(self._observation.start)

    async def close(self) -> None:
        """End it, also one whose opening was cut off half-way."""
        with contextlib.suppress(TimeoutError):  # its threads are daemons: they end with the program
            await asyncio.wait_for(run_detached(self._observation.stop), STOP_SECONDS)
        with contextlib.suppress(OSError):
            self._canary_file.unlink()

    def troubles(self) -> list[WatchTrouble]:
        """What is wrong, with the likeliest cause first. Cheap; asks the canary when it is time."""
        alarm, fault = self._observation.alarm, self._listener.fault
        death = alarm.crash or ", ".join(self._observation.dead_threads())
        found = [
            (alarm.overflowed, TroubleKind.OVERFLOW, "more changed at once than the kernel queues"),
            (death, TroubleKind.THREAD_DIED, f"a thread of the watch ended by itself ({death})"),
            (fault, TroubleKind.EVENT_FAILED, f"an event could not be taken in ({fault})"),
            (self._is_mute(), TroubleKind.CANARY_SILENT, "the kernel's events do not arrive any more"),
        ]
        return [WatchTrouble(kind, f"{self._folder}: {text}") for is_so, kind, text in found if is_so]

    def scan_started(self) -> None:
        """Directories that vanish from now on explain fewer watches than the scan will have found."""
        self._listener.removed = 0
        self._scan_began = self._listener.heard

    def scan_ended(self) -> None:
        """The scan that began last was finished."""
        self._was_silent = self._last_scan_began == self._scan_began
        self._last_scan_began = self._scan_began

    @property
    def heard(self) -> int:
        """How many events of the folder have come so far."""
        return self._listener.heard

    @property
    def is_silent(self) -> bool:
        """Not one event has come since the finished scan before the last one began."""
        return self._was_silent and self._listener.heard == self._last_scan_began

    async def watches(self) -> int | None:
        """How many directories of the folder are watched; None if the kernel does not say."""
        count = await run_detached(self._observation.watches)
        return None if count is None else count - 1  # the canary's own

    async def shortfall(self, directories: int) -> WatchTrouble | None:
        """The trouble that fewer directories are watched than a scan found, if so."""
        watches = await self.watches()
        if watches is None or watches + self._listener.removed >= directories:
            return None
        text = f"{self._folder}: only {watches} of {directories} directories are watched"
        return WatchTrouble(TroubleKind.WATCHES_MISSING, text)

    def _is_mute(self) -> bool:
        now, heard = self._machine.clock(), self._listener.heard
        with contextlib.suppress(OSError):  # a state directory that cannot be written to is told of elsewhere
            self._canary.ask(now, heard)
        return self._canary.is_silent(now, heard)


@dataclass(frozen=True, slots=True)
class RootSurvey:
    """A folder as it was found.

    `deaf` names a file system that does not report every change, `bound` the bind mount by which the
    folder or a part of it is seen; each is empty where there is none.
    """

    folder: str
    identity: RootIdentity
    deaf: str = ""
    bound: str = ""


def survey(root: Path, machine: Machine) -> RootSurvey:
    """Look at `root`, through a symlink as well. Raises OSError, RootTrouble and ShortageError."""
    identity = machine.identify(root)
    folder = os.path.realpath(root)
    kind = identity.fs_type if identity.fs_type != UNKNOWN else name_of(machine.magic(root))
    if is_deaf(kind):
        return RootSurvey(folder, identity, deaf=f"it is on {kind}")
    mounts = tuple(machine.mounts())
    if mount := deaf_below(folder, mounts):
        return RootSurvey(folder, identity, deaf=f"{mount.point} is {mount.fs_type}")
    mount = bound(folder, mounts)
    return RootSurvey(folder, identity, bound=mount.point if mount else "")


RESCAN = 900.0
POLL_SHORTEST = 10.0
POLL_SHARE = 20.0
"""Polling pauses for this many times the length of a scan: at most a twentieth of a core."""
TRY_AGAIN = 600.0
"""Seconds until events are tried again after a limit was met."""
ON_THE_WAY = 2.0
"""Seconds that an event may take; the library holds each back for half a second."""


def nothing() -> None:
    """Do nothing."""


def ignores_nothing(path: str) -> bool:
    """Say that `path` matters, as every path does."""
    return False


class Watcher:
    """The watch on one folder. All methods belong to the loop's thread; `check` is due every 1 to 2 seconds.

    The order that loses nothing: `start`, `scan_started`, the scan, `scan_ended`; from then on take
    hints, scan again when `rescan_wanted`, and at the latest after `rescan_every` seconds.
    """

    def __init__(
        self,
        root: Path,
        canary_dir: Path,
        *,
        on_hint: Callable[[], None] = nothing,
        on_wake: Callable[[], None] = nothing,
        ignores: Callable[[str], bool] = ignores_nothing,
        observer: ObserverChoice = "auto",
        rescan: float = RESCAN,
        machine: Machine | None = None,
    ) -> None:
        """`root`: the folder or a symlink to it. `canary_dir`: an existing directory of ours, not below it.

        `on_hint` and `on_wake` are called in the loop's thread: hints came; someone used `canary.wake`.
        `ignores` is called in another thread with a relative path; True drops the hint.
        """
        self.hints = HintSet()
        self.report = WatchReport(str(root), Mode.POLLING, f"{root} is not watched yet.")
        self._root = root
        self._canary_dir = os.path.realpath(canary_dir)
        self._on_hint = on_hint
        self._choice: ObserverChoice = observer
        self._rescan = rescan
        self._machine = machine or Machine()
        self._wake = WakeFile(canary_dir, on_wake)
        self._calls = Calls(self._receive, self._wake.touched, ignores)
        self._look = RootLook(root, self._machine.look)
        self._patience = RestartBackoff()
        self._turn = asyncio.Lock()
        self._started = False
        self._watch: Watch | None = None
        self._identity: RootIdentity | None = None
        self._rescan_reason = ""
        self._scan_seconds = 0.0
        self._directories = 0
        self._is_to_count = False
        self._shortfalls = 0
        self._try_at: float | None = None
        self._doubted_at: float | None = None
        self._native = self.report
        """How it is watched once an event has come."""
        self._heard_then = 0

    @property
    def mode(self) -> Mode:
        """Where hints come from now."""
        return self.report.mode

    @property
    def identity(self) -> RootIdentity | None:
        """The folder that is watched; None while it cannot be looked at, and then nothing may be deleted.

        After ROOT_CHANGED it is the new folder's: whether that may stand for the old one, as after a
        mount, or is an empty mount point, is not decided here.
        """
        return self._identity

    @property
    def rescan_wanted(self) -> bool:
        """Hints may have been lost: the whole folder must be looked at."""
        return bool(self._rescan_reason)

    @property
    def rescan_reason(self) -> str:
        """Why a rescan is wanted, or empty."""
        return self._rescan_reason

    @property
    def rescan_every(self) -> float:
        """Seconds after which the folder is to be scanned even if nothing was heard."""
        return self._rescan if self.mode is Mode.NATIVE else self._polling_pause()

    async def start(self, directories: int = 0) -> WatchReport:
        """Begin to watch; `directories`: how many the folder had when last scanned (0: not known).

        Raises nothing for the folder's or the kernel's sake: the report says why there are no events.
        """
        async with self._turn:
            await self._close()
            self._directories = directories
            self._started = True
            self._wake.prepare()
            await self._open()
            return self.report

    async def stop(self) -> None:
        """End the watch and its threads; harmless when it has ended already."""
        async with self._turn:
            self._started = False
            self._look.give_up()
            await self._close()

    async def check(self) -> list[WatchTrouble]:
        """Look whether hints can be trusted; what is wrong is put right, if it can be, before this returns.

        Troubles of the root are told at every check while they last, others once. Cheap when all is well.
        """
        self._wake.look()
        async with self._turn:
            if not self._started:
                return []
            trouble = await self._look.trouble(self._identity)
            if trouble is not None and trouble.is_of_root:
                await self._lose_root(trouble)
                return [trouble]
            if self._identity is None:
                return await self._find_root()
            troubles = [trouble] if trouble else await self._watch_troubles()
            if troubles:
                await self._replace(troubles[0].text)
            elif self._try_at is not None and self._machine.clock() >= self._try_at:
                await self._try_again()
            elif self._watch is not None and self._choice == "auto":
                self._weigh_silence(self._watch)
            return troubles

    async def replace(self, reason: str) -> WatchReport:
        """Start anew with another observer and want a rescan; after repeated failures only after a pause."""
        async with self._turn:
            await self._replace(reason)
            return self.report

    def want_rescan(self, reason: str) -> None:
        """Ask for a full rescan, as when a scan could not be finished."""
        self._rescan_reason = self._rescan_reason or reason

    def scan_started(self) -> None:
        """A full scan begins: it answers every wish for a rescan so far."""
        self._rescan_reason = ""
        self._is_to_count = False
        self.hints.take_overflow()
        if self._watch is not None:
            self._watch.scan_started()

    def scan_ended(self, directories: int, seconds: float, changes: int = 0) -> None:
        """A full scan found so many directories, the root among them; the next `check` counts the watches.

        `changes`: so much was not as it was known. When no event had told of it, none may come at all.
        """
        self._directories = directories
        self._scan_seconds = seconds
        self._is_to_count = self._watch is not None
        if self._watch is not None:
            self._watch.scan_ended()
            if changes and self._watch.is_silent and self._doubted_at is None:
                self._doubted_at = self._machine.clock()

    def look_for_wake(self) -> None:
        """Call `on_wake` if the wake file was touched unnoticed: one stat. `check` does it too."""
        self._wake.look()

    def _receive(self, hints: tuple[Hint, ...]) -> None:
        for hint in hints:
            self.hints.add(hint)
        if self.hints.overflowed:
            self.want_rescan(f"{self._root}: more paths changed at once than are remembered one by one")
        self._on_hint()

    async def _watch_troubles(self) -> list[WatchTrouble]:
        if self._watch is None:
            return []
        return self._watch.troubles() or await self._shortfall(self._watch)

    async def _shortfall(self, watch: Watch) -> list[WatchTrouble]:
        if not self._is_to_count:
            return []
        self._is_to_count = False
        shortfall = await watch.shortfall(self._directories)
        self._shortfalls = self._shortfalls + 1 if shortfall else 0
        return [shortfall] if shortfall else []

    def _weigh_silence(self, watch: Watch) -> None:
        """Poll as well while nothing is heard although things change; the first event ends that."""
        if self.mode is Mode.POLLING:
            if watch.heard > self._heard_then:
                self.report, self._doubted_at = self._native, None
        elif not watch.is_silent:
            self._doubted_at = None
        elif self._has_doubted_for(ON_THE_WAY):
            self._poll_as_well(Obstacle("changes were found of which no event had told", lasts=True))
            self.want_rescan(self.report.why)

    def _poll_as_well(self, obstacle: Obstacle) -> None:
        """Poll while the watch stays open, until its next event."""
        self._native = self.report
        self._heard_then = self._watch.heard if self._watch else 0
        self._poll(obstacle)

    def _has_doubted_for(self, seconds: float) -> bool:
        return self._doubted_at is not None and self._machine.clock() - self._doubted_at >= seconds

    async def _lose_root(self, trouble: WatchTrouble) -> None:
        # A file system that is only slow may still be the same one with all its watches.
        if self._identity is not None and trouble.kind is not TroubleKind.ROOT_SILENT:
            await self._close()
            self._identity = None
            self._look.is_local = False
            self._poll(Obstacle(trouble.text, lasts=True))

    async def _find_root(self) -> list[WatchTrouble]:
        await self._open()
        if self._identity is None:
            return [WatchTrouble(TroubleKind.ROOT_UNREADABLE, self.report.why)]
        self.want_rescan(f"{self._root} can be looked at again")
        return []

    async def _try_again(self) -> None:
        await self._open()
        if self._watch is not None:
            self.want_rescan(f"{self._root} is watched again")

    async def _replace(self, reason: str) -> None:
        await self._close()
        pause = self._patience.pause_after_failure(self._machine.clock())
        if self._shortfalls > 1:
            self._shortfalls = 0
            self._poll(obstacles.too_few_watches(self._machine.limits().watches, self._directories))
        elif pause:
            self._poll(Obstacle(reason), pause)
        else:
            await self._open()
        self.want_rescan(reason)

    async def _open(self) -> None:
        """Watch, or say in the report why not; without `_identity` if the folder cannot be looked at."""
        self._try_at = self._identity = None
        try:
            looked = run_detached(partial(survey, self._root, self._machine))
            place = await asyncio.wait_for(looked, LOOK_SECONDS)
        except (OSError, KbsyncError) as error:
            words = "its file system does not answer" if isinstance(error, TimeoutError) else str(error)
            self._poll(Obstacle(words, lasts=True))
            return
        self._identity = place.identity
        self._look.is_local = not place.deaf
        obstacle = obstacles.foreseen(self._choice, place.deaf, self._directories, self._machine.limits())
        obstacle = obstacle or await self._observe(place.folder)
        if obstacle is not None:
            self._poll(obstacle)
        elif place.bound and self._choice == "auto":
            self._poll_as_well(obstacles.unproven(place.bound))

    async def _observe(self, folder: str) -> Obstacle | None:
        began = self._machine.clock()
        # Kept before it is open, so that `stop` finds it even if this is cancelled in the middle.
        self._watch = watch = Watch(folder, self._canary_dir, self._calls, self._machine)
        limits = self._machine.limits()
        try:
            await watch.open()
        except OSError as error:
            self._watch = None
            return obstacles.met(error, limits, self._directories)
        watches = await watch.watches()
        advice = obstacles.advice_on_queue(watches or self._directories, limits)
        seconds = self._machine.clock() - began
        self.report = WatchReport(folder, Mode.NATIVE, "", "", advice, self._directories, watches, seconds)
        return None

    def _poll(self, obstacle: Obstacle, pause: float = TRY_AGAIN) -> None:
        self._try_at = None if obstacle.lasts else self._machine.clock() + pause
        why = f"{self._root} is looked through every {self._polling_pause():g} s: {obstacle.why}."
        self.report = WatchReport(
            str(self._root), Mode.POLLING, why, obstacle.cure, directories=self._directories
        )

    async def _close(self) -> None:
        watch, self._watch, self._doubted_at = self._watch, None, None
        if watch is not None:
            await watch.close()

    def _polling_pause(self) -> float:
        return min(self._rescan, max(POLL_SHORTEST, round(POLL_SHARE * self._scan_seconds)))
