"""What a crash test asks of a world, whatever its target is, and the stage whose base is in memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from kbsync.once import run_once
from tests.crash.harness import Guillotine, Work, run_to
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Failure, Fault
from tests.memory.target import MemoryTarget

KEPT = "kept.md"
FILES = 5


class Stage(ABC):
    """A mirrored folder with a document of somebody else in its base.

    `kept` is the path of a file that is edited and moved but never deleted. `labels`: files that the target
    knows by an earlier path, which it cannot change.
    `stored`, `accepted`: boundaries after which a document is at the target, and the state knows it.
    `may_send`: how often a version may be stored whose first indexing failed.
    `patience`: requests that one pass may need at most, besides one for each file. `renames`: it can.
    """

    stored: Sequence[str] = ("put effect",)
    accepted: Sequence[str] = ("put answer", "commit after")
    may_send = 2
    patience = 60
    renames = False
    world: World

    def __init__(self) -> None:
        self.kept = KEPT
        self.sent_before = self.recipes_set = 0
        self.labels: dict[str, str] = {}
        self.on_effect: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def serving(self, **plan: Any) -> AsyncIterator[Self]:
        """Everything is mirrored; `plan`: what the config says otherwise."""
        self.world.settings = replace(self.world.settings, **plan)
        self.world.write_many(FILES)
        self.world.write(self.kept, "kept")
        await self.world.once()
        self.plant()
        yield self

    async def crash(self, guillotine: Guillotine, work: Work = run_once) -> None:
        """A pass that ends where the guillotine falls, and with it everything of the process."""
        self.listen(guillotine)
        try:
            await run_to(self.world, guillotine, work)
        finally:
            self.listen(None)
        await self.bury()
        self.world.breaches.clear()  # rows of a cut transaction never reached the disk

    @abstractmethod
    async def bury(self) -> None:
        """Take back what the system takes back from a process that is dead."""

    async def tidy(self) -> None:
        """Some files to be edited, and not so many that passes grow longer from turn to turn."""
        there = len(self.world.on_disk())
        if there < FILES:
            self.world.write_many(FILES, f"more{self.world.clock.now:.0f}-")
        elif there > 2 * FILES:
            for path in self.spare(FILES):
                self.world.delete(path)
        else:
            return
        await self.world.once()

    def spare(self, n: int) -> list[str]:
        """Some mirrored files that may be edited, moved and deleted."""
        return [path for path in self.world.on_disk() if path != self.kept][:n]

    def lose_state(self) -> None:
        for file in self.world.state.iterdir():
            if file.is_file():
                file.unlink()

    def digests(self) -> dict[str, list[str]]:
        """What `documents` must be."""
        return {
            self.labels.get(path, path): [hashlib.sha256(text.encode()).hexdigest()]
            for path, text in self.world.on_disk().items()
        }

    def move(self, old: str, new: str) -> None:
        """Rename a file. A document that keeps its name is known by the old one from then on."""
        self.world.move(old, new)
        if self.keeps_names:
            self.labels[new] = self.labels.pop(old, old)

    @property
    def keeps_names(self) -> bool:
        """A document is left as it is when its file is renamed."""
        return self.world.settings.renames == "keep" and not self.renames

    @abstractmethod
    def listen(self, guillotine: Guillotine | None) -> None:
        """Tell the guillotine of every request from now on."""

    @abstractmethod
    def plant(self) -> None:
        """Somebody else puts a document into the base."""

    @abstractmethod
    def touched(self) -> int:
        """How many documents of others are not there any more, or not as they were."""

    @abstractmethod
    def documents(self) -> dict[str, list[str]]:
        """SHA-256 of every document of ours, searchable or not, by path."""

    def recipes(self) -> dict[str, str]:
        """How each document of ours is made, by path, as far as the other side shows it."""
        return {}

    @abstractmethod
    def searchable(self) -> set[str]:
        """Paths of which some version is found at this moment."""

    @abstractmethod
    def sent(self) -> list[tuple[str, str]]:
        """(path or name, digest) of everything that was ever stored, in order."""

    @abstractmethod
    def asked(self) -> int:
        """How many requests there were."""

    @abstractmethod
    def fail_once(self, path: str) -> None:
        """The next document of this path is stored but does not index."""

    @abstractmethod
    def come_late(self) -> None:
        """The upload that is cut off next arrives some seconds later."""

    @abstractmethod
    def heal(self) -> None:
        """Nothing goes wrong any more."""

    @abstractmethod
    def violations(self) -> list[str]:
        """What was done against the target's rules."""


class SharedStage(Stage):
    """A stage whose base others work on, too, and which may say what is not so."""

    @abstractmethod
    def lose(self, path: str) -> None:
        """Somebody else deletes the document of a file."""

    @abstractmethod
    def keep_deleted(self) -> None:
        """The next deletion is answered as done and is not."""


class MemoryStage(SharedStage):
    """A base in memory. `slow`: documents are searchable some time after they were accepted."""

    def __init__(self, place: Path, target: type[MemoryTarget], *, slow: bool = False, **limits: Any) -> None:
        super().__init__()
        self.world = World(place, target, **limits)
        self.renames = hasattr(target, "rename")
        self.base = self.world.base
        self.base.behaviour = Behaviour(indexing_polls=1, answers_ready=False) if slow else Behaviour()
        self.base.observers.append(lambda _base: self.on_effect())
        self._foreign: dict[str, bytes] = {}

    def listen(self, guillotine: Guillotine | None) -> None:
        self.base.open_requests = 0
        self.base.at_request = (
            None if guillotine is None else lambda op, phase, _what: guillotine.boundary(f"{op} {phase}")
        )

    async def bury(self) -> None:
        """A client in memory holds nothing."""

    def plant(self) -> None:
        document = self.base.add("guide.md", b"not ours", path="")
        self._foreign[document.remote_id] = document.data

    def touched(self) -> int:
        found = {number: one.data for number, one in self.base.documents.items() if one.foreign}
        return len(self._foreign.items() - found.items())

    def documents(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for one in self.base.documents.values():
            if not one.foreign:
                found.setdefault(one.path, []).append(one.digest)
        return found

    def recipes(self) -> dict[str, str]:
        return {one.path: one.recipe for one in self.base.documents.values() if not one.foreign}

    def searchable(self) -> set[str]:
        return set(self.base.shown())

    def sent(self) -> list[tuple[str, str]]:
        return [(effect.path, effect.digest) for effect in self.base.effects_of("put", "update")]

    def asked(self) -> int:
        return len(self.base.requests)

    def fail_once(self, path: str) -> None:
        self.base.behaviour.failures.append(Failure(lambda subject: subject.path == path, times=1))

    def come_late(self) -> None:
        self.base.behaviour.late_puts = 5.0

    def lose(self, path: str) -> None:
        [document] = self.base.served(path)
        self.base.lose(document.remote_id)

    def keep_deleted(self) -> None:
        self.base.faults.append(Fault("delete", lie=True))

    def heal(self) -> None:
        self.base.behaviour.failures.clear()
        self.base.faults.clear()
        self.base.behaviour.late_puts = 0.0

    def violations(self) -> list[str]:
        return self.base.violations
