"""Tests that only the service's documented words, confirmed by a second check, prove that a document is
gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kbsync.accounts.account import ApplicationRequest, BaseRequest, account_of
from kbsync.errors import TargetError
from tests.remote.world import RemoteWorld
from tests.share import enumerated

MISLEADING = [
    {"code": 500, "message": "系统找不到指定的资源，请联系管理员"},
    {"code": 500, "message": "文档不存在"},
    {"code": 404, "message": "知识不存在"},
    {"code": 400, "message": "文档不存在"},
    {"code": 400, "message": "找不到参数"},
    {"code": 10404, "message": "not found"},
]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path).serving() as world:
        await world.mirrored(6)
        world.clock.now += 10
        yield world


@enumerated()
@pytest.mark.parametrize("response", MISLEADING, ids=str)
async def test_failed_deletion_is_never_reported_as_done(
    world: RemoteWorld, response: dict[str, Any]
) -> None:
    """The service responds as if the document didn't exist, but still has it."""
    world.play("code-in-200", op="delete", effect=False, times=0, args=response)
    [document] = world.documents_of("f0.md")
    async with world.client() as target:
        [outcome] = (await target.delete([document["id"]])).values()
        assert isinstance(outcome, TargetError)
        world.server.faults.clear()
        assert await target.delete([document["id"]]) == {document["id"]: None}
    assert world.documents_of("f0.md") == []


@enumerated()
@pytest.mark.parametrize(
    "body", ["", {"error": "Not Found", "path": "/document/1"}], ids=["empty", "foreign"]
)
async def test_document_in_the_list_is_not_gone_whatever_two_calls_say(
    world: RemoteWorld, body: object
) -> None:
    """A gateway may lack both calls for single documents, and answer in JSON or without a body."""
    for op in ("delete", "detail"):
        world.play("status", op=op, effect=False, times=0, args={"status": 404, "body": body})
    [document] = world.documents_of("f0.md")
    async with world.client() as target:
        [outcome] = (await target.delete([document["id"]])).values()
        assert isinstance(outcome, TargetError)
        world.play("status", op="list", times=0, args={"status": 404})
        [outcome] = (await target.delete([document["id"]])).values()
        assert isinstance(outcome, TargetError)
        world.server.faults.clear()
        assert await target.delete([document["id"]]) == {document["id"]: None}
    assert world.documents_of("f0.md") == []


async def test_document_deleted_by_a_person_is_not_reported_gone_while_it_stays(world: RemoteWorld) -> None:
    async with world.client() as target:
        account = account_of(target)
        bases, applications, callbacks = account.bases, account.answers.applications, account.callbacks
        base = await bases.create(BaseRequest("second"))
        application = await applications.create(ApplicationRequest("helpdesk", bases=(base.id,)))
        await callbacks.set_url("https://events.example.org/kb", {})
        deeds: dict[str, tuple[str, Callable[[], Awaitable[None]]]] = {
            "delete-base": ("知识库不存在", lambda: bases.delete(base.id)),
            "delete-application": ("应用不存在", lambda: applications.delete(application.id)),
            "delete-callback": ("回调地址不存在", callbacks.remove),
        }
        for op, (message, deed) in deeds.items():
            world.play("code-in-200", op=op, effect=False, args={"code": 400, "message": message})
            with pytest.raises(TargetError):
                await deed()
        assert (await bases.get(base.id)).id == base.id
        assert (await applications.get(application.id)).id == application.id
        assert await callbacks.get() is not None


@enumerated()
@pytest.mark.parametrize("form", ["404", "code", "null"])
async def test_document_deleted_by_others_is_done_immediately(world: RemoteWorld, form: str) -> None:
    world.turn(unknown_delete=form, deleted_detail=form)
    world.lose("f0.md")
    (world.root / "f0.md").unlink()
    world.clock.now += 10
    await world.once()
    assert world.request_count("delete") == 1
    assert (await world.verify()).ok
