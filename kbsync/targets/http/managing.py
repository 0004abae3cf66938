"""What a person manages at a service: settings given as text, and things that are made once by their name."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from kbsync.errors import NameTaken, Rejected, Unsure

_LONGEST_SHOWN = 60
_NUMBER = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class OfferedSetting:
    """`read` makes of a text what is sent, None of one that is not `allowed`, which is told in words."""

    read: Callable[[str], object]
    allowed: str


def choice(*words: str) -> OfferedSetting:
    """One of `words`."""
    return OfferedSetting(lambda text: text if text in words else None, ", ".join(words))


def flag() -> OfferedSetting:
    """Sent as 0 or 1."""
    return OfferedSetting(
        lambda text: None if (known := _WORDS.get(text)) is None else int(known), "0, 1, false, true"
    )


def truth() -> OfferedSetting:
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


def sentence() -> OfferedSetting:
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


class Named(Protocol):
    """A knowledge base or an application."""

    @property
    def id(self) -> str:
        """As the vendor has it."""

    @property
    def name(self) -> str:
        """As people know it."""


T = TypeVar("T", bound=Named)


async def make_once(
    name: str,
    what: str,
    those: Callable[[], Awaitable[Sequence[T]]],
    make: Callable[[], Awaitable[T]],
    advice: str,
) -> T:
    """Make something whose name is not in use; `what`: such as "a knowledge base".

    Making is not repeatable, and vendors take a name twice: so `those` there are looked through before, and
    after an answer that was lost. Raises `NameTaken`, and `Unsure` with `advice` where there is not exactly
    one of the name then.
    """
    if namesakes := [one for one in await those() if one.name == name]:
        raise NameTaken(f"there is {what} {name!r} already: {namesakes[0].id}", code="name")
    try:
        return await make()
    except Unsure as error:
        made = [one for one in await those() if one.name == name]
        if len(made) != 1:
            raise Unsure(f"{error.reason}; {advice}", code=error.code) from error
        return made[0]
