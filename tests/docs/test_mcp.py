"""Tests that the assistants' settings on the page start kbsync."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from kbsync.cli.main import kbsync
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "mcp.md"
SETTINGS = [json.loads(block.text) for block in blocks(PAGE, "json")]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: next(iter(settings)))
def test_assistant_settings_contain_a_valid_command(settings: dict[str, Any]) -> None:
    [servers] = settings.values()
    for server in servers.values():
        assert server["command"].endswith("/kbsync")
        name, *words = server["args"]
        command = kbsync.get_command(click.Context(kbsync), name)
        assert command is not None
        # This reads every option, and runs nothing.
        assert command.make_context(name, words).params == {"http": None}


def test_documented_limits_match_the_program() -> None:
    from kbsync.cli.commands.mcp import http, protocol, serving

    text = " ".join(PAGE.read_text().split())
    search = protocol.TOOLS["search"].input_schema["properties"]
    assert f"at most `k` ({search['k']['default']}, up to {protocol.MAX_HITS})" in text
    assert f"`wait` of up to {protocol.MAX_WAIT} seconds" in text
    assert f"of at most {http.MAX_BODY_BYTES // 1024} KiB" in text
    assert f"${http.TOKEN}" in text
    # The other process may stop right after a check or right before one.
    soonest, latest = (
        serving.CHECK_LOCK_EVERY * checks for checks in (serving.FREE_FOR - 1, serving.FREE_FOR)
    )
    assert f"takes over after {soonest:.0f} to {latest:.0f} seconds" in text
    assert f"restarted within {soonest:.0f} seconds gets the lock back" in text
    assert all(f"| `{name}` |" in text for name in protocol.TOOLS)
