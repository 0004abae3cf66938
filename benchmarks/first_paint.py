"""Measures how soon a browser paints the listener's page: `python -m benchmarks.first_paint` (needs
Chromium).

A separate daemon mirrors this project's docs; the browser opens the page `ROUNDS` times without a cache. The
benchmark also prints the total size of the page and its assets.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

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


def until_ready(url: str) -> None:
    """Wait until the first pass is over."""
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("the daemon does not become ready")


def painted(page: Page, url: str) -> float:
    """Return the milliseconds from navigation to the first paint with content."""
    page.open(url)
    page.until(PAINT)
    return float(page.run(PAINT))


def main() -> None:
    """Print both figures."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, port = Path(scratch), free_port()
        config = folder / "kb.yaml"
        config.write_text(CONFIG.format(place=folder, port=port, folder=ROOT / "docs"))
        url = f"http://127.0.0.1:{port}"
        daemon = subprocess.Popen([sys.executable, "-m", "kbsync", "--config", str(config), "--quiet"])
        try:
            until_ready(url)
            with browsing(folder / "profile") as page:
                page.call("Network.setCacheDisabled", cacheDisabled=True)
                times = sorted(painted(page, f"{url}/") for _ in range(ROUNDS))
                weighs = sum(
                    len(httpx.get(one).content) for one in {u for u in page.requested if "/api/" not in u}
                )
        finally:
            daemon.terminate()
            daemon.wait()
    print(f"first paint: p50 {statistics.median(times):.0f} ms, worst {times[-1]:.0f} ms of {ROUNDS}")
    print(f"the page with all its assets: {weighs:,} bytes")


if __name__ == "__main__":
    main()
