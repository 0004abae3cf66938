"""One parser process, seen from its parent: started by exec, fed over pipes, killed when it overstays."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from kbsync.targets.local.extracted import (
    LENGTH,
    Answer,
    Request,
    pack_request,
    unpack_answer,
    unpack_ready,
)

CHILD = Path(__file__).with_name("parse_child.py")
_PIECE = 256 * 1024
_ERROR_TAIL = 4096
_START_SECONDS = 60.0
_OUT_OF_MEMORY = (b"memory allocation of", b"MemoryError", b"bad_alloc", b"out of memory", b"Out of memory")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one document may cost: wall and CPU time, address space, and the answer's length."""

    seconds: float
    memory_bytes: int
    output_bytes: int


class Ended(Exception):
    """The process ended instead of answering. `by_memory`: it had reached its memory limit."""

    def __init__(self, detail: str, *, by_memory: bool = False) -> None:
        super().__init__(detail)
        self.by_memory = by_memory


class Overstayed(Exception):
    """No answer in time; the process was killed."""


class Overflowed(Exception):
    """The answer is longer than allowed; the process was killed."""


class Worker:
    """A running parser. Not thread-safe; whoever borrowed it from the pool has it alone.

    The kernel ends the process with the *thread* that made it, so the pool makes all of them in one.
    """

    def __init__(self, home: Path, bounds: Bounds, child: Path = CHILD) -> None:
        self._bounds = bounds
        self._home = Path(tempfile.mkdtemp(prefix="worker-", dir=home))
        self._errors = bytearray()
        self.documents = 0
        self.resident = 0
        self.idle_since = 0.0
        try:
            self._process = _started(child, bounds, self._home)
        except OSError:
            shutil.rmtree(self._home, ignore_errors=True)
            raise
        for stream in self._streams():
            os.set_blocking(stream.fileno(), False)

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    def wait_until_ready(self) -> tuple[str, ...]:
        """The fences it raised. Raises `Ended` or `Overstayed` where it cannot start."""
        try:
            ready = unpack_ready(self._exchange(iter(()), time.monotonic() + _START_SECONDS))
        except ValueError as error:
            raise Ended(str(error)) from error
        self.resident = ready.resident
        return ready.fences

    def read(self, extension: str, document: BinaryIO, size: int) -> Answer:
        """Have a document read. Raises `Ended`, `Overstayed`, `Overflowed`; after any exception: `end` it."""
        self.documents += 1
        pieces = _request(extension, document, size)
        try:
            answer = unpack_answer(self._exchange(pieces, time.monotonic() + self._bounds.seconds))
        except ValueError as error:
            raise Ended(str(error)) from error
        self.resident = answer.resident
        return answer

    def is_running(self) -> bool:
        """Whether the process is there to take a request."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and whatever it started, without waiting. Another thread may be reading from it."""
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()  # it has not made its own group yet

    def end(self) -> None:
        """Kill it, wait for it, close the pipes, remove its folder."""
        self.kill()
        self._process.wait()
        for stream in self._streams():
            stream.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def _streams(self) -> Iterator[IO[bytes]]:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            yield stream

    def _exchange(self, pieces: Iterator[bytes], deadline: float) -> bytes:
        """Send the pieces and receive one frame, both at the same time, so that neither side can block."""
        stdin, stdout, stderr = self._streams()
        pending = memoryview(next(pieces, b""))
        received = bytearray()
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ)
            ready.register(stderr, selectors.EVENT_READ)
            if pending:
                ready.register(stdin, selectors.EVENT_WRITE)
            while not self._is_whole(received):
                events = ready.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise Overstayed
                for key, _ in events:
                    if key.fileobj is stdin:
                        pending = self._send(pending, pieces)
                        if not pending:
                            ready.unregister(stdin)
                    elif key.fileobj is stderr:
                        self._keep_error(ready, stderr)
                    else:
                        received += self._receive(stdout)
        if pending:
            raise Ended("it answered before it had the whole document")
        return bytes(received[LENGTH.size :])

    def _is_whole(self, received: bytearray) -> bool:
        if len(received) < LENGTH.size:
            return False
        length = LENGTH.unpack_from(received)[0]
        # JSON writes a control character in six bytes at worst; the reader has none left but line ends.
        if length > 2 * self._bounds.output_bytes + _PIECE:
            raise Overflowed
        return len(received) >= LENGTH.size + int(length)

    def _send(self, pending: memoryview, pieces: Iterator[bytes]) -> memoryview:
        stdin, *_ = self._streams()
        try:
            written = os.write(stdin.fileno(), pending[:_PIECE])
        except BlockingIOError:
            return pending
        except BrokenPipeError:
            raise self._ended() from None
        pending = pending[written:]
        return pending or memoryview(next(pieces, b""))

    def _receive(self, stdout: IO[bytes]) -> bytes:
        piece = os.read(stdout.fileno(), _PIECE)
        if not piece:
            raise self._ended()
        return piece

    def _keep_error(self, ready: selectors.BaseSelector, stderr: IO[bytes]) -> None:
        piece = os.read(stderr.fileno(), _PIECE)
        self._errors += piece
        del self._errors[:-_ERROR_TAIL]
        if not piece:
            ready.unregister(stderr)

    def _ended(self) -> Ended:
        """How it ended: with its pipes closed it is dying or dead, or it is made to be."""
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._errors += _rest(self._process.stderr)
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        last = bytes(self._errors).decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        by_memory = any(sign in self._errors for sign in _OUT_OF_MEMORY)
        return Ended(f"{how}: {last}" if last else how, by_memory=by_memory)


def _started(child: Path, bounds: Bounds, home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(child, bounds),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(home),
        cwd=home,
        close_fds=True,
        start_new_session=True,
        bufsize=0,
    )


def _rest(stderr: object) -> bytes:
    try:
        return os.read(stderr.fileno(), _ERROR_TAIL)  # type: ignore[attr-defined]
    except (BlockingIOError, ValueError):
        return b""


def _request(extension: str, document: BinaryIO, size: int) -> Iterator[bytes]:
    yield pack_request(Request(extension, size))
    left = size
    while left:
        piece = document.read(min(_PIECE, left))
        if not piece:
            raise OSError(f"the document ended {left} bytes early")
        left -= len(piece)
        yield piece


def _command(child: Path, bounds: Bounds) -> list[str]:
    """-I: nothing from the environment or the working directory is imported; -B: no byte code is written."""
    paths = json.dumps([str(Path(path).resolve()) for path in sys.path if path])
    limits = [str(os.getpid()), str(bounds.memory_bytes), str(bounds.seconds)]
    return [sys.executable, "-I", "-B", "-X", "utf8", str(child), *limits, paths]


def _environment(home: Path) -> Mapping[str, str]:
    """Nothing of ours but the loader's path: a parser has no use for credentials, and no other home."""
    folders = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
               "XDG_RUNTIME_DIR", "KREUZBERG_CACHE_DIR")  # fmt: skip
    loader = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    threads = {"TOKIO_WORKER_THREADS": "1", "RAYON_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    return {**dict.fromkeys(folders, str(home)), "LANG": "C.UTF-8", **threads, **loader}
