"""The stand-in of GPTBots as the other side of the state machine: documents are changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.targets.gptbots import shapes
from kbsync.targets.gptbots.config import MARKER_BASE
from kbsync_standin.gptbots import application
from kbsync_standin.gptbots.bot import Document, Version
from kbsync_standin.messages import StandInClock
from kbsync_standin.server import Server
from tests.engine.side import STRANGE, Change, Kept
from tests.remote.side import ZhipuSide
from tests.targets.gptbots.world import KEY, GptbotsWorld


class SteadyGptbots(GptbotsWorld):
    """The clock of this machine may be set without that of the service."""

    def __init__(self, place: Path, vectorize: tuple[float, float], **settings: Any) -> None:
        super().__init__(place, vectorize=vectorize, **settings)
        clock = self.clock
        self.app = application(KEY, 7, vectorize, StandInClock(lambda: clock.started + clock.now))
        self.server = Server(self.app)


class GptbotsSide(ZhipuSide):
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

    @property
    def _shelf(self) -> Any:
        return self.world.app._bot.shelf  # type: ignore[attr-defined]

    def _tell_new(self) -> None:
        new = self.world.app.journal()[self._told :]
        self._told += len(new)
        for entry in new:
            self._tell_of(entry["effect"], self._shelf.documents[entry["id"]])

    def _tell_of(self, effect: str, one: Document) -> None:
        if one.id in self.world.foreign:
            self._touched.append(f"a document of somebody else's: {effect} {one.name}")
        version = one.coming or one.serving
        if effect == "deleted" or version is None:
            self.on_change(Change(effect, self._path_in(one.source_url)))
        else:
            path = self._path_in(version.source_url)
            self.on_change(Change(effect, path, version.content.decode(), version.fails))

    def _path_in(self, url: str) -> str:
        """Of the file, whatever prefix was before it."""
        told = shapes.read_marker(MARKER_BASE, url)
        path = url if told is None else told.path
        begun = [naming.prefix for naming in self._namings if path.startswith(naming.prefix)]
        return path.removeprefix(begun[0])

    def ours(self) -> list[Kept]:
        return [self._kept_here(one) for one in self._shelf.alive() if one.id not in self.world.foreign]

    def _kept_here(self, one: Document) -> Kept:
        one.get_on(self.world.app.clock.now())
        return Kept(one.id, one.name, self._path_in(one.source_url), self._shown(one.serving))

    def _shown(self, version: Version | None) -> tuple[str, str] | None:
        return version and (self._path_in(version.source_url), version.content.decode())

    def add_foreign(self, name: str) -> None:
        self.world.plant(name, STRANGE)
        self._told = len(self.world.app.journal())

    def take_away(self, one: Kept) -> None:
        self._shelf.documents[one.id].deleted_at = self.world.app.clock.now()

    def story(self) -> list[str]:
        return [*map(repr, self.world.app.journal()[-40:]), repr(self.world.server.faults.all)]
