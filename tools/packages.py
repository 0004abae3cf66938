"""Builds wheel and sdist, and installs and runs both on every available Python: `python tools/packages.py`.

Then it asks pip on which other platforms all requirements are available as wheels. It needs `build` and
network access, takes a minute for each Python, and prints the rows of the table in docs/platforms.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
ELSEWHERE = {
    "Linux, glibc, x86-64": ("manylinux_2_28_x86_64",),
    "Linux, glibc, aarch64": ("manylinux_2_28_aarch64",),
    "Linux, musl, x86-64": ("musllinux_1_2_x86_64",),
    "Linux, musl, aarch64": ("musllinux_1_2_aarch64",),
    "macOS 14, arm64": ("macosx_14_0_arm64",),
    "Windows, x86-64": ("win_amd64",),
}
OLDER = {
    "manylinux": ("_2_27_", "_2_26_", "_2_24_", "_2_17_", "_2_12_", "_2_5_"),
    "musllinux": ("_1_1_",),
    "macosx": ("_13_0_", "_12_0_", "_11_0_"),
}
"""The older platforms that each platform also accepts; pip needs them listed."""


def tried(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program and return the result, whether it failed or not."""
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")


def run_checked(*words: str | Path) -> str:
    """Run a program and return its output; exit if it fails."""
    ended = tried(*words)
    if ended.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def pythons() -> dict[str, Path]:
    """Return the supported Pythons on PATH or in pyenv, by version."""
    places = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    places += sorted(Path("~/.pyenv/versions").expanduser().glob("*/bin"))
    by_version = {}
    for version in VERSIONS:
        for folder in places:
            python = folder / f"python{version}"
            if python.exists() and tried(python, "-c", "import venv, ensurepip").returncode == 0:
                by_version[version] = python
    return by_version


def packages(into: Path) -> list[Path]:
    """Build and return the sdist and the wheel made from it."""
    run_checked(sys.executable, "-m", "build", "--outdir", into, TOP)
    return sorted(into.iterdir())


def installed(python: Path, package: Path, scratch: Path) -> Path:
    """Install kbsync into a new environment and return its command."""
    venv = scratch / f"{python.name}-{package.suffix}"
    run_checked(python, "-m", "venv", venv)
    run_checked(venv / "bin" / "pip", "install", "--quiet", package)
    return venv / "bin" / "kbsync"


def run(kbsync: Path, scratch: Path) -> None:
    """Mirror a text and a document that needs a parser, and search for both."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    (folder / "badges.md").write_text("Lost your badge? Ring the bell at the east door.\n")
    (folder / "boiler.rtf").write_text(r"{\rtf1\ansi The boiler is in the cellar.}")
    options = ("--folder", folder, "--state-dir", Path(tempfile.mkdtemp(dir=scratch)))
    run_checked(kbsync, "--once", *options)
    for query, name in (("who opens when a badge is lost", "badges.md"), ("boiler", "boiler.rtf")):
        if not run_checked(kbsync, "search", query, "--files", *options).startswith(str(folder / name)):
            raise SystemExit(f"{kbsync}: {name} is not found")


def platforms(newest: str) -> Iterator[str]:
    """Yield pip options for `newest` and the platforms that it also accepts."""
    yield from ("--platform", newest)
    family = re.match(r"[a-z]+", newest)
    for older in OLDER.get(family[0] if family else "", ()):
        yield from ("--platform", re.sub(r"_\d+_\d+_", older, newest, count=1))


def missing_wheels(version: str, newest: str) -> str:
    """Return the requirements without a wheel for this Python and platform; empty if there are none."""
    digits = version.replace(".", "")
    requirements = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["dependencies"]
    abis = [argument for abi in (f"cp{digits}", "abi3", "none") for argument in ("--abi", abi)]
    words = ("install", "--dry-run", "--quiet", "--only-binary", ":all:", "--target", "/nonexistent")
    python = ("--python-version", version, "--implementation", "cp", *abis)
    ended = tried(sys.executable, "-m", "pip", *words, *python, *platforms(newest), *requirements)
    missing = re.findall(r"No matching distribution found for (\S+)", ended.stderr)
    return ", ".join(missing) or ("" if ended.returncode == 0 else ended.stderr.strip())


def main(arguments: Sequence[str]) -> int:
    """Print the rows: the Pythons that ran here, then those that resolve elsewhere."""
    with tempfile.TemporaryDirectory(prefix="kbsync-packages-") as name:
        scratch = Path(name)
        built = packages(scratch / "dist")
        for version, python in pythons().items():
            for package in built:
                kbsync = installed(python, package, scratch)
                run(kbsync, scratch)
                kind = "wheel" if package.suffix == ".whl" else "sdist"
                print(
                    f"| {version} | {kind} | installed and run: {run_checked(kbsync, '--version').strip()} |",
                    flush=True,
                )
    for platform, tags in ELSEWHERE.items():
        for version in VERSIONS:
            missing = " ".join(filter(None, (missing_wheels(version, tag) for tag in tags)))
            print(f"| {version} | {platform} | {f'lacks {missing}' if missing else 'resolves'} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
