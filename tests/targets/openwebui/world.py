"""A folder, a state, the real client and the stand-in of Open WebUI over TCP, all on one clock that jumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kbsync.engine.settings import MirrorSettings
from kbsync.targets.openwebui.config import OpenWebuiTargetConfig
from kbsync.targets.openwebui.target import OpenWebuiTarget
from kbsync_standin.openwebui import HOME_ID, application
from kbsync_standin.server import Server
from tests.remote.world import RemoteWorld
from tests.targets.blocks import block

KEY = "sk-for-tests"


class OpenWebuiWorld(RemoteWorld):
    """As the world at Zhipu, with the other service."""

    client = OpenWebuiTarget

    def __init__(
        self, tmp_path: Path, *, vectorize: tuple[float, float] = (0.5, 2.0), **settings: Any
    ) -> None:
        super().__init__(tmp_path, vectorize=vectorize, **settings)
        self.app = application(KEY, 7, vectorize, self.app.clock)
        self.server = Server(self.app)
        self.settings = MirrorSettings("docs", self.root, "openwebui")

    def config(self) -> Any:
        place = {"base_url": self.server.url, "api_key": KEY, "knowledge_id": HOME_ID}
        return block(OpenWebuiTargetConfig, **place, **self.target_settings)

    def plant(self, name: str, text: str, folder: str = "") -> str:
        planted = str(self.app.put_foreign({"name": name, "text": text, "folder": folder})["id"])
        self.foreign.add(planted)
        return planted

    def documents(self) -> list[dict[str, Any]]:
        """What is in the base, and what is on its way there."""
        there = [one for one in self.app.snapshot()["documents"] if not one["deleted"]]
        return [one for one in there if one["linked"] or one["status"] in ("pending", "processing")]

    def is_searchable(self, document: dict[str, Any]) -> bool:
        return bool(document["serving"])

    def path_of(self, document: dict[str, Any]) -> str | None:
        prefix, path = self.settings.prefix, str(document["path"])
        is_ours = document["id"] not in self.foreign and path.startswith(prefix)
        return path.removeprefix(prefix) if is_ours else None
