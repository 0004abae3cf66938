"""The protocol's own tools as clients of `kbsync mcp`: its conformance test (0.1.16) and inspector (2.12.0).

They run on a separate Node.js, which is a Python package, as is the npm that installs them from `mcp.json`.
That is npm's lock file without addresses, with a line for each package; to recreate it:

    npm install --package-lock-only --omit-lockfile-registry-resolved PACKAGE@VERSION …
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.programs import run_program
from tests.servers.probe import Probe

PYTHONS = ("3.11", "3.12", "3.13")
PROBES: Sequence[Probe] = ()
PASSED = {"server-initialize", "ping", "tools-list", "resources-list", "dns-rebinding-protection"}
"""Scenarios that need only features that every server has."""

KNOWN: Mapping[str, str] = {
    "tools-call-with-logging: *": "a client is sent no log",
    "tools-call-*": "it calls a tool that only the server of its own example has",
    "elicitation-*": "it calls a tool that only the server of its own example has",
    "json-schema-2020-12: *": "it looks for a tool that only the server of its own example has",
    "resources-read-*": "it reads a resource that only the server of its own example has",
    "resources-templates-read: *": "it reads a resource that only the server of its own example has",
    "resources-*subscribe: *": "kbsync sends nothing unasked",
    "server-sse-*": "kbsync has no sessions and sends nothing unasked, so there is no stream to go on with",
    "logging-set-level: *": "a client is sent no log",
    "completion-complete: *": "kbsync completes no arguments",
    "prompts-*": "kbsync has no prompts",
}


@contextmanager
def start(environment: Path, folder: Path, models_url: str) -> Iterator[dict[str, Any]]:
    """Yield no data: each test starts its own `kbsync mcp`."""
    yield {}


def of_node(
    environment: Path, program: str, *words: str | Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run one of the tools to its end. `options`: those of `ran`."""
    node, script = environment / "bin" / "node", environment / "node_modules" / ".bin" / program
    return run_program(node, script, *words, **options)
