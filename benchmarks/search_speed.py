"""Measures searches over 100,000 chunks, cold and warm, and the cost of the first index.

python benchmarks/search_speed.py [--chunks 100000] [--folder DIR]

The texts' words are distributed as in prose: few are very common, most are rare. With --folder the index of
an earlier run is used again.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bodies import Text

from kbsync.contract.searching import Query
from kbsync.contract.target import Body, Outgoing, TargetContext
from kbsync.index.chunk import chunk
from kbsync.index.document import Flavour, Parsed
from kbsync.index.embed import BuiltinEmbedder
from kbsync.index.words import STOP_WORDS
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget

COLD = """
import asyncio, sys
from pathlib import Path
from kbsync.contract.target import TargetContext
from kbsync.contract.searching import Query
from kbsync.targets.local.config import LocalTargetConfig

async def search(folder, question):
    context = TargetContext("bench", folder, folder, read_only=True)
    target = LocalTargetConfig(path=folder).open(context)
    assert await target.search(Query(question))
    await target.aclose()

asyncio.run(search(Path(sys.argv[1]), sys.argv[2]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


class Prose:
    """Generates sentences whose word frequencies are as uneven as in real texts."""

    def __init__(self, seed: int, vocabulary: int = 60_000) -> None:
        """Start with `vocabulary` words and the stop words, which are the commonest."""
        self._random = random.Random(seed)
        vocabulary_words = sorted({self._word() for _ in range(vocabulary)})
        self._random.shuffle(vocabulary_words)
        self.words = sorted(word for word in STOP_WORDS if word.isascii()) + vocabulary_words
        self._weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self.words))))

    def _word(self) -> str:
        """Return a pronounceable word."""
        pairs = [f"{first}{second}" for first in "bcdfghklmnprstvw" for second in "aeiou"]
        return "".join(self._random.choices(pairs, k=self._random.randint(2, 4))) + self._random.choice(
            "nrst"
        )

    def sentence(self, least: int = 6, most: int = 22) -> str:
        """Return one sentence."""
        count = self._random.randint(least, most)
        return (
            " ".join(self._random.choices(self.words, cum_weights=self._weights, k=count)).capitalize() + "."
        )

    def paragraph(self) -> str:
        """Return three to six sentences."""
        return " ".join(self.sentence() for _ in range(self._random.randint(3, 6)))

    def document(self, paragraphs: int) -> str:
        """Return a Markdown file with a heading for every five paragraphs."""
        parts = [f"# {self.sentence(2, 5)}"]
        for number in range(paragraphs):
            if number % 5 == 4:
                parts.append(f"## {self.sentence(2, 5)}")
            parts.append(self.paragraph())
        return "\n\n".join(parts)


def parse(path: str, body: Body) -> Parsed:
    """Return a text as if parsed: this benchmark measures the later steps."""
    with body.open() as stream:
        return Parsed(stream.read().decode(), Flavour.MARKDOWN)


def outgoing(number: int, text: str) -> Outgoing:
    """Return a document to put."""
    content = text.encode()
    path = f"folder-{number % 50}/file-{number}.md"
    digest = hashlib.sha256(content).hexdigest()
    return Outgoing(number, path, path.rpartition("/")[2], digest, len(content), 1.0, "", Text(content))


def documents(prose: Prose, numbers: range) -> Iterator[Outgoing]:
    """Yield documents of 16 paragraphs with those numbers."""
    return (outgoing(number, prose.document(16)) for number in numbers)


def open_base(folder: Path, *, read_only: bool = False) -> LocalTarget:
    """Open the knowledge base in `folder`."""
    context = TargetContext("bench", folder, folder, read_only=read_only)
    return LocalTarget.open(LocalTargetConfig(path=folder), context, parse)


async def put_all(target: LocalTarget, every: list[Outgoing]) -> None:
    """Put in batches, as many at a time as the target accepts."""
    size = target.limits.batch
    batches = iter([every[number : number + size] for number in range(0, len(every), size)])

    async def work() -> None:
        """Put one batch after the other."""
        for batch in batches:
            await target.put(batch)

    await asyncio.gather(*(work() for _ in range(target.limits.concurrency)))


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of some work: wall and CPU seconds."""

    wall: float
    cpu: float

    @classmethod
    def since(cls, start: Cost) -> Cost:
        """Return the cost from `start` until now."""
        return cls(time.perf_counter() - start.wall, time.process_time() - start.cpu)

    @classmethod
    def now(cls) -> Cost:
        """Return the current readings."""
        return cls(time.perf_counter(), time.process_time())


def bare_cost(every: list[Outgoing]) -> Cost:
    """Return the cost of a loop that decodes, chunks and embeds, and stores nothing."""
    embedder = BuiltinEmbedder()
    embedder.embed(["warm"])
    start = Cost.now()
    for document in every:
        chunks = chunk(parse(document.path, document.body))
        embedder.embed([piece.embed_text for piece in chunks])
    return Cost.since(start)


def put_cost(every: list[Outgoing]) -> Cost:
    """Return the cost of a first index through `put`."""

    async def run(folder: Path) -> Cost:
        """Put all of them."""
        target = open_base(folder)
        await target.put([outgoing(10**6, "warm up")])
        start = Cost.now()
        await put_all(target, every)
        cost = Cost.since(start)
        await target.aclose()
        return cost

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(Path(folder) / "kb"))


def build(folder: Path, prose: Prose, chunks: int) -> int:
    """Put documents until there are about `chunks` chunks, and return their number."""

    async def run() -> int:
        """Put 480 at a time, and estimate from the first of them."""
        target, chunk_count, number = open_base(folder), 0, 0
        while chunk_count < chunks:
            await put_all(target, list(documents(prose, range(number + 1, number + 481))))
            number += 480
            sample = [(await target.explain(str(index))).chunks for index in range(1, 40)]
            chunk_count = round(number * statistics.mean(sample))
        await target.aclose()
        return chunk_count

    return asyncio.run(run())


def cold(folder: Path, question: str) -> tuple[float, float]:
    """Return the seconds and MiB of a process that searches once."""
    command = [sys.executable, "-c", COLD, str(folder), question]
    start = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(result.stdout) / 1024


def warm(folder: Path, queries: list[str]) -> list[float]:
    """Milliseconds of each search in one process, after two to warm up."""

    async def run() -> list[float]:
        """Run the searches in turn."""
        target, times = open_base(folder, read_only=True), []
        for question in queries:
            start = time.perf_counter()
            await target.search(Query(question))
            times.append((time.perf_counter() - start) * 1000)
        await target.aclose()
        return times[2:]

    return asyncio.run(run())


def questions(prose: Prose, count: int) -> list[str]:
    """Return questions with stop words, common words and rare ones."""
    rng = random.Random(3)
    rare, common = prose.words[200:], prose.words[90:200]
    return [
        f"what is the {' '.join(rng.choices(rare[:3000], k=3))} of a {rng.choice(rare)} in the "
        f"{' '.join(rng.choices(common, k=2))}"
        for _ in range(count)
    ]


def indexing() -> None:
    """Print how the first index of 2,000 files compares with the least work possible (best of 3)."""
    every = list(documents(Prose(2), range(1, 2_001)))
    runs = [(bare_cost(every), put_cost(every)) for _ in range(3)]
    bare = Cost(min(bare_run.wall for bare_run, _ in runs), min(bare_run.cpu for bare_run, _ in runs))
    put = Cost(min(put_run.wall for _, put_run in runs), min(put_run.cpu for _, put_run in runs))
    for name, cost in (("bare loop (decode, chunk, embed)", bare), ("first index through put", put)):
        print(f"{name:45}{len(every) / cost.wall:10.0f} documents/s  {cost.cpu:.1f} s of processor")
    clock, processor = bare.wall / put.wall, bare.cpu / put.cpu
    print(f"{'rate of put / rate of bare loop':45}{clock:10.2f} by the clock, {processor:.2f} by processor")


def searching(folder: Path, chunks: int) -> None:
    """Print the cost of searches in the index in `folder`, built if it doesn't exist."""
    prose = Prose(1)
    if not (folder / "index.db").exists():
        print(f"{'chunks':45}{build(folder, prose, chunks):10}")
    print(f"{'index.db':45}{(folder / 'index.db').stat().st_size / 2**20:10.0f} MiB")
    queries = questions(prose, 300)
    runs = [cold(folder, question) for question in queries[:7]]
    seconds, peak = statistics.median(value for value, _ in runs), max(value for _, value in runs)
    print(f"{'cold process, one search (median of 7)':45}{seconds:10.2f} s   most memory {peak:.0f} MiB")
    times = warm(folder, queries)
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"{'warm search, p50 / p95':45}{statistics.median(times):10.1f} ms / {p95:.1f} ms")


def main() -> None:
    """Print a table of all results of this run."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--chunks", type=int, default=100_000)
    arguments.add_argument("--folder", type=Path)
    options = arguments.parse_args()
    indexing()
    with tempfile.TemporaryDirectory() as scratch:
        searching(options.folder or Path(scratch) / "kb", options.chunks)


if __name__ == "__main__":
    main()
