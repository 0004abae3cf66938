"""The title of a text, from its first lines."""

from __future__ import annotations

import re

from kbsync.targets.local.blocks import without_closing
from kbsync.targets.local.pieces import LONGEST_TITLE, Flavour

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


def title_of(text: str, flavour: Flavour) -> str | None:
    """The first heading of `text`, or None where it has none or its flavour has no headings."""
    pattern = _PATTERNS.get(flavour)
    if pattern is None:
        return None
    head = text[:_HEAD]
    if flavour is Flavour.MARKDOWN:
        head = _FENCED.sub("", head)  # a comment of a shell script is no heading
    found = pattern.search(head)
    if found is None:
        return None
    title = found["title"] or found.groupdict().get("under") or ""
    if flavour is Flavour.MARKDOWN:
        title = without_closing(title)
    return " ".join(title.split())[:LONGEST_TITLE] or None
