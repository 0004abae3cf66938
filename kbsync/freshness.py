"""Reports how up to date a mirror's search results are, to commands, the listener and assistants.

The report says which documents a search can find, how recent they are, and what a reply may lack. The state
is read even while another process is mirroring.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path

from kbsync.config.model import MirrorConfig
from kbsync.core.text import format_count
from kbsync.dataclass import dataclass
from kbsync.engine.status import (
    DELETIONS_HELD,
    PASSING,
    RECIPE_HELD,
    CommandLine,
    MirrorStatus,
    as_halt,
    disk_halt,
    halt_sentence,
    in_words,
    iso,
    mirror_status,
    never_ran,
    with_retry_command,
)
from kbsync.errors import KbsyncError
from kbsync.file_systems import access_within
from kbsync.installation import STATE_FILE, Installation
from kbsync.source import roots
from kbsync.source.roots import RootError, identify, unreadable
from kbsync.state import lock
from kbsync.state.mirrors import Halt
from kbsync.state.read_only import Tx
from kbsync.threads import start_thread

MAX_PASS_AGE = 7200.0
"""Number of seconds without a pass after which kbsync warns; its systemd timer fires every hour."""

MAX_CHECK_SECONDS = 0.5
"""Maximum number of seconds that a search waits for a check of the folder; a dead network mount never
responds."""

ReadFreshness = Callable[[Tx], "list[Freshness]"]


@dataclass(frozen=True, slots=True)
class Note:
    """A note on a gap in a reply.

    `is_minor`: the note is only for assistants, because a user at a terminal already knows about the gap from
    starting kbsync, from the last pass, or from a notification. `explains_hits`: the note is shown before the
    hits. `hint`: where a user at a terminal can read more.
    """

    text: str
    is_minor: bool = False
    explains_hits: bool = False
    hint: str = ""

    def line(self, hint: str | None = None) -> str:
        """Return the note with its hint. `hint`: replaces the note's own hint, if it has one."""
        if not self.hint:
            return self.text
        return f"{self.text}; {self.hint if hint is None else hint}"


@dataclass(frozen=True, slots=True)
class Freshness:
    """A mirror's status `at` a time (epoch seconds), and who keeps it up to date.

    `is_worked_on`: a kbsync holds the state and serves this mirror; None if unknown. `is_left_out`: one holds
    the state, but its --mirror leaves this mirror out. `worked_on_since`: when a kbsync last took the state,
    in epoch seconds. `rescan`: seconds after which a daemon compares the whole folder. `root_problem`: why a
    folder without a running kbsync cannot be mirrored now, if it was checked.
    """

    status: MirrorStatus
    is_worked_on: bool | None = field(default=None, kw_only=True)
    is_left_out: bool = field(default=False, kw_only=True)
    worked_on_since: float | None = field(default=None, kw_only=True)
    rescan: float = field(default=0.0, kw_only=True)
    root_problem: str = field(default="", kw_only=True)
    at: float = field(default=0.0, kw_only=True)

    @property
    def waiting(self) -> int:
        """The number of documents that are pending or being indexed."""
        return self.status.documents.pending + self.status.documents.indexing

    @property
    def has_passed(self) -> bool:
        """Whether the whole folder has been compared at least once."""
        return self.status.last_pass is not None

    @property
    def is_compared(self) -> bool:
        """Whether the kbsync process that last took over the state has compared the whole folder since
        then.
        """
        last, since = self.status.last_pass, self.worked_on_since
        return last is not None and since is not None and last >= since

    @property
    def since_pass(self) -> float:
        """Return the number of seconds since the whole folder was last compared, or 0.0 before the first
        time.
        """
        last = self.status.last_pass
        return 0.0 if last is None else max(0.0, self.at - last)

    @property
    def is_in_first_pass(self) -> bool:
        """Whether the first pass is running without problems."""
        return bool(self.is_worked_on) and not self.has_passed and self.status.halt is None

    @property
    def found(self) -> int:
        """The number of files found so far."""
        return sum(self.status.documents.to_json().values())

    @property
    def first_pass(self) -> str:
        """A description of the first pass, which is under way or about to be."""
        # Without files, the running kbsync may not have started this mirror, or may not have it.
        return "the first pass is under way" if self.found else "the first pass has not started"

    @property
    def is_unattended(self) -> bool:
        """Whether it is certain that no kbsync process is working on the mirror."""
        return self.is_worked_on is False

    def describe_unattended(self, fix: str = "") -> str:
        """Return why no kbsync process is working on the mirror, and what to do.

        `fix`: what to do if kbsync isn't running at all.
        """
        if self.is_left_out:
            return lock.describe_left_out([self.status.name])
        return f"kbsync isn't running; {fix}" if fix else "kbsync isn't running"

    @property
    def is_in_quiet_hours(self) -> bool:
        """Whether quiet hours are pausing a mirror that is otherwise kept up to date."""
        return self.status.pause is not None and self.status.pause.is_quiet and not self.is_unattended

    @property
    def is_held(self) -> bool:
        """Whether the mirror is only waiting for a decision and otherwise keeps working."""
        return self.status.halt is not None and self.status.halt.reason in (DELETIONS_HELD, RECIPE_HELD)

    @property
    def is_neglected(self) -> bool:
        """Whether no kbsync process is working on the mirror and its last pass is older than the timer's
        interval.
        """
        return self.is_unattended and self.since_pass > max(2 * self.rescan, MAX_PASS_AGE)

    @property
    def has_temporary_problem(self) -> bool:
        """Whether the mirror is halted because of a temporary problem, such as a target that doesn't
        respond.
        """
        return self.status.halt is not None and self.status.halt.reason in PASSING

    @property
    def as_of(self) -> float | None:
        """The latest time at which the searchable documents are known to match the folder, apart from the
        exceptions in the notes.
        """
        stops = self.status.halt or self.status.pause
        is_current = self.is_worked_on and self.is_compared and stops is None
        return self.at if is_current else self.status.last_pass

    def notes(
        self,
        command_line: CommandLine,
        *,
        write_time: Callable[[float], str] = iso,
        will_mirror: bool = False,
        obstacle: str = "",
        has_held_hits: bool = False,
        is_searchable: bool = False,
        has_good_hits: bool = False,
    ) -> Iterator[Note]:
        """Yield notes on gaps in a reply; none if everything is searchable and a kbsync is watching the
        folder.

        `write_time`: writes epoch seconds. `will_mirror`: this process follows the folder, or is about to.
        `obstacle`: why it cannot. `has_held_hits`: documents in the reply wait for a decision.
        `is_searchable`: its knowledge base has documents, even if the state has none. `has_good_hits`: the
        reply has hits with words of the query.
        """
        halt, documents = self.status.halt, self.status.documents
        is_watched = will_mirror or not self.is_unattended
        is_empty = not is_searchable and not documents.ready
        unknown = "hits may be out of date (no finished pass on record)"
        never_passed = "nothing indexed yet" if is_empty else unknown
        if self.status.pause is not None:
            last = self.status.last_pass
            changes = f"changes since {write_time(last)} may be missing" if last else never_passed
            yield Note(f"paused; {changes}; to resume: {command_line(f'resume {self.status.name}')}")
            return
        if halt is not None:
            # While something is held, the rest of the mirror keeps working.
            text = halt_sentence(halt) if self.is_held else f"halted: {in_words(halt)}"
            yield Note(text, is_minor=self.is_held and not has_held_hits)
        if self.root_problem:
            yield Note(f"{self.root_problem}; then run: {command_line('--once')}")
        if is_watched and not self.has_passed and halt is None:
            total, so_far = documents.ready + self.waiting, ""
            if total:
                so_far = f"; searchable so far: {documents.ready:,} of {format_count(total, 'file')}"
            yield Note(self.first_pass + so_far)
        else:
            last = self.status.last_pass
            if is_watched and last is not None and not self.is_compared and halt is None:
                changes = f"changes since {write_time(last)} may be missing"
                yield Note(f"the folder is still being compared; {changes}", is_minor=True)
            if self.waiting and is_watched:
                are = "is" if self.waiting == 1 else "are"
                yield Note(f"{format_count(self.waiting, 'file')} {are} not indexed yet")
            elif self.waiting and self.has_passed:
                run = f"run: {command_line('--once')}"
                yield Note(f"{self.waits} and {self.describe_unattended(run)}")
        if documents.failed:
            hint = f"{command_line('status')} says why"
            yield Note(f"{format_count(documents.failed, 'file')} failed", is_minor=has_good_hits, hint=hint)
        if not is_watched:
            since = self.status.last_pass
            changes = f"changes since {write_time(since)} are unknown" if since else never_passed
            next_step = f"start it with: {command_line('')}"
            if obstacle:
                next_step = f"this process can't follow the folder: {obstacle}"
            is_recent = self.has_passed and not self.is_neglected
            yield Note(f"{changes} and {self.describe_unattended(next_step)}", is_minor=is_recent)
        if self.status.note:
            yield Note(self.status.note)

    @property
    def waits(self) -> str:
        """Describe how many documents are waiting."""
        return f"{format_count(self.waiting, 'document')} {'is' if self.waiting == 1 else 'are'} waiting"


def freshness_reader(
    installation: Installation,
    mirrors: Sequence[MirrorConfig],
    *,
    check_folders: bool = False,
    unwritten: Halt | None = None,
) -> ReadFreshness:
    """Return a reader that reports how up to date these mirrors are.

    `check_folders`: whether to check unwatched folders, too. `unwritten`: see `status_in`.
    """
    # Read this before the rows, so that a kbsync that ends in between doesn't seem to be at work.
    process = lock.find(installation.state_dir)
    holder = process if isinstance(process, lock.Holder) else None
    since = lock.taken_at(installation.state_dir)

    def read_one(tx: Tx, mirror: MirrorConfig) -> Freshness:
        status = status_in(tx, mirror, installation, at_work=holder is not None, unwritten=unwritten)
        is_left_out = holder is not None and not holder.serves(mirror.name)
        freshness = Freshness(
            status,
            is_worked_on=None if process is None else holder is not None and not is_left_out,
            is_left_out=is_left_out,
            worked_on_since=since,
            rescan=mirror.rescan,
            at=time.time(),
        )
        is_halted = status.halt is not None and not freshness.is_held
        if check_folders and freshness.is_unattended and not is_halted:
            return replace(freshness, root_problem=find_root_problem(Path(status.folder)))
        return freshness

    return lambda tx: [read_one(tx, mirror) for mirror in mirrors]


def find_root_problem(folder: Path) -> str:
    """Return why the folder can't be mirrored now.

    Return "" if it can be, or if that isn't known within `MAX_CHECK_SECONDS`.
    """
    try:
        start_thread(lambda: identify(folder)).result(MAX_CHECK_SECONDS)
    except RootError as error:
        return str(error)
    except (KbsyncError, TimeoutError):
        pass  # the error isn't about the folder
    return ""


def unresponsive_halt(installation: Installation, mirror: MirrorConfig) -> Halt | None:
    """Return the halt of a mirror if its folder isn't responding.

    The state may not have this halt, because a mirror without a row can't store it, and no kbsync process may
    be running.
    """
    try:
        access_within(mirror.folder, mirror.folder.stat, roots.MAX_CHECK_SECONDS)
    except TimeoutError as error:
        from kbsync.engine.attach import root_missing

        halted = root_missing(unreadable(mirror.folder, error))
        return as_halt(halted, mirror.name, installation.command_line)
    except OSError:
        pass  # a pass reports it
    return None


def status_in(
    tx: Tx,
    mirror: MirrorConfig,
    installation: Installation,
    *,
    at_work: bool,
    now: float | None = None,
    documents: bool = False,
    unwritten: Halt | None = None,
) -> MirrorStatus:
    """Return a mirror's status. Its `items` can be read only while the transaction `tx` is open.

    `at_work`: whether a kbsync process holds the state. `unwritten`: a halt that the state doesn't have, if
    the caller knows of one.
    """
    record, command_line = tx.mirrors.named(mirror.name), installation.command_line
    if record is None:
        folder, target = str(mirror.folder), mirror.target.type
        status = never_ran(tx, mirror.name, folder, target, command_line=command_line, documents=documents)
        if unwritten is not None:
            halt = with_retry_command(unwritten, mirror.name, command_line, at_work=at_work)
            status = replace(status, halt=halt)
    else:
        status = mirror_status(
            tx,
            record,
            now=time.time() if now is None else now,
            documents=documents,
            command_line=command_line,
            at_work=at_work,
            unwritten=unwritten or disk_halt(installation.state_dir),
        )
    status = replace(status, unkept=mirror.target.unkept)
    # The state may have been moved since the last pass, together with the base below it.
    base = installation.embedded_base(mirror)
    if record is not None and record.binding is not None and base is not None:
        index_bytes = _size_of(base, "index.", "scans.")
        status = replace(status, index_bytes=index_bytes, better=mirror.target.better_vectors(base))
    return status


def state_bytes(installation: Installation) -> int:
    """Return the size of the state's files."""
    return _size_of(installation.state_dir, STATE_FILE)


def _size_of(folder: Path, *prefixes: str) -> int:
    """Return the total size in bytes of the files in the folder whose names begin with one of the
    prefixes.
    """
    size = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefixes):
                with suppress(FileNotFoundError):  # SQLite removes its own files
                    size += entry.stat(follow_symlinks=False).st_size
    return size
