"""Tests the log at level debug: why a file is read, what is decided about it, and a service's responses."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from kbsync.logs import DEBUG_LOGGER
from tests.cli.sandbox import Sandbox
from tests.engine.world import World
from tests.share import long


class RecordingHandler(logging.Handler):
    """A handler that records log lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.event, record.fields))  # type: ignore[attr-defined]

    def take(self, event: str) -> list[dict[str, Any]]:
        matching = [fields for name, fields in self.lines if name == event]
        self.lines.clear()
        return matching


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordingHandler:
    recorded, logger = RecordingHandler(), logging.getLogger(DEBUG_LOGGER)
    monkeypatch.setattr(logger, "handlers", [recorded])
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    return recorded


async def test_each_file_check_logs_differences_and_the_decision(
    tmp_path: Path, recorded: RecordingHandler
) -> None:
    world = World(tmp_path)
    messages = []
    file = world.write("a.md", "alpha")
    for change in (
        lambda: None,
        lambda: os.utime(file, (1e9, 1e9)),
        lambda: world.write("a.md", "other"),
        lambda: world.move("a.md", "b.md"),
        lambda: world.write("b.md", ""),
    ):
        change()
        await world.once()
        messages += [
            (event["path"], event["outcome"], event["differs"]) for event in recorded.take("file.judged")
        ]
    outcomes = [(path, outcome) for path, outcome, _ in messages]
    assert outcomes == [
        ("a.md", "new"),
        ("a.md", "same content"),
        ("a.md", "other content"),
        ("b.md", "renamed, from a.md"),
        ("b.md", "not mirrored: empty"),
    ]
    assert messages[0][2] == []
    assert messages[1][2] == ["mtime", "ctime"]
    assert {"mtime", "ctime"} <= set(messages[2][2])


@long
def test_debug_details_are_logged_only_when_enabled(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    output = sandbox.run("--once", "--log-level", "debug").err
    assert '"outcome": "new"' in output
    assert '"event": "file.judged"' in output
    assert '"event": "action.decided"' in output
    sandbox.write("a.md", "other")
    assert "file.judged" not in sandbox.run("--once").err
