"""What the planner would make of one path, played through on rows in memory."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kbsync.core import lifecycle
from kbsync.core.lifecycle import Rhythm
from kbsync.core.model import Abilities, Choice, Limits, Presence, Purpose, Upload, UploadState, Wish
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
    is_stuck_under_old_name,
    is_without_text,
    parting_cause,
    proves,
)
from kbsync.core.refreshing import is_under_way

ROUNDS = 8
FRESH = -1
"""The id of the upload that a pass would make."""

ON_ITS_WAY = (UploadState.INTENDED, UploadState.SENDING, UploadState.UNSURE)
_STILL = Rhythm(0.0, lambda: 0.0, Limits())


class Effect(enum.Enum):
    """What a pass would do about one path, once everything has gone well."""

    NOTHING = "nothing"  # nothing at all, or nothing that is seen from outside
    UPLOAD = "upload"
    REPLACE = "replace"
    RENAME = "rename"
    REEMBED = "reembed"  # the same bytes under another recipe
    RENEW = "renew"  # the same, for the brake to weigh
    ASKED = "asked"  # the same, and it waits for a person
    INDEXING = "indexing"  # sent already; the target is at work
    FAILED = "failed"  # in quarantine
    SKIPPED = "skipped"  # sent, and there is no text in it
    WEIGH = "weigh"  # a deletion for the brake to weigh
    HELD = "held"  # a deletion that waits for a person
    DELETE = "delete"  # a deletion that was let go already, or of what never served


@dataclass(frozen=True, slots=True)
class Course:
    """Where a path is heading. `rows`: its uploads when the planner has no more to say.

    `cause`: why its deletion is to be weighed, else ''. `relabels`: the target is told its new path.
    `reslices`: the target is to cut it anew. `renews`: it is to be weighed whether it is made anew.
    """

    rows: tuple[Upload, ...]
    cause: str = ""
    relabels: bool = False
    reslices: bool = False
    renews: bool = False

    @property
    def server(self) -> Upload | None:
        """The upload that serves the path."""
        return next((row for row in self.rows if row.state.serves), None)


def follow(wish: Wish, uploads: Sequence[Upload], abilities: Abilities) -> Course:
    """Let the planner decide until nothing more follows, as a pass does when it settles a path."""
    played = _Played(wish, _arrived(wish, uploads, abilities))
    for _ in range(ROUNDS):
        actions = decide(wish, list(played.rows.values()), abilities)
        changes = [played.act(action) for action in actions]
        if not any(changes):
            break
    rows = tuple(played.rows.values())
    return Course(rows, played.cause, played.relabels, played.reslices, played.renews)


def _arrived(wish: Wish, uploads: Sequence[Upload], abilities: Abilities) -> list[Upload]:
    """Where a target updates in place the planner waits for what is on its way: here it has arrived."""
    uploads = [replace(u, code="") if is_under_way(u) else u for u in uploads]
    late = [u for u in uploads if abilities.updates and _is_late(wish, u)]
    if not late:
        return uploads
    rest = [u for u in uploads if u not in late and not u.state.serves]
    return [*rest, replace(late[-1], state=UploadState.SERVING, purpose=Purpose.SERVE)]


def _is_late(wish: Wish, upload: Upload) -> bool:
    if not upload.state.in_flight:
        return False
    return bool(parting_cause(wish)) or not is_for(wish, upload)


def is_for(wish: Wish, upload: Upload) -> bool:
    """The upload holds the wished bytes under the wished recipe."""
    return (upload.digest, upload.recipe) == (wish.digest, wish.recipe)


class _Played:
    """Rows that change as the planner wishes."""

    def __init__(self, wish: Wish, uploads: Sequence[Upload]) -> None:
        self.rows = {upload.id: upload for upload in uploads}
        self.cause = ""
        self.relabels = self.reslices = self.renews = False
        self._wish = wish

    def act(self, action: Action) -> bool:
        """Carry out one action; True when it may call for more."""
        match action:
            case Weigh(_, cause):
                self.cause = cause
                return False
            case Keep():
                return False
            case Renew():
                self.renews = True
                return False
            case Forgo(number):
                self._put(lifecycle.forgo(self.rows[number]))
                return False
            case Recut(number):
                self.reslices = True
                recut = lifecycle.recut(self.rows[number], self._wish.recipe, 0.0, _STILL)
                self._put(replace(recut, id=FRESH))
            case Relabel():
                changed, self.relabels = not self.relabels, True
                return changed
            case Send(predecessor):
                self.rows[FRESH] = _intended(self._wish, predecessor)
            case Prove(number):  # supposed to be the file: then there is nothing to do
                self._put(self._known(self.rows[number]))
            case Serve(number) if proves(self.rows[number], self._wish):
                self._put(lifecycle.take_over(self._known(self.rows[number]), _STILL))
            case Reslice(number):
                self.reslices = True
                self._put(replace(lifecycle.reslice(self.rows[number], _STILL), recipe=self._wish.recipe))
            case _:
                self._put(_stepped(self.rows[action.upload], action))
        return True

    def _known(self, row: Upload) -> Upload:
        return replace(row, digest=self._wish.digest or "")

    def _put(self, row: Upload) -> None:
        if row.state.is_final:
            self.rows.pop(row.id, None)
        else:
            self.rows[row.id] = row


def _stepped(row: Upload, action: Action) -> Upload:
    match action:
        case Drop():
            return lifecycle.drop(row)
        case Retire():
            return lifecycle.retire(row, _STILL)
        case Unwant():
            return lifecycle.unwant(row)
        case Want():
            return lifecycle.want(row)
        case Serve():
            return lifecycle.take_over(row, _STILL)
        case _:
            return row


def _intended(wish: Wish, predecessor: int | None) -> Upload:
    return Upload(
        id=FRESH,
        mirror=0,
        binding=0,
        path=wish.path,
        label=wish.path,
        name=wish.path,
        digest=wish.digest or "",
        size=wish.size,
        recipe=wish.recipe,
        state=UploadState.INTENDED,
        predecessor=predecessor,
    )


def effect_of(wish: Wish, course: Course) -> Effect:
    """What a course means for people."""
    if parting_cause(wish):
        return _parting(course)
    if wish.digest is None or wish.verdict.choice is not Choice.SELECTED or _is_open(wish):
        return Effect.NOTHING
    if any(row.state in ON_ITS_WAY and is_for(wish, row) for row in course.rows):
        return _sending(wish, course.server)
    if course.renews:
        return Effect.RENEW
    return Effect.ASKED if _is_asked(wish, course.server) else _resting(wish, course)


def _is_asked(wish: Wish, server: Upload | None) -> bool:
    return server is not None and server.digest == wish.digest and server.asked == wish.recipe != ""


def _is_open(wish: Wish) -> bool:
    return wish.presence in (Presence.UNKNOWN, Presence.MISSING)


def _parting(course: Course) -> Effect:
    if course.cause:
        return Effect.WEIGH
    if course.server is not None:
        return Effect.HELD
    retiring = any(row.state is UploadState.RETIRING for row in course.rows)
    return Effect.DELETE if retiring else Effect.NOTHING


def _sending(wish: Wish, server: Upload | None) -> Effect:
    if server is None:
        return Effect.UPLOAD
    if server.label != wish.path:
        return Effect.RENAME
    return Effect.REEMBED if server.digest == wish.digest else Effect.REPLACE


def _resting(wish: Wish, course: Course) -> Effect:
    if course.server is not None and is_for(wish, course.server):
        if course.relabels:
            return Effect.RENAME
        stuck = is_stuck_under_old_name(wish, course.server, course.rows)
        return Effect.FAILED if stuck else Effect.NOTHING
    states = {row.state for row in course.rows if is_for(wish, row)}
    if UploadState.INDEXING in states:
        return Effect.REEMBED if course.reslices else Effect.INDEXING
    if course.server is None and is_without_text(wish, course.rows):
        return Effect.SKIPPED
    return Effect.FAILED if UploadState.FAILED in states else Effect.NOTHING
