"""The bench with an in-memory base."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from kbsync.contract.target import DocState
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from tests.bench.bench import STRANGE, Change, OwnDocument, SharedBench
from tests.engine.world import World, driven
from tests.memory.behaviour import Behaviour, Failure, Fault
from tests.memory.target import MemoryTarget

ERRORS: dict[str, Callable[[], TargetError]] = {
    "lost": lambda: Unsure("no answer, nothing done"),
    "done": lambda: Unsure("no answer, all done"),
    "down": lambda: Unavailable("down"),
    "refused": lambda: Rejected("refused"),
    "full": lambda: Halted("quota", "no room", fix="make room"),
}


class MemoryBench(SharedBench):
    """Documents whose digest begins with one of `bad` fail to index at first."""

    def __init__(self, world: World, behaviour: Behaviour | None = None, bad: str = "") -> None:
        super().__init__()
        self.world = world
        self.bad = tuple(bad)
        self.renames = hasattr(world.target_type, "rename")
        self.base = world.base
        self.base.behaviour = behaviour or Behaviour()
        if bad:
            self.base.behaviour.failures = [
                Failure(lambda document: document.digest.startswith(self.bad), times=1)
            ]
        self.base.observers.append(lambda _base: self._observed())
        self._foreign: dict[str, bytes] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[MemoryBench]:
        yield self

    def _observed(self) -> None:
        effect = self.base.effects[-1]
        document = self.base.documents.get(effect.remote_id)
        change = Change(effect.op, effect.path)
        if document is not None and effect.op in ("put", "update"):
            fails = bool(self.bad) and document.digest.startswith(self.bad)
            change = Change(effect.op, document.path, document.data.decode(), fails)
        self.on_change(change)

    def ours(self) -> list[OwnDocument]:
        return [
            OwnDocument(
                document.remote_id,
                document.name,
                document.path,
                document.digest,
                document.searchable and (document.searchable.path, document.searchable.text),
                document.state is DocState.FAILED,
                document.recipe,
            )
            for document in self.base.documents.values()
            if not document.foreign
        ]

    def uploads(self) -> list[tuple[str, str]]:
        return [(effect.path, effect.digest) for effect in self.base.effects_of("put", "update")]

    def request_count(self) -> int:
        return len(self.base.requests)

    def touched(self) -> int:
        result = {
            number: document.data for number, document in self.base.documents.items() if document.foreign
        }
        return len(self._foreign.items() - result.items())

    def violations(self) -> list[str]:
        return self.base.violations

    def story(self) -> list[str]:
        return [repr((e.op, e.path, e.remote_id, e.time)) for e in self.base.effects[-40:]]

    def add_foreign(self, name: str, text: str = STRANGE, **fields: Any) -> str:
        document = self.base.add(name, text.encode(), **fields)
        self._foreign[document.remote_id] = document.data
        return document.remote_id

    def take_away(self, document: OwnDocument) -> None:
        self.base.lose(document.id)

    def fault(self, op: str, kind: str) -> None:
        self.base.faults.append(Fault(op, error=ERRORS[kind], effect=kind == "done"))

    def fail_once(self, path: str) -> None:
        self.base.behaviour.failures.append(Failure(lambda subject: subject.path == path, times=1))

    def come_late(self, path: str, after: float = 5.0) -> None:
        """Delay the next upload."""
        self.base.behaviour.late_puts = after

    def keep_deleted(self) -> None:
        self.base.faults.append(Fault("delete", is_false=True))

    def arrive(self) -> None:
        """Let everything arrive at once."""

    def clock_was_set(self) -> None:
        self.base.behaviour.tells_created = False

    def heal(self) -> None:
        self.base.faults.clear()
        self.base.behaviour.late_puts = 0.0
        if not self.bad:
            self.base.behaviour.failures.clear()

    @asynccontextmanager
    async def target(self) -> AsyncIterator[MemoryTarget]:
        async with driven(self.world.clock):
            yield self.world.target_type(self.base, limits=self.world.limits, clock=self.world.clock.wall)
