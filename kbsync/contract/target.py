"""What the engine asks of a target: documents that are kept there."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, runtime_checkable

from kbsync.contract.meter import Meter
from kbsync.contract.searching import Hit, Query
from kbsync.core.model import Formats, Waiting
from kbsync.errors import TargetError


class Body(Protocol):
    """The bytes of one document. `open` gives what was hashed, each time from the start (promise 8)."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def open(self) -> BinaryIO:
        """A fresh binary stream at position 0; the caller closes it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One document to put. `upload_id` is stable over retries and unique in one state file.

    `replaces` is the remote id of the version it takes the place of, for targets that update in place or take
    a text only once. `is_retry`: it was refused before; a target that sends several in a request sends this
    one alone, so that no other document can be the cause.
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
    """The target has it. `ready`: already searchable. `replaced`: `replaces` no longer exists.

    `name`: the name the target gave it, where that is not the one that was sent. `created`: as in `Listed`.
    """

    remote_id: str
    ready: bool = False
    replaced: bool = False
    name: str = ""
    # Vendors do not document it: only where it agrees with the moment of the answer may `Listed.created`
    # disprove anything in this account.
    created: float | None = field(default=None, compare=False)


class DocState(enum.Enum):
    """What a target says of one of its documents."""

    INDEXING = "indexing"
    READY = "ready"
    FAILED = "failed"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DocStatus:
    """A document's state with the target's own words on a failure.

    `halt` is the contract's word (`quota`) when the account is to blame and not the document. `is_final`: a
    person hid it there, so it is neither indexed again nor sent anew before `retry` asks for it. `twin`: the
    remote id of the document that has its text, where it failed because the target has each text once.
    `pause`: seconds in which nothing is expected of a document that is indexing, as `reason` says; where that
    is long, a pass ends without it.
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
    """One row of a target's list. None: the target does not say. `created`: seconds since the epoch.

    `path`, `digest`, `upload_id` and `recipe` come back only from targets that keep our marker.
    `addresses`: what may be the address of the page that it was made from.
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
    """The knowledge base itself: a new `id` means another base, nothing of the old one is in it.

    `address` says where it is, as an URL without user and password: the canonical base URL of a service, the
    database, the file of a built-in one. `writer` names whoever opened it now, once that has written
    there, and `last_writer` who wrote before: another than the one this state knows means that the documents
    are not as the state has them. `writer` is '' where a base does not tell.
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
    """What a target takes, how long its work is waited for, and what else the engine has to know of it.

    The number behind a field is that of the promise it serves (docs/promises.md).
    """

    batch: int = 1
    """Documents of one `put`. Each has an outcome of its own (9)."""

    batch_bytes: int | None = None
    """Of the documents of one request together; a larger one goes alone. None: any."""

    concurrency: int = 4
    """Requests in flight."""

    ahead: int = 0
    """Documents beyond `concurrency` that are made ready, for a target that holds back requests itself."""

    unhurried: float = 0.0
    """Seconds between two requests that nobody waits for, at least."""

    marks: bool = False
    """The list gives back the path, digest and upload id that were sent, which prove a document ours (6)."""

    links: frozenset[str] = frozenset()
    """Those of `extensions` whose files hold an address that the service fetches. Without `marks` the list
    has such a document under a name of its own, so a lost answer is looked for by the address (3)."""

    ids_return: bool = False
    """An id is made of the name: a document sent later may have that of one that is gone (3)."""

    paid: bool = False
    """Indexing costs money, so that a changed recipe asks before it renews many documents (7)."""

    embedded: bool = False
    """kbsync made the base, with an id that stays its own wherever it is moved to: another id in the same
    place means that the old base is lost. Only this mirror changes it. It rejects a document for what it
    reads in it, so that many rejections in a row say nothing of the target (9)."""


PutOutcome = Accepted | TargetError
DeleteOutcome = TargetError | None
"""None: the document is not there any more (deleting what is unknown counts as done)."""


class Target(ABC):
    """A knowledge base that documents can be put into. Calls raise `TargetError` when all of it failed.

    Every target has what is abstract. The rest has a default, right for a target that has nothing to tell.
    What only some can do is a Protocol of its own, below.
    """

    updates_in_place: bool = False
    """`put` with `replaces` changes the document where it lies."""

    takes_texts_once: bool = False
    """It has each text once: `put` gets `replaces`, and removes it first where the bytes are the same.

    So a document of bytes that another had tells that the other is not there any more.
    """

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """What it takes."""

    @property
    def note(self) -> str:
        """What a person should know although the work goes on; "" where there is nothing."""
        return ""

    @abstractmethod
    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """A short hash of everything but the bytes that decides how `path` is indexed. Pure."""

    @abstractmethod
    async def base(self) -> Base:
        """Look at the knowledge base. Raises `Halted("knowledge-base-missing")` where there is none."""

    @abstractmethod
    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Store each document; outcomes in the order given. An old version serves until the new does."""

    @abstractmethod
    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each remote id."""

    @abstractmethod
    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each remote id; repeatable."""

    @abstractmethod
    def list(self) -> AsyncIterator[Listed]:
        """Every document of the base."""

    @abstractmethod
    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first; never more than `top_k` documents. Raises `NotOffered` where it cannot be searched."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of connections, processes and files."""

    async def leave(self) -> None:  # noqa: B027 (most keep nothing)
        """The mirror has ended, and its documents are deleted: let go of what is kept of it there."""

    @property
    def scale(self) -> str | int:
        """Equal only for two targets whose scores mean the same, so that they can be compared."""
        return id(self)

    @property
    def reach(self) -> Hashable:
        """Equal only for two targets whose searches find the same, so that one of them is enough.

        Where a search finds documents of other mirrors, hits have an `Origin`.
        """
        return id(self)

    @property
    def owner(self) -> str | None:
        """What the `Origin` of its own mirror's documents says; None where it is not known."""
        return None

    @property
    def reranks(self) -> bool:
        """It has a ranking model, so `Query.rerank` can be kept."""
        return False

    def describe(self, recipe: str) -> str:
        """The settings that a recipe stands for, as the config calls them; "" for one of another's."""
        return ""

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Self:
        """The same target, in which every request, repeated ones too, waits for `pace` first.

        For work that can wait, such as an audit. It shares everything, so it is not closed by itself.
        """
        return self

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits in their order, with the images that their passages name, as far as they can be had.

        One request at most for each document. Raises no `TargetError`.
        """
        return hits

    @property
    def meter(self) -> Meter | None:
        """The counts of its requests since it was opened; None where it makes none."""
        return None

    @property
    def clock_apart(self) -> float | None:
        """Seconds by which its service's clock is ahead of ours, by its last answer; None: not known."""
        return None

    @property
    def bytes_left(self) -> int | None:
        """Room in the account by its service's last word and what was sent since; None: not known.

        Nobody is asked.
        """
        return None

    async def capacity(self) -> Capacity | None:
        """The account's space, which the service is asked for; None where it does not tell."""
        return None


@runtime_checkable
class Finds(Protocol):
    """Can look for documents by a name without listing all."""

    async def find(self, name: str) -> Sequence[Listed]:
        """Some of the documents that may have this name, as `list` has them.

        What it returns is there. What it leaves out may be there all the same: only `list` proves absence.
        """


@runtime_checkable
class Renames(Protocol):
    """Can change a document's path without indexing it again; repeatable."""

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Afterwards the document is known under `path`."""


@runtime_checkable
class Reembeds(Protocol):
    """Can be asked to index a failed document again."""

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where the target has no such call."""


@runtime_checkable
class Reslices(Protocol):
    """Can cut a document that failed again under other settings, its bytes unchanged.

    What stands behind a `!` in a recipe is not changed by that: where it differs, a new upload is made.
    """

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where the target has no such call."""


@runtime_checkable
class Reads(Protocol):
    """Can give back the bytes of a document, so that they prove what it is."""

    async def digest(self, remote_id: str) -> str | None:
        """The SHA-256 (lower-case hex) of a document's own bytes; None where they cannot be had."""


@runtime_checkable
class Confirms(Protocol):
    """Can find out by a search whether a document is searchable, when its status never says."""

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """A search limited to this document finds something; `name` gives words to look for."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The Dask cluster that reads, cuts and embeds documents for a target that keeps its index itself.

    `folder`: where its workers see the mirror's folder, "" where they do not. `bytes_in_flight`: of documents
    on their way; one that is larger goes alone.
    """

    address: str
    folder: str = ""
    bytes_in_flight: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a target is given besides its config block: its mirror, and the folders it may write in."""

    mirror: str
    state_dir: Path
    spool_dir: Path
    # Opened by a command that only looks.
    read_only: bool = False
    # Stands before every path of the mirror.
    prefix: str = ""
    # The mirror's, as its config has it.
    folder: Path = Path()
    # Where the service calls us: a secret; "" without a listener.
    callback_url: str = field(default="", repr=False)
    # None: this process prepares documents by itself.
    cluster: Cluster | None = None
    # Makes a command that can be pasted.
    cure: Callable[[str], str] = lambda command: f"kbsync {command}"

    def pasted(self, words: str) -> str:
        """A command line about this mirror that can be pasted, for a sentence."""
        return self.cure(f"{words} --mirror {self.mirror}" if self.mirror else words)
