"""The examples that start a chat with `kbsync mcp` in one command are well formed and fit together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from kbsync.cli.main import kbsync
from tests.docs.pages import ROOT
from tests.packaging.test_image import DOCKER
from tests.programs import run_program

LIBRECHAT = ROOT / "examples/librechat/compose.yaml"
OPEN_WEBUI = ROOT / "examples/open-webui/mcp.yaml"
FILES = {"librechat": LIBRECHAT, "open-webui": OPEN_WEBUI}

both = pytest.mark.parametrize("chat", FILES)


def composed(chat: str) -> dict[str, Any]:
    """Return the compose file with the defaults of its variables."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", FILES[chat].read_text())
    loaded_config: dict[str, Any] = yaml.safe_load(text)
    return loaded_config


def request(chat: str) -> tuple[str, str]:
    """Return the URL and the authorization with which the chat calls kbsync."""
    environment = composed(chat)["services"][chat]["environment"]
    if chat == "open-webui":
        [server] = json.loads(environment["TOOL_SERVER_CONNECTIONS"])
        assert (server["type"], server["auth_type"]) == ("mcp", "bearer")
        return server["url"], f"Bearer {server['key']}"
    config = yaml.safe_load((LIBRECHAT.parent / "librechat.yaml").read_text())
    [server] = config["mcpServers"].values()
    assert config["mcpSettings"]["allowedAddresses"] == [re.sub(r"https?://|/mcp", "", server["url"])]
    header = server["headers"]["Authorization"]
    return server["url"], header.replace("${KBSYNC_MCP_TOKEN}", environment["KBSYNC_MCP_TOKEN"])


@both
def test_chat_calls_the_running_kbsync(chat: str) -> None:
    service = composed(chat)["services"]["kbsync"]
    name, *words = service["command"]
    command = kbsync.get_command(click.Context(kbsync), name)
    assert command is not None
    options = command.make_context(name, words)
    port = options.params["http"].rpartition(":")[2]
    [folder, _state] = service["volumes"]
    assert folder == "../handbook:/data:ro" and (FILES[chat].parent / "../handbook").is_dir()
    token = service["environment"]["KBSYNC_MCP_TOKEN"]
    assert len(token) >= 16
    assert request(chat) == (f"http://kbsync:{port}/mcp", f"Bearer {token}")
    assert set(service["networks"]) <= set(composed(chat)["services"][chat]["networks"])
    assert service["build"]["args"] == {"KBSYNC_EXTRAS": "mcp"}
    assert (FILES[chat].parent / service["build"]["context"] / "docker/Dockerfile").samefile(
        DOCKER / "Dockerfile"
    )


@both
def test_only_the_chat_is_reachable_and_only_from_this_machine(chat: str) -> None:
    parts = composed(chat)
    assert parts["networks"]["kb"] == {"internal": True}
    for name, service in parts["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert [port.partition(":")[0] for port in service.get("ports", [])] == ["127.0.0.1"] * (name == chat)
    assert parts["services"]["kbsync"]["read_only"] is True
    assert parts["services"]["kbsync"]["cap_drop"] == ["ALL"]


@both
def test_readme_has_the_command_and_the_address_to_open(chat: str) -> None:
    text = (FILES[chat].parent / "README.md").read_text()
    assert f"docker compose -f {FILES[chat].relative_to(ROOT)} up\n" in text
    [port] = composed(chat)["services"][chat]["ports"]
    assert f"http://{port.rpartition(':')[0]}" in text


def test_librechat_gets_its_own_keys_once(tmp_path: Path) -> None:
    _sh, _options, script = composed("librechat")["services"]["keys"]["command"]
    script = script.replace("$$", "$").replace("/keys/", f"{tmp_path}/")
    show = f'. {tmp_path}/env; echo "$CREDS_KEY $CREDS_IV $JWT_SECRET $JWT_REFRESH_SECRET"'
    first, second = (run_program("sh", "-ec", f"({script}); {show}").stdout.split() for _ in range(2))
    assert first == second
    assert [len(bytes.fromhex(key)) for key in first] == [32, 16, 32, 32]
    assert len(set(first)) == 4
