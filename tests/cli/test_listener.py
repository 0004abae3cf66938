"""The listener of the daemon, from outside."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.server.listener import bind_sockets
from tests.cli.place import Place, eventually
from tests.cli.vendor import ZhipuPlace, zhipu_place
from tests.ports import free_port

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def zhipu(tmp_path: Path) -> Iterator[ZhipuPlace]:
    with zhipu_place(tmp_path) as zhipu:
        zhipu.write("a.md", "alpha")
        yield zhipu


def listen(place: Place, what: str) -> None:
    """Add `http:` to the config, or put another in its place."""
    kept = place.config.read_text().rstrip().partition("\nhttp: ")[0]
    place.config.write_text(f"{kept}\nhttp: {what}\n")


def asked(port: int, path: str, token: str = "") -> tuple[int, Any]:
    """Status and JSON; (0, None) where nobody listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, read(answer.read())
    except urllib.error.HTTPError as answer:
        return answer.code, read(answer.read())
    except OSError:
        return 0, None


def read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


def test_health_readiness_halts_and_a_changed_config(zhipu: ZhipuPlace) -> None:
    port, other = free_port(), free_port()
    listen(zhipu, f"{{listen: 127.0.0.1:{port}}}")
    zhipu.vendor.turn(vectorize=[3600, 3600])
    daemon = zhipu.watch()
    assert daemon.says("listener.started")["listen"] == f"127.0.0.1:{port}"
    assert asked(port, "/healthz") == (200, "ok\n")
    eventually(zhipu.vendor.names)
    status, told = asked(port, "/readyz")
    assert (status, told["mirrors"][0]["reason"]) == (503, "first-pass")
    zhipu.vendor.server.advance(3600)
    eventually(lambda: asked(port, "/readyz")[0] == 200)
    metrics = asked(port, "/metrics")[1]
    assert 'kbsync_documents{mirror="handbook",state="ready"} 1.0' in metrics
    assert 'kbsync_requests_total{op="upload",outcome="ok",target="zhipu"} 1.0' in metrics
    assert 'kbsync_freshness_seconds_count{mirror="handbook"} 1.0' in metrics
    assert "kbsync_uploaded_bytes_total 0.0" not in metrics
    assert 'kbsync_pass_seconds{mirror="handbook"} ' in metrics
    assert asked(port, "/api/status")[1] == json.loads(zhipu.run("status", "--json").out)
    assert "<title>kbsync</title>" in asked(port, "/")[1]

    zhipu.vendor.turn(key_revoked=True)
    zhipu.write("b.md", "bravo")
    daemon.says("mirror.halted")
    eventually(lambda: asked(port, "/readyz")[0] == 503)
    [mirror] = asked(port, "/readyz")[1]["mirrors"]
    assert (mirror["name"], mirror["reason"]) == ("handbook", "credentials")
    assert mirror["cure"] == "kbsync retry --mirror handbook"
    assert zhipu.vendor.key not in json.dumps(mirror)

    listen(zhipu, f"{{listen: 127.0.0.1:{other}, token: {TOKEN}}}")
    daemon.tell(signal.SIGHUP)
    daemon.says("config.read")
    assert asked(port, "/healthz") == (0, None)
    assert asked(other, "/readyz")[0] == 401
    assert asked(other, "/readyz", TOKEN)[0] == 503
    [holder] = bind_sockets("127.0.0.1", port)
    with holder:
        listen(zhipu, f"{{listen: 127.0.0.1:{port}}}")
        daemon.tell(signal.SIGHUP)
        assert "is in use" in daemon.says("config.refused")["reason"]
    assert asked(other, "/healthz")[0] == 200
    assert daemon.end() == 0
    assert asked(other, "/healthz") == (0, None)
    assert TOKEN not in daemon.log.read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "kb.example"])
def test_beyond_this_machine_a_token_is_required(place: Place, host: str) -> None:
    place.configure()
    listen(place, f'{{listen: "{host}:9753"}}')
    ran = place.run()
    assert ran.code == 2
    assert "http.token: is missing, and" in ran.err
    token = place.root / "token"
    token.write_text(f"{TOKEN}\n")
    listen(place, f'{{listen: "{host}:9753", token_file: {token}}}')
    assert place.run("plan").code == 0
    listen(place, f'{{listen: "{host}:9753", token: short}}')
    ran = place.run("plan")
    assert (ran.code, "short" in ran.err) == (2, False)
    assert "at least 16 characters" in ran.err
