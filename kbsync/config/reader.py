"""Reads a config file and turns its YAML into a `Config`, or reports all its problems at once.

The file becomes a `Draft`. A single walk over the model reads the settings, including values from the
environment and secret files, and `checks` compares settings with each other. An invalid value becomes None,
which can't come from a file, so that the rest can still be checked.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args, get_origin

from kbsync.config.checks import conflicts
from kbsync.config.kinds import (
    About,
    Absent,
    Location,
    Mark,
    OneOf,
    Others,
    RefusedValue,
    Substituted,
    ValueKind,
    format_value,
    not_among,
)
from kbsync.config.model import (
    Config,
    ConfigSource,
    DocumentRule,
    MirrorConfig,
    Needs,
    bare,
    blocks,
    known_keys,
    secret_keys,
    settings_of,
)
from kbsync.config.places import home
from kbsync.config.problems import (
    ConfigError,
    Conflict,
    Loc,
    Problem,
    format_path,
    key_of,
    shorten,
    with_known,
)
from kbsync.config.secrets import Confidential
from kbsync.config.target import BaseId
from kbsync.config.yaml import Tree, UnreadableConfig, Value, read_yaml
from kbsync.core.text import format_list
from kbsync.dataclass import dataclass
from kbsync.errors import TOO_MANY_OPEN_FILES, system_reason
from kbsync.targets.registry import TARGETS


class Draft:
    """A config file while it is being read."""

    def __init__(self, file: Path, tree: Tree) -> None:
        self.file = file
        self._lines = tree.lines
        self._sources: dict[Loc, Loc] = {}
        self._refused: set[Loc] = set()
        # A dictionary as an ordered set: one value may affect two mirrors, but is reported once.
        self._problems = {Problem(file, line, key_of(loc), text): None for loc, line, text in tree.notes}
        for loc, message in tree.refused:
            self.refuse(loc, message)

    def line(self, loc: Loc) -> int | None:
        """Return the line of the value at `loc`, or of the block where the value should be."""
        while loc and loc not in self._lines:
            loc = loc[:-1]
        return self._lines.get(loc)

    def move(self, old: Loc, new: Loc) -> None:
        """Report problems with the value at `new` as problems at `old`, because that is where the value comes
        from.
        """
        self._lines[new] = self._lines[old]
        self._sources[new] = old

    def refuse(self, loc: Loc, message: str) -> None:
        """Record a problem with the value at `loc` and continue without that value."""
        if not any(loc[:length] in self._refused for length in range(len(loc) + 1)):
            self._note(loc, message)
        self._refused.add(loc)

    def withdraw(self, loc: Loc) -> None:
        """Drop the problems with the value at `loc`, because it is being replaced."""
        self._refused.discard(loc)
        self._problems = {problem: None for problem in self._problems if problem.key != key_of(loc)}

    def note_conflict(self, conflict: Conflict) -> None:
        """Record a conflict, unless one of the values involved was already refused."""
        # A placeholder has replaced a refused value, so the user couldn't fix a problem with it.
        for loc in (conflict.loc, *conflict.rests_on):
            if any(loc[: len(bad)] == bad or bad[: len(loc)] == loc for bad in self._refused):
                return
        self._note(conflict.loc, conflict.message)

    def raise_problems(self) -> None:
        """Raise ConfigError if any problem was recorded."""
        if self._problems:
            # Sort the problems in file order, so that the user can fix them in one pass.
            raise ConfigError(sorted(self._problems, key=lambda problem: problem.line or 0))

    def problem(self, loc: Loc, message: str) -> Problem:
        """Return a problem with the value at `loc`, with its line and key."""
        return Problem(self.file, self.line(loc), key_of(self._sources.get(loc, loc)), message)

    def _note(self, loc: Loc, message: str) -> None:
        self._problems[self.problem(loc, message)] = None


# Far more than any key or token needs; a device such as /dev/zero would never end.
_MAX_SECRET_BYTES = 65_536
_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)(\}?)")


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """Return `text` with each `${NAME}` replaced by its value, and `$${` by `${`.

    Raises `RefusedValue` for invalid references.
    """

    # Substitute in one pass: values aren't substituted again, because a secret may contain `${`.
    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if not match[2] or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
            raise RefusedValue(
                f"{shorten(match[0])!r} is not a valid reference; allowed: ${{NAME}}, "
                "or $${ for a literal ${"
            )
        if name not in environ:
            raise RefusedValue(
                f"${{{name}}} is not set in the environment; set it, or write $${{ for a literal ${{"
            )
        return environ[name]

    return Substituted(_REFERENCE.sub(replacement, text))


@dataclass(frozen=True, slots=True)
class PathBase:
    """The directories that paths in a config are relative to: the config's own or, for `~`, the home
    directory.
    """

    base: Path
    home: Path | None

    def absolute(self, text: str) -> Path:
        """Return `text` as an absolute path, with symlinks kept.

        Raises `RefusedValue` if the home directory is unknown.
        """
        first, slash, rest = text.partition("/")
        if first == "~" and self.home is not None:
            text = f"{self.home}{slash}{rest}"
        elif first.startswith("~"):
            text = os.path.expanduser(text)  # noqa: PTH111 (Path.expanduser raises where the user is unknown)
            if text.startswith("~"):
                raise RefusedValue(
                    f"cannot determine the home directory for {shorten(first)!r}; write the full path"
                )
        return Path(os.path.abspath(self.base / text))  # noqa: PTH100 (Path.absolute keeps `..`)


def read_secret(value: Value, where: PathBase) -> str:
    """Return the text of the file named by `value`, without a final newline. Raises `RefusedValue`."""
    if not isinstance(value, str) or not value.strip():
        raise RefusedValue("is not a path; allowed: the path of a file that contains the value")
    path = where.absolute(value)
    # A substituted path may be the secret itself, by mistake, so no message quotes it.
    named = "the file that ${…} names" if isinstance(value, Substituted) else format_path(path)
    try:
        # Non-blocking: a FIFO at this path would hang every command.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RefusedValue(f"{named} is not a file")
            content = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        why = system_reason(error)
        raise RefusedValue(f"{named} cannot be read ({why}); {_fix_for_unread(error)}") from None
    if len(content) > _MAX_SECRET_BYTES:
        raise RefusedValue(f"{named} is too large for a secret (maximum: {_MAX_SECRET_BYTES} bytes)")
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise RefusedValue(f"{named} is not text (UTF-8)") from None
    if not text:
        raise RefusedValue(f"{named} is empty; write the value into it")
    return text


def _fix_for_unread(error: OSError) -> str:
    fix = "check the path and its read permissions"
    return TOO_MANY_OPEN_FILES.get(error.errno or 0, fix)


def unknown_key(loc: Loc, known: Iterable[str]) -> str:
    """Return the message for the unknown key at `loc`: where the key may belong, and the known keys."""
    words, key = tuple(known), str(loc[-1])
    homes = list(dict.fromkeys((home, block) for home, block in blocks() if key in known_keys(block)))
    kinds = [name for _, block in homes for name, known_block in TARGETS.items() if known_block is block]
    if homes and len(kinds) == len(homes):
        home = f"target type {format_list(kinds, 'or')}"
    elif len(homes) == 1:
        home = homes[0][0] or "the top level"
    else:
        return with_known("unknown key", key, words)
    return f"unknown key; {key} belongs in {home}; allowed here: {', '.join(words)}"


_STAND_INS: dict[type, dict[str, Any]] = {
    Config: {"mirrors": (MirrorConfig("unnamed", Path("/")),)},
    MirrorConfig: {"name": "unnamed", "folder": Path("/")},
    DocumentRule: {"match": "*"},
}
"""Placeholders for refused values, so that the other checks can run; conflicts that depend on them are
dropped."""

_LIST = "a list, with each item on its own line after `- `, or with all items in [ ]"


class _Reader:
    """Reads the valid values. An invalid value is reported and read as None."""

    def __init__(self, draft: Draft, environ: Mapping[str, str], where: PathBase, needs: Needs) -> None:
        self._draft, self._environ, self._where = draft, environ, where
        self._needs_secrets = needs.secrets
        # Each base without an id gets a unique one, so that no two mirrors seem to share one.
        self._unnamed = None if needs.bases else itertools.count()

    def block(self, value: Value, block: type, loc: Loc) -> Any:
        """Return a `block` made from `value`, with placeholders where allowed, or None if too much is
        missing.
        """
        arguments: dict[str, Any] = dict(_STAND_INS.get(block, {}))
        if isinstance(value, dict):
            arguments |= self._settings(value, block, loc)
        else:
            self._refuse_form(value, f"a block of keys: {', '.join(known_keys(block))}", loc)
        is_incomplete = any(
            setting.is_required and key not in arguments for key, setting in settings_of(block).items()
        )
        return None if is_incomplete else block(**arguments)

    def _settings(self, value: dict[str, Value], block: type, loc: Loc) -> dict[str, Any]:
        read: dict[str, Any] = {}
        value = self._with_files(value, block, loc)
        for key, setting in settings_of(block).items():
            if isinstance(setting.mark, Others):
                read[key] = self._others(value, setting.mark, loc)
            elif key in value or (self._unnamed is not None and isinstance(setting.mark, BaseId)):
                argument = self._value(value.get(key), setting.hint, setting.mark, (*loc, key))
                if argument is not None:
                    read[key] = argument
                elif key == "type":
                    return {}  # the other keys depend on the type, so all of them would be unknown
            elif setting.is_required and f"{key}_file" not in value:  # with it, the file was already refused
                file = f"; or {key}_file, a file that contains it" if key in secret_keys(block) else ""
                self._draft.refuse((*loc, key), f"is required: {setting.mark.plain}{file}")
        self._refuse_unknown(value, known_keys(block), loc)
        return read

    def _with_files(self, value: dict[str, Value], block: type, loc: Loc) -> dict[str, Value]:
        """Return `value` with the content of each secret file under its key."""
        value = dict(value)
        for key in secret_keys(block):
            key_loc, file_loc = (*loc, key), (*loc, f"{key}_file")
            # The file's path may contain references.
            file_name = self._substitute(value.get(f"{key}_file"), file_loc, is_secret=True)
            if file_name is None:
                continue
            if value.get(key) is not None:
                self._draft.refuse(file_loc, f"conflicts with {key}; keep only one of them")
                continue
            text: str | None
            try:
                text = (
                    file_name
                    if isinstance(file_name, Absent)
                    else Substituted(read_secret(file_name, self._where))
                )
            except RefusedValue as reason:
                text = self._replace_missing(file_loc, reason, is_secret=True)
            if text is not None:
                self._draft.move(file_loc, key_loc)
                value[key] = text
        return value

    def _substitute(self, value: Value, loc: Loc, *, is_secret: bool = False) -> Value:
        """Return `value` with its references replaced, or None if the environment lacks one of them."""
        # Never substitute twice, because a substituted value may contain `${`.
        if type(value) is not str or "${" not in value:
            return value
        try:
            return substitute(value, self._environ)
        except RefusedValue as reason:
            return self._replace_missing(loc, reason, is_secret=is_secret)

    def _check_references(self, value: Value, loc: Loc) -> None:
        """Refuse invalid references in a value that isn't used, so that all problems are reported at once."""
        if isinstance(value, dict | list):
            for step, item in value.items() if isinstance(value, dict) else enumerate(value):
                self._check_references(item, (*loc, step))
        else:
            self._substitute(value, loc)

    def _replace_missing(self, loc: Loc, reason: RefusedValue, *, is_secret: bool) -> Absent | None:
        """Return the placeholder for an unavailable value.

        The value is refused unless it is a secret that isn't needed yet.
        """
        if is_secret and not self._needs_secrets:
            return Absent(self._draft.problem(loc, str(reason)))
        self._draft.refuse(loc, str(reason))
        return None

    def _value(self, value: Value, hint: Any, mark: Mark | None, loc: Loc) -> Any:
        if isinstance(mark, ValueKind):
            return self._single(value, mark, loc)
        if isinstance(mark, OneOf):
            return self._one_of(value, mark, loc)
        if get_origin(hint) is tuple:
            return self._items(value, hint, mark, loc)
        words = mark.words if isinstance(mark, About) else {}
        if words and not isinstance(value, dict):
            text = self._substitute(value, loc)
            if isinstance(text, str) and text in words:
                return words[text]
            if text is not None or value is None:
                keys = ", ".join(known_keys(hint))
                self._refuse_form(text, f"a block of keys: {keys}; or {', '.join(words)}", loc)
            return None
        return self.block(value, hint, loc)

    def _single(self, value: Value, kind: ValueKind, loc: Loc) -> Any:
        if isinstance(value, list):
            value = [self._substitute(item, (*loc, index)) for index, item in enumerate(value)]
        else:
            value = self._substitute(value, loc, is_secret=isinstance(kind, Confidential))
        if not value and self._unnamed is not None and isinstance(kind, BaseId):
            self._draft.withdraw(loc)
            return f"{_UNNAMED}{next(self._unnamed)}"
        if value is None or (isinstance(value, list) and None in value):
            return None
        try:
            if isinstance(kind, Location):
                return self._where.absolute(kind.read(value))
            return kind.read(value)
        except RefusedValue as reason:
            self._draft.refuse(loc, str(reason))
        return None

    def _one_of(self, value: Value, union: OneOf, loc: Loc) -> Any:
        if isinstance(value, dict) and "type" in value:
            value = {**value, "type": self._substitute(value["type"], (*loc, "type"))}
        chosen = union.chosen(value)
        if chosen is not None:
            return self.block(value, chosen, loc)
        if isinstance(value, dict):
            self._check_references({key: item for key, item in value.items() if key != "type"}, loc)
            self._draft.refuse((*loc, "type"), not_among(value["type"], union.choices, union.noun))
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
        items = tuple(self._value(item_value, *item, (*loc, index)) for index, item_value in enumerate(value))
        return None if None in items else items

    def _others(self, value: dict[str, Value], others: Others, loc: Loc) -> dict[str, Any]:
        """Return the valid settings for each of these names in the block `value`."""
        read: dict[str, Any] = {}
        for name in others.names:
            settings, known, name_loc = value.get(name), others.known(name), (*loc, name)
            if settings is None:
                continue
            read[name] = {}
            if not isinstance(settings, dict):
                self._refuse_form(settings, "a block of keys", name_loc)
                continue
            self._refuse_unknown(settings, known, name_loc)
            for key, item in settings.items():
                if key in known and (setting := self._single(item, known[key], (*name_loc, key))) is not None:
                    read[name][key] = setting
        return read

    def _refuse_unknown(self, value: dict[str, Value], known: Collection[str], loc: Loc) -> None:
        for key in (name for name in value if name not in known):
            self._check_references(value[key], (*loc, key))
            self._draft.refuse((*loc, key), unknown_key((*loc, key), known))

    def _refuse_form(self, value: Value, allowed: str, loc: Loc) -> None:
        """Refuse a value of the wrong type without quoting it, because someone may have put a secret in place
        of a block.
        """
        self._check_references(value, loc)
        form = "text" if isinstance(value, str) else format_value(value)
        self._draft.refuse(loc, f"{form} is not valid; allowed: {allowed}")


# Far more than any config needs; protects memory if a log or database is named by mistake.
_MAX_FILE_BYTES = 262_144
_UNNAMED = "not-named-yet-"
ALL = Needs()


def load(path: Path, environ: Mapping[str, str], needs: Needs = ALL) -> Config:
    """Return the config at `path`, with references replaced by values from `environ`.

    Raises ConfigError, which lists all problems.
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`)
    return load_content(file, read_content(file), environ, needs)


def load_content(file: Path, content: bytes, environ: Mapping[str, str], needs: Needs = ALL) -> Config:
    """Read a config like `load`, but from `content`, which may not have been written to `file` (an absolute
    path) yet.
    """
    try:
        tree = read_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem(file, line, "", "is not UTF-8; save the file as UTF-8")
        raise ConfigError([problem]) from None
    except UnreadableConfig as error:
        raise ConfigError([Problem(file, error.line, "", str(error))]) from None
    draft = Draft(file, tree)
    where = PathBase(file.parent, home(environ))
    value: Value = {} if tree.value is None and not needs.mirrors else tree.value
    if not isinstance(value, dict):
        form = "is empty" if tree.value is None else "is not a block of keys"
        draft.refuse((), f"{form}; begin with `mirrors:`; `kbsync init` writes an example")
    # A refused value has its default or a placeholder here, so that the rest can be checked.
    config: Config = _Reader(draft, environ, where, needs).block(value, Config, ())
    for conflict in conflicts(config, needs):
        draft.note_conflict(conflict)
    mirrors = config.mirrors
    if not needs.mirrors and isinstance(value, dict) and value.get("mirrors") in (None, []):
        draft.withdraw(("mirrors",))
        mirrors = ()
    draft.raise_problems()
    mirrors = tuple(
        dataclasses.replace(mirror, quiet_hours=config.quiet_hours or None)
        if mirror.quiet_hours is None
        else mirror
        for mirror in mirrors
    )
    source = ConfigSource(sha256(content).digest(), needs)
    return dataclasses.replace(config, mirrors=mirrors, path=file, source=source)


def load_changed(config: Config, environ: Mapping[str, str]) -> Config:
    """Return the current config in the file that `config` was read from, or `config` itself if the file
    hasn't changed.

    A pipe, as in `--config <(…)`, can be read only once. Raises ConfigError.
    """
    if config.path is None or config.source is None or config.path.is_fifo():
        return config
    content = read_content(config.path)
    if sha256(content).digest() == config.source.digest:
        return config
    return load_content(config.path, content, environ, config.source.needs)


def read_content(file: Path) -> bytes:
    """Return the bytes of a config file. Raises ConfigError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        why = system_reason(error)
        message = f"cannot be read ({why}); {_fix_for_unread(error)}"
        raise ConfigError([Problem(file, None, "", message)]) from None
    if len(content) > _MAX_FILE_BYTES:
        message = f"is too large for a config (maximum: {_MAX_FILE_BYTES} bytes); choose another file"
        raise ConfigError([Problem(file, None, "", message)])
    return content


def with_secrets_of(config: Config, fresh: Config, names: Collection[str]) -> Config:
    """Return `config` with the mirrors `names` replaced by those in `fresh`, unless they differ in more than
    secrets.
    """
    read = {mirror.name: mirror for mirror in fresh.mirrors if mirror.name in names}
    mirrors = []
    for mirror in config.mirrors:
        new = read.get(mirror.name, mirror)
        # `repr` shows every secret as ***, so mirrors with equal `repr` differ only in secrets.
        mirrors.append(new if repr(new) == repr(mirror) else mirror)
    return dataclasses.replace(config, mirrors=tuple(mirrors))
