"""Tests that a search replaces a misspelt word with the similar word that documents have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.contract.searching import Query, UnknownWords
from kbsync.index.spelling import MAX_GUESSED_WORDS, Unknown, find_unknown, slips_between
from kbsync.index.sqlite import store
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.words import Term, stemmed, terms_of, word_with
from tests.index.test_search import searching
from tests.share import long

TEXTS = [
    ("boiler.md", "The temperature of the boiler is measured twice. The registration is open."),
    ("thermostat.md", "A thermostat keeps it. 温度计在锅炉上。"),
    ("E4471.md", "Error E4471 means that the valve is stuck."),
]


def vocabulary(*words: str) -> dict[str, int]:
    return {token.stem: count for count, word in enumerate(words, 1) for token in stemmed(word)}


def unknown(
    question: str, vocabulary_counts: dict[str, int], *, unfinished: bool = False, text: str = ""
) -> list[Unknown]:
    def beginning(letters: str, shortest: int, longest: int) -> Iterable[tuple[str, int]]:
        some = [item for item in vocabulary_counts.items() if item[0].startswith(letters)]
        return [item for item in some if shortest <= len(item[0]) <= longest]

    def occurring(stems: Iterable[str]) -> dict[str, int]:
        return {stem: vocabulary_counts[stem] for stem in stems if stem in vocabulary_counts}

    def words_with(stem: str) -> Iterable[tuple[str, str]]:
        return [(word_with(stem, text),) * 2]

    lookups = occurring, beginning, words_with, lambda _: ("", "")
    found = find_unknown(terms_of(question, unfinished=unfinished), *lookups)
    return [Unknown(word.word, word.stem) for word in found]


@pytest.mark.parametrize(
    ("typed", "intended"),
    [
        ("temprature", "temperature"),
        ("temperatuer", "temperature"),
        ("temmperature", "temperature"),
        ("temperatyre", "temperature"),
        ("etmperature", "temperature"),
        ("temprture", "temperature"),  # two slips
        ("temperaatuer", "temperature"),
        ("reoistered", "registered"),
        ("bioler", "boiler"),
        ("пирагов", "пирогов"),
        ("wfii", "wifi"),  # four letters, two of them swapped
        ("bycicle", "bicycle"),  # swapped around another
    ],
)
def test_word_with_one_or_two_typos_is_corrected_to_the_nearest(typed: str, intended: str) -> None:
    vocabulary_counts = vocabulary(
        "temperature", "registered", "boiler", "пирогов", "meaning", "wifi", "bicycle"
    )
    [stem] = vocabulary(intended)
    assert unknown(f"the {typed} meaning", vocabulary_counts, text=intended) == [Unknown(typed, stem)]


@pytest.mark.parametrize(
    ("typed", "intended"),
    [
        ("компютер", "компьютер"),
        ("принтр", "принтер"),
        ("бугалтерии", "бухгалтерии"),
        ("холодильнк", "холодильник"),
        ("διευθνση", "διεύθυνση"),
        ("սարքավորմ", "սարքավորում"),
        ("מסכים", "מסמכים"),
        ("الرساة", "الرسالة"),
        ("छुट्ट", "छुट्टी"),
        ("विश्वविद्यलय", "विश्वविद्यालय"),  # too many letters to try each
    ],
)
def test_letter_missing_from_a_word_of_any_alphabet_is_supplied(typed: str, intended: str) -> None:
    [stem] = vocabulary(intended)
    [correction] = unknown(typed, vocabulary("temperature", intended, "лампа", "छाया"), text=intended)
    assert correction.stem == stem


@pytest.mark.parametrize(
    "typed",
    [
        "vlve",  # four letters
        "oneil",  # whose slip "oneli" has the stem of a stop word
        "tihs",
        "bxilxr",  # two slips in a short word
        "E4472",  # another code
        "nothing",  # "both" by another first letter
        "temp",
        "tempxraturxy",
        "iboiler",  # another word, like "iphone"
        "zmpexature",  # of two slips one in the first three letters
        "锅炉",
    ],
)
def test_dissimilar_words_stay_unknown(typed: str) -> None:
    vocabulary_counts = vocabulary("valve", "boiler", "e4471", "temperature", "炉锅", "both", "on", "this")
    assert all(correction.stem == "" for correction in unknown(typed, vocabulary_counts))
    assert unknown(typed, vocabulary_counts)


def test_correction_prefers_the_same_beginning_and_then_the_commonest() -> None:
    assert unknown("parrots", vocabulary("carrots", "parrot", "garrots")) == []
    assert unknown("pbrrots", vocabulary("parrots", "perrots", "arrots")) == [Unknown("pbrrots", "perrot")]
    assert unknown("marrots", vocabulary("carrots", "barrots")) == [Unknown("marrots", "barrot")]


def test_correction_prefers_swapped_letters_to_other_typos() -> None:
    assert unknown("stahs", vocabulary("stash", "stats")) == [Unknown("stahs", "stash")]


@pytest.mark.parametrize(
    ("typed", "texts", "instead"),
    [
        ("housing", ["The opening hours of the office."], ""),
        ("houseing", ["The opening hours of the office."], ""),
        ("attended", ["Pay attention to it."], ""),
        ("extended", ["The extension of the office."], ""),
        ("printng", ["It was printed."], "printed"),
        ("suspension", ["It was suspended."], "suspended"),
        ("houzing", ["The housing is free.", *["Our opening hours."] * 2], "housing"),
        ("wslking", ["We walk home.", "He was walking."], "walking"),
        ("expence", ["An expensive car.", "Travel expenses are paid.", "The expenditure."], "expenses"),
        ("boilrs", ["The boiler is hot."], "boiler"),
        ("temprture", ["The temperatures rise."], "temperatures"),
        ("विश्वविद्यलय", ["विश्वविद्यालय", *["विश्वविद्या"] * 3], "विश्वविद्यालय"),
    ],
)
def test_correction_is_a_word_in_a_document_that_looks_similar(
    tmp_path: Path, typed: str, texts: list[str], instead: str
) -> None:
    entries = [(f"{number}.md", text) for number, text in enumerate(texts)]
    with searching(tmp_path, [*entries, ("x.md", "nothing")]) as (search, _):
        assert search.unknown_words(Query(typed)).instead == {typed: instead}


@pytest.mark.parametrize(
    ("typed", "text", "written"),
    [
        ("rollback", "Roll\nback the release.", "Roll back"),
        ("nodejs", "Install Node.js 20, then restart the node.", "Node.js"),
        ("obrien", "Ask Mr O’Brien, not Brian.", "O’Brien"),
        ("login", "First log in.", "log in"),
        ("windows11", "It needs Windows 11.", "Windows 11"),
        ("INV2026031", "Invoice INV-2026-031 of May.", "INV-2026-031"),
        ("001A2B3C4D5E", "Printer 00:1a:2b:3c:4d:5e.", "00:1a:2b:3c:4d:5e"),
        ("001A2B3C4D5E", "Switch 001a.2b3c.4d5e.", "001a.2b3c.4d5e"),
        ("9F3A77QXLM02P8YT", "Key 9F3A-77QX-LM02-P8YT.", "9F3A-77QX-LM02-P8YT"),
        ("4111111111111111", "Pay with 4111 1111-1111 1111, 2026.", "4111 1111-1111 1111"),
        ("9780441478125", "1969,978-0-441-47812-5", "978-0-441-47812-5"),
        ("5w30", "Oil 5W-30, 4.3 litres.", "5W-30"),
        ("KX4471B", "A bolt KX-4471B.", "KX-4471B"),
        ("workin", "They work in pairs. Working hours.", "Working"),  # a misspelled word
        ("ofice", "The prices of ice. The office.", "office"),
        ("rollback", "The ball may roll. Back then, it did.", ""),  # in two sentences
        ("restated", "They rest at noon.", ""),  # "ated" has the same stem
        ("send", "The week's end.", ""),
    ],
)
def test_word_is_found_in_parts_and_shown_as_written(
    tmp_path: Path, typed: str, text: str, written: str
) -> None:
    others = [("b.md", "The roll of paper is back."), ("c.md", "Node 2026."), ("d.md", "nothing")]
    with searching(tmp_path, [("a.md", text), *others]) as (search, _):
        query = Query(f"about {typed}", explain=True)
        unknown = search.unknown_words(query)
        assert (unknown.instead, unknown.codes) == ({typed: written}, ())
        if written:
            [first, *_] = search.search(query)
            assert first.path == "a.md"
            assert first.reasons is not None
            assert [word.written for word in first.reasons.in_text] == [written]


def test_few_words_of_a_pasted_text_are_corrected() -> None:
    slipped = [f"boile{letter}" for letter in "abcdefghijkl"]
    corrections = unknown(" ".join(slipped), vocabulary("boiler"))
    assert [correction.word for correction in corrections] == slipped
    assert [correction.stem for correction in corrections] == ["boiler"] * MAX_GUESSED_WORDS + [""] * 4
    endless = "x" * 3_000
    assert unknown(endless, {"x" * 2_999: 1}) == [Unknown(endless, "")]


def test_word_being_typed_is_not_corrected() -> None:
    vocabulary_counts = vocabulary("temperature")
    assert unknown("tempera", vocabulary_counts, unfinished=True) == []
    assert unknown("boilr tempera", vocabulary_counts, unfinished=True) == [Unknown("boilr", "")]


@long
@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_typos_are_counted_symmetrically(first: str, second: str) -> None:
    count = slips_between(first, second)
    assert count == slips_between(second, first)
    assert (count == 0) == (first == second)
    assert abs(len(first) - len(second)) <= count <= max(len(first), len(second))


def test_swapped_neighbours_are_one_typo() -> None:
    assert slips_between("ab", "ba") == 1
    assert slips_between("abcd", "badc") == 2
    assert slips_between("kitten", "sitting") == 3


@pytest.mark.parametrize("question", ["boiler temprature", "temprature", "bioler temprature", "temprture"])
def test_search_finds_the_intended_word_and_says_so(tmp_path: Path, question: str) -> None:
    with searching(tmp_path, TEXTS) as (search, _):
        assert search.search(Query(question))[0].path == "boiler.md"
        instead = search.unknown_words(Query(question)).instead
        assert "temperature" in instead.values() and "boiler" not in instead


def test_existing_word_outranks_a_corrected_one(tmp_path: Path) -> None:
    texts = [("a.md", "the temperature of the valve"), ("b.md", "the kestrel of the valve")]
    with searching(tmp_path, [*texts, ("c.md", "nothing"), ("d.md", "of that")]) as (search, _):
        assert [hit.path for hit in search.search(Query("temprature kestrel"))][:2] == ["b.md", "a.md"]


@pytest.mark.parametrize(
    ("typed", "intended"), [("databse", "database"), ("relesse", "release"), ("agred", "agree")]
)
def test_word_is_found_despite_a_different_stem(tmp_path: Path, typed: str, intended: str) -> None:
    with searching(tmp_path, [*TEXTS, ("x.md", f"A {intended} of that kind."), ("y.md", "other")]) as (
        search,
        _,
    ):
        assert search.unknown_words(Query(typed)).instead == {typed: intended}
        [hit] = [hit for hit in search.search(Query(typed, explain=True)) if hit.path == "x.md"]
        assert hit.reasons is not None
        assert [(word.word, word.written) for word in hit.reasons.in_text] == [(typed, intended)]


def test_name_words_are_known_and_shown_as_written(tmp_path: Path) -> None:
    texts = [("Thermostats.md", "nothing of it"), ("b.md", "other")]
    with searching(tmp_path, texts) as (search, _):
        assert search.unknown_words(Query("thermostat")).instead == {}
        query = Query("thermosttas")
        assert search.unknown_words(query) == UnknownWords({"thermosttas": "Thermostats"}, True)
        assert search.search(query)[0].path == "Thermostats.md"


@pytest.mark.parametrize(
    ("text", "question", "instead"),
    [
        ("Frau Schröder kommt.", "Schroeder", {"Schroeder": "Schröder"}),
        ("Das Überprüfungsgerät.", "Ueberpruefungsgeraet", {"Ueberpruefungsgeraet": "Überprüfungsgerät"}),
        ("Åke kommer.", "Aake", {"Aake": "Åke"}),
        ("An ak is red.", "Aake", {"Aake": ""}),
        ("Die Kündigungsfrist endet.", "Kündigngsfrist", {"Kündigngsfrist": "Kündigungsfrist"}),
        ("Die Großstadt am See.", "GROSSTADT", {"GROSSTADT": "Großstadt"}),
        ("Ένας άνθρωπος.", "άνθροπος", {"άνθροπος": "άνθρωπος"}),
        ("وَصَلَتِ الرِّسَالَةُ", "الرسلة", {"الرسلة": "الرِّسَالَةُ"}),
        ("छुट्टी कब है", "छुट्ट", {"छुट्ट": "छुट्टी"}),
        ("यह हिन्दी में है", "हिंदी", {"हिंदी": "हिन्दी"}),
        ("उनका संबंध", "सम्बन्ध", {"सम्बन्ध": "संबंध"}),
        ("चाँद और पढ़ाई", "चांद पढाई", {"चांद": "चाँद", "पढाई": "पढ़ाई"}),
        ("Two men came.", "man", {"man": "men"}),
        ("call readTimeout", "timeuot", {"timeuot": "timeout"}),
        ("any text", "น้ำ 資料", {"น้ำ": "", "資": "", "料": "", "資料": ""}),
    ],
)
def test_unknown_words_are_named_as_written(
    tmp_path: Path, text: str, question: str, instead: dict[str, str]
) -> None:
    with searching(tmp_path, [("a.md", text), ("b.md", "nothing")]) as (search, _):
        assert search.unknown_words(Query(question)).instead == instead
        hits = search.search(Query(question, explain=True))
        reasons = [hit.reasons for hit in hits if hit.path == "a.md" and hit.reasons]
        explained = {word.word: word.written for reason in reasons for word in reason.in_text}
        assert explained == {word: other for word, other in instead.items() if other}


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("Haftpflicht", "Haftpflichtversicherung"),
        ("photosynth", "photosynthesis"),
        ("Schoenheits", "Schönheitsreparatur"),
        ("organizer", ""),  # whose stem is "organ"
        ("CZ3423", "CZ3423X9PL"),
        ("phot", ""),  # too short
        ("34239", ""),  # a number
    ],
)
def test_beginning_of_a_longer_word_is_searched_for(tmp_path: Path, typed: str, completed: str) -> None:
    text = (
        "Haftpflichtversicherung, Schönheitsreparatur, photosynthesis, organelles, CZ3423X9PL, number 342391."
    )
    others = [(f"{number}.md", "Something else.") for number in range(9)]
    with searching(tmp_path, [("a.md", text), *others]) as (search, _):
        assert search.unknown_words(Query(typed)).instead == {typed: completed}
        matches = [hit for hit in search.search(Query(typed, explain=True)) if hit.score > 0.5]
        written = [word.written for hit in matches if hit.reasons for word in hit.reasons.in_text]
        assert written == [completed] * bool(completed)
        assert not search.search(Query(typed, phrases=(typed,)))  # quotes are exact


def test_query_of_unknown_words_says_so(tmp_path: Path) -> None:
    with searching(tmp_path, TEXTS) as (search, _):
        assert search.unknown_words(Query("frobnicate")) == UnknownWords({"frobnicate": ""}, True)
        assert not search.unknown_words(Query("frobnicate the boiler")).are_all
        assert search.unknown_words(Query("?")) == UnknownWords({}, False)


CODES = (
    "The invoice INV-2026-0042 is over 8,999 EUR. Error E-4471. Date 2026-03-14. Host 192.168.17.4, version "
    "2.10.3. Call 0800 123 4567. Use os.path.join. A well-known e-mail, and AT&T. Part X4711. Get userName."
)


@pytest.mark.parametrize(
    "code",
    [
        *("INV-2026-0043", "2.10.4", "192.168.17.5", "9,999", "8,998", "E-4479", "E4479", "2026-03-15"),
        *("os.path.split", "R&D", "4472", "user_join", "mail@well.com", "codes/other.md"),
    ],
)
def test_code_that_no_document_has_is_reported(tmp_path: Path, code: str) -> None:
    with searching(tmp_path, [("codes/a.md", CODES), ("b.md", "Nothing.")]) as (search, _):
        for question in (code, f"the invoice {code}", f"invoice: “{code}”."):
            unknown = search.unknown_words(Query(question))
            assert (unknown.codes, list(unknown.instead)) == ((code,), [code])
        together = [hit.reasons.together for hit in search.search(Query(code, explain=True)) if hit.reasons]
        assert max(together, default=0.0) <= 0.25


@pytest.mark.parametrize(
    "question",
    [
        *("INV-2026-0042", "2.10.3", "v2.10.3", "2.10", "192.168.17.4", "8,999", "8999", "E-4471", "E4471"),
        *("2026-03-14", "2026/03/14", "os.path.join", "AT&T", "X-4711", "user_name", "INV-2026-0042's"),
        *("well-known", "known e-mail", "well-mail", "invoice/date", "e.g. Error", "a.md", "17"),
        "(codes/a.md)",
    ],
)
def test_code_of_a_document_is_known_in_each_of_its_spellings(tmp_path: Path, question: str) -> None:
    with searching(tmp_path, [("codes/a.md", CODES), ("b.md", "Nothing.")]) as (search, _):
        unknown = search.unknown_words(Query(question))
        assert (unknown.codes, unknown.are_all) == ((), False)


@pytest.mark.parametrize("question", ["08001234567", "call 08001234567", "number 08001234567 of an invoice"])
def test_number_of_a_document_is_known_without_its_spaces(tmp_path: Path, question: str) -> None:
    with searching(tmp_path, [("codes/a.md", CODES), ("b.md", "Nothing.")]) as (search, _):
        assert search.unknown_words(Query(question)).codes == ()


@pytest.mark.parametrize("question", ["projects/plan.md", "/home/me/projects/plan.md", "projects/plan"])
def test_folder_in_the_path_of_a_file_is_not_reported(tmp_path: Path, question: str) -> None:
    with searching(tmp_path, [("projects/plan.md", "Some words."), ("b.md", "Projekte")]) as (search, _):
        assert search.unknown_words(Query(question)) == UnknownWords({}, False)
        assert search.unknown_words(Query(f"{question} now")).instead


def test_code_with_a_typo_is_reported_only_if_no_document_has_it_corrected(tmp_path: Path) -> None:
    with searching(tmp_path, [("a.md", "Ticket kestrel-2026-17."), ("b.md", "Nothing.")]) as (search, _):
        assert search.unknown_words(Query("kestrle-2026-17")) == UnknownWords({"kestrle": "kestrel"}, False)
        unknown = search.unknown_words(Query("kestrle-2026-18"))
        assert unknown.instead == {"kestrle": "kestrel", "kestrle-2026-18": ""}
        assert unknown.codes == ("kestrle-2026-18",)


@pytest.mark.parametrize(
    ("question", "instead"),
    [
        ("what is C#", {"C#": ""}),
        ("c++ pointers", {"c++": "", "pointers": ""}),
        ("8 GB RAM", {"8 GB": "", "RAM": ""}),
        ("V.P.N.", {"V.P.N.": ""}),
        ("12 mm", {}),
        ("8 mm", {"8 mm": ""}),
    ],
)
def test_note_has_names_and_quantities_as_typed(
    tmp_path: Path, question: str, instead: dict[str, str]
) -> None:
    texts = [("a.md", "Plan C: 12mm screws in mm and F sharp."), ("b.md", "Lamps.")]
    with searching(tmp_path, texts) as (search, _):
        assert search.unknown_words(Query(question)).instead == instead


def test_search_and_its_note_look_up_similar_words_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = list[str]()

    def counted(terms: Sequence[Term], *args: Any) -> list[Unknown]:
        looked.extend(term.surface for term in terms if not term.is_guess)
        return find_unknown(terms, *args)

    monkeypatch.setattr(store, "find_unknown", counted)
    with searching(tmp_path, TEXTS) as (search, index):
        assert search.search(Query("temprature"))
        assert search.unknown_words(Query("temprature")).instead == {"temprature": "temperature"}
        assert looked == ["temprature"]
        index.delete([1])
        while index.tidy():
            pass
        assert search.unknown_words(Query("temprature")).instead == {"temprature": ""}


@pytest.mark.parametrize(("typed", "most"), [("temperatyre", 150), ("tenperature", 400), ("thermostas", 150)])
def test_few_spellings_of_a_misspelled_word_are_looked_up_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, most: int
) -> None:
    sizes, dumps = list[int](), json.dumps

    def counted(values: Any) -> str:
        sizes.append(len(values))
        return dumps(values)

    with searching(tmp_path, TEXTS) as (search, _):
        monkeypatch.setattr(store.json, "dumps", counted)
        assert all(search.unknown_words(Query(typed)).instead.values())
        assert 0 < sum(sizes) < most


def test_words_of_deleted_documents_become_unknown(tmp_path: Path) -> None:
    with searching(tmp_path, TEXTS) as (_, index):
        index.delete([1])
        while index.tidy():
            pass
        with closing(SqliteStore(tmp_path, writer=None)) as base, base.snapshot() as snapshot:
            assert snapshot.unknown(terms_of("temprature")) == [Unknown("temprature", "")]
