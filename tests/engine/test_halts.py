"""Tests what halts a mirror, what proves that the cause is gone, and what only pauses the work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kbsync.contract.target import Accepted, PutOutcome
from kbsync.core.model import Upload, UploadState
from kbsync.engine.halts import BASE_MISSING, BLAME_LIMIT, HaltState, Work
from kbsync.engine.journal import DocumentEvent
from kbsync.engine.status import TARGET_STUCK
from kbsync.errors import DocumentBusy, Halted, Rejected, TargetBusy, Unavailable, Unsure


def row(path: str) -> Upload:
    return Upload(1, 1, 1, path, path, path, "d", 1, "r", UploadState.SENDING)


Event = Callable[[HaltState], object]

READY = [DocumentEvent("document.ready", row("f0.md"))]
DELETED = [DocumentEvent("document.deleted", row("f0.md"))]


def stop(reason: str = "quota") -> Event:
    return lambda state: state.stop(Halted(reason, "no"))


def full(state: HaltState) -> None:
    state.awaited = "quota"
    state.stop(Halted("quota", "no room"))


EVENTS: dict[str, Event] = {
    "stop": stop(),
    "stop-stuck": stop(TARGET_STUCK),
    "stop-missing": stop(BASE_MISSING),
    "full": full,
    "try": HaltState.try_again,
    "release": HaltState.release,
    "accepted": HaltState.record_acceptance,
    "ready": lambda state: state.record_progress(READY),
    "deleted": lambda state: state.record_progress(DELETED),
    "idle": HaltState.prove,
    "down": lambda state: state.record_errors([Unavailable("busy")], 1, 0.0),
    "up": lambda state: state.record_errors([], 1, 0.0),
}


@pytest.mark.parametrize(
    ("events", "work"),
    [
        ("", Work.FREE),
        ("accepted ready idle try deleted down up", Work.FREE),
        ("stop", Work.HALTED),
        ("stop accepted ready idle deleted down up stop", Work.HALTED),
        ("stop release", Work.FREE),
        ("stop try", Work.TRYING),
        ("stop try try", Work.TRYING),
        ("stop try deleted down up", Work.TRYING),
        ("stop try accepted", Work.FREE),
        ("stop try ready", Work.FREE),
        ("stop try idle", Work.FREE),
        ("stop try stop", Work.HALTED),
        ("stop try accepted stop", Work.HALTED),
        ("stop try release", Work.FREE),
        ("stop-missing try", Work.FREE),
        ("full try accepted", Work.TRYING),
        ("full release stop try accepted", Work.TRYING),
        ("full try ready", Work.FREE),
        ("full try ready stop try accepted", Work.FREE),
        ("stop-stuck try accepted", Work.TRYING),
        ("stop-stuck try stop try accepted", Work.TRYING),
        ("stop-stuck try stop try ready", Work.FREE),
        ("stop-stuck try ready stop try accepted", Work.FREE),
        ("stop-stuck try idle", Work.FREE),
        ("stop-stuck release stop try accepted", Work.FREE),
    ],
)
def test_worker_states(events: str, work: Work) -> None:
    state = HaltState()
    for event in events.split():
        EVENTS[event](state)
    assert state.work is work
    assert (state.halted is not None) == (work is Work.HALTED)


# -- whether the target or a document is at fault --------------------------------------------------------


def refused(count: int, code: str = "7", start: int = 0) -> list[tuple[Upload, PutOutcome]]:
    return [(row(f"f{start + i}"), Rejected("no", code=code)) for i in range(count)]


def test_refusal_count_restarts_after_a_success_another_code_or_the_same_document() -> None:
    accepted = (row("x"), Accepted("id"))
    assert HaltState().blame([*refused(4), accepted, *refused(4, start=9)]) is None
    assert HaltState().blame([*refused(4, "7"), *refused(4, "8")]) is None
    assert HaltState().blame([refused(1)[0]] * 20) is None


def test_one_more_refusal_after_a_refusal_halt_is_enough() -> None:
    state = HaltState()
    blame = state.blame(refused(BLAME_LIMIT))
    assert blame is not None
    state.stop(blame)
    state.try_again()
    assert state.blame(refused(1, start=9)) is not None
    state.release()
    assert state.blame(refused(BLAME_LIMIT - 1)) is None


def test_retry_delays_grow_and_respect_retry_after() -> None:
    state = HaltState()
    state.record_errors([Unavailable("busy")], 1, now=100.0)
    assert 100.0 < state.not_before < 101.0
    state.record_errors([Unsure("reset")], 1, now=140.0)
    assert state.not_before >= 160.0
    state.record_errors([Unavailable("busy", retry_after=90.0)], 1, now=150.0)
    assert state.not_before == 240.0
    assert state.is_down_for(50.0, now=150.0) and not state.is_down_for(51.0, now=150.0)
    state.record_errors([Unavailable("busy")], 2, now=250.0)
    assert not state.is_down_for(0.0, now=250.0)


def test_waiting_for_a_busy_target_ends_but_is_no_outage() -> None:
    state = HaltState()
    state.record_errors([TargetBusy("deleting", retry_after=3.0)], 1, now=100.0)
    assert state.is_down_for(50.0, now=150.0) and state.is_busy
    assert state.not_before == 103.0
    state.record_errors([TargetBusy("deleting"), Unavailable("502")], 2, now=110.0)
    assert not state.is_busy


def test_target_is_not_down_while_it_works_on_a_document() -> None:
    """Other documents aren't delayed, and no outage is reported."""
    state = HaltState()
    state.record_errors([DocumentBusy("still being indexed")], 1, now=100.0)
    assert not state.is_down_for(0.0, now=100.0)
    assert state.not_before == 0.0
    state.record_errors([DocumentBusy("still being indexed"), Unavailable("502")], 2, now=100.0)
    assert not state.is_down_for(0.0, now=100.0)
