"""Settings of a service that a person gives as text: read, refused with what is legal, told again. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kbsync.errors import Rejected

_LONGEST_SHOWN = 60
_NUMBER = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """`read` makes of a text what is sent, None of one that is not `allowed`, which is told in words."""

    read: Callable[[str], object]
    allowed: str


def choice(*words: str) -> Setting:
    """One of `words`."""
    return Setting(lambda text: text if text in words else None, ", ".join(words))


def flag() -> Setting:
    """Sent as 0 or 1."""
    return Setting(
        lambda text: None if (known := _WORDS.get(text)) is None else int(known), "0, 1, false, true"
    )


def truth() -> Setting:
    """Sent as false or true."""
    return Setting(_WORDS.get, "false, true")


def whole(least: int, most: int) -> Setting:
    """A whole number of a range, sent as one."""

    def read(text: str) -> int | None:
        number = int(text) if _NUMBER.fullmatch(text) else None
        return number if number is not None and least <= number <= most else None

    return Setting(read, f"a whole number, {least} to {most}")


def decimal(is_legal: Callable[[float], bool], allowed: str) -> Setting:
    """A number, sent as the text it is."""
    return Setting(lambda text: text if _DECIMAL.fullmatch(text) and is_legal(float(text)) else None, allowed)


def sentence() -> Setting:
    """Any text, sent as it is."""
    return Setting(lambda text: text if text.strip() else None, "a text that is not empty")


def read_wishes(given: Mapping[str, str], known: Mapping[str, Setting], what: str) -> dict[str, object]:
    """What is sent for each setting that is given. Raises `Rejected`, naming what is legal.

    `what` has them: such as "a knowledge base".
    """
    return {key: _read(key, text, known, what) for key, text in given.items()}


def _read(key: str, text: str, known: Mapping[str, Setting], what: str) -> object:
    setting = known.get(key)
    if setting is None:
        raise Rejected(f"{what} has no setting {_shown(key)}; it has: {', '.join(known)}", code="setting")
    value = setting.read(text)
    if value is None:
        raise Rejected(f"{key} cannot be {_shown(text)}; allowed: {setting.allowed}", code="setting")
    return value


def told_wishes(shown: Mapping[str, object], known: Mapping[str, Setting]) -> dict[str, str]:
    """The settings that a service shows, each in the form in which it can be given."""
    return {key: text for key in known if (text := _text(shown.get(key)))}


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return value
        case int() | float():
            return str(value)
    return ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")
