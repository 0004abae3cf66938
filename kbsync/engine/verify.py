"""An audit: the folder against the state against the target's own list. Nothing is changed by it.

Folder and target go on while it runs, so everything that looks wrong is looked at a second time, in the
state and at the target, before it is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from kbsync.contract.target import Target
from kbsync.core.model import Presence, Upload, UploadState
from kbsync.engine.audit import Auditor, Discrepancy, Placing, Proof, Stray, stray_json
from kbsync.engine.clock import Clock
from kbsync.engine.halts import going_on
from kbsync.engine.plan import (
    CommandContext,
    Effect,
    Footing,
    Ground,
    Step,
    Survey,
    changed_root,
    find_footing,
    is_same_root,
    look_at_root,
    service_of,
    with_found,
)
from kbsync.engine.status import halt_json
from kbsync.engine.terms import Plan
from kbsync.source.look import look
from kbsync.state.files import Entry, split
from kbsync.state.glance import Glance, Tx, looking_at
from kbsync.state.mirrors import Halt

T = TypeVar("T")

GRACE = 5.0
"""Seconds beyond `settle` in which a running kbsync may not have got to a change yet."""

CHANGED = (Effect.UPLOAD, Effect.REPLACE, Effect.RENAME)


@dataclass(frozen=True, slots=True)
class Verification:
    """What is wrong, each list by path. `foreign`: how many documents at the target are none of ours.

    missing: recorded documents that are gone at the target. stale: the folder is newer than the document and
    nothing is pending. orphaned: ours, and the file is gone. duplicate: a second document for one file. With
    a `halt` the folder could not be compared and only what does not need it is reported.
    """

    name: str
    missing: tuple[Discrepancy, ...] = ()
    stale: tuple[Discrepancy, ...] = ()
    orphaned: tuple[Discrepancy, ...] = ()
    duplicate: tuple[Discrepancy, ...] = ()
    foreign: int = 0
    halt: Halt | None = None

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return self.halt is None and not (self.missing or self.stale or self.orphaned or self.duplicate)

    def to_json(self) -> dict[str, Any]:
        """The contract's object; `halt` is there only when the folder could not be compared."""
        whole: dict[str, Any] = {
            "name": self.name,
            "ok": self.ok,
            "missing": [one.path for one in self.missing],
            "stale": [one.path for one in self.stale],
            "orphaned": [one.path for one in self.orphaned],
            "duplicate": [one.path for one in self.duplicate],
            "foreign": self.foreign,
        }
        return whole if self.halt is None else {**whole, "halt": halt_json(self.halt)}


@dataclass(frozen=True, slots=True)
class RepairRequest:
    """What the inbox message `repair` asks for; `to_json` gives its arguments.

    `missing`: ids of documents to be sent again. `surplus`: ids of documents that rows of ours prove ours and
    that nothing needs. `strays`: the same, where no row holds the id. `stale`: paths to look at again.
    """

    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    strays: tuple[Stray, ...] = ()
    stale: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """There is something to repair."""
        return bool(self.missing or self.surplus or self.strays or self.stale)

    def to_json(self) -> dict[str, Any]:
        """As `engine.inbox` takes it."""
        return {
            "missing": list(self.missing),
            "surplus": list(self.surplus),
            "strays": [stray_json(stray) for stray in self.strays],
            "stale": list(self.stale),
        }


def repair_messages(verification: Verification) -> RepairRequest:
    """What can be mended of what was found.

    Documents that are not proven ours are left alone. A served document whose file is gone is looked at
    again, so that its deletion is weighed with the others.
    """
    left = [*verification.orphaned, *verification.duplicate]
    strays = [one.stray for one in left if one.stray is not None and one.proof is not Proof.NONE]
    served = [one.path for one in verification.orphaned if one.stray is None]
    return RepairRequest(
        missing=tuple(one.remote_id for one in verification.missing if one.remote_id is not None),
        surplus=tuple(stray.remote_id for stray in strays if _has_row(stray)),
        strays=tuple(stray for stray in strays if not _has_row(stray)),
        stale=(*(one.path for one in verification.stale), *served),
    )


def _has_row(stray: Stray) -> bool:
    return stray.row is not None and stray.row.remote_id == stray.remote_id


async def verify_mirror(
    plan: Plan,
    target: Target,
    glance: Glance | None,
    clock: Clock,
    *,
    site: CommandContext | None = None,
    watched: bool = False,
) -> Verification:
    """Audit a mirror. `glance` is None where no state exists yet.

    `watched`: another kbsync is at work on it, so changes that are only seconds old are its business. Raises
    `TargetError` where the target does not answer, `StateError` where the state cannot be read.
    """
    site = site or CommandContext()
    with looking_at(glance) as seen:
        footing = await find_footing(plan, service_of(target, plan), seen, site, target)
        footing = await with_found(footing, target, seen)
        auditor = Auditor(footing.terms, target, partial(_glanced, seen))
        audit = await auditor.read_list()
        lost = await auditor.lost(audit)
        folder = await asyncio.to_thread(_look_at_folder, footing, seen, clock, watched)
        await _let_list_catch_up(audit.strays, footing.terms.limits.list_lag, clock)
        strays = await auditor.read_into(audit, await auditor.still_stray(audit.strays))
        placed = seen.read(lambda tx: Placing(tx, footing, folder.is_compared).sorted(strays))
        return Verification(
            plan.name,
            missing=_by_path(_missing(upload) for upload in lost),
            stale=folder.stale,
            orphaned=_by_path([*folder.orphaned, *placed.orphaned]),
            duplicate=_by_path(placed.duplicate),
            foreign=await auditor.count_foreign(audit),
            halt=folder.halt and going_on(folder.halt, plan.name, site.cure, at_work=site.at_work),
        )


async def _let_list_catch_up(strays: Iterable[Stray], lag: float, clock: Clock) -> None:
    """What was deleted a moment ago may be listed for as long as the list lags (seconds)."""
    rows = [stray.row for stray in strays if stray.row is not None]
    graves = [row.looked_at or 0.0 for row in rows if row.state is UploadState.TOMBSTONE]
    left = max(graves, default=0.0) + lag - clock.wall()
    if left > 0.0:
        await clock.sleep(min(left, lag))  # no longer, where the clock was set back


async def _glanced(glance: Glance, work: Callable[[Tx], T], /) -> T:
    return glance.read(work)


def _by_path(findings: Iterable[Discrepancy]) -> tuple[Discrepancy, ...]:
    return tuple(sorted(findings, key=attrgetter("path")))


def _missing(upload: Upload) -> Discrepancy:
    why = f"document {upload.remote_id} is recorded and the knowledge base does not have it"
    return Discrepancy(upload.path or upload.label, upload.remote_id, why)


# -- the folder ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folder:
    stale: tuple[Discrepancy, ...] = ()
    orphaned: tuple[Discrepancy, ...] = ()
    halt: Halt | None = None

    @property
    def is_compared(self) -> bool:
        return self.halt is None


def _look_at_folder(footing: Footing, glance: Glance, clock: Clock, watched: bool) -> _Folder:
    ground = look_at_root(footing)
    if isinstance(ground, Halt):
        return _Folder(halt=ground)
    steps = Survey(footing, ground, glance, clock).run().steps
    if not is_same_root(footing.terms, ground):
        return _Folder(halt=changed_root(footing.terms))
    doubts = _Doubts(footing, ground, clock.wall(), watched)
    certain = [step for step in steps if glance.read(partial(doubts.is_certain, step))]
    return _Folder(
        stale=_by_path(_stale(step) for step in certain if step.effect is not Effect.WEIGH),
        orphaned=_by_path(_orphaned(step) for step in certain if step.effect is Effect.WEIGH),
    )


class _Doubts:
    """Drops what is being dealt with, or changed while it was looked at."""

    def __init__(self, footing: Footing, ground: Ground, now: float, watched: bool) -> None:
        self._footing = footing
        self._terms = footing.terms
        self._identity = ground.identity
        self._watched = watched
        self._young = now - footing.terms.plan.settle - GRACE

    def is_certain(self, step: Step, tx: Tx) -> bool:
        """A second look at file and rows confirms it, and nothing is pending."""
        if not _is_wrong(step) or not self._is_as_it_was(step, tx):
            return False
        if step.effect is Effect.WEIGH:
            return self._is_still_gone(step, tx)
        found = look(self._terms.plan.root, step.path, self._identity)
        return found.stamp is not None and not (self._watched and found.stamp.newest > self._young)

    def _is_as_it_was(self, step: Step, tx: Tx) -> bool:
        entry = tx.entries.get(self._terms.mirror, step.path)
        if not _is_same(entry, step.before):
            return False
        server = next((row for row in self._footing.rows(tx, step.path) if row.state.serves), None)
        return step.source is not None or _id(server) == _id(step.server)

    def _is_still_gone(self, step: Step, tx: Tx) -> bool:
        """Also deselected files are; those are there, and the parent is as old as it likes."""
        if any(c.path == step.path for c in tx.holds.candidates(self._terms.mirror)):
            return False
        if step.cause != "gone":
            return True
        if not look(self._terms.plan.root, step.path, self._identity).lacks_file:
            return False
        if not self._watched:
            return True
        parent = look(self._terms.plan.root, split(step.path)[0], self._identity)
        known_missing = step.before is not None and step.before.presence is Presence.MISSING
        return not known_missing and parent.stamp is not None and parent.stamp.newest <= self._young


def _id(upload: Upload | None) -> str | None:
    return None if upload is None else upload.remote_id


def _is_same(now: Entry | None, before: Entry | None) -> bool:
    """`before` may carry what a survey supposed: presence and verdict are not compared."""
    if now is None or before is None:
        return now is before
    return (now.stamp, now.digest, now.status) == (before.stamp, before.digest, before.status)


def _is_wrong(step: Step) -> bool:
    if step.effect is Effect.FAILED:
        return step.server is not None
    if step.is_known:
        return False
    return step.effect in CHANGED or step.effect is Effect.WEIGH


def _stale(step: Step) -> Discrepancy:
    return Discrepancy(step.path, _id(step.server), _stale_why(step))


def _stale_why(step: Step) -> str:
    match step.effect:
        case Effect.UPLOAD:
            return "the file is new, has no document yet, and nothing is pending for it"
        case Effect.RENAME:
            return f"the file was {step.source} when its document was made"
        case Effect.FAILED if step.server is not None and step.server.label != step.path:
            return f"the file was {step.server.label} when its document was made and was refused: {step.note}"
        case Effect.FAILED:
            return f"the file is newer than its document and was refused: {step.note}"
        case _:
            return "the file is newer than its document, and nothing is pending for it"


def _orphaned(step: Step) -> Discrepancy:
    words = {"gone": "the file is gone", "deselected": "the file is no longer selected"}
    cause = words.get(step.cause, "the file is empty now")
    return Discrepancy(step.path, _id(step.server), f"{cause}, its document is still found")
