"""Puts a stage through a job, crashes included, and finds out what is broken afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from kbsync.core.model import UploadState
from kbsync.once import run_once
from kbsync.state.read_only import Tx
from tests.crash.harness import Guillotine
from tests.crash.jobs import Edit, Job
from tests.crash.stages import Stage
from tests.torture.exercise import Broken, Tally

HOLD_WINDOW = 3700.0
"""Seconds after which deletions of earlier turns, and of tidying up, are not counted any more."""

LATER = 100.0
"""Seconds after which a late twin is recognised in a list."""


@dataclass
class Watch:
    """Looks after every effect whether each file that was found before still is, by one of its paths."""

    stage: Stage
    lasting: dict[str, set[str]]
    gaps: list[str] = field(default_factory=list)

    def look(self) -> None:
        found = self.stage.searchable()
        self.gaps += [path for path, names in self.lasting.items() if not names & found]

    def allow(self, edit: Edit) -> None:
        """What a job may take away or call otherwise."""
        self.lasting = {
            path: {*names, edit.moved.get(path, path)}
            for path, names in self.lasting.items()
            if path not in edit.gone
        }


class Turn:
    """One turn of a job on a stage: begin, crashes, recovery, check."""

    def __init__(self, stage: Stage, job: Job, turn: int) -> None:
        self.stage, self.job, self.turn = stage, job, turn
        self.tally = Tally(steps=1)
        self.faults: list[str] = []

    async def run(self, cuts: Sequence[int]) -> bool:
        """Crash at each of `cuts` in a row, recover, check; False when the first was never reached."""
        await self.begin()
        fallen = [await self.crash(Guillotine(at=number)) for number in cuts]
        await self.recover()
        return fallen[0]

    async def begin(self) -> None:
        stage = self.stage
        stage.world.clock.now += HOLD_WINDOW
        await stage.tidy()
        stage.world.clock.now += HOLD_WINDOW
        self.sent, self.known = len(stage.sent()), stage.documents()
        self.watch = Watch(stage, {path: {path} for path in stage.searchable() & stage.digests().keys()})
        self.edit = await self.job.begin(stage, self.turn)
        self.watch.allow(self.edit)
        stage.on_effect = self.watch.look

    async def crash(self, guillotine: Guillotine) -> bool:
        asked = self.stage.asked()
        await self.stage.crash(guillotine, self.job.work)
        self.watch.look()
        self.tally.crashes += guillotine.fallen
        self._weigh_requests(self.stage.asked() - asked)
        return guillotine.fallen

    async def recover(self) -> None:
        """Passes until all is well again, and the verdict.

        What is still being indexed when a pass has waited long enough is for the next one: on a machine that
        does much else, the clock of these trials runs while an answer is read.
        """
        stage, asked = self.stage, self.stage.asked()
        if self.job.work is not run_once:
            await stage.world.doing(self.job.work)
        await stage.world.once()
        self._weigh_requests(stage.asked() - asked)
        if stage.documents() != stage.digests() or "indexing" in stage.world.statuses():
            stage.world.clock.now += LATER
            await stage.world.once()
        if self.job.finish is not None:
            await self.job.finish(stage)
        self.watch.look()
        stage.on_effect = lambda: None
        stage.heal()
        self.judge()

    def _weigh_requests(self, asked: int) -> None:
        if asked > self.stage.patience + len(self.known):
            self._blame("violations", f"{asked} requests in one pass")

    def judge(self) -> None:
        """Raises `Broken` when a promise was not kept."""
        self._judge_documents()
        self._judge_sends()
        self._judge_recipes()
        for path in self.watch.gaps:
            self._blame("gaps", f"{path} was not found at some moment")
        if touched := self.stage.touched():
            self._blame("foreign", f"{touched} documents of others were touched", touched)
        for sentence in self.stage.violations():
            self._blame("violations", sentence)
        if set(self.stage.world.statuses()) != {"ready"}:
            self._blame("violations", f"not all is ready: {self.stage.world.statuses()}")
        if self.faults:
            raise Broken("; ".join(self.faults), self.tally)

    def _judge_documents(self) -> None:
        wanted, found = self.stage.digests(), self.stage.documents()
        searchable = self.stage.searchable()
        for path in wanted:
            if path not in searchable or not set(wanted[path]) <= set(found.get(path, [])):
                self._blame("lost", f"{path} is missing or out of date")
        for path, digests in found.items():
            if len(digests) > len(wanted.get(path, [])):
                self._blame("duplicated", f"{path} has {len(digests)} documents")

    def _judge_sends(self) -> None:
        most = self.stage.may_send if self.job.may_fail else 1
        known = {digest for digests in self.known.values() for digest in digests}
        for (path, digest), times in Counter(self.stage.sent()[self.sent :]).items():
            if times > most:
                self._blame("duplicated", f"{digest[:8]} {path} was stored {times} times")
            if digest in known and not self.edit.resends:
                self._blame("duplicated", f"{digest[:8]} {path} was stored although it was there")

    def _judge_recipes(self) -> None:
        """The documents are made as the state says."""
        made = self.stage.recipes()
        said = self.stage.world.look_up(self._said)
        for path in made.keys() & said.keys():
            if made[path] != said[path]:
                self._blame("violations", f"{path} is made as {made[path]}, and the state says {said[path]}")

    def _said(self, tx: Tx) -> dict[str, str]:
        record = tx.mirrors.named("docs")
        assert record is not None and record.binding is not None
        rows = tx.uploads.in_states(record.id, record.binding, (UploadState.SERVING,), limit=1000)
        return {row.path: row.recipe for row in rows if row.path is not None}

    def _blame(self, what: str, sentence: str, n: int = 1) -> None:
        setattr(self.tally, what, getattr(self.tally, what) + n)
        self.faults.append(sentence)
