"""Shows what a pass of a mirror would do, by running one on a private copy of the state.

It is a real pass: it attaches the mirror, reads the inbox, scans the folder, has the journal decide, and
allows or holds deletions and changed recipes. No worker runs, so nothing is sent; the target is queried for
its base, and for its list if a pass would need it. `plan` shows the intended steps in the rows of the copy;
`verify` uses it to find files newer than their documents.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from kbsync.contract.target import Base, DocState, DocStatus, Target
from kbsync.core.model import (
    TO_BE_SENT,
    Desired,
    FileChoice,
    Presence,
    RootIdentity,
    Status,
    Upload,
    UploadState,
    serving,
)
from kbsync.core.planner import removal_cause
from kbsync.core.quiet import EMPTY_FACTOR, is_old_enough
from kbsync.core.text import format_size
from kbsync.dataclass import dataclass
from kbsync.engine import attach
from kbsync.engine.attach import RecipeChanges
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import Deletions
from kbsync.engine.inbox import Inbox
from kbsync.engine.journal import Journal
from kbsync.engine.listing import uploads_in
from kbsync.engine.reconcile import RACY_SECONDS, Reconciler
from kbsync.engine.settings import OTHER_SETTINGS, Binding, MirrorIdentity, MirrorSettings, changes_of
from kbsync.engine.status import as_halt, halt_json, which_version, with_approve_command, with_retry_command
from kbsync.errors import Halted, TargetError
from kbsync.state.files import FileRow, folder_label
from kbsync.state.mirrors import Halt, MirrorRecord
from kbsync.state.read_only import ReadOnlyState, Tx
from kbsync.state.store import StateCopy

RECIPE = "recipe"
"""The recorded cause for holding documents that must be reindexed because settings changed."""

BUSY = "the file is being written; kbsync will send it once it stops changing"
LOST = "the upload got no response; kbsync will look for the document before resending it"
AGAIN = "the target cannot rename"


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The context of a read-only command: the mirrors in the config, and how to write commands.

    `at_work`: another process holds the state and runs passes itself. `has_config`: the patterns are in a
    config, not in command-line options.
    """

    configured: Sequence[MirrorIdentity] = ()
    command_line: Callable[[str], str] = lambda command: f"kbsync {command}"
    at_work: bool = False
    has_config: bool = True


NO_CONTEXT = CommandContext()


@dataclass(frozen=True, slots=True)
class Planned:
    """One line of a plan.

    `size`: the file's size in bytes, for deletions the document's; None if unknown. `cause`: gone, deselected
    or emptied; `recipe` for documents to be reindexed. `source`: the path before a rename. `sends`: the bytes
    go to the target. `note`: a remark or, for a failed file, the reason. A path that ends in `/` is a
    directory. `refused`: the document that searches still find for a file whose current bytes the target
    refused.
    """

    path: str
    size: int | None
    sends: bool = False
    cause: str = ""
    source: str | None = None
    note: str = ""
    refused: Upload | None = None


@dataclass(slots=True)
class MirrorPlan:
    """The effects of one mirror's pass, each list ordered by path; empty if there is a `halt`.

    A rename is listed as such whether or not the target can rename; `sends` says which renames upload.
    `reembed`: documents with the same bytes to be reindexed under a different recipe. `delete`: deletions
    that the pass carries out. `held`: deletions that need approval after this pass, and documents whose
    reindexing after a settings change needs approval. `failed`: files that stay without an up-to-date
    document. `keep`: documents that stay although their files are gone; None unless the config says
    `deletions: never`. `is_guess`: the target didn't report its documents.
    """

    name: str
    upload: list[Planned] = field(default_factory=list)
    replace: list[Planned] = field(default_factory=list)
    rename: list[Planned] = field(default_factory=list)
    delete: list[Planned] = field(default_factory=list)
    reembed: list[Planned] = field(default_factory=list)
    held: list[Planned] = field(default_factory=list)
    failed: list[Planned] = field(default_factory=list)
    keep: list[Planned] | None = None
    unchanged: int = 0
    halt: Halt | None = None
    note: str = ""
    is_guess: bool = False

    @property
    def bytes_to_send(self) -> int:
        """The number of bytes that a pass would upload."""
        lines = (*self.upload, *self.replace, *self.rename, *self.reembed)
        return sum(line.size or 0 for line in lines if line.sends)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that the contract defines.

        It has `halt` only if nothing could be planned, and `keep` only if `keep` isn't None.
        """
        plan: dict[str, Any] = {
            "name": self.name,
            "upload": _paths(self.upload),
            "replace": _paths(self.replace),
            "rename": [[line.source, line.path] for line in self.rename],
            "delete": _paths(self.delete),
            "reembed": _paths(self.reembed),
            "held": _paths(self.held),
            "unchanged": self.unchanged,
        }
        if self.keep is not None:
            plan["keep"] = _paths(self.keep)
        return plan if self.halt is None else {**plan, "halt": halt_json(self.halt)}


def _paths(lines: Sequence[Planned]) -> list[str]:
    return [line.path for line in lines]


async def plan_mirror(
    settings: MirrorSettings,
    target: Target,
    state: ReadOnlyState,
    clock: Clock,
    context: CommandContext = NO_CONTEXT,
) -> MirrorPlan:
    """Plan a pass. Raises `StateError` if the state can't be read.

    A problem with the root or the target becomes the plan's `halt` if it would stop a pass. Otherwise, it
    becomes the plan's `note`.
    """
    with closing(PrivatePass(settings, target, state, clock, context)) as private:
        try:
            await private.attach()
            await private.compare()
        except Halted as error:
            return MirrorPlan(settings.name, halt=halt_for(error, settings, context))
        plan = await asyncio.to_thread(private.list_changes)
        plan.is_guess = bool(private.note)
        plan.note = "; ".join(filter(None, [private.note, await _shortage(plan, target)]))
        return plan


def halt_for(error: Halted, settings: MirrorSettings, context: CommandContext) -> Halt:
    """Return why a pass would stop, with a command that can be pasted."""
    halt = as_halt(error, settings.name, context.command_line)
    return with_retry_command(halt, settings.name, context.command_line, at_work=context.at_work)


async def _shortage(plan: MirrorPlan, target: Target) -> str:
    """Return a message with the numbers if the uploads exceed the account's quota.

    Return '' if they don't, or if the quota is unknown.
    """
    if not plan.bytes_to_send:
        return ""
    try:
        room = await target.capacity()
    except TargetError:
        return ""
    if room is None:
        return ""
    if room.used_words is not None and room.total_words is not None and room.used_words >= room.total_words:
        return f"the account has used all its {room.total_words:,} words: a pass would stop immediately"
    free = max(0, room.total - room.used)
    if plan.bytes_to_send <= free:
        return ""
    account = f"the account has only {format_size(free)} left of {format_size(room.total)}"
    needed = f"{format_size(plan.bytes_to_send)} would be sent"
    return f"{account}, and {needed}: a pass would stop at the first file that does not fit"


@dataclass(slots=True)
class _ClockAhead:
    """A clock that advances without waiting. With this clock, a plan never pauses."""

    clock: Clock
    ahead: float = 0.0

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        return self.clock.wall() + self.ahead

    def steady(self) -> float:
        """Return a monotonic clock reading in seconds. Its starting point is arbitrary."""
        return self.clock.steady() + self.ahead

    async def sleep(self, seconds: float) -> None:
        """Advance the clock without waiting."""
        self.ahead += seconds

    def chance(self) -> float:
        """Return a number in 0..1."""
        return self.clock.chance()


class PrivatePass:
    """A pass on a private copy of the state, which stops before it sends documents.

    Call `attach` (which sets `journal`), then `compare` (which sets `root`), then `list_changes`, and finally
    `close`. `note`: facts that couldn't be determined.
    """

    journal: Journal
    root: RootIdentity

    def __init__(
        self,
        settings: MirrorSettings,
        target: Target,
        state: ReadOnlyState,
        clock: Clock,
        context: CommandContext,
    ) -> None:
        # Set no longest wait, because a file that keeps changing would be copied to disk at the end of that
        # wait.
        self._settings = replace(settings, settle_longest=math.inf)
        self._target = target
        self._original = state
        self._clock = _ClockAhead(clock)
        self._now = clock.wall()
        self._context = context
        self._copy = StateCopy(state)
        self._busy: dict[str, int] = {}  # files that are changing now, and their sizes
        self.note = ""

    def close(self) -> None:
        """Delete the copy."""
        self._copy.close()

    @property
    def binding(self) -> Binding:
        """The binding of the pass. If it is new, its id exists only in the plan's copy of the state."""
        return self.journal.binding

    def entry(self, path: str) -> FileRow | None:
        """Return the copy's row of a file."""
        return self._copy.read_now(lambda tx: tx.entries.get(self.binding.mirror, path))

    def server(self, path: str) -> Upload | None:
        """Return the document that serves a file."""
        return serving(self._copy.read_now(lambda tx: self.journal.uploads(tx, path)))

    async def attach(self, *, may_be_emptied: bool = False) -> None:
        """Attach the mirror as a pass does. Raises `Halted`.

        If the base doesn't respond, assume that it hasn't changed since the last pass, and say so in the
        note. `may_be_emptied`: don't stop if the base has lost many of its documents.
        """
        copy, settings, context = self._copy, self._settings, self._context
        record = await copy.write(lambda tx: attach.enroll(tx, settings, context.configured))
        base = await self._read_base(record)
        if may_be_emptied:
            base, record = replace(base, documents=None), replace(record, halt=None)
        nowhere = Path("/nonexistent")  # nothing is copied: see `settle_longest`
        binding = await attach.bind(copy, settings, record, self._target, base, nowhere, context.configured)
        self.journal = Journal(binding, self._clock)
        # A base that does not answer can't be listed either, so it counts as adopted, and the note says so.
        if self.note:
            await copy.write(lambda tx: tx.mirrors.set_adopted(binding.id))
        try:
            await attach.prepare(copy, self.journal, self._target, self._clock, context.configured)
        except Halted:
            raise
        except TargetError as error:
            self.note = f"the documents in the knowledge base could not be listed ({error.reason})"
            await copy.write(lambda tx: tx.mirrors.set_adopted(binding.id))
            await attach.prepare(copy, self.journal, self._target, self._clock, context.configured)
        await self._poll_adopted()

    async def _poll_adopted(self) -> None:
        """As in a pass, poll documents that were found in the base and weren't sent, because some targets'
        lists don't include states.

        In the copy, only searchable documents change.
        """
        journal = self.journal

        def record(ids: Sequence[int], tx: Tx) -> None:
            for upload in ids:
                journal.record_status(tx, upload, DocStatus(DocState.READY))

        async for rows in uploads_in(self.binding, self._copy.read, (UploadState.INDEXING,)):
            adopted = {row.remote_id: row.id for row in rows if row.sent_at is None and row.remote_id}
            try:
                statuses = await self._target.status(list(adopted)) if adopted else {}
            except Halted:
                raise
            except TargetError:
                return  # the plan omits them
            ready = [id_ for id_, status in statuses.items() if status.state is DocState.READY]
            await self._copy.write(partial(record, [adopted[id_] for id_ in ready if id_ in adopted]))

    async def _read_base(self, record: MirrorRecord) -> Base:
        try:
            return await self._target.base()
        except Halted:
            raise
        except TargetError as error:
            self.note = f"the knowledge base could not be checked ({error.reason})"
        last = self._copy.read_now(lambda tx: tx.mirrors.binding(record.binding or 0))
        if last is None or last.target != self._settings.target_type:
            return Base("")
        return Base(last.base, address=last.address)

    async def compare(self) -> None:
        """Compare the folder with the copy of the state, and allow or hold deletions. Raises `Halted`."""
        copy, journal, clock = self._copy, self.journal, self._clock
        self.root = await attach.find_root(copy, self._settings, self.binding.mirror)
        reconciler = Reconciler(copy, journal, clock, on_work=_nothing, keep=_nothing)
        deletions = Deletions(copy, journal, clock, self._identity, changing_inodes=lambda: ())
        await deletions.count_served()
        inbox_result = await Inbox(copy, journal, clock).carry_out()
        # Assume that files stay unchanged: by this clock even the newest is old enough (promise 8).
        await clock.sleep(EMPTY_FACTOR * self._settings.settle + RACY_SECONDS)
        await reconciler.scan()
        await reconciler.recheck_racy()
        await reconciler.check(inbox_result.recheck)
        # Wait for files whose timestamps are in the future, or that changed while they were read.
        await clock.sleep(EMPTY_FACTOR * self._settings.settle)
        settling = reconciler.settling
        for _ in range(2 * len(settling.paths())):  # a file that reads differently each time is always due
            if not settling.due(clock.steady(), 1):
                break
            await reconciler.settle_due()
        # A file that changed again is being written now.
        stamps = {path: settling.stamp(path) for path in settling.paths()}
        self._busy = {path: stamp.size for path, stamp in stamps.items() if stamp is not None}
        # A file that was missed once is checked a second time, `settle` seconds later (promise 1).
        await clock.sleep(self._settings.settle)
        await reconciler.check(await deletions.check_again())
        await deletions.decide(now=True)
        await deletions.run_approved()
        recipes = RecipeChanges(copy, journal, clock)
        await recipes.decide()
        if await self._identity() is None:  # nothing read so far can be trusted
            raise attach.root_differs(self._settings, "the file changed while the folder was being compared")

    async def _identity(self) -> RootIdentity | None:
        """Return the root's identity if it is still the same as at the start."""
        try:
            return await attach.same_root(self._settings, self.root)
        except Halted:
            return None

    # -- the steps in the rows ----------------------------------------------------------------------------

    def list_changes(self) -> MirrorPlan:
        """Return the changes that the pass would make."""
        plan = MirrorPlan(self._settings.name)
        self._copy.read_now(lambda tx: self._list_changes(tx, plan))
        # There may be a million rows: sort only the lines of the plan.
        changes = (plan.upload, plan.replace, plan.rename, plan.delete, plan.reembed, plan.held)
        for planned in (*changes, plan.keep or []):
            planned.sort(key=attrgetter("path"))
        plan.failed.sort(key=attrgetter("path"))
        return plan

    def _list_changes(self, tx: Tx, plan: MirrorPlan) -> None:
        mirror, number = self.binding.mirror, self.binding.id
        plan.unchanged = tx.mirrors.tally(mirror).get(Status.READY, 0)
        for status in (Status.PENDING, Status.INDEXING, Status.HELD, Status.FAILED):
            for entry in tx.entries.of_status(mirror, status, in_order=False):
                desired, rows = self.journal.desired(entry), self.journal.uploads(tx, entry.path)
                server = serving(rows)
                match status:
                    case Status.HELD:
                        if server is None:
                            continue
                        if cause := removal_cause(desired):
                            plan.held.append(Planned(desired.path, server.known_size, cause=cause))
                        else:
                            note = self._change(server, desired)
                            line = Planned(desired.path, desired.size, sends=True, cause=RECIPE, note=note)
                            plan.held.append(line)
                    case Status.FAILED if entry.verdict.choice is FileChoice.REFUSED:
                        version = "" if server is None else f"; {which_version(entry, server)}"
                        reason = f"{entry.verdict.reason}{version}"
                        plan.failed.append(Planned(entry.path, desired.size, note=reason))
                    case Status.FAILED:
                        failed = (row for row in rows if row.state is UploadState.FAILED)
                        reason = next((row.reason for row in failed if row.digest == desired.digest), "")
                        plan.failed.append(Planned(entry.path, desired.size, note=reason, refused=server))
                    case _:
                        self._add_unfinished(entry, desired, rows, plan)
        if self.binding.abilities.keeps:
            plan.keep = []
            for entry in tx.entries.of_status(mirror, Status.KEPT, in_order=False):
                server = serving(self.journal.uploads(tx, entry.path))
                size = None if server is None else server.known_size
                plan.keep.append(Planned(entry.path, size, cause=removal_cause(self.journal.desired(entry))))
        for folder in tx.folders.problems(mirror):
            if not folder.is_excluded:
                note = with_approve_command(folder.problem, self._settings.name, self._context.command_line)
                plan.failed.append(Planned(folder_label(folder.path), 0, note=note))
        for row in tx.uploads.each(mirror, number, (UploadState.RETIRING,)):
            row_entry = tx.entries.get(mirror, row.path)
            cause = "" if row_entry is None else removal_cause(self.journal.desired(row_entry))
            # Without a cause, a newer version merely replaces the document.
            if cause and serving(self.journal.uploads(tx, row.path)) is None:
                # With `deletions: never`, the worker keeps the document, unless an earlier delete removed it.
                lines = plan.delete if plan.keep is None else plan.keep
                lines.append(Planned(row.path, row.known_size, cause=cause))
        for row in tx.uploads.relabelled(mirror, number):
            self._add_rename(tx, row, plan)

    def _add_unfinished(
        self, entry: FileRow, desired: Desired, rows: Sequence[Upload], plan: MirrorPlan
    ) -> None:
        """Add a file whose document is outdated or missing, and whose new document is still unsent or in
        flight.
        """
        server = serving(rows)
        if (size := self._busy.get(entry.path)) is not None:
            kind = plan.upload if server is None else plan.replace
            kind.append(Planned(entry.path, size, sends=True, note=BUSY))
            return
        if removal_cause(desired) or desired.digest is None or desired.presence is not Presence.PRESENT:
            return
        fitting = {row.state: row for row in rows if row.version == (desired.digest, desired.recipe)}
        if UploadState.INDEXING in fitting:
            return  # the document only has to wait
        if any(row.state is UploadState.ADOPTING for row in rows) and not fitting:
            # a document in the base whose bytes are not read yet: assume they are the file's
            plan.unchanged += 1
            return
        sending = next((fitting[state] for state in TO_BE_SENT if state in fitting), None)
        lost = LOST if sending is not None and self._is_lost(sending) else ""
        note, settle_seconds = lost, self._settings.settle
        if not lost and not is_old_enough(entry.stamp, self._now, settle_seconds):
            note = (
                f"the file has just changed; kbsync will send it after {settle_seconds:g} s without changes"
            )
        planned = Planned(entry.path, desired.size, sends=True, note=note)
        if server is not None and server.label != entry.path:
            source = self._moved_from(server) or server.label or entry.path
            plan.rename.append(replace(planned, source=source, note=lost or AGAIN))
        elif server is not None and server.digest == desired.digest:
            notes = filter(None, [self._change(server, desired), note])
            plan.reembed.append(replace(planned, note=", ".join(notes)))
        # If the target updates in place, the upload in flight serves before this can be sent.
        elif server is not None or (sending is None and any(row.state.in_flight for row in rows)):
            plan.replace.append(planned)
        else:
            plan.upload.append(planned)

    def _change(self, server: Upload, desired: Desired) -> str:
        """Return which settings of the serving document have changed, as far as its recipe shows that."""
        changes = changes_of(self.binding.describe, [(server.recipe, desired.recipe)])
        return changes if changes != OTHER_SETTINGS else ""

    def _add_rename(self, tx: Tx, row: Upload, plan: MirrorPlan) -> None:
        """Add a document whose content stays the same but whose path differs from the one at the target."""
        entry = tx.entries.get(self.binding.mirror, row.path)
        if entry is None or entry.status is not Status.READY:
            return
        moved_from = self._moved_from(row)
        others = (other for other in self.journal.uploads(tx, entry.path) if other.version == row.version)
        sending = next((other for other in others if other.state in TO_BE_SENT), None)
        if sending is None and not self.binding.abilities.renames and moved_from is None:
            return  # the target keeps the old name, and did so before
        planned = Planned(entry.path, row.known_size, source=moved_from or row.label or entry.path)
        if sending is not None:
            note = LOST if self._is_lost(sending) else AGAIN
            planned = replace(planned, size=max(entry.stamp.size, 0), sends=True, note=note)
        plan.rename.append(planned)
        plan.unchanged -= 1

    def _is_lost(self, row: Upload) -> bool:
        """Return whether the response to this upload was lost.

        In the copy, as after a restart, every upload that was being sent is unsure. But another process may
        still be sending it, so the original state decides.
        """
        if row.state is UploadState.INTENDED:
            return False
        if not self._context.at_work:
            return True
        original = self._original.read(lambda tx: tx.uploads.get(row.id))
        return original is not None and original.state is UploadState.UNSURE

    def _moved_from(self, row: Upload) -> str | None:
        """Return the path that this document's file had before this pass, if the path has changed."""
        before = self._original.read(lambda tx: tx.uploads.get(row.id))
        return None if before is None or before.path == row.path else before.path


def _nothing(*_: object) -> None:
    pass
