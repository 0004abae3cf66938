"""Copies a former base's documents into the current one without reading files.

`kbsync kb copy` calls this instead of running a pass. Each document is recorded like an upload: once before
the request, and again with the target's response. A killed copy therefore leaves the same state as a killed
pass: another run continues it, and the next pass knows every document in the base (promises 3 and 11).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from kbsync.contract.target import Accepted, PutOutcome, Target
from kbsync.core import lifecycle
from kbsync.core.model import IN_FLIGHT, SEARCHABLE, SERVING, Upload, UploadState
from kbsync.dataclass import dataclass
from kbsync.engine.attach import adopt, mark_undecided
from kbsync.engine.journal import Journal
from kbsync.engine.listing import uploads_in
from kbsync.engine.lost_uploads import find_uploads
from kbsync.errors import Rejected, TargetError, Unavailable
from kbsync.index.document import Entry
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

PAGE = 64
"""Number of uploads recorded in one commit. If kbsync is killed, the next run has to search for at most this
many uploads.
"""


@dataclass(slots=True)
class Copied:
    """The result of a copy.

    `present`: documents that were already in the base. `remaining`: documents left for the next pass.
    """

    documents: int = 0
    passages: int = 0
    size: int = 0
    present: int = 0
    remaining: int = 0


async def copy(
    store: StateStore,
    journal: Journal,
    target: Target,
    origins: Sequence[int],
    read: Callable[[str], Entry | None],
    send: Callable[[Entry], Awaitable[PutOutcome]],
    copied: Copied,
) -> None:
    """Copy the serving documents of the bindings `origins`, and count them in `copied`.

    `read` returns a document by its id in the old base, or None if it isn't available. `send` stores a
    document in the base of `journal`. Raises `TargetError` only if the problem affects all documents.
    """
    binding = journal.binding
    await store.write(journal.recover)
    await store.read(journal.recall)
    started_at = journal.timing.now
    # Find the documents that a killed copy stored, so that they aren't resent.
    async for unsure in uploads_in(binding, store.read, (UploadState.UNSURE,)):
        for match in await find_uploads(store, binding, target, unsure):
            search = partial(journal.record_search, number=match.row.id, listed=match.listed)
            await store.write(partial(search, started_at=started_at))
    if not await store.read(lambda tx: tx.mirrors.is_adopted(binding.id)):
        await adopt(store, journal, target)
    # The next pass decides about every file for this base, including files deleted or changed in the
    # meantime.
    await store.write(lambda tx: mark_undecided(tx, binding.mirror))
    for origin in origins:
        async for rows in uploads_in(replace(binding, id=origin), store.read, SERVING, PAGE):
            sending = await store.write(partial(_announce, journal, rows, copied))
            await _send(store, journal, sending, read, send, copied)


def _announce(
    journal: Journal, rows: Sequence[Upload], copied: Copied, tx: Tx
) -> list[tuple[Upload, Upload]]:
    """Return the documents to copy, each with the row for its upload."""
    binding, sending = journal.binding, list[tuple[Upload, Upload]]()
    present_count = remaining_count = 0
    for row in rows:
        # Rows of the old base never stop serving. A file without a row has since been deleted or renamed, and
        # so has its document.
        if tx.entries.get(binding.mirror, row.path) is None:
            continue
        rows_here = journal.uploads(tx, row.path)
        same = next((here for here in rows_here if here.version == row.version), None)
        if same is not None and same.state in SEARCHABLE:
            present_count += 1
        # Leave these documents to the next pass. It resolves unsure uploads, reports failed ones, and indexes
        # documents from their files if the config now asks for other vectors or passages. Copying an old
        # version would replace a newer one that serves or is being sent.
        elif (
            (same is not None and same.state is not UploadState.INTENDED)
            or row.recipe != binding.recipe(row.path)
            or any(here.state in (*SERVING, *IN_FLIGHT) and here is not same for here in rows_here)
        ):
            remaining_count += 1
        else:
            name = binding.naming.name(row.path, row.digest)
            same = same or journal.intend(tx, row.path, name, row.version, row.size)
            sending_row = lifecycle.send(same, journal.timing)
            tx.uploads.save(sending_row)
            sending.append((row, sending_row))
    copied.present += present_count
    copied.remaining += remaining_count
    return sending


async def _send(
    store: StateStore,
    journal: Journal,
    sending: Sequence[tuple[Upload, Upload]],
    read: Callable[[str], Entry | None],
    send_entry: Callable[[Entry], Awaitable[PutOutcome]],
    copied: Copied,
) -> None:
    failed: TargetError | None = None
    recording = []
    pending = iter(sending)
    for old, new in pending:
        entry = await asyncio.to_thread(read, old.remote_id or "")
        outcome: PutOutcome
        if entry is None or (entry.digest, entry.recipe) != (old.digest, old.recipe):
            outcome = Unavailable("the copied knowledge base doesn't have this document", untried=True)
        else:
            outcome = await send_entry(replace(entry, upload_id=new.id, path=new.path, name=new.name))
        match outcome:
            case Accepted():
                assert entry is not None
                copied.documents += 1
                copied.passages += len(entry.chunks)
                copied.size += sum(len(chunk.text.encode()) for chunk in entry.chunks)
                copied.size += sum(map(len, entry.vectors.values()))
            case Rejected() | Unavailable(untried=True):
                copied.remaining += 1
            case TargetError():
                failed = outcome
        # Don't wait for this write, so that the next document is sent meanwhile. After a kill, kbsync
        # searches for any document that wasn't recorded.
        recording.append(store.submit(partial(journal.record_put, number=new.id, outcome=outcome)))
        if failed is not None:
            break
    untried = Unavailable("" if failed is None else failed.reason, untried=True)
    recording += [
        store.submit(partial(journal.record_put, number=new.id, outcome=untried)) for _, new in pending
    ]
    await asyncio.gather(*map(asyncio.wrap_future, recording))
    if failed is not None:
        raise failed
