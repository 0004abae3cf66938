"""State lost, documents there: what the base already holds is taken over instead of being sent again.

Begins the work on one mirror: which rows it has, which base it is bound to, and what changed meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kbsync.contract.target import Base, DocState, Listed, Target
from kbsync.core.model import FOUND_READY, ON_THE_WAY, SERVING, Abilities, Upload, UploadState
from kbsync.core.planner import UNKNOWN_SIZE
from kbsync.core.selection import Rules
from kbsync.engine.clock import Clock
from kbsync.engine.halts import FOLDER_MISSING
from kbsync.engine.journal import Journal
from kbsync.engine.terms import Plan, Terms, abilities_of, recipe_of
from kbsync.errors import Halted
from kbsync.source.roots import RootIdentity, compare
from kbsync.state.glance import Tx
from kbsync.state.mirrors import BindingRecord, Halt, MirrorRecord, RootRecord
from kbsync.state.store import Store

ADOPT_PAGE = 200


async def adopt(store: Store, journal: Journal, target: Target) -> int:
    """List a base this state has never seen; returns how many documents may be ours.

    Each becomes an ADOPTING row at its path. Proof is the file's own digest, once it is known, against the
    marker, the tag in the name, or the document's bytes: it then serves, or is looked after until it does
    where the target does not call it searchable. What is never proven is left alone and reported by
    `verify`. Repeatable: rows that are known already are passed over, so a crash in the middle costs a
    second listing.
    """
    page: list[Listed] = []
    found = 0
    async for listed in ours(journal.terms, target):
        page.append(listed)
        if len(page) == ADOPT_PAGE:
            found += await store.write(_recorder(journal, page))
            page = []
    found += await store.write(_recorder(journal, page))
    await store.write(lambda tx: tx.mirrors.set_adopted(journal.terms.binding))
    return found


async def ours(terms: Terms, target: Target) -> AsyncIterator[Listed]:
    """Every listed document whose marker or name tells a path of this mirror, with that path."""
    shortened: Mapping[str, str] | None = None
    async for listed in target.list():
        read = terms.read(listed)
        if read.path is None and (short := terms.short_of(listed)):
            shortened = await asyncio.to_thread(_shortened, terms) if shortened is None else shortened
            read = replace(read, path=shortened.get(short))
        if read.path is not None:
            yield read


def _shortened(terms: Terms) -> Mapping[str, str]:
    """Paths in the folder that are too long for a name, by the hash that stands for them there."""
    root = os.fspath(terms.plan.root)
    found: dict[str, str] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root)
            if short := terms.naming.short_of(path):
                found[short] = path
    return found


def _recorder(journal: Journal, page: Sequence[Listed]) -> Callable[[Tx], int]:
    return lambda tx: sum(_record(journal, tx, listed) for listed in page)


def _record(journal: Journal, tx: Tx, listed: Listed) -> int:
    if listed.path is None or tx.uploads.by_remote(journal.terms.binding, listed.remote_id):
        return 0
    tx.uploads.add(adopting(journal.terms, listed, listed.path, journal.timing.now))
    journal.settle(tx, listed.path)
    return 1


def adopting(terms: Terms, listed: Listed, path: str, now: float, number: int = 0) -> Upload:
    """The row of a document found at the base that may be ours."""
    return Upload(
        id=number,
        mirror=terms.mirror,
        binding=terms.binding,
        path=path,
        label=path,
        name=listed.name,
        digest=listed.digest or "",
        size=UNKNOWN_SIZE if listed.size is None else listed.size,
        recipe=terms.recipe(path) if listed.recipe is None else listed.recipe,
        state=UploadState.ADOPTING,
        remote_id=listed.remote_id,
        created_at=now,
        code=FOUND_READY if listed.state is DocState.READY else "",
    )


PAGE = 256
EMPTIED = "knowledge-base-emptied"
EMPTIED_LEAST, EMPTIED_SHARE = 5, 0.2


def enroll(tx: Tx, plan: Plan, configured: Sequence[str]) -> tuple[MirrorRecord, str]:
    """The mirror's rows and the name they had before.

    Found by name, or taken over from a mirror of the same folder that has left the config.
    """
    folder = str(plan.root)
    record = find_record(tx, plan, configured)
    if record is None:
        record = tx.mirrors.add(plan.name, folder, plan.target_type)
    elif record.folder != folder:
        tx.mirrors.set_hold_all(record.id, True)
    tx.mirrors.attach(record.id, plan.name, folder, plan.target_type)
    return tx.mirrors.get(record.id), record.name


def find_record(tx: Tx, plan: Plan, configured: Sequence[str]) -> MirrorRecord | None:
    """The mirror's row, by name or as a mirror of the same folder whose name left the config."""
    record = tx.mirrors.named(plan.name)
    if record is not None:
        return record
    return next((m for m in tx.mirrors.in_folder(str(plan.root)) if m.name not in configured), None)


def check_root(tx: Tx, record: MirrorRecord, now: RootIdentity, *, accepted: bool) -> str:
    """Compare the root with what it was last time; '' or why a person must look before anything is deleted.

    A mount that is missing halts (the sentence is returned); any other difference holds the deletions of
    the first pass. `accepted`: a person said that the folder is right as it is.
    """
    difference, is_lost = ("", False) if accepted else difference_from(record.root, now)
    if is_lost:
        return difference
    if difference:
        tx.mirrors.set_hold_all(record.id, True)
    tx.mirrors.set_root(record.id, RootRecord(now.dev, now.ino, now.fs_type, now.is_mount))
    return ""


def difference_from(stored: RootRecord | None, now: RootIdentity) -> tuple[str, bool]:
    """How the root differs from what it was ('' for not at all), and whether a mount is missing."""
    if stored is None:
        return "", False
    was = RootIdentity(stored.dev, stored.ino, stored.fs_type, stored.is_mount)
    difference = compare(was, now)
    return difference, bool(difference) and stored.is_mount and not now.is_mount


def root_missing(plan: Plan, trouble: str, write: Callable[[str], str]) -> Halt:
    """The halt of a root that is not there: nobody can approve what cannot be seen; `write` makes a cure."""
    detail = f"{trouble}; nothing is deleted until it is back"
    return Halt(FOLDER_MISSING, detail, write(f"retry --mirror {plan.name}"))


def root_differs(plan: Plan, difference: str, write: Callable[[str], str]) -> Halt:
    """The halt of a root that is another one than before; `write` makes a cure."""
    detail = f"{plan.root}: {difference}; nothing is deleted until it is back or approved"
    return Halt(FOLDER_MISSING, detail, write(f"approve {plan.name}"))


async def bind(
    store: Store,
    plan: Plan,
    record: MirrorRecord,
    target: Target,
    base: Base,
    spool_dir: Path,
    cure: Callable[[str], str],
) -> Terms:
    """Bind the mirror to the base. Raises `TargetError`."""
    base = await _counted(store, plan, record, target, base)
    repair = f"kbsync verify --repair --mirror {plan.name}"
    binding = await store.write(lambda tx: _rebind(tx, plan, record, base, target, repair))
    return Terms(
        plan=plan,
        mirror=record.id,
        binding=binding,
        base=base.id,
        limits=target.limits,
        abilities=abilities_of(target, plan),
        recipe=recipe_of(target, plan),
        rules=Rules(plan.include, plan.exclude, target.limits),
        spool_dir=spool_dir,
        cure=cure,
        describe=target.describe,
    )


async def _counted(store: Store, plan: Plan, record: MirrorRecord, target: Target, base: Base) -> Base:
    """The base with its documents counted one by one, where its own figure says that many are gone.

    A figure may lag behind what was just uploaded, and counts what others put there: a base that was found
    emptied stays so until the list says otherwise. What the list has of ours is certainly there.
    """
    key = (plan.target_type, base.address, base.id, plan.prefix)
    binding = await store.read(lambda tx: tx.mirrors.binding_for(*key))
    if binding is None:
        return base
    serving = await store.read(lambda tx: tx.uploads.serving_count(record.id, binding))
    is_doubted = record.halt is not None and record.halt.reason == EMPTIED
    if (ids := await ids_if_emptied(target, base, serving, is_doubted=is_doubted)) is None:
        return base
    return replace(base, documents=await store.read(lambda tx: tx.uploads.serving_among(binding, ids)))


async def ids_if_emptied(
    target: Target, base: Base, serving: int, *, is_doubted: bool = False
) -> list[str] | None:
    """The ids of all documents of a base that says it lost many; None where it does not say so.

    `is_doubted`: it was found to have lost many, whatever it says.
    """
    says_so = base.documents is not None and is_emptied(serving, base.documents)
    if target.limits.embedded or not (says_so or is_doubted):
        return None
    return [listed.remote_id async for listed in target.list()]


def _rebind(tx: Tx, plan: Plan, record: MirrorRecord, base: Base, target: Target, repair: str) -> int:
    _rename_all(tx, plan, record, base, abilities_of(target, plan))
    binding = tx.mirrors.bind_to(record.id, plan.target_type, base.address, base.id, plan.prefix)
    if record.binding not in (None, binding):
        unjudge(tx, record.id)
        tx.recipes.forget_all(record.id)
    if record.binding not in (None, binding) and target.limits.embedded:
        assert record.binding is not None
        tx.uploads.lose(record.id, record.binding)
    if not any(message.verb == "repair" for message in tx.inbox.waiting(plan.name)):
        refuse_emptied(tx.uploads.serving_count(record.id, binding), base, repair)
    left = tx.uploads.left_behind(record.id, binding)
    note = f"{left} documents were left behind in the knowledge base used before" if left else ""
    tx.mirrors.set_note(record.id, note)
    return binding


def _rename_all(tx: Tx, plan: Plan, record: MirrorRecord, base: Base, abilities: Abilities) -> None:
    """Another prefix in the same base is another name for every document, and the base stays the same."""
    last = None if record.binding is None else tx.mirrors.binding(record.binding)
    if last is None or not is_reprefixed(last, plan, base):
        return
    if tx.mirrors.binding_for(plan.target_type, base.address, base.id, plan.prefix) is None:
        tx.mirrors.set_prefix(last.id, plan.prefix)
        unjudge(tx, record.id)
        if abilities.renames or abilities.rename_policy == "replace":
            tx.uploads.unlabel(record.id, last.id)


def is_reprefixed(last: BindingRecord, plan: Plan, base: Base) -> bool:
    """The mirror stays in its base and only its prefix changed."""
    same = (last.target, last.address, last.base) == (plan.target_type, base.address, base.id)
    return same and last.prefix != plan.prefix


def refuse_emptied(serving: int, base: Base, cure: str) -> None:
    """A base that lost many documents behind our back is a person's business. Raises `Halted`."""
    if base.documents is not None and is_emptied(serving, base.documents):
        raise Halted(
            EMPTIED,
            f"{serving - base.documents} of {serving} documents are no longer in the knowledge base",
            cure=cure,
        )


def is_emptied(serving: int, documents: int) -> bool:
    """So many of the documents believed ready are gone that it is no accident of one or two."""
    return serving - documents > max(EMPTIED_LEAST, EMPTIED_SHARE * serving)


async def prepare(store: Store, journal: Journal, target: Target, clock: Clock) -> None:
    """Recover from the last stop, take over what the base holds, and renew what the config changed."""
    terms = journal.terms
    await store.write(lambda tx: tx.entries.forget_first_looks(terms.mirror))
    await store.write(journal.recover)
    await store.write(journal.bring_forward)
    await store.read(journal.recall_recipes)
    await store.read(journal.recall_lag)
    await store.read(journal.recall_times)
    if not await store.read(lambda tx: tx.mirrors.is_adopted(terms.binding)):
        await adopt(store, journal, target)
    await _judge_everything(store, journal)
    await store.write(lambda tx: tx.uploads.prune(clock.wall() - 30 * 86400.0))


async def _judge_everything(store: Store, journal: Journal) -> None:
    """Where the terms are not those by which every file was judged last."""
    terms = journal.terms
    if await store.read(lambda tx: is_judged(tx, terms)):
        return
    upgraded = await store.read(lambda tx: is_upgraded(tx, terms))
    if upgraded:
        await _keep_recipes(store, journal)
    await store.write(lambda tx: _begin_judging(tx, terms.mirror, upgraded=upgraded))
    await store.read(journal.recall_recipes)
    await _look_for_files(store, journal)
    await _settle_everything(store, journal)
    await store.write(lambda tx: _judged(tx, terms))


def fingerprint(terms: Terms) -> str:
    """Changes when files that did not change may have to be sent again: another base, another recipe."""
    recipes = [terms.recipe(f"x.{extension}") for extension in sorted(terms.limits.extensions)]
    whole = (terms.binding, recipes, terms.abilities, terms.plan.prefix, terms.plan.fingerprint)
    return hashlib.sha256(repr(whole).encode()).hexdigest()


def is_judged(tx: Tx, terms: Terms) -> bool:
    """Every file was judged by these terms last."""
    return tx.meta.get(_judged_key(terms.mirror)) == fingerprint(terms)


def unjudge(tx: Tx, mirror: int) -> None:
    """From the first change on: who is cut off and gets the old terms back has files judged by both."""
    tx.meta.set(_judged_key(mirror), "")


def _begin_judging(tx: Tx, mirror: int, *, upgraded: bool) -> None:
    unjudge(tx, mirror)
    if not upgraded:
        tx.meta.set(_settings_key(mirror), "")
        tx.recipes.forget_allowed(mirror)


def _judged(tx: Tx, terms: Terms) -> None:
    tx.meta.set(_judged_key(terms.mirror), fingerprint(terms))
    tx.meta.set(_settings_key(terms.mirror), _settings_print(terms))


def _judged_key(mirror: int) -> str:
    return f"terms:{mirror}"


def _settings_key(mirror: int) -> str:
    return f"settings:{mirror}"


def _settings_print(terms: Terms) -> str:
    """Changes when a person, and not an upgrade, says otherwise how documents are made."""
    return hashlib.sha256(repr((terms.binding, terms.plan.fingerprint)).encode()).hexdigest()


def is_upgraded(tx: Tx, terms: Terms) -> bool:
    """The settings are those of the last time: where recipes differ, the program does.

    What is there then stays as it is, where making it anew costs money.
    """
    return terms.abilities.weighs and tx.meta.get(_settings_key(terms.mirror)) == _settings_print(terms)


async def _keep_recipes(store: Store, journal: Journal) -> None:
    """What serves counts as made by today's recipe, but for what a person's change is still to reach."""
    after = 0
    while rows := await store.read(partial(_serving, journal.terms, after)):
        after = rows[-1].id
        await store.write(partial(_keep_page, journal, rows))


def _serving(terms: Terms, after: int, tx: Tx) -> list[Upload]:
    return tx.uploads.in_states(terms.mirror, terms.binding, SERVING, after, PAGE)


def _keep_page(journal: Journal, rows: Sequence[Upload], tx: Tx) -> None:
    for row in rows:
        if row.path is not None and (recipe := kept_recipe(tx, journal.terms, row)) != row.recipe:
            tx.uploads.recast(row.id, recipe=recipe)


def kept_recipe(tx: Tx, terms: Terms, row: Upload) -> str:
    """The recipe that a serving document counts as made by after an upgrade."""
    if row.wanted_recipe or not row.recipe or row.path is None:
        return row.recipe
    return terms.recipe(row.path)


async def _look_for_files(store: Store, journal: Journal) -> None:
    """Documents of a base that was used before: files may have gone that nothing is known of any more.

    A scan finds each, or misses it like any other.
    """
    terms, after = journal.terms, 0
    while rows := await store.read(partial(_wanted, terms, after)):
        after = rows[-1].id
        if lost := await store.read(partial(_without_file, terms, rows)):
            await store.write(partial(_expect, journal, lost))


def _wanted(terms: Terms, after: int, tx: Tx) -> list[Upload]:
    return tx.uploads.in_states(terms.mirror, terms.binding, [*ON_THE_WAY, *SERVING], after, PAGE)


def _without_file(terms: Terms, rows: Sequence[Upload], tx: Tx) -> list[str]:
    paths = {row.path for row in rows if row.path is not None}
    return sorted(path for path in paths if tx.entries.get(terms.mirror, path) is None)


def _expect(journal: Journal, paths: Sequence[str], tx: Tx) -> None:
    for path in paths:
        journal.expect(tx, path)


async def _settle_everything(store: Store, journal: Journal) -> None:
    """Let the planner judge every file again, a page a transaction."""
    mirror = journal.terms.mirror
    for folder in await store.read(lambda tx: [path for _, path in tx.folders.tree(mirror, "")]):
        paths = await store.read(partial(_names, mirror, folder))
        for start in range(0, len(paths), PAGE):
            await store.write(partial(_settle_page, journal, paths[start : start + PAGE]))


def _names(mirror: int, folder: str, tx: Tx) -> list[str]:
    return tx.entries.names(mirror, folder)


def _settle_page(journal: Journal, paths: Sequence[str], tx: Tx) -> None:
    for path in paths:
        journal.settle(tx, path)
