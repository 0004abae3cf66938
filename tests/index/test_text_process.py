"""Tests the process that splits and embeds texts while many are indexed."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from kbsync.contract.target import Body, TargetContext
from kbsync.errors import TargetError, Unavailable
from kbsync.index import text_process as module
from kbsync.index.document import Entry
from kbsync.index.embed import LocalEncoder
from kbsync.index.fence.parser import CHILD, Parser
from kbsync.index.pipeline import Pipeline, cut_here
from kbsync.index.text_process import TextProcess, cpu_quota, unpack
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.local.target import LocalTarget
from tests.index import samples
from tests.share import long
from tests.targets.bodies import BytesBody, outgoing

Documents = Sequence[tuple[Entry, Body]]

MANY = 40
TEXTS = {
    "notes.md": "---\ntitle: Ferry times\ntags: [harbour, 渡轮]\n---\n# Summer\n\nEvery hour.\n\n## Winter\n",
    "plain.txt": "First paragraph of a letter.\n\nSecond one, quantity 8,999.\n",
    "手册.md": "# 退款\n\n退款在三个工作日内到账。\n\n## 例外\n\n节假日顺延。\n",
    "code.py": "def readTimeout(path):\n    return path\n\n\nclass Reader:\n    pass\n",
    "rows.csv": "name,amount\nrent,900\nfood,250\n",
    "latin.txt": "caf\xe9 au lait",
    "empty.txt": "  \n",
    "binary.txt": "\0\1\2" * 50,
    "page.html": "<h1>Boats</h1><p>Two of them.",
    "surrogate.txt": "a\ud800b",
    "x/README": "Start here.\n" * 400,
}
"""By path. `many` repeats them with different words."""


def entry(number: int, path: str, **fields: int) -> Entry:
    return Entry(number, path, path.rpartition("/")[2], f"{number:064}", 1, "r", 1.0, **fields)  # type: ignore[arg-type]


def many(count: int = MANY) -> Documents:
    paths = list(TEXTS)
    documents = list[tuple[Entry, Body]]()
    for number in range(count):
        path = paths[number % len(paths)]
        encoding = "latin-1" if path.startswith("latin") else "utf-8"
        text = TEXTS[path] + (f"\nNumber {number}.\n" if number >= len(paths) and TEXTS[path].strip() else "")
        content = text.encode(encoding, "surrogatepass")
        documents.append((entry(number, f"{number}/{path}"), BytesBody(content)))
    return documents


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the process with the first request."""
    monkeypatch.setattr(module, "START_AFTER", 1)


@pytest.fixture
def parser(tmp_path: Path) -> Iterator[Parser]:
    with contextlib.closing(Parser(tmp_path / "parser")) as parser:
        yield parser


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., TextProcess]]:
    """Create a process, and start it unless `idle`."""
    created = list[TextProcess]()

    def begin(child: Path = CHILD, *, idle: bool = False) -> TextProcess:
        created.append(TextProcess(tmp_path / "spool", child=child))
        if not idle:
            assert not created[-1]._can_take(MANY)
            starter = created[-1]._starter
            assert starter is not None
            starter.join()
        return created[-1]

    yield begin
    for process in created:
        process.close()
    assert not (tmp_path / "spool").exists() or list((tmp_path / "spool").iterdir()) == []


def index(
    documents: Documents, parser: Parser, process: TextProcess | None = None
) -> list[Entry | TargetError]:
    here = cut_here(parser.parse)
    cut = here if process is None else process.cut_or(here)
    pipeline = Pipeline(cut, LocalEncoder(), lambda _model, _keys: set(), 10**9)
    return [outcome for batch in pipeline.batches(documents) for outcome in batch]


def comparable(outcomes: Sequence[Entry | TargetError]) -> list[object]:
    return [repr(outcome) if isinstance(outcome, TargetError) else outcome for outcome in outcomes]


@long
def test_process_returns_what_kbsync_would_itself(begin, parser):
    process, calls = begin(), list[Documents]()
    send = process._cut
    process._cut = lambda documents: (calls.append(documents), send(documents))[1]  # type: ignore[method-assign]
    documents = [
        *many(),
        (entry(90, "a.pdf"), BytesBody(samples.pdf())),
        (entry(91, "long.txt"), BytesBody(b"A line of text.\n\n" * 5_000)),
        (entry(92, "new.md", replaces=7), BytesBody(b"# New\n\nversion")),
    ]
    assert comparable(index(documents, parser, process)) == comparable(index(documents, parser))
    sent = {document.path for call in calls for document, _ in call}
    assert {"0/notes.md", "2/手册.md"} < sent and not {"8/page.html", "a.pdf", "long.txt", "new.md"} & sent
    assert index([], parser, process) == []


@long
def test_process_starts_only_for_many_texts_and_meanwhile_delays_none(begin, parser, monkeypatch):
    monkeypatch.setattr(module, "START_AFTER", 100)
    process = begin(idle=True)
    for _ in range(20):
        index(many(module.MIN_TEXTS - 1), parser, process)
    for _ in range(2):
        index(many(), parser, process)
    assert not process.pids() and process._starter is None
    monkeypatch.setattr(process, "_warm_up", lambda: None)
    index(many(), parser, process)
    assert process._starter is not None and not process.pids()


@long
@pytest.mark.parametrize(
    "program", ["raise SystemExit('no such library')", "print('?'); import time; time.sleep(9)"]
)
def test_texts_are_split_here_if_the_process_does_not_start(begin, parser, tmp_path, program, caplog):
    child = tmp_path / "child.py"
    child.write_text(program)
    process = begin(child)
    assert "splitting texts in another process failed" in caplog.text
    assert comparable(index(many(), parser, process)) == comparable(index(many(), parser))
    assert process.pids() == []


@long
def test_texts_are_split_here_if_the_process_hangs(begin, parser, caplog):
    class Stopping(BytesBody):
        def open(self) -> BinaryIO:
            for pid in process.pids():
                os.kill(pid, signal.SIGSTOP)
            return super().open()

    process = begin()
    bounds = process._bounds
    process._bounds = type(bounds)(seconds=0.2)
    documents = [*many(), (entry(90, "last.txt"), Stopping(b"last"))]
    assert comparable(index(documents, parser, process)) == comparable(index(documents, parser))
    assert "failed: could not be read within 0.2 s" in caplog.text
    assert not process._can_take(MANY) and process.pids() == []


@long
def test_texts_that_wait_for_a_process_that_hangs_are_split_here_at_once(begin, parser, caplog):
    class Waiting(BytesBody):
        def open(self) -> BinaryIO:
            for pid in process.pids():
                os.kill(pid, signal.SIGSTOP)
            if threading.current_thread() is threading.main_thread():
                waiting.start()
            return super().open()

    process = begin()
    bounds, make, starts = process._bounds, process._make, list[int]()
    process._bounds = type(bounds)(seconds=0.5)
    process._make = lambda: (starts.append(1), make())[1]  # type: ignore[method-assign]
    documents = [*many(), (entry(90, "last.txt"), Waiting(b"last"))]
    waiting = threading.Thread(target=index, args=(documents, parser, process))
    assert comparable(index(documents, parser, process)) == comparable(index(documents, parser))
    waiting.join()
    assert starts == [] and process.pids() == []
    assert caplog.text.count("splitting texts in another process failed") == 1


@pytest.fixture
def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Refuse to start threads of that name, as at the limit of threads."""

    def refuse_threads(name: str) -> None:
        start = threading.Thread.start

        def start_others(thread: threading.Thread) -> None:
            if thread.name == name:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_others)

    return refuse_threads


@long
def test_texts_are_split_here_if_no_thread_can_start_the_process(begin, parser, refuse_threads, caplog):
    process = begin(idle=True)
    refuse_threads("kbsync-texts")
    assert comparable(index(many(), parser, process)) == comparable(index(many(), parser))
    assert "splitting texts in another process failed: can't start new thread" in caplog.text
    assert not process._can_take(MANY) and process.pids() == []


@long
def test_process_that_no_thread_can_end_when_idle_ends_at_once(begin, parser, refuse_threads):
    process = begin()
    refuse_threads("parser-idle")
    assert comparable(index(many(), parser, process)) == comparable(index(many(), parser))
    assert process.pids() == [] and parser.pids() == []


def test_mirror_may_be_added_while_another_mirrors_process_starts(tmp_path, monkeypatch):
    created = list[TextProcess]()

    def add_mirror(_process: TextProcess) -> bool:
        adding = threading.Thread(target=lambda: created.append(TextProcess(tmp_path)))
        adding.start()
        adding.join(0.1)
        threads.append(adding)
        return False

    threads = list[threading.Thread]()
    processes = [TextProcess(tmp_path), TextProcess(tmp_path)]
    monkeypatch.setattr(TextProcess, "_is_running", add_mirror)
    monkeypatch.setattr(TextProcess, "_warm_up", lambda _process: None)
    assert not processes[0]._can_take(MANY)
    for thread in threads:
        thread.join()
    for process in (*processes, *created):
        process.close()


@long
def test_only_one_mirrors_process_runs(begin, parser):
    first, second = begin(), begin(idle=True)
    assert comparable(index(many(), parser, second)) == comparable(index(many(), parser))
    assert first.pids() and not second.pids() and second._starter is None
    first.close()
    assert not second._can_take(MANY)
    assert second._starter is not None


@long
def test_process_has_one_thread_for_each_core_to_find_tokens(begin):
    """Threads reserve address space, which is bounded, and a machine may have many cores."""
    (pid,) = begin().pids()
    status = Path(f"/proc/{pid}/status").read_text()
    (threads,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads:")]
    assert threads <= 1 + len(os.sched_getaffinity(0))


@long
def test_process_killed_while_idle_is_replaced(begin, parser):
    process = begin()
    (pid,) = process.pids()
    os.kill(pid, signal.SIGKILL)
    assert comparable(index(many(), parser, process)) == comparable(index(many(), parser))
    assert process.pids() not in ([], [pid])


@pytest.mark.parametrize(
    "response",
    [
        "",
        "{}",
        "[]\n",
        "[[], []]\n",
        "[[[1]], []]\n",
        '[[null], ["k"]]\n',
        "[[3], []]\nAA=",
        '[[null], ["k"]]\nAAAA',
    ],
)
def test_malformed_answer_is_a_value_error(response):
    with pytest.raises(ValueError):
        unpack(response, 1)


@long
def test_closing_ends_a_request(begin, parser):
    class Closing(BytesBody):
        def open(self) -> BinaryIO:
            process._closed = True
            return super().open()

    process = begin()
    with pytest.raises(Unavailable, match="stopped"):
        index([*many(), (entry(90, "last.txt"), Closing(b"last"))], parser, process)


def test_quota_of_a_container_limits_the_cores(tmp_path):
    cgroup_file, service = tmp_path / "own", tmp_path / "root/system.slice/kbsync.service"
    service.mkdir(parents=True)
    cgroup_file.write_text("1:cpu:/other\n0::/system.slice/kbsync.service\n")
    assert cpu_quota(cgroup_file, tmp_path / "root") == cpu_quota(tmp_path / "none") == math.inf
    (service / "cpu.max").write_text("max 100000\n")
    (tmp_path / "root/cpu.max").write_text("150000 100000\n")
    assert cpu_quota(cgroup_file, tmp_path / "root") == 1.5
    (service / "cpu.max").write_text("50000 100000\n")
    assert cpu_quota(cgroup_file, tmp_path / "root") == 0.5


@long
async def test_built_in_base_uses_the_process_for_many_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "is_useful", lambda: True)
    target = LocalTarget.open(LocalTargetConfig(), TargetContext("m", tmp_path, tmp_path / "spool"))
    documents = [outgoing(f"{n}.md", f"# Page {n}\n\nword{n}", upload_id=n) for n in range(MANY)]
    await target.put(documents)
    process = target._texts
    assert process is not None and process._starter is not None
    process._starter.join()
    await target.put(
        [outgoing(f"b{n}.md", f"# Page {n}\n\nterm{n}", upload_id=n + MANY) for n in range(MANY)]
    )
    (pid,) = process.pids()
    await target.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
