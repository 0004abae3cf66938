"""kill -9 at every commit and every request about a link: its page is there once, and never another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.harness import Guillotine
from tests.crash.stage_zhipu import ZhipuStage
from tests.remote.test_links import PAGE, pages, shortcut
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


def retry(stage: LinkStage, turn: int) -> list[str]:
    """The page as it is now is asked for."""
    stage.world.tell("retry", paths=["faq.url"])
    return [PAGE]


@enumerated("edit")
@in_parts
@pytest.mark.parametrize("edit", [create, replace, again, delete, retry])
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
