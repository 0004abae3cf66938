"""Tests callbacks of services: accepted fast whatever they contain, never trusted, and limited in number."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from kbsync.config.secrets import Secret
from kbsync.server import callbacks
from kbsync.server.auth import AccessControl
from kbsync.server.callbacks import CallbackQueue, CallbackRoute
from tests.clocks import let_tasks_run
from tests.server.client import TOKEN, request

ID = "1734816157446680576"
SECRETS = {"faq": Secret("secret-of-faq"), "handbook": Secret("secret-of-handbook")}


def event(document: Any = ID, status: Any = 1, **fields: Any) -> bytes:
    payload = {
        "eventId": "knowledge_construction",
        "event": {"status": status, "msg": "", "documentId": document},
    }
    return json.dumps(payload | fields).encode()


class Called:
    """The route with its access check; records the callbacks."""

    def __init__(self) -> None:
        self.callbacks: list[tuple[str, str]] = []
        self.route = CallbackRoute(lambda *news: self.callbacks.append(news), SECRETS)
        self.door = AccessControl(Starlette(routes=[self.route.route()]), lambda: Secret(TOKEN))

    async def post(self, content: bytes, secret: str = "secret-of-handbook") -> httpx.Response:
        return await request(self.door, "POST", f"/callback/{secret}", content, host="kb.example")


@pytest.mark.parametrize("document", [ID, int(ID)])
@pytest.mark.parametrize("status", [0, 2, "1", None])
async def test_event_names_its_mirror_and_document_and_its_status_is_not_read(
    status: Any, document: Any
) -> None:
    called = Called()
    response = await called.post(event(document, status))
    assert (response.status_code, response.json()["code"]) == (200, 200)
    assert called.callbacks == [("handbook", ID)]


MALFORMED = [
    *(b"", b"{", b"\xff\xfe", b"[]", b"null", b"[" * 15_000, event()[:40]),
    event(eventId="something_else"),
    *(event(event=value) for value in (None, [ID])),
    *(event(document=document) for document in (None, True, [ID], "", "9" * 65, "知识")),
    event() + b" " * callbacks.MAX_BODY_BYTES,
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body[:30]))
async def test_non_event_gets_the_same_response_and_is_ignored(body: bytes) -> None:
    called = Called()
    response = await called.post(body)
    assert (response.status_code, response.json()["code"]) == (200, 200)
    assert called.callbacks == []


@pytest.mark.parametrize("secret", ["", "x", "secret-of-handboo", "secret-of-handbookx", TOKEN, "%00", "密"])
async def test_unknown_path_is_not_found(secret: str) -> None:
    called = Called()
    assert (await called.post(event(), secret)).status_code == 404
    assert (await request(called.door, "GET", "/callback/secret-of-faq")).status_code == 405
    assert called.callbacks == []


async def test_secrets_may_change_while_listening() -> None:
    called = Called()
    called.route.secrets = {"handbook": Secret("another")}
    assert (await called.post(event())).status_code == 404
    assert (await called.post(event(), "another")).status_code == 200


async def test_unfinished_body_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "PATIENCE", 0.0)
    called, responses = Called(), list[Any]()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        responses.append(message)

    scope = {"type": "http", "method": "POST", "path": "/callback/secret-of-faq"}
    await called.door({**scope, "headers": [], "query_string": b"", "root_path": ""}, receive, send)
    assert responses[0]["status"] == 200
    assert called.callbacks == []


# ---- forwarding


class Rounds:
    """A recipient of callbacks; each pause between two rounds ends when the test says so."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, set[str]]] = []
        self.pauses = asyncio.Semaphore(0)
        self.queue = CallbackQueue(asyncio.get_running_loop(), self._take, self._pause)

    async def _take(self, mirror: str, ids: Collection[str]) -> None:
        self.batches.append((mirror, set(ids)))

    async def _pause(self, _seconds: float) -> None:
        await self.pauses.acquire()

    async def next(self) -> None:
        self.pauses.release()
        await let_tasks_run()


@pytest.fixture
async def rounds() -> AsyncIterator[Rounds]:
    queue_rounds = Rounds()
    yield queue_rounds
    for _ in range(3):
        await queue_rounds.next()


async def test_flood_of_events_costs_one_round_at_a_time_in_bounded_memory(rounds: Rounds) -> None:
    rounds.queue.hear("handbook", ID)
    await let_tasks_run()
    for number in range(5000):
        rounds.queue.hear("handbook", str(number % 1500))
        rounds.queue.hear("faq", ID)
    await let_tasks_run()
    assert len(rounds.batches) == 1
    await rounds.next()
    assert [(mirror, len(ids)) for mirror, ids in rounds.batches[1:]] == [
        ("handbook", callbacks.MAX_WAITING),
        ("faq", 1),
    ]


async def test_event_is_forwarded_immediately_and_again_after_a_pause(rounds: Rounds) -> None:
    for number in range(3):
        rounds.queue.hear("handbook", str(number))
        await let_tasks_run()
        assert rounds.batches[number:] == [("handbook", {str(number)})]
        await rounds.next()
