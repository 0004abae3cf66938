"""From the bytes of a file to its text: texts are decoded here, documents read behind the fence."""

from __future__ import annotations

from pathlib import Path

from kbsync.contract.target import Body
from kbsync.errors import Rejected, Unavailable
from kbsync.index.document import Parsed
from kbsync.index.fence.messages import Refused
from kbsync.index.fence.workers import CHILD, IDLE_SECONDS, Bounds, Ended, Overflowed, Overstayed, Pool
from kbsync.index.read.formats import extension_of, needs_worker
from kbsync.index.read.text import parse_text

LARGEST_TEXT = 64 * 1024 * 1024
"""Bytes of a file that is text; as `str` it takes up to four times as much."""

_MIB = 1024 * 1024


class Parser:
    """Makes `Parsed` of documents. Thread-safe and synchronous.

    Documents (pdf, docx, …) are read one at a time by a process of their own, each within `timeout` seconds,
    `memory_bytes` of address space and `output_bytes` of text. Texts are decoded here. Nothing is written to
    disk but an empty home for that process below `spool_dir`.
    """

    def __init__(
        self,
        spool_dir: Path,
        *,
        timeout: float = 60.0,
        memory_bytes: int = 1024 * _MIB,
        output_bytes: int = 64 * _MIB,
        idle_seconds: float = IDLE_SECONDS,
        child: Path = CHILD,
    ) -> None:
        self._bounds = Bounds(timeout, memory_bytes, output_bytes)
        self._pool = Pool(spool_dir, self._bounds, idle_seconds=idle_seconds, child=child)

    def parse(self, path: str, body: Body) -> Parsed:
        """The text of the document known as `path`.

        Raises `Rejected` where the document is to blame (its `code`: no-text, scanned, encrypted, damaged,
        binary, bomb, too-large, timeout, memory, output, crash), `Unavailable` where the parser cannot be
        started or was closed, and OSError where the body cannot be read.
        """
        if not body.size:
            raise Rejected("no text in it: it is empty", code="no-text")
        if not needs_worker(path):
            if body.size > LARGEST_TEXT:
                raise _too_large(body.size, LARGEST_TEXT)
            with body.open() as stream:
                return parse_text(path, stream.read())
        if body.size > self._bounds.memory_bytes // 2:
            raise _too_large(body.size, self._bounds.memory_bytes // 2)
        try:
            try:
                return self._read(extension_of(path), body, fresh=False)
            except Ended:
                # Another document, or the worker's age, may have been the cause: once more, in a new one.
                return self._read(extension_of(path), body, fresh=True)
        except Ended as ended:
            if ended.by_memory:
                limit = f"{_size(self._bounds.memory_bytes)} of memory, the limit for one document"
                reason = f"reading it takes more than {limit}; split it or save it in a simpler format"
                raise Rejected(reason, code="memory") from ended
            if "SIGXCPU" in str(ended):
                limit = f"{self._bounds.seconds:g} s of computing, the limit for one document"
                raise Rejected(f"reading it takes more than {limit}; split it", code="timeout") from ended
            reason = f"the parser crashed on it twice ({ended}); open it in its own program and save it again"
            raise Rejected(reason, code="crash") from ended

    def pids(self) -> list[int]:
        """The worker processes that run now."""
        return self._pool.pids()

    def close(self) -> None:
        """End all workers; a document being read is given up with `Unavailable`."""
        self._pool.close()

    def _read(self, extension: str, body: Body, *, fresh: bool) -> Parsed:
        """What a worker makes of the document. Raises `Ended` where it ended instead."""
        try:
            with self._pool.lend(fresh=fresh) as worker, body.open() as document:
                outcome = worker.read(extension, document, body.size)
        except Ended as error:
            if self._pool.is_closed:
                raise Unavailable("the parser was stopped", code="parser-closed") from error
            raise
        except Overstayed as error:
            raise Rejected(
                f"could not be read within {self._bounds.seconds:g} s, the limit for one document; "
                "split it or save it in a simpler format",
                code="timeout",
            ) from error
        except Overflowed as error:
            raise self._too_long() from error
        if isinstance(outcome, Refused):
            if outcome.code == "memory":
                raise Ended("MemoryError", by_memory=True)
            raise Rejected(outcome.reason, code=outcome.code)
        if len(outcome.text.encode("utf-8", "replace")) > self._bounds.output_bytes:
            raise self._too_long()
        return outcome

    def _too_long(self) -> Rejected:
        limit = f"{_size(self._bounds.output_bytes)}, the limit for one document"
        return Rejected(f"its text is longer than {limit}; split it", code="output")


def _too_large(size: int, most: int) -> Rejected:
    return Rejected(
        f"too large to be read: {_size(size)}, the limit is {_size(most)}; split it", code="too-large"
    )


def _size(count: int) -> str:
    return f"{count / _MIB:.0f} MiB" if count >= _MIB else f"{count} bytes"
