"""What a target promises the engine, and what the engine may ask of it.

Every target has the few calls of `Target`. What only some can do is a Protocol of its own, asked for
with `isinstance`. Limits are data. A call that concerns several documents gives every one of them its
own outcome, so that one bad document never spoils the others.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from kbsync.core.meter import Meter
from kbsync.core.model import Limits
from kbsync.errors import TargetError


class Body(Protocol):
    """The bytes of one document: what was hashed is what `open` gives, each time from the start."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def open(self) -> BinaryIO:
        """A fresh binary stream at position 0; the caller closes it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One document to put. `upload_id` is stable over retries and unique in one state file.

    `replaces` is the remote id of the version it takes the place of, for targets that update in place.
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


@dataclass(frozen=True, slots=True)
class Accepted:
    """The target has it. `ready`: already searchable. `replaced`: `replaces` no longer exists.

    `name`: the name the target gave it, where that is not the one that was sent.
    """

    remote_id: str
    ready: bool = False
    replaced: bool = False
    name: str = ""


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

    `halt` is the contract's word (`quota`) when the account is to blame and not the document.
    """

    state: DocState
    reason: str = ""
    code: str = ""
    halt: str = ""


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

    `address` is the canonical base URL, empty for an embedded one.
    """

    id: str
    documents: int | None = None
    address: str = ""


PutOutcome = Accepted | TargetError
DeleteOutcome = TargetError | None
"""None: the document is not there any more (deleting what is unknown counts as done)."""


@runtime_checkable
class Target(Protocol):
    """A knowledge base that documents can be put into. Calls raise `TargetError` when all of it failed."""

    @property
    def limits(self) -> Limits:
        """What it takes."""

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """A short hash of everything but the bytes that decides how `path` is indexed. Pure."""

    async def base(self) -> Base:
        """Look at the knowledge base. Raises `Halted("knowledge-base-missing")` where there is none."""

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Store each document; outcomes in the order given. An old version serves until the new does."""

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each remote id."""

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each remote id; repeatable."""

    def list(self) -> AsyncIterator[Listed]:
        """Every document of the base."""

    async def aclose(self) -> None:
        """Let go of connections, processes and files."""


@runtime_checkable
class Renames(Protocol):
    """Can change a document's path without indexing it again; repeatable."""

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Afterwards the document is known under `path`."""


@runtime_checkable
class Updates(Protocol):
    """`put` with `replaces` changes the document in place."""

    @property
    def keeps_old_on_failure(self) -> bool:
        """The old content goes on serving when an update fails."""


@runtime_checkable
class Reembeds(Protocol):
    """Can be asked to index a failed document again."""

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where the target has no such call."""


@runtime_checkable
class Refreshes(Protocol):
    """Can fetch the page of a link document anew, the document keeping its id."""

    async def refresh(self, document: Outgoing) -> None:
        """Fetch the page of the document `replaces`; repeatable. Accepted is not done: `status` says."""


@runtime_checkable
class Unhurried(Protocol):
    """Can be asked slowly, for what nobody waits for."""

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Target:
        """The same target, which waits for `pace` before every request, repeated ones too.

        It has nothing of its own to let go of.
        """


@runtime_checkable
class Measured(Protocol):
    """Counts its requests."""

    @property
    def meter(self) -> Meter:
        """The counts since it was opened."""


@runtime_checkable
class TellsTime(Protocol):
    """Learns from its answers how far the two clocks are apart."""

    @property
    def clock_apart(self) -> float | None:
        """Seconds by which its service's clock is ahead of ours, by its last answer; None: not known."""


@runtime_checkable
class TellsRoom(Protocol):
    """Knows how much still fits into its account, as far as it was told."""

    @property
    def bytes_left(self) -> int | None:
        """By its service's last word and what was sent since; None: not known. Nobody is asked."""


@runtime_checkable
class Reslices(Protocol):
    """Can cut a document anew under other settings, its bytes unchanged.

    What stands behind a `!` in a recipe is not changed by that: where it differs, a new upload is made.
    """

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Accepted is not done: `status` says. Raises `NotOffered` where the target has no such call."""


@runtime_checkable
class Recuts(Reslices, Protocol):
    """May be told by its config to cut also a document that serves anew, where it lies."""

    @property
    def recuts(self) -> bool:
        """It is told so. Nobody promises that the old slices are found until the new ones are."""


@runtime_checkable
class Describes(Protocol):
    """Can say what its recipes mean."""

    def describe(self, recipe: str) -> str:
        """The settings that a recipe stands for, as the config calls them; '' for one of another's."""


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
class Query:
    """A search. `path` is a gitignore pattern, `types` extensions without dot, `after` epoch seconds.

    `among`: remote ids of the documents that these select, for a target that knows no paths; empty: unknown.
    `rerank`: a ranking model puts what was found into order, which costs; see `Reranks`.
    """

    text: str
    top_k: int = 10
    path: str | None = None
    types: tuple[str, ...] = ()
    after: float | None = None
    among: tuple[str, ...] = ()
    rerank: bool = False

    @property
    def selects(self) -> bool:
        """It is not about every document."""
        return self.path is not None or bool(self.types) or self.after is not None


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that stands in a passage as `placeholder`. `url` lets anybody see it: never kept."""

    placeholder: str
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that matched. `page` is 1-based where known; `line` 1-based where known."""

    text: str
    headings: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    score: float = 0.0
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that matched, best passage first. `path` is None where only the state knows it."""

    remote_id: str
    score: float
    passages: tuple[Passage, ...]
    path: str | None = None
    title: str | None = None
    modified: float | None = None


@runtime_checkable
class Searches(Protocol):
    """Can be searched."""

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first; never more than `top_k` documents."""


@runtime_checkable
class Reranks(Protocol):
    """May have a ranking model."""

    @property
    def reranks(self) -> bool:
        """It has one, so `Query.rerank` can be kept."""


@runtime_checkable
class Illustrates(Protocol):
    """Has pictures behind placeholders in the text of passages, and is asked for them apart."""

    async def illustrated(self, hits: Sequence[Hit]) -> Sequence[Hit]:
        """The hits in their order, with the images that their passages name, as far as they can be had.

        One request at most for each document. Raises no `TargetError`.
        """


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the target made of a document: number of chunks and the extracted text."""

    chunks: int
    text: str


@runtime_checkable
class Explains(Protocol):
    """Can show what it made of a document."""

    async def explain(self, remote_id: str) -> Explanation:
        """Raises `Rejected` for an unknown id."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a target is given besides its own settings: folders it may write in, and whether it may.

    `hears`: somebody listens to what the service calls back.
    """

    mirror: str
    state_dir: Path
    spool_dir: Path
    read_only: bool = False
    hears: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A model that makes the vectors of a knowledge base."""

    id: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class BaseCard:
    """A knowledge base as its account shows it. `size` in bytes; None: the target does not say.

    `settings`: the service's own, as far as it tells them, in the form in which a wish has them.
    """

    id: str
    name: str
    description: str = ""
    model: str = ""
    documents: int | None = None
    size: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BaseWish:
    """What is wanted of a knowledge base; None: as it is, or the target's choice. `model`: its id or name.

    `settings`: further ones, by the service's names for them; the target reads the texts.
    """

    name: str | None = None
    description: str | None = None
    model: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the whole account."""

    used: int
    total: int


@dataclass(frozen=True, slots=True)
class Application:
    """Something that answers questions from knowledge bases: a model, a prompt, the bases' ids.

    `settings`: as in `BaseCard`.
    """

    id: str
    name: str
    description: str = ""
    prompt: str = ""
    model: str = ""
    bases: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApplicationWish:
    """What is wanted of an application; None: as it is, or the target's choice.

    `settings`: as in `BaseWish`.
    """

    name: str | None = None
    description: str | None = None
    prompt: str | None = None
    model: str | None = None
    bases: tuple[str, ...] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


class Applications(Protocol):
    """The applications of an account. Every call raises `TargetError`; `Rejected` says what to correct.

    `NotOffered`: the service has none, or no longer.
    """

    async def all(self) -> Sequence[Application]:
        """Every one."""

    async def look(self, application_id: str) -> Application:
        """One of them."""

    async def create(self, wish: ApplicationWish) -> Application:
        """Make one. Raises `NameTaken` where there is one of this name."""

    async def update(self, application_id: str, wish: ApplicationWish) -> None:
        """Change what is wanted."""

    async def delete(self, application_id: str) -> None:
        """Remove it; knowledge bases stay."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The end of an answer. `hits`: the passages it was made from; None where the target does not tell."""

    hits: tuple[Hit, ...] | None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question of a conversation and its whole answer; neither is empty."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers: an application by its id, or a model that is given passages. Exactly one is set."""

    application: str = ""
    model: str = ""


@runtime_checkable
class Answers(Protocol):
    """Can answer a question from its knowledge base."""

    @property
    def applications(self) -> Applications:
        """Those of the account."""

    @property
    def model(self) -> str:
        """The model that is given passages where there are no applications; "" for none."""

    def answer(
        self,
        question: str,
        by: Answerer,
        *,
        turns: Sequence[Turn] = (),
        among: Sequence[str] = (),
        streamed: bool = True,
    ) -> AsyncIterator[str | Sources]:
        """The answer piece by piece (not `streamed`: in one), and at its end the sources.

        `turns`: what was said before, oldest first; the service may be told the last of them only. `among`:
        remote ids of the documents to answer from; empty: all. A model is not asked where no passage is
        found: then there are sources without hits and nothing else. Raises `TargetError`, also in the
        middle: then what was given so far is not the whole answer.
        """


@runtime_checkable
class RetriesAll(Protocol):
    """Can be asked to index all that failed again, not only what this mirror put there."""

    @property
    def retry_reach(self) -> str:
        """Where that is, in words that follow "every failed document of": `the whole bot, …`."""

    async def retry_all(self) -> int | None:
        """How many documents were taken up, None where that is not told. Sent once; repeatable.

        Accepted is not done. Raises `NotOffered` where the target has no such call.
        """


class Bases(Protocol):
    """The knowledge bases of an account. Every call raises `TargetError`; `Rejected` says what to correct.

    An id that is not there raises `Halted("knowledge-base-missing")`.
    """

    @property
    def setting(self) -> str:
        """The key of a target's config that takes the id of a base."""

    @property
    def address(self) -> str:
        """Their canonical address, as in `Base`."""

    @property
    def own(self) -> str:
        """The id that the config names."""

    def check_changeable(self) -> None:
        """Raises `NotOffered` where bases cannot be changed and removed, before anybody is asked."""

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected` for settings that the service has not, or values that it does not take.

        Nobody is asked; `create` and `update` do so by themselves, before anything else.
        """

    async def models(self) -> Sequence[Model]:
        """What can be chosen for a base. Raises `NotOffered` where nothing can."""

    async def all(self) -> Sequence[BaseCard]:
        """Every base of the account."""

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make one; a lost answer is looked for. Raises `NameTaken` where there is one of this name."""

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Change what is wanted. Another model makes all vectors anew."""

    async def delete(self, base_id: str) -> None:
        """Remove a base with everything in it."""

    async def room(self) -> Room | None:
        """The account's space; None where it is not told. Raises `NotOffered` where there is no such call."""


@runtime_checkable
class ManagesBases(Protocol):
    """Has knowledge bases that can be listed and made, and with some services changed and removed."""

    @property
    def bases(self) -> Bases:
        """Those of the account."""


@dataclass(frozen=True, slots=True)
class Callback:
    """An address that a service calls. `headers`: names of what it sends along; their values are secrets.

    `in_use` None: not told.
    """

    url: str
    headers: tuple[str, ...] = ()
    in_use: bool | None = None


class Callbacks(Protocol):
    """The one address for the events of a whole account. Every call raises `TargetError`.

    `NotOffered`: the service has no such thing, or no longer.
    """

    async def look(self) -> Callback | None:
        """What is set now; None: nothing is."""

    async def aim(self, url: str, headers: Mapping[str, str]) -> None:
        """Have events go to `url` from now on, with these headers; repeatable."""

    async def remove(self) -> None:
        """Have them go nowhere; repeatable."""


@runtime_checkable
class CallsBack(Protocol):
    """Has one address for the events of a whole account, shared by all who use that account."""

    @property
    def callbacks(self) -> Callbacks:
        """Those of the account."""
