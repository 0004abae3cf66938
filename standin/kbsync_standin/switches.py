"""Changes to a stand-in's switches, from JSON or Python, each checked by its type."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    B = TypeVar("B", bound=DataclassInstance)

MAX_NUMBER = 1e18
_PLAIN = {bool: "true or false", str: "a text", dict: "an object"}
_NUMBERS = {int: "a whole number", float: "a number of seconds"}


def changed(
    behaviour: B, switches: Mapping[str, Any], signed: Collection[str] = (), label: str = "switch"
) -> B:
    """Return `behaviour`, a dataclass, with `switches` set.

    A switch is one of several words, a list of them, a boolean, a text, a pair of seconds, a number, or an
    object; only numbers in `signed` may be negative. Raises `ValueError` for an unknown switch, which the
    sentence calls `label`, or a wrong value.
    """
    names = [field.name for field in fields(behaviour)]
    if unknown := sorted(set(switches) - set(names)):
        raise ValueError(f"there is no {label} {', '.join(unknown)}; there are {', '.join(names)}")
    kinds = typing.get_type_hints(type(behaviour))
    values = {
        name: _plain(name, kinds[name], value, -MAX_NUMBER if name in signed else 0)
        for name, value in switches.items()
    }
    return replace(behaviour, **values)


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
    plain = typing.get_origin(kind) or kind
    if plain in _PLAIN:
        if not isinstance(value, plain):
            raise ValueError(f"{name} is {_PLAIN[plain]}, not {value!r}")
        return value
    if kind == tuple[float, float]:
        return _span(name, value)
    if typing.get_origin(kind) is tuple:
        choices = typing.get_args(typing.get_args(kind)[0])
        is_list = isinstance(value, list | tuple | set | frozenset)
        if not is_list or not all(item in choices for item in value):
            raise ValueError(f"{name} is a list of {', '.join(choices)}, not {value!r}")
        return tuple(sorted(value))
    if not _is_number(value, kind) or value < least:
        raise ValueError(f"{name} is {_NUMBERS[kind]} from {least} on, not {value!r}")
    return kind(value)


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    return bool(abs(value) < MAX_NUMBER)  # false for "not a number" too
