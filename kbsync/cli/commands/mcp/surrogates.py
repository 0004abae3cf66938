"""Half of a surrogate pair in what a client sends, as some send where they cut a text inside an emoji.

The package that reads the protocol drops such a message without an answer.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\."  # any other escape, such as a backslash before what only looks like one
)


def mend_surrogates(json_text: str) -> str:
    """The same JSON with U+FFFD for each half of a pair; its length stays."""
    if "\\u" not in json_text:
        return json_text
    return _ESCAPE.sub(lambda found: "\\ufffd" if found["half"] else found[0], json_text)
