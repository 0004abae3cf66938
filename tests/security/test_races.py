"""Tests that nothing outside of the folder is read, whatever replaces a file or folder at any time."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.target import Limits
from kbsync.core.model import FileKind
from kbsync.core.selection import Rules
from kbsync.source.read import Spooled, StableDigest, copy_growing, copy_stable, digest
from kbsync.source.scan import Scan
from kbsync.source.stat import RulesUnknown, rules_at, stat_path
from tests.source.folders import Tree

SECRET = b"what lies outside of the folder\n" * 200
CALLS = ("open", "stat", "fstat", "readv", "scandir", "read", "dup")


class SwappedFolder:
    """A mirrored folder with `sub/file.txt`, and next to it a folder with a file of the same name."""

    def __init__(self, above: Path) -> None:
        self.root, self.outside = above / "root", above / "outside"
        self.file = self.root / "sub" / "file.txt"
        self.bait, self.ignore = self.outside / "file.txt", self.file.with_name(".kbsyncignore")

    def lay(self) -> None:
        """Restore the initial files."""
        for folder in (self.root, self.outside):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self.file.parent.mkdir()
        self.file.write_bytes(b"x" * len(SECRET))
        self.bait.write_bytes(SECRET)
        (self.outside / ".kbsyncignore").write_bytes(b"file.txt\n")
        status = self.file.stat()
        os.utime(self.bait, ns=(status.st_atime_ns, status.st_mtime_ns))

    def replace(self, path: Path, make: Callable[[Path], object]) -> None:
        """Replace `path`."""
        path.rename(path.with_name(path.name + ".was"))
        make(path)

    def move_folder_out(self) -> None:
        self.file.parent.rename(self.outside / "sub")
        self.file.parent.symlink_to(self.outside / "sub")


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        os.mkfifo(path)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


SWAPS: dict[str, Callable[[SwappedFolder], None]] = {
    "file to link": lambda swapped: swapped.replace(swapped.file, _link(str(swapped.bait))),
    "file to relative link": lambda swapped: swapped.replace(swapped.file, _link("../../outside/file.txt")),
    "file to fifo": lambda swapped: swapped.replace(swapped.file, os.mkfifo),
    "file to folder": lambda swapped: swapped.replace(swapped.file, os.mkdir),
    "file to device": lambda swapped: swapped.replace(swapped.file, _device),
    "folder to link": lambda swapped: swapped.replace(swapped.file.parent, _link(str(swapped.outside))),
    "folder to link above": lambda swapped: swapped.replace(swapped.file.parent, _link("../outside")),
    "folder moved out": SwappedFolder.move_folder_out,
    "ignore file to link": lambda swapped: swapped.ignore.symlink_to(swapped.outside / ".kbsyncignore"),
    "ignore file to fifo": lambda swapped: os.mkfifo(swapped.ignore),
}


def swapped_at(number: int, swap: Callable[[], None], action: Callable[[], Any]) -> tuple[bool, Any]:
    """Do `action`, and `swap` before its nth system call; return whether it had so many, and its result."""
    call_count = 0

    def interposed(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal call_count
            call_count += 1
            if call_count == number:
                with pytest.MonkeyPatch.context() as plain:
                    for name, function in reals.items():
                        plain.setattr(os, name, function)
                    swap()
            return real(*arguments, **options)

        return call

    reals = {name: getattr(os, name) for name in CALLS}
    with pytest.MonkeyPatch.context() as patch:
        for name, real in reals.items():
            patch.setattr(os, name, interposed(real))
        outcome = action()
    return call_count >= number, outcome


PATH = "sub/file.txt"
RULES = Rules(("*.txt",), (), Limits())


def _digest(swapped: SwappedFolder, spool: Path) -> object:
    path_stat = stat_path(swapped.root, PATH)
    return digest(swapped.root, PATH, path_stat.stamp) if path_stat.stamp else None


def _take(swapped: SwappedFolder, spool: Path) -> object:
    return copy_stable(swapped.root, PATH, spool)


def _forced(swapped: SwappedFolder, spool: Path) -> object:
    return copy_growing(swapped.root, PATH, spool, pause=lambda seconds: None)


def _scanned(swapped: SwappedFolder, spool: Path) -> object:
    return [
        (change.name, change.stamp)
        for listing in Scan(swapped.root, Tree(), RULES)
        for change in listing.changed
    ]


def _ruled(swapped: SwappedFolder, spool: Path) -> object:
    try:
        rules, _ = rules_at(swapped.root, RULES, "sub")
    except (OSError, RulesUnknown):
        return None
    return rules.version


READINGS: dict[str, Callable[[SwappedFolder, Path], object]] = {
    "digest": _digest,
    "take": _take,
    "forced take": _forced,
    "scan": _scanned,
    "rules": _ruled,
}


def reveals(outcome: object, swapped: SwappedFolder) -> bool:
    """Return whether the result reveals anything of the outside file or its stat."""
    match outcome:
        case Spooled():
            with outcome, outcome.open() as stream:
                return b"outside" in stream.read()
        case StableDigest():
            return outcome.digest == hashlib.sha256(SECRET).hexdigest()
        case list():
            return any(stamp.ino == swapped.bait.stat().st_ino for _, stamp in outcome)
        case str():
            return outcome == RULES.below("sub", "file.txt\n").version
    return False


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("reading", READINGS)
def test_swap_between_any_two_system_calls_exposes_no_outside_file(tmp_path, reading, swap):
    swapped, spool = SwappedFolder(tmp_path), tmp_path / "spool"
    spool.mkdir()
    held = len(os.listdir("/proc/self/fd"))
    for number in itertools.count(1):
        swapped.lay()
        reached, outcome = swapped_at(
            number, lambda: SWAPS[swap](swapped), lambda: READINGS[reading](swapped, spool)
        )
        assert not reveals(outcome, swapped), (number, outcome)
        if isinstance(outcome, Spooled):
            outcome.close()
        if not reached:
            break
    # The shortest reading, that of the rules, makes four calls: it opens two folders and checks each for an
    # ignore file. Fewer would mean that some call isn't intercepted.
    assert number > 4
    assert len(os.listdir("/proc/self/fd")) == held
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["../outside/file.txt", "sub/../../outside/file.txt", "..", "/etc/passwd", "sub/./file.txt/.."]
)
def test_path_leading_up_is_not_read(tmp_path, path):
    swapped = SwappedFolder(tmp_path)
    swapped.lay()
    assert not isinstance(copy_stable(swapped.root, path, tmp_path), Spooled)
    assert stat_path(swapped.root, path).kind is not FileKind.FILE


def test_unswapped_layout_is_read(tmp_path):
    """Without this the test above could pass by reading nothing at all."""
    swapped = SwappedFolder(tmp_path)
    swapped.lay()
    with copy_stable(swapped.root, PATH, tmp_path) as spooled, spooled.open() as stream:
        assert stream.read() == b"x" * len(SECRET)
    assert [name for name, _ in _scanned(swapped, tmp_path)] == ["file.txt"]
