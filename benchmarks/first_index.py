"""Compares a first index of many Markdown files with a bare loop of decode, chunk and embed over the same
files.

Usage: python benchmarks/first_index.py [FILES]
"""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from kbsync import logs, once
from kbsync.config.model import folder_config
from kbsync.installation import Installation

WORDS = tuple(
    """mirror folder document target recipe digest settle reconcile adopt retire hold quarantine index search
    passage heading vector token chunk query score answer question server client network state
    journal""".split()  # noqa: SIM905
)


def write_files(folder: Path, count: int) -> None:
    """Write Markdown files of about 4 KB with headings, a list and a code block, all different."""
    chance = random.Random(1)
    for number in range(count):
        lines = [f"# Document {number}", ""]
        for section in range(6):
            lines += [f"## Section {section} of {chance.choice(WORDS)}", ""]
            for _ in range(2):
                sentence = " ".join(chance.choice(WORDS) for _ in range(45))
                lines += [f"{sentence} {number}-{section}.", ""]
        path = folder / f"part{number % 40}" / f"doc{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))


def bare_loop(folder: Path) -> tuple[float, float]:
    """Return the seconds and the CPU seconds to load the model and to decode, chunk and embed every file,
    storing nothing."""
    from kbsync.index.chunk import chunk
    from kbsync.index.embed import BuiltinEmbedder
    from kbsync.index.read.text import parse_text

    began, cpu_before = time.perf_counter(), time.process_time()
    embedder = BuiltinEmbedder()
    for path in sorted(folder.rglob("*.md")):
        parsed = parse_text(path.name, path.read_bytes())
        embedder.embed([c.embed_text for c in chunk(parsed)])
    return time.perf_counter() - began, time.process_time() - cpu_before


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and its ended child processes."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def whole_program(folder: Path, state: Path) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a first pass with all of kbsync's safeguards."""
    state.mkdir()
    installation = Installation(folder_config(folder), state)
    began, cpu_before = time.perf_counter(), cpu_seconds()
    end = asyncio.run(once.once(installation))
    seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu_before
    assert all(e.complete for e in end.ends.values())
    return seconds, cpu


def main() -> None:
    """Print the rates and their ratio."""
    logging.disable()
    logs.configure(style="json", level="error")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "docs"
        write_files(folder, count)
        time.sleep(2.1)  # older than the settle time, as most documents are
        bare_loop(folder / "part0")  # so that imports don't count
        bare, bare_cpu = bare_loop(folder)
        program, program_cpu = whole_program(folder, Path(scratch) / "state")
    print(f"bare loop      {count / bare:8.0f} files/s, {bare_cpu / count * 1e3:.2f} ms CPU each")
    print(f"first pass     {count / program:8.0f} files/s, {program_cpu / count * 1e3:.2f} ms CPU each")
    print(f"ratio          {bare / program:8.2f}   (at least 0.6)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory    {peak:8.0f} MiB, of this process")


if __name__ == "__main__":
    main()
