"""Reads configs in tests: from text to a config, or to its problems."""

from __future__ import annotations

import textwrap
from pathlib import Path

from kbsync.config.model import Config, MirrorConfig
from kbsync.config.problems import ConfigError, Problem
from kbsync.config.reader import load

HOME = "/home/someone"


def read(place: Path, text: str | bytes, **environ: str) -> Config:
    """The config that `text` is, when it lies in the directory `place`."""
    file = place / "config.yaml"
    content = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
    file.write_bytes(content)
    return load(file, {"HOME": HOME, **environ})


def problems(place: Path, text: str | bytes, **environ: str) -> list[Problem]:
    """What is wrong with `text`; empty when nothing is."""
    try:
        read(place, text, **environ)
    except ConfigError as error:
        return list(error.problems)
    return []


def told(place: Path, text: str | bytes, **environ: str) -> list[str]:
    """The problems of `text` as `line key: message`."""
    return [f"{one.line} {one.key}: {one.message}" for one in problems(place, text, **environ)]


def mirror(place: Path, settings: str = "", **environ: str) -> MirrorConfig:
    """The one mirror of a config that says `settings`, lines of `key: value`, beside name and folder."""
    return read(place, with_settings(settings), **environ).mirrors[0]


def with_settings(settings: str) -> str:
    """A config with one mirror, whose own settings begin in line 4."""
    own = textwrap.indent(textwrap.dedent(settings), "    ")
    return f"mirrors:\n  - name: handbook\n    folder: /srv/handbook\n{own}\n"
