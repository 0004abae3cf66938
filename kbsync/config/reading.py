"""Reads the values of a config into the classes of the model, and refuses every one that is not taken."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from kbsync.config.blocks import About, Mark, OneOf, Others
from kbsync.config.draft import Draft
from kbsync.config.kinds import Kind, Refused, Whereabouts, not_among, value_shown
from kbsync.config.model import Config, DocumentRule, MirrorConfig
from kbsync.config.problems import Loc
from kbsync.config.sentences import unknown
from kbsync.config.shape import bare, known_keys, secret_keys, settings_of
from kbsync.config.tree import Value

_STAND_INS: dict[type, dict[str, Any]] = {
    Config: {"mirrors": (MirrorConfig("unnamed", Path("/")),)},
    MirrorConfig: {"name": "unnamed", "folder": Path("/")},
    DocumentRule: {"match": "*"},
}
"""What is checked instead of a value that was refused; findings that rest on it are dropped."""

_LIST = "a list, each item in a line of its own with `- ` before it, or all in [ ]"


def read(draft: Draft, where: Whereabouts) -> Config:
    """The config; where a value was refused, its default or a stand-in, so that the rest can be checked."""
    config: Config = _Reader(draft, where).block(draft.value, Config, ())
    return config


class _Reader:
    """Gives None for what cannot be used. A value that is None was refused before; it is not told again."""

    def __init__(self, draft: Draft, where: Whereabouts) -> None:
        self._draft = draft
        self._where = where

    def block(self, value: Value, block: type, loc: Loc) -> Any:
        """A `block` of what `value` says and of stand-ins; None where that is not enough for one."""
        given: dict[str, Any] = dict(_STAND_INS.get(block, {}))
        if isinstance(value, dict):
            given |= self._settings(value, block, loc)
        else:
            self._refuse_form(value, f"a block of keys: {', '.join(known_keys(block))}", loc)
        lacks = any(one.is_required and key not in given for key, one in settings_of(block).items())
        return None if lacks else block(**given)

    def _settings(self, value: dict[str, Value], block: type, loc: Loc) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for key, setting in settings_of(block).items():
            if isinstance(setting.mark, Others):
                read[key] = self._others(value, setting.mark, loc)
            elif key in value:
                one = self._value(value[key], setting.hint, setting.mark, (*loc, key))
                if one is not None:
                    read[key] = one
                elif key == "type":
                    return {}  # what else the block may hold depends on its type
            elif setting.is_required and f"{key}_file" not in value:  # else the file was refused
                self._draft.refuse((*loc, key), _missing(block, key))
        self._refuse_unknown(value, known_keys(block), loc)
        return read

    def _value(self, value: Value, hint: Any, mark: Mark | None, loc: Loc) -> Any:
        if isinstance(mark, Kind):
            return self._single(value, mark, loc)
        if isinstance(mark, OneOf):
            return self._one_of(value, mark, loc)
        if get_origin(hint) is tuple:
            return self._items(value, hint, mark, loc)
        return self.block(value, hint, loc)

    def _single(self, value: Value, kind: Kind, loc: Loc) -> Any:
        if value is None or (isinstance(value, list) and None in value):
            return None
        try:
            return kind.read(value, self._where)
        except Refused as reason:
            self._draft.refuse(loc, str(reason))
        return None

    def _one_of(self, value: Value, union: OneOf, loc: Loc) -> Any:
        chosen = union.chosen(value)
        if chosen is not None:
            return self.block(value, chosen, loc)
        if isinstance(value, dict):
            self._draft.refuse((*loc, "type"), not_among(value["type"], union.choices, union.what))
        else:
            self._refuse_form(value, f"a block of keys, such as {{type: {union.default}}}", loc)
        return None

    def _items(self, value: Value, hint: Any, mark: Mark | None, loc: Loc) -> Any:
        if not isinstance(value, list):
            self._refuse_form(value, _LIST, loc)
            return None
        if not value and isinstance(mark, About) and mark.empty:
            self._draft.refuse(loc, mark.empty)
            return None
        item = bare(get_args(hint)[0])
        items = tuple(self._value(one, *item, (*loc, index)) for index, one in enumerate(value))
        return None if None in items else items

    def _others(self, value: dict[str, Value], others: Others, loc: Loc) -> dict[str, Any]:
        named = [(key, known) for key, known in others.known.items() if value.get(key) is not None]
        return {key: self._checked(value[key], known, (*loc, key)) for key, known in named}

    def _checked(self, value: Value, known: Mapping[str, Kind], loc: Loc) -> dict[str, Value]:
        """What `value` says, as it is written."""
        if not isinstance(value, dict):
            self._refuse_form(value, "a block of keys", loc)
            return {}
        self._refuse_unknown(value, known, loc)
        names = [key for key in value if key in known]
        return {
            key: value[key] for key in names if self._single(value[key], known[key], (*loc, key)) is not None
        }

    def _refuse_unknown(self, value: dict[str, Value], known: Collection[str], loc: Loc) -> None:
        for key in value:
            if key not in known:
                self._draft.refuse((*loc, key), unknown(key, known))

    def _refuse_form(self, value: Value, allowed: str, loc: Loc) -> None:
        """Not with the text of `value`: where a block is expected, it may hold a secret."""
        form = "a text" if isinstance(value, str) else value_shown(value)
        self._draft.refuse(loc, f"{form} is not taken; allowed: {allowed}")


def _missing(block: type, key: str) -> str:
    file = f"; or {key}_file, a file that holds it" if key in secret_keys(block) else ""
    return f"is missing; allowed: {settings_of(block)[key].mark.about}{file}"
