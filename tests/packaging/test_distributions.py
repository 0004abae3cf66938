"""Tests that the built distributions are complete, and run from where they are unpacked.

`tools/packages.py` installs them with all requirements on every Python of a machine.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import kbsync
from tests.docs.pages import ROOT
from tests.programs import needs, run_program
from tests.share import long
from tools import hatch_build, release

pytestmark = [needs("pyproject-build"), long]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist, and the wheel built from it: two builds had the same bytes."""
    return release.build(Path(sys.executable), tmp_path_factory.mktemp("dist"))[0].parent


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel as an environment would contain it."""
    into = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(into)
    return into


REVISION = {"kbsync/REVISION"}
"""The file that a build in a checkout adds."""


def run_from(unpacked: Path, code: str, home: Path) -> str:
    """Return the output of code with the unpacked package."""
    path = os.pathsep.join([str(unpacked), *(entry for entry in sys.path if "site-packages" in entry)])
    environment = {**os.environ, "PYTHONPATH": path, "HOME": str(home)}
    completed = run_program(sys.executable, "-P", "-c", code, env=environment, cwd=home)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def metadata(unpacked: Path) -> Message:
    return message_from_string(next(unpacked.glob("*.dist-info/METADATA")).read_text())


def test_wheel_contains_only_the_program(unpacked: Path) -> None:
    files = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    program = {
        str(p.relative_to(ROOT)) for p in (ROOT / "kbsync").rglob("*") if p.suffix != ".pyc" and p.is_file()
    }
    assert {name for name in files if ".dist-info/" not in name} - REVISION == program
    assert {"kbsync/py.typed", "kbsync/config/schema.json"} <= program


def test_licence_and_notice_are_included(unpacked: Path) -> None:
    licences = {path.name for path in unpacked.glob("*.dist-info/licenses/*")}
    assert licences == {"LICENSE", "NOTICE"}
    assert metadata(unpacked)["License-Expression"] == "Apache-2.0"


def test_versions_agree(unpacked: Path) -> None:
    assert metadata(unpacked)["Version"] == kbsync.__version__
    assert release.version() == kbsync.__version__
    release.check_changes()


def test_packages_contain_the_expected_files(built: Path, tmp_path: Path) -> None:
    for package in built.iterdir():
        release.check_content(package)
    wheel = next(built.glob("*.whl"))
    with zipfile.ZipFile(shutil.copy(wheel, tmp_path), "a") as copy:
        copy.writestr("tests/secret.key", "")
    with pytest.raises(SystemExit, match="has tests/secret"):
        release.check_content(tmp_path / wheel.name)


def test_command_is_installed(unpacked: Path) -> None:
    scripts = next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    assert "kbsync = kbsync.__main__:main" in scripts


@needs("git")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout, so there is no commit")
def test_build_records_its_commit(unpacked: Path) -> None:
    head = run_program("git", "rev-parse", "--short=12", "HEAD", cwd=ROOT).stdout.strip()
    output = run_from(unpacked, "import kbsync; print(kbsync.version_and_revision())", unpacked)
    assert output.strip().removesuffix("-dirty)").removesuffix(")") == f"{kbsync.__version__} ({head}"


@pytest.mark.parametrize("words", [["--version"], ["-q", "--version"], ["status", "--version"]])
def test_version_always_includes_the_commit(unpacked: Path, words: list[str]) -> None:
    code = f"import sys, kbsync.__main__ as program; sys.exit(program.main({words!r}))"
    version = run_from(unpacked, "import kbsync; print(kbsync.version_and_revision())", unpacked)
    assert run_from(unpacked, code, unpacked) == f"kbsync {version}"


def test_build_without_git_is_given_the_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert hatch_build.revision(tmp_path) == ""
    monkeypatch.setenv("KBSYNC_REVISION", "5c343f7")
    assert hatch_build.revision(ROOT) == "5c343f7"


@needs("git")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout, so nobody knows what belongs to it")
def test_sdist_equals_the_checkout(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    listed = run_program("git", "ls-files", cwd=ROOT).stdout.splitlines()
    assert listed and {name for name in listed if (ROOT / name).is_file()} - files == set()


def test_unpacked_sdist_mirrors_and_searches(unpacked: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "badges.md").write_text("Lost your badge? Ring the bell.\n")
    options = ["--folder", str(docs), "--state-dir", str(tmp_path / "state")]
    code = (
        "import sys, kbsync, kbsync.__main__ as program; print(kbsync.__file__, flush=True);"
        f"once, search = ['--once', '-q', *{options!r}], ['search', 'badge', '--files', *{options!r}];"
        "sys.exit(program.main(once) or program.main(search))"
    )
    assert run_from(unpacked, code, tmp_path).split() == [
        str(unpacked / "kbsync" / "__init__.py"),
        str(docs / "badges.md"),
    ]
