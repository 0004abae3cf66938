"""What a person is told of mirrors: the summary of a pass, and what is wrong, at its end and in `status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kbsync.cli.mirror_report import LISTED, FailedPath, MirrorReport, worst_first
from kbsync.cli.output import counted
from kbsync.config.kinds import write_duration
from kbsync.core.text import lasting, printable
from kbsync.engine.status import DELETIONS_HELD, RECIPE_HELD
from kbsync.installation import Installation

if TYPE_CHECKING:
    from kbsync.engine.mirror import PassCounts
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


def complaints(installation: Installation, reports: Sequence[MirrorReport], *, quiet: bool) -> Iterator[str]:
    """What is wrong, the worst first; with `quiet` not what goes away by itself."""
    yield from halts(installation, reports, quiet=quiet)
    yield from failures(installation, reports)


def halts(installation: Installation, reports: Sequence[MirrorReport], *, quiet: bool) -> Iterator[str]:
    """What keeps whole mirrors waiting, or is held; with `quiet` not what goes away by itself."""
    for each in worst_first(reports):
        if not (quiet and each.is_troubled):
            yield from _halted(each)
        yield from _held(installation, each)
        if not quiet:
            yield from _unfinished(each)


def failures(installation: Installation, reports: Sequence[MirrorReport]) -> Iterator[str]:
    """The documents that failed, and what to do about them."""
    for each in worst_first(reports):
        yield from _failed(installation, each)
    if any(each.status.documents.failed for each in reports):
        explain, retry = installation.cure("explain PATH"), installation.cure("retry")
        yield f"to see why one of them failed: {explain}; to retry all of them: {retry}"


def _halted(report: MirrorReport) -> Iterator[str]:
    halt = report.status.halt
    if halt is not None:
        cure = f"; cure: {halt.cure}" if halt.cure else ""
        yield printable(f"{report.status.name}: {halt.reason}: {halt.detail}{cure}")


def _held(installation: Installation, report: MirrorReport) -> Iterator[str]:
    lines = [f"{path}: {why}" for path, why in report.held]
    yield from _listed(report, lines, of=report.status.documents.held, all_of_them=installation)
    name, halt = report.status.name, report.status.halt
    if report.held and halt is not None and halt.reason not in (DELETIONS_HELD, RECIPE_HELD):
        yield f"{name}: to approve what is held: {installation.cure(f'approve {name}')}"


def _unfinished(report: MirrorReport) -> Iterator[str]:
    if report.trouble and not report.is_troubled:
        yield f"{report.status.name}: {printable(report.trouble)}; the next pass goes on from there"
    yield from _listed(
        report, [f"{path}: still being written; the next pass takes it" for path in report.busy]
    )


def _failed(installation: Installation, report: MirrorReport) -> Iterator[str]:
    """What many share on one line, then the others, a line each: as many lines as are listed of anything."""
    all_of_them = installation.cure("status --documents")
    left = max(report.status.documents.failed, len(report.failed))
    for reason, paths in _by_reason(report.failed)[:LISTED]:
        left -= len(paths)
        line = f"{paths[0]}: {reason}" if len(paths) == 1 else _group(paths, reason, all_of_them)
        yield f"{report.status.name}: {printable(line)}"
    if left:
        yield f"{report.status.name}: … and {left:,} more: {all_of_them}"


def _by_reason(failed: Sequence[FailedPath]) -> list[tuple[str, list[str]]]:
    """Reasons, each with the paths that share it where they are many; a path of its own for the others."""
    shared = dict[str, list[str]]()
    for each in failed:
        shared.setdefault(each.reason, []).append(each.path)
    many = {reason: paths for reason, paths in shared.items() if len(paths) > FEW}
    return [*many.items(), *((each.reason, [each.path]) for each in failed if each.reason not in many)]


def _group(paths: Sequence[str], reason: str, all_of_them: str) -> str:
    named, more = ", ".join(paths[:FEW]), len(paths) - FEW
    return f"{len(paths):,} documents failed: {reason}: {named} and {more:,} more; run: {all_of_them}"


def _listed(
    report: MirrorReport, lines: Sequence[str], *, of: int = 0, all_of_them: Installation | None = None
) -> Iterator[str]:
    """The first lines, and how many more there are."""
    for line in lines[:LISTED]:
        yield f"{report.status.name}: {printable(line)}"
    more = max(of, len(lines)) - LISTED
    if more > 0:
        where = f": {all_of_them.cure('status --documents')}" if all_of_them else ""
        yield f"{report.status.name}: … and {more:,} more{where}"


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
