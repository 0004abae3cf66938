"""Splits a text into blocks: headings, paragraphs, fences, tables, rows. Pure.

A block is a stretch of the text that a reader sees as one thing. Blocks follow each other, cover every
character that is not white space, and never overlap.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from kbsync.targets.local.pieces import Flavour


class Shape(enum.Enum):
    """What a block is."""

    TEXT = "text"
    HEADING = "heading"
    FENCE = "fence"  # code and whatever else is kept as it stands
    TABLE = "table"
    ROW = "row"  # one record of many


@dataclass(frozen=True, slots=True)
class Block:
    """`text[start:end]`; `level` (1 = outermost) and `title` of a heading."""

    start: int
    end: int
    shape: Shape
    level: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """One line without its end, at `start` in the text."""

    start: int
    text: str

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def blocks(text: str, flavour: Flavour) -> Iterator[Block]:
    """The blocks of `text` in order."""
    match flavour:
        case Flavour.ROWS:
            return _rows(text)
        case Flavour.CODE:
            return _code(text)
        case Flavour.PLAIN:
            return _paragraphs(text)
        case _:
            return _Marked(text, _GRAMMARS[flavour]).blocks()


def _lines(text: str) -> Iterator[_Line]:
    """The lines of `text`."""
    start = 0
    for line in text.split("\n"):
        yield _Line(start, line)
        start += len(line) + 1


def _rows(text: str) -> Iterator[Block]:
    """A block for each line that is not blank."""
    for line in _lines(text):
        if line.text and not line.text.isspace():
            yield Block(line.start, line.end, Shape.ROW)


_PARAGRAPH = re.compile(r"\S[^\n]*(?:\n[^\S\n]*\S[^\n]*)*")


def _paragraphs(text: str) -> Iterator[Block]:
    """A block for each run of lines that are not blank."""
    return (Block(found.start(), found.end(), Shape.TEXT) for found in _PARAGRAPH.finditer(text))


def _code(text: str) -> Iterator[Block]:
    """A block from each unindented line that follows a blank line up to the next such line."""
    start: int | None = None
    end, is_after_blank = 0, True
    for line in _lines(text):
        if not line.text or line.text.isspace():
            is_after_blank = True
            continue
        if start is not None and is_after_blank and not line.text[0].isspace():
            yield Block(start, end, Shape.FENCE)
            start = None
        start = line.start if start is None else start
        end, is_after_blank = line.end, False
    if start is not None:
        yield Block(start, end, Shape.FENCE)


@dataclass(frozen=True, slots=True)
class _Grammar:
    """How a flavour marks headings, fences and tables.

    `heading` has the groups `mark` and `title`; `levels` says how deep a mark is, else its length does.
    `underlines` are the characters that make a heading of the line above. `fence` opens one; `_closes`
    decides where it ends.
    """

    heading: re.Pattern[str] | None = None
    levels: tuple[str, ...] = ()
    underlines: str = ""
    fence: re.Pattern[str] | None = None
    table: re.Pattern[str] | None = None


# None of these may try a stretch of a line again from another place: lines of strangers are as long as they
# like, and an expression that is at work lets no other thread do anything.
_GRAMMARS = {
    Flavour.MARKDOWN: _Grammar(
        heading=re.compile(r" {0,3}(?P<mark>#{1,6})[ \t]+(?P<title>.*)"),
        underlines="=-",
        fence=re.compile(r"[ \t]*(?P<mark>```+|~~~+)"),
        table=re.compile(r"[ \t]*\|"),
    ),
    Flavour.RST: _Grammar(underlines="=-`:'\"~^_*+#<>.", table=re.compile(r"[ \t]*[|+].*[|+][ \t]*$")),
    Flavour.ASCIIDOC: _Grammar(
        heading=re.compile(r"(?P<mark>={1,6})[ \t]+(?P<title>\S.*)"),
        fence=re.compile(r"(?P<mark>-{4,}|\.{4,}|\+{4,}|/{4,}|\|={3,})[ \t]*$"),
    ),
    Flavour.ORG: _Grammar(
        heading=re.compile(r"(?P<mark>\*+)[ \t]+(?P<title>\S.*)"),
        # the mark is compared with every line to come, so it is not as long as somebody likes
        fence=re.compile(r"[ \t]*#\+begin_(?P<mark>\w{1,40})", re.IGNORECASE),
        table=re.compile(r"[ \t]*\|"),
    ),
    Flavour.TEX: _Grammar(
        heading=re.compile(
            r"[ \t]*\\(?P<mark>part|chapter|section|subsection|subsubsection|paragraph)\*?\{(?P<title>.*)\}"
        ),
        levels=("part", "chapter", "section", "subsection", "subsubsection", "paragraph"),
        fence=re.compile(r"[ \t]*\\begin\{(?P<mark>verbatim|lstlisting|minted|tabular|longtable|table)\*?\}"),
    ),
}


def without_closing(title: str) -> str:
    """`title` of a heading in Markdown without the `#` that may stand behind it; those of `C#` stay."""
    title = title.rstrip(" \t")
    bare = title.rstrip("#")
    return bare.rstrip(" \t") if not bare or bare[-1] in " \t" else title


class _Marked:
    """Reads a marked-up text line by line, gathering lines into the open block."""

    def __init__(self, text: str, grammar: _Grammar) -> None:
        self._lines = list(_lines(text))
        self._grammar = grammar
        self._underlines_seen = ""  # in the order they were met: reStructuredText's levels
        self._open: list[_Line] = []
        self._is_table = False

    def blocks(self) -> Iterator[Block]:
        """The blocks in order."""
        at = 0
        while at < len(self._lines):
            line = self._lines[at]
            if fence_end := self._fence_end(at):
                yield from self._closed()
                yield Block(line.start, self._lines[fence_end - 1].end, Shape.FENCE)
                at = fence_end
                continue
            yield from self._read(line)
            at += 1
        yield from self._closed()

    def _read(self, line: _Line) -> Iterator[Block]:
        """Blocks that end because of a line outside of any fence."""
        if not line.text or line.text.isspace():
            yield from self._closed()
        elif heading := self._heading(line):
            yield from self._closed()
            yield heading
        elif heading := self._underlined(line):
            self._open.clear()
            yield heading
        else:
            is_table = bool(self._grammar.table and self._grammar.table.match(line.text))
            if is_table != self._is_table:
                yield from self._closed()
            self._open.append(line)
            self._is_table = is_table

    def _closed(self) -> Iterator[Block]:
        """The open block, if there is one."""
        if self._open:
            shape = Shape.TABLE if self._is_table else Shape.TEXT
            yield Block(self._open[0].start, self._open[-1].end, shape)
        self._open.clear()
        self._is_table = False

    def _heading(self, line: _Line) -> Block | None:
        """The heading that `line` is by itself."""
        found = self._grammar.heading and self._grammar.heading.match(line.text)
        if not found:
            return None
        mark, levels = found["mark"], self._grammar.levels
        level = levels.index(mark) + 1 if levels else len(mark)
        title = found["title"].strip()
        title = without_closing(title) if mark[0] == "#" else title
        return Block(line.start, line.end, Shape.HEADING, level, title)

    def _underlined(self, line: _Line) -> Block | None:
        """The heading that `line` makes of the one line above it (and of an overline before that)."""
        if not self._open or not self._is_rule(line) or self._is_rule(self._open[-1]):
            return None
        title, rule = self._open[-1].text.strip(), line.text.rstrip()
        is_overlined = len(self._open) == 2 and self._open[0].text.rstrip() == rule
        fits = self._grammar.heading is not None or len(rule) >= len(title)
        if not fits or not (len(self._open) == 1 or is_overlined):
            return None
        return Block(self._open[0].start, line.end, Shape.HEADING, self._level(rule[0]), title)

    def _is_rule(self, line: _Line) -> bool:
        """`line` is nothing but one of the underlining characters, repeated."""
        bare = line.text.rstrip()
        return len(bare) >= 2 and bare[0] in self._grammar.underlines and bare == bare[0] * len(bare)

    def _level(self, underline: str) -> int:
        """How deep a heading with this underline is."""
        if self._grammar.heading is not None:
            return self._grammar.underlines.index(underline) + 1
        if underline not in self._underlines_seen:
            self._underlines_seen += underline
        return self._underlines_seen.index(underline) + 1

    def _fence_end(self, at: int) -> int:
        """The line after the fence that opens at line `at`; 0 where none opens."""
        opened = self._grammar.fence and self._grammar.fence.match(self._lines[at].text)
        if not opened:
            return 0
        for end in range(at + 1, len(self._lines)):
            if _closes(self._lines[end].text, opened["mark"]):
                return end + 1
        return len(self._lines)


def _closes(line: str, mark: str) -> bool:
    """Whether `line` ends the fence that `mark` opened."""
    bare = line.strip()
    if mark[0].isalnum():
        return bare.lower().startswith((f"#+end_{mark.lower()}", f"\\end{{{mark.lower()}"))
    if mark[0] == "|":
        return bare == mark
    return bare.startswith(mark) and bare == bare[0] * len(bare)
