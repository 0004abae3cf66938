"""Compares a scan of an unchanged tree with `find -printf` for the same stat fields on the same tree.

`python benchmarks/scan.py DIR [FILES FOLDERS]` creates the tree if it doesn't exist, records it in a state,
and prints seconds, the ratio to find and peak memory: with the digests of unchanged directories, and with the
rows of all files.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

import apsw
from tree import ensure

from kbsync.core.model import SELECTED, Formats, Presence, Status
from kbsync.core.selection import Rules
from kbsync.source.scan import FolderListing, Scan, StoredTree
from kbsync.state.files import FileRow, join
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

ROUNDS = 5
MIRROR = 1
RULES = Rules(None, (), Formats(extensions=frozenset({"md"})))


def fill(root: Path, store: StateStore) -> None:
    """Store the results of a first scan, as a pass does."""

    def record(tx: Tx, listing: FolderListing) -> None:
        tx.folders.record_listing(MIRROR, listing.path, listing.version, listing.is_mount, listing.mount)
        for file in listing.changed:
            path = join(listing.path, file.name)
            row = FileRow(path, file.stamp, None, SELECTED, True, Presence.PRESENT, Status.READY, 1.5e9)
            tx.entries.put(MIRROR, row)
        tx.entries.record_digest(MIRROR, listing.path)

    store.submit(lambda tx: tx.mirrors.add("m", str(root), "local")).result()
    for listing in Scan(root, StoredTree(store.read_now, MIRROR), RULES):
        store.submit(partial(record, listing=listing)).result()


def one_pass(root: Path, database: Path) -> None:
    """Run in a separate process: print seconds, CPU seconds, listings, files and peak memory in MiB."""
    store = StateStore(database)
    began, worked = time.perf_counter(), time.process_time()
    passing = Scan(root, StoredTree(store.read_now, MIRROR), RULES)
    differing = sum(1 for _ in passing)
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(seconds, cpu, differing, passing.summary.files, peak)


def find(root: Path) -> tuple[float, float]:
    """Return the seconds and CPU seconds that find needs for the same fields."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    fields = "%p %y %s %T@ %C@ %i %n\\n"
    subprocess.run(["find", root, "-printf", fields], stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(root: Path, database: Path) -> str:
    """Return the medians and spread of `ROUNDS` rounds, each a `find` and then a scan.

    The best round would be misleading on a shared machine: it is the one in which find was held up.
    """
    rounds = []
    for _ in range(ROUNDS):
        base, base_cpu = find(root)
        command = [sys.executable, __file__, "--pass", str(root), str(database)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        seconds, cpu, differing, files, peak = map(float, output)
        assert not differing, f"{differing} folders differ"
        rounds.append((seconds, base, seconds / base, cpu / base_cpu, peak, files))
    seconds, base, ratio, cpu_ratio, peak, files = map(median, zip(*rounds, strict=True))
    ratios = sorted(row[2] for row in rounds)
    return (
        f"{files:,.0f} files: {seconds:.2f} s, find {base:.2f} s, ratio {ratio:.2f}"
        f" ({ratios[0]:.2f} to {ratios[-1]:.2f}), CPU ratio {cpu_ratio:.2f}, peak {peak:.0f} MiB"
    )


def main() -> None:
    """Measure both ways to compare a directory."""
    root = Path(sys.argv[1])
    files, leaves = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else (100_000, 1_000)
    ensure(root, files, leaves)
    with tempfile.TemporaryDirectory() as scratch:
        database = Path(scratch) / "state.db"
        with closing(StateStore(database)) as store:
            fill(root, store)
        print(f"digests: {measure(root, database)}", flush=True)
        with closing(apsw.Connection(str(database))) as connection:
            connection.execute("UPDATE folder SET files_digest = NULL")
        print(f"rows:    {measure(root, database)}")


if __name__ == "__main__":
    if sys.argv[1] == "--pass":
        one_pass(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
