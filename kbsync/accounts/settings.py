"""Settings of knowledge bases and applications, which a person gives as text."""

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
class OfferedSetting:
    """`read` turns a text into what is sent, or None where it is not `allowed`, which says what is."""

    read: Callable[[str], object]
    allowed: str


def choice(*words: str) -> OfferedSetting:
    """One of `words`."""
    return OfferedSetting(lambda text: text if text in words else None, ", ".join(words))


def zero_or_one() -> OfferedSetting:
    """Sent as 0 or 1."""
    return OfferedSetting(
        lambda text: None if (known := _WORDS.get(text)) is None else int(known), "0, 1, false, true"
    )


def boolean() -> OfferedSetting:
    """Sent as false or true."""
    return OfferedSetting(_WORDS.get, "false, true")


def whole(least: int, most: int) -> OfferedSetting:
    """A whole number of a range, sent as one."""

    def read(text: str) -> int | None:
        number = int(text) if _NUMBER.fullmatch(text) else None
        return number if number is not None and least <= number <= most else None

    return OfferedSetting(read, f"a whole number, {least} to {most}")


def decimal(is_legal: Callable[[float], bool], allowed: str) -> OfferedSetting:
    """A number, sent as the text it is."""
    return OfferedSetting(
        lambda text: text if _DECIMAL.fullmatch(text) and is_legal(float(text)) else None, allowed
    )


def any_text() -> OfferedSetting:
    """Any text, sent as it is."""
    return OfferedSetting(lambda text: text if text.strip() else None, "a text that is not empty")


def parse_settings(
    given: Mapping[str, str], known: Mapping[str, OfferedSetting], what: str
) -> dict[str, object]:
    """What is sent for each setting that is given. Raises `Rejected`, naming what is legal.

    `what` has them: such as "a knowledge base".
    """
    values: dict[str, object] = {}
    for key, text in given.items():
        setting = known.get(key)
        if setting is None:
            raise Rejected(f"{what} has no setting {_shown(key)}; it has: {', '.join(known)}", code="setting")
        values[key] = setting.read(text)
        if values[key] is None:
            raise Rejected(f"{key} cannot be {_shown(text)}; allowed: {setting.allowed}", code="setting")
    return values


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def shown_settings(shown: Mapping[str, object], known: Mapping[str, OfferedSetting]) -> dict[str, str]:
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
