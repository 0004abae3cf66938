"""The bytes of a batch: read stably, checked against what was intended, held until the put has ended."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from kbsync.contract.target import Outgoing
from kbsync.core.links import NoLink, address_from, is_link
from kbsync.core.model import Upload
from kbsync.engine.journal import Journal
from kbsync.engine.terms import Terms
from kbsync.source.read import Spooled, copy_stable
from kbsync.state.glance import Tx

KEPT = 64
"""Bodies kept for files that are never quiet; each may hold a descriptor."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Opened bodies by upload id, and the uploads whose bytes are not what was intended any more.

    `addresses`: of the pages that link files stand for, where the target will list them by these.
    """

    bodies: Mapping[int, Spooled]
    unsendable: Sequence[int]
    addresses: Mapping[int, str]


class Bodies:
    """Opens the bytes of uploads of one mirror; keeps those of files that are never quiet until sent.

    Judgements keep bodies and sends take them, each in a thread of its own, while the loop may close all.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._kept: OrderedDict[str, Spooled] = OrderedDict()
        self._keeping = threading.Lock()
        self._is_closed = False

    def keep(self, path: str, body: Spooled) -> None:
        """Send these bytes for this path; the oldest go when there are too many."""
        with self._keeping:
            let_go = [self._kept.pop(path, None)]
            self._kept[path] = body
            while len(self._kept) > (0 if self._is_closed else KEPT):
                let_go.append(self._kept.popitem(last=False)[1])
        for old in let_go:
            if old is not None:
                old.close()

    def close(self) -> None:
        """Let go of everything kept, and of what a thread that was cut off still wants to keep."""
        with self._keeping:
            let_go, self._is_closed = list(self._kept.values()), True
            self._kept.clear()
        for body in let_go:
            body.close()

    @asynccontextmanager
    async def opened(self, rows: Sequence[Upload]) -> AsyncIterator[Batch]:
        """Read the bytes of each row, let go at the end. Raises `StateError` when the spool is full."""
        stack = ExitStack()
        reading = asyncio.ensure_future(asyncio.to_thread(self._read, rows, stack))
        try:
            yield await asyncio.shield(reading)
        finally:
            if reading.done():
                stack.close()
            else:  # cut off: the thread goes on, and what it opens is let go when it ends
                reading.add_done_callback(partial(_let_go, stack))

    def _read(self, rows: Sequence[Upload], stack: ExitStack) -> Batch:
        bodies: dict[int, Spooled] = {}
        unsendable = []
        for row in rows:
            body = self._take(row)
            if body is None:
                unsendable.append(row.id)
            else:
                bodies[row.id] = stack.enter_context(body)
        addresses: dict[int, str] = {}
        if self._terms.limits.links and not self._terms.limits.marks:
            for row in rows:
                if row.id in bodies and is_link(row.path or ""):
                    # A file that holds no address is sent as it is: the target says what is wrong with it.
                    with suppress(NoLink), bodies[row.id].open() as stream:
                        addresses[row.id] = address_from(row.path or "", stream)
        return Batch(bodies, unsendable, addresses)

    def _take(self, row: Upload) -> Spooled | None:
        if row.path is None:
            return None
        with self._keeping:
            kept = self._kept.pop(row.path, None)
        if kept is not None:
            if kept.digest == row.digest:
                return kept
            kept.close()
        taken = copy_stable(self._terms.plan.root, row.path, self._terms.spool_dir, row.digest)
        return taken if isinstance(taken, Spooled) else None


def _let_go(stack: ExitStack, ended: asyncio.Future[Batch]) -> None:
    stack.close()
    if not ended.cancelled():
        ended.exception()  # nobody waits for it any more


def outgoing(terms: Terms, upload: Upload, body: Spooled, replaces: str | None) -> Outgoing:
    """The document as the target gets it."""
    path = upload.path or upload.label
    return Outgoing(
        upload_id=upload.id,
        path=path,
        name=upload.name,
        digest=upload.digest,
        size=upload.size,
        mtime=body.stamp.mtime_ns / 1e9,
        recipe=upload.recipe,
        body=body,
        replaces=replaces,
        settings=terms.plan.settings(path),
    )


def replaced_by(journal: Journal, tx: Tx, upload: Upload) -> str | None:
    """The remote id that an in-place update of this upload's path would change."""
    if not journal.terms.abilities.updates or upload.path is None or upload.predecessor is None:
        return None
    server = next((u for u in journal.uploads(tx, upload.path) if u.state.serves), None)
    return None if server is None else server.remote_id
