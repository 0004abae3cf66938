"""Forgets a mirror: removes its state and, if requested, its documents.

If the documents are kept, their ids stay in the state (`state.forgotten`), so that they can be deleted later,
under the mirror's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kbsync.contract.target import Base, DeleteOutcome, SupportsDigest, Target
from kbsync.core import lifecycle
from kbsync.core.lifecycle import Timing
from kbsync.core.links import is_address
from kbsync.core.model import OUTCOME_OPEN, PROVEN, Status, Upload, UploadState
from kbsync.core.selection import Rules
from kbsync.core.text import format_count
from kbsync.dataclass import dataclass
from kbsync.engine.attach import mark_undecided, note_left_behind
from kbsync.engine.clock import Clock, SystemClock
from kbsync.engine.listing import MAX_OPEN_UPLOADS, is_tagged
from kbsync.engine.lost_uploads import FoundUpload, find_uploads
from kbsync.engine.settings import Binding, MirrorSettings, abilities_of
from kbsync.errors import NO_RESULT, KbsyncError, TargetError
from kbsync.state.forgotten import ForgottenBase
from kbsync.state.mirrors import BindingFact, BindingRecord, MirrorRecord
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

PAGE = 500
MAX_NAMED = 3
"""Maximum number of paths that a message names."""

Report = Callable[[int], None]
"""Called with the number of documents deleted so far."""


class StillThere(KbsyncError):
    """Raised if some documents couldn't be deleted. The mirror hasn't been forgotten in that case."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """The documents that a mirror owns: `documents` in its knowledge base, `elsewhere` in former ones.

    `unsure`: uploads that got no response and may have created documents.
    """

    documents: int = 0
    elsewhere: Sequence[tuple[BindingRecord, int]] = ()
    unsure: int = 0


def belongings(tx: Tx, record: MirrorRecord) -> Belongings:
    """Return what forgetting the mirror would remove from the state or delete."""
    owned = tx.uploads.owned(record.id)
    own_count = owned.pop(record.binding, 0) if record.binding is not None else 0
    unsure = 0 if record.binding is None else tx.uploads.count(record.id, record.binding, OUTCOME_OPEN)
    bindings = ((tx.mirrors.binding(number), count) for number, count in owned.items())
    return Belongings(
        own_count, [(binding, count) for binding, count in bindings if binding is not None], unsure
    )


def leads_to(target: Target, actual: Base, base: BindingRecord) -> bool:
    """Return whether this base is `actual`, the base that the target opens.

    Ids are valid only in their own base.
    """
    # The id identifies a base that kbsync created, even if the base has moved since the last pass.
    return base.base == actual.id and (target.limits.embedded or base.address == actual.address)


async def forget(
    store: StateStore,
    record: MirrorRecord,
    target: Target | None = None,
    *,
    clock: Clock | None = None,
    report: Report = lambda _deleted: None,
) -> int:
    """Delete all of a mirror's rows; return how many of its documents were deleted first.

    With a `target`, this deletes exactly the documents that rows prove to be ours, in the knowledge base that
    the mirror is bound to. For uploads without a response it first searches the target's list, and waits
    until it can no longer be lagging. The ids of all other documents stay in the state. The caller holds the
    lock. Raises `StillThere` if a document could not be deleted; then only the rows of deleted documents are
    gone. Raises `TargetError` if the target does not respond, and `KbsyncError` if it opens a different base.
    """
    deleted = 0
    if target is not None and record.binding is not None:
        base, number = await target.base(), record.binding
        binding = await store.read(lambda tx: tx.mirrors.binding(number))
        if binding is None or not leads_to(target, base, binding):
            raise KbsyncError(
                f"{record.name}: its documents aren't in the target's knowledge base, so nothing was "
                "deleted; fix the target, or forget the mirror without deleting documents"
            )
        clock = clock or SystemClock()
        await _find_open_uploads(store, record, binding, target, clock)
        deleted = await _delete_all(store, record, number, target, clock, report)
        await target.leave()

    def drop(tx: Tx) -> None:
        tx.inbox.done(*(message.id for message in tx.inbox.waiting(record.name)))
        mark_undecided(tx, record.id)
        tx.forgotten.keep(record.id, record.name)
        tx.mirrors.remove(record.id)
        tx.mirrors.remove_unused_bindings()

    await store.write(drop)
    return deleted


async def release(store: StateStore, record: MirrorRecord, binding: BindingRecord) -> ForgottenBase | None:
    """Record the mirror's documents in a former base as left behind. Return None if there are none.

    The mirror continues without them. The caller holds the lock.
    """

    def record_left(tx: Tx) -> list[ForgottenBase]:
        tx.forgotten.keep(record.id, record.name, binding.id)
        tx.uploads.lose(record.id, binding.id)
        note_left_behind(tx, record.id, record.binding or 0)
        return tx.forgotten.bases(record.name)

    bases = await store.write(record_left)
    return next((base for base in bases if base.base == replace(binding, id=0)), None)


async def note_listed(store: StateStore, base: ForgottenBase, target: Target) -> ForgottenBase:
    """Record all documents in a base that kbsync created as left behind by a mirror that isn't in the
    state.
    """
    ids = [listed.remote_id async for listed in target.list()]
    await store.write(lambda tx: tx.forgotten.add(base.name, base.base, ids))
    bases = await store.read(lambda tx: tx.forgotten.bases(base.name))
    return next(forgotten for forgotten in bases if forgotten.base == replace(base.base, id=0))


async def delete_left(
    store: StateStore, base: ForgottenBase, target: Target, report: Report = lambda _deleted: None
) -> int:
    """Delete the documents that a forgotten mirror left behind in a base. Return how many were deleted.

    The caller holds the lock and has checked that the target opens that base. If this raises `StillThere`,
    the documents deleted so far are no longer in the state.
    """
    deleted, after = 0, ""
    failures: list[tuple[str, str]] = []
    while ids := await store.read(lambda tx: tx.forgotten.documents(base.id, after, PAGE)):  # noqa: B023
        after = ids[-1]
        for batches in _rounds(target, ids):
            deleted_ids, reasons = await _delete(target, batches)
            await store.write(lambda tx: tx.forgotten.remove(base.id, deleted_ids))  # noqa: B023
            deleted += len(deleted_ids)
            report(deleted)
            failures += reasons.items()
    if failures:
        raise StillThere(f"{base.name}: {_describe(failures)}; {deleted} were; try again")
    await target.leave()
    return deleted


def _describe(failures: Sequence[tuple[str, str]]) -> str:
    examples = ", ".join(f"{document} ({reason})" for document, reason in failures[:MAX_NAMED])
    more = f" and {len(failures) - MAX_NAMED} more" if len(failures) > MAX_NAMED else ""
    return f"{format_count(len(failures), 'document')} could not be deleted: {examples}{more}"


async def _find_open_uploads(
    store: StateStore, record: MirrorRecord, binding: BindingRecord, target: Target, clock: Clock
) -> None:
    """Search for the documents of uploads that got no response, and mark those proven to be ours for
    deletion.

    As in a pass, an upload counts as absent only once the list can no longer be lagging. Raises `TargetError`
    if the list is incomplete.
    """
    known_lag = await store.read(lambda tx: tx.meta.get(BindingFact.LAG, binding.id))

    def timing() -> Timing:
        return Timing(clock.wall(), clock.chance, target.limits, lag=float(known_lag or 0.0))

    def read_rows(tx: Tx, *states: UploadState) -> list[Upload]:
        return tx.uploads.in_states(record.id, binding.id, states, limit=MAX_OPEN_UPLOADS)

    def doubt(tx: Tx) -> None:
        for row in read_rows(tx, UploadState.SENDING):
            tx.uploads.save(lifecycle.doubt(row, "interrupted while sending", timing()))

    def record_search(
        uploads: Sequence[FoundUpload], proven: Collection[int], started_at: float, tx: Tx
    ) -> None:
        for row, listed in ((item.row, item.listed) for item in uploads):
            if listed is not None and row.id in proven:
                if row.state is UploadState.TOMBSTONE:
                    tx.uploads.save(lifecycle.still_there(row, timing()))
                else:
                    tx.uploads.save(lifecycle.retire(replace(row, remote_id=listed.remote_id), timing()))
            elif row.state is UploadState.UNSURE:
                tx.uploads.save(lifecycle.not_found(row, timing(), started_at))

    if await store.read(lambda tx: read_rows(tx, UploadState.SENDING)):
        await store.write(doubt)
    rows = await store.read(lambda tx: read_rows(tx, *OUTCOME_OPEN))
    while rows:
        started_at = clock.wall()
        uploads = await find_uploads(store, _listing_of(record, binding, target, rows), target, rows)
        proven = {item.row.id for item in uploads if await _is_proven(target, item)}
        await store.write(partial(record_search, uploads, proven, started_at))
        rows = await store.read(lambda tx: read_rows(tx, UploadState.UNSURE))
        if rows:
            await clock.sleep(max(0.0, min(row.due_at or 0.0 for row in rows) - clock.wall()))


def _listing_of(
    record: MirrorRecord, binding: BindingRecord, target: Target, rows: Sequence[Upload]
) -> Binding:
    """Return a binding for reading the list of a mirror that may no longer be in the config."""
    style = "tagged" if all(is_address(row.name) or is_tagged(row) for row in rows) else "plain"
    settings = MirrorSettings(
        record.name, Path(record.folder), record.target, prefix=binding.prefix, names=style
    )
    return Binding(
        settings=settings,
        mirror=record.id,
        id=binding.id,
        limits=target.limits,
        abilities=abilities_of(target, settings),
        recipe=lambda _path: "",
        rules=Rules(settings.include, settings.exclude, target.limits),
        spool_dir=settings.root,
        base=binding.base,
    )


async def _is_proven(target: Target, upload: FoundUpload) -> bool:
    """Return whether the document that was found belongs to the upload.

    A name without a tag doesn't prove that (promise 6).
    """
    if upload.listed is None:
        return False
    row = upload.row
    if target.limits.marks or row.remote_id is not None or is_address(row.name) or is_tagged(row):
        return True
    return isinstance(target, SupportsDigest) and await target.digest(upload.listed.remote_id) == row.digest


async def _delete_all(
    store: StateStore, record: MirrorRecord, binding: int, target: Target, clock: Clock, report: Report
) -> int:
    deleted, after = 0, 0
    failures: list[tuple[str, str]] = []

    def record_deleted(rows: Sequence[Upload], timing: Timing, tx: Tx) -> None:
        # Recorded even if the rest fails, so that a later pass of the mirror sends those files again.
        for row in rows:
            tx.uploads.save(lifecycle.mark_gone(row, timing))
            tx.entries.doubt(row.mirror, row.path)
            tx.entries.set_status(row.mirror, row.path, Status.PENDING, timing.now)

    while rows := await store.read(
        lambda tx: tx.uploads.in_states(record.id, binding, PROVEN, after, PAGE)  # noqa: B023
    ):
        after = rows[-1].id
        timing = Timing(clock.wall(), clock.chance, target.limits)
        by_id: dict[str, list[Upload]] = {}
        for row in rows:
            if row.remote_id is not None:
                by_id.setdefault(row.remote_id, []).append(row)
        for batches in _rounds(target, list(by_id)):
            round_rows = [row for batch in batches for remote_id in batch for row in by_id[remote_id]]
            await store.write(partial(_have_checked, round_rows, timing))
            deleted_ids, reasons = await _delete(target, batches)
            deleted_rows = [row for remote_id in deleted_ids for row in by_id[remote_id]]
            await store.write(partial(record_deleted, deleted_rows, timing))
            deleted += len(deleted_ids)
            report(deleted)
            failures += [
                (row.path, reason) for remote_id, reason in reasons.items() for row in by_id[remote_id]
            ]
    if failures:
        raise StillThere(
            f"{record.name}: {_describe(failures)}; {deleted} were deleted. The mirror was not forgotten; "
            "try again, or forget it without deleting documents"
        )
    return deleted


def _rounds(target: Target, ids: Sequence[str]) -> Iterator[list[Sequence[str]]]:
    """Yield the ids in rounds. A round contains as many ids as may be in flight at a time, divided into
    batches.

    Callers record each round, so that after a kill, only the documents of one round are in doubt.
    """
    size, width = max(1, target.limits.batch), max(1, target.limits.concurrency)
    for start in range(0, len(ids), size * width):
        ids_of_round = ids[start : start + size * width]
        yield [ids_of_round[first : first + size] for first in range(0, len(ids_of_round), size)]


async def _delete(target: Target, batches: Sequence[Sequence[str]]) -> tuple[list[str], dict[str, str]]:
    """Delete the documents of one batch. Return the ids of the deleted documents, and for each of the
    remaining ids, why its document couldn't be deleted.
    """

    async def delete(batch: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        try:
            return await target.delete(batch)
        except TargetError as error:
            return dict.fromkeys(batch, error)

    outcomes: dict[str, DeleteOutcome] = {}
    for results in await asyncio.gather(*map(delete, batches)):
        outcomes.update(results)
    ids = [remote_id for batch in batches for remote_id in batch]
    errors = {remote_id: outcomes.get(remote_id, NO_RESULT) for remote_id in ids}
    reasons = {remote_id: error.reason for remote_id, error in errors.items() if error is not None}
    return [remote_id for remote_id in ids if remote_id not in reasons], reasons


def _have_checked(rows: Sequence[Upload], timing: Timing, tx: Tx) -> None:
    """Make the mirror check its serving documents again, because they are about to be deleted."""
    # If kbsync is killed before it records the deletions, the mirror checks each of these and sends the
    # deleted ones again. Otherwise it would assume for up to a day that they are searchable.
    for row in rows:
        if row.state.serves:
            # Only one upload of a version may be in flight (invariant 2). A successor is deleted as well.
            for other in tx.uploads.at_path(row.mirror, row.binding, row.path):
                if other.version == row.version and other.state is UploadState.INDEXING:
                    tx.uploads.save(lifecycle.retire(other, timing))
            tx.uploads.save(lifecycle.poll_again(row, timing))
            tx.removals.release(row.id)
            tx.entries.set_status(row.mirror, row.path, Status.INDEXING, timing.now)
