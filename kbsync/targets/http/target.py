"""The base class of every target that a service hosts.

It creates the client from the config and implements the contract. It decides which documents not to send, and
what the refusal of one document means for the others. It accepts only complete lists, treats a
document as gone only if its base still exists, and redacts the API key from every error message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Container,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Generic, Self, TypeVar, Unpack

from kbsync.config.target import RemoteTargetConfig
from kbsync.contract.meter import Meter
from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import (
    Accepted,
    Base,
    BaseCard,
    DeleteOutcome,
    DocState,
    DocStatus,
    Limits,
    Listed,
    Outgoing,
    PutOutcome,
    Target,
    TargetContext,
)
from kbsync.core.links import MAX_BYTES as MAX_LINK_BYTES
from kbsync.core.links import NoLink, address_from
from kbsync.core.text import extension_of
from kbsync.errors import (
    Halted,
    NotOffered,
    Rejected,
    TargetError,
    Unavailable,
    Unfit,
    UsageError,
    may_be_from_gateway,
    untried,
)
from kbsync.targets.http.batch_queue import BatchQueue
from kbsync.targets.http.bodies import OCTETS, FilePart
from kbsync.targets.http.client import Client, ClientOptions
from kbsync.targets.http.connection import Endpoint
from kbsync.targets.http.errors import ResponseClassifier
from kbsync.targets.http.reading import (
    DocumentRow,
    FetchPage,
    ListPage,
    ListSweep,
    T,
    batches,
    check_shown,
    find_on_pages,
    hits_of,
    require_document,
    require_id,
)
from kbsync.targets.http.rules import GONE, MISSING, NO_BASE_HINT, UNKNOWN

SEARCH_TIMEOUT = 60.0
"""Maximum number of seconds for a search, because a user is waiting: as long as the service may be silent
once (`Timeouts.read`). Otherwise, a silent service would hold a search for three attempts.
"""

_GRACE_POLLS, _MAX_GRACE = 10, 10.0
_UNHURRIED, _SHARE = 10.0, 0.1
"""For low-priority requests: the minimum seconds between them, and their share of
`requests_per_minute`.
"""


def key_of(config: RemoteTargetConfig) -> str:
    """Return the API key.

    Raises `UsageError` if the key can't be read or contains characters that aren't allowed in a header.
    """
    key = config.api_key.reveal()
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise UsageError("api_key is empty or contains characters that no key has; copy the key again")
    return key


def grace(config: RemoteTargetConfig) -> float:
    """Return for how many seconds after a reindex request a reported failure may still be the old one."""
    return min(_MAX_GRACE, _GRACE_POLLS * config.vectorization.poll_first)


Found = TypeVar("Found")

_log = logging.getLogger(__name__)


async def search_ranked(
    search: Callable[[bool], Awaitable[Found]], is_ranked: bool, overloaded: Collection[str]
) -> Found:
    """Return the result of `search`, using the service's ranking model if the config requests it.

    If the ranking model may have failed (it doesn't exist, the account has no credit or plan for it, or the
    error's code is in `overloaded`), search again without it, unless the key is refused or the service
    doesn't respond. Raises `TargetError`.
    """
    if not is_ranked:
        return await search(False)
    try:
        return await search(True)
    except TargetError as error:
        is_refusal = error.halt == "quota" if isinstance(error, Halted) else isinstance(error, Rejected)
        if not (is_refusal or error.code in overloaded):
            raise
        hits = await search(False)
        _log.warning("hits are in the service's original order, without its ranking model: %s", error.reason)
        return hits


def refusal_of(document: Outgoing, limits: Limits, max_bytes: int | None = None) -> Rejected | None:
    """Return the error with which a service would refuse a document, or None if it would accept it.

    Most services refuse a document only after the whole upload.

    `max_bytes`: the limit in the config, if any. Any other limit is the service's own.
    """
    extension = extension_of(document.path)
    limit = limits.max_bytes_by_extension.get(extension, limits.max_bytes)
    if extension not in limits.extensions:
        known = " ".join(sorted(limits.extensions))
        return Rejected(f"the service doesn't accept this format; accepted formats: {known}", code="format")
    if limit is not None and document.size > limit:
        reason = f"{document.size:,} bytes, over the limit of {limit:,}"
        return Rejected(f"{reason}; see max_bytes" if limit == max_bytes else reason, code="too-large")
    return None if document.size else Rejected("the file is empty", code="empty")


def address_in(document: Outgoing) -> str:
    """Return the URL in a link file. Raises `Unfit` for a file without a URL."""
    try:
        with document.body.open() as stream:
            return address_from(document.path, stream)
    except NoLink as reason:
        raise Unfit(str(reason), code="link") from None


_STILL_THERE = "the service confirmed the deletion but still has the document"

P = TypeVar("P")
S = TypeVar("S")
Row = TypeVar("Row", bound=DocumentRow)


class ServiceTarget(Target, Generic[Row]):
    """A knowledge base hosted by a service. Raises `UsageError` if the settings can't be used.

    A service's subclass defines `takes` and the calls above the comment "what follows", from which this class
    builds the rest. Those calls use `_client` and raise `TargetError`, with the code `GONE` if the document
    doesn't exist.
    """

    only_recipe: ClassVar[str]
    """The recipe of every document, unless `recipe` is overridden."""

    takes: Limits
    """The service's own limits; the others come from the config."""

    classify_response: ResponseClassifier
    """Classifies each response as an error or as success."""

    root: ClassVar[str] = ""
    """The part of every URL between `base_url` and the path of the call."""

    refuses_alike: ClassVar[bool] = False
    """Whether the service may refuse a document because of the base. If so, kbsync checks the base first."""

    certain_calls: ClassVar[Container[str]] = ()
    """Calls that every version of the service has. If one seems to be missing, the response came from a
    gateway.
    """

    most_ids: ClassVar[int] = 0
    """Maximum number of documents that one request can delete; 0: each needs its own request."""

    deletes_in_turn: ClassVar[bool] = False
    """Whether the service runs only one deletion at a time.

    Ids that arrive in the meantime are deleted in the next batch.
    """

    shortest_query: ClassVar[int] = 1
    """Minimum length of a query in characters; each non-ASCII character counts as two."""

    longest_query: ClassVar[int | None] = None
    """Maximum length of a query in characters; searches drop the rest. None: no limit."""

    file_field: ClassVar[str] = "file"
    """The name of the form field that contains an uploaded file."""

    calls_base: ClassVar[str] = "knowledge base"
    """The service's name for a knowledge base."""

    def __init__(
        self, config: RemoteTargetConfig, context: TargetContext, **options: Unpack[ClientOptions]
    ) -> None:
        self._config, self._context = config, context
        self._steady, self._wall = options.get("steady", time.monotonic), options.get("wall", time.time)
        self._sleep = options.get("sleep", asyncio.sleep)
        self._deletions = BatchQueue[DeleteOutcome]()
        self._key = key_of(config)
        endpoint = Endpoint(
            config.base_url + self.root,
            concurrency=config.concurrency,
            requests_per_minute=config.requests_per_minute,
            upload_bytes_per_second=config.upload_bytes_per_second,
            is_first=context.read_only,  # an interactive command
            ca_file=config.ca_file,
            proxy=config.proxy.reveal() if config.proxy else None,
        )
        self._client = Client(
            endpoint,
            headers=self.headers,
            classify_response=self.classify_response,
            certain_calls=self.certain_calls,
            **options,
        )
        self.prepare()

    def prepare(self) -> None:
        """Set what the service's calls need in addition to `_config` and `_client`. This sends no request."""

    def headers(self) -> Mapping[str, str]:
        """Return the request headers, including the key."""
        return {"Authorization": f"Bearer {self._key}"}

    @property
    def limits(self) -> Limits:
        """The service's limits, with the sizes, rate limits and waiting times from the config."""
        config, own_limits, waiting = self._config, self.takes, self._config.vectorization
        # Work that can wait gets at most a tenth of the requests per minute.
        unhurried = 60.0 / (_SHARE * config.requests_per_minute) if config.requests_per_minute > 0 else 0.0
        most = self._most_bytes if own_limits.max_bytes is None else own_limits.max_bytes
        links = dict.fromkeys(own_limits.links, min(most or MAX_LINK_BYTES, MAX_LINK_BYTES))
        return replace(
            own_limits,
            max_bytes=most,
            max_bytes_by_extension={**own_limits.max_bytes_by_extension, **links},
            concurrency=config.concurrency,
            # While the requests in flight wait for the service, prepare the next documents.
            ahead=config.concurrency // 2 + 1 if own_limits.batch == 1 else 0,
            reembed_tries=waiting.reembed_tries,
            give_up=waiting.give_up,
            poll_first=waiting.poll_first,
            poll_longest=waiting.poll_longest,
            reembed_grace=grace(config),
            unhurried=max(_UNHURRIED, unhurried),
        )

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """Return the same recipe for every document, because the service decides how to split it."""
        return self.only_recipe

    @property
    def _most_bytes(self) -> int | None:
        """The maximum size of a document according to the config, or None if only the service limits it."""
        return getattr(self._config, "max_bytes", None)

    @property
    def access(self) -> tuple[Any, TargetContext, Client]:
        """The config, context and client, for commands that manage the account (`kbsync.accounts`)."""
        return self._config, self._context, self._client

    def no_base(self, base_id: str, words: str = "", code: str = "") -> Halted:
        """Return the error for a missing base. `words`: the service's message. `code`: the service's code."""
        where = f"there is no {self.calls_base} {base_id} at {self._config.base_url} for this api_key"
        detail = f"{where} ({words})" if words else where
        if base_id == self._config.base_id:
            detail += f"; correct {self._config.id_setting} in the config"
        reason = f"{detail}; list them with {self._context.mirror_command('kb list')}"
        return Halted("knowledge-base-missing", reason, code=code)

    async def _read_base(self, base_id: str, path: str, parse: Callable[[Any], P | None]) -> P:
        """Return the parsed response about a base.

        If the service refuses the request, raise the error from `no_base`.
        """
        try:
            return await self._client.read("base", path, parse)
        except (Rejected, Halted) as error:
            if isinstance(error, Halted) and error.halt != "knowledge-base-missing":
                raise
            # `no_base` has its own advice: the config is wrong only if it names this base.
            words = error.reason.removesuffix(f"; {NO_BASE_HINT}")
            raise self.no_base(base_id, words, error.code) from error

    def _card_among(self, base_id: str, cards: Iterable[BaseCard], words: str) -> BaseCard:
        """Return the base with this id. If the list lacks it, raise the error from `no_base` with `words`."""
        for card in cards:
            if card.id == base_id:
                return card
        raise self.no_base(base_id, words)

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Self:
        """Return a target for the same base whose requests first wait for `pace` and then pass the same
        gate.
        """
        # Gate, breaker, connections and the knowledge about the base are shared.
        slow = copy(self)
        slow._client = self._client.with_pace(pace)
        return slow

    async def _read_list(self, fetch_page: FetchPage[T]) -> AsyncGenerator[T, None]:
        """Yield every row of the list once. Raises `Unavailable` at the end if many are missing."""
        sweep = ListSweep(fetch_page)
        async with aclosing(sweep.rows()) as rows:
            async for row in rows:
                yield row
        if sweep.is_doubtful:
            await self._check_list(sweep.shown, sweep.claimed_count)

    async def _check_list(self, shown: int, claimed_count: int = 0) -> None:
        """Raise `Unavailable` if the list shows far fewer documents than the base counts.

        `claimed_count`: the count that the list itself reports. Raises `Halted` if the base doesn't exist.
        """
        # A short or empty list doesn't prove that documents are gone; compare it with the base's own count
        # (promise 1).
        base = await self.base()
        check_shown(shown, base.documents, base.id)

    def _age_of(self, moment: float) -> float:
        """Return how many seconds ago a time on the service's clock was."""
        return self._wall() + (self.clock_offset or 0.0) - moment

    async def _check_base_first(self, outcome: P) -> P | TargetError:
        """Check the base before believing an outcome such as a refusal.

        Return `outcome` if the base exists, otherwise the error from the check.
        """
        try:
            await self.base()
        except Rejected as error:  # a gateway lacks this call, too, which is no document's fault
            return Unavailable(error.reason, code=error.code)
        except TargetError as missing:
            return missing
        return outcome

    async def _call_each(
        self, subjects: Iterable[S], call: Callable[[S], Awaitable[P]]
    ) -> dict[S, P | TargetError]:
        """Run a call for each document, or for each batch of ids. Return the result or error of each.

        After a `Halted`, the remaining ones get the same outcome, without a request.
        """
        outcomes: dict[S, P | TargetError] = {}
        halted: Halted | None = None
        waiting = iter(subjects)

        async def call_some() -> None:
            nonlocal halted
            for subject in waiting:
                try:
                    outcomes[subject] = halted or await call(subject)
                except TargetError as error:
                    outcomes[subject] = error
                    halted = error if isinstance(error, Halted) else halted

        # Start only as many calls as the gate lets in: more would wait there, and still run after a `Halted`.
        async with asyncio.TaskGroup() as group:
            for _ in range(self._config.concurrency):
                group.create_task(call_some())
        return outcomes

    @property
    def meter(self) -> Meter:
        """The counts of all requests."""
        return self._client.meter

    @property
    def clock_offset(self) -> float | None:
        """The number of seconds by which the service's clock was ahead of ours at its last response."""
        return self._client.skew.offset

    async def aclose(self) -> None:
        """Close the connections. Safe to call more than once."""
        await self._client.aclose()

    # -- implemented by services

    async def card(self, base_id: str) -> BaseCard:
        """Return a knowledge base of the account. Required unless `base` is overridden.

        If it doesn't exist, raise the error from `no_base`.
        """
        raise NotImplementedError

    async def base(self) -> Base:
        """Check the base. Raises `Halted("knowledge-base-missing")` if it doesn't exist."""
        card = await self.card(self._config.base_id)
        require_id("base", card.id, self._config.base_id)
        return Base(card.id, card.documents, self._config.base_url)

    async def upload(self, document: Outgoing) -> Accepted:
        """Send one document, without retries. Required unless `put` is overridden.

        The outcome's `name` is the one in the response, if any. Raises `Unsure` if the response doesn't prove
        the outcome.
        """
        raise NotImplementedError

    async def page(self, number: int, size: int) -> ListPage[Row]:
        """Return a page of the list. Pages are numbered from 1. Required unless `rows` is overridden.

        If `row` is defined, the newest documents come first.
        """
        raise NotImplementedError

    async def row(self, remote_id: str) -> Row | None:
        """Return one document, or None if the response's shape is unexpected.

        Required unless `_states` is overridden.
        """
        raise NotImplementedError

    async def remove(self, remote_id: str) -> None:
        """Delete one document. Required unless `delete` is overridden or `most_ids` is set."""
        raise NotImplementedError

    async def remove_several(self, ids: Sequence[str]) -> bool:
        """Delete at most `most_ids` documents. Return True if the response proves each deletion.

        Required with `most_ids` or `deletes_in_turn`, unless `_remove_batch` is overridden.
        """
        raise NotImplementedError

    async def still_there(self, ids: Sequence[str], *, is_refused: bool) -> Collection[str]:
        """Return which of `ids` an existing base still has after `remove_several`.

        `is_refused`: whether the service refused to delete them.
        """
        return (await self._rows_among(ids)).keys()

    @abstractmethod
    async def matches(self, query: Query) -> Iterable[tuple[str, Passage]]:
        """Return the passages that match a search, each with its document's id.

        The query's text isn't empty, and not longer than `longest_query`.
        """

    def is_gone(self, error: TargetError) -> bool:
        """Return whether the service says "not found". The response is believed only while the base exists
        (promise 1).
        """
        return isinstance(error, Rejected) and error.code == GONE

    def missing_call_error(self, error: Rejected) -> Rejected:
        """Return the error for an upload if the base exists but the service seems to lack the upload call.

        The response probably didn't come from the service, so the engine retries a few times. The error may
        concern only this document (promise 9).
        """
        reason = f"refused, although the {self.calls_base} exists: {error.reason}"
        return Rejected(reason, code=error.code, may_pass=True)

    # -- what follows

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send each document in its own request, without retries. Return the outcomes in the same order.

        If a document has to wait for the service or the user, the remaining ones aren't sent.
        """
        outcomes: list[PutOutcome] = []
        down: TargetError | None = None
        for document in documents:
            outcome = await self._put(document) if down is None else untried(down)
            down = outcome if isinstance(outcome, Unavailable | Halted) else None
            if isinstance(outcome, TargetError):  # the reason may quote the service
                outcome.reason = self._client.redact(outcome.reason)
            outcomes.append(outcome)
        return outcomes

    async def _put(self, document: Outgoing) -> PutOutcome:
        if refusal := refusal_of(document, self.limits, self._most_bytes):
            return refusal
        try:
            stored = await self.upload(document)
            return replace(stored, name="") if stored.name == document.name else stored
        except Rejected as error:
            is_call_missing = isinstance(error, NotOffered) or self.is_gone(error)
            outcome: TargetError = self.missing_call_error(error) if is_call_missing else error
            if is_call_missing or self.refuses_alike or may_be_from_gateway(error):
                outcome = await self._check_base_first(outcome)
            outcome.has_removed = error.has_removed
            return outcome
        except TargetError as error:
            return error

    async def _send_file(
        self,
        path: str,
        document: Outgoing,
        parse: Callable[[Any], P | None],
        *,
        name: str = "",
        fields: Mapping[str, Any] | None = None,
        content_type: str | None = OCTETS,
    ) -> P:
        """POST a form with a document's bytes, without retries, and return the parsed response. For use in
        `upload`.

        `name`: the name of the file, if it isn't the document's. Raises `Unsure` if `parse` returns None.
        """
        file = FilePart(self.file_field, name or document.name, document.body, content_type)
        response = await self._client.post_form("upload", path, fields=fields or {}, file=file)
        return require_document("upload", parse(response.body))

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return the state of each remote id, with our key removed from the service's messages."""
        states = await self._translate_refusal(self._states(tuple(dict.fromkeys(ids))))
        redact = self._client.redact
        return {
            remote_id: replace(state, reason=redact(state.reason)) if state.reason else state
            for remote_id, state in states.items()
        }

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Read the states of recent documents from the first pages of the list, and the states of older ones
        one by one.
        """
        rows, rest = await self._find_on_pages(ids)
        details = await self._read_details(rest)
        errors = [error for error in details.values() if isinstance(error, TargetError)]
        halted = [error for error in errors if isinstance(error, Halted)]
        is_down = len(errors) == len(details) and all(isinstance(error, Unavailable) for error in errors)
        if halted or (errors and is_down and not rows):
            raise (halted or errors)[0]
        states = dict.fromkeys(ids, UNKNOWN)
        for remote_id, row in details.items():
            if isinstance(row, TargetError):
                states[remote_id] = DocStatus(DocState.UNKNOWN, row.reason, row.code)
            elif row is None:
                states[remote_id] = MISSING
            else:
                rows[remote_id] = row
        states.update(await self._states_of(rows))
        return states

    async def _find_on_pages(self, ids: Sequence[str]) -> tuple[dict[str, Row], Sequence[str]]:
        """Return the rows on the newest pages of the list, and the ids to query individually.

        This never takes more requests than there are ids (ADR 15).
        """
        try:
            rows, requests = await find_on_pages(self.page, set(ids))
        except Rejected:  # the list isn't available
            await self.base()
            rows, requests = {}, 1
        rest = [remote_id for remote_id in ids if remote_id not in rows]
        return rows, rest[: len(ids) - requests]

    async def _read_details(self, ids: Iterable[str]) -> dict[str, Row | TargetError | None]:
        """Return each document, the error that reading it raised, or None if the document no longer exists
        but the base does. If the base doesn't respond, its error replaces refusals.
        """
        # Check the base once for all documents, and after them: before, it could still disappear.
        details: dict[str, Row | TargetError | None] = {**await self._call_each(ids, self._read_detail)}
        errors = {remote_id: row for remote_id, row in details.items() if isinstance(row, TargetError)}
        missing = [remote_id for remote_id, error in errors.items() if self.is_gone(error)]
        doubtful = [remote_id for remote_id, error in errors.items() if may_be_from_gateway(error)]
        if missing or doubtful:
            failure = await self._check_base_first(None)
            details |= dict.fromkeys([*missing, *doubtful] if failure else missing, failure)
        return details

    async def _read_detail(self, remote_id: str) -> Row:
        row = await self.row(remote_id)
        if row is None or row.id != remote_id:
            raise Rejected("the response has an unexpected shape", code="shape")
        return row

    async def _states_of(self, rows: Mapping[str, Row]) -> Mapping[str, DocStatus]:
        return {remote_id: row.status for remote_id, row in rows.items()}

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Delete each remote id.

        One that doesn't exist counts as a success. After a `Halted`, no further batch is sent.
        """
        return await self._check_refusals(await self._delete_all(tuple(dict.fromkeys(ids))))

    async def _check_refusals(self, outcomes: Mapping[str, DeleteOutcome]) -> Mapping[str, DeleteOutcome]:
        """Check the base before believing refusals that a gateway may have sent, as for uploads."""
        doubtful = [remote_id for remote_id, error in outcomes.items() if may_be_from_gateway(error)]
        if doubtful and (failure := await self._check_base_first(None)):
            return {**outcomes, **dict.fromkeys(doubtful, failure)}
        return outcomes

    async def _delete_all(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        if self.deletes_in_turn:
            try:
                return await self._deletions.run(ids, self._remove_batch)
            except TargetError as error:
                return dict.fromkeys(ids, error)
        if not self.most_ids:
            return await self._call_each(ids, self._remove)
        outcomes: dict[str, DeleteOutcome] = {}
        halted: Halted | None = None
        for part in batches(ids, self.most_ids):
            try:
                outcomes |= dict.fromkeys(part, halted) if halted else await self._remove_batch(part)
            except TargetError as error:
                halted = error if isinstance(error, Halted) else None
                outcomes |= dict.fromkeys(part, error)
        return outcomes

    async def _remove_batch(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Delete a batch, then check what is left: a single missing id may make the service refuse the whole
        batch.
        """
        failure: TargetError = Unavailable(_STILL_THERE, code="still-there")
        is_refused = False
        try:
            if await self.remove_several(ids):
                return dict.fromkeys(ids)
        except Rejected as error:
            failure, is_refused = error, True
        listed_ids = await self.still_there(ids, is_refused=is_refused)
        remaining = [remote_id for remote_id in ids if remote_id in listed_ids]
        outcomes: dict[str, DeleteOutcome] = dict.fromkeys(ids)
        if not is_refused or len(ids) == 1:
            return outcomes | dict.fromkeys(remaining, failure)
        is_part = 0 < len(remaining) < len(ids)
        for part in [remaining] if is_part else [[remote_id] for remote_id in remaining]:
            outcomes |= await self._remove_batch(part)
        return outcomes

    async def _remove(self, remote_id: str) -> None:
        try:
            await self.remove(remote_id)
        except Rejected as error:
            if not self.is_gone(error):
                raise
            await self.base()

    async def list(self) -> AsyncIterator[Listed]:
        """Yield every document of the base once. Raises `Unavailable` at the end if many are missing."""
        async with aclosing(self.rows()) as rows:
            async for row in rows:
                yield row.listed

    def rows(self) -> AsyncGenerator[Row, None]:
        """Yield each row of the list once."""
        return self._read_list(self._request_page)

    async def _rows_among(self, ids: Iterable[str]) -> Mapping[str, Row]:
        """Return the rows of the `ids` that are in the list.

        Stop reading the list once all of them are found.
        """
        requested, matches = set(ids), dict[str, Row]()
        async with aclosing(self.rows()) as rows:
            async for row in rows:
                if row.id in requested:
                    matches[row.id] = row
                if len(matches) == len(requested):
                    break
        return matches

    async def _request_page(self, number: int, size: int) -> ListPage[Row]:
        return await self._translate_refusal(self.page(number, size))

    async def _listed_on(self, page: Awaitable[ListPage[Row]]) -> Sequence[Listed]:
        """Return the documents on one page, for services whose list can be filtered by name (`Finds`)."""
        return [row.listed for row in (await self._translate_refusal(page)).rows]

    async def _translate_refusal(self, documents: Awaitable[P]) -> P:
        """Await a page of the list, or the states of documents, and return the result.

        While the base exists, every refusal is raised as `Unavailable`: a list that ends without an error
        must be complete, and after a `Rejected`, the engine would ask again without a pause.
        """
        try:
            return await documents
        except Rejected as error:
            later = Unavailable(f"can't read the list: {error.reason}", code=error.code)
            raise await self._check_base_first(later) from error

    async def search(self, query: Query) -> Sequence[Hit]:
        """Search, and return the best hits first. Hits have no `path`, because the engine finds it by their
        ids.

        Services can't filter by path, type or date. With such filters, this returns all hits for the engine
        to filter.
        """
        text = query.text.strip()
        if sum(1 if character.isascii() else 2 for character in text) < self.shortest_query:
            return ()
        query = replace(query, text=text[: self.longest_query])
        async with self._client.time_limit("search", SEARCH_TIMEOUT):
            matches = sorted(await self.matches(query), key=lambda pair: -pair[1].score)
        hits = hits_of(pair for pair in matches if not query.among or pair[0] in query.among)
        return hits if query.selects and not query.among else hits[: query.top_k]
