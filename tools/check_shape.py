"""How long functions and files of the package are: `python tools/check_shape.py`.

A body is what follows the signature and the docstring, counted in lines. Fails for a body over `LONGEST`
lines and for a median over `MEDIAN`; files over `FILE` lines are named, since they are often two ideas.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kbsync"
MEDIAN, LONGEST, FILE = 6, 60, 300


@dataclass(frozen=True, slots=True)
class Body:
    """A function's body: its length in lines and where it is."""

    lines: int
    place: str


def sources() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def bodies(source: Path) -> Iterator[Body]:
    """The functions of a module that have a body."""
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            rest = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if rest:
                lines = (rest[-1].end_lineno or 0) - rest[0].lineno + 1
                yield Body(lines, f"{source.relative_to(ROOT)}:{node.lineno} {node.name}")


def length(source: Path) -> int:
    """Lines of a file."""
    return len(source.read_bytes().splitlines())


def main() -> int:
    """Print the figures; 1 if a limit is passed."""
    found = [body for source in sources() for body in bodies(source)]
    median = statistics.median(body.lines for body in found)
    longest = max(found, key=lambda body: body.lines)
    print(
        f"shape          {len(found):,} functions, median {median:g} lines, longest {longest.lines}:", end=" "
    )
    print(longest.place)
    for source in sources():
        if length(source) > FILE:
            print(f"long file      {source.relative_to(ROOT)}: {length(source)} lines")
    too_long = [body for body in found if body.lines > LONGEST]
    for body in too_long:
        print(f"too long       {body.place}: {body.lines} lines, at most {LONGEST}")
    if median > MEDIAN:
        print(f"too long       the median body has {median:g} lines, at most {MEDIAN}")
    return 1 if too_long or median > MEDIAN else 0


if __name__ == "__main__":
    sys.exit(main())
