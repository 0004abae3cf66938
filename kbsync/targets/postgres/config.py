"""The config block for `type: postgres`, a knowledge base in a PostgreSQL database, and how to open it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from kbsync.config.kinds import Choice
from kbsync.config.secrets import Confidential, Secret
from kbsync.dataclass import dataclass
from kbsync.index.postgres.dsn import read_dsn
from kbsync.targets.indexed.config import IndexedTargetConfig

if TYPE_CHECKING:
    from kbsync.contract.target import Target, TargetContext


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTargetConfig(IndexedTargetConfig):
    """A knowledge base in a PostgreSQL database. Several mirrors and hosts may share it."""

    type: Annotated[
        Literal["postgres"], Choice("`postgres`: a knowledge base in a PostgreSQL database with pgvector")
    ] = "postgres"
    dsn: Annotated[
        Secret,
        Confidential(
            "the database, such as `postgresql://user:password@host/database`, or in libpq's `key=value` "
            "form; if it has a password, use `${NAME}` or `dsn_file`",
            r"postgres(ql)?://[^\s]+|\w+ *= *\S.*",
            "a connection string such as postgresql://user:password@host/database",
        ),
    ]

    shares_base: ClassVar[bool] = True
    searches_all: ClassVar[bool] = True

    def base_key(self, mirror: str) -> tuple[str, ...]:
        """Return a key that two mirrors share if and only if they would use the same knowledge base."""
        return ("postgres", *database_of("" if self.dsn.absent else self.dsn.reveal()))

    def open(self, context: TargetContext) -> Target:
        """Return the knowledge base without creating anything. Connects only with `context.read_only`, for
        which the knowledge base must exist.
        """
        from kbsync.targets.postgres.target import PostgresTarget

        return PostgresTarget.open(self, context, has_to_be=context.read_only)

    def open_for_plan(self, context: TargetContext) -> Target:
        """Return the knowledge base, or an empty one if the first pass hasn't created it yet."""
        from kbsync.targets.postgres.target import PostgresTarget

        return PostgresTarget.open(self, context)


def database_of(dsn: str) -> tuple[str, str, str, str]:
    """Return the host, port, database and service in a connection string, with "" for each missing one."""
    options = read_dsn(dsn)
    host, service = options.get("host") or options.get("hostaddr", ""), options.get("service", "")
    # libpq's default for the database is the user's name; a service may name another one.
    name = options.get("dbname") or ("" if service else options.get("user", ""))
    return host if host.startswith("/") else host.lower(), options.get("port") or "5432", name, service
