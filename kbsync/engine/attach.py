"""Starts the work on one mirror: finds its rows, binds it to its knowledge base, and handles what changed
since the last run.

If the state was lost but the documents exist, kbsync adopts them instead of resending them. If settings
changed, it re-evaluates every file. `RecipeChanges` decides whether to reindex unchanged documents under a
different recipe. If indexing costs money, the old versions stay searchable until the new recipe is allowed
(ADR 23): automatically if it affects at most a fifth of all documents, otherwise by `approve`.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Collection, Container, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kbsync.contract.target import Base, DocState, Target
from kbsync.core import lifecycle
from kbsync.core.model import (
    ON_THE_WAY,
    SCANNED,
    SERVING,
    Abilities,
    Phase,
    Presence,
    RootIdentity,
    Status,
    Upload,
    UploadState,
    serving,
)
from kbsync.core.planner import UNKNOWN_SIZE
from kbsync.core.selection import Rules
from kbsync.core.text import format_count
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import APPROVAL_KEPT, has_open_deletions
from kbsync.engine.journal import Journal
from kbsync.engine.listing import Claim, Whose, find_missing, find_present, read_list, unlisted, uploads_in
from kbsync.engine.reconcile import recheck_mounts
from kbsync.engine.settings import Binding, MirrorIdentity, MirrorSettings, abilities_of, base_key, changes_of
from kbsync.engine.status import FOLDER_MISSING
from kbsync.errors import Halted
from kbsync.source.roots import RootError, compare, identify
from kbsync.source.stat import stat_exactly
from kbsync.state.approvals import RENEWALS, Extent
from kbsync.state.history import HistoryEvent
from kbsync.state.mirrors import BindingFact, MirrorFact, MirrorRecord
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

PAGE = 256

SHARE_WITHOUT_APPROVAL = 0.2
"""If new settings affect more than this share of the documents, kbsync asks before it spends money (ADR
23)."""


class RecipeChanges:
    """Decides which recipes a mirror's documents may be reindexed with."""

    def __init__(self, store: StateStore, journal: Journal, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._put_off_since: float | None = None
        self._to_release: set[str] | None = None
        """Approved recipes whose documents still have to be sent; None if they have not been read from the
        state yet."""

    @property
    def _mirror(self) -> int:
        return self._journal.binding.mirror

    async def is_due(self) -> bool:
        """Return whether a recipe needs a decision, or documents must be sent because their recipe has been
        allowed.
        """
        if not self._journal.binding.abilities.asks_before_reindexing:
            return False
        return self._to_release != set() or await self._store.read(self._is_open)

    def _is_open(self, tx: Tx) -> bool:
        undecided, requested_counts = self._undecided(tx), tx.recipes.pending_approval(self._mirror)
        holds = tx.holds.current(self._mirror, RENEWALS)
        is_void = bool(holds) and (not undecided or holds[0].approved_at is not None)
        return is_void or any(n > requested_counts.get(recipe, 0) for recipe, n in undecided.items())

    def _undecided(self, tx: Tx) -> dict[str, int]:
        """Return the recipes that haven't been allowed, each with the number of documents that need it."""
        allowed = tx.recipes.allowed(self._mirror)
        return {r: n for r, n in tx.recipes.wanted(self._mirror).items() if r not in allowed}

    async def next_due(self) -> float | None:
        """Return the monotonic time when `decide` next has work to do, or None if nothing is pending.

        Deletions are decided first, because deleted documents don't have to be reindexed. The wait for them
        is limited to `settle_longest`, because deletions never stop in some folders.
        """
        now = self._clock.steady()
        if not await self.is_due():
            self._put_off_since = None
            return None
        if not await self._store.read(lambda tx: has_open_deletions(tx, self._mirror)):
            return now
        if self._put_off_since is None:
            self._put_off_since = now
        return max(now, self._put_off_since + self._journal.binding.settings.settle_longest)

    async def decide(self) -> Extent | None:
        """Allow or hold all waiting documents, and send the newly allowed ones.

        Return the number of newly held documents.
        """
        due = await self.next_due()
        if due is None or due > self._clock.steady():
            return None
        self._put_off_since = None
        held_extent = await self._store.write(self._decide)

        def release(recipe: str, after: int, tx: Tx) -> int | None:
            rows = tx.recipes.page(self._mirror, recipe, after, PAGE)
            for _, path in rows:
                self._journal.decide(tx, path)
            return rows[-1][0] if rows else None

        # Have the planner re-evaluate every document of an allowed recipe, one batch per transaction.
        for recipe in sorted(self._to_release or ()):
            after: int | None = 0
            while after is not None:
                after = await self._store.write(partial(release, recipe, after))
        self._to_release = set()
        return held_extent

    def _decide(self, tx: Tx) -> Extent | None:
        """Allow the undecided documents, or hold all of them together. Return the number of newly held
        documents.
        """
        mirror, now, binding = self._mirror, self._clock.wall(), self._journal.binding
        # An approval that hasn't been used for a week has expired.
        tx.holds.unapprove_before(mirror, now - APPROVAL_KEPT)
        if self._to_release is None:
            self._to_release = set(tx.recipes.allowed(mirror))
        undecided, requested_counts = self._undecided(tx), tx.recipes.pending_approval(mirror)
        holds = tx.holds.current(mirror, RENEWALS)
        # Ask again if more documents are affected than the user was shown (promise 5).
        is_as_requested = bool(holds) and all(
            n <= requested_counts.get(recipe, 0) for recipe, n in undecided.items()
        )
        if undecided and is_as_requested and holds[0].approved_at is None:
            return None
        if holds:
            tx.recipes.withdraw_requests(mirror)
        if not undecided:
            return None
        serving = tx.uploads.serving_count(mirror, binding.id)
        if is_as_requested or sum(undecided.values()) <= SHARE_WITHOUT_APPROVAL * serving:
            tx.recipes.allow(mirror, undecided)
            self._journal.recall_recipes(tx)
            self._to_release |= undecided.keys()
            return None
        hold = tx.holds.open(mirror, now)
        tx.recipes.request_approval(mirror, hold, undecided)
        [new_hold] = tx.holds.current(mirror, RENEWALS)
        extent = tx.recipes.extent(new_hold)
        changes = changes_of(binding.describe, extent.recipes)
        tx.holds.describe(hold, changes)
        reason = f"{extent.documents:,} documents would be reindexed: {changes}"
        tx.history.add(mirror, now, HistoryEvent.HELD, reason=reason)
        return extent


async def adopt(
    store: StateStore, journal: Journal, target: Target, configured: Sequence[MirrorIdentity] = ()
) -> None:
    """List the documents of a base that is new to this state, or that another state wrote to.

    Each document that may be ours gets an ADOPTING row at its path, unless a row already has it. If its mark,
    its base or a former row proves that it is ours, it serves regardless of its bytes: the planner replaces
    it if it is outdated, and deletes it if it has no file. Otherwise the file's digest, once known, must
    match the tag in the name or the document's bytes (ADR 12). Unproven documents stay untouched; `verify`
    reports them. If the state is older than the base, a document may have been renamed or updated since.
    `configured`: all mirrors in the config; if there are none, no document of another mirror is adopted.
    """
    binding, listed_ids = journal.binding, set[str]()
    names = {identity.name for identity in configured}

    def record(claims: Sequence[Claim], renamed: Collection[str], tx: Tx) -> None:
        for claim in claims:
            row, new_path, label = claim.row, claim.moved_to, None
            if row is not None and claim.whose is Whose.OTHERS:
                if not _is_renamed_for(binding, claim, names, tx):
                    continue
                _record_gone(row, journal, tx)
                claim = replace(claim, whose=Whose.OURS_UNNEEDED)
                # The folder is a different one, too (promise 5).
                tx.mirrors.set_hold_all(binding.mirror, True)
            elif row is not None and claim.reported is not None and claim.is_overtaken:
                _record_gone(row, journal, tx)
                claim = replace(claim, listed=claim.reported)
            elif row is not None and new_path is not None:
                label = row.label and new_path  # '': all documents are to be renamed
                if row.path not in renamed:
                    tx.uploads.save(replace(row, label=label, name=claim.listed.name))
                    continue
                _record_gone(row, journal, tx)
                listed = replace(claim.listed, path=new_path, recipe=row.recipe)
                claim = replace(claim, whose=Whose.OURS_UNNEEDED, listed=listed)
            adopted = adopting(binding, claim, journal.timing.now)
            tx.uploads.add(adopted if label is None else replace(adopted, label=label))
            # This state may be older than the file.
            tx.entries.doubt(binding.mirror, claim.path)

    # After a crash in the middle, the list is read again. Documents that already have a row aren't new then.
    async for claims in read_list(binding, target, store.read):
        listed_ids.update(claim.remote_id for claim in claims)
        changed = [
            claim
            for claim in claims
            if claim.is_new or claim.is_overtaken or claim.moved_to or (names and claim.whose is Whose.OTHERS)
        ]
        if changed:
            renamed = await _find_renamed(store, binding, changed)
            await store.write(partial(record, changed, renamed))
    await _end_missing(store, journal, target, listed_ids)

    def end(tx: Tx) -> None:
        tx.mirrors.set_adopted(binding.id)
        # Record the revision only now: if kbsync is killed before this, it must notice again that an older
        # copy replaced the base.
        _note_revision(tx, binding.id, target)
        mark_undecided(tx, binding.mirror)

    await store.write(end)


def _is_renamed_for(binding: Binding, claim: Claim, names: Container[str], tx: Tx) -> bool:
    """Return whether another mirror of this state, which isn't in the config (`names`), had this document
    before it was renamed to a path of this mirror.

    Then that mirror has become this one: since this state was backed up, its name, folder and prefix have
    changed, one after the other.
    """
    row, listed = claim.row, claim.listed
    if row is None or listed.path is None or listed.upload_id is None:
        return False
    former = tx.mirrors.binding(row.binding)
    former_path = "" if former is None else f"{former.prefix}{row.label or row.path}"
    is_renamed = former_path != f"{binding.settings.prefix}{listed.path}"
    return is_renamed and tx.mirrors.get(row.mirror).name not in names


async def _end_missing(store: StateStore, journal: Journal, target: Target, listed: Collection[str]) -> None:
    """End uploads that this state counts as searchable although another state deleted or replaced their
    documents.

    If too many documents are missing without a replacement, the audit reports that (ADR 14).
    """
    binding = journal.binding
    to_end, unreplaced = list[Upload](), list[Upload]()

    def servers_beside(adopted: Sequence[Upload], tx: Tx) -> list[Upload]:
        servers = (serving(journal.uploads(tx, path)) for path in {row.path for row in adopted})
        return [server for server in servers if server is not None and server.remote_id in listed]

    # A list that lags may still have a document that another state replaced.
    async for rows in uploads_in(binding, store.read, {UploadState.ADOPTING}):
        to_end += await find_missing(target, store.read, await store.read(partial(servers_beside, rows)))
    # Nothing is being sent, so rows from the future only mean that the clock was set back.
    async for rows in unlisted(binding, store.read, listed, math.inf):
        for row in await find_missing(target, store.read, rows):
            rows_at_path = await store.read(lambda tx, row=row: journal.uploads(tx, row.path))  # type: ignore[misc]
            is_replaced = any(row_at_path.state is UploadState.ADOPTING for row_at_path in rows_at_path)
            (to_end if is_replaced else unreplaced).append(row)
    serving_count = await store.read(lambda tx: tx.uploads.serving_count(binding.mirror, binding.id))
    if binding.limits.embedded or not is_emptied(serving_count, serving_count - len(unreplaced)):
        to_end += unreplaced
    # If an older copy replaced the base, the ids that the copy lacks will be given to other documents.
    states = {UploadState.RETIRING, *([UploadState.INDEXING] if binding.limits.embedded else ())}
    async for rows in uploads_in(binding, store.read, states):
        ids = {row.remote_id for row in rows if row.remote_id is not None and row.remote_id not in listed}
        if not binding.limits.embedded:  # a document deleted since a backup must not serve its file again
            ids -= await find_present(target, sorted(ids))
        to_end += [row for row in rows if row.remote_id in ids]

    def end_batch(batch: Sequence[Upload], tx: Tx) -> None:
        for row in batch:
            _record_gone(row, journal, tx)

    for start in range(0, len(to_end), PAGE):
        await store.write(partial(end_batch, to_end[start : start + PAGE]))


def _record_gone(row: Upload, journal: Journal, tx: Tx) -> None:
    """Record that the upload no longer has a document."""
    tx.uploads.save(lifecycle.mark_gone(row, journal.timing))
    tx.removals.release(row.id)


async def _find_renamed(store: StateStore, binding: Binding, claims: Sequence[Claim]) -> set[str]:
    """Return the former paths of the documents that another state renamed for a file that may exist.

    While one of the two files can't be read, nothing else shows that it still needs the document (promise
    1). A document stays with its present file if that is unchanged, or if no file has the new name.
    """
    new_paths = {claim.row.path: claim.moved_to for claim in claims if claim.row and claim.moved_to}
    if not new_paths:
        return set()
    paths = {*new_paths, *new_paths.values()}
    checked = await asyncio.to_thread(stat_exactly, binding.settings.root, paths)
    stats = dict(await recheck_mounts(store, binding, checked))

    def stays(path: str, tx: Tx) -> bool:
        if stats[path].presence is Presence.UNKNOWN:
            return stats[new_paths[path]].presence is not Presence.UNKNOWN
        entry = tx.entries.get(binding.mirror, path)
        return stats[new_paths[path]].lacks_file or (entry is not None and entry.stamp == stats[path].stamp)

    return await store.read(lambda tx: {path for path in new_paths if not stays(path, tx)})


def adopting(binding: Binding, claim: Claim, now: float) -> Upload:
    """Return a new ADOPTING row for a document in the base that may be ours."""
    listed, path = claim.listed, claim.path
    is_signed = binding.limits.marks and listed.upload_id is not None
    is_marked = is_signed or binding.limits.embedded or claim.whose is Whose.OURS_UNNEEDED
    is_ready = listed.state is DocState.READY
    if is_marked:
        phase = Phase.MARKED_READY if is_ready else Phase.MARKED
    else:
        phase = Phase.LISTED_READY if is_ready else Phase.PLAIN
    return Upload(
        id=0,
        mirror=binding.mirror,
        binding=binding.id,
        path=path,
        label=path,
        name=listed.name,
        digest=listed.digest or "",
        size=UNKNOWN_SIZE if listed.size is None else listed.size,
        recipe=binding.recipe(path) if listed.recipe is None else listed.recipe,
        state=UploadState.ADOPTING,
        remote_id=listed.remote_id,
        created_at=now,
        phase=phase,
    )


EMPTIED = "knowledge-base-emptied"
EMPTIED_LEAST, EMPTIED_SHARE = 5, 0.2


def enroll(tx: Tx, settings: MirrorSettings, configured: Sequence[MirrorIdentity]) -> MirrorRecord:
    """Return the mirror's row, adding or renaming it to match the config. See `find_record`."""
    folder = str(settings.root)
    record = find_record(tx, settings, configured)
    if record is None:
        record = tx.mirrors.add(settings.name, folder, settings.target_type)
    elif record.folder != folder:
        # The folder may have changed because of a typo, so every deletion needs approval (promise 5).
        tx.mirrors.set_hold_all(record.id, True)
    if record.name != settings.name:
        tx.inbox.rename_mirror(record.name, settings.name)
    tx.meta.set(MirrorFact.BASE_NAME, record.id, "")
    tx.mirrors.attach(record.id, settings.name, folder, settings.target_type)
    return tx.mirrors.get(record.id)


def find_record(
    tx: Tx, settings: MirrorSettings, configured: Sequence[MirrorIdentity]
) -> MirrorRecord | None:
    """Return the mirror's row, found by its name; otherwise the row of a renamed mirror, whose old name is no
    longer in the config.

    A renamed mirror is recognized by the same folder, knowledge base and prefix; otherwise by the same
    knowledge base and prefix; otherwise by the same folder; of several, one with the same knowledge base
    wins. A row that is a better match for another new mirror in the config is never used. The result does not
    change when another mirror gets its own row.
    """
    if (record := tx.mirrors.named(settings.name)) is not None:
        return record
    identities = {identity.name: identity for identity in configured} | {settings.name: settings.identity}
    rows = {record.name: record for record in tx.mirrors.all()}
    unconfigured = [record for record in rows.values() if record.name not in identities]
    without_record = [identity for identity in identities.values() if identity.name not in rows]
    for rank in range(RANKS):
        for identity in list(without_record):
            matches = (record for record in unconfigured if _match_rank(record, identity) == rank)
            record = next(matches, None)
            if record is not None:
                if identity.name == settings.name:
                    return record
                without_record.remove(identity)
                unconfigured.remove(record)
    return None


def _match_rank(record: MirrorRecord, mirror: MirrorIdentity) -> int:
    """Return how well the row matches the mirror in the config: 0 is best, and `RANKS` means no match."""
    is_same_folder = record.folder == mirror.folder
    if mirror.location and record.location == mirror.location:
        return 0 if is_same_folder else 1
    key = base_key(mirror.location)
    if is_same_folder:  # the prefix, which only affects names, may differ
        return 2 if key and base_key(record.location) == key else 3
    return RANKS


RANKS = 4


def is_root_accepted(tx: Tx, name: str) -> bool:
    """Return whether a user has approved the current folder."""
    return any(m.verb == "approve" and m.args.get("root") for m in tx.inbox.waiting(name))


def difference_from(stored: RootIdentity | None, now: RootIdentity) -> tuple[str, bool]:
    """Return how the root differs from the last known one ('' if it doesn't), and whether a mount is
    missing.
    """
    if stored is None:
        return "", False
    difference = compare(stored, now)
    return difference, bool(difference) and stored.is_mount and not now.is_mount


async def find_root(store: StateStore, settings: MirrorSettings, mirror: int) -> RootIdentity:
    """Return the root's identity. Raises `Halted` if a user must check the root, or `ShortageError`.

    A missing mount halts the mirror. After any other difference from the last known root, the deletions of
    the first pass need approval.
    """
    now = await same_root(settings)

    def check(tx: Tx) -> str:
        if not is_root_accepted(tx, settings.name):
            difference, is_lost = difference_from(tx.mirrors.get(mirror).root, now)
            if is_lost:
                return difference
            if difference:
                tx.mirrors.set_hold_all(mirror, True)
        tx.mirrors.set_root(mirror, now)
        return ""

    if problem := await store.write(check):
        raise root_differs(settings, problem)
    return now


async def same_root(settings: MirrorSettings, before: RootIdentity | None = None) -> RootIdentity:
    """Return the root's current identity. Raises `Halted` if there is none or it differs from `before`."""
    try:
        now = await asyncio.to_thread(identify, settings.root)
    except RootError as error:
        raise root_missing(error) from error
    difference = "" if before is None else compare(before, now, within_run=True)
    if difference:
        raise root_differs(settings, difference)
    return now


def root_missing(error: RootError) -> Halted:
    """Return the halt for a missing root. Approval can't lift this halt."""
    return Halted(FOLDER_MISSING, f"{error}; until then, kbsync deletes nothing")


def root_differs(settings: MirrorSettings, difference: str) -> Halted:
    """Return the halt for a root that differs from the last known one."""
    kept = "kbsync deletes nothing until the old folder is back or you approve this one"
    detail = f"{settings.root}: {difference}; {kept}"
    return Halted(FOLDER_MISSING, detail, fix=f"kbsync approve {settings.name}")


async def bind(
    store: StateStore,
    settings: MirrorSettings,
    record: MirrorRecord,
    target: Target,
    base: Base,
    spool_dir: Path,
    configured: Sequence[MirrorIdentity] = (),
) -> Binding:
    """Bind the mirror to the base. Raises `TargetError`."""
    if target.limits.embedded and base.id:  # the base is the same even after a move
        await store.write(lambda tx: tx.mirrors.base_moved(settings.target_type, base.id, base.address))
    base = await _count_documents(store, settings, record, target, base)

    def read_files(tx: Tx) -> set[Path]:
        """Return the files of the knowledge bases that still contain documents of the mirror."""
        bindings = map(tx.mirrors.binding, {*tx.uploads.left_behind(record.id, 0), record.binding or 0})
        return {binding.file for binding in bindings if binding is not None and binding.file is not None}

    files = await store.read(read_files)
    # Outside the transaction: the file may be on a disk that no longer responds.
    removed = await asyncio.to_thread(lambda: set(filter(_is_removed, files)))
    number = await store.write(lambda tx: _rebind(tx, settings, record, base, target, configured, removed))
    return Binding(
        settings=settings,
        mirror=record.id,
        id=number,
        base=base.id,
        texts_once=target.stores_texts_once,
        limits=target.limits,
        abilities=abilities_of(target, settings),
        recipe=lambda path: target.recipe(path, settings.document_settings(path)),
        rules=Rules(settings.include, settings.exclude, target.limits),
        spool_dir=spool_dir,
        describe=target.describe,
    )


async def _count_documents(
    store: StateStore, settings: MirrorSettings, record: MirrorRecord, target: Target, base: Base
) -> Base:
    """Return the base, with its own document count unless that suggests that many documents are missing.

    In that case, the count is the number of our documents in the base's list.
    """
    # The base's count may lag behind uploads, and includes other people's documents (ADR 14). So a base that
    # seems emptied keeps counting as emptied until its list shows that our documents exist.
    key = (settings.target_type, base.address, base.id, settings.prefix)
    binding = await store.read(lambda tx: tx.mirrors.binding_for(*key))
    if binding is None or target.limits.embedded:
        return base
    serving = await store.read(lambda tx: tx.uploads.serving_count(record.id, binding))
    is_doubted = record.halt is not None and record.halt.reason == EMPTIED
    reports_emptied = base.documents is not None and is_emptied(serving, base.documents)
    if not (reports_emptied or is_doubted):
        return base
    ids = [listed.remote_id async for listed in target.list()]
    return replace(base, documents=await store.read(lambda tx: tx.uploads.serving_among(binding, ids)))


def _rebind(
    tx: Tx,
    settings: MirrorSettings,
    record: MirrorRecord,
    base: Base,
    target: Target,
    configured: Sequence[MirrorIdentity],
    removed: Collection[Path],
) -> int:
    """Return the binding to the base. Raises `Halted` if someone else deleted many of its documents.

    `removed`: the files of knowledge bases that have been deleted.
    """
    _rename_all(tx, settings, record, base, abilities_of(target, settings))
    key = (settings.target_type, base.address, base.id, settings.prefix)
    binding = tx.mirrors.bind_to(record.id, *key, settings.location)
    tx.forgotten.take_over(settings.name, binding, whole=target.limits.embedded)
    if record.binding is not None and record.binding != binding:
        mark_undecided(tx, record.id)
        tx.recipes.forget_all(record.id)
        tx.removals.drop_all(record.id)
        if tx.uploads.withdraw_holds(record.id, binding):
            tx.mirrors.set_hold_all(record.id, True)
    _take_over_rows(tx, record, binding, base, configured)
    is_older = is_older_copy(base, recorded_revision(tx, binding))
    if is_older:
        tx.mirrors.set_adopted(binding, adopted=False)
    else:
        _note_revision(tx, binding, target)
    for other_binding in {*tx.uploads.left_behind(record.id, binding), record.binding} - {binding, None}:
        former = tx.mirrors.binding(other_binding or 0)
        if former is None:
            continue
        # A replaced base keeps its documents for reuse (ADR 27).
        is_here = (former.target, former.address) == (settings.target_type, base.address)
        is_replaced = target.limits.embedded and is_here and former.base != base.id
        if former.file in removed or is_replaced:
            tx.uploads.lose(record.id, former.id)
    serving = tx.uploads.serving_count(record.id, binding)
    is_repaired = any(m.verb == "repair" and not m.problem for m in tx.inbox.waiting(settings.name))
    is_explained = is_repaired or is_older  # an older copy never had these documents
    if base.documents is not None and is_emptied(serving, base.documents) and not is_explained:
        raise base_emptied(settings.name, serving, serving - base.documents)
    note_left_behind(tx, record.id, binding)
    return binding


def note_left_behind(tx: Tx, mirror: int, binding: int) -> None:
    """Make `status` show how many documents the mirror has in other knowledge bases or under other
    prefixes.
    """
    counts = tx.uploads.left_behind(mirror, binding)
    count = sum(counts.values())
    bindings = filter(None, map(tx.mirrors.binding, (binding, *counts)))
    is_same_base = len({(b.target, b.address, b.base) for b in bindings}) == 1
    place = "under its former prefix" if is_same_base else "in the previous knowledge base"
    remaining = f"{format_count(count, 'document')} {'is' if count == 1 else 'are'} still"
    tx.mirrors.set_note(mirror, f"{remaining} {place}" if count else "")


def _take_over_rows(
    tx: Tx, record: MirrorRecord, binding: int, base: Base, configured: Sequence[MirrorIdentity]
) -> None:
    """Take over the rows that a mirror with the same identity wrote for this base and this prefix."""
    configured_locations = {identity.name: identity.location for identity in configured}
    for other_mirror in tx.mirrors.all():
        # With two spellings of one address, two mirrors of a config can share a binding.
        is_its_own = other_mirror.binding == binding and configured_locations.get(other_mirror.name) in (
            other_mirror.location,
            "",
        )
        if other_mirror.id == record.id or is_its_own:
            continue
        is_held = tx.uploads.withdraw_holds(other_mirror.id, binding)
        if not tx.uploads.take_over(other_mirror.id, record.id, binding):
            continue
        tx.removals.drop_in(other_mirror.id, binding)
        note_left_behind(tx, other_mirror.id, other_mirror.binding or 0)
        mark_undecided(tx, record.id)
        if is_held or other_mirror.folder != record.folder:
            tx.mirrors.set_hold_all(record.id, True)
    if base.last_writer not in tx.meta.get(BindingFact.WRITER, binding).split("\n"):
        tx.mirrors.set_adopted(binding, adopted=False)
    if base.writer:
        # If nothing is written to the base this time, it still reports the earlier writer next time, so keep
        # both.
        tx.meta.set(BindingFact.WRITER, binding, "\n".join((base.last_writer, base.writer)))


def _note_revision(tx: Tx, binding: int, target: Target) -> None:
    """Record the base's revision."""
    if target.revision is not None:
        tx.meta.set(BindingFact.REVISION, binding, str(target.revision))


def recorded_revision(tx: Tx, binding: int) -> int:
    """Return the highest known revision of the base, or 0 if it doesn't count its changes.

    Read it before the base's own revision, because changes may be recorded meanwhile.
    """
    return int(tx.meta.get(BindingFact.REVISION, binding) or 0)


def is_older_copy(base: Base, recorded: int) -> bool:
    """Return whether the base has had fewer changes than this state has recorded."""
    # A base with more changes is still the same base: kbsync was killed before it recorded a change.
    return base.revision is not None and base.revision < recorded


def _is_removed(file: Path) -> bool:
    """Return whether the file of a knowledge base has been deleted. This reads the disk, so it may block."""
    try:
        file.stat()
    except FileNotFoundError:
        return file.parent.is_dir()  # if its folder is missing as well, the disk may be missing
    except OSError:
        return False  # a file that cannot be accessed exists
    return False


def _rename_all(
    tx: Tx, settings: MirrorSettings, record: MirrorRecord, base: Base, abilities: Abilities
) -> None:
    """Rename every document that the mirror has in this base to the new prefix (ADR 17)."""
    location = (settings.target_type, base.address, base.id)
    if tx.mirrors.binding_for(*location, settings.prefix) is not None:
        return
    others = {mirror.binding for mirror in tx.mirrors.all() if mirror.id != record.id}
    left_behind = set(tx.uploads.left_behind(record.id, record.binding or 0)) - others
    for binding in (record.binding, *sorted(left_behind)):
        former = tx.mirrors.binding(binding or 0)
        if former is not None and (former.target, former.address, former.base) == location:
            tx.mirrors.set_prefix(former.id, settings.prefix)
            mark_undecided(tx, record.id)
            if abilities.renames or abilities.rename_policy == "replace":
                tx.uploads.unlabel(record.id, former.id)
            return


def is_emptied(serving: int, documents: int) -> bool:
    """Return whether so many ready documents are missing that the knowledge base counts as having been
    emptied.
    """
    return serving - documents > max(EMPTIED_LEAST, EMPTIED_SHARE * serving)


def base_emptied(mirror: str, serving: int, lost: int) -> Halted:
    """Return the halt for a base from which someone else deleted many documents."""
    detail = f"{lost} of {serving} documents are no longer in the knowledge base"
    return Halted(EMPTIED, detail, fix=f"kbsync verify --repair --mirror {mirror}")


async def prepare(
    store: StateStore,
    journal: Journal,
    target: Target,
    clock: Clock,
    configured: Sequence[MirrorIdentity],
) -> None:
    """Recover from the last stop, adopt the documents in the base, and apply changes to the config.

    `configured`: all mirrors in the config.
    """
    binding = journal.binding

    def recover(tx: Tx) -> None:
        tx.entries.forget_first_misses(binding.mirror)
        tx.removals.forget_first_misses(binding.mirror)
        journal.recover(tx)
        # A user who starts kbsync expects an attempt, since the target may work again.
        tx.uploads.retry_now(binding.mirror, binding.id, clock.wall())

    await store.write(recover)
    await store.read(journal.recall)
    if not await store.read(lambda tx: tx.mirrors.is_adopted(binding.id)):
        await adopt(store, journal, target, configured)
    await _decide_everything(store, journal)
    await _renew_scans(store, journal, target)


async def _renew_scans(store: StateStore, journal: Journal, target: Target) -> None:
    """Resend documents with scanned pages that the target couldn't read in the last run but can read now."""
    binding = journal.binding
    remote_ids = set(await target.partly_read())
    was_able = bool(await store.read(lambda tx: tx.meta.get(MirrorFact.SCANS, binding.mirror)))
    is_new = target.reads_scans and not was_able

    def renew(rows: Sequence[Upload], tx: Tx) -> None:
        for row in rows:
            is_refused = is_new and row.state is UploadState.FAILED and row.code == SCANNED
            if is_refused or row.remote_id in remote_ids:
                tx.uploads.set_content(row.id, recipe="")
                journal.decide(tx, row.path)

    if remote_ids or is_new:
        async for rows in uploads_in(binding, store.read, [*SERVING, UploadState.FAILED]):
            await store.write(partial(renew, rows))
    if target.reads_scans != was_able:
        fact = "yes" if target.reads_scans else ""
        await store.write(lambda tx: tx.meta.set(MirrorFact.SCANS, binding.mirror, fact))


async def _decide_everything(store: StateStore, journal: Journal) -> None:
    """Make the planner re-evaluate every file if the binding has changed since the last time."""
    binding, mirror = journal.binding, journal.binding.mirror
    # Differs if unchanged files may have to be sent again, because the base or the recipe changed.
    recipes = [binding.recipe(f"x.{extension}") for extension in sorted(binding.limits.extensions)]
    fingerprint = binding.settings.fingerprint
    terms = _hashed(binding.id, recipes, binding.abilities, binding.settings.prefix, fingerprint)
    if await store.read(lambda tx: tx.meta.get(MirrorFact.DECISION_TERMS, mirror)) == terms:
        return
    # Differs if a user, not an upgrade, changed how documents are indexed. If only the recipes differ, an
    # upgrade changed them: then existing documents stay unchanged if indexing costs money.
    by_person = _hashed(binding.id, fingerprint)
    is_same = await store.read(lambda tx: tx.meta.get(MirrorFact.SETTINGS, mirror)) == by_person
    is_upgraded = binding.abilities.asks_before_reindexing and is_same

    def keep_recipes(rows: Sequence[Upload], tx: Tx) -> None:
        for row in rows:
            recipe = binding.recipe(row.path)
            # Documents affected by a settings change have a `wanted_recipe`.
            if row.recipe not in ("", recipe) and not row.wanted_recipe:
                tx.uploads.set_content(row.id, recipe=recipe)

    def begin(tx: Tx) -> None:
        mark_undecided(tx, mirror)
        if not binding.abilities.keeps and tx.mirrors.tally(mirror).get(Status.KEPT):
            # The user removed `deletions: never`: the documents it kept, maybe for years, are deleted only
            # after approval.
            tx.mirrors.set_hold_all(mirror, True)
        if not is_upgraded:
            tx.meta.set(MirrorFact.SETTINGS, mirror, "")
            tx.recipes.forget_allowed(mirror)

    def decide_batch(paths: Sequence[str], tx: Tx) -> None:
        for path in paths:
            journal.decide(tx, path)

    def end(tx: Tx) -> None:
        tx.meta.set(MirrorFact.DECISION_TERMS, mirror, terms)
        tx.meta.set(MirrorFact.SETTINGS, mirror, by_person)

    if is_upgraded:
        async for rows in uploads_in(binding, store.read, SERVING):
            await store.write(partial(keep_recipes, rows))
    await store.write(begin)
    await store.read(journal.recall_recipes)
    await _expect_files(store, journal)
    async for paths in store.pages_below(mirror, "", PAGE):
        await store.write(partial(decide_batch, paths))
    await store.write(end)


def _hashed(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def mark_undecided(tx: Tx, mirror: int) -> None:
    """Record that a pass with changed settings has begun.

    If it is interrupted and the old settings are restored, the next pass still re-evaluates every path.
    """
    tx.meta.set(MirrorFact.DECISION_TERMS, mirror, "")


async def _expect_files(store: StateStore, journal: Journal) -> None:
    """Create file rows for the documents in a former base, so that the next scan looks for their files.

    Some of these files may have been deleted, along with their rows. The scan finds each file or counts it as
    missing.
    """
    binding = journal.binding

    def without_file(rows: Sequence[Upload], tx: Tx) -> list[str]:
        paths = {row.path for row in rows}
        return sorted(path for path in paths if tx.entries.get(binding.mirror, path) is None)

    def expect(paths: Sequence[str], tx: Tx) -> None:
        for path in paths:
            journal.expect(tx, path)

    async for rows in uploads_in(binding, store.read, [*ON_THE_WAY, *SERVING, UploadState.ADOPTING]):
        rows = [row for row in rows if row.is_marked or row.state is not UploadState.ADOPTING]
        if lost := await store.read(partial(without_file, rows)):
            await store.write(partial(expect, lost))
