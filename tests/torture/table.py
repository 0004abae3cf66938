"""The scores as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from tests.torture.contest import Score
from tests.torture.exercise import Tally

COUNTED = [one.name for one in fields(Tally)]
HEAD = ["exercise", "rounds", "failed", *COUNTED, "seconds"]


def as_table(scores: Mapping[str, Score], seconds: float) -> str:
    """A row for each exercise and one for all; the last time is that of the whole run."""
    rows = [HEAD, *(_row(name, score) for name, score in scores.items()), _row("all", _sum(scores, seconds))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: list[str], widths: list[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])


def _row(name: str, score: Score) -> list[str]:
    counted = [str(getattr(score.tally, column)) for column in COUNTED]
    return [name, str(score.rounds), str(score.failed), *counted, f"{score.seconds:.0f}"]


def _sum(scores: Mapping[str, Score], seconds: float) -> Score:
    whole = Score(seconds=seconds)
    for score in scores.values():
        whole.rounds += score.rounds
        whole.failed += score.failed
        whole.tally.add(score.tally)
    return whole
