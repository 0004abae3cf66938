"""Looking for uploads whose answer was lost: one complete list serves all of them.

Where the target keeps our marker, the marker tells. Elsewhere a document is an upload's if its name is the
one that was sent (as far as the service left it alone), its length is that of the bytes, it is not older
than the request, and no other upload holds it. A name that does not prove the content is proven by reading.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kbsync.contract import Listed, Reads, Target
from kbsync.core.model import Upload, UploadState
from kbsync.engine.ledger import Ledger
from kbsync.engine.terms import Terms
from kbsync.state.store import Store

PAST = (UploadState.PRESUMED_LOST, UploadState.TOMBSTONE)
MOST = 10_000
CLOCK_SLACK = 120.0
"""Seconds by which the clocks of the target and this machine may differ after correction."""


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
    numbers = {row.id for row in past}
    rows = [*past, *(row for row in unsure if row.id not in numbers)]
    hunt = _Hunt(terms, rows)
    async for listed in target.list():
        hunt.see(listed)
    found = dict(hunt.buried)
    for row, candidates in hunt.candidates():
        seen = await _first_that_is(store, terms, target, row, candidates, found.values())
        if seen is not None:
            found[row.id] = seen
    return [Sighting(row, found.get(row.id)) for row in rows]


Key = tuple[object, ...]


@dataclass(slots=True)
class _Hunt:
    """Sorts listed documents to the rows they may be."""

    terms: Terms
    rows: Sequence[Upload]
    buried: dict[int, Listed] = field(default_factory=dict)
    _graves: dict[str | None, Upload] = field(default_factory=dict)
    _wanted: dict[Key, list[Upload]] = field(default_factory=lambda: defaultdict(list))
    _seen: dict[int, list[Listed]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.state is UploadState.TOMBSTONE:
                self._graves[row.remote_id] = row
            else:
                key = self._key(row.name, row.id)
                self._wanted[(*key, row.size)].append(row)
                self._wanted[(*key, None)].append(row)  # for a list that tells no length

    def _key(self, name: str, number: int | None) -> Key:
        return (number,) if self.terms.limits.marks else (self.terms.naming.key(name),)

    def see(self, listed: Listed) -> None:
        """One document of the list."""
        grave = self._graves.get(listed.remote_id)
        if grave is not None:
            self.buried[grave.id] = listed
            return
        for row in self._wanted.get((*self._key(listed.name, listed.upload_id), listed.size), ()):
            if self._may_be(row, listed):
                self._seen[row.id].append(listed)

    def _may_be(self, row: Upload, listed: Listed) -> bool:
        if self.terms.limits.marks:
            return listed.digest in (None, row.digest)
        is_older = (
            listed.created is not None
            and row.sent_at is not None
            and listed.created < row.sent_at - CLOCK_SLACK
        )
        return not is_older and self.terms.naming.recognises(row.name, listed.name)

    def candidates(self) -> Iterable[tuple[Upload, list[Listed]]]:
        """Rows with the documents they may be, the newest first."""
        for row in self.rows:
            if seen := self._seen.get(row.id):
                yield row, sorted(seen, key=lambda listed: -(listed.created or 0.0))


async def _first_that_is(
    store: Store,
    terms: Terms,
    target: Target,
    row: Upload,
    candidates: Sequence[Listed],
    taken: Iterable[Listed],
) -> Listed | None:
    others = {listed.remote_id for listed in taken}
    for listed in candidates:
        if listed.remote_id in others or not await _is_unclaimed(store, terms, row, listed):
            continue
        if await _has_its_bytes(terms, target, row, listed):
            return listed
    return None


async def _is_unclaimed(store: Store, terms: Terms, row: Upload, listed: Listed) -> bool:
    """Documents that another row holds, alive or deleted, are not this one, unless they carry its mark."""
    if listed.upload_id == row.id:
        return True
    known = await store.read(lambda tx: tx.uploads.by_remote(terms.binding, listed.remote_id))
    return all(other.id == row.id for other in known)


async def _has_its_bytes(terms: Terms, target: Target, row: Upload, listed: Listed) -> bool:
    """The marker or the tag in the name proves it; else the bytes do, where they can be had."""
    if terms.limits.marks or terms.plan.names == "tagged" or not isinstance(target, Reads):
        return True
    return await target.digest(listed.remote_id) in (None, row.digest)
