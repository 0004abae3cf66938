"""A folder with its own home directory, in which tests run the program, in this process or another."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kbsync import file_systems
from kbsync.__main__ import main
from kbsync.cli import context
from kbsync.config.model import Config, folder_config
from kbsync.file_systems import Mount
from kbsync.targets import registry
from tests.cli import impatient, without_root
from tests.warm import KBSYNC, Warm

PIPES: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

UNSET = (
    "KBSYNC_CONFIG",
    "STATE_DIRECTORY",
    "NO_COLOR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "JOURNAL_STREAM",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "VISUAL",
    "EDITOR",
    "CREDENTIALS_DIRECTORY",
)

CONFIG = """\
mirrors:
  - name: handbook
    folder: {folder}
    settle: 100ms
{more}"""


def quickly(folder: Path) -> Config:
    """Return the config of `--folder` with a short `settle`: two seconds are long for many small passes."""
    config = folder_config(folder)
    return replace(
        config, mirrors=tuple(replace(mirror_config, settle=0.1) for mirror_config in config.mirrors)
    )


class Stream(io.TextIOWrapper):
    """Stdout or stderr of a run; `terminal` makes it look like one."""

    def __init__(self, terminal: bool) -> None:
        super().__init__(io.BytesIO(), "utf-8", errors="strict")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def content(self) -> bytes:
        self.flush()
        return self.buffer.getvalue()  # type: ignore[attr-defined,no-any-return]


@dataclass(frozen=True)
class RunResult:
    """The result of a run: exit code, stdout, stderr."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def words(self) -> str:
        """Stderr; a JSON log is converted to the messages for people."""
        lines = self.err.splitlines()
        return "\n".join(map(_sentence, map(json.loads, lines))) if self.err.startswith("{") else self.err

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    def check_success(self) -> RunResult:
        """Check that the run succeeded, and return it."""
        assert self.code == 0, (self.out, self.err)
        return self

    def check_refusal(self, code: int, *messages: str) -> None:
        """Check that the run had this exit code and no result, and named the reasons on stderr."""
        assert (self.code, self.out) == (code, ""), self.err
        assert [message for message in messages if message not in self.err] == [], self.err


def _sentence(line: dict[str, Any]) -> str:
    parts = (line.get(key) for key in ("mirror", "path", "reason", "detail"))
    fix = f"; fix: {line['cure']}" if line.get("cure") else ""
    return ": ".join(filter(None, parts)) + fix


LONGEST = 40.0
"""Seconds, on a busy machine, after which a process counts as hanging."""

Value = TypeVar("Value")


def eventually(check: Callable[[], Value], seconds: float = 60.0) -> Value:
    """Call `check` until its value is true and return that; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < deadline, f"still {result!r} after {seconds} s"
        time.sleep(0.02)
    return result


class Daemon:
    """A running daemon; its log goes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """Return its log so far, or only the lines of an event."""
        complete = self.log.read_text().rpartition("\n")[0].splitlines()
        matching = [json.loads(line) for line in complete]
        return [line for line in matching if event in ("", line["event"])]

    def wait_for_event(self, event: str, times: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for an event's line with these fields, or for several of them."""

        def matching_line() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.log.read_text()
            fitting = [line for line in self.lines(event) if fields.items() <= line.items()]
            return fitting[times - 1] if len(fitting) >= times else None

        return eventually(matching_line)

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.send_signal(signal.SIGTERM)
        return self.process.wait(LONGEST)


def fail_disk(point: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show a mount at `point` that the kernel has made read-only after an error. Only its appearance is
    faked.
    """
    mount, real = Mount(9999, os.path.realpath(point), "ext4", has_failed=True), file_systems.mounts
    monkeypatch.setattr(file_systems, "mounts", lambda: (*real(), mount))


class Sandbox:
    """A home in `root` and a folder `docs` below it. Programs don't see the real home.

    `modules`: the modules that its processes run, usually and in a hurry. Checks between a test's steps run
    in the test's own process (`run`), which is quicker.
    """

    modules = (KBSYNC, impatient.__name__)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._running: list[subprocess.Popen[bytes]] = []
        self.home, self.docs = root / "home", root / "docs"
        self.home.mkdir()
        self.docs.mkdir()

    @property
    def config(self) -> Path:
        return self.home / ".config" / "kbsync" / "config.yaml"

    @property
    def state(self) -> Path:
        """The state directory with a config."""
        return self.home / ".local" / "state" / "kbsync"

    def write(self, path: str, text: str | bytes) -> Path:
        return self.write_all({path: text})

    def write_all(self, files: Mapping[str, str | bytes], folder: Path | None = None) -> Path:
        """Write files, paths and texts, into `docs` or another folder; return the last one."""
        folder = file = folder or self.docs
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def configure(self, settings: str = "", *, file: Path | None = None) -> Path:
        """Write a config for `docs` with a short `settle`; `settings`: further keys of the mirror."""
        file = file or self.config
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"    {line}\n" for line in settings.splitlines())
        file.write_text(CONFIG.format(folder=json.dumps(str(self.docs)), more=lines))
        return file

    def prepare(self, files: Mapping[str, str | bytes], settings: str = "") -> Path:
        """Write files and the config; return that."""
        self.write_all(files)
        return self.configure(settings)

    def add_folder(self, name: str, files: Mapping[str, str | bytes] = {}) -> Path:
        """Create another folder, next to `docs`, with these files."""
        folder = self.root / name
        self.write_all(files, folder)
        return folder

    def add_mirror(self, name: str, files: Mapping[str, str | bytes] = {}) -> Path:
        """Add a mirror of another folder, which has these files, to the config; return the folder."""
        folder = self.add_folder(name, files)
        more = f"  - {{name: {name}, folder: {json.dumps(str(folder))}, settle: 100ms}}\n"
        self.config.write_text(self.config.read_text() + more)
        return folder

    def mirror(self, files: Mapping[str, str | bytes], settings: str = "") -> None:
        """Write files and, with `settings` or if there is none, the config; then mirror everything."""
        self.write_all(files)
        if settings or not self.config.exists():
            self.configure(settings)
        self.once()

    def run(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        tty: bool = False,
        piped: bool = False,
        env: dict[str, str] | None = None,
    ) -> RunResult:
        """Run kbsync in this process; `tty`: at a terminal, `piped`: with another program behind it."""
        out, err = Stream(tty and not piped), Stream(tty)
        inside = self._inside(cwd or self.root, env or {})
        with inside, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([os.fspath(argument) for argument in words])
        return RunResult(int(code), out.content, err.content.decode())

    @contextlib.contextmanager
    def _inside(self, cwd: Path, env: dict[str, str]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(context, "folder_config", quickly)
            patch.setattr(registry, "_accounts", {})  # another program's findings are unknown
            for name in UNSET:
                patch.delenv(name, raising=False)
            patch.setenv("HOME", str(self.home))
            patch.setenv("COLUMNS", "80")
            for name, value in env.items():
                patch.setenv(name, value)
            patch.chdir(cwd)
            yield

    def environ(self, variables: Mapping[str, str]) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in UNSET}
        return {**environment, "HOME": str(self.home), "COLUMNS": "80", **variables}

    def start(
        self, *words: str | Path, env: Mapping[str, str] = {}, hurried: bool = False, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start kbsync as a process, which doesn't outlive the test."""
        module, options = self.modules[hurried], {**PIPES, **options}
        return self.keep(Warm(words, module=module, cwd=self.root, env=self.environ(env), **options))

    def keep(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Kill this process at the end of the test."""
        self._running.append(process)
        return process

    def go(self, *words: str | Path, env: Mapping[str, str] = {}, hurried: bool = False) -> RunResult:
        """Run kbsync as a process to its end; it must not print a traceback."""
        process = self.start(*words, env=env, hurried=hurried)
        out, err = process.communicate(timeout=LONGEST)
        result = RunResult(process.returncode, out, err.decode())
        assert "Traceback" not in result.err, result.err
        return result

    def once(self) -> dict[str, Any]:
        """Run a pass that mirrors everything and return its JSON; in this process if no loop runs here."""
        try:
            asyncio.get_running_loop()
            completed = self.go("--once", "--json")
        except RuntimeError:
            completed = self.run("--once", "--json")
        assert completed.code == 0, (completed.out, completed.err)
        result: dict[str, Any] = completed.json
        return result

    def watch(
        self, *words: str | Path, env: Mapping[str, str] = {}, hurried: bool = False, until: str = ""
    ) -> Daemon:
        """Start the daemon and wait for an event, if any."""
        log = self.root / f"daemon-{len(self._running)}.log"
        with log.open("wb") as file:
            options = {"stdout": subprocess.DEVNULL, "stderr": file}
            process = self.start("--log-format", "json", *words, env=env, hurried=hurried, **options)
        daemon = Daemon(process, log)
        if until:
            daemon.wait_for_event(until)
        return daemon

    def status(self) -> dict[str, Any]:
        """Return the mirror from `status --documents`."""
        [mirror] = self.run("status", "--json", "--documents").json["mirrors"]
        return dict(mirror)

    def state_of(self, path: str) -> dict[str, Any]:
        """Return a document's row in `status`."""
        [item] = [item for item in self.status()["items"] if item["path"] == path]
        return dict(item)

    def search(self, *words: str) -> list[str]:
        """Return the paths of a search's hits."""
        result = self.run("search", "--json", *words)
        assert result.code == 0, result.err
        return [hit["path"] for hit in result.json["hits"]]

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            with contextlib.suppress(ValueError):  # a test may have closed its pipes
                process.communicate()

    def files(self) -> dict[str, tuple[int, int]]:
        """Return every file and folder, with size and time of change.

        The time is left out for SQLite's shared memory, which readers write to.
        """
        result = {str(p.relative_to(self.root)): p.stat() for p in sorted(self.root.rglob("*"))}
        return {
            name: (stat.st_size, 0 if name.endswith("-shm") else stat.st_mtime_ns)
            for name, stat in result.items()
        }


@contextlib.contextmanager
def busy_file(sandbox: Sandbox) -> Iterator[None]:
    """Keep changing a file, so that a pass waits for it."""
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.wait(0.02):
            number += 1
            sandbox.write("busy.md", f"text {number}")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def words_of(command: str) -> Sequence[str]:
    """Return the arguments of a pasted command line."""
    import shlex

    words = shlex.split(command)
    assert words[0] == "kbsync"
    return words[1:]


class OrdinarySandbox(Sandbox):
    """A sandbox whose kbsync lacks root's privileges."""

    modules = (without_root.__name__, without_root.__name__)
