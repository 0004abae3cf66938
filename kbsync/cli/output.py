"""Writes results to stdout and messages to stderr, styled on a terminal and plain elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any, TextIO

from kbsync.core.text import format_size, printable
from kbsync.dataclass import dataclass
from kbsync.terminal import PRIORITIES, can_move_cursor, is_journal, is_styled

PLAIN_COLUMNS = 100
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that JSON allows in a string, but that break a terminal or fail to encode."""


class Output:
    """Standard output. If nobody reads it anymore (`… | head`), further output is discarded."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.is_terminal = self._stream.isatty()
        self._styled = self.is_terminal and is_styled()

    @property
    def can_move_cursor(self) -> bool:
        """Whether stdout is a terminal on which the cursor can be moved, even if it shows no colors."""
        return self.is_terminal and can_move_cursor()

    @property
    def columns(self) -> int:
        """The maximum width of a line, in cells."""
        if not self.is_terminal:
            return PLAIN_COLUMNS
        import shutil

        return shutil.get_terminal_size().columns

    def line(self, text: str = "") -> None:
        """Write a line, which must be printable."""
        self.write(f"{text}\n")

    def lines(self, texts: Iterable[str]) -> None:
        """Write a line for each text."""
        for text in texts:
            self.line(text)

    def write(self, text: str, *, flush: bool = False) -> None:
        """Write part of a line. `flush`: don't buffer it, because a reader is waiting."""
        with ignore_closed_pipe(self._stream):
            self._stream.write(text)
            if flush:
                self._stream.flush()

    def json(self, value: Any, *, on_one_line: bool = False) -> None:
        """Write a JSON document, indented on a terminal unless `on_one_line`."""
        indent = 2 if self.is_terminal and not on_one_line else None
        # The stream would replace characters that it can't encode with escapes that JSON doesn't allow.
        is_utf8 = (self._stream.encoding or "utf-8").lower().replace("-", "") == "utf8"
        text = json.dumps(value, ensure_ascii=not is_utf8, indent=indent)
        self.line(_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))

    def path(self, path: str, end: bytes = b"\n") -> None:
        """Write the path's bytes unchanged, then `end`.

        On a terminal, escape anything that could move the cursor.
        """
        if self.is_terminal and end == b"\n":
            self.line(printable(path))
            return
        with ignore_closed_pipe(self._stream):
            self._stream.flush()
            self._stream.buffer.write(os.fsencode(path) + end)

    def _style(self, number: int, text: str) -> str:
        return f"\x1b[{number}m{text}\x1b[0m" if self._styled and text else text

    bold, dim = partialmethod(_style, 1), partialmethod(_style, 2)
    """Return the text in bold, for emphasis, or dimmed, for secondary details."""
    red, green = partialmethod(_style, 31), partialmethod(_style, 32)
    """Return the text in red, for errors and deletions, or in green, for success and new documents."""
    yellow, cyan = partialmethod(_style, 33), partialmethod(_style, 36)
    """Return the text in yellow, for pending items, or in cyan, for renames and marks."""

    def link(self, text: str, path: Path) -> str:
        """Return `text` as a link to a file (OSC 8), if the terminal is styled."""
        return f"\x1b]8;;{path.as_uri()}\x1b\\{text}\x1b]8;;\x1b\\" if self._styled else text


WriteMessage = Callable[[str, BaseException | None], None]

_log: WriteMessage | None = None


def route_messages(log: WriteMessage | None) -> None:
    """Make `print_message` write through the log, so that stderr has a single format.

    None restores plain text.
    """
    global _log  # noqa: PLW0603 - there is one stderr
    _log = log


def print_error(text: str, error: BaseException | None = None) -> None:
    """Print the error that ends the command. `journalctl -p err` shows it."""
    priority = f"<{PRIORITIES['error']}>" if is_journal(sys.stderr, os.environ) else ""
    print_message(text, error, priority=priority)


def print_message(text: str, error: BaseException | None = None, *, priority: str = "") -> None:
    """Print a message to stderr. Each line begins with our name, or is a log line (see `route_messages`).

    `error`: a bug, shown with its traceback.
    """
    if _log is not None:
        _log(text, error)
        return
    with ignore_closed_pipe(sys.stderr):
        if error is not None:
            import traceback

            traceback.print_exception(error)
        for line in text.splitlines():
            sys.stderr.write(f"{priority}kbsync: {printable(line)}\n")
        sys.stderr.flush()


@contextlib.contextmanager
def ignore_closed_pipe(stream: TextIO) -> Iterator[None]:
    """Discard all further output if nobody reads `stream` anymore.

    A message that can't be written is dropped, but a result that can't be written is an error.
    """
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError) and stream is not sys.stderr:
            raise OSError(error.errno, error.strerror, "stdout") from error


LISTED = 10
"""Default maximum number of lines in a list, so that the totals and notes fit on the same screen."""


def and_more(number: int, every: str = "") -> str:
    """Return a note on how many items were omitted. `every`: the command that lists all of them."""
    return f"and {number:,} more" + (f"; to list all: {printable(every)}" if every else "")


def first_lines(lines: Sequence[str], every: str = "", *, limit: int | None = LISTED) -> Iterator[str]:
    """Yield at most `limit` lines (None: all), then the number of lines that were omitted."""
    yield from lines[:limit]
    if limit is not None and len(lines) > limit:
        yield f"… {and_more(len(lines) - limit, every)}"


def cells(text: str) -> int:
    """Return the width of `text` in terminal cells: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    width = 0
    for character in text:
        is_joined = unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf")
        if not is_joined:
            width += 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
    return width


GAP = 2
MIN_PATH_WIDTH = 12
"""Minimum width of a shortened path, in terminal cells."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: a heading, and a text for each row.

    `is_number`: align the column to the right. `is_path`: the texts may be shortened at the start. `blank`:
    the text of a row without a value. `is_key`: never omit the column.
    """

    head: str
    texts: tuple[str, ...]
    is_number: bool = False
    is_path: bool = False
    is_key: bool = False
    blank: str = ""

    @property
    def width(self) -> int:
        """Return the width in cells."""
        return max(map(cells, (self.head, *self.texts)))

    def padded(self) -> list[str]:
        """Return the heading and the texts, padded to the same width."""
        lines = []
        for text in (self.head, *self.texts):
            room = " " * (self.width - cells(text))
            lines.append(room + text if self.is_number else text + room)
        return lines


def table(columns: Sequence[Column], room: int | None = None) -> list[str]:
    """Return the heading and the rows, at most `room` cells wide (None: any width). No line wraps.

    To save space, empty columns are omitted first, then the beginnings of long paths. If that isn't
    enough, each row becomes a block of lines.
    """
    fitting = list(columns)
    if room is not None:
        empty = [column for column in columns if set(column.texts) <= {column.blank} and not column.is_key]
        for column in reversed(empty):
            if _width(fitting) > room:
                fitting.remove(column)
        for column in [other for other in fitting if other.is_path]:
            too_much = _width(fitting) - room
            if too_much > 0:
                index, width = fitting.index(column), column.width - too_much
                del fitting[index]
                if width >= MIN_PATH_WIDTH:
                    texts = tuple(elided(text, width) for text in column.texts)
                    fitting.insert(index, replace(column, texts=texts))
        if _width(fitting) > room:
            return _blocks(columns)
    rows = zip(*(column.padded() for column in fitting), strict=True)
    return [(" " * GAP).join(row).rstrip() for row in rows]


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + GAP for column in columns) - GAP


def elided(path: str, room: int) -> str:
    """Return the end of a path, starting with a whole name if possible: `…/handbook/guides`."""
    if cells(path) <= room:
        return path
    end = path
    while cells(end) > room - 1:
        end = end[1:]
    slash = end.find("/")
    return "…" + (end[slash:] if 0 <= slash < len(end) - 1 else end)


def _blocks(columns: Sequence[Column]) -> list[str]:
    """Yield each row as its key, followed by a line `head text` for each value that isn't blank."""
    key, *others = columns
    lines = []
    for number, name in enumerate(key.texts):
        lines.append(name)
        for column in others:
            if column.texts[number] != column.blank:
                lines.append(f"  {column.head.lower()} {column.texts[number]}")
    return lines


def print_table(output: Output, columns: Sequence[Column], room: int | None = None) -> None:
    """Print a table with a dimmed heading."""
    head, *rows = table(columns, room)
    output.line(output.dim(head))
    output.lines(rows)


def print_objects(
    key: str, heads: Mapping[str, str], objects: Sequence[dict[str, Any]], *, as_json: bool
) -> None:
    """Print objects of one kind, each on a line with the fields in `heads`.

    With `as_json`, print all fields as JSON under `key`.
    """
    output = Output()
    if as_json:
        output.json({key: objects})
    elif objects:
        columns = [
            Column(head, tuple(_format_value(field, item[field]) for item in objects))
            for field, head in heads.items()
        ]
        print_table(output, columns)


def print_object(key: str, item: dict[str, Any], *, as_json: bool) -> None:
    """Print one object, with a line for each field.

    Its `settings` come last, under the service's own names.
    """
    output = Output()
    if as_json:
        output.json({key: item})
        return
    rows = [
        (field.replace("_", " "), _format_value(field, value))
        for field, value in item.items()
        if field != "settings"
    ]
    rows += [(name, _format_value(name, value)) for name, value in item["settings"].items()]
    width = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        output.line(f"{name + ':':<{width}}{text}")


def _format_value(field: str, value: Any) -> str:
    if value is None:
        return "?"
    if isinstance(value, int):
        return format_size(value) if field == "bytes" else f"{value:,}"
    return printable(", ".join(value) if isinstance(value, list) else value) or "-"


def print_deleted(id_: str, name: str, *, as_json: bool, quiet: bool) -> None:
    """Print which knowledge base or application was deleted."""
    if as_json:
        Output().json({"deleted": id_, "name": name})
    elif not quiet:
        Output().line(f"deleted {id_} {printable(name)}")
