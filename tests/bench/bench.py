"""The interface of a bench: a knowledge base under test, its contents, other users' changes, and faults.

Crashes (`tests/crash`), random lives (`tests/engine/machine.py`), faults (`tests/remote`) and messes
(`tests/torture`) run on any bench. A bench leaves out what it can't do, and its docstring says so.
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
"""The text of other users' documents."""


@dataclass(frozen=True, slots=True)
class OwnDocument:
    """A document of ours. `search_result`: path and text that a search finds now; None: nothing.

    `digest`: the SHA-256 of its newest version. `failed`: indexing that version failed, whatever
    `search_result` is.
    `recipe`: its recipe, "" if the base doesn't show it.
    """

    id: str
    name: str
    path: str
    digest: str
    search_result: tuple[str, str] | None
    failed: bool = False
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A change at the base. `text`: of the version concerned; `fails`: it can't be indexed.

    `is_sent`: the text came with this change.
    """

    op: str
    path: str
    text: str | None = None
    fails: bool = False
    is_sent: bool = True


class Bench(ABC):
    """A world and its base. `on_change` is called at every change.

    `stored`, `accepted`: the boundaries after which a document is at the target, and after which the state
    records it. `renames`: whether the target can rename. `has_gaps_in_renames`: the target stores each text
    once, so that a moved file can't be found for a while.
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
        """Run the service for as long as the context lasts."""

    # -- contents -----------------------------------------------------------------------------------------

    @abstractmethod
    def ours(self) -> list[OwnDocument]:
        """Return every document that kbsync created and that still exists, oldest first."""

    def documents(self) -> dict[str, list[str]]:
        """Return the SHA-256 of each of our documents, searchable or not, by path."""
        results: dict[str, list[str]] = {}
        for document in self.ours():
            results.setdefault(document.path, []).append(document.digest)
        return results

    def searchable(self) -> set[str]:
        """Return the paths that searches find now, in any version."""
        return {document.search_result[0] for document in self.ours() if document.search_result is not None}

    @abstractmethod
    def uploads(self) -> list[tuple[str, str]]:
        """Return (path or name, digest) of every upload so far, in order."""

    @abstractmethod
    def request_count(self) -> int:
        """Return the number of requests."""

    def touched(self) -> int:
        """Return how many of other users' documents are missing or changed."""
        return 0

    @abstractmethod
    def violations(self) -> list[str]:
        """Return the requests that broke the service's rules or affected other users' documents."""

    # -- faults -------------------------------------------------------------------------------------------

    @abstractmethod
    def fail_once(self, path: str) -> None:
        """Let the next document of this path be stored but fail to index."""

    @abstractmethod
    def heal(self) -> None:
        """End all faults."""


class SharedBench(Bench):
    """A base with other writers, and a service that may report wrong states."""

    @abstractmethod
    def add_foreign(self, name: str, text: str = STRANGE, **more: Any) -> str:
        """Upload a document as another user and return its id. `more`: other properties that the service
        keeps.
        """

    @abstractmethod
    def take_away(self, document: OwnDocument) -> None:
        """Delete one of our documents as another user."""

    def lose(self, path: str) -> None:
        """Delete the documents of this path as another user."""
        for document in self.ours():
            if document.path == path:
                self.take_away(document)

    @abstractmethod
    def fault(self, op: str, kind: str) -> None:
        """Let the next call of `op` be `lost` (nothing done), `done` (no response), `down`, `refused` or
        `full`.
        """

    @abstractmethod
    def come_late(self, path: str, after: float = 5.0) -> None:
        """Let the next upload of this path arrive this long after its response was lost."""

    @abstractmethod
    def keep_deleted(self) -> None:
        """Let the service confirm the next deletion without carrying it out."""

    @abstractmethod
    def arrive(self) -> None:
        """Let all delayed uploads arrive now."""

    @abstractmethod
    def clock_was_set(self) -> None:
        """Note that this machine's clock was set, but not the service's."""

    @abstractmethod
    def story(self) -> list[str]:
        """Return the last changes, to show when a promise was broken."""

    @abstractmethod
    def target(self) -> AbstractAsyncContextManager[Target | Any]:
        """Open another client alongside the mirror's, for as long as the context lasts."""
