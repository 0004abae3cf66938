"""A folder, a home of its own, and the program run in between, in this process or as one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kbsync.__main__ import main
from kbsync.cli.commands import open as opening
from kbsync.targets.http import target as http_target
from tests.warm import Warm

MEMORY = opening.MEMORY
PIPES: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
}

UNSET = (
    "KBSYNC_CONFIG",
    "STATE_DIRECTORY",
    "NO_COLOR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "JOURNAL_STREAM",
    "XDG_RUNTIME_DIR",
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
class Ran:
    """What a run left: exit code, stdout, stderr."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def words(self) -> str:
        """Stderr; where it is a log in JSON, the same as a person is told it."""
        lines = self.err.splitlines()
        return "\n".join(map(_sentence, map(json.loads, lines))) if self.err.startswith("{") else self.err

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


def _sentence(line: dict[str, Any]) -> str:
    parts = (line.get(key) for key in ("mirror", "path", "reason", "detail"))
    cure = f"; cure: {line['cure']}" if line.get("cure") else ""
    return ": ".join(filter(None, parts)) + cure


class Place:
    """A home in `root` and a folder `docs` below it. Nothing of the real home is seen."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home, self.docs = root / "home", root / "docs"
        self.home.mkdir()
        self.docs.mkdir()

    @property
    def config(self) -> Path:
        return self.home / ".config" / "kbsync" / "config.yaml"

    @property
    def state(self) -> Path:
        """The state directory where a config is used."""
        return self.home / ".local" / "state" / "kbsync"

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.docs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def configure(self, more: str = "", *, file: Path | None = None) -> Path:
        """Write a config for `docs` that settles quickly; `more`: further keys of the mirror."""
        file = file or self.config
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"    {line}\n" for line in more.splitlines())
        file.write_text(CONFIG.format(folder=json.dumps(str(self.docs)), more=lines))
        return file

    def run(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        tty: bool = False,
        piped: bool = False,
        env: dict[str, str] | None = None,
    ) -> Ran:
        """Run kbsync in this process; `tty`: at a terminal, `piped`: with another program behind it."""
        out, err = Stream(tty and not piped), Stream(tty)
        inside = self._inside(cwd or self.root, env or {})
        with inside, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([os.fspath(word) for word in words])
        return Ran(int(code), out.content, err.content.decode())

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Run kbsync as a process of its own."""
        env = {**os.environ, "HOME": str(self.home)}
        for name in UNSET:
            env.pop(name, None)
        return Warm(words, cwd=self.root, env=env, **{**PIPES, **options})

    @contextlib.contextmanager
    def _inside(self, cwd: Path, env: dict[str, str]) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http_target, "_accounts", {})  # what another process found out is not known
            if opening.MEMORY == MEMORY:  # the machine's, in which somebody's last search may be
                patch.setattr(opening, "MEMORY", self.root / "no memory")
            for name in UNSET:
                patch.delenv(name, raising=False)
            patch.setenv("HOME", str(self.home))
            patch.setenv("COLUMNS", "80")
            for name, value in env.items():
                patch.setenv(name, value)
            patch.chdir(cwd)
            yield

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file and folder, with size and time of change.

        The time is left out for SQLite's shared memory: readers keep their marks in it, and nothing else.
        """
        found = {str(p.relative_to(self.root)): p.stat() for p in sorted(self.root.rglob("*"))}
        return {
            name: (stat.st_size, 0 if name.endswith("-shm") else stat.st_mtime_ns)
            for name, stat in found.items()
        }


def words_of(command: str) -> Sequence[str]:
    """The arguments of a command line that a person would paste."""
    import shlex

    words = shlex.split(command)
    assert words[0] == "kbsync"
    return words[1:]
