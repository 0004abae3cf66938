"""What the engine needs from a target: storing documents."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, runtime_checkable

from kbsync.contract.meter import Meter
from kbsync.contract.searching import Hit, Query
from kbsync.core.model import Formats, Waiting
from kbsync.dataclass import dataclass
from kbsync.errors import TargetError


class Body(Protocol):
    """The bytes of one document. `open` returns the bytes that were hashed, from the start each time (promise
    8)."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def open(self) -> BinaryIO:
        """Return a new binary stream at position 0; the caller closes it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A document to put. `upload_id` is stable across retries and unique within a state file.

    `replaces`: the remote id of the version that it replaces, for targets that update in place or accept a
    text only once. `is_retry`: the target refused it before; a target that sends several documents in a
    request sends this one alone, so that no other document can be the cause.
    """

    upload_id: int
    path: str
    name: str
    digest: str
    size: int
    mtime: float
    recipe: str
    body: Body
    replaces: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_retry: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The target has the document. `ready`: it is already searchable. `replaced`: `replaces` no longer
    exists.

    `name`: the name that the target gave it, if it differs from the sent one. `created`: as in `Listed`.
    """

    remote_id: str
    ready: bool = False
    replaced: bool = False
    name: str = ""
    # Vendors don't document this time: only if it agrees with the time of the response may `Listed.created`
    # disprove anything in this account.
    created: float | None = field(default=None, compare=False)


class DocState(enum.Enum):
    """The state that a target reports for one of its documents."""

    INDEXING = "indexing"
    READY = "ready"
    FAILED = "failed"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DocStatus:
    """A document's state, with the target's own message about a failure.

    `halt`: the contract's reason (`quota`) if the account is to blame, not the document. `is_final`: a person
    hid the document there, so kbsync neither indexes nor sends it again before `retry` requests it. `twin`:
    the remote id of the document that has the same text, if this one failed because the target accepts each
    text only once. `pause`: seconds during which an indexing document will make no progress, as `reason`
    says; if that is long, a pass ends without it.
    """

    state: DocState
    reason: str = ""
    code: str = ""
    halt: str = ""
    is_final: bool = False
    twin: str = ""
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of a target's list. None: the target doesn't say. `created`: epoch seconds.

    Only targets that keep our marker return `path`, `digest`, `upload_id` and `recipe`. `addresses`: possible
    URLs of the page that the document was made from.
    """

    remote_id: str
    name: str
    size: int | None = None
    created: float | None = None
    state: DocState = DocState.UNKNOWN
    path: str | None = None
    digest: str | None = None
    upload_id: int | None = None
    recipe: str | None = None
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Base:
    """The knowledge base itself: a new `id` means a different base with none of the old documents.

    `address`: its location, as a URL without user and password: the canonical base URL of a service, the
    database, or the file of a built-in base. `writer`: identifies the process that has it open now, once that
    has written there. `last_writer`: identifies the previous writer; if it isn't the one in this state, the
    documents may differ from the state. `writer` is '' if a base doesn't track it.
    """

    id: str
    documents: int | None = None
    address: str = ""
    writer: str = ""
    last_writer: str = ""


@dataclass(frozen=True, slots=True)
class BaseCard:
    """A knowledge base as its account shows it. `size` in bytes; None: the target does not say.

    `settings`: those of the service that it shows, in the form in which `kbsync kb` takes them.
    """

    id: str
    name: str
    description: str = ""
    model: str = ""
    documents: int | None = None
    size: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    words: int | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes of the whole account, and words where the service counts them; None: it does not."""

    used: int
    total: int
    used_words: int | None = None
    total_words: int | None = None


@dataclass(frozen=True)
class Limits(Waiting, Formats):
    """A target's limits, how long to wait for its work, and what else the engine must know about it.

    The number after a description is that of the promise it serves (docs/promises.md).
    """

    batch: int = 1
    """Maximum number of documents in one `put`. Each has its own outcome (9)."""

    batch_bytes: int | None = None
    """Maximum total size of the documents in one request; a larger one goes alone. None: no limit."""

    concurrency: int = 4
    """Maximum number of requests in flight."""

    ahead: int = 0
    """Number of documents to prepare beyond `concurrency`, for a target that holds back requests itself."""

    unhurried: float = 0.0
    """Minimum number of seconds between two requests that nobody waits for."""

    marks: bool = False
    """Whether the list returns the path, digest and upload id that were sent, which prove a document ours
    (6)."""

    links: frozenset[str] = frozenset()
    """Those of `extensions` whose files contain a URL that the service fetches. Without `marks` the list has
    such a document under another name, so kbsync looks for a lost response by the URL (3)."""

    ids_return: bool = False
    """Whether ids derive from names: a new document may get the id of a deleted one (3)."""

    paid: bool = False
    """Whether indexing costs money, so that kbsync asks before a changed recipe indexes many documents again
    (7)."""

    embedded: bool = False
    """Whether kbsync made the base, with an id that stays the same wherever the base is moved: another id in
    the same place means that the old base is lost.

    Only this mirror changes it. It rejects a document for its content, so many rejections in a row say
    nothing about the target (9).
    """


PutOutcome = Accepted | TargetError
DeleteOutcome = TargetError | None
"""None: the document no longer exists (deleting an unknown document succeeds)."""


class Target(ABC):
    """A knowledge base that can store documents. Calls raise `TargetError` if the whole call failed.

    Every target implements the abstract members. The others have a default for targets without that feature.
    Optional abilities are Protocols, below.
    """

    updates_in_place: bool = False
    """`put` with `replaces` updates the document in place."""

    takes_texts_once: bool = False
    """Stores each text once: for equal bytes, `put` deletes `replaces` first.

    So if a document has the bytes of another, that other document no longer exists.
    """

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """What it accepts."""

    @property
    def note(self) -> str:
        """A remark for the user although everything works; "" if there is none."""
        return ""

    @abstractmethod
    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """Return a short hash of everything except the bytes that determines how `path` is indexed. Pure."""

    @abstractmethod
    async def base(self) -> Base:
        """Check the knowledge base. Raises `Halted("knowledge-base-missing")` if it doesn't exist."""

    @abstractmethod
    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Store each document; return outcomes in the same order. An old version serves until the new one
        does."""

    @abstractmethod
    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return the state of each remote id."""

    @abstractmethod
    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Delete each remote id; repeatable."""

    @abstractmethod
    def list(self) -> AsyncIterator[Listed]:
        """Yield every document of the base."""

    @abstractmethod
    async def search(self, query: Query) -> Sequence[Hit]:
        """Return at most `top_k` documents, best first. Raises `NotOffered` if the base can't be searched."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close connections, processes and files."""

    async def leave(self) -> None:  # noqa: B027 (most keep nothing)
        """The mirror has ended and its documents are deleted: delete what else the base keeps about it."""

    @property
    def scale(self) -> str | int:
        """A value that is equal for two targets only if their scores are comparable."""
        return id(self)

    @property
    def reach(self) -> Hashable:
        """A value that is equal for two targets only if their searches return the same, so that one search is
        enough.

        If a search returns documents of other mirrors, hits have an `Origin`.
        """
        return id(self)

    @property
    def owner(self) -> str | None:
        """Identifies the mirror's own documents in an `Origin`; None if unknown."""
        return None

    @property
    def reranks(self) -> bool:
        """Whether it has a ranking model, so that `Query.rerank` works."""
        return False

    def describe(self, recipe: str) -> str:
        """Describe the settings behind a recipe, by their config keys; "" for a recipe of another target."""
        return ""

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Self:
        """Return the same target, in which every request, including retries, waits for `pace` first.

        For work that can wait, such as an audit. It shares everything with this target, so don't close it
        separately.
        """
        return self

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Return the hits in the same order, with the images that their passages mention, as far as they are
        available.

        Sends at most one request per document. Raises no `TargetError`.
        """
        return hits

    @property
    def meter(self) -> Meter | None:
        """The counts of its requests since it was opened; None if it sends none."""
        return None

    @property
    def clock_apart(self) -> float | None:
        """Seconds by which the service's clock is ahead of ours, by its last response; None: unknown."""
        return None

    @property
    def bytes_left(self) -> int | None:
        """Space left in the account, by the service's last report minus what was sent since; None: unknown.
        Sends no request."""
        return None

    async def capacity(self) -> Capacity | None:
        """Return the account's space, by a request to the service; None if the service doesn't say."""
        return None


@runtime_checkable
class Finds(Protocol):
    """Can look up documents by name without listing all of them."""

    async def find(self, name: str) -> Sequence[Listed]:
        """Return some of the documents that may have this name, as in `list`.

        Each returned document exists, but a missing one may exist too: only `list` proves absence.
        """


@runtime_checkable
class Renames(Protocol):
    """Can change a document's path without indexing it again; repeatable."""

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Change the path to `path`."""


@runtime_checkable
class Reembeds(Protocol):
    """Can index a failed document again."""

    async def reembed(self, remote_id: str) -> None:
        """Ask for it; accepted doesn't mean finished, so poll `status`. Raises `NotOffered` if the target has
        no such call.
        """


@runtime_checkable
class Reslices(Protocol):
    """Can split a failed document again with other settings, without new bytes.

    It doesn't change the part of a recipe after `!`: if that part differs, kbsync uploads the document again.
    """

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Ask for it; accepted doesn't mean finished, so poll `status`. Raises `NotOffered` if the target has
        no such call.
        """


@runtime_checkable
class Reads(Protocol):
    """Can return a document's bytes, which prove what it is."""

    async def digest(self, remote_id: str) -> str | None:
        """Return the SHA-256 (lower-case hex) of a document's own bytes; None if they are unavailable."""


@runtime_checkable
class Confirms(Protocol):
    """Can find out by a search whether a document is searchable, if its status never says."""

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """Return whether a search limited to this document returns something; `name` gives the words to
        search for.
        """


@dataclass(frozen=True, slots=True)
class Cluster:
    """The Dask cluster that reads, splits and embeds documents for a target with its own index.

    `folder`: where its workers see the mirror's folder, or "" if they don't. `bytes_in_flight`: limit for
    documents in flight; a larger one goes alone.
    """

    address: str
    folder: str = ""
    bytes_in_flight: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a target receives besides its settings: its mirror, and the folders it may write to."""

    mirror: str
    state_dir: Path
    spool_dir: Path
    # Whether a read-only command opened it.
    read_only: bool = False
    # Prepended to every path of the mirror.
    prefix: str = ""
    # The mirror's folder, as in its config.
    folder: Path = Path()
    # The URL that the service calls: a secret; "" without a listener.
    callback_url: str = field(default="", repr=False)
    # None: this process prepares documents itself.
    cluster: Cluster | None = None
    # Builds a command that can be pasted.
    cure: Callable[[str], str] = lambda command: f"kbsync {command}"

    def pasted(self, words: str) -> str:
        """Return a command line about this mirror, to paste, for use in a sentence."""
        return self.cure(f"{words} --mirror {self.mirror}" if self.mirror else words)
