"""What a pass of a mirror would do, found out without doing any of it.

The folder is scanned, what changed is hashed, and the planner decides as in a pass; nothing is written, no
lock is taken, and the target is asked for its base at most (for its list only where the state knows nothing
of that base, for the account's room only where something would be sent). A pass that takes hours meets edits
made meanwhile; a plan is a plan for now.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from kbsync.contract.managing import ManagesBases
from kbsync.contract.mirroring import Target
from kbsync.core.brake import must_ask, must_hold
from kbsync.core.recipes import can_be_cut_to
from kbsync.core.sizes import sized
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import APPROVAL_KEPT
from kbsync.engine.halts import going_on
from kbsync.engine.terms import Plan, as_halt, changes_of
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
from kbsync.engine.views.steps import RENEWED, Findings, LeftOut, Step
from kbsync.engine.views.survey import Survey
from kbsync.errors import Halted, TargetError
from kbsync.state.holds import RENEWALS, Hold
from kbsync.state.mirrors import Halt
from kbsync.state.store import Glance, Tx, looking_at

__all__ = ["LeftOut", "MirrorPlan", "Planned", "Service", "Site", "plan_mirror", "service_of"]


RECIPE = "recipe"
"""The cause of what is held because settings want it made anew."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One line of a plan.

    `size`: bytes of the file, for deletions those of the document. `cause`: gone, deselected or emptied, and
    `recipe` for what waits to be made anew. `source`: the path before a rename. `sends`: the bytes go to the
    target. `note`: what is special.
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
    after this pass, `delete` goes through; and what settings want made anew, where a person is asked.
    `failed` and `skipped` stay without an up-to-date document; `skipped` names only those that this plan
    looked at. With a `halt` a pass would do nothing at all.
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
    site = site or Site()
    with looking_at(glance) as seen:
        try:
            footing = await find_footing(plan, service, seen, site, target)
            await refuse_emptied(footing, target, seen)
            footing = await with_found(footing, target, seen)
            found = await asyncio.to_thread(_plan, footing, seen, clock)
        except Halted as error:
            found = MirrorPlan(plan.name, halt=as_halt(error, site.cure))
        if found.halt is not None:
            halt = going_on(found.halt, plan.name, site.cure, at_work=site.at_work)
            return replace(found, halt=halt)
        return replace(found, note="; ".join(filter(None, [found.note, await _shortage(found, target)])))


async def _shortage(plan: MirrorPlan, target: Target | None) -> str:
    """That what would be sent does not fit, with the numbers; '' where it does, or nobody knows."""
    if not plan.bytes_to_send or not isinstance(target, ManagesBases):
        return ""
    try:
        room = await target.bases.room()
    except TargetError:
        return ""
    if room is None:
        return ""
    if room.used_words is not None and room.total_words is not None and room.used_words >= room.total_words:
        return f"the account has none left of {room.total_words:,} words: the pass stops (quota) at once"
    left = max(0, room.total - room.used)
    if plan.bytes_to_send <= left:
        return ""
    there = f"the account has {sized(left)} left of {sized(room.total)}"
    needed = f"{sized(plan.bytes_to_send)} would be sent"
    return f"{there}, and {needed}: the pass stops (quota) at the first file that does not fit"


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
        self._describe, self._recuts = terms.describe, terms.abilities.recuts

    def holds(self, batch: int) -> bool:
        """Whether so many deletions wait for a person."""
        return bool(batch) and (self._asks or must_hold(batch, self._executed, self._serving, self._limits))

    def is_approved(self, step: Step) -> bool:
        """A person let exactly this deletion, or renewal, go."""
        return step.server is not None and step.server.id in self._approved

    def renewals(self, steps: Sequence[Step], leaving: int) -> tuple[list[Step], list[Step]]:
        """Those of the steps that make documents anew: what is done, and what waits for a person.

        `leaving`: documents that are deleted before.
        """
        renewed = list(map(self._described, steps))
        going, waiting = _parted(renewed, lambda s: s.effect is Effect.REEMBED or self.is_approved(s))
        if must_ask(len(waiting), self._serving - leaving):
            return going, waiting
        asked, new = _parted(waiting, lambda s: s.effect is Effect.ASKED)
        return [*going, *new], asked

    def _described(self, step: Step) -> Step:
        before = "" if step.server is None else step.server.recipe
        change = changes_of(self._describe, [(before, step.recipe)]) if before else ""
        sends = step.sends and not (self._recuts and can_be_cut_to(before, step.recipe))
        return replace(step, note=", ".join(filter(None, [change, step.note])), sends=sends, cause="")


def _approved(tx: Tx, footing: Footing, oldest: float) -> frozenset[int]:
    """Uploads in holds that were approved."""
    mirror = footing.terms.mirror

    def approved(holds: Iterable[Hold]) -> list[int]:
        asked = footing.asked.approved
        return [h.id for h in holds if h.id in asked or (h.approved_at or 0.0) > oldest]

    deleted = (i.upload for h in approved(tx.holds.current(mirror)) for i in tx.holds.items(h))
    holds = approved(tx.holds.current(mirror, RENEWALS))
    return frozenset([*deleted, *(i.upload for h in holds for i in tx.renewals.items(mirror, h))])


def _sorted_out(name: str, findings: Findings, brake: _Brake, note: str) -> MirrorPlan:
    sorts = _by_effect(findings.steps)
    weighed = sorts[Effect.WEIGH]
    waiting = brake.holds(len(weighed))
    held = [step for step in sorts[Effect.HELD] if not brake.is_approved(step)]
    let_go = [step for step in sorts[Effect.HELD] if brake.is_approved(step)]
    released = [*let_go, *([] if waiting else weighed)]
    renewed, asked = brake.renewals([s for effect in RENEWED for s in sorts[effect]], len(released))
    return MirrorPlan(
        name,
        upload=_listed(sorts[Effect.UPLOAD]),
        replace=_listed(sorts[Effect.REPLACE]),
        rename=_listed(sorts[Effect.RENAME]),
        delete=_listed([*sorts[Effect.DELETE], *released]),
        reembed=_listed(renewed),
        held=_listed([*held, *(weighed if waiting else []), *(replace(s, cause=RECIPE) for s in asked)]),
        failed=_by_path(findings.failed),
        skipped=_by_path(findings.skipped),
        unchanged=findings.unchanged,
        note=note,
    )


def _parted(steps: Iterable[Step], is_first: Callable[[Step], bool]) -> tuple[list[Step], list[Step]]:
    parts: tuple[list[Step], list[Step]] = ([], [])
    for step in steps:
        parts[not is_first(step)].append(step)
    return parts


def _by_effect(steps: list[Step]) -> defaultdict[Effect, list[Step]]:
    """Empties `steps`: there may be a million of them."""
    sorts: defaultdict[Effect, list[Step]] = defaultdict(list)
    while steps:
        step = steps.pop()
        sorts[step.effect].append(step)
    return sorts


def _listed(steps: list[Step]) -> tuple[Planned, ...]:
    """Empties `steps`, as above."""
    steps.sort(key=attrgetter("path"), reverse=True)
    return tuple(map(_planned, _taken(steps)))


def _taken(steps: list[Step]) -> Iterator[Step]:
    while steps:
        yield steps.pop()


def _planned(step: Step) -> Planned:
    return Planned(step.path, step.size, step.sends, step.cause, step.source, step.note)


def _by_path(left_out: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(sorted(left_out, key=attrgetter("path")))
