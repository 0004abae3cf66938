"""Tests `kbsync kb copy`, which moves a built-in knowledge base into a database, and the passes around it."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync.state import lock
from kbsync_standin.server import Server as StandIn
from kbsync_standin.vectors import application
from tests.cli.sandbox import Sandbox, eventually, words_of
from tests.postgres.base import leftover_rows
from tests.postgres.server import Server
from tests.share import enumerated, long
from tests.targets.services.service import KEY

pytestmark = long


class Moving(Sandbox):
    """A mirror that changes from the built-in base to a database and back."""

    def __init__(self, root: Path, server: Server, vectors: StandIn) -> None:
        super().__init__(root)
        self.server, self.vectors = server, vectors
        self.database = server.database()
        self.local()

    def local(self, more: str = "", model: str = "m") -> None:
        target = f"{{type: local{more}, max_bytes: 100000, {self.embedding(model)}}}"
        self.configure(f"deletions: {{hold_count: 3}}\ntarget: {target}")

    def postgres(self, database: str = "", *, model: str = "m", dsn: str = "", prefix: str = "one/") -> None:
        dsn = dsn or self.server.dsn(database or self.database)
        target = f"{{type: postgres, max_bytes: 100000, dsn: {json.dumps(dsn)}, {self.embedding(model)}}}"
        self.configure(f"prefix: {json.dumps(prefix)}\ndeletions: {{hold_count: 3}}\ntarget: {target}")

    def embedding(self, model: str) -> str:
        access = f"base_url: {self.vectors.url}/openai/v1, api_key: {KEY}"
        return f"embedding: {{type: openai, {access}, model: {model}, dimensions: 32}}"

    @property
    def embedded_count(self) -> int:
        """How many texts the embedding service got so far."""
        return sum(effect["texts"] for effect in self.vectors.app.journal())

    @property
    def base(self) -> Path:
        return self.state / "kb" / "handbook"

    def hits(self, question: str) -> Any:
        """Return a search's hits without document ids."""
        hits = self.run("search", question, "--json").json["hits"]
        return [{key: value for key, value in hit.items() if key != "document_id"} for hit in hits]

    def having(self, word: str) -> list[str]:
        """Return the paths of files with a word in their passages."""
        return sorted(
            h["path"] for h in self.hits(word) if any(word in passage["text"] for passage in h["passages"])
        )

    def copy(self) -> dict[str, Any]:
        result = self.go("kb", "copy", "--json")
        assert result.code == 0, result.err
        return dict(result.json)

    def documents(self) -> list[str]:
        statement = "SELECT shown FROM kbsync.document ORDER BY shown"
        return [path for (path,) in self.server.run(self.database, statement)]

    def left_behind_count(self) -> int:
        """Return how many documents the mirror's note reports as left behind."""
        note = self.status().get("note", "")
        return int(note.split()[0]) if "previous knowledge base" in note else 0


@pytest.fixture
def moving(tmp_path: Path, postgres: Server) -> Iterator[Moving]:
    with StandIn(application(KEY)).in_thread() as vectors:
        moving = Moving(tmp_path, postgres, vectors)
        yield moving
        moving.close()


def fill(moving: Moving, number: int = 8) -> Moving:
    for bird in range(number):
        nest = " ".join(["Its nest."] * (bird + 1))  # so that no two are equally near to a question
        moving.write(
            f"birds/{bird}.md", f"# Bird {bird}\n\nThe kestrel {bird}.\n\n## Nest {bird}\n\n{nest}\n"
        )
    moving.write("table.csv", "".join(["name,weight\n", *(f"heron {n},{n}\n" for n in range(300))]))
    moving.write("été.txt", "The same text.\n\nThe kestrel 1.\n")
    assert moving.once()["failed"] == 0
    return moving


def counts_of(counts: dict[str, Any]) -> dict[str, Any]:
    return {key: counts[key] for key in ("uploaded", "replaced", "renamed", "deleted", "held", "failed")}


def contents(server: Server, database: str) -> list[Any]:
    return server.run(
        database,
        "SET search_path = kbsync, public; SELECT shown, d.name, d.digest, size, recipe, title, tags,"
        " tokeniser, modified, place, p.digest, text, headings, page, line, length, w.terms, counts,"
        " d.terms, key, embedding::text,"
        " m.name, dimensions FROM document d JOIN passage p USING (content) JOIN words w ON w.passage = p.id"
        " JOIN vector v ON v.passage = p.id JOIN model m ON m.id = v.model ORDER BY shown, place",
    )


NOTHING = {"uploaded": 0, "replaced": 0, "renamed": 0, "deleted": 0, "held": 0, "failed": 0}


def test_embedded_base_is_copied_without_parsing_or_embedding_again(moving: Moving) -> None:
    fill(moving)
    questions = ("kestrel", "nest of bird 3", "heron 250")
    before = [[(hit["path"], hit["text"]) for hit in moving.hits(question)] for question in questions]
    index = (moving.base / "index.db").read_bytes()
    moving.postgres(prefix="")
    embedded_count = moving.embedded_count
    copied = moving.copy()
    assert (copied["documents"], copied["there"], copied["left"]) == (10, 0, 0)
    assert (
        copied["passages"] == moving.server.run(moving.database, "SELECT count(*) FROM kbsync.passage")[0][0]
    )
    assert copied["bytes"] > 1000 and copied["seconds"] > 0
    assert counts_of(moving.once()) == NOTHING
    assert moving.embedded_count == embedded_count
    assert [[(hit["path"], hit["text"]) for hit in moving.hits(question)] for question in questions] == before
    assert moving.run("verify").code == 0
    assert leftover_rows(moving.server, moving.database) == []
    assert (moving.base / "index.db").read_bytes() == index
    assert moving.copy()["documents"] == 0
    # Everything is as if the files had been read for this base.
    other = moving.server.database()
    moving.postgres(other, prefix="")
    assert moving.once()["uploaded"] == 10
    assert contents(moving.server, moving.database) == contents(moving.server, other)
    moving.postgres(prefix="")
    # Edited files share their passages with the copied ones.
    embedded_count = moving.embedded_count
    moving.write("birds/0.md", "# Bird 0\n\nThe kestrel 0.\n\n## Nest 0\n\nIts nest.\n\n## Eggs\n\nFour.\n")
    assert counts_of(moving.once()) == {**NOTHING, "replaced": 1}
    assert moving.embedded_count == embedded_count + 1


def test_file_changes_during_the_copy_are_handled_by_the_next_pass(moving: Moving) -> None:
    fill(moving)
    moving.write("birds/0.md", "# Bird 0\n\nThe merlin.\n")
    (moving.docs / "birds/1.md").unlink()
    (moving.docs / "birds/2.md").rename(moving.docs / "birds/20.md")
    moving.write("new.md", "The heron of today.\n")
    moving.postgres()
    assert moving.copy()["documents"] == 10
    assert counts_of(moving.once()) == {**NOTHING, "uploaded": 1, "replaced": 1, "renamed": 1, "deleted": 1}
    assert moving.having("merlin") == ["birds/0.md"]
    matching = [f"birds/{number}.md" for number in (20, 3, 4, 5, 6, 7)]
    assert moving.having("kestrel") == [*matching, "été.txt"]
    assert moving.run("verify").code == 0
    assert leftover_rows(moving.server, moving.database) == []


def test_held_deletions_stay_held_and_a_failed_document_keeps_its_old_version(moving: Moving) -> None:
    fill(moving)
    moving.write("birds/7.md", "It grew. " * 20_000)
    for number in range(5):
        (moving.docs / f"birds/{number}.md").unlink()
    assert moving.go("--once").code == 3
    held = {item["path"] for item in moving.status()["items"] if item["state"] == "held"}
    assert len(held) == 5
    moving.postgres()
    moving.copy()
    assert moving.go("--once").code == 3
    assert {item["path"] for item in moving.status()["items"] if item["state"] == "held"} == held
    assert "birds/0.md" in moving.having("kestrel") and "birds/7.md" in moving.having("kestrel")
    assert moving.run("approve", "--yes").code == 0
    assert moving.go("--once").code == 1  # birds/7.md
    assert moving.documents() == ["birds/5.md", "birds/6.md", "birds/7.md", "table.csv", "été.txt"]


@pytest.mark.parametrize("continuation", ["copy", "pass", "files change"])
def test_killed_copy_is_resumed(moving: Moving, continuation: str) -> None:
    fill(moving, 150)
    moving.postgres()
    embedded_count = moving.embedded_count
    moving.server.run(moving.database, "CREATE SCHEMA kbsync")
    for least in (1, 40, 90):
        process = moving.start("kb", "copy", "--json")

        def is_in_the_middle(least: int = least) -> bool:
            if moving.server.run(moving.database, "SELECT to_regclass('kbsync.document')") == [(None,)]:
                return False
            return bool(
                moving.server.run(moving.database, "SELECT count(*) FROM kbsync.document") >= [(least,)]
            )

        eventually(is_in_the_middle)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if continuation == "files change":
            moving.write(f"birds/{least}.md", "# Merlin\n\nThe merlin.\n")
            (moving.docs / f"birds/{least + 1}.md").unlink()
    if continuation == "copy":
        # A killed copy's documents are found even if it couldn't record them.
        [(stored,)] = moving.server.run(moving.database, "SELECT count(*) FROM kbsync.document")
        copied = moving.copy()
        assert copied["documents"] <= 152 - stored
        assert copied["documents"] + copied["there"] == 152
        assert counts_of(moving.once()) == NOTHING
        assert moving.embedded_count == embedded_count
    else:
        assert moving.once()["failed"] == 0
    assert moving.documents() == sorted(str(p.relative_to(moving.docs)) for p in moving.docs.rglob("*.*"))
    assert moving.run("verify").code == 0
    assert leftover_rows(moving.server, moving.database) == []
    if continuation == "files change":
        assert moving.having("merlin") == ["birds/1.md", "birds/40.md", "birds/90.md"]


def test_documents_with_vectors_of_another_model_are_left_to_the_next_pass(moving: Moving) -> None:
    fill(moving, 3)
    moving.postgres(model="other")
    copied = moving.copy()
    assert (copied["documents"], copied["left"]) == (0, 5)
    assert counts_of(moving.once()) == {**NOTHING, "uploaded": 5}


def test_documents_already_sent_by_a_pass_are_not_copied(moving: Moving) -> None:
    fill(moving, 3)
    moving.postgres()
    moving.once()
    moving.write("birds/0.md", "The merlin.\n")
    moving.once()
    copied = moving.copy()
    assert (copied["documents"], copied["there"], copied["left"]) == (0, 4, 1)
    assert counts_of(moving.once()) == NOTHING
    assert moving.having("merlin") == ["birds/0.md"]


def test_second_copy_restores_nothing_deleted_or_renamed(moving: Moving) -> None:
    fill(moving)
    moving.postgres()
    moving.copy()
    (moving.docs / "birds/0.md").unlink()
    (moving.docs / "birds/1.md").rename(moving.docs / "birds/10.md")
    assert counts_of(moving.once()) == {**NOTHING, "renamed": 1, "deleted": 1}
    for number in range(2, 7):
        (moving.docs / f"birds/{number}.md").unlink()
    assert moving.go("--once").code == 3
    before = moving.documents()
    copied = moving.copy()
    # Held documents stay.
    assert (copied["documents"], copied["there"], copied["left"]) == (0, 9, 0)
    assert moving.documents() == before
    assert moving.run("approve", "--yes").code == 0
    assert moving.once()["deleted"] == 5
    assert moving.copy()["documents"] == 0
    assert moving.having("kestrel") == ["birds/10.md", "birds/7.md", "été.txt"]
    assert moving.run("verify").code == 0


def test_documents_left_behind_are_reported_and_reused(moving: Moving) -> None:
    fill(moving, 3)
    other = moving.server.database()
    moving.postgres()
    moving.copy()
    assert moving.left_behind_count() == 5
    # Another database: the old one keeps its documents, and still has them when it is used again.
    moving.postgres(other)
    assert moving.once()["uploaded"] == 5
    assert moving.left_behind_count() == 10
    moving.postgres()
    assert counts_of(moving.once()) == NOTHING
    # The same database by another name.
    moving.postgres(dsn=moving.server.dsn(moving.database) + " port=5432 application_name=elsewhere")
    assert counts_of(moving.once()) == NOTHING
    assert moving.left_behind_count() == 10
    # Restored elsewhere.
    moving.server.run("postgres", f"CREATE DATABASE restored TEMPLATE {moving.database}")
    moving.postgres("restored")
    assert counts_of(moving.once()) == NOTHING
    moving.postgres()
    # Back on this machine: files deleted meanwhile are deleted here too.
    (moving.docs / "birds/0.md").unlink()
    moving.local()
    assert counts_of(moving.once()) == {**NOTHING, "deleted": 1}
    assert moving.left_behind_count() == 10
    assert moving.having("kestrel") == ["birds/1.md", "birds/2.md", "été.txt"]
    # The documents of the built-in one are deleted as the copy announced: nothing is left behind.
    moving.postgres()
    output = moving.go("kb", "copy").err
    assert moving.once()["deleted"] == 1
    assert moving.left_behind_count() == 9
    says = "to delete its documents: "
    [command] = [line.partition(says)[2] for line in output.splitlines() if says in line]
    assert moving.go(*words_of(command), "--yes").code == 0
    moving.once()
    assert moving.left_behind_count() == 5
    assert (moving.base / "owner").exists()


def test_mirror_that_returns_from_a_clone_of_its_base_takes_up_its_own_documents(
    moving: Moving, postgres: Server
) -> None:
    moving.postgres()
    fill(moving)
    clone = f"{moving.database}_clone"
    postgres.run("postgres", f"CREATE DATABASE {clone} TEMPLATE {moving.database}")
    moving.write("birds/1.md", "The heron 1.")
    moving.once()  # so that both are claimed equally often
    moving.postgres(clone)
    moving.once()
    moving.postgres()
    moving.once()
    verified = moving.run("verify")
    assert verified.code == 0, verified.out
    assert leftover_rows(postgres, moving.database) == []
    assert moving.documents().count("birds/1.md") == 1


def test_base_recreated_in_the_same_database_leaves_nothing_behind(moving: Moving) -> None:
    moving.postgres()
    fill(moving, 3)
    moving.server.run(moving.database, "DROP SCHEMA kbsync CASCADE")
    assert moving.once()["uploaded"] == 5
    assert moving.left_behind_count() == 0


Before = Callable[[Moving], str]
"""Causes the problem while the config names the database; returns another dsn, or ''."""


def stays_local(moving: Moving) -> str:
    moving.local()
    return ""


def without_a_base(moving: Moving) -> str:
    shutil.rmtree(moving.base)
    return ""


def without_a_state(moving: Moving) -> str:
    (moving.state / "state.db").unlink()
    return ""


def with_a_newer_index(moving: Moving) -> str:
    with closing(apsw.Connection(str(moving.base / "index.db"))) as connection:
        connection.pragma("user_version", 99)
    return ""


def with_a_damaged_index(moving: Moving) -> str:
    for file in moving.base.glob("index.db-*"):
        file.unlink()
    (moving.base / "index.db").write_bytes(b"this is no database" * 500)
    return ""


def into_a_newer_schema(moving: Moving) -> str:
    moving.copy()
    moving.server.run(moving.database, "UPDATE kbsync.base SET version = 99; DELETE FROM kbsync.document")
    return ""


def as_a_reader(moving: Moving) -> str:
    moving.copy()
    role = f"reader_{moving.database}"
    moving.server.run(
        moving.database,
        f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA kbsync TO {role};"
        f" GRANT SELECT ON ALL TABLES IN SCHEMA kbsync TO {role}",
    )
    return moving.server.dsn(moving.database, role)


def with_a_full_disk(moving: Moving) -> str:
    moving.server.run(
        moving.database,
        "CREATE SCHEMA other; CREATE FUNCTION other.full_disk() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file'; END$$;"
        " CREATE EVENT TRIGGER full_disk ON ddl_command_end EXECUTE FUNCTION other.full_disk()",
    )
    return ""


def at_a_server_that_is_away(moving: Moving) -> str:
    return "host=127.0.0.1 port=1 dbname=kb user=kbsync password=pw-sEcReT"


@enumerated()
@pytest.mark.parametrize(
    ("before", "code", "message"),
    [
        (stays_local, 2, "handbook (local); change the target in the config first"),
        (without_a_base, 2, "kb/handbook; pass its folder with --from DIR"),
        (without_a_state, 2, "has no record of the documents in"),
        (with_a_newer_index, 3, "index.db was written by a newer kbsync (layout 99"),
        (with_a_damaged_index, 4, "index.db is damaged"),
        (into_a_newer_schema, 3, "is from a newer kbsync (layout 99"),
        (as_a_reader, 3, "GRANT "),
        (with_a_full_disk, 3, "is full; free some space"),
        (at_a_server_that_is_away, 4, "cannot be reached"),
    ],
)
def test_base_that_cannot_be_copied_is_refused_and_unchanged(
    moving: Moving, before: Before, code: int, message: str
) -> None:
    fill(moving, 2)
    moving.postgres()
    if dsn := before(moving):
        moving.postgres(dsn=dsn)
    result = moving.run("kb", "copy")
    assert (result.code, result.out) == (code, "")
    assert message in result.err and "Traceback" not in result.err and "sEcReT" not in result.err


def test_running_kbsync_is_not_disturbed(moving: Moving) -> None:
    fill(moving, 2)
    moving.postgres()
    with lock.held(moving.state):
        result = moving.run("kb", "copy")
    assert (result.code, result.out) == (4, "")
    assert "stop it first" in result.err


def test_copy_ended_by_a_full_disk_continues_when_there_is_space(moving: Moving) -> None:
    fill(moving, 4)
    other = moving.server.database()
    moving.postgres(other)
    moving.once()
    moving.server.run(
        other,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file'; END$$;"
        " CREATE TRIGGER full_disk BEFORE INSERT ON kbsync.document EXECUTE FUNCTION full_disk();"
        " DELETE FROM kbsync.document; UPDATE kbsync.base SET uuid = gen_random_uuid()",
    )
    result = moving.run("kb", "copy")
    assert result.code == 3 and "to continue: kbsync kb copy" in result.err
    moving.server.run(other, "DROP TRIGGER full_disk ON kbsync.document")
    embedded_count = moving.embedded_count
    assert moving.copy()["documents"] == 6
    assert counts_of(moving.once()) == NOTHING
    assert moving.embedded_count == embedded_count


def test_base_with_a_custom_path_is_named(moving: Moving) -> None:
    folder = moving.root / "elsewhere"
    moving.local(f", path: {folder}")
    fill(moving, 2)
    moving.postgres()
    assert moving.run("kb", "copy").code == 2
    result = moving.run("kb", "copy", "--from", "elsewhere")
    assert "handbook: 4 documents copied from" in result.out
    assert f"{folder}, a former knowledge base" in moving.run("forget", "handbook", "--left-behind").err
    assert counts_of(moving.once()) == NOTHING


def test_database_password_is_never_shown(moving: Moving) -> None:
    fill(moving, 1)
    moving.postgres(dsn=moving.server.dsn(moving.database) + " password=pw-sEcReT")
    words = (
        "kb copy",
        "--once",
        "plan",
        "status --json",
        "doctor",
        "verify",
        "search kestrel",
        "explain été.txt",
    )
    for command in words:
        result = moving.run(*command.split())
        assert result.code == 0 and "sEcReT" not in result.out + result.err, command
    files = [file for file in moving.root.rglob("*") if file.is_file() and file != moving.config]
    assert [file for file in files if b"sEcReT" in file.read_bytes()] == []
    # Files of a former base are reported; the proof of ownership alone isn't a copy.
    copies = [line for line in moving.run("doctor").out.splitlines() if " copies " in line]
    assert len(copies) == 1 and "handbook now uses postgres" in copies[0]
    for file in moving.base.glob("index.db*"):
        file.unlink()
    assert any("copies" in line and "none" in line for line in moving.run("doctor").out.splitlines())


def test_forgetting_a_mirror_deletes_only_its_own_documents_from_the_database(moving: Moving) -> None:
    moving.write("a.md", "The kestrel.\n")
    moving.postgres(prefix="other/")
    moving.once()
    shutil.rmtree(moving.state)
    moving.postgres(prefix="one/")
    moving.once()
    owned = "SELECT prefix FROM kbsync.document d JOIN kbsync.owner o ON o.id = d.owner ORDER BY 1"
    assert moving.server.run(moving.database, owned) == [("one/",), ("other/",)]
    # Also if the database's name changed since the last pass.
    moving.postgres(dsn=moving.server.dsn(moving.database) + " port=5432")
    result = moving.run("forget", "handbook", "--delete-documents", "--yes")
    assert (result.code, result.out) == (0, "handbook is forgotten; 1 document deleted\n")
    assert moving.server.run(moving.database, owned) == [("other/",)]
    assert moving.server.run(moving.database, "SELECT prefix FROM kbsync.owner") == [("other/",)]
    assert leftover_rows(moving.server, moving.database) == []


def test_database_config_is_written_without_its_dsn(moving: Moving) -> None:
    moving.config.unlink()
    moving.write("a.md", "The kestrel.\n")
    result = moving.run("init", "docs", "--target", "postgres")
    assert result.code == 0 and "export POSTGRES_DSN=…" in result.out and result.err == ""
    assert "dsn: ${POSTGRES_DSN}" in moving.config.read_text()
    dsn = {"POSTGRES_DSN": moving.server.dsn(moving.database)}
    assert moving.run("--once", env=dsn).code == 0
    assert "kb list" not in moving.run("--once").err
