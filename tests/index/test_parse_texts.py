from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.errors import Rejected
from kbsync.index.chunk import chunk
from kbsync.index.document import Flavour
from kbsync.index.fence import parser as parse
from kbsync.index.fence.parser import Bounds, Parser
from kbsync.index.read.formats import EXTENSIONS, NAMES, needs_parser
from kbsync.index.read.text import parse_text
from tests.share import long
from tests.targets.bodies import BytesBody

TEXTS = sorted(e for e in EXTENSIONS if not needs_parser(f"x.{e}"))


@pytest.mark.parametrize("extension", TEXTS)
def test_plain_texts_start_no_worker_and_write_nothing(tmp_path, extension):
    parser = Parser(tmp_path / "spool")
    text = (
        "WEBVTT\n\n00:01.000 --> 00:02.000\n窗口 window\n" if extension in ("vtt", "srt") else "窗口 window\n"
    )
    assert "窗口 window" in parser.parse(f"x.{extension}", BytesBody(text.encode("gb18030"))).text
    assert parser.pids() == []
    assert list(tmp_path.iterdir()) == []


MIB = 1024 * 1024
LONG = {
    "a.md": "---\ntitle: The plan\ntags: [red]\n---\n# Heading\n",
    "a.csv": "name,city\n",
    "a.srt": "1\n00:00:01,000 --> 00:00:02,000\n",
    "x/Makefile": "all:\n",
    "a.rst": "Title\n=====\n",
    "caf\udce9.txt": "",
}


@long
def test_long_text_is_parsed_in_the_sandbox_with_the_same_result(tmp_path, monkeypatch):
    short, fenced = Parser(tmp_path / "short"), Parser(tmp_path / "long")
    documents = {path: BytesBody((begin + "Ada,Rome\n" * 50).encode()) for path, begin in LONG.items()}
    expected = {path: short.parse(path, body) for path, body in documents.items()}
    monkeypatch.setattr(parse, "SHORT_TEXT", 10)
    try:
        assert {path: fenced.parse(path, body) for path, body in documents.items()} == expected
        with pytest.raises(Rejected, match="binary"):
            fenced.parse("a.txt", BytesBody(bytes(range(256)) * 9))
        assert (short.pids(), len(fenced.pids())) == ([], 1)
    finally:
        fenced.close()


@long
def test_text_using_too_much_memory_is_refused_and_the_next_is_read(tmp_path):
    parser = Parser(tmp_path / "spool", Bounds(60, 384 * MIB))
    try:
        with pytest.raises(Rejected, match="over 384 MiB of memory, the limit") as refusal:
            parser.parse("a.json", BytesBody(rb'"\u5907"' * (20 * MIB // 8)))
        assert refusal.value.code == "memory"
        assert parser.parse("a.txt", BytesBody(b"words " * (3 * MIB // 6))).text.startswith("words")
    finally:
        parser.close()


YAML = "---\ntitle: The plan\ntags: [red, blue]\nkeywords: sea, red\n---\n\n# Heading\ntext\n"
TOML = '+++\ntitle = "The plan"\ntags = ["red"]\n+++\ntext\n'


@pytest.mark.parametrize(
    ("path", "raw", "tags", "text", "offset"),
    [
        ("a.md", YAML, ("red", "blue", "sea"), "\n# Heading\ntext\n", 5),
        ("a.mdx", TOML, ("red",), "text\n", 4),
    ],
)
def test_front_matter_becomes_metadata(path, raw, tags, text, offset):
    parsed = parse_text(path, raw.encode())
    assert (parsed.title, parsed.tags, parsed.text, parsed.line_offset) == ("The plan", tags, text, offset)


def test_text_lines_match_file_lines():
    raw = "\ufeff---\r\ntitle: x\r\n---\r\none\r\ntwo\r\n".encode()
    parsed = parse_text("a.md", raw)
    assert (
        raw.decode("utf-8-sig").splitlines()[parsed.line_offset + parsed.text.splitlines().index("two")]
        == "two"
    )


@pytest.mark.parametrize(
    ("matter", "kept_lines"),
    [
        (
            "title: Coffee\ndescription: how to descale the machine",
            ["description: how to descale the machine"],
        ),
        ("Dear all: the office is closed on Friday", ["Dear all: the office is closed on Friday"]),
        ("author: Ada\naliases: [espresso]\ndraft: true", ["author: Ada", "aliases: [espresso]"]),
        (
            "summary: |\n  First descale,\n  then rinse.\nlayout: post",
            ["summary: |", "  First descale,", "  then rinse."],
        ),
        ("# a note to myself\nlayout: post\ndate: 2026-11-20 10:00:00 +0100\nweight: 10", []),
        ("client: Contoso\nproject:\n- apollo", ["client: Contoso", "project:", "- apollo"]),
        ("up: '[[Home]]'\nid: 3fa9\ndone: no\nrating: 4", ["up: 'Home'"]),
        (
            'contract_no: 4711-22\nphone: "+49 170 99887766"\nroom: 12\nversion: 1.20.3',
            ["contract_no: 4711-22", 'phone: "+49 170 99887766"'],
        ),
        ("due: 2026-11-20\nupdated_at: 2026-11-20\nuid: 20261120093000", ["due: 2026-11-20"]),
        ("tags: [two words, red wine]\ntitle: The long title", []),
        ("title: {en: The long title}", ["title: {en: The long title}"]),
        ("说明: 如何清洗咖啡机\nslug: ka-fei", ["说明: 如何清洗咖啡机"]),
        ("related:\n- how to rinse\n- b.md", ["related:", "- how to rinse", "- b.md"]),
    ],
)
def test_yaml_front_matter_values_keep_their_line(matter, kept_lines):
    raw = f"---\n{matter}\n---\n# Heading\ntext\n"
    parsed = parse_text("a.md", raw.encode())
    lines = parsed.text.split("\n")
    raw = raw.replace("[[", "").replace("]]", "")
    assert [line for line in lines[: lines.index("# Heading")] if line] == kept_lines
    for line in (*kept_lines, "# Heading", "text"):
        assert raw.split("\n")[parsed.line_offset + lines.index(line)] == line
    chunks = chunk(parsed)
    assert [piece.line for piece in chunks] == [
        raw.split("\n").index(kept_lines[0] if kept_lines else "# Heading") + 1
    ]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("See [[Coffee]] and [[Tea|the other]].", "See Coffee and the other (Tea)."),
        ("![[plan.png]] ![[plan.png|300x200]] ![[Notes#Costs^a1]]", "plan.png plan.png Notes Costs a1"),
        ("[[Coffee|Coffee]] [[notes/Tea]]", "Coffee notes/Tea"),
        ("| [[Tea\\|green]] |", "| green (Tea) |"),
        ("x[[1]] [[ -f a ]] `[[code]]` [[open", "x[[1]] [[ -f a ]] `[[code]]` [[open"),
        ("```\n[[code]]\n```\n[[Tea]]", "```\n[[code]]\n```\nTea"),
        ("# About [[Tea]]", "# About Tea"),
    ],
)
def test_note_links_and_embeds_are_read_as_their_names(source, text):
    assert parse_text("a.md", source.encode()).text == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Caf&eacute; &#22791;&#x4EFD; AT&amp;T&nbsp;x back&shy;up", "Café 备份 AT&T x backup"),
        ("`&eacute;` &eacute;", "`&eacute;` é"),
        ("```\n&eacute;\n```\n&eacute;", "```\n&eacute;\n```\né"),
        ("a &lt;b&gt; &#35; &#10; &nosuch; &x R&D; a&b", "a &lt;b&gt; &#35; &#10; &nosuch; &x R&D; a&b"),
        ("# M&uuml;ller", "# Müller"),
    ],
)
def test_character_references_in_markdown_are_decoded_outside_code(source, text):
    assert parse_text("a.md", source.encode()).text == text


def test_toml_front_matter_values_are_kept():
    raw = "+++\ntitle = 'x'\nweight = 3\n[params]\nsummary = 'descale it'\n+++\nBody\n"
    parsed = parse_text("a.md", raw.encode())
    assert (parsed.title, parsed.text) == ("x", "\n\n\n\nsummary = 'descale it'\n\nBody\n")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.yaml", "a.properties"])
def test_character_escapes_are_decoded(name):
    text = r'{"a": "\u5907\u4efd \ud83d\ude00 caf\u00e9", "b": "\\u5907 \u0022 \u000a \ud800 \u200b x"}'
    expected = r'{"a": "备份 😀 café", "b": "\\u5907 \u0022 \u000a \ud800 \u200b x"}'
    assert parse_text(name, text.encode()).text == expected


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.properties"])
def test_escaped_white_space_separates_words(name):
    text = r'{"a": "one\ntwo\tthree\r\nfour", "b": "C:\\new\\table", "c": "https:\/\/x.example\/y \"z\""}'
    expected = r'{"a": "one two three  four", "b": "C:\\new\\table", "c": "https://x.example/y \"z\""}'
    assert parse_text(name, text.encode()).text == expected


def test_unquoted_backslashes_in_yaml_are_kept():
    assert parse_text("a.yaml", rb"path: C:\new\table").text == r"path: C:\new\table"


def test_additional_yaml_escapes_are_decoded():
    raw = rb'a: "caf\xe9 \U0001F600 \x0a \Uffffffff"'
    assert parse_text("a.yaml", raw).text == r'a: "café 😀 \x0a \Uffffffff"'


def test_xml_references_are_decoded():
    raw = b"<a>&#22791;&#x4EFD; caf&#233; &#60;b&#x3e; &#10; &#9999999; &#xD800;</a>"
    assert parse_text("a.xml", raw).text == "<a>备份 café &#60;b&#x3e; &#10; &#9999999; &#xD800;</a>"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"Schr\"odinger, Schr{\"o}dinger, G\"{o}del", "Schrödinger, Schrödinger, Gödel"),
        (r"na\"{\i}ve na\"\i{}ve \'el\`{e}ve Erd\H{o}s \c{c}a \v{S}koda", "naïve naïve élève Erdős ça Škoda"),
        (r"Gr\"o{\ss}e, Stra\ss{}e, S\o ren, {\O}rsted, \L{}\'od\'z", "Größe, Straße, Søren, Ørsted, Łódź"),
        (r"data\-base \aa r", "database år"),
        (
            r"a\\'b \O(n) \alpha \item \o \l \aasen \uparrow \'q",
            r"a\\'b \O(n) \alpha \item \o \l \aasen \uparrow \'q",
        ),
    ],
)
def test_letters_that_tex_writes_in_ascii_are_composed(source, text):
    assert parse_text("a.tex", source.encode()).text == text


def test_source_code_keeps_its_escapes():
    assert parse_text("a.c", rb'"\u5907"').text == r'"\u5907"'


@pytest.mark.parametrize(
    ("sign", "replacement"), [("\f", " "), ("\v", " "), ("\x1f", " "), ("\x01", " "), ("\0", "")]
)
def test_control_characters_separate_words(sign, replacement):
    text = f"one{sign}two\n{'three words and more of them ' * 9}"
    assert parse_text("a.txt", text.encode()).text.startswith(f"one{replacement}two\n")


@pytest.mark.parametrize(
    "text",
    [
        "---\ntitle: a: b: c\n  - broken\n---\nbody\n",
        "---\ntitle: never closed\n\nbody\n",
        "---\nJust a rule above.\n---\nbody\n",
        "---\n- a list\n---\nbody\n",
        "+++\ntitle = broken\n+++\nbody\n",
        "---\ntitle: !!python/object/apply:os.getcwd []\n---\nbody\n",
        "---\n" + "[" * 600 + "\n---\nbody\n",
        "----\ntitle: x\n----\nbody\n",
    ],
)
def test_broken_front_matter_loses_nothing(text):
    parsed = parse_text("a.md", text.encode())
    assert (parsed.text, parsed.line_offset) == (text, 0)


def test_alias_bomb_in_front_matter_is_harmless():
    lines = [
        "---",
        "a0: &a0 [x, x]",
        *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)),
        "tags: *a39",
        "---",
    ]
    assert parse_text("a.md", ("\n".join(lines) + "\nbody\n").encode()).text == "body\n"


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("[a, 2, true, null, [x], {y: z}]", ("a", "2", "True")),
        ("one word, two", ("one word", "two")),
        ("7", ("7",)),
        ("2024-01-02", ("2024-01-02",)),
        ("", ()),
    ],
)
def test_tags_are_parsed_in_many_forms(value, tags):
    assert parse_text("a.md", f"---\ntags: {value}\n---\nbody".encode()).tags == tags


def test_note_with_only_metadata_keeps_it_as_text():
    parsed = parse_text("a.md", b"---\ntitle: Only a title\n---\n")
    assert parsed.title == "Only a title"
    assert "Only a title" in parsed.text


@pytest.mark.parametrize(
    ("name", "text", "flavour", "title"),
    [
        ("a.md", "intro\n\n## First ##\n", Flavour.MARKDOWN, "First"),
        ("a.md", "Underlined\n===\n\ntext", Flavour.MARKDOWN, "Underlined"),
        ("a.md", "```sh\n# no heading\n```\n# Real\n", Flavour.MARKDOWN, "Real"),
        ("a.rst", "=====\nManual\n=====\n\ntext", Flavour.RST, "Manual"),
        ("a.adoc", "= Guide\n:toc:\n", Flavour.ASCIIDOC, "Guide"),
        ("a.org", "#+TITLE: Diary\n* One\n", Flavour.ORG, "Diary"),
        ("a.tex", "\\documentclass{article}\\title{On light}\n", Flavour.TEX, "On light"),
        ("a.tex", "\\section{Backups}\\label{sec:b}\n", Flavour.TEX, "Backups"),
        (
            "a.tex",
            "\\title[Short]{The \\emph{good}\n  light \\& more}\n",
            Flavour.TEX,
            "The good light & more",
        ),
        ("a.adoc", "== Backups ==\n", Flavour.ASCIIDOC, "Backups"),
        ("a.org", "* TODO [#A] Backups of C++  :ops:it:\n", Flavour.ORG, "Backups of C++"),
        ("a.md", "# Backups of C# {#sec-b}\n", Flavour.MARKDOWN, "Backups of C#"),
        ("a.py", "# a comment\n", Flavour.CODE, None),
        ("x/Makefile", "# a comment\n", Flavour.CODE, None),
        ("README", "Kbsync\n", Flavour.PLAIN, None),
        ("a.unknown", "# a comment\n", Flavour.PLAIN, None),
    ],
)
def test_text_format_follows_its_name_and_its_title_is_the_first_heading(name, text, flavour, title):
    parsed = parse_text(name, text.encode())
    assert (parsed.flavour, parsed.title) == (flavour, title)


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", "name,price\nlamp,3\n", "name,price"),
        ("a.csv", "name;price\nlamp;3,5\n", "name;price"),
        ("a.tsv", "name\tprice\nlamp\t3\n", "name\tprice"),
        ("a.csv", "1,2\n3,4\n", ""),
        ("a.csv", '"a\nb",c\n1,2\n', ""),
        ("a.jsonl", '{"a": 1}\n', ""),
        ("a.log", "2024-01-01 started\n", ""),
    ],
)
def test_rows_know_their_columns(name, text, columns):
    parsed = parse_text(name, text.encode())
    assert (parsed.flavour, parsed.columns, parsed.text) == (Flavour.ROWS, columns, text)


def test_subtitle_text_stays_on_its_line():
    vtt = "WEBVTT\n\nintro\n00:00:01.000 --> 00:00:03.500 align:start\n<v Ada>Good <i>morning</i>.\n\n"
    vtt += "00:04.000 --> 00:05.000\n早上好\n"
    parsed = parse_text("a.vtt", vtt.encode())
    assert parsed.text.split() == ["Ada:", "Good", "morning.", "早上好"]
    assert parsed.text.split("\n")[7] == "早上好"


def test_character_references_in_webvtt_are_decoded():
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\nR&amp;D &lt;b&gt;&#10;<i>caf&eacute;</i>\n"
    assert parse_text("a.vtt", vtt.encode()).text.split("\n")[3:] == ["R&D <b> café", ""]


def test_comments_and_styles_of_subtitles_are_excluded():
    style = "STYLE\n::cue {\n  color: red\n}\n\nNOTE by Ada\ntwo lines\n\nNOTE\n\nNOTEBOOK\n"
    cue = "00:01.000 --> 00:05.000\nNOTE that\nSTYLE\n"
    vtt = f"WEBVTT\n\n{style}{cue}"
    lines = parse_text("a.vtt", vtt.encode()).text.split("\n")
    assert list(filter(None, lines)) == ["NOTE that", "STYLE"]
    assert lines.index("NOTE that") == vtt.split("\n").index("NOTE that")


def test_subrip_numbers_times_and_positions_are_dropped():
    srt = "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}There are {12} moons\n\n"
    srt += "2\n00:00:03,000 --> 00:00:04,000\n1969\n"
    assert parse_text("a.srt", srt.encode()).text == "\n\nThere are {12} moons\n\n\n\n1969\n"


@pytest.mark.parametrize(
    ("name", "raw"), [("a.txt", b" \n\t "), ("a.md", b"\xef\xbb\xbf\n"), ("a.vtt", b"WEBVTT\n\n")]
)
def test_blank_files_are_rejected_as_textless(name, raw):
    with pytest.raises(Rejected, match=r"^no text found") as refusal:
        parse_text(name, raw)
    assert refusal.value.code == "no-text"


def test_xml_declaration_is_honoured():
    assert (
        "Привет"
        in parse_text("a.xml", '<?xml version="1.0" encoding="koi8-r"?><a>Привет</a>'.encode("koi8-r")).text
    )


def test_text_over_the_limit_is_rejected_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parse, "MAX_TEXT_BYTES", 10)
    with pytest.raises(Rejected, match="limit is 10 bytes") as refusal:
        Parser(Path(tmp_path)).parse("a.txt", BytesBody(b"x" * 11))
    assert refusal.value.code == "too-large"


PROMISED = (
    "pdf docx pptx xlsx odt epub html htm mhtml rtf eml mbox ics vcf canvas ipynb md markdown mdx txt "
    "rst org adoc asciidoc tex csv tsv json jsonl yaml yml toml xml log vtt srt py js ts jsx tsx java c "
    "h cc cpp hpp cs go rs rb php swift kt scala sh bash ps1 sql r jl lua pl css scss vue dart ex exs "
    "erl hs clj proto graphql tf ini cfg conf properties"
)


def test_every_promised_format_is_accepted():
    assert set(PROMISED.split()) <= EXTENSIONS
    assert {"README", "LICENSE", "CHANGELOG", "NOTICE", "Makefile", "Dockerfile"} <= NAMES
