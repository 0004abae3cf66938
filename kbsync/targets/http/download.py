"""Reads addresses that are not the target's own, such as those of stored files: without key or cookie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import httpx

from kbsync.errors import Rejected, TargetError, Unavailable
from kbsync.targets.http.bodies import answer_pieces
from kbsync.targets.http.connection import NO_AUTH, SLOW_LINE, Timeouts
from kbsync.targets.http.errors import ON_THE_WAY, PackedError, TooLargeError, in_words

REDIRECTS = 5

_LATER = (408, 425, 429)
T = TypeVar("T")


class Download:
    """One address that is read. Every call raises `Unavailable`, or `Rejected` where it has nothing for us.

    Reasons name the host and never the address, whose query may be a signature. Only the time spent
    waiting for bytes counts against `timeouts`.
    """

    def __init__(
        self, http: httpx.AsyncClient, op: str, timeouts: Timeouts, most: int, steady: Callable[[], float]
    ) -> None:
        self._http, self._op, self._timeouts, self._most = http, op, timeouts, most
        self._left, self._steady = timeouts.whole + most / SLOW_LINE, steady
        self._host = "an address"
        self._response: httpx.Response | None = None

    async def pieces(self, address: str) -> AsyncGenerator[bytes, None]:
        """The bytes at `address`, in pieces."""
        response = await self._reach(address)
        status = response.status_code
        if 400 <= status < 500 and status not in _LATER:
            raise Rejected(f"{self._op}: {self._host} answered {status}", code=str(status))
        if status != httpx.codes.OK:
            raise self._unavailable(f"answered {status}")
        # too large by its own word: nothing of it is read
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most:
            raise self._too_large()
        pieces = answer_pieces(response, self._most)
        while (piece := await self._within(anext(pieces, None))) is not None:
            yield piece

    async def aclose(self) -> None:
        """Let go of the connection."""
        if self._response is not None:
            await self._response.aclose()

    async def _reach(self, address: str) -> httpx.Response:
        """Follow redirects to the answer that has the bytes."""
        url = self._url(httpx.URL(), address)
        for _ in range(REDIRECTS + 1):
            request = self._http.build_request("GET", url)
            sending = self._http.send(request, auth=NO_AUTH, stream=True)
            response = self._response = await self._within(sending)
            if not response.has_redirect_location:
                return response
            await response.aclose()
            url = self._url(url, response.headers["location"])
        raise self._unavailable(f"redirects more than {REDIRECTS} times")

    def _url(self, base: httpx.URL, address: str) -> httpx.URL:
        try:
            url = base.join(address)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise self._unavailable("was not reached: the address is not one of http or https")
        if (base.scheme, url.scheme) == ("https", "http"):
            raise self._unavailable("redirects from https to http, which is not followed")
        self._host = url.host
        return url

    async def _within(self, waiting: Awaitable[T]) -> T:
        """What is waited for, within the time that is left."""
        begun = self._steady()
        failure: TargetError
        try:
            async with asyncio.timeout(self._left):
                return await waiting
        except TooLargeError:
            failure = self._too_large()
        except PackedError as error:
            # what is stored so is so each time, and proves nothing of the file's own bytes
            failure = Rejected(f"{self._op}: {self._host} answered, but {error}", code="packed")
        except ON_THE_WAY as error:
            failure = self._unavailable(in_words(error, self._timeouts))
        finally:
            self._left -= self._steady() - begun
        raise failure  # outside of the handler: the error of the wire has the address in it

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"{self._op}: {self._host} {what}")

    def _too_large(self) -> Rejected:
        return Rejected(f"{self._op}: {self._host} has more than {self._most:,} bytes", code="too-large")
