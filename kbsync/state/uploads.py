"""The journal: one row per upload (see `core.model.Upload`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from kbsync.core.backoff import LONGEST
from kbsync.core.lifecycle import RETIRE_TRIES
from kbsync.core.model import ON_THE_WAY, Phase, Purpose, Upload, UploadState
from kbsync.state.db import Table, bind, unbind

COLUMNS = tuple(f.name for f in fields(Upload))
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM upload "  # noqa: S608 - column names of our own
_INSERT = f"INSERT INTO upload({', '.join(COLUMNS)}) VALUES({', '.join('?' * len(COLUMNS))})"
NEWEST, FEWEST, LATELY = 500, 5, 30.0
"""So many uploads at most and at least, within so many seconds, tell how fast documents become searchable."""

FIXED = ("id", "mirror", "binding", "path", "digest", "size", "recipe", "predecessor", "created_at")
"""What `save` leaves alone: it never changes (`path` only by `move`), and most of it stands in an index."""

_CHANGING = tuple(i for i, column in enumerate(COLUMNS) if column not in FIXED)
_UPDATE = f"UPDATE upload SET {', '.join(f'{COLUMNS[i]} = ?' for i in _CHANGING)} WHERE id = ?"  # noqa: S608
_PATHS = tuple(COLUMNS.index(c) for c in ("path", "label", "name"))
_STATE, _PURPOSE, _PHASE = (COLUMNS.index(c) for c in ("state", "purpose", "phase"))

_STATES = {int(state): state for state in UploadState}
_PURPOSES = {int(purpose): purpose for purpose in Purpose}
_PHASES = {str(phase): phase for phase in Phase}


def _read(row: tuple[Any, ...]) -> Upload:
    values = list(row)
    for i in _PATHS:
        if type(values[i]) is bytes:
            values[i] = unbind(values[i])
    values[_STATE] = _STATES[values[_STATE]]
    values[_PURPOSE] = _PURPOSES[values[_PURPOSE]]
    values[_PHASE] = _PHASES[values[_PHASE]]
    return Upload(*values)


def _row(upload: Upload) -> list[object]:
    values = [getattr(upload, name) for name in COLUMNS]
    for i in _PATHS:
        values[i] = None if values[i] is None else bind(values[i])
    values[_STATE], values[_PURPOSE] = int(upload.state), int(upload.purpose)
    values[_PHASE] = upload.phase.value
    return values


class Uploads(Table):
    """Upload rows of one connection."""

    def get(self, upload: int) -> Upload | None:
        """The row with this id."""
        return next(self._select("WHERE id = ?", (upload,)), None)

    def at(self, mirror: int, binding: int, path: str) -> list[Upload]:
        """Everything not final that belongs to a path in this binding, oldest first."""
        where = "WHERE mirror = ? AND path = ? AND binding = ? AND state NOT IN (11, 12) ORDER BY id"
        return list(self._select(where, (mirror, bind(path), binding)))

    def add(self, upload: Upload) -> Upload:
        """Insert; the returned row has its id."""
        values = _row(upload)
        values[0] = None
        self._db.execute(_INSERT, values)
        return replace(upload, id=self._db.last_insert_rowid())

    def save(self, upload: Upload) -> None:
        """Write what can change of an existing row."""
        values = _row(upload)
        self._db.execute(_UPDATE, [*(values[i] for i in _CHANGING), upload.id])

    def due(
        self,
        mirror: int,
        binding: int,
        state: UploadState,
        now: float,
        limit: int,
        ranks: tuple[float, float] = (0.0, math.inf),
    ) -> list[Upload]:
        """Rows of a state whose next look is due, by rank (smaller first). `ranks`: from, and below."""
        where = (
            "WHERE mirror = ? AND state = ? AND next_look_at IS NOT NULL AND next_look_at <= ?"
            " AND binding = ? AND rank >= ? AND rank < ? ORDER BY rank, id LIMIT ?"
        )
        return list(self._select(where, (mirror, int(state), now, binding, *ranks, limit)))

    def next_due(self, mirror: int, binding: int, states: Iterable[UploadState]) -> float | None:
        """The earliest `next_look_at` among the states; None when nothing waits.

        Rows that wait for nothing are not read: nearly every document serves, and this is asked all the time.
        """
        marks = ", ".join(str(int(s)) for s in states)
        sql = (
            "SELECT min(next_look_at) FROM upload INDEXED BY upload_due"  # noqa: S608
            f" WHERE mirror = ? AND state IN ({marks}) AND next_look_at IS NOT NULL AND binding = ?"
        )
        value: float | None = self._db.execute(sql, (mirror, binding)).fetchone()[0]  # type: ignore[index]
        return value

    def count(self, mirror: int, binding: int, states: Iterable[UploadState]) -> int:
        """How many rows are in one of the states."""
        marks = ", ".join(str(int(s)) for s in states)
        sql = f"SELECT count(*) FROM upload WHERE mirror = ? AND binding = ? AND state IN ({marks})"  # noqa: S608
        return int(self._db.execute(sql, (mirror, binding)).fetchone()[0])  # type: ignore[index]

    def in_states(
        self, mirror: int, binding: int, states: Iterable[UploadState], after: int = 0, limit: int = 500
    ) -> list[Upload]:
        """A page of rows in these states with an id above `after`."""
        marks = ", ".join(str(int(s)) for s in states)
        where = f"WHERE mirror = ? AND binding = ? AND state IN ({marks}) AND id > ? ORDER BY id LIMIT ?"
        return list(self._select(where, (mirror, binding, after, limit)))

    def tried_in_vain(self, mirror: int, binding: int) -> list[Upload]:
        """Those on their way that failed before."""
        marks = ", ".join(str(int(state)) for state in ON_THE_WAY)
        where = f"WHERE mirror = ? AND binding = ? AND state IN ({marks}) AND repairs > 0"
        return list(self._select(where, (mirror, binding)))

    def by_remote(self, binding: int, remote_id: str) -> list[Upload]:
        """Rows that hold this remote id, newest first."""
        return list(
            self._select("WHERE binding = ? AND remote_id = ? ORDER BY id DESC", (binding, remote_id))
        )

    def owned(self, mirror: int, states: Iterable[UploadState]) -> dict[int, int]:
        """Documents (remote ids) of a mirror in these states, by binding."""
        marks = ", ".join(str(int(s)) for s in states)
        sql = (
            "SELECT binding, count(DISTINCT remote_id) FROM upload"  # noqa: S608
            f" WHERE mirror = ? AND remote_id IS NOT NULL AND state IN ({marks}) GROUP BY binding"
        )
        return {int(binding): int(n) for binding, n in self._db.execute(sql, (mirror,))}

    def serving_count(self, mirror: int, binding: int) -> int:
        """Documents of this binding that serve; constant time."""
        row = self._db.execute(
            "SELECT n FROM serving WHERE mirror = ? AND binding = ?", (mirror, binding)
        ).fetchone()
        return int(row[0]) if row else 0

    def is_named(self, binding: int, name: str) -> bool:
        """A row that is not final has this name, though it stands under another path or name of ours."""
        sql = (
            "SELECT 1 FROM upload WHERE binding = ? AND name = ? AND (name <> label OR path <> label)"
            " AND state NOT IN (11, 12) LIMIT 1"
        )
        return self._db.execute(sql, (binding, bind(name))).fetchone() is not None

    def bring_forward(
        self, mirror: int, binding: int, now: float, longest: Mapping[UploadState, float]
    ) -> None:
        """Make due now what is due later than the longest pause (seconds) of its state."""
        # A deletion that nobody answered yet waits for nothing, one that was put off now and then for little.
        refused, little = longest[UploadState.RETIRING], f"iif(reason <> '', {LONGEST}, 0)"
        pauses = {int(state): str(seconds) for state, seconds in longest.items()}
        pauses[int(UploadState.RETIRING)] = f"iif(attempts >= {RETIRE_TRIES}, {refused}, {little})"
        cases = " ".join(f"WHEN {state} THEN {seconds}" for state, seconds in pauses.items())
        sql = (
            "UPDATE upload SET next_look_at = :now WHERE mirror = :mirror AND binding = :binding"  # noqa: S608
            f" AND next_look_at IS NOT NULL AND state IN ({', '.join(map(str, pauses))})"
            f" AND next_look_at > :now + CASE state {cases} END"
        )
        self._db.execute(sql, {"now": now, "mirror": mirror, "binding": binding})

    def is_in_doubt(self, name: str) -> bool:
        """Of an upload of this name, in any base, nobody knows yet whether it is there."""
        sql = (
            "SELECT 1 FROM upload WHERE binding IN (SELECT id FROM binding) AND name = ?"
            " AND (name <> label OR path <> label) AND state NOT IN (11, 12) AND state IN (1, 2) LIMIT 1"
        )
        return self._db.execute(sql, (bind(name),)).fetchone() is not None

    def holders(self, remote_id: str) -> list[Upload]:
        """Rows that hold this remote id, whatever mirror they belong to."""
        where = "WHERE binding IN (SELECT id FROM binding) AND remote_id = ?"
        return list(self._select(where, (remote_id,)))

    def recast(self, upload: int, *, digest: str | None = None, recipe: str | None = None) -> None:
        """Write down what a document was found to be, or is to become: columns `save` leaves alone."""
        self._db.execute(
            "UPDATE upload SET digest = coalesce(?, digest), recipe = coalesce(?, recipe) WHERE id = ?",
            (digest, recipe, upload),
        )

    def unlabel(self, mirror: int, binding: int) -> None:
        """The target knows no document by its right name any more; what is intended is not sent."""
        where = "WHERE mirror = ? AND binding = ? AND state"
        labelled = f"UPDATE upload SET label = '' {where} IN (1, 2, 4, 5, 6)"  # noqa: S608
        self._db.execute(labelled, (mirror, binding))
        dropped = f"UPDATE upload SET state = 11, next_look_at = NULL {where} = 0"  # noqa: S608
        self._db.execute(dropped, (mirror, binding))

    def relabelled(self, mirror: int, binding: int) -> Iterator[Upload]:
        """Documents that serve a file by another path than the target knows."""
        return self._select(
            "WHERE mirror = ? AND binding = ? AND state = 5 AND label <> path", (mirror, binding)
        )

    def serving_among(self, binding: int, ids: Iterable[str]) -> int:
        """How many of these documents serve."""
        sql = "SELECT 1 FROM upload WHERE binding = ? AND remote_id = ? AND state IN (5, 6) LIMIT 1"
        return sum(self._db.execute(sql, (binding, one)).fetchone() is not None for one in ids)

    def rate(self, mirror: int, binding: int, now: float) -> float:
        """Documents a second that became searchable of late, by the newest uploads; 0.0: hardly any did."""
        newest = (
            "SELECT max(coalesce(looked_at, 0), coalesce(accepted_at, 0)) FROM upload"
            " WHERE mirror = ? AND binding = ? AND state = 5 ORDER BY id DESC LIMIT ?"
        )
        found = (float(at) for (at,) in self._db.execute(newest, (mirror, binding, NEWEST)))
        lately = [at for at in found if now - LATELY <= at <= now]
        return len(lately) / max(1.0, now - min(lately)) if len(lately) >= FEWEST else 0.0

    def left_behind(self, mirror: int, binding: int) -> int:
        """Documents that still serve in other bindings of this mirror."""
        row = self._db.execute(
            "SELECT coalesce(sum(n), 0) FROM serving WHERE mirror = ? AND binding <> ?", (mirror, binding)
        ).fetchone()
        return int(row[0])  # type: ignore[index]

    def move(self, mirror: int, binding: int, old: str, new: str) -> None:
        """The file was renamed: what belonged to `old` belongs to `new`.

        In bases that were left behind, only where nothing belongs to `new`.
        """
        self._db.execute(
            "UPDATE upload SET path = :new WHERE mirror = :mirror AND path = :old AND state NOT IN (11, 12)"
            " AND (binding = :binding OR NOT EXISTS(SELECT 1 FROM upload o WHERE o.mirror = :mirror"
            " AND o.binding = upload.binding AND o.path = :new AND o.state NOT IN (11, 12)))",
            {"new": bind(new), "mirror": mirror, "old": bind(old), "binding": binding},
        )

    def lose(self, mirror: int, binding: int) -> None:
        """The base of this binding no longer exists: so do its documents."""
        self._db.execute(
            "UPDATE upload SET state = 12, next_look_at = NULL WHERE mirror = ? AND binding = ?"
            " AND state NOT IN (11, 12)",
            (mirror, binding),
        )

    def prune(self, before: float) -> None:
        """Forget final rows made before this time."""
        self._db.execute("DELETE FROM upload WHERE state IN (11, 12) AND created_at < ?", (before,))

    def _select(self, where: str, args: tuple[object, ...]) -> Iterator[Upload]:
        return (_read(row) for row in self._db.execute(_SELECT + where, args))
