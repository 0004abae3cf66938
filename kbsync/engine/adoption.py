"""State lost, documents there: what the base already holds is taken over instead of being sent again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from kbsync.contract.mirroring import DocState, Listed, Target
from kbsync.core.model import FOUND_READY, Upload, UploadState
from kbsync.core.planner import UNKNOWN_SIZE
from kbsync.engine.ledger import Ledger
from kbsync.engine.terms import Terms
from kbsync.state.store import Store, Tx

PAGE = 200


async def adopt(store: Store, ledger: Ledger, target: Target) -> int:
    """List a base this state has never seen; returns how many documents may be ours.

    Each becomes an ADOPTING row at its path. Proof is the file's own digest, once it is known, against the
    marker, the tag in the name, or the document's bytes: it then serves, or is looked after until it does
    where the target does not call it searchable. What is never proven is left alone and reported by
    `verify`. Repeatable: rows that are known already are passed over, so a crash in the middle costs a
    second listing.
    """
    page: list[Listed] = []
    found = 0
    async for listed in ours(ledger.terms, target):
        page.append(listed)
        if len(page) == PAGE:
            found += await store.write(_recorder(ledger, page))
            page = []
    found += await store.write(_recorder(ledger, page))
    await store.write(lambda tx: tx.mirrors.set_adopted(ledger.terms.binding))
    return found


async def ours(terms: Terms, target: Target) -> AsyncIterator[Listed]:
    """Every listed document whose marker or name tells a path of this mirror, with that path."""
    shortened: Mapping[str, str] | None = None
    async for listed in target.list():
        read = terms.read(listed)
        if read.path is None and (short := terms.short_of(listed)):
            shortened = await asyncio.to_thread(_shortened, terms) if shortened is None else shortened
            read = replace(read, path=shortened.get(short))
        if read.path is not None:
            yield read


def _shortened(terms: Terms) -> Mapping[str, str]:
    """Paths in the folder that are too long for a name, by the hash that stands for them there."""
    root = os.fspath(terms.plan.root)
    found: dict[str, str] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root)
            if short := terms.naming.short_of(path):
                found[short] = path
    return found


def _recorder(ledger: Ledger, page: Sequence[Listed]) -> Callable[[Tx], int]:
    return lambda tx: sum(_record(ledger, tx, listed) for listed in page)


def _record(ledger: Ledger, tx: Tx, listed: Listed) -> int:
    if listed.path is None or tx.uploads.by_remote(ledger.terms.binding, listed.remote_id):
        return 0
    tx.uploads.add(adopting(ledger.terms, listed, listed.path, ledger.rhythm.now))
    ledger.settle(tx, listed.path)
    return 1


def adopting(terms: Terms, listed: Listed, path: str, now: float, number: int = 0) -> Upload:
    """The row of a document found at the base that may be ours."""
    return Upload(
        id=number,
        mirror=terms.mirror,
        binding=terms.binding,
        path=path,
        label=path,
        name=listed.name,
        digest=listed.digest or "",
        size=UNKNOWN_SIZE if listed.size is None else listed.size,
        recipe=terms.recipe(path) if listed.recipe is None else listed.recipe,
        state=UploadState.ADOPTING,
        remote_id=listed.remote_id,
        created_at=now,
        code=FOUND_READY if listed.state is DocState.READY else "",
    )
