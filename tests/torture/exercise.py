"""What an exercise of the torture run is, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Tally:
    """What was done in an exercise, and which promises were found broken."""

    crashes: int = 0
    steps: int = 0
    faults: int = 0
    inputs: int = 0
    lost: int = 0
    duplicated: int = 0
    gaps: int = 0
    foreign: int = 0
    violations: int = 0


Exercise = Callable[[int, Path], Tally]
"""(seed, an empty scratch directory) -> what was done; raises AssertionError where a promise was broken."""
