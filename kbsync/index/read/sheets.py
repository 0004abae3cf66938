"""Reads spreadsheets through calamine: each sheet, even if hidden, as a heading and a table."""

from __future__ import annotations

import datetime
import io
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from functools import lru_cache
from html import unescape
from itertools import chain, islice
from xml.sax.saxutils import quoteattr

import python_calamine as calamine

from kbsync.dataclass import dataclass
from kbsync.index.document import Parsed
from kbsync.index.read.opendocument import SHAPES, embedded_object, opendocument_parts
from kbsync.index.read.slides import paragraphs, parts_of
from kbsync.index.read.text import (
    distinct_texts,
    document_title,
    linked,
    one_line,
    pipe_table,
    readable_number,
    tidied,
)
from kbsync.index.read.zip import (
    Archive,
    Element,
    damaged,
    encrypted,
    inside,
    number_of,
    relations_part,
    without_text,
)

Cell = float | str | bool | datetime.time | datetime.date | datetime.timedelta

_ZIP = b"PK\x03\x04"
_MAX_EMPTY_CELLS = 2_000_000  # maximum number of cells added to pad the rows of a sheet
_MAX_GAPS = 100_000  # maximum number of empty cells of a sheet that calamine may fill
_PLACEHOLDER = "[Threaded comment]"  # the fallback for older programs


@dataclass(frozen=True, slots=True)
class _Details:
    """The parts of a sheet that calamine doesn't read.

    These are the texts outside the cells, the headers and footers of its pages, and the displayed values and
    the links of some cells, each with its row and column (starting from 0).
    """

    blocks: list[str] = field(default_factory=list)
    displayed: Iterable[tuple[int, int, str]] = ()
    links: Iterable[tuple[int, int, str]] = ()
    headers: Iterable[str] = ()


def read_xlsx(raw: bytes) -> Parsed:
    """Return an Excel workbook as Markdown. Raises `Rejected` if it has no text."""
    archive = Archive(raw)
    main = archive.main_part("xl/workbook.xml")
    workbook = archive.xml(main)
    if not len(workbook):
        raise damaged("the archive contains no workbook, or its main part is missing")
    relations = archive.related(main)
    parts = {
        sheet.get("name", ""): relations.get(sheet.get(":id", ""), ("", ""))[1]
        for sheet in workbook.iter("sheet")
    }
    formats = dict(_formats(archive.xml("xl/styles.xml")))
    replaced = {part: sheet for part in parts.values() if (sheet := _replacement(archive.read(part)))}

    def details(name: str) -> _Details:
        if not (part := parts.get(name)):
            return _Details()
        sheet = replaced.get(part) or archive.read(part)
        displayed = _formatted(sheet, formats) if formats else ()
        links = _links(sheet, archive.addresses(part))
        return _Details(list(_beside(archive, part)), displayed, links, _headers(sheet))

    replaced[relations_part(main)] = _plain_relations(relations, workbook)
    return archive.parsed(_read(archive.for_parser(replaced), details), has_headings=False)


def _plain_relations(relations: Mapping[str, tuple[str, str]], workbook: Element) -> bytes:
    """Return a workbook's relationships in a form that calamine understands.

    Targets are absolute. Sheets of an unknown kind, such as macro modules, are left out, because they would
    make all others unreadable.
    """
    sheets = {sheet.get(":id", ""): ("chartsheet", "none.xml") for sheet in workbook.iter("sheet")}
    rows = list[str]()
    for key, (kind, part) in {**sheets, **relations}.items():
        if key in sheets and kind != "worksheet":
            kind = "worksheet" if kind.endswith("acrosheet") else "chartsheet"
        attributes = {"Id": key, "Target": f"/{part}", "Type": f"{_RELATIONSHIPS}/{kind}"}
        rows.append(" ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items()))
    body = "".join(f"<Relationship {row}/>" for row in rows)
    return f'<Relationships xmlns="{_PACKAGE}">{body}</Relationships>'.encode()


_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def read_ods(raw: bytes) -> Parsed:
    """Return an OpenDocument spreadsheet as Markdown. Raises `Rejected` if it has no text."""
    archive = Archive(raw)
    content, title, tags = opendocument_parts(archive)
    for space in chain.from_iterable(map(content.iter, ("s", "tab", "line-break"))):
        space.text = " "
    details, has_gaps = dict[str, _Details](), False
    for table in content.iter("table"):
        # before closing gaps changes the numbers of rows and columns
        blocks = [*_drawn_paragraphs(archive, table), *_comments(table)]
        has_gaps |= _close_gaps(table)
        displayed = islice(_displayed(table), _MAX_DISPLAYED_CELLS)
        details[table.get(":name", "")] = _Details(blocks, displayed)
    cells = _OTHER_MARKUP.sub(_as_text, archive.read("content.xml"))
    cells = _BEFORE_CELL.sub(b">", cells)
    cells = _with_repeats(cells, content) if has_gaps else cells
    text = _read(archive.for_parser({"content.xml": cells}), lambda name: details.get(name, _Details()))
    archive.require_text(text)
    text = "\n\n".join([text, *distinct_texts(_page_texts(archive.xml("styles.xml")))])
    return Parsed(text, title=document_title(title, ""), tags=tags)


def read_xls(raw: bytes) -> Parsed:
    """Return an Excel 97–2003 workbook as Markdown. Raises `Rejected` if it has no text."""
    if raw.startswith(_ZIP):  # a newer workbook under the old extension
        return read_xlsx(raw)
    text = _read(raw)
    if not text:
        raise without_text()
    return Parsed(text)


_FILE_PASS = re.compile(
    rb"\x09\x08(?:\x10\0\0\x06\x05\0.{12}|\x08\0\0\x05\x05\0.{4})(?:\x86\0\0\0)?\x2f\0", re.DOTALL
)
"""Matches the start of a password-protected xls workbook ([MS-XLS] 2.1.7.20.3): BOF, WriteProtect, FilePass.
For such a workbook, calamine's error doesn't mention the password."""


def _read(raw: bytes, find_details: Callable[[str], _Details] = lambda _: _Details()) -> str:
    blocks, seen_headers = list[str](), set[str]()
    try:
        with calamine.load_workbook(io.BytesIO(raw)) as workbook:
            for number, about in enumerate(workbook.sheets_metadata):
                has_cells = about.typ is calamine.SheetTypeEnum.WorkSheet
                details = find_details(about.name)
                table = _table(workbook.get_sheet_by_index(number), details) if has_cells else ""
                if texts := list(filter(None, [table, *details.blocks])):
                    is_hidden = about.visible is not calamine.SheetVisibleEnum.Visible
                    blocks += [f"## {one_line(about.name)}{' (hidden)' if is_hidden else ''}", *texts]
                    blocks += (header for header in details.headers if header not in seen_headers)
                    seen_headers.update(details.headers)
    except calamine.CalamineError as error:
        if isinstance(error, calamine.PasswordError) or _FILE_PASS.search(raw):
            raise encrypted() from error
        raise damaged(f"the parser says {one_line(str(error))[:200]!r}") from error
    except BaseException as error:
        # For some incomplete workbooks, calamine raises a PanicException, which isn't an Exception.
        if type(error).__name__ == "PanicException":
            raise damaged("the workbook is damaged or incomplete") from error
        raise
    return tidied("\n\n".join(blocks))


def _table(sheet: calamine.CalamineSheet, details: _Details) -> str:
    """Return the cells of a sheet as a table, without empty rows and columns."""
    rows = [["" if cell == "" else _shown(cell) for cell in row] for row in sheet.iter_rows()]
    # The rows begin with the sheet's first row, even if that is empty, but with the first column in use.
    _, left = sheet.start or (0, 0)
    for row, column, text in details.displayed:
        if 0 <= row < len(rows) and 0 <= column - left < len(rows[row]):
            rows[row][column - left] = text
    for row, column, address in details.links:
        if 0 <= row < len(rows) and 0 <= column - left < len(rows[row]):
            rows[row][column - left] = linked(rows[row][column - left], address)
    for (first, column), (last, last_column) in sheet.merged_cell_ranges or ():
        if column != last_column:
            continue
        # One name next to several rows belongs to each of them.
        for number in range(first + 1, min(last + 1, len(rows))):
            if 0 <= column - left < len(rows[number]):
                rows[number][column - left] = rows[first][column - left]
    rows = [row for row in rows if any(row)]
    columns = [number for number in range(max(map(len, rows), default=0)) if any(row[number] for row in rows)]
    cells = [[row[number] for number in columns] for row in rows]
    if len(rows) * len(columns) - sum(sum(map(bool, row)) for row in cells) > _MAX_EMPTY_CELLS:
        return "\n\n".join(" ".join(filter(None, row)) for row in cells)
    return pipe_table(cells)


def _shown(cell: Cell) -> str:
    """Return a value as people read it: dates as ISO 8601, and integers without a decimal point."""
    match cell:
        case bool():
            return str(cell).upper()
        case int():
            return str(cell)
        case float():
            return readable_number(cell)
        case datetime.datetime():
            cell = _rounded(cell)
            precision = "seconds" if cell.second else "minutes"
            return cell.isoformat(" ", precision) if cell.time() != datetime.time() else f"{cell:%Y-%m-%d}"
        case datetime.timedelta():
            minutes, seconds = divmod(round(cell.total_seconds()), 60)
            return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        case datetime.time():
            return _rounded(datetime.datetime.combine(_ANY_DAY, cell)).time().isoformat()
        case datetime.date():
            return cell.isoformat()
    return cell.strip()


_ANY_DAY = datetime.date(2000, 1, 1)


def _rounded(moment: datetime.datetime) -> datetime.datetime:
    """Round to the nearest second, because fractions of a day are stored with less precision."""
    rounded = moment.replace(microsecond=0)
    is_over = moment.microsecond >= 500_000 and moment.year < datetime.MAXYEAR
    return rounded + datetime.timedelta(seconds=1) if is_over else rounded


_BUILT_IN = {"9": "0%", "10": "0.00%"}
_FORMAT = re.compile(r"[#,]*0(?:\.(0{1,15}))? ?%(?:_.)?(?:;.*)?|(0{2,20})")
"""Matches number formats for percentages, such as `0.0%` (optionally with a second format for negative
values), and for numbers with leading zeros, such as `00000`."""

_FORMATTED = re.compile(  # as programs write cells; the first group is the column
    rb'<c r="([A-Z]{1,3})([0-9]{1,7})" s="([0-9]{1,6})"(?: t="n")?>(?:<f[^<]*(?:</f>)?)?<v>([^<]{1,30})</v>'
)


def _formats(styles: Element) -> Iterator[tuple[bytes, re.Match[str]]]:
    """Yield the numbers of the cell formats that change how a value looks, each with its match of
    `_FORMAT`.
    """
    codes = _BUILT_IN | {
        form.get("numFmtId", ""): form.get("formatCode", "") for form in styles.iter("numFmt")
    }
    for number, form in enumerate(cell for cells in styles.iter("cellXfs") for cell in cells):
        if match := _FORMAT.fullmatch(codes.get(form.get("numFmtId", ""), "")):
            yield str(number).encode(), match


def _formatted(sheet: bytes, formats: Mapping[bytes, re.Match[str]]) -> Iterator[tuple[int, int, str]]:
    """Yield the row and column (starting from 0) of each number in one of these formats, and how it is
    displayed.

    This omits numbers that are too large or have decimals that the format doesn't show.
    """
    for cell in _FORMATTED.finditer(sheet):
        letters, row, style, value = cell.groups()
        if style not in formats:
            continue
        with suppress(ValueError):
            number, (decimals, zeros) = float(value), formats[style].groups()
            if not abs(number) < _LARGEST_FORMATTED:
                continue
            if not zeros:  # half a unit is rounded up, although a float may be just below it
                text = f"{number * 100 * (1 + 1e-14):.{len(decimals or '')}f}%"
                yield int(row) - 1, _column(letters), text
            elif number.is_integer():
                yield int(row) - 1, _column(letters), f"{int(number):0{len(zeros)}}"


_LARGEST_FORMATTED = 1e15


_LINK = re.compile(rb"<(?:\w{1,9}:)?hyperlink ([^<>]{1,3000})>")
_LINKED = re.compile(rb'\b(ref|id)="([^"]{1,200})"')
_CELL = re.compile(rb"([A-Z]{1,3})([0-9]{1,7})")


def _links(sheet: bytes, addresses: Mapping[str, str]) -> Iterator[tuple[int, int, str]]:
    """Yield the row and column (starting from 0) of each cell with a link, and the link's address."""
    for link in _LINK.finditer(sheet, sheet.rfind(b"</sheetData>")) if addresses else ():
        attributes = dict(_LINKED.findall(link[1]))
        cell = _CELL.match(attributes.get(b"ref", b""))
        if cell and (address := addresses.get(attributes.get(b"id", b"").decode("utf-8", "replace"))):
            yield int(cell[2]) - 1, _column(cell[1]), address


_HEADER = re.compile(rb"<(?:\w{1,9}:)?(?:odd|even|first)(?:Header|Footer)\b[^<>]{0,99}>([^<]{1,3000})<")
_SECTION = re.compile("&[LCR]|\n")
_PAGE_NUMBER = re.compile("&[PNDT]")
_HEADER_CODE = re.compile('&(?:"[^"]{0,99}"|K(?:[0-9A-F]{6}|[0-9]{2}[+-][0-9]{3})|[0-9]{1,3}|[A-Z])')


def _headers(sheet: bytes) -> list[str]:
    """Return the texts of an xlsx sheet's headers and footers, except for lines with page numbers."""
    headers = _HEADER.finditer(sheet, max(0, sheet.rfind(b"</sheetData>")))
    codes = "\n".join(unescape(header[1].decode("utf-8", "replace")) for header in headers)
    lines = _SECTION.split(codes.replace("&&", "\0"))  # an ampersand itself
    texts = (_HEADER_CODE.sub("", line) for line in lines if not _PAGE_NUMBER.search(line))
    return distinct_texts(one_line(text.replace("\0", "&")) for text in texts)


_ERROR = re.compile(
    rb"""(\bt=["']e["'][^<>]{0,100}>(?:<(?:\w{1,9}:)?f\b[^<]*(?:</(?:\w{1,9}:)?f>)?)?<(?:\w{1,9}:)?v>)[^<]*"""
)
"""Matches the value of a cell that contains an error, and the XML before the value."""


def _replacement(sheet: bytes) -> bytes:
    """Return an xlsx sheet changed so that calamine reads what a person sees, or b"" if no change is
    needed.
    """
    replaced = _OTHER_MARKUP.sub(_as_text, sheet) if b"<![CDATA[" in sheet else sheet
    # One error that calamine doesn't know, such as #SPILL!, would make the whole workbook unreadable.
    replaced = _ERROR.sub(rb"\1#N/A", replaced)
    return _without_gaps(replaced) or (replaced if replaced != sheet else b"")


_DIMENSION = re.compile(rb'<(?:\w{1,9}:)?dimension ref="(?:[A-Z]{1,3}[0-9]{1,7}:)?([A-Z]{1,3})([0-9]{1,7})"')
_WITH_VALUE = re.compile(rb'<(?:\w{1,9}:)?c r="([A-Z]{1,3})([0-9]{1,7})"[^<>]{0,300}(?<!/)>')
_PLACED = re.compile(
    rb'(<(?:\w{1,9}:)?(?:c r|mergeCell ref|hyperlink(?: [^<>]{0,3000})? ref)=")'
    rb'([A-Z]{1,3})([0-9]{1,7})(?::([A-Z]{1,3})([0-9]{1,7}))?"'
)


def _without_gaps(sheet: bytes) -> bytes:
    """Return an xlsx sheet without its empty rows and columns, or b"" if it has few of them.

    calamine allocates every cell from the first to the last: 17 billion cells if two opposite corners are
    filled.
    """
    most = _MAX_GAPS + len(sheet) // 12  # a cell takes 23 bytes or more, so half of the cells may be empty
    if (used := _DIMENSION.search(sheet, 0, 10_000)) and int(used[2]) * (_column(used[1]) + 1) <= most:
        return b""
    row_numbers, letters = set[bytes](), set[bytes]()
    for cell in _WITH_VALUE.finditer(sheet):
        letters.add(cell[1])
        row_numbers.add(cell[2])
    rows, columns = sorted(map(int, row_numbers)), sorted(map(_column, letters))
    if not rows or rows[-1] * (columns[-1] - columns[0] + 1) <= most:
        return b""

    def moved(place: re.Match[bytes]) -> bytes:
        tag, column, row, last_column, last_row = place.groups()
        right, down = bisect_left(columns, _column(column)), bisect_left(rows, int(row))
        is_kept = columns[right : right + 1] == [_column(column)] and rows[down : down + 1] == [int(row)]
        if not is_kept and b"mergeCell" not in tag:  # an empty cell: outside the table
            return tag + _reference(len(rows), len(columns)).encode() + b'"'
        reference = _reference(down, right)
        if last_row:
            last = bisect_right(rows, int(last_row)) - 1, bisect_right(columns, _column(last_column)) - 1
            reference += ":" + _reference(max(down, last[0]), max(right, last[1]))
        return tag + reference.encode() + b'"'

    return _PLACED.sub(moved, sheet)


@lru_cache(maxsize=1_000)
def _column(letters: bytes) -> int:
    """Return the number of a column, starting from 0: 26 for AA."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number - 1


def _beside(archive: Archive, part: str) -> Iterator[str]:
    """Yield the text boxes, diagrams, chart titles and comments of an xlsx sheet."""
    for kind, name in archive.related(part).values():
        if kind not in ("drawing", "comments", "threadedComment"):
            continue
        root = archive.xml(name)
        yield from paragraphs(root)
        if kind == "drawing":
            for kind_of_drawing in ("diagramData", "chart", "chartEx"):
                for drawing in parts_of(archive, name, kind_of_drawing):
                    yield from paragraphs(drawing)
        for comment in (*root.iter("comment"), *root.iter("threadedComment")):
            text = one_line(
                "".join(element.text or "" for element in comment.iter() if element.tag in ("t", "text"))
            )
            if text and not text.startswith(_PLACEHOLDER):
                yield f"**Comment on {comment.get('ref', '')}:** {text}"


_PAGE_FIELDS = ("page-number", "page-count", "date", "time")


def _page_texts(styles: Element) -> Iterator[str]:
    """Yield the paragraphs of an ods document's headers and footers, except for those with page numbers."""
    for page in styles.iter("master-page"):
        for part in page:
            for paragraph in part.iter("p") if part.get(":display") != "false" else ():
                if not any(field.tag in _PAGE_FIELDS for field in paragraph.iter()):
                    yield one_line("".join(paragraph.itertext()))


_DISPLAYED_KINDS = ("percentage", "time")
"""Types of values that calamine returns in a form that differs from what the sheet displays."""

_MAX_DISPLAYED_CELLS = 200_000
_CELLS = ("table-cell", "covered-table-cell")


def _cells_of(table: Element) -> Iterator[tuple[Element, int, int, int, int]]:
    """Yield the cells of an ods sheet, each with its row and column (starting from 0).

    Each cell also has the numbers of rows and columns in which it is repeated.
    """
    row = 0
    for row_element in table.iter("table-row"):
        row_count = number_of(row_element.get(":number-rows-repeated"), 1)
        column = 0
        for cell in row_element:
            column_count = number_of(cell.get(":number-columns-repeated"), 1)
            yield cell, row, column, row_count, column_count
            column += column_count
        row += row_count


def _drawn_paragraphs(archive: Archive, table: Element) -> Iterator[str]:
    """Yield the paragraphs in the text boxes and other shapes of an ods sheet, and the titles of its charts.

    This omits shapes in a cell with a text, because calamine reads them with that text, unless the cell has
    a formula.
    """
    for parent in table.iter():
        is_text = parent.get(":value-type") == "string" and parent.get(":string-value") is None
        if parent.tag == "shapes" or (parent.tag in _CELLS and not is_text):
            for shape in inside(parent, SHAPES, ("annotation",)):
                yield from _texts_of(inside(shape, ("p", "h"), ()))
        elif parent.tag == "object":  # of a chart, whose values are in a sheet
            yield from _texts_of(inside(embedded_object(archive, parent), ("p",), ("table",)))


def _texts_of(paragraphs: Iterable[Element]) -> Iterator[str]:
    return filter(None, (one_line("".join(paragraph.itertext())) for paragraph in paragraphs))


def _comments(table: Element) -> Iterator[str]:
    """Yield the comments of an ods sheet."""
    for cell, row, column, *_ in _cells_of(table):
        for annotation in cell.iter("annotation"):
            if text := _paragraphs(annotation):
                yield f"**Comment on {_reference(row, column)}:** {text}"


def _displayed(table: Element) -> Iterator[tuple[int, int, str]]:
    """Yield the row and column (starting from 0) of each percentage and time in an ods sheet, and its
    displayed value.
    """
    for cell, row, column, row_count, column_count in _cells_of(table):
        if cell.get(":value-type") in _DISPLAYED_KINDS and (text := _paragraphs(cell)):
            for number in range(row_count * column_count):
                down, right = divmod(number, column_count)
                yield row + down, column + right, text


def _close_gaps(table: Element) -> bool:
    """If an ods sheet has many empty rows and columns, set their repeat counts to 0. Return whether it
    has.

    This prevents calamine from allocating their cells, as it would also do for an xlsx sheet.
    """
    columns, last_row, used_count = set[int](), 0, 0
    for cell, row, column, row_count, column_count in _cells_of(table):
        if _has_value(cell):
            columns.update(range(column, column + min(column_count, _MAX_COLUMNS)))
            last_row, used_count = row + row_count, used_count + row_count * column_count
    used = sorted(columns)
    if not used or last_row * (used[-1] - used[0] + 1) <= _MAX_GAPS + 2 * used_count:
        return False
    for row_element in table.iter("table-row"):
        if not any(map(_has_value, row_element)):
            row_element.set(":number-rows-repeated", "0")
    for cell, _, column, _, column_count in _cells_of(table):
        kept_count = bisect_left(used, column + column_count) - bisect_left(used, column)
        cell.set(":number-columns-repeated", str(kept_count))
    return True


_MAX_COLUMNS = 16_384


def _has_value(cell: Element) -> bool:
    return bool(cell.get(":value-type") or cell.get(":formula"))


_OTHER_MARKUP = re.compile(
    rb"<!\[CDATA\[(.*?)(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|<\?(?!xml\s).*?(?:\?>|\Z)", re.DOTALL
)
"""Matches comments and processing instructions, because calamine fails if one is next to a cell, and CDATA
sections, whose text calamine omits."""


def _as_text(match: re.Match[bytes]) -> bytes:
    """Return the escaped text of a CDATA section, or b"" for a comment or a processing instruction."""
    return (match[1] or b"").replace(b"&", b"&amp;").replace(b"<", b"&lt;")


_BEFORE_CELL = re.compile(rb">[^<>]+(?=<(?:table:(?:covered-)?table-cell|/table:table-row)[\s/>])")
"""Matches a `>` and the text after it, if this is between two cells. calamine treats such text, even
indentation, as an error.
"""

_REPEATED = re.compile(
    rb"""(<table:(?:table-row|(?:covered-)?table-cell)(?=[\s/>]))((?:[^<>"']|"[^"]*"|'[^']*')*>)"""
)
_REPEATS = re.compile(rb"""\stable:number-(?:rows|columns)-repeated=["'][0-9]*["']""")


def _with_repeats(content: bytes, root: Element) -> bytes:
    """Return the text of an ods document with its repeat counts replaced by those of the elements below
    `root`.
    """
    elements = [element for element in root.iter() if element.tag in ("table-row", *_CELLS)]
    if len(elements) != len(_REPEATED.findall(content)):  # they have a different prefix
        return content
    following = iter(elements)

    def repeated(tag: re.Match[bytes]) -> bytes:
        element = next(following)
        kind = "rows" if element.tag == "table-row" else "columns"
        count = number_of(element.get(f":number-{kind}-repeated"), 1)
        return tag[1] + f' table:number-{kind}-repeated="{count}"'.encode() + _REPEATS.sub(b"", tag[2])

    return _REPEATED.sub(repeated, content)


def _paragraphs(parent: Element) -> str:
    return one_line(" ".join("".join(paragraph.itertext()) for paragraph in parent if paragraph.tag == "p"))


def _reference(row: int, column: int) -> str:
    """Return the name of a cell: B2."""
    letters = ""
    column += 1
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return f"{letters}{row + 1}"
