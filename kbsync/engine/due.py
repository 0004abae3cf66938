"""What the worker finds to do: everything that is due, in one look at the state."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kbsync.core.lifecycle import QUOTA
from kbsync.core.model import Upload, UploadState
from kbsync.core.turns import SENDS, Lane, reach_of
from kbsync.engine.terms import Terms
from kbsync.state.store import Tx

POLL_BATCH = 1000
LOOK_BATCH = 10_000
SMALL_BATCH = 100
PAGE = 1000

WAITING = (
    UploadState.INTENDED,
    UploadState.SENDING,
    UploadState.RETIRING,
    UploadState.ADOPTING,  # one may wait to be read
)
"""States that something is still to be done about when `next_look_at` is set; others are asked for apart."""

IN_FLIGHT = (UploadState.SENDING, UploadState.UNSURE, UploadState.INDEXING)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far to look: wall seconds now, how many documents of a lane fit, seconds to look ahead for polls.

    `polls` None: no poll may start now. `looks`: one for lost uploads may. `busy`: uploads that something is
    being done about already.
    """

    now: float
    requests: int
    polls: float | None
    looks: bool
    busy: Collection[int]


@dataclass(frozen=True, slots=True)
class Due:
    """Rows by what they wait for, each by rank; sends by lane, those in which something waits."""

    deletes: list[Upload]
    looks: list[Upload]
    proofs: list[Upload]
    polls: list[Upload]
    renames: list[Upload]
    sends: Mapping[Lane, list[Upload]]


def find_due(tx: Tx, terms: Terms, reach: Reach) -> Due:
    """Everything that is due at this moment and not being done."""
    return Due(
        deletes=_due(tx, terms, UploadState.RETIRING, reach, reach.requests),
        looks=_looks(tx, terms, reach) if reach.looks else [],
        proofs=_due(tx, terms, UploadState.ADOPTING, reach, SMALL_BATCH),
        polls=_polls(tx, terms, reach),
        renames=_due(tx, terms, UploadState.SERVING, reach, SMALL_BATCH),
        sends=_sends(tx, terms, reach),
    )


def _due(
    tx: Tx,
    terms: Terms,
    state: UploadState,
    reach: Reach,
    limit: int,
    *,
    ahead: float = 0.0,
    lane: Lane | None = None,
) -> list[Upload]:
    if limit <= 0:
        return []
    many = limit + len(reach.busy)
    ranks = (0.0, math.inf) if lane is None else reach_of(lane)
    rows = tx.uploads.due(terms.mirror, terms.binding, state, reach.now + ahead, many, ranks)
    return [row for row in rows if row.id not in reach.busy][:limit]


def _sends(tx: Tx, terms: Terms, reach: Reach) -> dict[Lane, list[Upload]]:
    lanes = {lane: _due(tx, terms, UploadState.INTENDED, reach, reach.requests, lane=lane) for lane in SENDS}
    return {lane: rows for lane, rows in lanes.items() if rows}


def _looks(tx: Tx, terms: Terms, reach: Reach) -> list[Upload]:
    """One list tells of all: where one unsure upload is due, every other one is looked for as well.

    Those that were lost or deleted long ago are looked for by every look anyway.
    """
    if _due(tx, terms, UploadState.UNSURE, reach, 1):
        unsure = tx.uploads.in_states(terms.mirror, terms.binding, (UploadState.UNSURE,), limit=LOOK_BATCH)
        return [row for row in unsure if row.id not in reach.busy]
    lost = _due(tx, terms, UploadState.PRESUMED_LOST, reach, 1)
    return lost or _due(tx, terms, UploadState.TOMBSTONE, reach, 1)


def _polls(tx: Tx, terms: Terms, reach: Reach) -> list[Upload]:
    """One request can tell of many: where one is due, those that will soon be are asked about as well."""
    if reach.polls is None or not _due(tx, terms, UploadState.INDEXING, reach, 1):
        return []
    return _due(tx, terms, UploadState.INDEXING, reach, POLL_BATCH, ahead=reach.polls)


def find_room(tx: Tx, terms: Terms) -> tuple[bool, bool]:
    """(some documents found no room in the account, whether there is room is being tried just now)."""
    found_none = is_trying = False
    after = 0
    while rows := tx.uploads.in_states(terms.mirror, terms.binding, IN_FLIGHT, after, PAGE):
        after = rows[-1].id
        codes = {row.code == QUOTA and row.state is UploadState.INDEXING for row in rows}
        found_none, is_trying = found_none or True in codes, is_trying or False in codes
    return found_none, is_trying


@dataclass(frozen=True, slots=True)
class NextDue:
    """Wall seconds when the next row is due; None: nothing waits.

    Unsure, indexing, serving (to be renamed or refreshed), and all others.
    """

    looks: float | None
    polls: float | None
    serving: float | None
    others: float | None

    @property
    def first(self) -> float | None:
        """Of all."""
        return earliest(self.looks, self.polls, self.serving, self.others)

    def paced(self, look: float, poll: float, refresh: float) -> float | None:
        """The first, where no look, poll or refresh may start before these moments."""
        serving = None if self.serving is None else max(self.serving, refresh)
        looks = None if self.looks is None else max(self.looks, look)
        polls = None if self.polls is None else max(self.polls, poll)
        return earliest(looks, polls, serving, self.others)


def earliest(*times: float | None) -> float | None:
    """The first of these that are known."""
    return min((time for time in times if time is not None), default=None)


def next_due(tx: Tx, terms: Terms) -> NextDue:
    """When there will be something to do."""

    def of(*states: UploadState) -> float | None:
        return tx.uploads.next_due(terms.mirror, terms.binding, states)

    return NextDue(of(UploadState.UNSURE), of(UploadState.INDEXING), of(UploadState.SERVING), of(*WAITING))
