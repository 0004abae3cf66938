"""kill -9 at every commit and every request about a link: its page is there once, and never another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.harness import Guillotine
from tests.crash.stage_zhipu import ZhipuStage
from tests.remote import fetching
from tests.remote.fetching import EDITS, Fetched, cut_always, cut_fetches
from tests.remote.test_links import PAGE, pages, shortcut
from tests.remote.world import RemoteWorld
from tests.share import boundaries, enumerated, in_parts

# What a killed process leaves open is closed by its end; here the process goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Edit = Callable[["LinkStage", int], list[str]]


class LinkStage(ZhipuStage):
    """One link file that stays, and a colleague's page of the same address."""

    effects = {**ZhipuStage.effects, "upload-url": "put"}  # noqa: RUF012 - as the base has it

    def theirs(self) -> None:
        self.world.foreign.add(
            str(self.world.app.put_foreign({"name": PAGE, "text": "x", "url": PAGE})["id"])
        )
        self.world.clock.now += 1000.0


def create(stage: LinkStage, turn: int) -> list[str]:
    stage.world.write("faq.url", shortcut())
    stage.world.write(f"new{turn}.url", shortcut(f"{PAGE}/{turn}"))
    return [PAGE, f"{PAGE}/{turn}"]


def replace(stage: LinkStage, turn: int) -> list[str]:
    stage.world.write("faq.url", shortcut(f"{PAGE}/turn{turn}"))
    return [f"{PAGE}/turn{turn}"]


def again(stage: LinkStage, turn: int) -> list[str]:
    """The same address in other bytes."""
    stage.world.write("faq.url", shortcut(more=f"IconIndex={turn}\r\n"))
    return [PAGE]


def delete(stage: LinkStage, turn: int) -> list[str]:
    stage.world.delete("faq.url")
    return []


def listed(stage: LinkStage, turn: int) -> list[str]:
    """An entry comes and one goes."""
    stage.world.write("urls.yaml", f"- {PAGE}/kept\n- {PAGE}/{turn}\n")
    return [PAGE, f"{PAGE}/kept", f"{PAGE}/{turn}"]


@enumerated("edit")
@in_parts
@pytest.mark.parametrize("edit", [create, replace, again, delete, listed])
def test_a_crash_anywhere_leaves_one_page_a_link(tmp_path: Path, edit: Edit, part: int) -> None:
    assert asyncio.run(cut_everywhere(tmp_path, edit, part)) >= 1


async def cut_everywhere(place: Path, edit: Edit, part: int) -> int:
    """Crashes at one boundary after the other, until one is past the last."""
    crashes = 0
    async with LinkStage(place).serving() as stage:
        stage.theirs()
        for turn, number in enumerate(boundaries(part)):
            for path in stage.world.root.rglob("*.url"):
                path.unlink()
            stage.world.write("faq.url", shortcut())
            stage.world.clock.now += 4000.0  # deletions of earlier turns are not counted any more
            await stage.world.once()
            wanted = edit(stage, turn)
            guillotine = Guillotine(at=number)
            await stage.crash(guillotine)
            crashes += guillotine.fallen
            await stage.world.once()
            assert pages(stage.world) == sorted(wanted), guillotine.passed[-1]
            assert set(stage.world.statuses()) == {"ready"}, guillotine.passed[-1]
            assert stage.touched() == 0
            assert stage.violations() == []
            if not guillotine.fallen:
                break
    return crashes


# -- pages that are fetched anew ---------------------------------------------------------------------------


def ready_once(world: RemoteWorld) -> set[str]:
    """While a page is vectorized again its old text may be found or not: what is promised is its document."""
    now, again = world.clock.wall(), {entry["id"] for entry in world.effects("reembedded")}
    alive = [one for one in world.app._account.documents.values() if one.deleted is None]
    ready = {one.id for one in alive if any(phase.stat == 1 and phase.at <= now for phase in one.phases)}
    return {one.address for one in alive if one.id in ready | again}


ANEW = Fetched("reembed", "reembedded", ready_once, lambda name: f"{PAGE}/{name}")
FIRST = (5, 17, 23, 31)
"""Boundaries of the crash before the one that is enumerated: by edit, around the request and its record."""


@enumerated("then")
@in_parts
@pytest.mark.parametrize("then", EDITS)
def test_a_crash_anywhere_in_a_fetch_anew_costs_one_request_at_most(
    tmp_path: Path, then: fetching.Edit, part: int
) -> None:
    numbers = boundaries(part)
    assert asyncio.run(cut_fetches(ZhipuStage(tmp_path), ANEW, numbers, then)) >= 1


@enumerated("then")
@in_parts
@pytest.mark.parametrize("then", EDITS)
def test_a_crash_in_the_recovery_of_a_fetch_anew(tmp_path: Path, then: fetching.Edit, part: int) -> None:
    place = EDITS.index(then)
    numbers = boundaries(part)
    assert asyncio.run(cut_fetches(ZhipuStage(tmp_path), ANEW, numbers, then, FIRST[place])) >= 1


@pytest.mark.parametrize("upon", ["POST start", "reembed effect", "POST answer"])
def test_a_program_that_is_killed_at_each_fetch_asks_more_and_more_seldom(tmp_path: Path, upon: str) -> None:
    """Every hour for a day: each page after pauses of 15 minutes, doubled each time."""
    assert 4 <= asyncio.run(cut_always(ZhipuStage(tmp_path), ANEW, upon, 24)) <= 14
