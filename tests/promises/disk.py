"""Simulates a disk that loses power: files lose everything that was not synced.

`forgetful.c` is preloaded into the program and records its writes and syncs. From that and an earlier copy of
the files, `Memory.after` restores them as they would be after a loss of power at any moment.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import programs

SOURCE = Path(__file__).with_name("forgetful.c")
_HEAD = struct.Struct("<cHQI")

Keeps = Callable[[str], bool]
"""Whether unsynced writes to a file of this name reach the disk by chance."""


def built(folder: Path, source: Path = SOURCE) -> Path:
    """Build the library to preload. Skips or fails the test if that isn't possible."""
    library = folder / f"{source.stem}.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if ".h: No such file or directory" in completed.stderr:
        programs.do_without("what gcc includes")
    assert completed.returncode == 0, completed.stderr
    return library


@dataclass(frozen=True, slots=True)
class Record:
    """A change to a file: `w` written at `offset`, `t` cut to `offset`, `s` synced, `d` removed."""

    kind: str
    path: Path
    offset: int
    content: bytes


class Memory:
    """The disk's memory of `folder`, from now on."""

    def __init__(self, folder: Path, library: Path, scratch: Path) -> None:
        self.folder, self._library = folder, library
        self._before, self._log = scratch / "before", scratch / "log"
        shutil.copytree(folder, self._before)

    def environ(self) -> Mapping[str, str]:
        """Return the environment of a program whose writes are recorded."""
        names = {"LD_PRELOAD": self._library, "FORGETFUL_DISK": f"{self.folder}/", "FORGETFUL_LOG": self._log}
        return {name: os.fspath(value) for name, value in names.items()}

    def records(self) -> list[Record]:
        raw, position, results = self._log.read_bytes(), 0, list[Record]()
        while position < len(raw):
            kind, name, offset, length = _HEAD.unpack_from(raw, position)
            path, content = position + _HEAD.size, position + _HEAD.size + name
            position = content + length
            results.append(
                Record(kind.decode(), Path(os.fsdecode(raw[path:content])), offset, raw[content:position])
            )
        return results

    def after(self, records: list[Record], folder: Path, keeps: Keeps) -> None:
        """Restore `folder` as after a loss of power when `records` had been done.

        Synced writes remain, and others if `keeps` says so. Shared memory is lost.
        """
        shutil.copytree(self._before, folder)
        last_sync = {record.path: number for number, record in enumerate(records) if record.kind == "s"}
        for number, record in enumerate(records):
            if record.kind != "s" and (number < last_sync.get(record.path, -1) or keeps(record.path.name)):
                _do(record, folder / record.path.relative_to(self.folder))
        for file in folder.rglob("*-shm"):
            file.unlink()


def _do(record: Record, file: Path) -> None:
    if record.kind == "d":
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as opened:
        match record.kind:
            case "w":
                opened.seek(record.offset)
                opened.write(record.content)
            case "t":
                opened.truncate(record.offset)
