"""A mirror into GPTBots as real processes beside a real stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.standin.gptbots import HOME_ID, application
from kbsync.standin.server import Server

KEY = "app-secret-for-tests"


class Place:
    """A folder, a config, and the stand-in."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root, server
        (root / "docs").mkdir()
        (root / "kb.yaml").write_text(
            "mirrors:\n  - name: docs\n    folder: ./docs\n    settle: 100ms\n"
            '    documents: [{match: "faq.csv", gptbots: {kind: qa}}]\n'
            f"    target: {{type: gptbots, base_url: '{server.url}', api_key: {KEY},\n"
            f"      knowledge_base_id: {HOME_ID}, vectorization: {{poll_first: 100ms}}}}\n"
        )

    def write(self, name: str, text: str) -> None:
        (self.root / "docs" / name).write_text(text)
        time.sleep(0.15)

    def go(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kbsync", *words, "--config", "kb.yaml", "--state-dir", "state"]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False, timeout=60)

    def documents(self) -> dict[str, dict[str, Any]]:
        there = self.server.app.snapshot()["documents"]
        return {one["name"]: one for one in there if not one["deleted"]}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    server = Server(application(KEY))
    with server.in_thread():
        yield Place(tmp_path, server)
    assert server.app.violations == []


def test_a_folder_is_mirrored_searched_and_verified(place: Place) -> None:
    place.write("bees.md", "# Bees\n\nA hive stands under the apple tree.\n")
    place.write("faq.csv", "question,answer\nwho,me\n")
    first = place.go("--once", "--json")
    assert first.returncode == 0, first.stderr
    before = place.documents()
    assert {name: one["kind"] for name, one in before.items()} == {"bees.md": "text", "faq.csv": "qa"}
    place.write("bees.md", "# Bees\n\nThe hive was moved to the meadow.\n")
    assert json.loads(place.go("--once", "--json").stdout)["replaced"] == 1
    assert place.documents()["bees.md"]["id"] == before["bees.md"]["id"]
    found = place.go("search", "meadow", "--json")
    assert [hit["path"] for hit in json.loads(found.stdout)["hits"]] == ["bees.md"]
    assert place.go("verify").returncode == 0


@pytest.mark.parametrize("narrowing", [(), ("--type", "md")], ids=["all", "by-type"])
def test_better_hits_that_are_not_of_the_mirror_hide_none_of_it(
    place: Place, narrowing: tuple[str, ...]
) -> None:
    place.write("bees.md", "The hive was moved to the meadow.\n")
    assert place.go("--once").returncode == 0
    for number in range(3):
        better = {"name": f"{number}.md", "text": "red meadow", "source_url": ""}
        if number:
            better["source_url"] = f"https://kbsync.invalid/others/{number}.md#u={number}"
        place.server.app.put_foreign(better)
    found = json.loads(place.go("search", "red meadow", "-k", "3", *narrowing, "--json").stdout)["hits"]
    assert [hit["path"] for hit in found] == ["bees.md"]


def test_a_key_of_another_region_is_told_and_never_shown(place: Place) -> None:
    place.write("bees.md", "bees")
    place.server.app.set_behaviour({"key_revoked": True})
    ended = place.go("--once")
    assert ended.returncode == 3
    assert "region" in ended.stdout + ended.stderr
    assert KEY not in ended.stdout + ended.stderr


def test_the_doctor_looks_at_the_service_and_shows_no_key(place: Place) -> None:
    ran = place.go("doctor", "--json")
    assert ran.returncode == 0, ran.stdout
    checks = {one["name"]: one["result"] for one in json.loads(ran.stdout)["checks"]}
    wanted = ("DNS", "connection", "key", "knowledge base")
    assert {checks[f"docs: {name}"] for name in wanted} == {"ok"}
    assert KEY not in ran.stdout + ran.stderr
    place.server.app.set_behaviour({"key_revoked": True})
    refused = place.go("doctor")
    assert refused.returncode == 3
    assert "wrong    docs: key" in refused.stdout
