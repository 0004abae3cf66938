"""The state machine over the real clients and the stand-ins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from kbsync_standin.faults import Fault
from tests.bench.gptbots import GptbotsBench
from tests.bench.zhipu import ZhipuBench
from tests.engine.machine import MirrorMachine
from tests.remote.world import RemoteWorld
from tests.targets.gptbots.world import GptbotsWorld

ZHIPU_SERVICES: list[dict[str, Any]] = [
    {},
    {},
    {"list_lag": 8.0, "detail_lag": 8.0},
    {"order": "shuffled", "page_cap": 3, "word": "tokenised"},
    {"ids": "number", "stale_stat": 5.0},
    {"names": "nfd", "total": "zero"},
    {"names": "suffixed", "word": "ignored"},
    {"equal_names": "refuse", "unknown_delete": "null", "deleted_detail": "null"},
    {"clock_skew": -7200.0, "list_lag": 3.0},
]
"""How the service may be taken to behave."""

ODDITIES = [
    Fault("late-effect", "upload", args={"after": 5}),
    Fault("cut-body", "upload"),
    Fault("truncated-json", "upload"),
    Fault("html", "upload", effect=False),
    Fault("status", "upload"),
    Fault("status", "upload", effect=False, args={"status": 503}),
    Fault("code-in-200", "upload"),
    Fault("neither-list", "upload"),
    Fault("both-lists", "upload"),
    Fault("success-null", "upload"),
    Fault("unlisted", "upload", args={"seconds": 8}),
    Fault("fails", "upload", args={"runs": 1}),
    Fault("fails", "upload", args={"runs": 0}),
    Fault("polls", "upload", args={"n": 3}),
    Fault("relapse", "upload"),
    Fault("detail-missing", "upload", args={"seconds": 8}),
    Fault("detail-missing", "detail"),
    Fault("stat", "detail", args={"value": None}),
    Fault("truncated-json", "detail"),
    Fault("still-listed", "delete", args={"seconds": 30}),
    Fault("keeps-document", "delete"),
    Fault("delete-unknown", "delete", effect=False),
    Fault("status", "delete", effect=False),
    Fault("duplicates", "list", args={"n": 2}),
    Fault("left-out", "list"),
    Fault("list-null", "list"),
    Fault("total", "list", args={"value": 1}),
    Fault("truncated-json", "list"),
    Fault("no-date", "list"),
    Fault("unauthorized", "list"),
    Fault("base-gone", "list"),
    Fault("truncated-json", "file"),
    Fault("retrieve-empty", "retrieve"),
]
"""What this service alone does wrong: answers that say nothing, too much or the untruth."""


class ZhipuMachine(MirrorMachine):
    """A mirror at Zhipu."""

    @initialize(
        service=st.sampled_from(ZHIPU_SERVICES),
        indexing=st.sampled_from([0.0, 3.0]),
        names=st.sampled_from(["tagged", "tagged", "plain"]),
    )
    def begin(self, service: dict[str, Any], indexing: float, names: str) -> None:
        self.note("begin", service, indexing, names)
        world = RemoteWorld(Path(self.place.name), vectorize=(indexing, indexing), give_up=60.0)
        world.settings = replace(world.settings, names=names)
        world.turn(**service)
        self.start(ZhipuBench(world))

    @rule(oddity=st.sampled_from(ODDITIES))
    def odd_answer(self, oddity: Fault) -> None:
        self.note("odd_answer", oddity)
        type(self).faults += 1
        self.bench.world.server.faults.add(oddity)


GPTBOTS_SERVICES: list[dict[str, Any]] = [
    {},
    {},
    {"list_lag": 8.0, "order": "shuffled"},
    {"names": "bare", "total": "missing", "times": "ms"},
    {"stale_status": 5.0, "failed": "objects"},
]


class GptbotsMachine(MirrorMachine):
    """A mirror at GPTBots."""

    @initialize(service=st.sampled_from(GPTBOTS_SERVICES), indexing=st.sampled_from([0.0, 3.0]))
    def begin(self, service: dict[str, Any], indexing: float) -> None:
        self.note("begin", service, indexing)
        world = GptbotsWorld(Path(self.place.name), vectorize=(indexing, indexing), give_up=60.0)
        world.turn(**service)
        self.start(GptbotsBench(world))

    def step_clock(self, seconds: float) -> None:
        """A lost update that looks longer absent than it is is made again while the first is on its way."""
        super().step_clock(seconds)
        if seconds > 0:
            self.world.tolerated = "with the same bytes"
