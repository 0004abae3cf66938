"""The report of a pass as lines of its log, where stderr has the log's form: what it did not tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbsync import logs
from kbsync.cli.mirror_report import LISTED, MirrorReport, worst_first
from kbsync.engine.status import DELETIONS_HELD, RECIPE_HELD
from kbsync.installation import Installation

LEVELS = {
    "mirror.halted": "error",
    "deletions.held": "warning",
    "recipe.held": "warning",
    "document.held": "warning",
    "document.failed": "warning",
    "document.pending": "warning",
    "documents.failed": "warning",
    "pass.unfinished": "warning",
    "pass.interrupted": "warning",
    "list.shortened": "warning",
    "run.failed": "error",
}
"""Every event that a pass may end with, and how it is logged."""

HELD = {DELETIONS_HELD: "deletions.held", RECIPE_HELD: "recipe.held"}
"""Halts that the log knows by events of their own."""

Key = tuple[str, str, str]


@dataclass(slots=True)
class ToldEvents:
    """What the log of this process has told: each failure is told once, as it happens or in the report."""

    has_report: bool
    keys: set[Key] = field(default_factory=set)

    def listen(self, fields: logs.Fields) -> bool:
        """Every event is wanted but what is held, of which the report knows more."""
        event = fields.get("event")
        if self.has_report and event in HELD.values():
            return False
        if event in LEVELS:
            self.keys.add(_key(fields))
        return True

    def has(self, **fields: str) -> bool:
        """The log told this event of this mirror and path."""
        return _key(fields) in self.keys


def _key(fields: Any) -> Key:
    return tuple(str(fields.get(name, "")) for name in ("event", "mirror", "path"))  # type: ignore[return-value]


def say(event: str, **fields: Any) -> None:
    """A line of the report."""
    logs.say(LEVELS[event], event, **fields)


def told_as_log(text: str, error: BaseException | None = None) -> None:
    """What ends a run too early, as a line of its log."""
    say("run.failed", detail=text, exc_info=error)


def log_problems(
    installation: Installation, reports: Sequence[MirrorReport], told_events: ToldEvents, *, quiet: bool
) -> None:
    """What is wrong at the end, the worst first; with `quiet` not what goes away by itself."""
    for each in worst_first(reports):
        for event, fields in (
            *(() if quiet and each.is_troubled else _halted(each)),
            *_held(installation, each),
            *(() if quiet else _unfinished(each)),
            *_failed(installation, each, told_events),
        ):
            if not told_events.has(event=event, mirror=each.status.name, path=fields.get("path", "")):
                say(event, mirror=each.status.name, **fields)
    failed = sum(each.status.documents.failed for each in reports)
    if failed:
        say(
            "documents.failed",
            count=failed,
            explain=installation.cure("explain PATH"),
            cure=installation.cure("retry"),
        )


Line = tuple[str, dict[str, Any]]


def _halted(report: MirrorReport) -> Iterator[Line]:
    halt = report.status.halt
    if halt is not None:
        fields = {"reason": halt.reason, "detail": halt.detail, "cure": halt.cure}
        yield HELD.get(halt.reason, "mirror.halted"), {"folder": report.status.folder, **fields}


def _held(installation: Installation, report: MirrorReport) -> Iterator[Line]:
    for path, why in report.held:
        yield "document.held", {"path": path, "reason": why}
    name, number, halt = report.status.name, report.status.documents.held, report.status.halt
    if number > len(report.held):
        yield _shortened(installation, "held", number - len(report.held))
    if report.held and halt is not None and halt.reason not in HELD:
        yield "deletions.held", {"count": number, "cure": installation.cure(f"approve {name}")}


def _unfinished(report: MirrorReport) -> Iterator[Line]:
    if report.trouble and not report.is_troubled:
        yield "pass.unfinished", {"reason": report.trouble}
    for path in report.busy[:LISTED]:
        yield "document.pending", {"path": path, "reason": "still being written; the next pass takes it"}


def _failed(installation: Installation, report: MirrorReport, told_events: ToldEvents) -> Iterator[Line]:
    name, untold = report.status.name, report.status.documents.failed
    untold -= sum(event == "document.failed" and mirror == name for event, mirror, _ in told_events.keys)
    for each in report.failed:
        is_told = told_events.has(event="document.failed", mirror=name, path=each.path)
        untold -= not is_told
        yield "document.failed", {"path": each.path, "reason": each.reason}
    if untold > 0:
        yield _shortened(installation, "failed", untold)


def _shortened(installation: Installation, kind: str, count: int) -> Line:
    return "list.shortened", {"of": kind, "count": count, "cure": installation.cure("status --documents")}
