"""The host's side of a Dask cluster: sends documents and passages, waits for what is made of them.

A task is one document, a few small texts, or a few passages. One whose worker ends is run again by Dask,
elsewhere; where the scheduler is lost all are given up with `Unavailable`, and the engine sends the documents
again. So nothing that happens to the cluster is a document's fault, but to end several workers in a row.
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
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import closing, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kbsync import __version__, install_command
from kbsync.contract.target import Body, Cluster
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, UsageError
from kbsync.index.cluster import worker
from kbsync.index.document import Chunk, Cut, Entry
from kbsync.index.embed import Encoder, Vectors
from kbsync.index.errors import trouble_with_scratch
from kbsync.index.loop_thread import LoopThread
from kbsync.index.pipeline import Cutter
from kbsync.index.read.formats import needs_parser

if TYPE_CHECKING:
    import numpy as np
    from distributed import Client
    from numpy.typing import NDArray

T = TypeVar("T")

_log = logging.getLogger(__name__)

PASSAGES_AT_ONCE = 8
"""Of a task that makes vectors: a heavy model takes half a second for them, so all workers end together."""

TEXTS_AT_ONCE, TEXTS_BYTES = 8, 64 * 1024
"""Of a task that cuts texts: a task costs Dask some milliseconds, and a small text less than one."""

CONNECT_WITHIN = 10.0
LOOK_EVERY = 5.0
ANSWER_WITHIN = 30.0
"""Seconds. A scheduler that is asleep keeps its connections, so it is asked now and then."""
WORKERS_WITHIN = 600.0
"""Seconds without any worker until the documents are put off. An adaptive cluster starts workers for tasks,
which may take minutes, and cancels them with the tasks."""

AWAY_FOR = 60.0
"""Seconds for which this host does the work of a cluster that is away, before the cluster is tried again."""

_AWAY = ("no-scheduler", "scheduler-lost", "no-workers")

_FAILED_FOR = 1.0
"""Seconds for which a scheduler that was not there is not tried again: others wait for it too."""

_HARMLESS = worker.Sent("kbsync.txt", 4, hashlib.sha256(b"word").hexdigest(), b"word")
"""What no worker can end over."""

_Document = tuple[Entry, Body]
_Part = tuple[int, Future[Sequence[Cut | TargetError]], asyncio.Event]
"""Its bytes, what becomes of it, and whether that is wanted: until then it stays with the worker."""


class KilledWorkers(Exception):
    """Dask gave a task up: every worker that had it ended. `str()` says how many."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What a cluster is just now. `unfit`: what is wrong with workers that differ from this host."""

    workers: int
    threads: int
    unfit: Sequence[str]


@dataclass(eq=False, slots=True)
class _Session:
    """One connection to a scheduler; of no more use once `lost` says why."""

    client: Client
    lost: asyncio.Future[Unavailable]
    watch: asyncio.Task[None] | None = None


@dataclass
class _Room:
    """The bytes that may be on their way. Thread-safe."""

    most: int
    taken: int = 0
    is_closed: bool = False
    waiting: deque[object] = field(default_factory=deque)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, size: int, *, wait: bool) -> bool:
        """Whether there was room; `wait` for it, which only who holds none may do.

        One that is larger than all of the room is taken when there is nothing else. Nobody passes who waits.
        """
        with self.changed:
            if not wait and (self.waiting or not self._has(size)):
                return False
            own = object()
            self.waiting.append(own)
            while not self.is_closed and (self.waiting[0] is not own or not self._has(size)):
                self.changed.wait()
            self.waiting.remove(own)
            self.taken += size
            self.changed.notify_all()
            return True

    def _has(self, size: int) -> bool:
        return not self.taken or self.taken + size <= self.most

    def give(self, size: int) -> None:
        """So much arrived, or is given up."""
        with self.changed:
            self.taken -= size
            self.changed.notify_all()

    def close(self) -> None:
        """Nobody waits any more."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()


class DaskCluster:
    """The cluster of one mirror. Connects when the first document comes. Safe to use from several threads."""

    def __init__(self, config: Cluster, connect_within: float = CONNECT_WITHIN) -> None:
        """No connection is made. Raises `UsageError` where distributed is not installed."""
        from importlib.util import find_spec

        if find_spec("distributed") is None:
            raise UsageError(
                "prepare.dask needs the package distributed; install it beside kbsync: "
                + install_command("distributed")
            )
        self._config, self._connect_within = config, connect_within
        self._versions = worker.versions()
        self._loop = LoopThread("kbsync-dask")
        self._room = _Room(config.bytes_in_flight)
        self._closed = False
        # A put cuts and has vectors made in one thread.
        self._numbers, self._put, self._puts = itertools.count(1), threading.local(), set[int]()
        # Used in the loop's thread only.
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
        """That it is away, for a person; "" while it is there."""
        away = self._away
        return "" if away is None else f"{away.reason}; this host does its work meanwhile"

    def is_away(self) -> bool:
        """This host does the work: the cluster was lost, and no look has found it again."""
        if self._away is None or time.monotonic() < self._away_until:
            return self._away is not None
        if self._trying.acquire(blocking=False):  # the others go on here while one thread looks
            try:
                if self.look().workers:
                    self._away = None
            except Unavailable as error:
                self.lose(error)
            finally:
                self._away_until = time.monotonic() + AWAY_FOR
                self._trying.release()
        return self._away is not None

    def lose(self, error: Unavailable) -> bool:
        """Whether that says that the cluster is away; then this host does the work for a while."""
        if error.code not in _AWAY:
            return False
        if self._away is None:
            _log.warning(
                "%s; this host does its work meanwhile", error.reason, extra={"event": "cluster.lost"}
            )
        self._away, self._away_until = copy(error), time.monotonic() + AWAY_FOR
        return True

    def cut_or(self, here: Cutter) -> Cutter:
        """Cuts on the cluster, and `here` what that leaves undone while it is away."""

        def cut(documents: Sequence[tuple[Entry, Body]]) -> Generator[Cut | TargetError]:
            done = 0
            if not self.is_away():
                try:
                    with closing(self.cut(documents)) as outcomes:
                        for outcome in outcomes:
                            done += 1
                            yield outcome
                except Unavailable as error:
                    if not self.lose(error):
                        raise
            yield from here(documents[done:])

        return cut

    # -- called from threads of the mirror ---------------------------------------------------------------

    def cut(self, documents: Sequence[tuple[Entry, Body]]) -> Generator[Cut | TargetError]:
        """`pipeline.Cutter`: all that there is room for are under way while the first is waited for."""
        number = self._put.number = next(self._numbers)
        self._puts.add(number)
        waiting, under_way, held = deque(self._shared_out(documents)), deque[_Part](), 0
        try:
            while waiting or under_way:
                while waiting and self._room.take(_size_of(waiting[0]), wait=not under_way):
                    held += _size_of(waiting[0])
                    size, wanted = _size_of(waiting[0]), asyncio.Event()
                    under_way.append((size, self._begin_cut(waiting.popleft(), wanted), wanted))
                size, begun, wanted = under_way[0]
                self._begin(_want(wanted))
                outcomes = _result(begun)
                under_way.popleft()
                self._room.give(size)
                held -= size
                yield from outcomes
        finally:
            self._puts.discard(number)
            for _, begun, _ in under_way:
                begun.cancel()
            self._room.give(held)

    def vectors(self, recipe: bytes, model: str, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Vectors under way, made by the encoder that the pickled `recipe` makes on a worker."""
        texts = [(each.key, each.embed_text) for each in chunks]
        own = getattr(self._put, "number", 0)
        # Among the puts under way, so that no mirror goes before another for what it did long ago.
        rank = sum(each < own for each in list(self._puts))
        return self._begin(self._vectors(recipe, model, texts, -1 - rank))

    def look(self) -> ClusterState:
        """What there is now. Raises `Unavailable`."""
        return _result(self._begin(self._looked()))

    def close(self) -> None:
        """Give up what is under way, with `Unavailable`, and let go of the connection; repeatable."""
        self._closed = True
        self._room.close()
        self._loop.close(self._aclose())

    def _shared_out(self, documents: Sequence[_Document]) -> Iterator[list[_Document]]:
        """Each document for itself, but small texts a few together."""
        texts, most = list[_Document](), min(TEXTS_BYTES, self._config.bytes_in_flight)
        for entry, body in documents:
            is_small = body.size <= most and not needs_parser(entry.path)
            fits = len(texts) < TEXTS_AT_ONCE and _size_of(texts) + body.size <= most
            if texts and not (is_small and fits):
                yield texts
                texts = []
            texts.append((entry, body))
        if texts:
            yield texts

    def _begin_cut(
        self, documents: Sequence[_Document], wanted: asyncio.Event
    ) -> Future[Sequence[Cut | TargetError]]:
        sent = list[tuple[worker.Sent, Body] | TargetError]()
        for entry, body in documents:
            document = worker.Sent(entry.path, body.size, entry.digest, None, self._place(entry.path))
            try:
                sent.append((document if self._config.folder else _with_content(document, body), body))
            except OSError as error:
                sent.append(trouble_with_scratch(error))
        return self._begin(self._cut(sent, wanted))

    def _place(self, path: str) -> str:
        return f"{self._config.folder.rstrip('/')}/{path}" if self._config.folder else ""

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._closed:
            work.close()
            raise _stopped()
        return self._loop.begin(work)

    # -- in the loop's thread ----------------------------------------------------------------------------

    async def _cut(
        self,
        documents: Sequence[tuple[worker.Sent, Body] | TargetError],
        wanted: asyncio.Event | None = None,
    ) -> Sequence[Cut | TargetError]:
        sent = [each[0] for each in documents if not isinstance(each, TargetError)]
        if not sent:
            return [each for each in documents if isinstance(each, TargetError)]
        try:
            asking = self._ask("cut", worker.cut, self._versions, sent, wanted=wanted)
            # What was sent is with the scheduler: it is not kept here too.
            documents = [
                each if isinstance(each, TargetError) else (replace(each[0], content=None), each[1])
                for each in documents
            ]
            del sent
            answer = await asking
        except KilledWorkers as error:
            if len(documents) == 1:
                await self._prove(error, "cut", worker.cut, self._versions, [_HARMLESS])
                # Others may have ended them: it is sent again, a bounded number of times (promise 9).
                reason = f"{error} while they read it; see the log of the cluster's workers"
                return [Rejected(reason, code="workers-killed", may_pass=True)]
            middle = len(documents) // 2
            first = await self._cut([_filled_again(each) for each in documents[:middle]])
            return [*first, *await self._cut([_filled_again(each) for each in documents[middle:]])]
        made: Iterator[Cut | TargetError | None] = iter(pickle.loads(answer))  # noqa: S301 (of a worker of ours)
        outcomes = [each if isinstance(each, TargetError) else next(made) for each in documents]
        # The workers see other bytes at these paths, or none: those that the host read are sent.
        missing = [each for each, outcome in zip(documents, outcomes, strict=True) if outcome is None]
        again = iter(await self._cut([_filled(*each) for each in missing if isinstance(each, tuple)]))
        return [next(again) if outcome is None else outcome for outcome in outcomes]

    async def _vectors(
        self, recipe: bytes, model: str, texts: Sequence[tuple[str, str]], priority: int
    ) -> Vectors:
        versions = {**self._versions, "model": model}
        try:
            answer = await self._ask("embed", worker.embed, versions, (recipe, texts), priority)
            made: Vectors = pickle.loads(answer)  # noqa: S301 (as above)
            return made
        except KilledWorkers as error:
            if len(texts) == 1:
                harmless = (recipe, [("", "word " * (len(texts[0][1]) // 5 + 1))])  # about as long
                await self._prove(error, "embed", worker.embed, versions, harmless)
                reason = f"{error} while they made its vectors; see the log of the cluster's workers"
                return {texts[0][0]: Rejected(reason, code="workers-killed", may_pass=True)}
        # One of them may be to blame: which one shows when they are asked for apart.
        middle = len(texts) // 2
        first = await self._vectors(recipe, model, texts[:middle], priority)
        return {**first, **await self._vectors(recipe, model, texts[middle:], priority)}

    async def _prove(
        self,
        killed: KilledWorkers,
        name: str,
        function: Callable[..., worker.Answer],
        versions: worker.Versions,
        harmless: object,
    ) -> None:
        """Raises `Unavailable` where workers end over harmless work too: then no document is to blame."""
        try:
            await self._ask(name, function, versions, harmless)
        except KilledWorkers:
            reason = f"{killed}, whatever they were given; see their log (often they have too little memory)"
            raise Unavailable(reason, code="workers-killed") from None

    async def _ask(
        self,
        name: str,
        function: Callable[..., worker.Answer],
        versions: worker.Versions,
        sent: object,
        # Reading is short and gives work to those who make vectors: it goes first. Vectors of an earlier put
        # go before those of a later one: so puts end one after the other, and the next is read meanwhile.
        priority: int = 0,
        wanted: asyncio.Event | None = None,
    ) -> Any:
        """What a worker made, pickled, once it is `wanted`. Raises `TargetError` and `KilledWorkers`."""
        call = [pickle.dumps(worker.Call(function, versions, pickle.dumps(sent)))]
        del sent
        asked = asyncio.ensure_future(self._asked(name, call, priority, wanted))
        self._asking.add(asked)
        try:
            kind, *said = await asked
        except asyncio.CancelledError:
            if self._closed:
                raise _stopped() from None
            raise
        finally:
            self._asking.discard(asked)
        if kind == worker.DIFFERS:
            raise self._unfit(self._difference(versions, *said))
        if kind == worker.FAILED:
            raise pickle.loads(said[0])  # noqa: S301 (of a worker of ours)
        return said[0]

    async def _asked(
        self, name: str, call: list[bytes], priority: int, wanted: asyncio.Event | None
    ) -> worker.Answer:
        from distributed import CancelledError as TaskCancelled
        from distributed import KilledWorker

        session = await self._connected()
        # The bytes are part of the task, so that Dask can run it again wherever its worker ended.
        key = f"kbsync-{name}-{uuid.uuid4().hex}"
        future = session.client.submit(pickle.loads, call.pop(), key=key, pure=False, priority=priority)
        task = asyncio.ensure_future(_fetched(future, wanted))
        try:
            await asyncio.wait({task, session.lost}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise copy(session.lost.result())
            answer: worker.Answer = task.result()
            return answer
        except TargetError:
            raise
        except KilledWorker as error:
            raise KilledWorkers(f"{error.allowed_failures + 1} workers of the cluster ended") from error
        except (ImportError, AttributeError) as error:
            raise await self._lacking(session, error) from error
        except (TaskCancelled, OSError) as error:
            raise self._lost(error) from error
        except Exception as error:  # Dask's own trouble has many classes and no common base
            reason = f"the Dask cluster at {self._config.address} failed ({type(error).__name__}: {error})"
            raise Unavailable(reason, code="cluster") from error
        finally:
            task.cancel()
            future.release()  # where nobody wants it any more, it is not begun

    async def _connected(self) -> _Session:
        """The session, a new one where the last was lost. Raises `Unavailable`."""
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
            # What we begin we wait for; Dask leaves futures of its own behind when a connection breaks.
            asyncio.get_running_loop().set_exception_handler(_told_elsewhere)
            try:
                client = await _client(self._config.address, self._connect_within)
            except Exception as error:  # Dask has a class for each: no route, no certificate, no such scheme
                reason = f"no Dask scheduler answers at {self._config.address} ({_said(error)})"
                failure = Unavailable(reason, code="no-scheduler")
                self._failed = (asyncio.get_running_loop().time() + _FAILED_FOR, failure)
                # A copy: with its traceback it would keep all that was to be sent.
                raise copy(failure) from error
            self._failed = None
            session = self._session = _Session(client, asyncio.get_running_loop().create_future())
            session.watch = asyncio.create_task(self._watch(session))
            return session

    async def _watch(self, session: _Session) -> None:
        """Give all up where the scheduler sleeps, or has had no worker for too long."""
        clock = asyncio.get_running_loop().time
        had_workers = clock()
        while not session.lost.done():
            await asyncio.sleep(LOOK_EVERY)
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    # One that is paused, since its memory is full, begins nothing.
                    workers = await session.client.scheduler.ncores_running()
            except OSError as error:  # also what was too late
                session.lost.set_result(self._lost(error))
                return
            if workers or not self._asking:
                had_workers = clock()
            elif clock() - had_workers >= WORKERS_WITHIN:
                reason = f"the Dask scheduler at {self._config.address} has no workers; start some there"
                session.lost.set_result(Unavailable(reason, code="no-workers"))

    async def _looked(self) -> ClusterState:
        session = await self._connected()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                workers: Mapping[str, int] = await session.client.scheduler.ncores_running()
                told = await self._told(session)
        except OSError as error:
            raise self._lost(error) from error
        unfit = [
            self._lack(address, said)
            if isinstance(said, BaseException)
            else self._difference(self._versions, address, said)
            for address, said in told.items()
            if said != self._versions
        ]
        return ClusterState(len(workers), sum(workers.values()), unfit)

    async def _told(self, session: _Session) -> Mapping[str, Any]:
        """The versions of each worker by its address, or what it raised instead."""
        call = pickle.dumps(worker.Call(worker.versions))
        told: Mapping[str, Any] = await session.client.run(pickle.loads, call, on_error="return")
        return told

    async def _lacking(self, session: _Session, error: Exception) -> TargetError:
        """Some worker has no kbsync, or one without these functions: which?"""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                told = await self._told(session)
        except OSError as lost:
            return self._lost(lost)
        lacking = {address: said for address, said in told.items() if isinstance(said, BaseException)}
        address, said = next(iter(lacking.items()), ("of the cluster", error))
        return self._unfit(self._lack(address, said))

    def _difference(self, own: worker.Versions, address: str, found: worker.Versions) -> str:
        names = [name for name in found if found[name] != own.get(name)]
        has, wanted = (", ".join(f"{name} {each.get(name, '?')}" for name in names) for each in (found, own))
        return f"worker {address} has {has}, this host has {wanted}"

    def _lack(self, address: str, error: BaseException) -> str:
        return f"worker {address} cannot run kbsync {__version__} ({error})"

    def _unfit(self, reason: str) -> Halted:
        cure = f"install kbsync {__version__} on every worker of the cluster, and start the workers again"
        return Halted("workers-differ", reason, cure=cure)

    def _lost(self, error: BaseException) -> Unavailable:
        reason = f"the Dask scheduler at {self._config.address} is gone or does not answer ({_said(error)})"
        return Unavailable(reason, code="scheduler-lost")

    async def _end(self, session: _Session, why: Unavailable) -> None:
        self._session = None
        if session.watch is not None:
            session.watch.cancel()
        if not session.lost.done():
            session.lost.set_result(why)
        with suppress(OSError, RuntimeError):
            await session.client._close(fast=True)

    async def _aclose(self) -> None:
        for each in list(self._asking):
            each.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        if self._session is not None:
            await self._end(self._session, _stopped())


class ClusterEncoder:
    """`Encoder` whose passages get their vectors on the cluster, and whose questions get theirs here."""

    at_once = PASSAGES_AT_ONCE

    def __init__(self, cluster: DaskCluster, local: Encoder, recipe: Callable[[], Encoder]) -> None:
        """`recipe` makes on a worker what `local` is here; it can be pickled."""
        self._cluster, self._local, self._recipe = cluster, local, pickle.dumps(recipe)
        self.takes_pictures = local.takes_pictures

    @property
    def model(self) -> str:
        """The same name here and there, or the workers are refused."""
        return self._local.model

    @property
    def least_cosine(self) -> float:
        """As here."""
        return self._local.least_cosine

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        """Vectors under way on the cluster, or made here while it is away."""
        if self._cluster.is_away():
            return self._local.begin(chunks)
        there = self._cluster.vectors(self._recipe, self.model, chunks)
        return _VectorsOrHere(there, self._cluster, partial(self._local.begin, chunks))

    def query(self, text: str) -> NDArray[np.float32]:
        """The vector of a question: nobody who searches waits for the cluster."""
        return self._local.query(text)

    def close(self) -> None:
        """Let go of what makes vectors here."""
        self._local.close()


class _VectorsOrHere(Future[Vectors]):
    """Vectors under way on a cluster, which are made here where that is lost meanwhile."""

    def __init__(
        self, there: Future[Vectors], cluster: DaskCluster, here: Callable[[], Future[Vectors]]
    ) -> None:
        super().__init__()
        self._there, self._cluster, self._here = there, cluster, here

    def result(self, timeout: float | None = None) -> Vectors:
        """In the thread of who waits: making them takes long."""
        try:
            return self._there.result(timeout)
        except Unavailable as error:
            if not self._cluster.lose(error):
                raise
            return self._here().result(timeout)

    def cancel(self) -> bool:
        """Nobody wants them any more."""
        return self._there.cancel()


async def _client(address: str, within: float) -> Client:
    """A client that is connected. Raises OSError and others; what it began is let go of then."""
    import dask
    import distributed

    _quieten()
    # A document is one task, however large: Dask would warn of each large one.
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "8 GiB"})
    # TLS and all else by Dask's own files and variables, which it reads by itself.
    client = distributed.Client(
        address, asynchronous=True, set_as_default=False, timeout=within, name="kbsync"
    )
    # Of other versions of what Dask needs: whether kbsync's own are equal each task tells.
    warnings.filterwarnings("ignore", category=distributed.versions.VersionMismatchWarning)
    try:
        await client
    except BaseException:
        await client._close(fast=True)
        raise
    return client


def _quieten() -> None:
    """What concerns us is raised and told in our own words; distributed would log it once more, to stderr."""
    for name in [*logging.root.manager.loggerDict, "distributed"]:
        if name == "distributed" or name.startswith("distributed."):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.CRITICAL)


def _told_elsewhere(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    logging.getLogger("distributed").error(context["message"], exc_info=context.get("exception"))


async def _want(wanted: asyncio.Event) -> None:
    wanted.set()


async def _fetched(future: Any, wanted: asyncio.Event | None) -> Any:
    if wanted is not None:
        await wanted.wait()
    return await future.result()


def _size_of(documents: Sequence[_Document]) -> int:
    return sum(body.size for _, body in documents)


def _filled(document: worker.Sent, body: Body) -> tuple[worker.Sent, Body] | TargetError:
    try:
        return _with_content(document, body), body
    except (OSError, ValueError) as error:  # ValueError: the body was closed, nobody waits any more
        return Unavailable(f"its bytes cannot be read again ({error})")


def _filled_again(document: tuple[worker.Sent, Body] | TargetError) -> tuple[worker.Sent, Body] | TargetError:
    """One that is sent once more: with its bytes, unless the workers read it themselves."""
    return document if isinstance(document, TargetError) or document[0].place else _filled(*document)


def _with_content(document: worker.Sent, body: Body) -> worker.Sent:
    """The document with its bytes. Raises OSError."""
    with body.open() as stream:
        return replace(document, content=stream.read(), place="")


def _result(begun: Future[T]) -> T:
    try:
        return begun.result()
    except CancelledError:
        raise _stopped() from None


def _stopped() -> Unavailable:
    return Unavailable("the work with the Dask cluster was stopped", code="cluster-closed")


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
