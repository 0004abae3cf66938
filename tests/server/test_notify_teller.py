"""What the mirrors of a daemon do becomes notices; a person who cannot be told stops nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from kbsync.config.kinds import Secret
from kbsync.config.model import NotifyConfig
from kbsync.engine.journal import Happened
from kbsync.server import notify as telling
from kbsync.server.notify import EVERY, GATHER, Notifications
from kbsync.state.mirrors import Halt
from tests.engine.test_watching import Daemon, until

QUOTA = Halt("quota", "no money", "kbsync retry")


@pytest.fixture(autouse=True)
def _every_level_is_logged() -> None:
    """Whatever a command that ran in this process before has set."""
    structlog.reset_defaults()


@dataclass
class Site:
    cure: Callable[[str], str] = lambda command: f"kbsync {command}"


@dataclass
class Run:
    """As much of a mirror at work as is looked at."""

    halt: Halt | None = None
    told: Halt | None = None
    has_compared: bool = True
    site: Site = field(default_factory=Site)

    @property
    def store(self) -> Run:
        return self

    async def read(self, _look: object) -> Halt | None:
        return self.halt


class Stage:
    """A teller on a clock of the test's, and the notices its command got."""

    def __init__(self, place: Path, command: str = 'cat >>"$0"') -> None:
        self.run, self.now, self.told = Run(), 0.0, place / "told"
        self.teller = Notifications({"a": self.run}, steady=lambda: self.now, wall=lambda: 1e9)  # type: ignore[dict-item]
        self.teller.turn_to(NotifyConfig(command=("/bin/sh", "-c", command, str(self.told))))

    async def look(self, after: float = 0.0) -> None:
        self.now += after
        await self.teller.look()

    @property
    def events(self) -> list[str]:
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        return [json.loads(line)["event"] for line in lines]


async def test_halts_recoveries_and_failures_are_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.run.halt = QUOTA
    await stage.look()
    stage.run.halt = None
    stage.teller.heard("a", Happened("document.failed", "x.pdf", reason="no text"))
    stage.teller.heard("a", Happened("document.ready", "y.pdf"))
    await stage.look(EVERY + GATHER)
    assert stage.events == ["halted", "recovered", "quarantined"]
    last = json.loads(stage.told.read_text().splitlines()[-1])
    assert last["documents"] == [{"path": "x.pdf", "reason": "no text"}]
    assert last["cure"] == "kbsync retry --mirror a"


async def test_what_an_earlier_process_knew_is_no_news_before_this_one_has_looked(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.run.halt, stage.run.has_compared = QUOTA, False
    await stage.look()
    assert stage.events == []
    stage.run.told = QUOTA
    await stage.look()
    assert stage.events == ["halted"]


async def test_who_cannot_be_told_is_logged_once_and_without_words_of_the_config(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 'test -e "$0.open" && cat >>"$0"')
    stage.run.halt = QUOTA
    with capture_logs() as lines:
        for _ in range(5):
            await stage.look(3600)
        (tmp_path / "told.open").touch()
        await stage.look(3600)
    assert stage.events == ["halted"]
    assert [line["event"] for line in lines] == ["notify.failed", "notify.resumed"]
    assert lines[0]["via"] == "command"
    assert str(tmp_path) not in str(lines)


async def test_a_way_that_breaks_is_logged_once_and_the_other_tells_each_thing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(url: str, _body: bytes) -> None:
        raise RuntimeError(url)

    stage = Stage(tmp_path)
    command = ("/bin/sh", "-c", 'cat >>"$0"', str(stage.told))
    stage.teller.turn_to(NotifyConfig(command=command, url=Secret("https://sesame/")))
    monkeypatch.setattr(telling, "post_notice", broken)
    stage.run.halt = QUOTA
    with capture_logs() as lines:
        for _ in range(3):
            await stage.look(telling.LOOK_EVERY)
    assert stage.events == ["halted"]
    assert [(line["event"], line["via"]) for line in lines] == [("notify.failed", "url")]
    assert "sesame" not in str(lines)


async def test_nothing_is_gathered_while_nobody_is_to_be_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.teller.turn_to(None)
    stage.teller.heard("a", Happened("document.failed", "x.pdf", reason="no text"))
    stage.teller.turn_to(NotifyConfig(command=("/bin/sh", "-c", 'cat >>"$0"', str(stage.told))))
    await stage.look(EVERY)
    assert stage.events == []


async def test_an_error_of_ours_ends_no_telling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, looks = Stage(tmp_path), 0
    enough = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks > 3:
            enough.set()
            await asyncio.Event().wait()

    def broken(*_: object) -> Coroutine[Any, Any, None]:
        raise RuntimeError("ours")

    monkeypatch.setattr(stage.teller, "_sleep", sleep)
    monkeypatch.setattr(telling, "body_of", broken)
    stage.run.halt = QUOTA
    with capture_logs() as lines:
        keeping = asyncio.create_task(stage.teller.keep())
        await enough.wait()
        keeping.cancel()
    assert [line["event"] for line in lines] == ["notify.failed"]


async def test_held_deletions_of_a_real_mirror_are_told_and_their_end(tmp_path: Path) -> None:
    world = Daemon(tmp_path)
    world.write_many(10)
    told = tmp_path / "told"
    async with world.kept():
        now = 0.0
        teller = Notifications({"docs": world.run}, steady=lambda: now, wall=lambda: 1e9)
        teller.turn_to(NotifyConfig(command=("/bin/sh", "-c", 'cat >>"$0"', str(told))))
        await until(lambda: world.tally().get("ready") == 10)
        await teller.look()
        assert not told.exists()
        for number in range(8):
            world.delete(f"f{number}.md")
        await until(lambda: world.tally().get("held") == 8)
        await teller.look()
        for number in range(8):
            world.write(f"f{number}.md", f"text of f{number}")
        await until(lambda: not world.tally().get("held"))
        now = EVERY
        async with asyncio.timeout(60):
            while len(told.read_text().splitlines()) < 2:
                await teller.look()
                await asyncio.sleep(0.01)
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(one["event"], one["reason"]) for one in events] == [
        ("halted", "deletions-held"),
        ("recovered", "deletions-held"),
    ]
    assert events[0]["cure"] == "kbsync approve docs"
