"""Reads HTML as Markdown: headings, lists, tables and code, without navigation, scripts and styles."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import field
from html.parser import HTMLParser

from kbsync.dataclass import dataclass
from kbsync.index.document import Parsed
from kbsync.index.read.encoding import decode_declared
from kbsync.index.read.formats import word_set
from kbsync.index.read.text import (
    document_title,
    escaped,
    fenced,
    is_absolute,
    is_note_mark,
    linked,
    pipe_table,
    tidied,
    unescaped,
)
from kbsync.index.read.zip import number_of

_UNSEEN = word_set(
    """
    script style nav noscript template svg iframe object canvas audio video datalist map rt rp annotation
    annotation-xml hidden
    """
)
"""Elements that are never rendered or aren't part of the page's text. Ruby annotations, for instance, would
cut words in two, and annotations of formulas repeat the formulas. `hidden` means any element that its
attributes hide."""

_BLOCKS = word_set(
    """
    address article aside blockquote body center dd details dialog dir div dl dt fieldset figcaption figure
    footer form header hgroup hr html legend li main menu nav ol option p pre section select summary ul
    """
)
_RAW = word_set("script style")  # elements that never contain text, closed or not
_OPEN_ENDED = word_set("p option summary legend body html")
_CONTAINERS = _UNSEEN | _BLOCKS - _OPEN_ENDED | word_set("table tr td th ruby")
"""Elements that stay open until their own end tag or that of an outer element. `</body>` doesn't close any
other element.
"""

_VOID = word_set("area base br col embed hr img input link meta param source track wbr")

_APART = word_set("button label textarea output meter progress text")
"""Inline elements that get space around them; `text` is a line of text in an SVG drawing."""

_LISTS = ("ul", "ol", "menu", "dir")
_PARTS = {"td": ("table",), "th": ("table",), "tr": ("table",), "li": _LISTS}
"""Elements that close everything still open in the previous element of the same kind, each with the
elements that may contain it.
"""

_PARTS_OF = {"tr": ("td", "th"), **dict.fromkeys(("tbody", "thead", "tfoot"), ("tr", "td", "th"))}
"""The elements inside each part of a table: if the part is hidden, these elements are hidden, too."""

_HEADING_MARKS = ("¶", "#", "§", "\uf0c1", "🔗")
"""Texts of the links that programs add to headings. Such a link leads to its own heading, and appears
under the mouse pointer.
"""

_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}


@dataclass(slots=True)
class _List:
    ordered: bool
    number: int = 0


_MAX_FRAMES = 1_000
_MAX_SPAN = 100
_MAX_ADDED_CELLS = 50_000


@dataclass(slots=True)
class _Table:
    """A table that is being read. `cells` are lists of blocks."""

    rows: list[list[list[str]]] = field(default_factory=list)
    spans: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """`(rowspan, colspan)` of the cells that span several rows or columns, keyed by row and position in the
    row."""
    outside: list[str] = field(default_factory=list)  # a caption, and text outside the cells
    nested: bool = False

    def blocks(self) -> list[str]:
        """Return a pipe table. If the table is used only for layout, return just its cells, in order."""
        rows = [row for row in self.rows if any(row)]
        cells = [cell for row in rows for cell in row]
        is_layout = self.nested or max(map(len, rows), default=0) < 2
        if is_layout or any(
            sum(map(len, cell)) > 1500 or any(block.startswith(("#", "```")) for block in cell)
            for cell in cells
        ):
            return [block for cell in cells for block in cell]
        return [pipe_table([[" ".join(map(unescaped, cell)) for cell in row] for row in self._grid()])]

    def _grid(self) -> list[list[list[str]]]:
        """Return the rows with each cell in its column.

        A cell that spans several rows is in each of them. Spans that would add too many cells have no effect.
        """
        grid, added = list[list[list[str]]](), 0
        above = dict[int, tuple[int, list[str]]]()  # by column: rows that a cell still covers, and the cell
        for number, cells in enumerate(self.rows):
            row, below = list[list[str]](), dict[int, tuple[int, list[str]]]()
            for place, cell in enumerate(cells):
                while len(row) in above:
                    row.append(above[len(row)][1])
                height, width = self.spans.get((number, place), (1, 1))
                if height > 1:
                    below |= {len(row) + right: (height, [] if right else cell) for right in range(width)}
                row += [cell, *([] for _ in range(width - 1))]
            for column in sorted(column for column in above if column >= len(row)):
                row += [*([] for _ in range(column - len(row))), above[column][1]]
            added += len(row) - len(cells)
            if added > _MAX_ADDED_CELLS:
                return [row for row in self.rows if any(row)]
            if any(cells):
                grid.append(row)
            above = {column: (rows - 1, cell) for column, (rows, cell) in (above | below).items() if rows > 1}
        return grid


class _Page(HTMLParser):
    """Collects blocks of Markdown while the parser walks through the tags."""

    def __init__(self, unseen: frozenset[str], *, reads_frames: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._unseen = unseen
        self._frames = _MAX_FRAMES if reads_frames else 0  # how many more to read
        self._open: list[str] = []  # containers, outermost first
        self._count = Counter[str]()  # of each kind in `_open`
        self._around = Counter[str]()  # the same, outside the unseen container
        self._hidden: int | None = None  # index of the outermost unseen container in `_open`
        self._in_title = False
        # The page, then the open cells. A block that begins with a newline continues the list above it.
        self._sinks: list[list[str]] = [[]]
        self._tables: list[_Table] = []
        self._lists: list[_List] = []
        self._inline: list[str] = []
        self._prefix = ""
        self._pre = 0
        self._links: list[tuple[str, int]] = []
        self._raised: list[tuple[int, bool]] = []  # the start of superscript, and whether it is a link

    def result(self) -> str:
        """Return all blocks read."""
        self.close()
        while self._tables:
            self._end_table()
        self._flush()
        blocks = (block for block in self._sinks[0] if block.strip())
        return "".join(block if block[0] == "\n" else f"\n\n{block}" for block in blocks)

    @property
    def left_open(self) -> frozenset[str]:
        """Return the invisible elements that were never closed and therefore hide the rest of the page."""
        if self._hidden is None:
            return frozenset()
        if self._open[self._hidden] not in self._unseen:
            return self._unseen & {"hidden"}
        return frozenset(self._open[self._hidden :]) & self._unseen - _RAW

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        if self._hidden is not None and self._starts_new_part(tag):
            self._close(self._hidden)
        is_hidden = "hidden" in self._unseen and _is_hidden(tag, attrs)
        if is_hidden and tag in _VOID:
            return
        is_shown_frame = tag == "iframe" and self._frames and self._hidden is None and not is_hidden
        if is_shown_frame and (page := dict(attrs).get("srcdoc")):
            # Browser extensions save the content of frames in this attribute.
            self._frames -= 1
            self._flush()
            self._sinks[-1].append(read_html(page, falls_back_to_menu=False, reads_frames=False).text)
        # An inline element is a container while it hides its content.
        if tag in _CONTAINERS or is_hidden or (self._hidden is not None and self._open[self._hidden] == tag):
            if (is_hidden or tag in self._unseen) and self._hidden is None:
                self._hidden, self._around = len(self._open), self._count.copy()
            self._open.append(tag)
            self._count[tag] += 1
        if self._hidden is not None:
            return
        attributes = {name: value or "" for name, value in reversed(attrs)}  # the first of equal names counts
        if tag == "title":
            self._in_title = not self.title  # drawings have titles too
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._start_block(tag, attributes)
        elif tag in ("table", "tr", "td", "th", "caption"):
            self._start_table_part(tag, attributes)
        else:
            self._start_inline(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        was_hidden = self._hidden
        if self._count[tag]:  # as in browsers: an end closes all elements left open inside
            index = len(self._open) - 1
            while self._open[index] != tag:
                index -= 1
            self._close(index)
            if index == was_hidden:
                return
        if self._hidden is not None:
            return
        if tag == "title":
            self._in_title = False
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._end_block(tag)
        elif tag == "table" and self._tables:
            self._end_table()
        elif tag in ("td", "th", "tr", "caption"):
            self._flush()
        elif tag == "a":
            self._end_link()
        elif tag == "sup" and self._raised:
            self._separate_mark(*self._raised.pop())
        elif tag in _APART:
            self._inline.append(" ")

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Skip `<![if …]>` up to the next `>`, as browsers do. The library fails on unknown keywords."""
        return self.parse_bogus_comment(i)

    def handle_data(self, data: str) -> None:
        """Handle text between tags."""
        if self._in_title:
            self.title += data
        elif self._hidden is None:
            self._inline.append(data)

    def _starts_new_part(self, tag: str) -> bool:
        """Return whether `tag` shows that the invisible element was left open, because `tag` can't occur
        inside it.
        """
        if tag == "main":  # never inside navigation
            return True
        outermost = self._open[self._hidden or 0]
        if outermost == "p" and (tag in _BLOCKS or tag in _HEADINGS):
            return True
        if tag in _PARTS_OF.get(outermost, ()):
            return False
        parents = _PARTS.get(tag, ())
        return any(self._around[parent] for parent in parents) and not any(
            self._count[parent] - self._around[parent] for parent in parents
        )

    def _close(self, index: int) -> None:
        """Close the container at `index` and the elements open in it."""
        self._count.subtract(self._open[index:])
        del self._open[index:]
        if self._hidden is not None and index <= self._hidden:
            self._hidden = None

    def _start_block(self, tag: str, attributes: dict[str, str]) -> None:
        self._flush()
        if tag in _LISTS:
            self._lists.append(_List(tag == "ol", number_of(attributes.get("start"), 1) - 1))
        elif tag == "li":
            innermost = self._lists[-1] if self._lists else _List(ordered=False)
            innermost.number = number_of(attributes.get("value"), innermost.number + 1)
            mark = f"{innermost.number}. " if innermost.ordered else "- "
            self._prefix = "  " * min(max(0, len(self._lists) - 1), 8) + mark
        elif tag == "pre":
            self._pre += 1
        elif tag in _HEADINGS:
            self._prefix = _HEADINGS[tag]

    def _end_block(self, tag: str) -> None:
        self._flush()
        if tag in _LISTS and self._lists:
            self._lists.pop()
        elif tag == "pre" and self._pre:
            self._pre -= 1
        if tag in _HEADINGS or tag == "li":
            self._prefix = ""

    def _start_table_part(self, tag: str, attributes: dict[str, str]) -> None:
        self._flush()
        if tag == "table":
            if self._tables:
                self._tables[-1].nested = True
            self._tables.append(_Table())
            self._sinks.append(self._tables[-1].outside)
        elif tag == "tr" and self._tables:
            self._tables[-1].rows.append([])
        elif tag in ("td", "th") and self._tables:
            rows = self._tables[-1].rows
            if not rows:
                rows.append([])
            rows[-1].append([])
            spans = (number_of(attributes.get(name), 1) for name in ("rowspan", "colspan"))
            height, width = (max(1, span) for span in spans)
            if height > 1 or width > 1:
                self._tables[-1].spans[len(rows) - 1, len(rows[-1]) - 1] = height, min(width, _MAX_SPAN)
            self._sinks[-1] = rows[-1][-1]

    def _end_table(self) -> None:
        self._flush()
        self._sinks.pop()
        table = self._tables.pop()
        self._sinks[-1] += table.outside + table.blocks()

    def _start_inline(self, tag: str, attributes: dict[str, str]) -> None:
        match tag:
            case "br":
                self._inline.append("\n" if self._pre else " ")
            case "img" if attributes.get("alt", "").strip():
                self._inline.append(f" {attributes['alt']} ")
            case "a":
                start = len(self._inline)
                self._links.append((attributes.get("href", ""), start))
                if self._raised and self._raised[-1][0] == start:
                    self._raised[-1] = (start, True)
            case "sup":
                start = len(self._inline)
                self._raised.append((start, bool(self._links) and self._links[-1][1] == start))
            case "input" if attributes.get("type", "").lower() in ("submit", "button"):
                self._inline.append(f" {attributes.get('value', '')} ")
            case _ if tag in _APART:
                self._inline.append(" ")

    def _end_link(self) -> None:
        """End a link, or drop it if it only leads to its own heading."""
        if not self._links:
            return
        target, start = self._links.pop()
        text = " ".join("".join(self._inline[start:]).split())
        if text in _HEADING_MARKS and "#" in target:
            del self._inline[start:]
        elif text and is_absolute(target):
            self._inline[start:] = [linked(text, target)]
        elif "#" in target:  # books style such links as superscripts
            self._separate_mark(start, is_link=False)

    def _separate_mark(self, start: int, is_link: bool) -> None:
        """Put a space before a superscript that refers to a note."""
        before = "".join(piece[-4:] for piece in self._inline[max(0, start - 4) : start])
        raised = "".join(self._inline[start : start + 4])
        if len(self._inline) <= start + 4 and is_note_mark(before, raised, is_link=is_link):
            self._inline.insert(start, " ")

    def _flush(self) -> None:
        text, self._inline = "".join(self._inline), []
        self._links.clear()
        self._raised.clear()
        prefix = self._prefix
        if self._pre and text.strip():
            block = fenced(text.strip("\n"))
        else:
            block = " ".join(text.split())
            block = block if prefix else escaped(block)
        if not block:
            return
        self._prefix = ""
        sink = self._sinks[-1]
        is_item = prefix.lstrip().startswith("- ") or prefix.rstrip().endswith(".")
        above = sink[-1].rpartition("\n")[2].lstrip() if is_item and sink and self._lists else ""
        follows = above.startswith("- ") or above.partition(". ")[0].isdigit()
        sink.append(("\n" if follows else "") + prefix + block)


def _is_hidden(tag: str, attributes: list[tuple[str, str | None]]) -> bool:
    """Return whether the attributes hide the element permanently.

    A link or a script may reveal an element that has an id or a role, such as a tab. Some pages are hidden as
    a whole until a script reveals them.
    """
    is_hidden = False
    for name, value in attributes:
        if name in ("id", "role"):
            return False
        if name == "hidden":
            is_hidden |= value != "until-found"
        elif name == "class" and value == "katex-mathml":  # the same formula follows in HTML
            is_hidden = True
        elif name == "style" and value and "none" in value:
            is_hidden |= "display:none" in "".join(value.split())
    return is_hidden and tag not in ("html", "body")


def read_html(text: str, *, falls_back_to_menu: bool = True, reads_frames: bool = True) -> Parsed:
    """Return a decoded page as Markdown. Its title is the page's own title or the first heading.

    `falls_back_to_menu`: whether to return the navigation of a page that has no other text. `reads_frames`:
    whether to read the pages in its frames, but no frames inside those.
    """
    # A mark that opens and never closes is text. The library would search for the end again from each such
    # mark.
    end = text.rfind("-->") + 1
    text = text[:end] + text[end:].replace("<!--", " ")
    end = text.rfind(">") + 1
    text = text[:end] + text[end:].replace("<", "&lt;")
    text = _RAW_END.sub(r"</\1>", text)
    unseen = _UNSEEN
    while True:
        page = _Page(unseen, reads_frames=reads_frames)
        page.feed(text)
        body = page.result()
        seen_after_all = page.left_open
        if not body.strip():
            seen_after_all |= {"noscript", "svg", "hidden"} | ({"nav"} if falls_back_to_menu else set())
        if not seen_after_all & unseen:
            break
        # Unclosed elements hide nothing, and a menu or a drawing is better than an empty page.
        unseen -= seen_after_all
    body = tidied(body)
    return Parsed(body, title=document_title(page.title, body))


_RAW_END = re.compile(r"</(script|style)[\s/][^<>]{0,100}>", re.IGNORECASE)
"""Matches an end tag with attributes, which ends a script in browsers, but not in the library."""


def read_page(raw: bytes) -> Parsed:
    """Return an HTML file as Markdown."""
    return read_html(decode_declared(raw))
