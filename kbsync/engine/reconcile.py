"""Brings the state up to date with the disk: scans, hints, and files that are being written.

All of them take the same three steps: find a file (`FoundFile`), decide in a thread what to do with it
(`_classify`: skip it, wait for it, or read it), and record the result, with one transaction per batch of
files. In that transaction, the journal decides what to do with the file's document.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from kbsync.core.model import NO_STAMP, FileChoice, FileKind, Presence, Stamp, Verdict
from kbsync.core.quiet import Settling, is_old_enough
from kbsync.core.selection import IGNORE_FILE, Rules, person_part
from kbsync.dataclass import dataclass
from kbsync.engine.clock import Clock
from kbsync.engine.journal import DocumentEvent, FileSeen, Journal, ReportEvents
from kbsync.engine.settings import Binding
from kbsync.logs import is_debugging, log_debug
from kbsync.source.hints import Hint, HintKind
from kbsync.source.read import (
    ReadProblem,
    Sample,
    Spooled,
    StableDigest,
    UnreadableFile,
    Unstable,
    copy_growing,
    digest,
)
from kbsync.source.roots import error_words_at
from kbsync.source.scan import FolderListing, Scan, ScanSummary, StoredTree
from kbsync.source.stat import (
    PathStat,
    RulesUnknown,
    find_aliases,
    fold,
    rules_at,
    stat_exactly,
    stat_in_mounts,
    stat_path,
)
from kbsync.state.files import FileRow, join, split
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore
from kbsync.threads import searches_first


async def recheck_mounts(
    store: StateStore, binding: Binding, checked: Sequence[tuple[str, PathStat]]
) -> list[tuple[str, PathStat]]:
    """Repeat the checks that found nothing at paths where a disk is or used to be mounted. Return all checks.

    While a disk that was mounted in the folder is unmounted, none of its files count as missing. Neither does
    a file that a mount has hidden since the last scan (promise 1).
    """
    missed = [path for path, stat in checked if stat.lacks_file]
    if not missed:
        return list(checked)
    mounts = await store.read(partial(_mounts, binding, missed))
    rechecked = await asyncio.to_thread(stat_in_mounts, binding.settings.root, mounts)
    return [(path, rechecked.get(path, stat)) for path, stat in checked]


def is_respelled(old: str, new: str) -> bool:
    """Return whether two paths could be equal on a file system that ignores case or Unicode normalization."""
    return old != new and fold(old) == fold(new)


def _mounts(binding: Binding, paths: Iterable[str], tx: Tx) -> dict[str, dict[str, str]]:
    """Return the former mount points at or above each path, and what was mounted there."""
    return {path: tx.folders.mounts_over(binding.mirror, path) for path in paths}


RACY_SECONDS = 2.0
"""A file read within this many seconds of its last change is reread, because it may change again without a
new timestamp."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as seen by a scan or check, with its directory's rules.

    `version`: the version of the directory's rules when the file was stored ('' for a new file). `quiet`: the
    file hasn't changed for the `settle` period. `forced`: it kept changing until the maximum wait ran out.
    `deep`: read it in any case. `has_row`: False only if the state can't have a row for it.
    """

    path: str
    stamp: Stamp
    kind: FileKind
    links: int
    rules: Rules
    version: str = ""
    quiet: bool = False
    forced: bool = False
    fresh: bool = False
    sample: Sample | None = None
    deep: bool = False
    has_row: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """A file that is being written, or might be.

    `busy`: it kept changing beyond the maximum wait. `is_selected`: the rules select it in its current form.
    """

    path: str
    stamp: Stamp
    busy: bool = False
    sample: Sample | None = None
    is_selected: bool = True


FileDecision = FileSeen | Wait | None
"""The decision about a file: None if it is missing, which the next check must confirm."""


def by_person(file: FoundFile, stored: FileRow | None) -> bool:
    """Return whether the file was deselected by a user rather than by an upgrade."""
    if stored is None or not file.version:
        return True
    if stored.verdict.choice is not FileChoice.SELECTED:
        return stored.by_person
    return is_by_person(file.version, file.rules.version)


def is_by_person(before: str, now: str) -> bool:
    """Return whether a user changed the rules, which means that they differ in more than kbsync's own part.

    A file that an upgrade excludes keeps its document; one that a user excludes loses it.
    """
    return before == now or not before or person_part(before) != person_part(now)


_PARTS = {"size": "size", "mtime_ns": "mtime", "ctime_ns": "ctime", "ino": "inode"}


def log_decision(mirror: str, file: FoundFile, stored: FileRow | None, decision: FileDecision) -> None:
    """Log at debug level how a file's stamp changed and what kbsync decided."""
    if is_debugging():
        differs = []
        if stored is not None and stored.stamp != NO_STAMP:
            now, before = file.stamp, stored.stamp
            differs = [name for part, name in _PARTS.items() if getattr(now, part) != getattr(before, part)]
        outcome = _outcome(stored, decision)
        log_debug("file.judged", mirror=mirror, path=file.path, outcome=outcome, differs=differs)


def _outcome(stored: FileRow | None, decision: FileDecision) -> str:
    if decision is None:
        return "gone"
    if isinstance(decision, Wait):
        return "being written"
    if decision.problem:
        return f"unreadable: {decision.problem}"
    if decision.verdict.choice is not FileChoice.SELECTED:
        return f"not mirrored: {decision.verdict.reason}"
    if decision.renamed_from is not None:
        return f"renamed, from {decision.renamed_from}"
    if stored is None or stored.digest is None:
        return "new"
    return "same content" if decision.digest == stored.digest else "other content"


PAGE = 256
PAGE_BYTES = 64 * 1024 * 1024
PAGE_SECONDS = 0.5
"""Time limit, in seconds, for reading a batch of files, during which the lock is held. After that, a daemon
leaves the rest for later, so that hints and commands don't wait longer, even with a slow disk.
"""
MAX_FRESH_FILES = 64
"""Maximum number of files in one check that are treated as just saved by a user who is waiting for them; any
others are treated as backlog.
"""

MAX_FORCED_READS = 4
"""Maximum number of files that one check reads although they are still changing: each is read twice, with a
pause between the two reads, and new hints have to wait.
"""

CheckedPath = tuple[str, PathStat, Rules | RulesUnknown | None]
"""A path, the result of its check, and the rules of its directory.

The rules are None if the directory is excluded or can't be opened, and an error if they can't be used.
"""


class Reconciler:
    """Compares the disk with the state for one mirror.

    `on_work`: called if rows that may concern the worker were written. `keep`: gets the bytes of a file that
    keeps changing, to be sent as they were read. `report`: gets files that fail or are skipped before any
    upload, and directories that can't be listed. `page_seconds`: how long a batch may take; the remaining
    files then go into the next one.
    """

    def __init__(
        self,
        store: StateStore,
        journal: Journal,
        clock: Clock,
        *,
        on_work: Callable[[], None],
        keep: Callable[[str, Spooled], None],
        report: ReportEvents = lambda _events: None,
        page_seconds: float = math.inf,
    ) -> None:
        settings = journal.binding.settings
        self._store = store
        self._journal = journal
        self._clock = clock
        self._on_work = on_work
        self._keep = keep
        self._report = report
        self._page_seconds = page_seconds
        self._trees: dict[str, int] = {}  # trees to scan, each with the number of its scan
        self._tree_scan: int | None = None  # the number of the running one
        self._running: set[int] = set()
        self._overlapped: set[int] = set()  # running scans during which another one has run
        self._samples: dict[str, Sample] = {}
        self._stopping = False
        self._numbers = itertools.count(1)
        self._scanning: set[int] = set()
        self._outdated: set[int] = set()  # scans that began before an ignore file was checked
        self._missing_to: set[int] = set()  # scans that missed files, which don't count as missed yet
        self._taking = asyncio.Lock()
        self.settling = Settling(settings.settle, settings.settle_longest)
        self.busy: set[str] = set()
        """Files that were still changing after the longest wait; kbsync keeps waiting for them."""

    @property
    def _mirror(self) -> int:
        return self._journal.binding.mirror

    def stop(self) -> None:
        """Make a running scan end at the next directory."""
        self._stopping = True

    # -- whole trees -----------------------------------------------------------------------------------

    async def scan(self, start: str = "", *, deep: bool = False, number: int = 0) -> ScanSummary:
        """Compare a tree with the state. `deep`: whether to read every file, regardless of its timestamp."""
        binding = self._journal.binding
        tree = StoredTree(self._store.read_now, self._mirror, self._store.submit)
        listings = Scan(binding.settings.root, tree, binding.rules, start=start, deep=deep)
        pages = _ScanPages(listings, lambda: self._stopping)
        number = number or next(self._numbers)
        self._scanning.add(number)
        self._running.add(number)
        if len(self._running) > 1:
            self._overlapped |= self._running
        try:
            while batch := await asyncio.to_thread(pages.next):
                for listing in batch:
                    await self._record_listing(listing, deep, number)
        finally:
            pages.close()
            self._running.remove(number)
            self._overlapped.discard(number)
            self._scanning.remove(number)
            self._outdated.discard(number)
            # Start the second checks of files missed by finished scans: this one and any whose end could not
            # be recorded.
            ended, now = self._missing_to - self._scanning, self._clock.steady()
            if ended and not self._stopping:  # otherwise, the next process makes both checks itself
                await self._store.write(lambda tx: tx.entries.scans_ended(self._mirror, ended, now))
                self._missing_to -= ended
                self._on_work()
        return listings.summary

    @property
    def has_trees(self) -> bool:
        """Return whether `scan_trees` has anything to do."""
        return bool(self._trees)

    def _request_scan(self, path: str) -> None:
        """Request a scan of a tree in the background, because it may take a long time."""
        # A running scan of the tree may already have passed what has changed now.
        if self._trees.get(path) in (None, self._tree_scan):
            self._trees.pop(path, None)  # after the others
            number = self._trees[path] = next(self._numbers)
            self._scanning.add(number)  # from now on the scan may find missed files elsewhere

    async def scan_trees(self) -> set[str]:
        """Scan the trees that hints referred to, one after the other.

        Return where something was mounted in them, relative to the root.
        """
        mount_points: set[str] = set()
        while self._trees and not self._stopping:
            path, number = next(iter(self._trees.items()))
            self._tree_scan = number
            try:
                mount_points |= (await self.scan(path, number=number)).mount_points
            finally:
                self._tree_scan = None
                # A failed tree is scanned with the whole folder; a tree requested in the meantime is scanned
                # again.
                if self._trees.get(path) == number:
                    del self._trees[path]
        return mount_points

    def _missed_now(self) -> tuple[float | None, int | None]:
        """Return when a file counts as first missed: now, or at the end of a pending tree scan.

        If a directory is moved, it looks as if one had disappeared and another had been created. Files missed
        in the old one may be found in the new one, no matter how long the scan of the new one takes.
        """
        # A scan that has just ended may still be among the trees.
        pending = self._scanning.intersection(self._trees.values())
        if not pending:
            return self._clock.steady(), None
        number = max(pending)
        self._missing_to.add(number)
        return None, number

    async def _record_listing(self, listing: FolderListing, deep: bool, number: int) -> None:
        mirror, folder = self._mirror, listing.path
        if not await self._has_current_rules(folder, listing.version):
            return  # a scan of the ignore file's directory has applied the new rules, or will apply them
        if number in self._overlapped and (listing.problem or listing.changed_mount == folder):
            # Another scan may have listed the folder later and recorded that first.
            self._request_scan(folder)
        if listing.problem:
            problem = listing.problem
            event = await self._store.write(
                lambda tx: self._journal.record_folder_problem(tx, folder, problem)
            )
            self._report([event])
            return
        version = ""  # the rules applied to its files before, if needed
        if listing.reselect:
            row = await self._store.read(lambda tx: tx.folders.get(mirror, folder))
            version = "" if row is None else row.version
        excluded = [(join(folder, name), verdict) for name, verdict in listing.excluded_folders]

        def mark_undecided(tx: Tx) -> None:
            if listing.reselect:
                tx.folders.mark_undecided(mirror, folder)
            for path, _ in excluded:
                tx.folders.mark_tree_undecided(mirror, path)

        if listing.reselect or excluded:
            await self._store.write(mark_undecided)
        files = (
            FoundFile(
                join(folder, file.name),
                file.stamp,
                file.kind,
                file.links,
                listing.rules,
                version,
                deep=deep,
                has_row=not listing.new,
            )
            for file in listing.changed
        )
        if not await self._classify_all(files):
            return  # the directory is not marked as scanned: the next scan finds the rest
        for path, verdict in excluded:
            await self._deselect_below(listing, path, verdict)
        if listing.missing or listing.gone_folders:
            self._missing_to.add(number)

        def record(tx: Tx) -> None:
            tx.folders.record_listing(mirror, folder, listing.version, listing.is_mount, listing.mount)
            if folder and listing.changed_mount == folder:
                # The scan may be interrupted before it lists them.
                tx.folders.mark_mounts_changed(mirror, folder)
            if listing.changed_mount and (listing.missing or listing.gone_folders):
                # Missing files are hidden or on another disk, unless a user says otherwise (promise 1). Both
                # the mounted and the unmounted contents are mirrored, so the files return when the mount
                # changes again.
                tx.folders.allow_unmounting(mirror, listing.changed_mount)
                tx.mirrors.set_hold_all(mirror, True)
            tx.entries.miss(mirror, folder, listing.missing, None, number)
            tx.entries.record_digest(mirror, folder)
            for name in listing.gone_folders:
                self._miss_tree(tx, join(folder, name), None, number)
            for path, _ in excluded:
                tx.folders.exclude(mirror, path)

        await self._store.write(record)
        self._on_work()

    async def _has_current_rules(self, folder: str, version: str) -> bool:
        """Return whether a scan has read the directory's current rules.

        `version`: the version that the scan has read, or '' if the directory couldn't be listed.
        """
        # A long scan reads the rules of a directory once, for everything below it.
        if not self._outdated:
            return True
        rules = await asyncio.to_thread(self._rules, folder)
        return rules.version == version if isinstance(rules, Rules) else not version

    def _miss_tree(self, tx: Tx, folder: str, since: float | None, scan: int | None = None) -> None:
        tx.entries.miss_tree(self._mirror, folder, since, scan)
        tx.folders.record_gone(self._mirror, folder)

    async def _deselect_below(self, listing: FolderListing, folder: str, verdict: Verdict) -> None:
        """Deselect all files in a newly excluded directory, one batch per commit."""
        before = await self._store.read(lambda tx: tx.folders.get(self._mirror, listing.path))
        person = before is None or is_by_person(before.version, listing.version)

        def deselect(paths: Sequence[str], tx: Tx) -> None:
            for path in paths:
                self._journal.deselect(tx, path, verdict, person)

        async for paths in self._store.pages_below(self._mirror, folder, PAGE):
            await self._store.write(partial(deselect, paths))

    async def recheck_racy(self) -> None:
        """Read files again if they were read so soon after a change that a second change may have the same
        timestamp.
        """
        before = self._clock.wall() - RACY_SECONDS
        tried_paths: set[str] = set()
        while not self._stopping:
            rows = await self._store.read(lambda tx: tx.entries.racy(self._mirror, PAGE + len(tried_paths)))
            readable_paths = [
                row.path for row in rows if row.stamp.newest < before and row.path not in tried_paths
            ]
            if not readable_paths:
                return
            # Try each path only once, because an unreadable file must not keep this loop running.
            tried_paths.update(readable_paths)
            # Don't treat them as quiet, because an old timestamp says nothing about current writers (promise
            # 8).
            while readable_paths and not self._stopping:
                readable_paths = [*await self._check_and_take(readable_paths[:PAGE]), *readable_paths[PAGE:]]

    # -- hints -----------------------------------------------------------------------------------------

    async def take_hints(self, hints: Sequence[Hint]) -> list[Hint]:
        """Check the paths of hints, at most one batch of files. Return the remaining hints.

        Directories are only recorded; `scan_trees` scans them.
        """
        root = self._journal.binding.settings.root
        trees = [hint.path for hint in hints if hint.kind is HintKind.TREE]
        # The old spelling of a renamed folder may still open it.
        vanished = [hint.path for hint in hints if hint.kind is HintKind.GONE_TREE]
        files = [hint.path for hint in hints if hint.kind is HintKind.FILE]
        if vanished:
            vanished += await self._store.read(partial(self._stored_spellings_of_folders, vanished))
        if trees or vanished:
            stats = await asyncio.to_thread(lambda: [(path, stat_path(root, path)) for path in trees])
            stats += await asyncio.to_thread(stat_exactly, root, vanished)
            stats = await recheck_mounts(self._store, self._journal.binding, stats)
            folders = [path for path, stat in stats if stat.kind is FileKind.FOLDER]
            for path in folders:
                self._request_scan(path)
            others = [(path, stat) for path, stat in stats if stat.kind is not FileKind.FOLDER]
            missed = self._missed_now()

            def miss(tx: Tx) -> None:
                """Record the paths that used to be directories but no longer are."""
                for path, stat in others:
                    is_gone = stat.presence is Presence.MISSING or stat.kind is not None
                    if is_gone and tx.folders.get(self._mirror, path) is not None:
                        self._miss_tree(tx, path, *missed)

            if others:
                await self._store.write(miss)
                self._on_work()
            files += [path for path, _ in others]
            # A folder may have taken the name of a file.
            files += await self._store.read(
                lambda tx: [path for path in folders if tx.entries.get(self._mirror, path) is not None]
            )
        remaining = await self._check_and_take(files[:PAGE], fresh=True)
        return [Hint(path, HintKind.FILE) for path in [*remaining, *files[PAGE:]]]

    def _stored_spellings_of_folders(self, paths: Sequence[str], tx: Tx) -> list[str]:
        """Return the paths of stored folders that these paths may refer to in a different spelling."""
        new_paths = [path for path in paths if tx.folders.get(self._mirror, path) is None]
        folded_paths, parents = set(map(fold, new_paths)), {split(path)[0] for path in new_paths}
        stored = [join(above, row.path) for above in parents for row in tx.folders.below(self._mirror, above)]
        return [path for path in stored if fold(path) in folded_paths and path not in paths]

    async def check(self, paths: Iterable[str]) -> None:
        """Check all of these paths, and scan the directories among them."""
        remaining = iter(sorted(paths))
        while batch := list(itertools.islice(remaining, PAGE)):
            hints = [Hint(path, HintKind.FILE) for path in batch]
            while hints and not self._stopping:
                hints = await self.take_hints(hints)
        await self.scan_trees()

    async def _check_and_take(self, paths: Sequence[str], *, fresh: bool = False) -> list[str]:
        """Check and record one batch of these paths. Return the rest."""
        if not paths:
            return []
        if fresh:
            paths = [*paths, *await asyncio.to_thread(self._find_stored_spellings, paths)]
        checked = await asyncio.to_thread(self._stat_paths, paths)
        if fresh:
            checked += await asyncio.to_thread(self._stat_other_links, checked)
        files = []
        for path, stat, rules in checked:
            if stat.kind is FileKind.FOLDER:
                self._request_scan(path)
            elif stat.stamp is not None and stat.kind is not None and isinstance(rules, Rules):
                files.append(FoundFile(path, stat.stamp, stat.kind, stat.links, rules, fresh=fresh))
        batch = _next_batch(iter(files))
        remaining = [*await self._classify_batch(batch), *files[len(batch) :]]
        await self._note_others(checked)
        for path in paths:
            folder, name = split(path)
            if name == IGNORE_FILE:
                self._outdated |= self._scanning
                self._request_scan(folder)
        return [file.path for file in remaining]

    def _stat_paths(self, paths: Sequence[str]) -> list[CheckedPath]:
        binding = self._journal.binding
        chains: dict[str, Rules | RulesUnknown | None] = {}
        checked = []
        for path in paths:
            folder = split(path)[0]
            if folder not in chains:
                chains[folder] = self._rules(folder)
            checked.append((path, stat_path(binding.settings.root, path), chains[folder]))
        # An event may have the old spelling of a name, under which some file systems still find the file.
        doubtful = self._find_respelled(checked)
        aliases = find_aliases(binding.settings.root, doubtful)
        missing = PathStat(Presence.MISSING)
        return [(path, missing if path in aliases else stat, rules) for path, stat, rules in checked]

    def _stat_other_links(self, checked: Sequence[CheckedPath]) -> list[CheckedPath]:
        """Check the other paths of changed files that have hard links.

        An event names only the path that was written to.
        """
        regular = [stat for _, stat, _ in checked if stat.kind is FileKind.FILE and stat.links > 1]
        stamps = {stat.stamp for stat in regular if stat.stamp}
        if not stamps:
            return []

        def read(tx: Tx) -> set[str]:
            return {path for stamp in stamps for path in tx.entries.outdated_links(self._mirror, stamp, PAGE)}

        return self._stat_paths(sorted(self._store.read_now(read) - {path for path, _, _ in checked}))

    def _find_stored_spellings(self, paths: Sequence[str]) -> set[str]:
        """Return the paths of stored files that these paths may refer to in a different spelling.

        If a folder ignores case, an event has the spelling that a program used, not the listed one.
        """
        mirror, read = self._mirror, self._store.read_now
        names: dict[str, set[str]] = defaultdict(set)

        def read_new_paths(tx: Tx) -> list[str]:
            rows = {path: tx.entries.get(mirror, path) for path in paths}
            return [path for path, row in rows.items() if not row or row.presence is not Presence.PRESENT]

        for path in read(read_new_paths):
            names[split(path)[0]].add(fold(path))
        folders = list(filter(self._may_ignore_case, names))
        stored = read(lambda tx: [path for folder in folders for path in tx.entries.names(mirror, folder)])
        return {path for path in stored if fold(path) in names[split(path)[0]]}.difference(paths)

    def _may_ignore_case(self, folder: str) -> bool:
        """Return False if one of the folder's stored files can be found, but not in the opposite case.

        This way, a large folder's names are rarely read.
        """
        root = self._journal.binding.settings.root
        for path in self._store.read_now(lambda tx: tx.entries.names(self._mirror, folder, limit=8)):
            other_case = join(folder, split(path)[1].swapcase())
            if other_case != path and not stat_path(root, path).lacks_file:
                return not stat_path(root, other_case).lacks_file
        return True

    def _find_respelled(self, checked: Sequence[CheckedPath]) -> list[str]:
        """Return the paths of files that are also stored, or were also checked, under a different spelling.

        This includes paths where a folder was found instead of a file.
        """
        folders = [path for path, stat, _ in checked if stat.kind is FileKind.FOLDER]
        files = [(path, stat.stamp.ino) for path, stat, _ in checked if stat.stamp and stat.links == 1]

        def read_spellings(tx: Tx) -> dict[str, list[str]]:
            return {path: tx.entries.paths_with_ino(self._mirror, ino) for path, ino in files}

        spellings = self._store.read_now(read_spellings) if files else {}
        # Both spellings of a rename are checked together, and in FUSE they may have different inodes.
        folded_paths = Counter(map(fold, {path for path, _ in files}))
        return folders + [
            path
            for path, _ in files
            if folded_paths[fold(path)] > 1
            or any(is_respelled(spelling, path) for spelling in spellings[path])
        ]

    def _rules(self, folder: str) -> Rules | RulesUnknown | None:
        """Return the rules of a directory, in the form that `CheckedPath` describes."""
        binding = self._journal.binding
        try:
            rules, entered = rules_at(binding.settings.root, binding.rules, folder)
        except RulesUnknown as error:
            return error
        except OSError as error:
            error_words_at(error)
            return None
        return rules if entered.choice is FileChoice.SELECTED else None

    async def _note_others(self, checked: Sequence[CheckedPath]) -> None:
        """Record the paths where no file was found, and changed files in directories whose rules can't be
        used.

        Such files are unreadable until the rules are corrected.
        """
        absent = [
            (path, stat)
            for path, stat, _ in checked
            if stat.presence is not Presence.PRESENT or stat.lacks_file
        ]
        undecidable = [
            FileSeen(path, stat.stamp, problem=str(rules))
            for path, stat, rules in checked
            if stat.stamp is not None and stat.kind is FileKind.FILE and isinstance(rules, RulesUnknown)
        ]
        if not absent and not undecidable:
            return
        absent = await recheck_mounts(self._store, self._journal.binding, absent)
        for path, stat in absent:
            if stat.lacks_file:
                self._forget(path)
        missed = self._missed_now()

        def record(tx: Tx) -> list[DocumentEvent | None]:
            for path, stat in absent:
                if stat.lacks_file:
                    folder, name = split(path)
                    tx.entries.miss(self._mirror, folder, [name], *missed)
                elif stat.presence is Presence.UNKNOWN:
                    self._journal.record_unknown_file(tx, path)
            stored = [(file, tx.entries.get(self._mirror, file.path)) for file in undecidable]
            return [
                self._journal.observe(tx, file)
                for file, entry in stored
                if entry is not None
                and entry.verdict.choice is FileChoice.SELECTED
                and entry.stamp != file.stamp
            ]

        self._report(await self._store.write(record))
        self._on_work()

    # -- files being written ---------------------------------------------------------------------------

    def changing_inodes(self) -> set[int]:
        """Return the inodes of files that are still changing."""
        paths = (path for path in self.settling.paths() if path not in self.busy)
        return {stamp.ino for path in paths if (stamp := self.settling.stamp(path)) is not None}

    def _forget(self, path: str) -> None:
        """Stop waiting for the file, because it has been recorded or no longer exists."""
        self.settling.forget(path)
        self._samples.pop(path, None)
        self.busy.discard(path)

    async def settle_due(self) -> set[str]:
        """Record the files that haven't changed for one `settle` period or whose maximum wait is over.

        Return the files whose maximum wait is over and that were read, because their wait is over regardless
        of the result.
        """
        due = {file.path: file for file in self.settling.due(self._clock.steady(), PAGE)}
        if not due:
            return set()
        checked = await asyncio.to_thread(self._stat_paths, list(due))
        forced: set[str] = set()
        files = []
        for path, stat, rules in checked:
            is_file = stat.kind not in (None, FileKind.FOLDER)
            if stat.stamp is None or stat.kind is None or not is_file or not isinstance(rules, Rules):
                self._forget(path)
                continue
            file = FoundFile(path, stat.stamp, stat.kind, stat.links, rules, fresh=True)
            # Use only this check, because the last known timestamp of the path may be outdated.
            if due[path].is_quiet and stat.stamp == due[path].stamp:
                file = replace(file, quiet=True)
            elif due[path].is_overdue:
                if len(forced) == MAX_FORCED_READS:
                    continue  # checked later
                forced.add(path)
                file = replace(file, forced=True, sample=self._samples.get(path))
            files.append(file)
        # Files beyond one batch stay tracked, and due.
        batch = _next_batch(iter(files))
        remaining = await self._classify_batch(batch)
        forced &= {file.path for file in batch[: len(batch) - len(remaining)]}
        await self._note_others(checked)
        for path in forced:
            if path in self.settling:  # for example, it vanished while being read
                self.settling.restart(path, self._clock.steady())
        return forced

    async def _classify_all(self, files: Iterable[FoundFile]) -> bool:
        """Check the files of a directory and record the results, a batch at a time.

        Return False if stopped before the end, or if the directory's rules have changed.
        """
        queue = iter(files)
        while batch := _next_batch(queue):
            remaining: Sequence[FoundFile] = batch
            while remaining:
                folder, rules = split(remaining[0].path)[0], remaining[0].rules
                if self._stopping or not await self._has_current_rules(folder, rules.version):
                    return False
                remaining = await self._classify_batch(remaining)
        return True

    async def _classify_batch(self, batch: Sequence[FoundFile]) -> Sequence[FoundFile]:
        """Check as many files as time allows, and record the results. Return the remaining files."""
        if not batch:
            return batch
        async with self._taking:  # one decision is recorded before the next about the same file starts
            awaited = {file.path for file in batch if file.path in self.settling}
            decisions, remaining = await asyncio.to_thread(self._classify_files, batch, awaited)
            files = [j for j in decisions if isinstance(j, FileSeen)]
            waits = [j for j in decisions if isinstance(j, Wait)]
            if len(files) + len(remaining) > MAX_FRESH_FILES:
                files = [replace(file, fresh=False) for file in files]

            def record(tx: Tx) -> list[DocumentEvent | None]:
                events = [self._journal.observe(tx, file) for file in files]
                for wait in waits:
                    self._journal.await_quiet(tx, wait.path, is_selected=wait.is_selected)
                return events

            if files or waits:
                self._report(await self._store.write(record))
                now = self._clock.steady()
                for file in files:
                    self._forget(file.path)
                for wait in waits:
                    self.settling.touch(wait.path, wait.stamp, now)
                    if wait.sample is not None:
                        self._samples[wait.path] = wait.sample
                    if wait.busy:
                        self.busy.add(wait.path)
                        self.settling.restart(wait.path, now)
                self._on_work()
        return remaining

    def _classify_files(
        self, files: Sequence[FoundFile], awaited: Collection[str]
    ) -> tuple[list[FileDecision], Sequence[FoundFile]]:
        """Check these files in order until the batch's time is up.

        Return the checks and the remaining files.
        """
        until = self._clock.steady() + self._page_seconds
        paths = [file.path for file in files if file.has_row]
        entries = self._store.read_now(lambda tx: {p: tx.entries.get(self._mirror, p) for p in paths})
        decisions = list[FileDecision]()
        for number, file in enumerate(searches_first.pace(files)):
            if number and self._clock.steady() >= until:
                return decisions, files[number:]
            stored = entries.get(file.path)
            is_stored = (
                stored is not None
                and stored.presence is Presence.PRESENT
                and stored.stamp == file.stamp
                and not stored.racy
            )
            if is_stored and file.fresh and not file.quiet:
                continue  # a hint about an unchanged file: nothing to do, not even a write
            decision = self._classify(file, stored, is_awaited=file.path in awaited)
            log_decision(self._journal.binding.settings.name, file, stored, decision)
            decisions.append(decision)
        return decisions, []

    def _classify(self, file: FoundFile, stored: FileRow | None, *, is_awaited: bool) -> FileDecision:
        """Decide what to do with the file: skip it, wait for it, or read it.

        This runs in a thread and doesn't touch any rows. `stored`: the file's row in the state. `is_awaited`:
        whether kbsync is already waiting for the file.
        """
        binding, clock = self._journal.binding, self._clock
        path, stamp, root = file.path, file.stamp, binding.settings.root
        verdict = file.rules.verdict(path, stamp.size, file.kind)
        is_selected, is_unclear = verdict.choice is FileChoice.SELECTED, stamp == NO_STAMP
        if is_unclear or not (file.fresh or is_selected or (stored and stored.stamp == stamp)):
            # A newer check may have been recorded since a scan listed the file. Reading a selected file
            # checks that its stamp is still the same.
            now = stat_path(root, path)
            if is_unclear and is_selected and now.problem:
                return FileSeen(path, stamp, problem=f"cannot be accessed: {now.problem}")
            if now.stamp is None or now.kind is None or now.kind is FileKind.FOLDER:
                return None
            if now.stamp != stamp:
                file = replace(file, stamp=now.stamp, kind=now.kind, links=now.links, fresh=True)
                return self._classify(file, stored, is_awaited=is_awaited)
        is_quiet = file.quiet or is_old_enough(stamp, clock.wall(), binding.settings.settle)
        if verdict.choice is not FileChoice.SELECTED:
            # A program may empty a file before writing it, so the file must stay empty for a while to count
            # as deleted.
            had_content = is_awaited or (stored is not None and stored.digest is not None)
            is_emptied = had_content and file.kind is FileKind.FILE and stamp.size == 0
            if is_emptied and not is_quiet:
                # Keep waiting even after the longest wait, because an empty moment says nothing about the
                # content to come.
                return Wait(path, stamp, busy=file.forced, is_selected=False)
            return FileSeen(path, stamp, verdict, by_person=by_person(file, stored), fresh=file.fresh)
        # An equal timestamp means equal bytes: read and send nothing (promise 7).
        if stored is not None and stored.digest and stored.stamp == stamp and not (file.deep or stored.racy):
            return FileSeen(path, stamp, verdict, digest=stored.digest, fresh=file.fresh)
        if is_quiet:
            return self._classify_content(file, stored, verdict, digest(root, path, stamp))
        if file.forced:
            content = copy_growing(root, path, binding.spool_dir, file.sample)
            return self._classify_content(file, stored, verdict, content)
        return Wait(path, stamp)

    def _classify_content(
        self,
        file: FoundFile,
        stored: FileRow | None,
        verdict: Verdict,
        content: StableDigest | Spooled | ReadProblem,
    ) -> FileDecision:
        """Decide what to do with a selected file that has been read."""
        path = file.path
        match content:
            case UnreadableFile(reason):
                return FileSeen(path, file.stamp, problem=reason)
            case Unstable():
                return Wait(path, file.stamp, busy=file.forced, sample=content.sample)
            case Spooled():
                self._keep(path, content)
            case StableDigest():
                pass
            case _:
                return None
        renamed_from = None
        # For a file with several links, the inode doesn't show the old name.
        if (stored is None or stored.digest is None) and file.links == 1:
            former_rows = self._former_files(path, content.stamp.ino, content.digest)
            renamed_from = former_rows[0].path if former_rows else None
        return FileSeen(
            path,
            content.stamp,
            verdict,
            digest=content.digest,
            racy=content.stamp.newest >= self._clock.wall() - RACY_SECONDS,
            fresh=file.fresh,
            renamed_from=renamed_from,
        )

    def _former_files(self, path: str, ino: int, digest: str) -> list[FileRow]:
        """Return stored files with this inode and these bytes that are no longer at their paths and may now
        be at `path`.
        """
        binding, read = self._journal.binding, self._store.read_now
        entries = read(lambda tx: tx.entries.with_ino(binding.mirror, ino, digest))
        if not entries:
            return []
        root = binding.settings.root
        mounts = read(partial(_mounts, binding, [entry.path for entry in entries]))
        rechecked = stat_in_mounts(root, mounts)

        def stat_again(path: str) -> PathStat:
            return rechecked.get(path) or stat_path(root, path)

        respelled = [entry.path for entry in entries if is_respelled(entry.path, path)]
        aliases = find_aliases(root, respelled)
        return [entry for entry in entries if entry.path in aliases or stat_again(entry.path).lacks_file]


class _ScanPages:
    """A scan that runs in threads and that the loop may end at any time.

    An interrupted scan leaves behind a thread, which may hang on a mount for a long time. Whichever ends
    last, the scan or its thread, closes the scan's resources.
    """

    def __init__(self, listings: Scan, is_stopping: Callable[[], bool]) -> None:
        self._listings = listings
        self._is_stopping = is_stopping
        self._pulling = threading.Lock()
        self._is_over = False

    def next(self) -> list[FolderListing]:
        """Read a few more listings, or fewer if they are large. Return none once the scan has ended."""
        batch: list[FolderListing] = []
        size = 0
        try:
            with self._pulling:
                while size < PAGE and not (self._is_over or self._is_stopping()):
                    listing = next(self._listings, None)
                    if listing is None:
                        break
                    batch.append(listing)
                    size += 1 + len(listing.changed)
            return batch
        finally:
            if self._is_over:
                self.close()

    def close(self) -> None:
        """End the scan without waiting. Safe to call more than once."""
        self._is_over = True
        if self._pulling.acquire(blocking=False):
            try:
                self._listings.close()
            finally:
                self._pulling.release()


def _next_batch(files: Iterator[FoundFile]) -> list[FoundFile]:
    """Return the next batch of files. At the end, the batch is empty."""
    batch: list[FoundFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.stamp.size
        if len(batch) >= PAGE or size >= PAGE_BYTES:
            break
    return batch
