"""Where words go: results to stdout, all else to stderr; styled on a terminal, plain elsewhere.

Tables that fit: what says nothing goes first, then long paths lose their beginning; nothing wraps.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from kbsync.core.text import printable

PLAIN_COLUMNS = 100
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What JSON allows in a string and a terminal or an encoder does not bear."""


class Output:
    """Stdout. A reader that went away (`… | head`) is no trouble: what is written then goes nowhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.is_terminal = self._stream.isatty()
        self._styled = self.is_terminal and is_styled()

    @property
    def moves(self) -> bool:
        """A terminal whose cursor can be moved; colours may be unwanted there all the same."""
        return self.is_terminal and os.environ.get("TERM") not in (None, "", "dumb")

    @property
    def columns(self) -> int:
        """How wide a line may be, in cells."""
        if not self.is_terminal:
            return PLAIN_COLUMNS
        import shutil

        return shutil.get_terminal_size().columns

    def line(self, text: str = "") -> None:
        """One line that was made printable by whoever wrote it."""
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """A part of a line."""
        with forgiving(self._stream):
            self._stream.write(text)

    def show(self, text: str) -> None:
        """A part of a line that somebody waits for."""
        with forgiving(self._stream):
            self._stream.write(text)
            self._stream.flush()

    def json(self, value: Any, *, on_one_line: bool = False) -> None:
        """One JSON document, for people on a terminal with indents unless it has to be `on_one_line`."""
        indent = 2 if self.is_terminal and not on_one_line else None
        text = json.dumps(value, ensure_ascii=False, indent=indent)
        self.line(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))

    def path(self, path: str, end: bytes = b"\n") -> None:
        """A path's own bytes and `end`; on a terminal nothing that could move its cursor."""
        if self.is_terminal and end == b"\n":
            self.line(printable(path))
            return
        with forgiving(self._stream):
            self._stream.flush()
            self._stream.buffer.write(os.fsencode(path) + end)

    def bold(self, text: str) -> str:
        """For what the eye should find first."""
        return self._style(text, "1")

    def dim(self, text: str) -> str:
        """For what may be overlooked."""
        return self._style(text, "2")

    def red(self, text: str) -> str:
        """For what is wrong, or goes."""
        return self._style(text, "31")

    def green(self, text: str) -> str:
        """For what is well, or new."""
        return self._style(text, "32")

    def yellow(self, text: str) -> str:
        """For what waits."""
        return self._style(text, "33")

    def cyan(self, text: str) -> str:
        """For what moves."""
        return self._style(text, "36")

    def link(self, text: str, path: Path) -> str:
        """`text` as a link to a file (OSC 8), where a terminal may follow it."""
        return f"\x1b]8;;{path.as_uri()}\x1b\\{text}\x1b]8;;\x1b\\" if self._styled else text

    def _style(self, text: str, number: str) -> str:
        return f"\x1b[{number}m{text}\x1b[0m" if self._styled and text else text


Style = Callable[[str], str]


def is_styled() -> bool:
    """Colours are not unwanted (no-color.org) and not beyond the terminal."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


Saying = Callable[[str, BaseException | None], None]

_as_log: list[Saying] = []
"""Says on stderr what `tell` is given, where the lines of a log go there and are no prose."""


def speak(as_log: Saying | None) -> None:
    """From now on `tell` speaks through the log, or in prose again: a stream has one form."""
    _as_log[:] = [] if as_log is None else [as_log]


def tell(text: str, error: BaseException | None = None) -> None:
    """Say something on stderr: each line with our name before it, so that it is known in a mixed log.

    `error`: one of ours, shown with its traceback. Where a log in another form goes there, it is one line of
    that (`speak`).
    """
    for say in _as_log:
        say(text, error)
        return
    with forgiving(sys.stderr):
        if error is not None:
            import traceback

            traceback.print_exception(error)
        for line in text.splitlines():
            sys.stderr.write(f"kbsync: {printable(line)}\n")
        sys.stderr.flush()


@contextlib.contextmanager
def forgiving(stream: TextIO) -> Iterator[None]:
    """Whoever read `stream` may have gone away; whatever is written afterwards goes nowhere.

    The same where messages cannot be written; results that cannot be are an error.
    """
    try:
        yield
    except BrokenPipeError:
        _lead_nowhere(stream)
    except OSError as error:
        _lead_nowhere(stream)
        if stream is not sys.stderr:
            raise OSError(error.errno, error.strerror, "stdout") from error


def _lead_nowhere(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def cells(text: str) -> int:
    """How many terminal cells `text` takes: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def columns(paper: Output, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Lines in columns, the last one as long as it is."""
    widths = [max(map(cells, column)) for column in zip(head, *rows, strict=True)]
    for number, row in enumerate((head, *rows)):
        padded = (text + " " * (width - cells(text)) for text, width in zip(row, widths, strict=True))
        line = "  ".join(padded).rstrip()
        paper.line(paper.dim(line) if number == 0 else line)


@dataclass(frozen=True, slots=True)
class ObjectTable:
    """Things of one kind in columns: `key` is theirs under `--json`, `empty` is told where there are none."""

    key: str
    head: tuple[str, ...]
    empty: str = ""

    def show(
        self,
        found: Sequence[dict[str, Any]],
        row: Callable[[dict[str, Any]], tuple[str, ...]],
        *,
        as_json: bool,
        quiet: bool,
        create: str = "",
    ) -> None:
        """All that was found, a line each; on stderr what to do where nothing was: `create`."""
        if as_json:
            Output().json({self.key: found})
        elif found or not self.empty:
            columns(Output(), self.head, [row(one) for one in found])
        elif not quiet:
            tell(self.empty.format(create))


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 document`, `2 documents`, `1,204 documents`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def with_settings(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The rows of what is shown; those of its `settings`, by the service's own names, at the end."""
    settings = found.get("settings", {})
    yield from ((key, value) for key, value in found.items() if key != "settings")
    yield from settings.items()


GAP = 2
SHORTEST_PATH = 12
"""Cells of a path below which it is better left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and a text for each row. `is_number`: stands at the right; `is_path`: may be cut.

    `blank` is what a row without anything to say has; `is_key`: never left out.
    """

    head: str
    texts: tuple[str, ...]
    is_number: bool = False
    is_path: bool = False
    is_key: bool = False
    blank: str = ""

    @property
    def width(self) -> int:
        """In cells."""
        return max(map(cells, (self.head, *self.texts)))

    @property
    def is_blank(self) -> bool:
        """No row has anything to say here."""
        return all(text == self.blank for text in self.texts)


def lines(columns: Sequence[Column], room: int | None) -> list[str]:
    """The heading and the rows in at most `room` cells (None: as wide as they are).

    Where even the columns that stay are too wide, each row is told in lines of its own.
    """
    fitting = list(columns) if room is None else _fitting(list(columns), room)
    if room is not None and _width(fitting) > room:
        return list(_blocks(columns))
    rows = zip(*(_padded(column) for column in fitting), strict=True)
    return ["".join(" " * GAP + text for text in row)[GAP:].rstrip() for row in rows]


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + GAP for column in columns) - GAP


def _fitting(columns: list[Column], room: int) -> list[Column]:
    for column in [each for each in columns if each.is_blank and not each.is_key][::-1]:
        if _width(columns) > room:
            columns.remove(column)
    for column in [each for each in columns if each.is_path]:
        too_much = _width(columns) - room
        if too_much > 0:
            place = columns.index(column)
            left = column.width - too_much
            columns[place : place + 1] = [shortened(column, left)] if left >= SHORTEST_PATH else []
    return columns


def shortened(column: Column, room: int) -> Column:
    """The same in at most `room` cells."""
    return replace(column, texts=tuple(elided(text, room) for text in column.texts))


def elided(path: str, room: int) -> str:
    """A path's end, from the beginning of a name on where that fits: `…/handbook/guides`."""
    if cells(path) <= room:
        return path
    end = path
    while cells(end) > room - 1:
        end = end[1:]
    slash = end.find("/")
    return "…" + (end[slash:] if 0 <= slash < len(end) - 1 else end)


def _padded(column: Column) -> Iterator[str]:
    for text in (column.head, *column.texts):
        room = " " * (column.width - cells(text))
        yield room + text if column.is_number else text + room


def _blocks(columns: Sequence[Column]) -> Iterator[str]:
    """`head text` in lines, what is blank left out."""
    key, *others = columns
    for number, name in enumerate(key.texts):
        yield name
        for column in others:
            if column.texts[number] != column.blank:
                yield f"  {column.head.lower()} {column.texts[number]}"
