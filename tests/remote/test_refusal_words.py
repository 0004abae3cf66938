"""Tests that similar refusals (busy, out of money, full, forbidden) are told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.remote.world import sha_of_folder
from tests.services.rows import ROWS


async def after_refusals(
    tmp_path: Path, service: str, op: str, times: int, status: int, body: dict[str, Any]
) -> tuple[str, dict[str, int], bool]:
    """Return why the mirror is halted, the states of its two files, and whether folder and base are equal."""
    async with ROWS[service].world(tmp_path).serving() as world:
        world.write_many(2)
        world.play("status", op=op, times=times, effect=False, args={"status": status, "body": body})
        await world.once()
        return world.halted, world.statuses(), world.bytes_by_path() == sha_of_folder(world)


@pytest.mark.parametrize(
    ("service", "op", "status", "body"),
    [
        ("zhipu", "upload", 200, {"code": 400, "message": "请求过于频繁，超出限制，请稍后再试"}),
        ("zhipu", "upload", 200, {"code": 1306, "message": "上传数量超出每分钟上限"}),
        ("gptbots", "add", 200, {"code": 40399, "message": "quota of requests per minute exceeded"}),
        ("openai", "upload", 400, {"error": {"message": "Too many requests, the limit is exceeded"}}),
    ],
)
async def test_busy_service_blames_no_document_and_is_retried(
    tmp_path: Path, service: str, op: str, status: int, body: dict[str, Any]
) -> None:
    assert await after_refusals(tmp_path, service, op, 3, status, body) == ("", {"ready": 2}, True)


@pytest.mark.parametrize(
    ("service", "op", "status", "body"),
    [
        ("zhipu", "upload", 429, {"code": 429, "message": "余额不足"}),
        ("gptbots", "add", 429, {"code": 429, "message": "insufficient credits"}),
        ("openai", "upload", 429, {"error": {"message": "You exceeded your current quota"}}),
        ("openai", "upload", 400, {"error": {"message": "The project has exceeded its file storage quota"}}),
        ("openai", "attach", 400, {"error": {"message": "It has reached the maximum number of files"}}),
    ],
)
async def test_account_without_money_or_capacity_halts_and_blames_no_document(
    tmp_path: Path, service: str, op: str, status: int, body: dict[str, Any]
) -> None:
    assert await after_refusals(tmp_path, service, op, 0, status, body) == ("quota", {"pending": 2}, False)


@pytest.mark.parametrize(("service", "op", "code"), [("gptbots", "add", 40301), ("zhipu", "upload", 400)])
async def test_permission_messages_are_not_read_as_lack_of_money(
    tmp_path: Path, service: str, op: str, code: int
) -> None:
    body = {"code": code, "message": "Insufficient permission for this knowledge base"}
    assert await after_refusals(tmp_path, service, op, 0, 200, body) == ("credentials", {"pending": 2}, False)
