"""Tests that the systemd units are valid and sandboxed, and that kbsync works in them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import as_unit
from tests.docs.pages import ROOT
from tests.index.samples import pdf
from tests.programs import needs, run_program
from tests.share import long

SYSTEMD = ROOT / "systemd"
DAEMONS = (SYSTEMD / "kbsync.service", SYSTEMD / "kbsync@.service")
ONCE, TIMER = SYSTEMD / "kbsync-once.service", SYSTEMD / "kbsync-once.timer"
SERVICES = (*DAEMONS, ONCE)
USER = SYSTEMD / "user" / "kbsync.service"
MAX_EXPOSURE = 2.0

FENCES = """
import sys
from pathlib import Path
from kbsync.index.fence.parser import Bounds, ParserProcess
process = ParserProcess(Path(sys.argv[1]), Bounds(20, 2**29, 2**20))
print(*process.wait_until_ready())
process.end()
"""


def name_of(unit: Path) -> str:
    return str(unit.relative_to(SYSTEMD))


def settings(unit: Path) -> dict[str, str]:
    """Return the settings of a unit, the last of each name."""
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))


def sandbox(unit: Path) -> list[str]:
    """Return every line from the first that removes a privilege on."""
    lines = [line for line in unit.read_text().partition("[Install]")[0].splitlines() if line]
    return lines[lines.index("NoNewPrivileges=yes") :]


def analysed(tmp_path: Path, unit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Analyse a unit; the analysis requires the program to exist, which this machine may lack."""
    for file in (*SERVICES, TIMER, USER):
        if file is unit or (file is ONCE and unit is TIMER):
            # systemd can analyse a template only as an instance.
            copy = tmp_path / file.name.replace("@.", "@team.")
            copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", file.read_text(), flags=re.M))
    name = unit.name.replace("@.", "@team.")
    return run_program("systemd-analyze", *words, tmp_path / name)


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", (*SERVICES, TIMER, USER), ids=name_of)
def test_systemd_analyze_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    completed = analysed(tmp_path, unit, "verify", "--man=no")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", SERVICES, ids=name_of)
def test_unit_has_little_exposure(unit: Path, tmp_path: Path) -> None:
    completed = analysed(tmp_path, unit, "security", "--offline=true", "--no-pager")
    match = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", completed.stdout)
    assert match is not None, completed.stderr
    assert float(match[1]) <= MAX_EXPOSURE, completed.stdout


def test_all_units_share_one_sandbox() -> None:
    assert len({tuple(sandbox(unit)) for unit in SERVICES}) == 1
    for line in ("SystemCallFilter", "RestrictNamespaces", "MemoryDenyWriteExecute"):
        assert as_unit.settings(USER, line) == as_unit.settings(DAEMONS[0], line)


@long
@needs("systemd-analyze", as_unit.LIBRARY)
def test_parsers_are_sandboxed_and_documents_mirrored_inside_the_unit(tmp_path: Path) -> None:
    folder, state = tmp_path / "docs", tmp_path / "state"
    folder.mkdir()
    (folder / "drill.pdf").write_bytes(pdf())
    (folder / "a.md").write_text("alpha")
    fenced = [sys.executable, as_unit.__file__, str(DAEMONS[0]), sys.executable]
    raised = run_program(*fenced, "-c", FENCES, tmp_path)
    assert (raised.stdout.split(), raised.stderr) == (["namespace", "landlock", "seccomp", "python"], "")
    completed = run_program(*fenced, "-m", "kbsync", "--once", "--folder", folder, "--state-dir", state)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert "2 documents searchable" in completed.stdout


@pytest.mark.parametrize("unit", (*DAEMONS, USER), ids=name_of)
def test_daemon_is_restarted_unless_it_needs_a_decision(unit: Path) -> None:
    unit_settings = settings(unit)
    assert unit_settings["Type"] == "notify"
    assert unit_settings["Restart"] == "on-failure"
    assert unit_settings["RestartPreventExitStatus"].split() == ["2", "3"]
    assert unit_settings["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert float(unit_settings["WatchdogSec"]) >= 60
    assert (unit_settings["KillMode"], unit_settings["OOMPolicy"]) == ("mixed", "continue")


def test_service_writes_only_its_state() -> None:
    for unit in SERVICES:
        unit_settings = settings(unit)
        assert unit_settings["StateDirectory"] == ("kbsync-%i" if "@" in unit.name else "kbsync")
        assert unit_settings["ProtectSystem"] == "strict"
        assert unit_settings["ProtectHome"] == "read-only"
        assert "ReadWritePaths" not in unit_settings
        assert unit_settings["MemoryMax"] and unit_settings["MemoryHigh"]


def test_instance_has_its_own_config_and_state() -> None:
    assert settings(DAEMONS[1])["ExecStart"].endswith("--config /etc/kbsync/%i.yaml")
