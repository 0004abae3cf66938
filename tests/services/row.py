"""The description of one service for tests, and the faults that every service has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbsync_standin.faults import Fault
from tests.bench.zhipu import ZhipuBench
from tests.conformance.served import ServedWorld
from tests.remote.world import RemoteWorld


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """The worlds of a service and the bench on which mirrors are played there.

    `behaviours`: how the service may behave. `oddities`: what it does wrong besides what every service does:
    answers that say nothing, too much or the untruth. `names`: styles of document names.
    """

    bench: type[ZhipuBench]
    world: type[RemoteWorld]
    served: type[ServedWorld]
    behaviours: Sequence[dict[str, Any]]
    oddities: Sequence[Fault]
    names: Sequence[str] = ("tagged",)

    def make_bench(self, place: Path, **settings: Any) -> ZhipuBench:
        """A bench in an empty folder. `settings`: those of the world."""
        return self.bench(self.world(place, **settings))


def unclear(*ops: str) -> list[Fault]:
    """Requests that are carried out, or not, and whose answers do not say so."""
    return [
        fault
        for op in ops
        for fault in (
            Fault("cut-body", op),
            Fault("truncated-json", op),
            Fault("html", op, effect=False),
            Fault("status", op),
            Fault("status", op, effect=False, args={"status": 503}),
            Fault("late-effect", op, args={"after": 5}),
        )
    ]
