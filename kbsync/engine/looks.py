"""Looking for uploads whose answer was lost: one complete list serves all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.contract import Listed, Target
from kbsync.core.model import Upload, UploadState
from kbsync.engine.ledger import Ledger
from kbsync.state.store import Store

PAST = (UploadState.PRESUMED_LOST, UploadState.TOMBSTONE)
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Sighting:
    """A row and the listed document that is it; None when a complete list did not have it."""

    row: Upload
    listed: Listed | None


async def look_for(store: Store, ledger: Ledger, target: Target, unsure: Sequence[Upload]) -> list[Sighting]:
    """Every unsure row, and every lost or deleted one that a later list may tell more about.

    Raises `TargetError` when the list is incomplete.
    """
    terms = ledger.terms
    past = await store.read(lambda tx: tx.uploads.in_states(terms.mirror, terms.binding, PAST, limit=MOST))
    wanted = {_key(row, target): row for row in (*past, *unsure) if row.state is not UploadState.TOMBSTONE}
    buried = {row.remote_id: row for row in past if row.state is UploadState.TOMBSTONE}
    found: dict[int, Listed] = {}
    async for listed in target.list():
        grave = buried.get(listed.remote_id)
        row = wanted.get(_listed_key(listed, target))
        if grave is not None:
            found[grave.id] = listed
        elif row is not None and await _is_unclaimed(store, ledger, row, listed):
            found.setdefault(row.id, listed)
    return [Sighting(row, found.get(row.id)) for row in (*unsure, *past)]


Key = tuple[object, ...]


def _key(row: Upload, target: Target) -> Key:
    return (row.id,) if target.limits.marks else (row.name, row.size)


def _listed_key(listed: Listed, target: Target) -> Key:
    return (listed.upload_id,) if target.limits.marks else (listed.name, listed.size)


async def _is_unclaimed(store: Store, ledger: Ledger, row: Upload, listed: Listed) -> bool:
    """Documents that another row holds, alive or deleted, are not this one, unless they carry its mark."""
    if listed.digest is not None and listed.digest != row.digest:
        return False
    if listed.upload_id == row.id:
        return True
    known = await store.read(lambda tx: tx.uploads.by_remote(ledger.terms.binding, listed.remote_id))
    return all(other.id == row.id for other in known)
