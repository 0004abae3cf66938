"""Builds a small document of each format from the files in `parts/`."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

PARTS = Path(__file__).with_name("parts")
REL = "http://schemas.openxmlformats.org/package/2006/relationships"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def sample(name: str) -> bytes:
    """Return a file of `parts/` unchanged."""
    return (PARTS / name).read_bytes()


def fill_template(name: str, **replacements: str) -> str:
    """Return a file of `parts/` with each `{word}` replaced."""
    text = (PARTS / name).read_text("utf-8")
    for placeholder, replacement in replacements.items():
        text = text.replace(f"{{{placeholder}}}", replacement)
    return text


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """Return a zip archive with these parts, in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            how = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 2, 3, 4, 6)), content, how)
    return out.getvalue()


def document(kind: str, more: Mapping[str, str | bytes] | None = None, **words: str) -> bytes:
    """Return an archive of all files in `parts/<kind>`, filled with `words`, and of `more`."""
    names = [
        path.relative_to(PARTS / kind).as_posix() for path in (PARTS / kind).rglob("*") if path.is_file()
    ]
    names.sort(key=lambda name: (name != "mimetype", name))
    return zipped({**{name: fill_template(f"{kind}/{name}", **words) for name in names}, **(more or {})})


def parts_of(archive: bytes) -> dict[str, bytes]:
    """Return the parts of a zip archive."""
    opened = zipfile.ZipFile(io.BytesIO(archive))
    return {name: opened.read(name) for name in opened.namelist()}


def with_part(archive: bytes, name: str, content: bytes) -> bytes:
    """Return the archive with a part replaced or added."""
    return zipped({**parts_of(archive), name: content})


def relations(*rows: tuple[str, str, str]) -> str:
    """Return an OPC relationship part of (id, last word of the type, target)."""
    body = "".join(f'<Relationship Id="{i}" Type="{R}/{t}" Target="{to}"/>' for i, t, to in rows)
    return f'<Relationships xmlns="{REL}">{body}</Relationships>'


def docx_paragraph(text: str) -> str:
    """Return one w:p."""
    return f'<w:p><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def docx(body: str = "", title: str = "Staff handbook") -> bytes:
    """Return a Word document with headings, a table and a list, or with this `body` (w:p elements)."""
    return document("docx", body=body or fill_template("docx-body.xml"), title=title)


W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def word_part(tag: str, content: str) -> bytes:
    """Return a part of a Word document: footnotes, numbering, hdr, …"""
    return f'<w:{tag} xmlns:w="{W}">{content}</w:{tag}>'.encode()


def docx_with(body: str, parts: Mapping[str, bytes], *links: tuple[str, str]) -> bytes:
    """Return a Word document with more parts, each named after its kind, and links of (id, address)."""
    kinds = [(name, name.rstrip("0123456789"), f"{name}.xml") for name in parts]
    rows = relations(("styles", "styles", "styles.xml"), *kinds)
    outside = "".join(
        f'<Relationship Id="{i}" Type="{R}/hyperlink" Target="{to}" TargetMode="External"/>'
        for i, to in links
    )
    rows = rows.replace("</Relationships>", f"{outside}</Relationships>")
    named = {f"word/{name}.xml": content for name, content in parts.items()}
    return zipped({**parts_of(docx(body)), "word/_rels/document.xml.rels": rows, **named})


def shape(number: int, text: str, placeholder: str = "body") -> str:
    """Return one p:sp with a text; `placeholder` is title, body or sldNum."""
    paragraphs = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in text.split("\n"))
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="s{number}"/><p:cNvSpPr/><p:nvPr>'
        f'<p:ph type="{placeholder}"/></p:nvPr></p:nvSpPr><p:spPr/>'
        f"<p:txBody><a:bodyPr/>{paragraphs}</p:txBody></p:sp>"
    )


PICTURE = (
    '<p:pic><p:nvPicPr><p:cNvPr id="7" name="scan"/><p:cNvPicPr/><p:nvPr/></p:nvPicPr>'
    '<p:blipFill><a:blip r:embed="rId9"/></p:blipFill><p:spPr/></p:pic>'
)
DEFAULT_SLIDES = (
    (
        shape(2, "Roadmap", "title") + shape(3, "First half: search\nSecond half: sync"),
        "Say that the budget is still open.",
    ),
    (shape(2, "Figures", "title") + fill_template("slide-table.xml"), "请强调第二季度的增长。"),
    (shape(2, "Thanks", "title") + shape(3, "Questions?"), ""),
)


def pptx(slides: Sequence[tuple[str, str]] = DEFAULT_SLIDES, title: str = "Plan for the year") -> bytes:
    """Return a presentation of (shapes, speaker notes); the files are numbered against the slides' order."""
    parts, listed, ids = dict[str, str | bytes](), list[tuple[str, str, str]](), ""
    for position, (content, notes) in enumerate(slides, 1):
        number = len(slides) + 1 - position
        rows = []
        if PICTURE in content:
            rows.append(("rId9", "image", "../media/image1.png"))
            parts["ppt/media/image1.png"] = PNG
        if notes:
            rows.append(("rId2", "notesSlide", f"../notesSlides/notesSlide{number}.xml"))
            page = shape(2, notes) + shape(3, str(position), "sldNum")
            parts[f"ppt/notesSlides/notesSlide{number}.xml"] = fill_template(
                "slide.xml", tag="notes", content=page
            )
        parts[f"ppt/slides/slide{number}.xml"] = fill_template("slide.xml", tag="sld", content=content)
        parts[f"ppt/slides/_rels/slide{number}.xml.rels"] = relations(*rows)
        listed.append((f"rId{position}", "slide", f"slides/slide{number}.xml"))
        ids += f'<p:sldId id="{255 + position}" r:id="rId{position}"/>'
    parts["ppt/_rels/presentation.xml.rels"] = relations(*listed)
    return document("pptx", parts, title=title, ids=ids)


DEFAULT_SHEETS: Mapping[str, Sequence[Sequence[str | float]]] = {
    "Prices": [["Article", "Price"], ["Lamp", 12.5], ["Chair", 80]],
    "库存": [["名称", "数量"], ["桌子", 7]],
}


def worksheet(rows: str) -> str:
    """Return a sheet of these `row` elements."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'


def xlsx(sheets: Mapping[str, Sequence[Sequence[str | float]]] = DEFAULT_SHEETS) -> bytes:
    """Return a workbook of named sheets; texts are inline strings."""
    parts, listed, links = dict[str, str | bytes](), "", list[tuple[str, str, str]]()
    for n, (name, rows) in enumerate(sheets.items(), 1):
        body = ""
        for y, row in enumerate(rows, 1):
            body += f'<row r="{y}">'
            for x, value in enumerate(row):
                kind, content = "", f"<v>{value}</v>"
                if isinstance(value, str):
                    kind, content = ' t="inlineStr"', f"<is><t>{value}</t></is>"
                body += f'<c r="{chr(65 + x)}{y}"{kind}>{content}</c>'
            body += "</row>"
        parts[f"xl/worksheets/sheet{n}.xml"] = worksheet(body)
        listed += f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>'
        links.append((f"rId{n}", "worksheet", f"worksheets/sheet{n}.xml"))
    parts["xl/_rels/workbook.xml.rels"] = relations(*links)
    return document("xlsx", parts, sheets=listed)


def ods(tables: str = "") -> bytes:
    """Return an OpenDocument spreadsheet of one table, or of these `tables` (table:table elements)."""
    cells = "".join(
        f"<table:table-row>{''.join(map(ods_cell, row))}</table:table-row>"
        for row in DEFAULT_SHEETS["Prices"]
    )
    content = parts_of(odt("<x/>"))["content.xml"].replace(b"office:text", b"office:spreadsheet")
    tables = tables or f'<table:table table:name="Prices">{cells}</table:table>'
    parts = {**parts_of(odt("<x/>")), "mimetype": b"application/vnd.oasis.opendocument.spreadsheet"}
    return zipped({**parts, "content.xml": content.replace(b"<x/>", tables.encode())})


def ods_cell(value: str | float) -> str:
    """Return a cell of an OpenDocument table."""
    if isinstance(value, str):
        return f'<table:table-cell office:value-type="string"><text:p>{value}</text:p></table:table-cell>'
    return (
        f'<table:table-cell office:value-type="float" office:value="{value}"><text:p>{value}</text:p>'
        "</table:table-cell>"
    )


def odt(body: str = "", *, manifest: str = "") -> bytes:
    """Return an OpenDocument text with a heading, a paragraph and a table, or with this `body`."""
    return document("odt", body=body or fill_template("odt-body.xml"), manifest=manifest)


def odp() -> bytes:
    """Return an OpenDocument presentation of two slides."""
    content = parts_of(odt(fill_template("slides.xml")))["content.xml"]
    return with_part(odt(), "content.xml", content.replace(b"office:text", b"office:presentation"))


DEFAULT_CHAPTERS = (
    "<h1>The lighthouse</h1><p>The keeper lit the lamp at dusk.</p>",
    "<h1>第二章</h1><p>风暴在午夜来临。</p><table><tr><th>Ship</th><th>Mast</th></tr>"
    "<tr><td>Aurora</td><td>three</td></tr></table>",
)


def epub(chapters: Sequence[str] = DEFAULT_CHAPTERS) -> bytes:
    """Return a book of XHTML chapters with a navigation page."""
    numbers = range(1, len(chapters) + 1)
    item = '<item id="c{0}" href="c{0}.xhtml" media-type="application/xhtml+xml"/>'
    return document(
        "epub",
        {
            f"OEBPS/c{n}.xhtml": fill_template("chapter.xhtml", title=f"c{n}", body=chapter)
            for n, chapter in enumerate(chapters, 1)
        },
        title="Tales of the coast",
        items="".join(map(item.format, numbers)),
        spine="".join(f'<itemref idref="c{n}"/>' for n in numbers),
        links="".join(f'<li><a href="c{n}.xhtml">Part {n}</a></li>' for n in numbers),
    )


def html(charset: str = "utf-8", text: str = "Ring twice and wait for the porter.") -> bytes:
    """Return a page with navigation, a heading, a paragraph and a table, in `charset`."""
    return fill_template("page.html", charset=charset, text=text).encode(charset)


def mail(subject: str, body: bytes, content_type: str = "text/plain") -> bytes:
    """Return a message with that body; for a multipart type, an HTML page is its only part."""
    head = f"From: ada@example.org\nSubject: {subject}\nContent-Type: {content_type}\n\n".encode()
    if not content_type.startswith("multipart"):
        return head.replace(b"From: ada@example.org\n", b"") + body
    return head + b"--B\nContent-Type: text/html\nContent-Location: x\n\n" + body + b"\n--B--\n"


def mailbox(*messages: bytes) -> bytes:
    """Return a mailbox (mbox) of these messages."""
    return b"".join(
        b"From ada@example.org Mon Feb  5 10:11:12 2024\n" + message + b"\n\n" for message in messages
    )


CALENDAR = """BEGIN:VCALENDAR
X-WR-CALNAME:Team
BEGIN:VTIMEZONE
TZID:Berlin
END:VTIMEZONE
BEGIN:VEVENT
SUMMARY:Sommerfest\\, gar
 den
DTSTART;TZID=Berlin:20260601T183000
LOCATION:Höfe\\; north
ATTENDEE;CN=Ada:mailto:ada@x.org
ATTENDEE:mailto:bob@x.org
DESCRIPTION:Bring\\nsalad
END:VEVENT
END:VCALENDAR
"""
CONTACTS = """BEGIN:VCARD
VERSION:3.0
N:Hopper;Grace;;;
ORG:Navy;Research
item1.TEL:+1 555
NOTE:Compilers\\, 编译器
END:VCARD
BEGIN:VCARD
VERSION:2.1
FN:Ada Lovelace
NOTE;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:Gr=C3=B6=
=C3=9Fe
PHOTO;ENCODING=BASE64:AAAA
END:VCARD
"""
CANVAS = """{"nodes": [
{"id": "1", "type": "text", "text": "# Roadmap", "x": 10, "y": 10, "width": 5, "height": 5},
{"id": "2", "type": "file", "file": "notes/todo.md", "subpath": "#Next", "x": 10, "y": 20},
{"id": "3", "type": "group", "label": "Plans", "x": 0, "y": 0, "width": 90, "height": 90},
{"id": "4", "type": "text", "text": "Start here", "x": 200, "y": 0, "width": 5, "height": 5}
], "edges": [{"id": "5", "fromNode": "1", "toNode": "2", "label": "depends on"}]}
"""


def pdf_file(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """Number the objects from 1 (the catalogue) and add the cross-reference table."""
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R %b >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        trailer,
        start,
    )
    return bytes(out)


def pdf_stream(content: bytes, entries: bytes = b"") -> bytes:
    """Return a stream object."""
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(content), entries, content)


def page_content(lines: Sequence[str]) -> bytes:
    """Return text operators: the first line large, the others small, Chinese in the second font."""
    out = [b"BT"]
    y = 760
    for n, line in enumerate(lines):
        size = 20 if n == 0 else 11
        if line.isascii():
            escaped = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)").encode()
            out.append(b"/F1 %d Tf 1 0 0 1 60 %d Tm (%b) Tj" % (size, y, escaped))
        else:
            out.append(
                b"/F2 %d Tf 1 0 0 1 60 %d Tm <%b> Tj" % (size, y, line.encode("utf-16-be").hex().encode())
            )
        y -= 2 * size
    return b"\n".join([*out, b"ET"])


def placed(
    *texts: tuple[float, float, str], font: str = "F1", matrix: str = "1 0 0 1", size: int = 11
) -> bytes:
    """Return text operators for (x, y, text)."""
    operators = (f"{matrix} {x} {y} Tm ({text}) Tj" for x, y, text in texts)
    return f"BT /{font} {size} Tf {' '.join(operators)} ET\n".encode("cp1252")


def pdf(
    pages: Sequence[Sequence[str] | bytes] | None = None,
    title: str = "Fire drill",
    *,
    keywords: str = "",
    more: bytes = b"",
    parts: Sequence[bytes] = (),
) -> bytes:
    """Return a PDF of pages of lines, or of text operators; `more` is added to each page's dictionary, and
    `parts` are objects after those of the pages, from 10 on if there is one page."""
    pages = pages or [
        ["Where to meet", "Leave by the north stairs.", "Meet under the oak tree."],
        ["消防演习", "请从北侧楼梯离开。", "Do not use the lift."],
    ]
    first = 8
    kids = b" ".join(b"%d 0 R" % (first + 2 * n) for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H "
        b"/DescendantFonts [5 0 R] >>",
        b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo << /Registry (Adobe) "
        b"/Ordering (GB1) /Supplement 2 >> /FontDescriptor 6 0 R /DW 1000 >>",
        b"<< /Type /FontDescriptor /FontName /STSong-Light /Flags 4 /FontBBox [0 -200 1000 900] "
        b"/ItalicAngle 0 "
        b"/Ascent 880 /Descent -120 /CapHeight 700 /StemV 80 >>",
        b"<< /Title (%b) /Author (Ada) /Keywords (%b) >>" % (title.encode(), keywords.encode()),
    ]
    for n, lines in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] %b "
            b"/Resources << /Font << /F1 3 0 R /F2 4 0 R /F3 << /Type /Font /Subtype /Type1 "
            b"/BaseFont /Courier >> >> >> /Contents %d 0 R >>" % (more, first + 2 * n + 1)
        )
        packed = zlib.compress(lines if isinstance(lines, bytes) else page_content(lines))
        objects.append(pdf_stream(packed, b"/Filter /FlateDecode"))
    return pdf_file([*objects, *parts], b"/Info 7 0 R")


def encrypted_office() -> bytes:
    """Return the start of an OLE container, as Office writes it around an encrypted docx, pptx or xlsx."""
    names = "EncryptionInfo\0EncryptedPackage\0".encode("utf-16-le")
    return bytes.fromhex("D0CF11E0A1B11AE1") + bytes(504) + names + bytes(2048)


def encrypted_odt() -> bytes:
    """Return an OpenDocument text whose manifest declares its content as encrypted."""
    key = '<manifest:encryption-data manifest:checksum-type="SHA1" manifest:checksum="x"/>'
    return with_part(odt(manifest=key), "content.xml", bytes(range(256)) * 20)


def zip_bomb(archive: bytes, part: str, size: int) -> bytes:
    """Return the archive with `part` inflated to `size` bytes of blanks beyond its declaration."""
    content = parts_of(archive).get(part, b"<?xml?>")
    return with_part(archive, part, content.replace(b"?>", b"?><!--" + b" " * size + b"-->", 1))
