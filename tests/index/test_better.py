"""Tests that better vectors are computed while the target is idle, and deleted with their passage."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import shutil
import threading
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import TargetContext
from kbsync.errors import Rejected, Unavailable
from kbsync.index import better as better_module
from kbsync.index.better import E5, PACKAGE, BetterModel, Filler, is_installed
from kbsync.index.fence.parser import PassageEncoder
from kbsync.index.glossary import Glossary
from kbsync.index.search import Search
from kbsync.index.sqlite import vectors
from kbsync.index.sqlite.planes import SLOTS
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.vectors import Cosines
from kbsync.index.sqlite.writer import Writer
from kbsync.index.store import BetterQuestion
from kbsync.targets.indexed import target as module
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget
from tests.index.entries import Numbers, entry
from tests.index.test_glossary import install
from tests.index.test_index import Stepping, is_sound, stored
from tests.index.test_local_target import document, parse, put
from tests.share import long

SECONDS = 20.0
NUMBERS = 384


def vector_of(text: str) -> bytes:
    """A vector that depends on the text alone, or on its meaning: bread."""
    meaning = "bread" if any(word in text for word in ("loaf", "Brot", "面包")) else text
    seed = int.from_bytes(hashlib.sha256(meaning.encode()).digest()[:8])
    numbers = np.random.default_rng(seed).standard_normal(NUMBERS)
    return (numbers / np.linalg.norm(numbers)).astype(np.float16).tobytes()


class FakeModel:
    """Computes vectors of texts; `gate` delays it, `error` makes it fail."""

    def __init__(self, name: str = "better/1") -> None:
        self.name = name
        self.embedded = list[str]()
        self.queries = list[str]()
        self.gate, self.reached = threading.Event(), threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def question(self, text: str) -> BetterQuestion:
        self.queries.append(text)
        return BetterQuestion(self.name, np.frombuffer(vector_of(text), np.float16).astype(np.float32), 1, 0)

    def embed(self, text: str) -> bytes:
        self.reached.set()
        assert self.gate.wait(SECONDS)
        if self.error is not None:
            raise self.error
        self.embedded.append(text)
        return vector_of(text)

    def close(self) -> None:
        self.gate.set()


def open_target(folder: Path, model: BetterModel | None, *, read_only: bool = False) -> LocalTarget:
    config = LocalTargetConfig(path=folder / "kb", max_bytes=10_000)
    return LocalTarget.open(config, TargetContext("m", folder, folder, read_only), parse, better=model)


def counted(folder: Path, model: FakeModel) -> tuple[int, int]:
    with closing(SqliteStore(folder / "kb", writer=None)) as store:
        return counts_in(store, module.LocalEncoder().model, model.name) or (0, 0)


def counts_in(store: SqliteStore, model: str, better: str) -> tuple[int, int] | None:
    with store._open_snapshot() as connection:
        return vectors.count_better(connection, model, better)


async def wait_until_filled(folder: Path, model: FakeModel, passages: int) -> None:
    async with asyncio.timeout(SECONDS):
        while counted(folder, model) != (passages, passages):
            await asyncio.sleep(0.01)


async def search(target: LocalTarget, question: str) -> list[str | None]:
    return [hit.path for hit in await target.search(Query(question))]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET", 0.0)
    monkeypatch.setattr(module, "SCRUB_AFTER", 0.0)
    monkeypatch.setattr(better_module, "_PAUSE", 0.01)
    monkeypatch.setattr(better_module, "is_installed", lambda: False)  # whatever is installed here


@pytest.fixture
async def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
async def target(tmp_path: Path, model: FakeModel) -> AsyncIterator[LocalTarget]:
    target = open_target(tmp_path, model)
    await target.base()
    yield target
    model.gate.set()
    await target.aclose()


async def test_passage_is_searchable_immediately_and_later_by_its_better_vector(
    tmp_path: Path, target: LocalTarget, model: FakeModel
) -> None:
    model.gate.clear()
    texts = "# Baking\n\nA loaf needs an hour.", "Lamps use little power."
    await put(target, document(1, texts[0]), document(2, texts[1]))
    assert await search(target, "loaf") == ["folder/1.md"]
    assert await search(target, "Brot") == []
    assert model.queries == [], "nothing to compare with yet"
    model.gate.set()
    await wait_until_filled(tmp_path, model, 2)
    assert await search(target, "Brot") == ["folder/1.md"]
    assert model.embedded == list(texts)


async def test_better_vector_counts_fully_if_the_words_are_those_of_a_translation(
    tmp_path: Path, target: LocalTarget, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "site")
    install(tmp_path / "site", "麵包 面包 [mian4 bao1] /loaf/")
    await put(target, document(1, "A loaf needs an hour."), document(2, "A lamp needs an hour."))
    await wait_until_filled(tmp_path, model, 2)
    with closing(SqliteStore(tmp_path / "kb", writer=None)) as store:
        for question in ("面包", "loaf"):
            searcher = Search(store, module.LocalEncoder(), glossary=Glossary(tmp_path), better=model)
            hit = searcher.search(Query(question, explain=True))[0]
            assert hit.reasons is not None
            assert (hit.path, hit.reasons.is_translated) == ("folder/1.md", question == "面包")
            assert hit.reasons.meaning == pytest.approx(1.0, abs=0.01)


def test_cosines_of_a_translation_count_less_beside_better_ones() -> None:
    """Passages without a better vector are compared with the translation, which may be wrong."""
    random = np.random.default_rng(7)
    count = vectors._MIN_BETTER_SLOTS
    numbers = random.standard_normal((2 * count, NUMBERS))
    numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
    values = np.zeros(SLOTS, np.float32)
    values[: 2 * count] = numbers @ numbers[0]
    better = np.zeros(SLOTS, np.float32)
    better[:count] = values[:count]
    changed = dict[float, Cosines]()
    for weight in (1.0, 0.5):
        changed[weight] = Cosines({0: 0}, values.copy())
        changed[weight].replace_by_better(Cosines({0: 0}, better.copy()), 1.0, 0.0, weight)
    full, half = (list(changed[weight].of(range(2 * count)).values()) for weight in (1.0, 0.5))
    assert half[:count] == pytest.approx(full[:count])
    assert half[count:] == pytest.approx([value / 2 for value in full[count:]])


async def test_equal_passages_share_a_vector_deleted_with_the_last_of_them(
    tmp_path: Path, target: LocalTarget, model: FakeModel
) -> None:
    first, second, _ = await put(target, document(1, "a loaf"), document(2, "a loaf"), document(3, "a lamp"))
    await wait_until_filled(tmp_path, model, 2)
    assert sorted(model.embedded) == ["a lamp", "a loaf"]
    await target.delete([first])
    assert await search(target, "Brot") == ["folder/2.md"]
    await target.delete([second])
    assert counted(tmp_path, model) == (1, 1)
    assert await asyncio.to_thread(target._store.purge)
    stored_bytes = [file.read_bytes() for file in (tmp_path / "kb").iterdir() if file.is_file()]
    assert not any(vector_of("a loaf") in content for content in stored_bytes)
    assert any(vector_of("a lamp") in content for content in stored_bytes)


async def test_passage_deleted_while_its_vector_is_computed_gets_none(
    tmp_path: Path, target: LocalTarget, model: FakeModel
) -> None:
    model.gate.clear()
    (old,) = await put(target, document(1, "a loaf"))
    assert await asyncio.to_thread(model.reached.wait, SECONDS)
    await target.delete([old])
    await put(target, document(2, "a lamp"))  # takes the same slot
    model.gate.set()
    await wait_until_filled(tmp_path, model, 1)
    assert await search(target, "Brot") == []
    assert not any(vector_of("a loaf") in path.read_bytes() for path in (tmp_path / "kb").glob("index.db*"))


def test_kill_at_any_moment_leaves_complete_vectors_and_the_rest_pending(tmp_path: Path) -> None:
    (folder := tmp_path / "kb").mkdir()
    copies, texts = list[Path](), [f"text {number}" for number in range(6)]
    with closing(Stepping(folder)) as index:
        stored(index, 1, texts)
        index.between = lambda: copies.append(shutil.copytree(folder, tmp_path / f"killed-{len(copies)}"))
        with closing(SqliteStore(folder, writer=None)) as store:
            while passages := store.find_without_better("numbers", "better/1", 2):
                index.put_better(
                    "numbers", "better/1", {key: vector_of(text) for key, text in passages.items()}
                )
        document_id = index._connection.execute("SELECT id FROM document").get
        index.put([entry(2, *texts[:3], path="huge.txt", replaces=document_id)], Numbers())
        index.between = lambda: None
    assert len(copies) >= 8
    created = set[int]()
    for copy in copies:
        with closing(Writer(copy)) as reopened:
            while reopened.tidy():
                pass
            is_sound(reopened)
            connection = reopened._connection
            other = vectors.find_model(connection, "better/1")
            keyed = dict[int, bytes](connection.execute("SELECT id, key FROM slot WHERE key NOTNULL"))
            counts = vectors.count_better(connection, "numbers", "better/1")
            assert counts is not None
            count, total = counts
            rows = vectors.read(connection, other.width, keyed, "better") if other and count else {}
            assert (sum(any(row) for row in rows.values()), len(keyed)) == (count, total)
            text_in = "SELECT 'Part' || char(10) || text FROM chunk WHERE slot = ?"
            assert all(
                row == vector_of(connection.execute(text_in, (slot,)).get)
                for slot, row in rows.items()
                if any(row)
            )
            created.add(count)
    assert created == {0, 2, 4, 6, 3}


async def test_restart_continues_with_the_remaining_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(better_module, "_BATCH", 2)
    first = FakeModel()
    target = open_target(tmp_path, first)
    first.gate.clear()
    await put(target, *(document(number, f"text {number}") for number in range(1, 6)))
    first.gate.set()
    async with asyncio.timeout(SECONDS):
        while counted(tmp_path, first)[0] < 2:
            await asyncio.sleep(0.001)
    await target.aclose()
    done_count, _ = counted(tmp_path, first)
    second = FakeModel()
    target = open_target(tmp_path, second)
    await target.base()
    await wait_until_filled(tmp_path, second, 5)
    assert len(second.embedded) == 5 - done_count
    await target.aclose()


async def test_searches_and_deletions_work_without_the_model_package(
    tmp_path: Path, target: LocalTarget, model: FakeModel
) -> None:
    ids = await put(target, document(1, "a loaf"), document(2, "a lamp"))
    await wait_until_filled(tmp_path, model, 2)
    await target.aclose()
    plain = open_target(tmp_path, None)
    await plain.base()
    assert (await search(plain, "Brot"), await search(plain, "loaf")) == ([], ["folder/1.md"])
    await plain.delete(ids[:1])
    await plain.aclose()
    assert counted(tmp_path, model) == (1, 1)
    assert not any(vector_of("a loaf") in path.read_bytes() for path in (tmp_path / "kb").glob("index.db*"))


async def test_new_model_version_recomputes_all_vectors(
    tmp_path: Path, target: LocalTarget, model: FakeModel
) -> None:
    await put(target, document(1, "a loaf"), document(2, "a lamp"))
    await wait_until_filled(tmp_path, model, 2)
    await target.aclose()
    newer = FakeModel("better/2")
    reopened = open_target(tmp_path, newer)
    newer.gate.clear()
    await reopened.base()
    assert counted(tmp_path, newer) == (0, 2)
    assert await search(reopened, "loaf") == ["folder/1.md"]
    newer.gate.set()
    await wait_until_filled(tmp_path, newer, 2)
    assert (await search(reopened, "Brot"), counted(tmp_path, model)) == (["folder/1.md"], (0, 2))
    await reopened.aclose()


async def test_search_command_uses_better_vectors_and_computes_none(
    tmp_path: Path, target: LocalTarget, model: FakeModel
) -> None:
    await put(target, document(1, "a loaf"), document(2, "a lamp"))
    await wait_until_filled(tmp_path, model, 2)
    other = FakeModel()
    reader = open_target(tmp_path, other, read_only=True)
    assert (await search(reader, "Brot"), other.embedded) == (["folder/1.md"], [])
    await reader.aclose()


async def test_unloadable_model_leaves_the_built_in_vectors(
    tmp_path: Path, target: LocalTarget, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(target, document(1, "a loaf"), document(2, "a lamp"))
    await wait_until_filled(tmp_path, model, 2)

    def broken(_: str) -> BetterQuestion:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(model, "question", broken)
    assert await search(target, "loaf") == ["folder/1.md"]


async def test_pass_computes_no_better_vectors(
    tmp_path: Path, target: LocalTarget, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET", math.inf)
    await target.base()
    await put(target, document(1, "a loaf"))
    assert not await asyncio.to_thread(model.reached.wait, 0.1)
    await target.aclose()
    assert counted(tmp_path, model) == (0, 1)


class Shelf:
    """A store of passages in memory."""

    def __init__(self, *texts: str) -> None:
        self.texts = {text.encode(): text for text in texts}
        self.better_vectors = dict[bytes, bytes]()

    def find_without_better(self, _: str, __: str, limit: int, skipped: object = ()) -> dict[bytes, str]:
        without = [key for key in self.texts if key not in self.better_vectors and key not in skipped]  # type: ignore[operator]
        return {key: self.texts[key] for key in without[:limit]}

    def put_better(self, _: str, __: str, vectors: Mapping[bytes, bytes]) -> None:
        self.better_vectors.update(vectors)


def run(shelf: Shelf, model: BetterModel, is_idle: bool = True) -> Filler:
    filler = Filler(shelf, "built-in", model, lambda: is_idle)
    filler.begin()
    return filler


def ended(filler: Filler) -> None:
    thread = filler._thread
    if thread is not None:
        thread.join(SECONDS)
    assert filler._thread is None


def test_vectors_are_computed_only_when_idle_and_stop_ends_the_wait() -> None:
    shelf, model = Shelf("one"), FakeModel()
    filler = run(shelf, model, is_idle=False)
    assert not model.reached.wait(0.1)
    filler.close()
    assert not shelf.better_vectors


def test_failing_passage_is_skipped() -> None:
    class Picky(FakeModel):
        def embed(self, text: str) -> bytes:
            if text == "two":
                raise Rejected("the parser crashed on this document twice", code="crash")
            return super().embed(text)

    shelf = Shelf("one", "two", "three")
    filler = run(shelf, Picky())
    ended(filler)
    assert set(shelf.better_vectors) == {b"one", b"three"}


DISABLED = "better vectors are disabled until the next start"


def test_few_failing_passages_do_not_disable_the_model(caplog: pytest.LogCaptureFixture) -> None:
    shelf, model = Shelf("one", "two"), FakeModel()
    model.error = Rejected("the parser crashed on this document twice", code="crash")
    filler = run(shelf, model)
    ended(filler)
    assert "crashed" in caplog.text and DISABLED not in caplog.text
    model.error, shelf.texts[b"three"] = None, "three"
    filler.begin()
    ended(filler)
    assert set(shelf.better_vectors) == {b"three"}


def test_model_that_fails_on_all_passages_is_abandoned_until_the_next_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shelf, model = Shelf(*map(str, range(better_module._BATCH))), FakeModel()
    model.error = Rejected("the parser crashed on this document twice", code="crash")
    filler = run(shelf, model)
    ended(filler)
    assert DISABLED in caplog.text
    model.error, shelf.texts[b"another"] = None, "another"
    filler.begin()
    ended(filler)
    assert not shelf.better_vectors
    ended(run(shelf, model))
    assert len(shelf.better_vectors) == len(shelf.texts)


def test_process_that_does_not_start_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(better_module, "_PAUSE_AFTER_ERROR", 0.01)
    shelf, model = Shelf("one"), FakeModel()
    model.error = Unavailable("the parser failed to start")
    filler = run(shelf, model)
    assert model.reached.wait(SECONDS)
    model.error = None
    ended(filler)
    assert set(shelf.better_vectors) == {b"one"}


def cosines(values: np.ndarray) -> Cosines:  # type: ignore[type-arg]
    full = np.zeros(-(-len(values) // SLOTS) * SLOTS, np.float32)
    full[: len(values)] = values
    return Cosines({number + 1: number for number in range(len(full) // SLOTS)}, full)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_partially_filled_index_ranks_both_kinds_alike(share: float) -> None:
    """The better model has other cosines: all between 0.7 and 0.9, as those of this kind are."""
    chance = np.random.default_rng(7)
    truth = np.clip(chance.normal(0.1, 0.1, 1000), 0.01, None)
    truth[:20] = np.linspace(0.9, 0.5, 20)
    has_better = chance.random(1000) < share
    has_better[0] = False  # what answers the question has its vector last, unless all have one
    if share == 1.0:
        has_better[:] = True
    ours, theirs = cosines(truth), cosines(np.where(has_better, 0.7 + 0.2 * truth, 0.0))
    ours.replace_by_better(theirs, 6.0, -4.0)
    order = [slot - SLOTS for slot in ours.best(0, 20)]
    assert order[0] == 0
    assert len(set(order) & set(range(20))) >= 19
    assert set(ours.of(range(SLOTS + 1000, SLOTS + 1024)).values()) == {0.0}, "free slots stay free"


def test_few_better_vectors_change_nothing_until_all_exist() -> None:
    values = np.linspace(0.9, 0.1, 50)
    few, every = cosines(values), cosines(values)
    better = np.linspace(0.7, 0.9, 50)
    few.replace_by_better(cosines(np.where(np.arange(50) < 49, better, 0.0)), 1.0, 0.0)
    every.replace_by_better(cosines(better), 1.0, 0.0)
    assert (few.best(0, 9)[0], every.best(0, 9)[0]) == (SLOTS, SLOTS + 49)


@pytest.mark.parametrize("character", ["\ufdfa", "\u33c7", "ﷺ㌀"])
def test_no_text_exceeds_the_tokenizer_buffer(character: str) -> None:
    """It has room for four characters for each byte; U+FDFA would need six."""
    plain = better_module._plain(character * 3_000)
    assert unicodedata.is_normalized("NFKC", plain)
    assert len(plain) <= 4_000


@pytest.mark.skipif(not is_installed(), reason="the extra better is not installed")
def test_installed_model_matches_synonyms_and_other_languages(tmp_path: Path) -> None:
    texts = ["The espresso machine is on the second floor.", "Salaries are paid on the last working day."]
    before, model = dict(os.environ), E5(tmp_path)
    rows = np.array([np.frombuffer(model.embed(text), np.float16) for text in texts]).astype(np.float32)
    (pid,) = model._encoder.pids() if model._encoder else []
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    model.close()
    for question, best in (("Where can I get coffee?", 0), ("什么时候发工资？", 1)):
        scores = rows @ model.question(question).vector
        assert scores.argmax() == best
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=0.01)
    assert dict(os.environ) == before
    model.passage("\ufdfa" * 3_000)


@long
def test_separate_process_embeds_passages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package in a folder that the process may read."""
    package = tmp_path / "site-packages" / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import numpy\n\n\nclass E5:\n"
        "    def __init__(self, num_threads): pass\n"
        "    def passage(self, text): return numpy.full(384, len(text) / 8)\n"
    )
    monkeypatch.syspath_prepend(os.fspath(package.parent))
    encoder = PassageEncoder(tmp_path / "spool")
    try:
        assert encoder.embed("four") == np.full(NUMBERS, 0.5, np.float16).tobytes()
    finally:
        encoder.close()
