"""What a pass of a mirror would do, found out without doing any of it.

The folder is scanned, what changed is hashed, and the planner decides as in a pass; nothing is written, no
lock is taken, and the target is asked for its base at most (for its list only where the state knows nothing
of that base). A pass that takes hours meets edits made meanwhile; a plan is a plan for now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from kbsync.contract import Target
from kbsync.core.brake import must_hold
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import APPROVAL_KEPT
from kbsync.engine.terms import Plan, as_halt
from kbsync.engine.views.footing import (
    Footing,
    Ground,
    Service,
    Site,
    changed_root,
    find_footing,
    is_same_root,
    look_at_root,
    refuse_emptied,
    service_of,
    with_found,
)
from kbsync.engine.views.foresight import Effect
from kbsync.engine.views.steps import Findings, LeftOut, Step
from kbsync.engine.views.survey import Survey
from kbsync.errors import Halted
from kbsync.state.mirrors import Halt
from kbsync.state.store import Glance, Tx, looking_at

__all__ = ["LeftOut", "MirrorPlan", "Planned", "Service", "Site", "plan_mirror", "service_of"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One line of a plan.

    `size`: bytes of the file, for deletions those of the document. `cause`: gone, deselected or emptied.
    `source`: the path before a rename. `sends`: the bytes go to the target. `note`: what is special.
    """

    path: str
    size: int
    sends: bool = False
    cause: str = ""
    source: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class MirrorPlan:
    """What a pass would do, each list by path.

    A rename is listed as one whether or not the target can rename: `sends` says which of them upload, each
    once. `reembed`: the same bytes again, under another recipe. `held`: deletions that wait for a person
    after this pass; `delete` goes through. `failed` and `skipped` stay without an up-to-date document;
    `skipped` names only those that this plan looked at. With a `halt` a pass would do nothing at all.
    """

    name: str
    upload: tuple[Planned, ...] = ()
    replace: tuple[Planned, ...] = ()
    rename: tuple[Planned, ...] = ()
    delete: tuple[Planned, ...] = ()
    reembed: tuple[Planned, ...] = ()
    held: tuple[Planned, ...] = ()
    failed: tuple[LeftOut, ...] = ()
    skipped: tuple[LeftOut, ...] = ()
    unchanged: int = 0
    halt: Halt | None = None
    note: str = ""

    @property
    def is_empty(self) -> bool:
        """A pass would change nothing."""
        return not (self.upload or self.replace or self.rename or self.delete or self.reembed or self.held)

    @property
    def bytes_to_send(self) -> int:
        """What a pass would upload."""
        sent = (*self.upload, *self.replace, *self.rename, *self.reembed)
        return sum(one.size for one in sent if one.sends)

    def to_json(self) -> dict[str, Any]:
        """The contract's object; `halt` is there only when nothing could be planned."""
        plan: dict[str, Any] = {
            "name": self.name,
            "upload": _paths(self.upload),
            "replace": _paths(self.replace),
            "rename": [[one.source, one.path] for one in self.rename],
            "delete": _paths(self.delete),
            "reembed": _paths(self.reembed),
            "held": _paths(self.held),
            "unchanged": self.unchanged,
        }
        if self.halt is not None:
            halt = self.halt
            plan["halt"] = {"reason": halt.reason, "detail": halt.detail, "cure": halt.cure}
        return plan


def _paths(planned: Iterable[Planned]) -> list[str]:
    return [one.path for one in planned]


async def plan_mirror(
    plan: Plan,
    service: Service,
    glance: Glance | None,
    clock: Clock,
    *,
    target: Target | None = None,
    site: Site | None = None,
) -> MirrorPlan:
    """Plan a pass. `glance` is None where no state exists yet; `target` None where it is not to be asked.

    Raises StateError for a state that cannot be read. Trouble with root or target becomes the plan's `halt`
    where a pass would stop over it, else its `note`.
    """
    with looking_at(glance) as seen:
        try:
            footing = await find_footing(plan, service, seen, site or Site(), target)
            await refuse_emptied(footing, target, seen)
            footing = await with_found(footing, target, seen)
        except Halted as error:
            return MirrorPlan(plan.name, halt=_halt(error, site or Site()))
        return await asyncio.to_thread(_plan, footing, seen, clock)


def _halt(error: Halted, site: Site) -> Halt:
    return as_halt(error, site.cure)


def _plan(footing: Footing, glance: Glance, clock: Clock) -> MirrorPlan:
    name = footing.terms.plan.name
    ground = look_at_root(footing)
    if isinstance(ground, Halt):
        return MirrorPlan(name, halt=ground)
    findings = Survey(footing, ground, glance, clock).run()
    if not is_same_root(footing.terms, ground):
        return MirrorPlan(name, halt=changed_root(footing.terms))
    brake = glance.read(lambda tx: _Brake(tx, footing, ground, clock.wall()))
    return _sorted_out(name, findings, brake, footing.note)


class _Brake:
    """What the brake will say, from the rows as they are now.

    Documents that a pass adds before it weighs are not counted: a plan may hold where a pass, by luck of
    timing, would not, and never the other way round.
    """

    def __init__(self, tx: Tx, footing: Footing, ground: Ground, now: float) -> None:
        terms = footing.terms
        self._limits = terms.plan.deletions
        self._asks = ground.asks
        self._serving = tx.uploads.serving_count(terms.mirror, terms.binding)
        self._executed = tx.holds.executed_since(terms.mirror, now - self._limits.window)
        self._approved = _approved(tx, footing, now - APPROVAL_KEPT)

    def holds(self, batch: int) -> bool:
        """Whether so many deletions wait for a person."""
        return bool(batch) and (self._asks or must_hold(batch, self._executed, self._serving, self._limits))

    def is_approved(self, step: Step) -> bool:
        """A person let exactly this deletion go."""
        return step.server is not None and step.server.id in self._approved


def _approved(tx: Tx, footing: Footing, oldest: float) -> frozenset[int]:
    """Uploads in holds that were approved."""
    holds = [
        hold.id
        for hold in tx.holds.current(footing.terms.mirror)
        if hold.id in footing.asked.approved or (hold.approved_at or 0.0) > oldest
    ]
    return frozenset(item.upload for hold in holds for item in tx.holds.items(hold))


def _sorted_out(name: str, findings: Findings, brake: _Brake, note: str) -> MirrorPlan:
    weighed = _of(findings, lambda step: step.effect is Effect.WEIGH)
    waiting = brake.holds(len(weighed))
    held = _of(findings, lambda step: step.effect is Effect.HELD and not brake.is_approved(step))
    let_go = _of(findings, lambda step: step.effect is Effect.HELD and brake.is_approved(step))
    going = _of(findings, lambda step: step.effect is Effect.DELETE)
    return MirrorPlan(
        name,
        upload=_listed(_of(findings, lambda step: step.effect is Effect.UPLOAD)),
        replace=_listed(_of(findings, lambda step: step.effect is Effect.REPLACE)),
        rename=_listed(_of(findings, lambda step: step.effect is Effect.RENAME)),
        delete=_listed([*going, *let_go, *([] if waiting else weighed)]),
        reembed=_listed(_of(findings, lambda step: step.effect is Effect.REEMBED)),
        held=_listed([*held, *(weighed if waiting else [])]),
        failed=_by_path(findings.failed),
        skipped=_by_path(findings.skipped),
        unchanged=findings.unchanged,
        note=note,
    )


def _of(findings: Findings, wanted: Callable[[Step], bool]) -> list[Step]:
    return [step for step in findings.steps if wanted(step)]


def _listed(steps: Sequence[Step]) -> tuple[Planned, ...]:
    ordered = sorted(steps, key=attrgetter("path"))
    return tuple(Planned(s.path, s.size, s.sends, s.cause, s.source, s.note) for s in ordered)


def _by_path(left_out: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(sorted(left_out, key=attrgetter("path")))
