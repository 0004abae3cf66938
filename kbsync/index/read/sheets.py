"""Reads spreadsheets through calamine: each sheet, even a hidden one, as a heading and a table."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator

import python_calamine as calamine

from kbsync.index.document import Parsed
from kbsync.index.read.slides import paragraphs, parts_of
from kbsync.index.read.text import (
    document_title,
    one_line,
    pipe_table,
    readable_number,
    split_keywords,
    tidied,
)
from kbsync.index.read.zip import Archive, damaged, encrypted, without_text

Cell = float | str | bool | datetime.time | datetime.date | datetime.timedelta

_ZIP = b"PK\x03\x04"
_MOST_EMPTY_CELLS = 2_000_000  # maximum number of cells added to pad the rows of a sheet
_PLACEHOLDER = "[Threaded comment]"  # the fallback for older programs


def read_xlsx(raw: bytes) -> Parsed:
    """Return an Excel workbook as Markdown. Raises `Rejected` if it has no text."""
    archive = Archive(raw)
    main = archive.main_part("xl/workbook.xml")
    workbook = archive.xml(main)
    if workbook is None:
        raise damaged("the archive contains no workbook, or its main part is missing")
    relations = archive.related(main)
    parts = {
        sheet.get("name", ""): relations.get(sheet.get(":id", ""), ("", ""))[1]
        for sheet in workbook.iter("sheet")
    }
    text = _read(archive.for_parser(), archive, parts)
    if not text:
        raise without_text(pictures=archive.has_pictures())
    title, keywords = archive.stated()
    return Parsed(text, title=document_title(title, ""), tags=split_keywords(keywords))


def read_ods(raw: bytes) -> Parsed:
    """Return an OpenDocument spreadsheet as Markdown. Raises `Rejected` if it has no text."""
    archive = Archive(raw)
    if b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise encrypted()
    if archive.xml("content.xml") is None:
        raise damaged("the archive contains no OpenDocument spreadsheet, or its main part is missing")
    text = _read(archive.for_parser())
    if not text:
        raise without_text(pictures=archive.has_pictures())
    about = archive.xml("meta.xml")
    return Parsed(text, title=document_title(None if about is None else about.findtext(".//title"), ""))


def read_xls(raw: bytes) -> Parsed:
    """Return an Excel 97–2003 workbook as Markdown. Raises `Rejected` if it has no text."""
    if raw.startswith(_ZIP):  # a newer workbook under the old extension
        return read_xlsx(raw)
    text = _read(raw)
    if not text:
        raise without_text(pictures=False)
    return Parsed(text)


def _read(raw: bytes, archive: Archive | None = None, parts: dict[str, str] | None = None) -> str:
    blocks = list[str]()
    try:
        with calamine.load_workbook(io.BytesIO(raw)) as workbook:
            for number, about in enumerate(workbook.sheets_metadata):
                has_cells = about.typ is calamine.SheetTypeEnum.WorkSheet
                tables = [_table(workbook.get_sheet_by_index(number))] if has_cells else []
                if archive is not None and (part := (parts or {}).get(about.name)):
                    tables += _beside(archive, part)
                if tables := list(filter(None, tables)):
                    is_hidden = about.visible is not calamine.SheetVisibleEnum.Visible
                    blocks += [f"## {one_line(about.name)}{' (hidden)' if is_hidden else ''}", *tables]
    except calamine.PasswordError as error:
        raise encrypted() from error
    except calamine.CalamineError as error:
        raise damaged(f"the parser says {one_line(str(error))[:200]!r}") from error
    return tidied("\n\n".join(blocks))


def _table(sheet: calamine.CalamineSheet) -> str:
    """Return the cells of a sheet as a table, without empty rows and columns."""
    rows = [[_shown(cell) for cell in row] for row in sheet.iter_rows()]
    top, left = sheet.start or (0, 0)
    for (first, column), (last, last_column) in sheet.merged_cell_ranges or ():
        if column != last_column:
            continue
        # One name beside several rows belongs to each of them.
        for number in range(max(0, first - top) + 1, min(last - top + 1, len(rows))):
            if 0 <= column - left < len(rows[number]):
                rows[number][column - left] = rows[first - top][column - left]
    rows = [row for row in rows if any(row)]
    columns = [number for number in range(max(map(len, rows), default=0)) if any(row[number] for row in rows)]
    cells = [[row[number] for number in columns] for row in rows]
    if len(rows) * len(columns) - sum(sum(map(bool, row)) for row in cells) > _MOST_EMPTY_CELLS:
        return "\n\n".join(" ".join(filter(None, row)) for row in cells)
    return pipe_table(cells)


def _shown(cell: Cell) -> str:
    """Return a value as people read it: dates as ISO 8601, whole numbers without a decimal point."""
    match cell:
        case bool():
            return str(cell).upper()
        case int():
            return str(cell)
        case float():
            return readable_number(cell)
        case datetime.datetime():
            precision = "seconds" if cell.second else "minutes"
            return cell.isoformat(" ", precision) if cell.time() != datetime.time() else f"{cell:%Y-%m-%d}"
        case datetime.timedelta():
            minutes, seconds = divmod(round(cell.total_seconds()), 60)
            return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        case datetime.time() | datetime.date():
            return cell.isoformat()
    return cell.strip()


def _beside(archive: Archive, part: str) -> Iterator[str]:
    """Yield the text boxes, the chart titles and the comments of an xlsx sheet."""
    for kind, name in archive.related(part).values():
        root = archive.xml(name) if kind in ("drawing", "comments", "threadedComment") else None
        if root is None:
            continue
        yield from paragraphs(root)
        if kind == "drawing":
            for chart in parts_of(archive, name, "chart"):
                yield from paragraphs(chart)
        for comment in (*root.iter("comment"), *root.iter("threadedComment")):
            text = one_line(
                "".join(element.text or "" for element in comment.iter() if element.tag in ("t", "text"))
            )
            if text and not text.startswith(_PLACEHOLDER):
                yield f"**Comment on {comment.get('ref', '')}:** {text}"
