"""A target's block in a new config, made from what the model says of its keys: for every type there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kbsync.config.example import quoted
from kbsync.config.kinds import Kind
from kbsync.config.model import DEFAULT_TARGET, TARGETS
from kbsync.config.remote import BaseId
from kbsync.config.shape import Setting, settings_of

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


def base_key(target: str) -> str | None:
    """The key that takes the id of a knowledge base; None for a type without one."""
    named = (name for name, one in settings_of(TARGETS[target]).items() if isinstance(one.mark, BaseId))
    return next(named, None)


def has_address(target: str) -> bool:
    """The address of its service may be another one than the usual."""
    return "base_url" in settings_of(TARGETS[target])


def has_key(target: str) -> bool:
    """The type is one of a service, with a key."""
    return KEY in settings_of(TARGETS[target])


def wanted(target: str) -> list[Wanted]:
    """What has to be known of a target of this type, the key of its service aside."""
    return [
        Wanted(name, kind.about) for name, one, kind in _settings(target) if one.is_required and name != KEY
    ]


def target_lines(target: str, key: KeyPlace | None, values: Mapping[str, str]) -> list[str]:
    """The block's lines below `target:`: what is set, then what else could be, with the defaults."""
    set_now = [f"type: {target}", *([key.line] if key else [])]
    set_now += [f"{name}: {quoted(value)}" for name, value in values.items()]
    return [_INDENT + line for line in (*set_now, *_defaults(target, values))]


def _defaults(target: str, values: Mapping[str, str]) -> Iterator[str]:
    for name, one, kind in _settings(target):
        if name not in values and isinstance(one.default, int | float | str):
            setting = f"# {name}: {kind.written(one.default)}"
            yield f"{setting:{_COMMENT}} # {kind.about}" if kind.about else setting


def _settings(target: str) -> Iterator[tuple[str, Setting, Kind]]:
    """Single values only; blocks have a page of their own in the docs."""
    for name, one in settings_of(TARGETS[target]).items():
        if isinstance(one.mark, Kind) and name != "type":
            yield name, one, one.mark


__all__ = [
    "DEFAULT_TARGET",
    "KeyPlace",
    "Wanted",
    "base_key",
    "has_address",
    "has_key",
    "target_lines",
    "wanted",
]
