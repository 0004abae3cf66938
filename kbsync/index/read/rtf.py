"""Reads rich text (RTF): the visible text, with notes and comments.

A group in braces inherits the state of the group around it. A destination is a group whose text belongs
elsewhere, such as in a footnote, the page header or the font table, or nowhere at all.
"""

from __future__ import annotations

import copy
import re
from dataclasses import field

from kbsync.dataclass import dataclass
from kbsync.index.document import Parsed
from kbsync.index.read.formats import word_set
from kbsync.index.read.text import (
    PAGE_NUMBERS,
    Blocks,
    distinct_texts,
    document_title,
    linked,
    note,
    one_line,
    split_keywords,
    style_of,
    tidied,
)
from kbsync.index.read.zip import damaged, without_text

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9a-fA-F]{2})|\\(.)|([{}])|([^\\{}\r\n]+)|[\r\n]+|\\",
    re.DOTALL,
)

_PAGE_TEXTS = word_set("header headerf headerl headerr footer footerf footerl footerr")
_ELSEWHERE = _PAGE_TEXTS | word_set(
    """
    annotation atnauthor dptxbxtext fldinst fldrslt fonttbl footnote keywords listtext pntext shptxt
    stylesheet title
    """
)
"""Destinations with their own text."""

_IGNORED = word_set(
    """
    aftncn aftnsep aftnsepc colortbl datafield filetbl formfield ftncn ftnsep ftnsepc generator info
    nonesttables nonshppict objclass objdata pict private rxe shprslt sp tc template txe upr xe
    """
)
"""Destinations whose text isn't shown. The text of an unknown destination after \\* isn't shown either."""

_INSIDE_IGNORED = word_set("keywords title ud")
_KNOWN = _ELSEWHERE | word_set("cs do nesttableprops shpinst")
"""Words that have a meaning after \\*."""

_SIGNS = {
    "tab": " ", "line": "\n", "lbr": "\n", "page": "\n", "column": "\n", "emdash": "\u2014",
    "endash": "\u2013", "emspace": " ", "enspace": " ", "qmspace": " ", "bullet": "\u2022",
    "lquote": "\u2018", "rquote": "\u2019",
    "ldblquote": "\u201c", "rdblquote": "\u201d", "zwj": "\u200d", "zwnj": "\u200c",
}  # fmt: skip

_CHARSETS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030", 136: "big5hkscs",
    161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251",
    222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip
_CODE_PAGES = {
    **{page: f"cp{page}" for page in (437, 720, 737, 775, 850, 852, 855, 858, 860, 862, 866, 874, 932, 949)},
    **{page: f"cp{page}" for page in range(1250, 1259)},
    936: "gb18030", 950: "big5hkscs", 1361: "johab", 10000: "mac_roman", 65001: "utf-8",
}  # fmt: skip

_ADDRESS = re.compile('HYPERLINK +"([^"]{1,300})"')


def read_rtf(raw: bytes) -> Parsed:
    """Return the rich text as Markdown. Raises `Rejected` if it has no text."""
    if not raw.lstrip().startswith(b"{\\rtf"):
        raise damaged("the file is not a rich text file")
    reader = _Reader()
    reader.read(raw)
    text = tidied(reader.text())
    if not text:
        raise without_text(pictures=b"\\pict" in raw)
    return Parsed(text, title=document_title(reader.title, text), tags=split_keywords(reader.keywords))


@dataclass(slots=True)
class _Flow:
    """A text made of paragraphs, such as the document itself, a note or a text box."""

    blocks: Blocks = field(default_factory=Blocks)
    line: list[str] = field(default_factory=list)  # the open paragraph
    label: str = ""
    apart: Blocks = field(default_factory=Blocks)  # notes, comments and text boxes of the open paragraph
    cell: Blocks = field(default_factory=Blocks)
    cells: list[Blocks] = field(default_factory=list)
    rows: list[list[Blocks]] = field(default_factory=list)

    def end_paragraph(self, state: _State) -> None:
        """End the open paragraph, and add it to the open cell. Outside a table, end any table above the
        paragraph, and add the paragraph to the text.
        """
        text = "".join(self.line).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if state.is_in_table:
            blocks = self.cell
        else:
            if text.strip():
                self.end_table()
            blocks = self.blocks
        if text.strip() and not state.is_contents:
            if state.level:
                blocks.add(f"{'#' * min(state.level, 6)} {one_line(f'{self.label} {text}')}")
            elif self.label:
                mark = self.label if any(map(str.isalnum, self.label)) else "-"
                blocks.add_item(state.depth, mark, one_line(text))
            else:
                blocks.add_paragraph(text)
        blocks.extend(self.apart)
        self.line, self.label, self.apart = [], "", Blocks()

    def end_cell(self, state: _State) -> None:
        """End the open cell, including its last paragraph."""
        in_table = copy.copy(state)
        in_table.is_in_table = True
        self.end_paragraph(in_table)
        self.cells.append(self.cell)
        self.cell = Blocks()

    def end_row(self) -> None:
        """End the open row."""
        self.rows.append(self.cells)
        self.cells = []

    def end_table(self) -> None:
        """Add the table, if one is open."""
        if self.cells or self.cell:
            self.rows.append([*self.cells, self.cell])
        self.blocks.add_table(self.rows)
        self.rows, self.cells, self.cell = [], [], Blocks()

    def end(self, state: _State) -> str:
        """Return the whole text."""
        self.end_paragraph(state)
        self.end_table()
        return self.blocks.text


@dataclass(slots=True)
class _State:
    """The state that a group inherits. `level` is the heading level, from 1; `unicode_skip` is the number
    given by \\uc."""

    flow: _Flow
    destination: str = ""
    is_ignored: bool = False
    is_hidden: bool = False
    is_in_table: bool = False
    is_contents: bool = False
    level: int = 0
    depth: int = 0
    style: int = 0
    codec: str = ""
    unicode_skip: int = 1
    instruction: list[str] = field(default_factory=list)  # of the surrounding field
    start: int = 0  # of the field's result in the open paragraph


class _Reader:
    def __init__(self) -> None:
        self._main = _Flow()
        self._state = _State(self._main)
        self._stack = list[_State]()
        self._bytes = bytearray()  # text that isn't decoded yet, because a character may be incomplete
        self._skip = 0  # how many replacements of a Unicode character to skip
        self._codec = "cp1252"
        self._fonts = dict[int, str]()
        self._font = -1
        self._styles = dict[int, tuple[int, bool]]()
        self._pages = {kind: list[str]() for kind in ("header", "footer")}
        self._author = ""
        self._is_starred = False
        self._usual_font = -1
        self.title, self.keywords = "", ""

    def text(self) -> str:
        """Return the whole document. Page headers come first and page footers last, each text only once."""
        body = self._main.end(self._state)
        headers, footers = map(distinct_texts, self._pages.values())
        return "\n\n".join(filter(None, [*headers, body, *footers]))

    def read(self, raw: bytes) -> None:
        """Read the document up to the end of its outermost group."""
        position = raw.index(b"{")
        while position < len(raw) and (token := _TOKEN.match(raw, position)):
            position = token.end()
            word, number, code, symbol, brace, plain = token.groups()
            if plain is not None:
                self._add_bytes(plain)
            elif code is not None:
                self._add_bytes(bytes([int(code, 16)]))
            elif brace == b"{":
                self._open()
            elif brace == b"}":
                self._close()
                if not self._stack:
                    break  # the rest is not shown
            elif word == b"bin":
                position += max(0, int(number or 0))
            elif word is not None:
                self._read_word(word.decode("ascii"), None if number is None else int(number))
            elif symbol in (b"\\", b"{", b"}"):
                self._add_bytes(symbol)
            elif symbol == b"~":
                self._add(" ")
            elif symbol == b"_":
                self._add("-")
            elif symbol in (b"\n", b"\r"):
                self._read_word("par", None)
            elif symbol == b"*":
                self._is_starred = True
        while self._stack:
            self._close()
        self._flush()

    def _add_bytes(self, content: bytes) -> None:
        if self._skip:
            skipped = min(self._skip, len(content))
            self._skip -= skipped
            content = content[skipped:]
        if not (self._state.is_ignored or self._state.is_hidden):
            self._bytes += content

    def _add(self, text: str) -> None:
        self._flush()
        if not (self._state.is_ignored or self._state.is_hidden):
            self._state.flow.line.append(text)

    def _flush(self) -> None:
        if self._bytes:
            codec = self._state.codec or self._fonts.get(self._usual_font) or self._codec
            text = self._bytes.decode(codec, "replace")
            self._bytes.clear()
            self._state.flow.line.append(text)

    def _open(self) -> None:
        self._flush()
        self._skip = 0
        self._stack.append(self._state)
        self._state = copy.copy(self._state)
        if self._state.destination == "stylesheet":
            self._begin("style")

    def _begin(self, destination: str) -> None:
        """Begin a destination, which gets the rest of this group's text."""
        state = self._state
        state.is_ignored = False
        if destination == "ud":  # the same text once more, in Unicode
            return
        state.destination = destination
        if destination == "fldrslt":
            state.start = len(state.flow.line)
        else:
            state.flow, state.is_in_table, state.is_contents, state.is_hidden = _Flow(), False, False, False
            state.level = state.style = 0

    def _close(self) -> None:
        self._flush()
        self._skip = 0
        inner, self._state = self._state, self._stack.pop()
        if inner.destination == self._state.destination or inner.is_ignored:
            return
        flow = self._state.flow
        if inner.destination == "fldrslt":
            instruction = " ".join(self._state.instruction)
            if instruction.startswith(PAGE_NUMBERS):
                del flow.line[inner.start :]
            elif address := _ADDRESS.match(instruction):
                flow.line[inner.start :] = [linked("".join(flow.line[inner.start :]), address[1])]
            return
        text = inner.flow.end(inner)
        match inner.destination:
            case "title":
                self.title = text
            case "keywords":
                self.keywords = text
            case "style":
                level, is_contents = style_of(text.rstrip(";"))
                self._styles[inner.style] = inner.level or level, is_contents
            case "fldinst":
                self._state.instruction.append(one_line(text))
            case "listtext" | "pntext":
                flow.label = one_line(text)
            case "atnauthor":
                self._author = one_line(text)
            case "footnote":
                flow.apart.add(note("Footnote", text))
            case "annotation":
                flow.apart.add(note("Comment", text, self._author))
            case "shptxt" | "dptxbxtext":
                flow.apart.add(text)
            case place if place in _PAGE_TEXTS:
                self._pages[place[:6]].append(text)

    def _read_word(self, word: str, number: int | None) -> None:
        self._flush()
        self._skip = 0
        state = self._state
        is_starred, self._is_starred = self._is_starred, False
        if word in _INSIDE_IGNORED or (word in _ELSEWHERE and not state.is_ignored):
            self._begin(word)
        elif word in _IGNORED or (is_starred and word not in _KNOWN):
            state.is_ignored = True
        elif word == "u" and number is not None:
            self._add(chr(number & 0xFFFF))
            self._skip = state.unicode_skip
        elif word in _SIGNS:
            self._add(_SIGNS[word])
        elif not state.is_ignored:
            self._read_property(word, number)

    def _read_property(self, word: str, number: int | None) -> None:
        state = self._state
        match word:
            case "par" | "sect":
                state.flow.end_paragraph(state)
            case "cell":
                state.flow.end_cell(state)
            case "nestcell":
                self._add(" ")
            case "row":
                state.flow.end_row()
            case "pard":
                state.is_in_table, state.is_contents, state.level, state.depth = False, False, 0, 0
            case "plain":
                state.is_hidden, state.codec = False, ""
            case "intbl":
                state.is_in_table = True
            case "v" | "deleted":
                state.is_hidden = number != 0
            case "s":
                state.style = number or 0
                state.level, state.is_contents = self._styles.get(state.style, (0, False))
            case "outlinelevel" if number is not None:
                state.level = number + 1 if 0 <= number < 9 else 0
            case "ilvl" if number is not None:
                state.depth = max(0, min(number, 8))
            case "uc" if number is not None:
                state.unicode_skip = max(0, number)
            case "f" if number is not None:
                self._font = number
                state.codec = self._fonts.get(number, "")
            case "fcharset" if number is not None and number in _CHARSETS:
                self._fonts[self._font] = _CHARSETS[number]
            case "deff" if number is not None:
                self._usual_font = number
            case "ansicpg":
                self._codec = _CODE_PAGES.get(number or 0, self._codec)
            case "mac":
                self._codec = "mac_roman"
            case "pc" | "pca":
                self._codec = "cp437" if word == "pc" else "cp850"
            case "field":
                state.instruction = []
