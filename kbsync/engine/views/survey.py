"""Compares a folder with what is recorded of it and says what a pass would make of every difference.

The scanner, the judge and the planner are those of a real pass. Only what follows from them is noted here
instead of being written. Nothing is held but the paths that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TypeVar

from kbsync.core.model import (
    NO_STAMP,
    Choice,
    Kind,
    Presence,
    Status,
    Upload,
    UploadState,
    Verdict,
    Wish,
)
from kbsync.core.settle import is_old_enough
from kbsync.engine.clock import Clock
from kbsync.engine.judge import Judge, Judgement, Sight, Wait, is_by_person
from kbsync.engine.ledger import Seen
from kbsync.engine.mounted import former_files
from kbsync.engine.tree import StateTree
from kbsync.engine.views.footing import Footing, Ground
from kbsync.engine.views.foresight import Effect, follow
from kbsync.engine.views.steps import Findings, LeftOut, Step, step_of
from kbsync.source.looker import RulesUnknown, look, rules_at
from kbsync.source.scanner import KnownFolder, Listing, Row, scan
from kbsync.state.entries import Entry
from kbsync.state.folders import folder_label, join, split
from kbsync.state.store import Glance, Tx

T = TypeVar("T")
PAGE = 256
NO_LIMIT = -1
OPEN = (
    UploadState.INTENDED,
    UploadState.SENDING,
    UploadState.UNSURE,
    UploadState.INDEXING,
    UploadState.HELD,
    UploadState.RETIRING,
    UploadState.FAILED,
)
"""States in which a pass may have to do something although the file is as it was."""

BUSY = "it is being written now; it is sent once it is quiet"


class _NothingKnown:
    """A tree without rows."""

    def rows(self, directory: str) -> set[Row]:
        return set()

    def folders(self, directory: str) -> dict[str, KnownFolder]:
        return {}

    def folder(self, directory: str) -> KnownFolder | None:
        return None

    def close(self) -> None:
        pass


class Survey:
    """One survey of one mirror. Its calls block and belong into one thread."""

    def __init__(self, footing: Footing, ground: Ground, glance: Glance, clock: Clock) -> None:
        self._footing = footing
        self._terms = footing.terms
        self._ground = ground
        self._glance = glance
        self._clock = clock
        former = partial(former_files, self._read, footing.terms)
        self._judge = Judge(footing.terms, clock, former, keep=lambda _path, body: body.close())
        self._found = Findings()
        self._touched: set[str] = set()
        self._missing: list[str] = []
        self._relisted: set[str] = set()

    def run(self) -> Findings:
        """Look at the whole folder."""
        mirror = self._terms.mirror
        self._found.unchanged = self._read(lambda tx: tx.mirrors.tally(mirror)).get(Status.READY, 0)
        self._compare()
        self._reread_racy()
        self._part()
        self._remember()
        self._read(self._note_failures)
        return self._found

    def _read(self, work: Callable[[Tx], T]) -> T:
        return self._glance.read(work)

    # -- the folder ------------------------------------------------------------------------------------

    def _compare(self) -> None:
        with closing(self._tree()) as tree:
            listings = scan(self._terms.plan.root, tree, self._terms.rules)
            with closing(listings):
                for listing in listings:
                    self._take_listing(listing)

    def _tree(self) -> StateTree | _NothingKnown:
        if self._footing.record is None:
            return _NothingKnown()
        return StateTree(self._glance.path, self._terms.mirror)

    def _take_listing(self, listing: Listing) -> None:
        self._relisted.add(listing.path)
        if listing.problem:
            self._found.failed.append(LeftOut(folder_label(listing.path), 0, listing.problem))
            return
        sights = self._sights(listing)
        while page := list(islice(sights, PAGE)):
            self._take(page)
        self._missing += [join(listing.path, name) for name in listing.missing]
        for name in listing.gone_folders:
            self._missing += [entry.path for entry in self._below(join(listing.path, name))]
        person = is_by_person(self._stored_version(listing.path), listing.version)
        for name, verdict in listing.shut_folders:
            self._shut(join(listing.path, name), verdict, person)

    def _sights(self, listing: Listing) -> Iterator[Sight]:
        """Files are taken to stay as they are: what is young is noted, not waited for."""
        version = self._stored_version(listing.path) if listing.reselect else ""
        for found in listing.changed:
            path = join(listing.path, found.name)
            yield Sight(path, found.stamp, found.kind, found.links, listing.rules, version, quiet=True)

    def _stored_version(self, folder: str) -> str:
        row = self._read(lambda tx: tx.folders.get(self._terms.mirror, folder))
        return "" if row is None else row.version

    def _below(self, folder: str) -> list[Entry]:
        return self._read(lambda tx: list(tx.entries.below(self._terms.mirror, folder)))

    def _reread_racy(self) -> None:
        """Files that may have changed behind the stamp that is stored."""
        racy = self._read(lambda tx: tx.entries.racy(self._terms.mirror, NO_LIMIT))
        paths = (entry.path for entry in racy if entry.path not in self._touched)
        while page := list(islice(paths, PAGE)):
            self._take([sight for path in page if (sight := self._look(path)) is not None])

    def _look(self, path: str) -> Sight | None:
        plan = self._terms.plan
        found = look(plan.root, path)
        if found.stamp is None or found.kind in (None, Kind.FOLDER):
            return None
        try:
            rules, entered = rules_at(plan.root, self._terms.rules, split(path)[0])
        except (RulesUnknown, OSError):
            return None
        if entered.choice is not Choice.SELECTED:
            return None
        return Sight(path, found.stamp, found.kind or Kind.FILE, found.links, rules, quiet=True)

    # -- files that are there --------------------------------------------------------------------------

    def _take(self, sights: Sequence[Sight]) -> None:
        known = self._entries([sight.path for sight in sights])
        judged = [(sight, self._judge.judge(sight, known.get(sight.path))) for sight in sights]
        self._read(lambda tx: self._heed_all(tx, judged, known))

    def _entries(self, paths: Sequence[str]) -> Mapping[str, Entry]:
        mirror = self._terms.mirror
        rows = self._read(lambda tx: [tx.entries.get(mirror, path) for path in paths])
        return {row.path: row for row in rows if row is not None}

    def _heed_all(
        self, tx: Tx, judged: Sequence[tuple[Sight, Judgement]], known: Mapping[str, Entry]
    ) -> None:
        for sight, judgement in judged:
            self._heed(tx, sight, judgement, known.get(sight.path))

    def _heed(self, tx: Tx, sight: Sight, judged: Judgement, known: Entry | None) -> None:
        if judged is None:
            return
        self._touch(sight.path, known)
        if isinstance(judged, Wait):
            self._note_busy(tx, sight, known)
        elif judged.problem:
            self._found.failed.append(LeftOut(sight.path, max(sight.stamp.size, 0), judged.problem))
        else:
            self._foresee(tx, sight, judged, known)

    def _touch(self, path: str, known: Entry | None) -> None:
        """What was ready counts as unchanged only if it turns out to be; each path is dealt with once.

        What has no row is met by nothing but the scan.
        """
        if known is not None:
            self._touched.add(path)
            self._found.unchanged -= known.status is Status.READY

    def _note_busy(self, tx: Tx, sight: Sight, known: Entry | None) -> None:
        server = next((row for row in self._rows(tx, sight.path) if row.state.serves), None)
        effect = Effect.UPLOAD if server is None else Effect.REPLACE
        size = sight.stamp.size
        self._found.note(Step(effect, sight.path, size, sends=True, note=BUSY, before=known, server=server))

    def _foresee(self, tx: Tx, sight: Sight, seen: Seen, known: Entry | None) -> None:
        wish = self._wish(seen, known)
        moved_from = seen.renamed_from if seen.renamed_from not in self._touched else None
        rows = self._rows(tx, sight.path)
        if moved_from is not None:
            self._touch(moved_from, tx.entries.get(self._terms.mirror, moved_from))
            rows += [replace(row, path=sight.path) for row in self._rows(tx, moved_from)]
        course = follow(wish, rows, self._terms.abilities)
        step = step_of(wish, course, known, moved_from)
        self._found.leave_out(wish, course)
        self._found.note(replace(step, note=step.note or self._youth(sight, step)))

    def _wish(self, seen: Seen, known: Entry | None) -> Wish:
        """As the ledger would record the file and wish by it: one that is not read keeps its last digest."""
        digest = seen.digest or (known.digest if known else None)
        size, recipe = max(seen.stamp.size, 0), self._terms.recipe(seen.path)
        return Wish(seen.path, Presence.PRESENT, seen.verdict, digest, size, recipe, seen.by_person)

    def _youth(self, sight: Sight, step: Step) -> str:
        settle = self._terms.plan.settle
        if not step.sends or is_old_enough(sight.stamp, self._clock.wall(), settle):
            return ""
        return f"it changed just now; it is sent once it has been quiet for {settle:g} s"

    def _rows(self, tx: Tx, path: str) -> list[Upload]:
        return self._footing.rows(tx, path)

    # -- files that are not there, or not looked for any more --------------------------------------------

    def _shut(self, folder: str, verdict: Verdict, by_person: bool) -> None:
        self._settle([replace(entry, verdict=verdict, by_person=by_person) for entry in self._below(folder)])

    def _part(self) -> None:
        """What the scan did not find gets a second look, as in a pass."""
        gone = (path for path in self._missing if path not in self._touched and self._is_gone(path))
        while page := list(islice(gone, PAGE)):
            self._settle([replace(e, presence=Presence.GONE) for e in self._entries(page).values()])

    def _is_gone(self, path: str) -> bool:
        return look(self._terms.plan.root, path, self._ground.identity).lacks_file

    def _settle(self, entries: Sequence[Entry], *, news: bool = True) -> None:
        untouched = [entry for entry in entries if entry.path not in self._touched]
        self._read(lambda tx: self._settle_all(tx, untouched, news))

    def _settle_all(self, tx: Tx, entries: Sequence[Entry], news: bool) -> None:
        for entry in entries:
            self._settle_one(tx, entry, news)

    def _settle_one(self, tx: Tx, entry: Entry, news: bool) -> None:
        self._touch(entry.path, entry)
        wish = self._old_wish(entry)
        course = follow(wish, self._rows(tx, entry.path), self._terms.abilities)
        self._found.note(replace(step_of(wish, course, entry, None), news=news))

    def _old_wish(self, entry: Entry) -> Wish:
        """What the folder wants at a path that is as it was recorded; a new run counts its looks anew."""
        presence = Presence.PRESENT if entry.presence is Presence.MISSING else entry.presence
        is_read = entry.stamp != NO_STAMP and entry.stamp.size >= 0
        digest = entry.digest if is_read else None
        size, recipe = max(entry.stamp.size, 0), self._terms.recipe(entry.path)
        return Wish(entry.path, presence, entry.verdict, digest, size, recipe, entry.by_person)

    # -- what the state knew already -------------------------------------------------------------------

    def _remember(self) -> None:
        """Paths whose file is as it was and whose documents are not all at rest."""
        paths = self._everything() if self._footing.renewed else self._unfinished()
        untouched = (path for path in paths if path not in self._touched)
        while page := list(islice(untouched, PAGE)):
            self._settle(list(self._entries(page).values()), news=False)

    def _everything(self) -> Iterator[str]:
        mirror = self._terms.mirror
        for _, folder in self._read(lambda tx: list(tx.folders.tree(mirror, ""))):
            yield from self._names(folder)

    def _names(self, folder: str) -> list[str]:
        return self._read(lambda tx: tx.entries.names(self._terms.mirror, folder))

    def _unfinished(self) -> Iterator[str]:
        yield from self._read(lambda tx: [c.path for c in tx.holds.candidates(self._terms.mirror)])
        yield from self._read(lambda tx: tx.renewals.paths(self._terms.mirror))
        yield from self._read(self._unlabelled)
        after = 0
        while rows := self._open_rows(after):
            after = rows[-1].id
            yield from (row.path for row in rows if row.path is not None)

    def _open_rows(self, after: int) -> list[Upload]:
        terms = self._terms
        return self._read(lambda tx: tx.uploads.in_states(terms.mirror, terms.binding, OPEN, after))

    def _unlabelled(self, tx: Tx) -> list[str]:
        """Documents that the target still knows under another path."""
        terms, ever = self._terms, float("inf")
        rows = tx.uploads.due(terms.mirror, terms.binding, UploadState.SERVING, ever, NO_LIMIT)
        return [row.path for row in rows if row.path is not None]

    def _note_failures(self, tx: Tx) -> None:
        """Files and directories that failed before and were not looked at just now."""
        mirror = self._terms.mirror
        for folder in tx.folders.problems(mirror):
            if folder.path not in self._relisted and not folder.shut and self._is_there(folder.path):
                self._found.failed.append(LeftOut(folder_label(folder.path), 0, folder.problem))
        for entry in tx.entries.of_status(mirror, Status.FAILED):
            if entry.path not in self._touched and entry.verdict.choice is Choice.REFUSED:
                reason = entry.verdict.reason
                self._found.failed.append(LeftOut(entry.path, max(entry.stamp.size, 0), reason))

    def _is_there(self, path: str) -> bool:
        return look(self._terms.plan.root, path).presence is not Presence.MISSING
