"""The daemon as a process: what it says, what it hears, how it ends."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.state import lock
from tests.cli.place import Place


class Watched:
    """A running daemon whose log is read line by line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        """The next line with this event."""
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = self._parsed(raw)
            self.lines.append(line)
            if line["event"] == event:
                return line
        raise AssertionError(f"{event} never came: {self.lines}")

    def _parsed(self, raw: bytes) -> dict[str, Any]:
        assert self.process.stderr is not None
        try:
            line: dict[str, Any] = json.loads(raw)
        except ValueError:
            raise AssertionError((raw + self.process.stderr.read()).decode()) from None
        return line

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        assert out == b""
        return self.process.returncode


@pytest.fixture
def watch(place: Place) -> Iterator[Callable[..., Watched]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str | Path) -> Watched:
        running.append(place.start("--log-format", "json", *words))
        return Watched(running[-1])

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_daemon_names_its_config_and_tells_whom_the_config_names(
    place: Place, watch: Callable[..., Watched]
) -> None:
    place.write("broken.pdf", "this is no pdf")
    told = place.root / "told"
    config = place.configure()
    tell = place.root / "tell"
    tell.write_text(f"#!/bin/sh\ncat >{told}.new && mv {told}.new {told}\n")
    tell.chmod(0o700)
    config.write_text(config.read_text() + f"notify: {{command: [{tell}], on: [halted]}}\n")
    daemon = watch()
    assert daemon.until("daemon.started")["config"] == str(config)
    daemon.until("document.failed")
    place.docs.rename(place.root / "away")
    daemon.until("mirror.halted")
    deadline = time.monotonic() + 60
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    notice = json.loads(told.read_text())
    assert (notice["event"], notice["mirror"], notice["reason"]) == ("halted", "handbook", "folder-missing")
    assert daemon.end() == 0


def test_the_daemon_answers_while_it_runs(place: Place, watch: Callable[..., Watched]) -> None:
    place.write("a.md", "alpha")
    place.write("broken.pdf", "this is no pdf")
    config = place.configure()
    daemon = watch()
    daemon.until("document.failed")
    assert place.run("--once").code == 4
    assert place.run("status", "--json").json["mirrors"][0]["documents"]["failed"] == 1
    began = time.monotonic()
    assert "the running kbsync does it now" in place.run("retry").out
    daemon.until("document.failed")
    assert time.monotonic() - began < 5

    good = config.read_text()
    config.write_text(good.replace("settle", "setle").replace("folder", "foldr"))
    daemon.process.send_signal(signal.SIGHUP)
    reason = daemon.until("config.refused")["reason"]
    assert "setle" in reason and "foldr" in reason
    assert "\\" not in reason
    config.write_text(good.replace("100ms", "200ms"))
    daemon.process.send_signal(signal.SIGHUP)
    assert counts_in(daemon.until("config.read")) == (1, 0, 0, 1)
    assert daemon.end() == 0
    assert not lock.is_held(place.state)


def counts_in(line: dict[str, Any]) -> tuple[int, ...]:
    return tuple(line[key] for key in ("mirrors", "added", "removed", "changed"))


def test_mirrors_that_come_and_go_are_counted_apart(place: Place, watch: Callable[..., Watched]) -> None:
    config = place.configure()
    good = config.read_text()
    (place.root / "other").mkdir()
    daemon = watch()
    daemon.until("watch.started")
    for text, counts in (
        (good + f"  - {{name: other, folder: {place.root}/other}}\n", (2, 1, 0, 0)),
        (good.replace("100ms", "200ms"), (1, 0, 1, 1)),
    ):
        config.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        assert counts_in(daemon.until("config.read")) == counts
    assert daemon.end() == 0


def test_a_second_daemon_ends_at_once_and_does_not_look_started(place: Place) -> None:
    place.configure()
    place.run("--once")
    with lock.held(place.state):
        ran = place.run()
    assert (ran.code, ran.out) == (4, "")
    assert "another kbsync" in ran.err
    assert "daemon." not in ran.err


def test_a_daemon_whose_address_is_taken_does_not_look_started(place: Place) -> None:
    config = place.configure()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config.write_text(config.read_text() + f"http: {{listen: '127.0.0.1:{taken.getsockname()[1]}'}}\n")
        ran = place.run()
    assert (ran.code, ran.out) == (2, "")
    assert "is in use" in ran.err
    assert "daemon." not in ran.err


def test_a_folder_is_watched_without_a_config(place: Place, watch: Callable[..., Watched]) -> None:
    place.write("a.md", "alpha")
    daemon = watch("--folder", "docs", "--quiet")
    deadline = time.monotonic() + 60
    while (
        place.run("search", "alpha", "--json", "--folder", "docs").code == 2 and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert place.run("status", "--json", cwd=place.docs).json["mirrors"][0]["name"] == "docs"
    assert daemon.end() == 0


def test_deleted_and_replaced_text_is_gone_within_five_seconds_while_files_keep_coming(
    place: Place, watch: Callable[..., Watched]
) -> None:
    secrets = (b"zqdeleted", b"zqreplaced")
    deleted = place.write("deleted.md", f"the word {secrets[0].decode()}")
    place.write("replaced.md", f"the word {secrets[1].decode()}")
    for number in range(8):
        place.write(f"staying-{number}.md", f"number {number} stays")
    place.configure()
    assert place.run("--once").code == 0
    daemon = watch()
    daemon.until("watch.started")
    is_over = threading.Event()

    def keep_writing() -> None:
        for number in itertools.count():
            place.write(f"coming-{number}.md", f"number {number} of those that keep coming")
            if is_over.wait(0.2):
                return

    def traces(secret: bytes) -> list[str]:
        return [
            each.name for each in place.state.rglob("*") if each.is_file() and secret in each.read_bytes()
        ]

    def is_gone_soon(secret: bytes) -> None:
        deadline = time.monotonic() + 5
        while left := traces(secret):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        place.write("replaced.md", "another word")
        while daemon.until("document.ready")["path"] != "replaced.md":
            pass
        is_gone_soon(secrets[1])
        deleted.unlink()
        daemon.until("document.deleted")
        is_gone_soon(secrets[0])
    finally:
        is_over.set()
        writer.join()
    assert daemon.end() == 0
