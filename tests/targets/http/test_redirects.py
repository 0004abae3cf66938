"""A redirect never carries the key elsewhere, and never repeats what has an effect."""

from __future__ import annotations

import pytest

from kbsync.errors import Unavailable, Unsure
from tests.targets.http.bodies import part
from tests.targets.http.clients import KEY, client
from tests.targets.http.servers import answer, answering


def to(address: str, status: int = 302) -> bytes:
    return answer(status, None, {"Location": address})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_look_is_not_followed_to_another_host_and_the_key_stays_here(status: int) -> None:
    async with answering(answer()) as other, answering(to(f"{other.url}/x?sign=abc", status)) as server:
        async with client(server.url) as http:
            with pytest.raises(Unavailable) as caught:
                await http.ask("list", "GET", "/document")
        assert (len(server.seen), other.met) == (1, 0)
    assert f"redirects ({status}) to {other.url}/x; set base_url" in caught.value.reason
    assert "abc" not in caught.value.reason


async def test_a_look_is_followed_within_the_same_origin_with_the_key() -> None:
    hops = [to("/b"), to("c?x=1"), answer()]
    async with answering(*hops) as server, client(server.url) as http:
        assert (await http.ask("list", "GET", "/a")).status == 200
        assert [request.target for request in server.seen] == ["/a", "/b", "/c?x=1"]
        assert {request.headers["authorization"] for request in server.seen} == {KEY}


async def test_a_circle_of_redirects_ends_after_three() -> None:
    async with answering(to("/a")) as server, client(server.url) as http:
        with pytest.raises(Unavailable, match="redirects"):
            await http.ask("list", "GET", "/a")
        assert len(server.seen) == 4


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_only_looks_are_followed(method: str) -> None:
    async with answering(to("/b", 307)) as server, client(server.url) as http:
        with pytest.raises(Unavailable, match="redirects"):
            await http.ask("edit", method, "/a", json={"a": 1})
        assert len(server.seen) == 1


async def test_an_upload_that_is_redirected_may_have_been_stored_and_is_not_repeated() -> None:
    async with answering(to("/b", 308)) as server, client(server.url) as http:
        with pytest.raises(Unsure, match=r"redirects \(308\) to /b"):
            await http.send("upload", "/a", fields={}, file=part())
        assert len(server.seen) == 1


@pytest.mark.parametrize("address", ["http://[::1", "ftp://kb/", "//", "http://", "\x7f", "http://a:99999/"])
async def test_a_redirect_to_nowhere_is_no_success(address: str) -> None:
    async with answering(to(address)) as server, client(server.url) as http:
        with pytest.raises(Unavailable):
            await http.ask("list", "GET", "/a")
        assert {request.target for request in server.seen} == {"/a"}


async def test_cookies_are_neither_kept_nor_sent() -> None:
    sets = answer(200, None, {"Set-Cookie": "session=abc; Path=/"})
    async with answering(sets) as server, client(server.url) as http:
        await http.ask("list", "GET", "/")
        await http.ask("list", "GET", "/")
        assert [b async for b in http.read(f"{server.url}/file", most=100)]
        assert [b async for b in http.read(f"{server.url}/file", most=100)]
        assert all("cookie" not in request.headers for request in server.seen)


async def test_kbsync_says_who_it_is() -> None:
    async with answering(answer()) as server, client(server.url) as http:
        await http.ask("list", "GET", "/", params={"word": "a b&文"})
        assert server.seen[0].headers["user-agent"].startswith("kbsync/")
        assert server.seen[0].target == "/?word=a+b%26%E6%96%87"
