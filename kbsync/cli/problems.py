"""What is wrong with mirrors, at the end of a pass and in `status`, and the summary of a pass.

One list of problems has two writers: lines for a person, and events where stderr has the form of a log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kbsync.cli.mirror_report import LISTED, FailedPath, MirrorReport, worst_first
from kbsync.cli.output import counted
from kbsync.config.kinds import write_duration
from kbsync.core.text import lasting, printable
from kbsync.engine.status import DELETIONS_HELD, RECIPE_HELD
from kbsync.installation import Installation

if TYPE_CHECKING:
    from kbsync.engine.mirror import PassCounts
    from kbsync.logs import Fields
    from kbsync.once import OnceEnd


FEW = 3
"""Documents with one reason that are told one by one; of more only these are named."""


def summary(end: OnceEnd, reports: Sequence[MirrorReport], *, apart: bool) -> Iterator[str]:
    """What was done: one line for all mirrors, or with `apart` one for each."""
    if apart or len(reports) == 1:
        for each in reports:
            yield _line(each.status.name, [end.runs[each.status.name].counts], [each], end.seconds)
    else:
        counts = [run.counts for run in end.runs.values()]
        yield _line(counted(len(reports), "mirror"), counts, reports, end.seconds)


def _line(name: str, counts: Sequence[PassCounts], reports: Sequence[MirrorReport], seconds: float) -> str:
    def documents(state: str) -> int:
        return sum(each.status.documents.to_json()[state] or 0 for each in reports)

    # What is held serves in its old version, so it is searchable.
    parts = [f"{counted(documents('ready') + documents('held'), 'document')} searchable"]
    done = [
        f"{number:,} {word}"
        for word in ("uploaded", "replaced", "renamed", "deleted")
        if (number := sum(getattr(count, word) for count in counts))
    ]
    parts += done or ["nothing changed"]
    for state in ("held", "failed", "pending", "indexing", "skipped"):
        if number := documents(state):
            parts.append(f"{number:,} {state}")
    return f"{name}: {', '.join(parts)}; {lasting(seconds)}"


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


@dataclass(frozen=True, slots=True)
class MirrorProblem:
    """What keeps a mirror waiting: the line for a person, and the event for a log ("" where it has none)."""

    line: str
    event: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


def waiting(installation: Installation, report: MirrorReport, *, quiet: bool) -> Iterator[MirrorProblem]:
    """What halts a mirror, or is held or unfinished in it; with `quiet` not what goes away by itself."""
    name, halt, number = report.status.name, report.status.halt, report.status.documents.held

    def problem(line: str, event: str = "", **fields: Any) -> MirrorProblem:
        return MirrorProblem(printable(f"{name}: {line}"), event, fields)

    if halt is not None and not (quiet and report.is_troubled):
        cure = f"; cure: {halt.cure}" if halt.cure else ""
        yield problem(
            f"{halt.reason}: {halt.detail}{cure}",
            HELD.get(halt.reason, "mirror.halted"),
            folder=report.status.folder,
            reason=halt.reason,
            detail=halt.detail,
            cure=halt.cure,
        )
    for path, why in report.held:
        yield problem(f"{path}: {why}", "document.held", path=path, reason=why)
    if (more := number - len(report.held)) > 0:
        every = installation.cure("status --documents")
        line = f"… and {more:,} more: {every}"
        yield problem(line, "list.shortened", of="held", count=more, cure=every)
    # A halt over what is held says how to approve it; any other halt speaks of something else.
    if report.held and halt is not None and halt.reason not in HELD:
        approve = installation.cure(f"approve {name}")
        yield problem(f"to approve what is held: {approve}", "deletions.held", count=number, cure=approve)
    if quiet:
        return
    if report.trouble and not report.is_troubled:
        line = f"{report.trouble}; the next pass goes on from there"
        yield problem(line, "pass.unfinished", reason=report.trouble)
    for path in report.busy[:LISTED]:
        why = "still being written; the next pass takes it"
        yield problem(f"{path}: {why}", "document.pending", path=path, reason=why)
    if (more := len(report.busy) - LISTED) > 0:
        yield problem(f"… and {more:,} more")


def halts(installation: Installation, reports: Sequence[MirrorReport], *, quiet: bool) -> Iterator[str]:
    """What keeps whole mirrors waiting, the worst first, in lines for a person."""
    for each in worst_first(reports):
        yield from (one.line for one in waiting(installation, each, quiet=quiet))


def failures(installation: Installation, reports: Sequence[MirrorReport]) -> Iterator[str]:
    """The documents that failed, and what to do about them.

    What many share is on one line, then the others, a line each: as many lines as are listed of anything.
    """
    every = installation.cure("status --documents")
    for report in worst_first(reports):
        name = report.status.name
        left = max(report.status.documents.failed, len(report.failed))
        for reason, paths in _by_reason(report.failed)[:LISTED]:
            left -= len(paths)
            line = f"{paths[0]}: {reason}"
            if len(paths) > FEW:
                named = ", ".join(paths[:FEW])
                line = f"{len(paths):,} documents failed: {reason}: {named} and {len(paths) - FEW:,} more"
                line += f"; run: {every}"
            yield f"{name}: {printable(line)}"
        if left:
            yield f"{name}: … and {left:,} more: {every}"
    if any(each.status.documents.failed for each in reports):
        explain, retry = installation.cure("explain PATH"), installation.cure("retry")
        yield f"to see why one of them failed: {explain}; to retry all of them: {retry}"


def _by_reason(failed: Sequence[FailedPath]) -> list[tuple[str, list[str]]]:
    """Reasons, each with the paths that share it where they are many; a path of its own for the others."""
    shared = dict[str, list[str]]()
    for each in failed:
        shared.setdefault(each.reason, []).append(each.path)
    many = {reason: paths for reason, paths in shared.items() if len(paths) > FEW}
    return [*many.items(), *((each.reason, [each.path]) for each in failed if each.reason not in many)]


@dataclass(slots=True)
class ToldEvents:
    """What the log of this process has told: each failure is told once, as it happens or in the report.

    `keys`: event, mirror and path of each.
    """

    has_report: bool
    keys: set[tuple[str, str, str]] = field(default_factory=set)

    def listen(self, fields: Fields) -> bool:
        """Every event is wanted but what is held, of which the report knows more."""
        event = fields.get("event")
        if self.has_report and event in HELD.values():
            return False
        if event in LEVELS:
            self.keys.add((str(event), str(fields.get("mirror", "")), str(fields.get("path", ""))))
        return True


def say(event: str, **fields: Any) -> None:
    """A line of the report, where stderr has the form of a log."""
    from kbsync import logs  # structlog, which `status` does without

    logs.say(LEVELS[event], event, **fields)


def told_as_log(text: str, error: BaseException | None = None) -> None:
    """What ends a run too early, as a line of its log."""
    say("run.failed", detail=text, exc_info=error)


def log_problems(
    installation: Installation, reports: Sequence[MirrorReport], told: ToldEvents, *, quiet: bool
) -> None:
    """What is wrong at the end as events, the worst first: what the log did not tell before."""
    for each in worst_first(reports):
        name = each.status.name
        for problem in waiting(installation, each, quiet=quiet):
            key = (problem.event, name, str(problem.fields.get("path", "")))
            if problem.event and key not in told.keys:
                say(problem.event, mirror=name, **problem.fields)
        # In the log each document counts once, whether it was told as it failed or here.
        known = {path for event, mirror, path in told.keys if (event, mirror) == ("document.failed", name)}
        for failed in each.failed:
            if failed.path not in known:
                say("document.failed", mirror=name, path=failed.path, reason=failed.reason)
        untold = each.status.documents.failed - len(known.union(one.path for one in each.failed))
        if untold > 0:
            cure = installation.cure("status --documents")
            say("list.shortened", mirror=name, of="failed", count=untold, cure=cure)
    if failed_documents := sum(each.status.documents.failed for each in reports):
        explain, retry = installation.cure("explain PATH"), installation.cure("retry")
        say("documents.failed", count=failed_documents, explain=explain, cure=retry)


LONGEST_PAUSE = 7200.0
"""Seconds between passes that say nothing: the timer that comes with kbsync makes one every hour."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What `--check` wants said: all that makes it fail. `max_age`: seconds, None where nothing may wait."""

    max_age: float | None = None


def unfinished(installation: Installation, report: MirrorReport, demand: Demand | None) -> Iterator[str]:
    """Why a mirror lags behind its folder though nothing failed, with the command that helps."""
    run = f"run: {installation.cure('--once')}"
    reasons = _late if report.has_passed else _before_first_pass
    for sentence in reasons(report, demand, run):
        yield printable(f"{report.status.name}: {sentence}")


def _before_first_pass(report: MirrorReport, demand: Demand | None, run: str) -> Iterator[str]:
    if report.is_in_first_pass:
        if demand is not None:
            yield "no pass has ended yet; the first one is under way"
    elif report.status.halt is None:
        yield f"no pass has ended yet; {run}"
    elif report.is_unattended:  # the halt itself says why
        yield f"no pass has ended yet and no kbsync is running; {run}"


def _late(report: MirrorReport, demand: Demand | None, run: str) -> Iterator[str]:
    max_age = None if demand is None else demand.max_age
    is_old = max_age is not None and report.since_pass > max_age
    waiting = f"{counted(report.waiting, 'document')} {'waits' if report.waiting == 1 else 'wait'}"
    longest = f"for {lasting(report.status.oldest_pending_s)} at the longest"
    if report.is_unattended and report.waiting:
        yield f"{waiting} and no kbsync is running; {run}"
    elif report.is_unattended and not is_old and report.since_pass > max(2 * report.rescan, LONGEST_PAUSE):
        yield f"last pass {lasting(report.since_pass)} ago and no kbsync is running; {run}"
    elif demand is not None and max_age is None and report.waiting and report.status.halt is None:
        yield f"{waiting}, {longest}"
    if max_age is None:
        return
    limit = write_duration(max_age)
    if is_old:
        # Beside a running kbsync no command makes a pass come earlier.
        every = write_duration(report.rescan)
        then = f"the running kbsync makes one every {every} (rescan)" if report.is_worked_on else run
        yield f"last pass {lasting(report.since_pass)} ago, older than {limit}; {then}"
    if report.status.oldest_pending_s > max_age:
        yield f"{waiting}, {longest}, more than {limit}"
