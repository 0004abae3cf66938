"""PowerPoint presentations: the slides in the order of the show, hidden ones too, with notes and comments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kbsync.index.document import Parsed
from kbsync.index.read.text import document_title, one_line, pipe_table, split_keywords, tidied
from kbsync.index.read.zip import Archive, Element, damaged, without_text

_MAIN = "ppt/presentation.xml"
_TITLES = ("title", "ctrTitle")
_FURNITURE = ("sldNum", "dt", "ftr", "hdr", "sldImg")


def read_pptx(raw: bytes) -> Parsed:
    """The slides as markdown, a page each. Raises `Rejected` if no slide has text."""
    archive = Archive(raw)
    main = archive.main_part(_MAIN)
    root = archive.xml(main)
    if root is None:
        raise damaged("it is not a presentation, or its main part is missing")
    relations = archive.related(main)
    listed = (relations.get(entry.get(":id", ""), ("", "")) for entry in root.iter("sldId"))
    slides = [part for kind, part in listed if kind == "slide"]
    text, starts = join_slides(_slide(archive, part, number) for number, part in enumerate(slides, 1))
    if not text:
        raise without_text(pictures=archive.has_pictures())
    title, keywords = archive.stated()
    return Parsed(text, title=document_title(title, text), tags=split_keywords(keywords), page_starts=starts)


def join_slides(slides: Iterable[str]) -> tuple[str, tuple[int, ...]]:
    """The text of all slides, and where each begins."""
    text, starts = "", list[int]()
    for slide in slides:
        starts.append(len(text))
        text += f"{slide}\n\n" if slide else ""
    text = text.rstrip()
    return text, tuple(min(start, len(text)) for start in starts)


def slide_text(number: int, title: str, blocks: Sequence[str], notes: Sequence[str]) -> str:
    """One slide below its title; "" if it has no text."""
    if not (title or blocks or notes):
        return ""
    notes_blocks = [f"**Speaker notes:** {notes[0]}", *notes[1:]] if notes else []
    return tidied("\n\n".join([f"## {title or f'Slide {number}'}", *blocks, *notes_blocks]))


def _slide(archive: Archive, part: str, number: int) -> str:
    root = archive.xml(part)
    if root is None:
        return ""
    title, blocks, notes = "", list[str](), list[str]()
    for shape in _shapes(root):
        kind = _placeholder(shape)
        if kind in _TITLES and not title:
            title = one_line(" ".join(paragraphs(shape)))
        elif kind not in _FURNITURE:
            for table in shape.iter("tbl"):
                rows = ((" ".join(paragraphs(cell)) for cell in row.iter("tc")) for row in table.iter("tr"))
                blocks.append(pipe_table([list(row) for row in rows]))
            if shape.tag == "sp":
                blocks += paragraphs(shape)
    blocks += drawn_words(archive, part)
    for related in parts_of(archive, part, "comments"):
        for comment in related.iter("cm"):
            if words := one_line(comment.findtext("text") or " ".join(paragraphs(comment))):
                blocks.append(f"**Comment:** {words}")
    for related in parts_of(archive, part, "notesSlide"):
        for shape in _shapes(related):
            if _placeholder(shape) not in _FURNITURE:
                notes += paragraphs(shape)
    return slide_text(number, title, blocks, notes)


def drawn_words(archive: Archive, part: str) -> list[str]:
    """The words in the charts and diagrams of a part of an Office document."""
    blocks = list[str]()
    for diagram in parts_of(archive, part, "diagramData"):
        blocks += paragraphs(diagram)
    for chart in parts_of(archive, part, "chart"):
        cached = (value.text or "" for cache in chart.iter("strCache") for value in cache.iter("v"))
        if words := dict.fromkeys([*paragraphs(chart), *filter(None, map(str.strip, cached))]):
            blocks.append("Chart: " + ", ".join(words))
    return blocks


def parts_of(archive: Archive, part: str, kind: str) -> Iterator[Element]:
    """The parts of that kind that belong to another part."""
    for each, name in archive.related(part).values():
        if each == kind and (root := archive.xml(name)) is not None:
            yield root


def _shapes(root: Element) -> Iterator[Element]:
    """Shapes and tables in drawing order, groups expanded, without the fallback twins of newer shapes."""
    for child in root:
        if child.tag in ("sp", "graphicFrame"):
            yield child
        elif child.tag != "Fallback":
            yield from _shapes(child)


def _placeholder(shape: Element) -> str:
    mark = shape.find("./nvSpPr/nvPr/ph")
    return "" if mark is None else mark.get("type", "body")


def paragraphs(part: Element) -> list[str]:
    """The paragraphs with text below an element."""
    texts = list[str]()
    for paragraph in part.iter("p"):
        runs = (run for run in paragraph.iter() if run.tag in ("t", "br", "tab"))
        text = "".join((run.text or "") if run.tag == "t" else " " for run in runs).strip()
        if text:
            texts.append(text)
    return texts
