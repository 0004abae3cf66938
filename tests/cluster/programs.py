"""A Dask cluster for tests: a real scheduler and workers, each a process on the loopback interface."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from kbsync.contract.target import Cluster
from kbsync.errors import Unavailable
from kbsync.index.cluster.client import DaskCluster

DASK = Path(sys.executable).with_name("dask")
PRELOADED = Path(__file__).with_name("preloaded.py")
PATIENCE = 60.0
_DASHBOARD = [
    "--no-dashboard",
    "--dashboard-address",
    "127.0.0.1:0",
]  # there is an HTTP server without it, too


class Programs:
    """A scheduler with `workers`. `close` ends all of it. `environ`: Dask's settings for all of them."""

    def __init__(self, workers: int, protocol: str = "tcp", **environ: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kbsync-dask-"))
        atexit.register(self.close)  # even if its creator fails before the end
        self._environ = {
            **os.environ,
            "HOME": str(self.folder),
            "DASK_LOGGING__DISTRIBUTED": "error",
            **environ,
        }
        self._address_options = ["--host", "127.0.0.1", "--protocol", protocol]
        self.workers = list[subprocess.Popen[bytes]]()
        self.start_scheduler(0)
        for _ in range(workers):
            self.start_worker()
        if protocol == "tcp":
            self.wait_for(workers)

    def start_scheduler(self, port: int) -> None:
        """Start a scheduler at this port; 0: at any free one."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._run("scheduler", "--port", str(port), "--scheduler-file", str(file))
        until = time.monotonic() + PATIENCE
        while not file.exists() or not file.read_text().endswith("}"):
            assert time.monotonic() < until and self.scheduler.poll() is None
            time.sleep(0.02)
        self.address = str(json.loads(file.read_text())["address"])

    def start_worker(self) -> None:
        """Start one more worker. It has no nanny: a killed worker stays dead."""
        folder = ["--local-directory", str(self.folder), "--preload", str(PRELOADED)]
        options = ["--no-nanny", "--nthreads", "2", "--memory-limit", "0", *folder]
        self.workers.append(self._run("worker", self.address, *options))

    def wait_for(self, workers: int) -> None:
        """Wait until there are this many."""
        cluster = DaskCluster(Cluster(self.address))
        until = time.monotonic() + PATIENCE
        worker_count = 0
        while worker_count != workers:
            assert time.monotonic() < until
            time.sleep(0.05)
            with suppress(Unavailable):  # a busy machine needs more time
                worker_count = cluster.state().workers
        cluster.close()

    def close(self) -> None:
        """End all programs and remove their files."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, kind: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{kind}.log").open("ab") as log:
            line = [str(DASK), kind, *self._address_options, *_DASHBOARD, *words]
            return subprocess.Popen(line, env=self._environ, stdout=log, stderr=log)
