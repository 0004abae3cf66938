"""`kbsync --once`: one pass with its progress, and what there is to say at its end."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

import structlog

from kbsync import logs
from kbsync import once as one_pass
from kbsync.cli import problems
from kbsync.cli.context import choose, prepare
from kbsync.cli.exit_codes import Code, worst
from kbsync.cli.mirror_report import MirrorReport, mirror_reports, status_json
from kbsync.cli.options import Choices
from kbsync.cli.output import Output, is_styled, tell, tell_through
from kbsync.cli.problems import ToldEvents, log_problems, say, told_as_log
from kbsync.core.model import Status
from kbsync.core.text import sized
from kbsync.errors import LockedError
from kbsync.installation import Installation
from kbsync.once import OnceEnd
from kbsync.signals import ENDING, HardEnd, Signals

if TYPE_CHECKING:
    from kbsync.once import ActiveMirrors, ShowProgress
    from kbsync.state.read_only import Tx


PATIENCE = 0.4
"""Seconds a pass may take without a bar: most take less, and a bar that only flickers tells nothing."""

OFTEN, SELDOM = 0.25, 15.0
"""Seconds between two looks, for a terminal and for a log."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far all mirrors are: files that are settled (searchable or failed), of those that are wanted.

    `left`: bytes that the account with the least room still takes, where one tells.
    """

    settled: int
    wanted: int
    left: int | None = None


async def _look(runs: ActiveMirrors) -> Reached:
    numbers = [run.mirror for run in runs.runs.values() if run.mirror]

    def count(tx: Tx) -> tuple[int, int]:
        settled = waiting = 0
        for number in numbers:
            tally = tx.mirrors.tally(number)
            settled += sum(tally.get(status, 0) for status in (Status.READY, Status.FAILED, Status.HELD))
            waiting += sum(tally.get(status, 0) for status in (Status.PENDING, Status.INDEXING))
        return settled, waiting

    settled, waiting = await runs.store.read(count)
    targets = [run.bound.target for run in runs.runs.values() if run.bound is not None]
    left = [target.bytes_left for target in targets if target.bytes_left is not None]
    return Reached(settled, settled + waiting, min(left, default=None))


async def _bar(runs: ActiveMirrors) -> None:
    """A bar with rate and time left, gone when the pass is over."""
    from tqdm import tqdm

    await asyncio.sleep(PATIENCE)
    first = await _look(runs)
    # It is drawn when it is told to, by whoever tells it: it needs no thread and no lock.
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    bar: tqdm[NoReturn] = tqdm(
        desc=", ".join(runs.runs),
        total=first.wanted or None,
        initial=first.settled,
        unit="",
        leave=False,
        bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]",
        dynamic_ncols=True,
        nrows=2,  # one is needed; a terminal that does not tell has 0
        file=sys.stderr,
    )
    with bar:
        while True:
            now = await _look(runs)
            bar.total, bar.n = now.wanted or None, now.settled
            bar.set_postfix_str("" if now.left is None else f"{sized(now.left)} of space left", refresh=False)
            bar.refresh()
            await asyncio.sleep(OFTEN)


async def _lines(runs: ActiveMirrors) -> None:
    """A line in the log's own format now and then; a short pass has none."""
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logs.LEVELS["info"]),
    )
    began, first = time.monotonic(), await _look(runs)
    while True:
        await asyncio.sleep(SELDOM)
        now = await _look(runs)
        done, seconds = now.settled - first.settled, time.monotonic() - began
        rate = f"{done / seconds:.1f}/s" if done > 0 and seconds > 0 else ""
        room = {} if now.left is None else {"bytes_left": now.left}
        log.info("pass.progressed", settled=now.settled, wanted=now.wanted, rate=rate, **room)


REPORTED = ("document.failed", "mirror.halted", "deletions.held", "recipe.held")
"""Events of which the report at the end tells a person all there is to know."""


def once(choices: Choices, *, as_json: bool) -> int:
    """One full pass of every mirror asked for; the exit code tells how it ended."""
    installation = choose(choices)
    prepare(installation)
    level = choices.log_level or ("error" if choices.quiet else "warning")
    stderr = cast(TextIO, Stderr())
    is_report_read = logs.is_for_a_person(choices.log_format, choices.log_level)
    told_events = None if is_report_read else ToldEvents(has_report=not as_json)

    def is_apart(fields: logs.Fields) -> bool:
        return as_json or fields.get("event") not in REPORTED

    if told_events is not None:
        logs.configure(style=choices.log_format, level=level, stream=stderr, wanted=told_events.listen)
        tell_through(told_as_log)
    else:
        logs.configure(style=None, level=level, stream=stderr, wanted=is_apart)
    with HardEnd() as hard, Signals(ENDING, lambda number: hard.arm(128 + number)) as signals:
        try:
            return asyncio.run(
                _until_told(installation, choices, signals, hard, told_events, as_json=as_json)
            )
        except LockedError:
            if not choices.quiet:
                raise
            return Code.PASSING  # it goes away by itself, and nobody is needed for that


async def _until_told(
    installation: Installation,
    choices: Choices,
    signals: Signals,
    hard: HardEnd,
    told_events: ToldEvents | None,
    *,
    as_json: bool,
) -> Code:
    """The pass and its results. One that was interrupted waits for no thread after that."""
    progress: ShowProgress | None = None
    if not choices.quiet:
        progress = _bar if sys.stderr.isatty() and is_styled() else _lines
    end = await one_pass.once(installation, progress, signals)
    reports = mirror_reports(installation, end.ends)
    code = Code(128 + end.signal) if end.signal is not None else worst(each.code for each in reports)
    if as_json:
        Output().json(_to_json(installation, end, reports))
    else:
        _say(installation, end, reports, code, choices, told_events)
    hard.now()  # a parser or an upload may hold a thread for minutes
    return code


class Stderr(io.TextIOBase):
    """Stderr as it is at the moment: while a bar is shown, lines have to go above it."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of what is written: Chinese names are told as such where they can be."""
        return getattr(sys.stderr, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        """To where stderr leads now."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """At once."""
        sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether a person reads."""
        return sys.stderr.isatty()

    def fileno(self) -> int:
        """The descriptor."""
        return sys.stderr.fileno()


def _say(
    installation: Installation,
    end: OnceEnd,
    reports: Sequence[MirrorReport],
    code: Code,
    choices: Choices,
    told_events: ToldEvents | None = None,
) -> None:
    """The report in the form that stderr has, and the summary."""
    if told_events is not None:
        log_problems(installation, reports, told_events, quiet=choices.quiet)
    else:
        for line in problems.halts(installation, reports, quiet=choices.quiet):
            tell(line)
        for line in problems.failures(installation, reports):
            tell(line)
    if end.signal is not None:
        again = installation.cure("--once")
        if told_events is not None:
            say("pass.interrupted", detail="what was done is recorded", cure=again)
        else:
            tell(f"interrupted; what was done is recorded; to continue: {again}")
        return
    if not choices.quiet:
        output = Output()
        for line in problems.summary(end, reports, apart=output.is_terminal):
            output.line(line)
        if output.is_terminal and code is Code.MIRRORED:
            output.line(output.dim(f"search it: {installation.cure('search QUERY')}"))


def _to_json(installation: Installation, end: OnceEnd, reports: Sequence[MirrorReport]) -> dict[str, Any]:
    def done(what: str) -> int:
        return sum(getattr(run.counts, what) for run in end.runs.values())

    return {
        **status_json(installation),
        **{what: done(what) for what in ("uploaded", "replaced", "renamed", "deleted")},
        "held": sum(each.status.documents.held for each in reports),
        "failed": sum(each.status.documents.failed for each in reports),
        "seconds": round(end.seconds, 3),
    }
