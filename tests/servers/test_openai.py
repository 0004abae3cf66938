"""OGX is there and takes its key."""

from __future__ import annotations

from typing import Any

import httpx


def test_a_store_can_be_made(servers: dict[str, Any]) -> None:
    there = servers["openai"]
    headers = {"authorization": f"Bearer {there['api_key']}"}
    made = httpx.post(f"{there['base_url']}/vector_stores", json={"name": "docs"}, headers=headers)
    assert made.json()["object"] == "vector_store"
