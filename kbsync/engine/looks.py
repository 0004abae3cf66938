"""Looking for uploads whose answer was lost: one complete list serves all of them."""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.contract import Listed, Target
from kbsync.core.model import Upload
from kbsync.engine.ledger import Ledger
from kbsync.state.store import Store

Seen = tuple[Upload, Listed | None]


async def look_for(store: Store, ledger: Ledger, target: Target, rows: Sequence[Upload]) -> list[Seen]:
    """Each row with the document that is it, or None. Raises `TargetError` when the list is incomplete."""
    wanted = {_key(row, target): row for row in rows}
    found: dict[int, Listed] = {}
    async for listed in target.list():
        row = wanted.get(_listed_key(listed, target))
        if row is not None and await _is_unclaimed(store, ledger, row, listed):
            found.setdefault(row.id, listed)
    return [(row, found.get(row.id)) for row in rows]


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
