"""`kbsync status --watch`: shows the table full-screen or, without a terminal, prints a line for each
change.
"""

from __future__ import annotations

import asyncio
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from kbsync.cli.commands.status_display import problems, remarks, table_lines
from kbsync.cli.output import Output
from kbsync.cli.report import MirrorReport, mirror_reports, running_line
from kbsync.core.text import printable
from kbsync.engine.status import halt_sentence, iso
from kbsync.installation import Installation
from kbsync.permissions import naming

EVERY = 1.0
"""Seconds between updates."""


def watch(installation: Installation) -> None:
    """Show the status until Ctrl-C or, without a terminal, until nobody reads it anymore (`… | head`)."""
    output, read_reports = Output(), partial(mirror_reports, installation)
    if output.can_move_cursor and sys.stdin.isatty():
        asyncio.run(_on_screen(installation, output, read_reports))
        return
    with suppress(BrokenPipeError):
        for line in changes(read_reports, _sleep, time.time):
            with naming(Path("stdout")):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()


def _sleep(seconds: float) -> None:
    """Sleep. Raises `BrokenPipeError` if nobody reads stdout anymore."""
    reader = select.poll()
    reader.register(sys.stdout, 0)  # reports only errors
    if reader.poll(seconds * 1000):
        raise BrokenPipeError


def framed(
    output: Output, installation: Installation, reports: Sequence[MirrorReport]
) -> tuple[list[str], list[str]]:
    """Return the lines of a screen: whether kbsync is running, the table and the remarks below it; then the
    problems.
    """
    remarks_below = list(remarks(output, reports))
    running = running_line(installation, reports)
    table = [running, *table_lines(output, reports), *([""] if remarks_below else []), *remarks_below]
    return table, [f"{output.red('! ')}{line}" for line in problems(installation, reports)]


async def _on_screen(
    installation: Installation, output: Output, read_reports: Callable[[], Sequence[MirrorReport]]
) -> None:
    from prompt_toolkit.formatted_text import ANSI
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.layout import FormattedTextControl, HSplit, Window

    from kbsync.cli.full_screen import full_screen, show

    table, wrong = framed(output, installation, read_reports())
    hint = output.dim(f"Ctrl-C to quit; to list all: {installation.command_line('status')}")

    def content() -> ANSI:
        return ANSI("\n".join([*table, "", *wrong]))

    async def keep_updating() -> None:
        nonlocal table, wrong
        while True:
            await asyncio.sleep(EVERY)
            table, wrong = framed(output, installation, await asyncio.to_thread(read_reports))
            screen.invalidate()

    # Long lines wrap, so that none is cut off.
    body = Window(FormattedTextControl(content), wrap_lines=True)
    foot = Window(FormattedTextControl(ANSI(hint)), wrap_lines=True, dont_extend_height=True)
    screen = full_screen(HSplit([body, foot]), KeyBindings())
    try:
        await show(screen, keep_updating())
    finally:
        # In the order of `status`, so that the last lines stay visible above a prompt.
        output.lines([*wrong, *([""] if wrong else []), *table])


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
    note = f"; {report.first_pass}" if report.is_in_first_pass else ""
    if report.is_unattended and (report.waiting or not report.has_passed):
        note = f"; {report.describe_unattended()}"
    return printable(f"{status.name}: {', '.join(counts) or 'no documents'}{halt}{note}")
