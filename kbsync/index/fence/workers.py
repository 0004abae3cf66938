"""Parser processes, seen from their parent: started by exec, fed over pipes, killed when they overstay.

One is made when first needed, lent to one document at a time, replaced when worn and ended when idle (ADR 8).
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kbsync.errors import TargetError, Unavailable
from kbsync.index.document import Parsed
from kbsync.index.errors import trouble_with_scratch
from kbsync.index.fence.messages import LENGTH, Refused, pack, unpack_answer, unpack_ready
from kbsync.packages import installing
from kbsync.permissions import make_passing_folder, make_private_folder

CHILD = Path(__file__).with_name("child.py")
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


class ParserProcess:
    """A running parser. Not thread-safe; whoever borrowed it from the pool has it alone.

    The kernel ends the process with the *thread* that made it, so the pool has one thread that makes them.
    """

    def __init__(self, home: Path, bounds: Bounds, child: Path = CHILD) -> None:
        self._bounds = bounds
        self._home = Path(tempfile.mkdtemp(prefix="worker-", dir=home))
        self._errors = bytearray()
        self.documents = 0
        self.resident = 0
        self.idle_since = 0.0
        # Nothing of ours but the loader's path: a parser has no use for credentials, and no other home.
        home_names = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
                      "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "KREUZBERG_CACHE_DIR")  # fmt: skip
        environment = {**dict.fromkeys(home_names, str(self._home)), "LANG": "C.UTF-8"}
        # One thread each and few arenas: threads reserve address space, which is bounded.
        environment |= {"TOKIO_WORKER_THREADS": "1", "RAYON_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        # As the parent's, in its order: the same kbsync is found first.
        paths = json.dumps([str(Path(path).resolve()) for path in sys.path if path])
        limits = [str(os.getpid()), str(bounds.memory_bytes), str(bounds.seconds)]
        try:
            self._process = subprocess.Popen(
                # -I: nothing from the environment or the working directory is imported; -B: no byte code.
                [sys.executable, "-I", "-B", "-X", "utf8", str(child), *limits, paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=self._home,
                close_fds=True,
                start_new_session=True,  # a group of its own: whatever it starts is killed with it
                bufsize=0,
            )
        except OSError:
            shutil.rmtree(self._home, ignore_errors=True)
            raise
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin and stdout and stderr
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        for stream in (stdin, stdout, stderr):
            os.set_blocking(stream.fileno(), False)

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    def wait_until_ready(self) -> tuple[str, ...]:
        """The fences it raised. Raises `Ended` or `Overstayed` where it cannot start."""
        try:
            self.resident, fences = unpack_ready(self._exchange(iter(()), time.monotonic() + _START_SECONDS))
        except ValueError as error:
            raise Ended(str(error)) from error
        return fences

    def read(self, extension: str, document: BinaryIO, size: int) -> Parsed | Refused:
        """Have a document read. Raises `Ended`, `Overstayed`, `Overflowed`; after any exception: `end` it."""
        self.documents += 1
        pieces = _request(extension, document, size)
        try:
            outcome, self.resident = unpack_answer(
                self._exchange(pieces, time.monotonic() + self._bounds.seconds)
            )
        except ValueError as error:
            raise Ended(str(error)) from error
        return outcome

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
        for stream in (self._stdin, self._stdout, self._stderr):
            stream.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def _exchange(self, pieces: Iterator[bytes], deadline: float) -> bytes:
        """Send the pieces and receive one frame, both at the same time, so that neither side can block."""
        pending = memoryview(next(pieces, b""))
        received = bytearray()
        length = -1
        with selectors.DefaultSelector() as ready:
            ready.register(self._stdout, selectors.EVENT_READ)
            ready.register(self._stderr, selectors.EVENT_READ)
            if pending:
                ready.register(self._stdin, selectors.EVENT_WRITE)
            while length < 0 or len(received) < LENGTH.size + length:
                events = ready.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise Overstayed
                for key, _ in events:
                    if key.fileobj is self._stdin:
                        try:
                            pending = pending[os.write(self._stdin.fileno(), pending[:_PIECE]) :]
                        except BlockingIOError:
                            continue
                        except BrokenPipeError:
                            raise self._ended() from None
                        pending = pending or memoryview(next(pieces, b""))
                        if not pending:
                            ready.unregister(self._stdin)
                    elif key.fileobj is self._stderr:
                        said = os.read(self._stderr.fileno(), _PIECE)
                        self._errors += said
                        del self._errors[:-_ERROR_TAIL]
                        if not said:
                            ready.unregister(self._stderr)
                    else:
                        piece = os.read(self._stdout.fileno(), _PIECE)
                        if not piece:
                            raise self._ended()
                        received += piece
                if length < 0 and len(received) >= LENGTH.size:
                    length = LENGTH.unpack_from(received)[0]
                    # JSON writes a control character in six bytes; a reader leaves none but line ends.
                    if length > 2 * self._bounds.output_bytes + _PIECE:
                        raise Overflowed
        if pending:
            raise Ended("it answered before it had the whole document")
        return bytes(received[LENGTH.size :])

    def _ended(self) -> Ended:
        """How it ended: with its pipes closed it is dying or dead, or it is made to be."""
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        with suppress(BlockingIOError, ValueError):
            self._errors += os.read(self._stderr.fileno(), _ERROR_TAIL)
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        last = bytes(self._errors).decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        by_memory = any(sign in self._errors for sign in _OUT_OF_MEMORY)
        return Ended(f"{how}: {last}" if last else how, by_memory=by_memory)


def _request(extension: str, document: BinaryIO, size: int) -> Iterator[bytes]:
    yield pack({"extension": extension, "size": size})
    left = size
    while left:
        piece = document.read(min(_PIECE, left))
        if not piece:
            raise OSError(f"the document ended {left} bytes early")
        left -= len(piece)
        yield piece


# A process costs some tenths of a second to start and some 60 MB while it lives.
DOCUMENTS_EACH = 200
RESIDENT_EACH = 400 * 1024 * 1024
IDLE_SECONDS = 60.0
_HOME_PREFIX = "parser-"


class Pool:
    """One worker, lent to one document at a time. Thread-safe."""

    def __init__(
        self,
        spool_dir: Path,
        bounds: Bounds,
        *,
        documents_each: int = DOCUMENTS_EACH,
        idle_seconds: float = IDLE_SECONDS,
        child: Path = CHILD,
    ) -> None:
        self._home = Home(spool_dir)
        self._bounds = bounds
        self._documents_each = documents_each
        self._idle_seconds = idle_seconds
        self._child = child
        # Its one thread lives as long as the worker does: the kernel kills one whose making thread ends.
        self._making = ThreadPoolExecutor(1, "parser-maker")
        # Held while a document is read, and by whatever else makes or ends the worker.
        self._lent = threading.Lock()
        self._worker: ParserProcess | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    @contextmanager
    def lend(self, *, fresh: bool = False) -> Iterator[ParserProcess]:
        """The worker for one document; `fresh`: one that has read nothing yet.

        Ended when the block raises. Raises `TargetError` where no worker can be had just now.
        """
        with self._lent:
            self._refuse_if_closed()
            worker = self._worker
            if worker is not None and (not worker.is_running() or (fresh and worker.documents)):
                self._end()
                worker = None
            worker = worker or self._start()
            try:
                yield worker
            except BaseException:
                self._end()
                raise
            # Parsers leak, and one that was taken over by a document should not see many others.
            is_worn = worker.documents >= self._documents_each or worker.resident > RESIDENT_EACH
            if is_worn or self._closed:
                self._end()
            else:
                worker.idle_since = time.monotonic()
                self._look_again_in(self._idle_seconds)

    def pids(self) -> list[int]:
        """The processes that run now."""
        worker = self._worker
        return [] if worker is None else [worker.pid]

    @property
    def is_closed(self) -> bool:
        """No worker will be lent any more."""
        return self._closed

    def close(self) -> None:
        """Kill the worker, also at work, wait until it is gone, remove what it had as a home."""
        # In this order, as `_start` does the opposite: one of the two sees a worker that is just being made.
        self._closed = True
        worker = self._worker
        if worker is not None:
            worker.kill()  # its borrower sees it end, and gives it back
        with self._lent:
            self._end()
            if self._timer is not None:
                self._timer.cancel()
            self._making.shutdown()
            self._home.remove()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Unavailable("the parser was stopped", code="parser-closed")

    def _start(self) -> ParserProcess:
        try:
            worker = self._worker = self._making.submit(self._make).result()
        except OSError as error:
            raise self._home.judged(error) from error
        except RuntimeError as error:  # the program is ending: no thread takes work any more
            raise Unavailable("the parser was stopped", code="parser-closed") from error
        if self._closed:
            worker.kill()
        try:
            worker.wait_until_ready()
        except (Ended, Overstayed) as error:
            trouble = self._home.trouble()
            self._end()
            self._refuse_if_closed()
            if trouble is not None:
                raise trouble from error
            # Where it ran out of time or memory there is no cure, but to try again.
            is_broken = isinstance(error, Ended) and not error.by_memory
            cure = (
                f"; reinstall what it reads with: {installing('kreuzberg', anew=True)}" if is_broken else ""
            )
            raise Unavailable(f"the parser does not start ({error}){cure}", code="parser-start") from error
        except OSError as error:
            self._end()
            raise self._home.judged(error) from error
        return worker

    def _make(self) -> ParserProcess:
        return ParserProcess(self._home.path(), self._bounds, self._child)

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def _look_again_in(self, seconds: float) -> None:
        """Have an idle worker looked at, unless that is due already."""
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._end_idle)
            self._timer.name, self._timer.daemon = "parser-idle", True
            self._timer.start()

    def _end_idle(self) -> None:
        """End a worker that nobody needed for a while, or come back when that is so."""
        with self._lent:
            self._timer = None
            if self._worker is not None:
                left = self._worker.idle_since + self._idle_seconds - time.monotonic()
                if left > 0:
                    self._look_again_in(left)
                else:
                    self._end()


class Home:
    """The folder that workers have for home, cache and temporary files; nothing is ever left in it.

    It is locked while in use, so that the next run can tell a dead program's folder from a live one's.
    """

    def __init__(self, spool_dir: Path) -> None:
        self._spool = spool_dir
        self._path: Path | None = None
        self._lock = -1

    def path(self) -> Path:
        """The folder, made when first asked for; folders that dead programs left are removed then."""
        if self._path is None:
            make_private_folder(self._spool)
            for left in self._spool.glob(f"{_HOME_PREFIX}*"):
                with suppress(OSError):
                    lock = _locked(left)
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(lock)
            made = make_passing_folder(_HOME_PREFIX, self._spool).resolve()
            try:
                self._lock = _locked(made)
            except OSError:
                made.rmdir()
                raise
            self._path = made
        return self._path

    def trouble(self) -> TargetError | None:
        """Why no file can be made in it, which a worker at its start needs; None where one can."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.path()):
                return None
        except OSError as error:
            return self.judged(error)

    def judged(self, error: OSError) -> TargetError:
        """What to do when a worker could not be started for it."""
        return trouble_with_scratch(error, self._spool, "the parser cannot be started")

    def remove(self) -> None:
        """Remove it with everything in it."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._lock)
            self._path = None


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock. Raises OSError where another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
