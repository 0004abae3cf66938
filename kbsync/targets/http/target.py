"""What is the same for all targets that speak through one client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Self

from kbsync.core.meter import Meter
from kbsync.targets.http.client import Client


class RemoteTarget(ABC):
    """A target behind `client`. What holds the client is made in `_speak`, so that it can be made anew."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._speak()

    @abstractmethod
    def _speak(self) -> None:
        """Everything that is said goes through the client at hand."""

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
        return self._client.clock_apart

    async def aclose(self) -> None:
        """Let go of the connections; repeatable."""
        await self._client.aclose()
