"""Zhipu's stand-in in a thread of the test, and a sandbox whose mirror uses it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kbsync.core.names import Naming
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from kbsync_standin.zhipu import HOME_ID, application
from tests.cli.sandbox import Sandbox

KEY = "kid-4711.secret-for-tests"


class ZhipuStandIn:
    """The stand-in. It can stop and return with all its documents at the same address."""

    def __init__(self, key: str = KEY, latency: float = 0.0) -> None:
        self.key = key
        self.server = Server(application(key, seed=7), latency=latency)
        self._running = contextlib.ExitStack()

    def arrive(self) -> None:
        self._running.enter_context(self.server.in_thread())

    def leave(self) -> None:
        self._running.close()

    @property
    def url(self) -> str:
        return self.server.url

    def _steer(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_standin/{path}", content, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def turn(self, **switches: Any) -> None:
        self._steer("PUT", "behaviour", switches)

    def play(self, kind: str, **fields: Any) -> None:
        self.server.faults.add(Fault(kind, **fields))

    def plant(self, name: str, text: str) -> str:
        """Upload a document as another user and return its id."""
        return str(self._steer("POST", "documents", {"name": name, "text": text})["id"])

    def take_away(self, document_id: str) -> None:
        """Delete a document as another user."""
        self._steer("POST", "documents", {"delete": document_id})

    def documents(self) -> list[dict[str, Any]]:
        """Return all current documents of the base."""
        return [
            document for document in self._steer("GET", "documents")["documents"] if not document["deleted"]
        ]

    def ours(self) -> list[dict[str, Any]]:
        return [document for document in self.documents() if not document["foreign"]]

    def names(self) -> set[str]:
        return {document["sent_name"] for document in self.ours()}

    def document(self, path: str, naming: Naming | None = None) -> dict[str, Any]:
        """Return our only document for a path."""
        [result] = self.by_path(naming)[path]
        return result

    def by_path(self, naming: Naming | None = None) -> dict[str, list[dict[str, Any]]]:
        """Group our documents by the path in their name."""
        naming = naming or Naming()
        results: dict[str, list[dict[str, Any]]] = {}
        for document in self.ours():
            reading = naming.read(document["sent_name"])
            if reading is not None and reading.path is not None:
                results.setdefault(reading.path, []).append(document)
        return results

    def digests(self, naming: Naming | None = None) -> dict[str, list[str]]:
        """Return the SHA-256 of each of our documents, by path, to compare with `digests_in`."""
        return {
            path: [document["sha256"] for document in documents]
            for path, documents in self.by_path(naming).items()
        }

    def effects(self, effect: str) -> list[dict[str, Any]]:
        return [entry for entry in self._steer("GET", "journal") if entry["effect"] == effect]

    def request_count(self, op: str = "") -> int:
        """Return the number of requests of one kind or in all."""
        requests = self.server.requests
        return requests.by_op.get(op, 0) if op else requests.total

    def violations(self) -> list[str]:
        """Return the requests that broke the service's rules."""
        return list(self._steer("GET", "violations"))


def digests_in(folder: Path) -> dict[str, list[str]]:
    """Return what `ZhipuStandIn.digests` must return for this folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): [hashlib.sha256(path.read_bytes()).hexdigest()] for path in files}


TARGET = """\
target:
  type: zhipu
  base_url: {url}/api
  {key}
  knowledge_id: "{base}"
  vectorization: {{poll_first: 50ms, poll_longest: 300ms, reembed_tries: 1, absent_after: 2s}}
"""


class ZhipuSandbox(Sandbox):
    """A sandbox whose mirror `handbook` uses the service."""

    def __init__(self, root: Path, service: ZhipuStandIn) -> None:
        super().__init__(root)
        self.service = service

    def aim(
        self,
        mirror: str = "",
        *,
        target: str = "",
        key: str | None = None,
        base: str = HOME_ID,
        url: str = "",
    ) -> Path:
        """Write the config. `mirror`, `target`: further lines of the two; `key`: the key's line."""
        key = f"api_key: {self.service.key}" if key is None else key
        lines = TARGET.format(url=url or self.service.url, key=key, base=base)
        lines += "".join(f"  {line}\n" for line in target.splitlines())
        return self.configure(f"{mirror}\n{lines}" if mirror else lines)


@contextlib.contextmanager
def zhipu_sandbox(root: Path, **options: Any) -> Iterator[ZhipuSandbox]:
    """Yield a sandbox with a running stand-in, a config for it, and an empty folder."""
    stand_in = ZhipuStandIn(**options)
    stand_in.arrive()
    zhipu = ZhipuSandbox(root, stand_in)
    zhipu.aim()
    try:
        yield zhipu
    finally:
        zhipu.close()
        stand_in.leave()


@contextlib.contextmanager
def filled_zhipu_sandbox(root: Path, files: Mapping[str, str], foreign_text: str) -> Iterator[ZhipuSandbox]:
    """Yield a sandbox with mirrored `files` (paths and texts), next to another user's document, for tests
    that only read.
    """
    with zhipu_sandbox(root) as zhipu:
        for path, text in files.items():
            zhipu.write(path, text)
        assert zhipu.run("--once").code == 0
        zhipu.service.plant("others.txt", foreign_text)
        yield zhipu
        broken = zhipu.service.violations()
        assert broken == [], broken


@contextlib.contextmanager
def tidied(shared: ZhipuSandbox, **switches: Any) -> Iterator[ZhipuSandbox]:
    """Yield a shared sandbox to one test, then remove its faults and reset the `switches`."""
    try:
        yield shared
    finally:
        shared.service.server.faults.clear()
        shared.service.turn(**switches)
