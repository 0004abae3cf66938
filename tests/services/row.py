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
    """The worlds of a service, and the bench for mirrors there.

    `behaviours`: the service's possible behaviours. `oddities`: its own faults: responses that are empty,
    incomplete or wrong. `names`: styles of document names.
    """

    bench: type[ZhipuBench]
    world: type[RemoteWorld]
    served_world: type[ServedWorld]
    behaviours: Sequence[dict[str, Any]]
    oddities: Sequence[Fault]
    names: Sequence[str] = ("tagged",)

    def make_bench(self, folder: Path, **settings: Any) -> ZhipuBench:
        """Return a bench in an empty folder. `settings`: those of the world."""
        return self.bench(self.world(folder, **settings))


def unclear(*ops: str) -> list[Fault]:
    """Return faults whose responses don't show whether the request was carried out."""
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
