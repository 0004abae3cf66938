"""Tests `kbsync status`: its formats, why a mirror lags, what fails a check, and `--watch`."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync import __version__, freshness
from kbsync.cli.commands.status_display import speed
from kbsync.cli.commands.status_watch import changes, framed, in_one_line
from kbsync.cli.context import choose
from kbsync.cli.options import Choices
from kbsync.cli.output import Output
from kbsync.cli.report import MirrorReport, late
from kbsync.config.model import MirrorConfig
from kbsync.config.places import folder_state_dir
from kbsync.core.text import format_size
from kbsync.engine.status import DocumentCounts, FileStatus, Items, MirrorStatus
from kbsync.file_systems import DISK_FAILED
from kbsync.index import better
from kbsync.state import db, lock
from kbsync.state.mirrors import DAEMON, DaemonFact, Halt, Pause
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore
from kbsync.targets.local.config import LocalTargetConfig
from tests.cli.conftest import ODD
from tests.cli.pasting import paste
from tests.cli.sandbox import LONGEST, Sandbox, eventually, fail_disk
from tests.cli.terminal import FIRST_SCREEN, SECOND_SCREEN, Begin
from tests.share import long


def test_status_json_has_the_promised_shape(mirrored: Sandbox) -> None:
    result = mirrored.run("status", "--json", "--folder", "docs")
    assert result.json["version"] == __version__
    assert result.json["running"] is None
    (mirror,) = result.json["mirrors"]
    keys = {"name", "folder", "target", "documents", "oldest_pending_s", "last_pass", "halt", "index_bytes"}
    assert set(mirror) == keys
    none = dict.fromkeys(("indexing", "pending", "failed", "held"), 0)
    assert mirror["documents"] == {"ready": 4, "skipped": 2, **none}
    assert (mirror["target"], mirror["halt"]) == ("local", None)
    assert mirror["last_pass"].endswith("Z")
    base, state = mirrored.home.rglob("index.db*"), mirrored.home.rglob("state.db*")
    assert mirror["index_bytes"] >= sum(file.stat().st_size for file in base) > 0
    assert result.json["state_bytes"] == sum(file.stat().st_size for file in state) > 0
    output = mirrored.run("status", "--folder", "docs").out
    assert format_size(mirror["index_bytes"]) in output
    assert f"state: {format_size(result.json['state_bytes'])} in " in output


def test_status_counts_passages_with_a_better_vector(
    mirrored: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalTargetConfig, "better_vectors", lambda *_: (1240, 9800))
    assert (
        "docs: better vectors for 1,240 of 9,800 passages" in mirrored.run("status", "--folder", "docs").out
    )
    (mirror,) = mirrored.run("status", "--json", "--folder", "docs").json["mirrors"]
    assert mirror["better_vectors"] == {"made": 1240, "passages": 9800}


def test_status_counts_passages_in_the_index_itself(
    mirrored: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(better, "is_installed", lambda: True)
    monkeypatch.setattr(better.E5, "name", "better/1")
    (mirror,) = mirrored.run("status", "--json", "--folder", "docs").json["mirrors"]
    assert mirror["better_vectors"] == {"made": 0, "passages": 4}


@long
def test_size_of_the_base_is_right_after_a_move_of_the_state(sandbox: Sandbox) -> None:
    def size_of(state: Path) -> int:
        result = sandbox.run("status", "--json", "--folder", "docs", "--state-dir", state)
        return int(result.json["mirrors"][0]["index_bytes"])

    sandbox.write("a.md", "alpha")
    sandbox.run("--once", "--folder", "docs").check_success()
    state = folder_state_dir(sandbox.docs, sandbox.state)
    size = size_of(state)
    moved = state.rename(sandbox.root / "moved")
    assert size_of(moved) == size > 0


def test_status_documents_lists_every_file_with_its_reason(mirrored: Sandbox) -> None:
    result = mirrored.run("status", "--json", "--documents", "--folder", "docs")
    items = {item["path"]: item for item in result.json["mirrors"][0]["items"]}
    assert set(items["install.md"]) == {"path", "state", "document_id", "size", "reason"}
    assert items["install.md"]["state"] == "ready"
    assert items["empty.md"]["state"] == "skipped"
    assert items["empty.md"]["document_id"] is None
    assert ODD in items
    output = mirrored.run("status", "--documents", "--folder", "docs", tty=True).out
    assert "KEPT" not in output  # a column only for mirrors with `deletions: never`
    assert "guides/hours.txt" in output
    assert "\x1b[2J" not in output


def test_damaged_state_of_one_folder_leaves_the_others_shown(sandbox: Sandbox) -> None:
    folders = [sandbox.home / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        (folder / "note.md").write_text("text")
        sandbox.run("--once", "--folder", folder).check_success()
    [state] = sandbox.home.rglob("a-*/state.db")
    state.write_bytes(b"no database" * 1000)
    status = sandbox.run("status", cwd=sandbox.home)
    assert (status.code, f"{folders[1]}: not running; last pass" in status.out) == (4, True), status.err
    assert f"{state} is damaged" in status.err
    first, second = sandbox.run("status", "--json", cwd=sandbox.home).json["mirrors"]
    assert "is damaged" in first["error"] and second["documents"]["ready"] == 1
    assert sandbox.run("status", "--check", cwd=sandbox.home).code == 4
    assert sandbox.run("status", "--folder", folders[0]).out == ""


@pytest.mark.parametrize("readable", [0, 1])
def test_json_stays_valid_when_the_state_fails_while_it_is_printed(
    mirrored: Sandbox, monkeypatch: pytest.MonkeyPatch, readable: int
) -> None:
    every = Items.__iter__

    def fails(items: Items) -> Iterator[FileStatus]:
        yield from itertools.islice(every(items), readable)
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(Items, "__iter__", fails)
    result = mirrored.run("status", "--json", "--documents", "--folder", "docs")
    [mirror] = result.json["mirrors"]
    assert (mirror["name"], len(mirror["items"])) == ("docs", readable)
    assert "the disk failed" in mirror["error"]
    assert (result.code, result.err) == (4, f"kbsync: {mirror['error']}\n")


def test_json_names_a_mirror_whose_state_fails_and_has_the_others(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (sandbox.home / name for name in ("a", "b", "c")):
        folder.mkdir()
        (folder / "note.md").write_text("text")
        sandbox.run("--once", "--folder", folder).check_success()

    def status_in(tx: Tx, mirror: MirrorConfig, *args: Any, **options: Any) -> MirrorStatus:
        if mirror.name == "b" and "documents" in options:
            raise apsw.IOError("disk I/O error")
        return freshness_status_in(tx, mirror, *args, **options)

    freshness_status_in = freshness.status_in
    monkeypatch.setattr(freshness, "status_in", status_in)
    result = sandbox.run("status", "--json", cwd=sandbox.home)
    assert [(item["name"], "error" in item) for item in result.json["mirrors"]] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]
    assert result.code == 4


@long
def test_check_exits_like_a_pass(sandbox: Sandbox) -> None:
    sandbox.prepare({"good.md": "text"})
    assert sandbox.run("status", "--check").code == 4  # never mirrored
    sandbox.run("--once")
    assert sandbox.run("status", "--check", "-q").code == 0
    assert sandbox.run("status", "--check", "-q").out == ""
    sandbox.write("broken.pdf", "this is no pdf")
    sandbox.run("--once")
    assert sandbox.run("status").code == 0
    assert sandbox.run("status", "--check").code == 1


NOW = 1_000_000.0


RUN = "run: kbsync --once"


def test_full_disk_of_the_state_is_a_halt_that_no_state_stores(
    mirrored: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "MIN_FREE_BYTES", 2**100)
    [mirror] = mirrored.run("status", "--json", "--folder", "docs").json["mirrors"]
    detail = mirror["halt"]["detail"]
    assert detail.endswith(f": {db.DISK_FULL}")
    assert mirror["halt"] == {"reason": "failing", "detail": detail, "cure": ""}
    checked = mirrored.run("status", "--check", "--folder", "docs")
    assert checked.code == 4
    assert f"work interrupted: {detail}" in checked.out


def test_failed_disk_of_the_state_is_a_halt_that_no_state_stores(
    mirrored: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_disk(mirrored.root, monkeypatch)
    [mirror] = mirrored.run("status", "--json", "--folder", "docs").json["mirrors"]
    assert mirror["halt"]["reason"] == "failing"
    assert mirror["halt"]["detail"].endswith(f": {DISK_FAILED}")
    once = mirrored.run("--once", "--folder", "docs")
    assert once.code == 2
    assert DISK_FAILED in once.err


def passed(sandbox: Sandbox, ago: float | None) -> None:
    """Set the end of the last pass to this many seconds ago, or to never."""
    with contextlib.closing(apsw.Connection(str(sandbox.state / "state.db"))) as database:
        last = None if ago is None else time.time() - ago
        database.execute("UPDATE mirror SET last_pass = ?", (last,))


def wrong(sandbox: Sandbox, *words: str) -> list[str]:
    lines = sandbox.run("status", *words).out.splitlines()
    return [line.removeprefix("! ") for line in lines if line.startswith("! ")]


# -- whether kbsync runs -----------------------------------------------------------------------------------


def runs(sandbox: Sandbox, *words: str) -> str:
    """Return the first line."""
    return sandbox.run("status", *words).out.splitlines()[0]


@long
def test_first_line_distinguishes_a_running_daemon_from_a_killed_one(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    assert runs(sandbox) == "not running; no pass has finished yet"
    daemon = sandbox.watch()
    daemon.wait_for_event("document.ready")
    daemon.wait_for_event("daemon.watching")
    number = daemon.process.pid
    assert re.fullmatch(rf"running since \d\d:\d\d \(pid {number}\)", runs(sandbox))
    running = sandbox.run("status", "--json").json["running"]
    assert running["pid"] == number
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", running["since"])
    daemon.send_signal(signal.SIGKILL)
    daemon.process.wait()
    assert sandbox.run("status", "--json").json["running"] is None
    assert re.fullmatch(r"not running; last pass \d\.\d s ago", runs(sandbox))
    assert sandbox.run("status", "-q").out == ""


@long
def test_status_says_while_a_folder_is_polled_why_and_how_often(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"}, "observer: polling")
    why = f"{sandbox.docs} is polled: `observer: polling` is set"
    polled = f"handbook: {why}; kbsync scans the folder every 10 s"

    def is_shown() -> bool:
        return polled in sandbox.run("status").out.splitlines()

    daemon = sandbox.watch(until="watch.started")
    eventually(is_shown)
    sandbox.run("pause").check_success()
    assert not is_shown(), "a paused mirror reads no folder"
    sandbox.run("resume").check_success()
    daemon.send_signal(signal.SIGKILL)
    daemon.process.wait()
    assert not is_shown()
    sandbox.configure("observer: native")
    daemon = sandbox.watch(until="watch.started")
    eventually(lambda: not is_shown())
    assert "is polled" not in sandbox.run("status").out


@long
def test_start_time_includes_its_date_unless_it_is_today(waiting: Sandbox) -> None:
    with lock.held(waiting.state):
        os.utime(waiting.state / "lock", (NOW, NOW))
        assert re.fullmatch(r"running since 1970-01-1\d \d\d:\d\d \(pid \d+\)", runs(waiting))
        assert waiting.run("status", "--json").json["running"]["since"] == "1970-01-12T13:46:40Z"


@long
def test_status_without_a_config_shows_every_known_folder(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    other = sandbox.root / "sub" / "docs"
    other.mkdir(parents=True)
    (other / "b.md").write_text("beta")
    for folder in (sandbox.docs, other):
        assert sandbox.run("--once", "--folder", folder).code == 0
    every = sandbox.run("status", "--json").json
    assert every["running"] is None
    status_report = {mirror["folder"]: mirror for mirror in every["mirrors"]}
    assert list(status_report) == [str(sandbox.docs), str(other)]
    assert all(mirror["documents"]["ready"] == 1 and mirror["last_pass"] for mirror in status_report.values())
    for folder in (sandbox.docs, other):  # in each of them, that mirror is meant
        inside = sandbox.run("status", "--json", cwd=folder).json
        assert [mirror["folder"] for mirror in inside["mirrors"]] == [str(folder)]
    assert sandbox.run("status", "--check", "--max-age", "1h").code == 0

    daemon = sandbox.watch("--folder", other)
    daemon.wait_for_event("daemon.watching")
    lines = sandbox.run("status").out.splitlines()
    assert re.fullmatch(rf"{sandbox.docs}: not running; last pass \d+(\.\d)? (s|min) ago", lines[0])
    assert re.fullmatch(rf"{other}: running since \d\d:\d\d \(pid {daemon.process.pid}\)", lines[1])
    first, second = sandbox.run("status", "--json", "--documents").json["mirrors"]
    assert (first["running"], second["running"]["pid"]) == (None, daemon.process.pid)
    assert [item["path"] for item in second["items"]] == ["b.md"]
    (other / "broken.pdf").write_text("no pdf")
    daemon.wait_for_event("document.failed")
    assert sandbox.run("status", "--check", "-q").code == 1
    result = sandbox.run("status", "--watch")
    assert result.code == 2 and str(other) in result.err
    assert (
        "there is no mirror 'dcs'; did you mean docs? Known mirrors: docs, docs"
        in sandbox.run("status", "--mirror", "dcs").err
    )
    assert sandbox.run("search", "beta").code == 2  # the folder is ambiguous
    assert daemon.end() == 0


@long
def test_single_pass_is_not_shown_as_a_daemon(waiting: Sandbox) -> None:
    with lock.held(waiting.state, keeps_running=False):
        assert re.match(
            r"no daemon; a single pass or command has been running since \d\d:\d\d", runs(waiting)
        )
        # What an earlier daemon left in the state when it was killed.
        store = StateStore(waiting.state / "state.db", check=False)
        store.submit(lambda tx: tx.meta.set(DaemonFact.REFUSED_CONFIG, DAEMON, "it is broken")).result()
        store.close()
        assert "refused the changed config" not in waiting.run("status").out
        assert waiting.run("status", "--json").json["running"] is None


@long
def test_unknown_daemon_state_is_reported_as_unknown(
    waiting: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "NAMESPACE", waiting.config)  # of another container
    monkeypatch.setattr(lock, "LOCKS", waiting.docs / "none")
    assert runs(waiting).startswith("can't tell from here whether kbsync is running; last pass ")


# -- no running kbsync ----------------------------------------------------------------------------------


@long
def test_pending_work_without_a_running_kbsync_shows_the_command_and_no_estimate(waiting: Sandbox) -> None:
    result = waiting.run("status")
    assert result.code == 0
    assert result.out.splitlines()[1] == f"! handbook: 1 document is waiting and kbsync isn't running; {RUN}"
    assert "documents/s" not in result.out
    assert wrong(waiting, "-q") == wrong(waiting)
    assert waiting.run("status", "-q").out.count("\n") == len(wrong(waiting))
    with lock.held(waiting.state):
        result = waiting.run("status")
        assert "!" not in result.out
        assert re.search(r"^handbook: \d+\.\d documents/s, about .* left$", result.out, re.MULTILINE)
        with contextlib.closing(apsw.Connection(str(waiting.state / "state.db"))) as database:
            database.execute("UPDATE upload SET accepted_at = accepted_at - 3600")
        assert "documents/s" not in waiting.run("status").out  # that was an hour ago


@long
def test_suggested_command_repeats_the_options_and_works(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    options = ("--folder", str(sandbox.docs), "--state-dir", str(sandbox.root / "my state"))
    assert sandbox.run("--once", *options).code == 0
    with contextlib.closing(apsw.Connection(str(sandbox.root / "my state" / "state.db"))) as database:
        database.execute("UPDATE mirror SET last_pass = last_pass - 86400")
    (line,) = wrong(sandbox, *options)
    assert line.startswith("docs: last pass 24 h ago and kbsync isn't running; run: kbsync --once ")
    fix = line.partition("run: ")[2]
    assert shlex.split(fix)[2:] == [*options]
    assert paste(sandbox, fix).code == 0
    assert wrong(sandbox, *options) == []


@long
@pytest.mark.parametrize(
    ("rescan", "ago", "is_reported"), [("15m", 4000, False), ("15m", 8000, True), ("1d", 100_000, False)]
)
def test_occasional_passes_cause_no_not_running_warning(
    sandbox: Sandbox, rescan: str, ago: int, is_reported: bool
) -> None:
    sandbox.mirror({"a.md": "alpha"}, f"rescan: {rescan}")
    passed(sandbox, ago)
    assert [RUN in line for line in wrong(sandbox)] == [True] * is_reported
    # If a line reports it, so does the exit code.
    assert sandbox.run("status", "--check").code == (4 if is_reported else 0)
    with lock.held(sandbox.state):
        assert wrong(sandbox) == []


# -- failing checks ----------------------------------------------------------------------------------------


@long
def test_check_failing_on_age_gives_the_age(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"}, "rescan: 10m")
    passed(sandbox, 240)
    for quiet, line in (((), 1), (("-q",), 0)):
        result = sandbox.run("status", "--check", "--max-age", "1m", *quiet)
        assert result.code == 4
        assert result.out.splitlines()[line] == f"! handbook: last pass 4 min ago, older than 1m; {RUN}"
    with lock.held(sandbox.state):
        assert wrong(sandbox, "--check", "--max-age", "1m") == [
            "handbook: last pass 4 min ago, older than 1m; kbsync starts a pass every 10m (rescan)"
        ]
    for limit in ("5m", f"{'9' * 400}h"):
        assert sandbox.run("status", "--check", "--max-age", limit, "-q").out == ""


@long
def test_check_failing_on_pending_work_says_so(waiting: Sandbox) -> None:
    with lock.held(waiting.state):
        result = waiting.run("status", "--check", "-q")
        assert result.code == 4
        assert re.fullmatch(r"! handbook: 1 document is waiting, the oldest for \d.\d s\n", result.out)
        assert waiting.run("status", "-q").out == ""  # it runs, as it should
        assert waiting.run("status", "--check", "--max-age", "1h", "-q").out == ""
    long = standing(pending=5, for_s=600.0)
    reasons = list(late(choose(Choices(folder=waiting.docs)), long, check=True, max_age=60.0))
    assert reasons == ["docs: 5 documents are waiting, the oldest for 10 min; the limit is 1m"]


def standing(
    ready: int = 3,
    *,
    last: float | None = NOW,
    pending: int = 0,
    for_s: float = 0.0,
    runs: bool | None = True,
    halt: Halt | None = None,
) -> MirrorReport:
    counts = DocumentCounts(ready=ready, pending=pending)
    status = MirrorStatus("docs", "/docs", "local", counts, for_s, last, halt)
    return MirrorReport(status, rescan=900.0, is_worked_on=runs, at=NOW)


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("max_age", [None, 60.0])
@pytest.mark.parametrize("last", [None, NOW - 90_000])
@pytest.mark.parametrize("pending", [0, 5])
def test_check_fails_in_quiet_hours_only_without_a_daemon_or_for_a_problem(
    runs: bool, max_age: float | None, last: float | None, pending: int
) -> None:
    from kbsync.cli.commands.status import _checked

    quiet = Pause(NOW - 3600.0, NOW + 3600.0, is_quiet=True)

    def check(halt: Halt | None) -> int:
        stand = standing(last=last, pending=pending, for_s=9000.0 if pending else 0.0, runs=runs, halt=halt)
        return _checked([replace(stand, status=replace(stand.status, pause=quiet))], max_age)

    assert (check(None) == 0) == runs
    assert check(Halt("credentials", "no", "")) == 3


@pytest.mark.parametrize("runs", [True, False, None])
@pytest.mark.parametrize("max_age", [None, 60.0])
@pytest.mark.parametrize("last", [None, NOW - 30, NOW - 90, NOW - 90_000])
@pytest.mark.parametrize("pending", [0, 5])
@pytest.mark.parametrize("for_s", [30.0, 90.0])
def test_failing_check_always_gives_a_reason(
    sandbox: Sandbox, runs: bool | None, max_age: float | None, last: float | None, pending: int, for_s: float
) -> None:
    from kbsync.cli.commands.status import _checked

    stand = standing(last=last, pending=pending, for_s=for_s if pending else 0.0, runs=runs)
    reasons = list(late(choose(Choices(folder=sandbox.docs)), stand, check=True, max_age=max_age))
    assert reasons or _checked([stand], max_age) == 0
    if runs:
        assert not any("kbsync --once" in line for line in reasons)  # the state is in use


def test_halt_replaces_the_pending_work_hint_while_a_kbsync_runs(sandbox: Sandbox) -> None:
    installation = choose(Choices(folder=sandbox.docs))
    halted = Halt("target-down", "no answer", "")
    assert list(late(installation, standing(pending=5, halt=halted), check=True)) == []
    for last in (NOW, None):
        (line,) = late(installation, standing(last=last, pending=5, halt=halted, runs=False))
        assert "kbsync isn't running; run: kbsync --once" in line


# -- the first pass -------------------------------------------------------------------------------------


@long
def test_running_first_pass_suggests_nothing_and_an_interrupted_one_suggests_a_command(
    waiting: Sandbox,
) -> None:
    passed(waiting, None)
    with lock.held(waiting.state):
        out = waiting.run("status").out
    assert "!" not in out
    assert "--once" not in out
    last = out.splitlines()[-1]
    assert last.startswith("handbook: the first pass is under way, 6 found so far")
    assert "left" not in last
    assert wrong(waiting) == [f"handbook: no pass has finished yet; {RUN}"]
    assert "documents/s" not in waiting.run("status").out


def test_mirror_not_started_by_the_running_kbsync_is_reported(sandbox: Sandbox) -> None:
    sandbox.configure()
    sandbox.state.mkdir(parents=True, mode=0o700)
    with lock.held(sandbox.state):
        out = sandbox.run("status").out
        check = sandbox.run("status", "--check")
        others = [sandbox.run("search", "alpha").err, sandbox.run("verify").err]
    assert "handbook: the first pass has not started" in out
    for error in others:
        assert "has not been mirrored yet; the first pass has not started; check progress: kbsync" in error
    assert "--once" not in out
    assert (check.code, "! handbook: no pass has finished yet" in check.out) == (4, True)
    assert "under way" not in check.out


def test_watch_shows_a_first_pass_from_the_start_and_when_nothing_runs() -> None:
    stand = standing(last=None, pending=5)
    assert speed(stand) == "docs: the first pass is under way, 8 found so far"
    assert speed(replace(stand, rate=2.0)).endswith("8 found so far, 2.0 documents/s")
    assert in_one_line(stand) == "docs: 3 ready, 5 pending; the first pass is under way"
    down = replace(standing(pending=5, halt=Halt("target-down", "no response", "")), rate=2.0)
    assert speed(down) == ""
    waiting = replace(standing(pending=5, halt=Halt("deletions-held", "9 deletions", "")), rate=2.0)
    assert speed(waiting) == "docs: 2.0 documents/s, about 2.5 s left"
    forsaken = standing(pending=5, runs=False)
    assert speed(replace(forsaken, rate=2.0)) == ""
    assert in_one_line(forsaken) == "docs: 3 ready, 5 pending; kbsync isn't running"
    assert in_one_line(standing(runs=False)) == "docs: 3 ready"


def test_most_severe_problem_comes_first_in_exit_code_order(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2, 3, 4, 1: held documents rank before failed ones, temporary problems between them."""

    def named(name: str, halt: str = "", **counts: int) -> MirrorReport:
        halted = Halt(halt, "something", "") if halt else None
        trouble = (("bad.md", "no text found"),) if counts.get("failed") else ()
        return MirrorReport(
            MirrorStatus(name, "/", "local", DocumentCounts(**counts), 0.0, NOW, halted), trouble, at=NOW
        )

    stand = [
        named("well", ready=1),
        named("failed", failed=1),
        named("down", "target-down", pending=1),
        named("moving", pending=1),
        named("held", "deletions-held", held=40),
        named("unread", "config"),
    ]
    monkeypatch.setenv("NO_COLOR", "1")
    table, wrong = framed(Output(), choose(Choices(folder=sandbox.docs)), stand)
    order = ["unread", "held", "down", "moving", "failed", "well"]
    assert [line.split()[0] for line in table[-6:]] == order
    named_first = dict.fromkeys(line.split()[1].rstrip(":") for line in wrong)
    assert [name for name in named_first if name in order] == ["unread", "held", "down", "failed"]


def test_watch_prints_one_line_per_change_without_a_terminal() -> None:
    halt = Halt("quota", "no money", "kbsync retry")
    reports = [standing(1, pending=1)] * 2 + [standing(2)] + [standing(2, halt=halt)] * 2
    sights = iter([[report] for report in reports])

    def read_reports() -> list[MirrorReport]:
        with contextlib.suppress(StopIteration):
            return next(sights)
        raise KeyboardInterrupt

    messages = list[str]()
    with pytest.raises(KeyboardInterrupt):
        for line in changes(read_reports, lambda _seconds: None, lambda: 0.0):
            messages.append(line)
    assert messages == [
        "1970-01-01T00:00:00Z docs: 1 ready, 1 pending",
        "1970-01-01T00:00:00Z docs: 2 ready",
        "1970-01-01T00:00:00Z docs: 2 ready; account used up: no money; then run: kbsync retry",
    ]


def test_watch_ends_once_nobody_reads_it(mirrored: Sandbox) -> None:
    watching = mirrored.start("status", "--watch", "--folder", "docs")
    assert watching.stdout is not None and b"docs: " in watching.stdout.readline()
    watching.stdout.close()
    assert watching.wait(LONGEST) == 0
    assert watching.stderr is not None
    with watching.stderr as errors:
        assert errors.read() == b""


def failing(count: int) -> MirrorReport:
    report = standing(3, halt=Halt("credentials", "the key is refused", "put another one there"))
    documents = DocumentCounts(ready=3, failed=count)
    failed = tuple((f"{number}.md", f"damaged at byte {number}") for number in range(count))
    return replace(report, status=replace(report.status, documents=documents), failed=failed)


def test_watch_shows_the_table_and_every_problem(sandbox: Sandbox) -> None:
    table, wrong = framed(Output(), choose(Choices(folder=sandbox.docs)), [failing(30)])
    assert table[0].startswith("not running; last pass ")
    assert "MIRROR" in table[1]
    assert "the key is refused" in wrong[0] and "put another one there" in wrong[0]


def test_watch_wraps_lines_that_are_longer_than_the_terminal_is_wide(
    terminal: Begin, sandbox: Sandbox
) -> None:
    sandbox.prepare({"a.pdf": "no PDF"})
    assert sandbox.run("--once").code == 1
    watching = terminal(sandbox, "status", "--watch", columns=40)
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\s", "", watching.until("Ctrl-C to quit"))
    [line, *_] = sandbox.run("status", "-q").out.splitlines()
    assert len(line) > 40 and re.sub(r"\s", "", line) in screen
    watching.process.send_signal(signal.SIGINT)
    assert watching.end() == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_watch_restores_the_terminal(terminal: Begin, mirrored: Sandbox, number: int, code: int) -> None:
    watching = terminal(mirrored, "status", "--watch", "--folder", "docs")
    watching.until(SECOND_SCREEN)
    screen = watching.until("Ctrl-C to quit")
    assert "MIRROR" in screen
    watching.process.send_signal(number)
    watching.until(FIRST_SCREEN)
    assert watching.end() == code
    assert "Traceback" not in watching.output
    assert "MIRROR" in watching.output  # the last frame stays


@long
def test_promises_a_target_cannot_keep_are_listed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status`, `doctor` and the JSON report them; they aren't a problem that anybody could fix."""
    instead = "a changed file is not found while it is indexed"
    monkeypatch.setattr(LocalTargetConfig, "unkept", {2: instead})
    sandbox.prepare({"a.md": "text"})
    sentence = f"not kept here (never absent while replaced): {instead}"
    for _ in range(2):  # before the first pass and after it
        assert f"handbook: promise 2 {sentence}" in sandbox.run("status").out
        assert sandbox.status()["unkept"] == {"2": instead}
        sandbox.run("--once")
    assert sandbox.run("status", "-q").out == ""
    result = sandbox.run("doctor", "--json")
    expected = {"name": "handbook: promise 2", "result": "ok", "detail": sentence, "cure": ""}
    assert expected in result.json["checks"]
    assert result.code == 0


def test_other_state_of_a_folder_is_named_with_the_command_that_deletes_it(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    sandbox.run("--once", "--folder", sandbox.docs).check_success()
    sandbox.configure()
    sandbox.run("--once").check_success()
    note = r"\nhandbook: (\S+) still has the documents mirrored with --folder; to delete them: (.+)"
    named = re.search(note, sandbox.run("status").out)
    assert named is not None
    # Under another path it is the same state, whose documents the user needs.
    link = sandbox.root / "link"
    link.symlink_to(named[1])
    assert "still has" not in sandbox.run("status", "--folder", sandbox.docs, "--state-dir", link).out
    assert paste(sandbox, f"{named[2]} --yes").code == 0
    assert not Path(named[1]).exists()
    assert "still has" not in sandbox.run("status").out
