"""Tests servers that an administrator configured differently: kbsync works, pauses, or halts with a fix."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg
import pytest

from kbsync.errors import Halted, Rejected, TargetError, Unavailable
from kbsync.index.postgres.store import Owner, PostgresStore
from tests.index.entries import Numbers, entry
from tests.postgres.base import find, leftover_rows, open_store, put, token
from tests.postgres.server import Server, programs
from tests.postgres.test_failures import follow_fix, outcome, raise_it
from tests.share import enumerated, long


def halted(store: PostgresStore) -> Halted:
    with pytest.raises(Halted) as caught:
        store.check()
    return caught.value


# -- unsupported settings


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_database_in_another_encoding_halts_and_the_suggested_command_creates_a_usable_one(
    postgres: Server, encoding: str
) -> None:
    name = f"kb_{encoding.lower()}"
    postgres.run("postgres", f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
    with open_store(postgres, name) as store:
        refused = halted(store)
    assert (refused.halt, encoding in str(refused)) == ("unsuitable-server", True)
    follow_fix(postgres, refused)
    postgres.run(f"{name}_utf8", "CREATE EXTENSION vector")
    with open_store(postgres, f"{name}_utf8") as store:
        put(store, entry(1, "Grüße 请假"))
    for database in (name, f"{name}_utf8"):
        postgres.run("postgres", f"DROP DATABASE {database}")


@pytest.mark.parametrize("other", ["0.7.4", "unreadable"])
def test_unsuitable_extension_halts_until_updated(postgres: Server, database: str, other: str) -> None:
    [(version,)] = postgres.run(database, "SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    postgres.run(database, "UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", other)
    with open_store(postgres, database) as store:
        old = halted(store)
        assert (old.halt, f"pgvector {other}" in str(old)) == ("unsuitable-server", True)
        assert "ALTER EXTENSION vector UPDATE" in old.fix
        postgres.run(database, "UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", version)
        put(store, entry(1, "kestrel"))


def test_extension_may_be_in_any_usable_schema(postgres: Server) -> None:
    database = postgres.database(extension=False)
    role = f"writer_{database}"
    postgres.run(database, 'CREATE SCHEMA "Ext 1"; CREATE EXTENSION vector SCHEMA "Ext 1"')
    postgres.run(database, f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {database} TO {role}")
    with open_store(postgres, database, user=role) as store:
        refused = halted(store)
        assert (refused.halt, role in str(refused)) == ("credentials", True)
        follow_fix(postgres, refused)
        [number] = put(store, entry(1, "kestrel"))
        assert find(store, "kestrel") == {number}


TABLES = ("base", "owner", "model", "document", "passage", "words", "vector")


@enumerated()
@pytest.mark.parametrize("relation", [*TABLES, "content", "the schema"])
def test_any_privilege_may_be_revoked_and_granted_again(
    postgres: Server, database: str, relation: str
) -> None:
    role = f"writer_{database}"
    postgres.run(database, f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {database} TO {role}")
    with open_store(postgres, database, user=role) as store:
        [first] = put(store, entry(1, "kestrel"))
        kind = {"content": "SEQUENCE kbsync.content", "the schema": "SCHEMA kbsync"}
        postgres.run(database, f"ALTER {kind.get(relation, f'TABLE kbsync.{relation}')} OWNER TO postgres")
        outcomes = [outcome(store, 2, "heron") for _ in range(2)]
        for refused in outcomes:
            assert isinstance(refused, Halted), refused
            assert refused.halt == "credentials"
            assert role in str(refused)
        follow_fix(postgres, outcomes[0])
        [second] = put(store, entry(2, "heron", replaces=first))
        assert find(store, "heron") == {second}
        store.delete([second])
        assert leftover_rows(postgres, database) == []


def test_fixes_let_a_role_create_the_tables_in_an_existing_schema(postgres: Server, database: str) -> None:
    role = f"writer_{database}"
    postgres.run(database, f"CREATE SCHEMA kbsync; CREATE ROLE {role} LOGIN")
    with open_store(postgres, database, user=role) as store:
        for right in ("USAGE ON SCHEMA", "CREATE ON DATABASE", "CREATE ON SCHEMA"):
            refused = halted(store)
            assert (refused.halt, right in refused.fix) == ("credentials", True), refused.fix
            follow_fix(postgres, refused)
        put(store, entry(1, "kestrel"))


def test_changed_setting_of_the_database_ends_a_halt_of_an_open_store(
    postgres: Server, database: str
) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
    postgres.run("postgres", f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with open_store(postgres, database) as store:
        with store._transaction():
            refused = halted(store)  # in a second session; the first becomes idle
        assert refused.halt == "index-read-only"
        postgres.run("postgres", f"ALTER DATABASE {database} RESET default_transaction_read_only")
        put(store, entry(2, "heron"))


@pytest.mark.parametrize("table", ["base", "owner", "document", "passage"])
def test_row_level_security_that_hides_rows_halts_and_the_fix_ends_it(
    postgres: Server, database: str, table: str
) -> None:
    role = f"writer_{database}"
    postgres.run(database, f"CREATE ROLE {role} LOGIN")
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
    for right in ("USAGE ON SCHEMA", "ALL ON ALL TABLES IN SCHEMA", "ALL ON ALL SEQUENCES IN SCHEMA"):
        postgres.run(database, f"GRANT {right} kbsync TO {role}")
    postgres.run(database, f"ALTER TABLE kbsync.{table} ENABLE ROW LEVEL SECURITY")
    with open_store(postgres, database, user=role) as store:
        refused = outcome(store, 1)
        assert isinstance(refused, Halted), refused
        assert (refused.halt, "row-level security" in refused.reason) == ("credentials", True)
        follow_fix(postgres, refused)
        put(store, entry(1, "kestrel"))
        assert [row.upload_id for row in store.page(0, 9)] == [1]


def test_base_restored_without_its_rows_halts(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
        postgres.run(database, "TRUNCATE kbsync.base")
        with open_store(postgres, database) as other:
            for use in (lambda: raise_it(outcome(store, 2)), store.check, other.check):
                with pytest.raises(Halted, match="lacks its id") as caught:
                    use()
                assert caught.value.halt == "incomplete-index"
        follow_fix(postgres, caught.value)
        store.check()
        put(store, entry(2, "heron"))


def test_interrupted_restore_without_constraints_halts(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        [number] = put(store, entry(1, "kestrel"))
    restored, dump = postgres.database(), postgres.dump(database)
    restore = [programs() / "pg_restore", "--dbname", postgres.direct(restored)]
    for section in ("pre-data", "data"):
        subprocess.run([*restore, f"--section={section}"], input=dump, check=True)
    with open_store(postgres, restored) as store, open_store(postgres, restored, read_only=True) as reader:
        for use in (lambda: store.delete([number]), store.check, reader.check):
            with pytest.raises(Halted, match=r"lacks constraints \(.*passage_content_fkey") as caught:
                use()
            assert caught.value.halt == "incomplete-index"
        # The administrator finishes the restore.
        subprocess.run([*restore, "--section=post-data"], input=dump, check=True)
        assert store.check()[1] == 1
        store.delete([number])
        assert leftover_rows(postgres, restored) == []


def test_index_halts_without_any_of_its_constraints(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
    constraints = postgres.run(
        database,
        "SELECT conrelid::regclass::text, conname FROM pg_constraint"
        " WHERE connamespace = 'kbsync'::regnamespace AND contype IN ('p', 'u', 'f')",
    )
    changes = {name: f"ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE" for table, name in constraints}
    changes |= {
        "document_path": "DROP INDEX kbsync.document_path",
        "words_passage_fkey": "ALTER TABLE kbsync.words DISABLE TRIGGER ALL",
        "passage_content_fkey": "ALTER TABLE kbsync.document DISABLE TRIGGER ALL",
    }
    assert len(changes) == 16
    for name, change in changes.items():
        copy = f"{database}_{name}"
        postgres.run("postgres", f"CREATE DATABASE {copy} TEMPLATE {database}")
        postgres.run(copy, change)
        with open_store(postgres, copy) as store:
            refused = halted(store)
        assert (refused.halt, name in refused.reason) == ("incomplete-index", True), (change, refused.reason)
        postgres.run("postgres", f"DROP DATABASE {copy}")


@pytest.mark.parametrize(
    "revoke", ["REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "ALTER ROLE {role} NOLOGIN"]
)
def test_role_that_may_not_connect_halts_and_the_fix_lets_it(
    postgres: Server, database: str, revoke: str
) -> None:
    role = f"writer_{database}"
    postgres.run(database, f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {database} TO {role}")
    with open_store(postgres, database, user=role) as store:
        put(store, entry(1, "kestrel"))
    postgres.run(database, revoke.format(database=database, role=role))
    with open_store(postgres, database, user=role) as store:
        refused = halted(store)
        assert refused.halt == "credentials"
        follow_fix(postgres, refused)
        put(store, entry(2, "heron"))


# -- temporary problems


@long
def test_server_without_a_free_connection_is_retried(postgres: Server) -> None:
    with open_store(postgres, postgres.database()) as store:
        held = list[psycopg.Connection[object]]()
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            while True:
                held.append(psycopg.connect(postgres.direct("postgres")))
        with pytest.raises(Unavailable, match="too many clients"):
            store.check()
        for connection in held:
            connection.close()
        put(store, entry(1, "kestrel"))


def when_storing(server: Server, database: str, text: str, action: str) -> None:
    """Let storing the words of a passage with this text first run `action`."""
    server.run(
        database,
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF EXISTS (SELECT FROM"
        f" kbsync.passage WHERE id = NEW.passage AND text LIKE '%{text}%') THEN PERFORM {action};"
        " END IF; RETURN NEW; END$$; CREATE TRIGGER act BEFORE INSERT ON kbsync.words"
        " FOR EACH ROW EXECUTE FUNCTION act()",
    )


@long
@pytest.mark.parametrize("setting", ["statement_timeout", "transaction_timeout"])
def test_document_exceeding_a_timeout_fails_alone_and_names_the_setting(
    postgres: Server, database: str, setting: str
) -> None:
    with open_store(postgres, database) as store:
        [first] = put(store, entry(1, "kestrel", path="a.md"))
    when_storing(postgres, database, "heron", "pg_sleep(9)")
    postgres.run("postgres", f"ALTER DATABASE {database} SET {setting} = '1s'")
    with open_store(postgres, database) as store:
        documents = [entry(2, "heron", path="b.md"), entry(3, "merlin", path="c.md")]
        failed, stored = store.put(documents, Numbers())
        assert isinstance(failed, Rejected) and failed.may_pass
        assert "b.md" in failed.reason and setting in failed.reason
        assert "ALTER ROLE postgres IN DATABASE" in failed.reason
        assert isinstance(stored, int) and store.find_existing([first, stored]) == {first, stored}
    postgres.run("postgres", f"ALTER DATABASE {database} RESET {setting}")
    assert leftover_rows(postgres, database) == []


@long
def test_document_canceled_by_an_administrator_fails_alone_with_the_servers_reason(
    postgres: Server, database: str
) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel", path="a.md"))
        # As if an administrator's script ended long statements.
        when_storing(postgres, database, "heron", "pg_cancel_backend(pg_backend_pid()), pg_sleep(9)")
        documents = [entry(2, "heron", path="b.md"), entry(3, "merlin", path="c.md")]
        failed, stored = store.put(documents, Numbers())
        assert isinstance(failed, Rejected) and failed.may_pass
        assert "canceled storing b.md (canceling statement due to user request)" in failed.reason
        assert isinstance(stored, int) and store.find_existing([stored]) == {stored}
    assert leftover_rows(postgres, database) == []


@long
def test_other_statement_timeouts_name_the_setting(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        [number] = put(store, entry(1, "kestrel"))
        postgres.run("postgres", f"ALTER DATABASE {database} SET statement_timeout = '60ms'")
    with (
        open_store(postgres, database) as store,
        psycopg.connect(postgres.direct(database)) as other,
        pytest.raises(Unavailable, match=r"statement_timeout.*ALTER ROLE postgres"),
    ):
        other.execute("LOCK TABLE kbsync.document IN ACCESS EXCLUSIVE MODE")
        store.find_existing([number])


@long
@enumerated("words")
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("SET lock_timeout = '40ms'", ""),  # our own limit still applies: how long a client may sleep
        ("SET idle_in_transaction_session_timeout = '40ms'", ""),
        ("SET search_path = nowhere", ""),
        ("SET default_transaction_isolation = 'serializable'", ""),
        ("SET default_transaction_deferrable = on", ""),
        ("SET bytea_output = 'escape'", ""),
        ("SET datestyle = 'German'", ""),
        ("SET intervalstyle = 'sql_standard'", ""),
        ("SET extra_float_digits = -15", ""),
        ("SET standard_conforming_strings = off", ""),
        ("SET row_security = off", ""),
        ("SET enable_indexscan = off", ""),
        ("CONNECTION LIMIT 0", "too many connections"),
        ("ALLOW_CONNECTIONS false", "not currently accepting connections"),
    ],
)
def test_administrator_limits_cause_at_most_a_pause(
    postgres: Server, database: str, limit: str, words: str
) -> None:
    role = f"writer_{database}"
    postgres.run(database, f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {database} TO {role}")
    with open_store(postgres, database, user=role) as store:
        [first] = put(store, entry(1, "kestrel"))
    when_storing(postgres, database, "heron", "pg_sleep(0.1)")
    postgres.run("postgres", f"ALTER DATABASE {database} {limit}")
    with open_store(postgres, database, user=role) as store:
        result = outcome(store, 2, "heron")
        if words:
            assert isinstance(result, Unavailable), result
            assert words in str(result)
        else:
            assert find(store, "heron") == {result}
        back = f"RESET {limit.split()[1]}" if limit.startswith("SET") else "CONNECTION LIMIT -1"
        postgres.run("postgres", f"ALTER DATABASE {database} {back}")
        postgres.run("postgres", f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    with open_store(postgres, database, user=role) as store:
        [second] = put(store, entry(2, "heron"))
        assert (find(store, "kestrel"), find(store, "heron")) == ({first}, {second})
        assert leftover_rows(postgres, database) == []


@contextmanager
def damaging(server: Server, damages: dict[bytes, bytes]) -> Iterator[int]:
    """Forward a local port to the server, with these replacements in its responses."""

    def forward(source: socket.socket, sink: socket.socket, damages: dict[bytes, bytes]) -> None:
        with source, suppress(OSError):
            while data := source.recv(65536):
                for before, after in damages.items():
                    data = data.replace(before, after)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, behind = listener.accept()[0], socket.socket(socket.AF_UNIX)
                behind.connect(str(server.folder / ".s.PGSQL.5432"))
                for parts in ((client, behind, {}), (behind, client, damages)):
                    threading.Thread(target=forward, args=parts, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def test_damaged_response_is_retried(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        [number] = put(store, entry(1, "kestrel"))
    damages = dict[bytes, bytes]()
    with damaging(postgres, damages) as port:
        dsn = f"host=127.0.0.1 port={port} dbname={database} user=postgres"
        with closing(PostgresStore(dsn, Owner("", token("")))) as store:
            uuid, _ = store.check()
            damages[b"kestrel"] = b"\xff" * 7
            with pytest.raises(Unavailable, match="damaged response"):
                store.texts(number)
            with pytest.raises(Unavailable, match="damaged response"):
                find(store, "kestrel")
            damages[uuid.encode()] = b"\xff" * 36
            with pytest.raises(Unavailable, match="damaged response"):
                store.check()
            damages.clear()
            assert store.texts(number) == ["kestrel"]
            assert store.check() == (uuid, 1)


@contextmanager
def foreign(code: str, words: str) -> Iterator[int]:
    """Yield a port where a server refuses every client, in its own language."""
    fields = b"".join(
        kind + value.encode() + b"\0" for kind, value in ((b"S", "FATAL"), (b"C", code), (b"M", words))
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    while struct.unpack("!ii", client.recv(8))[1] == 80877103:  # asks for TLS
                        client.sendall(b"N")
                    client.sendall(b"E" + struct.pack("!i", 5 + len(fields)) + fields + b"\0")

        thread = threading.Thread(target=refuse)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_non_english_server_is_retried_and_its_messages_are_shown() -> None:
    words = "Passwort-Authentifizierung für Benutzer »ada« fehlgeschlagen"
    with foreign("28P01", words) as port:
        dsn = f"postgresql://ada:hush-hush@127.0.0.1:{port}/kb"
        with closing(PostgresStore(dsn, Owner(""))) as store, pytest.raises(TargetError) as caught:
            store.check()
    assert isinstance(caught.value, Unavailable)
    assert words in str(caught.value)
    assert "hush" not in str(caught.value)


# -- several databases


@long
def test_two_databases_of_one_server_are_two_bases(postgres: Server) -> None:
    first, second = postgres.database(), postgres.database()
    with open_store(postgres, first) as ours, open_store(postgres, second) as theirs:
        [our_id], [other] = put(ours, entry(1, "kestrel")), put(theirs, entry(1, "heron"))
        assert ours.check()[0] != theirs.check()[0]
        assert (find(ours, "heron"), find(theirs, "kestrel")) == (set(), set())
        ours.delete([our_id, other])
        assert find(theirs, "heron") == {other}


@long
def test_standby_is_searched_and_halts_every_writer(postgres: Server, database: str) -> None:
    with open_store(postgres, database, "a/") as store:
        [number] = put(store, entry(1, "kestrel"))
        with Standby(postgres) as standby:
            with open_store(standby, database, "a/", read_only=True) as reader:
                assert find(reader, "kestrel") == {number}
            with open_store(standby, database, "a/") as writer:
                assert halted(writer).halt == "index-read-only"
                assert "primary" in str(halted(writer))
                standby.run("postgres", "SELECT pg_promote()")  # as when the primary was lost
                put(writer, entry(2, "heron"))
            with open_store(standby, database, "a/", read_only=True) as reader:
                assert len(find(reader, "kestrel")) == len(find(reader, "heron")) == 1


class Standby(Server):
    """A server that follows another one."""

    def __init__(self, primary: Server) -> None:
        self.primary = primary
        super().__init__()

    def make(self) -> None:
        copy = [programs() / "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        copy += ["--pgdata", self.folder / "data", "--dbname", self.primary.direct("postgres")]
        subprocess.run(copy, check=True, cwd=self.folder, **self.user)
