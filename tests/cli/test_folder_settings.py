"""Tests `--target`, `--url`, `--base` and `--exclude`: mirroring into a service without a config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kbsync.config import folder_options
from kbsync.config.folder_options import FolderOptions
from kbsync.state import lock
from kbsync_standin.zhipu import HOME_ID
from tests.cli.cures import proves
from tests.cli.sandbox import Sandbox
from tests.cli.zhipu import ZhipuSandbox
from tests.share import long


def remembered(sandbox: Sandbox) -> Path:
    [file] = (sandbox.state / "folders").glob("*/folder.json")
    return file


@long
def test_folder_settings_are_remembered_for_later_commands(zhipu: ZhipuSandbox) -> None:
    zhipu.config.unlink()
    zhipu.write("a.md", "alpha")
    env = {"ZHIPU_API_KEY": zhipu.service.key}
    target = ("--folder", "docs", "--target", "zhipu", "--url", f"{zhipu.service.url}/api", "--base", HOME_ID)
    result = zhipu.run("--once", *target)
    assert (result.code, result.words) == (
        2,
        "kbsync: ZHIPU_API_KEY must contain the target's key, but isn't set\n",
    )
    assert not list(zhipu.state.glob("folders/*"))  # refused settings are not remembered
    plan = zhipu.run("--once", "--dry-run", *target, env=env)
    assert plan.code == 0 and not list(zhipu.state.glob("folders/*"))
    result = zhipu.run("--once", "--json", *target, env=env)
    assert (result.code, result.json["uploaded"], result.json["mirrors"][0]["target"]) == (0, 1, "zhipu")
    assert set(zhipu.service.by_path()) == {"a.md"}
    assert zhipu.service.key not in remembered(zhipu).read_text()
    assert remembered(zhipu).stat().st_mode & 0o077 == 0

    zhipu.write("b.md", "beta")
    assert zhipu.run("--once", "--folder", "docs", env=env).code == 0
    assert set(zhipu.service.by_path()) == {"a.md", "b.md"}
    status = zhipu.run("status", "--json", cwd=zhipu.docs).json["mirrors"][0]  # needs no key
    assert (status["target"], status["documents"]["ready"]) == ("zhipu", 2)
    assert zhipu.run("--once", "--folder", "docs").code == 2

    # Another target for the same folder: the old documents stay, and `status` names them.
    result = zhipu.run("--once", "--json", "--folder", "docs", "--target", "local")
    assert (result.code, result.json["uploaded"]) == (0, 2)
    assert set(zhipu.service.by_path()) == {"a.md", "b.md"}


@long
def test_excludes_are_remembered_and_can_be_reset(sandbox: Sandbox) -> None:
    sandbox.write_all({"a.md": "alpha", "drafts/d.md": "draft", "old.txt": "old"})
    result = sandbox.run("--once", "--json", "--folder", "docs", "--exclude", "drafts/", "--exclude", "*.txt")
    assert (result.code, result.json["uploaded"]) == (0, 1)
    assert sandbox.run("--once", "--json", "--folder", "docs").json["uploaded"] == 0
    explained = sandbox.run("explain", "drafts/d.md", cwd=sandbox.docs).out
    assert "excluded by drafts/ (--exclude); run the next pass with different --exclude patterns" in explained
    result = sandbox.run("--once", "--json", "--folder", "docs", "--exclude", "*.txt")
    assert result.json["uploaded"] == 1
    assert sandbox.run("--once", "--json", "--folder", "docs", "--exclude", "").json["uploaded"] == 1
    assert sandbox.run("forget", "docs", "--delete-documents", "--yes", "--folder", "docs").code == 0
    assert not list(sandbox.state.glob("folders/*"))


@long
def test_running_kbsync_keeps_its_settings(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    assert sandbox.run("--once", "--folder", "docs", "--exclude", "x/").code == 0
    before = remembered(sandbox).read_bytes()
    with lock.held(remembered(sandbox).parent):
        result = sandbox.run("--once", "--folder", "docs", "--exclude", "y/")
        assert result.code == 4 and "already running" in result.words
    assert remembered(sandbox).read_bytes() == before


@proves("`kbsync --once --folder DIR --{} …`")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--once --folder docs --target zhipu", "--base: pass the id of the zhipu knowledge base"),
        ("--once --folder docs --base 1", "--url and --base need --target TYPE; types: local, "),
        ("--once --folder docs --target ziphu --base 1", "did you mean zhipu?"),
        ("--once --folder docs --target local --base 1", "--base: a target of type local has no id"),
        ("--once --folder docs --target local --url http://a", "--url: a target of type local has no URL"),
        ("--once --folder docs --target zhipu --base 1 --url a", "--url: "),
        ("--once --folder docs --exclude [z-a]", "--exclude: "),
        ("--once --folder docs --exclude \udcff", r": \xff is not text (UTF-8), so a config can't contain"),
        ("--once --exclude x", "--target, --url, --base and --exclude need --folder DIR"),
        ("--exclude x --folder docs status", "--exclude takes no command; run `kbsync --once --folder DIR"),
    ],
)
def test_invalid_setting_is_reported_by_its_option(sandbox: Sandbox, words: str, message: str) -> None:
    sandbox.write("a.md", "alpha")
    result = sandbox.run(*words.split(), env={"ZHIPU_API_KEY": "k"})
    assert (result.code, result.out) == (2, "") and message in result.words
    assert not list(sandbox.state.glob("folders/*"))


def test_configured_folder_takes_its_settings_from_the_config(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    result = sandbox.run("--once", "--folder", "docs", "--exclude", "x")
    assert result.code == 2 and f"is a mirror in {sandbox.config}; change its settings there" in result.words


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"exclude": 1}', '{"exclude": null, "other": 1}', "\udcff"]
)
def test_damaged_folder_settings_are_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "folder.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Exception, match=r"folder\.json can't be read"):
        folder_options.recall(tmp_path)
    folder_options.remember(tmp_path, FolderOptions(exclude=("a",)))
    assert folder_options.recall(tmp_path) == FolderOptions(exclude=("a",))
    assert json.loads((tmp_path / "folder.json").read_text())["target"] is None


def test_home_that_cannot_hold_a_state_is_reported_without_blaming_the_settings(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    file = sandbox.root / "file"
    file.touch()
    result = sandbox.run("--once", "--folder", "docs", env={"HOME": str(file)})
    assert result.code == 2 and "cannot be created" in result.words and "--exclude" not in result.words
