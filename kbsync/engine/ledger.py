"""Records what was seen and lets the planner draw the consequences, in one transaction.

Every method takes the transaction it runs in. Whatever changes a file's row or an upload's row ends with
`settle`, so that rows and intentions never disagree on disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from kbsync.core import lifecycle
from kbsync.core.debugging import tell
from kbsync.core.lifecycle import Rhythm
from kbsync.core.links import is_address, is_link
from kbsync.core.model import (
    NO_STAMP,
    SELECTED,
    Choice,
    Presence,
    Stamp,
    Status,
    Upload,
    UploadState,
    Verdict,
    Wish,
)
from kbsync.core.planner import (
    Action,
    Drop,
    Forgo,
    Keep,
    Prove,
    Recut,
    Relabel,
    Renew,
    Reslice,
    Retire,
    Send,
    Serve,
    Unwant,
    Want,
    Weigh,
    decide,
    parting_cause,
    proves,
    status_of,
)
from kbsync.core.refreshing import wakened
from kbsync.core.turns import rank
from kbsync.engine.clock import Clock
from kbsync.engine.terms import Terms
from kbsync.state.entries import Entry
from kbsync.state.store import Tx

log = structlog.get_logger("kbsync")

ROUNDS = 8
LONGEST_LAG = 600.0
TIMES_AGREE = 120.0
"""Seconds that a document's time may be beside its upload; what disproves is further off (`CLOCK_SLACK`)."""
AGREE, DIFFER = "agree", "differ"
LINGERING = (UploadState.PRESUMED_LOST, UploadState.TOMBSTONE, UploadState.ADOPTING)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at one file found. `digest` None: its bytes were not read (skipped, unreadable).

    `problem`: it could not be read, and why; what is known of it stays. `fresh`: a person waits for it.
    `renamed_from`: the path the same file had before.
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


class Ledger:
    """The rows of one mirror in one binding."""

    def __init__(
        self, terms: Terms, clock: Clock, on_settled: Callable[[Tx, str], None] | None = None
    ) -> None:
        self.terms = terms
        self._clock = clock
        self._on_settled = on_settled
        self._lag = 0.0
        self._times = ""

    @property
    def rhythm(self) -> Rhythm:
        """The moment, chance, limits and the lag known so far, for lifecycle steps."""
        after = self.terms.plan.absent_after
        return Rhythm(self._clock.wall(), self._clock.chance, self.terms.limits, after, self._lag)

    def recall_lag(self, tx: Tx) -> None:
        """How late the target's list was seen to be, in this run or an earlier one."""
        self._lag = float(tx.meta.get(self._lag_key) or 0.0)

    def note_lag(self, tx: Tx, seconds: float) -> None:
        """The target's list was this late: from now on absence takes twice as long to be believed."""
        seconds = min(seconds, LONGEST_LAG)
        if seconds > self._lag:
            self._lag = seconds
            tx.meta.set(self._lag_key, f"{seconds:.1f}")

    @property
    def trusts_times(self) -> bool:
        """When documents were made, by the target's word, may disprove that one is ours.

        Times in ids are documented nowhere. They are evidence once ids of our own answered uploads to this
        base have agreed with the clock, and not any more once one did not.
        """
        return self._times == AGREE

    def recall_times(self, tx: Tx) -> None:
        """Whether they agreed, in an earlier run."""
        self._times = str(tx.meta.get(self._times_key) or "")

    def note_time(self, tx: Tx, upload: Upload, created: float | None) -> None:
        """An upload was answered just now, and the target says when its document was made."""
        now = self._clock.wall()
        if created is None or upload.sent_at is None or upload.sent_at > now or self._times == DIFFER:
            return  # it says nothing, or a clock that was set back does
        is_right = upload.sent_at - TIMES_AGREE <= created <= now + TIMES_AGREE
        known = AGREE if is_right else DIFFER
        if known == self._times:
            return
        self._times = known
        tx.meta.set(self._times_key, known)
        if known == DIFFER:
            detail = (
                "what the service says about when documents were made differs from the clock by "
                f"{abs(created - now):.0f} s; it is not used as evidence"
            )
            log.warning("times.differ", mirror=self.terms.plan.name, detail=detail)

    @property
    def _times_key(self) -> str:
        return f"times:{self.terms.binding}"

    @property
    def _lag_key(self) -> str:
        return f"lag:{self.terms.binding}"

    def observe(self, tx: Tx, seen: Seen) -> None:
        """A look at a file ended: record it and settle its path."""
        if seen.renamed_from is not None and not self._is_occupied(tx, seen.path):
            self._move(tx, seen.renamed_from, seen.path)
        known = tx.entries.get(self.terms.mirror, seen.path)
        entry = self._entry(seen, known)
        tx.entries.put(self.terms.mirror, entry)
        self._settle(tx, entry, seen.fresh)

    def _entry(self, seen: Seen, known: Entry | None) -> Entry:
        now = self._clock.wall()
        status, since = (known.status, known.since) if known else (Status.PENDING, now)
        digest = seen.digest if seen.digest or known is None else known.digest
        if seen.problem:
            verdict = Verdict(Choice.REFUSED, seen.problem)
            return Entry(seen.path, NO_STAMP, digest, verdict, True, Presence.UNKNOWN, status, since)
        return Entry(
            seen.path,
            seen.stamp,
            digest,
            seen.verdict,
            seen.by_person,
            Presence.PRESENT,
            status,
            since,
            seen.racy,
        )

    def _is_occupied(self, tx: Tx, path: str) -> bool:
        """A document answers or is on its way there, though nothing was known of a file."""
        return any(row.state.serves or row.state.in_flight for row in self.uploads(tx, path))

    def _move(self, tx: Tx, old: str, new: str) -> None:
        mirror = self.terms.mirror
        for row in self.uploads(tx, old):
            self._forgo(tx, row)  # what was asked about it was asked about another path
        tx.uploads.move(mirror, self.terms.binding, old, new)
        tx.holds.withdraw(mirror, old)
        tx.entries.remove(mirror, old)

    def await_quiet(self, tx: Tx, path: str, *, wanted: bool) -> None:
        """The file changes at this moment: pending, and looked at again by any later scan.

        `wanted`: the rules take it as it is now; what was decided because they did not, counts no more.
        """
        now = self._clock.wall()
        known = tx.entries.get(self.terms.mirror, path) or _unseen(path, now)
        since = known.since if known.status is Status.PENDING else now
        waiting = replace(
            known, stamp=NO_STAMP, presence=Presence.PRESENT, status=Status.PENDING, since=since
        )
        if wanted or not tx.uploads.at(self.terms.mirror, self.terms.binding, path):
            waiting = replace(waiting, verdict=SELECTED)
        tx.entries.put(self.terms.mirror, waiting)

    def expect(self, tx: Tx, path: str) -> None:
        """There is a document for a file without an entry: a scan finds the file, or misses it."""
        tx.entries.put(self.terms.mirror, _unseen(path, self._clock.wall()))

    def gone(self, tx: Tx, path: str) -> None:
        """Two looks did not find the file."""
        tx.entries.set_presence(self.terms.mirror, path, Presence.GONE)
        self.settle(tx, path)

    def deselect(self, tx: Tx, path: str, verdict: Verdict, by_person: bool) -> None:
        """The file is there and no longer selected."""
        known = tx.entries.get(self.terms.mirror, path)
        if known is not None:
            tx.entries.put(self.terms.mirror, replace(known, verdict=verdict, by_person=by_person))
            self.settle(tx, path)

    def settle(self, tx: Tx, path: str, *, fresh: bool = False) -> None:
        """Decide about a path until nothing more follows, then say its status."""
        entry = tx.entries.get(self.terms.mirror, path)
        if entry is not None:
            self._settle(tx, entry, fresh)

    def _settle(self, tx: Tx, entry: Entry, fresh: bool) -> None:
        wish = self.wish(entry)
        for _ in range(ROUNDS):
            rows = {upload.id: upload for upload in self.uploads(tx, entry.path)}
            actions = decide(wish, list(rows.values()), self.terms.abilities)
            if not self._apply(tx, wish, rows, actions, fresh):
                break
        self._conclude(tx, entry, wish, list(rows.values()))

    def wish(self, entry: Entry) -> Wish:
        """What the folder wants at this path."""
        known = entry.stamp != NO_STAMP and entry.stamp.size >= 0
        return Wish(
            path=entry.path,
            presence=entry.presence,
            verdict=entry.verdict,
            digest=entry.digest if known else None,
            size=max(entry.stamp.size, 0),
            recipe=self.terms.recipe(entry.path),
            by_person=entry.by_person,
        )

    def uploads(self, tx: Tx, path: str) -> list[Upload]:
        """What is not final at a path."""
        return tx.uploads.at(self.terms.mirror, self.terms.binding, path)

    def _conclude(self, tx: Tx, entry: Entry, wish: Wish, uploads: list[Upload]) -> None:
        if is_link(entry.path):
            self._conclude_link(tx, entry.path, uploads)
        if any(upload.state.serves for upload in uploads):
            for upload in filter(lifecycle.awaits_word, uploads):
                tx.uploads.save(lifecycle.go_on(upload, self.rhythm))
        if entry.presence is Presence.GONE and all(u.state in LINGERING for u in uploads):
            tx.entries.remove(self.terms.mirror, entry.path)
        else:
            status = status_of(wish, uploads)
            if status is not entry.status:
                tx.entries.set_status(self.terms.mirror, entry.path, status, self._clock.wall())
        if self._on_settled is not None:
            self._on_settled(tx, entry.path)

    def _conclude_link(self, tx: Tx, path: str, uploads: list[Upload]) -> None:
        """What serves is weighed whether its page is to be fetched anew, and goes by its file's name here."""
        for upload in uploads:
            if upload.state is not UploadState.SERVING:
                continue
            if is_address(upload.name) and upload.label != path:
                upload = replace(upload, label=path)
                tx.uploads.save(upload)
            if self.terms.abilities.refreshes and upload.next_look_at is None:
                tx.uploads.save(wakened(upload, self._clock.wall()))

    def _apply(
        self, tx: Tx, wish: Wish, rows: dict[int, Upload], actions: tuple[Action, ...], fresh: bool
    ) -> bool:
        """True when rows changed in a way that may call for more."""
        changed = [self._carry_out(tx, wish, rows, action, fresh) for action in actions]
        return any(changed)

    def _carry_out(self, tx: Tx, wish: Wish, rows: dict[int, Upload], action: Action, fresh: bool) -> bool:
        now = self._clock.wall()
        name = type(action).__name__.lower()
        tell("action.decided", mirror=self.terms.plan.name, path=wish.path, action=name)
        match action:
            case Send(predecessor):
                added = tx.uploads.add(self._intend(tx, wish, list(rows.values()), predecessor, fresh))
                rows[added.id] = added
                return False  # by itself it calls for nothing more
            case Drop() | Retire() | Unwant() | Want():
                self._part(tx, rows[action.upload], action, list(rows.values()))
            case Serve(number):
                self._serve_again(tx, rows[number], wish)
            case Weigh() | Keep() | Renew() | Forgo():
                self._mark(tx, wish, rows, action)
                return False
            case Recut(number):
                start = rank(now, wish.size, fresh=fresh)
                added = tx.uploads.add(lifecycle.recut(rows[number], wish.recipe, start, self.rhythm))
                rows[added.id] = added
                return False
            case Relabel(number):
                if rows[number].next_look_at is not None:
                    return False
                tx.uploads.save(replace(rows[number], next_look_at=now))
            case Prove(number):
                if rows[number].next_look_at is None:
                    tx.uploads.save(replace(rows[number], next_look_at=now, rank=now))
                return False
            case Reslice(number):
                tx.uploads.recast(number, recipe=wish.recipe)
                tx.uploads.save(lifecycle.reslice(rows[number], self.rhythm))
        return True

    def _stepped(self, row: Upload, action: Drop | Retire | Unwant | Want) -> Upload:
        match action:
            case Drop():
                return lifecycle.drop(row)
            case Retire():
                return lifecycle.retire(row, self.rhythm)
            case Unwant():
                return lifecycle.unwant(row)
            case Want():
                return lifecycle.want(row)

    def _mark(
        self, tx: Tx, wish: Wish, rows: dict[int, Upload], action: Weigh | Keep | Renew | Forgo
    ) -> None:
        """What is to be weighed, and what no longer is."""
        mirror, number = self.terms.mirror, action.upload
        if not isinstance(action, Weigh | Forgo):
            tx.holds.withdraw(mirror, wish.path)
        match action:
            case Weigh(cause=cause):
                rows[number] = self._forgo(tx, rows[number])
                tx.holds.nominate(mirror, wish.path, number, cause, self._clock.wall())
            case Forgo():
                rows[number] = self._forgo(tx, rows[number])
            case Renew():
                tx.renewals.nominate(mirror, number, wish.recipe)
            case Keep():
                self._withdraw(tx, rows[number])

    def _part(
        self, tx: Tx, row: Upload, action: Drop | Retire | Unwant | Want, others: Sequence[Upload]
    ) -> None:
        if isinstance(action, Retire) and row.attempts and (server := self.original(row, others)):
            self.forget_recipe(tx, server)
        tx.uploads.save(self._stepped(row, action))

    def original(self, row: Upload, others: Sequence[Upload]) -> Upload | None:
        """The upload that serves and whose document this one cuts anew, if it is one that does."""
        is_update = self.terms.abilities.updates  # there a successor always is its predecessor's document
        if is_update or row.state is not UploadState.INDEXING or row.predecessor is None:
            return None
        shared = (u for u in others if u.id == row.predecessor and u.remote_id == row.remote_id)
        return next((u for u in shared if u.state.serves), None)

    def forget_recipe(self, tx: Tx, server: Upload) -> None:
        """Nobody knows any more how this document is cut: no recipe is as good as it."""
        tx.uploads.recast(server.id, recipe="")

    def _forgo(self, tx: Tx, row: Upload) -> Upload:
        self._withdraw(tx, row)
        if not (row.asked or row.allowed):
            return row
        forgone = lifecycle.forgo(row)
        tx.uploads.save(forgone)
        return forgone

    def _withdraw(self, tx: Tx, row: Upload) -> None:
        """Its renewal is not weighed or held any more, unless it was let go for the wished recipe."""
        if self.terms.abilities.weighs and tx.renewals.of(row.id) is not None:
            tx.renewals.drop(row.id)
            tx.holds.end_empty(self.terms.mirror, self._clock.wall())

    def _intend(
        self, tx: Tx, wish: Wish, others: Sequence[Upload], predecessor: int | None, fresh: bool
    ) -> Upload:
        now = self._clock.wall()
        assert wish.digest is not None
        return Upload(
            id=0,
            mirror=self.terms.mirror,
            binding=self.terms.binding,
            path=wish.path,
            label=wish.path,
            name=self.free_name(tx, wish.path, wish.digest, [u.name for u in others]),
            digest=wish.digest,
            size=wish.size,
            recipe=wish.recipe,
            state=UploadState.INTENDED,
            predecessor=predecessor,
            created_at=now,
            next_look_at=now,
            rank=rank(now, wish.size, fresh=fresh),
        )

    def free_name(self, tx: Tx, path: str, digest: str, taken: Sequence[str] = (), start: int = 0) -> str:
        """A name at the target for these bytes that no document or upload of this base has, or may have.

        `taken`: names at the path itself; `start`: the first number to try. Where our marker tells documents
        apart, names need not.
        """
        naming = self.terms.naming
        if self.terms.limits.marks:
            return naming.name(path, digest)
        names = (naming.name(path, digest, number) for number in itertools.count(start))
        return next(
            name for name in names if name not in taken and not tx.uploads.is_named(self.terms.binding, name)
        )

    def next_name(self, tx: Tx, upload: Upload) -> str:
        """Another name for an upload whose name the target refused."""
        reading = self.terms.naming.read(upload.name)
        start = 1 if reading is None else reading.number + 1
        return self.free_name(tx, upload.path or upload.label, upload.digest, (upload.name,), start)

    def _serve_again(self, tx: Tx, upload: Upload, wish: Wish) -> None:
        if upload.state is UploadState.ADOPTING and proves(upload, wish):
            tx.uploads.recast(upload.id, digest=wish.digest)
        tx.holds.withdraw(self.terms.mirror, upload.path or "")
        tx.holds.release(upload.id)
        tx.holds.end_empty(self.terms.mirror, self._clock.wall())
        tx.uploads.save(lifecycle.take_over(upload, self.rhythm))

    def enter_service(self, tx: Tx, upload: Upload, *, replaced: bool = False) -> None:
        """A row that is SERVING now is saved and its predecessor retired, in one transaction.

        Where the deletion of the predecessor waits for a person, that of the new one does.
        """
        for old in self.uploads(tx, upload.path or ""):
            if old.state.serves and old.id != upload.id:
                if old.state is UploadState.HELD and self._parts_with(tx, upload):
                    tx.holds.inherit(old.id, upload.id, upload.digest)
                    upload = lifecycle.hold(upload)
                tx.holds.release(old.id)
                self._withdraw(tx, old)
                same = replaced or old.remote_id == upload.remote_id  # it was updated in place
                tx.uploads.save(lifecycle.gone(old) if same else lifecycle.retire(old, self.rhythm))
        tx.uploads.save(upload)

    def _parts_with(self, tx: Tx, upload: Upload) -> bool:
        """Its path shall have no document."""
        entry = tx.entries.get(self.terms.mirror, upload.path or "")
        return entry is not None and bool(parting_cause(self.wish(entry)))


def _unseen(path: str, now: float) -> Entry:
    return Entry(path, NO_STAMP, None, SELECTED, True, Presence.PRESENT, Status.PENDING, now)
