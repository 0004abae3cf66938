"""Records one mirror's files and uploads, and decides about them in the same transaction.

Every method takes the transaction it runs in. A method that changes the row of a file or upload ends with
`decide`, which asks the planner for the next step, so that rows and decisions never disagree on disk. A
method that takes an upload's number reads its row again, because the planner may have changed its decision
during a request. Methods return the events to log.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import structlog

from kbsync.contract.target import Accepted, DeleteOutcome, DocState, DocStatus, Listed, PutOutcome
from kbsync.core import lifecycle
from kbsync.core.fairness import rank
from kbsync.core.lifecycle import MAX_LIST_LAG, Timing
from kbsync.core.links import is_address, is_link
from kbsync.core.model import (
    NEEDS_CHANGE,
    NO_STAMP,
    ON_THE_WAY,
    SELECTED,
    SERVING,
    UNREADABLE,
    WITHOUT_FILE,
    Desired,
    FileChoice,
    Phase,
    Presence,
    Purpose,
    Stamp,
    Status,
    Upload,
    UploadState,
    Verdict,
    serving,
)
from kbsync.core.planner import (
    Action,
    Step,
    decide,
    digests_match,
    is_undecided,
    only_recipe_differs,
    proves,
    removal_cause,
    status_of,
)
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.engine.clock import Clock
from kbsync.engine.settings import Binding
from kbsync.engine.status import WITHDRAWN, may_succeed, which_version
from kbsync.errors import Halted, NameTaken, Rejected, TargetError, Unavailable, may_be_from_gateway
from kbsync.logs import log_debug
from kbsync.state.files import FileRow, folder_label, split
from kbsync.state.history import HistoryEvent
from kbsync.state.mirrors import BindingFact
from kbsync.state.read_only import Tx

log = structlog.get_logger("kbsync")

ROUNDS = 8
"""Maximum number of consecutive decisions about a path; each decision may require another."""

MAX_UNREADABLE = 10_000
"""Maximum number of unreadable files for which a running kbsync notices new permissions before the next
scan."""

NAME_TRIES = 5
DUPLICATE_PAUSE = 2.0
PROOF_TRIES = 4

TIMES_AGREE = 120.0
"""Maximum number of seconds between a document's creation time and its upload if the clocks agree. A document
created more than `CLOCK_SLACK` seconds before an upload can't belong to it.
"""
AGREE, DIFFER = "agree", "differ"

UNPROVEN = "unproven"
"""The failure code of a link file if no document is proven to be its web page."""


@dataclass(frozen=True, slots=True)
class FileSeen:
    """The result of checking one file.

    `digest` is None if its bytes weren't read (skipped, unreadable). `problem`: why the file couldn't be
    read. In that case, its row stays unchanged. `fresh`: whether a user is waiting for the file.
    `renamed_from`: the path that the same file had before.
    """

    path: str
    stamp: Stamp
    verdict: Verdict = SELECTED
    by_person: bool = True
    digest: str | None = None
    racy: bool = False
    problem: str = ""
    fresh: bool = False
    renamed_from: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentEvent:
    """A canonical log line. `event` is `noun.past_verb`, and `upload` is the upload at that time.

    For a file that failed or was skipped before any upload, `upload` is a row with id 0 that isn't stored.
    `phases`: the seconds spent in each phase, from the intent to the end, or None if the document wasn't
    sent. `may_succeed`: whether a retry may succeed although neither the file nor the settings have changed.
    """

    event: str
    upload: Upload
    phases: Mapping[str, float] | None = None
    may_succeed: bool = False

    @property
    def path(self) -> str:
        """The file's path, or the last one it had."""
        return self.upload.path

    @property
    def seconds(self) -> float:
        """The number of seconds from the recorded intent to the outcome, or 0.0 if the document wasn't
        sent.
        """
        return sum((self.phases or {}).values())

    @property
    def replaced(self) -> bool:
        """Whether the document replaced an older version."""
        return self.phases is not None and self.upload.predecessor is not None


ReportEvents = Callable[[Iterable[DocumentEvent | None]], None]
"""Receives the events of a transaction, or None for steps that have none."""


class Remedy(enum.Enum):
    """What kbsync does about a document that isn't searchable."""

    NONE = enum.auto()
    ASKED = enum.auto()  # the target was asked to index it again
    AWAITED = enum.auto()  # the account is full, or a model unusable: wait until the target can index
    NOT_OFFERED = enum.auto()  # the target doesn't support the request
    LATER = enum.auto()  # the request wasn't possible now, or it isn't this document's turn
    QUEUED = enum.auto()  # not a failure: the target is still finishing other documents from the same time
    ORPHAN = enum.auto()  # the target has a document with its text that no longer belongs to a file


class Journal:
    """The rows of one mirror in one binding."""

    def __init__(
        self, binding: Binding, clock: Clock, on_decided: Callable[[Tx, str], None] | None = None
    ) -> None:
        self.binding = binding
        self._clock = clock
        self._on_decided = on_decided
        self._lag = 0.0
        self._times = ""
        self._allowed: frozenset[str] = frozenset()
        self.unreadable: set[str] = set()
        """Files that could not be read at their last check in this run, at most `MAX_UNREADABLE`. Each scan
        checks all of them again."""

    @property
    def timing(self) -> Timing:
        """The time, randomness, limits and known lag that lifecycle steps need."""
        after = self.binding.settings.absent_after
        return Timing(self._clock.wall(), self._clock.chance, self.binding.limits, after, self._lag)

    def recall_recipes(self, tx: Tx) -> None:
        """Reload the allowed recipes. Call this whenever they change."""
        self._allowed = tx.recipes.allowed(self.binding.mirror)

    def recall(self, tx: Tx) -> None:
        """Load what earlier runs recorded: the allowed recipes, the list's lag, and whether the clocks
        agree."""
        self.recall_recipes(tx)
        self._lag = float(tx.meta.get(BindingFact.LAG, self.binding.id) or 0.0)
        self._times = tx.meta.get(BindingFact.TIMES, self.binding.id)

    def _note_time(self, tx: Tx, upload: Upload, created: float | None) -> None:
        """Compare our own clock with the creation time that the target reports for a document that was just
        uploaded.
        """
        # No service documents the times in its ids. They are evidence once the ids of our own answered
        # uploads to this base agree with the clock, until one doesn't.
        now = self._clock.wall()
        if created is None or upload.sent_at is None or upload.sent_at > now or self._times == DIFFER:
            return  # the target reports none, or a clock was set back
        is_right = upload.sent_at - TIMES_AGREE <= created <= now + TIMES_AGREE
        agreement = AGREE if is_right else DIFFER
        if agreement == self._times:
            return
        self._times = agreement
        tx.meta.set(BindingFact.TIMES, self.binding.id, agreement)
        if agreement == DIFFER:
            detail = (
                "kbsync does not use the service's creation times as evidence, because they differ from this "
                f"machine's clock ({abs(created - now):.0f} s)"
            )
            log.warning("times.differ", mirror=self.binding.settings.name, detail=detail)

    def is_paused(self, tx: Tx) -> bool:
        """Return whether the mirror is paused, which means that no new work may start."""
        return tx.pauses.current(self.binding.mirror, self._clock.wall()) is not None

    def observe(self, tx: Tx, file: FileSeen) -> DocumentEvent | None:
        """Record the result of checking a file, and decide what to do at its path.

        Return an event if the file now fails or is skipped before any upload, for a different cause than
        before.
        """
        mirror, now, old = self.binding.mirror, self._clock.wall(), file.renamed_from
        rows = [] if old is None else self.uploads(tx, file.path)
        # The uploads follow a renamed file, unless its new path already has a document or an upload, for
        # instance one sent before the state was lost.
        if old is not None and not any(row.state.serves or row.state.in_flight for row in rows):
            tx.uploads.move(mirror, self.binding.id, old, file.path)
            server, abilities = serving(self.uploads(tx, file.path)), self.binding.abilities
            if server is not None and not abilities.renames and abilities.rename_policy == "keep":
                # This changes nothing at the target.
                self._record(tx, DocumentEvent("document.renamed", server), old)
            tx.removals.drop(mirror, old)
            tx.entries.remove(mirror, old)
        stored = tx.entries.get(mirror, file.path)
        status, since = (stored.status, stored.since) if stored else (Status.PENDING, now)
        digest = file.digest if file.digest or stored is None else stored.digest
        stamp, verdict, presence = file.stamp, file.verdict, Presence.PRESENT
        if file.problem:
            if len(self.unreadable) < MAX_UNREADABLE:
                self.unreadable.add(file.path)
            stamp, presence = NO_STAMP, Presence.UNKNOWN
            verdict = Verdict(FileChoice.REFUSED, file.problem)
        else:
            self.unreadable.discard(file.path)
        entry = FileRow(file.path, stamp, digest, verdict, file.by_person, presence, status, since, file.racy)
        tx.entries.put(mirror, entry)
        self._decide(tx, entry, file.fresh)
        return self._record_verdict(tx, entry, stored)

    def _record_verdict(self, tx: Tx, entry: FileRow, before: FileRow | None) -> DocumentEvent | None:
        """Record that the file now fails or is skipped because of its verdict, unless that is already
        recorded.
        """
        event_name = _VERDICTS.get(entry.verdict.choice)
        decided = tx.entries.get(self.binding.mirror, entry.path) if event_name is not None else None
        if event_name is None or decided is None or decided.status not in (Status.FAILED, Status.SKIPPED):
            return None
        # A reason may contain the file's size; its rule doesn't.
        if before is not None and (before.status, _cause(before.verdict)) == (
            decided.status,
            _cause(entry.verdict),
        ):
            return None
        server = serving(self.uploads(tx, entry.path))
        size, reason = max(entry.stamp.size, 0), entry.verdict.reason
        if server is not None and decided.status is Status.FAILED:
            reason = f"{reason}; {which_version(entry, server)}"
        return self._record_unsent(
            tx, event_name, entry.path, size, reason, server, may_succeed=may_succeed(decided, ())
        )

    def _record_unsent(
        self,
        tx: Tx,
        event_name: str,
        path: str,
        size: int,
        reason: str,
        server: Upload | None = None,
        *,
        may_succeed: bool,
    ) -> DocumentEvent:
        unsent = Upload(
            id=0,
            mirror=self.binding.mirror,
            binding=self.binding.id,
            path=path,
            label=path,
            name="",
            digest="",
            size=size,
            recipe="",
            state=UploadState.FAILED,
            remote_id=None if server is None else server.remote_id,
            reason=reason,
        )
        return self._record(tx, DocumentEvent(event_name, unsent, may_succeed=may_succeed))

    def record_folder_problem(self, tx: Tx, folder: str, problem: str) -> DocumentEvent | None:
        """Record that the directory couldn't be listed, which makes everything below it unknown.

        Return an event if this wasn't already recorded.
        """
        stored = tx.folders.get(self.binding.mirror, folder)
        tx.folders.record_problem(self.binding.mirror, folder, problem)
        if stored is not None and stored.problem == problem:
            return None
        label = folder_label(folder)
        return self._record_unsent(tx, "document.failed", label, 0, problem, may_succeed=True)

    def await_quiet(self, tx: Tx, path: str, *, is_selected: bool) -> None:
        """Record that the file is being written: it is pending, and any later scan checks it again (promise
        8).

        `is_selected`: whether the rules select the file in its current form, regardless of an earlier
        verdict.
        """
        now = self._clock.wall()
        stored = tx.entries.get(self.binding.mirror, path) or _not_seen_yet(path, now)
        since = stored.since if stored.status is Status.PENDING else now
        waiting = replace(
            stored, stamp=NO_STAMP, presence=Presence.PRESENT, status=Status.PENDING, since=since
        )
        if is_selected or not tx.uploads.at_path(self.binding.mirror, self.binding.id, path):
            waiting = replace(waiting, verdict=SELECTED)
        tx.entries.put(self.binding.mirror, waiting)

    def expect(self, tx: Tx, path: str) -> None:
        """Create a file row for a document that has none.

        The next scan finds the file or counts it as missing.
        """
        tx.entries.put(self.binding.mirror, _not_seen_yet(path, self._clock.wall()))
        tx.folders.check_again(self.binding.mirror, split(path)[0])

    def record_gone_file(self, tx: Tx, path: str) -> None:
        """Record that two checks didn't find the file."""
        tx.entries.set_presence(self.binding.mirror, path, Presence.GONE)
        self.decide(tx, path)

    def record_unknown_file(self, tx: Tx, path: str) -> None:
        """Record that a check couldn't tell whether the file exists."""
        stored = tx.entries.get(self.binding.mirror, path)
        # A document kept for a missing file stays that way if the path becomes inaccessible. Otherwise its
        # deletion would need no approval after the end of `deletions: never`.
        if stored is not None and (stored.status, stored.presence) != (Status.KEPT, Presence.GONE):
            tx.entries.set_presence(self.binding.mirror, path, Presence.UNKNOWN)
            self.decide(tx, path)

    def deselect(self, tx: Tx, path: str, verdict: Verdict, by_person: bool) -> None:
        """Record that the file exists but is no longer selected."""
        stored = tx.entries.get(self.binding.mirror, path)
        # If the verdict is equal, the file was deselected before, for example by an upgrade, which deletes
        # nothing.
        if stored is not None and stored.verdict != verdict:
            tx.entries.put(self.binding.mirror, replace(stored, verdict=verdict, by_person=by_person))
            self.decide(tx, path)

    def decide(self, tx: Tx, path: str, *, fresh: bool = False) -> None:
        """Decide the next step for a path until there is nothing left to do, and then set its status."""
        entry = tx.entries.get(self.binding.mirror, path)
        if entry is not None:
            self._decide(tx, entry, fresh)

    def _decide(self, tx: Tx, entry: FileRow, fresh: bool) -> None:
        desired = self.desired(entry)
        for _ in range(ROUNDS):
            rows = {upload.id: upload for upload in self.uploads(tx, entry.path)}
            actions = decide(desired, list(rows.values()), self.binding.abilities)
            if self.binding.texts_once and removal_cause(desired):
                # kbsync deletes, or has deleted, the serving document before such an upload. Then the upload
                # continues, and any decision about it waits.
                server = serving(rows.values())
                standing_in = {
                    row.id
                    for row in rows.values()
                    if row.state.in_flight
                    and row.predecessor is not None
                    and (server is None or server.digest == row.digest)
                }
                actions = tuple(action for action in actions if action.upload not in standing_in)
            changed = [self._carry_out(tx, desired, rows, action, fresh) for action in actions]
            if not any(changed):
                break
        self._update_status(tx, entry, desired, list(rows.values()))

    def desired(self, entry: FileRow) -> Desired:
        """Return the desired state of this path, based on the file in the folder."""
        is_read = entry.stamp != NO_STAMP and entry.stamp.size >= 0
        recipe = self.binding.recipe(entry.path)
        return Desired(
            path=entry.path,
            presence=entry.presence,
            verdict=entry.verdict,
            digest=entry.digest if is_read else None,
            size=max(entry.stamp.size, 0),
            recipe=recipe,
            by_person=entry.by_person,
            may_renew=not self.binding.abilities.asks_before_reindexing or recipe in self._allowed,
            keeps=self.binding.abilities.keeps,
        )

    def uploads(self, tx: Tx, path: str) -> list[Upload]:
        """Return the uploads of a path that aren't final."""
        return tx.uploads.at_path(self.binding.mirror, self.binding.id, path)

    def _update_status(self, tx: Tx, entry: FileRow, desired: Desired, uploads: list[Upload]) -> None:
        for index, upload in enumerate(uploads):
            if upload.state is UploadState.SERVING and is_address(upload.name) and is_link(entry.path):
                # The target identifies a page by its address, so renaming a link file only changes the name
                # in the state.
                uploads[index] = replace(upload, label=entry.path)
            if self.binding.abilities.asks_before_reindexing and not is_undecided(desired):
                # The serving row records the recipe that its file needs instead, so that these rows can be
                # counted.
                is_other = upload.state is UploadState.SERVING and not removal_cause(desired)
                is_other = is_other and only_recipe_differs(upload, desired, self.binding.abilities)
                wanted_recipe = desired.recipe if is_other else ""
                uploads[index] = replace(uploads[index], wanted_recipe=wanted_recipe)
            if uploads[index] != upload:
                tx.uploads.save(uploads[index])
            if upload.known_size is None and upload.digest == desired.digest:
                tx.uploads.set_content(upload.id, size=desired.size)
        if any(upload.state.serves for upload in uploads):
            # These deletions waited for a check of the file, which isn't needed if another document serves.
            for upload in filter(lifecycle.awaits_file, uploads):
                tx.uploads.save(lifecycle.delete_after_all(upload, self.timing))
        if entry.presence is Presence.GONE and all(u.state in WITHOUT_FILE for u in uploads):
            tx.entries.remove(self.binding.mirror, entry.path)
        else:
            status = status_of(desired, uploads)
            if status is not entry.status:
                tx.entries.set_status(self.binding.mirror, entry.path, status, self._clock.wall())
        if self._on_decided is not None:
            self._on_decided(tx, entry.path)

    def _record_withdrawal(self, tx: Tx, desired: Desired, upload: Upload) -> None:
        """Record that the deletion of this document is no longer held, although nobody approved it."""
        removal = tx.removals.get(self.binding.mirror, desired.path)
        if removal_cause(desired):
            reason = "the config says `deletions: never`"
        else:
            reason = "" if removal is None else WITHDRAWN.get(removal.cause, "")
        self.add_to_history(tx, HistoryEvent.KEPT, desired.path, upload, reason=reason)

    def add_to_history(
        self, tx: Tx, event: HistoryEvent, path: str, upload: Upload, *, former: str = "", reason: str = ""
    ) -> None:
        """Record in the history what is now happening to a file's document.

        `former`: the path before a rename.
        """
        mirror, now, id_, size = self.binding.mirror, self._clock.wall(), upload.remote_id, upload.known_size
        tx.history.add(mirror, now, event, path, former=former, document_id=id_, size=size, reason=reason)

    def _carry_out(
        self, tx: Tx, desired: Desired, rows: dict[int, Upload], action: Action, fresh: bool
    ) -> bool:
        """Carry out a decision. Return True if rows changed, in which case another decision may follow."""
        now, mirror = self._clock.wall(), self.binding.mirror
        name = action.step.name.lower()
        log_debug("action.decided", mirror=self.binding.settings.name, path=desired.path, action=name)
        if action.step is Step.SEND:
            assert desired.digest is not None
            name = self._free_name(tx, desired.path, desired.digest, [row.name for row in rows.values()])
            version = desired.digest, desired.recipe
            intent = self.intend(
                tx, desired.path, name, version, desired.size, predecessor=action.upload, fresh=fresh
            )
            rows[intent.id] = intent
            return False
        assert action.upload is not None
        upload = rows[action.upload]
        if upload.state is UploadState.ADOPTING and action.step in (Step.POLL, Step.SERVE, Step.RETIRE):
            # A mirror that was forgotten may have left the document behind.
            tx.forgotten.claim(self.binding.id, upload.remote_id or "")
        match action.step:
            case Step.DROP:
                changed = lifecycle.drop(upload)
                self._doubt_server(tx, changed)
            case Step.RETIRE:
                changed = lifecycle.retire(upload, self.timing)
            case Step.UNWANT:
                changed = lifecycle.unwant(upload)
            case Step.WANT:
                changed = lifecycle.want(upload)
            case Step.POLL:
                changed = lifecycle.poll(upload, self.timing)
            case Step.SERVE:
                if upload.state is UploadState.ADOPTING and proves(upload, desired):
                    tx.uploads.set_content(upload.id, digest=desired.digest)
                if upload.state is UploadState.HELD:
                    self._record_withdrawal(tx, desired, upload)
                tx.removals.drop(mirror, desired.path)
                changed = lifecycle.take_over(upload, self.timing)
            case Step.WEIGH:
                batch = tx.holds.batch(mirror, now)
                tx.removals.nominate(mirror, desired.path, upload.id, action.cause, now, batch)
                return False
            case Step.KEEP:
                tx.removals.drop(mirror, desired.path)
                return False
            case Step.RELABEL if upload.due_at is None:
                changed = replace(upload, due_at=now)
            case Step.PROVE if upload.due_at is None:
                tx.uploads.save(replace(upload, due_at=now, rank=now))
                return False
            case Step.RESLICE:
                tx.uploads.set_content(upload.id, recipe=desired.recipe)
                changed = lifecycle.reslice(upload, self.timing)
            case _:
                return False  # already scheduled
        tx.uploads.save(changed)
        rows[changed.id] = changed  # the next action of this decision starts from this row
        return True

    def intend(
        self,
        tx: Tx,
        path: str,
        name: str,
        version: tuple[str, str],
        size: int,
        *,
        predecessor: int | None = None,
        fresh: bool = False,
    ) -> Upload:
        """Record the intent to send the file at `path`.

        `version`: see `Upload`. `fresh`: a user is waiting.
        """
        now, (digest, recipe) = self._clock.wall(), version
        intent = Upload(
            id=0,
            mirror=self.binding.mirror,
            binding=self.binding.id,
            path=path,
            label=path,
            name=name,
            digest=digest,
            size=size,
            recipe=recipe,
            state=UploadState.INTENDED,
            predecessor=predecessor,
            created_at=now,
            due_at=now,
            rank=rank(now, size, fresh=fresh),
        )
        return tx.uploads.add(intent)

    def _free_name(
        self, tx: Tx, path: str, digest: str, taken_names: Sequence[str] = (), start: int = 0
    ) -> str:
        """Return a name for these bytes at the target. No document or upload in this base has or may have
        that name.

        `taken_names`: the names used at the path itself. `start`: the first number to try. If our marker
        identifies documents, names don't have to be unique.
        """
        naming = self.binding.naming
        if self.binding.limits.marks:
            return naming.name(path, digest)
        names = (naming.name(path, digest, number) for number in itertools.count(start))
        return next(
            name
            for name in names
            if name not in taken_names and not tx.uploads.is_named(self.binding.id, name)
        )

    def _next_name(self, tx: Tx, upload: Upload) -> str:
        """Return a different name for an upload whose name the target refused."""
        reading = self.binding.naming.read(upload.name)
        start = 1 if reading is None else reading.number + 1
        return self._free_name(tx, upload.path, upload.digest, (upload.name,), start)

    def _enter_service(self, tx: Tx, upload: Upload, *, replaced: bool) -> None:
        """Save a row that has become searchable and retire its predecessor, in one transaction (promise
        2).
        """
        path = upload.path
        for old in self.uploads(tx, path):
            if old.state.serves and old.id != upload.id:
                entry = tx.entries.get(self.binding.mirror, path) if old.state is UploadState.HELD else None
                if entry is not None and removal_cause(self.desired(entry)):
                    # The predecessor's deletion needed approval, so the new document's deletion does now.
                    tx.removals.inherit(old.id, upload.id)
                    upload = lifecycle.hold(upload)
                tx.removals.release(old.id)
                if old.remote_id == upload.remote_id:  # the document was updated in place
                    tx.uploads.save(lifecycle.mark_gone(old, self.timing))
                elif replaced:
                    tx.uploads.save(lifecycle.mark_deleted(old, self.timing))
                else:
                    retired = lifecycle.retire(old, self.timing)
                    # If a response was lost, the target may have replaced it, so it must not serve again.
                    tx.uploads.save(lifecycle.unwant(retired) if self.binding.abilities.updates else retired)
        tx.uploads.save(upload)

    def claim(
        self, tx: Tx, numbers: Sequence[int], addresses: Mapping[int, str] = MappingProxyType({})
    ) -> list[Upload]:
        """Move uploads from INTENDED to SENDING, and return those that may be sent.

        `addresses`: the addresses of web pages, by upload. A page's address identifies it and becomes its
        name.
        """
        claimed = []
        for number in numbers:
            if (upload := tx.uploads.get(number, UploadState.INTENDED)) is None:
                continue
            if self._is_in_flight(tx, upload):
                tx.uploads.save(lifecycle.drop(upload))
                continue
            address, reason = addresses.get(number), ""
            if address is not None and tx.uploads.is_in_doubt(address):
                # Send them one after the other: if both responses were lost, their documents would be
                # indistinguishable.
                reason = "waiting for another document with the same address"
            elif self.binding.texts_once:
                reason = self._await_deletion(tx, upload)
            if reason:
                tx.uploads.save(lifecycle.refund(upload, reason, self.timing, DUPLICATE_PAUSE))
                continue
            sending = lifecycle.send(
                upload if address is None else replace(upload, name=address), self.timing
            )
            tx.uploads.save(sending)
            claimed.append(sending)
        return claimed

    def _is_in_flight(self, tx: Tx, upload: Upload) -> bool:
        """Return whether the target already has this version, or may have it (invariant 2).

        While a file can't be read, nothing is decided about its uploads. Meanwhile, a list may show the
        document of an upload that an old backup of the state doesn't contain.
        """
        return any(
            row.state.in_flight and row.purpose is Purpose.SERVE and row.version == upload.version
            for row in self.uploads(tx, upload.path)
        )

    def _await_deletion(self, tx: Tx, upload: Upload) -> str:
        """Return why the upload must wait until another document with its text is deleted, or "" if it
        doesn't have to.

        The target stores each text only once. This starts that deletion if nothing else would.
        """
        mirror, binding = self.binding.mirror, self.binding.id
        waiting_for_deletion = "waiting for another document with the same text to be deleted"
        if tx.uploads.is_retiring(mirror, binding, upload.digest):
            return waiting_for_deletion
        # This reads many rows, so do it only after a refusal has shown that there is another document.
        first = tx.uploads.find_serving(mirror, binding, upload.digest) if upload.repairs else None
        if first is None or first.path == upload.path:
            return ""
        if self._find_successor(tx, first) is None:
            return waiting_for_deletion if self._is_unneeded(tx, first) else ""
        row: Upload | None = first
        passed = set[str]()
        while row is not None and row.path != upload.path and row.path not in passed:
            passed.add(row.path)
            successor = self._find_successor(tx, row)
            row = successor and tx.uploads.find_serving(mirror, binding, successor.digest)
        if row is not None and row.path == upload.path:
            # Files that swap their texts would wait for each other, so one of them is deleted now.
            tx.uploads.save(lifecycle.unwant(lifecycle.retire(first, self.timing)))
        return "waiting for another document with the same text to be replaced"

    def _is_unneeded(self, tx: Tx, row: Upload) -> bool:
        """Return whether this document's file no longer exists, which means that the document will soon be
        deleted or held.
        """
        entry = tx.entries.get(self.binding.mirror, row.path)
        if entry is None or row.state is not UploadState.SERVING:
            return False
        desired = self.desired(entry)
        return desired.presence is Presence.MISSING or (bool(removal_cause(desired)) and not desired.keeps)

    def _find_successor(self, tx: Tx, row: Upload) -> Upload | None:
        """Return the upload that will replace this document with one that has a different text."""
        uploads = self.uploads(tx, row.path)
        return next((u for u in uploads if u.state in ON_THE_WAY and u.digest != row.digest), None)

    def record_unsendable(self, tx: Tx, number: int) -> None:
        """Record that the file no longer has the intended bytes. The next check will make a new decision."""
        if (upload := tx.uploads.get(number, UploadState.INTENDED)) is not None:
            dropped = lifecycle.drop(upload)
            tx.uploads.save(dropped)
            self._doubt_server(tx, dropped, may_be_back=True)
            tx.entries.doubt(self.binding.mirror, upload.path)
            self.decide(tx, upload.path)

    def record_put(
        self, tx: Tx, number: int, outcome: PutOutcome, *, spent: bool = True
    ) -> DocumentEvent | None:
        """Record the outcome of a put, even if its response was lost.

        `spent`: whether to count the attempt, because the document may have caused the loss.
        """
        if (upload := tx.uploads.get(number, UploadState.SENDING)) is None:
            return None
        if isinstance(outcome, TargetError) and outcome.has_removed:
            self._removed_before(tx, upload)
        match outcome:
            case Accepted(replaced=False) if other := self._other_owner(tx, upload, outcome.remote_id):
                # A gateway may have repeated an earlier response. If both files had this document, searches
                # would miss one of them without any error (promise 10).
                name = printable(other.path)[:100]
                reason = f"the target answered with another file's document ({name})"
                changed = lifecycle.doubt(upload, reason, self.timing)
            case Accepted():
                self._note_time(tx, upload, outcome.created)
                if outcome.replaced:
                    # The predecessor was deleted, so this document serves despite any changes in the meantime
                    # (promise 2).
                    upload = lifecycle.want(upload)
                changed = lifecycle.accept(upload, outcome.remote_id, outcome.ready, self.timing)
                # The target may have given it a different name.
                named_row = replace(changed, name=outcome.name or changed.name)
                return self._accept(tx, named_row, outcome.replaced)
            case NameTaken() if upload.names_tried < NAME_TRIES:
                name = self._next_name(tx, upload)
                changed = lifecycle.rename_intent(upload, name, outcome.reason, self.timing)
            case Rejected(may_pass=True):
                changed = lifecycle.send_once_more(upload, outcome.reason, outcome.code, self.timing)
            case Rejected():
                changed = lifecycle.reject(upload, outcome.reason, outcome.code)
            case Unavailable(untried=True):
                wait = outcome.retry_after or 0.0
                changed = lifecycle.refund(upload, outcome.reason, self.timing, wait)
            case Unavailable():
                changed = lifecycle.put_off(upload, outcome.reason, outcome.retry_after, self.timing)
            case Halted():
                changed = lifecycle.refund(upload, outcome.reason, self.timing)
            case _:
                changed = lifecycle.doubt(upload, outcome.reason, self.timing, spent=spent)
        return self._record_end(tx, changed)

    def _other_owner(self, tx: Tx, upload: Upload, remote_id: str) -> Upload | None:
        """If the document belongs to another file, return the upload of that file."""
        if self.binding.limits.ids_return:
            return None
        holders = (row for row in tx.uploads.holders(self.binding.id, remote_id) if row.path != upload.path)
        without_document = UploadState.DROPPED, UploadState.GONE, UploadState.TOMBSTONE
        return next((row for row in holders if row.state not in without_document), None)

    def _record_end(self, tx: Tx, changed: Upload) -> DocumentEvent | None:
        """Save the row, then re-evaluate its path. Return an event if the upload has failed."""
        self._save_and_decide(tx, changed)
        return self._record(tx, self._make_event(changed)) if changed.state is UploadState.FAILED else None

    def _accept(self, tx: Tx, upload: Upload, replaced: bool = False) -> DocumentEvent | None:
        """Save the row of a document that the target has.

        If the document has become searchable, retire its predecessor.
        """
        rows = self.uploads(tx, upload.path)
        predecessors = [row for row in rows if row.state.serves and row.id != upload.id]
        if replaced and upload.state is UploadState.INDEXING:
            self._removed_before(tx, upload)
        # The same bytes served the file under a different name before, so this was a rename.
        if upload.predecessor is not None and (before := tx.uploads.get(upload.predecessor)) is not None:
            predecessors.append(before)
        old_path = next((row.label for row in predecessors if row.version == upload.version), None)
        if upload.state is UploadState.SERVING:
            self._enter_service(tx, upload, replaced=replaced)
        else:
            tx.uploads.save(upload)
        self.decide(tx, upload.path)
        # A document that we never requested was adopted, which isn't an event.
        if upload.state is not UploadState.SERVING or upload.sent_at is None:
            return None
        event = self._make_event(upload)
        if old_path is None:
            return self._record(tx, event)
        return self._record(tx, replace(event, event="document.renamed"), old_path)

    def _removed_before(self, tx: Tx, upload: Upload) -> None:
        """Record that the file's old document was removed first.

        Until the new document is ready, searches find no version of the file. If the new document can't be
        indexed, they never will.
        """
        for old in self.uploads(tx, upload.path):
            if old.state.serves and old.id != upload.id and old.remote_id != upload.remote_id:
                tx.removals.release(old.id)
                tx.uploads.save(lifecycle.mark_deleted(old, self.timing))

    def record_status(
        self, tx: Tx, number: int, status: DocStatus, remedy: Remedy = Remedy.NONE
    ) -> DocumentEvent | None:
        """Record the status of a document that was being indexed. A failure has already been handled."""
        if (upload := tx.uploads.get(number, UploadState.INDEXING)) is None:
            return None
        timing = self.timing
        orphan = self.orphan_with(tx, upload, status.twin) if remedy is Remedy.ORPHAN else None
        if orphan is not None and upload.purpose is Purpose.SERVE:
            # A file that was renamed while the state was lost gets its old document back.
            tx.uploads.save(lifecycle.retire(upload, timing))
            tx.uploads.give(orphan.id, upload.path)
            self.decide(tx, upload.path)
            return None
        match status.state:
            case DocState.READY:
                return self._accept(tx, lifecycle.serve(upload))
            case DocState.FAILED if remedy is Remedy.AWAITED:
                changed = lifecycle.await_target(upload, status.halt, status.reason, timing)
            case DocState.FAILED if remedy is Remedy.ASKED:
                changed = lifecycle.repair(
                    upload, status.reason, timing, spent=not status.halt, first_pause=status.pause
                )
            case DocState.FAILED:
                return self._failed_to_index(tx, upload, status, remedy)
            case DocState.MISSING:
                changed = lifecycle.mark_vanished(upload, timing)
                if changed.state is not UploadState.INDEXING:
                    reason = "accepted, but then missing from the target"
                    vanished = DocStatus(DocState.MISSING, reason, "vanished")
                    return self._failed_to_index(tx, changed, vanished)
            case _:
                is_working, is_queued = status.state is DocState.INDEXING, remedy is Remedy.QUEUED
                changed = lifecycle.wait_on(
                    upload,
                    timing,
                    is_working=is_working,
                    is_queued=is_queued,
                    least=status.pause,
                    reason=status.reason if status.pause else "",
                )
                tx.uploads.save(changed)
                return None  # the report changes nothing
        self._save_and_decide(tx, changed)
        return None

    def orphan_with(self, tx: Tx, upload: Upload, twin: str) -> Upload | None:
        """Return the adopted document `twin` if it has this upload's bytes and no file needs it.

        A file at its path doesn't need it if the file has other bytes or isn't selected by the mirror.
        """
        for row in tx.uploads.by_remote(self.binding.id, twin):
            is_adoptable = row.state is UploadState.ADOPTING and row.path != upload.path
            if is_adoptable and digests_match(row.digest, row.size, upload.digest, upload.size):
                entry = tx.entries.get(self.binding.mirror, row.path)
                desired = None if entry is None else self.desired(entry)
                if (
                    desired is None
                    or removal_cause(desired)
                    or not (is_undecided(desired) or proves(row, desired))
                ):
                    return row
        return None

    def is_to_be_resliced(self, tx: Tx, number: int) -> bool:
        """Return whether the target must reindex this document and may now be asked to."""
        upload = None if self.is_paused(tx) else tx.uploads.get(number, UploadState.INDEXING)
        return upload is not None and upload.phase is Phase.TO_CUT

    def record_reslice(self, tx: Tx, number: int, remedy: Remedy) -> None:
        """Record that the target was asked to reindex a document.

        If it can't, a new upload replaces the document.
        """
        upload = tx.uploads.get(number, UploadState.INDEXING)
        if upload is None or upload.phase is not Phase.TO_CUT:
            return
        timing = self.timing
        match remedy:
            case Remedy.ASKED:
                tx.uploads.save(lifecycle.repair(upload, "", timing, spent=False))
            case Remedy.LATER if not lifecycle.is_overdue(upload, timing):
                tx.uploads.save(lifecycle.wait_on(upload, timing))
            case _:
                tx.uploads.save(lifecycle.retire(upload, timing))
        self.decide(tx, upload.path)

    def record_proof(self, tx: Tx, number: int, digest: str | None) -> None:
        """Record the digest of an adopted document's bytes, or None if they aren't available now."""
        if (upload := tx.uploads.get(number, UploadState.ADOPTING)) is None:
            return
        updated = replace(upload, attempts=upload.attempts + 1, due_at=None)
        if digest is None and updated.attempts < PROOF_TRIES:
            tx.uploads.save(
                lifecycle.delete_put_off(updated, "its bytes could not be read", None, self.timing)
            )
            return
        tx.uploads.save(updated)
        tx.uploads.set_content(number, digest=digest or UNREADABLE)
        self.decide(tx, upload.path)

    def release_blamed(self, tx: Tx, paths: Collection[str], code: str, reason: str) -> None:
        """Send documents again if the target was to blame for their rejection. Such rejections don't count as
        attempts (promise 9).
        """
        for path in paths:
            for upload in self.uploads(tx, path):
                if upload.state is UploadState.FAILED and upload.code == code and upload.remote_id is None:
                    tx.uploads.save(lifecycle.refund(upload, reason, self.timing))
                    self.decide(tx, path)

    def _failed_to_index(
        self, tx: Tx, upload: Upload, why: DocStatus, remedy: Remedy = Remedy.NONE
    ) -> DocumentEvent | None:
        """Handle a document that can't be indexed even after retries.

        Upload it again while tries are left, otherwise quarantine it.
        """
        # Upload again after the target was asked to index again, or if it can't be asked. If the account is
        # to blame, this doesn't count as a try. A document hidden by a user stays hidden.
        offered = self.binding.abilities.reembeds and remedy is not Remedy.NOT_OFFERED
        tries = self.binding.limits.reembed_tries + (1 if offered else 0)
        if not why.is_final and (why.halt or upload.repairs < tries):
            fresh = lifecycle.retry_upload(
                upload, why.reason, self.timing, spent=not why.halt, first_pause=why.pause
            )
            if not self.binding.limits.marks:
                fresh = replace(fresh, name=self._next_name(tx, upload))
            is_there = upload.state is UploadState.INDEXING
            tx.uploads.save(lifecycle.retire(upload, self.timing) if is_there else upload)
            tx.uploads.add(fresh)
            self.decide(tx, fresh.path)
            return None
        failed = lifecycle.reject(upload, why.reason, why.code)
        return self._record_end(tx, replace(failed, attempts=upload.repairs))

    def record_search(
        self,
        tx: Tx,
        number: int,
        listed: Listed | None,
        started_at: float,
        doubt: Listed | None = None,
    ) -> DocumentEvent | None:
        """Record whether a complete list, begun at `started_at`, has the document of an unsure, lost or
        deleted row.

        `doubt`: a document that may be the upload's web page, without proof.
        """
        upload = tx.uploads.get(number)
        is_by_name = upload is not None and upload.remote_id is None and not self.binding.limits.marks
        if listed is not None and is_by_name:  # another upload may have the document
            holders = tx.uploads.holders(self.binding.id, listed.remote_id)
            if any(not (row.state.is_final and self.binding.limits.ids_return) for row in holders):
                listed = None
        match upload:
            case Upload(state=UploadState.UNSURE) if listed is None:
                changed = lifecycle.not_found(upload, self.timing, started_at)
                if doubt is not None and changed.state is UploadState.PRESUMED_LOST:
                    return self._unproven(tx, upload, doubt)
            case Upload(state=UploadState.TOMBSTONE) if listed is None:
                changed = lifecycle.mark_gone(upload, self.timing)
            case Upload(state=UploadState.PRESUMED_LOST) if listed is None:
                changed = lifecycle.still_lost(upload, self.timing)
            case Upload(state=UploadState.TOMBSTONE):
                changed = lifecycle.still_there(upload, self.timing)
            case Upload(state=UploadState.UNSURE | UploadState.PRESUMED_LOST) if listed is not None:
                return self._handle_late_appearance(tx, upload, listed)
            case _:
                return None
        self._save_and_decide(tx, changed)
        if upload.state is UploadState.UNSURE and changed.state is not UploadState.UNSURE:
            # The document is resent. The count of losses continues, and too many losses fail the upload
            # (promise 9).
            for row in self.uploads(tx, changed.path):
                if row.state is UploadState.INTENDED and row.version == changed.version:
                    fresh = lifecycle.send_after_loss(row, changed, self.timing)
                    if fresh.state is UploadState.FAILED:
                        return self._record_end(tx, fresh)
                    tx.uploads.save(fresh)
        return None

    def _unproven(self, tx: Tx, upload: Upload, doubt: Listed) -> DocumentEvent | None:
        """Fail the upload of a web page whose response was lost, because a document that isn't proven to be
        ours could be that page.
        """
        # If the page is sent again, it may exist twice; if the document is adopted, it may be foreign
        # (promise 6). So a user decides.
        if upload.purpose is Purpose.RETIRE:
            tx.uploads.save(lifecycle.drop(upload))
            return None
        name = printable(doubt.name)[:100]
        reason = (
            f"the upload got no response, and a document created at that time may be this web page ({name}, "
            f"{doubt.remote_id}); if so, delete that document on the service, then retry this document"
        )
        return self._record_end(tx, lifecycle.reject(upload, reason, UNPROVEN))

    def _handle_late_appearance(self, tx: Tx, upload: Upload, listed: Listed) -> DocumentEvent | None:
        """Handle a document that appeared after kbsync had given up on its upload.

        Let it serve its path only if no other document does.
        """
        # The target's list was this late: from now on, wait twice as long before an absence counts.
        lag = min(lifecycle.lag_seen(upload), MAX_LIST_LAG)
        if lag > self._lag:
            self._lag = lag
            tx.meta.set(BindingFact.LAG, self.binding.id, f"{lag:.1f}")
        is_ready = listed.state is DocState.READY
        replaced = self._has_text_of_server(tx, upload)
        # Whether searches find another document at this path, or soon will: if this one isn't ready, another
        # upload of the same version that is in flight counts too. Without a row, no file needs it now.
        rows = [row for row in self.uploads(tx, upload.path) if row.id != upload.id]
        is_coming = any(row.state.in_flight and row.version == upload.version for row in rows)
        is_served = tx.entries.get(self.binding.mirror, upload.path) is None or (is_coming and not is_ready)
        is_served |= any(row.state.serves and not self._has_text_of(upload, row) for row in rows)
        if upload.state is UploadState.PRESUMED_LOST and is_served:
            upload = lifecycle.unwant(upload)
        elif replaced:
            upload = lifecycle.want(upload)
        accepted = lifecycle.accept(upload, listed.remote_id, is_ready, self.timing)
        name = accepted.name if is_address(accepted.name) else listed.name or accepted.name
        return self._accept(tx, replace(accepted, name=name), replaced)

    def _has_text_of_server(self, tx: Tx, upload: Upload) -> bool:
        """Return whether kbsync removed the document that served the path before this upload."""
        rows = self.uploads(tx, upload.path)
        return any(row.state.serves and self._has_text_of(upload, row) for row in rows)

    def _has_text_of(self, upload: Upload, old: Upload) -> bool:
        """Return whether kbsync removed the old document before this upload, because the target stores each
        text only once.
        """
        is_same = upload.predecessor == old.id and upload.digest == old.digest
        return is_same and self.binding.texts_once

    def _doubt_server(self, tx: Tx, changed: Upload, *, may_be_back: bool = False) -> None:
        """Record that a rename failed and the file has its old name again (or, with `may_be_back`, may have
        it).
        """
        # Check whether its old document was removed for the new one.
        if not (changed.attempts or changed.reason) or not self._has_text_of_server(tx, changed):
            return
        for row in self.uploads(tx, changed.path):
            if row.state is UploadState.SERVING and (may_be_back or row.label == row.path):
                tx.uploads.save(lifecycle.poll_again(row, self.timing))

    def record_delete(self, tx: Tx, number: int, outcome: DeleteOutcome) -> DocumentEvent | None:
        """Record the target's response to a delete."""
        if (upload := tx.uploads.get(number, UploadState.RETIRING)) is None:
            return None
        timing = self.timing
        # A failed try never served its path, so deleting it removes nothing from searches.
        is_retired = upload.purpose is Purpose.RETIRE or any(
            row.id != upload.id and (row.state.serves or row.state.in_flight)
            for row in self.uploads(tx, upload.path)
        )
        match outcome:
            case None:
                changed = lifecycle.mark_deleted(upload, timing)
            case Rejected() if not may_be_from_gateway(outcome):
                changed = lifecycle.delete_refused(upload, outcome.reason, outcome.code, timing)
            case Unavailable():
                changed = lifecycle.delete_put_off(upload, outcome.reason, outcome.retry_after, timing)
            case _:
                changed = lifecycle.delete_put_off(upload, outcome.reason, None, timing)
        self._save_and_decide(tx, changed)
        if outcome is not None:
            return None
        deleted = replace(upload, reason="", code="")  # reasons of earlier tries are obsolete
        return self._record(
            tx, DocumentEvent("document.retired" if is_retired else "document.deleted", deleted)
        )

    def record_rename(self, tx: Tx, number: int, label: str) -> DocumentEvent | None:
        """Record that the target has the document under its new path."""
        if (upload := tx.uploads.get(number, *SERVING)) is None:
            return None
        name = self.binding.naming.name(label, upload.digest)
        changed = lifecycle.relabel(upload, label, name)
        self._save_and_decide(tx, changed)
        renamed = replace(changed, path=label, attempts=upload.attempts)
        return self._record(tx, DocumentEvent("document.renamed", renamed), upload.label)

    def record_rename_failure(self, tx: Tx, number: int, reason: str, wait: float | None) -> None:
        """Record that the rename got no response. Repeating the rename is safe."""
        if (upload := tx.uploads.get(number, *SERVING)) is not None:
            updated = lifecycle.begin_delete(upload)
            tx.uploads.save(lifecycle.delete_put_off(updated, reason, wait, self.timing))

    def record_refused_rename(self, tx: Tx, number: int) -> None:
        """Record that the target refused the new path for this document."""
        if (upload := tx.uploads.get(number, *SERVING)) is not None:
            self._save_and_decide(tx, lifecycle.rename_refused(upload))

    def recover(self, tx: Tx, busy: Collection[int] = (), *, spent: bool = True) -> None:
        """Mark every upload in flight as unsure, except for the `busy` ones, which are still running.

        Also bring forward rows whose due times were set while the clock was ahead. `spent`: whether to count
        the attempt, because the document may be to blame, for example if it crashed kbsync.
        """
        sending = tx.uploads.in_states(
            self.binding.mirror, self.binding.id, (UploadState.SENDING,), limit=1_000_000
        )
        for upload in (row for row in sending if row.id not in busy):
            doubted = lifecycle.doubt(upload, "interrupted while sending", self.timing, spent=spent)
            if not spent:  # a restart doesn't extend the wait
                doubted = replace(doubted, attempts=max(0, doubted.attempts - 1))
            self._save_and_decide(tx, doubted)
        tx.uploads.bring_forward(self.binding.mirror, self.binding.id, self._clock.wall())

    def _save_and_decide(self, tx: Tx, changed: Upload) -> None:
        """Save the row, then re-evaluate its path."""
        tx.uploads.save(changed)
        if changed.state in (UploadState.DROPPED, UploadState.PRESUMED_LOST):
            self._doubt_server(tx, changed)
        self.decide(tx, changed.path)

    def _record(self, tx: Tx, event: DocumentEvent, former: str = "") -> DocumentEvent:
        """Record an event in the history. `former`: the path before a rename."""
        upload, kind = event.upload, _HISTORY.get(event.event)
        if kind is HistoryEvent.UPLOADED and event.replaced:
            kind = HistoryEvent.REPLACED
        if kind is not None:
            former = "" if former == event.path else former
            reason = upload.reason if kind is HistoryEvent.FAILED else ""
            self.add_to_history(tx, kind, event.path, upload, former=former, reason=reason)
        return event

    def _make_event(self, upload: Upload) -> DocumentEvent:
        """Return the log line for a document that is ready, failed, or skipped because it has no text."""
        now, event_name = self.timing.now, "document.ready"
        if upload.state is UploadState.FAILED:
            is_skipped = upload.is_without_text and upload.predecessor is None
            event_name = "document.skipped" if is_skipped else "document.failed"
        accepted = now if upload.accepted_at is None else upload.accepted_at
        sent_at = accepted if upload.sent_at is None else min(upload.sent_at, accepted)
        phases = {
            "waiting": sent_at - upload.created_at,
            "sending": accepted - sent_at,
            "indexing": now - accepted,
        }
        return DocumentEvent(
            event_name,
            upload,
            {name: max(0.0, seconds) for name, seconds in phases.items()},
            may_succeed=event_name == "document.failed" and upload.code not in NEEDS_CHANGE,
        )

    def hurry(self, tx: Tx, ids: Collection[str]) -> bool:
        """Schedule an early poll of documents being indexed with these remote ids.

        Return whether there are any.
        """
        binding, is_ours = self.binding, False
        for remote_id in ids:
            for row in tx.uploads.by_remote(binding.id, remote_id):
                if row.mirror == binding.mirror and lifecycle.may_be_hurried(row):
                    tx.uploads.save(lifecycle.hurry(row, self.timing))
                    is_ours = True
        return is_ours


_VERDICTS = {FileChoice.REFUSED: "document.failed", FileChoice.SKIPPED: "document.skipped"}
"""Events of files that fail or are skipped before any upload."""

_HISTORY = {
    "document.ready": HistoryEvent.UPLOADED,
    "document.renamed": HistoryEvent.RENAMED,
    "document.deleted": HistoryEvent.DELETED,
    "document.failed": HistoryEvent.FAILED,
}


def _cause(verdict: Verdict) -> tuple[FileChoice, str]:
    return verdict.choice, verdict.rule or verdict.reason


def _not_seen_yet(path: str, now: float) -> FileRow:
    return FileRow(path, NO_STAMP, None, SELECTED, True, Presence.PRESENT, Status.PENDING, now)
