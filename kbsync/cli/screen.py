"""A terminal's second screen, left as it was found whatever happens."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from kbsync.cli.paper import cells, forgiving

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, REST = "\x1b[H", "\x1b[J"
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
        """Replace what is there by these lines, as many as fit; long ones go on below."""
        if self._ended_by:
            raise SystemExit(128 + self._ended_by)
        size = shutil.get_terminal_size()
        fitting = list(_fitting(lines, size.columns, size.lines))
        with forgiving(sys.stdout):
            sys.stdout.write(HOME + "".join(f"\x1b[2K{line}\r\n" for line in fitting)[:-2] + REST)
            sys.stdout.flush()


def _fitting(lines: Sequence[str], columns: int, rows: int) -> Iterator[str]:
    for line in lines:
        rows -= max(1, -(-cells(unstyled(line)) // max(1, columns)))
        if rows < 0:
            return
        yield line


def unstyled(text: str) -> str:
    """Without colours and links."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m|\x1b\]8;;.*?\x1b\\", "", text)


@contextlib.contextmanager
def second_screen() -> Iterator[Screen]:
    """The first comes back at the end, also after an error, Ctrl-C, SIGTERM or a closed window."""
    screen = Screen()
    with _unwinding(screen):
        _write(ENTER)
        try:
            yield screen
        finally:
            _write(LEAVE)


def _write(text: str) -> None:
    with forgiving(sys.stdout):
        sys.stdout.write(text)
        sys.stdout.flush()


@contextlib.contextmanager
def _unwinding(screen: Screen) -> Iterator[None]:
    """Within, what would end the process at once lets it clear up first."""
    before = {number: signal.signal(number, screen.end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
