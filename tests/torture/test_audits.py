"""Runs a few turns of each torture audit, and tests that it notices mistakes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.engine.audit import Discrepancy
from kbsync.engine.verify import Verification
from tests.share import enumerated, long
from tests.torture import repairs
from tests.torture.audits import MIRRORS, audit
from tests.torture.exercise import PromiseBroken
from tests.torture.mess import FILES, Mess
from tests.torture.repaired import REPAIRED
from tests.torture.repairs import RepairedMirror

pytestmark = long

STEADY = tuple(Discrepancy(f"f{number}.md", None, "so") for number in range(FILES))


@pytest.mark.parametrize("service", MIRRORS)
def test_foreign_changes_are_repaired(service: str, tmp_path: Path) -> None:
    tally = audit(service, 1, tmp_path / "mirror", turns=2)
    assert tally.faults > 0
    assert not tally.broken


def deleting(service: str, folder: Path) -> RepairedMirror:
    """Return a mirror whose documents others delete, without other damage."""

    class Deleting(REPAIRED[service]):  # type: ignore[misc]
        def messes(self) -> Sequence[Mess]:
            return (self.delete_ours,)

    return Deleting(folder, random.Random(1))


@enumerated()
@pytest.mark.parametrize("service", REPAIRED)
async def test_repair_that_does_nothing_is_detected(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repairs, "repair_request", lambda _: {})
    with pytest.raises(PromiseBroken, match="is missing or out of date"):
        await deleting(service, tmp_path).live(1)


@enumerated()
@pytest.mark.parametrize(
    ("change", "message"),
    [({"missing": ()}, r"'missing': \{'f.*overlooked"), ({"stale": STEADY}, r"\{'f.*\} wrongly")],
)
async def test_missed_or_invented_findings_are_detected(
    change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = deleting("openai", tmp_path)
    verify = mirror.world.verify

    async def verified() -> Verification:
        return replace(await verify(), **change)

    monkeypatch.setattr(mirror.world, "verify", verified)
    with pytest.raises(PromiseBroken, match=message):
        await mirror.live(1)
