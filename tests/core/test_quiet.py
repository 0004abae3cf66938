from __future__ import annotations

import pytest

from kbsync.core.model import Stamp
from kbsync.core.quiet import Settling, is_old_enough
from tests.growth import assert_linear
from tests.share import long

SETTLE = 2.0
LONGEST = 60.0


def stamp(number: int, size: int = 10) -> Stamp:
    return Stamp(size, number, number, 1)


def paths(settling: Settling, now: float) -> list[str]:
    return [due.path for due in settling.due(now)]


def settling() -> Settling:
    return Settling(SETTLE, LONGEST)


def test_longest_tracked_due_paths_come_first() -> None:
    s = settling()
    s.touch("empty", stamp(1, size=0), 0.0)  # due at 6
    s.touch("late", stamp(1), 3.5)  # due at 5.5
    s.touch("early", stamp(1), 1.0)  # due at 3
    s.touch("early", stamp(2), 2.0)  # due at 4
    assert paths(s, 5.0) == ["early"]
    assert paths(s, 100.0) == ["empty", "late", "early"]
    assert [due.path for due in s.due(100.0, limit=2)] == ["empty", "late"]


def test_file_is_due_once_quiet_and_at_the_latest_after_the_longest_wait() -> None:
    s = settling()
    for second in range(61):
        s.touch("log", stamp(second), float(second))  # it never settles
        s.touch("same", stamp(1), float(second))  # checked again, unchanged
    assert paths(s, 59.0) == ["same"]
    assert [(due.path, due.is_quiet, due.is_overdue) for due in s.due(60.0)] == [
        ("same", True, True),
        ("log", False, True),
    ]
    s.restart("log", 60.0)
    s.forget("same")
    s.restart("same", 60.0)
    assert s.due(61.9) == [] and s.next_due() == 62.0 and s.paths() == ["log"]
    assert [(due.path, due.stamp, due.is_quiet) for due in s.due(62.0)] == [("log", stamp(60), True)]
    assert [due.is_overdue for due in s.due(119.9)] == [False]


def test_continuously_written_files_do_not_delay_a_quiet_one() -> None:
    s = settling()
    for second in range(62):
        for number in range(300):
            s.touch(f"log{number}", stamp(second), float(second))
    s.touch("saved", stamp(1), 61.0)
    assert paths(s, 63.0)[0] == "log0"
    for number in range(300):
        s.touch(f"log{number}", stamp(63), 63.0)
    assert next(due.path for due in s.due(63.5, limit=256)) == "saved"


NOW = 1_800_000_000.0


def aged(seconds: float, size: int = 10, ctime_age: float | None = None) -> Stamp:
    mtime = int((NOW - seconds) * 1e9)
    ctime = mtime if ctime_age is None else int((NOW - ctime_age) * 1e9)
    return Stamp(size, mtime, ctime, 1)


@pytest.mark.parametrize(
    ("subject", "old_enough"),
    [
        (aged(10), True),
        (aged(1.9), False),
        (aged(2.5), True),
        (aged(0), False),
        (aged(10, ctime_age=1), False),  # `cp -p`: an old mtime on a new file
        (aged(-70 * 365 * 86400), False),  # an mtime in 2099 or so
        (aged(-1, ctime_age=100), False),
        (aged(5, size=0), False),
        (aged(6.5, size=0), True),
    ],
)
def test_only_a_credible_age_shortens_the_wait(subject: Stamp, old_enough: bool) -> None:
    assert is_old_enough(subject, NOW, SETTLE) is old_enough


def test_future_mtime_is_not_old_enough_even_without_settle() -> None:
    assert not is_old_enough(aged(-5), NOW, 0.0)
    assert is_old_enough(aged(0), NOW, 0.0)


@long
def test_many_paths_take_no_quadratic_time() -> None:
    def follow(count: int) -> None:
        s = settling()
        for number in range(count):
            s.touch(f"p{number}", stamp(1), number * 1e-5)
        for number in range(count):
            s.touch(f"p{number}", stamp(2), 1.0 + number * 1e-5)
            if number % 256 == 0:  # once a page, like the reconciler
                s.next_due()
        done = 0
        while batch := s.due(10.0, limit=256):
            s.next_due()
            done += len(batch)
            for due in batch:
                s.forget(due.path)
        assert done == count

    assert_linear(follow, 1_000)
