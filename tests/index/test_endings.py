"""Tests that a word is found in its other inflections in languages other than English."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.contract.query_syntax import parse_query
from kbsync.contract.searching import Query
from kbsync.index.search import Search
from kbsync.index.snippet import snippet
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.index.words import SQLITE_TOKENISER, TOKENISER, Tokeniser, stemmed, terms_of, word_with, words
from tests.index.test_index import older_words
from tests.index.test_reasons import check_sums
from tests.index.test_search import ENCODER, entry, searching

TEXTS = {
    "ru.md": "Настройки резервного копирования хранятся в файле. Программа запускается каждую ночь.",
    "uk.md": "У кожного відділу є свої правила.",
    "el.md": "Οι ρυθμίσεις του εκτυπωτή βρίσκονται στο γραφείο.",
    "ar.md": "تعمل النسخة الاحتياطية كل ليلة، والموظفون يعملون في المكتب.",
    "fa.md": "گالری در تهران است.",
    "en.md": "The settings of a program.",
}


@pytest.mark.parametrize(
    ("question", "path", "highlighted"),
    [
        ("резервное копирование", "ru.md", "копирования"),
        ("ПРОГРАММЫ", "ru.md", "Программа"),
        ("файлы", "ru.md", "файле"),
        ('"резервное копирование"', "ru.md", "резервного"),
        ("ночами программой", "ru.md", "Программа"),
        ("правило відділів", "uk.md", "відділу"),
        ("ρύθμιση εκτυπωτών", "el.md", "εκτυπωτή"),
        ("ΓΡΑΦΕΙΑ", "el.md", "γραφείο"),
        ("الموظف", "ar.md", "والموظفون"),
        ("نسخة احتياطية", "ar.md", "النسخة"),
        ("بالمكتب", "ar.md", "المكتب"),
        ("گالری", "fa.md", "گالری"),
        ("programs", "en.md", "program"),
    ],
)
def test_word_is_found_and_highlighted_in_another_inflection(
    tmp_path: Path, question: str, path: str, highlighted: str
) -> None:
    with searching(tmp_path, list(TEXTS.items())) as (searcher, _):
        query = parse_query(Query(question))
        assert searcher.search(query)[0].path == path
        assert searcher.unknown_words(query).instead == {}
    shown = snippet(TEXTS[path], question.strip('"'), 200)
    assert highlighted in [shown.text[start:end] for start, end in shown.spans]


LATIN_TEXTS = {
    "de.md": "Unsere Kündigung des Mietvertrags ist abgeschickt. Die Zählerstände fehlen noch.",
    "es.md": "Las herramientas del taller están guardadas en el armario.",
    "fr.md": "Les factures sont payées avant la fin du mois.",
    "pl.md": "Ustawienia drukarki zapisano w pliku.",
    "tr.md": "Konuşmalar salonda yapılacak, toplantının saati belli değil.",
    "en.md": "Bread ingredients, mouse pads.",
    "other.md": "Kundenliste, hermanos, konuk, drukuj.",
}


@pytest.mark.parametrize(
    ("question", "path", "highlighted"),
    [
        ("Welche Kündigungen haben wir?", "de.md", {"Kündigung"}),
        ("Mietverträge und ein Zählerstand", "de.md", {"Mietvertrags", "Zählerstände"}),
        ("¿Dónde está la herramienta?", "es.md", {"herramientas"}),
        ("où est la facture payée", "fr.md", {"factures", "payées"}),
        ("ustawień drukarkę", "pl.md", {"Ustawienia", "drukarki"}),
        ("konuşmayı toplantıları", "tr.md", {"Konuşmalar", "toplantının"}),
    ],
)
def test_word_with_latin_letters_is_found_in_another_inflection(
    tmp_path: Path, question: str, path: str, highlighted: set[str]
) -> None:
    with searching(tmp_path, list(LATIN_TEXTS.items())) as (searcher, _):
        first = searcher.search(Query(question, explain=True))[0]
        assert first.path == path
        assert first.reasons is not None
        assert highlighted <= {match.written or match.word for match in first.reasons.in_text}
        assert first.reasons.together > 0.5
        assert searcher.unknown_words(Query(question)).instead == {}
    shown = snippet(LATIN_TEXTS[path], question, 200)
    assert highlighted == {shown.text[start:end] for start, end in shown.spans}


COMPOUNDS = {
    "time.md": "Die Arbeitszeit beträgt 38 Stunden.",
    "work.md": "Der Arbeitsvertrag, der Arbeitsplatz, die Arbeit und die Arbeiten.",
    "term.md": "Die Kündigungsfrist beträgt vier Wochen.",
    "protection.md": "Der Kündigungsschutz gilt nach sechs Monaten.",
    "notice.md": "Die Kündigung, Kündigungen und Kündigungsgründe: Kündigung!",
}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Arbeitszeit für Österreich", ["time.md"]),
        ("Kündigungsfrist", ["term.md"]),
        ("die Kündigungen und der Mietvertrag", ["notice.md"]),
        ("Kündigungsfrist und Kündigungsschutz für Österreich", ["term.md", "protection.md"]),
    ],
)
def test_word_as_written_ranks_above_words_with_the_same_first_letters(
    tmp_path: Path, question: str, found: list[str]
) -> None:
    with searching(tmp_path, list(COMPOUNDS.items())) as (searcher, _):
        hits = searcher.search(Query(question, explain=True))
    assert {hit.path for hit in hits[: len(found)]} == set(found)
    check_sums(hits)


@pytest.mark.parametrize("question", ["the ingress of the café", "ingress", "which ingress has Müller?"])
def test_english_word_is_not_found_by_its_first_letters(tmp_path: Path, question: str) -> None:
    assert not any(term.prefix for term in terms_of(question))
    with searching(tmp_path, list(LATIN_TEXTS.items())) as (searcher, _):
        for hit in searcher.search(Query(question, explain=True)):
            assert hit.reasons is not None
            assert not hit.reasons.in_text


@given(st.text("abcdefghinosty", min_size=5, max_size=16))
def test_word_is_found_in_the_same_form_by_its_first_letters(word: str) -> None:
    [term] = terms_of(f"{word} für ährenkörner")[:1]
    if term.prefix:
        assert Tokeniser().tokens(word)[0].startswith(*Tokeniser().tokens(term.prefix))
        assert word.startswith(term.prefix)


def test_word_in_another_inflection_excludes_a_document(tmp_path: Path) -> None:
    texts = [("a.md", "Настройки принтера"), ("b.md", "Настройки сканера")]
    with searching(tmp_path, texts) as (searcher, _):
        hits = searcher.search(parse_query(Query("настройка -принтеры")))
    assert [hit.path for hit in hits] == ["b.md"]


def test_file_is_found_by_its_whole_name_in_russian(tmp_path: Path) -> None:
    texts = [("Настройки.md", "лампа"), ("b.md", "Настройки настроек настройками"), ("c.md", "лампа")]
    with searching(tmp_path, texts) as (searcher, _):
        assert searcher.search(Query("Настройки"))[0].path == "Настройки.md"


def test_typo_is_reported_with_the_word_as_written_in_a_name(tmp_path: Path) -> None:
    with searching(tmp_path, [("Настройки.md", "лампа"), ("Руководство.md", "лампа")]) as (searcher, _):
        unknown = searcher.unknown_words(Query("настрйоки руководств"))
    assert unknown.instead == {"настрйоки": "Настройки"}


@pytest.mark.parametrize(
    "word", ["книги", "системами", "столия", "ρυθμίσεις", "والموظفون", "الولد", "databases"]
)
def test_every_stem_has_a_word_with_which_it_is_found(word: str) -> None:
    [term] = stemmed(word)
    [found] = stemmed(word_with(term.stem))
    assert found.stem == term.stem


def test_sign_between_letters_ends_a_word() -> None:
    """For example, the Urdu full stop, and the Cyrillic thousands sign."""
    splitter = Tokeniser(SQLITE_TOKENISER[1:])
    for sign in map(chr, range(0x370, 0x700)):
        if len(splitter.tokens(words(f"a{sign}a"))) == 2:
            for word in ("словами", "حالات"):
                stems = [term.stem for term in stemmed(f"{word}{sign}ами {word} {word}{sign}")]
                assert stems == [stems[0], "ами", stems[0], stems[0]], f"{ord(sign):x}"


LETTERS = "абвеиойыьяАЯїxsαιουσςΣηابتولهني\u064b\u06cc中文1_- .\n\ue000"


@given(st.text(st.sampled_from(LETTERS), max_size=30))
def test_search_looks_for_the_words_that_sqlite_stores(text: str) -> None:
    name, *options = SQLITE_TOKENISER
    sqlite = apsw.Connection(":memory:").fts5_tokenizer(name, options)
    stored = sqlite(words(text).encode(), apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False)
    assert Tokeniser().words(text) == [token for token, *_ in stored]


def test_words_stored_before_endings_were_removed_are_found_after_an_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with older_words(7, monkeypatch), closing(Writer(tmp_path)) as index:
        index.put([entry(number, *item) for number, item in enumerate(TEXTS.items(), 1)], ENCODER)
    with closing(Writer(tmp_path)) as index:
        while index.tidy():
            pass
        index._connection.execute("INSERT INTO words(words) VALUES ('integrity-check')")
    with closing(SqliteStore(tmp_path, writer=None)) as store, store.snapshot() as snapshot:
        [candidate] = snapshot.candidates(stemmed("копирование"), "", None, Query("копирование"))
        assert candidate.document == 1


@pytest.mark.parametrize(
    ("question", "path", "instead"),
    [
        ("Настройки", "ru.md", {}),
        ("настройка", "ru.md", {"настройка": "Настройки"}),
        ("программу", "ru.md", {"программу": "Программа"}),
        ("ΓΡΑΦΕΙΟ", "el.md", {}),
        ("المكتب", "ar.md", {}),
        ("مكتب", "ar.md", {"مكتب": "المكتب"}),
        ("программ", "ru.md", {"программ": "Программа"}),
    ],
)
def test_words_are_found_as_they_are_before_an_upgrade_removes_their_endings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str, path: str, instead: dict[str, str]
) -> None:
    with older_words(7, monkeypatch), closing(Writer(tmp_path)) as index:
        index.put([entry(number, *item) for number, item in enumerate(TEXTS.items(), 1)], ENCODER)
    with closing(SqliteStore(tmp_path, writer=None)) as store:
        searcher, query = Search(store, ENCODER), Query(question, explain=True)
        hit = searcher.search(query)[0]
        unknown = searcher.unknown_words(query)
    assert (hit.path, unknown.instead, unknown.are_all) == (path, instead, bool(instead))
    assert hit.reasons is not None
    [word] = hit.reasons.in_text
    assert (word.word, word.written) == (question, next(iter(instead.values()), ""))


def test_word_with_a_stem_that_looks_like_an_inflection_is_another_word(tmp_path: Path) -> None:
    with searching(tmp_path, [("canteen.md", "Столовая открыта."), ("lamp.md", "лампа")]) as (searcher, _):
        assert searcher.unknown_words(Query("стол")).instead == {"стол": ""}


def test_words_that_an_upgrade_does_not_change_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored(index: Writer) -> list[bytes]:
        return [block for (block,) in index._connection.execute("SELECT block FROM words_data WHERE id > 10")]

    with older_words(7, monkeypatch), closing(Writer(tmp_path)) as index:
        for number in (1, 2):  # two segments, which a merge would rewrite
            index.put([entry(number, f"{number}.md", TEXTS["en.md"])], ENCODER)
        blocks = stored(index)
    with closing(Writer(tmp_path)) as index:
        while index.tidy():
            pass
        assert stored(index) == blocks
        assert index._connection.execute("SELECT min(tokeniser) FROM run").get == TOKENISER
