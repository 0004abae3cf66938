"""Parses the settings of knowledge bases and applications, which users pass as text with `--set`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from kbsync.dataclass import dataclass
from kbsync.errors import Rejected

_MAX_SHOWN_LENGTH = 60
_NUMBER = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class OfferedSetting:
    """A setting that a service supports.

    `read` converts the configured text to the value to send, or returns None if it is invalid. `allowed`
    describes what is accepted.
    """

    read: Callable[[str], object]
    allowed: str


def choice(*words: str) -> OfferedSetting:
    """Return a setting whose value is one of `words`."""
    return OfferedSetting(lambda text: text if text in words else None, ", ".join(words))


def zero_or_one() -> OfferedSetting:
    """Return a boolean setting, sent as 0 or 1."""
    return OfferedSetting(
        lambda text: None if (known := _FLAGS.get(text)) is None else int(known), "0, 1, false, true"
    )


def boolean() -> OfferedSetting:
    """Return a boolean setting, sent as false or true."""
    return OfferedSetting(_FLAGS.get, "false, true")


def whole(least: int, highest: int) -> OfferedSetting:
    """Return a setting whose value is an integer within a range."""

    def read(text: str) -> int | None:
        number = int(text) if _NUMBER.fullmatch(text) else None
        return number if number is not None and least <= number <= highest else None

    return OfferedSetting(read, f"a whole number, {least} to {highest}")


def decimal(is_legal: Callable[[float], bool], allowed: str) -> OfferedSetting:
    """Return a setting whose value is a number, sent as text."""
    return OfferedSetting(
        lambda text: text if _DECIMAL.fullmatch(text) and is_legal(float(text)) else None, allowed
    )


def any_text() -> OfferedSetting:
    """Return a setting whose value is any non-empty text."""
    return OfferedSetting(lambda text: text if text.strip() else None, "a string that is not empty")


def parse_settings(
    chosen: Mapping[str, str], known: Mapping[str, OfferedSetting], what: str
) -> dict[str, object]:
    """Return the value to send for each setting.

    Raises `Rejected` with the allowed settings or values. `what`: what the settings belong to, such as "a
    knowledge base".
    """
    values: dict[str, object] = {}
    for key, text in chosen.items():
        setting = known.get(key)
        if setting is None:
            raise Rejected(
                f"{what} has no setting {_quote(key)}; available settings: {', '.join(known)}", code="setting"
            )
        values[key] = setting.read(text)
        if values[key] is None:
            raise Rejected(f"{key} can't be {_quote(text)}; allowed: {setting.allowed}", code="setting")
    return values


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN_LENGTH else f"{text[:_MAX_SHOWN_LENGTH]}…")


def settings_as_text(fields: Mapping[str, object], known: Mapping[str, OfferedSetting]) -> dict[str, str]:
    """Return the known settings in a service's response, in the form that `--set` accepts."""
    return {key: text for key in known if (text := _text(fields.get(key)))}


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return value
        case int() | float():
            return str(value)
    return ""
