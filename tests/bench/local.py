"""The bench with the built-in knowledge base, whose boundaries are the commits of the index."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import apsw

from kbsync.contract.target import Body, TargetContext
from kbsync.engine.settings import MirrorSettings
from kbsync.errors import Rejected
from kbsync.index.document import Entry, Flavour, Parsed
from kbsync.index.embed import Encoder
from kbsync.index.sqlite.schema import FILE
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget
from tests.bench.bench import Bench, Change, OwnDocument
from tests.crash.harness import Guillotine
from tests.engine.world import World

"""Shared, since it takes long to load."""


class ReportingIndex(Writer):
    """Reports each transaction step to `on_boundary`, and records committed documents."""

    def __init__(
        self, folder: Path, on_boundary: Callable[[str], None], stored: list[tuple[str, str]]
    ) -> None:
        self._on_boundary, self._stored = on_boundary, stored
        self._under_way: list[tuple[str, str]] = []
        super().__init__(folder)

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        self._on_boundary("index begin")
        with super()._transaction() as version:
            yield version
            self._on_boundary("index before")
        self._stored += self._under_way
        self._on_boundary("index after")

    def put(self, entries: Sequence[Entry], encoder: Encoder) -> list[int | Rejected]:
        with self._guard:
            self._under_way = [(entry.path, entry.digest) for entry in entries]
            try:
                return super().put(entries, encoder)
            finally:
                self._under_way = []


class PlainReader:
    """Reads plain text without parser processes; `torn` paths can't be read once."""

    def __init__(self) -> None:
        self.torn: set[str] = set()

    def __call__(self, path: str, body: Body) -> Parsed:
        if path in self.torn:
            self.torn.discard(path)
            raise OSError(errno.EIO, "Input/output error")
        with body.open() as stream:
            return Parsed(stream.read().decode(), Flavour.MARKDOWN)


class LocalWorld(World):
    """The engine's world with the built-in knowledge base in its state directory."""

    in_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = MirrorSettings("docs", self.root, "local")
        self.kb = self.state / "kb"
        self.at_index: Callable[[str], None] = lambda _name: None
        self.stored: list[tuple[str, str]] = []
        self.open_targets: list[LocalTarget] = []
        self.parse = PlainReader()
        self.guillotine: Guillotine | None = None

    async def open_target(self) -> LocalTarget:
        return await asyncio.to_thread(self.open)

    def open(self) -> LocalTarget:
        def store() -> SqliteStore:
            return SqliteStore(
                self.kb, writer=lambda folder: ReportingIndex(folder, self.at_index, self.stored)
            )

        config, context = (
            LocalTargetConfig(max_bytes=100_000),
            TargetContext("docs", self.state, self.state),
        )
        self.open_targets.append(LocalTarget(config, context, store, self.parse))
        return self.open_targets[-1]

    def tap(self, guillotine: Guillotine | None) -> None:
        self.guillotine = guillotine

    async def bury(self) -> None:
        for target in self.open_targets:
            await target.aclose()
        self.open_targets.clear()


class LocalBench(Bench):
    """All documents in its base are ours, and every request ends with a commit of the index."""

    stored = ("index after",)
    accepted = ("index after", "commit after")
    renames = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.world: LocalWorld = LocalWorld(folder)
        self.world.at_index = self._on_boundary
        self._request_count = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[LocalBench]:
        yield self

    def _on_boundary(self, name: str) -> None:
        self._request_count += name == "index begin"
        if name == "index after":
            self.on_change(Change("commit", ""))
        if self.world.guillotine is not None:
            self.world.guillotine.boundary(name)

    def ours(self) -> list[OwnDocument]:
        """Return our documents; one with a chunk missing in the full-text index counts as not searchable."""
        result = (
            "SELECT document.id, path, group_concat(text), group_concat(words_docsize.id IS NOT NULL)"
            " FROM document JOIN run ON document = document.id"
            " JOIN chunk ON chunk.id BETWEEN first AND first + chunks - 1"
            " LEFT JOIN words_docsize ON words_docsize.id = chunk.id GROUP BY document.id"
        )
        with closing(apsw.Connection(str(self.world.kb / FILE), apsw.SQLITE_OPEN_READONLY)) as connection:
            rows = list(connection.execute(result))
        return [
            OwnDocument(
                str(number),
                path,
                path,
                hashlib.sha256(text.encode()).hexdigest(),
                None if "0" in indexed else (path, text),
            )
            for number, path, text, indexed in rows
        ]

    def uploads(self) -> list[tuple[str, str]]:
        return self.world.stored

    def request_count(self) -> int:
        return self._request_count

    def violations(self) -> list[str]:
        return []

    def fail_once(self, path: str) -> None:
        self.world.parse.torn.add(path)

    def heal(self) -> None:
        self.world.parse.torn.clear()
