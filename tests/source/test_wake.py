"""Tests the file with which a command wakes the daemon."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kbsync.source.wake import WAKE, WakeFile, wake


@pytest.mark.parametrize("is_there", [True, False])
def test_each_wake_is_seen_once(tmp_path: Path, is_there: bool) -> None:
    """If the file doesn't exist, the command creates it."""
    calls: list[int] = []
    file = WakeFile(tmp_path, lambda: calls.append(1))
    if is_there:
        file.prepare()
        assert stat.S_IMODE((tmp_path / WAKE).stat().st_mode) == 0o600
        os.utime(tmp_path / WAKE, (1, 1))
        file.check()
        calls.clear()
    file.check()
    assert calls == []
    wake(tmp_path)
    file.check()
    file.check()
    assert calls == [1]
    file.touched()
    file.check()
    assert calls == [1, 1]
