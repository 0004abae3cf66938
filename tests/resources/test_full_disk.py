"""A full disk at any write costs time and nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.engine.world import World
from tests.resources.disks import play_full_state, play_full_state_of_service
from tests.share import boundaries, enumerated, in_parts
from tests.source.folders import refuse

# What fails while SQLite closes a file has nobody to tell but Python itself.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("play", [play_full_state, play_full_state_of_service])
@enumerated()
@in_parts
async def test_a_disk_that_is_full_at_any_write_of_the_state_loses_and_doubles_nothing(
    tmp_path: Path, part: int, play: Callable[[Path, int], Awaitable[bool]]
) -> None:
    for number in boundaries(part):
        if not await play(tmp_path / str(number), number):
            assert number > 8
            return


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "write"])
async def test_a_spool_that_takes_nothing_keeps_the_intent_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    world = World(tmp_path)
    world.write("large.md", "x" * 300_000)
    world.write("small.md", "small")
    with monkeypatch.context() as patched:
        refuse(patched, call, world.state if call == "open" else "anything", code)
        end = await world.once()
    assert "large.md" in end.trouble and os.strerror(code).lower() in end.trouble
    await world.once()
    assert world.served() == world.on_disk()
    assert world.puts() == 2
