from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from watchdog import events as ev

from kbsync.source.hints import Hint, HintKind
from kbsync.source.observer import TreeEvents, WakeEvents, hints_of
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
    ("event", "expected"),
    [
        (ev.FileCreatedEvent("/r/a"), [Hint("a", FILE)]),
        (ev.FileModifiedEvent("/r/a"), [Hint("a", FILE)]),
        (ev.FileClosedEvent("/r/d/a"), [Hint("d/a", FILE)]),
        (ev.FileDeletedEvent("/r/a"), [Hint("a", FILE)]),
        (ev.FileMovedEvent("/r/a", "/r/b"), [Hint("a", FILE), Hint("b", FILE)]),
        (ev.FileMovedEvent("/r/a", "/elsewhere/b"), [Hint("a", FILE)]),
        (ev.FileMovedEvent("/r/a", "/r/.git/b"), [Hint("a", FILE)]),
        (ev.DirCreatedEvent("/r/d"), [Hint("d", TREE)]),
        (ev.DirDeletedEvent("/r/d"), [Hint("d", GONE)]),
        (ev.DirMovedEvent("/r/d", "/r/e"), [Hint("d", GONE), Hint("e", TREE)]),
        (ev.FileMovedEvent("/r/d/a", "/r/e/a", is_synthetic=True), []),
        (ev.FileOpenedEvent("/r/a"), []),
        (ev.FileClosedNoWriteEvent("/r/a"), []),
        (ev.FileAttribEvent("/r/a"), []),
        (ev.DirAttribEvent("/r/d"), []),
        (ev.DirModifiedEvent("/r/d"), []),
        (ev.DirDeletedEvent("/r"), []),
        (ev.FileModifiedEvent("/root2/a"), []),
        (ev.FileModifiedEvent("/r/.git/index"), []),
        (ev.DirCreatedEvent("/r/.git"), []),
        (ev.FileModifiedEvent(b"/r/caf\xe9"), [Hint("caf\udce9", FILE)]),
    ],
)
def test_each_kind_of_event_asks_for_the_right_look(event: ev.FileSystemEvent, expected: list[Hint]) -> None:
    assert list(hints_of(event, "/r", lambda path: path.split("/")[0] == ".git")) == expected


def test_the_root_of_the_file_system_can_be_watched() -> None:
    assert hints_of(ev.FileClosedEvent("/a"), "/", lambda path: False) == (Hint("a", FILE),)


def test_listeners_never_raise_in_the_librarys_thread() -> None:
    def closed(*arguments: object) -> None:
        raise RuntimeError("Event loop is closed")

    listener = TreeEvents("/r", lambda path: False, closed)
    listener.dispatch(ev.FileClosedEvent("/r/a"))
    assert (listener.heard, listener.fault) == (1, "RuntimeError: Event loop is closed")
    WakeEvents(closed).dispatch(ev.FileClosedEvent("/state/wake"))


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


DEEDS: dict[str, tuple[Callable[[Path], object], list[Hint]]] = {
    "new": (lambda root: (root / "new.md").write_text("x"), [Hint("new.md", FILE)]),
    "rewrite": (lambda root: (root / "sub/deep.md").write_text("y"), [Hint("sub/deep.md", FILE)]),
    "truncate": (lambda root: os.truncate(root / "sub/deep.md", 1), [Hint("sub/deep.md", FILE)]),
    "delete": (lambda root: (root / "old.md").unlink(), [Hint("old.md", FILE)]),
    "rename": (
        lambda root: (root / "old.md").rename(root / "new.md"),
        [Hint("old.md", FILE), Hint("new.md", FILE)],
    ),
    "move out": (lambda root: (root / "old.md").rename(root.parent / "old.md"), [Hint("old.md", FILE)]),
    "save as vim does": (save_like_vim, [Hint("old.md", FILE), Hint("old.md~", FILE)]),
    "save atomically": (lambda root: save_atomically(root, root / ".old.md.tmp"), [Hint("old.md", FILE)]),
    "save from outside": (lambda root: save_atomically(root, root.parent / "tmp"), [Hint("old.md", FILE)]),
    "no UTF-8": (
        lambda root: Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.md")).write_text("x"),
        [Hint("caf\udce9.md", FILE)],
    ),
    "folder moved in": (move_in, [Hint("inside", TREE)]),
    "folder moved out": (lambda root: (root / "sub").rename(root.parent / "sub"), [Hint("sub", GONE)]),
    "folder moved within": (
        lambda root: (root / "sub").rename(root / "bus"),
        [Hint("sub", GONE), Hint("bus", TREE)],
    ),
    "folder deleted": (
        lambda root: shutil.rmtree(root / "sub"),
        [Hint("sub/deep.md", FILE), Hint("sub", GONE)],
    ),
}


@pytest.mark.parametrize("deed", DEEDS)
async def test_each_change_is_heard(hearing: Hearing, root: Path, deed: str) -> None:
    act, hints = DEEDS[deed]
    act(root)
    await hearing.hears(*hints)
    for hint in hints:  # a folder that came is watched from then on
        if hint.kind is TREE:
            (root / hint.path / "later.md").write_text("later")
            await hearing.hears(Hint(f"{hint.path}/later.md", FILE))


async def test_an_append_is_heard_while_the_file_is_still_open(hearing: Hearing, root: Path) -> None:
    with (root / "old.md").open("a") as file:
        file.write("more")
        file.flush()
        await hearing.hears(Hint("old.md", FILE))


async def test_files_in_directories_made_at_once_are_heard(hearing: Hearing, root: Path) -> None:
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
    hearing.seen.clear()

    for folder, _, names in os.walk(root):
        os.stat(folder)
        for name in names:
            Path(folder, name).read_bytes()
            os.chmod(Path(folder, name), 0o640)
    await asyncio.to_thread(subprocess.run, ["cat", str(root / "old.md")], check=True, capture_output=True)

    (root / "second mark").touch()
    await hearing.hears_of("second mark")
    assert {hint.path for hint in hearing.seen} <= {"first mark", "second mark"}


@pytest.mark.usefixtures("hearing")
def test_the_kernel_is_never_asked_to_tell_of_reads() -> None:
    told = [
        line
        for fd in inotify_fds()
        for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        if line.startswith("inotify wd")
    ]
    masks = [int(line.split("mask:")[1].split()[0], 16) for line in told]
    assert len(masks) == 3  # the root, its sub-directory, that of the state
    accessed, closed_unwritten, opened = 0x1, 0x10, 0x20
    assert not any(mask & (accessed | closed_unwritten | opened) for mask in masks)


async def test_what_is_ignored_never_reaches_the_loop(root: Path, state: Path) -> None:
    (root / ".git").mkdir()
    async with listening(root, state, ignores=lambda path: path.split("/")[0] == ".git") as hearing:
        for number in range(20):
            (root / ".git" / f"o{number}").write_text("x")
        (root / "a.md").write_text("x")
        await hearing.hears(Hint("a.md", FILE))
        assert {hint.path for hint in hearing.seen} == {"a.md"}


async def test_a_root_that_is_a_symlink_is_watched_whole(root: Path, state: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    async with listening(link, state) as hearing:
        assert hearing.watcher.report.folder == str(root)
        (root / "a.md").write_text("x")
        (link / "b.md").write_text("x")
        await hearing.hears(Hint("a.md", FILE), Hint("b.md", FILE))


async def test_symlinks_in_the_tree_are_not_followed(root: Path, state: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "loop").symlink_to(root)
    async with listening(root, state) as hearing:
        (outside / "a.md").write_text("x")
        (root / "mark").write_text("x")
        await hearing.hears(Hint("mark", FILE))
        assert {hint.path for hint in hearing.seen} == {"mark"}


async def test_several_watchers_hear_only_their_own_folder(root: Path, state: Path) -> None:
    other = root.parent / "other"
    other.mkdir()
    async with listening(root, state) as first, listening(other, state) as second:
        (root / "a.md").write_text("x")
        (other / "b.md").write_text("x")
        await first.hears(Hint("a.md", FILE))
        await second.hears(Hint("b.md", FILE))
        assert {hint.path for hint in first.seen} == {"a.md"}
        assert {hint.path for hint in second.seen} == {"b.md"}


async def test_too_many_hints_want_a_rescan_instead(root: Path, state: Path) -> None:
    async with listening(root, state) as hearing:
        watcher = hearing.watcher
        watcher._on_hint = lambda: None
        watcher.hints._most = 10
        for number in range(30):
            (root / f"{number}.md").write_text("x")
        await eventually(lambda: watcher.rescan_wanted)
        assert str(root) in watcher.rescan_reason
        watcher.scan_started()
        await eventually(lambda: not watcher.hints.overflowed)
