"""One open watch: an observer with its canary, and what is wrong with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver

from kbsync.source.aside import aside
from kbsync.source.canary import WAKE, Canary, touch
from kbsync.source.health import Trouble, TroubleKind
from kbsync.source.hints import Hint
from kbsync.source.inotify import InotifyLimits, read_limits
from kbsync.source.observer import Listener, NameListener, Observation
from kbsync.source.rootlook import device_and_inode
from kbsync.source.roots import Mount, RootIdentity, identify, mounts
from kbsync.source.statfs import magic_of

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
        self._canary = Canary(str(self._canary_file), machine.clock(), machine.sing)
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
        await aside(self._observation.start)

    async def close(self) -> None:
        """End it, also one whose opening was cut off half-way."""
        with contextlib.suppress(TimeoutError):  # its threads are daemons: they end with the program
            await asyncio.wait_for(aside(self._observation.stop), STOP_SECONDS)
        with contextlib.suppress(OSError):
            self._canary_file.unlink()

    def troubles(self) -> list[Trouble]:
        """What is wrong, with the likeliest cause first. Cheap; asks the canary when it is time."""
        alarm, fault = self._observation.alarm, self._listener.fault
        death = alarm.crash or ", ".join(self._observation.dead_threads())
        found = [
            (alarm.overflowed, TroubleKind.OVERFLOW, "more changed at once than the kernel queues"),
            (death, TroubleKind.THREAD_DIED, f"a thread of the watch ended by itself ({death})"),
            (fault, TroubleKind.EVENT_FAILED, f"an event could not be taken in ({fault})"),
            (self._is_mute(), TroubleKind.CANARY_SILENT, "the kernel's events do not arrive any more"),
        ]
        return [Trouble(kind, f"{self._folder}: {text}") for is_so, kind, text in found if is_so]

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
        count = await aside(self._observation.watches)
        return None if count is None else count - 1  # the canary's own

    async def shortfall(self, directories: int) -> Trouble | None:
        """The trouble that fewer directories are watched than a scan found, if so."""
        watches = await self.watches()
        if watches is None or watches + self._listener.removed >= directories:
            return None
        text = f"{self._folder}: only {watches} of {directories} directories are watched"
        return Trouble(TroubleKind.WATCHES_MISSING, text)

    def _is_mute(self) -> bool:
        now, heard = self._machine.clock(), self._listener.heard
        with contextlib.suppress(OSError):  # a state directory that cannot be written to is told of elsewhere
            self._canary.ask(now, heard)
        return self._canary.is_silent(now, heard)
