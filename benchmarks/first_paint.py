"""Measures how soon a browser paints the listener's page, and shows the mirrors (needs Chromium).

Usage: PYTHONPATH=. python benchmarks/first_paint.py [FILES]

A separate daemon mirrors `FILES` files, or this project's docs; the browser opens the page `ROUNDS` times
without a cache. The benchmark also prints the total size of the page and its assets.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from first_index import write_files

from tests.ports import free_port
from tests.server.browser import Page, browsing

ROOT = Path(__file__).parent.parent
ROUNDS = 20
CONFIG = """
state_dir: {place}/state
http: {{listen: 127.0.0.1:{port}}}
mirrors: [{{name: docs, folder: {folder}}}]
"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
MIRRORS = """new Promise((found) => {
  const look = () =>
    document.querySelector(".mirror") ? found(performance.now()) : requestAnimationFrame(look);
  look();
})"""


def until_ready(url: str) -> None:
    """Wait until the first pass is over."""
    for _ in range(6000):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("the daemon does not become ready")


def measure_paint(page: Page, url: str) -> tuple[float, float]:
    """Return the milliseconds from navigation to the first paint with content, and to the mirrors."""
    page.open(url)
    mirrors = float(page.run(MIRRORS))
    page.until(PAINT)
    return float(page.run(PAINT)), mirrors


def main() -> None:
    """Print both figures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, port, documents = Path(scratch), free_port(), ROOT / "docs"
        if len(sys.argv) > 1:
            documents = folder / "files"
            write_files(documents, int(sys.argv[1]))
            time.sleep(3)  # older than the settle time
        config = folder / "kb.yaml"
        config.write_text(CONFIG.format(place=folder, port=port, folder=documents))
        url = f"http://127.0.0.1:{port}"
        daemon = subprocess.Popen([sys.executable, "-m", "kbsync", "--config", str(config), "--quiet"])
        try:
            until_ready(url)
            with browsing(folder / "profile") as page:
                page.call("Network.setCacheDisabled", cacheDisabled=True)
                times = [measure_paint(page, f"{url}/") for _ in range(ROUNDS)]
                weighs = sum(
                    len(httpx.get(address).content)
                    for address in {u for u in page.requested if "/api/" not in u}
                )
        finally:
            daemon.terminate()
            daemon.wait()
    for name, values in zip(("first paint", "mirrors"), zip(*times, strict=True), strict=True):
        print(f"{name}: p50 {statistics.median(values):.0f} ms, worst {max(values):.0f} ms of {ROUNDS}")
    print(f"the page with all its assets: {weighs:,} bytes")


if __name__ == "__main__":
    main()
