"""Documents that changed settings want indexed again, where indexing costs money: counted, then asked about.

A document whose file has the same bytes and another recipe keeps serving until that is allowed (ADR 23).
If they are at most a fifth of the documents, their recipes are allowed at once; more wait for `approve`.
"""

from __future__ import annotations

from functools import partial

from kbsync.core.brake import must_ask
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import APPROVAL_KEPT
from kbsync.engine.journal import Journal
from kbsync.engine.terms import changes_of
from kbsync.state.approvals import RENEWALS, Extent
from kbsync.state.glance import Tx
from kbsync.state.store import Store

PAGE = 256


class RecipeChanges:
    """Decides for one mirror under which recipes its documents may be made again."""

    def __init__(self, store: Store, journal: Journal, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self.may_wait = True
        """Something may wait to be decided; False only when surely nothing does."""
        self._put_off_since: float | None = None
        self._to_release: set[str] | None = None
        """Allowed recipes whose documents are still to be sent; None: those of the last run are not known."""

    @property
    def _mirror(self) -> int:
        return self._journal.terms.mirror

    async def is_due(self) -> bool:
        """Recipes wait to be decided about, or documents of an allowed one to be sent."""
        if not self._journal.terms.abilities.weighs:
            self.may_wait = False
            return False
        self.may_wait = self._to_release != set() or await self._store.read(self._is_open)
        return self.may_wait

    def _is_open(self, tx: Tx) -> bool:
        wanted, asked = self._undecided(tx), tx.recipes.asked(self._mirror)
        holds = tx.holds.current(self._mirror, RENEWALS)
        is_void = bool(holds) and (not wanted or holds[0].approved_at is not None)
        return is_void or any(n > asked.get(recipe, 0) for recipe, n in wanted.items())

    def _undecided(self, tx: Tx) -> dict[str, int]:
        """Recipes that nobody has allowed, and how many documents are wanted under them."""
        allowed = tx.recipes.allowed(self._mirror)
        wanted = tx.recipes.wanted(self._mirror).items()
        return {recipe: n for recipe, n in wanted if recipe not in allowed}

    async def next_due(self) -> float | None:
        """Steady time from which `weigh` has something to do; None where nothing waits.

        Deletions are weighed before: what goes does not count. They are waited for as long as a file is that
        never gets quiet, and no longer: in some folders files go all the time.
        """
        now = self._clock.steady()
        if not await self.is_due():
            self._put_off_since = None
            return None

        def some_may_go(tx: Tx) -> bool:
            """Files wait for their second look, or their deletions for the brake."""
            is_missed = tx.entries.first_missed(self._mirror) is not None
            return is_missed or tx.holds.candidate_times(self._mirror)[0] > 0

        if not await self._store.read(some_may_go):
            return now
        if self._put_off_since is None:
            self._put_off_since = now
        return max(now, self._put_off_since + self._journal.terms.plan.settle_longest)

    async def weigh(self) -> Extent | None:
        """Decide about all that waits, and send what is allowed from now on; returns what is newly held."""
        due = await self.next_due()
        if due is None or due > self._clock.steady():
            return None
        self._put_off_since = None
        held = await self._store.write(self._decide)
        await self._release()
        return held

    def _decide(self, tx: Tx) -> Extent | None:
        """Allow what is undecided, or hold all of it as one; returns how much is newly held."""
        mirror, now, terms = self._mirror, self._clock.wall(), self._journal.terms
        # An approval that could not be used for a week is no approval any more.
        tx.holds.unapprove_before(mirror, now - APPROVAL_KEPT)
        if self._to_release is None:
            self._to_release = set(tx.recipes.allowed(mirror))
        undecided, asked = self._undecided(tx), tx.recipes.asked(mirror)
        holds = tx.holds.current(mirror, RENEWALS)
        # More documents than a person was asked about are another question (promise 5).
        is_as_asked = bool(holds) and all(n <= asked.get(recipe, 0) for recipe, n in undecided.items())
        if undecided and is_as_asked and holds[0].approved_at is None:
            return None
        if holds:
            tx.recipes.stop_asking(mirror)
        if not undecided:
            return None
        serving = tx.uploads.serving_count(mirror, terms.binding)
        if is_as_asked or not must_ask(sum(undecided.values()), serving):
            tx.recipes.allow(mirror, undecided)
            tx.audit.add(now, mirror, "recipe.released", None, ", ".join(undecided))
            self._journal.recall_recipes(tx)
            self._to_release |= undecided.keys()
            return None
        hold = tx.holds.open(mirror, now, RENEWALS)
        tx.recipes.ask(mirror, hold, undecided)
        [opened] = tx.holds.current(mirror, RENEWALS)
        extent = tx.recipes.extent(opened)
        tx.holds.describe(hold, changes_of(terms.describe, extent.recipes))
        tx.audit.add(now, mirror, "recipe.held", None, ", ".join(undecided))
        return extent

    async def _release(self) -> None:
        """Have the planner decide again about every document of an allowed recipe, a page a transaction."""
        for recipe in sorted(self._to_release or ()):
            after: int | None = 0
            while after is not None:
                after = await self._store.write(partial(self._release_page, recipe, after))
        self._to_release = set()

    def _release_page(self, recipe: str, after: int, tx: Tx) -> int | None:
        rows = tx.recipes.page(self._mirror, recipe, after, PAGE)
        for _, path in rows:
            self._journal.settle(tx, path)
        return rows[-1][0] if rows else None
