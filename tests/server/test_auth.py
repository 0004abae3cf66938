"""Tests who has access to the listener, and the headers of every response."""

from __future__ import annotations

import base64

import pytest

from kbsync.config.secrets import Secret
from tests.server.client import HALTED, READY, TOKEN, Listened, request


@pytest.mark.parametrize("path", ["/readyz", "/nothing"])
async def test_remote_requests_need_a_token(path: str) -> None:
    """If a web page points a browser at this machine, `Host` names that page's server."""
    listened = Listened(READY)
    for host in ("evil.example", "evil.example:9753", "10.0.0.7:9753", "127.0.0.1.evil.example", ""):
        assert (await listened.get(path, host=host)).status_code == 403
    for host in ("127.0.0.1", "127.0.0.1:9753", "localhost:9753", "[::1]:9753", "LOCALHOST"):
        assert (await listened.get(path, host=host)).status_code != 403


@pytest.mark.parametrize("token", ["", TOKEN])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_cross_site_pages_are_refused(token: str, method: str) -> None:
    """Another port of this machine is the same site but another page. Programs send no such header."""
    door = Listened(READY, token=token).door
    headers = {"authorization": f"Bearer {token}"} if token else {}
    for site in ("cross-site", "same-site", "whatever"):
        response = await request(door, method, "/api/search?q=a", **headers, **{"sec-fetch-site": site})
        assert response.status_code == 403
        assert method == "HEAD" or "error" in response.json()
    for same_site in ({}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert (await request(door, method, "/api/search?q=a", **headers, **same_site)).status_code == 404
    elsewhere = await request(door, method, "/healthz", **{"sec-fetch-site": "cross-site"})
    assert elsewhere.status_code == 200


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


async def test_valid_token_is_accepted_under_any_host_name() -> None:
    listened = Listened(READY, token=TOKEN)
    for authorization in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)):
        response = await listened.get("/readyz", host="kb.example", authorization=authorization)
        assert response.status_code == 200
    assert (await listened.get("/healthz", host="10.0.0.7")).status_code == 200, "for load balancers"
    listened.token = Secret("another-token-of-the-tests")
    assert (await listened.get("/readyz", authorization=f"Bearer {TOKEN}")).status_code == 401


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {TOKEN}x", TOKEN, basic("no"), "Basic %%%", "Basic //79", f"Digest {TOKEN}"],
)
async def test_request_without_a_token_reveals_nothing(authorization: str) -> None:
    listened = Listened(HALTED, token=TOKEN)
    for path in ("/readyz", "/nothing", "/metrics", "/api/status", "/assets"):
        response = await listened.get(path, authorization=authorization)
        assert response.status_code == 401
        asks = "Bearer " if path.startswith("/api/") else "Basic "
        assert response.headers["www-authenticate"].startswith(asks)
        assert "faq" not in response.text
    assert listened.read_count == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/nothing"])
async def test_every_response_has_strict_security_headers(path: str) -> None:
    headers = (await Listened(READY).get(path)).headers
    assert headers["connection"] == "close"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


async def test_other_methods_and_paths_are_refused() -> None:
    listened = Listened(READY)
    assert (await request(listened.door, "POST", "/healthz")).status_code == 405
    assert (await request(listened.door, "HEAD", "/healthz")).status_code == 200
    assert (await listened.get("/")).status_code == 404
