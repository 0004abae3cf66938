"""What a person manages at a service: settings given as text, and things that are made once by their name."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from kbsync.contract.managing import BaseCard, Bases, Capacity, EmbeddingModel
from kbsync.contract.target import Surroundings
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, Unsure
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import Identified

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


class Named(Identified, Protocol):
    """A knowledge base or an application."""

    @property
    def name(self) -> str:
        """As people know it."""


N = TypeVar("N", bound=Named)


async def make_once(
    name: str,
    what: str,
    those: Callable[[], Awaitable[Sequence[N]]],
    make: Callable[[], Awaitable[N]],
    advice: str,
) -> N:
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


class RemoteBases(Bases):
    """The bases of an account that can be changed, of a service that lists no models and tells no space."""

    what: ClassVar[str] = "knowledge base"
    """What the service calls one."""

    no_models: ClassVar[str]
    no_capacity: ClassVar[str]
    """Why there is none to be had, as a person is told."""

    def __init__(self, address: str, own: str, surroundings: Surroundings, client: Client) -> None:
        self._address, self._own, self._surroundings, self._client = address, own, surroundings, client

    @property
    def address(self) -> str:
        """Where they are."""
        return self._address

    @property
    def own(self) -> str:
        """The id that the config names."""
        return self._own

    def check_changeable(self) -> None:
        """They are."""

    async def models(self) -> Sequence[EmbeddingModel]:
        """Raises `NotOffered`."""
        raise NotOffered(self.no_models)

    async def capacity(self) -> Capacity | None:
        """Raises `NotOffered`."""
        raise NotOffered(self.no_capacity)

    async def make_once(self, name: str, make: Callable[[], Awaitable[BaseCard | None]]) -> BaseCard:
        """Make a base whose name is not in use yet. Raises as the function `make_once` does.

        `make`: None where the answer does not name what was made.
        """

        async def made() -> BaseCard:
            if (card := await make()) is None:
                raise Unsure(f"create-base: the answer does not name the {self.what}", code="no-id")
            return card

        look = self._surroundings.pasted("kb list")
        advice = f"the {self.what} may have been made or not: look with {look} before another try"
        return await make_once(name, f"a {self.what}", self.all, made, advice)

    def missing(self, base_id: str, words: str = "") -> Halted:
        """The error of an id that is not there; `words` of the service."""
        where = f"there is no {self.what} {base_id} at {self._address} for this api_key"
        look = f"list them with {self._surroundings.pasted('kb list')}"
        return Halted("knowledge-base-missing", f"{where} ({words}); {look}" if words else f"{where}; {look}")
