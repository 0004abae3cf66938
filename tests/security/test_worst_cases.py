"""Tests that no text of 1 MB keeps the program busy for more than seconds.

A running expression blocks all other threads, so one that backtracks over a long line stops every mirror.
Each expression for documents gets 1 MB of its worst input here.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import kbsync.index
from kbsync.core import links, names
from kbsync.core import text as core_text
from kbsync.core.text import lazy_pattern
from kbsync.index.chunk import chunk
from kbsync.index.fence.parser import Parser
from tests.security.worst import EXPRESSIONS, TEXTS
from tests.share import enumerated, long
from tests.targets.bodies import BytesBody

TEXT_SECONDS = 24.0
"""CPU seconds to read and split 1 MB; the slowest takes two, or seven on a busy machine with shared cores."""

EXPRESSION_SECONDS = 3.0
MAX_CHUNK_LENGTH = 20_000
"""Characters with title and headings, for any text."""


class TooSlow(BaseException):
    """An exception that the tested code can't catch."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt after this CPU time of the process, whatever else runs on the machine."""

    def interrupt(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@long
@pytest.mark.parametrize("worst", TEXTS)
def test_adversarial_text_is_read_and_chunked_in_time(worst: str, tmp_path: Path) -> None:
    path, text = TEXTS[worst]
    parser = Parser(tmp_path / "spool")
    with within(TEXT_SECONDS):
        parsed = parser.parse(path, BytesBody(text.encode()))
        chunks = chunk(parsed)
    assert parser.pids() == []
    assert max(len(piece.embed_text) for piece in chunks) < MAX_CHUNK_LENGTH
    assert sum(len(piece.embed_text) for piece in chunks) < 20 * len(text)


ROOMS = [
    names,
    core_text,
    links,
    *(
        importlib.import_module(room.name)
        for room in pkgutil.walk_packages(kbsync.index.__path__, "kbsync.index.")
        if not room.ispkg
    ),
]
"""Modules that read strangers' texts, paths and names."""


def _expressions(value: Any, label: str) -> Iterator[tuple[str, re.Pattern[Any]]]:
    if isinstance(value, re.Pattern):
        yield label, value
    elif _is_lazy(value):
        yield label, value()
    elif _is_compiled_late(value):
        # Under the name of its own module: others import it.
        yield f"{value.__module__.removeprefix('kbsync.')}.{value.__name__}", value()
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _expressions(inner, f"{label}[{getattr(key, 'name', key)}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _expressions(getattr(value, field.name), f"{label}.{field.name}")


def _is_lazy(value: Any) -> bool:
    """Return whether it was made by `lazy_pattern`."""
    return isinstance(getattr(value, "__wrapped__", None), functools.partial)


def _is_compiled_late(value: Any) -> bool:
    """Return whether it is a function that returns an expression, compiled on first use."""
    annotations = getattr(inspect.unwrap(value), "__annotations__", {}) if callable(value) else {}
    return hasattr(value, "cache_info") and annotations == {"return": "re.Pattern[str]"}


COMPILED = {
    label: expression
    for room in ROOMS
    for name, value in vars(room).items()
    for label, expression in _expressions(value, f"{room.__name__.removeprefix('kbsync.')}.{name}")
}


def test_every_regex_applied_to_documents_has_worst_cases_here() -> None:
    assert set(COMPILED) == set(EXPRESSIONS)


@long
def test_no_regex_is_written_where_it_is_used() -> None:
    """The test above couldn't find it there."""
    inline = [
        f"{room.__name__}:{node.lineno}"
        for room in ROOMS
        for node in ast.walk(ast.parse(Path(str(room.__file__)).read_text()))
        if isinstance(node, ast.FunctionDef)
        and node.name != lazy_pattern.__name__
        and not _is_compiled_late(getattr(room, node.name, None))
        for call in ast.walk(node)
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) and call.value.id == "re"
        if call.attr not in ("Match", "Pattern")
    ]
    assert inline == []


@enumerated()
@pytest.mark.parametrize("label", sorted(COMPILED))
def test_regex_handles_its_worst_megabyte_in_time(label: str) -> None:
    expression, (how, texts) = COMPILED[label], EXPRESSIONS[label]
    for text in texts:
        subject = text.encode() if isinstance(expression.pattern, bytes) else text
        with within(EXPRESSION_SECONDS):
            result = getattr(expression, how)(subject)
            for _ in result if how == "finditer" else ():
                pass
