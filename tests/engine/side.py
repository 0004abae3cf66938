"""The other side of a mirror, as the state machine sees it: a knowledge base that others write into as well.

What one side cannot do is left out there and said in its docstring; the machine never asks which it has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from kbsync.contract.target import DocState, Target
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from tests.crash.harness import Guillotine, run_until
from tests.engine.world import World
from tests.memory.base import Document
from tests.memory.behaviour import Behaviour, Failure, Fault
from tests.memory.target import MemoryTarget

STRANGE = "somebody else's, and longer than any text of ours"
"""What others put there."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A document of ours. `shown`: path and text that a search finds at this moment; None: nothing.

    `failed`: its newest version was not indexed, whatever is shown.
    """

    id: str
    name: str
    path: str
    shown: tuple[str, str] | None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """Something is otherwise there. `text`: of the version that was stored; `fails`: it does not index."""

    op: str
    path: str
    text: str | None = None
    fails: bool = False


Listener = Callable[[Change], None]


class Side(ABC):
    """A base with its service. `on_change` is called for every change, at the moment it happens."""

    world: World
    on_change: Listener

    @abstractmethod
    def ours(self) -> list[Kept]:
        """Every document that kbsync brought there and that is there now, the oldest first."""

    @abstractmethod
    def fault(self, op: str, kind: str) -> None:
        """The next call of `op` is `lost` (nothing done), `done` (no answer), `down`, `refused` or `full`."""

    @abstractmethod
    def add_foreign(self, name: str) -> None:
        """Somebody else uploads `STRANGE` under a name."""

    @abstractmethod
    def take_away(self, one: Kept) -> None:
        """Somebody else deletes a document of ours."""

    @abstractmethod
    def arrive(self) -> None:
        """Whatever is still on its way there arrives now."""

    @abstractmethod
    def clock_was_set(self) -> None:
        """The clock of this machine is another from now on, that of the service is not."""

    @abstractmethod
    def heal(self) -> None:
        """Nothing goes wrong any more."""

    @abstractmethod
    def violations(self) -> list[str]:
        """What was done against the rules of the service, or to documents of others."""

    @abstractmethod
    def story(self) -> list[str]:
        """The last changes, to be read when a promise was broken."""

    @abstractmethod
    def target(self) -> AbstractAsyncContextManager[Target]:
        """A client of its own beside the mirror's, for as long as the context lasts."""

    @abstractmethod
    async def crash(self, guillotine: Guillotine) -> None:
        """A pass that ends where the guillotine falls, and with it everything of the process."""

    @abstractmethod
    async def begin(self) -> None:
        """The service is there from now on."""

    @abstractmethod
    async def end(self) -> None:
        """The service is there no more."""


ERRORS: dict[str, Callable[[], TargetError]] = {
    "lost": lambda: Unsure("no answer, nothing done"),
    "done": lambda: Unsure("no answer, all done"),
    "down": lambda: Unavailable("down"),
    "refused": lambda: Rejected("refused"),
    "full": lambda: Halted("quota", "no room", cure="make room"),
}


class MemorySide(Side):
    """A base in memory. Documents whose digest begins with one of `bad` do not index at first."""

    def __init__(self, world: World, on_change: Listener, behaviour: Behaviour, bad: str) -> None:
        self.world = world
        self.on_change = on_change
        self.bad = tuple(bad)
        self.base = world.base
        self.base.behaviour = behaviour
        if bad:
            behaviour.failures = [Failure(lambda subject: subject.digest.startswith(self.bad), times=1)]
        self.base.observers.append(lambda _base: self._observed())
        self._is_changing = False

    async def begin(self) -> None:
        """It needs none."""

    async def end(self) -> None:
        """There is none."""

    def _observed(self) -> None:
        self._is_changing = True
        try:
            self._tell()
        finally:
            self._is_changing = False

    def _tell(self) -> None:
        effect = self.base._effects[-1]
        document = self.base._documents.get(effect.remote_id)
        if document is None or effect.op not in ("put", "update"):
            self.on_change(Change(effect.op, effect.path))
            return
        fails = bool(self.bad) and document.digest.startswith(self.bad)
        self.on_change(Change(effect.op, document.path, document.data.decode(), fails))

    def ours(self) -> list[Kept]:
        """In the middle of a change nothing else that is due happens."""
        documents = self.base._documents if self._is_changing else self.base.documents
        return [_kept(one) for one in documents.values() if not one.foreign]

    def fault(self, op: str, kind: str) -> None:
        self.base.faults.append(Fault(op, error=ERRORS[kind], effect=kind == "done"))

    def add_foreign(self, name: str) -> None:
        self.base.add(name, STRANGE.encode())

    def take_away(self, one: Kept) -> None:
        self.base.lose(one.id)

    def arrive(self) -> None:
        """Everything arrives at once."""

    def clock_was_set(self) -> None:
        self.base.behaviour.tells_created = False

    def heal(self) -> None:
        self.base.faults.clear()

    def violations(self) -> list[str]:
        return self.base.violations

    def story(self) -> list[str]:
        return [repr((e.op, e.path, e.remote_id, e.time)) for e in self.base.effects[-40:]]

    @asynccontextmanager
    async def target(self) -> AsyncIterator[MemoryTarget]:
        yield self.world.target_type(self.base, limits=self.world.limits, clock=self.world.clock.wall)

    async def crash(self, guillotine: Guillotine) -> None:
        await run_until(self.world, guillotine)
        self.base.updating.clear()


def _kept(one: Document) -> Kept:
    shown = one.shown and (one.shown.path, one.shown.text)
    return Kept(one.remote_id, one.name, one.path, shown, one.state is DocState.FAILED)
