"""The exercises of all modules of this package that have some."""

from __future__ import annotations

import importlib
import pkgutil

import tests.torture as package
from tests.torture.exercise import Exercise

ROOMS = ("crash", "machine", "soak", "faults", "audits", "audits_gptbots", "fuzz", "resources")
OFTEN = {"machine": 12}
"""How many rounds of an exercise are played while all others play one: short steps, and many of them."""


def exercises() -> dict[str, Exercise]:
    """By name, in the order in which they are played. Raises `AssertionError` for a name given twice."""
    there = {module.name for module in pkgutil.iter_modules(package.__path__)}
    found: dict[str, Exercise] = {}
    for room in ROOMS:
        if room in there:
            own = importlib.import_module(f"tests.torture.{room}").EXERCISES
            assert not found.keys() & own.keys(), f"{room} has an exercise that another room has as well"
            found |= own
    return found
