"""Measures how soon commands answer: the CPU time of whole processes, of the first search of a new folder,
and the work of `status` by number of documents.

python benchmarks/startup.py [DOCUMENTS …]

The program is compiled first. Each process runs several times and the least CPU time counts, with a bare
`python -c pass` for comparison: on a busy machine wall time depends on other programs.
"""

from __future__ import annotations

import compileall
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
from first_index import write_files

import kbsync
from kbsync.cli.report import mirror_reports
from kbsync.config.model import folder_config
from kbsync.installation import Installation
from kbsync.state.store import StateStore

TIMES = 9
PER_FOLDER = 100
PASSAGES = 10_000
NOTES = 100
SETTLED = 3.0
"""Seconds after which new files are older than the settle time."""


def least(work: Callable[[], object]) -> tuple[float, float]:
    """Return the least CPU seconds (children included) and the least wall seconds."""
    costs = []
    for _ in range(TIMES):
        before, began = spent(), time.perf_counter()
        work()
        costs.append((spent() - before, time.perf_counter() - began))
    cpu, wall = (min(column) for column in zip(*costs, strict=True))
    return cpu, wall


def spent() -> float:
    """Return the CPU seconds of this process and its finished children."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run(*words: str) -> None:
    """Run a separate process."""
    subprocess.run(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )


def compile_all() -> None:
    """Compile as an installer does: with PYTHONDONTWRITEBYTECODE each process would compile the checkout
    again.
    """
    compileall.compile_dir(Path(kbsync.__file__).parent, quiet=1)


def write_documents(folder: Path) -> None:
    """Write 10,000 documents of five passages each."""
    folder.mkdir()
    for document in range(PASSAGES // 5):
        sections = (
            f"# Topic {document} part {part}\n\n" + f"Some words about thing {document} in {part}. " * 20
            for part in range(5)
        )
        (folder / f"{document}.md").write_text("\n\n".join(sections))


def processes(root: Path) -> None:
    """Print a line for each command line."""
    config = root / "config.yaml"
    config.write_text(f"state_dir: {root / 'state'}\nmirrors: [{{name: docs, folder: {root / 'docs'}}}]\n")
    folder = ("--folder", str(root / "docs"))
    run("-m", "kbsync", "--once", "-q", *folder)
    rows = {
        "python -c pass": ("-c", "pass"),
        "kbsync --version": ("-m", "kbsync", "--version"),
        "kbsync --help": ("-m", "kbsync", "--help"),
        "kbsync status --folder": ("-m", "kbsync", "status", *folder),
        "kbsync status --config": ("-m", "kbsync", "status", "--config", str(config)),
        "kbsync search --folder": ("-m", "kbsync", "search", "words about topic 7", *folder),
        "kbsync search, unknown": ("-m", "kbsync", "search", "wordz abuot it", *folder),
    }
    bare = 0.0
    for name, words in rows.items():
        cpu, wall = least(lambda words=words: run(*words))  # type: ignore[misc]
        bare = bare or cpu
        print(f"{name:24}  {1e3 * cpu:5.0f} ms CPU  {1e3 * wall:5.0f} ms wall  {cpu / bare:4.1f} x python")


def first_search(root: Path) -> None:
    """Print the costs of mirroring a new folder, and of searching it then."""
    notes, state = root / "notes", root / "new"
    write_files(notes, NOTES)
    time.sleep(SETTLED)
    options = ("--folder", str(notes), "--state-dir", str(state))

    def mirror() -> None:
        shutil.rmtree(state, ignore_errors=True)
        run("-m", "kbsync", "--once", "-q", *options)

    for name, work in {
        f"--once, {NOTES} new notes": mirror,
        "search, of these": lambda: run("-m", "kbsync", "search", "quarantine", *options),
    }.items():
        cpu, wall = least(work)
        print(f"{name:24}  {1e3 * cpu:5.0f} ms CPU  {1e3 * wall:5.0f} ms wall")


def fill(file: Path, root: Path, documents: int) -> None:
    """Create a state with so many documents: one in a thousand failed, one in a thousand waits."""
    StateStore(file).close()
    with closing(apsw.Connection(str(file))) as db, db:
        db.execute("INSERT INTO binding(id, target, address, base, prefix) VALUES(1, 'local', '', 'x', '')")
        db.execute(
            "INSERT INTO mirror(id, name, folder, target, binding, last_pass)"
            " VALUES(1, 'docs', ?, 'local', 1, ?)",
            (str(root), time.time()),
        )
        folders = documents // PER_FOLDER
        db.executemany(
            "INSERT INTO folder(id, mirror, path, name) VALUES(?, 1, ?, ?)",
            ((n + 1, f"f{n}", f"f{n}") for n in range(folders)),
        )
        db.executemany(
            "INSERT INTO entry(folder, name, size, mtime_ns, ctime_ns, ino, choice, status, since)"
            " VALUES(?, ?, 1000, 0, 0, ?, 0, ?, ?)",
            ((n // PER_FOLDER + 1, f"{n}.md", n, _status(n), time.time()) for n in range(documents)),
        )
        db.execute(f"INSERT INTO serving VALUES(1, 1, {documents})")


def _status(number: int) -> int:
    return {0: 3, 1: 1}.get(number % 1000, 0)


def report_cost(root: Path, documents: int) -> float:
    """Return the CPU seconds to report such a state once."""
    state = root / str(documents)
    state.mkdir(mode=0o700)
    fill(state / "state.db", root / "docs", documents)
    installation = Installation(folder_config(root / "docs"), state)
    cpu, wall = least(lambda: mirror_reports(installation))
    [stand] = mirror_reports(installation)
    counts = stand.status.documents
    assert counts.ready + counts.failed + counts.indexing == documents
    print(f"status of {documents:9,} documents  {1e3 * cpu:5.1f} ms CPU  {1e3 * wall:5.1f} ms wall", end="")
    return cpu


def main() -> None:
    """Run with the sizes from the command line."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [10_000, 1_000_000]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ |= {"XDG_STATE_HOME": str(root / "states"), "XDG_CONFIG_HOME": str(root / "configs")}
        write_documents(root / "docs")
        compile_all()
        processes(root)
        first_search(root)
        first = None
        for documents in sizes:
            spent = report_cost(root, documents)
            first = first or spent
            print(f"  {spent / max(first, 1e-9):4.1f} x the first")


if __name__ == "__main__":
    main()
