"""Reads the pages of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, in its language ('' for none)."""

    page: Path
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a console block, and the output printed below it."""

    command: str
    output: str


def name_of(page: Path) -> str:
    """How a page is named in test ids."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of these languages."""
    found = (Block(page, language, text) for language, text in _FENCE.findall(page.read_text()))
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks."""
    return _INLINE.findall(prose(page))


def steps(block: Block) -> Iterator[Step]:
    """The commands of a console block: lines that begin with `$ `."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Step(command, output)


def kbsync_lines(page: Path) -> Iterator[list[str]]:
    """Every command line of kbsync that a page shows, as words."""
    shown = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    shown += [step.command for block in blocks(page, "console") for step in steps(block)]
    shown += inline_code(page)
    for text in shown:
        # What stands behind a pipe, a comment or a redirection is no word of kbsync's.
        for part in re.split(r"\s(?:&&|\|\||\|)\s|\s[#>]\s", text):
            words = shlex.split(part.strip().removeprefix("sudo "))
            if words and words[0] == "kbsync":
                yield words


def slug(heading: str) -> str:
    """The anchor of a heading, as forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of a page."""
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}
