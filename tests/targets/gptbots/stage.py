"""The stage of crash tests whose base is at the stand-in of GPTBots, over TCP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.crash.stage_zhipu import ZhipuStage
from tests.targets.gptbots.world import GptbotsWorld


class GptbotsStage(ZhipuStage):
    """Documents are changed in place, and what a list shows of them is our marker."""

    effects: ClassVar[Mapping[str, str]] = {"add": "put", "update": "put", "delete": "delete"}
    accepted = ("put effect", "PUT answer", "commit after")

    def make_world(self, place: Path) -> GptbotsWorld:
        return GptbotsWorld(place, reembed_tries=1)

    def recipes(self) -> dict[str, str]:
        return {}

    def sent(self) -> list[tuple[str, str]]:
        journal = self.world.app.journal()
        return [(one["name"], one["sha256"]) for one in journal if one["effect"] in ("stored", "updated")]

    def fail_once(self, path: str) -> None:
        self.world.play("fails", match=f"*{path}*", args={"name": path})

    def come_late(self) -> None:
        for op in ("add", "update"):
            self.world.play(
                "late-effect", op=op, match=f"*{self.kept.replace('/', '__')}*", args={"after": 5}
            )

    def keep_deleted(self) -> None:
        self.world.play("keeps-documents", op="delete")
