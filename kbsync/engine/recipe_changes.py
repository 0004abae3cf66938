"""Documents that changed settings want made anew: weighed, held for a person, and let go.

Settings are weighed as a whole: every file has been judged under them before. Nothing here sends anything.
What may go is said on the row of the document that serves, and the planner makes its successor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from kbsync.core import lifecycle
from kbsync.core.brake import must_ask
from kbsync.core.model import Upload, UploadState
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import APPROVAL_KEPT
from kbsync.engine.journal import Journal
from kbsync.engine.terms import changes_of
from kbsync.state.approvals import LET_GO, RENEWALS, Extent, Renewal
from kbsync.state.glance import Tx
from kbsync.state.store import Store

log = structlog.get_logger("kbsync")

PAGE = 256


class RecipeChanges:
    """The renewals of one mirror.

    Cut anywhere it goes on: what was decided of all at once is in one commit, and rows are told page by page.
    """

    def __init__(self, store: Store, journal: Journal, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self.may_wait = True
        """Something may wait to be weighed; False only when surely nothing does."""
        self._put_off_since: float | None = None

    @property
    def _mirror(self) -> int:
        return self._journal.terms.mirror

    async def is_due(self) -> bool:
        """Something is to be weighed, or was and its documents' rows do not say so yet."""
        if not self._journal.terms.abilities.weighs:
            self.may_wait = False
            return False
        self.may_wait = await self._store.read(lambda tx: tx.renewals.is_busy(self._mirror))
        return self.may_wait

    async def weigh(self) -> Extent | None:
        """Weigh what waits for it; returns what a person is asked about now.

        Deletions are weighed before: what goes is not in the scales. They are waited for as long as a file
        is that never gets quiet, and no longer: in some folders files go all the time.
        """
        due = await self.next_due()
        if due is None or due > self._clock.steady():
            return None
        self._put_off_since = None
        held = await self._store.write(self._weigh)
        await self._page(self._tell_page)
        return held

    async def next_due(self) -> float | None:
        """Steady time from which `weigh` has something to do; None where nothing waits."""
        now = self._clock.steady()
        if not await self.is_due():
            self._put_off_since = None
            return None
        if not await self._store.read(self._some_may_go):
            return now
        if self._put_off_since is None:
            self._put_off_since = now
        return max(now, self._put_off_since + self._journal.terms.plan.settle_longest)

    def _some_may_go(self, tx: Tx) -> bool:
        """Files wait for their second look, or their deletions for the brake."""
        is_missed = tx.entries.first_missed(self._mirror) is not None
        return is_missed or tx.holds.candidate_times(self._mirror)[0] > 0

    def _weigh(self, tx: Tx) -> Extent | None:
        """What waits is let go or held as a whole, with what is held already in the scales."""
        terms, mirror = self._journal.terms, self._mirror
        waiting = tx.renewals.waiting(mirror)
        if not waiting:
            return None
        serving = tx.uploads.serving_count(mirror, terms.binding)
        if not must_ask(waiting + tx.renewals.held(mirror), serving):
            tx.renewals.assign(mirror, LET_GO)
            return None
        extent = tx.renewals.extent(mirror, None)
        changes = changes_of(terms.describe, extent.recipes)
        tx.renewals.assign(mirror, tx.holds.open(mirror, self._clock.wall(), RENEWALS, changes))
        return extent

    async def _page(self, step: Callable[[Tx], bool]) -> None:
        """A step a transaction until one finds nothing to do."""
        while await self._store.write(step):
            pass

    def _tell_page(self, tx: Tx) -> bool:
        rows = tx.renewals.untold(self._mirror, PAGE)
        for row in rows:
            self._tell(tx, row)
        return bool(rows)

    def _tell(self, tx: Tx, row: Renewal) -> None:
        server = self._server(tx, row)
        if server is None:
            tx.renewals.drop(row.upload)
            tx.holds.end_empty(self._mirror, self._clock.wall())
        elif row.hold == LET_GO:
            self._allow(tx, server, row)
        else:
            tx.uploads.save(lifecycle.ask(server, row.recipe))
            tx.renewals.tell(row.upload)
            tx.audit.add(self._clock.wall(), self._mirror, "recipe.held", server.path)
            self._journal.settle(tx, server.path or "")

    def _server(self, tx: Tx, row: Renewal) -> Upload | None:
        """The upload this is about, while it serves a file that wants this recipe."""
        upload = tx.uploads.get(row.upload)
        if upload is None or upload.state is not UploadState.SERVING or upload.path is None:
            return None
        entry = tx.entries.get(self._mirror, upload.path)
        is_wanted = entry is not None and self._journal.wish(entry).recipe == row.recipe
        return upload if is_wanted else None

    def _allow(self, tx: Tx, server: Upload, row: Renewal) -> None:
        tx.renewals.drop(row.upload)
        tx.uploads.save(lifecycle.allow(server, row.recipe))
        self._journal.settle(tx, server.path or "")

    async def run_approved(self) -> int:
        """Let go what a person approved and is still as it was then; returns how many documents."""
        holds = await self._store.read(lambda tx: tx.holds.current(self._mirror, RENEWALS))
        approved = [hold.id for hold in holds if hold.approved_at is not None]
        if not approved:
            return 0
        old = self._clock.wall() - APPROVAL_KEPT
        await self._store.write(lambda tx: tx.holds.unapprove_before(self._mirror, old))
        before = await self._store.read(lambda tx: self._left(tx, approved))
        for hold in approved:
            await self._page(partial(self._run_page, hold))
        return before

    def _left(self, tx: Tx, holds: list[int]) -> int:
        return sum(tx.renewals.extent(self._mirror, hold).documents for hold in holds)

    def _run_page(self, hold: int, tx: Tx) -> bool:
        rows = (
            tx.renewals.items(self._mirror, hold, limit=PAGE) if _is_approved(tx, self._mirror, hold) else []
        )
        for row in rows:
            self._run(tx, row)
        if rows:
            tx.holds.end_empty(self._mirror, self._clock.wall())
        return bool(rows)

    def _run(self, tx: Tx, row: Renewal) -> None:
        server = self._server(tx, row)
        if server is not None and server.asked == row.recipe:
            tx.audit.add(self._clock.wall(), self._mirror, "recipe.released", server.path)
            self._allow(tx, server, row)
        else:
            tx.renewals.drop(row.upload)


def _is_approved(tx: Tx, mirror: int, hold: int) -> bool:
    holds = tx.holds.current(mirror, RENEWALS)
    return any(one.id == hold and one.approved_at is not None for one in holds)
