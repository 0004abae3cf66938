"""The kinds of settings: how to read each one from the file, reject it with a message, and describe it to
editors.

Each kind is in an annotation of the model (`Annotated[float, Duration("…")]`), the only place that describes
that setting. Messages, the JSON schema, `kbsync init` and docs/configuration.md are generated from it. Lists,
blocks and unions of blocks have separate marks, at the end of this module.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

from kbsync.config.problems import shorten, with_known
from kbsync.core.quiet_hours import parse_quiet_hours
from kbsync.core.selection import DOT_SLASH, parse
from kbsync.dataclass import dataclass

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION_FORMS = "a number and a unit, such as 500ms, 2s, 15m, 1h, 1d or 2w"
DURATION_PATTERN = r"^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)$"


def parse_duration(text: str) -> float:
    """Return the duration `text` in seconds.

    For anything else, raise a ValueError that lists the allowed forms.
    """
    match = re.fullmatch(DURATION_PATTERN, text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration; allowed: {DURATION_FORMS}")
    return float(match[1]) * DURATION_UNITS[match[2]]


_FIRST_DAY = datetime.datetime(1, 1, 3, tzinfo=datetime.UTC)
_LAST_DAY = datetime.datetime(9999, 12, 29, tzinfo=datetime.UTC)
"""The first and last days that a `datetime` can convert to any time zone."""


def read_since(text: str) -> float:
    """Return a date, a duration before now, or the start of `today` or `yesterday`, in epoch seconds.

    A date may include a time. Dates and times are local unless a time zone is given.
    """
    days = {"today": 0, "yesterday": 1}
    if text in days:
        date = datetime.datetime.now().date() - datetime.timedelta(days=days[text])
        text = date.isoformat()
    try:
        # At least 0, because messages show it as a date.
        return max(0.0, time.time() - parse_duration(text))
    except ValueError:
        pass
    try:
        written = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a duration such as 1d nor a date such as 2026-01-31") from None
    try:
        # Must be valid in UTC and as local time, because messages show it as one or the other.
        moment = written.astimezone(datetime.UTC)
        moment.astimezone()
    except (ValueError, OverflowError, OSError):
        moment = _FIRST_DAY if written.year == 1 else _LAST_DAY
    return moment.timestamp()


def write_duration(seconds: float) -> str:
    """Return the shortest form that `parse_duration` reads back; for example, `15m` for 900.0."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % DURATION_UNITS[unit] == 0:
            return f"{seconds / DURATION_UNITS[unit]:.0f}{unit}"
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds else "0s"


class RefusedValue(ValueError):
    """An invalid value. `str()` says why the value is invalid and which values are allowed."""


class Substituted(str):
    """Text from `${ENV}` or a file. It may be a secret, so no message quotes it."""

    __slots__ = ()


class Absent(str):
    """A placeholder for an unavailable secret, with the reason why the secret is unavailable."""

    __slots__ = ()


def format_value(value: object) -> str:
    """Return `value` as YAML, safe to show in a message."""
    match value:
        case Substituted():
            return "the value of ${…}"
        case str():
            return repr(shorten(value))
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "a block of keys"
        case _:
            return shorten(str(value))


def invalid_value(value: object, allowed: str, fault: str = "is not valid") -> RefusedValue:
    """Return the error for an invalid value."""
    return RefusedValue(f"{format_value(value)} {fault}; allowed: {allowed}")


def not_among(value: object, words: Iterable[str], noun: str = "") -> str:
    """Return the message for a value that isn't in `words`.

    `noun` says what the value is, if the key doesn't.
    """
    reason = (
        f"this version has no {noun} {format_value(value)}"
        if noun and isinstance(value, str)
        else f"{format_value(value)} is not valid"
    )
    # A value from the environment may be a secret, so don't suggest a similar word either.
    return with_known(reason, "" if isinstance(value, Substituted) else str(value), words)


@dataclass(frozen=True, eq=False)
class Described:
    """The base class of all marks, which annotate the settings of the model.

    `about` describes the key in Markdown, with links relative to docs/. If the default value doesn't show the
    effect of leaving the key out, `; default: …` at the end describes it.
    """

    about: str

    @property
    def plain(self) -> str:
        """Return `about` without its links, for messages and editors."""
        return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", self.about)


@dataclass(frozen=True, eq=False)
class ValueKind(Described):
    """The base of all kinds of single values."""

    about: str = ""

    def read(self, value: object) -> object:
        """Return the setting for a `value` from YAML. Raises `RefusedValue`."""
        raise NotImplementedError

    form: ClassVar[Mapping[str, Any]] = {}
    """The JSON schema of a value, without its type."""

    def json(self) -> dict[str, Any]:
        """Return the JSON schema of a value, for editors. By default, it describes a string."""
        return {"type": "string", **self.form}

    def written(self, value: Any) -> object:
        """Return a setting as it is written in a file, so that editors can show the default."""
        return value

    def limits(self) -> str:
        """Return the allowed values, which the docs append to the description, or "" if the description is
        enough.
        """
        return ""


@dataclass(frozen=True, eq=False)
class Duration(ValueKind):
    """A time with a unit, converted to seconds, between `least` and `most`."""

    least: float = 0.0
    most: float = 365 * 86400.0
    form: ClassVar = {"pattern": DURATION_PATTERN, "examples": ["500ms", "2s", "15m", "1h"]}

    def read(self, value: object) -> float:
        """Return the duration in seconds."""
        # Don't guess: 5 could be seconds or minutes.
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise invalid_value(value, DURATION_FORMS, "has no unit")
        if not isinstance(value, str) or re.fullmatch(DURATION_PATTERN, value) is None:
            raise invalid_value(value, DURATION_FORMS, "is not a duration")
        seconds = parse_duration(value)
        if not self.least <= seconds <= self.most:
            bounds = f"{write_duration(self.least)} to {write_duration(self.most)}"
            raise invalid_value(value, bounds, "is out of range")
        return seconds

    def written(self, value: float) -> str:
        """Return the duration with a unit; for example, `15m` for 900.0."""
        return write_duration(value)


_MAX = 10**15  # far below the limit of SQLite and JSON readers


@dataclass(frozen=True, eq=False)
class Whole(ValueKind):
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = _MAX

    def read(self, value: object) -> int:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            bounds = f"at least {self.least}" if self.most == _MAX else f"{self.least} to {self.most}"
            raise invalid_value(value, f"a whole number, {bounds}")
        return value

    def json(self) -> dict[str, Any]:
        """Return the JSON schema of an integer."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def limits(self) -> str:
        """Return the range, such as `, 1 to 64`."""
        return f", {self.least} to {self.most}" if self.most != _MAX else ""


class Bytes(Whole):
    """A size in bytes."""

    def limits(self) -> str:
        """Return no range, because the default value is a more useful hint."""
        return ""


@dataclass(frozen=True, eq=False)
class Fraction(ValueKind):
    """A fraction from `least` to `most`."""

    least: float = 0
    most: float = 1

    def read(self, value: object) -> float:
        """Return the fraction."""
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.least <= value <= self.most
        ):
            return float(value)
        bounds = f"{self.least:g} to {self.most:g}"
        raise invalid_value(value, f"a number from {bounds}, such as 0.2")

    def json(self) -> dict[str, Any]:
        """Return the JSON schema of a number."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def limits(self) -> str:
        """Return the range, such as `, 0 to 1`."""
        return f", {self.least:g} to {self.most:g}"


@dataclass(frozen=True, eq=False)
class Choice(ValueKind):
    """One of `words`, by default those of the annotated `Literal`.

    `noun` says what the value is, if the key alone doesn't.
    """

    words: tuple[str, ...] = ()
    noun: str = ""

    def read(self, value: object) -> str:
        """Return the word."""
        if value not in self.words:
            raise RefusedValue(not_among(value, self.words, self.noun))
        return str(value)

    def json(self) -> dict[str, Any]:
        """Return the JSON schema for a string that must be one of the words."""
        return {"type": "string", "enum": list(self.words)}

    def limits(self) -> str:
        """Return the allowed words, unless the description mentions all of them."""
        if all(f"`{word}`" in self.plain for word in self.words):
            return ""
        return ": " + ", ".join(f"`{word}`" for word in self.words)


@dataclass(frozen=True, eq=False)
class Text(ValueKind):
    """Text of at most `longest` characters that matches `pattern` completely. `allowed` describes it in
    words.
    """

    pattern: str = r"[^\x00-\x1f\x7f]*"
    allowed: str = "text on one line"
    longest: int = 1000

    def read(self, value: object) -> str:
        """Return the text."""
        if not isinstance(value, str):
            raise invalid_value(value, f"{self.allowed}, in quotes", "is not text")
        if len(value) > self.longest:
            raise RefusedValue(
                f"the text is too long; allowed: {self.allowed}, at most {self.longest} characters"
            )
        if re.fullmatch(self.pattern, value) is None:
            raise invalid_value(value, self.allowed)
        return str(value)

    def json(self) -> dict[str, Any]:
        """Return the JSON schema of a string."""
        return {"type": "string", "pattern": f"^{self.pattern}$", "maxLength": self.longest}


class Location(ValueKind):
    """A path: absolute, below `~`, or relative to the config's directory. Symlinks are kept."""

    form: ClassVar = {"minLength": 1}

    def read(self, value: object) -> str:
        """Return the path as written. `_Reader` makes it absolute."""
        if not isinstance(value, str) or not value.strip():
            raise invalid_value(value, "a path, such as /srv/handbook", "is not a path")
        return value

    def written(self, value: Path) -> str:
        """Return the path as text."""
        return str(value)


@dataclass(frozen=True, eq=False)
class Pattern(ValueKind):
    """A single gitignore pattern that can match something. With `positive`, a leading `!` is refused."""

    positive: bool = False

    def read(self, value: object) -> str:
        """Return the pattern."""
        if not isinstance(value, str):
            raise invalid_value(value, 'quoted text, such as "**/*.md"', "is not a pattern")
        if self.positive and value.startswith("!"):
            raise invalid_value(value, "a pattern without a leading !", "matches nothing")
        problem = ""
        try:
            line = parse(value, "")
        except ValueError as error:
            line, problem = None, str(error)
        if line is None:
            why = 'allowed: a gitignore pattern, such as "**/*.md" or "drafts/"'
            if DOT_SLASH in problem:
                why = f"it begins with {DOT_SLASH}"
            if value.lstrip().startswith("#"):
                why = r"# begins a comment; write \# for a name that begins with it"
            raise RefusedValue(f"{format_value(value)} matches nothing; {why}")
        return str(value)

    def json(self) -> dict[str, Any]:
        """Return the JSON schema of a string."""
        return {"type": "string", "minLength": 1, **({"pattern": "^[^!]"} if self.positive else {})}


class Quiet(ValueKind):
    """Quiet hours, or `never`."""

    form: ClassVar = {"minLength": 1, "examples": ["22:00-06:00", "mon-fri 08:00-18:00"]}

    def read(self, value: object) -> str:
        """Return the quiet hours as written in a file, or "" for `never`."""
        if isinstance(value, str) and value.lower() == "never":
            return ""
        try:
            if not isinstance(value, str):
                raise ValueError(f"{format_value(value)} is not a time of day such as 22:00-06:00")
            parse_quiet_hours(value)
            return str(value)
        except ValueError as error:
            raise RefusedValue(
                f'{error}; allowed: never, or times such as "22:00-06:00" or "mon-fri 8:00-18:00, 22:00-6:00"'
            ) from None

    def written(self, value: str) -> str:
        """Return `never` if there are no quiet hours."""
        return value or "never"


class Address(ValueKind):
    """An address to listen on: `host:port`, with an IPv6 host in brackets."""

    form: ClassVar = {"pattern": "^.+:[0-9]{1,5}$", "examples": ["127.0.0.1:9753"]}

    def read(self, value: object) -> str:
        """Return the address as written."""
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:\[\]/]+):([0-9]{1,5})", str(value), re.ASCII)
        if not isinstance(value, str) or match is None or not 1 <= int(match[2]) <= 65535:
            raise invalid_value(value, "host:port, such as 127.0.0.1:9753")
        return str(value)


@dataclass(frozen=True, eq=False)
class About(Described):
    """Describes a key whose value is a list or a block.

    `empty` explains why an empty list is invalid. `words`: the words that may replace a block, each with the
    block that it represents.
    """

    empty: str = ""
    words: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OneOf(Described):
    """A block whose key `type` selects one of `choices`, or `default` if the key is missing."""

    noun: str
    default: str
    choices: Mapping[str, type]

    def chosen(self, value: object) -> type | None:
        """Return the class to use for reading the block `value`, or None if there is none."""
        if not isinstance(value, dict):
            return None
        tag = value.get("type", self.default)
        return self.choices.get(tag if isinstance(tag, str) else format_value(tag))


@dataclass(frozen=True, eq=False)
class Others(Described):
    """Marks a field that holds all other keys of a block.

    The keys must be among `names`. `known` returns the settings allowed under a key. `about` describes the
    block, and `noun` is the word for its keys.
    """

    noun: str
    names: Collection[str]
    known: Callable[[str], Mapping[str, ValueKind]]


class NotAKey:
    """Marks a field of the model that can't be set in a file."""


Mark = ValueKind | About | OneOf | Others
"""All types of marks that a setting's annotation may contain."""
