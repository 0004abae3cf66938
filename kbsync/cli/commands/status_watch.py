"""`kbsync status --watch`: shows the table full-screen or, without a terminal, prints a line for each
change.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

from kbsync.cli.commands.status_display import problems, remarks, table_lines
from kbsync.cli.output import Output, and_more, cells
from kbsync.cli.report import MirrorReport, mirror_reports, running_line
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.engine.status import halt_sentence, iso
from kbsync.installation import Installation

EVERY = 1.0
"""Seconds between updates."""

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def watch(installation: Installation) -> None:
    """Show the status until Ctrl-C."""
    output, read_reports = Output(), partial(mirror_reports, installation)
    if output.can_move_cursor and sys.stdin.isatty():
        asyncio.run(_on_screen(installation, output, read_reports))
        return
    for line in changes(read_reports, time.sleep, time.time):
        output.write(f"{line}\n", flush=True)


@dataclass(frozen=True, slots=True)
class Frame:
    """One screen, as styled lines. `status`: the command that shows everything."""

    table: Sequence[str]
    wrong: Sequence[str]
    status: str

    def all_lines(self) -> list[str]:
        """Return all lines in the order of `status`, so that the last ones stay visible above a prompt."""
        return [*self.wrong, *([""] if self.wrong else []), *self.table]

    def within(self, columns: int, rows: int) -> list[str]:
        """Return as many lines as fit: the table, an empty row, then the rest.

        If any lines are left out, the end of the screen says so.
        """
        wrong = [wrapped(line, columns) for line in self.wrong]
        all_lines = [*self.table, *([""] if wrong else []), *chain.from_iterable(wrong), ""]
        if len(all_lines) <= rows:
            return all_lines
        table = self.table[: max(1, rows - 3)]
        fitting, remaining = list[str](), rows - 3 - len(table)
        for number, lines in enumerate(wrong):
            if len(lines) > remaining:
                rest = f"… {and_more(len(wrong) - number, self.status)}"
                return [*table, "", *fitting, rest, ""]
            fitting += lines
            remaining -= len(lines)
        return [*table, "", *fitting, f"to list all: {self.status}", ""]


def wrapped(line: str, columns: int) -> list[str]:
    """Break the line into rows of at most `columns` cells, at spaces if possible. Nothing is truncated."""
    rows, row, width = list[str](), "", 0
    for word in re.findall(r"\S+\s*", line):
        word_width = cells(_STYLE.sub("", word.rstrip()))
        if row and width + word_width > columns:
            rows.append(row.rstrip())
            row, width = "", 0
        while word_width > columns:
            cut = next(end for end in range(len(word), 0, -1) if cells(word[:end]) <= columns)
            rows.append(word[:cut])
            word = word[cut:]
            word_width = cells(word.rstrip())
        row, width = row + word, width + cells(_STYLE.sub("", word))
    return [*rows, row.rstrip()]


def framed(output: Output, installation: Installation, reports: Sequence[MirrorReport]) -> Frame:
    """Return a screen: whether kbsync is running, the table, the remarks below it, and the problems."""
    remarks_below = list(remarks(output, reports))
    running = running_line(installation, reports)
    table = [running, *table_lines(output, reports), *([""] if remarks_below else []), *remarks_below]
    wrong = [f"{output.red('! ')}{line}" for line in problems(installation, reports)]
    return Frame(table, wrong, installation.command_line("status"))


async def _on_screen(
    installation: Installation, output: Output, read_reports: Callable[[], Sequence[MirrorReport]]
) -> None:
    from prompt_toolkit.formatted_text import ANSI
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.layout import FormattedTextControl, Window

    from kbsync.cli.full_screen import full_screen, show

    frame = framed(output, installation, read_reports())

    def content() -> ANSI:
        size = screen.output.get_size()
        return ANSI("\n".join([*frame.within(size.columns, size.rows - 1), output.dim("Ctrl-C to quit")]))

    async def keep_updating() -> None:
        nonlocal frame
        while True:
            await asyncio.sleep(EVERY)
            frame = framed(output, installation, await asyncio.to_thread(read_reports))
            screen.invalidate()

    screen = full_screen(Window(FormattedTextControl(content)), KeyBindings())
    try:
        await show(screen, keep_updating())
    finally:
        output.lines(frame.all_lines())


def changes(
    read_reports: Callable[[], Sequence[MirrorReport]],
    sleep: Callable[[float], None],
    wall: Callable[[], float],
) -> Iterator[str]:
    """Yield a line for each mirror, and another line whenever the mirror's status changes.

    `wall` returns epoch seconds.
    """
    before: dict[str, str] = {}
    while True:
        for report in read_reports():
            line = in_one_line(report)
            if before.get(report.status.name) != line:
                before[report.status.name] = line
                yield f"{iso(wall())} {line}"
        sleep(EVERY)


def in_one_line(report: MirrorReport) -> str:
    """Return the counts and the halt of a mirror in one line."""
    status = report.status
    counts = [f"{number:,} {state}" for state, number in status.documents.to_json().items() if number]
    halt = "" if status.halt is None else f"; {halt_sentence(status.halt)}"
    note = "; first pass under way" if report.is_in_first_pass else ""
    if report.is_unattended and (report.waiting or not report.has_passed):
        note = f"; {report.describe_unattended()}"
    return printable(f"{status.name}: {', '.join(counts) or 'no documents'}{halt}{note}")
