"""The store in a PostgreSQL database, where a mirror sees and changes only its own documents (ADR 27).

Every method is a transaction. The first call connects and creates the tables.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.errors import InsufficientPrivilege

from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, UnmadeError, Unsure, untried
from kbsync.index.document import Entry
from kbsync.index.embed import Encoder, VectorsLackingError
from kbsync.index.errors import unknown_document
from kbsync.index.postgres.connections import ASLEEP, Connection, Connections
from kbsync.index.postgres.errors import TIMEOUTS, index_gone, literal, message_of, statement_error
from kbsync.index.postgres.searching import HNSW_FROM, PostgresSnapshot, Viewpoint
from kbsync.index.postgres.writing import NEXT_SEEN, REVISION, WHOLE, Writing, bind, unbind
from kbsync.index.store import Stored
from kbsync.index.words import TOKENISER

VERSION = 3
TABLES = Path(__file__).with_name("tables.sql")

SNAPSHOT = "ISOLATION LEVEL REPEATABLE READ READ ONLY"

QUIET = 10.0
"""Number of seconds without a put after which kbsync considers the initial fill finished and creates the
vector index.
"""

_MAX_DIMENSIONS = 4_000  # limit of an index of `halfvec`
_CREATING = (0x6B62_7379, 1)  # advisory lock held while the tables are created or a row of `owner` claimed
_MAKING = (0x6B62_7379, 2)  # advisory lock held while a vector index is created

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of documents: a mirror, identified by its token or, if that is unknown, by its prefix.

    A reader may be on a machine without the mirror's state; in that case, `token` is None. `mirror` and
    `folder`: as in the mirror's config.
    """

    prefix: str
    token: UUID | None = None
    mirror: str = ""
    folder: str = ""
    host: str = field(default_factory=lambda: socket.gethostname() or "unnamed")


@dataclass(frozen=True, slots=True)
class _OwnerRow:
    """A row of the table `owner`.

    `seen` is in UTC, for messages. `revision` is the same time in µs since 1970.
    """

    id: int
    token: UUID
    host: str
    mirror: str
    folder: bytes
    generation: int
    prefix: str
    seen: str
    revision: int

    def is_of(self, owner: Owner) -> bool:
        """Return whether the row is the owner's own, or comes from a lost state on the same machine."""
        own_location = (owner.host, bind(owner.folder))
        return owner.token == self.token or (self.host, bytes(self.folder)) == own_location

    def is_open_to(self, owner: Owner) -> bool:
        """Return whether the row is the owner's or has been released."""
        return self.is_of(owner) or not self.host


@dataclass(frozen=True, slots=True)
class _Claim:
    """This process's right to write for its owner. Each new claim increments the generation."""

    uuid: str
    generation: int


class PostgresStore:
    """A `Store` in the database given by `dsn`, for the documents of one owner."""

    def __init__(
        self,
        dsn: str,
        owner: Owner,
        *,
        read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without a connection. Raises `Halted` for an invalid dsn."""
        self._clock = clock
        self._connections = Connections(dsn, read_only=read_only)
        self._owner, self._read_only = owner, read_only
        self._claiming = threading.Lock()
        self._claim: _Claim | None = None
        self._former, self.checked_revision, self._revision = "", 0, 0
        # until the next `check`: a document put meanwhile would go into a different base
        self._is_gone = False
        self._unanswered, self._settled = 0, 0  # commits whose response was lost; how many of them have ended
        self._is_stopping = False
        self._building: Connection | None = None
        self._has_begun = False  # `tidy` has been called
        self._may_index = True
        self._may_lack_index = True  # checked once, and again after this process stores something
        self._has_old_words = None if not read_only else False  # None: not checked yet
        self._last_put = float("-inf")

    @property
    def address(self) -> str:
        """The database's URL."""
        return self._connections.database.address

    @property
    def writers(self) -> tuple[str, str]:
        """Return the current claim and the previous claim, each as its token and generation.

        A reader has no current claim.
        """
        claim = self._claim
        return ("" if claim is None else f"{self._owner.token}:{claim.generation}"), self._former

    @property
    def revision(self) -> int | None:
        """Return the time of the last change that this process committed, in µs since 1970.

        Each change makes it later, so an older copy of the base is recognized even if it has the same claim.
        """
        return None if self._claim is None else self._revision

    def check(self) -> tuple[str, int]:
        """Return the base's identity, and the number of the owner's documents.

        The first call creates the base if it doesn't exist, and claims the owner's row.
        """
        with self._transaction(SNAPSHOT) as (connection, is_made):
            base = self._find_base(connection) if is_made else None
            if self._read_only and base is not None:
                # These raise the errors that the next pass would raise.
                self._find_tables(connection)
                self._claimable_rows(connection)
        if self._read_only:
            if base is not None and base.row is not None:
                self._record_former(base.row)
            return ("", 0) if base is None else (base.uuid, base.documents)  # no state has the id ""
        claim = self._claim
        if claim is None or base is None or base.uuid != claim.uuid or base.row is None or self._is_gone:
            claim = self._make_claim(claim)
            return claim.uuid, base.documents if base and base.uuid == claim.uuid else 0
        if base.row.token != self._owner.token:
            raise self._superseded(base.row)
        if base.is_seen_outdated:
            # Update the time that readers show as the age of the documents.
            with self._repeatable(), self._transaction() as (connection, is_made):
                if is_made:
                    connection.execute(_SEEN, (self._owner.token, claim.generation))
        self.checked_revision = base.row.revision
        return claim.uuid, base.documents

    def put(self, entries: Sequence[Entry], encoder: Encoder) -> list[int | TargetError]:
        """Store each document in a separate transaction. Return each one's id, or why it wasn't stored."""
        outcomes = list[int | TargetError]()
        failed: TargetError | None = None
        for entry in entries:
            if failed is not None:
                outcomes.append(untried(failed))
                continue
            try:
                outcomes.append(self._put(entry, encoder))
            except TargetError as error:
                outcomes.append(error)
                failed = None if isinstance(error, Rejected) else error
            self._last_put = self._clock()
        return outcomes

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove these documents if they exist and are ours."""
        with self._repeatable(), self._writing() as writing:
            writing.delete(documents)
        return True

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change a document's path, name and time, along with the words of its name."""
        with self._repeatable(), self._writing() as writing:
            if not writing.rename(document, path, name, modified):
                raise unknown_document(document)

    def leave(self) -> None:
        """Release the prefix for other owners."""
        with self._repeatable(), self._transaction() as (connection, is_made):
            if is_made and self._claim is not None:
                ours = (self._owner.token, self._claim.generation)
                connection.execute(
                    "DELETE FROM owner WHERE token = %s AND generation = %s AND documents = 0", ours
                )

    def page(self, after: int, limit: int) -> Sequence[Stored]:
        """Return documents by id."""
        self._settle()
        rows = self._rows(
            "SELECT id, upload_id, path, name, digest, size, recipe, created FROM document d"  # noqa: S608
            f" WHERE owner = @own AND id > %(after)s AND {WHOLE} ORDER BY id LIMIT %(limit)s",
            after=after,
            limit=limit,
        )
        return [Stored(row[0], row[1], unbind(row[2]), unbind(row[3]), *row[4:]) for row in rows]

    def find_existing(self, documents: Iterable[int]) -> set[int]:
        """Return which of these documents exist and are ours."""
        self._settle()
        rows = self._rows(
            f"SELECT id FROM document d WHERE owner = @own AND id = ANY(%(ids)s::bigint[]) AND {WHOLE}",  # noqa: S608
            ids=list(documents),
        )
        return {number for (number,) in rows}

    def find_embedded(self, model: str, keys: Iterable[str]) -> set[str]:
        """Return which of these keys have a vector, no matter which mirror stored it."""
        rows = self._rows(
            "SELECT DISTINCT key FROM vector WHERE model = (SELECT id FROM model WHERE name = %(model)s)"
            " AND key = ANY(%(keys)s::bytea[])",
            model=model,
            keys=list(map(bytes.fromhex, keys)),
        )
        return {bytes(key).hex() for (key,) in rows}

    def texts(self, document: int) -> Sequence[str] | None:
        """Return the texts of a document's passages."""
        if not self.find_existing([document]):
            return None
        rows = self._rows(
            "SELECT text FROM document d JOIN passage USING (content) WHERE d.id = %(id)s ORDER BY place",
            id=document,
        )
        return [text for (text,) in rows]

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        """Return a consistent snapshot of the store."""
        if not self._read_only and self._claim is None:
            self._make_claim()
        with self._transaction(SNAPSHOT) as (connection, is_made):
            base = self._find_base(connection) if is_made else None
            database, row = self._connections.database, None if base is None else base.row
            if row is None and not self._read_only:
                raise index_gone(database)
            nothing = f"nothing has been mirrored into {database} under the prefix {self._owner.prefix!r} yet"
            if base is None:
                raise UnmadeError(nothing)
            owner, is_own = (None, False) if row is None else (row.id, row.is_of(self._owner))
            yield PostgresSnapshot(connection, Viewpoint(base.uuid, self._owner.host, owner, is_own, nothing))

    def tidy(self) -> bool:
        """Create the vector index if comparing all vectors would take a long time. Return whether `purge`
        still has work to do.

        The first call creates the index and waits for it, because a single pass has no later opportunity.
        Later calls leave it to `purge`, so that no mirror has to wait.
        """
        if self._has_begun:
            return self._has_old_words is not False or self._find_unindexed_model() is not None
        self._has_begun = True
        self._reword()
        while self._find_unindexed_model() is not None and self._index():
            pass
        return self._has_old_words is not False

    def purge(self) -> bool:
        """Finish the remaining work.

        Deleted text becomes unreachable immediately; the server's own vacuum removes it later. Outdated
        words of documents are updated first, some in each transaction. Return False during the initial
        fill, because the vector index, which would slow down each insert, is created afterwards.
        """
        while self._reword():
            pass
        while self._find_unindexed_model() is not None:
            if self._clock() - self._last_put < QUIET:
                return False
            if not self._index():
                break
        return True

    def stop(self) -> None:
        """Stop after the current document, and cancel the creation of an index."""
        self._is_stopping = True
        if (building := self._building) is not None:
            with suppress(psycopg.Error):
                building.cancel_safe(timeout=1)

    def close(self) -> None:
        """Close connections. May be called again."""
        self.stop()
        self._connections.close()

    def _reword(self) -> bool:
        """Replace the outdated words of some documents. Return whether there may be more."""
        if self._claim is None or self._is_stopping or self._has_old_words is False:
            return False
        if self._has_old_words is None:  # a read: a writing transaction needs more statements
            with self._transaction() as (connection, is_made):
                values = (self._owner.token, TOKENISER)
                row = connection.execute(_HAS_OLD_WORDS, values).fetchone() if is_made else None
                self._has_old_words = row == (True,)
        if self._has_old_words:
            with self._repeatable(), self._writing() as writing:
                self._has_old_words = writing.reword()
        return self._has_old_words

    # -- the index of vectors

    def _find_unindexed_model(self) -> tuple[Any, ...] | None:
        """Return a model that has many vectors but no index, not even one that is being created.

        Return None if there is no such model.
        """
        if self._claim is None or self._is_stopping or not (self._may_index and self._may_lack_index):
            return None
        self._may_lack_index = False  # before the query: documents stored meanwhile set it again
        model = None
        try:
            with self._transaction() as (connection, is_made):
                if is_made:
                    limits = (HNSW_FROM, _MAX_DIMENSIONS)
                    model = connection.execute(_UNINDEXED_MODEL, limits).fetchone()
        except TargetError:
            self._may_lack_index = True
            raise
        self._may_lack_index = self._may_lack_index or model is not None
        return model

    def _index(self) -> bool:
        """Create one index. Return False if another process is creating one, or if none may be created.

        Only one index at a time is created in the whole base, because a separate transaction holds a lock
        until the index is complete. That transaction hasn't touched any table and ends its snapshot, so
        creating the index doesn't wait for it.
        """
        try:
            with self._transaction() as (guard, _):
                row = guard.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", _MAKING).fetchone()
                if row != (True,) or (model := self._find_unindexed_model()) is None:
                    return False
                # A statement without values, sent as a simple query, ends the previous statement's snapshot.
                guard.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                with self._connections.connection() as connection:
                    self._building = connection
                    connection.max_silence = math.inf
                    try:
                        if not self._is_stopping:
                            _make_index(connection, *model)
                    finally:
                        self._building = None
                        del connection.max_silence
        except Halted as error:
            if error.code != InsufficientPrivilege.sqlstate:
                raise
            self._may_index = False
            _log.warning("searching vectors without an index: %s", printable(error.reason))
            return False
        return True

    # -- transactions

    @contextmanager
    def _transaction(self, kind: str = "") -> Iterator[tuple[Connection, bool]]:
        try:
            with self._connections.transaction(kind) as (connection, is_made):
                if self._read_only and not is_made:
                    self._find_tables(connection)
                yield connection, is_made
        except Unavailable as error:
            if error.code == "index-gone":
                self._is_gone = True
                with self._connections.transaction() as (connection, _):
                    self._find_tables(connection)
            raise
        except Unsure:
            self._unanswered += 1
            raise

    def _settle(self) -> None:
        """Wait until all commits that got no response have ended.

        The server may still be working on them, and kbsync assumes that a document missing from a list
        doesn't exist (promise 3). Such commits hold the owner's row. Raises `Unavailable` if one is still
        open when the lock wait ends.
        """
        unanswered = self._unanswered
        if unanswered != self._settled:
            with self._repeatable(), self._transaction() as (connection, is_made):
                if is_made:
                    connection.execute(_WAIT_FOR_OWN, (self._owner.token,))
            self._settled = unanswered

    @contextmanager
    def _repeatable(self) -> Iterator[None]:
        """Run the work.

        If the response to COMMIT was lost, run it again. The work must be safe to run twice.
        """
        try:
            yield
        except Unsure as error:
            raise Unavailable(error.reason, code=error.code) from error

    def _rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, or none if the tables don't exist yet."""
        with self._transaction(SNAPSHOT) as (connection, is_made):
            if not is_made:
                return []
            # A writer identifies its rows only by its token, because another may have taken the prefix since.
            named = self._owner_values() | ({} if self._claim is None else {"prefix": None})
            return connection.execute(statement.replace("@own", _OWN), named | values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[Writing]:
        """Yield a transaction that first locks the owner's row and checks that the row is still ours."""
        if self._read_only:
            raise Halted("read-only", f"{self._connections.database} was opened read-only")
        if self._is_stopping:
            raise Unavailable(f"{self._connections.database} is being closed", code="closed")
        claim = self._claim or self._make_claim()
        with self._transaction() as (connection, is_made):
            row, self._may_lack_index = None, True
            if is_made and not self._is_gone:
                row = connection.execute(_FENCE, (self._owner.token, claim.generation, claim.uuid)).fetchone()
            if row is None:
                raise self._lost(connection, claim, is_made=is_made)
            writing = Writing(connection, row[0], self._owner.token)
            yield writing
            revision = writing.count()
        self._revision = max(self._revision, revision)

    def _make_claim(self, before: _Claim | None = None) -> _Claim:
        """Claim the owner's row in the database, replacing the claim `before`, unless another thread has
        already done so.

        Return the claim.
        """
        with self._claiming:
            if self._claim is not None and self._claim is not before:
                return self._claim
            with self._transaction() as (connection, _):
                # If two processes connect at once, the second waits here and finds the tables.
                connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _CREATING)
                uuid = self._find_or_create_tables(connection)
                rows = self._claimable_rows(connection)
                owner = self._owner
                values = (owner.token, owner.prefix, owner.mirror, bind(owner.folder), owner.host)
                if rows:
                    connection.execute(_END_THE_SLEEPER, (f"{ASLEEP + 5}s", rows[0].id, ASLEEP))
                    # A released row gets the prefix that we leave, so its documents stay its own.
                    for released in rows[1:]:
                        connection.execute(_PUT_ASIDE, (released.id,))
                    claimed = connection.execute(_CLAIM_AGAIN, (*values, rows[0].id)).fetchone()
                    for released in rows[1:]:
                        connection.execute(_RENAME, (rows[0].prefix, released.id))
                else:
                    claimed = connection.execute(_CLAIM, values).fetchone()
            assert claimed is not None
            self._record_former(rows[0] if rows else None)
            self._claim, self._is_gone, self._revision = _Claim(uuid, claimed[0]), False, claimed[1]
            return self._claim

    def _find_or_create_tables(self, connection: Connection) -> str:
        """Return the base's id. Raises the same errors as `_find_tables`."""
        uuid = self._find_tables(connection)
        if not uuid:
            try:
                connection.execute(TABLES.read_bytes())
            except InsufficientPrivilege as error:
                raise statement_error(self._connections.database, error, is_creating=True) from error
            uuid = self._find_tables(connection)
        return uuid

    def _find_tables(self, connection: Connection) -> str:
        """Return the base's id, or "" if there are no tables.

        Raises `Halted` for another layout, or if something that `TABLES` creates is missing.
        """
        [names] = connection.execute(_PARTS).fetchone() or ([],)
        existing = set(names)
        if not existing:
            return ""
        missing = {kind: parts - existing for kind, parts in _parse_parts(TABLES.read_text()).items()}
        uuid = ""
        if {"base", "base.version", "base.uuid"} <= existing:
            row = connection.execute("SELECT version, uuid::text FROM base").fetchone()
            if row is None:
                raise self._without_id()
            version, uuid = row
            self._require_version(version)
        for kind, names in missing.items():
            if names:
                raise self._incomplete(f"{kind} ({', '.join(sorted(names))})")
        return uuid

    def _without_id(self) -> Halted:
        return self._incomplete("its id (the table base is empty)")

    def _incomplete(self, missing: str) -> Halted:
        """Return the error for an index that lacks a part of itself (`missing`)."""
        database = self._connections.database
        return Halted(
            "incomplete-index",
            f"the index in {database} lacks {missing}; restore it, or rename the schema, and kbsync will "
            "create a new one and reindex everything",
            fix=database.psql("ALTER SCHEMA kbsync RENAME TO kbsync_incomplete"),
        )

    def _claimable_rows(self, connection: Connection) -> list[_OwnerRow]:
        """Return our row, then the row with our prefix, if they exist.

        Raises `Halted` if a claim would take over another owner's prefix, or if one of both prefixes begins
        the other.
        """
        rows = [_OwnerRow(*row) for row in connection.execute(_ROWS, self._owner_values())]
        for row in rows:
            # With two rows, our own has a different prefix, and the other one has this prefix. Host and
            # folder then prove nothing, because both rows may have documents.
            is_open = not row.host if len(rows) > 1 else row.is_open_to(self._owner)
            if row.token != self._owner.token and not is_open:
                raise self._prefix_taken(row)
        values = {"prefix": self._owner.prefix, "id": rows[0].id if rows else 0}
        if overlapping := connection.execute(_OVERLAPPING, values).fetchone():  # names could clash
            raise self._prefix_taken(_OwnerRow(*overlapping))
        return rows

    def _record_former(self, row: _OwnerRow | None) -> None:
        self._former = "" if row is None else f"{row.token}:{row.generation}"
        self.checked_revision = 0 if row is None else row.revision

    def _lost(self, connection: Connection, claim: _Claim, *, is_made: bool) -> TargetError:
        """Return the error for an owner's row that has changed since this process last wrote it."""
        base = self._find_base(connection) if is_made else None
        if base is None or base.row is None or base.uuid != claim.uuid or self._is_gone:
            self._is_gone = True
            return index_gone(self._connections.database)
        return self._superseded(base.row)

    def _superseded(self, row: _OwnerRow) -> Halted:
        """Return the error for another process that writes under our claim."""
        if not row.is_open_to(self._owner):
            return self._prefix_taken(row)
        return Halted(
            "superseded",
            f"another kbsync on {printable(row.host) or 'another machine'} is writing to "
            f"{self._connections.database} with the prefix {self._owner.prefix!r}; give each mirror its "
            "own prefix, or stop one of the two and restart the other",
        )

    def _prefix_taken(self, row: _OwnerRow) -> Halted:
        """Return the error for a prefix that another machine or folder owns and may still be using."""
        prefix, owner = row.prefix, f"the mirror {row.mirror} on {row.host} ({unbind(row.folder)})"
        reason = (
            f"the prefix {prefix!r} in {self._connections.database} belongs to {printable(owner)}, last seen "
            f"{row.seen} UTC; give each mirror its own prefix"
        )
        if prefix != self._owner.prefix:
            reason = (
                f"the prefixes {self._owner.prefix!r} and {prefix!r} clash in one knowledge base; {reason}, "
                "such as guides/ and faq/"
            )
        # With the generation, so that the command, if pasted late, doesn't affect a mirror that has since
        # come back.
        release = (
            f"UPDATE kbsync.owner SET host = '' WHERE prefix = {literal(prefix)}"  # noqa: S608
            f" AND host = {literal(row.host)} AND generation = {row.generation}"
        )
        command = self._connections.database.psql(release)
        exchange = "; to swap the prefixes of two mirrors, change one of them to a third prefix first"
        ended = ", or release this prefix if that mirror no longer exists"
        is_here = row.host == self._owner.host
        return Halted("prefix-taken", f"{reason}{ended}{exchange * is_here}", fix=command)

    def _put(self, entry: Entry, encoder: Encoder) -> int:
        vectors = dict(entry.vectors)
        while True:
            try:
                with self._writing() as writing:
                    try:
                        return writing.put(entry, encoder.model, vectors)
                    except psycopg.Error as error:
                        # It holds the owner's row and waits for no one, so the document itself takes this
                        # long.
                        setting = TIMEOUTS.get(error.sqlstate or "")
                        if setting is None:
                            raise
                        database = self._connections.database
                        # An administrator's pg_cancel_backend has the same code as a statement_timeout.
                        reason = (
                            f"{database} canceled storing {printable(entry.path)} ({message_of(error)}); if "
                            f"{setting} is too short, raise it with: {database.fix_for_timeout(setting)}"
                        )
                        code = setting.replace("_", "-")
                        raise Rejected(reason, code=code, may_pass=True) from error
            except VectorsLackingError as lacking:
                lacking.compute(encoder)

    def _find_base(self, connection: Connection) -> _Base:
        """Return the base. Raises `Halted` if a different version of kbsync created it, or if its id is
        missing.
        """
        row = connection.execute(_FIND_BASE.replace("@own", _OWN), self._owner_values()).fetchone()
        if row is None:
            raise self._without_id()
        self._require_version(row[0])
        uuid, documents, is_seen_outdated, *owner = row[1:]
        own_row = None if owner[0] is None else _OwnerRow(*owner)
        return _Base(uuid, documents, is_seen_outdated, own_row)

    def _require_version(self, version: int) -> None:
        """Raise `Halted` for tables that a different version of kbsync created."""
        database = self._connections.database
        if version > VERSION:
            raise Halted(
                "newer-index",
                f"the index in {database} is from a newer kbsync (layout {version}, but this one "
                f"only knows {VERSION})",
                fix="upgrade this kbsync",
            )
        if version < VERSION:
            raise Halted(
                "older-index",
                f"the index in {database} is from an older kbsync (layout {version}, but this one "
                f"needs {VERSION}); rename its schema, and kbsync will create a new one and reindex "
                "everything",
                fix=database.psql(f"ALTER SCHEMA kbsync RENAME TO kbsync_layout_{version}"),
            )

    def _owner_values(self) -> dict[str, Any]:
        """Return the parameters of the query `_OWN`."""
        return {"token": self._owner.token, "prefix": self._owner.prefix}


@dataclass(frozen=True, slots=True)
class _Base:
    """The base, and our row of `owner`.

    `is_seen_outdated`: whether the row's `seen` is more than a minute old.
    """

    uuid: str
    documents: int
    is_seen_outdated: bool
    row: _OwnerRow | None


def _parse_parts(script: str) -> dict[str, set[str]]:
    """Return the names of what a script creates, by kind. Columns are named `table.column`.

    Without the constraints, deletions would leave passages behind, and two documents could have one path.
    """
    script = "\n".join(line.partition("--")[0] for line in script.splitlines()).replace("kbsync.", "")
    words = script.replace(";", " ").split()
    columns = set[str]()
    for table in script.split("CREATE TABLE ")[1:]:
        name, _, definitions = table.partition(";")[0].partition(" (")
        for definition in definitions.split(","):
            column, *kind = definition.split()
            # A constraint's list of columns has commas too, but no types.
            if kind and column.islower() and column.isidentifier():
                columns.add(f"{name}.{column}")
    return {
        "tables or sequences": set(_names_after(words, "TABLE", "SEQUENCE")),
        "columns": columns,
        "constraints": set(_names_after(words, "CONSTRAINT", "UNIQUE INDEX")),
    }


def _names_after(words: Sequence[str], *keywords: str) -> Iterator[str]:
    """Yield the word after each occurrence of these keywords of one or two words."""
    for first, second, third in zip(words, words[1:], words[2:], strict=False):
        if second in keywords or f"{first} {second}" in keywords:
            yield third


# From the catalog itself: `to_regclass` may have cached the tables' absence before a wait.
_PARTS = """
WITH own AS (SELECT oid FROM pg_namespace WHERE nspname = 'kbsync'),
  own_class AS (SELECT * FROM pg_class WHERE relnamespace = (TABLE own))
SELECT ARRAY(
  SELECT relname::text FROM own_class WHERE relkind IN ('r', 'p', 'S')
  UNION ALL
  SELECT format('%s.%s', relname, attname) FROM own_class c JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE relkind IN ('r', 'p') AND NOT attisdropped
  UNION ALL
  SELECT relname::text FROM own_class c JOIN pg_index i ON i.indexrelid = c.oid
  WHERE i.indisunique AND i.indisvalid
  UNION ALL
  SELECT conname::text FROM pg_constraint c
  WHERE connamespace = (TABLE own) AND contype = 'f'
    AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgconstraint = c.oid AND tgenabled = 'D')
)
"""
_OWN = """(
  SELECT id FROM owner WHERE token = %(token)s OR prefix = %(prefix)s ORDER BY token = %(token)s DESC LIMIT 1
)"""
_ROW = f"""o.id, token, host, mirror, folder, generation, prefix,
  to_char(seen AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), {REVISION}"""
_FIND_BASE = f"""
SELECT version, uuid::text, coalesce(documents, 0), coalesce(seen < now() - interval '1 minute', false),
  {_ROW}
FROM base LEFT JOIN owner o ON o.id = @own
"""  # noqa: S608
_ROWS = f"""
SELECT {_ROW} FROM owner o
WHERE token = %(token)s OR prefix = %(prefix)s ORDER BY token = %(token)s DESC
"""  # noqa: S608
_FENCE = """
SELECT o.id FROM owner o, base b WHERE token = %s AND generation = %s AND uuid = %s::uuid FOR UPDATE OF o
"""
_HAS_OLD_WORDS = """
SELECT EXISTS(SELECT 1 FROM document WHERE owner = (SELECT id FROM owner WHERE token = %s) AND tokeniser < %s)
"""
# This stores nothing, so it doesn't wait for a disk or standby, for which a commit without a response may be
# waiting.
_WAIT_FOR_OWN = """
SELECT set_config('synchronous_commit', 'off', true) FROM owner WHERE token = %s FOR UPDATE
"""
_OVERLAPPING = f"""
SELECT {_ROW} FROM owner o
WHERE (starts_with(prefix, %(prefix)s) OR starts_with(%(prefix)s, prefix)) AND prefix <> %(prefix)s
  AND host <> '' AND id <> %(id)s
ORDER BY id LIMIT 1
"""  # noqa: S608
# The new generation warns a writer that still had the row. A token is never a prefix.
_PUT_ASIDE = "UPDATE owner SET prefix = token::text, generation = generation + 1 WHERE id = %s"
_RENAME = "UPDATE owner SET prefix = %s WHERE id = %s"
_CLAIM = f"""
INSERT INTO owner (token, prefix, mirror, folder, host) VALUES (%s, %s, %s, %s, %s)
RETURNING generation, {REVISION}
"""  # noqa: S608
_CLAIM_AGAIN = f"""
UPDATE owner SET token = %s, prefix = %s, mirror = %s, folder = %s, host = %s, generation = generation + 1,
  seen = {NEXT_SEEN}
WHERE id = %s RETURNING generation, {REVISION}
"""  # noqa: S608
# The holder of the row is writing and records the time anyway.
_SEEN = f"""
UPDATE owner SET seen = {NEXT_SEEN}
WHERE id = (SELECT id FROM owner WHERE token = %s AND generation = %s FOR UPDATE SKIP LOCKED)
"""  # noqa: S608
# No PostgreSQL timeout ends a client that sleeps in the middle of a COPY: while the server waits for data,
# it checks no clock. The holder's transaction is in `xmax` of the row.
_END_THE_SLEEPER = """
SELECT set_config('lock_timeout', %s, true), (
  SELECT count(pg_terminate_backend(pid)) FROM owner o JOIN pg_stat_activity a ON a.backend_xid = o.xmax
  WHERE o.id = %s AND a.usename = current_user AND a.state = 'active'
    AND a.wait_event_type = 'Client' AND a.state_change < now() - make_interval(secs => %s))
"""

# After a host is killed, the server continues to build its index. Not every role may see its owner, but every
# role may see that an index is being created, and on which table.
_UNINDEXED_MODEL = """
SELECT m.id, m.dimensions, quote_ident(nspname), i.indexrelid IS NOT NULL
FROM model m
JOIN pg_extension ON extname = 'vector' JOIN pg_namespace n ON n.oid = extnamespace
LEFT JOIN pg_index i ON i.indexrelid = to_regclass(format('kbsync.vector_hnsw_%%s', m.id))
WHERE (SELECT sum(passages) FROM owner) >= %s AND m.dimensions <= %s AND indisvalid IS NOT TRUE
  AND EXISTS (SELECT FROM vector WHERE model = m.id)
  AND NOT EXISTS (
    SELECT FROM pg_stat_progress_create_index p JOIN pg_locks l USING (pid)
    WHERE p.datname = current_database() AND l.relation = 'kbsync.vector'::regclass
      AND l.mode = 'ShareUpdateExclusiveLock')
LIMIT 1
"""


def _make_index(connection: Connection, model: int, dimensions: int, home: str, is_broken: bool) -> None:
    """Create the index over all vectors of `model`, while other connections read and write.

    `home`: pgvector's schema.
    """
    # An interrupted creation leaves an index that is unused and blocks a new one.
    if is_broken:
        connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS kbsync.vector_hnsw_{model}")
    connection.execute(
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS vector_hnsw_{model} ON kbsync.vector USING hnsw"
        f" ((embedding::{home}.halfvec({dimensions})) {home}.halfvec_ip_ops)"
        # With pgvector's default of 64, a search misses three times as many of the nearest, at any search
        # setting.
        f" WITH (ef_construction = 200) WHERE model = {model}"
    )
