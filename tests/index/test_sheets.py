"""Tests spreadsheets: every sheet, values as people read them, and texts outside the cells."""

from __future__ import annotations

import base64
import tracemalloc

import pytest

from kbsync.errors import Rejected
from kbsync.index.fence.parser import Parser
from kbsync.index.read.sheets import read_xlsx
from tests.index.samples import (
    DEFAULT_SHEETS,
    ods,
    ods_cell,
    parts_of,
    relations,
    sample,
    with_part,
    worksheet,
    xlsx,
    zipped,
)
from tests.share import long
from tests.targets.bodies import BytesBody

STYLES = """<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><cellXfs>
<xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/><xf numFmtId="21"/><xf numFmtId="46"/>
<xf numFmtId="9"/><xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="166"/><xf numFmtId="167"/></cellXfs>
<numFmts><numFmt numFmtId="164" formatCode="0.0%"/><numFmt numFmtId="165" formatCode="00000"/>
<numFmt numFmtId="166" formatCode="0%;[Red]-0%"/><numFmt numFmtId="167" formatCode="0.0%_);(0.0%)"/></numFmts>
</styleSheet>"""
SHEET = "xl/worksheets/sheet1.xml"


def text_of(parser: Parser, raw: bytes, extension: str = "xlsx") -> str:
    return parser.parse(f"x.{extension}", BytesBody(raw)).text


def beside(workbook: bytes, *rows: tuple[str, str, str], **parts: str) -> bytes:
    """The workbook with parts related to its first sheet."""
    added = {f"xl/{name}.xml": part for name, part in parts.items()}
    return zipped({**parts_of(workbook), "xl/worksheets/_rels/sheet1.xml.rels": relations(*rows), **added})


@long
def test_hidden_sheets_are_read_and_labelled(parser):
    raw = xlsx()
    book = parts_of(raw)["xl/workbook.xml"].replace(
        b'<sheet name="Prices"', b'<sheet state="hidden" name="Prices"'
    )
    text = text_of(parser, with_part(raw, "xl/workbook.xml", book))
    assert "## Prices (hidden)\n\n| Article | Price |" in text and "\n\n## 库存\n\n" in text


def with_sheet(name: str, relation: str, sheet: str = "", folder: str = "macrosheets") -> bytes:
    """The usual workbook, with one more sheet of that relation ("" for none)."""
    parts = parts_of(xlsx())
    row = f'<sheet name="{name}" sheetId="9" r:id="{relation and "rId9"}"/></sheets>'
    parts["xl/workbook.xml"] = parts["xl/workbook.xml"].replace(b"</sheets>", row.encode())
    rels = "xl/_rels/workbook.xml.rels"
    if relation:
        more = f'<Relationship Id="rId9" Type="{relation}" Target="./{folder}/a.xml"/></Relationships>'
        parts[rels] = parts[rels].replace(b"</Relationships>", more.encode())
    return zipped({**parts, f"xl/{folder}/a.xml": sheet or worksheet("")})


def test_sheets_around_a_macro_module_are_read(parser):
    assert text_of(parser, with_sheet("Module", "")) == text_of(parser, xlsx())


@pytest.mark.parametrize(
    "relation",
    [
        "http://schemas.microsoft.com/office/2006/relationships/xlMacrosheet",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet",
        "http://purl.oclc.org/ooxml/officeDocument/relationships/worksheet",
    ],
)
def test_sheet_is_read_whatever_its_kind_and_however_its_path_is_written(parser, relation):
    row = '<row r="1"><c r="A1" t="inlineStr"><is><t>Boiler room</t></is></c></row>'
    text = text_of(parser, with_sheet("Rooms", relation, worksheet(row)))
    assert text.startswith(text_of(parser, xlsx())) and "## Rooms\n\n| Boiler room |" in text


@pytest.mark.parametrize("formula", ["", "<f>FILTER(A1:A9)</f>", '<f t="shared" si="0"/>'])
@pytest.mark.parametrize("error", ["#SPILL!", "#GETTING_DATA", "Err:502", "#DIV/0!"])
def test_errors_in_cells_are_left_out(parser, error, formula):
    row = f'<row r="1"><c r="A1"><v>80</v></c><c r="B1" t="e" cm="1">{formula}<v>{error}</v></c></row>'
    raw = with_part(xlsx(), SHEET, worksheet(row).encode())
    assert text_of(parser, raw).startswith("## Prices\n\n| 80 |\n")


def test_cdata_in_a_cell_is_text(parser):
    row = (
        '<row r="1"><c r="A1" t="str"><v><![CDATA[R&D < 9]]></v></c><c r="B1"><v><![CDATA[80]]></v></c></row>'
    )
    raw = with_part(xlsx(), SHEET, worksheet(row).encode())
    assert text_of(parser, raw).startswith("## Prices\n\n| R&D < 9 | 80 |\n")


@pytest.mark.parametrize(
    ("cell", "displayed"),
    [
        ("<v>80</v>", "80"),
        ("<v>80.0</v>", "80"),
        ("<v>0.30000000000000004</v>", "0.3"),
        ("<v>1.5E-5</v>", "0.000015"),
        ("<v>1234567890123</v>", "1234567890123"),
        ("<v>1E300</v>", "1e+300"),
        (' t="b"><v>1</v>', "TRUE"),
        (' s="1"><v>45327</v>', "2024-02-05"),
        (' s="2"><v>45327.6465277778</v>', "2024-02-05 15:31"),
        (' s="2"><v>45327.6458331</v>', "2024-02-05 15:30"),
        (' s="2"><v>2958465.99999999</v>', "9999-12-31 23:59:59"),
        (' s="3"><v>0.5</v>', "12:00:00"),
        (' s="3"><v>0.3958333</v>', "09:30:00"),
        (' s="3"><v>0.999999</v>', "00:00:00"),
        (' s="4"><v>1.5</v>', "36:00:00"),
        (' s="5"><v>0.285</v>', "29%"),
        (' s="6" t="n"><v>0.125</v>', "12.5%"),
        (' s="6"><f t="shared" si="0"/><v>-1.5</v>', "-150.0%"),
        (' s="6"><f>A1/2</f><v>1E-2</v>', "1.0%"),
        (' s="8"><v>-0.5</v>', "-50%"),
        (' s="9"><v>0.5</v>', "50.0%"),
        (' s="7"><v>1234</v>', "01234"),
        (' s="7"><v>1234.5</v>', "1234.5"),
        (' s="6"><v>NaN</v>', "NaN"),
        (' s="6"><v>1E300</v>', "1e+300"),
        (' s="6" t="str"><v>none</v>', "none"),
        (' t="str"><f>A1&amp;"x"</f><v>a | b</v>', r"a \| b"),
    ],
)
def test_values_are_read_as_displayed(parser, cell, displayed):
    cell = cell if cell.startswith(" ") else f">{cell}"
    row = (
        f'<row r="1"><c r="A1" t="inlineStr"><is><t>n</t></is></c></row><row r="2"><c r="A2"{cell}</c></row>'
    )
    raw = zipped({**parts_of(xlsx()), SHEET: worksheet(row), "xl/styles.xml": STYLES})
    assert text_of(parser, raw).startswith(f"## Prices\n\n| n |\n| --- |\n| {displayed} |\n")


def test_label_beside_merged_rows_belongs_to_each(parser):
    raw = xlsx({"S": [["Deck", "Lamp"], ["Stern", "red"], ["", "green"], ["", "white"], ["Bow", "none"]]})
    merged = parts_of(raw)[SHEET].replace(
        b"</sheetData>", b'</sheetData><mergeCells count="1"><mergeCell ref="A2:A3"/></mergeCells>'
    )
    text = text_of(parser, with_part(raw, SHEET, merged))
    assert "| Stern | red |\n| Stern | green |\n|  | white |\n| Bow | none |" in text


def test_empty_columns_are_excluded(parser):
    assert "| a | b |\n| --- | --- |\n| 1 | 2 |" in text_of(
        parser, xlsx({"S": [["", "a", "", "b"], ["", 1, "", 2]]})
    )


MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
DRAWN = "http://schemas.openxmlformats.org/drawingml/2006/main"


def test_comments_are_read_and_threaded_placeholders_are_not(parser):
    old = (
        f'<comments xmlns="{MAIN}"><authors><author>Ada</author></authors><commentList>'
        '<comment ref="B2" authorId="0"><text><r><t>Too </t></r><r><t>dear</t></r></text></comment>'
        '<comment ref="A3" authorId="0"><text><t>[Threaded comment] Your version</t></text></comment>'
        "</commentList></comments>"
    )
    new = '<x><threadedComment ref="A3"><text>Ask the carpenter</text></threadedComment></x>'
    raw = beside(
        xlsx(),
        ("rId1", "comments", "../old.xml"),
        ("rId2", "threadedComment", "../new.xml"),
        old=old,
        new=new,
    )
    text = text_of(parser, raw)
    assert "**Comment on B2:** Too dear\n\n**Comment on A3:** Ask the carpenter\n\n## 库存" in text
    assert "Your version" not in text


def typed(kind: str, value: str, displayed: str, more: str = "") -> str:
    """Return a cell of an OpenDocument table that displays its value in its own form."""
    return (
        f'<table:table-cell office:value-type="{kind}" office:{value} {more}><text:p>{displayed}</text:p>'
        "</table:table-cell>"
    )


def test_percentages_and_times_of_opendocument_sheets_are_read_as_displayed(parser):
    repeated = typed("percentage", 'value="0.125"', "12.5 %", 'table:number-columns-repeated="2"')
    time = typed("time", 'time-value="PT30H05M00S"', "30:05")
    rows = f"<table:table-row>{time}{repeated}</table:table-row>"
    empty = '<table:table-row table:number-rows-repeated="3"><table:table-cell/></table:table-row>'
    day = typed("date", 'date-value="2024-02-05"', "5 Feb")
    row = f"<table:table-row><table:table-cell/>{repeated}{day}</table:table-row>"
    text = text_of(parser, ods(f'<table:table table:name="S">{rows}{empty}{row}</table:table>'), "ods")
    assert "| 30:05 | 12.5 % | 12.5 % |  |\n" in text and "\n|  | 12.5 % | 12.5 % | 2024-02-05 |" in text


def test_text_boxes_of_an_opendocument_sheet_are_read_once(parser):
    def shape(kind, text):
        return f"<draw:{kind}><text:p>{text}</text:p></draw:{kind}>"

    box = f"<draw:frame>{shape('text-box', 'For Ada')}</draw:frame>"
    number = f'<table:table-cell office:value-type="float" office:value="7">{box}</table:table-cell>'
    text = ods_cell("Lamp").replace("<text:p>", f"{shape('rect', 'New')}<text:p>")
    group = f"<draw:g>{shape('ellipse', 'Sold')}{shape('custom-shape', 'out')}</draw:g>"
    page = f"<table:shapes>{group}</table:shapes>"
    table = (
        f'<table:table table:name="S">{page}<table:table-row>{text}{number}</table:table-row></table:table>'
    )
    expected = "## S\n\n| New Lamp | 7 |\n| --- | --- |\n\nSold\n\nout\n\nFor Ada"
    assert text_of(parser, ods(table), "ods") == expected


def test_every_paragraph_of_an_opendocument_text_box_is_read_once(parser):
    def cell(attributes, *texts):
        box = "".join(f"<draw:frame><draw:text-box>{text}</draw:text-box></draw:frame>" for text in texts)
        return f"<table:table-cell {attributes}>{box}</table:table-cell>"

    spaced = "<text:p>For<text:line-break/>Ada<text:tab/>and<text:s/>Bea</text:p>"
    inner = "<draw:frame><draw:text-box><text:p>Oil</text:p></draw:text-box></draw:frame>"
    nested = f"<text:p>Wicks {inner}</text:p>"
    number = cell('office:value-type="float" office:value="7"', spaced, nested)
    formula = cell('office:value-type="string" office:string-value="Lamp"', "<text:p>Sold</text:p>")
    row = f"<table:table-row>{number}{formula}</table:table-row>"
    text = text_of(parser, ods(f'<table:table table:name="S">{row}</table:table>'), "ods")
    assert text == "## S\n\n| 7 | Lamp |\n| --- | --- |\n\nFor Ada and Bea\n\nWicks Oil\n\nSold"


def test_titles_of_opendocument_charts_and_shapes_in_merged_cells_are_read(parser):
    frame = '<draw:frame><draw:object xlink:href="./Object 1"/></draw:frame>'
    lamp = ods_cell("Lamp").replace("<text:p>", f"{frame}<text:p>")
    shape = "<draw:rect><text:p>Sold out</text:p></draw:rect>"
    merged = f"<table:covered-table-cell>{shape}</table:covered-table-cell>"
    raw = ods(f'<table:table table:name="S"><table:table-row>{lamp}{merged}</table:table-row></table:table>')
    title = "<chart:title><text:p>Sales</text:p></chart:title>"
    axis = "<chart:axis><chart:title><text:p>Month</text:p></chart:title></chart:axis>"
    values = f"<table:table><table:table-row>{ods_cell('Lamp')}</table:table-row></table:table>"
    chart = f'<x xmlns:chart="c" xmlns:text="t" xmlns:table="b" xmlns:office="o">{title}{axis}{values}</x>'
    text = text_of(parser, with_part(raw, "Object 1/content.xml", chart.encode()), "ods")
    assert text == "## S\n\n| Lamp |\n| --- |\n\nSales\n\nMonth\n\nSold out"


def test_opendocument_comments_are_read_with_their_cells(parser):
    comment = "<office:annotation><dc:creator>Ada</dc:creator><text:p>Too</text:p><text:p>dear</text:p>"
    cell = ods_cell("Lamp").replace("<text:p>", f"{comment}</office:annotation><text:p>")
    gap = '<table:table-cell table:number-columns-repeated="26"/>'
    table = f'<table:table table:name="S"><table:table-row>{gap}{cell}</table:table-row></table:table>'
    assert text_of(parser, ods(table), "ods") == "## S\n\n| Lamp |\n| --- |\n\n**Comment on AA1:** Too dear"


def test_title_and_keywords_of_opendocument_sheets_are_read(parser):
    meta = parts_of(ods())["meta.xml"]
    keywords = b'<m:keyword xmlns:m="x">lamps, chairs</m:keyword></office:meta>'
    raw = with_part(ods(), "meta.xml", meta.replace(b"</office:meta>", keywords))
    parsed = parser.parse("x.ods", BytesBody(raw))
    assert parsed.title and parsed.tags == ("lamps", "chairs")


@pytest.mark.parametrize("text", [b"&#10;", b"\n&#x9;", b"a note"])
def test_text_between_the_cells_of_an_opendocument_sheet_is_ignored(parser, text):
    content = parts_of(ods())["content.xml"]
    for tag in (b"<table:table-cell", b"</table:table-row"):
        content = content.replace(tag, text + tag)
    assert text_of(parser, with_part(ods(), "content.xml", content), "ods") == text_of(parser, ods(), "ods")


@pytest.mark.parametrize(
    "markup", [b"\n  ", b"<!-- <table:table-cell/> -->\n", b"<?x <table:table-cell/> ?>\n"]
)
def test_indents_and_markup_beside_the_cells_of_an_opendocument_sheet_are_ignored(parser, markup):
    content = parts_of(ods())["content.xml"]
    marked = content.replace(b"<table:", markup + b"<table:").replace(b"</table:", markup + b"</table:")
    assert text_of(parser, with_part(ods(), "content.xml", marked), "ods") == text_of(parser, ods(), "ods")


def test_cdata_in_an_opendocument_sheet_is_text(parser):
    cell = ods_cell("<![CDATA[Lamp <!-- & -->]]> XL")
    table = f'<table:table table:name="S"><table:table-row>{cell}</table:table-row></table:table>'
    assert text_of(parser, ods(table), "ods") == "## S\n\n| Lamp <!-- & --> XL |\n| --- |"


def test_text_boxes_of_a_sheet_are_read(parser):
    words = "<a:p><a:r><a:t>Ask for a discount</a:t></a:r></a:p>"
    box = f'<wsDr xmlns:a="{DRAWN}"><sp><txBody>{words}</txBody></sp></wsDr>'
    raw = beside(xlsx(), ("rId1", "drawing", "../box.xml"), box=box)
    assert "| Chair | 80 |\n\nAsk for a discount" in text_of(parser, raw)


def test_diagrams_of_a_sheet_are_read(parser):
    diagram = f'<d xmlns:a="{DRAWN}"><pt><a:p><a:r><a:t>Order, then pay</a:t></a:r></a:p></pt></d>'
    raw = beside(xlsx(), ("rId1", "drawing", "../box.xml"), box="<wsDr/>", diagram=diagram)
    raw = with_part(raw, "xl/_rels/box.xml.rels", relations(("rId1", "diagramData", "diagram.xml")).encode())
    assert "| Chair | 80 |\n\nOrder, then pay" in text_of(parser, raw)


def test_headers_and_footers_of_pages_are_read_once_without_codes_and_page_numbers(parser):
    header = '&amp;L&amp;"Arial,Bold"&amp;14Lamps &amp;&amp; Luxury&amp;C&amp;A&amp;R&amp;K01+000For staff'
    footer = "&amp;CPage &amp;P of &amp;N\nRing twice"
    pages = f"<headerFooter><oddHeader>{header}</oddHeader><oddFooter>{footer}</oddFooter></headerFooter>"
    parts = parts_of(xlsx())
    for name in (SHEET, "xl/worksheets/sheet2.xml"):
        parts[name] = parts[name].replace(b"</sheetData>", f"</sheetData>{pages}".encode())
    text = text_of(parser, zipped(parts))
    assert "| Chair | 80 |\n\nLamps & Luxury\n\nFor staff\n\nRing twice\n\n## " in text
    assert text.count("Lamps & Luxury") == 1 and "Page" not in text and "Arial" not in text


def test_headers_and_footers_of_opendocument_sheets_are_read_without_page_numbers(parser):
    pages = """<s xmlns:style="style" xmlns:text="text"><style:master-page><style:header><style:region-left>
<text:p>Lamps and <text:span>Luxury</text:span></text:p></style:region-left></style:header>
<style:footer><text:p>Page <text:page-number>1</text:page-number></text:p></style:footer>
<style:footer-left style:display="false"><text:p>Old paper</text:p></style:footer-left>
</style:master-page></s>"""
    text = text_of(parser, with_part(ods(), "styles.xml", pages.encode()), "ods")
    assert text == f"{text_of(parser, ods(), 'ods')}\n\nLamps and Luxury"


def test_notice_for_older_programs_in_a_drawing_is_left_out(parser):
    body = "<a:p><a:r><a:t>{}</a:t></a:r></a:p>"
    shape = f"<mc:Choice>{body.format('Pick a lamp')}</mc:Choice><mc:Fallback>{body.format('No slicer')}"
    drawing = (
        f'<d xmlns:a="a" xmlns:mc="mc"><mc:AlternateContent>{shape}</mc:Fallback></mc:AlternateContent></d>'
    )
    text = text_of(parser, beside(xlsx(), ("rId1", "drawing", "../drawing1.xml"), drawing1=drawing))
    assert "Pick a lamp" in text and "slicer" not in text


def test_links_of_cells_keep_their_address(parser):
    links = '<hyperlink ref="A2" r:id="rId1"/><hyperlink r:id="rId2" ref="A3:B3"/>'
    links += '<hyperlink ref="A1" location="S"/>'
    raw = xlsx()
    sheet = parts_of(raw)[SHEET].replace(
        b"</sheetData>", f"</sheetData><hyperlinks>{links}</hyperlinks>".encode()
    )
    rows = relations(("rId1", "hyperlink", "https://lamps.example/1"), ("rId2", "hyperlink", "chairs.xlsx"))
    rows = rows.replace("/>", ' TargetMode="External"/>')
    raw = zipped({**parts_of(raw), SHEET: sheet, "xl/worksheets/_rels/sheet1.xml.rels": rows})
    assert "| [Lamp](https://lamps.example/1) | 12.5 |\n| Chair | 80 |" in text_of(parser, raw)


def test_displayed_values_links_and_merged_labels_keep_their_cell_below_empty_rows(parser):
    rows = """<row r="4"><c r="C4" t="inlineStr"><is><t>Deck</t></is></c><c r="D4" s="5"><v>0.5</v></c></row>
<row r="5"><c r="D5"><v>7</v></c></row><row r="6"><c r="D6"><v>8</v></c></row>"""
    more = """<mergeCells count="1"><mergeCell ref="C4:C5"/></mergeCells>
<hyperlinks><hyperlink ref="D6" r:id="rId1"/></hyperlinks>"""
    link = relations(("rId1", "hyperlink", "https://lamps.example/1")).replace(
        "/>", ' TargetMode="External"/>'
    )
    sheet = worksheet(rows).replace("</sheetData>", f"</sheetData>{more}")
    added = {SHEET: sheet, "xl/styles.xml": STYLES, "xl/worksheets/_rels/sheet1.xml.rels": link}
    text = text_of(parser, zipped({**parts_of(xlsx()), **added}))
    assert "| Deck | 50% |\n| --- | --- |\n| Deck | 7 |\n|  | [8](https://lamps.example/1) |" in text


def test_displayed_values_of_opendocument_sheets_keep_their_cell_below_empty_rows(parser):
    empty = '<table:table-row table:number-rows-repeated="3"><table:table-cell/></table:table-row>'
    cells = "<table:table-cell/>" + typed("percentage", 'value="0.125"', "12.5 %")
    table = f'<table:table table:name="S">{empty}<table:table-row>{cells}</table:table-row></table:table>'
    assert text_of(parser, ods(table), "ods") == "## S\n\n| 12.5 % |\n| --- |"


def test_title_comes_from_the_properties_and_never_from_a_sheet_name(parser):
    core = '<x xmlns:dc="y"><dc:title>Prices of lamps</dc:title><keywords>lamp, chair</keywords></x>'
    stated = parser.parse("x.xlsx", BytesBody(with_part(xlsx(), "docProps/core.xml", core.encode())))
    assert (stated.title, stated.tags) == ("Prices of lamps", ("lamp", "chair"))
    assert parser.parse("x.xlsx", BytesBody(xlsx())).title is None


def test_xlsx_content_with_xls_extension_is_read(parser):
    assert text_of(parser, xlsx(DEFAULT_SHEETS), "xls") == text_of(parser, xlsx(DEFAULT_SHEETS))


@long
def test_sparse_sheet_is_read_without_its_empty_cells(parser):
    far = "".join(
        f'<row r="{n}"><c r="{"A" if n % 2 else "BZZ"}{n}"><v>{n}</v></c></row>' for n in range(1, 2001)
    )
    cells = f'<row r="1"><c r="A1"><v>1</v></c></row>{far}'
    text = text_of(parser, with_part(xlsx(), SHEET, worksheet(cells).encode()))
    assert "| 1999 |" in text and len(text) < 50_000


def with_stray_cell(reference: str) -> bytes:
    """A workbook with a table of formatted, merged and linked cells, and a cell far from it."""
    rows = """<row r="3"><c r="C3" t="inlineStr"><is><t>Deck</t></is></c><c r="E3" s="5"><v>0.5</v></c></row>
<row r="4" spans="3:5"><c r="C4" s="1"/><c r="E4" s="7"><v>42</v></c></row>
<row r="7"><c r="E7"><v>7</v></c></row>"""
    stray = f'<row r="{reference.lstrip("DFGXZ")}"><c r="{reference}"><v>99</v></c></row>'
    links = "".join(f'<hyperlink ref="{cell}" r:id="rId1"/>' for cell in ("E7", "A1", "D3", "D4:E4"))
    more = f'<mergeCells count="1"><mergeCell ref="C3:C4"/></mergeCells><hyperlinks>{links}</hyperlinks>'
    sheet = worksheet(rows + stray).replace("</sheetData>", f"</sheetData>{more}")
    link = relations(("rId1", "hyperlink", "https://lamps.example/1")).replace(
        "/>", ' TargetMode="External"/>'
    )
    added = {SHEET: sheet, "xl/styles.xml": STYLES, "xl/worksheets/_rels/sheet1.xml.rels": link}
    return zipped({**parts_of(xlsx({"S": []})), **added})


def test_cells_at_opposite_corners_of_a_sheet_are_read(parser):
    text = text_of(parser, with_stray_cell("XFD1048576"))
    assert text == text_of(parser, with_stray_cell("ZZ500")) == text_of(parser, with_stray_cell("G9"))
    for row in (
        "| Deck | 50% |  |",
        "| Deck | 00042 |  |",
        "|  | [7](https://lamps.example/1) |  |",
        "|  |  | 99 |",
    ):
        assert row in text


def test_cells_at_opposite_corners_of_an_opendocument_sheet_are_read(parser):
    def text(rows: int, columns: int) -> str:
        def gap(count: int) -> str:
            return f'<table:table-cell table:number-columns-repeated="{count}"/>'

        share = typed("percentage", 'value="0.125"', "12.5 %")
        comment = "<office:annotation><text:p>Why here?</text:p></office:annotation>"
        stray = ods_cell("Deck").replace("<text:p>", f"{comment}<text:p>")
        rows_of_cells = (
            f"<table:table-row>{ods_cell('Lamp')}{gap(columns - 1)}</table:table-row>",
            f"<table:table-row table:number-rows-repeated='{rows}'>{gap(columns)}</table:table-row>",
            f"<table:table-row>{gap(1)}{share}{gap(columns - 3)}{stray}</table:table-row>",
            f"<table:table-row><table:covered-table-cell/>{share}</table:table-row>",
        )
        table = f'<table:table table:name="S">{"".join(rows_of_cells)}</table:table>'
        return text_of(parser, ods(table), "ods")

    table = "| Lamp |  |  |\n| --- | --- | --- |\n|  | 12.5 % | Deck |\n|  | 12.5 % |  |\n\n"
    assert text(2, 5) == f"## S\n\n{table}**Comment on E4:** Why here?"
    assert text(1_048_574, 16_384) == f"## S\n\n{table}**Comment on XFD1048576:** Why here?"


@pytest.mark.parametrize("dimension", ["A1", "A1:XFD1048576", "C3:E7"])
def test_sheet_whose_dimension_is_wrong_is_read(parser, dimension):
    raw = with_stray_cell("G9")
    sheet = parts_of(raw)[SHEET].replace(
        b"<sheetData>", f'<dimension ref="{dimension}"/><sheetData>'.encode()
    )
    assert text_of(parser, with_part(raw, SHEET, sheet)) == text_of(parser, raw)


@long
def test_percentages_take_little_more_memory_than_numbers():
    def peak_bytes(style: int) -> int:
        rows = (f'<row r="{n}"><c r="A{n}" s="{style}"><v>0.{n}</v></c></row>' for n in range(1, 30_000))
        parts = {**parts_of(xlsx()), SHEET: worksheet("".join(rows)), "xl/styles.xml": STYLES}
        raw = zipped(parts)
        tracemalloc.start()
        read_xlsx(raw)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert peak_bytes(5) < 1.2 * peak_bytes(0)


@pytest.mark.parametrize("extension", ["xls", "ods"])
@pytest.mark.parametrize("junk", [b"\x00" * 200, b"just words", b"PK\x03\x04" + b"\xff" * 100])
def test_garbage_workbook_is_damaged(parser, extension, junk):
    with pytest.raises(Rejected) as refusal:
        text_of(parser, junk, extension)
    assert refusal.value.code == "damaged" and "\n" not in refusal.value.reason


@pytest.mark.parametrize("size", [4100, 5200, 5620])
def test_incomplete_old_workbook_is_damaged_and_loses_no_mail(parser, size):
    raw = sample("prices.xls")[:size]
    with pytest.raises(Rejected) as refusal:
        text_of(parser, raw, "xls")
    assert refusal.value.code == "damaged" and "the workbook is damaged or incomplete" in refusal.value.reason
    head = b'Subject: A\nContent-Type: application/x; name="b.xls"\nContent-Transfer-Encoding: base64\n\n'
    assert text_of(parser, head + base64.b64encode(raw), "eml") == "# A\n\nAttachments: b.xls"


def test_encrypted_spreadsheet_is_reported(parser):
    key = b'<manifest:encryption-data manifest:checksum-type="SHA1" manifest:checksum="x"/>'
    manifest = parts_of(ods())["META-INF/manifest.xml"].replace(
        b"</manifest:manifest>", key + b"</manifest:manifest>"
    )
    with pytest.raises(Rejected) as refusal:
        text_of(parser, with_part(ods(), "META-INF/manifest.xml", manifest), "ods")
    assert refusal.value.code == "encrypted"


@pytest.mark.parametrize("is_write_protected", [False, True])
def test_encrypted_old_workbook_is_reported(parser, is_write_protected):
    raw = sample("prices.xls")
    end_of_bof = raw.index(b"\x09\x08\x10\0\0\x06\x05\0") + 20
    records = b"\x86\0\0\0\x2f\0" if is_write_protected else b"\x2f\0"
    with pytest.raises(Rejected) as refusal:
        text_of(parser, raw[:end_of_bof] + records + raw[end_of_bof + len(records) :], "xls")
    assert refusal.value.code == "encrypted"
