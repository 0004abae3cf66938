"""Tests cosines of many vectors that are cached in compressed form."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.contract.searching import Query
from kbsync.index.document import Chunk
from kbsync.index.search import Search
from kbsync.index.sqlite import vectors
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from tests.index.test_search import ENCODER, entry
from tests.share import long

FRUITS = ("apple", "pear", "plum", "quince", "medlar", "cherry", "grape", "lemon", "olive", "peach")


@long
def test_int8_cached_vectors_give_the_same_hits_through_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def document(number: int, path: str, count: int) -> object:
        texts = [
            f"{FRUITS[at % 10]} and {FRUITS[at // 10 % 10]} number {at} of {path}" for at in range(count)
        ]
        chunks = tuple(Chunk(text, text, hashlib.sha256(text.encode()).hexdigest()) for text in texts)
        made = entry(number, path, "x")
        return replace(made, chunks=chunks, vectors=ENCODER.begin(chunks).result())  # type: ignore[arg-type]

    questions = [Query(f"{fruit} with {other}") for fruit in FRUITS for other in FRUITS[:3]]
    with closing(Writer(tmp_path)) as writer:
        large, *_ = writer.put([document(at, f"{at}.md", 300 * at) for at in range(1, 5)], ENCODER)  # type: ignore[misc]
        assert isinstance(large, int)
        with (
            closing(SqliteStore(tmp_path, writer=None)) as exact,
            closing(SqliteStore(tmp_path, writer=None)) as small,
        ):
            for change in (
                lambda: None,
                lambda: writer.put([document(9, "9.md", 700)], ENCODER),  # type: ignore[list-item]
                lambda: writer.delete([large]),
            ):
                change()
                for query in questions:
                    monkeypatch.setattr(vectors, "_MOST_BYTES", 2**29)
                    expected = Search(exact, ENCODER).search(query)
                    monkeypatch.setattr(vectors, "_MOST_BYTES", 2**21)  # too little for float32
                    hits = Search(small, ENCODER).search(query)
                    assert [hit.path for hit in hits] == [each.path for each in expected]
                    assert [hit.score for hit in hits] == pytest.approx(
                        [each.score for each in expected], abs=0.002
                    )
            assert small._finder is not None and small._finder._matrix._cached is not None
            assert small._finder._matrix._cached.dtype == "int8"
