"""Which mirrors are ready: their first pass ended, and nothing halts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kbsync.engine.halts import FAILING
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.once import is_done
from kbsync.engine.views.halting import halt_shown
from kbsync.errors import StateError

UNFINISHED = "first-pass"
_NOT_ENDED = "the first pass has not ended yet"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mirror stands. `reason` "" where it is ready, `first-pass`, or that of its halt."""

    name: str
    reason: str = ""
    detail: str = ""
    cure: str = ""

    def to_json(self) -> dict[str, object]:
        """For `/readyz`."""
        if not self.reason:
            return {"name": self.name, "ready": True}
        why = {"reason": self.reason, "detail": self.detail, "cure": self.cure}
        return {"name": self.name, "ready": False, **why}


class Readiness:
    """Looks at the mirrors of a daemon, in their loop. `runs`: those at work, by name."""

    def __init__(self, runs: Mapping[str, MirrorRun]) -> None:
        self._runs = runs
        self._passed: set[MirrorRun] = set()

    async def look(self) -> tuple[Standing, ...]:
        """Every mirror, in the order of the config. Constant time for each, however many files it has."""
        runs = list(self._runs.values())
        self._passed.intersection_update(runs)
        return tuple([await self._standing(run) for run in runs])

    async def _standing(self, run: MirrorRun) -> Standing:
        name = run.plan.name
        try:
            halt = await run.store.read(lambda tx: halt_shown(tx, run))
            has_passed = halt is None and await self._has_passed(run)
        except StateError as error:
            return Standing(name, FAILING, str(error))
        if halt is not None:
            return Standing(name, halt.reason, halt.detail, halt.cure)
        return Standing(name) if has_passed else Standing(name, UNFINISHED, _NOT_ENDED)

    async def _has_passed(self, run: MirrorRun) -> bool:
        """Compared as a whole and carried out, once; what changes later does not make it unready."""
        if run not in self._passed and run.has_compared and run.parts is not None and await is_done(run):
            self._passed.add(run)
        return run in self._passed
