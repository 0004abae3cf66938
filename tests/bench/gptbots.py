"""The bench whose base is at the stand-in of GPTBots: documents are changed in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from kbsync.targets.gptbots import shapes
from kbsync.targets.gptbots.config import MARKER_BASE
from kbsync_standin.gptbots.bot import BotDocument
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ZhipuBench, lose_state
from tests.targets.gptbots.world import GptbotsWorld


class GptbotsBench(ZhipuBench):
    """What is ours is told by the marker. There is nothing that it indexes again when asked."""

    ops: ClassVar[Mapping[str, str]] = {"put": "[au]*", "rename": "update"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        "lost": ("lost-answer", {}),
        "done": ("lost-answer", {}),
        "down": ("rate-limited", {}),
        "refused": ("refused-item", {}),
        "full": ("code", {"code": 50111, "message": "insufficient credits"}),
    }
    effects: ClassVar[Mapping[str, str]] = {"add": "put", "update": "put", "delete": "delete"}
    watched = ("status", "list")
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"adoption": lose_state}
    unkept = "keeps-documents"
    accepted = ("put effect", "PUT answer", "commit after")

    world: GptbotsWorld

    def _tell_new(self) -> None:
        for entry in self._new_entries():
            one = self.world.app.documents[entry["id"]]
            if one.id in self.world.foreign and entry["effect"] in ("updated", "deleted"):
                self._touched.append(f"a document of somebody else's: {entry['effect']} {one.name}")
            version = one.coming or one.serving
            if entry["effect"] == "deleted" or version is None:
                self.on_change(Change(entry["effect"], self._path_in(one.source_url)))
            else:
                path, text = self._path_in(version.source_url), version.content.decode()
                self.on_change(Change(entry["effect"], path, text, version.fails))

    def _path_in(self, url: str) -> str:
        """Of the file, whatever prefix was before it."""
        told = shapes.read_marker(MARKER_BASE, url)
        path = url if told is None else told.path
        return path.removeprefix(next(one.prefix for one in self._namings() if path.startswith(one.prefix)))

    def ours(self) -> list[OwnDocument]:
        alive = self.world.app.present()
        return [self._kept_here(one) for one in alive if one.id not in self.world.foreign]

    def _kept_here(self, one: BotDocument) -> OwnDocument:
        one.catch_up(self.world.app.clock.now())
        latest, serving = one.coming or one.serving, one.serving
        shown = serving and (self._path_in(serving.source_url), serving.content.decode())
        return OwnDocument(
            one.id, one.name, self._path_in(one.source_url), latest.sha256 if latest else "", shown
        )

    def sent(self) -> list[tuple[str, str]]:
        journal = self.world.app.journal()
        return [(one["name"], one["sha256"]) for one in journal if one["effect"] in ("stored", "updated")]

    def fail_once(self, path: str) -> None:
        self.world.play("fails", match=f"*{path}*", args={"name": path})

    def come_late(self, path: str, after: float = 5.0) -> None:
        for op in ("add", "update"):
            name = path.replace("/", "__")
            self.world.play("late-effect", op=op, match=f"*{name}*", args={"after": after})

    def provoke(self, op: str) -> None:
        """Every operation is asked for as it is."""
