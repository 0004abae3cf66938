"""Measures a base in PostgreSQL: how fast it fills, and the speed and recall of its searches.

python benchmarks/scale.py --dsn DSN --corpus DIR [--passages 1000000] [--feeders 2] [--searchers 8]
python benchmarks/scale.py --dsn DSN --hosts 4

The database is empty, or was filled by an earlier run. The corpus is any directory with much text
(corpus.py). Recall is the share of the ten nearest vectors that a search returns, compared with an exact
search. Searchers and feeders are processes. With --hosts first one process feeds the database, then several,
with an encoder that takes 50 ms a document and no CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import statistics
import struct
import sys
import time
from collections.abc import MutableSequence, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from unittest.mock import patch
from uuid import NAMESPACE_URL, uuid4, uuid5

import psycopg
from corpus import SEEN, entries
from corpus import questions as asked_of
from search_speed import Prose, documents, parse

from kbsync.config.secrets import Secret
from kbsync.contract.searching import Query
from kbsync.contract.target import TargetContext
from kbsync.index.document import Chunk
from kbsync.index.embed import LocalEncoder, Vectors
from kbsync.index.postgres.searching import PostgresSnapshot, _Scope
from kbsync.index.postgres.store import Owner, PostgresStore
from kbsync.index.search import Search
from kbsync.targets.postgres.config import PostgresTargetConfig
from kbsync.targets.postgres.target import PostgresTarget

SPAWNED = multiprocessing.get_context("spawn")
FILTERS = {
    "about one document in 1,000": Query("", after=1_799_900_000),
    "about one in 50": Query("", after=1_798_000_000),
    "about one in 10": Query("", after=1_790_000_000),
    "about half": Query("", after=1_750_000_000),
    "of one folder of many": Query("", paths=("**/drivers/net/**",)),
    "of one type of many": Query("", types=("html",)),
}


def fill(dsn: str, folder: Path, passages: int, feeders: int) -> None:
    """Put documents until there are so many passages, and print the speed."""
    began, known_texts = time.perf_counter(), SPAWNED.Array("B", SEEN, lock=False)
    shares = [
        SPAWNED.Process(
            target=feed_corpus, args=(dsn, folder, part, feeders, passages // feeders, known_texts)
        )
        for part in range(feeders)
    ]
    for feeder in shares:
        feeder.start()
    for feeder in shares:
        feeder.join()
    print(f"{'filled':45}{passages / (time.perf_counter() - began):10.0f} passages/s")


def feed_corpus(
    dsn: str, folder: Path, part: int, parts: int, passages: int, known_texts: MutableSequence[int]
) -> None:
    """Put one host's documents until it has so many passages."""
    with closing(host(dsn, str(part))) as store:
        for entry in entries(folder, part, parts, known_texts):
            [outcome] = store.put([entry], LocalEncoder())
            assert isinstance(outcome, int), outcome
            passages -= len(entry.chunks)
            if passages <= 0:
                break


def index(dsn: str) -> None:
    """Let the first host build the vector index, as at the start of a pass; print how long it takes."""
    began = time.perf_counter()
    with closing(host(dsn, "0")) as store:
        store.check()
        store.tidy()
    print(f"{'index of vectors':45}{time.perf_counter() - began:10.1f} s")


def host(dsn: str, name: str) -> PostgresStore:
    """Return the store of a writer, the same one in each run."""
    return PostgresStore(dsn, Owner(f"{name}/", uuid5(NAMESPACE_URL, name)))


def reader(dsn: str) -> PostgresStore:
    """Return the store of a searcher."""
    return PostgresStore(dsn, Owner("0/"), read_only=True)


def count(dsn: str) -> int:
    """Return the number of passages in the base."""
    with psycopg.connect(dsn) as connection:
        [(is_made,)] = connection.execute("SELECT to_regclass('kbsync.owner') IS NOT NULL")
        if not is_made:
            return 0
        [(passages,)] = connection.execute("SELECT coalesce(sum(passages), 0) FROM kbsync.owner")
        return int(passages)


def searched(dsn: str, queries: Sequence[Query]) -> list[float]:
    """Return the milliseconds of each search, after ten to warm up."""
    times = list[float]()
    with closing(reader(dsn)) as store:
        search = Search(store, LocalEncoder())
        for query in [*queries[:10], *queries]:
            began = time.perf_counter()
            search.search(query)
            times.append((time.perf_counter() - began) * 1000)
    return times[10:]


def recall(dsn: str, questions: Sequence[str]) -> float:
    """Return the share of the ten nearest vectors that a search finds."""
    shares, encoder = list[float](), LocalEncoder()
    with psycopg.connect(dsn) as connection, closing(reader(dsn)) as store:
        connection.execute("SET search_path = kbsync, public; SET enable_indexscan = off; SET jit = off")
        for question in questions:
            vector = encoder.query(question)
            with store.snapshot() as snapshot:
                candidates = snapshot.candidates([], encoder.model, vector, Query(question))
            literal = f"[{','.join(map(str, vector.tolist()))}]"
            exact = connection.execute(
                "SELECT -(embedding::halfvec(256) <#> %s::halfvec(256)) AS score FROM vector"
                " ORDER BY score DESC LIMIT 10",
                (literal,),
            ).fetchall()
            # Equally near vectors are interchangeable.
            best = sorted((candidate.meaning for candidate in candidates), reverse=True)[:10]
            shares.append(sum(score >= exact[-1][0] - 1e-6 for score in best) / len(exact))
    return statistics.mean(shares)


def recall_of_hits(dsn: str, questions: Sequence[str]) -> float:
    """Return the share of an exact search's ten documents that an indexed search finds."""
    shares = list[float]()
    with closing(reader(dsn)) as store:
        search = Search(store, LocalEncoder())
        for query in map(Query, questions):
            hit_ids = {hit.remote_id for hit in search.search(query)}
            everything = _Scope("", "", {}, sys.maxsize, is_few=True)
            with patch.object(PostgresSnapshot, "_scope", lambda *_, scope=everything: scope):
                exact = {hit.remote_id for hit in search.search(query)}
            shares.append(len(hit_ids & exact) / max(1, len(exact)))
    return statistics.mean(shares)


def write(dsn: str, folder: Path, ended: Event, count: Any) -> None:
    """Read, chunk and put a host's documents until `ended`, then remove them."""
    known_texts, encoder, ids = bytearray(SEEN), LocalEncoder(), list[int]()
    with closing(host(dsn, "writer")) as store:
        store.check()
        for entry in entries(folder, 0, 1, known_texts):
            if ended.is_set():
                break
            ids += [row_id for row_id in store.put([entry], encoder) if isinstance(row_id, int)]
            count.value = len(ids)
        store.delete(ids)


def search_until(dsn: str, queries: Sequence[Query], ended: Event, times: Any) -> None:
    """Search one query after another until `ended`."""
    with closing(reader(dsn)) as store:
        search, own_times = Search(store, LocalEncoder()), list[float]()
        search.search(queries[0])
        for query in itertools.cycle(queries):
            if ended.is_set():
                break
            began = time.perf_counter()
            search.search(query)
            own_times.append((time.perf_counter() - began) * 1000)
        times.put(own_times)


def beside(dsn: str, folder: Path, queries: Sequence[Query], searchers: int, *, writes: bool) -> float:
    """Return one writer's documents per second alongside so many searchers; print the searchers' times."""
    ended, written, times = SPAWNED.Event(), SPAWNED.Value("q", 0), SPAWNED.Queue()
    workers = [
        SPAWNED.Process(target=search_until, args=(dsn, queries[number::searchers], ended, times))
        for number in range(searchers)
    ]
    workers += [SPAWNED.Process(target=write, args=(dsn, folder, ended, written))] if writes else []
    for worker in workers:
        worker.start()
    while writes and written.value < 10:  # all of them have loaded their libraries
        time.sleep(0.1)
    time.sleep(5)
    began, before = time.perf_counter(), written.value
    time.sleep(30)
    rate: float = (written.value - before) / (time.perf_counter() - began)
    ended.set()
    every = [seconds for _ in range(searchers) for seconds in times.get()]
    for worker in workers:
        worker.join()
    if every:
        print_times(f"{searchers} searchers{' beside a writer' if writes else ''}, p50 / p95", every)
    return rate


class Slow:
    """An encoder that takes 50 ms for each document, like a service."""

    model, takes_pictures, at_once, least_cosine = "slow", False, 2**31, 0.0

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Return vectors that are already computed."""
        time.sleep(0.05)
        vectors = Future[Vectors]()
        vectors.set_result(
            {piece.key: struct.pack("e", int(piece.key[:4], 16) / 2**16) + bytes(510) for piece in chunks}
        )
        return vectors

    def query(self, text: str) -> NoReturn:
        """Fail: this benchmark embeds no queries."""
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing: it holds no resources."""


def feed(dsn: str, host: int, number: int, ready: Barrier) -> None:
    """Put a host's documents, one after another."""

    async def run(folder: Path) -> None:
        """Put them."""
        config, places = PostgresTargetConfig(dsn=Secret(dsn)), TargetContext("host", folder, folder)
        owner = Owner(f"{host}/", uuid4())
        with patch("kbsync.targets.indexed.target.encoder_of", return_value=Slow()):
            target = PostgresTarget(config, places, lambda: PostgresStore(dsn, owner), parse)
        every = list(documents(Prose(host), range(number + 1)))
        await target.put(every[:1])  # connect first
        ready.wait()
        for document in every[1:]:
            await target.put([document])
        assert (await target.base()).documents == number + 1
        await target.aclose()

    with TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


def hosting(dsn: str, hosts: int, number: int = 150) -> None:
    """Print how many documents a second so many hosts put, and one alone."""
    rates = list[float]()
    for first, count_ in ((0, 1), (100, hosts)):
        ready = SPAWNED.Barrier(count_ + 1)
        processes = [
            SPAWNED.Process(target=feed, args=(dsn, first + process, number, ready))
            for process in range(count_)
        ]
        for process in processes:
            process.start()
        ready.wait()
        began = time.perf_counter()
        for process in processes:
            process.join()
        assert all(process.exitcode == 0 for process in processes)
        rates.append(count_ * number / (time.perf_counter() - began))
        print(f"{f'documents/s of {count_} hosts':45}{rates[-1]:10.1f}")
    print(f"{'ratio':45}{rates[1] / rates[0]:10.2f}")


def print_times(name: str, times: Sequence[float]) -> None:
    """Print median and 95th percentile."""
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"{name:45}{statistics.median(times):10.1f} ms / {p95:.1f} ms", flush=True)


def main() -> None:
    """Print a table of all results of this run."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--dsn", required=True)
    arguments.add_argument("--corpus", type=Path)
    arguments.add_argument("--passages", type=int, default=100_000)
    arguments.add_argument("--feeders", type=int, default=2)
    arguments.add_argument("--searchers", type=int, default=8)
    arguments.add_argument("--hosts", type=int, default=0)
    options = arguments.parse_args()
    if options.hosts:
        hosting(options.dsn, options.hosts)
        return
    if options.corpus is None:
        arguments.error("--corpus is needed")
    if count(options.dsn) < options.passages:  # documents of an earlier run stay
        fill(options.dsn, options.corpus, options.passages, options.feeders)
        with psycopg.connect(options.dsn, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        index(options.dsn)
    print(f"{'passages':45}{count(options.dsn):10}")
    with psycopg.connect(options.dsn) as connection:
        for table in ("document", "passage", "words", "vector"):
            [(size,)] = connection.execute("SELECT pg_total_relation_size(%s)", (f"kbsync.{table}",))
            print(f"{table:45}{size / 2**20:10.0f} MiB")
    question_list = asked_of(options.corpus, 300)
    queries = list(map(Query, question_list))
    print_times("search alone, p50 / p95", searched(options.dsn, queries))
    print(f"{'recall@10 of vectors':45}{recall(options.dsn, question_list[:150]):10.4f}", flush=True)
    print(f"{'recall@10 of hits':45}{recall_of_hits(options.dsn, question_list[:60]):10.4f}", flush=True)
    for name, query in FILTERS.items():
        filtered = [replace(query, text=question) for question in question_list[:100]]
        print_times(f"documents {name}, p50 / p95", searched(options.dsn, filtered))
    alone = beside(options.dsn, options.corpus, queries, 0, writes=True)
    beside(options.dsn, options.corpus, queries, options.searchers, writes=False)
    with_others = beside(options.dsn, options.corpus, queries, options.searchers, writes=True)
    print(f"{'documents/s of a writer, alone and beside':45}{alone:10.1f} / {with_others:.1f}")


if __name__ == "__main__":
    main()
