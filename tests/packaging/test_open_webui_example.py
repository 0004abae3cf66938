"""Tests that examples/open-webui/ is valid and matches the image; tests/servers runs its steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from kbsync.config.reader import load
from kbsync.targets.openwebui.config import OpenWebuiTargetConfig
from tests.docs.pages import ROOT
from tests.packaging.test_image import ENVIRONMENT, step_named

EXAMPLE = ROOT / "examples" / "open-webui"
COMPOSE, CONFIG, README = EXAMPLE / "compose.yaml", EXAMPLE / "kbsync.yaml", EXAMPLE / "README.md"


def services() -> dict[str, Any]:
    loaded_config: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return loaded_config


def test_config_is_valid_and_names_mounted_paths(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret")
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.read_text().replace("/run/secrets", str(tmp_path)))
    config = load(file, ENVIRONMENT)
    [mirror] = config.mirrors
    kbsync = services()["kbsync"]
    mounts = {mount.rpartition(":ro")[0] or mount for mount in kbsync["volumes"]}
    inside = {mount.rpartition(":")[2] for mount in mounts}
    assert inside == {str(mirror.folder), step_named("VOLUME").rest, "/etc/kbsync/config.yaml"}
    assert str(config.state_dir).startswith(f"{step_named('VOLUME').rest}/")
    assert kbsync["secrets"] == ["key"]
    assert isinstance(mirror.target, OpenWebuiTargetConfig)
    host, port = re.fullmatch(r"http://([a-z-]+):(\d+)", mirror.target.base_url).groups()  # type: ignore[union-attr]
    [published] = services()[host]["ports"]
    assert published.rpartition(":")[2] == port
    assert set(services()[host]["networks"]) & set(kbsync["networks"])


def test_privileges_are_minimal_and_nothing_is_open_to_the_network() -> None:
    containers = services()
    assert containers["kbsync"]["read_only"] is True
    assert containers["kbsync"]["cap_drop"] == ["ALL"]
    assert all(container["security_opt"] == ["no-new-privileges:true"] for container in containers.values())
    assert "ports" not in containers["kbsync"]
    assert [port.partition(":")[0] for port in containers["open-webui"]["ports"]] == ["127.0.0.1"]


def test_readme_mentions_only_existing_files() -> None:
    text = README.read_text()
    assert f"http://{services()['open-webui']['ports'][0].rpartition(':')[0]}" in text
    [secret] = yaml.safe_load(COMPOSE.read_text())["secrets"].values()
    name = secret["file"].removeprefix("./")
    assert f">{name}" in text
    assert f"/examples/open-webui/{name}" in (ROOT / ".gitignore").read_text().splitlines()
    for variable in re.findall(r"\$\{(\w+)", COMPOSE.read_text()):
        assert variable in text
