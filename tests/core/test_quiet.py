from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.core.model import Stamp
from kbsync.core.quiet import QuietFile, Settling, is_old_enough
from tests.growth import assert_linear

SETTLE = 2.0
LONGEST = 60.0


def stamp(number: int, size: int = 10) -> Stamp:
    return Stamp(size, number, number, 1)


def paths(settling: Settling, now: float) -> list[str]:
    return [due.path for due in settling.due(now)]


def settling() -> Settling:
    return Settling(SETTLE, LONGEST)


def test_a_path_is_due_one_settle_after_the_first_look() -> None:
    s = settling()
    s.touch("a", stamp(1), 100.0)
    assert s.due(101.999) == []
    assert s.due(102.0) == [QuietFile("a", stamp(1), forced=False)]


def test_another_stamp_restarts_the_quiet_time_and_an_equal_one_does_not() -> None:
    s = settling()
    s.touch("changed", stamp(1), 0.0)
    s.touch("same", stamp(1), 0.0)
    s.touch("changed", stamp(2), 1.5)
    s.touch("same", stamp(1), 1.5)
    assert paths(s, 2.0) == ["same"]
    assert s.due(3.5) == [QuietFile("changed", stamp(2), False), QuietFile("same", stamp(1), False)]


def test_a_path_that_is_never_quiet_is_forced_at_the_longest_wait() -> None:
    s = settling()
    for second in range(61):
        s.touch("log", stamp(second), float(second))
        assert (s.due(float(second)) == []) is (second < 60)
    assert s.due(60.0) == [QuietFile("log", stamp(60), forced=True)]


def test_an_empty_file_needs_three_times_the_quiet() -> None:
    s = settling()
    s.touch("empty", stamp(1, size=0), 0.0)
    assert paths(s, 5.9) == []
    assert paths(s, 6.0) == ["empty"]


def test_of_due_paths_the_longest_tracked_come_first() -> None:
    s = settling()
    s.touch("empty", stamp(1, size=0), 0.0)  # due at 6
    s.touch("late", stamp(1), 3.5)  # due at 5.5
    s.touch("early", stamp(1), 1.0)  # due at 3
    s.touch("early", stamp(2), 2.0)  # due at 4
    assert paths(s, 5.0) == ["early"]
    assert paths(s, 100.0) == ["empty", "late", "early"]
    assert [due.path for due in s.due(100.0, limit=2)] == ["empty", "late"]


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
def test_only_an_age_that_can_be_believed_is_a_shortcut(subject: Stamp, old_enough: bool) -> None:
    assert is_old_enough(subject, NOW, SETTLE) is old_enough


def test_a_future_stamp_is_not_old_enough_even_without_a_settle() -> None:
    assert not is_old_enough(aged(-5), NOW, 0.0)
    assert is_old_enough(aged(0), NOW, 0.0)


class Naive:
    """The promise itself, looked through anew at each question."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Stamp, float, float]] = {}

    def touch(self, path: str, found: Stamp, now: float) -> None:
        old, since, changed = self.rows.get(path, (found, now, now))
        self.rows[path] = (found, since, changed if old == found else now)

    def times(self, path: str) -> tuple[float, float]:
        found, since, changed = self.rows[path]
        quiet = changed + (3 if found.size == 0 else 1) * SETTLE
        return quiet, min(quiet, since + LONGEST)

    def due(self, now: float) -> list[tuple[float, str, bool]]:
        rows = [(self.times(path)[1], path, now < self.times(path)[0]) for path in self.rows]
        return sorted(row for row in rows if row[0] <= now)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["touch", "touch", "touch", "forget", "restart", "due"]),
        st.sampled_from("abcde"),
        st.integers(0, 2),  # size
        st.integers(0, 2),  # mtime
        st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, 31.0]),  # seconds that pass before
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_it_answers_as_promised(
    steps: list[tuple[str, str, int, int, float]],
) -> None:
    real, naive, now = settling(), Naive(), 0.0
    for step, path, size, mtime, passed in steps:
        now += passed
        found = Stamp(size, mtime, 0, 1)
        if step == "touch":
            real.touch(path, found, now)
            naive.touch(path, found, now)
        elif step == "forget":
            real.forget(path)
            naive.rows.pop(path, None)
        elif step == "restart" and path in naive.rows:
            real.restart(path, now)
            naive.rows[path] = (naive.rows[path][0], now, now)
        elif step == "due":
            assert_same(real, naive, now)
    assert_same(real, naive, now)


def assert_same(real: Settling, naive: Naive, now: float) -> None:
    expected = naive.due(now)
    answer = real.due(now)
    assert sorted((naive.times(due.path)[1], due.path, due.forced) for due in answer) == expected
    assert all(due.stamp == naive.rows[due.path][0] for due in answer)
    assert real.next_due() == min((naive.times(path)[1] for path in naive.rows), default=None)
    assert len(real) == len(naive.rows)


def test_many_paths_cost_no_quadratic_work() -> None:
    def follow(count: int) -> None:
        s = settling()
        for number in range(count):
            s.touch(f"p{number}", stamp(1), number * 1e-5)
        for number in range(count):
            s.touch(f"p{number}", stamp(2), 1.0 + number * 1e-5)
            if number % 256 == 0:  # asked once a page, as by the reconciler
                s.next_due()
        done = 0
        while batch := s.due(10.0, limit=256):
            s.next_due()
            done += len(batch)
            for due in batch:
                s.forget(due.path)
        assert done == count

    assert_linear(follow, 1_000)
