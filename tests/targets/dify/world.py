"""A folder, a state, the real client and the stand-in of Dify over TCP, all on one clock that jumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kbsync.engine.settings import MirrorSettings
from kbsync.targets.dify.config import DifyTargetConfig
from kbsync.targets.dify.target import DifyTarget
from kbsync_standin.dify import HOME_ID, application
from kbsync_standin.server import Server
from tests.remote.world import RemoteWorld
from tests.targets.blocks import block

KEY = "dataset-secret-for-tests"


class DifyWorld(RemoteWorld):
    """As the world at Zhipu, with the other vendor."""

    client = DifyTarget

    def __init__(
        self, tmp_path: Path, *, vectorize: tuple[float, float] = (1.0, 3.0), **settings: Any
    ) -> None:
        super().__init__(tmp_path, vectorize=vectorize, **settings)
        self.app = application(KEY, 7, vectorize, self.app.clock)
        self.server = Server(self.app)
        self.settings = MirrorSettings("docs", self.root, "dify")

    def config(self) -> Any:
        place = {"base_url": f"{self.server.url}/v1", "api_key": KEY, "dataset_id": HOME_ID}
        return block(DifyTargetConfig, **place, **self.target_settings)

    def plant(self, name: str, text: str) -> str:
        planted = str(self.app.put_foreign({"name": name, "text": text})["id"])
        self.foreign.add(planted)
        return planted

    def is_searchable(self, document: dict[str, Any]) -> bool:
        return bool(document["searchable"])
