"""Excel through kreuzberg, whose markdown hides `snake_case` behind backslashes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import kreuzberg

from kbsync.errors import Rejected
from kbsync.index.document import Parsed
from kbsync.index.read.text import document_title, tidied, unescaped
from kbsync.index.read.zip import Archive, damaged, encrypted, without_text

_OOXML = "application/vnd.openxmlformats-officedocument"
_TYPES = {
    "xlsx": f"{_OOXML}.spreadsheetml.sheet",
}
_EMPTY_ROW = re.compile(r"^\|(?: *\|)+\n(?!\| *---)", re.MULTILINE)  # gaps of a sheet, never its header
_NAME_OF_ERROR = re.compile(r"\w+Error")


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
    return damaged(f"the parser says {_first_line(message)!r}")


def _first_line(message: str) -> str:
    """The first line without the names of errors; wrapped errors repeat their words, which are kept once."""
    parts = message.strip().split("\n")[0].split(": ")
    words = [part for part in dict.fromkeys(parts) if not _NAME_OF_ERROR.fullmatch(part)]
    return ": ".join(words or parts[-1:])[:200]


def _title(result: Any, text: str) -> str | None:
    stated = result.metadata.get("title")
    return document_title(stated if isinstance(stated, str) else None, text)
