"""Measures the GPTBots target against its stand-in: requests per document, and memory.

Usage: python benchmarks/gptbots.py

The stand-in and every `kbsync --once` are separate processes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tree import build
from zhipu_rig import Mirror, Pass, StandIn, standin

FILES, CONCURRENCY = 2_000, 4
MOST = 0.3
"""The most requests per document in all."""

SETTLED = 2.1
"""Seconds after which files are older than the settle time."""

CONFIG = """
mirrors:
  - name: docs
    folder: {folder}
    target:
      type: gptbots
      base_url: {url}
      api_key: {key}
      knowledge_base_id: 67457fea6f658672d6482542
      concurrency: {concurrency}
"""


@contextmanager
def mirrored(*options: str) -> Iterator[tuple[Mirror, StandIn]]:
    """Create a folder of new files and a stand-in to send them to."""
    with tempfile.TemporaryDirectory() as scratch, standin(*options, service="gptbots") as service:
        mirror = Mirror(Path(scratch))
        build(mirror.folder, FILES, FILES // 100)
        mirror.state.mkdir()
        mirror.aim(service.url, CONCURRENCY, CONFIG)
        time.sleep(SETTLED)
        yield mirror, service


def edit(folder: Path, count: int) -> None:
    """Change this many files, spread over all folders, and wait until they settle."""
    every = sorted(folder.rglob("*.md"))
    for path in every[:: len(every) // count][:count]:
        path.write_text(f"# Another page\n\nother words of {path.name}\n")
    time.sleep(SETTLED)


def print_cost(service: StandIn, label: str, end: Pass, documents: int) -> None:
    """Print the cost of one pass."""
    requests = service.take_requests()
    share = f"{requests.total / documents:.3f} a document: " if documents else ""
    print(f"  {label:14}{share}{requests.summary}; {end.seconds:.1f} s, {end.peak_mib:.0f} MiB", flush=True)


def main(*options: str) -> None:
    """Print the requests of a first, an idle and a small pass, of many changes, and of a pass after lost
    state.
    """
    with mirrored(*options) as (mirror, service):
        print(f"requests, {FILES:,} files, concurrency {CONCURRENCY} {' '.join(options)} (at most {MOST})")
        print_cost(service, "first pass", mirror.once(), FILES)
        print_cost(service, "no change", mirror.once(), 0)
        edit(mirror.folder, 1)
        print_cost(service, "one change", mirror.once(), 1)
        edit(mirror.folder, FILES)
        print_cost(service, "all changed", mirror.once(), FILES)
        mirror.forget()
        print_cost(service, "state lost", mirror.once(), 0)
        assert not service.violations(), service.violations()


if __name__ == "__main__":
    main()
    main("--vectorize", "1s-5s")
