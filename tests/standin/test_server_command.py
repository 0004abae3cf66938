"""Tests the stand-in as a command, and as a thread of a synchronous test."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from kbsync_standin import __main__ as command
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from tests.share import enumerated, long
from tests.standin import echo

Start = Callable[..., "subprocess.Popen[str]"]

ROOT = Path(__file__).parents[2]
IMPATIENT = httpx.Timeout(5, read=0.1)
PROGRAM = """
import sys
from tests.standin import echo
sys.modules["kbsync_standin.zhipu"] = echo
from kbsync_standin.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _echo_for_zhipu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kbsync_standin.zhipu", echo)


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-c", PROGRAM, "zhipu", *arguments]
        program = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(program)
        return program

    yield start
    for program in running:
        program.kill()
        program.communicate()


def url_of(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:")
    return line.split()[-1]


def rest_of(program: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the rest of the output until the program ends; `communicate` would miss what was read ahead."""
    assert program.stdout is not None
    assert program.stderr is not None
    program.wait(timeout=60)
    return program.stdout.read(), program.stderr.read()


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=30, trust_env=False, verify=False)


@long
@enumerated()
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_reports_its_address_and_ends_on_request(start: Start, number: signal.Signals) -> None:
    program = start("--key", "secret", "--seed", "7", "--vectorize", "500ms-2m")
    url = url_of(program)
    assert get(url + "/documents/arguments").json() == ["secret", 7, [0.5, 120.0]]
    program.send_signal(number)
    out, err = rest_of(program)
    assert program.returncode == 0
    assert f"    target:\n      type: echo\n      base_url: {url}\n" in out
    assert f"curl {url}/_standin" in out
    assert err == ""


@long
def test_server_ends_immediately_despite_a_hanging_client(start: Start) -> None:
    program = start("--quiet", "--fault", '{"kind": "hang"}', "--behaviour", "loud=true")
    url = url_of(program)
    assert get(url + "/_standin/behaviour").json()["loud"] is True
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(url + "/documents/x", timeout=IMPATIENT, trust_env=False, verify=False)
    program.terminate()
    out, _ = rest_of(program)
    assert (program.returncode, out) == (0, "")


@long
def test_address_in_use_is_reported_with_exit_code_1(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    url = url_of(start("--quiet"))
    port = url.rpartition(":")[2]
    assert command.main(["zhipu", "--port", port]) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "service"),
        (["nobody"], "invalid choice: 'nobody'"),
        (["zhipu", "--prot", "1"], "--prot"),
        (["zhipu", "--port", "70000"], "from 0 to 65535"),
        (["zhipu", "--latency", "50"], "write a time as 500ms"),
        (["zhipu", "--vectorize", "5s-1s"], "shorter time must come first"),
        (["zhipu", "--vectorize", "1-5"], "write a time as 500ms"),
        (["zhipu", "--fault", "hang"], "is not JSON"),
        (["zhipu", "--fault", '{"kind": "hnag"}'], "unknown fault kind 'hnag'"),
        (["zhipu", "--behaviour", "loud"], "KEY=VALUE"),
        (["zhipu", "--behaviour", "lout=1"], "no switch lout"),
    ],
)
def test_wrong_usage_is_refused_with_a_message(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        command.main(arguments)
    assert ending.value.code == 2
    assert sentence in capsys.readouterr().err


def test_server_thread_with_an_address_in_use_fails_at_its_start() -> None:
    with Server(echo.Echo()).in_thread() as first, pytest.raises(OSError):  # noqa: SIM117
        with Server(echo.Echo(), port=first.port).in_thread():
            pass


def test_server_thread_ends_when_the_test_fails() -> None:
    server = Server(echo.Echo())
    with pytest.raises(ZeroDivisionError), server.in_thread():
        server.faults.add(Fault("hang"))
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(server.url + "/documents/x", timeout=IMPATIENT, trust_env=False, verify=False)
        raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        get(server.url)
