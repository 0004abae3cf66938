"""Reads PowerPoint presentations: the slides in presentation order, including hidden ones, with notes and
comments."""

from __future__ import annotations

import datetime
import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from kbsync.index.document import Parsed
from kbsync.index.read.text import is_description, linked, note, one_line, pipe_table, readable_number, tidied
from kbsync.index.read.zip import Archive, Element, damaged, inside

_MAIN = "ppt/presentation.xml"
_TITLES = ("title", "ctrTitle")
_NUMBERS = ("sldNum", "sldImg")
_MAX_SERIES, _MAX_POINTS = 50, 200
"""Maximum numbers of columns and rows in a chart's table."""

_REPEATED = ("dt", "ftr", "hdr")
"""Placeholders with the same text on many slides."""


def read_pptx(raw: bytes) -> Parsed:
    """Return the slides as Markdown, one page each. Raises `Rejected` if no slide has text."""
    archive = Archive(raw)
    main = archive.main_part(_MAIN)
    root = archive.xml(main)
    if not len(root):
        raise damaged("the file is not a presentation, or its main part is missing")
    relations = archive.related(main)
    listed = (relations.get(entry.get(":id", ""), ("", "")) for entry in root.iter("sldId"))
    slides = [part for kind, part in listed if kind == "slide"]
    show = _Show(archive, main)
    return archive.parsed(*join_slides(show.slide(part, number) for number, part in enumerate(slides, 1)))


def join_slides(slides: Iterable[str]) -> tuple[str, tuple[int, ...]]:
    """Return the text of all slides, and where each slide begins in it."""
    text, starts = "", list[int]()
    for slide in slides:
        starts.append(len(text))
        text += f"{slide}\n\n" if slide else ""
    text = text.rstrip()
    return text, tuple(min(start, len(text)) for start in starts)


def slide_text(number: int, title: str, blocks: Sequence[str], notes: Sequence[str]) -> str:
    """Return a slide's text under its title as a heading, or "" if the slide has no text."""
    if not (title or blocks or notes):
        return ""
    notes_blocks = [f"**Speaker notes:** {notes[0]}", *notes[1:]] if notes else []
    return tidied("\n\n".join([f"## {title or f'Slide {number}'}", *blocks, *notes_blocks]))


class _Show:
    """The data that the slides share: the names of the commenters, and texts repeated on many slides."""

    def __init__(self, archive: Archive, main: str) -> None:
        self._archive = archive
        kinds = ("commentAuthors", "authors")
        named = (author for kind in kinds for root in parts_of(archive, main, kind) for author in root)
        self._authors = {author.get("id", ""): one_line(author.get("name", "")) for author in named}
        self._repeated = set[str]()
        self._templates = set[str]()

    def slide(self, part: str, number: int) -> str:
        """Return the text of one slide."""
        root = self._archive.xml(part)
        addresses = self._archive.addresses(part)
        title, blocks, notes = "", list[str](), list[str]()
        for shape in _shapes(root):
            if _placeholder(shape) in _TITLES and not title:
                title = one_line(" ".join(paragraphs(shape)))
            else:
                blocks += self._shape(shape, addresses)
        blocks += drawn_words(self._archive, part)
        for related in parts_of(self._archive, part, "comments"):
            blocks += self._comments(related)
        for name in names_of(self._archive, part, "notesSlide"):
            links = self._archive.addresses(name)
            for shape in _shapes(self._archive.xml(name)):
                notes += self._shape(shape, links)
        return slide_text(number, title, [*blocks, *self._template(part)], notes)

    def _shape(self, shape: Element, addresses: Mapping[str, str]) -> Iterator[str]:
        """Yield the text of a shape and the description of its picture."""
        kind = _placeholder(shape)
        if kind in _NUMBERS:
            return
        if kind in _REPEATED:
            if next(shape.iter("fld"), None) is None:  # a date that changes with the day
                yield from self._once(paragraphs(shape))
            return
        for table in shape.iter("tbl"):
            rows = (
                (" ".join(paragraphs(cell, addresses)) for cell in row.iter("tc")) for row in table.iter("tr")
            )
            yield pipe_table([list(row) for row in rows])
        if shape.tag == "sp":
            yield from paragraphs(shape, addresses)
        properties = shape.find("./*/cNvPr")
        if properties is not None and is_description(words := properties.get("descr", "")):
            yield one_line(words)

    def _comments(self, root: Element) -> Iterator[str]:
        """Yield the comments on a slide with their replies."""
        for comment in root.iter():
            if comment.tag in ("cm", "reply"):
                body = comment.find("txBody")
                written = comment.findtext("text") or ("" if body is None else " ".join(paragraphs(body)))
                author = self._authors.get(comment.get("authorId", ""), "")
                if comment_text := note("Comment", one_line(written), author):
                    yield comment_text

    def _template(self, part: str) -> Iterator[str]:
        """Yield the texts that a slide's layout and master show behind it, each only once."""
        for layout in names_of(self._archive, part, "slideLayout"):
            for name in (layout, *names_of(self._archive, layout, "slideMaster")):
                shapes = () if name in self._templates else _shapes(self._archive.xml(name))
                self._templates.add(name)
                for shape in shapes:
                    if shape.tag == "sp" and not _placeholder(shape):
                        yield from self._once(paragraphs(shape))

    def _once(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            if text not in self._repeated and any(map(str.isalpha, text)):
                self._repeated.add(text)
                yield text


def drawn_words(archive: Archive, part: str) -> list[str]:
    """Return the words and values in the charts and diagrams that belong to a part of an Office document."""
    blocks = list[str]()
    for diagram in parts_of(archive, part, "diagramData"):
        blocks += paragraphs(diagram)
    for chart in parts_of(archive, part, "chart"):
        tables = list(_chart_tables(chart))
        in_tables = {cell for rows in tables for row in rows for cell in row}
        cached = (value.text or "" for cache in chart.iter("strCache") for value in cache.iter("v"))
        words = dict.fromkeys([*paragraphs(chart), *filter(None, map(str.strip, cached))])
        if others := [word for word in words if word not in in_tables]:
            blocks.append("Chart: " + ", ".join(others))
        blocks += map(pipe_table, tables)
    for chart in parts_of(archive, part, "chartEx"):  # kinds of charts since Office 2016, such as waterfalls
        values = (one_line(value.text or "") for value in chart.iter() if value.tag in ("v", "pt"))
        if words := dict.fromkeys([*paragraphs(chart), *filter(None, values)]):
            blocks.append("Chart: " + ", ".join(words))
    return blocks


def _chart_tables(chart: Element) -> Iterator[list[list[str]]]:
    """Yield a table for each group of consecutive series with the same points.

    A table has a row per point and a column per series.
    """
    switch = chart.find(".//date1904")
    is_1904 = switch is not None and switch.get("val") not in ("0", "false")
    epoch = datetime.date(1904, 1, 1) if is_1904 else datetime.date(1899, 12, 30)
    series = itertools.islice(chart.iter("ser"), _MAX_SERIES)
    for labels, group in itertools.groupby(series, lambda line: _points(line, ("cat", "xVal"), epoch)):
        columns = list[tuple[str, dict[str, str]]]()
        for line in group:
            name = " ".join(_points(line, ("tx",)).values()) or line.findtext("tx/v", "").strip()
            columns.append((name, _points(line, ("val", "yVal"))))
        points = list(dict.fromkeys(point for _, values in columns for point in values))[:_MAX_POINTS]
        rows = [
            [labels.get(point, ""), *(values.get(point, "") for _, values in columns)] for point in points
        ]
        if rows:
            yield [["", *(name for name, _ in columns)], *rows]


def _points(series: Element, tags: Sequence[str], epoch: datetime.date | None = None) -> dict[str, str]:
    """Return the chart's cached values for the first points of a series, by point number.

    `epoch` is day 0 for numbers that are shown as dates.
    """
    points = dict[str, str]()
    for cell_range in (reference for tag in tags for reference in series.iterfind(tag)):
        is_date = any("y" in (code.text or "").lower() for code in cell_range.iter("formatCode"))
        for cache in cell_range.iter():
            for point in itertools.islice(cache.iter("pt"), _MAX_POINTS) if cache.tag in _CACHES else ():
                number, text = point.get("idx", ""), (point.findtext("v") or "").strip()
                if cache.tag in _NUMBERS_OF_CHARTS:
                    text = _chart_number(text, epoch if is_date else None)
                if text:
                    # With several levels, the innermost comes first.
                    points[number] = f"{points[number]} {text}" if number in points else text
    return points


_NUMBERS_OF_CHARTS = ("numCache", "numLit")
_CACHES = (*_NUMBERS_OF_CHARTS, "strCache", "strLit", "multiLvlStrCache")


def _chart_number(text: str, epoch: datetime.date | None) -> str:
    """Return a number, or "" if the value isn't one.

    If `epoch` is given, return the date that is this number of days after it.
    """
    with suppress(ValueError, OverflowError):
        value = float(text)
        if epoch is not None:
            return (epoch + datetime.timedelta(int(value))).isoformat()
        return readable_number(value) if math.isfinite(value) else ""
    return ""


def names_of(archive: Archive, part: str, kind: str) -> list[str]:
    """Return the names of all parts of one `kind` that belong to another part."""
    return [name for part_kind, name in archive.related(part).values() if part_kind == kind]


def parts_of(archive: Archive, part: str, kind: str) -> Iterator[Element]:
    """Yield all parts of one `kind` that belong to another part."""
    return map(archive.xml, names_of(archive, part, kind))


def _shapes(root: Element) -> Iterator[Element]:
    """Return shapes, pictures and tables in drawing order, with groups expanded.

    Newer shapes also have fallback copies for older programs, which are omitted.
    """
    return inside(root, ("sp", "graphicFrame", "pic", "cxnSp"), ("Fallback",))


def _placeholder(shape: Element) -> str:
    mark = shape.find("./nvSpPr/nvPr/ph")
    return "" if mark is None else mark.get("type", "body")


_NO_LINKS: Mapping[str, str] = {}


def paragraphs(part: Element, addresses: Mapping[str, str] = _NO_LINKS) -> list[str]:
    """Return the non-empty paragraphs below an element, with the addresses that their runs link to."""
    texts = list[str]()
    for paragraph in inside(part, ("p",), ("Fallback",)):
        pieces = list[str]()
        for address, runs in itertools.groupby(_runs(paragraph, addresses), operator.itemgetter(0)):
            text = "".join(text for _, text in runs)
            words = text.strip()
            pieces.append(text.replace(words, linked(words, address), 1) if address and words else text)
        if text := "".join(pieces).strip():
            texts.append(text)
    return texts


def _runs(paragraph: Element, addresses: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the texts of a paragraph, each with the address that it links to, or ""."""
    address = ""
    for element in paragraph.iter():
        match element.tag:
            case "r" | "fld":
                address = ""
            case "hlinkClick":
                address = addresses.get(element.get(":id", ""), "")
            case "t":
                yield address, element.text or ""
            case "br" | "tab":
                yield address, " "
