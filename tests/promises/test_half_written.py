"""Promise 8, a half-written file is never sent: seen from outside, with the program and the stand-in."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response
from tests.cli.vendor import ZhipuPlace, zhipu_place
from tests.share import long

SETTLE = 1.5


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ZhipuPlace]:
    """A mirror that takes a file when it was quiet for `SETTLE` seconds."""
    with zhipu_place(tmp_path) as desk:
        config = desk.config.read_text().replace("settle: 100ms", f"settle: {SETTLE}s")
        desk.config.write_text(config)
        yield desk


@long
def test_a_file_is_sent_when_it_was_quiet_for_as_long_as_settle_says(desk: ZhipuPlace) -> None:
    """Its time is in the future, so its age says nothing. The program first asks, then looks at files."""
    arrived: dict[str, float] = {}
    app = desk.vendor.server.app
    answer = app.answer

    def noting(request: Request, fault: Fault | None) -> Response:
        arrived.setdefault(app.op(request), time.monotonic())
        return answer(request, fault)

    app.answer = noting  # type: ignore[method-assign]
    in_a_year = time.time() + 31e6
    os.utime(desk.write("note.md", "written a moment ago"), (in_a_year, in_a_year))
    desk.once()
    assert arrived["upload"] - min(arrived.values()) >= SETTLE
