"""Brings the state up to date with the disk: scans, hints, and files that are being written.

Every way leads through the same steps: a sight of a file, a judgement (in a thread), a row and its
consequences (one transaction for a page of files).
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from kbsync.core.model import Choice, Kind, Presence, Stamp, Verdict
from kbsync.core.select import Rules
from kbsync.core.settle import Settling, is_old_enough
from kbsync.engine.accounts import tell_judged
from kbsync.engine.clock import Clock
from kbsync.engine.judge import RACY_SECONDS, Judge, Judgement, Sight, Wait, is_by_person
from kbsync.engine.ledger import Ledger, Seen
from kbsync.engine.mounted import former_files, heed_mounts
from kbsync.engine.tree import StateTree
from kbsync.source.hints import Hint, HintKind
from kbsync.source.lists import is_list
from kbsync.source.looker import Look, RulesUnknown, look, rules_at
from kbsync.source.reader import Sample
from kbsync.source.roots import trouble_there
from kbsync.source.scanner import Listing, Scan, ScanSummary, scan
from kbsync.source.spool import Spooled
from kbsync.state.entries import UNTIL_SCANNED, Entry
from kbsync.state.folders import join, split
from kbsync.state.store import Store, Tx

PAGE = 256
PAGE_BYTES = 64 * 1024 * 1024
"""A page of files is read under the lock: a fresh hint waits for no more than this."""
BURST = 64
"""So many files at one look were not saved by a person who waits for each: they are backlog."""

FORCED = 4
"""Files that never get quiet are read twice, with a pause between: a fresh hint waits for so many at most."""

IGNORE_FILE = ".kbsyncignore"

Looked = tuple[str, Look, Rules | None]
"""A path, what a look found, and the rules of its directory (None: not entered, or not known)."""


class Reconciler:
    """The disk side of one mirror.

    `on_work`: rows were written that the worker may care about. `keep`: bytes of a file that never gets
    quiet, to be sent as they were read.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        clock: Clock,
        *,
        on_work: Callable[[], None],
        keep: Callable[[str, Spooled], None],
    ) -> None:
        plan = ledger.terms.plan
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._on_work = on_work
        self._judge = Judge(ledger.terms, clock, partial(former_files, store.read_now, ledger.terms), keep)
        self._samples: dict[str, Sample] = {}
        self._quiet_lists: dict[str, Stamp] = {}
        self._stopping = False
        self._numbers = itertools.count(1)
        self._scanning: set[float] = set()
        self._missing_to: set[float] = set()  # scans that missed something, which is not counted yet
        self._taking = asyncio.Lock()
        self.settling = Settling(plan.settle, plan.settle_longest)
        self.busy: set[str] = set()
        """Files that even the longest wait did not find quiet, as long as they are waited for."""

    @property
    def _mirror(self) -> int:
        return self._ledger.terms.mirror

    def stop(self) -> None:
        """Let a running scan end at its next directory."""
        self._stopping = True

    # -- whole trees -----------------------------------------------------------------------------------

    async def scan(self, start: str = "", *, deep: bool = False) -> ScanSummary:
        """Compare a tree with the state. `deep`: read every file, whatever its stamp.

        What is missed counts as missed when the end is reached: it may have moved to where no look was yet.
        """
        terms = self._ledger.terms
        tree = StateTree(self._store.path, self._mirror)
        listings = scan(terms.plan.root, tree, terms.rules, start=start, deep=deep)
        pull = _Pull(partial(self._pulled, listings), listings, tree)
        moment = UNTIL_SCANNED + next(self._numbers)
        self._scanning.add(moment)
        try:
            while page := await asyncio.to_thread(pull.next):
                for listing in page:
                    await self._take_listing(listing, deep, moment)
        finally:
            pull.close()
            self._scanning.remove(moment)
            await self._count_missed()
        return listings.summary

    async def _count_missed(self) -> None:
        """Of scans that ended, this one and any whose end could not be recorded."""
        ended, now = self._missing_to - self._scanning, self._clock.steady()
        if ended and not self._stopping:  # a new process counts both looks itself
            await self._store.write(lambda tx: tx.entries.scans_ended(self._mirror, ended, now))
            self._missing_to -= ended
            self._on_work()

    def _pulled(self, listings: Scan) -> list[Listing]:
        with self._store.telling():
            return self._pull(listings)

    def _pull(self, listings: Scan) -> list[Listing]:
        """A few listings, or less when one is large; empty at the end."""
        page: list[Listing] = []
        size = 0
        while size < PAGE and not self._stopping:
            listing = next(listings, None)
            if listing is None:
                break
            page.append(listing)
            size += 1 + len(listing.changed)
        return page

    async def _take_listing(self, listing: Listing, deep: bool, moment: float) -> None:
        if listing.problem:
            await self._store.write(
                lambda tx: tx.folders.trouble(self._mirror, listing.path, listing.problem)
            )
            return
        if listing.stamp is not None and not self._is_quiet(listing.path, listing.stamp):
            self.settling.touch(listing.path, listing.stamp, self._clock.steady())
            return
        sights = self._sights(listing, await self._stored_version(listing))
        if listing.reselect or listing.shut_folders:
            await self._store.write(lambda tx: self._unsettle(tx, listing))
        while page := _page(sights):
            if self._stopping:
                return  # the directory is not marked as seen: the next scan finds the rest
            await self._take(page, deep=deep, known_new=listing.new)
        for name, verdict in listing.shut_folders:
            await self._deselect_below(listing, join(listing.path, name), verdict)
        if listing.missing or listing.gone_folders:
            self._missing_to.add(moment)
        await self._store.write(lambda tx: self._record_listing(tx, listing, moment))
        self._on_work()

    def _is_quiet(self, path: str, stamp: Stamp) -> bool:
        """A list of pages was not changed just now: what is not in it yet, may be about to come."""
        plan = self._ledger.terms.plan
        return self._quiet_lists.get(path) == stamp or is_old_enough(stamp, self._clock.wall(), plan.settle)

    async def _stored_version(self, listing: Listing) -> str:
        """The selection version its files were judged under before; '' where that does not matter."""
        if not listing.reselect:
            return ""
        row = await self._store.read(lambda tx: tx.folders.get(self._mirror, listing.path))
        return "" if row is None else row.version

    def _sights(self, listing: Listing, version: str) -> Iterator[Sight]:
        for found in listing.changed:
            path = join(listing.path, found.name)
            yield Sight(path, found.stamp, found.kind, found.links, listing.rules, version)

    def _unsettle(self, tx: Tx, listing: Listing) -> None:
        if listing.reselect:
            tx.folders.unsettle(self._mirror, listing.path)
        for name, _ in listing.shut_folders:
            tx.folders.unsettle_tree(self._mirror, join(listing.path, name))

    def _record_listing(self, tx: Tx, listing: Listing, moment: float) -> None:
        mirror = self._mirror
        tx.folders.seen(mirror, listing.path, listing.version, listing.is_mount)
        tx.entries.miss(mirror, listing.path, listing.missing, moment)
        for name in listing.gone_folders:
            self._miss_tree(tx, join(listing.path, name), moment)
        for name, _ in listing.shut_folders:
            tx.folders.shut(mirror, join(listing.path, name))

    def _miss_tree(self, tx: Tx, folder: str, moment: float) -> None:
        tx.entries.miss_tree(self._mirror, folder, moment)
        tx.folders.gone(self._mirror, folder)

    async def _deselect_below(self, listing: Listing, folder: str, verdict: Verdict) -> None:
        """Selection does not enter a directory any more: all files in it are deselected, a page a commit."""
        before = await self._store.read(lambda tx: tx.folders.get(self._mirror, listing.path))
        person = before is None or is_by_person(before.version, listing.version)
        for below in await self._store.read(
            lambda tx: [path for _, path in tx.folders.tree(self._mirror, folder)]
        ):
            paths = await self._store.read(partial(_names, self._mirror, below))
            for start in range(0, len(paths), PAGE):
                page = paths[start : start + PAGE]
                await self._store.write(partial(self._deselect, page, verdict, person))

    def _deselect(self, paths: Sequence[str], verdict: Verdict, by_person: bool, tx: Tx) -> None:
        for path in paths:
            self._ledger.deselect(tx, path, verdict, by_person)

    async def recheck_racy(self) -> None:
        """Read again what was read so soon after a change that another may hide behind the same stamp."""
        before = self._clock.wall() - RACY_SECONDS
        tried: set[str] = set()
        while not self._stopping:
            rows = await self._store.read(lambda tx: tx.entries.racy(self._mirror, PAGE + len(tried)))
            ripe = [row.path for row in rows if row.stamp.newest < before and row.path not in tried]
            if not ripe:
                return
            tried.update(ripe)  # each once: what cannot be read now is no reason to stay here
            # Not as quiet ones: their old stamp says nothing of who writes to them now (promise 8).
            await self._look_and_take(ripe)

    # -- hints -----------------------------------------------------------------------------------------

    async def heed(self, hints: Sequence[Hint]) -> None:
        """Look where hints point."""
        trees = [hint for hint in hints if hint.kind is not HintKind.FILE or self._is_list(hint.path)]
        files = [hint.path for hint in hints if hint not in trees]
        await self._look_and_take(files, fresh=True)
        for hint in trees:
            await self._heed_tree(hint.path)

    def _is_list(self, path: str) -> bool:
        return self._ledger.terms.rules.takes_links and is_list(path)

    async def _heed_tree(self, path: str) -> None:
        found = await asyncio.to_thread(look, self._ledger.terms.plan.root, path)
        [(_, found)] = await heed_mounts(self._store, self._ledger.terms, [(path, found)])
        if self._is_list(path) and found.kind is Kind.FILE and found.stamp is not None:
            self.settling.touch(path, found.stamp, self._clock.steady())
        elif found.kind is Kind.FOLDER or path == "":
            await self._note_absent([(path, found, None)])
            await self.scan(path)
        else:
            await self._look_and_take([path], fresh=True)
            await self._store.write(lambda tx: self._miss_folder(tx, path, found))
            self._on_work()

    def _miss_folder(self, tx: Tx, path: str, found: Look) -> None:
        gone = found.presence is Presence.MISSING or found.kind not in (None, Kind.FOLDER)
        if gone and tx.folders.get(self._mirror, path) is not None:
            self._miss_tree(tx, path, self._clock.steady())

    async def _look_and_take(self, paths: Sequence[str], *, fresh: bool = False) -> None:
        ignores = [path for path in paths if split(path)[1] == IGNORE_FILE]
        for start in range(0, len(paths), PAGE):
            await self._take_looks(paths[start : start + PAGE], fresh)
        for path in ignores:
            await self.scan(split(path)[0])

    async def _take_looks(self, paths: Sequence[str], fresh: bool) -> None:
        looked = await asyncio.to_thread(self._looks, paths)
        sights = []
        folders = []
        for path, found, rules in looked:
            if found.kind is Kind.FOLDER:
                folders.append(path)
            elif found.stamp is not None and found.kind is not None and rules is not None:
                sights.append(Sight(path, found.stamp, found.kind, found.links, rules, fresh=fresh))
        await self._take(sights)
        await self._note_absent(looked)
        for path in folders:
            await self.scan(path)

    def _looks(self, paths: Sequence[str]) -> list[Looked]:
        terms = self._ledger.terms
        chains: dict[str, Rules | None] = {}
        looked = []
        for path in paths:
            folder = split(path)[0]
            if folder not in chains:
                chains[folder] = self._rules(folder)
            looked.append((path, look(terms.plan.root, path), chains[folder]))
        return looked

    def _rules(self, folder: str) -> Rules | None:
        """The rules of a directory; None where selection does not enter it or they cannot be known."""
        terms = self._ledger.terms
        try:
            rules, entered = rules_at(terms.plan.root, terms.rules, folder)
        except RulesUnknown:
            return None
        except OSError as error:
            trouble_there(error)
            return None
        return rules if entered.choice is Choice.SELECTED else None

    async def _note_absent(self, looked: Sequence[Looked]) -> None:
        absent = [
            (path, found)
            for path, found, _ in looked
            if found.presence is not Presence.PRESENT or found.lacks_file
        ]
        if absent:
            absent = await heed_mounts(self._store, self._ledger.terms, absent)
            for path, found in absent:
                if found.lacks_file:
                    self._forget(path)
            await self._store.write(lambda tx: self._record_absent(tx, absent))
            self._on_work()

    def _record_absent(self, tx: Tx, absent: Sequence[tuple[str, Look]]) -> None:
        for path, found in absent:
            if found.lacks_file:
                folder, name = split(path)
                tx.entries.miss(self._mirror, folder, [name], self._clock.steady())
            elif found.presence is Presence.UNKNOWN:
                tx.entries.set_presence(self._mirror, path, Presence.UNKNOWN)

    # -- files being written ---------------------------------------------------------------------------

    def coming(self) -> set[int]:
        """The inodes of files that will be taken when they are quiet."""
        paths = (path for path in self.settling.paths() if path not in self.busy)
        return {stamp.ino for path in paths if (stamp := self.settling.stamp(path)) is not None}

    def _forget(self, path: str) -> None:
        """The file was taken, or there is none to be taken."""
        self.settling.forget(path)
        self._samples.pop(path, None)
        self.busy.discard(path)

    async def settle_due(self) -> None:
        """Take the files that have been quiet for a settle, or whose longest wait is over."""
        due = self.settling.due(self._clock.steady(), PAGE)
        if not due:
            return
        forced = set(itertools.islice((d.path for d in due if d.forced), FORCED))
        due = [d for d in due if not d.forced or d.path in forced]
        stamps = {d.path: d.stamp for d in due}
        looked = await asyncio.to_thread(self._looks, [d.path for d in due])
        sights = []
        lists = {path: found.stamp for path, found, _ in looked if self._is_list(path)}
        for path, found, rules in looked:
            if path in lists and found.kind is Kind.FILE:
                continue
            if found.stamp is None or found.kind in (None, Kind.FOLDER) or rules is None:
                self._forget(path)
                continue
            is_quiet = found.stamp == stamps[path] and path not in forced
            sight = Sight(path, found.stamp, found.kind, found.links, rules, quiet=is_quiet, fresh=True)
            if path in forced:
                # The stamp of the last look may be a moment old: it proves no quiet (promise 8).
                sight = replace(sight, forced=True, sample=self._samples.get(path))
            sights.append(sight)
        await self._take(sights)
        await self._note_absent(looked)
        for path, stamp in lists.items():
            await self._settle_list(path, stamps[path], stamp, is_forced=path in forced)

    async def _settle_list(self, path: str, before: Stamp, now: Stamp | None, *, is_forced: bool) -> None:
        """A list of pages counts when it has been quiet, and never before."""
        if now is not None and (is_forced or now != before):
            self.settling.touch(path, now, self._clock.steady())
            if is_forced:
                self.busy.add(path)
                self.settling.restart(path, self._clock.steady())
            return
        self._forget(path)
        if now is not None:
            self._quiet_lists[path] = now
            await self.scan(path)
            del self._quiet_lists[path]

    # -- the common end --------------------------------------------------------------------------------

    async def _take(self, sights: Sequence[Sight], *, deep: bool = False, known_new: bool = False) -> None:
        """Judge a page of sights and record what follows."""
        if not sights:
            return
        async with self._taking:  # a judgement is recorded before the next one about the same file begins
            awaited = {sight.path for sight in sights if sight.path in self.settling}
            judged = await asyncio.to_thread(self._judge_all, sights, deep, known_new, awaited)
            seen = [j for j in judged if isinstance(j, Seen)]
            waits = [j for j in judged if isinstance(j, Wait)]
            if len(seen) > BURST:
                seen = [replace(one, fresh=False) for one in seen]
            if seen or waits:
                await self._store.write(lambda tx: self._record(tx, seen, waits))
                self._note(seen, waits)
                self._on_work()

    def _judge_all(
        self, sights: Sequence[Sight], deep: bool, known_new: bool, awaited: Collection[str]
    ) -> list[Judgement]:
        paths = [] if known_new else [sight.path for sight in sights]
        known = self._store.read_now(lambda tx: {p: tx.entries.get(self._mirror, p) for p in paths})
        return [
            self._judged(sight, known.get(sight.path), deep, sight.path in awaited)
            for sight in sights
            if not self._is_noise(sight, known.get(sight.path))
        ]

    def _judged(self, sight: Sight, known: Entry | None, deep: bool, awaited: bool) -> Judgement:
        judgement = self._judge.judge(sight, known, deep=deep, awaited=awaited)
        tell_judged(self._ledger.terms.plan.name, sight, known, judgement)
        return judgement

    def _is_noise(self, sight: Sight, known: Entry | None) -> bool:
        """A hint about a file that is stored as it is: nothing to do, not even a write."""
        return (
            sight.fresh
            and not sight.quiet
            and known is not None
            and known.presence is Presence.PRESENT
            and known.stamp == sight.stamp
            and not known.racy
        )

    def _record(self, tx: Tx, seen: Sequence[Seen], waits: Sequence[Wait]) -> None:
        for one in seen:
            self._ledger.observe(tx, one)
        for wait in waits:
            self._ledger.await_quiet(tx, wait.path, wanted=wait.wanted)

    def _note(self, seen: Sequence[Seen], waits: Sequence[Wait]) -> None:
        now = self._clock.steady()
        for one in seen:
            self._forget(one.path)
        for wait in waits:
            self.settling.touch(wait.path, wait.stamp, now)
            if wait.sample is not None:
                self._samples[wait.path] = wait.sample
            if wait.busy:
                self.busy.add(wait.path)
                self.settling.restart(wait.path, now)


class _Pull:
    """A scan that is pulled in threads and ended by the loop, at any time.

    A scan that is cut off leaves a thread behind, which may hang in a mount for long: whoever comes last
    lets go of what it uses.
    """

    def __init__(self, pull: Callable[[], list[Listing]], listings: Scan, tree: StateTree) -> None:
        self._pull = pull
        self._listings = listings
        self._tree = tree
        self._pulling = threading.Lock()
        self._is_over = False

    def next(self) -> list[Listing]:
        """In a thread: a few listings; none at the end."""
        try:
            with self._pulling:
                return [] if self._is_over else self._pull()
        finally:
            if self._is_over:
                self.close()

    def close(self) -> None:
        """No more of it; never waits. Repeatable."""
        self._is_over = True
        if self._pulling.acquire(blocking=False):
            try:
                self._listings.close()
                self._tree.close()
            finally:
                self._pulling.release()


def _names(mirror: int, folder: str, tx: Tx) -> list[str]:
    return tx.entries.names(mirror, folder)


def _page(sights: Iterator[Sight]) -> list[Sight]:
    """The next files, as many as are read in one go; empty at the end."""
    page: list[Sight] = []
    size = 0
    for sight in sights:
        page.append(sight)
        size += sight.stamp.size
        if len(page) >= PAGE or size >= PAGE_BYTES:
            break
    return page
