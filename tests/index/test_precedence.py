"""Tests that searches go before indexing, and don't stop it."""

from __future__ import annotations

import threading

import pytest

from kbsync.errors import TargetError
from kbsync.index.document import Cut, Entry, Flavour, Parsed
from kbsync.index.pipeline import cut_here
from kbsync.threads import LONG_SEARCH, Precedence
from tests.clocks import Clock
from tests.share import long
from tests.targets.bodies import BytesBody

LONG = 60.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def precedence(clock: Clock) -> Precedence:
    return Precedence(clock, LONG)


def start_step(precedence: Precedence) -> threading.Thread:
    """Return a thread that makes one step of indexing."""
    thread = threading.Thread(target=precedence.wait, daemon=True)
    thread.start()
    thread.join(0.1)
    return thread


def test_without_a_search_no_step_waits(precedence: Precedence) -> None:
    assert list(precedence.pace([1, 2])) == [1, 2]
    with precedence.search():
        pass
    assert list(precedence.pace([3])) == [3]


@long
def test_a_step_waits_until_the_last_search_has_ended(precedence: Precedence) -> None:
    with precedence.search():
        with precedence.search():
            thread = start_step(precedence)
            assert thread.is_alive()
        thread.join(0.1)
        assert thread.is_alive()
    thread.join(LONG)


def test_a_search_that_fails_holds_up_nothing(precedence: Precedence) -> None:
    with pytest.raises(ValueError, match="no pattern"), precedence.search():
        raise ValueError("no pattern")
    precedence.wait()


def test_a_search_that_waits_for_a_service_holds_up_nothing(precedence: Precedence, clock: Clock) -> None:
    with precedence.search():
        clock.advance(LONG_SEARCH + 0.1)
        precedence.wait()


def test_a_thread_works_as_long_as_it_waited() -> None:
    """Even if a search follows another without a pause."""
    # From the start of the search to the end of the last wait; the first wait takes 0.4 s.
    times = iter((100.0, 100.0, 100.4, 100.7, 100.9, 101.0))
    precedence = Precedence(times.__next__, longest=0.0)
    turns = list[str]()

    def work() -> None:
        precedence.wait()
        precedence.longest = LONG
        precedence.wait()
        turns.append("worked")
        precedence.wait()
        turns.append("did not wait")

    with precedence.search():
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(0.1)
        assert turns == ["worked"] and thread.is_alive()


def test_documents_are_cut_after_the_search(precedence: Precedence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kbsync.index.pipeline.searches_first", precedence)
    entry = Entry(1, "a.md", "a.md", "", 5, "", 0.0)
    cuts = list[Cut | TargetError]()
    cut = cut_here(lambda _path, _body: Parsed("alpha", Flavour.PLAIN))
    thread = threading.Thread(target=lambda: cuts.extend(cut([(entry, BytesBody(b"alpha"))])), daemon=True)
    with precedence.search():
        thread.start()
        thread.join(0.1)
        assert cuts == [] and thread.is_alive()
    thread.join(LONG)
    assert len(cuts) == 1
