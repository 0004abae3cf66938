"""`kbsync status --watch`: the table kept up to date on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from kbsync.cli.commands.status_table import print_table, speed, troubles
from kbsync.cli.mirror_report import MirrorReport, mirror_reports
from kbsync.cli.output import Output
from kbsync.cli.terminal import is_wider, second_screen
from kbsync.core.text import printable
from kbsync.engine.status import iso
from kbsync.installation import Installation

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
                stand = look()
                frame = framed(installation, stand, rates.seen(stand, time.monotonic()))
                size = shutil.get_terminal_size()
                screen.show([*frame.within(size.columns, size.lines - 1), Output().dim("Ctrl-C ends")])
                sleep(EVERY)
    finally:
        for line in frame.left():
            Output().line(line)


@dataclass(frozen=True, slots=True)
class Frame:
    """A look in styled lines: how the mirrors stand, and below it what is wrong.

    `status`: the command that tells all of that.
    """

    standing: Sequence[str] = ()
    wrong: Sequence[str] = ()
    status: str = ""

    def whole(self) -> list[str]:
        """All of it."""
        return [*self.standing, *([""] if self.wrong else []), *self.wrong]

    def left(self) -> list[str]:
        """All of it as `status` has it: above a prompt it is the end that stays in sight."""
        return [*self.wrong, *([""] if self.wrong else []), *self.standing]

    def within(self, columns: int, rows: int) -> list[str]:
        """What of it fits, an empty row at its end; of what is wrong it says how much does not."""
        whole = [*self.whole(), ""]
        if len(whole) <= rows and not any(is_wider(line, columns) for line in self.wrong):
            return whole
        table = self.standing[: max(1, rows - 3)]
        shown = self.wrong[: max(0, rows - 3 - len(table))]
        more = len(self.wrong) - len(shown)
        rest = f"… and {more:,} more; see {self.status}" if more else f"in full: {self.status}"
        return [*table, "", *shown, rest, ""]


def framed(installation: Installation, stand: Sequence[MirrorReport], notes: Sequence[str]) -> Frame:
    """The table, what only watching shows, and what is wrong."""
    with closing(_Kept()) as kept:
        output = Output(kept)
        print_table(output, stand)
        table = kept.getvalue().splitlines()
        wrong = [f"{output.red('! ')}{line}" for line in troubles(installation, stand)]
    between = [""] if notes else []
    return Frame([*table, *between, *notes], wrong, installation.cure("status"))


class _Kept(io.StringIO):
    """Is written to as the terminal would be."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    settled: int


class Rates:
    """How fast documents become searchable, seen over the last looks. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, list[_Seen]] = {}

    def seen(self, stand: Sequence[MirrorReport], now: float) -> list[str]:
        """A line for each mirror at work."""
        return [line for each in stand if (line := self._line(each, now))]

    def _line(self, stand: MirrorReport, now: float) -> str:
        documents, name = stand.status.documents, stand.status.name
        seen = self._seen.setdefault(name, [])
        seen.append(_Seen(now, documents.ready + documents.failed + documents.held))
        while now - seen[0].at > RATE_OVER:
            seen.pop(0)
        done, seconds = seen[-1].settled - seen[0].settled, now - seen[0].at
        return speed(stand, done / seconds if seconds > 0 else 0.0)


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


def told(stand: MirrorReport) -> str:
    """A mirror in one line."""
    status = stand.status
    counts = [f"{number:,} {word}" for word, number in status.documents.to_json().items() if number]
    halt = "" if status.halt is None else f"; {status.halt.reason}: {status.halt.detail}"
    cure = f"; cure: {status.halt.cure}" if status.halt is not None and status.halt.cure else ""
    who = "; first pass under way" if stand.is_in_first_pass else ""
    if stand.is_forsaken and (stand.waiting or not stand.has_passed):
        who = "; no kbsync is running"
    return printable(f"{status.name}: {', '.join(counts) or 'no documents'}{halt}{cure}{who}")
