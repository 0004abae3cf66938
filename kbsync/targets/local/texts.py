"""Files that are text already: decoded, with their metadata and noise taken off."""

from __future__ import annotations

import re

from kbsync.errors import Rejected
from kbsync.targets.local import frontmatter
from kbsync.targets.local.decode import decode, decode_declared
from kbsync.targets.local.formats import extension_of, flavour_of
from kbsync.targets.local.pieces import Flavour, Parsed
from kbsync.targets.local.titles import title_of

_DELIMITERS = {"tsv": "\t"}
_NUMBER = re.compile(r"[-+]?[\d.,]*\d%?$")
_CUE_TIME = re.compile(r"^[ \t]*(?:\d+:)?\d+:\d\d[.,]\d{3}[ \t]+-->.*$")
_MARK = re.compile(r"<([^<>]*)>")  # no `<` in it: each is looked at from one place only
_CUE_TAG = re.compile(r"/?(?:[a-zA-Z][^>]{0,80}|\d[\d:.]*)")


def parse_text(path: str, raw: bytes) -> Parsed:
    """The text of a file that needs no parser. Raises `Rejected` for binaries and for what holds no text."""
    extension = extension_of(path)
    flavour = flavour_of(path)
    text = decode_declared(raw) if extension == "xml" else decode(raw)
    if not text.strip():
        raise Rejected("no text in it: it is empty or only blanks", code="no-text")
    if flavour is Flavour.MARKDOWN:
        return _markdown(text)
    if extension in ("vtt", "srt"):
        return _subtitles(text)
    if extension in ("csv", "tsv"):
        return Parsed(text, flavour, columns=_columns(text, extension))
    return Parsed(text, flavour, title=title_of(text, flavour))


def _markdown(text: str) -> Parsed:
    matter = frontmatter.split(text)
    if not matter.text.strip():  # nothing but metadata: that is then its text
        return Parsed(text, Flavour.MARKDOWN, title=matter.title, tags=matter.tags)
    return Parsed(
        matter.text,
        Flavour.MARKDOWN,
        title=matter.title or title_of(matter.text, Flavour.MARKDOWN),
        tags=matter.tags,
        line_offset=matter.lines,
    )


def _columns(text: str, extension: str) -> str:
    """The header line; "" where the first line is a record: it holds a number, or is one cell."""
    line = text.split("\n", 1)[0]
    delimiter = _DELIMITERS.get(extension) or max(",;\t|", key=line.count)
    cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
    is_record = any(_NUMBER.match(cell) for cell in cells) or not any(cells)
    return "" if is_record or line.count('"') % 2 else line


def _subtitles(text: str) -> Parsed:
    """What is said, each cue on its own line of the file; times, numbers and marks become blank."""
    lines = text.split("\n")
    spoken = [_spoken(line, lines[n + 1] if n + 1 < len(lines) else "") for n, line in enumerate(lines)]
    if not any(spoken):
        raise Rejected("no text in it: it has no cues", code="no-text")
    return Parsed("\n".join(spoken), Flavour.PLAIN)


def _spoken(line: str, following: str) -> str:
    is_label = _CUE_TIME.match(following) is not None  # the number or name above a cue's times
    if is_label or _CUE_TIME.match(line) or line.startswith("WEBVTT"):
        return ""
    return _MARK.sub(_unmarked, line).rstrip()


def _unmarked(mark: re.Match[str]) -> str:
    """Who speaks, of `<v.loud Ada>`; nothing of other marks; what is none stays."""
    kind, *name = mark[1].split(None, 1)[:2] or [""]
    if name and (kind == "v" or kind.startswith("v.")):
        return f"{name[0]}: "
    return "" if _CUE_TAG.fullmatch(mark[1]) else mark[0]
