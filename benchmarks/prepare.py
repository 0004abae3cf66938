"""Documents prepared on a Dask cluster: what more workers bring, and what the way there costs.

    python benchmarks/prepare.py [--documents 512]

Workers and scheduler are processes of this machine. First the vectors of a document take 50 ms and no
processor time, so that cores are not the limit: documents a second on one worker and on four. Then small
files with the built-in vectors: milliseconds a document here and on the cluster, and of these what processors
worked, on the host, at the scheduler and on the workers.
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
from contextlib import closing, contextmanager
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
    """50 ms a passage. Also the recipe that the workers get: they import this module."""

    model = "slow"

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """All of them, one after the other."""
        time.sleep(0.05 * len(chunks))
        made = Future[Vectors]()
        made.set_result({each.key: b"\0" * 512 for each in chunks})
        return made


class Text:
    """A document in memory."""

    def __init__(self, content: bytes) -> None:
        self.content, self.size = content, len(content)

    def open(self) -> BinaryIO:
        """Its bytes."""
        return BytesIO(self.content)


def documents(count: int, run: str) -> list[tuple[Entry, Body]]:
    """Small texts of one passage each, which no other run has."""
    made = list[tuple[Entry, Body]]()
    for number in range(count):
        content = f"# Document {number}\n\n{'The walrus lies on the ice. ' * 20}{run} {number}\n".encode()
        path, digest = f"{number}.md", hashlib.sha256(content).hexdigest()
        made.append((Entry(number, path, path, digest, len(content), "r", 1.0), Text(content)))
    return made


@contextmanager
def cluster(workers: int) -> Iterator[tuple[DaskCluster, list[subprocess.Popen[bytes]]]]:
    """A scheduler with so many workers of one thread; the scheduler is the first of the processes."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "scheduler.json"
        environ = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical", "HOME": place}
        environ["PYTHONPATH"] = str(Path(__file__).parent)
        line = [str(DASK), "scheduler", *LOOPBACK, "--port", "0"]
        processes = [subprocess.Popen([*line, "--scheduler-file", str(file)], env=environ)]
        line = [str(DASK), "worker", "--scheduler-file", str(file), "--no-nanny", "--nthreads", "1"]
        line += [*LOOPBACK, "--local-directory", place]
        processes += [subprocess.Popen(line, env=environ) for _ in range(workers)]
        try:
            while not file.exists() or not file.read_text().endswith("}"):
                time.sleep(0.1)
            with closing(DaskCluster(Cluster(json.loads(file.read_text())["address"]), 60.0)) as opened:
                while opened.look().workers < workers:
                    time.sleep(0.1)
                yield opened, processes
        finally:
            for each in processes:
                each.kill()
                each.wait()


def prepare(pipeline: Pipeline, wanted: Sequence[tuple[Entry, Body]], puts: int) -> float:
    """Seconds until all are prepared, in as many puts at a time as the target would make."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(puts) as threads:
        parts = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]
        for batches in threads.map(lambda part: list(pipeline.batches(part)), parts):
            assert all(isinstance(each, Entry) and each.vectors for batch in batches for each in batch)
    return time.perf_counter() - begun


def on(there: DaskCluster, encoder: type[LocalEncoder]) -> Pipeline:
    """The pipeline of a mirror with `prepare`."""
    remote: Encoder = ClusterEncoder(there, encoder(), encoder)
    return Pipeline(there.cut, remote, lambda _model, _keys: set(), 10**9)


def worked(processes: Sequence[subprocess.Popen[bytes]]) -> float:
    """Seconds of processor that they have used."""
    fields = [Path(f"/proc/{each.pid}/stat").read_text().rpartition(") ")[2].split() for each in processes]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICK


def main() -> None:
    """Print both."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--documents", type=int, default=512)
    count = arguments.parse_args().documents
    from prepare import SlowEncoder as Recipe  # under the name that the workers know

    rates = {}
    for workers in (1, 4):
        with cluster(workers) as (there, _):
            prepare(on(there, Recipe), documents(16 * workers, f"first {workers}"), 4)  # all is loaded then
            seconds = prepare(on(there, Recipe), documents(count, f"{workers}"), CONCURRENCY_OF_CLUSTER)
            rates[workers] = count / seconds
            print(f"50 ms a document, {workers} worker(s){rates[workers]:20.1f} documents/s")
    print(f"{'four workers and one':40}{rates[4] / rates[1]:10.2f} times")

    with tempfile.TemporaryDirectory() as place, closing(Parser(Path(place))) as parser:
        local = Pipeline(cut_here(parser.parse), LocalEncoder(), lambda _model, _keys: set(), 10**9)
        prepare(local, documents(64, "first"), CONCURRENCY)
        before = time.process_time()
        seconds = prepare(local, documents(count, "here"), CONCURRENCY)
        used = (time.process_time() - before) / count * 1e3
        print(f"{'small files, here':40}{seconds / count * 1e3:10.2f} ms, of processors {used:.2f}")
    with cluster(4) as (there, processes):
        prepare(on(there, LocalEncoder), documents(256, "first"), 4)
        before, scheduler, workers_ = time.process_time(), worked(processes[:1]), worked(processes[1:])
        seconds = prepare(on(there, LocalEncoder), documents(count, "there"), CONCURRENCY_OF_CLUSTER)
        parts = (
            time.process_time() - before,
            worked(processes[:1]) - scheduler,
            worked(processes[1:]) - workers_,
        )
        shown = " + ".join(f"{each / count * 1e3:.2f}" for each in parts)
        print(f"{'small files, on four workers':40}{seconds / count * 1e3:10.2f} ms, of processors {shown}")


if __name__ == "__main__":
    main()
