"""Places to run the program in. Tests that only read share a folder that is already mirrored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.cli.commands import init
from kbsync.config import places
from kbsync.core.model import Status
from kbsync.index import better
from kbsync.state.store import StateStore
from kbsync_standin.server import Server
from kbsync_standin.vectors import application as vectors
from tests.cli.sandbox import OrdinarySandbox, Sandbox
from tests.cli.terminal import Begin, Terminal
from tests.cli.zhipu import ZhipuSandbox, zhipu_sandbox

ODD = "odd\x1b[2J\nname.md"
"""A file name that would clear a terminal."""

SECRET = "secret-for-tests"

GUIDES = {
    "install.md": "# Installation\n\n## Linux\n\nRun the installer, then reset your password.\n",
    "guides/hours.txt": "Opening hours: the office opens at nine and closes at five.\n",
    "guides/配置.md": "# 配置\n\n重置密码需要管理员权限。\n",
}


@pytest.fixture(autouse=True)
def without_better_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed here, no mirror has better vectors."""
    monkeypatch.setattr(better, "is_installed", lambda: False)


@pytest.fixture(autouse=True)
def without_system_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is configured on this machine, kbsync finds no system-wide config."""
    monkeypatch.setattr(places, "SYSTEM_CONFIG", Path("/nonexistent/etc/kbsync/config.yaml"))


@pytest.fixture
def ordinary(tmp_path: Path) -> Iterator[Sandbox]:
    """Yield a sandbox whose kbsync lacks root's privileges."""
    sandbox = OrdinarySandbox(tmp_path)
    yield sandbox
    sandbox.close()


@pytest.fixture
def zhipu(tmp_path: Path) -> Iterator[ZhipuSandbox]:
    """Yield a sandbox with its own service, whose rules no request may break."""
    with zhipu_sandbox(tmp_path) as zhipu:
        yield zhipu
        assert zhipu.service.violations() == []


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Mirror `docs` with --folder. Tests must not change anything in it."""
    sandbox = Sandbox(tmp_path_factory.mktemp("mirrored"))
    sandbox.write_all(GUIDES)
    sandbox.write(ODD, "A xylophone with \x1b[31mcolours\x1b[0m in its text.\n")
    sandbox.write("empty.md", "")
    sandbox.write("program.bin", bytes(range(256)))
    sandbox.run("--once", "--folder", "docs", "--json").check_success()
    return sandbox


@pytest.fixture
def failed(sandbox: Sandbox) -> Sandbox:
    """Create a mirror with one good document and two that failed."""
    sandbox.prepare({"good.md": "text", "broken.pdf": "this is no pdf", "scans/torn.pdf": "nor is this"})
    assert sandbox.run("--once").code == 1
    return sandbox


@pytest.fixture
def waiting(sandbox: Sandbox) -> Sandbox:
    """A mirror whose pass ended just now; one of its six documents has waited since."""
    sandbox.mirror({f"{number}.md": f"document {number}" for number in range(6)})
    store = StateStore(sandbox.state / "state.db")
    mirror = store.read_now(lambda tx: tx.mirrors.named("handbook"))
    assert mirror is not None
    store.submit(lambda tx: tx.entries.set_status(mirror.id, "0.md", Status.PENDING, time.time())).result()
    store.close()
    return sandbox


@pytest.fixture
def models() -> Iterator[Server]:
    """Run embedding and rerank services."""
    server = Server(vectors(f"id.{SECRET}"))
    with server.in_thread():
        yield server


@pytest.fixture
def terminal() -> Iterator[Begin]:
    """Run kbsync in a sandbox, each time in a new terminal."""
    started: list[Terminal] = []

    def begin(sandbox: Sandbox, *words: str, **size_and_env: Any) -> Terminal:
        started.append(Terminal(sandbox, *words, **size_and_env))
        return started[-1]

    yield begin
    for opened in started:
        opened.kill()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Type answers to `init`; "" accepts the default. `init` must ask for all of them."""
    typed: list[str] = []

    def ask(_prompt: str, default: str | None = None) -> str:
        return typed.pop(0) or default or ""

    monkeypatch.setattr(init, "_is_interactive", lambda: True)
    monkeypatch.setattr(init, "ask", ask)
    monkeypatch.setattr(init, "agrees", lambda _question: ask("") == "y")
    yield typed
    assert typed == []
