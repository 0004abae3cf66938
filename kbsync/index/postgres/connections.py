"""Connections to the database, and transactions with all their settings.

Behind a pooler in transaction mode, each transaction may get a different server session. So no transaction
relies on its session: settings are local, locks end with the transaction, and statements aren't prepared.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from kbsync.errors import Halted, Unavailable, Unsure
from kbsync.index.postgres.dsn import may_show_password
from kbsync.index.postgres.errors import (
    OLDEST_EXTENSION,
    OLDEST_SERVER,
    Database,
    connection_error,
    identifier,
    message_of,
    statement_error,
)

ASLEEP = 30
"""Seconds for which a transaction may hold its locks while it waits for a client that may be suspended or
disconnected."""

_WAITING = 2 * ASLEEP  # for a lock: longer than a suspended client can hold it

MAX_SILENCE = 900.0
"""Seconds after which a statement without a response fails.

A proxy, a pooler or a tunnel may keep the connection alive while the server behind it is gone or frozen, and
a commit may wait for a standby that is gone.
"""

_PARAMETERS: dict[str, Any] = {
    "application_name": "kbsync",
    "client_encoding": "utf8",
    "connect_timeout": 10,
    # A server whose machine is gone sends nothing, and by default the kernel waits two hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

_SETTINGS = {
    "idle_in_transaction_session_timeout": f"{ASLEEP}s",
    "lock_timeout": f"{_WAITING}s",
    "jit": "off",  # JIT compilation takes longer than any statement here
    "row_security": "off",  # a policy that hides rows causes an error, not duplicates
    "hnsw.ef_search": "600",
    "hnsw.iterative_scan": "strict_order",
}
_SET = f"""
SELECT set_config('search_path', concat_ws(', ', 'kbsync', quote_ident(nspname), 'pg_temp'), true),
  {", ".join(f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items())},
  nspname, has_schema_privilege(n.oid, 'USAGE'), extversion, to_regclass('kbsync.base') IS NOT NULL
FROM (SELECT) AS one
LEFT JOIN pg_extension ON extname = 'vector' LEFT JOIN pg_namespace n ON n.oid = extnamespace
"""  # noqa: S608


_Row = tuple[Any, ...]

_UNREADABLE = (ValueError, psycopg.DataError)


class _Cursor(psycopg.Cursor[_Row]):
    """A cursor that raises `OperationalError` for a value that can't be read.

    The server or something between damaged it, because each statement's types are known.
    """

    def fetchone(self) -> _Row | None:
        """Return the next row, or None after the last one."""
        try:
            return super().fetchone()
        except _UNREADABLE as error:
            raise _unreadable(error) from error

    def fetchall(self) -> list[_Row]:
        """Return the remaining rows."""
        try:
            return super().fetchall()
        except _UNREADABLE as error:
            raise _unreadable(error) from error

    def __next__(self) -> _Row:
        """Return the next row."""
        try:
            return super().__next__()
        except _UNREADABLE as error:
            raise _unreadable(error) from error


def _unreadable(error: Exception) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"damaged response: {error}")


class Connection(psycopg.Connection[_Row]):
    """A connection that is closed if the server sends nothing for `max_silence` seconds."""

    max_silence: float = MAX_SILENCE
    generation: int = 0

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        """Wait for the server. Raises `OperationalError` if it is silent for too long."""
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        last_response = time.monotonic()
        try:
            event = next(gen)
            while True:
                ready = yield event  # psycopg sends 0 a few times a second
                now = time.monotonic()
                if ready:
                    last_response = now
                elif now - last_response > self.max_silence:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no response for {self.max_silence:.0f} s")
                event = gen.send(ready)
        except StopIteration as end:
            return end.value


class Connections:
    """Opens connections on demand, and keeps idle ones. Calls may come from any thread.

    psycopg_pool isn't used, because it connects in its own threads: a waiting caller would learn that there
    is no connection, but not why.
    """

    def __init__(self, dsn: str, *, read_only: bool = False) -> None:
        """Start without a connection. Raises `Halted` for an invalid dsn."""
        reason = "target.dsn is not valid; write it as postgresql://user:password@host/database"
        try:
            dsn_parameters = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            # The error's text may contain part of the password.
            raise Halted("credentials", reason) from None
        if may_show_password(dsn, dsn_parameters):
            advice = "write special characters in the password as %40, %2F …"
            raise Halted("credentials", f"{reason}; {advice}")
        parameters = _PARAMETERS | dsn_parameters
        self._conninfo = make_conninfo(**parameters)
        self.database = Database(parameters, read_only=read_only)
        self._idle = list[Connection]()
        self._generation = 0  # only connections of the current one are kept
        self._guard = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Close the idle connections now, and busy connections when they are returned. Safe to call more than
        once.
        """
        with self._guard:
            self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        """Close the idle connections now, and busy ones when they are returned."""
        with self._guard:
            idle, self._idle = self._idle, []
            self._generation += 1
        for connection in idle:
            connection.close()

    @contextmanager
    def transaction(self, kind: str = "") -> Iterator[tuple[Connection, bool]]:
        """Run a transaction, which stores everything or nothing. Yield the connection, and whether our
        tables exist.

        `kind` is an option for PostgreSQL's BEGIN. Raises `TargetError`. If the error is `Unsure`, the
        response to COMMIT was lost; otherwise, nothing was stored.
        """
        with self.connection() as connection:
            began = connection.execute(f"BEGIN {kind}; {_SET}")  # one round trip: a search has few
            began.nextset()
            *_, home, is_open, extension, is_made = began.fetchone() or (None,) * 4
            self._require_extension(extension)
            if not is_open:  # the extension's types would be unknown, even if the user may do everything else
                user, home = self.database.user or "kbsync", identifier(home)
                reason = (
                    f"{user} may not use the schema {home} of {self.database}, which contains the "
                    "vector extension"
                )
                grant = self.database.psql(f"GRANT USAGE ON SCHEMA {home} TO {identifier(user)}")
                raise Halted("credentials", reason, fix=grant)
            yield connection, is_made
            try:
                connection.execute("COMMIT")
            except psycopg.OperationalError as error:
                if not connection.broken:
                    raise
                words = message_of(error)
                reason = f"{self.database} did not confirm that everything was stored ({words})"
                raise Unsure(reason, code="commit-unanswered") from error

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Yield a connection that isn't in a transaction. Raises `TargetError`."""
        connection = self._take()
        try:
            yield connection
        except psycopg.Error as error:
            # An administrator's fix, such as ALTER ROLE … SET, affects only new sessions.
            connection.close()
            self._close_idle()
            raise statement_error(self.database, error) from error
        finally:
            self._give_back(connection)

    def _take(self) -> Connection:
        with self._guard:
            if self._is_closed:
                raise Unavailable(f"{self.database} is being closed", code="closed")
            while self._idle:
                connection = self._idle.pop()
                if not _has_ended(connection):
                    return connection
                connection.close()
            generation = self._generation
        try:
            connection = Connection.connect(
                self._conninfo, autocommit=True, prepare_threshold=None, cursor_factory=_Cursor
            )
        except psycopg.Error as error:
            raise connection_error(self.database, error) from error
        unsuitable = self._unsuitable(connection.info)
        if unsuitable is not None:
            connection.close()
            raise unsuitable
        connection.generation = generation
        return connection

    def _unsuitable(self, server: psycopg.ConnectionInfo) -> Halted | None:
        """Return why kbsync can't work with this server, or None if it can. This doesn't send a query."""
        version, encoding = server.server_version // 10_000, server.parameter_status("server_encoding")
        if version < OLDEST_SERVER:
            reason = f"{self.database} is PostgreSQL {version}; kbsync needs {OLDEST_SERVER} or newer"
            return Halted("unsuitable-server", reason, fix=self.database.psql("SELECT version()"))
        if encoding not in (None, "UTF8"):
            # Other encodings can't store every text; in SQL_ASCII a filter would compare bytes, not letters.
            reason = (
                f"{self.database} has the encoding {encoding}, but kbsync needs UTF8; "
                "create another database and use that one"
            )
            name = identifier(f"{self.database.name}_utf8")
            create = f"CREATE DATABASE {name} OWNER {self.database.role} ENCODING 'UTF8' TEMPLATE template0"
            return Halted("unsuitable-server", reason, fix=self.database.psql(create, "postgres"))
        return None

    def _give_back(self, connection: Connection) -> None:
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")
        with self._guard:
            is_idle = connection.info.transaction_status is TransactionStatus.IDLE
            is_kept = is_idle and not self._is_closed and connection.generation == self._generation
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            connection.close()

    def _require_extension(self, version: str | None) -> None:
        """Raise `Halted` if pgvector is missing or too old."""
        least = ".".join(map(str, OLDEST_EXTENSION))
        if version is None:
            reason = f"{self.database} lacks the vector extension (pgvector {least} or newer)"
            raise Halted("unsuitable-server", reason, fix=self.database.psql("CREATE EXTENSION vector"))
        numbers = (int(part) if part.isdecimal() else 0 for part in version.split(".")[:2])
        if tuple(numbers) < OLDEST_EXTENSION:
            reason = (
                f"{self.database} has pgvector {version}, but kbsync needs {least} or newer; "
                "install it, then update the extension with"
            )
            raise Halted("unsuitable-server", reason, fix=self.database.psql("ALTER EXTENSION vector UPDATE"))


def _has_ended(connection: Connection) -> bool:
    """Return whether the server has closed the connection or announced that it will.

    The server doesn't send anything else on an idle connection.
    """
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
