"""Shared code for the suite's worlds on real servers, and a whole life of a mirror with the real program."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx

from tests.cli.sandbox import Sandbox, eventually
from tests.conformance.world import SuiteWorld


class RealWorld(SuiteWorld):
    """A world on a real server with the real clock. It needs shorter waits than a service, because the server
    is local and idle. `serving` creates a fresh base for each test. `large_bytes` is smaller than elsewhere:
    a server on the same two cores splits and embeds all of it.
    """

    large_bytes = 200_017
    longest_pause = 0.2

    def __init__(self, server: Mapping[str, Any]) -> None:
        super().__init__()
        self.server = server
        self.models = ModelOrders(server["models_url"])

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, self.longest_pause))


class ModelOrders:
    """Set the faults of the model server; see `tests/servers/models.py`."""

    def __init__(self, url: str) -> None:
        self._control = url.removesuffix("/v1") + "/control"

    def give(self, **orders: Any) -> None:
        httpx.post(self._control, json=orders, trust_env=False).raise_for_status()

    def clear(self) -> None:
        httpx.delete(self._control, trust_env=False).raise_for_status()


WORDS = ("avocet", "bittern", "curlew", "dunlin", "egret", "fulmar", "godwit", "heron", "ibis", "jackdaw")
LATER = (
    "kestrel",
    "lapwing",
    "merlin",
    "nightjar",
    "osprey",
    "pintail",
    "quail",
    "redshank",
    "siskin",
    "teal",
)


def live(sandbox: Sandbox, target: Mapping[str, Any]) -> None:
    """Run a mirror with new, changed, renamed and deleted files, a kill in the middle and a restart: searches
    must find the folder's contents. `target`: the block of the config; its base is empty and not shared.
    """
    waiting = {"poll_first": "200ms", "poll_longest": "1s", "absent_after": "2s"}
    sandbox.configure(f"target: {json.dumps({**target, 'vectorization': waiting})}")
    for word in WORDS:
        sandbox.write(f"birds/{word}.md", _text(word))
    sandbox.once()
    _is_mirrored(sandbox)

    sandbox.write("birds/avocet.md", _text("albatross"))
    (sandbox.docs / "birds" / "bittern.md").unlink()
    (sandbox.docs / "birds" / "curlew.md").rename(sandbox.docs / "curlew, moved.md")
    sandbox.once()
    _is_mirrored(sandbox)
    assert _find(sandbox, "bittern") == []

    for word in LATER:
        sandbox.write(f"{word}.md", _text(word))
    sandbox.write("birds/dunlin.md", _text("dotterel"))
    process = sandbox.start("--once")

    def is_begun() -> bool:
        documents = sandbox.status()["documents"]
        return bool(documents["indexing"] or documents["ready"] > len(WORDS) - 1)

    eventually(is_begun)
    process.kill()
    process.wait()
    assert sandbox.status()["documents"]["ready"] < len(WORDS) - 1 + len(LATER), "killed too late"
    sandbox.once()
    _is_mirrored(sandbox)

    assert sandbox.once()["uploaded"] == 0


def _text(bird: str) -> str:
    return f"# The {bird}\n\nThis page tells all that is known of the {bird} and of no other bird.\n"


def _is_mirrored(sandbox: Sandbox) -> None:
    """Check that searches find each file's word in its own document, and that there are no others."""
    verification = sandbox.run("verify", "--json")
    assert verification.code == 0, verification.out
    for file in sandbox.docs.rglob("*.md"):
        word = file.read_text().split()[2]
        assert _find(sandbox, word) == [str(file.relative_to(sandbox.docs))]


def _find(sandbox: Sandbox, bird: str) -> list[str]:
    """Return the paths of documents with the word in their passages."""
    hits = sandbox.run("search", "--json", "-k", "50", bird).json["hits"]
    return [hit["path"] for hit in hits if any(bird in passage["text"] for passage in hit["passages"])]
