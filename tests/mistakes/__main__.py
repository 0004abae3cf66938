"""Makes each mistake of the catalogue in a copy of the project and runs the tests that must notice it.

Usage: python -m tests.mistakes [--only WORD[,WORD…]] [--workers 2] [--list]

A mistake is *noticed* if a test fails that passes without it, and *missed* if all pass. Exits with 1 if one
was missed, or if the code has changed and the catalogue needs an update.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import share
from tests.mistakes.catalogue import MISTAKES, Mistake

PROJECT = Path(__file__).parents[2]
LIMIT = 300.0
"""Seconds for the tests of one mistake: tests that take longer hang, which counts as noticed."""

_NOT_COPIED = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "dist", "build", "benchmarks")
_FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.MULTILINE)  # without the values of its parameters


@contextmanager
def copy_of_project() -> Iterator[Path]:
    """Create a copy of the checkout, with an environment in which `kbsync` is that copy."""
    with tempfile.TemporaryDirectory(prefix="kbsync-mistakes.") as folder:
        copy = Path(folder, "project")
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True)
        environment = copy / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": os.fspath(environment)}))
        # Python doesn't read .pth files in a folder named by a .pth, so the checkout isn't imported.
        places = (copy, copy / "standin", sysconfig.get_path("purelib"))
        packages.joinpath("copy.pth").write_text("".join(f"{place}\n" for place in places))
        program = environment / "bin" / "kbsync"
        program.write_text(f"#!{environment}/bin/python\nfrom kbsync.__main__ import main\n\nmain()\n")
        program.chmod(0o755)
        yield copy


def verdict(mistake: Mistake, copy: Path) -> str:
    """Return `noticed by …`, `missed`, or the reason for neither. Restores the copy."""
    source = copy / mistake.file
    before = source.read_text()
    if before.count(mistake.right) != 1:
        return f"out of date: {mistake.file} has its text {before.count(mistake.right)} times"
    source.write_text(before.replace(mistake.right, mistake.wrong))
    try:
        failed = first_to_fail(mistake.tests, copy)
    except subprocess.TimeoutExpired:
        return f"hangs for more than {LIMIT:.0f} s: no test fails with its name"
    finally:
        source.write_text(before)
    if not failed:
        return "missed"
    if first_to_fail(mistake.tests, copy, "--last-failed"):
        return f"nothing can be said: {failed} fails without the mistake too"
    return f"noticed by {failed}"


def first_to_fail(tests: Sequence[str], copy: Path, *options: str) -> str:
    """Return the first test that fails, '' if all pass."""
    scratch = copy.parent / "scratch"
    command = [copy / ".venv/bin/python", "-m", "pytest", "-x", "-p", "no:xdist", *options]
    command += ["-o", f"cache_dir={copy.parent / 'cache'}", f"--basetemp={scratch}", *tests]
    still = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    try:
        ran = subprocess.run(command, cwd=copy, timeout=LIMIT, check=False, **still)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    result = _FAILED.search(ran.stdout)
    if result is not None:
        return result[1]
    if ran.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return ""  # if all these tests belong to `make test-rest`, none notices anything in `make test`
    raise RuntimeError(f"pytest ended with {ran.returncode}:\n{ran.stdout[-2000:]}{ran.stderr[-500:]}")


def play(names: Sequence[str], workers: int) -> int:
    """Try the mistakes, print a line for each, and return how many were not noticed."""
    not_noticed = 0
    waiting, lock = deque(names), threading.Lock()

    def take() -> str | None:
        with lock:
            return waiting.popleft() if waiting else None

    def work() -> None:
        nonlocal not_noticed
        with copy_of_project() as copy:
            while name := take():
                began = time.monotonic()
                result = verdict(MISTAKES[name], copy)
                with lock:
                    not_noticed += not result.startswith("noticed")
                    print(f"{name:<34} {result} ({time.monotonic() - began:.0f} s)", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        for ended in [pool.submit(work) for _ in range(workers)]:
            ended.result()
    return not_noticed


def main(words: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mistakes")
    parser.add_argument("--only", default="", help="mistakes whose name has one of these words in it")
    parser.add_argument("--workers", type=int, default=2, help="copies of the project at a time (2)")
    parser.add_argument("--list", action="store_true", help="name the mistakes and end")
    args = parser.parse_args(words)
    share.choose_seed()  # both runs of a mistake choose the same cases
    asked = args.only.replace(",", " ").split()
    names = [name for name in MISTAKES if not asked or any(word in name for word in asked)]
    if args.list:
        print("\n".join(f"{name:<34} {MISTAKES[name].breaks}" for name in names))
        return 0
    missed = play(names, args.workers)
    print(f"{len(names)} mistakes, {missed} not noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
