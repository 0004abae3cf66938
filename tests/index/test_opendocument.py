"""Tests that OpenDocument files give the text that a person sees in LibreOffice, and nothing else."""

from __future__ import annotations

import pytest

from kbsync.index.fence.parser import Parser
from tests.index import samples
from tests.targets.bodies import BytesBody


def text_of(parser: Parser, raw: bytes) -> str:
    return parser.parse("x.odt", BytesBody(raw)).text


def with_styles(body: str, styles: str) -> bytes:
    document = samples.odt(body)
    content = samples.parts_of(document)["content.xml"]
    automatic = f"<office:automatic-styles>{styles}</office:automatic-styles><office:body>".encode()
    return samples.with_part(document, "content.xml", content.replace(b"<office:body>", automatic))


NOTE = '<text:note text:note-class="footnote"><text:note-citation>1</text:note-citation><text:note-body>'
NOTE += "<text:p>source</text:p></text:note-body></text:note>"
COMMENT = "<office:annotation><dc:creator>Ada</dc:creator><text:p>why?</text:p></office:annotation>"
BOX = "<draw:frame><draw:text-box><text:p>in a box</text:p></draw:text-box></draw:frame>"
GONE = "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p></text:deletion>"
GONE += "</text:changed-region></text:tracked-changes>"
CONTENTS = "<text:table-of-content><text:index-body><text:p>Chapter 1</text:p></text:index-body>"
CONTENTS += "</text:table-of-content>"

TEXTS = [
    ('<text:h text:outline-level="3">Deep</text:h>', "### Deep"),
    ("<text:p>a<text:s/>b<text:tab/>c<text:line-break/>d <text:span>e</text:span>f</text:p>", "a b c\nd ef"),
    (f"<text:p>claim{NOTE} goes on</text:p>", "claim goes on\n\n**Footnote:** source"),
    (f"<text:p>claim{COMMENT}</text:p>", "claim\n\n**Comment by Ada:** why?"),
    (f"<text:p>around{BOX}</text:p>", "around\n\nin a box"),
    (f"{GONE}<text:p>kept</text:p>", "kept"),
    (f"{CONTENTS}<text:p>text</text:p>", "text"),
    ('<text:p><text:a xlink:href="https://x.org/r">the rules</text:a></text:p>', "[the rules](https://x.org/r)"),
    ("<text:p>by <text:title>Ada</text:title>, <text:page-number>3</text:page-number></text:p>", "by Ada,"),
    ("<text:p><draw:g><svg:title>x</svg:title><svg:desc>red lamp</svg:desc></draw:g></text:p>", "red lamp"),
    ('<text:section text:display="none"><text:p>hidden</text:p></text:section><text:p>seen</text:p>', "seen"),
    ("<text:p><text:ruby-base>東</text:ruby-base><text:ruby-text>とう</text:ruby-text></text:p>", "東"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), TEXTS)
def test_text_is_read_as_displayed(parser, body, text):
    assert text_of(parser, samples.odt(body)) == text


def test_hidden_words_are_excluded(parser):
    style = '<style:style style:name="T1"><style:text-properties text:display="none"/></style:style>'
    body = '<text:p>seen<text:span text:style-name="T1">hidden</text:span> too</text:p>'
    assert text_of(parser, with_styles(body, style)) == "seen too"


def test_style_hides_paragraphs_and_words_unless_a_nearer_one_shows_them(parser):
    def style(name: str, parent: str, display: str = "") -> str:
        properties = f'<style:text-properties text:display="{display}"/>' if display else ""
        return (
            f'<style:style style:name="{name}" style:parent-style-name="{parent}">{properties}</style:style>'
        )

    styles = style("A", "", "none") + style("P1", "A") + style("P2", "P1", "true") + style("P3", "P3")
    body = "".join(f'<text:p text:style-name="P{n}">words {n}</text:p>' for n in (1, 2, 3))
    body += '<text:p>some <text:span text:style-name="P1">x</text:span>more</text:p>'
    assert text_of(parser, with_styles(body, styles)) == "words 2\n\nwords 3\n\nsome more"


def test_raised_mark_of_a_note_is_a_word_of_its_own(parser):
    style = (
        '<style:style style:name="T1"><style:text-properties style:text-position="super 58%"/></style:style>'
    )
    mark = '<text:span text:style-name="T1">{}</text:span>'.format
    body = f"<text:p>Kepler{mark(1)} saw 20 m{mark(2)} of <text:span>sky</text:span>{mark(3)}</text:p>"
    assert text_of(parser, with_styles(body, style)) == "Kepler 1 saw 20 m2 of sky3"


def test_list_items_are_numbered_by_their_style(parser):
    levels = '<text:list-level-style-number text:level="1" style:num-format="1" style:num-suffix="."/>'
    levels += '<text:list-level-style-bullet text:level="2"/>'
    style = f'<text:list-style style:name="L1">{levels}</text:list-style>'
    inner = "<text:list><text:list-item><text:p>deep</text:p></text:list-item></text:list>"
    body = f'<text:list text:style-name="L1"><text:list-item><text:p>one</text:p>{inner}</text:list-item>'
    body += "<text:list-item><text:p>two</text:p><text:p>more of two</text:p></text:list-item></text:list>"
    body += '<text:list text:style-name="L1" text:continue-numbering="true"><text:list-item>'
    body += "<text:p>three</text:p></text:list-item></text:list>"
    assert text_of(parser, with_styles(body, style)) == "1. one\n  - deep\n2. two\n\nmore of two\n\n3. three"


def test_cells_covered_by_a_merged_cell_stay_empty(parser):
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>".format
    wide = '<table:table-cell table:number-columns-spanned="2"><text:p>wide</text:p></table:table-cell>'
    rows = f"<table:table-row>{wide}<table:covered-table-cell/>{cell('c')}</table:table-row>"
    head = f"<table:table-header-rows>{rows}</table:table-header-rows>"
    row = f"<table:table-row>{cell('1')}{cell('2')}{cell('3')}</table:table-row>"
    assert text_of(parser, samples.odt(f"<table:table>{head}{row}</table:table>")) == (
        "| wide |  | c |\n| --- | --- | --- |\n| 1 | 2 | 3 |"
    )


def test_page_headers_keywords_formulas_and_charts_are_read(parser):
    document = samples.odt(
        '<text:p>body<draw:frame><draw:object xlink:href="./Object 1"/></draw:frame></text:p>'
    )
    content = samples.parts_of(document)["content.xml"]
    master = b"<style:master-page><style:header><text:p>Secret</text:p></style:header></style:master-page>"
    styles = content.replace(b"<office:body>", master + b"<office:body>").replace(
        b"<text:p>body", b"<text:p>no"
    )
    document = samples.with_part(document, "styles.xml", styles)
    document = samples.with_part(
        document, "Object 1/content.xml", b"<math><mi>E</mi><mo>=</mo><mn>2</mn></math>"
    )
    meta = samples.parts_of(document)["meta.xml"]
    keywords = (
        b'<m:keyword xmlns:m="x">lamps</m:keyword><m:keyword xmlns:m="x">oil, lamps</m:keyword></office:meta>'
    )
    document = samples.with_part(document, "meta.xml", meta.replace(b"</office:meta>", keywords))
    parsed = parser.parse("x.odt", BytesBody(document))
    assert (parsed.text, parsed.tags) == ("Secret\n\nbody\n\nE = 2", ("lamps", "oil"))
    chart = b'<x xmlns:c="c" xmlns:t="t"><c:title><t:p>Sales</t:p></c:title></x>'
    document = samples.with_part(document, "Object 1/content.xml", chart)
    assert text_of(parser, document) == "Secret\n\nbody\n\nSales"
    old = b'<!DOCTYPE math PUBLIC "-//x" "y"><math><mi>E</mi></math>'
    assert text_of(parser, samples.with_part(document, "Object 1/content.xml", old)) == "Secret\n\nbody"


def test_footers_and_texts_of_the_master_are_read_once(parser):
    def frame(text: str, kind: str = "") -> str:
        return f"<draw:frame{kind and f' draw:class={kind!r}'}><text:p>{text}</text:p></draw:frame>"

    shapes = frame("Lamps &amp; Luxury") + frame("Click to add a title", "title")
    shapes += frame("<draw:footer/>", "footer") + frame("Ring twice", "footer")
    shapes += frame("<draw:page-number>7</draw:page-number> of 9", "page-number")
    master = (
        f'<s xmlns:draw="d" xmlns:text="t"><draw:master-page draw:name="M">{shapes}</draw:master-page></s>'
    )
    slide = '<draw:page draw:master-page-name="M" draw:use-footer-name="f">{}</draw:page>'
    slides = ['<draw:footer-decl draw:name="f">For staff</draw:footer-decl>']
    slides += [slide.format(frame(text)) for text in ("First words", "Second words")]
    parts = samples.parts_of(samples.odp())
    usual = samples.fill_template("slides.xml").encode()
    assert usual in parts["content.xml"]
    parts["content.xml"] = parts["content.xml"].replace(usual, "".join(slides).encode())
    raw = samples.zipped({**parts, "styles.xml": master})
    text = parser.parse("x.odp", BytesBody(raw)).text
    first, second = text.split("## Slide 2")
    assert first == "## Slide 1\n\nFirst words\n\nFor staff\n\nLamps & Luxury\n\nRing twice\n\n"
    assert second == "\n\nSecond words"
