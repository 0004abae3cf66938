"""Tests `kbsync mcp` with the protocol's own tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.sandbox import LONGEST, Sandbox
from tests.mcp.test_http import serving
from tests.ports import free_address
from tests.servers.mcp import KNOWN, PASSED, of_node
from tests.servers.probe import compare


def test_mcp_conformance_test_over_http_passes(
    servers: dict[str, Any], sandbox: Sandbox, record_property: Any
) -> None:
    checks = sandbox.root / "checks"
    with serving(sandbox, free_address()) as url:
        words = ("server", "--url", url, "--suite", "all", "-o", checks)
        completed = of_node(Path(servers["mcp"]["environment"]), "conformance", *words, timeout=LONGEST)
    passed, wrong = set[str](), list[str]()
    for file in sorted(checks.glob("server-*/checks.json")):
        # The folder ends with the time, as in server-ping-2026-11-23T09-34-35-981Z.
        scenario = file.parent.name.removeprefix("server-")[:-25]
        matching = [
            load for load in json.loads(file.read_text()) if load["status"] not in ("SUCCESS", "INFO")
        ]
        wrong += [
            f"{scenario}: {check['id']}: {check.get('errorMessage', check['status'])}" for check in matching
        ]
        passed |= set() if matching else {scenario}
    verdict = compare(wrong, KNOWN)
    for message in verdict.known_messages:
        record_property("difference", message)
    assert passed == PASSED, completed.stdout + completed.stderr
    assert verdict.unknown == [] and verdict.idle == []


@pytest.fixture
def inspected(servers: dict[str, Any], sandbox: Sandbox) -> Callable[..., Any]:
    """Return the response to the inspector over stdio, with the settings that assistants get."""
    sandbox.mirror({"ice.md": "The walrus lies on the ice."})
    server = {"command": sys.executable, "args": ["-m", "kbsync", "mcp", "--config", str(sandbox.config)]}
    settings = sandbox.root / "settings.json"
    settings.write_text(json.dumps({"mcpServers": {"notes": server}}))
    program = ("mcp-inspector", "--cli", "--config", settings, "--server", "notes")

    def ask(*words: str) -> Any:
        environment = Path(servers["mcp"]["environment"])
        completed = of_node(environment, *program, *words, env=sandbox.environ({}), timeout=LONGEST)
        assert completed.returncode == 0, completed.stdout + completed.stderr
        assert "Schema portability" not in completed.stderr and 'tool "' not in completed.stderr, (
            completed.stderr
        )
        return json.loads(completed.stdout)

    return ask


def test_inspector_accepts_the_tool_schemas(inspected: Callable[..., Any]) -> None:
    tools = inspected("--method", "tools/list", "--strict")["tools"]
    assert [tool["name"] for tool in tools] == ["search", "get", "list", "status"]


def test_inspector_searches_over_stdio(inspected: Callable[..., Any]) -> None:
    payload = inspected(
        "--method", "tools/call", "--tool-name", "search", "--tool-arg", "query=walrus", "k=1"
    )
    [hit] = payload["structuredContent"]["hits"]
    assert (hit["path"], payload["isError"]) == ("ice.md", False)
    assert "The walrus lies on the ice." in payload["content"][0]["text"]


def test_inspector_lists_and_reads_resources_over_stdio(inspected: Callable[..., Any]) -> None:
    [resource] = inspected("--method", "resources/list")["resources"]
    [content] = inspected("--method", "resources/read", "--uri", resource["uri"])["contents"]
    assert content["text"].strip() == "The walrus lies on the ice."
