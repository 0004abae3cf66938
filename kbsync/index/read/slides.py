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
    pages = [_slide(archive, part, number) for number, part in enumerate(_slides(archive), 1)]
    if not any(pages):
        raise without_text(pictures=archive.has_pictures())
    text, starts = "", []
    for page in pages:
        starts.append(len(text))
        text += page + "\n\n" if page else ""
    text = text.rstrip()
    return Parsed(
        text,
        title=document_title(_stated_title(archive), text),
        page_starts=tuple(min(s, len(text)) for s in starts),
    )


def _slides(archive: Archive) -> Iterator[str]:
    """The part names of the slides in the order of the presentation."""
    root = archive.xml(_MAIN)
    if root is None:
        raise damaged("it is not a presentation, or its main part is missing")
    relations = archive.related(_MAIN)
    for entry in root.iter("sldId"):
        kind, part = relations.get(entry.get(":id", ""), ("", ""))
        if kind == "slide":
            yield part


def _stated_title(archive: Archive) -> str | None:
    root = archive.xml("docProps/core.xml")
    return None if root is None else root.findtext("title")


def _slide(archive: Archive, part: str, number: int) -> str:
    root = archive.xml(part)
    if root is None:
        return ""
    title, blocks = _words(root)
    notes: list[str] = []
    for kind, name in archive.related(part).values():
        if kind == "notesSlide":
            notes += _notes(archive, name)
        else:
            blocks += _drawn(archive, kind, name)
    if not (title or blocks or notes):
        return ""
    spoken = [f"**Speaker notes:** {notes[0]}", *notes[1:]] if notes else []
    return tidied("\n\n".join([f"## {title or f'Slide {number}'}", *blocks, *spoken]))


def _words(slide: Element) -> tuple[str, list[str]]:
    """The title and the other texts on a slide."""
    title, blocks = "", list[str]()
    for shape in _shapes(slide):
        kind = _placeholder(shape)
        if kind in _TITLES and not title:
            title = " ".join(" ".join(_paragraphs(shape)).split())
        elif kind not in _FURNITURE:
            blocks += _blocks(shape)
    return title, blocks


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


def _blocks(shape: Element) -> Iterator[str]:
    for table in shape.iter("tbl"):
        yield pipe_table(
            [[" ".join(_paragraphs(cell)) for cell in row.iter("tc")] for row in table.iter("tr")]
        )
    if shape.tag == "sp":
        yield from _paragraphs(shape)


def _paragraphs(part: Element) -> list[str]:
    """The paragraphs below an element that hold text."""
    texts = ("".join(_runs(paragraph)).strip() for paragraph in part.iter("p"))
    return [text for text in texts if text]


def _runs(paragraph: Element) -> Iterator[str]:
    for run in paragraph.iter():
        if run.tag == "t":
            yield run.text or ""
        elif run.tag in ("br", "tab"):
            yield " "


def _notes(archive: Archive, part: str) -> Iterator[str]:
    root = archive.xml(part)
    for shape in _shapes(root) if root is not None else ():
        if _placeholder(shape) not in _FURNITURE:
            yield from _paragraphs(shape)


def _drawn(archive: Archive, kind: str, part: str) -> Iterator[str]:
    """The words in charts and diagrams, which lie in parts of their own."""
    if kind not in ("chart", "diagramData"):
        return
    root = archive.xml(part)
    if root is None:
        return
    if kind == "diagramData":
        yield from _paragraphs(root)
        return
    names = [
        text for values in root.iter("strCache") for v in values.iter("v") if (text := (v.text or "").strip())
    ]
    words = list(dict.fromkeys([*_paragraphs(root), *names]))
    if words:
        yield "Chart: " + ", ".join(words)
