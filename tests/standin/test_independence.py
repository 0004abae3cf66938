"""Tests that kbsync and the stand-ins share no code, since tests can't see an error that both share (ADR 16).

Also, no service's stand-in uses another's, so a change at one service affects no other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kbsync
import kbsync_standin
from tests.share import long


def imported(package: Path) -> Iterator[str]:
    """Yield the top-level names of all modules that a package imports, also late or by a string."""
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names):
                    yield from (name.name.partition(".")[0] for name in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module.partition(".")[0]
                case ast.Constant(value=str(text)):
                    yield text.partition(".")[0]


@long
def test_stand_in_imports_nothing_of_the_program() -> None:
    assert "kbsync" not in set(imported(Path(kbsync_standin.__path__[0])))


@long
def test_program_imports_nothing_of_the_stand_in() -> None:
    assert "kbsync_standin" not in set(imported(Path(kbsync.__path__[0])))


STAND_IN = Path(kbsync_standin.__path__[0])


@long
def test_stand_in_mentions_no_name_of_the_program() -> None:
    """A service treats all clients alike, whatever their name."""
    words = [
        node.value
        for file in STAND_IN.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [word for word in words if re.search(r"kbsync(?!_standin)", word)] == []


SERVICES = sorted(file.parent.name for file in STAND_IN.glob("*/__init__.py"))


@pytest.mark.parametrize("service", SERVICES)
def test_stand_ins_of_different_services_are_independent(service: str) -> None:
    others = {f"kbsync_standin.{other}" for other in SERVICES if other != service}
    modules = {
        ".".join(node.module.split(".")[:2])
        for file in (STAND_IN / service).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module is not None
    }
    assert "kbsync_standin.messages" in modules
    assert not modules & others
