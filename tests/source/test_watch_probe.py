from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kbsync.source.observer import LONGEST_DETOUR, LivenessProbe
from kbsync.source.wake import WAKE, WakeFile, touch, wake


def a_probe(asked: list[str]) -> LivenessProbe:
    return LivenessProbe("/state/probe", 100.0, asked.append)


def test_an_answer_that_was_late_once_counts() -> None:
    probe = a_probe([])
    probe.ask(100.0, 0)
    assert not probe.is_silent(150.0, 0)
    probe.answer()
    assert not probe.is_silent(151.0, 0)


def test_other_events_excuse_a_probe_for_a_while() -> None:
    probe = a_probe([])
    probe.ask(100.0, 0)
    now, heard = 100.0, 0
    while now < 100.0 + LONGEST_DETOUR:
        assert not probe.is_silent(now, heard)
        now, heard = now + 1.0, heard + 1000
    answers = [probe.is_silent(now + step, heard + int(step)) for step in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert answers[-1], "not for ever"


def test_a_probe_that_cannot_be_asked_is_not_waited_for() -> None:
    def fail(file: str) -> None:
        raise PermissionError(file)

    probe = LivenessProbe("/state/probe", 100.0, fail)
    with pytest.raises(PermissionError):
        probe.ask(100.0, 0)
    assert not probe.is_silent(200.0, 0)
    assert not probe.is_silent(201.0, 0)


def test_touching_makes_a_private_file_and_changes_nothing_in_it(tmp_path: Path) -> None:
    file = tmp_path / "probe"
    touch(str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.stat()
    touch(str(file))
    after = file.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)


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
