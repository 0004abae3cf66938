"""Programs and libraries that some tests need and that some machines lack.

A test marked with `needs(...)` is skipped if one is missing, and the summary names it. With `KBSYNC_NO_SKIP`
set it fails instead, for machines that are meant to have everything.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest

MARK = "needs"
ENDING = "is not installed"


def needs(*names: str) -> pytest.MarkDecorator:
    """Return a mark with program names and library file names such as `libseccomp.so.2`."""
    return pytest.mark.needs(*names)


def find_program(program: str) -> str | None:
    """Return the path of the program, next to this Python or on PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(program, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


def run_program(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and capture its output. `options`: those of `subprocess.run`."""
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)


def write_program(file: Path, script: str) -> None:
    """Write a shell script as an executable program."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def is_running(process: int) -> bool:
    """Return whether it exists and isn't a zombie, which may have nobody to wait for it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_installed(name: str) -> bool:
    if ".so" not in name:
        return find_program(name) is not None
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def require_programs(names: Iterable[str]) -> None:
    """Skip or fail the current test if one of them is missing."""
    missing = [name for name in names if not is_installed(name)]
    if missing:
        do_without(", ".join(missing))


def do_without(program: str) -> NoReturn:
    """Skip or fail the current test for lack of a program."""
    reason = f"{program} {ENDING}"
    if os.environ.get("KBSYNC_NO_SKIP"):
        pytest.fail(f"{reason}, and KBSYNC_NO_SKIP is set", pytrace=False)
    pytest.skip(reason)


def summary(reasons: Iterable[str]) -> list[str]:
    """Return one line for each missing program, with the number of tests skipped for it."""
    counts = Counter(reason for reason in reasons if reason.endswith(ENDING))
    return [f"{count} skipped: {reason}" for reason, count in sorted(counts.items())]
