from __future__ import annotations

import asyncio
import errno
import itertools
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD, WatchDescriptor

from kbsync.core.model import RootIdentity
from kbsync.file_systems import Mount
from kbsync.source import roots, wake, watch
from kbsync.source.hints import Hint, HintKind
from kbsync.source.observer import KernelReader, ProblemKind, TreeEmitter, TreeObserver
from kbsync.source.roots import UNKNOWN, identify
from kbsync.source.watch import FAILURE_COUNTS, FREE_FAILURES, ON_THE_WAY, TRY_AGAIN, Machine, Mode, Watcher
from tests.clocks import Clock
from tests.source.watching import Hearing, eventually, inotify_fds, library_threads, listening, machine


@pytest.fixture
def root(root: Path) -> Path:
    (root / "sub").mkdir()
    return root


@pytest.fixture
async def hearing(root: Path, state: Path) -> AsyncIterator[Hearing]:
    async with listening(root, state) as hearing:
        yield hearing


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
async def timed(root: Path, state: Path, clock: Clock) -> AsyncIterator[Hearing]:
    """A watcher for which time passes only when the test says so."""
    async with listening(root, state, machine=machine(clock=clock)) as hearing:
        yield hearing


async def kinds(watcher: Watcher) -> list[ProblemKind]:
    return [trouble.kind for trouble in await watcher.check()]


OVERFLOW = InotifyEvent(WatchDescriptor(-1), InotifyConstants.IN_Q_OVERFLOW, 0, b"")
"""The kernel's event after it dropped others (inotify(7))."""


def reader_of(hearing: Hearing) -> KernelReader:
    watch = hearing.watcher._watch
    assert watch is not None and watch._observer is not None
    return watch._observer.reader


async def overflow(hearing: Hearing) -> None:
    reader_of(hearing).overflowed = True
    assert await kinds(hearing.watcher) == [ProblemKind.OVERFLOW]


async def still_hears(hearing: Hearing, root: Path, name: str) -> None:
    (root / name).write_text("x")
    await hearing.hears(Hint(name, HintKind.FILE))


async def test_overflow_causes_a_new_observer_and_a_rescan(hearing: Hearing, root: Path) -> None:
    before = library_threads()
    reader_of(hearing).handle_event(OVERFLOW)
    assert await kinds(hearing.watcher) == [ProblemKind.OVERFLOW]
    assert not before & library_threads()
    assert "queue" in hearing.watcher.rescan_reason
    assert await hearing.watcher.check() == []
    assert hearing.watcher.rescan_reason, "only a scan clears the reason"
    hearing.watcher.scan_started()
    assert not hearing.watcher.rescan_reason
    await still_hears(hearing, root, "a.md")


@pytest.mark.parametrize("cause", ["the reader, of an exception", "the emitter, of itself"])
async def test_dead_observer_thread_is_replaced(hearing: Hearing, root: Path, cause: str) -> None:
    def fail(event: object) -> None:
        raise ValueError("no such watch")

    thread: Any = reader_of(hearing)
    if cause.startswith("the reader"):
        thread.handle_event = fail
        (root / "a.md").write_text("x")
    else:
        thread = next(thread for thread in library_threads() if hasattr(thread, "watch"))
        thread.stop()
    await eventually(lambda: not thread.is_alive())
    [trouble] = await hearing.watcher.check()
    assert trouble.kind is ProblemKind.THREAD_DIED
    assert ("no such watch" in trouble.text) is cause.startswith("the reader")
    assert hearing.watcher.rescan_reason
    await still_hears(hearing, root, "b.md")


async def test_unprocessable_event_ends_no_thread(root: Path, state: Path) -> None:
    def ignores(path: str) -> bool:
        if path == "bad.md":
            raise LookupError("no rule")
        return False

    async with listening(root, state, ignores=ignores) as hearing:
        before = library_threads()
        (root / "bad.md").write_text("x")
        await still_hears(hearing, root, "good.md")
        assert library_threads() == before
        [trouble] = await hearing.watcher.check()
        assert (trouble.kind, "no rule" in trouble.text) == (ProblemKind.EVENT_FAILED, True)
        assert hearing.watcher.rescan_reason


async def test_replaced_root_is_watched_from_then_on(hearing: Hearing, root: Path) -> None:
    before = hearing.watcher.identity
    root.rename(root.parent / "away")
    root.mkdir()
    assert await kinds(hearing.watcher) == [ProblemKind.ROOT_CHANGED]
    assert hearing.watcher.rescan_reason
    assert hearing.watcher.identity not in (None, before)
    await still_hears(hearing, root, "a.md")


async def test_replaced_root_on_fat_is_watched_from_then_on(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "has_lasting_inodes", lambda _: False)
    async with listening(root, state) as hearing:
        assert await hearing.watcher.check() == []
        root.rename(root.parent / "away")
        root.mkdir()
        assert await kinds(hearing.watcher) == [ProblemKind.ROOT_CHANGED]
        await still_hears(hearing, root, "a.md")


@pytest.mark.parametrize("cause", ["renamed", "deleted", "a file", "at start"])
async def test_missing_root_is_reported_while_it_lasts_and_watched_when_back(
    root: Path, state: Path, cause: str
) -> None:
    if cause == "at start":
        shutil.rmtree(root)
    async with listening(root, state) as hearing:
        if cause == "renamed":
            root.rename(root.parent / "away")
        elif cause != "at start":
            shutil.rmtree(root)
        if cause == "a file":
            root.write_text("x")
        assert await kinds(hearing.watcher) == [ProblemKind.ROOT_MISSING]
        assert await kinds(hearing.watcher) == [ProblemKind.ROOT_MISSING]
        assert hearing.watcher.identity is None
        assert hearing.watcher.report.mode is Mode.POLLING
        assert str(root) in hearing.watcher.report.why
        assert library_threads() == set()

        if cause == "a file":
            root.unlink()
        root.mkdir()
        assert await hearing.watcher.check() == []
        assert hearing.watcher.report.mode is Mode.NATIVE
        assert hearing.watcher.identity is not None
        assert hearing.watcher.rescan_reason
        await still_hears(hearing, root, "a.md")


class RootCheck:
    """Checks the root like the machine, unless it hangs or fails; records the threads."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.error: OSError | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self, folder: Path) -> tuple[int, int]:
        self.threads.append(threading.current_thread())
        self.goes_on.wait(30)
        if self.error is not None:
            raise self.error
        return watch.device_and_inode(folder)


async def test_unreadable_root_is_never_treated_as_missing(root: Path, state: Path) -> None:
    root_check = RootCheck()
    async with listening(root, state, machine=machine(root_inode=root_check)) as hearing:
        for number in (errno.EACCES, errno.EIO):
            root_check.error = OSError(number, os.strerror(number))
            assert await kinds(hearing.watcher) == [ProblemKind.ROOT_UNREADABLE]
        root_check.error = None
        assert await hearing.watcher.check() == []
        assert hearing.watcher.report.mode is Mode.NATIVE
        assert hearing.watcher.rescan_reason


@pytest.mark.parametrize("fs_type", ["nfs4", UNKNOWN])  # unknown in a chroot without its own mount
async def test_dead_network_mount_blocks_nothing(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch, fs_type: str
) -> None:
    def on_network(folder: Path) -> RootIdentity:
        return replace(identify(folder), fs_type=fs_type, is_mount=True)

    root_check = RootCheck()
    async with listening(root, state, machine=machine(root_inode=root_check, identify=on_network)) as hearing:
        assert fs_type == UNKNOWN or "nfs4" in hearing.watcher.report.why
        root_check.goes_on.clear()
        monkeypatch.setattr(watch, "MAX_CHECK_SECONDS", 0.05)
        try:
            assert await kinds(hearing.watcher) == [ProblemKind.ROOT_SILENT]
            monkeypatch.setattr(watch, "MAX_CHECK_SECONDS", 3600.0)
            second_check = await kinds(hearing.watcher)
            assert second_check == [ProblemKind.ROOT_SILENT], "without waiting a second time"
            assert len(root_check.threads) == 1, "one open question is enough"
            assert hearing.watcher.identity is not None
        finally:
            root_check.goes_on.set()
        await eventually(hearing.watcher._root_check._open_check.done)  # type: ignore[union-attr]
        assert await hearing.watcher.check() == []


async def test_vanished_root_is_checked_in_another_thread(root: Path, state: Path) -> None:
    root_check = RootCheck()
    async with listening(root, state, machine=machine(root_inode=root_check)) as hearing:
        shutil.rmtree(root)
        await hearing.watcher.check()
        await hearing.watcher.check()
        is_main = [thread is threading.main_thread() for thread in root_check.threads]
        assert is_main == [True, False], "what comes back may be a dead mount"


def mounted(path: str, fs_type: str) -> Machine:
    return machine(mounts=lambda: [Mount(1, path, fs_type)])


@pytest.mark.parametrize(
    ("observer", "on", "why"),
    [
        ("auto", lambda root: mounted(f"{root}/sub", "nfs4"), "sub is nfs4"),
        ("auto", lambda root: mounted(f"{root}/sub", "fuse.sshfs"), "sub is fuse.sshfs"),
        ("auto", lambda root: mounted("/elsewhere", "nfs4"), ""),
        ("native", lambda root: mounted(f"{root}/sub", "nfs4"), ""),
        ("polling", lambda root: machine(), "observer: polling"),
    ],
)
async def test_polls_when_configured_or_when_events_are_incomplete(
    root: Path, state: Path, observer: str, on: Callable[[Path], Machine], why: str
) -> None:
    async with listening(root, state, observer=observer, machine=on(root)) as hearing:
        report = hearing.watcher.report
        assert report.mode is (Mode.POLLING if why else Mode.NATIVE)
        assert why in report.why and bool(why) == bool(report.why)
        assert bool(library_threads()) is not bool(why)
        assert await hearing.watcher.check() == []


@pytest.mark.parametrize("observer", ["auto", "polling"])
async def test_changed_mounts_inside_the_folder_restart_the_watch_and_request_a_scan(
    root: Path, state: Path, observer: str
) -> None:
    mounts = [Mount(1, "/", "ext4")]
    changing = machine(mounts=lambda: mounts)
    async with listening(root, state, observer=observer, machine=changing) as hearing:
        watcher = hearing.watcher
        for change in (
            [Mount(1, "/", "ext4"), Mount(2, f"{root}/sub", "tmpfs", device="0:9")],
            [Mount(1, "/", "ext4"), Mount(2, f"{root}/sub", "tmpfs", device="0:10")],
            [Mount(1, "/", "ext4")],
        ):
            before, mounts = watcher._watch, change
            assert await watcher.check() == []
            assert watcher.rescan_reason == f"{root}: a disk was mounted or unmounted in this folder"
            assert watcher._watch is not before or observer == "polling"
            watcher.scan_started()
            mounts = [*change, Mount(3, "/elsewhere", "tmpfs")]
            assert await watcher.check() == []
            assert not watcher.rescan_reason
        mounts = [*change, Mount(2, f"{root}/sub", "nfs4")]
        await watcher.check()
        assert watcher.report.mode is Mode.POLLING


async def test_disk_mounted_only_while_a_scan_found_it_requests_another_scan(root: Path, state: Path) -> None:
    async with listening(root, state, machine=machine()) as hearing:
        watcher = hearing.watcher
        watcher.scan_started()
        watcher.scan_ended(2, 0.1, changes=1, mount_points={"sub"})
        assert await watcher.check() == []
        assert watcher.rescan_reason == f"{root}: a disk was mounted or unmounted in this folder"
        watcher.scan_started()
        watcher.scan_ended(2, 0.1, changes=1, mount_points=set())
        assert await watcher.check() == []
        assert not watcher.rescan_reason


async def test_disk_that_is_gone_during_a_long_scan_restarts_the_watch_only_once(
    root: Path, state: Path
) -> None:
    """The requested scan can't start before the running one ends."""
    async with listening(root, state, machine=machine()) as hearing:
        watcher = hearing.watcher
        watcher.scan_started()
        watcher.note_mounts({"sub"})
        assert await watcher.check() == []
        assert watcher.rescan_reason
        watch = watcher._watch
        assert await watcher.check() == []
        assert watcher._watch is watch
        watcher.scan_ended(2, 0.1, changes=1, mount_points={"sub"})
        watcher.scan_started()
        watcher.scan_ended(2, 0.1, changes=1)
        assert await watcher.check() == []
        assert (watcher._watch is watch) and not watcher.rescan_reason


async def test_unmount_of_a_watched_disk_restarts_the_watch(hearing: Hearing) -> None:
    """Another disk may have been mounted at once, with the same number and device."""
    reader_of(hearing).handle_event(InotifyEvent(WatchDescriptor(1), InotifyConstants.IN_UNMOUNT, 0, b""))
    assert await hearing.watcher.check() == []
    assert hearing.watcher.rescan_reason
    hearing.watcher.scan_started()
    assert await hearing.watcher.check() == []
    assert not hearing.watcher.rescan_reason


async def test_auto_mode_polls_a_bind_mount_until_an_event_reports_a_change(root: Path, state: Path) -> None:
    disk, bind = Mount(1, "/", "ext4", device="8:1"), Mount(2, str(root), "ext4", "/volumes/docs", "8:1")
    bound = machine(mounts=lambda: [disk, bind])
    async with listening(root, state, machine=bound) as hearing:
        watcher = hearing.watcher
        assert f"{root} is a bind mount, and no event has reported its changes yet" in watcher.report.why
        for changes in (2, 0, 1):
            watcher.scan_started()
            watcher.scan_ended(directories=2, seconds=0.1, changes=changes)
            assert await watcher.check() == []
            assert (watcher.report.mode, watcher.rescan_every) == (Mode.POLLING, 10)
            assert not watcher.rescan_reason
        await still_hears(hearing, root, "a.md")
        assert await watcher.check() == []
        assert (watcher.report.mode, watcher.rescan_every, watcher.report.why) == (Mode.NATIVE, 900, "")
    async with listening(root, state, observer="native", machine=bound) as hearing:
        assert hearing.watcher.report.mode is Mode.NATIVE


async def after_a_scan(hearing: Hearing) -> None:
    """Let a scan end, and the watcher check its directories; it finds no problem."""
    hearing.watcher.scan_started()
    hearing.watcher.scan_ended(directories=2, seconds=0.1)
    assert await hearing.watcher.check() == []


def make_sub_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library fail to watch `sub` and below, as it does for directories that can't be read."""
    add = InotifyFD.add_callback

    def add_readable(self: InotifyFD, path: bytes, *args: Any) -> WatchDescriptor:
        return WatchDescriptor(-1) if b"/sub" in path else add(self, path, *args)

    monkeypatch.setattr(InotifyFD, "add_callback", add_readable)


async def test_directory_that_became_readable_is_no_event_of_a_bind_mount(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sub_unreadable(monkeypatch)
    disk, bind = Mount(1, "/", "ext4", device="8:1"), Mount(2, str(root), "ext4", "/volumes/docs", "8:1")
    async with listening(root, state, machine=machine(mounts=lambda: [disk, bind])) as hearing:
        monkeypatch.undo()
        await after_a_scan(hearing)
        await hearing.hears(Hint("sub", HintKind.TREE))
        assert await hearing.watcher.check() == []
        assert hearing.watcher.report.mode is Mode.POLLING


async def test_polling_interval_adapts_to_the_cost_of_a_scan(root: Path, state: Path) -> None:
    async with listening(root, state, observer="polling") as hearing:
        watcher = hearing.watcher
        assert watcher.rescan_every == 10
        watcher.scan_started()
        watcher.scan_ended(directories=50_000, seconds=3.8)
        assert watcher.rescan_every == 76
        watcher.scan_ended(directories=5_000_000, seconds=300.0)
        assert watcher.rescan_every == 900


async def test_wake_reaches_a_polling_watcher_at_its_next_check(root: Path, state: Path) -> None:
    async with listening(root, state, observer="polling") as hearing:
        await hearing.watcher.check()
        assert hearing.wakes == 0
        wake.wake(state)
        await hearing.watcher.check()
        assert hearing.wakes == 1


async def test_unwatchable_directories_cause_polling(
    timed: Hearing, clock: Clock, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = InotifyFD.add_callback

    def add_few(self: InotifyFD, path: bytes, *args: Any) -> WatchDescriptor:
        if path.endswith(b"/new"):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return add(self, path, *args)

    watcher = timed.watcher
    watcher.scan_started()
    watcher.scan_ended(directories=2, seconds=0.1)
    assert await watcher.check() == []
    monkeypatch.setattr(InotifyFD, "add_callback", add_few)
    (root / "sub" / "new").mkdir()
    await eventually(lambda: reader_of(timed).reached_watch_limit)
    assert await kinds(watcher) == [ProblemKind.WATCH_LIMIT]
    assert watcher.report.mode is Mode.POLLING
    assert "this folder needs more" in watcher.report.why
    assert "max_user_watches=" in watcher.report.fix
    assert watcher.rescan_reason
    monkeypatch.undo()
    clock.now += TRY_AGAIN
    assert await watcher.check() == []
    assert watcher.report.mode is Mode.NATIVE


async def test_scan_makes_the_watcher_retry_an_unreadable_directory(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sub_unreadable(monkeypatch)
    async with listening(root, state) as hearing:
        monkeypatch.undo()
        await after_a_scan(hearing)
        await hearing.hears(Hint("sub", HintKind.TREE))
        await still_hears(hearing, root, "sub/a.md")


async def test_check_does_not_fail_while_a_watching_thread_is_ending(
    hearing: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = itertools.count()

    class Ending:
        """The attribute that another thread may set to None between two reads."""

        def __get__(self, emitter: TreeEmitter, _type: object = None) -> object:
            return None if next(reads) % 4 == 3 else emitter.__dict__["_inotify"]

        def __set__(self, emitter: TreeEmitter, watches: object) -> None:
            emitter.__dict__["_inotify"] = watches

    monkeypatch.setattr(TreeEmitter, "_inotify", Ending(), raising=False)
    for _ in range(8):
        assert await hearing.watcher.check() == []
    monkeypatch.undo()


async def test_scan_makes_the_watcher_recheck_a_directory_that_could_not_be_entered(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lexists, entry = os.path.lexists, os.fsencode(root / "sub") + b"/."
    monkeypatch.setattr(os.path, "lexists", lambda path: path != entry and lexists(path))
    async with listening(root, state) as hearing:
        await after_a_scan(hearing)
        await still_hears(hearing, root, "sub/a.md")
        assert {hint.kind for hint in hearing.received_hints} == {HintKind.FILE}
        monkeypatch.undo()
        await after_a_scan(hearing)
        await hearing.hears(Hint("sub", HintKind.TREE))


async def test_tree_that_became_readable_is_scanned_once(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(9):
        (root / f"sub/{n}/below").mkdir(parents=True)
    make_sub_unreadable(monkeypatch)
    async with listening(root, state) as hearing:
        monkeypatch.undo()
        await after_a_scan(hearing)
        await still_hears(hearing, root, "sub/3/below/a.md")
        assert [hint for hint in hearing.received_hints if hint.kind is not HintKind.FILE] == [
            Hint("sub", HintKind.TREE)
        ]


class Scans:
    """Whole scans that end at once, and checks; time passes only here."""

    def __init__(self, hearing: Hearing, clock: Clock) -> None:
        self.watcher = hearing.watcher
        self.clock = clock

    async def mode_after(self, *, changes: int, seconds: float = ON_THE_WAY) -> Mode:
        self.watcher.scan_started()
        self.watcher.scan_ended(directories=2, seconds=0.1, changes=changes)
        return await self.mode_later(seconds)

    async def mode_later(self, seconds: float = ON_THE_WAY) -> Mode:
        self.clock.now += seconds
        assert await self.watcher.check() == []
        return self.watcher.report.mode


@pytest.mark.parametrize("observer", ["auto", "native"])
async def test_watch_that_misses_changes_is_replaced(
    root: Path, state: Path, clock: Clock, observer: str
) -> None:
    """`auto` also polls the folder until an event arrives; `native` relies on events alone."""
    polls = observer == "auto"
    then = Mode.POLLING if polls else Mode.NATIVE
    async with listening(root, state, observer=observer, machine=machine(clock=clock)) as hearing:
        scans, watcher = Scans(hearing, clock), hearing.watcher
        assert await scans.mode_after(changes=5) is Mode.NATIVE, "what is new at the first scan is no news"
        assert await scans.mode_after(changes=0) is Mode.NATIVE
        assert await scans.mode_after(changes=1, seconds=0.1) is Mode.NATIVE, "an event may be on its way"
        deaf = library_threads()
        assert await scans.mode_later() is then
        assert not deaf & library_threads(), "another observer may hear again"
        assert watcher.rescan_every == (10 if polls else 900)
        assert "a scan found changes that no event had reported" in watcher.rescan_reason
        assert await scans.mode_after(changes=0) is then
        assert not watcher.rescan_reason
        await still_hears(hearing, root, "a.md")
        assert await watcher.check() == []
        assert (watcher.report.mode, watcher.rescan_every, watcher.report.why) == (Mode.NATIVE, 900, "")


async def test_changes_reported_by_any_event_do_not_replace_the_watch(
    timed: Hearing, clock: Clock, root: Path
) -> None:
    scans, before = Scans(timed, clock), library_threads()
    assert await scans.mode_after(changes=0) is Mode.NATIVE
    await still_hears(timed, root, "a.md")
    assert await scans.mode_after(changes=3) is Mode.NATIVE
    timed.watcher.scan_started()
    timed.watcher.scan_ended(directories=2, seconds=0.1, changes=3)
    await still_hears(timed, root, "late.md")
    assert await scans.mode_later() is Mode.NATIVE
    assert library_threads() == before


class Refusing(TreeObserver):
    """An observer whose start hits a limit after it created its threads and descriptors."""

    error = OSError(errno.ENOSPC, "inotify watch limit reached")

    def start(self) -> None:
        raise self.error


def refuse_instance() -> TreeObserver:
    raise OSError(errno.EMFILE, "inotify instance limit reached")


@pytest.mark.parametrize(
    ("make", "setting"), [(Refusing, "max_user_watches"), (refuse_instance, "max_user_instances")]
)
async def test_limit_reached_at_start_causes_polling_until_raised(
    root: Path, state: Path, make: type, setting: str
) -> None:
    clock, makers = Clock(1000.0), [make]

    def make_observer() -> TreeObserver:
        created: TreeObserver = makers[0]()
        return created

    here = machine(clock=clock, make_observer=make_observer)
    async with listening(root, state, machine=here) as hearing:
        watcher = hearing.watcher
        assert watcher.report.mode is Mode.POLLING
        assert f"sysctl -w fs.inotify.{setting}=" in watcher.report.fix
        for _ in range(3):
            clock.now += 30.0
            assert await watcher.check() == [], "nothing is asked of an observer that is not there"
        assert not watcher.rescan_reason
        makers[0] = TreeObserver
        assert await watcher.check() == []
        assert watcher.report.mode is Mode.POLLING
        clock.now += TRY_AGAIN
        assert await watcher.check() == []
        assert watcher.report.mode is Mode.NATIVE
        assert watcher.rescan_reason


async def test_repeatedly_failing_watch_is_polled_for_a_while(timed: Hearing, clock: Clock) -> None:
    watches, threads = len(inotify_fds()), len(library_threads())
    for _ in range(FREE_FAILURES):
        await overflow(timed)
    await eventually(lambda: len(inotify_fds()) == watches and len(library_threads()) == threads)
    assert timed.watcher.report.mode is Mode.NATIVE
    await overflow(timed)
    assert timed.watcher.report.mode is Mode.POLLING
    assert "more paths changed at once" in timed.watcher.report.why
    timed.watcher.scan_started()
    for pause in (16, 32, 64, 128):
        clock.now += pause - 1.0
        assert await timed.watcher.check() == []
        assert timed.watcher.report.mode is Mode.POLLING
        clock.now += 1.0
        await timed.watcher.check()
        assert timed.watcher.report.mode is Mode.NATIVE
        assert timed.watcher.rescan_reason
        await overflow(timed)
    clock.now += FAILURE_COUNTS
    await timed.watcher.check()
    await overflow(timed)
    assert timed.watcher.report.mode is Mode.NATIVE, "forgotten after a while without a failure"


async def test_cancelled_start_is_still_ended_by_stop(root: Path, state: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    class SlowObserver(TreeObserver):
        def start(self) -> None:
            entered.set()
            release.wait(30)
            super().start()

    fds = inotify_fds()
    hearing = Hearing(root, state, machine=machine(make_observer=SlowObserver))
    starting = asyncio.create_task(hearing.watcher.start())
    await eventually(entered.is_set)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    release.set()
    await hearing.watcher.stop()
    assert library_threads() == set()
    assert inotify_fds() == fds


async def test_event_after_the_loop_closed_ends_no_thread(root: Path, state: Path) -> None:
    def run_and_close() -> Watcher:
        loop = asyncio.new_event_loop()
        hearing = Hearing(root, state, machine=machine())
        loop.run_until_complete(hearing.watcher.start())
        loop.close()
        return hearing.watcher

    watcher = await asyncio.to_thread(run_and_close)
    watch = watcher._watch
    assert watch is not None and watch._observer is not None
    (root / "a.md").write_text("x")
    wake.wake(state)
    await eventually(lambda: watch.event_count)
    assert watch._observer.dead_threads() == []
    await asyncio.to_thread(watch._close)


async def replace_moved_folder(hearing: Hearing, root: Path) -> None:
    """Move a folder out of the tree and an older one to its path, so that two watches have the same path."""
    for name in ("a", "b"):
        (root / name).mkdir()
        await still_hears(hearing, root, f"{name}/new.md")
    (root / "b").rename(root.parent / "elsewhere")
    (root / "a").rename(root / "b")
    await still_hears(hearing, root, "b/again.md")


async def test_watch_of_a_tree_with_a_replaced_folder_ends_cleanly(root: Path, state: Path) -> None:
    fds = inotify_fds()
    async with listening(root, state) as hearing:
        await replace_moved_folder(hearing, root)
    assert library_threads() == set()
    assert inotify_fds() == fds


async def test_deleting_a_replaced_folder_ends_no_thread(hearing: Hearing, root: Path) -> None:
    await replace_moved_folder(hearing, root)
    shutil.rmtree(root / "b")
    await hearing.hears(Hint("b", HintKind.TREE))
    shutil.rmtree(root.parent / "elsewhere")
    await still_hears(hearing, root, "c.md")
    assert await kinds(hearing.watcher) == []


async def test_stop_is_safe_at_any_time(root: Path, state: Path) -> None:
    watcher = Watcher(root, state, machine=machine())
    await watcher.stop()
    assert await watcher.check() == []
    await watcher.start()
    await watcher.start()
    await watcher.stop()
    await watcher.stop()
    assert library_threads() == set()
    assert await watcher.check() == []


async def test_folder_with_a_path_too_long_to_watch_is_polled(tmp_path: Path) -> None:
    root, state = tmp_path / "docs", tmp_path / "state"
    root.mkdir()
    state.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(22):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    async with listening(root, state) as hearing:
        watcher = hearing.watcher
        assert await watcher.check() == []
        assert watcher.report.mode is Mode.POLLING
        assert "refuses to watch one of the folders: file name too long" in watcher.report.why
        (root / "a.md").write_text("an event ends no polling")
        await hearing.hears_of("a.md")
        await watcher.check()
        assert watcher.report.mode is Mode.POLLING
    async with listening(root, state, observer="native") as hearing:
        assert await hearing.watcher.check() == []
        assert hearing.watcher.report.mode is Mode.NATIVE
