"""Measures documents prepared on a Dask cluster: the gain of more workers, and the overhead.

python benchmarks/prepare.py [--documents 512]

Workers and scheduler are processes of this machine. First, embedding a document takes 50 ms without CPU time,
so that cores aren't the limit: documents per second with one worker and with four. Then PDF files of 20 pages
with the built-in model: CPU milliseconds per document here, and on the cluster at the host, the scheduler and
the workers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from kbsync.contract.target import Body, Cluster
from kbsync.index.cluster.client import ClusterEncoder, DaskCluster
from kbsync.index.document import Chunk, Entry
from kbsync.index.embed import Encoder, LocalEncoder, Vectors
from kbsync.index.fence.parser import Parser
from kbsync.index.pipeline import Pipeline, cut_here
from kbsync.targets.indexed.target import BATCH, CONCURRENCY, CONCURRENCY_OF_CLUSTER

DASK = Path(sys.executable).with_name("dask")
LOOPBACK = ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
TICK = os.sysconf("SC_CLK_TCK")


class SlowEncoder(LocalEncoder):
    """An encoder that takes 50 ms a passage. Workers get it too: they import this module."""

    model = "slow"

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Embed all chunks, one after the other."""
        time.sleep(0.05 * len(chunks))
        vectors = Future[Vectors]()
        vectors.set_result({piece.key: b"\0" * 512 for piece in chunks})
        return vectors


class Text:
    """A document in memory."""

    def __init__(self, content: bytes) -> None:
        self.content, self.size = content, len(content)

    def open(self) -> BinaryIO:
        """Return its bytes as a stream."""
        return BytesIO(self.content)


def pages(count: int, run: str) -> list[tuple[Entry, Body]]:
    """Return small web pages of one passage each, different in each run."""
    text = "The walrus lies on the ice. " * 20
    return [
        document(number, f"{number}.html", f"<h1>{number}</h1><p>{text}{run} {number}</p>".encode())
        for number in range(count)
    ]


def pdfs(count: int, run: str) -> list[tuple[Entry, Body]]:
    """Return PDF files of 20 pages of 40 lines each, different in each run."""
    return [document(number, f"{number}.pdf", pdf(f"{run} {number}")) for number in range(count)]


def document(number: int, path: str, content: bytes) -> tuple[Entry, Body]:
    """Return a document to put."""
    digest = hashlib.sha256(content).hexdigest()
    return Entry(number, path, path, digest, len(content), "r", 1.0), Text(content)


def pdf(name: str) -> bytes:
    """Return a PDF file whose lines all contain the name."""
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(20))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count 20 /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for page in range(20):
        lines = (
            f"(Line {line} of page {page} of {name}: the walrus lies on the ice.) '" for line in range(40)
        )
        stream = ("BT /F 11 Tf 16 TL 60 760 Td " + " ".join(lines) + " ET").encode()
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * page} 0 R "
            "/Resources << /Font << /F 3 0 R >> >> >>".encode(),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        ]
    content, offsets = b"%PDF-1.7\n", list[int]()
    for number, entry in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, entry)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size, start = len(objects) + 1, len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return content + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start)


@contextmanager
def cluster(workers: int) -> Iterator[tuple[DaskCluster, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and workers of one thread each; the scheduler is the first of the processes."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "scheduler.json"
        environ = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical", "HOME": scratch}
        environ["PYTHONPATH"] = str(Path(__file__).parent)
        line = [str(DASK), "scheduler", *LOOPBACK, "--port", "0"]
        processes = [subprocess.Popen([*line, "--scheduler-file", str(file)], env=environ)]
        line = [str(DASK), "worker", "--scheduler-file", str(file), "--no-nanny", "--nthreads", "1"]
        line += [*LOOPBACK, "--local-directory", scratch]
        processes += [subprocess.Popen(line, env=environ) for _ in range(workers)]
        try:
            while not file.exists() or not file.read_text().endswith("}"):
                time.sleep(0.1)
            with closing(DaskCluster(Cluster(json.loads(file.read_text())["address"]), 60.0)) as opened:
                while opened.state().workers < workers:
                    time.sleep(0.1)
                yield opened, processes
        finally:
            for process in processes:
                process.kill()
                process.wait()


def prepare(pipeline: Pipeline, documents: Sequence[tuple[Entry, Body]], puts: int) -> float:
    """Return the seconds to prepare all documents, with as many simultaneous puts as the target makes."""
    started = time.perf_counter()
    with ThreadPoolExecutor(puts) as threads:
        parts = [documents[start : start + BATCH] for start in range(0, len(documents), BATCH)]
        for batches in threads.map(lambda part: list(pipeline.batches(part)), parts):
            assert all(
                isinstance(document, Entry) and document.vectors for batch in batches for document in batch
            )
    return time.perf_counter() - started


def on(remote: DaskCluster, encoder: Encoder) -> Pipeline:
    """Return the pipeline of a mirror with `prepare`."""
    return Pipeline(remote.cut, encoder, lambda _model, _keys: set(), 10**9)


def worked(*pids: int) -> float:
    """Return the CPU seconds of these processes and their children, the parsers."""
    seconds = 0.0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = status.read_text().rpartition(") ")[2].split()
            if int(status.parent.name) in pids or int(fields[1]) in pids:
                seconds += (int(fields[11]) + int(fields[12])) / TICK
    return seconds


def main() -> None:
    """Print both results."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--documents", type=int, default=512)
    count = arguments.parse_args().documents
    from prepare import SlowEncoder as Recipe  # under the name that the workers know

    rates = {}
    for workers in (1, 4):
        with cluster(workers) as (address, _):
            slow = on(address, ClusterEncoder(address, Recipe(), Recipe))
            prepare(slow, pages(16 * workers, f"first {workers}"), 4)  # afterwards everything is loaded
            seconds = prepare(slow, pages(count, f"{workers}"), CONCURRENCY_OF_CLUSTER)
            rates[workers] = count / seconds
            print(f"50 ms a document, {workers} worker(s){rates[workers]:20.1f} documents/s")
    print(f"{'four workers and one':40}{rates[4] / rates[1]:10.2f} times")

    count //= 4
    with tempfile.TemporaryDirectory() as temporary, closing(Parser(Path(temporary))) as parser:
        local = Pipeline(cut_here(parser.parse), LocalEncoder(), lambda _model, _keys: set(), 10**9)
        prepare(local, pdfs(16, "first"), CONCURRENCY)
        before = worked(os.getpid())
        prepare(local, pdfs(count, "here"), CONCURRENCY)
        used = (worked(os.getpid()) - before) / count * 1e3
        print(f"{'PDF of 20 pages, here':40}{used:10.1f} ms of processor time")
    with cluster(4) as (address, (scheduler, *workers_)):
        remote = on(address, LocalEncoder())
        prepare(remote, pdfs(64, "first"), 4)

        def parts() -> list[float]:
            return [
                time.process_time(),
                worked(scheduler.pid),
                worked(*(process.pid for process in workers_)),
            ]

        started = parts()
        prepare(remote, pdfs(count, "there"), CONCURRENCY_OF_CLUSTER)
        costs = " + ".join(f"{(b - a) / count * 1e3:.1f}" for a, b in zip(started, parts(), strict=True))
        print(f"{'PDF of 20 pages, on four workers':40}{costs:>10} ms: host, scheduler, workers")


if __name__ == "__main__":
    main()
