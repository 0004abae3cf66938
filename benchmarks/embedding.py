"""Measures a first index through an embedding service that takes 20 ms for a request of 64 texts.

Usage: python benchmarks/embedding.py [CHUNKS]

The lower bound is the service's own time: 20 ms for each request, `concurrency` at a time. For comparison the
same run includes a bare loop that embeds as many texts through the same client and stores nothing, and a pass
with a service that answers at once, which leaves only this machine's work.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.request import urlopen

from first_index import WORDS

from kbsync import logs, once
from kbsync.config.reader import load
from kbsync.installation import Installation
from kbsync.targets.services.clients import EmbeddingService
from kbsync.targets.services.config import EmbeddingConfig
from kbsync.targets.services.dialects import EmbeddingItem

CHUNKS = 10_000
CHUNKS_A_FILE = 25
BATCH, LATENCY, DIMENSIONS = 64, 0.02, 1024
SPEEDS = (1, 2, 4)
SETTLED = 2.1
"""Seconds after which files are older than the settle time, as most documents are."""

CONFIG = """
mirrors:
  - name: docs
    folder: {folder}
    target:
      type: local
      embedding:
        {{type: vllm, base_url: {url}, model: canned, dimensions: {dimensions}, concurrency: {concurrency}}}
"""


@dataclass(frozen=True, slots=True)
class Service:
    """A canned service at `url`."""

    url: str

    def request_counts(self) -> tuple[int, int]:
        """Return the numbers of requests and texts so far."""
        with urlopen(f"{self.url}/requests") as response:
            counts = json.load(response)
        return counts["requests"], counts["texts"]


@contextmanager
def canned(seconds: float) -> Iterator[Service]:
    """Start a canned service as a separate process."""
    command = [sys.executable, str(Path(__file__).with_name("canned.py")), str(DIMENSIONS), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Service(f"http://127.0.0.1:{process.stdout.readline().strip()}")
    finally:
        process.terminate()
        process.wait()


def write_files(folder: Path, chunks: int) -> None:
    """Write Markdown files whose sections are one chunk each, all different."""
    chance = Random(1)
    for number in range(chunks // CHUNKS_A_FILE):
        lines = [f"# Document {number}", ""]
        for section in range(CHUNKS_A_FILE):
            words = " ".join(chance.choice(WORDS) for _ in range(150))
            lines += [f"## Section {section}", "", f"{words} {number}-{section}.", ""]
        path = folder / f"part{number % 20}" / f"doc{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Pass:
    """The wall and CPU seconds of a first pass, and its requests to the service."""

    seconds: float
    cpu: float
    requests: int
    texts: int


def first_pass(folder: Path, state: Path, latency: float, concurrency: int) -> Pass:
    """Run a first pass with all of kbsync's safeguards."""
    state.mkdir()
    config = state.with_suffix(".yaml")
    with canned(latency) as service:
        settings = {
            "folder": folder,
            "url": service.url,
            "dimensions": DIMENSIONS,
            "concurrency": concurrency,
        }
        config.write_text(CONFIG.format(**settings))
        installation = Installation(load(config, {}), state)
        began, cpu = time.perf_counter(), time.process_time()
        is_complete = asyncio.run(_is_complete(installation))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        assert is_complete
        return Pass(seconds, cpu, *service.request_counts())


async def _is_complete(installation: Installation) -> bool:
    end = await once.once(installation)
    return all(mirror_end.complete for mirror_end in end.ends.values())


async def bare_loop(texts: int, concurrency: int) -> float:
    """Return the seconds to embed so many texts through the same client and drop the vectors."""
    items = [EmbeddingItem(f"{number} " * 80) for number in range(texts)]
    with canned(LATENCY) as service:
        config = EmbeddingConfig(type="vllm", base_url=service.url, model="canned", concurrency=concurrency)
        client = EmbeddingService(config)
        began = time.perf_counter()
        await client.embed(items)
        seconds = time.perf_counter() - began
        await client.aclose()
    return seconds


def main() -> None:
    """Print how long a pass takes, as a multiple of the lower bound."""
    logging.disable()
    logs.configure(style="json", level="error")
    chunks = int(sys.argv[1]) if len(sys.argv) > 1 else CHUNKS
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "docs"
        write_files(folder, chunks)
        time.sleep(SETTLED)
        first_pass(folder / "part0", Path(scratch) / "warm", 0.0, 4)  # so that imports don't count
        alone = first_pass(folder, Path(scratch) / "alone", 0.0, 4)
        print(f"load {os.getloadavg()[0]:.1f}; {alone.texts:,} chunks in {alone.requests} requests")
        print(f"service answers at once    {alone.seconds:6.2f} s, {alone.cpu:5.2f} s of CPU")
        for concurrency in SPEEDS:
            bound = -(-alone.texts // BATCH) * LATENCY / concurrency
            bare = asyncio.run(bare_loop(alone.texts, concurrency))
            timed = first_pass(folder, Path(scratch) / f"at-{concurrency}", LATENCY, concurrency)
            print(
                f"{concurrency} at a time: bound {bound:5.2f} s   bare loop {bare / bound:5.2f} times it   "
                f"first pass {timed.seconds / bound:5.2f} ({timed.seconds:.2f} s, {timed.cpu:.2f} s of CPU)"
            )


if __name__ == "__main__":
    main()
