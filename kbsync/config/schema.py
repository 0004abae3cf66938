"""The JSON schema of a config, for editors. `python -m kbsync.config.schema` prints it."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from kbsync.config.model import DEFAULT_TARGET, TARGETS, Config
from kbsync.config.shape import blocks, is_required, known_keys, secret_keys, written_defaults

Schema = dict[str, Any]


class _Generator(GenerateJsonSchema):
    """Leaves defaults to `_describe`: pydantic would write seconds where a file has `15m`."""

    def default_schema(self, schema: Any) -> Schema:
        return self.generate_inner(schema["schema"])


def schema() -> Schema:
    """The schema as one document without references, made from the model."""
    raw = TypeAdapter(Config).json_schema(schema_generator=_Generator)
    definitions: Schema = raw.pop("$defs", {})
    named = {**definitions, Config.__name__: raw}
    for _, block in blocks():
        if block.__name__ in named:  # a document rule describes itself
            _describe(block, named[block.__name__])
    tidy: Schema = _tidy(raw, definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **tidy,
        "title": "kbsync",
        "description": "Which folders are mirrored, and into which knowledge bases.",
    }


def _describe(block: type, definition: Schema) -> None:
    """Make the properties of a class those of the file: defaults as written, `_file` beside secrets."""
    properties: Schema = definition["properties"]
    for key, default in written_defaults(block).items():
        properties[key]["default"] = default
    for key in known_keys(block):
        if key not in properties:
            described = properties[key.removesuffix("_file")].get("description", "")
            properties[key] = {
                "type": "string",
                "minLength": 1,
                "description": f"{described}; read from this file",
            }
    definition["description"] = definition["description"].partition(". ")[0].rstrip(".")
    definition["properties"] = {key: properties[key] for key in known_keys(block)}
    _require(block, definition)


def _require(block: type, definition: Schema) -> None:
    """A required secret may be given in either form; the type must be given where it is not the default."""
    required = [key for key in definition.get("required", ()) if key not in secret_keys(block)]
    if block in TARGETS.values() and block is not TARGETS[DEFAULT_TARGET]:
        required = ["type", *required]
    if required:
        definition["required"] = required
    forms = [
        {"oneOf": [{"required": [key]}, {"required": [f"{key}_file"]}]}
        for key in secret_keys(block)
        if is_required(block, key)
    ]
    if forms:
        definition["allOf"] = forms


def _tidy(part: Any, definitions: Schema) -> Any:
    """`part` without references, titles and null: each would be noise while a person types."""
    if isinstance(part, list):
        return [_tidy(one, definitions) for one in part]
    if not isinstance(part, dict):
        return part
    described = {key: one for key, one in part.items() if key not in ("$ref", "title", "discriminator")}
    if "$ref" in part:
        described = {**definitions[part["$ref"].rpartition("/")[2]], **described}
        return _tidy(described, definitions)
    if "anyOf" in described:
        others = [one for one in described.pop("anyOf") if one != {"type": "null"}]
        return _tidy({**others[0], **described}, definitions)
    if "pattern" in described:
        described["pattern"] += r"|\$\{"  # a reference may stand for anything
    return {key: _tidy(one, definitions) for key, one in described.items()}


def text() -> str:
    """The schema as it is checked in."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
