"""Installs real servers, starts them and runs their tests: `python -m tests.servers [NAME…] [-- PYTEST
ARGS]`.

A server that this machine can't install is reported and left out. An installed server that doesn't start is a
failure, and so is a failing test. `python -m tests.servers --serve NAME` starts one and waits for Ctrl-C.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.servers import models
from tests.servers.running import NAMES, VARIABLE, NotInstalled, NotStarted, install, module, uv

FOLDER = Path(__file__).parent


def main(words: Sequence[str]) -> int:
    """Return 0 if every server that could be installed started and passed."""
    words, given = _split(words)
    names = [name for name in words if name in NAMES] or list(NAMES)
    if wrong := {*words} - {*NAMES, "--serve"}:
        sys.exit(f"there is no server {', '.join(sorted(wrong))}; there are {', '.join(NAMES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    environments = _installed(names)
    if not environments:
        return 0
    with tempfile.TemporaryDirectory(prefix="kbsync-servers-") as scratch, ExitStack() as stack:
        started_at = time.monotonic()
        try:
            started = _start_servers(environments, Path(scratch), stack)
        except NotStarted as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{', '.join(started)} up in {time.monotonic() - started_at:.0f} s", flush=True)
        if "--serve" in words:
            print(json.dumps(started), flush=True)
            signal.pause()
        return _run_tests(started, Path(scratch), given)


def _split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Split the words at `--`."""
    where = words.index("--") if "--" in words else len(words)
    return words[:where], words[where + 1 :]


def _installed(names: Sequence[str]) -> dict[str, Path]:
    """Return the environment of each server that this machine can install."""
    results = {}
    for name in names:
        started_at = time.monotonic()
        try:
            uv()
            results[name] = install(name)
            print(f"{name} installed in {time.monotonic() - started_at:.0f} s", flush=True)
        except (NotInstalled, OSError) as error:
            print(f"{name} is left out, it cannot be installed here: {error}", flush=True)
    return results


def _start_servers(
    environments: dict[str, Path], scratch: Path, stack: ExitStack
) -> dict[str, dict[str, Any]]:
    """Start them in parallel; return what each yields, with the address of its own model server."""

    def start(name: str) -> dict[str, Any]:
        models_url = stack.enter_context(models.serving())
        started = module(name).start(environments[name], scratch / name, models_url)
        return {
            **stack.enter_context(started),
            "models_url": models_url,
            "environment": str(environments[name]),
        }

    with ThreadPoolExecutor(len(environments)) as pool:
        starting = {name: pool.submit(start, name) for name in environments}
        return {name: future.result() for name, future in starting.items()}


def _run_tests(servers: dict[str, dict[str, Any]], scratch: Path, arguments: Sequence[str]) -> int:
    """Return pytest's exit code: one process for each server."""
    spread = () if len(servers) == 1 else ("-n", str(len(servers)), "--dist", "loadfile")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", scratch / "tests"]
    variables = {**os.environ, VARIABLE: json.dumps(servers)}
    return subprocess.run([*command, *spread, FOLDER, *arguments], env=variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
