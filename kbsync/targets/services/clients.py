"""Clients of embedding and rerank services, and the rules that classify these services' errors.

The clients send batches that fit into a request, several at a time. If a service refuses a batch, they find
the item to blame and keep the other vectors. Each error blames an item, the account or a temporary problem.
Sources: OpenAI's "Error codes"; the open platform's page of codes (zhipu); text-embeddings-inference's
`ErrorType`; vLLM's and Jina's responses. A code may be a number or text, flat or inside `error`.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from kbsync.core.backoff import pause
from kbsync.errors import EMBED, Halted, Rejected, TargetError, Unavailable
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import Endpoint
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.limits import MAX_PAUSE
from kbsync.targets.http.reading import object_of
from kbsync.targets.http.rules import (
    BUSY,
    MONEY,
    RETRY_TIME,
    SUCCESS,
    ErrorCase,
    ErrorRule,
    case_of,
    classify,
    slow_down,
)
from kbsync.targets.services import bigmodel
from kbsync.targets.services.config import EmbeddingConfig, RerankConfig
from kbsync.targets.services.dialects import (
    DIALECTS,
    MAX_QUERY_LENGTH,
    RERANK_PATH,
    EmbeddingItem,
    NonsenseError,
    asks_for_base64,
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

_NO_MONEY = bigmodel.NO_MONEY | {
    *("insufficient_quota", "insufficient_user_quota", "exceeded_current_quota_error", "arrearage"),
    *("billing_not_active", "billing_hard_limit_reached", "budget_exceeded"),
    *("allocationquota.freetieronly", "setlimitexceeded"),
}
_SLOW = bigmodel.RATE_LIMIT | {"rate_limit_exceeded", "overloaded"}
_PASSING = frozenset({"1120", "1234"})
"""Error codes for temporary problems."""

_BAD_KEY = (
    bigmodel.BAD_KEY | bigmodel.BAD_ACCOUNT | {"invalid_api_key", "authentication_error", "api_key_invalid"}
)
_NOT_SERVED = frozenset({"model_not_found", "1211", "1212", "1221", "1222"})
"""Codes for a missing model or call, or for a model that doesn't support the call. The HTTP status varies."""

_OF_THE_CONFIG = frozenset({"param=model", "param=dimensions"})
"""Values of OpenAI's `param` that name a setting (the same in every request) rather than an input."""

_NO_CODE = "error"
"""Stands for an error without a code."""

FORBIDDEN = "forbidden"
"""The code for an HTTP 403 with the service's own message: either a text or the key may be to blame."""

SERVER_FAILED = "server-failed"
"""The code for a failure inside the service: either a text or the whole service may be to blame."""

_NO_SERVICE = "no-service"
"""The code for a path that doesn't exist, without the JSON that a service would send."""

_NO_SUCH_CALL = re.compile(
    r"\bmodel is not an? (?:embedding|classifier|re-?ranker) model|\bunexpected endpoint or method",
    re.IGNORECASE,
)
"""Matches messages about a call that the model (TEI) or the server (LM Studio) can't serve."""

_DASHSCOPE = re.compile("aliyun|alibabacloud|dashscope", re.IGNORECASE)
_BAD_ITEM = bigmodel.BAD_REQUEST | {"400", "413", "422"}
_TOO_LONG = re.compile("too (?:long|large)|token|length|maximum|exceed|truncat|过长|超过|超出", re.IGNORECASE)


def _has_words(case: ErrorCase) -> bool:
    return not case.is_page


def rules_for(kind: str, path: str) -> tuple[ErrorRule, ...]:
    """Return the error rules for one service."""
    no_money = partial(ErrorRule, Halted, halt="quota", fix=f"top up the account behind {kind}.api_key")
    bad_key = partial(
        ErrorRule,
        Halted,
        halt="credentials",
        fix=f"set a valid {kind}.api_key (or api_key_file) in the config",
        says=f"the {kind} service rejected the key",
    )
    missing = partial(
        ErrorRule,
        Halted,
        halt=f"{kind}-missing",
        fix=f"correct {kind}.base_url (the URL before {path}) or {kind}.model",
    )
    gone = f"no balance or quota left ({kind} service)"
    return (
        # DashScope reports too many tokens in a minute in OpenAI's words for an empty account.
        slow_down(
            status={429},
            code={"insufficient_quota"},
            when=lambda case: _DASHSCOPE.search(f"{case.host} {case.matched_text}") is not None,
        ),
        # OpenAI, new-api, zhipu: under 429 too.
        no_money(code=_NO_MONEY, says=gone),
        # Gateways report an empty account only in the message, under 403, 429 or 500.
        no_money(pattern=MONEY, unless=RETRY_TIME, when=_reports_failure, says=gone),
        # OpenAI, zhipu, Gemini.
        bad_key(code=_BAD_KEY),
        # No such model or call, regardless of the HTTP status.
        missing(code=_NOT_SERVED),
        # The model is of a different kind, or the server doesn't have the path.
        missing(pattern=_NO_SUCH_CALL, when=_reports_failure),
        # OpenAI's `param` names the setting to blame.
        missing(code=_OF_THE_CONFIG),
        # Rate limits.
        slow_down(code=_SLOW),
        # A temporary failure.
        ErrorRule(Unavailable, code=_PASSING),
        # Any message about a busy service. "Tokens per minute exceeded" must not count as a text that is too
        # long.
        slow_down(status=range(400, 500), pattern=BUSY, when=_has_words),
        # One of the texts is to blame.
        ErrorRule(
            Rejected, code=_BAD_ITEM, when=lambda case: case.status not in (401, 402, 403, 404, 405, 429)
        ),
        # RFC 9110, 15.5.2.
        bad_key(status={401}, when=_has_words),
        # One text or the key may be to blame; a harmless text shows which.
        ErrorRule(Rejected, status={403}, when=_has_words, as_code=FORBIDDEN, may_pass=True),
        # A limit of requests, even if it is called a quota: such a service doesn't store documents.
        slow_down(status={429}),
        # RFC 9110, 15.5.3.
        no_money(status={402}, says=f"the {kind} service requires payment"),
        # A wrong URL, or a gateway while the service restarts; `EmbeddingService` knows which.
        missing(status={404, 405}, when=lambda case: not case.is_json, as_code=_NO_SERVICE),
        # A wrong URL, or a model that the server doesn't serve.
        missing(status={404, 405}),
        # TEI: the batch is too big.
        ErrorRule(Rejected, status={413}, as_code="413"),
        # TEI: a text is too long.
        ErrorRule(Rejected, status={422}, as_code="422"),
        # The model failed, perhaps for one text and each time (Ollama: a NaN; llama.cpp: a text over the
        # batch size; TEI: 424); a harmless text shows whether the text is to blame.
        ErrorRule(
            Rejected, status={424, 500}, reported=True, unless=BUSY, as_code=SERVER_FAILED, may_pass=True
        ),
        # An error in the body counts even under HTTP 200 (promise 10).
        ErrorRule(Rejected, status=SUCCESS, reported=True),
    )


def _reports_failure(case: ErrorCase) -> bool:
    return case.is_error or not case.is_success


class ServiceClassifier:
    """Classifies the responses of one service.

    `kind` ("embedding" or "rerank", like its config key) names the service in messages. `path` is the path of
    the request below `base_url`.
    """

    def __init__(self, kind: str, path: str) -> None:
        self._rules, self._path = rules_for(kind, path), path

    def __call__(self, response: HttpResponse) -> TargetError | None:
        """Return the error in a response, or None on success."""
        body = response.body
        if isinstance(body, list) and body:  # Gemini returns an error as the only item of a list
            body = body[0]
        codes, message = _error_in(object_of(body))
        param = object_of(body).object("error").text("param")
        if response.is_success:  # a gateway may return 200, and the status as the error's code (OpenRouter)
            statuses = [int(code) for code in codes if re.fullmatch("[45][0-9]{2}", code)]
            response = replace(response, status=statuses[0] if statuses else response.status)
        case = case_of(
            response,
            codes=codes | ({f"param={param}"} if param else set()),
            code=min(codes - {_NO_CODE}, default=""),
            message=message,
            is_error=bool(codes),
            is_of_document=True,
        )
        return classify(case, self._rules, self._describe)

    def _describe(self, case: ErrorCase, rule: ErrorRule) -> str:
        message = f"{case.call}: {case.host}: {case.message or case.excerpt or case.status}"
        if rule.halt.endswith("-missing"):
            return f"{message} (HTTP {case.status} at {self._path})"
        return f"{rule.says}: {message}" if rule.says else message


def refuses_everything(error: Rejected) -> TargetError:
    """Return the error for a service that refused even a harmless text.

    The key or the model is to blame, not a text.
    """
    if error.code == FORBIDDEN:
        fix = "in the config, set an embedding.api_key that has access to the model"
        return Halted("credentials", f"the embedding service rejected the key: {error.reason}", fix=fix)
    if error.code in ("403", SERVER_FAILED):  # 403: the web page of a gateway or firewall
        return Unavailable(error.reason, code=error.code)
    return Halted(
        "embedding-missing",
        f"the embedding service refuses every text: {error.reason}",
        fix="correct embedding.model, embedding.dimensions or embedding.type in the config",
        code=error.code,
    )


def is_too_long(error: Rejected) -> bool:
    """Return whether the message or the code says that a text is too long."""
    return error.code in ("413", "422", "1261") or _TOO_LONG.search(error.reason) is not None


def _error_in(body: Mapping[str, Any]) -> tuple[frozenset[str], str]:
    """Return an error's codes in lowercase, and its message.

    Both are empty if the body doesn't report an error.
    """
    inner = body.get("error", body)
    if isinstance(inner, str):
        return frozenset({str(body.get("error_type", _NO_CODE)).lower()}), inner
    # vLLM's and TEI's errors have no envelope, nor has Jina's `detail`
    is_list = any(isinstance(body.get(key), list) for key in ("data", "results", "embeddings"))
    is_flat = not is_list and bool(body.get("message") or body.get("detail"))
    if not isinstance(inner, Mapping) or not (body.get("error") or is_flat):
        return frozenset(), ""
    codes = {
        str(inner[key]).lower() for key in ("code", "type") if inner.get(key) not in (None, "", 0, 200, "200")
    }
    # Google: google.rpc.ErrorInfo has the cause, such as API_KEY_INVALID under code 400
    details = inner.get("details")
    infos = [item for item in details if isinstance(item, Mapping)] if isinstance(details, list) else []
    codes |= {str(info["reason"]).lower() for info in infos if info.get("reason")}
    message = inner.get("message") or inner.get("detail") or ""
    return frozenset(codes or {_NO_CODE}), message if isinstance(message, str) else str(message)[:300]


PATIENCE = 5
"""How many times to retry a batch at a busy service, with increasing pauses."""

AGAIN = 4
FIRST_PAUSE = 0.5
"""How many times to request a missing vector again, with its text alone, and the seconds before the first
retry, doubled before each further retry. The batch waits about seven seconds in all."""

PROBE_ITEM = EmbeddingItem("dimensions")
"""A text that no service should refuse. If a service does, the key or the model is to blame."""

SEARCH_TIMEOUT = 5.0
"""Seconds that a search waits for its vector, and then for the ranking, before it continues without that
result."""

MIN_LENGTH = 200
"""Minimum length to which a text is shortened to make it fit, in characters."""


class EmbeddingService:
    """Turns items into vectors of length 1.

    `is_first`: see `Endpoint`. Raises `UsageError` if the URL, the proxy or the certificates can't be used.
    """

    def __init__(self, config: EmbeddingConfig, *, is_first: bool = False) -> None:
        self._config = config
        self._dialect = DIALECTS[config.type]
        self._dimensions = config.dimensions
        self.most_items = config.batch or self._dialect.most_items
        """Maximum number of items in one request: the configured or documented number, or a lower one after a
        refusal."""
        # base64 takes a third of the bytes; some gateways accept only numbers.
        self._takes_base64: bool | None = None
        self._has_worked = False
        self._trying_numbers = asyncio.Lock()
        self._client = _service_client(config, "embedding", self._dialect.path, is_first)

    async def embed(self, items: Sequence[EmbeddingItem], *, is_query: bool = False) -> Vectors:
        """Return a vector for each item, in order, or `Rejected` for an item that the service refuses.

        For a query, a busy service is called only once, because a user is waiting. Raises `Unavailable` or
        `Halted` if the service itself is to blame.
        """
        async with self._client.time_limit(EMBED, SEARCH_TIMEOUT) if is_query else nullcontext():
            batches = await _gather_in_order([self._batch(batch, is_query) for batch in self._batches(items)])
        return [vector for vectors in batches for vector in vectors]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _batches(self, items: Sequence[EmbeddingItem]) -> Iterator[Sequence[EmbeddingItem]]:
        """Yield batches in order, each as large as a request may be."""
        start, weight = 0, 0
        for index, item in enumerate(items):
            is_full = index - start >= self.most_items
            if index > start and (is_full or weight + item.weight > self._dialect.most_weight):
                yield items[start:index]
                start, weight = index, 0
            weight += item.weight
        if start < len(items):
            yield items[start:]

    async def _batch(
        self, items: Sequence[EmbeddingItem], is_query: bool, *, is_part: bool = False
    ) -> Vectors:
        """Send one request. If the service refuses it, send halves until the bad item is isolated.

        `is_part`: whether this is part of a refused batch. Raises `Halted` if the service refuses everything.
        """
        try:
            return await self._request_complete(items, is_query)
        except Rejected as error:
            refusal = error
        if not is_part:
            # Send a harmless text before blaming a document: the service may refuse everything.
            was_compact = self._takes_base64 is not False
            try:
                await self._request_complete([PROBE_ITEM], is_query)
            except Rejected as everything:
                if was_compact and await self._takes_numbers_only(is_query):
                    return await self._batch(items, is_query)
                raise refuses_everything(everything) from None
            if refusal.code == SERVER_FAILED:  # the failure may be over
                try:
                    return await self._request_complete(items, is_query)
                except Rejected as error:
                    refusal = error
        if len(items) > 1:
            half = -(-len(items) // 2)
            vectors = await self._batch(items[:half], is_query, is_part=True)
            vectors += await self._batch(items[half:], is_query, is_part=True)
            is_number = refusal.code not in ("403", FORBIDDEN)
            if is_number and not any(isinstance(vector, Rejected) for vector in vectors):
                self.most_items = min(self.most_items, half)
            return vectors
        if is_too_long(refusal) and len(items[0].text) > MIN_LENGTH:
            return await self._batch([items[0].shortened()], is_query, is_part=True)
        return [refusal]

    async def _takes_numbers_only(self, is_query: bool) -> bool:
        """Return whether the service supports vectors only as numbers, not as base64.

        This is assumed if the service refused a harmless text with base64 before it returned any vector.
        """
        async with self._trying_numbers:  # another request may have failed in the meantime
            if self._takes_base64 is None and asks_for_base64(self._config):
                self._takes_base64 = False
                try:
                    await self._request_complete([PROBE_ITEM], is_query)
                except TargetError:
                    self._takes_base64 = None
            return self._takes_base64 is False

    async def _request_complete(self, items: Sequence[EmbeddingItem], is_query: bool) -> Vectors:
        """Send one request, and a few more for texts that got no vector, because a later response may include
        one.
        """
        vectors = await self._request_vectors(items, is_query)
        lacking = [index for index, vector in enumerate(vectors) if vector is None]
        if lacking and len(lacking) == len(items):
            [vector] = await self._request_vectors([PROBE_ITEM], is_query)
            if vector is None:  # no document is to blame, so don't retry text by text
                raise Unavailable(f"{EMBED}: the service returns no vector for any text", code="nonsense")
        retried = await _gather_in_order([self._retry_alone(items[index], is_query) for index in lacking])
        by_index = dict(zip(lacking, retried, strict=True))
        return [by_index[index] if vector is None else vector for index, vector in enumerate(vectors)]

    async def _retry_alone(self, item: EmbeddingItem, is_query: bool) -> NDArray[np.float32] | Rejected:
        """Retry a single text a limited number of times, with increasing pauses (promise 9).

        Searches don't wait.
        """
        for tries in range(1, 2 if is_query else AGAIN + 1):
            if not is_query:
                await asyncio.sleep(pause(tries, random.random, first=FIRST_PAUSE))
            try:
                [vector] = await self._request_vectors([item], is_query)
            except Rejected as error:
                return error
            if vector is not None:
                return vector
        return Rejected(_NO_DIRECTION, code="no-vector")

    async def _request_vectors(
        self, items: Sequence[EmbeddingItem], is_query: bool
    ) -> list[NDArray[np.float32] | None]:
        """Send one request. For a text without a vector in the response, return None."""
        patience = 0 if is_query else PATIENCE
        is_compact = self._takes_base64 is not False
        body = embedding_body(self._config, items, is_query=is_query, base64=is_compact)
        try:
            response = await self._answer(body, patience)
        except Halted as error:
            if error.code == _NO_SERVICE and self._has_worked:
                raise Unavailable(error.reason, code=error.code) from None
            raise
        self._has_worked = True
        if self._takes_base64 is None:
            self._takes_base64 = True
        try:
            vectors = vectors_of(response.body, len(items))
        except NonsenseError as error:
            raise Unavailable(f"{EMBED}: {response.host} answered with {error}", code="nonsense") from None
        length = next((len(vector) for vector in vectors if vector is not None), None)
        if length is not None:
            # Vectors of different lengths can't be compared, so a new length means a wrong config.
            if self._dimensions is not None and length != self._dimensions:
                raise Halted(
                    "embedding-dimensions",
                    f"the embedding service returns {length} dimensions per vector, not {self._dimensions}",
                    fix="correct embedding.dimensions or embedding.model in the config",
                )
            self._dimensions = length
        return vectors

    async def _answer(self, body: dict[str, Any], patience: int) -> HttpResponse:
        """Send one request. If the service is busy, call it again after the pause that it requested, unless
        it requests long ones.
        """
        # The time spent in our own queue doesn't count: the last batches of a book wait there for minutes.
        requested_pauses = 0.0
        for _ in range(patience):
            try:
                return await self._client.request(EMBED, "POST", self._dialect.path, json=body)
            except Unavailable as error:
                requested_pauses += error.retry_after or 0.0
                is_long = requested_pauses > MAX_PAUSE
                if is_long or not (error.is_rate_limit or error.code in _PASSING):
                    raise
        return await self._client.request(EMBED, "POST", self._dialect.path, json=body)


_NO_DIRECTION = (
    "the embedding service returned no valid vector (none, only zeros, or not numbers) for one of the "
    f"texts, even after {AGAIN} more requests for that text alone"
)


async def _gather_in_order(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run the calls concurrently. Return their results in order. The first error cancels the other calls."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except BaseExceptionGroup as errors:  # callers expect a single error, not a group
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class RerankService:
    """Ranks texts by how well they answer a query."""

    def __init__(self, config: RerankConfig, *, is_first: bool = False) -> None:
        self._config = config
        self._dialect = DIALECTS[config.type]
        self.most_texts = config.batch or self._dialect.most_texts
        """Maximum number of texts in one request; scores are comparable only within one response."""
        self._client = _service_client(config, "rerank", RERANK_PATH, is_first)

    async def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Return (index, score) for every text, best first. Raises `Unavailable`, `Rejected` or `Halted`.

        Texts beyond `most_texts` keep their order at the end. This gives up after a few seconds, because a
        user is waiting.
        """
        # Some services refuse the whole request because of one empty text.
        passages = [text[: self._dialect.max_length] or " " for text in texts[: self.most_texts]]
        if not passages:
            return []
        body = rerank_body(self._config, question[:MAX_QUERY_LENGTH], passages)
        async with self._client.time_limit("rerank", SEARCH_TIMEOUT):
            response = await self._client.request("rerank", "POST", RERANK_PATH, json=body)
        try:
            order = order_of(response.body, len(passages))
        except NonsenseError as error:
            raise Unavailable(f"rerank: {response.host} answered with {error}", code="nonsense") from None
        return order + [(index, order[-1][1]) for index in range(len(passages), len(texts))]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _service_client(config: EmbeddingConfig | RerankConfig, kind: str, path: str, is_first: bool) -> Client:
    """Return a client of the service. `kind` names its config block."""
    headers = {"Authorization": f"Bearer {config.api_key.reveal()}"} if config.api_key else {}
    endpoint = Endpoint(
        config.base_url or "",
        concurrency=config.concurrency,
        requests_per_minute=config.requests_per_minute,
        is_first=is_first,
        ca_file=config.ca_file,
        proxy=config.proxy.reveal() if config.proxy else None,
    )
    return Client(endpoint, headers=lambda: headers, classify_response=ServiceClassifier(kind, path))
