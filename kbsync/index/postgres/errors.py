"""Turns PostgreSQL's errors into messages with fixes (ADR 27)."""

from __future__ import annotations

import getpass
import os
import re
import shlex
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

from kbsync.errors import Halted, Rejected, TargetError, Unavailable

OLDEST_SERVER, OLDEST_EXTENSION = 15, (0, 8)
"""Minimum versions: pgvector 0.7 adds `halfvec`, and 0.8 adds index scans that continue when a filter removes
hits."""

_INDEX_GONE = ("42P01", "3F000", "42703")  # a missing table, schema or column
_RIGHTS = ("42501", "28000", "28P01")
TIMEOUTS = {"57014": "statement_timeout", "25P04": "transaction_timeout"}
"""The settings whose limits the server reports with these SQLSTATEs."""

_NEEDS_NO_QUOTES = re.compile("[a-z_][a-z0-9_]*")
_UNSTORABLE = ("22", "54")  # SQLSTATE classes: malformed values, and exceeded limits

# libpq has no code for an error during connect, so kbsync reads the message. If the server uses a different
# language, kbsync tries again and shows the message.
_NO_DATABASE = re.compile(r'database "[^"]*" does not exist')
_REFUSED = re.compile(
    r'authentication failed|no password supplied|role "[^"]*" does not exist|no pg_hba.conf entry'
)


class Database:
    """The database as shown in messages and commands, always without its password."""

    def __init__(self, parameters: Mapping[str, Any], *, read_only: bool = False) -> None:
        """Describe the database with these `parameters`, which use libpq's names.

        `read_only`: kbsync won't change anything in it.
        """
        self.read_only = read_only
        self.user = str(parameters.get("user") or "")
        self.name = str(parameters.get("dbname") or self.user or "postgres")
        self._host, self._port = str(parameters.get("host") or ""), str(parameters.get("port") or "")

    def __str__(self) -> str:
        host = f" at {self._host}" if self._host else ""
        return f"the database {self.name}{host}{f':{self._port}' if self._host and self._port else ''}"

    @property
    def address(self) -> str:
        """Return a URL that is the same no matter how the database's connection string is written."""
        return f"postgresql://{self._host.lower()}:{self._port or 5432}/{self.name}"

    @property
    def role(self) -> str:
        """Return the connecting role, quoted as an identifier."""
        return identifier(self.user or os.environ.get("PGUSER") or getpass.getuser())

    def fix_for_timeout(self, setting: str) -> str:
        """Return a command that raises one of `TIMEOUTS`."""
        database = identifier(self.name)
        return self.psql(f"ALTER ROLE {self.role} IN DATABASE {database} SET {setting} = '10min'")

    def psql(self, statement: str, database: str = "") -> str:
        """Return a psql command for an administrator to paste."""
        host = ["-h", self._host] if self._host else []
        port = ["-p", self._port] if self._port else []
        return shlex.join(
            ["psql", *host, *port, "-U", "postgres", "-d", database or self.name, "-c", statement]
        )


def identifier(name: str) -> str:
    """Return a name quoted as an identifier, for a statement shown to the user."""
    return name if _NEEDS_NO_QUOTES.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text quoted as a literal, for a statement shown to the user."""
    return sql.Literal(text).as_string(None)


def connection_error(database: Database, error: psycopg.Error) -> TargetError:
    """Return the error, with the fix, for a failed connection."""
    words = message_of(error)
    if _NO_DATABASE.search(words):
        create = f"CREATE DATABASE {identifier(database.name)} OWNER {database.role}"
        reason = f"{database} does not exist; create it or correct target.dsn"
        return Halted("knowledge-base-missing", reason, fix=database.psql(create, "postgres"))
    if "permission denied for database" in words:
        reason = f"{database} refuses the user ({words}); grant it access or correct target.dsn"
        grant = f"GRANT CONNECT ON DATABASE {identifier(database.name)} TO {database.role}"
        return Halted("credentials", reason, fix=database.psql(grant, "postgres"))
    if "is not permitted to log in" in words:
        reason = f"{database} refuses the user ({words}); let it log in or correct target.dsn"
        return Halted(
            "credentials", reason, fix=database.psql(f"ALTER ROLE {database.role} LOGIN", "postgres")
        )
    if _REFUSED.search(words):
        return Halted("credentials", f"{database} refuses the user ({words}); correct target.dsn")
    if "unsupported startup parameter" in words:  # from PgBouncer; retrying doesn't help
        reason = f"the pooler of {database} refuses a setting in target.dsn ({words}); remove the setting"
        return Halted("credentials", reason)
    return Unavailable(f"{database} cannot be reached ({words})", code=error.sqlstate or "unreachable")


def statement_error(database: Database, error: psycopg.Error, *, is_creating: bool = False) -> TargetError:
    """Return the error, with the fix, for a failed statement. The statement's transaction is rolled back.

    `is_creating`: the statement creates the tables.
    """
    state, words = error.sqlstate or "", message_of(error)
    if state in _RIGHTS and error.diag.source_file == "rls.c":
        reason = (
            f"{database} hides rows from {database.user or 'its user'}, but kbsync needs all rows ({words})"
        )
        fix = database.psql(f"ALTER ROLE {database.role} BYPASSRLS")
        return Halted("credentials", reason, fix=fix, code=state)
    if state in _RIGHTS:
        rights = ["USAGE ON SCHEMA kbsync"]
        if database.read_only:
            rights += ["SELECT ON ALL TABLES IN SCHEMA kbsync"]
        else:
            rights += [f"ALL ON ALL {right} IN SCHEMA kbsync" for right in ("TABLES", "SEQUENCES")]
        if is_creating:
            is_schema_missing = "for database" in words
            place = f"DATABASE {identifier(database.name)}" if is_schema_missing else "SCHEMA kbsync"
            rights = [f"CREATE ON {place}"]
        grant = "; ".join(f"GRANT {right} TO {database.role}" for right in rights)
        reason = f"kbsync needs a permission that {database} denies {database.user or 'its user'} ({words})"
        return Halted("credentials", reason, fix=database.psql(grant), code=state)
    if state == "25006":
        reason = (
            f"{database} is read-only ({words}); set target.dsn to the primary server, "
            "or make this one writable"
        )
        return Halted("index-read-only", reason, fix=database.psql("SHOW transaction_read_only"), code=state)
    if state == "53100":
        reason = f"the disk of {database} is full; free some space, and kbsync will continue automatically"
        return Halted("disk-full", reason, code=state)
    if state in _INDEX_GONE:
        return index_gone(database)
    if setting := TIMEOUTS.get(state):
        reason = (
            f"{database} canceled a statement ({words}); if {setting} is too short, raise it with: "
            f"{database.fix_for_timeout(setting)}"
        )
        return Unavailable(reason, code=state)
    if state[:2] in _UNSTORABLE or isinstance(error, psycopg.DataError):
        return Rejected(f"the document cannot be stored in the index: {words}", code="unstorable")
    return Unavailable(f"{database} cannot be used right now ({words})", code=state or "disconnected")


def index_gone(database: Database) -> Unavailable:
    """Return the error for tables that were dropped or replaced."""
    return Unavailable(f"the index in {database} is gone; kbsync will create a new one", code="index-gone")


def message_of(error: psycopg.Error) -> str:
    """Return the server's message on one line, without its hints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = lines[0] if lines else type(error).__name__
    # If several addresses were tried, the last one's response is the most useful.
    fatal = [line for line in lines if "FATAL:" in line]
    words = fatal[-1].partition("FATAL:")[2].strip() if fatal else words
    return words.removeprefix("connection failed: ").removeprefix("connection is bad: ")
