"""How search results are shown to a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kbsync.cli.output import Output, cells, counted
from kbsync.core.text import printable
from kbsync.index.snippet import snippet

if TYPE_CHECKING:
    from kbsync.contract.searching import Passage
    from kbsync.engine.search import FoundDocument


LINES = 2
INDENT = "    "


def print_hits(
    output: Output, hits: Sequence[FoundDocument], query: str, *, several: bool, numbered: bool = False
) -> None:
    """Each document with its best passage; best first, `numbered` for `kbsync open`.

    `several`: more than one mirror was searched, so each hit tells its own, whichever were found in.
    """
    for number, found in enumerate(hits):
        if number:
            output.line()
        count = output.dim(f"{number + 1:>2}  ") if numbered else ""
        output.line(count + _heading(output, found, several))
        if found.hit.passages:
            for line in excerpt(output, found.hit.passages[0].text, query):
                output.line(INDENT + line)
            if images := found.hit.passages[0].images:
                output.line(INDENT + output.dim(f"{counted(len(images), 'image')}; --json tells where"))


def _heading(output: Output, found: FoundDocument, several: bool) -> str:
    """Path, way through the headings, place, score."""
    path = output.link(output.bold(printable(found.path)), found.absolute)
    parts = [output.dim(f"{found.mirror}: ") + path if several else path]
    passage = found.hit.passages[0] if found.hit.passages else None
    if trail := heading_trail(found, passage):
        parts.append(printable(trail))
    if passage is not None and passage.page is not None:
        parts.append(f"p. {passage.page}")
    elif passage is not None and passage.line is not None:
        parts.append(f"line {passage.line}")
    return "  ".join([*parts, output.dim(f"{found.hit.score:.2f}")])


def heading_trail(found: FoundDocument, passage: Passage | None) -> str:
    """The way through the headings to a passage, or the document's title; "" where it has neither."""
    headings = passage.headings if passage else ()
    return " › ".join(headings) or found.hit.title or ""


def excerpt(output: Output, text: str, query: str, *, unfinished: bool = False) -> Iterator[str]:
    """The snippet on at most two lines, the words that were found in bold.

    `unfinished`: the query is still being typed.
    """
    room = max(20, output.columns - len(INDENT) - 1)
    look = partial(snippet, printable(" ".join(text.split())), query, unfinished=unfinished)
    shown = look(LINES * room - 6)
    if (taken := cells(shown.text)) > LINES * room - 6:  # wide characters take two cells
        shown = look((LINES * room - 6) * len(shown.text) // taken)
    for start, end in _broken(shown.text, room):
        parts, at = list[str](), start
        for left, right in shown.spans:
            left, right = max(left, start), min(right, end)
            if left < right:
                parts += [shown.text[at:left], output.bold(shown.text[left:right])]
                at = right
        line = "".join([*parts, shown.text[at:end]])
        before = "…" if start == 0 and shown.starts_late else ""
        yield before + line + ("…" if end == len(shown.text) and shown.ends_early else "")


def _broken(text: str, room: int) -> list[tuple[int, int]]:
    """Where each line starts and ends; broken at a space where one is near enough."""
    lines, start = list[tuple[int, int]](), 0
    while start < len(text) and len(lines) < LINES:
        end, taken = start, 0
        while end < len(text) and (taken := taken + cells(text[end])) <= room:
            end += 1
        if end < len(text) and (space := text.rfind(" ", start, end + 1)) > start + (end - start) // 2:
            end = space
        lines.append((start, end))
        start = end + (text[end : end + 1] == " ")
    return lines
