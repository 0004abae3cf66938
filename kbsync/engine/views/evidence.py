"""Everything that is known of one path: on disk, by the rules, in the state and at the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kbsync.contract.mirroring import DocState, DocStatus, Target
from kbsync.contract.searching import Explains
from kbsync.core.model import Choice, Kind, Status, Upload, UploadState, Verdict
from kbsync.core.settle import is_old_enough, quiet_time
from kbsync.engine.halts import FOLDER_MISSING
from kbsync.engine.status import SHOWN, Item, Items
from kbsync.engine.terms import Terms
from kbsync.engine.views.footing import Footing, look_at_root
from kbsync.errors import TargetError
from kbsync.source.lists import is_list
from kbsync.source.looker import Look, RulesUnknown, look, rules_at
from kbsync.source.roots import trouble
from kbsync.state.entries import Entry
from kbsync.state.folders import split
from kbsync.state.holds import HoldItem
from kbsync.state.mirrors import Halt, MirrorRecord
from kbsync.state.store import Tx

NAMED = 5
"""Files of a directory that are told one by one."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What the rules say. `closed`: not of the file itself, a directory above it is not entered.

    `problem`: the rules of its directory cannot be known, and why.
    """

    verdict: Verdict
    closed: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Stability:
    """Seconds since the last change, and how long the file must still be quiet (0.0: it is)."""

    age: float
    left: float


@dataclass(frozen=True, slots=True)
class Held:
    """The hold a deletion is in."""

    item: HoldItem
    approved: bool


@dataclass(frozen=True, slots=True)
class Remote:
    """What the target says of the document that serves. `trouble`: it could not be asked, and why."""

    status: DocStatus | None = None
    chunks: int | None = None
    text: str | None = None
    trouble: str = ""

    @property
    def is_missing(self) -> bool:
        """The target does not know the document."""
        return self.status is not None and self.status.state is DocState.MISSING

    @property
    def is_ready(self) -> bool:
        """The target says that it is searchable."""
        return self.status is not None and self.status.state is DocState.READY


@dataclass(frozen=True, slots=True)
class Below:
    """What the state knows of the files in a directory: how many in each state, and the first that failed."""

    counts: Mapping[Status, int]
    failed: tuple[Item, ...]

    @property
    def files(self) -> int:
        """How many they are."""
        return sum(self.counts.values())

    @property
    def found(self) -> int:
        """How many of them a search finds as they were indexed last."""
        return self.counts[Status.READY] + self.counts[Status.HELD]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. `below`: of a directory.

    `folder_problem`: its directory, or one above, could not be listed by the last scan.
    """

    path: str
    seen: Look
    selection: Selection | None
    stability: Stability | None
    entry: Entry | None = None
    uploads: tuple[Upload, ...] = ()
    held: Held | None = None
    halt: Halt | None = None
    folder_problem: str = ""
    was_scanned: bool = False
    remote: Remote | None = None
    below: Below | None = None

    @property
    def server(self) -> Upload | None:
        """The upload that is found in searches."""
        return next((upload for upload in self.uploads if upload.state.serves), None)

    @property
    def is_changed(self) -> bool:
        """The file is not the one that the state knows."""
        return self.entry is None or self.seen.stamp != self.entry.stamp


def gather(tx: Tx, footing: Footing, path: str, now: float) -> Evidence:
    """Look at disk, rules and state; `now` is epoch seconds."""
    terms = footing.terms
    seen = look(terms.plan.root, path)
    if terms.rules.takes_links and is_list(path) and seen.kind is Kind.FILE:
        seen = replace(seen, kind=Kind.FOLDER)
    found = Evidence(path, seen, _selection(terms, path, seen), _stability(terms, seen, now))
    record = footing.record
    if record is None:
        return found
    return replace(
        found,
        entry=tx.entries.get(record.id, path),
        uploads=tuple(tx.uploads.at(record.id, terms.binding, path)),
        held=_held(tx, record.id, path),
        halt=_halt(footing, record),
        folder_problem=_folder_problem(tx, record.id, path),
        was_scanned=record.last_pass is not None,
        below=_below(tx, record, path, seen),
    )


def _below(tx: Tx, record: MirrorRecord, path: str, seen: Look) -> Below | None:
    """None for a file. A directory that is gone is one as long as the state knows it."""
    is_known = tx.folders.get(record.id, path) is not None
    if not (seen.kind is Kind.FOLDER or (seen.kind is None and is_known)):
        return None
    counts, failed = dict.fromkeys(SHOWN, 0), list[Item]()
    items = Items(tx, record, None)
    for entry in tx.entries.below(record.id, path):
        if entry.status in counts:
            counts[entry.status] += 1
        if entry.status is Status.FAILED and len(failed) < NAMED:
            failed.append(items.of(entry))
    return Below(counts, tuple(failed))


def _halt(footing: Footing, record: MirrorRecord) -> Halt | None:
    """What halts the mirror; of the root, as it is now, and not as it was when a pass met it."""
    ground = look_at_root(footing)
    if isinstance(ground, Halt):
        return ground
    return None if record.halt is not None and record.halt.reason == FOLDER_MISSING else record.halt


def _selection(terms: Terms, path: str, seen: Look) -> Selection | None:
    """None where nothing is there to be judged."""
    if seen.kind is None or seen.stamp is None or not path:
        return None
    try:
        rules, entered = rules_at(terms.plan.root, terms.rules, split(path)[0])
    except RulesUnknown as error:
        return Selection(Verdict(Choice.SELECTED), problem=str(error))
    except OSError as error:
        problem = f"a directory above it cannot be entered: {trouble(error)}"
        return Selection(Verdict(Choice.SELECTED), problem=problem)
    if entered.choice is not Choice.SELECTED:
        return Selection(entered, closed=True)
    return Selection(rules.verdict(path, seen.stamp.size, seen.kind))


def _stability(terms: Terms, seen: Look, now: float) -> Stability | None:
    if seen.stamp is None or seen.kind is not Kind.FILE:
        return None
    age, settle = now - seen.stamp.newest, terms.plan.settle
    if is_old_enough(seen.stamp, now, settle):
        return Stability(age, 0.0)
    return Stability(age, quiet_time(seen.stamp, settle) - max(age, 0.0))


def _held(tx: Tx, mirror: int, path: str) -> Held | None:
    for hold in tx.holds.current(mirror):
        for item in tx.holds.items(hold.id):
            if item.path == path:
                return Held(item, hold.approved_at is not None)
    return None


def _folder_problem(tx: Tx, mirror: int, path: str) -> str:
    while path:
        path = split(path)[0]
        row = tx.folders.get(mirror, path)
        if row is not None and row.problem:
            return f"{path or 'the folder'} {row.problem}"
    return ""


async def asked(target: Target, evidence: Evidence, *, text: bool) -> Evidence:
    """The evidence with what the target says of the document that serves, else of one that may."""
    late = [row for row in evidence.uploads if row.state is UploadState.INDEXING]
    upload = evidence.server or (late[-1] if late else None)
    if upload is None or upload.remote_id is None:
        return evidence
    return replace(evidence, remote=await _remote(target, upload.remote_id, text))


async def _remote(target: Target, remote_id: str, text: bool) -> Remote:
    try:
        status = (await target.status([remote_id])).get(remote_id)
        if status is None or status.state is DocState.MISSING or not isinstance(target, Explains):
            return Remote(status)
        made = await target.explain(remote_id)
    except TargetError as error:
        return Remote(trouble=error.reason)
    return Remote(status, made.chunks, made.text if text else None)
