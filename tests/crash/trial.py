"""Runs a job on a mirror with crashes, and reports what is wrong afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kbsync.core.model import SERVING, Upload
from kbsync.once import run_once
from kbsync.state.read_only import Tx
from tests.crash.harness import Guillotine
from tests.crash.jobs import Job
from tests.crash.mirror import CrashedMirror
from tests.torture.exercise import PromiseBroken, Tally

HOLD_WINDOW = 3700.0
"""Seconds after which deletions of earlier turns, and of tidying up, no longer count."""

PATIENCE = 60
"""Maximum requests of one pass, in addition to one for each file."""

LATER = 100.0
"""Seconds after which a late twin is recognized in a list."""


class Turn:
    """One turn of a job on a mirror: start, crashes, recovery, check."""

    def __init__(self, mirror: CrashedMirror, job: Job, turn: int) -> None:
        self.mirror, self.bench, self.world = mirror, mirror.bench, mirror.world
        self.job, self.turn = job, turn
        self.tally = Tally(steps=1)
        self.faults: list[str] = []
        self.gaps: list[str] = []

    async def run(self, cuts: Sequence[int]) -> None:
        """Crash at each of `cuts` in a row, recover, check."""
        await self.begin()
        for number in cuts:
            await self.crash(Guillotine(stop_at=number))
        await self.recover()

    async def begin(self) -> None:
        self.world.clock.now += HOLD_WINDOW
        await self.mirror.tidy()
        self.world.clock.now += HOLD_WINDOW
        self.uploads_before, self.documents_before = len(self.bench.uploads()), self.bench.documents()
        searchable_paths = self.bench.searchable() & self.mirror.digests().keys()
        self.edit = await self.job.begin(self.mirror, self.turn)
        # Every file that was searchable before stays so, under its old path or its new one.
        absent = self.edit.moved.keys() if self.bench.has_gaps_in_renames else set()
        lasting = searchable_paths - self.edit.deleted - absent
        self.lasting = {path: {path, self.edit.moved.get(path, path)} for path in lasting}
        self.bench.on_change = lambda _: self.check_gaps()

    def check_gaps(self) -> None:
        searchable_paths = self.bench.searchable()
        self.gaps += [path for path, names in self.lasting.items() if not names & searchable_paths]

    async def crash(self, guillotine: Guillotine) -> None:
        requests_before = self.bench.request_count()
        await self.world.crash(guillotine, self.job.work)
        self.check_gaps()
        self.tally.crashes += guillotine.fallen
        self._weigh_requests(self.bench.request_count() - requests_before)

    async def recover(self) -> None:
        """Run passes until everything is right again, then check.

        A pass that has waited long enough leaves documents in progress to the next one: on a busy machine the
        clock of these trials runs while a response is read.
        """
        requests_before = self.bench.request_count()
        if self.job.work is not run_once:
            await self.world.doing(self.job.work)
        await self.world.once()
        self._weigh_requests(self.bench.request_count() - requests_before)
        if self.bench.documents() != self.mirror.digests() or "indexing" in self.world.statuses():
            self.world.clock.now += LATER
            await self.world.once()
        if self.job.finish is not None:
            await self.job.finish(self.mirror)
        self.check_gaps()
        self.bench.on_change = lambda _: None
        self.bench.heal()
        self.check()

    def _weigh_requests(self, request_count: int) -> None:
        if request_count > PATIENCE + len(self.documents_before):
            self._blame("violations", f"{request_count} requests in one pass")

    def check(self) -> None:
        """Raise `PromiseBroken` if a promise was broken."""
        expected = self.mirror.digests()
        self.faults += self.tally.compare(expected, self.bench.documents())
        for path in expected.keys() - self.bench.searchable():
            self._blame("lost", f"{path} is not found")
        self._check_sends()
        self._check_recipes()
        self._check_serving()
        for path in self.gaps:
            self._blame("gaps", f"{path} was not found at some moment")
        if touched := self.bench.touched():
            self._blame("foreign", f"{touched} documents of others were touched", touched)
        for sentence in self.bench.violations():
            self._blame("violations", sentence)
        if set(self.world.statuses()) - ({"kept"} if self.mirror.deleted else set()) != {"ready"}:
            self._blame("violations", f"not all is ready: {self.world.statuses()}")
        if self.faults:
            raise PromiseBroken("; ".join(self.faults), self.tally)

    def _check_sends(self) -> None:
        most = 2 if self.job.may_fail else 1  # a version that failed to index at first is sent again
        known_digests = {digest for digests in self.documents_before.values() for digest in digests}
        for digest, times in Counter(
            digest for _, digest in self.bench.uploads()[self.uploads_before :]
        ).items():
            if times > most:
                self._blame("duplicated", f"{digest[:8]} was stored {times} times")
            if digest in known_digests and not self.edit.resends:
                self._blame("duplicated", f"{digest[:8]} was stored although it was there")

    def _serving(self) -> list[Upload]:
        """Return the serving uploads of the state."""

        def find(tx: Tx) -> list[Upload]:
            record = tx.mirrors.named("docs")
            assert record is not None and record.binding is not None
            return tx.uploads.in_states(record.id, record.binding, SERVING, limit=1000)

        rows: list[Upload] = self.world.read_state(find)
        return rows

    def _check_serving(self) -> None:
        """Check that the documents of serving uploads exist."""
        known_names = {name for document in self.bench.ours() for name in (document.id, document.name)}
        for row in self._serving():
            if row.remote_id not in known_names:
                self._blame("violations", f"{row.path} seems to be served by {row.remote_id}")

    def _check_recipes(self) -> None:
        """Check that documents have the recipes of the state."""

        recipes = {row.path: row.recipe for row in self._serving()}
        for document in self.bench.ours():
            if document.recipe and document.path in recipes and document.recipe != recipes[document.path]:
                stored = recipes[document.path]
                sentence = f"{document.path} is made as {document.recipe}, and the state says {stored}"
                self._blame("violations", sentence)

    def _blame(self, what: str, sentence: str, n: int = 1) -> None:
        setattr(self.tally, what, getattr(self.tally, what) + n)
        self.faults.append(sentence)
