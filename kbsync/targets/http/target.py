"""What all targets at a service have in common: the client made from their config, accounts, ranked searches.

At the end what a person manages there: settings given as text, and things that are made once by their name.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar, Unpack

from kbsync.config.target import RemoteTargetConfig
from kbsync.contract.managing import BaseCard, Bases, Capacity, EmbeddingModel
from kbsync.contract.meter import Meter
from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import DocStatus, Outgoing, Surroundings, Target
from kbsync.core.model import Limits
from kbsync.core.text import extension_of
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, TargetError, Unsure, UsageError
from kbsync.targets.http.client import Client, ClientOptions, ClockSkew
from kbsync.targets.http.connection import Endpoint
from kbsync.targets.http.errors import Judge
from kbsync.targets.http.reading import AskPage, Identified, ListSweep, T

_GRACE_POLLS, _LONGEST_GRACE = 10, 10.0
_UNHURRIED, _SHARE = 10.0, 0.1
"""Seconds between requests of work that can wait, and its share of `requests_per_minute`."""


def endpoint(config: RemoteTargetConfig, surroundings: Surroundings, address: str = "") -> Endpoint:
    """The way to `base_url` or to an `address` behind it, under the limits of the config.

    Raises `UsageError` where the key or the proxy is a secret that could not be read.
    """
    return Endpoint(
        address or config.base_url,
        concurrency=config.concurrency,
        requests_per_minute=config.requests_per_minute,
        upload_bytes_per_second=config.upload_bytes_per_second,
        is_first=surroundings.read_only,  # a command that somebody typed
        ca_file=config.ca_file,
        proxy=config.proxy.reveal() if config.proxy else None,
    )


def key_of(config: RemoteTargetConfig) -> str:
    """The API key. Raises `UsageError` for one that no header can carry."""
    key = config.api_key.reveal()
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise UsageError("api_key is empty or has characters that no key has; copy it again")
    return key


def grace(config: RemoteTargetConfig) -> float:
    """Seconds after a document was to be indexed again in which a failure may be one from before."""
    return min(_LONGEST_GRACE, _GRACE_POLLS * config.vectorization.poll_first)


Found = TypeVar("Found")

_log = logging.getLogger(__name__)


async def search_ranked(
    ask: Callable[[bool], Awaitable[Found]], is_ranked: bool, overloaded: Collection[str]
) -> Found:
    """What `ask` finds with the vendor's ranking model, where that is wanted; else, or in need, without it.

    Without it where it may be what failed: no such model, no money or plan for it, too much work for it,
    which the codes `overloaded` tell. Not for a refused key, nor for no answer. Raises `TargetError`.
    """
    if not is_ranked:
        return await ask(False)
    try:
        return await ask(True)
    except TargetError as error:
        is_refusal = error.halt == "quota" if isinstance(error, Halted) else isinstance(error, Rejected)
        if not (is_refusal or error.code in overloaded):
            raise
        found = await ask(False)
        _log.warning("in the order the service finds without its ranking model: %s", error.reason)
        return found


def hits_of(found: Iterable[tuple[str, Passage]]) -> list[Hit]:
    """Documents, best first, each with its passages; `path` is left to the engine, which knows the ids."""
    passages: dict[str, list[Passage]] = {}
    for remote_id, passage in sorted(found, key=lambda one: -one[1].score):
        passages.setdefault(remote_id, []).append(passage)
    return [Hit(one, several[0].score, tuple(several)) for one, several in passages.items()]


def hits_for(found: Iterable[tuple[str, Passage]], query: Query) -> Sequence[Hit]:
    """The hits that a query is about, of a service that knows no paths, types and dates.

    Where the engine chooses by them afterwards, all that was found: what is cut here would be missing there.
    """
    hits = hits_of(match for match in found if not query.among or match[0] in query.among)
    return hits if query.selects and not query.among else hits[: query.top_k]


def refusal_of(document: Outgoing, limits: Limits, max_bytes: int | None = None) -> Rejected | None:
    """Why a service would refuse a document, mostly after all of it was sent; None: it would not.

    `max_bytes`: as the config has it, if it does; any other limit is the service's own.
    """
    extension = extension_of(document.path)
    most = limits.max_bytes_by_extension.get(extension, limits.max_bytes)
    if extension not in limits.extensions:
        known = " ".join(sorted(limits.extensions))
        return Rejected(f"the service does not take this format; it takes {known}", code="format")
    if most is not None and document.size > most:
        reason = f"{document.size:,} bytes are over the limit of {most:,}"
        return Rejected(f"{reason}; see max_bytes" if most == max_bytes else reason, code="too-large")
    return None if document.size else Rejected("the file is empty", code="empty")


class RemoteTarget(Target):
    """A target at a service: `_client` is the way to it.

    `judge` reads the answers. `headers` gives those with the key, None: the key as a bearer. `address`: where
    the paths begin, "" for `base_url`. `skew`: see `Client`. Raises `UsageError` where the settings cannot be
    used.
    """

    only_recipe: ClassVar[str]
    """That of every document, unless `recipe` is another."""

    takes: Limits
    """What the vendor takes; the config says the rest."""

    def __init__(
        self,
        config: RemoteTargetConfig,
        surroundings: Surroundings,
        judge: Judge,
        *,
        headers: Callable[[], Mapping[str, str]] | None = None,
        address: str = "",
        skew: ClockSkew | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._config, self._surroundings = config, surroundings
        self._steady, self._wall = options.get("steady", time.monotonic), options.get("wall", time.time)
        self._sleep = options.get("sleep", asyncio.sleep)
        bearer = {"Authorization": f"Bearer {key_of(config)}"}
        self._client = Client(
            endpoint(config, surroundings, address),
            headers=headers or (lambda: bearer),
            judge=judge,
            skew=skew,
            **options,
        )
        self._make_parts()

    @property
    def limits(self) -> Limits:
        """What the vendor takes, with what the config says of sizes, asking and waiting."""
        config, own, waiting = self._config, self.takes, self._config.vectorization
        # Work that can wait never takes more than a tenth of the minute from what somebody waits for.
        unhurried = 60.0 / (_SHARE * config.requests_per_minute) if config.requests_per_minute > 0 else 0.0
        return replace(
            own,
            max_bytes=self._most_bytes if own.max_bytes is None else own.max_bytes,
            concurrency=config.concurrency,
            reembed_tries=waiting.reembed_tries,
            give_up=waiting.give_up,
            poll_first=waiting.poll_first,
            poll_longest=waiting.poll_longest,
            unhurried=max(_UNHURRIED, unhurried),
        )

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """The same for every document: how they are cut is set at the service."""
        return self.only_recipe

    @property
    def _most_bytes(self) -> int | None:
        """Of a document, as the config has it; None where the service alone has a limit."""
        return getattr(self._config, "max_bytes", None)

    def _make_parts(self) -> None:
        """Make what holds the client; a target that asks `_client` alone has nothing to make."""

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Self:
        """The same base through the same gate; every request waits for `pace` first."""
        # A copy whose parts hold the slow client: the gate, the breaker and the connections stay the same.
        slow = copy(self)
        slow._client = self._client.unhurried(pace)
        slow._make_parts()
        return slow

    def _redacted(self, states: Mapping[str, DocStatus]) -> Mapping[str, DocStatus]:
        """The states, whose reasons are the service's words, without our key in them."""
        redact = self._client.redacted
        return {
            one: replace(state, reason=redact(state.reason)) if state.reason else state
            for one, state in states.items()
        }

    async def _swept(self, page: AskPage[T]) -> AsyncGenerator[T, None]:
        """Every row of a list once. Raises `Unavailable` at the end where many are not shown."""
        sweep = ListSweep(page)
        async with aclosing(sweep.rows()) as rows:
            async for row in rows:
                yield row
        # A short or empty list does not prove documents gone: the base is the second witness (promise 1).
        if sweep.is_doubtful:
            base = await self.base()
            sweep.check(base.documents, base.id)

    async def _digest_at(self, url: str) -> str:
        """The SHA-256 (lower-case hex) of a stored file at its signed address; errors as `Client.read`."""
        digest = hashlib.sha256()
        async with aclosing(self._client.read(url, most=self._most_bytes or 0)) as pieces:
            async for piece in pieces:
                digest.update(piece)
        return digest.hexdigest()

    async def _unless_missing(self, refused: TargetError) -> TargetError:
        """The refusal, where the base is there: its code may not say which of them is to blame."""
        try:
            await self.base()
        except TargetError as missing:
            return missing
        return refused

    @property
    def meter(self) -> Meter:
        """Counts of all requests."""
        return self._client.meter

    @property
    def clock_apart(self) -> float | None:
        """Seconds by which the vendor's clock is ahead of ours, by its last answer."""
        return self._client.skew.apart

    async def aclose(self) -> None:
        """Let go of the connections; repeatable."""
        await self._client.aclose()


_LONGEST_SHOWN = 60
_NUMBER = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class OfferedSetting:
    """`read` turns a text into what is sent, or None where it is not `allowed`, which says what is."""

    read: Callable[[str], object]
    allowed: str


def choice(*words: str) -> OfferedSetting:
    """One of `words`."""
    return OfferedSetting(lambda text: text if text in words else None, ", ".join(words))


def zero_or_one() -> OfferedSetting:
    """Sent as 0 or 1."""
    return OfferedSetting(
        lambda text: None if (known := _WORDS.get(text)) is None else int(known), "0, 1, false, true"
    )


def boolean() -> OfferedSetting:
    """Sent as false or true."""
    return OfferedSetting(_WORDS.get, "false, true")


def whole(least: int, most: int) -> OfferedSetting:
    """A whole number of a range, sent as one."""

    def read(text: str) -> int | None:
        number = int(text) if _NUMBER.fullmatch(text) else None
        return number if number is not None and least <= number <= most else None

    return OfferedSetting(read, f"a whole number, {least} to {most}")


def decimal(is_legal: Callable[[float], bool], allowed: str) -> OfferedSetting:
    """A number, sent as the text it is."""
    return OfferedSetting(
        lambda text: text if _DECIMAL.fullmatch(text) and is_legal(float(text)) else None, allowed
    )


def any_text() -> OfferedSetting:
    """Any text, sent as it is."""
    return OfferedSetting(lambda text: text if text.strip() else None, "a text that is not empty")


def parse_settings(
    given: Mapping[str, str], known: Mapping[str, OfferedSetting], what: str
) -> dict[str, object]:
    """What is sent for each setting that is given. Raises `Rejected`, naming what is legal.

    `what` has them: such as "a knowledge base".
    """
    values: dict[str, object] = {}
    for key, text in given.items():
        setting = known.get(key)
        if setting is None:
            raise Rejected(f"{what} has no setting {_shown(key)}; it has: {', '.join(known)}", code="setting")
        values[key] = setting.read(text)
        if values[key] is None:
            raise Rejected(f"{key} cannot be {_shown(text)}; allowed: {setting.allowed}", code="setting")
    return values


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def shown_settings(shown: Mapping[str, object], known: Mapping[str, OfferedSetting]) -> dict[str, str]:
    """The settings that a service shows, each in the form in which it can be given."""
    return {key: text for key in known if (text := _text(shown.get(key)))}


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return value
        case int() | float():
            return str(value)
    return ""


class Named(Identified, Protocol):
    """A knowledge base or an application."""

    @property
    def name(self) -> str:
        """As people know it."""


N = TypeVar("N", bound=Named)


async def make_once(
    name: str,
    what: str,
    those: Callable[[], Awaitable[Sequence[N]]],
    make: Callable[[], Awaitable[N]],
    advice: str,
) -> N:
    """Make something whose name is not in use; `what`: such as "a knowledge base".

    Making is not repeatable, and vendors take a name twice: so `those` there are looked through before, and
    after an answer that was lost. Raises `NameTaken`, and `Unsure` with `advice` where there is not exactly
    one of the name then.
    """
    if namesakes := [one for one in await those() if one.name == name]:
        raise NameTaken(f"there is {what} {name!r} already: {namesakes[0].id}", code="name")
    try:
        return await make()
    except Unsure as error:
        made = [one for one in await those() if one.name == name]
        if len(made) != 1:
            raise Unsure(f"{error.reason}; {advice}", code=error.code) from error
        return made[0]


class RemoteBases(Bases):
    """The bases of an account that can be changed, of a service that lists no models and tells no space."""

    what: ClassVar[str] = "knowledge base"
    """What the service calls one."""

    no_models: ClassVar[str]
    no_capacity: ClassVar[str]
    """Why there is none to be had, as a person is told."""

    def __init__(self, address: str, own: str, surroundings: Surroundings, client: Client) -> None:
        self._address, self._own, self._surroundings, self._client = address, own, surroundings, client

    @property
    def address(self) -> str:
        """Where they are."""
        return self._address

    @property
    def own(self) -> str:
        """The id that the config names."""
        return self._own

    def check_changeable(self) -> None:
        """They are."""

    async def models(self) -> Sequence[EmbeddingModel]:
        """Raises `NotOffered`."""
        raise NotOffered(self.no_models)

    async def capacity(self) -> Capacity | None:
        """Raises `NotOffered`."""
        raise NotOffered(self.no_capacity)

    async def make_once(self, name: str, make: Callable[[], Awaitable[BaseCard | None]]) -> BaseCard:
        """Make a base whose name is not in use yet. Raises as the function `make_once` does.

        `make`: None where the answer does not name what was made.
        """

        async def made() -> BaseCard:
            if (card := await make()) is None:
                raise Unsure(f"create-base: the answer does not name the {self.what}", code="no-id")
            return card

        look = self._surroundings.pasted("kb list")
        advice = f"the {self.what} may have been made or not: look with {look} before another try"
        return await make_once(name, f"a {self.what}", self.all, made, advice)

    def missing(self, base_id: str, words: str = "") -> Halted:
        """The error of an id that is not there; `words` of the service."""
        where = f"there is no {self.what} {base_id} at {self._address} for this api_key"
        look = f"list them with {self._surroundings.pasted('kb list')}"
        return Halted("knowledge-base-missing", f"{where} ({words}); {look}" if words else f"{where}; {look}")
