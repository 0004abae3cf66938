"""Tests that the torture run reports what broke and how to repeat it, and continues."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.share import long
from tests.torture import contest
from tests.torture.__main__ import main
from tests.torture.contest import Contest, rounds
from tests.torture.exercise import PromiseBroken, Tally
from tests.torture.round import play


def script(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture
def endings(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the replacement for a round of each exercise."""
    scripts: dict[str, str] = {}
    monkeypatch.setattr(contest, "begin_round", lambda name, _seed: script(scripts[name]))
    return scripts


GOOD = """print('{"tally": {"crashes": 7}, "trouble": ""}')"""


def test_round_that_broke_a_promise_is_reported_with_the_command_that_repeats_it(
    endings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    endings |= {"good": GOOD, "bad": """print('{"tally": {"lost": 1}, "trouble": "a.md is lost"}')"""}
    played = Contest(2)
    played.play(rounds(["bad", "good"], 5, 2), None)
    out = capsys.readouterr().out
    assert "a.md is lost" in out
    assert "python -m tests.torture --only bad --seed 5 --rounds 1" in out
    assert (played.failed, played.scores["bad"].tally.lost) == (2, 2)
    assert (played.scores["good"].rounds, played.scores["good"].tally.crashes) == (2, 14)


@long
def test_round_that_dies_or_hangs_is_a_failure(
    endings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endings |= {"dies": "import os; os.abort()", "hangs": "import time; time.sleep(600)"}
    monkeypatch.setattr(contest, "LONGEST", 1.0)
    played = Contest(2)
    played.play(rounds(["dies", "hangs"], 1, 1), None)
    out = capsys.readouterr().out
    assert "without a tally" in out
    assert "it hung and was ended" in out
    assert played.failed == 2


def test_counts_before_a_broken_promise_are_kept(tmp_path: Path) -> None:
    def broken(_seed: int, _sandbox: Path) -> Tally:
        raise PromiseBroken("b.md twice", Tally(crashes=3, duplicated=1))

    tally, trouble = play(broken, 1)
    assert (tally.crashes, tally.duplicated) == (3, 1)
    assert "b.md twice" in trouble


def test_table_has_a_row_for_each_exercise_and_one_for_all(
    endings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    endings["crash-memory"] = GOOD
    assert main(["--only", "crash-memory", "--rounds", "3"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["exercise", "crash-memory", "all"]
    assert dict(zip(rows[0], rows[1], strict=True))["crashes"] == "21"


def test_prefix_selects_every_exercise_starting_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "life", "--list"]) == 0
    names = capsys.readouterr().out.split()
    assert len(names) > 1
    assert all(name.startswith("life-") for name in names)
    assert main(["--only", "soak", "--list"]) == 0
    assert capsys.readouterr().out.split() == ["soak"]
    assert main(["--only", "lif", "--list"]) == 2
