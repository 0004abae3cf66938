"""A folder, a state, a knowledge base in memory, and a clock that advances only when everything else
waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbsync.contract.target import Limits
from kbsync.core.lifecycle import MAX_PAUSES
from kbsync.core.model import Upload, UploadState
from kbsync.engine.clock import end_tasks
from kbsync.engine.mirror import BoundMirror, Mirror, RunContext
from kbsync.engine.settings import MirrorIdentity, MirrorSettings
from kbsync.once import PassEnd, run_once
from kbsync.state import read_only
from kbsync.state.approvals import DELETIONS, RENEWALS
from kbsync.state.files import digest_of
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore, _Job
from kbsync.state.uploads import Uploads
from tests.core.invariants import TRANSITIONS, breaches
from tests.crash.harness import Guillotine, Work
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Crash
from tests.memory.target import DEFAULT_LIMITS, MemoryTarget

save_unchecked = Uploads.save
"""For tests that create rows as an earlier version left them."""


def _save_checked(uploads: Uploads, upload: Upload) -> None:
    """Save a row, and check that the lifecycle's diagram has this transition."""
    before = uploads.get(upload.id)
    if before is not None and before.state is not upload.state:
        assert upload.state in TRANSITIONS[before.state], f"{before.state.name} to {upload.state.name}"
    # A due time must not mean years of waiting after the clock is set back (`Uploads.bring_forward`).
    assert upload.due_at is None or upload.state in MAX_PAUSES, f"{upload.state.name} is due"
    save_unchecked(uploads, upload)


Uploads.save = _save_checked  # type: ignore[method-assign]


class CountingExecutor(ThreadPoolExecutor):
    """Counts the calls in progress."""

    def __init__(self) -> None:
        super().__init__(8)
        self.loop = asyncio.get_running_loop()
        self.under_way = 0
        self._ended = asyncio.Event()

    def submit(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.under_way += 1
        future = super().submit(*args, **kwargs)
        self.follow(future)
        return future

    def take_over(self) -> None:
        """Use these threads for the loop's calls."""
        self.loop.set_default_executor(self)

    def follow(self, future: Any) -> None:
        """Count down once the result has reached the loop: registered last, so called last."""
        self.loop.call_soon(future.add_done_callback, self._on_done)

    def take_over_state(self, store: StateStore) -> None:
        """Count reads and writes of the state as well."""
        store.readers = Lent(self)
        submit = store.submit

        def counted(work: Any) -> Any:
            self.under_way += 1
            future = submit(work)
            self.follow(future)
            return future

        store.submit = counted  # type: ignore[method-assign]

    def _on_done(self, _: object = None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self.under_way -= 1
        self._ended.set()

    async def wait_for_call(self) -> None:
        """Wait until a call ends; only briefly if none is in progress."""
        if self.under_way == 0:
            await asyncio.sleep(0.0003)
            return
        self._ended.clear()
        await self._ended.wait()


class Inline(CountingExecutor):
    """Runs each call at once, in the loop's own thread, so that every run is the same."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock

    def take_over(self) -> None:
        """Run the loop's calls here instead of in threads."""
        in_threads = self.loop.run_in_executor

        def run(executor: Executor | None, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            return self._run(work, args) if executor is None else in_threads(executor, work, *args)

        self.loop.run_in_executor = run  # type: ignore[method-assign,assignment]

    def _run(self, work: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        future = self.loop.create_future()
        try:
            self.loop.call_soon(_give, future.set_result, work(*args))
        except BaseException as error:  # as a thread would pass it on
            self.loop.call_soon(_give, future.set_exception, error)
        self.clock.stir()
        return future

    def take_over_state(self, store: StateStore) -> None:
        """Read and write the state here too, with a separate commit each time."""

        def submit(work: Callable[[Tx], Any]) -> Future[Any]:
            job = _Job(work, Future())
            if store._broken is not None:
                job.done.set_exception(store._broken)
            else:
                store._commit_group([job])
            self.clock.stir()
            return job.done

        async def write(work: Callable[[Tx], Any]) -> Any:
            done = submit(work)
            await asyncio.sleep(0)
            return done.result()

        async def read(work: Callable[[Tx], Any]) -> Any:
            result = store.read_now(work)
            self.clock.stir()
            await asyncio.sleep(0)  # changes that others make now aren't in the response
            return result

        store.submit, store.write, store.read = submit, write, read  # type: ignore[method-assign]


def _give(give: Callable[[Any], None], what: Any) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # nobody waits for it any more
        give(what)


class Lent(Executor):
    """Another executor's threads, which continue when this one is shut down."""

    def __init__(self, executor: Executor) -> None:
        self.submit = executor.submit  # type: ignore[method-assign]


TURNS = 12
"""Turns of the loop until a result becomes some task's next step."""
STILL = 4
"""A turn counts this many times if no task is ready; each turn polls sockets."""

MAX_WAKES = 100_000
"""The most clock jumps in one life of a process; more of them mean that it never ends."""

MAX_IDLE_SECONDS = 20.0
"""Seconds of real time without sleep, work, wake-up or `outside_calls`, after which an awaited event counts
as lost.
"""

EXACTLY = 1e-6
"""Seconds: the most that a sum of times may deviate."""


class Endless(AssertionError):
    """The work doesn't end: raised instead of hanging."""


class VirtualClock:
    """A clock that jumps to the next sleeper when no thread and no task has work."""

    def __init__(self) -> None:
        self.now = 0.0
        self.epoch = time.time() + 1000.0
        self.skew = 0.0
        self._heap: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._random = random.Random(7)
        self._quiet = 0
        self.outside_calls = 0
        """The number of calls in progress for which the clock doesn't stand still, such as a browser's."""
        self.busy: Callable[[], bool] = lambda: False
        self.wait_for_call: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0.0003)

    def wall(self) -> float:
        return self.epoch + self.now + self.skew

    def steady(self) -> float:
        return self.now

    def chance(self) -> float:
        return self._random.random()

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), future))
        await future

    def ring(self, seconds: float, work: Callable[[], None]) -> None:
        """Do `work` after `seconds` even if no task wakes then."""
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: work())
        heapq.heappush(self._heap, (self.now + seconds + EXACTLY, next(self._numbers), future))

    def stir(self) -> None:
        """Note that work was done that may lead to more, so that a chain of calls doesn't look idle."""
        self._quiet = 0

    async def drive(self) -> None:
        """Drive the clock until cancelled. Raises `Endless`."""
        waiting = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        wakes, still_since = 0, time.monotonic()
        while True:
            await asyncio.sleep(0)
            self._quiet += 1 if waiting else STILL
            if self.busy():
                self.stir()
                await self.wait_for_call()
                still_since = time.monotonic()
            if self._quiet < TURNS:
                continue
            self.stir()
            while self._heap and self._heap[0][2].done():
                heapq.heappop(self._heap)
            if not self._heap:
                if self.outside_calls:
                    still_since = time.monotonic()
                elif time.monotonic() - still_since > MAX_IDLE_SECONDS:
                    raise Endless("nobody sleeps and nothing is under way: what is waited for never comes")
                await asyncio.sleep(0.0005)
                continue
            wakes, still_since = wakes + 1, time.monotonic()
            if wakes > MAX_WAKES:
                raise Endless(f"still not done after {wakes} pauses, {self.now:.0f} s by the virtual clock")
            due, _, future = heapq.heappop(self._heap)
            self.now = max(self.now, due)
            future.set_result(None)


@asynccontextmanager
async def driven(clock: VirtualClock) -> AsyncIterator[None]:
    """Run the clock; interrupt work inside that would never end. Raises `Endless`."""
    driver, inside = asyncio.create_task(clock.drive()), asyncio.current_task()
    assert inside is not None
    driver.add_done_callback(lambda _: None if driver.cancelled() else inside.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if driver.done() and not driver.cancelled():
            inside.uncancel()
            driver.result()
        raise
    finally:
        driver.cancel()
        await asyncio.gather(driver, return_exceptions=True)


def outdated_digests(tx: Tx) -> list[str]:
    """Return the directories whose rows differ from their digest, so that a scan would miss a difference."""
    return [
        f"{record.name}: {folder!r} has another digest than its rows"
        for record in tx.mirrors.all()
        for folder in tx.folders.tree(record.id, "")
        if (digest := tx.entries.digest(record.id, folder)) is not None
        and digest != digest_of(tx.entries.rows(record.id, folder))
    ]


def identities(names: Sequence[str]) -> list[MirrorIdentity]:
    """Return the mirrors of a config by their names."""
    return [MirrorIdentity(name, "") for name in names]


class World:
    """A folder, a base and a clock. `in_threads`: run blocking calls in threads, as the program does, not
    at once.
    """

    in_threads = False

    def __init__(self, tmp_path: Path, target: type[MemoryTarget] = MemoryTarget, **limits: Any) -> None:
        self.root = tmp_path / "docs"
        self.root.mkdir(exist_ok=True)
        self.state = tmp_path / "state"
        self.state.mkdir(exist_ok=True)
        self.clock = VirtualClock()
        self.base = MemoryBase(clock=self.clock.wall)
        self.target_type = target
        self.limits: Limits = replace(DEFAULT_LIMITS, **{"list_lag": 0.0, "marks": True, **limits})
        self.settings = MirrorSettings("docs", self.root, "memory")
        self.configured: tuple[str, ...] = ("docs",)
        self.runs: list[Mirror] = []
        self.breaches: list[str] = []
        self.on_commit: Callable[[str], None] | None = None
        self.store: StateStore | None = None
        self._executor: CountingExecutor | None = None

    # -- the folder ------------------------------------------------------------------------------------

    def write(self, path: str, text: str = "hello") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def write_many(self, n: int, prefix: str = "f") -> None:
        for i in range(n):
            self.write(f"{prefix}{i}.md", f"text of {prefix}{i}")

    def delete(self, *paths: str) -> None:
        for path in paths:
            (self.root / path).unlink()

    def delete_many(self, n: int, start: int = 0) -> None:
        """Delete the first files that `write_many` wrote."""
        self.delete(*(f"f{i}.md" for i in range(start, start + n)))

    def move(self, old: str, new: str) -> None:
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.root / old, self.root / new)

    def lose_state(self) -> None:
        """Delete all files but no folders: one of them contains the built-in knowledge base."""
        for file in self.state.iterdir():
            if file.is_file():
                file.unlink()

    # -- running ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StateStore]:
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        executor = self._executor = CountingExecutor() if self.in_threads else Inline(self.clock)
        executor.take_over()
        store = self.store = StateStore(self.state / "state.db", on_commit=self.on_commit or (lambda _: None))
        executor.take_over_state(store)
        self.clock.busy, self.clock.wait_for_call = (lambda: executor.under_way > 0), executor.wait_for_call
        try:
            async with driven(self.clock):
                yield store
        finally:
            self.breaches += store.read_now(outdated_digests)
            store.close()

    async def run_in_thread(self, call: Callable[[], Any]) -> Any:
        """Run `call` in a thread while the clock stands still."""
        assert self._executor is not None
        return await asyncio.wrap_future(self._executor.submit(call))

    def make_run(self, store: StateStore) -> Mirror:
        context = RunContext(self.state, identities(self.configured))
        run = Mirror(self.settings, store, self.open_target, self.clock, context, on_decided=self._check)
        self.runs.append(run)
        return run

    async def open_target(self) -> Any:
        """Return a client of the base."""
        return self.target_type(self.base, limits=self.limits, clock=self.clock.wall)

    def _check(self, tx: Tx, path: str) -> None:
        run = self.runs[-1]
        if run.bound is not None:
            binding = run.bound.journal.binding
            uploads = breaches(tx.uploads.at_path(binding.mirror, binding.id, path))
            self.breaches += [f"{path}: {sentence}" for sentence in uploads]

    @asynccontextmanager
    async def start_mirror(self) -> AsyncIterator[BoundMirror]:
        """Start a mirror whose folder wasn't scanned yet."""
        async with self.running() as store:
            run = self.make_run(store)
            async with run.bind() as bound:
                assert bound is not None, run.halt
                yield bound

    async def take_turns(
        self,
        bound: BoundMirror,
        most: int = 100,
        every: float = 0.2,
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Let the mirror take turns until a condition holds; at most so many, with pauses in between."""
        for _ in range(most):
            await bound.turn()
            await self.clock.sleep(every)
            if until():
                break

    async def mirrored(self, files: int | Mapping[str, str], prefix: str = "f") -> None:
        """Write files, or a number of them, and run the pass that mirrors them."""
        if isinstance(files, int):
            self.write_many(files, prefix)
        else:
            for path, text in files.items():
                self.write(path, text)
        await self.once()

    async def ends_equal(self) -> PassEnd:
        """Run a pass, after which searches find exactly the folder's texts, and return how it ended."""
        end = await self.once()
        assert self.searchable_texts() == self.on_disk()
        return end

    async def doing(self, work: Callable[[Mirror], Awaitable[Any]]) -> None:
        """Run work as a process does, from beginning to end."""
        async with self.running() as store:
            await work(self.make_run(store))

    async def once(self, **kwargs: Any) -> PassEnd:
        async with self.running() as store:
            end = await run_once(self.make_run(store), **kwargs)
        assert self.breaches == []
        assert self.base.violations == []
        return end

    @property
    def run(self) -> Mirror:
        return self.runs[-1]

    # -- the end of a process --------------------------------------------------------------------------

    async def crash(self, guillotine: Guillotine, work: Work = run_once) -> None:
        """Run a pass, or other work, and kill its process where the guillotine falls.

        It ends normally if the guillotine doesn't fall.
        """
        changes = 0

        def commit(moment: str) -> None:
            nonlocal changes
            assert self.store is not None
            now = self.store._writer.total_changes()
            is_empty = now == changes
            changes = now if moment == "after" else changes
            guillotine.boundary(f"commit {moment}", is_empty=is_empty)

        self.on_commit = commit
        guillotine.version = self.target_version
        self.tap(guillotine)
        try:
            await self._run_to(guillotine, work)
        finally:
            self.on_commit = None
            self.tap(None)
            await self.bury()
        self.breaches.clear()  # rows of an aborted transaction never reached the disk

    def target_version(self) -> Any:
        """Return a value that differs after each change at the target."""
        return len(self.base.effects)

    async def _run_to(self, guillotine: Guillotine, work: Work) -> None:
        with contextlib.suppress(Crash):
            async with self.running() as store:
                run = self.make_run(store)
                passing = asyncio.ensure_future(work(run))
                bound = None
                while not passing.done() and not guillotine.fallen:
                    await asyncio.sleep(0.0005)
                    bound = run.bound or bound  # a pass that ends by itself releases it
                if guillotine.fallen:
                    passing.cancel()
                with contextlib.suppress(asyncio.CancelledError, Crash, BaseExceptionGroup, Exception):
                    await passing
                if not guillotine.fallen:
                    passing.result()
                elif bound is not None:
                    await end_tasks([bound.working, *bound.worker._tasks])

    def tap(self, guillotine: Guillotine | None) -> None:
        """Report each request to the guillotine from now on."""
        self.base.at_request = (
            None if guillotine is None else lambda op, phase, _what: guillotine.boundary(f"{op} {phase}")
        )

    async def bury(self) -> None:
        """Drop the base's work for a dead process."""
        self.base.open_requests = 0
        self.base.updating.clear()

    # -- results --------------------------------------------------------------------------------------

    def read_state(self, work: Callable[[Tx], Any]) -> Any:
        """Read the state without the program."""
        with contextlib.closing(read_only.opened(self.state / "state.db")) as state:
            return state.read(work)

    def change(self, work: Callable[[Tx], Any]) -> Any:
        """Write to the state without the program."""
        with contextlib.closing(StateStore(self.state / "state.db")) as store:
            return store.submit(work).result()

    def post_request(self, verb: str, **args: Any) -> None:
        self.change(lambda tx: tx.inbox.post(verb, self.settings.name, args, 0.0))

    def approve(self) -> None:
        """Approve everything that is held, as a person would."""
        mirror = self.run.id
        kinds = (DELETIONS, RENEWALS)
        self.post_request(
            "approve",
            holds=self.read_state(
                lambda tx: [h.id for kind in kinds for h in tx.holds.current(mirror, kind)]
            ),
        )

    def searchable_texts(self) -> dict[str, str]:
        """Return path → text of every searchable document; two for one path are a failure."""
        texts_by_path = self.base.searchable_texts()
        assert all(len(texts) == 1 for texts in texts_by_path.values()), texts_by_path
        return {path: texts[0] for path, texts in texts_by_path.items()}

    def on_disk(self) -> dict[str, str]:
        return {
            str(p.relative_to(self.root)): p.read_text()
            for p in sorted(self.root.rglob("*.md"))
            if p.is_file()
        }

    def rows(self, *states: UploadState) -> list[Upload]:
        """Return the journal's uploads, or those in these states."""
        uploads: list[Upload] = self.read_state(
            lambda tx: tx.uploads.in_states(self.run.id, 1, states or tuple(UploadState), limit=10_000)
        )
        return uploads

    def row_of(self, path: str) -> Upload:
        """Return the journal's only row for this path."""
        [row] = [row for row in self.rows() if row.path == path]
        return row

    def states(self) -> list[str]:
        return [row.state.name for row in self.rows()]

    def requests(self, op: str) -> int:
        """Return the number of requests of this kind."""
        return sum(request.op == op for request in self.base.requests)

    def puts(self) -> int:
        return len(self.base.effects_of("put"))

    def statuses(self) -> dict[str, int]:
        tally = self.read_state(lambda tx: tx.mirrors.tally(self.run.id))
        return {status.word: n for status, n in tally.items() if n}
