"""Tests that every failure a user must act on names problem, place and fix in `status`, log and exit code."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import logging
import os
import re
import shlex
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import apsw
import pytest

import kbsync
from kbsync import logs
from kbsync.cli.commands import status
from kbsync.cli.exit_codes import Code, unwritten, worst
from kbsync.cli.report import LEVELS
from kbsync.contract.target import Outgoing, TargetContext
from kbsync.errors import Halted, Rejected, StateError
from kbsync.index.document import Flavour, Parsed
from kbsync.index.errors import out_of_memory, storage_error
from kbsync.index.sqlite import vectors
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.permissions import exists
from kbsync.state.db import state_errors
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget
from kbsync.targets.services.clients import refuses_everything
from kbsync.targets.services.config import EmbeddingConfig
from kbsync.upgrade import upgraded
from tests.cli.catalogue import AT_A_DATABASE, CODES, ELSEWHERE, MIRRORS, Trouble
from tests.cli.cures import proves
from tests.cli.pasting import paste
from tests.cli.sandbox import Sandbox
from tests.cli.troubles import Evidence, troubled_sandbox
from tests.resources.spoiling import pipe
from tests.share import long
from tests.targets.bodies import BytesBody

NAMES = [row.name for row in MIRRORS]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    with troubled_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield Evidence(sandbox)


def expected_texts(row: Trouble, evidence: Evidence) -> list[str]:
    """Return each text about the mirror, after its name."""
    locations = {"folder": evidence.sandbox.folder(row.name), "base": evidence.sandbox.base(row.name)}
    return [words.format(**locations) for words in row.messages]


def cure_of(row: Trouble, evidence: Evidence) -> str:
    return row.fix.format(name=row.name, base=evidence.sandbox.base(row.name))


def lines_about(row: Trouble, text: str) -> list[str]:
    return [line for line in text.splitlines() if f"{row.name}: " in line]


@long
@pytest.mark.parametrize("row", MIRRORS, ids=NAMES)
def test_pass_reports_what_is_wrong_where_and_how_to_fix_it(row: Trouble, evidence: Evidence) -> None:
    for text in (evidence.pass_run.words, evidence.text, evidence.quiet):
        lines = lines_about(row, text)
        assert [
            words for words in expected_texts(row, evidence) if not any(words in line for line in lines)
        ] == []
        # The command is enough, or something has to be done before it.
        ends = tuple(f"; {label}: {cure_of(row, evidence)}" for label in ("fix", "then run"))
        assert any(line.endswith(ends) for line in lines) or not row.reason
        assert cure_of(row, evidence) in text


@long
@pytest.mark.parametrize("row", MIRRORS, ids=NAMES)
def test_status_has_reason_detail_hint_and_the_exit_code_of_a_pass(row: Trouble, evidence: Evidence) -> None:
    assert evidence.checked[row.name] == row.code
    halt = evidence.mirrors_before[row.name]["halt"]
    assert (halt["reason"] if halt else "") == row.reason
    if halt:
        assert halt["cure"] == cure_of(row, evidence)
        assert halt["detail"] in " ".join(lines_about(row, evidence.pass_run.words))
    else:
        items = {item["path"]: item["reason"] for item in evidence.mirrors_before[row.name]["items"]}
        listed = [f"{path}: {reason}" for path, reason in items.items()]
        assert [
            words for words in expected_texts(row, evidence) if not any(words in line for line in listed)
        ] == []


@long
def test_most_severe_exit_code_wins(evidence: Evidence) -> None:
    codes = {Code(row.code) for row in MIRRORS}
    assert codes == {Code.USAGE, Code.PERSON, Code.PASSING, Code.FAILED}
    assert evidence.pass_run.code == worst(codes) == 2


@long
@pytest.mark.parametrize("row", [row for row in MIRRORS if row.logged], ids=lambda row: row.name)
def test_log_reports_each_problem_once_with_mirror_path_and_hint(row: Trouble, evidence: Evidence) -> None:
    lines = [line for line in evidence.log if line["event"] == "mirror.halted" and line["mirror"] == row.name]
    first = lines[0]
    assert (first["level"], first["reason"]) == ("error", row.logged)
    assert first["folder"] == str(evidence.sandbox.folder(row.name))
    assert expected_texts(row, evidence)[0] in first["detail"]
    halt = evidence.watched[row.name]["halt"]
    assert (first["detail"], first["cure"]) == (halt["detail"], halt["cure"])
    assert len([line for line in lines if line["detail"] == first["detail"]]) == 1


@long
def test_pasted_commands_fix_the_problem(evidence: Evidence) -> None:
    """With the causes removed, each command succeeds (an audit with findings exits 1, as documented)."""
    codes = {name: result.code for name, result in evidence.pasted.items()}
    assert codes == dict.fromkeys(codes, 0) | {"emptied": 1}
    assert evidence.mirrors_after["shrunk"]["documents"]["ready"] == 1
    assert evidence.mirrors_after["emptied"]["documents"]["ready"] == 8
    last = evidence.sandbox.run("--once", "--json")
    assert (last.code, last.json["uploaded"], last.json["deleted"]) == (0, 0, 0), last.json


HELD = {"deletions.held": "kbsync approve shrunk", "recipe.held": "kbsync approve recut"}


@long
def test_every_log_line_is_json_without_a_traceback(evidence: Evidence) -> None:
    assert "exception" not in json.dumps(evidence.log)
    logged = [json.loads(line) for line in evidence.pass_run.err.splitlines()]
    assert {line["level"] for line in logged} == {"warning", "error"}
    assert [line["event"] for line in logged if not line.get("mirror")] == ["documents.failed"]
    reported = [(line["event"], line["mirror"], line.get("path")) for line in logged if line.get("mirror")]
    assert len(reported) == len(set(reported))
    held = {line["event"]: line["cure"] for line in logged if line["event"] in HELD}
    assert held == HELD


# -- problems outside the mirrors of the sandbox -------------------------------------------------------------


async def put(target: LocalTarget) -> None:
    """The files of a user's own model are read when the first text arrives."""
    try:
        await target.put([Outgoing(1, "a.txt", "a.txt", "0" * 64, 1, 1.0, "r", BytesBody(b"?"))])
    finally:
        await target.aclose()


@proves(
    "df {} {}",
    "ls -ld {}",
    "findmnt --target {}",
    "ulimit -v",
    "set embedding.dimensions in the config; all documents will then be reindexed",
)
def test_disk_and_model_errors_halt_with_a_hint(sandbox: Sandbox) -> None:
    folder = sandbox.add_folder("a base")
    full = apsw.FullError("disk is full"), OSError(errno.EDQUOT, "quota")
    read_only = apsw.ReadOnlyError("read-only"), OSError(errno.EROFS, "read-only file system")
    errors = [*(storage_error(folder, error) for error in (*full, *read_only)), out_of_memory()]
    assert f"no space left for the index in {folder}; free some" in str(errors[0])
    assert [paste(sandbox, error.fix).code for error in errors if isinstance(error, Halted)] == [0] * 5
    assert isinstance(errors[3], Halted)
    assert errors[3].fix == f"findmnt --target '{folder}'"

    Writer(folder).close()
    lacking = LocalTargetConfig(embedding=EmbeddingConfig(type="onnx", path=folder / "gone"), max_bytes=100)
    places = TargetContext("handbook", folder, folder)
    target = LocalTarget(
        lacking, places, lambda: SqliteStore(folder), lambda *_: Parsed("text", Flavour.PLAIN)
    )
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE model (id INTEGER PRIMARY KEY, name UNIQUE, dimensions)")
    vectors.ensure_model(connection, "words", 64)

    def delete() -> None:
        with contextlib.closing(SqliteStore(folder, writer=None)) as only_read:
            only_read.delete([1])

    for does in (
        delete,
        lambda: asyncio.run(put(target)),
        lambda: vectors.ensure_model(connection, "words", 128),
    ):
        with pytest.raises(Halted) as halted:
            does()
        errors.append(halted.value)
    assert "set embedding.dimensions in the config" in halted.value.fix
    errors.append(upgraded())
    errors.append(refuses_everything(Rejected("no such model", code="400")))
    assert {getattr(error, "halt", "") for error in errors} == {*ELSEWHERE, "index-read-only"}


def test_internal_error_is_reported_as_one(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "choose_all", lambda *_, **__: 1 // 0)
    result = sandbox.run("status")
    assert result.code == Code.BROKEN
    assert "ZeroDivisionError" in result.err
    assert result.err.splitlines()[-1].startswith("kbsync: this is a bug in kbsync")


@contextlib.contextmanager
def unwritable(stderr: str) -> Iterator[dict[str, Any]]:
    """Return arguments that send a process's stderr somewhere unwritable."""
    match stderr:
        case "closed":
            yield {"preexec_fn": lambda: os.close(2)}
        case "full":
            with open("/dev/full", "wb") as full:
                yield {"stderr": full}
        case _:
            reading, writing = os.pipe()
            os.close(reading)
            yield {"stderr": writing}
            os.close(writing)


@long
@pytest.mark.parametrize("stderr", ["closed", "full", "its reader is gone"])
def test_unwritable_log_does_not_stop_the_work(sandbox: Sandbox, stderr: str) -> None:
    sandbox.prepare({"a.md": "alpha", "broken.pdf": "this is no pdf"})
    with unwritable(stderr) as options:
        process = subprocess.run(
            [sys.executable, "-m", "kbsync", "--once"],
            env={**os.environ, "HOME": str(sandbox.home)},
            stdout=subprocess.PIPE,
            check=False,
            **options,
        )
    assert process.returncode == Code.FAILED
    assert b"1 document searchable" in process.stdout


def test_unwritable_results_are_an_error(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    with open("/dev/full", "wb") as full:
        process = sandbox.start("status", "--json", stdout=full)
        _, errors = process.communicate()
    assert process.returncode == Code.PASSING
    assert errors == b"kbsync: stdout: no space left on device; free some space\n"


@long
@pytest.mark.parametrize("fails", ["at the end", "while it is printed"])
def test_unwritable_results_hide_no_decision_that_is_needed(sandbox: Sandbox, fails: str) -> None:
    sandbox.prepare({"a.md": "alpha"})
    sandbox.run("--once").check_success()
    (sandbox.docs / "a.md").unlink()
    python = [sys.executable, *(["-u"] if fails == "while it is printed" else [])]
    everything = ["--once", "--once --json", "status --check", "status --check --json --documents"]
    for words in [*everything, "plan", "plan --json", "verify", "verify --json", "doctor", "doctor --json"]:
        if words == "plan":
            sandbox.docs.rename(sandbox.docs.with_name("unmounted"))
        with open("/dev/full", "wb") as full:
            process = subprocess.run(
                [*python, "-m", "kbsync", *words.split()],
                env={**os.environ, "HOME": str(sandbox.home)},
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert process.returncode == Code.PERSON, (words, process.stderr)
        assert process.stderr.count(b"no space left on device") == 1
    with open("/dev/full", "wb") as full:
        elsewhere = [*python, "-m", "kbsync", "explain", "/elsewhere"]
        environ = {**os.environ, "HOME": str(sandbox.home)}
        assert subprocess.run(elsewhere, env=environ, stdout=full, check=False).returncode == Code.USAGE


def test_unwritable_results_of_an_interrupted_pass_leave_its_exit_code() -> None:
    for code in (Code.INTERRUPTED, Code.TERMINATED, Code.BROKEN):
        assert unwritten(code) is code
    assert unwritten(Code.MIRRORED) is unwritten(Code.FAILED) is Code.PASSING
    assert unwritten(Code.USAGE) is Code.USAGE


def test_watch_names_stdout_if_it_cannot_be_written(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    with open("/dev/full", "wb") as full:
        process = sandbox.start("status", "--watch", stdout=full)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (4, b"kbsync: stdout: no space left on device; free some space\n")


@pytest.mark.parametrize("words", ["--version", "--help", "help options", "completion bash", "kb --help"])
def test_unwritable_output_is_reported_once(sandbox: Sandbox, words: str) -> None:
    with open("/dev/full", "wb") as full:
        process = sandbox.start(*words.split(), stdout=full)
        _, errors = process.communicate()
    assert process.returncode == Code.PASSING
    assert errors.decode().count("no space left on device; free some space") == errors.count(b"\n") == 1


@long
def test_quiet_pass_ending_on_a_temporary_problem_gives_the_reason(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dsn = f"host=127.0.0.1 port={nobody.getsockname()[1]} dbname=kb user=kbsync"
        sandbox.configure(f"target: {{type: postgres, dsn: '{dsn}'}}\n")
        result = sandbox.run("--once", "--quiet")
    assert (result.code, result.out) == (4, "")
    assert len(result.err.splitlines()) == 1
    assert "target-down" in result.err and "cannot be reached" in result.err


@long
def test_files_set_aside_are_reported_with_path_and_reason(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    for file in (sandbox.state / "state.db", sandbox.state / "kb" / "handbook" / "index.db"):
        for other in file.parent.glob(f"{file.name}-*"):
            other.unlink()
        file.write_bytes(b"this is no database" * 500)
    result = sandbox.run("--once", "-q").check_success()
    report = {line["event"]: line for line in map(json.loads, result.err.splitlines())}
    assert set(report) == {"state.set_aside", "index.set_aside"}
    for event, name in (("state.set_aside", "state.db"), ("index.set_aside", "index.db")):
        assert report[event]["level"] == "error"
        assert f"{name}.damaged-1" in report[event]["detail"]


def test_library_log_messages_use_our_log_format() -> None:
    stream = io.StringIO()
    logs.configure(style="json", level="warning", stream=stream)
    logging.getLogger("asyncio").error("a task was lost", extra={"event": "document.unreadable"})
    logging.getLogger("httpcore").warning("\x1b[2J odd")
    logging.getLogger("httpcore").info("nobody needs this")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["level"]) == ("document.unreadable", "error")
    assert (second["event"], second["level"], second["logger"]) == ("library.logged", "warning", "httpcore")
    assert "\x1b" not in stream.getvalue()


@long
def test_bad_config_is_refused_whole_and_reported(evidence: Evidence) -> None:
    assert evidence.refused["level"] == "error"
    assert f"{evidence.sandbox.config}:1: mirrors: is empty" in evidence.refused["reason"]


PACKAGE = Path(kbsync.__file__).parent
DOCS = PACKAGE.parent / "docs"
SOURCE = "\n".join(file.read_text() for file in PACKAGE.rglob("*.py"))
REASONS = {
    *ELSEWHERE,
    *AT_A_DATABASE,
    *(reason for row in MIRRORS for reason in (row.reason, row.logged) if reason),
}


def halts() -> set[str]:
    """Return every halt reason; some have a name at the top of a module."""
    named = dict(re.findall(r'^([A-Z_]+) = "([a-z-]+)"$', SOURCE, re.MULTILINE))
    call, reason = r"\b(?:Halted|Halt|show_problem|note_unfinished)\(\s*", r'("[a-z-]+"|[A-Z_]+\b)'
    matches = re.findall(rf"(?:{call}|\bhalt=){reason}", SOURCE)
    return {named.get(text, text.strip('"')) for text in matches} - {"first-pass"}  # only in /readyz


@long
def test_every_halt_is_in_the_catalogue() -> None:
    assert halts() == REASONS


def test_every_exit_code_is_in_the_catalogue() -> None:
    assert set(CODES) == {code.value for code in Code}
    codes = {row.name: row.code for row in MIRRORS}
    assert all(codes[where] == code for code, where in CODES.items() if where in codes)


def events() -> set[str]:
    """Return the events logged as warnings or errors; modules without structlog list them in a dictionary."""
    call = r"\b(?:log\.(?:warning|error|exception|critical)|log_bug)\(\s*"
    logged = re.findall(rf'{call}"([a-z_]+\.[a-z_]+)"', SOURCE)
    return {*LEVELS, *logged, *re.findall(r'\{"event": "([a-z_.]+)"\}', SOURCE)}


@long
def test_docs_list_every_halt_event_and_code() -> None:
    logs = (DOCS / "logs.md").read_text()
    assert [event for event in sorted(events()) if f"`{event}`" not in logs] == []
    assert {"mirror.halted", "worker.failed", "index.set_aside"} <= events()
    troubleshooting = (DOCS / "troubleshooting.md").read_text()
    assert [reason for reason in sorted(REASONS) if f"`{reason}`" not in troubleshooting] == []
    commands = (DOCS / "commands.md").read_text()
    assert [code for code in CODES if not re.search(rf"\|.*\b{code}\b.*\|", commands)] == []


def test_unreadable_state_home_does_not_count_as_an_unused_one(ordinary: Sandbox) -> None:
    home = ordinary.state
    home.mkdir(parents=True)
    home.chmod(0)
    result = ordinary.go("status")
    fix = f"chmod u+rwX {home}"
    problem = f"{home} can't be read (permission denied); run: {fix}"
    assert (result.code, problem in result.err) == (2, True), result.err
    assert paste(ordinary, fix).code == 0
    assert "no earlier run used --folder" in ordinary.go("status").err


@proves("run kbsync as the user who owns it")
def test_closed_state_of_a_folder_is_named_with_the_command_that_opens_it(ordinary: Sandbox) -> None:
    ordinary.state.mkdir(parents=True)
    ordinary.state.chmod(0)
    words = ("status", "--folder", ordinary.docs, "--state-dir", ordinary.state)
    result = ordinary.go(*words)
    fix = f"chmod u+rwX {ordinary.state}"
    assert (result.code, f"with --state-dir, or run: {fix}\n" in result.err) == (2, True), result.err
    assert paste(ordinary, fix).code == 0
    assert ordinary.go(*words).code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_closed_state_of_a_folder_that_belongs_to_another_user_is_named(ordinary: Sandbox) -> None:
    ordinary.state.mkdir(parents=True)
    ordinary.state.chmod(0)
    os.chown(ordinary.state, 4711, 4711)
    result = ordinary.go("status", "--folder", ordinary.docs, "--state-dir", ordinary.state)
    problem = f"{ordinary.state / 'folder.json'} can't be read (permission denied); "
    assert (result.code, problem in result.err) == (2, True), result.err
    assert result.err.endswith("--state-dir, or run kbsync as the user who owns it\n")


@pytest.mark.parametrize("mode", [0o644, 0o311])
def test_folder_that_its_owner_has_closed_is_named_with_the_command_that_opens_it(
    ordinary: Sandbox, mode: int
) -> None:
    ordinary.mirror({"a.md": "alpha"})
    ordinary.docs.chmod(mode)
    result, fix = ordinary.go("--once"), f"chmod u+rX {ordinary.docs}"
    problem = f"{ordinary.docs}: the folder is unreadable: permission denied; run: {fix};"
    assert (result.code, problem in result.err) == (3, True), result.err
    assert paste(ordinary, fix).code == 0
    assert ordinary.go("--once", "--json").check_success().json["uploaded"] == 0


def test_directory_that_cannot_be_entered_is_not_blamed_on_its_ignore_file(ordinary: Sandbox) -> None:
    ordinary.mirror({"a.md": "alpha", "sub/b.md": "beta"})
    folder = ordinary.docs / "sub"
    folder.chmod(0o600)  # as `chmod -R 600` leaves it
    result = ordinary.go("--once")
    problem = "sub/: cannot be entered: permission denied; give the user who runs kbsync execute access"
    assert (result.code, problem in result.words) == (1, True), result.err
    folder.chmod(0o700)
    assert ordinary.go("--once", "--json").check_success().json["uploaded"] == 0


@long
@pytest.mark.parametrize(("name", "mode"), [("", 0), (".", 0), (".", 0o500), ("index.db", 0)])
def test_index_that_its_owner_has_closed_is_named_with_the_command_that_opens_it(
    ordinary: Sandbox, name: str, mode: int
) -> None:
    ordinary.mirror({"a.md": "alpha"})
    base = ordinary.state / "kb" / "handbook"
    path = base / name if name else base.parent
    if mode:
        (base / "index.lock").unlink(missing_ok=True)
    ordinary.write("b.md", "beta")
    path.chmod(mode)
    result = ordinary.go("--once")
    fix = re.search(r"chmod (-R )?u\+rwX [^\s\"')]+", result.words)
    assert (result.code, bool(fix)) == (3, True), result.err
    assert fix is not None and paste(ordinary, fix[0]).code == 0
    assert ordinary.go("--once", "--json").check_success().json["uploaded"] == 1


@long
@proves("run: {}")
@pytest.mark.parametrize("closed", ["the state", "its directory", "the one above"])
def test_state_that_its_owner_has_closed_is_named_with_the_command_that_opens_it(
    ordinary: Sandbox, closed: str
) -> None:
    ordinary.mirror({"a.md": "alpha"})
    file = ordinary.state / "state.db"
    path = {"the state": file, "its directory": file.parent, "the one above": file.parent.parent}[closed]
    mode = path.stat().st_mode
    path.chmod(0)
    commands = (["status"], ["search", "alpha"], ["plan"], ["explain", "docs/a.md"], ["--once"])
    results = {words[0]: ordinary.go(*words) for words in commands}
    assert {name: result.code for name, result in results.items()} == dict.fromkeys(results, 2)
    fix = f"chmod u+rwX {path}"
    assert [name for name, result in results.items() if f"run: {fix}" not in result.err] == []
    assert paste(ordinary, fix).code == 0
    assert ordinary.go("status").code == 0
    assert path.stat().st_mode == mode


def test_path_that_cannot_be_checked_does_not_count_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, loop = tmp_path / "file", tmp_path / "loop"
    file.touch()
    loop.symlink_to(loop)
    assert exists(file)
    assert [path for path in (tmp_path / "missing", file / "below", loop) if exists(path)] == []

    def stat(path: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(PermissionError):
        exists(file)
    # It would return False from Python 3.14 on.
    assert re.findall(r"(?<!os\.path)\.exists\(", SOURCE) == []


@pytest.mark.parametrize("name", ["lock", "folder"])
def test_directory_in_the_place_of_a_state_file_is_named_with_a_fix(sandbox: Sandbox, name: str) -> None:
    sandbox.write("a.md", "alpha")
    (sandbox.root / "state" / name).mkdir(parents=True)
    result = sandbox.run("--once", "--folder", sandbox.docs, "--state-dir", sandbox.root / "state")
    assert result.code == 4
    file = sandbox.root / "state" / name
    assert f"{file} is not a file; rename it with: mv {file} {file}.misplaced" in result.words, result.err


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("state.db-wal", 2),
        ("state.db-shm", 2),
        ("kb/handbook/index.db-wal", 3),
        ("kb/handbook/index.db-shm", 3),
    ],
)
def test_closed_file_beside_a_database_is_named_with_the_command_that_opens_it(
    ordinary: Sandbox, name: str, code: int
) -> None:
    ordinary.mirror({"a.md": "alpha"})
    file = ordinary.state / name
    file.chmod(0)
    result = ordinary.go("--once")
    assert (result.code, f"the mode of {file} keeps its owner," in result.err) == (code, True), result.err
    result = ordinary.go("search", "alpha")
    assert (result.code, f"the mode of {file} keeps its owner," in result.err) == (2, True), result.err
    assert paste(ordinary, f"chmod -R u+rwX {file.parent}").code == 0
    assert f"run: chmod -R u+rwX {file.parent}\n" in result.err
    assert ordinary.go("search", "alpha").code == 0


def test_pass_that_fails_reports_its_own_reason_instead_of_an_earlier_one(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    base = sandbox.state / "kb" / "handbook"
    with contextlib.closing(Writer(base)):
        assert "in use by another kbsync" in sandbox.run("--once").err
    (base / "index.db-wal").unlink()
    (base / "index.db-wal").mkdir()
    result = sandbox.run("--once")
    assert (result.code, "index.db-wal is not a file" in result.err) == (4, True), result.err


def test_index_that_was_read_only_for_a_while_works_again(ordinary: Sandbox) -> None:
    ordinary.mirror({"a.md": "alpha"})
    file = ordinary.state / "kb" / "handbook" / "index.db"
    file.chmod(0o400)
    ordinary.write("b.md", "beta")
    assert ordinary.go("--once").code == 3
    assert ordinary.go("verify").code == 1  # SQLite gives an empty WAL the mode of its database
    file.chmod(0o600)
    assert ordinary.go("--once", "--json").check_success().json["uploaded"] == 1


@pytest.mark.parametrize("error", [apsw.ReadOnlyError("readonly database"), apsw.IOError("disk I/O error")])
def test_file_on_a_read_only_disk_is_not_a_problem_of_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: apsw.Error
) -> None:
    (tmp_path / "index.db").touch()
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)
    assert "chmod" in str(storage_error(tmp_path, error))
    real = os.statvfs(tmp_path)
    read_only = os.statvfs_result((*tuple(real)[:8], real.f_flag | os.ST_RDONLY, real.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    fix = "owner, mode and mount|kernel log"
    assert re.search(fix, str(storage_error(tmp_path, error)))
    with pytest.raises(StateError, match=fix), state_errors(tmp_path / "index.db"):
        raise error


@long
@pytest.mark.parametrize("name", ["index.lock", "scans.db-wal", ""])
def test_something_else_in_the_place_of_a_file_of_the_index_is_named_with_the_command_that_renames_it(
    sandbox: Sandbox, name: str
) -> None:
    sandbox.mirror({"a.md": "alpha"})
    path = sandbox.state / "kb" / "handbook" / name
    path.rename(sandbox.root / "before")
    path.mkdir() if name else path.touch()
    sandbox.write("b.md", "beta")
    result = sandbox.run("--once")
    fix = f"{path} is not a {'file' if name else 'directory'}; rename it with: mv {path} {path}.misplaced"
    assert (result.code, fix in result.words) == (4, True), result.err
    path.rename(sandbox.root / "misplaced")
    (sandbox.root / "before").rename(path)
    sandbox.run("--once").check_success()


def test_link_of_an_index_to_a_missing_disk_is_not_only_to_be_renamed(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    link, disk = sandbox.state / "kb", sandbox.root / "disk"
    link.rename(sandbox.root / "away")
    link.symlink_to(disk)
    sandbox.write("b.md", "beta")
    result = sandbox.go("--once", hurried=True)
    fix = f"{link} is a broken link; mount the disk that it leads to, or rename it with: mv {link} "
    assert (result.code, fix in result.words) == (4, True), result.err
    doctor = sandbox.run("doctor")
    assert (doctor.code, fix in doctor.out) == (4, True), doctor.out
    (sandbox.root / "away").rename(disk)
    sandbox.run("--once").check_success()


def test_database_of_another_program_in_the_place_of_the_state_is_never_deleted(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    sandbox.state.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(sandbox.state / "state.db")) as theirs:
        theirs.execute("CREATE TABLE theirs (x)")
    sandbox.run("--once").check_success()
    sandbox.run("forget", "handbook", "--yes").check_success()
    assert (sandbox.state / "state.db.foreign-1").is_file()


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_pipe_or_socket_in_the_place_of_the_lock_is_named_with_a_fix(sandbox: Sandbox, kind: int) -> None:
    sandbox.mirror({"a.md": "alpha"})
    (file := sandbox.state / "lock").unlink()
    os.mknod(file, kind | 0o600)
    for command in (["--once"], ["forget", "handbook", "--yes"]):
        result = sandbox.run(*command)
        fix = re.search(rf'{file} is not a file; rename it with: (mv [^"\n]+)', result.err)
        assert result.code == 4 and fix is not None, result.err
    subprocess.run(shlex.split(fix[1]), check=True)
    sandbox.run("--once").check_success()


@pytest.mark.parametrize(("name", "code"), [("index.db", 4), ("scans.db", 0)])
def test_pipe_in_the_place_of_an_index_blocks_no_search(sandbox: Sandbox, name: str, code: int) -> None:
    sandbox.mirror({"a.md": "alpha"})
    pipe(file := sandbox.state / "kb" / "handbook" / name)
    unblocking = threading.Timer(10, lambda: os.close(os.open(file, os.O_RDWR)))
    unblocking.start()
    result = sandbox.run("search", "alpha")
    unblocking.cancel()
    assert result.code == code
    assert (f"{name} is not a file; the next time kbsync starts, it will" in result.words) is (code == 4)
    sandbox.run("--once").check_success()
    assert file.is_file() and sandbox.search("alpha") == ["a.md"]
