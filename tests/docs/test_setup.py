"""Tests the Makefile's messages on a machine that lacks programs, and that it names no registry by
address."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.programs import run_program, write_program

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
    return run_program("/bin/sh", SETUP, ".", env=environ)


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


MAKE_VENV = 'd="$VENV/bin"; /bin/mkdir -p "$d"; echo "#!/bin/sh" >"$d/python"; /bin/chmod +x "$d/python"'


def tools(path: Path, *names: str) -> None:
    """Add these programs of this machine to the PATH."""
    for name in names:
        (path / name).symlink_to(shutil.which(name) or name)


def uv_that_logs(log: Path, make_venv: str = MAKE_VENV, install: str = "exit 0") -> str:
    """Return a script that logs its arguments and creates an environment."""
    return f'echo "uv $@ $UV_DEFAULT_INDEX" >>{log}; case $1 in venv) {make_venv};; pip) {install};; esac'


def test_uv_is_used_when_present(bare: Path) -> None:
    log = bare.parent / "log"
    write_program(bare / "uv", uv_that_logs(log))
    tools(bare, "touch")
    completed = setup(bare)
    assert completed.returncode == 0, completed.stderr
    calls = [" ".join(line.split()[:3]) for line in log.read_text().splitlines()]
    assert calls == ["uv venv --quiet", "uv pip install", "uv pip install"]


def test_settings_of_other_pythons_do_not_apply(bare: Path) -> None:
    log = bare.parent / "log"
    write_program(bare / "uv", uv_that_logs(log))
    write_program(bare / "python3.12", f'echo "${{PYTHONHOME:-}},${{PIP_USER:-}}" >>{log}')
    tools(bare, "touch")
    assert setup(bare, PYTHONHOME="/other", PIP_USER="1").returncode == 0
    assert ",0" in log.read_text().splitlines() and "/other" not in log.read_text()


@pytest.mark.parametrize("works", [True, False])
def test_missing_uv_is_installed_for_one_run_and_pip_replaces_one_that_fails(bare: Path, works: bool) -> None:
    log, uv, folder_note = (bare.parent / name for name in ("log", "uv", "folder"))
    make_venv = f'mkdir -p "$VENV/bin"; cp {bare}/python3.12 "$VENV/bin/python"'
    write_program(uv, uv_that_logs(log, make_venv, "exit 0" if works else "exit 2"))
    write_program(
        bare / "python3.12",
        f"""case "$*" in
        *--target*) while [ "$1" != --target ]; do shift; done
            mkdir "$2/bin"; cp {uv} "$2/bin/uv"; echo "$2" >{folder_note};;
        *"config list"*) echo "global.index-url='mirror of pip'";;
        *"pip install"*) echo "python $*" >>{log};;
        esac""",
    )
    tools(bare, "touch", "mktemp", "rm", "mkdir", "cp", "sed", "head")
    completed = setup(bare)
    assert completed.returncode == 0, completed.stderr
    calls = [" ".join(line.split()[:3]) for line in log.read_text().splitlines()]
    assert calls == ["uv venv --quiet", "uv pip install", "uv pip install" if works else "python -m pip"]
    assert "mirror of pip" in log.read_text()
    assert not Path(folder_note.read_text().strip()).exists()


@pytest.mark.parametrize(
    "file", ["Makefile", ".ci/run", *(f"tools/{f.name}" for f in SETUP.parent.iterdir() if f.is_file())]
)
def test_no_registry_address_is_hard_coded(file: str) -> None:
    # The identifier of a JSON schema's version is a name, which no one fetches.
    text = (ROOT / file).read_text().replace("http://json-schema.org/draft-07/schema#", "")
    assert not re.search(r"https?://|--index-url|find-links", text)


def test_scripts_are_executable() -> None:
    for script in (ROOT / ".ci" / "run", *SETUP.parent.glob("*.sh")):
        assert script.stat().st_mode & stat.S_IXUSR, script
        assert os.access(script, os.X_OK)


def test_bench_leaves_out_what_lacks_its_corpus_and_what_is_no_benchmark(tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "python", f'echo "$1" >>{tmp_path}/started')
    environ = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "VENV": str(tmp_path)}
    result = run_program("/bin/sh", ROOT / "tools" / "bench.sh", env=environ, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    started = (tmp_path / "started").read_text().split()
    assert len(started) > 20
    texts = {name: (ROOT / name).read_text() for name in started}
    assert [name for name, text in texts.items() if '"KBSYNC_XQUAD"' in text] == []
    assert [name for name, text in texts.items() if "__main__" not in text] == []
