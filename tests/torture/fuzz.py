"""Gives random inputs to every reader of strangers' data, different ones for each seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.security.inputs import FIELDS
from tests.torture.exercise import Exercise, Tally

INPUTS = 1500


def fuzz(inputs: st.SearchStrategy[Any], check: Callable[[Any], None], seed: int, scratch: Path) -> Tally:
    """Read `INPUTS` inputs of one kind; report the smallest that breaks its promise."""
    tally = Tally()

    @seeded(seed)
    @settings(
        max_examples=INPUTS,
        deadline=5000,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def every(value: Any) -> None:
        tally.inputs += 1
        check(value)

    try:
        every()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r} {getattr(error, '__notes__', '')}") from error
    return tally


EXERCISES: dict[str, Exercise] = {
    f"fuzz-{field}": partial(fuzz, inputs, check) for field, (inputs, check) in FIELDS.items()
}
