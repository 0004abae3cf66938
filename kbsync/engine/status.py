"""A mirror's state as users see it: counts in constant time, and every file on request.

All functions read in the caller's transaction, and none of them reads the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, field, replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.core.model import (
    DESELECTED,
    EMPTIED,
    GONE,
    NEEDS_CHANGE,
    SCANNED,
    UNMOUNTED,
    FileChoice,
    Presence,
    Status,
    Upload,
    UploadState,
    serving,
)
from kbsync.core.text import format_size, shell_word
from kbsync.dataclass import dataclass
from kbsync.errors import EMBED, Halted
from kbsync.file_systems import DISK_FAILED, has_failed
from kbsync.state.approvals import DELETIONS, RENEWALS, Extent, Hold
from kbsync.state.db import DISK_FULL, is_disk_full
from kbsync.state.files import FileRow, folder_label
from kbsync.state.forgotten import ForgottenBase
from kbsync.state.history import HistoryEntry
from kbsync.state.lock import Holder
from kbsync.state.mirrors import Halt, MirrorFact, MirrorRecord, Pause
from kbsync.state.read_only import Tx

if TYPE_CHECKING:
    from kbsync.engine.mirror import Mirror


SHOWN = (
    Status.READY,
    Status.INDEXING,
    Status.PENDING,
    Status.FAILED,
    Status.HELD,
    Status.KEPT,
    Status.SKIPPED,
)
DELETIONS_HELD = "deletions-held"
RECIPE_HELD = "recipe-held"
OUT_OF_DATE = "an outdated version is still searchable"
AS_LAST_READ = "still searchable, as of the last time the file was readable"
OLD_NAME = "still searchable under its old name, {}"

CommandLine = Callable[[str], str]
"""Adds the options in use to a command, so that it can be pasted."""

# -- why a mirror is halted, in the contract's words ------------------------------------------------------

TARGET_DOWN = "target-down"
FOLDER_MISSING = "folder-missing"
"""The folder is missing, unreadable, or a mount point with nothing mounted."""
CREDENTIALS = "credentials"
"""The target rejected the key or the account."""
BAD_CONFIG = "config"
"""Something that the config refers to is unusable now, although it was valid (or wasn't checked) when the
config was read."""
FAILING = "failing"
TARGET_STUCK = "target-stuck"
"""The target accepts documents but never finishes any."""
PASSING = (TARGET_DOWN, FAILING)
"""Halts that don't need a user's attention: the problem resolves itself, or kbsync retries anyway."""

HALT_WORDS = {
    FOLDER_MISSING: "folder not readable",
    CREDENTIALS: "key refused",
    "quota": "account used up",
    "knowledge-base-missing": "knowledge base not found",
    "knowledge-base-emptied": "knowledge base was emptied",
    "embedding": "embedding model not usable",
    "target-rejects": "documents refused",
    TARGET_STUCK: "indexing is stuck",
    TARGET_DOWN: "knowledge base not reachable",
    BAD_CONFIG: "settings not usable",
    FAILING: "work interrupted",
    DELETIONS_HELD: "deletions are waiting for your approval",
    RECIPE_HELD: "new settings are waiting for your approval",
}
"""The reasons in the contract, in plain words."""
EMBEDDING_DOWN = "embedding service not reachable"
"""The wording for `TARGET_DOWN` if only the knowledge base's embedding service is to blame."""

RELEASED = ("target-rejects", TARGET_STUCK)
"""Halts caused by documents that no pass retries automatically, so that a user has to release them."""


def with_retry_command(halt: Halt, name: str, write: Callable[[str], str], *, at_work: bool) -> Halt:
    """Return the halt of the mirror `name`, with the command that resumes the work once the cause has been
    resolved.

    The command depends on when the halt is read. While another process is `at_work`, no second one may run,
    so the command is `retry`, which makes the running process try at once. Otherwise, nothing would read that
    message, so the command runs a pass.
    """
    retry, once = f"retry --mirror {name}", f"--once --mirror {name}"
    if halt.reason in RELEASED or not halt.fix.startswith((f"kbsync {retry}", f"kbsync {once}")):
        return halt
    # with the options of the command that displays the halt
    return replace(halt, fix=write(retry if at_work else once))


def only_retries(halt: Halt) -> bool:
    """Return whether the command only resumes the work after a user has fixed the cause described in the
    detail.
    """
    return halt.reason not in RELEASED and only_resumes(halt.fix)


def only_resumes(fix: str) -> bool:
    """Return whether a fix is a command that only resumes the work."""
    return fix.startswith(("kbsync retry", "kbsync --once"))


def halt_words(reason: str, detail: str = "") -> str:
    """Return the reason for a halt in plain words. JSON, metrics and logs use the reason's code instead.

    `detail`: the halt's detail, which shows whether an embedding service is unreachable.
    """
    if reason == TARGET_DOWN and detail.startswith(f"{EMBED}: "):
        return EMBEDDING_DOWN
    return HALT_WORDS.get(reason, reason.replace("-", " "))


def halt_sentence(halt: Halt) -> str:
    """Return the reason, detail and command of a halt as text."""
    return f"{halt_words(halt.reason, halt.detail)}: {in_words(halt)}"


def in_words(halt: Halt) -> str:
    """Return the detail and command of a halt as text."""
    if not halt.fix:
        return halt.detail
    return f"{halt.detail}; {'then run' if only_retries(halt) else 'fix'}: {halt.fix}"


def as_halt(error: Halted, name: str, write: Callable[[str], str]) -> Halt:
    """Return the halt to show for the mirror `name`. `write` turns a kbsync command into one that can be
    pasted.

    If an error has no fix, add the command that retries after a user has acted.
    """
    fix = error.fix or f"kbsync retry --mirror {name}"
    ours = fix.startswith("kbsync ")
    return Halt(error.halt, error.reason, write(fix.removeprefix("kbsync ")) if ours else fix)


# -- documents and files -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DocumentCounts:
    """The number of files in each state. `failed` includes directories that can't be listed."""

    ready: int = 0
    indexing: int = 0
    pending: int = 0
    failed: int = 0
    held: int = 0
    skipped: int = 0
    kept: int = 0

    def to_json(self) -> dict[str, int]:
        """Return `documents` as the JSON contract defines it. It has `kept` only if something is kept."""
        counts = {status.word: getattr(self, status.word) for status in SHOWN}
        return {name: n for name, n in counts.items() if n or name != Status.KEPT.word}


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A file, or a directory that can't be listed (its path ends in `/`).

    `document_id`: the document that now serves the file, perhaps an older version. `size`: in bytes, or None
    if unknown. `may_succeed`: whether a retry of a failed file may succeed without changes to the file or the
    settings.
    """

    path: str
    state: Status
    document_id: str | None
    size: int | None
    reason: str
    may_succeed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return an item as the JSON contract defines it."""
        return {
            "path": self.path,
            "state": self.state.word,
            "document_id": self.document_id,
            "size": self.size,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """All files to show, one at a time. It can be iterated repeatedly within its transaction."""

    tx: Tx
    record: MirrorRecord
    halt: Halt | None
    command_line: CommandLine = lambda command: f"kbsync {command}"

    def __iter__(self) -> Iterator[FileStatus]:
        """Yield the directories that can't be listed, then the files by directory and name."""
        yield from self.unlisted()
        for entry in self.tx.entries.visible(self.record.id):
            yield self.of(entry)

    def in_state(
        self, status: Status, limit: int | None = None, *, in_order: bool = True
    ) -> Iterator[FileStatus]:
        """Yield at most `limit` files in one state. Directories that can't be listed count as failed."""
        folders = self.unlisted() if status is Status.FAILED else ()
        entries = self.tx.entries.of_status(
            self.record.id, status, -1 if limit is None else limit, in_order=in_order
        )
        return islice(chain(folders, map(self.of, entries)), limit)

    def unlisted(self) -> Iterator[FileStatus]:
        """Yield the directories that can't be listed."""
        for folder in self.tx.folders.problems(self.record.id):
            if not folder.is_excluded:
                label = folder_label(folder.path)
                reason = with_approve_command(folder.problem, self.record.name, self.command_line)
                yield FileStatus(label, Status.FAILED, None, None, reason, may_succeed=True)

    def of(self, entry: FileRow) -> FileStatus:
        """Return the status of one file of this mirror."""
        binding, uploads = self.record.binding, list[Upload]()
        is_skipped = entry.verdict.choice is FileChoice.SKIPPED and entry.status is not Status.KEPT
        if binding is not None and not is_skipped:
            uploads = self.tx.uploads.at_path(self.record.id, binding, entry.path)
        server = serving(uploads)
        size = entry.stamp.size if entry.stamp.size >= 0 else (server.known_size if server else None)
        document = None if server is None else server.remote_id
        reason = self._reason(entry, uploads, server)
        return FileStatus(entry.path, entry.status, document, size, reason, may_succeed(entry, uploads))

    def _reason(self, entry: FileRow, uploads: list[Upload], server: Upload | None) -> str:
        match entry.status:
            case Status.SKIPPED if entry.verdict.choice is FileChoice.SELECTED:
                return self._refusal(entry, uploads)  # sent, but there was no text in it
            case Status.SKIPPED:
                return entry.verdict.reason
            case Status.FAILED:
                is_refused = entry.verdict.choice is FileChoice.REFUSED
                refusal = entry.verdict.reason if is_refused else self._refusal(entry, uploads)
                if server is None:
                    return refusal
                return "; ".join(filter(None, [refusal, which_version(entry, server)]))
            case Status.HELD if awaits_renewal(entry, server):
                return "settings changed; waiting for approval to reindex the document"
            case Status.HELD:
                return "waiting for approval to delete the document"
            case Status.KEPT:
                return why_kept(entry)
            case Status.PENDING:
                # The target's last reason, or why the whole mirror waits.
                refusal = next((u.reason for u in reversed(uploads) if u.reason and not u.state.serves), "")
                return refusal or (self.halt.detail if self.halt is not None else "")
            case _:
                return ""

    def _refusal(self, entry: FileRow, uploads: list[Upload]) -> str:
        return refusal(Path(self.record.folder, entry.path), uploads)


def may_succeed(entry: FileRow, uploads: Sequence[Upload]) -> bool:
    """Return whether the file failed but a retry may succeed without changes to its bytes or to the
    settings.
    """
    if entry.status is not Status.FAILED:
        return False
    if entry.verdict.choice is FileChoice.REFUSED:
        return is_unread(entry)
    last = last_failure(uploads)
    return last is None or last.code not in NEEDS_CHANGE


def is_unread(entry: FileRow) -> bool:
    """Return whether the last attempt to read the file failed, which leaves it unknown whether its bytes have
    changed.
    """
    return entry.verdict.choice is FileChoice.REFUSED and entry.stamp.size < 0


def which_version(entry: FileRow, server: Upload) -> str:
    """Return a clause that says which version of a failed file is still searchable."""
    if is_unread(entry):
        return AS_LAST_READ
    return OLD_NAME.format(server.label) if keeps_old_name(entry, server) else OUT_OF_DATE


def with_approve_command(problem: str, mirror: str, command_line: CommandLine) -> str:
    """Return why a directory of the mirror couldn't be listed, with the command that accepts the directory as
    it is.
    """
    if problem != UNMOUNTED:
        return problem
    approve = command_line(f"approve {mirror}")
    return f"{problem}, or, if the disk is gone for good, run `{approve}`"


def found_state(tx: Tx, record: MirrorRecord, entry: FileRow, document_id: str) -> tuple[Status, str]:
    """Return the state of a file whose document a search found, and why the document is outdated, or ""."""
    if _has_current_bytes(tx, record, entry, document_id):
        # The target hasn't confirmed yet that the document is searchable, or new settings will reindex it.
        return Status.READY, ""
    return entry.status, _why_old(tx, record, entry)


def _has_current_bytes(tx: Tx, record: MirrorRecord, entry: FileRow, document_id: str) -> bool:
    """Return whether the document of a waiting file was made from the file's current bytes."""
    is_waiting = entry.status in (Status.PENDING, Status.INDEXING) and entry.presence is not Presence.GONE
    if not is_waiting or record.binding is None:
        return False
    uploads = tx.uploads.at_path(record.id, record.binding, entry.path)
    # An upload has no id until the target's response has been recorded.
    made_by = [upload for upload in uploads if upload.remote_id == document_id] or [
        upload for upload in uploads if upload.remote_id is None
    ]
    return bool(made_by) and all(upload.digest == entry.digest for upload in made_by)


def _why_old(tx: Tx, record: MirrorRecord, entry: FileRow) -> str:
    why = ""
    match entry.status:
        case Status.READY:
            return ""
        case Status.PENDING | Status.INDEXING:
            why = "the file is gone" if entry.presence is Presence.GONE else "the file has changed since"
        case Status.EXCLUDED | Status.SKIPPED:
            why = "the file is no longer mirrored"
        case Status.HELD if entry.presence is Presence.GONE:
            why = CAUSES[GONE]
    return "; ".join(filter(None, [why, Items(tx, record, record.halt).of(entry).reason]))


def keeps_old_name(entry: FileRow, server: Upload) -> bool:
    """Return whether searches still find the file's current content under its path before a rename."""
    return server.digest == entry.digest and server.label != entry.path


def why_kept(entry: FileRow) -> str:
    """Return why a file still has a document although it shouldn't."""
    left_out = {FileChoice.EXCLUDED: DESELECTED, FileChoice.SKIPPED: EMPTIED}
    cause = GONE if entry.presence is Presence.GONE else left_out.get(entry.verdict.choice, "")
    return f"{CAUSES.get(cause, UNSEEN)}; its document is kept"


CAUSES = {
    GONE: "the file is gone",
    DESELECTED: "the file is no longer selected",
    EMPTIED: "the file is empty now",
}
"""Sentences that say why a file should have no document."""

WITHDRAWN = {
    GONE: "the file is back",
    DESELECTED: "the file is selected again",
    EMPTIED: "the file has content again",
}
"""For each cause of a deletion, a sentence that says why the deletion is no longer held, although nobody
approved it.
"""

UNSEEN = "kbsync can't tell whether the file exists"


def awaits_renewal(entry: FileRow, server: Upload | None) -> bool:
    """Return whether reindexing the serving document with new settings needs approval."""
    return entry.status is Status.HELD and server is not None and bool(server.wanted_recipe)


def last_failure(uploads: Sequence[Upload]) -> Upload | None:
    """Return the upload that failed most recently, or None if none failed."""
    return next((u for u in reversed(uploads) if u.state is UploadState.FAILED), None)


def refusal(path: Path, uploads: Sequence[Upload]) -> str:
    """Return the target's last message about the file at `path`.

    For a scanned PDF, also return the command that adds text to it.
    """
    last = last_failure(uploads)
    if last is None:
        return ""
    if last.code == SCANNED and path.suffix.lower() == ".pdf":
        file = shell_word(os.fspath(path))
        return f"{last.reason}; `ocrmypdf --skip-text {file} {file}` adds a text layer"
    return last.reason


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """A mirror's state. `last_pass`: when the whole folder was last compared, in epoch seconds; None before
    the first time.

    `oldest_pending_s`: the age in seconds of the oldest waiting file, 0.0 if none waits. `pause`: set while
    the mirror is paused. `note`: a remark that isn't a halt. `unkept`: promises that its target doesn't keep,
    by number, with the actual behavior. `index_bytes`: the size of a built-in knowledge base's files.
    `better`: how many passages have a vector from the better model, and how many there are; None without the
    `better` extra. `items`: None unless requested.
    """

    name: str
    folder: str
    target: str
    documents: DocumentCounts
    oldest_pending_s: float = 0.0
    last_pass: float | None = None
    halt: Halt | None = None
    pause: Pause | None = None
    note: str = ""
    unkept: Mapping[int, str] = field(default_factory=dict)
    index_bytes: int | None = None
    better: tuple[int, int] | None = None
    items: Iterable[FileStatus] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a mirror as the JSON contract defines it, but without its `items`.

        `index_bytes`, `paused`, `note`, `unkept` and `better_vectors` are omitted if they are empty.
        """
        fields: dict[str, Any] = {
            "name": self.name,
            "folder": self.folder,
            "target": self.target,
            "documents": self.documents.to_json(),
            "oldest_pending_s": round(self.oldest_pending_s, 3),
            "last_pass": None if self.last_pass is None else iso(self.last_pass),
            "halt": None if self.halt is None else halt_json(self.halt),
        }
        if self.index_bytes is not None:
            fields["index_bytes"] = self.index_bytes
        if self.pause is not None:
            fields["paused"] = pause_json(self.pause)
        if self.note:
            fields["note"] = self.note
        if self.unkept:
            fields["unkept"] = {str(number): instead for number, instead in self.unkept.items()}
        if self.better is not None:
            fields["better_vectors"] = {"made": self.better[0], "passages": self.better[1]}
        return fields

    def json_pieces(self) -> Iterator[str]:
        """Yield the JSON text, including the `items`, in pieces, because a mirror may contain a very large
        number of files.
        """
        text = json.dumps(self.to_json())
        if self.items is None:
            yield text
            return
        yield text[:-1] + ', "items": ['
        between = ""
        for item in self.items:
            yield between + json.dumps(item.to_json())
            between = ", "
        yield "]}"


def halt_json(halt: Halt) -> dict[str, str]:
    """Return `halt` as the JSON contract defines it."""
    return {"reason": halt.reason, "detail": halt.detail, "cure": halt.fix}


def pause_json(pause: Pause) -> dict[str, str | None]:
    """Return `since` and `until` in ISO 8601, and the `reason`.

    If only a user can end the pause, `until` is null.
    """
    until = None if pause.until is None else iso(pause.until)
    return {"since": iso(pause.since), "until": until, "reason": pause_reason(pause)}


def pause_reason(pause: Pause) -> str:
    """Return why a mirror is paused, as worded in JSON, metrics and logs."""
    return "quiet-hours" if pause.is_quiet else "requested"


def describe_pause(pause: Pause) -> str:
    """Return why a mirror is paused, since when and, if the pause ends by itself, until when."""
    until = "" if pause.until is None else f" until {clock_time(pause.until)}"
    return f"{'quiet hours' if pause.is_quiet else 'paused'} since {clock_time(pause.since)}{until}"


def running_json(daemon: Holder | None) -> dict[str, Any] | None:
    """Return `running` as the JSON contract defines it: the daemon that holds the state, or None if there is
    none.
    """
    return None if daemon is None else {"pid": daemon.pid, "since": iso(daemon.since)}


def history_json(entries: Sequence[HistoryEntry], limit: int) -> dict[str, Any]:
    """Return the latest `limit` events, oldest first, and whether there are `more`."""
    events = [{**entry.to_json(), "at": iso(entry.at)} for entry in entries[-limit:]]
    return {"events": events, "more": len(entries) > limit}


def iso(moment: float) -> str:
    """Return epoch seconds as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clock_time(moment: float) -> str:
    """Return epoch seconds as local time, with the date unless it is today."""
    local = datetime.fromtimestamp(moment)
    is_today = local.date() == datetime.now().date()
    return local.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")


def mirror_status(
    tx: Tx,
    record: MirrorRecord,
    *,
    now: float,
    documents: bool = False,
    command_line: CommandLine,
    at_work: bool = True,
    unwritten: Halt | None = None,
) -> MirrorStatus:
    """Return the state of a mirror at `now` (epoch seconds). Its `items` can be read only while the
    transaction `tx` is open.

    `at_work`: whether a kbsync process holds the state. `unwritten`: a halt that the state can't store.
    """
    halt = _shown_halt(tx, record, command_line, at_work, unwritten)
    tally = tx.mirrors.tally(record.id)
    numbers = {status.word: tally.get(status, 0) for status in SHOWN}
    numbers["failed"] += sum(1 for folder in tx.folders.problems(record.id) if not folder.is_excluded)
    counts = DocumentCounts(**numbers)
    since = tx.entries.oldest_since(record.id) if counts.pending or counts.indexing else None
    notes, audit = [record.note, tx.meta.get(MirrorFact.NOTE, record.id)], last_audit(tx, record.id)
    if audit is not None and audit.binding == record.binding and audit.sentence:
        notes.append(f"{audit.sentence}: {command_line(f'verify --mirror {record.name}')}")
    return MirrorStatus(
        name=record.name,
        folder=record.folder,
        target=record.target,
        documents=counts,
        oldest_pending_s=0.0 if since is None else max(0.0, now - since),
        last_pass=record.last_pass,
        halt=halt,
        pause=tx.pauses.current(record.id, now),
        note="; ".join(filter(None, notes)),
        items=Items(tx, record, halt, command_line) if documents else None,
    )


def disk_halt(state: Path) -> Halt | None:
    """Return the halt of every mirror while the disk of `state`, the state's file or directory, is full or
    has failed.

    Only the disk itself shows this, because a state on such a disk can't store a halt.
    """
    reason = DISK_FULL if is_disk_full(state) else DISK_FAILED if has_failed(state) else ""
    return Halt(FAILING, f"{state}: {reason}", "") if reason else None


def find_halt(tx: Tx, mirror: Mirror) -> Halt | None:
    """Return a running mirror's halt or, because they count as a halt, its held deletions.

    Return None if the mirror isn't halted.
    """
    record, halt = tx.mirrors.named(mirror.settings.name), mirror.halts.shown
    if record is None or halt is not None:
        return halt
    command_line, unwritten = mirror.context.command_line, disk_halt(mirror.store.path)
    return _shown_halt(tx, record, command_line, not mirror.is_pass, unwritten)


def _shown_halt(
    tx: Tx, record: MirrorRecord, command_line: CommandLine, at_work: bool, unwritten: Halt | None
) -> Halt | None:
    """Return the mirror's halt or, without one, the deletions or documents to reindex that are waiting for
    approval.
    """
    if (halt := record.halt or unwritten) is not None:
        return with_retry_command(halt, record.name, command_line, at_work=at_work)
    details = []
    serving_count = 0 if record.binding is None else tx.uploads.serving_count(record.id, record.binding)
    deletions = sum(tx.removals.count(hold, held=True) for hold in unapproved(tx, record.id))
    if deletions:
        details.append(
            f"{deletions} of {serving_count} documents would be deleted; they stay until you approve the "
            "deletion"
        )
    renewals, changes = waiting_renewals(tx, record.id)
    if renewals.documents:
        details.append(
            f"{renewals.documents} of {serving_count} documents ({format_size(renewals.size)}) would be "
            f"reindexed with the new settings ({changes}); until you approve the reindexing, searches find "
            "the current versions"
        )
    if not details:
        return None
    detail, approve = "; ".join(details), command_line(f"approve {record.name}")
    return Halt(DELETIONS_HELD, detail, approve) if deletions else Halt(RECIPE_HELD, detail, approve)


def never_ran(
    tx: Tx, name: str, folder: str, target: str, *, command_line: CommandLine, documents: bool = False
) -> MirrorStatus:
    """Return the status of a mirror that has never run or has been forgotten."""
    note = "; ".join(describe_forgotten(base, command_line) for base in forgotten_bases(tx, name))
    return MirrorStatus(name, folder, target, DocumentCounts(), note=note, items=() if documents else None)


def forgotten_bases(tx: Tx, name: str) -> Sequence[ForgottenBase]:
    """Return the bases in which a forgotten mirror left documents. kbsync's searches don't find these
    documents.

    The result is empty for a mirror that has been added again.
    """
    return tx.forgotten.bases(name) if tx.mirrors.named(name) is None else ()


def describe_forgotten(base: ForgottenBase, command_line: CommandLine) -> str:
    """Describe the documents that a forgotten mirror left behind, with the command that deletes them."""
    documents = f"{base.documents:,} document{'' if base.documents == 1 else 's'}"
    verb, pronoun = ("is", "it") if base.documents == 1 else ("are", "them")
    command = command_line(f"forget {base.name} --delete-documents")
    return f"forgotten; {documents} {verb} still in {base.base.location}; to delete {pronoun}: {command}"


def waiting_renewals(tx: Tx, mirror: int) -> tuple[Extent, str]:
    """Return the number and size of the documents waiting for approval to be reindexed, and which settings
    changed.
    """
    holds = unapproved(tx, mirror, RENEWALS)
    extents = [tx.recipes.extent(hold) for hold in holds]
    extent = Extent(sum(e.documents for e in extents), sum(e.size for e in extents))
    return extent, ", ".join(dict.fromkeys(hold.detail for hold in holds if hold.detail))


def unapproved(tx: Tx, mirror: int, kind: str = DELETIONS) -> list[Hold]:
    """Return the holds of this kind that nobody has approved."""
    return [hold for hold in tx.holds.current(mirror, kind) if hold.approved_at is None]


CLOCKS_DIFFER = 60.0
"""Largest routine clock correction, in seconds."""


def is_fresh(status: MirrorStatus, max_age: float, now: float) -> bool:
    """Return whether the last full comparison and all waiting files are at most `max_age` seconds old."""
    if status.last_pass is None:
        return False
    age = now - status.last_pass
    # A time in the future comes from a fast clock, so it proves nothing.
    return -CLOCKS_DIFFER <= age <= max_age and status.oldest_pending_s <= max_age


# -- the result of a mirror's last audit, kept in the state -------------------------------------


@dataclass(frozen=True, slots=True)
class LastAudit:
    """The result of the last audit.

    `ended`: when the last audit of this binding ended, in epoch seconds; before that, when the first one was
    scheduled. `duplicate`, `orphaned`: how many such documents it found and left alone. `repaired`: how many
    documents it repaired. `is_audit`: whether an audit has ended, so that this is its result.
    """

    binding: int
    ended: float
    duplicate: int = 0
    orphaned: int = 0
    repaired: int = 0
    is_audit: bool = False

    @property
    def sentence(self) -> str:
        """Describe the findings for the user, or return '' if there are none."""
        counts = ((self.duplicate, "duplicate"), (self.orphaned, "orphaned document"))
        findings = " and ".join(f"{n} {problem}{'s' if n > 1 else ''}" for n, problem in counts if n)
        return f"the last audit found {findings}" if findings else ""


def last_audit(tx: Tx, mirror: int) -> LastAudit | None:
    """Return the last audit, or None if there hasn't been one yet."""
    stored = tx.meta.get(MirrorFact.AUDIT, mirror)
    return LastAudit(**json.loads(stored)) if stored else None


def keep_last_audit(tx: Tx, mirror: int, audit: LastAudit) -> None:
    """Store the last audit."""
    tx.meta.set(MirrorFact.AUDIT, mirror, json.dumps(asdict(audit)))


def clear_last_audit(tx: Tx, mirror: int) -> None:
    """Clear the last audit's findings, because a user has dealt with them. Keep the time of the audit."""
    last = last_audit(tx, mirror)
    if last is not None:
        keep_last_audit(tx, mirror, LastAudit(last.binding, last.ended))
