"""Runs the commands of the README and compares their output with the printed one."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.sandbox import Sandbox
from tests.docs.console import Console, run, without_measurements
from tests.docs.pages import README, ROOT, blocks, name_of
from tests.docs.test_commands import home_of
from tests.docs.test_commands import run as at_shell
from tests.share import long


@long
def test_readme_console_output_is_real(tmp_path: Path) -> None:
    with closing(Console(tmp_path)) as console:
        for step, printed in console.follow(blocks(README, "console", "yaml")):
            assert without_measurements(printed) == without_measurements(step.output), step.command


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Create the files that a clone has and `make try` needs."""
    # Spaces and other alphabets in a path break scripts that forget quotes.
    checkout = tmp_path / "kbsync 副本"
    checkout.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    for name in ("tools", "examples"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


def test_first_block_is_two_commands_without_a_placeholder() -> None:
    assert blocks(README, "sh")[0].text.splitlines() == ["make try FOLDER=examples/handbook", "make test"]


@long
def test_make_try_prints_what_the_readme_shows(clone: Path, tmp_path: Path) -> None:
    example = blocks(README, "text")[0].text
    printed = run(blocks(README, "sh")[0].text.splitlines()[0], clone, tmp_path)
    program = shlex.quote(str(Path(sys.prefix) / "bin" / "kbsync"))
    assert without_measurements(example.replace(".venv/bin/kbsync", program)) in without_measurements(printed)


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").rglob("*.md"))], ids=name_of)
def test_no_placeholder_acts_as_a_shell_redirect(page: Path) -> None:
    commands = [block.text for block in blocks(page, "sh", "console")]
    assert [text for text in commands if re.search(r"<[a-z ]+>", text)] == []


@long
def test_make_try_mirrors_and_searches_a_folder_and_prints_commands_to_paste(
    clone: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "an environment 环境"
    environment.symlink_to(sys.prefix)
    folder = tmp_path / "my folder"
    folder.mkdir()
    (folder / "opening hours.md").write_text("On Sundays the lighthouse is closed.\n")
    (folder / "picture.pdf").write_bytes(b"%PDF-1.4 and nothing more")  # fails: the pass exits 1
    printed = run(f"make try FOLDER=~/'my folder' VENV='{environment}'; echo exit $?", clone, tmp_path)
    for expected_text in (
        "1 uploaded, 1 failed",
        "search 'opening hours'",
        "On Sundays the lighthouse is closed.",
    ):
        assert expected_text in printed
    turn, _, ended = printed.partition("Your turn:\n")[2].partition("exit ")
    turns = [shlex.split(line, comments=True) for line in turn.splitlines()]
    program, given = str(environment / "bin" / "kbsync"), ["--folder", str(folder)]
    assert turns == [[program, "search", "…", *given], [program, *given]]
    assert ended.strip() == "0"


@long
def test_make_try_defaults_to_the_example_folder(clone: Path, tmp_path: Path) -> None:
    printed = run("make try; echo exit $?", clone, tmp_path)
    assert "documents searchable" in printed
    assert "exit 0" in printed
    assert not list(clone.glob(".venv"))


def test_readme_installs_everything_its_commands_need() -> None:
    text = README.read_text()
    extras = set(re.findall(r"(?m)^(?:pipx|uv tool) install '\.\[([a-z,]+)\]'$", text))
    assert extras == {"mcp"}
    assert "kbsync mcp --folder" in text


@long
def test_readme_says_which_deletions_need_no_approval(sandbox: Sandbox) -> None:
    text = " ".join(README.read_text().split())
    assert "the whole mirror, or both more than five documents and more than a fifth of the mirror" in text
    for number in range(10):
        sandbox.write(f"{number}.md", f"document {number}")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    for number in range(5):
        (sandbox.docs / f"{number}.md").unlink()
    assert sandbox.run("--once", "--folder", "docs", "--json").json["deleted"] == 5
    for number in range(10, 20):
        sandbox.write(f"{number}.md", f"document {number}")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    for number in range(5, 11):
        (sandbox.docs / f"{number}.md").unlink()
    assert sandbox.run("--once", "--folder", "docs").code == 3


@long
def test_readme_undoes_its_first_mirror(sandbox: Sandbox) -> None:
    text = README.read_text()
    once = re.search(r"(?m)^\$ \.venv/bin/kbsync (--once --folder \S+)$", text)
    undo = re.search(r"`\.venv/bin/kbsync (forget \S+ --delete-documents)`", text)
    assert once is not None
    assert undo is not None
    assert sandbox.run(*once[1].split(), cwd=ROOT).code == 0
    assert sandbox.run(*undo[1].split(), "--yes", cwd=sandbox.home).out.endswith("6 documents deleted\n")


def week() -> list[str]:
    """Return the commands of the table of tasks."""
    table = README.read_text().partition("## A week with kbsync\n")[2].partition("\n## ")[0]
    return [code for code in re.findall(r"`([^`]+)`", table) if " " in code and code[0].islower()]


@long
def test_every_command_of_a_week_works(tmp_path: Path) -> None:
    home = home_of(tmp_path, "handbook")
    places = {"PATH": "guides/errors.md", "DIR": "more", "NAME": "more", "FILE": "copy.db"}
    (home / "more").mkdir()
    (home / "notes").symlink_to("handbook")
    used = set[str]()
    for typed in (line for line in week() if line.startswith(("kbsync ", "echo "))):
        line = re.sub(r"\b(PATH|DIR|NAME|FILE)\b", lambda match: places[match[0]], typed)
        line += " --config other.yaml" if " init " in line else ""
        line = f"timeout --preserve-status 4 {line} || true" if "--watch" in line else line
        assert "Traceback" not in at_shell(line, home)
        used.add(typed.split()[1])
    assert used >= {
        "status",
        "explain",
        "history",
        "add",
        "remove",
        "plan",
        "approve",
        "retry",
        "pause",
        "resume",
    }


def test_commands_of_a_week_for_the_machine_are_those_of_tested_pages() -> None:
    tested = {
        line
        for page in ("service.md", "upgrading.md")
        for block in blocks(ROOT / "docs" / page, "sh")
        for line in block.text.splitlines()
    }
    programs = ("mkdir ", "cp ", "systemctl ", "pipx ")
    of_machine = [line for line in week() if line.startswith(programs)]
    assert len(of_machine) == 5
    assert set(of_machine) <= tested
    assert "`loginctl enable-linger`" in (ROOT / "docs/service.md").read_text()
