"""Nothing that is secret gets into a reason, a log line or a repr."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
from collections.abc import Mapping

import pytest

from kbsync.errors import Halted, TargetError
from kbsync.targets.http.errors import HttpAnswer
from tests.targets.http.bodies import part
from tests.targets.http.clients import KEY, client
from tests.targets.http.servers import Reader, Writer, answer, answering, reset, seen, serving

SECRETS = ("secret-key-0123456789", "hidden-query")


def told(error: BaseException) -> str:
    """All that a log could show of an error."""
    shown = "".join(traceback.format_exception(error))
    return f"{shown} {error!r} {vars(error)!r} {error.__context__!r} {error.__cause__!r}"


@pytest.mark.parametrize(
    "said",
    [
        answer(400, {"message": f"bad header Authorization: {KEY}"}),
        answer(500, f"<html>{KEY}</html>".encode()),
        answer(302, None, {"Location": "http://elsewhere.example/?a=hidden-query"}),
        answer(200, b"\x1b]0;hidden\x07 no json"),
        b"",
    ],
)
async def test_no_error_and_no_log_line_tells_a_secret(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await seen(reader)
        if not said:
            reset(writer)
        writer.write(said)
        await writer.drain()

    caplog.set_level(logging.DEBUG)
    async with serving(script) as server, client(server.url) as http:
        for call in (
            http.send("upload", "/up?x=hidden-query", fields={}, file=part()),
            http.ask("list", "GET", "/list", params={"word": "hidden-query"}),
            anext(http.read(f"{server.url}/f?sign=hidden-query", most=0)),
        ):
            with pytest.raises(TargetError) as caught:
                await call
            shown = told(caught.value) + caplog.text + repr(http)
            assert not any(secret in shown.replace(__file__, "") for secret in SECRETS), shown
            assert caught.value.reason.isprintable()


@pytest.mark.parametrize("key", ["Bearer kept-back\n", "Bearer kept-bäck", "", " kept", "kept\x00"])
async def test_a_key_that_cannot_be_sent_halts_without_being_shown(key: str) -> None:
    def headers() -> Mapping[str, str]:
        return {"Authorization": key}

    async with answering(answer()) as server, client(server.url, headers=headers) as http:
        with pytest.raises(Halted) as caught:
            await http.send("upload", "/", fields={}, file=part())
        assert server.met == 0
    assert caught.value.halt == "credentials"
    assert "kept" not in told(caught.value)


async def test_a_key_that_changes_is_taken_up_at_once() -> None:
    keys = iter(["Bearer first-one", "Bearer second-one"])

    def headers() -> Mapping[str, str]:
        return {"Authorization": next(keys)}

    async with answering(answer()) as server, client(server.url, headers=headers) as http:
        await http.ask("list", "GET", "/")
        await http.ask("list", "GET", "/")
        assert [one.headers["authorization"][7:] for one in server.seen] == ["first-one", "second-one"]


async def test_a_name_and_password_in_base_url_do_not_displace_the_key() -> None:
    async with answering(answer()) as server, client(f"http://me:pw@127.0.0.1:{server.port}") as http:
        await http.ask("list", "GET", "/")
        assert server.seen[0].headers["authorization"] == KEY


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "appToken"])
async def test_the_vendors_reading_does_not_get_the_key_either(name: str) -> None:
    bodies: list[object] = []

    def headers() -> Mapping[str, str]:
        return {name: KEY, "Accept": "application/json"}

    def judge(answered: HttpAnswer) -> TargetError | None:
        bodies.append(answered.body)
        return None

    echo = answer(200, {"echo": [KEY, "application/json"]})
    async with answering(echo) as server, client(server.url, judge=judge, headers=headers) as http:
        await http.ask("list", "GET", "/")
    assert bodies == [{"echo": ["Bearer ***", "application/json"]}]


def test_the_rest_of_kbsync_does_not_pay_for_httpx() -> None:
    script = (
        "import sys, kbsync.cli.main, kbsync.contract.target, kbsync.contract.meter;"
        "assert not {'httpx', 'tenacity'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
