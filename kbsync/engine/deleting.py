"""The last look before documents are deleted: what must go on being found stays, whatever was decided."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from kbsync.core import lifecycle
from kbsync.core.model import Presence, Purpose, Upload, UploadState, Wish
from kbsync.core.planner import is_undecided, must_stay, parting_cause
from kbsync.engine.ledger import Ledger
from kbsync.engine.mounted import heed_mounts
from kbsync.source.looker import look
from kbsync.state.store import Store, Tx


async def returned(store: Store, ledger: Ledger, rows: Sequence[Upload]) -> Mapping[int, bool]:
    """Those whose file used to be gone and is not now, by id; False where nobody can say.

    Days may lie between the decision and the delete: the target was down, or kbsync did not run.
    """
    paths = await store.read(lambda tx: _gone_paths(ledger, tx, rows))
    if not paths:
        return {}
    root, lists = ledger.terms.plan.root, ledger.terms.rules.takes_links
    found = await asyncio.to_thread(
        lambda: [(path, look(root, path, lists=lists)) for path in set(paths.values())]
    )
    seen = dict(await heed_mounts(store, ledger.terms, found))
    return {
        number: seen[path].presence is Presence.PRESENT
        for number, path in paths.items()
        if not seen[path].lacks_file
    }


def _gone_paths(ledger: Ledger, tx: Tx, rows: Sequence[Upload]) -> dict[int, str]:
    """The paths, by row, of what is deleted for being gone and would not be deleted if it were there."""
    wishes = {row.id: _wish(ledger, tx, row) for row in rows}
    return {number: wish.path for number, wish in wishes.items() if wish is not None and _is_gone(wish)}


def _is_gone(wish: Wish) -> bool:
    is_missed = wish.presence is Presence.GONE
    return is_missed and not parting_cause(replace(wish, presence=Presence.PRESENT))


def begin(
    ledger: Ledger, tx: Tx, numbers: Sequence[int], kept: Container[int], *, is_full: bool
) -> list[Upload]:
    """Count the attempt of those still retiring; only they may be deleted.

    What used to serve a path that is wanted again goes on serving, and a document that another row counts on
    (an update in place shares it) is left alone. `kept`: not now. `is_full`: no successor is waited for,
    since it may need the room.
    """
    begun = []
    for number in numbers:
        upload = _settled(ledger, tx, number)
        if upload is None or upload.state is not UploadState.RETIRING:
            continue
        if _is_shared(ledger, tx, upload):
            tx.uploads.save(lifecycle.gone(upload))
        elif number in kept:
            tx.uploads.save(lifecycle.await_word(upload, ledger.rhythm))
        elif (waiting := _put_off(ledger, tx, upload, is_full=is_full)) is not None:
            tx.uploads.save(waiting)
        else:
            begun.append(lifecycle.begin_delete(upload))
            tx.uploads.save(begun[-1])
    return begun


def _settled(ledger: Ledger, tx: Tx, number: int) -> Upload | None:
    """As it is once its path was decided about anew."""
    before = tx.uploads.get(number)
    if before is not None and before.path is not None:
        ledger.settle(tx, before.path)
    return tx.uploads.get(number)


def _put_off(ledger: Ledger, tx: Tx, upload: Upload, *, is_full: bool) -> Upload | None:
    """The row, waiting: for its file to be read, or for a successor. None: its document may go."""
    wish = _wish(ledger, tx, upload)
    others = [] if wish is None else ledger.uploads(tx, wish.path)
    if wish is None or any(other.state.serves for other in others):
        return None
    if is_undecided(wish):
        return lifecycle.await_word(upload, ledger.rhythm)
    if not is_full and must_stay(upload, wish, others):
        return lifecycle.await_successor(upload, ledger.rhythm)
    return None


def _wish(ledger: Ledger, tx: Tx, upload: Upload) -> Wish | None:
    """What is wanted at the path that a document used to serve; None for one that never served any."""
    if upload.path is None or upload.purpose is not Purpose.SERVE:
        return None
    entry = tx.entries.get(ledger.terms.mirror, upload.path)
    return None if entry is None else ledger.wish(entry)


def _is_shared(ledger: Ledger, tx: Tx, upload: Upload) -> bool:
    rows = tx.uploads.by_remote(ledger.terms.binding, upload.remote_id or "")
    return any(u.id != upload.id and (u.state.serves or u.state.in_flight) for u in rows)
