"""Everything that is known of one path: on disk, by the rules, in the state and at the target.

Why a file is left out, as a clause that may follow "because", and what undoes it.

Evidence as JSON.

Why a file is found, or is not: one answer, what to do about it, and everything it rests on.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kbsync.contract.searching import Explains
from kbsync.contract.target import DocState, DocStatus, Target
from kbsync.core.model import Choice, FileKind, Presence, Status, Upload, UploadState, Verdict
from kbsync.core.quiet import is_old_enough, quiet_time
from kbsync.core.text import lasting
from kbsync.engine.clock import Clock
from kbsync.engine.halts import FOLDER_MISSING, TARGET_DOWN, going_on
from kbsync.engine.plan import CommandContext, Footing, Service, find_footing, look_at_root
from kbsync.engine.status import SHOWN, FileStatus, Items, iso, refusal
from kbsync.engine.terms import Plan, Terms
from kbsync.errors import TargetError
from kbsync.source.look import Look, RulesUnknown, look, rules_at
from kbsync.source.roots import error_words
from kbsync.state.approvals import HoldItem
from kbsync.state.files import Entry, split
from kbsync.state.glance import Glance, Tx, looking_at
from kbsync.state.mirrors import Halt, MirrorRecord

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
class HeldDeletion:
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
    failed: tuple[FileStatus, ...]

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
    held: HeldDeletion | None = None
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
    if not (seen.kind is FileKind.FOLDER or (seen.kind is None and is_known)):
        return None
    counts, failed = dict.fromkeys(SHOWN, 0), list[FileStatus]()
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
        problem = f"a directory above it cannot be entered: {error_words(error)}"
        return Selection(Verdict(Choice.SELECTED), problem=problem)
    if entered.choice is not Choice.SELECTED:
        return Selection(entered, closed=True)
    return Selection(rules.verdict(path, seen.stamp.size, seen.kind))


def _stability(terms: Terms, seen: Look, now: float) -> Stability | None:
    if seen.stamp is None or seen.kind is not FileKind.FILE:
        return None
    age, settle = now - seen.stamp.newest, terms.plan.settle
    if is_old_enough(seen.stamp, now, settle):
        return Stability(age, 0.0)
    return Stability(age, quiet_time(seen.stamp, settle) - max(age, 0.0))


def _held(tx: Tx, mirror: int, path: str) -> HeldDeletion | None:
    for hold in tx.holds.current(mirror):
        for item in tx.holds.items(hold.id):
            if item.path == path:
                return HeldDeletion(item, hold.approved_at is not None)
    return None


def _folder_problem(tx: Tx, mirror: int, path: str) -> str:
    while path:
        path = split(path)[0]
        row = tx.folders.get(mirror, path)
        if row is not None and row.problem:
            return f"{path or 'the folder'} {row.problem}"
    return ""


async def ask_target(target: Target, evidence: Evidence, *, text: bool) -> Evidence:
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


_BEGINNINGS = (
    (r"symlink|socket", "it is a"),
    (r"empty|excluded by|explicitly included", "it is"),
    (r"[\d,]+ bytes", "it has"),
    (r"holds|matches|cannot be", "it"),
)
"""How reasons begin that are told in a row with the file's name, and what makes them a clause."""


def clause(reason: str) -> str:
    """A reason with its file as the subject, where it names none."""
    for beginning, subject in _BEGINNINGS:
        if re.match(rf"(?:{beginning})\b", reason):
            return f"{subject} {reason}"
    return reason


def why(chosen: Selection) -> str:
    """Why it is left out, with the rule."""
    reason = chosen.verdict.reason
    told = f"a directory above it is not entered: {reason}" if chosen.closed else clause(reason)
    return f"{told}{decided_by(chosen)}"


def decided_by(chosen: Selection) -> str:
    """Where it was decided, in brackets, where a person can change it."""
    rule = chosen.verdict.rule
    return f" ({rule})" if rule and chosen.verdict.choice is not Choice.SKIPPED else ""


def undo(chosen: Selection) -> str:
    """What to do to have it found."""
    rule = chosen.verdict.rule
    match chosen.verdict.choice:
        case Choice.EXCLUDED if rule == "default":
            return "take it back with a negated pattern in `exclude`, or name it in `include`"
        case Choice.EXCLUDED if rule == "include":
            return "add a pattern for it to `include`"
        case Choice.EXCLUDED:
            return f"change {rule}" + (
                "" if chosen.closed else ", or take it back with a negated pattern below it"
            )
        case Choice.REFUSED if rule == "max_bytes":
            return "make it smaller, or raise the limit if it is yours"
        case Choice.REFUSED:
            return "convert it to a format that the target takes, or leave it out"
        case _:
            return "that needs no action unless you want it found"


def evidence_json(evidence: Evidence) -> dict[str, Any]:
    """The parts of an explanation that come from looking; each may be null."""
    return {
        "file": _file_json(evidence),
        "selection": _selection_json(evidence.selection),
        "state": _state_json(evidence),
        "uploads": [_upload_json(upload) for upload in evidence.uploads],
        "hold": _hold_json(evidence),
        "document": _document_json(evidence),
        **_below_json(evidence),
    }


def _below_json(evidence: Evidence) -> dict[str, Any]:
    """Of a directory alone: how many files in it are in each state."""
    if evidence.below is None:
        return {}
    return {"below": {status.word: n for status, n in evidence.below.counts.items()}}


def _file_json(evidence: Evidence) -> dict[str, Any] | None:
    stamp, stability = evidence.seen.stamp, evidence.stability
    if stamp is None:
        return None
    return {
        "kind": None if evidence.seen.kind is None else evidence.seen.kind.value,
        "size": stamp.size,
        "age_s": None if stability is None else round(stability.age, 3),
        "settle_left_s": None if stability is None else round(stability.left, 3),
    }


def _selection_json(chosen: Selection | None) -> dict[str, Any] | None:
    if chosen is None:
        return None
    return {
        "choice": chosen.verdict.choice.name.lower(),
        "reason": chosen.verdict.reason or chosen.problem,
        "rule": chosen.verdict.rule,
        "by_directory": chosen.closed,
    }


def _state_json(evidence: Evidence) -> dict[str, Any] | None:
    entry = evidence.entry
    if entry is None:
        return None
    return {
        "state": entry.status.word,
        "since": iso(entry.since),
        "digest": entry.digest,
        "racy": entry.racy,
        "changed_since": evidence.is_changed,
    }


def _upload_json(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "state": state_word(upload),
        "document_id": upload.remote_id,
        "label": upload.label,
        "attempts": upload.attempts,
        "reason": upload.reason,
        "code": upload.code,
        "next_look": None if upload.next_look_at is None else iso(upload.next_look_at),
    }


def _hold_json(evidence: Evidence) -> dict[str, Any] | None:
    held, server = evidence.held, evidence.server
    if held is None and server is not None and server.asked:
        return {"cause": "recipe", "approved": False}
    return None if held is None else {"cause": held.item.cause, "approved": held.approved}


def _document_json(evidence: Evidence) -> dict[str, Any] | None:
    remote, server = evidence.remote, evidence.server
    if server is None:
        return None
    known = None if remote is None or remote.status is None else remote.status.state.value
    return {
        "document_id": server.remote_id,
        "known_as": known,
        "chunks": None if remote is None else remote.chunks,
        "trouble": "" if remote is None else remote.trouble,
    }


def state_word(upload: Upload) -> str:
    """An upload's state as people read it."""
    return upload.state.name.lower().replace("_", " ")


WAITING = (UploadState.INTENDED, UploadState.SENDING, UploadState.UNSURE, UploadState.PRESUMED_LOST)


@dataclass(frozen=True, slots=True)
class PathExplanation:
    """The answer for one path. `answer` is the first sentence, `sentences` what it rests on.

    `found`: a search finds it, if only in an older version. `text` is what the target extracted, where it
    was asked for. `evidence` is None for a path outside of all mirrors.
    """

    mirror: str | None
    path: str
    answer: str
    sentences: tuple[str, ...] = ()
    found: bool = False
    evidence: Evidence | None = None
    text: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One object; the keys of `file`, `selection`, `state`, `hold` and `document` may be null."""
        told = {
            "mirror": self.mirror,
            "path": self.path,
            "found": self.found,
            "answer": self.answer,
            "sentences": list(self.sentences),
        }
        return told if self.evidence is None else {**told, **evidence_json(self.evidence)}


def outside(given: str, roots: Sequence[Path]) -> PathExplanation:
    """The explanation of a path that lies in no mirrored folder."""
    known = ", ".join(map(str, roots)) or "none"
    answer = f"It is not found because it lies in no mirrored folder; mirrored are: {known}."
    return PathExplanation(None, given, answer)


async def explain_path(
    plan: Plan,
    service: Service,
    glance: Glance | None,
    clock: Clock,
    path: str,
    *,
    target: Target | None = None,
    site: CommandContext | None = None,
    text: bool = False,
) -> PathExplanation:
    """Explain the file at `path`, relative to the mirror's root ('' is the root itself).

    `target` None: what it has is not asked for. Its trouble becomes a sentence. `text`: with the extracted
    text. Raises `StateError` where the state cannot be read.
    """
    site = site or CommandContext()
    with looking_at(glance) as seen:
        footing = await find_footing(plan, service, seen, site)
        now = clock.wall()
        evidence = await asyncio.to_thread(seen.read, lambda tx: gather(tx, footing, path, now))
    if target is not None:
        evidence = await ask_target(target, evidence, text=text)
    told = _Telling(plan, evidence, site, now)
    return PathExplanation(
        plan.name,
        path,
        told.answer(),
        tuple(told.sentences()),
        _is_found(evidence),
        evidence,
        None if evidence.remote is None else evidence.remote.text,
    )


def _is_found(evidence: Evidence) -> bool:
    """A search finds it, or something in it."""
    if evidence.below is not None:
        return evidence.below.found > 0
    return evidence.server is not None and not (evidence.remote is not None and evidence.remote.is_missing)


class _Telling:
    """Puts evidence into sentences."""

    def __init__(self, plan: Plan, evidence: Evidence, site: CommandContext, now: float) -> None:
        self._plan = plan
        self._e = evidence
        self._site = site
        self._now = now

    def _run(self, command: str) -> str:
        return f"run `{self._site.cure(command)}`"

    @property
    def _retry(self) -> str:
        return self._run(f"retry {shlex.quote(self._e.path)}")

    @property
    def _pass(self) -> str:
        return "the running kbsync does it by itself" if self._site.at_work else self._run("--once")

    @property
    def _wait(self) -> str:
        return self._pass if self._site.at_work else f"leave the daemon running or {self._pass}"

    # -- the answer ------------------------------------------------------------------------------------

    def answer(self) -> str:
        """One sentence: whether it is found, why not, and what to do."""
        if self._e.seen.kind is FileKind.FOLDER or self._e.below is not None:
            return self._of_folder()
        if self._e.server is None:
            return f"It is not found because {self._absence()}."
        if self._e.remote is not None and self._e.remote.is_missing:
            repair = self._run(f"verify --repair --mirror {self._plan.name}")
            return f"It is not found because the knowledge base no longer has its document; {repair}."
        return self._of_served()

    def _of_folder(self) -> str:
        """What becomes of the files in it: itself it is not a document."""
        chosen, below = self._e.selection, self._e.below
        if chosen is not None and chosen.verdict.choice is not Choice.SELECTED:
            return f"It is a directory whose files are not found because {why(chosen)}; {undo(chosen)}."
        if below is None or not self._e.was_scanned:
            return f"It is a directory; the files in it wait for the first pass; {self._pass}."
        is_gone = self._e.seen.presence is Presence.MISSING
        what = "It is a directory that is gone" if is_gone else "It is a directory"
        if not below.files:
            return f"{what}; no file in it is mirrored."
        files = "of the 1 file" if below.files == 1 else f"of the {below.files:,} files"
        parts = [_standing(status, n) for status, n in below.counts.items() if n]
        return f"{what}; {files} in it {', '.join(parts)}."

    def _of_served(self) -> str:
        if (unseen := self._unseen()) != "":
            return f"It is found as it was when {unseen}."
        if self._e.seen.presence is Presence.MISSING:
            return f"It is still found although the file is gone: {self._departure()}."
        chosen = self._e.selection
        if chosen is not None and chosen.verdict.choice in (Choice.EXCLUDED, Choice.SKIPPED):
            return f"It is still found although {why(chosen)}: {self._departure()}."
        if self._is_asked:
            return f"It is searchable as it was indexed before settings changed, and {self._question()}."
        if (reason := self._outdated()) != "":
            return f"It is found {self._form()} because {reason}."
        return "It is searchable."

    def _form(self) -> str:
        """What searches show of it instead."""
        entry, server = self._e.entry, self._e.server
        is_renamed = entry is not None and server is not None and server.label != entry.path
        if is_renamed and server is not None and entry is not None and server.digest == entry.digest:
            return f"by its old name, {server.label},"
        return "in an older version"

    @property
    def _is_asked(self) -> bool:
        """Its bytes are found, and a person is asked whether they are indexed anew."""
        entry, server = self._e.entry, self._e.server
        is_held = entry is not None and entry.status is Status.HELD and not self._e.is_changed
        return is_held and server is not None and bool(server.asked)

    def _question(self) -> str:
        return f"to be indexed anew it waits for you; {self._run(f'approve {self._plan.name}')}"

    def _departure(self) -> str:
        if self._e.held is not None and not self._e.held.approved:
            return f"its deletion waits for you; {self._run(f'approve {self._plan.name}')}"
        if self._e.entry is not None and not self._e.entry.by_person:
            return "an upgrade left it out, which never deletes"
        return self._halted() or "its document goes with the next pass, unless too many go at once"

    def _outdated(self) -> str:
        """Why what is found is not what the file holds now; '' when it is."""
        blame, entry = self._blame(), self._e.entry
        is_under_way = entry is not None and entry.status in (Status.PENDING, Status.INDEXING)
        if not (blame or is_under_way or self._e.is_changed):
            return ""
        if (reason := self._halted() or blame) != "":
            return reason
        if is_under_way:
            return self._progress()
        return self._unsettled() or f"no pass has seen the change yet; {self._pass}"

    def _unseen(self) -> str:
        """Since when nothing is known of the file, and why; '' where it was looked at."""
        if self._is_lost:
            return f"the folder was last seen: {self._cause()}"
        if self._e.seen.presence is Presence.UNKNOWN:
            return f"it was last seen: it cannot be looked at: {self._e.seen.problem}"
        return ""

    @property
    def _is_lost(self) -> bool:
        """The whole folder is, so that nothing can be said of what is in it."""
        halt = self._e.halt
        is_there = self._e.seen.presence is Presence.PRESENT
        return halt is not None and halt.reason == FOLDER_MISSING and not is_there

    def _cause(self) -> str:
        """Of the halt, with its cure."""
        halt = self._e.halt
        assert halt is not None
        halt = going_on(halt, self._plan.name, self._site.cure, at_work=self._site.at_work)
        return halt.detail + (f"; run `{halt.cure}`" if halt.cure else "")

    def _halted(self) -> str:
        """'' where no person has to see to the mirror first."""
        halt = self._e.halt
        return "" if halt is None or halt.reason == TARGET_DOWN else f"the mirror is halted: {self._cause()}"

    def _absence(self) -> str:
        seen, chosen = self._e.seen, self._e.selection
        if self._is_lost:
            return self._halted()
        if seen.presence is Presence.MISSING:
            return "there is no such file; check the path"
        if chosen is None:
            return f"it cannot be looked at: {seen.problem}"
        if chosen.problem:
            return chosen.problem
        if chosen.verdict.choice is not Choice.SELECTED:
            return f"{why(chosen)}; {undo(chosen)}"
        return self._halted() or self._blame() or self._progress()

    def _blame(self) -> str:
        """What went wrong with the file as it is now, in the words of whoever refused it."""
        entry = self._e.entry
        if entry is None or entry.status not in (Status.FAILED, Status.SKIPPED):
            return self._e.folder_problem
        if entry.verdict.choice is Choice.REFUSED:
            return clause(entry.verdict.reason)
        words = refusal(self._plan.root / self._e.path, self._e.uploads)
        if entry.status is Status.SKIPPED:
            return f"it is skipped: {words}"
        return f"the target refused it ({words}); edit it, leave it out in .kbsyncignore, or {self._retry}"

    def _progress(self) -> str:
        """Where it is on its way."""
        if (waiting := self._unsettled()) != "":
            return waiting
        if any(u.state is UploadState.INDEXING for u in self._e.uploads):
            if self._e.remote is not None and self._e.remote.is_ready:
                return f"the knowledge base has it ready; {self._wait}"
            return "the knowledge base is still indexing it; wait a little"
        if any(u.state in WAITING for u in self._e.uploads):
            return f"it waits to be sent; {self._wait}"
        return f"no pass has taken it yet; {self._wait}"

    def _unsettled(self) -> str:
        stability = self._e.stability
        if stability is None or stability.left <= 0 or not self._e.is_changed:
            return ""
        if stability.age < 0:
            return "its time of change lies in the future, so it is watched for a while before it is taken"
        return f"it changed {stability.age:.1f} s ago; it is taken after {stability.left:.1f} s more of quiet"

    # -- what it rests on ------------------------------------------------------------------------------

    def sentences(self) -> Iterator[str]:
        """Disk, rules, state, uploads, target: in this order, only what there is to say."""
        yield from self._of_disk()
        yield from self._of_rules()
        yield from self._of_state()
        for upload in self._e.uploads:
            yield self._of_upload(upload)
        yield from self._of_target()

    def _of_disk(self) -> Iterator[str]:
        seen, stability = self._e.seen, self._e.stability
        if seen.presence is Presence.UNKNOWN:
            yield f"It cannot be looked at: {seen.problem}."
        elif seen.presence is Presence.MISSING:
            yield f"Nothing is at {self._plan.root / self._e.path}."
        elif seen.stamp is not None and stability is not None:
            yield f"The file has {seen.stamp.size:,} bytes and changed {_ago(stability.age)}."
        if self._e.folder_problem:
            yield f"At the last scan {self._e.folder_problem}."

    def _of_rules(self) -> Iterator[str]:
        chosen = self._e.selection
        if chosen is None:
            return
        if chosen.problem:
            yield f"The rules of its directory are not known: {chosen.problem}."
        elif chosen.verdict.choice is Choice.SELECTED and not chosen.verdict.rule:
            yield "It is selected: nothing excludes it, and the target takes its format."
        else:
            what = "A directory above it is" if chosen.closed else "It is"
            yield f"{what} {chosen.verdict.choice.name.lower()}: {chosen.verdict.reason}{decided_by(chosen)}."

    def _of_state(self) -> Iterator[str]:
        entry, below = self._e.entry, self._e.below
        if below is not None:
            for item in below.failed:
                yield f"{item.path} failed: {item.reason}."
            if (more := below.counts[Status.FAILED] - len(below.failed)) > 0:
                yield f"{more:,} more failed; {self._run('status --documents')}."
            return
        if entry is None:
            yield "The state does not know it."
            return
        yield f"The state has it as {entry.status.word} since {iso(entry.since)}."
        if entry.digest is not None:
            doubt = ", to be read again since it was so fresh" if entry.racy else ""
            yield f"Its bytes were read as SHA-256 {entry.digest}{doubt}."
        if self._is_asked:
            yield "Settings changed; that it is indexed anew under them is held for approval."
        if self._e.held is not None:
            cause, approved = self._e.held.item.cause, self._e.held.approved
            yield f"Its deletion ({cause}) is {'approved' if approved else 'held for approval'}."

    def _of_upload(self, upload: Upload) -> str:
        known = f" as document {upload.remote_id}" if upload.remote_id else ""
        tries = f", {upload.attempts} attempts" if upload.attempts > 1 else ""
        words = f", {upload.reason}" if upload.reason else ""
        code = f" [{upload.code}]" if upload.code else ""
        due = upload.next_look_at
        later = f", next look in {max(0.0, due - self._now):.0f} s" if due is not None else ""
        label = f", known there as {upload.label}" if upload.label != self._e.path else ""
        return f"Upload {upload.id} is {state_word(upload)}{known}{label}{tries}{words}{code}{later}."

    def _of_target(self) -> Iterator[str]:
        remote = self._e.remote
        if remote is None:
            return
        if remote.trouble:
            yield f"The knowledge base could not be asked: {remote.trouble}."
        elif remote.status is not None:
            words = f" ({remote.status.reason})" if remote.status.reason else ""
            yield f"The knowledge base says that the document is {remote.status.state.value}{words}."
        if remote.chunks is not None:
            yield f"It was cut into {remote.chunks} {'chunk' if remote.chunks == 1 else 'chunks'}."


def _standing(status: Status, n: int) -> str:
    """So many files are in a state."""
    verb = "is" if n == 1 else "are"
    match status:
        case Status.READY:
            return f"{n:,} {verb} searchable"
        case Status.FAILED:
            return f"{n:,} failed"
        case Status.INDEXING:
            return f"{n:,} {verb} being indexed"
        case _:
            return f"{n:,} {verb} {status.word}"


def _ago(age: float) -> str:
    return f"{lasting(age)} ago" if age >= 0 else f"{lasting(-age)} in the future, by its stamps"
