"""The built-in knowledge base as a target: an index in one folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kbsync.contract.target import Base, DocState, DocStatus, Listed, TargetContext
from kbsync.index import better as better_vectors
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import Writer
from kbsync.targets.indexed.target import IndexedTarget, encoder_of, limits_of
from kbsync.threads import in_thread

if TYPE_CHECKING:
    from kbsync.index.pipeline import Parse
    from kbsync.index.scans import Recognize
    from kbsync.targets.local.config import LocalTargetConfig


class LocalTarget(IndexedTarget):
    """A knowledge base in one folder. Open it with `LocalTarget.open`."""

    kind = "local"

    @classmethod
    def open(
        cls,
        config: LocalTargetConfig,
        context: TargetContext,
        parse: Parse | None = None,
        recognize: Recognize | None = None,
        better: better_vectors.BetterModel | None = None,
    ) -> LocalTarget:
        """Open the knowledge base in the folder of `config` without loading a model. If it doesn't exist,
        create it.

        With `context.read_only`, nothing is locked or written, and `UsageError` is raised if nothing has been
        mirrored yet. Otherwise, raises `StateError` if another process has opened it for writing or the
        folder isn't writable.
        """
        folder = config.folder(context.state_dir, context.mirror)
        writer = None if context.read_only else Writer
        if config.embedding.type == "builtin" and better is None and better_vectors.is_installed():
            better = better_vectors.E5(context.spool_dir)
        store = partial(SqliteStore, folder, writer=writer)
        target = cls(config, context, store, parse, folder, recognize, better)
        if better is not None and not context.read_only:
            opened = target._store
            assert isinstance(opened, SqliteStore)
            target._filler = better_vectors.Filler(
                opened, target._encoder.model, better, lambda: target._is_idle
            )
        return target

    async def erase(self) -> None:
        """Erase deleted words, which a daemon would do in the background."""
        assert isinstance(self._store, SqliteStore)
        await in_thread(self._store.erase)


class Unmade(LocalTarget):
    """An empty knowledge base. `plan` uses it before the first pass, because it never creates a knowledge
    base.
    """

    def __init__(self, config: LocalTargetConfig) -> None:
        """Set only what `limits` and `recipe` need."""
        self._encoder = encoder_of(config)
        self._limits = limits_of(config.max_bytes, pictures=self._encoder.takes_pictures)

    @property
    def revision(self) -> None:
        """Return None, because there are no changes to count yet."""

    async def base(self) -> Base:
        """Return a base without an id."""
        return Base("", 0)

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return MISSING for each id, because an earlier knowledge base's folder may have been deleted."""
        return dict.fromkeys(ids, DocStatus(DocState.MISSING))

    async def list(self) -> AsyncIterator[Listed]:
        """Yield nothing."""
        for row in list[Listed]():
            yield row

    async def aclose(self) -> None:
        """Do nothing."""
