"""Tests that rich texts give the text that a person sees, in any code page, and nothing else."""

from __future__ import annotations

import pytest

from kbsync.index.document import Parsed
from kbsync.index.fence.parser import Parser
from tests.targets.bodies import BytesBody

HEAD = rb"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial;}"
HEAD += rb"{\f2\fcharset134 SimSun;}}{\stylesheet{\s0 Normal;}{\s1\outlinelevel1 Mine;}"
HEAD += rb"{\s2 heading 3;}{\s3 toc 1;}}"


def read(parser: Parser, body: bytes) -> Parsed:
    return parser.parse("x.rtf", BytesBody(HEAD + body + b"}"))


ROW = rb"\trowd\cellx1\cellx2\pard\intbl %b\cell %b\cell\row "

TABLE = "| a | b |\n| --- | --- |\n"
SHAPE = rb"{\shp{\*\shpinst{\sp{\sn n}{\sv v}}{\shptxt in a box\par}}{\shprslt{\*\do in a box}}}"
COMMENT = rb"{\*\atnid A}{\*\atnauthor Ada}\chatn{\*\annotation{\*\atndate 9}why?}"
PAGE = rb"{\field{\*\fldinst PAGE}{\fldrslt 7}}"
LINK = rb'{\field{\*\fldinst{HYPERLINK "https://x.org/r"}}{\fldrslt{the rules}}}'

BODIES = [
    (rb"one\par two", "one\n\ntwo"),
    (rb"one\line two\tab three", "one\ntwo three"),
    (rb"a\~b\_c \{d\}\\", "a b-c {d}\\"),
    (rb"caf\'e9 \f1\'c4\'e0\f2\'d6\'d0\'b9\'fa\'87\'5c", "café Да中国嘰"),
    (rb"\u20013?\u-10179?\u-8704?\uc2\u233xx\uc0\u233 .", "中😀éé."),
    (rb"{\upr{old}{\*\ud new \u20013?}}", "new 中"),
    (rb"a\u8217\'92b", "a’b"),
    (rb"seen{\v hidden} and{\deleted gone} kept{\*\unknown x}{\pict 0102}", "seen and kept"),
    (rb"\pard\s1 Scope\par\pard text", "## Scope\n\ntext"),
    (rb"\pard\s2 Scope\par\pard\outlinelevel0 Top\par\pard\s3 Scope 1\par\pard x", "### Scope\n\n# Top\n\nx"),
    (ROW % (b"a", b"b") + ROW % (b"1", rb"x\par y") + rb"\pard end", f"{TABLE}| 1 | x y |\n\nend"),
    (rb"{\listtext\'b7\tab}\ls1 one\par{\listtext\'b7\tab}two\par", "- one\n- two"),
    (rb"{\pntext 1)\tab}one\par{\listtext 1.1\tab}\ilvl1 two\par", "1) one\n  1.1 two"),
    (rb"claim{\footnote \chftn source} goes on\par next", "claim goes on\n\n**Footnote:** source\n\nnext"),
    (b"x" + COMMENT, "x\n\n**Comment by Ada:** why?"),
    (b"x" + SHAPE, "x\n\nin a box"),
    (rb"{\header Us\par}{\headerr Us\par}{\footer Ada " + PAGE + b"}x", "Us\n\nx\n\nAda"),
    (LINK + b" apply", "[the rules](https://x.org/r) apply"),
    (rb"{\field{\*\fldinst{DATE}}{\fldrslt 7 May}}", "7 May"),
    (b"a{\\pict\\bin6 }}}{{{}b", "ab"),
    (b"a\r\nb\\\nc", "ab\n\nc"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), BODIES)
def test_rich_text_is_read_as_displayed(parser, body, text):
    assert read(parser, body).text == text


def test_title_and_keywords_are_read_and_text_after_the_end_is_not(parser):
    info = rb"{\info{\title Caf\'e9}{\author Ada}{\keywords red lamp; blue}}x"
    parsed = read(parser, info)
    assert (parsed.text, parsed.title, parsed.tags) == ("x", "Café", ("red lamp", "blue"))
    assert read(parser, rb"x} not this {").text == "x"
    assert parser.parse("x.rtf", BytesBody(rb"{\rtf1 {\b never closed")).text == "never closed"


def test_code_page_without_a_font_is_the_documents(parser):
    for page, raw, text in (
        (1251, rb"\'c4\'e0", "Да"),
        (936, b"\xd6\xd0", "中"),
        (65001, "ä中".encode(), "ä中"),
    ):
        assert parser.parse("x.rtf", BytesBody(rb"{\rtf1\ansicpg%d " % page + raw + b"}")).text == text
