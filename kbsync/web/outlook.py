"""Everything the pages show, gathered: from the state by a look of our own, from the mirrors by asking."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kbsync import __version__
from kbsync.config.model import MirrorConfig
from kbsync.web.counting import Counted, Figures
from kbsync.web.frames import Asked, Sight, frame_json, standing, status_json
from kbsync.web.heart import Heart
from kbsync.web.held import HeldList, held_list
from kbsync.web.viewing import View

PATIENCE = 1.0
"""Seconds that the mirrors have to give their counts; then those known before are told."""

Count = Callable[[], Awaitable[Counted]]


class Outlook:
    """What is to be seen. `mirrors` may be replaced at any time; `count` asks the loop of the mirrors.

    Made when kbsync begins, as the counts are. `wall`: epoch seconds, `steady`: monotonic ones.
    """

    def __init__(
        self,
        view: View,
        heart: Heart,
        count: Count,
        cure: Callable[[str], str],
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mirrors: Sequence[MirrorConfig] = ()
        self._view, self._heart, self._count, self._cure, self._wall = view, heart, count, cure, wall
        self._steady, self._began = steady, steady()
        self._known = Counted()

    async def counted(self) -> Counted:
        """What was counted; a loop that stands still is not waited for."""
        try:
            async with asyncio.timeout(PATIENCE):
                self._known = await self._count()
        except TimeoutError:
            pass  # kbsync_loop_silence_seconds tells
        return self._known

    async def figures(self) -> Figures:
        """For monitoring. Raises `StateError`."""
        sight = self._sight()
        mirrors = await self._view.read(lambda tx: [standing(tx, sight, one) for one in sight.mirrors])
        return Figures(mirrors, await self.counted(), self._heart.silence)

    async def status(self, asked: Asked | None = None, name: str | None = None) -> dict[str, Any]:
        """As `kbsync status --json`, of all mirrors or one of them. Raises `StateError`."""
        sight = self._sight(name)
        return await self._view.read(lambda tx: status_json(tx, sight, asked))

    async def frame(self) -> dict[str, Any]:
        """One picture of all there is to see; `running`: seconds since kbsync began. Raises `StateError`."""
        sight = self._sight()
        mirrors, counted = await self._view.read(lambda tx: frame_json(tx, sight)), await self.counted()
        return {
            "version": __version__,
            "at": sight.now,
            "running": round(self._steady() - self._began, 1),
            "silence": round(self._heart.silence, 1) if not self._heart.is_beating else 0.0,
            "mirrors": mirrors,
            "commands": {
                "status": self._cure("status"),
                "status --documents": self._cure("status --documents"),
                "plan": self._cure("plan"),
            },
            "changes": counted.changes,
            "freshness": counted.minutes,
        }

    async def news(self) -> object:
        """Equal to what it was before where nothing is new. Raises `StateError`."""
        counted = await self.counted()
        last = counted.changes[-1]["at"] if counted.changes else None
        return await self._view.version(), last, self._heart.is_beating, self.mirrors

    async def held(self, name: str, kind: str) -> HeldList:
        """The deletions, or the documents to be indexed anew, that wait for a person. Raises `StateError`."""
        return await self._view.read(lambda tx: held_list(tx, name, kind))

    def knows(self, name: str) -> bool:
        """The config has a mirror of this name."""
        return any(one.name == name for one in self.mirrors)

    def _sight(self, name: str | None = None) -> Sight:
        mirrors = [one for one in self.mirrors if name in (None, one.name)]
        return Sight(mirrors, self._cure, self._wall())
