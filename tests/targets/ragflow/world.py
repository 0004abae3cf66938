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


class CountedTarget(RagflowTarget):
    """Tells whether something of it is on its way, so that the clock waits for it."""

    @property
    def is_busy(self) -> bool:
        return self._client.gate.in_flight > 0


class RagflowWorld(RemoteWorld):
    """As the world at Zhipu, with the other service."""

    client = CountedTarget

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

    def bytes_by_path(self, *, searchable: bool = False) -> dict[str, list[str]]:
        """By the path in the name that was sent."""
        found: dict[str, list[str]] = {}
        for one in self.documents():
            path = self.path_of(one)
            if path is not None and (one["searchable"] or not searchable):
                found.setdefault(path, []).append(one["sha256"])
        return found
