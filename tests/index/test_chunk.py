from __future__ import annotations

import dataclasses
import random
import tracemalloc
from collections.abc import Callable

import pytest

from kbsync.errors import Rejected
from kbsync.index.chunk import LONGEST, Shape, blocks, chunk, weight
from kbsync.index.document import Chunk, Flavour, Parsed
from tests.share import enumerated, long


def cut(text: str, flavour: Flavour = Flavour.MARKDOWN, **fields: object) -> list[Chunk]:
    return chunk(dataclasses.replace(Parsed(text, flavour), **fields))  # type: ignore[arg-type]


def english(rng: random.Random, tokens: int) -> str:
    words = ("".join(rng.choices("abcdefghijklmnopqrst", k=rng.randint(2, 9))) for _ in range(tokens))
    return ". ".join(" ".join(words).capitalize().rsplit(" ", 3)) + "."


def chinese(rng: random.Random, tokens: int) -> str:
    return (
        "。".join("".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(20)) for _ in range(tokens // 20))
        + "。"
    )


def new_share(before: list[Chunk], after: list[Chunk]) -> float:
    old = {piece.key for piece in before}
    return len({piece.key for piece in after} - old) / len(after)


@long
@enumerated()
@pytest.mark.parametrize("headings", [False, True])
@pytest.mark.parametrize("write", [english, chinese])
def test_edited_paragraph_changes_at_most_a_fiftieth(
    write: Callable[[random.Random, int], str], headings: bool
) -> None:
    rng = random.Random(7)
    shares = []
    for _ in range(10):
        paragraphs = [write(rng, rng.randint(60, 140)) for _ in range(200)]

        def document(parts: list[str]) -> str:
            lines = [
                (f"## Part {number}\n\n" if headings and number % 9 == 0 else "") + part
                for number, part in enumerate(parts)
            ]
            return "\n\n".join(lines)

        edited = list(paragraphs)
        position = rng.randrange(200)
        edited[position] = edited[position][:30] + " changed 改了 " + edited[position][31:]
        shares.append(new_share(cut(document(paragraphs)), cut(document(edited))))
    assert max(shares) <= 0.02


def test_paragraph_inserted_at_the_top_leaves_the_rest_unchanged() -> None:
    rng = random.Random(8)
    text = "\n\n".join(chinese(rng, 120) for _ in range(200))
    assert new_share(cut(text), cut(chinese(rng, 120) + "\n\n" + text)) <= 0.03


def test_text_without_any_break_is_split() -> None:
    for text in ("x" * 40_000, "字" * 10_000, "word " * 10_000, "一句话说完了。" * 3_000):
        chunks = cut(text)
        assert "".join("".join(piece.text.split()) for piece in chunks) == "".join(text.split())
        assert max(weight(piece.text) for piece in chunks) <= 2 * LONGEST


def test_long_chinese_text_is_split_at_sentence_marks() -> None:
    rng = random.Random(3)
    chunks = cut(chinese(rng, 5_000))
    assert len(chunks) > 8
    assert all(piece.text.endswith("。") for piece in chunks)


def test_heading_never_ends_a_chunk() -> None:
    rng = random.Random(5)
    text = "\n\n".join(f"## Heading {number}\n\n{english(rng, rng.randint(5, 300))}" for number in range(100))
    assert not [piece for piece in cut(text) if piece.text.splitlines()[-1].startswith("#")]


def test_heading_trail_and_line_are_those_of_the_first_words() -> None:
    filler = english(random.Random(1), 200)
    text = f"# Guide\n\n{filler}\n\n## Leave\n\n### Abroad\n\n{filler}\n\n## Pay\n\n{filler}"
    chunks = cut(text, line_offset=4)
    assert [(piece.headings, piece.line) for piece in chunks] == [
        (("Guide",), 5),
        (("Guide", "Leave", "Abroad"), 9),
        (("Guide", "Pay"), 15),
    ]
    for piece in chunks:
        assert piece.line is not None
        assert text.splitlines()[piece.line - 5] == piece.text.splitlines()[0]


def test_chunk_page_is_the_one_where_it_starts() -> None:
    filler = english(random.Random(1), 220)
    text = f"{filler}\n\n{filler}\n\n{filler}"
    starts = (0, len(filler) + 2, len(filler) + 2, 2 * len(filler) + 4)  # page 2 is empty
    chunks = cut(text, Flavour.PLAIN, page_starts=starts, has_lines=False)
    assert [(piece.page, piece.line) for piece in chunks] == [(1, None), (3, None), (4, None)]


@pytest.mark.parametrize("flavour", [Flavour.PLAIN, Flavour.MARKDOWN])
def test_no_chunk_has_text_of_a_short_page_and_of_another(flavour: Flavour) -> None:
    slides = [f"## Topic {number}\n\nOne line about {number}." for number in range(8)]
    slides[3] = "## Part two"  # nothing below
    slides[7] += f"\n\n{english(random.Random(1), 500)}"
    starts = tuple(sum(len(slide) + 2 for slide in slides[:number]) for number in range(8))
    chunks = cut("\n\n".join(slides), flavour, page_starts=starts, has_lines=False)
    assert [(piece.page, piece.text) for piece in chunks[:7]] == list(enumerate(slides[:7], 1))
    assert {piece.page for piece in chunks[7:]} == {8}


def test_end_of_a_long_page_changes_no_chunk() -> None:
    rng = random.Random(1)
    pages = [english(rng, 600) for _ in range(8)]
    starts = tuple(sum(len(page) + 2 for page in pages[:number]) for number in range(8))
    text = "\n\n".join(pages)
    chunks = cut(text, Flavour.PLAIN, page_starts=starts)
    assert [piece.text for piece in chunks] == [piece.text for piece in cut(text, Flavour.PLAIN)]


def test_vector_covers_title_and_headings_and_its_key_ignores_the_path() -> None:
    filler = english(random.Random(1), 200)
    parsed = Parsed(f"# A\n\n{filler}\n\n{filler}x", Flavour.MARKDOWN, title="Handbook")
    first, second = chunk(parsed)
    assert first.embed_text == f"Handbook\n{first.text}"
    assert second.embed_text == f"A\n{second.text}"
    assert [piece.key for piece in chunk(parsed)] == [first.key, second.key]
    renamed = chunk(dataclasses.replace(parsed, title="Manual"))
    assert [piece.key == old.key for piece, old in zip(renamed, (first, second), strict=True)] == [
        False,
        True,
    ]


def test_code_fence_that_fits_is_whole_and_its_comments_are_not_headings() -> None:
    fence = "```sh\n# not a heading\n\n\nls\n```"
    chunks = cut(f"{english(random.Random(1), 90)}\n\n{fence}\n\n{english(random.Random(2), 90)}")
    assert sum(fence in piece.text for piece in chunks) == 1
    assert not any(piece.headings for piece in chunks)


def test_long_table_repeats_its_header() -> None:
    head = "| name | days |\n|---|---|"
    chunks = cut(head + "\n" + "\n".join(f"| person number {number} | {number} |" for number in range(500)))
    assert len(chunks) > 5
    assert all(piece.text.startswith(head) for piece in chunks)
    assert [piece.text.count("| name |") for piece in chunks] == [1] * len(chunks)


@pytest.mark.parametrize("has_header", [False, True])
def test_rows_repeat_their_columns(has_header: bool) -> None:
    rows = "\n".join(f"{number},person {number},Berlin" for number in range(1_000))
    chunks = cut(("id,name,city\n" if has_header else "") + rows, Flavour.ROWS, columns="id,name,city")
    assert len(chunks) > 5
    assert all(piece.text.startswith("id,name,city\n") for piece in chunks)
    assert sum(piece.text.count("id,name,city") for piece in chunks) == len(chunks)
    assert chunks[0].line == 1


HEADINGS = {
    Flavour.MARKDOWN: "# One\n\ntext\n\nTwo\n---\ntext\n\n### Three ###\ntext",
    Flavour.RST: "===\nOne\n===\n\ntext\n\nTwo\n---\n\ntext\n\nThree\n~~~~~\n\ntext",
    Flavour.ASCIIDOC: "= One\n\ntext\n\n== Two\n\n----\n== no\n----\n\n=== Three\n\ntext",
    Flavour.ORG: "* One\ntext\n** Two\n#+BEGIN_SRC\n* no\n#+END_SRC\n*** Three\ntext",
    Flavour.TEX: "\\part{One}\ntext\n\\chapter*{Two}\n\\begin{verbatim}\n\\part{no}\n"
    "\\end{verbatim}\n\\section{Three}",
}


@pytest.mark.parametrize("flavour", HEADINGS)
def test_headings_of_each_markup(flavour: Flavour) -> None:
    matching = [block for block in blocks(HEADINGS[flavour], flavour) if block.shape is Shape.HEADING]
    assert [(heading.level, heading.title) for heading in matching] == [(1, "One"), (2, "Two"), (3, "Three")]


@pytest.mark.parametrize(
    ("flavour", "line", "title"),
    [
        (Flavour.TEX, r"\section{Backups}\label{sec:b}", "Backups"),
        (Flavour.TEX, r"\section{Backups} run {at} night", "Backups"),
        (Flavour.TEX, r"\subsection[Short]{The \emph{good} part \& more}", "The good part & more"),
        (Flavour.TEX, r"\section{A title that goes", "A title that goes"),
        (Flavour.TEX, r"\section{Sets \{x\}\label{s}}", "Sets x"),
        (Flavour.ASCIIDOC, "== Backups ==", "Backups"),
        (Flavour.ASCIIDOC, "== a == b", "a == b"),
        (Flavour.ORG, "** DONE Backups  :ops:", "Backups"),
        (Flavour.ORG, "* TODO", "TODO"),
        (Flavour.MARKDOWN, "## Backups {#sec-b .wide}", "Backups"),
        (Flavour.MARKDOWN, "## Use {braces}", "Use {braces}"),
        (Flavour.MARKDOWN, "Backups {#b}\n===", "Backups"),
    ],
)
def test_title_excludes_markup(flavour: Flavour, line: str, title: str) -> None:
    [heading, *_] = blocks(f"{line}\ntext", flavour)
    assert (heading.shape, heading.title) == (Shape.HEADING, title)


SIZE = 200_000
DEMANDING = {
    "blank lines": (Flavour.MARKDOWN, "# a\n" + "\n" * SIZE),
    "lines of a paragraph": (Flavour.MARKDOWN, "ab\n" * (SIZE // 3)),
    "lines of a fence": (Flavour.MARKDOWN, "```\n" + "ab\n" * (SIZE // 3)),
    "lines of plain text": (Flavour.PLAIN, "ab\n" * (SIZE // 3)),
    "blank lines of plain text": (Flavour.PLAIN, "ab\n" + "\n" * SIZE),
    "blank lines of code": (Flavour.CODE, "ab\n" + "\n" * SIZE),
    "blank rows": (Flavour.ROWS, "ab\n" + "\n" * SIZE),
    "Chinese without a stop": (Flavour.PLAIN, "备份" * (SIZE // 6)),
}


@enumerated()
@pytest.mark.parametrize("kind", DEMANDING)
def test_chunking_uses_little_extra_memory(kind: str) -> None:
    flavour, text = DEMANDING[kind]
    parsed = Parsed(text, flavour)
    for _ in range(3):  # other tests' threads may allocate meanwhile, and a first call fills caches
        tracemalloc.start()
        try:
            chunks = chunk(parsed)
            now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        needed = peak - now
        if needed < 2 * SIZE:
            break
    assert chunks and needed < 2 * SIZE


def test_document_with_excessively_repeated_headings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    headings = "".join(f"{'#' * level} {level} {'long ' * 40}\n" for level in range(1, 7))
    parsed = Parsed(headings + "word " * 20_000)
    assert len(chunk(parsed)) > 30
    monkeypatch.setattr("kbsync.index.chunk.MAX_CHARACTERS", 120_000)
    with pytest.raises(Rejected, match="shorten the headings") as refused:
        chunk(parsed)
    assert refused.value.code == "output"


def test_functions_are_code_blocks() -> None:
    text = "import a\n\ndef one():\n    x = 1\n\n    return x\n\n@cached\ndef two():\n    pass\n"
    assert [text[block.start : block.end].split("\n")[0] for block in blocks(text, Flavour.CODE)] == [
        "import a",
        "def one():",
        "@cached",
    ]


def test_text_without_words_makes_no_chunk() -> None:
    assert [cut(" \n\t\n", flavour) for flavour in Flavour] == [[]] * len(Flavour)
