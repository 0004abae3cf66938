"""Tests the daemon as a process: its output, the signals it handles, and how it continues and ends."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kbsync.state import lock
from tests.cli.cures import proves
from tests.cli.pasting import after, paste
from tests.cli.sandbox import LONGEST, Daemon, Sandbox, eventually, words_of
from tests.cli.terminal import Begin, Terminal
from tests.cli.zhipu import ZhipuSandbox, digests_in, zhipu_sandbox
from tests.ports import free_port
from tests.share import long

pytestmark = long


def test_daemon_answers_http_while_running(sandbox: Sandbox) -> None:
    sandbox.write_all({"a.md": "alpha", "broken.pdf": "this is no pdf"})
    config = sandbox.configure()
    daemon = sandbox.watch()
    assert daemon.wait_for_event("daemon.started")["config"] == str(config)
    daemon.wait_for_event("document.failed")
    assert sandbox.run("--once").code == 4
    assert sandbox.run("status", "--json").json["mirrors"][0]["documents"]["failed"] == 1
    assert "the running kbsync will handle the request right away" in sandbox.run("retry").out
    daemon.wait_for_event("document.failed", times=2)

    good = config.read_text()
    config.write_text(good.replace("settle", "setle").replace("folder", "foldr"))
    daemon.send_signal(signal.SIGHUP)
    reason = daemon.wait_for_event("config.refused")["reason"]
    assert "setle" in reason and "foldr" in reason
    assert "\\" not in reason
    (sandbox.root / "other").mkdir()
    readings = (
        (good.replace("100ms", "200ms"), (1, 0, 0, 1)),
        (good + f"  - {{name: other, folder: {sandbox.root}/other}}\n", (2, 1, 0, 1)),
        (good, (1, 0, 1, 0)),
    )
    for number, (text, counts) in enumerate(readings, 1):
        config.write_text(text)
        daemon.send_signal(signal.SIGHUP)
        line = daemon.wait_for_event("config.read", times=number)
        assert tuple(line[key] for key in ("mirrors", "added", "removed", "changed")) == counts
    assert daemon.end() == 0
    assert not lock.is_held(sandbox.state)


def test_status_says_why_the_running_kbsync_refused_the_config(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    config = sandbox.configure()
    good = config.read_text()
    daemon = sandbox.watch(until="daemon.started")
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        config.write_text(f"{good}http: {{listen: '127.0.0.1:{port}'}}\n")
        daemon.send_signal(signal.SIGHUP)
        reason = daemon.wait_for_event("config.refused")["reason"]
        assert str(port) in reason
        status = eventually(lambda: text if "refused" in (text := sandbox.run("status").out) else None)
    assert (
        f"! the running kbsync refused the changed config and is still using the old one: {reason}" in status
    )
    config.write_text(good)
    daemon.send_signal(signal.SIGHUP)
    daemon.wait_for_event("config.read")
    eventually(lambda: "refused" not in sandbox.run("status").out)
    assert daemon.end() == 0


def test_folder_is_watched_without_a_config(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    daemon = sandbox.watch("--folder", "docs", "--quiet")
    eventually(lambda: sandbox.run("search", "alpha", "--json", "--folder", "docs").code == 0)
    assert sandbox.run("status", "--json", cwd=sandbox.docs).json["mirrors"][0]["name"] == "docs"
    assert daemon.end() == 0


def test_second_kbsync_is_refused_after_the_lock_file_was_deleted(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    daemon = sandbox.watch(until="daemon.watching")
    (sandbox.state / "lock").unlink()
    refused = sandbox.run("--once")
    assert (refused.code, refused.out) == (4, "") and f"{daemon.process.pid}" in refused.err
    assert sandbox.run("status", "--json").json["running"]["pid"] == daemon.process.pid
    assert daemon.end() == 0


@pytest.mark.parametrize("options", [(), ("--folder", "docs")], ids=["config", "folder"])
def test_daemon_continues_after_its_state_directory_was_deleted(
    sandbox: Sandbox, options: tuple[str, ...]
) -> None:
    sandbox.write("a.md", "alpha")
    if not options:
        sandbox.configure()
    daemon = sandbox.watch(*options, until="daemon.watching")
    shutil.rmtree(sandbox.state)

    def is_found(word: str) -> bool:
        result = sandbox.run("search", word, "--json", cwd=sandbox.docs)
        return result.code == 0 and bool(result.json["hits"])

    eventually(lambda: is_found("alpha"))
    sandbox.write("b.md", "beta")
    eventually(lambda: is_found("beta"))

    def running_pid() -> int | None:
        running = sandbox.run("status", "--json", cwd=sandbox.docs).json["running"]
        return running and running["pid"]

    eventually(lambda: running_pid() == daemon.process.pid)
    assert daemon.end() == 0


CHANGE = re.compile(r"^\d\d:\d\d:\d\d ([-+~>!]) (.+?)(?: \d+\.\d s)?$")


def test_terminal_shows_watched_folders_and_one_line_per_change(sandbox: Sandbox, terminal: Begin) -> None:
    sandbox.write_all({"a.md": "alpha", "b.md": "beta"})
    config, port = sandbox.configure(), free_port()
    config.write_text(f"{config.read_text()}http: {{listen: '127.0.0.1:{port}'}}\n")
    daemon = terminal(sandbox, columns=200)
    output = daemon.until("press Ctrl-C to stop\r\n")
    assert f"using {config}\r\n" in output
    assert f"\r\nwatching 1 folder, 2 documents; http://127.0.0.1:{port}; press Ctrl-C to stop" in output
    printed = output
    broken = sandbox.root / "broken.pdf"  # complete before the daemon can find it empty
    broken.write_text("this is no pdf")
    for change, line in (
        (
            lambda: sandbox.write("office/note.md", "a note"),
            r"\d\d:\d\d:\d\d \+ office/note\.md \d+\.\d s\r\n",
        ),
        (lambda: sandbox.write("office/note.md", "a note, changed"), r" ~ office/note\.md \d+\.\d s\r\n"),
        (
            lambda: (sandbox.docs / "office/note.md").rename(sandbox.docs / "n.md"),
            r" > n\.md( \d+\.\d s)?\r\n",
        ),
        ((sandbox.docs / "n.md").unlink, r" - n\.md\r\n"),
        (lambda: broken.rename(sandbox.docs / "broken.pdf"), r" ! broken\.pdf: cannot be read: .*\r\n"),
    ):
        change()
        printed += read_until(daemon, line)
    # A halt is one log line with its fix, and its end another.
    sandbox.docs.rename(sandbox.root / "away")
    halted = read_until(daemon, "folder is missing")
    assert re.search(
        rf"\d ! handbook: folder not readable: {re.escape(str(sandbox.docs))}: the folder is", halted
    )
    (sandbox.root / "away").rename(sandbox.docs)
    read_until(daemon, "handbook resumed")
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.end() == 0
    printed += daemon.output
    lines = [line for line in printed.replace("\r", "").splitlines() if CHANGE.match(line)]
    changes = [CHANGE.match(line).groups() for line in lines]  # type: ignore[union-attr]
    assert sorted(path for mark, path in changes if mark == "+") == ["a.md", "b.md", "office/note.md"]
    assert [mark for mark, _ in changes if mark != "+"] == ["~", ">", "-", "!"]
    assert len(printed.splitlines()) == len(lines) + 3, printed  # using, watching, stopped
    assert "event" not in printed and "document." not in printed


@pytest.mark.parametrize("with_config", [True, False])
def test_mirror_whose_folder_became_a_file_shows_its_halt_and_resumes(
    sandbox: Sandbox, with_config: bool
) -> None:
    sandbox.write("a.md", "alpha")
    options = () if with_config else ("--folder", str(sandbox.docs))
    if with_config:
        sandbox.configure()
    daemon = sandbox.watch(*options, until="document.ready")
    sandbox.docs.rename(sandbox.root / "away")
    sandbox.docs.write_text("a file")
    daemon.wait_for_event("mirror.halted", reason="folder-missing")
    [mirror] = sandbox.run("status", "--json", *options).json["mirrors"]
    assert mirror["halt"]["reason"] == "folder-missing"
    assert mirror["documents"]["ready"] == 1
    search = sandbox.run("search", "alpha", *options)
    assert (search.code, "a.md" in search.out, "not a directory" in search.err) == (0, True, True)
    assert paste(sandbox, mirror["halt"]["cure"]).code == 0
    checks = sandbox.run("doctor", "--json", *options).json["checks"]
    [folder] = [check for check in checks if check["name"].endswith(": folder")]
    assert folder["detail"] == f"{sandbox.docs} is a file"
    for command in (("--once",), ("plan",)):
        sandbox.run(*command, *options).check_refusal(2, "is a file; choose a folder")
    sandbox.docs.unlink()
    (sandbox.root / "away").rename(sandbox.docs)
    assert paste(sandbox, mirror["halt"]["cure"]).code == 0
    daemon.wait_for_event("mirror.resumed")
    [mirror] = sandbox.run("status", "--json", *options).json["mirrors"]
    assert mirror["halt"] is None
    assert daemon.end() == 0


def test_file_that_was_never_mirrored_is_no_folder_for_any_command(sandbox: Sandbox) -> None:
    file = sandbox.write("a.md", "alpha")
    for command in (("status",), ("search", "alpha"), ("retry",)):
        sandbox.run(*command, "--folder", file).check_refusal(2, "is a file; choose a folder")
    sandbox.run("--once", "--folder", sandbox.docs).check_success()
    sandbox.run("status", "--folder", file).check_refusal(2, "is a file; choose a folder")


def close(daemon: Terminal) -> None:
    """Close the terminal's window: its other end is gone."""
    os.close(daemon.our_end)


@pytest.mark.parametrize(
    "end", [close, lambda daemon: daemon.process.send_signal(signal.SIGHUP)], ids=["closed", "hung up"]
)
@pytest.mark.parametrize("log", [(), ("--log-format", "json")], ids=["lines", "log"])
def test_daemon_ends_with_its_terminal(
    sandbox: Sandbox, terminal: Begin, end: Callable[[Terminal], None], log: tuple[str, ...]
) -> None:
    sandbox.prepare({"a.md": "alpha"})
    daemon = terminal(sandbox, *log, columns=200)
    daemon.until("daemon.watching" if log else "press Ctrl-C to stop")
    end(daemon)
    assert daemon.process.wait(30) == 0
    assert not lock.is_held(sandbox.state)


def test_daemon_ignoring_sighup_outlives_its_terminal(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    config = sandbox.configure()
    controller, terminal_side = pty.openpty()
    log = (sandbox.root / "log").open("wb")
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-m", "kbsync", "--log-format", "json"],
        stdin=terminal_side,
        stdout=subprocess.DEVNULL,
        stderr=log,
        env=sandbox.environ({}),
        cwd=sandbox.root,
    )
    daemon = Daemon(sandbox.keep(process), Path(log.name))
    daemon.wait_for_event("daemon.watching")
    os.close(terminal_side)
    os.close(controller)
    config.write_text(config.read_text().replace("100ms", "200ms"))
    daemon.send_signal(signal.SIGHUP)
    daemon.wait_for_event("config.read")
    log.close()
    assert daemon.end() == 0


def read_until(terminal: Terminal, pattern: str) -> str:
    """Return the output up to a matching line."""
    output = ""
    while not re.search(pattern, output):
        output += terminal.until("\n")
    return output


@pytest.mark.parametrize("options", [("--log-format", "json"), ("--log-level", "info")])
def test_log_format_option_replaces_the_terminal_view(
    sandbox: Sandbox, terminal: Begin, options: tuple[str, str]
) -> None:
    sandbox.prepare({"a.md": "alpha"})
    daemon = terminal(sandbox, *options, columns=200)
    output = daemon.until("document.ready") + daemon.until("\n")
    assert "watching 1 folder, " not in output
    if "json" in options:
        assert all(json.loads(line)["event"] for line in output.splitlines() if line)


@proves("status", "rescan")
def test_daemon_logs_json_without_a_terminal(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha", "broken.pdf": "this is no pdf"})
    daemon = sandbox.start()
    assert daemon.stderr is not None
    lines = []
    while not {"daemon.watching", "document.failed", "document.ready"} <= {line["event"] for line in lines}:
        lines.append(json.loads(daemon.stderr.readline()))
    [watching] = [line for line in lines if line["event"] == "daemon.watching"]
    assert (watching["folders"], watching["documents"]) == (1, 2)
    second = sandbox.run()
    assert second.code == 4
    detail = json.loads(second.err)["detail"]
    assert detail.startswith(f"already running (pid {daemon.pid}) since ")
    assert f"(pid {daemon.pid})" in paste(sandbox, after(detail, "to see its work: ")).out
    assert paste(sandbox, after(sandbox.run("--once").words, "to compare the folder now: ")).code == 0
    assert "daemon." not in second.err  # it doesn't look started
    daemon.terminate()
    rest, code = daemon.communicate(timeout=60)[1], daemon.returncode
    assert code == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()][-1] == "daemon.stopped"


def test_daemon_logs_and_notifies_failures_before_an_upload(sandbox: Sandbox) -> None:
    notices = sandbox.root / "notices"
    sandbox.write_all({"grown.md": "short", "sub/a.md": "in a folder"})
    config = sandbox.configure("target: {type: local, max_bytes: 2000}")
    config.write_text(config.read_text() + f"notify: {{command: [/bin/sh, -c, 'cat >>{notices}']}}\n")
    daemon = sandbox.watch()
    daemon.wait_for_event("document.ready", times=2)
    sandbox.write_all({"grown.md": "grown " * 400, "sub/.kbsyncignore": "[oops"})
    (sandbox.docs / "link.md").symlink_to("grown.md")
    daemon.wait_for_event("document.failed", times=2)
    daemon.wait_for_event("document.skipped")
    failed = {line["path"]: line["reason"] for line in daemon.lines("document.failed")}
    assert failed.keys() == {"grown.md", "sub/"}
    assert [line["path"] for line in daemon.lines("document.skipped")] == ["link.md"]
    events = sandbox.run("history", "--json").json["events"]
    assert {event["path"]: event["reason"] for event in events if event["event"] == "failed"} == failed
    eventually(lambda: notices.exists() and notices.read_text().endswith("\n"))
    documents = json.loads(notices.read_text())["documents"]
    assert {document["path"]: document["reason"] for document in documents} == failed
    assert daemon.end() == 0


@pytest.mark.parametrize(
    ("name", "content"), [("damaged.pdf", "%PDF-1.4 cut off"), ("large.md", "large " * 999)]
)
def test_notification_offers_no_retry_that_cannot_succeed(sandbox: Sandbox, name: str, content: str) -> None:
    notices = sandbox.root / "notices"
    sandbox.write(name, content)
    config = sandbox.configure("target: {type: local, max_bytes: 3000}")
    config.write_text(config.read_text() + f"notify: {{command: [/bin/sh, -c, 'cat >>{notices}']}}\n")
    daemon = sandbox.watch(hurried=True)
    eventually(lambda: notices.exists() and notices.read_text().endswith("\n"))
    notice = json.loads(notices.read_text())
    assert (notice["count"], notice["cure"]) == (1, "") and "retry" not in notice["text"]
    assert daemon.end() == 0


@pytest.fixture
def zhipu(tmp_path: Path) -> Iterator[ZhipuSandbox]:
    with zhipu_sandbox(tmp_path) as zhipu:
        for n in range(4):
            zhipu.write(f"f{n}.md", f"text of f{n}")
        yield zhipu


def mirrors(zhipu: ZhipuSandbox) -> None:
    """Wait until the base holds each of the folder's files once."""
    eventually(lambda: zhipu.service.digests() == digests_in(zhipu.docs))


def start_daemon(zhipu: ZhipuSandbox, *, hurried: bool = False) -> Daemon:
    """Start a daemon and wait until it has mirrored the folder."""
    daemon = zhipu.watch(hurried=hurried)
    daemon.wait_for_event("document.ready", path="f3.md")
    mirrors(zhipu)
    return daemon


def connections(port: int) -> int:
    """Return the number of this machine's sockets that are connected to this local port, in any state."""
    # /proc/PID/fd shows each socket's process, but only root may read it for a program with private memory.
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[2].partition(":")[2], 16) == port and row[3] != TIME_WAIT for row in table)


TIME_WAIT = "06"
"""The state of a socket in /proc/net/tcp that belongs to no process."""


def test_idle_daemon_keeps_no_connection_open(zhipu: ZhipuSandbox) -> None:
    for n in range(4, 20):
        zhipu.write(f"f{n}.md", f"text of f{n}")
    daemon = start_daemon(zhipu)
    port = urlsplit(zhipu.service.url).port or 0
    assert connections(port)
    eventually(lambda: not connections(port), 20.0)
    requests_before = zhipu.service.request_count()
    zhipu.write("late.md", "text of late")
    mirrors(zhipu)
    assert zhipu.service.request_count() > requests_before
    assert daemon.end() == 0


def test_halt_is_reported_once_and_ends_by_itself(zhipu: ZhipuSandbox) -> None:
    daemon = start_daemon(zhipu, hurried=True)
    zhipu.service.turn(money_gone=True)
    zhipu.write("new.md", "new")
    daemon.wait_for_event("mirror.halted", reason="quota")
    probes = zhipu.service.request_count("base")
    eventually(lambda: zhipu.service.request_count("base") >= probes + 2)
    assert daemon.lines("mirror.resumed") == []
    zhipu.service.turn(money_gone=False)
    daemon.wait_for_event("mirror.resumed", reason="quota")
    mirrors(zhipu)
    assert zhipu.status()["halt"] is None
    assert len(daemon.lines("mirror.halted")) == len(daemon.lines("mirror.resumed")) == 1
    assert daemon.end() == 0


@pytest.mark.parametrize("pastes_fix", [False, True], ids=["by itself", "when the cure is pasted"])
def test_corrected_key_is_picked_up(zhipu: ZhipuSandbox, pastes_fix: bool) -> None:
    """If more than the key was wrong, it isn't used before the fix, which needs no key."""
    held = zhipu.config.parent / "zhipu.key"
    held.write_text("kid-4711.a-mistake\n")
    zhipu.aim(key="api_key_file: zhipu.key")
    daemon = zhipu.watch(hurried=True)
    daemon.wait_for_event("mirror.halted", reason="credentials")
    held.unlink()
    fix = words_of(zhipu.status()["halt"]["cure"])
    if pastes_fix:
        assert "the running kbsync will handle the request right away" in zhipu.go(*fix).out
        assert "zhipu.key" in daemon.wait_for_event("config.refused")["reason"]
        zhipu.aim(key="api_key_file: zhipu.key", target="concurrency: 2")
    else:
        requests_before = zhipu.service.request_count("base")
        eventually(lambda: zhipu.service.request_count("base") > requests_before)
    assert zhipu.status()["halt"]["reason"] == "credentials"
    held.write_text(f"{zhipu.service.key}\n")
    if pastes_fix:
        assert zhipu.go(*fix).code == 0
        daemon.wait_for_event("config.read", changed=1)
    else:
        daemon.wait_for_event("secrets.read", mirror="handbook")
        assert daemon.lines("config.read") == daemon.lines("config.refused") == []
    daemon.wait_for_event("mirror.resumed", reason="credentials")
    mirrors(zhipu)
    assert zhipu.status()["halt"] is None
    assert len(daemon.lines("mirror.resumed")) == len(daemon.lines("mirror.halted")) == 1
    assert daemon.end() == 0


@pytest.mark.parametrize(("mode", "code"), [((), 0), (("--once",), 143)], ids=["daemon", "once"])
def test_sigterm_does_not_wait_for_heavy_work(sandbox: Sandbox, mode: tuple[str, ...], code: int) -> None:
    for number in range(10):  # each one takes a while to embed
        text = "\n\n".join(f"Paragraph {n} of file {number}. " * 20 for n in range(500))
        sandbox.write(f"f{number}.md", text)
    sandbox.configure()
    options = ("-q", "--state-dir", sandbox.root / "state")
    process = sandbox.start(*mode, *options)
    eventually((sandbox.root / "state" / "kb").exists)
    time.sleep(0.2)
    process.terminate()
    assert process.wait(LONGEST) == code
    result = sandbox.go("--once", "--json", *options)
    assert result.code == 0
    assert result.json["uploaded"], "it ended before the work was done"
    assert sandbox.run("verify", *options).code == 0
