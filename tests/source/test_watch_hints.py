from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from watchdog import events as ev

from kbsync.source.hints import Hint, HintKind
from kbsync.source.observer import OwnFileEvents, TreeEvents, hints_of
from tests.source.watching import Hearing, eventually, inotify_fds, listening

FILE, TREE, GONE = HintKind.FILE, HintKind.TREE, HintKind.GONE_TREE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


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
    OwnFileEvents({"wake": closed}).dispatch(ev.FileClosedEvent("/state/wake"))


async def test_a_new_file_and_a_rewritten_file_are_heard(hearing: Hearing, root: Path) -> None:
    (root / "new.md").write_text("x")
    (root / "sub" / "deep.md").write_text("y")
    await hearing.hears(Hint("new.md", FILE), Hint("sub/deep.md", FILE))
    assert hearing.calls >= 2


async def test_an_append_and_a_truncation_are_heard(hearing: Hearing, root: Path) -> None:
    with open(root / "old.md", "a") as file:
        file.write("more")
        file.flush()
        await hearing.hears(Hint("old.md", FILE))  # while the file is still open
    hearing.seen.clear()
    os.truncate(root / "sub" / "deep.md", 1)
    await hearing.hears(Hint("sub/deep.md", FILE))


async def test_a_save_as_vim_does_it_is_heard(hearing: Hearing, root: Path) -> None:
    os.rename(root / "old.md", root / "old.md~")
    (root / "old.md").write_text("new")
    os.unlink(root / "old.md~")
    await hearing.hears(Hint("old.md", FILE), Hint("old.md~", FILE))


@pytest.mark.parametrize("where", ["root", "."])
async def test_an_atomic_save_is_heard(hearing: Hearing, root: Path, where: str) -> None:
    temporary = root.parent / where / ".old.md.tmp"
    temporary.write_text("new")
    os.rename(temporary, root / "old.md")
    await hearing.hears(Hint("old.md", FILE))


async def test_files_in_directories_made_at_once_are_heard(hearing: Hearing, root: Path) -> None:
    for number in range(20):
        folder = root / f"n{number}" / "a" / "b" / "c"
        folder.mkdir(parents=True)
        (folder / "f.md").write_text("x")
    await hearing.hears_of(*(f"n{number}/a/b/c/f.md" for number in range(20)))


async def test_a_directory_moved_in_is_a_tree(hearing: Hearing, root: Path) -> None:
    outside = root.parent / "outside"
    (outside / "in").mkdir(parents=True)
    (outside / "in" / "a.md").write_text("x")
    os.rename(outside, root / "inside")
    await hearing.hears(Hint("inside", TREE))
    (root / "inside" / "in" / "a.md").write_text("later")
    await hearing.hears(Hint("inside/in/a.md", FILE))


async def test_a_directory_moved_out_is_a_gone_tree(hearing: Hearing, root: Path) -> None:
    os.rename(root / "sub", root.parent / "sub")
    await hearing.hears(Hint("sub", GONE))


async def test_a_directory_moved_within_is_both(hearing: Hearing, root: Path) -> None:
    os.rename(root / "sub", root / "bus")
    await hearing.hears(Hint("sub", GONE), Hint("bus", TREE))
    (root / "bus" / "deep.md").write_text("later")
    await hearing.hears(Hint("bus/deep.md", FILE))


async def test_a_deleted_directory_is_a_gone_tree(hearing: Hearing, root: Path) -> None:
    shutil.rmtree(root / "sub")
    await hearing.hears(Hint("sub/deep.md", FILE), Hint("sub", GONE))


async def test_a_rename_and_an_exchange_ask_for_both_paths(hearing: Hearing, root: Path) -> None:
    os.rename(root / "old.md", root / "new.md")
    await hearing.hears(Hint("old.md", FILE), Hint("new.md", FILE))


async def test_a_file_moved_out_and_a_deleted_file_are_heard(hearing: Hearing, root: Path) -> None:
    os.rename(root / "old.md", root.parent / "old.md")
    os.unlink(root / "sub" / "deep.md")
    await hearing.hears(Hint("old.md", FILE), Hint("sub/deep.md", FILE))


async def test_names_that_are_not_utf8_are_heard(hearing: Hearing, root: Path) -> None:
    with open(os.fsencode(root) + b"/caf\xe9.md", "wb") as file:
        file.write(b"x")
    await hearing.hears(Hint("caf\udce9.md", FILE))


async def test_our_own_reads_cause_no_hint(hearing: Hearing, root: Path) -> None:
    for number in range(50):
        (root / "sub" / f"{number}.md").write_text("x")
    await hearing.hears_of(*(f"sub/{number}.md" for number in range(50)))
    (root / "first mark").touch()
    await hearing.hears_of("first mark")
    await eventually(lambda: Hint("first mark", FILE) in hearing.seen)
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
    assert len(masks) == 3  # the root, its sub-directory, the canary's directory
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
