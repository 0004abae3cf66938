from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.config.model import Config, blocks, known_keys
from kbsync.config.problems import ConfigError
from kbsync.config.reader import load
from tests.share import long

KEYS = [*sorted({key for _, block in blocks() for key in known_keys(block)}), "<<", "settings", ""]
WORDS = [
    *("2s", "5", "local", "onnx", "a", "/srv/a", "*.md", "!x"),
    *("[z-a]", "${X}", "${", "~", "halted", "h:1", "zhipu", "http://h"),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.binary(max_size=5)
    | st.sampled_from(WORDS)
    | st.text(max_size=10)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | SCALARS, inner, max_size=5)
    ),
    max_leaves=25,
)
BLOCK = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8)
MIRRORS = st.lists(
    BLOCK.map(lambda block: {"name": "a", "folder": "/srv/a", **block}) | BLOCK | VALUES,
    min_size=1,
    max_size=3,
)
NEAR_MISSES = BLOCK.flatmap(lambda top: MIRRORS.map(lambda mirrors: {**top, "mirrors": mirrors}))
FRAGMENTS = [
    *("mirrors:", "a", "&a ", "*a", "[", "]", "{", "}", ", ", ": ", "!", "? ", "- ", "!!str ", "!!int "),
    *("<<: ", "name: ", "folder: ", "settle: ", "target: ", "\n", "  ", "'", '"', "|\n", ">\n", "#", "\t"),
    *("%", "---\n", "...\n", "\\ud800", "\0", "${X}", "1", "null", "\x85", "\u2028", "\ufeff"),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as directory:
        yield Path(directory)


def encoded(parts: list[str]) -> bytes:
    return "".join(parts).encode()


def check(folder: Path, content: bytes) -> None:
    """Assert that `content` is a config, or is refused in whole lines that each name the file."""
    file = folder / "config.yaml"
    file.write_bytes(content)
    try:
        assert isinstance(load(file, {"HOME": "/home/someone", "X": "x"}), Config)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).startswith(str(file))
            assert str(problem).isprintable()
            assert problem.message
            assert "Error" not in problem.message


@long
@given(st.binary(max_size=200) | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(encoded))
@settings(max_examples=200)
def test_any_bytes_parse_or_are_refused(folder: Path, content: bytes) -> None:
    check(folder, content)


@long
@given(value=VALUES | NEAR_MISSES)
@settings(max_examples=120)
def test_any_structure_parses_or_is_refused(folder: Path, value: Any) -> None:
    check(folder, yaml.safe_dump(value, allow_unicode=True).encode(errors="surrogatepass"))
