"""Runs the example in `examples/assistant`, and compares its output with its page."""

from __future__ import annotations

import shutil
import sys

from tests.cli.sandbox import Sandbox
from tests.docs.pages import ROOT, blocks
from tests.programs import run_program
from tests.share import long

EXAMPLE = ROOT / "examples" / "assistant"


@long
def test_assistant_finds_each_edit_and_prints_what_its_page_shows(sandbox: Sandbox) -> None:
    folder = sandbox.root / "handbook"
    shutil.copytree(ROOT / "examples" / "handbook", folder)
    script = str(EXAMPLE / "assistant.py")
    completed = run_program(sys.executable, script, str(folder), env=sandbox.environ({}), timeout=90)
    assert completed.returncode == 0, completed.stderr
    [printed] = [block.text for block in blocks(EXAMPLE / "README.md", "text")]
    assert completed.stdout.strip() == printed.strip()
