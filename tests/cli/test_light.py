"""Tests that commands import only what they need: `--version` and all help texts appear at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from kbsync import __version__
from kbsync.cli.main import COMMANDS, SECTIONS
from kbsync_standin.server import Server
from tests.cli.sandbox import Sandbox
from tests.services import access
from tests.share import long

HEAVY = (
    *(
        "apsw",
        "numpy",
        "yaml",
        "pydantic",
        "pydantic_core",
        "httpx",
        "watchdog",
        "structlog",
        "rich",
        "dask",
        "distributed",
    ),
    *("mcp", "jsonschema"),
    *("plistlib", "xml", "kbsync.core.planner"),
    *("tokenizers", "pypdfium2", "python_calamine", "asyncio", "uvicorn", "starlette", "prometheus_client"),
)
LISTENING = ("kbsync.server", "kbsync.daemon", "uvicorn", "starlette", "prometheus_client")


def loaded(*commands: list[str], among: Sequence[str] = (*HEAVY, "click")) -> list[str]:
    """Return which of the modules `among` are loaded after these command lines ran in one process."""
    code = (
        "import sys, contextlib, io\n"
        "from kbsync.__main__ import main\n"
        f"for words in {list(commands)!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        assert main(words) == 0, words\n"
        f"print(*[name for name in {among!r} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.split()


HELP = [
    *([name, "--help"] for name in COMMANDS),
    ["state", "backup", "--help"],
    ["kb", "app", "create", "--help"],
]


@pytest.mark.parametrize(
    ("commands", "needed"),
    [([["--version"]], []), ([["--help"]], ["click"]), (HELP, ["click"])],
    ids=["version", "help", "help of each"],
)
def test_version_and_help_load_only_click(commands: list[list[str]], needed: list[str]) -> None:
    assert loaded(*commands) == needed


@pytest.mark.parametrize("words", [["--version"], ["status", "--version"], ["--version", "status"]])
def test_version_is_shown_everywhere(sandbox: Sandbox, words: list[str]) -> None:
    result = sandbox.run(*words)
    assert (result.code, result.out) == (0, f"kbsync {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(sandbox: Sandbox, name: str) -> None:
    words = [name, "backup"] if name == "state" else [name]
    result = sandbox.run(*words, "--help").check_success()
    assert "Examples:" in result.out
    assert "--folder, --mirror, -q, …: kbsync help options" in result.out
    assert len(result.out.splitlines()) <= 40  # a screen
    assert len(re.findall("^  -", result.out, re.MULTILINE)) <= 12, "few enough options to read"


def test_help_lists_every_command(sandbox: Sandbox) -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)
    result = sandbox.run("--help")
    assert all(f"\n  {name} " in result.out for name in COMMANDS)
    assert result.out == sandbox.run("-h").out


def configured(tmp_path: Path) -> list[str]:
    """Return the options for a config of one mirror, with a document in its folder."""
    folder, file = tmp_path / "docs", tmp_path / "config.yaml"
    folder.mkdir()
    (folder / "a.md").write_text("The walrus lies on the ice.\n")
    file.write_text(f"mirrors: [{{name: docs, folder: {folder}, settle: 100ms}}]\n")
    return ["--config", str(file), "--state-dir", str(tmp_path / "state")]


@long
def test_no_command_loads_pydantic_the_listener_or_notifications(tmp_path: Path) -> None:
    options = configured(tmp_path)
    commands = [["--once"], ["status", "--json"], ["search", "walrus"], ["plan"], ["explain", "a.md"]]
    commands += [["verify"], ["retry"], ["forget", "docs", "--yes"]]
    modules = loaded(*([*words, *options] for words in commands), among=(*HEAVY, *LISTENING, "kbsync.once"))
    assert {"yaml", "kbsync.once"} <= set(modules)
    assert not {"pydantic", "pydantic_core", "dask", "distributed", "mcp", *LISTENING} & set(modules)


@long
def test_status_loads_only_state_and_config_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("KBSYNC_CONFIG", str(tmp_path / "none"))  # the machine may have a system-wide one
    among = (*HEAVY, "click", "kbsync.index.words")
    assert loaded(["status", "--folder", str(tmp_path)], among=among) == ["apsw", "click"]
    options = configured(tmp_path)
    assert loaded(["status", *options], among=among) == ["apsw", "yaml", "click"]
    subprocess.run([sys.executable, "-m", "kbsync", "--once", "-q", *options], check=True)
    assert loaded(["status", *options], among=among) == ["apsw", "yaml", "click"]


@long
def test_search_of_one_embedded_base_loads_neither_asyncio_nor_numpy(tmp_path: Path) -> None:
    options = configured(tmp_path)
    kbsync = [sys.executable, "-m", "kbsync"]
    subprocess.run([*kbsync, "--once", "-q", *options], check=True)
    among = ("asyncio", "numpy")
    assert loaded(["search", "walrus", "--json", *options], among=among) == []


MIRRORING = """
import os, signal, sys
from kbsync.__main__ import main

def end(*_):
    ours = [name for name in sys.modules if name.startswith(("kbsync.accounts", "kbsync.targets"))]
    print(*ours, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

assert main(["--once", "-q", *sys.argv[1:]]) == 0
signal.signal(signal.SIGALRM, end)
signal.setitimer(signal.ITIMER_REAL, 2.0)
main(["-q", *sys.argv[1:]])
"""


@long
def test_mirroring_loads_no_account_management(tmp_path: Path) -> None:
    """A pass and a daemon, with a mirror at each service and a built-in one."""
    mirrors = []
    with ExitStack() as stack:
        for kind in ("local", *access.SERVICES):
            folder = tmp_path / kind
            folder.mkdir()
            (folder / "a.md").write_text("The walrus lies on the ice.\n")
            target = {"type": kind}
            if kind != "local":
                server = Server(access.stand_in(kind))
                stack.enter_context(server.in_thread())
                target = access.settings(server.app, server.url)
            mirrors.append({"name": kind, "folder": str(folder), "settle": "100ms", "target": target})
        file = tmp_path / "config.yaml"
        file.write_text(json.dumps({"mirrors": mirrors}))
        options = ["--config", str(file), "--state-dir", str(tmp_path / "state")]
        words = [sys.executable, "-c", MIRRORING, *options]
        completed = subprocess.run(words, capture_output=True, text=True, check=True)
    result = completed.stdout.split()
    assert {f"kbsync.targets.{kind}.target" for kind in ("local", *access.SERVICES)} <= set(result)
    assert not [name for name in result if name.startswith("kbsync.accounts")]
