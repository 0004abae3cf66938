"""A folder, a state, the real client and the stand-in of GPTBots over TCP, all on one clock that jumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kbsync.engine.settings import MirrorSettings
from kbsync.targets.gptbots.config import MARKER_BASE, GptbotsTargetConfig
from kbsync.targets.gptbots.target import GptbotsTarget
from kbsync_standin.gptbots import HOME_ID, application
from kbsync_standin.server import Server
from tests.remote.world import RemoteWorld
from tests.targets.blocks import block

KEY = "app-secret-for-tests"


class GptbotsWorld(RemoteWorld):
    """As the world at Zhipu, with the other vendor."""

    client = GptbotsTarget

    def __init__(
        self, tmp_path: Path, *, vectorize: tuple[float, float] = (1.0, 3.0), **settings: Any
    ) -> None:
        super().__init__(tmp_path, vectorize=vectorize, **settings)
        self.app = application(KEY, 7, vectorize, self.app.clock)
        self.server = Server(self.app)
        self.settings = MirrorSettings("docs", self.root, "gptbots")

    def config(self) -> Any:
        place = {"base_url": self.server.url, "api_key": KEY, "knowledge_base_id": HOME_ID}
        return block(GptbotsTargetConfig, **place, **self.target_settings)

    def plant(self, name: str, text: str, source_url: str = "") -> str:
        given = {"name": name, "text": text, "source_url": source_url}
        planted = str(self.app.put_foreign(given)["id"])
        self.foreign.add(planted)
        return planted

    def documents(self) -> list[dict[str, Any]]:
        return [one for one in self.app.snapshot()["documents"] if not one["deleted"]]

    def bytes_by_path(self, *, searchable: bool = False) -> dict[str, list[str]]:
        """By the path in the marker that the vendor shows, under today's prefix."""
        found: dict[str, list[str]] = {}
        for one in self.documents():
            path = self.path_of(one)
            if path is not None and (one["serving"] or not searchable):
                found.setdefault(path, []).append(one["serving" if searchable else "sha256"])
        return found

    def path_of(self, document: dict[str, Any]) -> str | None:
        path = unquote(urlsplit(document["source_url"]).path).removeprefix("/")
        is_ours = document["source_url"].startswith(MARKER_BASE) and path.startswith(self.settings.prefix)
        return path.removeprefix(self.settings.prefix) if is_ours else None
