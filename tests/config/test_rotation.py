"""Secrets that were given anew are taken alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.config.model import Config
from kbsync.config.reader import load, with_secrets_of

CONFIG = """\
mirrors:
  - name: one
    folder: one
    target: {type: zhipu, knowledge_id: "1", api_key_file: key}
  - name: two
    folder: two
    target: {type: zhipu, knowledge_id: "2", api_key_file: key}
"""


def read(place: Path, key: str, text: str = CONFIG) -> Config:
    (place / "key").write_text(key)
    (place / "config.yaml").write_text(text)
    return load(place / "config.yaml", {})


def test_the_new_key_of_those_that_are_named_is_taken(tmp_path: Path) -> None:
    before, fresh = read(tmp_path, "kid.before"), read(tmp_path, "kid.after")
    assert with_secrets_of(before, fresh, ["two"]).mirrors == (before.mirrors[0], fresh.mirrors[1])
    assert with_secrets_of(before, before, ["two"]) == before


@pytest.mark.parametrize(("old", "new"), [('id: "1"', 'id: "3"'), ("name: one", "name: other")])
def test_a_mirror_that_differs_otherwise_too_stays_as_it_was(tmp_path: Path, old: str, new: str) -> None:
    before = read(tmp_path, "kid.before")
    fresh = read(tmp_path, "kid.after", CONFIG.replace(old, new))
    assert with_secrets_of(before, fresh, ["one"]) == before


def test_nothing_else_is_taken(tmp_path: Path) -> None:
    before = read(tmp_path, "kid.before")
    fresh = read(tmp_path, "kid.after", f"log_level: error\n{CONFIG}")
    taken = with_secrets_of(before, fresh, ["one", "two"])
    assert taken.mirrors == fresh.mirrors
    assert taken.log_level is None
