"""Compares a scan of an unchanged tree with `find -printf` for the same stat fields on the same tree.

`python benchmarks/scan.py DIR [FILES FOLDERS]` creates the tree if it doesn't exist, stores it in a table
next to it and prints for each layout of that table: seconds, the ratio to find, peak memory.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import apsw
from tree import ensure

from kbsync.core.model import Formats
from kbsync.core.selection import Rules
from kbsync.source.scan import EntryRow, Scan, StoredTree
from kbsync.state.files import FolderRow

ROUNDS = 5
RULES = Rules(None, (), Formats(extensions=frozenset({"md"})))
REST = "digest BLOB, choice INTEGER, reason TEXT, status INTEGER, since REAL"
COLUMNS = f"size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, ino INTEGER, {REST}"
LAYOUTS = {
    "without rowid, key (folder, name)": f"CREATE TABLE entry(folder INTEGER, name, {COLUMNS},"
    " PRIMARY KEY(folder, name)) WITHOUT ROWID",
    "rowid table, unique (folder, name)": f"CREATE TABLE entry(folder INTEGER, name, {COLUMNS},"
    " UNIQUE(folder, name))",
    "rowid table, covering index": f"CREATE TABLE entry(folder INTEGER, name, {COLUMNS});"
    " CREATE UNIQUE INDEX e ON entry(folder, name, size, mtime_ns, ctime_ns, ino)",
}
SETTINGS = {
    "as opened": "",
    "64 MiB cache": "PRAGMA cache_size=-65536",
    "mmap": "PRAGMA mmap_size=1073741824",
}


class Table(StoredTree):
    """Stored rows in a scratch database."""

    def __init__(self, path: Path, layout: str, setting: str = "") -> None:
        is_new = not path.exists()
        self._db = apsw.Connection(str(path))
        if is_new:
            self._db.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF")
            self._db.execute(
                "CREATE TABLE folder(id INTEGER PRIMARY KEY, parent INTEGER, path UNIQUE, name, version);"
                "CREATE INDEX below ON folder(parent);" + layout
            )
        if setting:
            self._db.execute(setting)

    def content(self, directory: str) -> tuple[set[EntryRow], dict[str, FolderRow]]:
        """Return a directory's rows and folders by one indexed query each."""
        rows = self._db.execute(
            "SELECT name, size, mtime_ns, ctime_ns, ino FROM entry"
            " WHERE folder = (SELECT id FROM folder WHERE path = ?)",
            (directory,),
        )
        folders = self._db.execute(
            "SELECT name, version FROM folder WHERE parent = (SELECT id FROM folder WHERE path = ?)",
            (directory,),
        )
        return set(rows), {name: FolderRow(name, version, False, "") for name, version in folders}

    def folder(self, directory: str) -> FolderRow | None:
        """Return the folder's own row."""
        row = self._db.execute("SELECT version FROM folder WHERE path = ?", (directory,)).fetchone()
        return FolderRow(directory, row[0], False, "") if row else None

    def fill(self, root: Path) -> None:
        """Store the results of a first scan."""
        ids: dict[str, int] = {}
        with self._db:
            for number, listing in enumerate(Scan(root, self, RULES)):
                above, _, name = listing.path.rpartition("/")
                ids[listing.path] = number
                parent = ids.get(above) if listing.path else None
                self._db.execute(
                    "INSERT INTO folder VALUES(?,?,?,?,?)",
                    (number, parent, listing.path, name, listing.version),
                )
                rows = [
                    (number, f.name, f.stamp.size, f.stamp.mtime_ns, f.stamp.ctime_ns, f.stamp.ino)
                    for f in listing.changed
                ]
                self._db.executemany(
                    "INSERT INTO entry VALUES(?,?,?,?,?,?, zeroblob(32), 0, '', 0, 1.5e9)", rows
                )


def one_pass(root: Path, database: Path, setting: str) -> None:
    """Run in a separate process: print seconds, CPU seconds, listings, files and peak memory in MiB."""
    table = Table(database, "", setting)
    began, worked = time.perf_counter(), time.process_time()
    passing = Scan(root, table, RULES)
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


def measure(root: Path, database: Path, setting: str) -> str:
    """Return the medians and spread of `ROUNDS` rounds, each a `find` and then a scan.

    The best round would be misleading on a shared machine: it is the one in which find was held up.
    """
    rounds = []
    for _ in range(ROUNDS):
        base, base_cpu = find(root)
        command = [sys.executable, __file__, "--pass", str(root), str(database), setting]
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
    """Measure every layout, and the settings for the first one."""
    root = Path(sys.argv[1])
    files, leaves = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else (100_000, 1_000)
    ensure(root, files, leaves)
    for number, (name, layout) in enumerate(LAYOUTS.items()):
        database = root.with_name(f"{root.name}-{number}-{os.getpid()}.db")
        began = time.perf_counter()
        Table(database, layout).fill(root)
        print(f"{name}: first pass and insert {time.perf_counter() - began:.2f} s,", end=" ")
        print(f"{database.stat().st_size / 2**20:.0f} MiB")
        for words, setting in SETTINGS.items() if number == 0 else [("as opened", "")]:
            print(f"  {words}: {measure(root, database, setting)}", flush=True)
        for path in root.parent.glob(database.name + "*"):
            path.unlink()


if __name__ == "__main__":
    if sys.argv[1] == "--pass":
        one_pass(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        main()
