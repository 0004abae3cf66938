"""Explains why searches do or don't find a file: the reason, what to do about it, and the evidence.

`kbsync explain` collects the facts about one path from the disk, the rules, the state and the target, and
puts them into sentences (`_Sentences`). It takes no lock and writes nothing. The first reason that applies is
the answer; problems of the whole mirror come before problems of a single file.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbsync.contract.searching import SupportsExplain
from kbsync.contract.target import DocState, DocStatus, Target
from kbsync.core.model import (
    OUTCOME_OPEN,
    SELECTED,
    TO_BE_SENT,
    FileChoice,
    FileKind,
    Presence,
    RootIdentity,
    Status,
    Upload,
    UploadState,
    Verdict,
    serving,
)
from kbsync.core.quiet import is_old_enough, quiet_time
from kbsync.core.selection import DEFAULT, HIDDEN, IGNORE_FILE, Rules, literal_pattern
from kbsync.core.text import format_count, format_duration, format_list, path_argument
from kbsync.dataclass import dataclass
from kbsync.engine import attach
from kbsync.engine.clock import Clock
from kbsync.engine.plan import LOST, NO_CONTEXT, CommandContext
from kbsync.engine.settings import MirrorSettings
from kbsync.engine.status import (
    FOLDER_MISSING,
    SHOWN,
    TARGET_DOWN,
    FileStatus,
    Items,
    as_halt,
    awaits_renewal,
    clock_time,
    describe_pause,
    halt_sentence,
    is_unread,
    iso,
    keeps_old_name,
    may_succeed,
    only_retries,
    refusal,
    with_approve_command,
    with_retry_command,
)
from kbsync.errors import TargetError
from kbsync.file_systems import access_within
from kbsync.source.hints import ancestors
from kbsync.source.read import StableDigest, digest
from kbsync.source.roots import MAX_CHECK_SECONDS, RootError, error_words, identify
from kbsync.source.stat import PathStat, RulesUnknown, rules_at, stat_path
from kbsync.state.files import FileRow, split
from kbsync.state.mirrors import Halt, MirrorRecord, Pause
from kbsync.state.read_only import SnapshotReader, Tx

TAKES_CARE = "the running kbsync will continue automatically"

MAX_NAMED = 5
"""Maximum number of failed files to name per directory."""

_MAX_NAME_BYTES = 255
"""Maximum length of a name on Linux (NAME_MAX)."""

MAX_COMPARED, MIN_SIMILARITY = 5_000, 0.8
"""Maximum number of files to compare with an unknown path, and minimum similarity (`difflib`) of a
suggestion."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The rules' decision about a file, or about a directory above it that isn't scanned (`closed`).

    `name`: the name of the file or directory. `problem`: why the rules in its directory are unknown.
    """

    verdict: Verdict
    name: str = ""
    closed: bool = False
    problem: str = ""


@dataclass(slots=True)
class PathExplanation:
    """The facts about one path from disk, rules, state and target, the `answer`, and the evidence as
    `sentences`.

    `mirror` is None for a path outside all mirrors, about which nothing else is known.

    `age`: seconds since the file last changed; `settle_left`: for how many more seconds it must stay
    unchanged (0.0: ready). `has_same_bytes`: whether only its times, owner or mode differ from the state.
    `held_for`: why its deletion needs approval, '' if it doesn't. `pause`: the pause that keeps the next pass
    from running. `similar_path`: the file that a user may mean by a path that is unknown, '' if none is
    similar. `folder_problem`: why the last scan could not list its directory, or one above.

    For the document at the target: its `status`, its number of `chunks` and its `text`; `target_problem`: why
    the target could not be queried. For a directory: how many files `below` it are in each state, and the
    first that failed.
    """

    mirror: str | None
    path: str
    stat: PathStat
    selection: Selection | None = None
    answer: str = ""
    sentences: Sequence[str] = ()
    age: float | None = None
    settle_left: float | None = None
    has_same_bytes: bool = False
    entry: FileRow | None = None
    uploads: Sequence[Upload] = ()
    held_for: str = ""
    is_approved: bool = False
    halt: Halt | None = None
    pause: Pause | None = None
    folder_problem: str = ""
    was_scanned: bool = False
    status: DocStatus | None = None
    chunks: int | None = None
    text: str | None = None
    target_problem: str = ""
    similar_path: str = ""
    below: dict[Status, int] | None = None
    failed_below: Sequence[FileStatus] = ()

    @property
    def server(self) -> Upload | None:
        """The upload that searches find."""
        return serving(self.uploads)

    @property
    def is_unknown(self) -> bool:
        """Whether the path is neither in any folder nor in the state."""
        is_missing = self.stat.presence is Presence.MISSING and self.below is None
        return self.mirror is None or (is_missing and self.entry is None and not self.uploads)

    @property
    def is_changed(self) -> bool:
        """Whether the file differs from the one in the state."""
        return self.entry is None or not (self.stat.stamp == self.entry.stamp or self.has_same_bytes)

    @property
    def is_lost(self) -> bool:
        """Whether the target no longer has the document."""
        return self.status is not None and self.status.state is DocState.MISSING

    @property
    def is_found(self) -> bool:
        """Whether a search finds the file, possibly in an older version. For a directory: whether a search
        finds any file in it.
        """
        if self.below is not None:
            return self.below[Status.READY] + self.below[Status.HELD] + self.below[Status.KEPT] > 0
        return self.server is not None and not self.is_lost

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as a JSON object.

        The fields from `file` to `document` may be null. Only directories have `below`.
        """
        selection, entry, server = self.selection, self.entry, self.server
        fields: dict[str, Any] = {
            "mirror": self.mirror,
            "path": self.path,
            "found": self.is_found,
            "answer": self.answer,
            "sentences": list(self.sentences),
        }
        if self.mirror is None:
            return fields
        fields |= dict.fromkeys(("file", "selection", "state", "uploads", "hold", "document"))
        if self.stat.stamp is not None:
            fields["file"] = {
                "kind": None if self.stat.kind is None else self.stat.kind.value,
                "size": self.stat.stamp.size,
                "age_s": None if self.age is None else round(self.age, 3),
                "settle_left_s": None if self.settle_left is None else round(self.settle_left, 3),
            }
        if selection is not None:
            fields["selection"] = {
                "choice": selection.verdict.choice.name.lower(),
                "reason": selection.verdict.reason or selection.problem,
                "rule": selection.verdict.rule,
                "by_directory": selection.closed,
            }
        if entry is not None:
            fields["state"] = {
                "state": entry.status.word,
                "since": iso(entry.since),
                "digest": entry.digest,
                "racy": entry.racy,
                "changed_since": self.is_changed,
            }
        if self.held_for:
            fields["hold"] = {"cause": self.held_for, "approved": self.is_approved}
        elif entry is not None and awaits_renewal(entry, server):
            fields["hold"] = {"cause": "recipe", "approved": False}
        if server is not None:
            fields["document"] = {
                "document_id": server.remote_id,
                "known_as": None if self.status is None else self.status.state.value,
                "chunks": self.chunks,
                "trouble": self.target_problem,
            }
        fields["uploads"] = [
            {
                "id": upload.id,
                "state": upload.state.name.lower().replace("_", " "),
                "document_id": upload.remote_id,
                "label": upload.label,
                "attempts": upload.attempts,
                "reason": upload.reason,
                "code": upload.code or upload.phase.value,
                "due_at": None if upload.due_at is None else iso(upload.due_at),
            }
            for upload in self.uploads
        ]
        if self.below is not None:
            counts = {status: n for status, n in self.below.items() if n or status is not Status.KEPT}
            fields["below"] = {status.word: n for status, n in counts.items()}
        return fields


def outside(path: str, roots: Sequence[Path], symlink: Path | None = None) -> PathExplanation:
    """Return the explanation for a path that isn't in any mirrored folder.

    `symlink`: the symlink in a mirrored folder that leads to the path, if any.
    """
    folders = ", ".join(map(str, roots)) or "none"
    why = "no mirrored folder contains it"
    if symlink is not None:
        why = f"{symlink} is a symlink (not followed), and {why}"
    answer = f"Searches don't find this path because {why}; mirrored folders: {folders}."
    return PathExplanation(None, path, PathStat(Presence.UNKNOWN), answer=answer)


async def explain_path(
    settings: MirrorSettings,
    target: Target,
    read: SnapshotReader,
    clock: Clock,
    path: str,
    *,
    context: CommandContext = NO_CONTEXT,
    text: bool = False,
) -> PathExplanation:
    """Explain the file at `path`, relative to the mirror's root ('' is the root itself).

    `text`: whether to include the extracted text. An error from the target becomes one of the sentences.
    Raises `StateError` if the state can't be read.
    """
    now = clock.wall()
    rules = Rules(settings.include, settings.exclude, target.limits)
    evidence, root = await asyncio.to_thread(_read_disk, settings, rules, path, now)
    if not context.has_config and (selection := evidence.selection) is not None:
        verdict = selection.verdict
        if verdict.choice is FileChoice.EXCLUDED and verdict.rule.startswith("exclude["):
            evidence.selection = replace(selection, verdict=replace(verdict, rule="--exclude"))
    await read(lambda tx: _add_state(tx, evidence, settings, root, context, now))
    if evidence.is_changed:
        evidence.has_same_bytes = await asyncio.to_thread(_has_same_bytes, settings.root, evidence)
    indexing = [row for row in evidence.uploads if row.state is UploadState.INDEXING]
    upload = evidence.server or (indexing[-1] if indexing else None)
    if upload is not None and upload.remote_id is not None:
        try:
            status = (await target.status([upload.remote_id])).get(upload.remote_id)
            is_there = status is not None and status.state is not DocState.MISSING
            if is_there and isinstance(target, SupportsExplain):
                explanation = await target.explain(upload.remote_id)
                evidence.chunks, evidence.text = explanation.chunks, explanation.text if text else None
            evidence.status = status
        except TargetError as error:
            evidence.target_problem = error.reason
    sentences = _Sentences(settings, evidence, context, now)
    evidence.answer, evidence.sentences = sentences.answer(), tuple(sentences.evidence_lines())
    return evidence


# -- known facts ---------------------------------------------------------------------------------------


def _read_disk(
    settings: MirrorSettings, rules: Rules, path: str, now: float
) -> tuple[PathExplanation, RootIdentity | RootError]:
    """Return the facts about the path from the disk and the rules, and the root or the problem with it.

    This reads the disk, so it may block for some seconds.
    """
    root = settings.root
    try:
        evidence = access_within(root, lambda: _read_path(settings, rules, path, now), MAX_CHECK_SECONDS)
    except TimeoutError as error:
        stat = PathStat(Presence.UNKNOWN, problem=error_words(error))
        evidence = PathExplanation(settings.name, path, stat)
    try:
        return evidence, identify(root)
    except RootError as error:
        return evidence, error


def _read_path(settings: MirrorSettings, rules: Rules, path: str, now: float) -> PathExplanation:
    is_too_long = any(len(os.fsencode(name)) > _MAX_NAME_BYTES for name in path.split("/"))
    stat = PathStat(Presence.MISSING) if is_too_long else stat_path(settings.root, path)
    evidence = PathExplanation(settings.name, path, stat, _selection(settings, rules, path, stat))
    if stat.stamp is not None and stat.kind is FileKind.FILE:
        evidence.age = now - stat.stamp.newest
        # A time in the future proves nothing, so kbsync watches the file for its whole quiet time.
        remaining = quiet_time(stat.stamp, settings.settle) - max(evidence.age, 0.0)
        evidence.settle_left = 0.0 if is_old_enough(stat.stamp, now, settings.settle) else remaining
    if stat.kind is FileKind.FOLDER:
        try:
            os.scandir(settings.root / path).close()
        except OSError as error:
            evidence.folder_problem = error_words(error)
    return evidence


def _has_same_bytes(root: Path, evidence: PathExplanation) -> bool:
    """Return whether the file still has the bytes recorded in the state, as it does after `touch` or
    `chmod`.
    """
    entry, stamp = evidence.entry, evidence.stat.stamp
    if entry is None or entry.digest is None or stamp is None or stamp.size != entry.stamp.size:
        return False
    current = digest(root, evidence.path, stamp)
    return isinstance(current, StableDigest) and current.digest == entry.digest


def _add_state(
    tx: Tx,
    evidence: PathExplanation,
    settings: MirrorSettings,
    root: RootIdentity | RootError,
    context: CommandContext,
    now: float,
) -> None:
    """Add the facts about the path from the state. This doesn't read the disk, because a blocked read would
    keep the state open.
    """
    path, stat = evidence.path, evidence.stat
    record = attach.find_record(tx, settings, context.configured)
    if record is None:
        return
    evidence.entry = tx.entries.get(record.id, path)
    binding = None if record.binding is None else tx.mirrors.binding(record.binding)
    # Use the uploads in the base of the last pass, unless the target or the prefix has changed since then.
    if binding is not None and (binding.target, binding.prefix) == (settings.target_type, settings.prefix):
        evidence.uploads = tx.uploads.at_path(record.id, binding.id, path)
    if (removal := tx.removals.get(record.id, path)) is not None:
        for hold in tx.holds.current(record.id):
            if hold.id == removal.hold:
                evidence.held_for, evidence.is_approved = removal.cause, hold.approved_at is not None
    is_known = tx.folders.get(record.id, path) is not None
    if evidence.is_unknown and not is_known:
        evidence.similar_path = _find_similar(tx, record.id, path)
    evidence.halt = _halt(tx, settings, record, root, context)
    pause = tx.pauses.current(record.id, now)
    # A single pass runs even in quiet hours.
    evidence.pause = None if pause is not None and pause.is_quiet and not context.at_work else pause
    for folder_path in () if evidence.folder_problem else (path, *ancestors(path)):
        folder = tx.folders.get(record.id, folder_path)
        if folder is not None and folder.problem and not folder.is_excluded:
            # A problem with the rules names the directory's ignore file.
            is_named = folder.problem.startswith(f"{folder_path}/{IGNORE_FILE}".removeprefix("/"))
            subject = "" if is_named else f"{folder_path or 'the folder'} "
            problem = with_approve_command(folder.problem, settings.name, context.command_line)
            evidence.folder_problem = f"{subject}{problem}"
            break
    evidence.was_scanned = record.last_pass is not None
    # A missing directory still counts as a directory while the state has it.
    if stat.kind is FileKind.FOLDER or (stat.kind is None and is_known):
        below, failed = dict.fromkeys(SHOWN, 0), list[FileStatus]()
        items = Items(tx, record, None, context.command_line)
        for entry in tx.entries.below(record.id, path):
            if entry.status in below:
                below[entry.status] += 1
            if entry.status is Status.FAILED and len(failed) < MAX_NAMED:
                failed.append(items.of(entry))
        evidence.below, evidence.failed_below = below, failed


def _find_similar(tx: Tx, mirror: int, path: str) -> str:
    """Return the mirror's file that a user most likely means by an unknown path, or '' if none is similar."""
    import difflib

    name = split(path)[1]
    if same_name := tx.entries.present_paths(mirror, MAX_COMPARED, name):
        return difflib.get_close_matches(path, same_name, n=1, cutoff=0.0)[0]
    paths = tx.entries.present_paths(mirror, MAX_COMPARED)
    if similar := difflib.get_close_matches(path, paths, n=1, cutoff=MIN_SIMILARITY):
        return similar[0]
    path_of = {split(path)[1]: path for path in paths}
    similar = difflib.get_close_matches(name, path_of, n=1, cutoff=MIN_SIMILARITY)
    return path_of[similar[0]] if similar else ""


def _selection(settings: MirrorSettings, rules: Rules, path: str, stat: PathStat) -> Selection | None:
    """Return the decision of the rules about the path, or None if there is no file."""
    if stat.kind is None or stat.stamp is None or not path:
        return None
    try:
        rules, entered = rules_at(settings.root, rules, split(path)[0])
    except RulesUnknown as error:
        return Selection(SELECTED, problem=str(error))
    except OSError as error:
        problem = f"a parent directory cannot be entered: {error_words(error)}"
        return Selection(SELECTED, problem=problem)
    if entered.choice is not FileChoice.SELECTED:
        above = reversed(list(ancestors(path)))
        closed = next(folder for folder in above if rules.enters(folder).choice is not FileChoice.SELECTED)
        return Selection(entered, f"{split(closed)[1]}/", closed=True)
    name = split(path)[1] + "/" * (stat.kind is FileKind.FOLDER)
    return Selection(rules.verdict(path, stat.stamp.size, stat.kind), name)


def _halt(
    tx: Tx,
    settings: MirrorSettings,
    record: MirrorRecord,
    root: RootIdentity | RootError,
    context: CommandContext,
) -> Halt | None:
    # Use the current root, because it may have appeared or vanished since the last pass.
    if isinstance(root, RootError):
        return as_halt(attach.root_missing(root), settings.name, context.command_line)
    difference, is_lost = attach.difference_from(record.root, root)
    if is_lost and not attach.is_root_accepted(tx, settings.name):
        return as_halt(attach.root_differs(settings, difference), settings.name, context.command_line)
    return None if record.halt is not None and record.halt.reason == FOLDER_MISSING else record.halt


# -- why a file is left out, as a clause that may follow "because" ------------------------------------

_BEGINNINGS = (
    (r"symlink \(|socket, fifo", "it is a"),
    (r"empty$|hidden, and left out|excluded by |explicitly included but", "it is"),
    (r"[\d,]+ bytes, over", "it has"),
    (r"contains patterns for|matches nothing in|cannot be (?:accessed;|read:)", "it"),
)
"""Patterns that match the start of reasons without a subject, each with the words that turn the reason into a
clause. Other reasons may begin with a path, such as `empty rooms/.kbsyncignore:1`."""


def clause(reason: str) -> str:
    """Return a reason as a clause. If it has no subject, use the file as the subject."""
    for beginning, subject in _BEGINNINGS:
        if re.match(beginning, reason):
            return f"{subject} {reason}"
    return reason


def _why(selection: Selection) -> str:
    """Return why the file is excluded, including the rule."""
    reason = selection.verdict.reason
    why = f"a parent directory is not scanned: {reason}" if selection.closed else clause(reason)
    return f"{why}{_decided_by(selection)}"


def _decided_by(selection: Selection) -> str:
    """Return the deciding rule in parentheses, if a user can change it."""
    rule = selection.verdict.rule
    is_fixed = rule == IGNORE_FILE or selection.verdict.choice is FileChoice.SKIPPED
    return f" ({rule})" if rule and not is_fixed else ""


def _undo(selection: Selection) -> str:
    """Return how to make the file searchable."""
    rule, pattern = selection.verdict.rule, selection.verdict.pattern
    match selection.verdict.choice:
        case FileChoice.EXCLUDED if rule == DEFAULT:
            # Don't re-include everything hidden.
            negated = literal_pattern(selection.name) if pattern == HIDDEN else pattern
            return (
                "re-include the file with a negated pattern in `exclude` or .kbsyncignore, such as "
                f"`!{negated}`"
            )
        case FileChoice.EXCLUDED if rule == "include":
            return "add a pattern for the file to `include`"
        case FileChoice.EXCLUDED if rule == IGNORE_FILE:
            return "no rule can include this file"
        case FileChoice.EXCLUDED if rule == "--exclude":
            return "run the next pass with different --exclude patterns, or with --exclude '' for none"
        case FileChoice.EXCLUDED if rule.startswith("include["):
            return f"change {rule}, or add a pattern for the file below it"
        case FileChoice.EXCLUDED:
            if selection.closed:
                return f"change {rule}"
            return f"change {rule}, or re-include the file with a negated pattern below it"
        case FileChoice.REFUSED if rule == "max_bytes":
            return "make the file smaller, or raise the limit if you set it yourself"
        case FileChoice.REFUSED:
            return "convert the file to a format that the target accepts, or exclude it"
        case _:
            return "nothing needs to be done unless you want to search the file"


# -- sentences -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sentences:
    """Writes the sentences of an explanation: the answer, then the evidence."""

    settings: MirrorSettings
    evidence: PathExplanation
    context: CommandContext
    now: float

    def _run(self, command: str) -> str:
        return f"run `{self.context.command_line(command)}`"

    def _next_pass(self) -> str:
        """Return how to start a pass."""
        if (pause := self.evidence.pause) is not None:
            until, resume = describe_pause(pause), self._run(f"resume {self.settings.name}")
            if pause.is_quiet:
                return f"nothing is mirrored now: {until}; to resume before they end, {resume}"
            return f"nothing is mirrored now: {until}; to resume, {resume}"
        # While kbsync runs, a second process would find the state locked.
        if not self.context.at_work:
            return self._run("--once")
        halt = self.evidence.halt
        if halt is not None and halt.reason == TARGET_DOWN:
            return halt_sentence(halt)
        return TAKES_CARE

    # -- the answer ------------------------------------------------------------------------------------

    def answer(self) -> str:
        """Return one sentence that says whether searches find the file and, if they don't, why not and what
        to do.
        """
        evidence = self.evidence
        stat, selection, server = evidence.stat, evidence.selection, evidence.server
        if stat.kind is FileKind.FOLDER or evidence.below is not None:
            return self._describe_folder()
        if server is None:
            why = self._why_absent()
            return f"The file is not searchable: {why}{'' if why.endswith('?') else '.'}"
        if evidence.is_lost:
            repair = self._run(f"verify --repair --mirror {self.settings.name}")
            return (
                f"The file is not searchable because the knowledge base no longer has its document; {repair}."
            )
        if self._is_folder_lost():
            halted = self._halt_with_command()
            return f"The file is still searchable, as of the last time the folder was readable: {halted}."
        if stat.presence is Presence.UNKNOWN:
            return f"The file is still searchable, as of the last time it was readable: {stat.problem}."
        if stat.presence is Presence.MISSING:
            why = self._why_still_searchable()
            return f"The document is still searchable although the file is gone: {why}."
        if selection is not None and selection.verdict.choice in (FileChoice.EXCLUDED, FileChoice.SKIPPED):
            return f"The file is still searchable although {_why(selection)}: {self._why_still_searchable()}."
        entry = evidence.entry
        if entry is not None and awaits_renewal(entry, server) and not evidence.is_changed:
            approve = self._run(f"approve {self.settings.name}")
            return (
                "Searches still use the index built with the old settings; to approve reindexing with the "
                f"new ones, {approve}."
            )
        if (reason := self._why_outdated()) == "":
            return "The file is searchable."
        if entry is not None and is_unread(entry):
            return f"The file is still searchable, as of the last time it was readable: {reason}."
        older = "in an older version"
        if entry is not None and keeps_old_name(entry, server):
            older = f"under its old name, {server.label},"
        return f"The file is searchable {older} because {reason}."

    def _describe_folder(self) -> str:
        """Describe a directory by the state of the files in it, because it isn't a document itself."""
        selection, below = self.evidence.selection, self.evidence.below
        if selection is not None and selection.verdict.choice is not FileChoice.SELECTED:
            return f"Files in this directory are not searchable: {_why(selection)}; {_undo(selection)}."
        if problem := self.evidence.folder_problem:
            return f"This directory cannot be read: {problem}; the documents for its files are kept."
        if below is None or not self.evidence.was_scanned:
            next_step = self._why_halted() or self._next_pass()
            return f"This is a directory whose files are waiting for the first pass; {next_step}."
        is_gone = self.evidence.stat.presence is Presence.MISSING
        subject = "This directory no longer exists" if is_gone else "This is a directory"
        number = sum(below.values())
        if not number:
            return f"{subject}; none of its files are mirrored."
        files = "the only file in it" if number == 1 else f"of the {number:,} files in it,"
        parts = []
        for status, n in below.items():
            adjective = {Status.READY: "searchable", Status.INDEXING: "being indexed"}.get(
                status, status.word
            )
            verb = "" if status is Status.FAILED else "is " if n == 1 else "are "
            if n:
                parts.append(f"{verb}{adjective}" if number == 1 else f"{n:,} {verb}{adjective}")
        return f"{subject}; {files} {format_list(parts)}."

    def _why_absent(self) -> str:
        stat, selection = self.evidence.stat, self.evidence.selection
        if self._is_folder_lost():
            return self._why_halted()
        if stat.presence is Presence.MISSING:
            similar = self.evidence.similar_path
            return f"it does not exist; {f'did you mean {similar}?' if similar else 'check the path'}"
        if selection is None:
            return f"it cannot be accessed: {stat.problem}"
        if selection.problem:
            return selection.problem
        if selection.verdict.choice is not FileChoice.SELECTED:
            return f"{_why(selection)}; {_undo(selection)}"
        return self._why_halted() or self._why_failed() or self._progress()

    def _why_still_searchable(self) -> str:
        """Return why searches still find a file that is missing or excluded."""
        evidence = self.evidence
        if self.settings.deletions.never:
            return "the document is kept because the config says `deletions: never`"
        if evidence.held_for and not evidence.is_approved:
            return f"the deletion is waiting for your approval; {self._run(f'approve {self.settings.name}')}"
        if evidence.entry is not None and not evidence.entry.by_person:
            return "a kbsync upgrade excluded the file, and upgrades never delete documents"
        if (reason := self._why_halted() or evidence.folder_problem) != "":
            return reason
        deletion = "the next pass will delete the document, unless too many would be deleted at once"
        return deletion if self.evidence.pause is None else f"{deletion}; {self._next_pass()}"

    def _why_outdated(self) -> str:
        """Return why searches find outdated content, or '' if the content is current."""
        entry = self.evidence.entry
        is_failed = entry is not None and entry.status in (Status.FAILED, Status.SKIPPED)
        is_on_its_way = entry is not None and entry.status in (Status.PENDING, Status.INDEXING)
        if not (is_failed or is_on_its_way or self.evidence.is_changed):
            return ""
        if (reason := self._why_halted() or self._why_failed()) != "":
            return reason
        if is_on_its_way:
            return self._progress()
        return self._settling() or f"no pass has noticed the change yet; {self._next_pass()}"

    def _is_folder_lost(self) -> bool:
        """Return whether the whole folder is missing. In that case, nothing is known about its files."""
        halt, presence = self.evidence.halt, self.evidence.stat.presence
        return halt is not None and halt.reason == FOLDER_MISSING and presence is not Presence.PRESENT

    def _halt_with_command(self) -> str:
        halt = self.evidence.halt
        assert halt is not None
        if self.evidence.pause is not None and only_retries(halt):
            return f"{halt.detail}; {self._next_pass()}"
        halt = with_retry_command(
            halt, self.settings.name, self.context.command_line, at_work=self.context.at_work
        )
        return halt.detail + (f"; run `{halt.fix}`" if halt.fix else "")

    def _why_halted(self) -> str:
        """Return why the mirror is halted, or '' if no user has to fix anything first."""
        halt = self.evidence.halt
        if halt is None or halt.reason == TARGET_DOWN:
            return ""
        return f"the mirror is halted: {self._halt_with_command()}"

    def _why_failed(self) -> str:
        """Return the problem with the current file, as worded by the rules or the target."""
        entry = self.evidence.entry
        if entry is None or entry.status not in (Status.FAILED, Status.SKIPPED):
            return self.evidence.folder_problem
        if entry.verdict.choice is FileChoice.REFUSED:
            return clause(entry.verdict.reason)
        words = refusal(self.settings.root / self.evidence.path, self.evidence.uploads)
        if entry.status is Status.SKIPPED:
            return f"it is skipped: {words}"
        how = "edit the file or exclude it in .kbsyncignore"
        if may_succeed(entry, self.evidence.uploads):
            retry = self._run(f"retry {shlex.quote(path_argument(self.evidence.path))}")
            how = f"edit the file, exclude it in .kbsyncignore, or {retry}"
        return f"the target refused the document ({words}); {how}"

    def _progress(self) -> str:
        """Return how far indexing has progressed."""
        if (settling := self._settling()) != "":
            return settling
        uploads, status = self.evidence.uploads, self.evidence.status
        states = {upload.state for upload in uploads}
        if UploadState.INDEXING in states:
            if status is not None and status.state is DocState.READY:
                # While paused, a running kbsync still waits for what was sent.
                next_step = TAKES_CARE if self.context.at_work else self._next_pass()
                return f"the knowledge base has indexed the document; {next_step}"
            [*_, row] = (upload for upload in uploads if upload.state is UploadState.INDEXING)
            since = row.accepted_at
            sentence = "the knowledge base is still indexing the document"
            if since is not None and since <= self.now:
                elapsed = format_duration(self.now - since)
                sentence = f"the knowledge base has been indexing the document for {elapsed}"
            if status is not None and status.pause and status.reason:
                sentence = f"{sentence}: {status.reason}"
            if not self.context.at_work:
                return f"{sentence}; {self._next_pass()}"
            due = max(0.0, (row.due_at or self.now) - self.now)
            when = f"in {format_duration(due)}" if due >= 1 else "now"
            return f"{sentence}; kbsync will check again {when}"
        is_sending = UploadState.SENDING in states and self.context.at_work
        if not is_sending and not states.isdisjoint(OUTCOME_OPEN):
            return f"{LOST}; {self._next_pass()}"
        if not states.isdisjoint(TO_BE_SENT):
            return f"the document is waiting to be sent; {self._next_pass()}"
        return f"no pass has picked up the file yet; {self._next_pass()}"

    def _settling(self) -> str:
        """Return how much longer the file must stay unchanged, or how to start a pass if kbsync isn't
        running.

        Return '' if the file is ready or the mirror is paused.
        """
        age, remaining = self.evidence.age, self.evidence.settle_left
        if age is None or not remaining or not self.evidence.is_changed or self.evidence.pause is not None:
            return ""
        is_at_work = self.context.at_work
        if age < 0:
            why = "the file's modification time is in the future, so kbsync waits before mirroring it"
            return why if is_at_work else f"{why}; {self._next_pass()}"
        after = f"kbsync will mirror the file after another {remaining:.1f} s without changes"
        then = after if is_at_work else self._next_pass()
        return f"the file changed {age:.1f} s ago; {then}"

    # -- evidence ------------------------------------------------------------------------------

    def evidence_lines(self) -> Iterator[str]:
        """Yield the evidence from the disk, the rules, the state, the uploads and the target, in this
        order.
        """
        evidence = self.evidence
        stat, age, entry = evidence.stat, evidence.age, evidence.entry
        is_directory = stat.kind is FileKind.FOLDER or evidence.below is not None
        kind = "directory" if is_directory else "file"
        if stat.presence is Presence.MISSING:
            yield f"{self.settings.root / evidence.path} does not exist."
        elif stat.stamp is not None and age is not None:
            side = "ago" if age >= 0 else "in the future, according to the modification time"
            size = format_count(stat.stamp.size, "byte")
            yield f"The file has {size} and was changed {format_duration(abs(age))} {side}."
        if evidence.folder_problem:
            yield f"At the last scan, {evidence.folder_problem}."
        if (selection := evidence.selection) is not None and selection.problem:
            yield f"The rules that apply to the {kind} are unknown: {selection.problem}."
        elif selection is not None and selection.verdict == SELECTED:
            accepted = "" if is_directory else ", and the target accepts its format"
            yield f"The {kind} is selected: nothing excludes it{accepted}."
        elif selection is not None:
            subject = "A parent directory is" if selection.closed else f"The {kind} is"
            choice, reason = selection.verdict.choice.name.lower(), selection.verdict.reason
            words = reason if reason.startswith(choice) else f"{choice}: {reason}"
            yield f"{subject} {words}{_decided_by(selection)}."
        if evidence.below is not None:
            for item in evidence.failed_below:
                yield f"{item.path} failed: {item.reason}."
            if (more := evidence.below[Status.FAILED] - len(evidence.failed_below)) > 0:
                yield f"{more:,} more failed; {self._run('status --documents')}."
        elif entry is None:
            yield "Status: not known yet."
        else:
            yield f"Status: {entry.status.word} since {clock_time(entry.since)}."
            if entry.digest is not None:
                # A later write may have the same timestamp, so the file is read again.
                digest = f"SHA-256 of the bytes read: {entry.digest}"
                if entry.racy:
                    digest = f"{digest}; the file had just changed, so kbsync will read it again"
                yield f"{digest}."
            if evidence.held_for:
                decision = "approved" if evidence.is_approved else "held for approval"
                yield f"The deletion is {decision} (cause: {evidence.held_for})."
        for upload in evidence.uploads:
            yield self._describe_upload(upload)
        if evidence.target_problem:
            yield f"Could not query the knowledge base: {evidence.target_problem}."
        elif (status := evidence.status) is not None:
            words = f" ({status.reason})" if status.reason else ""
            yield f"The document's state in the knowledge base: {status.state.value}{words}."
        if evidence.chunks is not None:
            chunks = "chunk" if evidence.chunks == 1 else "chunks"
            yield f"The document was split into {evidence.chunks} {chunks}."

    def _describe_upload(self, upload: Upload) -> str:
        details = [
            f"document {upload.remote_id}" if upload.remote_id else "",
            f"named {upload.label} there" if upload.label != self.evidence.path else "",
            f"{upload.attempts} attempts" if upload.attempts > 1 else "",
            f"code {upload.code}" if upload.code else "",
        ]
        if upload.due_at is not None:
            due = max(0.0, upload.due_at - self.now)
            details.append(f"next check {f'in {format_duration(due)}' if due >= 1 else 'now'}")
        listed = ", ".join(filter(None, details))
        reason = f": {upload.reason}" if upload.reason else ""
        return f"{_UPLOADS[upload.state]}{f' ({listed})' if listed else ''}{reason}."


_UPLOADS = {
    UploadState.INTENDED: "kbsync will send the file to the knowledge base",
    UploadState.SENDING: "kbsync is sending the file to the knowledge base",
    UploadState.UNSURE: (
        "kbsync sent the file but got no response, so it is looking for the document in the knowledge base"
    ),
    UploadState.PRESUMED_LOST: "kbsync sent the file once, but the knowledge base doesn't list it",
    UploadState.INDEXING: "The knowledge base is indexing the document",
    UploadState.SERVING: "Searches find the document in the knowledge base",
    UploadState.HELD: (
        "Searches find the document in the knowledge base; its deletion is waiting for your approval"
    ),
    UploadState.RETIRING: "kbsync is deleting an earlier document for this file from the knowledge base",
    UploadState.TOMBSTONE: "kbsync deleted an earlier document for this file from the knowledge base",
    UploadState.FAILED: "An upload to the knowledge base failed",
    UploadState.ADOPTING: "kbsync is checking whether a document in the knowledge base is this file",
    UploadState.DROPPED: "An upload never reached the knowledge base",
    UploadState.GONE: "An earlier document for this file is no longer in the knowledge base",
}
"""What each upload state means, as a clause for users."""
