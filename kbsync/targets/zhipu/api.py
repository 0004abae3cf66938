"""The same question about each of several documents, some at a time.

How far the vendor's clock is from ours, learned from the answers.

How a request shows who asks: the API key itself, or a token of short life that its secret signs.

The vendor's calls about one knowledge base, each with its path and its answer as a value.

The knowledge base itself: whether it is there, which decides what "not found" means for anything in it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from kbsync.contract.target import Base, Outgoing
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.client import Client
from kbsync.targets.http.errors import HttpAnswer, Judge
from kbsync.targets.zhipu import errors
from kbsync.targets.zhipu.errors import EXPIRED, NotFound, ZhipuCall, judge
from kbsync.targets.zhipu.formats import Slicing, form_of, link_body, media_type, reslice_body, upload_fields
from kbsync.targets.zhipu.settings import ZhipuSettings
from kbsync.targets.zhipu.shapes import (
    Capacity,
    FoundSlice,
    Images,
    KnowledgeData,
    RetrieveRequest,
    ZhipuDocument,
    ZhipuPage,
    ZhipuReceipt,
    base_of,
    capacity_of,
    envelope_of,
    found_of,
    images_of,
    page_of,
    path_part,
    receipt_of,
    row_of,
)

T = TypeVar("T")


@dataclass(slots=True)
class EachAnswered(Generic[T]):
    """What came back: every id is in exactly one of them. `halted`: the reason why some were not asked."""

    given: dict[str, T] = field(default_factory=dict)
    refused: dict[str, TargetError] = field(default_factory=dict)
    halted: Halted | None = None


async def ask_each(ids: Iterable[str], ask: Callable[[str], Awaitable[T]], at_once: int) -> EachAnswered[T]:
    """Ask about every id, `at_once` at a time.

    After a `Halted` no more are asked; it is the answer of the rest.
    """
    answers: EachAnswered[T] = EachAnswered()
    waiting = iter(ids)
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(_work(waiting, ask, answers))
    return answers


async def _work(waiting: Iterator[str], ask: Callable[[str], Awaitable[T]], answers: EachAnswered[T]) -> None:
    for remote_id in waiting:
        if answers.halted is not None:
            answers.refused[remote_id] = answers.halted
            continue
        try:
            answers.given[remote_id] = await ask(remote_id)
        except TargetError as error:
            answers.refused[remote_id] = error
            if isinstance(error, Halted):
                answers.halted = error


ALARMING = 300.0
"""Seconds: signed keys are refused when clocks differ by more."""


class Skew:
    """The difference of the two clocks. `wall`: our clock, seconds since the epoch.

    `alarming`: seconds from which on a person should know of it.

    The vendor's `timestamp` was taken between sending and hearing; only what lies outside of that
    time shows a difference, so a slow upload never looks like one.
    """

    def __init__(self, wall: Callable[[], float], alarming: float = ALARMING) -> None:
        self._wall, self._alarming = wall, alarming
        self.seconds = 0.0
        """The vendor's clock minus ours."""

    def learn(self, at: float | None, sent_at: float) -> None:
        """An answer to a request of `sent_at` was stamped `at`, and arrived now."""
        if at is None:
            return
        heard_at = self._wall()
        self.seconds = max(0.0, at - heard_at) + min(0.0, at - sent_at)

    def ours(self, theirs: float | None) -> float | None:
        """A time of the vendor's by our clock; None where that is far off: ids may tell another time."""
        return None if theirs is None or abs(self.seconds) > ALARMING else theirs - self.seconds

    @property
    def sentence(self) -> str:
        """What a person should know when keys are refused; "" where the clocks agree."""
        if abs(self.seconds) <= self._alarming:
            return ""
        side = "behind" if self.seconds > 0 else "ahead of"
        return f"the clock of this machine is {_span(abs(self.seconds))} {side} the vendor's"


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


LIFE, KEPT = 210.0, 180.0
"""Seconds a token is good for, and is used for, as in the vendor's own client."""

TOLERANCE = 60.0
"""Seconds by which the clocks may differ before that is told of a token that is refused."""


class Keys(Protocol):
    """What goes into the headers, and what the answers say of it. `sent_at`: seconds since the epoch."""

    def headers(self) -> Mapping[str, str]:
        """Those that tell who asks."""

    def renews(self, sent_at: float) -> bool:
        """A request of `sent_at` was told that its key has run out: another one may be taken."""

    def accepted(self, sent_at: float) -> None:
        """A request of `sent_at` was let in."""


class PlainKey:
    """The key as it is."""

    def __init__(self, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}

    def headers(self) -> Mapping[str, str]:
        """The same for every request."""
        return self._headers

    def renews(self, sent_at: float) -> bool:
        """There is no other."""
        return False

    def accepted(self, sent_at: float) -> None:
        """Nothing follows."""


class Tokens:
    """Tokens signed with the secret of `key` (`id.secret`), made anew before they run out. `wall`: our clock.

    A token that is called expired is made anew once; when the new one is refused too, no third is tried.
    """

    def __init__(self, key: str, wall: Callable[[], float]) -> None:
        self._id, _, self._secret = key.partition(".")
        self._wall = wall
        self._token, self._made_at = "", 0.0
        self._is_second_try = False

    def headers(self) -> Mapping[str, str]:
        """With a token that is good for another half a minute at least."""
        now = self._wall()
        if not self._token or not 0 <= now - self._made_at < KEPT:
            self._token, self._made_at = signed(self._id, self._secret, now), now
        return {"Authorization": f"Bearer {self._token}"}

    def renews(self, sent_at: float) -> bool:
        """True until a token made for this reason is refused as well."""
        if self._token and sent_at >= self._made_at:
            if self._is_second_try:
                return False
            self._token, self._is_second_try = "", True
        return True

    def accepted(self, sent_at: float) -> None:
        """The token at hand is good."""
        if self._token and sent_at >= self._made_at:
            self._is_second_try = False


def keys_of(settings: ZhipuSettings, wall: Callable[[], float]) -> Keys:
    """As the config wants it."""
    return Tokens(settings.api_key, wall) if settings.auth == "jwt" else PlainKey(settings.api_key)


def signed(key_id: str, secret: str, now: float) -> str:
    """A JSON web token, HS256, its times in milliseconds as the vendor wants them."""
    head = {"alg": "HS256", "sign_type": "SIGN"}
    payload = {"api_key": key_id, "exp": round((now + LIFE) * 1000), "timestamp": round(now * 1000)}
    text = f"{_part(head)}.{_part(payload)}"
    return f"{text}.{_base64(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"


def _part(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


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

    def __call__(self, answer: HttpAnswer) -> TargetError | None:
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

    def _learn_skew(self, answer: HttpAnswer) -> None:
        """A gateway that refuses a key gives no `timestamp`, but a `Date`."""
        envelope = envelope_of(answer.body)
        if envelope is not None and envelope.at is not None:
            self._skew.learn(envelope.at, answer.sent_at)
        elif answer.status in (401, 403):
            self._skew.learn(answer.date, answer.sent_at)

    def _reword(self, error: TargetError) -> None:
        reason = errors.unsigned(error.reason)
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
    async with client.soon(ZhipuCall.CAPACITY, FORECAST):
        answer = await client.ask(ZhipuCall.CAPACITY, "GET", "/knowledge/capacity")
    return capacity_of(answer.body)


class ZhipuApi:
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

    async def base(self) -> KnowledgeData | None:
        """The base; None where the answer has no data."""
        answer = await self._client.ask(ZhipuCall.BASE, "GET", f"/knowledge/{self._base}")
        return base_of(answer.body)

    async def capacity(self) -> Capacity | None:
        """Space of the account; None where it is not told. Errors as `ask_capacity`."""
        return await ask_capacity(self._client)

    async def upload(self, document: Outgoing, slicing: Slicing) -> ZhipuReceipt:
        """Send one document, once. Raises `Unsure` where it may have been stored."""
        answer = await self._client.send(
            ZhipuCall.UPLOAD,
            f"/document/upload_document/{self._base}",
            fields={**upload_fields(slicing, document.upload_id), **form_of(self._callback)},
            file=FilePart("files", document.name, document.body, media_type(document.name)),
        )
        return receipt_of(answer.body)

    async def upload_url(self, address: str, slicing: Slicing) -> ZhipuReceipt:
        """Have the vendor fetch one page, once; errors as `upload`."""
        body = link_body(self._knowledge_id, address, slicing, self._callback)
        answer = await self._client.post(ZhipuCall.UPLOAD_URL, "/document/upload_url", json=body)
        return receipt_of(answer.body, "url")

    async def page(self, number: int, size: int, word: str = "") -> ZhipuPage:
        """One page of the list, from 1; `word`: of documents whose names have to do with it."""
        params = {"knowledge_id": self._knowledge_id, "page": str(number), "size": str(size)}
        params |= {"word": word} if word else {}
        answer = await self._client.ask(ZhipuCall.LIST, "GET", "/document", params=params)
        return page_of(answer.body)

    async def detail(self, remote_id: str) -> ZhipuDocument | None:
        """One document; None where the answer has no data."""
        answer = await self._client.ask(ZhipuCall.DETAIL, "GET", f"/document/{path_part(remote_id)}")
        return row_of(answer.body, remote_id)

    async def delete(self, remote_id: str) -> None:
        """Remove one document."""
        await self._client.ask(ZhipuCall.DELETE, "DELETE", f"/document/{path_part(remote_id)}")

    async def reembed(self, remote_id: str) -> None:
        """Vectorize again, which costs: sent once, and `Unsure` where the answer was lost."""
        await self._client.post(
            ZhipuCall.REEMBED, f"/document/embedding/{path_part(remote_id)}", json=self._callback
        )

    async def reslice(self, remote_id: str, slicing: Slicing) -> None:
        """Cut anew."""
        path = f"/document/{path_part(remote_id)}"
        await self._client.ask(
            ZhipuCall.RESLICE, "PUT", path, json={**reslice_body(slicing), **self._callback}
        )

    async def retrieve(self, question: RetrieveRequest) -> tuple[FoundSlice, ...]:
        """Search the base."""
        body = question.body(self._knowledge_id)
        answer = await self._client.ask(ZhipuCall.RETRIEVE, "POST", "/knowledge/retrieve", json=body)
        return found_of(answer.body)

    async def images(self, remote_id: str) -> Images:
        """The pictures in one document, under signed addresses that are good for some hours."""
        answer = await self._client.ask(
            ZhipuCall.IMAGES, "POST", f"/document/slice/image_list/{path_part(remote_id)}"
        )
        return images_of(answer.body)

    def read(self, url: str, most: int) -> AsyncGenerator[bytes, None]:
        """The bytes behind a signed URL, without our key."""
        return self._client.read(url, most=most)

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


def is_gone(error: TargetError) -> bool:
    """The vendor has no such thing; true only while the base itself answers (`Knowledge.look`)."""
    return isinstance(error, NotFound) or (isinstance(error, NotOffered) and error.code == "404")


class Knowledge:
    """One knowledge base as the config names it."""

    def __init__(self, settings: ZhipuSettings, api: ZhipuApi) -> None:
        self._settings, self._api = settings, api

    async def look(self) -> Base:
        """Raises `Halted("knowledge-base-missing")` where there is none, and `TargetError`."""
        try:
            found = await self._api.base()
        except Rejected as error:
            raise self._missing(error.reason, error.code) from error
        if found is None:
            raise self._missing("the vendor answers without any data", "")
        return Base(self._settings.knowledge_id, found.documents, self._settings.address)

    def _missing(self, words: str, code: str) -> Halted:
        return Halted(
            "knowledge-base-missing",
            f"knowledge base {self._settings.knowledge_id} is not at {self._settings.address} for this "
            f"api_key: {words}; correct knowledge_id (or base_url) in the config",
            cure=self._settings.command("retry"),
            code=code,
        )
