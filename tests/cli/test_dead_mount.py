"""Tests what commands do while a folder's file system doesn't respond."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync import file_systems
from kbsync.config import places
from kbsync.engine import explain, mirror
from kbsync.source import roots
from tests.cli.cures import proves
from tests.cli.sandbox import Sandbox, eventually
from tests.dead_mount import let_hang
from tests.share import long

pytestmark = long

LIMIT = 0.5
HANGS = 20.0
"""Seconds for which a system call hangs. A command must not wait that long."""

SILENT = "its file system isn't responding"


@pytest.fixture
def is_dead(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set this to let the folder `dead` hang, which has a mirror next to `handbook`."""
    sandbox.prepare({"a.md": "alpha"})
    dead, event = sandbox.add_mirror("dead", {"b.md": "beta"}), threading.Event()
    monkeypatch.setattr(file_systems, "MAX_RESPONSE_SECONDS", LIMIT)
    for module in (roots, mirror, explain):
        monkeypatch.setattr(module, "MAX_CHECK_SECONDS", LIMIT)
    monkeypatch.setattr(mirror, "MAX_PASS_CHECK_SECONDS", LIMIT)
    let_hang(dead, event.is_set, monkeypatch.setattr, HANGS)
    yield event
    event.clear()


@pytest.fixture
def dead(sandbox: Sandbox, is_dead: threading.Event) -> Path:
    """Return the hanging folder of a mirror with one document."""
    sandbox.once()
    is_dead.set()
    return sandbox.root / "dead"


@proves("check the network and the file server")
@pytest.mark.parametrize(
    "words, code, expected",
    [
        (["list"], 0, "not responding"),
        (["plan"], 3, f"{SILENT}; check the network and the file server; until then, kbsync deletes nothing"),
        (["verify"], 3, SILENT),
        (["explain", "dead/b.md"], 0, SILENT),
        (["explain", "b.md"], 0, SILENT),
        (["explain", "docs/a.md"], 0, "handbook: a.md\nThe file is searchable."),
        (["history", "dead/b.md"], 0, "uploaded  dead: b.md"),
        (["history", "a.md"], 0, "uploaded  handbook: a.md"),
        (["retry", "dead/b.md"], 0, "nothing has failed"),
        (["approve"], 0, "nothing is held"),
        (["pause", "dead"], 0, "paused dead"),
        (["search", "beta", "--path", "DEAD/*"], 0, "dead: b.md"),
        (["status"], 0, SILENT),
        (["status", "--json"], 0, SILENT),
        (["status", "--check"], 3, SILENT),
        (["doctor"], 3, f"/dead: {SILENT}; fix: check the network and the file server"),
        (["add", "dead/inside"], 2, f"dead/inside: {SILENT}; check the network and the file server"),
        (["add", "other"], 0, "added other"),
        (["--once", "--folder", "other"], 0, "1 document searchable"),
        (["remove", "dead", "--keep"], 0, "removed dead"),
        (["forget", "dead", "--delete-documents", "--yes"], 0, "dead is forgotten; 1 document deleted"),
    ],
)
def test_command_answers_while_a_folder_does_not_respond(
    sandbox: Sandbox,
    dead: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    expected: str,
) -> None:
    words = [word.replace("DEAD", str(dead)) for word in words]
    sandbox.add_folder("other", {"c.md": "gamma"})
    began = time.monotonic()
    completed = sandbox.run(*words)
    seconds = time.monotonic() - began
    assert (completed.code, expected in completed.out + completed.err) == (code, True), completed
    assert seconds < HANGS


def test_folder_that_never_responded_halts_only_its_own_mirror(
    sandbox: Sandbox, is_dead: threading.Event
) -> None:
    is_dead.set()
    completed = sandbox.run("--once", "--json")
    assert completed.code == 3
    first, second = completed.json["mirrors"]
    assert (first["documents"]["ready"], first["halt"]) == (1, None)
    assert second["halt"]["reason"] == "folder-missing" and SILENT in second["halt"]["detail"]
    is_dead.clear()
    eventually(lambda: sandbox.run("--once").code == 0)
    assert sandbox.search("beta")[0] == "b.md"


def test_status_reports_no_halt_for_a_folder_that_responds_late(
    sandbox: Sandbox, dead: Path, is_dead: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "MAX_CHECK_SECONDS", HANGS)
    threading.Timer(4 * LIMIT, is_dead.clear).start()
    assert sandbox.run("status", "--check").code == 0


def test_approve_accepts_no_folder_that_does_not_respond(sandbox: Sandbox, dead: Path) -> None:
    assert sandbox.run("--once").code == 3
    began = time.monotonic()
    assert sandbox.run("approve", "--yes").out == "nothing is held\n"
    assert time.monotonic() - began < HANGS


def test_folder_option_starts_no_second_state_for_a_folder_that_does_not_respond(
    sandbox: Sandbox, is_dead: threading.Event
) -> None:
    sandbox.config.unlink()
    link = sandbox.root / "link"
    link.symlink_to(sandbox.root / "dead")
    sandbox.run("--once", "--folder", "link").check_success()
    states = sorted((sandbox.state / "folders").iterdir())
    is_dead.set()
    completed = sandbox.run("--once", "--folder", "link")
    assert (completed.code, SILENT in completed.err) == (3, True), completed
    assert sandbox.run("--once", "--folder", "dead").code == 3
    assert sorted((sandbox.state / "folders").iterdir()) == states
    is_dead.clear()
    eventually(lambda: sandbox.run("--once", "--folder", "link").code == 0)


def test_folder_option_starts_no_second_state_for_a_folder_that_responds_late(
    sandbox: Sandbox, is_dead: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.config.unlink()
    link, is_no_directory = sandbox.root / "link", places.is_no_directory
    link.symlink_to(sandbox.root / "dead")
    sandbox.run("--once", "--folder", "link").check_success()
    states = sorted((sandbox.state / "folders").iterdir())

    def respond(path: Path) -> bool:
        is_dead.clear()
        time.sleep(0.2)  # until the call that hung has ended
        return is_no_directory(path)

    monkeypatch.setattr(places, "is_no_directory", respond)
    is_dead.set()
    completed = sandbox.run("--once", "--folder", "link")
    assert (completed.code, SILENT in completed.err) == (3, True), completed
    assert sorted((sandbox.state / "folders").iterdir()) == states
