"""Builds the release twice and checks it: `python tools/release.py [DIRECTORY]` (default: dist).

It writes the sdist, the wheel, the bill of materials for an installation (CycloneDX) and the SHA-256 of each
into the directory. It needs network access; its tools go into a temporary environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
BILL_OF_MATERIALS = "cyclonedx-bom>=7,<8"
"""The same version as in docker/Dockerfile."""

NEVER_SHIPPED = re.compile(r"(^|/)(\.venv|\.git|__pycache__|dist|[^/]*\.(pyc|db|sqlite|key|pem))(/|$)")


def version() -> str:
    """Read the version from kbsync/__init__.py."""
    match = re.search(r'^__version__ = "(.+)"$', (TOP / "kbsync/__init__.py").read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def run(*words: str | Path, env: Mapping[str, str] | None = None, umask: int = 0o022) -> str:
    """Run a program and return its output; exit if it fails."""
    result = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        cwd=TOP,
        umask=umask,
        env={**os.environ, **(env or {})},
    )
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{result.stdout}{result.stderr}")
    return result.stdout


def environment(folder: Path, *packages: str | Path) -> Path:
    """Create a virtual environment with these packages and return its Python."""
    python = folder / "bin" / "python"
    if shutil.which("uv"):
        run("uv", "venv", "--quiet", "--python", sys.executable, folder)
        run("uv", "pip", "install", "--quiet", "--python", python, *packages)
    else:
        run(sys.executable, "-m", "venv", folder)
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return python


def source_date() -> str:
    """Return the commit's time for all files in the packages, so that a later build has the same bytes."""
    if timestamp := os.environ.get("SOURCE_DATE_EPOCH"):
        return timestamp
    if (TOP / ".git").exists() and shutil.which("git"):
        return run("git", "log", "-1", "--format=%ct").strip()
    return "1580601600"  # hatchling's default


def build(python: Path, into: Path) -> list[Path]:
    """Build the sdist and the wheel from it twice with different settings; exit unless the bytes are
    equal.
    """
    epoch = {"SOURCE_DATE_EPOCH": source_date()}
    unlike = {"TZ": "Asia/Shanghai", "PYTHONHASHSEED": "7", **epoch}
    builds = []
    for number, (env, umask) in enumerate(((epoch, 0o022), (unlike, 0o077))):
        folder = into / str(number)
        run(python, "-m", "build", "--no-isolation", "--outdir", folder, TOP, env=env, umask=umask)
        builds.append(sorted(folder.iterdir()))
    digests = [[(file.name, digest(file)) for file in files] for files in builds]
    if digests[0] != digests[1]:
        raise SystemExit(f"two builds differ: {digests}")
    return builds[0]


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def names_in(package: Path) -> list[str]:
    """Return the files in a wheel or sdist, without the sdist's top folder."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return wheel.namelist()
    with tarfile.open(package) as sdist:
        return [name.partition("/")[2] for name in sdist.getnames()]


def check_content(package: Path) -> None:
    """Exit unless the package has all required files and no others."""
    names, here = set(names_in(package)), version()
    program = {
        str(path.relative_to(TOP))
        for path in (TOP / "kbsync").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    faults = [f"has no {name}" for name in sorted(program - names)]
    faults += [f"has {name}" for name in sorted(names) if NEVER_SHIPPED.search(name)]
    if package.suffix == ".whl":
        about = f"kbsync-{here}.dist-info"
        needed = {
            f"{about}/{name}"
            for name in ("METADATA", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE")
        }
        extra = names - program - {"kbsync/REVISION"}
        faults += [f"has {name}" for name in sorted(extra) if not name.startswith(f"{about}/")]
    else:
        needed = {
            "pyproject.toml",
            "README.md",
            "LICENSE",
            "NOTICE",
            "CHANGELOG.md",
            "tools/hatch_build.py",
            "PKG-INFO",
        }
    faults += [f"has no {name}" for name in sorted(needed - names)]
    if not package.name.startswith(f"kbsync-{here}"):
        faults.append(f"isn't version {here}")
    if faults:
        raise SystemExit("\n".join(f"{package.name} {fault}" for fault in faults))


def check_changes() -> str:
    """Return a note if CHANGELOG.md has no date for this version yet; end if it has no entry."""
    entries = re.findall(r"^## (\S+) – (.+)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)
    if not entries or entries[0][0] != version():
        raise SystemExit(f"the newest entry of CHANGELOG.md isn't {version()}")
    return (
        ""
        if re.fullmatch(r"\d{4}-\d\d-\d\d", entries[0][1])
        else f"CHANGELOG.md: {version()} has no date yet"
    )


def list_materials(tools: Path, wheel: Path, scratch: Path) -> Path:
    """List the packages that an installation of the wheel has; end unless it says its version without git."""
    folder = scratch / "installed"
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", folder)  # pip and setuptools aren't kbsync's
    run(tools, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check", wheel)
    output = run(python.with_name("kbsync"), "--version", env={"PATH": "/nonexistent"})
    if not output.startswith(f"kbsync {version()}"):
        raise SystemExit(f"kbsync --version says {output}")
    file = scratch / f"kbsync-{version()}.cdx.json"
    program = tools.with_name("cyclonedx-py")
    run(
        program,
        "environment",
        "--pyproject",
        TOP / "pyproject.toml",
        "--output-reproducible",
        "--output-file",
        file,
        python,
    )
    bill = json.loads(file.read_text())
    bill["metadata"]["component"]["version"] = version()
    file.write_text(json.dumps(bill, indent=2) + "\n")
    listed = {part["name"].lower().replace("_", "-") for part in bill["components"]}
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    required = {
        re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")
        for requirement in project["dependencies"]
    }
    if missing := required - listed:
        raise SystemExit(f"the list of packages lacks {', '.join(sorted(missing))}")
    return file


def main(arguments: Sequence[str]) -> int:
    """Build, check, and write the files."""
    into = Path(arguments[0] if arguments else TOP / "dist").resolve()
    note = check_changes()
    build_requirements = tomllib.loads((TOP / "pyproject.toml").read_text())["build-system"]["requires"]
    with tempfile.TemporaryDirectory(prefix="kbsync-release-") as name:
        scratch = Path(name)
        tools = environment(scratch / "tools", "pip", "build>=1.2,<2", BILL_OF_MATERIALS, *build_requirements)
        packages = build(tools, scratch / "builds")
        for package in packages:
            check_content(package)
        [wheel] = [package for package in packages if package.suffix == ".whl"]
        files = [*packages, list_materials(tools, wheel, scratch)]
        into.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, into / file.name)
            print(f"{digest(file)}  {file.name}")
        sums = "".join(f"{digest(file)}  {file.name}\n" for file in files)
        (into / "SHA256SUMS").write_text(sums)
    print(f"two builds had the same bytes; written to {into}")
    if note:
        print(note)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
