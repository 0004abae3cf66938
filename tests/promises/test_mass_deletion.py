"""Tests promises 5 (mass deletion asks) and 1 (a missing folder isn't an empty one) from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response
from tests.cli.zhipu import ZhipuSandbox, zhipu_sandbox


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ZhipuSandbox]:
    """Mirror thirty files."""
    with zhipu_sandbox(tmp_path) as desk:
        for n in range(30):
            desk.write(f"f{n:02}.md", f"text of {n}")
        desk.once()
        yield desk


def remove(desk: ZhipuSandbox, *numbers: int) -> None:
    for n in numbers:
        (desk.docs / f"f{n:02}.md").unlink()


def test_bursts_of_deletions_add_up(desk: ZhipuSandbox) -> None:
    """Six of thirty, or four, need no approval; ten within the hour do."""
    remove(desk, *range(6))
    assert desk.once()["deleted"] == 6
    remove(desk, *range(6, 10))
    result = desk.go("--once", "--json")
    assert (result.code, result.json["held"], result.json["deleted"]) == (3, 4, 0)
    assert len(desk.service.ours()) == 24


def test_deletions_during_a_hold_add_up_with_the_held_ones(desk: ZhipuSandbox) -> None:
    """Each alone would need no approval."""
    remove(desk, *range(10))
    assert desk.go("--once", "--json").json["held"] == 10
    for count in (11, 12):
        remove(desk, count)
        result = desk.go("--once", "--json")
        assert (result.code, result.json["held"], result.json["deleted"]) == (3, count, 0)
    assert len(desk.service.ours()) == 30
    assert desk.run("approve", "--yes").code == 0
    assert desk.once()["deleted"] == 12


BROKEN_OFF = 3
"""Tries of one call; the worker repeats the deletion some time later."""


def test_root_is_checked_before_a_deletion_is_sent(desk: ZhipuSandbox) -> None:
    """The service is down at the first try; before the next, an empty folder replaces the root."""
    app = desk.service.server.app
    respond = app.answer
    requests = list[str]()

    def down_at_first(request: Request, fault: Fault | None) -> Response:
        if app.op(request) != "delete":
            return respond(request, fault)
        requests.append(request.path)
        if len(requests) == 1:
            desk.docs.rename(desk.root / "away")
            desk.docs.mkdir()
        return Response(503) if len(requests) <= BROKEN_OFF else respond(request, fault)

    app.answer = down_at_first  # type: ignore[method-assign]
    remove(desk, 0)
    result = desk.go("--once", "--json")
    [mirror] = result.json["mirrors"]
    assert result.code == 3 and mirror["halt"]["reason"] == "folder-missing", (result.out, result.err)
    assert len(requests) == BROKEN_OFF
    assert len(desk.service.ours()) == 30
