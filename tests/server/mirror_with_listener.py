"""A mirror of a folder into an in-memory knowledge base, with the complete listener."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kbsync.config.model import Config, HttpConfig, MirrorConfig
from kbsync.config.secrets import Secret
from kbsync.contract.searching import Explanation, Hit, Query
from kbsync.contract.target import Target
from kbsync.installation import Installation
from kbsync.once import run_once
from kbsync.server.app import CSRF_HEADER, ListenerApp
from kbsync.server.auth import AccessControl
from kbsync.server.listener import HttpListener
from kbsync.state import lock
from kbsync.state.store import StateStore
from tests.engine.test_changed_settings import set_to
from tests.engine.world import World
from tests.server.client import request


class MirrorWithListener:
    """`app`: the listener's application, called without a network. `posted`: the messages in the inbox."""

    def __init__(self, world: World, token: str = "") -> None:
        self.world = world
        self.token = token
        self.runs: dict[str, Any] = {}
        config = Config(mirrors=(MirrorConfig("docs", world.root),))
        installation = Installation(config, world.state, ("--config", "/srv/my kb.yaml"))
        self.listening = HttpListener(installation, self.runs)
        self.csrf_token = ""
        self.store: StateStore | None = None

    @property
    def app(self) -> AccessControl:
        return self.listener_app.access

    @property
    def listener_app(self) -> ListenerApp:
        assert self.listening._app is not None
        return self.listening._app

    @asynccontextmanager
    async def open(self) -> AsyncIterator[MirrorWithListener]:
        """Open a mirror that has its store and isn't started."""
        async with self.world.running() as self.store:
            self.make_run()
            self.make_app()
            try:
                with lock.held(self.world.state):
                    yield self
            finally:
                self.listener_app.state_reader.close()

    def make_run(self) -> None:
        """Create the mirror's run for the world's current plan."""
        assert self.store is not None
        run = self.runs["docs"] = self.world.make_run(self.store)
        self.listening.counters.attend(run)

    def make_app(self) -> None:
        """Create the application as `switch_to` does, without sockets."""
        http = HttpConfig("127.0.0.1:1", Secret(self.token) if self.token else None)
        self.listening._app = app = self.listening._make_app(http)
        app.views._wall = self.world.clock.wall

    async def mirrored(self, files: int = 0) -> None:
        """Add files and run the pass that mirrors everything."""
        self.world.write_many(files)
        await run_once(self.runs["docs"])

    @asynccontextmanager
    async def target(self) -> AsyncIterator[Target]:
        """Yield the mirror's target while it is open."""
        async with self.runs["docs"].bind() as bound:
            assert bound is not None
            yield bound.target

    @asynccontextmanager
    async def answering(
        self, search: Sequence[Hit] | Callable[[Query], Sequence[Hit]], text: str = ""
    ) -> AsyncIterator[Target]:
        """Yield the mirror's open target: searches find these hits, and each document has this text."""

        async def find(query: Query) -> Sequence[Hit]:
            return search(query) if callable(search) else search

        async def explained(_remote_id: str) -> Explanation:
            return Explanation(1, text)

        async with self.target() as target:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(target, "search", find)
                patch.setattr(target, "explain", explained, raising=False)
                yield target

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await request(self.app, "GET", path, **headers)

    async def json(self, path: str) -> Any:
        response = await self.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        """Send a command with the page's token."""
        self.csrf_token = self.csrf_token or (await self.get("/api/status")).headers[CSRF_HEADER]
        settings = {"content-type": "application/json", CSRF_HEADER: self.csrf_token, **headers}
        return await request(self.app, "POST", path, content, **{k: v for k, v in settings.items() if v})

    def inbox(self) -> list[tuple[str, Any]]:
        waiting = self.world.read_state(lambda tx: tx.inbox.waiting("docs"))
        return [(message.verb, message.args) for message in waiting]


def samples(text: str) -> dict[str, float]:
    """Return every sample of a Prometheus text, by its name with labels."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


async def renewed(opened: MirrorWithListener) -> None:
    """Change the chunk size for all documents, which needs approval where it costs money."""
    await opened.mirrored(12)
    set_to(opened.world, 2)
    opened.make_run()
    await opened.mirrored()


def mirror_with_listener(tmp_path: Path, token: str = "", **limits: Any) -> MirrorWithListener:
    """Return a mirror whose world runs blocking calls in threads, as the page's reads do too."""
    world = World(tmp_path, **limits)
    world.in_threads = True
    return MirrorWithListener(world, token)
