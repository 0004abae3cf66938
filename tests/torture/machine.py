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
    seeded = seed(number)(type(machine.__name__, (machine,), {"steps": 0, "crashes": 0, "faults": 0}))
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        run_state_machine_as_test(seeded, settings=_settings(lives, rules))  # type: ignore[no-untyped-call]
    finally:
        structlog.configure(**before)
    return Tally(steps=seeded.steps, crashes=seeded.crashes, faults=seeded.faults)


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
