"""Tests that secrets of the service and the proxy are written nowhere else."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.zhipu import KEY, ZhipuSandbox, zhipu_sandbox
from tests.ports import free_port
from tests.share import long

PASSWORD = "pass/word+of=the?proxy"


def forms(secret: str) -> set[bytes]:
    """Return its forms: plain, in an address, in a Basic authentication header, and its halves."""
    pair = base64.b64encode(f"me:{secret}".encode()).decode()
    half = len(secret) // 2 + 2
    forms_of_secret = {secret, quote(secret), quote(secret, safe=""), pair, secret[:half], secret[-half:]}
    return {form.encode() for form in forms_of_secret}


def stored_bytes(desk: ZhipuSandbox) -> bytes:
    """Return every byte of the state directory, names included."""
    files = [path for path in desk.state.rglob("*") if path.is_file()]
    return b"".join(os.fsencode(path) + path.read_bytes() for path in files)


@long
@pytest.mark.parametrize("source", ["config", "environment"])
def test_proxy_password_appears_nowhere(tmp_path: Path, source: str) -> None:
    with zhipu_sandbox(tmp_path) as desk:
        desk.write("a.md", "alpha")
        address = f"http://me:{quote(PASSWORD, safe='')}@127.0.0.1:{free_port()}"
        env = {"HTTP_PROXY": address, "http_proxy": address, "NO_PROXY": "", "no_proxy": ""}
        if source == "config":
            desk.aim(target=f"proxy: {address}")
            env = {}
        result = desk.go("--once", "--log-level", "debug", env=env, hurried=True)
        status_report = [result, desk.run("status", "--json", "--documents"), desk.run("explain", "a.md")]
        written = [text for run in status_report for text in (run.raw, run.err.encode())] + [
            stored_bytes(desk)
        ]
    if source == "config":
        assert result.code == 4, result.err
    for secret in forms(PASSWORD) | forms(KEY):
        assert not any(secret in text for text in written), secret


def family(pid: int) -> list[int]:
    """Return the process and its descendants."""
    below = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid, *(process for child in below for process in family(child))]


def environment(pid: int) -> bytes:
    """Return a process's initial environment; b"" if only root may read it."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        assert os.geteuid() != 0
        return b""


def shows_no_key(*texts: bytes) -> None:
    """Assert that neither the key nor its signing half appears."""
    secrets = (KEY.encode(), KEY.partition(".")[2].encode())
    assert [secret for secret in secrets if any(secret in text for text in texts)] == []


@long
@pytest.mark.parametrize("source", ["environment", "file"])
def test_key_appears_nowhere(tmp_path: Path, source: str) -> None:
    with zhipu_sandbox(tmp_path) as desk:
        desk.write("a.md", "alpha")
        env = {"THE_KEY": KEY} if source == "environment" else {}
        (desk.config.parent / "zhipu.key").write_text(f"{KEY}\n")
        config = desk.aim(key="api_key: ${THE_KEY}" if env else "api_key_file: zhipu.key")
        local = desk.add_folder("local", {"page.html": "<p>this is parsed by a process of its own</p>"})
        config.write_text(config.read_text() + f"  - {{name: local, folder: {local}, settle: 100ms}}\n")
        daemon = desk.watch("--log-level", "debug", env=env)
        daemon.wait_for_event("document.ready", mirror="handbook", path="a.md")
        daemon.wait_for_event("document.ready", mirror="local")
        pid, *children = family(daemon.process.pid)
        assert children
        shows_no_key(*(Path(f"/proc/{process}/cmdline").read_bytes() for process in (pid, *children)))
        shows_no_key(*(environment(child) for child in children))

        desk.service.play("unauthorized", op="upload", args={"message": f"the key {KEY} is not known"})
        desk.service.play("failed-info", op="upload", skip=1, args={"reason": f"{KEY} 不支持"})
        desk.write("c.md", "gamma")
        daemon.wait_for_event("mirror.halted")
        shows_no_key(stored_bytes(desk))
        assert daemon.end() == 0
        results = [desk.go("--once", "--log-level", "debug", env=env)]
        assert results[0].code == 1
        results += [
            desk.run(*words.split(), env=env) for words in ("status --json --documents", "explain c.md")
        ]
        shows_no_key(daemon.log.read_bytes(), stored_bytes(desk))
        shows_no_key(*(text for run in results for text in (run.raw, run.err.encode())))
