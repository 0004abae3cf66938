"""Prints `kbsync status`: problems first, then a line for each mirror and document."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from kbsync.cli.context import read_state
from kbsync.cli.detached import describe_detached, find_detached
from kbsync.cli.exit_codes import Code
from kbsync.cli.output import Column, Output, table
from kbsync.cli.report import MirrorReport, failures, halts, late, running_line, worst_first
from kbsync.config.model import MirrorConfig
from kbsync.config.places import find_state_home, known_folders
from kbsync.contract import promises
from kbsync.core.model import Status
from kbsync.core.text import format_duration, format_size, printable
from kbsync.engine.status import SHOWN
from kbsync.errors import KbsyncError
from kbsync.freshness import state_bytes, status_in
from kbsync.installation import Installation
from kbsync.state import lock
from kbsync.state.db import identity
from kbsync.state.mirrors import DAEMON, DaemonFact
from kbsync.state.read_only import Tx


def print_status(
    output: Output,
    reports_of: Sequence[tuple[Installation, Sequence[MirrorReport]]],
    *,
    several: bool,
    quiet: bool,
    check: bool,
    max_age: float | None,
) -> None:
    """Print whether kbsync is running, the problems, and a table of all mirrors. With `quiet`, print only the
    problems.

    `several`: whether there are several installations. `check`, `max_age`: see `late`.
    """
    reports = [report for _, own_reports in reports_of for report in own_reports]
    wrong = [
        f"{output.red('! ')}{line}"
        for installation, own_reports in reports_of
        for line in problems(installation, own_reports, check=check, max_age=max_age)
    ]
    lines = list[str]()
    if not quiet:
        for installation, own_reports in reports_of:
            folder = printable(str(installation.config.mirrors[0].folder))
            which = f"{folder}: " if several else ""
            output.line(f"{which}{running_line(installation, own_reports)}")
        lines += table_lines(output, reports)
        if size := sum(state_bytes(installation) for installation, _ in reports_of):
            where = "" if several else f" in {reports_of[0][0].state_dir}"
            lines.append(output.dim(printable(f"state: {format_size(size)}{where}")))
        lines += remarks(output, reports)
        for installation, own_reports in reports_of:
            lines += map(output.dim, other_states(installation, own_reports))
            if not installation.only:
                lines += map(output.dim, detached_lines(installation))
        for report in reports:
            if report.status.better is not None:
                count, passages = report.status.better
                lines.append(f"{report.status.name}: better vectors for {count:,} of {passages:,} passages")
        for report in reports:
            for subject, sentence in promises.describe_unkept(report.status.unkept):
                lines.append(output.dim(f"{report.status.name}: {subject} {sentence}"))
    output.lines([*wrong, *([""] if wrong and lines else []), *lines])


def other_states(installation: Installation, reports: Sequence[MirrorReport]) -> Iterator[str]:
    """Yield a line for each folder that earlier `--folder` runs mirrored with a state of their own."""
    trials = {known.folder: known.state_dir for known in known_folders(find_state_home(os.environ))}
    for report in reports:
        folder = Path(report.status.folder)
        trial_dir = trials.get(folder)
        # By identity, because --state-dir may lead to the same directory through a symlink.
        if trial_dir is not None and identity(trial_dir) != identity(installation.state_dir):
            from kbsync.cli.commands.init import describe_trial

            with suppress(KbsyncError, OSError):  # an unusable state has no documents to delete
                yield printable(f"{report.status.name}: {describe_trial(trial_dir, folder)}")


def detached_lines(installation: Installation) -> Iterator[str]:
    """Yield a line for each mirror that is no longer in the config but still has documents."""
    for holdings in find_detached(installation):
        yield f"{holdings.name}: {describe_detached(installation, holdings)}"


def problems(
    installation: Installation,
    reports: Sequence[MirrorReport],
    *,
    check: bool = False,
    max_age: float | None = None,
) -> Iterator[str]:
    """Yield the problems: first a refused config, then the mirrors' problems by exit code (2 and 3, then 4,
    then 1).
    """
    if lock.find_daemon(installation.state_dir) is not None:
        refused = read_state(installation, lambda tx: tx.meta.get(DaemonFact.REFUSED_CONFIG, DAEMON))
        if refused:
            reason = printable(refused)
            yield f"the running kbsync refused the changed config and is still using the old one: {reason}"
    yield from halts(installation, reports)
    for report in worst_first(reports):
        yield from late(installation, report, check=check, max_age=max_age)
    yield from failures(installation, reports)
    for report in reports:
        if report.status.note:
            yield f"{report.status.name}: {printable(report.status.note)}"


def speed(report: MirrorReport) -> str:
    """Return the speed and the remaining time of a working mirror, or '' if it isn't working."""
    if report.status.pause is not None or (report.status.halt is not None and not report.is_held):
        return ""
    is_moving = report.waiting and report.rate > 0 and not report.is_unattended
    words = [f"{report.rate:.1f} documents/s"] if is_moving else []
    if report.is_in_first_pass:
        found = f", {report.found:,} found so far" if report.found else ""
        words.insert(0, report.first_pass + found)
    elif is_moving and report.has_passed:
        # During the first pass, the number of documents is unknown.
        words.append(f"about {format_duration(report.waiting / report.rate)} left")
    return f"{report.status.name}: {', '.join(words)}" if words else ""


def remarks(output: Output, reports: Sequence[MirrorReport]) -> Iterator[str]:
    """Yield the speed of each working mirror, and why a folder is polled."""
    yield from filter(None, map(speed, reports))
    for report in reports:
        if report.polling:
            yield output.dim(printable(f"{report.status.name}: {report.polling}"))


def table_lines(output: Output, reports: Sequence[MirrorReport]) -> Iterator[str]:
    """Yield a line for each mirror, the worst first. No line is wider than the terminal."""
    ordered = worst_first(reports)
    statuses, now = [report.status for report in ordered], time.time()
    oldest = [status.oldest_pending_s for status in statuses]
    waits = tuple(format_duration(seconds) if seconds else "-" for seconds in oldest)
    passed = [None if status.last_pass is None else max(0.0, now - status.last_pass) for status in statuses]
    ago = tuple("never" if seconds is None else f"{format_duration(seconds)} ago" for seconds in passed)
    disk = [status.index_bytes for status in statuses]
    sizes = tuple("-" if size is None else format_size(size) for size in disk)
    columns = [Column("MIRROR", tuple(status.name for status in statuses), is_key=True)]
    for state in SHOWN:
        if state is Status.KEPT and not any(status.documents.kept for status in statuses):
            continue
        counts = tuple(f"{getattr(status.documents, state.word):,}" for status in statuses)
        is_key = state is Status.READY
        columns.append(Column(state.name, counts, is_number=True, is_key=is_key, blank="0"))
    columns += [
        Column("WAITING", waits, is_number=True, blank="-"),
        Column("LAST PASS", ago, is_key=True),
        Column("DISK", sizes, is_number=True, blank="-"),
        Column("FOLDER", tuple(printable(status.folder) for status in statuses), is_path=True),
    ]
    head, *rows = table(columns, output.columns if output.is_terminal else None)
    if len(rows) != len(ordered):
        # Too narrow for a table, so print a block of lines for each mirror.
        yield from (head, *rows)
        return
    yield output.dim(head)
    styles = {Code.MIRRORED: output.green, Code.PASSING: output.yellow}
    for report, row in zip(ordered, rows, strict=True):
        name = report.status.name
        yield styles.get(report.checked_code, output.red)(name) + row.removeprefix(name)


def print_documents(output: Output, installation: Installation, mirror: MirrorConfig) -> None:
    """Print a line for each document, starting with those that have a problem."""
    styles = {
        Status.READY: output.green,
        Status.KEPT: output.green,
        Status.SKIPPED: output.dim,
        Status.FAILED: output.red,
        Status.HELD: output.red,
    }

    def write(tx: Tx) -> None:
        at_work = lock.is_held(installation.state_dir)
        status = status_in(tx, mirror, installation, at_work=at_work, documents=True)
        items = status.items or ()
        # Read twice instead of kept in memory, because there may be a million of them.
        for are_fine in (False, True):
            for item in items:
                if (item.state in (Status.READY, Status.KEPT, Status.SKIPPED)) is are_fine:
                    state = styles.get(item.state, output.yellow)(f"{item.state.word:8}")
                    size = "" if item.size is None else format_size(item.size)
                    reason = output.dim(f"  {printable(item.reason)}") if item.reason else ""
                    output.line(f"{state}  {size:>7}  {printable(item.path)}{reason}")

    output.line()
    output.line(output.bold(mirror.name))
    read_state(installation, write)
