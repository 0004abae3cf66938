"""Tests that shells can use the scripts that `kbsync completion` prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.sandbox import Sandbox
from tests.docs.pages import ROOT
from tests.programs import needs
from tests.share import enumerated, long

ASK = {
    "bash": (
        'source "$1"; COMP_WORDS=(kbsync sea); COMP_CWORD=1; '
        '"$(complete -p kbsync | sed "s/.*-F \\([^ ]*\\) .*/\\1/")" kbsync sea kbsync; echo "${COMPREPLY[@]}"'
    ),
    "fish": 'source $argv[1]; complete --do-complete "kbsync sea"',
    "zsh": 'zsh -n "$1" && echo search',
}
"""How to ask each shell for completions of `sea`; zsh would need a terminal, so it only reads the script."""


def shell_in(sandbox: Sandbox, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a shell in which `kbsync` is this one."""
    bin_dir = sandbox.add_folder("bin")
    program = bin_dir / "kbsync"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kbsync "$@"\n')
    program.chmod(0o755)
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HOME": str(sandbox.home)}
    return subprocess.run(words, env=env, cwd=sandbox.root, capture_output=True, text=True, check=False)


@enumerated()
@pytest.mark.parametrize("words", ["approve", "forget", "status --mirror"])
def test_mirror_names_are_completed(sandbox: Sandbox, words: str) -> None:
    sandbox.configure()
    request = {
        "_KBSYNC_COMPLETE": "bash_complete",
        "COMP_WORDS": f"kbsync {words} ha",
        "COMP_CWORD": str(len(words.split()) + 1),
    }
    completed = shell_in(sandbox, "env", *(f"{name}={value}" for name, value in request.items()), "kbsync")
    assert completed.stdout == "plain,handbook\n", completed.stderr


def test_zsh_gets_the_declarations_it_needs(sandbox: Sandbox) -> None:
    assert "autoload -Uz compinit && compinit" in sandbox.run("completion", "--help").out


@long
def test_commands_in_help_and_documentation_work_in_a_new_home(sandbox: Sandbox) -> None:
    help_text = sandbox.run("completion", "--help").out
    commands = [line.strip() for line in help_text.partition("Examples:")[2].splitlines()]
    section = (ROOT / "docs" / "commands.md").read_text().partition("## Completion\n\n```sh\n")[2]
    assert section.partition("```")[0].split("\n")[:-1] == [line for line in commands if line]
    result = shell_in(sandbox, "sh", "-e", "-c", "\n".join(commands))
    assert (result.returncode, result.stderr) == (0, "")
    written = (
        ".local/share/bash-completion/completions/kbsync",
        ".zshrc",
        ".config/fish/completions/kbsync.fish",
    )
    assert all("kbsync" in (sandbox.home / file).read_text() for file in written)


@pytest.mark.parametrize("shell", [pytest.param(name, marks=needs(name)) for name in ASK])
def test_shell_completes_a_command(sandbox: Sandbox, shell: str) -> None:
    script = sandbox.root / "script"
    script.write_text(sandbox.run("completion", shell).out)
    name = () if shell == "fish" else (shell,)
    output = shell_in(sandbox, shutil.which(shell) or shell, "-c", ASK[shell], *name, script)
    assert output.stdout.split()[:1] == ["search"], output.stderr
