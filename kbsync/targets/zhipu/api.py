"""The vendor's calls about one knowledge base: the key they show, their paths, how answers are judged."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kbsync.contract.searching import Passage
from kbsync.contract.target import Base, Capacity, Outgoing, Surroundings
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.client import Client, ClockSkew
from kbsync.targets.http.errors import HttpAnswer
from kbsync.targets.http.reading import object_of
from kbsync.targets.http.target import key_of
from kbsync.targets.zhipu.config import (
    Slicing,
    ZhipuTargetConfig,
    form_of,
    link_body,
    media_type,
    reslice_body,
    upload_fields,
)
from kbsync.targets.zhipu.errors import EXPIRED, NotFound, is_gone, judge, unsigned
from kbsync.targets.zhipu.shapes import (
    Envelope,
    Images,
    RetrieveRequest,
    ZhipuDocument,
    ZhipuPage,
    capacity_of,
    data_of,
    document_of,
    envelope_of,
    found_of,
    images_in,
    page_of,
    path_part,
)

ROOT = "/llm-application/open"
"""What the paths below come after, behind `base_url`."""

LIFE, KEPT = 210.0, 180.0
"""Seconds a token is good for, and is used for, as in the vendor's own client."""

ALARMING, ALARMING_FOR_TOKENS = 300.0, 60.0
"""Seconds by which the clocks may differ before a refused key mentions it; tokens carry times."""

FORECAST = 5.0
"""Seconds to wait for the account's space, all tries among them; uploads go on without it then."""

_SHORTEST_SECRET = 6

T = TypeVar("T")


class KeyHeader:
    """The header with the key: the API key itself, or a token of short life that its secret signs.

    A token is replaced before it runs out, and once when it is called expired all the same; when the new
    one is refused too, no third is tried. `wall`: our clock.
    """

    def __init__(self, config: ZhipuTargetConfig, wall: Callable[[], float]) -> None:
        self._key, self._signs = key_of(config), config.auth == "jwt"
        self._wall = wall
        self._token, self._made_at = "", 0.0
        self._is_second_try = False

    def headers(self) -> Mapping[str, str]:
        """With a token that is good for another half a minute at least."""
        if not self._signs:
            return {"Authorization": f"Bearer {self._key}"}
        now = self._wall()
        if not self._token or not 0 <= now - self._made_at < KEPT:
            key_id, _, secret = self._key.partition(".")
            self._token, self._made_at = signed(key_id, secret, now), now
        return {"Authorization": f"Bearer {self._token}"}

    def renews(self, sent_at: float) -> bool:
        """A request of `sent_at` was refused because its token has run out: True where a new one may help."""
        if not self._signs:
            return False
        # Requests that were sent with an older token say nothing about this one.
        if self._token and sent_at >= self._made_at:
            if self._is_second_try:
                return False
            self._token, self._is_second_try = "", True
        return True

    def accepted(self, sent_at: float) -> None:
        """A request of `sent_at` was let in."""
        if self._token and sent_at >= self._made_at:
            self._is_second_try = False


def signed(key_id: str, secret: str, now: float) -> str:
    """A JSON web token, HS256, its times in milliseconds as the vendor wants them."""
    head = {"alg": "HS256", "sign_type": "SIGN"}
    payload = {"api_key": key_id, "exp": round((now + LIFE) * 1000), "timestamp": round(now * 1000)}
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in (head, payload))
    text = ".".join(map(_base64, parts))
    return f"{text}.{_base64(hmac.digest(secret.encode(), text.encode(), hashlib.sha256))}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def skew_sentence(apart: float | None, alarming: float) -> str:
    """What a person should know when keys are refused; "" where the clocks agree."""
    if apart is None or abs(apart) <= alarming:
        return ""
    minutes = round(abs(apart) / 60)
    span = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
    return f"the clock of this machine is {span} {'behind' if apart > 0 else 'ahead of'} the vendor's"


class MirrorJudge:
    """Judges the answers: learns the vendor's clock from them, and words errors for the mirror's people.

    Nothing that it returns holds the key or a signature, whatever the vendor echoes.
    """

    def __init__(
        self,
        config: ZhipuTargetConfig,
        surroundings: Surroundings,
        keys: KeyHeader,
        skew: ClockSkew,
        wall: Callable[[], float],
    ) -> None:
        self._config, self._keys = config, keys
        self._read: Callable[[HttpAnswer, Envelope | None], TargetError | None] = judge
        self._skew, self._wall = skew, wall
        gateway = config.callback_authorization.reveal() if config.callback_authorization else ""
        # Of the header's value its words are secret, but for the scheme in front of them.
        scheme, _, rest = gateway.strip().partition(" ")
        words = re.split(r"""[\s,;:="']+""", rest or scheme)
        called, key = surroundings.callback_url.rpartition("/")[2], config.api_key.reveal()
        parts = {key, *key.split("."), called, gateway, *words}
        # The longest first: replacing a part before the whole would leave the rest of it.
        self._secrets = sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len)[::-1]

    def reading(self, read: Callable[[HttpAnswer, Envelope | None], TargetError | None]) -> MirrorJudge:
        """The same, where `read` tells success from failure."""
        other = copy(self)
        other._read = read
        return other

    def __call__(self, answer: HttpAnswer) -> TargetError | None:
        """None is success."""
        envelope = envelope_of(answer.body)
        if envelope is not None:
            self._skew.learn(envelope.at, answer.sent_at, self._wall())
        error = self._read(answer, envelope)
        if error is None:
            self._keys.accepted(answer.sent_at)
            return None
        if error.code == EXPIRED and self._keys.renews(answer.sent_at):
            error = Unavailable(
                "the token of this request had run out; the next one has a new one", code=EXPIRED
            )
        reason = unsigned(error.reason)
        for secret in self._secrets:
            reason = reason.replace(secret, "***")
        if isinstance(error, Halted):
            alarming = ALARMING_FOR_TOKENS if self._config.auth == "jwt" else ALARMING
            sentence = skew_sentence(self._skew.apart, alarming)
            if error.halt == "credentials" and sentence:
                reason = f"{reason}; {sentence}"
        error.reason = reason
        error.args = (reason,)
        return error


async def ask_capacity(client: Client) -> Capacity | None:
    """Space of the account; None where it is unknown. Raises `TargetError`, `Unavailable` after `FORECAST`.

    It is a forecast only, and uploads, plans and people wait for it.
    """
    async with client.soon("capacity", FORECAST):
        answer = await client.ask("capacity", "GET", "/knowledge/capacity")
    return capacity_of(answer.body)


@dataclass(slots=True)
class EachAnswered(Generic[T]):
    """What came back: every id is in exactly one of them. `halted`: the reason why some were not asked."""

    given: dict[str, T] = field(default_factory=dict)
    refused: dict[str, TargetError] = field(default_factory=dict)
    halted: Halted | None = None


class ZhipuApi:
    """One knowledge base behind one key. Every call raises `TargetError`.

    A call that is refused with "not found" proves nothing while the base itself does not answer to the same
    key (promise 1): the calls that may be refused so ask for the base then, and raise what that says.
    """

    def __init__(self, config: ZhipuTargetConfig, surroundings: Surroundings, client: Client) -> None:
        self._config, self._client = config, client
        self._base = path_part(config.knowledge_id)
        self.missing = client.missing
        self._callback: dict[str, Any] = {}
        if surroundings.callback_url:
            self._callback["callback_url"] = surroundings.callback_url
            if authorization := config.callback_authorization:
                self._callback["callback_header"] = {"Authorization": authorization.reveal()}

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")` where there is none."""
        try:
            answer = await self._client.ask("base", "GET", f"/knowledge/{self._base}")
        except Rejected as error:
            raise self._no_base(error.reason, error.code) from error
        content = object_of(data_of(answer.body))
        if not content:
            raise self._no_base("the vendor answers without any data")
        # A count that is no integer proves no list short (ADR 14), so it counts as unknown.
        count = content.get("document_size")
        documents = count if type(count) is int and count >= 0 else None
        return Base(self._config.knowledge_id, documents, self._config.base_url)

    def _no_base(self, words: str, code: str = "") -> Halted:
        return Halted(
            "knowledge-base-missing",
            f"knowledge base {self._config.knowledge_id} is not at {self._config.base_url} for this api_key: "
            f"{words}; correct knowledge_id (or base_url) in the config",
            code=code,
        )

    async def upload(self, document: Outgoing, slicing: Slicing) -> HttpAnswer:
        """Send one document, once. Raises `Unsure` where it may have been stored."""
        sending = self._client.send(
            "upload",
            f"/document/upload_document/{self._base}",
            fields={**upload_fields(slicing, document.upload_id), **form_of(self._callback)},
            file=FilePart("files", document.name, document.body, media_type(document.name)),
        )
        return await self._while_base_answers(sending)

    async def upload_url(self, address: str, slicing: Slicing) -> HttpAnswer:
        """Have the vendor fetch one page, once; errors as `upload`."""
        body = link_body(self._config.knowledge_id, address, slicing, self._callback)
        sending = self._client.post("upload-url", "/document/upload_url", json=body)
        return await self._while_base_answers(sending)

    async def page(self, number: int, size: int, word: str = "") -> ZhipuPage:
        """One page of the list, from 1; `word`: of documents whose names have to do with it."""
        params = {"knowledge_id": self._config.knowledge_id, "page": str(number), "size": str(size)}
        params |= {"word": word} if word else {}
        asking = self._client.ask("list", "GET", "/document", params=params)
        return page_of((await self._while_base_answers(asking, Rejected)).body)

    async def document(self, remote_id: str) -> ZhipuDocument | None:
        """One document; None where the answer has no data. "Not found" proves nothing by itself."""
        answer = await self._client.ask("detail", "GET", f"/document/{path_part(remote_id)}")
        return document_of(answer.body, remote_id)

    async def documents(self, ids: Iterable[str]) -> EachAnswered[ZhipuDocument | None]:
        """Each document; None for one that is gone, the base still being there."""
        # The base is asked once for all that are gone, and after them: asked before, it could go meanwhile.
        answers = await self.each(ids, self.document)
        gone = [one for one, error in answers.refused.items() if is_gone(error)]
        gone += [one for one, document in answers.given.items() if document is None]
        if not gone:
            return answers
        for one in gone:
            answers.given.pop(one, None)
            answers.refused.pop(one, None)
        try:
            await self.base()
        except TargetError as error:
            answers.refused |= dict.fromkeys(gone, error)
            if isinstance(error, Halted):
                answers.halted = answers.halted or error
        else:
            answers.given |= dict.fromkeys(gone)
        return answers

    async def delete(self, remote_id: str) -> None:
        """Remove one document. "Not found" proves nothing by itself."""
        await self._client.ask("delete", "DELETE", f"/document/{path_part(remote_id)}")

    async def reembed(self, remote_id: str) -> None:
        """Vectorize again, which costs: sent once, and `Unsure` where the answer was lost."""
        path = f"/document/embedding/{path_part(remote_id)}"
        await self._while_base_answers(self._client.post("reembed", path, json=self._callback))

    async def reslice(self, remote_id: str, slicing: Slicing) -> None:
        """Cut again under other settings."""
        body = {**reslice_body(slicing), **self._callback}
        path = f"/document/{path_part(remote_id)}"
        await self._while_base_answers(self._client.ask("reslice", "PUT", path, json=body))

    async def retrieve(self, request: RetrieveRequest) -> tuple[tuple[str, Passage], ...]:
        """Search the base: passages, each with the id of its document."""
        body = request.body(self._config.knowledge_id)
        asking = self._client.ask("retrieve", "POST", "/knowledge/retrieve", json=body)
        return found_of((await self._while_base_answers(asking)).body)

    async def images(self, remote_id: str) -> Images:
        """The pictures in one document, under signed addresses that are good for some hours."""
        path = f"/document/slice/image_list/{path_part(remote_id)}"
        answer = await self._client.ask("images", "POST", path)
        return images_in(object_of(data_of(answer.body)).get("images"))

    async def each(self, ids: Iterable[str], ask: Callable[[str], Awaitable[T]]) -> EachAnswered[T]:
        """Ask about every id, as many at a time as the config allows. After a `Halted` no more are asked."""
        answers: EachAnswered[T] = EachAnswered()
        waiting = iter(ids)

        async def ask_some() -> None:
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

        # As many as the gate lets in: more would only wait there, and go on after a `Halted`.
        async with asyncio.TaskGroup() as group:
            for _ in range(self._config.concurrency):
                group.create_task(ask_some())
        return answers

    async def capacity(self) -> Capacity | None:
        """As `ask_capacity`; not asked again for an hour where it is refused, in whatever words."""
        with self.missing.remembered("capacity"):
            try:
                return await ask_capacity(self._client)
            except Rejected as error:
                raise NotOffered(error.reason, code=error.code) from error

    async def _while_base_answers(
        self,
        asking: Awaitable[HttpAnswer],
        refusals: type[Rejected] | tuple[type[Rejected], ...] = (NotFound, NotOffered),
    ) -> HttpAnswer:
        """The answer. One of `refusals` gets out only while the base answers; else what that look raises."""
        try:
            return await asking
        except refusals:
            await self.base()
            raise
