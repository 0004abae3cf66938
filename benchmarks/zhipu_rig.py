"""Tools for the benchmarks of services: a stand-in and `kbsync --once`, each a separate process."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

KEY = "benchmark.key-for-the-stand-in"
KNOWLEDGE_ID = "1734786402936664064"
"""The id of the stand-in's initial base."""

CONFIG = """
mirrors:
  - name: docs
    folder: {folder}
    target:
      type: zhipu
      base_url: {url}/api
      api_key: {key}
      knowledge_id: "{knowledge_id}"
      concurrency: {concurrency}
"""


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests to a stand-in: the total, the number of each call, and the most at a time."""

    total: int
    by_op: Mapping[str, int]
    at_once: int

    @property
    def summary(self) -> str:
        """A summary such as `2,061 (2,000 upload, 60 list, 1 base), 4 at once`."""
        calls = ", ".join(f"{count:,} {op}" for op, count in sorted(self.by_op.items(), key=_most_first))
        return f"{self.total:,} ({calls}), {self.at_once} at once"


def _most_first(entry: tuple[str, int]) -> int:
    return -entry[1]


@dataclass(frozen=True, slots=True)
class StandIn:
    """A running stand-in at `url`."""

    url: str

    def take_requests(self) -> Requests:
        """Return the requests since the last call, and reset the counts."""
        log = self._control("GET", "/requests")
        self._control("DELETE", "/requests")
        return Requests(log["total"], log["by_op"], log["in_flight_max"])

    def violations(self) -> list[str]:
        """Return the requests that broke the service's rules."""
        return list(self._control("GET", "/violations"))

    def _control(self, method: str, path: str) -> Any:
        with urlopen(Request(f"{self.url}/_standin{path}", method=method)) as response:
            return json.load(response)


@contextmanager
def standin(*options: str, service: str = "zhipu") -> Iterator[StandIn]:
    """Start a stand-in; `options` are those of `python -m kbsync_standin --help`."""
    command = [sys.executable, "-m", "kbsync_standin", service, "--port", "0", "--key", KEY, "--quiet"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield StandIn(process.stdout.readline().split()[-1])
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Pass:
    """One `kbsync --once`: wall and CPU seconds, peak memory, and its results."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    uploaded: int
    replaced: int
    ready: int


@dataclass(frozen=True, slots=True)
class Mirror:
    """A folder, its config and its state, all below `place`."""

    root: Path

    @property
    def folder(self) -> Path:
        """The mirrored folder."""
        return self.root / "docs"

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.root / "state"

    def aim(self, url: str, concurrency: int, config: str = CONFIG) -> None:
        """Write the config for a target at `url`."""
        self.config.write_text(
            config.format(
                folder=self.folder, url=url, key=KEY, knowledge_id=KNOWLEDGE_ID, concurrency=concurrency
            )
        )

    @property
    def config(self) -> Path:
        """The config file."""
        return self.root / "config.yaml"

    def once(self) -> Pass:
        """Run a pass as a separate process, which must succeed."""
        command = [sys.executable, "-m", "kbsync", "--once", "--json", "-q", "--config", str(self.config)]
        began = time.perf_counter()
        process = subprocess.Popen([*command, "--state-dir", str(self.state)], stdout=subprocess.PIPE)
        peak_mib, usage = _watched(process)
        seconds = time.perf_counter() - began
        assert process.stdout is not None
        output = process.stdout.read()
        assert process.returncode == 0, f"kbsync ended with {process.returncode}: {output!r}"
        end = json.loads(output)
        return Pass(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_mib=peak_mib,
            uploaded=end["uploaded"],
            replaced=end["replaced"],
            ready=end["mirrors"][0]["documents"]["ready"],
        )

    def forget(self) -> None:
        """Lose the state."""
        for path in self.state.glob("state.db*"):
            path.unlink()


def _watched(process: subprocess.Popen[bytes]) -> tuple[float, resource.struct_rusage]:
    """Peak MiB and usage of a process, when it has ended.

    The peak that `wait4` reports is at least that of the process that started it.
    """
    peak_mib = 0.0
    while True:
        number, status, usage = os.wait4(process.pid, os.WNOHANG)
        if number:
            process.returncode = os.waitstatus_to_exitcode(status)
            return peak_mib, usage
        peak_mib = _high_water_mib(process.pid) or peak_mib
        time.sleep(0.01)


def _high_water_mib(pid: int) -> float:
    """VmHWM of proc(5); 0 where the process has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0
