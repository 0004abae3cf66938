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
from tests.server.mirror_with_listener import MirrorWithListener, eventually, mirror_with_listener, renewed
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
GRAPES = [Hit("1", 0.9, (Passage("Grapes."),), "f0.md")]
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
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


class View:
    """A page of a mirror. A separate thread controls the browser, so the mirror's loop continues."""

    def __init__(self, opened: MirrorWithListener, page: Page) -> None:
        self.mirror, self.world, self._page = opened, opened.world, page
        self.port = 0
        self.serve()

    def serve(self) -> None:
        """Start the listener at its previous port."""
        [listening] = bind_sockets("127.0.0.1", self.port)
        self.port = listening.getsockname()[1]
        self.thread = ServerThread(self.mirror.app, [listening], self.mirror.listener_app.hub.end)
        self.thread.start()

    async def do(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        loop = asyncio.get_running_loop()
        self.world.clock.outside_calls += 1  # a browser on a busy machine takes long
        try:
            return await loop.run_in_executor(THREAD, lambda: call(*args, **options))
        finally:
            self.world.clock.outside_calls -= 1

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

    @asynccontextmanager
    async def showing(self, hits: Any, text: str = "", files: int = 1) -> AsyncIterator[None]:
        """Mirror so many files, and let searches find these hits; yield when the page shows them."""
        await self.mirror.mirrored(files)
        async with self.mirror.answering(hits, text):
            await self.find("grapes")
            yield

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
async def open_view(opened: MirrorWithListener, page: Page) -> AsyncIterator[View]:
    async with opened.open():
        view = View(opened, page)
        try:
            await view.open()
            yield view
        finally:
            await view.do(page.open, "about:blank")
            await view.do(view.thread.stop)


@pytest.fixture
async def view(tmp_path: Path, page: Page) -> AsyncIterator[View]:
    """Yield a page without problems."""
    async with open_view(mirror_with_listener(tmp_path), page) as opened:
        yield opened
        assert page.messages == []


@pytest.fixture
def allowed_messages(view: View) -> Iterator[None]:
    """Forget what the browser logs, before its page is checked."""
    yield
    view._page.messages.clear()


browser_may_log = pytest.mark.usefixtures("allowed_messages")


async def test_page_updates_without_a_reload(view: View) -> None:
    await view.until("document.querySelector('.mirror')")
    assert "No documents yet" in await view.text("main")
    await view.mirror.mirrored(3)
    await view.wait_for_text("All 3 documents are searchable")
    assert "f2.md" in await view.text("#changes")
    view.world.write("huge.md", "x" * (view.world.limits.max_bytes + 1))
    await view.mirror.mirrored()
    await view.until("document.querySelector('.mirror').dataset.tone == 'failed'")
    assert "huge.md" in await view.text(".mirror")


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
    (mirror_frame("held", "deletions-held", held_count=40), "40 deletions are waiting for your approval"),
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
    async with open_view(mirror_with_listener(tmp_path), page) as view:
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
        "1 document is waiting while paused",
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
    async with open_view(mirror_with_listener(tmp_path), page) as view:
        await view.open()
        await view.until(f"document.querySelectorAll('.mirror').length == {len(mirrors)}")
        assert await view.text("#sentence") == sentence
        assert await view.text("#beneath") == beneath
        kept_count = [
            f"{mirror['documents']['kept']} kept" for mirror in mirrors if "kept" in mirror["documents"]
        ]
        assert re.findall(r"\S+ kept", " ".join((await view.text()).split())) == kept_count
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
    async with open_view(mirror_with_listener(tmp_path, paid=kind == "renewals"), page) as view:
        world = view.world
        if kind == "renewals":
            await renewed(view.mirror)
        else:
            await view.mirror.mirrored(12)
            world.delete_many(12)
            await view.mirror.mirrored()
        await view.until("document.querySelector('.notice.held button')")
        puts, before = world.puts(), world.searchable_texts()
        if kind == "renewals":
            output = (await view.text("main")).replace("\n", " ")
            assert output.startswith("docs is waiting for your approval")
            assert "12 documents (122 B) would be reindexed" in output
            assert "halted" not in output
            assert await view.run("document.querySelector('.mirror').dataset.tone") == "held"
        await view.run("document.querySelector('.notice.held button').focus()")
        await view.press("Enter")
        await view.until("document.getElementById('held').open")
        assert await view.run("document.activeElement.id") == "held-keep"
        if kind == "renewals":
            assert "Reindex 12 documents of docs?" in await view.text("#held")
            assert "Settings changed" in await view.text("#held")
        assert "f11.md" in await view.text("#held-list")
        assert (world.puts(), world.searchable_texts()) == (puts, before)
        await view.press("Tab", "Enter")
        await view.until("!document.getElementById('held').open")
        await view.mirror.mirrored()
        if kind == "renewals":
            assert (world.puts(), world.searchable_texts()) == (puts + 12, before)
        else:
            assert world.searchable_texts() == {}
        await view.until("!document.querySelector('.notice.held')")
        assert view._page.messages == []


async def test_requested_audit_reports_its_result(view: View) -> None:
    base = view.world.base
    await view.mirror.mirrored(3)
    row = view.world.row_of("f0.md")
    # Another user copied it with its mark.
    twin = base.add(row.name, b"text of f0", path="f0.md", upload_id=row.id, foreign=False)
    run = view.mirror.runs["docs"]
    async with run.bind() as bound:
        assert bound is not None
        await bound.compare()
        await bound.compared()
        for result in ("1 document repaired", "all is well"):
            await view.until("document.querySelector('[data-key=\"audit docs\"]:enabled')")
            await view.run("document.querySelector('[data-key=\"audit docs\"]').click()")
            await view.wait_for_text("Verification started", "#toast")
            await bound.audits.audit()
            await view.wait_for_text(f"docs verified: {result}", "#toast")
            assert f": {result}" in await view.text(".legend")
            base._documents.pop(twin.remote_id, None)


LOST = "document.body.dataset.link == 'gone'"
BUTTONS = "[...document.querySelectorAll('#overview button')].map((each) => each.disabled)"
GREY = "getComputedStyle(document.getElementById('mirrors')).filter == 'grayscale(1)'"


SOON = 20.0
"""Seconds after which the page must have noticed a lost connection: five, and some for a busy machine."""


async def is_grey(view: View, since: float) -> None:
    """Assert that the page soon reports a lost connection and disables its buttons."""
    await view.until(LOST)
    assert time.monotonic() - since < SOON
    assert await view.text("#sentence") == "kbsync isn't responding"
    assert await view.run("document.title") == "! kbsync isn't responding – kbsync"
    assert (await view.text("#beneath")).endswith("Check with: kbsync status --config '/srv/my kb.yaml'")
    assert set(await view.run(BUTTONS)) == {True}
    assert await view.run(GREY)
    assert await view.run("document.getElementById('link').dataset.state") == "lost"
    assert await view.run(FAINT) == []


@browser_may_log
async def test_page_turns_grey_and_disabled_soon_after_the_daemons_end(view: View) -> None:
    await view.mirror.mirrored(3)
    await view.wait_for_text("All 3 documents are searchable", "#sentence")
    await view.until("document.querySelector('[data-key=\"audit docs\"]')")  # after the pass
    await asyncio.to_thread(view.thread.stop)
    await is_grey(view, time.monotonic())
    view.serve()
    await view.until(f"!({LOST})")
    assert set(await view.run(BUTTONS)) == {False}
    assert await view.text("#sentence") == "All 3 documents are searchable"


@browser_may_log
async def test_hanging_daemon_is_shown_as_gone(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    await view.mirror.mirrored()
    await view.until("document.querySelector('[data-key=\"audit docs\"]')")
    since = time.monotonic()
    monkeypatch.setattr(events, "HEARTBEAT", 3600.0)  # the connection exists, but nothing arrives
    await view.until(LOST)
    assert time.monotonic() - since < SOON


async def test_tabs_in_the_background_leave_the_connections_to_the_page_in_front(view: View) -> None:
    """Chromium opens six connections to a host for all of its tabs; a stream takes one."""
    clients = view.mirror.listener_app.hub.clients
    await view.mirror.mirrored(1)
    await view.wait_for_text("1 document is searchable")
    with ExitStack() as tabs:
        behind = await view.do(lambda: tabs.enter_context(view._page.tabs(view.address, 7)))
        try:
            for tab in behind:
                await view.do(tab.until, "document.getElementById('link')?.innerText == 'paused'")
            await eventually(lambda: len(clients) == 1)
            await view.run("location.hash = '#/files?mirror=docs'")
            await view.wait_for_text("f0.md", "#files-list")
            await view.do(behind[0].call, "Page.bringToFront")
            await view.do(behind[0].until, "document.querySelector('.mirror')")
            await view.wait_for_text("paused", "#link")
            await eventually(lambda: len(clients) == 1)
            assert not await view.run(LOST)
            await view.do(view._page.call, "Page.bringToFront")
            await view.run("location.hash = '#/'")
            await view.mirror.mirrored(2)
            await view.wait_for_text("All 2 documents are searchable")
        finally:
            await view.do(tabs.close)


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
    async with open_view(mirror_with_listener(tmp_path), page) as view:
        await view.until("document.querySelector('.mirror')")
        await view.run("location.hash = '#/history'")
        await view.wait_for_text("No response within 1 s; close other kbsync pages", "#toast")


async def test_page_shows_why_the_listener_refuses_it(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_CLIENTS", 0)
    async with open_view(mirror_with_listener(tmp_path), page) as view:
        await view.until(LOST)
        assert await view.text("#sentence") == "too many pages are open; close one of them"
        assert "running" not in await view.text("main")
        monkeypatch.setattr(events, "MAX_CLIENTS", 1)
        await view.until("document.querySelector('.mirror')")
        assert not await view.run(LOST)


async def test_back_never_leaves_the_page(view: View) -> None:
    """Also if the user opened the page at a file, not at the overview."""
    await view.mirror.mirrored(1)
    views = {name: f"!document.getElementById('{name}').hidden" for name in ("files", "history", "overview")}
    await view.do(view._page.open, "about:blank")
    await view.open("#/files?mirror=docs")
    await view.until(views["files"])
    await view.run("location.hash = '#/history?mirror=docs'")
    await view.until(views["history"])
    await view.run("document.querySelector('#history [data-back]').click()")
    await view.until(views["files"])
    await view.press("Escape")
    await view.until(views["overview"])
    assert await view.run("location.hash") == "#/"
    await view.run("location.hash = '#/history?mirror=docs'")
    await view.until(views["history"])
    await view.run("history.back()")
    await view.until(views["overview"])
    await view.run("history.forward()")
    await view.until(views["history"])
    await view.press("Escape")
    await view.until(views["overview"])
    assert await view.run("location.hash") == "#/"


async def test_foreign_names_and_texts_are_shown_as_text(view: View) -> None:
    big = view.world.limits.max_bytes + 1
    for number, name in enumerate(HOSTILE):
        view.world.write(name, TEXT)
        view.world.write(f"d{number}/{name}", "x" * big)
    await view.mirror.mirrored()
    run = view.mirror.runs["docs"]
    async with run.bind():
        await view.until("document.querySelectorAll('.mirror li').length >= 5")
        await view.search("harvest")
        await view.until("document.querySelectorAll('.hit').length >= 5")
        assert await view.count(".hit mark") >= 5
        await view.run("document.getElementById('query').dispatchEvent(new Event('input'))")
        is_requested = "entry.name.endsWith('q=harvest&k=10&unfinished=1')"
        await view.until(f"performance.getEntries().some((entry) => {is_requested})")
        page_text = await view.run("document.body.textContent")
        for name in (HOSTILE[0], HOSTILE[2], "evil\\u202etxt.md"):
            assert name in page_text
        assert "<video src=x onerror=" in page_text and "& bold" in page_text  # snippets omit harmless tags
        assert "\u202e" not in page_text
        assert await view.count("main img, main video, main script, main b b") == 0
        assert "broken" not in await view.run("document.title")
        hosts = {url.split("/")[2] for url in view._page.requested if url.startswith("http")}
        assert hosts == {f"127.0.0.1:{view.port}"}


async def test_hit_of_another_machine_shows_its_host_and_age(view: View) -> None:
    seen_at = view.world.clock.wall() - 7200
    their = Origin("base", "<b>files-2", "news", Path("/srv/news"), seen_at, is_own=False, is_here=False)
    our = replace(their, is_own=True, is_here=True)
    hits = [Hit("1", 0.9, (), "a.md", "Herons", origin=their), Hit("2", 0.8, (), "b.md", origin=our)]
    await view.mirror.mirrored(1)
    async with view.mirror.answering(hits):
        await view.wait_for_text("1 document is searchable")
        await view.search("harvest")
        await view.until("document.querySelectorAll('.hit').length === 2")
        trails = "[...document.querySelectorAll('.trail')].map((each) => each.textContent).join('|')"
        away, local = (await view.run(trails)).split("|")
    assert re.fullmatch(r"news on <b>files-2, as of \d+ \w+ ago › Herons", away), away
    assert local == ""


async def test_hits_without_query_words_are_called_similar_and_missing_words_are_named(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    passage = Passage("Herons stand in the water.", ("Birds",))
    hits = [Hit(str(number), 0.3, (passage,), f"{number}.md", "Birds") for number in range(2)]

    async def unknown_words(query: Query) -> UnknownWords:
        is_unknown = "herons" not in query.text
        return UnknownWords({query.text: ""} if is_unknown else {}, is_unknown)

    await view.mirror.mirrored(1)
    view.world.write("big.md", "x" * (view.world.limits.max_bytes + 1))
    await view.mirror.mirrored(1)
    async with view.mirror.answering(hits) as target:
        monkeypatch.setattr(target, "unknown_words", unknown_words, raising=False)
        await view.wait_for_text("big.md")
        await view.search("xqzzyplk")
        await view.wait_for_text("No document has these words;", "#results-title")
        await view.wait_for_text("docs: 1 file failed", "#hits")
        await view.run("document.getElementById('query').value = ''")
        await view.write("herons")
        await view.press("Enter")
        await view.until("/^[12] documents? found$/.test(document.getElementById('results-title').innerText)")


@browser_may_log
async def test_text_can_never_become_markup(view: View) -> None:
    await view.until("document.querySelector('.mirror')")
    tried = "document.body.innerHTML = '<b>x</b>'; return ''"
    caught = f"(() => {{ try {{ {tried} }} catch (error) {{ return error.name }} }})()"
    assert await view.run(caught) == "TypeError"


async def test_remote_page_asks_for_a_token_and_keeps_it_in_the_tab(tmp_path: Path, page: Page) -> None:
    async with open_view(mirror_with_listener(tmp_path, TOKEN), page) as view:
        await view.until("!document.getElementById('login').hidden")
        await view.write(f"{TOKEN}\u200b")  # copied with an invisible character
        await view.press("Enter")
        await view.wait_for_text("invalid characters", "#login-wrong")
        assert await view.run("sessionStorage.length") == 0
        await view.write("wrong")
        await view.press("Enter")
        await view.wait_for_text("Wrong token", "#login-wrong")
        await view.write(f"{TOKEN}\u200b")  # copied with an invisible character
        await view.press("Enter")
        await view.wait_for_text("invalid characters", "#login-wrong")
        assert await view.run("sessionStorage.length") == 0
        await view.write(TOKEN)
        await view.press("Enter")
        await view.until("document.querySelector('.mirror')")
        assert await view.run("document.activeElement.id") == "sentence"
        assert await view.run("document.cookie + Object.keys(localStorage)") == ""
        assert await view.run("sessionStorage.length") == 1


async def test_request_without_a_token_is_not_shown_as_accepted(tmp_path: Path, page: Page) -> None:
    async with open_view(mirror_with_listener(tmp_path, TOKEN), page) as view:
        view.world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
        await view.until("!document.getElementById('login').hidden")
        await view.write(TOKEN)
        await view.press("Enter")
        await view.mirror.mirrored(1)
        button = "document.querySelector('.mirror [data-key=\"retry docs f0.md\"]')"
        await view.until(button)
        await view.run("sessionStorage.clear()")
        await view.run(f"{button}.click()")
        await view.until("!document.getElementById('login').hidden")
        assert await view.text("#toast") == ""
        assert view.mirror.inbox() == []


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_nothing_is_wider_than_the_window(view: View, width: int) -> None:
    view.world.write("a" * 200 + ".md", "text")
    await view.mirror.mirrored()
    await view.do(view._page.size, width, 800, dark=True, reduced_motion=True)
    await view.until("document.querySelector('#changes bdi')")
    assert await view.run("document.documentElement.scrollWidth") <= width
    assert await view.run("getComputedStyle(document.querySelector('.bar i')).transitionDuration") == "0s"
    await view.do(view._page.size, 1280, 800)


@pytest.mark.parametrize(("name", "lines"), [("remote", 1), ("x" * 100, 4)], ids=["short", "long"])
async def test_name_of_a_mirror_has_as_many_lines_as_it_needs(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch, name: str, lines: int
) -> None:
    mirror = mirror_frame(name, "target-down", pending=1)
    mirror["halt"]["words"] = "knowledge base not reachable"
    show_mirrors(monkeypatch, [mirror])
    async with open_view(mirror_with_listener(tmp_path), page) as view:
        await view.do(page.size, 390, 800)
        await view.until("document.querySelector('.mirror')")
        height = await view.run("document.querySelector('.mirror h2').offsetHeight")
        assert height <= lines * 30
        assert await view.run("document.documentElement.scrollWidth") <= 390
        await view.do(page.size, 1280, 800)


@enumerated()
@pytest.mark.parametrize("tone", ["ready", "held", "failed"])
async def test_every_text_has_enough_contrast_in_light_and_dark_mode(view: View, tone: str) -> None:
    world = view.world
    await view.mirror.mirrored(12)
    if tone == "failed":
        world.write("huge.md", "x" * (world.limits.max_bytes + 1))
    elif tone == "held":
        world.delete_many(12)
    await view.mirror.mirrored()
    await view.reads(tone)
    await view.mirror.runs["docs"].halts.show(Halt("credentials", "the key is refused", "kbsync retry"))
    await view.until("document.querySelector('#sentence').innerText == 'docs is halted'")
    text = await view.text("main")
    assert "the key is refused" in text and "kbsync retry" in text
    await view.reads("failed")


def test_page_is_small_and_names_no_other_host() -> None:
    assets = {name: app.content(name) for name in app.TYPES}
    assert sum(map(len, assets.values())) < 150_000
    for name, content in assets.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, name
        assert "https://" not in text, name
        assert "innerHTML" not in text, name
        assert " style=" not in text, name


async def test_only_page_assets_are_served() -> None:
    listened = Listened(token=TOKEN)
    listened.door._app = Starlette(routes=[Route("/", app.asset), Route("/assets/{name}", app.asset)])
    for path, kind in (("/", "text/html"), ("/assets/page.js", "text/javascript")):
        response = await listened.get(path)
        assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, kind)
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "unsafe" not in response.headers["content-security-policy"]
    for path in ("/assets/", "/assets/page.py", "/assets/..%2fdoor.py", "/assets/../door.py"):
        assert (await listened.get(path)).status_code in (401, 404)


async def test_hit_opens_its_document_with_the_passage_highlighted(view: View) -> None:
    text = "\U0001f347 Herons\n\n" + "".join(f"Line {n} of \U0001f347 grapes.\n" for n in range(6000))
    hits = [Hit("1", 0.9, (Passage("Line 3000 of \U0001f347 grapes."),), "f0.md", "Herons")]
    async with view.showing(hits, text):
        assert await view.text(".hit p") == "Line 3000 of \U0001f347 grapes."
        assert await view.text(".hit p mark") == "grapes"
        await view.press("ArrowDown", "Enter")
        await view.until(
            "document.querySelector('#text mark')?.textContent == 'Line 3000 of \U0001f347 grapes'"
        )
        assert await view.run(
            "document.querySelector('#text mark').getBoundingClientRect().top < innerHeight"
        )
        assert await view.text("#document-title") == "f0.md"
        for button in ("earlier", "earlier", "later", "later"):
            length = await view.run("document.getElementById('text').textContent.length")
            if await view.run(f"!document.getElementById('{button}').hidden"):
                await view.run(f"document.getElementById('{button}').click()")
                await view.until(f"document.getElementById('text').textContent.length > {length}")
        assert await view.run("document.getElementById('text').textContent") == text
        await view.press("Escape")
        await view.until("!document.getElementById('results').hidden && document.querySelector('.hit')")


async def test_gone_file_is_marked_and_has_no_links_to_open_it(view: View) -> None:
    """Its document stays readable until the deletion is approved."""
    hits = [Hit(str(n), 0.9, (Passage(f"Grapes {n}."),), f"f{n}.md") for n in (0, 11)]
    await view.mirror.mirrored(12)
    view.world.delete_many(11)
    await view.mirror.mirrored()
    async with view.mirror.answering(hits, "Grapes of old."):
        await view.search("grapes")
        await view.until("document.querySelectorAll('.hit').length == 2")
        marks, present = await view.run(
            "[...document.querySelectorAll('.hit')].map((hit) => [hit.innerText,"
            " hit.querySelectorAll('a[href^=\"file:\"]').length])"
        )
        assert "the file is gone; waiting for approval to delete the document" in marks[0]
        assert "is gone" not in present[0]
        assert (marks[1], present[1]) == (0, 1)
        assert "11 of 12 documents would be deleted" in await view.text("#hits")
        await view.run("document.querySelector('.hit a.path').click()")
        await view.wait_for_text("Grapes of old.", "#text")
        assert await view.count("#document-tools a[href^='file:']") == 0
        assert "held" in await view.text("#document-tools")


async def test_title_and_back_keep_the_hits_that_were_added(view: View) -> None:
    hits = [Hit(str(n), 1 - n / 100, (Passage(f"Grapes {n}."),), f"f{n}.md") for n in range(75)]

    async def show_more(count: int) -> None:
        await view.run("document.getElementById('more-hits').click()")
        await view.until(f"document.querySelectorAll('.hit').length == {count}")

    await view.mirror.mirrored(75)
    async with view.mirror.answering(lambda query: hits[: query.top_k], "Grapes."):
        await view.search("grapes")
        await view.wait_for_text("The best 10 documents", "#results-title")
        await show_more(20)
        assert await view.text("#results-title") == "The best 20 documents"
        await view.run("document.querySelectorAll('.hit a.path')[14].click()")
        await view.wait_for_text("f14.md", "#document-title")
        await view.run("document.querySelector('#document [data-back]').click()")
        await view.until("!document.getElementById('results').hidden")
        assert await view.count(".hit") == 20
        assert await view.text("#results-title") == "The best 20 documents"
        for count in (30, 40, 50, 60, 70, 75):
            await show_more(count)
        assert await view.text("#results-title") == "75 documents found"
        await view.run("history.back()")
        await view.until("!document.getElementById('overview').hidden")
        await view.run("history.forward()")
        await view.until("!document.getElementById('results').hidden")
        paths = await view.run("[...document.querySelectorAll('.hit a.path')].map((link) => link.innerText)")
        assert paths == [f"f{n}.md" for n in range(75)]
        assert await view.text("#results-title") == "75 documents found"
        await view.run("document.getElementById('query').value = 'grapes now'")
        await view.run("document.getElementById('search').requestSubmit()")
        await view.wait_for_text("The best 10 documents", "#results-title")


async def test_names_are_escaped_as_in_commands(view: View) -> None:
    latin = os.fsdecode(b"caf\xe9")
    names = [f"{name}.md" for name in ("a\nb", "c\td\r", "\x1b[31m", "\x85\x7f", "\u202e\u2064", latin)]
    names += ["tag\U000e0041.md", "plain \U0001f347 ü.md"]
    for name in names:
        view.world.write(name, "text")
    await view.mirror.mirrored()
    await view.open("#/files?mirror=docs")
    await view.until(f"document.querySelectorAll('#files-list a.path').length == {len(names)}")
    texts = await view.run(
        "[...document.querySelectorAll('#files-list a.path')].map((one) => one.textContent)"
    )
    assert sorted(texts) == sorted(map(printable, names))


async def test_match_explanation_is_shown_by_keyboard(view: View) -> None:
    evil, queries = "<b>ban\u202eana</b>", list[Query]()
    words = MatchedWord("grapes", 0.4), MatchedWord("bananna" * 20, 0.1, evil)
    reasons = Reasons(words, words[:1], 0.9, 0.3, 0.3, 0.6, size=2000, size_weight=0.74)

    def search(query: Query) -> list[Hit]:
        queries.append(query)
        return [Hit("1", 0.6, (Passage("Grapes."),), "f0.md", reasons=reasons)]

    await view.mirror.mirrored(1)
    async with view.mirror.answering(search):
        await view.do(view._page.size, 390, 800, dark=True, reduced_motion=True)
        await view.search("grapes")
        await view.until("document.querySelector('.hit summary')?.checkVisibility()")
        assert not await view.run("document.querySelector('.hit details p').checkVisibility()")
        await view.run("document.querySelector('.hit summary').focus()")
        await view.press("Enter")
        await view.wait_for_text("; in the name: grapes · meaning 0.30", ".hit details")
        await view.wait_for_text("one of 2,000 passages: × 0.74", ".hit details")
        assert "→ <b>ban\\u202eana</b>" in await view.text(".hit details")
        assert await view.run("document.documentElement.scrollWidth") <= 390
        assert await view.run(FAINT) == []
        await view.do(view._page.size, 1280, 800)
    assert all(query.explain for query in queries)


async def test_failed_files_are_grouped_by_reason_and_retried_by_one_button(view: View) -> None:
    world = view.world
    world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    world.write("a.md", "text")
    for name in HOSTILE:
        world.write(name, "x" * (world.limits.max_bytes + 1))
    await view.mirror.mirrored()
    await view.until("document.querySelector('.legend .failed a')")
    await view.run("document.querySelector('.legend .failed a').click()")
    await view.wait_for_text("failed files of docs", "#files-title")
    assert "5 files: " in await view.text("#files-list")
    await view.run("document.querySelector('#files-list button.strong').click()")
    await view.wait_for_text("Retry requested", "#toast")
    assert view.mirror.inbox() == [("retry", {"paths": ["a.md"]})]
    for section, element in (("files?mirror=docs", "#files-list"), ("history", "#history-list")):
        await view.run(f"location.hash = '#/{section}'")
        await view.wait_for_text(HOSTILE[0], element)
    async with view.mirror.target():
        click = (
            "[...document.querySelectorAll('#history a')].find((a) => a.innerText.includes('caf')).click()"
        )
        await view.run(click)
        await view.wait_for_text("caf", "#document-title")
    assert await view.count("main img, main script") == 0


@browser_may_log
async def test_mirror_is_paused_and_a_folder_requested_by_keyboard(view: View) -> None:
    await view.mirror.mirrored(1)
    await view.until("document.querySelector('[data-key=\"pause docs\"]')")
    await view.run("document.querySelector('[data-key=\"pause docs\"]').focus()")
    await view.press("Enter", "Tab", "Enter")
    await view.wait_for_text("paused until", ".state")
    await view.run("document.querySelector('[data-key=\"pause docs\"]').focus()")
    await view.press("Enter")
    await view.wait_for_text("docs resumed", "#toast")
    await view.wait_for_text("up to date", ".state")
    await view.run("document.getElementById('add').focus()")
    await view.press("Enter")
    await view.write("~/notes")
    await view.press("Enter")
    await view.wait_for_text("started with --folder", "#ask-wrong")
    await view.press("Escape")
    assert await view.run("document.activeElement.id") == "add"


@browser_may_log
async def test_added_folder_with_the_files_of_another_mirror_is_reported(view: View, tmp_path: Path) -> None:
    config, inner = tmp_path / "kb.yaml", view.mirror.world.root / "inner"
    inner.mkdir()
    config.write_text(f"mirrors:\n  - name: docs\n    folder: {view.mirror.world.root}\n")
    await view.mirror.mirrored(1)
    listener_app = view.mirror.listener_app
    installation = listener_app._mirrors.installation
    listener_app.switch_to(replace(installation, config=replace(installation.config, path=config)))
    await view.until("document.querySelector('[data-key=\"pause docs\"]')")
    await view.run("document.getElementById('add').focus()")
    await view.press("Enter")
    await view.write(str(inner))
    await view.press("Enter")
    await view.wait_for_text("inner was added", "#ask-title")
    assert await view.text("#toast") == "inner added; indexing has started"
    await view.wait_for_text(f"searches list the files in {inner} twice", "#ask-text")
    await view.press("Enter")
    await view.until("!document.querySelector('#ask').open")


@browser_may_log
async def test_a_mirror_is_removed_with_its_documents_after_two_questions(view: View, tmp_path: Path) -> None:
    listener_app, removals = view.mirror.listener_app, view.mirror.listening._removals
    config = tmp_path / "kb.yaml"
    config.write_text(
        f"mirrors:\n  - {{name: docs, folder: {view.world.root}}}\n  - {{name: x, folder: x}}\n"
    )
    installation = listener_app._mirrors.installation
    listener_app.switch_to(replace(installation, config=replace(installation.config, path=config)))
    await view.mirror.mirrored(3)
    remove = "document.querySelector('[data-key=\"remove docs\"]')"
    await view.until(remove)

    async def check_question(question: str, *keys: str) -> None:
        title = "document.getElementById('ask-title').innerText"
        await view.until(f"document.getElementById('ask').open && {title} == {question!r}")
        assert await view.run("document.activeElement.innerText") == "Cancel"
        await view.press(*keys)

    async def begin() -> None:
        await view.run(f"{remove}.focus()")
        await view.press("Enter")

    first, second = "Remove docs?", "Delete 3 documents of docs?"
    await begin()
    await check_question(first, "Escape")
    await begin()
    await check_question(first, "Tab", "Tab", "Enter")
    await view.wait_for_text("3 documents in memory", "#ask-text")
    await check_question(second, "Escape")
    assert removals.current == {}
    await begin()
    await view.wait_for_text("docs has 3 documents in its knowledge base; keep or delete them?", "#ask-text")
    await check_question(first, "Tab", "Tab", "Enter")
    for width in (390, 1280):
        await view.do(view._page.size, width, 800)
        assert await view.run("document.documentElement.scrollWidth <= innerWidth")
        assert await view.run(FAINT) == []
    await check_question(second, "Tab", "Enter")
    await view.wait_for_text("being removed", ".state")
    assert not await view.run("document.getElementById('ask').open")
    assert config.read_text().count("name:") == 2
    removals.begin("docs", 3)
    removals.report("docs", 1)
    await view.wait_for_text("1 of 3 documents deleted")
    removals.fail("docs", "the service refuses the key")
    await view.wait_for_text("docs was not removed")
    await view.wait_for_text("the service refuses the key")
    await view.reads("ready")
    await view.run("document.querySelector('[data-key=\"dismiss docs\"]').click()")
    assert "not removed" not in await view.text()
    # Kept documents need one question.
    await begin()
    await check_question(first, "Tab", "Enter")
    await view.wait_for_text("docs was removed", "#toast")
    assert config.read_text().count("name:") == 1


def keyed(key: str) -> str:
    """Return an expression for the element with this key."""
    return f"document.querySelector('[data-key=\"{key}\"]')"


async def focus(view: View, key: str) -> None:
    await view.until(keyed(key))
    await view.run(f"{keyed(key)}.focus()")


async def has_focus(view: View, key: str) -> None:
    await view.until(f"document.activeElement.dataset.key == {key!r}")


async def test_keyboard_focus_stays_on_its_element_when_the_overview_changes(view: View) -> None:
    big = "x" * (view.world.limits.max_bytes + 1)
    view.world.write("big.md", big)
    await view.mirror.mirrored(1)
    await view.wait_for_text("1 failed", ".legend")
    await view.until("document.querySelector('#changes a')")
    row = await view.run("document.querySelector('#changes a').dataset.key")
    for number, key in enumerate(("pause docs", "failed files docs", "open docs big.md", row), 2):
        await focus(view, key)
        view.world.write(f"big{number}.md", big)
        await view.mirror.mirrored()
        await view.wait_for_text(f"{number} failed", ".legend")
        await view.until(f"document.getElementById('changes').innerText.includes('big{number}.md')")
        assert await view.run("document.activeElement.dataset.key") == key


async def test_focus_returns_to_the_button_that_opened_a_dialog(view: View) -> None:
    """Also if the page replaced it while the dialog was open; to the mirror's heading if it is gone."""
    await view.mirror.mirrored(1)
    for number, (key, keys) in enumerate(
        {"pause docs": ("Escape",), "remove docs": ("Enter",), "files docs": ()}.items(), 2
    ):
        await focus(view, key)
        if keys:
            await view.press("Enter")
            await view.until("document.getElementById('ask').open")
        await view.mirror.mirrored(number)
        await view.wait_for_text(f"All {number} documents are searchable", "#sentence")
        await view.press(*keys)
        await has_focus(view, key)
    await focus(view, "pause docs")
    await view.press("Enter", "Tab", "Enter")
    await view.wait_for_text("paused until", ".state")
    await has_focus(view, "pause docs")
    await view.press("Enter")
    await view.wait_for_text("up to date", ".state")
    await has_focus(view, "pause docs")
    await view.mirror.mirrored(16)
    view.world.delete_many(16)
    await view.mirror.mirrored()
    await focus(view, "deletions docs")
    await view.press("Enter")
    await view.until("document.getElementById('held').open")
    await view.press("Tab", "Enter")
    await view.until("!document.getElementById('held').open")
    await view.mirror.mirrored()
    await view.until("!document.querySelector('.notice.held')")
    await has_focus(view, "mirror docs")


async def test_focus_goes_to_the_heading_of_the_mirror_after_a_retry(view: View) -> None:
    view.world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    await view.mirror.mirrored(1)
    await focus(view, "retry docs f0.md")
    await view.press("Enter")
    await view.wait_for_text("Retry requested", "#toast")
    await has_focus(view, "retry docs f0.md")
    await view.mirror.mirrored()
    await view.wait_for_text("1 document is searchable", "#sentence")
    await has_focus(view, "mirror docs")


async def test_list_of_files_is_updated_and_keeps_the_focus(view: View) -> None:
    big = "x" * (view.world.limits.max_bytes + 1)
    view.world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    view.world.write("a.md", "text")
    await view.mirror.mirrored()
    view.world.write("big.md", big)
    await view.mirror.mirrored()
    await view.open("#/files?mirror=docs&state=failed")
    await view.wait_for_text("2 failed files of docs", "#files-title")
    await focus(view, "open docs big.md")
    view.world.write("big2.md", big)
    await view.mirror.mirrored()
    await view.wait_for_text("3 failed files of docs", "#files-title")
    assert await view.run("document.activeElement.dataset.key") == "open docs big.md"
    await view.run("document.querySelector('#files-list button.strong').focus()")
    await view.press("Enter")
    await view.wait_for_text("Retry requested", "#toast")
    await view.mirror.mirrored()
    await view.wait_for_text("2 failed files of docs", "#files-title")
    await view.until("!document.getElementById('files-list').innerText.includes('a.md')")
    await has_focus(view, "files")


async def test_updated_list_of_files_keeps_what_show_more_added(view: View) -> None:
    await view.mirror.mirrored(210)
    await view.open("#/files?mirror=docs")
    rows = "document.querySelectorAll('#files-list li').length"
    await view.until(f"{rows} == 200")
    await view.run("document.getElementById('more-files').click()")
    await view.until(f"{rows} == 210")
    await view.run("scrollTo(0, 3000)")
    await view.mirror.mirrored(212)
    await view.until(f"{rows} == 212")
    assert await view.run("scrollY") == 3000


@browser_may_log
async def test_action_while_kbsync_is_stopped_says_so(view: View) -> None:
    view.world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    await view.mirror.mirrored(1)
    await view.open("#/files?mirror=docs&state=failed")
    await view.until("document.querySelector('#files-list button.strong')")
    await asyncio.to_thread(view.thread.stop)
    await view.run("document.querySelector('#files-list button.strong').click()")
    await view.wait_for_text("Failed: kbsync isn't responding", "#toast")
    view.serve()


@browser_may_log
async def test_action_after_a_restart_is_sent_with_the_new_word(view: View) -> None:
    await view.mirror.mirrored(1)
    await focus(view, "pause docs")
    view.mirror.listener_app.csrf_token = "another"
    await view.press("Enter", "Tab", "Enter")
    await view.wait_for_text("paused until", ".state")
    assert not await view.run("document.getElementById('ask').open")


@browser_may_log
async def test_search_typed_while_kbsync_is_stopped_runs_when_it_is_back(view: View) -> None:
    await view.mirror.mirrored(1)
    async with view.mirror.answering(GRAPES):
        await view.until("document.querySelector('.mirror')")
        await asyncio.to_thread(view.thread.stop)
        await view.until(LOST)
        await view.search("grapes")
        await view.wait_for_text("kbsync isn't responding", "#toast")
        view.serve()
        await view.until("document.querySelector('.hit')")
        assert await view.text("#results-title") == "1 document found"


@browser_may_log
async def test_view_opened_while_kbsync_is_stopped_is_shown_when_it_is_back(view: View) -> None:
    await view.mirror.mirrored(1)
    await view.until("document.querySelector('.mirror')")
    await asyncio.to_thread(view.thread.stop)
    await view.until(LOST)
    await view.run("location.hash = '#/files?mirror=docs'")
    await view.wait_for_text("kbsync isn't responding", "#toast")
    view.serve()
    await view.wait_for_text("f0.md", "#files-list")
    assert await view.text("#files-title") == "Files of docs"


async def test_closed_search_leaves_no_filters_for_the_next_one(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_mirrors(monkeypatch, [mirror_frame("docs", ready=1), mirror_frame("other", ready=1)])
    async with open_view(mirror_with_listener(tmp_path), page) as view:
        await view.mirror.mirrored(1)
        filters = "['only-mirror', 'only-type', 'only-time'].map((id) => document.getElementById(id).value)"
        async with view.mirror.answering(GRAPES):
            for way_out in ("document.getElementById('leave').click()", "location.hash = '#/history'"):
                await view.open()
                await view.until("document.querySelectorAll('.mirror').length == 2")
                await view.open("#/search?q=grapes&mirror=docs&type=md&days=7")
                await view.until("document.querySelector('.hit')")
                assert await view.run(filters) == ["docs", "md", "7"]
                await view.run(way_out)
                await view.until("document.getElementById('results').hidden")
                assert await view.run(filters) == ["", "", ""]
                if "leave" in way_out:
                    assert await view.run("document.activeElement.id") == "query"
            await view.run("history.back()")
            await view.until("document.querySelector('.hit')")
            assert await view.run(filters) == ["docs", "md", "7"]


async def test_show_more_keeps_the_position_and_focuses_the_first_new_row(view: View) -> None:
    await view.mirror.mirrored(210)
    for address, name, before in (("files?mirror=docs", "files", 200), ("history", "history", 100)):
        await view.open(f"#/{address}")
        rows = f"document.querySelectorAll('#{name}-list li')"
        await view.until(f"{rows}.length == {before}")
        await view.run(f"document.getElementById('more-{name}').focus()")
        await view.run("scrollTo(0, document.body.scrollHeight)")
        top = await view.run("scrollY")
        assert top > 1000
        await view.press("Enter")
        await view.until(f"{rows}.length == 210")
        assert await view.run(f"[...{rows}].indexOf(document.activeElement.closest('li'))") == before
        assert await view.run("scrollY") == top


async def test_more_text_keeps_the_position_and_has_the_focus(view: View) -> None:
    text = "".join(f"Line {n} of grapes.\n" for n in range(12_000))
    hits = [Hit("1", 0.9, (Passage("Line 6000 of grapes."),), "f0.md")]
    async with view.showing(hits, text):
        await view.run("document.querySelector('.hit a.path').click()")
        await view.until("document.querySelector('#text mark')")
        mark = "Math.round(document.querySelector('#text mark').getBoundingClientRect().top)"
        await view.run("scrollTo(0, 0)")
        for name in ("earlier", "later"):
            before = await view.run(mark)
            length = await view.run("document.getElementById('text').textContent.length")
            await view.run(f"document.getElementById('{name}').focus({{ preventScroll: true }})")
            await view.press("Enter")
            await view.until(f"document.getElementById('text').textContent.length > {length}")
            assert abs(await view.run(mark) - before) <= 1
            assert await view.run("document.activeElement.closest('#text span') != null")


async def test_back_from_a_document_returns_to_its_hit(view: View) -> None:
    hits = [Hit(str(n), 1 - n / 100, (Passage(f"Grapes {n}."),), f"f{n}.md") for n in range(40)]
    async with view.showing(lambda query: hits[: query.top_k], "Grapes.", files=40):
        await view.run("document.getElementById('more-hits').click()")
        await view.until("document.querySelectorAll('.hit').length == 20")
        await view.run("document.querySelectorAll('.hit a.path')[14].focus()")
        await view.run("scrollTo(0, 900)")
        for way_back in ("document.querySelector('#document [data-back]').click()", "history.back()"):
            await view.press("Enter")
            await view.wait_for_text("f14.md", "#document-title")
            await view.run(way_back)
            await view.until("!document.getElementById('results').hidden")
            await view.until("document.activeElement.innerText == 'f14.md'")
            assert await view.run("scrollY") == 900


async def test_back_returns_to_the_link_that_was_followed(view: View) -> None:
    await view.mirror.mirrored(410)
    await view.do(view._page.size, 1280, 300)
    await view.wait_for_text("All 410 documents are searchable", "#sentence")
    await view.until("document.querySelector('#changes li:nth-child(3) a')")
    row = await view.run("document.querySelector('#changes li:nth-child(3) a').dataset.key")
    for key, section in (("files docs", "files"), ("history", "history"), (row, "document")):
        await focus(view, key)
        top = await view.run("scrollY")
        async with view.mirror.target():
            await view.press("Enter")
            await view.until(f"!document.getElementById('{section}').hidden")
            await view.press("Escape")
            await view.until("!document.getElementById('overview').hidden")
            await has_focus(view, key)
        assert await view.run("scrollY") == top
    await view.open("#/files?mirror=docs")
    await view.until("document.activeElement.id == 'files-title'")
    for count in (200, 400):
        await view.until(f"document.querySelectorAll('#files-list li').length == {count}")
        if count == 200:
            await view.run("document.getElementById('more-files').click()")
    await view.run("document.querySelector('#files-list li:nth-child(390) a').focus()")
    top, key = await view.run("[scrollY, document.activeElement.dataset.key]")
    async with view.mirror.target():
        await view.press("Enter")
        await view.until("!document.getElementById('document').hidden")
        await view.press("Escape")
        await view.until("!document.getElementById('files').hidden")
        await has_focus(view, key)
    assert await view.run("scrollY") == top
    assert await view.count("#files-list li") == 400
    await view.do(view._page.size, 1280, 800)


@browser_may_log
async def test_history_names_its_time_and_an_error_its_status(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    await view.mirror.mirrored(1)
    await view.run("location.hash = '#/history'")
    await view.wait_for_text("History, last 30 days", "#history-title")

    async def fail(*_args: Any) -> Any:
        raise HTTPException(418, "")

    monkeypatch.setattr(Views, "history", fail)
    await view.run("location.hash = '#/history?mirror=docs'")
    await view.wait_for_text("kbsync returned status 418", "#toast")


async def test_update_of_an_empty_list_of_files_leaves_the_focus_in_the_search_box(view: View) -> None:
    await view.mirror.mirrored(1)
    await view.open("#/files?mirror=docs&state=failed")
    await view.wait_for_text("None.", "#files-list")
    await view.until("document.querySelector('.mirror')")
    await view.press("/")
    view.world.write("big.md", "x" * (view.world.limits.max_bytes + 1))
    await view.mirror.mirrored()
    await view.wait_for_text("big.md", "#files-list")
    assert await view.run("document.activeElement.id") == "query"


@browser_may_log
async def test_tab_is_named_after_the_view_and_marked_if_something_needs_attention(view: View) -> None:
    await view.mirror.mirrored(1)
    await view.wait_for_text("1 document is searchable", "#sentence")
    assert await view.run("document.title") == "kbsync"
    async with view.mirror.answering(GRAPES, "Grapes."):
        await view.search("grapes")
        await view.until("document.title == 'Search: grapes – kbsync'")
        await view.run("document.querySelector('.hit a.path').click()")
        await view.until("document.title == 'f0.md – kbsync'")
    await view.run("location.hash = '#/files?mirror=docs'")
    await view.until("document.title == 'Files of docs – kbsync'")
    await view.run("location.hash = '#/history?mirror=docs'")
    await view.until("document.title == 'History of docs – kbsync'")
    view.world.write("big.md", "x" * (view.world.limits.max_bytes + 1))
    await view.mirror.mirrored()
    await view.until("document.title == '! History of docs – kbsync'")
    await view.press("Escape", "Escape", "Escape", "Escape")
    await view.until("document.title == '! 1 document failed – kbsync'")


async def test_skip_link_goes_to_the_heading_of_the_current_view(view: View) -> None:
    await view.mirror.mirrored(1)
    for address, heading in (
        ("", "sentence"),
        ("#/history", "history-title"),
        ("#/files?mirror=docs", "files-title"),
    ):
        await view.open(address)
        await view.until("document.querySelector('.mirror')")
        if address:
            await view.until(f"document.activeElement.id == '{heading}'")
        hash_before = await view.run("location.hash")
        await view.run("document.querySelector('.skip').focus()")
        assert await view.text(".skip") == "Skip to content"
        await view.press("Enter")
        await view.until(f"document.activeElement.id == '{heading}'")
        assert await view.run("location.hash") == hash_before


async def test_logo_leads_to_the_overview(view: View) -> None:
    await view.open("#/history")
    await view.until("!document.getElementById('history').hidden")
    await view.run("document.querySelector('.mark').click()")
    await view.until("!document.getElementById('overview').hidden")


async def test_escape_in_a_filter_keeps_the_search_open(view: View) -> None:
    async with view.showing(GRAPES):
        for name in ("only-type", "only-time"):
            await view.run(f"document.getElementById('{name}').focus()")
            await view.press("Escape")
            assert not await view.run("document.getElementById('results').hidden")
            assert await view.run("document.activeElement.id") == name
        await view.run("document.querySelector('.hit a.path').focus()")
        await view.press("Escape")
        await view.until("document.getElementById('results').hidden")


async def test_filters_without_words_ask_for_words(view: View) -> None:
    async with view.showing(GRAPES):
        await view.run("document.getElementById('only-type').focus()")
        await view.write("md")
        await view.press("Enter")
        await view.until("location.hash.includes('type=md')")
        await view.run("document.getElementById('query').value = ''")
        await view.run("document.getElementById('query').focus()")
        await view.press("Enter")
        await view.wait_for_text("Type words to search for", "#hits")
        assert await view.count(".hit") == 0
        assert await view.run("document.getElementById('only-type').value") == "md"
        await view.write("grapes")
        await view.press("Enter")
        await view.until("document.querySelector('.hit')")


async def test_arrow_keys_move_between_hits_and_otherwise_scroll(view: View) -> None:
    hits = [Hit(str(n), 0.9, (Passage("Grapes."),), f"f{n}.md") for n in range(3)]
    async with view.showing(hits, files=3):
        for element, key, reached in (
            (".hit:nth-of-type(2) button", "ArrowDown", "f2.md"),
            (".hit:nth-of-type(3) summary", "ArrowUp", "f1.md"),
            (".hit a.path", "ArrowUp", "query"),
            (".hit:nth-of-type(3) a.path", "ArrowDown", ""),
            ("#leave", "ArrowDown", ""),
        ):
            pressed = await view.run(
                f"(() => {{ const from = document.querySelector({element!r}); from.focus();"
                f" const event = new KeyboardEvent('keydown',"
                f" {{ key: {key!r}, bubbles: true, cancelable: true }});"
                " from.dispatchEvent(event); const to = document.activeElement;"
                " return [event.defaultPrevented, to == from ? '' : to.id || to.innerText] })()"
            )
            assert pressed == [bool(reached), reached]


async def test_filter_is_applied_by_one_request(view: View) -> None:
    async with view.showing(GRAPES):
        await view.run("document.getElementById('only-type').focus()")
        await view.write("md")
        view._page.requested.clear()
        await view.press("Enter")
        await view.until("location.hash.includes('type=md')")
        await view.until(
            "performance.getEntriesByType('resource').some((each) => each.name.includes('type=md'))"
        )
        assert len([url for url in view._page.requested if "type=md" in url]) == 1


async def test_history_says_that_it_shows_only_the_newest_events(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = app.content
    monkeypatch.setattr(
        app, "content", lambda name: content(name).replace(b"MOST_EVENTS = 1000", b"MOST_EVENTS = 150")
    )
    async with open_view(mirror_with_listener(tmp_path), page) as view:
        await view.mirror.mirrored(160)
        await view.until("document.querySelector('.mirror')")
        await view.run("location.hash = '#/history'")
        await view.until("document.querySelectorAll('#history-list li').length == 100")
        assert await view.run("document.getElementById('history-end').hidden")
        await view.run("document.getElementById('more-history').click()")
        await view.wait_for_text(
            "These are the newest 150. To list more: kbsync history --config", "#history-end"
        )


async def test_open_document_shows_its_new_state_and_keeps_the_focus(view: View) -> None:
    world = view.world
    world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    await view.mirror.mirrored(1)
    async with view.mirror.target():
        await view.until("document.querySelector('.mirror')")
        await view.open(f"#/document?mirror=docs&key={cursor('f0.md')}")
        await view.wait_for_text("docs, failed", "#document-tools")
        await view.run("document.querySelector('#document-why summary').focus()")
        await view.press("Enter")
        await view.run(keyed("document retry") + ".click()")
        await view.wait_for_text("Retry requested", "#toast")
        await view.run("document.querySelector('#document-why summary').focus()")
    await view.mirror.mirrored()
    async with view.mirror.target():
        await view.wait_for_text("docs, searchable", "#document-tools")
        assert "Retry" not in await view.text("#document-tools")
        assert await view.run("document.activeElement.dataset.key") == "document why"
        assert await view.run("document.querySelector('#document-why details').open")


async def test_searchable_document_is_not_loaded_again_when_others_change(view: View) -> None:
    await view.mirror.mirrored(1)
    async with view.mirror.target():
        await view.until("document.querySelector('.mirror')")
        await view.open(f"#/document?mirror=docs&key={cursor('f0.md')}")
        await view.wait_for_text("docs, searchable", "#document-tools")
        view._page.requested.clear()
    await view.mirror.mirrored(2)
    await view.until("document.getElementById('sentence').textContent.startsWith('All 2')")
    await asyncio.sleep(3.0)
    await view.run("1")
    assert not [url for url in view._page.requested if "/api/document" in url]


async def test_every_control_of_the_results_has_a_name_of_its_own(view: View) -> None:
    view.world.write(".obsidian/app.json", "{}")
    hits = [Hit(str(n), 0.9, (Passage("Grapes."),), f"f{n}.md") for n in range(3)]
    async with view.showing(hits, files=3):
        names = await view.run(
            "[...document.querySelectorAll('.hit :is(a, button, summary)')]"
            ".map((each) => each.getAttribute('aria-label') || each.innerText)"
        )
    assert len(names) == len(set(names)) == 15


async def test_name_of_each_control_begins_with_its_visible_text(view: View) -> None:
    """So that a user can speak it: WCAG 2, 2.5.3."""
    await view.mirror.mirrored(12)
    view.world.delete_many(12)
    await view.mirror.mirrored()
    await view.mirror.runs["docs"].halts.show(Halt("credentials", "the key is refused", "kbsync retry"))
    await view.wait_for_text("docs is halted", "#sentence")
    names = (
        "[...document.querySelectorAll('main [aria-label]:is(a, button, summary)')]"
        ".filter((each) => each.checkVisibility())"
        ".map((each) => [each.getAttribute('aria-label'), each.innerText.replace('?', '')])"
    )
    pairs = await view.run(names)
    async with view.mirror.answering(GRAPES):
        await view.find("grapes")
        pairs += await view.run(names)
    assert len(pairs) > 8
    assert [pair for pair in pairs if not pair[0].startswith(pair[1])] == []


async def test_search_without_a_hit_explains_what_a_query_can_have(view: View) -> None:
    await view.mirror.mirrored(1)
    async with view.mirror.answering(lambda query: GRAPES if query.text == "grapes" else []):
        await view.find("grapes")
        await view.run("document.getElementById('query').select()")
        await view.write("herons")
        await view.press("Enter")
        await view.wait_for_text("No documents found", "#results-title")
        assert '"Quotes" find a phrase' in await view.text("#hits")


async def test_refused_search_is_no_search_without_a_hit(view: View) -> None:
    await view.mirror.mirrored(1)
    await view.search("-grapes")
    await view.wait_for_text("the query has only excluded words", "#hits")
    assert await view.text("#results-title") == "Search"
    assert "only excluded words" in await view.text("#announcement")
    view._page.messages.clear()  # the browser logs the status 400


async def test_filter_without_a_match_is_named_first_and_wraps(view: View) -> None:
    view.world.write("big.md", "x" * (view.world.limits.max_bytes + 1))
    await view.mirror.mirrored(1)
    await view.do(view._page.size, 390, 800)
    async with view.mirror.answering([]):
        await view.search(f"grapes path:{'x' * 200}")
        await view.wait_for_text("1 file failed", "#hits")
    first = await view.text("#hits .empty")
    assert first.startswith("no document matches path xxx")
    assert await view.run("document.documentElement.scrollWidth") <= 390
    await view.do(view._page.size, 1280, 800)


async def test_names_keep_their_spaces_and_long_headings_are_cut(view: View) -> None:
    hits = [Hit("1", 0.9, (Passage("Grapes.", ("Grapes " * 300,)),), "two  spaces.md")]
    view.world.write("two  spaces.md", "text")
    async with view.showing(hits, files=0):
        assert await view.text(".hit a.path") == "two  spaces.md"
        assert await view.run("document.querySelector('.trail').offsetHeight") < 60


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
    async with open_view(mirror_with_listener(tmp_path), page) as view:
        await view.until("document.querySelectorAll('#changes li').length == 4")
        links = "[...document.querySelectorAll('#changes a')].map((each) => each.innerText).join()"
        assert await view.run(links) == "a.md"
        assert "old (removed)" in await view.text("#changes")


async def test_document_that_is_gone_says_so_in_its_view(view: View) -> None:
    await view.mirror.mirrored(1)
    latin = os.fsdecode(b"caf\xe9.md")
    for name, title in (("missing.md", "missing.md"), (latin, printable(latin))):
        await view.open(f"#/document?mirror=docs&key={cursor(name)}")
        await view.until(f"document.getElementById('document-title').innerText == {json.dumps(title)}")
        assert "docs has no such file" in await view.text("#document")
        assert await view.run("document.getElementById('text').hidden")
    view._page.messages.clear()  # the browser logs the status 404


async def test_document_offers_a_retry_only_where_it_can_help(view: View) -> None:
    world = view.world
    world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    world.write("big.md", "x" * (world.limits.max_bytes + 1))
    await view.mirror.mirrored(1)
    async with view.mirror.target():
        for name, can_help in (("f0.md", True), ("big.md", False)):
            await view.open(f"#/document?mirror=docs&key={cursor(name)}")
            await view.wait_for_text(name, "#document-title")
            assert ("Retry" in await view.text("#document-tools")) is can_help


@browser_may_log
async def test_more_files_that_cannot_be_read_are_reported(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    await view.mirror.mirrored(210)
    await view.open("#/files?mirror=docs")
    await view.until("document.querySelectorAll('#files-list li').length == 200")
    await asyncio.to_thread(view.thread.stop)
    await view.run("document.getElementById('more-files').click()")
    await view.wait_for_text("kbsync isn't responding", "#toast")
    assert not any("Uncaught" in message for message in view._page.messages)


async def test_unkept_promise_is_named(tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalTargetConfig, "unkept", {2: "files with equal text share passages"})
    async with open_view(mirror_with_listener(tmp_path), page) as view:
        await view.wait_for_text(
            "Promise 2 is not kept here (never absent while replaced): files with equal text", ".mirror"
        )
