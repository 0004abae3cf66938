"""Builds the data for the web page, the API and the metrics, from the state and from the counts in the
mirrors' event loop.

It reads the state on a separate connection and thread, so that mirrors don't wait for readers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from kbsync import __version__
from kbsync.config.model import MirrorConfig
from kbsync.contract.promises import describe_unkept
from kbsync.core.model import Status
from kbsync.core.text import cursor
from kbsync.dataclass import dataclass
from kbsync.engine.status import (
    Items,
    halt_words,
    history_json,
    last_audit,
    running_json,
    unapproved,
    waiting_renewals,
)
from kbsync.freshness import state_bytes, status_in
from kbsync.installation import Installation
from kbsync.server.metrics import CounterSnapshot, LoopMonitor, MetricFigures
from kbsync.server.removals import RemovalQueue
from kbsync.state import lock
from kbsync.state.approvals import DELETIONS, RENEWALS
from kbsync.state.mirrors import Halt
from kbsync.state.read_only import ReadOnlyState, Tx, opened

T = TypeVar("T")


class StateReader:
    """Reads the current state file, or an empty state if the file doesn't exist yet or is being created."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._state: ReadOnlyState | None = None
        self._opened = 0
        self._thread = ThreadPoolExecutor(1, "kbsync-http-read")

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a consistent snapshot of the state, outside the event loop. Raises `StateError`."""
        return await self._in_thread(lambda: self._current().read(work))

    async def version(self) -> tuple[int, int]:
        """Return a value that changes whenever the state is written. Raises `StateError`."""
        version = await self._in_thread(lambda: self._current().version)
        return self._opened, version

    def close(self) -> None:
        """Close the file after the current read. The next read opens it again."""
        self._thread.submit(self._let_go).result()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _current(self) -> ReadOnlyState:
        if self._state is not None and self._state.is_there:
            return self._state
        self._let_go()
        self._state, self._opened = opened(self._file), self._opened + 1
        return self._state

    def _let_go(self) -> None:
        if self._state is not None:
            self._state.close()
            self._state = None


MAX_HELD = 500
SHOWN_MOVING = 12
SHOWN_FAILED = 50
MAX_ITEMS = 1000

PATIENCE = 1.0
"""Seconds to wait for counts from the mirrors' loop before showing the last known ones."""


@dataclass(frozen=True, slots=True)
class HeldList:
    """The held documents that are to be deleted or reindexed.

    `paths` contains the first few of them. Only renewals have a `size`, in bytes, and `changes` to the
    settings.
    """

    kind: str
    holds: tuple[int, ...]
    version: str
    count: int
    paths: tuple[str, ...]
    size: int
    changes: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON for the page."""
        payload = {"kind": self.kind, "version": self.version, "count": self.count, "paths": list(self.paths)}
        return payload | ({"size": self.size, "changes": self.changes} if self.kind == RENEWALS else {})


def held_list(tx: Tx, name: str, kind: str) -> HeldList:
    """Return a mirror's held documents that haven't been approved yet.

    This reads all of them, so call it only when a user asks for them.
    """
    record = tx.mirrors.named(name)
    holds = [] if record is None else unapproved(tx, record.id, kind)
    # The version changes with the list, so a user can approve only the list that was displayed (promise 5).
    digest, count, paths = hashlib.sha256(kind.encode()), 0, list[str]()
    for hold in holds:
        members: Iterable[tuple[str, int, str]]
        if kind == DELETIONS:
            removals = tx.removals.page(hold, held=True)
            members = ((removal.path, removal.upload, removal.cause) for removal in removals)
        else:
            members = tx.recipes.members(hold)
        for path, upload, proof in members:  # the cause of the deletion, or the wanted recipe
            digest.update(json.dumps([path, hold.id, upload, proof]).encode())
            count += 1
            if len(paths) < MAX_HELD:
                paths.append(path)
    size, changes = 0, ""
    if record is not None and kind == RENEWALS:
        extent, changes = waiting_renewals(tx, record.id)
        size = extent.size
    ids = tuple(hold.id for hold in holds)
    return HeldList(kind, ids, digest.hexdigest()[:32], count, tuple(paths), size, changes)


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page of documents that a client requested: those after the path `after` and, if `state` is given, in
    that state.
    """

    limit: int = 100
    state: Status | None = None
    after: str = ""


class MirrorView:
    """Builds views of one mirror from a consistent snapshot of the state.

    Each view takes constant time, no matter how many files the mirror has.
    """

    def __init__(
        self, tx: Tx, mirror: MirrorConfig, installation: Installation, now: float, unwritten: Halt | None
    ) -> None:
        """Set up the views. `now`: in epoch seconds. `unwritten`: a halt that the state can't store."""
        self._tx = tx
        self._command_line = installation.command_line
        self._record = tx.mirrors.named(mirror.name)
        self.status = status_in(tx, mirror, installation, at_work=True, now=now, unwritten=unwritten)

    def status_json(self, page: DocumentPage | None) -> dict[str, Any]:
        """Return the mirror as in `kbsync status --json`. With `page`, also include its `items`.

        If there are more items, `next` is the value of `after` for the next page.
        """
        payload, record = self.status.to_json(), self._record
        if page is None:
            return payload
        if record is None:
            return {**payload, "items": []}
        items = Items(self._tx, record, self.status.halt, self._command_line)
        states = () if page.state is None else (page.state,)
        entries = self._tx.entries.page(record.id, page.after, page.limit, states)
        files = list(map(items.of, entries))
        if not page.after and page.state in (None, Status.FAILED):
            files = [*islice(items.unlisted(), SHOWN_FAILED), *files]
        rows = [{**file.to_json(), "may_succeed": file.may_succeed} for file in files]
        more = {"next": cursor(entries[-1].path)} if len(entries) == page.limit else {}
        return {**payload, "items": rows, **more}

    def frame_json(self) -> dict[str, Any]:
        """Return the mirror's data for the web page: its status, its problems and its progress."""
        payload, tx, record, halt = self.status.to_json(), self._tx, self._record, self.status.halt
        unkept = describe_unkept(self.status.unkept)
        payload["unkept"] = [f"{label.capitalize()} is {sentence}" for label, sentence in unkept]
        if halt is not None:
            payload["halt"]["words"] = halt_words(halt.reason, halt.detail)
        if record is None:
            return {**payload, "failed": [], "moving": [], "held": 0, "renewals": None, "audited": None}
        items = Items(tx, record, halt, self._command_line)
        failed, moving = list[dict[str, Any]](), list[dict[str, Any]]()
        if self.status.documents.failed:
            # Unreadable directories count as failed.
            files = items.in_state(Status.FAILED, SHOWN_FAILED, in_order=False)
            failed = [{**file.to_json(), "may_succeed": file.may_succeed} for file in files]
        if self.status.documents.pending or self.status.documents.indexing:
            waiting = tx.entries.waiting(record.id, SHOWN_MOVING)
            moving = [{**items.of(entry).to_json(), "since": entry.since} for entry in waiting]
        pending, changes = waiting_renewals(tx, record.id)
        renewals = {"count": pending.documents, "size": pending.size, "changes": changes}
        known = last_audit(tx, record.id)
        audited: dict[str, Any] | None = None
        if known is not None and known.binding == record.binding and known.is_audit:
            problems = {"duplicate": known.duplicate, "orphaned": known.orphaned}
            audited = {"at": known.ended, "repaired": known.repaired, **problems}
        return {
            **payload,
            "failed": failed,
            "moving": moving,
            "held": sum(tx.removals.count(hold, held=True) for hold in unapproved(tx, record.id)),
            "renewals": renewals if pending.documents else None,
            "audited": audited,
        }


class Views:
    """All views of the listener.

    `installation` may be replaced at any time. `count` queries the mirrors' event loop.
    """

    def __init__(
        self,
        reader: StateReader,
        monitor: LoopMonitor,
        count: Callable[[], Awaitable[CounterSnapshot]],
        installation: Installation,
        removals: RemovalQueue,
    ) -> None:
        self.installation = installation
        self._reader, self._monitor, self._count, self._removals = reader, monitor, count, removals
        self._wall: Callable[[], float] = time.time
        self._known = CounterSnapshot()

    @property
    def mirrors(self) -> Sequence[MirrorConfig]:
        """The mirrors in the current config."""
        return self.installation.config.mirrors

    async def counted(self) -> CounterSnapshot:
        """Return the counts or, while the event loop is stuck, the last known ones."""
        try:
            async with asyncio.timeout(PATIENCE):
                self._known = await self._count()
        except TimeoutError:
            # Show the last known counts; kbsync_loop_silence_seconds reports that the loop is stuck.
            pass
        return self._known

    async def figures(self) -> MetricFigures:
        """Return the metrics for monitoring. Raises `StateError`."""
        mirrors, counted = await self._of_mirrors(lambda view: view.status)
        return MetricFigures(mirrors, counted, self._monitor.silence)

    async def status(self, page: DocumentPage | None = None, name: str | None = None) -> dict[str, Any]:
        """Return the output of `kbsync status --json`, for all mirrors or one. Raises `StateError`."""
        mirrors, _ = await self._of_mirrors(lambda view: view.status_json(page), name)
        running = running_json(lock.find_daemon(self.installation.state_dir))
        size = state_bytes(self.installation)
        return {"version": __version__, "running": running, "mirrors": mirrors, "state_bytes": size}

    async def frame(self) -> dict[str, Any]:
        """Return all data for the web page. Raises `StateError`."""
        now = self._wall()
        mirrors, counted = await self._of_mirrors(MirrorView.frame_json)
        removals = self._removals.current
        for payload in mirrors:
            removal = removals.get(payload["name"])
            payload["removal"] = None if removal is None else removal.to_json()
        return {
            "version": __version__,
            "at": now,
            "silence": round(self._monitor.silence, 1) if not self._monitor.is_turning else 0.0,
            "mirrors": mirrors,
            "commands": {
                name: self.installation.command_line(name) for name in ("status", "plan", "history")
            },
            "changes": counted.changes,
        }

    async def news(self) -> object:
        """Return a value that changes whenever the web page's data may have changed. Raises `StateError`."""
        counted = await self.counted()
        last = counted.changes[-1]["at"] if counted.changes else None
        version, is_turning = await self._reader.version(), self._monitor.is_turning
        return version, last, is_turning, counted.unwritten, self.mirrors, self._removals.current

    async def held(self, name: str, kind: str) -> HeldList:
        """Return the deletions, or the documents to reindex, that are waiting for a decision.

        Raises `StateError`.
        """
        return await self._reader.read(lambda tx: held_list(tx, name, kind))

    async def retryable(self, name: str) -> list[str] | None:
        """Return the failed files and directories of a mirror that may succeed without a change. Raises
        `StateError`.

        Return None if all of them may.
        """

        def read(tx: Tx) -> list[str] | None:
            record = tx.mirrors.named(name)
            failed = [] if record is None else list(Items(tx, record, None).in_state(Status.FAILED))
            paths = [file.path.removesuffix("/") for file in failed if file.may_succeed]
            return None if len(paths) == len(failed) else paths

        return await self._reader.read(read)

    async def history(self, names: Collection[str], path: str, limit: int) -> dict[str, Any]:
        """Return the newest events of these mirrors, in the format of `kbsync history --json`. Raises
        `StateError`.

        With `path`, return only the events about this file or folder.
        """

        def read(tx: Tx) -> dict[str, Any]:
            records = [record.id for name in names if (record := tx.mirrors.named(name)) is not None]
            places = [(number, path) for number in records] if path else ()
            return history_json(tx.history.newest(records, 0.0, limit + 1, places), limit)

        return await self._reader.read(read)

    async def _of_mirrors(
        self, read: Callable[[MirrorView], T], name: str | None = None
    ) -> tuple[list[T], CounterSnapshot]:
        """Run `read` for each mirror, or only for the named one, on a consistent snapshot of the state.

        Also return the counts, which include the halts that the state can't store.
        """
        mirrors = [mirror for mirror in self.mirrors if name in (None, mirror.name)]
        now, counted = self._wall(), await self.counted()

        def view(tx: Tx, mirror: MirrorConfig) -> MirrorView:
            return MirrorView(tx, mirror, self.installation, now, counted.unwritten.get(mirror.name))

        return await self._reader.read(lambda tx: [read(view(tx, mirror)) for mirror in mirrors]), counted
