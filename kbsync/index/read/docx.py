"""Reads Word documents: the text that Word shows, with notes and comments.

It omits deleted and hidden text. It also omits the table of contents, which searches would find instead of
the chapters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from kbsync.core.text import extension_of
from kbsync.dataclass import dataclass
from kbsync.index.document import Parsed
from kbsync.index.read.formats import word_set
from kbsync.index.read.slides import drawn_words
from kbsync.index.read.text import (
    PAGE_NUMBERS,
    Blocks,
    distinct_texts,
    inner_text,
    is_description,
    is_note_mark,
    linked,
    note,
    one_line,
    style_of,
    tidied,
)
from kbsync.index.read.zip import Archive, Element, damaged, inside, number_of

_OMITTED = word_set(
    """
    del delInstrText delText Fallback ffData fldData moveFrom pPr rPr rt sdtEndPr sdtPr sectPr tblGrid tblPr
    tblPrEx tcPr trPr
    """
)
"""Elements to skip: deleted text, fallback versions of shapes, and properties."""

_MAIN = "word/document.xml"
_INSERTED = ("htm", "html", "xhtml", "mht", "mhtml", "rtf", "txt")
"""Formats of files that Word inserts into a document, apart from Word's own formats."""

_MATHS = {"den": "/", "sup": "^", "sub": "_"}
_MAX_SPAN = 100
_MAX_BASES = 20
_MAX_LABEL_LENGTH = 50


def read_docx(raw: bytes) -> Parsed:
    """Return the document as Markdown. Raises `Rejected` if it has no text."""
    archive = Archive(raw)
    return archive.parsed(tidied(_Document(archive, archive.main_part(_MAIN)).read()))


class _Document:
    """The data shared by a document's parts: styles, numbering and notes."""

    def __init__(self, archive: Archive, main: str, *, is_inserted: bool = False) -> None:
        self.is_inserted = is_inserted
        root = archive.xml(main)
        body = root.find("body")
        if body is None:
            raise damaged("the archive contains no Word document, or its main part is missing")
        self.archive, self._main, self._root, self._body = archive, main, root, body
        self._parts = archive.related(main)
        self.styles = _Styles(self._xml("styles"))
        self.numbering = _Numbering(self._xml("numbering"))
        self._notes = {kind: self._read_notes(kind) for kind in ("footnote", "endnote", "comment")}

    def read(self) -> str:
        """Return the whole document. Page headers come first and page footers last, each text only once."""
        blocks = Blocks()
        for text in self._page_texts("headerReference"):
            blocks.add(text)
        _Part(self, self._main).read(self._body, blocks)
        for text in (*self._page_texts("footerReference"), *drawn_words(self.archive, self._main)):
            blocks.add(text)
        return blocks.text

    def note(self, kind: str, reference: Element) -> str:
        """Return the text of a footnote, an endnote or a comment, with a label."""
        part, element = self._notes[kind].get(reference.get(":id", ""), (None, None))
        if part is None or element is None:
            return ""
        blocks = Blocks()
        part.read(element, blocks)
        return note(kind.capitalize(), blocks.text, element.get(":author", "").strip())

    def _read_notes(self, kind: str) -> dict[str, tuple[_Part, Element]]:
        name = self._named(f"{kind}s")
        part = _Part(self, name)
        return {note.get(":id", ""): (part, note) for note in self.archive.xml(name).iter(kind)}

    def _page_texts(self, tag: str) -> list[str]:
        """Return the headers or footers of the pages, each only once."""
        texts = list[str]()
        references = (self._parts.get(part.get(":id", ""), ("", "")) for part in self._root.iter(tag))
        for name in dict.fromkeys(name for _, name in references):
            blocks = Blocks()
            _Part(self, name).read(self.archive.xml(name), blocks)
            texts.append(blocks.text)
        return distinct_texts(texts)

    def _named(self, kind: str) -> str:
        return next((name for part_kind, name in self._parts.values() if part_kind == kind), "")

    def _xml(self, kind: str) -> Element:
        return self.archive.xml(self._named(kind))


class _Part:
    """Reads one part of a document, such as its body, a header or the notes."""

    def __init__(self, document: _Document, name: str) -> None:
        self._document, self._name = document, name
        self._addresses = document.archive.addresses(name)
        self._fields = list[_Field]()
        self._is_hidden = False  # by the paragraph's style

    def read(self, parent: Element, blocks: Blocks) -> None:
        """Add the paragraphs and tables inside `parent`."""
        for element in parent:
            match element.tag:
                case "p":
                    self._read_paragraph(element, blocks)
                case "tbl":
                    blocks.add_table(
                        [
                            row
                            for row_element in inside(element, ("tr",), _OMITTED)
                            if (row := self._row(row_element))
                        ]
                    )
                case "altChunk":
                    blocks.add(self._read_inserted(element.get(":id", "")))
                case tag if tag not in _OMITTED:
                    self.read(element, blocks)

    def _read_inserted(self, reference: str) -> str:
        """Return the text of a file that Word inserts when it opens the document, or "" if the file can't be
        read.
        """
        if self._document.is_inserted:
            return ""
        archive = self._document.archive
        _, name = archive.related(self._name).get(reference, ("", ""))
        # The document is complete without a file that makes its reader fail.
        with suppress(Exception):
            if extension_of(name) == "docx":
                inner = Archive(archive.read(name))
                return _Document(inner, inner.main_part(_MAIN), is_inserted=True).read()
            if extension_of(name) in _INSERTED:
                return inner_text(name, archive.read(name))
        return ""

    def _row(self, row: Element) -> list[Blocks]:
        """Return the cells of the row. Skipped columns and columns covered by a merged cell get empty cells.

        A deleted row has no cells.
        """
        properties = row.find("trPr")
        if properties is not None and properties.find("del") is not None:
            return []
        cells = [Blocks() for _ in range(_number(properties, "gridBefore", 0, _MAX_SPAN))]
        for cell in inside(row, ("tc",), _OMITTED):
            about = cell.find("tcPr")
            cells.append(Blocks())
            merged = None if about is None else about.find("vMerge")
            if merged is None or merged.get(":val") == "restart":
                self.read(cell, cells[-1])
            cells += (Blocks() for _ in range(_number(about, "gridSpan", 1, _MAX_SPAN) - 1))
        return cells

    def _read_paragraph(self, paragraph: Element, blocks: Blocks) -> None:
        notes = Blocks()  # notes, comments and text boxes
        about = paragraph.find("pPr")
        style = self._document.styles.of(about)
        around, self._is_hidden = self._is_hidden, style.is_hidden or False
        text = "".join(self._texts(paragraph, notes))
        self._is_hidden = around
        label = self._document.numbering.label(style.numbering)
        if text.strip() and not style.is_contents:
            if style.level:
                blocks.add(f"{'#' * min(style.level, 6)} {one_line(f'{label or str()} {text}')}")
            elif label is not None and style.numbering:
                blocks.add_item(style.numbering[1], label, one_line(text))
            else:
                blocks.add_paragraph(text)
        blocks.extend(notes)
        # a missing end mark must not hide other paragraphs
        self._fields = [field for field in self._fields if field.is_shown]

    def _texts(self, parent: Element, notes: Blocks) -> Iterator[str]:
        """Yield the pieces of a paragraph's text."""
        before = ""  # the end of the previous run
        for element in parent:
            match element.tag:
                case "t":
                    if all(field.is_shown for field in self._fields):
                        yield element.text or ""
                case "tab" | "ptab":
                    yield " "
                case "br" | "cr":
                    yield "\n"
                case "noBreakHyphen":
                    yield "-"
                case "sym":
                    yield _symbol(element.get(":font", ""), element.get(":char", ""))
                case "r":
                    properties = element.find("rPr")
                    if not self._document.styles.hides(properties, self._is_hidden):
                        text = "".join(self._texts(element, notes))
                        if _value(properties, "vertAlign") == "superscript" and is_note_mark(before, text):
                            yield " "
                        yield text
                        before = (before + text)[-4:]
                case "fldChar":
                    if all(field.is_shown for field in self._fields):
                        yield _chosen_entry(element.find("ffData/ddList"))
                    self._read_field_mark(element.get(":fldCharType"))
                case "instrText":
                    if self._fields:
                        self._fields[-1].instruction += element.text or ""
                case "fldSimple":
                    self._fields.append(_Field(element.get(":instr", ""), has_result=True))
                    yield from self._texts(element, notes)
                    self._fields.pop()
                case "hyperlink":
                    text = "".join(self._texts(element, notes))
                    yield linked(text, self._addresses.get(element.get(":id", ""), ""))
                case "footnoteReference" | "endnoteReference" | "commentReference":
                    notes.add(self._document.note(element.tag.removesuffix("Reference"), element))
                case "txbxContent":
                    self.read(element, notes)
                case "textpath":  # WordArt
                    yield f" {element.get('string', '')} "
                case "docPr" if is_description(words := element.get("descr", "")):
                    yield f" {words} "
                case tag if tag not in _OMITTED:
                    yield _MATHS.get(tag, "")
                    yield from self._texts(element, notes)

    def _read_field_mark(self, kind: str | None) -> None:
        if kind == "begin":
            self._fields.append(_Field())
        elif kind == "separate" and self._fields:
            self._fields[-1].has_result = True
        elif kind == "end" and self._fields:
            self._fields.pop()


@dataclass(slots=True)
class _Field:
    """A field, which consists of an instruction and the text that is shown for it."""

    instruction: str = ""
    has_result: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether searches should find the text that follows."""
        return self.has_result and not self.instruction.strip().startswith(PAGE_NUMBERS)


def _symbol(font: str, code: str) -> str:
    """Return an inserted symbol as text, or "" if its appearance is defined only by its font."""
    number = int(code, 16) if _CODE.fullmatch(code) else 0
    if font == "Symbol":
        return _SYMBOLS.get(number & 0xFF, "")
    character = chr(number)
    return "" if unicodedata.category(character) in ("Cc", "Cn", "Co", "Cs") else character


_CODE = re.compile("[0-9A-Fa-f]{1,4}")
_GREEK = "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", "αβχδεφγηιϕκλμνοπθρστυϖωξψζ"
_SYMBOLS = {
    **{first + at: letter for first, letters in zip((0x41, 0x61), _GREEK, strict=True)
       for at, letter in enumerate(letters)},
    0xA3: "≤", 0xA5: "∞", 0xAE: "→", 0xB0: "°", 0xB1: "±", 0xB3: "≥", 0xB4: "×", 0xB7: "•", 0xB8: "÷",
    0xB9: "≠", 0xBB: "≈", 0xC5: "⊕", 0xCE: "∈", 0xD0: "∠", 0xD6: "√", 0xD7: "⋅", 0xE5: "∑", 0xF2: "∫",
}  # fmt: skip
"""The Unicode characters for codes in Word's Symbol font."""


def _chosen_entry(choices: Element | None) -> str:
    """Return the selected entry of a drop-down field, which has no other result."""
    entries = [] if choices is None else [entry.get(":val", "") for entry in choices.iter("listEntry")]
    chosen = _number(choices, "result", _number(choices, "default", 0))
    return entries[chosen] if chosen < len(entries) else ""


def _hides(properties: Element | None) -> bool | None:
    """Return whether these properties hide the text, or None if they don't specify that."""
    switch = None if properties is None else properties.find("vanish")
    return None if switch is None else switch.get(":val") not in ("0", "false", "off")


def _value(properties: Element | None, path: str) -> str | None:
    element = None if properties is None else properties.find(path)
    return None if element is None else element.get(":val")


def _number(properties: Element | None, path: str, usual: int, largest: int = 100_000) -> int:
    return min(number_of(_value(properties, path), usual), largest)


@dataclass(frozen=True, slots=True)
class _Style:
    """A style of paragraphs or characters.

    `level` is the heading level, starting from 1. `numbering` is its list and depth.
    """

    level: int = 0
    numbering: tuple[str, int] | None = None
    is_contents: bool = False
    is_hidden: bool | None = None


class _Styles:
    def __init__(self, root: Element) -> None:
        self._elements = {style.get(":styleId", ""): style for style in root.iter("style")}
        usual = (
            name
            for name, style in self._elements.items()
            if style.get(":type") == "paragraph" and style.get(":default") in ("1", "true")
        )
        self._usual = next(usual, "")
        self._styles = dict[str, _Style]()

    def of(self, properties: Element | None) -> _Style:
        """Return the style of a paragraph with these properties."""
        return _changed(self._named(_value(properties, "pStyle") or self._usual), properties)

    def hides(self, properties: Element | None, is_hidden: bool) -> bool:
        """Return whether characters with these properties are hidden.

        `is_hidden`: whether their paragraph is hidden; this is returned if the properties don't specify
        anything.
        """
        own, style = _hides(properties), self._named(_value(properties, "rStyle") or "")
        return next(state for state in (own, style.is_hidden, is_hidden) if state is not None)

    def _named(self, name: str) -> _Style:
        if name not in self._styles:
            self._styles[name] = self._resolve(name)
        return self._styles[name]

    def _resolve(self, name: str) -> _Style:
        chain = list[Element]()  # the style, the one it is based on, and so on
        while (element := self._elements.get(name)) is not None and len(chain) < _MAX_BASES:
            chain.append(element)
            name = _value(element, "basedOn") or ""
        style = _Style()
        for element in reversed(chain):
            level, is_contents = style_of(_value(element, "name") or "")
            is_contents |= style.is_contents
            is_hidden = _hides(element.find("rPr"))
            is_hidden = style.is_hidden if is_hidden is None else is_hidden
            style = replace(style, level=level or style.level, is_contents=is_contents, is_hidden=is_hidden)
            style = _changed(style, element.find("pPr"))
        return style


def _changed(style: _Style, properties: Element | None) -> _Style:
    """Return the style with the outline level and numbering of these properties."""
    if properties is None:
        return style
    if (level := _number(properties, "outlineLvl", -1)) >= 0:
        style = replace(style, level=level + 1 if level < 9 else 0)
    if (numbering := properties.find("numPr")) is not None:
        inherited, depth = style.numbering or ("0", 0)
        number = _value(numbering, "numId") or inherited
        style = replace(
            style, numbering=(number, _number(numbering, "ilvl", depth)) if number != "0" else None
        )
    return style


@dataclass(frozen=True, slots=True)
class _Level:
    """A level of a numbered or bulleted list. In `text`, %1 is replaced by the number of the outermost
    level.
    """

    form: str
    text: str
    start: int


class _Numbering:
    """Counts the items of all lists in the same way as Word, to show their numbers."""

    def __init__(self, root: Element) -> None:
        kinds = {definition.get(":abstractNumId", ""): definition for definition in root.iter("abstractNum")}
        linked_to = {
            name: definition for definition in kinds.values() if (name := _value(definition, "styleLink"))
        }
        self._lists = dict[str, tuple[str, dict[int, _Level]]]()  # number → its counter and its levels
        self._counts = dict[str, dict[int, int]]()
        for number in root.iter("num"):
            counter = _value(number, "abstractNumId") or ""
            if (kind := kinds.get(counter)) is not None:
                kind = linked_to.get(_value(kind, "numStyleLink") or "", kind)
                levels = _read_levels(kind)
                for override in number.iter("lvlOverride"):
                    levels |= _read_levels(override)
                    if override.find("startOverride") is not None:
                        counter = f"number {number.get(':numId')}"  # counts by itself
                self._lists[number.get(":numId", "")] = counter, levels

    def label(self, numbering: tuple[str, int] | None) -> str | None:
        """Return the next item's marker: "-", its number as shown by Word, or None if it has no marker."""
        number, depth = numbering or ("", 0)
        counter, levels = self._lists.get(number, ("", {}))
        if depth not in levels:
            return None
        counts = self._counts.setdefault(counter, {})
        counts[depth] = counts.get(depth, levels[depth].start - 1) + 1
        for deeper in [other for other in counts if other > depth]:
            del counts[deeper]

        def shown(mark: re.Match[str]) -> str:
            level = levels.get(int(mark[1]) - 1)
            return "" if level is None else numeral(counts.get(int(mark[1]) - 1, level.start), level.form)

        if levels[depth].form == "bullet":
            return "-"
        return _NUMBER_MARK.sub(shown, levels[depth].text[:_MAX_LABEL_LENGTH]).strip() or None


_NUMBER_MARK = re.compile("%([1-9])")


def _read_levels(parent: Element) -> dict[int, _Level]:
    return {
        int(depth): _Level(
            _value(level, "numFmt") or "decimal", _value(level, "lvlText") or "", _number(level, "start", 1)
        )
        for level in parent.iter("lvl")
        if (depth := level.get(":ilvl", "")) in tuple("012345678")
    }


_ROMAN = {1000: "m", 900: "cm", 500: "d", 400: "cd", 100: "c", 90: "xc", 50: "l", 40: "xl", 10: "x", 9: "ix",
          5: "v", 4: "iv", 1: "i"}  # fmt: skip
_CHINESE = "〇一二三四五六七八九"
_LARGEST_NUMERAL = 99
"""The largest list number written in the list's own format; larger ones are written in decimal digits."""


def numeral(number: int, form: str) -> str:
    """Return a number in one of Word's number formats."""
    if form == "none":
        return ""
    if not 0 < number <= _LARGEST_NUMERAL or form.startswith("decimal"):
        return str(number)
    if form.endswith("Letter"):
        numeral = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
    elif form.endswith("Roman"):
        numeral = ""
        for value, sign in _ROMAN.items():
            numeral += sign * (number // value)
            number %= value
    elif form.startswith(("chinese", "ideographDigital", "japaneseCounting", "taiwaneseCounting")):
        tens, ones = divmod(number, 10)
        digits = f"{_CHINESE[tens] if tens > 1 else ''}{'十' if tens else ''}"
        return digits + (_CHINESE[ones] if ones else "")
    else:
        return str(number)
    return numeral.upper() if form.startswith("upper") else numeral
