"""The state machine over the real client and the stand-in of GPTBots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize

from tests.engine.machine import PREFIXES, MirrorMachine
from tests.targets.gptbots.side import GptbotsSide, SteadyGptbots

SERVICES: list[dict[str, Any]] = [
    {},
    {},
    {"list_lag": 8.0, "order": "shuffled"},
    {"names": "bare", "total": "missing", "times": "ms"},
    {"stale_status": 5.0, "failed": "objects"},
]
"""How the service may be taken to behave."""


class GptbotsMachine(MirrorMachine):
    """A mirror at GPTBots."""

    @initialize(service=st.sampled_from(SERVICES), indexing=st.sampled_from([0.0, 3.0]))
    def begin(self, service: dict[str, Any], indexing: float) -> None:
        self.note("begin", service, indexing)
        world = SteadyGptbots(Path(self.place.name), (indexing, indexing), give_up=60.0)
        world.turn(**service)
        self.start(GptbotsSide(world, self.changed, PREFIXES))

    def step_clock(self, seconds: float) -> None:
        """A lost update that looks longer absent than it is is made again while the first is on its way."""
        super().step_clock(seconds)
        if seconds > 0:
            self.world.tolerated = "with the same bytes"
