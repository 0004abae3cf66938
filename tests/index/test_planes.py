"""Tests that the vectors of a large index are stored in planes, also those of an earlier version's file."""

from __future__ import annotations

import os
import random
import re
import shutil
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import apsw
import numpy as np
import pytest

from kbsync.contract.searching import Query
from kbsync.errors import Halted
from kbsync.index.search import Search
from kbsync.index.sqlite import planes, readahead, schema, vectors
from kbsync.index.sqlite import store as sqlite_store
from kbsync.index.sqlite.planes import SLOTS, Planes
from kbsync.index.sqlite.readahead import RowPages
from kbsync.index.sqlite.schema import FILE
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from tests.index.test_index import Stepping, is_sound
from tests.index.test_search import ENCODER, entry
from tests.index.test_vectors import AtOnce
from tests.share import long

WORDS = sorted(set(re.findall("[a-z]{4,}", Path(sqlite_store.__file__).read_text(encoding="utf-8"))))
QUESTIONS = [" ".join(random.Random(number).sample(WORDS[1::2], 4)) for number in range(12)]
DOCUMENTS = [
    (number, f"{number}.md", " ".join(random.Random(-number).sample(WORDS[::2], 6)))
    for number in range(1, 5 * SLOTS + 60)
]
OTHER_DIMENSIONS = 8

Hits = list[list[tuple[str | None, float]]]


@pytest.fixture(autouse=True)
def any_index_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "_FEW_SLOTS", 0)
    monkeypatch.setattr(vectors, "_CONVERTED_AT_ONCE", 2)


def put(writer: Writer, documents: Sequence[tuple[int, str, str]]) -> list[int]:
    return [
        outcome
        for outcome in writer.put([entry(*document) for document in documents], ENCODER)
        if isinstance(outcome, int)
    ]


def fill(writer: Writer) -> list[int]:
    """Store documents and better vectors for some of them; delete a few, which leaves free slots."""
    documents = put(writer, DOCUMENTS)
    with closing(SqliteStore(writer._folder, writer=None)) as store:
        keys = store.find_without_better(ENCODER.model, "better/1", SLOTS)
    drawn = random.Random(3)
    better_vectors = {
        key: np.array([drawn.uniform(-1, 1) for _ in range(OTHER_DIMENSIONS)], np.float16).tobytes()
        for key in keys
    }
    writer.put_better(ENCODER.model, "better/1", better_vectors)
    writer.delete(documents[: 3 * SLOTS : 7])
    return documents


def convert(writer: Writer) -> None:
    while writer.tidy():
        pass


def hits(folder: Path, *, is_cached: bool = False) -> Hits:
    """Return the hits of all questions: those of the first search of a process, or of later ones."""
    with closing(SqliteStore(folder, writer=None)) as store:
        hit_list = Hits()
        for question in QUESTIONS:
            if not is_cached and store._finder is not None:
                store._finder._matrix._scans = 0
                store._finder._matrix._drop()
            hit_list.append([(hit.path, hit.score) for hit in Search(store, ENCODER).search(Query(question))])
        return hit_list


def same(first: Hits, second: Hits) -> bool:
    scores, other_scores = ([score for hits in results for _, score in hits] for results in (first, second))
    paths, other_paths = ([path for hits in results for path, _ in hits] for results in (first, second))
    return paths == other_paths and scores == pytest.approx(other_scores, abs=1e-5)


def stored_vectors(connection: apsw.Connection) -> dict[int, bytes]:
    model = vectors.find_model(connection, ENCODER.model)
    assert model is not None
    slots = (slot for (slot,) in connection.execute("SELECT id FROM slot WHERE key NOTNULL"))
    return vectors.read(connection, model.width, slots)


@long
def test_file_of_an_earlier_version_is_converted_with_the_same_hits_whenever_it_is_killed(
    tmp_path: Path,
) -> None:
    (folder := tmp_path / "kb").mkdir()
    copies = list[Path]()
    with closing(Stepping(folder)) as writer:
        fill(writer)
        # An earlier version doesn't create this table.
        writer._connection.execute("DROP TABLE planar_segment")
        expected, before = hits(folder), stored_vectors(writer._connection)
    assert any(path for results in expected for path, _ in results)
    size = (folder / FILE).stat().st_size
    with closing(SqliteStore(folder, writer=None)) as reader, closing(Stepping(folder)) as writer:
        assert writer._connection.pragma("user_version") == 5
        search = Search(reader, ENCODER)
        of_open = [hit.path for hit in search.search(Query(QUESTIONS[0]))]
        writer.between = lambda: copies.append(shutil.copytree(folder, tmp_path / f"killed-{len(copies)}"))
        convert(writer)
        writer.between = lambda: None
        assert [hit.path for hit in search.search(Query(QUESTIONS[0]))] == of_open
        assert writer._connection.pragma("user_version") == 6
        assert writer._connection.execute("SELECT count(*) FROM segment").get == 0
    assert (folder / FILE).stat().st_size < 1.05 * size
    assert len(copies) >= 6
    for copy in [*copies, folder]:
        assert same(hits(copy), expected), copy
        assert same(hits(copy, is_cached=True), expected), copy
        with closing(Writer(copy)) as reopened:
            convert(reopened)
            is_sound(reopened)
            after = stored_vectors(reopened._connection)
            assert after.keys() == before.keys()
            for slot, vector in after.items():
                old, new = (
                    np.frombuffer(stored, np.float16).astype(np.float32) for stored in (before[slot], vector)
                )
                assert abs(old - new).max() <= 2e-4 * abs(old).max()
            counts = vectors.count_better(reopened._connection, ENCODER.model, "better/1")
            assert counts is not None and 0 < counts[0] < counts[1] == len(before)
        assert same(hits(copy), expected), copy


@long
def test_released_vector_is_zeroed_in_all_planes_and_its_place_used_again(tmp_path: Path) -> None:
    with closing(Writer(tmp_path)) as writer:
        documents = fill(writer)
        convert(writer)
        connection = writer._connection
        find = "SELECT slot FROM chunk JOIN run ON chunk.id = first WHERE document = ?"
        slots = [connection.execute(find, (document,)).get for document in (documents[1], documents[-1])]

        def pieces(slot: int) -> list[bytes]:
            segment, position = divmod(slot, SLOTS)
            with connection.blob_open("main", "block", "vectors", segment, False) as blob:
                row = blob.read()
            factors = connection.execute("SELECT factors FROM planar_segment WHERE id = ?", (segment,)).get
            parts = [row[offset : offset + size] for offset, size in Planes(256).pieces(position)]
            return [factors[4 * position : 4 * position + 4], *parts]

        removed = [piece for slot in slots for piece in pieces(slot)]
        assert all(any(piece) for piece in removed)
        assert writer.delete([documents[1], documents[-1]])
        assert not any(any(piece) for slot in slots for piece in pieces(slot))
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert not [piece for piece in removed if len(piece) > 4 and piece in content]

        put(writer, [(9_001, "new.md", "quince marmalade with ginger")])
        assert connection.execute("SELECT count(*) FROM segment").get == 0
        with closing(SqliteStore(tmp_path, writer=None)) as store:
            hit_list = Search(store, ENCODER).search(Query("quince marmalade with ginger"))
        assert hit_list[0].path == "new.md"

        put(
            writer,
            [(number + 10_000, f"more/{path}", f"{text} {number}") for number, path, text in DOCUMENTS[:600]],
        )
        assert connection.execute("SELECT count(*) FROM segment").get == 0, "new segments are planar"
        writer.delete([row[0] for row in connection.execute("SELECT id FROM document").fetchall()])
        for table in ("planar_segment", "block", "slot", "better"):
            assert connection.execute(f"SELECT count(*) FROM {table}").get == 0


@long
def test_all_nearest_passages_are_found_with_half_of_the_vectors_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_NEAR_STORED", SLOTS)
    with closing(Writer(tmp_path)) as writer:
        fill(writer)
        expected = hits(tmp_path)
        convert(writer)
        assert same(hits(tmp_path), expected)


def test_small_index_keeps_the_layout_that_older_programs_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_FEW_SLOTS", 128_000)
    with closing(Writer(tmp_path)) as writer:
        put(writer, DOCUMENTS[:20])
        assert not writer.tidy()
        assert writer._connection.pragma("user_version") == 5


def test_program_that_knows_no_planes_asks_for_an_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Writer(tmp_path)) as writer:
        put(writer, DOCUMENTS[:20])
        convert(writer)
    for module in (schema, sqlite_store):
        monkeypatch.setattr(module, "VERSION", 5)
    with pytest.raises(Halted, match="newer kbsync"):
        SqliteStore(tmp_path, writer=None)
    with pytest.raises(Halted, match="newer kbsync"):
        Writer(tmp_path)


def test_planes_are_as_precise_as_float16() -> None:
    chance = np.random.default_rng(2)
    for dimensions in (7, 256):
        rows = chance.normal(0, 1, (SLOTS, dimensions)).astype(np.float16)
        rows[3] = 0
        factors, block = planes.encode_block(rows.tobytes(), dimensions)
        assert len(block) == Planes(dimensions).size == len(rows.tobytes())
        numbers = np.frombuffer(block, np.int8)
        first, second = planes.int8_halves(bytearray(block), dimensions)
        lacking = numbers[SLOTS * dimensions :].reshape(SLOTS, dimensions)
        decoded = (np.hstack([first, second]) + lacking / 256) * np.frombuffer(factors, np.float32)[:, None]
        assert not decoded[3].any()
        largest = np.abs(rows.astype(np.float64)).max(axis=1, keepdims=True)
        assert (np.abs(decoded - rows) <= largest / 32_000).all()


@long
@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "RWF_NOWAIT"), reason="other systems need no hints")
def test_only_the_pages_that_a_first_search_needs_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advised = list[tuple[int, int]]()

    def read(*_: object) -> int:
        raise BlockingIOError

    with closing(Writer(tmp_path)) as writer:
        fill(writer)
        put(
            writer,
            [(number + 10_000, f"more/{path}", f"{text} {number}") for number, path, text in DOCUMENTS],
        )
        convert(writer)
        assert writer.scrub()
        expected = hits(tmp_path)
        with closing(apsw.Connection(str(tmp_path / FILE))) as connection:
            rows = dict[str, list[int]]()
            find = (
                "SELECT path, pageno FROM dbstat WHERE name = 'block' AND pagetype = 'overflow' ORDER BY path"
            )
            for path, page in connection.execute(find):
                rows.setdefault(path.partition("+")[0], []).append(page)
            beginnings = {page for pages in rows.values() for page in pages[:8]}
            with monkeypatch.context() as patch:
                patch.setattr(os, "preadv", read)
                patch.setattr(
                    os, "posix_fadvise", lambda _, start, length, __: advised.append((start, length))
                )
                patch.setattr(readahead, "threading", SimpleNamespace(Event=threading.Event, Thread=AtOnce))
                with RowPages(connection, "block", Planes(256).size).reading_ahead(SLOTS * 128):
                    pass
                of_beginnings = pages_of(advised)
                advised.clear()
                segments = [segment for (segment,) in connection.execute("SELECT id FROM block ORDER BY id")]
                RowPages(connection, "block", Planes(256).size).read_ahead(
                    [(segments[2], 2 * SLOTS * 256 - 9, 9)]
                )
                last = pages_of(advised)
                assert hits(tmp_path) == expected
    assert beginnings <= of_beginnings
    assert len(of_beginnings) < 1.3 * len(beginnings) + 20
    assert rows[sorted(rows)[2]][-1] in last
    assert len(last) < 20


def pages_of(advised: Sequence[tuple[int, int]]) -> set[int]:
    return {start // 4_096 + number for start, length in advised for number in range(1, length // 4_096 + 1)}
