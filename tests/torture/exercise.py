"""The interface of an exercise of the torture run, and of its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    def compare(self, wanted: Mapping[str, Sequence[str]], found: Mapping[str, Sequence[str]]) -> list[str]:
        """Count what is lost and what is there twice, by path; a sentence for each."""
        lost = [path for path in wanted if not set(wanted[path]) <= set(found.get(path, ()))]
        surplus = [path for path, them in found.items() if len(them) > len(wanted.get(path, ()))]
        self.lost += len(lost)
        self.duplicated += len(surplus)
        return [
            *(f"{path} is missing or out of date" for path in lost),
            *(f"{path} has {len(found[path])} documents" for path in surplus),
        ]

    @property
    def broken(self) -> int:
        """How often a promise was not kept."""
        return self.lost + self.duplicated + self.gaps + self.foreign + self.violations


class PromiseBroken(AssertionError):
    """A promise was broken, and what had been counted by then is known."""

    def __init__(self, sentence: str, tally: Tally) -> None:
        super().__init__(sentence)
        self.tally = tally


Exercise = Callable[[int, Path], Tally]
"""Takes a seed and an empty scratch directory, and tells what was done, in a second to about a minute.

Raises `AssertionError` (`PromiseBroken` where it can count) when a promise was broken. The same seed does
the same."""
