"""Tests the index file: stored text is searchable, deleted text is gone, long work is done in steps."""

from __future__ import annotations

import functools
import itertools
import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from kbsync.contract.searching import Query
from kbsync.errors import Halted, Rejected, StateError, Unavailable, UsageError
from kbsync.index.sqlite.planes import SLOTS
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import STEP, Writer
from kbsync.index.words import TOKENISER, terms_of, words
from kbsync.state.db import open_writer
from tests.index.entries import Numbers, entry, piece
from tests.resources.spoiling import directory, pipe
from tests.share import enumerated, long


class Stepping(Writer):
    """Calls `between` before and after each transaction."""

    between: Callable[[], None] = staticmethod(lambda: None)

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        self.between()
        with super()._transaction() as version:
            yield version
        self.between()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kb"


@pytest.fixture
def index(folder: Path) -> Iterator[Stepping]:
    index = Stepping(folder)
    yield index
    index.between = lambda: None
    index.close()


def find(index: Writer, word: str) -> list[int]:
    query = """
        SELECT document FROM words JOIN run ON words.rowid BETWEEN first AND first + chunks - 1
        WHERE words MATCH ?1 AND document NOTNULL UNION SELECT rowid FROM names WHERE names MATCH ?1
    """
    return sorted(row[0] for row in index._connection.execute(query, (word,)))


def slots_in_use(index: Writer) -> int:
    return index._connection.execute("SELECT count(*) FROM slot WHERE key NOTNULL").get  # type: ignore[no-any-return]


def traces(folder: Path, *words: str) -> list[tuple[str, str]]:
    """Return files of the folder that contain one of `words`, in any case."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        (file.name, word) for file in files for word in words if word.encode() in file.read_bytes().lower()
    ]


def texts(word: str, count: int = STEP * 2 + 90) -> list[str]:
    return [f"{word} number{number}" for number in range(count)]


def stored(index: Writer, number: int, parts: Sequence[str], replaces: int | None = None) -> int:
    (document,) = index.put([entry(number, *parts, path="huge.txt", replaces=replaces)], Numbers())
    assert isinstance(document, int)
    return document


def read_all(folder: Path) -> list[list[str]]:
    """Return the texts of every document, as another process sees them."""
    reader = SqliteStore(folder, writer=None)
    try:
        return [list(reader.texts(row.id) or ()) for row in reader.page(0, 99)]
    finally:
        reader.close()


def is_sound(index: Writer) -> None:
    for table in ("words", "names"):
        index._connection.execute(f"INSERT INTO {table}({table}) VALUES ('integrity-check')")
    documents, names = (
        index._connection.execute(f"SELECT id FROM {table} ORDER BY id").fetchall()
        for table in ("document", "names_docsize")
    )
    assert documents == names
    assert index._connection.pragma("integrity_check") == "ok"
    rows = "SELECT (SELECT count(*) FROM chunk), (SELECT sum(chunks) FROM run), count(*) FROM words_docsize"
    chunks, owned, indexed = index._connection.execute(rows).get
    assert chunks == (owned or 0) == indexed
    assert index._connection.execute("SELECT count(*) FROM run WHERE document IS NULL").get == 0


@contextmanager
def counted(index: Writer) -> Iterator[list[str]]:
    """Yield the changes of the full-text index."""
    observed = list[str]()

    def note(_: object, statement: str, __: object) -> bool:
        if statement.startswith(("INSERT INTO words", "REPLACE INTO names")):
            observed.append(statement)
        return True

    index._connection.exec_trace = note
    yield observed
    index._connection.exec_trace = None


def test_document_is_found_by_text_title_heading_tag_and_file_name(index: Writer) -> None:
    index.put([entry(1, "thirty days 年假", title="Handbook", path="a/leave-rules.md")], Numbers())
    for word in ("days", "day", "年假", "handbook", "part", "tag", "leave", "rules"):
        assert find(index, word) == [1], word
    assert find(index, "folder") == find(index, "md") == []


@pytest.mark.parametrize("count", [1, STEP * 2])
def test_unstorable_document_keeps_its_old_version_and_the_others(index: Writer, count: int) -> None:
    index.put([entry(1, "alpha")], Numbers())
    bad = entry(2, *texts("beta", count), title="\ud800", replaces=1)
    refused, other = index.put([bad, entry(3, "gamma")], Numbers())
    assert isinstance(refused, Rejected)
    assert (find(index, "alpha"), find(index, "beta"), find(index, "gamma")) == ([1], [], [other])
    is_sound(index)


def test_free_slot_is_reused(index: Writer) -> None:
    index.put([entry(1, *(f"text {number}" for number in range(SLOTS)))], Numbers())
    index.put([entry(2, "more")], Numbers())
    index.delete([1])
    index.put([entry(3, *(f"other {number}" for number in range(SLOTS - 1)))], Numbers())
    assert index._connection.execute("SELECT count(*) FROM block").get == 1
    assert slots_in_use(index) == SLOTS


def test_old_vectors_stay_when_the_model_changes(index: Writer, folder: Path) -> None:
    index.put([entry(1, "alpha"), entry(2, "beta")], Numbers("one"))
    index.put([entry(3, "alpha", replaces=1)], Numbers("two"))
    reader = SqliteStore(folder, writer=None)
    key = {text: piece(text).key for text in ("alpha", "beta")}
    assert reader.find_embedded("one", key.values()) == {key["beta"]}
    assert reader.find_embedded("two", key.values()) == {key["alpha"]}
    assert reader.find_embedded("three", key.values()) == set()
    reader.close()


@long
def test_no_file_contains_a_word_of_a_deleted_document(index: Writer, folder: Path) -> None:
    rng = random.Random(1)
    common = ["".join(rng.choices("abcdefghij", k=7)) for _ in range(1_000)]
    secrets = [f"zq{''.join(rng.choices('klmnoprstuv', k=9))}" for _ in range(40)] + ["机密文件在此"]
    texts = [" ".join(rng.choices(common, k=60)) for _ in range(100)]
    index.put([entry(number, text) for number, text in enumerate(texts[:50], 1)], Numbers())
    secret = [f"{' '.join(rng.choices(common, k=9))} {word} {word}x" for word in secrets]
    (document,) = index.put([entry(500, *secret, title="zqtitle", path="x/zqfile.md")], Numbers())
    index.put([entry(number, text) for number, text in enumerate(texts[50:], 51)], Numbers())
    searched = [*(word[:8] for word in secrets[:40]), "机密", "密文", "zqtitle", "zqfile"]
    assert len(traces(folder, *searched)) >= 44
    assert isinstance(document, int)
    assert index.delete([document])
    assert traces(folder, *searched) == []
    vector = Numbers().vector(piece(secret[0]).key)
    assert not [file.name for file in folder.iterdir() if vector in file.read_bytes()]


def test_index_whose_wal_is_read_only_is_reported_with_a_fix(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer(folder).close()

    def refuse(_: apsw.Connection) -> bool:
        raise apsw.ReadOnlyError("attempt to write a readonly database")

    monkeypatch.setattr("kbsync.index.sqlite.writer.empty_wal", refuse)  # as with a closed `index.db-shm`
    with pytest.raises(Halted, match="cannot be written") as halt:
        Writer(folder)
    assert halt.value.fix == f"ls -ld {folder}"
    monkeypatch.undo()
    Writer(folder).close()


@enumerated()
@pytest.mark.parametrize("kill_after", range(1, 12))
def test_deletion_repeated_after_a_kill_leaves_no_text(
    index: Stepping, folder: Path, kill_after: int
) -> None:
    stored(index, 1, texts("zqother"))
    document = stored(index, 2, texts("zqsecret", STEP * 3))
    steps = itertools.count(1)

    def kill() -> None:
        if next(steps) == kill_after:
            raise KeyboardInterrupt

    index.between = kill
    with suppress(KeyboardInterrupt):
        index.delete([document])
    index.between = lambda: None
    index.close()
    with closing(Writer(folder)) as reopened:
        reopened.delete([document])
        assert traces(folder, "zqsecret") == []


@pytest.mark.parametrize(
    "damage", ["junk", "foreign", "torn", "older layout", "older words", "pipe", "directory"]
)
def test_file_that_is_not_an_index_is_set_aside_with_a_reason(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = Writer(folder)
    index.put([entry(number, f"alpha {number} " * 50) for number in range(1, 20)], Numbers())
    with closing(SqliteStore(folder, writer=None)) as store:
        first, _ = store.check()
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
        case "older layout":
            with closing(apsw.Connection(str(file))) as connection:
                connection.pragma("user_version", 4)
        case "older words":
            with closing(apsw.Connection(str(file))) as connection:
                connection.execute("UPDATE run SET tokeniser = 3 WHERE first = 1")
        case "pipe":
            pipe(file)
        case "directory":
            directory(file)
    size = file.lstat().st_size
    reopened = Writer(folder)
    with closing(SqliteStore(folder, writer=None)) as store:
        second, documents = store.check()
    assert (second == first, documents) == (False, 0)
    aside = folder / f"index.db.{'foreign' if damage == 'foreign' else 'damaged'}-1"
    assert aside.lstat().st_size == size
    assert "the index was set aside" in caplog.text
    reopened.delete([stored(reopened, 1, ["beta"])])
    assert aside.exists() is (damage in ("foreign", "directory"))
    reopened.close()


def test_link_to_an_index_on_an_unmounted_disk_is_left_alone(folder: Path, tmp_path: Path) -> None:
    Writer(folder).close()
    disk, file = tmp_path / "disk", folder / "index.db"
    disk.mkdir()
    file.rename(disk / file.name)
    file.symlink_to(disk / file.name)
    disk.rename(tmp_path / "unmounted")
    reason = f"{file} is a broken link; mount the disk with {disk}/index.db"
    for _ in range(2):
        with pytest.raises(Unavailable, match=reason):
            Writer(folder)
        disk.mkdir(exist_ok=True)  # the mount point
    assert file.is_symlink() and not list(folder.glob("*damaged*")) and not list(disk.iterdir())
    disk.rmdir()
    (tmp_path / "unmounted").rename(disk)
    Writer(folder).close()


@pytest.mark.parametrize("change", ["PRAGMA user_version = 99", "UPDATE run SET tokeniser = 99"])
def test_index_of_a_newer_kbsync_is_left_alone(folder: Path, change: str) -> None:
    with closing(Writer(folder)) as index:
        index.put([entry(1, "alpha")], Numbers())
    with closing(apsw.Connection(str(folder / "index.db"))) as connection:
        connection.execute(change)
    with pytest.raises(Halted, match="newer kbsync"):
        Writer(folder)
    assert not list(folder.glob("*damaged*"))


@pytest.mark.parametrize("content", [b"", None])
def test_index_whose_creation_was_killed_is_completed(folder: Path, content: bytes | None) -> None:
    folder.mkdir()
    if content is None:
        connection = apsw.Connection(str(folder / "index.db"))
        connection.pragma("journal_mode", "wal")
        connection.close()
    else:
        (folder / "index.db").write_bytes(content)
    index = Writer(folder)
    assert index.put([entry(1, "alpha")], Numbers()) == [1]
    assert not list(folder.glob("*damaged*"))
    index.close()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (None, r"^the index .*index\.db doesn't exist"),
        ("", r"^the index .*index\.db is empty"),
        ("CREATE TABLE theirs (x)", "the next pass"),
    ],
)
def test_invalid_index_is_reported_to_a_reader(folder: Path, sql: str | None, message: str) -> None:
    folder.mkdir()
    if sql is not None:
        with closing(open_writer(folder / "index.db")) as connection:
            connection.execute(sql)
    with pytest.raises(UsageError, match=message):
        SqliteStore(folder, writer=None)


def test_reader_switches_to_a_new_index(index: Writer, folder: Path) -> None:
    reader = SqliteStore(folder, writer=None)
    first, _ = reader.check()
    index.discard("a test")
    reopened = Writer(folder)
    second, documents = reader.check()
    assert (second == first, documents) == (False, 0)
    reader.close()
    reopened.close()


@enumerated()
@pytest.mark.parametrize("position", ["end", "top", "middle"])
def test_added_line_moves_little_of_a_long_text(index: Writer, position: str) -> None:
    count = STEP * 4 + 90
    parts = texts("alpha", count)
    document = stored(index, 1, parts)
    rows = {row[0] for row in index._connection.execute("SELECT id FROM chunk")}
    parts.insert({"end": count, "top": 0, "middle": count // 2}[position], "gamma")
    with counted(index) as counts:
        later = stored(index, 2, parts, document)
    assert len(counts) < count // 4
    assert len(rows - {row[0] for row in index._connection.execute("SELECT id FROM chunk")}) < count // 8
    assert read_all(index._folder) == [parts]
    assert (find(index, "gamma"), find(index, "alpha")) == ([later], [later])
    is_sound(index)


@long
def test_changed_chunk_is_removed_with_its_run_only(index: Writer, folder: Path) -> None:
    parts = texts("alpha", STEP * 4)
    document = stored(index, 1, parts)
    parts[700] = "zqsecret"
    document = stored(index, 2, parts, document)
    parts[700] = "harmless"
    with counted(index) as counts:
        stored(index, 3, parts, document)
    assert len(counts) < STEP
    index.scrub()
    assert traces(folder, "zqsecret") == []
    is_sound(index)


def edited(rng: random.Random, parts: Sequence[str]) -> list[str]:
    """Return the parts with words inserted, removed, changed, moved or repeated."""
    new, position = list(parts), rng.randrange(len(parts))
    match rng.randrange(5):
        case 0:
            new[position:position] = [f"蓝色的 word{rng.randrange(9)}" for _ in range(rng.randrange(4))]
        case 1 if len(new) > 9:
            del new[position : position + 3]
        case 2:
            new[position] = f"word{rng.randrange(9)}"
        case 3:
            new = new[position:] + new[:position]
        case _:
            new.append(new[position])
    return new


@long
def test_any_sequence_of_changes_leaves_the_last_version_and_then_nothing(index: Writer) -> None:
    rng, live = random.Random(8), dict[int, list[str]]()
    for number in range(1, 120):
        old = rng.choice([*live, None])
        match rng.randrange(6):
            case 0 if old:
                index.delete([old])
                del live[old]
            case 1 if old:
                index.rename(old, f"p/名字 {number} word.md", "n", 1.0)
            case _:
                parts = edited(rng, live.pop(old) if old else texts(f"alpha{number}", 30))
                live[stored(index, number, parts, old)] = parts
        assert read_all(index._folder) == list(live.values())
        is_sound(index)
        assert slots_in_use(index) == len({part for parts in live.values() for part in parts})
    index.delete(list(live))
    index._connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, words, row)")
    for table in ("document", "run", "chunk", "slot", "segment", "block", "temp.vocabulary"):
        assert index._connection.execute(f"SELECT count(*) FROM {table}").get == 0


def test_chunks_know_their_new_lines(index: Writer) -> None:
    first = entry(1, "one", "two", "three", path="a.md")
    moved = [replace(chunk, line=number * 10) for number, chunk in enumerate(first.chunks, 1)]
    index.put([replace(first, chunks=tuple(moved))], Numbers())
    moved_again = [replace(moved[0]), replace(moved[1], line=25), replace(moved[2], line=35, page=2)]
    index.put([replace(first, upload_id=2, chunks=tuple(moved_again), replaces=1)], Numbers())
    rows = index._connection.execute(
        "SELECT text, line + lines, page FROM run JOIN chunk ON id BETWEEN first AND first + chunks - 1"
        " WHERE document = 2 ORDER BY place, id"
    )
    assert rows.fetchall() == [("one", 10, None), ("two", 25, None), ("three", 35, 2)]


@long
def test_reader_sees_either_the_complete_old_or_new_text(index: Stepping, folder: Path) -> None:
    old, new = texts("alpha"), texts("beta", STEP * 3)
    document = stored(index, 1, old)
    observed = list[str]()

    def check() -> None:
        (parts,) = read_all(folder)
        assert parts in (old, new)
        words = {word: find(index, word) for word in ("alpha", "beta")}
        assert words == ({"alpha": [1], "beta": []} if parts == old else {"alpha": [], "beta": [2]})
        observed.append(parts[0])

    index.between = check
    stored(index, 2, new, document)
    assert [word for word, _ in itertools.groupby(observed)] == ["alpha number0", "beta number0"]
    assert len(observed) >= 8
    is_sound(index)


def check_version(folder: Path, *versions: list[str], removed: str) -> None:
    """Assert that one of the versions exists, and nothing else after the next start has tidied up."""
    assert read_all(folder) in [[version] if version else [] for version in versions]
    reopened = Writer(folder)
    while reopened.tidy():
        pass
    reopened.scrub()
    assert read_all(folder) in [[version] if version else [] for version in versions]
    is_sound(reopened)
    text = (read_all(folder) or [[]])[0]
    assert slots_in_use(reopened) == len(text)
    if not any(removed in part for part in text):
        assert traces(folder, removed) == []
    reopened.close()


@long
@enumerated()
@pytest.mark.parametrize("new", [texts("beta", STEP * 2 + 9), []], ids=["replacement", "deletion"])
def test_kill_between_two_steps_leaves_one_version(index: Stepping, folder: Path, new: list[str]) -> None:
    old, created = texts("zqsecret"), list[Path]()
    stored(index, 1, old)
    index.between = lambda: created.append(
        shutil.copytree(folder, folder.with_name(f"killed-{len(created)}"))
    )
    if new:
        stored(index, 2, new, 1)
    else:
        index.delete([1])
    index.between = lambda: None
    for folder in created:
        check_version(folder, old, new, removed="zqsecret")


def test_renaming_a_long_text_changes_one_row_and_no_passage(index: Writer) -> None:
    stored(index, 1, texts("alpha"))
    observed = list[str]()
    index._connection.set_update_hook(lambda _kind, _database, table, _rowid: observed.append(table))
    with counted(index) as statements:
        index.rename(1, "deep/second.txt", "second.txt", 1.0)
    index._connection.set_update_hook(None)
    assert len(statements) == 1
    assert {"chunk", "run", "slot", "block"}.isdisjoint(observed) and len(observed) < 20
    assert (find(index, "huge"), find(index, "second"), find(index, "alpha")) == ([], [1], [1])
    is_sound(index)


@pytest.mark.parametrize("count", [2, STEP * 2 + 90])
def test_document_is_found_by_text_and_name_during_a_rename_and_after_a_kill(
    index: Stepping, folder: Path, count: int
) -> None:
    parts, fake = texts("alpha", count), Numbers()
    index.put([entry(1, *parts, path="huge.txt")], fake)
    created = list[Path]()

    def check() -> None:
        assert find(index, "huge") or find(index, "第二")
        assert find(index, "alpha") == [1]
        assert read_all(folder) == [parts]
        created.append(shutil.copytree(folder, folder.with_name(f"killed-{len(created)}")))

    def rename(index: Writer) -> None:
        index.rename(1, "第二.txt", "第二.txt", 1.0)
        while index.tidy():
            pass
        assert (find(index, "huge"), find(index, "第二"), read_all(index._folder)) == ([], [1], [parts])
        is_sound(index)

    index.between = check
    rename(index)
    index.between = lambda: None
    assert len(fake.embedded) == count, "nothing is embedded again"
    for folder in created:
        with closing(Writer(folder)) as reopened:
            rename(reopened)


@long
def test_small_document_is_stored_between_steps_of_a_large_one(index: Stepping) -> None:
    stored(index, 1, texts("alpha"))
    finished = list[str]()

    def small() -> None:
        index.put([entry(9, "small")], Numbers())
        finished.append("small")

    other = threading.Thread(target=small)

    def begin() -> None:
        if threading.current_thread() is not other and not other.ident:
            other.start()

    index.between = begin
    stored(index, 2, texts("beta", STEP * 8), 1)
    finished.append("huge")
    other.join()
    assert finished == ["small", "huge"]


@long
def test_replacement_during_another_is_not_lost(index: Stepping) -> None:
    stored(index, 1, texts("alpha"))
    calls = itertools.count()

    def meddle() -> None:
        if next(calls) == 3:
            index.rename(1, "other.txt", "other.txt", 1.0)

    index.between = meddle
    stored(index, 2, texts("beta"), 1)
    assert read_all(index._folder) == [texts("beta")]
    assert find(index, "other") == []
    is_sound(index)


@long
def test_closing_waits_for_one_step_only(index: Stepping, folder: Path) -> None:
    stored(index, 1, texts("alpha"))
    calls = itertools.count()
    index.between = lambda: index.stop() if next(calls) == 2 else None
    with pytest.raises(StateError, match="is being closed"):
        stored(index, 2, texts("beta", STEP * 9), 1)
    assert next(calls) < 6
    index.close()
    check_version(folder, texts("alpha"), removed="beta")


@long
def test_free_space_returns_to_the_file_system(index: Writer, folder: Path) -> None:
    rng = random.Random(3)
    parts = [" ".join(rng.choices("abcdefghijkl", k=4_000)) for _ in range(STEP * 2)]
    stored(index, 1, [f"{number} {text}" for number, text in enumerate(parts)])
    stored(index, 2, ["other"])
    index.scrub()
    full = (folder / "index.db").stat().st_size
    index.delete([1])
    assert (folder / "index.db").stat().st_size < full / 2
    assert read_all(folder) == [["other"]]
    is_sound(index)


@contextmanager
def older_words(version: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Store documents with words of an older version."""
    with monkeypatch.context() as patch:
        patch.setattr("kbsync.index.sqlite.writer.TOKENISER", version)
        patch.setattr("kbsync.index.sqlite.writer.words", functools.partial(words, version=version))
        yield


@long
def test_words_of_an_older_version_are_replaced_in_killable_steps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, fake, created = (
        [texts("alpha"), *(["beta", f"text {number}, S.S.O."] for number in range(300))],
        Numbers(),
        list[Path](),
    )
    with older_words(4, monkeypatch), closing(Writer(folder)) as index:
        put = index.put(
            [entry(number, *part, path=f"name{number}.md") for number, part in enumerate(parts, 1)], fake
        )
        ids = [number for number in put if isinstance(number, int)]
    count = len(fake.embedded)

    def check() -> None:
        """Assert that everything is found by name and text, once, at any moment."""
        with closing(SqliteStore(folder, writer=None)) as store, store.snapshot() as snapshot:
            for query, position in (("name1", 0), ("name300", 299), ("number7", 0), ("299", 300)):
                candidates = snapshot.candidates(terms_of(query), "numbers", None, Query(query))
                assert {candidate.document for candidate in candidates} == {ids[position]}, query
        created.append(shutil.copytree(folder, folder.with_name(f"killed-{len(created)}")))

    def finish(index: Writer) -> None:
        while index.tidy():
            pass
        rows = (f"run WHERE tokeniser <> {TOKENISER}", 0), ("words WHERE words MATCH 'sso'", 300)
        for table, number in rows:
            assert index._connection.execute(f"SELECT count(*) FROM {table}").get == number
        with closing(SqliteStore(index._folder, writer=None)) as store:
            assert [store.texts(number) for number in ids] == parts
        is_sound(index)

    check()
    with closing(Stepping(folder)) as index:
        index.between = check
        finish(index)
        index.between = lambda: None
    assert len(created) > 6
    for folder in created:
        with closing(Writer(folder)) as reopened:
            finish(reopened)
    assert len(fake.embedded) == count


def test_document_with_older_words_is_renamed_replaced_and_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with older_words(4, monkeypatch), closing(Writer(folder)) as index:
        stored(index, 1, ["zqsecret S.S.O. one", *texts("three", STEP)])
    with closing(Writer(folder)) as index:
        assert (find(index, "three"), find(index, "sso")) == ([1], [])
        index.rename(1, "other.txt", "other.txt", 1.0)
        assert (find(index, "huge"), find(index, "other")) == ([], [1])
        fake = Numbers()
        index.put([entry(2, *texts("three", STEP), "S.S.O. four", path="other.txt", replaces=1)], fake)
        assert (fake.embedded, find(index, "sso")) == (["S.S.O. four"], [2])
        assert index.delete([]) is True
        assert read_all(folder) == [[*texts("three", STEP), "S.S.O. four"]]
        assert traces(folder, "zqsecret") == []
        is_sound(index)


@enumerated()
@pytest.mark.parametrize("position", range(3))
def test_deleted_words_are_erased_in_killable_steps_before_all_words_are_updated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    created, kept = [folder], ["one", "three"]
    deleted, *found = position + 1, *sorted({1, 2, 3} - {position + 1})
    with older_words(4, monkeypatch), closing(Writer(folder)) as index:
        for number, word in enumerate([*kept[:position], "zqsecret", *kept[position:]], 1):
            stored(index, number, [f"{word} S.S.O.", *texts(word, STEP)])
    with closing(Stepping(folder)) as stepping:
        assert stepping.tidy()
        stepping.delete([deleted])
        assert traces(folder, "zqsecret")
        stepping.between = lambda: created.append(
            shutil.copytree(folder, folder.with_name(f"killed-{len(created)}"))
        )
        stepping.erase()
        stepping.between = lambda: None
    assert len(created) > 3
    for killed in created:
        with closing(Writer(killed)) as index:
            index.erase()
            assert traces(killed, "zqsecret") == []
            outdated = "SELECT count(*) FROM run WHERE tokeniser <> ?"
            assert index._connection.execute(outdated, (TOKENISER,)).get > 0
            while index.tidy():
                pass
            assert (find(index, "sso"), find(index, "one"), find(index, "zqsecret")) == (found, found[:1], [])
            is_sound(index)


def failing_once(folder: Path, error: Exception) -> Callable[[Path], Writer]:
    """Return a function that opens the index, but fails the second time."""
    errors: list[Exception | None] = [None, error]

    def open_writer(folder: Path) -> Writer:
        if errors and (failure := errors.pop(0)) is not None:
            raise failure
        return Writer(folder)

    return open_writer


def test_damaged_index_that_cannot_be_replaced_yet_closes_no_other_file(folder: Path) -> None:
    store = SqliteStore(folder, writer=failing_once(folder, StateError("the disk is full")))
    store._damage = "torn"
    with pytest.raises(Unavailable, match="the disk is full"):
        store.check()
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
    store.check()
    for descriptor in descriptors:
        os.close(descriptor)
    store.close()


def test_index_is_replaced_only_once_by_checks_at_the_same_time(folder: Path) -> None:
    is_opening, may_open = threading.Event(), threading.Event()
    writers = list[Writer]()

    def open_writer(folder: Path) -> Writer:
        if writers:
            is_opening.set()
            may_open.wait(1.0)
        writers.append(Writer(folder))
        return writers[-1]

    store = SqliteStore(folder, writer=open_writer)
    store._damage = "torn"
    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(store.check)
        assert is_opening.wait(10.0)
        second = executor.submit(store.check)
        with suppress(TimeoutError):
            second.result(0.2)
        may_open.set()
        assert first.result() == second.result()
    assert len(writers) == 2
    store.close()


@pytest.mark.parametrize("failing", ["open", "close"])
def test_index_that_fails_is_unlocked(folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(_connection: apsw.Connection) -> bool:
        raise apsw.NoMemError("out of memory")

    index = Writer(folder) if failing == "close" else None
    monkeypatch.setattr("kbsync.index.sqlite.writer.empty_wal", fail)
    with pytest.raises(apsw.NoMemError if index else Halted, match="out of memory"):
        index.close() if index else Writer(folder)
    monkeypatch.undo()
    Writer(folder).close()


@pytest.mark.parametrize("name", ["kb", "kb/notes", "kb/notes/index.lock"])
def test_obstacle_in_place_of_a_file_of_the_index_is_named(tmp_path: Path, name: str) -> None:
    obstacle = tmp_path / name
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("lock"):
        obstacle.mkdir()
    else:
        obstacle.touch()
    with pytest.raises(Unavailable) as refused:
        Writer(tmp_path / "kb" / "notes")
    assert f"({obstacle} is not a " in refused.value.reason
    assert f"rename it with: mv {obstacle} " in refused.value.reason
