"""How many requests go at a time, what a target that says "too many" or nothing at all changes."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

import httpx
import pytest

from kbsync.errors import Halted, TargetError, Unavailable, Unsure
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import SLOW_LINE, Timeouts
from kbsync.targets.http.errors import HttpAnswer
from tests.clocks import Clock, settled
from tests.targets.bodies import BytesBody
from tests.targets.http.bodies import part
from tests.targets.http.clients import client
from tests.targets.http.servers import Reader, Writer, answer, answering, seen, serving


class Busy:
    """A target that counts how many requests it has at once; each takes a few turns of the loop."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(self.all % 7):
                await asyncio.sleep(0)
            return httpx.Response(200, json={"code": 200})
        finally:
            self.now -= 1


@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_never_more_requests_are_in_flight_than_allowed(concurrency: int) -> None:
    busy = Busy()
    transport = httpx.MockTransport(busy)
    async with client("http://kb", transport=transport, concurrency=concurrency) as http:
        calls = [http.ask("list", "GET", "/") for _ in range(40)]
        sends = [http.send("upload", "/", fields={}, file=part()) for _ in range(40)]
        await asyncio.gather(*calls, *sends)
        assert (busy.all, busy.most) == (80, concurrency)
        assert http.gate.in_flight == 0


async def test_never_more_connections_are_open_than_requests_allowed() -> None:
    now = most = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            while True:
                await seen(reader)
                await asyncio.sleep(0)
                writer.write(answer())
                await writer.drain()
        finally:
            now -= 1

    async with serving(script) as server, client(server.url, concurrency=4) as http:
        await asyncio.gather(*[http.send("upload", "/", fields={}, file=part()) for _ in range(60)])
    assert most == 4


async def test_a_call_that_is_cancelled_lets_go_of_its_slot_and_its_file() -> None:
    arrived = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        await reader.read(10)
        arrived.set()
        await asyncio.sleep(60)

    body = BytesBody(bytes(3_000_000))
    async with serving(script) as server, client(server.url, concurrency=1) as http:
        sending = asyncio.create_task(http.send("upload", "/", fields={}, file=part(body)))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert http.gate.in_flight == 0
        assert body.is_let_go
        assert http.meter.total == 0


async def test_cancelling_at_any_moment_leaves_every_slot_and_connection_usable() -> None:
    chance = random.Random(5)
    async with answering(answer()) as server, client(server.url, concurrency=3) as http:
        for _ in range(150):
            tasks = [asyncio.create_task(http.send("upload", "/", fields={}, file=part())) for _ in range(5)]
            for task in tasks:
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert http.gate.in_flight == 0
        await asyncio.gather(*[http.ask("list", "GET", "/") for _ in range(6)])


def slow_for(times: int, status: int = 429, code: int = 0) -> httpx.MockTransport:
    """Answers so many requests with a limit, and all after them well."""
    left = times

    def answered(_request: httpx.Request) -> httpx.Response:
        nonlocal left
        left -= 1
        return httpx.Response(status if left >= 0 else 200, json={"code": code if left >= 0 else 200})

    return httpx.MockTransport(answered)


def by_code(answered: HttpAnswer) -> TargetError | None:
    assert isinstance(answered.body, dict)
    code = str(answered.body["code"])
    match code:
        case "200":
            return None
        case "1113":
            return Halted("quota", "no money", code=code)
    return Unavailable("too many", code=code)


async def outcome(http: Client) -> TargetError | None:
    try:
        await http.send("upload", "/", fields={}, file=part())
    except TargetError as error:
        return error
    return None


@pytest.mark.parametrize(("status", "code"), [(429, 0), (200, 1302)])
async def test_a_limit_of_the_target_halves_ours_and_makes_the_next_wait(status: int, code: int) -> None:
    clock = Clock(1000.0)
    settings = {"steady": clock, "sleep": clock.sleep, "judge": by_code}
    async with client(
        "http://kb",
        transport=slow_for(1, status, code),
        concurrency=8,
        slow_codes=frozenset({"1302"}),
        **settings,
    ) as http:
        assert isinstance(await outcome(http), Unavailable)
        assert http.gate.limit == 4
        assert await outcome(http) is None
        assert clock.slept == pytest.approx([1.0])


async def test_an_empty_account_is_no_limit_though_its_status_is_the_same() -> None:
    async with client("http://kb", transport=slow_for(1, 429, 1113), judge=by_code, concurrency=8) as http:
        assert isinstance(await outcome(http), Halted)
        assert http.gate.limit == 8


async def test_a_target_that_is_down_is_left_alone_and_probed_by_one_call() -> None:
    clock, calls = Clock(1000.0), 0

    def down(_request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        raise httpx.ConnectTimeout("t")

    settings = {"steady": clock, "sleep": clock.sleep}
    async with client("http://kb.example", transport=httpx.MockTransport(down), **settings) as http:
        for _ in range(5):
            await outcome(http)
        refused = await outcome(http)
        assert calls == 5
        assert isinstance(refused, Unavailable)
        assert refused.retry_after == pytest.approx(1.0)
        assert refused.reason == (
            "upload: the target is left alone for 1 s after: "
            "upload: kb.example did not take a connection within 5 s"
        )
        assert http.meter.total == 5
        clock.now += 1.0
        probes = await asyncio.gather(*[outcome(http) for _ in range(6)])
        assert calls == 6
        assert all(isinstance(probe, Unavailable) for probe in probes)


async def test_a_look_does_not_go_on_trying_once_the_target_is_left_alone() -> None:
    clock = Clock(1000.0)
    async with answering(answer(503)) as server:
        async with client(server.url, steady=clock) as http:
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await http.ask("list", "GET", "/")
        assert len(server.seen) == 5


@pytest.mark.parametrize("sign_of_life", [answer(200), answer(404), answer(429), answer(401), answer(422)])
async def test_any_sensible_answer_shows_that_the_target_is_up(sign_of_life: bytes) -> None:
    clock = Clock(1000.0)
    bad = answer(502, b"<html>")
    answers = [bad] * 4 + [sign_of_life] + [bad] * 4
    settings = {"steady": clock, "sleep": clock.sleep}
    async with answering(*answers) as server, client(server.url, **settings) as http:
        for _ in answers:
            await outcome(http)
        assert http.breaker.rest is None


async def test_pages_where_json_is_due_are_signs_of_a_target_that_is_down() -> None:
    async with answering(answer(200, b" <html>Under maintenance")) as server, client(server.url) as http:
        for _ in range(5):
            assert isinstance(await outcome(http), Unsure)
        assert http.breaker.rest is not None


async def test_a_document_that_cannot_be_read_says_nothing_of_the_target() -> None:
    async with answering(answer()) as server, client(server.url) as http:
        for _ in range(8):
            with suppress(TargetError):
                await http.send("upload", "/", fields={}, file=part(BytesBody(b"a", says=2)))
        assert http.breaker.rest is None


async def test_a_probe_that_was_cancelled_does_not_close_the_way_for_ever() -> None:
    clock, is_down = Clock(1000.0), True

    async def play(_request: httpx.Request) -> httpx.Response:
        if is_down:
            raise httpx.ConnectError("no")
        await asyncio.sleep(60)
        return httpx.Response(200, json={})

    settings = {"steady": clock, "sleep": clock.sleep}
    async with client("http://kb", transport=httpx.MockTransport(play), **settings) as http:
        for _ in range(5):
            await outcome(http)
        clock.now += 1.0
        is_down = False
        probe = asyncio.create_task(outcome(http))
        await settled()
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert http.breaker.rest is None


async def test_uploads_together_keep_to_the_bytes_a_second_we_allow() -> None:
    clock = Clock(1000.0)
    settings = {"steady": clock, "sleep": clock.sleep, "concurrency": 4}
    async with (
        answering(answer()) as server,
        client(server.url, upload_bytes_per_second=100_000, **settings) as http,
    ):
        sends = [http.send("upload", "/", fields={}, file=part(BytesBody(bytes(100_000)))) for _ in range(4)]
        await asyncio.gather(*sends)
        assert http.meter.sent_bytes > 400_000
        assert len(server.seen) == 4
    assert clock.now - 1000.0 >= 3.5


async def test_waiting_for_our_own_limit_is_not_held_against_the_target() -> None:
    slow = {"upload_bytes_per_second": 10_000, "sleep": asyncio.sleep, "timeouts": Timeouts(whole=0.3)}
    begun = time.monotonic()
    async with answering(answer()) as server, client(server.url, **slow) as http:
        sent = await http.send("upload", "/", fields={}, file=part(BytesBody(bytes(8_000))))
    assert sent.status == 200
    assert time.monotonic() - begun > 0.3 + 8_000 / SLOW_LINE


async def test_another_path_of_the_host_has_the_same_gate_and_meter_and_a_judge_of_its_own() -> None:
    asked: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(503, json={})

    async with client("http://kb/api/open", transport=httpx.MockTransport(respond)) as http:
        other = http.at("http://kb/api", lambda _answer: None)
        assert (await other.post("chat", "/chat", json={})).status == 503
        with pytest.raises(Unsure):
            await http.post("upload", "/upload", json={})
        assert asked == ["http://kb/api/chat", "http://kb/api/open/upload"]
        assert (other.meter, other.gate, other.breaker) == (http.meter, http.gate, http.breaker)


async def test_an_unhurried_client_waits_before_every_try_and_hurries_nobody_else() -> None:
    events: list[str] = []

    async def pace() -> None:
        events.append("pace")

    def respond(request: httpx.Request) -> httpx.Response:
        events.append(request.url.path)
        return httpx.Response(503 if len(events) < 4 else 200, json={"code": 200})

    async with client("http://kb", transport=httpx.MockTransport(respond)) as http:
        slow = http.unhurried(pace)
        await slow.ask("list", "GET", "/slow")
        await http.ask("list", "GET", "/other")
        assert events == ["pace", "/slow", "pace", "/slow", "/other"]
        [_ async for _ in slow.read("http://files/read", most=100)]
        assert events[-2:] == ["pace", "/read"]
        assert slow.meter is http.meter
