from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from kbsync.config.template import SHIPPED_SCHEMA
from kbsync.config.yaml import read_yaml
from tools.config_schema import schema, text

from .reading import problems

ROOT = Path(__file__).parents[2]
RENEW = "renew it: python -m tools.config_schema config.schema.json kbsync/config/schema.json"
jsonschema: Any = importlib.import_module("jsonschema")  # it has no types


def accepts(value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema()).is_valid(value))


@pytest.mark.parametrize("file", [ROOT / "config.schema.json", SHIPPED_SCHEMA])
def test_checked_in_schema_matches_the_model(file: Path) -> None:
    assert file.read_text() == text(), RENEW


def every(part: Any, key_path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return all keys of the schema with their descriptions."""
    matching = []
    for key, value in part.get("properties", {}).items():
        matching += [(f"{key_path}.{key}", value), *every(value, f"{key_path}.{key}")]
    for inner in [part["items"]] if "items" in part else part.get("oneOf", []):
        matching += every(inner, key_path)
    return matching


def test_every_key_is_described_and_every_block_is_closed() -> None:
    keys = every(schema())
    assert len(keys) > 30
    assert [key_path for key_path, value in keys if not value.get("description")] == []
    assert not any(value["additionalProperties"] for _, value in keys if value.get("type") == "object")


def test_schema_defaults_are_written_as_in_a_config() -> None:
    keys = dict(every(schema()))
    assert keys[".mirrors.settle"]["default"] == "2s"
    assert keys[".mirrors.deep_rescan"]["default"] == "1d"
    assert keys[".mirrors.target.concurrency"]["default"] == 4
    assert "default" not in keys[".mirrors.include"]


def test_schema_offers_secret_files_and_hides_internal_fields() -> None:
    keys = dict(every(schema()))
    assert ".notify.url_file" in keys
    assert ".mirrors.target.api_key_file" in keys
    assert ".path" not in keys
    assert ".mirrors.documents.settings" not in keys


def test_example_config_validates_against_the_schema() -> None:
    assert accepts(read_yaml((ROOT / "config.example.yaml").read_text()).value)


MIRROR = {"name": "a", "folder": "/srv/a"}
ZHIPU = {"type": "zhipu", "api_key": "k.s", "knowledge_id": "17"}


@pytest.mark.parametrize(
    ("extra", "good"),
    [
        ({}, True),
        ({"settle": "2s"}, True),
        ({"settle": "${SETTLE}"}, True),
        ({"settle": 2}, False),
        ({"include": []}, False),
        ({"include": ["*.md"]}, True),
        ({"exclude": "x"}, False),
        ({"observer": "poll"}, False),
        ({"deletions": {"hold_fraction": 2}}, False),
        ({"deletions": {"hold_fraction": 0.5}}, True),
        ({"deletions": "never"}, True),
        ({"deletions": "ever"}, False),
        ({"deletions": {"never": True}}, False),
        ({"target": {}}, True),
        ({"target": {"type": "milvus"}}, False),
        ({"target": {"type": "zhipu"}}, False),
        ({"target": ZHIPU}, True),
        ({"target": {**ZHIPU, "type": "local"}}, False),
        ({"target": {key: ZHIPU[key] for key in ("api_key", "knowledge_id")}}, False),
        ({"target": {key: ZHIPU[key] for key in ("type", "knowledge_id")}}, False),
        ({"target": {key: ZHIPU[key] for key in ("type", "api_key")}}, False),
        ({"target": {**ZHIPU, "api_key_file": "secret"}}, False),
        ({"target": {**ZHIPU, "knowledge_id": 17}}, False),
        ({"target": {**ZHIPU, "base_url": "https://user@host/api"}}, False),
        ({"target": {**ZHIPU, "base_url": "https://host:8443/api/"}}, True),
        ({"target": {**ZHIPU, "concurrency": 65}}, False),
        ({"target": {**ZHIPU, "vectorization": {"absent_after": "15"}}}, False),
        ({"target": {"type": "local", "embedding": {"type": "cohere"}}}, False),
        ({"documents": [{"match": "!a"}]}, False),
        ({"documents": [{"zhipu": {}}]}, False),
        ({"documents": [{"match": "a", "milvus": {}}]}, False),
        ({"documents": [{"match": "a", "zhipu": {"knowledge_type": 3, "parse_image": True}}]}, True),
        ({"documents": [{"match": "a", "zhipu": {"knowledge_type": 4}}]}, False),
        ({"documents": [{"match": "a", "zhipu": {"parse_image": 1}}]}, False),
        ({"documents": [{"match": "a", "zhipu": {"knowledge_type": 5, "custom_separator": ["。"]}}]}, True),
        ({"documents": [{"match": "a", "zhipu": {"knowledge_type": 5, "custom_separator": []}}]}, False),
        ({"documents": [{"match": "a", "zhipu": {"knowledge_type": 5, "sentence_size": 19}}]}, False),
        ({"name": "A"}, False),
    ],
)
def test_schema_and_loader_accept_the_same(tmp_path: Path, extra: dict[str, Any], good: bool) -> None:
    config = {"mirrors": [{**MIRROR, **extra}]}
    assert accepts(config) is good
    assert (problems(tmp_path, yaml.safe_dump(config), SETTLE="2s") == []) is good
