"""`kbsync verify` compares the folder, the state and the target's own list, without changing anything.

The audit in engine/audit.py reads the target's documents, and a private pass (engine/plan.py) finds files
newer than their documents. Because the folder and the target change in the meantime, everything that seems
wrong is checked a second time, in the state and at the target, before it is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import field
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from kbsync.contract.target import Target
from kbsync.core.model import SERVING, UNANSWERED, Presence, Status, Upload, UploadState, serving
from kbsync.dataclass import dataclass
from kbsync.engine.audit import Audit, Discrepancy
from kbsync.engine.clock import Clock
from kbsync.engine.plan import NO_CONTEXT, RECIPE, CommandContext, Planned, PrivatePass, halt_for
from kbsync.engine.settings import MirrorSettings
from kbsync.engine.status import CAUSES, UNSEEN, halt_json
from kbsync.errors import Halted
from kbsync.permissions import exists
from kbsync.source.stat import stat_exactly, stat_path
from kbsync.state.files import FileRow, split
from kbsync.state.mirrors import Halt
from kbsync.state.read_only import ReadOnlyState, Tx

T = TypeVar("T")

KINDS = ("missing", "stale", "orphaned", "duplicate")

GRACE = 5.0
"""Number of seconds beyond `settle` that a running kbsync may need to handle a change."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The problems found, each list ordered by path. `foreign`: how many documents in the target are not
    ours.

    `missing`: recorded documents that the target no longer has. `stale`: the folder is newer than the
    document and nothing is pending. `orphaned`: ours, but the file is gone. `duplicate`: a second document
    for one file. `unchecked`: directories that could not be compared. With a `halt`, the whole folder could
    not be compared, so only problems that don't need it are reported. `kept`: documents that stay although
    their file is gone, as the config says (`deletions: never`); None without that setting. `detached`: how
    many documents remain from mirrors that the config no longer has, by mirror; this mirror's own name stands
    for its documents under a former prefix. `base`: the id of the knowledge base that all document ids belong
    to.
    """

    name: str
    base: str = ""
    missing: tuple[Discrepancy, ...] = ()
    stale: tuple[Discrepancy, ...] = ()
    orphaned: tuple[Discrepancy, ...] = ()
    duplicate: tuple[Discrepancy, ...] = ()
    unchecked: tuple[Discrepancy, ...] = ()
    foreign: int = 0
    kept: tuple[Discrepancy, ...] | None = None
    halt: Halt | None = None
    detached: Mapping[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return self.halt is None and not self.unchecked and not any(getattr(self, kind) for kind in KINDS)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that the contract defines.

        It has `halt` and `kept` only if they aren't None, and `unchecked` and `detached` only if they aren't
        empty.
        """
        fields: dict[str, Any] = {
            "name": self.name,
            "ok": self.ok,
            **{kind: [item.path for item in getattr(self, kind)] for kind in KINDS},
            "foreign": self.foreign,
        }
        if self.unchecked:
            fields["unchecked"] = [item.path for item in self.unchecked]
        if self.kept is not None:
            fields["kept"] = [item.path for item in self.kept]
        if self.detached:
            fields["detached"] = dict(self.detached)
        return fields if self.halt is None else {**fields, "halt": halt_json(self.halt)}


def repair_request(verification: Verification) -> dict[str, Any]:
    """Return the arguments of the inbox message `repair`, or an empty result if nothing can be repaired.

    `base`: the audited knowledge base. `missing`: ids of documents to send again. `strays`: documents that
    are proven to be ours and not needed. `stale`: paths to check again. They include the paths of serving
    documents whose file no longer exists, so that their deletion is decided together with the others.
    """
    strays = (*verification.orphaned, *verification.duplicate)
    request: dict[str, Any] = {
        "missing": [item.remote_id for item in verification.missing if item.remote_id is not None],
        # Documents that aren't proven to be ours are left alone (promise 6).
        "strays": [item.claim.to_json() for item in strays if item.claim is not None and item.is_ours],
        "stale": [item.path for item in (*verification.stale, *verification.orphaned) if item.claim is None],
    }
    return {"base": verification.base, **request} if any(request.values()) else {}


async def verify_mirror(
    settings: MirrorSettings,
    target: Target,
    state: ReadOnlyState,
    clock: Clock,
    context: CommandContext = NO_CONTEXT,
) -> Verification:
    """Audit a mirror. While another kbsync process is running, changes that are only seconds old are ignored.

    Raises `TargetError` if the target doesn't respond, or `StateError` if the state can't be read.
    """
    with closing(PrivatePass(settings, target, state, clock, context)) as private:

        async def read(read_tx: Callable[[Tx], T], /) -> T:
            return state.read(read_tx)

        await private.attach(may_be_emptied=True)
        audit = Audit(private.binding, target, read)
        await audit.read_list()
        missing_rows = [
            row
            async for batch in audit.find_unlisted()
            for row in await audit.confirm_missing(batch)
            if not state.read(partial(_may_be_replaced, row))
        ]
        missing = []
        for row in missing_rows:
            why = f"document {row.remote_id} is recorded, but the knowledge base does not have it"
            missing.append(Discrepancy(row.path, row.remote_id, why))
        if not private.binding.base:
            missing += await asyncio.to_thread(state.read, partial(_in_deleted_base, settings.name))
        halt = None
        stale, served, kept_orphans, unchecked = (list[Discrepancy]() for _ in range(4))
        try:
            await private.compare()
        except Halted as error:
            halt = halt_for(error, settings, context)
        else:
            stale, served, kept_orphans, unchecked = await asyncio.to_thread(
                lambda: _FolderCheck(private, state, clock.wall(), is_watched=context.at_work).run()
            )
        # A lagging list still has documents deleted a moment ago.
        rows = [stray.row for stray in audit.strays]
        deletion_times = [row.checked_at or 0.0 for row in rows if row and row.state is UploadState.TOMBSTONE]
        lag = private.binding.limits.list_lag
        remaining = max(deletion_times, default=0.0) + lag - clock.wall()
        if remaining > 0.0:
            await clock.sleep(min(remaining, lag))  # limits the wait after the clock was set back
        strays = await audit.recheck_strays(audit.strays)
        orphaned, duplicate = await audit.compare(strays, with_folder=halt is None)
        if private.binding.abilities.keeps:  # documents that a lost state left behind are kept like the rest
            missing_ids = {row.remote_id for row in missing_rows}
            kept_orphans += [item for item in orphaned if not item.is_deleted]
            kept_orphans = [item for item in kept_orphans if item.remote_id not in missing_ids]
            orphaned = [item for item in orphaned if item.is_deleted]
        return Verification(
            settings.name,
            private.binding.base,
            missing=_by_path(missing),
            stale=_by_path(stale),
            orphaned=_by_path([*served, *orphaned]),
            duplicate=_by_path(duplicate),
            unchecked=_by_path(unchecked),
            foreign=audit.foreign,
            kept=_by_path(kept_orphans) if private.binding.abilities.keeps else None,
            halt=halt,
            detached=state.read(partial(_detached, audit.others, settings.name, context)),
        )


def _may_be_replaced(row: Upload, tx: Tx) -> bool:
    """Return whether an upload has replaced this document, or may have and hasn't been answered yet."""
    if tx.uploads.get(row.id, *SERVING) is None:
        return True
    uploads = tx.uploads.at_path(row.mirror, row.binding, row.path)
    return any(upload.predecessor == row.id and upload.state in UNANSWERED for upload in uploads)


def _in_deleted_base(name: str, tx: Tx) -> list[Discrepancy]:
    """Return the recorded documents of a mirror whose built-in knowledge base has been deleted. This reads
    the disk, so it may block.
    """
    record = tx.mirrors.named(name)
    last = None if record is None else tx.mirrors.binding(record.binding or 0)
    if record is None or last is None or last.folder is None or exists(last.folder):
        return []
    why = f"is recorded, but its knowledge base {last.location} does not exist"
    rows = tx.uploads.in_states(record.id, last.id, SERVING, limit=-1)
    return [Discrepancy(row.path, row.remote_id, f"document {row.remote_id} {why}") for row in rows]


def _detached(counts: Mapping[int, int], own_name: str, context: CommandContext, tx: Tx) -> dict[str, int]:
    # The other mirrors of the config report their own documents.
    others = {identity.name for identity in context.configured} - {own_name}
    named_counts = ((tx.mirrors.get(mirror).name, count) for mirror, count in counts.items())
    return {name: count for name, count in named_counts if name not in others}


def _by_path(findings: Iterable[Discrepancy]) -> tuple[Discrepancy, ...]:
    return tuple(sorted(findings, key=attrgetter("path")))


# -- the folder ----------------------------------------------------------------------------------------


class _FolderCheck:
    """Finds the problems that the folder's files show. This reads the disk, so it may block.

    Each problem is checked a second time, because a document may have been handled after the pass on a
    private copy of the state began.
    """

    def __init__(self, private: PrivatePass, state: ReadOnlyState, now: float, *, is_watched: bool) -> None:
        """Set up the check.

        `is_watched`: whether kbsync is running, in which case changes that are only seconds old are ignored.
        """
        self._private, self._state, self._is_watched = private, state, is_watched
        self._binding, self._root = private.binding, private.binding.settings.root
        self._plan = private.list_changes()
        self._young = now - self._binding.settings.settle - GRACE

    def run(self) -> tuple[list[Discrepancy], ...]:
        """Return the combined findings of the methods below, in their order."""
        return self.find_stale(), self.find_orphaned(), self.find_kept(), self.find_unchecked()

    def find_stale(self) -> list[Discrepancy]:
        """Return the documents that are older than their files, and the files without a document."""
        plan, pending = self._plan, "and nothing is pending for it"
        unhandled = [
            *((line.path, f"the file is new, has no document yet, {pending}") for line in plan.upload),
            *((line.path, f"the file is newer than its document, {pending}") for line in plan.replace),
            *(
                (line.path, f"the file was renamed from {line.source} after its document was created")
                for line in plan.rename
            ),
        ]
        return [
            *(
                self._discrepancy(line.path, f"the document has the path {line.source} in the knowledge base")
                for line in plan.rename
                if self._state.read(partial(self._is_misnamed, line.path)) and self._is_there(line.path)
            ),
            *(
                self._discrepancy(path, why)
                for path, why in unhandled
                if self._state.read(partial(self._is_unhandled, path)) and self._is_there(path)
            ),
            *self._find_refused(),
        ]

    def _is_misnamed(self, path: str, tx: Tx) -> bool:
        """Return whether our state has the file's document under the file's own path."""
        rows = tx.uploads.at_path(self._binding.mirror, self._binding.id, path)
        return any(row.state.serves and row.label == path for row in rows)

    def _is_unhandled(self, path: str, tx: Tx) -> bool:
        """Return whether the state has neither these bytes nor pending work for the file."""
        row, planned_row = tx.entries.get(self._binding.mirror, path), self._private.entry(path)
        if row is not None and row.status in (Status.PENDING, Status.INDEXING):
            return False
        # If the bytes are equal, the base or the recipe has changed, not the file.
        return row is None or planned_row is None or row.digest is None or row.digest != planned_row.digest

    def _find_refused(self) -> Iterator[Discrepancy]:
        """Yield the documents whose new version or new name the target refused."""
        for failure in self._plan.failed:
            if (refused := failure.refused) is not None and self._is_there(failure.path):
                what = "the file is newer than its document"
                if refused.label != failure.path:
                    what = f"the file was renamed from {refused.label}"
                why = f"{what}; the target refused the change: {failure.note}"
                yield Discrepancy(failure.path, refused.remote_id, why)

    def find_orphaned(self) -> list[Discrepancy]:
        """Return the documents that a pass would delete because their files are missing, except those whose
        deletion has begun.
        """
        mirror, orphaned = self._binding.mirror, list[Discrepancy]()

        def find_orphan(path: str, tx: Tx) -> tuple[Upload, FileRow] | None:
            """Return a missing file's document and that document's row, unless the deletion has already
            begun.
            """
            server = serving(tx.uploads.at_path(mirror, self._binding.id, path))
            row = tx.entries.get(mirror, path)
            if server is None or row is None or tx.removals.get(mirror, path) is not None:
                return None
            return None if row.status in (Status.PENDING, Status.INDEXING) else (server, row)

        for line in [*self._plan.delete, *self._plan.held]:
            orphan = None if line.cause == RECIPE else self._state.read(partial(find_orphan, line.path))
            if orphan is not None and self._is_overdue(line, orphan[1]):
                why = f"{CAUSES[line.cause]}; the document is still searchable"
                orphaned.append(Discrepancy(line.path, orphan[0].remote_id, why))
        return orphaned

    def find_kept(self) -> list[Discrepancy]:
        """Return the documents that a pass would keep although their files are missing."""
        kept = list[Discrepancy]()
        for line in self._plan.keep or ():
            if (server := self._private.server(line.path)) is not None:
                why = f"{CAUSES.get(line.cause, UNSEEN)}; its document is kept"
                kept.append(Discrepancy(line.path, server.remote_id, why))
        return kept

    def find_unchecked(self) -> list[Discrepancy]:
        """Return the directories that couldn't be compared."""
        folders = [failure for failure in self._plan.failed if failure.path.endswith("/")]
        return [Discrepancy(folder.path, None, folder.note) for folder in folders]

    def _discrepancy(self, path: str, why: str) -> Discrepancy:
        server = self._private.server(path)
        return Discrepancy(path, None if server is None else server.remote_id, why)

    def _is_there(self, path: str) -> bool:
        stamp = stat_path(self._root, path, self._private.root).stamp
        return stamp is not None and not (self._is_watched and stamp.newest > self._young)

    def _is_overdue(self, line: Planned, row: FileRow) -> bool:
        """Return whether the file's document should have been deleted by now, allowing for some delay."""
        if line.cause != "gone":
            return True
        [(_, stat)] = stat_exactly(self._root, [line.path], self._private.root)
        if not stat.lacks_file:
            return False
        if self._is_watched:  # only the directory's time shows when a file was deleted
            parent = stat_path(self._root, split(line.path)[0], self._private.root)
            is_young = parent.stamp is None or parent.stamp.newest > self._young
            return not is_young and row.presence is not Presence.MISSING
        return True
