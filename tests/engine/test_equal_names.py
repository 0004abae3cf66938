"""Tests file systems that treat `a.md` and `A.md` as equal: vfat, exFAT, CIFS, ext4 with `casefold`."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest

from kbsync.core.model import Presence, UploadState
from kbsync.source.hints import Hint, HintKind
from kbsync.state.files import Entries, Folders
from tests.engine.auditing import audited, verified
from tests.engine.world import World
from tests.memory.target import MemoryTarget
from tests.memory.variants import RenamingMemory
from tests.share import enumerated

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Ärger.md") for form in ("NFC", "NFD"))


def fold(name: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open an entry by any spelling of its name; list a folder with the names as they were created."""
    fold_names(monkeypatch)


@pytest.fixture
def folding_in_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like `folding`, but each spelling has its own inode number, as exfat-fuse, rclone and sshfs show it."""
    fold_names(monkeypatch, number_spellings=True)


def fold_names(monkeypatch: pytest.MonkeyPatch, *, number_spellings: bool = False) -> None:
    real_open, real_stat = os.open, os.stat

    def entry(name: Any, folder: int | None) -> Any:
        if folder is None or not isinstance(name, str):
            return name
        return next((other for other in os.listdir(folder) if fold(other) == fold(name)), name)

    def open_folded(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        return real_open(entry(path, dir_fd), flags, mode, dir_fd=dir_fd)

    def stat_folded(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Any:
        status = real_stat(entry(path, dir_fd), dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if number_spellings and entry(path, dir_fd) != path:
            fields = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
            return SimpleNamespace(**fields | {"st_ino": crc32(path.encode())})
        return status

    monkeypatch.setattr(os, "open", open_folded)
    monkeypatch.setattr(os, "stat", stat_folded)


async def mirrored(tmp_path: Path, target: type[MemoryTarget], *paths: str, **limits: Any) -> World:
    world = World(tmp_path, target, **limits)
    for path in paths:
        world.write(path, f"text of {path}")
    world.clock.now += 100
    await world.once()
    return world


async def passed(world: World) -> World:
    """Run two passes, long after the last change."""
    for _ in range(2):
        world.clock.now += 100
        await world.once()
    return world


RENAMES = [("report.md", "Report.md"), ("Docs", "docs"), (COMPOSED, DECOMPOSED), ("Docs/sub", "Docs/Sub")]
PATHS = ("report.md", "Docs/a.md", "Docs/sub/b.md", COMPOSED, "notes.md", "plan.md")


@enumerated()
@pytest.mark.parametrize("target", [RenamingMemory, MemoryTarget])
@pytest.mark.parametrize(("old", "new"), RENAMES)
@pytest.mark.usefixtures("folding")
async def test_change_of_case_or_normalization_is_one_rename(
    tmp_path: Path, old: str, new: str, target: type[MemoryTarget]
) -> None:
    world = await mirrored(tmp_path, target, *PATHS)
    sent = world.puts()
    os.rename(world.root / old, world.root / new)
    await passed(world)
    assert world.searchable_texts() == world.on_disk()
    renamed = sum(path.startswith(old) for path in PATHS)
    assert world.puts() - sent == (0 if target is RenamingMemory else renamed)
    for path in world.on_disk():
        if path.startswith(new):
            os.unlink(world.root / path)
    await passed(world)
    assert world.searchable_texts() == world.on_disk()
    assert not set(world.states()) & {UploadState.UNSURE.name, UploadState.FAILED.name}


@pytest.mark.usefixtures("folding")
async def test_file_renamed_in_case_and_changed_leaves_no_old_version(tmp_path: Path) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS)
    os.rename(world.root / "report.md", world.root / "Report.md")
    world.write("Report.md", "another text")
    await passed(world)
    assert world.searchable_texts() == world.on_disk()
    assert (await verified(world)).ok


@pytest.mark.parametrize(("old", "new"), [("report.md", "Report.md"), ("Docs", "docs"), ("x", "X")])
@pytest.mark.usefixtures("folding_in_fuse")
async def test_case_rename_is_noticed_if_each_spelling_has_its_own_inode(
    tmp_path: Path, old: str, new: str
) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS, "x/c.md")
    os.rename(world.root / old, world.root / new)
    await passed(world)
    assert world.searchable_texts() == world.on_disk()


@pytest.mark.usefixtures("folding_in_fuse")
async def test_events_of_a_case_rename_are_enough_if_each_spelling_has_its_own_inode(tmp_path: Path) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS)
    os.rename(world.root / "report.md", world.root / "Report.md")
    hints = [Hint("report.md", HintKind.FILE), Hint("Report.md", HintKind.FILE)]
    async with world.start_mirror() as bound:
        await bound.reconciler.take_hints(hints)
        assert world.store is not None
        entry = world.store.read_now(lambda tx: tx.entries.get(1, "report.md"))
    assert entry is None or entry.presence is not Presence.PRESENT


@pytest.mark.parametrize(
    "hints",
    [
        [Hint("report.md", HintKind.FILE), Hint("Report.md", HintKind.FILE)],
        [Hint("Report.md", HintKind.FILE), Hint("report.md", HintKind.FILE)],
    ],
)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.usefixtures("folding")
async def test_events_of_a_case_rename_are_one_rename(
    tmp_path: Path, hints: Sequence[Hint], together: bool
) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS)
    sent = world.puts()
    os.rename(world.root / "report.md", world.root / "Report.md")
    world.clock.now += 100
    async with world.start_mirror() as bound:
        for batch in [hints] if together else [[hint] for hint in hints]:
            await bound.reconciler.take_hints(batch)
    await passed(world)
    assert (world.searchable_texts(), world.puts() - sent) == (world.on_disk(), 0)


@pytest.mark.usefixtures("folding")
async def test_events_of_a_folder_case_rename_are_renames(tmp_path: Path) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS)
    sent = world.puts()
    os.rename(world.root / "Docs", world.root / "docs")
    world.clock.now += 100
    hints = [Hint("docs", HintKind.TREE), Hint("Docs", HintKind.GONE_TREE)]
    for batch in (hints, hints[::-1]):
        async with world.start_mirror() as bound:
            await bound.reconciler.take_hints(batch)
            await bound.reconciler.scan_trees()
        await passed(world)
        assert (world.searchable_texts(), world.puts() - sent) == (world.on_disk(), 0)


@pytest.mark.parametrize("filesystem", ["folding", "folding_in_fuse"])
async def test_events_with_a_spelling_that_a_program_used_are_about_the_stored_file(
    tmp_path: Path, filesystem: str, request: pytest.FixtureRequest
) -> None:
    """`rm REPORT.md`, `mv DOCS elsewhere` and `echo text > NOTES.md`, where the listing has `report.md`."""
    request.getfixturevalue(filesystem)
    world = await mirrored(tmp_path, RenamingMemory, *PATHS)
    os.unlink(world.root / "report.md")
    os.rename(world.root / "Docs", tmp_path / "elsewhere")
    world.write("notes.md", "another text")
    hints = [Hint(f"{name}.md", HintKind.FILE) for name in ("REPORT", "NOTES")]
    async with world.start_mirror() as bound:
        await bound.reconciler.take_hints([*hints, Hint("DOCS", HintKind.GONE_TREE)])
        world.clock.now += 100
        await bound.turn()
    rows = world.read_state(lambda tx: list(tx.entries.visible(1)))
    assert {row.path for row in rows if row.presence is Presence.PRESENT} == world.on_disk().keys()
    assert world.searchable_texts()["notes.md"] == "another text"


@pytest.mark.usefixtures("folding_in_fuse")
async def test_replaced_file_written_under_its_former_spelling_stays_one(tmp_path: Path) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS)
    os.replace(world.root / "notes.md", world.root / "report.md")
    os.rename(world.root / "report.md", world.root / "Report.md")
    world.clock.now += 100
    hints = [Hint(f"{name}.md", HintKind.FILE) for name in ("report", "Report", "notes")]
    async with world.start_mirror() as bound:
        await bound.reconciler.take_hints(hints)
        world.write("Report.md", "another text")
        await bound.reconciler.take_hints(hints[:1])
        world.clock.now += 100
        await bound.reconciler.settle_due()
    rows = world.read_state(lambda tx: list(tx.entries.visible(1)))
    assert {row.path for row in rows if row.presence is Presence.PRESENT} == world.on_disk().keys()


@pytest.mark.usefixtures("folding")
async def test_leftover_under_the_old_spelling_is_orphaned(tmp_path: Path) -> None:
    world = await mirrored(tmp_path, MemoryTarget, *PATHS, embedded=True)
    world.base.add("REPORT.md", b"text", path="REPORT.md", upload_id=7, foreign=False)
    assert [finding.path for finding in (await verified(world)).orphaned] == ["REPORT.md"]
    assert (await audited(world)).orphaned == 1


async def test_two_files_differing_only_in_case_stay_two(tmp_path: Path) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS)
    os.link(world.root / "report.md", world.root / "Report.md")
    world.write("Notes.md", "text of notes.md")
    await passed(world)
    assert world.searchable_texts() == world.on_disk()
    assert len(world.on_disk()) == len(PATHS) + 2


@pytest.mark.usefixtures("folding")
async def test_ordinary_events_list_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS)
    world.write("report.md", "another text")
    world.write("new.md", "a new text")
    world.move("notes.md", "moved.md")
    listed, scandir = list[Any](), os.scandir
    hints = [Hint(f"{name}.md", HintKind.FILE) for name in ("report", "new", "notes", "moved", "plan")]
    async with world.start_mirror() as bound:
        monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
        await bound.reconciler.take_hints(hints)
        world.clock.now += 100
        await bound.turn()
    assert listed == []


async def test_events_where_case_matters_read_only_a_few_stored_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await mirrored(tmp_path, RenamingMemory, *PATHS, *(f"{number}.md" for number in range(20)))
    (world.root / "Docs").rename(tmp_path / "elsewhere")
    read, names = list[str](), Entries.names

    def count(*args: Any, **kwargs: Any) -> list[str]:
        paths = names(*args, **kwargs)
        read.extend(paths)
        return paths

    async with world.start_mirror() as bound:
        monkeypatch.setattr(Entries, "names", count)
        monkeypatch.setattr(Folders, "below", None)
        await bound.reconciler.take_hints(
            [Hint("report.md~", HintKind.FILE), Hint("Docs", HintKind.GONE_TREE)]
        )
    assert len(read) < 10
