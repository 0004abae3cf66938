"""Builds documents that harm their readers; each is small until it is read."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable

from tests.index import samples

MIB = 1024 * 1024


def lying(document: bytes, part: str, content: bytes, claimed_size: int) -> bytes:
    """Return an archive whose directory and local header claim that `part` has `claimed_size` bytes."""
    honest = samples.with_part(document, part, content)
    true, false = struct.pack("<I", len(content)), struct.pack("<I", claimed_size)
    return honest.replace(true, false)


def overlapping(copies: int, size: int) -> bytes:
    """Return a directory of many entries that all point at one compressed block (like 42.kb quines)."""
    name = b"word/document.xml"
    body = zlib.compress(b" " * size, 9)[2:-4]
    crc = zlib.crc32(b" " * size)
    facts = struct.pack("<HHHHHIII", 20, 0, 8, 0, 0, crc, len(body), size)
    local = b"PK\x03\x04" + facts + struct.pack("<HH", len(name), 0) + name + body
    directory = b""
    for number in range(copies):
        entry = name if not number else b"word/media/%d.xml" % number
        directory += (
            b"PK\x01\x02\x14\x00" + facts + struct.pack("<HHHHHII", len(entry), 0, 0, 0, 0, 0, 0) + entry
        )
    end = struct.pack("<HHHHIIH", 0, 0, copies, copies, len(directory), len(local), 0)
    return local + directory + b"PK\x05\x06" + end


def nested_zips(levels: int) -> bytes:
    """Return archives in archives; the innermost is ten MiB of nothing."""
    inner = samples.zipped({"0": bytes(10 * MIB)})
    for level in range(levels):
        inner = samples.zipped({f"{level}-{copy}.zip": inner for copy in range(10)})
    return samples.with_part(samples.docx(), "word/embeddings/1", inner)


def laughs() -> str:
    """Return XML entities that double ten times each."""
    rows = [f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)]
    return f"<!DOCTYPE x [<!ENTITY a0 'ha'>{''.join(rows)}]>"


def quadratic() -> str:
    """Return one long entity, referenced often."""
    return f"<!DOCTYPE x [<!ENTITY a '{'h' * 100_000}'>]>"


OUTSIDE = (
    "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'><!ENTITY % p SYSTEM 'http://127.0.0.1:9/'>%p;]>"
)


def with_doctype(document: bytes, part: str, doctype: str, use: str) -> bytes:
    changed = (
        samples.parts_of(document)[part]
        .replace(b"?>", b"?>" + doctype.encode(), 1)
        .replace(b"</", use.encode() + b"</", 1)
    )
    return samples.with_part(document, part, changed)


def deep_docx(depth: int) -> bytes:
    return samples.docx("<w:p>" * depth + "<w:r><w:t>x</w:t></w:r>" + "</w:p>" * depth)


def deep_tables(depth: int) -> bytes:
    opening, ended = "<w:tbl><w:tr><w:tc>", "</w:tc></w:tr></w:tbl>"
    return samples.docx(opening * depth + samples.docx_paragraph("x") + ended * depth)


def deep_odt(depth: int) -> bytes:
    return samples.odt("<text:section>" * depth + "<text:p>x</text:p>" + "</text:section>" * depth)


def far_cells() -> bytes:
    """Return a sheet with a cell in its last row and column: a table of 17 thousand million cells."""
    cells = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    return samples.with_part(samples.xlsx(), "xl/worksheets/sheet1.xml", samples.worksheet(cells).encode())


def repeated_cells() -> bytes:
    """Return an OpenDocument table that repeats one cell and one row two thousand million times."""
    return samples.odt(
        '<table:table><table:table-row table:number-rows-repeated="2147483647"><table:table-cell '
        'table:number-columns-repeated="2147483647"><text:p>x</text:p></table:table-cell>'
        "</table:table-row></table:table>"
    )


def huge_picture() -> bytes:
    """Return a PNG that claims 2³¹ pixels a side, in a Word document."""
    head = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return samples.with_part(samples.docx(), "word/media/image1.png", png)


ONE_PAGE = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"


def pdf_of(*objects: bytes) -> bytes:
    return samples.pdf_file([b"<</Type/Catalog/Pages 2 0 R>>", *objects])


def looping_pages() -> bytes:
    return pdf_of(b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2>>")


def doubling_pages(levels: int) -> bytes:
    """Return a PDF in which each node of the page tree has the next one twice."""
    node = b"<</Type/Pages/Kids[%d 0 R %d 0 R]/Count %d>>"
    nodes = (node % (n, n, 2**31 - 1) for n in range(3, 3 + levels))
    return pdf_of(*nodes, b"<</Type/Page/MediaBox[0 0 9 9]/Parent 2 0 R>>")


def claimed_pages() -> bytes:
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 1e9 1e9]>>"
    return pdf_of(b"<</Type/Pages/Kids[3 0 R]/Count 2147483647>>", page)


def swollen_stream(rounds: int) -> bytes:
    """Return a page whose content is deflated several times over."""
    content = b"BT /F 9 Tf (ha) Tj ET\n" * 1_000_000
    for _ in range(rounds):
        content = zlib.compress(content, 9)
    filters = b"/FlateDecode" * rounds
    stream = b"<</Length %d/Filter[%s]>>stream\n%s\nendstream" % (len(content), filters, content)
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>"
    return pdf_of(ONE_PAGE, page, stream, b"<</Type/Font/Subtype/Type1/BaseFont/Courier>>")


def looping_form() -> bytes:
    """Return a drawing that draws itself, twice."""
    form = b"/X Do /X Do"
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 5 0 R/Resources<</XObject<</X 4 0 R>>>>>>"
    entries = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 4 0 R>>>>"
    return pdf_of(ONE_PAGE, page, samples.pdf_stream(form, entries), samples.pdf_stream(form))


def scanned(picture: bytes, pages: int = 1, side: int = 595) -> bytes:
    """Return pages that all show one picture."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]/Contents 4 0 R/Resources<</XObject<</I 3 0 R>>>>>>"
    kids = b" ".join(b"%d 0 R" % number for number in range(5, 5 + pages))
    content = samples.pdf_stream(b"%d 0 0 %d 0 0 cm /I Do" % (side, side))
    tree = b"<</Type/Pages/Kids[%b]/Count %d>>" % (kids, pages)
    return pdf_of(tree, picture, content, *[page % (side, side)] * pages)


def picture_of(width: int, height: int, content: bytes, filters: bytes = b"/FlateDecode") -> bytes:
    """Return a grey picture of a PDF."""
    kind = b"/Type/XObject/Subtype/Image/ColorSpace/DeviceGray/BitsPerComponent 8"
    return samples.pdf_stream(content, b"%b/Width %d/Height %d/Filter[%b]" % (kind, width, height, filters))


def many_scans(pages: int) -> bytes:
    return scanned(picture_of(8, 8, zlib.compress(bytes(range(64)))), pages)


def claimed_picture(side: int) -> bytes:
    """Return a picture that contains only its first pixels."""
    return scanned(picture_of(side, side, zlib.compress(b"ha")))


def swollen_picture(side: int) -> bytes:
    """Return a picture deflated twice."""
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    return scanned(picture_of(side, side, zlib.compress(content), b"/FlateDecode" * 2))


def vast_scan() -> bytes:
    """Return a page of some square kilometres."""
    return scanned(picture_of(8, 8, zlib.compress(bytes(range(64)))), side=100_000_000)


SCANS = {
    "ten thousand scanned pages": lambda: many_scans(10_000),
    "a picture that is claimed": lambda: claimed_picture(60_000),
    "a swollen picture": lambda: swollen_picture(10_000),
    "a vast page": vast_scan,
}


def deep_array(depth: int) -> bytes:
    return pdf_of(b"<</Type/Pages/Kids" + b"[" * depth + b"]" * depth + b"/Count 1>>")


def mail_of(document: bytes, count: int) -> bytes:
    """Return a message with one document many times."""
    content = base64.b64encode(document)
    part = b'--B\nContent-Disposition: attachment; filename="a.docx"\nContent-Transfer-Encoding: base64\n\n'
    return b"Subject: x\nContent-Type: multipart/mixed; boundary=B\n\n" + (part + content + b"\n") * count


def canvas_of_groups(count: int) -> bytes:
    """Return groups that surround each other, and as many cards."""
    nodes = [
        {"type": kind, "x": n, "y": n, "width": 9**9, "height": 9**9, "text": "x"}
        for n in range(count)
        for kind in ("group", "text")
    ]
    return json.dumps({"nodes": nodes}).encode()


def deep_notebook(depth: int) -> bytes:
    return b'{"cells": ' + b"[" * depth + b"]" * depth + b"}"


def wide_notebook() -> bytes:
    """Return a cell whose source is a list of lists of lists."""
    return json.dumps({"cells": [{"cell_type": "markdown", "source": [[[["x"]]]] * 100_000}]}).encode()


def deep_rtf(depth: int) -> bytes:
    return b"{\\rtf1 " + b"{" * depth + b"x" + b"}" * depth + b"}"


def deep_mail(depth: int) -> bytes:
    """Return messages in messages."""
    return b"Subject: x\nContent-Type: message/rfc822\n\n" * depth + b"Subject: x\n\nword"


def wide_mail(count: int) -> bytes:
    """Return a multipart that opens another one with the same boundary again and again."""
    return (
        b'Subject: x\nContent-Type: multipart/mixed; boundary="b"\n\n'
        + b'--b\nContent-Type: multipart/mixed; boundary="b"\n\n' * count
    )


def open_tags(tag: str) -> bytes:
    return (f"<{tag}>" * (MIB // (len(tag) + 2))).encode() + b"x"


def endless_rows() -> bytes:
    """Return a table of one long row and many short ones: as a pipe table it has their product of cells."""
    return b"<table><tr>" + b"<td>x" * 10_000 + b"<tr><td>x<td>x" * 10_000


ATTACKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a part of 2 GiB": ("docx", lambda: lying(samples.docx(), "word/document.xml", b" " * MIB, 2 << 30)),
    "archives in archives": ("docx", lambda: nested_zips(3)),
    "a size that lies": ("docx", lambda: lying(samples.docx(), "word/styles.xml", b" " * (100 * MIB), 1000)),
    "a size that lies about the text": (
        "docx",
        lambda: lying(samples.docx(), "word/document.xml", b"<x>" + b" " * (100 * MIB) + b"</x>", 1000),
    ),
    "a chapter whose size lies": (
        "epub",
        lambda: lying(samples.epub(), "OEBPS/c1.xhtml", b"<p>" + b" " * (100 * MIB), 1000),
    ),
    "entries that share one block": ("docx", lambda: overlapping(2000, MIB)),
    **{
        f"{kind} in {extension}": (
            extension,
            lambda document=document, part=part, doctype=doctype, use=use: with_doctype(
                document, part, doctype, use
            ),
        )
        for extension, document, part in (
            ("docx", samples.docx(), "word/document.xml"),
            ("xlsx", samples.xlsx(), "xl/workbook.xml"),
            ("pptx", samples.pptx(), "ppt/presentation.xml"),
            ("odt", samples.odt(), "content.xml"),
            ("epub", samples.epub(), "OEBPS/content.opf"),
        )
        for kind, doctype, use in (
            ("a billion laughs", laughs(), "&a11;"),
            ("a quadratic entity", quadratic(), "&a;" * 30_000),
            ("an outside entity", OUTSIDE, "&a;"),
        )
    },
    "deep paragraphs": ("docx", lambda: deep_docx(100_000)),
    "deep tables": ("docx", lambda: deep_tables(20_000)),
    "deep sections": ("odt", lambda: deep_odt(100_000)),
    "a far cell": ("xlsx", far_cells),
    "repeated cells": ("odt", repeated_cells),
    "a huge picture": ("docx", huge_picture),
    "pages that loop": ("pdf", looping_pages),
    "pages that double": ("pdf", lambda: doubling_pages(40)),
    "pages that are claimed": ("pdf", claimed_pages),
    "a stream deflated again and again": ("pdf", lambda: swollen_stream(3)),
    "a drawing that draws itself": ("pdf", looping_form),
    **{name: ("pdf", build) for name, build in SCANS.items()},
    "a deep array": ("pdf", lambda: deep_array(200_000)),
    "a deep notebook": ("ipynb", lambda: deep_notebook(100_000)),
    "a notebook of lists": ("ipynb", wide_notebook),
    "deep groups": ("rtf", lambda: deep_rtf(200_000)),
    "mails in mails": ("eml", lambda: deep_mail(50_000)),
    "parts of one boundary": ("eml", lambda: wide_mail(50_000)),
    "a mailbox of nothing": ("mbox", lambda: b"\n\nFrom x\nSubject: a" * 50_000),
    "a mail of bombs": (
        "eml",
        lambda: mail_of(samples.zip_bomb(samples.docx(), "word/x.xml", 64 * MIB), 200),
    ),
    "a mail of many attachments": ("eml", lambda: mail_of(samples.docx(), 5_000)),
    "a calendar of one line": ("ics", lambda: b"BEGIN:VCALENDAR\nX" + b"\n ;" * (MIB // 2)),
    "deep components": ("ics", lambda: b"BEGIN:VEVENT\n" * (MIB // 16)),
    "contacts of broken lines": ("vcf", lambda: b"BEGIN:VCARD\nNOTE;QUOTED-PRINTABLE:" + b"=\n" * (MIB // 2)),
    "a deep canvas": ("canvas", lambda: b'{"nodes": ' + b"[" * MIB),
    "a canvas of groups": ("canvas", lambda: canvas_of_groups(10_000)),
    "deep divs": ("html", lambda: open_tags("div")),
    "deep tables in a page": ("html", lambda: open_tags("table")),
    "deep lists": ("html", lambda: open_tags("ul><li")),
    "open links": ("html", lambda: open_tags("a href=x")),
    "open comments": ("html", lambda: b"<!--" * (MIB // 4)),
    "open declarations": ("html", lambda: b"<![" * (MIB // 4)),
    "open tags": ("html", lambda: b"<a " * (MIB // 4)),
    "open quotes": ("html", lambda: b'<a b="' * (MIB // 4)),
    "open references": ("html", lambda: b"&" * MIB),
    "a table of products": ("html", endless_rows),
    "much nothing": ("html", lambda: bytes(100 * MIB)),
}
"""Name → format and builder. Each may end as a text or as a refusal, but within its limits."""
