"""Tests that docs/platforms.md lists exactly the Python versions that the package accepts."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from kbsync.__main__ import main
from kbsync.config.reader import load
from tests.docs.pages import ROOT
from tools import hatch_build
from tools.packages import VERSIONS, platforms

PAGE = (ROOT / "docs" / "platforms.md").read_text()


def test_every_supported_python_is_in_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    low, high = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))
    supported = tuple(f"3.{minor}" for minor in range(low, high))
    assert tuple(re.findall(r"^\| (3\.\d+) \|", PAGE, re.MULTILINE)) == supported == VERSIONS


def test_older_compatible_platforms_are_passed_to_pip() -> None:
    named = list(platforms("manylinux_2_28_aarch64"))
    assert named[:4] == ["--platform", "manylinux_2_28_aarch64", "--platform", "manylinux_2_27_aarch64"]
    assert "manylinux_2_17_aarch64" in named
    assert list(platforms("win_amd64")) == ["--platform", "win_amd64"]


COMPOSE = ROOT / "docker" / "desktop.yaml"


def test_installation_on_an_unsupported_platform_ends_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hook = hatch_build.Revised(str(ROOT), {}, None, None, str(tmp_path), "wheel")  # type: ignore[arg-type]
    for system in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", system)
        with pytest.raises(SystemExit, match="run kbsync in a container"):
            hook.initialize("standard", {})
        assert main(["status"]) == 2
        assert capsys.readouterr().err == f"kbsync: {hatch_build.ELSEWHERE.removeprefix('kbsync ')}\n"


def test_platform_container_polls_and_is_reachable_only_from_that_machine(tmp_path: Path) -> None:
    service = yaml.safe_load(COMPOSE.read_text())["services"]["kbsync"]
    config = load(ROOT / "docker" / "desktop.kbsync.yaml", {"HOME": str(tmp_path)})
    [mirror] = config.mirrors
    assert mirror.observer == "polling"
    mounts = [mount.removesuffix(":ro").rpartition(":")[2] for mount in service["volumes"]]
    assert mounts == [str(mirror.folder), "/var/lib/kbsync", "/etc/kbsync/config.yaml"]
    assert str(config.state_dir).startswith("/var/lib/kbsync/")
    port = service["command"][-1].rpartition(":")[2]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_page_names_the_variables_and_the_address() -> None:
    text = COMPOSE.read_text()
    assert all(f"{name}=" in PAGE for name in re.findall(r"\$\{(\w+):\?", text))
    [port] = yaml.safe_load(text)["services"]["kbsync"]["ports"]
    url = f"http://{port.rpartition(':')[0]}/mcp"
    [block] = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert block["servers"]["notes"]["url"] == url
    assert f" {url} --header" in PAGE
    assert "docker compose -f docker/desktop.yaml up" in PAGE
