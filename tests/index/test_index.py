from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync.errors import Rejected, StateError, UsageError
from kbsync.index.document import Chunk, Entry
from kbsync.index.embed import Vectors
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.vectors import SLOTS
from kbsync.index.sqlite.writer import Writer
from kbsync.state.db import open_writer


class Fake:
    """Vectors of four numbers made of the key."""

    def __init__(self, model: str = "fake") -> None:
        self.model = model
        self.made: list[str] = []

    takes_pictures, at_once = False, 2**31

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        self.made += [each.text for each in chunks]
        made = Future[Vectors]()
        made.set_result({each.key: bytes.fromhex(each.key)[:8] for each in chunks})
        return made

    def query(self, text: str) -> Any:
        raise AssertionError(text)

    def close(self) -> None:
        pass


def piece(text: str) -> Chunk:
    return Chunk(text, text, hashlib.sha256(text.encode()).hexdigest(), ("Part",), None, 1)


def entry(
    upload: int, *texts: str, path: str = "", title: str | None = None, replaces: int | None = None
) -> Entry:
    return Entry(
        upload_id=upload,
        path=path or f"folder/file-{upload}.md",
        name="name",
        digest=hashlib.sha256("".join(texts).encode()).hexdigest(),
        size=1,
        recipe="r",
        modified=1.0,
        title=title,
        tags=("tag",),
        chunks=tuple(map(piece, texts)),
        vectors={},
        replaces=replaces,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kb"


@pytest.fixture
def index(folder: Path) -> Iterator[Writer]:
    index = Writer(folder, clock=lambda: 5.0)
    yield index
    index.close()


def found(index: Writer, word: str) -> list[int]:
    query = """
        SELECT DISTINCT document FROM words JOIN run ON words.rowid BETWEEN first AND first + chunks - 1
        WHERE words MATCH ? AND document NOTNULL
    """
    return sorted(row[0] for row in index._connection.execute(query, (word,)))


def slots_in_use(index: Writer) -> int:
    return index._connection.execute("SELECT count(*) FROM slot WHERE key NOTNULL").get  # type: ignore[no-any-return]


def traces(folder: Path, *words: str) -> list[tuple[str, str]]:
    """Files of the folder that hold one of `words`, in any case."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return [
        (each.name, word) for each in files for word in words if word.encode() in each.read_bytes().lower()
    ]


def test_a_document_is_found_by_text_title_heading_tag_and_file_name(index: Writer) -> None:
    index.put([entry(1, "thirty days 年假", title="Handbook", path="a/leave-rules.md")], Fake())
    for word in ("days", "day", "年假", "handbook", "part", "tag", "leave", "rules"):
        assert found(index, word) == [1], word
    assert found(index, "folder") == found(index, "md") == []


def test_files_are_of_the_owner_alone(index: Writer, folder: Path) -> None:
    index.put([entry(1, "text")], Fake())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 4


def test_a_second_writer_is_told_who_holds_it(index: Writer, folder: Path) -> None:
    with pytest.raises(StateError, match="in use by another kbsync"):
        Writer(folder)


def test_the_index_is_the_same_after_a_restart(index: Writer, folder: Path) -> None:
    index.put([entry(1, "text")], Fake())
    index.close()
    again = Writer(folder)
    assert again.uuid == index.uuid
    assert found(again, "text") == [1]
    again.close()


def test_replacing_takes_the_old_version_out_in_the_same_commit(index: Writer) -> None:
    (old,) = index.put([entry(1, "alpha beta")], Fake())
    (new,) = index.put([entry(2, "beta gamma", replaces=old)], Fake())  # type: ignore[arg-type]
    assert new != old
    assert (found(index, "alpha"), found(index, "beta"), found(index, "gamma")) == ([], [new], [new])


def test_the_same_upload_again_is_the_same_document(index: Writer) -> None:
    assert index.put([entry(1, "alpha")], Fake()) == index.put([entry(1, "alpha")], Fake()) == [1]
    assert found(index, "alpha") == [1]


def test_an_upload_number_of_a_lost_state_takes_nothing_away(index: Writer, folder: Path) -> None:
    index.put([entry(1, "alpha", path="a.md")], Fake())
    assert index.put([entry(1, "beta", path="b.md")], Fake()) == [2]
    assert (found(index, "alpha"), found(index, "beta")) == ([1], [2])
    reader = SqliteStore(folder, writer=None)
    assert [(row.id, row.upload_id) for row in reader.page(0, 9)] == [(1, None), (2, 1)]
    reader.close()


def test_equal_texts_share_a_vector_until_the_last_is_gone(index: Writer) -> None:
    fake = Fake()
    index.put([entry(1, "same", "one"), entry(2, "same", "two")], fake)
    assert sorted(fake.made) == ["one", "same", "two"]
    index.put([entry(3, "same", "three", replaces=1)], fake)
    assert fake.made[3:] == ["three"]
    index.delete([2])
    assert slots_in_use(index) == 2
    index.delete([3])
    assert slots_in_use(index) == 0
    assert index._connection.execute("SELECT count(*) FROM block").get == 0


def test_a_free_slot_is_used_again(index: Writer) -> None:
    index.put([entry(1, *(f"text {at}" for at in range(SLOTS)))], Fake())
    index.put([entry(2, "more")], Fake())
    index.delete([1])
    index.put([entry(3, *(f"other {at}" for at in range(SLOTS - 1)))], Fake())
    assert index._connection.execute("SELECT count(*) FROM block").get == 1
    rows = index._connection.execute("SELECT slot.id, key FROM slot WHERE key NOTNULL").fetchall()
    assert len(rows) == SLOTS
    for slot, key in rows:
        (raw,) = index._connection.execute(
            "SELECT vectors FROM block WHERE id = ?", (slot // SLOTS,)
        ).fetchone()
        assert raw[slot % SLOTS * 8 : slot % SLOTS * 8 + 8] == key[:8]


def test_one_document_that_cannot_be_stored_leaves_the_others(index: Writer) -> None:
    bad = entry(2, "fine", "lone \ud800 surrogate".encode("utf-8", "replace").decode(), title="\ud800")
    outcomes = index.put([entry(1, "alpha"), bad, entry(3, "gamma")], Fake())
    assert isinstance(outcomes[1], Rejected)
    assert (found(index, "alpha"), found(index, "fine"), found(index, "gamma")) == ([1], [], [outcomes[2]])


def test_a_failed_replacement_leaves_the_old_version(index: Writer) -> None:
    index.put([entry(1, "alpha")], Fake())
    (outcome,) = index.put([entry(2, "beta", title="\ud800", replaces=1)], Fake())
    assert isinstance(outcome, Rejected)
    assert (found(index, "alpha"), found(index, "beta")) == ([1], [])


def test_a_rename_embeds_nothing_and_is_found_by_the_new_name(index: Writer, folder: Path) -> None:
    fake = Fake()
    index.put([entry(1, "alpha", "beta", path="old-place/zqfirst.md")], fake)
    for _ in range(2):
        index.rename(1, "new/第二.md", "第二.md", 7.0)
    assert len(fake.made) == 2
    assert (found(index, "zqfirst"), found(index, "第二"), found(index, "alpha")) == ([], [1], [1])
    with pytest.raises(Rejected):
        index.rename(9, "x", "x", 1.0)
    index.delete([1])
    assert not traces(folder, "alpha", "zqfirst", "第二")


def test_paths_that_are_not_utf8_come_back(index: Writer, folder: Path) -> None:
    path = os.fsdecode(b"caf\xe9/x\xff.md")
    index.put([entry(1, "alpha", path=path)], Fake())
    reader = SqliteStore(folder, writer=None)
    assert [row.path for row in reader.page(0, 9)] == [path]
    reader.close()


def test_old_vectors_stay_when_the_model_changes(index: Writer, folder: Path) -> None:
    index.put([entry(1, "alpha"), entry(2, "beta")], Fake("one"))
    index.put([entry(3, "alpha", replaces=1)], Fake("two"))
    reader = SqliteStore(folder, writer=None)
    key = {text: piece(text).key for text in ("alpha", "beta")}
    assert reader.known("one", key.values()) == {key["beta"]}
    assert reader.known("two", key.values()) == {key["alpha"]}
    assert reader.known("three", key.values()) == set()
    reader.close()


def test_after_a_deletion_no_file_holds_a_word_of_it(index: Writer, folder: Path) -> None:
    rng = random.Random(1)
    common = ["".join(rng.choices("abcdefghij", k=7)) for _ in range(3_000)]
    secrets = [f"zq{''.join(rng.choices('klmnoprstuv', k=9))}" for _ in range(40)] + ["机密文件在此"]
    texts = [" ".join(rng.choices(common, k=60)) for _ in range(300)]
    index.put([entry(at, text) for at, text in enumerate(texts[:150], 1)], Fake())
    secret = [f"{' '.join(rng.choices(common, k=9))} {each} {each}x" for each in secrets]
    (document,) = index.put([entry(500, *secret, title="zqtitle", path="x/zqfile.md")], Fake())
    index.put([entry(at, text) for at, text in enumerate(texts[150:], 151)], Fake())
    searched = [*(each[:8] for each in secrets[:40]), "机密", "密文", "zqtitle", "zqfile"]
    assert len(traces(folder, *searched)) >= 44
    assert isinstance(document, int)
    assert index.delete([document])
    assert traces(folder, *searched) == []
    vector = bytes.fromhex(piece(secret[0]).key)[:8]
    assert not [each.name for each in folder.iterdir() if vector in each.read_bytes()]


def test_a_replaced_text_is_gone_once_the_wal_is_scrubbed(index: Writer, folder: Path) -> None:
    index.put([entry(1, "zqsecret")], Fake())
    index.put([entry(2, "harmless", replaces=1)], Fake())
    assert index.scrub()
    assert traces(folder, "zqsecret") == []


def test_a_reader_in_the_way_puts_the_scrubbing_off(index: Writer, folder: Path) -> None:
    index.put([entry(1, "zqsecret")], Fake())
    reader = SqliteStore(folder, writer=None)
    with reader.snapshot() as seen:
        assert seen.has_vectors("fake")
        assert not index.delete([1])
    assert index.scrub()
    assert traces(folder, "zqsecret") == []
    reader.close()


def test_everything_is_gone_after_any_order_of_changes(index: Writer) -> None:
    rng = random.Random(4)
    live: list[int] = []
    for number in range(1, 120):
        match rng.randrange(4):
            case 0 if live:
                index.delete([live.pop(rng.randrange(len(live)))])
            case 1 if live:
                index.rename(rng.choice(live), f"p/名字 {number} word.md", "n", 1.0)
            case _:
                old = live.pop(rng.randrange(len(live))) if live and rng.random() < 0.5 else None
                texts = [
                    f"{rng.choice(['red', '蓝色的', 'blue'])} {rng.randrange(30)}"
                    for _ in range(rng.randrange(1, 9))
                ]
                live += index.put([entry(number, *texts, replaces=old)], Fake())  # type: ignore[arg-type]
    index._connection.execute("INSERT INTO words(words) VALUES ('integrity-check')")
    assert index._connection.pragma("integrity_check") == "ok"
    index.delete(live)
    index._connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, words, row)")
    assert index._connection.execute("SELECT term FROM temp.vocabulary").fetchall() == []
    for table in ("document", "run", "chunk", "slot", "segment", "block"):
        assert index._connection.execute(f"SELECT count(*) FROM {table}").get == 0


@pytest.mark.parametrize("damage", ["junk", "foreign", "torn", "older"])
def test_a_file_that_is_no_index_is_set_aside_with_a_reason(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = Writer(folder)
    index.put([entry(at, f"alpha {at} " * 50) for at in range(1, 200)], Fake())
    index.close()
    file = folder / "index.db"
    match damage:
        case "junk":
            file.write_bytes(b"not a database at all" * 1000)
        case "foreign":
            file.unlink()
            foreign = sqlite3.connect(file)
            foreign.execute("CREATE TABLE theirs (x)")
            foreign.close()
        case "torn":
            file.write_bytes(file.read_bytes()[:8192])
        case "older":
            connection = apsw.Connection(str(file))
            connection.pragma("user_version", 0)
            connection.close()
    size = file.stat().st_size
    again = Writer(folder)
    assert again.uuid != index.uuid
    assert again._connection.execute("SELECT count(*) FROM document").get == 0
    assert (folder / "index.db.damaged-1").stat().st_size == size
    assert "index set aside" in caplog.text
    again.close()


def test_an_index_of_a_newer_kbsync_is_left_alone(folder: Path) -> None:
    Writer(folder).close()
    connection = apsw.Connection(str(folder / "index.db"))
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(StateError, match="newer kbsync"):
        Writer(folder)
    assert not list(folder.glob("*damaged*"))


@pytest.mark.parametrize("content", [b"", None])
def test_an_index_that_was_killed_while_it_was_made_is_finished(folder: Path, content: bytes | None) -> None:
    folder.mkdir()
    if content is None:
        connection = apsw.Connection(str(folder / "index.db"))
        connection.pragma("journal_mode", "wal")
        connection.close()
    else:
        (folder / "index.db").write_bytes(content)
    index = Writer(folder)
    assert index.put([entry(1, "alpha")], Fake()) == [1]
    assert not list(folder.glob("*damaged*"))
    index.close()


def test_a_missing_index_is_told_to_a_reader(folder: Path) -> None:
    with pytest.raises(UsageError, match="nothing has been mirrored yet"):
        SqliteStore(folder, writer=None)
    assert not folder.exists()


def test_an_index_that_is_being_made_holds_nothing_yet_for_a_reader(folder: Path) -> None:
    folder.mkdir()
    open_writer(folder / "index.db").close()
    with pytest.raises(UsageError, match=r"nothing has been mirrored yet: .*index\.db is empty"):
        SqliteStore(folder, writer=None)


def test_another_programs_file_is_no_index_for_a_reader(folder: Path) -> None:
    folder.mkdir()
    with closing(open_writer(folder / "index.db")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(UsageError, match="is not an index of this kbsync, and the next pass makes"):
        SqliteStore(folder, writer=None)


def test_a_reader_changes_and_creates_nothing(index: Writer, folder: Path) -> None:
    index.put([entry(1, "alpha")], Fake())
    for _ in range(2):
        before = {each.name: each.read_bytes() for each in folder.iterdir() if each.suffix != ".db-shm"}
        names = sorted(os.listdir(folder))
        reader = SqliteStore(folder, writer=None)
        assert (reader.look()[1], reader.present([1, 2])) == (1, {1})
        reader.close()
        assert sorted(os.listdir(folder)) == names
        assert {name: (folder / name).read_bytes() for name in before} == before
        index.close()


def test_a_reader_follows_a_new_index(index: Writer, folder: Path) -> None:
    reader = SqliteStore(folder, writer=None)
    first, _ = reader.look()
    index.discard("a test")
    again = Writer(folder)
    assert reader.look() == (again.uuid, 0) and again.uuid != first
    reader.close()
    again.close()


REPLACING = """
    import sys
    from pathlib import Path
    from kbsync.index.sqlite.writer import Writer
    from tests.index.test_index import Fake, entry

    index = Writer(Path(sys.argv[1]))
    texts = lambda version: [f"version{version} part {part}" for part in range(20)]
    number = int(sys.argv[2])
    live = [row[0] for row in index._connection.execute("SELECT id FROM document ORDER BY path")]
    while True:
        old = live or [None] * 3
        live = index.put(
            [entry(number + at, *texts(number), path=f"{at}.md", replaces=old[at]) for at in range(3)], Fake()
        )
        number += 3
        print(number, flush=True)
"""


def test_a_killed_writer_leaves_every_document_whole_and_in_one_version(folder: Path) -> None:
    rng = random.Random(2)
    number = "3"
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(REPLACING), str(folder), number],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout
            for _ in range(rng.randrange(3, 12)):
                number = writer.stdout.readline().strip()
            os.kill(writer.pid, signal.SIGKILL)
            rest = writer.stdout.read().split()
        # It works on what the dead writer left, before any writer comes.
        reader = SqliteStore(folder, writer=None)
        documents = {row.path: reader.texts(row.id) for row in reader.page(0, 99)}
        assert sorted(documents) == ["0.md", "1.md", "2.md"]
        versions = {texts[0].split()[0] for texts in documents.values() if texts}
        assert len(versions) == 1, "documents of one put are committed together"
        for texts in documents.values():
            assert texts == [f"{next(iter(versions))} part {part}" for part in range(20)]
        reader.close()
        number = str(int(rest[-1] if rest else number) + 30)
    index = Writer(folder)
    assert index._connection.pragma("integrity_check") == "ok"
    index._connection.execute("INSERT INTO words(words) VALUES ('integrity-check')")
    assert len(found(index, next(iter(versions)))) == 3
    assert slots_in_use(index) == 20
    index.close()
