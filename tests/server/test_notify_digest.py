"""What is told of a mirror, how often, and when again."""

from __future__ import annotations

import itertools

from kbsync.server.notify import EVERY, GATHER, NAMED, SELDOM, FailedDocument, Notice, PendingNotices
from kbsync.state.mirrors import Halt

ALL = ("halted", "recovered", "quarantined")
QUOTA = Halt("quota", "no money", "kbsync retry")
EPOCH = 1_000_000.0
MISSING = Halt("folder-missing", "not there", "kbsync approve")


def told(digest: PendingNotices, now: float, *, well: bool = True, on: tuple[str, ...] = ALL) -> list[Notice]:
    """What is due, told."""
    due = list(digest.due(now, on))  # type: ignore[arg-type]
    for notice in due:
        digest.told(notice, now, well=well)
    return due


def fail(digest: PendingNotices, count: int, now: float) -> None:
    for number in range(count):
        digest.failed("a", FailedDocument(f"{number}.md", "no text"), "kbsync retry", now, EPOCH + now)


def test_a_halt_is_told_once_and_its_end_too() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", QUOTA, EPOCH)
    [notice] = told(digest, 0.0)
    assert (notice.event, notice.halt.reason, notice.halt.cure) == ("halted", "quota", "kbsync retry")
    digest.halt_seen("a", QUOTA, EPOCH)
    assert told(digest, EVERY) == []
    digest.halt_seen("a", None, EPOCH)
    [notice] = told(digest, 2 * EVERY)
    assert (notice.event, notice.halt.reason) == ("recovered", "quota")


def test_a_notice_has_the_time_of_what_happened_and_not_of_its_telling() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", QUOTA, EPOCH)
    digest.halt_seen("a", Halt("quota", "still no money", ""), EPOCH + 2)
    [halted] = told(digest, 4.0)
    digest.halt_seen("a", None, EPOCH + 10)
    digest.halt_seen("a", None, EPOCH + 12)
    assert told(digest, 20.0) == []
    [recovered] = told(digest, EVERY + 4)
    assert (halted.at, recovered.at) == (EPOCH, EPOCH + 10)
    fail(digest, 1, 100.0)
    fail(digest, 1, 102.0)
    assert [one.at for one in told(digest, 100.0 + GATHER)] == [EPOCH + 102]


def test_a_recovery_tells_no_cure_for_what_is_over() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", MISSING, EPOCH)
    told(digest, 0.0)
    digest.halt_seen("a", None, EPOCH)
    [notice] = told(digest, EVERY)
    assert notice.to_json()["text"] == "a: works again (folder-missing is over)"
    body = notice.to_json()
    assert (body["reason"], body["detail"], body["cure"]) == ("folder-missing", "", "")


def test_a_mirror_that_is_well_from_the_start_is_not_told_of() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", None, EPOCH)
    assert told(digest, 0.0) == []


def test_flapping_is_told_once_a_minute_with_the_last_word() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", QUOTA, EPOCH)
    told(digest, 0.0)
    for second in range(1, int(EVERY)):
        digest.halt_seen("a", None if second % 2 else MISSING, EPOCH)
        assert told(digest, float(second)) == []
    digest.halt_seen("a", MISSING, EPOCH)
    assert [notice.halt.reason for notice in told(digest, EVERY)] == ["folder-missing"]


def test_a_halt_that_came_back_as_it_was_told_is_no_news() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", QUOTA, EPOCH)
    told(digest, 0.0)
    digest.halt_seen("a", None, EPOCH)
    digest.halt_seen("a", Halt("quota", "still no money", ""), EPOCH)
    assert told(digest, EVERY) == []


def test_many_failures_are_one_notice_that_names_the_first() -> None:
    digest = PendingNotices()
    fail(digest, NAMED + 5, 0.0)
    assert told(digest, GATHER - 0.1) == []
    [notice] = told(digest, GATHER)
    assert (notice.count, len(notice.documents)) == (NAMED + 5, NAMED)
    assert "25 documents failed, first 0.md: no text; cure: kbsync retry" in notice.to_json()["text"]
    fail(digest, 1, GATHER + 1)
    assert told(digest, EVERY) == []
    assert [one.count for one in told(digest, GATHER + EVERY)] == [1]


def test_what_failed_while_a_notice_was_on_its_way_is_in_the_next() -> None:
    digest = PendingNotices()
    fail(digest, NAMED, 0.0)
    [notice] = digest.due(GATHER, ALL)  # type: ignore[arg-type]
    fail(digest, 2, GATHER)
    digest.told(notice, GATHER, well=True)
    [later] = told(digest, GATHER + EVERY)
    assert later.count == 2
    assert later.to_json()["text"] == "a: 2 documents failed; cure: kbsync retry"


def test_what_nobody_took_is_told_again_ever_later() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", QUOTA, EPOCH)
    tries, now = [], 0.0
    while now < 6 * SELDOM:
        if told(digest, now, well=False):
            tries.append(now)
        now += 1.0
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses[0] == 2 * EVERY
    assert pauses == sorted(pauses)
    assert pauses[-1] == SELDOM
    assert [one.event for one in told(digest, now + SELDOM)] == ["halted"]


def test_only_what_was_asked_for_is_told() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", QUOTA, EPOCH)
    fail(digest, 1, 0.0)
    assert [one.event for one in told(digest, GATHER, on=("quarantined",))] == ["quarantined"]


def test_mirrors_that_left_are_told_of_no_more() -> None:
    digest = PendingNotices()
    digest.halt_seen("a", QUOTA, EPOCH)
    digest.halt_seen("b", QUOTA, EPOCH)
    digest.keep_only(["b"])
    assert [one.mirror for one in told(digest, 0.0)] == ["b"]
