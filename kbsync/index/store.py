"""What a store of the index does: documents go in, and candidates for a question come out.

There are two, `kbsync.index.sqlite.store` and `kbsync.index.postgres.store`. What the candidates are worth
together is decided above them, in `kbsync.index.search`, so that both rank alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kbsync.contract.searching import Origin, Query
from kbsync.errors import TargetError
from kbsync.index.document import Entry
from kbsync.index.embed import Encoder
from kbsync.index.words import Term

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Stored:
    """A document of the store, without its chunks."""

    id: int
    upload_id: int | None
    path: str
    name: str
    digest: str
    size: int
    recipe: str
    created: float


@dataclass(frozen=True, slots=True)
class CandidateChunk:
    """A chunk that may answer a question.

    `words` is its BM25 divided by the sum of the idf of all terms: near 1 where it has each of them about
    once, 0 where it has none. `meaning` is the cosine of its vector with the question's, 0 without one.
    """

    chunk: int
    document: int
    words: float
    meaning: float


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A chunk as it is shown, with what is known of its document."""

    document: int
    path: str
    title: str | None
    modified: float
    text: str
    headings: tuple[str, ...]
    page: int | None
    line: int | None
    origin: Origin | None = None


class StoreSnapshot(Protocol):
    """The store as of one commit. While one is open, files keep what is deleted (promise 11)."""

    def has_vectors(self, model: str) -> bool:
        """Any document has vectors of that model."""

    def candidates(
        self,
        terms: Sequence[Term],
        model: str,
        vector: NDArray[np.float32] | None,
        query: Query,
        least: float = 0.0,
    ) -> Sequence[CandidateChunk]:
        """The best chunks by words and the best by meaning, of as many documents as `query.top_k` at least,
        or of all that there are, so that few documents cost no more than many.

        Only documents that the filters of `query` admit. By meaning alone, what is no nearer than `least` is
        of no use. Raises `UsageError` for a path pattern that is none.
        """

    def passages(self, chunks: Iterable[int]) -> Mapping[int, StoredPassage]:
        """Those of the chunks that are there and belong to a document."""


class Store(Protocol):
    """Keeps documents. Calls block and may come from any thread.

    Raises `Unavailable` or `Halted` where the store itself is to blame, never a document.
    """

    @property
    def address(self) -> str:
        """Where it is, as an URL without user and password."""

    @property
    def writers(self) -> tuple[str, str]:
        """This opening's own name as a writer ('' where it only reads), and that of the last one before."""

    def look(self) -> tuple[str, int]:
        """Which store this is, and its number of documents. One that is gone or damaged is replaced."""

    def put(self, entries: Sequence[Entry], encoder: Encoder) -> Sequence[int | TargetError]:
        """Store each document and show it, in the place of the one it replaces; its id, or why not.

        Where all of them go into one transaction, trouble of the store is raised; else it is told of those
        documents that it kept out, and `Unsure` of one that may be in.

        `encoder` makes vectors that were known when the entry was made and went away since.
        """

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove those that are there; False where `purge` has yet to take out the last trace."""

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change path, name and time; repeatable. Raises `Rejected` for an unknown document."""

    def leave(self) -> None:
        """Whoever stored documents here has ended: forget who that was, where none is left. Repeatable."""

    def page(self, after: int, limit: int) -> Sequence[Stored]:
        """Up to `limit` documents with ids greater than `after`, in order: those with all their passages."""

    def present(self, documents: Iterable[int]) -> set[int]:
        """Those of `documents` that are there with all their passages."""

    def known(self, model: str, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that have a vector of `model`."""

    def texts(self, document: int) -> Sequence[str] | None:
        """The texts of a document's chunks in order; None for an unknown one."""

    def snapshot(self) -> AbstractContextManager[StoreSnapshot]:
        """For a search. Raises `UnmadeError` where nothing was mirrored yet."""

    def tidy(self) -> bool:
        """One step of what a change that was broken off left to be done; whether there may be more."""

    def purge(self) -> bool:
        """Do all that is left to be done, so that nothing deleted is in any file; False: try again later."""

    def stop(self) -> None:
        """Begin no further step of long work."""

    def close(self) -> None:
        """Let go of files; repeatable."""
