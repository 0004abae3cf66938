"""Measures searches over many passages of real text in the built-in base, with XQuAD's paragraphs among them.

python benchmarks/million.py FOLDER --corpus DIR --xquad DIR [--passages 1000000] [--questions 150]

FOLDER has the index, or gets it. The corpus is any directory with much text (corpus.py). XQuAD: see xquad.py.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

from corpus import SEEN, entries
from xquad import LANGUAGES, Paragraph, paragraphs

from kbsync.contract.searching import Query
from kbsync.index.chunk import chunk
from kbsync.index.document import Entry, Flavour, Parsed
from kbsync.index.embed import LocalEncoder
from kbsync.index.search import Search
from kbsync.index.sqlite.store import SqliteStore

ENCODER = LocalEncoder()


def entry(number: int, paragraph: Paragraph) -> Entry:
    """Return a document to store."""
    path, chunks = paragraph.path, tuple(chunk(Parsed(paragraph.text, Flavour.PLAIN)))
    vectors = {key: item for key, item in ENCODER.begin(chunks).result().items() if isinstance(item, bytes)}
    return Entry(
        upload_id=number,
        path=path,
        name=path.rpartition("/")[2],
        digest=hashlib.sha256(path.encode()).hexdigest(),
        size=len(paragraph.text),
        recipe="",
        modified=1.7e9,
        chunks=chunks,
        vectors=vectors,
    )


def fill(folder: Path, corpus: Path, xquad: Path, passages: int) -> None:
    """Store XQuAD's paragraphs, and documents until there are so many passages."""
    began = time.perf_counter()
    with closing(SqliteStore(folder)) as store:
        for language in LANGUAGES:
            store.put(
                [entry(10**9 + n, paragraph) for n, paragraph in enumerate(paragraphs(xquad, language))],
                ENCODER,
            )
        documents, count = entries(corpus, 0, 1, bytearray(SEEN)), 0
        while count < passages and (batch := list(islice(documents, 64))):
            store.put(batch, ENCODER)
            count += sum(len(document.chunks) for document in batch)
        while store.tidy():
            pass
    print(f"{count:,} passages in {time.perf_counter() - began:.0f} s")


def measured(work: Callable[[], list[str]]) -> tuple[list[str], float, float]:
    """Return the result of `work`, and its milliseconds and those of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000


def main() -> None:
    """Fill the index if it doesn't exist, and measure searches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--xquad", type=Path, required=True)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=150)
    options = parser.parse_args()
    if not options.folder.exists():
        fill(options.folder, options.corpus, options.xquad, options.passages)
    with closing(SqliteStore(options.folder, writer=None)) as store:
        search = Search(store, ENCODER)

        def paths(text: str) -> list[str]:
            return [hit.path or "" for hit in search.search(Query(text))]

        _, wall, cpu = measured(lambda: paths("the first search of a process"))
        print(f"first search: {wall:.0f} ms, {cpu:.0f} ms of CPU time")
        paths("the second, which fills the cache")
        for language in LANGUAGES:
            every = paragraphs(options.xquad, language)
            questions = [(text, paragraph.path) for paragraph in every for text in paragraph.questions]
            first, walls, cpus = 0, list[float](), list[float]()
            for text, path in random.Random(5).sample(questions, min(options.questions, len(questions))):
                hits, wall, cpu = measured(lambda text=text: paths(text))  # type: ignore[misc]
                first += hits[:1] == [path]
                walls.append(wall)
                cpus.append(cpu)
            middle, last = len(walls) // 2, len(walls) * 95 // 100
            print(
                f"{language}: first hit right {first / len(walls):.3f};"
                f" p50 {sorted(walls)[middle]:.0f}, p95 {sorted(walls)[last]:.0f} ms;"
                f" CPU time p50 {sorted(cpus)[middle]:.0f}, p95 {sorted(cpus)[last]:.0f} ms"
            )
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
