"""Programs and libraries that some tests need and that not every machine has.

A test that is marked with `needs(...)` is skipped where one of them is missing, and the summary names it.
With `KBSYNC_NO_SKIP` set it fails instead: for machines that are meant to have everything.
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
    """A mark: programs by their names, libraries by those of their files, such as `libseccomp.so.2`."""
    return pytest.mark.needs(*names)


def found(program: str) -> str | None:
    """Where the program is: beside this Python or on PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(program, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


def ran(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A program with these words, to its end; what it says is kept. `options`: those of `run`."""
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)


def write_program(file: Path, script: str) -> None:
    """A program that a shell runs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def is_there(name: str) -> bool:
    if ".so" not in name:
        return found(name) is not None
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def look_for(names: Iterable[str]) -> None:
    """Skip or fail the test that is being set up when one is missing."""
    missing = [name for name in names if not is_there(name)]
    if missing:
        do_without(", ".join(missing))


def do_without(what: str) -> NoReturn:
    """Skip or fail the test that needs it."""
    reason = f"{what} {ENDING}"
    if os.environ.get("KBSYNC_NO_SKIP"):
        pytest.fail(f"{reason}, and KBSYNC_NO_SKIP is set", pytrace=False)
    pytest.skip(reason)


def summary(reasons: Iterable[str]) -> list[str]:
    """One line for each program that tests were skipped for, with their number."""
    counts = Counter(reason for reason in reasons if reason.endswith(ENDING))
    return [f"{count} skipped: {reason}" for reason, count in sorted(counts.items())]
