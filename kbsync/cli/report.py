"""Reports on mirrors: at the end of a pass, in `status`, and through the exit code.

A problem is reported as a line of text or, if stderr is a log, as an event.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kbsync.cli.context import read_state
from kbsync.cli.exit_codes import ORDER, Code, worst
from kbsync.cli.output import LISTED, and_more
from kbsync.config.kinds import write_duration
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Status
from kbsync.core.text import format_count, format_duration, format_list, printable
from kbsync.dataclass import dataclass
from kbsync.engine.status import (
    BAD_CONFIG,
    DELETIONS_HELD,
    RECIPE_HELD,
    Items,
    clock_time,
    describe_pause,
    halt_sentence,
    halt_words,
    pause_json,
)
from kbsync.freshness import Freshness, ReadFreshness, freshness_reader, unresponsive_halt
from kbsync.installation import Installation
from kbsync.state import lock
from kbsync.state.mirrors import MirrorFact
from kbsync.state.read_only import Tx

if TYPE_CHECKING:
    from kbsync.logs import Fields
    from kbsync.once import OnceEnd, PassEnd


MAX_ROWS_READ = 1000
"""Maximum number of failed documents to group by reason, so that `status` stays fast."""

MAX_HELD = 20
"""Maximum number of held documents to read. A line names only a few, but the `status` tool for assistants
lists all of them.
"""

FEW = 3
"""Maximum number of documents to name in one line."""

CHANGES = ("uploaded", "replaced", "renamed", "deleted")
"""The counts of a pass, in the order in which reports show them."""

Reason = tuple[str, str]
"""A path, and why its document failed or is held."""


@dataclass(frozen=True, slots=True)
class MirrorReport(Freshness):
    """A mirror's status, with the first of its failed and held documents.

    `may_succeed`: whether retrying a failed document may help. `unfinished`: why its pass couldn't finish.
    `busy`: files that were still being written. `rate`: how many documents per second recently became
    searchable. `polling`: why the running kbsync polls the folder, or "" if it watches the folder.
    """

    failed: tuple[Reason, ...] = ()
    held: tuple[Reason, ...] = ()
    may_succeed: bool = False
    unfinished: str = ""
    busy: tuple[str, ...] = ()
    rate: float = 0.0
    polling: str = ""

    def _ends(self, *, by_itself: bool) -> bool:
        """Return whether a user paused the mirror. `by_itself`: whether to look for a pause until a given
        time, rather than until `resume`.
        """
        pause = self.status.pause
        return pause is not None and not pause.is_quiet and (pause.until is not None) is by_itself

    @property
    def settled_code(self) -> Code:
        """Return the exit code of a pass that left the mirror in this state, ignoring waiting documents."""
        documents, halt = self.status.documents, self.status.halt
        needs_person = (halt is not None and not self.has_temporary_problem) or documents.held
        return worst(
            [
                Code.USAGE if halt is not None and halt.reason == BAD_CONFIG else Code.MIRRORED,
                Code.PERSON if needs_person or self._ends(by_itself=False) else Code.MIRRORED,
                Code.FAILED if documents.failed else Code.MIRRORED,
            ]
        )

    @property
    def code(self) -> Code:
        """Return the exit code of a pass that left the mirror in this state."""
        waits = (
            self.unfinished
            or self.busy
            or self.waiting
            or self.has_temporary_problem
            or self._ends(by_itself=True)
        )
        return worst([self.settled_code, Code.PASSING if waits else Code.MIRRORED])

    @property
    def checked_code(self) -> Code:
        """Return the exit code for `status --check`.

        A mirror without a recent pass isn't up to date. During quiet hours, a missing pass and waiting
        documents are ignored.
        """
        if self.is_in_quiet_hours:
            return worst([self.settled_code, Code.PASSING if self.has_temporary_problem else Code.MIRRORED])
        is_kept_up = self.has_passed and not self.is_neglected
        return worst([self.code, Code.MIRRORED if is_kept_up else Code.PASSING])


def mirror_reports(
    installation: Installation, ends: Mapping[str, PassEnd] | None = None
) -> list[MirrorReport]:
    """Return a report on each requested mirror. `ends`: how the passes ended, by mirror name."""

    has_daemon = lock.find_daemon(installation.state_dir) is not None

    def report(tx: Tx, mirror: MirrorConfig, read_freshness: ReadFreshness) -> MirrorReport:
        end, record = (ends or {}).get(mirror.name), tx.mirrors.named(mirror.name)
        [fresh] = read_freshness(tx)
        freshness_fields: dict[str, Any] = {field.name: getattr(fresh, field.name) for field in fields(fresh)}
        report = MirrorReport(
            **freshness_fields, unfinished=end.problem if end else "", busy=end.busy if end else ()
        )
        if record is None:
            return report
        items, rate = Items(tx, record, fresh.status.halt, installation.command_line), 0.0
        if fresh.waiting:
            rate = tx.uploads.rate(record.id, record.binding or 0, time.time())
        failed = list(items.in_state(Status.FAILED, MAX_ROWS_READ))
        held = tuple((item.path, item.reason) for item in items.in_state(Status.HELD, MAX_HELD))
        # A mirror that is paused or halted may not be watched, and `status` says why it isn't.
        is_idle = fresh.status.halt is not None or fresh.status.pause is not None
        is_watched = has_daemon and fresh.is_worked_on and not is_idle
        unfinished = report.unfinished
        if end is not None and not (unfinished or end.busy or is_idle):  # such as a refused deletion
            pending = items.in_state(Status.PENDING, 1, in_order=False)
            unfinished = next((f"{item.path}: {item.reason}" for item in pending if item.reason), "")
        return replace(
            report,
            unfinished=unfinished,
            failed=tuple((item.path, item.reason) for item in failed),
            held=held,
            may_succeed=len(failed) == MAX_ROWS_READ or any(item.may_succeed for item in failed),
            rate=rate,
            polling=tx.meta.get(MirrorFact.POLLING, record.id) if is_watched else "",
        )

    reports = []
    for mirror in installation.mirrors:
        read = freshness_reader(installation, [mirror], unwritten=unresponsive_halt(installation, mirror))
        reports.append(read_state(installation, partial(report, mirror=mirror, read_freshness=read)))
    return reports


def running_line(installation: Installation, reports: Sequence[MirrorReport]) -> str:
    """Return a line that says whether kbsync is running, since when and under which process id, or when the
    last pass was.
    """
    holder = lock.find_holder(installation.state_dir)
    if holder is not None:
        clock = clock_time(holder.since)
        state = "running" if holder.keeps_running else "no daemon; a single pass or command has been running"
        return f"{state} since {clock} (pid {holder.pid})"
    passes = [report.since_pass for report in reports if report.has_passed]
    last = f"last pass {format_duration(min(passes))} ago" if passes else "no pass has finished yet"
    if any(report.is_worked_on is None for report in reports):
        return f"can't tell from here whether kbsync is running; {last}"
    return f"not running; {last}"


def worst_first(reports: Sequence[MirrorReport]) -> list[MirrorReport]:
    """Return the reports sorted by exit code. Reports with equal codes keep their order."""
    order = [*ORDER, Code.MIRRORED]
    return sorted(reports, key=lambda report: order.index(report.checked_code))


def summary(end: OnceEnd, reports: Sequence[MirrorReport], *, per_mirror: bool) -> Iterator[str]:
    """Summarize a pass, in one line for all mirrors or, with `per_mirror`, one line for each."""
    if per_mirror or len(reports) == 1:
        for report in reports:
            yield _line(report.status.name, [end.mirrors[report.status.name].counts], [report], end.seconds)
    else:
        counts = [mirror.counts for mirror in end.mirrors.values()]
        yield _line(format_count(len(reports), "mirror"), counts, reports, end.seconds)


def _line(name: str, counts: Sequence[Counter[str]], reports: Sequence[MirrorReport], seconds: float) -> str:
    def documents(state: str) -> int:
        return sum(getattr(report.status.documents, state) for report in reports)

    # Held documents are searchable in their old version, and kept ones unchanged.
    searchable = sum(map(documents, ("ready", "held", "kept")))
    parts = [f"{format_count(searchable, 'document')} searchable"]
    changes = [f"{number:,} {word}" for word in CHANGES if (number := sum(count[word] for count in counts))]
    stopped = [
        halt_words(report.status.halt.reason, report.status.halt.detail)
        for report in reports
        if report.status.halt and not report.is_held
    ]
    names = [report.status.name for report in reports if report.status.pause]
    whose = f"{format_list(names)} " if names and len(reports) > 1 else ""
    paused = [f"{whose}paused"] if names else []
    parts += [*changes, *paused, *(f"halted ({reason})" for reason in dict.fromkeys(stopped))]
    # Whether a halted mirror's folder changed is unknown, and held documents would be changes.
    if len(parts) == 1 and not documents("held"):
        parts.append("nothing changed")
    for state in ("held", "kept", "failed", "pending", "indexing", "skipped"):
        if number := documents(state):
            parts.append(f"{number:,} {state}")
    return f"{name}: {', '.join(parts)}; {format_duration(seconds)}"


_WARNINGS = (
    *("mirror.paused", "deletions.held", "recipe.held", "pass.unfinished", "pass.interrupted"),
    *("document.held", "document.failed", "document.pending", "documents.failed", "list.shortened"),
)
LEVELS = {"mirror.halted": "error", "run.failed": "error", **dict.fromkeys(_WARNINGS, "warning")}
"""The events that can end a pass, with their log levels."""

HELD = {DELETIONS_HELD: "deletions.held", RECIPE_HELD: "recipe.held"}
"""Halts that have their own log event."""


@dataclass(frozen=True, slots=True)
class MirrorProblem:
    """Why a mirror is waiting, as a line of text and as a log event.

    Both are "" if the mirror isn't waiting.
    """

    line: str
    event: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


def mirror_problems(installation: Installation, report: MirrorReport) -> Iterator[MirrorProblem]:
    """Explain why a mirror is paused or halted, and which documents are held or unfinished."""
    name, halt, number = report.status.name, report.status.halt, report.status.documents.held

    def problem(line: str, event: str = "", **fields: Any) -> MirrorProblem:
        return MirrorProblem(printable(f"{name}: {line}") if line else "", event, fields)

    if (pause := report.status.pause) is not None:
        resume = installation.command_line(f"resume {name}")
        detail = describe_pause(pause)
        fields = {**pause_json(pause), "detail": detail, "cure": resume}
        yield problem(f"{detail}; to resume: {resume}", "mirror.paused", **fields)
    if halt is not None:
        yield problem(
            halt_sentence(halt),
            HELD.get(halt.reason, "mirror.halted"),
            folder=report.status.folder,
            reason=halt.reason,
            detail=halt.detail,
            cure=halt.fix,
        )
    # One line of text for all: many lines would hide the fix. A log has the first ones as events.
    every = installation.command_line("status --documents")
    line = f"{format_count(number, 'document')} {'is' if number == 1 else 'are'} waiting for approval: "
    line += name_some([path for path, _ in report.held], number, every)
    for index, (path, why) in enumerate(report.held[:FEW]):
        yield problem("" if index else line, "document.held", path=path, reason=why)
    if (more := number - len(report.held[:FEW])) > 0:
        yield problem("", "list.shortened", of="held", count=more, cure=every)
    # Only a halt over held documents says how to approve them.
    if report.held and halt is not None and halt.reason not in HELD:
        approve = installation.command_line(f"approve {name}")
        yield problem(f"to approve what is held: {approve}", "deletions.held", count=number, cure=approve)
    if report.unfinished and not report.has_temporary_problem:
        line = f"{report.unfinished}; the next pass will pick up where the last one stopped"
        yield problem(line, "pass.unfinished", reason=report.unfinished)
    line = (
        f"{format_count(len(report.busy), 'file')} still being written; the next pass will pick up "
        f"{name_some(report.busy)}"
    )
    for index, path in enumerate(report.busy[:LISTED]):
        why = "still being written; the next pass will pick up the file"
        yield problem("" if index else line, "document.pending", path=path, reason=why)


def name_some(paths: Sequence[str], number: int | None = None, every: str = "") -> str:
    """Return a text with the first `FEW` of `number` paths (None: all of them).

    `every`: the command that lists all paths.
    """
    number = len(paths) if number is None else number
    named = ", ".join(paths[:FEW])
    return f"{named} {and_more(number - FEW, every)}" if number > FEW else named


def halts(installation: Installation, reports: Sequence[MirrorReport]) -> Iterator[str]:
    """Yield lines that explain why whole mirrors are waiting, the worst first."""
    for report in worst_first(reports):
        yield from (problem.line for problem in mirror_problems(installation, report) if problem.line)


def failures(installation: Installation, reports: Sequence[MirrorReport]) -> Iterator[str]:
    """Yield lines that name the failed documents and say what to do.

    Documents that failed for the same reason share a line; all other documents follow, with one line for
    each. Each mirror gets at most `LISTED` lines.
    """
    every = installation.command_line("status --documents")
    for report in worst_first(reports):
        name, shared = report.status.name, dict[str, list[str]]()
        for path, reason in report.failed:
            shared.setdefault(reason, []).append(path)
        groups = sorted(shared.items(), key=lambda group: -len(group[1]))
        for reason, paths in groups[:LISTED]:
            line = f"{paths[0]}: {reason}"
            if len(paths) > 1:
                line = f"{len(paths):,} documents failed: {reason}: {name_some(paths, every=every)}"
            yield f"{name}: {printable(line)}"
        remaining = max(report.status.documents.failed, len(report.failed))
        remaining -= sum(len(paths) for _, paths in groups[:LISTED])
        if remaining:
            yield f"{name}: … {and_more(remaining, every)}"
    if any(report.status.documents.failed for report in reports):
        explain, then = installation.command_line("explain PATH"), "kbsync will try again when a file changes"
        if any(report.may_succeed for report in reports):
            then = f"to retry all of them: {installation.command_line('retry')}"
        yield f"to see why a document failed: {explain}; {then}"


@dataclass(slots=True)
class LoggedEvents:
    """The events that this process has logged, so that the final report doesn't repeat them.

    `keys`: the name, mirror and path of each event.
    """

    has_report: bool
    keys: set[tuple[str, str, str]] = field(default_factory=set)

    def listen(self, fields: Fields) -> bool:
        """Return whether to log an event.

        Events about held documents are left to the report, which has more details.
        """
        event = fields.get("event")
        if self.has_report and event in HELD.values():
            return False
        if event in LEVELS:
            self.keys.add((str(event), str(fields.get("mirror", "")), str(fields.get("path", ""))))
        return True


def log_event(event: str, **fields: Any) -> None:
    """Log a line of the report, if stderr is a log."""
    # Loads structlog, which `status` does not need.
    from kbsync import logs

    logs.log_event(LEVELS[event], event, **fields)


def log_error(text: str, error: BaseException | None = None) -> None:
    """Log the error that ends a run early."""
    log_event("run.failed", detail=text, exc_info=error)


def log_problems(installation: Installation, reports: Sequence[MirrorReport], logged: LoggedEvents) -> None:
    """Log the problems as events at the end, the worst first, except for those logged before."""
    for report in worst_first(reports):
        name = report.status.name
        for problem in mirror_problems(installation, report):
            key = (problem.event, name, str(problem.fields.get("path", "")))
            if problem.event and key not in logged.keys:
                log_event(problem.event, mirror=name, **problem.fields)
        # Each document counts once, whether it was logged when it failed or is logged here.
        logged_paths = {
            path for event, mirror, path in logged.keys if (event, mirror) == ("document.failed", name)
        }
        for path, reason in report.failed:
            if path not in logged_paths:
                log_event("document.failed", mirror=name, path=path, reason=reason)
        unlogged = report.status.documents.failed - len(logged_paths.union(path for path, _ in report.failed))
        if unlogged > 0:
            command = installation.command_line("status --documents")
            log_event("list.shortened", mirror=name, of="failed", count=unlogged, cure=command)
    if failed_documents := sum(report.status.documents.failed for report in reports):
        fields = {"count": failed_documents, "explain": installation.command_line("explain PATH")}
        if any(report.may_succeed for report in reports):
            fields["cure"] = installation.command_line("retry")
        log_event("documents.failed", **fields)


def late(
    installation: Installation, report: MirrorReport, *, check: bool = False, max_age: float | None = None
) -> Iterator[str]:
    """Explain why a mirror lags behind its folder even though nothing failed, and name the command to run.

    `check`: explain every reason why `status --check` fails. `max_age`: the maximum age in seconds of waiting
    files and of the last pass, or None if no file may wait.
    """
    if report.status.pause is not None:
        return  # that explains everything
    name, run = report.status.name, f"run: {installation.command_line('--once')}"
    what_next = report.describe_unattended() if report.is_left_out else run
    oldest = f"the oldest for {format_duration(report.status.oldest_pending_s)}"
    is_old = max_age is not None and report.since_pass > max_age
    is_overdue = max_age is not None and report.status.oldest_pending_s > max_age
    # A limit that was exceeded is finite.
    limit = write_duration(max_age) if max_age is not None and (is_old or is_overdue) else ""
    if not report.has_passed:
        if report.is_in_first_pass:
            if check:
                yield f"{name}: no pass has finished yet"
        elif report.status.halt is None:
            yield f"{name}: no pass has finished yet; {what_next}"
        elif report.is_unattended:
            # Otherwise the halt itself says what to do.
            yield f"{name}: no pass has finished yet, and {report.describe_unattended(run)}"
        return
    if report.is_unattended and report.waiting:
        yield f"{name}: {report.waits} and {report.describe_unattended(run)}"
    elif report.is_neglected and not is_old:
        ago = format_duration(report.since_pass)
        yield f"{name}: last pass {ago} ago and {report.describe_unattended(run)}"
    elif check and max_age is None and report.waiting and report.status.halt is None:
        yield f"{name}: {report.waits}, {oldest}"
    if is_old:
        # No command makes a running kbsync compare the folder earlier.
        every = write_duration(report.rescan)
        if report.is_worked_on:
            what_next = f"kbsync starts a pass every {every} (rescan)"
        yield f"{name}: last pass {format_duration(report.since_pass)} ago, older than {limit}; {what_next}"
    if is_overdue:
        yield f"{name}: {report.waits}, {oldest}; the limit is {limit}"
