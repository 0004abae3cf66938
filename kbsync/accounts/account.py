"""The account behind an open target: its knowledge bases, the address that it calls, and its answers."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from kbsync.contract.searching import Hit
from kbsync.contract.target import BaseCard, Capacity, Target
from kbsync.errors import NameTaken, NotOffered, Rejected, Unsure
from kbsync.targets.http.reading import Identified, ListPage, ListSweep

if TYPE_CHECKING:
    from kbsync.targets.http.target import ServiceTarget


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that makes the vectors of a knowledge base."""

    id: str
    name: str
    description: str = ""


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


class Named(Identified, Protocol):
    """A knowledge base or an application."""

    @property
    def name(self) -> str:
        """As people know it."""


N = TypeVar("N", bound=Named)


async def create_once(
    name: str,
    what: str,
    list_all: Callable[[], Awaitable[Sequence[N]]],
    create: Callable[[], Awaitable[N | None]],
    command: str,
) -> N:
    """Create something whose name is not in use; `what`: such as "a knowledge base".

    A create request is not repeatable, and vendors accept a name twice: so this reads the list before it,
    and again after a lost answer, or one that names nothing (None). Raises `NameTaken`, and `Unsure` where
    the list does not then have exactly one of the name; `command` lists them.
    """
    if namesakes := [one for one in await list_all() if one.name == name]:
        raise NameTaken(f"there is {what} {name!r} already: {namesakes[0].id}", code="name")
    try:
        if (created := await create()) is None:
            raise Unsure(f"the answer to the request for {what} names none", code="no-id")
        return created
    except Unsure as error:
        namesakes = [one for one in await list_all() if one.name == name]
        if len(namesakes) != 1:
            reason = f"{error.reason}; the service may have created it; check with: {command}"
            raise Unsure(reason, code=error.code) from error
        return namesakes[0]


class Bases:
    """Has knowledge bases that can be listed and made, and with some services changed and removed.

    Every call raises `TargetError`; `Rejected` says what to correct. An id that is not there raises
    `Halted("knowledge-base-missing")`.
    """

    no_models: ClassVar[str]
    """Why nobody can choose the model of a base, and why the account's space is not known."""

    no_capacity: ClassVar[str]

    no_changes: ClassVar[str] = ""
    """Why bases cannot be changed and removed; "": they can."""

    target: Any

    def __init__(self, target: ServiceTarget[Any]) -> None:
        self.target = target
        self._config, self._surroundings, self._client = target.access
        self.address: str = self._config.base_url
        """Their canonical address, as in `Base`."""
        self.setting: str = self._config.id_setting
        """The key of a target's config that takes the id of a base."""
        self.own: str = getattr(self._config, self.setting)
        """The id that the config names."""

    def check_changeable(self) -> None:
        """Raises `NotOffered` where bases cannot be changed and removed; sends no request."""
        if self.no_changes:
            raise NotOffered(self.no_changes)

    def fields_of(self, wish: BaseWish) -> dict[str, Any]:
        """The settings of a wish as they are sent; sends no request. `create` and `update` begin with it.

        Raises `Rejected` for what the service does not have, or does not take.
        """
        raise NotImplementedError

    async def models(self) -> Sequence[EmbeddingModel]:
        """What can be chosen for a base. Raises `NotOffered` where nothing can."""
        raise NotOffered(self.no_models)

    async def all(self) -> Sequence[BaseCard]:
        """Every base of the account."""
        return [card async for card in ListSweep(self.page).rows()]

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """A page of the list, from 1. Needed unless `all` is another."""
        raise NotImplementedError

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        raise NotImplementedError

    async def create(self, wish: BaseWish) -> BaseCard:
        """Make one; a lost answer is looked for. Raises `NameTaken` where there is one of this name."""
        fields, what = self.fields_of(wish), f"a {self.target.calls_base}"
        command = self._surroundings.pasted("kb list")
        return await create_once(wish.name or "", what, self.all, lambda: self.make(wish, fields), command)

    async def make(self, wish: BaseWish, fields: Mapping[str, Any]) -> BaseCard | None:
        """Make one, sent once; None where the answer does not name it."""
        raise NotImplementedError

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Change what is wanted. Another model makes all vectors again."""
        self.check_changeable()
        raise NotImplementedError

    async def delete(self, base_id: str) -> None:
        """Remove a base with everything in it."""
        self.check_changeable()
        raise NotImplementedError

    async def capacity(self) -> Capacity | None:
        """The account's space; None where it is unknown. Raises `NotOffered` where there is no such call."""
        raise NotOffered(self.no_capacity)


@runtime_checkable
class RetriesAll(Protocol):
    """Can be asked to index all that failed again, not only what this mirror put there."""

    retry_reach: str
    """Where that is, in words that follow "every failed document of": `the whole bot, …`."""

    async def retry_all(self) -> int | None:
        """How many documents were taken up, None where that is unknown. Sent once; repeatable.

        Accepted is not done.
        """


@dataclass(frozen=True, slots=True)
class Callback:
    """An address that a service calls. `in_use` None: unknown."""

    url: str
    # Names only: the values are secrets.
    headers: tuple[str, ...] = ()
    in_use: bool | None = None


@runtime_checkable
class Callbacks(Protocol):
    """Has one address for the events of a whole account, shared by all who use that account.

    Every call raises `TargetError`. `NotOffered`: the service has no such thing, or no longer.
    """

    async def look(self) -> Callback | None:
        """What is set now; None: nothing is."""

    async def set_url(self, url: str, headers: Mapping[str, str]) -> None:
        """Have events go to `url` from now on, with these headers; repeatable."""

    async def remove(self) -> None:
        """Have them go nowhere; repeatable."""


@dataclass(frozen=True, slots=True)
class ApplicationInfo:
    """Something that answers questions from knowledge bases: a model, a prompt, the ids of the bases.

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
    """What is wanted of an application; None: no change, or the target's choice. `settings`: as there."""

    name: str | None = None
    description: str | None = None
    prompt: str | None = None
    model: str | None = None
    bases: tuple[str, ...] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


class Applications:
    """The applications of an account, which no call changes here, for the reason `why`; by default, none.

    Every call raises `TargetError`. `NotOffered`: the service has none, or no longer, or no such call.
    """

    why: ClassVar[str] = "it has no applications"
    advice: ClassVar[str] = ""
    """How a person makes one where `create` is not offered; "": with `create`."""

    async def all(self) -> Sequence[ApplicationInfo]:
        """Every one."""
        return [one async for one in ListSweep(self.page).rows()]

    async def page(self, number: int, size: int) -> ListPage[ApplicationInfo]:
        """A page of the list, from 1."""
        raise NotOffered(self.why)

    async def look(self, application_id: str) -> ApplicationInfo:
        """One of them."""
        for one in await self.all():
            if one.id == application_id:
                return one
        raise Rejected(f"there is no application {application_id}", code="missing")

    async def create(self, wish: ApplicationWish) -> ApplicationInfo:
        """Make one. Raises `NameTaken` where there is one of this name."""
        raise NotOffered(self.why)

    async def update(self, application_id: str, wish: ApplicationWish) -> None:
        """Change what is wanted."""
        raise NotOffered(self.why)

    async def delete(self, application_id: str) -> None:
        """Remove it; knowledge bases stay."""
        raise NotOffered(self.why)


@dataclass(frozen=True, slots=True)
class Sources:
    """The end of an answer; None: the target does not tell.

    `hits`: the passages it was made from. `usage`: tokens, by the service's words for what they went into.
    """

    hits: tuple[Hit, ...] | None
    request_id: str = ""
    usage: Mapping[str, int] | None = None
    # The service keeps some of the documents in an older form, which has fewer facts.
    has_old_document: bool | None = None
    # The text refers to the hits by their numbers, from 1.
    numbered: bool = False
    # What the text refers to a document by, where that is not the number of its hit; by remote id.
    marks: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question of a conversation and its whole answer; neither is empty."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answerer:
    """An application by its id, or a model that is given passages. Exactly one of them is set."""

    application: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the knowledge base. `turns`: the conversation so far, oldest first.

    `among`: remote ids of the documents to answer from; empty: all. `streamed`: the answer comes in pieces.
    """

    text: str
    by: Answerer
    turns: Sequence[Turn] = ()
    among: Sequence[str] = ()
    streamed: bool = True


@runtime_checkable
class Answers(Protocol):
    """Can answer a question from its knowledge base."""

    @property
    def applications(self) -> Applications:
        """Those of the account."""

    @property
    def model(self) -> str:
        """The model that is given passages where there are no applications; "" for none."""

    def answer(self, question: Question) -> AsyncIterator[str | Sources]:
        """The answer piece by piece (not `streamed`: in one), and at its end the sources.

        A service may get only the last turns. A model is not asked where no passage is found: then there are
        sources without hits and nothing else. Raises `TargetError`, also in the middle: then the text so far
        is not the whole answer.
        """


@dataclass(frozen=True, slots=True)
class Account:
    """What kbsync can manage and ask at a service; None: nothing of the kind."""

    bases: Bases | None = None
    callbacks: Callbacks | None = None
    answers: Answers | None = None


ACCOUNTS = {
    "zhipu": "kbsync.accounts.zhipu",
    "gptbots": "kbsync.accounts.gptbots",
    "openai": "kbsync.accounts.openai",
    "openwebui": "kbsync.accounts.openwebui",
    "lightrag": "kbsync.accounts.lightrag",
    "dify": "kbsync.accounts.dify",
    "ragflow": "kbsync.accounts.ragflow",
}
"""The module of each type of target; its function `account` makes one of an open target."""


def account_of(target: Target) -> Account:
    """The account behind an open target, which stays open; an empty one where there is nothing to manage."""
    from kbsync.targets.http.target import ServiceTarget

    module = ACCOUNTS.get(target.access[0].type) if isinstance(target, ServiceTarget) else None
    if module is None:
        return Account()
    account: Account = importlib.import_module(module).account(target)
    return account
