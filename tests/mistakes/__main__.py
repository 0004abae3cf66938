"""Makes each mistake of the catalogue in a copy of the project and runs the tests that must notice it.

Usage: python -m tests.mistakes [--only WORD[,WORD…]] [--workers 2] [--list]

A mistake is *noticed* if a test fails that passes without it, and *missed* if all pass. The quick tests run
first, and if they miss it, those that `make test` leaves to `make test-rest`. Exits with 1 if a mistake was
missed, or if the code has changed and the catalogue needs an update.
"""

from __future__ import annotations

import argparse
import json
import os
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
"""Seconds for the tests of one mistake. If they take longer, they hang, and no test names the mistake."""

_NOT_COPIED = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "dist", "build", "benchmarks")


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
        paths = (copy, copy / "standin", sysconfig.get_path("purelib"))
        packages.joinpath("copy.pth").write_text("".join(f"{path}\n" for path in paths))
        program = environment / "bin" / "kbsync"
        program.write_text(f"#!{environment}/bin/python\nfrom kbsync.__main__ import main\n\nmain()\n")
        program.chmod(0o755)
        yield copy


def try_mistake(mistake: Mistake, copy: Path) -> tuple[str, str]:
    """Return the first test that fails with the mistake, or '' and why none does. Restores the copy."""
    source = copy / mistake.file
    before = source.read_text()
    if before.count(mistake.right) != 1:
        return "", f"out of date: {mistake.file} has its text {before.count(mistake.right)} times"
    source.write_text(before.replace(mistake.right, mistake.wrong))
    try:
        failing = run_tests(mistake.tests, copy, "-x")
        failing = failing or run_tests(mistake.tests, copy, "-x", which=share.REST)
    except subprocess.TimeoutExpired:
        return "", f"hangs for more than {LIMIT:.0f} s: no test fails with its name"
    finally:
        source.write_text(before)
    return (failing[0], "") if failing else ("", "missed")


def run_tests(
    tests: Sequence[str], copy: Path, *options: str, which: str = share.QUICK, limit: float = LIMIT
) -> list[str]:
    """Return the ids of the tests of share `which` that fail.

    Raises `TimeoutExpired` after `limit` seconds.
    """
    cache, scratch = copy.parent / "cache", copy.parent / "scratch"
    command = [copy / ".venv/bin/python", "-m", "pytest", "-p", "no:xdist", *options]
    command += ["-o", f"cache_dir={cache}", f"--basetemp={scratch}", *tests]
    try:
        completed = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, share.SHARE: which},
            timeout=limit,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        failing = cache / "v/cache/lastfailed"
        if (
            completed.returncode in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
            and failing.exists()
        ):
            return list(json.loads(failing.read_text()))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)
    if completed.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return []  # no test: all of these belong to the other share
    raise RuntimeError(
        f"pytest ended with {completed.returncode}:\n{completed.stdout[-2000:]}{completed.stderr[-500:]}"
    )


def find_failing(tests: Sequence[str], copy: Path) -> set[str]:
    """Return which tests fail in an unchanged copy; a test that exists only with its mistake doesn't."""
    try:
        return set(run_tests(tests, copy, limit=3 * LIMIT))
    except RuntimeError:
        return {test for test in tests if fails(test, copy)}


def fails(test: str, copy: Path) -> bool:
    try:
        return bool(run_tests([test], copy))
    except RuntimeError:
        return False


def play(names: Sequence[str], workers: int) -> int:
    """Try the mistakes, print a line for each, and return how many were not noticed."""
    not_noticed = 0
    waiting, lock = deque(names), threading.Lock()

    def take() -> str | None:
        with lock:
            return waiting.popleft() if waiting else None

    def report(name: str, result: str, seconds: float) -> None:
        with lock:
            print(f"{name:<34} {result} ({seconds:.0f} s)", flush=True)

    def work() -> None:
        nonlocal not_noticed
        noticed = dict[str, str]()
        missed = 0
        with copy_of_project() as copy:
            while name := take():
                began = time.monotonic()
                failing, reason = try_mistake(MISTAKES[name], copy)
                if failing:
                    noticed[name] = failing
                missed += not failing
                report(name, f"noticed by {failing}" if failing else reason, time.monotonic() - began)
            began = time.monotonic()
            # One run for all, because most of such a run is its start.
            tests = list(dict.fromkeys(noticed.values()))
            failing_always = find_failing(tests, copy) if tests else set()
            for name, failing in noticed.items():
                if failing in failing_always:
                    missed += 1
                    result = f"nothing can be said: {failing} fails without the mistake too"
                    report(name, result, time.monotonic() - began)
        with lock:
            not_noticed += missed

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
    parts_of_names = args.only.replace(",", " ").split()
    names = [name for name in MISTAKES if not parts_of_names or any(part in name for part in parts_of_names)]
    if args.list:
        print("\n".join(f"{name:<34} {MISTAKES[name].breaks}" for name in names))
        return 0
    missed = play(names, args.workers)
    print(f"{len(names)} mistakes, {missed} not noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
