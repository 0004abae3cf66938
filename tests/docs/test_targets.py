"""The pages of the targets: their consoles are run beside a real stand-in, their tables are the program's."""

from __future__ import annotations

import hashlib
import re
import shlex
from contextlib import closing
from pathlib import Path

import pytest

from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.names import Naming
from kbsync.targets.zhipu.config import EXTENSIONS, SLICES
from kbsync.targets.zhipu.errors import CODES, Blame
from kbsync_standin.__main__ import read_options
from kbsync_standin.control import PREFIX, ROUTES
from kbsync_standin.zhipu.faults import CATALOGUE
from tests.docs.console import Console, without_measurements
from tests.docs.pages import ROOT, blocks

FOLDER = ROOT / "docs" / "targets"
ZHIPU, STAND_IN = FOLDER / "zhipu.md", ROOT / "docs" / "internals" / "stand-in.md"
GPTBOTS, VECTORS = FOLDER / "gptbots.md", FOLDER / "vectors.md"
PREFERRED = ("txt", "md", "doc", "docx", "pdf", "ppt", "pptx", "xls", "xlsx", "csv", *sorted(LINKS))


@pytest.mark.parametrize("page", [ZHIPU, STAND_IN, GPTBOTS, VECTORS], ids=lambda page: page.stem)
def test_the_console_prints_what_the_page_says(page: Path, tmp_path: Path) -> None:
    with closing(Console(tmp_path)) as console:
        for step, printed in console.follow(blocks(page, "console", "yaml")):
            assert without_measurements(printed) == without_measurements(step.output), step.command


def table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the first table below the row that begins with `heading`, as cells."""
    below = page.read_text().split(f"\n| {heading}", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in below.splitlines()[2:]]


def test_names_are_those_that_are_given() -> None:
    digest = hashlib.sha256(b"hello\n").hexdigest()
    rows = table(ZHIPU, "file, with the content `hello`")
    assert len(rows) > 3
    for cells in rows:
        path, tagged, plain = (cell.strip("`") for cell in cells)
        assert Naming(style="tagged").name(path, digest) == tagged
        assert Naming(style="plain").name(path, digest) == plain
    assert f"`{Naming().name('intro.md', digest, 1)}`" in ZHIPU.read_text()
    assert f"`{Naming(style='plain').name('intro.md', digest, 1)}`" in ZHIPU.read_text()


def test_ways_of_cutting_are_those_that_are_taken() -> None:
    told = {int(cells[0]): cells[2].split() for cells in table(ZHIPU, "`knowledge_type`")}
    assert told.keys() == SLICES.keys()
    assert all(sorted(told[number]) == sorted(SLICES[number]) for number in told)


def test_formats_are_those_that_are_taken() -> None:
    assert set(PREFERRED) == EXTENSIONS
    assert f"| formats | {' '.join(PREFERRED)} |" in ZHIPU.read_text()
    assert f"| {' '.join(PREFERRED)} |" in (FOLDER / "README.md").read_text()


BLAMES = {
    "may have been stored": Blame.OUTCOME,
    "not stored": Blame.LATER,
    "halt `credentials`": Blame.CREDENTIALS,
    "halt `quota`": Blame.MONEY,
    "the document is to blame": Blame.REQUEST,
    "sent again a few times": Blame.FORBIDDEN,
    "no such thing": Blame.MISSING,
    "no such call": Blame.ROUTE,
}


def test_codes_are_told_with_what_is_done() -> None:
    told = {
        code: blame
        for what, codes in table(ZHIPU, "what is done")
        for beginning, blame in BLAMES.items()
        if what.startswith(beginning)
        for code in codes.split()
    }
    assert told == {code: meaning.blame for code, meaning in CODES.items()}


def test_the_control_api_is_described() -> None:
    told = {path for cells in table(STAND_IN, "| |") for path in re.findall(r"(/_standin\S*)`", cells[0])}
    assert {path.rstrip(",") for path in told} == {PREFIX + route for route in ROUTES}


def test_commands_of_the_stand_in_are_taken() -> None:
    lines = [line for block in blocks(STAND_IN, "sh") for line in block.text.splitlines()]
    kinds = set()
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "kbsync_standin"]
        options = read_options(words[3:])
        for fault in options.faults:
            kinds.add(fault.kind)
            own = CATALOGUE.get(fault.kind)
            assert own is None or fault.args.keys() <= own.args.keys()
    assert len(kinds) == len(lines)
