"""The commented config that `kbsync init` writes.

Its comments are the descriptions of the keys in the model.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kbsync.config.kinds import ValueKind
from kbsync.config.model import Config, Field, MirrorConfig, folder_name, settings_of
from kbsync.config.secrets import Confidential
from kbsync.config.target import BaseId
from kbsync.config.yaml import Value
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.errors import UsageError
from kbsync.targets.registry import TARGETS

SHIPPED_SCHEMA = Path(__file__).with_name("schema.json")
"""The path to the installed JSON schema, so that editors can autocomplete a config offline."""

_HEAD = """\
# yaml-language-server: $schema={schema}
# kbsync: which folders to mirror, and into which knowledge bases.
# Commented keys show a default or an example. Times are written as 500ms, 2s, 15m, 1h. Paths are relative to
# this file's directory, ~ is your home. ${{NAME}} comes from the environment.

"""

_MIRROR = """\
mirrors:
  - name: {name}
    folder: {folder}

"""

_GLOBAL_EXAMPLES = {
    "log_level": "info",
    "http": "{listen: 127.0.0.1:9753}",
    "notify": "{command: [/usr/local/bin/tell], on: [halted, recovered, quarantined]}",
}
_MIRROR_EXAMPLES = {
    "include": '["**/*.md", "**/*.pdf"]',
    "exclude": '["drafts/"]',
    "settle": "2s",
    "settle_longest": "60s",
    "rescan": "15m",
    "deep_rescan": "24h",
    "observer": "auto",
    "deletions": "{hold_fraction: 0.2, hold_count: 5, hold_window: 1h}",
    "adopt": "content",
}
"""The keys to show, each with an example value: the default, if that is a plain value."""

_LOCAL = """\
    # The knowledge base: the built-in one, in the state directory.
    target:
      type: local
      # path: /srv/kb                 # another place, outside every mirrored folder
      # max_bytes: 100000000          # refuse larger files
      # embedding: {type: builtin}    # or {type: onnx, path: /srv/models/mine}
"""

_SERVICE = """\
    # The knowledge base, on a service or in a database. Don't write a key or password here.
    target:
"""


def commented_config(
    folder: Path,
    target: Sequence[str] | None = None,
    state_dir: Path | None = None,
    usual_state_dir: Path = Path("/var/lib/kbsync"),
    name: str | None = None,
    exclude: Sequence[str] = (),
) -> str:
    """Return a config that mirrors `folder`, with every default.

    `target`: the lines of its target's block (see `target_lines`); None for the built-in knowledge base.
    `state_dir`: the absolute path of the state; None for `usual_state_dir`. `name`: the mirror's name; None
    for the folder's. `exclude`: its exclude patterns. Raises UsageError for a path that isn't UTF-8, which a
    YAML file can't contain.
    """
    absolute = os.path.abspath(folder)  # noqa: PTH100 (Path.absolute keeps `..`)
    block = _LOCAL if target is None else _SERVICE + "".join(f"{line}\n" for line in target)
    quoted_dir = quoted(str(state_dir or usual_state_dir))
    state = f"# state_dir: {quoted_dir}" if state_dir is None else f"state_dir: {quoted_dir}"
    parts = [_HEAD.format(schema=SHIPPED_SCHEMA.as_uri()), _describe_key(Config, "state_dir", state, "")]
    parts += [_describe_key(Config, key, f"# {key}: {value}", "") for key, value in _GLOBAL_EXAMPLES.items()]
    parts.append(_MIRROR.format(name=quoted(name or folder_name(folder)), folder=quoted(absolute, INSTEAD)))
    indent = " " * 4
    settings = {key: f"# {key}: {value}" for key, value in _MIRROR_EXAMPLES.items()}
    if exclude:
        settings["exclude"] = f"exclude: [{', '.join(map(quoted, exclude))}]"
    parts += [_describe_key(MirrorConfig, key, setting, indent) for key, setting in settings.items()]
    return "".join([*parts, block])


def _describe_key(block: type, key: str, setting: str, indent: str) -> str:
    """Return the description of a key, the line `setting` below it, and a blank line."""
    mark = settings_of(block)[key].mark
    sentence = mark.plain[0].upper() + mark.plain[1:]
    about = textwrap.wrap(sentence, 98 - len(indent), break_on_hyphens=False)
    return "".join(f"{indent}{line}\n" for line in (*(f"# {line}" for line in about), setting)) + "\n"


def quoted(text: str, fix: str = "") -> str:
    """Return `text` as a quoted YAML string. Raises the same `UsageError` as `escaped`."""
    return as_yaml(escaped(text, fix))


INSTEAD = "; use --folder instead"
"""What to do about the path of a folder that a config can't contain."""


def escaped(text: str, fix: str = "") -> str:
    """Return `text` with references escaped. Raises `UsageError`, with the hint `fix`, if it isn't UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        why = f"{printable(text)} is not text (UTF-8), so a config can't contain it"
        raise UsageError(f"{why}{fix}") from None
    return text.replace("${", "$${")


def as_yaml(value: Value) -> str:
    """Return a text, list or block on one line. If its texts are printable, the line is also valid JSON."""
    # YAML reads JSON, except for characters that JSON doesn't escape although they aren't printable.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08X}" for letter in text)


KEY = "api_key"
_INDENT, _COMMENT = " " * 6, 38


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a key comes from: an environment variable or a file, but never the config itself."""

    env: str = ""
    file: str = ""

    def line(self, key: str) -> str:
        """Return the setting `key` as a line of the config."""
        return f"{key}_file: {quoted(self.file)}" if self.file else f"{key}: ${{{self.env}}}"


def base_key(target: str) -> str | None:
    """Return the config key for the id of a knowledge base, or None if the target type has none."""
    named = (
        name for name, setting in settings_of(TARGETS[target]).items() if isinstance(setting.mark, BaseId)
    )
    return next(named, None)


def has_address(target: str) -> bool:
    """Return whether the URL of this type's service can be set."""
    return "base_url" in settings_of(TARGETS[target])


def secret_key(target: str) -> str | None:
    """Return the setting for the required secret: a service's key or a database's `dsn`."""
    required = ((name, kind) for name, setting, kind in _settings(target) if setting.is_required)
    return next((name for name, kind in required if isinstance(kind, Confidential)), None)


def secret_variable(target: str) -> str:
    """Return the variable that holds this type's required secret; for example, `ZHIPU_API_KEY`."""
    return f"{target}_{secret_key(target)}".upper()


def default_key(target: str) -> KeySource | None:
    """Return the source from which `--folder` reads the required secret, or None if the target type has
    none.
    """
    return None if secret_key(target) is None else KeySource(env=secret_variable(target))


def required_keys(target: str) -> dict[str, str]:
    """Return the required keys of a target of this type, each with its description.

    The secret isn't included.
    """
    required = {name: kind.plain for name, setting, kind in _settings(target) if setting.is_required}
    return {name: about for name, about in required.items() if name != secret_key(target)}


def target_lines(target: str, key: KeySource | None, values: Mapping[str, str]) -> list[str]:
    """Return the lines of the block below `target:`: first the keys that are set, then the others with their
    defaults.
    """
    secret = secret_key(target)
    lines = [f"type: {target}", *([key.line(secret)] if key and secret else [])]
    lines += [f"{name}: {quoted(value)}" for name, value in values.items()]
    for name, option, kind in _settings(target):
        if name not in values and isinstance(option.default, int | float | str):
            value = '""' if option.default == "" else kind.written(option.default)
            setting = f"# {name}: {value}"
            lines.append(f"{setting:{_COMMENT}} # {kind.plain}" if kind.about else setting)
    return [_INDENT + line for line in lines]


def _settings(target: str) -> Iterator[tuple[str, Field, ValueKind]]:
    """Yield the keys with single values. Blocks are described only in the docs."""
    for name, setting in settings_of(TARGETS[target]).items():
        if isinstance(setting.mark, ValueKind) and name != "type":
            yield name, setting, setting.mark
