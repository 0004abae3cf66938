"""Tables that fit: what says nothing goes first, then long paths lose their beginning; nothing wraps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kbsync.cli.paper import cells

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
