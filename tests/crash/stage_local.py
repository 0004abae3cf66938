"""The stage of the embedded knowledge base: its own boundaries are the commits of the index."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from kbsync.contract.target import Body
from kbsync.engine.mirror import MirrorRun, RunContext
from kbsync.engine.settings import MirrorSettings
from kbsync.errors import Rejected
from kbsync.index.document import Entry, Flavour, Parsed
from kbsync.index.embed import Encoder, LocalEncoder
from kbsync.index.sqlite.schema import FILE
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.state.store import StateStore
from kbsync.targets.local.target import LocalTarget, limits_of
from tests.crash.harness import Guillotine
from tests.crash.stages import Stage
from tests.engine.world import World

ENCODER = LocalEncoder()
"""One for all, since it takes long to load."""


class ToldIndex(Writer):
    """Tells `at` where each transaction is, and remembers which documents were committed."""

    def __init__(self, folder: Path, at: Callable[[str], None], stored: list[tuple[str, str]]) -> None:
        self._at, self._stored = at, stored
        self._under_way: list[tuple[str, str]] = []
        super().__init__(folder)

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        self._at("index begin")
        with super()._transaction() as version:
            yield version
            self._at("index before")
        self._stored += self._under_way
        self._at("index after")

    def put(self, entries: Sequence[Entry], encoder: Encoder) -> list[int | Rejected]:
        with self._guard:
            self._under_way = [(entry.path, entry.digest) for entry in entries]
            try:
                return super().put(entries, encoder)
            finally:
                self._under_way = []


class Reading:
    """Reads plain text, without processes of a parser; `torn` paths cannot be read once."""

    def __init__(self) -> None:
        self.torn: set[str] = set()

    def __call__(self, path: str, body: Body) -> Parsed:
        if path in self.torn:
            self.torn.discard(path)
            raise OSError(errno.EIO, "Input/output error")
        with body.open() as stream:
            return Parsed(stream.read().decode(), Flavour.MARKDOWN)


class EmbeddedWorld(World):
    """As the engine's world, with the embedded knowledge base in its state directory."""

    in_threads = True

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.settings = MirrorSettings("docs", self.root, "local")
        self.kb = self.state / "kb"
        self.at_index: Callable[[str], None] = lambda _name: None
        self.stored: list[tuple[str, str]] = []
        self.opened: list[LocalTarget] = []
        self.parse = Reading()

    def open(self) -> LocalTarget:
        store = SqliteStore(self.kb, writer=lambda folder: ToldIndex(folder, self.at_index, self.stored))
        self.opened.append(LocalTarget(store, ENCODER, limits_of(100_000), self.parse, self.state))
        return self.opened[-1]

    def make_run(self, store: StateStore) -> MirrorRun:
        async def open_target() -> LocalTarget:
            return await asyncio.to_thread(self.open)

        site = RunContext(self.state, self.configured)
        run = MirrorRun(self.settings, store, open_target, self.clock, site, on_settled=self._check)
        self.runs.append(run)
        return run


class LocalStage(Stage):
    """All documents of its base are ours, and every request ends with a commit of the index."""

    stored = ("index after",)
    accepted = ("index after", "commit after")
    renames = True

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.world: EmbeddedWorld = EmbeddedWorld(place)
        self.world.at_index = self._at
        self._guillotine: Guillotine | None = None
        self._asked = 0

    def _at(self, name: str) -> None:
        self._asked += name == "index begin"
        if name == "index after":
            self.on_effect()
        if self._guillotine is not None:
            self._guillotine.boundary(name)

    def listen(self, guillotine: Guillotine | None) -> None:
        self._guillotine = guillotine

    async def bury(self) -> None:
        for target in self.world.opened:
            await target.aclose()
        self.world.opened.clear()

    def plant(self) -> None:
        """Nobody else has a way in."""

    def touched(self) -> int:
        return 0

    def documents(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path, text in self._rows("SELECT path, group_concat(text) FROM {found} GROUP BY document.id"):
            found.setdefault(path, []).append(hashlib.sha256(text.encode()).hexdigest())
        return found

    def searchable(self) -> set[str]:
        return {path for (path,) in self._rows("SELECT path FROM {found}")}

    def _rows(self, query: str) -> list[tuple[str, ...]]:
        """`found`: documents with those of their chunks that the full-text index has."""
        found = (
            "document JOIN run ON document = document.id"
            " JOIN chunk ON chunk.id BETWEEN first AND first + chunks - 1"
            " JOIN words_docsize ON words_docsize.id = chunk.id"
        )
        with closing(apsw.Connection(str(self.world.kb / FILE), apsw.SQLITE_OPEN_READONLY)) as connection:
            return list(connection.execute(query.format(found=found)))

    def sent(self) -> list[tuple[str, str]]:
        return self.world.stored

    def asked(self) -> int:
        return self._asked

    def fail_once(self, path: str) -> None:
        self.world.parse.torn.add(path)

    def come_late(self) -> None:
        """Nothing that a dead process began goes on."""

    def heal(self) -> None:
        self.world.parse.torn.clear()

    def violations(self) -> list[str]:
        return []
