"""The file by which a command wakes the daemon."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kbsync.source.wake import WAKE, WakeFile, wake


def test_the_file_is_private_and_nothing_is_written_into_it(tmp_path: Path) -> None:
    for make in (WakeFile(tmp_path, lambda: None).prepare, lambda: wake(tmp_path)):
        make()
        found = (tmp_path / WAKE).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_size) == (0o600, 0)


def test_each_wake_is_seen_once(tmp_path: Path) -> None:
    calls: list[int] = []
    file = WakeFile(tmp_path, lambda: calls.append(1))
    file.prepare()
    file.look()
    assert calls == []
    os.utime(tmp_path / WAKE, (1, 1))
    wake(tmp_path)
    file.look()
    file.look()
    assert calls == [1]
    file.touched()
    file.look()
    assert calls == [1, 1]


def test_a_wake_file_made_by_the_command_is_seen(tmp_path: Path) -> None:
    calls: list[int] = []
    file = WakeFile(tmp_path, lambda: calls.append(1))
    file.look()
    assert calls == []
    wake(tmp_path)
    file.look()
    assert calls == [1]
