"""Tests the tools with a mirror at a service, even when the service is down."""

from __future__ import annotations

import asyncio
import tempfile

import pytest

from kbsync.cli.context import reload
from kbsync.config.model import Config
from kbsync.daemon import Daemon
from kbsync.engine import loop
from kbsync.engine import search as engine_search
from kbsync.targets.http import client
from tests.cli.zhipu import ZhipuSandbox
from tests.index.samples import pdf
from tests.mcp.assistant import choose_installation, client_of, error_of, paths, run_tool, until
from tests.share import long

ICE = {"ice.md": "The walrus lies on the ice.\n"}


def mirror_two_folders(zhipu: ZhipuSandbox) -> None:
    """Mirror one folder to the service and another one into a local base."""
    zhipu.add_mirror("other", {"ice.md": "The walrus of the other folder.\n"})
    zhipu.mirror(ICE)


@long
async def test_text_is_read_from_the_file_when_the_service_does_not_provide_it(zhipu: ZhipuSandbox) -> None:
    zhipu.service.plant("theirs.md", "The walrus of somebody else.")
    files = {**ICE, "shore.pdf": pdf([["The penguin stands on the shore."]])}
    async with client_of(zhipu, files) as client:
        payload = await run_tool(client, "search", query="walrus")
        assert paths(payload) == ["ice.md"]
        number = payload["hits"][0]["document_id"]
        assert (await run_tool(client, "get", document_id=number))["text"] == ICE["ice.md"]
        message = await error_of(client, "get", path="shore.pdf")
        assert "can't return a document's whole text" in message
        zhipu.write("ice.md", "Nothing but water.\n")
        assert "has changed since it was mirrored" in await error_of(client, "get", path="ice.md")


@long
async def test_edited_file_of_equal_length_is_not_returned_as_the_mirrored_text(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror(ICE)
    zhipu.write("ice.md", "The walrus lies on the sea.\n")
    async with client_of(zhipu) as client:
        assert "has changed since it was mirrored" in await error_of(client, "get", path="ice.md")


@long
async def test_text_is_read_only_in_memory(zhipu: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    zhipu.mirror({"ice.md": ICE["ice.md"] * 20_000})
    monkeypatch.setattr(tempfile, "tempdir", str(zhipu.root / "nowhere"))
    async with client_of(zhipu) as client:
        assert "walrus" in (await run_tool(client, "get", path="ice.md"))["text"]


@long
async def test_document_with_a_deleted_file_does_not_suggest_retrying(zhipu: ZhipuSandbox) -> None:
    zhipu.aim("deletions: never")
    zhipu.mirror(ICE)
    (zhipu.docs / "ice.md").unlink()
    zhipu.once()
    async with client_of(zhipu) as client:
        message = await error_of(client, "get", path="ice.md")
    assert "the file is gone; its document is kept" in message and "use `search` for passages" in message
    assert "again" not in message


@long
async def test_unreachable_service_is_named_in_the_answer(zhipu: ZhipuSandbox) -> None:
    async with client_of(zhipu, ICE) as client:
        zhipu.service.leave()
        payload = await run_tool(client, "search", query="walrus")
        assert payload["hits"] == []
        assert any(note.startswith("handbook: not searched: ") for note in payload["notes"])
        # The state can still answer this.
        assert (await run_tool(client, "list"))["files"][0]["path"] == "ice.md"
        zhipu.service.arrive()
        assert paths(await run_tool(client, "search", query="walrus")) == ["ice.md"]


@long
async def test_hanging_service_does_not_delay_other_mirrors_and_is_soon_skipped(
    zhipu: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "NO_RESPONSE_AFTER", 0.3)
    mirror_two_folders(zhipu)
    async with client_of(zhipu) as assistant:
        # This opens both, which takes a while on a busy machine.
        await run_tool(assistant, "search", query="walrus")
        monkeypatch.setattr(engine_search, "PATIENCE", 1.0)
        zhipu.service.play("hang", op="retrieve", times=0)
        reasons = []
        for _ in range(6):
            payload = await run_tool(assistant, "search", query="walrus")
            assert [hit["mirror"] for hit in payload["hits"]] == ["other"]
            reasons += [note for note in payload["notes"] if note.startswith("handbook: not searched: ")]
    assert [reason.endswith("no response within 1 s") for reason in reasons] == [True] * 5 + [False]
    assert reasons[-1].endswith("did not answer; kbsync gave up after 1 s")
    assert zhipu.service.server.requests.by_op["retrieve"] == 1 + 5


@long
async def test_replaced_key_is_used_as_soon_as_the_old_one_is_refused(zhipu: ZhipuSandbox) -> None:
    """While another kbsync mirrors, nothing else reports the new key."""
    zhipu.write("ice.md", "The walrus lies on the ice.\n")
    held = zhipu.config.parent / "zhipu.key"
    held.write_text(f"{zhipu.service.key}\n")
    zhipu.aim(key="api_key_file: zhipu.key")
    zhipu.once()
    held.write_text("kid-4711.the-old-one\n")
    async with client_of(zhipu) as client:
        payload = await run_tool(client, "search", query="walrus")
        assert any(note.startswith("handbook: not searched: ") for note in payload["notes"])
        held.write_text(f"{zhipu.service.key}\n")
        assert paths(await run_tool(client, "search", query="walrus")) == ["ice.md"]


async def test_key_reloaded_by_mirroring_is_used_for_answers(
    zhipu: ZhipuSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    zhipu.write("ice.md", "The walrus lies on the ice.\n")
    held = zhipu.config.parent / "zhipu.key"
    held.write_text("kid-4711.the-old-one\n")
    zhipu.aim(key="api_key_file: zhipu.key")
    installation = choose_installation(zhipu, config=zhipu.config)
    installation.state_dir.mkdir(parents=True)
    configs = list[Config]()
    daemon = Daemon(installation, reload, on_config=configs.append)
    monkeypatch.setattr(loop, "FIRST_RETRY", 0.05)
    running = asyncio.create_task(daemon.run())
    held.write_text(f"{zhipu.service.key}\n")
    await until(lambda: configs or running.done())
    daemon.stop()
    await running
    assert repr(configs[0]) == repr(installation.config) and configs[0] != installation.config


@long
async def test_answering_mirror_is_used_when_the_other_fails(zhipu: ZhipuSandbox) -> None:
    mirror_two_folders(zhipu)
    async with client_of(zhipu) as client:
        payload = await run_tool(client, "search", query="walrus")
        assert {hit["mirror"] for hit in payload["hits"]} == {"handbook", "other"}
        payload = await run_tool(client, "search", query="walrus", mirror="other")
        assert [hit["mirror"] for hit in payload["hits"]] == ["other"]
        assert "set `mirror` to one of them" in await error_of(client, "list", path="guides")
        assert (await run_tool(client, "list"))["files"] == []
        assert len((await run_tool(client, "list", mirror="other"))["files"]) == 1
        assert len((await client.list_resources()).resources) == 2
        zhipu.service.leave()
        payload = await run_tool(client, "search", query="walrus")
        assert [hit["mirror"] for hit in payload["hits"]] == ["other"]
        assert any(note.startswith("handbook: not searched: ") for note in payload["notes"])
        zhipu.service.arrive()
