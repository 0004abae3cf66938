"""`search -i`: keys become a line, a line hits, and the terminal is left as it was. `open`: one of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.cli.commands import open as opening
from kbsync.cli.commands.open import open_or_print
from kbsync.cli.commands.search_live import PAUSE, PAUSE_AT_SERVICES, LiveSearch, pause_for
from kbsync.cli.output import Output
from kbsync.config.model import folder_config
from kbsync.config.secrets import Secret
from kbsync.contract.searching import Hit, Passage, Query
from kbsync.engine.search import FoundDocument
from kbsync.errors import Unavailable
from kbsync.targets.gptbots.config import GptbotsTargetConfig
from kbsync.targets.local.config import LocalTargetConfig
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig
from tests.cli.place import Place
from tests.cli.terminal import Begin

SECOND_SCREEN, FIRST_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
MIRROR = folder_config(Path("/srv/docs")).mirrors[0]


AT = "https://service.example/v1"


@pytest.mark.parametrize(
    ("target", "pause"),
    [
        (LocalTargetConfig(), PAUSE),
        (LocalTargetConfig(embedding=EmbeddingConfig(type="openai", base_url=AT)), PAUSE_AT_SERVICES),
        (LocalTargetConfig(rerank=RerankConfig(type="jina", base_url=AT)), PAUSE_AT_SERVICES),
        (GptbotsTargetConfig(api_key=Secret("secret"), knowledge_base_id="1"), PAUSE_AT_SERVICES),
    ],
    ids=["embedded", "embedding", "rerank", "remote"],
)
def test_requests_that_cost_wait_for_a_longer_rest(target: Any, pause: float) -> None:
    assert pause_for([MIRROR, replace(MIRROR, target=target)]) == pause


def test_the_mark_stays_among_what_was_found() -> None:
    session = LiveSearch(None, Query("ab"))  # type: ignore[arg-type]
    session.mark(1)
    assert (session.marked, session.chosen) == (0, None)
    session.found = [hit("a.md"), hit("b.md")]
    for step, marked in ((-1, 0), (1, 1), (1, 1), (-1, 0)):
        session.mark(step)
        assert session.marked == marked


class LiveSession:
    """A session whose searches end when the test says so."""

    def __init__(self, text: str = "", *, several: bool = False) -> None:
        self.asked: list[tuple[str, asyncio.Future[list[FoundDocument]]]] = []
        self.session = LiveSearch(self._search, Query(text), pause=0, several=several)
        self.session.redraw = self._redraw
        self.shown = ""

    async def _search(self, query: Query) -> list[FoundDocument]:
        answer = asyncio.get_running_loop().create_future()
        self.asked.append((query.text, answer))
        found: list[FoundDocument] = await answer
        return found

    def _redraw(self) -> None:
        self.shown = "\n".join(self.session.lines(Output()))

    async def turn(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


def hit(path: str) -> FoundDocument:
    return FoundDocument("docs", Path("/srv/docs"), path, Hit("1", 0.5, (Passage("the text of it\x1b[31m"),)))


async def test_results_of_what_is_no_longer_typed_are_not_shown() -> None:
    stage = LiveSession()
    working = asyncio.create_task(stage.session.keep_searching())
    stage.session.type("a")
    await stage.turn()
    stage.session.type("ab")
    stage.asked[0][1].set_result([hit("old.md")])
    await stage.turn()
    assert stage.session.found == []
    assert [text for text, _ in stage.asked] == ["a", "ab"]
    stage.asked[1][1].set_result([hit("new.md"), hit("second.md")])
    await stage.turn()
    assert "new.md" in stage.shown
    assert "\x1b[31m" not in stage.shown
    stage.session.mark(1)
    assert stage.session.chosen == Path("/srv/docs/second.md")
    working.cancel()


async def test_among_several_mirrors_each_hit_tells_its_own() -> None:
    stage = LiveSession("a", several=True)
    working = asyncio.create_task(stage.session.keep_searching())
    await stage.turn()
    stage.asked[0][1].set_result([hit("new.md")])
    await stage.turn()
    assert "docs: new.md" in stage.shown
    working.cancel()


async def test_a_service_that_fails_is_told_and_ends_nothing() -> None:
    stage = LiveSession("a")
    working = asyncio.create_task(stage.session.keep_searching())
    await stage.turn()
    stage.asked[0][1].set_exception(Unavailable("search answered 503"))
    await stage.turn()
    assert "search answered 503" in stage.shown
    stage.session.type("ab")
    await stage.turn()
    stage.asked[1][1].set_result([hit("new.md")])
    await stage.turn()
    assert "503" not in stage.shown
    working.cancel()


def test_a_person_types_chooses_and_gets_the_path(terminal: Begin, mirrored: Place, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    typing = terminal(mirrored, "search", "-i", "--folder", "docs", XDG_RUNTIME_DIR=str(tmp_path))
    typing.until(SECOND_SCREEN)
    typing.type("passw")
    typing.until("install.md")
    typing.type("ords")
    typing.resize(10, 40)
    typing.type("\x7f\r")
    typing.until(FIRST_SCREEN)
    assert typing.end() == 0
    assert str(mirrored.docs / "install.md") in typing.seen
    first = mirrored.run("open", env={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert first.out == f"{mirrored.docs / 'install.md'}\n"


@pytest.mark.parametrize(("ending", "code"), [("\x1b", 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_however_it_ends_the_terminal_is_as_before(
    terminal: Begin, mirrored: Place, ending: str | int, code: int
) -> None:
    typing = terminal(mirrored, "search", "-i", "password", "--folder", "docs")
    typing.until(SECOND_SCREEN)
    typing.until("install.md")
    if isinstance(ending, str):
        typing.type(ending)
    else:
        typing.process.send_signal(ending)
    typing.until(FIRST_SCREEN)
    assert typing.end() == code
    assert "Traceback" not in typing.seen


def test_a_search_on_a_terminal_numbers_its_hits_and_open_finds_them(mirrored: Place, tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "NO_COLOR": "1"}
    ran = mirrored.run("search", "password", "office", "--folder", "docs", tty=True, env=env)
    assert ran.out.startswith(" 1  ")
    best = mirrored.run("search", "password", "office", "--folder", "docs", "--files").out.splitlines()
    assert len(best) > 1
    for number, path in enumerate(best, 1):
        assert mirrored.run("open", str(number), env=env).out == f"{path}\n"
    beyond = mirrored.run("open", str(len(best) + 1), env=env)
    assert beyond.code == 2
    assert f"has {len(best)} hits" in beyond.err
    [kept] = (tmp_path / "kbsync").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"installer" not in kept.read_bytes()


@pytest.mark.parametrize("more", [("--files",), ("--files", "-0"), ("--json",)])
@pytest.mark.parametrize("piped", [False, True])
def test_open_takes_a_hit_of_the_last_search_however_that_was_printed(
    mirrored: Place, tmp_path: Path, more: tuple[str, ...], piped: bool
) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert mirrored.run("search", "password", "--folder", "docs", tty=True, env=env).code == 0
    assert mirrored.run("open", env=env).out == f"{mirrored.docs}/install.md\n"
    last = mirrored.run("search", "office", "--folder", "docs", *more, tty=True, piped=piped, env=env)
    assert "hours.txt" in last.out
    assert mirrored.run("open", env=env).out == f"{mirrored.docs}/guides/hours.txt\n"


def test_what_a_program_searches_for_leaves_no_trace(mirrored: Place, tmp_path: Path) -> None:
    before = mirrored.files()
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    for more in ((), ("--json",), ("--files",)):
        assert mirrored.run("search", "password", "--folder", "docs", *more, env=env).code == 0
    assert list(tmp_path.iterdir()) == []
    assert mirrored.run("search", "password", "--folder", "docs", tty=True).code == 0
    assert mirrored.files() == before


def test_a_file_that_has_gone_is_told(place: Place) -> None:
    env = {"XDG_RUNTIME_DIR": str(place.root)}
    assert opening.remember([place.docs / "gone.md"], "kbsync search QUERY", env)
    ran = place.run("open", env=env)
    assert ran.code == 2
    assert "gone.md no longer exists; search again" in ran.err


def test_a_folder_that_others_may_write_in_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    (tmp_path / "kbsync").mkdir()
    (tmp_path / "kbsync").chmod(0o777)
    (tmp_path / "kbsync" / "last-search").write_bytes(b"/etc/passwd")
    monkeypatch.setattr(opening, "MEMORY", tmp_path / "nowhere")
    assert opening.recall(env) is None
    assert not opening.remember([Path("/a")], "kbsync search QUERY", env)
    (tmp_path / "kbsync").rename(tmp_path / "other")
    (tmp_path / "other").chmod(0o700)
    (tmp_path / "kbsync").symlink_to("other")
    assert opening.recall(env) is None


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /dev/shm, in which everybody may write."""
    memory = tmp_path / "memory"
    memory.mkdir()
    memory.chmod(0o1777)
    monkeypatch.setattr(opening, "MEMORY", memory)
    return memory


def test_without_a_runtime_directory_hits_are_remembered_in_a_place_of_ones_own(
    mirrored: Place, memory: Path
) -> None:
    ran = mirrored.run("open")
    assert (ran.code, ran.out) == (2, "")
    assert "no search is remembered: none was made on a terminal; " in ran.err
    words = ("search", "password", "--folder", "docs")
    assert mirrored.run(*words, tty=True, env={"NO_COLOR": "1"}).out.startswith(" 1  ")
    assert mirrored.run("open").out == f"{mirrored.docs / 'install.md'}\n"
    [folder] = memory.iterdir()
    [kept] = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)


def foreign(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)


def linked(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def shared(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


OF_OTHERS = [
    pytest.param(foreign, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives away")),
    linked,
    shared,
]


@pytest.mark.parametrize("lay", OF_OTHERS)
def test_what_others_laid_there_is_not_believed_and_that_is_told(
    mirrored: Place, memory: Path, lay: Callable[[Path], None]
) -> None:
    folder = memory / f"kbsync-{os.geteuid()}"
    lay(folder)
    (folder / "last-search").write_bytes(b"/etc/passwd")
    assert mirrored.run("search", "password", "--folder", "docs", tty=True).code == 0
    ran = mirrored.run("open", "--print")
    assert (ran.code, ran.out) == (2, "")
    assert "neither $XDG_RUNTIME_DIR nor /dev/shm has a place that is yours alone" in ran.err
    assert (folder / "last-search").read_bytes() == b"/etc/passwd"


def test_names_that_are_no_unicode_are_remembered(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    odd = Path(os.fsdecode(b"/srv/caf\xe9\n.md"))
    assert opening.remember([odd], "kbsync search QUERY", env)
    assert opening.recall(env) == opening.Remembered("kbsync search QUERY", [odd])


class Tty:
    def isatty(self) -> bool:
        return True


def test_a_display_opens_an_editor_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("xdg-open", "my-editor"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >{tmp_path}/$$.new\n'
            f"mv {tmp_path}/$$.new {tmp_path}/said\n"
        )
        (tmp_path / name).chmod(0o700)
    monkeypatch.setattr("sys.stdin", Tty())
    monkeypatch.setattr("kbsync.cli.commands.open.sys.stdout", Tty())
    open_or_print(Path("/srv/a b"), {"VISUAL": f"{tmp_path}/my-editor -f", "PATH": "/usr/bin:/bin"})
    assert (tmp_path / "said").read_text() == "my-editor\n-f\n/srv/a b\n"
    (tmp_path / "said").unlink()
    open_or_print(Path("/srv/a b"), {"DISPLAY": ":0", "PATH": f"{tmp_path}:/usr/bin:/bin"})
    while not (tmp_path / "said").exists():
        os.sched_yield()
    assert (tmp_path / "said").read_text() == "xdg-open\n/srv/a b\n"
