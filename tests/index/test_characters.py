"""Tests that characters with several spellings are found in each, and shown as people read them."""

from __future__ import annotations

import sys
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest

from kbsync.contract.query_syntax import parse_query
from kbsync.contract.searching import Query
from kbsync.index.characters import (
    _MARKS,
    _any,
    _compatible,
    _simplified,
    _unseen_in_text,
    folded,
    legible,
    simplified,
)
from kbsync.index.chunk import chunk, make_legible
from kbsync.index.document import Parsed
from kbsync.index.read.text import parse_text
from kbsync.index.search import Search
from kbsync.index.snippet import snippet
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.index.words import OLDEST_TOKENISER, Tokeniser, comparable, terms_of, words
from tests.index.test_index import older_words
from tests.index.test_search import ENCODER, entry, paths, searching
from tests.share import long

VARIANT = "\U000e0100"  # selects a form of the ideograph before it

SAME = [
    ("the o\ufb03ce is open", "office"),
    ("\u2f47\u672c\u8a9e", "日本語"),
    ("\u2ed3期\u2ec5证\u2ea0宿", "长期见证民宿"),
    ("\u2ed1期", "長期"),
    ("か\u3099っこう", "がっこう"),
    ("か\u309bっこう", "がっこう"),
    ("ﾊﾞｯｸｱｯﾌﾟ", "バックアップ"),
    (unicodedata.normalize("NFD", "한국어 문서"), "한국어"),
    (unicodedata.normalize("NFD", "Überraschung"), "Überraschung"),
    ("back\u00adup of the ser\u200bver", "backup server"),
    ("word\u2060joiner", "wordjoiner"),
    ("ＫＢＳＹＮＣ　２０２６", "kbsync 2026"),
    ("\ufeffkestrel", "kestrel"),
    (f"葛{VARIANT}城市", "葛城"),
    ("Kestrel™ lamps", "kestrel"),
    ("Die Straße ist gesperrt", "STRASSE"),
    ("DIE STRAẞE IST GESPERRT", "Strasse"),
    ("Le cœur et l’ŒUVRE", "coeur oeuvre"),
    ("Ærø, KØBENHAVN og Þingvellir", "Aero Kobenhavn thingvellir"),
    ("Łódź", "lodz"),
    ("Đà Nẵng, đường dây nóng", "da nang duong"),
    ("IŞIK, İZİN", "ışık izin"),
    ("Iğdır ve ısıtma", "ığdır ISITMA"),
    ("Комп\u02bcютер", "комп'ютер"),
    ("Hawai\u02bbi", "Hawai’i"),
    ("Ἐν ἀρχῇ ἦν ὁ λόγος", "αρχη λογος"),
    ("مـــوظـــف", "موظف"),
    ("وَصَلَتِ الرِّسَالَةُ", "الرسالة"),
    ("أحمد إدارة آخر", "احمد اداره اخر"),
    ("رقم ١٢٣٤٥ یا ۶۷۸", "12345 678"),
    ("กฎข้อ ๑๒", "12"),
    ("שָׁלַח מִכְתָּב", "מכתב"),
    ("कल का दिन है", "दिन"),
    (unicodedata.normalize("NFD", "বাড়ি ও বৌ"), "বাড়ি বৌ"),
    ("तीन क\u093cलम", "\u0958लम"),
    ("ใบ\u200bลา\u200bพัก", "ใบลาพัก"),
]


@pytest.mark.parametrize(("text", "query"), [*SAME, *((query, text) for text, query in SAME)])
def test_different_spellings_of_a_word_find_each_other(tmp_path: Path, text: str, query: str) -> None:
    with searching(tmp_path, [("a.txt", text), ("b.txt", "something else")]) as (searcher, _):
        hits = searcher.search(Query(query))
        assert paths(hits)[:1] == ["a.txt"]
        result = snippet(hits[0].passages[0].text, query, 90)
        assert result.spans or VARIANT in result.text, "a variant is shown, and interrupts the word"


@pytest.mark.parametrize(
    ("texts", "question", "expected"),
    [
        (["कल का दिन छुट्टी का है।", "दान देने वाले दुकान पर दान दें।"], '"दिन"', [0]),
        (["कल का दिन छुट्टी का है।", "दान देने वाले दुकान पर दान दें।"], "-दिन दान", [1]),
        (["প্রতিদিন বৃষ্টি হবে", "নতুন বাস চলবে, বা ষ্ট"], '"বৃষ্টি"', [0]),
        (["மழை பெய்யும்", "மாழ பொயம"], '"மழை"', [0]),
        (["กรุณาส่งใบลาก่อนวันศุกร์", "ลาบใหม่ ใบไม้ ลา"], '"ใบลา"', [0]),
        (["ກະລຸນາສົ່ງໃບລາກ່ອນ", "ລາໃບ"], '"ໃບລາ"', [0]),
        (["ខ្ញុំចូលចិត្តភាសាខ្មែរ", "ខ្មែ ភាសា"], '"ភាសាខ្មែរ"', [0]),
        (["မြန်မာစာသင်တန်း", "မာစမြန်"], '"မြန်မာစာ"', [0]),
        (["הַמְּנַהֵל שָׁלַח מִכְתָּב", "המפעל סגור"], '"המנהל שלח"', [0]),
        (["وَصَلَتِ الرِّسَالَةُ", "المصنع مغلق"], '"وصلت الرسالة"', [0]),
    ],
)
def test_marks_are_part_of_their_word(
    tmp_path: Path, texts: list[str], question: str, expected: list[int]
) -> None:
    with searching(tmp_path, [(f"{number}.md", text) for number, text in enumerate(texts)]) as (search, _):
        hits = search.search(parse_query(Query(question)))
        assert paths(hits) == [f"{number}.md" for number in expected]


def test_every_letter_and_vowel_sign_of_common_scripts_stays_in_its_word() -> None:
    tokeniser = Tokeniser()
    for code in (*range(0x386, 0x480), *range(0x5D0, 0x5EB), *range(0x620, 0x700), *range(0x900, 0x1100)):
        if unicodedata.category(chr(code))[0] in "LM":
            assert len(tokeniser.tokens(f"a{comparable(chr(code))}b")) == 1, hex(code)


def test_single_letter_of_a_script_without_spaces_is_searched_only_alone() -> None:
    assert [term.surface for term in terms_of("ใบลา 資料")] == ["ใบ", "บล", "ลา", "资", "料", "资料"]
    assert [term.surface for term in terms_of("ชั้นลา")] == [comparable(pair) for pair in ("ชั้น", "นล", "ลา")]
    assert [term.surface for term in terms_of("ก")] == ["ก"]


def test_older_versions_keep_their_words() -> None:
    text = (
        "V.P.N. on 14 March 2026 for E-4471 and 15 000 km or 8,999km 2 мая 2025 DE89 3704 0044 0532 0130 00"
    )
    assert [words(text, version) for version in (4, 5)] == [
        f"{text} E4471 000km 999 km",
        f"{text} VPN E4471 000km 999 km 202603 20260314",
    ]


def test_words_of_the_version_before_endings_were_removed_stay_as_they_were() -> None:
    text = "Настройки резервного копирования. Οι ρυθμίσεις. إعدادات النسخة."
    assert [words(text, version) for version in (7, 8)] == [
        "Настройки резервного копирования. Οι ρυθμισεις. اعدادات النسخه.",
        "настройк резервн копирован. Οι ρυθμισ. اعداد نسخ.",
    ]


def test_name_with_radical_characters_is_found(tmp_path: Path) -> None:
    with searching(tmp_path, [("\u2ed3\u2ed4.txt", "lamp"), ("b.txt", "lamp")]) as (searcher, _):
        assert len(searcher.search(Query("长门"))) == 1


@pytest.mark.parametrize("name", ["한국어.txt", "バックアップ.txt", "Überraschung.txt"])
def test_nfd_file_name_is_found_as_typed(tmp_path: Path, name: str) -> None:
    texts = [(unicodedata.normalize("NFD", name), "lamp"), ("b.txt", "lamp")]
    with searching(tmp_path, texts) as (searcher, _):
        assert len(searcher.search(Query(name.removesuffix(".txt")))) == 1


def test_text_is_shown_and_embedded_in_normalized_form() -> None:
    raw = "# O\ufb03ce\n\nback\u00adup か\u3099 \u2f47\u2ed4 Ａ１，“x” … ½ ™ 👨\u200d👩\n"
    parsed = make_legible(parse_text("a.md", raw.encode()))
    text = "# Office\n\nbackup が 日门 A1，“x” … ½ ™ 👨\u200d👩\n"  # signs and joined pictures stay
    assert (parsed.text, parsed.title) == (text, "Office")
    [same] = chunk(Parsed(text, title="Office"))
    [chunked] = chunk(Parsed(raw, title="O\ufb03ce", tags=("か\u3099",)))
    assert (chunked.text, chunked.key, chunked.embed_text) == (same.text, same.key, same.embed_text)


def test_page_starts_stay_correct_when_preceding_text_shrinks() -> None:
    pages = ["か\u3099" * 300 + "\n\n", "second " * 60 + "\n\n", "o\ufb03ce " * 200]
    starts = (0, len(pages[0]), len(pages[0]) + len(pages[1]))
    chunks = chunk(Parsed("".join(pages), page_starts=starts, has_lines=False))
    assert {piece.text.split()[0]: piece.page for piece in chunks}["second"] == 2
    assert chunks[-1].page == 3


def test_zero_width_space_separates_words_only_where_nothing_else_does() -> None:
    thai = "สำรอง\u200bข้อมูล"
    assert legible(thai) == thai
    assert len(folded(thai).split("\u200b")) == 2


@long
def test_text_shown_differently_from_its_source_is_searchable() -> None:
    for code in (*range(0x80, 0xD800), *range(0xE000, sys.maxunicode)):
        text = f"か{chr(code)}"
        remaining = _compatible().sub("", _unseen_in_text().sub("", text))
        assert remaining == text or _any().search(text), hex(code)
    assert _any().search("\ud800") and _any().search("\udfff")


@long
def test_combining_marks_are_composed_in_bounded_batches() -> None:
    """Python sorts a letter's marks in quadratic time."""
    for code in (*range(0xD800), *range(0xE000, sys.maxunicode)):
        if unicodedata.combining(unicodedata.normalize("NFD", chr(code))[0]):
            assert not _MARKS.sub("", chr(code) * 64), hex(code)
        elif unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0]):
            assert chr(code) in "\uff9e\uff9f\u309b\u309c" or not _MARKS.sub("", chr(code) * 64), hex(code)
    assert legible("e\u0301" + "\u0301" * 62) == "é" + "\u0301" * 62


def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    assert legible("a\ud800b \ud83d\ude00") == "a\ufffdb 😀"


def test_table_converts_traditional_characters_in_one_step() -> None:
    table = _simplified()
    assert len(table) > 4_000 and not table.keys() & set(table.values())
    assert simplified("臺灣的資料庫後面") == "台湾的资料库后面"
    assert legible("臺灣") == "臺灣"  # as shown and embedded


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("資料庫的備份", "数据库 资料库备份"),
        ("数据库 资料库备份", "資料庫的備份"),
        ("def readTimeout(): pass", "read timeout"),
        ("the read timeout", "readTimeout"),
        ("getHTTPResponse fails", "http response"),
        ("error E-4471", "E4471"),
        ("error E4471", "E-4471"),
        ("8,999 files", "8999"),
        ("8999 files", "8,999"),
        ("8 999 files", "8,999"),
        ("8 999km", "8999 km"),
        ("IBAN: DE89 3704 0044 0532 0130 00.", "DE89370400440532013000"),
        ("IBAN: DE89370400440532013000.", "DE89 3704 0044 0532 0130 00"),
        ("GB29 NWBK 6016 1331 9268 19", "gb29nwbk60161331926819"),
        ("Протокол от 14 марта 2026 г.", "2026-03-14"),
        ("Log of 2026-03-14", "14 марта 2026"),
        ("Звіт за 2 червня 2026 року", "2.6.2026"),
        ("Итоги: Август 2026", "2026-08"),
        ("1.234.567 Einwohner", "1234567"),
        ("version v2.10.3 is out", "2.10.3"),
        ("version 2.10.3 is out", "v2.10.3"),
        ("the pipe is 12mm wide", "12 mm"),
        ("the pipe is 12 mm wide", "12mm"),
        ("it holds 250 L", "250L"),
        ("a 5µm filter", "5um"),
        ("a 5 um filter", "5µm"),
        ("a 3.5 kW heater", "3.5kW"),
        ("Call 0800 123 4567.", "08001234567"),
        ("Call 0800 123 4567.", "0800 1234567"),
        ("Call 08001234567.", "0800-123-4567"),
        ("ISBN 978-3-16-148410-0", "9783161484100"),
        ("the VPN is slow", "V.P.N."),
        ("the V.P.N. is slow", "vpn"),
    ],
)
def test_query_matches_other_scripts_and_forms(tmp_path: Path, text: str, question: str) -> None:
    with searching(tmp_path, [("a.txt", text), ("b.txt", "nothing of it")]) as (search, _):
        best, *others = search.search(Query(question))
        assert best.path == "a.txt" and all(other.score < best.score / 2 for other in others)
        unknown = search.unknown_words(Query(question))
        assert (unknown.codes, unknown.are_all) == ((), False)


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.123",
        "192.168.10.24",
        "1,234,56",
        "3.14159",
        "GET",
        "Title",
        "12 people, 30 in a row",
        "12345 9999",
        "1 2 3 4 5 6 7 8 9 10 11 12 13",
        "12 345 6 78",
    ],
)
def test_lookalike_forms_keep_their_words(text: str) -> None:
    assert words(text) == text


@pytest.mark.parametrize("text", ["2026-11-24 12", "2026-11-24 09:25:07"])
def test_date_with_an_hour_is_no_telephone_number(text: str) -> None:
    assert words(text) == f"{text} 202611 20261124"


def test_other_forms_follow_the_text() -> None:
    # A code has one to five letters and one number.
    text = "iso-8859 v1.234 readTimeout, 12mm and 0800 123 4567 x"
    assert words(text) == f"{text} iso8859 1 read Timeout 12 mm 08001234567"


def test_row_of_numbers_has_one_form() -> None:
    assert words("10 20 30 40 50 60") == "10 20 30 40 50 60 102030405060"


@pytest.mark.parametrize(
    ("text", "question", "marked"),
    [
        ("臺灣的資料庫", "台湾", ["臺灣"]),
        ("call readTimeout here", "read timeout", ["readTimeout"]),
        ("call read_timeout here", "readTimeout", ["read", "timeout"]),
        ("The price is $8,999.", "8999", ["8,999"]),
        ("The price is 8999.", "8,999", ["8999"]),
        ("Files 8,999 and 1.234.567", "1234567", ["1.234.567"]),
        ("Error E-4471 appears", "E4471", ["E-4471"]),
        ("It is 12mm wide", "12 mm", ["12mm"]),
        ("Call 0800 123 4567 now", "08001234567", ["0800 123 4567"]),
        ("Error e4471 appears", "E-4471", ["e4471"]),
        ("Not 10.0.0.123 or 2026-31-24", "1000123 20263124", []),
        ("It began on 24 November 2026.", "2026-11-24", ["24 November 2026"]),
        ("in a café", "cafe", ["café"]),
        ("in a cafe\u0301 \u2163 ㎡", "CAFÉ m2", ["café", "㎡"]),
        ("in a cafe", "café", ["cafe"]),
        ("the generation of reports", "generate", ["generation"]),
        ("they relied on it, really", "rely", ["relied"]),
        ("a university in the universe", "universal", ["university", "universe"]),
        ("the general gene", "generate", ["general"]),
        ("每台㎡…备份ABC运行", "备份 abc", ["备份", "ABC"]),
        ("Ærø: die große Straße", "GROSSE strasse", ["große", "Straße"]),
        ("Straßen ŒUVRE Fuß", "fuss oeuvre", ["ŒUVRE", "Fuß"]),
        ("كَتَبَ مُحَمَّدٌ الرِّسَالَةَ", "محمد", ["مُحَمَّدٌ"]),
        ("שָׁלַח מִכְתָּב", "מכתב", ["מִכְתָּב"]),
        ("हिन्दी का दिन अच्छा", "दिन", ["दिन"]),
        ("กรุณาส่งใบลาก่อนวันศุกร์ น้ำมัน", "ใบลา น้ำมัน", ["ใบลา", "น้ำมัน"]),
    ],
)
def test_words_in_other_scripts_and_forms_are_highlighted(
    text: str, question: str, marked: list[str]
) -> None:
    result = snippet(text, question, 80)
    assert [result.text[start:end] for start, end in result.spans] == marked


def test_traditional_chinese_queries_have_the_same_words() -> None:
    for simple, traditional in (("备份是什么？", "備份是什麼？"), ("怎么恢复备份", "怎麼恢復備份")):
        assert terms_of(simple) == terms_of(traditional)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("本章说明如何安装公司的数据\n库系统。", '"数据库系统"'),
        ("今天发布**重要**通知。", '"发布重要通知"'),
        ("今天发布**重要\n通知**。", '"重要通知"'),
        ("これは東\n京タワーです", '"東京タワー"'),
        ("Отчёт за март", "отчет"),
        ("отчет за март", "Отчёт"),
        ("Η οδός είναι εδώ", "ΟΔΟΣ ειναι"),
        ("It costs 12\u00a0345 or 9\u202f999", "12345 9999"),
    ],
)
def test_words_are_found_however_marks_and_line_ends_divide_them(
    tmp_path: Path, text: str, question: str
) -> None:
    with searching(tmp_path, [("a.md", text)]) as (search, _):
        query = parse_query(Query(question))
        assert paths(search.search(query)) == ["a.md"]
        assert search.unknown_words(query).instead == {}


def test_korean_words_do_not_continue_on_the_next_line() -> None:
    assert "다음" not in words("안녕하다\n음악").split()


OLDER = "the o\ufb03ce ＫＢＳＹＮＣ か\u3099 V.P.N."


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index with words of an older version."""
    with older_words(OLDEST_TOKENISER, monkeypatch), closing(Writer(tmp_path)) as index:
        index.put([entry(1, "S.S.O. e\ufb03cient.md", OLDER)], ENCODER)
    return tmp_path


def test_documents_tokenized_by_an_older_version_are_removed_completely(older: Path) -> None:
    with closing(Writer(older)) as index:
        index.delete([1])
        index._connection.execute("INSERT INTO words(words) VALUES ('integrity-check')")
        for table in ("words", "names"):
            index._connection.execute(
                f"CREATE VIRTUAL TABLE temp.in_{table} USING fts5vocab(main, {table}, row)"
            )
            assert index._connection.execute(f"SELECT count(*) FROM temp.in_{table}").get == 0


def test_new_tokenizer_reindexes_stored_texts_without_embedding(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(word: str) -> list[int]:
        with closing(SqliteStore(older, writer=None)) as store, store.snapshot() as snapshot:
            return [
                candidate.document for candidate in snapshot.candidates(terms_of(word), "", None, Query(word))
            ]

    monkeypatch.setattr(ENCODER, "begin", lambda chunks: pytest.fail(str(chunks)))
    assert [find(word) for word in ("vpn", "sso", "efficient")] == [[], [], [1]]
    with closing(SqliteStore(older)) as store:
        rows = list(store.page(0, 9))
        assert store.purge()
        assert list(store.page(0, 9)) == rows
        assert not store.tidy()
    assert [find(word) for word in ("vpn", "sso", "efficient")] == [[1], [1], [1]]


def test_both_scripts_share_one_vector(tmp_path: Path) -> None:
    with searching(tmp_path, [("a.txt", "か\u3099 back\u00adup"), ("b.txt", "が backup")]) as (_, index):
        assert index._connection.execute("SELECT count(*) FROM slot WHERE key NOTNULL").get == 1
        with closing(SqliteStore(tmp_path, writer=None)) as store:
            hits = Search(store, ENCODER).search(Query("zz backup"))
            assert next(hit.score for hit in hits) == pytest.approx(hits[1].score)
