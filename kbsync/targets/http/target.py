"""What is the same for all targets at a service: settings, the one client, a search without ranking."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from copy import copy
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar
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


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Times in seconds, sizes in bytes, 0 for no limit of ours.

    `mirror` is named in the commands that cure, which `write` makes; `is_first`: see `Endpoint`.
    Raises `UsageError` for a key that no header can carry.
    """

    base_url: str
    api_key: str = field(repr=False)
    _: KW_ONLY
    concurrency: int = 4
    requests_per_minute: int = 0
    upload_bytes_per_second: int = 0
    poll_first: float = 1.0
    poll_longest: float = 15.0
    give_up: float = 1800.0
    reembed_tries: int = 3
    ca_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    mirror: str = ""
    is_first: bool = False
    write: Callable[[str], str] = lambda command: f"kbsync {command}"

    def __post_init__(self) -> None:
        key = self.api_key
        if not (key and key.isascii() and key.isprintable() and " " not in key):
            raise UsageError("api_key is empty or has characters that no key has; copy it again")

    @property
    def grace(self) -> float:
        """Seconds after a document was to be indexed again in which a failure may be one from before."""
        return min(_LONGEST_GRACE, _GRACE_POLLS * self.poll_first)

    @property
    def unhurried(self) -> float:
        """Seconds between requests that nobody waits for."""
        if self.requests_per_minute <= 0:
            return _UNHURRIED
        return max(_UNHURRIED, 60.0 / (_SHARE * self.requests_per_minute))

    def limited(self, limits: Limits) -> Limits:
        """What the vendor takes, with what the config says of asking and waiting."""
        return replace(
            limits,
            concurrency=self.concurrency,
            reembed_tries=self.reembed_tries,
            give_up=self.give_up,
            poll_first=self.poll_first,
            poll_longest=self.poll_longest,
            unhurried=self.unhurried,
        )

    def endpoint(self, address: str) -> Endpoint:
        """The way to `address`, under these limits."""
        return Endpoint(
            address,
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            upload_bytes_per_second=self.upload_bytes_per_second,
            is_first=self.is_first,
            ca_file=self.ca_file,
            proxy=self.proxy,
        )

    def pasted(self, words: str) -> str:
        """A command line about this mirror that can be pasted, for a sentence."""
        return self.write(f"{words} --mirror {self.mirror}" if self.mirror else words)

    def command(self, words: str) -> str:
        """What to run once the cause of a halt is gone; the options in use are added where it is shown."""
        return f"kbsync {words} --mirror {self.mirror}" if self.mirror else f"kbsync {words}"


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


def remote_settings(config: RemoteTargetConfig, surroundings: Surroundings) -> dict[str, Any]:
    """What every `RemoteSettings` takes from a config block, but for address and key."""
    waiting = config.vectorization
    return {
        "concurrency": config.concurrency,
        "requests_per_minute": config.requests_per_minute,
        "upload_bytes_per_second": config.upload_bytes_per_second,
        "poll_first": waiting.poll_first,
        "poll_longest": waiting.poll_longest,
        "give_up": waiting.give_up,
        "reembed_tries": waiting.reembed_tries,
        "ca_file": config.ca_file,
        "proxy": config.proxy.reveal() if config.proxy else None,
        "mirror": surroundings.mirror,
        "write": surroundings.cure,
        "is_first": surroundings.read_only,  # a command that somebody typed
    }


_accounts: WeakValueDictionary[tuple[str, str], Account] = WeakValueDictionary()


def account_of(address: str, key: str) -> Account:
    """What the mirrors in this process that use one account know of it together."""
    who = address, hashlib.sha256(key.encode()).hexdigest()
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
