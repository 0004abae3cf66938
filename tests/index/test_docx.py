"""Tests that Word documents give the text that a person sees in Word, and nothing else."""

from __future__ import annotations

import pytest

from kbsync.index.fence.parser import Parser
from tests.index import samples
from tests.index.samples import docx, docx_with, word_part
from tests.index.samples import docx_paragraph as paragraph
from tests.share import enumerated, long
from tests.targets.bodies import BytesBody


def text_of(parser: Parser, raw: bytes) -> str:
    return parser.parse("x.docx", BytesBody(raw)).text


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def raised(text: str) -> str:
    return f'<w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>{text}</w:t></w:r>'


def styled(properties: str, text: str) -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{run(text)}</w:p>"


def cell(content: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{content}</w:tc>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def field(instruction: str, result: str) -> str:
    mark = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
    instr = f"<w:r><w:instrText>{instruction}</w:instrText></w:r>"
    return mark.format("begin") + instr + mark.format("separate") + result + mark.format("end")


IN_A_PARAGRAPH = [
    ("<w:r><w:t>Name:</w:t><w:tab/><w:t>Ada</w:t></w:r>", "Name: Ada"),
    ("<w:r><w:t>first</w:t><w:br/><w:t>second</w:t></w:r>", "first\nsecond"),
    ("<w:r><w:t># first</w:t><w:br/><w:t>| second</w:t></w:r>", "\\# first\n\\| second"),
    (run("co") + "<w:r><w:noBreakHyphen/></w:r>" + run("op"), "co-op"),
    ('<w:r><w:sym w:font="Symbol" w:char="F062"/></w:r>' + run("-carotene"), "β-carotene"),
    (run("x ") + '<w:r><w:sym w:font="Symbol" w:char="F0B3"/></w:r>' + run(" 5"), "x ≥ 5"),
    ('<w:r><w:sym w:font="Segoe UI Symbol" w:char="2713"/></w:r>' + run(" done"), "✓ done"),
    ('<w:r><w:sym w:font="Wingdings" w:char="F0FC"/><w:sym w:char="x"/><w:sym/></w:r>' + run("done"), "done"),
    (
        f"<w:ins>{run('kept ')}</w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>" + run("on"),
        "kept on",
    ),
    (f"<w:moveFrom>{run('here')}</w:moveFrom><w:moveTo>{run('there')}</w:moveTo>", "there"),
    (run("seen") + "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>", "seen"),
    ('<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>shown</w:t></w:r>', "shown"),
    (run("Ke") + run("pler") + raised("1") + run(" and ") + raised("2"), "Kepler 1 and 2"),
    (run("m") + raised("2") + run(" 10") + raised("5") + run(" Kelly") + raised("TM"), "m2 105 KellyTM"),
    (run("total ") + field("=SUM(A1)", run("42")), "total 42"),
    (run("page ") + field(" PAGE ", run("7")) + run(" end"), "page end"),
    (
        '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:ddList><w:result w:val="1"/>'
        '<w:listEntry w:val="No"/><w:listEntry w:val="Yes"/></w:ddList></w:ffData></w:fldChar></w:r>'
        '<w:r><w:instrText>FORMDROPDOWN</w:instrText></w:r><w:r><w:fldChar w:fldCharType="end"/></w:r>'
        + run(" please"),
        "Yes please",
    ),
    ('<w:r><w:pict><v:shape><v:textpath string="Summer party"/></v:shape></w:pict></w:r>', "Summer party"),
    (f'<w:fldSimple w:instr="AUTHOR">{run("Ada")}</w:fldSimple>', "Ada"),
    (
        f"<w:sdt><w:sdtPr><w:alias/></w:sdtPr><w:sdtContent>{run('filled in')}</w:sdtContent></w:sdt>",
        "filled in",
    ),
    (f"<w:smartTag>{run('Ro')}</w:smartTag>{run('me')}", "Rome"),
    ("<w:ruby><w:rt>" + run("とう") + "</w:rt><w:rubyBase>" + run("東") + "</w:rubyBase></w:ruby>", "東"),
    (
        "<m:oMath><m:f><m:num><m:r><m:t>1</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath>",
        "1/2",
    ),
    ('<w:r><w:drawing><wp:docPr descr="a red lamp"/></w:drawing></w:r>', "a red lamp"),
    (run("x") + '<w:r><w:drawing><wp:docPr descr="C:\\my files\\a.png"/></w:drawing></w:r>', "x"),
    (f'<w:hyperlink w:anchor="top">{run("up")}</w:hyperlink>', "up"),
]


@enumerated()
@pytest.mark.parametrize(("content", "text"), IN_A_PARAGRAPH)
def test_paragraph_is_read_as_displayed(parser, content, text):
    assert text_of(parser, docx(f"<w:p>{content}</w:p>")) == text


def test_link_keeps_its_address(parser):
    body = f'<w:p><w:hyperlink r:id="r9">{run("the rules")}</w:hyperlink></w:p>'
    assert text_of(parser, docx_with(body, {}, ("r9", "https://x.org/r"))) == "[the rules](https://x.org/r)"


def test_unterminated_field_hides_no_other_paragraph(parser):
    field_start = '<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r></w:p>'
    assert text_of(parser, docx(field_start + paragraph("read"))) == "read"


STYLES = """
<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>
<w:style w:type="paragraph" w:styleId="a"><w:name w:val="heading 2"/></w:style>
<w:style w:type="paragraph" w:styleId="b"><w:name w:val="Mine"/><w:basedOn w:val="a"/></w:style>
<w:style w:type="paragraph" w:styleId="c"><w:name w:val="Loop"/><w:basedOn w:val="c"/>
<w:pPr><w:outlineLvl w:val="3"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="d"><w:name w:val="toc 1"/></w:style>
<w:style w:type="paragraph" w:styleId="e"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="f"><w:name w:val="Listed"/>
<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
"""


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        ('<w:pStyle w:val="a"/>', "## words"),
        ('<w:pStyle w:val="b"/>', "## words"),
        ('<w:pStyle w:val="c"/>', "#### words"),
        ('<w:pStyle w:val="e"/>', "# words"),
        ('<w:pStyle w:val="a"/><w:outlineLvl w:val="9"/>', "words"),
        ('<w:outlineLvl w:val="0"/>', "# words"),
        ('<w:pStyle w:val="d"/>', "end"),
        ('<w:pStyle w:val="unknown"/>', "words"),
    ],
)
def test_headings_are_recognized_by_style_and_outline_level(parser, properties, text):
    body = styled(properties, "words") + paragraph("end")
    document = samples.with_part(docx(body), "word/styles.xml", word_part("styles", STYLES))
    assert text_of(parser, document).split("\n")[0] == text


HIDING = """
<w:style w:type="paragraph" w:styleId="h"><w:rPr><w:vanish/></w:rPr></w:style>
<w:style w:type="paragraph" w:styleId="i"><w:basedOn w:val="h"/></w:style>
<w:style w:type="paragraph" w:styleId="s"><w:basedOn w:val="h"/><w:rPr><w:vanish w:val="0"/></w:rPr></w:style>
<w:style w:type="character" w:default="1" w:styleId="n"/>
<w:style w:type="character" w:styleId="c"><w:rPr><w:vanish/></w:rPr></w:style>
"""


@pytest.mark.parametrize(
    ("paragraph_style", "run_properties", "text"),
    [
        ("h", "", "end"),
        ("i", "", "end"),
        ("i", '<w:rStyle w:val="n"/>', "end"),
        ("s", "", "words"),
        ("h", '<w:vanish w:val="0"/>', "words"),
        ("", '<w:rStyle w:val="c"/>', "end"),
        ("", '<w:rStyle w:val="c"/><w:vanish w:val="false"/>', "words"),
        ("", '<w:rStyle w:val="n"/>', "words"),
    ],
)
def test_words_hidden_by_a_style_are_excluded(parser, paragraph_style, run_properties, text):
    body = f'<w:p><w:pPr><w:pStyle w:val="{paragraph_style}"/></w:pPr>'
    body += f"<w:r><w:rPr>{run_properties}</w:rPr><w:t>words</w:t></w:r></w:p>" + paragraph("end")
    document = samples.with_part(docx(body), "word/styles.xml", word_part("styles", HIDING))
    assert text_of(parser, document).split("\n")[0] == text


def level(depth: int, form: str, text: str) -> str:
    return f'<w:lvl w:ilvl="{depth}"><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'


NUMBERING = word_part(
    "numbering",
    f'<w:abstractNum w:abstractNumId="7">{level(0, "decimal", "%1.")}{level(1, "lowerLetter", "%1.%2)")}'
    f'</w:abstractNum><w:abstractNum w:abstractNumId="8">{level(0, "bullet", "·")}</w:abstractNum>'
    f'<w:abstractNum w:abstractNumId="9">{level(0, "chineseCountingThousand", "第%1条")}</w:abstractNum>'
    '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
    '<w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>'
    '<w:num w:numId="3"><w:abstractNumId w:val="9"/></w:num><w:num w:numId="4"><w:abstractNumId w:val="7"/>'
    '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride></w:num>',
)


def item(number: int, text: str, depth: int = 0) -> str:
    return styled(f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{number}"/></w:numPr>', text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (item(2, "one") + item(2, "two"), "- one\n- two"),
        (item(1, "a") + item(1, "b") + item(1, "c", 1) + item(1, "d"), "1. a\n2. b\n  2.a) c\n3. d"),
        (item(1, "a") + item(1, "b", 1) + item(1, "c") + item(1, "d", 1), "1. a\n  1.a) b\n2. c\n  2.a) d"),
        (item(1, "one") + paragraph("between") + item(1, "two"), "1. one\n\nbetween\n\n2. two"),
        (item(1, "one") + item(4, "again"), "1. one\n1. again"),
        (item(3, "甲") * 11, "\n".join(f"第{n}条 甲" for n in [*"一二三四五六七八九十", "十一"])),
        (item(0, "none") + item(99, "none"), "none\n\nnone"),
        (styled('<w:pStyle w:val="f"/>', "by its style"), "1. by its style"),
        (styled('<w:pStyle w:val="a"/><w:numPr><w:numId w:val="1"/></w:numPr>', "Scope"), "## 1. Scope"),
    ],
)  # fmt: skip
def test_list_items_have_the_numbers_word_displays(parser, body, text):
    document = samples.with_part(
        docx_with(body, {"numbering": NUMBERING}), "word/styles.xml", word_part("styles", STYLES)
    )
    assert text_of(parser, document) == text


A, B = cell(paragraph("a")), cell(paragraph("b"))
DELETED = table(A + B, f"<w:trPr><w:del/></w:trPr>{cell(paragraph('gone'))}")
SDT = "<w:sdt><w:sdtContent>{}</w:sdtContent></w:sdt>"
WRAPPED = SDT.format(table(A + SDT.format(B)))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            table(
                cell(paragraph("wide"), '<w:gridSpan w:val="2"/>') + B,
                cell(paragraph("tall"), '<w:vMerge w:val="restart"/>') + A + B,
                cell(paragraph("tall"), "<w:vMerge/>") + cell(paragraph("b|c")) + cell(paragraph("x") * 2),
            ),
            "| wide |  | b |\n| --- | --- | --- |\n| tall | a | b |\n|  | b\\|c | x x |",
        ),
        (table(cell(paragraph("c") + table(A + B)) + B), "c\n\n| a | b |\n| --- | --- |\n\nb"),
        (table(A, B), "a\n\nb"),
        (
            table(cell(paragraph("# of items") + paragraph("| x")) + B),
            "| # of items \\| x | b |\n| --- | --- |",
        ),
        (DELETED, "| a | b |\n| --- | --- |"),
        (WRAPPED, "| a | b |\n| --- | --- |"),
        (table(cell(paragraph("a"), '<w:gridSpan w:val="99999999"/>') + B), "| a | b |\n| --- | --- |"),
    ],
)
def test_tables_are_read_row_by_row(parser, body, text):
    assert text_of(parser, docx(body)) == text


def test_page_headers_and_footers_are_read_once(parser):
    reference = '<w:sectPr><w:headerReference r:id="header1"/><w:headerReference r:id="header2"/>'
    reference += '<w:footerReference r:id="footer1"/></w:sectPr>'
    body = f"<w:p><w:pPr>{reference}</w:pPr></w:p>{paragraph('body')}{reference}"
    head = word_part("hdr", paragraph("Confidential"))
    foot = word_part("ftr", f"<w:p>{run('Ada Ltd ')}{field('PAGE', run('1'))}</w:p>")
    document = docx_with(body, {"header1": head, "header2": head, "footer1": foot})
    assert text_of(parser, document) == "Confidential\n\nbody\n\nAda Ltd"


def test_notes_and_comments_follow_their_paragraph(parser):
    body = f'<w:p>{run("claim")}<w:r><w:footnoteReference w:id="2"/></w:r>'
    body += '<w:r><w:endnoteReference w:id="2"/></w:r>'
    body += f'<w:r><w:commentReference w:id="5"/></w:r></w:p>{paragraph("next")}'
    separator = f'<w:footnote w:id="0" w:type="separator">{paragraph("----")}</w:footnote>'
    parts = {
        "footnotes": word_part(
            "footnotes", f'{separator}<w:footnote w:id="2">{paragraph("source")}</w:footnote>'
        ),
        "endnotes": word_part("endnotes", f'<w:endnote w:id="2">{paragraph("remark")}</w:endnote>'),
        "comments": word_part(
            "comments", f'<w:comment w:id="5" w:author="Ada">{paragraph("why?")}</w:comment>'
        ),
    }
    expected = "claim\n\n**Footnote:** source\n\n**Endnote:** remark\n\n**Comment by Ada:** why?\n\nnext"
    assert text_of(parser, docx_with(body, parts)) == expected


def test_text_boxes_are_read_once(parser):
    box = f"<w:txbxContent>{paragraph('in a box')}</w:txbxContent>"
    twins = f"<mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    twins = f"<mc:AlternateContent>{twins}</mc:AlternateContent>"
    assert text_of(parser, docx(f"<w:p>{run('around')}<w:r>{twins}</w:r></w:p>")) == "around\n\nin a box"
    older = f"<w:p><w:r><w:pict><v:shape><v:textbox>{box}</v:textbox></v:shape></w:pict></w:r></w:p>"
    assert text_of(parser, docx(older)) == "in a box"


def test_keywords_become_tags_and_the_main_part_may_have_another_name(parser):
    parts = samples.parts_of(docx(paragraph("words")))
    core = parts["docProps/core.xml"]
    keywords = b"<cp:keywords>red lamp; blue, red lamp</cp:keywords></cp:coreProperties>"
    parts["docProps/core.xml"] = core.replace(b"</cp:coreProperties>", keywords)
    parts["word/document2.xml"] = parts.pop("word/document.xml")
    parts["_rels/.rels"] = parts["_rels/.rels"].replace(b"document.xml", b"document2.xml")
    parsed = parser.parse("x.docx", BytesBody(samples.zipped(parts)))
    assert (parsed.text, parsed.tags) == ("words", ("red lamp", "blue"))


def chart_series(name: str, labels: str, values: str) -> str:
    """Return a chart series; labels and values are separated by spaces."""

    def points(words: str) -> str:
        return "".join(f'<c:pt idx="{n}"><c:v>{word}</c:v></c:pt>' for n, word in enumerate(words.split()))

    return (
        f"<c:ser><c:tx><c:strRef><c:strCache>{points(name)}</c:strCache></c:strRef></c:tx>"
        f"<c:cat><c:strRef><c:strCache>{points(labels)}</c:strCache></c:strRef></c:cat>"
        f"<c:val><c:numRef><c:numCache>{points(values)}</c:numCache></c:numRef></c:val></c:ser>"
    )


def docx_with_chart(content: str) -> bytes:
    names = (
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"'
    )
    title = "<a:p><a:r><a:t>Sales</a:t></a:r></a:p>"
    return docx_with(paragraph("x"), {"chart1": f"<c:chart {names}>{title}{content}</c:chart>".encode()})


def test_chart_title_is_searchable(parser):
    assert text_of(parser, docx_with_chart("")) == "x\n\nChart: Sales"


def test_chart_values_become_a_table(parser):
    north = chart_series("North", "spring autumn", "4.2999999999999998 1E3")
    south = chart_series("South", "spring autumn", "-7 #N/A")
    assert text_of(parser, docx_with_chart(north + south)) == (
        "x\n\nChart: Sales\n\n"
        "|  | North | South |\n| --- | --- | --- |\n| spring | 4.3 | -7 |\n| autumn | 1000 |  |"
    )


def test_series_with_different_points_get_their_own_table(parser):
    text = text_of(parser, docx_with_chart(chart_series("A", "one", "1") + chart_series("B", "two", "2")))
    assert "| one | 1 |" in text and "| two | 2 |" in text


def test_points_are_dates_where_the_chart_displays_dates(parser):
    series = chart_series("A", "45292", "1").replace(
        "<c:cat><c:strRef><c:strCache>", "<c:cat><c:numRef><c:numCache><c:formatCode>d-mmm-yy</c:formatCode>"
    ).replace("</c:strCache></c:strRef></c:cat>", "</c:numCache></c:numRef></c:cat>")  # fmt: skip
    assert "| 2024-01-01 | 1 |" in text_of(parser, docx_with_chart(series))
    since_1904 = '<c:date1904 val="1"/>' + series
    assert "| 2028-01-02 | 1 |" in text_of(parser, docx_with_chart(since_1904))


@long
def test_chart_table_is_bounded_but_its_words_are_not(parser):
    labels, values = " ".join(f"label{n}" for n in range(201)), " ".join(["5"] * 201)
    text = text_of(parser, docx_with_chart(chart_series("A", labels, values) * 51))
    assert "label200" in text and text.count("| 5 ") == 200 * 50


INSERTED = {
    "part.htm": b"<h2>Lamps</h2><p>The kestrel lamp.</p>",
    "part.mht": b"Content-Type: text/html\r\n\r\n<h2>Lamps</h2><p>The kestrel lamp.</p>",
    "part.rtf": b"{\\rtf1\\pard\\outlinelevel1 Lamps\\par\\pard The kestrel lamp.\\par}",
    "part.docx": docx('<w:p><w:pPr><w:outlineLvl w:val="1"/></w:pPr>' + run("Lamps") + "</w:p>"
                      + paragraph("The kestrel lamp.") + '<w:altChunk r:id="rId7"/>'),
    "part.txt": b"The kestrel lamp.",
    "part.bin": b"\0\1\2",
    "missing.htm": None,
}  # fmt: skip


@pytest.mark.parametrize("name", INSERTED)
def test_files_that_word_inserts_are_read_where_they_belong(parser: Parser, name: str) -> None:
    content = INSERTED[name]
    rows = samples.relations(("rId7", "aFChunk", name))
    body = f'{paragraph("before")}<w:altChunk r:id="rId7"/>{paragraph("after")}'
    parts = {**samples.parts_of(docx(body)), "word/_rels/document.xml.rels": rows}
    raw = samples.zipped(parts if content is None else {**parts, f"word/{name}": content})
    lamps = {"part.txt": "The kestrel lamp.\n\n", "part.bin": "", "missing.htm": ""}
    inserted = lamps.get(name, "## Lamps\n\nThe kestrel lamp.\n\n")
    assert text_of(parser, raw) == f"before\n\n{inserted}after"
