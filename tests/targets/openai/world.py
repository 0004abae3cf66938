"""A folder, a state, the real client and the stand-in of OpenAI over TCP, all on one clock that jumps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kbsync.engine.settings import MirrorSettings
from kbsync.targets.openai.config import OpenaiTargetConfig
from kbsync.targets.openai.shapes import mark_in
from kbsync.targets.openai.target import OpenaiTarget
from kbsync_standin.openai import HOME_ID, application
from kbsync_standin.server import Server
from tests.remote.world import RemoteWorld
from tests.targets.blocks import block

KEY = "sk-secret-for-tests"


class OpenaiWorld(RemoteWorld):
    """As the world at Zhipu, with the other vendor."""

    client = OpenaiTarget

    def __init__(
        self,
        tmp_path: Path,
        *,
        vectorize: tuple[float, float] = (1.0, 3.0),
        dialect: str = "openai",
        **settings: Any,
    ) -> None:
        super().__init__(tmp_path, vectorize=vectorize, **settings)
        self.app = application(KEY, 7, vectorize, self.app.clock)
        self.app.set_behaviour({"dialect": dialect})
        self.server = Server(self.app)
        self.settings = MirrorSettings("docs", self.root, "openai")

    def config(self) -> Any:
        place = {"base_url": f"{self.server.url}/v1", "api_key": KEY, "vector_store_id": HOME_ID}
        return block(OpenaiTargetConfig, **place, **self.target_settings)

    def plant(self, name: str, text: str, attributes: dict[str, Any] | None = None) -> str:
        planted = str(self.app.put_foreign({"name": name, "text": text, "attributes": attributes})["id"])
        self.foreign.add(planted)
        return planted

    def documents(self) -> list[dict[str, Any]]:
        return [one for one in self.app.snapshot()["documents"] if one["base"] == HOME_ID]

    def orphans(self) -> list[str]:
        """Names of files of ours that are attached nowhere."""
        attached = {one["id"] for one in self.app.snapshot()["documents"]}
        files = self.app.snapshot()["files"]
        return [one["name"] for one in files if one["id"] not in attached | self.foreign]

    def is_searchable(self, document: dict[str, Any]) -> bool:
        return bool(document["status"] == "completed")

    def path_of(self, document: dict[str, Any]) -> str | None:
        mark = mark_in(document)
        if mark is None or not mark.path.startswith(self.settings.prefix):
            return None
        return mark.path.removeprefix(self.settings.prefix)
