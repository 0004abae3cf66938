"""A folder mirrored at a bench, with the helpers that the jobs of crash tests need."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any

import apsw

from tests.bench.bench import Bench, SharedBench
from tests.engine.world import World

FILES = 5


class CrashedMirror:
    """A mirror to crash. `kept_path` is that of a file that is edited and moved but never deleted.

    `labels`: files that the target has under an earlier path, which it can't change. `deleted`: texts of
    deleted files whose documents stay, by path.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.kept_path = "kept.md"
        self.sent_before = self.recipes_set = 0
        self.labels: dict[str, str] = {}
        self.deleted: dict[str, str] = {}

    @property
    def world(self) -> World:
        return self.bench.world

    @asynccontextmanager
    async def serving(self, **settings: Any) -> AsyncIterator[CrashedMirror]:
        """Mirror everything, next to another user's document; `settings`: the mirror's."""
        async with self.bench.serving():
            self.world.settings = replace(self.world.settings, **settings)
            self.world.write_many(FILES)
            self.world.write(self.kept_path, "kept")
            await self.world.once()
            if isinstance(self.bench, SharedBench):
                self.bench.add_foreign("guide.md")
            self.world.clock.now += 10
            yield self

    async def tidy(self) -> None:
        """Keep enough files to edit, but few enough that passes don't get longer from turn to turn."""
        files = len(self.world.on_disk())
        if files < FILES:
            self.world.write_many(FILES, f"more{self.world.clock.now:.0f}-")
        elif files > 2 * FILES:
            for path in self.spare(FILES):
                self.delete(path)
        else:
            return
        await self.world.once()

    def spare(self, n: int) -> list[str]:
        """Return some mirrored files that may be edited, moved and deleted."""
        return [path for path in self.world.on_disk() if path != self.kept_path][:n]

    def digests(self) -> dict[str, list[str]]:
        """Return what `documents` of the bench must return."""
        return {
            self.labels.get(path, path): [hashlib.sha256(text.encode()).hexdigest()]
            for path, text in {**self.deleted, **self.world.on_disk()}.items()
        }

    def contents(self) -> str:
        """Return the contents of the state and of the target."""
        state = self.world.state
        files = {
            str(path.relative_to(state)): path.read_bytes()
            for path in sorted(state.rglob("*"))
            if path.is_file() and ".db" not in path.name
        }
        with closing(apsw.Connection(str(state / "state.db"), apsw.SQLITE_OPEN_READONLY)) as connection:
            tables = [
                name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            ]
            rows = {table: list(connection.execute(f'SELECT * FROM "{table}"')) for table in tables}
        # Documents become searchable, or fail to, with time.
        documents = [replace(document, search_result=None, failed=False) for document in self.bench.ours()]
        return repr((files, rows, documents, len(self.bench.uploads())))

    def delete(self, path: str) -> set[str]:
        """Delete a file; return the paths that searches must no longer find."""
        keeps = self.world.settings.deletions.never
        if keeps:
            self.deleted[path] = (self.world.root / path).read_text()
        self.world.delete(path)
        return set() if keeps else {path}

    def move(self, old: str, new: str) -> None:
        """Rename a file. A document that can't be renamed keeps its old path from then on."""
        self.world.move(old, new)
        if self.keeps_names:
            self.labels[new] = self.labels.pop(old, old)

    @property
    def keeps_names(self) -> bool:
        """Whether documents keep their name when the file is renamed."""
        return self.world.settings.renames == "keep" and not self.bench.renames
