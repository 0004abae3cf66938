"""Changes to a stand-in's switches, from JSON or Python, each checked by its type."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    B = TypeVar("B", bound=DataclassInstance)

Reader = Callable[[str, Any], Any]
"""A function that converts the given value of a switch. Raises `ValueError` with a sentence."""

MAX_NUMBER = 1e18
_NUMBERS = {int: "a whole number", float: "a number of seconds"}


def changed(
    behaviour: B,
    switches: Mapping[str, Any],
    readers: Mapping[str, Reader] | None = None,
    least: Mapping[str, float] | None = None,
) -> B:
    """Return `behaviour`, a frozen dataclass, with `switches` set.

    A switch is one of several words, a boolean, a text, a pair of seconds, or a number of at least 0 or its
    `least`; `readers` convert all other types. Raises `ValueError` for an unknown switch or a wrong value.
    """
    names = [field.name for field in fields(behaviour)]
    if unknown := sorted(set(switches) - set(names)):
        raise ValueError(f"there is no switch {', '.join(unknown)}; there are {', '.join(names)}")
    kinds, own_readers, from_ = typing.get_type_hints(type(behaviour)), readers or {}, least or {}

    def read(name: str, value: Any) -> Any:
        if name in own_readers:
            return own_readers[name](name, value)
        return _plain(name, kinds[name], value, from_.get(name, 0))

    return replace(behaviour, **{name: read(name, value) for name, value in switches.items()})


def _span(name: str, value: Any) -> tuple[float, float]:
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    if not is_pair or not all(_is_number(end, float) for end in value) or not 0 <= value[0] <= value[1]:
        raise ValueError(f"{name} is a pair of seconds, least and most, not {value!r}")
    return float(value[0]), float(value[1])


def _plain(name: str, kind: Any, value: Any, least: float) -> Any:
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        text = "null" if value is None else str(value)  # people write 404 and null without quotes
        if isinstance(value, bool) or text not in choices:
            raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
        return text
    if kind in (bool, str):
        if not isinstance(value, kind):
            raise ValueError(f"{name} is {'a text' if kind is str else 'true or false'}, not {value!r}")
        return value
    if kind == tuple[float, float]:
        return _span(name, value)
    if not _is_number(value, kind) or value < least:
        raise ValueError(f"{name} is {_NUMBERS[kind]} from {least} on, not {value!r}")
    return kind(value)


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    return bool(abs(value) < MAX_NUMBER)  # false for "not a number" too
