"""The one address that the vendor calls for a whole account, changed on a person's order only.

Source: the vendor's manual of the knowledge API, 3.9. It is gone from the vendor's current pages.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping
from typing import Any

from kbsync.contract.managing import Callback
from kbsync.errors import NotOffered, TargetError, Unsure
from kbsync.targets.http import Answer, Client
from kbsync.targets.zhipu.codes import NotFound, Op
from kbsync.targets.zhipu.wire import data_of, flag_of, text_of

_PATH = "/callback"
_SHORTEST_SECRET = 4


class AccountCallbacks:
    """That of the account behind one key. Every call raises `TargetError`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def look(self) -> Callback | None:
        """None where none is set: there are no data, no address in them, or words that say so."""
        answer = await _if_set(self._client.ask(Op.CALLBACK, "GET", _PATH))
        return None if answer is None else callback_of(answer.body)

    async def aim(self, url: str, headers: Mapping[str, str]) -> None:
        """Send the address, and the headers where there are any. No error repeats their values."""
        body = {"url": url, **({"callback_header": dict(headers)} if headers else {})}
        with unsaid(headers.values()):
            await _if_offered(self._client.ask(Op.SET_CALLBACK, "PUT", _PATH, json=body))

    async def remove(self) -> None:
        """None is set from now on; where none was, that is done, if a look agrees."""
        removed = await _if_set(self._client.ask(Op.DELETE_CALLBACK, "DELETE", _PATH))
        if removed is None and await self.look() is not None:
            raise Unsure("the vendor says that no address is set, and still has one", code="still-there")


@contextlib.contextmanager
def unsaid(secrets: Collection[str]) -> Iterator[None]:
    """No error that comes out of it repeats one of `secrets`, whatever the vendor echoes."""
    try:
        yield
    except TargetError as error:
        error.reason = _without(secrets, error.reason)
        error.args = (error.reason,)
        raise


def callback_of(body: Any) -> Callback | None:
    """The answer to `GET /callback`; of headers the names alone."""
    content = data_of(body)
    url = text_of(content.get("url")).strip() if isinstance(content, dict) else ""
    if not url:
        return None
    return Callback(url, _names(content.get("callback_header")), flag_of(content.get("be_in_use")))


def _names(headers: object) -> tuple[str, ...]:
    """Of an object, or of one as JSON text."""
    if isinstance(headers, str):
        try:
            headers = json.loads(headers)
        except ValueError:
            return ()
    return tuple(map(str, headers)) if isinstance(headers, dict) else ()


async def _if_set(asked: Awaitable[Answer]) -> Answer | None:
    """None where words say that there is no such thing."""
    try:
        return await _if_offered(asked)
    except NotFound:
        return None


async def _if_offered(asked: Awaitable[Answer]) -> Answer:
    """There is no id in the path: a 404 is about the call."""
    try:
        return await asked
    except NotFound as error:
        if error.code != "404":
            raise
        raise NotOffered(error.reason, code=error.code) from error


def _without(secrets: Iterable[str], reason: str) -> str:
    """Nor a beginning of one, where the vendor's words were cut off."""
    for secret in secrets:
        for length in range(len(secret), _SHORTEST_SECRET - 1, -1):
            reason = reason.replace(secret[:length], "***")
    return reason
