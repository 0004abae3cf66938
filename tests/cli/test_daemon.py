"""The daemon as a process: what it says, what it hears, how it ends."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import threading
import time
from typing import Any

from kbsync.state import lock
from tests.cli.place import Place, eventually


def test_the_daemon_names_its_config_and_tells_whom_the_config_names(place: Place) -> None:
    place.write("broken.pdf", "this is no pdf")
    told = place.root / "told"
    config = place.configure()
    tell = place.root / "tell"
    tell.write_text(f"#!/bin/sh\ncat >{told}.new && mv {told}.new {told}\n")
    tell.chmod(0o700)
    config.write_text(config.read_text() + f"notify: {{command: [{tell}], on: [halted]}}\n")
    daemon = place.watch()
    assert daemon.until("daemon.started")["config"] == str(config)
    daemon.until("document.failed")
    place.docs.rename(place.root / "away")
    daemon.until("mirror.halted")
    eventually(told.exists)
    notice = json.loads(told.read_text())
    assert (notice["event"], notice["mirror"], notice["reason"]) == ("halted", "handbook", "folder-missing")
    assert daemon.end() == 0


def test_the_daemon_answers_while_it_runs(place: Place) -> None:
    place.write("a.md", "alpha")
    place.write("broken.pdf", "this is no pdf")
    config = place.configure()
    daemon = place.watch()
    daemon.until("document.failed")
    assert place.run("--once").code == 4
    assert place.run("status", "--json").json["mirrors"][0]["documents"]["failed"] == 1
    began = time.monotonic()
    assert "the running kbsync does it now" in place.run("retry").out
    daemon.until("document.failed")
    assert time.monotonic() - began < 5

    good = config.read_text()
    config.write_text(good.replace("settle", "setle").replace("folder", "foldr"))
    daemon.tell(signal.SIGHUP)
    reason = daemon.until("config.refused")["reason"]
    assert "setle" in reason and "foldr" in reason
    assert "\\" not in reason
    config.write_text(good.replace("100ms", "200ms"))
    daemon.tell(signal.SIGHUP)
    assert counts_in(daemon.until("config.read")) == (1, 0, 0, 1)
    assert daemon.end() == 0
    assert not lock.is_held(place.state)


def counts_in(line: dict[str, Any]) -> tuple[int, ...]:
    return tuple(line[key] for key in ("mirrors", "added", "removed", "changed"))


def test_mirrors_that_come_and_go_are_counted_apart(place: Place) -> None:
    config = place.configure()
    good = config.read_text()
    (place.root / "other").mkdir()
    daemon = place.watch()
    daemon.until("watch.started")
    for text, counts in (
        (good + f"  - {{name: other, folder: {place.root}/other}}\n", (2, 1, 0, 0)),
        (good.replace("100ms", "200ms"), (1, 0, 1, 1)),
    ):
        config.write_text(text)
        daemon.tell(signal.SIGHUP)
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


def test_a_folder_is_watched_without_a_config(place: Place) -> None:
    place.write("a.md", "alpha")
    daemon = place.watch("--folder", "docs", "--quiet")
    eventually(lambda: place.run("search", "alpha", "--json", "--folder", "docs").code == 0)
    assert place.run("status", "--json", cwd=place.docs).json["mirrors"][0]["name"] == "docs"
    assert daemon.end() == 0


def test_deleted_and_replaced_text_is_gone_within_five_seconds_while_files_keep_coming(place: Place) -> None:
    secrets = (b"zqdeleted", b"zqreplaced")
    deleted = place.write("deleted.md", f"the word {secrets[0].decode()}")
    place.write("replaced.md", f"the word {secrets[1].decode()}")
    for number in range(8):
        place.write(f"staying-{number}.md", f"number {number} stays")
    place.configure()
    assert place.run("--once").code == 0
    daemon = place.watch()
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
