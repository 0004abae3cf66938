"""Commands that install kbsync, change the machine or start containers, on a machine made of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.machine import Machine
from tests.docs.pages import PAGES, ROOT, blocks
from tests.docs.test_commands import PAGES as AT_HOME
from tests.docs.test_service import PAGE as SERVICE
from tests.docs.test_targets import GPTBOTS, STAND_IN, VECTORS, ZHIPU

DOCS = ROOT / "docs"
ON_A_MACHINE = {
    DOCS / "getting-started.md": ("pipx ", "uv "),
    DOCS / "troubleshooting.md": ("echo fs.", "sudo "),
    DOCS / "upgrading.md": ("kbsync ", "pipx ", "systemctl "),
    DOCS / "docker.md": ("docker ",),
    ROOT / "README.md": ("pipx ", "uv "),
}
"""Pages with such commands, and how these begin."""


def commands(page: Path) -> list[str]:
    lines = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    return [line for line in lines if line.startswith(ON_A_MACHINE[page])]


@pytest.mark.parametrize("page", ON_A_MACHINE, ids=lambda page: page.stem)
def test_every_command_of_the_page_succeeds(page: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.installed()
    assert commands(page)
    for line in commands(page):
        done = machine.do(line)
        assert done.returncode == 0, (line, done.stdout, done.stderr)


def test_what_the_program_in_a_container_writes_is_found_from_the_one_beside_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    *_, status, search = [machine.do(line) for line in commands(DOCS / "docker.md")]
    assert "handbook" in status.stdout
    assert search.stdout.startswith("today.md")


@pytest.mark.parametrize("installs", ["pipx install .", "uv tool install ."])
def test_what_was_installed_can_be_run(installs: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert installs in commands(DOCS / "getting-started.md")
    assert machine.do(installs).returncode == 0
    assert machine.do("kbsync --version").stdout.startswith("kbsync ")


def test_no_block_of_a_page_is_left_out() -> None:
    others = {
        SERVICE,
        ZHIPU,
        GPTBOTS,
        VECTORS,
        STAND_IN,
        DOCS / "internals" / "testing.md",
    }  # the last takes hours
    shown = {page for page in PAGES if any(blocks(page, "sh", "console"))}
    assert shown - others - set(AT_HOME) == set(ON_A_MACHINE) - set(AT_HOME)
