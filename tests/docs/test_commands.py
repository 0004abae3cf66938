"""Runs every command that a page shows in a block, in the page's order.

`test_service.py`, `test_readme.py`, `test_scale.py` and `test_targets.py` run the pages that are not named
here.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.docs.console import environment
from tests.docs.machine import Machine
from tests.docs.pages import PAGES, README, ROOT, Block, blocks
from tests.docs.test_postgres import PAGE as POSTGRES
from tests.docs.test_scale import PAGE as SCALE
from tests.docs.test_service import PAGE as SERVICE
from tests.docs.test_targets import GPTBOTS, LIGHTRAG, OPENWEBUI, RAGFLOW, STAND_IN, VECTORS, ZHIPU
from tests.index.samples import pdf
from tests.programs import run_program
from tests.share import long

DOCS = ROOT / "docs"
MIRRORED = (
    "commands",
    "configuration",
    "deletions",
    "backup",
    "operations",
    "troubleshooting",
    "targets/local",
)
AT_HOME = {DOCS / "getting-started.md": "notes", **{DOCS / f"{page}.md": "handbook" for page in MIRRORED}}
"""Pages and the folder that their reader has."""

ON_A_MACHINE = {
    DOCS / "getting-started.md": ("pipx ", "uv "),
    DOCS / "troubleshooting.md": ("echo fs.", "sudo "),
    DOCS / "upgrading.md": ("kbsync ", "pipx ", "systemctl "),
    DOCS / "docker.md": ("docker ",),
    README: ("pipx ", "uv "),
}
"""Pages with commands that install programs, change the machine or start containers, and their first
words.
"""

FILES = {
    "password.md": "# Password\n\nTo reset a password, ask at the desk. Otherwise write an invoice.\n",
    "guides/errors.md": "# Errors\n\nError handling: every error has a cure.\n",
    "draft.txt": "A draft of the next letter.\n",
}


def home_of(reader: Path, folder: str) -> Path:
    """Create a home with a folder of files, already mirrored if the page mentions a mirror."""
    for path in (".config/kbsync", f"{folder}/guides", f"{folder}/path/to"):
        (reader / path).mkdir(parents=True)
    for path, text in FILES.items():
        (reader / folder / path).write_text(text)
    letter = pdf([["Opening hours", "The office opens at nine.", "An invoice can be had then."]])
    (reader / folder / "path/to/file.pdf").write_bytes(letter)
    if folder == "handbook":
        config = reader / ".config/kbsync/config.yaml"
        config.write_text(f"mirrors:\n  - {{name: handbook, folder: {reader / folder}}}\n")
        assert run("kbsync --once", reader) == ""
    return reader


def run(script: str, home: Path) -> str:
    """Run a block in a shell, require that each line succeeds, and return stderr."""
    still: dict[str, Any] = {"env": environment(home), "stdin": subprocess.DEVNULL, "timeout": 120}
    completed = run_program("bash", "-euo", "pipefail", "-c", script, cwd=home, **still)
    assert completed.returncode == 0, (script, completed.stdout, completed.stderr)
    return completed.stderr


def at_home(block: Block, home: Path) -> str:
    """Run a block without its machine commands; stop watching after a while, and answer questions."""
    elsewhere = ON_A_MACHINE.get(block.page, ("no such line",))
    script = "\n".join(line for line in block.text.splitlines() if not line.startswith(elsewhere))
    # There is no terminal to answer on.
    script = re.sub(r"(kbsync forget .*)", r"\1 --yes", script)
    return re.sub(r"^(kbsync --folder .*)", r"timeout --preserve-status 4 \1", script, flags=re.MULTILINE)


@long
@pytest.mark.parametrize("page", AT_HOME, ids=lambda page: page.stem)
def test_every_documented_command_succeeds_for_a_user(page: Path, tmp_path: Path) -> None:
    home = home_of(tmp_path, AT_HOME[page])
    printed = [at_home(block, home) for block in blocks(page, "sh")]
    assert any(re.search(r"^kbsync ", script, re.MULTILINE) for script in printed)
    for script in printed:
        assert "Traceback" not in run(script, home)


def on_a_machine(page: Path) -> list[str]:
    lines = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    return [line for line in lines if line.startswith(ON_A_MACHINE[page])]


@long
@pytest.mark.parametrize("page", ON_A_MACHINE, ids=lambda page: page.stem)
def test_every_documented_command_succeeds_system_wide(page: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.installed()
    assert on_a_machine(page)
    for line in on_a_machine(page):
        completed = machine.do(line)
        assert completed.returncode == 0, (line, completed.stdout, completed.stderr)


@long
def test_file_written_by_a_program_beside_kbsync_is_found(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    *_, status, search = [machine.do(line) for line in on_a_machine(DOCS / "docker.md")]
    assert "handbook" in status.stdout
    assert search.stdout.startswith("today.md")


@pytest.mark.parametrize("installs", ["pipx install '.[mcp]'", "uv tool install '.[mcp]'"])
def test_installed_programs_can_be_run(installs: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert installs in on_a_machine(DOCS / "getting-started.md")
    assert machine.do(installs).returncode == 0
    assert machine.do("kbsync --version").stdout.startswith("kbsync ")


def test_no_block_of_a_page_is_skipped() -> None:
    # The last takes hours.
    targets = {ZHIPU, GPTBOTS, LIGHTRAG, OPENWEBUI, RAGFLOW, VECTORS}
    others = {*targets, POSTGRES, SERVICE, SCALE, STAND_IN, DOCS / "internals" / "testing.md"}
    printed = {page for page in PAGES if any(blocks(page, "sh", "console"))}
    assert printed <= {*others, *AT_HOME, *ON_A_MACHINE}
