"""Reads every document format through the real parser process."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.errors import Rejected
from kbsync.index.document import Flavour
from kbsync.index.fence.parser import Parser
from kbsync.index.read import mail
from kbsync.index.read.formats import DOCUMENTS, EXTENSIONS
from kbsync.index.read.html import read_html
from tests.growth import assert_linear
from tests.index import samples
from tests.share import long
from tests.targets.bodies import BytesBody

SAMPLES = {
    "pdf": samples.pdf(),
    **dict.fromkeys(("docx", "docm"), samples.docx()),
    **dict.fromkeys(("pptx", "pptm", "ppsx"), samples.pptx()),
    "xlsx": samples.xlsx(),
    "xlsm": samples.xlsx(),
    "xls": samples.sample("prices.xls"),
    "ods": samples.ods(),
    "odt": samples.odt(),
    "odp": samples.odp(),
    "epub": samples.epub(),
    "html": samples.html(),
    "htm": samples.html("gb18030", "按两次铃。"),
    "xhtml": samples.html("iso-8859-1", "Läuten Sie zweimal."),
    "rtf": samples.sample("boiler.rtf"),
    "eml": samples.sample("lamps.eml"),
    "mbox": samples.mailbox(samples.sample("lamps.eml"), samples.mail("Lunch", b"At noon.")),
    "mhtml": samples.mail("Codes", samples.html(), "multipart/related; boundary=B"),
    "mht": samples.mail("Codes", samples.html("gb18030", "按两次铃。"), "multipart/related; boundary=B"),
    "ics": samples.CALENDAR.encode(),
    "vcf": samples.CONTACTS.encode(),
    "canvas": samples.CANVAS.encode(),
    "ipynb": samples.sample("forecast.json"),
}
TEXT = "---\ntitle: t\n---\n\n00:00:01,000 --> 00:00:02,000\nwindow 窗口\n"


@pytest.fixture(scope="module")
def spool(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def parser(spool) -> Iterator[Parser]:
    parser = Parser(spool)
    yield parser
    parser.close()


def text_of(parser: Parser, extension: str, raw: bytes) -> str:
    return parser.parse(f"folder/sample.{extension}", BytesBody(raw)).text


def rejected(parser: Parser, extension: str, raw: bytes) -> Rejected:
    with pytest.raises(Rejected) as refusal:
        parser.parse(f"sample.{extension}", BytesBody(raw))
    reason = refusal.value.reason
    assert reason and "Traceback" not in reason and "\n" not in reason
    return refusal.value


def files_below(*folders: Path) -> set[Path]:
    return {Path(folder) / name for top in folders for folder, _, names in os.walk(top) for name in names}


@long
def test_every_extension_is_parsed_without_a_socket_and_leaves_no_file(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.chdir(tmp_path)
    parser = Parser(tmp_path / "spool")
    try:
        for extension in sorted(EXTENSIONS):
            assert text_of(parser, extension, SAMPLES.get(extension, TEXT.encode())).strip(), extension
            assert files_below(tmp_path) == set(), extension
        assert parser.pids()
    finally:
        parser.close()
    assert list((tmp_path / "spool").iterdir()) == []


EXPECTED: dict[str, tuple[str | None, list[str]]] = {
    "pdf": ("Fire drill", ["# Where to meet", "Leave by the north stairs.",
                           "# 消防演习", "请从北侧楼梯离开。"]),
    "docx": ("Staff handbook", ["# Holidays", "## 休假制度", "每年享有三十天假期", "| Norway | 25 |"]),
    "pptx": ("Plan for the year", ["## Roadmap", "Second half: sync", "| Q2 | 1500 |",
                                   "**Speaker notes:** Say that the budget", "请强调"]),
    "docm": ("Staff handbook", ["# Holidays", "| Norway | 25 |"]),
    "pptm": ("Plan for the year", ["## Roadmap", "| Q2 | 1500 |"]),
    "ppsx": ("Plan for the year", ["## Roadmap", "| Q2 | 1500 |"]),
    "xlsx": (None, ["## Prices", "| Lamp | 12.5 |", "## 库存", "| 桌子 | 7 |"]),
    "xlsm": (None, ["## Prices", "| Lamp | 12.5 |"]),
    "xls": (None, ["## Prices", "| Lamp | 12.5 | 2024-02-05 |", "## 库存", "| 桌子 | 7 |"]),
    "ods": ("Workshop", ["## Prices", "| Article | Price |", "| Lamp | 12.5 |", "| Chair | 80 |"]),
    "odt": ("Workshop", ["# Workshop rules", "Wear goggles", "| Tool | Room |", "| Drill | B12 |"]),
    "odp": ("Workshop", ["## Roadmap", "Second half: sync", "**Speaker notes:** Say it slowly", "- 谢谢"]),
    "epub": ("Tales of the coast", ["# The lighthouse", "lit the lamp at dusk",
                                      "# 第二章", "| Aurora | three |"]),
    "html": ("Door codes", ["# How to open the door", "wait for the porter", "| Grace | Admiral |"]),
    "htm": ("Door codes", ["按两次铃。"]),
    "xhtml": ("Door codes", ["Läuten Sie zweimal."]),
    "rtf": ("Boiler notes", ["The boiler is in the cellar.", "Zürich", "| Pump | West |"]),
    "eml": ("Liefertermin für 灯具", ["# Liefertermin für 灯具", "From: Ada Lovelace",
                                 "Date: Mon, 05 Feb 2024",
                                 "灯具星期五送到", "Lieferschein.pdf"]),
    "mbox": (None, ["# Liefertermin für 灯具", "灯具星期五送到", "# Lunch", "At noon."]),
    "mhtml": ("Door codes", ["# How to open the door", "wait for the porter", "| Grace | Admiral |"]),
    "mht": ("Door codes", ["按两次铃。"]),
    "ics": ("Team", ["## Sommerfest, garden", "Start: 2026-06-01 18:30", "Location: Höfe; north",
                     "Attendees: Ada <ada@x.org>, bob@x.org", "Bring\nsalad"]),
    "vcf": (None, ["## Grace Hopper", "Organization: Navy, Research", "Phone: +1 555", "Compilers, 编译器",
                   "## Ada Lovelace", "Größe"]),
    "canvas": (None, ["Start here", "## Plans", "### Roadmap", "notes/todo.md Next", "depends on"]),
    "ipynb": ("Sales forecast", ["# Sales forecast", "```python\nimport numpy", "slope 0.37"]),
}  # fmt: skip
NOISE = ("Home link", "hidden", "color")
"""In the HTML page: its menu, hidden text, and its style."""


@pytest.mark.parametrize("extension", sorted(DOCUMENTS))
def test_headings_tables_notes_and_text_are_kept(parser, extension):
    title, parts = EXPECTED[extension]
    parsed = parser.parse(f"x.{extension.upper()}", BytesBody(SAMPLES[extension]))
    assert parsed.title == title
    for expected in parts:
        assert expected in parsed.text
    assert not any(word in parsed.text for word in NOISE)
    assert parsed.flavour is Flavour.MARKDOWN
    assert not parsed.has_lines


def test_title_generated_by_a_program_is_ignored(parser):
    assert parser.parse("x.pptx", BytesBody(samples.pptx(title="PowerPoint Presentation"))).title == "Roadmap"


@pytest.mark.parametrize(
    ("extension", "raw", "first_lines"),
    [
        (
            "pdf",
            samples.pdf([["One", "first"], ["Two"], [], ["Four", "last"]]),
            ["# One", "# Two", "# Four", "# Four"],
        ),
        ("pptx", SAMPLES["pptx"], ["## Roadmap", "## Figures", "## Thanks"]),
        ("odp", SAMPLES["odp"], ["## Roadmap", "## Slide 2"]),
    ],
)
def test_pages_and_slides_are_ordered_and_start_at_their_text(parser, extension, raw, first_lines):
    parsed = parser.parse(f"x.{extension}", BytesBody(raw))
    assert [parsed.text[start:].split("\n")[0] for start in parsed.page_starts] == first_lines


def test_words_in_slide_groups_and_charts_are_found(parser):
    group = "<p:grpSp><p:nvGrpSpPr/><p:grpSpPr/>" + samples.shape(5, "inside a group") + "</p:grpSp>"
    assert "inside a group" in text_of(parser, "pptx", samples.pptx([(group, "")]))


def test_entities_and_tabs_in_word_are_kept(parser):
    paragraph = samples.docx_paragraph(
        "R&amp;D list&lt;int&gt; &quot;x&quot; &#228;&#x4E2D; snake_case *star*"
    )
    tabbed = "<w:p><w:r><w:t>Name:</w:t><w:tab/><w:t>Ada</w:t></w:r></w:p>"
    text = text_of(parser, "docx", samples.docx(paragraph + tabbed, title="Q&amp;A"))
    assert text == 'R&D list<int> "x" ä中 snake_case *star*\n\nName: Ada'
    assert parser.parse("x.docx", BytesBody(samples.docx(paragraph, title="Q&amp;A"))).title == "Q&A"


@pytest.mark.parametrize("extension", ["odt", "xlsx", "epub", "pptx"])
def test_entities_are_kept_in_other_formats(parser, extension):
    words = "R&amp;D list&lt;int&gt; snake_case"
    built = {
        "odt": samples.odt(f"<text:p>{words}</text:p>"),
        "xlsx": samples.xlsx({"S": [[words, 1]]}),
        "epub": samples.epub([f"<p>{words}</p>"]),
        "pptx": samples.pptx([(samples.shape(2, words), "")]),
    }
    assert "R&D list<int> snake_case" in text_of(parser, extension, built[extension])


def test_empty_sheet_rows_are_excluded(parser):
    sheet = samples.xlsx({"S": [["", ""], ["a", 1], ["", ""], ["", ""], ["b", 2]]})
    assert text_of(parser, "xlsx", sheet) == "## S\n\n| a | 1 |\n| --- | --- |\n| b | 2 |"


@pytest.mark.parametrize("extension", ["html", "epub", "eml"])
def test_deeply_nested_text_is_found(parser, extension):
    deep = "<div>" * 3000 + "<p>at the bottom</p>" + "</div>" * 3000
    mail = b"Subject: x\nContent-Type: text/html\n\n" + deep.encode()
    built = {"html": deep.encode(), "epub": samples.epub([deep]), "eml": mail}
    assert "at the bottom" in text_of(parser, extension, built[extension])


HTML_CASES = [
    ("<ul><li>one<ul><li>two</ul><li>three</ul>", "- one\n  - two\n- three"),
    ("<ol><li>a<li>b</ol>", "1. a\n2. b"),
    ("<pre>x_y = 1\n  z</pre>", "```\nx_y = 1\n  z\n```"),
    ("<p>a<br>b <b>c</b>d", "a b cd"),
    ('<a href="https://x.org/p">page</a> <a href="#top">up</a>', "[page](https://x.org/p) up"),
    ('<img src="data:image/png;base64,AAAA" alt="a cat">', "a cat"),
    (
        "<table><caption>Cap<tr><td>a<td>b|c<tr><td>1<td>2</table>",
        "Cap\n\n| a | b\\|c |\n| --- | --- |\n| 1 | 2 |",
    ),
    (
        "<table><tr><td><h1>Layout</h1><table><tr><td>x<td>y</table></table>",
        "# Layout\n\n| x | y |\n| --- | --- |",
    ),
    ("<nav>never closed <p>text</p>", "never closed\n\ntext"),
    ("<div><nav>menu</div><main>text</main>", "text"),
    ("<div><div><nav><ul><li>menu</div></div><p>text", "text"),
    ("<nav>menu<main>text</main>", "text"),
    ("<nav><div>menu</div><p>more</p></nav>text", "text"),
    ("<nav><nav>menu</nav> more</nav>text", "text"),
    ("<p>before<nav>never closed<p>text", "before\n\nnever closed\n\ntext"),
    ("<section><template>form</section>text", "text"),
    ("<p>before <object>never closed<p>text", "before never closed\n\ntext"),
    ("<table><tr><td><nav>menu</td><td>text</td></tr></table>", "|  | text |\n| --- | --- |"),
    ("<ul><li><nav>menu<li>text</ul>", "- text"),
    ("<p>text</p><svg><g><text>label</text></svg><p>more", "text\n\nmore"),
    ("<p>text</p><script>var a = '</div>' + '<p>'</script><p>more", "text\n\nmore"),
    ("before<script>if (a < b) {}</script>after", "beforeafter"),
    ("before<SCRIPT>a()</script language='x'>after<style>b</Style\n/>end", "beforeafterend"),
    ("a &amp; b &lt;c&gt; &#228; &unknown;", "a & b <c> ä &unknown;"),
    ("plain words only", "plain words only"),
    ("<button>A</button><button>B</button>C", "A B C"),
    ("<label>Name<input></label><label>Age</label><textarea>none</textarea>years", "Name Age none years"),
    ('<input type="submit" value="Save">now', "Save now"),
    ("<span>snow</span><b>ball</b>", "snowball"),
    (
        "<p># restart nginx<p>|| true<p>#hash<h2># of items</h2><li># one",
        "\\# restart nginx\n\n\\|| true\n\n#hash\n\n## # of items\n\n- # one",
    ),
    (
        "<table><tr><td># of items<td>| a<tr><td>1<td>2</table>",
        "| # of items | \\| a |\n| --- | --- |\n| 1 | 2 |",
    ),
    (
        "Kepler<sup>1</sup>, <b>Tycho</b><sup> *</sup> and Galileo<i><sup>2,3</sup></i>",
        "Kepler 1, Tycho * and Galileo 2,3",
    ),
    (
        'Brahe<a href="#n2"><sup>2</sup></a> ate<sup><a href="#n3">3</a></sup>, 1571<sup><a>iv</a></sup>',
        "Brahe 2 ate 3, 1571 iv",
    ),
    (
        'Brahe<a href="notes.html#n2">2</a> and step<a href="#s">ping stones</a>',
        "Brahe 2 and stepping stones",
    ),
    (
        "m<sup>2</sup> 10<sup>5</sup> H<sub>2</sub>O 1<sup>st</sup> Kelly<sup>TM</sup> word<sub>1</sub>",
        "m2 105 H2O 1st KellyTM word1",
    ),
    ('<a href="/b">an area of 20 m<sup>2</sup></a>', "an area of 20 m2"),
    ("<p>Kepler<sup></sup><sup>1", "Kepler1"),
    ("<ruby>山路<rp>(</rp><rt>やまみち</rt></ruby>を<ruby>登<rt>のぼ</ruby>りながら", "山路を登りながら"),
    ("<p>a<![if !IE]>b<![endif]><![unknown[c]]>d", "abd"),
    ("<p>5 < 6, no tag", "5 < 6, no tag"),
    ("<p>kept<!-- lost --> <!-- never closed", "kept never closed"),
    ("<p>one\x0btwo</p><p>one\x0ctwo", "one two\n\none two"),
    ("<ol start=5><li>e<li value=9>i<li>j</ol><ol start=-1><li value=x>a</ol>", "5. e\n9. i\n10. j\n1. a"),
    ('<h1>Bells<a class="headerlink" href="#bells">¶</a></h1><h2>C#<a href="#c">#</a>', "# Bells\n\n## C#"),
    ('<p>Mark <a href="p.html#n">§</a>all <a href="/hash">#</a>', "Mark all #"),
    (
        "<math><semantics><mi>E</mi><annotation encoding='application/x-tex'>\\frac</annotation></math> mass",
        "E mass",
    ),
    ("<p>a<iframe srcdoc='<nav>x</nav><h2>b</h2><p>c &amp;amp; d'>old</iframe>e", "a\n\n## b\n\nc & d\n\ne"),
    ("<div hidden><iframe srcdoc='<p>x'></iframe></div><iframe hidden srcdoc='<p>x'></iframe>text", "text"),
    ("<iframe srcdoc='a<iframe srcdoc=b></iframe>'></iframe>text", "a\n\ntext"),
    (
        "<span class=katex><span class=katex-mathml><math><mi>k</mi></math></span><span aria-hidden=true>k",
        "k",
    ),
]


@pytest.mark.parametrize(("page", "text"), HTML_CASES)
def test_html_becomes_markdown(parser, page, text):
    assert text_of(parser, "html", page.encode()) == text


HIDDEN = [
    ("<div hidden>x<div>y</div></div>text", "text"),
    ("<p hidden>x<p>text", "text"),
    ("<p>text <span style='Color: red; display : none !important'>x<span>y</span>z</span>more", "text more"),
    ("<ul><li hidden>x<li>text</ul>", "- text"),
    (
        "<table><tr><td>a<td style=display:none>b<td>c<tr hidden><td>x</tr><tbody hidden><tr><td>y</table>",
        "| a | c |\n| --- | --- |",
    ),
    ("<p>text<img hidden alt='x'><hr hidden><p>more", "text\n\nmore"),
    ("<aside hidden='hidden'/>text", "text"),
    ("<details><summary>More</summary><p>inside</details>", "More\n\ninside"),
    ("<div hidden='until-found'>text</div>", "text"),
    ("<p aria-hidden=true>text", "text"),
    ("<div role=tabpanel hidden>text</div><aside hidden id=note1>note</aside>", "text\n\nnote"),
    ("<body style='display:none'><p style='display:block;float:none'>text", "text"),
    ("<div hidden>the only text</div>", "the only text"),
    ("<p>before<div hidden>never closed<p>text", "before\n\nnever closed\n\ntext"),
]


@pytest.mark.parametrize(("page", "text"), HIDDEN)
def test_elements_that_nothing_reveals_are_hidden(parser, page, text):
    assert text_of(parser, "html", page.encode()) == text


SPANS = [
    ("<tr><td rowspan=2>Norway<td>Oslo<td>10<tr><td>Bergen<td>20",
     "| Norway | Oslo | 10 |\n| --- | --- | --- |\n| Norway | Bergen | 20 |"),
    ("<tr><th rowspan=2>Land<th colspan=2>Sales<tr><th>2025<th>2026<tr><td>Norway<td>1<td>2",
     "| Land | Sales |  |\n| --- | --- | --- |\n| Land | 2025 | 2026 |\n| Norway | 1 | 2 |"),
    ("<tr><td>a<td rowspan=3>b<tr><td>c<tr><td>d<tr><td>e<td>f",
     "| a | b |\n| --- | --- |\n| c | b |\n| d | b |\n| e | f |"),
    ("<tr><td rowspan=2 colspan=2>a<td>b<tr><td>c<tr><td>d<td>e<td>f",
     "| a |  | b |\n| --- | --- | --- |\n| a |  | c |\n| d | e | f |"),
    ("<tr><td rowspan=2>a<td>b<tr>", "| a | b |\n| --- | --- |"),
    ("<tr><td rowspan=0 colspan=-1>a<td colspan=x>b", "| a | b |\n| --- | --- |"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "text"), SPANS)
def test_cell_beside_several_rows_belongs_to_each(parser, rows, text):
    assert text_of(parser, "html", f"<table>{rows}</table>".encode()) == text


@pytest.mark.parametrize(
    ("span", "rows"),
    [
        (" rowspan=65534", "<tr>" + "<td{}>a" * 1_000 + "<tr><td>b" * 1_000),
        (" rowspan=65534", "<tr>" + "<td{}>a" * 10_000 + "<tr>" * 10_000),
        (" rowspan=9 colspan=99999", "<tr><td>x" + "<td{}>a" * 5_000),
    ],
)
def test_spans_that_add_too_many_cells_have_no_effect(span, rows):
    texts = [read_html(f"<table>{rows.replace('{}', attributes)}</table>").text for attributes in (span, "")]
    assert texts[0] == texts[1]


ENDLESS = ("<!--", "<![CDATA[", "<?", "<!x", "</a ", "<a b='", "<a ", "<!--x--!>", "<")


@pytest.mark.parametrize("opening", ENDLESS)
def test_unclosed_tags_take_linear_time(opening):
    started = time.process_time()
    read_html(opening * (400_000 // len(opening)) + "the end")
    assert time.process_time() - started < 5


@long
def test_long_list_is_read_in_linear_time() -> None:
    assert_linear(lambda count: read_html(f"<ul>{'<li>item' * count}</ul>"), 20_000)
    text = read_html("<ul><li>one<ul><li>two<li>three</ul><li>four<pre>five</pre><li>six</ul>").text
    assert text == "- one\n  - two\n  - three\n- four\n\n```\nfive\n```\n\n- six"


@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "big5hkscs", "iso-2022-jp"])
@pytest.mark.parametrize("as_html", [False, True])
def test_mail_is_read_in_any_charset(parser, charset, as_html):
    text = "会議は金曜日です" if charset == "iso-2022-jp" else "星期五開會"
    kind = "html" if as_html else "plain"
    body = f"<p>{text}</p>" if as_html else text
    head = f"From: a@b.c\nSubject: x\nContent-Type: text/{kind}; charset={charset}\n\n".encode()
    assert text in text_of(parser, "eml", head + body.encode(charset))


def test_mail_with_two_alternatives_is_read_once(parser):
    head = b"Subject: x\nContent-Type: multipart/alternative; boundary=B\n\n"
    plain = b"--B\nContent-Type: text/plain\n\nthe words\n"
    rich = b"--B\nContent-Type: text/html\n\n<p>the words</p>\n--B--\n"
    assert text_of(parser, "eml", head + plain + rich).count("the words") == 1
    assert "the words" in text_of(parser, "eml", head + rich)


def alternative(*versions: tuple[str, str]) -> bytes:
    """Return a message of the same text in several versions of (kind, text)."""
    parts = "".join(f"--B\nContent-Type: text/{kind}\n\n{text}\n" for kind, text in versions)
    return f"Subject: x\nContent-Type: multipart/alternative; boundary=B\n\n{parts}--B--\n".encode()


STUB = "Your mail program does not show HTML. View this mail online: https://news.example/1"
FESTIVAL = "The rambutan festival takes place on Friday in the town hall. Bring your friends and family."
INVITATION = (
    "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Review\nLOCATION:Room Tamarind\nEND:VEVENT\nEND:VCALENDAR"
)


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        ([("plain", STUB), ("html", f"<p>{FESTIVAL}")], FESTIVAL),
        ([("plain", FESTIVAL), ("html", "<p>No pictures?")], FESTIVAL),
        ([("plain", FESTIVAL), ("html", f"<h2>{FESTIVAL} <a href='https://x.org/1'>More</a>")], FESTIVAL),
        ([("plain", " "), ("html", "<p>No pictures?")], "No pictures?"),
        (
            [("plain", "Please join."), ("calendar", INVITATION)],
            "Please join.\n\n## Review\n\nLocation: Room Tamarind",
        ),
        (
            [("plain", STUB), ("html", f"<p>{FESTIVAL}"), ("calendar", INVITATION)],
            f"{FESTIVAL}\n\n## Review\n\nLocation: Room Tamarind",
        ),
        ([("plain", STUB), ("html", f"<p>{FESTIVAL}"), ("x-amp-html", "<amp-list>")], FESTIVAL),
        ([("plain", "Please join."), ("calendar", "damaged")], "Please join.\n\ndamaged"),
    ],
)
def test_version_of_a_mail_that_says_most_is_read_with_its_invitation(parser, versions, text):
    assert text_of(parser, "eml", alternative(*versions)) == f"# x\n\n{text}"


def test_invitation_that_is_also_attached_is_read_once(parser):
    inner = alternative(("plain", "Please join."), ("calendar", INVITATION)).partition(b"\n")[2]
    inner = inner.replace(b"=B", b"=C").replace(b"--B", b"--C")
    raw = mail_with(inner, attached("invite.ics", INVITATION.replace("\n", "\r\n").encode()))
    assert text_of(parser, "eml", raw).count("Room Tamarind") == 1
    other = attached("other.ics", INVITATION.replace("Review", "Party").encode())
    assert text_of(parser, "eml", mail_with(inner, other)).count("Room Tamarind") == 2


@pytest.mark.parametrize(
    ("parameters", "body", "text"),
    [
        (
            "format=flowed; delsp=yes",
            "这是一个很长的段 \r\n落应该连在一起\r\n下一段",
            "这是一个很长的段落应该连在一起\n下一段",
        ),
        (
            "Format=Flowed",
            "one \ntwo\n three\n\n> a \n>b\n>> c \n-- \nAda",
            "one two\nthree\n\n> a b\n>> c \n-- \nAda",
        ),
        ("format=fixed", "one \ntwo", "one \ntwo"),
    ],
)
def test_lines_that_a_mail_program_broke_are_joined(parser, parameters, body, text):
    head = f"Subject: x\nContent-Type: text/plain; charset=utf-8; {parameters}\n\n"
    assert text_of(parser, "eml", (head + body).encode()) == f"# x\n\n{text}"


def test_plain_mail_that_looks_like_markdown_has_no_headings(parser):
    script = b"As root:\n# restart nginx\n```\n#5"
    raw = mail_with(b"\n" + script, attached("a.txt", script))
    text = text_of(parser, "eml", raw)
    assert text.count("As root:\n\\# restart nginx\n\\```\n#5") == 2
    assert [line for line in text.split("\n") if line.startswith("# ")] == ["# Files"]


def test_reason_why_a_mail_was_not_delivered_is_read(parser):
    parts = (
        "text/plain\n\nNot delivered.",
        "message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        "Final-Recipient: rfc822; ada@x.example\nDiagnostic-Code: smtp; 550 no such user",
        "message/rfc822\n\nSubject: Lamp oil\n\nTwo barrels, please.",
    )
    body = "".join(f"--B\nContent-Type: {part}\n" for part in parts)
    raw = f"Subject: x\nContent-Type: multipart/report; boundary=B\n\n{body}--B--\n"
    status = "Final-Recipient: rfc822; ada@x.example\nDiagnostic-Code: smtp; 550 no such user"
    expected = f"# x\n\nNot delivered.\n\nReporting-MTA: dns; mx.example\n\n{status}\n\n## Lamp oil"
    assert text_of(parser, "eml", raw.encode()) == f"{expected}\n\nTwo barrels, please."
    explained = raw.replace("text/plain", "message/delivery-status")  # as from some gateways
    assert explained != raw and "Not delivered.\n\nReporting" in text_of(parser, "eml", explained.encode())


def test_message_inside_another_is_read_even_if_encoded_as_a_whole(parser):
    inner = base64.encodebytes(b"Subject: Lamp oil\n\nTwo barrels, please.")
    about = b"Subject: x\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
    assert text_of(parser, "eml", about + inner) == "# x\n\n## Lamp oil\n\nTwo barrels, please."


def test_forwarded_mail_is_read_too(parser):
    inner = b"Subject: inner\n\nforwarded words\n"
    raw = b"Subject: x\nContent-Type: message/rfc822\n\n" + inner
    assert "forwarded words" in text_of(parser, "eml", raw)


def attached(name: str, content: bytes) -> bytes:
    """Return the part of a message that contains a file."""
    head = f'Content-Disposition: attachment; filename="{name}"\nContent-Transfer-Encoding: base64\n\n'
    return head.encode() + base64.b64encode(content)


def mail_with(*parts: bytes) -> bytes:
    return b"Subject: Files\nContent-Type: multipart/mixed; boundary=B\n\n" + b"".join(
        b"--B\n" + part + b"\n" for part in (b"\nSee below.", *parts)
    )


def test_attachments_are_parsed_by_format_under_their_names(parser):
    raw = mail_with(
        attached("Plan.docx", SAMPLES["docx"]), attached("a.csv", b"x,y"), attached("b.txt", b"words")
    )
    text = text_of(parser, "eml", raw)
    for expected in (
        "Attachments: Plan.docx, a.csv, b.txt", "## Plan.docx\n\n### Holidays\n\n", "#### 休假制度",
        "| Norway | 25 |", "## a.csv\n\n```\nx,y\n```", "## b.txt\n\nwords",
    ):  # fmt: skip
        assert expected in text
    assert text.startswith("# Files\n\nSee below.\n\nAttachments: ")


@long
def test_unreadable_attachment_leaves_the_rest_of_the_mail_intact(parser):
    bomb = samples.zip_bomb(SAMPLES["docx"], "word/document.xml", 64 << 20)
    raw = mail_with(
        attached("a.docx", bomb),
        attached("b.pdf", b"junk"),
        attached("c.bin", b"x"),
        attached("d.md", b"# D"),
    )
    expected = "# Files\n\nSee below.\n\nAttachments: a.docx, b.pdf, c.bin, d.md\n\n## d.md\n\n### D"
    assert text_of(parser, "eml", raw) == expected


def test_slow_attachment_leaves_the_rest_of_the_mail_intact(monkeypatch):
    monkeypatch.setattr(mail, "MAX_SECONDS", 0.05)
    raw = mail_with(attached("a.txt", b"words"), attached("slow.html", b"<div>x" * 200_000))
    text = mail.read_eml(raw).text
    assert text == "# Files\n\nSee below.\n\nAttachments: a.txt, slow.html\n\n## a.txt\n\nwords"
    assert signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL


def test_nested_messages_are_read_with_their_subjects_to_a_limited_depth(parser):
    raw = samples.mail("level 9", b"innermost")
    for level in range(8, 0, -1):
        raw = f"Subject: level {level}\nContent-Type: message/rfc822\n\n".encode() + raw
    text = text_of(parser, "eml", raw)
    assert "# level 1" in text and "## level 2" in text and text.endswith("innermost")
    raw = samples.mail("level 9", b"innermost")
    for level in range(8, 0, -1):
        raw = mail_with(attached(f"{level}.eml", raw))
    text = text_of(parser, "eml", raw)
    assert "## 1.eml" in text and "#### 2.eml" in text and "innermost" not in text


def test_every_message_of_an_attached_mailbox_is_decoded(parser):
    encoded = b"Subject: B\nContent-Transfer-Encoding: base64\n\n" + base64.b64encode(b"at noon")
    mailbox = samples.mailbox(samples.mail("A", b"lunch"), encoded)
    text = text_of(parser, "eml", mail_with(attached("old.mbox", mailbox)))
    assert text.endswith("## old.mbox\n\n### A\n\nlunch\n\n### B\n\nat noon")


def test_line_starting_with_from_does_not_split_a_mailbox_message(parser):
    body = b"Dear all,\n\nFrom now on we meet at noon.\n\n>From there we walk."
    text = text_of(parser, "mbox", samples.mailbox(samples.mail("A", body), samples.mail("B", b"b")))
    assert text == "# A\n\nDear all,\n\nFrom now on we meet at noon.\n\nFrom there we walk.\n\n# B\n\nb"
    body = b"Dear all,\n\nFrom May on, these are closed.\nNote: the lift, too.\n\nA."
    text = text_of(parser, "mbox", samples.mailbox(samples.mail("A", body)))
    assert text == "# A\n\nDear all,\n\nFrom May on, these are closed.\nNote: the lift, too.\n\nA."


def test_sentence_with_a_time_does_not_split_a_mailbox_message(parser):
    body = b"Dear all,\n\nFrom the log of Mon Feb  5 10:11 on, these fail.\n\nA."
    text = text_of(parser, "mbox", samples.mailbox(samples.mail("A", body)))
    assert text == f"# A\n\n{body.decode()}"


@pytest.mark.parametrize(
    "moment",
    [
        "Mon Feb 05 10:11:12 2024",
        "Mon Feb  5 10:11 2024",
        "Mon Feb  5 10:11:12 +0000 2024",
        "Mon Feb  5 10:11:12 MEZ 2024",
        "Mon Feb  5 10:11:12 2024 +0100",
        "Mon Feb  5 10:11:12 2024 remote from example",
    ],
)
def test_mailbox_is_split_at_dates_in_each_notation(parser, moment):
    box = b"From: a\nSubject: A\n\nlunch\n\nFrom - " + moment.encode() + b"\nX-Odd: 1\n\nNo headers."
    assert text_of(parser, "mbox", box) == "# A\n\nFrom: a\n\nlunch\n\nNo headers."


def test_mailbox_message_without_the_usual_headers_is_read(parser):
    odd = b"X-Mozilla-Status: 0001\nContent-Type: text/plain\n\nThe kettle is broken."
    text = text_of(parser, "mbox", samples.mailbox(odd, samples.mail("A", b"lunch"), odd, b"\nNo headers."))
    assert text == "The kettle is broken.\n\n# A\n\nlunch\n\nThe kettle is broken.\n\nNo headers."


@pytest.mark.parametrize("charset", ["idna", "undefined", "base64", "utf-99"])
def test_mail_with_an_impossible_charset_is_read(parser, charset):
    mail = samples.mail("Lamps", "größer".encode(), f"text/plain; charset={charset}")
    assert text_of(parser, "eml", mail) == "# Lamps\n\ngrößer"
    assert text_of(parser, "mbox", samples.mailbox(mail)) == "# Lamps\n\ngrößer"


def test_mailbox_with_a_binary_text_part_is_read_without_it(parser):
    noise = bytes(range(256)) * 4
    odd = b"Subject: Noon\x01\x02\x03\n\nLunch."
    parts = b"--B\nContent-Type: text/vcard\n\n" + noise + b"\n--B\n\nSee you.\n--B--"
    card = b"Subject: B\nContent-Type: multipart/mixed; boundary=B\n\n" + parts
    box = samples.mailbox(samples.mail("A", noise), card, odd)
    assert text_of(parser, "mbox", box) == "# A\n\n# B\n\nSee you.\n\n# Noon\n\nLunch."


def test_mail_that_begins_with_a_byte_order_mark_is_read(parser):
    mail = samples.mail("Lamps", "größer".encode())
    assert text_of(parser, "eml", b"\xef\xbb\xbf" + mail) == "# Lamps\n\ngrößer"
    assert text_of(parser, "mbox", b"\xef\xbb\xbf" + samples.mailbox(mail)) == "# Lamps\n\ngrößer"


def test_web_page_in_a_calendar_does_not_declare_the_calendars_encoding(parser):
    page = "X-ALT-DESC:<html><head><meta charset=utf-8></head><p>Our meeting of the week</p></html>"
    event = f"BEGIN:VEVENT\nSUMMARY:Größe für Müller\n{page}\n{page}\n{page}\nEND:VEVENT"
    raw = f"BEGIN:VCALENDAR\n{event}\nEND:VCALENDAR".encode("cp1252")
    assert text_of(parser, "ics", raw) == "## Größe für Müller"


@pytest.mark.parametrize("size", range(20, 26))
def test_folded_calendar_lines_may_break_inside_a_character(parser, size):
    """A program that counts bytes breaks lines there."""
    event = "BEGIN:VEVENT\nSUMMARY:上海项目启动会议请大家准时参加\nEND:VEVENT"
    calendar = f"BEGIN:VCALENDAR\n{event}\nEND:VCALENDAR".encode()
    folded = [
        b"\r\n ".join(line[at : at + size] for at in range(0, len(line), size))
        for line in calendar.split(b"\n")
    ]
    raw = b"\r\n".join(folded)
    assert text_of(parser, "ics", raw) == "## 上海项目启动会议请大家准时参加"
    headers = b"Subject: A\r\nContent-Type: text/calendar; charset=utf-8\r\n\r\n"
    assert text_of(parser, "eml", headers + raw) == "# A\n\n## 上海项目启动会议请大家准时参加"
    contact = (
        raw.replace(b"BEGIN:VEVENT", b"BEGIN:VCARD").replace(b"SUMMARY", b"FN").replace(b"VEVENT", b"VCARD")
    )
    assert text_of(parser, "vcf", contact) == "## 上海项目启动会议请大家准时参加"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("NOTE;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:Gr=C3=B6=\n=C3=9Fe", "Größe"),
        ("item1.TEL;TYPE=cell:+49 1", "Phone: +49 1"),
        ('ORG;X="a:b;c":Navy', "Organization: Navy"),
        ("NOTE:one\\, two\\\\three\\nfour", "one, two\\three\nfour"),
        ("NOTE:long li\n ne", "long line"),
        ("PHOTO;ENCODING=b:AAAA\nTITLE:Dr", "Title: Dr"),
    ],
)
def test_contact_fields_become_words(parser, line, text):
    assert text_of(parser, "vcf", f"BEGIN:VCARD\nFN:A\n{line}\nEND:VCARD".encode()) == f"## A\n\n{text}"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ("CHARSET=UTF-8:张;伟;;;", "张伟"),
        ("X=1:佐々木;小次郎", "佐々木小次郎"),
        ("X=1:김;철수", "김철수"),
        ("X=1:张;;;;", "张"),
        ("X=1:张;Wei", "Wei 张"),
        ("X=1:Hopper;Grace;M.;Dr.;", "Grace M. Dr. Hopper"),
    ],
)
def test_contact_without_a_full_name_is_named_in_its_languages_order(parser, fields, name):
    raw = f"BEGIN:VCARD\nN;{fields}\nTEL:1\nEND:VCARD".encode()
    assert text_of(parser, "vcf", raw) == f"## {name}\n\nPhone: 1"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"text/plain": "   a\n0  1", "text/html": "<table><td>1</table>"}, "   a\n0  1"),
        (
            {"text/plain": "<IPython.core.display.HTML object>", "text/html": ["<p>Ring <b>twice</b>"]},
            "Ring twice",
        ),
        (
            {"text/plain": "<IPython.core.display.Markdown object>", "text/markdown": "**Ring** twice"},
            "**Ring** twice",
        ),
        ({"text/plain": "<Figure size 640x480 with 1 Axes>", "image/png": "iVBO"}, ""),
        ({"text/latex": "$x^2$", "text/html": "<i>x</i>"}, "$x^2$"),
        ({"text/plain": "<Bell at 0x7f>"}, "<Bell at 0x7f>"),
        ({"text/plain": "<b>", "image/png": "iVBO", "text/html": None}, ""),
    ],
)
def test_notebook_outputs_are_read_as_the_browser_shows_them(parser, data, text):
    outputs = [{"output_type": "display_data", "data": data}]
    cells = [{"cell_type": "markdown", "source": "Bells"}, {"cell_type": "code", "outputs": outputs}]
    raw = json.dumps({"cells": cells, "metadata": {}}).encode()
    assert text_of(parser, "ipynb", raw) == (f"Bells\n\n```\n{text.strip()}\n```" if text else "Bells")


def test_long_notebook_outputs_are_truncated(parser):
    output = '{"output_type": "stream", "text": "first' + "9" * 100_000 + ' last"}'
    output += ', {"output_type": "error", "ename": "ValueError", "evalue": "no rows"}'
    raw = '{"cells": [{"cell_type": "code", "source": "run()", "outputs": [' + output + "]}]}"
    text = text_of(parser, "ipynb", raw.encode())
    assert 4000 < len(text) < 4200
    assert "first99" in text and " …\n9" in text and text.endswith("99 last\nValueError: no rows\n```")


REFUSED: list[tuple[str, bytes, str, str]] = [
    ("pptx", samples.pptx([(samples.PICTURE, ""), (samples.PICTURE, "")]), "scanned", "OCR"),
    (
        "docx",
        samples.with_part(samples.docx("<w:p/>"), "word/media/image1.png", samples.PNG),
        "scanned",
        "OCR",
    ),
    ("odt", samples.with_part(samples.odt("<text:p/>"), "Pictures/1.png", samples.PNG), "scanned", "OCR"),
    (
        "epub",
        samples.with_part(samples.epub(["<img src='p.jpg'/>"]), "OEBPS/p.jpg", samples.PNG),
        "scanned",
        "OCR",
    ),
    ("pdf", samples.pdf([[]]), "no-text", "no text found"),
    ("docx", samples.docx("<w:p/>"), "no-text", "no text found"),
    ("pptx", samples.pptx([("", "")]), "no-text", "no text found"),
    ("odt", samples.odt("<text:p/>"), "no-text", "no text found"),
    ("xlsx", samples.xlsx({}), "no-text", "no text found"),
    ("epub", samples.epub(["<p> </p>"]), "no-text", "no text found"),
    ("html", b"<html><body> <script>x</script></body></html>", "no-text", "no text found"),
    ("rtf", b"{\\rtf1 }", "no-text", "no text found"),
    ("ipynb", b'{"cells": []}', "no-text", "no text found"),
    ("canvas", b'{"nodes": []}', "no-text", "no text found"),
    ("ics", b"BEGIN:VCALENDAR\nEND:VCALENDAR", "no-text", "no text found"),
    *((extension, b"", "no-text", "no text found") for extension in sorted(DOCUMENTS)),
    ("pdf", samples.sample("password.pdf"), "encrypted", "password"),
    *(
        (extension, samples.encrypted_office(), "encrypted", "password")
        for extension in ("docx", "pptx", "xlsx")
    ),
    ("odt", samples.encrypted_odt(), "encrypted", "password"),
    ("docx", bytes.fromhex("D0CF11E0A1B11AE1") + bytes(3000), "damaged", "old Office format"),
]


@pytest.mark.parametrize(("extension", "raw", "code", "words"), REFUSED)
def test_unreadable_document_is_refused_with_its_cause(parser, extension, raw, code, words):
    refusal = rejected(parser, extension, raw)
    assert (refusal.code, words in refusal.reason) == (code, True)
    assert refusal.reason.startswith("no text found") == (code in ("scanned", "no-text"))
    assert ("OCR" in refusal.reason) == (code == "scanned")


STRICT = (
    *("docx", "pptx", "xlsx", "odt", "epub", "pdf", "ipynb", "rtf", "eml", "mbox", "mhtml", "ics", "vcf"),
    "canvas",
)


@pytest.mark.parametrize("extension", STRICT)
@pytest.mark.parametrize(
    "junk", [b"\x00" * 200, bytes(range(256)) * 20, b"just words", b"PK\x03\x04" + b"\xff" * 100]
)
def test_garbage_is_rejected_with_a_message(parser, extension, junk):
    assert rejected(parser, extension, junk).code in ("damaged", "binary", "no-text")


def test_document_without_its_first_bytes_is_reported_in_plain_words(parser):
    reason = (
        "cannot be read: the archive is damaged or incomplete; "
        "open the document in the program that created it and save it again"
    )
    assert rejected(parser, "docx", samples.docx()[500:]).reason == reason


def test_damaged_pdf_is_reported_once_in_plain_words(parser):
    refusal = rejected(parser, "pdf", b"%PDF-1.4 and nothing more")
    message = (
        "cannot be read: the PDF is damaged; open the document in the program that created it and save it "
        "again"
    )
    assert (refusal.code, refusal.reason) == ("damaged", message)


MEDIA = [
    ("docx", "word/media/image1.bmp"),
    ("pptx", "ppt/media/image1.tiff"),
    ("xlsx", "xl/media/image1.emf"),
    ("odt", "Pictures/10000.bmp"),
    ("epub", "OEBPS/film.mp4"),
]


@long
@pytest.mark.parametrize(("extension", "part"), MEDIA)
def test_pictures_of_any_size_are_not_read(parser, extension, part):
    document = samples.zip_bomb(SAMPLES[extension], part, 32 << 20)
    assert text_of(parser, extension, document) == text_of(parser, extension, SAMPLES[extension])


@long
def test_text_with_a_picture_extension_does_not_bypass_the_limits(parser):
    parts = samples.parts_of(SAMPLES["pptx"])
    name = "ppt/_rels/presentation.xml.rels"
    slides = {part for part in parts if part.startswith("ppt/slides/slide")}
    aimed = {**parts, name: parts[name].replace(b"slides/slide1.xml", b"media/slide.png")}
    assert slides and aimed[name] != parts[name]
    bomb = samples.zip_bomb(samples.zipped(aimed), "ppt/media/slide.png", 32 << 20)
    assert rejected(parser, "pptx", bomb).code == "bomb"


def test_slide_comments_and_keywords_are_read(parser):
    parts = samples.parts_of(samples.pptx([(samples.shape(2, "words"), "")]))
    old = '<p:cmLst xmlns:p="x"><p:cm><p:text>too long</p:text></p:cm></p:cmLst>'
    new = '<c xmlns:a="y"><cm><txBody><a:p><a:r><a:t>and dull</a:t></a:r></a:p></txBody></cm></c>'
    parts |= {"ppt/comments/1.xml": old.encode(), "ppt/comments/2.xml": new.encode()}
    rows = (("r1", "comments", "../comments/1.xml"), ("r2", "comments", "../comments/2.xml"))
    parts["ppt/slides/_rels/slide1.xml.rels"] = samples.relations(*rows).encode()
    core = "docProps/core.xml"
    parts[core] = parts[core].replace(b"<dc:title>", b"<cp:keywords>lamps</cp:keywords><dc:title>")
    parsed = parser.parse("x.pptx", BytesBody(samples.zipped(parts)))
    assert parsed.text == "## Slide 1\n\nwords\n\n**Comment:** too long\n\n**Comment:** and dull"
    assert parsed.tags == ("lamps",)


def test_hidden_slide_is_read(parser):
    parts = samples.parts_of(samples.pptx([(samples.shape(2, "kept back"), "")]))
    name = "ppt/slides/slide1.xml"
    hidden = parts[name].replace(b"<p:sld ", b'<p:sld show="0" ')
    assert hidden != parts[name]
    assert "kept back" in text_of(parser, "pptx", samples.zipped({**parts, name: hidden}))
