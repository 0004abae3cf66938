"""Measures how soon each piece of an answer to `kbsync ask` reaches the terminal, above all the first.

Usage: python benchmarks/ask.py [QUESTIONS]

The stand-in and kbsync are separate processes. A relay between them notes when it passes on an event;
kbsync's stdout is first a pseudo-terminal, then a pipe. The stand-in pauses between two events to keep the
pieces apart. First an application answers, then a model that gets passages.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

from zhipu_rig import Mirror, standin

QUESTIONS = 15
MAX_MS = 50.0
EVERY = '{"kind": "stream", "op": "%s", "times": 0, "args": {"every": 0.1}}'
WAYS = {"application": (), "model": ("--model", "glm-4-flash")}
TEXT = "The office opens at nine in the morning.\n"
SETTLED = 2.1
"""Seconds after which files are older than the settle time."""


class Relay:
    """Passes bytes on in both directions; `arrivals` are the times of events."""

    def __init__(self, url: str) -> None:
        self.arrivals: list[float] = []
        self._aim = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._pass_on, "127.0.0.1", 0))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address to send questions to."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Stop accepting connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection(self._aim.hostname, self._aim.port)
        await asyncio.gather(_pump(reader, to_them, _ignore), _pump(theirs, writer, self._note))

    def _note(self, content: bytes) -> None:
        if b"data:" in content:
            self.arrivals.append(time.perf_counter())


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]
) -> None:
    while content := await reader.read(65536):
        note(content)
        writer.write(content)
    writer.close()


def _ignore(_content: bytes) -> None:
    pass


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal: the end to read and the end to write."""
    ours, theirs = os.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Open a pipe: the end to read and the end to write."""
    ours, theirs = os.pipe()
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def output_times(command: list[str], ours: int, theirs: int) -> list[float]:
    """Return the times of a process's output, until it ends."""
    moments = list[float]()
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    while _read(ours):
        moments.append(time.perf_counter())
    assert process.wait() == 0
    return moments


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # a terminal whose other end is closed
        return b""


def measure(label: str, command: list[str], relay: Relay, count: int, *, is_terminal: bool) -> None:
    """Print the milliseconds from arrival to output, for the first piece and for the others."""
    firsts, others = list[float](), list[float]()
    for _ in range(count):
        relay.arrivals.clear()
        with terminal() if is_terminal else pipe() as (ours, theirs):
            moments = output_times(command, ours, theirs)
        lags = [1000 * (shown_at - came) for came, shown_at in zip(relay.arrivals, moments, strict=False)]
        assert len(lags) > 3, "the pieces did not come one by one"
        firsts.append(lags[0])
        others += lags[1:-1]
    where = "terminal" if is_terminal else "pipe"
    worst = quantiles(firsts, n=20)[-1]
    print(f"{label:11} {where:8} first piece: p50 {median(firsts):5.1f} ms, p95 {worst:5.1f} ms", end=" ")
    print(f"(under {MAX_MS:.0f}); the others: p50 {median(others):4.1f} ms")


def asking(folder: Path, url: str) -> list[str]:
    """Mirror a folder, create an application, and return the command that asks it."""
    mirror = Mirror(folder)
    mirror.folder.mkdir()
    (mirror.folder / "hours.md").write_text(TEXT)
    mirror.aim(url, 4)
    time.sleep(SETTLED)
    mirror.state.mkdir()
    mirror.once()
    program = [sys.executable, "-m", "kbsync"]
    aim = ["--config", str(mirror.config), "--state-dir", str(mirror.state)]
    subprocess.run([*program, "kb", "app", "create", "office", *aim], check=True, capture_output=True)
    return [*program, "ask", "when does the office open", *aim]


def main() -> None:
    """Measure repeatedly and print the results."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else QUESTIONS
    with (
        tempfile.TemporaryDirectory() as folder,
        standin("--fault", EVERY % "sse-invoke", "--fault", EVERY % "chat") as service,
        closing(Relay(service.url)) as relay,
    ):
        command = asking(Path(folder), relay.url)
        print(f"load {os.getloadavg()[0]:.1f}; {count} questions each")
        for what, words in WAYS.items():
            for is_terminal in (True, False):
                measure(what, [*command, *words], relay, count, is_terminal=is_terminal)


if __name__ == "__main__":
    main()
