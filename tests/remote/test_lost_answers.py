"""A lost answer is looked for by its document's name; only that it is not there takes the whole list.

Whatever time ids tell: no document is sent again for what nobody documented.
"""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.remote.world import RemoteWorld, sha_of_folder

MANY = 5_000
WORDS = ["substring", "exact", "case_insensitive"]


async def in_a_crowd(world: RemoteWorld) -> None:
    """A few of ours are mirrored beside many others."""
    await world.mirrored(6)
    for number in range(MANY):
        world.plant(f"theirs{number}.md", "something of theirs")
    world.clock.now += 10
    world.server.requests.clear()


@pytest.mark.parametrize("word", WORDS)
async def test_an_upload_whose_answer_was_lost_is_found_without_reading_the_whole_list(
    world: RemoteWorld, word: str
) -> None:
    await in_a_crowd(world)
    world.turn(word=word, order="oldest")
    world.play("lost-answer", op="upload")
    world.write("f0.md", "changed")
    await world.once()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.asked("upload") == 1
    assert 1 <= world.asked("list") <= 2


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("word", [*WORDS, "tokenised", "ignored"])
async def test_a_filter_proves_nothing_that_it_does_not_show(
    world: RemoteWorld, word: str, is_stored: bool
) -> None:
    """Only a whole list tells that a document is not there, and then it is sent once more."""
    world.turn(word=word, order="oldest", page_cap=10, names="suffixed", list_lag=0.9)
    await world.mirrored(30)
    world.server.requests.clear()
    world.play("lost-answer", op="upload", effect=is_stored)
    world.clock.now += 10
    world.write("f0.md", "changed")
    await world.once()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.asked("upload") == (1 if is_stored else 2)


# -- ids that tell another time than the clock ------------------------------------------------------------

CLOCKS: list[dict[str, object]] = [
    {},
    {"ids": "other_epoch"},
    {"skewed_ids": False, "clock_skew": 200.0},
    {"skewed_ids": False, "clock_skew": -200.0},
]


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
async def test_a_lost_answer_makes_no_twin_whatever_time_ids_tell(
    world: RemoteWorld, clock: dict[str, object]
) -> None:
    world.turn(**clock)
    world.write_many(5)
    for path in ("f0", "f3"):
        world.play("lost-answer", op="upload", match=f"{path}*")
    with capture_logs() as lines:
        await world.once()
        world.write("f1.md", "changed")
        world.play("lost-answer", op="upload", match="f1*")
        await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert len(world.effects("stored")) == 6
    told = [line for line in lines if line["event"] == "times.differ"]
    assert len(told) == bool(clock), "said, and said once; ids that agree with the clock are no news"
