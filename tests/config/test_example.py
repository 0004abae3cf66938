from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kbsync.config.model import blocks, folder_config, known_keys
from kbsync.config.reader import load
from kbsync.config.template import SHIPPED_SCHEMA, commented_config
from kbsync.errors import UsageError
from tests.share import long

from .reading import HOME, read

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"
BASENAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=60)


def test_example_config_shows_every_key() -> None:
    text = EXAMPLE.read_text()
    missing = [
        f"{home}.{key}"
        for home, block in blocks()
        for key in known_keys(block)
        if not re.search(rf"\b{key}:", text)
    ]
    assert missing == [], f"{EXAMPLE.name} lacks these keys"


def test_example_config_names_the_checked_in_schema() -> None:
    first = EXAMPLE.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=./config.schema.json"
    assert (ROOT / "config.schema.json").is_file()


def test_example_config_shows_the_actual_defaults(tmp_path: Path) -> None:
    handbook = load(EXAMPLE, {"HOME": HOME}).mirrors[1]
    plain = folder_config(Path("/srv/handbook")).mirrors[0]
    for key in ("settle", "settle_longest", "rescan", "deep_rescan"):
        assert getattr(handbook, key) == getattr(plain, key)
    for key in ("prefix", "renames", "names", "observer"):
        assert getattr(handbook, key) == getattr(plain, key)
    assert (handbook.deletions, handbook.adopt) == (plain.deletions, plain.adopt)
    assert handbook.target.max_bytes == plain.target.max_bytes


@long
@given(BASENAMES)
@example('My "Docs" \\ #1: ${HOME} é 手册 😀')
def test_any_writable_folder_name_round_trips(basename: str) -> None:
    folder = Path("/srv", basename) if basename not in (".", "..") else Path("/srv")
    with TemporaryDirectory() as directory:
        assert (
            read(Path(directory), commented_config(folder).encode()).mirrors == folder_config(folder).mirrors
        )


def test_written_config_comments_show_the_actual_defaults(tmp_path: Path) -> None:
    text = commented_config(tmp_path / "docs")
    keys = re.findall(r"^    # ([a-z_]+: .*)$", text, re.MULTILINE)
    defaults = [line for line in keys if not line.startswith(("include", "exclude", "path"))]
    assert len(defaults) >= 6
    inserted = text.replace("    target:", "".join(f"    {line}\n" for line in defaults) + "    target:")
    assert yaml.safe_load(inserted) != yaml.safe_load(text)
    assert read(tmp_path, inserted).mirrors == read(tmp_path, text).mirrors


def test_written_config_names_the_installed_schema(tmp_path: Path) -> None:
    first = commented_config(tmp_path / "docs").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SHIPPED_SCHEMA.as_uri()}"
    assert SHIPPED_SCHEMA.is_file()


def test_folder_that_yaml_cannot_represent_is_reported() -> None:
    with pytest.raises(UsageError, match=r"^/srv/caf\\xe9 is not text \(UTF-8\), .*; use --folder instead$"):
        commented_config(Path("/srv/caf\udce9"))
