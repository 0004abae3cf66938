"""Random lives of a whole mirror, many to an exercise: with an in-memory base (`tests/engine/machine.py`),
and with the real clients and the stand-ins (`tests/remote/machine.py`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.machine import MirrorMachine
from tests.remote.machine import machine
from tests.services.rows import ROWS
from tests.torture.exercise import Exercise, Tally

LIVES, REMOTE_LIVES, RULES = 40, 16, 50
"""About 2,000 steps in memory, about 900 at a service."""


def live(kind: type[MirrorMachine], number: int, lives: int, rules: int = RULES) -> Tally:
    """Run lives of one kind of machine; the same number gives the same lives."""

    class Seeded(kind):  # type: ignore[valid-type, misc]
        steps = crashes = faults = 0

    seeded = seed(number)(Seeded)
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        run_state_machine_as_test(
            seeded,
            settings=settings(
                max_examples=lives,
                stateful_step_count=rules,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
                print_blob=False,
            ),
        )
    finally:
        structlog.configure(**before)
    return Tally(steps=Seeded.steps, crashes=Seeded.crashes, faults=Seeded.faults)


def live_at(service: str, number: int, _sandbox: Path) -> Tally:
    """Run lives of a mirror at this service."""
    return live(machine(service), number, REMOTE_LIVES)


EXERCISES: dict[str, Exercise] = {
    "machine": lambda number, _: live(MirrorMachine, number, LIVES),
    **{f"machine-{name}": partial(live_at, name) for name in ROWS},
}
