"""A process that splits short texts and computes their built-in vectors while many of them are indexed.

A Python process computes on only one core at a time. With this second process, a first pass indexes up to
a third more texts per second (ADR 34). It starts once many texts have arrived, and ends when it is idle.
Like the parsers', it is sandboxed. If it fails, kbsync splits the texts itself, as it does with all
others.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

from kbsync.contract.target import Body
from kbsync.errors import TargetError, Unavailable
from kbsync.index.document import Chunk, Cut, Entry, Parsed
from kbsync.index.embed import DIMENSIONS, NUMBER_BYTES, LocalEncoder
from kbsync.index.fence.child import SPLIT, TEXTS
from kbsync.index.fence.parser import CHILD, Content, Parser, ParserProcess, parse_here
from kbsync.index.pipeline import Cutter, read_and_cut
from kbsync.index.read.formats import needs_parser

MAX_BYTES = 64 * 1024
"""Maximum size of a text in bytes; a larger text would delay the other texts in its request."""

MIN_TEXTS = 16
"""Minimum number of texts in a request."""

START_AFTER = 256
"""Number of texts after which the process is started.

Starting it takes about as long as indexing that many texts.
"""

_VECTOR_BYTES = DIMENSIONS * NUMBER_BYTES

_processes = WeakSet["TextProcess"]()
"""The text processes of all mirrors. Only one runs at a time, because it keeps a core busy."""
_choosing = threading.Lock()
"""A lock held while deciding which process to start."""

_log = logging.getLogger(__name__)


def is_useful() -> bool:
    """Return whether kbsync may use more than one core for computing."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1 and cpu_quota() > 1


def cpu_quota(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how much CPU time kbsync may use, as a number of cores, or infinity if there is no limit.

    The limit is set by the cgroup of kbsync and the cgroups that contain it, for example those of a
    container or a service.
    """
    quota = math.inf
    with suppress(OSError):
        folder = root / own.read_text().rpartition("0::/")[2].strip()
        for cgroup in (folder, *folder.parents):
            with suppress(OSError, ValueError):  # the root has no limit, and other limits are "max"
                microseconds, period = map(int, (cgroup / "cpu.max").read_text().split())
                quota = min(quota, microseconds / period)
    return quota


class TextProcess(Parser):
    """Splits short texts and computes their vectors. Thread-safe, but handles one request at a time."""

    _work, _packages = SPLIT, ("wordllama", "tokenizers")

    def __init__(self, spool_dir: Path, *, child: Path = CHILD) -> None:
        super().__init__(spool_dir, child=child)
        self._texts = 0
        self._starter: threading.Thread | None = None
        self._has_failed = False
        with _choosing:
            _processes.add(self)

    def cut_or(self, cut_here: Cutter) -> Cutter:
        """Return a `Cutter` that lets this process split short texts if there are many of them. It splits
        all other documents with `cut_here`.
        """

        def cut(documents: Sequence[tuple[Entry, Body]]) -> Generator[Cut | TargetError]:
            texts = [
                number
                for number, (entry, body) in enumerate(documents)
                if 0 < body.size <= MAX_BYTES and not needs_parser(entry.path)
                if entry.replaces is None  # a new version of a document has most of its vectors already
            ]
            cuts = dict[int, Cut]()
            if self._can_take(len(texts)):
                outcomes = self._cut([documents[number] for number in texts])
                cuts = {number: outcome for number, outcome in zip(texts, outcomes, strict=True) if outcome}
            others = [document for number, document in enumerate(documents) if number not in cuts]
            with closing(cut_here(others)) as outcomes_here:
                for number in range(len(documents)):
                    yield cuts[number] if number in cuts else next(outcomes_here)

        return cut

    def _can_take(self, texts: int) -> bool:
        """Return whether the process can accept this many texts now.

        The process is started once there have been `START_AFTER` texts.
        """
        with _choosing:
            if self._has_failed or texts < MIN_TEXTS:
                self._texts = 0
                return False
            self._texts += texts
            if self._texts >= START_AFTER and not any(process._is_running() for process in _processes):
                self._starter = threading.Thread(target=self._warm_up, name="kbsync-texts", daemon=True)
                try:
                    self._starter.start()
                except RuntimeError as error:  # too many threads
                    self._give_up(error)
            return not self._is_starting() and bool(self.pids())

    def _is_running(self) -> bool:
        return self._is_starting() or bool(self.pids())

    def _is_starting(self) -> bool:
        return self._starter is not None and self._starter.is_alive()

    def _warm_up(self) -> None:
        with suppress(TargetError):
            self._cut([])

    def _cut(self, documents: Sequence[tuple[Entry, Body]]) -> Sequence[Cut | None]:
        """Return the chunks of each text with their vectors, or None for a text that kbsync has to split
        itself.

        Raises `Unavailable` if the process was closed.
        """
        try:
            contents = []
            for _, body in documents:
                with body.open() as stream:
                    contents.append(stream.read())
            paths = [entry.path for entry, _ in documents]
            return unpack(self._read_or_try_again(TEXTS, Content(pack(paths, contents))).text, len(paths))
        except Exception as error:  # whatever the process lacks, kbsync can split the texts itself
            self._refuse_if_closed()
            self._give_up(error)
            return [None] * len(documents)

    def _start(self) -> ParserProcess:
        if self._has_failed:  # while this request waited for another
            raise Unavailable("the process failed before", code="parser-start")
        return super()._start()

    def _give_up(self, error: Exception) -> None:
        has_failed, self._has_failed = self._has_failed, True
        if not has_failed:
            _log.warning("splitting texts in another process failed: %s", error)


def pack(paths: Sequence[str], contents: Sequence[bytes]) -> bytes:
    """Return a request to split these texts."""
    head = json.dumps([*zip(paths, map(len, contents), strict=True)])
    return b"\n".join([head.encode(), b"".join(contents)])


def splitter() -> Callable[[bytes], Parsed]:
    """Return a function that answers a request with JSON. This loads the model."""
    encoder = LocalEncoder()
    encoder.begin([Chunk("", "a", "")])  # loads the model

    def split(request: bytes) -> Parsed:
        head, _, contents = request.partition(b"\n")
        cuts, start = list[Cut | TargetError](), 0
        for path, size in json.loads(head):
            content = contents[start : start + size]
            cuts.append(read_and_cut(path, Content(content), parse_here))
            start += size
        chunks = {chunk.key: chunk for cut in cuts if isinstance(cut, Cut) for chunk in cut.chunks}
        vectors = encoder.begin(list(chunks.values())).result()
        outcomes = [_to_json(cut) if isinstance(cut, Cut) else None for cut in cuts]
        stored = base64.b64encode(b"".join(cast("bytes", vectors[key]) for key in chunks))
        return Parsed(f"{json.dumps([outcomes, list(chunks)])}\n{stored.decode()}")

    return split


def _to_json(cut: Cut) -> list[Any]:
    """Return the chunks of a document in a form that JSON can represent.

    Each `embed_text` is sent without the chunk's text at its end.
    """
    return [
        cut.title,
        cut.tags,
        [
            (chunk.text, chunk.embed_text.removesuffix(chunk.text), chunk.key, chunk.headings, chunk.line)
            for chunk in cut.chunks
        ],
    ]


def unpack(answer: str, count: int) -> list[Cut | None]:
    """Return the outcome of each of `count` texts. Raises ValueError if the answer is malformed."""
    head, _, stored = answer.partition("\n")
    try:
        outcomes, keys = json.loads(head)
        content = base64.b64decode(stored)
        if len(content) % _VECTOR_BYTES:
            raise ValueError("the answer contains only part of a vector")
        rows = (content[at : at + _VECTOR_BYTES] for at in range(0, len(content), _VECTOR_BYTES))
        vectors = dict(zip(keys, rows, strict=True))
        cuts = [None if item is None else _cut_of(*item, vectors=vectors) for item in outcomes]
    except (TypeError, KeyError) as error:
        raise ValueError(f"not an answer: {error!r}") from error
    if len(cuts) != count:
        raise ValueError(f"the answer covers {len(cuts)} texts instead of {count}")
    return cuts


def _cut_of(
    title: str | None, tags: Sequence[str], items: Sequence[Sequence[Any]], *, vectors: Mapping[str, bytes]
) -> Cut:
    chunks = tuple(
        Chunk(text, above + text, key, tuple(headings), None, line)
        for text, above, key, headings, line in items
    )
    return Cut(title, tuple(tags), chunks, vectors={chunk.key: vectors[chunk.key] for chunk in chunks})
