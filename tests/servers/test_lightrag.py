"""LightRAG is there and takes its key."""

from __future__ import annotations

import time
from typing import Any

import httpx


def test_a_text_is_indexed(servers: dict[str, Any]) -> None:
    there = servers["lightrag"]
    with httpx.Client(base_url=there["base_url"], headers={"x-api-key": there["api_key"]}) as client:
        given = {"text": "Kestrels hover.", "file_source": "kestrel.md"}
        track = client.post("/documents/text", json=given).json()["track_id"]
        for _ in range(100):
            documents = client.get(f"/documents/track_status/{track}").json()["documents"]
            if documents and documents[0]["status"] == "processed":
                return
            time.sleep(0.2)
    raise AssertionError(documents)
