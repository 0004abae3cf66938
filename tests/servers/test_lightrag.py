"""Tests LightRAG: the suite, comparison with its stand-in, and a folder mirrored by the real program."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.lightrag.config import LightragTargetConfig
from kbsync.targets.lightrag.target import LightragTarget
from kbsync_standin.lightrag import application
from tests.cli.sandbox import Sandbox
from tests.conformance.variants import LightragSuite
from tests.servers.lightrag import KNOWN, PROBES
from tests.servers.probe import Side, compare, differences, stand_in
from tests.servers.world import RealWorld, live
from tests.targets.blocks import block, target_context


def cleared(server: dict[str, Any]) -> None:
    """Delete all documents: the server has only one base, which can't be recreated."""
    with httpx.Client(base_url=server["base_url"], headers={"x-api-key": server["api_key"]}) as client:
        for _ in range(600):
            payload = client.request("DELETE", "/documents").json()
            counts = client.get("/documents/status_counts").json()["status_counts"]
            if payload["status"] == "success" and counts["all"] == 0:
                return
            time.sleep(0.1)
    raise AssertionError(payload)


class LightragRealWorld(RealWorld):
    """The server's only base, emptied. A document without text fails."""

    unknown_id = "nobody~aaaaaaaa.md"

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming().name(path, digest)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        cleared(self.server)
        yield

    async def open(self) -> Target:
        access = {name: self.server[name] for name in ("base_url", "api_key")}
        return LightragTarget(block(LightragTargetConfig, **access), target_context())

    def failing_bytes(self, path: str) -> bytes:
        return b" \n"


class TestLightragServer(LightragSuite):
    @pytest.fixture(autouse=True)
    def _set_server(self, servers: dict[str, Any]) -> None:
        self.server = servers["lightrag"]

    def make_world(self, folder: Path) -> LightragRealWorld:
        return LightragRealWorld(self.server)


def test_stand_in_behaves_like_the_server(servers: dict[str, Any], record_property: Any) -> None:
    server = servers["lightrag"]
    cleared(server)
    headers = {"x-api-key": server["api_key"]}
    real = Side(server["base_url"], headers)
    with stand_in(application(server["api_key"], 1, (1.0, 1.0)), headers) as ours:
        verdict = compare(differences(PROBES, ours, real), KNOWN)
    for message in verdict.known_messages:
        record_property("difference", message)
    assert verdict.unknown == []
    assert verdict.idle == []


def test_folder_is_mirrored(sandbox: Sandbox, servers: dict[str, Any]) -> None:
    server = servers["lightrag"]
    cleared(server)
    live(sandbox, {"type": "lightrag", "base_url": server["base_url"], "api_key": server["api_key"]})


def test_file_renamed_during_a_lost_state_is_found_by_its_new_name(
    sandbox: Sandbox, servers: dict[str, Any]
) -> None:
    server = servers["lightrag"]
    cleared(server)
    waiting = {"poll_first": "200ms", "poll_longest": "1s", "absent_after": "2s"}
    target = {"type": "lightrag", "base_url": server["base_url"], "api_key": server["api_key"]}
    sandbox.configure(f"target: {json.dumps({**target, 'vectorization': waiting})}")
    for bird in ("avocet", "bittern"):
        sandbox.write(f"{bird}.md", f"# The {bird}\n\nThis page tells all that is known of the {bird}.\n")
    sandbox.once()
    shutil.rmtree(sandbox.state)
    (sandbox.docs / "avocet.md").rename(sandbox.docs / "a long-legged bird.md")
    sandbox.once()
    assert sandbox.status()["documents"]["ready"] == 2
    assert sandbox.search("avocet")[0].endswith("a long-legged bird.md")
    verification = sandbox.run("verify", "--json")
    assert verification.code == 0, verification.out
