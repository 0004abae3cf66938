"""`search -i`: keys become a line, a line hits, and the terminal is left as it was."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
    stage = LiveSession(several=True)
    working = asyncio.create_task(stage.session.keep_searching())
    stage.session.mark(1)
    assert (stage.session.marked, stage.session.chosen) == (0, None)
    stage.session.type("a")
    await stage.turn()
    stage.session.type("ab")
    stage.asked[0][1].set_result([hit("old.md")])
    await stage.turn()
    assert stage.session.found == []
    assert [text for text, _ in stage.asked] == ["a", "ab"]
    stage.asked[1][1].set_result([hit("new.md"), hit("second.md")])
    await stage.turn()
    assert "docs: new.md" in stage.shown
    assert "\x1b[31m" not in stage.shown
    for step, marked in ((-1, 0), (1, 1), (1, 1)):
        stage.session.mark(step)
        assert stage.session.marked == marked
    assert stage.session.chosen == Path("/srv/docs/second.md")
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
