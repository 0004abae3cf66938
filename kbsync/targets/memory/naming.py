"""What a base makes of the names it is given, as services do that were not written for kbsync."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Mapping
from typing import Literal

EqualNames = Literal["allow", "refuse", "replace"]
"""What a second document of one name meets: a place beside the first, a refusal, or the first one's place."""

NameStyle = Literal["as_sent", "nfc", "nfd", "basename", "suffixed", "question_marks"]
"""How a name is kept: as it was sent; composed or decomposed; without what comes before a slash of either
kind; with a number in parentheses that is free; with `?` for each character beyond ASCII."""


def stored_name(
    name: str, style: NameStyle | Callable[[str], str], is_taken: Callable[[str], bool] = lambda _: False
) -> str:
    """`name` as a base of this style keeps it; `is_taken` says whether another document has a name."""
    if callable(style):
        return style(name)
    return _numbered(name, is_taken) if style == "suffixed" else _CHANGES[style](name)


def _numbered(name: str, is_taken: Callable[[str], bool]) -> str:
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    tries = (f"{stem}({number}){dot}{extension}" for number in itertools.count(1))
    return next(one for one in tries if not is_taken(one))


def _without_folders(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _questioned(name: str) -> str:
    return name.encode("ascii", "replace").decode("ascii")


_CHANGES: Mapping[NameStyle, Callable[[str], str]] = {
    "as_sent": lambda name: name,
    "nfc": lambda name: unicodedata.normalize("NFC", name),
    "nfd": lambda name: unicodedata.normalize("NFD", name),
    "basename": _without_folders,
    "question_marks": _questioned,
}
