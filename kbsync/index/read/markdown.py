"""Markdown that readers have in common: titles, tables, fences, and text without a converter's escapes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kbsync.index.chunk import without_closing
from kbsync.index.document import LONGEST_TITLE, Flavour

_HEAD = 16 * 1024
_UNDERLINE = r"(?P<mark>[=\-`:'\"~^_*+#<>.])(?P=mark){2,}[ \t]*$"
# What follows a mark begins with a letter and goes on to the end of the line, and is trimmed afterwards: an
# expression that looks for the blanks at the end tries them all at each of its steps.
_PATTERNS = {
    Flavour.MARKDOWN: re.compile(r"^#{1,6}[ \t]+(?P<title>\S.*)|^(?P<under>\S.*)\n=+[ \t]*$", re.MULTILINE),
    Flavour.RST: re.compile(rf"^(?P<title>\S.*)\n{_UNDERLINE}", re.MULTILINE),
    Flavour.ASCIIDOC: re.compile(r"^={1,6}[ \t]+(?P<title>\S.*)", re.MULTILINE),
    Flavour.ORG: re.compile(r"^(?:#\+title:|\*+)[ \t]+(?P<title>\S.*)", re.MULTILINE | re.IGNORECASE),
    Flavour.TEX: re.compile(r"\\(?:title|chapter|section)\*?\{(?P<title>[^{}]+)\}"),
}
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def first_heading(text: str, flavour: Flavour) -> str | None:
    """The first heading of `text`, or None where it has none or its flavour has no headings."""
    pattern, head = _PATTERNS.get(flavour), text[:_HEAD]
    if flavour is Flavour.MARKDOWN:
        head = _FENCED.sub("", head)  # a comment of a shell script is no heading
    found = pattern and pattern.search(head)
    if not found:
        return None
    title = found["title"] or found.groupdict().get("under") or ""
    if flavour is Flavour.MARKDOWN:
        title = without_closing(title)
    return " ".join(title.split())[:LONGEST_TITLE] or None


_FENCE = re.compile(r"^(`{3,}|~{3,}).*?(?:^\1|\Z)", re.DOTALL | re.MULTILINE)
_TICKS = re.compile("`{3,}")
_NO_TITLE = re.compile(
    r"(?:untitled|unbenannt|sans titre|document\d*|(?:powerpoint[- ])?pr[eäé]senta\w+|slide \d+|sheet\d+"
    r"|无标题|演示文稿\d*)?$",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!~<>&$^'\"=:;,/?@%])")
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")


def pipe_table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is the header; short rows are filled up. "" without rows."""
    width = max((len(row) for row in rows), default=0)
    if not width:
        return ""
    cells = ([" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in rows)
    filled = [row + [""] * (width - len(row)) for row in cells]
    lines = ["| " + " | ".join(row) + " |" for row in filled]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def fenced(code: str, language: str = "") -> str:
    """A code block whose fence is longer than any in the code."""
    longest = max(map(len, _TICKS.findall(code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def document_title(stated: str | None, text: str) -> str | None:
    """The title a document states of itself, unless it is what programs put there; else its first heading."""
    title = " ".join((stated or "").split()).removeprefix("Microsoft Word - ")
    if not _NO_TITLE.match(title):
        return title
    heading = first_heading(text, Flavour.MARKDOWN)
    return None if heading is None or _NO_TITLE.match(heading) else heading


def unescaped(text: str) -> str:
    """Markdown without the backslashes a converter put before punctuation.

    They would hide `snake\\_case` from a search. A backslash stays where it keeps a line from being read
    as a heading or a list, in code, and before a table's bars.
    """
    pieces, end = [], 0
    for fence in _FENCE.finditer(text):
        pieces += [_unescaped(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, _unescaped(text[end:])])


_LINE_START = re.compile(r"^(\\[#>+\-*=]|\d+\\[.)])")


def _unescaped(prose: str) -> str:
    if "\\" not in prose:
        return prose
    lines = list[str]()
    for line in prose.split("\n"):
        kept = _LINE_START.match(line)
        start = kept.end() if kept else 0
        lines.append(line[:start] + _ESCAPE.sub(r"\1", line[start:]))
    return "\n".join(lines)


def tidied(text: str) -> str:
    """`\\n` line ends, no control characters, no more than one blank line together, none at the ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _BLANK_LINES.sub("\n\n", _CONTROL.sub("", text)).strip()
