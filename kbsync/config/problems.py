"""Problems in a config file, each with its file, line and key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kbsync.dataclass import dataclass
from kbsync.errors import UsageError

Loc = tuple[str | int, ...]
"""The path to a value: keys and indices, such as `("mirrors", 0, "settle")`."""

_MAX_SHOWN_LENGTH = 60


def shorten(text: str, longest: int = _MAX_SHOWN_LENGTH) -> str:
    """Return `text`, made printable and short enough for one line of a terminal."""
    plain = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def format_path(path: Path) -> str:
    """Return `path` in full, made printable for one line of a terminal."""
    return shorten(str(path), 10_000)


def key_of(loc: Loc) -> str:
    """Return `loc` as users would write it (for example, `mirrors[0].settle`), or "" for the whole file."""
    parts = (f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" for step in loc)
    return "".join(parts).removeprefix(".")


def nearest(word: str, known: Iterable[str], *, alike: float = 0.6) -> str | None:
    """Return the known word that is most similar to `word`, or None.

    `alike`: the minimum similarity, where 1.0 means equal.
    """
    import difflib  # imported late: needed only after a mistake

    plain = word[:_MAX_SHOWN_LENGTH].lower().replace("-", "_")
    close = difflib.get_close_matches(plain, list(known), n=1, cutoff=alike)
    return close[0] if close else None


def with_known(fault: str, word: str, known: Iterable[str], label: str = "allowed") -> str:
    """Return a message about an unknown word.

    It says what is wrong, suggests the most similar known word, if any, and lists all known words.
    """
    words = list(known)
    close = nearest(word, words)
    start = f"{fault}; {label}" if close is None else f"{fault}; did you mean {close}? {label.capitalize()}"
    return f"{start}: {', '.join(words)}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem to fix.

    `line` starts at 1; it is None if the problem concerns the whole file. `key` is empty if the problem isn't
    about a key.
    """

    file: Path
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        location = format_path(self.file) if self.line is None else f"{format_path(self.file)}:{self.line}"
        return ": ".join(part for part in (location, self.key, self.message) if part)


class ConfigError(UsageError):
    """Raised if the config is invalid. `str()` lists every problem, one per line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A conflict between settings that are valid individually, reported at `loc`.

    `rests_on`: the other settings involved.
    """

    loc: Loc
    message: str
    rests_on: tuple[Loc, ...] = ()
