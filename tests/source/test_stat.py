from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import apsw
import pytest

from kbsync.core.model import SELECTED, FileChoice, FileKind, Presence, Stamp
from kbsync.errors import ShortageError
from kbsync.source import stat as stat_module
from kbsync.source.roots import SHORTAGES, identify
from kbsync.source.stat import (
    PathStat,
    RulesUnknown,
    find_aliases,
    rules_at,
    stamp_of,
    stat_in_mounts,
    stat_path,
)
from tests.source.folders import OBSTACLES, RULES, refuse, write

MISSING = PathStat(Presence.MISSING)
FIELDS = ("st_mtime_ns", "st_ctime_ns", "st_ino")


def test_existing_path_is_described(tmp_path: Path) -> None:
    file = write(tmp_path, "docs/a.md")
    os.link(file, tmp_path / "twin.md")
    s = file.stat()
    stamp = Stamp(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
    assert stat_path(tmp_path, "docs/a.md") == PathStat(Presence.PRESENT, stamp, FileKind.FILE, 2)
    assert stat_path(tmp_path, "docs").kind is FileKind.FOLDER
    assert stat_path(tmp_path, "").kind is FileKind.FOLDER
    (tmp_path / "link.md").symlink_to(file)
    (tmp_path / "dangling.md").symlink_to("nowhere")
    assert stat_path(tmp_path, "link.md").kind is stat_path(tmp_path, "dangling.md").kind is FileKind.SYMLINK
    os.mkfifo(tmp_path / "pipe")
    assert stat_path(tmp_path, "pipe").kind is FileKind.SPECIAL


@pytest.mark.parametrize(
    "number", [2**63 - 1, 2**63, 2**64 - 1, -(2**63), -(2**63) - 1, 253370764800 * 10**9]
)
def test_every_stamp_fits_into_the_state(tmp_path: Path, number: int) -> None:
    """SQLite stores integers of 64 bits with a sign; `stat` returns larger ones."""
    status = write(tmp_path, "a.md").stat()
    fields = [getattr(status, name) for name in FIELDS]
    for index in range(3):
        values = [*fields[:index], abs(number) % 2**64 if index == 2 else number, *fields[index + 1 :]]
        fake = SimpleNamespace(**dict(zip(FIELDS, values, strict=True)), st_size=1)
        stamp = stamp_of(cast(os.stat_result, fake))
        integers = (stamp.mtime_ns, stamp.ctime_ns, stamp.ino)
        assert apsw.Connection("").execute("SELECT ?, ?, ?", integers).get == integers
        datetime.fromtimestamp(stamp.mtime_ns / 1e9, UTC)


def test_large_inode_numbers_stay_different() -> None:
    """A replaced file must not look like the one before."""
    inodes = [1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1]
    fakes = [SimpleNamespace(**dict.fromkeys(FIELDS[:2], 0), st_ino=ino, st_size=1) for ino in inodes]
    assert len({stamp_of(cast(os.stat_result, fake)) for fake in fakes}) == len(inodes)


def test_dangling_path_is_missing(tmp_path: Path) -> None:
    write(tmp_path, "docs/a.md")
    write(tmp_path, "was-folder")
    (tmp_path / "linked").symlink_to("docs")
    for path in ("b.md", "docs/b.md", "nowhere/deep/a.md", "was-folder/a.md", "docs/a.md/x", "linked/a.md"):
        assert stat_path(tmp_path, path) == MISSING, path


@pytest.mark.parametrize("number", OBSTACLES)
@pytest.mark.parametrize(("call", "name"), [("open", "docs"), ("stat", "a.md")])
def test_unreadable_path_is_unknown_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str, name: str
) -> None:
    write(tmp_path, "docs/a.md")
    refuse(monkeypatch, call, name, number)
    path_stat = stat_path(tmp_path, "docs/a.md")
    assert path_stat.presence is Presence.UNKNOWN
    assert os.strerror(number).lower() in path_stat.problem


@pytest.mark.parametrize("number", SHORTAGES)
@pytest.mark.parametrize("name", ["docs", "x"])
def test_shortage_makes_no_claim_about_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    write(tmp_path, "docs/x/a.md")
    refuse(monkeypatch, "open", name, number)
    with pytest.raises(ShortageError, match=os.strerror(number).lower()):
        stat_path(tmp_path, "docs/x/a.md")


def test_name_longer_than_any_file_system_allows_is_unknown(tmp_path: Path) -> None:
    assert stat_path(tmp_path, "n" * 300).presence is Presence.UNKNOWN


def test_path_longer_than_path_max_can_be_checked(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("a.md", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    path = "/".join(["d" * 200] * 30)
    assert stat_path(tmp_path, f"{path}/a.md").kind is FileKind.FILE
    assert stat_path(tmp_path, f"{path}/b.md") == MISSING


def test_nothing_is_missing_below_a_missing_root(tmp_path: Path) -> None:
    path_stat = stat_path(tmp_path / "nowhere", "a.md")
    assert path_stat.presence is Presence.UNKNOWN
    assert str(tmp_path / "nowhere") in path_stat.problem


def test_nothing_is_missing_below_another_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    identity = identify(root)
    assert stat_path(root, "a.md", identity) == MISSING
    on_another_device = replace(identity, dev=identity.dev + 1)
    assert stat_path(root, "a.md", on_another_device).presence is Presence.UNKNOWN, "within a run"
    root.rename(tmp_path / "away")
    root.mkdir()
    assert stat_path(root, "a.md", identity).presence is Presence.UNKNOWN


def test_path_in_an_unmounted_file_system_is_unknown(tmp_path: Path) -> None:
    write(tmp_path, "disk-2/b.md")
    names = {"disk/a.md": "disk", "disk": "disk", "disk-2/b.md": "disk-2"}
    points = {"other.md": {}, **{path: {name: ""} for path, name in names.items()}}
    stats = stat_in_mounts(tmp_path, points)
    assert {path: stat.problem for path, stat in stats.items()} == {
        path: f"{name} was a mount point, but nothing is mounted there now" for path, name in names.items()
    }


def test_path_over_which_something_is_mounted_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat_module, "mounts_below", lambda _root: frozenset({"disk", "disk/inner"}))
    stats = stat_in_mounts(tmp_path, {"disk/a.md": {"disk": ""}, "disk/inner/b.md": {"disk": ""}, "c.md": {}})
    assert stats.keys() == {"disk/a.md", "disk/inner/b.md"}
    assert stats["disk/a.md"] == MISSING
    assert stats["disk/inner/b.md"].problem == "something is mounted over disk/inner"


def test_path_missed_while_a_mount_comes_and_goes_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = [frozenset({"disk"}), frozenset[str](), frozenset({"disk"}), frozenset({"disk"})]
    monkeypatch.setattr(stat_module, "mounts_below", lambda _root: mounts.pop(0))
    points = {"disk/a.md": {"disk": ""}}
    assert stat_in_mounts(tmp_path, points)["disk/a.md"].presence is Presence.UNKNOWN
    assert stat_in_mounts(tmp_path, points)["disk/a.md"] == MISSING


def test_name_absent_from_a_late_listing_is_no_other_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "docs/a.md")
    write(tmp_path, "docs/A.md")
    scandir = os.scandir

    def late(folder: int) -> object:
        return contextlib.nullcontext([entry for entry in scandir(folder) if entry.name != "a.md"])

    monkeypatch.setattr(os, "scandir", late)
    assert find_aliases(tmp_path, ["docs/a.md", "docs/A.md", "docs/none.md", "none/a.md"]) == set()
    os.unlink(tmp_path / "docs/A.md")
    os.link(tmp_path / "docs/a.md", tmp_path / "docs/A.md")  # as a case-insensitive file system shows it
    assert find_aliases(tmp_path, ["docs/a.md", "docs/A.md"]) == {"docs/a.md"}


def test_unlistable_folder_has_no_other_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.md")

    def fail(_folder: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "scandir", fail)
    code = errno.EIO
    assert find_aliases(tmp_path, ["A.md"]) == set()
    code = errno.ENFILE
    with pytest.raises(ShortageError):
        find_aliases(tmp_path, ["A.md"])


def test_folder_rules_come_from_all_ignore_files_on_the_way(tmp_path: Path) -> None:
    write(tmp_path, ".kbsyncignore", "*.txt\n")
    write(tmp_path, "docs/.kbsyncignore", "!keep.txt\n/a.md\n")
    (tmp_path / "docs/deep").mkdir()
    rules, entered = rules_at(tmp_path, RULES, "docs/deep")
    assert entered is SELECTED
    assert rules.verdict("docs/deep/x.txt", 1, FileKind.FILE).rule == ".kbsyncignore:1"
    assert rules.verdict("docs/deep/keep.txt", 1, FileKind.FILE).choice is not FileChoice.EXCLUDED
    assert rules.verdict("docs/a.md", 1, FileKind.FILE).rule == "docs/.kbsyncignore:2"
    assert rules_at(tmp_path, RULES, "")[0].person_version != RULES.person_version


def test_excluded_folder_is_reported_with_the_rule(tmp_path: Path) -> None:
    (tmp_path / "docs/shut/deep").mkdir(parents=True)
    _, entered = rules_at(tmp_path, RULES, "docs/shut/deep")
    assert (entered.choice, entered.rule) == (FileChoice.EXCLUDED, "exclude[0]")


def test_unreadable_rules_are_an_error_with_the_line(tmp_path: Path) -> None:
    write(tmp_path, "docs/.kbsyncignore", "fine\nbad[\n")
    with pytest.raises(RulesUnknown, match=r"docs/\.kbsyncignore:2: .* in 'bad\[?'?; correct that line"):
        rules_at(tmp_path, RULES, "docs")
    with pytest.raises(FileNotFoundError):
        rules_at(tmp_path, RULES, "nowhere")
