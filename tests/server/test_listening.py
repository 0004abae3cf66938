"""Tests that the listener follows the config."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, NoReturn, cast

import httpx
import pytest

from kbsync.config.model import Config, HttpConfig, MirrorConfig
from kbsync.config.secrets import Secret
from kbsync.config.target import callback_secrets
from kbsync.errors import UsageError
from kbsync.installation import Installation
from kbsync.server import callbacks, health, listener
from kbsync.server.listener import HttpListener, ServerThread
from kbsync.server.metrics import STALLED_AFTER
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from tests.engine.test_watching import until
from tests.ports import free_address
from tests.server.client import TOKEN
from tests.share import long

pytestmark = long


def config(listen: str | None, token: Secret | None = None) -> Config:
    return Config(mirrors=(), http=None if listen is None else HttpConfig(listen, token))


@pytest.fixture
async def listening() -> AsyncIterator[HttpListener]:
    started = HttpListener(Installation(config(None), Path()), {})
    yield started
    await started.end()


async def status(listen: str, path: str = "/metrics", token: str = "") -> int:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{listen}{path}", headers=headers)).status_code


async def is_gone(listen: str) -> bool:
    try:
        await status(listen)
    except httpx.ConnectError:
        return True
    return False


async def test_listens_only_where_the_config_says(listening: HttpListener) -> None:
    listen = free_address()
    await listening.switch_to(config(None))
    assert await is_gone(listen)
    await listening.switch_to(config(listen))
    assert await status(listen) == 200
    await listening.switch_to(config(None))
    assert await is_gone(listen)


async def test_blocked_mirror_loop_is_reported_by_a_responsive_listener(
    listening: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.05)
    listen = free_address()
    await listening.switch_to(config(listen))
    assert httpx.get(f"http://{listen}/healthz").status_code == 200  # this loop is blocked now
    response = httpx.get(f"http://{listen}/readyz", timeout=30)
    assert (response.status_code, response.json()["ready"]) == (503, False)
    listening.monitor._last -= STALLED_AFTER
    assert httpx.get(f"http://{listen}/healthz").status_code == 503


async def test_new_address_with_the_same_port_is_used_or_the_old_one_kept(listening: HttpListener) -> None:
    old = free_address()
    port = old.rpartition(":")[2]
    await listening.switch_to(config(old))
    with pytest.raises(UsageError, match="not an address of this machine"):
        await listening.switch_to(config(f"192.0.2.1:{port}"))
    assert await status(old) == 200
    await listening.switch_to(config(f"127.0.0.2:{port}"))
    assert await status(f"127.0.0.2:{port}") == 200
    assert await is_gone(old)


async def test_unavailable_address_leaves_the_listener_unchanged(listening: HttpListener) -> None:
    old = free_address()
    await listening.switch_to(config(old))
    before = listening._thread
    with socket.create_server(("127.0.0.1", 0)) as occupant, pytest.raises(UsageError, match="is in use"):
        await listening.switch_to(config(f"127.0.0.1:{occupant.getsockname()[1]}"))
    assert listening._thread is before
    assert await status(old) == 200


async def test_token_changes_without_a_gap(listening: HttpListener) -> None:
    listen = free_address()
    await listening.switch_to(config(listen))
    await listening.switch_to(config(listen, Secret(TOKEN)))
    assert await status(listen) == 401
    assert await status(listen, token=TOKEN) == 200
    assert listening._app is not None
    hub = listening._app.hub
    watching = hub.join()
    assert watching is not None
    await listening.switch_to(config(listen, Secret("another-" + TOKEN)))
    await asyncio.sleep(0)
    assert watching.is_over
    hub.leave(watching)
    await listening.switch_to(config(listen))
    assert await status(listen) == 200


async def test_old_address_is_retried_when_neither_is_available(
    listening: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(host: str, _port: int) -> NoReturn:
        raise UsageError(f"{host} is taken")

    old = free_address()
    moved = f"127.0.0.2:{old.rpartition(':')[2]}"
    await listening.switch_to(config(old))
    with monkeypatch.context() as patch:
        patch.setattr(listener, "bind_sockets", refused)
        with pytest.raises(UsageError, match=r"127\.0\.0\.2 is taken"):
            await listening.switch_to(config(moved))
        with pytest.raises(UsageError, match=r"127\.0\.0\.1 is taken"):
            await listening.switch_to(config(old, Secret(TOKEN)))
        await listening._check()
        assert await is_gone(old)
    await listening._check()
    assert await status(old) == 200


async def test_listener_cancelled_during_startup_is_closed(
    listening: HttpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, started, goes_on = ServerThread.start, asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(thread: ServerThread) -> None:
        starts(thread)
        loop.call_soon_threadsafe(started.set)
        goes_on.wait(30)

    monkeypatch.setattr(ServerThread, "start", slow)
    listen = free_address()
    turning = asyncio.create_task(listening.switch_to(config(listen)))
    await started.wait()
    is_listening = not await is_gone(listen)
    turning.cancel()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await turning
    assert is_listening
    assert await is_gone(listen)


class Run:
    """A running mirror that records the polls it was asked to hurry, and can't."""

    def __init__(self) -> None:
        self.hurried: list[set[str]] = []
        self.bound = self

    async def hurry(self, ids: Collection[str]) -> None:
        self.hurried.append(set(ids))
        raise RuntimeError("a mistake of ours does not end the listening")


async def test_callback_reaches_only_its_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "EVERY", 0.0)
    runs = {"handbook": Run(), "faq": Run()}
    listening, listen = HttpListener(Installation(config(None), Path()), cast(Any, runs)), free_address()
    target = ZhipuTargetConfig(api_key=Secret("a.b"), knowledge_id="1", callback_base="https://kb.example")
    mirrors = tuple(MirrorConfig(name, Path("/srv") / name, target=target) for name in (*runs, "gone"))
    await listening.switch_to(Config(mirrors=mirrors, http=HttpConfig(listen)))
    event = {"eventId": "knowledge_construction", "event": {"status": 1, "documentId": "17"}}
    async with httpx.AsyncClient() as client:
        for mirror in mirrors:
            path = f"/callback/{callback_secrets([mirror])[mirror.name].reveal()}"
            response = await client.post(f"http://{listen}{path}", json=event, headers={"host": "kb.example"})
            assert response.status_code == 200
        await until(lambda: runs["faq"].hurried and runs["handbook"].hurried)
        assert runs["handbook"].hurried == runs["faq"].hurried == [{"17"}]
        await client.post(f"http://{listen}/callback/{'0' * 40}", json=event)
    await listening.end()
    assert len(runs["faq"].hurried) == 1
