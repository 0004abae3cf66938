"""Measures `/metrics` and `kbsync status` with very many documents: `python benchmarks/monitoring.py`.

SQL creates the rows: `DOCUMENTS` files in directories of a thousand, nearly all ready, a few in every other
state. `/metrics` is measured in the listener's application without a network; `status` is measured as a
process, and without the time to load the program.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apsw
import httpx

from kbsync.cli.context import choose
from kbsync.cli.options import Choices
from kbsync.cli.report import mirror_reports
from kbsync.config.model import Config, HttpConfig, MirrorConfig
from kbsync.installation import Installation
from kbsync.server.listener import HttpListener
from kbsync.state.store import StateStore

DOCUMENTS = int(os.environ.get("DOCUMENTS", "1000000"))
ROUNDS = 30

ROWS = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :documents / 1000)
INSERT INTO folder(mirror, parent, path, name) SELECT 1, NULL, 'd' || i, 'd' || i FROM n;
"""
FILES = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :documents - 1)
INSERT INTO entry(folder, name, size, mtime_ns, ctime_ns, ino, digest, choice, status, since)
SELECT f.id, 'f' || (i % 1000) || '.md', 1000, i, i, i, randomblob(32), 0,
  CASE i % 1000 WHEN 1 THEN 1 WHEN 2 THEN 2 WHEN 3 THEN 3 WHEN 4 THEN 4 WHEN 5 THEN 5 ELSE 0 END, 1.7e9 + i
FROM n JOIN folder f ON f.mirror = 1 AND f.path = 'd' || (i / 1000);
"""


def fill(state: Path, folder: Path) -> None:
    """Create the state of one mirror with `DOCUMENTS` files."""
    store = StateStore(state)
    store.submit(lambda tx: tx.mirrors.add("big", str(folder), "local")).result()
    store.close()
    database = apsw.Connection(str(state))
    with database:
        for script in (ROWS, FILES):
            database.execute(script, {"documents": DOCUMENTS})
    database.close()


async def metrics(state: Path, folder: Path) -> list[float]:
    """Return the seconds of each request."""
    config = Config(mirrors=(MirrorConfig("big", folder),))
    listening = HttpListener(Installation(config, state.parent), {})
    app = listening._make_app(HttpConfig("127.0.0.1:1"))
    seconds = []
    transport = httpx.ASGITransport(app.access)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            response = await client.get("/metrics")
            seconds.append(time.perf_counter() - began)
            assert f'state="ready"}} {DOCUMENTS * 995 // 1000}.0' in response.text, response.text
    app.state_reader.close()
    return seconds


def status(config: Path) -> list[float]:
    """Return the seconds of each process."""
    seconds = []
    for _ in range(ROUNDS // 3):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "kbsync", "status", "--json", "--config", str(config)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - began)
    return seconds


def reports(config: Path) -> list[float]:
    """Return the seconds that `status` needs for its reports once the program is loaded."""
    installation = choose(Choices(config=config))
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        mirror_reports(installation)
        seconds.append(time.perf_counter() - began)
    return seconds


def print_times(label: str, seconds: list[float]) -> None:
    """Print the best, median and worst time in milliseconds."""
    best, middle, worst = (1000 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    print(f"{label:32} best {best:7.1f} ms, median {middle:7.1f} ms, worst {worst:7.1f} ms")


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="kbsync-monitoring-") as scratch:
        root = Path(scratch)
        folder, state = root / "docs", root / "state"
        folder.mkdir()
        state.mkdir(mode=0o700)
        config = root / "kbsync.yaml"
        config.write_text(f"state_dir: {state}\nmirrors: [{{name: big, folder: {folder}}}]\n")
        fill(state / "state.db", folder)
        print(f"{DOCUMENTS:,} documents, load {os.getloadavg()[0]:.1f}")
        print_times("/metrics", asyncio.run(metrics(state / "state.db", folder)))
        print_times("kbsync status, once loaded", reports(config))
        print_times("kbsync status --json, a process", status(config))


if __name__ == "__main__":
    main()
