"""Tests the syntax of a query, and how the built-in index searches for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.contract.query_syntax import MAX_OPERATORS, parse_query
from kbsync.contract.searching import Query
from kbsync.errors import UsageError
from kbsync.index.search import Search
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from tests.index.test_search import ENCODER, entry, searching
from tests.share import enumerated, long


@pytest.mark.parametrize(
    ("typed", "query"),
    [
        ("annual report", Query("annual report")),
        ('"annual report" budget', Query("annual report budget", phrases=("annual report",))),
        ("budget -draft", Query("budget", excluded=("draft",))),
        ('budget -"first draft"', Query("budget", excluded=("first draft",))),
        ("languages -.NET -C# -$HOME", Query("languages", excluded=(".NET", "C#", "$HOME"))),
        ("budget path:hr/** type:pdf,md", Query("budget", paths=("hr/**",), types=("pdf", "md"))),
        ('path:"my notes/*.md" path:2026/ x', Query("x", paths=("my notes/*.md", "2026/"))),
        ("x -path:hr/ -Path:“my notes/”", Query("x", excluded_paths=("hr/", "my notes/"))),
        ("x -type:pdf,.md path:a", Query("x", paths=("a",), excluded_types=("pdf", ".md"))),
        ("x -path: -type", Query("x", excluded=("path:", "type"))),
        ('什么是"高速列车" -北京', Query("什么是 高速列车", phrases=("高速列车",), excluded=("北京",))),
        ('was it "the Methodists?"', Query("was it the Methodists?", phrases=("the Methodists?",))),
        ("budget Path:hr/** TYPE:PDF", Query("budget", paths=("hr/**",), types=("PDF",))),
        ("a “red boat”", Query("a red boat", phrases=("red boat",))),
        ("ein „rotes Boot“", Query("ein rotes Boot", phrases=("rotes Boot",))),
        ("un « bateau rouge »", Query("un bateau rouge", phrases=("bateau rouge",))),
        ("x -“red boat” path:“my notes/”", Query("x", paths=("my notes/",), excluded=("red boat",))),
        ('"a “red” boat" x', Query("a “red” boat x", phrases=("a “red” boat",))),
        # Text as it is:
        ("don't re-index E-4471", Query("don't re-index E-4471")),
        ("below -20 degrees - or more", Query("below -20 degrees - or more")),
        ("tar --force", Query("tar --force")),
        ("git rebase -i or ls -R -l", Query("git rebase -i or ls -R -l")),
        ("ls -R, or what does git rebase -i?", Query("ls -R, or what does git rebase -i?")),
        ('a -c++ -"i"', Query("a", excluded=("c++", "i"))),
        ("猫 -狗", Query("猫", excluded=("狗",))),
        ("a -.5 b -... c", Query("a -.5 b -... c")),
        ('a "b c', Query('a "b c')),
        ('5" pipe and 6" pipe', Query('5" pipe and 6" pipe')),
        ('"" "?!" x', Query('"" "?!" x')),
        ("path: and type: x:path:y", Query("path: and type: x:path:y")),
        ("what is a ‘fishbowl’ helmet", Query("what is a ‘fishbowl’ helmet")),
        ("什么是“高速列车”", Query("什么是“高速列车”")),
        ("5” pipe and 6” pipe “x", Query("5” pipe and 6” pipe “x")),
        ('"a b" "c', Query('a b "c', phrases=("a b",))),
    ],
)
def test_operators_are_distinguished_from_text(typed: str, query: Query) -> None:
    assert parse_query(Query(typed)) == query


def test_operators_narrow_the_selected_options() -> None:
    parsed = parse_query(Query("x path:b type:md", paths=("a",), types=("pdf",)))
    assert (parsed.paths, parsed.types) == (("a", "b"), ("pdf", "md"))


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("-draft", "excluded words"),
        ('path:hr/** -"first draft"', "excluded words and filters"),
        ("type:pdf", "filters"),
        ("-type:pdf -path:hr/", "filters"),
        ("-draft -type:pdf", "excluded words and filters"),
        ("-draft ?", "excluded words"),
    ],
)
def test_query_of_operators_only_is_refused_with_a_message(typed: str, parts: str) -> None:
    with pytest.raises(UsageError, match=f"the query has only {parts}; add a word to search for"):
        parse_query(Query(typed))


def test_last_word_is_unfinished_only_if_it_is_text() -> None:
    assert parse_query(Query("-draft budg", unfinished=True)).unfinished
    assert not parse_query(Query("budget -dra", unfinished=True)).unfinished


def test_pasted_text_is_plain_text() -> None:
    pasted = " ".join(f'He said "number {n}" -loudly.' for n in range(MAX_OPERATORS))
    assert parse_query(Query(pasted)) == Query(pasted)
    assert parse_query(Query(f'"{"word " * 1_000}"')).phrases == ()


_OPERATORS = ('"', "-", " ", "path:", "type:", "(", "*", "^", "'", ":", "!", "#", "[", "]", "\\", "\n", "  ")
_WORDS = (
    "leave",
    "年假",
    "paid leave",
    "\0",
    "\ud800",
    "AND",
    "NOT",
    "NEAR(",
    "E-4471",
    "é",
    "_",
    "“",
    "”",
    "« ",
    "»",
    "readTimeout",
)
_PIECES = st.sampled_from(_OPERATORS + _WORDS)


_QUOTES = dict.fromkeys(map(ord, '"“”„«»'))


@long
@given(st.lists(_PIECES, max_size=40).map("".join))
def test_parsing_loses_no_word_and_is_stable(typed: str) -> None:
    try:
        parsed = parse_query(Query(typed))
    except UsageError:
        return
    assert parse_query(Query(typed)) == parsed
    if not (parsed.selects or parsed.excluded):
        assert "".join(parsed.text.translate(_QUOTES).split()) == "".join(typed.translate(_QUOTES).split())


@enumerated()
@pytest.mark.parametrize(
    "piece", ['"', "“", "»", '-"', ' -"a', ' path:"', " -", "path:", '" ', "a" * 99 + '"']
)
def test_parsing_takes_linear_time(piece: str) -> None:
    started = time.process_time()
    for typed in (piece * (300_000 // len(piece)), piece + "a" * 300_000):
        try:
            parse_query(Query(typed))
        except UsageError:
            continue
    assert time.process_time() - started < 3


TEXTS = {
    "hr/leave.md": "Everyone gets thirty days of paid leave a year.\n\nError E-4471 means: don't re-index.",
    "hr/draft.md": "A draft: leave is paid, and days are counted.\n\nThe annual budget follows.",
    "notes/annual report.txt": "Numbers of the year, in three tables: days, leave, pay.",
    "notes/report.txt": "The annual meeting. A report about leave and days.",
    "zh/列车.md": "中国的高速列车在北京与上海之间运行。请用 kbsync 搜索它。",
    "zh/北京.md": "列车高速地开往上海。搜索 kbsync 的人很多。",
}


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    folder = tmp_path_factory.mktemp("syntax")
    writer = Writer(folder)
    writer.put([entry(number, path, text) for number, (path, text) in enumerate(TEXTS.items(), 1)], ENCODER)
    with closing(writer), closing(SqliteStore(folder, writer=None)) as store:
        yield Search(store, ENCODER)


@pytest.mark.parametrize(
    ("typed", "paths"),
    [
        ('"paid leave"', {"hr/leave.md"}),
        ('"PAID leaves" days', {"hr/leave.md"}),
        ('"days of"', {"hr/leave.md"}),
        ('"error E-4471"', {"hr/leave.md"}),
        ('"don\'t re-index"', {"hr/leave.md"}),
        ('"annual report"', {"notes/annual report.txt"}),
        ('"pade leave"', set()),  # four letters are too few for a misspelling that isn't a swap
        ('"piad leave"', {"hr/leave.md"}),
        ('"thirti days" "payed leave"', set()),
        ('"thirtey days"', {"hr/leave.md"}),
        ('"annual" leave', {"hr/draft.md", "notes/annual report.txt", "notes/report.txt"}),
        ('"annual" "paid" leave', {"hr/draft.md"}),
        ('"高速列车"', {"zh/列车.md"}),
        ('"搜索 kbsync"', {"zh/北京.md"}),
        ('"kbsync 搜索"', {"zh/列车.md"}),
        ("days leave -draft", {"hr/leave.md", "notes/annual report.txt", "notes/report.txt"}),
        ('days leave -"annual report" -draft', {"hr/leave.md", "notes/report.txt"}),
        ("列车 -北京", set()),
        ("列车 -中国", {"zh/北京.md"}),
        ("days leave path:notes/ type:txt -meeting", {"notes/annual report.txt"}),
        ("days leave -path:hr/", {"notes/annual report.txt", "notes/report.txt"}),
        ("days leave -path:draft.md -type:TXT", {"hr/leave.md"}),
        ("days leave path:hr/ -path:*.md", set()),
        ('"leave days"', set()),
        ('"leave.md"', {"hr/leave.md"}),
        ('"hr/leave.md"', {"hr/leave.md"}),
        ('"/home/me/hr/leave.md" days', {"hr/leave.md"}),
        ('leave -"hr/leave.md" -draft', {"notes/annual report.txt", "notes/report.txt"}),
    ],
)
def test_hits_contain_the_phrases_and_no_excluded_words(
    searcher: Search, typed: str, paths: set[str]
) -> None:
    hits = searcher.search(parse_query(Query(typed)))
    assert {hit.path for hit in hits} == paths


def test_phrase_in_several_scripts_is_found_in_a_name_only_in_this_order(tmp_path: Path) -> None:
    texts = dict.fromkeys(["beta 数据库.md", "数据库 beta.md"], "Read me.")
    with searching(tmp_path, texts.items()) as (searcher, _):
        hits = searcher.search(parse_query(Query('"beta 数据库"')))
        assert [hit.path for hit in hits] == ["beta 数据库.md"]
        hits = searcher.search(parse_query(Query('read -"beta 数据库"')))
        assert [hit.path for hit in hits] == ["数据库 beta.md"]


FORMED = {
    "costs.md": "The error E-4471 occurred at night. It costs 1,299 dollars. Call readTimeout first. "
    "We met in room B-12 upstairs, on version v2.10.3 of the 12mm pipe, on two days.",
    "everyday.md": "An everyday note: log in.",
    "day.md": "A note for every day.",
}


@pytest.fixture(scope="module")
def formed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    with searching(tmp_path_factory.mktemp("formed"), FORMED.items()) as (searcher, _):
        yield searcher


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ('"costs 1,299 dollars"', "costs.md"),
        ('"costs 1299 dollars"', "costs.md"),
        ('"4471 occurred"', "costs.md"),
        ('"error E4471 occurred"', "costs.md"),
        ('"E4471 occurred" "1299 dollars"', "costs.md"),
        ('"Call readTimeout first"', "costs.md"),
        ('"read timeout first"', "costs.md"),
        ('"call read timeout"', "costs.md"),
        ('"room B12"', "costs.md"),
        ('"12 upstairs"', "costs.md"),
        ('"version 2.10.3 of"', "costs.md"),
        ('"the 12 mm pipe"', "costs.md"),
        ('"timeout b12"', ""),  # two forms that follow each other
        ('"timeout"', "costs.md"),
        ('"mm"', "costs.md"),
        ('"everyday"', "everyday.md"),
        ('"every day"', "day.md"),
    ],
)
def test_phrases_match_the_other_forms_of_words(formed: Search, typed: str, path: str) -> None:
    hits = formed.search(parse_query(Query(typed)))
    assert [hit.path for hit in hits] == [path] * bool(path)


def test_passage_with_the_phrase_is_shown(searcher: Search) -> None:
    [hit] = searcher.search(parse_query(Query('"annual budget" leave')))
    assert "annual budget" in hit.passages[0].text


@long
@settings(max_examples=60)
@given(st.lists(_PIECES, max_size=20).map("".join))
def test_any_query_is_answered_or_refused_with_a_message(searcher: Search, typed: str) -> None:
    try:
        query = parse_query(Query(typed))
        searcher.search(query)
    except UsageError as error:
        assert str(error)
