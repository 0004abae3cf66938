from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from watchdog import events as ev
from watchdog.observers.inotify import InotifyWatchGroup
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD

from kbsync.source.hints import Hint, HintKind
from kbsync.source.observer import WatchGroup, hints_of
from tests.share import enumerated
from tests.source.watching import Hearing, eventually, inotify_fds, listening

FILE, TREE, GONE = HintKind.FILE, HintKind.TREE, HintKind.GONE_TREE


@pytest.fixture
async def hearing(root: Path, state: Path) -> AsyncIterator[Hearing]:
    (root / "old.md").write_text("old")
    (root / "sub").mkdir()
    (root / "sub" / "deep.md").write_text("deep")
    async with listening(root, state) as hearing:
        yield hearing


@pytest.mark.parametrize(
    ("root", "event", "expected"),
    [
        ("/", ev.FileClosedEvent("/a"), [Hint("a", FILE)]),
        ("/r", ev.FileMovedEvent("/r/a", "/elsewhere/b"), [Hint("a", FILE)]),
        ("/r", ev.FileMovedEvent("/r/a", "/r/.git/b"), [Hint("a", FILE)]),
        ("/r", ev.FileMovedEvent("/r/d/a", "/r/e/a", is_synthetic=True), []),
        ("/r", ev.DirDeletedEvent("/r"), []),
        ("/r", ev.FileModifiedEvent("/root2/a"), []),
        ("/r", ev.FileModifiedEvent("/r/.git/index"), []),
        ("/r", ev.DirCreatedEvent("/r/.git"), []),
        ("/r", ev.FileAttribEvent("/r/a"), []),
        ("/r", ev.FileAttribEvent("/r/shut.md"), [Hint("shut.md", FILE)]),
    ],
)
def test_only_selected_paths_below_the_root_are_checked(
    root: str, event: ev.FileSystemEvent, expected: list[Hint]
) -> None:
    hints = hints_of(event, root, lambda path: path.split("/")[0] == ".git", {"shut.md"}.__contains__)
    assert list(hints) == expected


def save_like_vim(root: Path) -> None:
    (root / "old.md").rename(root / "old.md~")
    (root / "old.md").write_text("new")
    (root / "old.md~").unlink()


def save_atomically(root: Path, temporary: Path) -> None:
    temporary.write_text("new")
    temporary.rename(root / "old.md")


def move_in(root: Path) -> None:
    (root.parent / "outside/in").mkdir(parents=True)
    (root.parent / "outside/in/a.md").write_text("x")
    (root.parent / "outside").rename(root / "inside")


NEW = Hint("new.md", FILE)
DEEDS: dict[str, tuple[Callable[[Path], object], list[Hint]]] = {
    "new": (lambda root: (root / "new.md").write_text("x"), [NEW]),
    "rewrite": (lambda root: (root / "sub/deep.md").write_text("y"), [Hint("sub/deep.md", FILE)]),
    "truncate": (lambda root: os.truncate(root / "sub/deep.md", 1), [Hint("sub/deep.md", FILE)]),
    "delete": (lambda root: (root / "old.md").unlink(), [Hint("old.md", FILE)]),
    "rename": (lambda root: (root / "old.md").rename(root / "new.md"), [Hint("old.md", FILE), NEW]),
    "move out": (lambda root: (root / "old.md").rename(root.parent / "old.md"), [Hint("old.md", FILE)]),
    "save as vim does": (save_like_vim, [Hint("old.md", FILE), Hint("old.md~", FILE)]),
    "save atomically": (lambda root: save_atomically(root, root / ".old.md.tmp"), [Hint("old.md", FILE)]),
    "save from outside": (lambda root: save_atomically(root, root.parent / "tmp"), [Hint("old.md", FILE)]),
    "no UTF-8": (lambda root: (root / "caf\udce9.md").write_text("x"), [Hint("caf\udce9.md", FILE)]),
    "folder moved in": (move_in, [Hint("inside", TREE)]),
    "folder moved out": (lambda root: (root / "sub").rename(root.parent / "sub"), [Hint("sub", GONE)]),
    "folder moved": (
        lambda root: (root / "sub").rename(root / "bus"),
        [Hint("sub", GONE), Hint("bus", TREE)],
    ),
    "folder deleted": (
        lambda root: shutil.rmtree(root / "sub"),
        [Hint("sub/deep.md", FILE), Hint("sub", GONE)],
    ),
}


@enumerated()
@pytest.mark.parametrize("deed", DEEDS)
async def test_each_change_causes_a_hint(hearing: Hearing, root: Path, deed: str) -> None:
    act, hints = DEEDS[deed]
    act(root)
    await hearing.hears(*hints)
    for hint in hints:  # a new folder is watched from then on
        if hint.kind is TREE:
            (root / hint.path / "later.md").write_text("later")
            await hearing.hears(Hint(f"{hint.path}/later.md", FILE))


def exchange(first: Path, second: Path) -> None:
    """Exchange two folders at once, as `mv --exchange` does."""
    at_cwd, rename_exchange = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), rename_exchange):
        raise OSError(ctypes.get_errno(), "renameat2")


def swap_with_a_new_folder(root: Path) -> None:
    (root / "new").mkdir()
    (root / "new").rename(root / "newer")
    (root / "sub").rename(root / "new")


def move_a_growing_folder(root: Path) -> None:
    (root / "sub/kid/baby").mkdir(parents=True)
    (root / "sub").rename(root / "bus")


def rotate(root: Path) -> None:
    for source, target in (("sub", "x"), ("other", "sub"), ("x", "other"), ("sub", "x"), ("other", "sub")):
        (root / source).rename(root / target)


MOVES: dict[str, tuple[Callable[[Path], object], list[str], list[str]]] = {
    "two folders exchanged": (
        lambda root: exchange(root / "sub", root / "other"),
        ["sub", "sub/below", "other", "other/under"],
        ["sub", "sub/below", "other", "other/under"],
    ),
    "new folder moved, and another to its path": (swap_with_a_new_folder, ["new", "newer"], ["newer"]),
    "folder moved while new ones were made in it": (
        move_a_growing_folder,
        ["bus", "bus/under", "bus/kid/baby"],
        ["bus/kid", "bus/kid/baby"],
    ),
    "folders moved in a circle": (rotate, ["sub", "sub/under", "x", "x/below"], []),
}


@enumerated()
@pytest.mark.parametrize("move", MOVES)
async def test_folders_moved_faster_than_their_events_arrive_are_watched_at_their_paths(
    root: Path, state: Path, move: str
) -> None:
    act, folders, misreported = MOVES[move]
    (root / "sub/under").mkdir(parents=True)
    (root / "other/below").mkdir(parents=True)
    async with listening(root, state) as hearing:
        watch = hearing.watcher._watch
        assert watch is not None and watch._observer is not None
        with watch._observer.reader._lock:  # the events wait
            act(root)
            (root / "last.md").write_text("x")
        await hearing.hears_of("last.md")
        hearing.received_hints.clear()
        assert await hearing.watcher.check() == []
        # Changes may have been reported under other paths until now.
        await hearing.hears_of(*misreported)
        for folder in folders:
            (root / folder / "later.md").write_text("later")
        await hearing.hears(*(Hint(f"{folder}/later.md", FILE) for folder in folders))
        hearing.received_hints.clear()
        assert await hearing.watcher.check() == []
        assert {hint.kind for hint in hearing.received_hints} <= {FILE}


async def test_folders_are_watched_although_their_move_is_processed_during_the_correction(
    hearing: Hearing, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_event, corrections = InotifyWatchGroup.on_event, list[list[str]]()

    def correct_first(group: WatchGroup, event: InotifyEvent) -> None:
        if event.is_directory and event.is_moved_to:
            corrections.append(group.realign())
        on_event(group, event)

    monkeypatch.setattr(InotifyWatchGroup, "on_event", correct_first)
    watch = hearing.watcher._watch
    assert watch is not None and watch._observer is not None
    with watch._observer.reader._lock:  # the events wait
        (root / "sub").rename(root / "moved")
        (root / "sub").mkdir()
    await hearing.hears(Hint("moved", TREE), Hint("sub", TREE))
    assert corrections
    (root / "other").mkdir()
    (root / "other").rename(root / "another")
    await hearing.hears(Hint("another", TREE))
    assert await hearing.watcher.check() == []
    for folder in ("moved", "sub"):
        (root / folder / "later.md").write_text("later")
    await hearing.hears(Hint("moved/later.md", FILE), Hint("sub/later.md", FILE))


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_folder_is_watched_only_while_it_is_in_the_tree(
    hearing: Hearing, root: Path, *, is_replaced: bool
) -> None:
    away = root.parent / "away"
    (root / "sub/below").mkdir()
    (root / "sub").rename(away)
    await hearing.hears(Hint("sub", GONE))
    if is_replaced:
        (root / "sub").mkdir()
        await hearing.hears(Hint("sub", TREE))
    assert await hearing.watcher.check() == []
    hearing.received_hints.clear()
    (away / "deep.md").write_text("changed elsewhere")
    (away / "below/new.md").write_text("new elsewhere")
    (root / "old.md").write_text("changed after them")
    await hearing.hears(Hint("old.md", FILE))
    assert {hint.path for hint in hearing.received_hints} == {"old.md"}
    away.rename(root / "back")
    await hearing.hears(Hint("back", TREE))
    (root / "back/below/new.md").write_text("changed again")
    await hearing.hears(Hint("back/below/new.md", FILE))


async def test_folders_renamed_in_case_are_watched_under_their_new_names(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_or_create_watch, lexists, listdir = InotifyFD._get_or_create_watch, os.path.lexists, os.listdir

    def respell(path: bytes) -> bytes:  # as a file system that ignores case
        return path if lexists(path) else path.replace(b"/sub", b"/SUB").replace(b"/in", b"/IN")

    monkeypatch.setattr(os.path, "lexists", lambda path: lexists(respell(path)))
    monkeypatch.setattr(os, "listdir", lambda path: listdir(respell(path)))
    monkeypatch.setattr(
        InotifyFD, "_get_or_create_watch", lambda fd, path, mask: get_or_create_watch(fd, respell(path), mask)
    )
    for number in range(20):
        (root / f"sub{number}/in").mkdir(parents=True)
    async with listening(root, state) as hearing:
        for number in range(20):
            (root / f"sub{number}/in").rename(root / f"sub{number}/IN")
            (root / f"sub{number}").rename(root / f"SUB{number}")
        await hearing.hears(*(Hint(f"SUB{number}", TREE) for number in range(20)))
        hearing.received_hints.clear()
        assert await hearing.watcher.check() == []
        for number in range(20):
            (root / f"SUB{number}/later.md").write_text("later")
            (root / f"SUB{number}/IN/later.md").write_text("later")
        await hearing.hears_of(*(f"SUB{number}/later.md" for number in range(20)))
        await hearing.hears_of(*(f"SUB{number}/IN/later.md" for number in range(20)))
        assert not [hint for hint in hearing.received_hints if hint.path.startswith("sub")]


async def test_append_causes_a_hint_while_the_file_is_open(hearing: Hearing, root: Path) -> None:
    with (root / "old.md").open("a") as file:
        file.write("more")
        file.flush()
        await hearing.hears(Hint("old.md", FILE))


async def test_files_in_just_created_directories_cause_hints(hearing: Hearing, root: Path) -> None:
    for number in range(20):
        folder = root / f"n{number}/a/b/c"
        folder.mkdir(parents=True)
        (folder / "f.md").write_text("x")
    await hearing.hears_of(*(f"n{number}/a/b/c/f.md" for number in range(20)))


async def test_our_own_reads_cause_no_hint(hearing: Hearing, root: Path) -> None:
    for number in range(50):
        (root / "sub" / f"{number}.md").write_text("x")
    await hearing.hears_of(*(f"sub/{number}.md" for number in range(50)))
    (root / "first mark").touch()
    await hearing.hears(Hint("first mark", FILE))
    hearing.received_hints.clear()

    for folder, _, names in os.walk(root):
        os.stat(folder)
        for name in names:
            Path(folder, name).read_bytes()
            os.chmod(Path(folder, name), 0o640)
    await asyncio.to_thread(subprocess.run, ["cat", str(root / "old.md")], check=True, capture_output=True)

    (root / "second mark").touch()
    await hearing.hears_of("second mark")
    assert {hint.path for hint in hearing.received_hints} <= {"first mark", "second mark"}


@pytest.mark.usefixtures("hearing")
def test_read_events_are_never_requested_from_the_kernel() -> None:
    watches = [
        line
        for fd in inotify_fds()
        for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        if line.startswith("inotify wd")
    ]
    masks = [int(line.split("mask:")[1].split()[0], 16) for line in watches]
    assert len(masks) == 3  # the root, its sub-directory, the state's directory
    accessed, closed_unwritten, opened = 0x1, 0x10, 0x20
    assert not any(mask & (accessed | closed_unwritten | opened) for mask in masks)


async def test_symlinked_root_is_watched_completely(root: Path, state: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    async with listening(link, state) as hearing:
        (root / "a.md").write_text("x")
        (link / "b.md").write_text("x")
        await hearing.hears(Hint("a.md", FILE), Hint("b.md", FILE))


async def test_ignored_linked_and_foreign_paths_cause_no_hints(root: Path, state: Path) -> None:
    other = root.parent / "other"
    for folder in (other, root / ".git"):
        folder.mkdir()
    (root / "link").symlink_to(other)
    (root / "loop").symlink_to(root)
    watching = listening(root, state, ignores=lambda path: path.split("/")[0] == ".git")
    async with watching as first, listening(other, state) as second:
        for file in (root / ".git/a", other / "b.md", root / "a.md"):
            file.write_text("x")
        await second.hears(Hint("b.md", FILE))
        await first.hears(Hint("a.md", FILE))
        assert {hint.path for hint in first.received_hints} == {"a.md"}
        assert {hint.path for hint in second.received_hints} == {"b.md"}


async def test_too_many_hints_request_a_rescan_instead(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        watcher = hearing.watcher
        watcher._on_hint = lambda: None
        watcher.hints._limit = 10
        for number in range(30):
            (root / f"{number}.md").write_text("x")
        await eventually(lambda: bool(watcher.rescan_reason))
        assert str(root) in watcher.rescan_reason
        watcher.scan_started()
        await eventually(lambda: not watcher.hints.overflowed)
