from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.target import Limits
from kbsync.core.model import NO_STAMP, FileChoice, FileKind
from kbsync.core.selection import Rules
from kbsync.errors import ShortageError
from kbsync.file_systems import Mount
from kbsync.source import scan as scanner
from kbsync.source.roots import SHORTAGES, FolderStack
from kbsync.source.scan import FolderListing, Scan
from tests.share import long
from tests.source.folders import (
    OBSTACLES,
    RULES,
    Tree,
    learnt,
    listed,
    open_below,
    refuse,
    store_listings,
    write,
)


def names(listing: FolderListing) -> list[str]:
    return [change.name for change in listing.changed]


def list_as(monkeypatch: pytest.MonkeyPatch, change: Callable[[Iterator[Any]], Iterator[Any]]) -> None:
    """Pass the entries of every folder listing through `change`."""
    real = os.scandir

    @contextmanager
    def listing(fd: int) -> Iterator[Iterator[Any]]:
        with real(fd) as entries:
            yield change(entries)

    monkeypatch.setattr(os, "scandir", listing)


def test_scan_reports_only_differences(root: Path, tree: Tree) -> None:
    store_listings(root, tree, "a.md", "docs/b.md", "docs/c.md", "old/d.md")
    scan = Scan(root, tree, RULES)
    assert list(scan) == []
    assert scan.summary == scanner.ScanSummary(directories=3, files=4)
    write(root, "a.md", "changed")
    (root / "docs/b.md").unlink()
    shutil.rmtree(root / "old")
    write(root, "new/e.md")
    for deep in (False, True):
        changes = Scan(root, tree, RULES, deep=deep)
        list(changes)
        assert changes.summary.changes == 4


@pytest.mark.parametrize("changed_part", ["size", "mtime", "ctime", "ino"])
def test_any_part_of_a_stamp_reveals_a_change(root: Path, tree: Tree, changed_part: str) -> None:
    file = write(root, "docs/a.md", "one\n")
    write(root, "docs/b.md")
    before = file.stat()
    learnt(root, tree)
    if changed_part == "mtime":
        os.utime(file, ns=(1, 1))
    elif changed_part == "ino":
        write(root, "new", "one\n").replace(file)
    else:
        file.write_text("longer than before\n" if changed_part == "size" else "two\n")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    changes = listed(root, tree)
    assert list(changes) == ["docs"] if changed_part != "ino" else "docs" in changes
    assert names(changes["docs"]) == ["a.md"]
    assert not changes["docs"].missing


def test_file_and_folder_replacing_each_other_are_detected(root: Path, tree: Tree) -> None:
    store_listings(root, tree, "x.md", "y/inner.md")
    (root / "x.md").unlink()
    write(root, "x.md/inner.md")
    shutil.rmtree(root / "y")
    write(root, "y")
    changes = learnt(root, tree)
    assert (changes[""].missing, changes[""].gone_folders, names(changes[""])) == (("x.md",), ("y",), ["y"])
    assert changes["x.md"].new
    assert listed(root, tree) == {}


def test_excluded_and_special_files_are_reported_once_with_their_kind(root: Path, tree: Tree) -> None:
    write(root, "a.md~")
    (root / "loop").symlink_to(root)
    (root / "link.md").symlink_to("/etc/passwd")
    os.link(root / "a.md~", root / "b.md")
    os.mkfifo(root / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket.md"))
        changes = learnt(root, tree)
    assert {entry.name: (entry.kind, entry.links) for entry in changes[""].changed} == {
        **dict.fromkeys(("a.md~", "b.md"), (FileKind.FILE, 2)),
        **dict.fromkeys(("loop", "link.md"), (FileKind.SYMLINK, 1)),
        **dict.fromkeys(("pipe.md", "socket.md"), (FileKind.SPECIAL, 1)),
    }
    assert listed(root, tree) == {}


def test_every_name_a_file_system_allows_is_found(root: Path, tree: Tree) -> None:
    odd = ["two\nlines.md", "bell\x07.md", "u\u0308.md", "\u00fc.md", "Case.md", "case.md", "n" * 252 + ".md"]
    raw = [os.fsencode(name) for name in odd] + [b"latin-\xe9.md", b"\xff\xfe"]
    for name in raw:
        (root / os.fsdecode(name)).write_bytes(b"x")
    changes = learnt(root, tree)
    assert {os.fsencode(name) for name in names(changes[""])} == set(raw)
    assert listed(root, tree) == {}


def test_folders_excluded_by_rules_are_not_entered(root: Path, tree: Tree) -> None:
    write(root, ".git/HEAD.md")
    write(root, "drafts/a.md")
    write(root, "docs/a.md")
    rules = Rules(None, ("drafts/",), Limits())
    assert list(learnt(root, tree, rules)) == ["", "docs"]
    assert ".git" not in tree.read_paths


def test_known_folder_excluded_now_is_reported_with_the_rule(root: Path, tree: Tree) -> None:
    store_listings(root, tree, "drafts/deep/a.md")
    write(root, ".kbsyncignore", "drafts/\n")
    changes = learnt(root, tree)
    ((name, verdict),) = changes[""].excluded_folders
    assert (name, verdict.choice, verdict.rule) == ("drafts", FileChoice.EXCLUDED, ".kbsyncignore:1")
    assert listed(root, tree) == {}


def test_changed_ignore_file_reselects_its_subtree(root: Path, tree: Tree) -> None:
    store_listings(root, tree, "a.md", "docs/b.md", "docs/deep/c.md", "other/d.md")
    write(root, "docs/.kbsyncignore", "*.txt\n")
    changes = learnt(root, tree)
    assert list(changes) == ["docs", "docs/deep"]
    assert all(listing.reselect and not listing.new for listing in changes.values())
    assert names(changes["docs"]) == [".kbsyncignore", "b.md"]
    assert names(changes["docs/deep"]) == ["c.md"]
    assert (
        changes["docs/deep"].rules.verdict("docs/deep/x.txt", 1, FileKind.FILE).choice is FileChoice.EXCLUDED
    )
    assert listed(root, tree) == {}


@pytest.mark.parametrize(
    "obstacle",
    ["symlink", "folder", "fifo", "secret/\n", "# fine\nsecret[/\n", "x\n" * 600_000],
    ids=["symlink", "folder", "fifo", "unreadable", "broken", "huge"],
)
def test_unusable_ignore_file_never_widens_the_selection(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    write(root, "a.md")
    write(root, "docs/secret/b.md")
    ignore = root / "docs/.kbsyncignore"
    match obstacle:
        case "symlink":
            ignore.symlink_to("/dev/null")
        case "folder":
            ignore.mkdir()
        case "fifo":
            os.mkfifo(ignore)
        case text:
            ignore.write_text(text)
    if obstacle == "secret/\n":
        refuse(monkeypatch, "open", ".kbsyncignore", errno.EACCES)
    changes = listed(root, tree)
    problem = changes.get("docs", changes[""])
    assert ".kbsyncignore" in problem.problem
    assert not problem.changed and not problem.version
    assert "docs/secret" not in changes


@pytest.mark.parametrize("number", OBSTACLES)
def test_unopenable_folder_is_unknown_not_missing_and_reported_once(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store_listings(root, tree, "docs/deep/a.md", "b.md")
    with monkeypatch.context() as patched:
        refuse(patched, "open", "docs", number)
        (listing,) = learnt(root, tree).values()
        assert (listing.path, listing.missing, listing.gone_folders) == ("docs", (), ())
        assert listing.problem.startswith(f"cannot be listed: {os.strerror(number).lower()}")
        assert listed(root, tree) == {}
    changes = learnt(root, tree)
    assert set(changes) == {"docs", "docs/deep"}, "all below it is reported again"
    assert names(changes["docs/deep"]) == ["a.md"]
    assert not changes["docs/deep"].new and not changes["docs"].problem
    assert listed(root, tree) == {}


@pytest.mark.parametrize("number", SHORTAGES)
def test_scan_stops_at_a_shortage_and_makes_no_claim_about_the_folder(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store_listings(root, tree, "docs/a.md")
    refuse(monkeypatch, "open", "docs", number)
    with pytest.raises(ShortageError, match=os.strerror(number).lower()):
        listed(root, tree)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_interrupted_listing_is_a_problem_of_the_folder(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store_listings(root, tree, "a.md", "b.md")

    def broken(entries: Iterator[Any]) -> Iterator[Any]:
        yield next(entries)
        raise OSError(number, os.strerror(number))

    list_as(monkeypatch, broken)
    (listing,) = listed(root, tree).values()
    assert listing.problem and not listing.missing


class Entry:
    """A directory entry whose stat fails."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self._number = number

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise OSError(self._number, os.strerror(self._number))


def with_entry(monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    """Replace one entry in every listing."""
    list_as(
        monkeypatch,
        lambda entries: (
            entry if listed_entry.name == entry.name else listed_entry for listed_entry in entries
        ),
    )


@pytest.mark.parametrize(
    ("as_listed", "as_looked_at", "changed", "problem"),
    [
        (errno.ENOENT, 0, ["b.md"], ""),  # it disappears while it is listed
        (0, errno.ENOENT, ["b.md"], ""),  # or before the second stat
        (errno.EIO, errno.EIO, ["a.md", "b.md"], ""),  # it exists without a stamp
        (errno.EACCES, 0, [], "permission denied"),  # nothing in the folder may be read
    ],
)
def test_unreadable_file_is_never_missing(
    root: Path, tree: Tree, monkeypatch: Any, as_listed: int, as_looked_at: int, changed: Any, problem: str
) -> None:
    store_listings(root, tree, "a.md", "b.md")
    for name in ("a.md", "b.md"):
        write(root, name, "changed\n")
    if as_listed:
        with_entry(monkeypatch, Entry("a.md", as_listed))
    if as_looked_at:
        refuse(monkeypatch, "stat", "a.md", as_looked_at)
    (listing,) = listed(root, tree).values()
    assert (sorted(names(listing)), listing.missing) == (changed, ())
    assert problem in listing.problem and bool(problem) == bool(listing.problem)
    if "a.md" in changed:
        assert scanner.FoundEntry("a.md", NO_STAMP, FileKind.FILE, 0) in listing.changed


def test_missing_root_is_a_problem_and_nothing_in_it_is_missing(tmp_path: Path, tree: Tree) -> None:
    (listing,) = listed(tmp_path / "nowhere", tree).values()
    assert listing.path == "" and "no such file" in listing.problem


def test_scan_can_start_at_a_subfolder_with_inherited_rules(root: Path, tree: Tree) -> None:
    write(root, ".kbsyncignore", "*.txt\n")
    write(root, "docs/deep/a.txt")
    write(root, "docs/deep/er/b.md")
    write(root, "other/c.md")
    changes = listed(root, tree, start="docs/deep")
    assert list(changes) == ["docs/deep", "docs/deep/er"]
    assert changes["docs/deep"].rules.verdict("docs/deep/a.txt", 1, FileKind.FILE).rule == ".kbsyncignore:1"
    learnt(root, tree)
    assert listed(root, tree, start="docs/deep") == {}


@pytest.mark.parametrize("start", ["nowhere", "docs/nowhere", ".git", ".git/refs", "docs/file.md", "shut/in"])
def test_missing_or_excluded_start_gives_nothing(root: Path, tree: Tree, start: str) -> None:
    write(root, ".kbsyncignore", "shut/\n")
    for path in ("docs/file.md", ".git/refs/a.md", "shut/in/a.md"):
        write(root, path)
    assert listed(root, tree, start=start) == {}


def test_start_below_an_unreadable_folder_reports_that_folder(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "docs/deep/a.md")
    refuse(monkeypatch, "open", "docs", errno.EACCES)
    (listing,) = listed(root, tree, start="docs/deep").values()
    assert listing.path == "docs" and listing.problem


def test_deep_scan_reports_every_file(root: Path, tree: Tree) -> None:
    write(root, "a.md")
    write(root, "docs/b.md")
    (root / "link").symlink_to("a.md")
    learnt(root, tree)
    deep = listed(root, tree, deep=True)
    assert {path: names(listing) for path, listing in deep.items()} == {"": ["a.md"], "docs": ["b.md"]}
    (root / "new").symlink_to("a.md")
    assert names(listed(root, tree, deep=True)[""]) == ["a.md", "new"]


@long
def test_very_deep_tree_is_scanned_with_few_descriptors(root: Path, tree: Tree) -> None:
    depth, aside = 2_500, 5  # deeper than PATH_MAX and than calls may nest
    fd = os.open(root, os.O_RDONLY)
    for level in range(depth):
        os.mkdir("d", dir_fd=fd)
        if level % (depth // aside) == 0:
            os.mkdir("e", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        most = folders = 0
        for folders, listing in enumerate(Scan(root, tree, RULES), 1):
            assert not listing.problem
            if folders % 500 == 0:
                most = max(most, open_below(root))
        assert folders == depth + aside + 1
        assert 0 < most <= FolderStack.HELD + 5
        assert open_below(root) == 0
    finally:  # pytest's clean-up of temporary folders would recurse too deep
        subprocess.run(["rm", "-rf", root], check=True)


@pytest.mark.parametrize("most_open", [1, 2, 3])
def test_folders_closed_on_the_way_down_are_reopened_on_the_way_up(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, most_open: int
) -> None:
    monkeypatch.setattr(FolderStack, "HELD", most_open)
    chain = ["d/" * depth for depth in range(8)]
    for folder in chain:
        write(root, folder + "e/f/a.md")
    paths = {"", *(f.rstrip("/") for f in chain if f), *(f + x for f in chain for x in ("e", "e/f"))}
    matching = []
    for listing in Scan(root, Tree(), RULES):
        matching.append(listing.path)
        assert open_below(root) <= most_open + 2, listing.path
    assert (set(matching), len(matching)) == (paths, len(paths))
    learnt(root, tree)
    assert listed(root, tree) == {}


def test_folder_moved_while_closed_is_not_confused(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderStack, "HELD", 1)
    for path in ("a/b/c/one.md", "a/z/two.md"):
        write(root, path)
    listings = Scan(root, tree, RULES)
    listings_by_path = {}
    for listing in listings:
        listings_by_path[listing.path] = listing
        if listing.path == "a/b/c":
            (root / "a").rename(root / "moved")
            write(root, "a/z/impostor.md")
    assert "moved while it was being scanned" in listings_by_path["a/z"].problem


def test_closing_a_scan_early_releases_everything(root: Path, tree: Tree) -> None:
    write(root, "a/b/c.md")
    listings = Scan(root, tree, RULES)
    next(listings)
    assert open_below(root) > 0
    listings.close()
    assert open_below(root) == 0
    assert list(listings) == []


def pretend_mounted(monkeypatch: pytest.MonkeyPatch, root: Path, *points: str) -> None:
    mounts = {os.stat(root / point).st_ino: Mount(1, str(root / point), "tmpfs") for point in points}
    monkeypatch.setattr(scanner, "mounts_below", lambda root: frozenset(points))
    monkeypatch.setattr(scanner, "mount_of", lambda fd: mounts.get(os.fstat(fd).st_ino))


@pytest.mark.parametrize("leaves", ["the folder", "nothing"])
def test_former_mount_point_is_unknown(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    write(root, "disk/sub/a.md")
    write(root, "b.md")
    with monkeypatch.context() as patched:
        pretend_mounted(patched, root, "disk")
        assert learnt(root, tree)["disk"].is_mount
        assert listed(root, tree) == {}
    shutil.rmtree(root / "disk")
    if leaves == "the folder":
        (root / "disk").mkdir()
    for start in ("", "disk/sub"):
        (listing,) = listed(root, tree, start=start).values()
        assert (listing.path, listing.gone_folders, listing.missing) == ("disk", (), ())
        assert listing.problem.startswith("was a mount point, but nothing is mounted there now")
    assert "disk" not in tree.read_paths[-2:]


def test_mount_made_during_a_scan_is_reported_at_its_end(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan took the mounted folder for an ordinary one."""
    store_listings(root, tree, "disk/a.md")
    tables = iter([frozenset[str](), frozenset({"disk"})])
    monkeypatch.setattr(scanner, "mounts_below", lambda root: next(tables))
    scan = Scan(root, tree, RULES)
    assert list(scan) == []
    assert scan.summary.mount_points == {"disk"}


def test_new_mount_is_reported(root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    store_listings(root, tree, "disk/a.md")
    pretend_mounted(monkeypatch, root, "disk")
    scan = Scan(root, tree, RULES)
    (listing,) = scan
    assert listing.path == "disk" and listing.is_mount
    assert scan.summary.mount_points == {"disk"}


@pytest.mark.parametrize("start", ["", "disk/sub"])
def test_files_missing_below_a_changed_mount_are_marked(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    store_listings(root, tree, "disk/sub/a.md", "disk/old/b.md", "c.md")
    shutil.rmtree(root / "disk")
    write(root, "disk/sub/new.md")
    pretend_mounted(monkeypatch, root, "disk")
    disk, sub = listed(root, tree, start=start).values()
    assert (disk.path, disk.gone_folders, disk.changed_mount) == ("disk", ("old",), "disk")
    assert (sub.path, sub.missing, sub.changed_mount) == ("disk/sub", ("a.md",), "disk")
    learnt(root, tree)
    (root / "disk/sub/new.md").unlink()
    (sub,) = listed(root, tree).values()
    assert (sub.missing, sub.changed_mount) == (("new.md",), "")


@pytest.mark.parametrize("leaves", ["the folder", "nothing"])
def test_mount_point_that_may_be_unmounted_is_listed_without_its_disk(
    root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    write(root, "disk/a.md")
    write(root, "b.md")
    with monkeypatch.context() as patched:
        pretend_mounted(patched, root, "disk")
        learnt(root, tree)
    tree.stored["disk"] = replace(tree.stored["disk"], may_be_unmounted=True)
    shutil.rmtree(root / "disk")
    if leaves == "the folder":
        write(root, "disk/new.md")
    (listing,) = listed(root, tree).values()
    assert listing.changed_mount == "disk" and not listing.problem
    if leaves == "the folder":
        assert (names(listing), listing.missing, listing.is_mount) == (["new.md"], ("a.md",), False)
    else:
        assert (listing.path, listing.gone_folders) == ("", ("disk",))
