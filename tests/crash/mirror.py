"""A folder mirrored at a bench, with what the jobs of crash tests need."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from tests.bench.bench import Bench, SharedBench
from tests.engine.world import World

FILES = 5


class CrashedMirror:
    """`kept` is the path of a file that is edited and moved but never deleted.

    `labels`: files that the target knows by an earlier path, which it cannot change. `gone`: texts of files
    that are deleted and whose documents stay, by path.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.kept = "kept.md"
        self.sent_before = self.recipes_set = 0
        self.labels: dict[str, str] = {}
        self.gone: dict[str, str] = {}

    @property
    def world(self) -> World:
        return self.bench.world

    @asynccontextmanager
    async def serving(self, **settings: Any) -> AsyncIterator[CrashedMirror]:
        """Everything is mirrored, beside a document of somebody else's; `settings`: of the mirror."""
        async with self.bench.serving():
            self.world.settings = replace(self.world.settings, **settings)
            self.world.write_many(FILES)
            self.world.write(self.kept, "kept")
            await self.world.once()
            if isinstance(self.bench, SharedBench):
                self.bench.add_foreign("guide.md")
            self.world.clock.now += 10
            yield self

    async def tidy(self) -> None:
        """Some files to be edited, and not so many that passes grow longer from turn to turn."""
        there = len(self.world.on_disk())
        if there < FILES:
            self.world.write_many(FILES, f"more{self.world.clock.now:.0f}-")
        elif there > 2 * FILES:
            for path in self.spare(FILES):
                self.delete(path)
        else:
            return
        await self.world.once()

    def spare(self, n: int) -> list[str]:
        """Some mirrored files that may be edited, moved and deleted."""
        return [path for path in self.world.on_disk() if path != self.kept][:n]

    def digests(self) -> dict[str, list[str]]:
        """What `documents` of the bench must be."""
        return {
            self.labels.get(path, path): [hashlib.sha256(text.encode()).hexdigest()]
            for path, text in {**self.gone, **self.world.on_disk()}.items()
        }

    def delete(self, path: str) -> set[str]:
        """Delete a file; the paths that are to be found no more."""
        keeps = self.world.settings.deletions.never
        if keeps:
            self.gone[path] = (self.world.root / path).read_text()
        self.world.delete(path)
        return set() if keeps else {path}

    def move(self, old: str, new: str) -> None:
        """Rename a file. A document that keeps its name is known by the old one from then on."""
        self.world.move(old, new)
        if self.keeps_names:
            self.labels[new] = self.labels.pop(old, old)

    @property
    def keeps_names(self) -> bool:
        """A document is left as it is when its file is renamed."""
        return self.world.settings.renames == "keep" and not self.bench.renames
