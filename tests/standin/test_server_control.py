"""Tests the control API: everything can be read and changed, and wrong requests are refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from tests.standin.echo import NOON, send_raw, upload


async def test_overview_lists_everything(server: Server, client: httpx.AsyncClient) -> None:
    await client.post("/documents/base", content=b"a.md\n")
    overview = (await client.get("/_standin")).json()
    assert (overview["app"], overview["now"], overview["total"], overview["by_op"]) == (
        "echo",
        NOON,
        1,
        {"upload": 1},
    )
    assert overview["faults"] == []
    assert overview["kinds"]["shout"] == "the answer is in capitals"
    assert overview["kinds"]["lost-answer"] == "the connection is closed without any response"
    assert "[args: " in overview["kinds"]["hang"]
    assert "/_standin/faults" in overview["routes"]


async def test_every_route_of_the_overview_exists(client: httpx.AsyncClient) -> None:
    for route in (await client.get("/_standin")).json()["routes"]:
        assert (await client.get(route)).status_code == (405 if route.endswith("/reset") else 200)


async def test_requests_can_be_listed_and_reset(server: Server, client: httpx.AsyncClient) -> None:
    await client.post("/documents/base", content=b"a.md\n")
    await client.get("/documents/b.md")
    overview = (await client.get("/_standin/requests")).json()
    assert (overview["total"], overview["by_op"], overview["in_flight_max"]) == (
        2,
        {"upload": 1, "read": 1},
        1,
    )
    assert overview["log"][0] == {
        "n": 1,
        "op": "upload",
        "method": "POST",
        "path": "/documents/base",
        "subject": "a.md",
        "status": 200,
        "fault": "",
    }
    cleared = (await client.delete("/_standin/requests")).json()
    assert (cleared["total"], cleared["by_op"], cleared["in_flight_max"], cleared["log"]) == (0, {}, 0, [])
    await client.get("/documents/b.md")
    assert server.requests.log[0].n == 3


async def test_faults_can_be_added_listed_and_removed(server: Server, client: httpx.AsyncClient) -> None:
    fault = {"kind": "status", "op": "upload", "times": 2, "args": {"status": 503}}
    added = await client.post("/_standin/faults", json=fault)
    assert added.status_code == 201
    assert added.json()["faults"][0]["args"]["status"] == 503
    assert (await client.post("/documents/base", content=b"a.md\n")).status_code == 503
    assert (await client.get("/_standin/faults")).json()["faults"][0]["times"] == 1
    assert (await client.delete("/_standin/faults")).json() == {"faults": []}
    assert (await client.post("/documents/base", content=b"a.md\n")).status_code == 200


async def test_several_faults_are_added_atomically(server: Server, client: httpx.AsyncClient) -> None:
    refusal = await client.post("/_standin/faults", json=[{"kind": "hang"}, {"kind": "hnag"}])
    assert refusal.status_code == 400
    assert server.faults.all == []
    await client.post("/_standin/faults", json=[{"kind": "hang"}, {"kind": "drip"}])
    assert [fault.kind for fault in server.faults.all] == ["hang", "drip"]


async def test_every_fault_can_be_removed_while_active(server: Server, client: httpx.AsyncClient) -> None:
    await client.post("/_standin/faults", json={"kind": "reset-connect", "times": 0})
    with pytest.raises(httpx.ReadError):
        await client.get("/documents/a.md")
    assert (await client.delete("/_standin/faults")).status_code == 200
    assert (await client.get("/documents/a.md")).status_code == 404


async def test_time_can_be_advanced_and_due_work_is_done(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("late-effect", args={"after": 20}))
    await send_raw(server.port, upload())
    assert (await client.get("/_standin")).json()["late"] == 1
    assert (await client.post("/_standin/time", json={"advance": 20.5})).json() == {"now": NOON + 20.5}
    assert (await client.get("/_standin/documents")).json()["documents"] != []
    assert (await client.post("/_standin/time", json={"advance": -20.5})).json() == {"now": NOON}


async def test_reset_leaves_nothing(server: Server, client: httpx.AsyncClient) -> None:
    await client.post("/documents/base", content=b"a.md\n")
    server.faults.add(Fault("late-effect"))
    await send_raw(server.port, upload())
    server.faults.add(Fault("hang"))
    server.app.violations.append("no key")
    await client.post("/_standin/reset")
    server.advance(100)
    overview = (await client.get("/_standin")).json()
    assert (overview["total"], overview["faults"], overview["violations"], overview["late"]) == (0, [], 0, 0)
    assert (await client.get("/_standin/documents")).json() == {"documents": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "sentence"),
    [
        ("POST", "faults", "{", "the body is not JSON"),
        ("POST", "faults", b"\xff", "the body is not JSON"),
        ("POST", "faults", "{}", "needs a kind"),
        ("POST", "faults", '{"kind": "hang", "seconds": 1}', "goes under args"),
        ("POST", "faults", '{"kind": "hang", "times": true}', "whole number from 0 on"),
        ("POST", "faults", '{"kind": "hnag"}', "unknown fault kind 'hnag'"),
        ("POST", "time", "[]", "has to be a JSON object"),
        ("POST", "time", "{}", "advance"),
        ("POST", "time", '{"advance": "1s"}', "advance"),
        ("POST", "time", '{"advance": NaN}', "advance"),
        ("POST", "time", '{"advance": 1, "by": 2}', "advance"),
        ("PUT", "behaviour", '{"lout": true}', "there is no switch lout"),
        ("PUT", "behaviour", "[1]", "has to be a JSON object"),
        ("POST", "documents", "nothing", "the body is not JSON"),
        ("POST", "documents", "{}", "store a document with"),
    ],
)
async def test_invalid_control_request_is_refused_with_a_message(
    server: Server, client: httpx.AsyncClient, method: str, path: str, body: Any, sentence: str
) -> None:
    response = await client.request(method, f"/_standin/{path}", content=body)
    assert response.status_code == 400
    assert sentence in response.json()["error"]


async def test_unknown_route_and_wrong_method_name_the_right_ones(client: httpx.AsyncClient) -> None:
    unknown = await client.get("/_standin/fault")
    assert unknown.status_code == 404
    assert "/_standin/faults" in unknown.json()["error"]
    wrong = await client.post("/_standin/violations")
    assert wrong.status_code == 405
    assert "GET" in wrong.headers["allow"].split(", ")
