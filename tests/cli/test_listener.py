"""Tests the daemon's listener from outside: health, readiness, tokens, and callbacks of a service."""

from __future__ import annotations

import fcntl
import json
import signal
from typing import Any

import httpx
import pytest

from kbsync.config.reader import load
from kbsync.config.target import callback_url
from kbsync_standin.faults import Fault
from tests.cli.sandbox import Sandbox, eventually
from tests.cli.zhipu import ZhipuSandbox, digests_in
from tests.ports import free_port
from tests.share import long

TOKEN = "a-token-of-the-tests"


def listen(sandbox: Sandbox, address: str) -> None:
    """Add `http:` to the config, or replace it."""
    config_before = sandbox.config.read_text().rstrip().partition("\nhttp: ")[0]
    sandbox.config.write_text(f"{config_before}\nhttp: {address}\n")


def get(port: int, path: str, token: str = "") -> tuple[int, Any]:
    """Return status and JSON or text; (0, None) if nobody listens."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        response = httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=60, trust_env=False)
    except httpx.ConnectError:
        return 0, None
    is_json = "json" in response.headers["content-type"]
    return response.status_code, response.json() if is_json else response.text


@long
def test_health_readiness_halts_and_config_reload(zhipu: ZhipuSandbox) -> None:
    port, other = free_port(), free_port()
    zhipu.write("a.md", "alpha")
    listen(zhipu, f"{{listen: 127.0.0.1:{port}}}")
    zhipu.service.turn(vectorize=[3600, 3600])
    daemon = zhipu.watch()
    assert daemon.wait_for_event("listener.started")["listen"] == f"127.0.0.1:{port}"
    assert get(port, "/healthz") == (200, "ok\n")
    eventually(zhipu.service.names)
    status, report = get(port, "/readyz")
    assert (status, report["mirrors"][0]["reason"]) == (503, "first-pass")
    zhipu.service.server.advance(3600)
    eventually(lambda: get(port, "/readyz")[0] == 200)
    metrics = get(port, "/metrics")[1]
    assert 'kbsync_documents{mirror="handbook",state="ready"} 1.0' in metrics
    assert 'kbsync_requests_total{op="upload",outcome="ok",target="zhipu"} 1.0' in metrics
    assert 'kbsync_freshness_seconds_count{mirror="handbook"} 1.0' in metrics
    assert "kbsync_uploaded_bytes_total 0.0" not in metrics
    assert 'kbsync_pass_seconds{mirror="handbook"} ' in metrics
    assert get(port, "/api/status")[1] == json.loads(zhipu.run("status", "--json").out)
    assert "<title>kbsync</title>" in get(port, "/")[1]

    zhipu.service.turn(key_revoked=True)
    zhipu.write("b.md", "bravo")
    daemon.wait_for_event("mirror.halted")
    eventually(lambda: get(port, "/readyz")[0] == 503)
    [mirror] = get(port, "/readyz")[1]["mirrors"]
    assert (mirror["name"], mirror["reason"]) == ("handbook", "credentials")
    assert mirror["cure"] == "kbsync retry --mirror handbook"

    listen(zhipu, f"{{listen: 127.0.0.1:{other}, token: {TOKEN}}}")
    daemon.send_signal(signal.SIGHUP)
    daemon.wait_for_event("config.read")
    assert get(port, "/healthz") == (0, None)
    assert get(other, "/readyz")[0] == 401
    assert get(other, "/readyz", TOKEN)[0] == 503
    assert get(other, "/healthz")[0] == 200
    assert daemon.end() == 0
    assert get(other, "/healthz") == (0, None)
    assert TOKEN not in daemon.log.read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "kb.example"])
def test_non_local_listener_requires_a_token(sandbox: Sandbox, host: str) -> None:
    sandbox.configure()
    listen(sandbox, f'{{listen: "{host}:9753"}}')
    sandbox.run().check_refusal(2, "http.token: is required because")
    token = sandbox.root / "token"
    token.write_text(f"{TOKEN}\n")
    listen(sandbox, f'{{listen: "{host}:9753", token_file: {token}}}')
    assert sandbox.run("plan").code == 0
    listen(sandbox, f'{{listen: "{host}:9753", token: short}}')
    result = sandbox.run("plan")
    assert (result.code, "short" in result.err) == (2, False)
    assert "at least 16 characters" in result.err


FORMS = ("never", "twice", "other", "status", "late", "slow", "malformed")


@long
def test_http_clients_of_every_kind_are_served_while_documents_are_mirrored(zhipu: ZhipuSandbox) -> None:
    port = free_port()
    zhipu.aim(target=f"callback_base: http://127.0.0.1:{port}")
    listen(zhipu, f"{{listen: 127.0.0.1:{port}}}")
    url = callback_url(load(zhipu.config, {}).mirrors[0]) or ""
    sent = zhipu.service.server.outbox.responses
    zhipu.mirror({"once.md": "text of a pass"})
    assert list(sent) == []  # a single pass has no listener and requests no callbacks
    faults = zhipu.service.server.faults
    for form in FORMS:
        faults.add(Fault("callback", match=f"{form}~*", args={"form": form, "seconds": 0.5}))
        zhipu.write(f"{form}.md", f"text of {form}")
    zhipu.write("plain.md", "text of plain")
    daemon = zhipu.watch()
    eventually(lambda: zhipu.service.digests() == digests_in(zhipu.docs))
    eventually(lambda: zhipu.status()["documents"]["ready"] == len(FORMS) + 2)
    eventually(lambda: len(sent) == len(FORMS) + 1)  # one is never sent, another twice
    assert {response and (response.status_code, response.json()["code"]) for response in sent} == {(200, 200)}

    assert httpx.post(f"{url[:-1]}x", content=b"{}", timeout=60, trust_env=False).status_code == 404
    assert daemon.end() == 0
    secret = url.rpartition("/")[2].encode()
    assert [path for path in zhipu.root.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
    assert zhipu.service.violations() == []


@long
def test_halted_mirror_stays_searchable_on_the_page(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    port = free_port()
    listen(sandbox, f"{{listen: 127.0.0.1:{port}}}")
    # Another program holds the base, so that the daemon can't write to it. A search only reads it.
    with (sandbox.state / "kb" / "handbook" / "index.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        daemon = sandbox.watch()
        daemon.wait_for_event("mirror.halted")
        reply = get(port, "/api/search?q=alpha")[1]
        document = get(port, "/api/document?mirror=handbook&key=YS5tZA")[1]
    assert [hit["path"] for hit in reply["hits"]] == ["a.md"]
    [note] = reply["notes"]
    assert "is in use by another kbsync" in note and "not searched" not in note
    assert document["text"] == "alpha"
