"""The JSON schema of a config, for editors. `python -m tools.config_schema FILE…` writes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_origin

from kbsync.config.kinds import About, OneOf, Others, ValueKind
from kbsync.config.model import Config, Field, bare, secret_keys, settings_of
from kbsync.targets.registry import DEFAULT_TARGET, TARGETS

Schema = dict[str, Any]


def schema() -> Schema:
    """Return the schema as one document without references, generated from the model."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_block(Config),
        "title": "kbsync",
        "description": "Which folders kbsync mirrors, and into which knowledge bases.",
    }


def _block(block: type, about: str = "") -> Schema:
    settings, secrets = settings_of(block), secret_keys(block)
    required = ["type"] if needs_type(block) else []
    required += [key for key, setting in settings.items() if setting.is_required and key not in secrets]
    properties = list[tuple[str, Schema]]()
    for key, setting in settings.items():
        properties += (
            _others(setting.mark) if isinstance(setting.mark, Others) else [(key, _property(setting))]
        )
    for key in secrets:
        of_file = {"type": "string", "minLength": 1, "description": file_about(key)}
        properties.append((f"{key}_file", of_file))
    # A secret is in the config or in a separate file, which `required` alone can't express.
    forms = [
        {"oneOf": [{"required": [key]}, {"required": [f"{key}_file"]}]}
        for key in secrets
        if settings[key].is_required
    ]
    marks = [setting.mark for setting in settings.values()]
    first_sentence = " ".join((block.__doc__ or "").split()).partition(". ")[0].rstrip(".")
    description = next((mark.plain for mark in marks if isinstance(mark, Others)), first_sentence)
    return {
        **_object(about or description, properties),
        **({"required": required} if required else {}),
        "type": "object",
        **({"allOf": forms} if forms else {}),
    }


def _object(about: str, properties: Iterable[tuple[str, Schema]]) -> Schema:
    return {"additionalProperties": False, "description": about, "properties": dict(properties)}


def needs_type(block: type) -> bool:
    """Return whether `block` is that of a target whose type is required."""
    return block in TARGETS.values() and block is not TARGETS[DEFAULT_TARGET]


def file_about(key: str) -> str:
    """Return the description of the `_file` key of a secret."""
    return f"a file with the `{key}`"


def _others(others: Others) -> Iterator[tuple[str, Schema]]:
    for key in others.names:
        settings = ((name, _single(kind)) for name, kind in others.known(key).items())
        yield key, {**_object(f"settings of {others.noun} {key}", settings), "type": "object"}


def _property(setting: Field) -> Schema:
    match setting.mark:
        case ValueKind() as kind:
            has_default = setting.default is not MISSING and setting.default is not None
            return _single(kind) | ({"default": kind.written(setting.default)} if has_default else {})
        case OneOf() as union:
            return {
                "description": union.plain,
                "oneOf": [_block(choice) for choice in union.choices.values()],
            }
    if get_origin(setting.hint) is not tuple:
        block = _block(setting.hint, setting.mark.plain)
        words = list(setting.mark.words) if isinstance(setting.mark, About) else []
        if not words:
            return block
        # A reference may replace a word.
        text = {"type": "string", "pattern": f"^({'|'.join(words)})$|" + r"\$\{"}
        return {"description": block.pop("description"), "oneOf": [block, text]}
    hint, mark = bare(get_args(setting.hint)[0])
    items = _block(hint) if mark is None else _single(mark)
    is_never_empty = isinstance(setting.mark, About) and setting.mark.empty
    rules = {"description": setting.mark.plain, "type": "array", "items": items}
    return rules | ({"minItems": 1} if is_never_empty else {})


def _single(kind: ValueKind) -> Schema:
    described = ({"description": kind.plain} if kind.about else {}) | kind.json()
    if "pattern" in described:  # a reference may replace any value
        described["pattern"] += r"|\$\{"
    return described


def text() -> str:
    """Return the schema as text, as the repository contains it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for file in sys.argv[1:] or ["/dev/stdout"]:
        Path(file).write_text(text())
