"""What the model says of each block of a config: its settings, its keys, and the place where it stands."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

from kbsync.config.kinds import Confidential, Mark, NotAKey, OneOf, Others
from kbsync.config.model import Config
from kbsync.config.problems import Loc

if TYPE_CHECKING:
    from kbsync.config.yaml import Value  # it loads yaml, which `kbsync init` does not need


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a block. `hint` is its type without None, `default` is MISSING where it has no plain one."""

    hint: Any
    mark: Mark
    default: object
    is_required: bool


@functools.cache
def settings_of(block: type) -> Mapping[str, Field]:
    """The settings of `block` by their names, in the order of the model."""
    hints = get_type_hints(block, include_extras=True)
    marked = [(one, *bare(hints[one.name])) for one in fields(block)]
    return {
        one.name: Field(hint, mark, one.default, one.default is MISSING and one.default_factory is MISSING)
        for one, hint, mark in marked
        if not isinstance(mark, NotAKey)
    }


def bare(hint: Any) -> tuple[Any, Any]:
    """`hint` without Annotated and None, and the mark that it was annotated with, if it was."""
    mark = None
    if get_origin(hint) is Annotated:
        hint, mark = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    return hint, mark


@functools.cache
def secret_keys(block: type) -> tuple[str, ...]:
    """The keys of `block` that hold a secret, each of which may instead be given with `_file`."""
    return tuple(key for key, one in settings_of(block).items() if isinstance(one.mark, Confidential))


def known_keys(block: type) -> tuple[str, ...]:
    """Every key that `block` may have in a file, in the order of the model."""
    keys: list[str] = []
    for name, setting in settings_of(block).items():
        keys += setting.mark.names if isinstance(setting.mark, Others) else [name]
    return (*keys, *(f"{key}_file" for key in secret_keys(block)))


def blocks_in(value: Value) -> dict[Loc, type]:
    """The class of each block of a config, as far as blocks stand where they are expected."""
    return dict(_traced(value, Config, None, ()))


def _traced(value: Value, hint: Any, mark: object, loc: Loc) -> Iterator[tuple[Loc, type]]:
    if isinstance(mark, OneOf):
        hint = mark.chosen(value)
    if isinstance(value, list) and get_origin(hint) is tuple:
        for index, item in enumerate(value):
            yield from _traced(item, *bare(get_args(hint)[0]), (*loc, index))
    elif isinstance(value, dict) and isinstance(hint, type) and is_dataclass(hint):
        yield loc, hint
        for key, setting in settings_of(hint).items():
            yield from _traced(value.get(key), setting.hint, setting.mark, (*loc, key))


def blocks() -> Iterator[tuple[str, type]]:
    """Every class of the model with the place it stands at, such as `mirrors[].deletions`."""
    return _blocks(Config, None, "")


def _blocks(hint: Any, mark: object, home: str) -> Iterator[tuple[str, type]]:
    for one in mark.choices.values() if isinstance(mark, OneOf) else (hint,):
        if get_origin(one) is tuple:
            yield from _blocks(*bare(get_args(one)[0]), f"{home}[]")
        elif is_dataclass(one):
            yield home, one
            for key, setting in settings_of(one).items():
                yield from _blocks(setting.hint, setting.mark, f"{home}.{key}".removeprefix("."))
