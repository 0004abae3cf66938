"""Clients of embedding and rerank services, and what the errors of these services mean.

Vectors come in batches of what fits, several at a time; a bad item is found and the others are kept. Errors
are blamed on an item, the account or the moment. Sources: OpenAI's "Error codes"; the open platform's page of
codes (zhipu); text-embeddings-inference's `ErrorType`; vLLM's and Jina's answers. A code counts as number or
text, flat or inside `error`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from kbsync.core.backoff import pause
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import Endpoint
from kbsync.targets.http.errors import HttpAnswer, by_status
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig
from kbsync.targets.services.dialects import (
    EMBEDDINGS,
    LONGEST_QUESTION,
    RERANK,
    EmbeddingItem,
    NonsenseError,
    embedding_body,
    order_of,
    rerank_body,
    vectors_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = list[NDArray[np.float32] | Rejected]

T = TypeVar("T")

NO_MONEY = frozenset({"insufficient_quota", "1113", "1304", "1308", "1309", "1310", "1311", "402"})
BUSY = frozenset({"rate_limit_exceeded", "overloaded", "1302", "1303", "1305", "1312", "1120", "1234", "500"})
BUSY_CODES = BUSY | {"429"}
"""Codes of `Unavailable` under which nothing is wrong but the moment."""

BAD_KEY = frozenset({"invalid_api_key", "1000", "1001", "1002", "1003", "1004", "1110", "1111", "1112"})
NOT_SERVED = frozenset({"model_not_found", "1211", "1212", "1221", "1222"})
"""No such model, not for this call, or no such call, under whatever HTTP status."""

OF_THE_CONFIG = frozenset({"model", "dimensions", "encoding_format"})
"""What OpenAI's `param` may name that is the same in every request."""

FORBIDDEN = "forbidden"
"""Stands for HTTP 403 in the service's own words, which may concern one text or the key."""

BAD_ITEM = frozenset({"1210", "1213", "1214", "1261", "1301", "400", "413", "422"})
_TOO_LONG = (
    "too long",
    "token",
    "length",
    "maximum",
    "exceed",
    "too large",
    "truncat",
    "过长",
    "超过",
    "超出",
)


class ServiceJudge:
    """Judges answers of one service; `kind` names it in messages ("embedding", "rerank"), as its config key.

    `path` is what it was asked at, behind `base_url`.
    """

    def __init__(self, kind: str, path: str) -> None:
        self._kind, self._path = kind, path

    def __call__(self, answer: HttpAnswer) -> TargetError | None:
        """None is success."""
        codes, message = _said(answer.body)
        if 200 <= answer.status < 300 and not codes:
            return by_status(answer)
        said = f"{answer.op}: {answer.host}: {message or answer.excerpt or answer.status}"
        return self._by_code(answer, codes, said) or self._by_status(answer, said)

    def _by_code(self, answer: HttpAnswer, codes: frozenset[str], said: str) -> TargetError | None:
        if codes & NO_MONEY:
            cure = f"top up the account behind {self._kind}.api_key"
            return Halted(
                "quota", f"the {self._kind} service says that money or quota is gone: {said}", cure=cure
            )
        if codes & BAD_KEY:
            return self._refused(said)
        inner = answer.body.get("error") if isinstance(answer.body, Mapping) else None
        # OpenAI's form names the setting that is to blame
        blamed = str(inner.get("param")) if isinstance(inner, Mapping) else ""
        if codes & NOT_SERVED or blamed in OF_THE_CONFIG:
            return self._not_there(answer, said)
        if codes & BUSY:
            return Unavailable(said, code=min(codes & BUSY), retry_after=answer.retry_after)
        if codes & BAD_ITEM and answer.status not in (401, 402, 403, 404, 405, 429):
            return Rejected(said, code=min(codes & BAD_ITEM))
        return None

    def _by_status(self, answer: HttpAnswer, said: str) -> TargetError:
        match answer.status:
            case 401 if not answer.is_page:
                return self._refused(said)
            case 403 if not answer.is_page:
                return Rejected(said, code=FORBIDDEN, may_pass=True)
            case 402:
                cure = f"top up the account behind {self._kind}.api_key"
                return Halted("quota", f"the {self._kind} service wants money: {said}", cure=cure)
            case 404 | 405:
                return self._not_there(answer, said)
            case 413 | 422:
                return Rejected(said, code=str(answer.status))
            case 424 | 429:
                return Unavailable(said, code=str(answer.status), retry_after=answer.retry_after)
        return by_status(answer) or Unsure(said)

    def _refused(self, said: str) -> Halted:
        cure = f"put a valid {self._kind}.api_key (or api_key_file) into the config"
        return Halted("credentials", f"the {self._kind} service refuses the key: {said}", cure=cure)

    def _not_there(self, answer: HttpAnswer, said: str) -> Halted:
        """A wrong address, or a model that is not served."""
        cure = f"correct {self._kind}.base_url (it is what comes before {self._path}) or {self._kind}.model"
        return Halted(f"{self._kind}-missing", f"{said} (HTTP {answer.status} at {self._path})", cure=cure)


def refuses_everything(error: Rejected) -> TargetError:
    """What `error` means where it was said of a text that nothing can be wrong with."""
    if error.code == FORBIDDEN:
        cure = "put an embedding.api_key that may use the model into the config"
        return Halted("credentials", f"the embedding service refuses the key: {error.reason}", cure=cure)
    if error.may_pass:  # a page of a gateway or firewall, which is not the service
        return Unavailable(error.reason, code=error.code)
    return Halted(
        "embedding-missing",
        f"the embedding service refuses every text: {error.reason}",
        cure="correct embedding.model, embedding.dimensions or embedding.type in the config",
        code=error.code,
    )


def is_too_long(error: Rejected) -> bool:
    """The words or the code blame the length of a text."""
    said = error.reason.lower()
    return error.code in ("413", "422", "1261") or any(word in said for word in _TOO_LONG)


def _said(body: object) -> tuple[frozenset[str], str]:
    """Lower-case codes of an error, and its message; both empty where the body speaks of none."""
    if not isinstance(body, Mapping):
        return frozenset(), ""
    inner = body.get("error", body)
    if isinstance(inner, str):
        return frozenset({str(body.get("error_type", "error")).lower()}), inner
    # vLLM's and TEI's errors stand without an envelope, so does Jina's `detail`
    is_list = any(isinstance(body.get(key), list) for key in ("data", "results", "embeddings"))
    is_flat = not is_list and bool(body.get("message") or body.get("detail"))
    if not isinstance(inner, Mapping) or not (body.get("error") or is_flat):
        return frozenset(), ""
    codes = {
        str(inner[key]).lower() for key in ("code", "type") if inner.get(key) not in (None, "", 0, 200, "200")
    }
    said = inner.get("message") or inner.get("detail") or ""
    return frozenset(codes or {"error"}), said if isinstance(said, str) else str(said)[:300]


PATIENCE = 5
"""How often a batch is sent again to a service that says it is busy; each time after a longer pause."""

AGAIN = 4
FIRST_PAUSE = 0.5
"""How often a text without a vector is asked about once more, alone, and the seconds before the first time;
they double. In all some seven, which its batch waits for."""

HARMLESS = EmbeddingItem("dimensions")
"""A service that refuses this one refuses everything."""

SOON = 5.0
"""Seconds in which a search has its vector, and then its order, or goes on without: somebody waits for it."""

SHORTEST = 200
"""Characters below which a text is not shortened any more to make it fit."""


class EmbeddingService:
    """Turns items into vectors of length 1.

    `transport` stands in for the network. Raises `UsageError` where the address cannot be used.
    """

    def __init__(self, config: EmbeddingConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._config = config
        self._dialect = EMBEDDINGS[config.type]
        self._dimensions = config.dimensions
        self._most_items = config.batch or self._dialect.most_items
        self._client = _service_client(config, "embedding", self._dialect.path, transport)

    @property
    def most_items(self) -> int:
        """More are not sent in one request: as configured or documented, fewer where that was refused."""
        return self._most_items

    async def embed(self, items: Sequence[EmbeddingItem], *, is_query: bool = False) -> Vectors:
        """A vector for each item, in order; `Rejected` in the place of one that the service will not take.

        A query has its vector soon or not at all; a busy service is asked once. Raises `Unavailable` or
        `Halted` where the service itself is to blame.
        """
        async with self._client.soon("embed", SOON) if is_query else nullcontext():
            made = await _together([self._batch(batch, is_query) for batch in self._batches(items)])
        return [vector for vectors in made for vector in vectors]

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    def _batches(self, items: Sequence[EmbeddingItem]) -> Iterator[Sequence[EmbeddingItem]]:
        """In order, each as large as one request may be."""
        start, weight = 0, 0
        for place, item in enumerate(items):
            is_full = place - start >= self._most_items
            if place > start and (is_full or weight + item.weight > self._dialect.most_weight):
                yield items[start:place]
                start, weight = place, 0
            weight += item.weight
        if start < len(items):
            yield items[start:]

    async def _batch(
        self, items: Sequence[EmbeddingItem], is_query: bool, *, is_part: bool = False
    ) -> Vectors:
        """One request; what is refused goes in halves, until the item to blame is alone.

        `is_part`: of a batch that was refused. Raises `Halted` where it is no item that the service refuses.
        """
        try:
            return await self._asked(items, is_query)
        except Rejected as error:
            refusal = error
        if not is_part:
            # Before any document is blamed: a service that refuses even this refuses everything.
            try:
                await self._asked([HARMLESS], is_query)
            except Rejected as everything:
                raise refuses_everything(everything) from None
        if len(items) > 1:
            half = -(-len(items) // 2)
            made = await self._batch(items[:half], is_query, is_part=True)
            made += await self._batch(items[half:], is_query, is_part=True)
            if not refusal.may_pass and not any(isinstance(each, Rejected) for each in made):
                self._most_items = min(self._most_items, half)  # it was their number
            return made
        if is_too_long(refusal) and len(items[0].text) > SHORTEST:
            return await self._batch([items[0].shortened()], is_query, is_part=True)
        return [refusal]

    async def _asked(self, items: Sequence[EmbeddingItem], is_query: bool) -> Vectors:
        """One request, and some more for texts that it brought no vector for: another answer may be right."""
        made = await self._made(items, is_query)
        lacking = [place for place, vector in enumerate(made) if vector is None]
        if lacking and len(lacking) == len(items):
            [harmless] = await self._made([HARMLESS], is_query)
            if harmless is None:  # no document is to blame, and nothing is asked text by text
                raise Unavailable("embed: the service gives no vector for any text", code="nonsense")
        again = await _together([self._alone(items[place], is_query) for place in lacking])
        found = dict(zip(lacking, again, strict=True))
        return [found[place] if vector is None else vector for place, vector in enumerate(made)]

    async def _alone(self, item: EmbeddingItem, is_query: bool) -> NDArray[np.float32] | Rejected:
        """Once more, a bounded number of times with growing pauses (promise 9); a search waits for none."""
        for tries in range(1, 2 if is_query else AGAIN + 1):
            if not is_query:
                await asyncio.sleep(pause(tries, random.random, first=FIRST_PAUSE))
            try:
                [vector] = await self._made([item], is_query)
            except Rejected as error:
                return error
            if vector is not None:
                return vector
        return Rejected(_NO_DIRECTION, code="no-vector")

    async def _made(self, items: Sequence[EmbeddingItem], is_query: bool) -> list[NDArray[np.float32] | None]:
        """One request; None for a text that it brings no vector for."""
        patience = 0 if is_query else PATIENCE
        answer = await self._answer(embedding_body(self._config, items, is_query=is_query), patience)
        try:
            vectors = vectors_of(answer.body, len(items))
        except NonsenseError as error:
            raise Unavailable(f"embed: {answer.host} answered with {error}", code="nonsense") from None
        length = next((len(vector) for vector in vectors if vector is not None), None)
        if length is not None:
            # Vectors of two lengths cannot be compared, so another one than before is a wrong config.
            if self._dimensions is not None and length != self._dimensions:
                raise Halted(
                    "embedding-dimensions",
                    f"the embedding service gives vectors of {length} numbers, not of {self._dimensions}",
                    cure="correct embedding.dimensions or embedding.model in the config",
                )
            self._dimensions = length
        return vectors

    async def _answer(self, body: dict[str, Any], patience: int) -> HttpAnswer:
        """A busy service is asked again, after the pause that it asked for; the client keeps it."""
        for _ in range(patience):
            try:
                return await self._client.ask("embed", "POST", self._dialect.path, json=body)
            except Unavailable as error:
                if error.code not in BUSY_CODES:
                    raise
        return await self._client.ask("embed", "POST", self._dialect.path, json=body)


_NO_DIRECTION = (
    "the embedding service gave no vector for a text of it, or one of zeros or of something that is no "
    f"number, also when it was asked {AGAIN} times more for that text alone"
)


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order; the first error of one ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:  # callers know single errors, not groups
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class RerankService:
    """Orders texts by how well they answer a question."""

    def __init__(self, config: RerankConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._config = config
        self._dialect = RERANK[config.type]
        self._client = _service_client(config, "rerank", self._dialect.path, transport)

    @property
    def most_texts(self) -> int:
        """Scores are comparable within one answer only: more texts than this are not asked about."""
        return self._config.batch or self._dialect.most_texts

    async def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """(index, score) of every text, best first. Beyond `most_texts` they keep their order at the end.

        It comes soon or not at all, since somebody waits. Raises `Unavailable`, `Rejected` or `Halted`.
        """
        # Some services refuse an empty text, and with it all the others.
        asked = [text[: self._dialect.longest] or " " for text in texts[: self.most_texts]]
        if not asked:
            return []
        body = rerank_body(self._config, question[:LONGEST_QUESTION], asked)
        async with self._client.soon("rerank", SOON):
            answer = await self._client.ask("rerank", "POST", self._dialect.path, json=body)
        try:
            order = order_of(answer.body, len(asked))
        except NonsenseError as error:
            raise Unavailable(f"rerank: {answer.host} answered with {error}", code="nonsense") from None
        return order + [(index, order[-1][1]) for index in range(len(asked), len(texts))]

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


def _service_client(
    config: EmbeddingConfig | RerankConfig, kind: str, path: str, transport: httpx.AsyncBaseTransport | None
) -> Client:
    """The way to a service; `kind` names its config block."""
    headers = {"Authorization": f"Bearer {config.api_key.reveal()}"} if config.api_key else {}
    return Client(
        Endpoint(config.base_url or "", concurrency=config.concurrency),
        headers=lambda: headers,
        judge=ServiceJudge(kind, path),
        transport=transport,
    )
