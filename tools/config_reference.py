"""Generates the tables of docs/configuration.md from the model: `python -m tools.config_reference FILE`.

The page marks each table with `<!-- keys of NAME -->` and `<!-- end -->`. NAME is `config`, `mirror`,
`service` (the keys that all services share) or a target type.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from kbsync.config.kinds import Bytes, Mark, Others, ValueKind
from kbsync.config.model import Config, MirrorConfig, bare, settings_of
from kbsync.config.secrets import Confidential
from kbsync.config.target import RemoteTargetConfig
from kbsync.core.text import format_size
from kbsync.targets.registry import DEFAULT_TARGET, TARGETS
from tools.config_schema import file_about, needs_type

Rows = Iterator[tuple[str, str, str]]
"""Key, default and description, in Markdown."""

_NONE = "–"
_OWN = ("target.type", "target.base_url", "target.api_key")  # each service describes these
_TABLE = re.compile(r"(<!-- keys of (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def renewed(page: str) -> str:
    """Return the page with every table generated from the model."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{table(match[2])}\n", page)


def table(name: str) -> str:
    """Return the table for a name in the page's markers."""
    rows = (f"| `{key}` | {default} | {about} |\n" for key, default, about in _named(name))
    return "| key | default | |\n|---|---|---|\n" + "".join(rows)


def _named(name: str) -> Rows:
    match name:
        case "config":
            return _rows(Config)
        case "mirror":
            return _rows(MirrorConfig)
        case "service":
            return (row for row in _rows(RemoteTargetConfig, "target.") if row[0] not in _OWN)
        case _ if name == DEFAULT_TARGET:
            return _rows(TARGETS[name], "target.")
    base = TARGETS[DEFAULT_TARGET] if TARGETS[name].keeps_index else RemoteTargetConfig
    shared = {key for key, _, _ in _rows(base, "target.")}.difference(_OWN)
    return (row for row in _rows(TARGETS[name], "target.") if row[0] not in shared)


def _rows(block: type, prefix: str = "") -> Rows:
    """Yield the keys of `block` and the blocks in it, except mirrors and targets, which have
    separate tables.
    """
    for name, setting in settings_of(block).items():
        key, mark = f"{prefix}{name}", setting.mark
        if isinstance(mark, Others):
            yield from _others(mark, prefix)
            continue
        is_required = setting.is_required or (name == "type" and needs_type(block))
        yield key, "required" if is_required else _default(mark, setting.default), _about(mark, setting.hint)
        if isinstance(mark, Confidential):
            yield f"{key}_file", _NONE, file_about(name)
        is_list = get_origin(setting.hint) is tuple
        inner = bare(get_args(setting.hint)[0])[0] if is_list else setting.hint
        if inner is not MirrorConfig and isinstance(inner, type) and is_dataclass(inner):
            yield from _rows(inner, f"{key}[]." if is_list else f"{key}.")


def _others(mark: Others, prefix: str) -> Rows:
    for name in mark.names:
        yield f"{prefix}{name}", "`{}`", f"settings for {mark.noun} `{name}`"
        for key, kind in mark.known(name).items():
            yield f"{prefix}{name}.{key}", _default(kind, None), _about(kind)


def _default(mark: Mark, value: Any) -> str:
    _, _, words = mark.about.partition("; default: ")
    if words or value is None:
        return words or _NONE
    if value is MISSING:  # a block of defaults
        return ""
    written = json.dumps(mark.written(value) if isinstance(mark, ValueKind) else value)
    text = written.strip('"') or '""'
    if isinstance(mark, Bytes):
        return f"`{text}` ({f'{value >> 20} MiB' if value % 2**20 == 0 else format_size(value)})"
    return f"`{text}`"


def _about(mark: Mark, hint: object = None) -> str:
    """Return the description with the allowed values after its first clause."""
    kind = bare(get_args(hint)[0])[1] if get_origin(hint) is tuple else mark
    first, semicolon, others = mark.about.partition("; default: ")[0].partition("; ")
    return first + (kind.limits() if isinstance(kind, ValueKind) else "") + semicolon + others


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(renewed(path.read_text()))
