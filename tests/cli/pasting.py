"""Pastes a printed fix into a shell unchanged, as a user would."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests import warm
from tests.cli.sandbox import UNSET, RunResult, Sandbox
from tests.docs.machine import moved, stand_ins

LONGEST = 60.0


def paste(sandbox: Sandbox, command: str, *, env: dict[str, str] | None = None, **words: str) -> RunResult:
    """Run a line in a shell in the home; `words` replace its placeholders.

    Stand-ins replace commands that need root or systemd and check their arguments (`tests.docs.machine`); the
    machine's own paths are below `machine(sandbox)`.
    """
    assert command.strip(), "nothing was printed that could be pasted"
    for stands_for, value in words.items():
        assert stands_for in command, command
        command = command.replace(stands_for, value)
    if command.startswith("kbsync approve"):
        command += " --yes"  # there is no terminal to confirm on
    root = machine(sandbox)
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    path = f"{stand_ins(root)}:{warm.programs()}:{os.environ['PATH']}:/usr/sbin:/sbin"
    ours = {"HOME": str(sandbox.home), "COLUMNS": "80", "PATH": path, "MACHINE": str(root)}
    process = subprocess.run(
        ["bash", "-e", "-c", moved(root, command)],
        cwd=sandbox.home,
        env={**environment, **ours, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LONGEST,
        check=False,
    )
    return RunResult(process.returncode, process.stdout, process.stderr.decode())


def machine(sandbox: Sandbox) -> Path:
    """Return the folder that represents the machine."""
    root = sandbox.root / "machine"
    (root / "etc" / "sysctl.d").mkdir(parents=True, exist_ok=True)
    return root


def after(text: str, words: str) -> str:
    """Return the rest of the line after `words`: a command at the end of a sentence."""
    [line] = [line for line in text.splitlines() if words in line]
    return line.partition(words)[2]
