"""Tests a limit on memory: kbsync reports it at once, and works within a limit that suffices."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from unittest.mock import Mock

import apsw
import pytest

from kbsync import logs
from kbsync.cli.exit_codes import Code
from kbsync.engine.clock import bug_in_words
from kbsync.errors import OUT_OF_MEMORY, Unavailable
from tests.cli.sandbox import PIPES, Sandbox
from tests.programs import run_program
from tests.share import long


def within(sandbox: Sandbox, kibibytes: int, *words: str) -> subprocess.Popen[bytes]:
    limited = ["bash", "-c", f'ulimit -v {kibibytes}; exec "$@"', "bash", sys.executable, "-m", "kbsync"]
    return sandbox.keep(
        subprocess.Popen([*limited, *words], cwd=sandbox.root, env=sandbox.environ({}), **PIPES)
    )


@long
def test_pass_out_of_memory_ends_at_once_and_the_next_one_continues(sandbox: Sandbox) -> None:
    sandbox.prepare({f"{number}.md": f"text {number}" for number in range(20)})
    # With less, Python itself may stop. Which part gets no more memory differs from run to run.
    process = within(sandbox, 240_000, "--once", "--log-format", "console")
    started = time.monotonic()
    _, err = process.communicate(timeout=100)
    assert time.monotonic() - started < 50
    if b"OpenBLAS error" not in err:  # this library ends the process itself
        assert process.returncode in (3, 4), err
        assert b"memory" in err and b"internal error in kbsync" not in err, err
    assert sandbox.once()["mirrors"][0]["documents"]["ready"] == 20


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        apsw.NoMemError("out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libscipy_openblas64.so: failed to map segment from shared object"),
        ssl.SSLError("[crypto] malloc failure (_ssl.c:3098)"),
        RuntimeError("can't allocate lock"),
        RuntimeError("can't allocate read lock"),
        SystemError("error return without exception set"),
    ],
)
def test_lack_of_memory_is_no_bug_of_kbsync(error: Exception) -> None:
    assert bug_in_words(error) == OUT_OF_MEMORY
    try:
        raise ValueError from error
    except ValueError as consequence:
        assert bug_in_words(consequence) == OUT_OF_MEMORY


@pytest.mark.parametrize("has_memory_for_logs", [True, False])
def test_lack_of_memory_in_a_library_is_logged_without_a_traceback(
    has_memory_for_logs: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    logs.configure(style="json", level="info", stream=stream)
    if not has_memory_for_logs:
        monkeypatch.setattr(logs, "printable", Mock(side_effect=MemoryError))
    try:
        raise MemoryError
    except MemoryError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    line = stream.getvalue()
    assert "Traceback" not in line + capsys.readouterr().err
    assert bool(line) is has_memory_for_logs
    if line:
        assert json.loads(line)["reason"] == OUT_OF_MEMORY


def test_lack_of_threads_names_the_limit_of_processes() -> None:
    message = bug_in_words(RuntimeError("can't start new thread"))
    assert "ulimit -u" in message and "TasksMax=" in message and "out of memory" not in message


@pytest.mark.parametrize("words", [["doctor"], ["--once"]])
def test_command_without_another_thread_ends_without_a_traceback(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    sandbox.prepare({"a.md": "text"})

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    result = sandbox.run(*words)
    assert result.code == Code.PASSING, result.err
    assert "ulimit -u" in result.err and "Traceback" not in result.err


def test_a_service_that_lacks_memory_does_not_hide_a_bug() -> None:
    error = ValueError("x")
    assert bug_in_words(error) == "internal error in kbsync (see its log): ValueError"
    error.__cause__ = Unavailable("embed: answered 500: CUDA out of memory")
    assert bug_in_words(error) == "internal error in kbsync (see its log): ValueError"


@long
def test_parser_starts_within_a_limit_lower_than_its_own(sandbox: Sandbox) -> None:
    sandbox.prepare({"page.html": "<p>an aardvark</p>"})
    process = within(sandbox, 1_000_000, "--once")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert sandbox.run("search", "aardvark").out


ARENAS = """
import ctypes, sys, threading
from kbsync.__main__ import main
sys.argv = ["kbsync", "--help"]
main()
together = threading.Barrier(8)
def allocate():
    kept = [bytes(1000) for _ in range(100)]
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(2, b"w")))
libc.fflush(None)
"""


def test_threads_share_two_arenas_of_memory() -> None:
    """Each arena keeps what its threads once needed, so many of them would take up memory forever."""
    ours = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    completed = run_program(sys.executable, "-c", ARENAS, env=ours)
    assert completed.stderr.count("<heap nr=") == 2, completed.stderr
