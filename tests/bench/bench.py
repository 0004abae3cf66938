"""The interface of a bench: a knowledge base under test, its contents, other users' changes, and faults.

Crashes (`tests/crash`), random lives (`tests/engine/machine.py`), faults (`tests/remote`) and messes
(`tests/torture`) are played on any bench. What one cannot do is left out there and said in its docstring.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Self

from kbsync.contract.target import Target
from tests.engine.world import World

STRANGE = "somebody else's, and longer than any text of ours"
"""What others put there."""


@dataclass(frozen=True, slots=True)
class OwnDocument:
    """A document of ours. `shown`: path and text that a search finds at this moment; None: nothing.

    `digest`: SHA-256 of its newest version. `failed`: that one was not indexed, whatever is shown.
    `recipe`: how it is made, "" where the base does not show it.
    """

    id: str
    name: str
    path: str
    digest: str
    shown: tuple[str, str] | None
    failed: bool = False
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Something is otherwise there. `text`: of the version that it is about; `fails`: it does not index.

    `is_sent`: the text came with this very change.
    """

    op: str
    path: str
    text: str | None = None
    fails: bool = False
    is_sent: bool = True


class Bench(ABC):
    """A world and its base. `on_change` is called for every change, at the moment it happens.

    `stored`, `accepted`: boundaries after which a document is at the target, and the state knows it.
    `renames`: the target can. `has_gaps_in_renames`: it takes a text only once, so that a moved file is not
    found for a while.
    """

    stored: Sequence[str] = ("put effect",)
    accepted: Sequence[str] = ("put answer", "commit after")
    renames = False
    has_gaps_in_renames = False
    world: World

    def __init__(self) -> None:
        self.on_change: Callable[[Change], None] = lambda _: None

    @abstractmethod
    def serving(self) -> AbstractAsyncContextManager[Self]:
        """The service is there for as long as the context lasts."""

    # -- what is there ---------------------------------------------------------------------------------

    @abstractmethod
    def ours(self) -> list[OwnDocument]:
        """Every document that kbsync brought there and that is there now, the oldest first."""

    def documents(self) -> dict[str, list[str]]:
        """SHA-256 of every document of ours, searchable or not, by path."""
        found: dict[str, list[str]] = {}
        for one in self.ours():
            found.setdefault(one.path, []).append(one.digest)
        return found

    def searchable(self) -> set[str]:
        """Paths of which some version is found at this moment."""
        return {one.shown[0] for one in self.ours() if one.shown is not None}

    @abstractmethod
    def sent(self) -> list[tuple[str, str]]:
        """(path or name, digest) of everything that was ever stored, in order."""

    @abstractmethod
    def asked(self) -> int:
        """How many requests there were."""

    def touched(self) -> int:
        """How many documents of others are not there any more, or not as they were."""
        return 0

    @abstractmethod
    def violations(self) -> list[str]:
        """What was done against the rules of the service, or to documents of others."""

    # -- what goes wrong -------------------------------------------------------------------------------

    @abstractmethod
    def fail_once(self, path: str) -> None:
        """The next document of this path is stored but does not index."""

    @abstractmethod
    def heal(self) -> None:
        """Nothing goes wrong any more."""


class SharedBench(Bench):
    """A base that others write into as well, and a service that may say what is not so."""

    @abstractmethod
    def add_foreign(self, name: str, text: str = STRANGE, **more: Any) -> str:
        """Somebody else uploads a document under a name; its id. `more`: what a service keeps besides."""

    @abstractmethod
    def take_away(self, one: OwnDocument) -> None:
        """Somebody else deletes a document of ours."""

    def lose(self, path: str) -> None:
        """Somebody else deletes what a file of ours has there."""
        for one in self.ours():
            if one.path == path:
                self.take_away(one)

    @abstractmethod
    def fault(self, op: str, kind: str) -> None:
        """The next call of `op` is `lost` (nothing done), `done` (no answer), `down`, `refused` or `full`."""

    @abstractmethod
    def come_late(self, path: str, after: float = 5.0) -> None:
        """The next upload of this path arrives so many seconds after its answer was lost."""

    @abstractmethod
    def keep_deleted(self) -> None:
        """The next deletion is answered as done and is not."""

    @abstractmethod
    def arrive(self) -> None:
        """Whatever is still on its way there arrives now."""

    @abstractmethod
    def clock_was_set(self) -> None:
        """The clock of this machine is another from now on, that of the service is not."""

    @abstractmethod
    def story(self) -> list[str]:
        """The last changes, to be read when a promise was broken."""

    @abstractmethod
    def target(self) -> AbstractAsyncContextManager[Target | Any]:
        """A client of its own beside the mirror's, for as long as the context lasts."""
