"""Tests that strangers' names, texts and responses forge no line and move no cursor."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync import logs
from kbsync.core.text import printable, printable_lines, shell_word
from tests.cli.sandbox import Sandbox
from tests.cli.zhipu import zhipu_sandbox
from tests.share import enumerated, long

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07", "\nFORGED line", "\r\x1b[1AFORGED", "\u2028FORGED", "\u202egnp.exe",
    "\x9b31m", "\x9d0;owned\x9c", "\u2066\u2067\u200b\ufeff", "\udcff\udc9b", "\ud800", '","forged":"',
    "\x85FORGED", "\x7f\x08\x08\x08", "\U000e0041",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=6), max_size=6).map("".join)

OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;;[\x21-\x7e]*\x1b\\|\x1b\[\?25[lh]|(?:\x1b\[1A)?\x1b\[2K|\r")
"""kbsync's own output to a terminal: colours, links, and the line that shows progress."""


def is_harmless(output: str, *, terminal: bool = False) -> bool:
    plain = OURS.sub("", output) if terminal else output
    assert [c for c in plain if c not in "\n\t" and not c.isprintable() and printable(c) != c] == [], plain
    assert not any(line.lstrip(" !+~>-").startswith("FORGED") for line in re.split(r"\n", plain)), plain
    plain.encode()
    return True


@long
@given(text=TEXT)
def test_sanitizing_any_text_is_harmless_and_idempotent(text: str) -> None:
    result = printable(text)
    assert "\n" not in result and is_harmless(result.replace("FORGED", ""))
    assert printable(result) == result
    assert is_harmless(printable_lines(text).replace("FORGED", ""))
    assert is_harmless(shell_word(text.replace("\0", "")).replace("FORGED", ""))


@contextmanager
def logged(style: str) -> Iterator[io.BytesIO]:
    """Yield the log output."""
    written, before = io.BytesIO(), structlog.get_config()
    stream = io.TextIOWrapper(written, "utf-8", errors="strict", write_through=True)
    try:
        logs.configure(style=style, level="debug", environ={}, stream=stream)
        yield written
    finally:
        structlog.configure(**before)
        stream.detach()


FIELDS = TEXT | st.lists(TEXT, max_size=3) | st.dictionaries(TEXT, TEXT, max_size=2)


@long
@enumerated()
@given(fields=st.dictionaries(TEXT, FIELDS, max_size=4))
@settings(max_examples=60)
@pytest.mark.parametrize("style", ["json", "console"])
def test_any_field_makes_one_harmless_log_line(style: str, fields: dict[str, Any]) -> None:
    with logged(style) as written:
        structlog.get_logger().info("document.ready", **{f"x{key}": value for key, value in fields.items()})
    line = written.getvalue().decode()
    assert line.count("\n") == 1 and is_harmless(line)
    if style == "json":
        assert json.loads(line)["event"] == "document.ready"


@pytest.mark.parametrize("style", ["json", "console"])
def test_logged_traceback_forges_no_line(style: str) -> None:
    with logged(style) as written:
        try:
            raise ValueError("\x1b[2J\x9b1m\n<3>FORGED")
        except ValueError:
            structlog.get_logger().exception("daemon.broke")
    lines = written.getvalue().decode().splitlines()
    assert not any("\x1b" in line or "\x9b" in line or line.startswith("<3>") for line in lines)


NAMES = [name.replace("/", "") + ".md" for name in HOSTILE if "\ud800" not in name]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("words"))
    everything = "".join(name for name in HOSTILE if "\ud800" not in name and "\udcff" not in name)
    for name in NAMES:
        page = f"---\ntitle: {json.dumps(everything)}\n---\n# head {everything}\n\nneedle {everything}\n"
        (sandbox.docs / os.fsdecode(os.fsencode(name))).write_bytes(page.encode("utf-8", "surrogatepass"))
    (sandbox.docs / "\x1b[2Jempty\nFORGED.md").touch()
    (sandbox.docs / "\x1b[2Jbad\nFORGED.docx").write_bytes(b"no document")
    (sandbox.docs / "\x1b[2Jsub\nFORGED").mkdir()
    (sandbox.docs / "\x1b[2Jsub\nFORGED" / ".kbsyncignore").write_bytes(b"\x1b[2J[z-a]\n")
    sandbox.configure()
    result = sandbox.run("--once", "--log-level", "debug")
    assert result.code == 1 and is_harmless(result.err) and is_harmless(result.out)
    return sandbox


FORGED = "\x1b[2J\nFORGED"
SHOWING = [["plan"], ["status", "--documents"], ["search", "needle"], ["verify"], ["explain", NAMES[0]]]
COMMANDS = [
    *SHOWING,
    *(
        ["explain", NAMES[0], "--text"],
        ["explain", f"{FORGED} nothing.md"],
        ["retry", f"{FORGED} nothing.md"],
    ),
    *(["approve", FORGED], ["--mirror", FORGED, "status"], [FORGED], ["status", f"--{FORGED}"]),
    *(
        ["search", f"{FORGED} \udcff"],
        ["search", "x", "--after", FORGED],
        ["--config", f"/{FORGED}", "status"],
    ),
    *(["--folder", f"/{FORGED}", "--once"], ["--state-dir", f"/dev/null/{FORGED}", "--once"]),
    *(["init", f"/dev/null/{FORGED}"], ["--once"], ["--once", "--dry-run"]),
]


@enumerated()
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: printable(" ".join(words)))
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_no_command_prints_foreign_text_unsanitized(
    sandbox: Sandbox, words: list[str], terminal: bool
) -> None:
    result = sandbox.run(*words, tty=terminal)
    assert is_harmless(result.out, terminal=terminal) and is_harmless(result.err, terminal=terminal)
    assert "Traceback" not in result.err


@pytest.mark.parametrize("words", SHOWING)
def test_json_stays_one_document_and_preserves_every_name(sandbox: Sandbox, words: list[str]) -> None:
    result = sandbox.run(*words, "--json")
    assert result.out.count("\n") == 1 and is_harmless(result.out)
    report = result.json
    if words[0] == "status":
        paths = {item["path"] for item in report["mirrors"][0]["items"]}
        assert {os.fsdecode(os.fsencode(name)) for name in NAMES} <= paths


MESSAGES = "".join(HOSTILE).replace("\ud800", "").replace("\udcff\udc9b", "") + "x" * 1_000_000


@long
@pytest.mark.parametrize("kind", ["failed-info", "unauthorized"])
def test_service_messages_are_truncated_and_sanitized(tmp_path: Path, kind: str) -> None:
    with zhipu_sandbox(tmp_path) as desk:
        desk.write("a.md", "alpha")
        field = "reason" if kind == "failed-info" else "message"
        desk.service.play(kind, op="upload", times=0, args={field: MESSAGES})
        commands = (["status", "--documents"], ["status", "--json", "--documents"], ["explain", "a.md"])
        results = [desk.go("--once", "--log-level", "debug"), *(desk.run(*words) for words in commands)]
    for result in results:
        assert is_harmless(result.err) and is_harmless(result.out)
        assert len(result.err) + len(result.out) < 20_000
