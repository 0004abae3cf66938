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
    """A fenced block of a page, with its language ('' for none)."""

    page: Path
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a console block, and the output printed below it."""

    command: str
    output: str


def name_of(page: Path) -> str:
    """Return a page's name in test ids."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks in these languages."""
    result = (Block(page, language, text) for language, text in _FENCE.findall(page.read_text()))
    return [block for block in result if block.language in languages]


def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def inline_code(page: Path) -> list[str]:
    """Return the texts between single backticks."""
    return _INLINE.findall(prose(page))


def steps(block: Block) -> Iterator[Step]:
    """Yield the commands of a console block: lines that begin with `$ `."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Step(command, output)


def kbsync_lines(page: Path) -> Iterator[list[str]]:
    """Yield every kbsync command line on a page, as words."""
    printed = [line for block in blocks(page, "sh") for line in block.text.replace("\\\n", " ").splitlines()]
    printed += [step.command for block in blocks(page, "console") for step in steps(block)]
    printed += inline_code(page)
    for text in printed:
        # Text behind a pipe, a comment or a redirection isn't part of kbsync's command.
        for part in re.split(r"\s(?:&&|\|\||\|)\s|\s[#>]\s", text):
            words = shlex.split(part.strip().removeprefix("sudo "))
            if words and words[0] == "kbsync":
                yield words


def slug(heading: str) -> str:
    """Return the anchor of a heading, as forges generate it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page."""
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}
