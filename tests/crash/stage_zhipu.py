"""The stage whose base is at the stand-in of Zhipu, over TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from kbsync.core.names import Naming
from tests.crash.harness import Guillotine
from tests.crash.stages import SharedStage
from tests.remote.world import RemoteWorld


class ZhipuStage(SharedStage):
    """The service does its work also when the client dies before the answer."""

    effects: ClassVar[Mapping[str, str]] = {
        "upload": "put",
        "delete": "delete",
        "reembed": "reembed",
        "reslice": "reslice",
    }
    stored = ("put effect",)
    accepted = ("put effect", "POST answer", "commit after")

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.world: RemoteWorld = self.make_world(place)
        self._guillotine: Guillotine | None = None
        self._prefixes: set[str] = set()
        self.world.watch(self.effects, self._done)

    target_settings: ClassVar[Mapping[str, Any]] = {"reembed_tries": 1}

    def make_world(self, place: Path) -> RemoteWorld:
        return RemoteWorld(place, **self.target_settings)

    @asynccontextmanager
    async def serving(self, **plan: Any) -> AsyncIterator[Self]:
        async with self.world.serving(), super().serving(**plan) as stage:
            self.world.clock.now += 10
            yield stage

    def _done(self, op: str) -> None:
        self.on_effect()
        if self._guillotine is not None:
            self._guillotine.mark(f"{self.effects[op]} effect")

    def listen(self, guillotine: Guillotine | None) -> None:
        self._guillotine = guillotine
        self.world.at_request = None if guillotine is None else guillotine.boundary

    async def bury(self) -> None:
        await self.world.bury()

    def plant(self) -> None:
        self.world.plant("guide.md", "not ours")

    def touched(self) -> int:
        return len(self.world.foreign - {str(one["id"]) for one in self.world.documents()})

    def documents(self) -> dict[str, list[str]]:
        """A document of ours whose name says nothing under today's prefix is one too many."""
        found = self.world.bytes_by_path()
        ours = len(self.world.documents()) - len(self.world.foreign)
        surplus = ours - sum(map(len, found.values()))
        return {**found, "(another name)": [""] * surplus} if surplus else found

    def recipes(self) -> dict[str, str]:
        naming = Naming(self.world.settings.prefix, self.world.settings.names)
        ours = (one for one in self.world.documents() if str(one["id"]) not in self.world.foreign)
        read = ((naming.read(one["sent_name"]), one["knowledge_type"]) for one in ours)
        return {r.path: f"k{number}" for r, number in read if r is not None and r.path is not None}

    def searchable(self) -> set[str]:
        """Also under names of earlier prefixes."""
        plan = self.world.settings
        self._prefixes.add(plan.prefix)
        found: set[str] = set()
        for prefix in self._prefixes:
            self.world.settings = replace(plan, prefix=prefix)
            found |= set(self.world.bytes_by_path(searchable=True))
        self.world.settings = plan
        return found

    def sent(self) -> list[tuple[str, str]]:
        return [("", entry["sha256"]) for entry in self.world.effects("stored")]

    def asked(self) -> int:
        return self.world.asked()

    def fail_once(self, path: str) -> None:
        """For good: asked again it fails as well, and a fresh upload stands for it."""
        self.world.play("fails", op="upload", match=f"{path.removesuffix('.md')}*", args={"runs": 0})

    def come_late(self) -> None:
        self.world.play("late-effect", op="upload", args={"after": 5})

    def lose(self, path: str) -> None:
        self.world.lose(path)

    def keep_deleted(self) -> None:
        self.world.play("keeps-document", op="delete")

    def heal(self) -> None:
        self.world.server.faults.clear()

    def violations(self) -> list[str]:
        return self.world.app.violations
