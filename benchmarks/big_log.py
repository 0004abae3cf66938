"""Measures how one large log changes the ranking of other files: 376 files, with and without the log.

python benchmarks/big_log.py FOLDER [--megabytes 60] [--dsn DSN]           (or KBSYNC_XQUAD=FOLDER)

FOLDER is as in benchmarks/xquad.py, and its paragraphs fill the files. Like real logs, the log has dates,
times, numbers, its own words and words of the paragraphs. The table lists the queries that rank worse with
the log.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xquad import Paragraph, outgoing, paragraphs

from kbsync.config.secrets import Secret
from kbsync.contract.query_syntax import parse_query
from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, Body, TargetContext
from kbsync.index.document import Parsed
from kbsync.index.read.formats import flavour_of
from kbsync.targets.indexed.target import IndexedTarget
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget
from kbsync.targets.postgres.config import PostgresTargetConfig
from kbsync.targets.postgres.target import PostgresTarget

FILES = 376
NAMES, QUESTIONS = 200, 400
"""The number of queries with a file's name, and of questions about a file's text."""

LINES = (
    "INFO  request {n} to /api/{w}/{n} answered in {n} ms",
    "WARN  printer queue: paper tray {d} is low, report {d} waits",
    "INFO  report {d} written to /var/spool/reports/{n}.docx by {w}",
    "ERROR {w}: connection to {w}.example reset by peer after {n} s",
    "INFO  user {w} logged in from 10.0.{d}.{d}",
    "DEBUG cache of {w} {w} has {n} entries, {d} stale",
    "INFO  backup of {w} finished: {n} files, {d} new",
    "WARN  job {w} {w} {w} took {n} ms, paper {d} skipped",
    "INFO  meeting room {d}: {w} {w} booked by {w}",
)


@dataclass(frozen=True, slots=True)
class Question:
    """A query and the expected path."""

    text: str
    path: str


def files(folder: Path) -> tuple[list[Paragraph], list[Question]]:
    """Return the files and the queries for them."""
    chance, texts = random.Random(29), paragraphs(folder, "en") + paragraphs(folder, "zh")
    chance.shuffle(texts)
    papers, named, questions = list[Paragraph](), list[Question](), list[Question]()
    for number, paragraph in enumerate(texts[:FILES]):
        day = f"2026-{1 + number // 28 % 12:02}-{1 + number % 28:02}"
        path = (
            f"papers/paper {number // 4}.pdf",
            f"notes/{day}.md",
            f"reports/report {number // 4}.docx",
            f"wiki/{number}/{paragraph.text.split()[0][:20]}.txt",
        )[number % 4]
        papers.append(Paragraph(path, paragraph.text, paragraph.questions))
        if number % 4 < 3:
            stem = path.rpartition("/")[2].rpartition(".")[0]
            words = sorted(re.findall("[A-Za-z]{5,}", paragraph.text), key=lambda word: (-len(word), word))
            named += [
                Question(path.rpartition("/")[2], path),
                Question(stem, path),
                Question(f"the {stem} file", path),
            ]
            named += [Question(f"{stem} {word}", path) for word in words[:1]]
        questions += [Question(question, path) for question in paragraph.questions[:2]]
    return papers, [*chance.sample(named, NAMES), *chance.sample(questions, QUESTIONS)]


def log(every: Sequence[Paragraph], size: int) -> str:
    """Return a log of `size` bytes."""
    chance = random.Random(30)
    words = [word for paragraph in every for word in re.findall("[A-Za-z]{4,}", paragraph.text)]

    def lines() -> Iterator[str]:
        written, second = 0, 0
        while written < size:
            second += chance.randrange(90)
            day, rest = divmod(second // 8, 86_400)
            stamp = f"2026-{1 + day // 28 % 12:02}-{1 + day % 28:02} {rest // 3600:02}:{rest // 60 % 60:02}"
            line = re.sub(
                "{(.)}",
                lambda match: (
                    chance.choice(words)
                    if match[1] == "w"
                    else str(chance.randrange(100 if match[1] == "d" else 9_999))
                ),
                chance.choice(LINES),
            )
            written += len(stamp) + len(line) + 2
            yield f"{stamp} {line}"

    return "\n".join(lines())


def parse(path: str, body: Body) -> Parsed:
    """Parse a text and chunk it by its file name."""
    return Parsed(
        body.open().read().decode(), flavour_of(path) if path.endswith(".log") else flavour_of("a.txt")
    )


async def ranks(target: IndexedTarget, queries: Sequence[Question]) -> tuple[list[int], list[float]]:
    """Return the rank of each query's file (0: not among ten), and the milliseconds of each query."""
    places, times = list[int](), list[float]()
    for query in queries:
        start = time.perf_counter()
        paths = [hit.path for hit in await target.search(parse_query(Query(query.text)))]
        times.append((time.perf_counter() - start) * 1000)
        places.append(paths.index(query.path) + 1 if query.path in paths else 0)
    return places, times


async def measure(folder: Path, megabytes: int, dsn: str) -> None:
    """Search without the log, add it, and search again."""
    every, queries = files(folder)
    with tempfile.TemporaryDirectory() as scratch:
        context = TargetContext("log", Path(scratch), Path(scratch))
        target: IndexedTarget
        if dsn:
            config = PostgresTargetConfig(dsn=Secret(dsn), max_bytes=10**9)
            target = PostgresTarget.open(config, context, parse)
        else:
            target = LocalTarget.open(LocalTargetConfig(max_bytes=10**9), context, parse)
        for start in range(0, len(every), target.limits.batch):
            batch = [
                outgoing(start + number, paragraph)
                for number, paragraph in enumerate(every[start:][: target.limits.batch], 1)
            ]
            assert all(isinstance(outcome, Accepted) for outcome in await target.put(batch))
        before, times = await ranks(target, queries)
        show("without the log", before, times)
        start_time = time.perf_counter()
        large = Paragraph("logs/server.log", log(every, megabytes * 10**6), ())
        [outcome] = await target.put([outgoing(len(every) + 1, large)])
        assert isinstance(outcome, Accepted), outcome
        print(f"(the log was indexed in {time.perf_counter() - start_time:.0f} s)")
        after, times = await ranks(target, queries)
        show("with the log", after, times)
        await target.aclose()
    worse = [
        (query, a, b) for query, a, b in zip(queries, before, after, strict=True) if (b or 99) > (a or 99)
    ]
    better = sum((b or 99) < (a or 99) for a, b in zip(before, after, strict=True))
    print(f"{len(worse)} of {len(queries)} rank worse, {better} better")
    for query, a, b in worse[:30]:
        print(f"  {a or '-':>3} -> {b or '-':>3}  {query.text[:80]}  ({query.path})")


def show(name: str, ranks: Sequence[int], times: Sequence[float]) -> None:
    """Print a row of the table."""
    first = statistics.mean(rank == 1 for rank in ranks)
    five = statistics.mean(1 <= rank <= 5 for rank in ranks)
    slow = sorted(times)[int(0.95 * len(times))]
    print(
        f"{name:18}{len(ranks):6} queries, first {first:.3f}, five {five:.3f}, "
        f"{statistics.median(times):.1f} ms, p95 {slow:.1f} ms"
    )


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("folder", nargs="?", type=Path, default=os.environ.get("KBSYNC_XQUAD", "xquad"))
    arguments.add_argument("--megabytes", type=int, default=60)
    arguments.add_argument("--dsn", default="")
    options = arguments.parse_args()
    asyncio.run(measure(options.folder, options.megabytes, options.dsn))


if __name__ == "__main__":
    main()
