"""The secrets of a config: where they come from (`${ENV}`, `*_file`), and how they stay hidden."""

from __future__ import annotations

import re
from typing import ClassVar, NoReturn

from kbsync.config.kinds import Absent, RefusedValue, ValueKind
from kbsync.dataclass import dataclass
from kbsync.errors import UsageError


class Secret:
    """A key, a token, or a URL that contains one. Printing, formatting or logging it shows `***`; only
    `reveal` returns the text.

    `absent`: why the text is missing, if the config was read without its secrets.
    """

    __slots__ = ("_text", "absent")

    def __init__(self, text: str, absent: str = "") -> None:
        self._text = text
        self.absent = absent

    def reveal(self) -> str:
        """Return the secret's text, to be used in a request but never in a message.

        Raises `UsageError` if the text is missing.
        """
        if self.absent:
            raise UsageError(self.absent)
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __deepcopy__(self, memo: object) -> Secret:
        return self  # avoids a second copy of the text in memory

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret can't be serialized")


@dataclass(frozen=True, eq=False)
class Confidential(ValueKind):
    """Text held as a `Secret`. The same key with `_file` appended reads the text from a file instead."""

    pattern: str = ""
    allowed: str = ""
    form: ClassVar = {"minLength": 1, "writeOnly": True}  # editors may hide it

    def read(self, value: object) -> Secret:
        """Return the secret. No message quotes it."""
        if isinstance(value, Absent):
            return Secret("", absent=str(value))
        if isinstance(value, str) and re.fullmatch(self.pattern, value):
            return Secret(str(value))
        fault = "is not valid"
        if value == "":
            fault = "is empty"
        elif isinstance(value, str) and value.startswith("\ufeff"):
            fault = "begins with a byte order mark"
        elif isinstance(value, str) and ("\n" in value or "\r" in value):
            fault = "contains a line break"
        raise RefusedValue(f"the value {fault}; allowed: {self.allowed}")

    def written(self, value: Secret) -> object:
        """Return nothing, because a secret has no default."""
        return None
