"""Delayed work: effects after the response, and requests that the service sends itself, such as callbacks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial

import httpx

from kbsync_standin.messages import Letter, StandInClock

PATIENCE = 2.0
REMEMBERED = 1000

Work = Callable[[], object]


class LateWork:
    """Work that is due at times of the stand-in's clock; a timer runs it when real time reaches them."""

    def __init__(self, clock: StandInClock) -> None:
        self._clock = clock
        self._scheduled: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many pieces of work remain."""
        return len(self._scheduled)

    def schedule(self, seconds: float, work: Work) -> None:
        """Schedule `work` for `seconds` from now. Needs a running loop."""
        heapq.heappush(self._scheduled, (self._clock.now() + seconds, next(self._order), work))
        self._wind()

    def catch_up(self) -> None:
        """Do the due work, in the order of its due times."""
        while self._scheduled and self._scheduled[0][0] <= self._clock.now():
            _, _, work = heapq.heappop(self._scheduled)
            work()

    def run_all(self) -> None:
        """Do all remaining work now, even if it isn't due."""
        while self._scheduled:
            _, _, work = heapq.heappop(self._scheduled)
            work()

    def clear(self) -> None:
        """Drop all remaining work."""
        self._scheduled.clear()
        self._wind()

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._scheduled:
            # The loop's clock is coarser than time.time, so its timer may fire early.
            delay = max(0.001, self._scheduled[0][0] - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self.catch_up()
        self._wind()


class Outbox:
    """Sends the service's `letters`, each once when it is due, and waits two seconds for a response.

    `responses`: the latest ones, None for a letter without a response in time.
    """

    def __init__(self, letters: list[Letter], late: LateWork, clock: StandInClock) -> None:
        self._letters, self._late, self._clock = letters, late, clock
        self._posting: set[asyncio.Task[None]] = set()
        self.responses: deque[httpx.Response | None] = deque(maxlen=REMEMBERED)

    def empty(self) -> None:
        """Send all waiting letters. Needs a running loop."""
        letters = self._letters[:]
        self._letters.clear()
        for letter in letters:
            self._late.schedule(max(0.0, letter.due_at - self._clock.now()), partial(self._post, letter))

    def stop(self) -> None:
        """Cancel the deliveries in progress."""
        for task in self._posting:
            task.cancel()

    def _post(self, letter: Letter) -> None:
        task = asyncio.get_running_loop().create_task(self._sending(letter))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    async def _sending(self, letter: Letter) -> None:
        headers = {"content-type": "application/json", **letter.headers}
        content = _in_halves(letter) if letter.slow else letter.body
        response = None
        with suppress(httpx.HTTPError, httpx.InvalidURL, ValueError):
            async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
                response = await client.post(letter.url, content=content, headers=headers)
        self.responses.append(response)


async def _in_halves(letter: Letter) -> AsyncIterator[bytes]:
    half = len(letter.body) // 2
    yield letter.body[:half]
    await asyncio.sleep(letter.slow)
    yield letter.body[half:]
