"""`kbsync status` for people: what is wrong, then a line for each mirror and document; and `--watch`."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from kbsync.cli.context import read_state
from kbsync.cli.exit_codes import Code
from kbsync.cli.mirror_report import MirrorReport, mirror_reports, status_in, worst_first
from kbsync.cli.output import Column, Output, cells, ignore_closed_pipe, table
from kbsync.cli.problems import Demand, failures, halts, unfinished
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Status
from kbsync.core.text import lasting, printable, sized
from kbsync.engine.status import SHOWN, iso
from kbsync.installation import Installation
from kbsync.state.read_only import Tx


def print_wrong(
    output: Output, installation: Installation, reports: Sequence[MirrorReport], demand: Demand | None = None
) -> None:
    """Everything a person should know first, with what to do about it."""
    wrong = [f"{output.red('! ')}{line}" for line in troubles(installation, reports, demand)]
    for line in wrong:
        output.line(line)
    if wrong:
        output.line()


def troubles(
    installation: Installation, reports: Sequence[MirrorReport], demand: Demand | None = None
) -> Iterator[str]:
    """What is wrong, in the order of exit codes: 2 and 3, then 4, then 1."""
    yield from halts(installation, reports, quiet=False)
    for each in worst_first(reports):
        yield from unfinished(installation, each, demand)
    yield from failures(installation, reports)
    for each in reports:
        if each.status.note:
            yield f"{each.status.name}: {printable(each.status.note)}"


def speed(report: MirrorReport, rate: float) -> str:
    """For a mirror at work, with `rate` documents a second; '' for others."""
    is_moving = report.waiting and rate > 0 and not report.is_unattended
    words = [f"{rate:.1f} documents/s"] if is_moving else []
    if report.is_in_first_pass:
        # With nothing found, the running kbsync may not have begun with this mirror, or not know of it.
        found = sum(report.status.documents.to_json().values())
        first = f"first pass under way, {found:,} found so far" if found else "the first pass has not started"
        words.insert(0, first)
    elif is_moving and report.has_passed:  # before that nobody knows how many there are
        words.append(f"about {lasting(report.waiting / rate)} left")
    return f"{report.status.name}: {', '.join(words)}" if words else ""


def print_table(output: Output, reports: Sequence[MirrorReport]) -> None:
    """One line for each mirror, the worst first; on a terminal no wider than that."""
    ordered = worst_first(reports)
    shown, now = [each.status for each in ordered], time.time()
    waiting = tuple(lasting(each.oldest_pending_s) if each.oldest_pending_s else "-" for each in shown)
    passed = [None if each.last_pass is None else max(0.0, now - each.last_pass) for each in shown]
    ago = tuple("never" if seconds is None else f"{lasting(seconds)} ago" for seconds in passed)
    columns = [Column("MIRROR", tuple(each.name for each in shown), is_key=True)]
    for state in SHOWN:
        counts = tuple(f"{getattr(each.documents, state.word):,}" for each in shown)
        is_key = state is Status.READY
        columns.append(Column(state.name, counts, is_number=True, is_key=is_key, blank="0"))
    columns += [
        Column("WAITING", waiting, is_number=True, blank="-"),
        Column("LAST PASS", ago, is_key=True),
        Column("FOLDER", tuple(printable(each.folder) for each in shown), is_path=True),
    ]
    head, *rows = table(columns, output.columns if output.is_terminal else None)
    if len(rows) != len(ordered):  # too narrow for a table: a block for each mirror
        for line in (head, *rows):
            output.line(line)
        return
    output.line(output.dim(head))
    styles = {Code.MIRRORED: output.green, Code.PASSING: output.yellow}
    for report, row in zip(ordered, rows, strict=True):
        name = report.status.name
        output.line(styles.get(report.checked_code, output.red)(name) + row.removeprefix(name))


def print_documents(output: Output, installation: Installation, mirror: MirrorConfig) -> None:
    """A line for each document; first those that are not as they should be."""
    styles = {
        Status.READY: output.green,
        Status.SKIPPED: output.dim,
        Status.FAILED: output.red,
        Status.HELD: output.red,
    }

    def write(tx: Tx) -> None:
        items = status_in(tx, installation, mirror, documents=True).items or ()
        for are_fine in (False, True):
            for item in items:
                if (item.state in (Status.READY, Status.SKIPPED)) is are_fine:
                    state = styles.get(item.state, output.yellow)(f"{item.state.word:8}")
                    size = "" if item.size is None else sized(item.size)
                    reason = output.dim(f"  {printable(item.reason)}") if item.reason else ""
                    output.line(f"{state}  {size:>7}  {printable(item.path)}{reason}")

    output.line()
    output.line(output.bold(mirror.name))
    read_state(installation, write)


EVERY = 1.0
RATE_OVER = 30.0
"""Seconds that a rate is the mean of."""

Sleep = Callable[[float], None]
Look = Callable[[], Sequence[MirrorReport]]


def follow(installation: Installation, *, sleep: Sleep = time.sleep) -> None:
    """Until Ctrl-C."""
    output = Output()

    def look() -> Sequence[MirrorReport]:
        return mirror_reports(installation)

    if output.can_move_cursor:
        _redraw(installation, look, sleep)
    else:
        for line in changes(look, sleep, time.time):
            output.write(f"{line}\n", flush=True)


def _redraw(installation: Installation, look: Look, sleep: Sleep) -> None:
    """The last frame stays on the first screen, as a whole."""
    frame, rates = Frame(), Rates()
    try:
        with second_screen() as screen:
            while True:
                reports = look()
                frame = framed(installation, reports, rates.seen(reports, time.monotonic()))
                size = shutil.get_terminal_size()
                screen.show([*frame.within(size.columns, size.lines - 1), Output().dim("Ctrl-C ends")])
                sleep(EVERY)
    finally:
        for line in frame.left():
            Output().line(line)


@dataclass(frozen=True, slots=True)
class Frame:
    """A look in styled lines: how the mirrors are, and below it what is wrong.

    `status`: the command that tells all of that.
    """

    standing: Sequence[str] = ()
    wrong: Sequence[str] = ()
    status: str = ""

    def left(self) -> list[str]:
        """All of it as `status` has it: above a prompt it is the end that stays in sight."""
        return [*self.wrong, *([""] if self.wrong else []), *self.standing]

    def within(self, columns: int, rows: int) -> list[str]:
        """What of it fits, an empty row at its end; of what is wrong it says how much does not."""
        whole = [*self.standing, *([""] if self.wrong else []), *self.wrong, ""]
        if len(whole) <= rows and not any(is_wider(line, columns) for line in self.wrong):
            return whole
        table = self.standing[: max(1, rows - 3)]
        shown = self.wrong[: max(0, rows - 3 - len(table))]
        more = len(self.wrong) - len(shown)
        rest = f"… and {more:,} more; see {self.status}" if more else f"in full: {self.status}"
        return [*table, "", *shown, rest, ""]


def framed(installation: Installation, reports: Sequence[MirrorReport], notes: Sequence[str]) -> Frame:
    """The table, what only watching shows, and what is wrong."""
    with contextlib.closing(_Kept()) as kept:
        output = Output(kept)
        print_table(output, reports)
        table = kept.getvalue().splitlines()
        wrong = [f"{output.red('! ')}{line}" for line in troubles(installation, reports)]
    between = [""] if notes else []
    return Frame([*table, *between, *notes], wrong, installation.cure("status"))


class _Kept(io.StringIO):
    """Is written to as the terminal would be."""

    def isatty(self) -> bool:
        return True


class Rates:
    """How fast documents become searchable, seen over the last looks. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, int]]] = {}  # of each mirror, when, and how many were settled

    def seen(self, reports: Sequence[MirrorReport], now: float) -> list[str]:
        """A line for each mirror at work."""
        lines = []
        for each in reports:
            documents = each.status.documents
            seen = self._seen.setdefault(each.status.name, [])
            seen.append((now, documents.ready + documents.failed + documents.held))
            while now - seen[0][0] > RATE_OVER:
                seen.pop(0)
            done, seconds = seen[-1][1] - seen[0][1], now - seen[0][0]
            lines.append(speed(each, done / seconds if seconds > 0 else 0.0))
        return [line for line in lines if line]


def changes(look: Look, sleep: Sleep, wall: Callable[[], float]) -> Iterator[str]:
    """A line for each mirror as it stands, then one whenever it stands otherwise. `wall`: epoch seconds."""
    before: dict[str, str] = {}
    while True:
        for each in look():
            line = told(each)
            if before.get(each.status.name) != line:
                before[each.status.name] = line
                yield f"{iso(wall())} {line}"
        sleep(EVERY)


def told(report: MirrorReport) -> str:
    """A mirror in one line."""
    status = report.status
    counts = [f"{number:,} {word}" for word, number in status.documents.to_json().items() if number]
    halt = "" if status.halt is None else f"; {status.halt.reason}: {status.halt.detail}"
    cure = f"; cure: {status.halt.cure}" if status.halt is not None and status.halt.cure else ""
    who = "; first pass under way" if report.is_in_first_pass else ""
    if report.is_unattended and (report.waiting or not report.has_passed):
        who = "; no kbsync is running"
    return printable(f"{status.name}: {', '.join(counts) or 'no documents'}{halt}{cure}{who}")


ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""Nothing wraps meanwhile, even where the terminal takes a character for wider than `cells` does."""

HOME, REST_OF_ROW, REST = "\x1b[H", "\x1b[K", "\x1b[J"
_STYLE = re.compile(r"(\x1b\[[0-9;]*m|\x1b\]8;;.*?\x1b\\)")
ENDED_BY = (signal.SIGTERM, signal.SIGHUP)


class Screen:
    """What is shown, a frame at a time. It ends with a signal: at once, or at the latest at the next frame.

    Python drops what is raised in the callback of a weak reference, where a signal may find it.
    """

    def __init__(self) -> None:
        self._ended_by = 0

    def end(self, number: int, _frame: object = None) -> NoReturn:
        """A signal came."""
        self._ended_by = number
        raise SystemExit(128 + number)

    def show(self, lines: Sequence[str]) -> None:
        """Replace what is there by these lines, a row each: as many as fit, of each as much as fits."""
        if self._ended_by:
            raise SystemExit(128 + self._ended_by)
        size = shutil.get_terminal_size()
        rows = [clipped(line, size.columns) for line in lines[: size.lines]]
        # Nothing of what was there stays; behind a full row a terminal would clear its last character.
        rows = [row + REST_OF_ROW if cells(unstyled(row)) < size.columns else row for row in rows]
        with ignore_closed_pipe(sys.stdout):
            sys.stdout.write(HOME + "\r\n".join(rows) + (REST if len(rows) < size.lines else ""))
            sys.stdout.flush()


def clipped(line: str, columns: int) -> str:
    """As much of a styled line as fits; what switches a style off stays."""
    if not is_wider(line, columns):
        return line
    kept, room = list[str](), columns - 1
    for piece in _STYLE.split(line):
        if _STYLE.fullmatch(piece):
            kept.append(piece)
        elif room >= 0:
            beginning = piece
            while cells(beginning) > room:
                beginning = beginning[:-1]
            kept.append(beginning if beginning == piece else f"{beginning}…")
            room = room - cells(piece) if beginning == piece else -1
    return "".join(kept)


def is_wider(line: str, columns: int) -> bool:
    """Whether a styled line is wider than a row."""
    return cells(unstyled(line)) > columns


def unstyled(text: str) -> str:
    """Without colours and links."""
    return _STYLE.sub("", text)


@contextlib.contextmanager
def second_screen() -> Iterator[Screen]:
    """The first comes back at the end, also after an error, Ctrl-C, SIGTERM or a closed window."""
    screen = Screen()

    def send(text: str) -> None:
        with ignore_closed_pipe(sys.stdout):
            sys.stdout.write(text)
            sys.stdout.flush()

    # What would end the process at once must leave the first screen behind, too.
    before = {number: signal.signal(number, screen.end) for number in ENDED_BY}
    try:
        send(ENTER)
        try:
            yield screen
        finally:
            send(LEAVE)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
