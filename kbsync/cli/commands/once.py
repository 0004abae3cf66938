"""`kbsync --once`: runs one pass, shows its progress, and prints a report at the end."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import structlog

from kbsync import __version__, logs
from kbsync import once as one_pass
from kbsync.cli.context import choose, prepare, unless_running
from kbsync.cli.exit_codes import Code, printing_result, worst
from kbsync.cli.options import Choices
from kbsync.cli.output import Output, print_message, route_messages
from kbsync.cli.report import (
    CHANGES,
    LoggedEvents,
    MirrorReport,
    failures,
    halts,
    log_error,
    log_event,
    log_problems,
    mirror_problems,
    mirror_reports,
    summary,
)
from kbsync.core.model import Status
from kbsync.core.quiet_hours import current_period
from kbsync.dataclass import dataclass
from kbsync.engine.status import clock_time
from kbsync.errors import LockedError
from kbsync.once import OnceEnd
from kbsync.signals import ENDING, HardEnd, Signals
from kbsync.terminal import can_move_cursor
from kbsync.upgrade import guard_imports

if TYPE_CHECKING:
    from kbsync.engine.mirror import Mirror
    from kbsync.once import ShowProgress
    from kbsync.state.read_only import Tx
    from kbsync.state.store import StateStore


PATIENCE = 0.4
"""Seconds before a progress bar appears: most passes are shorter, so it would only flicker."""

OFTEN, SELDOM = 0.25, 15.0
"""Seconds between updates, on a terminal and in a log."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of all mirrors: how many of the selected files are searchable or have failed."""

    finished: int
    total: int


async def _count_progress(store: StateStore, mirrors: Mapping[str, Mirror]) -> Progress:
    numbers = [mirror.id for mirror in mirrors.values() if mirror.id]

    def count(tx: Tx) -> Progress:
        finished = unfinished = 0
        for number in numbers:
            tally = tx.mirrors.tally(number)
            finished += sum(tally.get(status, 0) for status in (Status.READY, Status.FAILED, Status.HELD))
            unfinished += sum(tally.get(status, 0) for status in (Status.PENDING, Status.INDEXING))
        return Progress(finished, finished + unfinished)

    return await store.read(count)


async def _bar(store: StateStore, mirrors: Mapping[str, Mirror]) -> None:
    """Show a progress bar with the rate and the remaining time. It disappears when the pass ends."""
    from tqdm import tqdm

    await asyncio.sleep(PATIENCE)
    first = await _count_progress(store, mirrors)
    # Only this task draws the bar, so tqdm doesn't need its monitor thread or a lock between processes.
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    bar: tqdm[NoReturn] = tqdm(
        desc=", ".join(mirrors),
        total=first.total or None,
        initial=first.finished,
        unit="",
        leave=False,
        bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]",
        dynamic_ncols=True,
        # A terminal that does not report its size has 0 rows, and tqdm would draw nothing.
        nrows=2,
        file=sys.stderr,
    )
    with bar:
        while True:
            now = await _count_progress(store, mirrors)
            bar.total, bar.n = now.total or None, now.finished
            bar.refresh()
            await asyncio.sleep(OFTEN)


async def _lines(store: StateStore, mirrors: Mapping[str, Mirror]) -> None:
    """Log a line every `SELDOM` seconds. A short pass logs nothing."""
    bound_logger = structlog.make_filtering_bound_logger(logs.LEVELS["info"])
    log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), wrapper_class=bound_logger)
    began, first = time.monotonic(), await _count_progress(store, mirrors)
    while True:
        await asyncio.sleep(SELDOM)
        now = await _count_progress(store, mirrors)
        finished_count, seconds = now.finished - first.finished, time.monotonic() - began
        rate = f"{finished_count / seconds:.1f}/s" if finished_count > 0 and seconds > 0 else ""
        log.info("pass.progressed", settled=now.finished, wanted=now.total, rate=rate)


REPORTED = ("document.failed", "mirror.halted", "deletions.held", "recipe.held")
"""Events covered by the final report."""

UNFINISHED = ("pass.unfinished", "document.pending")
"""Events that explain why a pass isn't complete."""


def once(choices: Choices, *, as_json: bool) -> int:
    """Run one full pass of every requested mirror. The exit code shows how the pass ended."""
    with HardEnd() as hard, Signals(ENDING, lambda number: hard.arm(128 + number)) as signals:
        return _once(choices, hard, signals, as_json=as_json)


def _once(choices: Choices, hard: HardEnd, signals: Signals, *, as_json: bool) -> int:
    guard_imports()
    installation = choose(choices)
    prepare(installation, choices)
    level = choices.log_level or ("error" if choices.quiet else "warning")
    if sys.stderr.isatty() and not choices.quiet:
        for mirror in installation.mirrors:
            if (period := current_period(one_pass.settings_of(mirror).quiet_hours, time.time())) is not None:
                until = clock_time(period[1])
                print_message(f"{mirror.name}: quiet hours until {until}; a single pass runs anyway")
    logged: LoggedEvents | None = None
    if logs.is_for_a_person(choices.log_format, choices.log_level):
        logs.configure(
            style=None, level=level, keeps=lambda fields: as_json or fields.get("event") not in REPORTED
        )
    else:
        logged = LoggedEvents(has_report=not as_json)
        logs.configure(style=choices.log_format, level=level, keeps=logged.listen)
        route_messages(log_error)

    async def passed() -> Code:
        progress: ShowProgress | None = None
        if not choices.quiet:
            progress = _bar if sys.stderr.isatty() and can_move_cursor() else _lines
        end = await one_pass.once(installation, progress, signals)
        reports = mirror_reports(end.installation, end.ends)
        code = Code(128 + end.signal) if end.signal is not None else worst(report.code for report in reports)
        with printing_result(code):
            report(end, reports, code, as_json=as_json, quiet=choices.quiet, logged=logged)
        # A parser or an upload may hold a thread for minutes.
        hard.now()
        return code

    try:
        rescan = f"to compare the folder now: {installation.command_line_for_mirrors('rescan')}"
        with unless_running(installation, f"it mirrors changes automatically; {rescan}"):
            return asyncio.run(passed())
    except LockedError:
        if not choices.quiet:
            raise
        # The problem resolves itself; no action is needed.
        return Code.PASSING


def report(
    end: OnceEnd,
    reports: Sequence[MirrorReport],
    code: Code,
    *,
    as_json: bool = False,
    quiet: bool = False,
    logged: LoggedEvents | None = None,
) -> None:
    """Print the JSON and why the pass isn't complete, or all problems and the summary.

    `logged`: whether stderr is a log that already has these events.
    """
    if as_json:
        counts = [mirror_end.counts for mirror_end in end.mirrors.values()]
        payload = {
            "version": __version__,
            "running": None,  # this pass held the lock, so no daemon is running
            "mirrors": [mirror.status.to_json() for mirror in reports],
            **{change: sum(count[change] for count in counts) for change in CHANGES},
            "held": sum(mirror.status.documents.held for mirror in reports),
            "failed": sum(mirror.status.documents.failed for mirror in reports),
            "seconds": round(end.seconds, 3),
        }
        Output().json(payload)
        # The JSON doesn't say why a pass isn't complete.
        for mirror in reports:
            for problem in mirror_problems(end.installation, mirror):
                if problem.event not in UNFINISHED:
                    continue
                if logged is not None:
                    log_event(problem.event, mirror=mirror.status.name, **problem.fields)
                elif problem.line:
                    print_message(problem.line)
        return
    installation = end.installation
    if logged is not None:
        log_problems(installation, reports, logged)
    else:
        for line in (*halts(installation, reports), *failures(installation, reports)):
            print_message(line)
    if end.signal is not None:
        command = installation.command_line("--once")
        if logged is not None:
            log_event("pass.interrupted", detail="progress is saved", cure=command)
        else:
            print_message(f"interrupted; progress is saved; to continue: {command}")
    elif not quiet:
        output = Output()
        output.lines(summary(end, reports, per_mirror=output.is_terminal))
        if output.is_terminal and code is Code.MIRRORED:
            output.line(output.dim(f"search it: {installation.command_line('search QUERY')}"))
