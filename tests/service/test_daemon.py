"""Tests the daemon as a process that a service manager starts, reloads and stops."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from kbsync.state import lock
from kbsync.state.read_only import opened
from tests import dead_mount
from tests.cli.sandbox import Sandbox, eventually
from tests.service import early, held_up, importing, stuck
from tests.service.manager import PATIENCE, manager_in
from tests.share import enumerated, long

pytestmark = long

CONFIG = """\
{level}
mirrors:
  - {{name: first, folder: {first}, settle: 100ms}}
  - {{name: second, folder: {second}, settle: {settle}}}
"""


def test_service_reports_its_lifecycle_to_systemd(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    sandbox.write("a.md", "alpha")
    other.mkdir()
    sandbox.config.parent.mkdir(parents=True)

    def configure(level: str = "", settle: str = "200ms") -> None:
        text = CONFIG.format(level=level, first=sandbox.docs, second=other, settle=settle)
        sandbox.config.write_text(text)

    def reload(level: str = "") -> None:
        configure(level)
        process.send_signal(signal.SIGHUP)
        manager.until("RELOADING=1")
        manager.until("READY=1")

    configure(settle="100ms")
    with manager_in(tmp_path) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        process = sandbox.start()
        manager.until("READY=1")
        manager.until_status("1 ready, 0 pending, 0 failed")
        reload()
        reload("log_level: debug")
        sandbox.write("seen.md", "beta")
        manager.until_status("2 ready, 0 pending, 0 failed")
        reload("log_level: warning")
        sandbox.write("unseen.md", "gamma")
        manager.until_status("3 ready, 0 pending, 0 failed")
        reload("log_levl: debug")
        manager.until_status(
            "the new config was refused; the old one stays in use; 3 ready, 0 pending, 0 failed"
        )
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        heard = manager.so_far()
    log = [json.loads(line) for line in err.decode().splitlines()]
    assert "WATCHDOG=1" in heard
    assert any(message.startswith("MONOTONIC_USEC=") for message in heard)
    assert heard[-2:] == ["STOPPING=1", "STATUS=stopping"]
    started = [line["mirror"] for line in log if line["event"] == "watch.started"]
    assert sorted(started) == ["first", "second", "second"]  # unchanged mirrors continued
    assert {line["path"] for line in log if line["event"] == "file.judged"} == {"seen.md"}
    read = [line for line in log if line["event"] in ("config.read", "config.refused")]
    assert [(line["event"], line.get("changed")) for line in read] == [
        ("config.read", 1),
        ("config.read", 0),
        ("config.refused", None),  # using the previous config isn't a warning
    ]


def test_restarted_service_reports_its_documents_from_the_first_status_on(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.prepare({"a.md": "alpha"})
    sandbox.once()
    with manager_in(tmp_path) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        process = sandbox.start()
        assert manager.until("STATUS=") == "STATUS=1 ready, 0 pending, 0 failed"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("words", [(), ("--once", "--quiet")], ids=["watch", "once"])
def test_reason_why_a_service_does_not_start_is_an_error_in_the_journal(
    sandbox: Sandbox, words: tuple[str, ...]
) -> None:
    sandbox.config.parent.mkdir(parents=True)
    sandbox.config.write_text("mirors: []\n")
    reading, writing = os.pipe()
    stream = os.fstat(writing)
    environ = {"JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}"}
    process = sandbox.start(*words, env=environ, stderr=writing)
    os.close(writing)
    with open(reading) as journal:
        lines = journal.readlines()
    assert process.wait(PATIENCE) == 2
    assert lines and all(line.startswith("<3>kbsync: ") for line in lines), lines


def start_daemon(
    driver: ModuleType, sandbox: Sandbox, *words: str, stdin: int | None = None, **variables: str
) -> subprocess.Popen[bytes]:
    """Start a daemon, or the command in `words`, with a prepared driver."""
    env = {"HOME": str(sandbox.home), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **variables}
    assert driver.__file__ is not None
    command = [sys.executable, driver.__file__, "--log-format", "json", *words]
    return sandbox.keep(
        subprocess.Popen(command, cwd=sandbox.root, env=env, stdin=stdin, stderr=subprocess.PIPE)
    )


@enumerated()
@pytest.mark.parametrize("moment", early.MOMENTS)
def test_signal_during_startup_is_not_lost(sandbox: Sandbox, moment: str) -> None:
    sandbox.configure()
    process = start_daemon(early, sandbox, MOMENT=moment)
    _, err = process.communicate(timeout=PATIENCE)
    lines = [json.loads(line) for line in err.splitlines()]
    assert process.returncode == 0
    assert moment == "__init__" or lines[0]["event"] == "daemon.started"
    assert (lines[-1]["event"], lines[-1]["signal"]) == ("daemon.stopped", "SIGTERM")
    assert lines[-1]["seconds"] >= 0.0
    assert {line["level"] for line in lines} == {"info"}


@pytest.mark.parametrize("module", ["kbsync.cli.main", "kbsync.cli.commands.watch", "kbsync.daemon"])
def test_sighup_during_the_imports_reloads_the_config(sandbox: Sandbox, module: str) -> None:
    sandbox.configure()
    process = start_daemon(importing, sandbox, MODULE=module, stdin=subprocess.DEVNULL)
    assert process.stderr is not None
    events = [""]
    while events[-1] != "config.read":
        line = process.stderr.readline()
        assert line, (process.wait(PATIENCE), events)
        events.append(json.loads(line)["event"])
    assert "daemon.started" in events
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("words", "module"),
    [((), "kbsync.cli.main"), (("--once",), "kbsync.cli.main"), (("--once",), "kbsync.cli.commands.once")],
    ids=["watch", "once", "late in once"],
)
def test_stop_during_the_imports_has_the_exit_code_of_a_later_one(
    sandbox: Sandbox, words: tuple[str, ...], module: str, name: str
) -> None:
    sandbox.prepare({"a.md": "alpha"})
    process = start_daemon(importing, sandbox, *words, MODULE=module, SIGNAL=name, stdin=subprocess.DEVNULL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == (128 + signal.Signals[name] if words else 0), err
    assert b"document.ready" not in err and b"Traceback" not in err


@pytest.mark.parametrize("words", [(), ("status",), ("--once",)], ids=["watch", "status", "once"])
def test_sighup_during_the_imports_still_ends_a_command(sandbox: Sandbox, words: tuple[str, ...]) -> None:
    """Started from a terminal, SIGHUP ends kbsync; only a service reloads its config."""
    sandbox.configure()
    ours, theirs = pty.openpty()
    try:
        process = start_daemon(importing, sandbox, *words, MODULE="kbsync.cli.main", stdin=theirs)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == (-signal.SIGHUP if words else 0), err
    assert b"watch.started" not in err


@pytest.mark.parametrize("module", ["kbsync.cli.main", ""], ids=["with SIGHUP", "in the background"])
def test_terminal_that_closes_during_the_imports_ends_the_daemon(sandbox: Sandbox, module: str) -> None:
    sandbox.configure()
    ours, theirs = pty.openpty()
    os.close(ours)
    try:
        process = start_daemon(importing, sandbox, MODULE=module, stdin=theirs)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        os.close(theirs)
    assert process.returncode == 0, err
    assert lock.holding(sandbox.state) is False


def test_shutdown_does_not_wait_for_a_hanging_thread(sandbox: Sandbox) -> None:
    sandbox.configure()
    process = start_daemon(stuck, sandbox)
    assert process.stderr is not None
    while json.loads(process.stderr.readline())["event"] != "watch.started":
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    with lock.held(sandbox.state):
        pass


def test_daemon_starts_and_stops_while_a_folder_does_not_respond(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.prepare({"a.md": "alpha"})
    dead, flag = sandbox.add_mirror("dead", {"b.md": "beta", "c.md": "gamma"}), tmp_path / "flag"
    sandbox.once()

    def rows() -> list[tuple[object, ...]]:
        with closing(opened(sandbox.state / "state.db")) as state:
            records = state.read(lambda tx: tx.mirrors.all())
        return [(row.id, row.name, row.folder, row.root, row.binding, row.hold_all) for row in records]

    def halt() -> dict[str, str] | None:
        mirrors = {mirror["name"]: mirror for mirror in sandbox.run("status", "--json").json["mirrors"]}
        assert mirrors["handbook"]["halt"] is None
        found: dict[str, str] | None = mirrors["dead"]["halt"]
        return found

    before = rows()
    flag.touch()
    sandbox.write("a.md", "delta")
    with manager_in(tmp_path) as manager:
        variables = {"DEAD": f"{dead}:{flag}", "NOTIFY_SOCKET": manager.address}
        process = start_daemon(dead_mount, sandbox, **variables)
        manager.until("READY=1")
        eventually(lambda: "delta" in sandbox.run("search", "delta").out)
        assert (found := eventually(halt)) is not None
        assert found["reason"] == "folder-missing"
        assert "its file system isn't responding" in found["detail"]
        assert {"b.md", "c.md"} <= {*sandbox.search("beta gamma")}
        assert rows() == before
        flag.unlink()
        eventually(lambda: halt() is None)
        (dead / "b.md").write_text("epsilon")
        eventually(lambda: "epsilon" in sandbox.run("search", "epsilon").out)
        assert rows() == before
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        flag.touch()
        process = start_daemon(dead_mount, sandbox, **variables)
        manager.until("READY=1")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


@pytest.mark.parametrize("problem", ["slow", "full"])
def test_failed_start_leaves_the_embedded_base_unlocked(sandbox: Sandbox, problem: str) -> None:
    """The start is cancelled because the config changed, or because the state can't be written for a
    moment.
    """
    sandbox.write("a.md", "alpha")
    config = sandbox.configure()
    process = start_daemon(held_up, sandbox, TROUBLE=problem)
    assert process.stderr is not None
    for line in process.stderr:
        event = json.loads(line)["event"]
        if event == "beginning":
            config.write_text(config.read_text().replace("settle: 100ms", "settle: 200ms"))
            process.send_signal(signal.SIGHUP)
        if event == "document.ready":
            break
    assert sandbox.search("alpha") == ["a.md"]
