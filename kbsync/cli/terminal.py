"""A terminal's second screen, left as it was found whatever happens."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from kbsync.cli.output import cells, ignore_closed_pipe

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""Nothing wraps meanwhile, even where the terminal takes a character for wider than `cells` does."""

HOME, REST_OF_ROW, REST = "\x1b[H", "\x1b[K", "\x1b[J"
_STYLE = re.compile(r"(\x1b\[[0-9;]*m|\x1b\]8;;.*?\x1b\\)")
ENDING = (signal.SIGTERM, signal.SIGHUP)


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
    # What would end the process at once must leave the first screen behind, too.
    before = {number: signal.signal(number, screen.end) for number in ENDING}
    try:
        _write(ENTER)
        try:
            yield screen
        finally:
            _write(LEAVE)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(text: str) -> None:
    with ignore_closed_pipe(sys.stdout):
        sys.stdout.write(text)
        sys.stdout.flush()
