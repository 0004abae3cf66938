"""Generates the table of promises that each target type doesn't keep, with the tests that show it.

`python -m tests.conformance.promises` prints it. docs/targets/README.md contains it verbatim.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from kbsync.contract.promises import PROMISES
from kbsync.targets.registry import TARGETS
from tests.conformance import test_services
from tests.crash.benches import BENCHES
from tests.servers.running import NAMES
from tests.services.rows import ROWS
from tests.torture.faults import TRIALS

HEAD = "| target | promises not kept | suite is run on | stopped at every step | all faults | random lives |"
ROOT = Path(__file__).parents[2]
OWN = ("local", "postgres")
"""The types that the suite and the crash tests run on directly, without a stand-in."""


def table() -> str:
    """Return a row for each type."""
    rows = (
        f"| `{name}` | {_unkept(name)} | {', '.join(tried_on(name))} | {_stopped(name)} |"
        f" {_played(name, TRIALS)} | {_played(name, ROWS)} |"
        for name in TARGETS
    )
    return "\n".join([HEAD, "|---|---|---|---|---|---|", *rows])


def _unkept(name: str) -> str:
    unkept: Mapping[int, str] = TARGETS[name].unkept
    lines = (f"{number}. {PROMISES[number]}: {instead}" for number, instead in sorted(unkept.items()))
    return "<br>".join(lines) or "–"


def tried_on(name: str) -> Iterator[str]:
    """Yield what the conformance suite of this type runs on: the stand-in, a real server, or the product
    itself.
    """
    if name in OWN:
        yield "itself" if name == "local" else "a real server"
        return
    classes = (var for var in vars(test_services).values() if isinstance(var, type))
    suites = (suite for suite in classes if hasattr(suite, "world_type"))
    if name in {suite.world_type.service for suite in suites}:
        yield "stand-in"
    file = ROOT / "tests" / "servers" / f"test_{name}.py"
    if name in NAMES and re.search(r"^class .*Suite\):", file.read_text(), re.MULTILINE):
        yield "a real server (`make servers`)"


def _stopped(name: str) -> str:
    if name == "postgres":
        return "yes, at every statement"
    return "yes" if name in BENCHES else "–"


def _played(name: str, with_targets: Collection[str]) -> str:
    """Return whether a suite is among them; a type without a service has its own tests."""
    return "its own tests" if name in OWN else "yes" if name in with_targets else "–"


def missing_on_page(page: str, unkept: Mapping[int, str]) -> list[int]:
    """Return the unkept promises that the type's page doesn't mention."""
    return [number for number in unkept if not re.search(rf"\bpromise\W+{number}\b", page, re.IGNORECASE)]


if __name__ == "__main__":
    print(table())
