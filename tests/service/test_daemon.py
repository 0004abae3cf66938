"""The daemon as a process, as a service manager starts, reloads and stops it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kbsync.state import lock
from tests.cli.place import Place
from tests.service import early, stuck
from tests.service.manager import PATIENCE, Manager, manager_in

CONFIG = """\
{level}
mirrors:
  - {{name: first, folder: {first}, settle: 100ms}}
  - {{name: second, folder: {second}, settle: {settle}}}
"""


class Served:
    """A daemon with two mirrors, started as a service is."""

    def __init__(self, root: Path, manager: Manager, patch: pytest.MonkeyPatch) -> None:
        self.place = Place(root)
        self.manager = manager
        self.place.write("a.md", "alpha")
        (root / "other").mkdir()
        self.configure()
        patch.setenv("NOTIFY_SOCKET", manager.address)
        patch.setenv("WATCHDOG_USEC", "60000000")
        self.process = self.place.start()

    def configure(self, level: str = "", settle: str = "100ms") -> None:
        self.place.config.parent.mkdir(parents=True, exist_ok=True)
        text = CONFIG.format(
            level=level, first=self.place.docs, second=self.place.root / "other", settle=settle
        )
        self.place.config.write_text(text)

    def reload(self, **changes: str) -> str:
        """What the manager hears of it."""
        self.configure(**changes)
        self.process.send_signal(signal.SIGHUP)
        self.manager.until("RELOADING=1")
        return self.manager.until("READY=1")

    def end(self) -> list[dict[str, Any]]:
        """Its log."""
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        return [json.loads(line) for line in err.decode().splitlines()]


def test_a_service_tells_its_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with manager_in(tmp_path) as manager:
        served = Served(tmp_path, manager, monkeypatch)
        try:
            manager.until("READY=1")
            manager.until("STATUS=1 ready, 0 pending, 0 failed")
            served.reload(settle="200ms")
            served.reload(level="log_level: debug", settle="200ms")
            served.place.write("seen.md", "beta")
            manager.until("STATUS=2 ready, 0 pending, 0 failed")
            served.reload(level="log_level: warning", settle="200ms")
            served.place.write("unseen.md", "gamma")
            manager.until("STATUS=3 ready, 0 pending, 0 failed")
            served.reload(level="log_levl: debug")
            manager.until("STATUS=the config was refused, the old one goes on; 3 ready")
            log = served.end()
        finally:
            served.process.kill()
        heard = manager.so_far()
    assert "WATCHDOG=1" in heard
    assert any(word.startswith("MONOTONIC_USEC=") for word in heard)
    assert heard[-2:] == ["STOPPING=1", "STATUS=stopping"]
    started = [line["mirror"] for line in log if line["event"] == "watch.started"]
    assert sorted(started) == ["first", "second", "second"]  # what did not change went on
    assert {line["path"] for line in log if line["event"] == "file.judged"} == {"seen.md"}
    read = [line for line in log if line["event"] in ("config.read", "config.refused")]
    assert [(line["event"], line.get("changed")) for line in read] == [
        ("config.read", 1),
        ("config.read", 0),
        ("config.refused", None),  # that the one before was read is no warning
    ]


def started(driver: ModuleType, place: Place, **more: str) -> subprocess.Popen[bytes]:
    """A daemon that a driver has prepared."""
    env = {"HOME": str(place.home), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **more}
    assert driver.__file__ is not None
    command = [sys.executable, driver.__file__, "--log-format", "json"]
    return subprocess.Popen(command, cwd=place.root, env=env, stderr=subprocess.PIPE)


@pytest.mark.parametrize("moment", early.MOMENTS)
def test_a_signal_before_the_first_word_or_at_it_is_not_lost(tmp_path: Path, moment: str) -> None:
    place = Place(tmp_path)
    place.configure()
    process = started(early, place, MOMENT=moment)
    _, err = process.communicate(timeout=PATIENCE)
    lines = [json.loads(line) for line in err.splitlines()]
    assert process.returncode == 0
    assert moment == "__init__" or lines[0]["event"] == "daemon.started"
    assert (lines[-1]["event"], lines[-1]["signal"]) == ("daemon.stopped", "SIGTERM")
    assert lines[-1]["seconds"] >= 0.0
    assert {line["level"] for line in lines} == {"info"}


def test_nobody_waits_for_a_thread_that_never_ends(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure()
    process = started(stuck, place)
    try:
        assert process.stderr is not None
        while json.loads(process.stderr.readline())["event"] != "watch.started":
            pass
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        with lock.held(place.state):
            pass
    finally:
        process.kill()
