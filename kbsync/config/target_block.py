"""A target's block in a new config, made from what the model says of its keys: for every type there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, get_type_hints

from kbsync.config.example import quoted
from kbsync.config.kinds import Kind
from kbsync.config.model import DEFAULT_TARGET, TARGETS

KEY = "api_key"
_INDENT, _COMMENT = " " * 6, 38


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a key is taken from: an environment variable or a file, never the config itself."""

    env: str = ""
    file: str = ""

    @property
    def line(self) -> str:
        """The setting, as it is written."""
        return f"{KEY}_file: {quoted(self.file)}" if self.file else f"{KEY}: ${{{self.env}}}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key that has to be set. `about`: what it is, in a sentence."""

    key: str
    about: str


def has_key(target: str) -> bool:
    """The type is one of a service, with a key."""
    return any(one.name == KEY for one in fields(TARGETS[target]))


def wanted(target: str) -> list[Wanted]:
    """What has to be known of a target of this type, the key of its service aside."""
    return [
        Wanted(one.name, kind.about)
        for one, kind in _settings(target)
        if one.name != KEY and one.default is MISSING and one.default_factory is MISSING
    ]


def target_lines(target: str, key: KeyPlace | None, values: Mapping[str, str]) -> list[str]:
    """The block's lines below `target:`: what is set, then what else could be, with the defaults."""
    set_now = [f"type: {target}", *([key.line] if key else [])]
    set_now += [f"{name}: {quoted(value)}" for name, value in values.items()]
    return [_INDENT + line for line in (*set_now, *_defaults(target, values))]


def _defaults(target: str, values: Mapping[str, str]) -> Iterator[str]:
    for one, kind in _settings(target):
        if one.name not in values and isinstance(one.default, int | float | str):
            setting = f"# {one.name}: {kind.written(one.default)}"
            yield f"{setting:{_COMMENT}} # {kind.about}" if kind.about else setting


def _settings(target: str) -> Iterator[tuple[Field[Any], Kind]]:
    """Single values only; blocks have a page of their own in the docs."""
    block = TARGETS[target]
    hints = get_type_hints(block, include_extras=True)
    for one in fields(block):
        kind = next(
            (mark for mark in getattr(hints[one.name], "__metadata__", ()) if isinstance(mark, Kind)), None
        )
        if kind is not None and one.name != "type":
            yield one, kind


__all__ = ["DEFAULT_TARGET", "KeyPlace", "Wanted", "has_key", "target_lines", "wanted"]
