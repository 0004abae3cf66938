"""Tests that PDF text is read in the right order and structure, from positions alone."""

from __future__ import annotations

import pytest

from kbsync.errors import Rejected
from kbsync.index.document import Parsed
from kbsync.index.fence.parser import Parser
from tests.index.samples import pdf, pdf_stream, placed
from tests.targets.bodies import BytesBody


def read(parser: Parser, *pages: bytes, **settings) -> Parsed:
    return parser.parse("x.pdf", BytesBody(pdf(pages, **settings)))


def lines(*texts: str, x: float = 60, y: float = 700, **font) -> bytes:
    return placed(*((x, y - 13 * n, text) for n, text in enumerate(texts)), **font)


BODY = ("The keeper lit the lamp at dusk, as on every evening of that", "year, and went down to the boats.")


@pytest.mark.parametrize("height", [2, 20, 41, 796, 815, 834])
def test_line_at_the_page_edge_is_kept(parser, height):
    text = read(parser, placed((60, height, "Read by the harbour master")) + lines(*BODY)).text
    assert "Read by the harbour master" in text


def test_lines_become_paragraphs_and_hyphenated_words_are_joined(parser):
    page = lines(
        "The keeper read the manu-", "al twice, for it was well-", "known.", *BODY, "It is well-known."
    )
    assert read(parser, page).text == (
        "The keeper read the manual twice, for it was well-known.\n\n"
        "The keeper lit the lamp at dusk, as on every evening of that year, and went down to the boats.\n\n"
        "It is well-known."
    )


def test_gap_bullet_and_indent_start_paragraphs(parser):
    bullets = lines("\u2022 first thing to take", "\u2022 second thing to take", y=600)
    indented = placed((74, 500, "An indented line begins one more,")) + lines("and this goes on.", y=487)
    text = read(parser, lines(*BODY) + bullets + lines(*BODY, y=526) + indented).text
    assert "boats.\n\n- first thing to take\n- second thing to take\n\nThe keeper" in text
    assert text.endswith("An indented line begins one more, and this goes on.")


def test_larger_text_is_a_heading_and_the_largest_the_first_level(parser):
    page = lines("The lighthouse", size=22, y=760) + lines("Its lamp", size=15, y=730) + lines(*BODY)
    assert read(parser, page).text.startswith("# The lighthouse\n\n## Its lamp\n\nThe keeper lit")


def test_text_matrix_scale_counts_as_font_size(parser):
    page = placed((60, 740, "The lighthouse"), size=1, matrix="22 0 0 22") + lines(*BODY)
    assert read(parser, page).text.startswith("# The lighthouse\n\n")


def test_rows_with_wide_gaps_become_a_table(parser):
    rows = [("Ship", "Mast", "Crew"), ("Aurora", "three", "forty men"), ("Boreas", "two", "17")]
    cells = [(60 + 140 * x, 600 - 14 * y, word) for y, row in enumerate(rows) for x, word in enumerate(row)]
    text = read(parser, lines(*BODY) + placed(*cells)).text
    assert text.endswith(
        "| Ship | Mast | Crew |\n| --- | --- | --- |\n| Aurora | three | forty men |\n| Boreas | two | 17 |"
    )


def test_code_keeps_its_lines_and_indents(parser):
    code = placed((60, 600, "if dusk:"), (84, 588, "light\\(\\)"), (60, 576, "# done"), font="F3", size=10)
    assert read(parser, lines(*BODY) + code).text.endswith("```\nif dusk:\n    light()\n# done\n```")


def test_line_resembling_markdown_structure_is_a_paragraph(parser):
    assert read(parser, lines("# 7 is the number of the pier")).text == r"\# 7 is the number of the pier"


def pages_of(count: int, header: str, footer: str) -> list[bytes]:
    """Return pages with different words."""
    return [
        placed((60, 810, header.format(n)), (280, 20, footer.format(n)), size=9)
        + lines(f"On day {n} the wind came from the {n * 7919 % 360}th degree.")
        for n in range(1, count + 1)
    ]


def test_repeated_headers_and_footers_are_kept_once_and_page_numbers_dropped(parser):
    text = read(parser, *pages_of(4, "Log of the Aurora", "{} / 4")).text
    assert text.count("Log of the Aurora") == 1 and "/ 4" not in text
    assert text.count("the wind came") == 4


@pytest.mark.parametrize(
    "header",
    [
        "Log - page {} of 4",
        "Log of 2025 \u2014 {}",
        "{} | Log of the Aurora",
        "Log, S. {}",
        "Seite {} von 4, Log",
        "{} of 4",
    ],
)
def test_page_number_inside_the_header_is_dropped(parser, header):
    text = read(parser, *pages_of(4, header, "Aurora")).text
    assert [n for n in range(1, 5) if header.format(n) in text] == [1]


def test_page_number_at_the_other_end_of_the_header_is_dropped(parser):
    pages = [
        placed((60, 810, "Log of the Aurora"), (500, 810, f"{n + 20}"), size=9) + lines(f"The {n}th wind.")
        for n in (1, 2, 3)
    ]
    assert read(parser, *pages).text.count("Log of the Aurora") == 1


def test_chinese_page_number_is_dropped(parser):
    headers = (f"\u822a\u6d77\u65e5\u5fd7 \u7b2c{n}\u9875".encode("utf-16-be").hex() for n in (1, 2, 3))
    pages = [b"BT /F2 9 Tf 60 810 Td <%b> Tj ET\n" % line.encode() + lines(*BODY) for line in headers]
    text = read(parser, *pages).text
    assert text.count("\u822a\u6d77\u65e5\u5fd7") == 1


@pytest.mark.parametrize(
    "title",
    [
        "Invoice no. 471{}",
        "Invoice \u2014 471{}",
        "471{}",
        "Lesson {}",
        "Lesson {} of 9",
        "{}. day",
        "2025-06-1{}",
        "0{}.06.2025",
        "\u00a7 {}",
    ],
)
@pytest.mark.parametrize("size", [11, 20])
def test_titles_numbered_like_the_pages_are_kept(parser, title, size):
    pages = [placed((60, 780, title.format(n)), size=size) + lines(*BODY) for n in range(1, 7)]
    text = read(parser, *pages).text
    assert all(title.format(n) in text for n in range(1, 7))


DOTS = " . . . . . . . . ."
CONTENTS = [
    f"{title}{DOTS} {page}"
    for title, page in zip(("Lamps", "Oil", "Wicks", "Boats"), (2, 2, 3, 5), strict=True)
]


def test_table_of_contents_is_left_out(parser):
    chapters = [lines(title) for title in ("Lamps", "Wicks", "Log", "Boats")]
    text = read(parser, lines("Contents", *CONTENTS, f"Index{DOTS[:-2]}... v"), *chapters).text
    assert text.split() == ["Contents", "Lamps", "Wicks", "Log", "Boats"]


@pytest.mark.parametrize(
    ("entries", "page_count"),
    [
        (CONTENTS, 1),
        ([f"Tea{DOTS} 3", f"Oil{DOTS} 1", f"Wicks{DOTS} 2", f"Rope{DOTS} 4"], 5),
        (CONTENTS[:3], 5),
    ],
)
def test_other_lines_of_dots_are_kept_and_shortened(parser, entries, page_count):
    text = read(parser, lines(*entries), *[lines("Log")] * (page_count - 1)).text
    assert text.startswith(" ".join(entry.replace(DOTS, " …") for entry in entries))


def test_same_number_on_all_pages_is_kept_once(parser):
    assert read(parser, *pages_of(4, "30-4711", "{}")).text.count("30-4711") == 1


@pytest.mark.parametrize("count", [1, 2])
def test_line_shared_by_two_pages_is_not_a_header(parser, count):
    assert read(parser, *pages_of(count, "Log of the Aurora", "{}")).text.count("Log of the Aurora") == count


def test_number_that_does_not_count_pages_is_kept(parser):
    pages = [lines(*BODY) + placed((60, 810, f"Invoice {n}")) for n in (4711, 4815, 1623, 42)]
    text = read(parser, *pages).text
    assert all(f"Invoice {n}" in text for n in (4711, 4815, 1623, 42))


def test_repeated_words_inside_the_page_are_kept(parser):
    assert read(parser, *[lines("No ship today.", y=420)] * 5).text.count("No ship today.") == 5


def test_columns_are_read_one_after_the_other(parser):
    left, right = lines("left one", "left two", y=600), lines("right one", "right two", x=320, y=600)
    assert read(parser, left + right).text == "left one left two\n\nright one right two"


def test_text_drawn_late_but_higher_comes_first(parser):
    page = lines(*BODY, y=400) + lines("Chapter of the lamp", y=700)
    assert read(parser, page).text.startswith("Chapter of the lamp\n\nThe keeper lit")


@pytest.mark.parametrize(("x", "y"), [(60, 700), (320, 770)])
def test_header_drawn_last_moves_no_column(parser, x, y):
    columns = lines("left one", "left two", y=600) + lines("right one", "right two", x=320, y=600)
    page = lines("Lamp oil", x=x, y=y) + columns + lines("Page header", x=x, y=810)
    text = read(parser, page).text
    assert text == "Page header\n\nLamp oil\n\nleft one left two\n\nright one right two"


@pytest.mark.parametrize("x", [60, 250, 330])
def test_footer_drawn_first_moves_no_column(parser, x):
    columns = lines("left one", "left two", y=600) + lines("right one", "right two", x=320, y=600)
    text = read(parser, lines("Lamp oil report", x=x, y=30) + columns).text
    assert text == "left one left two\n\nright one right two\n\nLamp oil report"


def test_footnotes_drawn_first_move_no_column(parser):
    notes = [("left note", 60, 150), ("middle note", 240, 60), ("right note", 420, 150)]
    columns = [("left", 60), ("middle", 240), ("right", 420)]
    page = b"".join(lines(note, x=x, y=y) for note, x, y in notes)
    page += b"".join(lines(f"{name} one", f"{name} two", x=x, y=600) for name, x in columns)
    ordered = "left one left two|left note|middle one middle two|middle note|right one right two|right note"
    assert read(parser, page).text == ordered.replace("|", "\n\n")


def spelled(x: float, word: str) -> bytes:
    """Return text operators for a word of a script written from right to left. As browsers do, they draw its
    letters from left to right and state the text of each."""
    places = enumerate(reversed(word))
    letters = ((x + 10 * n, f"<FEFF{ord(letter):04X}>") for n, letter in places)
    return b"".join(
        f"/Span << /ActualText {text} >> BDC\n".encode() + placed((left, 600, "m")) + b"EMC\n"
        for left, text in letters
    )


def test_arabic_letters_are_read_from_right_to_left(parser):
    page = spelled(400, "\u0645\u0631\u062d\u0628\u0627") + spelled(
        300, "\u0628\u0627\u0644\u0639\u0627\u0644\u0645"
    )
    assert read(parser, page).text == "مرحبا بالعالم"


def test_words_of_two_scripts_in_one_line_keep_their_order(parser):
    hebrew = spelled(480, "שלום") + spelled(420, "עולם") + spelled(150, "היום")
    page = hebrew + placed((250, 600, "Windows 11 Pro"))
    assert read(parser, page).text == "שלום עולם Windows 11 Pro היום"
    english = placed((60, 600, "The long greeting in that letter is"), (400, 600, "and it was read twice"))
    assert read(parser, english + spelled(330, "שלום") + spelled(270, "עולם")).text.count("שלום עולם") == 1


@pytest.mark.parametrize(
    ("matrix", "step"), [("0 1 -1 0", (1, 0)), ("-1 0 0 -1", (0, 1)), ("0 -1 1 0", (-1, 0))]
)
def test_rotated_text_is_read_like_upright_text(parser, matrix, step):
    x, y = 300, 400
    texts = [(x + 13 * n * step[0], y + 13 * n * step[1], line) for n, line in enumerate(BODY)]
    turned = placed((x - 40 * step[0], y - 40 * step[1], "The lighthouse"), matrix=matrix, size=22)
    text = read(parser, turned + placed(*texts, matrix=matrix)).text
    assert text == f"# The lighthouse\n\n{' '.join(BODY)}"


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotated_page_is_read_like_an_upright_one(parser, turn):
    assert read(parser, lines(*BODY), more=b"/Rotate %d" % turn).text == " ".join(BODY)


def test_chinese_lines_are_joined_without_a_space(parser):
    page = b"BT /F2 11 Tf 60 700 Td <%b> Tj 0 -13 Td <%b> Tj ET" % tuple(
        line.encode("utf-16-be").hex().encode() for line in ("看守人在黄昏时点亮", "了灯。")
    )
    assert read(parser, page).text == "看守人在黄昏时点亮了灯。"


def annotated(parser: Parser, *notes: str, appearance: str = "") -> str:
    """Return the text of a page with annotations, of which each may use `look`, object 10, as appearance."""
    annotations = "".join(f"<< /Type /Annot /Rect [160 695 360 715] {note} >>" for note in notes)
    entries = b"/Type /XObject /Subtype /Form /BBox [0 0 200 20] /Resources << /Font << /F1 3 0 R >> >>"
    parts = [pdf_stream(placed((2, 5, appearance)), entries)]
    page = placed((60, 700, "Name of keeper:")) + lines(*BODY, y=600)
    return read(parser, page, more=f"/Annots [{annotations}]".encode(), parts=parts).text


FIELD = "/Subtype /Widget /FT /Tx /T (name) /V (Wilhelmina)"
BODY_TEXT = " ".join(BODY)


def test_filled_form_field_is_read_where_it_is_shown(parser):
    text = annotated(parser, f"{FIELD} /AP << /N 10 0 R >> /F 4", appearance="Wilhelmina")
    assert text == f"Name of keeper:\n\nWilhelmina\n\n{BODY_TEXT}"


def test_form_field_that_viewers_draw_is_read_after_the_page(parser):
    assert annotated(parser, FIELD) == f"Name of keeper:\n\n{BODY_TEXT}\n\nWilhelmina"


@pytest.mark.parametrize(
    "field", ["/Subtype /Widget /FT /Btn /V /Yes", f"{FIELD} /AP << /N 10 0 R >> /F 2", f"{FIELD} /F 2"]
)
def test_hidden_field_and_state_of_a_button_are_not_text(parser, field):
    assert annotated(parser, field, appearance="Wilhelmina") == f"Name of keeper:\n\n{BODY_TEXT}"


@pytest.mark.parametrize("kind", ["Text", "FreeText", "Highlight", "StrikeOut"])
def test_comments_are_read_after_the_page(parser, kind):
    text = annotated(
        parser, f"/Subtype /{kind} /Contents (# Ask\\nher.)", "/Subtype /Popup /Contents (# Ask)"
    )
    assert text == f"Name of keeper:\n\n{BODY_TEXT}\n\n\\# Ask her."


def test_comment_that_repeats_the_page_or_another_comment_is_left_out(parser):
    notes = ("lit the lamp at dusk,", "Who?", "Who?", "amp")
    text = annotated(parser, *(f"/Subtype /Highlight /Contents ({note})" for note in notes))
    assert text == f"Name of keeper:\n\n{BODY_TEXT}\n\nWho?\n\namp"


def test_description_of_a_link_is_not_a_comment(parser):
    assert annotated(parser, "/Subtype /Link /Contents (Opens)") == f"Name of keeper:\n\n{BODY_TEXT}"


def test_page_with_only_a_comment_is_read(parser):
    parsed = read(parser, b"", lines(*BODY), more=b"/Annots [<< /Subtype /Text /Contents (Empty?) >>]")
    assert (parsed.text, parsed.page_starts) == (f"Empty?\n\n{BODY_TEXT}\n\nEmpty?", (0, 8))


def marked(text: str, y: int = 700) -> bytes:
    """Return text operators for a line with {superscripts} and [subscripts]."""
    operators = f"({text}) Tj"
    for mark, rise in (("{", 4), ("[", -2)):
        operators = operators.replace(mark, f") Tj /F1 7 Tf {rise} Ts (")
    for mark in "}]":
        operators = operators.replace(mark, ") Tj /F1 11 Tf 0 Ts (")
    return f"BT /F1 11 Tf 60 {y} Td {operators} ET\n".encode("cp1252")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("The theory of Zplanck{1} is old.", "The theory of Zplanck 1 is old."),
        ("The theory of Zplanck{2,3}, and Schmidt{4}", "The theory of Zplanck 2,3, and Schmidt 4"),
        ("The theory of Zplanck{*} is old.", "The theory of Zplanck * is old."),
        ("{7}Zplanck was old.", "7 Zplanck was old."),
        ("A field of 30 m{2} and 10{5} cm{3}", "A field of 30 m2 and 105 cm3"),
        ("The word utf8 and model Zplanck1", "The word utf8 and model Zplanck1"),
        ("The vector theta[1] is short.", "The vector theta1 is short."),
    ],
)
def test_footnote_mark_is_apart_from_its_word(parser, line, text):
    assert read(parser, marked(line)).text == text


def test_footnotes_are_separate_paragraphs(parser):
    notes = marked("{1}See the log.", 100) + marked("{2} See the map.", 87)
    assert read(parser, lines(*BODY) + notes).text == f"{BODY_TEXT}\n\n1 See the log.\n\n2 See the map."


@pytest.mark.parametrize(
    "text",
    [
        "Rinse with H[2]O and then with H[2]SO[4] for a minute.",
        "An area of 30 m{2} and x[i] with more words.",
    ],
)
def test_subscripts_and_superscripts_tear_nothing_apart(parser, text):
    page = marked(text) + lines("They go on in the next line.", y=687)
    plain = text.translate(dict.fromkeys(map(ord, "{}[]")))
    assert read(parser, page).text == f"{plain} They go on in the next line."


def test_number_after_a_superscript_stays_apart(parser):
    page = placed((60, 700, "273.879.750")) + placed((123, 704, "1"), size=7) + lines("or so", y=670)
    assert read(parser, page).text == "273.879.750 1 or so"


def test_title_and_tags_come_from_the_metadata(parser):
    parsed = read(parser, lines(*BODY), title="Tales of the coast", keywords="sea; lamp, ships;sea")
    assert (parsed.title, parsed.tags) == ("Tales of the coast", ("sea", "lamp", "ships"))


def test_title_that_programs_set_for_untitled_documents_is_left_out(parser):
    assert read(parser, lines(*BODY), title="\\(anonymous\\)").title is None


def test_damaged_page_affects_no_other_page(parser):
    sound = pdf([lines("one"), lines("two"), lines("three")])
    raw = sound.replace(b"/Kids [8 0 R 10 0 R", b"/Kids [8 0 R 99 0 R")
    parsed = parser.parse("x.pdf", BytesBody(raw))
    assert (parsed.text, parsed.page_starts) == ("one\n\nthree", (0, 5, 5))


def test_pdf_with_only_damaged_pages_is_refused(parser):
    with pytest.raises(Rejected) as refusal:
        parser.parse("x.pdf", BytesBody(pdf([lines("one")]).replace(b"/Kids [8 0 R", b"/Kids [99 0 R")))
    assert (refusal.value.code, "a page of the PDF is damaged" in refusal.value.reason) == ("damaged", True)
