"""PDF and Excel through kreuzberg, with its losses repaired.

Measured with kreuzberg 4.10.4: its markdown hides `snake_case` behind backslashes, its PDF markdown has no
pages (the document structure does), and a PDF of pictures gives an empty text and no error.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import kreuzberg

from kbsync.errors import Rejected
from kbsync.index.document import Parsed
from kbsync.index.read.text import document_title, fenced, pipe_table, tidied, unescaped
from kbsync.index.read.zip import Archive, damaged, encrypted, without_text

_OOXML = "application/vnd.openxmlformats-officedocument"
_TYPES = {
    "pdf": "application/pdf",
    "xlsx": f"{_OOXML}.spreadsheetml.sheet",
}
_BLANK = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)
_EMPTY_ROW = re.compile(r"^\|(?: *\|)+\n(?!\| *---)", re.MULTILINE)  # gaps of a sheet, never its header
_NAME_OF_ERROR = re.compile(r"\w+Error")
_IMAGE = re.compile(rb"/Subtype\s*/Image")


def warm_up() -> None:
    """Load the PDF library, which kreuzberg unpacks into the temporary folder, and delete that file again.

    Once loaded it needs no file, so the process can then be forbidden to write any.
    """
    _extract(_BLANK, "pdf")
    shutil.rmtree(Path(tempfile.gettempdir()) / "kreuzberg-pdfium", ignore_errors=True)


def read_pdf(raw: bytes) -> Parsed:
    """The pages as markdown; headings are guessed from letter sizes."""
    if b"%PDF-" not in raw[:1024]:
        raise damaged("it is not a PDF")
    result = _extract(raw, "pdf", include_document_structure=True)
    nodes = (result.document or {}).get("nodes", ())
    text, starts = _join_pages((int(node.get("page") or 1), _block(node["content"])) for node in nodes)
    if not text and (content := tidied(unescaped(result.content))):
        text, starts = content, ()
    if not text:
        raise without_text(pictures=_IMAGE.search(raw) is not None)
    return Parsed(text, title=_title(result, text), page_starts=starts)


def read_xlsx(raw: bytes) -> Parsed:
    """A workbook: each sheet as a heading and a table."""
    workbook = _read_archive(_open_archive(raw, "xl/workbook.xml", "workbook"), "xlsx")
    text = _EMPTY_ROW.sub("", workbook.text + "\n").rstrip()
    is_sheet_name = workbook.text.startswith(f"## {workbook.title}\n")  # "Sheet1" is no title
    return replace(workbook, text=text, title=None if is_sheet_name else workbook.title)


def _open_archive(raw: bytes, part: str, kind: str) -> Archive:
    archive = Archive(raw)
    if part not in archive.names:
        raise damaged(f"the archive holds no {kind}, or its main part is missing")
    return archive


def _read_archive(archive: Archive, extension: str) -> Parsed:
    return _read(archive.for_parser(), extension, pictures=archive.has_pictures())


def _read(raw: bytes, extension: str, *, pictures: bool = False) -> Parsed:
    result = _extract(raw, extension)
    text = tidied(unescaped(result.content))
    if not text:
        raise without_text(pictures=pictures)
    return Parsed(text, title=_title(result, text))


def _extract(raw: bytes, extension: str, **options: Any) -> Any:
    config = kreuzberg.ExtractionConfig(  # type: ignore[call-arg]  # its stub lacks disable_ocr
        use_cache=False,
        disable_ocr=True,  # its OCR asks the network for language data
        output_format="markdown",
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
        **options,
    )
    try:
        return kreuzberg.extract_bytes_sync(raw, _TYPES[extension], config)
    except kreuzberg.KreuzbergError as error:
        raise _translate_error(str(error)) from error


def _translate_error(message: str) -> Rejected:
    lowered = message.lower()
    if "password" in lowered or "encrypt" in lowered:
        return encrypted()
    if "limit" in lowered or "bomb" in lowered or "exceed" in lowered:
        return Rejected(f"the parser refuses it: {_first_line(message)}", code="bomb")
    for sign, detail in _OF_PDFIUM.items():
        if sign in message:
            return damaged(detail)
    return damaged(f"the parser says {_first_line(message)!r}")


_OF_PDFIUM = {
    "PdfiumLibraryInternalError: FormatError": "the PDF is damaged",
    "PdfiumLibraryInternalError: PageError": "a page of the PDF is damaged",
    "PdfiumLibraryInternalError: SecurityError": "the PDF is protected in a way the parser does not know",
}


def _first_line(message: str) -> str:
    """The first line without the names of errors; wrapped errors repeat their words, which are kept once."""
    parts = message.strip().split("\n")[0].split(": ")
    words = [part for part in dict.fromkeys(parts) if not _NAME_OF_ERROR.fullmatch(part)]
    return ": ".join(words or parts[-1:])[:200]


def _title(result: Any, text: str) -> str | None:
    stated = result.metadata.get("title")
    return document_title(stated if isinstance(stated, str) else None, text)


def _join_pages(blocks: Iterable[tuple[int, str]]) -> tuple[str, tuple[int, ...]]:
    """Blocks as one text, and the start of each page in it (of a page without text: the next one's)."""
    pieces: list[str] = []
    starts: list[int] = []
    offset = 0
    for page, block in blocks:
        if not (block := tidied(block)):
            continue
        if pieces:
            is_list = block.startswith("- ") and pieces[-1].startswith("- ")
            pieces.append("\n" if is_list else "\n\n")
            offset += len(pieces[-1])
        starts += [offset] * (page - len(starts))
        pieces.append(block)
        offset += len(block)
    return "".join(pieces), tuple(starts)


def _block(content: Mapping[str, Any]) -> str:
    """One node of the document structure as markdown."""
    text = str(content.get("text") or "")
    match content["node_type"]:
        case "group" | "list" | "page_break" | "image":
            return ""  # its content comes as separate nodes
        case "title" | "heading":
            return "#" * min(6, int(content.get("level") or 1)) + " " + _join_lines(text)
        case "list_item":
            return "- " + _join_lines(text).lstrip("•◦▪‣·-– ")
        case "code":
            return fenced(text)
        case "table":
            rows: dict[int, dict[int, str]] = {}
            for cell in (content.get("grid") or {}).get("cells", ()):
                rows.setdefault(int(cell["row"]), {})[int(cell["col"])] = str(cell.get("content") or "")
            ordered = (row for _, row in sorted(rows.items()))
            return pipe_table([[row.get(column, "") for column in range(max(row) + 1)] for row in ordered])
    return _join_lines(text)


_CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_CJK_BREAK = re.compile(f"(?<=[{_CJK}])[ \t]*\n[ \t]*(?=[{_CJK}])")


def _join_lines(text: str) -> str:
    """The lines of a paragraph as one: Chinese and Japanese have no space between them."""
    return " ".join(_CJK_BREAK.sub("", text.replace("\r\n", "\n")).split("\n")).strip()
