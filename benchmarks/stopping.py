"""Measures the time from SIGTERM to the end of a busy daemon: uploads in progress, a scan, parsers at work.

Usage: python benchmarks/stopping.py [TRIALS]     (each starts with nothing mirrored; 100 by default)
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tree import build
from zhipu_rig import KEY, KNOWLEDGE_ID, standin

FILES, FOLDERS = 100_000, 1_000
PAGES, PARAGRAPHS = 64, 20_000
BODIES, BODY = 64, 400_000
LATENCY = "300ms"
MIRRORS = ("tree", "pages", "bodies")
SEED = 7

CONFIG = """
mirrors:
  - {{name: tree, folder: {place}/tree}}
  - {{name: pages, folder: {place}/pages}}
  - name: bodies
    folder: {place}/bodies
    target:
      type: zhipu
      base_url: {url}/api
      api_key: {key}
      knowledge_id: "{base}"
"""


def furnish(folder: Path) -> None:
    """Create a large tree, pages that keep parsers busy, and bodies that take long to send."""
    build(folder / "tree", FILES, FOLDERS)
    for name in ("pages", "bodies"):
        (folder / name).mkdir()
    for number in range(PAGES):
        text = "".join(f"<p>Paragraph {i} of page {number}.</p>" for i in range(PARAGRAPHS))
        (folder / "pages" / f"{number}.html").write_text(f"<html><body>{text}</body></html>")
    for number in range(BODIES):
        (folder / "bodies" / f"{number}.txt").write_text(f"Line of body {number}.\n" * (BODY // 20))


def watched_mirrors(log: Path) -> set[str]:
    """Return the mirrors that are watched, and therefore being scanned."""
    complete = log.read_text().rpartition("\n")[0].splitlines()
    lines = (json.loads(line) for line in complete if line.startswith("{"))
    return {line["mirror"] for line in lines if line["event"] == "watch.started"}


def trial(config: Path, state: Path, wait: float) -> float:
    """Return the seconds from SIGTERM to the end; the signal follows `wait` seconds after everything has
    started.
    """
    command = [sys.executable, "-m", "kbsync", "--log-format", "json"]
    log = state.with_suffix(".log")
    with log.open("wb") as written:
        daemon = subprocess.Popen(
            [*command, "--config", str(config), "--state-dir", str(state)], stderr=written
        )
    while watched_mirrors(log) != set(MIRRORS):
        assert daemon.poll() is None, log.read_text()
        time.sleep(0.05)
    time.sleep(wait)
    began = time.perf_counter()
    daemon.terminate()
    code = daemon.wait()
    seconds = time.perf_counter() - began
    assert code == 0, log.read_text()[-2000:]
    shutil.rmtree(state)
    return seconds


def main() -> None:
    """Print the median, the 99th percentile and the longest."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    chance = random.Random(SEED)
    with (
        tempfile.TemporaryDirectory() as name,
        standin("--latency", LATENCY) as service,
    ):
        folder = Path(name)
        furnish(folder)
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(place=folder, url=service.url, key=KEY, base=KNOWLEDGE_ID))
        times = [trial(config, folder / f"state-{n}", chance.uniform(0.5, 4.0)) for n in range(trials)]
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98]
    print(f"from SIGTERM to the end, {trials} times: p50 {statistics.median(times):.2f} s, ", end="")
    print(f"p99 {p99:.2f} s, longest {max(times):.2f} s   (p99 under 1 s)")


if __name__ == "__main__":
    main()
