"""Runs short lives at every target, different ones for each seed, and tests that mistakes are noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.knowledge_bases import Documents
from tests.share import long, run_seed
from tests.torture.exercise import PromiseBroken
from tests.torture.life import TARGETS, Life, live


@long
@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("kind", TARGETS)
def test_random_life_leaves_every_file_once_and_nothing_else(kind: str, number: int, tmp_path: Path) -> None:
    tally = live(kind, run_seed() + number, tmp_path, turns=3)
    assert tally.steps > 0
    assert not tally.broken


@long
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda documents: documents[1:], r"local: missing \['.*leaf.*'\], surplus \[\]"),
        (lambda documents: [*documents, *documents[:1]], r"local: missing \[\], surplus .*leaf"),
        (lambda documents: [(path, "0") for path, _ in documents], r"local: missing .*leaf.*surplus .*leaf"),
    ],
)
def test_base_differing_from_the_folder_is_detected(
    change: Callable[[Documents], Documents], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = Life.documents
    monkeypatch.setattr(Life, "documents", lambda life: [change(documents(life)[0]), []])
    monkeypatch.setattr(Life, "go", lambda life, *words: life.sandbox.go(*words))
    with pytest.raises(PromiseBroken, match=problem):
        live("local", 1, tmp_path, turns=0)
