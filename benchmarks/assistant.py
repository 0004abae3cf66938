"""Measures `kbsync mcp` from an assistant's view: from a cold start to the first answers, then warm searches.

Usage: python benchmarks/assistant.py [FILES [SEARCHES]]
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from first_index import WORDS, write_files
from mcp import Client, StdioServerParameters, stdio_client

SETTLED = 3.0
"""Seconds after which new files are older than the settle time, as a user's are."""


def child() -> str:
    """Return the id of the child process (proc(5))."""
    [process] = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    return process


def cpu_seconds(process: str) -> float:
    """Return a process's CPU time, which is more reliable than wall time on a busy machine (proc(5))."""
    fields = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(folder: Path, state: Path, files: int, searches: int) -> None:
    """Print every figure."""
    words = ["-m", "kbsync", "mcp", "--folder", str(folder), "--state-dir", str(state), "--quiet"]
    command = StdioServerParameters(command=sys.executable, args=words)
    began = time.perf_counter()
    async with Client(stdio_client(command)) as client:

        async def search(question: str) -> int:
            result = await client.call_tool("search", {"query": question, "k": 5})
            return len(result.structured_content["hits"])

        hits = await search("quarantine")
        print(f"first answer, process start included: {time.perf_counter() - began:.2f} s")
        while not hits:
            await asyncio.sleep(0.05)
            hits = await search("quarantine")
        print(f"first hit: {time.perf_counter() - began:.2f} s")
        while True:
            status = await client.call_tool("status", {"wait": 50})
            if status.structured_content["mirrors"][0]["documents"]["ready"] == files:
                break
        print(f"all of {files:,} files searchable: {time.perf_counter() - began:.2f} s")

        chance, times = random.Random(3), list[float]()
        server = child()
        spent = cpu_seconds(server), time.process_time()
        for _ in range(searches + 20):
            question = " ".join(chance.sample(WORDS, 4))
            started = time.perf_counter()
            await search(question)
            times.append(time.perf_counter() - started)
        cuts = quantiles(times[20:], n=100)  # without the first ones, which load the model
        print(f"{searches} searches, warm: p50 {cuts[49] * 1000:.1f} ms, p95 {cuts[94] * 1000:.1f} ms")
        of_server, of_client = cpu_seconds(server) - spent[0], time.process_time() - spent[1]
        factor = 1000 / len(times)
        print(
            f"CPU time for each: {of_server * factor:.1f} ms, and {of_client * factor:.1f} ms of the client"
        )
        started = time.perf_counter()
    print(f"end with its client: {time.perf_counter() - started:.2f} s")


def main() -> None:
    """Write the files and measure."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    searches = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "docs")
        write_files(folder, files)
        time.sleep(SETTLED)
        asyncio.run(measure(folder, Path(scratch, "state"), files, searches))


if __name__ == "__main__":
    main()
