"""Tests that `--folder` selects the mirror of the folder or of a folder above it, wherever its config is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.cures import proves
from tests.cli.pasting import paste
from tests.cli.sandbox import Sandbox
from tests.share import enumerated, long


@pytest.fixture
def nested(sandbox: Sandbox) -> Sandbox:
    sandbox.write_all({"a.md": "the albatross is here", "guides/deep/b.md": "the bustard is deep"})
    return sandbox


def copies(sandbox: Sandbox) -> list[Path]:
    """Return the states that `--folder` created."""
    return list((sandbox.state / "folders").glob("*/state.db"))


def paths(sandbox: Sandbox, query: str, folder: str) -> list[str]:
    result = sandbox.run("search", query, "--folder", folder, "--json").check_success()
    return [hit["path"] for hit in result.json["hits"]]


@long
@enumerated()
@pytest.mark.parametrize("folder", ["docs", "docs/guides", "docs/guides/deep", "way", "way/guides"])
def test_folder_inside_a_configured_mirror_gets_no_second_copy(nested: Sandbox, folder: str) -> None:
    (nested.root / "way").symlink_to("docs")
    assert nested.run("init", "docs").code == 0
    assert nested.run("--once").code == 0
    assert "guides/deep/b.md" in paths(nested, "bustard", folder)
    [mirror] = nested.run("status", "--folder", folder, "--json").json["mirrors"]
    assert (mirror["name"], mirror["documents"]["ready"]) == ("docs", 2)
    nested.write("c.md", "the curlew is new")
    assert nested.run("plan", "--folder", folder, "--json").json["mirrors"][0]["upload"] == ["c.md"]
    result = nested.run("--once", "--folder", folder, "--json")
    assert (result.code, result.json["uploaded"]) == (0, 1)
    assert copies(nested) == []


def test_suggested_command_before_the_first_pass_makes_no_copy(nested: Sandbox) -> None:
    assert nested.run("init", "docs").code == 0
    result = nested.run("search", "bustard", "--folder", "docs")
    assert result.code == 2
    assert result.err.rstrip().endswith("; run: kbsync --once")


@long
def test_subfolder_of_a_folder_mirror_uses_that_mirror(nested: Sandbox) -> None:
    assert nested.run("--once", "--folder", "docs").code == 0
    assert "guides/deep/b.md" in paths(nested, "bustard", "docs/guides")
    assert nested.run("--once", "--folder", "docs/guides").code == 0
    assert len(copies(nested)) == 1
    nested.write("guides/new/c.md", "made after the pass")
    assert nested.run("--once", "--folder", "docs/guides/new", "--json").json["uploaded"] == 1


@long
def test_only_mirrors_of_the_given_folder_are_used(nested: Sandbox) -> None:
    nested.configure()
    nested.add_mirror("other", {"b.md": "another bustard"})
    assert nested.run("--once").code == 0
    assert paths(nested, "bustard", "other") == ["b.md"]
    assert "b.md" not in paths(nested, "bustard", "docs")


@long
@enumerated()
@pytest.mark.parametrize("folder", ["exclude", "ignore file"])
def test_folder_excluded_from_a_mirror_can_get_its_own(nested: Sandbox, folder: str) -> None:
    nested.configure('exclude: ["guides/"]' if folder == "exclude" else "")
    if folder == "ignore file":
        nested.write(".kbsyncignore", "guides/\n")
    assert nested.run("--once").code == 0
    assert nested.run("--once", "--folder", "docs/guides").code == 0
    assert paths(nested, "bustard", "docs/guides/deep") == ["deep/b.md"]


@long
def test_ignore_file_with_non_utf8_lines_leaves_subfolders_mirrored(nested: Sandbox) -> None:
    nested.write(".kbsyncignore", b"caf\xe9*\n")
    assert nested.run("--once", "--folder", "docs").code == 0
    assert "guides/deep/b.md" in paths(nested, "bustard", "docs/guides")
    assert nested.run("--once", "--folder", "docs/guides").code == 0
    assert len(copies(nested)) == 1


@long
def test_explicit_state_dir_is_used(nested: Sandbox) -> None:
    nested.configure()
    assert nested.run("--once").code == 0
    nested.run("--once", "--folder", "docs", "--state-dir", "other").check_success()
    [mirror] = nested.run("status", "--folder", "docs", "--state-dir", "other", "--json").json["mirrors"]
    assert mirror["name"] == "docs"


@long
def test_folder_mirror_serves_until_the_config_has_mirrored_the_folder(nested: Sandbox) -> None:
    assert nested.run("--once", "--folder", "docs").code == 0
    nested.configure()
    assert paths(nested, "bustard", "docs") == ["guides/deep/b.md"]
    assert nested.run("--once").code == 0
    [mirror] = nested.run("status", "--folder", "docs", "--json").json["mirrors"]
    assert mirror["name"] == "handbook"


@long
def test_unusable_config_does_not_block_commands_for_another_folder(nested: Sandbox) -> None:
    nested.configure().write_text("mirrors: nothing")
    assert nested.run("--once", "--folder", "docs").code == 0
    assert paths(nested, "bustard", "docs") == ["guides/deep/b.md"]


@long
@proves("explain {}")
def test_with_a_config_explain_names_the_command_for_a_folder_mirror(nested: Sandbox) -> None:
    """A config in use takes the place of the automatic choice, and `explain` says so."""
    assert nested.run("--once", "--folder", "docs").code == 0
    assert nested.run("search", "albatross", cwd=nested.docs).code == 0
    nested.add_folder("other", {"c.md": "another curlew"})
    assert nested.run("init", "other").code == 0
    for typed, subfolder, path in (
        ("a.md", "docs", "a.md"),
        ("deep/b.md", "docs/guides", "guides/deep/b.md"),
    ):
        result = nested.run("explain", typed, cwd=nested.root / subfolder)
        assert (result.code, "no mirrored folder contains it" in result.out) == (2, False)
        assert (
            f"{nested.docs} is mirrored with `--folder`, but the config has different folders" in result.out
        )
        [command] = re.findall(r"`(kbsync explain [^`]*)`", result.out)
        pasted = paste(nested, command)
        assert (pasted.code, pasted.out.splitlines()[:2]) == (0, [f"docs: {path}", "The file is searchable."])
    result = nested.run("explain", nested.root / "nowhere.md")
    assert "no mirrored folder contains it" in result.out
