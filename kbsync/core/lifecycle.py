"""The steps in the life of an upload.

docs/internals/architecture.md lists every step with its actor and reason, and tests check every saved row
against the list. Each function here changes only a row. `planner.decide` runs again after every step, and
finds the next step at the same path (a successor takes over, a new upload is needed). Times are in seconds
since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kbsync.core.backoff import MAX_PAUSE, check_pause, pause
from kbsync.core.fairness import rank_again
from kbsync.core.model import AWAITING, UNANSWERED, Phase, Purpose, Upload, UploadState, Waiting
from kbsync.dataclass import dataclass

PRESUMED_LOST_KEPT = 7 * 86400.0
LATER_CHECKS = (60.0, 600.0, 3600.0, 6 * 3600.0, 86400.0)
"""Seconds between checks for an abandoned upload: it may still appear, and must not stay as a duplicate."""

MAX_PAUSE_AFTER_LOSS = 900.0
"""Maximum number of seconds before a document is resent after a lost response."""

MAX_LOSSES = 8
"""Number of consecutive sends without a response after which a document fails (promise 9)."""

NOT_ANSWERED = "unanswered"
"""The failure code of a document if the responses to its uploads were lost."""

PATIENT_TRIES = 3
"""Number of attempts after which a document queues behind documents that were never tried."""

MAX_POLL_GAP = 60.0
"""Maximum number of seconds between polls; a longer pause doesn't count as indexing time."""

POLL_SHARE = 0.25
"""The pause before the next poll, as a fraction of the indexing time so far, so that kbsync polls slow
documents less often."""

CONFIRMED_AFTER = 86400.0
"""Seconds to wait after a deletion before listing the base to confirm it, unless the base is listed earlier
for another reason.
"""

UNDELETABLE_PAUSE = 7 * 86400.0
"""Seconds between checks of a document that still exists after several deletions."""

RETIRE_TRIES = 3
REJECTED_DELETE_PAUSE = 3600.0

MAX_LIST_LAG = 600.0
"""The longest list lag, in seconds, that kbsync assumes, even after observing a longer lag."""

MAX_PAUSES = {
    UploadState.INTENDED: MAX_PAUSE_AFTER_LOSS,
    UploadState.UNSURE: MAX_PAUSE_AFTER_LOSS,
    UploadState.PRESUMED_LOST: LATER_CHECKS[-1],
    UploadState.INDEXING: 2 * MAX_LIST_LAG,
    UploadState.SERVING: MAX_PAUSE,
    UploadState.RETIRING: REJECTED_DELETE_PAUSE,
    UploadState.TOMBSTONE: UNDELETABLE_PAUSE,
    UploadState.ADOPTING: REJECTED_DELETE_PAUSE,
}
"""The longest delay, in seconds, for each state in which a row can be due.

A due time further away than this was set while the clock was ahead.
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """The input of a step, in addition to the row: the time, randomness (0..1), and the target's limits.

    `lag` is the longest list lag observed so far. Together with `absent_after`, it determines the `horizon`.
    All three are in seconds.
    """

    now: float
    chance: Callable[[], float]
    limits: Waiting
    absent_after: float = 15.0
    lag: float = 0.0

    @property
    def lists_needed(self) -> int:
        """Return how many complete lists must omit a document before it counts as absent."""
        return 2 if self.limits.list_lag > 0 else 1

    @property
    def horizon(self) -> float:
        """Return how long, in seconds, lists may omit a document before it counts as absent."""
        if self.limits.list_lag <= 0:
            return 0.0
        # If this turns out to be too short, a resend costs one embedding and a copy that is deleted later.
        return max(self.absent_after, 2 * max(self.limits.list_lag, self.lag))


_NO_REMARKS: dict[str, Any] = {"reason": "", "code": "", "phase": Phase.PLAIN}
"""The columns that every successful step resets, with their initial values."""

_RESET_COUNTERS: dict[str, Any] = {"checks": 0, "absences": 0, "elapsed": 0.0}
"""Initial values of the columns that count checks, absences and waiting time."""


def send(upload: Upload, timing: Timing) -> Upload:
    """Move from INTENDED to SENDING, and count the attempt before the first byte is sent."""
    # Count a loss in advance, because a killed process can't count it later; any response resets the count.
    return replace(
        upload,
        state=UploadState.SENDING,
        attempts=upload.attempts + 1,
        losses=upload.losses + 1,
        sent_at=timing.now,
        due_at=None,
        **_NO_REMARKS,
    )


def accept(upload: Upload, remote_id: str, is_ready: bool, timing: Timing) -> Upload:
    """Record that the target accepted the document."""
    if is_ready and upload.purpose is Purpose.SERVE:
        return serve(upload, remote_id=remote_id, accepted_at=timing.now)
    accepted = replace(
        upload,
        remote_id=remote_id,
        accepted_at=timing.now,
        checked_at=timing.now,
        losses=0,
        **_RESET_COUNTERS,
        **_NO_REMARKS,
    )
    if upload.purpose is Purpose.RETIRE:
        return retire(accepted, timing)
    due_at = timing.now + timing.limits.poll_first
    return replace(accepted, state=UploadState.INDEXING, due_at=due_at)


def take_over(upload: Upload, timing: Timing) -> Upload:
    """Adopt a document that is proven to be ours.

    If the target lists it as searchable, it serves its path; otherwise, kbsync polls it.
    """
    if upload.state is not UploadState.ADOPTING or upload.is_listed_ready:
        return serve(upload)
    return poll(upload, timing)


def poll(upload: Upload, timing: Timing) -> Upload:
    """Poll an adopted document now. If it turns out to be searchable, it serves its path."""
    accepted = accept(upload, upload.remote_id or "", False, timing)
    return replace(accepted, due_at=timing.now)


def serve(upload: Upload, **changes: Any) -> Upload:
    """Record that the document is searchable and serves its path. `changes`: other columns to change."""
    return replace(
        upload,
        **changes,
        state=UploadState.SERVING,
        purpose=Purpose.SERVE,
        due_at=None,
        repairs=0,
        losses=0,
        checks=0,
        **_NO_REMARKS,
        wanted_recipe="",
    )


def reject(upload: Upload, reason: str, code: str) -> Upload:
    """Quarantine the document until the file is edited or the user runs `retry`, because the document itself
    caused the failure.
    """
    if upload.purpose is Purpose.RETIRE and upload.remote_id is None:
        return drop(upload)
    return replace(upload, state=UploadState.FAILED, reason=reason, code=code, due_at=None, phase=Phase.PLAIN)


def send_once_more(upload: Upload, reason: str, code: str, timing: Timing) -> Upload:
    """Retry after a refusal that may be temporary. After several attempts, reject the document."""
    if upload.purpose is Purpose.RETIRE or upload.repairs >= timing.limits.reembed_tries:
        return reject(upload, reason, code)
    tries = upload.repairs + 1
    intent = put_off(upload, reason, pause(tries, timing.chance), timing)
    return replace(intent, repairs=tries)


def put_off(upload: Upload, reason: str, wait: float | None, timing: Timing) -> Upload:
    """Return to INTENDED after a pause, because nothing was stored and the document isn't to blame."""
    if upload.purpose is Purpose.RETIRE:
        return drop(upload)  # no longer wanted, and the target has nothing
    upload = mark_answered(upload)
    seconds = pause(upload.attempts, timing.chance) if wait is None else wait
    rank = upload.rank if upload.attempts < PATIENT_TRIES else rank_again(upload.rank)
    due_at = timing.now + seconds
    return replace(upload, state=UploadState.INTENDED, reason=reason, due_at=due_at, rank=rank)


def refund(upload: Upload, reason: str, timing: Timing, wait: float = 0.0) -> Upload:
    """Postpone the upload for `wait` seconds without counting this attempt, because the document isn't at
    fault.
    """
    spent = replace(upload, attempts=max(0, upload.attempts - 1), sent_at=None)
    return put_off(spent, reason, wait, timing)


def mark_answered(upload: Upload) -> Upload:
    """Undo the lost response that `send` counted in advance, because the target did respond or the document
    isn't to blame.
    """
    if upload.state is not UploadState.SENDING:
        return upload
    return replace(upload, losses=max(0, upload.losses - 1))


def doubt(upload: Upload, reason: str, timing: Timing, *, spent: bool = True) -> Upload:
    """Mark the upload as unsure because the response was lost. kbsync then searches the target before it
    sends the document again.

    `spent`: whether to count the attempt, because the document may be to blame.
    """
    upload = upload if spent else mark_answered(upload)
    wait = check_pause(0) if timing.limits.list_lag > 0 else 0.0
    return replace(
        upload,
        state=UploadState.UNSURE,
        reason=reason,
        **_RESET_COUNTERS,
        # If the clock was set back, the document must not seem older than its request.
        sent_at=timing.now if upload.sent_at is None else min(upload.sent_at, timing.now),
        checked_at=timing.now,
        due_at=timing.now + wait,
    )


def not_found(upload: Upload, timing: Timing, started_at: float) -> Upload:
    """Record that a complete list lacks an unconfirmed upload.

    Once lists have lacked the upload for long enough, it counts as absent (promise 3).
    """
    # Reading a list can take minutes, and its first page reflects the knowledge base as of `started_at`.
    checked = _add_elapsed(upload, replace(timing, now=min(started_at, timing.now)))
    checked = replace(checked, checks=checked.checks + 1, absences=checked.absences + 1)
    if checked.absences >= timing.lists_needed and checked.elapsed >= timing.horizon:
        if timing.limits.list_lag == 0:
            return drop(checked)
        due_at = timing.now + LATER_CHECKS[0]
        return replace(checked, state=UploadState.PRESUMED_LOST, checks=0, elapsed=0.0, due_at=due_at)
    remaining, wait = timing.horizon - checked.elapsed, check_pause(checked.checks)
    if remaining > 0:
        wait = min(wait, max(remaining, 1.0))
    return replace(checked, due_at=timing.now + wait)


def _add_elapsed(upload: Upload, timing: Timing) -> Upload:
    """Add the time since the last check to `elapsed`. If the clock was set back, add nothing."""
    # If the clock was set back, shift `sent_at` too, so that it can still be compared with the target's
    # times.
    elapsed = timing.now - (upload.checked_at if upload.checked_at is not None else timing.now)
    sent_at = None if upload.sent_at is None else upload.sent_at + min(0.0, elapsed)
    return replace(upload, elapsed=upload.elapsed + max(0.0, elapsed), checked_at=timing.now, sent_at=sent_at)


def _add_watched_time(upload: Upload, timing: Timing) -> Upload:
    """Add the time since the last check, like `_add_elapsed`, but only if it isn't longer than the time
    between regular polls.
    """
    # This way, the target gets its full time even if this machine slept, the mirror halted or the clock was
    # set forward.
    longest = upload.elapsed + max(MAX_POLL_GAP, 2 * timing.limits.poll_longest)
    aged = _add_elapsed(upload, timing)
    return replace(aged, elapsed=min(aged.elapsed, longest))


def still_lost(upload: Upload, timing: Timing) -> Upload:
    """Schedule the next check of a lost upload, because a later list may still contain it.

    The checks become less frequent and end after a week.
    """
    if upload.due_at is not None and timing.now < upload.due_at:
        return upload  # the list was read for other uploads, before this one was due
    aged = _add_elapsed(upload, timing)
    if aged.elapsed >= PRESUMED_LOST_KEPT:
        return drop(aged)
    wait = LATER_CHECKS[min(aged.checks + 1, len(LATER_CHECKS) - 1)]
    return replace(aged, checks=aged.checks + 1, due_at=timing.now + wait)


def send_after_loss(fresh: Upload, lost: Upload, timing: Timing) -> Upload:
    """Create a new intent to replace an upload that kbsync gave up on.

    The number of tries carries over, and the pauses grow. After `MAX_LOSSES` in a row, the upload fails
    instead, until the file is edited or the user runs `retry`.
    """
    if lost.losses >= MAX_LOSSES:
        reason = (
            f"sent {lost.losses} times without a response ({lost.reason}); check the service, the limits "
            "of any proxy in front of it and kbsync's log, then run kbsync retry"
        )
        return reject(replace(fresh, attempts=lost.attempts, repairs=lost.repairs), reason, NOT_ANSWERED)
    wait = pause(lost.attempts, timing.chance, longest=MAX_PAUSE_AFTER_LOSS)
    return replace(
        fresh,
        attempts=lost.attempts,
        repairs=lost.repairs,
        losses=lost.losses,
        reason=lost.reason,
        due_at=timing.now + wait,
        rank=rank_again(fresh.rank),
    )


def lag_seen(upload: Upload) -> float:
    """Return how long, in seconds, lists omitted a document that was sent and has now appeared."""
    if upload.sent_at is None or upload.checked_at is None or not (upload.absences or upload.checks):
        return 0.0
    return max(0.0, upload.checked_at - upload.sent_at)


def wait_on(
    upload: Upload,
    timing: Timing,
    *,
    is_working: bool = False,
    is_queued: bool = False,
    least: float = 0.0,
    reason: str = "",
) -> Upload:
    """Record that the document is still being indexed, and poll it again later, at increasing intervals.

    `is_working`: whether the target itself reports this. `is_queued`: whether the target is indexing other
    documents first, in which case this document's clock restarts. `least`: the minimum pause in seconds.
    `reason`: replaces the stored reason unless it is empty.
    """
    aged = _add_watched_time(upload, timing)
    if is_queued:
        aged = replace(aged, elapsed=min(aged.elapsed, timing.limits.poll_longest / POLL_SHARE))
    limits = timing.limits
    wait = max(least, min(limits.poll_longest, max(limits.poll_first, POLL_SHARE * aged.elapsed)))
    # A failure that the target reports after this is a new one.
    is_answered = is_working and aged.phase is Phase.ASKED_AGAIN
    phase = Phase.PLAIN if is_answered else aged.phase
    polled = replace(aged, checks=aged.checks + 1, absences=0, due_at=timing.now + wait, phase=phase)
    return replace(polled, reason=reason) if reason else polled


def may_be_hurried(upload: Upload) -> bool:
    """Return whether it may help to poll early, because the target is working on the document."""
    return upload.state is UploadState.INDEXING and upload.phase not in (*AWAITING, Phase.TO_CUT)


def hurry(upload: Upload, timing: Timing) -> Upload:
    """Poll soon, because a change is likely."""
    # Keep at least `poll_first` between polls, however often a service calls back.
    since = timing.now if upload.checked_at is None else upload.checked_at
    soon = max(timing.now, min(since, timing.now) + timing.limits.poll_first)
    due_at = soon if upload.due_at is None else min(upload.due_at, soon)
    return replace(upload, due_at=due_at)


def may_be_stale(upload: Upload, timing: Timing) -> bool:
    """Return whether a failure that the target reports could be older than the last reindex request."""
    return (
        upload.phase is Phase.ASKED_AGAIN
        and _add_elapsed(upload, timing).elapsed < timing.limits.reembed_grace
    )


def is_overdue(upload: Upload, timing: Timing, *, times: float = 1.0) -> bool:
    """Return whether indexing has taken longer than the target's limit multiplied by `times`."""
    return _add_watched_time(upload, timing).elapsed >= times * timing.limits.give_up


def repair(
    upload: Upload, reason: str, timing: Timing, *, spent: bool = True, first_pause: float = 0.0
) -> Upload:
    """Record that indexing failed and that kbsync asked the target to reindex the document.

    `spent`: whether to count the attempt, because the document was to blame. `first_pause`: in seconds, if a
    rate limit or an unreachable model is to blame.
    """
    tries = upload.repairs + 1 if spent else upload.repairs
    wait = _pause_after_failure(max(1, tries), first_pause, timing)
    return replace(
        upload,
        repairs=tries,
        reason=reason,
        phase=Phase.ASKED_AGAIN,
        checks=0,
        elapsed=0.0,
        checked_at=timing.now,
        due_at=timing.now + wait,
    )


def _pause_after_failure(tries: int, first_pause: float, timing: Timing) -> float:
    if not first_pause:
        return pause(tries, timing.chance)
    # Four tries must take less than the 60 s for which `--once` may pause.
    return pause(tries, timing.chance, first=first_pause, longest=4 * first_pause)


def forgive(upload: Upload) -> Upload:
    """Reset the failure counts, because the user says that the cause has been fixed."""
    return replace(upload, repairs=0, losses=1 if upload.state in UNANSWERED else 0)


def await_target(upload: Upload, halt: str, reason: str, timing: Timing) -> Upload:
    """Try again once the target can index documents. This doesn't count as an attempt.

    `halt`: the contract's reason why it can't, one of `AWAITING`.
    """
    return replace(upload, reason=reason, phase=Phase(halt), due_at=timing.now)


def reslice(upload: Upload, timing: Timing) -> Upload:
    """Move from FAILED to INDEXING, because the target is splitting the document again.

    The document's bytes stay the same.
    """
    return replace(
        upload,
        state=UploadState.INDEXING,
        purpose=Purpose.SERVE,
        repairs=0,
        **_RESET_COUNTERS,
        checked_at=timing.now,
        due_at=timing.now,
        reason="",
        code="",
        phase=Phase.TO_CUT,
    )


def rename_intent(upload: Upload, name: str, reason: str, timing: Timing) -> Upload:
    """Return to INTENDED under a different name, because the target already has a document with this name."""
    return replace(
        mark_answered(upload),
        state=UploadState.INTENDED,
        name=name,
        reason=reason,
        names_tried=upload.names_tried + 1,
        due_at=timing.now,
    )


def retry_upload(
    upload: Upload, reason: str, timing: Timing, *, spent: bool = True, first_pause: float = 0.0
) -> Upload:
    """Create a new intent to replace an upload that couldn't be indexed. The number of tries carries over.

    `spent` and `first_pause`: see `repair`.
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
        **_RESET_COUNTERS,
        created_at=timing.now,
        sent_at=None,
        accepted_at=None,
        checked_at=None,
        due_at=timing.now + _pause_after_failure(tries, first_pause, timing),
        rank=rank_again(upload.rank),
        reason=reason,
        code="",
        phase=Phase.PLAIN,
    )


def mark_vanished(upload: Upload, timing: Timing) -> Upload:
    """Record that a document vanished while it was being indexed. Two checks didn't find it, with enough time
    between them to rule out a lagging list.
    """
    checked = _add_elapsed(upload, timing)
    checked = replace(checked, absences=checked.absences + 1, checks=checked.checks + 1)
    if checked.absences >= timing.lists_needed and checked.elapsed >= timing.horizon:
        return mark_deleted(checked, timing)  # if the document reappears, kbsync deletes it as its own
    return replace(checked, due_at=timing.now + max(timing.horizon, check_pause(checked.checks)))


def retire(upload: Upload, timing: Timing) -> Upload:
    """Mark the document for deletion, before sending any request. If the upload never created a document,
    drop it.
    """
    if upload.remote_id is None:
        return drop(upload)
    # A document that served can serve again until the request is sent (`planner._can_return`).
    purpose = Purpose.SERVE if upload.state.serves else Purpose.RETIRE
    return replace(
        upload,
        state=UploadState.RETIRING,
        purpose=purpose,
        attempts=0,
        repairs=0,
        reappeared=0,
        postponed=0,
        due_at=timing.now,
        **_NO_REMARKS,
    )


def begin_delete(upload: Upload) -> Upload:
    """Count the attempt before sending the request. From now on, the deletion can't be canceled."""
    return replace(upload, attempts=upload.attempts + 1)


def mark_deleted(upload: Upload, timing: Timing) -> Upload:
    """Record that the document was deleted.

    If lists lag, keep a tombstone until a list confirms the deletion.
    """
    if timing.limits.list_lag == 0:
        return mark_gone(upload, timing)
    due_at = timing.now + max(CONFIRMED_AFTER, timing.horizon)
    return replace(upload, state=UploadState.TOMBSTONE, checked_at=timing.now, due_at=due_at)


def still_there(upload: Upload, timing: Timing) -> Upload:
    """Delete the document again, because a list that can no longer be lagging still contains it.

    Give up after a few attempts.
    """
    # Lists lag, so a list that started soon after the delete proves nothing.
    deleted_at = timing.now if upload.checked_at is None else min(upload.checked_at, timing.now)
    if timing.now - deleted_at < timing.horizon:
        due_at = deleted_at + timing.horizon
        is_later = upload.due_at is not None and upload.due_at >= due_at
        return upload if is_later else replace(upload, checked_at=deleted_at, due_at=due_at)
    if upload.reappeared >= RETIRE_TRIES:
        return replace(upload, due_at=timing.now + UNDELETABLE_PAUSE)
    return replace(retire(upload, timing), reappeared=upload.reappeared + 1)


def delete_refused(upload: Upload, reason: str, code: str, timing: Timing) -> Upload:
    """Schedule another attempt at a refused delete, and keep the reason for the user.

    The first few retries come soon, later ones at long intervals.
    """
    rare = upload.attempts >= RETIRE_TRIES
    wait = REJECTED_DELETE_PAUSE if rare else pause(upload.attempts, timing.chance)
    return replace(upload, reason=reason, code=code, due_at=timing.now + wait)


def delete_put_off(upload: Upload, reason: str, wait: float | None, timing: Timing) -> Upload:
    """Record that the outcome of the delete is unknown. Repeating it is safe."""
    seconds = pause(upload.attempts, timing.chance) if wait is None else wait
    return replace(upload, reason=reason, due_at=timing.now + seconds)


def await_successor(upload: Upload, timing: Timing) -> Upload:
    """Postpone the delete until another document serves the path or fails."""
    return replace(upload, due_at=timing.now + timing.limits.poll_first)


def await_same_text(upload: Upload, timing: Timing) -> Upload:
    """Postpone the delete while an upload of the same text is in progress.

    When that upload ends, the delete becomes due.
    """
    return replace(upload, due_at=timing.now + MAX_PAUSE)


def await_file(upload: Upload, timing: Timing) -> Upload:
    """Postpone the delete until a check shows whether the file is back, which may take a long time."""
    postponed = upload.postponed + 1
    wait = pause(postponed, timing.chance)
    return replace(upload, postponed=postponed, due_at=timing.now + wait)


def awaits_file(upload: Upload) -> bool:
    """Return whether `await_file` has postponed the deletion of the document."""
    return upload.state is UploadState.RETIRING and upload.postponed > 0


def delete_after_all(upload: Upload, timing: Timing) -> Upload:
    """Make the delete due, even if the file comes back, because another document now serves the path."""
    return replace(upload, postponed=0, due_at=timing.now)


def drop(upload: Upload) -> Upload:
    """Drop the upload, because it never reached the target or no longer exists there."""
    return replace(upload, state=UploadState.DROPPED, due_at=None)


def mark_gone(upload: Upload, timing: Timing) -> Upload:
    """Record that the document no longer exists."""
    return replace(upload, state=UploadState.GONE, checked_at=timing.now, due_at=None)


def poll_again(upload: Upload, timing: Timing) -> Upload:
    """Poll a serving document again, because it may have been deleted.

    If the document still exists, it isn't reported as a new upload.
    """
    changes: dict[str, Any] = {"checked_at": timing.now, "due_at": timing.now, **_RESET_COUNTERS}
    return replace(upload, state=UploadState.INDEXING, sent_at=None, **changes)


def hold(upload: Upload) -> Upload:
    """Hold the deletion of the document until the user decides.

    Until then, the document keeps serving its path.
    """
    return replace(upload, state=UploadState.HELD, due_at=None)


def unwant(upload: Upload) -> Upload:
    """Retire the upload once its outcome is known."""
    return replace(upload, purpose=Purpose.RETIRE)


def want(upload: Upload) -> Upload:
    """Record that the upload is wanted again."""
    return replace(upload, purpose=Purpose.SERVE)


def rename_refused(upload: Upload) -> Upload:
    """Let the document serve its path until another document replaces it, because the target can't rename
    this one.
    """
    return replace(upload, phase=Phase.UNRENAMED, due_at=None, attempts=0, reason="")


def relabel(upload: Upload, label: str, name: str) -> Upload:
    """Record that the target has the document under its new path."""
    return replace(upload, label=label, name=name, due_at=None, attempts=0, reason="")
