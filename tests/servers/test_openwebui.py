"""Open WebUI is there and takes its key."""

from __future__ import annotations

from typing import Any

import httpx


def test_a_base_can_be_made(servers: dict[str, Any]) -> None:
    there = servers["openwebui"]
    headers = {"authorization": f"Bearer {there['api_key']}"}
    wanted = {"name": "docs", "description": "of a test"}
    made = httpx.post(f"{there['base_url']}/api/v1/knowledge/create", json=wanted, headers=headers)
    assert made.json()["name"] == "docs"
