"""What services make of file names that they are sent."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping


def extension(name: str) -> str:
    """The lower-case extension without its dot; "" if there is none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return last.lower() if dot and stem else ""


def _mojibake(name: str) -> str:
    return name.encode("utf-8", "replace").decode("latin-1")


def _question_marks(name: str) -> str:
    return name.encode("ascii", "replace").decode("ascii")


def _basename(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def suffixed(name: str, number: int = 1) -> str:
    """`name` with "(1)" before its extension."""
    kind = extension(name)
    stem = name[: -len(kind) - 1] if kind else name
    return f"{stem}({number}){name[len(stem) :]}"


FORMS: Mapping[str, Callable[[str], str]] = {
    "as_sent": str,
    "nfc": lambda name: unicodedata.normalize("NFC", name),
    "nfd": lambda name: unicodedata.normalize("NFD", name),
    "mojibake": _mojibake,
    "basename": _basename,
    "suffixed": suffixed,
    "question_marks": _question_marks,
}
"""The values of the switch `names`, each with what it makes of a name."""


def stored(name: str, form: str, is_taken: Callable[[str], bool]) -> str:
    """The name under which a document is kept; suffixes count up past what is taken."""
    if form != "suffixed":
        return FORMS[form](name)
    number = 1
    while is_taken(suffixed(name, number)):
        number += 1
    return suffixed(name, number)
