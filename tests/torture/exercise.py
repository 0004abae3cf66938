"""The interface of an exercise of the torture run, and of its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(slots=True)
class Tally:
    """Counts of work done and promises broken."""

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
        """Add another tally's counts."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def compare(
        self, expected: Mapping[str, Sequence[str]], actual: Mapping[str, Sequence[str]]
    ) -> list[str]:
        """Count missing and duplicate documents, by path; return a sentence for each."""
        lost = [path for path in expected if not set(expected[path]) <= set(actual.get(path, ()))]
        surplus = [path for path, documents in actual.items() if len(documents) > len(expected.get(path, ()))]
        self.lost += len(lost)
        self.duplicated += len(surplus)
        return [
            *(f"{path} is missing or out of date" for path in lost),
            *(f"{path} has {len(actual[path])} documents" for path in surplus),
        ]

    @property
    def broken(self) -> int:
        """The number of broken promises."""
        return self.lost + self.duplicated + self.gaps + self.foreign + self.violations


class PromiseBroken(AssertionError):
    """A promise was broken; carries the counts up to then."""

    def __init__(self, sentence: str, tally: Tally) -> None:
        super().__init__(sentence)
        self.tally = tally


Exercise = Callable[[int, Path], Tally]
"""Takes a seed and an empty scratch directory, runs for a second to a minute, and returns a tally.

Raises `AssertionError` (`PromiseBroken` if it can count) if a promise was broken. The same seed does the
same.
"""
