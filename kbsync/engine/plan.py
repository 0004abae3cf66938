"""Where a mirror stands, found out without writing a row: its record, its base, the terms of its next pass.

This is what `attach` does at the beginning of a pass, as far as it can be known by looking.

What the planner would make of one path, played through on rows in memory.

What a survey says of each path: steps that a pass would take, and files that are left out.

Compares a folder with what is recorded of it and says what a pass would make of every difference.

The scanner, the judge and the planner are those of a real pass. Only what follows from them is noted here
instead of being written. Nothing is held but the paths that differ.

What a pass of a mirror would do, found out without doing any of it.

The folder is scanned, what changed is hashed, and the planner decides as in a pass; nothing is written, no
lock is taken, and the target is asked for its base at most (for its list only where the state knows nothing
of that base, for the account's room only where something would be sent). A pass that takes hours meets edits
made meanwhile; a plan is a plan for now.
"""

from __future__ import annotations

import asyncio
import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from kbsync.contract.managing import ManagesBases
from kbsync.contract.target import Base, Listed, Target
from kbsync.core import lifecycle
from kbsync.core.brake import must_ask, must_hold
from kbsync.core.lifecycle import Timing
from kbsync.core.model import (
    NO_STAMP,
    Abilities,
    Choice,
    FileKind,
    Limits,
    Presence,
    Purpose,
    Status,
    Upload,
    UploadState,
    Verdict,
    Wish,
)
from kbsync.core.planner import (
    Action,
    Drop,
    Forgo,
    Keep,
    Prove,
    Relabel,
    Renew,
    Reslice,
    Retire,
    Send,
    Serve,
    Unwant,
    Want,
    Weigh,
    decide,
    is_stuck_under_old_name,
    is_without_text,
    parting_cause,
    proves,
)
from kbsync.core.quiet import is_old_enough
from kbsync.core.selection import Rules
from kbsync.core.text import sized
from kbsync.engine import attach
from kbsync.engine.attach import adopting, ours
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import APPROVAL_KEPT
from kbsync.engine.halts import going_on
from kbsync.engine.journal import FileSeen
from kbsync.engine.reconcile import FoundFile, Judge, Judgement, StateTree, Wait, former_files, is_by_person
from kbsync.engine.terms import Plan, Terms, abilities_of, as_halt, changes_of, describe_of, recipe_of
from kbsync.errors import Halted, TargetError
from kbsync.source.look import RulesUnknown, look, rules_at
from kbsync.source.roots import RootIdentity, RootTrouble, compare, identify
from kbsync.source.scan import EntryRow, FolderListing, StoredFolder, scan
from kbsync.state.approvals import RENEWALS, Hold
from kbsync.state.files import Entry, folder_label, join, split
from kbsync.state.glance import Glance, Tx, looking_at
from kbsync.state.inbox import Message
from kbsync.state.mirrors import Halt, MirrorRecord

NOWHERE = 0
"""The id of a mirror or binding that has no row yet: no row belongs to it."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a target takes, what it can do and how it indexes: all that is known of it without asking it."""

    limits: Limits
    abilities: Abilities
    recipe: Callable[[str], str]
    describe: Callable[[str], str] = lambda _recipe: ""


def service_of(target: Target, plan: Plan) -> Service:
    """The service of a target that is at hand."""
    abilities, recipe = abilities_of(target, plan), recipe_of(target, plan)
    return Service(target.limits, abilities, recipe, describe_of(target))


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What a view knows of its surroundings: the config's mirror names, and how cures are written.

    `at_work`: another process holds the state, and makes passes of its own.
    """

    configured: Sequence[str] = ()
    cure: Callable[[str], str] = lambda command: f"kbsync {command}"
    at_work: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What people asked for and no pass has carried out: holds let go, and failed paths to try again."""

    approved: frozenset[int] = frozenset()
    root_accepted: bool = False
    retry_all: bool = False
    retry: frozenset[str] = frozenset()

    def releases(self, upload: Upload) -> bool:
        """Whether this failed upload makes way for another try."""
        return upload.state is UploadState.FAILED and (self.retry_all or upload.path in self.retry)


@dataclass(frozen=True, slots=True)
class Footing:
    """Where a mirror stands. `terms.mirror` and `terms.binding` are NOWHERE where there is no row.

    `renewed`: the base, the recipes or the abilities are not those of the last pass, so that every file is
    judged anew; `upgraded`: by the program's doing alone. `reprefixed`: every document is to get a name with
    another prefix. `moved`: the name now means another folder. `found`: documents at the base that may be
    ours, by path, where nothing of it was taken over yet. `base` is None where it was not looked at. `note`:
    what could not be found out.
    """

    terms: Terms
    record: MirrorRecord | None
    reprefixed: bool = False
    asked: Asked = field(default_factory=Asked)
    renewed: bool = False
    upgraded: bool = False
    moved: bool = False
    found: Mapping[str, tuple[Upload, ...]] = field(default_factory=dict)
    base: Base | None = None
    note: str = ""

    def rows(self, tx: Tx, path: str) -> list[Upload]:
        """The uploads at a path as a pass would find them once it has read its messages."""
        rows = tx.uploads.at(self.terms.mirror, self.terms.binding, path)
        if self.reprefixed:
            rows = [replace(row, label="") for row in rows if row.state is not UploadState.INTENDED]
        if self.upgraded:
            rows = [self._kept(tx, row) for row in rows]
        return [row for row in rows if not self.asked.releases(row)] + list(self.found.get(path, ()))

    def _kept(self, tx: Tx, row: Upload) -> Upload:
        return replace(row, recipe=attach.kept_recipe(tx, self.terms, row)) if row.state.serves else row


async def find_footing(
    plan: Plan,
    service: Service,
    glance: Glance,
    site: CommandContext,
    target: Target | None = None,
) -> Footing:
    """Look at the state and, where `target` is given, at the base.

    A base that does not answer is taken to be the one of the last pass; the note says so. Raises `Halted`
    for what only a person can mend: refused credentials, a base that is missing.
    """
    base, note = await _look_at_base(target)
    return glance.read(lambda tx: _stand(tx, plan, service, site, base, note))


async def with_found(footing: Footing, target: Target | None, glance: Glance) -> Footing:
    """The footing with what the next pass takes over: documents of a base this state has never seen."""
    binding = footing.terms.binding
    adopted = glance.read(lambda tx: tx.mirrors.is_adopted(binding))
    if footing.base is None or target is None or adopted:
        return footing
    try:
        return replace(footing, found=await _adoptable(target, footing.terms, glance))
    except Halted:
        raise
    except TargetError as error:
        return replace(footing, note=f"what the knowledge base holds could not be listed ({error.reason})")


async def _look_at_base(target: Target | None) -> tuple[Base | None, str]:
    if target is None:
        return None, ""
    try:
        return await target.base(), ""
    except Halted:
        raise
    except TargetError as error:
        return None, f"the knowledge base could not be looked at ({error.reason})"


def _terms(plan: Plan, service: Service, site: CommandContext, mirror: int, binding: int) -> Terms:
    return Terms(
        plan=plan,
        mirror=mirror,
        binding=binding,
        limits=service.limits,
        abilities=service.abilities,
        recipe=service.recipe,
        rules=Rules(plan.include, plan.exclude, service.limits),
        spool_dir=Path("/nonexistent"),  # a view reads and never keeps a copy
        cure=site.cure,
        describe=service.describe,
    )


def _stand(
    tx: Tx, plan: Plan, service: Service, site: CommandContext, base: Base | None, note: str
) -> Footing:
    record = find_record(tx, plan, site.configured)
    if record is None:
        return Footing(_terms(plan, service, site, NOWHERE, NOWHERE), None, base=base, note=note)
    binding, reprefixed = _binding(tx, plan, record, base)
    terms = _terms(plan, service, site, record.id, binding)
    renewed = not attach.is_judged(tx, terms)
    return Footing(
        terms,
        record,
        reprefixed=reprefixed and (service.abilities.renames or plan.renames == "replace"),
        asked=_asked(tx, plan),
        renewed=renewed,
        upgraded=renewed and attach.is_upgraded(tx, terms),
        moved=record.name == plan.name and record.folder != str(plan.root),
        base=base,
        note=note,
    )


def find_record(tx: Tx, plan: Plan, configured: Sequence[str]) -> MirrorRecord | None:
    """The mirror's row, by name or as a mirror of the same folder whose name left the config."""
    record = tx.mirrors.named(plan.name)
    if record is not None:
        return record
    left = [m for m in tx.mirrors.in_folder(str(plan.root)) if m.name not in configured]
    return left[0] if left else None


def _binding(tx: Tx, plan: Plan, record: MirrorRecord, base: Base | None) -> tuple[int, bool]:
    """The binding of the next pass, and whether it is the last one under another prefix."""
    last = None if record.binding is None else tx.mirrors.binding(record.binding)
    if base is not None:
        known = tx.mirrors.binding_for(plan.target_type, base.address, base.id, plan.prefix)
        if known is None and last is not None and attach.is_reprefixed(last, plan, base):
            return last.id, True
        return known or NOWHERE, False
    same = last is not None and (last.target, last.prefix) == (plan.target_type, plan.prefix)
    return (last.id if last is not None and same else NOWHERE), False


async def refuse_emptied(footing: Footing, target: Target | None, glance: Glance) -> None:
    """As a pass does at its beginning: raises `Halted` over a base that lost many of its documents."""
    base, terms = footing.base, footing.terms
    if base is None or target is None:
        return
    serving = glance.read(lambda tx: tx.uploads.serving_count(terms.mirror, terms.binding))
    halt = footing.record.halt if footing.record is not None else None
    doubted = halt is not None and halt.reason == attach.EMPTIED
    if (ids := await attach.ids_if_emptied(target, base, serving, is_doubted=doubted)) is not None:
        base = replace(base, documents=glance.read(lambda tx: tx.uploads.serving_among(terms.binding, ids)))
    attach.refuse_emptied(serving, base, f"kbsync verify --repair --mirror {terms.plan.name}")


def _asked(tx: Tx, plan: Plan) -> Asked:
    waiting = tx.inbox.waiting(plan.name)
    retries = [m.args.get("paths") for m in waiting if m.verb == "retry"]
    return Asked(
        approved=frozenset(_holds(waiting)),
        root_accepted=any(m.verb == "approve" and m.args.get("root") for m in waiting),
        retry_all=None in retries,
        retry=frozenset(path for paths in retries for path in paths or ()),
    )


def _holds(messages: Sequence[Message]) -> Iterator[int]:
    for message in messages:
        if message.verb == "approve":
            yield from map(int, message.args.get("holds", ()))


async def _adoptable(target: Target, terms: Terms, glance: Glance) -> Mapping[str, tuple[Upload, ...]]:
    """What the next pass takes over: documents whose marker names a path, and that no row holds."""
    found: dict[str, tuple[Upload, ...]] = {}
    async for listed in ours(terms, target):
        if listed.path is not None and not _is_held(glance, terms.binding, listed):
            number = -2 - len(found)
            row = adopting(terms, listed, listed.path, 0.0, number)
            found[listed.path] = (*found.get(listed.path, ()), row)
    return found


def _is_held(glance: Glance, binding: int, listed: Listed) -> bool:
    return bool(glance.read(lambda tx: tx.uploads.by_remote(binding, listed.remote_id)))


@dataclass(frozen=True, slots=True)
class Ground:
    """The root as it is now. `asks`: it differs from last time, so that every deletion asks a person."""

    identity: RootIdentity
    asks: bool


def look_at_root(footing: Footing) -> Ground | Halt:
    """The root, or why nothing may be concluded from it."""
    terms = footing.terms
    try:
        now = identify(terms.plan.root)
    except RootTrouble as error:
        return attach.root_missing(terms.plan, str(error), terms.cure)
    if footing.record is None or footing.asked.root_accepted:
        return Ground(now, _asks_anyway(footing))
    difference, is_lost = attach.difference_from(footing.record.root, now)
    if is_lost:
        return attach.root_differs(terms.plan, difference, terms.cure)
    return Ground(now, bool(difference) or _asks_anyway(footing))


def _asks_anyway(footing: Footing) -> bool:
    return footing.moved or (footing.record is not None and footing.record.hold_all)


def changed_root(terms: Terms) -> Halt:
    """The halt of a root that is another one at the end of a look than at its beginning."""
    return attach.root_differs(terms.plan, "it changed while it was looked at", terms.cure)


def is_same_root(terms: Terms, ground: Ground) -> bool:
    """Nobody took the root away meanwhile."""
    try:
        return not compare(ground.identity, identify(terms.plan.root), within_run=True)
    except RootTrouble:
        return False


ROUNDS = 8
FRESH = -1
"""The id of the upload that a pass would make."""

ON_ITS_WAY = (UploadState.INTENDED, UploadState.SENDING, UploadState.UNSURE)
_STILL = Timing(0.0, lambda: 0.0, Limits())


class Effect(enum.Enum):
    """What a pass would do about one path, once everything has gone well."""

    NOTHING = "nothing"  # nothing at all, or nothing that is seen from outside
    UPLOAD = "upload"
    REPLACE = "replace"
    RENAME = "rename"
    REEMBED = "reembed"  # the same bytes under another recipe
    RENEW = "renew"  # the same, for the brake to weigh
    ASKED = "asked"  # the same, and it waits for a person
    INDEXING = "indexing"  # sent already; the target is at work
    FAILED = "failed"  # in quarantine
    SKIPPED = "skipped"  # sent, and there is no text in it
    WEIGH = "weigh"  # a deletion for the brake to weigh
    HELD = "held"  # a deletion that waits for a person
    DELETE = "delete"  # a deletion that was let go already, or of what never served


@dataclass(frozen=True, slots=True)
class Course:
    """Where a path is heading. `rows`: its uploads when the planner has no more to say.

    `cause`: why its deletion is to be weighed, else ''. `relabels`: the target is told its new path.
    `reslices`: the target is to cut it anew. `renews`: it is to be weighed whether it is made anew.
    """

    rows: tuple[Upload, ...]
    cause: str = ""
    relabels: bool = False
    reslices: bool = False
    renews: bool = False

    @property
    def server(self) -> Upload | None:
        """The upload that serves the path."""
        return next((row for row in self.rows if row.state.serves), None)


def follow(wish: Wish, uploads: Sequence[Upload], abilities: Abilities) -> Course:
    """Let the planner decide until nothing more follows, as a pass does when it settles a path."""
    played = _Played(wish, _arrived(wish, uploads, abilities))
    for _ in range(ROUNDS):
        actions = decide(wish, list(played.rows.values()), abilities)
        changes = [played.act(action) for action in actions]
        if not any(changes):
            break
    rows = tuple(played.rows.values())
    return Course(rows, played.cause, played.relabels, played.reslices, played.renews)


def _arrived(wish: Wish, uploads: Sequence[Upload], abilities: Abilities) -> list[Upload]:
    """Where a target updates in place the planner waits for what is on its way: here it has arrived."""
    late = [u for u in uploads if abilities.updates and _is_late(wish, u)]
    if not late:
        return list(uploads)
    rest = [u for u in uploads if u not in late and not u.state.serves]
    return [*rest, replace(late[-1], state=UploadState.SERVING, purpose=Purpose.SERVE)]


def _is_late(wish: Wish, upload: Upload) -> bool:
    if not upload.state.in_flight:
        return False
    return bool(parting_cause(wish)) or not is_for(wish, upload)


def is_for(wish: Wish, upload: Upload) -> bool:
    """The upload holds the wished bytes under the wished recipe."""
    return (upload.digest, upload.recipe) == (wish.digest, wish.recipe)


class _Played:
    """Rows that change as the planner wishes."""

    def __init__(self, wish: Wish, uploads: Sequence[Upload]) -> None:
        self.rows = {upload.id: upload for upload in uploads}
        self.cause = ""
        self.relabels = self.reslices = self.renews = False
        self._wish = wish

    def act(self, action: Action) -> bool:
        """Carry out one action; True when it may call for more."""
        match action:
            case Weigh(_, cause):
                self.cause = cause
                return False
            case Keep():
                return False
            case Renew():
                self.renews = True
                return False
            case Forgo(number):
                self._put(lifecycle.forgo(self.rows[number]))
                return False
            case Relabel():
                changed, self.relabels = not self.relabels, True
                return changed
            case Send(predecessor):
                self.rows[FRESH] = _intended(self._wish, predecessor)
            case Prove(number):  # supposed to be the file: then there is nothing to do
                self._put(self._known(self.rows[number]))
            case Serve(number) if proves(self.rows[number], self._wish):
                self._put(lifecycle.take_over(self._known(self.rows[number]), _STILL))
            case Reslice(number):
                self.reslices = True
                self._put(replace(lifecycle.reslice(self.rows[number], _STILL), recipe=self._wish.recipe))
            case _:
                self._put(_stepped(self.rows[action.upload], action))
        return True

    def _known(self, row: Upload) -> Upload:
        return replace(row, digest=self._wish.digest or "")

    def _put(self, row: Upload) -> None:
        if row.state.is_final:
            self.rows.pop(row.id, None)
        else:
            self.rows[row.id] = row


def _stepped(row: Upload, action: Action) -> Upload:
    match action:
        case Drop():
            return lifecycle.drop(row)
        case Retire():
            return lifecycle.retire(row, _STILL)
        case Unwant():
            return lifecycle.unwant(row)
        case Want():
            return lifecycle.want(row)
        case Serve():
            return lifecycle.take_over(row, _STILL)
        case _:
            return row


def _intended(wish: Wish, predecessor: int | None) -> Upload:
    return Upload(
        id=FRESH,
        mirror=0,
        binding=0,
        path=wish.path,
        label=wish.path,
        name=wish.path,
        digest=wish.digest or "",
        size=wish.size,
        recipe=wish.recipe,
        state=UploadState.INTENDED,
        predecessor=predecessor,
    )


def effect_of(wish: Wish, course: Course) -> Effect:
    """What a course means for people."""
    if parting_cause(wish):
        return _parting(course)
    if wish.digest is None or wish.verdict.choice is not Choice.SELECTED or _is_open(wish):
        return Effect.NOTHING
    if any(row.state in ON_ITS_WAY and is_for(wish, row) for row in course.rows):
        return _sending(wish, course.server)
    if course.renews:
        return Effect.RENEW
    return Effect.ASKED if _is_asked(wish, course.server) else _resting(wish, course)


def _is_asked(wish: Wish, server: Upload | None) -> bool:
    return server is not None and server.digest == wish.digest and server.asked == wish.recipe != ""


def _is_open(wish: Wish) -> bool:
    return wish.presence in (Presence.UNKNOWN, Presence.MISSING)


def _parting(course: Course) -> Effect:
    if course.cause:
        return Effect.WEIGH
    if course.server is not None:
        return Effect.HELD
    retiring = any(row.state is UploadState.RETIRING for row in course.rows)
    return Effect.DELETE if retiring else Effect.NOTHING


def _sending(wish: Wish, server: Upload | None) -> Effect:
    if server is None:
        return Effect.UPLOAD
    if server.label != wish.path:
        return Effect.RENAME
    return Effect.REEMBED if server.digest == wish.digest else Effect.REPLACE


def _resting(wish: Wish, course: Course) -> Effect:
    if course.server is not None and is_for(wish, course.server):
        if course.relabels:
            return Effect.RENAME
        stuck = is_stuck_under_old_name(wish, course.server, course.rows)
        return Effect.FAILED if stuck else Effect.NOTHING
    states = {row.state for row in course.rows if is_for(wish, row)}
    if UploadState.INDEXING in states:
        return Effect.REEMBED if course.reslices else Effect.INDEXING
    if course.server is None and is_without_text(wish, course.rows):
        return Effect.SKIPPED
    return Effect.FAILED if UploadState.FAILED in states else Effect.NOTHING


RENEWED = (Effect.REEMBED, Effect.RENEW, Effect.ASKED)
"""The same bytes under another recipe."""

SENT = (Effect.UPLOAD, Effect.REPLACE, *RENEWED)
LOST = "its answer was lost; it is looked for before it is sent again"
AGAIN = "the target cannot rename"


@dataclass(frozen=True, slots=True)
class Step:
    """What a pass would do about one path.

    `size`: bytes that are sent, or of the document. `cause`: why it would go. `source`: the path it had
    before. `sends`: its bytes are sent. `before`: its row as it was, None for a new file. `server`: what
    serves it meanwhile. `news`: seen by looking at the folder; else the state knew of it already. `recipe`:
    the wished one.
    """

    effect: Effect
    path: str
    size: int
    cause: str = ""
    source: str | None = None
    sends: bool = False
    note: str = ""
    before: Entry | None = None
    server: Upload | None = None
    news: bool = True
    is_ready: bool = False
    recipe: str = ""

    @property
    def is_known(self) -> bool:
        """The state knew already that something is to be done here."""
        waiting = self.before is not None and self.before.status in (Status.PENDING, Status.INDEXING)
        return not self.news or waiting


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or directory (its path ends in `/`) without an up-to-date document, and why."""

    path: str
    size: int
    reason: str


@dataclass(slots=True)
class Surveyed:
    """All that a survey found. `unchanged`: documents with nothing to do about them."""

    steps: list[Step] = field(default_factory=list)
    failed: list[LeftOut] = field(default_factory=list)
    skipped: list[LeftOut] = field(default_factory=list)
    unchanged: int = 0

    def note(self, step: Step) -> None:
        """Remember what differs, count what does not."""
        if step.effect is Effect.SKIPPED:
            self.skipped.append(LeftOut(step.path, step.size, step.note))
            return
        if step.effect is Effect.NOTHING:
            self.unchanged += step.is_ready
        elif step.effect is not Effect.INDEXING:
            self.steps.append(step)
        if step.effect is Effect.FAILED:
            self.failed.append(LeftOut(step.path, step.size, step.note))

    def leave_out(self, wish: Wish, course: Course) -> None:
        """Remember a file that is not taken, and what is still found of it."""
        left = LeftOut(wish.path, wish.size, wish.verdict.reason)
        if wish.verdict.choice is Choice.SKIPPED:
            self.skipped.append(left)
        elif wish.verdict.choice is Choice.REFUSED:
            self.failed.append(left if course.server is None else _outdated(left))


_REFUSED = (Effect.FAILED, Effect.SKIPPED)


def _outdated(left: LeftOut) -> LeftOut:
    return LeftOut(left.path, left.size, f"{left.reason}; an older version is still found, out of date")


def step_of(wish: Wish, course: Course, known: Entry | None, moved_from: str | None) -> Step:
    """The step that a course means. `moved_from`: the path the same file had until now."""
    effect, server = effect_of(wish, course), course.server
    is_ready = effect is Effect.NOTHING and _is_served(wish, course)
    if is_ready and moved_from is not None:
        effect = Effect.RENAME  # the target keeps the old name: nothing is sent
    sends = (effect in SENT and not course.reslices) or (
        effect is Effect.RENAME and _upload_on_its_way(wish, course) is not None
    )
    return Step(
        effect,
        wish.path,
        wish.size if sends or server is None else server.size,
        cause=course.cause or parting_cause(wish),
        source=_source(effect, server, moved_from),
        sends=sends,
        note=_remark(effect, wish, course) if sends or effect in _REFUSED else "",
        recipe=wish.recipe,
        before=known,
        server=server,
        is_ready=is_ready,
    )


def _is_served(wish: Wish, course: Course) -> bool:
    wanted = wish.verdict.choice is Choice.SELECTED and wish.digest is not None
    return wanted and course.server is not None and is_for(wish, course.server)


def _upload_on_its_way(wish: Wish, course: Course) -> Upload | None:
    return next((row for row in course.rows if row.state in ON_ITS_WAY and is_for(wish, row)), None)


def _source(effect: Effect, server: Upload | None, moved_from: str | None) -> str | None:
    if effect is not Effect.RENAME:
        return None
    return moved_from or (server.label or server.path if server is not None else None)


def _remark(effect: Effect, wish: Wish, course: Course) -> str:
    if effect in _REFUSED:
        return next((row.reason for row in course.rows if _is_quarantined(row, wish)), "")
    sending = _upload_on_its_way(wish, course)
    if sending is not None and sending.state in (UploadState.UNSURE, UploadState.SENDING):
        return LOST
    return AGAIN if effect is Effect.RENAME else ""


def _is_quarantined(row: Upload, wish: Wish) -> bool:
    return row.state is UploadState.FAILED and is_for(wish, row)


T = TypeVar("T")
PAGE = 256
NO_LIMIT = -1
OPEN = (
    UploadState.INTENDED,
    UploadState.SENDING,
    UploadState.UNSURE,
    UploadState.INDEXING,
    UploadState.HELD,
    UploadState.RETIRING,
    UploadState.FAILED,
)
"""States in which a pass may have to do something although the file is as it was."""

BUSY = "it is being written now; it is sent once it is quiet"


class _NothingKnown:
    """A tree without rows."""

    def rows(self, directory: str) -> set[EntryRow]:
        return set()

    def folders(self, directory: str) -> dict[str, StoredFolder]:
        return {}

    def folder(self, directory: str) -> StoredFolder | None:
        return None

    def close(self) -> None:
        pass


class Survey:
    """One survey of one mirror. Its calls block and belong into one thread."""

    def __init__(self, footing: Footing, ground: Ground, glance: Glance, clock: Clock) -> None:
        self._footing = footing
        self._terms = footing.terms
        self._ground = ground
        self._glance = glance
        self._clock = clock
        former = partial(former_files, self._read, footing.terms)
        self._judge = Judge(footing.terms, clock, former, keep=lambda _path, body: body.close())
        self._found = Surveyed()
        self._touched: set[str] = set()
        self._missing: list[str] = []
        self._relisted: set[str] = set()

    def run(self) -> Surveyed:
        """Look at the whole folder."""
        mirror = self._terms.mirror
        self._found.unchanged = self._read(lambda tx: tx.mirrors.tally(mirror)).get(Status.READY, 0)
        self._compare()
        self._reread_racy()
        self._part()
        self._remember()
        self._read(self._note_failures)
        return self._found

    def _read(self, work: Callable[[Tx], T]) -> T:
        return self._glance.read(work)

    # -- the folder ------------------------------------------------------------------------------------

    def _compare(self) -> None:
        with closing(self._tree()) as tree:
            listings = scan(self._terms.plan.root, tree, self._terms.rules)
            with closing(listings):
                for listing in listings:
                    self._take_listing(listing)

    def _tree(self) -> StateTree | _NothingKnown:
        if self._footing.record is None:
            return _NothingKnown()
        return StateTree(self._glance.path, self._terms.mirror)

    def _take_listing(self, listing: FolderListing) -> None:
        self._relisted.add(listing.path)
        if listing.problem:
            self._found.failed.append(LeftOut(folder_label(listing.path), 0, listing.problem))
            return
        sights = self._sights(listing)
        while page := list(islice(sights, PAGE)):
            self._take(page)
        self._missing += [join(listing.path, name) for name in listing.missing]
        for name in listing.gone_folders:
            self._missing += [entry.path for entry in self._below(join(listing.path, name))]
        person = is_by_person(self._stored_version(listing.path), listing.version)
        for name, verdict in listing.shut_folders:
            self._shut(join(listing.path, name), verdict, person)

    def _sights(self, listing: FolderListing) -> Iterator[FoundFile]:
        """Files are taken to stay as they are: what is young is noted, not waited for."""
        version = self._stored_version(listing.path) if listing.reselect else ""
        for found in listing.changed:
            path = join(listing.path, found.name)
            yield FoundFile(path, found.stamp, found.kind, found.links, listing.rules, version, quiet=True)

    def _stored_version(self, folder: str) -> str:
        row = self._read(lambda tx: tx.folders.get(self._terms.mirror, folder))
        return "" if row is None else row.version

    def _below(self, folder: str) -> list[Entry]:
        return self._read(lambda tx: list(tx.entries.below(self._terms.mirror, folder)))

    def _reread_racy(self) -> None:
        """Files that may have changed behind the stamp that is stored."""
        racy = self._read(lambda tx: tx.entries.racy(self._terms.mirror, NO_LIMIT))
        paths = (entry.path for entry in racy if entry.path not in self._touched)
        while page := list(islice(paths, PAGE)):
            self._take([sight for path in page if (sight := self._look(path)) is not None])

    def _look(self, path: str) -> FoundFile | None:
        plan = self._terms.plan
        found = look(plan.root, path)
        if found.stamp is None or found.kind in (None, FileKind.FOLDER):
            return None
        try:
            rules, entered = rules_at(plan.root, self._terms.rules, split(path)[0])
        except (RulesUnknown, OSError):
            return None
        if entered.choice is not Choice.SELECTED:
            return None
        return FoundFile(path, found.stamp, found.kind or FileKind.FILE, found.links, rules, quiet=True)

    # -- files that are there --------------------------------------------------------------------------

    def _take(self, sights: Sequence[FoundFile]) -> None:
        known = self._entries([sight.path for sight in sights])
        judged = [(sight, self._judge.judge(sight, known.get(sight.path))) for sight in sights]
        self._read(lambda tx: self._heed_all(tx, judged, known))

    def _entries(self, paths: Sequence[str]) -> Mapping[str, Entry]:
        mirror = self._terms.mirror
        rows = self._read(lambda tx: [tx.entries.get(mirror, path) for path in paths])
        return {row.path: row for row in rows if row is not None}

    def _heed_all(
        self, tx: Tx, judged: Sequence[tuple[FoundFile, Judgement]], known: Mapping[str, Entry]
    ) -> None:
        for sight, judgement in judged:
            self._heed(tx, sight, judgement, known.get(sight.path))

    def _heed(self, tx: Tx, sight: FoundFile, judged: Judgement, known: Entry | None) -> None:
        if judged is None:
            return
        self._touch(sight.path, known)
        if isinstance(judged, Wait):
            self._note_busy(tx, sight, known)
        elif judged.problem:
            self._found.failed.append(LeftOut(sight.path, max(sight.stamp.size, 0), judged.problem))
        else:
            self._foresee(tx, sight, judged, known)

    def _touch(self, path: str, known: Entry | None) -> None:
        """What was ready counts as unchanged only if it turns out to be; each path is dealt with once.

        What has no row is met by nothing but the scan.
        """
        if known is not None:
            self._touched.add(path)
            self._found.unchanged -= known.status is Status.READY

    def _note_busy(self, tx: Tx, sight: FoundFile, known: Entry | None) -> None:
        server = next((row for row in self._rows(tx, sight.path) if row.state.serves), None)
        effect = Effect.UPLOAD if server is None else Effect.REPLACE
        size = sight.stamp.size
        self._found.note(Step(effect, sight.path, size, sends=True, note=BUSY, before=known, server=server))

    def _foresee(self, tx: Tx, sight: FoundFile, seen: FileSeen, known: Entry | None) -> None:
        wish = self._wish(seen, known)
        moved_from = seen.renamed_from if seen.renamed_from not in self._touched else None
        rows = self._rows(tx, sight.path)
        if moved_from is not None:
            self._touch(moved_from, tx.entries.get(self._terms.mirror, moved_from))
            rows += [replace(row, path=sight.path) for row in self._rows(tx, moved_from)]
        course = follow(wish, rows, self._terms.abilities)
        step = step_of(wish, course, known, moved_from)
        self._found.leave_out(wish, course)
        self._found.note(replace(step, note=step.note or self._youth(sight, step)))

    def _wish(self, seen: FileSeen, known: Entry | None) -> Wish:
        """As the ledger would record the file and wish by it: one that is not read keeps its last digest."""
        digest = seen.digest or (known.digest if known else None)
        size, recipe = max(seen.stamp.size, 0), self._terms.recipe(seen.path)
        return Wish(seen.path, Presence.PRESENT, seen.verdict, digest, size, recipe, seen.by_person)

    def _youth(self, sight: FoundFile, step: Step) -> str:
        settle = self._terms.plan.settle
        if not step.sends or is_old_enough(sight.stamp, self._clock.wall(), settle):
            return ""
        return f"it changed just now; it is sent once it has been quiet for {settle:g} s"

    def _rows(self, tx: Tx, path: str) -> list[Upload]:
        return self._footing.rows(tx, path)

    # -- files that are not there, or not looked for any more --------------------------------------------

    def _shut(self, folder: str, verdict: Verdict, by_person: bool) -> None:
        self._settle([replace(entry, verdict=verdict, by_person=by_person) for entry in self._below(folder)])

    def _part(self) -> None:
        """What the scan did not find gets a second look, as in a pass."""
        gone = (path for path in self._missing if path not in self._touched and self._is_gone(path))
        while page := list(islice(gone, PAGE)):
            self._settle([replace(e, presence=Presence.GONE) for e in self._entries(page).values()])

    def _is_gone(self, path: str) -> bool:
        return look(self._terms.plan.root, path, self._ground.identity).lacks_file

    def _settle(self, entries: Sequence[Entry], *, news: bool = True) -> None:
        untouched = [entry for entry in entries if entry.path not in self._touched]
        self._read(lambda tx: self._settle_all(tx, untouched, news))

    def _settle_all(self, tx: Tx, entries: Sequence[Entry], news: bool) -> None:
        for entry in entries:
            self._settle_one(tx, entry, news)

    def _settle_one(self, tx: Tx, entry: Entry, news: bool) -> None:
        self._touch(entry.path, entry)
        wish = self._old_wish(entry)
        course = follow(wish, self._rows(tx, entry.path), self._terms.abilities)
        self._found.note(replace(step_of(wish, course, entry, None), news=news))

    def _old_wish(self, entry: Entry) -> Wish:
        """What the folder wants at a path that is as it was recorded; a new run counts its looks anew."""
        presence = Presence.PRESENT if entry.presence is Presence.MISSING else entry.presence
        is_read = entry.stamp != NO_STAMP and entry.stamp.size >= 0
        digest = entry.digest if is_read else None
        size, recipe = max(entry.stamp.size, 0), self._terms.recipe(entry.path)
        return Wish(entry.path, presence, entry.verdict, digest, size, recipe, entry.by_person)

    # -- what the state knew already -------------------------------------------------------------------

    def _remember(self) -> None:
        """Paths whose file is as it was and whose documents are not all at rest."""
        paths = self._everything() if self._footing.renewed else self._unfinished()
        untouched = (path for path in paths if path not in self._touched)
        while page := list(islice(untouched, PAGE)):
            self._settle(list(self._entries(page).values()), news=False)

    def _everything(self) -> Iterator[str]:
        mirror = self._terms.mirror
        for _, folder in self._read(lambda tx: list(tx.folders.tree(mirror, ""))):
            yield from self._names(folder)

    def _names(self, folder: str) -> list[str]:
        return self._read(lambda tx: tx.entries.names(self._terms.mirror, folder))

    def _unfinished(self) -> Iterator[str]:
        yield from self._read(lambda tx: [c.path for c in tx.holds.candidates(self._terms.mirror)])
        yield from self._read(lambda tx: tx.renewals.paths(self._terms.mirror))
        yield from self._read(self._unlabelled)
        after = 0
        while rows := self._open_rows(after):
            after = rows[-1].id
            yield from (row.path for row in rows if row.path is not None)

    def _open_rows(self, after: int) -> list[Upload]:
        terms = self._terms
        return self._read(lambda tx: tx.uploads.in_states(terms.mirror, terms.binding, OPEN, after))

    def _unlabelled(self, tx: Tx) -> list[str]:
        """Documents that the target still knows under another path."""
        terms, ever = self._terms, float("inf")
        rows = tx.uploads.due(terms.mirror, terms.binding, UploadState.SERVING, ever, NO_LIMIT)
        return [row.path for row in rows if row.path is not None]

    def _note_failures(self, tx: Tx) -> None:
        """Files and directories that failed before and were not looked at just now."""
        mirror = self._terms.mirror
        for folder in tx.folders.problems(mirror):
            if folder.path not in self._relisted and not folder.shut and self._is_there(folder.path):
                self._found.failed.append(LeftOut(folder_label(folder.path), 0, folder.problem))
        for entry in tx.entries.of_status(mirror, Status.FAILED):
            if entry.path not in self._touched and entry.verdict.choice is Choice.REFUSED:
                reason = entry.verdict.reason
                self._found.failed.append(LeftOut(entry.path, max(entry.stamp.size, 0), reason))

    def _is_there(self, path: str) -> bool:
        return look(self._terms.plan.root, path).presence is not Presence.MISSING


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
    site: CommandContext | None = None,
) -> MirrorPlan:
    """Plan a pass. `glance` is None where no state exists yet; `target` None where it is not to be asked.

    Raises StateError for a state that cannot be read. Trouble with root or target becomes the plan's `halt`
    where a pass would stop over it, else its `note`.
    """
    site = site or CommandContext()
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
        self._describe = terms.describe

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
        return replace(step, note=", ".join(filter(None, [change, step.note])), cause="")


def _approved(tx: Tx, footing: Footing, oldest: float) -> frozenset[int]:
    """Uploads in holds that were approved."""
    mirror = footing.terms.mirror

    def approved(holds: Iterable[Hold]) -> list[int]:
        asked = footing.asked.approved
        return [h.id for h in holds if h.id in asked or (h.approved_at or 0.0) > oldest]

    deleted = (i.upload for h in approved(tx.holds.current(mirror)) for i in tx.holds.items(h))
    holds = approved(tx.holds.current(mirror, RENEWALS))
    return frozenset([*deleted, *(i.upload for h in holds for i in tx.renewals.items(mirror, h))])


def _sorted_out(name: str, findings: Surveyed, brake: _Brake, note: str) -> MirrorPlan:
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
