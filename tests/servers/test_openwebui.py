"""Tests Open WebUI: the suite on the real server, and the life of a mirror."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from kbsync.contract.target import Target
from kbsync.core.names import Naming
from kbsync.targets.openwebui.config import OpenWebuiTargetConfig
from kbsync.targets.openwebui.target import OpenWebuiTarget
from kbsync_standin.openwebui import application
from tests.cli.sandbox import Sandbox, eventually
from tests.conformance.suite import TargetSuite
from tests.docs.pages import ROOT
from tests.servers import models
from tests.servers.openwebui import KNOWN, PROBES, start
from tests.servers.probe import Side, compare, differences, stand_in
from tests.servers.world import ModelOrders, RealWorld, live
from tests.targets.blocks import block, target_context

EXAMPLE = ROOT / "examples" / "open-webui"


class OpenWebuiServer(RealWorld):
    """A separate knowledge base on the server that all tests share."""

    repeats_puts = False
    chat_model = models.CHAT
    unknown_id = "4e741f2c-6b1d-4f0c-9a53-0d3c8e7f2a11"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self.base = create_base(self.server)
        yield
        self.models.clear()

    def name_for(self, path: str, digest: str = "") -> str:
        return Naming(style="marked").name(path, digest)

    async def open(self) -> Target:
        # With four uploads at a time, its SQLite refuses one in a hundred, with an unsure outcome.
        settings = {**target_block(self.server, self.base), "concurrency": 1}
        return OpenWebuiTarget(block(OpenWebuiTargetConfig, **settings), target_context())

    def failing_bytes(self, path: str) -> bytes:
        self.models.give(fail_if="unspeakable")
        return b"About unspeakable things"

    async def recreate(self) -> None:
        await self.target.aclose()
        self.base = create_base(self.server)
        self.target = await self.open()


def create_base(server: Mapping[str, Any]) -> str:
    """The id of a new, empty knowledge base."""
    headers = {"authorization": f"Bearer {server['api_key']}"}
    card = {"name": "docs", "description": "of a test"}
    created = httpx.post(f"{server['base_url']}/api/v1/knowledge/create", json=card, headers=headers)
    return str(created.raise_for_status().json()["id"])


def target_block(server: Mapping[str, Any], base: str) -> dict[str, Any]:
    """The keys of a config block."""
    return {"base_url": server["base_url"], "api_key": server["api_key"], "knowledge_id": base}


class TestOpenWebuiServer(TargetSuite):
    @pytest.fixture(autouse=True)
    def _set_server(self, servers: dict[str, Any]) -> None:
        self.server = servers["openwebui"]

    def make_world(self, folder: Path) -> OpenWebuiServer:
        return OpenWebuiServer(self.server)


def test_stand_in_behaves_like_the_server(servers: dict[str, Any], record_property: Any) -> None:
    settings = servers["openwebui"]
    headers = {"authorization": f"Bearer {settings['api_key']}"}
    real = Side(settings["base_url"], headers, {"model": models.CHAT})
    with stand_in(application(settings["api_key"], 1, (0.5, 1.0)), headers, {"model": "some-model"}) as ours:
        verdict = compare(differences(PROBES, ours, real), KNOWN)
    for difference in verdict.known_messages:
        record_property("difference", difference)
    assert verdict.unknown == []
    assert verdict.idle == []


def test_folder_is_mirrored_despite_kills(servers: dict[str, Any], sandbox: Sandbox) -> None:
    settings = servers["openwebui"]
    live(sandbox, {"type": "openwebui", **target_block(settings, create_base(settings))})


def test_server_killed_while_indexing_ends_up_complete(
    servers: dict[str, Any], sandbox: Sandbox, tmp_path: Path
) -> None:
    """After a restart its files stay `processing` forever; on a separate server, because other tests need
    theirs.
    """
    environment, data = Path(servers["openwebui"]["environment"]), tmp_path / "server"
    waiting = {"poll_first": "200ms", "poll_longest": "1s", "absent_after": "2s", "give_up": "5s"}
    words = ("avocet", "bittern", "curlew")
    for word in words:
        sandbox.write(f"{word}.md", f"# The {word}\n\nAll about the {word}.\n")
    with models.serving() as models_url:
        with start(environment, data, models_url) as given:
            base = create_base(given)
            target = {"type": "openwebui", **target_block(given, base), "vectorization": waiting}
            sandbox.configure(f"target: {json.dumps(target)}")
            ModelOrders(models_url).give(delay=3.0)
            process = sandbox.start("--once")
            eventually(lambda: sandbox.status()["documents"]["indexing"] == len(words))
            os.kill(given["pid"], signal.SIGKILL)
            process.kill()
            process.wait()
        ModelOrders(models_url).clear()
        with start(environment, data, models_url, int(given["base_url"].rpartition(":")[2])) as given:
            sandbox.configure(f"target: {json.dumps(target | target_block(given, base))}")
            assert sandbox.once()["failed"] == 0
            assert sandbox.run("verify").code == 0
            for word in words:
                [hit] = sandbox.run("search", "--json", word).json["hits"][:1]
                assert hit["path"] == f"{word}.md"


def test_copy_being_indexed_during_a_kill_has_its_passages_once(
    servers: dict[str, Any], sandbox: Sandbox, tmp_path: Path
) -> None:
    """kbsync is killed while the server reindexes a text, and while it adds that to the base: the server
    continues.
    """
    environment, data = Path(servers["openwebui"]["environment"]), tmp_path / "server"
    waiting = {"poll_first": "200ms", "poll_longest": "1s", "absent_after": "2s", "give_up": "40s"}
    sandbox.write("first.md", "All about the avocet.\n")
    with models.serving() as models_url, start(environment, data, models_url) as given:
        target = {"type": "openwebui", **target_block(given, create_base(given)), "vectorization": waiting}
        sandbox.configure(f"target: {json.dumps(target)}")
        assert sandbox.once()["failed"] == 0
        for status in (
            "failed",
            "completed",
        ):  # refused before; now indexed with its other text, but not linked
            sandbox.write(f"{status}.md", "All about the avocet.\n")
            ModelOrders(models_url).give(delay=4.0)
            process = sandbox.start("--once")
            [copy] = eventually(partial(being_indexed, given, f"{status}.md", status))
            process.kill()
            process.wait()
            ModelOrders(models_url).clear()
            assert sandbox.once()["failed"] == 0
            assert sandbox.run("verify").code == 0
            # One in its own collection and one in the base; a search would show equal ones once.
            assert passages(data, copy) == 2
        hits = sandbox.run("search", "--json", "avocet").json["hits"]
        assert {hit["path"] for hit in hits} == {"first.md", "failed.md", "completed.md"}


def test_file_that_the_server_left_out_of_the_base_is_linked_instead_of_uploaded_again(
    servers: dict[str, Any], sandbox: Sandbox, tmp_path: Path
) -> None:
    """The base is missing at the moment when the server would link the file."""
    environment, data = Path(servers["openwebui"]["environment"]), tmp_path / "server"
    waiting = {"poll_first": "200ms", "poll_longest": "1s", "absent_after": "2s", "give_up": "40s"}
    sandbox.write("first.md", "All about the avocet.\n")
    with models.serving() as models_url, start(environment, data, models_url) as given:
        base = create_base(given)
        target = {"type": "openwebui", **target_block(given, base), "vectorization": waiting}
        sandbox.configure(f"target: {json.dumps(target)}")
        ModelOrders(models_url).give(delay=3.0)
        process = sandbox.start("--once")
        eventually(lambda: sandbox.status()["documents"]["indexing"] == 1)
        process.kill()
        process.wait()
        [path] = data.rglob("webui.db")
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as database:
            database.execute("UPDATE knowledge SET id = 'hidden' WHERE id = ?", (base,))
            eventually(lambda: [row["data"]["status"] for row in files_of(given)] == ["completed"])
            database.execute("UPDATE knowledge SET id = ? WHERE id = 'hidden'", (base,))
        ModelOrders(models_url).clear()
        assert sandbox.once()["failed"] == 0
        assert sandbox.run("verify").code == 0
        assert len(files_of(given)) == 1
        [hit] = sandbox.run("search", "--json", "avocet").json["hits"]
        assert hit["path"] == "first.md"


def files_of(server: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the files of the user, in any base or in none."""
    headers, query = {"authorization": f"Bearer {server['api_key']}"}, {"filename": "*", "content": "false"}
    rows = httpx.get(f"{server['base_url']}/api/v1/files/user/search", params=query, headers=headers)
    return list(rows.raise_for_status().json())


def being_indexed(server: Mapping[str, Any], name: str, status: str) -> list[str]:
    """Return the ids of files in this status whose text is no longer that of the file."""
    headers, query = {"authorization": f"Bearer {server['api_key']}"}, {"filename": name, "content": "true"}
    rows = httpx.get(f"{server['base_url']}/api/v1/files/user/search", params=query, headers=headers)
    return [
        row["id"]
        for row in rows.raise_for_status().json()
        if row["data"]["status"] == status
        and row["data"].get("content", "").endswith(f", {row['id'][:8]})\n")
    ]


def passages(data: Path, file_id: str) -> int:
    """Return how many passages of a file the server's vector store has."""
    [store] = data.rglob("chroma.sqlite3")
    with closing(sqlite3.connect(store)) as connection:
        count = "SELECT count(*) FROM embedding_metadata WHERE key = 'file_id' AND string_value = ?"
        return int(connection.execute(count, (file_id,)).fetchone()[0])


def test_example_steps_create_and_fill_a_base(servers: dict[str, Any], sandbox: Sandbox) -> None:
    """Runs examples/open-webui/ without containers: its config, with the paths and addresses of this test."""
    settings = servers["openwebui"]
    (sandbox.root / "key").write_text(settings["api_key"])
    text = (EXAMPLE / "kbsync.yaml").read_text()
    elsewhere = {
        "/run/secrets": str(sandbox.root),
        "/data": str(sandbox.docs),
        "/var/lib/kbsync/state": str(sandbox.root / "state"),
        "http://open-webui:8080": settings["base_url"],
    }
    for original, here in elsewhere.items():
        text = text.replace(original, here)
    sandbox.config.parent.mkdir(parents=True, exist_ok=True)
    sandbox.config.write_text(text)
    name = f"Handbook {uuid.uuid4()}"
    result = sandbox.run("kb", "create", name, "--json").check_success()
    sandbox.config.write_text(text.replace("none-yet", result.json["knowledge_base"]["id"]))
    sandbox.write_all({"guides/birds.md": "The kestrel hovers.\n", "copy.md": "The kestrel hovers.\n"})
    assert sandbox.run("plan").code == 0
    assert sandbox.once()["uploaded"] == 2
    results = sandbox.run("search", "kestrel", "--json").json["hits"]
    assert {hit["path"] for hit in results} == {"guides/birds.md", "copy.md"}
    assert sandbox.run("verify").code == 0
    assert sandbox.run("kb", "show", "--json").json["knowledge_base"]["name"] == name
