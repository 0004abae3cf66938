"""Tests that deleted or replaced text soon disappears from all files, whatever else happens."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import apsw
import numpy as np
import pytest

from kbsync.contract.searching import Query
from kbsync.index.document import Chunk, Entry
from kbsync.index.embed import LocalEncoder, Vectors
from kbsync.index.search import Search
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.targets.indexed import target as module
from kbsync.targets.local.target import LocalTarget
from tests.index.entries import Numbers, entry
from tests.index.test_index import find, traces
from tests.index.test_local_target import document, open_target, put
from tests.share import long

SECRET = "zqsecret"
SOON = 30.0
"""Seconds after the deletion when no text may be left, even on a busy machine."""
PACE = 0.2
"""Seconds between files: slow enough that the write-ahead log doesn't restart by itself."""


@contextlib.contextmanager
def reader_at_work(folder: Path) -> Iterator[None]:
    """Keep a read transaction open, as a search on a slow machine may."""
    with contextlib.closing(apsw.Connection(str(folder / "kb" / "index.db"))) as reader:
        reader.execute("BEGIN; SELECT count(*) FROM document")
        yield
        reader.execute("COMMIT")


async def replace(target: LocalTarget, old: str, _folder: Path) -> None:
    await put(target, document(2, "other", "folder/1.md", old))


async def delete(target: LocalTarget, old: str, folder: Path) -> None:
    with reader_at_work(folder):
        await target.delete([old])


@long
@pytest.mark.parametrize("take_out", [replace, delete])
async def test_deleted_text_disappears_from_all_files_soon_while_files_keep_arriving(
    tmp_path: Path, take_out: Callable[[LocalTarget, str, Path], object]
) -> None:
    async with contextlib.aclosing(open_target(tmp_path)) as target:
        (old,) = await put(target, document(1, f"the {SECRET} of the house", "folder/1.md"))
        assert traces(tmp_path, SECRET)
        await take_out(target, old, tmp_path)  # type: ignore[misc]
        end = asyncio.get_running_loop().time() + SOON
        for number in itertools.count(10):
            if not traces(tmp_path, SECRET):
                break
            assert asyncio.get_running_loop().time() < end, traces(tmp_path, SECRET)
            await put(target, document(number, f"file {number} of those that keep coming"))
            await asyncio.sleep(PACE)


@long
async def test_deletion_waits_for_a_blocking_reader_even_when_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCRUB_AFTER", 0.0)
    async with contextlib.aclosing(open_target(tmp_path)) as target:
        (old,) = await put(target, document(1, f"the {SECRET} of the house", "folder/1.md"))
        with reader_at_work(tmp_path):
            await replace(target, old, tmp_path)
            assert not await asyncio.to_thread(target._store.purge)
            assert not await asyncio.to_thread(target._store.purge)  # by now the target has tried as well
        async with asyncio.timeout(SOON):
            while traces(tmp_path, SECRET):
                await asyncio.sleep(PACE)


@long
async def test_hanging_threads_retain_no_deleted_text(tmp_path: Path) -> None:
    """A folder on a hanging disk uses up all of its mirror's threads."""
    mended = threading.Event()
    async with contextlib.aclosing(open_target(tmp_path)) as target:
        (old,) = await put(target, document(1, f"the {SECRET} of the house", "folder/1.md"))
        await replace(target, old, tmp_path)
        hanging = [asyncio.create_task(asyncio.to_thread(mended.wait)) for _ in range(64)]
        try:
            async with asyncio.timeout(SOON):
                while traces(tmp_path, SECRET):
                    await asyncio.sleep(PACE)
        finally:
            mended.set()
            await asyncio.gather(*hanging)


class Slow(Numbers):
    """Each request to the service lasts until another document was stored meanwhile, or 10 s."""

    def __init__(self, index: Writer) -> None:
        super().__init__()
        self._index = index
        self._numbers = itertools.count(100)
        self.waited: list[bool] = []

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        self._store_another()
        return super().begin(chunks)

    def _store_another(self) -> None:
        number = next(self._numbers)
        other = threading.Thread(
            target=self._index.put, args=([entry(number, f"other {number}")], Numbers()), daemon=True
        )
        other.start()
        other.join(10)
        self.waited.append(other.is_alive())


@pytest.mark.parametrize("count", [1, 1200])
def test_no_write_waits_for_a_vector_that_must_be_recomputed(tmp_path: Path, count: int) -> None:
    """Its text had a vector when it was split, but the document with it was deleted since."""
    index = Writer(tmp_path / "kb")
    vectors = Slow(index)
    (stored,) = index.put([entry(1, *(f"text{number}" for number in range(count)))], vectors)
    assert vectors.waited and not any(vectors.waited)
    assert len(vectors.embedded) == count == len(set(vectors.embedded))
    assert find(index, "text0") == [stored]
    index.close()


class Services:
    """The services of a search. The index must be able to empty its write-ahead log during their requests."""

    most_texts = 10

    def __init__(self, index: Writer) -> None:
        self._index = index
        self.checks: list[tuple[str, bool]] = []

    def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        self._take_out("ranking")
        return [(index, 1.0 - index / 10) for index in reversed(range(len(texts)))]

    def query(self, text: str) -> np.ndarray:
        self._take_out("vector")
        return np.ones(4, np.float32) / 2

    def close(self) -> None:
        pass

    def _take_out(self, what: str) -> None:
        self.checks.append((what, self._index.delete([1 + len(self.checks)])))


def test_search_waiting_for_a_service_retains_no_deleted_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Writer(tmp_path / "kb")
    index.put([entry(number, f"words of {number} {SECRET}{number}") for number in range(1, 6)], Numbers())
    services = Services(index)
    encoder = LocalEncoder()
    monkeypatch.setattr(LocalEncoder, "model", "numbers")
    monkeypatch.setattr(encoder, "query", services.query)
    searcher = Search(SqliteStore(tmp_path / "kb", writer=None), encoder, services)
    hits = searcher.search(Query("words"))
    assert services.checks == [("vector", True), ("ranking", True)]
    assert sorted(hit.remote_id for hit in hits) == ["3", "4", "5"]
    assert all(hit.passages for hit in hits)
    searcher._store.close()
    index.close()


@long
@pytest.mark.parametrize("seed", [3, 5])
def test_nothing_remains_of_many_documents_deleted_in_any_order(tmp_path: Path, seed: int) -> None:
    """SQLite leaves copies of the rows that it moves between pages."""
    chance, numbers = random.Random(seed), itertools.count(1)
    documents = dict[int, bytes]()
    with contextlib.closing(Writer(tmp_path)) as index:
        for step in range(70):
            batch = list(itertools.islice(numbers, chance.choice([1, 4, 16])))
            entries = list[Entry]()
            for number in batch:
                text = f"z{number}z {'text ' * chance.randint(1, chance.choice([10, 200]))}"
                name = f"{chance.random()} {'name ' * chance.randint(1, 30)} z{number}z.md"
                entries.append(entry(number, text, path=name))
            for stored, number in zip(index.put(entries, Numbers()), batch, strict=True):
                assert isinstance(stored, int)
                documents[stored] = b"z%dz" % number
            if step % 2:
                gone = chance.sample(list(documents), chance.randint(1, min(12, len(documents) // 2 or 1)))
                index.delete(gone)
                documents = {stored: name for stored, name in documents.items() if stored not in gone}
        assert index.scrub()
        present = set(re.findall(rb"z\d+z", (tmp_path / "index.db").read_bytes()))
    assert present == set(documents.values())
