"""A folder, a state, the real client and the stand-in of LightRAG over TCP, all on one clock that jumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kbsync.engine.settings import MirrorSettings
from kbsync.targets.lightrag.config import LightragTargetConfig
from kbsync.targets.lightrag.target import LightragTarget
from kbsync_standin.lightrag import application
from kbsync_standin.server import Server
from tests.remote.world import RemoteWorld
from tests.targets.blocks import block

KEY = "key-for-tests"


class LightragWorld(RemoteWorld):
    """As the world at Zhipu, with a LightRAG server."""

    client = LightragTarget

    def __init__(
        self,
        tmp_path: Path,
        *,
        vectorize: tuple[float, float] = (1.0, 3.0),
        key: str = KEY,
        **settings: Any,
    ) -> None:
        super().__init__(tmp_path, vectorize=vectorize, **settings)
        self.key = key
        self.app = application(key, 7, vectorize, self.app.clock)
        self.server = Server(self.app)
        self.settings = MirrorSettings("docs", self.root, "lightrag")

    def config(self) -> Any:
        place = {"base_url": self.server.url, "api_key": self.key}
        return block(LightragTargetConfig, **place, **self.target_settings)
