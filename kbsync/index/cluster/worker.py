"""What a Dask worker does for a mirror: it reads and cuts documents, and makes vectors of passages.

It keeps nothing but models and parsers, and knows neither mirror nor target. What travels is `bytes` beside
the versions of the host that asks: nothing of it is unpickled by a worker of other versions.
"""

from __future__ import annotations

import contextvars
import functools
import hashlib
import itertools
import logging
import os
import pickle
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, LifoQueue
from typing import TYPE_CHECKING, Any

from kbsync import __version__
from kbsync.core.model import NO_STAMP
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, UsageError
from kbsync.index.chunk import CHUNKER
from kbsync.index.document import Chunk, Cut
from kbsync.index.embed import Encoder, Vectors
from kbsync.index.errors import trouble_with_scratch
from kbsync.index.pipeline import read_and_cut
from kbsync.index.read.formats import PARSER
from kbsync.index.words import TOKENISER
from kbsync.source.read import Spooled

if TYPE_CHECKING:
    from kbsync.index.fence.parser import Parser

Versions = Mapping[str, str]
"""What has to be equal on the host and on a worker, by the name that a person knows it by."""

DONE, FAILED, DIFFERS = "done", "failed", "differs"
"""What an answer begins with; a pickled result follows, a pickled error, or the address and versions."""

SECONDS_EACH = 120.0
"""For a document or a passage: a parser gives up after 60, and a model may have to be loaded first."""

Answer = tuple[Any, ...]

_log = logging.getLogger(__name__)


def versions() -> dict[str, str]:
    """Those of this machine."""
    return {"kbsync": __version__, "parser": PARSER, "chunker": CHUNKER, "tokeniser": str(TOKENISER)}


class Call:
    """Unpickled, it is the result of `function(*arguments)`, which is a function of this module.

    So a task is `pickle.loads` of bytes: only the workers have to have kbsync, the scheduler need not, and a
    worker that lacks it says so as the result of the task.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What to call."""
        return self._reduced


@dataclass(frozen=True, slots=True)
class Sent:
    """A document as it travels: its bytes, or the path under which the workers see it."""

    path: str
    size: int
    digest: str
    content: bytes | None
    place: str = ""


def cut(wanted: Versions, sent: bytes) -> Answer:
    """For each `Sent` a `Cut`, or the `TargetError` that is its outcome.

    None where the file that was named does not lie there with the bytes that the host read.
    """
    own = versions()
    if own != wanted:
        return DIFFERS, _address(), own
    documents: Sequence[Sent] = pickle.loads(sent)  # noqa: S301 (a worker runs whatever its scheduler sends)
    return _answer(len(documents), lambda: [_cut(each) for each in documents])


def _answer(count: int, make: Callable[[], object]) -> Answer:
    """What `make` gives for so many; an error where it does not end: the host would wait for ever."""
    made = Future[object]()

    def run() -> None:
        try:
            made.set_result(make())
        except BaseException as error:
            made.set_exception(error)

    within = contextvars.copy_context()  # so that it knows its worker
    threading.Thread(target=within.run, args=(run,), name="kbsync", daemon=True).start()
    try:
        return DONE, pickle.dumps(made.result(count * SECONDS_EACH))
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
        outcome = trouble_with_scratch(error)
    except Exception as error:
        outcome = _surprise(error)
    if isinstance(outcome, Unavailable | Halted):  # a machine is to blame: say which
        outcome.reason = f"worker {_address()}: {outcome.reason}"
    return outcome


def embed(wanted: Versions, sent: bytes) -> Answer:
    """`Vectors` of the texts, which come with their keys, by the encoder whose recipe comes with them."""
    own = versions()
    if own == {name: wanted[name] for name in wanted if name != "model"}:
        recipe, texts = pickle.loads(sent)  # noqa: S301 (see above)
        try:
            encoder = _encoder(recipe)
            own["model"] = encoder.model
            if own == wanted:
                return _answer(len(texts), lambda: _vectors(encoder, texts))
        except UsageError as error:  # the model is not there, or not whole
            own["model"] = f"none ({error})"
    return DIFFERS, _address(), own


def _vectors(encoder: Encoder, texts: Sequence[tuple[str, str]]) -> Vectors:
    """Those of all texts; of a text that the model fails at, why it has none."""
    try:
        return encoder.begin([Chunk("", text, key) for key, text in texts]).result()
    except UsageError:
        raise
    except Exception as error:
        if len(texts) == 1:
            return {texts[0][0]: _surprise(error)}
        middle = len(texts) // 2
        return {**_vectors(encoder, texts[:middle]), **_vectors(encoder, texts[middle:])}


def _surprise(error: Exception) -> Rejected:
    """As on the host: the document's outcome, not the end of the others. The machine may be to blame, too."""
    _log.exception("a document could not be prepared")
    reason = f"worker {_address()} could not prepare it ({type(error).__name__}: {error})"
    return Rejected(reason, code="unprepared", may_pass=True)


@functools.lru_cache(maxsize=4)
def _encoder(recipe: bytes) -> Encoder:
    """The encoder that the pickled recipe makes; its weights stay loaded."""
    made: Encoder = pickle.loads(recipe)()  # noqa: S301 (see above)
    return made


def _read(document: Sent) -> bytes | None:
    """The bytes that the host read, from the file system that both share; None where they are not there."""
    with suppress(OSError):
        # O_NONBLOCK: a fifo put in place of the file must not hold us.
        descriptor = os.open(document.place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_size == document.size:
                content = file.read(document.size + 1)
                # Whatever lies there, only what was read on the host counts (promise 8).
                if hashlib.sha256(content).hexdigest() == document.digest:
                    return content
    return None


# A parser reads one document at a time, and a worker may have several threads. Each parser makes its process
# in a thread of its own, since the kernel ends the process with the thread that made it: Dask's come and go.
_idle: dict[Path, LifoQueue[Parser]] = {}
_numbers = itertools.count(1)


@contextmanager
def _parser() -> Iterator[Parser]:
    """A parser behind the fence (ADR 8) that no other thread has, in a private folder of this worker's."""
    from distributed import get_worker

    from kbsync.index.fence.parser import Parser

    folder = Path(get_worker().local_directory)
    idle = _idle.setdefault(folder, LifoQueue())
    try:
        parser = idle.get_nowait()
    except Empty:
        # A spool folder for each: a parser removes what it takes for left by a program that ended.
        parser = Parser(folder / f"kbsync-{next(_numbers)}")
    try:
        yield parser
    finally:
        idle.put(parser)


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)
