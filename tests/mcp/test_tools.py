"""Tests the responses of each tool, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from kbsync import search as searching
from kbsync.cli import context
from kbsync.cli.commands import explain
from kbsync.cli.commands.mcp import documents, open_mirrors, protocol
from kbsync.cli.commands.mcp import library as module
from kbsync.cli.commands.mcp.library import Library
from kbsync.cli.commands.mcp.protocol import MAX_HITS, MAX_PIECE_LENGTH, TOOLS
from kbsync.config.model import folder_config
from kbsync.core.model import Status
from kbsync.engine import attach
from kbsync.errors import OUT_OF_MEMORY
from kbsync.installation import Installation
from kbsync.state import lock
from kbsync.state.read_only import ReadOnlyState
from tests.cli.conftest import GUIDES, ODD
from tests.cli.sandbox import LONGEST, Sandbox
from tests.mcp.assistant import (
    SETTLED,
    choose_installation,
    client_of,
    error_of,
    paths,
    run_tool,
    text_of,
    within,
)
from tests.share import enumerated, long


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Mirror `docs`. Tests must not change anything in it."""
    sandbox = Sandbox(tmp_path_factory.mktemp("library"))
    sandbox.write_all(GUIDES)
    sandbox.write("guides-old/hours.txt", "Opening hours of old: the office opens at eight.\n")
    sandbox.write("guides/deep/long.md", "".join(f"Paragraph {n} is about numbers.\n\n" for n in range(9000)))
    sandbox.write(ODD, "A xylophone with \x1b[31mcolours\x1b[0m in its text.\n")
    (sandbox.docs / os.fsdecode(b"byte\xff.md")).write_text("A name that is no Unicode, about ocelots.\n")
    sandbox.write_all({"torn.pdf": "this is no pdf", "empty.md": ""})
    assert sandbox.run("--once", "--folder", "docs").code == 1
    return sandbox


@pytest.fixture
async def client(library: Sandbox) -> AsyncIterator[Client]:
    # In its own task: pytest ends a fixture in another task than it started it in.
    ready, done = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def keep() -> None:
        async with within(choose_installation(library, folder=library.docs)) as client:
            ready.set_result(client)
            await done.wait()

    keeping = asyncio.create_task(keep())
    yield await ready
    done.set()
    await keeping


# -- search ---------------------------------------------------------------------------------------------


@long
async def test_hit_has_its_location_and_freshness(client: Client, library: Sandbox) -> None:
    payload = await run_tool(client, "search", query="reset a password")
    hit = payload["hits"][0]
    assert (hit["mirror"], hit["path"], hit["state"]) == ("docs", "install.md", "ready")
    assert (hit["abs_path"], hit["here"]) == (str(library.docs / "install.md"), True)
    assert hit["as_of"] is not None and hit["modified"] is not None
    [passage] = hit["passages"]
    assert passage["headings"] == ["Installation", "Linux"]
    assert passage["line"] is not None
    assert "reset your password" in passage["text"]


@long
async def test_text_for_the_model_has_path_and_passage(client: Client) -> None:
    text = text_of(await client.call_tool("search", {"query": "reset a password", "k": 1}))
    assert "1. install.md (id " in text
    assert "[Installation › Linux, line " in text
    assert "reset your password" in text


@long
async def test_search_is_narrowed_by_number_pattern_type_and_date(client: Client) -> None:
    assert len(paths(await run_tool(client, "search", query="office hours password", k=1))) == 1
    results = paths(await run_tool(client, "search", query="opening hours", path="guides/**"))
    assert results[0] == "guides/hours.txt" and "guides-old/hours.txt" not in results
    assert set(paths(await run_tool(client, "search", query="opening hours", type=["txt"]))) == {
        "guides/hours.txt",
        "guides-old/hours.txt",
    }
    assert paths(await run_tool(client, "search", query="opening hours", after="2999-01-01")) == []
    for after in ("1d", "yesterday"):
        assert paths(await run_tool(client, "search", query="opening hours", after=after))
    assert paths(await run_tool(client, "search", query="opening hours", mirror="docs"))


@enumerated()
@pytest.mark.parametrize(
    ("arguments", "filters"),
    [
        ({"path": "nowhere/**"}, ["`path` nowhere/**"]),
        ({"type": ["docx", "pptx"]}, ["`type` docx", "`type` pptx"]),
        ({"after": "2999-01-31T12:00:00Z"}, ["`after` 2999-01-31T12:00:00Z"]),
        ({"path": "*.md", "type": ["txt"]}, ["`path` *.md and `type` txt"]),
        ({"path": "/etc/*.md"}, ["`path` /etc/*.md"]),
        ({"query": "path:zzz opening"}, ["`path` zzz"]),
        ({"query": "opening type:pptx", "path": "zzz"}, ["`path` zzz", "`type` pptx"]),
    ],
)
async def test_filter_matching_no_file_is_named(
    client: Client, arguments: dict[str, Any], filters: list[str]
) -> None:
    """Also one inside the query."""
    arguments = {"query": "opening hours", **arguments}
    payload = await run_tool(client, "search", **arguments)
    notes = [f"no mirrored file matches {pattern}" for pattern in filters]
    assert (payload["hits"], payload["notes"][-len(notes) :]) == ([], notes)
    text = text_of(await client.call_tool("search", arguments))
    assert all(f"Note: {note}" in text for note in notes)


@long
async def test_filter_matching_a_file_is_not_blamed(client: Client) -> None:
    for arguments in (
        {"path": "torn.pdf"},
        {"path": "guides/**"},
        {"type": ["pdf"]},
        {"after": "2020-01-01"},
    ):
        payload = await run_tool(client, "search", query="qwrtzpsdfg", k=1, **arguments)
        assert not any("matches" in note for note in payload["notes"])


async def test_every_answer_warns_when_nothing_keeps_the_index_current(
    client: Client, library: Sandbox
) -> None:
    payload = await run_tool(client, "search", query="opening hours")
    assert any("kbsync isn't running" in note and "kbsync --folder" in note for note in payload["notes"])
    assert "docs: 1 file failed; the tool `status` says why" in payload["notes"]
    text = text_of(await client.call_tool("search", {"query": "opening hours"}))
    assert text.startswith("Note: docs: 1 file failed")


@long
async def test_status_answers_about_the_path_first_and_names_the_mirror_of_each_failed_file(
    client: Client,
) -> None:
    text = text_of(await client.call_tool("status", {"path": "torn.pdf"}))
    assert text.startswith("torn.pdf: The file is not searchable")
    assert "Note: docs: 1 file failed; listed below" in text
    assert "\ndocs: failed: torn.pdf: " in text


async def test_search_before_the_first_pass_finds_nothing_and_says_why(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    sandbox.write("a.md", "The walrus lies on the ice.")
    async with within(choose_installation(sandbox, folder=sandbox.docs)) as client:
        payload = await run_tool(client, "search", query="walrus")
    assert payload["hits"] == []
    [note] = payload["notes"]
    assert "nothing indexed yet" in note and "kbsync --folder" in note
    assert not (sandbox.home / ".local").exists()


@long
async def test_answers_after_a_restart_are_dated_by_the_previous_pass(sandbox: Sandbox) -> None:
    sandbox.mirror({"ice.md": "The walrus lies on the ice."})

    async def as_of(client: Client) -> set[str | None]:
        """Return the time in each tool's response."""
        [hit] = (await run_tool(client, "search", query="walrus"))["hits"]
        listed, status = [await run_tool(client, tool) for tool in ("list", "status")]
        document = await run_tool(client, "get", path="ice.md")
        parts = (hit, listed["mirrors"][0], status["mirrors"][0], document)
        return {part.get("as_of") for part in parts}

    change_state(sandbox, "UPDATE mirror SET last_pass = 1700000000.0")
    async with client_of(sandbox) as client:
        # A kbsync that has just started and takes long to scan the folder.
        with lock.held(sandbox.state):
            assert await as_of(client) == {"2023-11-14T22:13:20Z"}
            [note] = (await run_tool(client, "search", query="walrus"))["notes"]
            assert "changes since 2023-11-14T22:13:20Z may be missing" in note
            change_state(sandbox, "UPDATE mirror SET last_pass = unixepoch('now') + 1")
            assert "2023-11-14T22:13:20Z" not in await as_of(client)
            assert (await run_tool(client, "search", query="walrus"))["notes"] == []
            change_state(sandbox, "UPDATE mirror SET last_pass = NULL")
            assert await as_of(client) == {None}


def change_state(sandbox: Sandbox, sql: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(sandbox.state / "state.db")) as state, state:
        state.execute(sql, values)


Change = Callable[[Path], object]
"""A person's change to the folder."""

UNSEEN: dict[str, Change] = {
    "edited": lambda docs: (docs / "ice.md").write_text("The penguin stands on the shore."),
    "edited at equal length": lambda docs: (docs / "ice.md").write_text("The walrus lies on the sea."),
    "new": lambda docs: (docs / "new.md").write_text("The penguin stands on the shore."),
    "new folder": lambda docs: (docs / "new").mkdir(),
    "deleted": lambda docs: (docs / "ice.md").unlink(),
    "renamed": lambda docs: (docs / "ice.md").rename(docs / "sea.md"),
    "folder deleted": lambda docs: shutil.rmtree(docs / "guides"),
    "moved": lambda docs: (docs / "guides").rename(docs / "old"),
}
SEEN: dict[str, Change] = {
    "nothing": lambda docs: None,
    "touched": lambda docs: (docs / "ice.md").touch(),
    "other rights": lambda docs: (docs / "ice.md").chmod(0o600),
    "read": lambda docs: (docs / "ice.md").read_text(),
    "excluded": lambda docs: (docs / "drafts" / "new.md").write_text("A draft."),
}


@long
@pytest.mark.parametrize("kind", [*UNSEEN, *SEEN])
async def test_wait_that_times_out_before_a_change_is_indexed_says_so(
    sandbox: Sandbox, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 2.0)  # nothing changes meanwhile: one poll is enough
    files = {"ice.md": "The walrus lies on the ice.", "guides/hours.md": "Opening hours."}
    sandbox.mirror({**files, "drafts/old.md": "A draft."}, "exclude: [drafts/]")
    # Another kbsync holds the state; it has scanned the folder but not seen the change.
    with lock.held(sandbox.state):
        change_state(sandbox, "UPDATE mirror SET last_pass = unixepoch('now') + 1")
        {**UNSEEN, **SEEN}[kind](sandbox.docs)
        async with client_of(sandbox) as client:
            for tool, arguments in (("search", {"query": "walrus"}), ("status", {})):
                notes = (await run_tool(client, tool, **arguments, wait=1))["notes"]
                expected = "handbook: recent changes in the folder may not be indexed yet"
                assert notes == ([expected] if kind in UNSEEN else [])


@long
async def test_wait_returns_at_once_while_the_mirror_is_paused(sandbox: Sandbox) -> None:
    sandbox.mirror({"ice.md": "The walrus lies on the ice.", "shore.md": "The penguin stands."})
    with lock.held(sandbox.state):
        assert sandbox.go("pause", "handbook").code == 0
        # One change was noticed before the pause, another wasn't.
        change_state(sandbox, "UPDATE entry SET status = ? WHERE name = 'ice.md'", Status.PENDING.value)
        sandbox.write("shore.md", "The penguin stands on the shore.")
        async with client_of(sandbox) as client:
            async with asyncio.timeout(SETTLED):
                notes = (await run_tool(client, "search", query="walrus", wait=50))["notes"]
    assert [note.partition(";")[0] for note in notes] == ["handbook: paused"]


# -- get ------------------------------------------------------------------------------------------------


async def test_document_is_read_by_path_and_by_id(client: Client) -> None:
    by_path = await run_tool(client, "get", path="guides/hours.txt")
    assert by_path["text"].startswith("Opening hours: the office opens at nine")
    assert "next_offset" not in by_path and by_path["total"] == len(by_path["text"])
    assert await run_tool(client, "get", document_id=by_path["document_id"]) == by_path


@long
async def test_long_document_is_read_in_pieces_that_make_up_the_whole(client: Client) -> None:
    pieces, offset = list[str](), 0
    while True:
        piece = await run_tool(
            client, "get", path="guides/deep/long.md", offset=offset, limit=MAX_PIECE_LENGTH
        )
        pieces.append(piece["text"])
        if "next_offset" not in piece:
            break
        offset = piece["next_offset"]
    assert len(pieces) > 1
    text = "".join(pieces)
    assert len(text) == piece["total"]
    assert all(f"Paragraph {n} is about" in text for n in range(9000))


async def test_passage_is_read_with_its_surroundings(client: Client) -> None:
    around = "Paragraph 4500 is about\n numbers."
    piece = await run_tool(client, "get", path="guides/deep/long.md", around=around, limit=400)
    assert "Paragraph 4499 " in piece["text"] and "Paragraph 4501 " in piece["text"]
    assert len(piece["text"]) == 400
    message = await error_of(client, "get", path="guides/deep/long.md", around="no such words")
    assert "that text isn't in the document" in message


async def test_reading_beyond_the_end_of_a_document_returns_nothing(client: Client) -> None:
    piece = await run_tool(client, "get", path="install.md", offset=10**9)
    assert (piece["text"], piece["offset"]) == ("", piece["total"])
    assert "next_offset" not in piece


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nope.md", "it does not exist"),
        ("torn.pdf", "torn.pdf has no document"),
        ("empty.md", "empty.md has no document"),
        ("guides", "guides has no document"),
        ("/etc/passwd", "no mirrored folder contains it"),
        ("../home/.config", "no mirrored folder contains it"),
        ("guides/../../../etc/passwd", "no mirrored folder contains it"),
        ("~/x", "it does not exist"),
    ],
)
async def test_path_without_a_document_is_explained(client: Client, path: str, why: str) -> None:
    assert why in await error_of(client, "get", path=path)


async def test_unknown_id_and_both_or_neither_of_path_and_id_are_refused(client: Client) -> None:
    assert "there is no document 999" in await error_of(client, "get", document_id="999")
    assert "pass either" in await error_of(client, "get", document_id="1", path="install.md")
    assert "pass either" in await error_of(client, "get")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Mirrors `handbook` and `other`, with files of the same name. Tests must not change anything."""
    sandbox = Sandbox(tmp_path_factory.mktemp("twins"))
    sandbox.configure()
    sandbox.add_mirror("other", {"notes.md": "The walrus of the other folder.\n"})
    files = {"notes.md": "The walrus lies on the ice.\n", "mine.md": "The penguin stands on the shore.\n"}
    sandbox.mirror(files)
    return sandbox


@long
async def test_path_in_several_mirrors_requires_a_mirror(twins: Sandbox) -> None:
    async with client_of(twins) as client:
        for tool in ("get", "status"):
            message = await error_of(client, tool, path="notes.md")
            assert message == "several mirrors have notes.md: handbook, other; set `mirror` to one of them"
        for mirror, text in (("handbook", "on the ice"), ("other", "of the other folder")):
            assert text in (await run_tool(client, "get", path="notes.md", mirror=mirror))["text"]
            explanation = (await run_tool(client, "status", path="notes.md", mirror=mirror))["explanation"]
            assert (explanation["mirror"], explanation["found"]) == (mirror, True)
            file = {"handbook": twins.docs, "other": twins.root / "other"}[mirror] / "notes.md"
            assert text in (await run_tool(client, "get", path=str(file)))["text"]
            assert (await run_tool(client, "status", path=str(file)))["explanation"]["mirror"] == mirror
        assert "penguin" in (await run_tool(client, "get", path="mine.md"))["text"]
        assert (await run_tool(client, "status", path="mine.md"))["explanation"]["mirror"] == "handbook"


# -- list -----------------------------------------------------------------------------------------------


async def test_list_has_the_mirrors_and_every_file_in_pages(client: Client) -> None:
    first = await run_tool(client, "list")
    [mirror] = first["mirrors"]
    assert (mirror["name"], mirror["documents"]["ready"], mirror["documents"]["failed"]) == ("docs", 7, 1)
    assert first["folders"] == ["guides", "guides-old"]
    results, cursor = list[str](), {}
    while True:
        page = await run_tool(client, "list", limit=2, **cursor)
        assert len(page["files"]) <= 2
        results += [file["path"] for file in page["files"]]
        if "next" not in page:
            break
        cursor = {"cursor": page["next"]}
    assert results == [file["path"] for file in first["files"]]
    assert len(results) == len(set(results)) == 9


async def test_folder_listing_excludes_folders_with_the_same_beginning(client: Client) -> None:
    below = await run_tool(client, "list", path="guides", limit=1)
    matching = [file["path"] for file in below["files"]]
    while "next" in below:
        below = await run_tool(client, "list", path="guides/", limit=1, cursor=below["next"])
        matching += [file["path"] for file in below["files"]]
    assert sorted(matching) == ["guides/deep/long.md", "guides/hours.txt", "guides/配置.md"]
    assert below["folders"] == ["guides/deep"]
    assert "has no folder" in await error_of(client, "list", path="guid")


async def test_files_of_one_state_are_listed_with_their_reason(client: Client) -> None:
    [failed] = (await run_tool(client, "list", state="failed"))["files"]
    assert failed["path"] == "torn.pdf" and failed["reason"]
    assert (await run_tool(client, "list", state="held"))["files"] == []


@long
async def test_state_filter_lists_only_folders_containing_that_state(sandbox: Sandbox) -> None:
    sandbox.write("good/a.md", "The walrus lies on the ice.")
    sandbox.write("good/deep/b.md", "The walrus lies on the ice, too.")
    sandbox.write("torn/deep/c.pdf", "this is no pdf")
    sandbox.write("torn/deep/deeper/d.pdf", "this is no pdf either")
    sandbox.write("shut/e.md", "The walrus nobody reads.")
    sandbox.configure()
    (sandbox.docs / "shut").chmod(0)
    try:
        sandbox.go("--once")
    finally:
        (sandbox.docs / "shut").chmod(0o700)
    async with client_of(sandbox) as client:
        unlisted = ["shut"] if os.geteuid() else []  # root may list any folder
        payload = await run_tool(client, "list", state="failed")
        assert payload["folders"] == [*unlisted, "torn"]
        reasons = {file["path"]: file["reason"] for file in payload["files"]}
        assert list(reasons) == [
            *(f"{folder}/" for folder in unlisted),
            "torn/deep/c.pdf",
            "torn/deep/deeper/d.pdf",
        ]
        assert all(reasons.values())
        assert (await run_tool(client, "list", state="failed", path="torn/deep"))["folders"] == [
            "torn/deep/deeper"
        ]
        assert (await run_tool(client, "list", state="failed", path="good"))["folders"] == []
        assert "good" in (await run_tool(client, "list", state="ready"))["folders"]
        assert (await run_tool(client, "list", state="pending"))["folders"] == []
        assert {"good", "torn"} <= set((await run_tool(client, "list"))["folders"])


async def test_omitted_folders_are_counted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_FOLDERS", 1)
    payload = await run_tool(client, "list")
    assert payload["folders"] == ["guides"]
    assert "docs: 1 of 2 folders listed; pass `path` to list fewer" in payload["notes"]


async def test_folder_starting_with_a_dot_is_named_in_full(client: Client) -> None:
    assert "has no folder .github" in await error_of(client, "list", path=".github")
    everything = await run_tool(client, "list")
    for path in (".", "./", "/"):
        assert (await run_tool(client, "list", path=path))["files"] == everything["files"]


# -- status ---------------------------------------------------------------------------------------------


async def test_status_names_failed_files_with_reasons(client: Client) -> None:
    payload = await run_tool(client, "status")
    [mirror] = payload["mirrors"]
    [failed] = mirror["failed"]
    assert failed["path"] == "torn.pdf" and failed["reason"]
    assert mirror["watched"] is False
    assert "explanation" not in payload


@long
async def test_status_says_how_many_of_all_it_shows(sandbox: Sandbox) -> None:
    sandbox.mirror({f"{number:02}.md": f"The walrus lies on ice {number}." for number in range(45)})
    change_state(sandbox, "UPDATE entry SET status = ? WHERE name < '21'", Status.FAILED.value)
    change_state(sandbox, "UPDATE entry SET status = ? WHERE name > '21'", Status.HELD.value)
    async with client_of(sandbox) as client:
        payload = await run_tool(client, "status")
        [mirror] = payload["mirrors"]
        assert (len(mirror["failed"]), len(mirror["held"])) == (20, 20)
        expected = [
            f"handbook: only 20 of {total} {state} files listed; use `list` with `state: {state}` to see "
            "all of them"
            for state, total in (("failed", 21), ("held", 24))
        ]
        assert payload["notes"][-2:] == expected
        assert expected[0] in text_of(await client.call_tool("status", {}))


@long
async def test_status_explains_a_path_like_the_command(client: Client, library: Sandbox) -> None:
    explanation = (await run_tool(client, "status", path="guides/hours.txt"))["explanation"]
    result = library.go("explain", "guides/hours.txt", "--folder", "docs", "--json").json
    assert (
        (explanation["answer"], explanation["found"])
        == (result["answer"], result["found"])
        == ("The file is searchable.", True)
    )
    outside = (await run_tool(client, "status", path="/etc/passwd"))["explanation"]
    assert not outside["found"] and "no mirrored folder" in outside["answer"]


# -- resources ------------------------------------------------------------------------------------------


@long
async def test_each_searchable_document_is_a_readable_resource(client: Client) -> None:
    listed = (await client.list_resources()).resources
    assert len(listed) == 7
    for row in listed:
        read = await client.read_resource(row.uri)
        assert read.contents[0].text  # type: ignore[union-attr]
    [template] = (await client.list_resource_templates()).resource_templates
    assert template.uri_template == "kbsync://{mirror}/{+path}"


async def test_no_searchable_document_is_hidden_behind_many_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris = [resource.uri for resource in (await client.list_resources()).resources]
    monkeypatch.setattr(protocol, "RESOURCES_PER_PAGE", 1)
    monkeypatch.setattr(documents, "MAX_ROWS_READ", 1)
    page, results = await client.list_resources(), list[str]()
    while page.resources:
        results += [resource.uri for resource in page.resources]
        page = await client.list_resources(cursor=page.next_cursor)
    assert results == uris


@long
async def test_document_without_its_file_is_marked_and_readable(sandbox: Sandbox) -> None:
    sandbox.mirror({"gone.md": "The walrus lies on the ice.\n"}, "deletions: never")
    (sandbox.docs / "gone.md").unlink()
    sandbox.mirror({})
    async with client_of(sandbox) as client:
        hit = (await run_tool(client, "search", query="walrus"))["hits"][0]
        assert (hit["state"], hit["reason"]) == ("kept", "the file is gone; its document is kept")
        text = text_of(await client.call_tool("search", {"query": "walrus"}))
        assert "its document is kept)" in text and "changed since" not in text
        assert "walrus" in (await run_tool(client, "get", path="gone.md"))["text"]
        assert len((await client.list_resources()).resources) == 1


@long
@pytest.mark.parametrize("status", Status)
async def test_hit_in_any_state_fits_the_schema(sandbox: Sandbox, status: Status) -> None:
    sandbox.mirror({"ice.md": "The walrus lies on the ice.\n"})
    # The document has other bytes than the file now has.
    change_state(sandbox, "UPDATE entry SET status = ?, digest = zeroblob(32)", status.value)
    async with client_of(sandbox) as client:
        for tool, arguments in (("search", {"query": "walrus"}), ("get", {"path": "ice.md"})):
            payload = await run_tool(client, tool, **arguments)
            jsonschema.validate(payload, TOOLS[tool].output_schema)
            [hit] = payload.get("hits", [payload])
            assert hit["state"] == status.word


async def test_long_resource_says_how_to_continue_reading(client: Client) -> None:
    read = await client.read_resource("kbsync://docs/guides/deep/long.md")
    text = read.contents[0].text  # type: ignore[union-attr]
    assert text.endswith("call the tool `get` with `offset` 200000]")


@pytest.mark.parametrize(
    "uri",
    [
        "kbsync://docs/nope.md",
        "kbsync://nope/install.md",
        "kbsync://docs/../../etc/passwd",
        "kbsync://docs/%2e%2e/%2e%2e/etc/passwd",
        "kbsync://docs//etc/passwd",
        "kbsync://docs/install.md%00",
        "kbsync://docs",
        "file:///etc/passwd",
    ],
)
async def test_unknown_resource_address_is_refused(client: Client, uri: str) -> None:
    with pytest.raises(MCPError) as refusal:
        await client.read_resource(uri)
    assert "bug" not in refusal.value.error.message


# -- hostile input --------------------------------------------------------------------------------------

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("search", {}, "`query` is missing"),
    ("search", {"query": ""}, '`query`: "" is not valid; allowed: text that is not empty'),
    ("search", {"query": " \t\n"}, "blank"),
    ("search", {"query": "x" * 1001}, "`query`: 1,001 characters; at most 1,000 are allowed"),
    ("search", {"query": "x", "type": ["md"] * 21}, "`type`: 21 items; at most 20 are allowed"),
    ("get", {"path": "a.md", "around": "x" * 5001}, "`around`: 5,001 characters; at most 5,000"),
    ("search", {"query": ["x"]}, '`query`: ["x"] is not valid; allowed: text'),
    ("search", {"query": "x", "k": 10**30}, f"0 is not valid; allowed: 1 to {MAX_HITS}"),
    ("search", {"query": "x", "k": 0}, f"`k`: 0 is not valid; allowed: 1 to {MAX_HITS}"),
    ("search", {"query": "x", "k": True}, "`k`: true is not valid; allowed: a whole number"),
    ("search", {"query": "x", "k": "3"}, "`k`"),
    ("search", {"query": "x", "wait": 10**6}, "`wait`"),
    ("search", {"query": "x", "root": "/"}, "unknown argument `root`; allowed: `query`, `k`, "),
    ("search", {"query": "\0 \0"}, "blank"),
    ("search", {"query": "x", "path": "[z-a]"}, "is not a gitignore pattern"),
    ("search", {"query": "x", "type": ["../../etc"]}, "allowed: up to 20 letters and digits"),
    ("search", {"query": "x", "type": "md"}, '`type`: "md" is not valid; allowed: a list'),
    ("search", {"query": "x", "after": "9" * 30}, "is neither a duration such as 1d nor a date"),
    ("search", {"query": "x", "mirror": "nope"}, "known mirrors: docs"),
    ("get", {"path": "a\0b"}, "NUL"),
    ("get", {"path": ""}, "`path`"),
    ("get", {"path": "x" * 5000}, "`path`: 5,000 characters; at most 4,096 are allowed"),
    ("get", {"path": "install.md", "offset": -1}, "`offset`"),
    ("get", {"path": "install.md", "limit": 10**9}, "`limit`"),
    ("list", {"cursor": "no cursor"}, "`cursor`"),
    ("list", {"path": "../.."}, "has no folder"),
    ("list", {"state": "lost"}, '`state`: "lost" is not valid; allowed: ready, indexing, pending'),
    ("status", {"path": "a\0b"}, "NUL"),
]


@long
@pytest.mark.parametrize("odd", ["\0", "\\u0000", "\ud800", "\udc80"], ids=ascii)
async def test_unassigned_character_only_separates_words(client: Client, odd: str) -> None:
    for query in (f"nine{odd} five", f"nine{odd}five"):
        assert "guides/hours.txt" in paths(await run_tool(client, "search", query=query))


async def test_words_are_matched_across_any_separator(client: Client) -> None:
    for odd in ("\0", "\ud800"):
        piece = await run_tool(client, "get", path="install.md", around=f"Run the{odd}installer")
        assert "Run the installer" in piece["text"]


@pytest.mark.parametrize(("tool", "arguments", "why"), WRONG)
async def test_unanswerable_request_is_refused_with_a_message(
    client: Client, tool: str, arguments: dict[str, Any], why: str
) -> None:
    message = await error_of(client, tool, **arguments)
    assert why in message
    assert len(message) < 500 and "Traceback" not in message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("secret words"), "internal error in kbsync (see its log): ZeroDivisionError"),
        (MemoryError(), OUT_OF_MEMORY),
    ],
)
async def test_internal_error_is_reported_as_one_and_ends_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    async def fail(*_args: Any) -> dict[str, Any]:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Library, "search", fail)
        assert await error_of(client, "search", query="hours") == message
    assert paths(await run_tool(client, "search", query="hours"))


@long
async def test_unresponsive_folder_blocks_no_other_request(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, mended = threading.Event(), threading.Event()

    def hang(*_paths: Path) -> None:
        entered.set()
        mended.wait(60)

    monkeypatch.setattr(context, "_below", hang)
    try:
        silent = asyncio.create_task(client.call_tool("get", {"path": "install.md"}))
        assert await asyncio.to_thread(entered.wait, 60)
        assert paths(await run_tool(client, "search", query="hours"))
        assert not silent.done()
        monkeypatch.setattr(protocol, "RESPONSE_SECONDS", 0.1)
        assert "no response within" in await error_of(client, "get", path="install.md")
    finally:
        mended.set()
    await silent


@long
async def test_mirror_on_an_unresponsive_disk_blocks_no_other(
    library: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended, looks_at, opens = threading.Event(), documents.paths_of, Installation.target
    dead = folder_config(tmp_path).mirrors[0]
    installation = choose_installation(library, folder=library.docs)
    config = replace(installation.config, mirrors=(replace(dead, name="dead"), *installation.config.mirrors))

    def read_paths(installation: Installation, *args: Any) -> Any:
        if any(mirror_config.name == "dead" for mirror_config in installation.mirrors):
            mended.wait(60)
        return looks_at(installation, *args)

    def open_target(installation: Installation, mirror: Any, **options: Any) -> Any:
        if mirror.name == "dead":
            mended.wait(60)
        return opens(installation, mirror, **options)

    monkeypatch.setattr(documents, "paths_of", read_paths)
    monkeypatch.setattr(explain, "paths_of", read_paths)
    monkeypatch.setattr(Installation, "target", open_target)
    async with within(replace(installation, config=config)) as client:
        await run_tool(client, "search", query="reset a password", mirror="docs")  # takes a while to open
        monkeypatch.setattr(open_mirrors, "MAX_CHECK_SECONDS", 0.05)
        monkeypatch.setattr(open_mirrors, "OPEN_SECONDS", 0.05)
        try:
            for _ in range(40):
                assert "the folder isn't responding" in await error_of(client, "get", path="nope.md")
            # A busy machine takes longer than that for a mirror that does respond.
            monkeypatch.setattr(open_mirrors, "MAX_CHECK_SECONDS", 2.0)
            monkeypatch.setattr(open_mirrors, "OPEN_SECONDS", 2.0)
            assert "password" in (await run_tool(client, "get", path="install.md"))["text"]
            payload = await run_tool(client, "status", path="install.md")
            assert payload["explanation"]["mirror"] == "docs"
            payload = await run_tool(client, "search", query="reset a password")
            assert paths(payload)[0] == "install.md"
            assert any(note.startswith("dead: not searched: ") for note in payload["notes"])
        finally:
            mended.set()


@long
async def test_state_is_closed_by_its_reading_thread_after_the_request_was_abandoned(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, mended, ends = threading.Event(), threading.Event(), list[bool]()
    find, closes = attach.find_record, ReadOnlyState.close

    def find_slowly(*mirror: Any) -> Any:
        started.set()
        mended.wait(60)
        return find(*mirror)

    def close(state: ReadOnlyState) -> None:
        ends.append(mended.is_set())
        closes(state)

    monkeypatch.setattr(attach, "find_record", find_slowly)
    monkeypatch.setattr(protocol, "RESPONSE_SECONDS", 0.5)
    try:
        request = asyncio.create_task(error_of(client, "status", path="install.md"))
        await asyncio.to_thread(started.wait, 60)
        monkeypatch.setattr(ReadOnlyState, "close", close)
        assert "no response within" in await request
        assert ends == []
    finally:
        mended.set()
    async with asyncio.timeout(LONGEST):
        while ends != [True]:
            await asyncio.sleep(0.01)


@long
async def test_pattern_equal_to_a_dead_mounts_path_blocks_no_other_request(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, mended, searches = threading.Event(), threading.Event(), searching.searches

    def search(mirrors: Any, query: Any) -> Any:
        if query.paths:
            entered.set()
            mended.wait(60)
        return searches(mirrors, query)

    monkeypatch.setattr(searching, "searches", search)
    question = {"query": "hours", "path": "/mnt/dead/*.txt"}
    try:
        silent = asyncio.create_task(client.call_tool("search", question))
        assert await asyncio.to_thread(entered.wait, 60)
        assert paths(await run_tool(client, "search", query="hours"))
        assert not silent.done()
        monkeypatch.setattr(module, "SEARCH_SECONDS", 0.1)
        assert "no response within" in await error_of(client, "search", **question)
    finally:
        mended.set()
    await silent


async def test_unknown_tool_is_a_protocol_error(client: Client) -> None:
    with pytest.raises(MCPError, match="unknown tool: delete"):
        await client.session.call_tool("delete", {})


@long
async def test_non_unicode_names_reach_the_client_unchanged(client: Client) -> None:
    hit = (await run_tool(client, "search", query="ocelots"))["hits"][0]
    assert hit["path"] == "byte\\xff.md"
    assert "ocelots" in (await run_tool(client, "get", document_id=hit["document_id"]))["text"]
    [resource] = [listed for listed in (await client.list_resources()).resources if "byte" in listed.name]
    assert "ocelots" in (await client.read_resource(resource.uri)).contents[0].text  # type: ignore[union-attr]


@long
async def test_text_for_the_model_has_no_control_characters(client: Client) -> None:
    for tool, arguments in (("search", {"query": "xylophone"}), ("list", {}), ("get", {"path": ODD})):
        text = text_of(await client.call_tool(tool, arguments))
        assert ("\x1b" not in text and "xylophone" in text) or (tool == "list" and "\x1b" not in text)
    # JSON has the exact name, which can be used in requests.
    assert paths(await run_tool(client, "search", query="xylophone")) == [ODD]


@long
@pytest.mark.parametrize(
    "name", [b"a\xff\xc3.md", "odd\n\u202e\x1b\U000e0041é.md".encode(), b"C:\\new\\xff.md"], ids=repr
)
async def test_path_is_accepted_as_shown(sandbox: Sandbox, name: bytes) -> None:
    """JSON can't contain all file names, and a model may copy a name from the text."""
    sandbox.mirror({f"folder {os.fsdecode(name)}/{os.fsdecode(name)}": "The walrus lies on the ice."})
    async with client_of(sandbox) as client:
        text = text_of(await client.call_tool("search", {"query": "walrus"}))
        shown = text.partition("\n1. ")[2].partition(" (id ")[0]
        [path] = paths(await run_tool(client, "search", query="walrus"))
        for typed in (shown, path):
            assert (await run_tool(client, "get", path=typed))["text"] == "The walrus lies on the ice."
            assert (await run_tool(client, "status", path=typed))["explanation"]["found"]
            folder = typed.partition("/")[0]
            assert [file["path"] for file in (await run_tool(client, "list", path=folder))["files"]] == [path]


@pytest.mark.parametrize("path", ["a\\ud800.md", "a\\udfff/b", "/tmp/\\ud800", "a\\x00.md"])
async def test_escapes_of_characters_that_no_path_contains_stay(client: Client, path: str) -> None:
    assert "no document" in text_of(await client.call_tool("get", {"path": path}))
    assert "no folder" in text_of(await client.call_tool("list", {"path": path}))


async def test_tool_descriptions_say_when_to_use_them_and_what_to_do_next(client: Client) -> None:
    tools_by_name = {tool.name: tool.description for tool in (await client.list_tools()).tools}
    assert tools_by_name["search"] == (
        "Search the user's own files by words and by meaning. Use this first whenever the files "
        "may contain the answer. Returns the best documents with path, passages, page or line. If "
        "nothing matches: read `notes`, drop `path`/`type`/`after`, try other words, then `list`."
    )
    assert tools_by_name["list"] == (
        "Browse the mirrored files. Lists all files below the folder `path` (no wildcards), `limit` "
        "at a time. Use `state: failed` to list files that could not be indexed. For the next page, "
        "pass `next` as `cursor`."
    )
    assert tools_by_name["status"] == (
        "Whether the index is up to date. Use this if `search` misses something you expect. With "
        "`path`: why search does or doesn't find that file, and what the user must do."
    )


@long
async def test_every_answer_fits_its_tools_schema(client: Client) -> None:
    tools_by_name = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools_by_name) == list(TOOLS)
    for tool, arguments in (
        ("search", {"query": "hours"}),
        ("get", {"path": "install.md"}),
        ("list", {}),
        ("status", {}),
        ("status", {"path": "install.md"}),
        ("status", {"path": "/etc/passwd"}),
    ):
        schema = tools_by_name[tool].output_schema
        assert schema is not None
        payload = await run_tool(client, tool, **arguments)
        jsonschema.validate(payload, schema)
        jsonschema.Draft202012Validator.check_schema(tools_by_name[tool].input_schema)
        assert "null" not in json.dumps([schema, payload])


@long
async def test_read_only_tools_write_nothing(library: Sandbox) -> None:
    before = library.files()
    async with within(choose_installation(library, folder=library.docs)) as client:
        for tool, arguments in (
            ("search", {"query": "hours"}),
            ("list", {}),
            ("status", {"path": "install.md"}),
        ):
            await run_tool(client, tool, **arguments)
        await run_tool(client, "get", path="install.md")
        await client.list_resources()
    assert library.files() == before


async def test_answer_size_is_bounded(client: Client) -> None:
    payload = await run_tool(client, "search", query="paragraph numbers hours", k=MAX_HITS)
    assert len(json.dumps(payload)) < MAX_HITS * 3 * 2500
