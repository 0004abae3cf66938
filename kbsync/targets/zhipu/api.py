"""The vendor's calls about one knowledge base, each with its path and its answer as a value."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any

from kbsync.contract.mirroring import Outgoing
from kbsync.errors import Halted, TargetError, Unavailable
from kbsync.targets.http import Answer, Client, Judge, Part
from kbsync.targets.zhipu import words
from kbsync.targets.zhipu.codes import EXPIRED, Op, judge
from kbsync.targets.zhipu.formats import Slicing, form_of, link_body, media_type, reslice_body, upload_fields
from kbsync.targets.zhipu.ids import path_part
from kbsync.targets.zhipu.keys import Keys, PlainKey
from kbsync.targets.zhipu.searching import Question
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.skew import Skew
from kbsync.targets.zhipu.wire import (
    Capacity,
    Found,
    Images,
    KnowledgeBase,
    Page,
    Receipt,
    Row,
    base_of,
    capacity_of,
    envelope_of,
    found_of,
    images_of,
    page_of,
    receipt_of,
    row_of,
)

ROOT = "/llm-application/open"
"""What the paths below come after, behind `base_url`."""

_SHORTEST_SECRET = 6

FORECAST = 5.0
"""Seconds in which the account's space is told, all tries among them; who asked goes on without it then."""


class MirrorJudge:
    """Judges the answers: learns the vendor's clock from them, and words errors for the mirror's people.

    Nothing that it returns holds the key or a signature, whatever the vendor echoes. `keys` are told
    which of them is good; `read` is what tells success from failure.
    """

    def __init__(
        self, settings: ZhipuSettings, skew: Skew, keys: Keys | None = None, read: Judge = judge
    ) -> None:
        self._settings, self._skew, self._read = settings, skew, read
        self._keys = keys or PlainKey(settings.api_key)
        called = settings.callback_url.rpartition("/")[2]
        gateway = settings.callback_authorization
        parts = {settings.api_key, *settings.api_key.split("."), called, gateway, *_shown(gateway)}
        # The longest first: what a part leaves of the whole would still be told.
        self._secrets = sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len)[::-1]

    def __call__(self, answer: Answer) -> TargetError | None:
        """None is success."""
        self._learn_skew(answer)
        error = self._read(answer)
        if error is None:
            self._keys.accepted(answer.sent_at)
            return None
        if error.code == EXPIRED and self._keys.renews(answer.sent_at):
            error = Unavailable(
                "the token of this request had run out; the next one has a new one", code=EXPIRED
            )
        self._reword(error)
        return error

    def _learn_skew(self, answer: Answer) -> None:
        """A gateway that refuses a key gives no `timestamp`, but a `Date`."""
        envelope = envelope_of(answer.body)
        if envelope is not None and envelope.at is not None:
            self._skew.learn(envelope.at, answer.sent_at)
        elif answer.status in (401, 403):
            self._skew.learn(answer.date, answer.sent_at)

    def _reword(self, error: TargetError) -> None:
        reason = words.unsigned(error.reason)
        for secret in self._secrets:
            reason = reason.replace(secret, "***")
        if isinstance(error, Halted):
            reason = self._advise(error, reason)
        error.reason = reason
        error.args = (reason,)

    def _advise(self, error: Halted, reason: str) -> str:
        error.cure = self._settings.command("retry")
        tells_time = error.halt == "credentials" and self._skew.sentence
        return f"{reason}; {self._skew.sentence}" if tells_time else reason


def _shown(authorization: str) -> list[str]:
    """What is secret in the value of such a header: its words, but for the scheme in front of them."""
    scheme, _, rest = authorization.strip().partition(" ")
    return re.split(r"""[\s,;:="']+""", rest or scheme)


async def ask_capacity(client: Client) -> Capacity | None:
    """Space of the account; None where it is not told. Raises `TargetError`, `Unavailable` after `FORECAST`.

    It is a forecast only, and uploads, plans and people wait for it.
    """
    async with client.soon(Op.CAPACITY, FORECAST):
        answer = await client.ask(Op.CAPACITY, "GET", "/knowledge/capacity")
    return capacity_of(answer.body)


class Api:
    """One knowledge base behind one key. Every call raises `TargetError`."""

    def __init__(self, settings: ZhipuSettings, client: Client) -> None:
        self._client = client
        self._base = path_part(settings.knowledge_id)
        self._knowledge_id = settings.knowledge_id
        self._callback: dict[str, Any] = {}
        if settings.callback_url:
            self._callback["callback_url"] = settings.callback_url
            if settings.callback_authorization:
                self._callback["callback_header"] = {"Authorization": settings.callback_authorization}

    async def base(self) -> KnowledgeBase | None:
        """The base; None where the answer has no data."""
        answer = await self._client.ask(Op.BASE, "GET", f"/knowledge/{self._base}")
        return base_of(answer.body)

    async def capacity(self) -> Capacity | None:
        """Space of the account; None where it is not told. Errors as `ask_capacity`."""
        return await ask_capacity(self._client)

    async def upload(self, document: Outgoing, slicing: Slicing) -> Receipt:
        """Send one document, once. Raises `Unsure` where it may have been stored."""
        answer = await self._client.send(
            Op.UPLOAD,
            f"/document/upload_document/{self._base}",
            fields={**upload_fields(slicing, document.upload_id), **form_of(self._callback)},
            file=Part("files", document.name, document.body, media_type(document.name)),
        )
        return receipt_of(answer.body)

    async def upload_url(self, address: str, slicing: Slicing) -> Receipt:
        """Have the vendor fetch one page, once; errors as `upload`."""
        body = link_body(self._knowledge_id, address, slicing, self._callback)
        answer = await self._client.post(Op.UPLOAD_URL, "/document/upload_url", json=body)
        return receipt_of(answer.body, "url")

    async def page(self, number: int, size: int, word: str = "") -> Page:
        """One page of the list, from 1; `word`: of documents whose names have to do with it."""
        params = {"knowledge_id": self._knowledge_id, "page": str(number), "size": str(size)}
        params |= {"word": word} if word else {}
        answer = await self._client.ask(Op.LIST, "GET", "/document", params=params)
        return page_of(answer.body)

    async def detail(self, remote_id: str) -> Row | None:
        """One document; None where the answer has no data."""
        answer = await self._client.ask(Op.DETAIL, "GET", f"/document/{path_part(remote_id)}")
        return row_of(answer.body, remote_id)

    async def delete(self, remote_id: str) -> None:
        """Remove one document."""
        await self._client.ask(Op.DELETE, "DELETE", f"/document/{path_part(remote_id)}")

    async def reembed(self, remote_id: str) -> None:
        """Vectorize again, which costs: sent once, and `Unsure` where the answer was lost."""
        await self._client.post(
            Op.REEMBED, f"/document/embedding/{path_part(remote_id)}", json=self._callback
        )

    async def reslice(self, remote_id: str, slicing: Slicing) -> None:
        """Cut anew."""
        path = f"/document/{path_part(remote_id)}"
        await self._client.ask(Op.RESLICE, "PUT", path, json={**reslice_body(slicing), **self._callback})

    async def retrieve(self, question: Question) -> tuple[Found, ...]:
        """Search the base."""
        body = question.body(self._knowledge_id)
        answer = await self._client.ask(Op.RETRIEVE, "POST", "/knowledge/retrieve", json=body)
        return found_of(answer.body)

    async def images(self, remote_id: str) -> Images:
        """The pictures in one document, under signed addresses that are good for some hours."""
        answer = await self._client.ask(
            Op.IMAGES, "POST", f"/document/slice/image_list/{path_part(remote_id)}"
        )
        return images_of(answer.body)

    def read(self, url: str, most: int) -> AsyncGenerator[bytes, None]:
        """The bytes behind a signed URL, without our key."""
        return self._client.read(url, most=most)

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()
