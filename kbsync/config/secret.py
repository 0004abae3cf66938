"""A text that must not be seen: keys, tokens, addresses that carry one."""

from __future__ import annotations

from typing import NoReturn

from kbsync.errors import UsageError


class Secret:
    """Holds a text; printing, formatting or logging it shows `***`. Only `reveal` gives it.

    `absent`: why there is no text, in a config read by somebody who need not have its secrets.
    """

    __slots__ = ("_text", "absent")

    def __init__(self, text: str, absent: str = "") -> None:
        self._text = text
        self.absent = absent

    def reveal(self) -> str:
        """The text itself: for the request that needs it, never for a message. Raises `UsageError`."""
        if self.absent:
            raise UsageError(self.absent)
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written anywhere")
