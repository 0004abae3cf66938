"""Measures the Zhipu target against its stand-in: requests per document, throughput under delays, memory.

Usage: python benchmarks/zhipu.py [requests] [delays] [memory]     (default: all, a quarter of an hour)

The stand-in and every `kbsync --once` are separate processes. Throughput is compared with the ideal that the
delays allow: each upload's latency, `concurrency` at a time, then the longest vectorization and one poll; and
with a bare loop that sends the same bytes through the same HTTP layer without a journal.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bodies import Text
from tree import build
from zhipu_rig import KEY, KNOWLEDGE_ID, Mirror, Pass, StandIn, standin

from kbsync.config.secrets import Secret
from kbsync.contract.target import Accepted, Outgoing, TargetContext
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from kbsync.targets.zhipu.target import ZhipuTarget

FILES = 2_000
MANY = 100_000
LATENCY, VECTORIZATION = 0.05, 5.0
DELAYS = ("--latency", "50ms", "--vectorize", "1s-5s")
SPEEDS = ((1, 600, 0.8), (4, FILES, 0.8), (16, FILES, 0.6))
"""Concurrency, files, and the least share of the ideal."""

SETTLED = 2.1
"""Seconds after which files are older than the settle time, as most documents are."""


@contextmanager
def mirrored(files: int, concurrency: int, *options: str) -> Iterator[tuple[Mirror, StandIn]]:
    """Create a folder of so many new files and a stand-in to send them to."""
    with tempfile.TemporaryDirectory() as scratch, standin(*options) as service:
        mirror = Mirror(Path(scratch))
        build(mirror.folder, files, max(1, files // 100))
        mirror.state.mkdir()
        mirror.aim(service.url, concurrency)
        time.sleep(SETTLED)
        yield mirror, service


def edit(folder: Path, count: int) -> None:
    """Change this many files, spread over all folders, and wait until they settle."""
    every = sorted(folder.rglob("*.md"))
    for path in every[:: len(every) // count][:count]:
        path.write_text("# Another page\n\nother words\n")
    time.sleep(SETTLED)


def requests(*options: str) -> None:
    """Print the requests of a first, an idle and a small pass, and the most at a time."""
    with mirrored(FILES, 4, *options) as (mirror, service):
        print(f"requests, {FILES:,} files, concurrency 4 {' '.join(options)}")
        assert mirror.once().uploaded == FILES
        first = service.take_requests()
        print(f"  first pass    {first.total / FILES:.3f} a document (at most 1.3): {first.summary}")
        mirror.once()
        print(f"  no change     {service.take_requests().summary}   (at most {FILES // 100})")
        edit(mirror.folder, 1)
        assert mirror.once().replaced == 1
        print(f"  one change    {service.take_requests().summary}   (at most 5)")
        mirror.forget()
        assert mirror.once().uploaded == 0
        print(f"  state lost    {service.take_requests().summary}")
        assert not service.violations(), service.violations()


def delays(concurrency: int, files: int, least: float) -> None:
    """Print a first pass's throughput as a share of the ideal, and of the bare loop's time."""
    uploads = files * LATENCY / concurrency
    ideal = uploads + VECTORIZATION + LATENCY
    with standin("--latency", "50ms") as service:
        bare = asyncio.run(bare_loop(service.url, concurrency, files))
    with mirrored(files, concurrency, *DELAYS) as (mirror, service):
        seconds = mirror.once().seconds
        counts = service.take_requests()
    print(f"delays, {files:,} files, concurrency {concurrency}: {counts.summary}")
    print(f"  of the ideal     {ideal / seconds:.2f} (at least {least}): {ideal:.1f} s of {seconds:.1f} s")
    share = (bare + VECTORIZATION + LATENCY) / seconds
    print(f"  of a bare loop   {share:.2f}, which itself sends at {uploads / bare:.2f} of the ideal")


async def bare_loop(url: str, concurrency: int, files: int) -> float:
    """Return the seconds to send as many documents of that size, `concurrency` at a time."""
    config = ZhipuTargetConfig(
        base_url=f"{url}/api", api_key=Secret(KEY), knowledge_id=KNOWLEDGE_ID, concurrency=concurrency
    )
    nowhere = Path(os.devnull)
    target = ZhipuTarget(config, TargetContext("", nowhere, nowhere))
    numbers = iter(range(files))

    async def lane() -> None:
        for number in numbers:
            (outcome,) = await target.put([page(number)])
            assert isinstance(outcome, Accepted), outcome

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(concurrency)))
    seconds = time.perf_counter() - began
    await target.aclose()
    return seconds


def page(number: int) -> Outgoing:
    """Return a document as the mirror sends it."""
    body = Text(b"# Page %d\n\nsome words\n" % number)
    digest = hashlib.sha256(body.content).hexdigest()
    return Outgoing(number + 1, f"{number}.md", f"{number}.md", digest, body.size, 0.0, "k1", body)


def memory() -> None:
    """Print the peak memory of each kind of pass over many files."""
    with mirrored(MANY, 16) as (mirror, service):
        print(f"memory, {MANY:,} files (peak under 120 MiB)")
        print_cost(service, "first pass", mirror.once)
        print_cost(service, "no change", mirror.once)
        edit(mirror.folder, 100)
        print_cost(service, "100 changes", mirror.once)
        mirror.forget()
        print_cost(service, "state lost", mirror.once)


def print_cost(service: StandIn, label: str, run_pass: Callable[[], Pass]) -> None:
    """Print the cost of one pass."""
    end = run_pass()
    assert end.ready == MANY, end
    print(
        f"  {label:12}{end.peak_mib:5.0f} MiB {end.seconds:7.1f} s, {service.take_requests().summary}",
        flush=True,
    )


def main() -> None:
    """Run the selected measurements."""
    selected = set(sys.argv[1:]) or {"requests", "delays", "memory"}
    if "requests" in selected:
        requests()
        requests("--behaviour", "page_cap=10")
    if "delays" in selected:
        for concurrency, files, least in SPEEDS:
            delays(concurrency, files, least)
    if "memory" in selected:
        memory()


if __name__ == "__main__":
    main()
