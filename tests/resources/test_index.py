"""The embedded knowledge base and its parser, short of disk and descriptors."""

from __future__ import annotations

import errno
import os
import selectors
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from kbsync.errors import Halted, TargetError, Unavailable
from kbsync.index.fence.parser import Parser
from tests.resources.embedded import begun, play_full_disk
from tests.share import boundaries, enumerated, in_parts
from tests.targets.bodies import BytesBody

# What fails while SQLite closes a file has nobody to tell but Python itself.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CALLS = {
    "a folder for it": (tempfile, "mkdtemp"),
    "its pipes": (subprocess, "Popen"),
    "waiting for it": (selectors, "DefaultSelector"),
}
PAGE = b"<p>words of a page</p>"


@enumerated()
@in_parts
def test_a_disk_that_is_full_at_any_write_of_the_index_loses_and_doubles_nothing(
    tmp_path: Path, part: int
) -> None:
    mirror = begun(tmp_path / "mirror")
    for number in boundaries(part):
        if not play_full_disk(mirror, number):
            assert number > 30
            return


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("what", CALLS)
def test_a_parser_that_lacks_something_blames_no_document_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    parser = Parser(tmp_path)
    try:
        with monkeypatch.context() as short, pytest.raises(TargetError) as told:
            short.setattr(*CALLS[what], fails)
            parser.parse("a.html", BytesBody(PAGE))
        is_full = number in (errno.ENOSPC, errno.EDQUOT)
        assert isinstance(told.value, Halted if is_full else Unavailable)
        assert (f"in {tmp_path}; free some" if is_full else "; raise the ") in str(told.value)
        assert not parser.pids() and not list(tmp_path.glob("parser-*/worker-*"))
        assert "words of a page" in parser.parse("a.html", BytesBody(PAGE)).text
    finally:
        parser.close()
    assert not list(tmp_path.iterdir())
