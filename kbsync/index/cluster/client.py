"""The host's side of a Dask cluster: sends it documents and passages, and waits for the results.

A task is one document that needs a parser, or a few passages. If its worker dies, Dask reruns it elsewhere.
If the scheduler is lost, all tasks end with `Unavailable`, and the engine resends the documents. So a cluster
failure never counts against a document, unless several workers in a row die while working on it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import pickle
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import closing, suppress
from copy import copy
from dataclasses import field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kbsync import __version__, install_command
from kbsync.contract.target import Body, Cluster
from kbsync.core.text import format_count
from kbsync.dataclass import dataclass
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, UsageError
from kbsync.index.cluster import worker
from kbsync.index.document import Chunk, Cut, Entry
from kbsync.index.embed import Encoder, Vectors
from kbsync.index.errors import scratch_error
from kbsync.index.pipeline import Cutter
from kbsync.index.read.formats import needs_parser
from kbsync.threads import LoopThread

if TYPE_CHECKING:
    from distributed import Client

    from kbsync.index.embed import Vector

T = TypeVar("T")

_log = logging.getLogger(__name__)

PASSAGES_AT_ONCE = 8
"""Number of passages in an embedding task. Even a heavy model takes only half a second for them, so all
workers finish at about the same time."""

CONNECT_WITHIN = 10.0
LOOK_EVERY = 5.0
ANSWER_WITHIN = 30.0
"""Seconds between polls of the scheduler. Without polls, a suspended scheduler would go unnoticed, because it
keeps its connections."""
WORKERS_WITHIN = 600.0
"""Seconds without any worker before the documents are postponed.

When an adaptive cluster gets tasks, it starts workers, which may take minutes. If the tasks are canceled,
it stops starting workers.
"""

AWAY_FOR = 60.0
"""Seconds for which this host does the work of a lost cluster before it tries to reach the cluster again."""

_AWAY = ("no-scheduler", "scheduler-lost", "no-workers")

_FAILED_FOR = 1.0
"""Seconds before kbsync tries again to connect to an unresponsive scheduler. Other threads have to wait
during each attempt.
"""

_HARMLESS = worker.Sent("kbsync.html", 4, hashlib.sha256(b"word").hexdigest(), b"word")
"""A document that can't crash any worker, used to test whether the workers are the cause."""

_Document = tuple[Entry, Body]
_CutTask = tuple[int, Future[Cut | TargetError], asyncio.Event]
"""A document's bytes, its outcome (which stays on the worker until requested), and the event that requests
the outcome.
"""


class KilledWorkers(Exception):
    """Raised when Dask gives up on a task because every worker that ran it died. The message says how many
    died.
    """


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster's current state. `unfit`: the differences between its workers and this host."""

    workers: int
    threads: int
    unfit: Sequence[str]


@dataclass(eq=False, slots=True)
class _Session:
    """A connection to a scheduler.

    `lost` is set to the reason once the connection is lost and can't be used any longer.
    """

    client: Client
    lost: asyncio.Future[Unavailable]
    watch: asyncio.Task[None] | None = None


@dataclass
class _Room:
    """Limits the bytes in flight. Thread-safe."""

    limit: int
    used: int = 0
    is_closed: bool = False
    waiting: deque[object] = field(default_factory=deque)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, size: int, *, wait: bool) -> bool:
        """Reserve bytes. Return whether enough were free.

        `wait`: whether to wait until enough are free. While waiting, the caller must not hold other
        reservations. A reservation that exceeds the limit succeeds only while there is no other. Waiting
        callers are served in order.
        """
        with self.changed:
            if not wait and (self.waiting or not self._has(size)):
                return False
            ticket = object()
            self.waiting.append(ticket)
            while not self.is_closed and (self.waiting[0] is not ticket or not self._has(size)):
                self.changed.wait()
            self.waiting.remove(ticket)
            self.used += size
            self.changed.notify_all()
            return True

    def _has(self, size: int) -> bool:
        return not self.used or self.used + size <= self.limit

    def give(self, size: int) -> None:
        """Release bytes that have arrived or are no longer needed."""
        with self.changed:
            self.used -= size
            self.changed.notify_all()

    def close(self) -> None:
        """End all waiting."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()


class DaskCluster:
    """One mirror's connection to a cluster.

    It is opened when the first document needs it, and can be used from several threads.
    """

    def __init__(self, config: Cluster, connect_within: float = CONNECT_WITHIN) -> None:
        """Set up the client without connecting.

        Raises `UsageError` if the `distributed` package isn't installed.
        """
        from importlib.util import find_spec

        if find_spec("distributed") is None:
            raise UsageError(
                "prepare.dask needs the `distributed` package; install it alongside kbsync: "
                f"{install_command('distributed')}"
            )
        self._config, self._connect_within = config, connect_within
        self._versions = worker.versions()
        self._loop = LoopThread("kbsync-dask", _stopped)
        self._room = _Room(config.bytes_in_flight)
        self._closed = False
        # A put splits documents and requests vectors in one thread.
        self._numbers, self._put, self._puts = itertools.count(1), threading.local(), set[int]()
        # Used only in the loop's thread.
        self._connecting: asyncio.Lock | None = None
        self._session: _Session | None = None
        self._failed: tuple[float, Unavailable] | None = None
        self._asking = set[asyncio.Task[Any]]()
        self._away: Unavailable | None = None
        self._away_until = 0.0
        self._trying = threading.Lock()

    # -- without the cluster -----------------------------------------------------------------------------

    @property
    def note(self) -> str:
        """Return a note for the user while the cluster can't be reached, otherwise ""."""
        away = self._away
        if away is None:
            return ""
        return f"{away.reason}; this host will do the cluster's work until the cluster is back"

    def is_away(self) -> bool:
        """Return whether this host does the work itself because the cluster is lost."""
        if self._away is None or time.monotonic() < self._away_until:
            return self._away is not None
        if self._trying.acquire(blocking=False):  # other threads continue here during the check
            try:
                if self.state().workers:
                    self._away = None
            except Unavailable as error:
                self.lose(error)
            finally:
                self._away_until = time.monotonic() + AWAY_FOR
                self._trying.release()
        return self._away is not None

    def lose(self, error: Unavailable) -> bool:
        """Return whether the error means that the cluster is lost.

        If so, this host does the work for the next `AWAY_FOR` seconds.
        """
        if error.code not in _AWAY:
            return False
        if self._away is None:
            _log.warning(
                "%s; this host will do the cluster's work until the cluster is back",
                error.reason,
                extra={"event": "cluster.lost"},
            )
        self._away, self._away_until = copy(error), time.monotonic() + AWAY_FOR
        return True

    def cut_or(self, cut_locally: Cutter) -> Cutter:
        """Use the cluster to split documents that need a parser, unless the cluster is lost. Split all
        others with `cut_locally`.

        Splitting a plain text takes less time than sending it to a worker as a task.
        """

        def cut(documents: Sequence[_Document]) -> Generator[Cut | TargetError]:
            remote = [document for document in documents if needs_parser(document[0].path)]
            is_away = not remote or self.is_away()
            with closing(self.cut([] if is_away else remote)) as outcomes:
                for document in documents:
                    if not is_away and needs_parser(document[0].path):
                        try:
                            yield next(outcomes)
                            continue
                        except Unavailable as error:
                            if not self.lose(error):
                                raise
                            is_away = True
                    yield from cut_locally([document])

        return cut

    # -- called from threads of the mirror ---------------------------------------------------------------

    def cut(self, documents: Sequence[_Document]) -> Generator[Cut | TargetError]:
        """Split documents on the workers, in the same way as a `pipeline.Cutter` on this host.

        While waiting for the first outcome, send as many documents as the limit on bytes in flight allows.
        """
        number = self._put.number = next(self._numbers)
        self._puts.add(number)
        waiting, under_way, held_bytes = deque(documents), deque[_CutTask](), 0
        try:
            while waiting or under_way:
                while waiting and self._room.take(size := waiting[0][1].size, wait=not under_way):
                    held_bytes += size
                    wanted = asyncio.Event()
                    under_way.append((size, self._begin_cut(*waiting.popleft(), wanted), wanted))
                size, future, wanted = under_way[0]
                self._begin(_set_event(wanted))
                outcome = _result(future)
                under_way.popleft()
                self._room.give(size)
                held_bytes -= size
                yield outcome
        finally:
            self._puts.discard(number)
            for _, future, _ in under_way:
                future.cancel()
            self._room.give(held_bytes)

    def vectors(self, recipe: bytes, model: str, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Start computing vectors on a worker, with the encoder that it creates from the pickled `recipe`."""
        texts = [(item.key, item.embed_text) for item in chunks]
        number = getattr(self._put, "number", 0)
        # Ranked only among the current puts: a mirror gets no precedence for earlier work.
        rank = sum(item < number for item in list(self._puts))
        return self._begin(self._vectors(recipe, model, texts, -1 - rank))

    def state(self) -> ClusterState:
        """Return the cluster's current state. Raises `Unavailable`."""
        return _result(self._begin(self._survey()))

    def close(self) -> None:
        """Fail the current work with `Unavailable`, and close the connection. Safe to call more than once."""
        self._closed = True
        self._room.close()
        self._loop.close(self._aclose())

    def _begin_cut(self, entry: Entry, body: Body, wanted: asyncio.Event) -> Future[Cut | TargetError]:
        worker_path = f"{self._config.folder.rstrip('/')}/{entry.path}" if self._config.folder else ""
        document = worker.Sent(entry.path, body.size, entry.digest, None, worker_path)
        try:
            document = document if worker_path else _with_content(document, body)
            return self._begin(self._cut(document, body, wanted))
        except OSError as error:
            unreadable = Future[Cut | TargetError]()
            unreadable.set_result(scratch_error(error))
            return unreadable

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._closed:
            work.close()
            raise _stopped()
        return self._loop.begin(work)

    # -- in the loop's thread ----------------------------------------------------------------------------

    async def _cut(self, document: worker.Sent, body: Body, wanted: asyncio.Event) -> Cut | TargetError:
        request = self._ask_cut(document, wanted)
        document = replace(document, content=None)  # only the request keeps the bytes, until they are sent
        outcome = await request
        if (
            outcome is None
        ):  # at this path the workers see different bytes, or none: send those that the host read
            try:
                request = self._ask_cut(_with_content(document, body), wanted)
            except OSError as error:
                return scratch_error(error)
            except ValueError as error:  # the body was closed, and no caller is waiting
                return Unavailable(f"the document's bytes cannot be read again ({error})")
            outcome = await request
        assert outcome is not None
        return outcome

    async def _ask_cut(self, document: worker.Sent, wanted: asyncio.Event) -> Cut | TargetError | None:
        """Return the outcome for a document, or None if the workers can't read its bytes."""
        request = self._ask("cut", worker.cut, self._versions, document, wanted=wanted)
        del document
        try:
            response = await request
        except KilledWorkers as error:
            await self._check_harmless(error, "cut", worker.cut, self._versions, _HARMLESS)
            # The workers may have died for another reason, so the document is sent again a limited number of
            # times (promise 9).
            reason = f"{error} while reading the document; see the logs of the cluster's workers"
            return Rejected(reason, code="workers-killed", may_pass=True)
        outcome: Cut | TargetError | None = pickle.loads(response)  # noqa: S301 (from our own worker)
        return outcome

    async def _vectors(
        self, recipe: bytes, model: str, texts: Sequence[tuple[str, str]], priority: int
    ) -> Vectors:
        versions = {**self._versions, "model": model}
        try:
            response = await self._ask("embed", worker.embed, versions, (recipe, texts), priority)
            vectors: Vectors = pickle.loads(response)  # noqa: S301 (as above)
            return vectors
        except KilledWorkers as error:
            if len(texts) == 1:
                harmless = (recipe, [("", "word " * (len(texts[0][1]) // 5 + 1))])  # about as long
                await self._check_harmless(error, "embed", worker.embed, versions, harmless)
                reason = f"{error} while embedding the text; see the logs of the cluster's workers"
                return {texts[0][0]: Rejected(reason, code="workers-killed", may_pass=True)}
        # One of the texts may be to blame: separate requests show which.
        middle = len(texts) // 2
        head = await self._vectors(recipe, model, texts[:middle], priority)
        return {**head, **await self._vectors(recipe, model, texts[middle:], priority)}

    async def _check_harmless(
        self,
        killed: KilledWorkers,
        name: str,
        function: Callable[..., worker.Answer],
        versions: worker.Versions,
        harmless: object,
    ) -> None:
        """Raise `Unavailable` if even a harmless task kills workers. If so, no document is to blame."""
        try:
            await self._ask(name, function, versions, harmless)
        except KilledWorkers:
            reason = (
                f"{killed} on every document they tried; see their logs (the usual cause is too little "
                "memory)"
            )
            raise Unavailable(reason, code="workers-killed") from None

    async def _ask(
        self,
        name: str,
        function: Callable[..., worker.Answer],
        versions: worker.Versions,
        arguments: object,
        # Reading is short and provides work for vectors, so it goes first. Vectors of an earlier put go
        # before those of a later one, so puts finish one after another, and the next one is read in the
        # meantime.
        priority: int = 0,
        wanted: asyncio.Event | None = None,
    ) -> Any:
        """Return a worker's pickled result, fetched once `wanted` is set. Raises `TargetError` or
        `KilledWorkers`.
        """
        call = [pickle.dumps(worker.Call(function, versions, pickle.dumps(arguments)))]
        del arguments
        request = asyncio.ensure_future(self._call_worker(name, call, priority, wanted))
        self._asking.add(request)
        try:
            kind, *details = await request
        except asyncio.CancelledError:
            if self._closed:
                raise _stopped() from None
            raise
        finally:
            self._asking.discard(request)
        if kind == worker.DIFFERS:
            raise self._unfit(self._difference(versions, *details))
        if kind == worker.FAILED:
            raise pickle.loads(details[0])  # noqa: S301 (from our own worker)
        return details[0]

    async def _call_worker(
        self, name: str, call: list[bytes], priority: int, wanted: asyncio.Event | None
    ) -> worker.Answer:
        from distributed import CancelledError as TaskCancelled
        from distributed import KilledWorker

        session = await self._connect()
        # The bytes are part of the task, so Dask can run it again after its worker died.
        key = f"kbsync-{name}-{uuid.uuid4().hex}"
        future = session.client.submit(pickle.loads, call.pop(), key=key, pure=False, priority=priority)
        task = asyncio.ensure_future(_fetch(future, wanted))
        try:
            await asyncio.wait({task, session.lost}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise copy(session.lost.result())
            response: worker.Answer = task.result()
            return response
        except TargetError:
            raise
        except KilledWorker as error:
            workers = format_count(error.allowed_failures + 1, "worker")
            raise KilledWorkers(f"{workers} of the cluster died") from error
        except (ImportError, AttributeError) as error:
            raise await self._explain_missing(session, error) from error
        except (TaskCancelled, OSError) as error:
            raise self._lost(error) from error
        except Exception as error:  # Dask's errors have many classes and no common base
            reason = f"the Dask cluster at {self._config.address} failed ({type(error).__name__}: {error})"
            raise Unavailable(reason, code="cluster") from error
        finally:
            task.cancel()
            future.release()  # Dask doesn't start a task that nobody wants

    async def _connect(self) -> _Session:
        """Return the session, or a new one if the last one was lost. Raises `Unavailable`."""
        self._connecting = self._connecting or asyncio.Lock()
        async with self._connecting:
            if self._closed:
                raise _stopped()
            session = self._session
            if session is not None:
                if session.client.status == "running" and not session.lost.done():
                    return session
                await self._end(session, self._lost(ConnectionError("the connection was lost")))
            if self._failed is not None and asyncio.get_running_loop().time() < self._failed[0]:
                raise copy(self._failed[1])
            # kbsync awaits its own futures; Dask abandons its futures when a connection breaks.
            distributed_log = logging.getLogger("distributed")
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: distributed_log.error(
                    context["message"], exc_info=context.get("exception")
                )
            )
            try:
                client = await _client(self._config.address, self._connect_within)
            except Exception as error:  # Dask has a class for each: no route, no certificate, unknown scheme
                reason = (
                    f"the Dask scheduler at {self._config.address} isn't responding ({_error_text(error)})"
                )
                failure = Unavailable(reason, code="no-scheduler")
                self._failed = (asyncio.get_running_loop().time() + _FAILED_FOR, failure)
                # Raise a copy, because the traceback of the original would keep all unsent data in memory.
                raise copy(failure) from error
            self._failed = None
            session = self._session = _Session(client, asyncio.get_running_loop().create_future())
            session.watch = asyncio.create_task(self._watch(session))
            return session

    async def _watch(self, session: _Session) -> None:
        """End all work if the scheduler has been suspended, or has had no workers, for too long."""
        clock = asyncio.get_running_loop().time
        had_workers = clock()
        while not session.lost.done():
            await asyncio.sleep(LOOK_EVERY)
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    # A worker paused because its memory is full starts nothing.
                    workers = await session.client.scheduler.ncores_running()
            except OSError as error:  # includes timeouts
                session.lost.set_result(self._lost(error))
                return
            if workers or not self._asking:
                had_workers = clock()
            elif clock() - had_workers >= WORKERS_WITHIN:
                reason = f"the Dask scheduler at {self._config.address} has no workers; start at least one"
                session.lost.set_result(Unavailable(reason, code="no-workers"))

    async def _survey(self) -> ClusterState:
        session = await self._connect()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                workers: Mapping[str, int] = await session.client.scheduler.ncores_running()
                versions = await self._worker_versions(session)
        except OSError as error:
            raise self._lost(error) from error
        unfit = [
            self._missing_kbsync(address, version)
            if isinstance(version, BaseException)
            else self._difference(self._versions, address, version)
            for address, version in versions.items()
            if version != self._versions
        ]
        return ClusterState(len(workers), sum(workers.values()), unfit)

    async def _worker_versions(self, session: _Session) -> Mapping[str, Any]:
        """Return a dict from the address of each worker to its versions or the error that it raised."""
        call = pickle.dumps(worker.Call(worker.versions))
        versions: Mapping[str, Any] = await session.client.run(pickle.loads, call, on_error="return")
        return versions

    async def _explain_missing(self, session: _Session, error: Exception) -> TargetError:
        """Return the error for a worker that lacks kbsync or one of its functions.

        The error names the worker.
        """
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                versions = await self._worker_versions(session)
        except OSError as lost:
            return self._lost(lost)
        failures = {
            address: failure for address, failure in versions.items() if isinstance(failure, BaseException)
        }
        address, failure = next(iter(failures.items()), ("of the cluster", error))
        return self._unfit(self._missing_kbsync(address, failure))

    def _difference(self, expected: worker.Versions, address: str, actual: worker.Versions) -> str:
        names = [name for name in actual if actual[name] != expected.get(name)]
        has, needs = (
            ", ".join(f"{name} {versions.get(name, '?')}" for name in names)
            for versions in (actual, expected)
        )
        return f"worker {address} has {has}, but this host has {needs}"

    def _missing_kbsync(self, address: str, error: BaseException) -> str:
        return f"worker {address} cannot run kbsync {__version__} ({error})"

    def _unfit(self, reason: str) -> Halted:
        fix = f"install kbsync {__version__} on every worker in the cluster, then restart the workers"
        return Halted("workers-differ", reason, fix=fix)

    def _lost(self, error: BaseException) -> Unavailable:
        reason = (
            f"the Dask scheduler at {self._config.address} is gone or isn't responding ({_error_text(error)})"
        )
        return Unavailable(reason, code="scheduler-lost")

    async def _end(self, session: _Session, reason: Unavailable) -> None:
        self._session = None
        if session.watch is not None:
            session.watch.cancel()
        if not session.lost.done():
            session.lost.set_result(reason)
        with suppress(OSError, RuntimeError):
            await session.client._close(fast=True)

    async def _aclose(self) -> None:
        for request in list(self._asking):
            request.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        if self._session is not None:
            await self._end(self._session, _stopped())


class ClusterEncoder:
    """An `Encoder` that embeds passages on the cluster and questions on this host."""

    at_once = PASSAGES_AT_ONCE

    def __init__(self, cluster: DaskCluster, local: Encoder, recipe: Callable[[], Encoder]) -> None:
        """Store the local encoder. `recipe` can be pickled, and creates the same encoder on a worker."""
        self._cluster, self._local, self._recipe = cluster, local, pickle.dumps(recipe)
        self.takes_pictures = local.takes_pictures

    @property
    def model(self) -> str:
        """The name of the model, which must be the same on the workers.

        Workers with a different model are refused.
        """
        return self._local.model

    @property
    def least_cosine(self) -> float | None:
        """The local encoder's minimum cosine."""
        return self._local.least_cosine

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Return pending vectors from the cluster or, while the cluster is lost, vectors computed on this
        host.
        """
        if self._cluster.is_away():
            return self._local.begin(chunks)
        remote = self._cluster.vectors(self._recipe, self.model, chunks)
        return _VectorsOrHere(remote, self._cluster, partial(self._local.begin, chunks))

    def query(self, text: str) -> Vector:
        """Return a question's vector. No search waits for the cluster: this host computes the vector."""
        return self._local.query(text)

    def close(self) -> None:
        """Close the local encoder."""
        self._local.close()


class _VectorsOrHere(Future[Vectors]):
    """Vectors that a cluster is computing.

    If the cluster is lost in the meantime, this host computes them.
    """

    def __init__(
        self, remote: Future[Vectors], cluster: DaskCluster, make_local: Callable[[], Future[Vectors]]
    ) -> None:
        super().__init__()
        self._remote, self._cluster, self._make_local = remote, cluster, make_local

    def result(self, timeout: float | None = None) -> Vectors:
        """Return the vectors.

        If this host has to compute them, the call takes a long time and blocks the calling thread.
        """
        try:
            return self._remote.result(timeout)
        except Unavailable as error:
            if not self._cluster.lose(error):
                raise
            return self._make_local().result(timeout)

    def cancel(self) -> bool:
        """Cancel the request."""
        return self._remote.cancel()


async def _client(address: str, within: float) -> Client:
    """Return a connected client.

    Raises OSError and other errors, after closing everything that was opened.
    """
    import dask
    import distributed

    # distributed logs to stderr; kbsync raises and logs the same errors itself.
    for name in [*logging.root.manager.loggerDict, "distributed"]:
        if name == "distributed" or name.startswith("distributed."):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.CRITICAL)
    # A document is one task, however large, and Dask would warn about each large one.
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "8 GiB"})
    # Dask reads TLS and all other settings from its own files and variables.
    client = distributed.Client(
        address, asynchronous=True, set_as_default=False, timeout=within, name="kbsync"
    )
    # These warnings are about Dask's dependencies; each task compares the versions that matter to kbsync.
    warnings.filterwarnings("ignore", category=distributed.versions.VersionMismatchWarning)
    try:
        await client
    except BaseException:
        await client._close(fast=True)
        raise
    return client


async def _set_event(wanted: asyncio.Event) -> None:
    wanted.set()


async def _fetch(future: Any, wanted: asyncio.Event | None) -> Any:
    if wanted is not None:
        await wanted.wait()
    return await future.result()


def _with_content(document: worker.Sent, body: Body) -> worker.Sent:
    """Return the document with its bytes. Raises OSError."""
    with body.open() as stream:
        return replace(document, content=stream.read(), worker_path="")


def _result(future: Future[T]) -> T:
    try:
        return future.result()
    except CancelledError:
        raise _stopped() from None


def _stopped() -> Unavailable:
    return Unavailable("work with the Dask cluster was stopped", code="cluster-closed")


def _error_text(error: BaseException) -> str:
    return str(error) or type(error).__name__
