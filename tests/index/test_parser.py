"""Tests documents that make their parser misbehave, and how parser processes start and end."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from kbsync.errors import Rejected, Unavailable
from kbsync.index.fence import parser as module
from kbsync.index.fence.parser import Bounds, PageParser, Parser
from tests.index import samples
from tests.share import enumerated, long
from tests.targets.bodies import BytesBody

OBEYING = Path(__file__).parents[1] / "security" / "taken_over.py"
"""A parser that runs a document as a program."""
MIB = 1024 * 1024
BOUNDS = Bounds(20, 512 * MIB, MIB)
HASTY = Bounds(3)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Parser]]:
    """Create parsers with a home below `spool`."""
    created: list[Parser] = []

    def begin(bounds: Bounds = BOUNDS, *, kind: type[Parser] = Parser, **options: Any) -> Parser:
        created.append(kind(tmp_path / "spool", bounds, **{"child": OBEYING, **options}))
        return created[-1]

    yield begin
    for opened in created:
        opened.close()
    assert not (tmp_path / "spool").exists() or list((tmp_path / "spool").iterdir()) == []


@pytest.fixture
def parser(begin: Callable[..., Parser]) -> Parser:
    return begin()


@pytest.mark.parametrize("moment", ["made", "opened", "being removed"])
def test_temporary_folder_mistaken_for_a_dead_parsers_is_recreated(
    begin: Callable[..., Parser], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    make, opening, removing = module.make_passing_folder, os.open, list[int]()
    opens: list[Path] = []

    def make_and_lose(prefix: str, folder: Path) -> Path:
        created = make(prefix, folder)
        if not opens:
            opens.append(created)
            if moment == "made":
                created.rmdir()
            if moment == "being removed":
                removing.append(opening(created, os.O_RDONLY))
                fcntl.flock(removing[0], fcntl.LOCK_EX)
        return created

    def open_and_lose(path: Any, flags: int, *more: Any, **options: Any) -> int:
        descriptor = opening(path, flags, *more, **options)
        if moment == "opened" and opens and path == opens[0]:
            opens[0].rmdir()
        return descriptor

    monkeypatch.setattr(module, "make_passing_folder", make_and_lose)
    monkeypatch.setattr(os, "open", open_and_lose)
    parser = begin()
    parser._make().end()
    assert parser._home is not None and parser._home.is_dir() and parser._home != opens[0]
    if removing:
        opens[0].rmdir()
        os.close(removing[0])


PROGRAMS = {
    "hang": "import time; time.sleep(600)",
    "burn": "while True: pass",
    "hog": "kept = []\nwhile True: kept.append(bytearray(16 << 20))",
    "crash": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "crash unless new": "import os\nif len(documents) > 1: os.abort()\nsay('crash unless new')",
    "abort for memory": "import os; os.write(2, b'memory allocation of 9 bytes failed\\n'); os.abort()",
    "flood": "say('many words ' * 1_000_000)",
    "print": "import os; print('x' * 100_000); os.write(1, b'x'); os.write(2, b'y' * 9**6); say('print')",
    "raise": "raise KeyError('unforeseen')",
    "recurse": "def recurse(): return recurse()\nrecurse()",
    "self": "import os; say(os.getpid(), os.getpgid(0), len(documents))",
    "blank": "say(' \\n ')",
    "surrogate": "say('half a \\ud83d pair')",
}
"""By name; any other document is itself the program."""


def run_program(parser: Parser, program: str) -> str:
    return parser.parse("x.html", BytesBody(PROGRAMS.get(program, f"say({program!r})").encode())).text


@long
@enumerated()
@pytest.mark.parametrize(
    ("program", "bounds", "code", "reason"),
    [
        (
            "hang",
            HASTY,
            "timeout",
            "could not be read within 3 s, the limit for one document; split the document",
        ),
        ("burn", HASTY, "timeout", "split the document"),
        ("hog", BOUNDS, "memory", "512 MiB of memory"),
        ("abort for memory", BOUNDS, "memory", "memory"),
        ("crash", BOUNDS, "crash", "SIGSEGV"),
        ("flood", BOUNDS, "output", "1 MiB"),
        ("raise", BOUNDS, "damaged", "KeyError"),
        ("recurse", BOUNDS, "damaged", "nested too deeply"),
        ("blank", BOUNDS, "no-text", "no text found"),
    ],
)
def test_document_beyond_a_limit_is_abandoned_and_the_next_is_read(begin, program, bounds, code, reason):
    parser = begin(bounds)
    run_program(parser, "start")
    (before,) = parser.pids()
    with pytest.raises(Rejected) as refusal:
        run_program(parser, program)
    assert refusal.value.code == code and reason in refusal.value.reason
    costs_a_process = code not in ("damaged", "no-text")
    assert is_alive(before) != costs_a_process
    assert run_program(parser, "next") == "next"


@long
def test_each_document_has_a_process_of_its_own(parser):
    """What one leaves behind, such as a changed reader, no other finds."""
    pids = list[str]()
    for _ in range(3):
        pid, group, count = run_program(parser, "self").split()
        pids.append(pid)
        assert count == "1" and [int(group)] == parser.pids()
    assert len(set(pids)) == 3 and not any(is_alive(int(pid)) for pid in pids)


@long
def test_crash_is_retried_once_in_a_new_process(begin):
    parser = begin(kind=PageParser)
    run_program(parser, "first")
    assert run_program(parser, "crash unless new") == "crash unless new"


@long
def test_parser_killed_at_work_is_replaced_and_the_document_read(begin):
    class Killing(BytesBody):
        def open(self) -> BinaryIO:
            if not killed:
                killed.extend(parser.pids())
                os.kill(killed[0], signal.SIGKILL)
            return super().open()

    killed: list[int] = []
    parser = begin(child=module.CHILD)
    assert "porter" in parser.parse("x.html", Killing(samples.html())).text
    assert killed and killed != parser.pids()


@long
def test_parser_killed_while_idle_is_replaced(parser):
    run_program(parser, "start")
    os.kill(parser.pids()[0], signal.SIGKILL)
    assert run_program(parser, "next") == "next"


def test_document_larger_than_the_memory_limit_is_refused_unread(parser):
    class Huge:
        size = 1 << 40

        def open(self) -> BinaryIO:
            raise AssertionError("it was opened")

    with pytest.raises(Rejected, match="too large") as refusal:
        parser.parse("x.html", Huge())
    assert refusal.value.code == "too-large"


def test_library_output_and_lone_surrogates_do_not_break_the_response(parser):
    assert run_program(parser, "print") == "print"
    assert run_program(parser, "surrogate") == "half a ? pair"


@long
def test_parser_has_its_own_process_group_and_serves_all_threads_in_turn(parser):
    with ThreadPoolExecutor(6) as threads:
        outputs = [line.split() for line in threads.map(lambda _: run_program(parser, "self"), range(40))]
    assert len({pid for pid, _, _ in outputs}) == 40
    assert {int(group) for _, group, _ in outputs} == set(parser.pids()) != {os.getpgid(0)}


@long
@enumerated()
@pytest.mark.parametrize(
    ("documents", "bounds", "processes"), [(2, Bounds(), 2), (9, Bounds(resident_bytes=1), 4)]
)
def test_worn_or_grown_process_for_pages_is_replaced(begin, monkeypatch, documents, bounds, processes):
    monkeypatch.setattr(module, "PIECES_EACH", documents)
    parser = begin(bounds, kind=PageParser)
    assert len({run_program(parser, "self").split()[0] for _ in range(4)}) == processes
    assert parser.pids() == []


@long
def test_idle_parsers_exit_automatically(begin):
    parser = begin(idle_seconds=0.0)
    run_program(parser, "x")
    for ending in [thread for thread in threading.enumerate() if thread.name == "parser-idle"]:
        ending.join()
    assert parser.pids() == []
    assert run_program(parser, "again") == "again"


def test_closing_ends_a_working_parser(begin):
    parser, opened = begin(Bounds(60)), threading.Event()
    run_program(parser, "start")

    class Announcing(BytesBody):
        def open(self) -> BinaryIO:
            opened.set()
            return super().open()

    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(parser.parse, "x.html", Announcing(PROGRAMS["hang"].encode()))
        opened.wait()
        pids = parser.pids()
        parser.close()
        with pytest.raises(Unavailable, match="stopped"):
            hanging.result()
    assert pids and not any(is_alive(pid) for pid in pids)
    with pytest.raises(Unavailable, match="stopped"):
        run_program(parser, "more")


@long
def test_unreadable_body_does_not_blame_the_document(parser):
    class Short(BytesBody):
        @property
        def size(self) -> int:
            return 1000

    with pytest.raises(OSError, match="is 996 bytes shorter than expected"):
        parser.parse("x.html", Short(b"word"))
    assert run_program(parser, "next") == "next"


def test_parser_that_does_not_start_blames_no_document(begin, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no such library')")
    with pytest.raises(Unavailable, match="no such library"):
        run_program(begin(child=broken), "x")


NO_FORK = """
import json, os, sys
sys.path[:] = json.loads(sys.argv[4])
from kbsync.index.fence import child

def refuse():
    raise BlockingIOError(11, "Resource temporarily unavailable")

fork, calls = os.fork, []
os.fork = lambda: refuse() if calls or {at_once} else calls.append(1) or fork()
child.main()
"""


@pytest.mark.parametrize("at_once", [True, False])
def test_limit_of_processes_blames_no_document(begin, tmp_path, at_once):
    limited = tmp_path / "limited.py"
    limited.write_text(NO_FORK.format(at_once=at_once))
    parser = begin(child=limited)
    if not at_once:
        assert "porter" in parser.parse("x.html", BytesBody(samples.html())).text
        limited.write_text(NO_FORK.format(at_once=True))
    with pytest.raises(Unavailable, match="Resource temporarily unavailable") as refusal:
        parser.parse("x.html", BytesBody(samples.html()))
    assert "reinstall" not in str(refusal.value)


def test_killed_start_names_no_missing_package(begin, tmp_path):
    """The kernel kills parsers first when memory runs out."""
    child = tmp_path / "child.py"
    child.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(Unavailable, match=r"failed to start \(SIGKILL\)$"):
        begin(child=child).parse("x.html", BytesBody(samples.html()))


PARENT = """
import sys
from pathlib import Path
from kbsync.index.fence.parser import Bounds, Parser
from tests.targets.bodies import BytesBody
parser = Parser(Path(sys.argv[1]), Bounds(600), child=Path(sys.argv[2]))
parser.parse("x.html", BytesBody(b"say('start')"))
print(*parser.pids(), flush=True)
parser.parse("x.html", BytesBody(b"while True: pass"))
"""


@long
def test_parsers_die_with_a_killed_parent_and_the_next_run_cleans_up(begin, tmp_path):
    command, root = [sys.executable, "-c", PARENT, str(tmp_path / "spool"), str(OBEYING)], OBEYING.parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        ended = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert select.select([ended], [], [], 10)[0], "a pidfd becomes readable when its process ends"
    os.close(ended)
    (remaining_item,) = (tmp_path / "spool").iterdir()
    first, second = begin(), begin()
    for running in (first, second):  # a running program's files are left alone
        run_program(running, "x")
    homes = set((tmp_path / "spool").iterdir())
    assert remaining_item not in homes and len(homes) == 2
    for folder in (tmp_path / "spool").rglob("*"):
        assert folder.stat().st_mode & 0o077 == 0


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
