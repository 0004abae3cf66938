"""Tests that each hit explains its score with the numbers that determined its rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.contract.searching import Hit, Query, Reasons
from kbsync.index.glossary import Glossary
from kbsync.index.search import Search
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.index.weights import EXACT_NAME, TRANSLATED
from kbsync.index.words import terms_of
from tests.index.test_search import ENCODER, entry
from tests.share import long

TEXTS = {
    "notes/heat pump.md": "# Heating\n\nA heat pump moves warmth from the air outside into the house.",
    "notes/sensor.txt": "The temperature sensor in the cellar reports every minute.",
    "notes/pumps.txt": "Old pumps are noisy, and a new pump is not.",
    "notes/vacation.txt": "Everyone gets thirty days of paid holidays a year.",
    "zh/传感器.txt": "地下室的温度传感器每分钟报告一次。",
    "zh/暖氣.txt": "暖氣系統的溫度由房間裡的開關調節。",
    "it/printer.md": "The printer on the second floor prints on both sides.",
}


class Dictionary(Glossary):
    """A dictionary with one entry in each direction."""

    def translate(self, question: str) -> str:
        return {"温度": "temperature", "thermometer": "温度 传感器"}.get(question, "")


@contextmanager
def explaining(folder: Path, texts: dict[str, str]) -> Iterator[Search]:
    with closing(Writer(folder)) as index:
        entries = [
            entry(number, path, text, float(number)) for number, (path, text) in enumerate(texts.items(), 1)
        ]
        index.put([replace(plain, title=None) for plain in entries], ENCODER)
        with closing(SqliteStore(folder, writer=None)) as store:
            yield Search(store, ENCODER, glossary=Dictionary(folder))


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    with explaining(tmp_path_factory.mktemp("reasons"), TEXTS) as searcher:
        yield searcher


def reasons(searcher: Search, question: str, path: str) -> Reasons:
    hits = {hit.path: hit for hit in searcher.search(Query(question, explain=True))}
    matches = hits[path].reasons
    assert matches is not None
    return matches


def check_sums(hits: list[Hit]) -> None:
    """Check that the parts of each score add up to it, and that the scores are in order."""
    scores = list[float]()
    for hit in hits:
        why = hit.reasons
        assert why is not None
        assert sum(word.points for word in (*why.in_text, *why.in_name)) == pytest.approx(why.words)
        score = (why.words + why.meaning + why.together) / 2 * why.size_weight
        score += why.further + EXACT_NAME * why.is_named
        assert score == pytest.approx(why.score) == pytest.approx(hit.score)
        scores.append(score)
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "question",
    [
        "heat pump",
        "pumps",
        "temprature",
        "温度",
        "thermometer",
        "days off",
        "溫度傳感器",
        "室温和温度",
        "printer heat pump 温度",
    ],
)
def test_score_parts_add_up_to_the_order(searcher: Search, question: str) -> None:
    hits = searcher.search(Query(question, explain=True))
    assert hits
    check_sums(hits)
    plain = searcher.search(Query(question))
    assert [replace(hit, reasons=None) for hit in hits] == plain


def test_hit_is_explained_only_on_request(searcher: Search) -> None:
    assert all(hit.reasons is None for hit in searcher.search(Query("heat pump")))


def test_text_matches_are_distinguished_from_name_matches(searcher: Search) -> None:
    why = reasons(searcher, "heat pump outside", "notes/heat pump.md")
    assert {word.word for word in why.in_text} == {"heat", "pump", "outside"}
    assert {word.word for word in why.in_name} == {"heat", "pump"}
    assert not why.is_named
    assert why.cosine == pytest.approx(why.meaning)


def test_file_named_like_the_query_is_labelled(searcher: Search) -> None:
    assert reasons(searcher, "heat pump", "notes/heat pump.md").is_named


def test_semantic_hit_has_no_matching_words(searcher: Search) -> None:
    why = reasons(searcher, "vacation", "notes/vacation.txt")
    assert [word.word for word in why.in_name] == ["vacation"]
    assert why.in_text == ()
    alone = reasons(searcher, "annual leave", "notes/vacation.txt")
    assert alone.in_text == alone.in_name == ()
    assert alone.words == 0 < alone.meaning


def test_keyword_hit_has_no_cosine(tmp_path: Path) -> None:
    with closing(Writer(tmp_path)) as index:
        document = entry(1, "a.txt", "The temperature sensor in the cellar.")
        index.put([document], ENCODER)
        with closing(SqliteStore(tmp_path, writer=None)) as store:
            other = type(ENCODER)(None)
            search = Search(store, other)
            search._vector = lambda text: None  # type: ignore[method-assign]
            [hit] = search.search(Query("sensor", explain=True))
    assert hit.reasons is not None
    assert hit.reasons.cosine is None
    assert [word.word for word in hit.reasons.in_text] == ["sensor"]


def test_typo_is_named_with_the_word_that_was_found(searcher: Search) -> None:
    [word] = reasons(searcher, "temprature", "notes/sensor.txt").in_text
    assert (word.word, word.written) == ("temprature", "temperature")


@pytest.mark.parametrize(
    ("question", "path", "words"),
    [
        ("pumping", "notes/heat pump.md", {("pumping", "pump")}),
        ("pump", "notes/pumps.txt", {("pump", "")}),
        ("pumping", "notes/pumps.txt", {("pumping", "pumps")}),
        ("溫度", "zh/传感器.txt", {("溫度", "温度")}),
        ("温度", "zh/暖氣.txt", {("温度", "溫度")}),
        ("温度和地下室", "zh/传感器.txt", {("温度", ""), ("地下室", "")}),
    ],
)
def test_inflected_form_is_named(
    searcher: Search, question: str, path: str, words: set[tuple[str, str]]
) -> None:
    assert {(match.word, match.written) for match in reasons(searcher, question, path).in_text} == words


@pytest.mark.parametrize(
    ("text", "question", "words"),
    [
        ("Η οδός είναι εδώ", "οδός", {("οδός", "")}),
        ("วันหยุดสงกรานต์ กรุณาส่งใบลา", "สงกรานต์", {("สงกรานต์", "")}),
        ("कल का दिन है", "दिन", {("दिन", "")}),
        ("Die Straßen sind gesperrt", "STRASSE", {("STRASSE", "Straßen")}),
        ("Frau Schröder kommt", "Schroeder", {("Schroeder", "Schröder")}),
        ("مُحَمَّدٌ هنا", "محمد", {("محمد", "")}),
        ("空港でスイカを", "すいか", {("すいか", "スイカ")}),
        ("イスの話", "すいか", {("す", "ス"), ("い", "イ")}),
        ("Printer 00:1a:22:33:44:55.", "001a.2233.4455", {("001a.2233.4455", "00:1a:22:33:44:55")}),
        ("The AT&T syntax.", "at&t", {("at&t", ""), ("t", "")}),
        ("It departs at 19:45.", "7:45 PM", {("7:45 PM", "19:45"), ("45", "")}),
    ],
)
def test_matching_words_are_named_as_written(
    tmp_path: Path, text: str, question: str, words: set[tuple[str, str]]
) -> None:
    with explaining(tmp_path, {"a.txt": text, "b.txt": "Nothing."}) as search:
        matched = reasons(search, question, "a.txt").in_text
        assert {(match.word, match.written) for match in matched} == words


def test_word_being_typed_is_named_once(searcher: Search) -> None:
    for typed, written in (("pump", ""), ("sens", "sensor")):
        hits = searcher.search(Query(typed, explain=True, unfinished=True))
        check_sums(hits)
        assert hits[0].reasons is not None
        assert [(match.word, match.written) for match in hits[0].reasons.in_text] == [(typed, written)]


def test_translated_hit_names_the_translated_words(searcher: Search) -> None:
    chinese = reasons(searcher, "thermometer", "zh/传感器.txt")
    assert chinese.is_translated
    assert {word.word for word in chinese.in_text} == {"温度", "传感器"}
    english = reasons(searcher, "温度", "notes/sensor.txt")
    assert english.is_translated
    assert [word.word for word in english.in_text] == ["temperature"]
    translation = reasons(searcher, "temperature", "notes/sensor.txt")
    assert english.meaning == pytest.approx(TRANSLATED * translation.meaning, abs=1e-3)


class Reversing:
    """A ranking model that prefers the hits that the index ranks last."""

    most_texts = 10

    def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        return [(number, (number + 1) / 10) for number in reversed(range(len(texts)))]


def test_ranking_model_score_is_shown_with_the_previous_one(searcher: Search) -> None:
    ranked = Search(searcher._store, ENCODER, Reversing())
    plain = {hit.path: hit.score for hit in searcher.search(Query("pump"))}
    hits = ranked.search(Query("pump", explain=True))
    assert [hit.path for hit in hits] != list(plain)
    for hit in hits:
        assert hit.reasons is not None
        assert hit.reasons.ranked == hit.score
        assert hit.reasons.score == pytest.approx(plain[hit.path])


def test_code_as_written_counts_in_addition_to_its_parts(tmp_path: Path) -> None:
    texts = {"right.txt": "From 2026-03-14 on.", "wrong.txt": "From 2026-03-15 to 2026-04-14."}
    with explaining(tmp_path, texts) as searcher:
        hits = searcher.search(Query("since 2026-03-14", explain=True))
    check_sums(hits)
    matches = [hit.reasons.in_text for hit in hits if hit.reasons]
    codes = [[(word.word, word.written) for word in words if "-" in word.word] for words in matches]
    assert codes == [[("2026-03-14", "")], [("2026-03-14", "2026-03-15")]]
    right, other = ([word.points for word in words if "-" in word.word] for words in matches)
    assert right[0] > 3 * other[0]


def test_code_that_only_the_name_has_is_explained_as_part_of_the_name(tmp_path: Path) -> None:
    with explaining(tmp_path, {"2026-03-14 a.txt": "Bread of 2026.", "b.txt": "On 2026-03-14."}) as searcher:
        of_name, of_text = (
            reasons(searcher, "bread 2026-03-14", path) for path in ("2026-03-14 a.txt", "b.txt")
        )
    assert [word.word for word in of_name.in_text] == ["bread", "2026"]
    assert "2026-03-14" in [word.word for word in of_name.in_name]
    assert "2026-03-14" in [word.word for word in of_text.in_text]


@long
def test_word_of_a_large_document_weighs_less(tmp_path: Path) -> None:
    lines = "\n\n".join(f"{number} heat pump started" + " quiet" * 150 for number in range(1300))
    with explaining(tmp_path, {"log.txt": lines, "note.txt": "The heat pump is new."}) as searcher:
        hits = searcher.search(Query("heat pump", explain=True))
        with searcher._store.snapshot() as snapshot:
            query, vector = Query("heat pump", explain=True), ENCODER.query("heat pump")
            candidates = snapshot.candidates(terms_of(query.text), ENCODER.model, vector, query)
        for candidate in candidates:
            assert candidate.matched is not None
            its = candidate.matched()
            points = sum([*its.text.values(), *its.name.values()])
            assert points / its.total == pytest.approx(candidate.words)
        # Some are only near, though they have the words.
        assert not all(candidate.words for candidate in candidates)
    check_sums(hits)
    [log] = [hit.reasons for hit in hits if hit.path == "log.txt"]
    assert log is not None
    assert log.size > 1000
    assert log.size_weight < 1


def test_scores_are_in_order_after_the_documents_whose_sentences_are_read(tmp_path: Path) -> None:
    near, far = "The car drives on the road. " * 20, "Bread and butter. " * 60
    texts = {f"{number}.md": f"# A\n\n{near}\n\n# B\n\n{far}" for number in range(11)}
    with explaining(tmp_path, texts) as searcher:
        hits = searcher.search(Query("vehicle", explain=True, top_k=20))
    assert len(hits) == 11
    check_sums(hits)
