"""A folder, a state, the real client and the stand-in of RAGFlow over TCP, all on one clock that jumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kbsync.engine.settings import MirrorSettings
from kbsync.targets.ragflow.config import RagflowTargetConfig
from kbsync.targets.ragflow.target import RagflowTarget
from kbsync_standin.ragflow import HOME_ID, application
from kbsync_standin.server import Server
from tests.remote.world import RemoteWorld
from tests.targets.blocks import block

KEY = "ragflow-key-for-tests"


class RagflowWorld(RemoteWorld):
    """As the world at Zhipu, with the other service."""

    client = RagflowTarget

    def __init__(
        self, tmp_path: Path, *, vectorize: tuple[float, float] = (1.0, 3.0), **settings: Any
    ) -> None:
        super().__init__(tmp_path, vectorize=vectorize, **settings)
        self.app = application(KEY, 7, vectorize, self.app.clock)
        self.server = Server(self.app)
        self.settings = MirrorSettings("docs", self.root, "ragflow")

    def config(self) -> Any:
        place = {"base_url": self.server.url, "api_key": KEY, "dataset_id": HOME_ID}
        return block(RagflowTargetConfig, **place, **self.target_settings)

    def plant(self, name: str, text: str) -> str:
        planted = str(self.app.put_foreign({"name": name, "text": text})["id"])
        self.foreign.add(planted)
        return planted

    def is_searchable(self, document: dict[str, Any]) -> bool:
        return bool(document["searchable"])
