"""Ids that tell another time than the clock: no document is sent again for what nobody documented."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.remote.world import RemoteWorld, sha_of_folder

CLOCKS = [
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
    assert len(told) == 1, "said, and said once"


async def test_ids_that_agree_with_the_clock_are_no_news(world: RemoteWorld) -> None:
    world.write_many(3)
    world.play("lost-answer", op="upload", match="f1*")
    with capture_logs() as lines:
        await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert len(world.effects("stored")) == 3
    assert not [line for line in lines if line["event"] == "times.differ"]
