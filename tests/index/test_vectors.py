"""Tests searches over many passages: cosines of vectors cached in compressed form, and common words."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import re
import sys
import threading
from array import array
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import apsw
import numpy as np
import pytest

from kbsync.contract.searching import Query
from kbsync.index import weights
from kbsync.index.document import Chunk, Entry
from kbsync.index.search import Search
from kbsync.index.sqlite import readahead, vectors
from kbsync.index.sqlite import store as sqlite_store
from kbsync.index.sqlite.planes import SLOTS
from kbsync.index.sqlite.schema import FILE
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.index.words import terms_of
from tests.index.test_search import ENCODER, entry
from tests.share import long

FRUITS = ("apple", "pear", "plum", "quince", "medlar", "cherry", "grape", "lemon", "olive", "peach")


@long
def test_cached_vectors_give_the_same_hits_as_stored_ones_through_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def document(number: int, path: str, count: int) -> object:
        texts = [
            f"{FRUITS[position % 10]} and {FRUITS[position // 10 % 10]} number {position} of {path}"
            for position in range(count)
        ]
        chunks = tuple(Chunk(text, text, hashlib.sha256(text.encode()).hexdigest()) for text in texts)
        base = entry(number, path, "x")
        return replace(base, chunks=chunks, vectors=ENCODER.begin(chunks).result())  # type: ignore[arg-type]

    questions = [Query(f"{fruit} with {other}") for fruit in FRUITS for other in FRUITS[:3]]
    with closing(Writer(tmp_path)) as writer:
        large, *_ = writer.put(
            [document(number, f"{number}.md", 300 * number) for number in range(1, 5)], ENCODER
        )  # type: ignore[misc]
        assert isinstance(large, int)
        with (
            closing(SqliteStore(tmp_path, writer=None)) as stored,
            closing(SqliteStore(tmp_path, writer=None)) as cached,
        ):
            for change in (
                lambda: None,
                lambda: writer.put([document(9, "9.md", 700)], ENCODER),  # type: ignore[list-item]
                lambda: writer.delete([large]),
            ):
                change()
                for query in questions:
                    monkeypatch.setattr(vectors, "_MAX_BYTES", 0)
                    expected = Search(stored, ENCODER).search(query)
                    monkeypatch.setattr(vectors, "_MAX_BYTES", 2**29)
                    hits = Search(cached, ENCODER).search(query)
                    assert [hit.path for hit in hits] == [hit.path for hit in expected]
                    assert [hit.score for hit in hits] == pytest.approx(
                        [hit.score for hit in expected], abs=1e-6
                    )
            assert cached._finder is not None and cached._finder._matrix._cached


@long
@pytest.mark.parametrize(("many", "nearest_count"), [(2**30, 16_384), (0, 2_048)])
def test_cached_vectors_find_the_nearest_passages_through_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int, nearest_count: int
) -> None:
    monkeypatch.setattr(vectors, "_MANY_ROWS", many)
    monkeypatch.setattr(vectors, "_NEAR", nearest_count)
    monkeypatch.setattr(vectors, "_MIN_PART_ROWS", 256)  # for two threads
    drawn = random.Random(3)
    words = sorted(set(re.findall("[a-z]{4,}", Path(vectors.__file__).read_text(encoding="utf-8"))))
    texts = [" ".join(drawn.sample(words[::2], 6)) for _ in range(6_000)]
    chunks = [Chunk(sentence, sentence, hashlib.sha256(sentence.encode()).hexdigest()) for sentence in texts]
    vectors_by_key = ENCODER.begin(chunks).result()
    documents = list[Entry]()
    for number in range(600):
        part = tuple(chunks[10 * number : 10 * number + 10])
        of_part = {chunk.key: vectors_by_key[chunk.key] for chunk in part}
        documents.append(replace(entry(number + 1, f"{number}.md", "x"), chunks=part, vectors=of_part))
    questions = [" ".join(drawn.sample(words[1::2], 4)) for _ in range(30)]  # mostly found by meaning

    def nearest(store: SqliteStore, text: str, top_k: int, memory: int) -> dict[int, float]:
        """Return the cosines of the nearest passages, and of those with the words, nearest first."""
        monkeypatch.setattr(vectors, "_MAX_BYTES", memory)
        query = Query(text, top_k=top_k)
        with store.snapshot() as snapshot:
            hits = snapshot.candidates(terms_of(text), ENCODER.model, ENCODER.query(text), query)
        meanings = {hit.chunk: hit.meaning for hit in hits}
        return dict(sorted(meanings.items(), key=lambda item: -item[1]))

    with closing(Writer(tmp_path)) as writer:
        removed = writer.put(documents, ENCODER)[:300:2]
        with (
            closing(SqliteStore(tmp_path, writer=None)) as stored,
            closing(SqliteStore(tmp_path, writer=None)) as cached,
        ):
            for change in (
                lambda: None,
                lambda: writer.delete([outcome for outcome in removed if isinstance(outcome, int)]),
                lambda: writer.put([replace(documents[0], upload_id=700, path="again.md")], ENCODER),
            ):
                change()
                for depth in (10, 300):
                    common_count = 0
                    for text in questions:
                        expected = nearest(stored, text, depth, 0)
                        hits = nearest(cached, text, depth, 2**29)
                        common_count += len(set(islice(expected, depth)) & set(islice(hits, depth)))
                        both = expected.keys() & hits.keys()
                        assert [hits[chunk] for chunk in both] == pytest.approx(
                            [expected[chunk] for chunk in both], abs=0.004
                        )
                    assert common_count >= 0.99 * depth * len(questions)


def test_a_search_fails_if_its_vectors_cannot_be_compared_and_the_next_one_finds_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_MANY_ROWS", 0)
    with closing(Writer(tmp_path)) as writer:
        texts = enumerate((f"{fruit} in a basket" for fruit in FRUITS), 1)
        writer.put([entry(number, f"{number}.md", text) for number, text in texts], ENCODER)
    with closing(SqliteStore(tmp_path, writer=None)) as store:
        search = Search(store, ENCODER)
        expected = [hit.path for hit in search.search(Query("apple and pear"))]
        with monkeypatch.context() as patch:
            patch.setattr(vectors, "_products", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                search.search(Query("apple and pear"))
        assert [hit.path for hit in search.search(Query("apple and pear"))] == expected


class AtOnce(threading.Thread):
    """A thread whose work is done when it has started."""

    def start(self) -> None:
        self.run()


@long
@pytest.mark.skipif(sys.platform != "linux", reason="other systems need no hints or ignore them")
@pytest.mark.parametrize("is_cached", [False, True])
def test_first_search_has_vectors_read_ahead_unless_they_are_in_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    advised = list[tuple[int, int]]()

    def read(descriptor: int, buffers: list[bytearray], offset: int, flags: int) -> int:
        assert (offset, flags) == (4_096, os.RWF_NOWAIT)
        if is_cached:
            return 1
        raise BlockingIOError

    with closing(Writer(tmp_path)) as writer:
        texts = [
            (number, f"{number}.md", f"{number} {FRUITS[number % 10]} in a basket")
            for number in range(1, 600)
        ]
        first, *_ = writer.put([entry(*fields) for fields in texts[:400]], ENCODER)
        assert isinstance(first, int)
        writer.delete(range(first, first + 300, 7))  # the pages of later vectors are scattered
        writer.put([entry(*fields) for fields in texts[400:]], ENCODER)
        assert writer.scrub()
        with closing(SqliteStore(tmp_path, writer=None)) as store:
            expected = Search(store, ENCODER).search(Query("apple and pear"))
        with closing(SqliteStore(tmp_path, writer=None)) as store, monkeypatch.context() as patch:
            patch.setattr(vectors, "_FEW_SLOTS", 0)
            patch.setattr(os, "preadv", read)
            patch.setattr(os, "posix_fadvise", lambda _, start, length, __: advised.append((start, length)))
            patch.setattr(readahead, "threading", SimpleNamespace(Event=threading.Event, Thread=AtOnce))
            assert Search(store, ENCODER).search(Query("apple and pear")) == expected
    if is_cached:
        assert not advised
        return
    pages = {start // 4_096 + number for start, length in advised for number in range(1, length // 4_096 + 1)}
    with closing(apsw.Connection(str(tmp_path / FILE))) as connection:
        find = "SELECT pageno FROM dbstat WHERE name = 'block' AND pagetype = 'overflow'"
        of_vectors = {page for (page,) in connection.execute(find)}
    assert len(of_vectors) > 60
    assert of_vectors <= pages
    assert len(pages) < 1.2 * len(of_vectors)


@long
def test_searches_can_go_on_for_years(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that drops references to None, one a call, ends the process after some thousands."""
    monkeypatch.setattr(vectors, "_MANY_ROWS", 0)
    with closing(Writer(tmp_path)) as writer:
        writer.put([entry(1, "1.md", "apple in a basket")], ENCODER)
    with closing(SqliteStore(tmp_path, writer=None)) as store:
        search = Search(store, ENCODER)
        search.search(Query("apple"))
        gc.collect()
        before = sys.getrefcount(None)
        for number in range(80):
            search.search(Query(f"apple {number}"))
        assert sys.getrefcount(None) > before - 40


@pytest.mark.parametrize("few", [0, 10_000])
def test_nearest_passages_are_the_same_with_and_without_numpy(
    monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(vectors, "_FEW_SLOTS", few)
    drawn = random.Random(3)
    values = array("f", (drawn.choice([0.0, 0.5, drawn.uniform(-1, 1)]) for _ in range(40 * SLOTS)))
    places = {3 * block + 1: block for block in range(40)}
    plain, expected = vectors.Cosines(places, values), vectors.Cosines(places, np.array(values))
    for start, stop, least in ((0, 1, 0.9), (0, 9_000, 0.5), (150, 600, 0.2), (9_000, 20_000, -2.0)):
        slots = plain.best(start, stop, least)
        cosines = list(plain.of(slots).values())
        assert cosines == sorted(cosines, reverse=True)
        assert all(cosine > least for cosine in cosines)
        assert cosines == list(expected.of(expected.best(start, stop, least)).values())


@pytest.mark.parametrize("spread", [0.01, 1.0])
def test_nearest_passages_are_found_even_if_half_the_vectors_say_nothing_about_them(
    monkeypatch: pytest.MonkeyPatch, spread: float
) -> None:
    """`spread`: that of the cosines from the second halves; from the first ones it is 0.1."""
    monkeypatch.setattr(vectors, "_NEAR", 4_096)
    chance, blocks = np.random.default_rng(5), 200
    first, second = (chance.normal(0, scale, blocks * SLOTS).astype(np.float32) for scale in (0.1, spread))
    places = {block: block for block in range(blocks)}
    expected = vectors.Cosines(places, first + second).best(0, 150)
    cosines = vectors.Cosines(places, first.copy(), rest=lambda positions: second[positions])
    assert len(set(cosines.best(0, 150)) & set(expected)) >= 149
    assert cosines.of(expected[:9]) == pytest.approx(
        {slot: float(first[slot] + second[slot]) for slot in expected[:9]}
    )


@long
def test_earlier_questions_and_how_common_words_are_read_change_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MAX_ROWS", 200)
    drawn = random.Random(4)
    documents = list[Entry]()
    for number in range(1, 901):  # more than what is counted exactly
        words = [fruit for rank, fruit in enumerate(FRUITS) if drawn.random() < 1 - rank / 10]
        text = " ".join([*words, f"of{number % 40}"])
        documents.append(entry(number, f"{number}.md", text))
    with closing(Writer(tmp_path)) as writer:
        writer.put(documents, ENCODER)
    questions = [Query(f"{' '.join(drawn.sample(FRUITS, 4))} of{number}") for number in range(12)]

    def hits(store: SqliteStore, query: Query) -> list[tuple[str | None, float]]:
        return [(hit.path, hit.score) for hit in Search(store, ENCODER).search(query)]

    with closing(SqliteStore(tmp_path, writer=None)) as used:
        for query in questions:
            expected = hits(used, query)
            with closing(SqliteStore(tmp_path, writer=None)) as fresh, monkeypatch.context() as patch:
                patch.setattr(sqlite_store, "_READ_FOR_EACH", 0)
                assert expected == hits(fresh, query) != []
