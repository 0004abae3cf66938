"""Compares a pass of the whole program over an unchanged tree with `find -printf` on the same tree.

Usage: python benchmarks/whole_pass.py TREE [ROUNDS]     (TREE from benchmarks/scan.py)

The state gets the rows of a finished mirror, which saves indexing a million documents; then `kbsync --once`
runs as a separate process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from kbsync import logs
from kbsync import once as passes
from kbsync.config.model import folder_config
from kbsync.core.model import SELECTED, FileKind, Presence, Status
from kbsync.core.selection import Rules
from kbsync.engine.mirror import Mirror
from kbsync.installation import Installation
from kbsync.once import open_state
from kbsync.source.scan import FolderListing, Scan, StoredTree
from kbsync.state.files import FileRow, join
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

FIND = ["find", "{}", "-printf", "%p %s %T@ %C@ %i %y %n\\n"]


def fill(installation: Installation) -> None:
    """Create the rows of a mirror whose files are all ready."""
    with open_state(installation, print) as (_, store):
        run = passes.make_mirror(installation, installation.mirrors[0], store)
        rules = asyncio.run(bound(run))
        tree = StoredTree(store.read_now, run.id)
        page: list[FolderListing] = []
        for listing in Scan(run.settings.root, tree, rules):
            page.append(listing)
            if len(page) == 200:
                record(store, run.id, page)
                page = []
        record(store, run.id, page)
        store.submit(lambda tx: tx.mirrors.pass_ended(run.id, time.time(), True)).result()


async def bound(run: Mirror) -> Rules:
    """Bind the mirror to its (empty) base and return its selection rules."""
    async with run.bind() as mirror:
        assert mirror is not None, run.halt
        return mirror.journal.binding.rules


def record(store: StateStore, mirror: int, listings: list[FolderListing]) -> None:
    """Record some directories in one transaction."""

    def work(tx: Tx) -> None:
        for listing in listings:
            tx.folders.record_listing(mirror, listing.path, listing.version, listing.is_mount)
            for file in listing.changed:
                if file.kind is FileKind.FILE:
                    path = join(listing.path, file.name)
                    tx.entries.put(
                        mirror,
                        FileRow(
                            path, file.stamp, "00" * 32, SELECTED, True, Presence.PRESENT, Status.READY, 0.0
                        ),
                    )
            tx.entries.record_digest(mirror, listing.path)

    store.submit(work).result()


def timed(command: list[str]) -> tuple[float, float, float]:
    """Return a process's wall seconds, CPU seconds and peak MiB; its output is dropped."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command[0]} ended with {status}"
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the medians and the ratio."""
    logs.configure(style="json", level="error")
    tree, rounds = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as scratch:
        state = Path(scratch) / "state"
        state.mkdir()
        fill(Installation(folder_config(tree), state))
        once = [
            sys.executable,
            "-m",
            "kbsync",
            "--once",
            "-q",
            "--folder",
            str(tree),
            "--state-dir",
            str(state),
        ]
        find = [part.format(tree) for part in FIND]
        timed(find)
        timed(once)
        pairs = [(timed(once), timed(find)) for _ in range(rounds)]
    ratios = [ours[0] / theirs[0] for ours, theirs in pairs]
    peak = max(ours[2] for ours, _ in pairs)
    cpu, cpu_of_find = median(o[1] for o, _ in pairs), median(f[1] for _, f in pairs)
    print(f"kbsync --once   {median(o[0] for o, _ in pairs):6.2f} s   CPU {cpu:.3f} s   peak {peak:.0f} MiB")
    print(f"find -printf    {median(f[0] for _, f in pairs):6.2f} s   CPU {cpu_of_find:.3f} s")
    print(f"ratio           {median(ratios):6.2f}     ({min(ratios):.2f} to {max(ratios):.2f}; at most 2.2)")
    print(f"ratio of CPU    {cpu / cpu_of_find:6.2f}     (for 10,000 files at most 10)")


if __name__ == "__main__":
    main()
