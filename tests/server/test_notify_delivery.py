"""A real command and a real HTTP server are told; what hangs is ended, with all that it began."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kbsync.server import notify
from kbsync.server.notify import FailedDocument, Notice, Undelivered
from kbsync.state.mirrors import Halt

HALTED = Notice("halted", "handbook", 1_763_632_800.0, Halt("quota", "no money\x1b[31m", "kbsync retry"))
BODY = notify.body_of(HALTED)


class Heard(http.server.BaseHTTPRequestHandler):
    """Keeps what was sent; answers as its path says."""

    bodies: ClassVar[list[bytes]]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/hangs":
            self.server.release.wait()  # type: ignore[attr-defined]
            return
        self.send_response(int(self.path.strip("/")))
        self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Fresh", (Heard,), {"bodies": []}))
    listening.daemon_threads = True
    listening.release = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield listening
    listening.release.set()  # type: ignore[attr-defined]
    listening.shutdown()
    thread.join()
    listening.server_close()


def bodies(server: http.server.ThreadingHTTPServer) -> list[bytes]:
    return server.RequestHandlerClass.bodies  # type: ignore[attr-defined,no-any-return]


def at(server: http.server.ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def test_a_notice_is_one_line_of_json_that_moves_no_cursor() -> None:
    assert BODY.count(b"\n") == 1
    assert b"\x1b" not in BODY
    assert json.loads(BODY)["at"] == "2025-11-20T10:00:00Z"
    assert json.loads(BODY)["text"].startswith("handbook: quota: no money")
    odd = Notice("quarantined", "a", 0.0, count=1, documents=(FailedDocument("\udcff.md", "no text"),))
    assert json.loads(notify.body_of(odd))["count"] == 1


async def test_a_command_gets_the_notice_on_stdin(tmp_path: Path) -> None:
    told = tmp_path / "told"
    await notify.run_command(["/bin/sh", "-c", 'cat >"$0"', str(told)], BODY)
    assert told.read_bytes() == BODY


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/bin/sh", "-c", "exit 3", "sesame"], "it ended with exit code 3"),
        (["/bin/sh", "-c", "kill -9 $$"], "it ended with signal 9"),
        (["/nowhere/sesame"], "it cannot be run: no such file or directory"),
    ],
)
async def test_a_command_that_fails_is_told_without_its_words(command: list[str], why: str) -> None:
    with pytest.raises(Undelivered) as caught:
        await notify.run_command(command, BODY * 10_000)  # more than a pipe holds, and nobody reads it
    assert str(caught.value) == why


async def test_a_command_that_hangs_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Undelivered, match=r"longer than 0\.2 s and was ended"):
        await notify.run_command(["/bin/cat", str(tmp_path / "fifo")], BODY, limit=0.2)


@pytest.fixture
def parent(tmp_path: Path) -> list[str]:
    """A command that hangs, as does its child, whose number is written to the last argument."""
    os.mkfifo(tmp_path / "fifo")
    script = 'cat "$0" & echo $! >"$1.new"; mv "$1.new" "$1"; exec cat "$0"'
    return ["/bin/sh", "-c", script, str(tmp_path / "fifo"), str(tmp_path / "child")]


async def child_of(parent: list[str]) -> int:
    written = Path(parent[-1])
    async with asyncio.timeout(60):
        while not written.exists():
            await asyncio.sleep(0.01)
    return int(written.read_text())


async def test_a_command_is_ended_with_all_it_began(parent: list[str]) -> None:
    running = asyncio.create_task(notify.run_command(parent, BODY))
    child = await child_of(parent)
    assert _lives(child)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(child)


async def test_a_command_that_is_given_up_while_it_begins_is_ended_with_all_it_began(
    parent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, is_begun, may_go_on = asyncio.create_subprocess_exec, asyncio.Event(), asyncio.Event()

    async def slowly(*words: str, **options: Any) -> asyncio.subprocess.Process:
        process = await begin(*words, **options)
        is_begun.set()
        await may_go_on.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    running = asyncio.create_task(notify.run_command(parent, BODY))
    await is_begun.wait()
    child = await child_of(parent)
    running.cancel()
    await asyncio.sleep(0)
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await gone(child)


async def test_a_command_that_became_another_users_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    begin, killpg, begun = asyncio.create_subprocess_exec, os.killpg, list[asyncio.subprocess.Process]()

    async def kept(*words: str, **options: Any) -> asyncio.subprocess.Process:
        begun.append(await begin(*words, **options))
        return begun[-1]

    monkeypatch.setattr(notify, "KILL_SECONDS", 0.1)
    monkeypatch.setattr(os, "killpg", refused)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", kept)
    try:
        async with asyncio.timeout(30):
            with pytest.raises(Undelivered, match="was ended"):
                await notify.run_command(["/bin/sleep", "3600"], BODY, limit=2)
    finally:
        [process] = begun
        killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def gone(pid: int) -> None:
    """Until the process is no more, or only waits for somebody to ask how it ended."""
    async with asyncio.timeout(60):
        while _lives(pid):
            await asyncio.sleep(0.01)


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_an_address_gets_the_notice_by_post(server: http.server.ThreadingHTTPServer) -> None:
    await notify.post_notice(at(server, "204"), BODY)
    assert bodies(server) == [BODY]


@pytest.mark.parametrize(
    ("path", "why"),
    [("500", "it answered 500"), ("307", "it answered 307"), ("hangs", "no answer within 0.5 s")],
)
async def test_an_address_that_does_not_take_it_is_told_without_the_address(
    server: http.server.ThreadingHTTPServer, path: str, why: str
) -> None:
    with pytest.raises(Undelivered) as caught:
        await notify.post_notice(at(server, path), BODY, limit=0.5 if path == "hangs" else 10)
    assert str(caught.value) == why
    assert len(bodies(server)) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/sesame", "http://[sesame", "gopher://sesame/"])
async def test_an_address_that_is_none_is_told_without_it(url: str) -> None:
    with pytest.raises(Undelivered, match="cannot be reached") as caught:
        await notify.post_notice(url, BODY)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://sesame:1080", "gopher://sesame", "http://sesame:x"])
async def test_a_proxy_that_cannot_be_used_is_told_without_it(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(Undelivered, match="proxy of the environment") as caught:
        await notify.post_notice("https://kb.example/", BODY)
    assert "sesame" not in str(caught.value)
