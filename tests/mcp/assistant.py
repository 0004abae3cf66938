"""An assistant for tests: the official client, connected to `kbsync mcp`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from kbsync.cli.commands.mcp.library import Library
from kbsync.cli.commands.mcp.open_mirrors import OpenInstallation
from kbsync.cli.commands.mcp.protocol import build_server
from kbsync.cli.context import choose
from kbsync.cli.options import Choices
from kbsync.installation import Installation
from kbsync.threads import Threads
from tests.cli.sandbox import LONGEST, UNSET, Sandbox

SETTLED = 35
"""The longest that a response may wait for the index; none comes near."""


@contextlib.asynccontextmanager
async def over_stdio(sandbox: Sandbox, *words: str) -> AsyncIterator[Client]:
    """Yield a client of a real process, whose log goes to `mcp.log`; both end together."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "kbsync", "mcp", *words],
        env=sandbox.environ({}),
        cwd=sandbox.root,
    )
    with (sandbox.root / "mcp.log").open("a") as log:
        async with Client(stdio_client(command, errlog=log), read_timeout_seconds=LONGEST) as client:
            yield client


def choose_installation(sandbox: Sandbox, **choices: Path) -> Installation:
    """Return the installation that these options select, for a user with this home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in UNSET:
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(sandbox.home))
        return choose(Choices(**choices))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def within(installation: Installation) -> AsyncIterator[Client]:
    """Yield a client of a server in this process that doesn't mirror."""
    asyncio.get_running_loop().set_default_executor(Threads())
    opened = OpenInstallation(installation)
    async with Client(build_server(Library(opened)), read_timeout_seconds=LONGEST) as client:
        yield client
    await opened.aclose()


@contextlib.asynccontextmanager
async def client_of(sandbox: Sandbox, files: Mapping[str, str | bytes] = {}) -> AsyncIterator[Client]:
    """Mirror these files, if any, and yield a client of a server that only reads the sandbox's mirrors."""
    if files:
        sandbox.mirror(files)
    async with within(choose_installation(sandbox, config=sandbox.config)) as client:
        yield client


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition, which may be a coroutine function, returns true; fail after `SETTLED`."""
    async with asyncio.timeout(SETTLED):
        while not (await result if inspect.isawaitable(result := condition()) else result):
            await asyncio.sleep(0.01)


async def run_tool(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Return a tool's result."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def error_of(client: Client, tool: str, **arguments: Any) -> str:
    """Return the error message of a tool."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, text_of(result)
    assert result.structured_content is None
    return text_of(result)


def text_of(result: Any) -> str:
    """Return the text that a model reads."""
    [content] = result.content
    return str(content.text)


def paths(response: dict[str, Any]) -> list[str]:
    """Return the paths of the hits."""
    return [hit["path"] for hit in response["hits"]]


def log_of(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Return the lines of its log."""
    return [json.loads(line) for line in Path(sandbox.root, "mcp.log").read_text().splitlines()]
