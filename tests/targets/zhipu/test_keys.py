"""Tests authentication by the key, or by tokens signed with it, which the stand-in verifies itself."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from kbsync.errors import Halted
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from kbsync.targets.zhipu.target import ZhipuTarget, sign_token
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from kbsync_standin.zhipu import HOME_ID, application
from tests.targets.blocks import block, target_context

KEY = "id.secret-for-tests"


class KeyRecorder(httpx.AsyncHTTPTransport):
    """The real connection to the server, which records the keys sent."""

    def __init__(self) -> None:
        super().__init__(verify=False)
        self.keys: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers["authorization"].removeprefix("Bearer "))
        return await super().handle_async_request(request)


class SignedCalls:
    """A stand-in, and a target that signs."""

    def __init__(self) -> None:
        self.app: Any = application(KEY)
        self.server = Server(self.app)
        self.recorder = KeyRecorder()

    def open(self, key: str = KEY, auth: str = "jwt") -> ZhipuTarget:
        settings = {
            "base_url": f"{self.server.url}/api",
            "api_key": key,
            "knowledge_id": HOME_ID,
            "auth": auth,
        }
        return ZhipuTarget(
            block(ZhipuTargetConfig, **settings),
            target_context(),
            wall=self.app.clock.now,
            sleep=self.sleep,
            transport=self.recorder,
        )

    async def sleep(self, seconds: float) -> None:
        self.server.advance(seconds)

    def refuse(self, code: int, times: int = 1, **fields: Any) -> None:
        self.server.faults.add(Fault("unauthorized", times=times, args={"code": code}, **fields))


@pytest.fixture
async def calls() -> AsyncIterator[SignedCalls]:
    signed = SignedCalls()
    await signed.server.start()
    yield signed
    await signed.recorder.aclose()
    await signed.server.stop()
    assert signed.app.violations == []


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


async def test_secret_is_never_sent_and_no_token_expires(calls: SignedCalls) -> None:
    target = calls.open()
    for _ in range(20):
        await target.base()
        calls.server.advance(40)
    assert len(calls.recorder.keys) == 20  # none was refused and sent again
    assert not any("secret-for-tests" in key for key in calls.recorder.keys)
    claims_before = claims(calls.recorder.keys[0])
    assert claims_before["api_key"] == "id"
    assert claims_before["exp"] - claims_before["timestamp"] == 210_000


def test_token_is_signed_as_the_standard_requires() -> None:
    """Computed with another tool: `openssl dgst -sha256 -hmac secret`."""
    assert sign_token("id", "secret", 1_700_000_000.0) == (
        "eyJhbGciOiJIUzI1NiIsInNpZ25fdHlwZSI6IlNJR04ifQ."
        "eyJhcGlfa2V5IjoiaWQiLCJleHAiOjE3MDAwMDAyMTAwMDAsInRpbWVzdGFtcCI6MTcwMDAwMDAwMDAwMH0."
        "Xjns2eQt8BsB1yBBbjM8cgnyDmOYDwlMrIZg1Xr1sOU"
    )


async def test_token_reported_expired_is_renewed_once(calls: SignedCalls) -> None:
    target = calls.open()
    calls.refuse(1003)
    await target.base()
    assert len(set(calls.recorder.keys)) == 2
    calls.server.advance(1)
    calls.refuse(1003, times=0)
    with pytest.raises(Halted, match="expired") as caught:
        await target.base()
    assert caught.value.halt == "credentials"
    assert len(calls.recorder.keys) == 4


async def test_requests_refused_together_for_an_expired_token_are_all_sent_again(calls: SignedCalls) -> None:
    target = calls.open()
    calls.refuse(1003, times=3)
    await asyncio.gather(*(target.base() for _ in range(3)))
    assert len(calls.recorder.keys) == 6


@pytest.mark.parametrize(
    ("skew", "sentence"),
    [
        (7_200, "this machine's clock is 2 h behind the service's"),
        (240, "this machine's clock is 4 min behind the service's"),
        (-3_600, "this machine's clock is 60 min ahead of the service's"),
    ],
)
async def test_clock_difference_is_reported(calls: SignedCalls, skew: float, sentence: str) -> None:
    """The refusal has no `timestamp`; its `Date` shows the time."""
    calls.app.set_behaviour({"clock_skew": skew})
    with pytest.raises(Halted) as caught:
        await calls.open().base()
    assert sentence in caught.value.reason
    await calls.open(auth="key").base()


async def test_small_clock_difference_is_harmless(calls: SignedCalls) -> None:
    target = calls.open()
    for skew in (150, -250):
        calls.app.set_behaviour({"clock_skew": skew})
        for _ in range(9):
            await target.base()
            calls.server.advance(30)
