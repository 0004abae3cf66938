"""Which class of the model each block of a config is read as, and which keys it may have."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from kbsync.config.blocks import About, NotAKey, OneOf
from kbsync.config.kinds import Confidential, Kind
from kbsync.config.model import DOCUMENT_SETTINGS, Config, DocumentRule
from kbsync.config.problems import Loc
from kbsync.config.tree import Value


@dataclass(slots=True)
class Shape:
    """`classes`: the class of the block at each place. `tagged`: places whose block has one of several."""

    classes: dict[Loc, type] = field(default_factory=dict)
    tagged: dict[Loc, OneOf] = field(default_factory=dict)

    def place(self, loc: Loc) -> Loc:
        """Where the value stands that pydantic means by `loc`, which also names classes and fields."""
        clean: Loc = ()
        skip = False
        for step in loc:
            skip = not skip and (
                clean in self.tagged or (step == "settings" and self.classes.get(clean) is DocumentRule)
            )
            clean = clean if skip else (*clean, step)
        return clean


def shape_of(value: Value) -> Shape:
    """The shape of a whole config, as far as its blocks stand where blocks are expected."""
    shape = Shape()
    _trace(value, Config, (), shape)
    return shape


def _trace(value: Value, hint: Any, loc: Loc, shape: Shape) -> None:
    hint, marks = _bare(hint)
    union = next((mark for mark in marks if isinstance(mark, OneOf)), None)
    if union is not None:
        shape.tagged[loc] = union
        hint = union.chosen(value)
    if isinstance(value, list) and get_origin(hint) is tuple:
        for index, item in enumerate(value):
            _trace(item, get_args(hint)[0], (*loc, index), shape)
    elif isinstance(value, dict) and isinstance(hint, type) and is_dataclass(hint):
        shape.classes[loc] = hint
        for key in value.keys() & _hints(hint).keys():
            _trace(value[key], _hints(hint)[key], (*loc, key), shape)


@functools.cache
def _hints(block: type) -> dict[str, Any]:
    return get_type_hints(block, include_extras=True)


def _bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """`hint` without Annotated and None, and what was annotated."""
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *annotated = get_args(hint)
        marks = tuple(annotated)
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    return hint, marks


def _marked(block: type, mark: type) -> Iterator[str]:
    return (
        key for key, hint in _hints(block).items() if any(isinstance(one, mark) for one in _bare(hint)[1])
    )


@functools.cache
def secret_keys(block: type) -> tuple[str, ...]:
    """The keys of `block` that hold a secret, each of which may instead be given with `_file`."""
    return tuple(_marked(block, Confidential))


@functools.cache
def known_keys(block: type) -> tuple[str, ...]:
    """Every key that `block` may have in a file, in the order of the model."""
    hidden = set(_marked(block, NotAKey))
    if block is DocumentRule:
        return ("match", *DOCUMENT_SETTINGS)
    names = [one.name for one in fields(block) if one.name not in hidden]
    return tuple(names) + tuple(f"{key}_file" for key in secret_keys(block))


def may_be_nothing(block: type, key: str) -> bool:
    """`key` of a block of this class may stand without a value."""
    marks = _bare(_hints(block)[key])[1] if key in _hints(block) else ()
    return any(isinstance(mark, Kind) and mark.takes_nothing for mark in marks)


def is_required(block: type, key: str) -> bool:
    """A block of this class cannot be read without `key`."""
    return any(
        one.name == key and one.default is MISSING and one.default_factory is MISSING for one in fields(block)
    )


def about(block: type, key: str) -> str:
    """The sentence that describes `key` of `block`."""
    marks = _bare(_hints(block)[key])[1]
    return next((str(mark.about) for mark in marks if isinstance(mark, Kind | About)), "")


def blocks() -> Iterator[tuple[str, type]]:
    """Every class of the model with the place it stands at, such as `mirrors[].deletions`."""
    return _blocks(Config, "")


def _blocks(hint: Any, home: str) -> Iterator[tuple[str, type]]:
    hint, marks = _bare(hint)
    union = next((mark for mark in marks if isinstance(mark, OneOf)), None)
    for one in union.choices.values() if union else (hint,):
        if get_origin(one) is tuple:
            yield from _blocks(get_args(one)[0], f"{home}[]")
        elif isinstance(one, type) and is_dataclass(one):
            yield home, one
            for key, inner in _hints(one).items():
                yield from _blocks(inner, f"{home}.{key}".removeprefix("."))


def written_defaults(block: type) -> dict[str, object]:
    """The defaults of `block` as a file would have them; keys without a plain one are left out."""
    defaults = {}
    for one in fields(block):
        kind = next((mark for mark in _bare(_hints(block)[one.name])[1] if isinstance(mark, Kind)), None)
        if kind is not None and one.default is not MISSING and one.default is not None:
            defaults[one.name] = kind.written(one.default)
    return defaults
