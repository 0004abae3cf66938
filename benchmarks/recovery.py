"""Measures a start after kill -9 with 100,000 documents in the state and 1,000 jobs in progress.

Usage: python benchmarks/recovery.py [FILES]     (three minutes; the file system must keep access times)

The state holds the rows of a killed mirror: 200 jobs each in the states intended, sending, unsure, indexing
and retiring; every other job that was sending or unsure had reached the stand-in. The benchmark measures a
daemon, which is killed again at once, and a pass that continues from there (each a separate process): the
time from the start to the first request and to the first request about a job; for the pass also the numbers
of files read and of list requests. For comparison it times the bare interpreter and `kbsync --version`, which
show how busy the machine is. Bytecode is compiled before, as in any installation.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tree import build
from zhipu_rig import KEY, Mirror, _watched

from kbsync import logs, once
from kbsync.config.reader import load
from kbsync.core.model import SELECTED, FileKind, Presence, Purpose, Status, Upload, UploadState
from kbsync.engine.settings import Binding
from kbsync.installation import Installation
from kbsync.once import open_state
from kbsync.source.scan import FolderListing, Scan, StoredTree
from kbsync.state.files import FileRow, join
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore
from kbsync_standin.server import Server
from kbsync_standin.zhipu import application
from kbsync_standin.zhipu.app import ZhipuApplication

FILES = 100_000
EACH = 200
OPEN = (
    UploadState.INTENDED,
    UploadState.SENDING,
    UploadState.UNSURE,
    UploadState.INDEXING,
    UploadState.RETIRING,
)
WITHIN = 2.0
"""Seconds from the start of the process to its first useful request."""

MAX_MIB = 200.0
LISTS = 10
"""The most list requests: five or six to find unsure uploads, the rest for documents being indexed."""

MODULES = "import kbsync.cli.main, kbsync.daemon, kbsync.targets.zhipu.target"


@dataclass(slots=True)
class Filler:
    """Creates the rows of one mirror and its documents in the base."""

    binding: Binding
    app: ZhipuApplication
    numbers: Iterator[int]

    def listing(self, tx: Tx, listing: FolderListing) -> None:
        """Add one directory: its files and their uploads."""
        tx.folders.record_listing(self.binding.mirror, listing.path, listing.version, listing.is_mount)
        for file in listing.changed:
            if file.kind is FileKind.FILE:
                self.file(tx, join(listing.path, file.name), file.stamp)

    def file(self, tx: Tx, path: str, stamp: Any) -> None:
        """Add a file; the first files have jobs in progress, all others are ready."""
        content = unnoticed(self.binding.settings.root / path)
        digest, number = hashlib.sha256(content).hexdigest(), next(self.numbers)
        state = OPEN[number // EACH] if number < EACH * len(OPEN) else UploadState.SERVING
        is_ready = state in (UploadState.SERVING, UploadState.RETIRING)
        status = Status.READY if is_ready else Status.PENDING
        tx.entries.put(
            self.binding.mirror, FileRow(path, stamp, digest, SELECTED, True, Presence.PRESENT, status, 0.0)
        )
        if state is UploadState.RETIRING:
            self.add(tx, path, digest, content, UploadState.SERVING, arrived=True)
            old = b"older " + content
            self.add(tx, path, hashlib.sha256(old).hexdigest(), old, state, arrived=True)
        else:
            self.add(tx, path, digest, content, state, arrived=has_arrived(state, number))

    def add(
        self, tx: Tx, path: str, digest: str, content: bytes, state: UploadState, *, arrived: bool
    ) -> None:
        """Add one upload, with its document if it arrived."""
        binding, now = self.binding, time.time()
        name = binding.naming.name(path, digest)
        remote = self.document(name, content) if arrived else None
        remote_id = remote if state not in (UploadState.SENDING, UploadState.UNSURE) else None
        row = Upload(
            id=0,
            mirror=binding.mirror,
            binding=binding.id,
            path=path,
            label=path,
            name=name,
            digest=digest,
            size=len(content),
            recipe=binding.recipe(path),
            state=state,
            remote_id=remote_id,
            created_at=now,
        )
        tx.uploads.add(row if state is UploadState.SERVING else under_way(row, now))

    def document(self, name: str, content: bytes) -> str:
        """Return a document at the base."""
        text = content.decode()
        return str(self.app.put_foreign({"name": name, "text": text})["id"])


def unnoticed(path: Path) -> bytes:
    """Read the content without changing the access time."""
    opened = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        return os.read(opened, 1_000_000)
    finally:
        os.close(opened)


def has_arrived(state: UploadState, number: int) -> bool:
    """Return whether the base has a document for this upload."""
    if state in (UploadState.SENDING, UploadState.UNSURE):
        return number % 2 == 0
    return state is not UploadState.INTENDED


def under_way(row: Upload, now: float) -> Upload:
    """Return the journal's upload at the time of the kill."""
    began = replace(row, due_at=now, attempts=1, sent_at=now - 1)
    match row.state:
        case UploadState.INTENDED:
            return replace(row, due_at=now)
        case UploadState.INDEXING:
            return replace(began, accepted_at=now)
        case UploadState.RETIRING:
            return replace(began, attempts=0, purpose=Purpose.RETIRE)
        case _:
            return began


def fill(installation: Installation, app: ZhipuApplication) -> None:
    """Fill the state and the base as they are at the kill."""
    with open_state(installation, print) as (_, store):
        run = once.make_mirror(installation, installation.mirrors[0], store)
        binding = asyncio.run(bound(run))
        filler = Filler(binding, app, itertools.count())
        every = Scan(binding.settings.root, StoredTree(store.read_now, binding.mirror), binding.rules)
        for page in iter(lambda: list(itertools.islice(every, 20)), []):
            record(store, filler, page)
        store.submit(lambda tx: tx.mirrors.pass_ended(binding.mirror, time.time(), True)).result()


def record(store: StateStore, filler: Filler, listings: list[FolderListing]) -> None:
    """Record some directories in one transaction."""

    def work(tx: Tx) -> None:
        for listing in listings:
            filler.listing(tx, listing)

    store.submit(work).result()


async def bound(run: Any) -> Binding:
    """Bind the mirror to its (empty) base."""
    async with run.bind() as mirror:
        assert mirror is not None, run.halt or run.halts.trouble
        binding: Binding = mirror.journal.binding
        return binding


@dataclass(slots=True)
class Watch:
    """The seconds until the server's first request, and until its first request about a job."""

    server: Server
    began: float = 0.0
    first: float = 0.0
    useful: float = 0.0

    def poll(self) -> None:
        """Update both times until they are known."""
        while not self.useful:
            counts = dict(self.server.requests.by_op)
            now = time.perf_counter() - self.began
            self.first = self.first or (now if counts else 0.0)
            if counts.keys() - {"base", "capacity"}:
                self.useful = now
            time.sleep(0.002)


def age_access_times(folder: Path) -> None:
    """Set old access times, so that a read changes them."""
    for path in folder.rglob("*.md"):
        os.utime(path, ns=(0, path.stat().st_mtime_ns))


def were_read(folder: Path) -> int:
    """Return how many files were read since."""
    return sum(path.stat().st_atime_ns != 0 for path in folder.rglob("*.md"))


def keeps_access_times(folder: Path) -> bool:
    """Return whether a read changes the access time at all."""
    probe = folder / "probe"
    probe.write_text("x")
    os.utime(probe, ns=(0, probe.stat().st_mtime_ns))
    probe.read_text()
    return probe.stat().st_atime_ns != 0


def environment() -> dict[str, str]:
    """Return our environment, but with compiled modules kept between starts."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def kbsync(mirror: Mirror, *arguments: str) -> subprocess.Popen[bytes]:
    """Start kbsync on the mirror as a separate process."""
    command = [sys.executable, "-m", "kbsync", "-q", "--config", str(mirror.config), *arguments]
    return subprocess.Popen(
        [*command, "--state-dir", str(mirror.state)], stdout=subprocess.PIPE, env=environment()
    )


def cpu_seconds(pid: int) -> float:
    """Return a process's user and system time (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(label: str, work: Callable[[], Any]) -> None:
    """Do the work and print how long it took."""
    began = time.perf_counter()
    work()
    print(f"  {label:32}{time.perf_counter() - began:7.1f} s", flush=True)


def compare() -> None:
    """Print how long a process without work takes on this machine."""
    load = os.getloadavg()[0]
    subprocess.run([sys.executable, "-c", MODULES], check=True, env=environment())
    for what, arguments in {
        "python -c pass": ["-c", "pass"],
        "--version": ["-m", "kbsync", "--version"],
    }.items():
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, env=environment(), stdout=subprocess.DEVNULL)
        print(f"  {what:24}{time.perf_counter() - began:6.2f} s   (load {load:.1f})")


def first_request(
    label: str, mirror: Mirror, server: Server, *arguments: str
) -> tuple[subprocess.Popen[bytes], Watch]:
    """Start the program, wait for its first request about a job, and print the times."""
    while server.requests.in_flight:  # requests of the killed process
        time.sleep(0.1)
    time.sleep(1.0)
    server.requests.clear()
    watch = Watch(server, time.perf_counter())
    process = kbsync(mirror, *arguments)
    watch.poll()
    cpu = cpu_seconds(process.pid)
    print(
        f"  {label:24}{watch.useful:6.2f} s to the first request about a job (at most {WITHIN:.0f} s), ",
        end="",
    )
    print(f"{watch.first:.2f} s to any; {cpu:.2f} s of CPU", flush=True)
    return process, watch


def kill_daemon(mirror: Mirror, server: Server) -> Watch:
    """Start a daemon and kill it as soon as it works."""
    process, watch = first_request("daemon", mirror, server)
    process.kill()
    process.wait()
    return watch


def measure(mirror: Mirror, server: Server, files: int) -> None:
    """Continue after the kill; print and check the results."""
    compare()
    daemon_watch = kill_daemon(mirror, server)
    process, watch = first_request("--once", mirror, server, "--once", "--json")
    peak, usage = _watched(process)
    seconds = time.perf_counter() - watch.began
    read, counts = were_read(mirror.folder), dict(server.requests.by_op)
    pages = -(-files // 100) + 4
    print(f"  everything settled      {seconds:6.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of CPU")
    print(f"  files read              {read:6,}     (jobs that are sent; not {files:,})")
    print(f"  peak                    {peak:6.0f} MiB (at most {MAX_MIB:.0f} MiB)")
    print(f"  requests                {counts}; the list has {pages:,} pages")
    assert process.returncode == 0, process.stdout.read() if process.stdout else b""
    assert counts.get("upload", 0) <= 2 * EACH, "only what had not arrived is sent"
    assert counts.get("list", 0) <= LISTS * pages, "one list serves all"
    assert read <= 3 * EACH
    assert peak <= MAX_MIB
    assert max(watch.useful, daemon_watch.useful) <= WITHIN


def main() -> None:
    """Fill the state, kill, and measure."""
    logs.configure(style="json", level="error")
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    with tempfile.TemporaryDirectory() as scratch:
        mirror = Mirror(Path(scratch))
        app = application(KEY, 7, (0.0, 0.0))
        server = Server(app)
        mirror.state.mkdir()
        assert keeps_access_times(Path(scratch))
        with server.in_thread():
            mirror.aim(server.url, 4)
            print(f"recovery, {files:,} documents, {EACH * len(OPEN):,} jobs under way")
            timed("the folder", lambda: build(mirror.folder, files, max(1, files // 100)))
            age_access_times(mirror.folder)
            time.sleep(2.1)
            config = load(mirror.config, os.environ)
            timed("the state", lambda: fill(Installation(config, mirror.state), app))
            measure(mirror, server, files)


if __name__ == "__main__":
    main()
