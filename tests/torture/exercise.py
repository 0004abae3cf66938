"""What an exercise of the torture run is, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(slots=True)
class Tally:
    """What was done to the program, and what was found broken."""

    crashes: int = 0
    steps: int = 0
    faults: int = 0
    inputs: int = 0
    lost: int = 0
    duplicated: int = 0
    gaps: int = 0
    foreign: int = 0
    violations: int = 0

    def add(self, other: Tally) -> None:
        """Count what the other did as well."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    @property
    def broken(self) -> int:
        """How often a promise was not kept."""
        return self.lost + self.duplicated + self.gaps + self.foreign + self.violations


class Broken(AssertionError):
    """A promise was broken, and what had been counted by then is known."""

    def __init__(self, sentence: str, tally: Tally) -> None:
        super().__init__(sentence)
        self.tally = tally


Exercise = Callable[[int, Path], Tally]
"""Takes a seed and an empty scratch directory, tells what was done, and raises AssertionError (`Broken`
where it can count) when a promise was broken. The same seed does the same. 1 s to about 60 s."""
