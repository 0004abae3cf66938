"""Defines the interface through which the engine stores documents in a target."""

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
    """The bytes of a single document.

    Each call to `open` returns the bytes that were hashed, from the start (promise 8).
    """

    @property
    def size(self) -> int:
        """The length in bytes."""

    def open(self) -> BinaryIO:
        """Return a new binary stream, positioned at the start. The caller closes it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A document to store.

    `upload_id` stays the same across retries, and is unique within a state file. `replaces`: the remote id of
    the version that it replaces, for targets that update in place or accept each text only once. `is_retry`:
    whether the target refused the document before. A target that sends several documents in a request sends
    such a document alone, so that it can't cause others to fail.
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
    """The outcome of storing a document.

    `ready`: whether it is already searchable. `replaced`: whether the document specified in `replaces` no
    longer exists. `name`: the name that the target gave the document, if it differs from the one sent.
    `created`: as in `Listed`.
    """

    remote_id: str
    ready: bool = False
    replaced: bool = False
    name: str = ""
    # Services don't document this time. kbsync uses `Listed.created` in this account to rule out documents
    # only if this time agrees with that of the response.
    created: float | None = field(default=None, compare=False)


class DocState(enum.Enum):
    """The state that a target reports for a document."""

    INDEXING = "indexing"
    READY = "ready"
    FAILED = "failed"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DocStatus:
    """A document's state, with the target's own message about a failure.

    `halt`: the contract's reason if the account (`quota`) or the service's model (`target-rejects`) is to
    blame, not the document. `is_final`: somebody hid the document at the target, so kbsync doesn't
    reindex or resend it until the user runs `retry`. `twin`: the remote id of the document that has the
    same text, if this one failed because the target accepts each text only once. `pause`: for how many
    seconds a document that is being indexed will make no progress, because of `reason`; if the pause is
    long, a pass doesn't wait for the document. For a failed document, the first pause before the next try
    if a rate limit or an unreachable model is to blame.
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
    """One row of a target's list. A field is None if the target doesn't return it.

    `created`: in epoch seconds. Only targets that keep our marker return `path`, `digest`, `upload_id` and
    `recipe`. `addresses`: possible URLs of the web page that the document was made from.
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
    database, or the file of a built-in base. `writer`: identifies the process that has the base open, after
    its first write; '' if the base doesn't track it. `last_writer`: identifies the previous writer; if it
    isn't the one in our state, the documents may differ from the state. `revision`: grows with the base's
    changes; None if the base doesn't count them. If it is lower than in our state, an older copy replaced the
    base.
    """

    id: str
    documents: int | None = None
    address: str = ""
    writer: str = ""
    last_writer: str = ""
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class BaseCard:
    """A knowledge base in an account's list. A field is None if the target doesn't return it.

    `size` is in bytes. `settings`: the settings that the service returns, in the form that `kbsync kb`
    accepts.
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
    """The account's space in bytes and, if the service counts words, also in words (otherwise None)."""

    used: int
    total: int
    used_words: int | None = None
    total_words: int | None = None


@dataclass(frozen=True)
class Limits(Waiting, Formats):
    """A target's limits, how long to wait for its work, and other properties that the engine needs to know.

    docs/promises.md describes the numbered promises.
    """

    batch: int = 1
    """Maximum number of documents in one `put`, which returns an outcome for each (promise 9)."""

    batch_bytes: int | None = None
    """Maximum total size of the documents in one request; a larger document is sent alone. None: no limit."""

    concurrency: int = 4
    """Maximum number of requests in flight."""

    ahead: int = 0
    """Number of documents to prepare in addition to `concurrency`, for a target that limits its own requests.
    """

    unhurried: float = 0.0
    """Minimum number of seconds between requests for work that can wait."""

    marks: bool = False
    """Whether the list returns the path, digest and upload id that kbsync sent, which prove that kbsync
    created a document (promise 6)."""

    links: frozenset[str] = frozenset()
    """Extensions of link files, which contain a URL that the service fetches; a subset of `extensions`.

    Without `marks` the list has such a document under a different name, so after a lost response kbsync looks
    for the document by its URL (promise 3).
    """

    ids_return: bool = False
    """Whether the target derives ids from names, so that a new document may get the id of a deleted one
    (promise 3).
    """

    paid: bool = False
    """Whether indexing costs money. If so, kbsync asks before it reindexes many documents after a change of
    recipe (promise 7).
    """

    embedded: bool = False
    """Whether kbsync creates the base, with an id that stays the same if the base is moved: a different id in
    the same place means that the old base is lost.

    Only this mirror changes such a base. It rejects documents only for their content, so many rejections in a
    row don't mean that the target is faulty (promise 9).
    """


PutOutcome = Accepted | TargetError
DeleteOutcome = TargetError | None
"""The outcome of a deletion. None: the document no longer exists. Deleting an unknown document succeeds,
too.
"""


class Target(ABC):
    """A knowledge base that can store documents. Calls that fail as a whole raise `TargetError`.

    Every target implements the abstract members. The other members have defaults, for targets without the
    feature. Optional abilities are Protocols, defined below.
    """

    updates_in_place: bool = False
    """Whether `put` with `replaces` updates the document in place."""

    stores_texts_once: bool = False
    """Whether the target stores each text only once. If so, it never has two documents with the same bytes,
    and `put` deletes `replaces` first if the bytes are the same.
    """

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """The target's limits and other properties."""

    @property
    def note(self) -> str:
        """A remark for the user about something that isn't a problem, or "" if there is none."""
        return ""

    @abstractmethod
    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """Return a short hash of everything that determines how `path` is indexed, except its bytes.

        This does no I/O.
        """

    @abstractmethod
    async def base(self) -> Base:
        """Check the knowledge base. Raises `Halted("knowledge-base-missing")` if it doesn't exist."""

    @abstractmethod
    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Store each document, and return the outcomes in the same order.

        The old version of a document stays searchable until the new version is searchable.
        """

    @abstractmethod
    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return the state of each document, by remote id."""

    @abstractmethod
    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Delete the documents with these remote ids. Deleting the same document twice succeeds."""

    @abstractmethod
    def list(self) -> AsyncIterator[Listed]:
        """Yield every document of the base."""

    @abstractmethod
    async def search(self, query: Query) -> Sequence[Hit]:
        """Return at most `top_k` documents, best first. Raises `NotOffered` if the base can't be searched."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close connections, processes and files."""

    async def erase(self) -> None:  # noqa: B027 (most targets erase a document at once)
        """Erase what is left of deleted documents, at the end of a pass. Safe to interrupt and repeat."""

    async def leave(self) -> None:  # noqa: B027 (most targets store nothing else)
        """Delete everything else that the base stores about a mirror.

        Call this after all of the mirror's documents have been deleted.
        """

    @property
    def revision(self) -> int | None:
        """The base's revision after this process's last change (see `Base`), or None if the base doesn't
        count changes.
        """
        return None

    @property
    def reads_scans(self) -> bool:
        """Whether the target can recognize the text of scanned pages, which depends on the installed
        packages.
        """
        return False

    async def partly_read(self) -> Sequence[str]:
        """Return the remote ids of documents that were stored without their scanned pages but can now be
        stored with them.
        """
        return ()

    @property
    def scale(self) -> str | int:
        """A value that two targets share only if their scores are comparable."""
        return id(self)

    @property
    def reach(self) -> Hashable:
        """A value that two targets share only if their searches return the same results. In that case, one
        search covers both.

        If searches can return other mirrors' documents, each hit has an `Origin`.
        """
        return id(self)

    @property
    def owner(self) -> str | None:
        """The `Origin` value that identifies this mirror's own documents, or None if unknown."""
        return None

    @property
    def reranks(self) -> bool:
        """Whether the target has a ranking model, so that `Query.rerank` works."""
        return False

    def describe(self, recipe: str) -> str:
        """Describe the settings that a recipe encodes, by their config keys.

        Return "" for another target's recipe.
        """
        return ""

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Self:
        """Return a copy of the target for work that can wait, such as an audit.

        Every request of the copy, including retries, first waits for `pace`. The copy shares everything with
        this target, so don't close it separately.
        """
        return self

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Return the hits, in the same order, including the available images that their passages mention.

        Sends at most one request per document, and never raises `TargetError`.
        """
        return hits

    @property
    def meter(self) -> Meter | None:
        """The meter that has counted the target's requests since it was opened, or None if the target sends
        none.
        """
        return None

    @property
    def clock_offset(self) -> float | None:
        """The number of seconds by which the service's clock was ahead of this machine's clock at the last
        response, or None if unknown.
        """
        return None

    async def capacity(self) -> Capacity | None:
        """Ask the service how much space the account has. Return None if the service doesn't report it."""
        return None


@runtime_checkable
class SupportsFind(Protocol):
    """Looks up documents by name without listing all of them."""

    async def find(self, name: str) -> Sequence[Listed]:
        """Return rows, as in `list`, of documents that may have this name.

        The result may be incomplete. Only `list` can prove that a document doesn't exist.
        """


@runtime_checkable
class SupportsRename(Protocol):
    """Changes a document's path without reindexing it. Safe to repeat."""

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Change a document's path to `path`."""


@runtime_checkable
class SupportsReembed(Protocol):
    """Reindexes a failed document."""

    async def reembed(self, remote_id: str) -> None:
        """Ask the target to reindex a document.

        Success only means that the target accepted the request; poll `status` for the outcome. Raises
        `NotOffered` if the target has no such call.
        """


@runtime_checkable
class SupportsReslice(Protocol):
    """Splits a failed document again with different settings, without a new upload.

    This can't change the part of a recipe after `!`. If that part differs, kbsync uploads the document again.
    """

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Ask the target to split a document again.

        Success only means that the target accepted the request; poll `status` for the outcome. Raises
        `NotOffered` if the target has no such call.
        """


@runtime_checkable
class SupportsDigest(Protocol):
    """Computes the hash of a document's bytes, which identifies the document."""

    async def digest(self, remote_id: str) -> str | None:
        """Return the SHA-256 (in lower-case hex) of a document's original bytes, or None if the bytes are
        unavailable.
        """


@runtime_checkable
class SupportsSearchCheck(Protocol):
    """Uses a search to determine whether a document is searchable, for targets whose status doesn't show
    this.
    """

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """Return whether a search that is limited to this document finds anything.

        It searches for the words in `name`.
        """


@dataclass(frozen=True, slots=True)
class Cluster:
    """The Dask cluster that reads, splits and embeds documents for a target with its own index.

    `folder`: where the workers see the mirror's folder, or "" if they don't. `bytes_in_flight`: the maximum
    number of document bytes in flight. A larger document is sent alone.
    """

    address: str
    folder: str = ""
    bytes_in_flight: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What a target needs in addition to its settings: its mirror, and the folders that it may write to."""

    mirror: str
    state_dir: Path
    spool_dir: Path
    # Whether a read-only command opened the target.
    read_only: bool = False
    # Prepended to every path of the mirror.
    prefix: str = ""
    # The mirror's folder, as in its config.
    folder: Path = Path()
    # The callback URL of the mirror, which is secret; "" without a listener.
    callback_url: str = field(default="", repr=False)
    # None: this process reads, splits and embeds documents itself.
    cluster: Cluster | None = None
    # Builds a command line for users to paste.
    command_line: Callable[[str], str] = lambda command: f"kbsync {command}"

    def mirror_command(self, command: str) -> str:
        """Return `command` for this mirror as a command line that users can paste."""
        return self.command_line(f"{command} --mirror {self.mirror}" if self.mirror else command)
