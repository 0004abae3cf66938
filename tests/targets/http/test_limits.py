"""Tests the number of requests in flight, and how a target's "too many" or silence changes it."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing, suppress

import httpx
import pytest

from kbsync.errors import Halted, NotOffered, TargetError, Unavailable, Unsure
from kbsync.targets.http import client as clients
from kbsync.targets.http.client import DATE_RESOLUTION, Client, ClockSkew
from kbsync.targets.http.connection import SLOW_LINE, Timeouts
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.limits import (
    CONFIRMATION_INTERVAL,
    MISSING_CALL_SECONDS,
    Account,
    Breaker,
    Gate,
    MissingCalls,
    Pace,
)
from tests.clocks import Clock, let_tasks_run, skip
from tests.share import long
from tests.targets.bodies import BytesBody
from tests.targets.http.clients import client, part
from tests.targets.http.servers import answering, response_bytes


class Busy:
    """A target that counts simultaneous requests; each takes a few turns of the loop."""

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
async def test_requests_in_flight_never_exceed_the_limit(concurrency: int) -> None:
    busy = Busy()
    transport = httpx.MockTransport(busy)
    async with client("http://kb", transport=transport, concurrency=concurrency) as http:
        calls = [http.request("list", "GET", "/") for _ in range(40)]
        sends = [http.post_form("upload", "/", fields={}, file=part()) for _ in range(40)]
        await asyncio.gather(*calls, *sends)
        assert (busy.all, busy.most) == (80, concurrency)
        assert http.gate.in_flight == 0


@long
async def test_cancellation_at_any_moment_leaves_slots_connections_and_files_usable() -> None:
    chance, bodies = random.Random(5), [BytesBody(b"some text") for _ in range(5)]
    async with answering(response_bytes()) as server, client(server.url, concurrency=3) as http:
        for _ in range(150):
            sends = (http.post_form("upload", "/", fields={}, file=part(body)) for body in bodies)
            tasks = [asyncio.create_task(send) for send in sends]
            for task in tasks:
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert http.gate.in_flight == 0
        assert all(body.is_let_go for body in bodies)
        await asyncio.gather(*[http.request("list", "GET", "/") for _ in range(6)])


def slow_once(status: int = 429, code: int = 0) -> httpx.MockTransport:
    """Refuse the first request with a rate limit, then accept all."""
    refusals = [httpx.Response(status, json={"code": code})]

    def respond(_request: httpx.Request) -> httpx.Response:
        return refusals.pop() if refusals else httpx.Response(200, json={"code": 200})

    return httpx.MockTransport(respond)


def by_code(response: HttpResponse) -> TargetError | None:
    assert isinstance(response.body, dict)
    code = str(response.body["code"])
    match code:
        case "200":
            return None
        case "1113":
            return Halted("quota", "no money", code=code)
    return Unavailable("too many", code=code, is_rate_limit=code == "1302")


async def outcome(http: Client) -> TargetError | None:
    try:
        await http.post_form("upload", "/", fields={}, file=part())
    except TargetError as error:
        return error
    return None


@pytest.mark.parametrize(("status", "code"), [(429, 0), (200, 1302)])
async def test_rate_limit_response_halves_our_limit_and_delays_the_next_call(
    clock: Clock, status: int, code: int
) -> None:
    settings = {"steady": clock, "sleep": clock.sleep, "classify_response": by_code}
    async with client("http://kb", transport=slow_once(status, code), concurrency=8, **settings) as http:
        assert isinstance(await outcome(http), Unavailable)
        assert http.gate.limit == 4
        assert await outcome(http) is None
        assert clock.slept == pytest.approx([1.0])


async def test_exhausted_account_is_not_a_rate_limit_despite_equal_status() -> None:
    async with client(
        "http://kb", transport=slow_once(429, 1113), classify_response=by_code, concurrency=8
    ) as http:
        assert isinstance(await outcome(http), Halted)
        assert http.gate.limit == 8


async def test_unreachable_target_is_left_alone_and_probed_by_one_call() -> None:
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
        assert refused.untried
        assert refused.reason == "upload: kb.example did not accept a connection within 5 s"
        assert http.meter.total == 5
        clock.now += 1.0
        probes = await asyncio.gather(*[outcome(http) for _ in range(6)])
        assert calls == 6
        assert all(isinstance(probe, Unavailable) for probe in probes)


async def test_read_request_stops_retrying_once_the_breaker_opens(clock: Clock) -> None:
    async with answering(response_bytes(503)) as server:
        async with client(server.url, steady=clock) as http:
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await http.request("list", "GET", "/")
        assert len(server.requests) == 5


@pytest.mark.parametrize(
    "sign_of_life",
    [response_bytes(200), response_bytes(404), response_bytes(429), response_bytes(401), response_bytes(422)],
)
async def test_any_meaningful_response_shows_that_the_target_is_up(clock: Clock, sign_of_life: bytes) -> None:
    bad = response_bytes(502, b"<html>")
    responses = [bad] * 4 + [sign_of_life] + [bad] * 4
    settings = {"steady": clock, "sleep": clock.sleep}
    async with answering(*responses) as server, client(server.url, **settings) as http:
        for _ in responses:
            await outcome(http)
        assert http.breaker.rest is None


async def test_html_instead_of_json_counts_as_an_outage() -> None:
    async with (
        answering(response_bytes(200, b" <html>Under maintenance")) as server,
        client(server.url) as http,
    ):
        for _ in range(5):
            assert isinstance(await outcome(http), Unsure)
        assert http.breaker.rest is not None


async def test_unreadable_document_says_nothing_about_the_target() -> None:
    async with answering(response_bytes()) as server, client(server.url) as http:
        for _ in range(8):
            with suppress(TargetError):
                await http.post_form("upload", "/", fields={}, file=part(BytesBody(b"a", claimed_size=2)))
        assert http.breaker.rest is None


async def test_cancelled_probe_does_not_block_later_ones() -> None:
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
        await let_tasks_run()
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert http.breaker.rest is None


async def test_concurrent_uploads_share_the_bandwidth_limit(clock: Clock) -> None:
    settings = {"steady": clock, "sleep": clock.sleep, "concurrency": 4}
    async with (
        answering(response_bytes()) as server,
        client(server.url, upload_bytes_per_second=100_000, **settings) as http,
    ):
        sends = [
            http.post_form("upload", "/", fields={}, file=part(BytesBody(bytes(100_000)))) for _ in range(4)
        ]
        await asyncio.gather(*sends)
        assert http.meter.sent_bytes > 400_000
        assert len(server.requests) == 4
    assert clock.now - 1000.0 >= 3.5


@long
async def test_waiting_for_our_own_limit_does_not_count_against_the_target() -> None:
    slow = {"upload_bytes_per_second": 10_000, "sleep": asyncio.sleep, "timeouts": Timeouts(whole=0.3)}
    started_at = time.monotonic()
    async with answering(response_bytes()) as server, client(server.url, **slow) as http:
        sent = await http.post_form("upload", "/", fields={}, file=part(BytesBody(bytes(8_000))))
    assert sent.status == 200
    assert time.monotonic() - started_at > 0.3 + 8_000 / SLOW_LINE


async def test_another_path_of_the_host_shares_gate_and_meter_but_not_the_classifier() -> None:
    requests: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(str(request.url))
        return httpx.Response(503, json={})

    async with client("http://kb/api/open", transport=httpx.MockTransport(respond)) as http:
        other = http.with_base_url("http://kb/api", lambda _response: None)
        assert (await other.post("chat", "/chat", json={})).status == 503
        with pytest.raises(Unsure):
            await http.post("upload", "/upload", json={})
        assert requests == ["http://kb/api/chat", "http://kb/api/open/upload"]
        assert (other.meter, other.gate, other.breaker) == (http.meter, http.gate, http.breaker)


async def test_background_upload_waits_before_its_file_is_read() -> None:
    """The suite tests the same for a target's requests."""
    paces: list[float] = []

    async def pace() -> None:
        paces.append(0.0)

    async with answering(response_bytes()) as server, client("http://kb") as http:
        for sender, waits in ((http, 0), (http.with_pace(pace), 1)):
            await sender.digest_at(server.url, limit=100)
            assert len(paces) == waits


# ---- the gate alone


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


def gate(clock: Clock, concurrency: int = 4, per_minute: int = 0) -> Gate:
    return Gate(concurrency, per_minute, clock, clock.sleep)


async def test_waiting_calls_are_served_first_come_first_served(clock: Clock) -> None:
    the_gate, order = gate(clock, 1), []

    async def caller(number: int) -> None:
        await the_gate.enter()
        order.append(number)
        await asyncio.sleep(0)
        the_gate.leave()

    await asyncio.gather(*[caller(number) for number in range(20)])
    assert order == list(range(20))


async def test_rate_limit_halves_once_per_burst_and_never_below_one(clock: Clock) -> None:
    the_gate = gate(clock, 8)
    bursts = [await the_gate.enter() for _ in range(8)]
    for burst in bursts:
        the_gate.slow_down(burst, None)
        the_gate.leave()
    assert the_gate.limit == 4
    for expected in (2, 1, 1):
        the_gate.slow_down(await the_gate.enter(), None)
        the_gate.leave()
        assert the_gate.limit == expected


async def test_longer_retry_after_within_a_burst_counts(clock: Clock) -> None:
    the_gate = gate(clock)
    first, second = await the_gate.enter(), await the_gate.enter()
    the_gate.slow_down(first, 1.0)
    the_gate.slow_down(second, 9.0)
    assert the_gate.limit == 2
    the_gate.leave()
    await the_gate.enter()
    assert sum(clock.slept) == pytest.approx(9.0)


async def test_own_delays_grow_to_half_a_minute_until_success(clock: Clock) -> None:
    the_gate = gate(clock)
    for _ in range(7):
        burst = await the_gate.enter()
        the_gate.leave()
        the_gate.slow_down(burst, None)
    burst = await the_gate.enter()
    assert clock.slept == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    the_gate.succeeded(burst)
    the_gate.slow_down(burst, 0.0)
    the_gate.leave()
    await the_gate.enter()
    assert clock.slept[-1] == pytest.approx(1.0)


async def test_limit_rises_by_one_after_four_rounds_up_to_its_start(clock: Clock) -> None:
    the_gate = gate(clock, 4)
    old = await the_gate.enter()
    the_gate.slow_down(old, None)
    the_gate.leave()
    burst = await the_gate.enter()
    the_gate.succeeded(old)
    for _ in range(7):
        the_gate.succeeded(burst)
    assert the_gate.limit == 2
    the_gate.succeeded(burst)
    assert the_gate.limit == 3
    for _ in range(100):
        the_gate.succeeded(burst)
    assert the_gate.limit == 4


async def test_lowered_limit_holds_with_many_requests_in_flight(clock: Clock) -> None:
    the_gate = gate(clock, 4)
    bursts = [await the_gate.enter() for _ in range(4)]
    the_gate.slow_down(bursts[0], 1.0)
    next_one = asyncio.create_task(the_gate.enter())
    for _ in range(2):
        the_gate.leave()
        await let_tasks_run()
        assert not next_one.done()
    the_gate.leave()
    await next_one
    assert the_gate.in_flight == 2


@pytest.mark.parametrize("per_minute", [1, 2, 10, 30, 60, 100, 600])
async def test_requests_are_spaced_and_bounded_in_any_minute(clock: Clock, per_minute: int) -> None:
    the_gate, starts = gate(clock, 1000, per_minute), []
    for _ in range(3 * per_minute + 5):
        await the_gate.enter()
        starts.append(clock.now)
        the_gate.leave()
    for first, beyond in zip(starts, starts[per_minute:], strict=False):
        assert beyond - first >= 60.0 - 1e-6
    at_once = sum(start == starts[0] for start in starts)
    assert at_once <= 5
    assert starts[-1] - starts[0] < 60.0 * 3.7 + 60.0 * 5 / per_minute


async def test_nothing_waits_without_a_limit(clock: Clock) -> None:
    pace = Pace(0, clock)
    assert [pace.claim(10**9), pace.claim(10**9)] == [0.0, 0.0]
    assert pace.chunk(65536) == 65536
    assert Pace(10_000, clock).chunk(65536) == 2500


async def test_interactive_command_starts_immediately(clock: Clock) -> None:
    the_gate = Gate(4, 1, clock, clock.sleep, is_first=True)
    await the_gate.enter()
    assert clock.slept == []


async def test_retry_after_is_respected_by_all_users_of_the_account(clock: Clock) -> None:
    account = Account(clock)
    first, second = (Gate(8, 0, clock, clock.sleep, account=account) for _ in range(2))
    first.slow_down(await first.enter(), 7.0)
    await second.enter()
    assert clock.slept == pytest.approx([7.0])
    assert (first.limit, second.limit) == (4, 8)


# ---- the breaker alone


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.rest is None
        breaker.failed(breaker.begin(), "it is down")


def test_delays_double_up_to_a_minute_and_restart_after_a_success(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    pauses = []
    for _ in range(8):
        assert breaker.rest is not None
        pauses.append(breaker.rest)
        clock.now += breaker.rest
        fail(breaker, 1)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    breaker.succeeded()
    fail(breaker, 5)
    assert breaker.rest == pytest.approx(1.0)


def test_calls_already_in_flight_do_not_extend_the_delay(breaker: Breaker, clock: Clock) -> None:
    under_way = [breaker.begin() for _ in range(16)]
    fail(breaker, 5)
    clock.now += 0.75
    for call in under_way:
        breaker.failed(call, "it is down")
    assert breaker.rest == pytest.approx(0.25)


@pytest.mark.parametrize("ending", ["failed", "withdrawn"])
def test_call_from_before_the_breaker_opened_does_not_end_a_probe(
    breaker: Breaker, clock: Clock, ending: str
) -> None:
    old = breaker.begin()
    fail(breaker, 5)
    clock.now += 1.1
    assert breaker.rest is None
    probe = breaker.begin()
    if ending == "failed":
        breaker.failed(old, "it timed out")
    else:
        breaker.withdraw(old)
    assert breaker.rest == pytest.approx(1.0)  # the probe is still awaited, and the pause is no longer
    breaker.failed(probe, "it is down")
    assert breaker.rest == pytest.approx(2.0)


def test_earlier_call_is_ignored_once_the_target_responded(breaker: Breaker, clock: Clock) -> None:
    old = [breaker.begin() for _ in range(9)]
    fail(breaker, 5)
    clock.now += 1.1
    breaker.begin()
    breaker.succeeded()
    for call in old:
        breaker.failed(call, "it timed out")
    assert breaker.rest is None


def test_long_probe_does_not_prevent_other_probes(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 1.0
    slow = breaker.begin()
    clock.now += 9.9
    assert breaker.rest is not None
    clock.now += 0.2
    assert breaker.rest is None
    breaker.begin()
    breaker.withdraw(slow)
    assert breaker.rest is not None


async def hanging(_request: httpx.Request) -> httpx.Response:
    await asyncio.sleep(60)
    return httpx.Response(200, json={})


async def test_caller_does_not_wait_for_a_longer_pause_than_its_limit(clock: Clock) -> None:
    settings = {"transport": httpx.MockTransport(hanging), "steady": clock, "sleep": clock.sleep}
    async with client("http://kb", **settings) as http:
        http.gate.slow_down(0, 60.0)
        with pytest.raises(Unavailable, match="must wait 60 s") as caught:
            async with http.time_limit("search", 5.0):
                pytest.fail("the request would wait")
    assert caught.value.untried and caught.value.retry_after == 60.0


async def test_callers_wait_for_a_hanging_target_only_a_few_times() -> None:
    request_count = 0

    async def hang(request: httpx.Request) -> httpx.Response:
        nonlocal request_count
        request_count += 1
        skip(5.0)
        return await hanging(request)

    async with client("http://kb", transport=httpx.MockTransport(hang), steady=Clock(1000.0)) as http:
        reasons = []
        for _ in range(8):
            with pytest.raises(Unavailable) as caught:
                async with http.time_limit("search", 5.0):
                    await http.request("search", "POST", "/search", json={})
            reasons.append(caught.value.reason)
    assert request_count == 5
    assert reasons == ["search: kb did not answer within 5 s"] * 8


async def test_call_to_a_target_that_is_down_does_not_wait_for_a_slot() -> None:
    hang = httpx.MockTransport(hanging)
    async with client("http://kb", transport=hang, steady=Clock(1000.0), concurrency=1) as http:
        upload = asyncio.create_task(outcome(http))
        await let_tasks_run()
        for _ in range(5):
            http.breaker.failed(http.breaker.begin(), "kb is down")
        refused = await outcome(http)
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
    assert isinstance(refused, Unavailable) and refused.untried


@pytest.mark.parametrize(
    ("call", "seconds", "is_down"),
    [
        ("search", clients.NO_RESPONSE_AFTER, True),
        ("search", clients.NO_RESPONSE_AFTER / 2, False),
        ("upload", clients.NO_RESPONSE_AFTER, False),
    ],
)
async def test_abandoned_question_counts_as_unanswered(call: str, seconds: float, is_down: bool) -> None:
    """Assistants and the page give up after a while; the end of the program interrupts an upload."""

    async def hang(request: httpx.Request) -> httpx.Response:
        skip(seconds)
        return await hanging(request)

    async with client("http://kb", transport=httpx.MockTransport(hang), steady=Clock(1000.0)) as http:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    if call == "search":
                        await http.request("search", "POST", "/search", json={})
                    else:
                        await http.post_form("upload", "/", fields={}, file=part())
        assert (http.breaker.rest is not None) == is_down
        assert ("did not answer; kbsync gave up after 10 s" in http.breaker.cause) == is_down


async def test_request_without_remaining_time_says_nothing_about_the_target() -> None:
    async with client("http://kb", transport=httpx.MockTransport(hanging)) as http:
        for _ in range(6):
            with pytest.raises(Unavailable):
                async with http.time_limit("search", 0.02):
                    await asyncio.sleep(0.016)  # longer than our order of requests, or another request
                    await http.request("search", "POST", "/search", json={})
        assert http.breaker.rest is None


async def test_stream_is_a_probe_like_any_other_call() -> None:
    clock, is_down = Clock(1000.0), True

    def play(_request: httpx.Request) -> httpx.Response:
        if is_down:
            raise httpx.ConnectError("no")
        return httpx.Response(200, content=b"data: a\n\n")

    settings = {"steady": clock, "sleep": clock.sleep}
    async with client("http://kb", transport=httpx.MockTransport(play), **settings) as http:
        for _ in range(5):
            await outcome(http)
        clock.now += 1.1
        is_down = False
        stream = http.stream("ask", "/ask", json={})
        assert await anext(stream) == b"data: a\n\n"
        assert http.breaker.rest is None
        await stream.aclose()


async def read_stream(http: Client) -> list[object]:
    async with aclosing(http.stream("ask", "/ask", json={})) as pieces:
        return [piece async for piece in pieces]


async def test_refused_stream_is_not_counted_as_a_request() -> None:
    arrived, may_fail = asyncio.Event(), asyncio.Event()

    async def play(_request: httpx.Request) -> httpx.Response:
        arrived.set()
        await may_fail.wait()
        raise httpx.ConnectError("no")

    async with client("http://kb", concurrency=1, transport=httpx.MockTransport(play)) as http:
        first = asyncio.create_task(http.post("post", "/", json={}))
        await arrived.wait()
        refused = asyncio.create_task(read_stream(http))
        await let_tasks_run()  # the stream waits for the first request
        for _ in range(5):
            http.breaker.failed(http.breaker.begin(), "it is down")
        may_fail.set()
        results = await asyncio.gather(first, refused, return_exceptions=True)
        assert [type(result) for result in results] == [Unavailable, Unavailable]
        assert http.meter.requests == {("post", "unavailable"): 1}


@pytest.mark.parametrize(
    ("response", "counted"),
    [
        (httpx.Response(200, content=b"data: a\n\n"), "ok"),
        (httpx.Response(200, json={}), "ok"),
        (httpx.Response(422, json={}), "rejected"),
        (httpx.Response(401, json={}), "halted"),
        (httpx.ConnectError("no"), "unavailable"),
    ],
    ids=repr,
)
async def test_stream_is_counted_with_its_outcome(response: httpx.Response | Exception, counted: str) -> None:
    def play(_request: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    async with client("http://kb", transport=httpx.MockTransport(play)) as http:
        with suppress(TargetError):
            await read_stream(http)
        assert http.meter.requests == {("ask", counted): 1}


def test_longer_retry_after_of_the_target_is_respected(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 4)
    breaker.failed(breaker.begin(), "it is down", 40.0)
    assert breaker.rest == pytest.approx(40.0)
    clock.now += 40.0
    breaker.failed(breaker.begin(), "it is down", 0.5)
    assert breaker.rest == pytest.approx(2.0)


# ---- the clock difference: only what the request's duration can't explain


@pytest.mark.parametrize(
    ("date", "sent_at", "received_at", "offset"),
    [
        (100.0, 99.5, 100.2, 0.0),
        (100.0, 100.9, 101.0, 0.0),  # Date has no fractions of a second
        (100.0, 40.0, 160.0, 0.0),  # a slow upload isn't a difference
        (700.0, 100.0, 100.5, 599.5),
        (100.0, 700.0, 700.5, -599.0),
    ],
)
def test_only_time_outside_the_request_counts(
    date: float, sent_at: float, received_at: float, offset: float
) -> None:
    skew = ClockSkew()
    skew.learn(date, sent_at, received_at, leaves_out=DATE_RESOLUTION)
    assert skew.offset == pytest.approx(offset)


def test_response_without_a_date_teaches_nothing() -> None:
    skew = ClockSkew()
    skew.learn(None, 1.0, 2.0)
    assert skew.offset is None
    skew.learn(700.0, 100.0, 100.0)
    skew.learn(None, 1.0, 2.0)
    assert skew.offset == 600.0


# ---- missing calls


def counts_as_missing(calls: MissingCalls, code: str) -> bool:
    """Send a request to a missing call, and return whether it then counts as missing."""
    with pytest.raises(NotOffered), calls.remembered("search"):
        raise NotOffered("no such call", code=code)
    return calls.lacks("search")


@pytest.mark.parametrize("code", ["404", "405", "501"])
def test_call_is_missing_when_two_responses_a_minute_apart_say_so(clock: Clock, code: str) -> None:
    calls = MissingCalls(clock)
    assert [counts_as_missing(calls, code) for _ in range(3)] == [False] * 3
    clock.now += CONFIRMATION_INTERVAL
    assert counts_as_missing(calls, code)
    assert not calls.lacks("upload")
    clock.now += MISSING_CALL_SECONDS
    assert not calls.lacks("search")
    assert counts_as_missing(calls, code)


async def test_call_that_worked_meanwhile_is_not_missing(clock: Clock) -> None:
    responses = iter([httpx.Response(404), httpx.Response(200, json={}), httpx.Response(404)])
    settings = {"transport": httpx.MockTransport(lambda _request: next(responses)), "steady": clock}
    async with client("http://kb", **settings) as http:
        for _ in range(3):
            with suppress(NotOffered), http.missing.remembered("search"):
                await http.request("search", "GET", "/search")
            clock.now += CONFIRMATION_INTERVAL
        assert not http.missing.lacks("search")


def test_responses_over_an_hour_apart_do_not_confirm_each_other(clock: Clock) -> None:
    calls = MissingCalls(clock)
    assert not counts_as_missing(calls, "404")
    clock.now += MISSING_CALL_SECONDS
    assert not counts_as_missing(calls, "404")
    clock.now += CONFIRMATION_INTERVAL
    assert counts_as_missing(calls, "404")


def test_service_code_is_sufficient_and_a_working_call_was_never_missing(clock: Clock) -> None:
    calls = MissingCalls(clock)
    assert not counts_as_missing(calls, "404")
    calls.works("search")
    clock.now += CONFIRMATION_INTERVAL
    assert not counts_as_missing(calls, "404")
    assert counts_as_missing(calls, "1222")
    with pytest.raises(NotOffered, match="no such call"):
        calls.check("search")
    calls.works("search")
    assert not calls.lacks("search")
