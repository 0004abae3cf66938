"""The application behind the server, asked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from kbsync_standin.server import Server
from kbsync_standin.zhipu import HOME_ID, application
from tests.standin.zhipu.vendor import KEY, OPEN


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server(application(vectorize=(60, 60)))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(
        base_url=server.url + OPEN, headers=headers, timeout=30, trust_env=False, verify=False
    ) as client:
        yield client


async def upload(client: httpx.AsyncClient, name: str, content: bytes) -> httpx.Response:
    path = f"/document/upload_document/{HOME_ID}"
    return await client.post(path, data={"knowledge_type": "1"}, files={"files": (name, content)})


async def test_a_document_from_its_upload_to_its_end(server: Server, client: httpx.AsyncClient) -> None:
    answer = (await upload(client, "手册 ü.md", b"alpha beta")).json()
    ident = answer["data"]["successInfos"][0]["documentId"]
    detail = f"/document/{ident}"
    assert (await client.get(detail)).json()["data"]["embedding_stat"] == 0
    await client.post(f"{server.url}/_standin/time", json={"advance": 61})
    item = (await client.get(detail)).json()["data"]
    assert (item["embedding_stat"], item["name"]) == (1, "手册 ü.md")
    question = {"query": "beta", "knowledge_ids": [HOME_ID]}
    found = (await client.post("/knowledge/retrieve", json=question)).json()["data"]
    assert found[0]["metadata"]["doc_id"] == ident
    async with httpx.AsyncClient(trust_env=False, verify=False) as stranger:
        assert (await stranger.get(item["url"])).content == b"alpha beta"
    assert (await client.delete(detail)).json()["code"] == 200
    assert (await client.get(detail)).status_code == 404
    assert server.app.violations == []
    assert [entry["effect"] for entry in server.app.journal()] == ["stored", "deleted"]
