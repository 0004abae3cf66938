"""Tests that a service which never answers holds a search no longer than one silence."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from kbsync.contract.searching import Query
from kbsync.errors import Unavailable
from kbsync.targets.http import target as service_target
from kbsync.targets.http.connection import Timeouts
from kbsync.targets.registry import TARGETS
from tests.targets.blocks import block, target_context
from tests.targets.test_missing_calls import BASES


def test_search_may_take_as_long_as_one_silence() -> None:
    assert Timeouts().read == service_target.SEARCH_TIMEOUT


@pytest.mark.parametrize("service", BASES)
async def test_search_is_not_repeated_after_a_silence(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_target, "SEARCH_TIMEOUT", 0.3)
    sent = 0

    async def fall_silent(_request: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        await asyncio.sleep(0.2)
        raise httpx.ReadTimeout("")

    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    kind, setting, _, _ = BASES[service]
    settings = {"base_url": "https://kb.example", "api_key": "kid4711.secret", setting: "b1"}
    settings.pop("", None)
    config, transport = block(TARGETS[service], **settings), httpx.MockTransport(fall_silent)
    target: Any = kind(config, target_context(), sleep=at_once, transport=transport)
    with pytest.raises(Unavailable, match=r"^search: kb.example did not answer within 0.3 s$"):
        await target.search(Query("when does the office open"))
    assert sent == 2
    await target.aclose()
