"""Tests notifications: contents, frequency, a real command and server, and failures that delay nothing."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs

from kbsync.config.model import NotifyConfig, Occasion
from kbsync.config.secrets import Secret
from kbsync.core.model import Upload, UploadState
from kbsync.engine.journal import DocumentEvent
from kbsync.errors import Halted, UsageError
from kbsync.server import notify
from kbsync.server.notify import (
    EVERY,
    GATHER,
    NAMED,
    SELDOM,
    FailedDocument,
    Notice,
    Notifications,
    PendingNotices,
    Undelivered,
)
from kbsync.state.mirrors import Halt
from kbsync.targets.http import connection
from tests.engine.test_watching import WatchingWorld, until
from tests.memory.behaviour import Fault
from tests.programs import is_running
from tests.server.client import serve
from tests.share import long
from tests.targets.http.authorities import authority
from tests.targets.http.servers import answering, response_bytes

ALL: tuple[Occasion, ...] = ("halted", "recovered", "quarantined")
QUOTA = Halt("quota", "no money\x1b[31m", "kbsync retry")
MISSING = Halt("folder-missing", "not there", "kbsync approve")
EPOCH = 1_763_632_800.0
BODY = notify.body_of(Notice("halted", "handbook", EPOCH, QUOTA))


# ---- contents and frequency


class Pending(PendingNotices):
    """The notices of mirror `a`."""

    def deliver(self, now: float, *, well: bool = True, on: tuple[Occasion, ...] = ALL) -> list[Notice]:
        due = list(self.due(now, on))
        for notice in due:
            self.record_delivery(notice, now, well=well)
        return due

    def see(self, halt: Halt | None, seconds: float = EPOCH) -> None:
        self.record_halt("a", halt, seconds)

    def fail(self, count: int, now: float) -> None:
        for number in range(count):
            self.failed("a", FailedDocument(f"{number}.md", "no text"), "kbsync retry", now, EPOCH + now)


def test_notification_has_the_time_of_the_event_not_of_sending() -> None:
    pending = Pending()
    pending.see(QUOTA)
    pending.see(Halt("quota", "still no money", ""), EPOCH + 2)
    [halted] = pending.deliver(4.0)
    pending.see(None, EPOCH + 10)
    pending.see(None, EPOCH + 12)
    [recovered] = pending.deliver(EVERY + 4)
    assert (halted.at, recovered.at) == (EPOCH, EPOCH + 10)
    pending.fail(1, 100.0)
    pending.fail(1, 102.0)
    assert [notice.at for notice in pending.deliver(100.0 + GATHER)] == [EPOCH + 102]


def test_flapping_is_notified_once_a_minute_with_the_latest_state() -> None:
    pending = Pending()
    pending.see(QUOTA)
    pending.deliver(0.0)
    for second in range(1, int(EVERY)):
        pending.see(None if second % 2 else MISSING)
        assert pending.deliver(float(second)) == []
    pending.see(Halt("quota", "still no money", ""))
    assert pending.deliver(EVERY) == [], "nothing has changed since"
    pending.see(MISSING)
    assert [notice.halt.reason for notice in pending.deliver(EVERY)] == ["folder-missing"]


def test_many_failures_are_one_notification_naming_the_first() -> None:
    pending = Pending()
    pending.fail(NAMED + 5, 0.0)
    assert pending.deliver(GATHER - 0.1) == []
    [notice] = pending.deliver(GATHER)
    assert (notice.count, len(notice.documents)) == (NAMED + 5, NAMED)
    assert "25 documents failed, first 0.md: no text; fix: kbsync retry" in notice.to_json()["text"]
    pending.fail(1, GATHER + 1)
    assert pending.deliver(EVERY) == []
    [sent] = pending.due(GATHER + EVERY, ALL)
    pending.fail(2, GATHER + EVERY)
    pending.record_delivery(sent, GATHER + EVERY, well=True)
    [later] = pending.deliver(GATHER + 2 * EVERY)
    assert (sent.count, later.count) == (1, 2), "what failed while it was sent is in the next"


def test_failed_notification_is_retried_with_growing_delays() -> None:
    pending = Pending()
    pending.see(QUOTA)
    tries = [now for now in range(int(6 * SELDOM)) if pending.deliver(float(now), well=False)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert (pauses[0], pauses[-1], pauses) == (2 * EVERY, SELDOM, sorted(pauses))
    assert [notice.event for notice in pending.deliver(7 * SELDOM)] == ["halted"]


def test_each_halt_is_notified_even_if_only_halts_are_subscribed() -> None:
    pending, sent = Pending(), list[str]()
    for second, halt in enumerate((QUOTA, None, QUOTA, MISSING, None, MISSING)):
        pending.see(halt)
        sent += [notice.halt.reason for notice in pending.deliver(second * EVERY, on=("halted",))]
    assert sent == ["quota", "quota", "folder-missing", "folder-missing"]


def test_recovery_is_notified_even_if_only_recoveries_are_subscribed() -> None:
    pending, sent = Pending(), list[str]()
    for second, halt in enumerate((None, QUOTA, None, None, QUOTA, MISSING, None)):
        pending.see(halt)
        due = pending.deliver(second * EVERY, on=("recovered",))
        sent += [f"{second} {notice.event} {notice.halt.reason}" for notice in due]
    assert sent == ["2 recovered quota", "6 recovered folder-missing"]


def test_only_subscribed_events_of_current_mirrors_are_notified() -> None:
    pending = Pending()
    pending.see(QUOTA)
    pending.record_halt("b", QUOTA, EPOCH)
    pending.fail(1, 0.0)
    assert [notice.event for notice in pending.deliver(GATHER, on=("quarantined",))] == ["quarantined"]
    pending.keep_only(["b"])
    assert [notice.mirror for notice in pending.deliver(GATHER)] == ["b"]


# ---- delivery


def test_notification_is_one_json_line_without_control_characters() -> None:
    assert (BODY.count(b"\n"), BODY.count(b"\x1b")) == (1, 0)
    assert json.loads(BODY)["at"] == "2025-11-20T10:00:00Z"
    assert json.loads(BODY)["text"].startswith("handbook: account used up: no money")
    odd = Notice("quarantined", "a", 0.0, count=1, documents=(FailedDocument("\udcff.md", "no text"),))
    assert json.loads(notify.body_of(odd))["count"] == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/bin/sh", "-c", "exit 3", "sesame"], "it exited with exit code 3"),
        (["/bin/sh", "-c", "kill -9 $$"], "it exited with signal 9"),
        (["/nowhere/sesame"], "the command cannot be run: no such file or directory"),
    ],
)
async def test_failing_command_is_reported_without_its_output(command: list[str], why: str) -> None:
    with pytest.raises(Undelivered) as caught:
        await notify.run_command(command, BODY * 10_000)  # more than a pipe holds, and nobody reads it
    assert str(caught.value) == why


async def test_command_that_reads_nothing_causes_no_error_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Python 3.11.2, which is Debian 12's, logs the error of the pipe, with a traceback."""
    communicate = asyncio.subprocess.Process.communicate

    async def communicate_late(process: asyncio.subprocess.Process, body: bytes) -> Any:
        time.sleep(0.3)  # meanwhile, the command ends, and the event loop can't notice
        return await communicate(process, body)

    monkeypatch.setattr(asyncio.subprocess.Process, "communicate", communicate_late)
    await notify.run_command(["/bin/sh", "-c", "sleep 0.1"], BODY)
    await asyncio.sleep(0.1)
    gc.collect()  # asyncio logs an error that nobody has seen once it is forgotten
    assert caplog.records == []


PROGRAM = """
import asyncio, sys
from kbsync.__main__ import main
from kbsync.server.notify import run_command
sys.argv = ["kbsync", "--help"]
main()
import numpy
print(open("/proc/self/status").read().partition("Threads:")[2].split()[0])
asyncio.run(run_command(["/bin/sh", "-c", 'env >"$0"', "variables"], b""))
"""


@long
def test_command_environment_excludes_our_library_settings(tmp_path: Path) -> None:
    ours = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    for given, threads in (({}, "1"), ({"OPENBLAS_NUM_THREADS": "2"}, str(min(2, os.cpu_count() or 1)))):
        command = [sys.executable, "-c", PROGRAM]
        completed = subprocess.run(
            command, env=ours | given, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        lines = (tmp_path / "variables").read_text().splitlines()
        assert [line for line in lines if line.startswith("OPENBLAS_NUM_THREADS")] == [
            f"{name}={value}" for name, value in given.items()
        ]
        assert completed.stdout.split()[-1] == threads


@pytest.fixture
def parent(tmp_path: Path) -> list[str]:
    """A command that hangs, as does its child, whose process id it writes to the file in the last
    argument.
    """
    os.mkfifo(tmp_path / "fifo")
    script = 'cat "$0" & echo $! >"$1.new"; mv "$1.new" "$1"; exec cat "$0"'
    return ["/bin/sh", "-c", script, str(tmp_path / "fifo"), str(tmp_path / "child")]


async def child_of(parent: list[str]) -> int:
    await until(Path(parent[-1]).exists)
    return int(Path(parent[-1]).read_text())


@long
async def test_hanging_command_is_abandoned(parent: list[str]) -> None:
    with pytest.raises(Undelivered, match=r"for more than 1 s and was killed"):
        await notify.run_command(parent, BODY, limit=1)


@pytest.mark.parametrize("moment", ["while it runs", "while it starts"])
async def test_command_is_killed_with_all_its_children(
    parent: list[str], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    begin, is_begun, may_go_on = asyncio.create_subprocess_exec, asyncio.Event(), asyncio.Event()

    async def slowly(*words: str, **options: Any) -> asyncio.subprocess.Process:
        process = await begin(*words, **options)
        is_begun.set()
        await may_go_on.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    if moment == "while it runs":
        may_go_on.set()
    running = asyncio.create_task(notify.run_command(parent, BODY))
    await is_begun.wait()
    child = await child_of(parent)
    running.cancel()
    await asyncio.sleep(0)
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not is_running(child))


@long
async def test_command_running_as_another_user_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    begin, killpg, started = asyncio.create_subprocess_exec, os.killpg, list[asyncio.subprocess.Process]()

    async def begin_recorded(*words: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await begin(*words, **options))
        return started[-1]

    monkeypatch.setattr(notify, "KILL_SECONDS", 0.1)
    monkeypatch.setattr(os, "killpg", refused)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", begin_recorded)
    try:
        async with asyncio.timeout(30):
            with pytest.raises(Undelivered, match="was killed"):
                await notify.run_command(["/bin/sleep", "3600"], BODY, limit=2)
    finally:
        [process] = started
        killpg(process.pid, signal.SIGKILL)
        await process.wait()


class Recipient:
    """A server that records requests and answers with the status in the path; 0: no answer."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.authorization: list[str | None] = []
        self.port = 0

    async def take(self, request: Request) -> Response:
        self.authorization.append(request.headers.get("authorization"))
        self.bodies.append(await request.body())
        status = request.path_params["status"]
        while not status and not await request.is_disconnected():
            await asyncio.sleep(0.01)
        return Response(status_code=status or 200, headers={"Location": "/200"})


@pytest.fixture
def recipient() -> Iterator[Recipient]:
    server = Recipient()
    with serve(Starlette(routes=[Route("/{status:int}", server.take, methods=["POST"])])) as (_, server.port):
        yield server


@long
@pytest.mark.parametrize(
    ("status", "limit", "why"),
    [
        (204, 10, ""),
        (500, 10, "it returned 500"),
        (301, 10, "it redirects (301); set notify.url to the final URL"),
        (307, 10, "it redirects (307); set notify.url to the final URL"),
        (0, 0.5, "no response within 0.5 s"),
    ],
)
async def test_url_receives_the_notification_and_failures_are_reported_without_it(
    recipient: Recipient, status: int, limit: float, why: str
) -> None:
    with pytest.raises(Undelivered) if why else nullcontext() as caught:
        await notify.post_notice(f"http://127.0.0.1:{recipient.port}/{status}", BODY, limit)
    assert recipient.bodies == [BODY]
    assert not why or str(caught.value) == why


@long
async def test_username_and_password_of_the_url_are_sent(recipient: Recipient) -> None:
    for credentials in ("", "ada:open%40sesame@"):
        await notify.post_notice(f"http://{credentials}127.0.0.1:{recipient.port}/200", BODY)
    basic = base64.b64encode(b"ada:open@sesame").decode()
    assert recipient.authorization == [None, f"Basic {basic}"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/sesame", "it refused the connection"),
        ("http://ada:sesame@127.0.0.1:1/", "it refused the connection"),
        ("http://[sesame", "it could not be reached: the host name does not resolve"),
        ("gopher://sesame/", "it could not be reached: the URL does not use http or https"),
    ],
)
@pytest.mark.parametrize("proxy", ["", "socks5://sesame:1080", "http://sesame:x"])
async def test_invalid_url_is_reported_without_it(
    monkeypatch: pytest.MonkeyPatch, url: str, why: str, proxy: str
) -> None:
    """This machine is not reached through a proxy, whatever the environment says."""
    if proxy:
        monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(Undelivered) as caught:
        await notify.post_notice(url, BODY)
    if "127.0.0.1" in url or not proxy:
        assert str(caught.value) == why
    else:
        assert "proxy from the environment" in str(caught.value)
    assert "sesame" not in str(caught.value)


async def test_untrusted_certificate_is_reported_without_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.ca_file))
    monkeypatch.setattr(connection, "_usual_authorities", connection._read_usual_authorities)
    async with answering(response_bytes(), context=ours.server) as server:
        with pytest.raises(Undelivered) as caught:
            await notify.post_notice(f"https://localhost:{server.port}/", BODY)
    assert str(caught.value) == "it has a certificate for other names"


@pytest.mark.parametrize("proxy", ["socks5://sesame:1080", "http://sesame:x"])
async def test_invalid_proxy_is_reported_without_it(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(Undelivered, match="proxy from the environment") as caught:
        await notify.post_notice("http://tell.example/sesame", BODY)
    assert "sesame" not in str(caught.value)


async def test_certificates_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusted(_: connection.Endpoint) -> NoReturn:
        raise UsageError("SSL_CERT_FILE in the environment is /gone.pem: no such file or directory")

    monkeypatch.setattr(connection, "trusted", trusted)
    with pytest.raises(Undelivered, match=r"/gone\.pem"):
        await notify.post_notice("http://kb.example/notices", BODY)


@long
async def test_notification_to_this_machine_bypasses_a_proxy(
    recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await notify.post_notice(f"http://127.0.0.1:{recipient.port}/200", BODY)
    assert recipient.bodies == [BODY]


# ---- the mirrors of a daemon

ROW = Upload(1, 1, 1, "y.pdf", "y.pdf", "y.pdf", "d", 1, "r", UploadState.SERVING)


class NotifiedMirror:
    """Notifications of one mirror on the test's clock, and the notices that its command received."""

    def __init__(self, folder: Path, command: str = 'cat >>"$0"') -> None:
        structlog.reset_defaults()  # whatever a command that ran in this process before has set
        self.halt: Halt | None = None
        self.now, self.output = 0.0, folder / "sent"
        context = SimpleNamespace(command_line=lambda words: f"kbsync {words}")
        halts = SimpleNamespace(is_current=False, inherited=None, write_error="")
        self.run = SimpleNamespace(halts=halts, has_compared=True, context=context, store=self)
        self.config = NotifyConfig(command=("/bin/sh", "-c", command, str(self.output)))
        runs = cast(Any, {"a": self.run})
        self.notifications = Notifications(runs, steady=lambda: self.now, wall=lambda: EPOCH)
        self.notifications.switch_to(self.config)

    async def read(self, _query: object) -> Halt | None:
        return self.halt

    async def poll(self, after: float = 0.0) -> None:
        self.now += after
        await self.notifications.poll()

    def fail(self) -> None:
        row = replace(ROW, path="x.pdf", reason="no text")
        self.notifications.record_document("a", DocumentEvent("document.failed", row, may_succeed=True))

    @property
    def notices(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.output.read_text().splitlines()]
            if self.output.exists()
            else []
        )

    @property
    def events(self) -> list[str]:
        return [notice["event"] for notice in self.notices]


async def test_halts_recoveries_and_failures_are_notified(tmp_path: Path) -> None:
    stage = NotifiedMirror(tmp_path)
    stage.halt, stage.run.has_compared = QUOTA, False
    await stage.poll()
    assert stage.events == [], "before its first look this process does not know whether the halt still holds"
    stage.run.halts.is_current = True
    await stage.poll()
    await stage.poll(EVERY)
    assert (stage.events, stage.notices[0]["reason"]) == (["halted"], "quota"), "sent once"
    stage.halt = None
    stage.fail()
    stage.notifications.record_document("a", DocumentEvent("document.ready", ROW))
    await stage.poll(EVERY + GATHER)
    assert stage.events == ["halted", "recovered", "quarantined"]
    over = {
        "reason": "quota",
        "detail": "",
        "cure": "",
        "text": "a: works again (was halted: account used up)",
    }
    assert {key: stage.notices[1][key] for key in over} == over, "no cure for what is over"
    assert stage.notices[-1]["documents"] == [{"path": "x.pdf", "reason": "no text"}]
    assert stage.notices[-1]["cure"] == "kbsync retry --mirror a"


@pytest.mark.parametrize("is_over", [True, False])
async def test_end_of_a_halt_is_notified_although_kbsync_was_killed_during_it(
    tmp_path: Path, is_over: bool
) -> None:
    world, stage = WatchingWorld(tmp_path), NotifiedMirror(tmp_path)
    world.base.faults.append(Fault("put", error=lambda: Halted("quota", "no money"), times=99))
    world.write("a.md")
    async with world.run_daemon():
        await until(lambda: world.run.halt is not None)
    if is_over:
        world.base.faults.clear()
    async with world.run_daemon():
        stage.notifications._runs = {"docs": world.run}
        await until(lambda: world.run.has_compared and (world.run.halt is None) is is_over)
        await stage.poll()
        world.base.faults.clear()
        world.post_request("retry")
        await until(lambda: world.tally() == {"ready": 1} and world.run.halt is None)
        await stage.poll(EVERY)
    assert stage.events == (["recovered"] if is_over else ["halted", "recovered"])


async def test_failing_recipient_is_logged_once_without_config_values(tmp_path: Path) -> None:
    stage = NotifiedMirror(tmp_path, 'test -e "$0.open" && cat >>"$0"')
    stage.halt = QUOTA
    with capture_logs() as lines:
        for _ in range(5):
            await stage.poll(3600)
        (tmp_path / "sent.open").touch()
        await stage.poll(3600)
    assert stage.events == ["halted"]
    assert [(line["event"], line["via"]) for line in lines] == [
        (event, "command") for event in ("notify.failed", "notify.resumed")
    ]
    assert str(tmp_path) not in str(lines)


async def test_failing_channel_is_logged_once_and_the_other_notifies_each_event_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(url: str, _body: bytes) -> None:
        raise RuntimeError(url)

    stage = NotifiedMirror(tmp_path)
    stage.notifications.switch_to(NotifyConfig(command=stage.config.command, url=Secret("https://sesame/")))
    monkeypatch.setattr(notify, "post_notice", broken)
    stage.halt = QUOTA
    with capture_logs() as lines:
        for _ in range(3):
            await stage.poll(notify.LOOK_EVERY)
    assert stage.events == ["halted"]
    assert [(line["event"], line["via"]) for line in lines] == [("notify.failed", "url")]
    assert "sesame" not in str(lines)


async def test_nothing_is_collected_without_recipients(tmp_path: Path) -> None:
    stage = NotifiedMirror(tmp_path)
    stage.notifications.switch_to(None)
    stage.fail()
    stage.notifications.switch_to(stage.config)
    await stage.poll(EVERY)
    assert stage.events == []


@long
async def test_held_deletions_of_a_real_mirror_and_their_end_are_notified(tmp_path: Path) -> None:
    world, stage = WatchingWorld(tmp_path), NotifiedMirror(tmp_path)
    world.write_many(10)
    async with world.run_daemon():
        stage.notifications._runs = {"docs": world.run}
        await until(lambda: world.tally().get("ready") == 10)
        await stage.poll()
        assert stage.events == []
        for number in range(8):
            world.delete(f"f{number}.md")
        await until(lambda: world.tally().get("held") == 8)
        await stage.poll()
        for number in range(8):
            world.write(f"f{number}.md", f"text of f{number}")
        await until(lambda: not world.tally().get("held"))
        stage.now = EVERY
        async with asyncio.timeout(60):
            while len(stage.events) < 2:
                await stage.poll()
                await asyncio.sleep(0.01)
    assert stage.events == ["halted", "recovered"]
    assert {notice["reason"] for notice in stage.notices} == {"deletions-held"}
    assert stage.notices[0]["cure"] == "kbsync approve docs"
