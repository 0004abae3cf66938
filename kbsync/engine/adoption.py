"""State lost, documents there: what the base already holds is taken over instead of being sent again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kbsync.contract import Listed, Target
from kbsync.core.model import Upload, UploadState
from kbsync.engine.ledger import Ledger
from kbsync.engine.terms import Terms
from kbsync.state.store import Store, Tx

PAGE = 200


async def adopt(store: Store, ledger: Ledger, target: Target) -> int:
    """List a base this state has never seen; returns how many documents may be ours.

    Each becomes an ADOPTING row at its path. Proof is the file's own digest, once it is known: the planner
    then lets it serve. What is never proven is left alone and reported by `verify`. Repeatable: rows that are
    known already are passed over, so a crash in the middle costs a second listing.
    """
    page: list[Listed] = []
    found = 0
    async for listed in target.list():
        page.append(listed)
        if len(page) == PAGE:
            found += await store.write(_recorder(ledger, page))
            page = []
    found += await store.write(_recorder(ledger, page))
    await store.write(lambda tx: tx.mirrors.set_adopted(ledger.terms.binding))
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
        size=listed.size or 0,
        recipe=listed.recipe or "",
        state=UploadState.ADOPTING,
        remote_id=listed.remote_id,
        created_at=now,
    )
