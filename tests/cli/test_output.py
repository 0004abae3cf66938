"""Tests the output of texts: text of strangers does no harm, and numbers are readable."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from kbsync.cli.commands import once
from kbsync.cli.exit_codes import Code, code_of, worst
from kbsync.cli.output import Column, Output, cells, elided, first_lines, table
from kbsync.core.text import (
    format_count,
    format_duration,
    format_list,
    format_size,
    printable,
    printable_lines,
    shell_word,
)
from kbsync.errors import Halted, KbsyncError, LockedError, Rejected, StateError, Unavailable, UsageError
from tests.cli.sandbox import Sandbox
from tests.share import long


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain text", "plain text"),
        ("配置.md　空", "配置.md　空"),
        ("👨\u200d👩", "👨\u200d👩"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\u009b2J"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("caf" + os.fsdecode(b"\xe9"), "caf\\xe9"),
    ],
)
def test_harmful_characters_are_never_printed(text: str, printed: str) -> None:
    assert printable(text) == printed


def test_lines_stay_lines_and_are_harmless() -> None:
    assert printable_lines("one\n\ttwo\x1b[0m\r\n") == "one\n\ttwo\\x1b[0m\\r\n"


@pytest.mark.parametrize(
    "argument",
    ["plain", "two words", "it's", "", "a\\b\n'c'", "\x1b[2J\x9b\u202e 配置", os.fsdecode(b"caf\xe9 'x'")],
)
def test_quoted_word_survives_a_shell(argument: str) -> None:
    quoted = shell_word(argument)
    assert printable(quoted) == quoted
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    result = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True, env=env)
    assert result.stdout == os.fsencode(argument)


def as_process(sandbox: Sandbox, *words: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run as a separate process from the first moment on."""
    command = [sys.executable, "-m", "kbsync", *words, "--folder", str(sandbox.docs)]
    return subprocess.run(command, env=sandbox.environ(env), capture_output=True, check=False)


@long
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp936"])
def test_json_is_valid_when_stdout_is_not_utf8(sandbox: Sandbox, encoding: str) -> None:
    sandbox.write("配置.md", "重置密码 é \u0411 🦀")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    result = as_process(sandbox, "search", "重置密码", "--json", PYTHONIOENCODING=encoding)
    [hit] = json.loads(result.stdout.decode("ascii"))["hits"]
    assert (hit["path"], hit["text"]) == ("配置.md", "重置密码 é \u0411 🦀")


@long
def test_commands_to_paste_contain_no_raw_escapes(sandbox: Sandbox) -> None:
    folder = sandbox.root / "odd\x1b[2J\nname"
    folder.mkdir()
    (folder / "a.md").write_text("alpha")
    for words in (["status"], ["search", "alpha"], ["--once"], ["status"], ["search", "alpha", "-k1"]):
        result = sandbox.run(*words, "--folder", folder)
        assert "\x1b" not in result.out + result.err
    result = sandbox.run("status", "--folder", folder, tty=True, env={"NO_COLOR": "1"})
    assert "\x1b" not in result.out


@long
@pytest.mark.parametrize(
    "env", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "xterm"}, {"TERM": "dumb"}], ids=str
)
def test_colours_and_progress_bar_are_independent(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, env: dict[str, str]
) -> None:
    drawn = list[str]()

    async def bar(*_what: object) -> None:
        drawn.append("bar")

    async def lines(*_what: object) -> None:
        drawn.append("lines")

    monkeypatch.setattr(once, "_bar", bar)
    monkeypatch.setattr(once, "_lines", lines)
    sandbox.write_all({"a.md": "alpha", "broken.pdf": "no pdf"})
    result = sandbox.run("--once", "--folder", "docs", "--log-format", "console", tty=True, env=env)
    assert result.code == 1
    assert drawn == ["lines" if env["TERM"] == "dumb" else "bar"]
    assert ("\x1b" in result.out + result.err) is (env == {"TERM": "xterm"})


INTERRUPT = """
import importlib.abc, os, signal, sys
class Interrupts(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
"""


@long
@pytest.mark.parametrize("module", ["kbsync.cli.main", "click", "kbsync.cli.commands.status", "apsw"])
def test_interrupt_during_imports_is_not_an_error(sandbox: Sandbox, module: str) -> None:
    (sandbox.root / "sitecustomize.py").write_text(INTERRUPT)
    result = as_process(sandbox, "status", PYTHONPATH=str(sandbox.root), AT=module)
    assert (result.returncode, result.stdout, result.stderr.strip()) == (130, b"", b"")


def test_json_round_trips_and_is_harmless() -> None:
    stream = io.StringIO()
    odd = {"path": os.fsdecode(b"caf\xe9"), "text": "\x1b\x9b\u202e 配置"}
    Output(stream).json(odd)
    stream.getvalue().encode()  # every encoder accepts it
    assert json.loads(stream.getvalue()) == odd
    assert "\x9b" not in stream.getvalue()
    assert "配置" in stream.getvalue()


def test_numbers_are_formatted_for_people() -> None:
    texts = [format_size(number) for number in (0, 999, 1000, 12_345, 99_999, 5_000_000)]
    assert texts == ["0 B", "999 B", "1.0 kB", "12 kB", "100 kB", "5.0 MB"]
    texts = [format_duration(seconds) for seconds in (0.04, 9.96, 89, 3600, 86400, 400_000)]
    assert texts == ["0.0 s", "10 s", "89 s", "60 min", "24 h", "5 d"]
    assert [format_count(n, "document") for n in (0, 1, 1204)] == [
        "0 documents",
        "1 document",
        "1,204 documents",
    ]


def test_most_severe_code_wins_in_the_promised_order() -> None:
    assert worst([]) == 0
    assert worst([Code.FAILED, Code.PASSING]) == 4
    assert worst([Code.PASSING, Code.PERSON, Code.FAILED]) == 3
    assert worst([Code.PERSON, Code.USAGE]) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (PermissionError(13, "x"), 2),
        (Halted("credentials", "x"), 3),
        (KbsyncError("x"), 3),
        (LockedError("x"), 4),
        (StateError("x"), 4),
        (Unavailable("x"), 4),
        (Rejected("x"), 4),
        (OSError(28, "x"), 4),
        (MemoryError(), 4),
        (RuntimeError("can't start new thread"), 4),
        (ValueError("x"), None),
    ],
)
def test_every_user_error_has_its_exit_code(error: Exception, code: int | None) -> None:
    assert code_of(error) == code


# -- tables ----------------------------------------------------------------------------------------------

WIDE = "/srv/手册/部门/" + "long-name/" * 6 + "配置"


def columns() -> list[Column]:
    return [
        Column("MIRROR", ("handbook", "手册"), is_key=True),
        Column("READY", ("1,204", "3"), is_number=True, is_key=True, blank="0"),
        Column("HELD", ("0", "0"), is_number=True, blank="0"),
        Column("FAILED", ("0", "2"), is_number=True, blank="0"),
        Column("FOLDER", (WIDE, "/srv/a"), is_path=True),
    ]


@pytest.mark.parametrize("room", range(1, 140))
def test_no_table_line_exceeds_the_terminal_width(room: int) -> None:
    table_lines = table(columns(), room)
    if len(table_lines) == 3:
        assert all(cells(line) <= room for line in table_lines)
    else:
        assert room < 30
    assert any("1,204" in line for line in table_lines)
    assert any("handbook" in line for line in table_lines)


def test_empty_columns_are_dropped_before_anything_is_truncated() -> None:
    untruncated = table(columns(), None)
    assert (
        len({cells(line[: line.index("/srv")]) for line in untruncated[1:]}) == 1
    )  # wide characters as well
    room = max(map(cells, untruncated))
    assert table(columns(), room) == untruncated
    assert "HELD" not in table(columns(), room - 1)[0]
    assert WIDE in table(columns(), room - 1)[1]


@pytest.mark.parametrize("room", range(3, 60))
def test_path_is_truncated_at_its_beginning_between_names(room: int) -> None:
    result = elided(WIDE, room)
    assert cells(result) <= room
    assert WIDE.endswith(result.removeprefix("…"))
    assert room < 8 or result.startswith("…/")


def test_long_list_ends_with_the_remaining_count_and_how_to_list_all() -> None:
    lines = [f"{number}.md" for number in range(1012)]
    assert list(first_lines(lines[:10], "kbsync plan --all")) == lines[:10]
    cut = list(first_lines(lines, "kbsync plan --all"))
    assert cut == [*lines[:10], "… and 1,002 more; to list all: kbsync plan --all"]
    assert list(first_lines(lines, limit=0)) == ["… and 1,012 more"]
    assert list(first_lines(lines, limit=None)) == lines


def test_names_are_listed_as_in_a_sentence() -> None:
    lists = [format_list(["notes", "vault", "handbook"][:n]) for n in (1, 2, 3)]
    assert lists == ["notes", "notes and vault", "notes, vault and handbook"]
