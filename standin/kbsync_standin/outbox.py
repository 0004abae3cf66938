"""Sends what a vendor sends by itself: each letter once, when it is due, with two seconds of patience."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import httpx

from kbsync_standin.late import LateWork
from kbsync_standin.messages import Letter, StandInClock

PATIENCE = 2.0
REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Sent:
    """A letter that was sent. `status` 0: there was no answer in time."""

    about: str
    status: int
    body: bytes = b""


class Outbox:
    """Takes letters from `letters`, in which the application leaves them."""

    def __init__(self, letters: list[Letter], late: LateWork, clock: StandInClock) -> None:
        self._letters, self._late, self._clock = letters, late, clock
        self._posting: set[asyncio.Task[None]] = set()
        self.sent: deque[Sent] = deque(maxlen=REMEMBERED)

    def empty(self) -> None:
        """See to all that lies there. Needs a running loop."""
        letters = self._letters[:]
        self._letters.clear()
        for letter in letters:
            self._late.owe(max(0.0, letter.at - self._clock.now()), partial(self._post, letter))

    def stop(self) -> None:
        """Break off what is under way."""
        for task in self._posting:
            task.cancel()

    def _post(self, letter: Letter) -> None:
        task = asyncio.get_running_loop().create_task(self._sending(letter))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    async def _sending(self, letter: Letter) -> None:
        headers = {"content-type": "application/json", **letter.headers}
        content = _in_halves(letter) if letter.slow else letter.body
        status, body = 0, b""
        try:
            async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
                answer = await client.post(letter.url, content=content, headers=headers)
                status, body = answer.status_code, answer.content
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            pass
        self.sent.append(Sent(letter.about, status, body))


async def _in_halves(letter: Letter) -> AsyncIterator[bytes]:
    half = len(letter.body) // 2
    yield letter.body[:half]
    await asyncio.sleep(letter.slow)
    yield letter.body[half:]
