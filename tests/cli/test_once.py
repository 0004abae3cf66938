"""`--once`: what it does, what it says at the end, and how it exits."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest

from kbsync.cli.commands import once
from kbsync.cli.context import choose
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices
from kbsync.cli.report import MirrorReport
from kbsync.engine.status import DocumentCounts, MirrorStatus
from kbsync.once import OnceEnd
from tests.cli.place import Place, words_of

ONCE_KEYS = {
    "version",
    "mirrors",
    "uploaded",
    "replaced",
    "renamed",
    "deleted",
    "held",
    "failed",
    "seconds",
}


def test_json_is_status_and_what_was_done(place: Place) -> None:
    place.write("a.md", "alpha")
    place.write("b.md", "beta")
    place.write("empty.md", "")
    place.configure()
    ran = place.run("--once", "--json")
    assert ran.code == 0
    assert set(ran.json) == ONCE_KEYS
    assert (ran.json["uploaded"], ran.json["replaced"], ran.json["deleted"]) == (2, 0, 0)
    assert ran.json["mirrors"][0]["documents"]["ready"] == 2
    assert ran.json["mirrors"][0]["documents"]["skipped"] == 1

    place.write("a.md", "alpha, changed")
    (place.docs / "b.md").rename(place.docs / "c.md")
    again = place.run("--once", "--json").json
    assert (again["uploaded"], again["replaced"], again["renamed"], again["deleted"]) == (0, 1, 1, 0)

    third = place.run("--once", "--json").json
    assert (third["uploaded"], third["replaced"], third["renamed"], third["deleted"]) == (0, 0, 0, 0)


def test_without_a_terminal_stdout_is_one_summary_line(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    ran = place.run("--once")
    assert ran.out.startswith("handbook: 1 document searchable, 1 uploaded; ")
    assert len(ran.out.splitlines()) == 1
    assert ran.err == ""
    assert "nothing changed" in place.run("--once").out


def test_quiet_says_nothing_when_all_is_well(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    ran = place.run("--once", "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_a_terminal_gets_progress_on_stderr_and_a_summary(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure("settle_longest: 1500ms")
    ran = place.run("--once", tty=True)
    assert ran.code == 0
    assert "1 document searchable" in ran.out
    assert "kbsync search QUERY" in ran.out


def test_a_document_that_fails_is_listed_with_its_reason(place: Place) -> None:
    place.write("good.md", "text")
    place.write("broken.pdf", "this is no pdf")
    place.configure()
    ran = place.run("--once")
    assert ran.code == 1
    assert "1 document searchable, 1 uploaded, 1 failed" in ran.out
    assert "handbook: broken.pdf: " in place.run("--once", tty=True).err
    shown = place.run("--once", "--json").json
    assert (shown["failed"], shown["mirrors"][0]["documents"]["failed"]) == (1, 1)
    quiet = place.run("--once", "-q")
    assert (quiet.code, quiet.out) == (1, "")
    assert "broken.pdf" in quiet.err


def test_what_failed_for_one_reason_is_one_line_with_the_first_of_them(place: Place) -> None:
    for number in range(25):
        place.write(f"{number:02}.pdf", f"this is no pdf {number}")
    for number in range(3):
        place.write(f"{number}.docx", f"this is no document {number}")
    place.configure()
    ran = place.run("--once", tty=True)
    assert ran.code == 1
    told = [line for line in ran.err.splitlines() if line.startswith("kbsync: ")]
    assert len(told) == 5
    assert told[0].startswith("kbsync: handbook: 25 documents failed: ")
    assert told[0].endswith("; run: kbsync status --documents")
    assert ": 00.pdf, 01.pdf, 02.pdf and 22 more; " in told[0]
    assert [line.split()[2] for line in told[1:4]] == ["0.docx:", "1.docx:", "2.docx:"]
    assert told[4].endswith("to retry all of them: kbsync retry")
    shown = place.run(*words_of(told[0].partition("run: ")[2]))
    assert shown.out.count("failed ") == 28
    assert "! handbook: 25 documents failed: " in place.run("status").out
    assert place.run("status", "--json").json["mirrors"][0]["documents"]["failed"] == 28


def failing(total: int, reasons: list[str]) -> MirrorReport:
    failed = tuple((f"{number}.md", reason) for number, reason in enumerate(reasons))
    return MirrorReport(MirrorStatus("handbook", "/", "local", DocumentCounts(failed=total), 0.0), failed)


def fill(place: Place, count: int = 8) -> None:
    for number in range(count):
        place.write(f"{number}.md", f"document number {number}")
    place.configure()
    assert place.run("--once").code == 0


def test_a_mass_deletion_is_held_and_the_cure_lets_exactly_it_go(place: Place) -> None:
    fill(place)
    for number in range(7):
        (place.docs / f"{number}.md").unlink()
    held = place.run("--once")
    assert held.code == 3
    assert "7 held" in held.out
    assert "3.md: its deletion is held" in place.run("--once", tty=True).err

    shown = place.run("status", "--json").json["mirrors"][0]
    assert shown["halt"]["reason"] == "deletions-held"
    assert shown["documents"]["held"] == 7
    planned = place.run("plan", "--json").json["mirrors"][0]
    assert planned["held"] == [f"{number}.md" for number in range(7)]

    approved = place.run(*words_of(shown["halt"]["cure"]))
    assert approved.code == 0
    assert all(f"- {number}.md" in approved.out for number in range(7))
    gone = place.run("--once", "--json")
    assert (gone.code, gone.json["deleted"], gone.json["held"]) == (0, 7, 0)
    hits = place.run("search", "document number", "--json").json["hits"]
    assert [hit["path"] for hit in hits] == ["7.md"]


def test_approve_without_anything_held_says_so(place: Place) -> None:
    fill(place, 1)
    ran = place.run("approve")
    assert (ran.code, ran.out) == (0, "nothing is held\n")
    assert place.run("approve", "nobody").code == 2


def test_a_missing_folder_waits_for_a_person_and_nothing_is_deleted(place: Place) -> None:
    fill(place, 2)
    place.docs.rename(place.root / "away")
    ran = place.run("--once")
    assert ran.code == 3
    assert "folder-missing" in ran.err
    assert place.run("--once", "--json").json["mirrors"][0]["halt"]["reason"] == "folder-missing"
    assert (
        "nothing is held" in place.run("approve").out
    )  # what comes in its place must not be accepted unseen
    (place.root / "away").rename(place.docs)
    back = place.run("--once", "--json")
    assert (back.code, back.json["uploaded"], back.json["deleted"]) == (0, 0, 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_pass_with_its_own_code(place: Place, number: int, code: int) -> None:
    place.write("a.md", "alpha")
    config = place.configure("settle_longest: 60s")
    config.write_text(config.read_text().replace("settle: 100ms", "settle: 50s"))
    process = place.start("--once")
    _wait_until_pending(place)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert out == b""


def _wait_until_pending(place: Place) -> None:
    """Until the pass has looked at the folder and waits for the file to be quiet."""
    deadline = time.monotonic() + 60
    while not place.run("status", "--json").json["mirrors"][0]["documents"]["pending"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_mirror_of_several_may_be_asked_for(place: Place) -> None:
    (place.root / "other").mkdir()
    (place.root / "other" / "b.md").write_text("beta")
    place.write("a.md", "alpha")
    config = place.configure()
    config.write_text(
        config.read_text() + f"  - {{name: other, folder: {place.root}/other, settle: 100ms}}\n"
    )
    ran = place.run("--once", "--json", "--mirror", "other")
    assert [mirror["name"] for mirror in ran.json["mirrors"]] == ["other"]
    both = place.run("--once", "--json").json
    assert [mirror["name"] for mirror in both["mirrors"]] == ["handbook", "other"]
    assert both["uploaded"] == 1
    assert place.run("--once").out.startswith("2 mirrors: 2 documents searchable, nothing changed; ")


def test_dry_run_is_plan(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    ran = place.run("--once", "--dry-run", "--json")
    assert ran.code == 0
    assert ran.json["mirrors"][0]["upload"] == ["a.md"]
    assert not place.state.exists()
    time.sleep(0.2)  # both are to find it quiet
    assert place.run("--once", "--dry-run").out == place.run("plan").out


def test_on_a_terminal_a_failure_is_told_once(place: Place) -> None:
    place.write("broken.pdf", "this is no pdf")
    place.configure()
    ran = place.run("--once", tty=True)
    assert ran.code == 1
    assert "document.failed" not in ran.err
    assert ran.err.count("broken.pdf: cannot be read") == 1
    for options in (["--log-format", "console"], ["--log-level", "warning"], ["--json"]):
        place.run("retry")
        assert "document.failed" in place.run("--once", *options, tty=True).err
    place.docs.rename(place.root / "away")
    halted = place.run("--once", tty=True)
    assert halted.code == 3
    assert "mirror.halted" not in halted.err
    assert halted.err.count("folder-missing") == 1
    assert "mirror.halted" in place.run("--once").err


def test_a_pass_that_is_interrupted_at_a_terminal_tells_what_failed_so_far(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    end = OnceEnd({}, {}, 1.0, signal=signal.SIGINT)
    installation = choose(Choices(folder=place.docs))
    once.report(installation, end, [failing(1, ["no text"])], Code.INTERRUPTED)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "kbsync: handbook: 0.md: no text"
    assert last.startswith("kbsync: interrupted; ")


def told_in(err: str) -> list[dict[str, Any]]:
    """Every line of stderr, each a JSON object."""
    return [json.loads(line) for line in err.splitlines()]


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_off_a_terminal_stderr_is_json_and_tells_each_failure_once(
    place: Place, quiet: tuple[str, ...]
) -> None:
    place.write("good.md", "text")
    place.write("broken.pdf", "this is no pdf")
    place.configure("include: ['*']")
    place.write("odd.bin", bytes(range(256)))
    for _ in range(2):  # what failed in an earlier pass is told as well
        ran = place.run("--once", *quiet)
        assert ran.code == 1
        told = told_in(ran.err)
        failed = {line["path"]: line for line in told if line["event"] == "document.failed"}
        assert sorted(failed) == ["broken.pdf", "odd.bin"]
        assert failed["broken.pdf"]["reason"].startswith("cannot be read: ")
        assert (ran.err.count("broken.pdf"), ran.err.count("odd.bin")) == (1, 1)
        [advice] = [line for line in told if line["event"] == "documents.failed"]
        assert (advice["count"], advice["cure"]) == (2, "kbsync retry")
