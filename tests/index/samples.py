"""Builds a small document of each format, from the standard library alone."""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
REL = "http://schemas.openxmlformats.org/package/2006/relationships"
TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def zipped(parts: Mapping[str, str | bytes], *, stored: Sequence[str] = ()) -> bytes:
    """A zip archive with these parts, in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            how = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 2, 3, 4, 6)), content, how)
    return out.getvalue()


def relations(*rows: tuple[str, str, str]) -> str:
    """An OPC relationship part of (id, last word of the type, target)."""
    body = "".join(f'<Relationship Id="{i}" Type="{R}/{t}" Target="{to}"/>' for i, t, to in rows)
    return f'{HEAD}<Relationships xmlns="{REL}">{body}</Relationships>'


def core_properties(title: str) -> str:
    """docProps/core.xml with a title."""
    return (
        f'{HEAD}<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/'
        'core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{title}</dc:title><dc:creator>Ada</dc:creator></cp:coreProperties>"
    )


def content_types(overrides: Mapping[str, str]) -> str:
    """[Content_Types].xml."""
    rows = "".join(f'<Override PartName="{n}" ContentType="{t}"/>' for n, t in overrides.items())
    return (
        f'{HEAD}<Types xmlns="{TYPES}">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Default Extension="png" ContentType="image/png"/>{rows}</Types>'
    )


def office(
    main: str, kinds: Mapping[str, str], parts: Mapping[str, str | bytes], title: str | None = None
) -> bytes:
    """An Office document with `parts`, `main` among them; `kinds` are the types of parts in OOXML."""
    types = {part: f"{OOXML}.{kind}+xml" for part, kind in kinds.items()}
    rows = [("rId1", "officeDocument", main)]
    about: dict[str, str | bytes] = {}
    if title is not None:
        types["/docProps/core.xml"] = "application/vnd.openxmlformats-package.core-properties+xml"
        rows.append(("rId2", "metadata/core-properties", "docProps/core.xml"))
        about["docProps/core.xml"] = core_properties(title)
    start = {"[Content_Types].xml": content_types(types), "_rels/.rels": relations(*rows)}
    return zipped({**start, **about, **parts})


OOXML = "application/vnd.openxmlformats-officedocument"


def docx_paragraph(text: str, style: str = "") -> str:
    """One w:p."""
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{properties}<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def docx_table(rows: Sequence[Sequence[str]]) -> str:
    """One w:tbl."""
    cells = ("".join(f"<w:tc>{docx_paragraph(c)}</w:tc>" for c in row) for row in rows)
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in cells) + "</w:tbl>"


def docx(body: str | None = None, title: str = "Staff handbook") -> bytes:
    """A Word document with headings, a table and a list unless `body` (w:p elements) says otherwise."""
    if body is None:
        body = (
            docx_paragraph("Holidays", "Heading1")
            + docx_paragraph("Everyone has thirty days of holiday.")
            + docx_paragraph("休假制度", "Heading2")
            + docx_paragraph("每位员工每年享有三十天假期。")
            + docx_table([["Country", "Days"], ["Norway", "25"], ["Austria", "30"]])
        )
    document = f'{HEAD}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
    styles = f'{HEAD}<w:styles xmlns:w="{W}">' + "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{n}"><w:name w:val="heading {n}"/>'
        f'<w:pPr><w:outlineLvl w:val="{n - 1}"/></w:pPr></w:style>'
        for n in (1, 2, 3)
    )
    return office(
        "word/document.xml",
        {
            "/word/document.xml": "wordprocessingml.document.main",
            "/word/styles.xml": "wordprocessingml.styles",
        },
        {
            "word/document.xml": document,
            "word/styles.xml": styles + "</w:styles>",
            "word/_rels/document.xml.rels": relations(("rId1", "styles", "styles.xml")),
        },
        title,
    )


def shape(number: int, text: str, placeholder: str = "body") -> str:
    """One p:sp with a text; `placeholder` is title, body or sldNum."""
    paragraphs = "".join(f"<a:p><a:r><a:t>{line}</a:t></a:r></a:p>" for line in text.split("\n"))
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="s{number}"/><p:cNvSpPr/><p:nvPr>'
        f'<p:ph type="{placeholder}"/></p:nvPr></p:nvSpPr><p:spPr/>'
        f"<p:txBody><a:bodyPr/>{paragraphs}</p:txBody></p:sp>"
    )


def slide_table(rows: Sequence[Sequence[str]]) -> str:
    """One graphic frame with a table."""
    body = "".join(
        '<a:tr h="1">'
        + "".join(
            f"<a:tc><a:txBody><a:bodyPr/><a:p><a:r><a:t>{c}</a:t></a:r></a:p></a:txBody></a:tc>" for c in r
        )
        + "</a:tr>"
        for r in rows
    )
    grid = "".join('<a:gridCol w="100"/>' for _ in rows[0])
    return (
        '<p:graphicFrame><p:nvGraphicFramePr><p:cNvPr id="9" name="t"/><p:cNvGraphicFramePr/><p:nvPr/>'
        '</p:nvGraphicFramePr><p:xfrm><a:off x="0" y="0"/><a:ext cx="1" cy="1"/></p:xfrm><a:graphic>'
        '<a:graphicData uri="http://schemas.openxmlformats.org/drawingml/2006/table">'
        f"<a:tbl><a:tblGrid>{grid}</a:tblGrid>{body}</a:tbl></a:graphicData></a:graphic></p:graphicFrame>"
    )


PICTURE = (
    '<p:pic><p:nvPicPr><p:cNvPr id="7" name="scan"/><p:cNvPicPr/><p:nvPr/></p:nvPicPr>'
    '<p:blipFill><a:blip r:embed="rId9"/></p:blipFill><p:spPr/></p:pic>'
)


def slide_xml(tag: str, content: str) -> str:
    """A slide (tag sld) or a notes page (tag notes)."""
    return (
        f'{HEAD}<p:{tag} xmlns:p="{P}" xmlns:a="{A}" xmlns:r="{R}"><p:cSld><p:spTree>'
        '<p:nvGrpSpPr><p:cNvPr id="1" name=""/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
        f"{content}</p:spTree></p:cSld></p:{tag}>"
    )


DEFAULT_SLIDES = (
    (
        shape(2, "Roadmap", "title") + shape(3, "First half: search\nSecond half: sync"),
        "Say that the budget is still open.",
    ),
    (
        shape(2, "Figures", "title") + slide_table([["Quarter", "Revenue"], ["Q1", "1200"], ["Q2", "1500"]]),
        "请强调第二季度的增长。",
    ),
    (shape(2, "Thanks", "title") + shape(3, "Questions?"), ""),
)


def pptx(slides: Sequence[tuple[str, str]] = DEFAULT_SLIDES, title: str = "Plan for the year") -> bytes:
    """A presentation of (shapes, speaker notes); the files' numbers run against the slides' order."""
    count = len(slides)
    parts: dict[str, str | bytes] = {}
    kinds = {"/ppt/presentation.xml": "presentationml.presentation.main"}
    for position, (content, notes) in enumerate(slides):
        number = count - position
        rows = [("rId9", "image", "../media/image1.png")] if PICTURE in content else []
        if notes:
            rows.append(("rId2", "notesSlide", f"../notesSlides/notesSlide{number}.xml"))
            page = shape(2, notes) + shape(3, str(position + 1), "sldNum")
            parts[f"ppt/notesSlides/notesSlide{number}.xml"] = slide_xml("notes", page)
        parts[f"ppt/slides/slide{number}.xml"] = slide_xml("sld", content)
        parts[f"ppt/slides/_rels/slide{number}.xml.rels"] = relations(*rows)
        kinds[f"/ppt/slides/slide{number}.xml"] = "presentationml.slide"
    ids = "".join(f'<p:sldId id="{256 + n}" r:id="rId{n + 1}"/>' for n in range(count))
    if any(PICTURE in content for content, _ in slides):
        parts["ppt/media/image1.png"] = PNG
    parts["ppt/presentation.xml"] = (
        f'{HEAD}<p:presentation xmlns:p="{P}" xmlns:r="{R}"><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>'
    )
    parts["ppt/_rels/presentation.xml.rels"] = relations(
        *((f"rId{n + 1}", "slide", f"slides/slide{count - n}.xml") for n in range(count))
    )
    return office("ppt/presentation.xml", kinds, parts, title)


def sheet_xml(rows: Sequence[Sequence[str | float]]) -> str:
    """A worksheet; texts as inline strings."""
    out = []
    for y, row in enumerate(rows, 1):
        cells = []
        for x, value in enumerate(row):
            at = f"{chr(65 + x)}{y}"
            if isinstance(value, str):
                cells.append(f'<c r="{at}" t="inlineStr"><is><t>{value}</t></is></c>')
            else:
                cells.append(f'<c r="{at}"><v>{value}</v></c>')
        out.append(f'<row r="{y}">{"".join(cells)}</row>')
    return f'{HEAD}<worksheet xmlns="{S}"><sheetData>{"".join(out)}</sheetData></worksheet>'


DEFAULT_SHEETS: Mapping[str, Sequence[Sequence[str | float]]] = {
    "Prices": [["Article", "Price"], ["Lamp", 12.5], ["Chair", 80]],
    "库存": [["名称", "数量"], ["桌子", 7]],
}


def xlsx(sheets: Mapping[str, Sequence[Sequence[str | float]]] = DEFAULT_SHEETS) -> bytes:
    """A workbook of named sheets."""
    kinds, parts = {"/xl/workbook.xml": "spreadsheetml.sheet.main"}, dict[str, str | bytes]()
    listed, links = "", list[tuple[str, str, str]]()
    for n, (name, rows) in enumerate(sheets.items(), 1):
        parts[f"xl/worksheets/sheet{n}.xml"] = sheet_xml(rows)
        kinds[f"/xl/worksheets/sheet{n}.xml"] = "spreadsheetml.worksheet"
        listed += f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>'
        links.append((f"rId{n}", "worksheet", f"worksheets/sheet{n}.xml"))
    parts["xl/workbook.xml"] = (
        f'{HEAD}<workbook xmlns="{S}" xmlns:r="{R}"><sheets>{listed}</sheets></workbook>'
    )
    parts["xl/_rels/workbook.xml.rels"] = relations(*links)
    return office("xl/workbook.xml", kinds, parts)


ODF = "urn:oasis:names:tc:opendocument:xmlns"


def odt(body: str | None = None, *, manifest_extra: str = "") -> bytes:
    """An OpenDocument text with a heading, a paragraph and a table."""
    if body is None:
        cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
        rows = "".join(
            "<table:table-row>" + "".join(cell.format(c) for c in row) + "</table:table-row>"
            for row in (["Tool", "Room"], ["Drill", "B12"])
        )
        body = (
            '<text:h text:outline-level="1">Workshop rules</text:h>'
            "<text:p>Wear goggles near the drill.</text:p>"
            f'<table:table table:name="T"><table:table-column/><table:table-column/>{rows}</table:table>'
        )
    content = (
        f'{HEAD}<office:document-content xmlns:office="{ODF}:office:1.0" xmlns:text="{ODF}:text:1.0" '
        f'xmlns:table="{ODF}:table:1.0" office:version="1.2"><office:body><office:text>{body}'
        "</office:text></office:body></office:document-content>"
    )
    meta = (
        f'{HEAD}<office:document-meta xmlns:office="{ODF}:office:1.0" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<office:meta><dc:title>Workshop</dc:title></office:meta></office:document-meta>"
    )
    manifest = (
        f'{HEAD}<manifest:manifest xmlns:manifest="{ODF}:manifest:1.0">'
        '<manifest:file-entry manifest:full-path="/" '
        'manifest:media-type="application/vnd.oasis.opendocument.text"/>'
        f'<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml">'
        f"{manifest_extra}"
        "</manifest:file-entry></manifest:manifest>"
    )
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": content,
            "meta.xml": meta,
            "META-INF/manifest.xml": manifest,
        },
        stored=["mimetype"],
    )


DEFAULT_CHAPTERS = (
    "<h1>The lighthouse</h1><p>The keeper lit the lamp at dusk.</p>",
    "<h1>第二章</h1><p>风暴在午夜来临。</p><table><tr><th>Ship</th><th>Mast</th></tr>"
    "<tr><td>Aurora</td><td>three</td></tr></table>",
)


def epub(chapters: Sequence[str] = DEFAULT_CHAPTERS, title: str = "Tales of the coast") -> bytes:
    """A book of XHTML chapters with a navigation page."""
    xhtml = (
        '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><head><title>{}'
        "</title></head><body>{}</body></html>"
    )
    numbers = range(1, len(chapters) + 1)
    items = "".join(
        f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in numbers
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in numbers)
    links = "".join(f'<li><a href="c{n}.xhtml">Part {n}</a></li>' for n in numbers)
    opf = (
        f'{HEAD}<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">x</dc:identifier>'
        f"<dc:title>{title}"
        "</dc:title><dc:language>en</dc:language></metadata><manifest>"
        '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        f"{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        f'{HEAD}<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/>'
        "</rootfiles></container>"
    )
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OEBPS/content.opf": opf,
            "OEBPS/nav.xhtml": xhtml.format("nav", f'<nav epub:type="toc"><ol>{links}</ol></nav>'),
            **{f"OEBPS/c{n}.xhtml": xhtml.format(f"c{n}", c) for n, c in enumerate(chapters, 1)},
        },
        stored=["mimetype"],
    )


HTML = """<!DOCTYPE html>
<html><head><meta charset="{charset}"><title>{title}</title><style>p {{color: red}}</style>
<script>var hidden = "should not be read";</script></head>
<body><nav><ul><li><a href="/home">Home link</a></li></ul></nav>
<main><h1>{heading}</h1><p>{text}</p>
<table><tr><th>Name</th><th>Role</th></tr><tr><td>Grace</td><td>Admiral</td></tr></table>
</main><footer>footer line</footer></body></html>
"""


def html(
    charset: str = "utf-8",
    *,
    title: str = "Door codes",
    heading: str = "How to open the door",
    text: str = "Ring twice and wait for the porter.",
) -> bytes:
    """A page with navigation, a heading, a paragraph and a table, in `charset`."""
    return HTML.format(charset=charset, title=title, heading=heading, text=text).encode(charset)


def rtf(text: str = "The boiler is in the cellar.") -> bytes:
    """A rich text with a table; characters outside ASCII as \\u escapes."""
    escaped = "".join(
        c if c.isascii() else rf"\u{ord(c) if ord(c) < 32768 else ord(c) - 65536}?" for c in text
    )
    return (
        r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0 Arial;}}{\info{\title Boiler notes}}"
        rf"\pard {escaped}\par Z\'fcrich\par "
        r"\trowd\cellx1000\cellx2000\intbl Pump\cell West\cell\row\pard\par}"
    ).encode("ascii")


def eml(*, charset: str = "utf-8", as_html: bool = False, attachment: bool = True) -> bytes:
    """A message with a text body or an HTML body, and an attachment."""
    message = EmailMessage()
    message["Subject"] = "Liefertermin für 灯具"
    message["From"] = "Ada Lovelace <ada@example.org>"
    message["To"] = "Karl <karl@example.org>"
    message["Date"] = "Mon, 05 Feb 2024 10:11:12 +0100"
    text = "Die Lampen kommen am Freitag. 灯具星期五送到。"
    if as_html:
        message.set_content(f"<html><body><p>{text}</p></body></html>", subtype="html", charset=charset)
    else:
        message.set_content(text, charset=charset)
    if attachment:
        message.add_attachment(
            b"%PDF-1.4", maintype="application", subtype="pdf", filename="Lieferschein.pdf"
        )
    return message.as_bytes()


def ipynb() -> bytes:
    """A notebook with prose, code, a text output and a picture output."""
    cells = [
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": ["# Sales forecast\n", "We fit a straight line."],
        },
        {
            "cell_type": "code",
            "metadata": {},
            "execution_count": 1,
            "source": "import numpy\nprint(slope)",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["slope 0.37\n"]},
                {"output_type": "display_data", "metadata": {}, "data": {"image/png": "iVBORw0KGgo=" * 50}},
            ],
        },
    ]
    notebook = {
        "cells": cells,
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook).encode()


def pdf_file(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """Number the objects from 1 (the catalogue) and add the cross-reference table."""
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R %b >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        trailer,
        start,
    )
    return bytes(out)


def pdf_stream(content: bytes, entries: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(content), entries, content)


def page_content(lines: Sequence[str]) -> bytes:
    """Text operators: the first line large, the others small, Chinese in the second font."""
    out = [b"BT"]
    y = 760
    for n, line in enumerate(lines):
        size = 20 if n == 0 else 11
        if line.isascii():
            shown = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)").encode()
            out.append(b"/F1 %d Tf 1 0 0 1 60 %d Tm (%b) Tj" % (size, y, shown))
        else:
            out.append(
                b"/F2 %d Tf 1 0 0 1 60 %d Tm <%b> Tj" % (size, y, line.encode("utf-16-be").hex().encode())
            )
        y -= 2 * size
    return b"\n".join([*out, b"ET"])


def pdf(pages: Sequence[Sequence[str]] | None = None, title: str = "Fire drill") -> bytes:
    """A PDF of pages of lines."""
    pages = pages or [
        ["Where to meet", "Leave by the north stairs.", "Meet under the oak tree."],
        ["消防演习", "请从北侧楼梯离开。", "Do not use the lift."],
    ]
    first = 8
    kids = b" ".join(b"%d 0 R" % (first + 2 * n) for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H "
        b"/DescendantFonts [5 0 R] >>",
        b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo << /Registry (Adobe) "
        b"/Ordering (GB1) /Supplement 2 >> /FontDescriptor 6 0 R /DW 1000 >>",
        b"<< /Type /FontDescriptor /FontName /STSong-Light /Flags 4 /FontBBox [0 -200 1000 900] "
        b"/ItalicAngle 0 "
        b"/Ascent 880 /Descent -120 /CapHeight 700 /StemV 80 >>",
        b"<< /Title (%b) /Author (Ada) >>" % title.encode(),
    ]
    for n, lines in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            b"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> "
            b"/Contents %d 0 R >>" % (first + 2 * n + 1)
        )
        packed = zlib.compress(page_content(lines))
        objects.append(pdf_stream(packed, b"/Filter /FlateDecode"))
    return pdf_file(objects, b"/Info 7 0 R")


def scanned_pdf() -> bytes:
    """A page that is one picture."""
    return pdf_file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /XObject << /I 4 0 R >> >> "
            b"/Contents 5 0 R >>",
            pdf_stream(
                zlib.compress(bytes(range(192)) * 3),
                b"/Type /XObject /Subtype /Image /Width 24 /Height 24 /ColorSpace /DeviceGray "
                b"/BitsPerComponent 8 /Filter /FlateDecode",
            ),
            pdf_stream(b"q 595 0 0 842 0 0 cm /I Do Q"),
        ]
    )


def encrypted_pdf() -> bytes:
    """A page that opens only with the password `sesame` (40-bit RC4, revision 2)."""
    return Path(__file__).with_name("password.pdf").read_bytes()


def encrypted_office() -> bytes:
    """The start of an OLE container as Office writes it around an encrypted docx, pptx or xlsx."""
    names = "EncryptionInfo\0EncryptedPackage\0".encode("utf-16-le")
    return bytes.fromhex("D0CF11E0A1B11AE1") + bytes(504) + names + bytes(2048)


def encrypted_odt() -> bytes:
    """An OpenDocument text whose content is encrypted, as its manifest says."""
    key = '<manifest:encryption-data manifest:checksum-type="SHA1" manifest:checksum="x"/>'
    parts = {**parts_of(odt(manifest_extra=key)), "content.xml": bytes(range(256)) * 20}
    return zipped(parts, stored=["mimetype"])


def zip_bomb(build: bytes, part: str, size: int) -> bytes:
    """The archive `build` with `part` swollen to `size` bytes of blanks behind its declaration."""
    parts = parts_of(build)
    parts[part] = parts.get(part, b"<?xml?>").replace(b"?>", b"?><!--" + b" " * size + b"-->", 1)
    return zipped(parts, stored=["mimetype"])


def parts_of(archive: bytes) -> dict[str, bytes]:
    """The parts of a zip archive."""
    opened = zipfile.ZipFile(io.BytesIO(archive))
    return {name: opened.read(name) for name in opened.namelist()}
