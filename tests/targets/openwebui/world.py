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


class CountedTarget(OpenWebuiTarget):
    """Tells whether something of it is on its way, so that the clock waits for it."""

    @property
    def is_busy(self) -> bool:
        return self._client.gate.in_flight > 0


class OpenWebuiWorld(RemoteWorld):
    """As the world at Zhipu, with the other service."""

    client = CountedTarget

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

    def bytes_by_path(self, *, searchable: bool = False) -> dict[str, list[str]]:
        """By folder and name as the server shows them, under today's prefix."""
        found: dict[str, list[str]] = {}
        for one in self.documents():
            path = self.path_of(one)
            if path is not None and (one["serving"] or not searchable):
                found.setdefault(path, []).append(one["sha256"])
        return found

    def path_of(self, document: dict[str, Any]) -> str | None:
        prefix, path = self.settings.prefix, str(document["path"])
        is_ours = document["id"] not in self.foreign and path.startswith(prefix)
        return path.removeprefix(prefix) if is_ours else None
