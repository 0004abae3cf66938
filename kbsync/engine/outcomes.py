"""What the target answered, written into the journal, and the planner's next word on it.

Each function runs in a transaction, reads the row afresh (the planner may have changed its mind while the
request was on its way) and returns what is worth a line in the log.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from kbsync.contract.mirroring import Accepted, DeleteOutcome, DocState, DocStatus, Listed, PutOutcome
from kbsync.core import lifecycle
from kbsync.core.links import is_address
from kbsync.core.model import UNREADABLE, Purpose, Upload, UploadState
from kbsync.core.printable import printable
from kbsync.engine.ledger import Ledger
from kbsync.errors import Halted, NameTaken, Rejected, Unavailable
from kbsync.state.store import Tx

NAME_TRIES = 5
SAME_ADDRESS_PAUSE = 2.0
PROOF_TRIES = 4


@dataclass(frozen=True, slots=True)
class Happened:
    """One canonical line: `event` is `noun.past_verb`, `seconds` from intent to end, `size` in bytes.

    `phases`: these seconds by what they were spent with; None where nothing was sent.
    """

    event: str
    path: str
    document_id: str | None = None
    attempt: int = 0
    seconds: float = 0.0
    phases: Mapping[str, float] | None = None
    size: int = 0
    upload: int = 0
    reason: str = ""
    code: str = ""
    replaced: bool = False


def claim(
    ledger: Ledger, tx: Tx, numbers: Sequence[int], addresses: Mapping[int, str] = MappingProxyType({})
) -> list[Upload]:
    """INTENDED → SENDING for those still intended; only they may be sent.

    A page is known at the target by its address, which becomes the name of its upload. Two of one address
    are sent one after the other: of a document that nobody answered for it must be clear whose it is.
    """
    claimed = []
    for number in numbers:
        upload = tx.uploads.get(number)
        if upload is None or upload.state is not UploadState.INTENDED:
            continue
        address = addresses.get(number)
        if address is not None and tx.uploads.is_in_doubt(address):
            waiting = lifecycle.refund(upload, _ONE_BY_ONE, ledger.rhythm, SAME_ADDRESS_PAUSE)
            tx.uploads.save(waiting)
            continue
        sending = lifecycle.send(upload if address is None else replace(upload, name=address), ledger.rhythm)
        tx.uploads.save(sending)
        claimed.append(sending)
    return claimed


_ONE_BY_ONE = "waits for another document of the same address"


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
        case Accepted():
            return _accepted(ledger, tx, upload, outcome)
        case NameTaken() if upload.looks < NAME_TRIES and upload.path is not None:
            name = ledger.next_name(tx, upload)
            changed = lifecycle.rename_intent(upload, name, outcome.reason, ledger.rhythm)
        case Rejected(may_pass=True):
            changed = lifecycle.send_once_more(upload, outcome.reason, outcome.code, ledger.rhythm)
        case Rejected():
            changed = lifecycle.reject(upload, outcome.reason, outcome.code)
        case Unavailable(untried=True):
            wait = outcome.retry_after or 0.0
            changed = lifecycle.refund(upload, outcome.reason, ledger.rhythm, wait)
        case Unavailable():
            changed = lifecycle.put_off(upload, outcome.reason, outcome.retry_after, ledger.rhythm)
        case Halted():
            changed = lifecycle.refund(upload, outcome.reason, ledger.rhythm)
        case _:
            changed = lifecycle.doubt(upload, outcome.reason, ledger.rhythm)
    tx.uploads.save(changed)
    _settle(ledger, tx, changed)
    return _event(ledger, changed) if changed.state is UploadState.FAILED else None


def _ending(upload: Upload) -> str:
    if upload.state is not UploadState.FAILED:
        return "document.ready"
    is_skipped = upload.is_without_text and upload.predecessor is None
    return "document.skipped" if is_skipped else "document.failed"


def _accepted(ledger: Ledger, tx: Tx, upload: Upload, answer: Accepted) -> Happened | None:
    ledger.note_time(tx, upload, answer.created)
    if answer.replaced:  # the predecessor is no more: whatever was wished meanwhile, this one serves now
        upload = lifecycle.want(upload)
    accepted = lifecycle.accept(upload, answer.remote_id, answer.ready, ledger.rhythm)
    return _take_up(ledger, tx, _named_as(accepted, answer.name), answer.replaced)


def _named_as(upload: Upload, name: str) -> Upload:
    """The target may call it otherwise than it was sent."""
    return replace(upload, name=name) if name else upload


def _take_up(ledger: Ledger, tx: Tx, upload: Upload, replaced: bool = False) -> Happened | None:
    """Save a row that the target has; if it serves from now on, its predecessor makes way."""
    is_renamed = _is_renaming(ledger, tx, upload)
    if upload.state is UploadState.SERVING and upload.path is not None:
        ledger.enter_service(tx, upload, replaced=replaced)
    else:
        tx.uploads.save(upload)
    _settle(ledger, tx, upload)
    if upload.state is not UploadState.SERVING:
        return None
    event = _event(ledger, upload)
    return replace(event, event="document.renamed") if is_renamed else event


def _is_renaming(ledger: Ledger, tx: Tx, upload: Upload) -> bool:
    """The same bytes served the file under another name until now."""
    rows = [] if upload.path is None else ledger.uploads(tx, upload.path)
    content = (upload.digest, upload.recipe)
    return any(u.state.serves and u.id != upload.id and (u.digest, u.recipe) == content for u in rows)


class Repair(enum.Enum):
    """What was done about a document that failed to index."""

    NONE = enum.auto()
    ASKED = enum.auto()  # the target was asked to index it again
    AWAITED = enum.auto()  # the account is full: nothing is done until there is room
    NOT_OFFERED = enum.auto()  # the target cannot be asked
    LATER = enum.auto()  # the target could not be asked now, or it is not this document's turn


def status_known(
    ledger: Ledger, tx: Tx, number: int, status: DocStatus, repair: Repair = Repair.NONE
) -> Happened | None:
    """A document that was indexing was looked at, and if it failed, something was done about it."""
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.INDEXING:
        return None
    rhythm = ledger.rhythm
    match status.state:
        case DocState.READY:
            return _take_up(ledger, tx, lifecycle.serve(upload))
        case DocState.FAILED if repair is Repair.AWAITED:
            changed = lifecycle.await_room(upload, status.reason, rhythm)
        case DocState.FAILED if repair is Repair.ASKED:
            changed = lifecycle.repair(upload, status.reason, rhythm, spent=not status.halt)
        case DocState.FAILED:
            return failed_to_index(ledger, tx, upload, status, repair)
        case DocState.MISSING:
            changed = lifecycle.vanished(upload, rhythm)
            if changed.state is not UploadState.INDEXING:
                return failed_to_index(ledger, tx, changed, _VANISHED)
        case _:
            changed = lifecycle.wait_on(upload, rhythm, is_working=status.state is DocState.INDEXING)
            tx.uploads.save(changed)
            return None  # nothing follows from it
    tx.uploads.save(changed)
    _settle(ledger, tx, changed)
    return None


def resliced(ledger: Ledger, tx: Tx, number: int, repair: Repair) -> None:
    """The target was asked to cut a document anew, or cannot be: then a fresh upload takes its place."""
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.INDEXING or upload.code != lifecycle.RESLICE:
        return
    rhythm, server = ledger.rhythm, _original(ledger, tx, upload)
    match repair:
        case Repair.ASKED if server is not None:
            tx.uploads.save(lifecycle.recutting(upload, rhythm))
        case Repair.ASKED:
            tx.uploads.save(lifecycle.repair(upload, "", rhythm, spent=False))
        case Repair.LATER if not lifecycle.is_overdue(upload, rhythm):
            tx.uploads.save(lifecycle.wait_on(upload, rhythm))
        case _ if server is not None:
            refused = DocStatus(DocState.FAILED, "it could not be cut anew where it lies")
            is_untouched = repair is Repair.NOT_OFFERED and upload.attempts <= 1
            _send_instead(ledger, tx, upload, refused, None if is_untouched else server)
        case _:
            tx.uploads.save(lifecycle.retire(upload, rhythm))
    _settle(ledger, tx, upload)


def begin_reslice(ledger: Ledger, tx: Tx, number: int) -> bool:
    """On disk before the target is asked to cut a document anew; False where that is not wanted any more."""
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.INDEXING or upload.code != lifecycle.RESLICE:
        return False
    if _original(ledger, tx, upload) is not None:
        tx.uploads.save(lifecycle.begin_recut(upload))
    return True


def _original(ledger: Ledger, tx: Tx, upload: Upload) -> Upload | None:
    """The upload that serves and whose document this one cuts anew, if it is one that does."""
    return None if upload.path is None else ledger.original(upload, ledger.uploads(tx, upload.path))


def _send_instead(
    ledger: Ledger, tx: Tx, upload: Upload, why: DocStatus, touched: Upload | None, *, spent: bool = False
) -> None:
    """A fresh upload stands for a document that could not be cut anew; `touched` may not be as it was."""
    if touched is not None:
        ledger.forget_recipe(tx, touched)
    name = ledger.next_name(tx, upload)
    tx.uploads.save(lifecycle.send_instead(upload, name, why.reason, ledger.rhythm, spent=spent))
    _settle(ledger, tx, upload)


def proof_ended(ledger: Ledger, tx: Tx, number: int, digest: str | None) -> None:
    """The bytes of a found document were read; None: they cannot be had now."""
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.ADOPTING:
        return
    tried = replace(upload, attempts=upload.attempts + 1, next_look_at=None)
    if digest is None and tried.attempts < PROOF_TRIES:
        tx.uploads.save(lifecycle.delete_put_off(tried, "its bytes could not be read", None, ledger.rhythm))
        return
    tx.uploads.save(tried)
    tx.uploads.recast(number, digest=digest or UNREADABLE)
    _settle(ledger, tx, upload)


_VANISHED = DocStatus(DocState.MISSING, "accepted, and soon after no longer at the target", "vanished")


def release_blamed(ledger: Ledger, tx: Tx, paths: Collection[str], code: str, reason: str) -> None:
    """The target was to blame for these rejections: as if the documents had not been tried."""
    for path in paths:
        for upload in ledger.uploads(tx, path):
            if upload.state is UploadState.FAILED and upload.code == code and upload.remote_id is None:
                tx.uploads.save(lifecycle.refund(upload, reason, ledger.rhythm))
                ledger.settle(tx, path)


def failed_to_index(
    ledger: Ledger, tx: Tx, upload: Upload, why: DocStatus, repair: Repair = Repair.NONE
) -> Happened | None:
    """Indexing failed for good this time: a fresh upload while tries are left, else quarantine.

    A fresh upload comes after the target was asked to index again, or in place of that where it cannot be
    asked. Where the account is to blame it costs the document no try.
    """
    if (server := _original(ledger, tx, upload)) is not None:
        _send_instead(ledger, tx, upload, why, server, spent=not why.halt)
        return None
    offered = ledger.terms.abilities.reembeds and repair is not Repair.NOT_OFFERED
    tries = ledger.terms.limits.reembed_tries + (1 if offered else 0)
    if why.halt or upload.repairs < tries:
        fresh = lifecycle.again(upload, why.reason, ledger.rhythm, spent=not why.halt)
        if not ledger.terms.limits.marks:
            fresh = replace(fresh, name=ledger.next_name(tx, upload))
        is_there = upload.state not in (UploadState.GONE, UploadState.TOMBSTONE)
        tx.uploads.save(lifecycle.retire(upload, ledger.rhythm) if is_there else upload)
        tx.uploads.add(fresh)
        _settle(ledger, tx, fresh)
        return None
    failed = replace(lifecycle.reject(upload, why.reason, why.code), attempts=upload.repairs)
    tx.uploads.save(failed)
    _settle(ledger, tx, failed)
    return _event(ledger, failed)


def look_ended(
    ledger: Ledger,
    tx: Tx,
    number: int,
    seen: Listed | None,
    began: float,
    doubt: Listed | None = None,
) -> Happened | None:
    """A complete list, asked for from `began` on, was gone through for this row: unsure, lost, or deleted.

    `doubt`: a document that may be this page's, and that nothing proves to be.
    """
    upload = tx.uploads.get(number)
    if upload is not None and seen is not None and is_address(upload.name) and _is_taken(tx, upload, seen):
        seen = None
    match upload:
        case Upload(state=UploadState.UNSURE) if seen is None:
            changed = lifecycle.not_found(upload, ledger.rhythm, began)
            if doubt is not None and changed.state is UploadState.PRESUMED_LOST:
                return _unproven(ledger, tx, upload, doubt)
        case Upload(state=UploadState.TOMBSTONE) if seen is None:
            changed = lifecycle.gone(upload)
        case Upload(state=UploadState.PRESUMED_LOST) if seen is None:
            changed = lifecycle.still_lost(upload, ledger.rhythm)
        case Upload(state=UploadState.TOMBSTONE):
            changed = lifecycle.still_there(upload, ledger.rhythm)
        case Upload(state=UploadState.UNSURE | UploadState.PRESUMED_LOST) if seen is not None:
            return _found_again(ledger, tx, upload, seen)
        case _:
            return None
    tx.uploads.save(changed)
    _settle(ledger, tx, changed)
    if upload.state is UploadState.UNSURE and changed.state is not UploadState.UNSURE:
        _remember_tries(ledger, tx, changed)
    return None


def _is_taken(tx: Tx, upload: Upload, seen: Listed) -> bool:
    """Another row holds it; addresses are no names of ours, so that many may have one."""
    return any(other.id != upload.id for other in tx.uploads.holders(seen.remote_id))


def _unproven(ledger: Ledger, tx: Tx, upload: Upload, doubt: Listed) -> Happened | None:
    """Sent again, it may be there twice; taken for ours, it may be another's: a person decides."""
    if upload.purpose is Purpose.RETIRE:
        tx.uploads.save(lifecycle.drop(upload))
        return None
    name = printable(doubt.name)[:100]
    failed = lifecycle.reject(upload, f"{_NOT_ANSWERED} ({name}, {doubt.remote_id}); {_DECIDE}", UNPROVEN)
    tx.uploads.save(failed)
    _settle(ledger, tx, failed)
    return _event(ledger, failed)


UNPROVEN = "unproven"
_NOT_ANSWERED = "its upload was not answered, and a document of that moment may be its page"
_DECIDE = "delete that one at the service if it is, then retry this one"


def _remember_tries(ledger: Ledger, tx: Tx, lost: Upload) -> None:
    """What is sent in place of a lost upload goes on counting: it must not go round for ever."""
    for row in ledger.uploads(tx, lost.path or ""):
        is_same = (row.digest, row.recipe) == (lost.digest, lost.recipe)
        if row.state is UploadState.INTENDED and is_same:
            tx.uploads.save(lifecycle.send_after_loss(row, lost, ledger.rhythm))


def _found_again(ledger: Ledger, tx: Tx, upload: Upload, seen: Listed) -> Happened | None:
    """One that was given up serves only if nothing else does."""
    ledger.note_lag(tx, lifecycle.lag_seen(upload))
    ready = seen.state is DocState.READY
    if upload.state is UploadState.PRESUMED_LOST and _is_served(ledger, tx, upload, ready):
        upload = lifecycle.unwant(upload)
    found = lifecycle.accept(upload, seen.remote_id, ready, ledger.rhythm)
    return _take_up(ledger, tx, found if is_address(found.name) else _named_as(found, seen.name))


def _is_served(ledger: Ledger, tx: Tx, upload: Upload, ready: bool) -> bool:
    """Something else serves this path, or brings the same version and this one is not `ready`.

    So it is where nobody asks for it any more.
    """
    if upload.path is None or tx.entries.get(ledger.terms.mirror, upload.path) is None:
        return True  # no file of ours wants it any more
    version = (upload.digest, upload.recipe)
    others = [u for u in ledger.uploads(tx, upload.path) if u.id != upload.id]
    is_coming = any(u.state.in_flight and (u.digest, u.recipe) == version for u in others)
    return any(u.state.serves for u in others) or (is_coming and not ready)


def _made_way(ledger: Ledger, tx: Tx, upload: Upload) -> bool:
    """Another upload serves its path, or is about to."""
    rows = [] if upload.path is None else ledger.uploads(tx, upload.path)
    return any(u.id != upload.id and (u.state.serves or u.state.in_flight) for u in rows)


def delete_ended(ledger: Ledger, tx: Tx, number: int, outcome: DeleteOutcome) -> Happened | None:
    """A delete was answered."""
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.RETIRING:
        return None
    rhythm = ledger.rhythm
    event = "document.retired" if _made_way(ledger, tx, upload) else "document.deleted"
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
    if outcome is not None:
        return None
    return _told(event, upload, upload.path or upload.label)


def renamed(ledger: Ledger, tx: Tx, number: int, label: str) -> Happened | None:
    """The target knows the document under its new path."""
    upload = tx.uploads.get(number)
    if upload is None or not upload.state.serves:
        return None
    name = ledger.terms.naming.name(label, upload.digest)
    tx.uploads.save(lifecycle.relabelled(upload, label, name))
    _settle(ledger, tx, upload)
    return _told("document.renamed", upload, label)


def rename_failed(ledger: Ledger, tx: Tx, number: int, reason: str, wait: float | None) -> None:
    """The rename was not answered; it is repeatable."""
    upload = tx.uploads.get(number)
    if upload is not None and upload.state.serves:
        tried = lifecycle.begin_delete(upload)
        tx.uploads.save(lifecycle.delete_put_off(tried, reason, wait, ledger.rhythm))


def recover(ledger: Ledger, tx: Tx, busy: Collection[int] = ()) -> int:
    """Every upload that was being sent is unsure, but those that still are, `busy`. Returns how many."""
    sending = tx.uploads.in_states(
        ledger.terms.mirror, ledger.terms.binding, (UploadState.SENDING,), limit=1_000_000
    )
    rows = [upload for upload in sending if upload.id not in busy]
    for upload in rows:
        tx.uploads.save(lifecycle.doubt(upload, "interrupted while sending", ledger.rhythm))
        _settle(ledger, tx, upload)
    return len(rows)


def _settle(ledger: Ledger, tx: Tx, upload: Upload) -> None:
    if upload.path is not None:
        ledger.settle(tx, upload.path)


def _event(ledger: Ledger, upload: Upload) -> Happened:
    now = ledger.rhythm.now
    return Happened(
        _ending(upload),
        upload.path or upload.label,
        upload.remote_id,
        upload.attempts,
        max(0.0, now - upload.created_at),
        _phases(upload, now),
        upload.size,
        upload.id,
        upload.reason,
        upload.code,
        upload.predecessor is not None,
    )


def hurry(ledger: Ledger, tx: Tx, ids: Collection[str]) -> bool:
    """Look soon at those of these remote ids that are being indexed; True where there are any."""
    terms, found = ledger.terms, False
    for remote_id in ids:
        for row in tx.uploads.by_remote(terms.binding, remote_id):
            if row.mirror == terms.mirror and lifecycle.may_be_hurried(row):
                tx.uploads.save(lifecycle.hurried(row, ledger.rhythm))
                found = True
    return found


def _told(event: str, upload: Upload, path: str) -> Happened:
    return Happened(event, path, upload.remote_id, upload.attempts, size=upload.size, upload=upload.id)


def _phases(upload: Upload, now: float) -> dict[str, float]:
    """Until it was sent for the last time, until the target had it, and until the end."""
    accepted = now if upload.accepted_at is None else upload.accepted_at
    sent = accepted if upload.sent_at is None else min(upload.sent_at, accepted)
    spans = {"waiting": sent - upload.created_at, "sending": accepted - sent, "indexing": now - accepted}
    return {name: max(0.0, seconds) for name, seconds in spans.items()}
