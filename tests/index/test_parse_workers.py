"""What parser processes may not do, and what becomes of documents that make them do it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from kbsync.errors import Rejected, Unavailable
from kbsync.index.fence import workers
from kbsync.index.fence.messages import unpack_answer, unpack_ready
from kbsync.index.fence.workers import Bounds, Home, Pool
from kbsync.index.read.parser import Parser
from tests.index import samples
from tests.targets.bodies import BytesBody

ODD = Path(__file__).with_name("odd_child.py")
MIB = 1024 * 1024


@pytest.fixture
def parser(tmp_path) -> Iterator[Parser]:
    parser = Parser(tmp_path / "spool", timeout=20, memory_bytes=512 * MIB, output_bytes=MIB, child=ODD)
    yield parser
    parser.close()


@pytest.fixture
def hasty(tmp_path) -> Iterator[Parser]:
    parser = Parser(tmp_path / "spool", timeout=1, child=ODD)
    yield parser
    parser.close()


def told(parser: Parser, what: str) -> str:
    return parser.parse("x.html", BytesBody(what.encode())).text


def code_of(parser: Parser, what: str) -> tuple[str, str]:
    with pytest.raises(Rejected) as refusal:
        told(parser, what)
    return refusal.value.code, refusal.value.reason


def test_a_document_that_hangs_is_given_up_at_the_limit_and_the_next_one_is_read(hasty):
    told(hasty, "start")
    (before,) = hasty.pids()
    assert code_of(hasty, "hang") == (
        "timeout",
        "could not be read within 1 s, the limit for one document; split it or save it in a simpler format",
    )
    assert not is_alive(before)
    assert told(hasty, "next") == "next"


def test_computing_without_end_is_ended_too(hasty):
    assert code_of(hasty, "burn")[0] == "timeout"
    assert told(hasty, "next") == "next"


def test_a_document_that_eats_memory_is_given_up_at_the_limit_and_the_next_one_is_read(parser):
    code, reason = code_of(parser, "hog")
    assert code == "memory" and "512 MiB of memory" in reason
    assert told(parser, "next") == "next"


def test_a_native_library_out_of_memory_is_told_from_a_crash(parser):
    assert code_of(parser, "abort for memory")[0] == "memory"


def test_a_document_that_crashes_the_parser_twice_is_rejected_and_the_next_one_is_read(parser):
    code, reason = code_of(parser, "crash")
    assert code == "crash" and "SIGSEGV" in reason
    assert told(parser, "next") == "next"


def test_a_crash_is_tried_once_more_in_a_new_process(parser):
    told(parser, "first")
    assert told(parser, "crash unless new") == "crash unless new"


def test_a_parser_killed_at_work_is_replaced_and_the_document_read(tmp_path):
    class Killing(BytesBody):
        def open(self) -> BinaryIO:
            if len(killed) < 1:
                killed.extend(parser.pids())
                os.kill(killed[0], signal.SIGKILL)
            return super().open()

    killed: list[int] = []
    parser = Parser(tmp_path)
    try:
        assert "porter" in parser.parse("x.html", Killing(samples.html())).text
        assert killed and killed != parser.pids()
    finally:
        parser.close()


def test_a_parser_killed_while_idle_is_replaced(parser):
    told(parser, "start")
    os.kill(parser.pids()[0], signal.SIGKILL)
    assert told(parser, "next") == "next"


def test_an_endless_text_is_given_up_at_the_limit(parser):
    code, reason = code_of(parser, "flood")
    assert code == "output" and "1 MiB" in reason
    assert told(parser, "next") == "next"


def test_a_document_larger_than_the_memory_is_refused_unread(parser):
    class Huge:
        size = 1 << 40

        def open(self) -> BinaryIO:
            raise AssertionError("it was opened")

    with pytest.raises(Rejected, match="too large") as refusal:
        parser.parse("x.html", Huge())
    assert refusal.value.code == "too-large"


def test_libraries_that_print_do_not_disturb(parser):
    assert told(parser, "print") == "print"
    assert told(parser, "next") == "next"


@pytest.mark.parametrize(
    ("what", "code"), [("raise", "damaged"), ("recurse", "damaged"), ("blank", "no-text")]
)
def test_errors_in_a_parser_become_sentences_and_cost_no_process(parser, what, code):
    told(parser, "start")
    before = parser.pids()
    assert code_of(parser, what)[0] == code
    assert parser.pids() == before


def test_half_a_surrogate_pair_does_not_break_the_answer(parser):
    assert told(parser, "surrogate") == "half a ? pair"


def test_no_socket_can_be_opened_by_python_or_native_code(parser):
    native, python = told(parser, "sockets").split("\n")
    assert python == "python refused: PermissionError"
    assert native.startswith("native refused")


def test_no_byte_can_be_written_to_a_file_and_no_program_started(parser):
    assert told(parser, "write") == "refused: PermissionError"
    assert told(parser, "exec") == "refused: PermissionError"


def test_nothing_of_our_environment_reaches_the_parser(tmp_path, monkeypatch):
    monkeypatch.setenv("ZHIPU_API_KEY", "secret-key")
    parser = Parser(tmp_path / "spool", child=ODD)
    try:
        seen = json.loads(told(parser, "environment"))
    finally:
        parser.close()
    assert "secret-key" not in seen.values() and "PATH" not in seen
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        assert Path(seen[name]).is_relative_to(tmp_path / "spool")


def test_a_parser_has_a_process_group_of_its_own_and_is_used_again(parser):
    first, second = told(parser, "self").split(), told(parser, "self").split()
    assert first[0] == first[1] == second[0] != str(os.getpgid(0))
    assert (first[2], second[2]) == ("1", "2")


def test_a_worn_parser_is_replaced(tmp_path):
    pool = Pool(tmp_path, Bounds(20, 512 * MIB, MIB), documents_each=2, child=ODD)
    pids = []
    for _ in range(4):
        with pool.lend() as worker:
            worker.read("html", io.BytesIO(b"x"), 1)
            pids.append(worker.pid)
    pool.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_grown_parser_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "RESIDENT_EACH", 1)
    parser = Parser(tmp_path, child=ODD)
    told(parser, "x")
    assert parser.pids() == []
    parser.close()


def test_idle_parsers_end_by_themselves(tmp_path):
    parser = Parser(tmp_path, idle_seconds=0.0, child=ODD)
    try:
        told(parser, "x")
        for ending in [each for each in threading.enumerate() if each.name == "parser-idle"]:
            ending.join()
        assert parser.pids() == []
        assert told(parser, "again") == "again"
    finally:
        parser.close()


def test_several_threads_are_served_by_one_parser(tmp_path):
    parser = Parser(tmp_path, child=ODD)
    try:
        with ThreadPoolExecutor(6) as threads:
            texts = list(threads.map(lambda n: told(parser, f"document {n}"), range(40)))
        assert texts == [f"document {n}" for n in range(40)]
        assert len(parser.pids()) == 1
    finally:
        parser.close()


def test_parsers_outlive_the_thread_that_first_needed_them(parser):
    def first() -> None:
        found.append(told(parser, "self").split()[0])

    found: list[str] = []
    thread = threading.Thread(target=first)
    thread.start()
    thread.join()
    assert told(parser, "self").split()[0] == found[0]


def test_closing_ends_an_idle_parser(tmp_path):
    parser = Parser(tmp_path / "spool", child=ODD)
    told(parser, "start")
    (idle,) = parser.pids()
    parser.close()
    assert not is_alive(idle)
    assert list((tmp_path / "spool").iterdir()) == []


def test_closing_ends_a_working_parser_and_leaves_nothing(tmp_path):
    parser = Parser(tmp_path / "spool", timeout=60, child=ODD)
    told(parser, "start")
    opened = threading.Event()

    class Announcing(BytesBody):
        def open(self) -> BinaryIO:
            opened.set()
            return super().open()

    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(parser.parse, "x.html", Announcing(b"hang"))
        opened.wait()
        pids = parser.pids()
        parser.close()
        with pytest.raises(Unavailable, match="stopped"):
            hanging.result()
    assert pids and not any(is_alive(pid) for pid in pids)
    assert list((tmp_path / "spool").iterdir()) == []
    with pytest.raises(Unavailable, match="stopped"):
        told(parser, "more")


def test_closing_an_unused_parser_makes_nothing(tmp_path):
    Parser(tmp_path / "spool").close()
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_cannot_be_read_is_not_the_documents_fault(parser):
    class Short(BytesBody):
        @property
        def size(self) -> int:
            return 1000

    with pytest.raises(OSError, match="ended 996 bytes early"):
        parser.parse("x.html", Short(b"word"))
    assert told(parser, "next") == "next"


def test_a_parser_that_does_not_start_blames_no_document(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no such library')")
    parser = Parser(tmp_path / "spool", child=broken)
    try:
        with pytest.raises(Unavailable, match="no such library"):
            told(parser, "x")
    finally:
        parser.close()


PARENT = """
import sys
from pathlib import Path
from kbsync.index.read.parser import Parser
from tests.targets.bodies import BytesBody
parser = Parser(Path(sys.argv[1]), timeout=600, child=Path(sys.argv[2]))
parser.parse("x.html", BytesBody(b"start"))
print(*parser.pids(), flush=True)
parser.parse("x.html", BytesBody(b"hang"))
"""


def test_parsers_die_with_a_killed_parent_and_the_next_run_clears_up(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PARENT, str(tmp_path / "spool"), str(ODD)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        ended = os.pidfd_open(pid)
        parent.kill()
    wait_for_end(ended)
    assert len(list((tmp_path / "spool").iterdir())) == 1
    parser = Parser(tmp_path / "spool", child=ODD)
    told(parser, "x")
    parser.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_living_programs_folder_is_left_alone(tmp_path):
    one, other = Home(tmp_path), Home(tmp_path)
    kept = one.path()
    assert other.path() != kept and kept.is_dir()
    other.remove()
    one.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_parsers_folder_is_ours_alone(parser, tmp_path):
    told(parser, "x")
    for folder in (tmp_path / "spool").rglob("*"):
        assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"resident": 1, "text": {}}',
        b"\xff",
        b"[" * 100_000,
        b'{"resident": "x"}',
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_of_ours(content):
    with pytest.raises(ValueError):
        unpack_answer(content)
    with pytest.raises(ValueError):
        unpack_ready(content)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pidfd: int) -> None:
    """A pidfd becomes readable when its process ends."""
    import select

    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)
