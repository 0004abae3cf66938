"""Replaces halves of surrogate pairs in other programs' JSON: some truncate texts inside an emoji, or encode
a name's invalid UTF-8 bytes this way. Databases and MCP's package refuse such texts.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\."  # any other escape, such as an escaped backslash before a u
)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def replace_surrogates(json_text: str) -> str:
    """Return the same JSON, at the same length, with U+FFFD in place of each lone surrogate."""
    if _SURROGATE.search(json_text) is None:  # a list in Chinese may consist of other escapes
        return json_text
    return _ESCAPE.sub(lambda match: "\\ufffd" if match["half"] else match[0], json_text)
