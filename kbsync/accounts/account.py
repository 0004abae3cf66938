"""The account behind an open target: knowledge bases, the callback URL, applications and answers."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from kbsync.contract.searching import Hit
from kbsync.contract.target import BaseCard, Capacity, Target
from kbsync.dataclass import dataclass
from kbsync.errors import NameTaken, NotOffered, Rejected, Unsure
from kbsync.targets.http.reading import HasId, ListPage, ListSweep

if TYPE_CHECKING:
    from kbsync.targets.http.target import ServiceTarget


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that embeds the documents of a knowledge base."""

    id: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class BaseRequest:
    """The properties to set on a knowledge base. None keeps the current value; for a new base, it lets the
    service choose.

    `model`: the id or name of the embedding model. `settings`: values as text, keyed by the service's own
    names.
    """

    name: str | None = None
    description: str | None = None
    model: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    # The service calls this URL after embedding the base again. The headers are secrets.
    callback: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def texts_after(self, card: BaseCard) -> dict[str, str]:
        """Return the name and description that result from the change, for services that require both in
        each request.
        """
        description = card.description if self.description is None else self.description
        return {"name": self.name or card.name, "description": description}


class HasName(HasId, Protocol):
    """A knowledge base or an application."""

    @property
    def name(self) -> str:
        """The name given by its owner."""


N = TypeVar("N", bound=HasName)


async def create_once(
    name: str,
    what: str,
    list_all: Callable[[], Awaitable[Sequence[N]]],
    create: Callable[[], Awaitable[N | None]],
    command: str,
) -> N:
    """Create a knowledge base or an application, unless its name is already in use.

    `what`: a phrase such as "a knowledge base". A create request is unsafe to retry, because services accept
    duplicate names. So this reads the list first, and reads it again if the response is lost or has no id
    (None). Raises `NameTaken`, or `Unsure` unless the second list has exactly one entry with this name.
    `command`: the command that shows the list.
    """
    if namesakes := [item for item in await list_all() if item.name == name]:
        raise NameTaken(f"{what} named {name!r} already exists: {namesakes[0].id}", code="name")
    try:
        if (created := await create()) is None:
            raise Unsure("the response to the create request has no id", code="no-id")
        return created
    except Unsure as error:
        namesakes = [item for item in await list_all() if item.name == name]
        if len(namesakes) != 1:
            reason = f"{error.reason}; the service may have created {what} anyway; check with: {command}"
            raise Unsure(reason, code=error.code) from error
        return namesakes[0]


class Bases:
    """Lists and creates knowledge bases and, on most services, changes and deletes them.

    Every call may raise `TargetError`. A `Rejected` error says what to fix. An unknown id raises
    `Halted("knowledge-base-missing")`.
    """

    no_models: ClassVar[str]
    """Why `models` isn't offered."""

    no_capacity: ClassVar[str]
    """Why `capacity` isn't offered."""

    no_changes: ClassVar[str] = ""
    """Why `update` and `delete` aren't offered; empty if they are."""

    target: Any

    def __init__(self, target: ServiceTarget[Any]) -> None:
        self.target = target
        self._config, self._context, self._client = target.access
        self.address: str = self._config.base_url
        """The canonical address of the service, as in `Base`."""
        self.setting: str = self._config.id_setting
        """The config key for the id of a base."""
        self.own_id: str = self._config.base_id
        """The id in the config."""

    def check_changeable(self) -> None:
        """Raise `NotOffered` if the service can't change or delete bases. This sends no request."""
        if self.no_changes:
            raise NotOffered(self.no_changes)

    def fields_of(self, request: BaseRequest) -> dict[str, Any]:
        """Return the settings in the service's format, for `create` and `update` to send.

        This sends no request itself. Raises `Rejected` for an unknown setting, or a value that the service
        doesn't accept.
        """
        raise NotImplementedError

    async def models(self) -> Sequence[EmbeddingModel]:
        """Return the embedding models to choose from. Raises `NotOffered` if the service offers no choice."""
        raise NotOffered(self.no_models)

    async def list_all(self) -> Sequence[BaseCard]:
        """Return all bases in the account."""
        return [card async for card in ListSweep(self.page).rows()]

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """Return one page of the list (pages are numbered from 1).

        A subclass overrides this or `list_all`.
        """
        raise NotImplementedError

    async def get(self, base_id: str) -> BaseCard:
        """Return the base with this id."""
        card: BaseCard = await self.target.card(base_id)
        return card

    async def create(self, request: BaseRequest) -> BaseCard:
        """Create a base with a unique name. Raises the same errors as `create_once`."""
        fields, what = self.fields_of(request), f"a {self.target.calls_base}"
        command, name = self._context.mirror_command("kb list"), request.name or ""
        create = partial(self.send_create, request, fields)
        return await create_once(name, what, self.list_all, create, command)

    async def send_create(self, request: BaseRequest, fields: Mapping[str, Any]) -> BaseCard | None:
        """Send the create request without retrying it. Return None if the response has no id."""
        raise NotImplementedError

    async def update(self, base_id: str, request: BaseRequest) -> None:
        """Change a base. A new model makes the service re-embed all its documents."""
        self.check_changeable()
        raise NotImplementedError

    async def delete(self, base_id: str) -> None:
        """Delete a base with all its documents."""
        self.check_changeable()
        raise NotImplementedError

    async def capacity(self) -> Capacity | None:
        """Return the account's capacity, or None if unknown.

        Raises `NotOffered` if the service can't report it.
        """
        raise NotOffered(self.no_capacity)


@runtime_checkable
class SupportsRetryAll(Protocol):
    """Makes the service reindex all failed documents, even those that this mirror didn't upload."""

    retry_reach: str
    """The scope of a retry, such as `the whole bot`. It completes the phrase "every failed document of …".
    """

    async def retry_all(self) -> int | None:
        """Ask the service to retry all failed documents.

        Return their number, or None if unknown. Safe to repeat.
        """


@dataclass(frozen=True, slots=True)
class Callback:
    """The URL that the service calls. `in_use`: whether the service uses the URL, or None if unknown."""

    url: str
    # Only the names, because the values are secrets.
    headers: tuple[str, ...] = ()
    in_use: bool | None = None


@runtime_checkable
class Callbacks(Protocol):
    """Manages the callback URL of an account, which all users of the account share.

    Every call may raise `TargetError`, or `NotOffered` if the service never offered the call or no longer
    offers it.
    """

    async def get(self) -> Callback | None:
        """Return the current callback URL, or None if none is set."""

    async def set_url(self, url: str, headers: Mapping[str, str]) -> None:
        """Make the service send the account's events to `url`, with these headers. Safe to repeat."""

    async def remove(self) -> None:
        """Stop sending the account's events. Safe to repeat."""


@dataclass(frozen=True, slots=True)
class ApplicationInfo:
    """An application that answers questions from knowledge bases: its model, its prompt and the bases' ids.

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
class ApplicationRequest:
    """The properties to set on an application. None and `settings` have the same meaning as in
    `BaseRequest`.
    """

    name: str | None = None
    description: str | None = None
    prompt: str | None = None
    model: str | None = None
    bases: tuple[str, ...] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


class Applications:
    """Manages an account's applications. The default implementation is for services without applications.

    Every call may raise `TargetError`, or `NotOffered` if the service has no applications or doesn't offer
    the call.
    """

    no_changes: ClassVar[str] = "it has no applications"
    """Why a call isn't offered."""

    hint: ClassVar[str] = ""
    """How the user can create an application if `create` isn't offered; empty if it is."""

    async def list_all(self) -> Sequence[ApplicationInfo]:
        """Return all applications in the account."""
        return [application async for application in ListSweep(self.page).rows()]

    async def page(self, number: int, size: int) -> ListPage[ApplicationInfo]:
        """Return one page of the list (pages are numbered from 1)."""
        raise NotOffered(self.no_changes)

    async def get(self, application_id: str) -> ApplicationInfo:
        """Return one application."""
        for application in await self.list_all():
            if application.id == application_id:
                return application
        raise Rejected(f"there is no application {application_id}", code="missing")

    async def create(self, request: ApplicationRequest) -> ApplicationInfo:
        """Create an application with a unique name. Raises the same errors as `create_once`."""
        raise NotOffered(self.no_changes)

    async def update(self, application_id: str, request: ApplicationRequest) -> None:
        """Change an application."""
        raise NotOffered(self.no_changes)

    async def delete(self, application_id: str) -> None:
        """Delete an application, but not its knowledge bases."""
        raise NotOffered(self.no_changes)


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of an answer, yielded after its text.

    `hits`: the passages that the answer is based on. `usage`: token counts, under the service's own names.
    Each of them is None if the service doesn't report it.
    """

    hits: tuple[Hit, ...] | None
    request_id: str = ""
    usage: Mapping[str, int] | None = None
    # The service stores some documents in an older format, with fewer details.
    has_old_document: bool | None = None
    # The text cites the hits by their numbers, counted from 1.
    is_numbered: bool = False
    # By remote id: how the text cites a document, if not by the number of its hit.
    marks: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question in a conversation, and the complete answer to it. Neither is empty."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answerer:
    """The id of the application, or the name of the model, that answers a question. Exactly one of the two
    is set.
    """

    application: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a knowledge base.

    `turns`: the conversation so far, oldest first. `document_ids`: the documents to answer from, or empty for
    all of them. `streamed`: whether to return the answer in pieces.
    """

    text: str
    answerer: Answerer
    turns: Sequence[Turn] = ()
    document_ids: Sequence[str] = ()
    streamed: bool = True


@runtime_checkable
class SupportsAnswer(Protocol):
    """Answers questions from a knowledge base."""

    @property
    def applications(self) -> Applications:
        """The account's applications."""

    @property
    def model(self) -> str:
        """The model that answers from passages if there are no applications, or "" if the service has no
        models.
        """

    def answer(self, question: Question) -> AsyncIterator[str | Sources]:
        """Yield the pieces of the answer (a single one unless `streamed`), then its sources.

        kbsync may send only the most recent turns to the service. If a search finds no passage, kbsync
        doesn't call the model, and yields only sources without hits. Raises `TargetError`. If the error is
        raised after the first piece, the answer is incomplete.
        """


@dataclass(frozen=True, slots=True)
class ManagedAccount:
    """The parts of an account. Parts that kbsync can't manage or query are None."""

    bases: Bases | None = None
    callbacks: Callbacks | None = None
    answers: SupportsAnswer | None = None


ACCOUNTS = {
    "zhipu": "kbsync.accounts.zhipu",
    "gptbots": "kbsync.accounts.gptbots",
    "openai": "kbsync.accounts.openai",
    "openwebui": "kbsync.accounts.openwebui",
    "lightrag": "kbsync.accounts.lightrag",
    "dify": "kbsync.accounts.dify",
    "ragflow": "kbsync.accounts.ragflow",
}
"""The module for each target type.

Each module has a function `account` that returns the `ManagedAccount` of an open target.
"""


def account_of(target: Target) -> ManagedAccount:
    """Return the account behind an open target, which must stay open.

    The account is empty if kbsync can't manage anything in it.
    """
    from kbsync.targets.http.target import ServiceTarget

    module = ACCOUNTS.get(target.access[0].type) if isinstance(target, ServiceTarget) else None
    if module is None:
        return ManagedAccount()
    account: ManagedAccount = importlib.import_module(module).account(target)
    return account
