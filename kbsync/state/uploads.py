"""The journal: one row per upload (see `core.model.Upload`), and queries for the rows that are due."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

from kbsync.core.backoff import MAX_PAUSE
from kbsync.core.fairness import SENDS, Lane, reach_of
from kbsync.core.lifecycle import MAX_PAUSES, RETIRE_TRIES
from kbsync.core.model import (
    AWAITING,
    FINAL,
    IN_FLIGHT,
    ON_THE_WAY,
    OUTCOME_OPEN,
    PROVEN,
    SERVING,
    TO_BE_DONE,
    UNANSWERED,
    Phase,
    Purpose,
    Upload,
    UploadState,
)
from kbsync.dataclass import dataclass
from kbsync.state.db import Table, bind, unbind

COLUMNS = tuple(f.name for f in fields(Upload))
_VALUES: Callable[[Upload], tuple[Any, ...]] = attrgetter(*COLUMNS)
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM upload "  # noqa: S608 - column names of our own
_INSERT = f"INSERT INTO upload({', '.join(COLUMNS)}) VALUES({', '.join('?' * len(COLUMNS))})"
MAX_RATE_SAMPLE, MIN_RATE_SAMPLE, RATE_SECONDS = 500, 5, 30.0
"""Limits for estimating how fast documents become searchable: the maximum and minimum number of uploads, and
how many seconds to look back.
"""

POLL_BATCH = 1000
UNSURE_BATCH = 10_000
SMALL_BATCH = 100

FIXED = ("id", "mirror", "binding", "path", "digest", "size", "recipe", "predecessor", "created_at")
"""Columns that `save` skips because they never change (`path` changes only in `move` and `give`); most are
indexed."""

_CHANGING = tuple(i for i, column in enumerate(COLUMNS) if column not in FIXED)
_UPDATE = f"UPDATE upload SET {', '.join(f'{COLUMNS[i]} = ?' for i in _CHANGING)} WHERE id = ?"  # noqa: S608
_TEXTS = tuple(COLUMNS.index(c) for c in ("path", "label", "name", "reason", "code"))
"""Columns whose values come from the disk or from a service, so they may contain anything."""

_ENUMS: tuple[tuple[int, Mapping[Any, Any]], ...] = tuple(
    (COLUMNS.index(column), {member.value: member for member in kind})
    for column, kind in (("state", UploadState), ("purpose", Purpose), ("phase", Phase))
)


def _read(row: tuple[Any, ...]) -> Upload:
    values = list(row)
    for i in _TEXTS:
        if type(values[i]) is bytes:
            values[i] = unbind(values[i])
    for i, members in _ENUMS:
        values[i] = members[values[i]]
    return Upload(*values)


def _row(upload: Upload) -> list[object]:
    values = list(_VALUES(upload))
    for i in _TEXTS:
        values[i] = None if values[i] is None else bind(values[i])
    for i, _ in _ENUMS:
        values[i] = values[i].value
    return values


def _in(states: Iterable[UploadState]) -> str:
    """Return a condition worded exactly as in the indexes, so that SQLite recognizes which index fits."""
    return f"IN ({', '.join(str(int(state)) for state in states)})"


@dataclass(frozen=True, slots=True)
class DueWork:
    """Due rows by kind of work, in rank order. Sends are grouped by lane; lanes without work are omitted."""

    deletes: list[Upload]
    unsure: list[Upload]
    proofs: list[Upload]
    polls: list[Upload]
    renames: list[Upload]
    sends: Mapping[Lane, list[Upload]]

    def of_sent(self, excluded: Collection[int], replaced: list[Upload]) -> DueWork:
        """Return only the work for uploads that were already sent, and the deletion of `replaced` ones.

        Uploads in `excluded` are left out.
        """
        unsure = [row for row in self.unsure if row.state is UploadState.UNSURE]
        polls = [row for row in self.polls if row.phase not in _NOT_IN_WORK and row.id not in excluded]
        return DueWork(replaced, unsure, [], polls, [], {})


_NOT_IN_WORK = (Phase.TO_CUT, *AWAITING)
"""Phases of INDEXING in which the target does nothing for the document until kbsync requests it."""


class Uploads(Table):
    """Reads and writes upload rows on one connection."""

    def get(self, upload: int, *states: UploadState) -> Upload | None:
        """Return the row with this id, or None if there is none.

        If states are given, the row must be in one of them.
        """
        where = f"WHERE id = ? AND state {_in(states)}" if states else "WHERE id = ?"
        return next(self._select(where, (upload,)), None)

    def at_path(self, mirror: int, binding: int, path: str) -> list[Upload]:
        """Return all uploads of a path in this binding that aren't final, oldest first."""
        where = f"WHERE mirror = ? AND path = ? AND binding = ? AND state NOT {_in(FINAL)} ORDER BY id"
        return list(self._select(where, (mirror, bind(path), binding)))

    def add(self, upload: Upload) -> Upload:
        """Insert the row; return it with its id."""
        values = _row(upload)
        values[0] = None
        self._db.execute(_INSERT, values)
        return replace(upload, id=self._db.last_insert_rowid())

    def save(self, upload: Upload) -> None:
        """Write all columns of an existing row that can change."""
        values = _row(upload)
        self._db.execute(_UPDATE, [*(values[i] for i in _CHANGING), upload.id])

    def set_content(
        self, upload: int, *, digest: str | None = None, recipe: str | None = None, size: int | None = None
    ) -> None:
        """Record a document's digest, recipe or size, which `save` doesn't write."""
        self._db.execute(
            "UPDATE upload SET digest = coalesce(?, digest), recipe = coalesce(?, recipe),"
            " size = coalesce(?, size) WHERE id = ?",
            (digest, recipe, size, upload),
        )

    # -- due rows -----------------------------------------------------------------------------------

    def due(
        self,
        mirror: int,
        binding: int,
        state: UploadState,
        now: float,
        limit: int,
        ranks: tuple[float, float] = (0.0, math.inf),
    ) -> list[Upload]:
        """Return the rows in a state that are due, lowest rank first.

        `ranks`: the lower bound and the exclusive upper bound.
        """
        where = (
            "WHERE mirror = ? AND state = ? AND due_at IS NOT NULL AND due_at <= ?"
            " AND binding = ? AND rank >= ? AND rank < ? ORDER BY rank, id LIMIT ?"
        )
        return list(self._select(where, (mirror, int(state), now, binding, *ranks, limit)))

    def find_due(
        self,
        mirror: int,
        binding: int,
        now: float,
        *,
        requests: int,
        polls: float | None,
        lists: bool,
        busy: Collection[int],
    ) -> DueWork:
        """Return all rows that are due at `now` (wall seconds) and not being worked on.

        `requests`: the maximum number of documents per lane. `polls`: how many seconds to look ahead for
        polls, or None if no poll may start now. `lists`: whether a check for lost uploads may start. `busy`:
        uploads that are being worked on.
        """

        def due(state: UploadState, limit: int, ahead: float = 0.0, lane: Lane | None = None) -> list[Upload]:
            if limit <= 0:
                return []
            ranks = (0.0, math.inf) if lane is None else reach_of(lane)
            rows = self.due(mirror, binding, state, now + ahead, limit + len(busy), ranks)
            return [row for row in rows if row.id not in busy][:limit]

        unsure_or_lost: list[Upload] = []
        if lists and due(UploadState.UNSURE, 1):
            # One list covers all uploads, so if one unsure upload is due, check for all the others too.
            unsure = self.in_states(mirror, binding, (UploadState.UNSURE,), limit=UNSURE_BATCH)
            unsure_or_lost = [row for row in unsure if row.id not in busy]
        elif lists:
            # Every check covers all uploads that were lost or deleted long ago anyway.
            unsure_or_lost = due(UploadState.PRESUMED_LOST, 1) or due(UploadState.TOMBSTONE, 1)
        indexing: list[Upload] = []
        if polls is not None and due(UploadState.INDEXING, 1):
            # One request can cover many documents, so also ask about those that will soon be due.
            indexing = due(UploadState.INDEXING, POLL_BATCH, ahead=polls)
        sends = {lane: due(UploadState.INTENDED, requests, lane=lane) for lane in SENDS}
        return DueWork(
            deletes=due(UploadState.RETIRING, requests),
            unsure=unsure_or_lost,
            proofs=due(UploadState.ADOPTING, SMALL_BATCH),
            polls=indexing,
            renames=due(UploadState.SERVING, SMALL_BATCH),
            sends={lane: rows for lane, rows in sends.items() if rows},
        )

    def next_due(
        self, mirror: int, binding: int, earliest_list: float = -math.inf, earliest_poll: float = -math.inf
    ) -> float | None:
        """Return when the next row is due, in wall seconds, or None if nothing is waiting.

        No list is read and no poll starts before the given times. Rows that aren't waiting for anything
        aren't read: nearly all documents have such rows, and this is called very often.
        """

        def first(*states: UploadState) -> float | None:
            sql = (
                "SELECT min(due_at) FROM upload INDEXED BY upload_due"  # noqa: S608
                f" WHERE mirror = ? AND state {_in(states)} AND due_at IS NOT NULL AND binding = ?"
            )
            value: float | None = self._db.execute(sql, (mirror, binding)).get
            return value

        lost, polls = first(UploadState.UNSURE), first(UploadState.INDEXING)
        times = (
            None if lost is None else max(lost, earliest_list),
            None if polls is None else max(polls, earliest_poll),
            # Uploads that were given up or deleted cause no wake-up, because other checks cover them.
            first(*TO_BE_DONE),
        )
        return min((time for time in times if time is not None), default=None)

    def awaited(self, mirror: int, binding: int) -> tuple[str, bool]:
        """Return why documents wait until the target can index them ('' if none does), and whether another
        document is being sent or indexed, which tests that.
        """
        waits = f"state = {int(UploadState.INDEXING)} AND phase IN {tuple(map(str, AWAITING))}"
        sql = (
            f"SELECT coalesce(max(iif({waits}, phase, '')), ''), coalesce(max(NOT ({waits})), 0)"  # noqa: S608
            f" FROM upload WHERE mirror = ? AND binding = ? AND state {_in(IN_FLIGHT)}"
        )
        reason, is_trying = self._db.execute(sql, (mirror, binding)).get
        return reason, bool(is_trying)

    def bring_forward(self, mirror: int, binding: int, now: float) -> None:
        """Make rows due now if they are due later than the longest pause in their state allows, because the
        clock was set back.
        """
        pauses = {int(state): str(seconds) for state, seconds in MAX_PAUSES.items()}
        # A deletion that hasn't had a response yet is due at once, a postponed one after at most a short
        # pause.
        refused = MAX_PAUSES[UploadState.RETIRING]
        little = f"iif(reason <> '', {MAX_PAUSE}, 0)"
        pauses[int(UploadState.RETIRING)] = f"iif(attempts >= {RETIRE_TRIES}, {refused}, {little})"
        pauses[int(UploadState.SERVING)] = little
        cases = " ".join(f"WHEN {state} THEN {seconds}" for state, seconds in pauses.items())
        sql = (
            "UPDATE upload INDEXED BY upload_due SET due_at = :now"  # noqa: S608
            " WHERE mirror = :mirror AND binding = :binding"
            f" AND due_at IS NOT NULL AND state {_in(MAX_PAUSES)}"
            f" AND due_at > :now + CASE state {cases} END"
        )
        self._db.execute(sql, {"now": now, "mirror": mirror, "binding": binding})

    def retry_now(self, mirror: int, binding: int, now: float) -> None:
        """Make uploads due now if the target couldn't accept them during an earlier run.

        Pauses after a lost response or a refusal continue.
        """
        sql = (
            "UPDATE upload SET due_at = :now WHERE mirror = :mirror AND binding = :binding"  # noqa: S608
            f" AND state = {int(UploadState.INTENDED)} AND due_at > :now AND losses = 0 AND repairs = 0"
        )
        self._db.execute(sql, {"now": now, "mirror": mirror, "binding": binding})

    # -- by state --------------------------------------------------------------------------------------

    def count(self, mirror: int, binding: int, states: Iterable[UploadState]) -> int:
        """Return how many rows are in these states."""
        sql = f"SELECT count(*) FROM upload WHERE mirror = ? AND binding = ? AND state {_in(states)}"  # noqa: S608
        return int(self._db.execute(sql, (mirror, binding)).get)

    def unanswered(self, mirror: int, binding: int) -> set[int]:
        """Return the sent uploads that the target is, or may still be, working on."""
        sql = (
            "SELECT id FROM upload WHERE mirror = ? AND binding = ?"  # noqa: S608
            f" AND state {_in(IN_FLIGHT)} AND phase NOT IN {tuple(map(str, _NOT_IN_WORK))}"
        )
        rows = self._db.execute(sql, (mirror, binding))
        return {int(number) for (number,) in rows}

    def replaced(self, mirror: int, binding: int, now: float, limit: int) -> list[Upload]:
        """Return documents whose deletion is due and whose paths have a newer searchable document."""
        where = (
            f"WHERE mirror = ? AND binding = ? AND state = {int(UploadState.RETIRING)}"  # noqa: S608
            " AND due_at IS NOT NULL AND due_at <= ? AND EXISTS(SELECT 1 FROM upload o"
            " WHERE o.mirror = upload.mirror AND o.path = upload.path AND o.binding = upload.binding"
            f" AND o.state {_in(SERVING)}) ORDER BY rank, id LIMIT ?"
        )
        return list(self._select(where, (mirror, binding, now, limit)))

    def in_states(
        self, mirror: int, binding: int, states: Iterable[UploadState], after: int = 0, limit: int = 500
    ) -> list[Upload]:
        """Return a page of rows in these states with an id above `after`."""
        return list(self.each(mirror, binding, states, after, limit))

    def each(
        self, mirror: int, binding: int, states: Iterable[UploadState], after: int = 0, limit: int = -1
    ) -> Iterator[Upload]:
        """Yield the same rows as `in_states`, with only one in memory at a time."""
        where = f"WHERE mirror = ? AND binding = ? AND state {_in(states)} AND id > ? ORDER BY id LIMIT ?"
        return self._select(where, (mirror, binding, after, limit))

    def failed_before(self, mirror: int, binding: int, after: int = 0, limit: int = -1) -> list[Upload]:
        """Return the uploads in progress that failed earlier or got no response, with an id above `after`."""
        # An upload that is being sent counts as one loss until the response arrives.
        before = f"(repairs > 0 OR losses > 1 OR (losses > 0 AND state = {int(UploadState.INTENDED)}))"
        where = (
            f"WHERE mirror = ? AND binding = ? AND state {_in(ON_THE_WAY)} AND {before} AND id > ?"
            " ORDER BY id LIMIT ?"
        )
        return list(self._select(where, (mirror, binding, after, limit)))

    def is_on_the_way(self, mirror: int, binding: int, digest: str) -> bool:
        """Return whether an upload of these bytes is still in progress."""
        return self._has_text(mirror, binding, digest, f"state {_in(ON_THE_WAY)}")

    def is_retiring(self, mirror: int, binding: int, digest: str) -> bool:
        """Return whether a document with these bytes is about to be deleted."""
        is_soon = f"state = {int(UploadState.RETIRING)} AND postponed = 0 AND attempts < {RETIRE_TRIES}"
        return self._has_text(mirror, binding, digest, is_soon)

    def _has_text(self, mirror: int, binding: int, digest: str, condition: str) -> bool:
        sql = f"SELECT 1 FROM upload WHERE mirror = ? AND binding = ? AND digest = ? AND {condition} LIMIT 1"  # noqa: S608
        return self._db.execute(sql, (mirror, binding, digest)).get is not None

    def find_serving(self, mirror: int, binding: int, digest: str) -> Upload | None:
        """Return a serving document with these bytes. This reads the rows of all serving documents."""
        where = f"WHERE mirror = ? AND binding = ? AND state {_in(SERVING)} AND digest = ? LIMIT 1"
        return next(self._select(where, (mirror, binding, digest)), None)

    def highest(self) -> int:
        """Return the highest id."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM upload").get)

    def owned(self, mirror: int) -> dict[int, int]:
        """For each binding, return how many of the mirror's documents are provably ours according to the
        rows.
        """
        sql = (
            "SELECT binding, count(DISTINCT remote_id) FROM upload"  # noqa: S608
            f" WHERE mirror = ? AND remote_id IS NOT NULL AND state {_in(PROVEN)} GROUP BY binding"
        )
        return {int(binding): int(n) for binding, n in self._db.execute(sql, (mirror,))}

    def serving_count(self, mirror: int, binding: int) -> int:
        """Return the number of searchable documents of this binding, in constant time."""
        sql = "SELECT n FROM serving WHERE mirror = ? AND binding = ?"
        return int(self._db.execute(sql, (mirror, binding)).get or 0)

    def standing_in(self, mirror: int, binding: int) -> int:
        """Return the number of documents in flight whose predecessors, with the same bytes, are no longer
        searchable.
        """
        sql = (
            "SELECT count(*) FROM upload u JOIN upload p ON p.id = u.predecessor AND p.digest = u.digest"  # noqa: S608
            f" WHERE u.mirror = ? AND u.binding = ? AND u.state {_in(ON_THE_WAY)}"
            f" AND u.purpose = {int(Purpose.SERVE)} AND p.state NOT {_in(SERVING)}"
        )
        return int(self._db.execute(sql, (mirror, binding)).get)

    def left_behind(self, mirror: int, binding: int) -> dict[int, int]:
        """Return how many documents are still searchable in each of the mirror's other bindings."""
        sql = "SELECT binding, n FROM serving WHERE mirror = ? AND binding <> ? AND n > 0"
        return {int(binding_id): int(n) for binding_id, n in self._db.execute(sql, (mirror, binding))}

    def rate(self, mirror: int, binding: int, now: float) -> float:
        """Return how many documents per second became searchable recently, judging by the newest uploads.

        Return 0.0 if there are too few.
        """
        newest = (
            "SELECT max(coalesce(checked_at, 0), coalesce(accepted_at, 0)) FROM upload"
            " WHERE mirror = ? AND binding = ? AND state = 5 ORDER BY id DESC LIMIT ?"
        )
        ready_times = (
            float(ready_at) for (ready_at,) in self._db.execute(newest, (mirror, binding, MAX_RATE_SAMPLE))
        )
        recent = [ready_at for ready_at in ready_times if now - RATE_SECONDS <= ready_at <= now]
        return len(recent) / max(1.0, now - min(recent)) if len(recent) >= MIN_RATE_SAMPLE else 0.0

    def relabelled(self, mirror: int, binding: int) -> Iterator[Upload]:
        """Yield documents that serve a file whose path differs from the one stored at the target."""
        return self._select(
            "WHERE mirror = ? AND binding = ? AND state = 5 AND label <> path", (mirror, binding)
        )

    # -- by remote id and by name ----------------------------------------------------------------------

    def by_remote(self, binding: int, remote_id: str) -> list[Upload]:
        """Return the rows with this remote id, newest first."""
        where = "WHERE binding = ? AND remote_id = ? ORDER BY id DESC"
        return list(self._select(where, (binding, remote_id)))

    def holders(self, binding: int, remote_id: str) -> list[Upload]:
        """Return the rows with this remote id in the base of this binding, regardless of prefix, newest
        first.
        """
        where = f"WHERE binding {_IN_BASE} AND remote_id = ? ORDER BY id DESC"
        return list(self._select(where, (binding, remote_id)))

    def serving_among(self, binding: int, ids: Iterable[str]) -> int:
        """Return how many of these documents are serving their paths."""
        sql = f"SELECT 1 FROM upload WHERE binding = ? AND remote_id = ? AND state {_in(SERVING)} LIMIT 1"  # noqa: S608
        return sum(self._db.execute(sql, (binding, remote_id)).get is not None for remote_id in ids)

    def is_named(self, binding: int, name: str) -> bool:
        """Return whether a non-final row has this name but a different path or label."""
        sql = f"SELECT 1 FROM upload WHERE binding = ? AND name = ? AND {_NAMED} LIMIT 1"  # noqa: S608
        return self._db.execute(sql, (binding, bind(name))).get is not None

    def is_in_doubt(self, name: str) -> bool:
        """Return whether the outcome of an upload with this name, in any base, is unknown."""
        sql = (
            "SELECT 1 FROM upload WHERE binding IN (SELECT id FROM binding) AND name = ?"  # noqa: S608
            f" AND {_NAMED} AND state {_in(UNANSWERED)} LIMIT 1"
        )
        return self._db.execute(sql, (bind(name),)).get is not None

    def open_in_base(self, binding: int, name: str) -> list[Upload]:
        """Return the uploads with this name that got no response, in the base of this binding, regardless of
        prefix.
        """
        open_ones = f"name = ? AND {_NAMED} AND state {_in(OUTCOME_OPEN)}"
        where = f"WHERE binding {_IN_BASE} AND {open_ones} ORDER BY id DESC"
        return list(self._select(where, (binding, bind(name))))

    # -- several rows at once
    # ----------------------------------------------------------------------------------

    def unlabel(self, mirror: int, binding: int) -> None:
        """Record that no document at the target has the right name anymore, and drop intended uploads."""
        where = "WHERE mirror = ? AND binding = ? AND state"
        labelled = f"UPDATE upload SET label = '' {where} {_in([*IN_FLIGHT, *SERVING])}"  # noqa: S608
        self._db.execute(labelled, (mirror, binding))
        dropped = f"UPDATE upload SET state = 11, due_at = NULL {where} = 0"  # noqa: S608
        self._db.execute(dropped, (mirror, binding))

    def move(self, mirror: int, binding: int, old_path: str, new_path: str) -> None:
        """Assign the rows of `old_path` to `new_path`, because the file was renamed.

        In the mirror's former bases, do so only if `new_path` has no rows there.
        """
        self._db.execute(
            f"UPDATE upload SET path = :new WHERE mirror = :mirror AND path = :old AND state NOT {_in(FINAL)}"  # noqa: S608
            " AND (binding = :binding OR NOT EXISTS(SELECT 1 FROM upload o WHERE o.mirror = :mirror"
            f" AND o.binding = upload.binding AND o.path = :new AND o.state NOT {_in(FINAL)}))",
            {"new": bind(new_path), "mirror": mirror, "old": bind(old_path), "binding": binding},
        )

    def give(self, upload: int, path: str) -> None:
        """Assign the document to another file."""
        self._db.execute("UPDATE upload SET path = ? WHERE id = ?", (bind(path), upload))

    def withdraw_holds(self, mirror: int, binding: int) -> bool:
        """Withdraw the questions about deletions in this binding. Return whether there were any."""
        sql = "UPDATE upload SET state = 5 WHERE mirror = ? AND binding = ? AND state = 6"
        self._db.execute(sql, (mirror, binding))
        return self._db.changes() > 0

    def take_over(self, previous: int, mirror: int, binding: int) -> bool:
        """Assign a former mirror's rows in this binding to `mirror`. Return whether there were any.

        Call `withdraw_holds` first. If both mirrors have a document that serves a path, the new owner's stays
        and the other is deleted.
        """
        previous_key = (previous, binding)
        if not self._db.execute(
            "SELECT 1 FROM upload WHERE mirror = ? AND binding = ? LIMIT 1", previous_key
        ).get:
            return False
        for states, condition, assignments in _TWICE:
            twin = (
                f"EXISTS(SELECT 1 FROM upload o WHERE o.mirror = :mirror AND o.binding = :binding"  # noqa: S608
                f" AND o.path = upload.path AND o.state {_in(states)} {condition})"
            )
            self._db.execute(
                f"UPDATE upload SET {assignments} WHERE mirror = :former AND binding = :binding"  # noqa: S608
                f" AND state {_in(states)} AND {twin}",
                {"mirror": mirror, "former": previous, "binding": binding},
            )
        count = "UPDATE serving SET n = n + ? WHERE mirror = ? AND binding = ?"
        serving = self.serving_count(previous, binding)
        self._db.execute("INSERT OR IGNORE INTO serving VALUES(?, ?, 0)", (mirror, binding))
        self._db.execute(count, (serving, mirror, binding))
        self._db.execute(count, (-serving, previous, binding))
        sql = "UPDATE upload SET mirror = ? WHERE mirror = ? AND binding = ?"
        self._db.execute(sql, (mirror, previous, binding))
        return True

    def lose(self, mirror: int, binding: int) -> None:
        """Record that this binding's base and its documents no longer exist."""
        # A final row would prove that the document is ours.
        self._db.execute(
            f"DELETE FROM upload WHERE mirror = ? AND binding = ? AND {_UNPROVEN}",  # noqa: S608
            (mirror, binding),
        )
        self._db.execute(
            "UPDATE upload SET state = 12, due_at = NULL WHERE mirror = ? AND binding = ?"  # noqa: S608
            f" AND state NOT {_in(FINAL)}",
            (mirror, binding),
        )
        # If the base comes back, from a backup or with its disk, its documents are adopted.
        self._db.execute("UPDATE binding SET adopted = 0 WHERE id = ?", (binding,))

    def prune(self, before: float) -> None:
        """Forget final rows that ended before this time."""
        ended = "created_at < :before AND coalesce(checked_at, 0.0) < :before"
        sql = f"DELETE FROM upload WHERE state {_in(FINAL)} AND {ended}"  # noqa: S608
        self._db.execute(sql, {"before": before})

    def _select(self, where: str, args: tuple[object, ...]) -> Iterator[Upload]:
        return (_read(row) for row in self._db.execute(_SELECT + where, args))


_UNPROVEN = f"state = {int(UploadState.ADOPTING)} AND phase NOT IN ('{Phase.MARKED}', '{Phase.MARKED_READY}')"
"""Rows of documents that may be others'."""

_TWICE = (
    (SERVING, "", f"state = {int(UploadState.RETIRING)}, due_at = 0, attempts = 0"),
    (
        IN_FLIGHT,
        "AND o.digest = upload.digest AND o.recipe = upload.recipe AND o.purpose = 0",
        f"purpose = {int(Purpose.RETIRE)}",
    ),
)
"""States in which a path may have only one row, each with the condition for a conflict and the change to the
former mirror's row."""

_IN_BASE = (
    "IN (SELECT other.id FROM binding mine JOIN binding other ON other.target = mine.target"
    " AND other.address = mine.address AND other.base = mine.base WHERE mine.id = ?)"
)
"""The SQL condition for bindings to the same base as a given one, regardless of the prefix."""

_NAMED = f"(name <> label OR path <> label) AND state NOT {_in(FINAL)}"
"""The condition of the index `upload_named`, repeated verbatim so that SQLite uses the index."""
