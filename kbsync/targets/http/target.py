"""What is the same for all targets at a service: what their config says, the one client, accounts."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from copy import copy
from dataclasses import replace
from typing import Self, TypeVar
from weakref import WeakValueDictionary

from kbsync.config.target import RemoteTargetConfig
from kbsync.contract.target import Surroundings, Target
from kbsync.core.meter import Meter
from kbsync.core.model import Limits
from kbsync.errors import Halted, Rejected, TargetError, UsageError
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import Endpoint
from kbsync.targets.http.limits import Account

_GRACE_POLLS, _LONGEST_GRACE = 10, 10.0
_UNHURRIED, _SHARE = 10.0, 0.1
"""Seconds between requests that nobody waits for, and their share of `requests_per_minute`."""


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


def limited(limits: Limits, config: RemoteTargetConfig) -> Limits:
    """What the vendor takes, with what the config says of asking and waiting."""
    waiting = config.vectorization
    unhurried = _UNHURRIED
    if config.requests_per_minute > 0:
        unhurried = max(_UNHURRIED, 60.0 / (_SHARE * config.requests_per_minute))
    return replace(
        limits,
        concurrency=config.concurrency,
        reembed_tries=waiting.reembed_tries,
        give_up=waiting.give_up,
        poll_first=waiting.poll_first,
        poll_longest=waiting.poll_longest,
        unhurried=unhurried,
    )


Found = TypeVar("Found")

_log = logging.getLogger(__name__)


async def search_ranked(
    ask: Callable[[], Awaitable[Found]], without: Callable[[], Awaitable[Found]], overloaded: Collection[str]
) -> Found:
    """What `ask` finds with the vendor's ranking model, or what is found `without`, and that is said.

    Without it where it may be what failed: no such model, no money or plan for it, too much work for it,
    which the codes `overloaded` tell. Not for a refused key, nor for no answer. Raises `TargetError`.
    """
    try:
        return await ask()
    except TargetError as error:
        is_refusal = error.halt == "quota" if isinstance(error, Halted) else isinstance(error, Rejected)
        if not (is_refusal or error.code in overloaded):
            raise
        found = await without()
        _log.warning("in the order the service finds without its ranking model: %s", error.reason)
        return found


_accounts: WeakValueDictionary[tuple[str, str], Account] = WeakValueDictionary()


def account_of(config: RemoteTargetConfig) -> Account:
    """What the mirrors in this process that use one account know of it together."""
    who = config.base_url, hashlib.sha256(config.api_key.reveal().encode()).hexdigest()
    account = _accounts.get(who)
    if account is None:
        account = _accounts[who] = Account(time.monotonic)
    return account


class RemoteTarget(Target):
    """A target behind `client`. What holds the client is made in `_speak`, so that it can be made again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._speak()

    def _speak(self) -> None:
        """Make what holds the client at hand; a target that asks `_client` alone has nothing to make."""

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Self:
        """The same base through the same gate; every request waits for `pace` first."""
        slow = copy(self)
        slow._client = self._client.unhurried(pace)
        slow._speak()
        return slow

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
