"""A config while it is being read: its values, what is wrong with them, and what is left to look at.

A refused value becomes None, which no file holds otherwise, so that the rest can still be checked and a
person gets every problem at once.

What the model says of each block of a config: its settings, its keys, and where it stands.

`${NAME}` from the environment and `<key>_file` from a file, filled in before a config is checked.

What is said of a key that is not known: which ones are, and where it may have been meant.

Reads the values of a config into the classes of the model, and refuses every one that is not taken.

Reads a config file: YAML in, a `Config` out, or every problem at once.

Keys and tokens that were given anew, taken into a config of which nothing else is taken.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import stat
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from kbsync.config.checks import conflicts
from kbsync.config.kinds import (
    About,
    Absent,
    Confidential,
    Mark,
    NotAKey,
    OneOf,
    Others,
    RefusedValue,
    Substituted,
    ValueKind,
    Whereabouts,
    not_among,
    value_shown,
)
from kbsync.config.model import Config, DocumentRule, MirrorConfig
from kbsync.config.places import home
from kbsync.config.problems import ConfigError, Loc, Problem, key_of, nearest, path_shown, shown
from kbsync.config.retired import retired
from kbsync.config.target import BaseId
from kbsync.config.yaml import Tree, UnreadableConfig, Value, read_yaml
from kbsync.targets.registry import TARGETS


class Draft:
    """One config file on its way to a `Config`."""

    def __init__(self, file: Path, tree: Tree) -> None:
        self.file = file
        self.value = tree.value
        self._lines = tree.lines
        self._spoiled: set[Loc] = set()
        # Ordered, each once: two mirrors may suffer from one value.
        self._problems = {Problem(file, line, key_of(loc), text): None for loc, line, text in tree.notes}
        for loc, message in tree.refused:
            self.refuse(loc, message)

    def line(self, loc: Loc) -> int | None:
        """The line of the value at `loc`, or of the block it should be in."""
        while loc and loc not in self._lines:
            loc = loc[:-1]
        return self._lines.get(loc)

    def at(self, loc: Loc) -> Value:
        """The value at `loc`; None where there is none."""
        value = self.value
        for step in loc:
            if isinstance(value, dict) and isinstance(step, str):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def put(self, loc: Loc, value: Value) -> None:
        """Replace the value at `loc`, if there is still one."""
        if not loc:
            self.value = value
        elif self.at(loc) is not None:
            block = self.at(loc[:-1])
            block[loc[-1]] = value  # type: ignore[index]  # `at` went this way

    def move(self, old: Loc, new: Loc, value: Value) -> None:
        """Give `new`, a key beside `old`, the value that `old` stood for."""
        block = self.at(old[:-1])
        if isinstance(block, dict):
            block.pop(str(old[-1]), None)
            block[str(new[-1])] = value
        self._lines[new] = self._lines[old]

    def refuse(self, loc: Loc, message: str) -> None:
        """Note a problem with the value at `loc` and go on without that value."""
        if not any(loc[:length] in self._spoiled for length in range(len(loc) + 1)):
            self._note(loc, message)
        self._spoiled.add(loc)
        self.put(loc, None)

    def forgive(self, loc: Loc) -> None:
        """What was wrong with the value at `loc` does not matter: another one takes its place."""
        self._spoiled.discard(loc)
        self._problems = {one: None for one in self._problems if one.key != key_of(loc)}

    def find(self, loc: Loc, message: str, rests_on: Iterable[Loc] = ()) -> None:
        """Note a problem between values, unless one it rests on was refused already."""
        if not any(self._is_spoiled(one) for one in (loc, *rests_on)):
            self._note(loc, message)

    def end(self) -> None:
        """Raises ConfigError if there was any problem."""
        if self._problems:
            raise ConfigError(sorted(self._problems, key=lambda problem: problem.line or 0))

    def problem(self, loc: Loc, message: str) -> Problem:
        """What is wrong with the value at `loc`, with the place it stands at."""
        return Problem(self.file, self.line(loc), key_of(loc), message)

    def _note(self, loc: Loc, message: str) -> None:
        self._problems[self.problem(loc, message)] = None

    def _is_spoiled(self, loc: Loc) -> bool:
        return any(loc[: len(one)] == one or one[: len(loc)] == loc for one in self._spoiled)


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


_LARGEST_SECRET = 65_536
_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")


def fill(draft: Draft, environ: Mapping[str, str], where: Whereabouts, *, with_secrets: bool = True) -> None:
    """Replace what the draft refers to by what it stands for; what cannot be had is refused.

    `with_secrets`: else a secret that cannot be had is `Absent`.
    """
    for loc, text in list(_references(draft.value, ())):
        try:
            draft.put(loc, substitute(text, environ))
        except RefusedValue as reason:
            if with_secrets or not _is_secret(draft, loc):
                draft.refuse(loc, str(reason))
            else:
                draft.put(loc, Absent(draft.problem(loc, str(reason))))
    for loc, block in blocks_in(draft.value).items():
        for key in secret_keys(block):
            _fill_from_file(draft, loc, key, where, with_secrets=with_secrets)


def _is_secret(draft: Draft, loc: Loc) -> bool:
    """A secret is meant, or the file that holds one."""
    block = blocks_in(draft.value).get(loc[:-1])
    return block is not None and str(loc[-1]).removesuffix("_file") in secret_keys(block)


def _references(value: Value, loc: Loc) -> Iterator[tuple[Loc, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _references(one, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*loc, index))
    elif isinstance(value, str) and "${" in value:
        yield loc, value


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """`text` with each `${NAME}` replaced and `$${` made `${`. Raises Refused for what cannot be."""
    return Substituted(_REFERENCE.sub(lambda match: _replacement(match, environ), text))


def _replacement(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match[0] == "$${":
        return "${"
    name = match[1]
    if not match[2] or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise RefusedValue(
            f"{shown(match[0])!r} is no reference; allowed: ${{NAME}}, or $${{ for a plain ${{"
        )
    if name not in environ:
        raise RefusedValue(
            f"${{{name}}} is not set in the environment; set it, or write $${{ for a plain ${{"
        )
    return environ[name]


def _fill_from_file(draft: Draft, loc: Loc, key: str, where: Whereabouts, *, with_secrets: bool) -> None:
    named = (*loc, f"{key}_file")
    value = draft.at(named)
    if value is None:
        return
    if draft.at((*loc, key)) is not None:
        draft.refuse(named, f"stands beside {key}; keep one of the two")
        return
    if isinstance(value, Absent):
        draft.move(named, (*loc, key), value)
        return
    try:
        secret = read_secret(value, where)
    except RefusedValue as reason:
        if with_secrets:
            draft.refuse(named, str(reason))
        else:
            draft.move(named, (*loc, key), Absent(draft.problem(named, str(reason))))
    else:
        draft.move(named, (*loc, key), Substituted(secret))


def read_secret(value: Value, where: Whereabouts) -> str:
    """The text of the file that `value` names, without one newline at its end. Raises Refused."""
    if not isinstance(value, str) or not value.strip():
        raise RefusedValue("is not a path; allowed: the path of a file that holds the text")
    path = where.absolute(value)
    # What was filled in may be the secret itself, put here by mistake.
    named = "the file that ${…} names" if isinstance(value, Substituted) else path_shown(path)
    try:
        return _small_text(path)
    except OSError as error:
        reason = (
            f"cannot be read ({(error.strerror or str(error)).lower()}); check the path and who may read it"
        )
    except ValueError as error:
        reason = str(error)
    raise RefusedValue(f"{named} {reason}")


def _small_text(path: Path) -> str:
    """The text of a small file. Raises OSError, and ValueError with the reason for what is none."""
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("is not a file")
        content = file.read(_LARGEST_SECRET + 1)
    if len(content) > _LARGEST_SECRET:
        raise ValueError(f"is too large for a secret; allowed: {_LARGEST_SECRET} bytes")
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("is not text (UTF-8)") from None
    if not text:
        raise ValueError("is empty; write the text into it")
    return text


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not make us wait


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The sentence for a key that is not known, with those that are and where it may have been meant."""
    words = tuple(known)
    return f"unknown key; allowed: {', '.join(words) or 'none in this version'}{_hint(key, words)}"


def _hint(key: str, known: Iterable[str]) -> str:
    homes = list(dict.fromkeys((home, block) for home, block in blocks() if key in known_keys(block)))
    if len(homes) == 1:
        [(home, block)] = homes
        kind = next((f"target type {name}" for name, one in TARGETS.items() if one is block), "")
        return f"; {key} belongs into {kind or home or 'the top of the file'}"
    close = nearest(key, known)
    return f"; did you mean {close}?" if close else ""


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
        if isinstance(mark, ValueKind):
            return self._single(value, mark, loc)
        if isinstance(mark, OneOf):
            return self._one_of(value, mark, loc)
        if get_origin(hint) is tuple:
            return self._items(value, hint, mark, loc)
        return self.block(value, hint, loc)

    def _single(self, value: Value, kind: ValueKind, loc: Loc) -> Any:
        if value is None or (isinstance(value, list) and None in value):
            return None
        try:
            return kind.read(value, self._where)
        except RefusedValue as reason:
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
        named = [key for key in others.names if value.get(key) is not None]
        return {key: self._checked(value[key], others.known(key), (*loc, key)) for key in named}

    def _checked(self, value: Value, known: Mapping[str, ValueKind], loc: Loc) -> dict[str, Value]:
        """What `value` says, as it is written."""
        if not isinstance(value, dict):
            self._refuse_form(value, "a block of keys", loc)
            return {}
        self._refuse_unknown(value, known, loc)
        return {
            key: one
            for key, one in value.items()
            if key in known and self._single(one, known[key], (*loc, key)) is not None
        }

    def _refuse_unknown(self, value: dict[str, Value], known: Collection[str], loc: Loc) -> None:
        for key in value:
            if (message := retired((*loc, key))) or key not in known:
                self._draft.refuse((*loc, key), message or unknown_key(key, known))

    def _refuse_form(self, value: Value, allowed: str, loc: Loc) -> None:
        """Not with the text of `value`: where a block is expected, it may hold a secret."""
        form = "a text" if isinstance(value, str) else value_shown(value)
        self._draft.refuse(loc, f"{form} is not taken; allowed: {allowed}")


def _missing(block: type, key: str) -> str:
    file = f"; or {key}_file, a file that holds it" if key in secret_keys(block) else ""
    return f"is missing; allowed: {settings_of(block)[key].mark.about}{file}"


_LARGEST_FILE = 262_144


def load(
    path: Path, environ: Mapping[str, str], *, with_secrets: bool = True, with_bases: bool = True
) -> Config:
    """The config in `path`, references filled in from `environ`. Raises ConfigError with all problems.

    `with_secrets`: else keys and tokens may be missing, such as those that only a service's own environment
    has, until somebody asks for them. `with_bases`: else ids of knowledge bases may be left out, which get
    stand-ins: whoever makes a base cannot know its id yet.
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`)
    draft = Draft(file, _tree(file))
    where = Whereabouts(file.parent, home(environ))
    if not isinstance(draft.value, dict):
        what = "is empty" if draft.value is None else "is no block of keys"
        draft.refuse((), f"{what}; begin with `mirrors:`; `kbsync init` writes an example")
    fill(draft, environ, where, with_secrets=with_secrets)
    if not with_bases:
        _name_bases(draft)
    config = read(draft, where)
    for finding in conflicts(config):
        draft.find(finding.loc, finding.message, finding.rests_on)
    draft.end()
    return dataclasses.replace(config, path=file)


_UNNAMED = "not-named-yet-"


def _name_bases(draft: Draft) -> None:
    """Each base without an id gets one of its own, so that no two mirrors seem to share theirs."""
    for number, (loc, block) in enumerate(blocks_in(draft.value).items()):
        written = draft.at(loc)
        for key, setting in settings_of(block).items():
            if isinstance(setting.mark, BaseId) and isinstance(written, dict) and not written.get(key):
                draft.forgive((*loc, key))
                written[key] = f"{_UNNAMED}{number}"


def _tree(file: Path) -> Tree:
    try:
        return read_yaml(_text(file))
    except UnreadableConfig as error:
        problem = Problem(file, error.line, "", str(error))
    raise ConfigError([problem])


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UnreadableConfig(None, f"cannot be read ({why}); check the path and who may read it") from None
    if len(content) > _LARGEST_FILE:
        raise UnreadableConfig(
            None, f"is larger than {_LARGEST_FILE} bytes; that is no config; name another file"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableConfig(line, "is not UTF-8; save the file as UTF-8") from None


def with_secrets_of(config: Config, fresh: Config, names: Collection[str]) -> Config:
    """`config`, in which those of the named mirrors are as in `fresh` that differ in what is secret alone."""
    read = {mirror.name: mirror for mirror in fresh.mirrors if mirror.name in names}
    mirrors = [_renewed(mirror, read.get(mirror.name, mirror)) for mirror in config.mirrors]
    return dataclasses.replace(config, mirrors=tuple(mirrors))


def _renewed(mirror: MirrorConfig, fresh: MirrorConfig) -> MirrorConfig:
    """What is secret looks the same, whatever it is."""
    return fresh if repr(fresh) == repr(mirror) else mirror
