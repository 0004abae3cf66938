"""Long work on the index: what is unchanged stays where it is, the rest comes and goes step by step."""

from __future__ import annotations

import itertools
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from kbsync.errors import Rejected, StateError
from kbsync.index.document import Entry
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import STEP, Turns, Writer
from tests.index.test_index import Fake, entry, found, slots_in_use, traces


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
    index = Stepping(folder, clock=lambda: 5.0)
    yield index
    index.between = lambda: None
    index.close()


def texts(word: str, count: int = STEP * 2 + 90) -> list[str]:
    return [f"{word} number{at}" for at in range(count)]


def stored(index: Writer, number: int, parts: Sequence[str], replaces: int | None = None) -> int:
    (document,) = index.put([entry(number, *parts, path="huge.txt", replaces=replaces)], Fake())
    assert isinstance(document, int)
    return document


def whole(folder: Path) -> list[list[str]]:
    """The texts of every document, as somebody else sees them."""
    reader = SqliteStore(folder, writer=None)
    try:
        return [list(reader.texts(row.id) or ()) for row in reader.page(0, 99)]
    finally:
        reader.close()


def is_sound(index: Writer) -> None:
    index._connection.execute("INSERT INTO words(words) VALUES ('integrity-check')")
    assert index._connection.pragma("integrity_check") == "ok"
    rows = "SELECT (SELECT count(*) FROM chunk), (SELECT sum(chunks) FROM run), count(*) FROM words_docsize"
    chunks, owned, indexed = index._connection.execute(rows).get
    assert chunks == (owned or 0) == indexed
    assert index._connection.execute("SELECT count(*) FROM run WHERE document IS NULL").get == 0


@contextmanager
def counted(index: Writer) -> Iterator[list[str]]:
    """The changes of the full-text index."""
    seen = list[str]()

    def note(_: object, statement: str, __: object) -> bool:
        if statement.startswith("INSERT INTO words"):
            seen.append(statement)
        return True

    index._connection.exec_trace = note
    yield seen
    index._connection.exec_trace = None


@pytest.mark.parametrize("place", ["end", "top", "middle"])
def test_a_line_more_leaves_nearly_all_of_a_long_text_where_it_is(index: Writer, place: str) -> None:
    count = STEP * 4 + 90
    parts = texts("alpha", count)
    document = stored(index, 1, parts)
    rows = {row[0] for row in index._connection.execute("SELECT id FROM chunk")}
    parts.insert({"end": count, "top": 0, "middle": count // 2}[place], "gamma")
    with counted(index) as seen:
        later = stored(index, 2, parts, document)
    assert len(seen) < count // 4
    assert len(rows - {row[0] for row in index._connection.execute("SELECT id FROM chunk")}) < count // 8
    assert whole(index._folder) == [parts]
    assert (found(index, "gamma"), found(index, "alpha")) == ([later], [later])
    is_sound(index)


def test_a_changed_chunk_is_taken_out_with_its_run_alone(index: Writer, folder: Path) -> None:
    parts = texts("alpha", STEP * 4)
    document = stored(index, 1, parts)
    parts[700] = "zqsecret"
    document = stored(index, 2, parts, document)
    parts[700] = "harmless"
    with counted(index) as seen:
        stored(index, 3, parts, document)
    assert len(seen) < STEP
    index.scrub()
    assert traces(folder, "zqsecret") == []
    is_sound(index)


def test_any_edits_one_after_the_other_leave_the_text_as_it_is_then(index: Writer) -> None:
    rng = random.Random(8)
    parts, document = texts("alpha", 30), None
    for number in range(1, 80):
        at = rng.randrange(len(parts))
        match rng.randrange(5):
            case 0:
                parts[at:at] = [f"word{rng.randrange(9)}" for _ in range(rng.randrange(4))]
            case 1 if len(parts) > 9:
                del parts[at : at + 3]
            case 2:
                parts[at] = f"word{rng.randrange(9)}"
            case 3:
                parts = parts[at:] + parts[:at]
            case _:
                parts.append(parts[at])
        document = stored(index, number, parts, document)
        assert whole(index._folder) == [parts]
        is_sound(index)
    assert slots_in_use(index) == len(set(parts))


def test_chunks_know_their_new_lines(index: Writer) -> None:
    first = entry(1, "one", "two", "three", path="a.md")
    moved = [replace(each, line=at * 10) for at, each in enumerate(first.chunks, 1)]
    index.put([replace(first, chunks=tuple(moved))], Fake())
    again = [replace(moved[0]), replace(moved[1], line=25), replace(moved[2], line=35, page=2)]
    index.put([replace(first, upload_id=2, chunks=tuple(again), replaces=1)], Fake())
    rows = index._connection.execute(
        "SELECT text, line + lines, page FROM run JOIN chunk ON id BETWEEN first AND first + chunks - 1"
        " WHERE document = 2 ORDER BY place, id"
    )
    assert rows.fetchall() == [("one", 10, None), ("two", 25, None), ("three", 35, 2)]


def test_a_reader_sees_the_old_text_whole_or_the_new_one(index: Stepping, folder: Path) -> None:
    old, new = texts("alpha"), texts("beta", STEP * 3)
    document = stored(index, 1, old)
    seen = list[str]()

    def look() -> None:
        (parts,) = whole(folder)
        assert parts in (old, new)
        words = {word: found(index, word) for word in ("alpha", "beta")}
        assert words == ({"alpha": [1], "beta": []} if parts == old else {"alpha": [], "beta": [2]})
        seen.append(parts[0])

    index.between = look
    stored(index, 2, new, document)
    assert [word for word, _ in itertools.groupby(seen)] == ["alpha number0", "beta number0"]
    assert len(seen) >= 8
    is_sound(index)


def copies(index: Stepping, folder: Path, work: Callable[[], object]) -> list[Path]:
    """What a kill between any two steps of `work` leaves on the disk."""
    made = list[Path]()

    def copy() -> None:
        made.append(folder.with_name(f"killed-{len(made)}"))
        shutil.copytree(folder, made[-1])

    index.between = copy
    work()
    index.between = lambda: None
    return made


def judge(place: Path, *wanted: list[str], gone: str) -> None:
    """One of the versions is there, and nothing else once the next start has tidied up."""
    assert whole(place) in [[each] if each else [] for each in wanted]
    again = Writer(place)
    while again.tidy():
        pass
    again.scrub()
    assert whole(place) in [[each] if each else [] for each in wanted]
    is_sound(again)
    text = (whole(place) or [[]])[0]
    assert slots_in_use(again) == len(text)
    if not any(gone in part for part in text):
        assert traces(place, gone) == []
    again.close()


def test_killed_between_two_steps_of_a_replacement_one_version_is_left(index: Stepping, folder: Path) -> None:
    old, new = texts("zqsecret"), texts("beta", STEP * 2 + 9)
    stored(index, 1, old)
    for place in copies(index, folder, lambda: stored(index, 2, new, 1)):
        judge(place, old, new, gone="zqsecret")


def test_killed_between_two_steps_of_a_deletion_nothing_is_left(index: Stepping, folder: Path) -> None:
    old = texts("zqsecret")
    stored(index, 1, old)
    for place in copies(index, folder, lambda: index.delete([1])):
        judge(place, old, [], gone="zqsecret")


def test_a_long_document_is_found_by_its_text_and_a_name_while_it_is_renamed(
    index: Stepping, folder: Path
) -> None:
    parts = texts("alpha")
    stored(index, 1, parts)

    def look() -> None:
        assert found(index, "huge") or found(index, "zqnew")
        assert found(index, "alpha") == [1]
        assert whole(folder) == [parts]

    index.between = look
    index.rename(1, "zqnew.txt", "zqnew.txt", 1.0)
    assert (found(index, "huge"), found(index, "zqnew")) == ([], [1])
    is_sound(index)


def test_killed_between_two_steps_of_a_rename_it_is_finished_by_the_next(
    index: Stepping, folder: Path
) -> None:
    parts = texts("alpha")
    stored(index, 1, parts)
    for place in copies(index, folder, lambda: index.rename(1, "zqnew.txt", "zqnew.txt", 1.0)):
        again = Writer(place)
        again.rename(1, "zqnew.txt", "zqnew.txt", 1.0)
        while again.tidy():
            pass
        assert whole(place) == [parts]
        assert (found(again, "huge"), found(again, "zqnew")) == ([], [1])
        is_sound(again)
        again.close()


def test_a_small_document_gets_in_between(index: Stepping) -> None:
    stored(index, 1, texts("alpha"))
    finished = list[str]()

    def small() -> None:
        index.put([entry(9, "small")], Fake())
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


def test_whoever_waits_comes_before_the_one_who_has_just_had_it() -> None:
    turns, order, waiting = Turns(), list[str](), threading.Event()

    def other() -> None:
        waiting.set()
        with turns:
            order.append("other")

    with turns, turns:
        thread = threading.Thread(target=other)
        thread.start()
        waiting.wait()
        while not turns._waiting.locked():
            pass
        order.append("first")
    with turns:
        order.append("again")
    thread.join()
    assert order == ["first", "other", "again"]


def test_a_replacement_in_the_middle_of_another_is_not_lost(index: Stepping) -> None:
    stored(index, 1, texts("alpha"))
    calls = itertools.count()

    def meddle() -> None:
        if next(calls) == 3:
            index.rename(1, "other.txt", "other.txt", 1.0)

    index.between = meddle
    stored(index, 2, texts("beta"), 1)
    assert whole(index._folder) == [texts("beta")]
    assert found(index, "other") == []
    is_sound(index)


def test_a_long_text_that_cannot_be_stored_leaves_nothing(index: Writer) -> None:
    stored(index, 1, texts("alpha"))
    bad: Entry = entry(2, *texts("beta"), title="\ud800", replaces=1)
    (outcome,) = index.put([bad], Fake())
    assert isinstance(outcome, Rejected)
    assert whole(index._folder) == [texts("alpha")]
    is_sound(index)


def test_closing_waits_for_one_step_only(index: Stepping, folder: Path) -> None:
    stored(index, 1, texts("alpha"))
    calls = itertools.count()
    index.between = lambda: index.stop() if next(calls) == 2 else None
    with pytest.raises(StateError, match="is being closed"):
        stored(index, 2, texts("beta", STEP * 9), 1)
    assert next(calls) < 6
    index.close()
    judge(folder, texts("alpha"), gone="beta")


def test_space_that_is_free_goes_back_to_the_file_system(index: Writer, folder: Path) -> None:
    rng = random.Random(3)
    parts = [" ".join(rng.choices("abcdefghijkl", k=4_000)) for _ in range(STEP * 2)]
    stored(index, 1, [f"{at} {text}" for at, text in enumerate(parts)])
    stored(index, 2, ["other"])
    index.scrub()
    full = (folder / "index.db").stat().st_size
    index.delete([1])
    assert (folder / "index.db").stat().st_size < full / 2
    assert whole(folder) == [["other"]]
    is_sound(index)


LAYOUT_1 = """
DROP TABLE run;
ALTER TABLE document ADD COLUMN words TEXT NOT NULL DEFAULT '';
ALTER TABLE document ADD COLUMN tokeniser INTEGER NOT NULL DEFAULT 1;
ALTER TABLE document ADD COLUMN first INTEGER NOT NULL DEFAULT 1;
ALTER TABLE document ADD COLUMN chunks INTEGER NOT NULL DEFAULT {count};
ALTER TABLE chunk ADD COLUMN document INTEGER NOT NULL DEFAULT 1;
UPDATE document SET words = '{words}';
PRAGMA auto_vacuum = 0;
VACUUM;
PRAGMA user_version = 1;
"""
LAYOUT_2 = """
DELETE FROM run;
ALTER TABLE run DROP COLUMN digest;
INSERT INTO run VALUES (1, {count}, 1, 0, 0, 0, '{words}', 1);
PRAGMA user_version = 2;
"""


@pytest.mark.parametrize("count", [3, STEP * 2 + 90])
@pytest.mark.parametrize("layout", [LAYOUT_1, LAYOUT_2])
def test_an_index_of_a_layout_before_goes_on_with_its_vectors(folder: Path, layout: str, count: int) -> None:
    index = Writer(folder)
    old = ["zqsecret one", "zqsecret two", *texts("three", count - 2)]
    stored(index, 1, old)
    words = index._connection.execute("SELECT named FROM run LIMIT 1").get
    index.close()
    with closing(apsw.Connection(str(folder / "index.db"))) as connection:
        connection.execute(layout.format(count=count, words=words))
    if layout == LAYOUT_2:
        assert whole(folder) == [old], "a search works before the first pass"
    again = Writer(folder)
    assert (again.uuid, found(again, "three")) == (index.uuid, [1])
    again.rename(1, "other.txt", "other.txt", 1.0)
    assert (found(again, "huge"), found(again, "other")) == ([], [1])
    fake = Fake()
    again.put([entry(2, *texts("three", count - 2), "four", path="other.txt", replaces=1)], fake)
    assert fake.made == ["four"]
    assert again.delete([]) is True
    assert whole(folder) == [[*texts("three", count - 2), "four"]]
    assert traces(folder, "zqsecret") == []
    is_sound(again)
    again.close()
