"""What may be known to nobody but the service and the proxy is written nowhere."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.test_zhipu_trouble import bytes_kept
from tests.cli.vendor import KEY, zhipu_place
from tests.ports import free_port

PASSWORD = "pass/word+of=the?proxy"


def forms(secret: str) -> set[bytes]:
    """As it is, in an address, in a header of Basic authentication, and its halves."""
    pair = base64.b64encode(f"me:{secret}".encode()).decode()
    half = len(secret) // 2 + 2
    shown = {secret, quote(secret), quote(secret, safe=""), pair, secret[:half], secret[-half:]}
    return {one.encode() for one in shown}


@pytest.mark.parametrize("way", ["config", "environment"])
def test_the_password_of_a_proxy_is_seen_nowhere(tmp_path: Path, way: str) -> None:
    with zhipu_place(tmp_path) as desk:
        desk.write("a.md", "alpha")
        address = f"http://me:{quote(PASSWORD, safe='')}@127.0.0.1:{free_port()}"
        env = {"HTTP_PROXY": address, "http_proxy": address, "NO_PROXY": "", "no_proxy": ""}
        if way == "config":
            desk.aim(target=f"proxy: {address}")
            env = {}
        ran = desk.go("--once", "--log-level", "debug", env=env, hurried=True)
        shown = [ran, desk.run("status", "--json", "--documents"), desk.run("explain", "a.md")]
        written = [text for one in shown for text in (one.raw, one.err.encode())] + [bytes_kept(desk)]
    if way == "config":
        assert ran.code == 4, ran.err
    for secret in forms(PASSWORD) | forms(KEY):
        assert not any(secret in text for text in written), secret
