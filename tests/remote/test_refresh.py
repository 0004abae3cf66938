"""Pages that are fetched anew on their schedule: in time, once, and never at the cost of what serves."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.engine.mirror import MirrorRun
from tests.remote.test_links import PAGE, items, pages, shortcut
from tests.remote.world import RemoteWorld

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, vectorize=(1.0, 3.0)).serving() as world:
        yield world


def refreshing(world: RemoteWorld, every: str) -> None:
    """What `documents: [{match: "*.url", zhipu: {refresh: …}}]` makes of the plan."""
    settings: dict[str, Any] = {"refresh": every} if every else {}
    world.plan = replace(
        world.plan,
        settings=lambda path: settings if path.endswith(".url") else {},
        fingerprint=every,
    )


@asynccontextmanager
async def at_work(world: RemoteWorld) -> AsyncIterator[MirrorRun]:
    async with world.running() as store:
        run = world.make_run(store)
        assert await run.begin()
        await run.compare()
        await world.clock.sleep(60.0)
        yield run
        await run.end()


def visits(world: RemoteWorld) -> list[int]:
    return sorted(one["visits"] for one in world.documents() if one["address"])


async def test_a_page_is_fetched_once_an_interval(world: RemoteWorld) -> None:
    refreshing(world, "1h")
    world.write("faq.url", shortcut())
    world.write("a.md", "a file")
    async with at_work(world):
        assert visits(world) == [1]
        await world.clock.sleep(0.4 * HOUR)
        assert visits(world) == [1]
        await world.clock.sleep(6.2 * HOUR)
        assert visits(world)[0] in (6, 7)
    assert world.statuses() == {"ready": 2}
    assert world.asked("upload-url") == 1


async def test_an_entry_of_a_list_has_an_interval_of_its_own(world: RemoteWorld) -> None:
    world.write("urls.yaml", f"- {{url: {PAGE}/often, refresh: 10m}}\n- {PAGE}/never\n")
    async with at_work(world):
        await world.clock.sleep(25 * 60.0)
    assert visits(world) == [1, 3]


async def test_the_due_time_survives_restarts_and_a_pass_keeps_it(world: RemoteWorld) -> None:
    refreshing(world, "1d")
    world.write("faq.url", shortcut())
    for _ in range(4):
        await world.once()
        world.clock.now += 0.2 * DAY
    assert visits(world) == [1]
    world.clock.now += 0.5 * DAY
    await world.once()
    assert visits(world) == [2]
    await world.once()
    assert visits(world) == [2]


async def test_a_new_interval_counts_at_once_and_none_ends_it(world: RemoteWorld) -> None:
    refreshing(world, "30d")
    world.write("faq.url", shortcut())
    await world.once()
    world.clock.now += 2 * DAY
    await world.once()
    assert visits(world) == [1]
    refreshing(world, "1d")
    await world.once()
    assert visits(world) == [2]
    refreshing(world, "")
    world.clock.now += 9 * DAY
    await world.once()
    assert visits(world) == [2]


async def test_many_that_are_due_go_one_after_the_other(world: RemoteWorld) -> None:
    refreshing(world, "1d")
    for number in range(20):
        world.write(f"{number}.url", shortcut(f"{PAGE}/{number}"))
    await world.once()
    world.clock.now += 3 * DAY
    asked: list[float] = []

    def note(boundary: str) -> None:
        if boundary == "POST start":
            asked.append(world.clock.now)

    world.at_request = note
    await world.once()
    assert visits(world) == [2] * 20
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert len(asked) == 20
    assert min(gaps) >= 0.1
    await world.once()
    assert len(asked) == 20


async def test_a_clock_that_is_set_makes_no_storm(world: RemoteWorld) -> None:
    refreshing(world, "1h")
    for number in range(5):
        world.write(f"{number}.url", shortcut(f"{PAGE}/{number}"))
    async with at_work(world):
        for skew in (400 * DAY, 0.0, -300 * DAY, 0.0):
            world.clock.skew = skew
            await world.clock.sleep(0.2 * HOUR)
        assert max(visits(world)) <= 4
        before = sum(visits(world))
        await world.clock.sleep(1.5 * HOUR)  # and it goes on
        assert sum(visits(world)) >= before + 5


async def test_a_page_that_fails_is_said_and_asked_for_more_and_more_seldom(world: RemoteWorld) -> None:
    refreshing(world, "30m")
    world.write("faq.url", shortcut())
    await world.once()
    document = items(world)["faq.url"].document_id
    world.clock.now += 2 * DAY
    world.play("fails", op="reembed", times=0, args={"runs": 1, "text": "网页无法访问"})
    async with at_work(world):
        await world.clock.sleep(8 * HOUR)
        assert 4 <= world.asked("reembed") <= 7
        item = items(world)["faq.url"]
        assert item.document_id == document
        assert "fetched anew" in item.reason
        assert "网页无法访问" in item.reason
        world.server.faults.clear()
        await world.clock.sleep(9 * HOUR)
        assert items(world)["faq.url"].reason == ""
    assert world.asked("upload-url") == 1
    assert pages(world) == [PAGE]


@pytest.mark.parametrize("kind", ["lost-answer", "status", "code-in-200"])
async def test_a_request_that_goes_wrong_is_no_storm_and_loses_nothing(world: RemoteWorld, kind: str) -> None:
    refreshing(world, "1d")
    world.write("faq.url", shortcut())
    await world.once()
    world.clock.now += 2 * DAY
    world.play(kind, op="reembed", times=2)
    async with at_work(world):
        await world.clock.sleep(2 * HOUR)
    assert world.asked("reembed") <= 6
    assert visits(world)[0] >= 2
    assert world.statuses() == {"ready": 1}


async def test_a_service_that_cannot_fetch_anew_is_asked_seldom(world: RemoteWorld) -> None:
    refreshing(world, "1d")
    world.turn(not_offered=["reembed"])
    world.write("faq.url", shortcut())
    await world.once()
    world.clock.now += 2 * DAY
    async with at_work(world):
        await world.clock.sleep(12 * HOUR)
    assert world.asked("reembed") <= 9
    assert "fetched anew" in items(world)["faq.url"].reason


async def test_nothing_is_fetched_while_the_mirror_is_halted(world: RemoteWorld) -> None:
    refreshing(world, "1h")
    world.write("faq.url", shortcut())
    async with at_work(world):
        world.turn(key_revoked=True)
        world.write("b.md", "text")
        await world.clock.sleep(1.5 * HOUR)
        asked = world.asked("reembed")
        assert asked <= 1
        await world.clock.sleep(5 * HOUR)
        assert world.asked("reembed") == asked


async def test_an_edit_in_the_middle_of_a_fetch_wins(world: RemoteWorld) -> None:
    refreshing(world, "1d")
    world.write("faq.url", shortcut())
    await world.once()
    world.clock.now += 2 * DAY
    world.play("stuck", op="reembed")
    async with at_work(world) as run:
        assert world.asked("reembed") == 1
        world.write("faq.url", shortcut(f"{PAGE}/new"))
        await run.compare()
        await world.clock.sleep(120.0)
    assert pages(world) == [f"{PAGE}/new"]
    assert world.statuses() == {"ready": 1}
