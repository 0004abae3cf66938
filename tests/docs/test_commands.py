"""Every command of kbsync that a page shows in a block is run, in the page's order, in a reader's home."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.console import environment
from tests.docs.pages import ROOT, Block, blocks
from tests.index.samples import pdf

DOCS = ROOT / "docs"
PAGES = {
    DOCS / "getting-started.md": "notes",
    DOCS / "commands.md": "handbook",
    DOCS / "deletions.md": "handbook",
    DOCS / "backup.md": "handbook",
    DOCS / "operations.md": "handbook",
    DOCS / "troubleshooting.md": "handbook",
    DOCS / "targets" / "local.md": "handbook",
}
"""Pages whose blocks are not run as consoles elsewhere, and the folder their reader has."""

ELSEWHERE = ("pipx ", "uv ", "sudo ", "echo fs.")
"""What installs programs or changes the machine; `test_installing.py` does it."""

PAPERS = {
    "password.md": "# Password\n\nTo reset a password, ask at the desk. Whoever cannot, writes an invoice.\n",
    "guides/errors.md": "# Errors\n\nError handling: every error has a cure.\n",
    "draft.txt": "A draft of the next letter.\n",
}


def home_of(reader: Path, folder: str) -> Path:
    """A home with a folder of papers, which is mirrored already where the page speaks of a mirror."""
    for place, text in PAPERS.items():
        file = reader / folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    file = reader / folder / "path/to/file.pdf"
    file.parent.mkdir(parents=True)
    file.write_bytes(pdf([["Opening hours", "The office opens at nine.", "An invoice can be had then."]]))
    for place in ("kbsync", "fish/completions"):
        (reader / ".config" / place).mkdir(parents=True)
    for place in ("backups", ".local/share/bash-completion/completions"):
        (reader / place).mkdir(parents=True)
    if folder == "handbook":
        config = reader / ".config/kbsync/config.yaml"
        config.write_text(f"mirrors:\n  - {{name: handbook, folder: {reader / folder}}}\n")
        assert run("kbsync --once", reader) == ""
    return reader


def run(script: str, home: Path) -> str:
    """What a shell says on stderr to a block, each of whose lines succeeds."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=home,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stderr


def runnable(block: Block, home: Path) -> str:
    """A block without what is run elsewhere; who watches is ended after a while, who asks is told yes."""
    lines = [line for line in block.text.splitlines() if not line.startswith(ELSEWHERE)]
    script = "\n".join(lines).replace("/backups/", f"{home}/backups/")
    script = re.sub(r"(kbsync forget .*)", r"\1 --yes", script)
    return re.sub(r"^(kbsync --folder .*)", r"timeout --preserve-status 4 \1", script, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_the_page_succeeds(page: Path, tmp_path: Path) -> None:
    home = home_of(tmp_path, PAGES[page])
    shown = [runnable(block, home) for block in blocks(page, "sh")]
    assert any(re.search(r"^kbsync ", script, re.MULTILINE) for script in shown)
    for script in shown:
        assert "Traceback" not in run(script, home)
