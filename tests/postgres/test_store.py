"""Tests that the PostgreSQL store finds what the built-in one finds, and that mirrors don't affect each
other."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kbsync.contract.query_syntax import parse_query
from kbsync.contract.searching import Hit, Query
from kbsync.core.selection import path_matcher, plain_part
from kbsync.errors import Halted, Rejected, UnmadeError, UsageError
from kbsync.index import weights
from kbsync.index.document import Entry
from kbsync.index.embed import Encoder
from kbsync.index.postgres import searching
from kbsync.index.postgres.store import Owner, PostgresStore
from kbsync.index.search import Search
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.store import Store
from kbsync.index.words import terms_of
from tests.index.entries import Numbers, entry, piece
from tests.index.test_reasons import check_sums
from tests.index.test_search import (
    ENCODER,
    FILES_BESIDE_A_LOG,
    HIGH_COSINES,
    HYPHENATED,
    MANY,
    QUESTIONS_BESIDE_A_LOG,
    REHYPHENATED,
    REPEATED_WORD,
    SYNONYMS,
    TEXTS,
    UNRELATED,
    high_entry,
    log_entry,
)
from tests.index.test_search import entry as parsed
from tests.postgres.base import between, find, leftover_rows, open_store, put, token
from tests.postgres.server import Server
from tests.postgres.test_failures import follow_fix
from tests.share import long

QUESTIONS = (
    Query("How many days of paid leave do I get?"),
    Query("printers", top_k=2),
    Query("年假有几天？"),
    Query("paid", paths=("hr/**",)),
    Query("paid", paths=("*.txt",)),
    Query("二 day month 报销", types=("MD",)),
    Query("the", after=3.0),
    Query("client account", paths=("it/",), types=("md",), after=2.0),
    Query("printer", unfinished=True),
    Query("nothing of the kind zyzzyva"),
    Query("leave abroad 财务部"),
    Query("Printer.md"),
    Query("printer.md", paths=("hr/**",)),
    Query("paid leave", phrases=("paid leave",)),
    Query("days of leave", phrases=("of",), excluded=("vpn",)),
    Query("leave VPN", phrases=("vpn",)),
    Query("两周", phrases=("前两周向",), excluded=("报销",)),
    Query("paid leave", phrases=("leave paid",)),
    Query("month year floor", excluded=("last working", "printer"), types=("txt", "md")),
    Query("paid leave", excluded_paths=("leave.md", "zh/")),
    Query("paid leave", excluded_paths=("zh/**",), excluded_types=("TXT", "rst")),
    Query("paid leave", phrases=("paid",), paths=("hr/",), excluded_types=("md",)),
)


@contextmanager
def both_bases(
    folder: Path, server: Server, documents: Sequence[Entry], encoder: Encoder = ENCODER
) -> Iterator[tuple[PostgresStore, SqliteStore]]:
    """Yield a base in PostgreSQL and a built-in one, both with these documents."""
    with closing(SqliteStore(folder)) as built_in, open_store(server, server.database()) as store:
        for base in (built_in, store):
            assert all(isinstance(number, int) for number in base.put(documents, encoder))
        yield store, built_in


def parsed_all(texts: Iterable[tuple[str, str]]) -> list[Entry]:
    return [parsed(number, path, text, float(number)) for number, (path, text) in enumerate(texts, 1)]


# With a lower limit some words are common, with 0 all: these only add to scores of passages that others find.
MAX_ROWS = weights.MAX_ROWS


@long
@pytest.mark.parametrize("most", [MAX_ROWS, 3, 0])
def test_finds_and_explains_what_the_embedded_base_finds(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(weights, "MAX_ROWS", most)
    with both_bases(tmp_path, postgres, parsed_all(TEXTS.items())) as bases:
        for query in QUESTIONS:
            ours, its = (Search(base, ENCODER).search(query) for base in bases)
            assert [hit.path for hit in ours] == [hit.path for hit in its], query
            if most == MAX_ROWS or len(terms_of(query.text)) == 1:
                # Of several common words, the built-in base scores fewer.
                assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in its], abs=0.005)
            assert [hit.passages[0].text for hit in ours] == [hit.passages[0].text for hit in its]
            assert [(hit.title, hit.modified) for hit in ours] == [(hit.title, hit.modified) for hit in its]
            explained, other = (
                Search(base, ENCODER).search(replace(query, explain=True, unfinished=False)) for base in bases
            )
            check_sums(explained)
            check_sums(other)
            if most == MAX_ROWS:
                # If fewer words find passages, SQLite scores some common words in fewer of them.
                assert [words_of(hit) for hit in explained] == [words_of(hit) for hit in other], query
            for hit, its_one in zip(explained, other, strict=True):
                assert hit.reasons is not None and its_one.reasons is not None
                assert hit.reasons.cosine == pytest.approx(its_one.reasons.cosine, abs=0.01)
                assert hit.reasons.is_named is its_one.reasons.is_named
            plain = Search(bases[0], ENCODER).search(replace(query, unfinished=False))
            assert [replace(hit, reasons=None) for hit in explained] == plain
        with pytest.raises(UsageError, match="not a gitignore pattern"):
            Search(bases[0], ENCODER).search(Query("paid", paths=("!",)))


@long
def test_finds_codes_and_other_forms_like_the_embedded_base(tmp_path: Path, postgres: Server) -> None:
    often = "user settings: get the user, get settings, settings of the user. "
    texts = {
        **{f"{number}.md": often * 3 for number in range(weights.DEPTH + 50)},
        "right.py": f"{'A line of other words. ' * 40} get_user_settings(path)",
        "costs.md": "The error E-4471 occurred. It costs 1,299 dollars. Call readTimeout first, on v2.10.3. "
        "The pipe is 12mm wide. Call 0800 123 4567. Due on 14.3.2026 at the centre, by V.P.N.",
        **HYPHENATED,
        "other.md": "Version 2, 10 and 3: 12 people, all in mm. The readtimeout.",
    }
    questions = [
        *("get_user_settings", "where is get_user_settings called", "2.10.3", "pipe of 12 mm"),
        *("08001234567", "14 March 2026", "due March 2026", "center", "VPN", "costs md"),
    ]
    phrases = [
        *("4471 occurred", "error E4471 occurred", "costs 1299 dollars", "read timeout first"),
        "read timeout",
    ]
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for query in [*map(Query, questions), *(Query(phrase, phrases=(phrase,)) for phrase in phrases)]:
            ours, its = (Search(base, ENCODER).search(query) for base in bases)
            assert ours[0].path == ("right.py" if "_" in query.text else "costs.md"), query
            assert (ours[0].path, ours[0].passages[0].text) == (its[0].path, its[0].passages[0].text), query
            if query.phrases:
                assert [hit.path for hit in ours] == [hit.path for hit in its] == ["costs.md"], query
        for question, path in REHYPHENATED:
            for base in bases:
                search, phrase = Search(base, ENCODER), (question,) * (" " not in question)
                assert search.search(Query(question, phrases=phrase))[0].path == path, question
                assert not search.unknown_words(Query(question)).are_all, question


@long
def test_word_in_quotes_is_found_like_in_the_embedded_base(tmp_path: Path, postgres: Server) -> None:
    texts = {
        "call.md": "Call readTimeout on a road of 10km, with the code 0xDEADBEEF.",
        "other.md": "Call nobody.",
        "readTimeout.md": "Call it.",
        "login.md": "Call this.",
    }
    found = {
        "timeout": {"call.md", "readTimeout.md"},
        "deadbeef": {"call.md"},
        "km": {"call.md"},
        "login": {"login.md"},
        "log in": set[str](),
        "read timeout": {"call.md", "readTimeout.md"},
    }
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base, (phrase, paths) in itertools.product(bases, found.items()):
            hits = Search(base, ENCODER).search(Query(f"call {phrase}", phrases=(phrase,)))
            assert {hit.path for hit in hits} == paths, phrase
            others = Search(base, ENCODER).search(Query("call", excluded=(phrase,)))
            assert {hit.path for hit in others} == texts.keys() - paths, phrase


def test_excluded_word_excludes_all_names_with_it(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_PHRASE_CANDIDATES", 1)
    texts = dict.fromkeys(("draft 1.md", "draft 2.md", "draft 3.md", "plan.md"), "Paint the fence.")
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base in bases:
            hits = Search(base, ENCODER).search(Query("fence", excluded=("draft",)))
            assert [hit.path for hit in hits] == ["plan.md"]


@pytest.mark.parametrize("most", [searching.MAX_LISTED_DOCUMENTS, 1])
def test_document_with_the_phrase_is_a_hit_only_if_the_filters_select_it(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(searching, "MAX_LISTED_DOCUMENTS", most)
    texts = dict.fromkeys(("a/one.md", "b/two.md", "b/three.txt"), "The annual report is here.")
    texts |= {"a/report.md": "annual", "a/four.txt": "The annual report is there."}
    report = Query("annual report", phrases=("annual report",))
    narrowed = {
        replace(report, paths=("a/",)): {"a/one.md", "a/four.txt"},
        replace(report, types=("txt",)): {"b/three.txt", "a/four.txt"},
        replace(report, after=3.0): {"b/three.txt", "a/four.txt"},
        replace(report, excluded_paths=("b/",)): {"a/one.md", "a/four.txt"},
        replace(report, excluded_types=("txt",)): {"a/one.md", "b/two.md"},
        Query("report.md", phrases=("report.md",), paths=("a/",)): {"a/report.md"},
        Query("report.md", phrases=("report.md",), paths=("b/",)): set(),
    }
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base, (query, paths) in itertools.product(bases, narrowed.items()):
            hits = Search(base, ENCODER).search(query)
            assert {hit.path for hit in hits} == paths, query


def test_every_document_with_the_phrase_is_found_next_to_a_long_one(tmp_path: Path, postgres: Server) -> None:
    # Stop words: nothing but the phrase finds these documents.
    long_text = "\n\n".join(f"{number} to be. {'x' * 2_000}" for number in range(weights.DEPTH + 50))
    texts = {"long.txt": long_text, "z/short.md": "Or not to be.", "other.md": "A question."}
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base, paths in itertools.product(bases, ((), ("z/",))):
            query = Query("question to be", phrases=("to be",), paths=paths)
            found = {hit.path for hit in Search(base, Numbers()).search(query)}
            assert found == ({"z/short.md"} if paths else {"z/short.md", "long.txt"})


@long
def test_hyphenated_word_is_found_while_it_is_typed(tmp_path: Path, postgres: Server) -> None:
    texts = {"right.md": "The Wi-Fi is slow.", "other.md": "The client is slow."}
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base, question in itertools.product(bases, ("wifi", "slow wifi", "Wi-Fi")):
            # The base has no vectors from this model, so only words count.
            hits = Search(base, Numbers()).search(Query(question, unfinished=True))
            assert hits and hits[0].path == "right.md", question


@long
def test_other_spelling_is_found_while_the_word_is_typed(tmp_path: Path, postgres: Server) -> None:
    texts = {"right.md": "Our organization has rules.", "other.md": "Our house has lamps."}
    texts |= {f"{number}.md": f"Lamp {number}." for number in range(9)}
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base in bases:
            # The base has no vectors from this model, so only words count.
            hits = Search(base, Numbers()).search(Query("organisation", unfinished=True))
            assert [hit.path for hit in hits] == ["right.md"]


@long
def test_german_word_counts_once_while_it_is_typed(tmp_path: Path, postgres: Server) -> None:
    texts = {"a.md": "Die Rechnung ist bezahlt.", "b.md": "Die Miete.", "c.md": "Der Strom."}
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as (base, _):
        typed, whole = (
            Search(base, Numbers()).search(Query("die Miete und die Rechnung", unfinished=unfinished))
            for unfinished in (True, False)
        )
    assert [(hit.path, hit.score) for hit in typed] == [(hit.path, hit.score) for hit in whole]


@long
def test_file_name_or_path_in_quotes_finds_the_file(tmp_path: Path, postgres: Server) -> None:
    texts = {
        "notes/plan.md": "Paint the fence.",
        "notes/copy.md": "Paint the fence.",
        "a.md": "See notes/plan.md.",
        "plan/b.md": "A fence.",
    }
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base in bases:
            for name in (
                *("plan.md", "notes/plan.md", "/home/me/notes/plan.md", "C:\\me\\notes\\plan.md"),
                *("notes/plan.md:3", "notes/plan.md:3:12", "plan.md#L3"),
            ):
                query = parse_query(Query(f'"{name}"'))
                assert Search(base, ENCODER).search(query)[0].path == "notes/plan.md"
                without = parse_query(Query(f'fence notes -"{name}"'))
                others = [hit.path for hit in Search(base, ENCODER).search(without)]
                assert {"plan/b.md", "notes/copy.md"} <= set(others) and "notes/plan.md" not in others


@long
def test_finds_a_date_in_another_notation_among_its_parts(tmp_path: Path, postgres: Server) -> None:
    other = "Some other sentence about bicycles and rain. " * 20
    parts = "12 plums, 12 May, 5, May 2026"
    texts = {f"{number} May 12, 5.md": parts for number in range(weights.DEPTH + 50)}
    texts["notes.md"] = f"{other}On 12.05.2026, the roof was repaired. {other}"
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base in bases:
            assert Search(base, ENCODER).search(Query("12 May 2026"))[0].path == "notes.md"


@long
def test_repeated_word_in_quotes_is_not_found_where_it_occurs_once(tmp_path: Path, postgres: Server) -> None:
    texts = {"once.md": "A trip to Bora.", "twice.md": "A trip to Bora Bora."}
    with both_bases(tmp_path, postgres, parsed_all(texts.items())) as bases:
        for base in bases:
            hits = Search(base, ENCODER).search(Query("bora bora", phrases=("bora bora",)))
            assert [hit.path for hit in hits] == ["twice.md"]
            with base.snapshot() as snapshot:
                phrases = ("bora", "bora bora", "bora bora bora", "twice", "twice twice")
                assert [snapshot.has_phrase(phrase) for phrase in phrases] == [True, True, False, True, False]


@long
def test_estimates_similarity_of_unrelated_texts_like_the_embedded_base(
    tmp_path: Path, postgres: Server
) -> None:
    documents = [high_entry(number, *fields) for number, fields in enumerate(MANY, 1)]
    documents.append(high_entry(len(MANY) + 1, "copy.txt", MANY[0][1]))
    with both_bases(tmp_path, postgres, documents, HIGH_COSINES) as bases:
        limits = list[float]()
        for base in bases:
            with base.snapshot() as snapshot:
                assert snapshot.estimate_least_cosine("another model") == 0
                limits.append(snapshot.estimate_least_cosine(HIGH_COSINES.model))
        assert limits[0] == pytest.approx(limits[1], abs=0.001)
        assert limits[0] > 0.7
        for question in (*UNRELATED, *SYNONYMS):
            ours, its = (Search(base, HIGH_COSINES).search(Query(question)) for base in bases)
            assert [hit.path for hit in ours] == [hit.path for hit in its], question
            assert bool(ours) == (question in SYNONYMS)


@long
def test_large_log_leaves_room_for_others_like_in_the_embedded_base(tmp_path: Path, postgres: Server) -> None:
    documents = [*parsed_all(FILES_BESIDE_A_LOG), log_entry(600)]
    with both_bases(tmp_path, postgres, documents) as (store, built_in):
        for question in QUESTIONS_BESIDE_A_LOG[::5]:
            ours, its = (Search(base, ENCODER).search(Query(question)) for base in (store, built_in))
            assert ours[0].path == its[0].path, question
            # The stores may order equally good files differently.
            assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in its], abs=0.02)
            assert shares_by_words(store, question) == shares_by_words(built_in, question), question


def shares_by_words(store: Store, question: str) -> list[int]:
    """Return how many passages of each document a search by words scores."""
    with store.snapshot() as snapshot:
        candidates = snapshot.candidates(terms_of(question), ENCODER.model, None, Query(question))
    return sorted(Counter(candidate.document for candidate in candidates).values())


@long
def test_repeated_word_counts_as_in_the_embedded_base(tmp_path: Path, postgres: Server) -> None:
    with both_bases(tmp_path, postgres, parsed_all(REPEATED_WORD)) as bases:
        hits = [Search(base, ENCODER).search(Query("oxygen cabin"))[:2] for base in bases]
        ours, its = ({hit.path: hit.score for hit in found_hits} for found_hits in hits)
        assert list(ours) == list(its) == ["b.md", "a.c"]
        assert ours == pytest.approx(its, abs=0.005)


def words_of(hit: Hit) -> tuple[set[tuple[str, str]], set[str]]:
    assert hit.reasons is not None
    in_text = {(match.word, match.written) for match in hit.reasons.in_text}
    return in_text, {match.word for match in hit.reasons.in_name}


PATTERNS = (
    *("*.md", "hr/**", "**/x", "a/", "/a", "\\#x", "a?c", "[a-c].md", "[!a].md", "[]a]", "[^a]"),
    *("*", "**", "a/**/b", "é*", "[é]x", "手册/**", "x{1,2}", "(a|b)", "a+b", "$", "^a", "a.b", "[-a]"),
    *("[[:alpha:]]x", "a[!-]"),
    *("[.]x", "a\\ b"),
)
PATHS = (
    *("a", "b", "a.md", "c.md", "hr/a.md", "hr/deep/x", "x", "a/b", "abc", "a b", "é.md", "éx"),
    *("手册/请假.md", "x{1,2}", "(a|b)", "a+b", "$", "^a", "a.b", "a\nb", "]", "-", ".x", "!a", "#x"),
    *("a/x/y/b", "a/b/c", "axb"),
)


@long
@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_path_patterns_match_like_elsewhere(postgres: Server) -> None:
    for pattern in PATTERNS:
        regex, matches = searching._pattern(pattern), path_matcher(pattern)
        admits = "SELECT shown FROM unnest(%s::text[]) shown WHERE coalesce(shown ~ %s, false)"
        admitted = {path for (path,) in postgres.run("postgres", admits, list(PATHS), regex)}
        assert all(plain_part(pattern) in path for path in admitted), pattern
        assert admitted == {path for path in PATHS if matches(path)}, pattern
    with open_store(postgres, postgres.database()) as store:
        put(store, entry(1, "kestrel"))
        with pytest.raises(UsageError, match="path pattern"):
            Search(store, Numbers()).search(Query("kestrel", paths=("[z-a]",)))
        for odd in ("\0", "\udce9*", "*"):
            Search(store, Numbers()).search(Query("kestrel", paths=(odd,), types=("m\0", "\udce9")))


@long
def test_documents_of_another_prefix_are_never_seen_changed_or_deleted(
    postgres: Server, database: str
) -> None:
    with open_store(postgres, database, "a/") as ours, open_store(postgres, database, "b/") as theirs:
        [our_id] = put(ours, entry(1, "kestrel"))
        [other] = put(theirs, entry(1, "kestrel and heron"))
        assert ours.check()[0] == theirs.check()[0]
        assert (find(ours, "kestrel"), find(theirs, "kestrel")) == ({our_id}, {other})
        assert [row.id for row in ours.page(0, 9)] == [our_id]
        assert ours.find_existing([our_id, other]) == {our_id}
        assert ours.texts(other) is None
        assert ours.delete([other])
        with pytest.raises(Rejected):
            ours.rename(other, "c.md", "c", 2.0)
        put(ours, entry(2, "merlin", replaces=other))
        assert find(theirs, "heron") == {other}
        assert [row.path for row in theirs.page(0, 9)] == ["folder/file-1.md"]
        assert leftover_rows(postgres, database) == []


@long
def test_new_prefix_keeps_the_documents_and_a_foreign_one_is_refused(postgres: Server, database: str) -> None:
    with open_store(postgres, database, "a/") as ours, open_store(postgres, database, "b/") as theirs:
        [our_id], [other] = put(ours, entry(1, "kestrel")), put(theirs, entry(1, "heron"))
        dsn = postgres.dsn(database)
        with closing(PostgresStore(dsn, Owner("c/", token("a/")), read_only=True)) as reader:
            assert reader.check()[1] == 1  # as `plan` sees it before the first pass with the new one
        with closing(PostgresStore(dsn, Owner("c/", token("a/")))) as renamed:
            assert renamed.check() == (theirs.check()[0], 1)
            renamed.rename(our_id, "folder/file-1.md", "c/name", 1.0)
        with (
            closing(PostgresStore(dsn, Owner("b/", token("a/")))) as refused_store,
            pytest.raises(Halted) as caught,
        ):
            refused_store.check()
        assert caught.value.halt == "prefix-taken"
        # After its state was lost, a mirror has only the prefix.
        with closing(PostgresStore(dsn, Owner("c/", token("new")))) as reopened:
            assert [row.id for row in reopened.page(0, 9)] == [our_id]
            reopened.delete([our_id, other])
        assert find(theirs, "heron") == {other}


@long
def test_unchanged_passages_are_neither_rewritten_nor_reembedded(postgres: Server, database: str) -> None:
    texts = [f"word{number} kestrel" for number in range(30)]
    with open_store(postgres, database) as store:
        [first] = put(store, entry(1, *texts, path="a.md"))
        before = dict(postgres.run(database, "SELECT text, ctid::text FROM kbsync.passage"))
        encoder = Numbers()
        [second] = store.put([entry(2, *texts, "heron", path="a.md", replaces=first)], encoder)
        assert encoder.embedded == ["heron"]
        after = dict(postgres.run(database, "SELECT text, ctid::text FROM kbsync.passage"))
        assert {text: after[text] for text in before} == before
        assert second != first
        assert isinstance(second, int)
        assert store.texts(second) == [*texts, "heron"]
        assert store.find_existing([first, second]) == {second}
        # New passages before them: the old ones keep their words and vectors, and the order is right.
        [third] = put(store, entry(3, "merlin", *texts[5:], path="a.md", replaces=second))
        assert store.texts(third) == ["merlin", *texts[5:]]
        assert find(store, "word3") == set()
        assert leftover_rows(postgres, database) == []


def test_text_of_another_host_reuses_its_vector(postgres: Server, database: str) -> None:
    with open_store(postgres, database, "a/") as ours, open_store(postgres, database, "b/") as theirs:
        [our_id] = put(ours, entry(1, "kestrel"))
        key = piece("kestrel").key
        assert theirs.find_embedded("numbers", [key, "00" * 32]) == {key}
        encoder = Numbers()
        [other] = theirs.put([entry(1, "kestrel")], encoder)
        assert isinstance(other, int) and other != our_id
        assert encoder.embedded == []
        # An expected vector may have vanished meanwhile: then it is computed.
        ours.delete([our_id])
        theirs.delete([other])
        assert isinstance(theirs.put([entry(2, "kestrel")], encoder)[0], int)
        assert encoder.embedded == ["kestrel"]


@long
def test_rename_changes_only_the_words_of_the_name(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        [number] = put(store, entry(1, "heron text", path="kestrel.md"))
        assert find_by_words(store, "kestrel") == {number}
        rows = "SELECT passage, ctid::text FROM kbsync.words"
        before = postgres.run(database, rows)
        store.rename(number, "deep/merlin.md", "m", 7.0)
        assert postgres.run(database, rows) == before
        assert (find_by_words(store, "kestrel"), find_by_words(store, "merlin")) == (set(), {number})
        [row] = store.page(0, 9)
        assert (row.path, row.name) == ("deep/merlin.md", "m")
        assert leftover_rows(postgres, database) == []


def find_by_words(store: PostgresStore, word: str) -> set[int]:
    with store.snapshot() as snapshot:
        return {
            candidate.document for candidate in snapshot.candidates(terms_of(word), "", None, Query(word))
        }


@long
def test_few_documents_are_all_found_in_one_query(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = list[str]()
    with open_store(postgres, postgres.database()) as store:
        put(store, entry(1, *(f"kestrel {number}" for number in range(400)), path="large.md"))
        put(store, *(entry(number, "kestrel", path=f"{number}.md") for number in range(2, 6)))
        between(monkeypatch, lambda _connection, statement: requests.append(statement))

        def ask(query: Query) -> tuple[int, int]:
            """Return the hits, and how often the server was queried for passages."""
            del requests[:]
            with store.snapshot() as snapshot:
                hits = snapshot.candidates(terms_of("kestrel"), "numbers", Numbers().query("kestrel"), query)
            return len({hit.document for hit in hits}), sum(
                "ORDER BY best.score" in request for request in requests
            )

        documents, needed = ask(Query("kestrel", top_k=5))
        assert documents == 5
        for own_only in (False, True):
            assert ask(Query("kestrel", top_k=50, own=own_only)) == (5, needed)
        assert ask(Query("kestrel", top_k=50, paths=("large.md",))) == (1, 2)
        assert ask(Query("kestrel", top_k=50, paths=("nowhere/",))) == (0, 2)


def test_nul_characters_are_removed_from_stored_text(postgres: Server) -> None:
    with open_store(postgres, postgres.database()) as store:
        [number] = put(store, replace(entry(1, "kes\0trel"), title="ti\0tle", tags=("\0",)))
        assert store.texts(number) == ["kes\ufffdtrel"]


@long
def test_concurrently_started_hosts_create_one_base(postgres: Server, database: str) -> None:
    ready = threading.Barrier(4)

    def come(number: int) -> str:
        with open_store(postgres, database, f"{number}/") as store:
            ready.wait()
            uuid = store.check()[0].partition("/")[0]
            put(
                store, *(entry(position, f"kestrel {position}", "the same for all") for position in range(10))
            )
            return uuid

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(come, range(4)))) == 1
    assert leftover_rows(postgres, database) == []
    assert postgres.run(database, "SELECT sum(documents)::int FROM kbsync.owner") == [(40,)]


TEXTS_KEPT_IN = ("passage text headings", "document title tags path name label shown")


@long
def test_server_statistics_contain_no_text(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        documents = [
            replace(entry(number, f"kestrel {number}"), title=f"Title {number}", tags=(f"tag {number}",))
            for number in range(1, 31)
        ]
        numbers = put(store, *documents)
        postgres.run(database, "ANALYZE")
        store.delete(numbers)
        statement = "SELECT attname FROM pg_stats WHERE schemaname = 'kbsync' AND tablename = %s"
        for table, *columns in map(str.split, TEXTS_KEPT_IN):
            about = {column for (column,) in postgres.run(database, statement, table)}
            assert about and not about & set(columns)


@long
def test_search_sees_one_version_during_a_replacement(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, versions = postgres.database(), itertools.count(2)
    with open_store(postgres, database) as writer, open_store(postgres, database, read_only=True) as reader:
        [current] = put(writer, entry(1, "kestrel 1", path="a.md"))
        for stop_at in itertools.count(1):
            statements, before, number = 0, current, next(versions)

            def step(
                connection: psycopg.Connection[Any],
                statement: str,
                stop_at: int = stop_at,
                number: int = number,
            ) -> None:
                nonlocal statements, current
                if threading.current_thread() is threading.main_thread():
                    statements += 1
                    if statements == stop_at:
                        new = entry(number, f"kestrel {number}", path="a.md", replaces=current)
                        with ThreadPoolExecutor(1) as other:
                            [current] = other.submit(put, writer, new).result()

            with monkeypatch.context() as patch:
                between(patch, step)
                [hit] = Search(reader, Numbers()).search(Query("kestrel"))
            # Its id and its text belong to the same version, the old or the new one.
            texts = {current: f"kestrel {number}", before: f"kestrel {number - 1}"}
            assert hit.passages[0].text == texts[int(hit.remote_id)]
            if statements < stop_at:
                break
        assert stop_at > 5


@long
def test_reading_needs_only_read_privileges(postgres: Server, database: str) -> None:
    role = f"reader_{database}"
    postgres.run(database, f"CREATE ROLE {role} LOGIN")
    with open_store(postgres, database, user=role, read_only=True) as reader:
        assert reader.check() == ("", 0)  # nothing exists yet, and reading creates nothing
        assert reader.page(0, 9) == []
        with pytest.raises(UnmadeError), reader.snapshot():
            pass
        with open_store(postgres, database) as store:
            [number] = put(store, entry(1, "kestrel"))
            with pytest.raises(Halted) as refused:
                find(reader, "kestrel")
            follow_fix(postgres, refused.value)
            may_write = "SELECT bool_or(has_table_privilege(%s, oid, 'INSERT, UPDATE, DELETE')) FROM pg_class"
            statement = f"{may_write} WHERE relnamespace = 'kbsync'::regnamespace AND relkind = 'r'"
            assert postgres.run(database, statement, role) == [(False,)]
            assert find(reader, "kestrel") == {number}
            assert reader.check() == store.check()
            with pytest.raises(Halted):
                reader.delete([number])


@long
def test_nothing_is_left_in_a_pooled_session(postgres: Server) -> None:
    with open_store(postgres, postgres.database()) as store:
        for number in range(12):  # more often than psycopg repeats a statement before it prepares it
            [first] = put(store, entry(number, "kestrel"))
            store.rename(first, f"{number}.md", "n", 2.0)
            find(store, "kestrel")
        [connection] = store._connections._idle
        for source in ("pg_prepared_statements", "pg_locks WHERE locktype = 'advisory'"):
            assert connection.execute(f"SELECT count(*) FROM {source}").fetchone() == (0,)
        assert connection.execute("SHOW search_path").fetchone() == ('"$user", public',)
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("0",)


@long
def test_other_targets_load_no_postgresql_modules(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from kbsync.config.secrets import Secret
from kbsync.contract.target import TargetContext
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.postgres.config import PostgresTargetConfig
folder = Path(sys.argv[1])
target = LocalTargetConfig().open(TargetContext("m", folder, folder))
asyncio.run(target.base())
print(sorted({each.partition(".")[0] for each in sys.modules} & {"psycopg", "psycopg_binary"}))
PostgresTargetConfig(dsn=Secret("dbname=kb")).open(TargetContext("m", folder, folder))
print(sorted({each.partition(".")[0] for each in sys.modules} & {"numpy", "pypdfium2", "structlog"}))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert completed.stdout.split("\n")[:2] == ["[]", "[]"]
