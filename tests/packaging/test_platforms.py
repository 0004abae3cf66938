"""docs/platforms.md speaks of the Pythons that the package takes, and of no others."""

from __future__ import annotations

import re
import tomllib

from tests.docs.pages import ROOT
from tools.packages import VERSIONS, platforms

PAGE = (ROOT / "docs" / "platforms.md").read_text()


def test_every_python_that_may_be_used_is_in_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    low, high = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))
    wanted = tuple(f"3.{minor}" for minor in range(low, high))
    assert tuple(re.findall(r"^\| (3\.\d+) \|", PAGE, re.MULTILINE)) == wanted == VERSIONS


def test_older_platforms_that_fit_are_named_to_pip() -> None:
    named = list(platforms("manylinux_2_28_aarch64"))
    assert named[:4] == ["--platform", "manylinux_2_28_aarch64", "--platform", "manylinux_2_27_aarch64"]
    assert "manylinux_2_17_aarch64" in named
    assert list(platforms("win_amd64")) == ["--platform", "win_amd64"]
