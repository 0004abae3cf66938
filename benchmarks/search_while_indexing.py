"""Measures searches on the web page while the daemon indexes a new folder.

Usage: python benchmarks/search_while_indexing.py [--files 10000] [--rounds 1] [--against DIR]

With `--against`, the kbsync in that checkout takes turns with this one, because only figures of one run
compare on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import httpx
from search_speed import Prose

from tests.ports import free_port

ROOT = Path(__file__).parent.parent
SETTLED = 3.0
"""Seconds after which new files are older than the settle time."""

PERIOD = 1.0
"""Seconds from one question to the next."""

CONFIG = """
state_dir: {state}
http: {{listen: 127.0.0.1:{port}}}
mirrors: [{{name: docs, folder: {folder}}}]
"""


@dataclass(frozen=True, slots=True)
class Indexing:
    """One first index: its seconds by the clock and of CPU time, and those of each search meanwhile."""

    seconds: float
    cpu_seconds: float
    searches: list[float]


def cpu_seconds() -> float:
    """Return the CPU time of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def write_prose(folder: Path, count: int) -> None:
    """Write Markdown files of about 4 KB of prose."""
    prose = Prose(1)
    for number in range(count):
        path = folder / f"part{number % 40}" / f"doc{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        sections = [f"## {prose.sentence(2, 6)}\n\n{prose.paragraph()}\n" for _ in range(6)]
        path.write_text("\n".join([f"# Document {number}\n", *sections]))


def questions() -> Iterator[str]:
    """Yield short sentences of the same words."""
    prose = Prose(1)
    while True:
        yield prose.sentence(3, 8)


def index(program: Path, folder: Path, files: int) -> Indexing:
    """Run a daemon of the kbsync in `program` until it has indexed the folder, and search meanwhile."""
    queries, searches = questions(), list[float]()
    with tempfile.TemporaryDirectory() as scratch:
        config, port = Path(scratch, "kb.yaml"), free_port()
        config.write_text(CONFIG.format(state=Path(scratch, "state"), port=port, folder=folder))
        spent, began = cpu_seconds(), time.perf_counter()
        command = [sys.executable, "-m", "kbsync", "--config", str(config), "--quiet"]
        daemon = subprocess.Popen(command, cwd=program)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                ready, due = 0, began
                while ready < files:
                    time.sleep(max(0.0, due - time.perf_counter()))
                    due = max(due + PERIOD, time.perf_counter())
                    try:
                        if ready:
                            query = next(queries)
                            asked_at = time.perf_counter()
                            client.get("/api/search", params={"q": query}).raise_for_status()
                            searches.append(time.perf_counter() - asked_at)
                        ready = client.get("/api/status").json()["mirrors"][0]["documents"]["ready"]
                    except httpx.ConnectError:
                        continue
                seconds = time.perf_counter() - began
        finally:
            daemon.terminate()
            daemon.wait()
    return Indexing(seconds, cpu_seconds() - spent, searches)


def report(name: str, rounds: list[Indexing]) -> None:
    """Print the figures of all rounds of one program."""
    searches = [seconds * 1000 for indexing in rounds for seconds in indexing.searches]
    cuts = quantiles(searches, n=20)
    print(
        f"{name}: search p50 {median(searches):.0f} ms, p95 {cuts[-1]:.0f} ms of {len(searches)};"
        f" first index {median(indexing.seconds for indexing in rounds):.1f} s,"
        f" {median(indexing.cpu_seconds for indexing in rounds):.1f} s of CPU time"
    )


def main() -> None:
    """Measure each program in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    programs = [ROOT, *([options.against] if options.against else [])]
    measured: dict[Path, list[Indexing]] = {program: [] for program in programs}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "docs")
        write_prose(folder, options.files)
        time.sleep(SETTLED)
        for number in range(options.rounds):
            for program in programs if number % 2 == 0 else reversed(programs):
                measured[program].append(index(program, folder, options.files))
                if options.rounds > 1:
                    report(f"  {program}", measured[program][-1:])
    for program, rounds in measured.items():
        report(str(program), rounds)


if __name__ == "__main__":
    main()
