"""Changes to a stand-in's switches, from JSON or Python, each checked by its type."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NewType, TypeVar

from kbsync_standin import rules
from kbsync_standin.rules import Test

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    B = TypeVar("B", bound=DataclassInstance)

Offset = NewType("Offset", float)
"""Seconds by which a clock is ahead, or behind if negative."""

NO_OFFSET = Offset(0.0)

MAX_NUMBER = 10**18


def _is_span(value: Any) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    return is_pair and all(map(rules.share(0, MAX_NUMBER), value)) and value[0] <= value[1]


def _is_offset(value: Any) -> bool:
    return (rules.is_whole(value) or isinstance(value, float)) and -MAX_NUMBER < value < MAX_NUMBER


def _among(choices: tuple[str, ...]) -> Test:
    return lambda value: isinstance(value, list | tuple) and all(item in choices for item in value)


_TYPES: Mapping[Any, tuple[Test, str]] = {
    bool: (rules.is_flag, "true or false"),
    str: (rules.is_string, "a text"),
    dict[str, Any]: (rules.is_object, "an object"),
    int: (rules.integer(0, MAX_NUMBER), "a whole number from 0 on"),
    float: (rules.share(0, MAX_NUMBER), "a number of seconds from 0 on"),
    Offset: (_is_offset, "a number of seconds"),
    tuple[float, float]: (_is_span, "a pair of seconds, least and most"),
}
"""The test for the values of a switch of each type, and its meaning."""


def changed(behaviour: B, switches: Mapping[str, Any], label: str = "switch") -> B:
    """Return `behaviour`, a dataclass, with `switches` set.

    A switch is one of several words, a list of them, or of a type in `_TYPES`. Raises `ValueError` for an
    unknown switch, which the sentence calls `label`, or a wrong value.
    """
    types = typing.get_type_hints(type(behaviour))
    if unknown := sorted(set(switches) - set(types)):
        raise ValueError(f"there is no {label} {', '.join(unknown)}; there are {', '.join(types)}")
    values = {name: _checked(name, types[name], value) for name, value in switches.items()}
    return replace(behaviour, **values)


def _checked(name: str, kind: Any, value: Any) -> Any:
    """Return the value of a switch in the form of its type. Raises `ValueError` if it is wrong."""
    if typing.get_origin(kind) is Literal:
        value = rules.as_word(value)  # people write 404 and null without quotes
        choices = typing.get_args(kind)
        test, words = rules.one_of(*choices), f"one of {', '.join(choices)}"
    elif kind in _TYPES:
        test, words = _TYPES[kind]
    else:
        choices = typing.get_args(typing.get_args(kind)[0])
        test, words = _among(choices), f"a list of {', '.join(choices)}"
    if not test(value):
        raise ValueError(f"{name} is {words}, not {value!r}")
    value = float(value) if kind is float else value
    return tuple(value) if isinstance(value, list) else value
