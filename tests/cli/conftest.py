"""Places to run the program in. Tests that only read share a folder that is already mirrored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.cli.commands import init
from kbsync.index import better
from tests.cli.place import Place
from tests.cli.terminal import Begin, Terminal
from tests.cli.zhipu import ZhipuPlace, zhipu_place

ODD = "odd\x1b[2J\nname.md"
"""A file name that would clear a terminal."""


@pytest.fixture(autouse=True)
def without_better_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed here, no mirror has better vectors."""
    monkeypatch.setattr(better, "is_installed", lambda: False)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


@pytest.fixture
def zhipu(tmp_path: Path) -> Iterator[ZhipuPlace]:
    """Yield a place with its own service, whose rules no request may break."""
    with zhipu_place(tmp_path) as zhipu:
        yield zhipu
        assert zhipu.service.violations() == []


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Mirror `docs` with --folder. Tests must not change anything in it."""
    place = Place(tmp_path_factory.mktemp("mirrored"))
    place.write("install.md", "# Installation\n\n## Linux\n\nRun the installer, then reset your password.\n")
    place.write("guides/hours.txt", "Opening hours: the office opens at nine and closes at five.\n")
    place.write("guides/配置.md", "# 配置\n\n重置密码需要管理员权限。\n")
    place.write(ODD, "A xylophone with \x1b[31mcolours\x1b[0m in its text.\n")
    place.write("empty.md", "")
    place.write("program.bin", bytes(range(256)))
    ran = place.run("--once", "--folder", "docs", "--json")
    assert ran.code == 0, ran.err
    return place


@pytest.fixture
def failed(place: Place) -> Place:
    """Create a mirror with one good document and two that failed."""
    place.write("good.md", "text")
    place.write("broken.pdf", "this is no pdf")
    place.write("scans/torn.pdf", "nor is this")
    place.configure()
    assert place.run("--once").code == 1
    return place


@pytest.fixture
def terminal() -> Iterator[Begin]:
    """Run kbsync in a place, each time in a new terminal."""
    started: list[Terminal] = []

    def begin(place: Place, *words: str, **size_and_env: Any) -> Terminal:
        started.append(Terminal(place, *words, **size_and_env))
        return started[-1]

    yield begin
    for one in started:
        one.kill()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Type answers to `init`; "" accepts the default. `init` must ask for all of them."""
    typed: list[str] = []

    def ask(_prompt: str, default: str | None = None) -> str:
        return typed.pop(0) or default or ""

    monkeypatch.setattr(init, "_is_interactive", lambda: True)
    monkeypatch.setattr(init, "ask", ask)
    monkeypatch.setattr(init, "agrees", lambda _question: ask("") == "y")
    yield typed
    assert typed == []
