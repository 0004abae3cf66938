"""What the Makefile says on a machine that lacks something, and that it asks no registry by address."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

SETUP = ROOT / "tools" / "setup.sh"
ANY_TOO_OLD = ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python")


def program(folder: Path, name: str, script: str) -> None:
    """A program of this name."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH on which every Python is too old and little else is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ANY_TOO_OLD:
        program(folder, name, 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    return folder


def setup(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up with only these programs."""
    return subprocess.run(
        ["/bin/sh", str(SETUP), "."],
        env={"PATH": str(path), "VENV": str(path.parent / "venv"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_that_is_too_old_is_told_with_the_cure(bare: Path) -> None:
    done = setup(bare)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer; this machine has Python 3.9.2" in done.stderr
    assert "apt install python3" in done.stderr


def test_a_missing_python3_venv_is_told_with_the_cure(bare: Path) -> None:
    program(bare, "python3.12", 'case "$2" in *venv*) exit 1;; *) exit 0;; esac')
    done = setup(bare)
    assert done.returncode != 0
    assert "sudo apt install python3-venv" in done.stderr


def test_a_chosen_python_that_does_not_fit_is_not_replaced_by_another(bare: Path) -> None:
    done = setup(bare, PYTHON="python3.9")
    assert done.returncode != 0
    assert "PYTHON=python3.9 is no Python 3.11 to 3.14" in done.stderr


def test_an_environment_that_is_too_old_is_told(bare: Path) -> None:
    venv = bare.parent / "venv" / "bin"
    venv.mkdir(parents=True)
    program(venv, "python", "exit 1")
    done = setup(bare)
    assert done.returncode != 0
    assert "remove it (rm -r" in done.stderr


def test_uv_is_used_where_it_is(bare: Path) -> None:
    log = bare.parent / "log"
    made = 'd="$VENV/bin"; /bin/mkdir -p "$d"; echo "#!/bin/sh" >"$d/python"; /bin/chmod +x "$d/python"'
    program(bare, "uv", f'echo "$@" >>{log}; case $1 in venv) {made};; esac')
    program(bare, "touch", 'exec /usr/bin/touch "$@"')
    done = setup(bare)
    assert done.returncode == 0, done.stderr
    first, second = log.read_text().splitlines()
    assert first.startswith("venv ")
    assert second.startswith("pip install ")


@pytest.mark.parametrize(
    "file", ["Makefile", ".ci/run", *(f"tools/{f.name}" for f in SETUP.parent.iterdir() if f.is_file())]
)
def test_no_registry_is_asked_by_address(file: str) -> None:
    assert not re.search(r"https?://|index-url|find-links", (ROOT / file).read_text())


def test_scripts_can_be_run() -> None:
    for script in (ROOT / ".ci" / "run", *SETUP.parent.glob("*.sh")):
        assert script.stat().st_mode & stat.S_IXUSR, script
        assert os.access(script, os.X_OK)
