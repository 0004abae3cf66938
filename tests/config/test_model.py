from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.config.kinds import parse_duration, write_duration
from kbsync.config.model import (
    MAX_NAME_LENGTH,
    Config,
    DocumentRule,
    MirrorConfig,
    folder_config,
    folder_name,
    settings_for,
)
from kbsync.targets.local.config import LocalTargetConfig
from tests.share import long

RULES = (
    DocumentRule("faq/old/", {"local": {"kind": 1}}),
    DocumentRule("faq/**/*.csv", {"local": {"kind": 2}}),
    DocumentRule("*.csv"),
    DocumentRule("*.csv", {"local": {"kind": 3}}),
)


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        ("faq/a.csv", {"kind": 2}),
        ("faq/x/y/a.csv", {"kind": 2}),
        ("faq/old/a.csv", {"kind": 1}),
        ("a.csv", {}),
        ("x/faq/a.csv", {}),
        ("faq/a.md", {}),
        ("faq/\udcff.csv", {"kind": 2}),
    ],
)
def test_first_matching_rule_provides_the_settings(path: str, settings: dict[str, int]) -> None:
    mirror = MirrorConfig(name="a", folder=Path("/srv/a"), documents=RULES)
    assert settings_for(mirror, path, "local") == settings
    assert settings_for(mirror, path, "other") == {}


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/srv/docs", "docs"),
        ("/srv/My Docs/", "my-docs"),
        ("/srv/Q&A (2024)", "q-a--2024"),
        ("/srv/_drafts_", "drafts"),
        ("/srv/v1.2", "v1-2"),
        ("/srv/手册", "folder"),
        ("/srv/...", "folder"),
        ("/", "folder"),
        ("/srv/docs/..", "srv"),
        ("/srv/" + "x" * 255, "x" * MAX_NAME_LENGTH),
        ("/srv/caf\udce9", "caf"),
    ],
)
def test_folder_mirror_name_is_its_basename_in_plain_letters(folder: str, name: str) -> None:
    assert folder_name(Path(folder)) == name


@long
@given(
    st.text(st.characters(exclude_characters="/\0"), min_size=1).filter(lambda name: name not in (".", ".."))
)
def test_every_folder_gets_a_valid_name(basename: str) -> None:
    name = folder_name(Path("/srv", basename))
    assert 0 < len(name) <= MAX_NAME_LENGTH
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not name.startswith("-")


def test_folder_option_replaces_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Link").symlink_to("elsewhere")
    monkeypatch.chdir(tmp_path)
    expected = Config(
        mirrors=(MirrorConfig(name="link", folder=tmp_path / "Link", target=LocalTargetConfig()),)
    )
    assert folder_config(Path("Link")) == expected
    assert folder_config(Path("../") / tmp_path.name / "Link") == expected


def test_tilde_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert folder_config(Path("~/docs")).mirrors[0].folder == Path("/home/someone/docs")
    assert folder_config(Path("~nobody-of-that-name")).mirrors[0].folder.name == "~nobody-of-that-name"


def test_valid_forms_are_parsed() -> None:
    forms = {"500ms": 0.5, "2s": 2.0, "0.5s": 0.5, "15m": 900.0, "1h": 3600.0, "1d": 86400.0, "2w": 1209600.0}
    assert {text: parse_duration(text) for text in forms} == forms


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-1s", "1.s", "2 s", "2S", "2s\n", "1h30m", "٢s", "1e3s", "infs"]
)
def test_invalid_forms_are_refused_listing_the_valid_ones(text: str) -> None:
    with pytest.raises(ValueError, match="such as 500ms, 2s, 15m, 1h, 1d or 2w"):
        parse_duration(text)


def test_written_durations_are_short() -> None:
    seconds = (0.0, 0.1, 2.0, 90.0, 900.0, 7200.0, 86400.0)
    assert " ".join(map(write_duration, seconds)) == "0s 100ms 2s 90s 15m 2h 1d"
