"""Tests that presentations give the text that people see on slides, and the notes."""

from __future__ import annotations

from kbsync.index.read.slides import read_pptx
from tests.index import samples
from tests.index.samples import pptx, relations, shape

SLIDE, RELATIONS = "ppt/slides/slide1.xml", "ppt/slides/_rels/slide1.xml.rels"
NAMES = (
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
)


def text_of(raw: bytes) -> str:
    return read_pptx(raw).text


def with_parts(presentation: bytes, parts: dict[str, str | bytes]) -> bytes:
    return samples.zipped({**samples.parts_of(presentation), **parts})


def picture(description: str) -> str:
    return f'<p:pic><p:nvPicPr><p:cNvPr id="7" name="p" descr="{description}"/></p:nvPicPr></p:pic>'


def test_picture_description_is_found_but_not_its_file_name():
    slides = [(shape(2, "Team", "title") + picture("Ada at the loom") + picture("IMG_1.jpg"), "")]
    assert text_of(pptx(slides)) == "## Team\n\nAda at the loom"


def test_link_address_is_kept_once_for_all_its_runs():
    run = '<a:r><a:rPr><a:hlinkClick r:id="rId5"/></a:rPr><a:t>{}</a:t></a:r>'
    plain = "<a:r><a:t>{}</a:t></a:r>"
    runs = (plain.format("See "), run.format("our "), run.format("site"), plain.format("."))
    body = f"<a:p>{''.join(runs)}</a:p>"
    content = shape(3, "X").replace("<a:p><a:r><a:t>X</a:t></a:r></a:p>", body)
    link = relations(("rId5", "hyperlink", "https://example.org/")).replace("/>", ' TargetMode="External"/>')
    raw = with_parts(pptx([(content, "")]), {RELATIONS: link})
    assert text_of(raw) == "## Slide 1\n\nSee [our site](https://example.org/)."


def test_first_footer_is_read_and_changing_dates_never():
    footer = shape(4, "Confidential", "ftr") + shape(5, "7", "sldNum")
    date = shape(6, "May", "dt").replace("a:r>", "a:fld>")
    text = text_of(pptx([(shape(2, f"Part {n}", "title") + footer + date, "") for n in (1, 2)]))
    assert text == "## Part 1\n\nConfidential\n\n## Part 2"


def test_layout_and_master_texts_are_read_once():
    part = "<p:sldLayout {}><p:cSld><p:spTree>{}</p:spTree></p:cSld></p:sldLayout>"
    layout_text = shape(9, "Example Ltd").replace('<p:ph type="body"/>', "")
    parts = {
        f"ppt/slides/_rels/slide{n}.xml.rels": relations(("r1", "slideLayout", "../slideLayouts/l.xml"))
        for n in (1, 2)
    }
    parts["ppt/slideLayouts/l.xml"] = part.format(NAMES, layout_text + shape(8, "Click to edit", "title"))
    raw = with_parts(pptx([(shape(2, "One", "title"), ""), (shape(2, "Two", "title"), "")]), parts)
    assert text_of(raw) == "## One\n\nExample Ltd\n\n## Two"


def test_chart_words_precede_its_values():
    c = "http://schemas.openxmlformats.org/drawingml/2006/chart"
    chart = (
        f'<c:chartSpace xmlns:c="{c}" {NAMES}><a:p><a:r><a:t>Revenue</a:t></a:r></a:p><c:ser>'
        "<c:tx><c:v>North</c:v></c:tx>"
        '<c:xVal><c:numLit><c:pt idx="0"><c:v>2024</c:v></c:pt></c:numLit></c:xVal><c:yVal><c:numLit>'
        '<c:pt idx="0"><c:v>12.50</c:v></c:pt></c:numLit></c:yVal></c:ser></c:chartSpace>'
    )
    parts = {RELATIONS: relations(("r1", "chart", "../charts/c.xml")), "ppt/charts/c.xml": chart}
    text = text_of(with_parts(pptx([(shape(2, "One", "title"), "")]), parts))
    assert text == "## One\n\nChart: Revenue\n\n|  | North |\n| --- | --- |\n| 2024 | 12.5 |"


def test_words_of_newer_charts_are_read():
    chart = (
        f'<cx:chartSpace xmlns:cx="cx" {NAMES}><cx:data><cx:strDim><cx:lvl><cx:pt idx="0">Lamps</cx:pt>'
        '<cx:pt idx="1">Oil</cx:pt></cx:lvl></cx:strDim><cx:numDim><cx:lvl><cx:pt idx="0">12.5</cx:pt>'
        "</cx:lvl></cx:numDim></cx:data><cx:title><a:p><a:r><a:t>Costs</a:t></a:r></a:p></cx:title>"
        "<cx:series><cx:tx><cx:txData><cx:v>North</cx:v></cx:txData></cx:tx></cx:series></cx:chartSpace>"
    )
    parts = {RELATIONS: relations(("r1", "chartEx", "../charts/c.xml")), "ppt/charts/c.xml": chart}
    text = text_of(with_parts(pptx([(shape(2, "One", "title"), "")]), parts))
    assert text == "## One\n\nChart: Costs, Lamps, Oil, 12.5, North"


def test_comments_and_replies_name_their_authors():
    new = (
        f'<cmLst {NAMES}><cm authorId="{{A}}"><replyLst><reply authorId="{{B}}"><txBody><a:p><a:r><a:t>Done.'
        "</a:t></a:r></a:p></txBody></reply></replyLst><txBody><a:p><a:r><a:t>Too small?</a:t></a:r></a:p>"
        "</txBody></cm></cmLst>"
    )
    old = f'<p:cmLst {NAMES}><p:cm authorId="0"><p:text>Check the sum</p:text></p:cm></p:cmLst>'
    raw = pptx([(shape(2, "One", "title"), "")])
    listed = samples.parts_of(raw)["ppt/_rels/presentation.xml.rels"].decode()
    rows = relations(("r8", "commentAuthors", "old.xml"), ("r9", "authors", "new.xml"))
    complete = listed.replace("</Relationships>", rows.partition(">")[2])
    text = text_of(
        with_parts(
            raw,
            {
                "ppt/_rels/presentation.xml.rels": complete,
                "ppt/old.xml": f'<p:l {NAMES}><p:cmAuthor id="0" name="Grace"/></p:l>',
                "ppt/new.xml": '<l><author id="{A}" name="Ada"/><author id="{B}" name="Alan"/></l>',
                RELATIONS: relations(("r1", "comments", "../c1.xml"), ("r2", "comments", "../c2.xml")),
                "ppt/c1.xml": old,
                "ppt/c2.xml": new,
            },
        )
    )
    for expected in ("by Grace:** Check the sum", "by Ada:** Too small?", "by Alan:** Done."):
        assert text.count(f"**Comment {expected}") == 1
    assert text.count("Done.") == 1
