"""The systemd units are correct."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

UNITS = (ROOT / "systemd" / "kbsync.service", ROOT / "systemd" / "user" / "kbsync.service")


def settings(unit: Path) -> dict[str, str]:
    """The settings of a unit, the last of each name."""
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.parent.name)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    # It also looks whether the program is there, which it need not be on this machine.
    copy = tmp_path / "kbsync.service"
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.parent.name)
def test_what_waits_for_a_person_is_not_restarted(unit: Path) -> None:
    found = settings(unit)
    assert found["Restart"] == "on-failure"
    assert found["RestartPreventExitStatus"].split() == ["2", "3"]
    assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_the_service_writes_only_its_state() -> None:
    found = settings(UNITS[0])
    assert found["StateDirectory"] == "kbsync"
    assert found["ProtectSystem"] == "strict"
    assert found["ProtectHome"] == "read-only"
    assert "ReadWritePaths" not in found
