"""Tests promise 8, a half-written file is never sent, from outside, with the program and the stand-in."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response
from tests.cli.sandbox import Sandbox
from tests.cli.zhipu import ZhipuSandbox, zhipu_sandbox
from tests.share import long

SETTLE = 1.5


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ZhipuSandbox]:
    """A mirror that reads a file after `SETTLE` seconds without changes."""
    with zhipu_sandbox(tmp_path) as desk:
        config = desk.config.read_text().replace("settle: 100ms", f"settle: {SETTLE}s")
        desk.config.write_text(config)
        yield desk


def test_file_is_sent_once_quiet_for_the_settle_time(desk: ZhipuSandbox) -> None:
    """Its time is in the future, so its age proves nothing. The program first checks the base, then the
    files.
    """
    arrived: dict[str, float] = {}
    app = desk.service.server.app
    respond = app.answer

    def noting(request: Request, fault: Fault | None) -> Response:
        arrived.setdefault(app.op(request), time.monotonic())
        return respond(request, fault)

    app.answer = noting  # type: ignore[method-assign]
    in_a_year = time.time() + 31e6
    os.utime(desk.write("note.md", "written a moment ago"), (in_a_year, in_a_year))
    desk.once()
    assert arrived["upload"] - min(arrived.values()) >= SETTLE


@contextmanager
def churning(folder: Path) -> Iterator[None]:
    """Write four files, and a quarter of a second later delete and rewrite them."""
    over = threading.Event()

    def churn() -> None:
        texts = (f"text {number} " * 12_000 for number in itertools.count())
        while not over.is_set():
            for number in range(4):
                (folder / f"busy{number}.md").write_text(next(texts))
            over.wait(0.25)
            for number in range(4):
                (folder / f"busy{number}.md").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@long
def test_pass_ends_while_files_come_and_go(sandbox: Sandbox) -> None:
    config = sandbox.configure("settle_longest: 3s")
    config.write_text(config.read_text().replace("settle: 100ms", "settle: 300ms"))
    for number in range(12):
        sandbox.write(f"quiet{number}.md", f"calm text {number}")
    with churning(sandbox.docs):
        result = sandbox.go("--once", "--json")
    assert result.code in (0, 4), result.err
    [mirror] = result.json["mirrors"]
    assert mirror["documents"]["ready"] >= 12
    # On a busy machine, some of the four may be quiet for long enough.
    assert mirror["documents"]["pending"] in (range(1, 5) if result.code else [0])
