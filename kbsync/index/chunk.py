"""Splits a text into chunks at places that depend on its content, so that an edit changes only nearby chunks.
This module does no I/O.

First the text is split into blocks: headings, paragraphs, fences, tables, rows. A block is a piece of text
that readers see as a unit. Together, the blocks cover all characters except whitespace, and they never
overlap.

Then blocks are gathered into chunks. A hash of the next block's beginning, never the position in the text,
decides whether a chunk may end before that block; a short page always ends its chunk. Sizes are rounded to
coarse steps before they are compared with the limits. So an edit in the middle of a paragraph that hardly
changes its length moves no boundary; rewriting a paragraph moves at most the boundaries next to it.
"""

from __future__ import annotations

import bisect
import enum
import hashlib
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from kbsync.core.text import lazy_pattern
from kbsync.dataclass import dataclass
from kbsync.errors import Rejected
from kbsync.index.characters import legible
from kbsync.index.document import Chunk, Flavour, Parsed


class Shape(enum.Enum):
    """The kind of a block."""

    TEXT = "text"
    HEADING = "heading"
    FENCE = "fence"  # code and other preformatted text
    TABLE = "table"
    ROW = "row"  # one record of many


@dataclass(frozen=True, slots=True)
class Block:
    """The block `text[start:end]`. For a heading, `level` (1 = outermost) and `title` are set.

    The chunker sets `size` (in tokens), splits large blocks into parts, and repeats `lead` in a chunk that
    begins with the block.
    """

    start: int
    end: int
    shape: Shape
    level: int = 0
    title: str = ""
    size: int = 0
    is_part: bool = False
    lead: str = ""

    @property
    def is_heading(self) -> bool:
        """Whether the block is the heading of the blocks after it."""
        return self.shape is Shape.HEADING


class _Line(NamedTuple):
    """A line without its line ending: `text[start:end]`."""

    start: int
    end: int
    text: str


def blocks(text: str, flavour: Flavour) -> Iterator[Block]:
    """Return the blocks of `text`, in order."""
    match flavour:
        case Flavour.ROWS:  # each line that is not blank
            return (Block(line.start, line.end, Shape.ROW) for line in _lines(text) if line.text.strip())
        case Flavour.CODE:
            return _code(text)
        case Flavour.PLAIN:  # each run of lines that are not blank
            return _paragraphs(text)
        case _:
            return _MarkupReader(text, flavour).blocks()


def _lines(text: str) -> Iterator[_Line]:
    """Yield the lines of `text` one at a time, but only the first of several consecutive empty lines."""
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield _Line(start, end, text[start:end])
        empty = _NEWLINES.match(text, end + 1) if start == end else None
        start = empty.end() if empty else end + 1


_NEWLINES = re.compile(r"\n+")


def _paragraphs(text: str) -> Iterator[Block]:
    """Yield a block for each run of lines that aren't blank."""
    start, end = -1, 0
    for line in _lines(text):
        if line.text and not line.text.isspace():
            start = line.start + len(line.text) - len(line.text.lstrip()) if start < 0 else start
            end = line.end
        elif start >= 0:
            yield Block(start, end, Shape.TEXT)
            start = -1
    if start >= 0:
        yield Block(start, end, Shape.TEXT)


def _code(text: str) -> Iterator[Block]:
    """Yield a block for each unindented line that follows a blank line. The block extends to the next such
    line.
    """
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
    """The syntax of headings, fences and tables in a markup language.

    `heading` has the groups `mark` and `title`. `levels` lists the marks of headings by level; if it is
    empty, the length of a mark is its level. `underlines` are the characters that turn the line above into a
    heading. `fence` matches the start of a fence; `_closes` decides where the fence ends.
    """

    heading: re.Pattern[str] | None = None
    levels: tuple[str, ...] = ()
    underlines: str = ""
    fence: re.Pattern[str] | None = None
    table: re.Pattern[str] | None = None


# None of these may backtrack over a long part of a line: lines can have any length, and all other threads
# wait while an expression runs.
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
        # every later line is compared with the mark, so its length is bounded
        fence=re.compile(r"[ \t]*#\+begin_(?P<mark>\w{1,40})", re.IGNORECASE),
        table=re.compile(r"[ \t]*\|"),
    ),
    Flavour.TEX: _Grammar(
        heading=re.compile(
            r"[ \t]*\\(?P<mark>part|chapter|section|subsection|subsubsection|paragraph)\*?"
            r"(?:\[[^\]]*\])?\{(?P<title>.*)"
        ),
        levels=("part", "chapter", "section", "subsection", "subsubsection", "paragraph"),
        fence=re.compile(r"[ \t]*\\begin\{(?P<mark>verbatim|lstlisting|minted|tabular|longtable|table)\*?\}"),
    ),
}


def plain_title(title: str, flavour: Flavour) -> str:
    """Return the words of a heading, without closing marks, anchors, tags and TODO states."""
    title = title.strip()
    match flavour:
        case Flavour.MARKDOWN:
            bare, brace, name = title.rpartition("{")
            if brace and title.endswith("}") and name.startswith(("#", ".", ":")):
                title = bare.rstrip()
            return _without_closing(title, "#")
        case Flavour.ASCIIDOC:
            return _without_closing(title, "=")
        case Flavour.ORG:
            state, _, rest = title.partition(" ")
            title = rest.lstrip() if state in ("TODO", "DONE") and rest else title
            title = title[4:].lstrip() if _PRIORITY.match(title) else title
            *words, tags = title.rsplit(None, 1) or [""]
            return words[0] if words and _ORG_TAGS.fullmatch(tags) else title
        case Flavour.TEX:
            return _plain_tex(title)
    return title


_PRIORITY = re.compile(r"\[#\w\]")
_ORG_TAGS = re.compile(r":[\w@#%:]+:")
_BRACE = re.compile(r"\\.|[{}]")
_LABEL = re.compile(r"\\(?:label|index|footnote|cite)\{[^{}]*\}")
_COMMAND = re.compile(r"\\[a-zA-Z]+\*?\s*|[{}]|\\(?=[&%$#_{}])")


def _plain_tex(title: str) -> str:
    """Return the text in the braces that open just before `title`, on one line and without commands."""
    depth = 1
    for brace in _BRACE.finditer(title):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            title = title[: brace.start()]
            break
    else:
        title = title.partition("\n")[0]
    return " ".join(_COMMAND.sub("", _LABEL.sub("", title)).split())


def _without_closing(title: str, mark: str) -> str:
    """Return `title` without closing marks, but keep the one in `C#`."""
    title = title.rstrip(" \t")
    bare = title.rstrip(mark)
    return bare.rstrip(" \t") if not bare or bare[-1] in " \t" else title


class _MarkupReader:
    """Reads marked-up text line by line, and collects the lines of the block that is currently open."""

    def __init__(self, text: str, flavour: Flavour) -> None:
        self._text = text
        self._flavour, self._grammar = flavour, _GRAMMARS[flavour]
        self._underlines_seen = ""  # reStructuredText's levels, in order of appearance
        self._open: list[_Line] = []  # the first two lines and the last one
        self._is_table = False

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        fence, mark = 0, ""  # start of the open fence, and the mark that opened it
        for line in _lines(self._text):
            if mark:
                if _closes(line.text, mark):
                    yield Block(fence, line.end, Shape.FENCE)
                    mark = ""
            elif opened := self._grammar.fence and self._grammar.fence.match(line.text):
                yield from self._close_block()
                fence, mark = line.start, opened["mark"]
            else:
                yield from self._read(line)
        if mark:
            yield Block(fence, len(self._text), Shape.FENCE)
        yield from self._close_block()

    def _read(self, line: _Line) -> Iterator[Block]:
        """Yield the blocks that end at a line outside any fence."""
        if not line.text or line.text.isspace():
            yield from self._close_block()
        elif heading := self._heading(line):
            yield from self._close_block()
            yield heading
        elif heading := self._underlined_heading(line):
            self._open.clear()
            yield heading
        else:
            is_table = bool(self._grammar.table and self._grammar.table.match(line.text))
            if is_table != self._is_table:
                yield from self._close_block()
            del self._open[2:]
            self._open.append(line)
            self._is_table = is_table

    def _close_block(self) -> Iterator[Block]:
        """Yield the open block, if there is one."""
        if self._open:
            shape = Shape.TABLE if self._is_table else Shape.TEXT
            yield Block(self._open[0].start, self._open[-1].end, shape)
        self._open.clear()
        self._is_table = False

    def _heading(self, line: _Line) -> Block | None:
        """Return the heading that is marked in `line` itself, without considering other lines."""
        match = self._grammar.heading and self._grammar.heading.match(line.text)
        if not match:
            return None
        mark, levels = match["mark"], self._grammar.levels
        level = levels.index(mark) + 1 if levels else len(mark)
        return Block(line.start, line.end, Shape.HEADING, level, plain_title(match["title"], self._flavour))

    def _underlined_heading(self, line: _Line) -> Block | None:
        """Return the heading that `line` underlines. The heading may also have an overline."""
        if not self._open or not self._is_rule(line) or self._is_rule(self._open[-1]):
            return None
        title, rule = plain_title(self._open[-1].text, self._flavour), line.text.rstrip()
        is_overlined = len(self._open) == 2 and self._open[0].text.rstrip() == rule
        fits = self._grammar.heading is not None or len(rule) >= len(title)
        if not fits or not (len(self._open) == 1 or is_overlined):
            return None
        levels = self._grammar.underlines
        if self._grammar.heading is None:  # levels in the order of the text
            self._underlines_seen += rule[0] if rule[0] not in self._underlines_seen else ""
            levels = self._underlines_seen
        return Block(self._open[0].start, line.end, Shape.HEADING, levels.index(rule[0]) + 1, title)

    def _is_rule(self, line: _Line) -> bool:
        """Return whether `line` is one of the underlining characters, repeated."""
        bare = line.text.rstrip()
        return len(bare) >= 2 and bare[0] in self._grammar.underlines and bare == bare[0] * len(bare)


def _closes(line: str, mark: str) -> bool:
    """Return whether `line` closes the fence that was opened with `mark`."""
    bare = line.strip()
    if mark[0].isalnum():
        return bare.lower().startswith((f"#+end_{mark.lower()}", f"\\end{{{mark.lower()}"))
    if mark[0] == "|":
        return bare == mark
    return bare.startswith(mark) and bare == bare[0] * len(bare)


LONGEST = 400
"""Maximum number of tokens in an unsplit block, and in a chunk after another block is added."""

_MAX_HEADING_LENGTH = 200
_MAX_HEADINGS = 8
"""Maximum length in characters of a heading above a chunk, and maximum number of headings: every chunk below
repeats them."""

_WIDEST_GAP = LONGEST * 4
"""Number of consecutive whitespace characters that end a chunk."""

_SHORT_PAGE = 160
"""Maximum number of tokens on a page that always ends its chunk, so that a hit on a slide has the slide's
number. Longer pages don't end a chunk, because an edit earlier in the text often moves their end.
"""

_OPENING = 32
"""Number of characters at the beginning of a block that decide whether a chunk may end before the block."""

_NEWLINE = re.compile(r"\n")
_SENTENCE = re.compile(r"[。！？；…]+[”’」』）】]*|(?<=[.!?;])[\"')\]]*\s+|\n")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences and lines of the text."""
    start = 0
    for mark in _SENTENCE.finditer(text):
        yield text[start : mark.end()]
        start = mark.end()
    yield text[start:]


# Where a chunk may end: `(size, share)`, the largest size first. From that size (in tokens) on, the opening
# of the next block allows a cut in `share` of 256 cases.
_AFTER_WHOLE = ((160, 224), (32, 128))  # paragraphs, fences, tables
_AFTER_PART = ((288, 192), (128, 64))  # rows, lines and sentences: a readable chunk has many of them


_wide = lazy_pattern("[⺀-\uffff\U00020000-\U0003ffff]+")


def weight(text: str) -> int:
    """Estimate the number of tokens of `text` in an embedding model: one for each CJK character, and a
    quarter for each other character.
    """
    wide = 0 if text.isascii() else sum(run.end() - run.start() for run in _wide().finditer(text))
    return wide + (len(text) - wide + 3) // 4


MAX_CHARACTERS = 256 * 1024 * 1024
"""Maximum total number of characters in a document's chunks and their headings, which are all in memory at
the same time.
"""


def chunk(parsed: Parsed) -> list[Chunk]:
    """Return the chunks of `parsed` in order. Together they contain all characters except whitespace.

    A chunk has at most about twice `LONGEST` tokens. Keys don't contain the path, so renaming the document
    doesn't change them. Memory use, apart from the text and its chunks, doesn't grow with the text. Raises
    `Rejected` for texts over `MAX_CHARACTERS`.
    """
    parsed = make_legible(parsed)
    text, starts = parsed.text, parsed.page_starts
    chunks = list[Chunk]()
    trail: list[tuple[int, str]] = []  # level and title of the current headings, outermost first
    counted, line, characters = 0, parsed.line_offset + 1, 0
    short_page_ends = [
        end
        for start, end in itertools.pairwise([*starts, len(text)])
        if end - start <= _SHORT_PAGE * 4 and weight(text[start:end]) <= _SHORT_PAGE
    ]
    for group in _groups(_pieces(parsed), text, short_page_ends):
        # A chunk has the headings above its first piece that isn't a heading.
        headings: tuple[str, ...] | None = None
        for piece in group:
            if piece.is_heading:
                while trail and trail[-1][0] >= piece.level:
                    trail.pop()
                trail.append((piece.level, piece.title[:_MAX_HEADING_LENGTH]))
                del trail[:-_MAX_HEADINGS]
            elif headings is None:
                headings = tuple(title for _, title in trail if title)
        if headings is None:
            headings = tuple(title for _, title in trail if title)
        start = group[0].start
        body = text[start : group[-1].end].rstrip()
        start += len(body) - len(body.lstrip())
        line += text.count("\n", counted, start)  # only forward, because chunks are in order
        counted = start
        lead = group[0].lead
        if lead and not body.lstrip().startswith(lead.strip()):
            body = f"{lead}\n{body}"
        body = body.strip("\n")
        # The vector's input includes the headings that aren't in the text. Only the first chunk's includes
        # the title, so a new title changes one vector, not all.
        own_titles = {piece.title for piece in group if piece.is_heading} | {""}
        outer = [parsed.title or "", *headings] if not chunks else [h for h in headings if h != parsed.title]
        above = [title for title in dict.fromkeys(outer) if title not in own_titles]
        embed_text = "\n".join([*above, body])
        characters += len(embed_text)
        if characters > MAX_CHARACTERS:
            reason = (
                "the headings are repeated above too many passages; shorten the headings or split the "
                "document"
            )
            raise Rejected(reason, code="output")
        key = hashlib.sha256(embed_text.encode()).hexdigest()
        page = max(1, bisect.bisect_right(starts, start)) if starts else None
        chunks.append(Chunk(body, embed_text, key, headings, page, line if parsed.has_lines else None))
    return chunks


def make_legible(parsed: Parsed) -> Parsed:
    """Return `parsed` with its text as it will be shown (`kbsync.index.characters`) and its page offsets
    adjusted to match.
    """
    boundaries = [*parsed.page_starts, len(parsed.text)]
    pages = [legible(parsed.text[start:end]) for start, end in itertools.pairwise([0, *boundaries])]
    starts = list(itertools.accumulate(map(len, pages)))[:-1]
    return replace(
        parsed,
        text="".join(pages),
        title=None if parsed.title is None else legible(parsed.title),
        tags=tuple(map(legible, parsed.tags)),
        page_starts=tuple(starts),
        columns=legible(parsed.columns),
    )


def _groups(pieces: Iterable[Block], text: str, ends: Sequence[int]) -> Iterator[list[Block]]:
    """Yield the pieces of each chunk as a group. No group crosses one of `ends`.

    No group ends with a heading, unless it consists only of headings or ends at one of `ends`.
    """
    group: list[Block] = []
    size = headings = 0  # `headings`: how many end the group
    for piece in pieces:
        is_far = bool(group) and (
            piece.start - group[-1].end > _WIDEST_GAP
            or bisect.bisect(ends, group[-1].start) < bisect.bisect(ends, piece.start)
        )
        if group and (is_far or _ends_before(piece, size, text)):
            # Headings wait for the text below them, unless the group has only headings and is too large.
            is_full = is_far or (headings == len(group) and size > LONGEST)
            if count := len(group) if is_full else len(group) - headings:
                yield group[:count]
                group = group[count:]
                size = sum(block.size for block in group)
                headings = len(group)
        group.append(piece)
        size += piece.size
        headings = headings + 1 if piece.is_heading else 0
    if group:
        yield group


def _ends_before(piece: Block, size: int, text: str) -> bool:
    """Return whether a chunk of `size` tokens ends before `piece`."""
    if size + piece.size > LONGEST:
        return True
    if piece.is_heading:
        return size >= 32
    steps = _AFTER_PART if piece.is_part else _AFTER_WHOLE
    share = next((share for least, share in steps if size >= least), 0)
    opening = text[piece.start : min(piece.end, piece.start + _OPENING)]
    return zlib.crc32(opening.encode("utf-8", "replace")) >> 12 & 255 < share


def _pieces(parsed: Parsed) -> Iterator[Block]:
    """Yield the blocks of the text, splitting large ones into lines or sentences."""
    columns = parsed.columns if weight(parsed.columns) <= LONGEST // 2 else ""
    for block in blocks(parsed.text, parsed.flavour):
        text = parsed.text[block.start : block.end]
        size = _coarse(weight(text))
        is_row = block.shape is Shape.ROW
        if size <= LONGEST:
            of_row = columns if is_row else ""
            yield Block(block.start, block.end, block.shape, block.level, block.title, size, is_row, of_row)
            continue
        lead = columns if is_row else _table_head(text) if block.shape is Shape.TABLE else ""
        shape = Shape.TEXT if block.is_heading else block.shape
        marks = (_SENTENCE if block.shape is Shape.TEXT else _NEWLINE).finditer(text)
        ends = itertools.chain((mark.end() for mark in marks), [len(text)])
        for start, end in _spans(text, ends):
            size = _coarse(weight(text[start:end]))
            yield Block(block.start + start, block.start + end, shape, size=size, is_part=True, lead=lead)


def _spans(text: str, ends: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the parts between `ends` that aren't blank. None is longer than `LONGEST` tokens."""
    start = 0
    for end in ends:
        # A very long part exceeds the limit whatever its characters, so don't count its tokens.
        while end - start > LONGEST * 4 or weight(text[start:end]) > LONGEST:
            # There is no place to cut: cut at a nearby space or, without one, by length.
            limit = min(end, start + LONGEST * 3)
            if weight(text[start:limit]) > LONGEST:
                limit = start + LONGEST - 1
            space = text.rfind(" ", start + (limit - start) // 2, limit)
            cut = space + 1 if space > start else limit
            if not text[start:cut].isspace():
                yield start, cut
            start = cut
        if text[start:end].strip():
            yield start, end
        start = end


def _table_head(table: str) -> str:
    """Return the header row and the delimiter row of a pipe table, to be repeated, or "" if it has none."""
    lines = table.split("\n", 2)
    is_rule = len(lines) > 1 and set("-=") & set(lines[1]) and not lines[1].strip(" \t|:+=-")
    head = "\n".join(lines[:2])
    return head if is_rule and weight(head) <= LONGEST // 2 else ""


def _coarse(size: int) -> int:
    """Round `size` up to a coarse step, so that a small edit rarely changes the result.

    The step is a quarter of the largest power of two that isn't above `size`.
    """
    step = max(1, 1 << max(0, size.bit_length() - 3))
    return -(-size // step) * step
