"""Tests OGX: comparison with its stand-in, the suite, and the life of a mirror."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.openai.config import OpenaiTargetConfig
from kbsync.targets.openai.target import OpenaiTarget
from kbsync_standin.openai import application
from tests.cli.sandbox import Sandbox
from tests.conformance.variants import SharedTextsSuite
from tests.conformance.world import SuiteWorld, texts
from tests.servers import models
from tests.servers.openai import KEY, KNOWN, PROBES
from tests.servers.probe import Side, compare, differences, stand_in
from tests.servers.world import RealWorld, live
from tests.targets.blocks import block, target_context


class OgxWorld(RealWorld):
    """Each test has its own store, and controls its model server."""

    chat_model = f"models/{models.CHAT}"
    unknown_id = "file-00000000000000000000000000000000"
    repeats_puts = False

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style="marked").name(path, digest)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self.base = create_store(self.server)
        self.models.clear()
        yield
        self.models.clear()

    async def open(self) -> Target:
        access = {"base_url": self.server["base_url"], "api_key": self.server["api_key"]}
        config = block(
            OpenaiTargetConfig, **access, vector_store_id=self.base, max_bytes=3_000_000, concurrency=16
        )
        return OpenaiTarget(config, target_context())

    def failing_bytes(self, path: str) -> bytes:
        self.models.give(fail_if="spoiled")
        return b"About spoiled things"

    async def recreate(self) -> None:
        await self.target.aclose()
        _ask(self.server, "DELETE", f"/vector_stores/{self.base}")
        self.base = create_store(self.server)
        self.target = await self.open()


def create_store(server: Mapping[str, Any]) -> str:
    return str(_ask(server, "POST", "/vector_stores", json={"name": "tests"})["id"])


def _ask(server: Mapping[str, Any], method: str, path: str, **content: Any) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {server['api_key']}"}
    with httpx.Client(trust_env=False, timeout=30.0) as client:
        response = client.request(method, server["base_url"] + path, headers=headers, **content)
    return dict(response.raise_for_status().json())


class TestOgxItself(SharedTextsSuite):
    @pytest.fixture(autouse=True)
    def _set_server(self, servers: dict[str, Any]) -> None:
        self.server = servers["openai"]

    def make_world(self, folder: Path) -> OgxWorld:
        return OgxWorld(self.server)

    async def test_foreign_file_with_the_same_text_is_found_after_ours_was_deleted(
        self, world: SuiteWorld
    ) -> None:
        [text] = texts(["kestrel"])
        given, store = self.server, cast("OgxWorld", world).base
        part = {"file": ("theirs.md", text.encode())}
        theirs = _ask(given, "POST", "/files", files=part, data={"purpose": "assistants"})["id"]
        attachment = {"file_id": theirs, "attributes": {"team": "support"}}
        _ask(given, "POST", f"/vector_stores/{store}/files", json=attachment)
        [ours] = await world.make_ready(world.document("a.md", text))
        assert await world.target.delete([ours]) == {ours: None}
        result = _ask(given, "POST", f"/vector_stores/{store}/search", json={"query": "kestrel"})["data"]
        assert [hit["filename"] for hit in result] == ["theirs.md"]
        row = _ask(given, "GET", f"/vector_stores/{store}/files/{theirs}")
        assert row["attributes"] == {"team": "support"}


def test_stand_in_behaves_like_the_server(servers: dict[str, Any], record_property: Any) -> None:
    server = servers["openai"]
    ours = application(KEY)
    ours.set_behaviour({"dialect": "ogx"})
    headers = {"authorization": f"Bearer {KEY}"}
    real = Side(server["base_url"].removesuffix("/v1"), headers, {"model": OgxWorld.chat_model})
    with stand_in(ours, headers, {"model": "some-model"}) as side:
        verdict = compare(differences(PROBES, side, real), KNOWN)
    for message in verdict.known_messages:
        record_property("difference", message)
    assert verdict.unknown == [] and verdict.idle == []


def test_mirror_works_at_the_real_server(servers: dict[str, Any], sandbox: Sandbox) -> None:
    server = servers["openai"]
    connection = {"base_url": server["base_url"], "api_key": server["api_key"]}
    live(sandbox, {"type": "openai", **connection, "vector_store_id": create_store(server)})
