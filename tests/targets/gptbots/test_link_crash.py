"""kill -9 while a file at an address is fetched anew: one document a link, and one update of it at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.remote import fetching
from tests.remote.fetching import EDITS, Fetched, cut_always, cut_fetches
from tests.remote.world import RemoteWorld
from tests.share import boundaries, enumerated, in_parts
from tests.targets.gptbots.stage import GptbotsStage

# What a killed process leaves open is closed by its end; here the process goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def found(world: RemoteWorld) -> set[str]:
    """What is found is the content before, until the next one is in."""
    shelf = world.app._bot.shelf  # type: ignore[attr-defined]
    return {one.serving.address for one in shelf.alive() if one.serving is not None}


ANEW = Fetched("update", "updated", found, lambda name: f"https://example.org/{name}.pdf")
FIRST = (6, 18, 24, 32)
"""Boundaries of the crash before the one that is enumerated: by edit, around the request and its record."""


def slow_stage(place: Path) -> GptbotsStage:
    """A fetch takes the vendor longer than a restart takes us, and at first it shows the old state."""
    stage = GptbotsStage(place)
    stage.world.turn(vectorize=[30.0, 30.0], stale_status=4.0)
    return stage


@enumerated("then")
@in_parts
@pytest.mark.parametrize("then", EDITS)
def test_a_crash_anywhere_in_a_fetch_anew_costs_one_request_at_most(
    tmp_path: Path, then: fetching.Edit, part: int
) -> None:
    numbers = boundaries(part)
    assert asyncio.run(cut_fetches(slow_stage(tmp_path), ANEW, numbers, then)) >= 1


@enumerated("then")
@in_parts
@pytest.mark.parametrize("then", EDITS)
def test_a_crash_in_the_recovery_of_a_fetch_anew(tmp_path: Path, then: fetching.Edit, part: int) -> None:
    place = EDITS.index(then)
    numbers = boundaries(part)
    assert asyncio.run(cut_fetches(slow_stage(tmp_path), ANEW, numbers, then, FIRST[place])) >= 1


@pytest.mark.parametrize("upon", ["PUT start", "put effect", "PUT answer"])
def test_a_program_that_is_killed_at_each_fetch_asks_more_and_more_seldom(tmp_path: Path, upon: str) -> None:
    """Every hour for a day: each page after pauses of 15 minutes, doubled each time."""
    assert 4 <= asyncio.run(cut_always(slow_stage(tmp_path), ANEW, upon, 24)) <= 14
