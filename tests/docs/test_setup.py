"""Tests the Makefile's messages on a machine that lacks programs, and that it names no registry by
address."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.programs import ran, write_program

SETUP = ROOT / "tools" / "setup.sh"
ANY_TOO_OLD = ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH with only outdated Pythons and few other programs."""
    folder = tmp_path / "bin"
    for name in ANY_TOO_OLD:
        write_program(folder / name, 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    return folder


def setup(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up with only these programs."""
    environ = {"PATH": str(path), "VENV": str(path.parent / "venv"), **variables}
    return ran("/bin/sh", SETUP, ".", env=environ)


@pytest.mark.parametrize(
    ("program", "script", "variables", "message"),
    [
        ("", "", {}, "needs Python 3.11 or newer; this machine has Python 3.9.2"),
        ("", "", {}, "apt install python3"),
        ("bin/python3.12", 'case "$2" in *venv*) exit 1;; *) exit 0;; esac', {}, "apt install python3-venv"),
        ("", "", {"PYTHON": "python3.9"}, "PYTHON=python3.9 is no Python 3.11 to 3.14"),
        ("venv/bin/python", "exit 1", {}, "remove it (rm -r"),
    ],
    ids=["too old", "cure", "no venv", "chosen", "environment too old"],
)
def test_missing_requirements_are_reported_with_a_fix(
    bare: Path, program: str, script: str, variables: dict[str, str], message: str
) -> None:
    if program:
        write_program(bare.parent / program, script)
    completed = setup(bare, **variables)
    assert completed.returncode != 0
    assert message in completed.stderr


def test_uv_is_used_when_present(bare: Path) -> None:
    log = bare.parent / "log"
    made = 'd="$VENV/bin"; /bin/mkdir -p "$d"; echo "#!/bin/sh" >"$d/python"; /bin/chmod +x "$d/python"'
    write_program(bare / "uv", f'echo "$@" >>{log}; case $1 in venv) {made};; esac')
    write_program(bare / "touch", 'exec /usr/bin/touch "$@"')
    completed = setup(bare)
    assert completed.returncode == 0, completed.stderr
    first, second = log.read_text().splitlines()
    assert first.startswith("venv ")
    assert second.startswith("pip install ")


@pytest.mark.parametrize(
    "file", ["Makefile", ".ci/run", *(f"tools/{f.name}" for f in SETUP.parent.iterdir() if f.is_file())]
)
def test_no_registry_address_is_hard_coded(file: str) -> None:
    assert not re.search(r"https?://|index-url|find-links", (ROOT / file).read_text())


def test_scripts_are_executable() -> None:
    for script in (ROOT / ".ci" / "run", *SETUP.parent.glob("*.sh")):
        assert script.stat().st_mode & stat.S_IXUSR, script
        assert os.access(script, os.X_OK)
