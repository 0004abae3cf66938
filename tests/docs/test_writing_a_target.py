"""Tests that the page's example is the code that passes the suite, and that it is short."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import indent

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "writing-a-target.md"
FOLDER = ROOT / "tests" / "targets" / "example"
SOURCES = [FOLDER / name for name in ("config.py", "target.py", "test_example.py")]
MOST = 90


def test_every_block_is_quoted_from_the_example() -> None:
    """Verbatim, or as a method; the formatter puts other blank lines between methods."""
    texts = [without_blanks(path.read_text()) for path in SOURCES]
    quoted = blocks(PAGE, "python")
    assert len(quoted) > 5
    for block in quoted:
        code = without_blanks(block.text)
        assert any(code in text or indent(code, "    ") in text for text in texts), code


def without_blanks(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.strip())


def test_most_of_the_target_is_quoted() -> None:
    quoted = "".join(block.text for block in blocks(PAGE, "python"))
    for name in ("base", "upload", "page", "row", "remove", "matches", "classify_response"):
        assert f" {name}(" in quoted, name


def test_example_is_as_short_as_the_page_says() -> None:
    assert sum(map(lines_of_code, SOURCES[:2])) < MOST


def lines_of_code(path: Path) -> int:
    """Count lines that are neither blank nor comment, import or docstring."""
    text = path.read_text()
    aside: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            aside |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(map(str.strip, text.splitlines()), 1)
    return sum(bool(line) and not line.startswith("#") and number not in aside for number, line in lines)
