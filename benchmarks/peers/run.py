"""Compares kbsync with CocoIndex, LangChain's index() and rclone: the same folder, the same model, the same
steps.

python benchmarks/peers/run.py [--files 2000] [--rounds 5] [--questions FOLDER]            (or make peers)

Each tool has its own environment below ~/.cache/kbsync-peers (or $KBSYNC_PEERS_DIR); a tool that can't be
installed is reported and left out. Each step is a process. Each round begins with another tool. --questions
(or KBSYNC_XQUAD) is the folder of XQuAD: see benchmarks/xquad.py. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from first_index import write_files
from mcp import Client, StdioServerParameters, stdio_client
from xquad import LANGUAGES, paragraphs

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
ENVIRONMENTS = Path(os.environ.get("KBSYNC_PEERS_DIR", Path.home() / ".cache/kbsync-peers"))

SETTLE_SECONDS = 2.1
"""Seconds without a change after which kbsync sends a file."""

UNIQUE_WORD = "zugzwangerous"
"""A word that only the file to be deleted has."""


@dataclass(frozen=True)
class Cost:
    """The time that a process took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, including its children's."""


QUIET = {**os.environ, "COCOINDEX_DISABLE_USAGE_TRACKING": "1"}


def run(command: Sequence[str | Path], kill_after: float | None = None) -> Cost:
    """Run a process to its end, or kill it with all its children after some seconds."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=QUIET, start_new_session=True, cwd=ENVIRONMENTS
        )
        if kill_after is not None:
            time.sleep(kill_after)
            os.killpg(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        if status and kill_after is None:
            output.seek(0)
            sys.exit(f"{command} ended with {status}:\n{output.read().decode()}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


class Peer(ABC):
    """A tool that keeps a base up to date with a folder."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """Return the tool's version."""

    @abstractmethod
    def update(self, folder: Path, base: Path) -> Sequence[str | Path]:
        """Return the command that brings `base` up to date."""

    def count(self, folder: Path, base: Path) -> Mapping[str, int] | None:
        """Return the number of passages of each file, or None if the tool has none."""
        return None

    def ask(self, folder: Path, base: Path, questions: Sequence[str]) -> Sequence[str] | None:
        """Return the path of the best hit for each question, or None if the tool answers none."""
        return None


_CHUNKS_OF_EACH = """
SELECT path, sum(chunks) FROM document JOIN run ON run.document = document.id GROUP BY document.id
"""


class Kbsync(Peer):
    """This checkout, in the environment that runs this program."""

    name = "kbsync"

    def version(self) -> str:
        """Return the installed package's version."""
        return subprocess.check_output([sys.executable, "-m", "kbsync", "--version"], text=True).split()[1]

    def update(self, folder: Path, base: Path) -> Sequence[str | Path]:
        """Return the command for one pass."""
        return [sys.executable, "-m", "kbsync", "--once", "-q", "--folder", folder, "--state-dir", base]

    def count(self, folder: Path, base: Path) -> Mapping[str, int]:
        """Read the counts from its base."""
        [database] = base.glob("kb/*/index.db")
        with closing(sqlite3.connect(database)) as connection:
            return dict(connection.execute(_CHUNKS_OF_EACH))

    def ask(self, folder: Path, base: Path, questions: Sequence[str]) -> Sequence[str]:
        """Ask its MCP server."""
        words = ["-m", "kbsync", "mcp", "--folder", str(folder), "--state-dir", str(base), "--quiet"]

        async def search() -> list[str]:
            best = []
            async with Client(
                stdio_client(StdioServerParameters(command=sys.executable, args=words))
            ) as client:
                for question in questions:
                    reply = await client.call_tool("search", {"query": question, "k": 1})
                    hits = reply.structured_content["hits"]
                    best.append(hits[0]["path"] if hits else "")
            return best

        return asyncio.run(search())


class Program(Peer):
    """A library, used by this folder's program of the same name."""

    def __init__(self, name: str, package: str) -> None:
        """Start with the program's name; `package` provides the version."""
        self.name = name
        self._package = package
        self._program = HERE / f"{package.partition('-')[0]}_peer.py"
        self._python = environment(HERE / f"{package.partition('-')[0]}.txt")

    def version(self) -> str:
        """Return the installed package's version."""
        code = f"import importlib.metadata as m; print(m.version('{self._package}'))"
        return subprocess.check_output([self._python, "-c", code], text=True).strip()

    def update(self, folder: Path, base: Path) -> Sequence[str | Path]:
        """Return the command that runs the program."""
        return [self._python, self._program, "index", folder, base]

    def count(self, folder: Path, base: Path) -> Mapping[str, int]:
        """Return the program's counts."""
        counts: Mapping[str, int] = json.loads(self._call("count", folder, base))
        return counts

    def ask(self, folder: Path, base: Path, questions: Sequence[str]) -> Sequence[str]:
        """Return the program's hits."""
        return self._call("ask", folder, base, json.dumps(questions)).splitlines()

    def _call(self, command: str, folder: Path, base: Path, stdin: str = "") -> str:
        return subprocess.run(
            [self._python, self._program, command, folder, base],
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            env=QUIET,
        ).stdout


class Rclone(Peer):
    """Debian's rclone. It only copies files, so it shows the cost of comparing alone."""

    name = "rclone (copies only)"

    def __init__(self) -> None:
        """Find rclone, or unpack Debian's package."""
        installed = shutil.which("rclone")
        self._binary = Path(installed) if installed else ENVIRONMENTS / "rclone/usr/bin/rclone"
        if not self._binary.exists():
            with tempfile.TemporaryDirectory() as scratch:
                subprocess.run(
                    ["apt-get", "download", "rclone"], cwd=scratch, check=True, capture_output=True
                )
                [package] = Path(scratch).iterdir()
                subprocess.run(["dpkg-deb", "-x", package, ENVIRONMENTS / "rclone"], check=True)

    def version(self) -> str:
        """Return rclone's version."""
        return subprocess.check_output([self._binary, "version"], text=True).split()[1].lstrip("v")

    def update(self, folder: Path, base: Path) -> Sequence[str | Path]:
        """Return the command that copies changed files."""
        return [self._binary, "sync", folder, base]


def environment(requirements: Path) -> Path:
    """Create an environment with these packages and kbsync unless it exists; return its Python."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = ENVIRONMENTS / f"{requirements.stem}-{digest}"
    python = folder / "bin/python"
    if not (folder / "complete").exists():
        print(f"installing {requirements.stem} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "-r", requirements], check=True, capture_output=True
        )
        (folder / "complete").touch()
    # kbsync's own code reads the model, so install this checkout.
    subprocess.run([python, "-m", "pip", "install", "-q", CHECKOUT], check=True, capture_output=True)
    return python


@dataclass
class Result:
    """All measurements of a tool."""

    first: list[Cost] = field(default_factory=list)
    unchanged: list[Cost] = field(default_factory=list)
    changed: list[Cost] = field(default_factory=list)
    passages: float | None = None
    megabytes: float = 0.0
    has_deleted_text: bool = False
    """Whether the base's files still have a word of a deleted file."""
    killed: list[tuple[int, int]] = field(default_factory=list)
    """Files that are missing and files with other passages, after kill -9 during a first index and an
    update.
    """


def files_in(base: Path) -> list[Path]:
    """Return the current files of a base."""
    return [path for path in base.rglob("*") if path.is_file()]


def measure(peer: Peer, folder: Path, base: Path, result: Result) -> None:
    """Measure one round of one tool."""
    base.mkdir()
    result.first.append(run(peer.update(folder, base)))
    passage_counts = peer.count(folder, base)
    if passage_counts is not None:
        result.passages = sum(passage_counts.values()) / len(passage_counts)
    result.megabytes = sum(file.stat().st_blocks for file in files_in(base)) * 512 / 1e6
    result.unchanged.append(run(peer.update(folder, base)))
    edited, deleted = folder / "part0/doc0.md", folder / "part1/doc1.md"
    texts = {path: path.read_text() for path in (edited, deleted)}
    edited.write_text(texts[edited] + "\nOne more line.\n")
    deleted.unlink()
    time.sleep(SETTLE_SECONDS)
    result.changed.append(run(peer.update(folder, base)))
    result.has_deleted_text = any(UNIQUE_WORD.encode() in file.read_bytes() for file in files_in(base))
    for path, text in texts.items():
        path.write_text(text)
    time.sleep(SETTLE_SECONDS)
    if passage_counts is not None:
        result.killed.append(
            recover_from_kill(
                peer, folder, base.with_suffix(".killed"), passage_counts, result.first[-1].wall
            )
        )


def recover_from_kill(
    peer: Peer, folder: Path, base: Path, complete: Mapping[str, int], seconds: float
) -> tuple[int, int]:
    """Kill a first index half-way and update; count the missing files and those with other passages."""
    base.mkdir()
    run(peer.update(folder, base), kill_after=seconds * 0.6)
    run(peer.update(folder, base))
    after = peer.count(folder, base) or {}
    return len(complete.keys() - after.keys()), sum(complete[path] != count for path, count in after.items())


def first_hits(peer: Peer, questions: Path, scratch: Path) -> dict[str, float] | None:
    """Return for each language the share of XQuAD's questions whose paragraph is the first hit."""
    folder, base = scratch / "xquad", scratch / f"xquad.{peer.name.split()[0]}"
    base.mkdir()
    texts = {language: paragraphs(questions, language) for language in LANGUAGES}
    for paragraph in (paragraph for language in LANGUAGES for paragraph in texts[language]):
        path = folder / paragraph.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(paragraph.text)
    time.sleep(SETTLE_SECONDS)
    run(peer.update(folder, base))
    shares = {}
    for language in LANGUAGES:
        pairs = [
            (question, paragraph.path) for paragraph in texts[language] for question in paragraph.questions
        ]
        best = peer.ask(folder, base, [question for question, _ in pairs])
        if best is None:
            return None
        shares[language] = sum(a == path for a, (_, path) in zip(best, pairs, strict=True)) / len(pairs)
    return shares


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format median and range."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(peers: Sequence[Peer], results: Mapping[str, Result], files: int) -> list[list[str]]:
    """Return the rows; the first is the head."""
    every = {peer.name: results[peer.name] for peer in peers}

    def row(title: str, cell: Callable[[Result], str]) -> list[str]:
        return [title, *map(cell, every.values())]

    def times(title: str, costs: Callable[[Result], list[Cost]]) -> Iterator[list[str]]:
        yield row(f"{title}, seconds", lambda result: spread([cost.wall for cost in costs(result)]))
        yield row(f"{title}, CPU seconds", lambda result: spread([cost.cpu for cost in costs(result)]))

    def killed(peer: Result) -> str:
        return "; ".join(str(max(counts)) for counts in zip(*peer.killed, strict=True)) or "–"

    return [
        ["", *(f"{peer.name} {peer.version()}" for peer in peers)],
        *times("first index", lambda result: result.first),
        row("files per second", lambda result: f"{files / median(cost.wall for cost in result.first):.0f}"),
        row("passages per file", lambda result: f"{result.passages:.1f}" if result.passages else "–"),
        row("size of the base, MB", lambda result: f"{result.megabytes:.1f}"),
        *times("update without changes", lambda result: result.unchanged),
        *times("update after an edit and a deletion", lambda result: result.changed),
        row("deleted text in the base's files", lambda result: "yes" if result.has_deleted_text else "no"),
        row("after kill -9 and an update: files missing; files with other passages", killed),
    ]


def available() -> list[Peer]:
    """Return every tool that this machine can run."""
    peers: list[Peer] = [Kbsync()]
    for name, make in {
        "CocoIndex": lambda: Program("CocoIndex", "cocoindex"),
        "LangChain": lambda: Program("LangChain index()", "langchain-core"),
        "rclone": Rclone,
    }.items():
        try:
            peers.append(make())
        except (subprocess.CalledProcessError, OSError, ValueError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return peers


def main() -> None:
    """Print a table in Markdown."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--files", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--questions", type=Path, default=os.environ.get("KBSYNC_XQUAD"))
    options = arguments.parse_args()
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    peers = available()
    results = {peer.name: Result() for peer in peers}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        folder = scratch / "docs"
        write_files(folder, options.files)
        with (folder / "part1/doc1.md").open("a") as file:
            file.write(f"\n{UNIQUE_WORD}\n")
        time.sleep(SETTLE_SECONDS)
        for number in range(options.rounds):
            for turn in range(len(peers)):
                peer = peers[(number + turn) % len(peers)]
                base = scratch / f"{peer.name.split()[0]}.{number}"
                measure(peer, folder, base, results[peer.name])
                shutil.rmtree(base)
                shutil.rmtree(base.with_suffix(".killed"), ignore_errors=True)
        rows = table(peers, results, options.files)
        if options.questions:
            shares = {peer.name: first_hits(peer, options.questions, scratch) for peer in peers}
            for language in LANGUAGES:
                cells = [f"{s[language]:.3f}" if (s := shares[peer.name]) else "–" for peer in peers]
                rows.append([f"XQuAD {language}: right first hit", *cells])
    rows.insert(1, ["---"] * len(rows[0]))
    for cells in rows:
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
