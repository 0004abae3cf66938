"""Where a mirror stands, found out without writing a row: its record, its base, the terms of its next pass.

This is what `attach` does at the beginning of a pass, as far as it can be known by looking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kbsync.contract.mirroring import Base, Listed, Target
from kbsync.core.model import Abilities, Limits, Upload, UploadState
from kbsync.core.select import Rules
from kbsync.engine import attach
from kbsync.engine.adoption import adopting, ours
from kbsync.engine.terms import Plan, Terms, abilities_of, describe_of, recipe_of
from kbsync.errors import Halted, TargetError
from kbsync.source.roots import RootIdentity, RootTrouble, compare, identify
from kbsync.state.inbox import Message
from kbsync.state.mirrors import Halt, MirrorRecord
from kbsync.state.store import Glance, Tx

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
class Site:
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
    site: Site,
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


def _terms(plan: Plan, service: Service, site: Site, mirror: int, binding: int) -> Terms:
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


def _stand(tx: Tx, plan: Plan, service: Service, site: Site, base: Base | None, note: str) -> Footing:
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
