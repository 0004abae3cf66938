"""Watches one folder: hints where to look, and the knowledge of when hints cannot be trusted.

Events are hints only. The watcher's promise is not that none is lost but that a loss is noticed: then
it starts anew and wants a full rescan. Where events cannot be had it polls: the folder is to be scanned
every `rescan_every` seconds, which is shorter; with no observer, or until the first event of one that is
not trusted before.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kbsync.errors import KbsyncError
from kbsync.source import obstacles
from kbsync.source.aside import aside
from kbsync.source.canary import WakeFile
from kbsync.source.health import Patience, Trouble, TroubleKind
from kbsync.source.hints import Hint, HintSet
from kbsync.source.obstacles import ObserverChoice, Obstacle
from kbsync.source.place import survey
from kbsync.source.rootlook import LOOK_SECONDS, RootLook
from kbsync.source.roots import RootIdentity
from kbsync.source.watch import Calls, Machine, Watch
from kbsync.source.watchreport import Mode, WatchReport

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
        self._patience = Patience()
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

    async def check(self) -> list[Trouble]:
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

    async def _watch_troubles(self) -> list[Trouble]:
        if self._watch is None:
            return []
        return self._watch.troubles() or await self._shortfall(self._watch)

    async def _shortfall(self, watch: Watch) -> list[Trouble]:
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

    async def _lose_root(self, trouble: Trouble) -> None:
        # A file system that is only slow may still be the same one with all its watches.
        if self._identity is not None and trouble.kind is not TroubleKind.ROOT_SILENT:
            await self._close()
            self._identity = None
            self._look.is_local = False
            self._poll(Obstacle(trouble.text, lasts=True))

    async def _find_root(self) -> list[Trouble]:
        await self._open()
        if self._identity is None:
            return [Trouble(TroubleKind.ROOT_UNREADABLE, self.report.why)]
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
            looked = aside(partial(survey, self._root, self._machine))
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
