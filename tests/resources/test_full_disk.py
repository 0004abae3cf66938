"""Tests that a full disk at any write, or a parser that lacks resources, only costs time."""

from __future__ import annotations

import errno
import os
import selectors
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kbsync.errors import Halted, TargetError, Unavailable
from kbsync.index.fence.parser import Parser
from kbsync.source.roots import SHORTAGES
from tests.engine.world import World
from tests.resources.disks import LocalMirror, play_full_index, play_full_state, play_full_state_of_service
from tests.share import boundaries, enumerated, in_parts, long
from tests.source.folders import refuse
from tests.targets.bodies import BytesBody

# Only Python can report errors when SQLite closes a file.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@long
@pytest.mark.parametrize("play", [play_full_state, play_full_state_of_service])
@in_parts
async def test_full_disk_at_any_state_write_loses_and_duplicates_nothing(
    tmp_path: Path, part: int, play: Callable[[Path, int], Awaitable[bool]]
) -> None:
    for number in boundaries(part):
        if not await play(tmp_path / str(number), number):
            assert number > 8
            return


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "write"])
async def test_full_spool_keeps_the_intent_and_continues_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    world = World(tmp_path)
    world.write("large.md", "x" * 300_000)
    world.write("small.md", "small")
    with monkeypatch.context() as patched:
        refuse(patched, call, world.state if call == "open" else "anything", code)
        end = await world.once()
    fix = "" if code in SHORTAGES else "; free some disk space or move state_dir"
    parts = (str(world.state), "'large.md'", f"({os.strerror(code).lower()}", fix)
    assert all(words in end.problem for words in parts), end.problem
    await world.ends_equal()
    assert world.puts() == 2


@long
@in_parts
def test_full_disk_at_any_index_write_loses_and_duplicates_nothing(tmp_path: Path, part: int) -> None:
    mirror = LocalMirror(tmp_path / "mirror")
    for number in boundaries(part):
        if not play_full_index(mirror, number):
            assert number > 30
            return


CALLS = {
    "a folder for it": (tempfile, "mkdtemp"),
    "its pipes": (subprocess, "Popen"),
    "waiting for it": (selectors, "DefaultSelector"),
}
PAGE = b"<p>words of a page</p>"


@enumerated()
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("resource", CALLS)
def test_parser_short_of_resources_blames_no_document_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resource: str, number: int
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    parser = Parser(tmp_path)
    try:
        with monkeypatch.context() as short, pytest.raises(TargetError) as caught:
            short.setattr(*CALLS[resource], fails)
            parser.parse("a.html", BytesBody(PAGE))
        is_full = number in (errno.ENOSPC, errno.EDQUOT)
        assert isinstance(caught.value, Halted if is_full else Unavailable)
        assert (f"in {tmp_path}; free some" if is_full else "; raise the ") in str(caught.value)
        assert not parser.pids() and not list(tmp_path.glob("parser-*/worker-*"))
        assert "words of a page" in parser.parse("a.html", BytesBody(PAGE)).text
    finally:
        parser.close()
    assert not list(tmp_path.iterdir())
