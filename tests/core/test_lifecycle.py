from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kbsync.contract.target import Limits
from kbsync.core import lifecycle
from kbsync.core.backoff import check_pause, pause
from kbsync.core.lifecycle import Timing
from kbsync.core.model import Purpose, Upload, UploadState
from tests.core.invariants import TRANSITIONS, breaches
from tests.share import long

S = UploadState
LAGGING, EXACT = Limits(list_lag=5.0), Limits(list_lag=0.0)


def timing(now: float, limits: Limits = LAGGING) -> Timing:
    return Timing(now, lambda: 0.5, limits, absent_after=15.0)


SENT = lifecycle.send(Upload(1, 1, 1, "a", "a", "a", "d", 1, "r", S.INTENDED, due_at=0.0), timing(0.0))


def test_attempt_is_counted_before_the_first_byte_is_sent() -> None:
    assert (SENT.state, SENT.attempts, SENT.sent_at) == (S.SENDING, 1, 0.0)


def test_absent_means_absent_only_after_two_lists_and_the_horizon() -> None:
    unsure = lifecycle.doubt(SENT, "reset", timing(0.0))
    now, lists = 0.0, 0
    while unsure.state is S.UNSURE:
        assert unsure.due_at is not None and unsure.due_at > now
        now, lists = unsure.due_at, lists + 1
        unsure = lifecycle.not_found(unsure, timing(now), now)
    assert unsure.state is S.PRESUMED_LOST
    assert now >= 15.0 and lists >= 2


def test_long_list_counts_as_of_its_start() -> None:
    unsure = lifecycle.doubt(SENT, "reset", timing(0.0))
    unsure = lifecycle.not_found(unsure, timing(2.0), 1.0)
    unsure = lifecycle.not_found(unsure, timing(30.0), 4.0)
    assert (unsure.state, unsure.elapsed) == (S.UNSURE, 4.0)
    assert unsure.due_at is not None and unsure.due_at > 30.0
    assert lifecycle.not_found(unsure, timing(50.0), 40.0).state is S.PRESUMED_LOST


def test_one_poll_decides_when_the_list_is_authoritative() -> None:
    unsure = lifecycle.doubt(SENT, "reset", timing(0.0, EXACT))
    assert lifecycle.not_found(unsure, timing(0.0, EXACT), 0.0).state is S.DROPPED


def test_clock_set_back_extends_the_horizon_and_never_ends_it() -> None:
    unsure = lifecycle.doubt(SENT, "reset", timing(1000.0))
    unsure = lifecycle.not_found(unsure, timing(1002.0), 1002.0)
    unsure = lifecycle.not_found(unsure, timing(10.0), 10.0)
    unsure = lifecycle.not_found(unsure, timing(20.0), 20.0)
    assert unsure.state is S.UNSURE and unsure.elapsed == 12.0


def test_unwanted_accepted_upload_is_retired() -> None:
    accepted = lifecycle.accept(lifecycle.unwant(SENT), "id", True, timing(1.0))
    assert (accepted.state, accepted.remote_id, accepted.purpose) == (S.RETIRING, "id", Purpose.RETIRE)


def test_document_remembers_that_it_served_while_retiring() -> None:
    serving = lifecycle.serve(replace(SENT, remote_id="id"))
    assert lifecycle.retire(serving, timing(0.0)).purpose is Purpose.SERVE
    indexing = replace(SENT, remote_id="id", state=S.INDEXING)
    assert lifecycle.retire(indexing, timing(0.0)).purpose is Purpose.RETIRE


def test_new_uploads_inherit_the_attempts() -> None:
    failing = replace(SENT, remote_id="id", state=S.INDEXING, repairs=2)
    fresh = lifecycle.retry_upload(failing, "no", timing(10.0))
    assert (fresh.id, fresh.remote_id, fresh.repairs, fresh.state) == (0, None, 3, S.INTENDED)


@long
@given(st.integers(0, 1000), st.floats(0, 1))
def test_retry_delays_grow_and_are_bounded(tries: int, chance: float) -> None:
    assert 0.5 <= pause(tries, lambda: chance) <= 300.0
    assert pause(tries + 1, lambda: 0.5) >= pause(tries, lambda: 0.5)
    assert check_pause(tries) <= 60.0


DELETED = lifecycle.mark_deleted(replace(SENT, state=S.RETIRING, remote_id="id"), timing(0.0))


def test_deletion_is_confirmed_by_a_list_within_a_day() -> None:
    assert DELETED.due_at == 86_400.0
    assert lifecycle.still_there(DELETED, timing(86_400.0)).state is S.RETIRING


def test_undeletable_document_is_deleted_three_times_and_then_checked_weekly() -> None:
    now, grave = 0.0, DELETED
    for _ in range(3):
        now += 90_000.0
        later = lifecycle.still_there(grave, timing(now))
        assert later.state is S.RETIRING
        grave = lifecycle.mark_deleted(later, timing(now))
    reappeared = lifecycle.still_there(grave, timing(now + 90_000.0))
    assert (reappeared.state, reappeared.due_at) == (S.TOMBSTONE, now + 90_000.0 + 7 * 86_400.0)


def test_document_that_vanished_while_indexing_is_ours_when_it_reappears() -> None:
    indexing = replace(SENT, state=S.INDEXING, remote_id="id", checked_at=0.0)
    once = lifecycle.mark_vanished(indexing, timing(20.0))
    vanished = lifecycle.mark_vanished(once, timing(60.0))
    assert (once.state, vanished.state) == (S.INDEXING, S.TOMBSTONE)
    assert lifecycle.still_there(vanished, timing(90_000.0)).state is S.RETIRING


def test_every_state_is_in_the_diagram_and_final_ones_are_only_deleted() -> None:
    assert all(TRANSITIONS[state] for state in S)
    assert {to for state in S if state.is_final for to in TRANSITIONS[state]} == {S.RETIRING}


def test_invariants_detect_violations() -> None:
    serving = replace(SENT, id=2, state=S.SERVING, remote_id="x")
    broken = [serving, replace(serving, id=3)], [SENT, replace(SENT, id=3)], [replace(SENT, state=S.RETIRING)]
    assert all(map(breaches, broken))
    assert breaches([replace(SENT, state=S.INDEXING, due_at=None)])
    assert not breaches([serving, replace(SENT, digest="other")])
