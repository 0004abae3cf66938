"""Random lives of a whole mirror in memory, many to an exercise (`tests/engine/machine.py`)."""

from __future__ import annotations

from pathlib import Path

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.machine import MirrorMachine
from tests.torture.exercise import Exercise, Tally

LIVES, RULES = 40, 50


def live(machine: type[MirrorMachine], number: int, lives: int, rules: int = RULES) -> Tally:
    """So many lives of one kind of machine; the same number gives the same lives."""

    class Seeded(machine):  # type: ignore[valid-type, misc]
        steps = crashes = faults = 0

    seeded = seed(number)(Seeded)
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        run_state_machine_as_test(seeded, settings=_settings(lives, rules))
    finally:
        structlog.configure(**before)
    return Tally(steps=Seeded.steps, crashes=Seeded.crashes, faults=Seeded.faults)


def _settings(lives: int, rules: int) -> settings:
    return settings(
        max_examples=lives,
        stateful_step_count=rules,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )


def exercise(number: int, _scratch: Path) -> Tally:
    """Some 2,000 steps."""
    return live(MirrorMachine, number, LIVES)


EXERCISES: dict[str, Exercise] = {"machine": exercise}
