from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from watchdog.events import FileSystemEvent
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver

from kbsync.source import wake
from kbsync.source.hints import Hint, HintKind
from kbsync.source.limits import InotifyLimits, inotify_fds
from kbsync.source.observer import FREE_FAILURES, RestartBackoff, TroubleKind
from kbsync.source.roots import UNKNOWN, Mount, RootIdentity, identify
from kbsync.source.watch import ON_THE_WAY, TRY_AGAIN, Mode, Watcher
from tests.source.watching import Clock, Hearing, eventually, library_threads, listening, machine, open_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


async def kinds(watcher: Watcher) -> list[TroubleKind]:
    return [trouble.kind for trouble in await watcher.check()]


async def still_hears(hearing: Hearing, root: Path, name: str) -> None:
    (root / name).write_text("x")
    await hearing.hears(Hint(name, HintKind.FILE))


async def test_a_healthy_watch_has_no_trouble_and_wants_nothing(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        watcher = hearing.watcher
        watcher.scan_started()
        watcher.scan_ended(directories=2, seconds=0.1)
        assert await watcher.check() == []
        assert not watcher.rescan_wanted
        assert watcher.rescan_every == 900
        report = watcher.report
        assert (report.mode, report.why, report.cure, report.watches) == (Mode.NATIVE, "", "", 2)


async def test_an_overflow_means_a_new_observer_and_a_rescan(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        before = library_threads()
        logging.getLogger("watchdog.observers.inotify_c").warning(
            "Inotify queue overflowed; filesystem events were lost"
        )
        assert await kinds(hearing.watcher) == [TroubleKind.OVERFLOW]
        assert not before & library_threads()
        assert hearing.watcher.rescan_wanted
        assert "queue" in hearing.watcher.rescan_reason
        assert await hearing.watcher.check() == []
        assert hearing.watcher.rescan_wanted, "only a scan answers the wish"
        hearing.watcher.scan_started()
        assert not hearing.watcher.rescan_wanted
        await still_hears(hearing, root, "a.md")


async def test_an_overflow_is_seen_even_if_the_program_logs_errors_only(root: Path, state: Path) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    try:
        async with listening(root, state) as hearing:
            logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed")
            assert await kinds(hearing.watcher) == [TroubleKind.OVERFLOW]
    finally:
        logging.getLogger().setLevel(logging.WARNING)


async def test_an_overflow_belongs_to_the_observer_whose_thread_tells(root: Path, state: Path) -> None:
    def tell() -> None:
        logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed")

    async with listening(root / "sub", state) as one, listening(state, root) as other:
        observation = one.watcher._watch._observation  # type: ignore[union-attr]
        teller = threading.Thread(target=tell)
        observation.alarm.threads = {*observation.alarm.threads, teller}
        teller.start()
        teller.join()
        assert await other.watcher.check() == []
        assert TroubleKind.OVERFLOW in await kinds(one.watcher)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_dies_of_an_exception_is_replaced(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        reader = next(thread for thread in library_threads() if type(thread).__name__ == "InotifyFD")

        def fail(event: object) -> None:
            raise ValueError("no such watch")

        reader.handle_event = fail  # type: ignore[attr-defined]
        (root / "a.md").write_text("x")
        await eventually(lambda: not reader.is_alive())
        troubles = await hearing.watcher.check()
        assert [trouble.kind for trouble in troubles] == [TroubleKind.THREAD_DIED]
        assert "no such watch" in troubles[0].text
        assert hearing.watcher.rescan_wanted
        await still_hears(hearing, root, "b.md")


async def test_an_emitter_that_stops_is_replaced(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        emitter = next(thread for thread in library_threads() if hasattr(thread, "watch"))
        emitter.stop()  # type: ignore[attr-defined]
        await eventually(lambda: not emitter.is_alive())
        assert await kinds(hearing.watcher) == [TroubleKind.THREAD_DIED]
        await still_hears(hearing, root, "b.md")


async def test_an_event_that_cannot_be_taken_in_ends_no_thread(root: Path, state: Path) -> None:
    def ignores(path: str) -> bool:
        if path == "bad.md":
            raise LookupError("no rule")
        return False

    async with listening(root, state, ignores=ignores) as hearing:
        before = library_threads()
        (root / "bad.md").write_text("x")
        await still_hears(hearing, root, "good.md")
        assert library_threads() == before
        troubles = await hearing.watcher.check()
        assert [trouble.kind for trouble in troubles] == [TroubleKind.EVENT_FAILED]
        assert "no rule" in troubles[0].text
        assert hearing.watcher.rescan_wanted


async def test_a_root_replaced_by_another_folder_is_watched_anew(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        before = hearing.watcher.identity
        root.rename(root.parent / "away")
        root.mkdir()
        assert await kinds(hearing.watcher) == [TroubleKind.ROOT_CHANGED]
        assert hearing.watcher.rescan_wanted
        assert hearing.watcher.identity not in (None, before)
        await still_hears(hearing, root, "a.md")


async def test_a_symlinked_root_that_is_aimed_elsewhere_is_watched_anew(root: Path, state: Path) -> None:
    link, other = root.parent / "link", root.parent / "other"
    link.symlink_to(root)
    other.mkdir()
    async with listening(link, state) as hearing:
        link.unlink()
        link.symlink_to(other)
        assert await kinds(hearing.watcher) == [TroubleKind.ROOT_CHANGED]
        assert hearing.watcher.report.folder == str(other)
        await still_hears(hearing, other, "a.md")


@pytest.mark.parametrize("way", ["renamed", "deleted", "a file"])
async def test_a_missing_root_is_told_while_it_lasts_and_watched_when_back(
    root: Path, state: Path, way: str
) -> None:
    async with listening(root, state) as hearing:
        if way == "renamed":
            root.rename(root.parent / "away")
        else:
            shutil.rmtree(root)
        if way == "a file":
            root.write_text("x")
        assert await kinds(hearing.watcher) == [TroubleKind.ROOT_MISSING]
        assert await kinds(hearing.watcher) == [TroubleKind.ROOT_MISSING]
        assert hearing.watcher.identity is None
        assert hearing.watcher.mode is Mode.POLLING
        assert str(root) in hearing.watcher.report.why
        assert library_threads() == set()

        if way == "a file":
            root.unlink()
        root.mkdir()
        assert await hearing.watcher.check() == []
        assert hearing.watcher.mode is Mode.NATIVE
        assert hearing.watcher.identity is not None
        assert hearing.watcher.rescan_wanted
        await still_hears(hearing, root, "a.md")


async def test_a_root_missing_at_start_is_watched_when_it_comes(root: Path, state: Path) -> None:
    shutil.rmtree(root)
    async with listening(root, state) as hearing:
        assert hearing.watcher.mode is Mode.POLLING
        assert "missing" in hearing.watcher.report.why
        assert await kinds(hearing.watcher) == [TroubleKind.ROOT_MISSING]
        root.mkdir()
        assert await hearing.watcher.check() == []
        assert hearing.watcher.mode is Mode.NATIVE


async def test_a_root_that_cannot_be_read_is_never_taken_for_missing(root: Path, state: Path) -> None:
    answer: list[OSError] = []

    def look(folder: Path) -> tuple[int, int]:
        if answer:
            raise answer[0]
        found = os.stat(folder)
        return found.st_dev, found.st_ino

    async with listening(root, state, machine=machine(look=look)) as hearing:
        answer.append(PermissionError(errno.EACCES, "Permission denied"))
        assert await kinds(hearing.watcher) == [TroubleKind.ROOT_UNREADABLE]
        answer[0] = OSError(errno.EIO, "Input/output error")
        assert await kinds(hearing.watcher) == [TroubleKind.ROOT_UNREADABLE]
        answer.clear()
        assert await hearing.watcher.check() == []
        assert hearing.watcher.mode is Mode.NATIVE
        assert hearing.watcher.rescan_wanted


async def test_a_dead_network_mount_holds_nothing_up(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbsync.source.watch.LOOK_SECONDS", 0.05)
    release, looks = threading.Event(), []

    def look(folder: Path) -> tuple[int, int]:
        looks.append(folder)
        release.wait(30)
        found = os.stat(folder)
        return found.st_dev, found.st_ino

    def on_nfs(folder: Path) -> RootIdentity:
        found = identify(folder)
        return RootIdentity(found.dev, found.ino, "nfs4", True)

    async with listening(root, state, machine=machine(look=look, identify=on_nfs)) as hearing:
        assert "nfs4" in hearing.watcher.report.why
        try:
            assert await kinds(hearing.watcher) == [TroubleKind.ROOT_SILENT]
            monkeypatch.setattr("kbsync.source.watch.LOOK_SECONDS", 3600.0)
            again = asyncio.wait_for(kinds(hearing.watcher), 5.0)
            assert await again == [TroubleKind.ROOT_SILENT], "without waiting a second time"
            assert len(looks) == 1, "one open question is enough"
            assert hearing.watcher.identity is not None
        finally:
            release.set()
        await eventually(hearing.watcher._look._asked.done)  # type: ignore[union-attr]
        assert await hearing.watcher.check() == []


async def test_a_root_that_went_away_is_looked_for_aside(root: Path, state: Path) -> None:
    lookers: list[threading.Thread] = []

    def look(folder: Path) -> tuple[int, int]:
        lookers.append(threading.current_thread())
        found = os.stat(folder)
        return found.st_dev, found.st_ino

    async with listening(root, state, machine=machine(look=look)) as hearing:
        shutil.rmtree(root)
        await hearing.watcher.check()
        await hearing.watcher.check()
        main = threading.main_thread()
        assert [looker is main for looker in lookers] == [True, False], "what comes back may be a dead mount"


@pytest.mark.parametrize("fs_type", ["nfs4", "cifs", "9p", "fuse.sshfs", "virtiofs"])
async def test_auto_polls_where_the_kernel_does_not_hear_of_every_change(
    root: Path, state: Path, fs_type: str
) -> None:
    below = Mount(1, str(root / "sub"), fs_type)
    elsewhere = Mount(2, "/elsewhere", fs_type)
    async with listening(root, state, machine=machine(mounts=lambda: [below])) as hearing:
        assert hearing.watcher.mode is Mode.POLLING
        assert fs_type in hearing.watcher.report.why
        assert library_threads() == set()
        assert await hearing.watcher.check() == []
    async with listening(root, state, machine=machine(mounts=lambda: [elsewhere])) as hearing:
        assert hearing.watcher.mode is Mode.NATIVE
    async with listening(root, state, observer="native", machine=machine(mounts=lambda: [below])) as hearing:
        assert hearing.watcher.mode is Mode.NATIVE


async def test_auto_polls_a_bind_mount_until_an_event_tells_of_a_change(root: Path, state: Path) -> None:
    disk, bind = Mount(1, "/", "ext4", device="8:1"), Mount(2, str(root), "ext4", "/volumes/docs", "8:1")
    bound = machine(mounts=lambda: [disk, bind])
    async with listening(root, state, machine=bound) as hearing:
        watcher = hearing.watcher
        assert f"{root} is a bind mount, of whose changes no event has told yet" in watcher.report.why
        for changes in (2, 0, 1):
            watcher.scan_started()
            watcher.scan_ended(directories=2, seconds=0.1, changes=changes)
            assert await watcher.check() == []
            assert (watcher.mode, watcher.rescan_every, watcher.rescan_wanted) == (Mode.POLLING, 10, False)
        await still_hears(hearing, root, "a.md")
        assert await watcher.check() == []
        assert (watcher.mode, watcher.rescan_every, watcher.report.why) == (Mode.NATIVE, 900, "")
    async with listening(root, state, observer="native", machine=bound) as hearing:
        assert hearing.watcher.mode is Mode.NATIVE


@pytest.mark.parametrize(
    ("magic", "mode"), [(0x6969, Mode.POLLING), (0xFF534D42, Mode.POLLING), (0xEF53, Mode.NATIVE)]
)
async def test_a_folder_that_no_mount_is_listed_for_is_asked_of_the_kernel(
    root: Path, state: Path, magic: int, mode: Mode
) -> None:
    def unlisted(folder: Path) -> RootIdentity:
        return replace(identify(folder), fs_type=UNKNOWN)

    in_chroot = machine(identify=unlisted, magic=lambda folder: magic)
    async with listening(root, state, machine=in_chroot) as hearing:
        assert hearing.watcher.mode is mode
        assert ("does not report every change" in hearing.watcher.report.why) is (mode is Mode.POLLING)


async def test_polling_has_no_observer_and_rescans_as_often_as_it_can_afford(root: Path, state: Path) -> None:
    async with listening(root, state, observer="polling") as hearing:
        watcher = hearing.watcher
        assert watcher.mode is Mode.POLLING
        assert "observer: polling" in watcher.report.why
        assert library_threads() == set()
        assert watcher.rescan_every == 10
        watcher.scan_started()
        watcher.scan_ended(directories=50_000, seconds=3.8)
        assert watcher.rescan_every == 76
        watcher.scan_ended(directories=5_000_000, seconds=300.0)
        assert watcher.rescan_every == 900


async def test_a_canary_that_is_not_answered_means_a_new_observer(root: Path, state: Path) -> None:
    clock, asked = Clock(), []
    quiet = machine(clock=clock, sing=asked.append)
    async with listening(root, state, machine=quiet) as hearing:
        assert await hearing.watcher.check() == []
        assert len(asked) == 1
        clock.now += 1.5
        assert await hearing.watcher.check() == []
        clock.now += 1.0
        assert await hearing.watcher.check() == []  # late, but a second look decides
        clock.now += 1.0
        assert await kinds(hearing.watcher) == [TroubleKind.CANARY_SILENT]
        assert hearing.watcher.rescan_wanted
        await still_hears(hearing, root, "a.md")


async def test_a_canary_that_is_answered_is_no_trouble(root: Path, state: Path) -> None:
    clock = Clock()
    async with listening(root, state, machine=machine(clock=clock)) as hearing:
        bird = hearing.watcher._watch._canary  # type: ignore[union-attr]
        for _ in range(3):
            clock.now += 25.0
            assert await hearing.watcher.check() == []
            assert bird._asked is not None
            await eventually(lambda: bird._asked is None)
        clock.now += 10.0
        assert await hearing.watcher.check() == []
        assert [file.name for file in state.iterdir() if file.stat().st_size] == [], "nothing is written"
    assert [file.name for file in state.iterdir()] == [wake.WAKE]


async def test_wake_reaches_the_watcher_by_its_event(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        wake.wake(state)
        await eventually(lambda: hearing.wakes)


async def test_wake_reaches_a_polling_watcher_at_its_next_check(root: Path, state: Path) -> None:
    async with listening(root, state, observer="polling") as hearing:
        await hearing.watcher.check()
        assert hearing.wakes == 0
        wake.wake(state)
        await hearing.watcher.check()
        assert hearing.wakes == 1
        hearing.watcher.look_for_wake()
        assert hearing.wakes == 1


async def test_fewer_watches_than_directories_mean_a_new_observer_and_then_polling(
    root: Path, state: Path
) -> None:
    async with listening(root, state) as hearing:
        watcher = hearing.watcher
        watcher.scan_started()
        watcher.scan_ended(directories=500, seconds=0.1)
        troubles = await watcher.check()
        assert [trouble.kind for trouble in troubles] == [TroubleKind.WATCHES_MISSING]
        assert "2 of 500" in troubles[0].text
        assert watcher.mode is Mode.NATIVE
        assert await watcher.check() == []
        watcher.scan_started()
        watcher.scan_ended(directories=500, seconds=0.1)
        assert await kinds(watcher) == [TroubleKind.WATCHES_MISSING]
        assert watcher.mode is Mode.POLLING
        assert "max_user_watches=" in watcher.report.cure


async def test_directories_that_vanish_after_the_scan_are_not_missed(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        hearing.watcher.scan_started()
        (root / "sub").rmdir()
        await hearing.hears(Hint("sub", HintKind.GONE_TREE))
        hearing.watcher.scan_ended(directories=2, seconds=0.1)
        assert await hearing.watcher.check() == []


async def test_directories_that_vanished_before_the_scan_excuse_nothing(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        (root / "sub").rmdir()
        await hearing.hears(Hint("sub", HintKind.GONE_TREE))
        hearing.watcher.scan_started()
        hearing.watcher.scan_ended(directories=2, seconds=0.1)
        assert await kinds(hearing.watcher) == [TroubleKind.WATCHES_MISSING]


async def test_watches_are_compared_with_a_finished_scan_only(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        hearing.watcher.scan_started()
        hearing.watcher.scan_ended(directories=500, seconds=0.1)
        hearing.watcher.scan_started()
        assert await hearing.watcher.check() == []


class Scans:
    """Whole scans, each of which ends at once, and checks; time passes only here."""

    def __init__(self, hearing: Hearing, clock: Clock) -> None:
        self.watcher = hearing.watcher
        self.clock = clock

    async def mode_after(self, *, changes: int, seconds: float = ON_THE_WAY) -> Mode:
        self.watcher.scan_started()
        self.watcher.scan_ended(directories=2, seconds=0.1, changes=changes)
        return await self.mode_later(seconds)

    async def mode_later(self, seconds: float = ON_THE_WAY) -> Mode:
        bird = self.watcher._watch._canary  # type: ignore[union-attr]
        await eventually(lambda: bird._asked is None)  # its event takes real time
        self.clock.now += seconds
        assert await self.watcher.check() == []
        return self.watcher.mode


async def test_changes_of_which_no_event_told_make_it_poll_until_one_tells(root: Path, state: Path) -> None:
    clock = Clock()
    async with listening(root, state, machine=machine(clock=clock)) as hearing:
        scans, watcher = Scans(hearing, clock), hearing.watcher
        assert await scans.mode_after(changes=5) is Mode.NATIVE, "what is new at the first scan is no news"
        assert await scans.mode_after(changes=0) is Mode.NATIVE
        assert await scans.mode_after(changes=1, seconds=0.1) is Mode.NATIVE, "an event may be on its way"
        assert await scans.mode_later() is Mode.POLLING
        assert (watcher.rescan_every, watcher.rescan_wanted) == (10, True)
        assert "changes were found of which no event had told" in watcher.report.why
        assert await scans.mode_after(changes=0) is Mode.POLLING
        assert not watcher.rescan_wanted
        await still_hears(hearing, root, "a.md")
        assert await watcher.check() == []
        assert (watcher.mode, watcher.rescan_every, watcher.report.why) == (Mode.NATIVE, 900, "")


async def test_changes_of_which_any_event_told_are_no_reason_to_poll(root: Path, state: Path) -> None:
    clock = Clock()
    async with listening(root, state, machine=machine(clock=clock)) as hearing:
        scans = Scans(hearing, clock)
        assert await scans.mode_after(changes=0) is Mode.NATIVE
        await still_hears(hearing, root, "a.md")
        assert await scans.mode_after(changes=3) is Mode.NATIVE
        hearing.watcher.scan_started()
        hearing.watcher.scan_ended(directories=2, seconds=0.1, changes=3)
        await still_hears(hearing, root, "late.md")
        assert await scans.mode_later() is Mode.NATIVE


async def test_who_chose_events_is_not_polled_for_their_silence(root: Path, state: Path) -> None:
    clock = Clock()
    async with listening(root, state, machine=machine(clock=clock), observer="native") as hearing:
        scans = Scans(hearing, clock)
        assert await scans.mode_after(changes=0) is Mode.NATIVE
        assert await scans.mode_after(changes=3) is Mode.NATIVE


async def test_too_low_a_watch_limit_is_seen_before_starting(root: Path, state: Path) -> None:
    limits = InotifyLimits(watches=8192, queued=16384, instances=128)
    hearing = Hearing(root, state, machine=machine(limits=lambda: limits))
    report = await hearing.watcher.start(directories=10_000)
    assert report.mode is Mode.POLLING
    assert "8192" in report.why
    assert "10000" in report.why
    assert report.cure == (
        "echo fs.inotify.max_user_watches=524288 | sudo tee /etc/sysctl.d/60-kbsync-max_user_watches.conf"
        " && sudo sysctl -w fs.inotify.max_user_watches=524288"
    )
    assert library_threads() == set()
    await hearing.watcher.stop()


async def test_more_directories_than_queue_places_are_advised_on(root: Path, state: Path) -> None:
    limits = InotifyLimits(watches=1_000_000, queued=16384)
    hearing = Hearing(root, state, machine=machine(limits=lambda: limits))
    await hearing.watcher.start(directories=20_000)
    assert hearing.watcher.report.advice == "", "what the kernel says counts more than the last scan"
    await hearing.watcher.stop()
    limits = InotifyLimits(watches=1_000_000, queued=2)
    report = await hearing.watcher.start()
    assert report.mode is Mode.NATIVE
    assert "max_queued_events=65536" in report.advice
    await hearing.watcher.stop()


class Refusing(InotifyObserver):
    """An observer whose start meets a limit, after its threads and descriptors have been made."""

    error = OSError(errno.ENOSPC, "inotify watch limit reached")

    def start(self) -> None:
        raise self.error


def refuse_instance() -> BaseObserver:
    raise OSError(errno.EMFILE, "inotify instance limit reached")


@pytest.mark.parametrize(
    ("make", "cure"), [(Refusing, "max_user_watches"), (refuse_instance, "max_user_instances")]
)
async def test_a_limit_met_at_start_means_polling_until_it_is_raised(
    root: Path, state: Path, make: type, cure: str
) -> None:
    clock, makers = Clock(), [make]

    def make_observer() -> BaseObserver:
        made: BaseObserver = makers[0]()
        return made

    here = machine(clock=clock, make_observer=make_observer)
    async with listening(root, state, machine=here) as hearing:
        watcher = hearing.watcher
        assert watcher.mode is Mode.POLLING
        assert f"sysctl -w fs.inotify.{cure}=" in watcher.report.cure
        for _ in range(3):
            clock.now += 30.0
            assert await watcher.check() == [], "nothing is asked of an observer that is not there"
        assert not watcher.rescan_wanted
        makers[0] = InotifyObserver
        assert await watcher.check() == []
        assert watcher.mode is Mode.POLLING
        clock.now += TRY_AGAIN
        assert await watcher.check() == []
        assert watcher.mode is Mode.NATIVE
        assert watcher.rescan_wanted


async def test_starts_that_fail_leave_no_thread_and_no_descriptor(root: Path, state: Path) -> None:
    hearing = Hearing(root, state, machine=machine(make_observer=Refusing))
    await hearing.watcher.start()
    await hearing.watcher.stop()
    files, threads = open_files(), threading.active_count()
    for _ in range(20):
        await hearing.watcher.start()
    await eventually(lambda: threading.active_count() <= threads)
    assert library_threads() == set()
    assert open_files() <= files
    await hearing.watcher.stop()


async def test_many_new_observers_leave_no_thread_and_no_descriptor(root: Path, state: Path) -> None:
    async with listening(root, state, machine=machine(clock=Clock())) as hearing:
        files, threads = open_files(), len(library_threads())
        for _ in range(FREE_FAILURES):
            await hearing.watcher.replace("a test")
        await eventually(lambda: open_files() <= files)
        assert len(library_threads()) == threads
        assert hearing.watcher.mode is Mode.NATIVE


async def test_what_fails_again_and_again_is_polled_for_a_while(root: Path, state: Path) -> None:
    clock = Clock()
    async with listening(root, state, machine=machine(clock=clock)) as hearing:
        for _ in range(FREE_FAILURES + 1):
            await hearing.watcher.replace("the kernel is unwell")
        assert hearing.watcher.mode is Mode.POLLING
        assert "the kernel is unwell" in hearing.watcher.report.why
        hearing.watcher.scan_started()
        clock.now += 15.0
        assert await hearing.watcher.check() == []
        assert hearing.watcher.mode is Mode.POLLING
        clock.now += 1.0
        await hearing.watcher.check()
        assert hearing.watcher.mode is Mode.NATIVE
        assert hearing.watcher.rescan_wanted


def test_pauses_grow_and_are_forgotten() -> None:
    patience = RestartBackoff()
    assert [patience.pause_after_failure(now) for now in range(9)] == [0, 0, 0, 16, 32, 64, 128, 256, 512]
    assert patience.pause_after_failure(10.0) == 600
    assert patience.pause_after_failure(700.0) == 0


async def test_a_start_that_is_cut_off_is_still_ended_by_stop(root: Path, state: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    class Slow(InotifyObserver):
        def start(self) -> None:
            entered.set()
            release.wait(30)
            super().start()

    fds = inotify_fds()
    hearing = Hearing(root, state, machine=machine(make_observer=Slow))
    starting = asyncio.create_task(hearing.watcher.start())
    await eventually(entered.is_set)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    release.set()
    await hearing.watcher.stop()
    assert library_threads() == set()
    assert inotify_fds() == fds


@pytest.fixture
def untouched_process() -> Iterator[None]:
    logger = logging.getLogger("watchdog")
    before = (logger.level, logger.propagate, list(logger.handlers), threading.excepthook)
    yield
    assert (logger.level, logger.propagate, list(logger.handlers), threading.excepthook) == before


@pytest.mark.usefixtures("untouched_process")
async def test_the_hooks_of_the_process_are_given_back(root: Path, state: Path) -> None:
    hook = threading.excepthook
    async with listening(root, state), listening(state, root):
        assert threading.excepthook is not hook
    assert threading.excepthook is hook


async def test_the_earlier_thread_hook_is_still_called(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    async with listening(root, state) as hearing:
        error = ValueError("of another thread")

        def fail() -> None:
            raise error

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        assert told == [error]
        assert await hearing.watcher.check() == []


async def test_an_event_after_the_loop_closed_ends_no_thread(root: Path, state: Path) -> None:
    heard: list[FileSystemEvent] = []

    def run_and_close() -> Watcher:
        loop = asyncio.new_event_loop()
        hearing = Hearing(root, state, machine=machine())
        loop.run_until_complete(hearing.watcher.start())
        loop.close()
        return hearing.watcher

    watcher = await asyncio.to_thread(run_and_close)
    observation = watcher._watch._observation  # type: ignore[union-attr]
    (root / "a.md").write_text("x")
    wake.wake(state)
    await eventually(lambda: observation.listener.heard)
    assert observation.dead_threads() == []
    await asyncio.to_thread(observation.stop)
    assert heard == []


async def test_stop_is_harmless_at_any_time(root: Path, state: Path) -> None:
    watcher = Watcher(root, state, machine=machine())
    await watcher.stop()
    assert await watcher.check() == []
    await watcher.start()
    await watcher.start()
    await watcher.stop()
    await watcher.stop()
    assert library_threads() == set()
    assert await watcher.check() == []
