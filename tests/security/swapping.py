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
        self.bait = self.outside / "file.txt"

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

    def _away(self, path: Path) -> None:
        path.rename(path.with_name(path.name + ".was"))

    def file_to_link(self) -> None:
        self._away(self.file)
        self.file.symlink_to(self.bait)

    def file_to_relative_link(self) -> None:
        self._away(self.file)
        self.file.symlink_to("../../outside/file.txt")

    def file_to_fifo(self) -> None:
        self._away(self.file)
        os.mkfifo(self.file)

    def file_to_folder(self) -> None:
        self._away(self.file)
        self.file.mkdir()

    def file_to_device(self) -> None:
        self._away(self.file)
        try:
            os.mknod(self.file, 0o20666, os.makedev(1, 5))  # /dev/zero
        except PermissionError:
            os.mkfifo(self.file)

    def folder_to_link(self) -> None:
        self._away(self.file.parent)
        self.file.parent.symlink_to(self.outside)

    def folder_to_link_above(self) -> None:
        self._away(self.file.parent)
        self.file.parent.symlink_to("../outside")

    def folder_moved_out(self) -> None:
        self.file.parent.rename(self.outside / "sub")
        self.file.parent.symlink_to(self.outside / "sub")

    def ignore_file_to_link(self) -> None:
        (self.file.parent / ".kbsyncignore").symlink_to(self.outside / ".kbsyncignore")

    def ignore_file_to_fifo(self) -> None:
        os.mkfifo(self.file.parent / ".kbsyncignore")


SWAPS: dict[str, Callable[[SwappedFolder], None]] = {
    name: swap
    for name, swap in vars(SwappedFolder).items()
    if name.startswith(("file_to", "folder_", "ignore_")) and callable(swap)
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
