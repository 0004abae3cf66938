"""`status` says why a mirror lags behind its folder, and what helps: nothing beside a kbsync that runs."""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import replace

import apsw
import pytest

from kbsync.cli.commands.status_display import speed
from kbsync.cli.commands.status_watch import framed, in_one_line
from kbsync.cli.context import choose
from kbsync.cli.options import Choices
from kbsync.cli.output import Output
from kbsync.cli.report import MirrorReport, late
from kbsync.core.model import Status
from kbsync.engine.status import DocumentCounts, MirrorStatus
from kbsync.state import lock
from kbsync.state.mirrors import Halt
from kbsync.state.store import StateStore
from tests.cli.pasting import paste
from tests.cli.place import Place

NOW = 1_000_000.0
RUN = "run: kbsync --once"


@pytest.fixture
def waiting(place: Place) -> Place:
    """A mirror that was passed just now; one of its six documents waits for its turn since."""
    for number in range(6):
        place.write(f"{number}.md", f"document {number}")
    place.configure()
    assert place.run("--once").code == 0
    store = StateStore(place.state / "state.db")
    mirror = store.read_now(lambda tx: tx.mirrors.named("handbook"))
    assert mirror is not None
    store.submit(lambda tx: tx.entries.set_status(mirror.id, "0.md", Status.PENDING, time.time())).result()
    store.close()
    return place


def passed(place: Place, ago: float | None) -> None:
    """As if the last pass had ended so many seconds ago, or never."""
    with contextlib.closing(apsw.Connection(str(place.state / "state.db"))) as database:
        last = None if ago is None else time.time() - ago
        database.execute("UPDATE mirror SET last_pass = ?", (last,))


def wrong(place: Place, *words: str) -> list[str]:
    lines = place.run("status", *words).out.splitlines()
    return [line.removeprefix("! ") for line in lines if line.startswith("! ")]


# -- nobody works on it ---------------------------------------------------------------------------------


def test_what_waits_while_nothing_runs_is_said_with_the_command_and_no_time_left(waiting: Place) -> None:
    ran = waiting.run("status")
    assert ran.code == 0
    assert ran.out.splitlines()[0] == f"! handbook: 1 document waits and no kbsync is running; {RUN}"
    assert "documents/s" not in ran.out
    assert wrong(waiting, "-q") == wrong(waiting)
    with lock.held(waiting.state):
        ran = waiting.run("status")
        assert "!" not in ran.out
        assert re.search(r"^handbook: \d+\.\d documents/s, about .* left$", ran.out, re.MULTILINE)


def test_the_command_has_the_options_in_use_and_helps(place: Place) -> None:
    place.write("a.md", "alpha")
    options = ("--folder", str(place.docs), "--state-dir", str(place.root / "my state"))
    assert place.run("--once", *options).code == 0
    with contextlib.closing(apsw.Connection(str(place.root / "my state" / "state.db"))) as database:
        database.execute("UPDATE mirror SET last_pass = last_pass - 86400")
    (line,) = wrong(place, *options)
    assert line.startswith("docs: last pass 24 h ago and no kbsync is running; run: kbsync --once ")
    cure = line.partition("run: ")[2]
    assert shlex.split(cure)[2:] == [*options]
    assert paste(place, cure).code == 0
    assert wrong(place, *options) == []


@pytest.mark.parametrize(
    ("rescan", "ago", "is_told"), [("15m", 4000, False), ("15m", 8000, True), ("1d", 100_000, False)]
)
def test_who_makes_a_pass_now_and_then_is_not_told_of_it_in_between(
    place: Place, rescan: str, ago: int, is_told: bool
) -> None:
    place.write("a.md", "alpha")
    place.configure(f"rescan: {rescan}")
    place.run("--once")
    passed(place, ago)
    assert [RUN in line for line in wrong(place)] == [True] * is_told
    assert place.run("status", "--check").code == 0
    with lock.held(place.state):
        assert wrong(place) == []


def test_what_cannot_be_told_is_not_said(waiting: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCKS", waiting.root / "none")
    ran = waiting.run("status")
    assert "no kbsync is running" not in ran.out
    assert "documents/s" in ran.out


# -- what makes a check fail ----------------------------------------------------------------------------


def test_a_check_that_fails_over_age_says_how_old_it_is(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure("rescan: 10m")
    place.run("--once")
    passed(place, 240)
    for quiet in ((), ("-q",)):
        ran = place.run("status", "--check", "--max-age", "1m", *quiet)
        assert ran.code == 4
        assert ran.out.splitlines()[0] == f"! handbook: last pass 4 min ago, older than 1m; {RUN}"
    with lock.held(place.state):
        assert wrong(place, "--check", "--max-age", "1m") == [
            "handbook: last pass 4 min ago, older than 1m; the running kbsync makes one every 10m (rescan)"
        ]
    assert place.run("status", "--check", "--max-age", "5m", "-q").out == ""


def test_a_check_that_fails_over_what_waits_says_so(waiting: Place) -> None:
    with lock.held(waiting.state):
        ran = waiting.run("status", "--check", "-q")
        assert ran.code == 4
        assert re.fullmatch(r"! handbook: 1 document waits, the oldest for \d.\d s\n\n", ran.out)
        assert waiting.run("status", "-q").out == ""  # it does, and that is as it should be
        assert waiting.run("status", "--check", "--max-age", "1h", "-q").out == ""


def standing(
    *,
    last: float | None = NOW,
    pending: int = 0,
    for_s: float = 0.0,
    runs: bool | None = True,
    halt: Halt | None = None,
) -> MirrorReport:
    counts = DocumentCounts(ready=3, pending=pending)
    status = MirrorStatus("docs", "/docs", "local", counts, for_s, last, halt)
    return MirrorReport(status, rescan=900.0, is_worked_on=runs, at=NOW)


@pytest.mark.parametrize("runs", [True, False, None])
@pytest.mark.parametrize("max_age", [None, 60.0])
@pytest.mark.parametrize("last", [None, NOW - 30, NOW - 90, NOW - 90_000])
@pytest.mark.parametrize("pending", [0, 5])
@pytest.mark.parametrize("for_s", [30.0, 90.0])
def test_a_check_that_fails_always_says_why(
    place: Place, runs: bool | None, max_age: float | None, last: float | None, pending: int, for_s: float
) -> None:
    from kbsync.cli.commands.status import _checked

    stand = standing(last=last, pending=pending, for_s=for_s if pending else 0.0, runs=runs)
    said = list(late(choose(Choices(folder=place.docs)), stand, check=True, max_age=max_age))
    assert said or _checked([stand], max_age) == 0
    if runs:
        assert not any("kbsync --once" in line for line in said)  # it would find the state in use


def test_a_wait_that_is_too_long_is_told(place: Place) -> None:
    stand = standing(pending=5, for_s=600.0)
    said = list(late(choose(Choices(folder=place.docs)), stand, check=True, max_age=60.0))
    assert said == ["docs: 5 documents wait, the oldest for 10 min; the limit is 1m"]


def test_a_halt_speaks_for_what_waits_as_long_as_somebody_works(place: Place) -> None:
    installation = choose(Choices(folder=place.docs))
    halted = Halt("target-down", "no answer", "")
    assert list(late(installation, standing(pending=5, halt=halted), check=True)) == []
    for last in (NOW, None):
        (line,) = late(installation, standing(last=last, pending=5, halt=halted, runs=False))
        assert "no kbsync is running; run: kbsync --once" in line


# -- the first pass -------------------------------------------------------------------------------------


@pytest.fixture
def first(waiting: Place) -> Iterator[Place]:
    """A kbsync is at its first pass and has found six documents so far."""
    passed(waiting, None)
    with lock.held(waiting.state):
        yield waiting


def test_during_the_first_pass_nothing_is_to_be_run_and_no_time_is_left_yet(first: Place) -> None:
    ran = first.run("status")
    assert "!" not in ran.out
    assert "--once" not in ran.out
    last = ran.out.splitlines()[-1]
    assert last.startswith("handbook: first pass under way, 6 found so far")
    assert "left" not in last


def test_a_first_pass_that_was_cut_short_is_to_be_run_again(waiting: Place) -> None:
    passed(waiting, None)
    assert wrong(waiting) == [f"handbook: no pass has ended yet; {RUN}"]
    assert "documents/s" not in waiting.run("status").out


def test_a_mirror_that_the_running_kbsync_has_not_begun_is_told(place: Place) -> None:
    place.configure()
    place.state.mkdir(parents=True, mode=0o700)
    with lock.held(place.state):
        ran = place.run("status")
        assert "handbook: the first pass has not started" in ran.out
        assert "--once" not in ran.out


def test_watching_tells_of_a_first_pass_from_the_first_look_and_of_nobody_at_work() -> None:
    stand = standing(last=None, pending=5)
    assert speed(stand) == "docs: first pass under way, 8 found so far"
    assert speed(replace(stand, rate=2.0)) == "docs: first pass under way, 8 found so far, 2.0 documents/s"
    assert in_one_line(stand) == "docs: 3 ready, 5 pending; first pass under way"
    forsaken = standing(pending=5, runs=False)
    assert speed(replace(forsaken, rate=2.0)) == ""
    assert in_one_line(forsaken) == "docs: 3 ready, 5 pending; no kbsync is running"
    assert in_one_line(standing(runs=False)) == "docs: 3 ready"


def test_the_worst_comes_first_in_the_order_of_exit_codes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2, 3, 4, 1: what is held goes before what failed, and what passes in between."""

    def named(name: str, halt: str = "", **counts: int) -> MirrorReport:
        halted = Halt(halt, "something", "") if halt else None
        trouble = (("bad.md", "no text in it"),) if counts.get("failed") else ()
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
    frame = framed(Output(), choose(Choices(folder=place.docs)), stand)
    order = ["unread", "held", "down", "moving", "failed", "well"]
    assert [line.split()[0] for line in frame.table[-6:]] == order
    named_first = dict.fromkeys(line.split()[1].rstrip(":") for line in frame.wrong)
    assert [name for name in named_first if name in order] == ["unread", "held", "down", "failed"]
