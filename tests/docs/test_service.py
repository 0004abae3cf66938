"""Runs the page about the service from its first command to its last, on a simulated machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kbsync.config.reader import load
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from tests.docs.machine import Machine
from tests.docs.pages import ROOT, blocks
from tests.programs import needs, run_program
from tests.share import long

PAGE = ROOT / "docs" / "service.md"


def sections() -> dict[str, list[str]]:
    """Return the shell blocks of the page by heading."""
    results: dict[str, list[str]] = {}
    for part in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        results[part.partition("\n")[0]] = re.findall(r"^```sh\n(.*?)^```$", part, re.M | re.S)
    return results


@long
def test_page_is_followed_from_install_to_uninstall(tmp_path: Path) -> None:
    machine, outputs = Machine(tmp_path), dict[str, str]()
    for heading, commands in sections().items():
        for block in commands:
            completed = machine.do(block)
            assert completed.returncode == 0, f"{heading}: {block}{completed.stdout}{completed.stderr}"
            outputs[heading] = outputs.get(heading, "") + completed.stdout
        if heading == "Keys":
            assert (tmp_path / "etc/kbsync/keys/zhipu").stat().st_mode & 0o777 == 0o600
        if heading == "Start":
            assert (tmp_path / "etc/kbsync/config.yaml").stat().st_mode & 0o777 == 0o640
            assert machine.holds("var/lib/kbsync/state.db")
        if heading == "Upgrade":
            [backup] = (tmp_path / "var/backups").glob("kbsync-*.db")
            assert machine.holds(str(backup.relative_to(tmp_path)))
        if heading == "Uninstall":
            break
    assert "+ a.md" in outputs["Configure"]
    assert "handbook" in outputs["Start"]
    assert "team" in outputs["Several services"]
    remaining = [
        path for path in tmp_path.rglob("*kbsync*") if tmp_path / "var/lib/kbsync-team" not in path.parents
    ]
    assert sorted(re.sub(r"\d+", "N", str(path.relative_to(tmp_path))) for path in remaining) == LEFT


LEFT = ["var/backups/kbsync-N-N-N.db", "var/lib/kbsync-team"]


@long
def test_single_user_setup_needs_no_root(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    install = sections()["Install"][0].splitlines()
    assert machine.do("\n".join(install[:3])).returncode == 0
    del machine.environ["KBSYNC_CONFIG"], machine.environ["STATE_DIRECTORY"]
    # Without it a command that needs root fails.
    (machine.root / "stand-ins" / "sudo").unlink()
    [commands] = sections()["For one person"]
    completed = machine.do(commands)
    assert completed.returncode == 0, completed.stderr
    assert machine.holds("home/.config/kbsync/config.yaml")


@long
@needs("systemd-analyze")
def test_documented_credential_is_accepted_by_systemd(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.do("mkdir -p /etc/kbsync /etc/systemd/system").returncode == 0
    assert machine.do(sections()["Keys"][0]).returncode == 0
    units = tmp_path / "etc/systemd/system"
    for name in ("kbsync.service", "kbsync-once.service"):
        unit = (ROOT / "systemd" / name).read_text()
        (units / name).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit))
        path = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}
        completed = run_program("systemd-analyze", "verify", "--man=no", units / name, env=path)
        assert (completed.returncode, completed.stderr) == (0, "")
        unit_text = (units / f"{name}.d/zhipu.conf").read_text()
        assert unit_text == f"[Service]\nLoadCredential=zhipu:{tmp_path}/etc/kbsync/keys/zhipu\n"


def test_documented_credential_is_read_from_systemds_directory(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    [line] = re.findall(r"`(api_key_file: .*?)`", PAGE.read_text())
    assert machine.do("mkdir -p /etc/kbsync /etc/systemd/system").returncode == 0
    assert machine.do(sections()["Keys"][0]).returncode == 0
    config = tmp_path / "config.yaml"
    target = f"{{type: zhipu, knowledge_id: '1', {line}}}"
    config.write_text(
        f"mirrors: [{{name: a, folder: /srv/a, target: {target}}}]\n".replace("${", '"${').replace(
            "/zhipu}", '/zhipu"}'
        )
    )
    loaded = load(config, {"CREDENTIALS_DIRECTORY": str(tmp_path / "etc/kbsync/keys")}).mirrors[0].target
    assert isinstance(loaded, ZhipuTargetConfig)
    assert loaded.api_key.reveal() == "id.secret"


@needs("systemd-sysusers")
def test_system_user_can_be_created(tmp_path: Path) -> None:
    conf = tmp_path / "etc/sysusers.d/kbsync.conf"
    conf.parent.mkdir(parents=True)
    conf.write_bytes((ROOT / "systemd/kbsync.sysusers").read_bytes())
    assert run_program("systemd-sysusers", f"--root={tmp_path}").returncode == 0
    assert "kbsync:" in (tmp_path / "etc/passwd").read_text()


def test_every_block_of_the_page_is_followed() -> None:
    followed = [block for commands in sections().values() for block in commands]
    assert [block.text for block in blocks(PAGE, "sh", "console")] == followed
    assert list(sections()).index("Uninstall") < list(sections()).index("For one person")


@pytest.mark.parametrize("directive", ["READY=1", "STATUS=", "RELOADING=1", "WATCHDOG=1", "STOPPING=1"])
def test_every_unit_directive_is_explained(directive: str) -> None:
    assert f"`{directive}`" in PAGE.read_text()
    assert directive in (ROOT / "kbsync" / "systemd.py").read_text()
