"""The part of a mirror's work that runs on a Dask worker: it reads and splits documents, and embeds passages.

It keeps nothing but models and parsers, and has no access to mirrors or targets. Messages are `bytes`, sent
together with the host's versions; a worker with different versions doesn't unpickle them.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import os
import pickle
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, LifoQueue
from typing import TYPE_CHECKING, Any

from kbsync import __version__
from kbsync.core.model import NO_STAMP
from kbsync.dataclass import dataclass
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, UsageError
from kbsync.index.document import Chunk, Cut
from kbsync.index.embed import Encoder, Vectors
from kbsync.index.errors import scratch_error
from kbsync.index.pipeline import read_and_cut
from kbsync.index.read.formats import CHUNKER, READERS, TEXTS
from kbsync.source.read import Spooled
from kbsync.threads import start_thread

if TYPE_CHECKING:
    from kbsync.index.fence.parser import Parser

Versions = Mapping[str, str]
"""The versions that must be the same on the host and on a worker, keyed by names that users know."""

DONE, FAILED, DIFFERS = "done", "failed", "differs"
"""The first item of a response, which says what follows: a pickled result, a pickled error, or the worker's
address and versions."""

SECONDS_EACH = 120.0
"""Maximum number of seconds for a document or a passage: a parser gives up after 60 s, and a model may have
to be loaded first."""

Answer = tuple[Any, ...]

_log = logging.getLogger(__name__)


def versions() -> dict[str, str]:
    """Return this machine's versions."""
    readers = {extension: version for extension, (*_, version) in READERS.items()} | {"texts": TEXTS}
    digest = hashlib.sha256(repr(sorted(readers.items())).encode()).hexdigest()[:8]
    return {"kbsync": __version__, "readers": digest, "chunker": CHUNKER}


class Call:
    """A call of a function in this module. Unpickling it runs `function(*arguments)` and returns the result.

    A task is therefore `pickle.loads` of some bytes. Only the workers need kbsync, not the scheduler. If a
    worker lacks it, the task's result says so.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return the function to call and its arguments."""
        return self._reduced


@dataclass(frozen=True, slots=True)
class Sent:
    """A document to send: its bytes, or its path as the workers see it."""

    path: str
    size: int
    digest: str
    content: bytes | None
    worker_path: str = ""


def cut(host_versions: Versions, payload: bytes) -> Answer:
    """Return the outcome of splitting a `Sent` document: a `Cut` or a `TargetError`.

    Return None if the file is missing or doesn't contain the bytes that the host read.
    """
    own_versions = versions()
    if own_versions != host_versions:
        return DIFFERS, _address(), own_versions
    document: Sent = pickle.loads(payload)  # noqa: S301 (a worker runs whatever its scheduler sends)
    return _run_with_limit(1, lambda: _cut(document))


def _run_with_limit(count: int, make: Callable[[], object]) -> Answer:
    """Return the result of `make` for `count` items, or an error if that takes too long, so that the host
    doesn't wait forever.
    """
    try:
        # The context variables let the thread find its worker.
        return DONE, pickle.dumps(start_thread(make).result(count * SECONDS_EACH))
    except TimeoutError:
        reason = f"worker {_address()}: not ready after {count * SECONDS_EACH:.0f} s"
        return FAILED, pickle.dumps(Unavailable(reason, code="worker-stuck"))


def _cut(document: Sent) -> Cut | TargetError | None:
    content = _read(document) if document.content is None else document.content
    if content is None:
        return None
    try:
        with _parser() as parser, Spooled(content, len(content), document.digest, NO_STAMP) as body:
            outcome = read_and_cut(document.path, body, parser.parse)
    except OSError as error:
        outcome = scratch_error(error)
    except Exception as error:
        outcome = _reject_unexpected(error)
    if isinstance(outcome, Unavailable | Halted):  # a machine is to blame, so name it
        outcome.reason = f"worker {_address()}: {outcome.reason}"
    return outcome


def embed(host_versions: Versions, payload: bytes) -> Answer:
    """Return the `Vectors` of the texts, computed by the encoder that the recipe creates.

    Each text comes with its key.
    """
    own_versions = versions()
    if own_versions == {name: host_versions[name] for name in host_versions if name != "model"}:
        recipe, texts = pickle.loads(payload)  # noqa: S301 (see above)
        try:
            encoder = _encoder(recipe)
            own_versions["model"] = encoder.model
            if own_versions == host_versions:
                return _run_with_limit(len(texts), lambda: _vectors(encoder, texts))
        except UsageError as error:  # the model is missing or incomplete
            own_versions["model"] = f"none ({error})"
    return DIFFERS, _address(), own_versions


def _vectors(encoder: Encoder, texts: Sequence[tuple[str, str]]) -> Vectors:
    """Return the vectors of all texts.

    If the model fails on a text, return the reason instead of its vector.
    """
    try:
        return encoder.begin([Chunk("", text, key) for key, text in texts]).result()
    except UsageError:
        raise
    except Exception as error:
        if len(texts) == 1:
            return {texts[0][0]: _reject_unexpected(error)}
        middle = len(texts) // 2
        return {**_vectors(encoder, texts[:middle]), **_vectors(encoder, texts[middle:])}


def _reject_unexpected(error: Exception) -> Rejected:
    """Turn an unexpected error into a failure of this document alone, as on the host, even though the machine
    may be to blame.
    """
    _log.exception("a document could not be prepared")
    reason = f"worker {_address()} could not prepare the document ({type(error).__name__}: {error})"
    return Rejected(reason, code="unprepared", may_pass=True)


@functools.lru_cache(maxsize=4)
def _encoder(recipe: bytes) -> Encoder:
    """Return the encoder that the pickled recipe creates. The weights of its model stay loaded."""
    encoder: Encoder = pickle.loads(recipe)()  # noqa: S301 (see above)
    return encoder


def _read(document: Sent) -> bytes | None:
    """Read the document from the shared file system. Return None unless its bytes are the ones that the host
    read.
    """
    with suppress(OSError):
        # O_NONBLOCK: a fifo in place of the file must not block us.
        descriptor = os.open(document.worker_path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size == document.size:
                content = file.read(document.size + 1)
                # Accept only the same bytes that the host read (promise 8).
                if hashlib.sha256(content).hexdigest() == document.digest:
                    return content
    return None


# A parser reads one document at a time, and a worker may have several threads. Each parser starts its process
# in its own thread, because the kernel ends the process with the thread that started it, and Dask's threads
# come and go.
_idle: dict[Path, LifoQueue[Parser]] = {}
_numbers = itertools.count(1)


@contextmanager
def _parser() -> Iterator[Parser]:
    """Yield a sandboxed parser (ADR 8) for this thread only, in a folder that only this worker uses."""
    from distributed import get_worker

    from kbsync.index.fence.parser import Parser

    folder = Path(get_worker().local_directory)
    idle = _idle.setdefault(folder, LifoQueue())
    try:
        parser = idle.get_nowait()
    except Empty:
        # Each gets its own spool folder, because a parser removes folders that seem to belong to dead
        # programs.
        parser = Parser(folder / f"kbsync-{next(_numbers)}")
    try:
        yield parser
    finally:
        idle.put(parser)


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)
