"""Tests that a real Dask cluster prepares documents as this host does, and gets nothing but these
documents."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import pickle
import re
import socket
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import distributed
import pytest
from cloudpickle import register_pickle_by_value

from kbsync.contract.target import Body, Cluster, TargetContext
from kbsync.errors import Halted, Rejected, TargetError, Unavailable
from kbsync.index.cluster import client, worker
from kbsync.index.cluster.client import ClusterEncoder, ClusterState, DaskCluster, _Room
from kbsync.index.document import Chunk, Cut, Entry
from kbsync.index.embed import LocalEncoder, Vectors
from kbsync.index.fence.parser import Parser
from kbsync.index.pipeline import Pipeline, cut_here
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.services.config import EmbeddingConfig
from tests.cli.sandbox import Sandbox
from tests.cluster.programs import PATIENCE, Programs
from tests.config import reading
from tests.conformance.suite import TargetSuite
from tests.conformance.test_local import MAX_BYTES, LocalConformance
from tests.index import samples
from tests.share import long
from tests.targets.bodies import BytesBody

Document = tuple[Entry, Body]


def document(path: str, content: bytes) -> Document:
    digest = hashlib.sha256(content).hexdigest()
    return Entry(1, path, path, digest, len(content), "r", 1.0), BytesBody(content)


PAGES = [document(f"{number}.html", b"<h1>Ice</h1><p>Walrus %d.</p>" % number) for number in range(30)]


@pytest.fixture
def cluster(programs: Programs) -> Iterator[DaskCluster]:
    with closing(DaskCluster(Cluster(programs.address))) as cluster:
        yield cluster


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Record every task sent: its name, and all of its bytes."""
    sent, submit = list[tuple[str, bytes]](), distributed.Client.submit

    def record(self: Any, function: Any, call: bytes, *, key: str, **more: Any) -> Any:
        sent.append((key.rpartition("-")[0], call))
        return submit(self, function, call, key=key, **more)

    monkeypatch.setattr(distributed.Client, "submit", record)
    return sent


def comparable(outcomes: Sequence[Entry | TargetError]) -> list[object]:
    return [
        outcome if isinstance(outcome, Entry) else (type(outcome), outcome.__dict__) for outcome in outcomes
    ]


@long
def test_all_formats_give_the_same_passages_and_vectors_as_here(tmp_path: Path, cluster: DaskCluster) -> None:
    contents = {
        "a.pdf": samples.pdf(),
        "a.docx": samples.docx(),
        "a.xlsx": samples.xlsx(),
        "a.html": samples.html(),
        "a.md": "# Über\n\nHöhe \ud800".encode("utf-8", "surrogatepass"),
        "broken.pdf": b"%PDF-1.7 no more",
        "blank.txt": b" \n",
        "locked.docx": samples.encrypted_office(),
        "caf\udce9.md": b"coffee",
        "large.txt": b"x" * 2_000_000,
    }
    documents = [document(*item) for item in contents.items()]
    local, parser = LocalEncoder(), Parser(tmp_path)
    remote = ClusterEncoder(cluster, local, LocalEncoder)
    nothing: Any = lambda _model, _keys: set()  # noqa: E731
    here = Pipeline(cut_here(parser.parse), local, nothing, 1_000_000)
    distant = Pipeline(cluster.cut, remote, nothing, 1_000_000)
    with closing(parser):
        expected = [outcome for batch in here.batches(documents) for outcome in batch]
    outcomes = [outcome for batch in distant.batches(documents) for outcome in batch]
    assert comparable(outcomes) == comparable(expected)
    assert sum(isinstance(outcome, Entry) and bool(outcome.vectors) for outcome in outcomes) == 6


def test_only_documents_that_need_a_parser_and_vectors_of_a_users_model_go_to_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = list[str]()

    async def cut(_self: Any, document: worker.Sent, *_: Any) -> Cut:
        sent.append(document.path)
        return Cut(document.path, (), ())

    def cut_locally(documents: Sequence[Document]) -> Iterator[Cut]:
        yield from (Cut("here", (), ()) for _ in documents)

    monkeypatch.setattr(DaskCluster, "_cut", cut)
    monkeypatch.setattr(DaskCluster, "is_away", lambda _self: False)
    mixed = [document(name, b"a") for name in ("a.md", "b.pdf", "c.log", "Makefile", "d.docx", "e.html")]
    with closing(DaskCluster(Cluster("tcp://127.0.0.1:9"))) as cluster:
        titles = [outcome.title for outcome in cluster.cut_or(cut_locally)(mixed) if isinstance(outcome, Cut)]  # type: ignore[arg-type]
    assert titles == ["here", "b.pdf", "here", "here", "d.docx", "e.html"]
    assert sent == ["b.pdf", "d.docx", "e.html"]

    context = TargetContext("test", tmp_path, tmp_path / "spool", cluster=Cluster("tcp://127.0.0.1:9"))
    for embedding, kind in (
        (EmbeddingConfig(), LocalEncoder),
        (EmbeddingConfig("onnx", tmp_path), ClusterEncoder),
    ):
        target: Any = LocalTargetConfig(path=tmp_path / embedding.type, embedding=embedding).open(context)
        asyncio.run(target.aclose())
        assert isinstance(target._encoder, kind)


@long
def test_worker_parses_in_the_sandbox_with_a_private_folder(programs: Programs, cluster: DaskCluster) -> None:
    pdfs = [document(f"slow{number}.pdf", samples.pdf()) for number in range(8)]
    assert all(isinstance(outcome, Cut) for outcome in cluster.cut(pdfs))
    worker_pids = {process.pid for process in programs.workers}
    parsers = list[Path]()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            status_fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
            if (
                int(status_fields["PPid"]) in worker_pids
                and b"fence/child.py" in status.with_name("cmdline").read_bytes()
            ):
                parsers.append(status.parent)
                # A system call filter that survives every change of privileges.
                assert (status_fields["Seccomp"], status_fields["NoNewPrivs"]) == ("2", "1")
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert parsers
    homes = [path for path in programs.folder.rglob("kbsync-*/parser-*") if path.is_dir()]
    assert len(homes) >= len(parsers)
    assert {home.stat().st_mode & 0o777 for spool in homes for home in (spool, spool.parent)} == {0o700}


class TestOnCluster(TargetSuite):
    """The contract, with all documents split elsewhere; without long lists, in which that plays no role."""

    test_long_list_is_complete_and_without_duplicates = None  # type: ignore[assignment]
    test_status_of_many_ids_answers_all_of_them = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True)
    def on(self, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = programs.address
        monkeypatch.setattr(client, "needs_parser", lambda path: True)  # the suite's documents are texts

    def make_world(self, folder: Path) -> LocalConformance:
        return OnCluster(folder, self.address)


class OnCluster(LocalConformance):
    def __init__(self, folder: Path, address: str) -> None:
        super().__init__(folder)
        self.address = address

    async def open(self) -> Any:
        config = LocalTargetConfig(path=self.folder / "kb", max_bytes=MAX_BYTES)
        context = TargetContext("test", self.folder, self.folder / "spool", cluster=Cluster(self.address))
        return config.open(context)


def test_passages_with_a_vector_are_not_embedded_again(
    cluster: DaskCluster, calls: list[tuple[str, bytes]]
) -> None:
    encoder = ClusterEncoder(cluster, LocalEncoder(), LocalEncoder)
    lacking = list[str]()

    def find_embedded(_model: str, keys: Sequence[str]) -> set[str]:
        lacking.append(keys[0])
        return set(keys[1:])

    (batch,) = Pipeline(cluster.cut, encoder, find_embedded, 10**9).batches(PAGES)
    names = [name for name, _ in calls]
    assert (names.count("kbsync-cut"), names.count("kbsync-embed")) == (30, 1)
    assert [key for entry in batch if isinstance(entry, Entry) for key in entry.vectors] == lacking


def test_passage_the_model_fails_on_is_refused_and_the_rest_continue(cluster: DaskCluster) -> None:
    encoder = ClusterEncoder(cluster, LocalEncoder(), LocalEncoder)
    vectors = encoder.begin([Chunk(text, text, text) for text in ("a", "b", "poison", "c", "d")]).result()
    refused = {key: vector for key, vector in vectors.items() if isinstance(vector, Rejected)}
    assert (list(refused), len(vectors)) == (["poison"], 5)
    expected = r"worker tcp://\S+ could not prepare the document \(RuntimeError: index"
    assert re.match(expected, refused["poison"].reason)


def test_hanging_task_is_abandoned_with_the_workers_address(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(worker, "SECONDS_EACH", 0.01)
    monkeypatch.setattr(worker, "_cut", lambda _: never.wait())
    monkeypatch.setattr(worker, "_address", lambda: "tcp://there")
    kind, error = worker.cut(worker.versions(), pickle.dumps("a document"))
    never.set()
    assert kind == worker.FAILED and str(pickle.loads(error)) == "worker tcp://there: not ready after 0 s"

    async def call_worker(*_: Any) -> worker.Answer:
        return kind, error

    monkeypatch.setattr(DaskCluster, "_call_worker", call_worker)
    with (
        closing(DaskCluster(Cluster("tcp://127.0.0.1:9"))) as cluster,
        pytest.raises(Unavailable, match="tcp://there: not ready"),
    ):
        list(cluster.cut(PAGES))


def test_concurrent_puts_share_the_embedding_order(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = list[int]()

    async def cut(*_: Any) -> Cut:
        return Cut(None, (), ())

    async def vectors(_self: Any, _recipe: Any, _model: Any, _texts: Any, priority: int) -> Vectors:
        ranks.append(priority)
        return {}

    monkeypatch.setattr(DaskCluster, "_cut", cut)
    monkeypatch.setattr(DaskCluster, "_vectors", vectors)
    with closing(DaskCluster(Cluster("tcp://127.0.0.1:9"))) as cluster:
        for _ in range(5):  # ended ones don't count
            list(cluster.cut(PAGES[:1]))
        puts = [cluster.cut(PAGES[:1]) for _ in range(3)]
        for batches in puts:
            next(batches)
            cluster.vectors(b"", "m", []).result()
        for batches in puts:
            batches.close()
    assert ranks == [-1, -2, -3]


def test_memory_budget_is_released_whatever_happens_to_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(DaskCluster(Cluster("tcp://127.0.0.1:9", bytes_in_flight=10), 0.1)) as cluster:
        monkeypatch.setattr(PAGES[0][1], "open", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(cluster.cut(PAGES[:1]))
        assert cluster._room.used == 0


def test_results_stay_on_workers_and_bytes_with_the_scheduler(
    cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched, result = list[str](), distributed.Future.result

    def fetch(self: Any, timeout: Any = None) -> Any:
        fetched.append(self.key)
        return result(self, timeout)

    monkeypatch.setattr(distributed.Future, "result", fetch)
    content = b"# Walrus\n\n" + b"On the ice. " * 100_000
    cuts = cluster.cut([document("first.md", b"a"), *(document(f"{n}.md", content) for n in range(8))])
    tracemalloc.start()
    try:
        assert isinstance(next(cuts), Cut)
        until = time.monotonic() + PATIENCE
        while tracemalloc.get_traced_memory()[0] > 2 * len(content):
            assert time.monotonic() < until, tracemalloc.get_traced_memory()
            time.sleep(0.02)
        assert len(fetched) == 1
    finally:
        tracemalloc.stop()
        cuts.close()


def test_requests_for_memory_are_served_in_order() -> None:
    room, is_taken = _Room(10), threading.Event()
    assert room.take(6, wait=False)
    large = threading.Thread(target=lambda: room.take(30, wait=True) and is_taken.set())
    large.start()
    while not room.waiting:
        time.sleep(0.001)
    assert not room.take(1, wait=False)
    room.give(6)
    assert is_taken.wait(10)
    large.join()


def test_unsent_results_are_dropped_after_an_outage() -> None:
    with closing(DaskCluster(Cluster("tcp://127.0.0.1:9"), 0.1)) as cluster:
        for _ in range(2):
            with pytest.raises(Unavailable):
                list(cluster.cut(PAGES[:1]))
            assert cluster._failed is not None and cluster._failed[1].__traceback__ is None


class ServiceEncoder:
    """The encoder of a service, which has a key."""

    at_once, model, takes_pictures, least_cosine, key = 4, "words", True, 0.0, "hush-hush"

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        future = Future[Vectors]()
        future.set_result({chunk.key: b"\0\0" for chunk in chunks})
        return future


@long
def test_only_the_host_calls_a_service(cluster: DaskCluster, calls: list[tuple[str, bytes]]) -> None:
    documents = [*PAGES[:6], document("a.png", samples.PNG)]
    service: Any = ServiceEncoder()
    (batch,) = Pipeline(cluster.cut, service, lambda *_: set(), 10**9).batches(documents)
    assert all(isinstance(entry, Entry) and entry.vectors for entry in batch)
    assert {name for name, _ in calls} == {"kbsync-cut"}
    assert not [call for _, call in calls if b"hush" in call]


@pytest.mark.parametrize("file_state", ["equal", "changed", "as long", "missing", "a folder"])
def test_shared_file_system_sends_a_path_unless_the_bytes_differ(
    programs: Programs, tmp_path: Path, calls: list[tuple[str, bytes]], file_state: str
) -> None:
    (entry, body), location = (
        document("notes/a.md", b"# Walrus\n\n" + b"On the ice. " * 9_000),
        tmp_path / "notes/a.md",
    )
    lies = {"equal": body.open().read(), "changed": b"other", "as long": b"x" * body.size}
    (location if file_state == "a folder" else location.parent).mkdir(parents=True)
    if file_state in lies:
        location.write_bytes(lies[file_state])
    with closing(DaskCluster(Cluster(programs.address, str(tmp_path)))) as cluster:
        (cut,) = cluster.cut([(entry, body)])
    assert isinstance(cut, Cut) and cut.title == "Walrus"
    assert [len(call) > body.size for _, call in calls] == (
        [False] if file_state == "equal" else [False, True]
    )


def test_worker_of_another_version_halts_the_mirror(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "__version__", "9.1")
    with closing(DaskCluster(Cluster(programs.address))) as cluster:
        with pytest.raises(
            Halted, match=r"worker tcp://[\d.:]+ has kbsync 0.1.0, but this host has kbsync 9.1"
        ) as caught:
            list(cluster.cut(PAGES))
        assert caught.value.halt == "workers-differ" and "install kbsync" in caught.value.fix
        assert len(cluster.state().unfit) == 2


def test_worker_with_another_model_halts_the_mirror(cluster: DaskCluster, tmp_path: Path) -> None:
    named = LocalEncoder()
    named.model = "onnx-another/1"
    with pytest.raises(Halted, match=r"has model wordllama\S+, but this host has model onnx-another/1"):
        ClusterEncoder(cluster, named, LocalEncoder).begin([Chunk("a", "a", "k")]).result()
    missing = ClusterEncoder(cluster, named, partial(LocalEncoder, tmp_path / "gone"))
    with pytest.raises(Halted, match=r"has model none .*gone has no model\.onnx"):
        missing.begin([Chunk("a", "a", "k")]).result()


def hide(module: str) -> None:
    import sys

    sys.modules["hidden"], sys.modules[module] = sys.modules[module], None  # type: ignore[assignment]


def show(module: str) -> None:
    import sys

    sys.modules[module] = sys.modules.pop("hidden")


def test_worker_without_kbsync_halts_the_mirror(programs: Programs, cluster: DaskCluster) -> None:
    name = worker.__name__
    with distributed.Client(programs.address, set_as_default=False) as dask:
        addresses = list(dask.nthreads())
        register_pickle_by_value(sys.modules[__name__])
        dask.run(hide, name, workers=addresses[:1])
        try:
            with pytest.raises(Halted, match=rf"worker {addresses[0]} cannot run kbsync 0.1.0 \(.*{name}"):
                list(cluster.cut(PAGES))
        finally:
            dask.run(show, name, workers=addresses[:1])


def test_documents_in_flight_are_limited_by_bytes(programs: Programs) -> None:
    sizes = [400, 400, 400, 3_000, 100, 100, 900, 100]
    documents = [document(f"slow{number}.txt", b"x" * size) for number, size in enumerate(sizes)]
    sent, most = list[tuple[int, Future[Any]]](), list[int]()
    with closing(DaskCluster(Cluster(programs.address, bytes_in_flight=1_000))) as cluster:
        begin = cluster._begin_cut

        def record(entry: Entry, body: Body, settings: Any) -> Any:
            future = begin(entry, body, settings)
            sent.append((body.size, future))
            most.append(sum(size for size, earlier in sent if not earlier.done()))
            return future

        cluster._begin_cut = record  # type: ignore[method-assign]
        both = [cluster.cut(documents), cluster.cut(documents)]
        threads = [threading.Thread(target=list, args=[cuts]) for cuts in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(size for size, _ in sent) == 2 * sum(sizes) and cluster._room.used == 0
    assert max(size for size in most if size < 3_000) <= 1_000
    assert {size for size in most if size >= 3_000} <= {3_000}
    assert max(most) == 3_000 and any(400 < size <= 1_000 for size in most)


def test_abandoned_work_is_cancelled_at_the_cluster(programs: Programs, cluster: DaskCluster) -> None:
    cuts = cluster.cut([document("endless.md", b"a"), *(document(f"slow{n}.md", b"a") for n in range(50))])
    threading.Timer(0.5, cluster.close).start()
    with pytest.raises(Unavailable, match="stopped"):
        next(cuts)
    cuts.close()
    assert cluster._room.used == 0
    with distributed.Client(programs.address, set_as_default=False) as dask:
        until = time.monotonic() + 20
        while remaining := dask.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            assert time.monotonic() < until, f"{remaining} tasks are left"
            time.sleep(0.05)


def test_nothing_is_left_or_logged_after_the_end(
    programs: Programs, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {*threading.enumerate()}
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with (
        caplog.at_level(logging.DEBUG, "distributed"),
        closing(DaskCluster(Cluster(programs.address))) as cluster,
    ):
        assert len(list(cluster.cut(PAGES[:3]))) == 3
    until = time.monotonic() + 10
    while {*threading.enumerate()} - before or len(list(Path("/proc/self/fd").iterdir())) > descriptors:
        assert time.monotonic() < until, [thread.name for thread in {*threading.enumerate()} - before]
        time.sleep(0.02)
    assert capfd.readouterr() == ("", "")
    cluster.close()
    with pytest.raises(Unavailable, match="stopped"):
        list(cluster.cut(PAGES[:1]))


def test_different_dask_dependencies_cause_no_warning(cluster: DaskCluster) -> None:
    assert len(list(cluster.cut(PAGES[:1]))) == 1
    warnings.warn(distributed.versions.VersionMismatchWarning("tornado"), stacklevel=1)  # else an error


def test_closing_ends_the_wait_for_a_scheduler_that_does_not_respond() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster = DaskCluster(Cluster(f"tcp://127.0.0.1:{server.getsockname()[1]}"), 60)
        closing_soon = threading.Timer(0.5, cluster.close)
        closing_soon.start()
        with pytest.raises(Unavailable, match="was stopped"):
            cluster.state()
        closing_soon.join()


@long
def test_missing_scheduler_is_reported_in_one_sentence() -> None:
    with closing(DaskCluster(Cluster("tcp://127.0.0.1:9"), 0.3)) as cluster:
        with pytest.raises(Unavailable, match=r"the Dask scheduler at tcp://127.0.0.1:9 isn't responding \("):
            list(cluster.cut(PAGES[:3]))
        assert cluster._room.used == 0


def test_work_of_a_lost_cluster_is_done_locally_until_the_next_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    now, checks = [0.0], list[float]()
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def lose_scheduler(_self: object, documents: Sequence[Document]) -> Iterator[Cut | TargetError]:
        checks.append(now[0])
        yield from cut_locally(documents[:1])
        raise Unavailable("the scheduler went away", code="scheduler-lost")

    def cut_locally(documents: Sequence[Document]) -> Iterator[Cut | TargetError]:
        yield from (Cut(entry.path, (), ()) for entry, _ in documents)

    def state(_self: object) -> ClusterState:
        checks.append(now[0])
        raise Unavailable("no scheduler answers", code="no-scheduler")

    monkeypatch.setattr(DaskCluster, "cut", lose_scheduler)
    monkeypatch.setattr(DaskCluster, "state", state)
    with closing(DaskCluster(Cluster("tcp://127.0.0.1:9"))) as cluster:
        cut: Any = cluster.cut_or(cut_locally)  # type: ignore[arg-type]
        assert cluster.note == ""
        for moment in (0.0, 1.0, client.AWAY_FOR - 1, client.AWAY_FOR, client.AWAY_FOR + 1):
            now[0] = moment
            titles = [outcome.title for outcome in cut(PAGES[:3])]
            assert titles == [entry.path for entry, _ in PAGES[:3]]
            assert "this host will do the cluster's work" in cluster.note
        assert checks == [0.0, client.AWAY_FOR]
        # A document that crashes the model, for example, doesn't mean that the cluster is down.
        monkeypatch.setattr(DaskCluster, "state", lambda _self: ClusterState(1, 1, ()))
        now[0] = 2 * client.AWAY_FOR + 1
        assert not cluster.is_away() and cluster.note == ""
        assert not cluster.lose(Unavailable("its workers end", code="workers-killed"))


def test_every_error_survives_serialization() -> None:
    halted = Halted("disk-full", "no space", fix="df")
    for error in (Rejected("no", code="c", may_pass=True), Unavailable("later", retry_after=3.0), halted):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.__dict__, str(copy)) == (type(error), error.__dict__, str(error))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("prepare: {dask: 'tls://cluster.example:8786', folder: /mnt, bytes_in_flight: 1}", None),
        ("prepare: {dask: 'cluster.example:8786'}", "such as tcp://scheduler:8786 or tls://scheduler:8786"),
        ("prepare: {dask: 'tcp://u:p@host:1'}", "is not valid; allowed: a URL such as"),
        ("prepare: {dask: 'tcp://host:1', folder: mnt}", "allowed: an absolute path"),
        ("prepare: {folder: /mnt}", "dask: is required: URL of the scheduler"),
        (
            "prepare: {dask: 'tcp://host:1'}\n"
            'target: {type: zhipu, api_key: 1a2b.T0KEN, knowledge_id: "1734786402936664064"}',
            "prepare: zhipu prepares documents itself; remove this key, or use local or postgres",
        ),
    ],
)
def test_config_accepts_a_cluster_address_only_for_our_own_index(
    tmp_path: Path, settings: str, message: str | None
) -> None:
    errors = reading.problem_lines(tmp_path, reading.with_settings(settings))
    if message is None:
        prepare = reading.mirror(tmp_path, settings).prepare
        assert prepare is not None
        assert prepare.cluster == Cluster("tls://cluster.example:8786", "/mnt", 1)
    else:
        assert message in errors[0]
    assert len(errors) == (message is not None)


def test_missing_distributed_package_comes_with_its_install_command(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.prepare({"a.md": "A walrus.\n"}, "prepare: {dask: 'tcp://127.0.0.1:9'}\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = sandbox.run("--once")
    assert result.code == 2
    assert re.search("prepare.dask needs the `distributed` package; .* install '?distributed", result.err)
    assert sandbox.run("plan").code == 0  # commands that only read need no cluster
