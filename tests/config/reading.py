"""Reads configs in tests: from text to a config, or to its problems."""

from __future__ import annotations

import textwrap
from pathlib import Path

from kbsync.config.model import Config, MirrorConfig
from kbsync.config.problems import ConfigError, Problem
from kbsync.config.reader import load

HOME = "/home/someone"


def read(folder: Path, text: str | bytes, **environ: str) -> Config:
    """Parse `text` as a config in the directory `folder`."""
    file = folder / "config.yaml"
    content = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    file.write_bytes(content)
    return load(file, {"HOME": HOME, **environ})


def problems(folder: Path, text: str | bytes, **environ: str) -> list[Problem]:
    """Return the problems of `text`; empty if there are none."""
    try:
        read(folder, text, **environ)
    except ConfigError as error:
        return list(error.problems)
    return []


def problem_lines(folder: Path, text: str | bytes, **environ: str) -> list[str]:
    """Return the problems of `text` as `line key: message`."""
    return [
        f"{problem.line} {problem.key}: {problem.message}" for problem in problems(folder, text, **environ)
    ]


def mirror(folder: Path, settings: str = "", **environ: str) -> MirrorConfig:
    """Return the only mirror of a config with `settings` (lines of `key: value`), name and folder."""
    return read(folder, with_settings(settings), **environ).mirrors[0]


def with_settings(settings: str) -> str:
    """Return a config with one mirror, whose own settings begin in line 4."""
    block = textwrap.indent(textwrap.dedent(settings), "    ")
    return f"mirrors:\n  - name: handbook\n    folder: /srv/handbook\n{block}\n"
