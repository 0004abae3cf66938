"""A knowledge base in PostgreSQL as a target: an index that several hosts share."""

from __future__ import annotations

import os
from collections.abc import Hashable
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from kbsync import install_command
from kbsync.contract.target import TargetContext
from kbsync.errors import UsageError
from kbsync.index.errors import storage_error
from kbsync.index.pipeline import Parse
from kbsync.index.store import Store
from kbsync.permissions import make_private_folder, open_private
from kbsync.targets.indexed.target import IndexedTarget

if TYPE_CHECKING:
    from kbsync.config.secrets import Secret
    from kbsync.targets.postgres.config import PostgresTargetConfig


OWNER_FILE = "owner"
"""The file with the mirror's token, in `kb/<mirror>` under the state directory."""


class PostgresTarget(IndexedTarget):
    """A knowledge base in one PostgreSQL database."""

    kind = "postgres"
    _dsn: Secret
    _token: UUID | None

    @classmethod
    def open(
        cls,
        config: PostgresTargetConfig,
        context: TargetContext,
        parse: Parse | None = None,
        *,
        has_to_be: bool = False,
    ) -> PostgresTarget:
        """Open the knowledge base in the database of `config`, without loading a model.

        This connects only if `has_to_be` is set, which requires an existing knowledge base. Raises
        `UsageError` if there is none, if psycopg isn't installed, or if the password can't be read.
        """

        def store() -> Store:
            try:
                from kbsync.index.postgres.store import Owner, PostgresStore
            except ImportError as error:
                raise UsageError(
                    f"target.type: postgres needs the `psycopg` package ({error}); install it alongside "
                    f"kbsync: {install_command('psycopg')}"
                ) from error
            owner = Owner(context.prefix, token_of(context), context.mirror, str(context.folder))
            opened = PostgresStore(config.dsn.reveal(), owner, read_only=context.read_only)
            if has_to_be:
                try:
                    with opened.snapshot():
                        return opened
                except BaseException:
                    opened.close()
                    raise
            return opened

        target = cls(config, context, store, parse)
        target._dsn, target._token = config.dsn, token_of(context)
        return target

    @property
    def reach(self) -> Hashable:
        """The scope of a search: the database, as seen by one database user, with one model's vectors.

        Mirrors with equal values share a search.
        """
        return self.kind, self._dsn, self.scale

    @property
    def owner(self) -> str | None:
        """The token that marks this mirror's documents in the database."""
        return None if self._token is None else str(self._token)


def token_of(context: TargetContext) -> UUID | None:
    """Return the token that identifies the mirror in the database, even if its prefix changes.

    If there is no token yet, create one, except with `context.read_only`. Raises `TargetError` if the new
    token can't be written.
    """
    folder = context.state_dir / "kb" / context.mirror
    file = folder / OWNER_FILE
    try:
        # ValueError: the process ended while writing the file.
        with suppress(FileNotFoundError, NotADirectoryError, ValueError):
            return UUID(file.read_text())
        if context.read_only:
            return None
        token = uuid4()
        make_private_folder(folder)
        with os.fdopen(open_private(file, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), "w") as stream:
            stream.write(str(token))
            stream.flush()
            os.fsync(stream.fileno())
        return token
    except OSError as error:
        raise storage_error(folder, error) from error
