"""Tests `kbsync mcp` as an assistant starts it: it answers, mirrors meanwhile, and ends with its client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client
from structlog.testing import capture_logs

from kbsync.cli.commands.mcp import serving
from kbsync.cli.commands.mcp.open_mirrors import OpenInstallation
from kbsync.config.model import Config
from kbsync.config.secrets import Secret
from kbsync.errors import UsageError
from kbsync.signals import Signals
from kbsync.state import lock
from kbsync.threads import in_own_threads
from kbsync.upgrade import upgraded
from tests.cli.sandbox import LONGEST, Sandbox, eventually, words_of
from tests.cli.zhipu import ZhipuSandbox
from tests.mcp.assistant import (
    SETTLED,
    choose_installation,
    log_of,
    over_stdio,
    paths,
    run_tool,
    text_of,
    until,
)
from tests.ports import free_address
from tests.programs import is_running, run_program
from tests.share import long
from tests.warm import KBSYNC

HOUR = 3600.0

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "a client of this test", "version": "1"},
    },
}


def start_server(sandbox: Sandbox, *words: str) -> subprocess.Popen[bytes]:
    """Start a process and wait for its first response."""
    with (sandbox.root / "mcp.log").open("ab") as log:
        process = sandbox.start("mcp", *words, stdin=subprocess.PIPE, stderr=log)
    return greet(process)


def greet(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Wait for a server's first response."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(HELLO).encode() + b"\n")
    process.stdin.flush()
    response = json.loads(process.stdout.readline())
    assert response["result"]["serverInfo"]["name"] == "kbsync"
    return process


def wait_until_mirroring(sandbox: Sandbox) -> None:
    eventually(lambda: any(line["event"] == "daemon.started" for line in log_of(sandbox)))


async def find_soon(client: Client, query: str) -> list[str]:
    """Return the paths of the hits, as soon as there are any."""
    async with asyncio.timeout(SETTLED):
        while not (results := paths(await run_tool(client, "search", query=query))):
            await asyncio.sleep(0.05)
    return results


@long
async def test_mcp_mirrors_and_searches_with_only_a_folder(sandbox: Sandbox) -> None:
    sandbox.write("ice.md", "The walrus lies on the ice.")
    async with over_stdio(sandbox, "--folder", "docs") as client:
        assert client.instructions and "search" in client.instructions
        payload = await run_tool(client, "search", query="walrus", wait=SETTLED)
        assert paths(payload) == ["ice.md"]
        assert payload["notes"] == []
        assert (await run_tool(client, "status"))["mirrors"][0]["watched"] is True
    # The lock is released, and stdout had only protocol: the client reads every line.
    assert not lock.is_held(next((sandbox.state / "folders").iterdir()))


@long
async def test_edit_is_found_while_the_client_is_connected(sandbox: Sandbox) -> None:
    sandbox.prepare({"ice.md": "The walrus lies on the ice."})
    async with over_stdio(sandbox) as client:
        assert await find_soon(client, "walrus") == ["ice.md"]
        sandbox.write("ice.md", "The penguin stands on the shore.")
        assert await find_soon(client, "penguin") == ["ice.md"]
        (sandbox.docs / "ice.md").rename(sandbox.docs / "shore.md")
        async with asyncio.timeout(SETTLED):
            while paths(await run_tool(client, "search", query="penguin")) != ["shore.md"]:
                await asyncio.sleep(0.05)


@long
async def test_waiting_search_includes_every_earlier_edit(sandbox: Sandbox) -> None:
    sandbox.prepare({"ice.md": "The walrus lies on the ice.", "old.md": "The auk is extinct."})
    async with over_stdio(sandbox) as client:
        assert await find_soon(client, "walrus") == ["ice.md"]
        for number in range(5):
            sandbox.write("ice.md", f"The penguin stands on shore {number} of zymurgy{number}.")
            sandbox.write(f"new/{number}.md", f"The albatross flies to quixotry{number}.")
            payload = await run_tool(
                client, "search", query=f"quixotry{number} zymurgy{number}", wait=SETTLED
            )
            texts = " ".join(passage["text"] for hit in payload["hits"] for passage in hit["passages"])
            assert f"zymurgy{number}" in texts and f"quixotry{number}" in texts
        (sandbox.docs / "old.md").unlink()
        payload = await run_tool(client, "search", query="auk extinct", wait=SETTLED)
        assert "old.md" not in paths(payload)


@long
async def test_first_answers_report_the_progress_of_the_first_pass(zhipu: ZhipuSandbox) -> None:
    for number in range(12):
        zhipu.write(f"{number}.md", f"# Note {number}\n\nThe walrus lies on the ice, {number} times.\n")
    zhipu.service.turn(vectorize=[HOUR, HOUR])
    notices, first = list[tuple[float, float | None]](), asyncio.Event()

    async def notice(progress: float, total: float | None, _message: str | None) -> None:
        notices.append((progress, total))
        first.set()

    async with over_stdio(zhipu) as client:
        # Until the service's clock moves, no document becomes searchable.
        payload = await run_tool(client, "search", query="walrus")
        assert payload["hits"] == []
        states = ("the first pass is under way", "the first pass has not started", "12 files are")
        assert any(state in payload["notes"][0] for state in states)
        async with asyncio.timeout(LONGEST):
            while (await run_tool(client, "status"))["mirrors"][0]["documents"]["indexing"] < 12:
                await asyncio.sleep(0.05)
        asking = client.call_tool("status", {"wait": int(LONGEST) - 5}, progress_callback=notice)
        waiting = asyncio.create_task(asking)
        await asyncio.wait_for(first.wait(), LONGEST)
        zhipu.service.server.advance(HOUR)
        assert "12 ready" in text_of(await waiting)
    assert (notices[0], notices[-1]) == ((0, 12), (12, 12))
    steps = [progress for progress, _ in notices]
    assert steps == sorted(set(steps))


@long
async def test_held_deletions_are_reported_with_a_hint(sandbox: Sandbox) -> None:
    sandbox.mirror({f"{name}.md": f"The walrus lies on the ice, says {name}." for name in "abcdefg"})
    for name in "abcdefg":
        (sandbox.docs / f"{name}.md").unlink()
    async with over_stdio(sandbox) as client:
        async with asyncio.timeout(SETTLED):
            notes = [""]
            while (
                "deletions are waiting for your approval: 7 of 7 documents would be deleted" not in notes[0]
            ):
                await asyncio.sleep(0.05)
                notes = (await run_tool(client, "search", query="walrus"))["notes"] or [""]
        assert "fix: kbsync approve handbook" in notes[0]
        assert len(paths(await run_tool(client, "search", query="walrus"))) == 7


@long
async def test_one_of_two_clients_mirrors_and_both_answer(sandbox: Sandbox) -> None:
    sandbox.prepare({"ice.md": "The walrus lies on the ice."})
    async with over_stdio(sandbox) as first:
        assert await find_soon(first, "walrus") == ["ice.md"]
        async with over_stdio(sandbox) as second:
            assert await find_soon(second, "walrus") == ["ice.md"]
            sandbox.write("shore.md", "The penguin stands on the shore.")
            assert await find_soon(second, "penguin") == ["shore.md"]
            assert await find_soon(first, "penguin") == ["shore.md"]
            assert (await run_tool(second, "search", query="penguin"))["notes"] == []
    assert [line["event"] for line in log_of(sandbox)].count("daemon.started") == 1


@long
async def test_mcp_beside_a_daemon_only_reads_and_takes_over_when_it_ends(sandbox: Sandbox) -> None:
    sandbox.prepare({"ice.md": "The walrus lies on the ice."})
    daemon = sandbox.watch(until="document.ready")
    async with over_stdio(sandbox) as client:
        payload = await run_tool(client, "search", query="walrus")
        assert (paths(payload), payload["notes"]) == (["ice.md"], [])
        assert daemon.end() == 0
        payload = await run_tool(client, "search", query="walrus")
        assert paths(payload) == ["ice.md"]
        [note] = payload["notes"]
        assert note.startswith("handbook: changes since ")
        # The command in the note follows the folder again.
        sandbox.watch(*words_of(note.partition("; start it with: ")[2])).wait_for_event("daemon.started")
        async with asyncio.timeout(SETTLED):
            while (await run_tool(client, "search", query="walrus"))["notes"]:
                await asyncio.sleep(0.05)


@pytest.fixture
def opened(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> OpenInstallation:
    """An installation whose lock is checked often."""
    monkeypatch.setattr(serving, "CHECK_LOCK_EVERY", 0.02)
    opened = OpenInstallation(choose_installation(sandbox, config=sandbox.configure()))
    opened.installation.state_dir.mkdir(parents=True)
    return opened


@contextlib.asynccontextmanager
async def mirroring(opened: OpenInstallation) -> AsyncIterator[asyncio.Task[None]]:
    """Let an assistant's server mirror as soon as nobody else does."""
    mirroring = serving.Mirroring(opened)
    keeping = asyncio.create_task(mirroring.keep())
    try:
        yield keeping
    finally:
        await mirroring.end(keeping)


@long
async def test_takeover_requires_a_free_lock_at_several_checks_in_a_row(
    opened: OpenInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir = opened.installation.state_dir
    checks = list[bool]()

    def check_lock(_state_dir: Path) -> bool:
        # A daemon is stopped and restarted at the fourth check, and stopped for good at the sixth.
        checks.append(len(checks) in (0, 1, 4, 5))
        return checks[-1]

    monkeypatch.setattr(serving.lock, "is_held", check_lock)
    daemon = contextlib.ExitStack()
    daemon.enter_context(lock.held(state_dir))
    async with mirroring(opened):
        await until(lambda: len(checks) >= 5)
        daemon.close()
        await until(lambda: lock.holding(state_dir) and lock.holder(state_dir) == str(os.getpid()))
    assert checks == [True, True, False, False, True, True, False, False, False, False]
    assert not lock.holding(state_dir)


async def test_daemon_restarted_before_the_second_check_gets_its_lock_back(
    opened: OpenInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir = opened.installation.state_dir
    checks, daemon = list[bool](), contextlib.ExitStack()
    daemon.enter_context(lock.held(state_dir))

    def check_lock(_state_dir: Path) -> bool:
        checks.append(bool(len(checks)))
        # The daemon stopped before the first check, and starts again before the second.
        if len(checks) == 1:
            daemon.close()
        if len(checks) == 2:
            daemon.enter_context(lock.held(state_dir))
        return checks[-1]

    monkeypatch.setattr(serving.lock, "is_held", check_lock)
    async with mirroring(opened) as keeping:
        await until(lambda: len(checks) >= 3 or keeping.done())
    daemon.close()


@long
async def test_daemon_seen_between_two_checks_restarts_the_wait(
    opened: OpenInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir = opened.installation.state_dir
    checks, daemon = 0, contextlib.ExitStack()
    daemon.enter_context(lock.held(state_dir))

    def check_lock(_state_dir: Path) -> bool:
        nonlocal checks
        checks += 1
        daemon.close()
        with lock.held(state_dir):  # a daemon that ran since the last check, and has just stopped
            return False

    monkeypatch.setattr(serving.lock, "is_held", check_lock)
    async with mirroring(opened), asyncio.timeout(SETTLED):
        while checks < 3 * serving.FREE_FOR:
            assert checks == 0 or not opened.will_mirror
            await asyncio.sleep(0.01)
    daemon.close()


@long
def test_daemon_restarted_beside_an_assistant_finds_its_lock_free(sandbox: Sandbox) -> None:
    sandbox.configure()
    daemon = sandbox.watch()
    # Reports when it met the daemon's lock and when it found that lock free, and then checks it no more.
    script = (
        "import sys\n"
        "from kbsync.cli.commands.mcp import serving\n"
        "from kbsync.__main__ import main\n"
        "class Noted(serving.LockedError):\n"
        "    def __init__(self, *words):\n"
        "        super().__init__(*words)\n"
        "        open('met', 'w').close()\n"
        "is_held = serving.lock.is_held\n"
        "def check(state_dir):\n"
        "    if is_held(state_dir):\n"
        "        return True\n"
        "    serving.CHECK_LOCK_EVERY = 600.0\n"
        "    open('free', 'w').close()\n"
        "    return False\n"
        "serving.CHECK_LOCK_EVERY, serving.lock.LockedError, serving.lock.is_held = 0.1, Noted, check\n"
        "sys.exit(main(['mcp']))\n"
    )
    with (sandbox.root / "mcp.log").open("ab") as log:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "cwd": sandbox.root}
        assistant = subprocess.Popen([sys.executable, "-c", script], env=sandbox.environ({}), **options)
    greet(sandbox.keep(assistant))
    eventually((sandbox.root / "met").exists)
    assert daemon.end() == 0
    eventually((sandbox.root / "free").exists)
    sandbox.watch().wait_for_event("daemon.started")
    assert not any(line["event"] == "daemon.started" for line in log_of(sandbox))


@long
async def test_changed_config_is_used_whoever_mirrors(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "READ_CONFIG_EVERY", 0.02)
    config = sandbox.configure()
    opened = OpenInstallation(choose_installation(sandbox, config=config))
    mirroring = serving.Mirroring(opened)
    reload, refusals = opened.config_now, [upgraded()]

    async def config_now() -> Config:
        if refusals:
            raise refusals.pop()
        return await reload()

    monkeypatch.setattr(opened, "config_now", config_now)
    following = asyncio.create_task(mirroring.follow_config())

    async def wait_for_token(token: str) -> None:
        mirrors = sandbox.configure().read_text()
        config.write_text(f"http: {{listen: '{free_address()}', token: {token}}}\n{mirrors}")
        async with asyncio.timeout(SETTLED):
            while (http := opened.installation.config.http) is None or http.token != Secret(token):
                await asyncio.sleep(0.01)

    with capture_logs() as log:
        await wait_for_token("the-first-of-24-characters")
    reasons = [line["reason"] for line in log if line["event"] == "config.refused"]
    assert reasons[0] == "kbsync was upgraded while it was running; fix: restart kbsync"
    keeping = asyncio.create_task(mirroring.keep())
    await until(lambda: lock.holding(opened.installation.state_dir))
    await wait_for_token("the-second-of-24-characters")
    following.cancel()
    await mirroring.end(keeping)


async def test_process_upgraded_before_it_mirrors_says_what_to_do(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure()
    opened = OpenInstallation(choose_installation(sandbox, config=sandbox.config))
    mirroring = serving.Mirroring(opened)

    def refuse(_installation: object) -> None:
        raise upgraded()

    monkeypatch.setattr(serving, "prepare", refuse)
    with capture_logs() as log:
        keeping = asyncio.create_task(mirroring.keep())
        await until(lambda: bool(log))
        keeping.cancel()
    [line] = log
    reason = "kbsync was upgraded while it was running; fix: restart kbsync"
    assert (line["event"], line["reason"], opened.obstacle) == ("mirroring.refused", reason, reason)


async def test_mirroring_bug_is_logged_ever_less_often(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure()
    opened, pauses = OpenInstallation(choose_installation(sandbox, config=sandbox.config)), list[float]()
    mirroring = serving.Mirroring(opened)

    async def fail() -> None:
        raise ZeroDivisionError

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            raise asyncio.CancelledError

    monkeypatch.setattr(mirroring, "_mirror", fail)
    monkeypatch.setattr(serving.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await mirroring.keep()
    assert pauses[::2] == [1, 2, 4, 8, 16, 32]


async def test_lasting_obstacle_is_logged_once(
    opened: OpenInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirroring, starts = serving.Mirroring(opened), 0

    async def fail() -> None:
        nonlocal starts
        starts += 1
        opened.obstacle = ""  # as once the daemon begins
        raise UsageError("http.listen: 127.0.0.1:9753 is in use")

    monkeypatch.setattr(mirroring, "_mirror", fail)
    with capture_logs() as log:
        keeping = asyncio.create_task(mirroring.keep())
        await until(lambda: starts >= 3 or keeping.done())
        keeping.cancel()
    assert [line["event"] for line in log] == ["mirroring.refused"]
    assert opened.obstacle == "http.listen: 127.0.0.1:9753 is in use"


class End:
    """Records the exit code that the process would have."""

    code: int | None = None

    def arm(self, code: int) -> None:
        self.code = code

    def now(self) -> None: ...


async def test_internal_error_while_answering_ends_with_a_failure_code(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.configure()
    ends = []

    async def fail() -> None:
        raise ZeroDivisionError

    async def respond() -> None:
        """Others get their threads, however many one mirror uses."""
        released = threading.Event()
        held = [in_own_threads("held", asyncio.to_thread(released.wait, 60)) for _ in range(40)]
        waiting = [asyncio.create_task(request) for request in held]
        async with asyncio.timeout(SETTLED):
            assert await asyncio.to_thread(lambda: 1) == 1
        released.set()
        await asyncio.gather(*waiting)

    for answering in (fail, respond):
        opened, end = OpenInstallation(choose_installation(sandbox, config=sandbox.config)), End()
        with Signals(()) as signals:
            await serving._run(opened, answering(), signals, end)  # type: ignore[arg-type]
        ends.append(end.code)
    assert ends == [70, 0]


@long
async def test_process_that_cannot_mirror_answers_and_gives_the_reason(sandbox: Sandbox) -> None:
    sandbox.write("ice.md", "The walrus lies on the ice.")
    async with over_stdio(sandbox, "--folder", "docs", "--state-dir", "docs/state") as client:
        async with asyncio.timeout(SETTLED):
            while "this process can't follow the folder:" not in (
                note := (await run_tool(client, "search", query="walrus"))["notes"][0]
            ):
                await asyncio.sleep(0.05)
    assert "nothing indexed yet" in note and "docs/state" in note
    assert [line["event"] for line in log_of(sandbox)] == ["mirroring.refused"]


@long
def test_mcp_ends_when_its_client_closes_stdin(sandbox: Sandbox) -> None:
    sandbox.prepare({"ice.md": "The walrus lies on the ice."})
    process = start_server(sandbox)
    wait_until_mirroring(sandbox)
    process.communicate(timeout=LONGEST)  # closes stdin first
    assert process.returncode == 0
    assert not lock.is_held(sandbox.state)


@long
def test_mcp_ends_when_its_client_closes_stdin_and_reads_nothing(sandbox: Sandbox) -> None:
    sandbox.prepare({"ice.md": "The walrus lies on the ice."})
    process = start_server(sandbox)
    wait_until_mirroring(sandbox)
    assert process.stdin is not None
    for number in range(2, 100):  # more responses than fit into a pipe
        request = {"jsonrpc": "2.0", "id": number, "method": "tools/list"}
        process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.close()
    process.stdin = None  # lets `communicate` close the other pipes
    assert process.wait(LONGEST) == 0
    assert not lock.is_held(sandbox.state)


@long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_mcp_while_a_client_is_connected(sandbox: Sandbox, number: int) -> None:
    sandbox.configure()
    process = start_server(sandbox)
    wait_until_mirroring(sandbox)
    process.send_signal(number)
    assert process.wait(LONGEST) == 0
    assert not lock.is_held(sandbox.state)


@long
def test_killed_client_ends_mcp_and_leaves_no_lock(sandbox: Sandbox) -> None:
    """The client is a separate process, and only its death closes the pipes."""
    sandbox.prepare({"ice.md": "The walrus lies on the ice."})
    client = (
        "import subprocess, sys, time\n"
        "command = [sys.executable, '-m', sys.argv[1], 'mcp']\n"
        "child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with (sandbox.root / "mcp.log").open("ab") as log:
        options = {"stdout": subprocess.PIPE, "stderr": log, "cwd": sandbox.root}
        parent = subprocess.Popen([sys.executable, "-c", client, KBSYNC], env=sandbox.environ({}), **options)
    sandbox.keep(parent)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until_mirroring(sandbox)
    parent.kill()
    parent.wait(LONGEST)
    eventually(lambda: not is_running(child))
    assert not lock.is_held(sandbox.state)


@long
async def test_next_process_continues_after_a_kill_without_duplicates(sandbox: Sandbox) -> None:
    for number in range(40):
        sandbox.write(f"{number}.md", f"# Note {number}\n\nThe walrus lies on the ice, {number} times.\n")
    sandbox.configure()
    process = await asyncio.to_thread(start_server, sandbox)
    await asyncio.to_thread(wait_until_mirroring, sandbox)
    process.kill()
    process.wait(LONGEST)
    assert not lock.is_held(sandbox.state)
    async with over_stdio(sandbox) as client:
        payload = await run_tool(client, "status", wait=SETTLED)
        assert payload["mirrors"][0]["documents"]["ready"] == 40
        results = paths(await run_tool(client, "search", query="walrus", k=50))
        assert len(results) == len(set(results)) == 40


@long
def test_invalid_message_is_answered_with_an_error_and_the_next_is_answered(sandbox: Sandbox) -> None:
    sandbox.configure()
    process = start_server(sandbox)
    assert process.stdin is not None and process.stdout is not None
    unknown = b'{"jsonrpc":"2.0","id":7,"method":"nope"}'
    batch = b"[" + unknown + b"]"
    for line in (b"no json", b'{"jsonrpc":', b"", b"[]", b"{}", b"\xff\xfe", batch, unknown, b"[" * 9000):
        process.stdin.write(line + b"\n")
    process.stdin.write(b'{"jsonrpc":"2.0","id":"last","method":"ping"}\n')
    process.stdin.flush()
    responses = [json.loads(process.stdout.readline())]
    while not {7, "last"} <= {response["id"] for response in responses}:
        responses.append(json.loads(process.stdout.readline()))
    [result] = [response["result"] for response in responses if response["id"] == "last"]
    assert result == {}
    codes = [response["error"]["code"] for response in responses if response["id"] is None]
    parse_error, invalid_request = -32700, -32600
    assert codes == [
        *(parse_error, parse_error, invalid_request, invalid_request, parse_error, invalid_request),
        parse_error,
    ]
    process.communicate(timeout=LONGEST)
    assert process.returncode == 0


@long
def test_request_that_violates_the_protocol_is_refused_by_its_id_with_the_reason(sandbox: Sandbox) -> None:
    sandbox.configure()
    process = start_server(sandbox)
    assert process.stdin is not None and process.stdout is not None
    for line in (
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[]}',
        b'{"id":"a","method":"ping"}',
        b'{"jsonrpc":"2.0","id":8,"method":5}',
        b'{"jsonrpc":"2.0","id":9,"error":"an answer, so it must not get one that looks like an answer"}',
        b'{"jsonrpc":"2.0","id":true,"method":5}',
        b'[{"jsonrpc":"2.0","id":10,"method":"ping"}]',
        *(b'{"jsonrpc":"2.0","id":%s,"method":"ping"}' % odd for odd in (b"null", b"1.5", b"true")),
        b'{"jsonrpc":"2.0","id":null,"method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","id":11,"method":"nope"}',
    ):
        process.stdin.write(line + b"\n")
    process.stdin.flush()
    responses = [json.loads(process.stdout.readline()) for _ in range(10)]
    assert [(response["id"], response["error"]["message"]) for response in responses] == [
        (7, "Invalid Request: params: Input should be an object"),
        ("a", "Invalid Request: jsonrpc: Field required"),
        (8, "Invalid Request: method: Input should be a valid string"),
        (None, "Invalid Request: method: Field required"),
        (None, "Invalid Request: id: Input should be a valid integer"),
        (None, "Invalid Request: a message must be one JSON object"),
        *[(None, "Invalid Request: id: Input should be a string or an integer")] * 3,
        (11, "Method not found"),
    ]
    process.communicate(timeout=LONGEST)


@long
def test_request_with_a_lone_surrogate_is_answered(sandbox: Sandbox) -> None:
    sandbox.configure()
    process = start_server(sandbox)
    assert process.stdin is not None and process.stdout is not None
    complete, halves = (
        (b"\\ud83e\\uddad", b"\\\\ud800"),
        (b"\\ud83e", b"\\uddad", b"\\uddad\\ud83e", b"\xed\xa0\xbe"),
    )
    words = [*complete, *halves]
    for number, word in enumerate(words):
        params = b'{"name":"list","arguments":{"mirror":"%s"}}' % word
        request = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":%s}\n'
        process.stdin.write(request % (number, params))
    process.stdin.flush()
    responses = {}
    while len(responses) < len(words):
        response = json.loads(process.stdout.readline())
        responses[response["id"]] = response["result"]["content"][0]["text"]
    process.communicate(timeout=LONGEST)
    assert "\N{SEAL}" in responses[0] and "\\ud800" in responses[1]
    assert all("\N{REPLACEMENT CHARACTER}" in responses[number] for number in range(2, len(words)))


@long
def test_missing_package_is_reported_with_its_install_command(sandbox: Sandbox) -> None:
    sandbox.configure()
    script = (
        "import sys; sys.modules['mcp'] = None\nfrom kbsync.__main__ import main\nsys.exit(main(['mcp']))\n"
    )
    result = run_program(sys.executable, "-c", script, env=sandbox.environ({}), cwd=sandbox.root)
    assert result.returncode == 2
    assert "the mcp package is missing; install it alongside kbsync: " in result.stderr
    assert "-m pip install 'mcp<3,>=2.3'" in result.stderr
    assert result.stdout == ""


def test_missing_folder_is_a_usage_error(sandbox: Sandbox) -> None:
    result = sandbox.go("mcp", "--folder", "nowhere")
    assert (result.code, result.out) == (2, "")
    assert "no such folder" in result.words
