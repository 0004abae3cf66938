"""Tests the page in a browser: its contents, its buttons, and that strangers can't misuse it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from kbsync.contract.searching import Hit, MatchedWord, Origin, Passage, Query, Reasons, UnknownWords
from kbsync.core.text import cursor, printable
from kbsync.errors import Rejected
from kbsync.server import app, events
from kbsync.server.listener import ServerThread, bind_sockets
from kbsync.server.views import Views
from kbsync.state.mirrors import Halt
from kbsync.targets.local.config import LocalTargetConfig
from tests.memory.behaviour import Fault
from tests.server.browser import Page, browsing
from tests.server.client import TOKEN, Listened
from tests.server.scene import Scene, eventually, renewed, scene
from tests.share import enumerated, long

pytestmark = long

T = TypeVar("T")

THREAD = ThreadPoolExecutor(1)

HOSTILE = (
    "<img src=x onerror=document.title='broken'>.md",
    "<script>document.title='broken'.md",
    '" onmouseover="document.title=1.md',
    "evil\u202etxt.md",
    os.fsdecode(b"caf\xe9.md"),
)
TEXT = "harvest <video src=x onerror=document.title='broken'></video> & <b>bold</b>"


FAINT = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return Array.from(canvas.getImageData(0, 0, 1, 1).data, (one, at) => at < 3 ? one : one / 255);
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
  const ground = (node) => {
    const own = rgba(getComputedStyle(node).backgroundColor);
    return own[3] == 1 || !node.parentElement ? own.slice(0, 3) : over(own, ground(node.parentElement));
  };
  const light = (colour) => colour
    .map((one) => one / 255).map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const faint = [];
  for (const node of document.body.querySelectorAll("*")) {
    const says = Array.from(node.childNodes).some((one) => one.nodeType == 3 && one.data.trim());
    if (!says || !node.checkVisibility() || node.disabled || node.namespaceURI.endsWith("svg")) continue;
    const below = ground(node), shades = [over(rgba(getComputedStyle(node).color), below), below].map(light);
    const ratio = (Math.max(...shades) + 0.05) / (Math.min(...shades) + 0.05);
    if (ratio < 4.5) faint.push(`${node.className || node.tagName} ${ratio.toFixed(2)}: ${node.innerText}`);
  }
  return faint;
})()"""
"""Finds texts with too little contrast to their background: WCAG 2, 1.4.3, level AA."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("browser")) as one:
        yield one


class View:
    """A page of a scene. A separate thread controls the browser, so the scene's loop continues."""

    def __init__(self, one: Scene, page: Page) -> None:
        self.scene, self.world, self._page = one, one.world, page
        self.port = 0
        self.serve()

    def serve(self) -> None:
        """Start the listener at its previous port."""
        [listening] = bind_sockets("127.0.0.1", self.port)
        self.port = listening.getsockname()[1]
        self.thread = ServerThread(self.scene.app, [listening], self.scene.listener_app.hub.end)
        self.thread.start()

    async def do(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(THREAD, lambda: call(*args, **options))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def open(self, view: str = "") -> None:
        self._page.messages.clear()
        self._page.requested.clear()
        await self.do(self._page.open, f"{self.address}{view}")

    async def count(self, selector: str) -> int:
        return int(await self.run(f"document.querySelectorAll({selector!r}).length"))

    async def wait_for_text(self, text: str, selector: str = "body") -> None:
        await self.until(f"document.querySelector({selector!r}).innerText.includes({text!r})")

    async def until(self, condition: str) -> None:
        await self.do(self._page.until, condition)

    async def run(self, script: str) -> Any:
        return await self.do(self._page.run, script)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.do(self._page.press, key)

    async def write(self, text: str) -> None:
        await self.do(self._page.write, text)

    async def search(self, words: str) -> None:
        """Type a query into the page and send it."""
        await self.until("document.querySelector('.mirror')")
        await self.press("/")
        await self.write(words)
        await self.press("Enter")

    async def find(self, words: str) -> None:
        """Search, and wait for the first hit."""
        await self.search(words)
        await self.until("document.querySelector('.hit')")

    async def text(self, element: str = "body") -> str:
        return str(await self.run(f"document.querySelector({element!r}).innerText"))

    async def reads(self, tone: str) -> None:
        """Assert that the mirror has this tone, and that all text is legible in light and dark mode."""
        await self.until(f"document.querySelector('.mirror')?.dataset.tone == '{tone}'")
        papers = set()
        for dark in (True, False):
            await self.do(self._page.size, 1280, 800, dark=dark, reduced_motion=True)
            papers.add(await self.run("getComputedStyle(document.documentElement).backgroundColor"))
            assert await self.run(FAINT) == [], (tone, "dark" if dark else "light")
        assert len(papers) == 2
        await self.do(self._page.size, 1280, 800)


@asynccontextmanager
async def open_view(one: Scene, page: Page) -> AsyncIterator[View]:
    async with one.open():
        view = View(one, page)
        try:
            await view.open()
            yield view
        finally:
            await view.do(page.open, "about:blank")
            await view.do(view.thread.stop)


@pytest.fixture
async def one(tmp_path: Path, page: Page) -> AsyncIterator[View]:
    """Yield a page without problems."""
    async with open_view(scene(tmp_path), page) as view:
        yield view
        assert page.messages == []


async def test_page_updates_without_a_reload(one: View) -> None:
    await one.until("document.querySelector('.mirror')")
    assert "No documents yet" in await one.text("main")
    await one.scene.mirrored(3)
    await one.wait_for_text("All 3 documents are searchable")
    assert "f2.md" in await one.text("#changes")
    one.world.write("huge.md", "x" * (one.world.limits.max_bytes + 1))
    await one.scene.mirrored()
    await one.until("document.querySelector('.mirror').dataset.tone == 'failed'")
    assert "huge.md" in await one.text(".mirror")


def mirror_frame(name: str, halt: str = "", *, held_count: int = 0, **documents: int) -> dict[str, Any]:
    """Return a mirror as the page receives it."""
    counts = dict.fromkeys(("ready", "indexing", "pending", "failed", "held", "skipped"), 0)
    return {
        "name": name, "folder": f"/srv/{name}", "target": "local", "last_pass": "2026-01-01T00:00:00Z",
        "documents": {**counts, **documents, "held": held_count}, "held": held_count,
        "halt": {"reason": halt, "detail": "something", "cure": ""} if halt else None,
        "failed": [], "moving": [], "renewals": None,
    }  # fmt: skip


MIRRORS = [
    (mirror_frame("well", ready=1), "1 document is searchable"),
    (mirror_frame("moving", pending=1), "1 document in progress"),
    (mirror_frame("failed", failed=1), "1 document failed"),
    (mirror_frame("down", "target-down", pending=1), "down is halted"),
    (mirror_frame("held", "deletions-held", held_count=40), "40 deletions wait for your approval"),
    (mirror_frame("refused", "credentials", pending=1), "2 mirrors are halted"),
    (mirror_frame("unread", "config"), "3 mirrors are halted"),
]
"""With the page's first sentence if this mirror and all before it exist."""


def show_mirrors(monkeypatch: pytest.MonkeyPatch, mirrors: Sequence[dict[str, Any]]) -> None:
    """Let the page show these mirrors."""
    frame = Views.frame

    async def with_mirrors(self: Views) -> dict[str, Any]:
        return {**await frame(self), "mirrors": mirrors}

    monkeypatch.setattr(Views, "frame", with_mirrors)


async def test_most_severe_mirror_comes_first_and_opens_the_page(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of exit codes, 2, 3, 4, 1; changes outside a running kbsync are no problem."""
    mirrors = list[dict[str, Any]]()
    show_mirrors(monkeypatch, mirrors)
    async with open_view(scene(tmp_path), page) as view:
        for mirror, sentence in MIRRORS:
            mirrors.append(mirror)
            await view.open()
            await view.until(f"document.querySelectorAll('.mirror').length == {len(mirrors)}")
            names = "[...document.querySelectorAll('.mirror h2')].map((each) => each.textContent).join(' ')"
            assert await view.run(names) == " ".join(
                mirror_entry["name"] for mirror_entry in reversed(mirrors)
            )
            assert await view.text("#sentence") == sentence
            if mirror["name"] == "held":
                assert "down is halted · 1 failed" in await view.text("#beneath")
            assert view._page.messages == []


PAUSE = {"since": "2026-01-01T00:00:00Z", "until": None, "reason": "requested"}
NIGHT = {"since": "2026-01-01T22:00:00Z", "until": "2026-01-02T06:00:00Z", "reason": "quiet-hours"}
OVERVIEWS = [
    pytest.param(
        [mirror_frame("archive", ready=3, kept=2), mirror_frame("well", ready=1)],
        "All 6 documents are searchable",
        "2 mirrors",
        None,
        id="kept documents are searchable, and a mirror without any doesn't mention them",
    ),
    pytest.param(
        [
            {**mirror_frame("holiday", ready=3), "paused": PAUSE},
            {**mirror_frame("lunch", pending=1), "paused": {**PAUSE, "until": "2026-01-01T12:30:00Z"}},
            {**mirror_frame("night", ready=1), "paused": NIGHT},
        ],
        "1 document waits while paused",
        "4 searchable · 3 mirrors",
        "paused; paused {until}; quiet hours {until}",
        id="a paused mirror is neither working nor up to date",
    ),
    pytest.param(
        [
            mirror_frame("works", pending=2),
            {**mirror_frame("rests", pending=40, indexing=1), "paused": PAUSE},
        ],
        "3 documents in progress",
        "0 searchable · 40 waiting while paused · 2 mirrors",
        None,
        id="documents of paused mirrors are in progress only if they were sent before",
    ),
    pytest.param(
        [
            mirror_frame("works", ready=1, pending=2),
            mirror_frame("refused", "credentials", pending=40, indexing=1),
            {**mirror_frame("down", "target-down", pending=1), "paused": PAUSE},
        ],
        "2 mirrors are halted",
        "1 searchable · 2 in progress · 42 waiting while halted · 3 mirrors",
        None,
        id="documents of halted mirrors are not in progress, and one that is also paused counts once",
    ),
]
"""Mirrors, the page's first sentence, the line beneath it, and the words for each mirror's state."""


@pytest.mark.parametrize(("mirrors", "sentence", "beneath", "states"), OVERVIEWS)
async def test_overview_counts_documents_by_what_happens_to_them(
    tmp_path: Path,
    page: Page,
    monkeypatch: pytest.MonkeyPatch,
    mirrors: Sequence[dict[str, Any]],
    sentence: str,
    beneath: str,
    states: str | None,
) -> None:
    show_mirrors(monkeypatch, mirrors)
    async with open_view(scene(tmp_path), page) as view:
        await view.open()
        await view.until(f"document.querySelectorAll('.mirror').length == {len(mirrors)}")
        assert await view.text("#sentence") == sentence
        assert await view.text("#beneath") == beneath
        kept = [f"{mirror['documents']['kept']} kept" for mirror in mirrors if "kept" in mirror["documents"]]
        assert re.findall(r"\S+ kept", " ".join((await view.text()).split())) == kept
        if states:
            texts = "[...document.querySelectorAll('.mirror .state')].map((each) => each.textContent)"
            until = r"until \d Jan 2026,? \d\d:\d\d"
            assert re.fullmatch(states.format(until=until), await view.run(f"{texts}.sort().join('; ')"))
        assert view._page.messages == []


@enumerated()
@pytest.mark.parametrize("kind", ["deletions", "renewals"])
async def test_held_changes_are_shown_and_then_approved_by_keyboard(
    tmp_path: Path, page: Page, kind: str
) -> None:
    async with open_view(scene(tmp_path, paid=kind == "renewals"), page) as one:
        world = one.world
        if kind == "renewals":
            await renewed(one.scene)
        else:
            await one.scene.mirrored(12)
            world.delete_many(12)
            await one.scene.mirrored()
        await one.until("document.querySelector('.notice.held button')")
        puts, before = world.puts(), world.searchable_texts()
        if kind == "renewals":
            output = (await one.text("main")).replace("\n", " ")
            assert output.startswith("docs waits for your approval")
            assert "12 documents (122 B) would be reindexed" in output
            assert "halted" not in output
            assert await one.run("document.querySelector('.mirror').dataset.tone") == "held"
        await one.run("document.querySelector('.notice.held button').focus()")
        await one.press("Enter")
        await one.until("document.getElementById('held').open")
        assert await one.run("document.activeElement.id") == "held-keep"
        if kind == "renewals":
            assert "Reindex 12 documents of docs?" in await one.text("#held")
            assert "Settings changed" in await one.text("#held")
        assert "f11.md" in await one.text("#held-list")
        assert (world.puts(), world.searchable_texts()) == (puts, before)
        await one.press("Tab", "Enter")
        await one.until("!document.getElementById('held').open")
        await one.scene.mirrored()
        if kind == "renewals":
            assert (world.puts(), world.searchable_texts()) == (puts + 12, before)
        else:
            assert world.searchable_texts() == {}
        await one.until("!document.querySelector('.notice.held')")
        assert one._page.messages == []


async def test_requested_audit_reports_its_result(one: View) -> None:
    base = one.world.base
    await one.scene.mirrored(3)
    row = one.world.row_of("f0.md")
    # Another user copied it with its mark.
    twin = base.add(row.name, b"text of f0", path="f0.md", upload_id=row.id, foreign=False)
    run = one.scene.runs["docs"]
    async with run.bind() as bound:
        assert bound is not None
        await bound.compare()
        await bound.compared()
        for result in ("1 document repaired", "all is well"):
            await one.until("document.querySelector('[data-key=\"audit docs\"]:enabled')")
            await one.run("document.querySelector('[data-key=\"audit docs\"]').click()")
            await one.wait_for_text("Verification started", "#toast")
            await bound.audits.audit()
            await one.wait_for_text(f"docs verified: {result}", "#toast")
            assert f": {result}" in await one.text(".legend")
            base._documents.pop(twin.remote_id, None)


LOST = "document.body.dataset.link == 'gone'"
BUTTONS = "[...document.querySelectorAll('#overview button')].map((each) => each.disabled)"
GREY = "getComputedStyle(document.getElementById('mirrors')).filter == 'grayscale(1)'"


async def is_grey(view: View, since: float) -> None:
    """Assert that within five seconds the page reports a lost connection and disables its buttons."""
    await view.until(LOST)
    assert time.monotonic() - since < 5.0
    assert await view.text("#sentence") == "kbsync isn't responding"
    assert await view.run("document.title") == "! kbsync isn't responding – kbsync"
    assert (await view.text("#beneath")).endswith("Check with: kbsync status --config '/srv/my kb.yaml'")
    assert set(await view.run(BUTTONS)) == {True}
    assert await view.run(GREY)
    assert await view.run("document.getElementById('link').dataset.state") == "lost"
    assert await view.run(FAINT) == []


async def test_page_turns_grey_and_disabled_within_five_seconds_of_the_daemons_end(
    tmp_path: Path, page: Page
) -> None:
    async with open_view(scene(tmp_path), page) as view:
        await view.scene.mirrored(3)
        await view.wait_for_text("All 3 documents are searchable", "#sentence")
        await view.until("document.querySelector('[data-key=\"audit docs\"]')")  # after the pass
        await asyncio.to_thread(view.thread.stop)
        await is_grey(view, time.monotonic())
        view.serve()
        await view.until(f"!({LOST})")
        assert set(await view.run(BUTTONS)) == {False}
        assert await view.text("#sentence") == "All 3 documents are searchable"


async def test_hanging_daemon_is_shown_as_gone(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored()
        await one.until("document.querySelector('[data-key=\"audit docs\"]')")
        since = time.monotonic()
        monkeypatch.setattr(events, "HEARTBEAT", 3600.0)  # the connection exists, but nothing arrives
        await one.until(LOST)
        assert time.monotonic() - since < 5.0


async def test_tabs_in_the_background_leave_the_connections_to_the_page_in_front(one: View) -> None:
    """Chromium opens six connections to a host for all of its tabs; a stream takes one."""
    clients = one.scene.listener_app.hub.clients
    await one.scene.mirrored(1)
    await one.wait_for_text("1 document is searchable")
    with ExitStack() as tabs:
        behind = await one.do(lambda: tabs.enter_context(one._page.tabs(one.address, 7)))
        try:
            for tab in behind:
                await one.do(tab.until, "document.getElementById('link')?.innerText == 'paused'")
            await eventually(lambda: len(clients) == 1)
            await one.run("location.hash = '#/files?mirror=docs'")
            await one.wait_for_text("f0.md", "#files-list")
            await one.do(behind[0].call, "Page.bringToFront")
            await one.do(behind[0].until, "document.querySelector('.mirror')")
            await one.wait_for_text("paused", "#link")
            await eventually(lambda: len(clients) == 1)
            assert not await one.run(LOST)
            await one.do(one._page.call, "Page.bringToFront")
            await one.run("location.hash = '#/'")
            await one.scene.mirrored(2)
            await one.wait_for_text("All 2 documents are searchable")
        finally:
            await one.do(tabs.close)


async def test_request_without_a_response_ends_with_a_message(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = app.content

    def impatient(name: str) -> bytes:
        return content(name).replace(b"LONGEST_WAIT = 30_000", b"LONGEST_WAIT = 1_000")

    async def hang(*_args: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "content", impatient)
    monkeypatch.setattr(Views, "history", hang)
    async with open_view(scene(tmp_path), page) as one:
        await one.until("document.querySelector('.mirror')")
        await one.run("location.hash = '#/history'")
        await one.wait_for_text("No response within 1 s; close other pages of kbsync", "#toast")


async def test_page_shows_why_the_listener_refuses_it(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_CLIENTS", 0)
    async with open_view(scene(tmp_path), page) as one:
        await one.until(LOST)
        assert await one.text("#sentence") == "too many pages are open; close one"
        assert "running" not in await one.text("main")
        monkeypatch.setattr(events, "MAX_CLIENTS", 1)
        await one.until("document.querySelector('.mirror')")
        assert not await one.run(LOST)


async def test_back_never_leaves_the_page(one: View) -> None:
    """Also if the user opened the page at a file, not at the overview."""
    await one.scene.mirrored(1)
    views = {name: f"!document.getElementById('{name}').hidden" for name in ("files", "history", "overview")}
    await one.do(one._page.open, "about:blank")
    await one.open("#/files?mirror=docs")
    await one.until(views["files"])
    await one.run("location.hash = '#/history?mirror=docs'")
    await one.until(views["history"])
    await one.run("document.querySelector('#history [data-back]').click()")
    await one.until(views["files"])
    await one.press("Escape")
    await one.until(views["overview"])
    assert await one.run("location.hash") == "#/"
    await one.run("location.hash = '#/history?mirror=docs'")
    await one.until(views["history"])
    await one.run("history.back()")
    await one.until(views["overview"])
    await one.run("history.forward()")
    await one.until(views["history"])
    await one.press("Escape")
    await one.until(views["overview"])
    assert await one.run("location.hash") == "#/"


async def test_foreign_names_and_texts_are_shown_as_text(one: View) -> None:
    big = one.world.limits.max_bytes + 1
    for number, name in enumerate(HOSTILE):
        one.world.write(name, TEXT)
        one.world.write(f"d{number}/{name}", "x" * big)
    await one.scene.mirrored()
    run = one.scene.runs["docs"]
    async with run.bind():
        await one.until("document.querySelectorAll('.mirror li').length >= 5")
        await one.search("harvest")
        await one.until("document.querySelectorAll('.hit').length >= 5")
        assert await one.count(".hit mark") >= 5
        await one.run("document.getElementById('query').dispatchEvent(new Event('input'))")
        asked = "one.name.endsWith('q=harvest&k=10&unfinished=1')"
        await one.until(f"performance.getEntries().some((one) => {asked})")
        whole = await one.run("document.body.textContent")
        for name in (HOSTILE[0], HOSTILE[2], "evil\\u202etxt.md"):
            assert name in whole
        assert "<video src=x onerror=" in whole and "& bold" in whole  # snippets omit harmless tags
        assert "\u202e" not in whole
        assert await one.count("main img, main video, main script, main b b") == 0
        assert "broken" not in await one.run("document.title")
        hosts = {url.split("/")[2] for url in one._page.requested if url.startswith("http")}
        assert hosts == {f"127.0.0.1:{one.port}"}


async def test_hit_of_another_machine_shows_its_host_and_age(one: View) -> None:
    seen = one.world.clock.wall() - 7200
    their = Origin("base", "<b>files-2", "news", Path("/srv/news"), seen, is_own=False, is_here=False)
    our = replace(their, is_own=True, is_here=True)
    hits = [Hit("1", 0.9, (), "a.md", "Herons", origin=their), Hit("2", 0.8, (), "b.md", origin=our)]
    await one.scene.mirrored(1)
    async with one.scene.answering(hits):
        await one.wait_for_text("1 document is searchable")
        await one.search("harvest")
        await one.until("document.querySelectorAll('.hit').length === 2")
        trails = "[...document.querySelectorAll('.trail')].map((each) => each.textContent).join('|')"
        away, own = (await one.run(trails)).split("|")
    assert re.fullmatch(r"news on <b>files-2, as of \d+ \w+ ago › Herons", away), away
    assert own == ""


async def test_hits_without_query_words_are_called_similar_and_missing_words_are_named(
    one: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    passage = Passage("Herons stand in the water.", ("Birds",))
    hits = [Hit(str(number), 0.3, (passage,), f"{number}.md", "Birds") for number in range(2)]

    async def unknown_words(query: Query) -> UnknownWords:
        is_unknown = "herons" not in query.text
        return UnknownWords({query.text: ""} if is_unknown else {}, is_unknown)

    await one.scene.mirrored(1)
    one.world.write("big.md", "x" * (one.world.limits.max_bytes + 1))
    await one.scene.mirrored(1)
    async with one.scene.answering(hits) as target:
        monkeypatch.setattr(target, "unknown_words", unknown_words, raising=False)
        await one.wait_for_text("big.md")
        await one.search("xqzzyplk")
        await one.wait_for_text("No document has these words;", "#results-title")
        await one.wait_for_text("docs: 1 file failed", "#hits")
        await one.run("document.getElementById('query').value = ''")
        await one.write("herons")
        await one.press("Enter")
        await one.until("/^[12] documents? found$/.test(document.getElementById('results-title').innerText)")


async def test_text_can_never_become_markup(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.until("document.querySelector('.mirror')")
        tried = "document.body.innerHTML = '<b>x</b>'; return ''"
        caught = f"(() => {{ try {{ {tried} }} catch (error) {{ return error.name }} }})()"
        assert await one.run(caught) == "TypeError"


async def test_remote_page_asks_for_a_token_and_keeps_it_in_the_tab(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path, TOKEN), page) as one:
        await one.until("!document.getElementById('login').hidden")
        await one.write(f"{TOKEN}\u200b")  # copied with an invisible character
        await one.press("Enter")
        await one.wait_for_text("invalid characters", "#login-wrong")
        assert await one.run("sessionStorage.length") == 0
        await one.write("wrong")
        await one.press("Enter")
        await one.wait_for_text("Wrong token", "#login-wrong")
        await one.write(f"{TOKEN}\u200b")  # copied with an invisible character
        await one.press("Enter")
        await one.wait_for_text("invalid characters", "#login-wrong")
        assert await one.run("sessionStorage.length") == 0
        await one.write(TOKEN)
        await one.press("Enter")
        await one.until("document.querySelector('.mirror')")
        assert await one.run("document.activeElement.id") == "sentence"
        assert await one.run("document.cookie + Object.keys(localStorage)") == ""
        assert await one.run("sessionStorage.length") == 1


async def test_request_without_a_token_is_not_shown_as_accepted(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path, TOKEN), page) as one:
        one.world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
        await one.until("!document.getElementById('login').hidden")
        await one.write(TOKEN)
        await one.press("Enter")
        await one.scene.mirrored(1)
        button = "document.querySelector('.mirror [data-key=\"retry docs f0.md\"]')"
        await one.until(button)
        await one.run("sessionStorage.clear()")
        await one.run(f"{button}.click()")
        await one.until("!document.getElementById('login').hidden")
        assert await one.text("#toast") == ""
        assert one.scene.inbox() == []


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_nothing_is_wider_than_the_window(one: View, width: int) -> None:
    one.world.write("a" * 200 + ".md", "text")
    await one.scene.mirrored()
    await one.do(one._page.size, width, 800, dark=True, reduced_motion=True)
    await one.until("document.querySelector('#changes bdi')")
    assert await one.run("document.documentElement.scrollWidth") <= width
    assert await one.run("getComputedStyle(document.querySelector('.bar i')).transitionDuration") == "0s"
    await one.do(one._page.size, 1280, 800)


@pytest.mark.parametrize(("name", "lines"), [("remote", 1), ("x" * 100, 4)], ids=["short", "long"])
async def test_name_of_a_mirror_has_as_many_lines_as_it_needs(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch, name: str, lines: int
) -> None:
    mirror = mirror_frame(name, "target-down", pending=1)
    mirror["halt"]["words"] = "knowledge base not reachable"
    show_mirrors(monkeypatch, [mirror])
    async with open_view(scene(tmp_path), page) as one:
        await one.do(page.size, 390, 800)
        await one.until("document.querySelector('.mirror')")
        height = await one.run("document.querySelector('.mirror h2').offsetHeight")
        assert height <= lines * 30
        assert await one.run("document.documentElement.scrollWidth") <= 390
        await one.do(page.size, 1280, 800)


@enumerated()
@pytest.mark.parametrize("tone", ["ready", "held", "failed"])
async def test_every_text_has_enough_contrast_in_light_and_dark_mode(one: View, tone: str) -> None:
    world = one.world
    await one.scene.mirrored(12)
    if tone == "failed":
        world.write("huge.md", "x" * (world.limits.max_bytes + 1))
    elif tone == "held":
        world.delete_many(12)
    await one.scene.mirrored()
    await one.reads(tone)
    await one.scene.runs["docs"].halts.show(Halt("credentials", "the key is refused", "kbsync retry"))
    await one.until("document.querySelector('#sentence').innerText == 'docs is halted'")
    text = await one.text("main")
    assert "the key is refused" in text and "kbsync retry" in text
    await one.reads("failed")


def test_page_is_small_and_names_no_other_host() -> None:
    whole = {name: app.content(name) for name in app.TYPES}
    assert sum(map(len, whole.values())) < 150_000
    for name, content in whole.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, name
        assert "https://" not in text, name
        assert "innerHTML" not in text, name
        assert " style=" not in text, name


async def test_only_page_assets_are_served() -> None:
    listened = Listened(token=TOKEN)
    listened.door._app = Starlette(routes=[Route("/", app.asset), Route("/assets/{name}", app.asset)])
    for path, kind in (("/", "text/html"), ("/assets/page.js", "text/javascript")):
        answer = await listened.get(path)
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
    for path in ("/assets/", "/assets/page.py", "/assets/..%2fdoor.py", "/assets/../door.py"):
        assert (await listened.get(path)).status_code in (401, 404)


async def test_hit_opens_its_document_with_the_passage_highlighted(one: View) -> None:
    text = "\U0001f347 Herons\n\n" + "".join(f"Line {n} of \U0001f347 grapes.\n" for n in range(6000))
    hits = [Hit("1", 0.9, (Passage("Line 3000 of \U0001f347 grapes."),), "f0.md", "Herons")]
    await one.scene.mirrored(1)
    async with one.scene.answering(hits, text):
        await one.search("grapes")
        await one.until("document.querySelector('.hit a.path')")
        assert await one.text(".hit p") == "Line 3000 of \U0001f347 grapes."
        assert await one.text(".hit p mark") == "grapes"
        await one.press("ArrowDown", "Enter")
        await one.until(
            "document.querySelector('#text mark')?.textContent == 'Line 3000 of \U0001f347 grapes'"
        )
        assert await one.run("document.querySelector('#text mark').getBoundingClientRect().top < innerHeight")
        assert await one.text("#document-title") == "f0.md"
        for button in ("earlier", "earlier", "later", "later"):
            shown = await one.run("document.getElementById('text').textContent.length")
            if await one.run(f"!document.getElementById('{button}').hidden"):
                await one.run(f"document.getElementById('{button}').click()")
                await one.until(f"document.getElementById('text').textContent.length > {shown}")
        assert await one.run("document.getElementById('text').textContent") == text
        await one.press("Escape")
        await one.until("!document.getElementById('results').hidden && document.querySelector('.hit')")


async def test_gone_file_is_marked_and_has_no_links_to_open_it(one: View) -> None:
    """Its document stays readable until the deletion is approved."""
    hits = [Hit(str(n), 0.9, (Passage(f"Grapes {n}."),), f"f{n}.md") for n in (0, 11)]
    await one.scene.mirrored(12)
    one.world.delete_many(11)
    await one.scene.mirrored()
    async with one.scene.answering(hits, "Grapes of old."):
        await one.search("grapes")
        await one.until("document.querySelectorAll('.hit').length == 2")
        gone, present = await one.run(
            "[...document.querySelectorAll('.hit')].map((hit) => [hit.innerText,"
            " hit.querySelectorAll('a[href^=\"file:\"]').length])"
        )
        assert "the file is gone; its deletion waits for approval" in gone[0]
        assert "is gone" not in present[0]
        assert (gone[1], present[1]) == (0, 1)
        assert "11 of 12 documents would be deleted" in await one.text("#hits")
        await one.run("document.querySelector('.hit a.path').click()")
        await one.wait_for_text("Grapes of old.", "#text")
        assert await one.count("#document-tools a[href^='file:']") == 0
        assert "held" in await one.text("#document-tools")


async def test_title_and_back_keep_the_hits_that_were_added(one: View) -> None:
    hits = [Hit(str(n), 1 - n / 100, (Passage(f"Grapes {n}."),), f"f{n}.md") for n in range(75)]

    async def show_more(count: int) -> None:
        await one.run("document.getElementById('more-hits').click()")
        await one.until(f"document.querySelectorAll('.hit').length == {count}")

    await one.scene.mirrored(75)
    async with one.scene.answering(lambda query: hits[: query.top_k], "Grapes."):
        await one.search("grapes")
        await one.wait_for_text("The best 10 documents", "#results-title")
        await show_more(20)
        assert await one.text("#results-title") == "The best 20 documents"
        await one.run("document.querySelectorAll('.hit a.path')[14].click()")
        await one.wait_for_text("f14.md", "#document-title")
        await one.run("document.querySelector('#document [data-back]').click()")
        await one.until("!document.getElementById('results').hidden")
        assert await one.count(".hit") == 20
        assert await one.text("#results-title") == "The best 20 documents"
        for count in (30, 40, 50, 60, 70, 75):
            await show_more(count)
        assert await one.text("#results-title") == "75 documents found"
        await one.run("history.back()")
        await one.until("!document.getElementById('overview').hidden")
        await one.run("history.forward()")
        await one.until("!document.getElementById('results').hidden")
        paths = await one.run("[...document.querySelectorAll('.hit a.path')].map((link) => link.innerText)")
        assert paths == [f"f{n}.md" for n in range(75)]
        assert await one.text("#results-title") == "75 documents found"
        await one.run("document.getElementById('query').value = 'grapes now'")
        await one.run("document.getElementById('search').requestSubmit()")
        await one.wait_for_text("The best 10 documents", "#results-title")


async def test_names_are_escaped_as_in_commands(one: View) -> None:
    latin = os.fsdecode(b"caf\xe9")
    names = [f"{name}.md" for name in ("a\nb", "c\td\r", "\x1b[31m", "\x85\x7f", "\u202e\u2064", latin)]
    names += ["tag\U000e0041.md", "plain \U0001f347 ü.md"]
    for name in names:
        one.world.write(name, "text")
    await one.scene.mirrored()
    await one.open("#/files?mirror=docs")
    await one.until(f"document.querySelectorAll('#files-list a.path').length == {len(names)}")
    texts = await one.run(
        "[...document.querySelectorAll('#files-list a.path')].map((one) => one.textContent)"
    )
    assert sorted(texts) == sorted(map(printable, names))


async def test_match_explanation_is_shown_by_keyboard(one: View) -> None:
    evil, asked = "<b>ban\u202eana</b>", list[Query]()
    words = MatchedWord("grapes", 0.4), MatchedWord("bananna" * 20, 0.1, evil)
    reasons = Reasons(words, words[:1], 0.9, 0.3, 0.3, 0.6, size=2000, size_weight=0.74)

    def search(query: Query) -> list[Hit]:
        asked.append(query)
        return [Hit("1", 0.6, (Passage("Grapes."),), "f0.md", reasons=reasons)]

    await one.scene.mirrored(1)
    async with one.scene.answering(search):
        await one.do(one._page.size, 390, 800, dark=True, reduced_motion=True)
        await one.search("grapes")
        await one.until("document.querySelector('.hit summary')?.checkVisibility()")
        assert not await one.run("document.querySelector('.hit details p').checkVisibility()")
        await one.run("document.querySelector('.hit summary').focus()")
        await one.press("Enter")
        await one.wait_for_text("; in the name: grapes · meaning 0.30", ".hit details")
        await one.wait_for_text("one of 2,000 passages: × 0.74", ".hit details")
        assert "→ <b>ban\\u202eana</b>" in await one.text(".hit details")
        assert await one.run("document.documentElement.scrollWidth") <= 390
        assert await one.run(FAINT) == []
        await one.do(one._page.size, 1280, 800)
    assert all(query.explain for query in asked)


async def test_failed_files_are_grouped_by_reason_and_retried_by_one_button(one: View) -> None:
    world = one.world
    world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    world.write("a.md", "text")
    for name in HOSTILE:
        world.write(name, "x" * (world.limits.max_bytes + 1))
    await one.scene.mirrored()
    await one.until("document.querySelector('.legend .failed a')")
    await one.run("document.querySelector('.legend .failed a').click()")
    await one.wait_for_text("failed files of docs", "#files-title")
    assert "5 files: " in await one.text("#files-list")
    await one.run("document.querySelector('#files-list button.strong').click()")
    await one.wait_for_text("Retry requested", "#toast")
    assert one.scene.inbox() == [("retry", {"paths": ["a.md"]})]
    for view, element in (("files?mirror=docs", "#files-list"), ("history", "#history-list")):
        await one.run(f"location.hash = '#/{view}'")
        await one.wait_for_text(HOSTILE[0], element)
    async with one.scene.target():
        click = (
            "[...document.querySelectorAll('#history a')].find((a) => a.innerText.includes('caf')).click()"
        )
        await one.run(click)
        await one.wait_for_text("caf", "#document-title")
    assert await one.count("main img, main script") == 0


async def test_mirror_is_paused_and_a_folder_requested_by_keyboard(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(1)
        await one.until("document.querySelector('[data-key=\"pause docs\"]')")
        await one.run("document.querySelector('[data-key=\"pause docs\"]').focus()")
        await one.press("Enter", "Tab", "Enter")
        await one.wait_for_text("paused until", ".state")
        await one.run("document.querySelector('[data-key=\"pause docs\"]').focus()")
        await one.press("Enter")
        await one.wait_for_text("docs resumed", "#toast")
        await one.wait_for_text("up to date", ".state")
        await one.run("document.getElementById('add').focus()")
        await one.press("Enter")
        await one.write("~/notes")
        await one.press("Enter")
        await one.wait_for_text("started with --folder", "#ask-wrong")
        await one.press("Escape")
        assert await one.run("document.activeElement.id") == "add"


async def test_added_folder_with_the_files_of_another_mirror_is_reported(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path), page) as one:
        config, inner = tmp_path / "kb.yaml", one.scene.world.root / "inner"
        inner.mkdir()
        config.write_text(f"mirrors:\n  - name: docs\n    folder: {one.scene.world.root}\n")
        await one.scene.mirrored(1)
        listener_app = one.scene.listener_app
        installation = listener_app._mirrors.installation
        listener_app.switch_to(replace(installation, config=replace(installation.config, path=config)))
        await one.until("document.querySelector('[data-key=\"pause docs\"]')")
        await one.run("document.getElementById('add').focus()")
        await one.press("Enter")
        await one.write(str(inner))
        await one.press("Enter")
        await one.wait_for_text("inner is added", "#ask-title")
        assert await one.text("#toast") == "inner added; indexing has started"
        await one.wait_for_text(f"searches list the files in {inner} twice", "#ask-text")
        await one.press("Enter")
        await one.until("!document.querySelector('#ask').open")


async def test_a_mirror_is_removed_with_its_documents_after_two_questions(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path), page) as one:
        made, removals = one.scene.listener_app, one.scene.listening._removals
        config = tmp_path / "kb.yaml"
        config.write_text(
            f"mirrors:\n  - {{name: docs, folder: {one.world.root}}}\n  - {{name: x, folder: x}}\n"
        )
        installation = made._mirrors.installation
        made.switch_to(replace(installation, config=replace(installation.config, path=config)))
        await one.scene.mirrored(3)
        remove = "document.querySelector('[data-key=\"remove docs\"]')"
        await one.until(remove)

        async def is_asked(question: str, *keys: str) -> None:
            title = "document.getElementById('ask-title').innerText"
            await one.until(f"document.getElementById('ask').open && {title} == {question!r}")
            assert await one.run("document.activeElement.innerText") == "Cancel"
            await one.press(*keys)

        async def begin() -> None:
            await one.run(f"{remove}.focus()")
            await one.press("Enter")

        first, second = "Remove docs?", "Delete 3 documents of docs?"
        await begin()
        await is_asked(first, "Escape")
        await begin()
        await is_asked(first, "Tab", "Tab", "Enter")
        await one.wait_for_text("3 documents in memory", "#ask-text")
        await is_asked(second, "Escape")
        assert removals.current == {}
        await begin()
        await one.wait_for_text("docs has 3 documents in its knowledge base; keep or delete?", "#ask-text")
        await is_asked(first, "Tab", "Tab", "Enter")
        for width in (390, 1280):
            await one.do(page.size, width, 800)
            assert await one.run("document.documentElement.scrollWidth <= innerWidth")
            assert await one.run(FAINT) == []
        await is_asked(second, "Tab", "Enter")
        await one.wait_for_text("being removed", ".state")
        assert not await one.run("document.getElementById('ask').open")
        assert config.read_text().count("name:") == 2
        removals.begin("docs", 3)
        removals.report("docs", 1)
        await one.wait_for_text("1 of 3 documents deleted")
        removals.fail("docs", "the service refuses the key")
        await one.wait_for_text("docs was not removed")
        await one.wait_for_text("the service refuses the key")
        await one.reads("ready")
        await one.run("document.querySelector('[data-key=\"dismiss docs\"]').click()")
        assert "not removed" not in await one.text()
        # Kept documents need one question.
        await begin()
        await is_asked(first, "Tab", "Enter")
        await one.wait_for_text("docs is removed", "#toast")
        assert config.read_text().count("name:") == 1


def keyed(key: str) -> str:
    """Return an expression for the element with this key."""
    return f"document.querySelector('[data-key=\"{key}\"]')"


async def focus(view: View, key: str) -> None:
    await view.until(keyed(key))
    await view.run(f"{keyed(key)}.focus()")


async def has_focus(view: View, key: str) -> None:
    await view.until(f"document.activeElement.dataset.key == {key!r}")


async def test_keyboard_focus_stays_on_its_element_when_the_overview_changes(one: View) -> None:
    big = "x" * (one.world.limits.max_bytes + 1)
    one.world.write("big.md", big)
    await one.scene.mirrored(1)
    await one.wait_for_text("1 failed", ".legend")
    await one.until("document.querySelector('#changes a')")
    row = await one.run("document.querySelector('#changes a').dataset.key")
    for number, key in enumerate(("pause docs", "failed files docs", "open docs big.md", row), 2):
        await focus(one, key)
        one.world.write(f"big{number}.md", big)
        await one.scene.mirrored()
        await one.wait_for_text(f"{number} failed", ".legend")
        await one.until(f"document.getElementById('changes').innerText.includes('big{number}.md')")
        assert await one.run("document.activeElement.dataset.key") == key


async def test_focus_returns_to_the_button_that_opened_a_dialog(one: View) -> None:
    """Also if the page replaced it while the dialog was open; to the mirror's heading if it is gone."""
    await one.scene.mirrored(1)
    for number, (key, keys) in enumerate(
        {"pause docs": ("Escape",), "remove docs": ("Enter",), "files docs": ()}.items(), 2
    ):
        await focus(one, key)
        if keys:
            await one.press("Enter")
            await one.until("document.getElementById('ask').open")
        await one.scene.mirrored(number)
        await one.wait_for_text(f"All {number} documents are searchable", "#sentence")
        await one.press(*keys)
        await has_focus(one, key)
    await focus(one, "pause docs")
    await one.press("Enter", "Tab", "Enter")
    await one.wait_for_text("paused until", ".state")
    await has_focus(one, "pause docs")
    await one.press("Enter")
    await one.wait_for_text("up to date", ".state")
    await has_focus(one, "pause docs")
    await one.scene.mirrored(16)
    one.world.delete_many(16)
    await one.scene.mirrored()
    await focus(one, "deletions docs")
    await one.press("Enter")
    await one.until("document.getElementById('held').open")
    await one.press("Tab", "Enter")
    await one.until("!document.getElementById('held').open")
    await one.scene.mirrored()
    await one.until("!document.querySelector('.notice.held')")
    await has_focus(one, "mirror docs")


async def test_focus_goes_to_the_heading_of_the_mirror_after_a_retry(one: View) -> None:
    one.world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    await one.scene.mirrored(1)
    await focus(one, "retry docs f0.md")
    await one.press("Enter")
    await one.wait_for_text("Retry requested", "#toast")
    await has_focus(one, "retry docs f0.md")
    await one.scene.mirrored()
    await one.wait_for_text("1 document is searchable", "#sentence")
    await has_focus(one, "mirror docs")


async def test_list_of_files_is_updated_and_keeps_the_focus(one: View) -> None:
    big = "x" * (one.world.limits.max_bytes + 1)
    one.world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    one.world.write("a.md", "text")
    await one.scene.mirrored()
    one.world.write("big.md", big)
    await one.scene.mirrored()
    await one.open("#/files?mirror=docs&state=failed")
    await one.wait_for_text("2 failed files of docs", "#files-title")
    await focus(one, "open docs big.md")
    one.world.write("big2.md", big)
    await one.scene.mirrored()
    await one.wait_for_text("3 failed files of docs", "#files-title")
    assert await one.run("document.activeElement.dataset.key") == "open docs big.md"
    await one.run("document.querySelector('#files-list button.strong').focus()")
    await one.press("Enter")
    await one.wait_for_text("Retry requested", "#toast")
    await one.scene.mirrored()
    await one.wait_for_text("2 failed files of docs", "#files-title")
    await one.until("!document.getElementById('files-list').innerText.includes('a.md')")
    await has_focus(one, "files")


async def test_updated_list_of_files_keeps_what_show_more_added(one: View) -> None:
    await one.scene.mirrored(210)
    await one.open("#/files?mirror=docs")
    rows = "document.querySelectorAll('#files-list li').length"
    await one.until(f"{rows} == 200")
    await one.run("document.getElementById('more-files').click()")
    await one.until(f"{rows} == 210")
    await one.run("scrollTo(0, 3000)")
    await one.scene.mirrored(212)
    await one.until(f"{rows} == 212")
    assert await one.run("scrollY") == 3000


async def test_action_while_kbsync_is_stopped_says_so(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path), page) as one:
        one.world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
        await one.scene.mirrored(1)
        await one.open("#/files?mirror=docs&state=failed")
        await one.until("document.querySelector('#files-list button.strong')")
        await asyncio.to_thread(one.thread.stop)
        await one.run("document.querySelector('#files-list button.strong').click()")
        await one.wait_for_text("Failed: kbsync isn't responding", "#toast")
        one.serve()


async def test_action_after_a_restart_is_sent_with_the_new_word(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(1)
        await focus(one, "pause docs")
        one.scene.listener_app.csrf_token = "another"
        await one.press("Enter", "Tab", "Enter")
        await one.wait_for_text("paused until", ".state")
        assert not await one.run("document.getElementById('ask').open")


async def test_search_typed_while_kbsync_is_stopped_runs_when_it_is_back(tmp_path: Path, page: Page) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(1)
        async with one.scene.answering([Hit("1", 0.9, (Passage("Grapes."),), "f0.md")]):
            await one.until("document.querySelector('.mirror')")
            await asyncio.to_thread(one.thread.stop)
            await one.until(LOST)
            await one.search("grapes")
            await one.wait_for_text("kbsync isn't responding", "#toast")
            one.serve()
            await one.until("document.querySelector('.hit')")
            assert await one.text("#results-title") == "1 document found"


async def test_view_opened_while_kbsync_is_stopped_is_shown_when_it_is_back(
    tmp_path: Path, page: Page
) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(1)
        await one.until("document.querySelector('.mirror')")
        await asyncio.to_thread(one.thread.stop)
        await one.until(LOST)
        await one.run("location.hash = '#/files?mirror=docs'")
        await one.wait_for_text("kbsync isn't responding", "#toast")
        one.serve()
        await one.wait_for_text("f0.md", "#files-list")
        assert await one.text("#files-title") == "Files of docs"


async def test_closed_search_leaves_no_filters_for_the_next_one(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_mirrors(monkeypatch, [mirror_frame("docs", ready=1), mirror_frame("other", ready=1)])
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(1)
        filters = "['only-mirror', 'only-type', 'only-time'].map((id) => document.getElementById(id).value)"
        async with one.scene.answering([Hit("1", 0.9, (Passage("Grapes."),), "f0.md")]):
            for way_out in ("document.getElementById('leave').click()", "location.hash = '#/history'"):
                await one.open()
                await one.until("document.querySelectorAll('.mirror').length == 2")
                await one.open("#/search?q=grapes&mirror=docs&type=md&days=7")
                await one.until("document.querySelector('.hit')")
                assert await one.run(filters) == ["docs", "md", "7"]
                await one.run(way_out)
                await one.until("document.getElementById('results').hidden")
                assert await one.run(filters) == ["", "", ""]
                if "leave" in way_out:
                    assert await one.run("document.activeElement.id") == "query"
            await one.run("history.back()")
            await one.until("document.querySelector('.hit')")
            assert await one.run(filters) == ["docs", "md", "7"]


async def test_show_more_keeps_the_position_and_focuses_the_first_new_row(one: View) -> None:
    await one.scene.mirrored(210)
    for address, name, before in (("files?mirror=docs", "files", 200), ("history", "history", 100)):
        await one.open(f"#/{address}")
        rows = f"document.querySelectorAll('#{name}-list li')"
        await one.until(f"{rows}.length == {before}")
        await one.run(f"document.getElementById('more-{name}').focus()")
        await one.run("scrollTo(0, document.body.scrollHeight)")
        top = await one.run("scrollY")
        assert top > 1000
        await one.press("Enter")
        await one.until(f"{rows}.length == 210")
        assert await one.run(f"[...{rows}].indexOf(document.activeElement.closest('li'))") == before
        assert await one.run("scrollY") == top


async def test_more_text_keeps_the_position_and_has_the_focus(one: View) -> None:
    text = "".join(f"Line {n} of grapes.\n" for n in range(12_000))
    hits = [Hit("1", 0.9, (Passage("Line 6000 of grapes."),), "f0.md")]
    await one.scene.mirrored(1)
    async with one.scene.answering(hits, text):
        await one.search("grapes")
        await one.until("document.querySelector('.hit a.path')")
        await one.run("document.querySelector('.hit a.path').click()")
        await one.until("document.querySelector('#text mark')")
        mark = "Math.round(document.querySelector('#text mark').getBoundingClientRect().top)"
        await one.run("scrollTo(0, 0)")
        for name in ("earlier", "later"):
            before = await one.run(mark)
            shown = await one.run("document.getElementById('text').textContent.length")
            await one.run(f"document.getElementById('{name}').focus({{ preventScroll: true }})")
            await one.press("Enter")
            await one.until(f"document.getElementById('text').textContent.length > {shown}")
            assert abs(await one.run(mark) - before) <= 1
            assert await one.run("document.activeElement.closest('#text span') != null")


async def test_back_from_a_document_returns_to_its_hit(one: View) -> None:
    hits = [Hit(str(n), 1 - n / 100, (Passage(f"Grapes {n}."),), f"f{n}.md") for n in range(40)]
    await one.scene.mirrored(40)
    async with one.scene.answering(lambda query: hits[: query.top_k], "Grapes."):
        await one.search("grapes")
        await one.until("document.querySelectorAll('.hit').length == 10")
        await one.run("document.getElementById('more-hits').click()")
        await one.until("document.querySelectorAll('.hit').length == 20")
        await one.run("document.querySelectorAll('.hit a.path')[14].focus()")
        await one.run("scrollTo(0, 900)")
        for way_back in ("document.querySelector('#document [data-back]').click()", "history.back()"):
            await one.press("Enter")
            await one.wait_for_text("f14.md", "#document-title")
            await one.run(way_back)
            await one.until("!document.getElementById('results').hidden")
            await one.until("document.activeElement.innerText == 'f14.md'")
            assert await one.run("scrollY") == 900


async def test_back_returns_to_the_link_that_was_followed(one: View) -> None:
    await one.scene.mirrored(410)
    await one.do(one._page.size, 1280, 300)
    await one.wait_for_text("All 410 documents are searchable", "#sentence")
    await one.until("document.querySelector('#changes li:nth-child(3) a')")
    row = await one.run("document.querySelector('#changes li:nth-child(3) a').dataset.key")
    for key, view in (("files docs", "files"), ("history", "history"), (row, "document")):
        await focus(one, key)
        top = await one.run("scrollY")
        async with one.scene.target():
            await one.press("Enter")
            await one.until(f"!document.getElementById('{view}').hidden")
            await one.press("Escape")
            await one.until("!document.getElementById('overview').hidden")
            await has_focus(one, key)
        assert await one.run("scrollY") == top
    await one.open("#/files?mirror=docs")
    await one.until("document.activeElement.id == 'files-title'")
    for shown in (200, 400):
        await one.until(f"document.querySelectorAll('#files-list li').length == {shown}")
        if shown == 200:
            await one.run("document.getElementById('more-files').click()")
    await one.run("document.querySelector('#files-list li:nth-child(390) a').focus()")
    top, key = await one.run("[scrollY, document.activeElement.dataset.key]")
    async with one.scene.target():
        await one.press("Enter")
        await one.until("!document.getElementById('document').hidden")
        await one.press("Escape")
        await one.until("!document.getElementById('files').hidden")
        await has_focus(one, key)
    assert await one.run("scrollY") == top
    assert await one.count("#files-list li") == 400
    await one.do(one._page.size, 1280, 800)


async def test_history_names_its_time_and_an_error_its_status(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(1)
        await one.run("location.hash = '#/history'")
        await one.wait_for_text("History, last 30 days", "#history-title")

        async def fail(*_args: Any) -> Any:
            raise HTTPException(418, "")

        monkeypatch.setattr(Views, "history", fail)
        await one.run("location.hash = '#/history?mirror=docs'")
        await one.wait_for_text("kbsync returned status 418", "#toast")


async def test_update_of_an_empty_list_of_files_leaves_the_focus_in_the_search_box(one: View) -> None:
    await one.scene.mirrored(1)
    await one.open("#/files?mirror=docs&state=failed")
    await one.wait_for_text("None.", "#files-list")
    await one.until("document.querySelector('.mirror')")
    await one.press("/")
    one.world.write("big.md", "x" * (one.world.limits.max_bytes + 1))
    await one.scene.mirrored()
    await one.wait_for_text("big.md", "#files-list")
    assert await one.run("document.activeElement.id") == "query"


async def test_tab_is_named_after_the_view_and_marked_if_something_needs_attention(
    tmp_path: Path, page: Page
) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(1)
        await one.wait_for_text("1 document is searchable", "#sentence")
        assert await one.run("document.title") == "kbsync"
        async with one.scene.answering([Hit("1", 0.9, (Passage("Grapes."),), "f0.md")], "Grapes."):
            await one.search("grapes")
            await one.until("document.title == 'Search: grapes – kbsync'")
            await one.run("document.querySelector('.hit a.path').click()")
            await one.until("document.title == 'f0.md – kbsync'")
        await one.run("location.hash = '#/files?mirror=docs'")
        await one.until("document.title == 'Files of docs – kbsync'")
        await one.run("location.hash = '#/history?mirror=docs'")
        await one.until("document.title == 'History of docs – kbsync'")
        one.world.write("big.md", "x" * (one.world.limits.max_bytes + 1))
        await one.scene.mirrored()
        await one.until("document.title == '! History of docs – kbsync'")
        await one.press("Escape", "Escape", "Escape", "Escape")
        await one.until("document.title == '! 1 document failed – kbsync'")


async def test_skip_link_goes_to_the_heading_of_the_current_view(one: View) -> None:
    await one.scene.mirrored(1)
    for view, heading in (
        ("", "sentence"),
        ("#/history", "history-title"),
        ("#/files?mirror=docs", "files-title"),
    ):
        await one.open(view)
        await one.until("document.querySelector('.mirror')")
        if view:
            await one.until(f"document.activeElement.id == '{heading}'")
        address = await one.run("location.hash")
        await one.run("document.querySelector('.skip').focus()")
        assert await one.text(".skip") == "Skip to content"
        await one.press("Enter")
        await one.until(f"document.activeElement.id == '{heading}'")
        assert await one.run("location.hash") == address


async def test_logo_leads_to_the_overview(one: View) -> None:
    await one.open("#/history")
    await one.until("!document.getElementById('history').hidden")
    await one.run("document.querySelector('.mark').click()")
    await one.until("!document.getElementById('overview').hidden")


async def test_escape_in_a_filter_keeps_the_search_open(one: View) -> None:
    await one.scene.mirrored(1)
    async with one.scene.answering([Hit("1", 0.9, (Passage("Grapes."),), "f0.md")]):
        await one.find("grapes")
        for name in ("only-type", "only-time"):
            await one.run(f"document.getElementById('{name}').focus()")
            await one.press("Escape")
            assert not await one.run("document.getElementById('results').hidden")
            assert await one.run("document.activeElement.id") == name
        await one.run("document.querySelector('.hit a.path').focus()")
        await one.press("Escape")
        await one.until("document.getElementById('results').hidden")


async def test_filters_without_words_ask_for_words(one: View) -> None:
    await one.scene.mirrored(1)
    async with one.scene.answering([Hit("1", 0.9, (Passage("Grapes."),), "f0.md")]):
        await one.find("grapes")
        await one.run("document.getElementById('only-type').focus()")
        await one.write("md")
        await one.press("Enter")
        await one.until("location.hash.includes('type=md')")
        await one.run("document.getElementById('query').value = ''")
        await one.run("document.getElementById('query').focus()")
        await one.press("Enter")
        await one.wait_for_text("Type words to search for", "#hits")
        assert await one.count(".hit") == 0
        assert await one.run("document.getElementById('only-type').value") == "md"
        await one.write("grapes")
        await one.press("Enter")
        await one.until("document.querySelector('.hit')")


async def test_arrow_keys_move_between_hits_and_otherwise_scroll(one: View) -> None:
    hits = [Hit(str(n), 0.9, (Passage("Grapes."),), f"f{n}.md") for n in range(3)]
    await one.scene.mirrored(3)
    async with one.scene.answering(hits):
        await one.search("grapes")
        await one.until("document.querySelectorAll('.hit').length == 3")
        for element, key, reached in (
            (".hit:nth-of-type(2) button", "ArrowDown", "f2.md"),
            (".hit:nth-of-type(3) summary", "ArrowUp", "f1.md"),
            (".hit a.path", "ArrowUp", "query"),
            (".hit:nth-of-type(3) a.path", "ArrowDown", ""),
            ("#leave", "ArrowDown", ""),
        ):
            pressed = await one.run(
                f"(() => {{ const from = document.querySelector({element!r}); from.focus();"
                f" const event = new KeyboardEvent('keydown',"
                f" {{ key: {key!r}, bubbles: true, cancelable: true }});"
                " from.dispatchEvent(event); const to = document.activeElement;"
                " return [event.defaultPrevented, to == from ? '' : to.id || to.innerText] })()"
            )
            assert pressed == [bool(reached), reached]


async def test_filter_is_applied_by_one_request(one: View) -> None:
    await one.scene.mirrored(1)
    async with one.scene.answering([Hit("1", 0.9, (Passage("Grapes."),), "f0.md")]):
        await one.find("grapes")
        await one.run("document.getElementById('only-type').focus()")
        await one.write("md")
        one._page.requested.clear()
        await one.press("Enter")
        await one.until("location.hash.includes('type=md')")
        await one.until(
            "performance.getEntriesByType('resource').some((each) => each.name.includes('type=md'))"
        )
        assert len([url for url in one._page.requested if "type=md" in url]) == 1


async def test_history_says_that_it_shows_only_the_newest_events(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = app.content
    monkeypatch.setattr(
        app, "content", lambda name: content(name).replace(b"MOST_EVENTS = 1000", b"MOST_EVENTS = 150")
    )
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(160)
        await one.until("document.querySelector('.mirror')")
        await one.run("location.hash = '#/history'")
        await one.until("document.querySelectorAll('#history-list li').length == 100")
        assert await one.run("document.getElementById('history-end').hidden")
        await one.run("document.getElementById('more-history').click()")
        await one.wait_for_text(
            "These are the newest 150. To list more: kbsync history --config", "#history-end"
        )


async def test_open_document_shows_its_new_state_and_keeps_the_focus(one: View) -> None:
    world = one.world
    world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    await one.scene.mirrored(1)
    async with one.scene.target():
        await one.until("document.querySelector('.mirror')")
        await one.open(f"#/document?mirror=docs&key={cursor('f0.md')}")
        await one.wait_for_text("docs, failed", "#document-tools")
        await one.run("document.querySelector('#document-why summary').focus()")
        await one.press("Enter")
        await one.run(keyed("document retry") + ".click()")
        await one.wait_for_text("Retry requested", "#toast")
        await one.run("document.querySelector('#document-why summary').focus()")
    await one.scene.mirrored()
    async with one.scene.target():
        await one.wait_for_text("docs, searchable", "#document-tools")
        assert "Retry" not in await one.text("#document-tools")
        assert await one.run("document.activeElement.dataset.key") == "document why"
        assert await one.run("document.querySelector('#document-why details').open")


async def test_searchable_document_is_not_loaded_again_when_others_change(one: View) -> None:
    await one.scene.mirrored(1)
    async with one.scene.target():
        await one.until("document.querySelector('.mirror')")
        await one.open(f"#/document?mirror=docs&key={cursor('f0.md')}")
        await one.wait_for_text("docs, searchable", "#document-tools")
        one._page.requested.clear()
    await one.scene.mirrored(2)
    await one.until("document.getElementById('sentence').textContent.startsWith('All 2')")
    await asyncio.sleep(3.0)
    await one.run("1")
    assert not [url for url in one._page.requested if "/api/document" in url]


async def test_every_control_of_the_results_has_a_name_of_its_own(one: View) -> None:
    one.world.write(".obsidian/app.json", "{}")
    hits = [Hit(str(n), 0.9, (Passage("Grapes."),), f"f{n}.md") for n in range(3)]
    await one.scene.mirrored(3)
    async with one.scene.answering(hits):
        await one.search("grapes")
        await one.until("document.querySelectorAll('.hit').length == 3")
        names = await one.run(
            "[...document.querySelectorAll('.hit :is(a, button, summary)')]"
            ".map((each) => each.getAttribute('aria-label') || each.innerText)"
        )
    assert len(names) == len(set(names)) == 15


async def test_name_of_each_control_begins_with_its_visible_text(one: View) -> None:
    """So that a user can speak it: WCAG 2, 2.5.3."""
    await one.scene.mirrored(12)
    one.world.delete_many(12)
    await one.scene.mirrored()
    await one.scene.runs["docs"].halts.show(Halt("credentials", "the key is refused", "kbsync retry"))
    await one.wait_for_text("docs is halted", "#sentence")
    hits = [Hit("1", 0.9, (Passage("Grapes."),), "f0.md")]
    names = (
        "[...document.querySelectorAll('main [aria-label]:is(a, button, summary)')]"
        ".filter((each) => each.checkVisibility())"
        ".map((each) => [each.getAttribute('aria-label'), each.innerText.replace('?', '')])"
    )
    pairs = await one.run(names)
    async with one.scene.answering(hits):
        await one.find("grapes")
        pairs += await one.run(names)
    assert len(pairs) > 8
    assert [pair for pair in pairs if not pair[0].startswith(pair[1])] == []


async def test_search_without_a_hit_explains_what_a_query_can_have(one: View) -> None:
    await one.scene.mirrored(1)
    hits = [Hit("1", 0.9, (Passage("Grapes."),), "f0.md")]
    async with one.scene.answering(lambda query: hits if query.text == "grapes" else []):
        await one.find("grapes")
        await one.run("document.getElementById('query').select()")
        await one.write("herons")
        await one.press("Enter")
        await one.wait_for_text("No documents found", "#results-title")
        assert '"Quotes" find a phrase' in await one.text("#hits")


async def test_refused_search_is_no_search_without_a_hit(one: View) -> None:
    await one.scene.mirrored(1)
    await one.search("-grapes")
    await one.wait_for_text("the query has only excluded words", "#hits")
    assert await one.text("#results-title") == "Search"
    assert "only excluded words" in await one.text("#announcement")
    one._page.messages.clear()  # the browser logs the status 400


async def test_filter_without_a_match_is_named_first_and_wraps(one: View) -> None:
    one.world.write("big.md", "x" * (one.world.limits.max_bytes + 1))
    await one.scene.mirrored(1)
    await one.do(one._page.size, 390, 800)
    async with one.scene.answering([]):
        await one.search(f"grapes path:{'x' * 200}")
        await one.wait_for_text("1 file failed", "#hits")
    first = await one.text("#hits .empty")
    assert first.startswith("no document matches path xxx")
    assert await one.run("document.documentElement.scrollWidth") <= 390
    await one.do(one._page.size, 1280, 800)


async def test_names_keep_their_spaces_and_long_headings_are_cut(one: View) -> None:
    hits = [Hit("1", 0.9, (Passage("Grapes.", ("Grapes " * 300,)),), "two  spaces.md")]
    one.world.write("two  spaces.md", "text")
    await one.scene.mirrored()
    async with one.scene.answering(hits):
        await one.find("grapes")
        assert await one.text(".hit a.path") == "two  spaces.md"
        assert await one.run("document.querySelector('.trail').offsetHeight") < 60


def change(path: str, event: str, mirror: str = "docs") -> dict[str, Any]:
    return {"at": 1.0, "mirror": mirror, "path": path, "event": event, "seconds": 1.0, "reason": ""}


async def test_recent_changes_link_only_to_documents_that_exist(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [
        change("a.md", "ready"),
        change("b.md", "ready"),
        change("b.md", "deleted"),
        change("c.md", "ready", "old"),
    ]
    frame = Views.frame

    async def with_changes(self: Views) -> dict[str, Any]:
        return {**await frame(self), "changes": changes}

    monkeypatch.setattr(Views, "frame", with_changes)
    async with open_view(scene(tmp_path), page) as one:
        await one.until("document.querySelectorAll('#changes li').length == 4")
        links = "[...document.querySelectorAll('#changes a')].map((each) => each.innerText).join()"
        assert await one.run(links) == "a.md"
        assert "old (removed)" in await one.text("#changes")


async def test_document_that_is_gone_says_so_in_its_view(one: View) -> None:
    await one.scene.mirrored(1)
    latin = os.fsdecode(b"caf\xe9.md")
    for name, shown in (("missing.md", "missing.md"), (latin, printable(latin))):
        await one.open(f"#/document?mirror=docs&key={cursor(name)}")
        await one.until(f"document.getElementById('document-title').innerText == {json.dumps(shown)}")
        assert "docs has no such file" in await one.text("#document")
        assert await one.run("document.getElementById('text').hidden")
    one._page.messages.clear()  # the browser logs the status 404


async def test_document_offers_a_retry_only_where_it_can_help(one: View) -> None:
    world = one.world
    world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    world.write("big.md", "x" * (world.limits.max_bytes + 1))
    await one.scene.mirrored(1)
    async with one.scene.target():
        for name, can_help in (("f0.md", True), ("big.md", False)):
            await one.open(f"#/document?mirror=docs&key={cursor(name)}")
            await one.wait_for_text(name, "#document-title")
            assert ("Retry" in await one.text("#document-tools")) is can_help


async def test_more_files_that_cannot_be_read_are_reported(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_view(scene(tmp_path), page) as one:
        await one.scene.mirrored(210)
        await one.open("#/files?mirror=docs")
        await one.until("document.querySelectorAll('#files-list li').length == 200")
        await asyncio.to_thread(one.thread.stop)
        await one.run("document.getElementById('more-files').click()")
        await one.wait_for_text("kbsync isn't responding", "#toast")
        assert not any("Uncaught" in message for message in one._page.messages)


async def test_unkept_promise_is_named(tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalTargetConfig, "unkept", {2: "files with equal text share passages"})
    async with open_view(scene(tmp_path), page) as one:
        await one.wait_for_text(
            "Promise 2 is not kept here (never absent while replaced): files with equal text", ".mirror"
        )
