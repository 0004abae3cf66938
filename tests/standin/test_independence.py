"""Product and stand-in share no line: what both had wrong alike, no test would see (ADR 16)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import kbsync
import kbsync_standin


def imported(package: Path) -> Iterator[str]:
    """The first word of every module that is imported somewhere in a package, also late or by a string."""
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names):
                    yield from (name.name.partition(".")[0] for name in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module.partition(".")[0]
                case ast.Constant(value=str(text)):
                    yield text.partition(".")[0]


def test_the_stand_in_uses_nothing_of_the_program() -> None:
    assert "kbsync" not in set(imported(Path(kbsync_standin.__path__[0])))


def test_the_program_uses_nothing_of_the_stand_in() -> None:
    assert "kbsync_standin" not in set(imported(Path(kbsync.__path__[0])))
