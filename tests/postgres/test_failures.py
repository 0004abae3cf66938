"""Tests failures of server, rights and writers: each halts or pauses with its message, and loses nothing."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from kbsync.contract.searching import Query
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.index.postgres import connections
from kbsync.index.postgres import store as store_module
from kbsync.index.postgres.store import Owner, PostgresStore
from kbsync.index.search import Search
from tests.cli.sandbox import eventually
from tests.index.entries import Numbers, entry, piece
from tests.postgres.base import (
    between,
    commits_without_an_answer,
    committing,
    find,
    leftover_rows,
    open_store,
    put,
    session_of,
)
from tests.postgres.server import Server
from tests.share import long


def follow_fix(server: Server, halted: Halted) -> None:
    """Follow the fix, as an administrator would."""
    words = shlex.split(halted.fix)
    assert words[0] == "psql"
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["-h"] == str(server.folder)
    server.run(options["-d"], options["-c"])


def outcome(store: PostgresStore, number: int = 1, text: str = "kestrel") -> Any:
    [outcome] = store.put([entry(number, text)], Numbers())
    return outcome


# -- unusable servers


def test_unreachable_server_is_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    dsn = f"postgresql://ada:hush-hush@127.0.0.1:{port}/kb"
    with closing(PostgresStore(dsn, Owner(""))) as store, pytest.raises(Unavailable) as caught:
        store.check()
    assert str(caught.value).startswith(f"the database kb at 127.0.0.1:{port} cannot be reached (")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn", ["host=/tmp hush-hush", "postgresql://ada:hush-hush@[::1/kb", "secret-hush=1"]
)
def test_invalid_dsn_is_reported_without_its_text(dsn: str) -> None:
    with pytest.raises(Halted) as caught:
        PostgresStore(dsn, Owner(""))
    assert caught.value.halt == "credentials"
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://kb:12/hush@localhost/kb",
        "postgresql://kb:hush/12@localhost/kb",
        "postgresql://kb:/hush@localhost/kb",
        "postgresql://kb:top@hush@localhost/kb",
        "postgresql://kb:12/3?host=hush@localhost/kb",
        "host=localhost port=hush",
    ],
)
def test_part_of_a_password_is_not_reported_as_the_host(dsn: str) -> None:
    with pytest.raises(Halted) as caught:
        PostgresStore(dsn, Owner(""))
    assert caught.value.halt == "credentials"
    assert "%40, %2F" in str(caught.value)
    assert "hush" not in str(caught.value) + caught.value.fix


@pytest.mark.parametrize(
    ("dsn", "address"),
    [
        ("postgresql://kb:t%40p%2Fs@localhost/k%40b", "postgresql://localhost:5432/k@b"),
        ("postgresql:///kb?host=/srv/a@b", "postgresql:///srv/a@b:5432/kb"),
        ("postgresql://db/kb?user=ada@corp", "postgresql://db:5432/kb"),
        ("host=@abstract dbname=kb", "postgresql://@abstract:5432/kb"),
    ],
)
def test_at_sign_in_the_host_part_is_accepted(dsn: str, address: str) -> None:
    with closing(PostgresStore(dsn, Owner(""))) as store:
        assert store.address == address


@long
def test_missing_database_is_created_by_the_suggested_command(postgres: Server) -> None:
    postgres.run("postgres", "CREATE ROLE bird LOGIN")
    with open_store(postgres, "not_there", user="bird") as store:
        with pytest.raises(Halted) as caught:
            store.check()
        assert caught.value.halt == "knowledge-base-missing"
        follow_fix(postgres, caught.value)
        with pytest.raises(Halted) as caught:
            store.check()
        assert caught.value.halt == "unsuitable-server"
        assert "lacks the vector extension" in str(caught.value)
        follow_fix(postgres, caught.value)
        put(store, entry(1, "kestrel"))


def test_unknown_user_halts(postgres: Server) -> None:
    with open_store(postgres, postgres.database(), user="stranger") as store, pytest.raises(Halted) as caught:
        store.check()
    assert caught.value.halt == "credentials"


@long
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("OLDEST_SERVER", 99, r"is PostgreSQL \d\d;"), ("OLDEST_EXTENSION", (99, 0), "pgvector 0.8")],
)
def test_too_old_server_halts(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, name: str, value: object, message: str
) -> None:
    monkeypatch.setattr(connections, name, value)
    with open_store(postgres, postgres.database()) as store, pytest.raises(Halted, match=message) as caught:
        store.check()
    assert caught.value.halt == "unsuitable-server"
    assert "99" in str(caught.value)


@long
def test_newer_layout_is_refused_and_left_alone(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
        postgres.run(database, "UPDATE kbsync.base SET version = %s", store_module.VERSION + 1)
        with open_store(postgres, database) as later:
            for does in (later.check, lambda: later.put([entry(2, "heron")], Numbers())[0]):
                with pytest.raises(Halted, match="newer kbsync") as caught:
                    raise_it(does())
                assert caught.value.halt == "newer-index"
                assert caught.value.fix == "upgrade this kbsync"
    assert postgres.run(database, "SELECT count(*) FROM kbsync.document") == [(1,)]


@long
def test_older_layout_is_kept_until_its_schema_is_renamed(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
        postgres.run(database, "UPDATE kbsync.base SET version = 2")
        for read_only in (True, False):
            with open_store(postgres, database, read_only=read_only) as other:
                with pytest.raises(Halted, match=r"an older kbsync \(layout 2") as caught:
                    other.check()
                assert caught.value.halt == "older-index"
        postgres.run(database, shlex.split(caught.value.fix)[-1])
        store.check()
        put(store, entry(2, "heron"))
    assert postgres.run(database, "SELECT count(*) FROM kbsync_layout_2.document") == [(1,)]
    assert postgres.run(database, "SELECT count(*) FROM kbsync.document") == [(1,)]


def raise_it(outcome: object) -> None:
    if isinstance(outcome, TargetError):
        raise outcome


# -- servers that refuse a change


@long
def test_read_only_database_is_searched_and_not_written(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        [number] = put(store, entry(1, "kestrel"))
    postgres.run("postgres", f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with open_store(postgres, database) as store:
        with pytest.raises(Halted) as caught:
            store.check()
        assert caught.value.halt == "index-read-only"
        assert outcome(store, 2).halt == "index-read-only"
    with open_store(postgres, database, read_only=True) as reader:
        assert find(reader, "kestrel") == {number}
    postgres.run("postgres", f"ALTER DATABASE {database} RESET default_transaction_read_only")
    with open_store(postgres, database) as store:
        put(store, entry(2, "heron"))


@long
def test_revoked_privileges_halt_and_the_suggested_command_restores_them(
    postgres: Server, database: str
) -> None:
    role = f"writer_{database}"
    postgres.run(database, f"CREATE ROLE {role} LOGIN")
    with open_store(postgres, database, user=role) as store:
        halted = outcome(store)
        assert halted.halt == "credentials"
        follow_fix(postgres, halted)
        put(store, entry(1, "kestrel"))
        postgres.run(database, "ALTER TABLE kbsync.passage OWNER TO postgres")
        halted = outcome(store, 2, "heron")
        assert halted.halt == "credentials"
        assert role in str(halted)
        follow_fix(postgres, halted)
        put(store, entry(2, "heron"))


@long
def test_full_disk_halts_and_recovers_automatically(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        [first] = put(store, entry(1, "kestrel"))
        postgres.run(
            database,
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END$$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON kbsync.words EXECUTE FUNCTION full_disk()",
        )
        [first_outcome, second_outcome] = store.put(
            [entry(2, "heron", replaces=first), entry(3, "merlin")], Numbers()
        )
        assert isinstance(first_outcome, Halted)
        assert first_outcome.halt == "disk-full"
        assert second_outcome is first_outcome
        assert find(store, "kestrel") == {first}
        postgres.run(database, "DROP TRIGGER full_disk ON kbsync.words")
        put(store, entry(2, "heron", replaces=first))
        assert leftover_rows(postgres, database) == []


@long
def test_unstorable_value_fails_only_its_document(postgres: Server) -> None:
    with open_store(postgres, postgres.database()) as store:
        bad = entry(2, "heron")
        not_a_number = {chunk.key: b"\xff\x7f" * 8 for chunk in bad.chunks}
        bad = replace(bad, vectors=not_a_number)
        outcomes = store.put([entry(1, "kestrel"), bad, entry(3, "merlin")], Numbers())
        assert [type(result) for result in outcomes] == [int, Rejected, int]


@long
def test_vectors_of_another_length_halt(postgres: Server) -> None:
    with open_store(postgres, postgres.database()) as store:
        put(store, entry(1, "kestrel"))
        [halted] = store.put([entry(2, "heron")], Numbers(dimensions=4))
        assert isinstance(halted, Halted)
        assert halted.halt == "embedding-dimensions"
        # Such a question can't be compared by vector either; its words can.
        [hit] = Search(store, Numbers(dimensions=4)).search(Query("kestrel"))
        assert hit.passages[0].text == "kestrel"


@long
def test_dropped_base_is_recreated_only_by_a_check(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
        before = store.check()
        postgres.run(database, "DROP SCHEMA kbsync CASCADE")
        for number in (2, 3):
            failure = outcome(store, number)
            assert isinstance(failure, Unavailable)
            assert failure.code == "index-gone"
        assert store.page(0, 9) == []
        uuid, documents = store.check()
        assert uuid != before[0]
        assert documents == 0
        put(store, entry(2, "heron"))


@long
@pytest.mark.parametrize("table", ["base", "owner", "words"])
def test_missing_table_halts_until_the_schema_is_renamed(postgres: Server, database: str, table: str) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
        postgres.run(database, f"DROP TABLE kbsync.{table} CASCADE")
        assert isinstance(outcome(store, 2), Halted)
        with open_store(postgres, database, read_only=True) as reader:
            for use in (store.check, reader.check, lambda: find(reader, "kestrel")):
                with pytest.raises(Halted, match=rf"lacks tables or sequences \({table}\)") as caught:
                    use()
                assert caught.value.halt == "incomplete-index"
        postgres.run(database, shlex.split(caught.value.fix)[-1])
        store.check()
        put(store, entry(2, "heron"))
        assert find(store, "heron")


@long
def test_missing_column_halts_until_it_is_back(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store, open_store(postgres, database, read_only=True) as reader:
        put(store, entry(1, "kestrel"))
        postgres.run(database, "ALTER TABLE kbsync.document RENAME title TO another")
        for use in (lambda: raise_it(outcome(store, 2)), store.check, reader.check):
            with pytest.raises(Halted, match=r"lacks columns \(document\.title\)") as caught:
                use()
            assert caught.value.halt == "incomplete-index"
        postgres.run(database, "ALTER TABLE kbsync.document RENAME another TO title")
        store.check()
        put(store, entry(2, "heron"))


@long
def test_index_halts_without_any_of_its_columns(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store, open_store(postgres, database, read_only=True) as reader:
        store.check()
        columns = postgres.run(
            database,
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'kbsync'",
        )
        assert len(columns) == 55
        for table, column in columns:
            postgres.run(database, f"ALTER TABLE kbsync.{table} RENAME {column} TO another")
            with pytest.raises(Halted, match=rf"lacks columns \({table}\.{column}\)"):
                reader.check()
            postgres.run(database, f"ALTER TABLE kbsync.{table} RENAME another TO {column}")
        reader.check()


@long
def test_missing_sequence_halts(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
        postgres.run(database, "DROP SEQUENCE kbsync.content")
        halted = outcome(store, 2)
        assert isinstance(halted, Halted), halted
        assert (halted.halt, "(content)" in halted.reason) == ("incomplete-index", True)
        with open_store(postgres, database, read_only=True) as reader, pytest.raises(Halted):
            reader.check()
        assert find(store, "kestrel")
        postgres.run(database, "CREATE SEQUENCE kbsync.content START 2")
        store.check()
        put(store, entry(2, "heron"))


# -- servers and connections that end


@long
def test_server_restart_causes_a_pause(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        [first] = put(store, entry(1, "kestrel"))
        before = store.check()
        for number in (signal.SIGINT, signal.SIGQUIT):
            postgres.stop(number)
            assert isinstance(outcome(store, 2), Unavailable)
            with pytest.raises(Unavailable):
                store.check()
            postgres.start()
            assert find(store, "kestrel") == {first}
        assert store.check() == before


class Work:
    """A change to a base with one document, and the documents that searches may find meanwhile."""

    def __init__(self, name: str, does: Callable[[PostgresStore, int], object], after: set[str]) -> None:
        self.name, self.does, self.after = name, does, after


LONG = [f"kestrel {number}" for number in range(20)]
WORKS = (
    Work("put", lambda store, first: checked(store, entry(2, "heron", *LONG)), {"kestrel", "heron"}),
    Work(
        "replace",
        lambda store, first: checked(store, entry(2, "heron", *LONG[5:], replaces=first)),
        {"heron"},
    ),
    Work("again", lambda store, first: checked(store, entry(1, "kestrel", *LONG)), {"kestrel"}),
    Work("delete", lambda store, first: store.delete([first]), set()),
    Work("rename", lambda store, first: store.rename(first, "merlin.md", "merlin.md", 2.0), {"kestrel"}),
)


def checked(store: PostgresStore, document: Any) -> None:
    [outcome] = store.put([document], Numbers())
    raise_it(outcome)


@long
@pytest.mark.parametrize("is_answer_lost", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_connection_ended_at_any_statement_leaves_one_complete_version(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch, work: Work, is_answer_lost: bool
) -> None:
    for stop_at in range(1, 3 if is_answer_lost else 100):
        with open_store(postgres, database, f"{stop_at}/") as store:
            [first] = put(store, entry(1, "kestrel", *LONG))
            store.check()
            count = 0

            def step(connection: Any, statement: str, last: int = stop_at) -> None:
                nonlocal count
                count += statement == "COMMIT" or not is_answer_lost
                if count != last:
                    return
                if is_answer_lost:
                    connection.pgconn.exec_(b"COMMIT")
                # As if the client or server were killed or the network cut: the session is over.
                postgres.run(database, "SELECT pg_terminate_backend(%s, 5000)", session_of(connection))

            error: TargetError | None = None
            with monkeypatch.context() as patch:
                between(patch, step)
                try:
                    work.does(store, first)
                except TargetError as caught:
                    error = caught
            if count < stop_at:
                assert error is None
                assert stop_at > (1 if is_answer_lost else 4)
                return
            # None: it was about to be repeated automatically.
            assert error is None or isinstance(error, Unavailable | Unsure)
            assert not isinstance(error, Unsure) or work.name in ("put", "replace", "again")
            assert leftover_rows(postgres, database) == []
            assert find(store, "kestrel") or find(store, "heron") or work.name == "delete"
            # The journal repeats it, or finds that it was done: never twice.
            with suppress(Rejected):
                work.does(store, first)
            assert leftover_rows(postgres, database) == []
            assert {word for word in ("kestrel", "heron") if find(store, word)} >= work.after - {"kestrel"}
            rows = [row.upload_id for row in store.page(0, 9)]
            assert len(rows) == len(set(rows)) == {"put": 2, "delete": 0}.get(work.name, 1)
    pytest.fail("it never ended")


@long
@pytest.mark.parametrize("stop_at", range(1, 13))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_server_restart_during_any_statement_is_atomic(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, stop_at: int
) -> None:
    with open_store(postgres, database) as store:
        [first] = put(store, entry(1, "kestrel", *LONG))
        count, statements = 0, list[str]()

        def step(_: Any, statement: str) -> None:
            nonlocal count
            count += 1
            statements.append(statement)
            if count == stop_at or (count < stop_at and statement == "COMMIT"):
                count = stop_at
                postgres.stop(number)
                postgres.start()

        with monkeypatch.context() as patch:
            between(patch, step)
            [failed] = store.put([entry(2, "heron", *LONG[5:], replaces=first)], Numbers())
        if isinstance(failed, int):
            # It was between two transactions: the first one found that vectors are missing.
            assert statements[stop_at - 1].startswith(("ROLLBACK", "BEGIN")) and stop_at > 1
            assert find(store, "heron") == {failed}
            return
        assert isinstance(failed, Unavailable | Unsure), failed
        assert (find(store, "kestrel"), find(store, "heron")) == ({first}, set())
        assert leftover_rows(postgres, database) == []
        [second] = put(store, entry(2, "heron", *LONG[5:], replaces=first))
        assert find(store, "heron") == {second}
        assert leftover_rows(postgres, database) == []


@long
def test_only_a_lost_commit_is_unsure(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(postgres, database) as store:
        store.check()

        def cut(connection: Any, statement: str) -> None:
            if statement == "COMMIT" and threading.current_thread() is threading.main_thread():
                connection.pgconn.exec_(b"COMMIT")
                connection.pgconn.finish()

        with monkeypatch.context() as patch:
            between(patch, cut)
            [unsure, untried] = store.put([entry(1, "kestrel"), entry(2, "heron")], Numbers())
        assert isinstance(unsure, Unsure)
        assert isinstance(untried, Unavailable)
        assert untried.untried
        # The list, which has upload ids, decides.
        assert [row.upload_id for row in store.page(0, 9)] == [1]


@long
def test_commit_ended_after_reaching_the_disk_is_unsure(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store, ThreadPoolExecutor(1) as pool:
        [first] = put(store, entry(1, "kestrel"))
        with commits_without_an_answer(postgres):
            replacing = pool.submit(outcome, store, 2, "heron")
            [pid] = eventually(lambda: committing(postgres, database))
            postgres.run("postgres", "SELECT pg_terminate_backend(%s, 5000)", pid)
            assert isinstance(replacing.result(30), Unsure)
            deleting = pool.submit(store.delete, [first])  # it may be repeated: no search is needed
            [pid] = eventually(lambda: committing(postgres, database))
            postgres.run("postgres", "SELECT pg_terminate_backend(%s, 5000)", pid)
            with pytest.raises(Unavailable):
                deleting.result(30)
        assert [row.upload_id for row in store.page(0, 9)] == [2]
        assert leftover_rows(postgres, database) == []


@long
def test_commit_that_waits_for_a_missing_standby_is_unsure(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(postgres, database) as store:
        store.check()
        monkeypatch.setattr(connections.Connection, "max_silence", 2.0)
        with commits_without_an_answer(postgres):
            unsure = outcome(store)
            assert isinstance(unsure, Unsure)
            assert "no response for" in unsure.reason
        eventually(lambda: not committing(postgres, database))
    with open_store(postgres, database) as store:
        assert [row.upload_id for row in store.page(0, 9)] == [1]


@long
def test_statement_without_a_response_fails(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections.Connection, "max_silence", 2.0)
    with open_store(postgres, database) as store:
        store.check()
        with psycopg.connect(postgres.direct(database)) as rival:
            rival.execute("LOCK kbsync.document")
            failure = outcome(store)
            assert isinstance(failure, Unavailable)
            assert "no response for" in failure.reason
            rival.rollback()
        put(store, entry(1, "kestrel"))


@contextmanager
def cut_while_committing(store: PostgresStore, server: Server, database: str) -> Iterator[None]:
    """Cut off a put of document 1 while its COMMIT waits; that continues at the end."""
    lines = list[Any]()

    def note(connection: Any, statement: str) -> None:
        if statement == "COMMIT" and threading.current_thread().name.startswith("cut"):
            lines.append(connection)

    store.check()
    with ThreadPoolExecutor(1, "cut") as pool, pytest.MonkeyPatch.context() as patch:
        with commits_without_an_answer(server):
            between(patch, note)
            putting = pool.submit(outcome, store)
            eventually(lambda: committing(server, database))
            with socket.socket(fileno=os.dup(lines[-1].fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)  # the server doesn't read it before it has committed
            assert isinstance(putting.result(30), Unsure)
            assert committing(server, database)
            yield
        eventually(lambda: not committing(server, database))


@long
def test_list_waits_for_a_commit_whose_answer_was_lost(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sixty = "'lock_timeout', '60s'"
    assert sixty in connections._SET
    with open_store(postgres, database) as store, ThreadPoolExecutor(1) as pool:
        with cut_while_committing(store, postgres, database):
            with monkeypatch.context() as patch:
                patch.setattr(
                    connections, "_SET", connections._SET.replace(sixty, sixty.replace("60s", "1s"))
                )
                for list_rows in (lambda: store.page(0, 9), lambda: store.find_existing([1])):
                    with pytest.raises(Unavailable):
                        list_rows()
            listing = pool.submit(store.page, 0, 9)
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'transactionid' AND datname = %s"
            eventually(lambda: postgres.run("postgres", waiting, database))
        assert [row.upload_id for row in listing.result(30)] == [1]
        assert [row.upload_id for row in store.page(0, 9)] == [1]


@long
def test_process_started_during_an_open_commit_waits_for_it(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(postgres, database) as ended, open_store(postgres, database) as restarted:
        with cut_while_committing(ended, postgres, database), monkeypatch.context() as patch:
            patch.setattr(store_module, "ASLEEP", -4)  # it waits for a second
            with pytest.raises(Unavailable):
                restarted.check()
        assert restarted.check()[1] == 1
        assert [row.upload_id for row in restarted.page(0, 9)] == [1]


# -- sleeping writers


@long
def test_sleeping_writer_blocks_nobody_and_stores_nothing_on_waking(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'idle_in_transaction_session_timeout', '30s'" in connections._SET
    asleep, wake = threading.Event(), threading.Event()
    with open_store(postgres, database) as sleeper, open_store(postgres, database) as successor:
        [first] = put(sleeper, entry(1, "kestrel"))

        def doze(connection: Any, statement: str) -> None:
            if threading.current_thread().name.startswith("asleep") and statement.startswith("COPY words"):
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = '300ms'")
                asleep.set()
                assert wake.wait(30)

        with monkeypatch.context() as patch, ThreadPoolExecutor(1, "asleep") as pool:
            between(patch, doze)
            slow = pool.submit(sleeper.put, [entry(2, "heron", replaces=first)], Numbers())
            assert asleep.wait(30)
            # It holds the owner's row. The next writer waits until the server ends that session.
            [second] = put(successor, entry(3, "merlin", replaces=first))
            wake.set()
            [outcome] = slow.result(30)
        assert isinstance(outcome, Unavailable)
        assert find(successor, "merlin") == {second}
        # When it wakes, it tries again: its place is taken.
        [halted] = sleeper.put([entry(2, "heron", replaces=first)], Numbers())
        assert isinstance(halted, Halted)
        assert halted.halt == "superseded"
        assert sleeper.check() == successor.check()  # and doesn't take it back
        with pytest.raises(Halted):
            sleeper.delete([second])
        with pytest.raises(Halted):
            sleeper.rename(second, "b.md", "b.md", 1.0)
        assert [row.upload_id for row in successor.page(0, 9)] == [3]
        assert leftover_rows(postgres, database) == []


@long
def test_vector_deleted_by_another_host_is_recomputed(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(postgres, database, "a/") as ours, open_store(postgres, database, "b/") as theirs:
        [other] = put(theirs, entry(1, "kestrel"))
        assert ours.find_embedded("numbers", [piece("kestrel").key])
        encoder = Numbers()
        ours.check()

        def take_out(connection: Any, statement: str) -> None:
            if "CROSS JOIN LATERAL" in statement and theirs.find_existing([other]):
                theirs.delete([other])

        with monkeypatch.context() as patch:
            between(patch, take_out)
            [number] = ours.put([entry(1, "kestrel")], encoder)
        assert encoder.embedded == ["kestrel"]
        assert find(ours, "kestrel") == {number}
        assert leftover_rows(postgres, database) == []


def test_closed_store_starts_no_further_work(postgres: Server) -> None:
    with open_store(postgres, postgres.database()) as store:
        put(store, entry(1, "kestrel"))
        store.stop()
        assert isinstance(outcome(store, 2), Unavailable)
    store.close()
    with pytest.raises(Unavailable):
        store.check()


@long
def test_lost_connection_is_detected_before_use(postgres: Server, database: str) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel"))
        pids = "SELECT pid FROM pg_stat_activity WHERE application_name = 'kbsync' AND datname = %s"
        postgres.run(database, f"SELECT pg_terminate_backend(pid, 5000) FROM ({pids}) AS ours", database)
        put(store, entry(2, "heron"))


def test_store_statements_raise_only_target_errors(postgres: Server) -> None:
    with open_store(postgres, postgres.database()) as store:
        store.check()
        with pytest.raises(TargetError), store._connections.transaction() as (connection, _):
            connection.execute("SELECT 1/0")
        with pytest.raises(psycopg.Error) as caught, psycopg.connect(postgres.dsn("not_there_either")):
            pass
        assert caught.value
