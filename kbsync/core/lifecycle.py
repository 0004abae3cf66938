"""The life of an upload: its states, the steps between them, and who takes them.

`STEPS` is all of it: the diagram in docs/internals/architecture.md is held to it, and so is every row that
a test saves. Below it stands how a row changes with each step. A step never acts: what must follow at the
same path (a successor takes over, a fresh upload is wanted) is found by `planner.decide`, which runs again
after every step. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kbsync.core.backoff import LONGEST, look_pause, pause
from kbsync.core.fairness import rank_again
from kbsync.core.model import UNANSWERED, Limits, Phase, Purpose, Upload, UploadState

STEPS = """\
INTENDED --> SENDING: worker, on disk, then sent
INTENDED --> DROPPED: planner, not wanted any more
INTENDED --> FAILED: worker, its answers were lost too often
SENDING --> INTENDED: worker, nothing was stored, try later
SENDING --> INDEXING: worker, accepted
SENDING --> SERVING: worker, accepted, searchable at once
SENDING --> HELD: worker, searchable, while the deletion of its predecessor is held
SENDING --> FAILED: worker, the document is to blame
SENDING --> UNSURE: worker, the answer was lost, or a crash
SENDING --> RETIRING: worker, accepted, and not wanted any more
SENDING --> DROPPED: worker, nothing was stored, and not wanted any more
UNSURE --> INDEXING: worker, seen in the list
UNSURE --> SERVING: worker, seen in the list, searchable
UNSURE --> HELD: worker, searchable, while the deletion of its predecessor is held
UNSURE --> RETIRING: worker, seen in the list, and not wanted any more
UNSURE --> PRESUMED_LOST: worker, absent for long enough
UNSURE --> FAILED: worker, a page that nothing proves to be ours
UNSURE --> DROPPED: worker, absent where the list is the truth
PRESUMED_LOST --> INDEXING: worker, turns up, and nothing else serves
PRESUMED_LOST --> SERVING: worker, turns up searchable, and nothing else serves
PRESUMED_LOST --> HELD: worker, searchable, while the deletion of its predecessor is held
PRESUMED_LOST --> RETIRING: worker, turns up after all
PRESUMED_LOST --> DROPPED: worker, absent for a week
INDEXING --> SERVING: worker, searchable
INDEXING --> HELD: worker, searchable, while the deletion of its predecessor is held
INDEXING --> FAILED: worker, no tries left
INDEXING --> RETIRING: planner, not wanted any more, or failed and sent again
INDEXING --> TOMBSTONE: worker, no longer at the target, the list may lag
INDEXING --> GONE: worker, no longer at the target
SERVING --> HELD: deletion limits, its deletion waits for a person
SERVING --> RETIRING: deletion limits, a successor is ready, or its deletion was let through
SERVING --> INDEXING: worker, nobody knows whether it is still there
SERVING --> TOMBSTONE: worker, its successor is there in its place
SERVING --> GONE: worker, updated in place, or no longer at the target
HELD --> SERVING: planner, the file is back
HELD --> RETIRING: person, approved
HELD --> TOMBSTONE: worker, its successor is there in its place
HELD --> GONE: worker, updated in place, or no longer at the target
RETIRING --> SERVING: planner, wanted again, delete not yet sent, or worker, kept and still there
RETIRING --> TOMBSTONE: worker, deleted, the list may lag
RETIRING --> GONE: worker, deleted
TOMBSTONE --> GONE: worker, a list confirms it
TOMBSTONE --> RETIRING: worker, still listed
FAILED --> DROPPED: person, edit or retry
FAILED --> RETIRING: person, edit or retry, and the target has it
FAILED --> INDEXING: planner, to be cut again under another recipe
FAILED --> INTENDED: worker, the target was to blame
ADOPTING --> SERVING: planner, proven ours, searchable
ADOPTING --> INDEXING: planner, proven ours
ADOPTING --> RETIRING: planner, proven ours, and another serves, or person, a copy, by verify --repair
DROPPED --> RETIRING: worker, an audit finds a document that only this upload can have made
GONE --> RETIRING: worker, an audit finds a document that only this upload can have made
"""
"""Every step, who takes it and why, as lines of the diagram.

The worker takes a step for what the target answered, the planner for what the folder wants, the deletion
limits when few enough go at once, a person with `approve`, `retry` or `verify --repair`. One step is not
here: where a base that kbsync made was lost, all its rows are GONE at once (`Uploads.lose`).
"""

TRANSITIONS: Mapping[UploadState, frozenset[UploadState]] = {
    state: frozenset(
        UploadState[line.partition(" --> ")[2].partition(":")[0]]
        for line in STEPS.splitlines()
        if line.startswith(f"{state.name} --> ")
    )
    for state in UploadState
}

PRESUMED_LOST_KEPT = 7 * 86400.0
LATER_LOOKS = (60.0, 600.0, 3600.0, 6 * 3600.0, 86400.0)
"""Seconds between looks for an upload that was given up: it may turn up late and must not stay a copy."""

LONGEST_AFTER_LOSS = 900.0
"""Seconds before a document is sent again whose answers get lost each time."""

MOST_LOSSES = 8
"""Times in a row that a document is sent without an answer before it fails (promise 9)."""

NOT_ANSWERED = "unanswered"
"""Code of a document that failed because the answers to its uploads got lost."""

PATIENT_TRIES = 3
"""A document that was put off so often goes behind those that were never tried."""

LONGEST_BLINK = 60.0
"""Seconds between two looks that count, at the most, as time in which a document was being indexed."""

POLL_SHARE = 0.25
"""Of the time it has taken so far: a document that took long is not looked at for that much longer."""

CONFIRMED_AFTER = 86400.0
"""Seconds after a deletion when a list is asked for whether it was true, unless one came by before."""

UNDELETABLE_PAUSE = 7 * 86400.0
"""Seconds between looks at a document that no deletion removes."""

RETIRE_TRIES = 3
REJECTED_DELETE_PAUSE = 3600.0

LONGEST_LAG = 600.0
"""Seconds by which a list is believed to lag, at the most, whatever was seen of it."""

LONGEST_PAUSES = {
    UploadState.INTENDED: LONGEST_AFTER_LOSS,
    UploadState.UNSURE: LONGEST_AFTER_LOSS,
    UploadState.PRESUMED_LOST: LATER_LOOKS[-1],
    UploadState.INDEXING: 2 * LONGEST_LAG,
    UploadState.SERVING: LONGEST,
    UploadState.RETIRING: REJECTED_DELETE_PAUSE,
    UploadState.TOMBSTONE: UNDELETABLE_PAUSE,
    UploadState.ADOPTING: REJECTED_DELETE_PAUSE,
}
"""Seconds: no pause of a state is longer, so what is due later was put off by a clock that ran ahead.

Every state in which a row can be due is here.
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """What steps need besides the row: the moment, chance (0..1), the target's limits.

    `absent_after` and `lag`, the largest lag of its list seen so far, make the horizon; all in seconds.
    """

    now: float
    chance: Callable[[], float]
    limits: Limits
    absent_after: float = 15.0
    lag: float = 0.0

    @property
    def looks_needed(self) -> int:
        """Complete lists without a document before it counts as absent."""
        return 2 if self.limits.list_lag > 0 else 1

    @property
    def horizon(self) -> float:
        """Seconds after which absent means absent."""
        if self.limits.list_lag <= 0:
            return 0.0
        # Sent again too early costs one embedding and a copy that is retired later, so this may be short.
        return max(self.absent_after, 2 * max(self.limits.list_lag, self.lag))


_UNREMARKED: dict[str, Any] = {"reason": "", "code": "", "phase": Phase.PLAIN}
"""A step that goes well clears what was said about the one before."""

_COUNTED_FROM_NOW: dict[str, Any] = {"looks": 0, "absences": 0, "elapsed": 0.0}
"""How often and for how long it is looked for or waited for."""


def send(upload: Upload, timing: Timing) -> Upload:
    """INTENDED → SENDING, the attempt counted before the first byte leaves."""
    # So is the loss, which any answer takes back: a process that is killed counts nothing any more.
    return replace(
        upload,
        state=UploadState.SENDING,
        attempts=upload.attempts + 1,
        losses=upload.losses + 1,
        sent_at=timing.now,
        next_look_at=None,
        **_UNREMARKED,
    )


def accept(upload: Upload, remote_id: str, ready: bool, timing: Timing) -> Upload:
    """The target has it."""
    if ready and upload.purpose is Purpose.SERVE:
        return serve(upload, remote_id=remote_id, accepted_at=timing.now)
    accepted = replace(
        upload,
        remote_id=remote_id,
        accepted_at=timing.now,
        looked_at=timing.now,
        losses=0,
        **_COUNTED_FROM_NOW,
        **_UNREMARKED,
    )
    if upload.purpose is Purpose.RETIRE:
        return retire(accepted, timing)
    due = timing.now + timing.limits.poll_first
    return replace(accepted, state=UploadState.INDEXING, next_look_at=due)


def take_over(upload: Upload, timing: Timing) -> Upload:
    """A document found at the target is proven ours: it serves if it is searchable, else it is polled."""
    if upload.state is not UploadState.ADOPTING or upload.is_listed_ready:
        return serve(upload)
    found = accept(upload, upload.remote_id or "", False, timing)
    return replace(found, next_look_at=timing.now)


def serve(upload: Upload, **news: Any) -> Upload:
    """It is searchable and the one that counts; `news` are columns that change as well."""
    return replace(
        upload,
        **news,
        state=UploadState.SERVING,
        purpose=Purpose.SERVE,
        next_look_at=None,
        repairs=0,
        losses=0,
        looks=0,
        **_UNREMARKED,
        wanted_recipe="",
    )


def reject(upload: Upload, reason: str, code: str) -> Upload:
    """The document is to blame: quarantine until an edit or `retry`."""
    if upload.purpose is Purpose.RETIRE and upload.remote_id is None:
        return drop(upload)
    failed = replace(upload, state=UploadState.FAILED, reason=reason, code=code, next_look_at=None)
    return replace(failed, phase=Phase.PLAIN)


def send_once_more(upload: Upload, reason: str, code: str, timing: Timing) -> Upload:
    """It was refused, and may not be the next time: sent again, a bounded number of times, then rejected."""
    if upload.purpose is Purpose.RETIRE or upload.repairs >= timing.limits.reembed_tries:
        return reject(upload, reason, code)
    tries = upload.repairs + 1
    again = put_off(upload, reason, pause(tries, timing.chance), timing)
    return replace(again, repairs=tries)


def put_off(upload: Upload, reason: str, wait: float | None, timing: Timing) -> Upload:
    """Nothing was stored and the document is not to blame: INTENDED again, after a pause."""
    if upload.purpose is Purpose.RETIRE:
        return drop(upload)  # it is not wanted any more, and nothing is there
    upload = answered(upload)
    seconds = pause(upload.attempts, timing.chance) if wait is None else wait
    rank = upload.rank if upload.attempts < PATIENT_TRIES else rank_again(upload.rank)
    due = timing.now + seconds
    return replace(upload, state=UploadState.INTENDED, reason=reason, next_look_at=due, rank=rank)


def refund(upload: Upload, reason: str, timing: Timing, wait: float = 0.0) -> Upload:
    """The mirror halts, or the target is left alone: as if it had not been tried."""
    spent = replace(upload, attempts=max(0, upload.attempts - 1), sent_at=None)
    return put_off(spent, reason, wait, timing)


def answered(upload: Upload) -> Upload:
    """What was sent last was answered, or its answer was lost for no fault of the document."""
    if upload.state is not UploadState.SENDING:
        return upload
    return replace(upload, losses=max(0, upload.losses - 1))


def doubt(upload: Upload, reason: str, timing: Timing, *, spent: bool = True) -> Upload:
    """The answer was lost: look before anything is sent again. `spent`: the document may be to blame."""
    upload = upload if spent else answered(upload)
    wait = look_pause(0) if timing.limits.list_lag > 0 else 0.0
    return replace(
        upload,
        state=UploadState.UNSURE,
        reason=reason,
        **_COUNTED_FROM_NOW,
        # A clock that was set back must not make the document older than its request.
        sent_at=timing.now if upload.sent_at is None else min(upload.sent_at, timing.now),
        looked_at=timing.now,
        next_look_at=timing.now + wait,
    )


def not_found(upload: Upload, timing: Timing, began: float) -> Upload:
    """A complete list did not have an unsure upload. Past the horizon, absent means absent (promise 3)."""
    # A list takes minutes, and its first page tells of the moment when it `began`.
    looked = _aged(upload, replace(timing, now=min(began, timing.now)))
    looked = replace(looked, looks=looked.looks + 1, absences=looked.absences + 1)
    if looked.absences >= timing.looks_needed and looked.elapsed >= timing.horizon:
        if timing.limits.list_lag == 0:
            return drop(looked)
        due = timing.now + LATER_LOOKS[0]
        return replace(looked, state=UploadState.PRESUMED_LOST, looks=0, elapsed=0.0, next_look_at=due)
    left = timing.horizon - looked.elapsed
    wait = look_pause(looked.looks) if left <= 0 else min(look_pause(looked.looks), max(left, 1.0))
    return replace(looked, next_look_at=timing.now + wait)


def _aged(upload: Upload, timing: Timing) -> Upload:
    """Elapsed time grows by what passed since the last look; a clock that was set back adds nothing."""
    # When it was sent is then told by the clock as it is now, as the target's times are.
    passed = timing.now - (upload.looked_at if upload.looked_at is not None else timing.now)
    sent_at = None if upload.sent_at is None else upload.sent_at + min(0.0, passed)
    return replace(upload, elapsed=upload.elapsed + max(0.0, passed), looked_at=timing.now, sent_at=sent_at)


def _watched(upload: Upload, timing: Timing) -> Upload:
    """As `_aged`, but only time in which it was looked at counts."""
    # The target gets its time even if this machine slept, halted, or had its clock set forward meanwhile.
    most = upload.elapsed + max(LONGEST_BLINK, 2 * timing.limits.poll_longest)
    aged = _aged(upload, timing)
    return replace(aged, elapsed=min(aged.elapsed, most))


def still_lost(upload: Upload, timing: Timing) -> Upload:
    """A later list does not have it either: looked for ever more seldom, for a week."""
    if upload.next_look_at is not None and timing.now < upload.next_look_at:
        return upload  # the list was asked for because of others, before this one's turn
    aged = _aged(upload, timing)
    if aged.elapsed >= PRESUMED_LOST_KEPT:
        return drop(aged)
    wait = LATER_LOOKS[min(aged.looks + 1, len(LATER_LOOKS) - 1)]
    return replace(aged, looks=aged.looks + 1, next_look_at=timing.now + wait)


def send_after_loss(fresh: Upload, lost: Upload, timing: Timing) -> Upload:
    """A new intent in place of an upload that was given up: the tries so far count, and pauses grow.

    After `MOST_LOSSES` in a row it fails instead, until an edit or `retry`.
    """
    if lost.losses >= MOST_LOSSES:
        reason = (
            f"sent {lost.losses} times without an answer ({lost.reason}); check the service, the limits of "
            "any proxy in front of it and kbsync's log, then run kbsync retry"
        )
        return reject(replace(fresh, attempts=lost.attempts, repairs=lost.repairs), reason, NOT_ANSWERED)
    wait = pause(lost.attempts, timing.chance, longest=LONGEST_AFTER_LOSS)
    return replace(
        fresh,
        attempts=lost.attempts,
        repairs=lost.repairs,
        losses=lost.losses,
        reason=lost.reason,
        next_look_at=timing.now + wait,
        rank=rank_again(fresh.rank),
    )


def lag_seen(upload: Upload) -> float:
    """Seconds for which lists were without a document that was sent and has now been found."""
    if upload.sent_at is None or upload.looked_at is None or not (upload.absences or upload.looks):
        return 0.0
    return max(0.0, upload.looked_at - upload.sent_at)


def wait_on(
    upload: Upload,
    timing: Timing,
    *,
    is_working: bool = False,
    is_queued: bool = False,
    least: float = 0.0,
    reason: str = "",
) -> Upload:
    """Still indexing: look again later, with growing pauses.

    `is_working`: the target says so itself. `is_queued`: others come first, and its time begins anew.
    `least`: seconds of the pause at least, and the `reason`.
    """
    aged = _watched(upload, timing)
    if is_queued:
        aged = replace(aged, elapsed=min(aged.elapsed, timing.limits.poll_longest / POLL_SHARE))
    limits = timing.limits
    wait = max(least, min(limits.poll_longest, max(limits.poll_first, POLL_SHARE * aged.elapsed)))
    # From here on a failure that it shows is a new one.
    is_answered = is_working and aged.phase is Phase.ASKED_AGAIN
    phase = Phase.PLAIN if is_answered else aged.phase
    looked = replace(aged, looks=aged.looks + 1, absences=0, next_look_at=timing.now + wait, phase=phase)
    return replace(looked, reason=reason) if reason else looked


def may_be_hurried(upload: Upload) -> bool:
    """It waits for the target's work; one that waits for room, or to be cut again, has pauses of its own."""
    return upload.state is UploadState.INDEXING and upload.phase not in (Phase.NO_ROOM, Phase.TO_CUT)


def hurried(upload: Upload, timing: Timing) -> Upload:
    """There may be news of it: look soon."""
    # However often a service calls back, `poll_first` lies between two looks.
    since = timing.now if upload.looked_at is None else upload.looked_at
    soon = max(timing.now, min(since, timing.now) + timing.limits.poll_first)
    due = soon if upload.next_look_at is None else min(upload.next_look_at, soon)
    return replace(upload, next_look_at=due)


def may_be_stale(upload: Upload, timing: Timing) -> bool:
    """A failure that the target shows may be from before it was asked to index again."""
    return upload.phase is Phase.ASKED_AGAIN and _aged(upload, timing).elapsed < timing.limits.reembed_grace


def is_overdue(upload: Upload, timing: Timing, *, times: float = 1.0) -> bool:
    """It has been indexing for longer than the target is given, so many times over."""
    return _watched(upload, timing).elapsed >= times * timing.limits.give_up


def repair(upload: Upload, reason: str, timing: Timing, *, spent: bool = True) -> Upload:
    """Indexing failed; it was asked to index again. `spent`: the document was to blame."""
    tries = upload.repairs + 1 if spent else upload.repairs
    wait = pause(max(1, tries), timing.chance)
    return replace(
        upload,
        repairs=tries,
        reason=reason,
        phase=Phase.ASKED_AGAIN,
        looks=0,
        elapsed=0.0,
        looked_at=timing.now,
        next_look_at=timing.now + wait,
    )


def forgive(upload: Upload) -> Upload:
    """A person says that what was wrong is mended: its failures so far count no more."""
    return replace(upload, repairs=0, losses=1 if upload.state in UNANSWERED else 0)


def await_room(upload: Upload, reason: str, timing: Timing) -> Upload:
    """The account has no room to index it: no try is spent, and it is asked again once there is room."""
    return replace(upload, reason=reason, phase=Phase.NO_ROOM, next_look_at=timing.now)


def reslice(upload: Upload, timing: Timing) -> Upload:
    """FAILED → INDEXING: the target is to cut it again, its bytes unchanged."""
    return replace(
        upload,
        state=UploadState.INDEXING,
        purpose=Purpose.SERVE,
        repairs=0,
        **_COUNTED_FROM_NOW,
        looked_at=timing.now,
        next_look_at=timing.now,
        reason="",
        code="",
        phase=Phase.TO_CUT,
    )


def rename_intent(upload: Upload, name: str, reason: str, timing: Timing) -> Upload:
    """The name it was sent under is taken: intended again under another."""
    return replace(
        answered(upload),
        state=UploadState.INTENDED,
        name=name,
        reason=reason,
        names_tried=upload.names_tried + 1,
        next_look_at=timing.now,
    )


def again(upload: Upload, reason: str, timing: Timing, *, spent: bool = True) -> Upload:
    """A fresh intent in place of an upload that failed to index; the tries so far go along.

    `spent`: the document was to blame.
    """
    tries = upload.repairs + 1 if spent else upload.repairs
    return replace(
        upload,
        id=0,
        state=UploadState.INTENDED,
        remote_id=None,
        repairs=tries,
        attempts=0,
        names_tried=0,
        losses=0,
        **_COUNTED_FROM_NOW,
        created_at=timing.now,
        sent_at=None,
        accepted_at=None,
        looked_at=None,
        next_look_at=timing.now + pause(tries, timing.chance),
        rank=rank_again(upload.rank),
        reason=reason,
        code="",
        phase=Phase.PLAIN,
    )


def vanished(upload: Upload, timing: Timing) -> Upload:
    """A document that was indexing is not there: twice in a row, a horizon apart, means it is gone."""
    looked = _aged(upload, timing)
    looked = replace(looked, absences=looked.absences + 1, looks=looked.looks + 1)
    if looked.absences >= timing.looks_needed and looked.elapsed >= timing.horizon:
        return deleted(looked, timing)  # should it come back, it is deleted as one of ours
    return replace(looked, next_look_at=timing.now + max(timing.horizon, look_pause(looked.looks)))


def retire(upload: Upload, timing: Timing) -> Upload:
    """Its document is to be deleted; no request was made yet."""
    if upload.remote_id is None:
        return drop(upload)
    # What used to serve can serve again until the request is made (`planner._can_return`).
    purpose = Purpose.SERVE if upload.state.serves else Purpose.RETIRE
    return replace(
        upload,
        state=UploadState.RETIRING,
        purpose=purpose,
        attempts=0,
        repairs=0,
        reappeared=0,
        postponed=0,
        next_look_at=timing.now,
        **_UNREMARKED,
    )


def begin_delete(upload: Upload) -> Upload:
    """The attempt is counted before the request: from here on the retirement is not called off."""
    return replace(upload, attempts=upload.attempts + 1)


def deleted(upload: Upload, timing: Timing) -> Upload:
    """The target says it is gone; where its list may lag, a tombstone stays until a list confirms it."""
    if timing.limits.list_lag == 0:
        return replace(upload, state=UploadState.GONE, next_look_at=None)
    look_at = timing.now + max(CONFIRMED_AFTER, timing.horizon)
    return replace(upload, state=UploadState.TOMBSTONE, looked_at=timing.now, next_look_at=look_at)


def still_there(upload: Upload, timing: Timing) -> Upload:
    """A list past the horizon still has a document that was deleted: deleted again, a few times."""
    # Lists lag: one that was begun soon after the delete tells nothing.
    deleted_at = timing.now if upload.looked_at is None else min(upload.looked_at, timing.now)
    if timing.now - deleted_at < timing.horizon:
        due = deleted_at + timing.horizon
        is_later = upload.next_look_at is not None and upload.next_look_at >= due
        return upload if is_later else replace(upload, looked_at=deleted_at, next_look_at=due)
    if upload.reappeared >= RETIRE_TRIES:
        return replace(upload, next_look_at=timing.now + UNDELETABLE_PAUSE)
    return replace(retire(upload, timing), reappeared=upload.reappeared + 1)


def delete_refused(upload: Upload, reason: str, code: str, timing: Timing) -> Upload:
    """The target will not delete it: tried a few times, then seldom, the reason kept for a person."""
    rare = upload.attempts >= RETIRE_TRIES
    wait = REJECTED_DELETE_PAUSE if rare else pause(upload.attempts, timing.chance)
    return replace(upload, reason=reason, code=code, next_look_at=timing.now + wait)


def delete_put_off(upload: Upload, reason: str, wait: float | None, timing: Timing) -> Upload:
    """The delete may or may not have happened; it is repeatable."""
    seconds = pause(upload.attempts, timing.chance) if wait is None else wait
    return replace(upload, reason=reason, next_look_at=timing.now + seconds)


def await_successor(upload: Upload, timing: Timing) -> Upload:
    """Its delete is not sent again before another document serves, or has failed."""
    return replace(upload, next_look_at=timing.now + timing.limits.poll_first)


def await_file(upload: Upload, timing: Timing) -> Upload:
    """Its delete is not sent while nobody knows whether the file is back; that may take long."""
    postponed = upload.postponed + 1
    wait = pause(postponed, timing.chance)
    return replace(upload, postponed=postponed, next_look_at=timing.now + wait)


def awaits_file(upload: Upload) -> bool:
    """Its delete is put off by `await_file`."""
    return upload.state is UploadState.RETIRING and upload.postponed > 0


def delete_after_all(upload: Upload, timing: Timing) -> Upload:
    """Something else serves now, whatever the file does: its delete is due."""
    return replace(upload, postponed=0, next_look_at=timing.now)


def drop(upload: Upload) -> Upload:
    """It never reached the target, or nothing of it is left there."""
    return replace(upload, state=UploadState.DROPPED, next_look_at=None)


def gone(upload: Upload) -> Upload:
    """Its document no longer exists, and not by a delete of ours."""
    return replace(upload, state=UploadState.GONE, next_look_at=None)


def look_again(upload: Upload, timing: Timing) -> Upload:
    """It served, and may have been removed for a successor that is not there: polled until that is known."""
    news: dict[str, Any] = {"looked_at": timing.now, "next_look_at": timing.now, **_COUNTED_FROM_NOW}
    return replace(upload, state=UploadState.INDEXING, **news)


def hold(upload: Upload) -> Upload:
    """Its deletion waits for a person; it goes on serving."""
    return replace(upload, state=UploadState.HELD, next_look_at=None)


def unwant(upload: Upload) -> Upload:
    """Once its outcome is known it is retired."""
    return replace(upload, purpose=Purpose.RETIRE)


def want(upload: Upload) -> Upload:
    """It is wanted after all."""
    return replace(upload, purpose=Purpose.SERVE)


def rename_refused(upload: Upload) -> Upload:
    """The target cannot have it under its new path: it serves until another one does."""
    return replace(upload, phase=Phase.UNRENAMED, next_look_at=None, attempts=0, reason="")


def relabelled(upload: Upload, label: str, name: str) -> Upload:
    """The target knows it under its new path."""
    return replace(upload, label=label, name=name, next_look_at=None, attempts=0, reason="")
