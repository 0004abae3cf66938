"""Tests the runner of real servers: it skips servers that can't be installed, and reports those that don't
start."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.sandbox import eventually
from tests.ports import free_port
from tests.programs import is_running, write_program
from tests.servers import __main__ as runner
from tests.servers import running
from tests.servers.running import NAMES, NotInstalled, NotStarted
from tests.share import long


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(running, "HOME", tmp_path / "servers")
    return tmp_path


@long
def test_uninstallable_server_is_named_and_skipped(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(home / "uv", "echo there is no network >&2; exit 1")
    monkeypatch.setattr(running, "uv", lambda: str(home / "uv"))
    with pytest.raises(NotInstalled, match="there is no network"):
        running.install("lightrag")
    assert runner.main(["lightrag"]) == 0
    assert "lightrag is left out" in capsys.readouterr().out


def test_each_requirements_list_has_one_cached_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, created = home / "log", list[Path]()
    write_program(
        home / "uv", f'echo "$1 $2" >>{log}; for last; do :; done; mkdir -p "${{last%/bin/python}}"'
    )
    monkeypatch.setattr(running, "uv", lambda: str(home / "uv"))
    for python in ("3.11", "3.11", "3.12"):
        monkeypatch.setattr(running, "_python", lambda _, version=python: version)
        created.append(running.install("lightrag"))
    assert created[0] == created[1] != created[2]
    assert log.read_text().splitlines() == ["venv --quiet", "pip install"] * 2
    assert all(environment.is_dir() for environment in created)
    os.utime(created[0] / running.MADE, (0, 0))
    running.install("lightrag")
    assert not created[0].exists() and created[2].exists()


def test_unknown_server_name_is_refused() -> None:
    with pytest.raises(SystemExit, match="no server minio; there are openai"):
        runner.main(["minio"])


def test_requirements_lists_are_pinned() -> None:
    for name in NAMES:
        lines = Path(running.__file__).with_name(f"{name}.txt").read_text().splitlines()
        assert len(lines) > 50 or name == "mcp"
        assert all(line.count("==") == 1 and " " not in line and "/" not in line for line in lines), name
    locked = json.loads(Path(running.__file__).with_name("mcp.json").read_text())["packages"]
    pinned = locked.pop("")["dependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in pinned.values())
    for name, package in locked.items():
        assert package["integrity"].startswith("sha512-") and "resolved" not in package, name


SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@long
def test_server_and_its_children_end_with_the_context(tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-c", SERVER, str(port)]
    with running.running(words, tmp_path / "place", f"http://127.0.0.1:{port}/", {}) as process:
        log = (tmp_path / "place" / "server.log").read_text()
        child = int(log.split()[1])
        assert is_running(child)
    assert process.poll() is not None
    eventually(lambda: not is_running(child), 10)


def test_server_that_exits_immediately_is_reported_with_its_log(tmp_path: Path) -> None:
    words = ["/bin/sh", "-c", "echo the port is taken; exit 3"]
    with (
        pytest.raises(NotStarted, match=r"sh ended with code 3:\nthe port is taken"),
        running.running(words, tmp_path / "place", "http://127.0.0.1:9/", {}),
    ):
        raise AssertionError


@long
def test_no_test_is_collected_without_a_server() -> None:
    environ = {name: value for name, value in os.environ.items() if name != running.VARIABLE}
    words = ("--collect-only", "-q", "-p", "no:cacheprovider", "tests/servers")
    command = [sys.executable, "-m", "pytest", *words]
    root = Path(running.__file__).parents[2]
    completed = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    assert completed.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, completed.stdout
