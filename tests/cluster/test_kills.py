"""Tests that the end of a worker or scheduler during work costs a retry, but no document."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import distributed
import pytest

from kbsync.contract.target import Cluster
from kbsync.errors import Rejected, Unavailable
from kbsync.index.cluster import client
from kbsync.index.cluster.client import CONNECT_WITHIN, DaskCluster, KilledWorkers
from kbsync.index.document import Chunk, Cut
from kbsync.index.sqlite.store import SqliteStore
from tests.cli.sandbox import Sandbox, eventually
from tests.cluster.programs import PATIENCE, Programs
from tests.cluster.test_cluster import PAGES, document
from tests.share import long


@pytest.fixture
def doomed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    """A cluster for a test to kill, which gives a document up after the first killed worker."""
    monkeypatch.setattr(client, "LOOK_EVERY", 0.05)
    running = Programs(1, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    yield running
    running.close()


def pause(dask_worker: Any) -> None:
    """Pause the worker as if its memory were full."""
    from distributed import Status

    dask_worker.status = Status.paused


@long
def test_document_that_kills_workers_and_a_cluster_without_workers(
    doomed: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(DaskCluster(Cluster(doomed.address))) as cluster:
        doomed.start_worker()
        doomed.wait_for(2)
        # Only one of them: the other shows that workers don't end with each document.
        (killed,) = cluster.cut([document("deadly.html", b"a")])
        assert isinstance(killed, Rejected) and killed.may_pass
        assert re.match("1 worker of the cluster died while reading the document", killed.reason)
        with distributed.Client(doomed.address, set_as_default=False) as dask:
            dask.run(pause)
        monkeypatch.setattr(client, "WORKERS_WITHIN", 0.5)
        with pytest.raises(Unavailable, match="has no workers; start at least one"):
            list(cluster.cut(PAGES))
        monkeypatch.setattr(client, "WORKERS_WITHIN", PATIENCE)
        doomed.start_worker()
        assert all(isinstance(outcome, Cut) for outcome in cluster.cut(PAGES))
        monkeypatch.setattr(client, "ANSWER_WITHIN", 0.5)
        doomed.scheduler.send_signal(signal.SIGSTOP)
        with pytest.raises(Unavailable, match="gone or isn't responding"):
            list(cluster.cut(PAGES))
        doomed.scheduler.send_signal(signal.SIGCONT)
        monkeypatch.setattr(client, "ANSWER_WITHIN", PATIENCE)
        # Another connection to the same scheduler.
        assert all(isinstance(outcome, Cut) for outcome in cluster.cut(PAGES))


def test_only_the_guilty_passage_of_a_batch_that_kills_workers_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = list[int]()

    async def ask(
        _self: Any, _name: str, _function: Any, _versions: Any, arguments: Any, _priority: int = 0
    ) -> bytes:
        import pickle

        requests.append(len(arguments[1]))
        if any(text == "deadly" for _, text in arguments[1]):
            raise KilledWorkers("4 workers of the cluster died")
        return pickle.dumps({key: b"\0\0" for key, _ in arguments[1]})

    monkeypatch.setattr(DaskCluster, "_ask", ask)
    texts = ["a", "b", "deadly", "c", "d", "e", "f", "g"]
    with closing(DaskCluster(Cluster("tcp://127.0.0.1:9"))) as cluster:
        vectors = cluster.vectors(b"", "m", [Chunk(text, text, text) for text in texts]).result()
    refused = {key: vector for key, vector in vectors.items() if isinstance(vector, Rejected)}
    assert (list(refused), set(vectors)) == (["deadly"], set(texts))
    assert requests == [
        8,
        4,
        2,
        2,
        1,
        1,
        1,
        4,
    ]  # of the three alone one is harmless: workers don't end with all of them


def test_cluster_whose_workers_all_die_is_blamed_instead_of_a_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask(*_: Any, **_more: Any) -> bytes:
        raise KilledWorkers("4 workers of the cluster died")

    monkeypatch.setattr(DaskCluster, "_ask", ask)
    with closing(DaskCluster(Cluster("tcp://127.0.0.1:9"))) as cluster:
        with pytest.raises(Unavailable, match="died on every document they tried"):
            cluster.vectors(b"", "m", [Chunk(text, text, text) for text in "ab"]).result()
        with pytest.raises(Unavailable, match="died on every document they tried"):
            list(cluster.cut(PAGES[:1]))


@long
def test_pass_continues_locally_without_its_cluster_and_status_says_so(tmp_path: Path) -> None:
    sandbox, running = Sandbox(tmp_path), Programs(1)
    try:
        for process in (running.scheduler, *running.workers):
            process.kill()
            process.wait()
        sandbox.write("a.html", "<h1>Ice</h1><p>The walrus.</p>")
        sandbox.configure(f"prepare: {{dask: {running.address}}}\n")
        began = time.monotonic()
        result = sandbox.run("--once")
        assert (result.code, stored(sandbox)) == (0, ["a.html"])
        assert time.monotonic() - began < 2 * CONNECT_WITHIN
        note = sandbox.status()["note"]
        assert f"the Dask scheduler at {running.address} isn't responding" in note and "this host" in note
        assert note in sandbox.run("status").out
        # It is back: the next documents go to it.
        running.start_scheduler(int(running.address.rpartition(":")[2]))
        running.start_worker()
        running.wait_for(1)
        sandbox.mirror({"b.html": "<h1>Ice</h1><p>The seal.</p>"})
        assert (stored(sandbox), sandbox.status().get("note", "")) == (["a.html", "b.html"], "")
    finally:
        sandbox.close()
        running.close()


@long
def test_killing_workers_and_scheduler_mid_pass_loses_and_duplicates_nothing(tmp_path: Path) -> None:
    sandbox, running, names = (
        Sandbox(tmp_path),
        Programs(2),
        [f"slow{number:03}.html" for number in range(160)],
    )
    for name in names:
        sandbox.write(name, f"<h1>{name}</h1><p>The walrus of {name}.</p>")
    sandbox.configure(f"prepare: {{dask: {running.address}}}\n")

    def at_work(tasks: int = 8) -> bool:
        with distributed.Client(running.address, set_as_default=False) as dask:
            return bool(dask.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) >= tasks)

    try:
        process = sandbox.start("--once", "--json")
        eventually(at_work)
        running.workers[0].kill()
        time.sleep(0.3)
        assert at_work(1)
        port = int(running.address.rpartition(":")[2])
        for dask_process in (running.scheduler, *running.workers):
            dask_process.kill()
            dask_process.wait()
        running.start_scheduler(port)
        for _ in range(2):
            running.start_worker()
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, (out, err)
        assert b"distributed" not in err and b"Traceback" not in err
        assert stored(sandbox) == names
        # With the base as it is there is nothing to do.
        assert sandbox.run("--once", "--json").json["uploaded"] == 0
    finally:
        sandbox.close()
        running.close()


def stored(sandbox: Sandbox) -> Sequence[str]:
    """Return the paths of all documents of the base, duplicates included."""
    store = SqliteStore(sandbox.state / "kb" / "handbook", writer=None)
    with closing(store):
        return sorted(row.path for row in store.page(0, 1_000))
