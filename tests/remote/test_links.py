"""Tests link files as documents: pages that the service fetches, recognized only by certain evidence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.contract.target import Outgoing, PutOutcome
from kbsync.engine.status import FileStatus, Items
from kbsync.errors import Unsure
from kbsync.state.read_only import Tx
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.remote.world import RemoteWorld
from tests.share import enumerated, long

PAGE = "https://example.org/guides/faq"
FORMS = [("address", "signed"), ("title", "address"), ("last", "address")]
"""The list's name for a page, and its `url`: one of them contains the address."""

UNTOLD = [("title", "signed"), ("last", "signed")]
"""Neither contains the address."""

LOST = ["lost-answer", "cut-body", "truncated-json", "neither-list", "both-lists"]


def shortcut(address: str = PAGE, lines: str = "") -> str:
    return f"[InternetShortcut]\r\nURL={address}\r\n{lines}"


async def linked(world: RemoteWorld) -> None:
    """Write a link file, and run the pass that mirrors it."""
    await world.mirrored({"faq.url": shortcut()})


def beside(world: RemoteWorld, address: str) -> None:
    """Add another user's page."""
    planted = world.app.put_foreign({"name": address, "text": "x", "url": address})
    world.foreign.add(str(planted["id"]))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, vectorize=(0.0, 0.0)).serving() as world:
        yield world


def pages(world: RemoteWorld) -> list[str]:
    """Return the addresses of all our pages."""
    ours = [document for document in world.documents() if str(document["id"]) not in world.foreign]
    return sorted(document["address"] for document in ours if document["address"])


def items(world: RemoteWorld) -> dict[str, FileStatus]:
    def read(tx: Tx) -> dict[str, FileStatus]:
        record = tx.mirrors.named("docs")
        assert record is not None
        return {Item.path: Item for Item in Items(tx, record, record.halt)}

    results: dict[str, FileStatus] = world.read_state(read)
    return results


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("faq.url", shortcut()),
        ("faq.desktop", f"[Desktop Entry]\nType=Link\nURL={PAGE}\n"),
        ("faq.webloc", f'<plist version="1.0"><dict><key>URL</key><string>{PAGE}</string></dict></plist>'),
    ],
)
async def test_link_file_becomes_the_page_it_points_to(world: RemoteWorld, name: str, text: str) -> None:
    await world.mirrored({name: text})
    await world.once()
    assert pages(world) == [PAGE]
    assert world.request_count("upload-url") == 1
    assert world.statuses() == {"ready": 1}


@long
async def test_page_is_refetched_only_on_request(world: RemoteWorld) -> None:
    await linked(world)
    world.clock.now += 30 * 86400.0
    await world.once()
    assert world.request_count("upload-url") == 1
    world.post_request("retry")
    await world.once()
    assert world.request_count("upload-url") == 1, "nothing had failed"
    world.post_request("retry", paths=["faq.url"])
    await world.once()
    assert world.request_count("upload-url") == 2
    assert pages(world) == [PAGE]
    assert world.statuses() == {"ready": 1}


async def test_edit_replaces_a_page_that_serves_until_then(world: RemoteWorld) -> None:
    await linked(world)
    world.turn(vectorize=[5.0, 5.0])
    await world.mirrored({"faq.url": shortcut(f"{PAGE}/new")})
    assert pages(world) == [f"{PAGE}/new"]
    stored, deleted = (world.effects(effect)[-1]["at"] for effect in ("stored", "deleted"))
    assert deleted >= stored + 5.0


@pytest.mark.parametrize("is_lost", [False, True])
async def test_renamed_link_file_costs_nothing(world: RemoteWorld, is_lost: bool) -> None:
    if is_lost:
        world.play("lost-answer", op="upload-url")
    await linked(world)
    document = items(world)["faq.url"].document_id
    world.move("faq.url", "web/questions.url")
    await world.once()
    world.settings = replace(world.settings, prefix="other/")
    await world.once()
    assert pages(world) == [PAGE]
    assert world.request_count("upload-url") == 1
    assert items(world)["web/questions.url"].document_id == document


@long
async def test_deleted_link_file_deletes_only_its_page(world: RemoteWorld) -> None:
    world.write_many(8)
    await world.mirrored({"faq.url": shortcut(), "twin.url": shortcut()})
    assert pages(world) == [PAGE, PAGE]
    world.delete("faq.url")
    await world.once()
    assert pages(world) == [PAGE]
    world.delete("twin.url")
    await world.once()
    assert pages(world) == []


@enumerated()
@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize(("name", "url"), FORMS)
async def test_page_with_a_lost_answer_is_found_by_its_address(
    world: RemoteWorld, name: str, url: str, kind: str
) -> None:
    world.turn(page_names=name, page_urls=url)
    world.plant("somebody's.md", "not ours")
    world.play(kind, op="upload-url")
    await linked(world)
    assert pages(world) == [PAGE]
    assert world.request_count("upload-url") == 1
    assert world.statuses() == {"ready": 1}


@pytest.mark.parametrize("name", ["address", "title", "last"])
async def test_page_that_never_arrived_is_resent_despite_foreign_pages(world: RemoteWorld, name: str) -> None:
    world.turn(page_names=name)
    world.plant("somebody's.md", "not ours")
    world.play("lost-answer", op="upload-url", effect=False)
    beside(world, f"{PAGE}/of-others")
    await linked(world)
    assert pages(world) == [PAGE]
    assert world.statuses() == {"ready": 1}
    assert world.keeps_foreign()


@long
@pytest.mark.parametrize(("name", "url"), UNTOLD)
async def test_unproven_page_is_neither_resent_nor_adopted(world: RemoteWorld, name: str, url: str) -> None:
    world.turn(page_names=name, page_urls=url)
    world.play("lost-answer", op="upload-url")
    await linked(world)
    assert world.request_count("upload-url") == 1
    assert world.statuses() == {"failed": 1}
    assert "retry" in items(world)["faq.url"].reason
    world.delete("faq.url")
    await world.once()
    assert pages(world) == [PAGE]  # it may be another's


@long
async def test_page_older_than_the_request_is_not_adopted(world: RemoteWorld) -> None:
    """Times in ids prove it, since they were right for an answered upload of ours."""
    await world.mirrored({"a.md": "alpha"})
    beside(world, PAGE)
    world.clock.now += 1000.0
    world.play("lost-answer", op="upload-url", effect=False)
    await linked(world)
    assert pages(world) == [PAGE]
    world.delete("faq.url")
    await world.once()
    assert world.keeps_foreign()


async def test_two_files_with_one_address_never_share_a_page(world: RemoteWorld) -> None:
    """They are sent one after the other: the second waits for the result of the first."""
    world.write("one.url", shortcut())
    world.write("two.url", shortcut(lines="IconIndex=1\r\n"))
    world.play("lost-answer", op="upload-url", times=2)
    await world.once()
    assert pages(world) == [PAGE, PAGE]
    assert len({item.document_id for item in items(world).values()}) == 2


@long
async def test_page_with_a_pending_answer_is_not_taken_by_its_twin(
    world: RemoteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was lost and never stored; the other is stored, listed, and answered late."""
    put, first = ZhipuTarget.put, True

    async def late(target: ZhipuTarget, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        nonlocal first
        if first:
            first = False
            return [Unsure("its answer was lost")]
        outcomes = await put(target, documents)
        await world.clock.sleep(40.0)
        return outcomes

    monkeypatch.setattr(ZhipuTarget, "put", late)
    await world.mirrored({"one.url": shortcut(), "two.url": shortcut(lines="IconIndex=1\r\n")})
    assert pages(world) == [PAGE, PAGE]
    assert len({item.document_id for item in items(world).values()}) == 2


@long
async def test_late_page_of_a_deleted_file_is_removed(world: RemoteWorld) -> None:
    await world.mirrored(8)
    world.play("late-effect", op="upload-url", args={"after": 5})
    await linked(world)
    world.delete("faq.url")
    await world.once()
    assert pages(world) == []


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.url", "no ini at all", "InternetShortcut"),
        ("a.url", shortcut("ftp://example.org/x"), "http"),
        ("a.url", shortcut("https://me:secret@example.org/"), "password"),
        ("a.desktop", "[Desktop Entry]\nType=Application\nExec=rm\n", "not a link"),
        ("a.webloc", '<!DOCTYPE a [<!ENTITY x "y">]><plist><string>&x;</string></plist>', "property list"),
    ],
)
async def test_file_without_an_address_fails_with_a_reason_and_is_not_sent(
    world: RemoteWorld, name: str, text: str, reason: str
) -> None:
    for number in range(6):  # more than the target needs to be blamed
        world.write(f"{number}{name}", text)
    await world.mirrored({"good.md": "good"})
    assert world.statuses() == {"failed": 6, "ready": 1}
    assert reason in items(world)[f"0{name}"].reason
    assert world.request_count("upload-url") == 0


async def test_unfetchable_page_fails_alone(world: RemoteWorld) -> None:
    for number in range(6):
        world.write(f"{number}.url", shortcut(f"{PAGE}/{number}"))
    world.play("failed-info", op="upload-url", times=6, args={"reason": "网页无法访问"})
    await world.once()
    assert world.statuses() == {"failed": 6}
    await linked(world)
    assert pages(world) == [PAGE]


@long
async def test_service_without_the_call_is_reported_and_other_files_are_sent(world: RemoteWorld) -> None:
    world.turn(not_offered=["upload-url"])
    for number in range(6):
        world.write(f"{number}.url", shortcut(f"{PAGE}/{number}"))
    await world.mirrored({"good.md": "good"})
    assert world.statuses() == {"failed": 6, "ready": 1}
    assert "URLs" in items(world)["0.url"].reason


@pytest.mark.parametrize("names", ["tagged", "plain"])
async def test_page_is_not_foreign_to_verify(world: RemoteWorld, names: str) -> None:
    world.settings = replace(world.settings, names=names)
    world.turn(page_names="title")
    await world.mirrored({"faq.url": shortcut(), "a.md": "text"})
    findings = await world.verify()
    assert (findings.ok, findings.foreign) == (True, 0)
