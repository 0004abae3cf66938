"""Reads OpenDocument texts and presentations: the text that LibreOffice shows, with notes and comments.

It omits deleted and hidden text, and tables of contents.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from kbsync.index.document import Parsed
from kbsync.index.read.docx import numeral
from kbsync.index.read.formats import word_set
from kbsync.index.read.slides import join_slides, slide_text
from kbsync.index.read.text import (
    Blocks,
    distinct_texts,
    document_title,
    is_description,
    is_note_mark,
    linked,
    note,
    one_line,
    split_keywords,
    tidied,
)
from kbsync.index.read.zip import Archive, Element, damaged, encrypted, inside, number_of

_OMITTED = word_set(
    """
    alphabetical-index annotation-end forms hidden-paragraph hidden-text illustration-index note-citation
    notes page-count page-number ruby-text script scripts shapes table-index table-of-content tracked-changes
    """
)
"""Elements to skip: deleted text, indexes, page numbers and elements that aren't shown."""

SHAPES = word_set(
    "caption circle connector control custom-shape ellipse frame g line measure path polygon polyline rect"
)
_FURNITURE = ("page-number", "date-time", "header", "footer", "page")
_MAX_REPEATS = 100
_MAX_PARENTS = 20
_FORMS = {"a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman", "1": "decimal"}


def read_opendocument(raw: bytes) -> Parsed:
    """Return the document as Markdown, with a page for each slide of a presentation. Raises `Rejected` if it
    has no text."""
    archive = Archive(raw)
    content, title, tags = opendocument_parts(archive)
    if (body := content.find("body")) is None:
        raise damaged(_NO_DOCUMENT)
    reader = _Reader(archive, [archive.xml("styles.xml"), content])
    starts: tuple[int, ...] = ()
    if (presentation := body.find("presentation")) is not None:
        reader.read_footers(presentation)
        slides = enumerate(presentation.iter("page"), 1)
        text, starts = join_slides(reader.slide(page, number) for number, page in slides)
    else:
        text = tidied(reader.document(body))
    archive.require_text(text)
    return Parsed(text, title=document_title(title, text), tags=tags, page_starts=starts)


_NO_DOCUMENT = "the archive contains no OpenDocument file, or its main part is missing"


def opendocument_parts(archive: Archive) -> tuple[Element, str | None, tuple[str, ...]]:
    """Return the content of a document, and the title and keywords from its properties.

    Raises `Rejected` if the document is encrypted or has no content.
    """
    if b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise encrypted()
    content, about = archive.xml("content.xml"), archive.xml("meta.xml")
    if not len(content):
        raise damaged(_NO_DOCUMENT)
    keywords = "\n".join(keyword.text or "" for keyword in about.iter("keyword"))
    return content, about.findtext(".//title"), split_keywords(keywords)


def embedded_object(archive: Archive, element: Element) -> Element:
    """Return the root of the chart, formula or document that an element embeds, or an empty element."""
    part = posixpath.normpath(f"{element.get(':href', '')}/content.xml")
    is_old = b"<!DOCTYPE" in archive.read(part)  # a formula from an old program
    return archive.xml("" if is_old else part)


class _Reader:
    def __init__(self, archive: Archive, roots: list[Element]) -> None:
        self._archive, self._roots = archive, roots
        styles = [style for root in roots for style in root.iter("style")]
        named = {style.get(":name", ""): style for style in styles}
        self._hidden = {name for name in named if _hides(name, named)}
        self._raised = {
            style.get(":name", "")
            for style in styles
            if any(
                properties.get(":text-position", "").startswith("super")
                for properties in style.iter("text-properties")
            )
        }
        self._titles = {"Title"} | {
            style.get(":name", "") for style in styles if style.get(":parent-style-name") == "Title"
        }
        self._lists = {
            list_style.get(":name", ""): list_style
            for root in roots
            for list_style in root.iter("list-style")
        }
        self._counts = dict[tuple[str, int], int]()
        self._masters = {page.get(":name", ""): page for root in roots for page in root.iter("master-page")}
        self._footers = dict[str, str]()  # of slides, by name
        self._repeated = set[str]()

    def read_footers(self, presentation: Element) -> None:
        """Read the headers and footers used by the slides of a presentation."""
        for element in presentation:
            if element.tag in ("footer-decl", "header-decl"):
                self._footers[element.get(":name", "")] = one_line(element.text or "")

    def document(self, body: Element) -> str:
        """Return the whole text. Page headers come first and page footers last, each text only once."""
        blocks = Blocks()
        for text in self._page_texts("header"):
            blocks.add(text)
        self.read(body, blocks)
        for text in self._page_texts("footer"):
            blocks.add(text)
        return blocks.text

    def slide(self, page: Element, number: int) -> str:
        """Return one slide with its notes."""
        title, blocks, notes = "", Blocks(), Blocks()
        for shape in page:
            kind = shape.get(":class")
            if kind == "title" and not title:
                title = one_line(" ".join(self._paragraphs(shape)))
            elif shape.tag == "notes":
                for child in shape:
                    if child.get(":class") not in _FURNITURE:
                        self.read(child, notes)
            elif kind not in _FURNITURE:
                self._read_one(shape, blocks)
        texts = [*([blocks.text] if blocks else []), *self._template(page)]
        return slide_text(number, title, texts, [notes.text] if notes else [])

    def _template(self, page: Element) -> Iterator[str]:
        """Yield a slide's footer, and the texts that its master shows behind it, each only once."""
        texts = [self._footers.get(page.get(f":use-{kind}-name", ""), "") for kind in ("header", "footer")]
        for shape in self._masters.get(page.get(":master-page-name", ""), ()):
            is_text = shape.get(":class", "footer") == "footer" and shape.tag in SHAPES
            if is_text and not any(element.tag in _FURNITURE for element in shape.iter()):
                blocks = Blocks()
                self._read_one(shape, blocks)
                texts.append(blocks.text)
        for text in distinct_texts(texts):
            if text not in self._repeated:
                self._repeated.add(text)
                yield text

    def _page_texts(self, tag: str) -> list[str]:
        """Return the headers or footers of the pages, each only once."""
        texts = list[str]()
        for root in self._roots:
            for page in root.iter("master-page"):
                for child in page:
                    if child.tag.startswith(tag):
                        blocks = Blocks()
                        self.read(child, blocks)
                        texts.append(blocks.text)
        return distinct_texts(texts)

    def read(self, parent: Element, blocks: Blocks) -> None:
        """Add the content of `parent`."""
        for element in parent:
            self._read_one(element, blocks)

    def _read_one(self, element: Element, blocks: Blocks) -> None:
        match element.tag:
            case "h" | "p":
                self._read_paragraph(element, blocks)
            case "list":
                self._read_list(element, blocks, 1, "")
            case "table":
                blocks.add_table([self._row(row) for row in inside(element, ("table-row",), _OMITTED)])
            case "annotation":
                blocks.add(self._comment(element))
            case "desc" if is_description(words := element.text or ""):
                blocks.add(one_line(words))
            case "object":
                self._read_object(embedded_object(self._archive, element), blocks)
            case tag if tag not in _OMITTED and element.get(":display") != "none":
                self.read(element, blocks)

    def _read_object(self, root: Element, blocks: Blocks) -> None:
        """Add the words of a chart or the symbols of a formula."""
        if root.tag == "math":
            signs = (node.text or "" for node in root.iter() if node.tag in ("mi", "mn", "mo", "mtext"))
            blocks.add(one_line(" ".join(signs)))
        else:
            self.read(root, blocks)

    def _read_paragraph(self, paragraph: Element, blocks: Blocks, mark: str = "", depth: int = 0) -> None:
        if paragraph.get(":style-name") in self._hidden:
            return
        notes = Blocks()  # notes, comments and text boxes
        text = "".join(self._texts(paragraph, notes))
        if paragraph.tag == "h" or paragraph.get(":style-name") in self._titles:
            level = number_of(paragraph.get(":outline-level"), 1)
            blocks.add(f"{'#' * min(level, 6)} {one_line(text)}" if text.strip() else "")
        elif mark:
            blocks.add_item(depth, mark, one_line(text))
        else:
            blocks.add_paragraph(text)
        blocks.extend(notes)

    def _texts(self, parent: Element, notes: Blocks) -> Iterator[str]:
        """Yield the pieces of a paragraph's text."""
        yield parent.text or ""
        before = parent.text or ""
        for element in parent:
            match element.tag:
                case "s" | "tab":
                    yield " "
                case "line-break":
                    yield "\n"
                case "a":
                    yield linked("".join(self._texts(element, notes)), element.get(":href", ""))
                case "note":
                    kind = element.get(":note-class", "note").capitalize()
                    notes.add(note(kind, " ".join(self._paragraphs(element))))
                case "annotation":
                    notes.add(self._comment(element))
                case "span" if element.get(":style-name") in self._hidden:
                    pass
                case "span" if element.get(":style-name") in self._raised:
                    text = "".join(self._texts(element, notes))
                    yield f" {text}" if is_note_mark(before, text) else text
                case tag if tag in SHAPES:
                    self._read_one(element, notes)
                case tag if tag not in _OMITTED:
                    yield from self._texts(element, notes)
            yield element.tail or ""
            before = element.tail or ""

    def _comment(self, annotation: Element) -> str:
        author = one_line(annotation.findtext("creator") or "")
        return note("Comment", " ".join(self._paragraphs(annotation)), author)

    def _paragraphs(self, parent: Element) -> list[str]:
        blocks = Blocks()
        for element in inside(parent, ("p", "h"), _OMITTED):
            self._read_paragraph(element, blocks)
        return [one_line(blocks.text)] if blocks else []

    def _read_list(self, parent: Element, blocks: Blocks, depth: int, style: str) -> None:
        style = parent.get(":style-name", style)
        level = next(
            (
                list_level
                for list_level in self._lists.get(style, ())
                if list_level.get(":level") == str(depth)
            ),
            None,
        )
        if parent.get(":continue-numbering") != "true":
            self._counts.pop((style, depth), None)
        for item in parent:
            mark = self._mark(style, depth, level) if item.tag == "list-item" else ""
            for element in item:
                if element.tag == "list":
                    self._read_list(element, blocks, depth + 1, style)
                elif element.tag == "p":
                    self._read_paragraph(element, blocks, mark, depth - 1)
                    mark = ""
                else:
                    self._read_one(element, blocks)

    def _mark(self, style: str, depth: int, level: Element | None) -> str:
        if level is None or level.tag != "list-level-style-number":
            return "-"
        first = number_of(level.get(":start-value"), 1)
        count = self._counts[style, depth] = self._counts.get((style, depth), first - 1) + 1
        form = _FORMS.get(level.get(":num-format", ""), "decimal")
        prefix, suffix = level.get(":num-prefix", ""), level.get(":num-suffix", "")
        return f"{prefix[:9]}{numeral(count, form)}{suffix[:9]}".strip()

    def _row(self, row: Element) -> list[Blocks]:
        cells = list[Blocks]()
        for cell in inside(row, ("table-cell", "covered-table-cell"), _OMITTED):
            blocks = Blocks()
            if cell.tag == "table-cell":
                self.read(cell, blocks)
            cells += [blocks] * min(number_of(cell.get(":number-columns-repeated"), 1), _MAX_REPEATS)
        return cells


def _hides(name: str, styles: Mapping[str, Element]) -> bool:
    """Return whether a style hides text. If the style doesn't specify this, its parent styles decide."""
    for _ in range(_MAX_PARENTS):
        if (style := styles.get(name)) is None:
            break
        for properties in style.iter("text-properties"):
            if display := properties.get(":display"):
                return display == "none"
        name = style.get(":parent-style-name", "")
    return False
