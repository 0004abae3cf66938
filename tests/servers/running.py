"""Installs real servers into separate environments, starts each for one run, and ends it by its id."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, cast

from tests.servers.probe import Probe

NAMES = ("openai", "openwebui", "lightrag", "mcp")
"""Each is a module of this folder, with its packages in a file next to it. `mcp`: programs that call ours."""

VARIABLE = "KBSYNC_SERVERS"
"""JSON with the worlds' data about each server, by name. Without it no test here is collected."""

HOME = Path(os.environ.get("KBSYNC_SERVERS_DIR") or Path.home() / ".cache" / "kbsync-servers")
"""Environments stay here from one run to the next: 2.2 GB."""

MADE = "made"
"""A file in a complete environment; its time is that of the last use."""
KEPT_SECONDS = 30 * 86400.0
"""Environments that are unused for this long are removed."""

START_SECONDS = 180.0
END_SECONDS = 15.0


class NotInstalled(Exception):
    """A server that this machine can't install, and the reason."""


class NotStarted(Exception):
    """A server that is installed and doesn't start, with the end of its log."""


class RealServer(Protocol):
    """The interface of a server's module.

    `PYTHONS`: the versions of Python it runs on; the first available one is used. `PROBES`: requests that the
    stand-in has to answer in the same way. `KNOWN`: known differences, with the reason.
    """

    PYTHONS: Sequence[str]
    PROBES: Sequence[Probe]
    KNOWN: Mapping[str, str]

    def start(
        self, environment: Path, folder: Path, models_url: str
    ) -> AbstractContextManager[dict[str, Any]]:
        """Run the server for as long as the context lasts, with its data in `folder`; yield JSON data for
        its worlds.
        """
        ...


def module(name: str) -> RealServer:
    """Return the module of a server."""
    return cast(RealServer, importlib.import_module(f"tests.servers.{name}"))


# ---- installing


def install(name: str) -> Path:
    """Return the environment of a server, created if necessary. Raises `NotInstalled`, `OSError`.

    Each list of packages has its own environment: another checkout may use another list right now.
    """
    packages, python = Path(__file__).with_name(f"{name}.txt"), _python(module(name).PYTHONS)
    locked = packages.with_suffix(".json")  # npm's lock file, if there is one
    lists = [file.read_bytes() for file in (packages, locked) if file.is_file()]
    digest = hashlib.sha256(b"".join(lists) + python.encode()).hexdigest()[:12]
    environment = HOME / f"{name}-{digest}"
    stamp = environment / MADE
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file():
            shutil.rmtree(environment, ignore_errors=True)
            _run(uv(), "venv", "--quiet", "--python", python, environment)
            # The list is complete, and omits unused requirements (torch, for example).
            words = ("pip", "install", "--quiet", "--no-deps", "--requirement", packages)
            _run(uv(), *words, "--python", environment / "bin" / "python")
            if locked.is_file():
                shutil.copy(locked, environment / "package-lock.json")
                root = json.loads(locked.read_text())["packages"][""]
                (environment / "package.json").write_text(json.dumps(root))
                # No package's script runs: none is needed.
                words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
                _run(environment / "bin" / "npm", *words, "--prefix", environment)
        stamp.touch()
        for used in HOME.glob(f"{name}-*/{MADE}"):
            if used.stat().st_mtime < time.time() - KEPT_SECONDS:
                shutil.rmtree(used.parent, ignore_errors=True)
    return environment


@functools.cache
def uv() -> str:
    """Return the program, installed by pip if it is missing. Raises `NotInstalled`."""
    installed = HOME / "uv" / "bin" / "uv"
    for program in (shutil.which("uv"), str(installed)):
        if program is not None and _works(program, "--version"):
            return program
    # In an environment without pip, use the pip of the Python that created it.
    pythons = (sys.executable, getattr(sys, "_base_executable", sys.executable))
    python = next(
        (candidate for candidate in pythons if _works(candidate, "-m", "pip", "--version")), sys.executable
    )
    words = (
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        installed.parents[1],
        "uv",
    )
    _run(python, *words)
    return str(installed)


def _python(versions: Sequence[str]) -> str:
    """Return the path of the first of these on this machine; else a version, which uv may download."""
    for version in versions:
        name = f"python{version}"
        candidates = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/{name}"))
        for program in (shutil.which(name), *map(str, reversed(candidates))):
            if program is not None and _works(program, "--version"):
                return program
    return versions[0]


def _works(*words: str) -> bool:
    """Return whether the program exists and works; a name on PATH may be a wrapper that only reports an
    error.
    """
    with suppress(OSError):
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    return False


def _run(*words: str | Path) -> None:
    try:
        completed = subprocess.run(
            words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise NotInstalled(str(error)) from error
    if completed.returncode != 0:
        raise NotInstalled("\n".join((completed.stdout + completed.stderr).strip().splitlines()[-10:]))


def tokenizers(environment: Path) -> Path:
    """Return tiktoken's files, which it would download; litellm contains them, and is installed for their
    sake.
    """
    [result] = environment.glob("lib/python3*/site-packages/litellm/litellm_core_utils/tokenizers")
    return result


# ---- running


@contextmanager
def running(
    words: Sequence[str | Path],
    folder: Path,
    ready: str,
    variables: Mapping[str, str],
    *,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for as long as the context lasts; it is ready once `ready` (an address) answers 200.

    It has its own session, with `folder` as its home, its log in `server.log` there, and only PATH and
    `variables` of the environment. Raises `NotStarted`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        **variables,
    }
    with log.open("ab") as file:
        process = subprocess.Popen(
            list(map(os.fspath, words)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=cwd or folder,
            env=environ,
            start_new_session=True,
        )
    try:
        _until_ready(process, ready, log)
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server that `running` started, and its own children."""
    with suppress(ProcessLookupError):
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _until_ready(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(ready, timeout=5) as response:
            if response.status == 200:
                return
        time.sleep(0.1)
    what = "is not up yet" if process.poll() is None else f"ended with code {process.returncode}"
    log_tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
    raise NotStarted(f"{Path(os.fspath(process.args[0])).name} {what}:\n{log_tail}")  # type: ignore[index]
