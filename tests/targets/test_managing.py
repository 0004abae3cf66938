"""Tests that knowledge bases count as changed only when the service's response says so (promise 10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kbsync.accounts.account import BaseRequest, account_of
from kbsync.errors import Halted, Unavailable, Unsure
from tests.services.rows import ROWS
from tests.share import enumerated

OPS = {
    "zhipu": ("create-base", "edit-base", "delete-base"),
    "openai": ("create-base", "update-base", "delete-base"),
    "openwebui": ("create-base", "update-base", "delete-base"),
    "dify": ("create-base", "edit-base", "delete-base"),
    "ragflow": ("create-base", "edit-base", "delete-base"),
}
"""The calls that create, change and delete a base."""


@enumerated()
@pytest.mark.parametrize("body", [{}, {"id": "another"}], ids=["empty", "another base"])
@pytest.mark.parametrize("service", OPS)
async def test_base_is_changed_only_when_the_response_confirms_it(
    service: str, body: dict[str, Any], tmp_path: Path
) -> None:
    """Others, such as a gateway, may answer 200, too."""
    create, change, delete = OPS[service]
    async with ROWS[service].world(tmp_path).serving() as world, world.client() as target:
        bases = account_of(target).bases
        assert bases is not None

        def answer(op: str) -> None:
            world.play("status", op=op, times=0, effect=False, args={"status": 200, "body": body})

        base = await bases.create(BaseRequest("Guides"))
        answer(change)
        with pytest.raises(Unavailable):
            await bases.update(base.id, BaseRequest("Others"))
        answer(delete)
        with pytest.raises(Unavailable):
            await bases.delete(base.id)
        if not body:
            answer(create)
            with pytest.raises(Unsure):
                await bases.create(BaseRequest("More"))


@enumerated()
@pytest.mark.parametrize("service", ["openai", "openwebui", "dify", "zhipu"])
async def test_response_about_another_base_does_not_count(service: str, tmp_path: Path) -> None:
    """The mirror would follow the other base, and upload every file again."""
    async with ROWS[service].world(tmp_path).serving() as world, world.client() as target:
        another = {"id": "another"}
        body = {"code": 200, "data": another} if service == "zhipu" else another
        world.play("status", op="base", times=0, effect=False, args={"status": 200, "body": body})
        with pytest.raises(Unavailable):
            await target.base()


@enumerated()
@pytest.mark.parametrize("service", OPS)
async def test_only_the_configured_base_blames_the_config_if_missing(service: str, tmp_path: Path) -> None:
    async with ROWS[service].world(tmp_path).serving() as world, world.client() as target:
        bases = account_of(target).bases
        assert bases is not None
        with pytest.raises(Halted, match="kb list") as caught:
            await bases.get("00000000-0000-4000-8000-000000000000")
        assert "config" not in caught.value.reason
