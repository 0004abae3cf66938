"""Every kind of fault that the stand-in for vectors has is played here."""

from __future__ import annotations

from pathlib import Path

from kbsync_standin.vectors.app import KINDS


def test_every_kind_of_vectors_is_played_by_a_test() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert [kind for kind in KINDS if f'"{kind}"' not in tests] == []
