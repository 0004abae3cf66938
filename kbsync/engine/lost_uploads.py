"""Searches for uploads whose response was lost; one complete list serves all of them.

If the target supports it, kbsync first queries a few by name, because a list of thousands takes minutes and
many requests. If that finds all of them, kbsync doesn't read the list; only a complete list proves that one
is absent. `engine/listing` decides which document may belong to which upload. If the name doesn't prove the
content, the document is read as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from kbsync.contract.target import Listed, SupportsDigest, SupportsFind, Target
from kbsync.core.links import is_address
from kbsync.core.model import LOOKED_FOR, Upload, UploadState
from kbsync.dataclass import dataclass
from kbsync.engine.listing import MAX_OPEN_UPLOADS, Claim, identify_all, proves_content, read_list
from kbsync.engine.settings import Binding
from kbsync.errors import TargetError
from kbsync.state.store import StateStore

MAX_NAME_QUERIES = 5
"""Maximum number of uploads to query by name; for more, reading the whole list needs fewer requests."""


@dataclass(frozen=True, slots=True)
class FoundUpload:
    """A row with its document in a complete list, or with None if the list doesn't contain one.

    `doubt`: a document that may belong to the row, if nothing in the list can prove that.
    """

    row: Upload
    listed: Listed | None
    doubt: Listed | None = None


async def find_uploads(
    store: StateStore,
    binding: Binding,
    target: Target,
    unsure: Sequence[Upload],
    on_answer: Callable[[], None] = lambda: None,
) -> list[FoundUpload]:
    """Search for every unsure row, and for every lost or deleted row that a later list may resolve.

    If all of `unsure` can be found by name, the list isn't read, and only those rows are returned. Raises
    `TargetError` if the list is incomplete.
    """
    found_by_name = await _find_by_name(store, binding, target, unsure)
    if found_by_name is not None:
        return found_by_name
    lost_rows = await store.read(
        lambda tx: tx.uploads.in_states(binding.mirror, binding.id, LOOKED_FOR, limit=MAX_OPEN_UPLOADS)
    )
    rows = {row.id: row for row in (*lost_rows, *unsure)}
    # An incomplete list raises: only a complete one proves absence (promise 3).
    claims = [
        claim
        async for batch in read_list(binding, target, store.read, on_answer)
        for claim in batch
        if claim.uploads or claim.doubts or (claim.row and claim.row.state is UploadState.TOMBSTONE)
    ]
    return await _assign(binding, target, list(rows.values()), claims)


async def _find_by_name(
    store: StateStore, binding: Binding, target: Target, rows: Sequence[Upload]
) -> list[FoundUpload] | None:
    """Return all rows, each with its document, or None if one of them can't be found by name."""
    if not isinstance(target, SupportsFind) or binding.limits.marks or len(rows) > MAX_NAME_QUERIES:
        return None
    if any(row.state is not UploadState.UNSURE or is_address(row.name) for row in rows):
        return None  # if a lost or deleted row is due, the list is read for all of them
    try:
        listed = [document for row in rows for document in await target.find(row.name)]
    except TargetError:
        return None  # read the whole list instead, which may report the error
    matches = await _assign(binding, target, rows, await store.read(partial(identify_all, binding, listed)))
    return matches if all(match.listed is not None for match in matches) else None


async def _assign(
    binding: Binding, target: Target, rows: Sequence[Upload], claims: Iterable[Claim]
) -> list[FoundUpload]:
    """Assign the newest matching document to each row, and each document to only one row."""
    fitting, doubts = defaultdict[int, list[Listed]](list), defaultdict[int, list[Listed]](list)
    for claim in sorted(claims, key=lambda claim: -(claim.listed.created or 0.0)):
        uploads = claim.uploads or ((claim.row,) if claim.row is not None else ())
        for row in uploads:
            fitting[row.id].append(claim.listed)
        for row in claim.doubts:
            doubts[row.id].append(claim.listed)
    # The mark, the tag in the name or the address proves the match; otherwise the bytes do, if available.
    taken_ids, matches = set[str](), list[FoundUpload]()
    for row in rows:
        reader = target if isinstance(target, SupportsDigest) else None
        if proves_content(binding) or row.remote_id is not None or is_address(row.name):
            reader = None
        for listed in fitting[row.id]:
            if listed.remote_id in taken_ids:
                continue
            if reader is None or await reader.digest(listed.remote_id) in (None, row.digest):
                taken_ids.add(listed.remote_id)
                matches.append(FoundUpload(row, listed))
                break
        else:
            matches.append(FoundUpload(row, None, next(iter(doubts[row.id]), None)))
    return matches
