"""Presentations: slides in their order, with titles, texts, tables, charts and speaker notes.

Read here because the general parser goes by the numbers of the part names, not by the order of the
slides, and leaves the notes out.
"""

from __future__ import annotations

from collections.abc import Iterator

from kbsync.index.document import Parsed
from kbsync.index.read.markdown import document_title, pipe_table, tidied
from kbsync.index.read.zip import Archive, Element, damaged, without_text

_MAIN = "ppt/presentation.xml"
_TITLES = ("title", "ctrTitle")
_FURNITURE = ("sldNum", "dt", "ftr", "hdr", "sldImg")


def read_pptx(raw: bytes) -> Parsed:
    """The slides as markdown, a page each. Raises `Rejected` where no slide has a text."""
    archive = Archive(raw)
    root = archive.xml(_MAIN)
    if root is None:
        raise damaged("it is not a presentation, or its main part is missing")
    relations = archive.related(_MAIN)
    shown = (relations.get(entry.get(":id", ""), ("", "")) for entry in root.iter("sldId"))
    slides = [part for kind, part in shown if kind == "slide"]
    pages = [_slide(archive, part, number) for number, part in enumerate(slides, 1)]
    if not any(pages):
        raise without_text(pictures=archive.has_pictures())
    text, starts = "", []
    for page in pages:
        starts.append(len(text))
        text += page + "\n\n" if page else ""
    text = text.rstrip()
    about = archive.xml("docProps/core.xml")
    title = document_title(None if about is None else about.findtext("title"), text)
    return Parsed(text, title=title, page_starts=tuple(min(start, len(text)) for start in starts))


def _slide(archive: Archive, part: str, number: int) -> str:
    root = archive.xml(part)
    if root is None:
        return ""
    title, blocks, notes = "", list[str](), list[str]()
    for shape in _shapes(root):
        kind = _placeholder(shape)
        if kind in _TITLES and not title:
            title = " ".join(" ".join(_paragraphs(shape)).split())
        elif kind not in _FURNITURE:
            for table in shape.iter("tbl"):
                rows = ((" ".join(_paragraphs(cell)) for cell in row.iter("tc")) for row in table.iter("tr"))
                blocks.append(pipe_table([list(row) for row in rows]))
            if shape.tag == "sp":
                blocks += _paragraphs(shape)
    for kind, name in archive.related(part).values():
        if kind not in ("notesSlide", "chart", "diagramData"):
            continue
        related = archive.xml(name)
        if related is None:
            continue
        match kind:
            case "notesSlide":
                for shape in _shapes(related):
                    if _placeholder(shape) not in _FURNITURE:
                        notes += _paragraphs(shape)
            case "diagramData":
                blocks += _paragraphs(related)
            case "chart":
                cached = (value.text or "" for kept in related.iter("strCache") for value in kept.iter("v"))
                words = dict.fromkeys([*_paragraphs(related), *filter(None, map(str.strip, cached))])
                if words:
                    blocks.append("Chart: " + ", ".join(words))
    if not (title or blocks or notes):
        return ""
    spoken = [f"**Speaker notes:** {notes[0]}", *notes[1:]] if notes else []
    return tidied("\n\n".join([f"## {title or f'Slide {number}'}", *blocks, *spoken]))


def _shapes(root: Element) -> Iterator[Element]:
    """Shapes and tables in drawing order, groups opened, the fallback twins of newer shapes left out."""
    for child in root:
        if child.tag in ("sp", "graphicFrame"):
            yield child
        elif child.tag != "Fallback":
            yield from _shapes(child)


def _placeholder(shape: Element) -> str:
    mark = shape.find("./nvSpPr/nvPr/ph")
    return "" if mark is None else mark.get("type", "body")


def _paragraphs(part: Element) -> list[str]:
    """The paragraphs below an element that hold text."""
    texts = list[str]()
    for paragraph in part.iter("p"):
        runs = (run for run in paragraph.iter() if run.tag in ("t", "br", "tab"))
        text = "".join((run.text or "") if run.tag == "t" else " " for run in runs).strip()
        if text:
            texts.append(text)
    return texts
