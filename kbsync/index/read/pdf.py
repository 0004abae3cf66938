"""Reads PDFs through pdfium.

Headings are found by font size; paragraphs, code and table rows by the position of lines. pdfium returns the
text of a page in drawing order, which is nearly always the reading order, and can report any letter's
position and font. Querying every letter would take too long; three per line are enough.
"""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from itertools import chain, groupby, islice, pairwise, takewhile
from typing import Any, TypeVar

import pypdfium2.raw as pdfium

from kbsync.dataclass import dataclass
from kbsync.errors import Rejected
from kbsync.index.document import Parsed
from kbsync.index.read.text import document_title, escaped, fenced, pipe_table, split_keywords, tidied
from kbsync.index.read.zip import damaged, encrypted, without_text

_T = TypeVar("_T")

_IMAGE = re.compile(rb"/Subtype\s*/Image")
_MAX_PAGES = 50_000  # a file may claim any number of pages
_MAX_SCANS = 5_000  # pages of a document to recognize, at a few seconds each
_SCAN_SHARE = 0.5  # minimum share of a scanned page's area that pictures cover
_MAX_OBJECTS = 1_000  # objects of a page to examine for pictures
_MAX_HEADING_LENGTH = 200  # characters
_LARGER = 1.15  # times as large as the body's letters: a heading
_RAISED = 0.1  # letter sizes above the line: a superscript
_SAME_LINE = 0.6  # letter sizes up or down, and to the right of the text before
_WORD_GAP = 0.15  # letter sizes between words
_WIDE_GAP = 1.4  # letter sizes between the cells of a row
_FARTHEST = 1_000  # maximum difference between a page's number and its position: a file may be one chapter
_EDGE = 0.12  # share of a page's height where its header and its footer may be
_MAX_NOTES = 1_000  # annotations of a page to read
_MAX_NOTE_BYTES = 50_000  # bytes
_NOTES = (pdfium.FPDF_ANNOT_TEXT, *range(pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_INK + 1))
_UNSEEN = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_FIXED_PITCH = 1
_FIXED_NAME = re.compile(rb"Courier|Mono|Consol|Menlo")  # standard fonts have no flags

_LINE = re.compile(
    "[^\r\n\ufffe\x02]+([\ufffe\x02]?)"
)  # pdfium's characters for a hyphen at the end of a line
_BULLET = re.compile("[•◦▪‣·●○■□➢✓\uf0b7\uf0a7–-][ \t]+(?=\\S)")
_LISTED = re.compile(r"(?:\(?(?:\d{1,3}|[A-Za-z]|[ivx]{1,5})[.)]|\[\d{1,3}\])[ \t]+(?=\S)")
_PAGE_NUMBER = re.compile(  # after a word for page, or apart from all other words
    r"""\b(?:page|pg\.?|p\.|p[áa]g(?:ina|\.)|seite|s\.|sid[ae]|strona|стр(?:аница|\.)|blatt|folie|slide)
    [ ]?(\d{1,5})\b
    |(?:^[-–—|·•([~ ]{0,3}|[ ][-–—|·•/]{1,2}[ ])(\d{1,5})
    (?=(?:[ ]?(?:/|of|von|van|sur|de|di|z|из)[ ]?\d{1,5})?(?:[-–—|·•)\]~ ]{0,3}$|[ ][-–—|·•/]{1,2}[ ]))
    |(?<!\d)(\d{1,5})(?=[ ]?(?:页|頁|ページ|쪽|페이지))""",
    re.IGNORECASE | re.VERBOSE,
)
_LEADER_DOTS = re.compile(r" ?\.(?: {0,3}\.){4,} {0,3}")
_LEADER = re.compile(
    r"(?<!\.)(?<!\. )(?<!\.  )(?<!\.   )\.(?: {0,3}\.){4,} {0,9}(?:([0-9]{1,5})|[ivxlc]{1,6})$"
)
_MIN_ENTRIES = 4  # entries of a table of contents on one page
_MARK = re.compile("[0-9*†‡][0-9,*†‡–-]{0,9}")  # of a footnote
_MARKED = re.compile(r"[0-9*†‡](?<=[^\W\d_]{4}.)")
_NOTE = re.compile(r"(?:[0-9]{1,3}|[*†‡]{1,3})(?=[^\W\d_])")
_CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_WIDE = re.compile(f"[{_CJK}]")
_BETWEEN_CJK = re.compile(f"[{_CJK}]\n[{_CJK}]")
_WORDS = re.compile(r"[^\W\d_]+")
_MAX_WORD_LENGTH = 40
_GAP = re.compile(" +")
_TOKEN = re.compile(r"\S+")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")  # Hebrew, Arabic and related scripts
_HYPHENATED = re.compile(r"(?<!\w)[^\W\d_]+-[^\W\d_]+(?!\w)")


@dataclass(slots=True)
class Line:
    """A line on an upright page. `left` and `right` increase to the right, and `base` increases upwards."""

    text: str
    left: float
    right: float
    base: float
    size: float
    cells: list[str] = field(default_factory=list)
    is_hyphenated: bool = False
    is_code: bool = False
    is_at_edge: bool = False  # where page headers and footers are
    is_note: bool = False  # begins with the mark of a footnote


@dataclass(slots=True)
class Page:
    """The lines of a page in reading order, and its notes.

    Notes are comments, and the values of form fields that have no appearance of their own.
    """

    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_pdf(raw: bytes) -> Parsed:
    """Return the pages as Markdown. Raises `Rejected`."""
    if b"%PDF-" not in raw[:1024]:
        raise damaged("it is not a PDF")
    with _opened(raw) as document:
        count = min(pdfium.FPDF_GetPageCount(document), _MAX_PAGES)
        read = [_read_page(document, number) for number in range(count)]
        blank = (number for number, page in enumerate(read) if page and not page.lines)
        scans = tuple(islice((n + 1 for n in blank if _is_scanned(document, n)), _MAX_SCANS))
        stated, keywords = (_metadata(document, key) for key in (b"Title", b"Keywords"))
    pages = [page or Page() for page in read]
    _leave_out_furniture([page.lines for page in pages])
    _leave_out_contents([page.lines for page in pages])
    text, starts = _write(pages)
    if read and not any(read):
        raise damaged("a page of the PDF is damaged")
    if not text and not scans:
        raise without_text(pictures=_IMAGE.search(raw) is not None)
    title, tags = document_title(stated, text), split_keywords(keywords)
    return Parsed(text, title=title, tags=tags, page_starts=starts, scanned_pages=scans)


@contextmanager
def _opened(raw: bytes) -> Iterator[Any]:
    """Open the PDF with pdfium, and close it at the end of the block. Raises `Rejected`."""
    document = pdfium.FPDF_LoadMemDocument64(raw, len(raw), None)
    if not document:
        raise _refusal()
    try:
        yield document
    finally:
        pdfium.FPDF_CloseDocument(document)


def _refusal() -> Rejected:
    match pdfium.FPDF_GetLastError():
        case pdfium.FPDF_ERR_PASSWORD:
            return encrypted()
        case pdfium.FPDF_ERR_SECURITY:
            return damaged("the parser doesn't support this PDF's type of protection")
        case pdfium.FPDF_ERR_PAGE:
            return damaged("a page of the PDF is damaged")
    return damaged("the PDF is damaged")


def _metadata(document: Any, key: bytes) -> str:
    length = pdfium.FPDF_GetMetaText(document, key, None, 0)
    buffer = ctypes.create_string_buffer(length)
    pdfium.FPDF_GetMetaText(document, key, buffer, length)
    return tidied(buffer.raw[:-2].decode("utf-16-le", "replace"))


def _read_page(document: Any, number: int) -> Page | None:
    """Return the lines and notes of a page, or None if the page is damaged."""
    page = pdfium.FPDF_LoadPage(document, number)
    if not page:
        return None
    try:
        notes, has_fields = _read_notes(page)
        # pdfium can't read form fields, but it can draw them on the page.
        if has_fields and pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) == pdfium.FLATTEN_SUCCESS:
            pdfium.FPDF_ClosePage(page)
            page = pdfium.FPDF_LoadPage(document, number)
        letters = pdfium.FPDFText_LoadPage(page) if page else None
        if not letters:
            return Page(notes=notes)
        try:
            lines = _order(_PageReader(page, letters).lines())
        finally:
            pdfium.FPDFText_ClosePage(letters)
    finally:
        pdfium.FPDF_ClosePage(page)
    if notes:  # the page may show them too, and some repeat the words that they mark
        page_text = f" {' '.join(line.text for line in lines)} "
        notes = [note for note in notes if f" {note} " not in page_text]
    return Page(lines, notes)


def _read_notes(page: Any) -> tuple[list[str], bool]:
    """Return the notes on a page, and whether it has form fields."""
    notes, has_fields = list[str](), False
    for number in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MAX_NOTES)):
        if note := pdfium.FPDFPage_GetAnnot(page, number):
            kind = pdfium.FPDFAnnot_GetSubtype(note)
            has_fields |= kind == pdfium.FPDF_ANNOT_WIDGET
            if kind in _NOTES:
                notes.append(_note_text(note, b"Contents"))
            elif kind == pdfium.FPDF_ANNOT_WIDGET and not pdfium.FPDFAnnot_HasKey(note, b"AP"):
                # Programs that fill in forms may leave it to the viewer to draw the text.
                notes.append(_note_text(note, b"V") if _note_text(note, b"FT") in ("Tx", "Ch") else "")
            pdfium.FPDFPage_CloseAnnot(note)
    return list(dict.fromkeys(filter(None, notes))), has_fields


def _note_text(note: Any, key: bytes) -> str:
    """Return one of an annotation's texts on one line, or "" if it is hidden or too long."""
    if pdfium.FPDFAnnot_GetFlags(note) & _UNSEEN:
        return ""
    length = pdfium.FPDFAnnot_GetStringValue(note, key, None, 0)
    if not 2 < length <= _MAX_NOTE_BYTES:
        return ""
    buffer = (ctypes.c_ushort * (length // 2))()
    pdfium.FPDFAnnot_GetStringValue(note, key, buffer, length)
    return " ".join(bytes(buffer)[:-2].decode("utf-16-le", "replace").split())


def _is_scanned(document: Any, number: int) -> bool:
    """Return whether a page has no text and is mostly covered by pictures."""
    page = pdfium.FPDF_LoadPage(document, number)
    if not page:
        return False
    try:
        area = pdfium.FPDF_GetPageWidthF(page) * pdfium.FPDF_GetPageHeightF(page)
        left, bottom, right, top = (ctypes.c_float() for _ in range(4))
        covered = 0.0
        for index in range(min(pdfium.FPDFPage_CountObjects(page), _MAX_OBJECTS)):
            part = pdfium.FPDFPage_GetObject(page, index)
            is_picture = pdfium.FPDFPageObj_GetType(part) in _PICTURES
            if is_picture and pdfium.FPDFPageObj_GetBounds(part, left, bottom, right, top):
                covered += (right.value - left.value) * (top.value - bottom.value)
        return covered > 0 and covered >= _SCAN_SHARE * area
    finally:
        pdfium.FPDF_ClosePage(page)


_PICTURES = (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_FORM)
"""The types of pictures, and of the forms that some programs wrap around a page's picture."""


class _PageReader:
    """Reads the lines of one page."""

    def __init__(self, page: Any, letters: Any) -> None:
        self._letters = letters
        box = pdfium.FS_RECTF()
        pdfium.FPDF_GetPageBoundingBox(page, box)
        self._page_box = box.left, box.right, box.bottom, box.top
        self._numbers = [ctypes.c_double() for _ in range(4)]
        self._matrix = pdfium.FS_MATRIX()
        self._flags = ctypes.c_int()
        self._name = ctypes.create_string_buffer(64)

    def lines(self) -> list[Line]:
        count = pdfium.FPDFText_CountChars(self._letters)
        if count <= 0:
            return []
        buffer = (ctypes.c_ushort * (count + 1))()
        length = pdfium.FPDFText_GetText(self._letters, 0, count, buffer)
        text = bytes(buffer)[: 2 * max(0, length - 1)].decode("utf-16-le", "replace")
        turns = defaultdict[int, list[Line]](list)
        for match in _LINE.finditer(text):
            if match[0].strip():
                turn, line = self._line(match[0], match.start(), bool(match[1]))
                others = turns[turn]
                if not (others and _extend(others[-1], line)):
                    others.append(line)
        # Text in a different direction, such as a mark in the margin, comes last.
        return [line for lines in sorted(turns.values(), key=len, reverse=True) for line in lines]

    def _line(self, text: str, start: int, is_hyphenated: bool) -> tuple[int, Line]:
        stripped = text.strip(" \t\ufffe\x02")
        start += text.index(stripped[:1]) if stripped else 0
        middle = stripped.rfind(" ", 0, len(stripped) // 2) + 1
        first, at, last = (self._index(start + offset) for offset in (0, middle, len(stripped) - 1))
        letters, matrix = self._letters, self._matrix
        pdfium.FPDFText_GetMatrix(letters, at, matrix)
        turn = round(math.atan2(matrix.b, matrix.a) / (math.pi / 2)) % 4
        size = pdfium.FPDFText_GetFontSize(letters, at) * math.hypot(matrix.c, matrix.d) or 1.0
        left, right = self._box(first, turn)[0], self._box(last, turn)[1]
        is_right_to_left = not text.isascii() and _RIGHT_TO_LEFT.search(stripped) is not None
        if is_right_to_left:
            stripped, left, right = self._in_logical_order(stripped, start, turn)
        line = Line(stripped, left, max(left, right), self._base(at, turn), size, is_hyphenated=is_hyphenated)
        _, _, bottom, top = _upright(self._page_box, turn)
        line.is_at_edge = not bottom + _EDGE * (top - bottom) < line.base < top - _EDGE * (top - bottom)
        pdfium.FPDFText_GetFontInfo(letters, at, self._name, len(self._name), self._flags)
        is_fixed = self._flags.value & _FIXED_PITCH or _FIXED_NAME.search(self._name.value)
        line.is_code = bool(is_fixed) and not _WIDE.search(stripped)
        if is_right_to_left:
            return turn, line
        expected = size * (0.55 * len(stripped) + 0.45 * len(_WIDE.findall(stripped)))
        if " " in stripped and not line.is_code and line.right - line.left > 1.1 * expected:
            line.cells = self._cells(stripped, start, turn, size)
        if not (line.cells or line.is_code) and (_MARKED.search(stripped) or _NOTE.match(stripped)):
            line.text, line.is_note = self._separate_marks(stripped, start, turn)
        return turn, line

    def _in_logical_order(self, text: str, start: int, turn: int) -> tuple[str, float, float]:
        """Return a line with right-to-left words in reading order, and its left and right ends.

        If the file specifies the text of each letter, as Chrome's files do for Arabic, pdfium leaves a
        word's letters in the order of their positions. In a line with several scripts, pdfium also mixes
        up the words.
        """
        words = list[_Word]()
        for match in _TOKEN.finditer(text):
            units = list[str]()  # letters with their signs, and ligatures
            places = list[tuple[float, float]]()
            for offset, character in enumerate(match[0], start + match.start()):
                left, right, *_ = self._box(self._index(offset), turn)
                if units and (unicodedata.combining(character) or left == places[-1][0]):
                    units[-1] += character
                else:
                    units.append(character)
                    places.append((left, right))
            is_rtl = _RIGHT_TO_LEFT.search(match[0]) is not None
            if is_rtl and places[0][0] < places[-1][0]:
                # Numbers and Latin letters read from left to right.
                units = list(_reverse_runs(units[::-1], lambda unit: unit.isascii() and unit.isalnum()))
            left, right = min(left for left, _ in places), max(right for _, right in places)
            is_ltr = not is_rtl and any(map(str.isalpha, match[0]))
            words.append(_Word("".join(units), left, right, is_rtl, is_ltr))
        words.sort(key=lambda word: word.left)
        # A number after a Latin word is part of its run ("Windows 11").
        for before, word in pairwise(words):
            word.is_left_to_right |= before.is_left_to_right and not word.is_right_to_left
        letters = Counter[bool]()
        for word in words:
            letters[word.is_right_to_left] += len(word.text)
        if letters[True] >= letters[False]:
            ordered = _reverse_runs(words[::-1], lambda word: word.is_left_to_right)
        else:
            ordered = _reverse_runs(words, lambda word: word.is_right_to_left)
        ends = words[0].left, max(word.right for word in words)
        return " ".join(word.text for word in ordered), *ends

    def _separate_marks(self, text: str, start: int, turn: int) -> tuple[str, bool]:
        """Put spaces between the words and the footnote marks of a line. Return the line, and whether it
        begins with such a mark.
        """
        note = _NOTE.match(text)
        is_note = note is not None and self._is_superscript(start, start + note.end(), turn)
        places = [note.end()] if note and is_note else []
        for mark in _MARKED.finditer(text):
            if self._is_superscript(start + mark.start(), start + mark.start() - 1, turn):
                places.append(mark.start())
        return " ".join(text[i:j] for i, j in pairwise([0, *places, len(text)])), is_note

    def _is_superscript(self, offset: int, other: int, turn: int) -> bool:
        """Return whether a letter is smaller and higher than another one."""
        at, beside = self._index(offset), self._index(other)
        sizes = (pdfium.FPDFText_GetFontSize(self._letters, index) for index in (at, beside))
        return next(sizes) < 0.95 * next(sizes) and self._base(at, turn) > self._base(beside, turn)

    def _cells(self, text: str, start: int, turn: int, size: float) -> list[str]:
        """Split a line at wide gaps. Return [] if there are none."""
        cells, begin = list[str](), 0
        for gap in _GAP.finditer(text):
            before = self._box(self._index(start + gap.start() - 1), turn)[1]
            after = self._box(self._index(start + gap.end()), turn)[0]
            if after - before > _WIDE_GAP * size:
                cells.append(text[begin : gap.start()])
                begin = gap.end()
        return [*cells, text[begin:]] if cells else []

    def _index(self, offset: int) -> int:
        return max(0, int(pdfium.FPDFText_GetCharIndexFromTextIndex(self._letters, offset)))

    def _box(self, index: int, turn: int) -> tuple[float, float, float, float]:
        """Return the left, right, bottom and top of a letter, as if on an upright page."""
        left, right, bottom, top = self._numbers
        pdfium.FPDFText_GetCharBox(self._letters, index, left, right, bottom, top)
        return _upright((left.value, right.value, bottom.value, top.value), turn)

    def _base(self, index: int, turn: int) -> float:
        """Return the position of a letter's baseline, as if on an upright page."""
        x, y, *_ = self._numbers
        pdfium.FPDFText_GetCharOrigin(self._letters, index, x, y)
        return (y.value, -x.value, -y.value, x.value)[turn]


@dataclass(slots=True)
class _Word:
    """A word in a line that contains right-to-left text."""

    text: str
    left: float
    right: float
    is_right_to_left: bool
    is_left_to_right: bool


def _reverse_runs(items: Iterable[_T], is_in_run: Callable[[_T], bool]) -> Iterator[_T]:
    """Yield the items, but reverse the order within each run of items for which `is_in_run` is true."""
    for is_run, run in groupby(items, is_in_run):
        run_items = list(run)
        yield from reversed(run_items) if is_run else run_items


def _extend(before: Line, line: Line) -> bool:
    """If `line` continues the line `before`, append it. Return whether it was appended.

    pdfium also begins a new line at a subscript or superscript.
    """
    size = min(before.size, line.size)
    if max(abs(line.base - before.base), abs(line.left - before.right)) >= _SAME_LINE * size:
        return False
    if before.cells or line.cells or before.is_hyphenated or before.is_code != line.is_code:
        return False
    is_apart = line.left - before.right > _WORD_GAP * size
    is_apart |= before.text[-1:].isdigit() and line.text[:1].isdigit()
    raised = (line.base - before.base) / size
    if raised > _RAISED:
        is_word = len(before.text) > 3 and before.text[-4:].isalpha()
        is_apart |= is_word and _MARK.fullmatch(line.text) is not None
    elif raised < -_RAISED and _MARK.fullmatch(before.text):
        before.is_note = is_apart = True
    if len(line.text) > len(before.text):
        before.base, before.size = line.base, line.size
    before.text += f" {line.text}" if is_apart else line.text
    before.right, before.is_hyphenated = line.right, line.is_hyphenated
    return True


def _upright(box: tuple[float, float, float, float], turn: int) -> tuple[float, float, float, float]:
    """Return the left, right, bottom and top of a box, rotated back by this many quarter turns."""
    left, right, bottom, top = box
    match turn:
        case 1:
            return bottom, top, -right, -left
        case 2:
            return -right, -left, -top, -bottom
        case 3:
            return -top, -bottom, left, right
    return box


def _order(lines: list[Line]) -> list[Line]:
    """Return the lines of a page in order.

    If a run of lines was drawn after the lines below it, the run is moved before them. But a footer that was
    drawn first comes last.
    """
    runs = list[list[Line]]()
    for line in lines:
        above = runs[-1][-1] if runs else None
        is_close = above is not None and 0 <= above.base - line.base < 3 * line.size
        if above and is_close and min(above.right, line.right) > max(above.left, line.left):
            runs[-1].append(line)
        else:
            runs.append([line])
    if len(runs) < 2 or len(runs) > 300:
        return lines
    boxes = [
        (min(x.left for x in run), max(x.right for x in run), run[-1].base, run[0].base, run[0].size)
        for run in runs
    ]
    runs_above = defaultdict[int, list[int]](list)  # by run: the runs above it
    moved = False
    for late, (left, right, bottom, _, size) in enumerate(boxes):
        for early in range(late):
            other = boxes[early]
            if min(right, other[1]) - max(left, other[0]) <= 0:
                continue
            if bottom >= other[3] + size * 0.5:
                runs_above[early].append(late)
                moved = True
            else:
                runs_above[late].append(early)
    if not moved:
        return lines
    # A column's footnotes may be at the edge, too, but are drawn after other text.
    lowest = min((line.base for line in lines if not line.is_at_edge), default=0.0)
    leading = takewhile(lambda number: all(line.is_at_edge for line in runs[number]), range(len(runs)))
    footers = {number for number in leading if boxes[number][3] < lowest}
    # Each run in the order drawn, after those above it: nothing else moves.
    ordered, placed = list[int](), set[int]()
    for number in sorted(range(len(runs)), key=footers.__contains__):
        pending = [number]
        while pending:
            missing = [other for other in runs_above[pending[-1]] if other not in placed]
            if missing and len(pending) <= len(runs):
                pending.append(min(missing))
            else:
                if missing:  # above each other
                    return lines
                if (run := pending.pop()) not in placed:
                    placed.add(run)
                    ordered.append(run)
    return [line for number in ordered for line in runs[number]]


def _leave_out_furniture(pages: list[list[Line]]) -> None:
    """Remove page numbers from all pages, and each page header and footer from all pages except the first
    one with it.

    Headers and footers are near an edge, at the same height on three pages, and have the same words except
    for the page number. A number that increases with the pages isn't always a page number. For example,
    each page may be an invoice.
    """
    places = defaultdict[tuple[str, int, int], list[tuple[int, int]]](list)
    for number, lines in enumerate(pages):
        for index, line in enumerate(lines):
            if line.is_at_edge and len(line.text) <= _MAX_HEADING_LENGTH:
                for words in _without_page_number(line, number):
                    places[words, round(line.base / 4), round(line.size)].append((number, index))
    removed = set[tuple[int, int]]()
    for (words, _, _), where in places.items():
        if len({number for number, _ in where}) >= 3:
            is_number = "\ufffe" in words and not _WORDS.search(words)
            removed.update(where if is_number else where[1:])
    for number, lines in enumerate(pages):
        lines[:] = [line for index, line in enumerate(lines) if (number, index) not in removed]


def _without_page_number(line: Line, page: int) -> Iterator[str]:
    """Yield the text of the line, then a variant for each number in it that may be the page number.

    In each variant, the number is replaced by its difference from the page's actual number.
    """
    yield line.text
    text = " | ".join(line.cells) or line.text
    for match in islice(_PAGE_NUMBER.finditer(text), 4):
        start, end = match.span(match.lastindex or 0)
        difference = int(text[start:end]) - page
        if abs(difference) < _FARTHEST:
            yield f"{text[:start]}\ufffe{difference}{text[end:]}"


def _leave_out_contents(pages: Sequence[list[Line]]) -> None:
    """Remove the entries of a table of contents, which searches would find instead of the chapters.

    An entry is a line with dots leading to a page number. The numbers must increase, and the file must have
    these pages. In other lines, the dots are shortened.
    """
    for lines in pages:
        entries = [(index, match) for index, line in enumerate(lines) if (match := _LEADER.search(line.text))]
        numbers = [int(match[1]) for _, match in entries if match[1]]
        is_contents = len(numbers) >= _MIN_ENTRIES and numbers == sorted(numbers) and numbers[0] < numbers[-1]
        if is_contents and numbers[-1] <= len(pages):
            left_out = {index for index, _ in entries}
            lines[:] = [line for index, line in enumerate(lines) if index not in left_out]
        for line in lines:
            if _LEADER_DOTS.search(line.text):
                line.text = _LEADER_DOTS.sub(" … ", line.text).strip()
                line.cells = [_LEADER_DOTS.sub(" … ", cell).strip() for cell in line.cells]


def _write(pages: Sequence[Page]) -> tuple[str, tuple[int, ...]]:
    """Return the text of all pages, and where each page begins.

    For a page without text, this is where the next page begins.
    """
    sizes = Counter[float]()
    for line in (line for page in pages for line in page.lines):
        sizes[round(line.size * 2) / 2] += len(line.text)
    highest = max(sizes.values(), default=0)
    body = min((size for size, count in sizes.items() if count > 0.8 * highest), default=1.0)
    levels, level, before = dict[float, int](), 0, math.inf
    for size in sorted((size for size in sizes if size > body * _LARGER), reverse=True):
        if size < before * 0.93:  # nearly equal sizes share a level
            level, before = min(6, level + 1), size
        levels[size] = level
    hyphenated = {
        word.lower() for page in pages for line in page.lines for word in _HYPHENATED.findall(line.text)
    }
    pieces, starts, offset = list[str](), list[int](), 0
    for number, page in enumerate(pages, 1):
        for block in chain(_blocks(page.lines, levels, hyphenated), map(escaped, page.notes)):
            if not (block := tidied(block)):
                continue
            if pieces:
                is_list = block.startswith("- ") and pieces[-1].startswith("- ")
                pieces.append("\n" if is_list else "\n\n")
                offset += len(pieces[-1])
            starts += [offset] * (number - len(starts))
            pieces.append(block)
            offset += len(block)
    return "".join(pieces), tuple(starts)


def _blocks(lines: list[Line], levels: dict[float, int], hyphenated: set[str]) -> Iterator[str]:
    """Yield the headings, paragraphs, code and tables of a page."""
    gaps = Counter(
        round((a.base - b.base) / a.size, 1) for a, b in pairwise(lines) if 0 < a.base - b.base < 3 * a.size
    )
    spacing = (gaps.most_common(1)[0][0] if gaps else 1.2) * 1.2 + 0.05
    group = list[Line]()
    margin = max((line.right for line in lines), default=0.0)
    for line in lines:
        if group and _begins(group, line, spacing, margin):
            yield _block(group, levels, hyphenated)
            group = []
        group.append(line)
    if group:
        yield _block(group, levels, hyphenated)


def _begins(group: list[Line], line: Line, spacing: float, margin: float) -> bool:
    """Return whether `line` begins a new block."""
    last = group[-1]
    if line.is_note or last.is_hyphenated:
        return line.is_note
    gap = (last.base - line.base) / line.size
    if line.cells or last.cells:
        return len(line.cells) != len(last.cells) or not 0 < gap < 4
    if line.is_code or last.is_code:
        return line.is_code != last.is_code or not -0.5 < gap < 2.5 * spacing
    if abs(line.size - last.size) > 0.1 * last.size or not -0.3 < gap <= spacing:
        return True
    if _BULLET.match(line.text) or _LISTED.match(line.text):
        return True
    is_short = last.right < margin - 0.2 * (margin - last.left)
    if is_short and last.text.endswith((".", ":", "!", "?", "。", "！", "？", "：")):
        return True
    return len(group) > 1 and line.left > group[1].left + 0.8 * line.size


def _block(group: list[Line], levels: dict[float, int], hyphenated: set[str]) -> str:
    if group[0].cells:
        if len(group) > 1:
            return pipe_table([line.cells for line in group])
        return escaped(" ".join(group[0].cells))
    if group[0].is_code and len(group) > 1:
        left = min(line.left for line in group)
        widths = ((line.right - line.left) / len(line.text) for line in group if len(line.text) > 3)
        width = max(widths, default=0.6 * group[0].size) or 1.0
        return fenced("\n".join(" " * min(80, round((x.left - left) / width)) + x.text for x in group))
    text = joined(group, hyphenated)
    level = levels.get(round(group[0].size * 2) / 2)
    if level and len(text) <= _MAX_HEADING_LENGTH and _WORDS.search(text):
        return f"{'#' * level} {text}"
    if bullet := _BULLET.match(text):
        return f"- {text[bullet.end() :]}"
    return escaped(text)


def joined(group: list[Line], hyphenated: set[str]) -> str:
    """Join the lines of a paragraph, without spaces between them in Chinese and Japanese."""
    text = group[0].text
    for last, line in pairwise(group):
        if last.is_hyphenated:
            head, tail = (
                _WORDS.findall(text[-_MAX_WORD_LENGTH:]),
                _WORDS.match(line.text, 0, _MAX_WORD_LENGTH),
            )
            is_word = bool(head and text.endswith(head[-1]) and tail and tail[0][0].islower())
            is_split = is_word and tail is not None and f"{head[-1]}-{tail[0]}".lower() not in hyphenated
            text += line.text if is_split else f"-{line.text}"
        else:
            between = "" if _BETWEEN_CJK.fullmatch(f"{text[-1:]}\n{line.text[:1]}") else " "
            text += between + line.text
    return text
