"""What the target answered, written into the journal, and the planner's next word on it.

Each function runs in a transaction, reads the row afresh (the planner may have changed its mind while the
request was on its way) and returns what is worth a line in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kbsync.contract import Accepted, DeleteOutcome, DocState, DocStatus, Listed, PutOutcome
from kbsync.core import lifecycle
from kbsync.core.model import Upload, UploadState
from kbsync.engine.ledger import Ledger
from kbsync.errors import Halted, Rejected, Unavailable
from kbsync.state.store import Tx


@dataclass(frozen=True, slots=True)
class Happened:
    """One canonical line: `event` is `noun.past_verb`, `seconds` from intent to answer."""

    event: str
    path: str
    document_id: str | None = None
    attempt: int = 0
    seconds: float = 0.0
    reason: str = ""
    code: str = ""
    replaced: bool = False


def claim(ledger: Ledger, tx: Tx, numbers: Sequence[int]) -> list[Upload]:
    """INTENDED → SENDING for those still intended; only they may be sent."""
    claimed = []
    for number in numbers:
        upload = tx.uploads.get(number)
        if upload is not None and upload.state is UploadState.INTENDED:
            sending = lifecycle.send(upload, ledger.rhythm)
            tx.uploads.save(sending)
            claimed.append(sending)
    return claimed


def unsendable(ledger: Ledger, tx: Tx, number: int) -> None:
    """The bytes that were intended are not in the file any more: the next look decides anew."""
    upload = tx.uploads.get(number)
    if upload is not None and upload.state is UploadState.INTENDED:
        tx.uploads.save(lifecycle.drop(upload))
        if upload.path is not None:
            tx.entries.doubt(ledger.terms.mirror, upload.path)
            ledger.settle(tx, upload.path)


def put_ended(ledger: Ledger, tx: Tx, number: int, outcome: PutOutcome) -> Happened | None:
    """A put was answered, or its answer was lost."""
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.SENDING:
        return None
    match outcome:
        case Accepted(remote_id, ready, replaced):
            return _accepted(ledger, tx, upload, remote_id, ready, replaced)
        case Rejected():
            changed = lifecycle.reject(upload, outcome.reason, outcome.code)
        case Unavailable():
            changed = lifecycle.put_off(upload, outcome.reason, outcome.retry_after, ledger.rhythm)
        case Halted():
            changed = lifecycle.refund(upload, outcome.reason, ledger.rhythm)
        case _:
            changed = lifecycle.doubt(upload, outcome.reason, ledger.rhythm)
    tx.uploads.save(changed)
    _settle(ledger, tx, changed)
    return _event(changed) if changed.state is UploadState.FAILED else None


def _accepted(
    ledger: Ledger, tx: Tx, upload: Upload, remote_id: str, ready: bool, replaced: bool
) -> Happened | None:
    if replaced:  # the predecessor is no more: whatever was wished meanwhile, this one serves now
        upload = lifecycle.want(upload)
    accepted = lifecycle.accept(upload, remote_id, ready, ledger.rhythm)
    return _take_up(ledger, tx, accepted, replaced)


def _take_up(ledger: Ledger, tx: Tx, upload: Upload, replaced: bool = False) -> Happened | None:
    """Save a row that the target has; if it serves from now on, its predecessor makes way."""
    if upload.state is UploadState.SERVING and upload.path is not None:
        ledger.enter_service(tx, upload, replaced=replaced)
    else:
        tx.uploads.save(upload)
    _settle(ledger, tx, upload)
    return _event(upload) if upload.state is UploadState.SERVING else None


def status_known(ledger: Ledger, tx: Tx, number: int, status: DocStatus, reembedded: bool) -> Happened | None:
    """A document that was indexing was looked at; `reembedded`: it failed and was asked to index again."""
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.INDEXING:
        return None
    rhythm = ledger.rhythm
    match status.state:
        case DocState.READY:
            return _take_up(ledger, tx, lifecycle.serve(upload))
        case DocState.FAILED if reembedded:
            changed = lifecycle.repair(upload, status.reason, rhythm)
        case DocState.FAILED:
            return failed_to_index(ledger, tx, upload, status.reason, status.code)
        case DocState.MISSING:
            changed = lifecycle.vanished(upload, rhythm)
        case _:
            changed = lifecycle.wait_on(upload, rhythm)
    if lifecycle.is_overdue(changed, rhythm):
        return failed_to_index(ledger, tx, changed, _overdue(changed), "overdue")
    tx.uploads.save(changed)
    _settle(ledger, tx, changed)
    return None


def _overdue(upload: Upload) -> str:
    return f"not searchable after {upload.elapsed:.0f} s"


def failed_to_index(ledger: Ledger, tx: Tx, upload: Upload, reason: str, code: str) -> Happened | None:
    """Indexing failed for good this time: a fresh upload while tries are left, else quarantine."""
    tries = ledger.terms.limits.reembed_tries + (1 if ledger.terms.abilities.reembeds else 0)
    if upload.repairs < tries:
        fresh = lifecycle.again(upload, reason, ledger.rhythm)
        tx.uploads.save(lifecycle.retire(upload, ledger.rhythm))
        tx.uploads.add(fresh)
        _settle(ledger, tx, fresh)
        return None
    failed = replace(lifecycle.reject(upload, reason, code), attempts=upload.repairs)
    tx.uploads.save(failed)
    _settle(ledger, tx, failed)
    return _event(failed)


def look_ended(ledger: Ledger, tx: Tx, number: int, seen: Listed | None) -> Happened | None:
    """A complete list was gone through for this row: unsure, presumed lost, or deleted."""
    upload = tx.uploads.get(number)
    match upload:
        case Upload(state=UploadState.UNSURE) if seen is None:
            changed = lifecycle.not_found(upload, ledger.rhythm)
        case Upload(state=UploadState.TOMBSTONE) if seen is None:
            changed = lifecycle.gone(upload)
        case Upload(state=UploadState.TOMBSTONE):
            changed = lifecycle.still_there(upload, ledger.rhythm)
        case Upload(state=UploadState.UNSURE | UploadState.PRESUMED_LOST) if seen is not None:
            return _found_again(ledger, tx, upload, seen)
        case _:
            return None
    tx.uploads.save(changed)
    _settle(ledger, tx, changed)
    return None


def _found_again(ledger: Ledger, tx: Tx, upload: Upload, seen: Listed) -> Happened | None:
    """One that was given up serves only if nothing else does."""
    if upload.state is UploadState.PRESUMED_LOST and _is_served(ledger, tx, upload):
        upload = lifecycle.unwant(upload)
    ready = seen.state is DocState.READY
    return _take_up(ledger, tx, lifecycle.accept(upload, seen.remote_id, ready, ledger.rhythm))


def _is_served(ledger: Ledger, tx: Tx, upload: Upload) -> bool:
    """Something else serves this path, or is on its way."""
    if upload.path is None:
        return True
    others = [u for u in ledger.uploads(tx, upload.path) if u.id != upload.id]
    return any(u.state.serves or u.state.in_flight for u in others)


def begin_deletes(ledger: Ledger, tx: Tx, numbers: list[int]) -> list[Upload]:
    """Count the attempt of those still retiring; only they may be deleted.

    The last line of defence: what used to serve a path that is wanted again goes on serving, and a document
    that another row counts on (an update in place shares it) is left alone.
    """
    begun = []
    for number in numbers:
        before = tx.uploads.get(number)
        if before is not None:
            _settle(ledger, tx, before)
        upload = tx.uploads.get(number)
        if upload is None or upload.state is not UploadState.RETIRING:
            continue
        if _is_shared(ledger, tx, upload):
            tx.uploads.save(lifecycle.gone(upload))
            continue
        started = lifecycle.begin_delete(upload)
        tx.uploads.save(started)
        begun.append(started)
    return begun


def _is_shared(ledger: Ledger, tx: Tx, upload: Upload) -> bool:
    rows = tx.uploads.by_remote(ledger.terms.binding, upload.remote_id or "")
    return any(u.id != upload.id and (u.state.serves or u.state.in_flight) for u in rows)


def delete_ended(ledger: Ledger, tx: Tx, number: int, outcome: DeleteOutcome) -> Happened | None:
    """A delete was answered."""
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.RETIRING:
        return None
    rhythm = ledger.rhythm
    match outcome:
        case None:
            changed = lifecycle.deleted(upload, rhythm)
        case Rejected():
            changed = lifecycle.delete_refused(upload, outcome.reason, outcome.code, rhythm)
        case Unavailable():
            changed = lifecycle.delete_put_off(upload, outcome.reason, outcome.retry_after, rhythm)
        case _:
            changed = lifecycle.delete_put_off(upload, outcome.reason, None, rhythm)
    tx.uploads.save(changed)
    _settle(ledger, tx, changed)
    return Happened("document.deleted", upload.label, upload.remote_id) if outcome is None else None


def renamed(ledger: Ledger, tx: Tx, number: int, label: str) -> Happened | None:
    """The target knows the document under its new path."""
    upload = tx.uploads.get(number)
    if upload is None or not upload.state.serves:
        return None
    tx.uploads.save(lifecycle.relabelled(upload, label, ledger.terms.remote_name(label)))
    _settle(ledger, tx, upload)
    return Happened("document.renamed", label, upload.remote_id)


def rename_failed(ledger: Ledger, tx: Tx, number: int, reason: str, wait: float | None) -> None:
    """The rename was not answered; it is repeatable."""
    upload = tx.uploads.get(number)
    if upload is not None and upload.state.serves:
        tried = lifecycle.begin_delete(upload)
        tx.uploads.save(lifecycle.delete_put_off(tried, reason, wait, ledger.rhythm))


def expire(ledger: Ledger, tx: Tx, numbers: Sequence[int]) -> None:
    """Lost and deleted documents that nothing was heard of for long enough."""
    for number in numbers:
        upload = tx.uploads.get(number)
        if upload is not None and upload.state in (UploadState.PRESUMED_LOST, UploadState.TOMBSTONE):
            tx.uploads.save(lifecycle.expire(upload))
            _settle(ledger, tx, upload)


def recover(ledger: Ledger, tx: Tx) -> int:
    """At start every upload that was being sent is unsure. Returns how many were."""
    rows = tx.uploads.in_states(
        ledger.terms.mirror, ledger.terms.binding, (UploadState.SENDING,), limit=1_000_000
    )
    for upload in rows:
        tx.uploads.save(lifecycle.doubt(upload, "interrupted while sending", ledger.rhythm))
        _settle(ledger, tx, upload)
    return len(rows)


def _settle(ledger: Ledger, tx: Tx, upload: Upload) -> None:
    if upload.path is not None:
        ledger.settle(tx, upload.path)


def _event(upload: Upload) -> Happened:
    failed = upload.state is UploadState.FAILED
    took = (upload.accepted_at or upload.created_at) - upload.created_at
    return Happened(
        "document.failed" if failed else "document.ready",
        upload.path or upload.label,
        upload.remote_id,
        upload.attempts,
        max(0.0, took),
        upload.reason,
        upload.code,
        upload.predecessor is not None,
    )
