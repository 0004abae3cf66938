"""Another program that changes what lies at a path, between any two system calls of ours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECRET = b"what lies outside of the folder\n" * 200
CALLS = ("open", "stat", "fstat", "readv", "scandir", "read", "dup")


class SwappedFolder:
    """A mirrored folder with `sub/file.txt`, and beside it a folder with a file of the same name."""

    def __init__(self, above: Path) -> None:
        self.root, self.outside = above / "root", above / "outside"
        self.file = self.root / "sub" / "file.txt"
        self.bait, self.ignore = self.outside / "file.txt", self.file.with_name(".kbsyncignore")

    def lay(self) -> None:
        """As it was in the beginning."""
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
        """Something else lies at `path` now."""
        path.rename(path.with_name(path.name + ".was"))
        make(path)

    def move_folder_out(self) -> None:
        self.file.parent.rename(self.outside / "sub")
        self.file.parent.symlink_to(self.outside / "sub")


def _device(at: Path) -> None:
    try:
        os.mknod(at, 0o20666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        os.mkfifo(at)


def _link(target: str) -> Callable[[Path], None]:
    return lambda at: at.symlink_to(target)


SWAPS: dict[str, Callable[[SwappedFolder], None]] = {
    "file to link": lambda place: place.replace(place.file, _link(str(place.bait))),
    "file to relative link": lambda place: place.replace(place.file, _link("../../outside/file.txt")),
    "file to fifo": lambda place: place.replace(place.file, os.mkfifo),
    "file to folder": lambda place: place.replace(place.file, os.mkdir),
    "file to device": lambda place: place.replace(place.file, _device),
    "folder to link": lambda place: place.replace(place.file.parent, _link(str(place.outside))),
    "folder to link above": lambda place: place.replace(place.file.parent, _link("../outside")),
    "folder moved out": SwappedFolder.move_folder_out,
    "ignore file to link": lambda place: place.ignore.symlink_to(place.outside / ".kbsyncignore"),
    "ignore file to fifo": lambda place: os.mkfifo(place.ignore),
}


def swapped_at(number: int, swap: Callable[[], None], action: Callable[[], Any]) -> tuple[bool, Any]:
    """Do `action`, and `swap` before its nth system call; whether it came so far, and what it gave."""
    made = 0

    def interposed(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal made
            made += 1
            if made == number:
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
    return made >= number, outcome
