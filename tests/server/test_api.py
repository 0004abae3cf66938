"""Tests the requests that the page makes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from kbsync.config.model import Config, MirrorConfig
from kbsync.contract.searching import Hit, MatchedWord, Origin, Passage, Query, Reasons
from kbsync.core.text import cursor
from kbsync.engine import search as engine_search
from kbsync.errors import Rejected, StateError, UsageError
from kbsync.installation import Installation
from kbsync.search import SearchReply
from kbsync.server import app
from kbsync.server.removals import RemovalQueue
from kbsync.state.mirrors import Halt
from kbsync.threads import Precedence
from tests.engine.test_changed_settings import set_to
from tests.memory.behaviour import Fault
from tests.server.client import TOKEN
from tests.server.mirror_with_listener import MirrorWithListener, mirror_with_listener, renewed
from tests.share import long

LATIN = os.fsdecode(b"caf\xe9.md")
HOSTILE = "<img src=x onerror=alert(1)>.md"
HELD = "/api/held?mirror=docs"
RENEWALS = f"{HELD}&kind=renewals"


@pytest.fixture
async def open_mirror(tmp_path: Path) -> AsyncIterator[MirrorWithListener]:
    async with mirror_with_listener(tmp_path).open() as opened:
        yield opened


def body(**fields: object) -> bytes:
    return json.dumps({"mirror": "docs"} | fields).encode()


async def hold_deletions(opened: MirrorWithListener) -> None:
    """Delete all files, which needs approval."""
    await opened.mirrored(12)
    opened.world.delete_many(12)
    await opened.mirrored()


async def test_documents_are_paged_without_omission_or_repetition(open_mirror: MirrorWithListener) -> None:
    for i in range(7):
        open_mirror.world.write(f"d{i % 3}/f{i}.md", f"text {i}")
    open_mirror.world.write(LATIN, "latin")
    open_mirror.world.write(HOSTILE, "hostile")
    await open_mirror.mirrored()
    all_at_once = (await open_mirror.json("/api/status?documents=1"))["mirrors"][0]
    paths = [item["path"] for item in all_at_once["items"]]
    matching, after = [], ""
    while after is not None:
        page = await open_mirror.json(f"/api/status?documents=1&limit=2&after={after}")
        [mirror] = page["mirrors"]
        assert len(mirror["items"]) <= 2
        matching += [item["path"] for item in mirror["items"]]
        after = mirror.get("next")
    assert (
        sorted(matching)
        == sorted(paths)
        == sorted([LATIN, HOSTILE, *(f"d{i % 3}/f{i}.md" for i in range(7))])
    )
    assert "next" not in all_at_once


async def test_documents_in_one_state_are_paged(open_mirror: MirrorWithListener) -> None:
    too_big = "x" * (open_mirror.world.limits.max_bytes + 1)
    for folder in ("a", "a-b", "a/c", "b"):
        for i in range(3):
            open_mirror.world.write(f"{folder}/f{i}.md", too_big)
            open_mirror.world.write(f"{folder}/g{i}.md", f"text of {folder} {i}")
            open_mirror.world.write(f"{folder}/h{i}.md", "")
    await open_mirror.mirrored()
    for state, name in (("failed", "f"), ("skipped", "h")):
        paths, after = list[str](), ""
        while after is not None:
            query = f"documents=1&state={state}&limit=2&after={after.rstrip('=')}"
            [mirror] = (await open_mirror.json(f"/api/status?{query}"))["mirrors"]
            assert len(mirror["items"]) <= 2
            paths += [item["path"] for item in mirror["items"]]
            after = mirror.get("next")
        assert paths == [f"{folder}/{name}{i}.md" for folder in ("a", "a-b", "a/c", "b") for i in range(3)]


HUGE = ("0", "51", "00000000199", "9" * 5000, "000000001" + "9" * 5000)
"""Numbers out of range, of which the first nine digits may be in range."""


@pytest.mark.parametrize(
    ("question", "error"),
    [
        *(
            (f"status?documents=1&limit={n}", "limit must be a number from 1 to 1000")
            for n in ("0", "1001", "x", "-1")
        ),
        *((f"status?documents=1&state={state}", "state must be one of") for state in ("ready", "<b>")),
        *((f"status?documents=1&after={key}", "after must be") for key in ("%25", "z", "%C3%A4", "a=b")),
        *((f"search?q={query}", "the query (q) must be") for query in ("", "%20", "a" * 1001)),
        *((f"search?q=a&k={most}", "k must be a number from 1 to 50") for most in HUGE),
        ("search?q=a&k=%C2%B2", "k must be a number from 1 to 50"),
        ("search?q=a&offset=201", "offset must be a number from 0 to 200"),
        ("search?q=a&after=soon", "'soon' is neither a duration such as 1d nor a date"),
        ("search?q=-draft", "the query has only excluded words; add a word to search for"),
        ("search?q=a%20path:%5B", "is not a gitignore pattern"),
        ("document?mirror=docs&key=%25", "key must be"),
        ("document?mirror=no&key=", "there is no mirror with this name"),
        ("status?mirror=no", "there is no mirror with this name"),
        ("history?mirror=no", "there is no mirror with this name"),
        ("held?mirror=docs&kind=uploads", "kind must be deletions or renewals"),
        ("search?q=text&mirror=no", "there is no mirror with this name"),
        ("held?mirror=no", "there is no mirror with this name"),
        ("held?mirror=no&kind=renewals", "there is no mirror with this name"),
    ],
)
async def test_malformed_query_is_refused_with_a_message(
    open_mirror: MirrorWithListener, question: str, error: str
) -> None:
    response = await open_mirror.get(f"/api/{question}")
    assert response.status_code == (404 if "no mirror" in error else 400)
    assert error in response.json()["error"]


async def test_text_that_is_not_unicode_is_refused(open_mirror: MirrorWithListener) -> None:
    await hold_deletions(open_mirror)
    for path, fields in (("approve", {"version": "\ud800"}), ("add", {"folder": "/", "name": "\ud800"})):
        assert (await open_mirror.post(f"/api/{path}", body(**fields))).status_code == 400
    response = await open_mirror.post("/api/approve", body(version="\udcff"))
    assert response.status_code == 409 and open_mirror.inbox() == []


async def test_non_unicode_names_are_shown_everywhere(open_mirror: MirrorWithListener) -> None:
    open_mirror.world.write(LATIN, "x" * (open_mirror.world.limits.max_bytes + 1))
    await open_mirror.mirrored(2)
    [mirror] = (await open_mirror.json("/api/status?documents=1&state=failed"))["mirrors"]
    assert [(item["path"], bool(item["reason"])) for item in mirror["items"]] == [(LATIN, True)]
    await open_mirror.runs["docs"].halts.show(Halt("folder-missing", f"{LATIN} is missing", "kbsync retry"))
    frame = await open_mirror.listener_app.views.frame()
    assert json.loads(json.dumps(frame))["mirrors"][0]["failed"][0]["path"] == LATIN
    assert (await open_mirror.get("/readyz")).status_code == 503
    response = await open_mirror.post("/api/retry", body(paths=[LATIN]))
    assert response.status_code == 202
    assert open_mirror.inbox() == [("retry", {"paths": [LATIN]})]


async def test_only_failed_files_that_may_succeed_are_retried_on_request(
    open_mirror: MirrorWithListener,
) -> None:
    world = open_mirror.world
    world.base.faults.append(Fault("put", error=lambda: Rejected("no")))
    large = world.write("large.md", "x" * (world.limits.max_bytes + 1))
    await open_mirror.mirrored(1)
    assert (await open_mirror.post("/api/retry", body(may_succeed=True))).status_code == 202
    assert open_mirror.inbox() == [("retry", {"paths": ["f0.md"]})]
    large.unlink()
    await open_mirror.mirrored()
    assert (await open_mirror.post("/api/retry", body(may_succeed=True))).status_code == 202
    assert open_mirror.inbox()[-1] == ("retry", {"paths": None})


async def test_request_is_put_into_the_inbox_like_a_command(open_mirror: MirrorWithListener) -> None:
    await open_mirror.mirrored(1)
    for path, verification in (("retry", {}), ("retry", {"paths": ["f0.md"]}), ("verify", {})):
        assert (await open_mirror.post(f"/api/{path}", body(**verification))).status_code == 202
    assert open_mirror.inbox() == [("retry", {"paths": None}), ("retry", {"paths": ["f0.md"]}), ("audit", {})]
    assert (open_mirror.world.state / "wake").exists()


@long
async def test_approval_covers_exactly_what_was_shown(open_mirror: MirrorWithListener) -> None:
    await hold_deletions(open_mirror)
    preview = await open_mirror.json(HELD)
    assert (preview["count"], len(preview["paths"])) == (12, 12)
    for version in ("", "0" * 32, preview["version"][:-1]):
        assert (await open_mirror.post("/api/approve", body(version=version))).status_code == 409
    assert open_mirror.inbox() == []
    approval = body(version=preview["version"])
    assert (await open_mirror.post("/api/approve", approval)).status_code == 202
    await open_mirror.mirrored()
    assert open_mirror.world.searchable_texts() == {}
    nothing = await open_mirror.json(HELD)
    assert nothing["count"] == 0
    assert (await open_mirror.post("/api/approve", body(version=nothing["version"]))).status_code == 409


@pytest.fixture
async def paid(tmp_path: Path) -> AsyncIterator[MirrorWithListener]:
    """Yield a mirror where indexing costs money."""
    async with mirror_with_listener(tmp_path, paid=True).open() as opened:
        yield opened


@long
async def test_held_settings_are_shown_and_approved_separately_from_deletions(
    paid: MirrorWithListener,
) -> None:
    await renewed(paid)
    preview = await paid.json(RENEWALS)
    assert (preview["kind"], preview["count"], len(preview["paths"])) == ("renewals", 12, 12)
    assert preview["size"] == sum(len(text) for text in paid.world.on_disk().values())
    [frame] = (await paid.listener_app.views.frame())["mirrors"]
    assert frame["renewals"] == {key: preview[key] for key in ("count", "size", "changes")}
    assert (frame["held"], (await paid.json(HELD))["count"]) == (0, 0)
    paid.world.delete_many(6)
    await paid.mirrored()
    deletions, renewals = await paid.json(HELD), await paid.json(RENEWALS)
    assert (deletions["count"], "size" in deletions) == (6, False)
    for kind, version in (
        *(("renewals", version) for version in ("", "0" * 32, preview["version"], deletions["version"])),
        ("deletions", renewals["version"]),
    ):
        response = await paid.post("/api/approve", body(kind=kind, version=version))
        assert (response.status_code, paid.inbox()) == (409, [])
    puts = paid.world.puts()
    approval = body(kind="renewals", version=renewals["version"])
    assert (await paid.post("/api/approve", approval)).status_code == 202
    await paid.mirrored()
    assert (len(paid.world.searchable_texts()), paid.world.puts()) == (12, puts + 6)
    [frame] = (await paid.listener_app.views.frame())["mirrors"]
    assert frame["renewals"] is None
    assert (await paid.post("/api/approve", approval)).status_code == 409
    assert (await paid.json(HELD))["version"] == deletions["version"]


@long
@pytest.mark.parametrize(("kind", "size"), [("deletions", 0), ("renewals", 1), ("renewals", 2)])
async def test_changes_since_the_preview_are_shown_again(
    paid: MirrorWithListener, kind: str, size: int
) -> None:
    """A file returned; or the settings were changed again, and a file was edited."""
    if kind == "deletions":
        await hold_deletions(paid)
    else:
        await renewed(paid)
    preview = await paid.json(f"{HELD}&kind={kind}")
    paid.world.clock.now += 10
    paid.world.write("f3.md", "text of f3" if kind == "deletions" else "edited since")
    if size:
        set_to(paid.world, size)
        paid.make_run()
    await paid.mirrored()
    response = await paid.post("/api/approve", body(kind=kind, version=preview["version"]))
    assert (response.status_code, paid.inbox()) == (409, [])
    assert (await paid.json(f"{HELD}&kind={kind}"))["count"] == 11


OF_OTHERS = {
    "x-kbsync-word": ("", "guessed"),
    "sec-fetch-site": ("cross-site", "same-site"),
    "origin": ("http://evil.example", "http://127.0.0.1:1234", "null"),
    "content-type": ("text/plain", "application/x-www-form-urlencoded"),
}


@pytest.mark.parametrize(
    "headers", [{name: value} for name in OF_OTHERS for value in OF_OTHERS[name]], ids=str
)
async def test_cross_site_request_is_refused(
    open_mirror: MirrorWithListener, headers: dict[str, str]
) -> None:
    for path in ("retry", "approve", "verify"):
        assert (await open_mirror.get(f"/api/{path}?mirror=docs")).status_code == 405, "a GET orders nothing"
        for payload in (body(), body(kind="renewals")):
            assert (await open_mirror.post(f"/api/{path}", payload, **headers)).status_code == 403
    assert open_mirror.inbox() == []
    good = {"origin": "http://127.0.0.1:9753", "sec-fetch-site": "same-origin"}
    assert (await open_mirror.post("/api/verify", body(), **good)).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin"},  # sent by browsers over https, and from this machine
        {"x-forwarded-host": "kb.example.org"},
    ],
    ids=str,
)
async def test_request_through_a_proxy_with_another_host_name_is_accepted(
    open_mirror: MirrorWithListener, headers: dict[str, str]
) -> None:
    origin = {"origin": "https://kb.example.org"}
    refused = await open_mirror.post("/api/verify", body(), **origin)
    assert refused.status_code == 403 and "set X-Forwarded-Host" in refused.text
    assert (await open_mirror.post("/api/verify", body(), **origin, **headers)).status_code == 202


NO_ORDERS = [b"", b"[]", b"[" * 20000, b'{"mirror": 1}', body(paths="f0.md"), body(paths=[1]),
    body(kind="uploads"), body(paths=["a" * 70000])]  # fmt: skip


async def test_malformed_request_is_refused(open_mirror: MirrorWithListener) -> None:
    for payload in NO_ORDERS:
        assert (await open_mirror.post("/api/retry", payload)).status_code == 400, payload[:60]
    assert (await open_mirror.post("/api/retry", body(mirror="nobody"))).status_code == 404
    assert open_mirror.inbox() == []


async def test_request_needs_the_token_too(tmp_path: Path) -> None:
    locked = mirror_with_listener(tmp_path, TOKEN)
    async with locked.open():
        assert (await locked.get("/api/status")).status_code == 401
        locked.csrf_token = (await locked.get("/api/status", authorization=f"Bearer {TOKEN}")).headers[
            "x-kbsync-word"
        ]
        assert (await locked.post("/api/verify", body())).status_code == 401
        assert locked.inbox() == []
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert (await locked.post("/api/verify", body(), **headers)).status_code == 202


async def test_unreadable_state_is_reported(
    open_mirror: MirrorWithListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise StateError("the disk failed; look at it")

    monkeypatch.setattr(open_mirror.listener_app.state_reader, "_current", broken)
    for path in ("/api/status", "/metrics", "/api/held?mirror=docs"):
        response = await open_mirror.get(path)
        assert (response.status_code, response.json()["error"]) == (503, "the disk failed; look at it")


async def test_search_uses_the_open_target(open_mirror: MirrorWithListener) -> None:
    payload = await open_mirror.json("/api/search?q=text")
    not_open = "docs: not searched: the knowledge base isn't open; see the mirror's status for the reason"
    assert payload == {"hits": [], "notes": ["docs: the first pass has not started", not_open], "more": False}
    await open_mirror.mirrored(3)
    async with open_mirror.target():
        reply = await open_mirror.json("/api/search?q=f1&k=1")
    [hit] = reply["hits"]
    assert (hit["mirror"], hit["path"]) == ("docs", "f1.md")
    assert "f1" in hit["passages"][0]["text"]


async def test_better_foreign_hits_hide_none_of_a_mirror_in_a_shared_base(tmp_path: Path) -> None:
    shared = mirror_with_listener(tmp_path, marks=True)
    async with shared.open():
        await shared.mirrored(1)
        hits = [Hit(f"other-{n}", 1.0 - n / 10, ()) for n in range(3)]
        async with shared.answering(lambda query: hits[: query.top_k]) as target:
            [ours] = [row.remote_id async for row in target.list()]
            hits.append(Hit(ours, 0.7, ()))
            reply = await shared.json("/api/search?q=f0&k=2")
    assert [hit["path"] for hit in reply["hits"]] == ["f0.md"]


async def test_hit_of_another_machine_has_its_host_and_time(open_mirror: MirrorWithListener) -> None:
    scopes = []
    away = Origin("base", "files-2", "news", Path("/srv/news"), 12.5, is_own=False, is_here=False)
    here = replace(away, host="here", mirror="docs", is_own=True, is_here=True)

    def search(query: Query) -> list[Hit]:
        scopes.append(query.own)
        return [Hit("1", 0.9, (), "a.md", origin=away), Hit("2", 0.8, (), "f0.md", origin=here)]

    await open_mirror.mirrored(1)
    async with open_mirror.answering(search):
        reply = await open_mirror.json("/api/search?q=a")
        await open_mirror.json("/api/search?q=a&mirror=docs")
    assert scopes == [False, True]
    assert [[hit[key] for key in ("mirror", "path", "host", "as_of", "here")] for hit in reply["hits"]] == [
        ["news", "a.md", "files-2", "1970-01-01T00:00:12Z", False],
        ["docs", "f0.md", "here", "1970-01-01T00:00:12Z", True],
    ]


async def test_target_is_told_that_a_query_is_being_typed(open_mirror: MirrorWithListener) -> None:
    queries = []

    def search(query: Query) -> list[Hit]:
        queries.append((query.text, query.unfinished))
        return []

    await open_mirror.mirrored(1)
    async with open_mirror.answering(search):
        for end in ("&unfinished=1", "", "&unfinished=0"):
            await open_mirror.json(f"/api/search?q=har{end}")
    assert queries == [("har", True), ("har", False), ("har", False)]


@pytest.mark.parametrize("call", ["search", "unknown_words"])
async def test_silent_target_is_named_and_not_waited_for(
    open_mirror: MirrorWithListener, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async def hang(_query: Query) -> list[Hit]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(engine_search, "PATIENCE", 0.05)
    await open_mirror.mirrored(1)
    async with open_mirror.target() as target:
        monkeypatch.setattr(target, call, hang, raising=False)
        reply = await open_mirror.json("/api/search?q=a")
    assert reply["hits"] == []
    assert reply["notes"][-1] == "docs: not searched: no response within 0.05 s"


async def test_indexing_waits_while_a_search_is_answered(
    open_mirror: MirrorWithListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    precedence, is_waiting = Precedence(lambda: 0.0, longest=60.0), list[bool]()

    async def search(*_: object, **__: object) -> SearchReply:
        step = threading.Thread(target=precedence.wait, daemon=True)
        step.start()
        step.join(0.1)
        is_waiting.append(step.is_alive())
        return SearchReply([], [], [])

    monkeypatch.setattr(app, "searches_first", precedence)
    monkeypatch.setattr(app, "search", search)
    await open_mirror.json("/api/search?q=text")
    precedence.wait()
    assert is_waiting == [True]


async def test_excess_searches_are_postponed(
    open_mirror: MirrorWithListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_mirror.listener_app, "_searching", asyncio.Semaphore(0))
    assert (await open_mirror.get("/api/search?q=text")).status_code == 503


async def test_request_refused_by_the_mirrors_is_reported(
    open_mirror: MirrorWithListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_order: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "ORDER_SECONDS", 0.0)
    monkeypatch.setattr(open_mirror.listener_app, "_post", hang)
    assert (await open_mirror.post("/api/verify", body())).status_code == 503


async def test_document_is_read_in_parts_around_the_passage(open_mirror: MirrorWithListener) -> None:
    open_mirror.world.write("guide/a b.md", "x")
    open_mirror.world.write(".obsidian/app.json", "{}")
    await open_mirror.mirrored()
    key = cursor("guide/a b.md")
    content = "".join(f"## Step {number}\n\nTurn *valve* {number} slowly.\n\n" for number in range(4000))
    async with open_mirror.answering([], content):
        part = await open_mirror.json(
            f"/api/document?mirror=docs&key={key}&passage=Turn%20valve%202000%20slowly."
        )
        start, end = part["mark"]
        assert content[start:end] == "Turn *valve* 2000 slowly"
        assert part["offset"] < start and part["text"][start - part["offset"] :].startswith(
            "Turn *valve* 2000"
        )
        rest = await open_mirror.json(f"/api/document?mirror=docs&key={key}&offset={part['next']}")
        assert content == content[: part["offset"]] + part["text"] + rest["text"]
        assert rest["next"] is None and part["total"] == len(content)
        file = quote(str(open_mirror.world.root / "guide/a b.md"))
        vault = f"obsidian://open?path={quote(part['abs_path'], safe='')}"
        assert part["links"] == {"file": f"file://{file}", "obsidian": vault}
        assert (part["state"], part["may_succeed"]) == ("ready", False)
        proxied = await open_mirror.get(
            f"/api/document?mirror=docs&key={key}", **{"x-forwarded-for": "10.0.0.9"}
        )
        assert proxied.json()["links"] is None
        for path in ("../state.db", "guide", "b.md", "/etc/passwd", ""):
            response = await open_mirror.get(f"/api/document?mirror=docs&key={cursor(path)}")
            assert (response.status_code, "no such file" in response.text) == (404, True), path


async def test_history_covers_all_or_one_file(open_mirror: MirrorWithListener) -> None:
    await open_mirror.mirrored(3)
    open_mirror.world.write("f1.md", "other text")
    await open_mirror.mirrored()
    reply = await open_mirror.json("/api/history?mirror=docs&limit=3")
    assert reply["more"] and [event["event"] for event in reply["events"]] == [
        "uploaded",
        "uploaded",
        "replaced",
    ]
    reply = await open_mirror.json(f"/api/history?key={cursor('f1.md')}")
    assert [(event["event"], event["path"]) for event in reply["events"]] == [
        ("uploaded", "f1.md"),
        ("replaced", "f1.md"),
    ]


async def test_hits_are_paged_and_narrowed_by_type_and_time(open_mirror: MirrorWithListener) -> None:
    open_mirror.world.write("f9.txt", "text 9")
    os.utime(open_mirror.world.write("old.md", "old text"), (0, 0))
    await open_mirror.mirrored(3)
    async with open_mirror.target():
        first = await open_mirror.json("/api/search?q=text&k=2&type=md")
        assert first["more"] and len(first["hits"]) == 2
        last = await open_mirror.json("/api/search?q=text&k=2&type=md&offset=2")
        paths = [hit["path"] for hit in first["hits"] + last["hits"]]
        assert sorted(paths) == ["f0.md", "f1.md", "f2.md", "old.md"] and not last["more"]
        for after, count in (("yesterday", 3), (f"{'9' * 400}d", 4), ("2200-01-01", 0)):
            reply = await open_mirror.json(f"/api/search?q=text&type=md&after={after}")
            assert len(reply["hits"]) == count


@pytest.mark.parametrize("types", ["type=md,txt", "type=.md+*.txt", "type=md&type=,+txt,"])
async def test_types_are_separated_by_commas_or_spaces(open_mirror: MirrorWithListener, types: str) -> None:
    for name in ("a.md", "b.txt", "c.csv"):
        open_mirror.world.write(name, "text")
    await open_mirror.mirrored()
    async with open_mirror.target():
        payload = await open_mirror.json(f"/api/search?q=text&{types}")
    assert sorted(hit["path"] for hit in payload["hits"]) == ["a.md", "b.txt"]
    assert payload["notes"] == []


async def test_filter_matching_no_document_is_named(open_mirror: MirrorWithListener) -> None:
    await open_mirror.mirrored(3)
    async with open_mirror.target():
        for query, notes in (
            ("q=text&type=xlsx,csv", ["no document matches type xlsx", "no document matches type csv"]),
            ("q=text+path:nowhere/&type=md", ["no document matches path nowhere/"]),
        ):
            payload = await open_mirror.json(f"/api/search?{query}")
            assert (payload["hits"], payload["notes"]) == ([], notes)


async def test_failed_files_are_noted_in_the_words_of_the_page(open_mirror: MirrorWithListener) -> None:
    open_mirror.world.write("big.md", "x" * (open_mirror.world.limits.max_bytes + 1))
    await open_mirror.mirrored(1)
    async with open_mirror.target():
        assert (await open_mirror.json("/api/search?q=text"))["notes"] == []
        nothing = await open_mirror.json("/api/search?q=xqzzyplk")
    assert (nothing["hits"], nothing["notes"]) == ([], ["docs: 1 file failed; Files says why"])


async def test_excerpt_of_a_hit_has_the_match_in_its_own_part(open_mirror: MirrorWithListener) -> None:
    text = f"{'Nothing of it. ' * 60}The *price* is 8,999 dollars."
    await open_mirror.mirrored(1)
    async with open_mirror.answering([Hit("1", 0.3, (Passage(text), Passage("Nothing.")), "f0.md")]):
        [hit] = (await open_mirror.json("/api/search?q=8999+doll&unfinished=1"))["hits"]
    long, short = (passage["excerpt"] for passage in hit["passages"])
    before, *others = long
    assert before.startswith("… ") and before.endswith("Nothing of it. The price is ")
    assert others == ["8,999", " ", "dollars", "."]
    assert short == ["Nothing."]


async def test_hit_is_explained_on_request(open_mirror: MirrorWithListener) -> None:
    reasons = Reasons((MatchedWord("txet", 0.4, "text"),), (), 0.4, 0.2, 0.2, 0.3)
    translated = Reasons(
        (), (MatchedWord("text", 0.12),), 0.12, 0.24, 0.24, 0.18, is_translated=True, ranked=0.2
    )
    hits = [Hit("1", 0.3, (), "f0.md", reasons=reasons), Hit("2", 0.25, (), "f1.md")]
    hits.append(Hit("3", 0.2, (), "f2.md", reasons=translated))
    await open_mirror.mirrored(3)
    async with open_mirror.answering(hits):
        explained = (await open_mirror.json("/api/search?q=txet&explain=1"))["hits"]
        plain = (await open_mirror.json("/api/search?q=txet"))["hits"]
    assert [hit["why"]["lines"] for hit in explained] == [
        ["words 0.40: txet → text · meaning 0.20"],
        ["score 0.25 (the service doesn't explain its scores)"],
        [
            "words of the translation 0.12: in the name: text · meaning 0.24",
            "the ranking model changed the score from 0.18",
        ],
    ]
    assert explained[0]["why"]["in_text"] == [{"word": "txet", "written": "text", "points": 0.4}]
    assert not any("why" in hit for hit in plain)


async def test_links_of_all_hits_in_a_folder_take_one_check(
    open_mirror: MirrorWithListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder may be on a distant file server."""
    checked, is_dir = [], Path.is_dir

    def check(path: Path) -> bool:
        checked.append(path)
        return is_dir(path)

    open_mirror.world.write(".obsidian/app.json", "{}")
    await open_mirror.mirrored(3)
    monkeypatch.setattr(Path, "is_dir", check)
    async with open_mirror.answering([Hit(str(n), 0.9, (), f"f{n}.md") for n in range(3)]):
        reply = await open_mirror.json("/api/search?q=f")
    assert [set(hit["links"]) for hit in reply["hits"]] == [{"file", "obsidian"}] * 3
    assert checked.count(open_mirror.world.root / ".obsidian") == 1


async def test_mirror_is_paused_and_resumed_like_by_command(open_mirror: MirrorWithListener) -> None:
    await open_mirror.mirrored(1)
    for seconds, until in ((None, False), (3600, True)):
        assert (await open_mirror.post("/api/pause", body(seconds=seconds))).status_code == 200
        [mirror] = (await open_mirror.json("/api/status"))["mirrors"]
        assert bool(mirror["paused"]["until"]) == until
    for wrong in (-1, 0, True, "60"):
        assert (await open_mirror.post("/api/pause", body(seconds=wrong))).status_code == 400
    assert (await open_mirror.post("/api/resume", body())).status_code == 200
    assert "paused" not in (await open_mirror.json("/api/status"))["mirrors"][0]


async def test_moved_folder_of_a_mirror_is_not_added_as_another(
    open_mirror: MirrorWithListener, tmp_path: Path
) -> None:
    config, root = tmp_path / "kb.yaml", open_mirror.world.root
    config.write_text(f"mirrors:\n  - name: docs\n    folder: {root}\n")
    installation = open_mirror.listener_app._mirrors.installation
    open_mirror.listener_app.switch_to(
        replace(installation, config=replace(installation.config, path=config))
    )
    await open_mirror.mirrored(3)
    moved = root.rename(tmp_path / "moved")
    refused = await open_mirror.post("/api/add", json.dumps({"folder": str(moved)}).encode())
    error = f"{moved} has the files of mirror docs, whose folder {root} is missing"
    assert (refused.status_code, error in refused.json()["error"]) == (409, True), refused.text


async def test_folders_are_added_and_removed_in_the_config(
    open_mirror: MirrorWithListener, tmp_path: Path
) -> None:
    config, notes = tmp_path / "kb.yaml", tmp_path / "my notes"
    notes.mkdir()
    text = f"mirrors:\n  - name: docs\n    folder: {open_mirror.world.root}  # kept\n"
    config.write_text(text)
    refused = await open_mirror.post("/api/add", json.dumps({"folder": str(notes)}).encode())
    assert (refused.status_code, "no config to change" in refused.text) == (409, True)
    installation = open_mirror.listener_app._mirrors.installation
    open_mirror.listener_app.switch_to(
        replace(installation, config=replace(installation.config, path=config))
    )
    for folder, error in (
        ("notes", "not a full path"),
        (str(tmp_path / "no"), "does not exist"),
        (str(open_mirror.world.root), "already belongs to mirror docs"),
    ):
        refused = await open_mirror.post("/api/add", json.dumps({"folder": folder}).encode())
        assert (refused.status_code, error in refused.json()["error"]) == (409, True), refused.text
    added = await open_mirror.post("/api/add", json.dumps({"folder": str(notes)}).encode())
    assert (added.status_code, added.json()["mirror"]) == (202, "my-notes")
    assert config.read_text() == f'{text}  - name: "my-notes"\n    folder: "{notes}"\n'
    (notes / "inner").mkdir()
    inner = await open_mirror.post("/api/add", json.dumps({"folder": f"{notes}/inner"}).encode())
    assert "notes" not in added.json() and len(inner.json()["notes"]) == 1
    assert inner.json()["notes"][0].startswith(f"{notes}/inner is inside {notes} of mirror my-notes, so ")
    config.write_text(f'{text}  - name: "my-notes"\n    folder: "{notes}"\n')
    assert open_mirror.world.read_state(lambda tx: len(tx.inbox.reloads())) == 2
    assert (await open_mirror.post("/api/remove", body(documents="burn"))).status_code == 400
    await open_mirror.mirrored(2)
    removal = await open_mirror.json("/api/removal?mirror=docs")
    base = {"base": removal["bases"][0]["base"], "documents": 2, "deleted": True}
    assert removal == {"mirror": "docs", "documents": 2, "unsure": 0, "bases": [base]}
    assert (await open_mirror.get("/api/removal?mirror=no")).status_code == 404
    for status, error in ((202, None), (409, "docs is already being removed")):
        response = await open_mirror.post("/api/remove", body(documents="delete"))
        assert (response.status_code, response.json().get("error")) == (status, error)
    refused = await open_mirror.post("/api/remove", body())
    assert (refused.status_code, "docs" in config.read_text()) == (409, True)
    open_mirror.listening._removals.fail("docs", "no route")
    removed = await open_mirror.post("/api/remove", body())
    assert removed.status_code == 202, removed.text
    assert "docs" not in config.read_text()
    for order in ("add", "remove", "pause", "resume"):
        assert (await open_mirror.post(f"/api/{order}", body(), **{app.CSRF_HEADER: "no"})).status_code == 403


def test_of_the_mirrors_that_are_removed_at_once_one_stays() -> None:
    config = Config(mirrors=tuple(MirrorConfig(name, Path(f"/{name}")) for name in "abc"))
    removals, installation = RemovalQueue(), Installation(config, Path("/state"))
    removals.request("a", installation)
    removals.request("b", installation)
    with pytest.raises(UsageError, match="the other mirrors are being removed"):
        removals.request("c", installation)
    assert list(removals.take()) == ["a", "b"]
    removals.fail("a", "no route")
    removals.request("c", installation)


async def test_base_opened_for_a_search_that_ended_is_closed() -> None:
    """A base on a slow disk may open only after the search has timed out."""
    may_open, is_closed = threading.Event(), asyncio.Event()

    class Base:
        async def aclose(self) -> None:
            is_closed.set()

    def open_target(_mirror: MirrorConfig, *, read_only: bool) -> Base:
        may_open.wait(10.0)
        return Base()

    installation, run = SimpleNamespace(target=open_target), SimpleNamespace(bound=None, is_paused=True)
    mirrors = app.RunningMirrors(installation, {"a": run}, None)  # type: ignore[arg-type, dict-item]

    async def search() -> None:
        async with mirrors.target(MirrorConfig("a", Path("/a"))):
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(search(), 0.05)
    may_open.set()
    await asyncio.wait_for(is_closed.wait(), 10.0)
