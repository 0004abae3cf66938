"""Lets hosts feed one base while they, the server, the pooler or a Dask cluster are killed at random.

The result is checked after each kill.

A new victim is a line of `VICTIMS`: its kill, and its restart.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg

from kbsync.errors import TargetError
from tests.cli.sandbox import Daemon
from tests.cluster.programs import Programs
from tests.postgres.base import find, leftover_rows, open_store
from tests.postgres.pooler import Pooled
from tests.postgres.server import Server
from tests.postgres.test_mirror import Host
from tests.torture.exercise import PromiseBroken, Tally

KEPT = 5
"""Files of each host that change and are never deleted: searches find each, all the time."""

REST = 90.0
"""Seconds until everything is mirrored after a kill, on a busy machine."""

OURS = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'kbsync'"


class Feeding:
    """A folder that changes, and the daemon that mirrors it."""

    def __init__(self, root: Path, server: Server, database: str, name: str, options: str) -> None:
        """Start with `more` lines of config."""
        self.host = Host(root, server, database, f"{name}/")
        config = self.host.config
        config.write_text(
            config.read_text() + "    deletions: {hold_count: 1000}\n    rescan: 5s\n" + options
        )
        self.words = {f"kept{number}.md": f"falcon{name}{number}" for number in range(KEPT)}
        self.texts = dict[str, str]()
        self._versions = itertools.count(1)
        for path, word in self.words.items():
            self.write(path, word)
        self.start()

    def start(self) -> None:
        self.daemon: Daemon = self.host.watch(hurried=True)

    def write(self, path: str, bird: str) -> None:
        self.texts[path] = f"The {bird} in version {next(self._versions)}."
        self.host.write(path, self.texts[path] + "\n")

    def change(self, chance: random.Random) -> None:
        """Make every kind of change."""
        for path, word in self.words.items():
            if chance.random() < 0.6:
                self.write(path, word)
        others = [path for path in self.texts if path not in self.words]
        for path in chance.sample(others, min(len(others), 2)):
            if chance.random() < 0.5:
                (self.host.docs / path).unlink()
                del self.texts[path]
            else:
                moved = f"moved{next(self._versions)}.md"
                self.texts[moved] = self.texts.pop(path)
                (self.host.docs / path).rename(self.host.docs / moved)
        for _ in range(chance.randint(1, 4)):
            self.write(f"new{next(self._versions)}.md", "wader")


class SharedDatabase:
    """Hosts, a server, optionally a pooler and a cluster, and readers that check all the time."""

    def __init__(
        self, folder: Path, server: Server, chance: random.Random, hosts: int, cluster: Programs | None
    ) -> None:
        self.server, self.chance, self.tally, self.cluster = server, chance, Tally(), cluster
        self.database = server.database()
        more = f"    prepare: {{dask: {cluster.address}}}\n" if cluster else ""
        self.feeding = [Feeding(folder / name, server, self.database, name, more) for name in "abcd"[:hosts]]
        self._gaps = list[str]()

    def close(self) -> None:
        for feeding in self.feeding:
            feeding.host.close()

    def play(self, kills: int, victims: Sequence[str]) -> Tally:
        """Kill some of the `victims` and wait until all is mirrored after each. Raises `PromiseBroken`."""
        self.wait_until_equal()
        with self._readers():
            for _ in range(kills):
                for feeding in self.feeding:
                    feeding.change(self.chance)
                self._wait_for_a_moment()
                VICTIMS[self.chance.choice(victims)](self)
                self.tally.crashes += 1
                self.wait_until_equal()
        for feeding in self.feeding:
            self._require(feeding.daemon.end() == 0, "a daemon did not end in good order")
            last_pass = feeding.host.once()
            self._require(
                last_pass["uploaded"] + last_pass["replaced"] == 0, "a pass had something left to send"
            )
            self._require(feeding.host.run("verify").code == 0, "verify found something")
        self.tally.steps += self.reads
        return self.tally

    def wait_until_equal(self) -> None:
        """Wait until each file has exactly one document with its text. Raises `PromiseBroken`."""
        until = time.monotonic() + REST
        while wrong := self._wrong(Tally()):
            if time.monotonic() > until:
                raise PromiseBroken("; ".join(self._wrong(self.tally) or wrong), self.tally)
            time.sleep(0.05)
        if self._gaps:
            self.tally.gaps += len(self._gaps)
            raise PromiseBroken("; ".join(self._gaps[:5]), self.tally)

    def _wrong(self, tally: Tally) -> list[str]:
        try:
            rows = self.server.run(
                self.database,
                "SELECT prefix || shown, text FROM kbsync.owner o JOIN kbsync.document d ON d.owner = o.id"
                " JOIN kbsync.passage USING (content)",
            )
            remaining = leftover_rows(self.server, self.database)
        except psycopg.Error as error:
            return [f"the server does not answer: {error}"]
        stored = dict[str, list[str]]()
        for path, text in rows:
            stored.setdefault(path, []).append(text)
        expected = {
            feeding.host.prefix + path: [text]
            for feeding in self.feeding
            for path, text in feeding.texts.items()
        }
        tally.violations += len(remaining)
        return tally.compare(expected, stored) + [f"left over: {row}" for row in remaining]

    def _wait_for_a_moment(self) -> None:
        """Wait a random time; or until a host is in a transaction, if that happens soon."""
        if self.chance.random() < 0.4:
            time.sleep(self.chance.uniform(0.0, 0.7))
            return
        until = time.monotonic() + 1.5
        while time.monotonic() < until and not self.working():
            time.sleep(0.002)
        time.sleep(self.chance.uniform(0.0, 0.05))

    def working(self) -> list[int]:
        """Return the server processes that work for a host."""
        with psycopg.connect(self.server.direct("postgres"), autocommit=True) as connection:
            return [pid for (pid,) in connection.execute(f"{OURS} AND state <> 'idle'", (self.database,))]

    @contextmanager
    def _readers(self) -> Iterator[None]:
        self.reads, ending = 0, threading.Event()

        def read(feeding: Feeding) -> None:
            with open_store(self.server, self.database, feeding.host.prefix, read_only=True) as store:
                for word in itertools.cycle(feeding.words.values()):
                    if ending.wait(0.02):
                        return
                    with suppress(TargetError):  # the server or the pooler was killed, too
                        documents = find(store, word)
                        self.reads += 1
                        if len(documents) != 1:
                            self._gaps.append(f"{word} was found in {len(documents)} documents")

        threads = [threading.Thread(target=read, args=(feeding,)) for feeding in self.feeding]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ending.set()
            for thread in threads:
                thread.join()

    def _require(self, is_so: bool, sentence: str) -> None:
        if not is_so:
            self.tally.violations += 1
            raise PromiseBroken(sentence, self.tally)


def kill_host(shared: SharedDatabase) -> None:
    """Kill a daemon; its folder changes while it is down."""
    feeding = shared.chance.choice(shared.feeding)
    feeding.daemon.process.kill()
    feeding.daemon.process.wait()
    feeding.change(shared.chance)
    feeding.start()


def kill_session(shared: SharedDatabase) -> None:
    """Kill a server process that works for a host: the server ends all others, too, and recovers."""
    pids = shared.working() or [pid for (pid,) in shared.server.run("postgres", OURS, shared.database)]
    for pid in pids[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_server(shared: SharedDatabase) -> None:
    """Kill the server's first process; the others end when they notice."""
    shared.server.kill()
    time.sleep(shared.chance.choice([0.0, 0.5]))
    shared.server.start()


def kill_pooler(shared: SharedDatabase) -> None:
    """Kill the pooler, with every connection through it."""
    assert isinstance(shared.server, Pooled)
    shared.server.pooler.stop()
    time.sleep(shared.chance.choice([0.0, 0.5]))
    shared.server.pooler.start()


def kill_worker(shared: SharedDatabase) -> None:
    """Kill a worker, which may be working, and start another."""
    assert shared.cluster is not None
    worker = shared.cluster.workers.pop(0)
    worker.kill()
    worker.wait()
    shared.cluster.start_worker()


def kill_scheduler(shared: SharedDatabase) -> None:
    """Kill the scheduler; its workers end with it, and new ones join the new one."""
    cluster = shared.cluster
    assert cluster is not None
    port, workers = int(cluster.address.rpartition(":")[2]), len(cluster.workers)
    for process in (cluster.scheduler, *cluster.workers):
        process.kill()
        process.wait()
    cluster.workers.clear()
    time.sleep(shared.chance.choice([0.0, 0.5]))
    cluster.start_scheduler(port)
    for _ in range(workers):
        cluster.start_worker()


VICTIMS: Mapping[str, Callable[[SharedDatabase], None]] = {
    "host": kill_host,
    "session": kill_session,
    "server": kill_server,
    "pooler": kill_pooler,
    "worker": kill_worker,
    "scheduler": kill_scheduler,
}
OF_CLUSTER = {"worker", "scheduler"}


def play(
    seed: int, folder: Path, kills: int, victims: Collection[str], *, pooled: bool, hosts: int = 2
) -> Tally:
    """Run a shared database from beginning to end; the same seed chooses the same victims and changes."""
    with ExitStack() as stack:
        server = Pooled() if pooled else Server()
        stack.callback(server.close)
        cluster = Programs(2) if OF_CLUSTER & set(victims) else None
        if cluster is not None:
            stack.callback(cluster.close)
        shared = SharedDatabase(folder, server, random.Random(seed), hosts, cluster)
        stack.callback(shared.close)
        return shared.play(kills, sorted(victims))
