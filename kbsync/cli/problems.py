"""The words at the end of a pass, and about what is wrong with a mirror at any time.

Why a mirror lags behind its folder though nothing failed: nobody works on it, or it takes its time.
"""

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


def summary(end: OnceEnd, stand: Sequence[MirrorReport], *, apart: bool) -> Iterator[str]:
    """What was done: one line for all mirrors, or with `apart` one for each."""
    if apart or len(stand) == 1:
        for each in stand:
            yield _line(each.status.name, [end.runs[each.status.name].counts], [each], end.seconds)
    else:
        counts = [run.counts for run in end.runs.values()]
        yield _line(counted(len(stand), "mirror"), counts, stand, end.seconds)


def _line(name: str, counts: Sequence[PassCounts], stand: Sequence[MirrorReport], seconds: float) -> str:
    sums = {word: sum(n for each in stand if (n := each.status.documents.to_json()[word])) for word in _WORDS}
    parts = [f"{counted(sums.pop('ready') + sums['held'], 'document')} searchable"]
    parts += _done(counts) or ["nothing changed"]
    parts += [f"{number:,} {word}" for word, number in sums.items() if number]
    return f"{name}: {', '.join(parts)}; {lasting(seconds)}"


_WORDS = ("ready", "held", "failed", "pending", "indexing", "skipped")


def _done(counts: Sequence[PassCounts]) -> list[str]:
    sums = {
        "uploaded": sum(count.uploaded for count in counts),
        "replaced": sum(count.replaced for count in counts),
        "renamed": sum(count.renamed for count in counts),
        "deleted": sum(count.deleted for count in counts),
    }
    return [f"{number:,} {word}" for word, number in sums.items() if number]


def complaints(installation: Installation, stand: Sequence[MirrorReport], *, quiet: bool) -> Iterator[str]:
    """What is wrong, the worst first; with `quiet` not what goes away by itself."""
    yield from halts(installation, stand, quiet=quiet)
    yield from failures(installation, stand)


def halts(installation: Installation, stand: Sequence[MirrorReport], *, quiet: bool) -> Iterator[str]:
    """What keeps whole mirrors waiting, or is held; with `quiet` not what goes away by itself."""
    for each in worst_first(stand):
        if not (quiet and each.is_troubled):
            yield from _halted(each)
        yield from _held(installation, each)
        if not quiet:
            yield from _unfinished(each)


def failures(installation: Installation, stand: Sequence[MirrorReport]) -> Iterator[str]:
    """The documents that failed, and what to do about them."""
    for each in worst_first(stand):
        yield from _failed(installation, each)
    if any(each.status.documents.failed for each in stand):
        explain, retry = installation.cure("explain PATH"), installation.cure("retry")
        yield f"to see why one of them failed: {explain}; to retry all of them: {retry}"


def _halted(stand: MirrorReport) -> Iterator[str]:
    halt = stand.status.halt
    if halt is not None:
        cure = f"; cure: {halt.cure}" if halt.cure else ""
        yield printable(f"{stand.status.name}: {halt.reason}: {halt.detail}{cure}")


def _held(installation: Installation, stand: MirrorReport) -> Iterator[str]:
    lines = [f"{path}: {why}" for path, why in stand.held]
    yield from _listed(stand, lines, of=stand.status.documents.held, all_of_them=installation)
    name, halt = stand.status.name, stand.status.halt
    if stand.held and halt is not None and halt.reason not in (DELETIONS_HELD, RECIPE_HELD):
        yield f"{name}: to approve what is held: {installation.cure(f'approve {name}')}"


def _unfinished(stand: MirrorReport) -> Iterator[str]:
    if stand.trouble and not stand.is_troubled:
        yield f"{stand.status.name}: {printable(stand.trouble)}; the next pass goes on from there"
    yield from _listed(stand, [f"{path}: still being written; the next pass takes it" for path in stand.busy])


def _failed(installation: Installation, stand: MirrorReport) -> Iterator[str]:
    """What many share on one line, then the others, a line each: as many lines as are listed of anything."""
    all_of_them = installation.cure("status --documents")
    left = max(stand.status.documents.failed, len(stand.failed))
    for reason, paths in _by_reason(stand.failed)[:LISTED]:
        left -= len(paths)
        line = f"{paths[0]}: {reason}" if len(paths) == 1 else _group(paths, reason, all_of_them)
        yield f"{stand.status.name}: {printable(line)}"
    if left:
        yield f"{stand.status.name}: … and {left:,} more: {all_of_them}"


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
    stand: MirrorReport, lines: Sequence[str], *, of: int = 0, all_of_them: Installation | None = None
) -> Iterator[str]:
    """The first lines, and how many more there are."""
    for line in lines[:LISTED]:
        yield f"{stand.status.name}: {printable(line)}"
    more = max(of, len(lines)) - LISTED
    if more > 0:
        where = f": {all_of_them.cure('status --documents')}" if all_of_them else ""
        yield f"{stand.status.name}: … and {more:,} more{where}"


LONGEST_PAUSE = 7200.0
"""Seconds between passes that say nothing: the timer that comes with kbsync makes one every hour."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What `--check` wants said: all that makes it fail. `max_age`: seconds, None where nothing may wait."""

    max_age: float | None = None


def unfinished(installation: Installation, stand: MirrorReport, demand: Demand | None) -> Iterator[str]:
    """What a person should know of this mirror, with the command that helps."""
    name, run = stand.status.name, f"run: {installation.cure('--once')}"
    sentences = _sentences(stand, demand, run) if stand.has_passed else _before(stand, demand, run)
    for sentence in sentences:
        yield printable(f"{name}: {sentence}")


def _before(stand: MirrorReport, demand: Demand | None, run: str) -> Iterator[str]:
    """No pass has ended; a halt tells for itself why."""
    if stand.is_in_first_pass:
        if demand is not None:
            yield "no pass has ended yet; the first one is under way"
    elif stand.status.halt is None:
        yield f"no pass has ended yet; {run}"
    elif stand.is_forsaken:
        yield f"no pass has ended yet and no kbsync is running; {run}"


def _sentences(stand: MirrorReport, demand: Demand | None, run: str) -> Iterator[str]:
    max_age = None if demand is None else demand.max_age
    is_old = max_age is not None and stand.since_pass > max_age
    if stand.is_forsaken and stand.waiting:
        yield f"{_waiting(stand)} and no kbsync is running; {run}"
    elif stand.is_forsaken and not is_old and stand.since_pass > max(2 * stand.rescan, LONGEST_PAUSE):
        yield f"last pass {lasting(stand.since_pass)} ago and no kbsync is running; {run}"
    elif demand is not None and max_age is None and stand.waiting and stand.status.halt is None:
        yield f"{_waiting(stand)}, {_longest(stand)}"
    if max_age is not None:
        yield from _aged(stand, max_age, run)


def _aged(stand: MirrorReport, max_age: float, run: str) -> Iterator[str]:
    """What is older than `max_age` seconds; beside a running kbsync no command helps."""
    limit, every = write_duration(max_age), write_duration(stand.rescan)
    if stand.since_pass > max_age:
        then = f"the running kbsync makes one every {every} (rescan)" if stand.is_worked_on else run
        yield f"last pass {lasting(stand.since_pass)} ago, older than {limit}; {then}"
    if stand.status.oldest_pending_s > max_age:
        yield f"{_waiting(stand)}, {_longest(stand)}, more than {limit}"


def _waiting(stand: MirrorReport) -> str:
    return f"{counted(stand.waiting, 'document')} {'waits' if stand.waiting == 1 else 'wait'}"


def _longest(stand: MirrorReport) -> str:
    return f"for {lasting(stand.status.oldest_pending_s)} at the longest"
