"""What is asked of an account: its knowledge bases, and the address it calls back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that makes the vectors of a knowledge base."""

    id: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class BaseCard:
    """A knowledge base as its account shows it. `size` in bytes; None: the target does not say.

    `settings`: those of the service that it shows, in the form in which a `BaseWish` has them.
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
class BaseWish:
    """What is wanted of a knowledge base; None: no change, or the target's choice. `model`: its id or name.

    `settings`: further ones, by the service's names for them; the target reads the texts.
    """

    name: str | None = None
    description: str | None = None
    model: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    # Called when the base was indexed again as a whole; the headers sent along are secrets.
    callback: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes of the whole account, and words where the service counts them; None: it does not."""

    used: int
    total: int
    used_words: int | None = None
    total_words: int | None = None


@runtime_checkable
class RetriesAll(Protocol):
    """Can be asked to index all that failed again, not only what this mirror put there."""

    @property
    def retry_reach(self) -> str:
        """Where that is, in words that follow "every failed document of": `the whole bot, …`."""

    async def retry_all(self) -> int | None:
        """How many documents were taken up, None where that is unknown. Sent once; repeatable.

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
        """Raises `NotOffered` where bases cannot be changed and removed; sends no request."""

    def check(self, wish: BaseWish) -> None:
        """Raises `Rejected` for settings that the service does not have, or values that it does not take.

        It sends no request; `create` and `update` do this first.
        """

    async def models(self) -> Sequence[EmbeddingModel]:
        """What can be chosen for a base. Raises `NotOffered` where nothing can."""

    async def all(self) -> Sequence[BaseCard]:
        """Every base of the account."""

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make one; a lost answer is looked for. Raises `NameTaken` where there is one of this name."""

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Change what is wanted. Another model makes all vectors again."""

    async def delete(self, base_id: str) -> None:
        """Remove a base with everything in it."""

    async def capacity(self) -> Capacity | None:
        """The account's space; None where it is unknown. Raises `NotOffered` where there is no such call."""


@runtime_checkable
class ManagesBases(Protocol):
    """Has knowledge bases that can be listed and made, and with some services changed and removed."""

    @property
    def bases(self) -> Bases:
        """Those of the account."""


@dataclass(frozen=True, slots=True)
class Callback:
    """An address that a service calls. `in_use` None: unknown."""

    url: str
    # Names only: the values are secrets.
    headers: tuple[str, ...] = ()
    in_use: bool | None = None


class Callbacks(Protocol):
    """The one address for the events of a whole account. Every call raises `TargetError`.

    `NotOffered`: the service has no such thing, or no longer.
    """

    async def look(self) -> Callback | None:
        """What is set now; None: nothing is."""

    async def set_url(self, url: str, headers: Mapping[str, str]) -> None:
        """Have events go to `url` from now on, with these headers; repeatable."""

    async def remove(self) -> None:
        """Have them go nowhere; repeatable."""


@runtime_checkable
class CallsBack(Protocol):
    """Has one address for the events of a whole account, shared by all who use that account."""

    @property
    def callbacks(self) -> Callbacks:
        """Those of the account."""
